/* SPDX-License-Identifier: Apache-2.0 */
/* openai.h - OpenAI's two text APIs, as dialects. */
#pragma once
#include "api/dialect.h"

extern const bt_dialect bt_openai_chat;       // /v1/chat/completions
extern const bt_dialect bt_openai_completion; // /v1/completions

/* {"error":{message,type,param,code}}; of a refusal for quota the balance as well. */
void bt_openai_error(const bt_api_error *err, bool event, bt_buf *out);
