/* SPDX-License-Identifier: Apache-2.0 */
#include "front/stream.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "front/internal.h"
#include <string.h>

enum { ARENA_BYTES_MAX = 64 << 20, SCRATCH_BYTES_MAX = 16 << 20 };

/* ---- life */

static bool copy_params(bt_stream *s, const bt_gen_params *p)
{
    s->params = *p;
    s->params.bias = NULL;
    s->params.stop = NULL;
    if (p->n_bias > 0) {
        bt_logit_bias *bias = bt_arena_alloc(&s->arena, (size_t)p->n_bias * sizeof *bias);
        if (!bias) return false;
        memcpy(bias, p->bias, (size_t)p->n_bias * sizeof *bias);
        s->params.bias = bias;
    }
    if (p->n_stop > 0) {
        const char **stop = bt_arena_alloc(&s->arena, (size_t)p->n_stop * sizeof *stop);
        if (!stop) return false;
        for (int32_t i = 0; i < p->n_stop; i++) {
            stop[i] = bt_arena_strndup(&s->arena, p->stop[i], strlen(p->stop[i]));
            if (!stop[i]) return false;
        }
        s->params.stop = stop;
    }
    return true;
}

static bool copy_prompt(bt_stream *s, const bt_front_request *req)
{
    if (req->tokens) {
        s->tokens = bt_malloc((size_t)req->n_tokens * sizeof *s->tokens);
        if (!s->tokens) return false;
        memcpy(s->tokens, req->tokens, (size_t)req->n_tokens * sizeof *s->tokens);
        s->n_tokens = req->n_tokens;
        return true;
    }
    if (req->text) {
        s->text = bt_arena_strndup(&s->arena, req->text, req->n_text);
        s->n_text = req->n_text;
        return s->text != NULL;
    }
    bt_message *m = bt_arena_alloc(&s->arena, (size_t)req->n_messages * sizeof *m);
    if (!m) return false;
    for (int32_t i = 0; i < req->n_messages; i++) {
        m[i].role =
            bt_arena_strndup(&s->arena, req->messages[i].role, strlen(req->messages[i].role));
        m[i].content =
            bt_arena_strndup(&s->arena, req->messages[i].content, strlen(req->messages[i].content));
        if (!m[i].role || !m[i].content) return false;
    }
    s->messages = m;
    s->n_messages = req->n_messages;
    return true;
}

bt_stream *bt__stream_new(bt_front *f, const bt_front_request *req, void *user, bt_err *err)
{
    bt_stream *s = bt_calloc(1, sizeof *s);
    if (!s) goto fail;
    atomic_init(&s->refs, 1);
    s->front = f;
    s->user = user;
    s->id = bt_random_id();
    s->identity = req->identity;
    s->n_seq = req->n_seq;
    s->progress = req->progress;
    s->submitted_ns = bt_now_ns();
    s->in.max_bytes = (size_t)f->opt.stream_bytes;
    pthread_mutex_init(&s->mu, NULL);
    bt_arena_init(&s->arena, ARENA_BYTES_MAX);
    bt_arena_init(&s->scratch, SCRATCH_BYTES_MAX);
    if (copy_params(s, &req->params) && copy_prompt(s, req)) return s;
fail:
    if (s) bt_stream_unref(s);
    bt_err_set(err, BT_ENOMEM, 0, "out of memory for the request");
    return NULL;
}

void bt__stream_ref(bt_stream *s)
{
    atomic_fetch_add(&s->refs, 1);
}

void bt_stream_unref(bt_stream *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1) return;
    bt_buf_release(&s->in);
    bt_buf_release(&s->out);
    bt_arena_release(&s->arena);
    bt_arena_release(&s->scratch);
    bt_free(s->tokens);
    pthread_mutex_destroy(&s->mu);
    bt_free(s);
}

uint64_t bt_stream_id(const bt_stream *s)
{
    return s->id;
}
void *bt_stream_user(const bt_stream *s)
{
    return s->user;
}
const char *bt_stream_account(const bt_stream *s)
{
    return s->identity.account;
}
const char *bt_stream_tier(const bt_stream *s)
{
    return s->identity.tier->name;
}

/* ---- producing: each event is type, seq, status, finish and then what its type needs */

/* Opens an event; false if the stream takes no more. On true mu is held until put_end(). */
static bool put_begin(bt_stream *s, bt_stream_event_type type, int32_t seq, size_t *mark)
{
    pthread_mutex_lock(&s->mu);
    if (s->ended || s->overflow) {
        pthread_mutex_unlock(&s->mu);
        return false;
    }
    *mark = s->in.len;
    bt_put_u8(&s->in, (uint8_t)type);
    bt_put_i32(&s->in, seq);
    return true;
}

/* Closes the event: wakes the reader if it may be asleep. A full ring means a reader too slow: the
 * request ends. */
static void put_end(bt_stream *s, size_t mark)
{
    bool overflow = s->in.failed;
    if (overflow) {
        s->in.failed = false;
        s->in.len = mark;
        s->overflow = true;
    }
    bool wake = mark == 0 && s->in.len > 0;
    pthread_mutex_unlock(&s->mu);
    if (wake) bt__front_wake(s->front, s);
    if (overflow) {
        bt__count(&s->front->count.slow_readers, 1);
        bt_stream_cancel(s);
    }
}

static void put_balance(bt_buf *b, const bt_ledger_balance *balance)
{
    static const bt_ledger_balance none = {-1, -1, -1, -1, 0, 0};
    bt_buf_add(b, balance ? balance : &none, sizeof none);
}

void bt__stream_refused(bt_stream *s, bt_status status, const char *message, int64_t retry_after_ms,
                        const bt_ledger_balance *balance)
{
    size_t mark;
    if (!put_begin(s, BT_SE_REFUSED, 0, &mark)) return;
    bt_put_i32(&s->in, status);
    bt_put_bytes(&s->in, message, strlen(message));
    bt_put_i64(&s->in, retry_after_ms);
    put_balance(&s->in, balance);
    s->ended = true;
    put_end(s, mark);
}

void bt__stream_accepted(bt_stream *s, const bt_ledger_balance *balance)
{
    size_t mark;
    if (!put_begin(s, BT_SE_ACCEPTED, 0, &mark)) return;
    bt_put_i32(&s->in, s->n_tokens);
    bt_put_i64(&s->in, s->lease_ns / 1000);
    put_balance(&s->in, balance);
    put_end(s, mark);
}

/* Progress is worth nothing to a reader that is behind: dropped when the ring is half full. */
static bool put_progress(bt_stream *s, bt_stream_event_type type, size_t *mark)
{
    if (!s->progress || !put_begin(s, type, 0, mark)) return false;
    if (*mark <= s->in.max_bytes / 2) return true;
    s->in.len = *mark;
    pthread_mutex_unlock(&s->mu);
    return false;
}

void bt__stream_queue(bt_stream *s, int32_t position, int64_t eta_ms)
{
    size_t mark;
    if (!put_progress(s, BT_SE_QUEUE, &mark)) return;
    bt_put_i32(&s->in, position);
    bt_put_i64(&s->in, eta_ms);
    put_end(s, mark);
}

void bt__stream_prefill(bt_stream *s, int32_t done, int32_t total)
{
    size_t mark;
    if (!put_progress(s, BT_SE_PREFILL, &mark)) return;
    bt_put_i32(&s->in, done);
    bt_put_i32(&s->in, total);
    put_end(s, mark);
}

static void put_token(bt_buf *b, const bt_token_out *t)
{
    bt_put_i32(b, t->token);
    bt_put_f32(b, t->logprob);
    bt_put_bytes(b, t->bytes, (size_t)t->n_bytes);
    bt_put_i32(b, t->n_top);
    bt_buf_add(b, t->top_token, (size_t)t->n_top * sizeof *t->top_token);
    bt_buf_add(b, t->top_logprob, (size_t)t->n_top * sizeof *t->top_logprob);
}

void bt__stream_tokens(bt_stream *s, bt_stream_event_type type, const bt_engine_event *ev)
{
    size_t mark;
    if (!put_begin(s, type, ev->seq, &mark)) return;
    bool details = s->params.n_logprobs >= 0 || type == BT_SE_PROMPT;
    bt_put_i32(&s->in, ev->u.tokens.finish);
    bt_put_bytes(&s->in, ev->u.tokens.text, (size_t)ev->u.tokens.n_text);
    bt_put_i32(&s->in, ev->u.tokens.n_tokens);
    bt_put_u8(&s->in, details);
    for (int32_t i = 0; details && i < ev->u.tokens.n_tokens; i++)
        put_token(&s->in, &ev->u.tokens.token[i]);
    if (type == BT_SE_TOKENS && s->first_token_ns == 0) s->first_token_ns = bt_now_ns();
    put_end(s, mark);
}

void bt__stream_done(bt_stream *s, bt_finish finish, int64_t device_us, int64_t charged_us,
                     const bt_ledger_balance *balance)
{
    pthread_mutex_lock(&s->mu);
    if (s->ended) {
        pthread_mutex_unlock(&s->mu);
        return;
    }
    s->ended = true;
    s->in.max_bytes += 1024; // the end always fits
    size_t mark = s->in.len;
    bt_put_u8(&s->in, BT_SE_DONE);
    bt_put_i32(&s->in, 0);
    bt_put_i32(&s->in, s->overflow ? BT_ECANCELLED : s->broke);
    bt_put_i32(&s->in, finish);
    bt_put_i32(&s->in, s->prompt_tokens ? s->prompt_tokens : s->n_tokens);
    bt_put_i32(&s->in, s->cached_tokens);
    bt_put_i32(&s->in, s->completion_tokens);
    int64_t started_ns = s->admitted_ns ? s->admitted_ns : bt_now_ns();
    bt_put_i64(&s->in, (started_ns - s->submitted_ns) / 1000);
    bt_put_i64(&s->in, s->prefill_ns / 1000);
    bt_put_i64(&s->in, s->decode_ns / 1000);
    bt_put_i64(&s->in, s->lease_ns / 1000);
    bt_put_i64(&s->in, device_us);
    bt_put_i64(&s->in, charged_us);
    put_balance(&s->in, balance);
    bool wake = mark == 0;
    pthread_mutex_unlock(&s->mu);
    if (wake) bt__front_wake(s->front, s);
}

/* ---- taking */

static void take_balance(bt_rd *r, bt_ledger_balance *out)
{
    if (!bt_get_fits(r, 1, sizeof *out)) return;
    memcpy(out, r->at, sizeof *out);
    r->at += sizeof *out;
}

static void take_tokens(bt_stream *s, bt_rd *r, bt_stream_event *out)
{
    size_t n;
    out->finish = (bt_finish)bt_get_i32(r);
    out->text = bt_get_bytes(r, BT_FRAME_MAX, &n);
    out->n_text = (int32_t)n;
    out->n_tokens = bt_get_i32(r);
    if (!bt_get_u8(r) || out->n_tokens <= 0) return;
    bt_token_out *t = bt_arena_alloc(&s->scratch, (size_t)out->n_tokens * sizeof *t);
    for (int32_t i = 0; t && i < out->n_tokens; i++) {
        t[i].token = bt_get_i32(r);
        t[i].logprob = bt_get_f32(r);
        t[i].bytes = bt_get_bytes(r, BT_FRAME_MAX, &n);
        t[i].n_bytes = (int32_t)n;
        t[i].n_top = bt_get_i32(r);
        size_t bytes = (size_t)t[i].n_top * sizeof(int32_t);
        void *both = bt_arena_alloc(&s->scratch, 2 * bytes);
        if (!both || !bt_get_fits(r, 2 * (uint64_t)t[i].n_top, sizeof(int32_t))) return;
        memcpy(both, r->at, 2 * bytes);
        r->at += 2 * bytes;
        t[i].top_token = both;
        t[i].top_logprob = (const float *)(const void *)((const char *)both + bytes);
    }
    out->token = t;
}

static void take_done(bt_stream *s, bt_rd *r, bt_stream_event *out)
{
    out->status = (bt_status)bt_get_i32(r);
    out->finish = (bt_finish)bt_get_i32(r);
    out->prompt_tokens = bt_get_i32(r);
    out->cached_tokens = bt_get_i32(r);
    out->completion_tokens = bt_get_i32(r);
    out->queue_us = bt_get_i64(r);
    out->prefill_us = bt_get_i64(r);
    out->decode_us = bt_get_i64(r);
    out->lease_us = bt_get_i64(r);
    out->device_us = bt_get_i64(r);
    out->charged_us = bt_get_i64(r);
    take_balance(r, &out->balance);
    if (out->status == BT_OK) return;
    const char *why = out->status == BT_EDEVICE   ? "the engine failed while this ran; try again"
                      : out->status == BT_ECLOSED ? "the server is shutting down"
                      : out->status == BT_ETIMEOUT
                          ? "the request waited longer than the queue allows"
                          : bt_status_get(out->status)->text;
    snprintf(s->message, sizeof s->message, "%s", why);
    out->message = s->message;
}

static void take_refused(bt_stream *s, bt_rd *r, bt_stream_event *out)
{
    size_t n;
    out->status = (bt_status)bt_get_i32(r);
    const char *message = bt_get_bytes(r, sizeof s->message - 1, &n);
    memcpy(s->message, message, n);
    s->message[n] = 0;
    out->message = s->message;
    out->retry_after_ms = bt_get_i64(r);
    take_balance(r, &out->balance);
}

bool bt_stream_next(bt_stream *s, bt_stream_event *out)
{
    if (s->out_at == s->out.len) {
        bt_buf_clear(&s->out);
        s->out_at = 0;
        pthread_mutex_lock(&s->mu);
        bt_buf full = s->in;
        s->in = s->out;
        s->in.max_bytes = full.max_bytes;
        pthread_mutex_unlock(&s->mu);
        s->out = full;
        if (s->out.len == 0) {
            bt_buf_release(&s->out); // an idle stream keeps no memory
            return false;
        }
    }
    bt_arena_release(&s->scratch);
    memset(out, 0, sizeof *out);
    bt_rd r = {(uint8_t *)s->out.data + s->out_at, (uint8_t *)s->out.data + s->out.len, true};
    out->type = (bt_stream_event_type)bt_get_u8(&r);
    out->seq = bt_get_i32(&r);
    switch (out->type) {
    case BT_SE_REFUSED: take_refused(s, &r, out); break;
    case BT_SE_ACCEPTED:
        out->prompt_tokens = bt_get_i32(&r);
        out->lease_us = bt_get_i64(&r);
        take_balance(&r, &out->balance);
        break;
    case BT_SE_QUEUE:
        out->position = bt_get_i32(&r);
        out->eta_ms = bt_get_i64(&r);
        break;
    case BT_SE_PREFILL:
        out->done = bt_get_i32(&r);
        out->total = bt_get_i32(&r);
        break;
    case BT_SE_PROMPT:
    case BT_SE_TOKENS:
    case BT_SE_SEQ_END: take_tokens(s, &r, out); break;
    case BT_SE_DONE: take_done(s, &r, out); break;
    }
    BT_ASSERT(r.ok);
    s->out_at = (size_t)(r.at - (uint8_t *)s->out.data);
    return true;
}

void bt_stream_cancel(bt_stream *s)
{
    if (atomic_exchange(&s->cancelled, true)) return;
    if (atomic_load(&s->in_sched)) bt__front_event_simple(s->front, BT_EV_CANCEL, s->id);
}
