/* SPDX-License-Identifier: Apache-2.0 */
/* wire_event.c - what an engine says to front, as frames. */
#include "base/assert.h"
#include "engine/wire.h"
#include <math.h>
#include <string.h>

static void put_token(bt_buf *b, const bt_token_out *t)
{
    bt_put_i32(b, t->token);
    bt_put_f32(b, t->logprob);
    bt_put_i32(b, t->n_top);
    for (int32_t i = 0; i < t->n_top; i++) {
        bt_put_i32(b, t->top_token[i]);
        bt_put_f32(b, t->top_logprob[i]);
    }
    bt_put_bytes(b, t->bytes, (size_t)t->n_bytes);
}

static int32_t get_count(bt_rd *r, int32_t max)
{
    int32_t n = bt_get_i32(r);
    if (n < 0 || n > max) r->ok = false;
    return r->ok ? n : 0;
}

/* top_token, top_logprob: [BT_TOP_LOGPROBS_MAX] */
static void get_token(bt_rd *r, bt_token_out *t, int32_t *top_token, float *top_logprob)
{
    size_t n_bytes = 0;
    t->token = bt_get_i32(r);
    t->logprob = bt_get_f32(r); // NaN says that there is none
    t->n_top = get_count(r, BT_TOP_LOGPROBS_MAX);
    t->top_token = top_token;
    t->top_logprob = top_logprob;
    for (int32_t i = 0; i < t->n_top; i++) {
        top_token[i] = bt_get_i32(r);
        top_logprob[i] = bt_get_f32(r);
        if (isnan(top_logprob[i])) r->ok = false;
    }
    t->bytes = bt_get_bytes(r, BT_WIRE_TEXT_MAX, &n_bytes);
    t->n_bytes = (int32_t)n_bytes;
}

static bool get_flag(bt_rd *r)
{
    uint8_t v = bt_get_u8(r);
    if (v > 1) r->ok = false;
    return v == 1;
}

static void put_tokens(bt_buf *b, const bt_engine_event *ev)
{
    int32_t n = ev->u.tokens.n_tokens;
    bool each = ev->type == BT_EE_PROMPT_LOGPROBS ||
                (n > 0 && ev->u.tokens.token && !isnan(ev->u.tokens.token->logprob));
    BT_ASSERT(n <= BT_WIRE_TOKENS_MAX);
    bt_put_i32(b, (int32_t)ev->u.tokens.finish);
    bt_put_i32(b, n);
    bt_put_u8(b, each);
    for (int32_t i = 0; each && i < n; i++) put_token(b, &ev->u.tokens.token[i]);
    bt_put_bytes(b, ev->u.tokens.text, (size_t)ev->u.tokens.n_text);
}

static bt_finish get_finish(bt_rd *r)
{
    int32_t f = bt_get_i32(r);
    if (f < 0 || f >= BT_FINISH_COUNT) r->ok = false;
    return r->ok ? (bt_finish)f : BT_FINISH_NONE;
}

static void get_tokens(bt_rd *r, bt_wire_tokens *keep, bt_engine_event *ev)
{
    size_t n_text = 0;
    bt_token_out token;
    int32_t top_token[BT_TOP_LOGPROBS_MAX];
    float top_logprob[BT_TOP_LOGPROBS_MAX];
    ev->u.tokens.finish = get_finish(r);
    int32_t n = ev->u.tokens.n_tokens = get_count(r, BT_WIRE_TOKENS_MAX);
    bool each = get_flag(r), prompt = ev->type == BT_EE_PROMPT_LOGPROBS;
    if (prompt ? !each : each && n == 0) r->ok = false;
    ev->u.tokens.token = each && keep ? keep->token : NULL;
    for (int32_t i = 0; each && r->ok && i < n; i++) {
        bt_token_out *t = keep ? &keep->token[i] : &token;
        get_token(r, t, keep ? keep->top_token[i] : top_token,
                  keep ? keep->top_logprob[i] : top_logprob);
        if (!prompt && i == 0 && isnan(t->logprob)) r->ok = false;
    }
    ev->u.tokens.text = bt_get_bytes(r, BT_WIRE_TEXT_MAX, &n_text);
    ev->u.tokens.n_text = (int32_t)n_text;
}

static void put_step(bt_buf *b, const bt_engine_event *ev)
{
    BT_ASSERT(ev->u.step.n_share <= BT_WIRE_SHARES_MAX);
    bt_put_u64(b, ev->u.step.busy_us);
    bt_put_u64(b, ev->u.step.house_us);
    bt_put_u64(b, ev->u.step.step_us);
    bt_put_i32(b, ev->u.step.n_rows);
    bt_put_i32(b, ev->u.step.n_seqs);
    bt_put_i32(b, ev->u.step.pages_free);
    bt_put_i32(b, ev->u.step.n_share);
    for (int32_t i = 0; i < ev->u.step.n_share; i++) {
        bt_put_u64(b, ev->u.step.share[i].request);
        bt_put_u64(b, ev->u.step.share[i].used_us);
    }
}

static void get_step(bt_rd *r, bt_wire_storage *st, bt_engine_event *ev)
{
    ev->u.step.busy_us = bt_get_u64(r);
    ev->u.step.house_us = bt_get_u64(r);
    ev->u.step.step_us = bt_get_u64(r);
    ev->u.step.n_rows = get_count(r, INT32_MAX);
    ev->u.step.n_seqs = get_count(r, INT32_MAX);
    ev->u.step.pages_free = get_count(r, INT32_MAX);
    ev->u.step.n_share = get_count(r, BT_WIRE_SHARES_MAX);
    ev->u.step.share = st->share;
    for (int32_t i = 0; i < ev->u.step.n_share; i++)
        st->share[i] = (bt_step_share){bt_get_u64(r), bt_get_u64(r)};
}

static void put_end(bt_buf *b, const bt_engine_event *ev)
{
    bt_put_i32(b, (int32_t)ev->u.end.finish);
    bt_put_i32(b, ev->u.end.prompt_tokens);
    bt_put_i32(b, ev->u.end.cached_tokens);
    bt_put_i32(b, ev->u.end.completion_tokens);
    bt_put_u64(b, ev->u.end.used_us);
    bt_put_i64(b, ev->u.end.prefill_ns);
    bt_put_i64(b, ev->u.end.decode_ns);
    bt_put_i32(b, (int32_t)ev->u.end.status);
}

static bt_status get_status(bt_rd *r)
{
    int32_t s = bt_get_i32(r);
    if (s > BT_OK || s < BT_EMODEL) r->ok = false;
    return r->ok ? (bt_status)s : BT_OK;
}

static void get_end(bt_rd *r, bt_engine_event *ev)
{
    ev->u.end.finish = get_finish(r);
    ev->u.end.prompt_tokens = get_count(r, INT32_MAX);
    ev->u.end.cached_tokens = get_count(r, INT32_MAX);
    ev->u.end.completion_tokens = get_count(r, INT32_MAX);
    ev->u.end.used_us = bt_get_u64(r);
    ev->u.end.prefill_ns = bt_get_i64(r);
    ev->u.end.decode_ns = bt_get_i64(r);
    ev->u.end.status = get_status(r);
}

/* At most max bytes of s; what people read may be cut, it must not be lost. */
static void put_text(bt_buf *b, const char *s, size_t max)
{
    bt_put_bytes(b, s ? s : "", s ? strnlen(s, max) : 0);
}

static const char *get_text(bt_rd *r, char *dst, size_t max)
{
    size_t n = 0;
    const char *s = bt_get_bytes(r, max, &n);
    if (r->ok) memcpy(dst, s, n);
    dst[n] = 0;
    return dst;
}

static void put_ready(bt_buf *b, const bt_engine_event *ev)
{
    bt_put_i32(b, ev->u.ready.vocab);
    bt_put_i32(b, ev->u.ready.ctx);
    bt_put_i32(b, ev->u.ready.slots);
    bt_put_i32(b, ev->u.ready.n_pages);
    bt_put_i32(b, ev->u.ready.page_tokens);
    bt_put_i32(b, ev->u.ready.rows_max);
    bt_put_i32(b, ev->u.ready.eos);
    bt_put_i32(b, ev->u.ready.can_park);
    bt_put_u64(b, ev->u.ready.weights_bytes);
    bt_put_u64(b, ev->u.ready.kv_bytes);
    bt_put_u64(b, ev->u.ready.scratch_bytes);
    bt_put_u64(b, ev->u.ready.boot);
    bt_put_f32(b, ev->u.ready.prefill_us_per_token);
    bt_put_f32(b, ev->u.ready.decode_us_per_token);
    put_text(b, ev->u.ready.device, BT_WIRE_NAME_MAX);
    put_text(b, ev->u.ready.device_id, BT_WIRE_NAME_MAX);
    put_text(b, ev->u.ready.name, BT_WIRE_NAME_MAX);
}

static void get_ready(bt_rd *r, bt_wire_storage *st, bt_engine_event *ev)
{
    ev->u.ready.vocab = get_count(r, INT32_MAX);
    ev->u.ready.ctx = get_count(r, INT32_MAX);
    ev->u.ready.slots = get_count(r, INT32_MAX);
    ev->u.ready.n_pages = get_count(r, INT32_MAX);
    ev->u.ready.page_tokens = get_count(r, INT32_MAX);
    ev->u.ready.rows_max = get_count(r, INT32_MAX);
    ev->u.ready.eos = bt_get_i32(r);
    ev->u.ready.can_park = get_count(r, 1) != 0;
    ev->u.ready.weights_bytes = bt_get_u64(r);
    ev->u.ready.kv_bytes = bt_get_u64(r);
    ev->u.ready.scratch_bytes = bt_get_u64(r);
    ev->u.ready.boot = bt_get_u64(r);
    ev->u.ready.prefill_us_per_token = bt_get_f32(r);
    ev->u.ready.decode_us_per_token = bt_get_f32(r);
    if (!isfinite(ev->u.ready.prefill_us_per_token) || !isfinite(ev->u.ready.decode_us_per_token))
        r->ok = false;
    ev->u.ready.device = get_text(r, st->name[0], BT_WIRE_NAME_MAX);
    ev->u.ready.device_id = get_text(r, st->name[1], BT_WIRE_NAME_MAX);
    ev->u.ready.name = get_text(r, st->name[2], BT_WIRE_NAME_MAX);
    if (ev->u.ready.eos < -1 || ev->u.ready.page_tokens < 1) r->ok = false;
}

static void put_residency(bt_buf *b, const bt_engine_event *ev)
{
    bt_put_i32(b, ev->u.residency.level);
    bt_put_u64(b, ev->u.residency.bytes);
    bt_put_u64(b, ev->u.residency.free_bytes);
    bt_put_u64(b, (uint64_t)ev->u.residency.took_ns);
    bt_put_i32(b, ev->u.residency.from_host);
}

static void get_residency(bt_rd *r, bt_engine_event *ev)
{
    ev->u.residency.level = get_count(r, 2);
    ev->u.residency.bytes = bt_get_u64(r);
    ev->u.residency.free_bytes = bt_get_u64(r);
    ev->u.residency.took_ns = (int64_t)bt_get_u64(r);
    ev->u.residency.from_host = get_count(r, 1) != 0;
    if (ev->u.residency.took_ns < 0) r->ok = false;
}

void bt_wire_put_event(bt_buf *b, const bt_engine_event *ev)
{
    size_t mark = bt_frame_begin(b, (uint16_t)(BT_WIRE_EVENT + ev->type));
    bt_put_u64(b, ev->request);
    bt_put_i32(b, ev->seq);
    switch (ev->type) {
    case BT_EE_PREFILL:
        bt_put_i32(b, ev->u.prefill.done);
        bt_put_i32(b, ev->u.prefill.total);
        break;
    case BT_EE_PROMPT_LOGPROBS:
    case BT_EE_TOKENS:
    case BT_EE_SEQ_END: put_tokens(b, ev); break;
    case BT_EE_END: put_end(b, ev); break;
    case BT_EE_STEP: put_step(b, ev); break;
    case BT_EE_LOAD:
        bt_put_u64(b, ev->u.load.done);
        bt_put_u64(b, ev->u.load.total);
        break;
    case BT_EE_READY: put_ready(b, ev); break;
    case BT_EE_FATAL:
        bt_put_i32(b, (int32_t)ev->u.fatal.code);
        put_text(b, ev->u.fatal.message, sizeof((bt_wire_storage *)0)->message - 1);
        break;
    case BT_EE_RESIDENCY: put_residency(b, ev); break;
    }
    bt_frame_end(b, mark);
}

bt_status bt_wire_get_event(uint16_t type, bt_rd *r, bt_wire_storage *storage,
                            bt_wire_tokens *tokens, bt_engine_event *out, bt_err *err)
{
    if (type < BT_WIRE_EVENT || type > BT_WIRE_EVENT + BT_EE_RESIDENCY)
        return bt_err_set(err, BT_EIO, type, "the engine sent a frame of unknown type %d", type);
    bt_engine_event ev = {.type = (bt_engine_event_type)(type - BT_WIRE_EVENT)};
    ev.request = bt_get_u64(r);
    ev.seq = get_count(r, BT_SEQS_PER_REQUEST_MAX - 1);
    switch (ev.type) {
    case BT_EE_PREFILL:
        ev.u.prefill.done = get_count(r, INT32_MAX);
        ev.u.prefill.total = get_count(r, INT32_MAX);
        break;
    case BT_EE_PROMPT_LOGPROBS:
    case BT_EE_TOKENS:
    case BT_EE_SEQ_END: get_tokens(r, tokens, &ev); break;
    case BT_EE_END: get_end(r, &ev); break;
    case BT_EE_STEP: get_step(r, storage, &ev); break;
    case BT_EE_LOAD:
        ev.u.load.done = bt_get_u64(r);
        ev.u.load.total = bt_get_u64(r);
        break;
    case BT_EE_READY: get_ready(r, storage, &ev); break;
    case BT_EE_FATAL:
        ev.u.fatal.code = get_status(r);
        ev.u.fatal.message = get_text(r, storage->message, sizeof storage->message - 1);
        break;
    case BT_EE_RESIDENCY: get_residency(r, &ev); break;
    }
    if (!r->ok || r->at != r->end)
        return bt_err_set(err, BT_EIO, type, "the engine sent a damaged frame of type %d", type);
    *out = ev;
    return BT_OK;
}
