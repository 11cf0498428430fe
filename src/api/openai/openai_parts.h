/* SPDX-License-Identifier: Apache-2.0 */
/* openai_parts.h - what chats and completions have in common. Private to src/api/openai. */
#pragma once
#include "api/answer.h"
#include "api/openai/openai.h"
#include "api/parse.h"

/* openai_parse.c */
bt_status bt__openai_chat_parse(bt_parser *p);
bt_status bt__openai_completion_parse(bt_parser *p);

/* openai.c */
/* A chunk, open in its choice behind the index; closed behind the reason of its end (NULL: it goes
 * on) and, with books, usage, timings and cost. */
bt_jw bt__openai_chunk_open(bt_answer *a, int32_t choice, bt_buf *out);
void bt__openai_chunk_close(const bt_answer *a, bt_jw *w, const char *reason, bool books);
/* A body, open at the items of "choices"; closed behind the books. */
bt_jw bt__openai_body_open(bt_answer *a, bt_buf *out);
void bt__openai_body_close(const bt_answer *a, bt_jw *w);
void bt__openai_body_text(bt_jw *w, const char *key, bt_choice *c); // and forgets it
/* "logprobs": open at its members; false: null, as none were asked for. */
bool bt__openai_logprobs_open(const bt_answer *a, bt_jw *w);
/* Key and an array of what logprobs were gathered, and forgets them. */
void bt__openai_items(bt_jw *w, const char *key, bt_buf *items);
const char *bt__openai_finish_reason(bt_finish f);
void bt__openai_done(bt_answer *a, bt_buf *out);
void bt__openai_note(const char *text, bt_buf *out);
