/* SPDX-License-Identifier: Apache-2.0 */
/* answer.h - an answer in progress, as its renderers see it. Private to src/api. */
#pragma once
#include "api/api.h"

/* One choice: what of it waits for the end (not streaming), or for the next chunk. */
typedef struct bt_choice {
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
} bt_choice;

/* One part: its name, and its books once it is done. */
typedef struct bt_part {
    uint64_t id;
    bool done, named; // named: the echoed text may spell control tokens
    char *prompt;     // owned; echoed text or NULL
    size_t n_prompt;
    bt_finish finish;
    int32_t prompt_tokens, cached_tokens, completion_tokens;
    int64_t queue_us, prefill_us, decode_us, lease_us, device_us, charged_us;
} bt_part;

struct bt_answer {
    bt_api_dialect dialect;
    bool stream, include_usage, echo, score_only, logprobs;
    int32_t n_seq, n_parts, n_choices, n_ended;
    bt_front *front;           // borrowed: the server outlives its answers
    char *model, *fingerprint; // owned
    int64_t created_s;
    char account[64], tier[32];
    bt_buf head;       // what each chunk starts with, written once
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
const char *bt__answer_finish_reason(bt_finish f);

/* Adds a token of the echoed prompt `part` to the choice's logprobs. The first has none itself. */
void bt__logprobs_prompt(bt_answer *a, bt_choice *c, const bt_part *part, const bt_token_out *t);
/* Adds the tokens of an answer, and then the text that came with them. */
void bt__logprobs_answer(bt_answer *a, bt_choice *c, const bt_part *part,
                         const bt_stream_event *ev);
/* Writes key "logprobs" and what was gathered (null if none were asked for), and forgets it. */
void bt__logprobs_write(bt_answer *a, bt_choice *c, bt_jw *w);
