/* SPDX-License-Identifier: Apache-2.0 */
/* fake_backend.h - a device without arithmetic: logits are a hash of the token history as it stands
 * in the KV pages, so a wrong page, position or order of writing changes every token after it.
 *
 * Scripted: the device time of a step, real latency, failure of the n-th call, logits that turn NaN
 * after a given token. fake_expect() computes the same tokens from the history alone. */
#pragma once
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "baton/backend.h"
#include "kernels/sample.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAKE_LAYERS = 2, FAKE_VOCAB = 512 };

typedef struct fake_cell {
    uint64_t token;
    int32_t pos;
} fake_cell;

struct bt_device {
    bt_device_plan plan;
    fake_cell *cell;   // [n_pages * page_tokens]
    bt_batch batch;    // borrowed for the step
    uint64_t *history; // [out_max]
    float *logits;     // [FAKE_VOCAB]
    void *scratch;
};

static struct fake_script {
    long calls, fail_at; // the fail_at-th call from 1 fails; 0 = none
    uint64_t us_fixed, us_row;
    int64_t sleep_ns;  // real time a step takes
    int32_t nan_token; // a history that ends with it has NaN logits; 0 = none
    long wrong;        // reads of KV cells that do not hold what they should
    int32_t open_devices;
    int32_t rows_seen, steps_seen, rows_most, seqs_most;
    uint64_t busy_us;
} fake = {.us_fixed = 100, .us_row = 10};

static inline void fake_reset(void)
{
    fake = (struct fake_script){.us_fixed = 100, .us_row = 10};
}

static inline bt_status fake_call(bt_err *err, const char *name)
{
    fake.calls++;
    if (fake.fail_at && fake.calls == fake.fail_at)
        return bt_err_set(err, BT_EDEVICE, 0, "scripted failure of %s", name);
    return BT_OK;
}

static inline uint64_t fake_fold(uint64_t history, int32_t token)
{
    return bt_hash_u64(history * 31 + (uint64_t)token + 1);
}

static inline void fake_logits_of(uint64_t history, int32_t last_token, float *logits)
{
    for (int32_t i = 0; i < FAKE_VOCAB; i++)
        logits[i] = (float)(bt_hash_u64(history ^ bt_hash_u64((uint64_t)i + 77)) >> 40) * 0x1p-21f;
    if (fake.nan_token && last_token == fake.nan_token) logits[3] = NAN;
}

static inline bt_status fake_open(const bt_recipe *recipe, const bt_weights *weights,
                                  const bt_device_plan *plan, bt_load_progress progress, void *ud,
                                  bt_device **out, bt_err *err)
{
    (void)recipe;
    (void)weights;
    bt_status status = fake_call(err, "open");
    if (status) return status;
    /* Plain malloc: the n-th allocation to fail is always one of the engine's own. */
    bt_device *d = calloc(1, sizeof *d);
    bt_must(d);
    d->plan = *plan;
    d->cell = bt_must(calloc((size_t)plan->n_pages * (size_t)plan->page_tokens, sizeof *d->cell));
    d->history = bt_must(calloc((size_t)plan->out_max, sizeof *d->history));
    d->logits = bt_must(calloc(FAKE_VOCAB, sizeof *d->logits));
    d->scratch = bt_must(aligned_alloc(64, bt_sample_scratch_bytes(FAKE_VOCAB)));
    progress(ud, 50, 100);
    progress(ud, 100, 100);
    fake.open_devices++;
    *out = d;
    return BT_OK;
}

static inline void fake_close(bt_device *d)
{
    if (!d) return;
    free(d->cell);
    free(d->history);
    free(d->logits);
    free(d->scratch);
    free(d);
    fake.open_devices--;
}

static inline void fake_bytes(const bt_recipe *recipe, const bt_weights *weights,
                              const bt_device_plan *plan, uint64_t *w, uint64_t *kv,
                              uint64_t *scratch)
{
    (void)recipe;
    (void)weights;
    *w = 1000000;
    *kv = (uint64_t)plan->n_pages * 64;
    *scratch = 4096;
}

static inline fake_cell *fake_at(bt_device *d, const int32_t *pages, int32_t pos)
{
    int32_t page = pages[pos / d->plan.page_tokens];
    if (page < 0 || page >= d->plan.n_pages) {
        fprintf(stderr, "fake backend: page %d does not exist\n", page);
        abort();
    }
    return &d->cell[page * d->plan.page_tokens + pos % d->plan.page_tokens];
}

/* What a backend may rely on, checked the hard way. */
static inline void fake_check_batch(const bt_device *d, const bt_batch *b)
{
    int32_t row = 0, last_out = -1;
    bool ok = b->n_rows > 0 && b->n_rows <= d->plan.rows_max && b->n_seqs <= d->plan.seqs_max &&
              b->n_out <= d->plan.out_max;
    for (int32_t i = 0; ok && i < b->n_seqs; i++) {
        const bt_batch_seq *s = &b->seqs[i];
        ok = s->first_row == row && s->n_rows > 0 && s->kv_len <= d->plan.ctx;
        for (int32_t k = 0; ok && k < s->n_rows; k++, row++)
            ok = b->row_seq[row] == i && b->pos[row] == s->kv_len - s->n_rows + k;
    }
    for (int32_t i = 0; ok && i < b->n_out; i++) {
        ok = b->out_row[i] > last_out && b->out_row[i] < b->n_rows;
        last_out = b->out_row[i];
    }
    if (ok && row == b->n_rows) return;
    fprintf(stderr, "fake backend: the batch is not well formed\n");
    abort();
}

static inline bt_status fake_step_begin(bt_device *d, const bt_batch *b, bt_err *err)
{
    bt_status status = fake_call(err, "step_begin");
    if (status) return status;
    fake_check_batch(d, b);
    d->batch = *b;
    fake.rows_seen += b->n_rows;
    fake.steps_seen++;
    if (b->n_rows > fake.rows_most) fake.rows_most = b->n_rows;
    if (b->n_seqs > fake.seqs_most) fake.seqs_most = b->n_seqs;
    return BT_OK;
}

static inline bt_status fake_embed(bt_device *d, bt_err *err)
{
    (void)d;
    return fake_call(err, "embed");
}

static inline bt_status fake_attn_in(bt_device *d, int32_t layer, bt_err *err)
{
    bt_status status = fake_call(err, "attn_in");
    for (int32_t row = 0; !status && layer == 0 && row < d->batch.n_rows; row++) {
        const bt_batch_seq *s = &d->batch.seqs[d->batch.row_seq[row]];
        *fake_at(d, s->pages, d->batch.pos[row]) =
            (fake_cell){(uint64_t)d->batch.token[row], d->batch.pos[row]};
    }
    return status;
}

static inline bt_status fake_attention(bt_device *d, int32_t layer, bt_err *err)
{
    bt_status status = fake_call(err, "attention");
    for (int32_t i = 0; !status && layer == 0 && i < d->batch.n_out; i++) {
        int32_t row = d->batch.out_row[i];
        const bt_batch_seq *s = &d->batch.seqs[d->batch.row_seq[row]];
        d->history[i] = 0;
        for (int32_t pos = 0; pos <= d->batch.pos[row]; pos++) {
            const fake_cell *c = fake_at(d, s->pages, pos);
            if (c->pos != pos) fake.wrong++;
            d->history[i] = fake_fold(d->history[i], (int32_t)c->token);
        }
    }
    return status;
}

static inline bt_status fake_attn_out(bt_device *d, int32_t layer, bt_err *err)
{
    (void)d;
    (void)layer;
    return fake_call(err, "attn_out");
}

static inline bt_status fake_mlp(bt_device *d, int32_t layer, bt_err *err)
{
    (void)d;
    (void)layer;
    return fake_call(err, "mlp");
}

static inline bt_status fake_head(bt_device *d, bt_err *err)
{
    (void)d;
    return fake_call(err, "head");
}

static inline bt_status fake_sample(bt_device *d, const bt_sample_req *reqs, bt_sample_out *outs,
                                    bt_err *err)
{
    bt_status status = fake_call(err, "sample");
    for (int32_t i = 0; !status && i < d->batch.n_out; i++) {
        fake_logits_of(d->history[i], d->batch.token[d->batch.out_row[i]], d->logits);
        bt_sample_run(&reqs[i], d->logits, FAKE_VOCAB, d->scratch, &outs[i]);
    }
    return status;
}

static inline bt_status fake_step_end(bt_device *d, uint64_t *busy_us, bt_err *err)
{
    bt_status status = fake_call(err, "step_end");
    if (status) return status;
    bt_sleep_ns(fake.sleep_ns);
    *busy_us = fake.us_fixed + fake.us_row * (uint64_t)d->batch.n_rows;
    fake.busy_us += *busy_us;
    return BT_OK;
}

static inline bt_status fake_logits(bt_device *d, int32_t i, float *dst, bt_err *err)
{
    (void)err;
    fake_logits_of(d->history[i], 0, dst);
    return BT_OK;
}

static const bt_backend fake_backend = {"fake",          fake_open,  fake_close,   fake_bytes,
                                        fake_step_begin, fake_embed, fake_attn_in, fake_attention,
                                        fake_attn_out,   fake_mlp,   fake_head,    fake_sample,
                                        fake_step_end,   fake_logits};

/* The next token of a history, greedy and without any option. */
static inline int32_t fake_next_greedy(const int32_t *tokens, int32_t n)
{
    static float logits[FAKE_VOCAB];
    uint64_t history = 0;
    for (int32_t i = 0; i < n; i++) history = fake_fold(history, tokens[i]);
    fake_logits_of(history, 0, logits);
    int32_t best = 0;
    for (int32_t i = 1; i < FAKE_VOCAB; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}
