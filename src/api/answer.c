/* SPDX-License-Identifier: Apache-2.0 */
/* answer.c - stream events in, a dialect's bytes out.
 *
 * A streamed answer has a chunk for each event. Its end must carry the books, which come with DONE,
 * after the last sequence has ended: so the last sequence's finish is held back until then, unless
 * the client asked for the books apart. */
#include "api/answer.h"
#include "base/assert.h"
#include <stdarg.h>
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
        const char *s = bt_unit_token_bytes(a->unit, req->tokens[i], &len);
        if (s) bt_buf_add(&text, s, len);
    }
    if (text.failed) bt_buf_release(&text);
    *n = text.len;
    return text.data;
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
    a->unit = ctx->unit;
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

/* ---- events */

static void chunk(bt_answer *a, int32_t index, const char *text, size_t n, bt_buf *out)
{
    a->dialect->chunk(a, index, text, n, out);
    a->choice[index].begun = true;
}

static void put_text(bt_answer *a, int32_t index, const char *text, size_t n, bool tokens,
                     bt_buf *out)
{
    bt_choice *c = &a->choice[index];
    bt_part *p = &a->part[index / a->n_seq];
    bool prompt = !c->begun && p->prompt;
    if (n == 0 && !prompt && !tokens && (c->begun || !a->dialect->early_chunk)) return;
    if (a->stream && !prompt) {
        chunk(a, index, text, n, out);
        return;
    }
    if (prompt) bt_buf_add(&c->text, p->prompt, p->n_prompt);
    bt_buf_add(&c->text, text, n);
    if (!a->stream) {
        c->begun = true;
        return;
    }
    if (c->text.failed) out->failed = true;
    chunk(a, index, c->text.data ? c->text.data : "", c->text.len, out);
    bt_buf_release(&c->text);
}

/* Tokens of the prompt belong to each sequence of the part. */
static void on_prompt(bt_answer *a, int32_t part, const bt_stream_event *ev, bt_buf *out)
{
    bool tokens = a->logprobs && ev->n_tokens > 0;
    for (int32_t s = 0; s < a->n_seq; s++) {
        int32_t index = part * a->n_seq + s;
        if (tokens && ev->token) a->dialect->tokens(a, &a->choice[index], &a->part[part], ev);
        put_text(a, index, "", 0, tokens, out);
    }
}

static void on_tokens(bt_answer *a, int32_t part, const bt_stream_event *ev, bt_buf *out)
{
    int32_t index = part * a->n_seq + ev->seq;
    bt_choice *c = &a->choice[index];
    if (ev->seq < 0 || ev->seq >= a->n_seq || c->ended) return;
    bool show = !a->score_only;
    bool tokens = show && a->logprobs && ev->token && ev->n_tokens > 0;
    if (tokens) a->dialect->tokens(a, c, &a->part[part], ev);
    put_text(a, index, ev->text, show ? (size_t)ev->n_text : 0, tokens, out);
    if (ev->type != BT_SE_SEQ_END) return;
    c->ended = true;
    c->finish = a->score_only ? BT_FINISH_LENGTH : ev->finish;
    a->n_ended++;
    if (!a->stream) return;
    if (a->n_ended == a->n_choices && !a->include_usage)
        a->held_finish = index;
    else
        a->dialect->finish(a, index, false, out);
}

static void fail(bt_answer *a, bt_answer_state state, const bt_stream_event *ev, bt_buf *out)
{
    a->state = state;
    a->status = ev->status != BT_OK ? ev->status : BT_EINTERNAL;
    a->retry_after_ms = ev->retry_after_ms;
    bool too_long = a->status == BT_ECONTEXT || a->status == BT_ETOOBIG;
    bt_api_error err = {.status = a->status,
                        .message = ev->message,
                        .param = ev->field && *ev->field ? ev->field
                                 : too_long              ? a->dialect->prompt_field
                                                         : NULL,
                        .balance = bt_answer_balance(a)};
    /* As an event where the status line is long gone. */
    bt_api_error_write(a->dialect, &err, a->stream && state == BT_ANSWER_BROKEN, out);
}

static void on_done(bt_answer *a, int32_t part, const bt_stream_event *ev, bt_buf *out)
{
    bt_part *p = &a->part[part];
    if (p->done) return;
    if (ev->status != BT_OK) {
        fail(a, BT_ANSWER_BROKEN, ev, out);
        return;
    }
    /* Sequences that ended while queued have no SEQ_END: their finish is the request's. */
    bt_stream_event end = {.type = BT_SE_SEQ_END, .finish = ev->finish, .text = ""};
    for (end.seq = 0; end.seq < a->n_seq; end.seq++)
        if (!a->choice[part * a->n_seq + end.seq].ended) on_tokens(a, part, &end, out);
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
    a->state = BT_ANSWER_COMPLETE;
    if (!a->stream) {
        a->dialect->body(a, out);
        return;
    }
    if (a->held_finish >= 0) a->dialect->finish(a, a->held_finish, true, out);
    a->dialect->done(a, out);
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

void bt_answer_note(const bt_answer *a, bt_buf *out, const char *fmt, ...)
{
    char text[96];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    a->dialect->note(text, out);
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
            bt_answer_note(a, out, "queue position=%d eta_ms=%lld", ev->position,
                           (long long)ev->eta_ms);
        break;
    case BT_SE_PREFILL:
        if (a->stream) bt_answer_note(a, out, "prefill done=%d total=%d", ev->done, ev->total);
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
