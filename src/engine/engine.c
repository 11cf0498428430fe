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

/* Longest time worth spending on measurements before the first request. */
#define WARM_UP_US 20000.0
/* Weight bytes a CPU reads in a microsecond, roughly: only decides whether measuring is affordable
 * and stands in where it is not. */
#define GUESS_BYTES_PER_US 10000.0

static bt_status no_memory(bt_err *err)
{
    return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the engine's tables");
}

static bt_status alloc_seats(bt_engine *e, bt_err *err)
{
    const bt_device_plan *p = &e->plan;
    int32_t pages = (p->ctx + p->page_tokens - 1) / p->page_tokens;
    e->seat = bt_calloc((size_t)e->slots, sizeof *e->seat);
    e->request = bt_calloc((size_t)e->slots, sizeof *e->request);
    if (!e->seat || !e->request) return no_memory(err);
    for (int32_t i = 0; i < e->slots; i++) {
        bt_seat *s = &e->seat[i];
        s->token = bt_calloc((size_t)p->ctx, sizeof *s->token);
        s->page = bt_calloc((size_t)pages, sizeof *s->page);
        e->request[i].own_bias = bt_calloc(BT_BIAS_MAX, sizeof(bt_logit_bias));
        if (!s->token || !s->page || !e->request[i].own_bias) return no_memory(err);
        bt_status status = bt_window_init(&s->window, BT_MIN(p->ctx, e->vocab_limit), err);
        if (status) return status;
    }
    return BT_OK;
}

static bt_status alloc_batch(bt_engine *e, bt_err *err)
{
    size_t rows = (size_t)e->plan.rows_max, outs = (size_t)e->plan.out_max, seqs = (size_t)e->slots;
    e->token = bt_calloc(rows, sizeof *e->token);
    e->pos = bt_calloc(rows, sizeof *e->pos);
    e->row_seq = bt_calloc(rows, sizeof *e->row_seq);
    e->out_row = bt_calloc(outs, sizeof *e->out_row);
    e->sample = bt_calloc(outs, sizeof *e->sample);
    e->out = bt_calloc(outs, sizeof *e->out);
    e->batch_seq = bt_calloc(seqs, sizeof *e->batch_seq);
    e->batch_seat = bt_calloc(seqs, sizeof *e->batch_seat);
    e->share = bt_calloc(seqs, sizeof *e->share);
    bool ok = e->token && e->pos && e->row_seq && e->out_row && e->sample && e->out &&
              e->batch_seq && e->batch_seat && e->share;
    return ok ? BT_OK : no_memory(err);
}

/* ---- first measurements ---- */

/* One step of n rows at the start of a throw-away sequence in the given pages; *best_us keeps the
 * least of what it took. */
static bt_status warm_up_step(bt_engine *e, const int32_t *pages, int32_t n, double *best_us,
                              bt_err *err)
{
    bt_batch_seq seq = {pages, 0, n, n};
    bt_sample_req sample = {.top_p = 1, .repeat_penalty = 1, .n_logprobs = -1, .forced = -1};
    sample.vocab = e->vocab_limit;
    for (int32_t i = 0; i < n; i++) {
        e->token[i] = i % e->vocab_limit;
        e->pos[i] = i;
        e->row_seq[i] = 0;
    }
    e->out_row[0] = n - 1;
    bt_batch batch = {n, 1, 1, e->token, e->pos, e->row_seq, &seq, e->out_row};
    uint64_t busy_us = 0;
    bt_status status =
        bt_forward(e->backend, e->dev, e->recipe, &batch, &sample, e->out, &busy_us, err);
    if (status) return status;
    bt_books_charge_house(&e->books, busy_us);
    *best_us = fmin(*best_us, (double)busy_us);
    return BT_OK;
}

/* Measures a few small steps where that is cheap, so that the first chunk and the first estimates
 * are already about right; else guesses from the size of the weights. The best of some rounds
 * counts: the first pays for cold caches and untouched memory. */
static bt_status warm_up(bt_engine *e, uint64_t weights_bytes, bt_err *err)
{
    enum { FEW = 4, MORE = 16, ROUNDS = 4, PAGES = MORE };
    double guess = (double)weights_bytes / GUESS_BYTES_PER_US;
    bt_cost_init(&e->cost, guess);
    int32_t pages[PAGES], n_pages = (MORE + e->plan.page_tokens - 1) / e->plan.page_tokens;
    if (guess * 4 > WARM_UP_US || MORE > e->plan.ctx || MORE > e->plan.rows_max ||
        n_pages > e->plan.n_pages)
        return BT_OK;
    for (int32_t i = 0; i < n_pages; i++) pages[i] = bt_kv_take(&e->kv);
    double one_us = WARM_UP_US, few_us = WARM_UP_US, more_us = WARM_UP_US;
    int64_t until = bt_now_ns() + (int64_t)(WARM_UP_US * 500);
    bt_status status = BT_OK;
    for (int32_t i = 0; !status && i < ROUNDS && (i == 0 || bt_now_ns() < until); i++) {
        status = warm_up_step(e, pages, 1, &one_us, err);
        if (!status) status = warm_up_step(e, pages, FEW, &few_us, err);
        if (!status) status = warm_up_step(e, pages, MORE, &more_us, err);
    }
    for (int32_t i = 0; i < n_pages; i++) bt_kv_unref(&e->kv, pages[i]);
    if (!status) bt_cost_fit(&e->cost, one_us, FEW, few_us, MORE, more_us);
    bt_books_publish(&e->books);
    return status;
}

/* ---- open ---- */

typedef struct load_sink {
    bt_engine_sink sink;
    void *ud;
} load_sink;

static void load_progress(void *ud, uint64_t done, uint64_t total)
{
    const load_sink *l = ud;
    bt_engine_event ev = {.type = BT_EE_LOAD};
    ev.u.load.done = done;
    ev.u.load.total = total;
    l->sink(l->ud, &ev);
}

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
    ev.u.ready.boot = e->books.boot;
    ev.u.ready.device = "cpu0";
    ev.u.ready.name = parts->name ? parts->name : "";
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
    bt_status status = check_plan(parts, err);
    if (status) return status;
    e->backend = parts->backend;
    e->recipe = parts->recipe;
    e->vocab = parts->vocab;
    e->plan = parts->plan;
    e->slots = parts->plan.seqs_max;
    e->vocab_limit = BT_MIN(bt_vocab_size(e->vocab), e->recipe->vocab);
    e->step_us = 1000.0 * (opt->step_ms > 0 ? opt->step_ms : BT_ENGINE_STEP_MS_DEFAULT);
    e->share_prefix = opt->share_prefix;
    e->auto_release = !opt->usage_path;
    status = bt_kv_init(&e->kv, e->plan.n_pages, e->plan.page_tokens, err);
    if (!status) status = alloc_seats(e, err);
    if (!status) status = alloc_batch(e, err);
    if (!status) status = bt_books_open(&e->books, opt->usage_path, err);
    if (status) return status;
    load_sink load = {e->sink, e->ud};
    status =
        e->backend->open(e->recipe, parts->weights, &e->plan, load_progress, &load, &e->dev, err);
    if (status) return status;
    uint64_t weights = 0, kv = 0, scratch = 0;
    e->backend->bytes(e->recipe, parts->weights, &e->plan, &weights, &kv, &scratch);
    status = warm_up(e, weights, err);
    if (!status) emit_ready(e, parts);
    return status;
}

bt_status bt_engine_open_parts(const bt_engine_parts *parts, const bt_engine_options *opt,
                               bt_engine_sink sink, void *ud, bt_engine **out, bt_err *err)
{
    bt_engine *e = bt_calloc(1, sizeof *e);
    if (!e) return no_memory(err);
    e->sink = sink;
    e->ud = ud;
    bt_status status = engine_open_inner(e, parts, opt, err);
    if (status)
        bt_engine_close(e);
    else
        *out = e;
    return status;
}

void bt_engine_close(bt_engine *e)
{
    if (!e) return;
    if (e->dev) e->backend->close(e->dev);
    for (int32_t i = 0; e->seat && i < e->slots; i++) {
        bt_decoder_close(e->seat[i].decoder);
        bt_window_release(&e->seat[i].window);
        bt_free(e->seat[i].token);
        bt_free(e->seat[i].page);
        if (e->request) bt_free(e->request[i].own_bias);
    }
    bt_free(e->seat);
    bt_free(e->request);
    bt_free(e->token);
    bt_free(e->pos);
    bt_free(e->row_seq);
    bt_free(e->out_row);
    bt_free(e->sample);
    bt_free(e->out);
    bt_free(e->batch_seq);
    bt_free(e->batch_seat);
    bt_free(e->share);
    bt_kv_release(&e->kv);
    bt_books_close(&e->books);
    bt_vocab_close(e->own_vocab);
    bt_model_close(e->own_model);
    bt_free(e);
}

const bt_vocab *bt_engine_vocab(const bt_engine *e)
{
    return e->vocab;
}
