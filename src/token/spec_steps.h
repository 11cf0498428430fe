/* SPDX-License-Identifier: Apache-2.0 */
/* spec_steps.h - the parts of tokenizer.json around the model. Private to src/token. */
#pragma once
#include "token/spec_json.h"

/* Each reads one part (its JSON text, or s NULL if the file has none) into the description. */
bool bt__read_normalizer(bt__jload *l, bt_str part);
bool bt__read_pre_tokenizer(bt__jload *l, bt_str part);
bool bt__read_post_processor(bt__jload *l, bt_str part);
bool bt__read_decoder(bt__jload *l, bt_str part);
