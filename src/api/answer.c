/* SPDX-License-Identifier: Apache-2.0 */
/* answer.c - stream events in, OpenAI's bytes out.
 *
 * A streamed answer writes a chunk for each event. The last chunk must carry the books, which come
 * with DONE, after the last sequence has ended: so the last sequence's finish chunk is held back
 * until then, unless the client asked for a usage chunk, which carries them instead. */
#include "api/answer.h"
#include "base/assert.h"
#include <stdio.h>
#include <string.h>

/* ---- life */

static char *prompt_copy(const bt_answer *a, const bt_front_request *req, size_t *n)
{
    if (req->text) {
        *n = req->n_text;
        return bt_strndup(req->text, req->n_text);
    }
    bt_buf text = BT_BUF_INIT;
    bt_buf_adds(&text, "");
    for (int32_t i = 0; i < req->n_tokens; i++) {
        size_t len = 0;
        const char *s = bt_front_token_bytes(a->front, req->tokens[i], &len);
        if (s) bt_buf_add(&text, s, len);
    }
    if (text.failed) bt_buf_release(&text);
    *n = text.len;
    return text.data;
}

static void write_head(bt_answer *a)
{
    bt_jw w = bt_jw_on(&a->head);
    char id[24], name[40];
    bool chat = a->dialect == BT_API_CHAT;
    bt_buf_clear(&a->head);
    snprintf(name, sizeof name, "%s-%s", chat ? "chatcmpl" : "cmpl", bt_api_id(a->part[0].id, id));
    bt_jw_open(&w, '{');
    bt_jw_kstr(&w, "id", name);
    bt_jw_kstr(&w, "object",
               !chat       ? "text_completion"
               : a->stream ? "chat.completion.chunk"
                           : "chat.completion");
    bt_jw_kint(&w, "created", a->created_s);
    bt_jw_kstr(&w, "model", a->model);
    bt_jw_kstr(&w, "system_fingerprint", a->fingerprint);
    bt_jw_key(&w, "choices");
    bt_jw_open(&w, '[');
}

bt_status bt_answer_open(const bt_api_request *req, const bt_api_context *ctx, bt_answer **out,
                         bt_err *err)
{
    bt_answer *a = bt_calloc(1, sizeof *a);
    if (!a) goto fail;
    a->dialect = req->dialect;
    a->stream = req->stream;
    a->include_usage = req->include_usage;
    a->echo = req->echo;
    a->score_only = req->score_only;
    a->logprobs = req->logprobs;
    a->n_seq = req->n_seq;
    a->n_parts = req->n_parts;
    a->n_choices = req->n_parts * req->n_seq;
    a->held_finish = -1;
    a->front = ctx->front;
    a->created_s = ctx->created_s;
    a->model = bt_strdup(ctx->model);
    a->fingerprint = bt_strdup(ctx->fingerprint);
    a->choice = bt_calloc((size_t)a->n_choices, sizeof *a->choice);
    a->part = bt_calloc((size_t)a->n_parts, sizeof *a->part);
    if (!a->model || !a->fingerprint || !a->choice || !a->part) goto fail;
    for (int32_t i = 0; req->echo && i < a->n_parts; i++) {
        a->part[i].prompt = prompt_copy(a, &req->part[i], &a->part[i].n_prompt);
        if (!a->part[i].prompt) goto fail;
        a->part[i].named = req->part[i].text && req->part[i].parse_special;
    }
    *out = a;
    return BT_OK;
fail:
    bt_answer_close(a);
    return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the answer");
}

void bt_answer_close(bt_answer *a)
{
    if (!a) return;
    for (int32_t i = 0; a->choice && i < a->n_choices; i++) {
        bt_choice *c = &a->choice[i];
        bt_buf_release(&c->text);
        bt_buf_release(&c->tokens);
        bt_buf_release(&c->values);
        bt_buf_release(&c->top);
        bt_buf_release(&c->offsets);
    }
    for (int32_t i = 0; a->part && i < a->n_parts; i++) bt_free(a->part[i].prompt);
    bt_buf_release(&a->head);
    bt_free(a->choice);
    bt_free(a->part);
    bt_free(a->model);
    bt_free(a->fingerprint);
    bt_free(a);
}

void bt_answer_part(bt_answer *a, int32_t part, uint64_t id, const char *account, const char *tier)
{
    a->part[part].id = id;
    if (part != 0) return;
    snprintf(a->account, sizeof a->account, "%s", account);
    snprintf(a->tier, sizeof a->tier, "%s", tier);
    write_head(a);
}

bt_answer_state bt_answer_state_get(const bt_answer *a)
{
    return a->state;
}
bt_status bt_answer_status(const bt_answer *a)
{
    return a->status;
}
int64_t bt_answer_retry_after_ms(const bt_answer *a)
{
    return a->retry_after_ms;
}
const bt_ledger_balance *bt_answer_balance(const bt_answer *a)
{
    return a->balance_known ? &a->balance : NULL;
}

/* ---- chunks */

static void put_head(const bt_answer *a, bt_buf *out)
{
    bt_buf_add(out, a->head.data, a->head.len);
    if (a->head.failed) out->failed = true;
}

static bt_jw chunk_open(const bt_answer *a, bt_buf *out)
{
    bt_buf_adds(out, "data: ");
    put_head(a, out);
    return bt_jw_on(out);
}

/* end: this is the chunk that carries the books. */
static void chunk_close(const bt_answer *a, bt_jw *w, bool end)
{
    bt_jw_close(w, ']');
    if (end) {
        bt__answer_usage(a, w);
        bt__answer_timings(a, w);
        bt__answer_baton(a, w);
    } else if (a->include_usage) {
        bt_jw_knull(w, "usage");
    }
    bt_jw_close(w, '}');
    bt_buf_adds(w->b, "\n\n");
}

static void chunk_text(bt_answer *a, int32_t index, const char *text, size_t n, bt_buf *out)
{
    bt_choice *c = &a->choice[index];
    bt_jw w = chunk_open(a, out);
    bt_jw_open(&w, '{');
    bt_jw_kint(&w, "index", index);
    if (a->dialect == BT_API_CHAT) {
        bt_jw_key(&w, "delta");
        bt_jw_open(&w, '{');
        if (!c->begun) bt_jw_kstr(&w, "role", "assistant");
        bt_jw_key(&w, "content");
        bt_jw_strn(&w, text, n);
        bt_jw_close(&w, '}');
    } else {
        bt_jw_key(&w, "text");
        bt_jw_strn(&w, text, n);
    }
    c->begun = true;
    bt__logprobs_write(a, c, &w);
    bt_jw_knull(&w, "finish_reason");
    bt_jw_close(&w, '}');
    chunk_close(a, &w, false);
}

static void chunk_finish(bt_answer *a, int32_t index, bool end, bt_buf *out)
{
    bt_choice *c = &a->choice[index];
    bt_jw w = chunk_open(a, out);
    bt_jw_open(&w, '{');
    bt_jw_kint(&w, "index", index);
    if (a->dialect == BT_API_CHAT) {
        bt_jw_key(&w, "delta");
        bt_jw_open(&w, '{');
        bt_jw_close(&w, '}');
    } else {
        bt_jw_kstr(&w, "text", "");
    }
    bt_jw_knull(&w, "logprobs");
    bt_jw_kstr(&w, "finish_reason", bt__answer_finish_reason(c->finish));
    bt_jw_close(&w, '}');
    chunk_close(a, &w, end);
}

/* ---- the body of an answer that does not stream */

static void body_choice(bt_answer *a, int32_t index, bt_jw *w)
{
    bt_choice *c = &a->choice[index];
    if (c->text.failed) w->b->failed = true;
    bt_jw_open(w, '{');
    bt_jw_kint(w, "index", index);
    if (a->dialect == BT_API_CHAT) {
        bt_jw_key(w, "message");
        bt_jw_open(w, '{');
        bt_jw_kstr(w, "role", "assistant");
        bt_jw_key(w, "content");
        bt_jw_strn(w, c->text.data ? c->text.data : "", c->text.len);
        bt_jw_knull(w, "refusal");
        bt_jw_close(w, '}');
    } else {
        bt_jw_key(w, "text");
        bt_jw_strn(w, c->text.data ? c->text.data : "", c->text.len);
    }
    bt__logprobs_write(a, c, w);
    bt_jw_kstr(w, "finish_reason", bt__answer_finish_reason(c->finish));
    bt_jw_close(w, '}');
    bt_buf_release(&c->text);
}

static void body_write(bt_answer *a, bt_buf *out)
{
    put_head(a, out);
    bt_jw w = bt_jw_on(out);
    for (int32_t i = 0; i < a->n_choices; i++) body_choice(a, i, &w);
    bt_jw_close(&w, ']');
    bt__answer_usage(a, &w);
    bt__answer_timings(a, &w);
    bt__answer_baton(a, &w);
    bt_jw_close(&w, '}');
}

/* ---- events */

static void put_text(bt_answer *a, int32_t index, const char *text, size_t n, bool tokens,
                     bt_buf *out)
{
    bt_choice *c = &a->choice[index];
    bt_part *p = &a->part[index / a->n_seq];
    bool prompt = !c->begun && p->prompt;
    if (n == 0 && !prompt && !tokens && (c->begun || a->dialect == BT_API_COMPLETION)) return;
    if (a->stream && !prompt) {
        chunk_text(a, index, text, n, out);
        return;
    }
    if (prompt) bt_buf_add(&c->text, p->prompt, p->n_prompt);
    bt_buf_add(&c->text, text, n);
    if (!a->stream) {
        c->begun = true;
        return;
    }
    if (c->text.failed) out->failed = true;
    chunk_text(a, index, c->text.data ? c->text.data : "", c->text.len, out);
    bt_buf_release(&c->text);
}

/* Tokens of the prompt belong to each sequence of the part. */
static void on_prompt(bt_answer *a, int32_t part, const bt_stream_event *ev, bt_buf *out)
{
    for (int32_t s = 0; s < a->n_seq; s++) {
        int32_t index = part * a->n_seq + s;
        bt_choice *c = &a->choice[index];
        for (int32_t i = 0; ev->token && a->logprobs && i < ev->n_tokens; i++)
            bt__logprobs_prompt(a, c, &a->part[part], &ev->token[i]);
        put_text(a, index, "", 0, a->logprobs && ev->n_tokens > 0, out);
    }
}

static void on_tokens(bt_answer *a, int32_t part, const bt_stream_event *ev, bt_buf *out)
{
    int32_t index = part * a->n_seq + ev->seq;
    bt_choice *c = &a->choice[index];
    if (ev->seq < 0 || ev->seq >= a->n_seq || c->ended) return;
    bool show = !a->score_only;
    bool tokens = show && a->logprobs && ev->token && ev->n_tokens > 0;
    if (tokens) bt__logprobs_answer(a, c, &a->part[part], ev);
    put_text(a, index, ev->text, show ? (size_t)ev->n_text : 0, tokens, out);
    if (ev->type != BT_SE_SEQ_END) return;
    c->ended = true;
    c->finish = a->score_only ? BT_FINISH_LENGTH : ev->finish;
    a->n_ended++;
    if (!a->stream) return;
    if (a->n_ended == a->n_choices && !a->include_usage)
        a->held_finish = index;
    else
        chunk_finish(a, index, false, out);
}

static void fail(bt_answer *a, bt_answer_state state, const bt_stream_event *ev, bt_buf *out)
{
    a->state = state;
    a->status = ev->status != BT_OK ? ev->status : BT_EINTERNAL;
    a->retry_after_ms = ev->retry_after_ms;
    const char *field = ev->field && *ev->field                                 ? ev->field
                        : (a->status != BT_ECONTEXT && a->status != BT_ETOOBIG) ? NULL
                        : a->dialect == BT_API_CHAT                             ? "messages"
                                                                                : "prompt";
    bool event = a->stream && state == BT_ANSWER_BROKEN; // the status line is long gone
    if (event) bt_buf_adds(out, "data: ");
    bt_api_error_write(out, a->status, ev->message, field, NULL, bt_answer_balance(a));
    if (event) bt_buf_adds(out, "\n\n");
}

static void complete(bt_answer *a, bt_buf *out)
{
    a->state = BT_ANSWER_COMPLETE;
    if (!a->stream) {
        body_write(a, out);
        return;
    }
    if (a->held_finish >= 0) chunk_finish(a, a->held_finish, true, out);
    if (a->include_usage) {
        bt_jw w = chunk_open(a, out);
        chunk_close(a, &w, true);
    }
    bt_buf_adds(out, "data: [DONE]\n\n");
}

/* Sequences that never ran (ended while queued) have no SEQ_END: their finish is the request's. */
static void end_silent(bt_answer *a, int32_t part, const bt_stream_event *done, bt_buf *out)
{
    bt_stream_event end = {.type = BT_SE_SEQ_END, .finish = done->finish, .text = ""};
    for (end.seq = 0; end.seq < a->n_seq; end.seq++)
        if (!a->choice[part * a->n_seq + end.seq].ended) on_tokens(a, part, &end, out);
}

static void on_done(bt_answer *a, int32_t part, const bt_stream_event *ev, bt_buf *out)
{
    bt_part *p = &a->part[part];
    if (p->done) return;
    if (ev->status != BT_OK) {
        fail(a, BT_ANSWER_BROKEN, ev, out);
        return;
    }
    end_silent(a, part, ev, out);
    p->done = true;
    p->finish = a->score_only && ev->finish < BT_FINISH_LENGTH ? BT_FINISH_LENGTH : ev->finish;
    p->prompt_tokens = ev->prompt_tokens;
    p->cached_tokens = ev->cached_tokens;
    p->completion_tokens = ev->completion_tokens;
    p->queue_us = ev->queue_us;
    p->prefill_us = ev->prefill_us;
    p->decode_us = ev->decode_us;
    p->lease_us = ev->lease_us;
    p->device_us = ev->device_us;
    p->charged_us = ev->charged_us;
    for (int32_t i = 0; i < a->n_parts; i++)
        if (!a->part[i].done) return;
    complete(a, out);
}

static void note_balance(bt_answer *a, const bt_stream_event *ev)
{
    if (ev->balance.limit_us < 0) { // not known: what was known before a charge no longer holds
        a->balance_known = a->balance_known && (ev->type != BT_SE_DONE || ev->device_us == 0);
        return;
    }
    a->balance = ev->balance;
    a->balance_known = true;
}

void bt_answer_event(bt_answer *a, int32_t part, const bt_stream_event *ev, bt_buf *out)
{
    BT_ASSERT(part >= 0 && part < a->n_parts);
    if (a->state > BT_ANSWER_RUNNING)
        return; // refused or broken: what other parts say is not heard
    switch (ev->type) {
    case BT_SE_REFUSED:
        note_balance(a, ev);
        fail(a, a->stream && a->state == BT_ANSWER_RUNNING ? BT_ANSWER_BROKEN : BT_ANSWER_REFUSED,
             ev, out);
        break;
    case BT_SE_ACCEPTED:
        note_balance(a, ev);
        a->state = BT_ANSWER_RUNNING;
        break;
    case BT_SE_QUEUE:
        if (a->stream)
            bt_buf_addf(out, ": queue position=%d eta_ms=%lld\n", ev->position,
                        (long long)ev->eta_ms);
        break;
    case BT_SE_PREFILL:
        if (a->stream) bt_buf_addf(out, ": prefill done=%d total=%d\n", ev->done, ev->total);
        break;
    case BT_SE_PROMPT: on_prompt(a, part, ev, out); break;
    case BT_SE_TOKENS:
    case BT_SE_SEQ_END: on_tokens(a, part, ev, out); break;
    case BT_SE_DONE:
        note_balance(a, ev);
        on_done(a, part, ev, out);
        break;
    }
}
