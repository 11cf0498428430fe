/* SPDX-License-Identifier: Apache-2.0 */
/* completion.c - the dialect of /v1/completions: text, and logprobs in four arrays. */
#include "api/openai/openai_parts.h"
#include "base/utf8.h"
#include <string.h>

/* ---- logprobs */

/* A token's text, or its bytes where these are not whole characters. */
static void token_name(bt_buf *name, const char *bytes, size_t n)
{
    bt_buf_clear(name);
    if (bt_utf8_valid_prefix(bytes, n) == n) {
        bt_buf_add(name, bytes, n);
        return;
    }
    bt_buf_adds(name, "bytes:");
    for (size_t i = 0; i < n; i++) bt_buf_addf(name, "\\x%02x", (unsigned char)bytes[i]);
}

/* {"text": logprob, ...} of the likeliest tokens and the chosen one. Tokens that read alike share a
 * key: the likelier one keeps it. */
static void write_top(bt_answer *a, bt_jw *w, const bt_token_out *t, bt_buf *name)
{
    bt_buf seen = BT_BUF_INIT; // the keys so far, each ended by a NUL
    bool chosen_in = false;
    bt_jw_open(w, '{');
    for (int32_t i = 0; i <= t->n_top; i++) {
        bool chosen = i == t->n_top;
        if (chosen && chosen_in) break;
        if (!chosen && t->top_token[i] == t->token) chosen_in = true;
        size_t n = (size_t)t->n_bytes;
        const char *s = chosen ? t->bytes : bt__logprob_bytes(a, t->top_token[i], &n);
        token_name(name, s ? s : "", n);
        bool known = false;
        for (size_t at = 0; at < seen.len && !known; at += strlen(seen.data + at) + 1)
            known = strcmp(seen.data + at, name->data ? name->data : "") == 0;
        if (known) continue;
        bt_buf_adds(&seen, name->data ? name->data : "");
        bt_buf_addc(&seen, 0);
        bt_jw_key(w, name->data ? name->data : "");
        bt__logprob_write(w, chosen ? t->logprob : t->top_logprob[i]);
    }
    bt_jw_close(w, '}');
    if (seen.failed || name->failed) w->b->failed = true;
    bt_buf_release(&seen);
}

static void tokens(bt_answer *a, bt_choice *c, const bt_part *part, const bt_stream_event *ev)
{
    bt_buf name = BT_BUF_INIT;
    for (int32_t i = 0; i < ev->n_tokens; i++) {
        bool prompt = ev->type == BT_SE_PROMPT;
        bool first = prompt && !c->prompt_begun; // it has no logprob itself
        bt_token_out t = ev->token[i];
        int64_t place =
            prompt ? bt__place_in_prompt(a, c, part, &t) : bt__place_in_answer(c, part, &t);
        bool comma = c->values.len > 0;
        bt_jw texts = {&c->tokens, comma}, values = {&c->values, comma};
        bt_jw top = {&c->top, comma}, offsets = {&c->offsets, comma};
        token_name(&name, t.bytes ? t.bytes : "", (size_t)t.n_bytes);
        bt_jw_strn(&texts, name.data ? name.data : "", name.len);
        bt_jw_int(&offsets, place);
        if (first) {
            bt_jw_null(&values);
            bt_jw_null(&top);
        } else {
            bt__logprob_write(&values, t.logprob);
            write_top(a, &top, &t, &name);
        }
    }
    if (name.failed) c->tokens.failed = true;
    bt_buf_release(&name);
    if (ev->type != BT_SE_PROMPT) bt__place_text(c, ev->text, (size_t)ev->n_text);
}

static void write_logprobs(const bt_answer *a, bt_choice *c, bt_jw *w)
{
    if (!bt__openai_logprobs_open(a, w)) return;
    bt__openai_items(w, "tokens", &c->tokens);
    bt__openai_items(w, "token_logprobs", &c->values);
    bt__openai_items(w, "top_logprobs", &c->top);
    bt__openai_items(w, "text_offset", &c->offsets);
    bt_jw_close(w, '}');
}

/* ---- chunks and the body */

static void chunk(bt_answer *a, int32_t choice, const char *text, size_t n, bt_buf *out)
{
    bt_jw w = bt__openai_chunk_open(a, choice, out);
    bt_jw_key(&w, "text");
    bt_jw_strn(&w, text, n);
    write_logprobs(a, &a->choice[choice], &w);
    bt__openai_chunk_close(a, &w, NULL, false);
}

static void finish(bt_answer *a, int32_t choice, bool books, bt_buf *out)
{
    bt_jw w = bt__openai_chunk_open(a, choice, out);
    bt_jw_kstr(&w, "text", "");
    bt_jw_knull(&w, "logprobs");
    bt__openai_chunk_close(a, &w, bt__openai_finish_reason(a->choice[choice].finish), books);
}

static void body(bt_answer *a, bt_buf *out)
{
    bt_jw w = bt__openai_body_open(a, out);
    for (int32_t i = 0; i < a->n_choices; i++) {
        bt_choice *c = &a->choice[i];
        bt_jw_open(&w, '{');
        bt_jw_kint(&w, "index", i);
        bt__openai_body_text(&w, "text", c);
        write_logprobs(a, c, &w);
        bt_jw_kstr(&w, "finish_reason", bt__openai_finish_reason(c->finish));
        bt_jw_close(&w, '}');
    }
    bt__openai_body_close(a, &w);
}

const bt_dialect bt_openai_completion = {
    .name = "openai-completion",
    .stream_type = "text/event-stream; charset=utf-8",
    .prompt_field = "prompt",
    .parse = bt__openai_completion_parse,
    .tokens = tokens,
    .chunk = chunk,
    .finish = finish,
    .done = bt__openai_done,
    .body = body,
    .error = bt_openai_error,
    .note = bt__openai_note,
};
