/* SPDX-License-Identifier: Apache-2.0 */
#include "front/stream.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "engine/wire.h"
#include "front/internal.h"
#include <stdio.h>
#include <string.h>

enum { ARENA_BYTES_MAX = 64 << 20, SCRATCH_BYTES_MAX = 16 << 20 };

/* ---- life */

static bool copy_params(bt_parts *to, const bt_gen_params *p)
{
    bt_arena_init(&to->arena, ARENA_BYTES_MAX);
    to->params = *p;
    to->params.bias = NULL;
    to->params.stop = NULL;
    if (p->n_bias > 0) {
        bt_logit_bias *bias = bt_arena_alloc(&to->arena, (size_t)p->n_bias * sizeof *bias);
        if (!bias) return false;
        memcpy(bias, p->bias, (size_t)p->n_bias * sizeof *bias);
        to->params.bias = bias;
    }
    if (p->n_stop > 0) {
        const char **stop = bt_arena_alloc(&to->arena, (size_t)p->n_stop * sizeof *stop);
        if (!stop) return false;
        for (int32_t i = 0; i < p->n_stop; i++) {
            stop[i] = bt_arena_strndup(&to->arena, p->stop[i], strlen(p->stop[i]));
            if (!stop[i]) return false;
        }
        to->params.stop = stop;
    }
    return true;
}

static bool take_prompt(bt_stream *s, const bt_front_request *req)
{
    if (req->tokens) {
        s->tokens = bt_malloc((size_t)req->n_tokens * sizeof *s->tokens);
        if (!s->tokens) return false;
        memcpy(s->tokens, req->tokens, (size_t)req->n_tokens * sizeof *s->tokens);
        s->n_tokens = req->n_tokens;
        return true;
    }
    if (req->text) {
        s->text = bt_strndup(req->text, req->n_text);
        s->n_text = req->n_text;
        return s->text != NULL;
    }
    s->chat = req->chat;
    if (req->memory) {
        s->arena = *req->memory;
        *req->memory = (bt_arena){0};
    }
    return true;
}

/* Takes a reference of p. */
static bt_stream *stream_new(bt_unit *u, const bt_front_request *req, bt_parts *p)
{
    bt_stream *s = bt_calloc(1, sizeof *s);
    if (!s) return NULL;
    atomic_init(&s->refs, 1);
    s->unit = u;
    s->parts = p;
    atomic_fetch_add(&p->refs, 1);
    s->params = p->params;
    s->params.max_tokens = req->params.max_tokens;
    s->id = bt_random_id();
    s->identity = req->identity;
    s->n_seq = req->n_seq;
    s->parse_special = req->parse_special;
    s->bare = req->bare;
    s->progress = req->progress;
    s->submitted_ns = bt_now_ns();
    s->in.max_bytes = (size_t)u->front->opt.stream_bytes;
    pthread_mutex_init(&s->mu, NULL);
    bt_arena_init(&s->arena, ARENA_BYTES_MAX);
    bt_arena_init(&s->scratch, SCRATCH_BYTES_MAX);
    if (take_prompt(s, req)) return s;
    bt_stream_unref(s);
    return NULL;
}

bt_parts *bt__parts_new(bt_unit *u, const bt_front_request *req, int32_t n, bt_err *err)
{
    bt_parts *p = bt_calloc(1, sizeof *p);
    if (p) p->part = bt_calloc((size_t)n, sizeof(bt_stream *));
    if (!p || !p->part) {
        bt_free(p);
        bt_err_set(err, BT_ENOMEM, 0, "out of memory for the request");
        return NULL;
    }
    atomic_init(&p->refs, 1); // the caller's, until all streams have theirs
    bool ok = copy_params(p, &req->params);
    for (; ok && p->n < n; p->n++) {
        p->part[p->n] = stream_new(u, &req[p->n], p);
        if (!p->part[p->n]) break;
    }
    if (p->n == n) return p;
    for (int32_t i = 0; i < p->n; i++) bt_stream_unref(p->part[i]);
    bt__parts_unref(p);
    bt_err_set(err, BT_ENOMEM, 0, "out of memory for the request");
    return NULL;
}

void bt__parts_unref(bt_parts *p)
{
    if (!p || atomic_fetch_sub(&p->refs, 1) != 1) return;
    bt_arena_release(&p->arena);
    bt_free(p->part);
    bt_free(p);
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
    bt_free(s->text);
    bt__parts_unref(s->parts);
    pthread_mutex_destroy(&s->mu);
    bt_free(s);
}

uint64_t bt_stream_id(const bt_stream *s)
{
    return s->id;
}
const char *bt_stream_account(const bt_stream *s)
{
    return s->identity.account;
}
const char *bt_stream_tier(const bt_stream *s)
{
    return s->identity.tier->name;
}

/* ---- waking: under a lock, so that a server that unhooks itself can be freed: no wake is still in
 * flight */

static void wake_reader(bt_stream *s)
{
    bt_front *f = s->unit->front;
    pthread_mutex_lock(&f->wake_mu);
    if (f->wake) f->wake(f->wake_ud, s);
    pthread_mutex_unlock(&f->wake_mu);
}

void bt_front_on_wake(bt_front *f, bt_front_wake wake, void *ud)
{
    pthread_mutex_lock(&f->wake_mu);
    f->wake_ud = ud;
    f->wake = wake;
    pthread_mutex_unlock(&f->wake_mu);
}

/* ---- producing: each event is its type and then what that needs */

/* Opens an event; false if the stream takes no more. On true mu is held until put_end(). */
static bool put_begin(bt_stream *s, bt_stream_event_type type, size_t *mark)
{
    pthread_mutex_lock(&s->mu);
    if (s->ended || s->overflow) {
        pthread_mutex_unlock(&s->mu);
        return false;
    }
    *mark = s->in.len;
    bt_put_u8(&s->in, (uint8_t)type);
    return true;
}

/* Closes the event: wakes the reader if it may be asleep. An event that found no room ends the
 * request: the reader is too slow, or, where the ring was not even half full, memory is short. */
static void put_end(bt_stream *s, size_t mark)
{
    bool overflow = s->in.failed, slow = mark > s->in.max_bytes / 2;
    if (overflow) {
        s->in.failed = false;
        s->in.len = mark;
        s->overflow = true;
        s->broke = slow ? BT_ECANCELLED : BT_ENOMEM;
    }
    bool wake = mark == 0 && s->in.len > 0;
    pthread_mutex_unlock(&s->mu);
    if (wake) wake_reader(s);
    if (overflow) {
        if (slow) bt__count(&s->unit->front->count.slow_readers, 1);
        bt_stream_cancel(s);
    }
}

static const bt_ledger_balance balance_unknown = {-1, -1, -1, -1, 0, 0};

/* Puts the last event and wakes the reader if it may be asleep; called with mu held. */
static void put_last(bt_stream *s, const bt_stream_event *last, const char *message)
{
    s->ended = true;
    s->last = *last;
    if (message) {
        snprintf(s->message, sizeof s->message, "%s", message);
        s->last.message = s->message;
    }
    bool wake = s->in.len == 0;
    pthread_mutex_unlock(&s->mu);
    if (wake) wake_reader(s);
}

void bt__stream_refused(bt_stream *s, bt_status st, const char *message, int64_t retry_after_ms,
                        const bt_ledger_balance *balance)
{
    bt_stream_event last = {.type = BT_SE_REFUSED,
                            .status = st,
                            .field = s->field,
                            .retry_after_ms = retry_after_ms,
                            .balance = balance ? *balance : balance_unknown};
    pthread_mutex_lock(&s->mu);
    if (s->ended)
        pthread_mutex_unlock(&s->mu);
    else
        put_last(s, &last, message);
}

void bt__stream_accepted(bt_stream *s, const bt_ledger_balance *balance)
{
    size_t mark;
    if (!put_begin(s, BT_SE_ACCEPTED, &mark)) return;
    bt_put_i32(&s->in, s->n_tokens);
    bt_put_i64(&s->in, s->lease_ns / 1000);
    bt_buf_add(&s->in, balance ? balance : &balance_unknown, sizeof *balance);
    put_end(s, mark);
}

/* Progress is worth nothing to a reader that is behind: dropped when the ring is half full. */
static bool put_progress(bt_stream *s, bt_stream_event_type type, size_t *mark)
{
    if (!s->progress || !put_begin(s, type, mark)) return false;
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

void bt__stream_tokens(bt_stream *s, bt_engine_event_type type, const bt_rd *payload)
{
    size_t mark;
    bt_stream_event_type own = type == BT_EE_TOKENS    ? BT_SE_TOKENS
                               : type == BT_EE_SEQ_END ? BT_SE_SEQ_END
                                                       : BT_SE_PROMPT;
    if (!put_begin(s, own, &mark)) return;
    bt_put_bytes(&s->in, payload->at, (size_t)(payload->end - payload->at));
    if (own == BT_SE_TOKENS && s->first_token_ns == 0) s->first_token_ns = bt_now_ns();
    put_end(s, mark);
}

static const char *done_text(const bt_stream *s, char *text, size_t cap)
{
    switch (s->broke) {
    case BT_OK: return NULL;
    case BT_EDEVICE: return "the engine failed while this ran; try again";
    case BT_ECLOSED: return "the server is shutting down";
    case BT_ETIMEOUT: return "the request waited longer than the queue allows";
    case BT_ENOMEM: return "out of memory for the answer; try again";
    case BT_EBUSY:
        if (s->retry_ms == 0)
            return "the engine had no room for it after all; try again in a moment";
        snprintf(text, cap,
                 "the queue is full, and a request of a higher class took this one's place; "
                 "nothing was charged; try again in %lld s",
                 (long long)bt_retry_s(s->retry_ms));
        return text;
    default: return bt_status_get(s->broke)->text;
    }
}

void bt__stream_done(bt_stream *s, bt_finish finish, int64_t device_us, int64_t charged_us,
                     const bt_ledger_balance *balance)
{
    pthread_mutex_lock(&s->mu);
    if (s->ended) {
        pthread_mutex_unlock(&s->mu);
        return;
    }
    char text[160];
    int64_t started_ns = s->admitted_ns ? s->admitted_ns : bt_now_ns();
    bt_stream_event last = {
        .type = BT_SE_DONE,
        .status = s->broke,
        .finish = finish,
        .prompt_tokens = s->prompt_tokens ? s->prompt_tokens : s->n_tokens,
        .cached_tokens = s->cached_tokens,
        .completion_tokens = s->completion_tokens,
        .queue_us = (started_ns - s->submitted_ns) / 1000,
        .prefill_us = s->prefill_ns / 1000,
        .decode_us = s->decode_ns / 1000,
        .lease_us = s->lease_ns / 1000,
        .device_us = device_us,
        .charged_us = charged_us,
        .retry_after_ms = s->retry_ms,
        .balance = balance ? *balance : balance_unknown,
    };
    put_last(s, &last, done_text(s, text, sizeof text));
}

/* ---- taking */

static void take_balance(bt_rd *r, bt_ledger_balance *out)
{
    if (!bt_get_fits(r, 1, sizeof *out)) return;
    memcpy(out, r->at, sizeof *out);
    r->at += sizeof *out;
}

/* A payload of the engine's. Where there is no memory for the tokens, their text is there all the
 * same. */
static void take_tokens(bt_stream *s, bt_rd *r, bt_stream_event *out)
{
    static const bt_engine_event_type type[] = {[BT_SE_PROMPT] = BT_EE_PROMPT_LOGPROBS,
                                                [BT_SE_TOKENS] = BT_EE_TOKENS,
                                                [BT_SE_SEQ_END] = BT_EE_SEQ_END};
    size_t n;
    const uint8_t *payload = bt_get_bytes(r, BT_FRAME_MAX, &n);
    bt_rd frame = {payload, payload + n, true};
    bt_engine_event ev;
    bool wanted = s->params.n_logprobs >= 0 || out->type == BT_SE_PROMPT;
    bt_wire_tokens *tokens = wanted ? bt_arena_alloc(&s->scratch, sizeof *tokens) : NULL;
    bt_status st = bt_wire_get_event((uint16_t)(BT_WIRE_EVENT + type[out->type]), &frame, NULL,
                                     tokens, &ev, NULL);
    BT_ASSERT(st == BT_OK);
    out->seq = ev.seq;
    out->finish = ev.u.tokens.finish;
    out->text = ev.u.tokens.text;
    out->n_text = ev.u.tokens.n_text;
    out->token = ev.u.tokens.token;
    out->n_tokens = ev.u.tokens.n_tokens;
}

/* Fills `out` with what producers have put since; false: nothing. *ended: and nothing will come. */
static bool take_ring(bt_stream *s, bool *ended)
{
    bt_buf_clear(&s->out);
    s->out_at = 0;
    pthread_mutex_lock(&s->mu);
    bt_buf full = s->in;
    s->in = s->out;
    s->in.max_bytes = full.max_bytes;
    *ended = s->ended;
    pthread_mutex_unlock(&s->mu);
    s->out = full;
    if (s->out.len > 0) return true;
    bt_buf_release(&s->out); // an idle stream keeps no memory
    return false;
}

bool bt_stream_next(bt_stream *s, bt_stream_event *out)
{
    bool ended = false;
    if (s->out_at == s->out.len && !take_ring(s, &ended)) {
        if (!ended || s->last_taken) return false;
        s->last_taken = true;
        *out = s->last;
        return true;
    }
    bt_arena_release(&s->scratch);
    memset(out, 0, sizeof *out);
    bt_rd r = {(uint8_t *)s->out.data + s->out_at, (uint8_t *)s->out.data + s->out.len, true};
    out->type = (bt_stream_event_type)bt_get_u8(&r);
    switch (out->type) {
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
    case BT_SE_REFUSED:
    case BT_SE_DONE: r.ok = false; // never in the ring
    }
    BT_ASSERT(r.ok);
    s->out_at = (size_t)(r.at - (uint8_t *)s->out.data);
    return true;
}

void bt_stream_cancel(bt_stream *s)
{
    if (atomic_exchange(&s->cancelled, true)) return;
    bt_work_cancel(s->unit->front, &s->work);
    if (atomic_load(&s->in_sched)) bt__unit_event(s->unit, BT_EV_CANCEL, s->id);
}
