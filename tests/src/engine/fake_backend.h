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
#include "kernels/sample/sample.h"
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
    fake_cell *cell; // [n_pages * page_tokens]
    bt_batch batch;  // borrowed for the step
    int32_t *token;  // [rows_max] of the step, those drawn by the step before filled in
    int32_t *drawn;  // [out_max] by the newest step
    int32_t n_drawn;
    struct fake_flight {
        bt_sample_out *out, *dst; // [out_max]; dst gets them when the step ends
        int32_t n_out, n_rows;
    } flight[2];
    int32_t first, n_flight;
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
    int32_t flights_most;
    bool parked, no_room, park_fails;
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
    d->token = bt_must(calloc((size_t)plan->rows_max, sizeof *d->token));
    d->drawn = bt_must(calloc((size_t)plan->out_max, sizeof *d->drawn));
    for (int i = 0; i < 2; i++)
        d->flight[i].out = bt_must(calloc((size_t)plan->out_max, sizeof *d->flight[i].out));
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
    free(d->token);
    free(d->drawn);
    for (int i = 0; i < 2; i++) free(d->flight[i].out);
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
    bt_must(d->n_flight < 2 ? d : NULL);
    d->batch = *b;
    for (int32_t i = 0; i < b->n_rows; i++) {
        int32_t back = -(b->token[i] + 1);
        if (b->token[i] < 0 && back >= d->n_drawn) fake.wrong++;
        d->token[i] = b->token[i] < 0 ? d->drawn[back] : b->token[i];
    }
    d->batch.token = d->token;
    struct fake_flight *f = &d->flight[(d->first + d->n_flight++) % 2];
    f->n_out = 0;
    f->n_rows = b->n_rows;
    d->n_drawn = 0;
    if (d->n_flight > fake.flights_most) fake.flights_most = d->n_flight;
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
    struct fake_flight *f = &d->flight[(d->first + d->n_flight - 1) % 2];
    f->dst = outs;
    f->n_out = d->n_drawn = status ? 0 : d->batch.n_out;
    for (int32_t i = 0; i < f->n_out; i++) {
        fake_logits_of(d->history[i], d->batch.token[d->batch.out_row[i]], d->logits);
        bt_sample_run(&reqs[i], d->logits, FAKE_VOCAB, d->scratch, &f->out[i]);
        d->drawn[i] = f->out[i].token;
    }
    return status;
}

static inline bt_status fake_step_end(bt_device *d, uint64_t *busy_us, bt_err *err)
{
    bt_status status = fake_call(err, "step_end");
    if (status) return status;
    bt_sleep_ns(fake.sleep_ns);
    struct fake_flight *f = &d->flight[d->first];
    *busy_us = fake.us_fixed + fake.us_row * (uint64_t)f->n_rows;
    if (f->n_out > 0) memcpy(f->dst, f->out, (size_t)f->n_out * sizeof *f->out);
    d->first = (d->first + 1) % 2;
    d->n_flight--;
    fake.busy_us += *busy_us;
    return BT_OK;
}

static inline bt_status fake_logits(bt_device *d, int32_t i, float *dst, bt_err *err)
{
    (void)err;
    fake_logits_of(d->history[i], 0, dst);
    return BT_OK;
}

/* Level 1: what KV held is lost, the rest is as before. */
static inline bt_status fake_park(bt_device *d, bt_residency *out, bt_err *err)
{
    bt_status status = fake_call(err, "park");
    if (fake.park_fails) status = bt_err_set(err, BT_EDEVICE, 0, "scripted failure of parking");
    bt_must(d->n_flight == 0 && !fake.parked ? d : NULL);
    memset(d->cell, 0xAA, (size_t)d->plan.n_pages * (size_t)d->plan.page_tokens * sizeof *d->cell);
    fake.parked = !status;
    *out = (bt_residency){.bytes = 1000, .free_bytes = 5000, .took_ns = 7};
    return status;
}

static inline bt_status fake_wake(bt_device *d, bt_load_progress progress, void *ud,
                                  bt_residency *out, bt_err *err)
{
    bt_status status = fake_call(err, "wake");
    bt_must(fake.parked ? d : NULL);
    if (fake.no_room) return bt_err_set(err, BT_ENOMEM, 0, "scripted lack of memory");
    progress(ud, 100, 100);
    fake.parked = false;
    *out = (bt_residency){.bytes = 1000, .free_bytes = 4000, .took_ns = 9, .from_host = true};
    return status;
}

static inline const char *fake_label(const bt_device *d)
{
    (void)d;
    return "fake0";
}

#define FAKE_TABLE(steps)                                                                          \
    {                                                                                              \
        .name = "fake", .steps_in_flight = steps, .bytes_per_us = 10000, .warm_up_us = 20000,      \
        .warm_up_rows = 16, .open = fake_open, .close = fake_close, .bytes = fake_bytes,           \
        .step_begin = fake_step_begin, .embed = fake_embed, .attn_in = fake_attn_in,               \
        .attention = fake_attention, .attn_out = fake_attn_out, .mlp = fake_mlp,                   \
        .head = fake_head, .sample = fake_sample, .step_end = fake_step_end, .park = fake_park,    \
        .wake = fake_wake, .label = fake_label, .logits = fake_logits                              \
    }
/* One step at a time, like the CPU; and two in flight, like a GPU. */
static const bt_backend fake_backends[2] = {FAKE_TABLE(1), FAKE_TABLE(2)};
static int fake_ahead; // which of them fake engines get

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
