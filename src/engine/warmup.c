/* SPDX-License-Identifier: Apache-2.0 */
/* warmup.c - the step-cost model's first measurements.
 *
 * Where it is cheap, a few small steps are measured before the engine is ready, so that the first
 * chunk and the first estimates are already about right; else they are guessed from the size of
 * the weights. The best of some rounds counts: the first pays for cold caches, untouched memory and
 * captured graphs. How far the model is off on a step it was not made from goes to the log.
 *
 * What was measured, and learnt since, is kept in a file for the next start of the same model on
 * the same device: then a few steps are measured, and all of them only where it shows that the file
 * no longer holds. */
#include "engine/engine_internal.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/forward.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROUNDS = 4 };
#define KEPT_HOLDS 0.3 // how far a kept model may be off

void bt__engine_cost_name(bt_engine *e, const char *dir, const char *model, uint64_t weights_bytes)
{
    char text[512];
    const bt_device_plan *p = &e->plan;
    if (!dir || !e->backend->label) return;
    int n = snprintf(text, sizeof text, "%s|%s|%s|%" PRIu64 "|%d|%d|%d|%d", BATON_VERSION,
                     e->backend->label(e->dev), model ? model : "", weights_bytes, p->threads,
                     p->rows_max, (int)p->kv_format, p->deterministic);
    e->cost_key = bt_hash(text, (size_t)BT_MIN(n, (int)sizeof text - 1), 1);
    n = snprintf(e->cost_path, sizeof e->cost_path, "%s/step-cost-%016" PRIx64, dir, e->cost_key);
    if (n >= (int)sizeof e->cost_path) e->cost_path[0] = 0;
}

void bt__engine_cost_keep(bt_engine *e)
{
    if (!e->cost_path[0] || e->faulted || e->cost.n_seen == 0) return;
    if (!bt_cost_save(e->cost_path, e->cost_key, &e->cost))
        bt_log(BT_LOG_WARN, "engine.cost_not_kept", "file=%s", e->cost_path);
}

/* One step of n rows at the start of a throw-away sequence in the given pages; *best_us keeps the
 * least of what it took. */
static bt_status warm_up_step(bt_engine *e, const int32_t *pages, int32_t n, double *best_us,
                              bt_err *err)
{
    bt_batch_seq seq = {pages, 0, n, n};
    bt_sample_req sample = {.top_p = 1, .repeat_penalty = 1, .n_logprobs = -1, .forced = -1};
    sample.vocab = e->vocab_limit;
    bt_step *st = &e->step[0];
    for (int32_t i = 0; i < n; i++) {
        st->token[i] = i % e->vocab_limit;
        st->pos[i] = i;
        st->row_seq[i] = 0;
    }
    st->out_row[0] = n - 1;
    bt_batch batch = {n, 1, 1, st->token, st->pos, st->row_seq, &seq, st->out_row};
    uint64_t busy_us = 0;
    bt_status status =
        bt_forward(e->backend, e->dev, e->recipe, &batch, &sample, st->out, &busy_us, err);
    if (status) return status;
    bt_meter_charge_house(&e->meter, busy_us);
    *best_us = fmin(*best_us, (double)busy_us);
    return BT_OK;
}

/* How far the model is off on a prompt of n rows, which it was not made from: -0.2 is 20% below. */
static double error_of(const bt_engine *e, int32_t n, double took_us)
{
    bt_cost_work work = {.prefill_rows = n, .kv_reads = bt_cost_reads(0, n), .n_seqs = 1};
    return bt_cost_predict(&e->cost, &work) / took_us - 1;
}

static void tell(const bt_engine *e, int32_t n, double took_us, bool kept)
{
    bt_log(BT_LOG_INFO, "engine.calibrated",
           "decode_us=%.0f prefill_us_per_token=%.2f rows=%d error_percent=%.0f kept=%d",
           e->cost.decode_row + e->cost.fixed, e->cost.prefill_row, n,
           100 * error_of(e, n, took_us), kept);
}

/* Whether what was kept is there and still holds, by two steps: the first pays for cold caches. One
 * decode step comes before: a device loads its kernels when they are first used, and what memory
 * they lack is better missed now. */
static bt_status try_kept(bt_engine *e, const int32_t *pages, int32_t n, bool *holds, bt_err *err)
{
    double took_us = INFINITY, one_us = INFINITY;
    *holds = false;
    if (!e->cost_path[0] || !bt_cost_load(e->cost_path, e->cost_key, &e->cost)) return BT_OK;
    bt_status st = warm_up_step(e, pages, 1, &one_us, err);
    if (!st) st = warm_up_step(e, pages, n, &took_us, err);
    if (!st) st = warm_up_step(e, pages, n, &took_us, err);
    *holds = !st && fabs(error_of(e, n, took_us)) <= KEPT_HOLDS;
    if (*holds) tell(e, n, took_us, true);
    return st;
}

static bt_status measure(bt_engine *e, const int32_t *pages, int32_t few, int32_t more, bt_err *err)
{
    double one_us = INFINITY, few_us = INFINITY, more_us = INFINITY, check_us = INFINITY;
    int64_t until = bt_now_ns() + (int64_t)(e->backend->warm_up_us * 500);
    bt_status st = BT_OK;
    for (int32_t i = 0; !st && i < ROUNDS && (i == 0 || bt_now_ns() < until); i++) {
        st = warm_up_step(e, pages, 1, &one_us, err);
        if (!st) st = warm_up_step(e, pages, few, &few_us, err);
        if (!st) st = warm_up_step(e, pages, more, &more_us, err);
        if (!st) st = warm_up_step(e, pages, (few + more) / 2, &check_us, err);
    }
    if (st) return st;
    bt_cost_fit(&e->cost, one_us, few, few_us, more, more_us);
    tell(e, (few + more) / 2, check_us, false);
    if (e->cost_path[0]) bt_cost_save(e->cost_path, e->cost_key, &e->cost);
    return BT_OK;
}

bt_status bt__engine_warm_up(bt_engine *e, uint64_t weights_bytes, bt_err *err)
{
    double guess = (double)weights_bytes / e->backend->bytes_per_us;
    int32_t tokens = e->plan.page_tokens;
    int32_t most = BT_MIN(BT_MIN(e->backend->warm_up_rows, e->plan.rows_max), e->plan.ctx);
    int32_t more = BT_MIN(most, e->plan.n_pages * tokens), n_pages = (more + tokens - 1) / tokens;
    bt_cost_init(&e->cost, guess);
    if (guess * ROUNDS > e->backend->warm_up_us || more < 8) {
        if (e->cost_path[0]) bt_cost_load(e->cost_path, e->cost_key, &e->cost);
        return BT_OK;
    }
    int32_t *pages = bt_malloc((size_t)n_pages * sizeof *pages);
    if (!pages) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the engine's tables");
    for (int32_t i = 0; i < n_pages; i++) pages[i] = bt_kv_take(&e->kv);
    bool holds = false;
    bt_status st = try_kept(e, pages, (more / 4 + more) / 2, &holds, err);
    if (!st && !holds) st = measure(e, pages, more / 4, more, err);
    for (int32_t i = 0; i < n_pages; i++) bt_kv_unref(&e->kv, pages[i]);
    bt_free(pages);
    bt_meter_publish(&e->meter);
    return st;
}
