/* SPDX-License-Identifier: Apache-2.0 */
/* answer.h - an answer in progress, as its renderers see it. Private to src/api. */
#pragma once
#include "api/dialect.h"

/* One choice: what of it waits for the end (not streaming), or for the next chunk. */
struct bt_choice {
    bt_buf text;
    bt_buf tokens;               // chat: written "content" items; completions: the "tokens" items
    bt_buf values, top, offsets; // completions: items of the other three arrays
    /* For text_offset: */
    int64_t chars;               // that began before the next token
    int32_t lacks;               // bytes that the last of them still lacks
    int64_t given;               // characters of the text given out
    size_t passed, counted;      // bytes of the echoed prompt: behind its tokens so far; in chars
    bool begun;                  // the role, or the echoed prompt, went out
    bool prompt_begun, answer_begun; // there were tokens of it
    bool ended;
    bt_finish finish;
};

/* One part: its name, and its books once it is done. */
struct bt_part {
    uint64_t id;
    bool done, named; // named: the echoed text may spell control tokens
    char *prompt;     // owned; echoed text or NULL
    size_t n_prompt;
    bt_finish finish;
    int32_t prompt_tokens, cached_tokens, completion_tokens;
    int64_t queue_us, prefill_us, decode_us, lease_us, device_us, charged_us;
};

struct bt_answer {
    const bt_dialect *dialect;
    bool stream, include_usage, echo, score_only, logprobs;
    int32_t n_seq, n_parts, n_choices, n_ended;
    bt_unit *unit;             // borrowed: front outlives its answers
    char *model, *fingerprint; // owned
    int64_t created_s;
    char account[64], tier[32];
    bt_buf head;       // the dialect's: what each chunk starts with, written once
    bt_choice *choice; // owned [n_choices]; part p, sequence s is p * n_seq + s
    bt_part *part;     // owned [n_parts]
    bt_answer_state state;
    bt_status status;
    int64_t retry_after_ms;
    bt_ledger_balance balance;
    bool balance_known;
    int32_t held_finish; // streaming: choice whose last chunk waits for the books, -1 = none
};

/* Shared pieces of bodies and chunks. */
void bt__answer_usage(const bt_answer *a, bt_jw *w);   // key and value
void bt__answer_timings(const bt_answer *a, bt_jw *w); // key and value
void bt__answer_baton(const bt_answer *a, bt_jw *w);   // key and value

/* logprobs.c */
void bt__logprob_write(bt_jw *w, float v);
/* A token's bytes; none ("") of an id out of range. */
const char *bt__logprob_bytes(const bt_answer *a, int32_t id, size_t *n);
/* The place of the next token of the echoed prompt, or of the answer, in the choice's text, in
 * characters; and behind the answer's the text that came with them. A control token gets its name
 * for bytes where the prompt spelled it. */
int64_t bt__place_in_prompt(const bt_answer *a, bt_choice *c, const bt_part *part, bt_token_out *t);
int64_t bt__place_in_answer(bt_choice *c, const bt_part *part, const bt_token_out *t);
void bt__place_text(bt_choice *c, const char *text, size_t n);
