/* SPDX-License-Identifier: Apache-2.0 */
/* engine.c - opens an engine from its parts (tables, device, first measurements) and closes it. */
#include "engine/engine_internal.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "engine/forward.h"
#include "model/model.h"
#include <math.h>
#include <string.h>

static bt_status no_memory(bt_err *err)
{
    return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the engine's tables");
}

static bt_status alloc_slots(bt_engine *e, bt_err *err)
{
    const bt_device_plan *p = &e->plan;
    int32_t pages = (p->ctx + p->page_tokens - 1) / p->page_tokens;
    e->slot = bt_calloc((size_t)e->slots, sizeof *e->slot);
    e->request = bt_calloc((size_t)e->slots, sizeof *e->request);
    if (!e->slot || !e->request) return no_memory(err);
    for (int32_t i = 0; i < e->slots; i++) {
        bt_slot *s = &e->slot[i];
        s->token = bt_calloc((size_t)p->ctx, sizeof *s->token);
        s->page = bt_calloc((size_t)pages, sizeof *s->page);
        e->request[i].own_bias = bt_calloc(BT_BIAS_MAX, sizeof(bt_logit_bias));
        if (!s->token || !s->page || !e->request[i].own_bias) return no_memory(err);
        bt_status st = bt_window_init(&s->window, BT_MIN(p->ctx, e->vocab_limit), err);
        if (st) return st;
    }
    return BT_OK;
}

static bt_status alloc_step(bt_engine *e, bt_step *st, bt_err *err)
{
    size_t rows = (size_t)e->plan.rows_max, outs = (size_t)e->plan.out_max, seqs = (size_t)e->slots;
    st->token = bt_calloc(rows, sizeof *st->token);
    st->pos = bt_calloc(rows, sizeof *st->pos);
    st->row_seq = bt_calloc(rows, sizeof *st->row_seq);
    st->out_row = bt_calloc(outs, sizeof *st->out_row);
    st->sample = bt_calloc(outs, sizeof *st->sample);
    st->out = bt_calloc(outs, sizeof *st->out);
    st->seq = bt_calloc(seqs, sizeof *st->seq);
    st->part = bt_calloc(seqs, sizeof *st->part);
    bool ok = st->token && st->pos && st->row_seq && st->out_row && st->sample && st->out &&
              st->seq && st->part;
    return ok ? BT_OK : no_memory(err);
}

static void free_step(bt_step *st)
{
    bt_free(st->token);
    bt_free(st->pos);
    bt_free(st->row_seq);
    bt_free(st->out_row);
    bt_free(st->sample);
    bt_free(st->out);
    bt_free(st->seq);
    bt_free(st->part);
}

static bt_status alloc_steps(bt_engine *e, bt_err *err)
{
    bt_status st = BT_OK;
    e->share = bt_calloc((size_t)e->slots, sizeof *e->share);
    if (!e->share) return no_memory(err);
    for (int32_t i = 0; !st && i < BT_ENGINE_STEPS; i++) st = alloc_step(e, &e->step[i], err);
    return st;
}

/* ---- open ---- */

static void emit_ready(bt_engine *e, const bt_engine_parts *parts)
{
    uint64_t weights = 0, kv = 0, scratch = 0;
    bt_engine_event ev = {.type = BT_EE_READY};
    e->backend->bytes(e->recipe, parts->weights, &e->plan, &weights, &kv, &scratch);
    int32_t n_eos = 0;
    const int32_t *eos = bt_vocab_eos(e->vocab, &n_eos);
    ev.u.ready.vocab = e->vocab_limit;
    ev.u.ready.ctx = e->plan.ctx;
    ev.u.ready.slots = e->slots;
    ev.u.ready.n_pages = e->plan.n_pages;
    ev.u.ready.page_tokens = e->plan.page_tokens;
    ev.u.ready.rows_max = e->plan.rows_max;
    ev.u.ready.weights_bytes = weights;
    ev.u.ready.kv_bytes = kv;
    ev.u.ready.scratch_bytes = scratch;
    ev.u.ready.boot = e->meter.boot;
    ev.u.ready.device = e->backend->label ? e->backend->label(e->dev) : e->backend->name;
    ev.u.ready.device_id = e->backend->driver_id ? e->backend->driver_id(e->dev) : "";
    ev.u.ready.name = parts->name ? parts->name : "";
    ev.u.ready.can_park = e->backend->park != NULL;
    ev.u.ready.eos = n_eos > 0 ? eos[0] : -1;
    ev.u.ready.prefill_us_per_token = (float)e->cost.prefill_row;
    ev.u.ready.decode_us_per_token = (float)(e->cost.decode_row + e->cost.fixed);
    e->sink(e->ud, &ev);
}

static bt_status check_plan(const bt_engine_parts *parts, bt_err *err)
{
    const bt_device_plan *p = &parts->plan;
    if (p->seqs_max < 1 || p->seqs_max > BT_ENGINE_SLOTS_MAX)
        return bt_err_set(err, BT_EINVAL, 0, "slots must be between 1 and %d", BT_ENGINE_SLOTS_MAX);
    if (p->ctx < 1 || p->rows_max < 1 || p->page_tokens < 1 || p->n_pages < 1 || p->out_max < 1 ||
        p->out_max < BT_MIN(p->rows_max, p->seqs_max))
        return bt_err_set(err, BT_EINTERNAL, 0, "the device plan is not usable");
    return BT_OK;
}

static bt_status engine_open_inner(bt_engine *e, const bt_engine_parts *parts,
                                   const bt_engine_options *opt, bt_err *err)
{
    bt_status st = check_plan(parts, err);
    if (st) return st;
    e->backend = parts->backend;
    e->recipe = parts->recipe;
    e->vocab = parts->vocab;
    e->plan = parts->plan;
    e->slots = parts->plan.seqs_max;
    e->vocab_limit = BT_MIN(bt_vocab_size(e->vocab), e->recipe->vocab);
    e->step_us = 1000.0 * (opt->step_ms > 0 ? opt->step_ms : BT_ENGINE_STEP_MS_DEFAULT);
    e->share_prefix = opt->share_prefix;
    e->auto_release = !opt->usage_path;
    st = bt_kv_init(&e->kv, e->plan.n_pages, e->plan.page_tokens, err);
    if (!st) st = alloc_slots(e, err);
    if (!st) st = alloc_steps(e, err);
    if (!st) st = bt_meter_open(&e->meter, opt->usage_path, err);
    if (st) return st;
    st = e->backend->open(e->recipe, parts->weights, &e->plan, bt__emit_load, e, &e->dev, err);
    if (st) return st;
    uint64_t weights = 0, kv = 0, scratch = 0;
    e->backend->bytes(e->recipe, parts->weights, &e->plan, &weights, &kv, &scratch);
    bt__engine_cost_name(e, opt->cost_dir, parts->name, weights);
    st = bt__engine_warm_up(e, weights, err);
    if (!st) emit_ready(e, parts);
    return st;
}

bt_status bt_engine_open_parts(const bt_engine_parts *parts, const bt_engine_options *opt,
                               bt_engine_sink sink, void *ud, bt_engine **out, bt_err *err)
{
    bt_engine *e = bt_calloc(1, sizeof *e);
    if (!e) return no_memory(err);
    e->sink = sink;
    e->ud = ud;
    bt_status st = engine_open_inner(e, parts, opt, err);
    if (st)
        bt_engine_close(e);
    else
        *out = e;
    return st;
}

void bt_engine_close(bt_engine *e)
{
    if (!e) return;
    bt__engine_cost_keep(e);
    if (e->dev) e->backend->close(e->dev);
    for (int32_t i = 0; e->slot && i < e->slots; i++) {
        bt_decoder_close(e->slot[i].decoder);
        bt_window_release(&e->slot[i].window);
        bt_free(e->slot[i].token);
        bt_free(e->slot[i].page);
        if (e->request) bt_free(e->request[i].own_bias);
    }
    bt_free(e->slot);
    bt_free(e->request);
    for (int32_t i = 0; i < BT_ENGINE_STEPS; i++) free_step(&e->step[i]);
    bt_free(e->share);
    bt_kv_release(&e->kv);
    bt_meter_close(&e->meter);
    bt_vocab_close(e->own_vocab);
    bt_model_close(e->own_model);
    bt_free(e);
}
