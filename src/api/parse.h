/* SPDX-License-Identifier: Apache-2.0 */
/* parse.h - reading request fields: typed, bounded, each fault naming its field. Private to
 * src/api. */
#pragma once
#include "api/dialect.h"

struct bt_parser {
    const bt_json *root; // in out's arena
    bt_api_request *out;
    bt_err *e;
    bt_api_defaults_fn defaults; // or NULL
    void *ud;
};

/* Parses the body into out's arena, which is the caller's to release, and demands an object. */
bt_status bt__parse_open(bt_parser *p, const char *body, size_t len, bt_api_request *out,
                         bt_err *e);
/* A fault of `field`. */
bt_status bt__parse_fault(bt_parser *p, bt_status code, const char *field, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
bt_status bt__parse_nomem(bt_parser *p);
void *bt__parse_alloc(bt_parser *p, size_t count,
                      size_t bytes); // from the arena; NULL when out of it

/* Absent and null leave *out alone. */
bt_status bt__parse_int(bt_parser *p, const char *field, int64_t min, int64_t max, int64_t *out);
bt_status bt__parse_num(bt_parser *p, const char *field, double min, double max, double *out);
bt_status bt__parse_bool(bt_parser *p, const char *field, bool *out);
bt_status bt__parse_str(bt_parser *p, const char *field, const char **out);
bool bt__parse_id(const bt_json *v, int32_t *id); // of a token; false: it is none
/* messages, tools, tool_choice, documents, chat_template_kwargs, reasoning_effort,
 * add_generation_prompt, continue_final_message. */
bt_status bt__parse_chat(bt_parser *p, bt_template_chat *chat);
/* stop: a string or an array of strings. */
bt_status bt__parse_stop(bt_parser *p, bt_gen_params *params);
/* logit_bias: object of token id -> [-100, 100]. */
bt_status bt__parse_bias(bt_parser *p, bt_gen_params *params);
/* The sampling fields all dialects of the OpenAI family share. */
bt_status bt__parse_sampling(bt_parser *p, bt_gen_params *params);
