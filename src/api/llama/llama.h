/* SPDX-License-Identifier: Apache-2.0 */
/* llama.h - llama-server's text routes. */
#pragma once
#include "api/api.h"

/* The whole answer to one body, appended to out (which may hold a part
 * of it after a failure of out itself). /tokenize takes 'messages' as well, in place of 'content'.
 * Bounded in items, tokens and bytes whatever the body says (BT_ETOOBIG names the field). Thread:
 * text (front/work.h). */
typedef enum bt_llama_route {
    BT_LLAMA_TOKENIZE,
    BT_LLAMA_DETOKENIZE,
    BT_LLAMA_APPLY_TEMPLATE,
} bt_llama_route;
bt_status bt_llama_answer(bt_llama_route route, bt_text *t, const char *body, size_t len,
                          bt_buf *out, bt_err *e);
