/* SPDX-License-Identifier: Apache-2.0 */
/* warmup.c - the step-cost model's first measurements.
 *
 * Where it is cheap, a few small steps are measured before the engine is ready, so that the first
 * chunk and the first estimates are already about right; else they are guessed from the size of
 * the weights. The best of some rounds counts: the first pays for cold caches, untouched memory and
 * captured graphs. How far the model is off on a step it was not made from goes to the log. */
#include "engine/engine_internal.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/forward.h"
#include <math.h>

enum { ROUNDS = 4 };

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
    bt_books_charge_house(&e->books, busy_us);
    *best_us = fmin(*best_us, (double)busy_us);
    return BT_OK;
}

static bt_status measure(bt_engine *e, const int32_t *pages, int32_t few, int32_t more, bt_err *err)
{
    double one_us = INFINITY, few_us = INFINITY, more_us = INFINITY, check_us = INFINITY;
    int64_t until = bt_now_ns() + (int64_t)(e->backend->warm_up_us * 500);
    bt_status status = BT_OK;
    for (int32_t i = 0; !status && i < ROUNDS && (i == 0 || bt_now_ns() < until); i++) {
        status = warm_up_step(e, pages, 1, &one_us, err);
        if (!status) status = warm_up_step(e, pages, few, &few_us, err);
        if (!status) status = warm_up_step(e, pages, more, &more_us, err);
        if (!status) status = warm_up_step(e, pages, (few + more) / 2, &check_us, err);
    }
    if (status) return status;
    bt_cost_fit(&e->cost, one_us, few, few_us, more, more_us);
    int32_t n = (few + more) / 2;
    bt_cost_work work = {.prefill_rows = n, .kv_reads = bt_cost_reads(0, n), .n_seqs = 1};
    bt_log(BT_LOG_INFO, "engine.calibrated",
           "decode_us=%.0f prefill_us_per_token=%.2f rows=%d error_percent=%.0f", one_us,
           e->cost.prefill_row, n, 100 * (bt_cost_predict(&e->cost, &work) / check_us - 1));
    return BT_OK;
}

bt_status bt_engine_warm_up(bt_engine *e, uint64_t weights_bytes, bt_err *err)
{
    double guess = (double)weights_bytes / e->backend->bytes_per_us;
    int32_t tokens = e->plan.page_tokens;
    int32_t most = BT_MIN(BT_MIN(e->backend->warm_up_rows, e->plan.rows_max), e->plan.ctx);
    int32_t more = BT_MIN(most, e->plan.n_pages * tokens), n_pages = (more + tokens - 1) / tokens;
    bt_cost_init(&e->cost, guess);
    if (guess * ROUNDS > e->backend->warm_up_us || more < 8) return BT_OK;
    int32_t *pages = bt_malloc((size_t)n_pages * sizeof *pages);
    if (!pages) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the engine's tables");
    for (int32_t i = 0; i < n_pages; i++) pages[i] = bt_kv_take(&e->kv);
    bt_status status = measure(e, pages, more / 4, more, err);
    for (int32_t i = 0; i < n_pages; i++) bt_kv_unref(&e->kv, pages[i]);
    bt_free(pages);
    bt_books_publish(&e->books);
    return status;
}
