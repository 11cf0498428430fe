/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.c - the CPU backend: opening and loading; the table itself is at the end.
 *
 * A device takes its memory in open() and none afterwards. Weights are packed by all threads, piece
 * by piece, so that progress can be told from the loading thread between pieces. */
#define _GNU_SOURCE
#include "base/assert.h"
#include "base/mem.h"
#include "device/cpu/cpu_device.h"
#include "kernels/rope/rope.h"
#include <string.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20, PIECE_BYTES = 16 << 20 };

static void cpu_close(bt_device *d)
{
    if (!d) return;
    bt_pool_free(d->pool);
    bt_free(d->matrix);
    bt_free(d->packed);
    bt_free(d->kv);
    bt_free(d->scratch);
    bt_free(d);
}

/* Large blocks ask for large pages: weights are read end to end in each step. */
static char *block_new(uint64_t bytes)
{
    size_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : 64;
    char *p = bt_aligned_alloc(align, (size_t)bytes);
#if defined(MADV_HUGEPAGE)
    if (p && align == HUGE_PAGE) madvise(p, (size_t)bytes, MADV_HUGEPAGE);
#endif
    return p;
}

static bt_status take_memory(bt_device *d, bt_err *err)
{
    const cpu_layout *l = &d->at;
    d->matrix = bt_calloc((size_t)bt__cpu_weight_count(d->recipe), sizeof *d->matrix);
    d->packed = block_new(l->weights_bytes);
    d->kv = block_new(l->kv_bytes);
    d->scratch = block_new(l->scratch_bytes);
    if (d->matrix && d->packed && d->kv && d->scratch) return BT_OK;
    return bt_err_set(err, BT_ENOMEM, 0,
                      "the CPU device needs %llu MiB for weights, %llu MiB for KV and %llu MiB for "
                      "scratch, and there is not that much; use a smaller context or fewer slots",
                      (unsigned long long)(l->weights_bytes >> 20),
                      (unsigned long long)(l->kv_bytes >> 20),
                      (unsigned long long)(l->scratch_bytes >> 20));
}

/* Panels [p0, p1) of a matrix. */
typedef struct packing {
    const bt_linear *m;
    const void *src;
    int32_t p0, p1;
} packing;

static void pack_piece(void *ud, int thread, int threads)
{
    const packing *k = ud;
    int32_t a, b;
    bt__cpu_split(k->p1 - k->p0, thread, threads, &a, &b);
    int32_t n0 = (k->p0 + a) * BT_LINEAR_PANEL, n1 = (k->p0 + b) * BT_LINEAR_PANEL;
    if (a < b) bt_linear_pack(k->m, k->src, n0, BT_MIN(n1, k->m->n));
}

static void load_weights(bt_device *d, bt_load_progress progress, void *ud)
{
    uint64_t done = 0, total = 0;
    int32_t count = bt__cpu_weight_count(d->recipe);
    for (int32_t i = 0; i < count; i++) {
        const bt_weight *w = bt__cpu_weight(d->recipe, d->weights, i);
        total += bt_format_bytes(w->format, (size_t)w->rows * (size_t)w->cols);
    }
    size_t at = 0;
    if (progress) progress(ud, 0, total);
    for (int32_t i = 0; i < count; i++) {
        const bt_weight *w = bt__cpu_weight(d->recipe, d->weights, i);
        d->matrix[i] = (bt_linear){w->format, w->rows, w->cols, d->packed + at};
        at += (bt_linear_packed_bytes(w->format, w->rows, w->cols) + 63) / 64 * 64;
        if (!w->data) continue;
        size_t row = bt_format_bytes(w->format, (size_t)w->cols);
        int32_t panels = (w->rows + BT_LINEAR_PANEL - 1) / BT_LINEAR_PANEL;
        int32_t step = (int32_t)(PIECE_BYTES / (row * BT_LINEAR_PANEL)) + 1;
        for (int32_t p = 0; p < panels; p += step) {
            packing k = {&d->matrix[i], w->data, p, BT_MIN(p + step, panels)};
            bt_pool_run(d->pool, pack_piece, &k);
            int32_t end = BT_MIN(k.p1 * BT_LINEAR_PANEL, w->rows);
            done += row * (size_t)(end - p * BT_LINEAR_PANEL);
            if (progress) progress(ud, done, total);
        }
    }
    BT_ASSERT(at == d->at.weights_bytes && done == total);
}

static void fill_tables(void *ud, int thread, int threads)
{
    bt_device *d = ud;
    int32_t a, b;
    bt__cpu_split(d->plan.ctx, thread, threads, &a, &b);
    for (int32_t i = 0; i < d->recipe->n_ropes; i++) {
        int64_t from = (int64_t)a * (d->recipe->rope[i].dim / 2);
        bt_rope_tables(&d->recipe->rope[i], bt_rope_divisor(d->recipe, d->weights, i, d->plan.ctx),
                       a, b, bt__cpu_floats(d, d->at.cos[i]) + from,
                       bt__cpu_floats(d, d->at.sin[i]) + from);
    }
}

static bt_status cpu_can(const bt_recipe *recipe, const bt_weights *weights,
                         const bt_device_plan *plan, bt_err *err)
{
    bt_err why = {0};
    if (bt__cpu_can(recipe, weights, plan, &why)) return BT_OK;
    return bt_err_set(err, why.code, 0, "%s", why.msg);
}

static bt_status cpu_open(const bt_recipe *recipe, const bt_weights *weights,
                          const bt_device_plan *plan, bt_load_progress progress, void *ud,
                          bt_device **out, bt_err *err)
{
    bt_status st = cpu_can(recipe, weights, plan, err);
    if (st) return st;
    bt_device *d = bt_calloc(1, sizeof *d);
    if (!d) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the CPU device");
    d->recipe = recipe;
    d->weights = weights;
    d->plan = *plan;
    bt__cpu_layout_make(recipe, weights, plan, &d->at);
    st = take_memory(d, err);
    if (st == BT_OK) st = bt_pool_new(plan->threads, &d->pool, err);
    if (st != BT_OK) {
        cpu_close(d);
        return st;
    }
    load_weights(d, progress, ud);
    bt_pool_run(d->pool, fill_tables, d);
    *out = d;
    return BT_OK;
}

static void cpu_bytes(const bt_recipe *recipe, const bt_weights *weights,
                      const bt_device_plan *plan, uint64_t *weights_bytes, uint64_t *kv_bytes,
                      uint64_t *scratch_bytes)
{
    cpu_layout l;
    bt__cpu_layout_make(recipe, weights, plan, &l);
    *weights_bytes = l.weights_bytes;
    *kv_bytes = l.kv_bytes;
    *scratch_bytes = l.scratch_bytes;
}

static const char *cpu_label(const bt_device *d)
{
    (void)d;
    return "cpu0";
}

const bt_backend bt_backend_cpu = {
    .name = "cpu",
    .steps_in_flight = 1,
    .bytes_per_us = 10000,
    .warm_up_us = 20000,
    .warm_up_rows = 16,
    .can = cpu_can,
    .open = cpu_open,
    .close = cpu_close,
    .bytes = cpu_bytes,
    .step_begin = bt__cpu_step_begin,
    .embed = bt__cpu_embed,
    .attn_in = bt__cpu_attn_in,
    .attention = bt__cpu_attention,
    .attn_out = bt__cpu_attn_out,
    .mlp = bt__cpu_mlp,
    .head = bt__cpu_head,
    .sample = bt__cpu_sample,
    .step_end = bt__cpu_step_end,
    .logits = bt__cpu_logits,
    .label = cpu_label,
};
