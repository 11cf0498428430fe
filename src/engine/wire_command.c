/* SPDX-License-Identifier: Apache-2.0 */
/* wire_command.c - what front says to an engine, as frames. */
#include "engine/wire.h"
#include <math.h>
#include <string.h>

static bt_status wire_bad(bt_err *err, const char *what)
{
    return bt_err_set(err, BT_EIO, 0, "the peer sent a damaged frame: %s", what);
}

/* A frame is right only if all of it was there and nothing is left over. */
static bt_status wire_end(const bt_rd *r, const char *what, bt_err *err)
{
    return r->ok && r->at == r->end ? BT_OK : wire_bad(err, what);
}

static void put_bool(bt_buf *b, bool v)
{
    bt_put_u8(b, v ? 1 : 0);
}

static bool get_bool(bt_rd *r)
{
    uint8_t v = bt_get_u8(r);
    if (v > 1) r->ok = false;
    return v == 1;
}

static int32_t get_range(bt_rd *r, int32_t low, int32_t high)
{
    int32_t v = bt_get_i32(r);
    if (v < low || v > high) r->ok = false;
    return r->ok ? v : low;
}

static float get_finite(bt_rd *r)
{
    float v = bt_get_f32(r);
    if (!isfinite(v)) r->ok = false;
    return r->ok ? v : 0;
}

static void put_string(bt_buf *b, const char *s)
{
    put_bool(b, s != NULL);
    if (s) bt_put_bytes(b, s, strlen(s));
}

/* NUL-terminated in the arena; NULL if none was sent or r is no longer ok. */
static char *get_string(bt_rd *r, bt_arena *arena, size_t max)
{
    size_t n = 0;
    if (!get_bool(r)) return NULL;
    const char *s = bt_get_bytes(r, max, &n);
    if (!r->ok || memchr(s, 0, n)) {
        r->ok = false;
        return NULL;
    }
    char *copy = bt_arena_strndup(arena, s, n);
    if (!copy) r->ok = false;
    return copy;
}

void bt_wire_put_options(bt_buf *b, const bt_engine_options *opt)
{
    size_t mark = bt_frame_begin(b, BT_WIRE_OPTIONS);
    put_string(b, opt->model_path);
    put_string(b, opt->device);
    put_string(b, opt->usage_path);
    put_string(b, opt->cost_dir);
    put_string(b, opt->quant);
    bt_put_i32(b, opt->threads);
    bt_put_i32(b, opt->slots);
    bt_put_i32(b, opt->ctx);
    bt_put_i32(b, opt->kv_tokens);
    bt_put_i32(b, opt->step_tokens);
    bt_put_i32(b, opt->step_ms);
    bt_put_i32(b, (int32_t)opt->kv_format);
    put_bool(b, opt->deterministic);
    put_bool(b, opt->share_prefix);
    bt_frame_end(b, mark);
}

bt_status bt_wire_get_options(bt_rd *r, bt_arena *arena, bt_engine_options *out, bt_err *err)
{
    bt_engine_options o = {0};
    o.model_path = get_string(r, arena, BT_WIRE_PATH_MAX);
    o.device = get_string(r, arena, BT_WIRE_NAME_MAX);
    o.usage_path = get_string(r, arena, BT_WIRE_PATH_MAX);
    o.cost_dir = get_string(r, arena, BT_WIRE_PATH_MAX);
    o.quant = get_string(r, arena, BT_WIRE_NAME_MAX);
    o.threads = get_range(r, 0, 4096);
    o.slots = get_range(r, 0, INT32_MAX);
    o.ctx = get_range(r, 0, INT32_MAX);
    o.kv_tokens = get_range(r, 0, INT32_MAX);
    o.step_tokens = get_range(r, 0, INT32_MAX);
    o.step_ms = get_range(r, 0, INT32_MAX);
    o.kv_format = (bt_kv_format)get_range(r, BT_KV_F16, BT_KV_FP8);
    o.deterministic = get_bool(r);
    o.share_prefix = get_bool(r);
    bt_status st = wire_end(r, "options", err);
    if (!st) *out = o;
    return st;
}

static void put_params(bt_buf *b, const bt_gen_params *p)
{
    bt_put_f32(b, p->temperature);
    bt_put_f32(b, p->top_p);
    bt_put_f32(b, p->min_p);
    bt_put_i32(b, p->top_k);
    bt_put_f32(b, p->repeat_penalty);
    bt_put_f32(b, p->freq_penalty);
    bt_put_f32(b, p->presence_penalty);
    bt_put_i32(b, p->repeat_last_n);
    bt_put_u64(b, p->seed);
    bt_put_i32(b, p->max_tokens);
    bt_put_i32(b, p->min_tokens);
    bt_put_i32(b, p->n_logprobs);
    put_bool(b, p->ignore_eos);
    put_bool(b, p->cache_prompt);
    put_bool(b, p->prompt_logprobs);
    bt_put_i32(b, p->n_bias);
    for (int32_t i = 0; i < p->n_bias; i++) {
        bt_put_i32(b, p->bias[i].token);
        bt_put_f32(b, p->bias[i].bias);
    }
    bt_put_i32(b, p->n_stop);
    for (int32_t i = 0; i < p->n_stop; i++) put_string(b, p->stop[i]);
}

static void get_bias(bt_rd *r, bt_arena *arena, bt_gen_params *p)
{
    p->n_bias = get_range(r, 0, BT_BIAS_MAX);
    if (p->n_bias == 0 || !bt_get_fits(r, (uint64_t)p->n_bias, 8)) return;
    bt_logit_bias *bias = bt_arena_alloc(arena, (size_t)p->n_bias * sizeof *bias);
    if (!bias) r->ok = false;
    for (int32_t i = 0; r->ok && i < p->n_bias; i++) {
        bias[i].token = bt_get_i32(r);
        bias[i].bias = bt_get_f32(r);
        if (isnan(bias[i].bias)) r->ok = false;
    }
    p->bias = bias;
}

static void get_stops(bt_rd *r, bt_arena *arena, bt_gen_params *p)
{
    p->n_stop = get_range(r, 0, BT_STOP_MAX);
    if (p->n_stop == 0) return;
    const char **stop = bt_arena_alloc(arena, (size_t)p->n_stop * sizeof *stop);
    if (!stop) r->ok = false;
    for (int32_t i = 0; r->ok && i < p->n_stop; i++) {
        stop[i] = get_string(r, arena, BT_STOP_BYTES_MAX);
        if (!stop[i]) r->ok = false;
    }
    p->stop = stop;
}

static void get_params(bt_rd *r, bt_arena *arena, bt_gen_params *p)
{
    p->temperature = get_finite(r);
    p->top_p = get_finite(r);
    p->min_p = get_finite(r);
    p->top_k = bt_get_i32(r);
    p->repeat_penalty = get_finite(r);
    p->freq_penalty = get_finite(r);
    p->presence_penalty = get_finite(r);
    p->repeat_last_n = get_range(r, -1, INT32_MAX);
    p->seed = bt_get_u64(r);
    p->max_tokens = get_range(r, 0, INT32_MAX);
    p->min_tokens = bt_get_i32(r);
    p->n_logprobs = get_range(r, -1, BT_TOP_LOGPROBS_MAX);
    p->ignore_eos = get_bool(r);
    p->cache_prompt = get_bool(r);
    p->prompt_logprobs = get_bool(r);
    get_bias(r, arena, p);
    get_stops(r, arena, p);
}

void bt_wire_put_submit(bt_buf *b, const bt_engine_request *req)
{
    size_t mark = bt_frame_begin(b, BT_WIRE_SUBMIT);
    bt_put_u64(b, req->id);
    bt_put_u64(b, req->salt);
    bt_put_i32(b, req->n_seq);
    bt_put_i32(b, req->lease.slot);
    bt_put_u32(b, req->lease.generation);
    bt_put_i64(b, req->lease.deadline_ns);
    bt_put_i64(b, req->lease.budget_us);
    put_bool(b, req->lease.budget_final);
    put_params(b, &req->params);
    bt_put_bytes(b, req->tokens, (size_t)req->n_tokens * sizeof *req->tokens);
    bt_frame_end(b, mark);
}

bt_status bt_wire_get_submit(bt_rd *r, bt_arena *arena, bt_engine_request *out, bt_err *err)
{
    bt_engine_request q = {0};
    size_t bytes = 0;
    q.id = bt_get_u64(r);
    q.salt = bt_get_u64(r);
    q.n_seq = get_range(r, 1, BT_SEQS_PER_REQUEST_MAX);
    q.lease.slot = bt_get_i32(r);
    q.lease.generation = bt_get_u32(r);
    q.lease.deadline_ns = bt_get_i64(r);
    q.lease.budget_us = bt_get_i64(r);
    q.lease.budget_final = get_bool(r);
    get_params(r, arena, &q.params);
    const void *tokens = bt_get_bytes(r, BT_WIRE_PROMPT_MAX * sizeof *q.tokens, &bytes);
    if (!r->ok || q.id == 0 || bytes == 0 || bytes % sizeof *q.tokens != 0)
        return wire_bad(err, "submit");
    int32_t *copy = bt_arena_alloc(arena, bytes);
    if (!copy) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a prompt");
    memcpy(copy, tokens, bytes);
    q.tokens = copy;
    q.n_tokens = (int32_t)(bytes / sizeof *q.tokens);
    bt_status st = wire_end(r, "submit", err);
    if (!st) *out = q;
    return st;
}

void bt_wire_put_cancel(bt_buf *b, uint64_t request, uint32_t generation, bt_finish why)
{
    size_t mark = bt_frame_begin(b, BT_WIRE_CANCEL);
    bt_put_u64(b, request);
    bt_put_u32(b, generation);
    bt_put_i32(b, (int32_t)why);
    bt_frame_end(b, mark);
}

void bt_wire_put_budget(bt_buf *b, uint64_t request, uint32_t generation, int64_t budget_us,
                        bool budget_final)
{
    size_t mark = bt_frame_begin(b, BT_WIRE_BUDGET);
    bt_put_u64(b, request);
    bt_put_u32(b, generation);
    bt_put_i64(b, budget_us);
    put_bool(b, budget_final);
    bt_frame_end(b, mark);
}

void bt_wire_put_release(bt_buf *b, uint64_t request)
{
    size_t mark = bt_frame_begin(b, BT_WIRE_RELEASE);
    bt_put_u64(b, request);
    bt_frame_end(b, mark);
}

void bt_wire_put_plain(bt_buf *b, bt_wire_type type)
{
    bt_frame_end(b, bt_frame_begin(b, (uint16_t)type));
}

bt_status bt_wire_get_command(uint16_t type, bt_rd *r, bt_wire_command *out, bt_err *err)
{
    bt_wire_command c = {0};
    switch (type) {
    case BT_WIRE_CANCEL:
        c.request = bt_get_u64(r);
        c.generation = bt_get_u32(r);
        c.why = (bt_finish)get_range(r, BT_FINISH_NONE + 1, BT_FINISH_COUNT - 1);
        break;
    case BT_WIRE_BUDGET:
        c.request = bt_get_u64(r);
        c.generation = bt_get_u32(r);
        c.budget_us = bt_get_i64(r);
        c.budget_final = get_bool(r);
        break;
    case BT_WIRE_RELEASE: c.request = bt_get_u64(r); break;
    case BT_WIRE_STOP:
    case BT_WIRE_PARK:
    case BT_WIRE_WAKE: break;
    default: return bt_err_set(err, BT_EIO, type, "the peer sent a frame of unknown type %d", type);
    }
    bt_status st = wire_end(r, "command", err);
    if (!st) *out = c;
    return st;
}
