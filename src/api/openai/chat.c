/* SPDX-License-Identifier: Apache-2.0 */
/* chat.c - the dialect of /v1/chat/completions: deltas, a message, logprobs of tokens. */
#include "api/openai/openai_parts.h"

/* ---- logprobs */

static void write_token(bt_jw *w, const char *bytes, size_t n, float logprob)
{
    bt_jw_key(w, "token");
    bt_jw_strn(w, bytes, n);
    bt_jw_key(w, "logprob");
    bt__logprob_write(w, logprob);
    bt_jw_key(w, "bytes");
    bt_jw_open(w, '[');
    for (size_t i = 0; i < n; i++) bt_jw_int(w, (unsigned char)bytes[i]);
    bt_jw_close(w, ']');
}

static void tokens(bt_answer *a, bt_choice *c, const bt_part *part, const bt_stream_event *ev)
{
    (void)part;
    for (int32_t i = 0; i < ev->n_tokens; i++) {
        const bt_token_out *t = &ev->token[i];
        bt_jw w = {&c->tokens, c->tokens.len > 0};
        bt_jw_open(&w, '{');
        write_token(&w, t->bytes ? t->bytes : "", (size_t)t->n_bytes, t->logprob);
        bt_jw_key(&w, "top_logprobs");
        bt_jw_open(&w, '[');
        for (int32_t k = 0; k < t->n_top; k++) {
            size_t n;
            const char *s = bt__logprob_bytes(a, t->top_token[k], &n);
            bt_jw_open(&w, '{');
            write_token(&w, s, n, t->top_logprob[k]);
            bt_jw_close(&w, '}');
        }
        bt_jw_close(&w, ']');
        bt_jw_close(&w, '}');
    }
}

static void write_logprobs(const bt_answer *a, bt_choice *c, bt_jw *w)
{
    if (!bt__openai_logprobs_open(a, w)) return;
    bt__openai_items(w, "content", &c->tokens);
    bt_jw_knull(w, "refusal");
    bt_jw_close(w, '}');
}

/* ---- chunks and the body */

static void chunk(bt_answer *a, int32_t choice, const char *text, size_t n, bt_buf *out)
{
    bt_choice *c = &a->choice[choice];
    bt_jw w = bt__openai_chunk_open(a, choice, out);
    bt_jw_key(&w, "delta");
    bt_jw_open(&w, '{');
    if (!c->begun) bt_jw_kstr(&w, "role", "assistant");
    bt_jw_key(&w, "content");
    bt_jw_strn(&w, text, n);
    bt_jw_close(&w, '}');
    write_logprobs(a, c, &w);
    bt__openai_chunk_close(a, &w, NULL, false);
}

static void finish(bt_answer *a, int32_t choice, bool books, bt_buf *out)
{
    bt_jw w = bt__openai_chunk_open(a, choice, out);
    bt_jw_key(&w, "delta");
    bt_jw_open(&w, '{');
    bt_jw_close(&w, '}');
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
        bt_jw_key(&w, "message");
        bt_jw_open(&w, '{');
        bt_jw_kstr(&w, "role", "assistant");
        bt__openai_body_text(&w, "content", c);
        bt_jw_knull(&w, "refusal");
        bt_jw_close(&w, '}');
        write_logprobs(a, c, &w);
        bt_jw_kstr(&w, "finish_reason", bt__openai_finish_reason(c->finish));
        bt_jw_close(&w, '}');
    }
    bt__openai_body_close(a, &w);
}

const bt_dialect bt_openai_chat = {
    .name = "openai-chat",
    .stream_type = "text/event-stream; charset=utf-8",
    .prompt_field = "messages",
    .early_chunk = true,
    .parse = bt__openai_chat_parse,
    .tokens = tokens,
    .chunk = chunk,
    .finish = finish,
    .done = bt__openai_done,
    .body = body,
    .error = bt_openai_error,
    .note = bt__openai_note,
};
