/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_load.c - weights: from the mapped file to the device's layout.
 *
 * Rows go in pieces through a ring of pinned buffers: the host copies piece n + 1 out of the file
 * while piece n crosses the bus and piece n - 1 is repacked on the device, all on the one stream.
 * Device staging lies in the scratch segment, which no step uses yet. Steady state is the slower of
 * the file's copy and the bus. */
#include "base/assert.h"
#include "base/mem.h"
#include "device/cuda/cuda_device.h"
#include "kernels/rope/rope.h"
#include <string.h>

typedef struct loader {
    bt_device *d;
    bt_load_progress progress;
    void *ud;
    uint64_t done, total;
    int32_t next; // stage
} loader;

static char *device_stage(const bt_device *d, int32_t i)
{
    return bt__cuda_scratch(d, d->at.stage_bytes * (size_t)i);
}

static bt_status stages_open(bt_device *d, bt_err *err)
{
    for (int32_t i = 0; i < CUDA_STAGES; i++) {
        bt_status st = bt__cuda_pinned(d->at.stage_bytes, "loading", &d->stage[i], err);
        if (st) return st;
        st = bt__cuda_check(d,
                            cudaEventCreateWithFlags(&d->stage_free[i], cudaEventDisableTiming |
                                                                            cudaEventBlockingSync),
                            "making an event", err);
        if (st) return st;
    }
    return BT_OK;
}

static void stages_close(bt_device *d)
{
    for (int32_t i = 0; i < CUDA_STAGES; i++) {
        if (d->stage[i]) cudaFreeHost(d->stage[i]);
        if (d->stage_free[i]) cudaEventDestroy(d->stage_free[i]);
        d->stage[i] = NULL;
        d->stage_free[i] = NULL;
    }
}

/* The next stage, once the device has done with what was in it. */
static bt_status stage_take(loader *l, int32_t *i, bt_err *err)
{
    *i = l->next;
    l->next = (l->next + 1) % CUDA_STAGES;
    return bt__cuda_check(l->d, cudaEventSynchronize(l->d->stage_free[*i]), "loading weights", err);
}

static bt_status stage_send(loader *l, int32_t i, void *dst, size_t bytes, bt_err *err)
{
    bt_device *d = l->d;
    return bt__cuda_check(
        d, cudaMemcpyAsync(dst, d->stage[i], bytes, cudaMemcpyHostToDevice, d->stream),
        "copying weights to the device", err);
}

static bt_status stage_done(loader *l, int32_t i, bt_err *err)
{
    return bt__cuda_check(l->d, cudaEventRecord(l->d->stage_free[i], l->d->stream),
                          "loading weights", err);
}

/* Rows of w become rows n0 onwards of m. */
static bt_status load_matrix(loader *l, const bt_weight *w, const bt_cuda_matrix *m, int32_t n0,
                             bt_err *err)
{
    bt_device *d = l->d;
    size_t row = bt_format_bytes(w->format, (size_t)w->cols);
    int32_t piece = (int32_t)BT_MIN(d->at.stage_bytes / row, (size_t)w->rows);
    BT_ASSERT(piece > 0);
    for (int32_t r = 0; r < w->rows; r += piece) {
        int32_t rows = BT_MIN(piece, w->rows - r), i;
        size_t bytes = (size_t)rows * row;
        bt_status st = stage_take(l, &i, err);
        if (st) return st;
        memcpy(d->stage[i], (const char *)w->data + (size_t)r * row, bytes);
        st = stage_send(l, i, device_stage(d, i), bytes, err);
        if (!st)
            st = bt__cuda_check(d,
                                bt_cuda_matrix_pack(m, n0 + r, rows, device_stage(d, i), d->stream),
                                "repacking weights", err);
        if (!st) st = stage_done(l, i, err);
        if (st) return st;
        l->done += bytes;
        if (l->progress) l->progress(l->ud, l->done, l->total);
    }
    return BT_OK;
}

/* Matrices which[0..n) of a layer into one, or into as many. */
static bt_status load_group(loader *l, const bt_layer_weights *w, const int32_t *which, int32_t n,
                            const bt_cuda_matrix *m, int32_t n_matrices, bt_err *err)
{
    int32_t row = 0;
    for (int32_t i = 0; i < n; i++) {
        const bt_weight *from = bt_layer_matrix(w, which[i]);
        bt_status st =
            load_matrix(l, from, n_matrices == 1 ? m : &m[i], n_matrices == 1 ? row : 0, err);
        if (st) return st;
        row += from->rows;
    }
    return BT_OK;
}

static bt_status load_layer(loader *l, int32_t layer, bt_err *err)
{
    static const int32_t qkv[] = {BT_MATRIX_Q, BT_MATRIX_K, BT_MATRIX_V}, o[] = {BT_MATRIX_O},
                         gate_up[] = {BT_MATRIX_GATE, BT_MATRIX_UP}, down[] = {BT_MATRIX_DOWN};
    const bt_layer_weights *w = &l->d->weights->layers[layer];
    const cuda_layer *c = &l->d->w.layer[layer];
    bt_status st = load_group(l, w, qkv, 3, c->qkv, c->n_qkv, err);
    if (!st) st = load_group(l, w, o, 1, &c->o, 1, err);
    if (!st) st = load_group(l, w, gate_up, 2, c->gate_up, c->n_gate_up, err);
    if (!st) st = load_group(l, w, down, 1, &c->down, 1, err);
    return st;
}

/* ---- norms, biases, rotation tables ---- */

/* Sends n floats to dst in pieces. */
static bt_status load_floats(loader *l, const float *src, size_t n, const float *dst, bt_err *err)
{
    size_t piece = l->d->at.stage_bytes / sizeof(float);
    char *to = (char *)(uintptr_t)dst;
    for (size_t at = 0; at < n; at += piece) {
        size_t part = BT_MIN(piece, n - at);
        int32_t i;
        bt_status st = stage_take(l, &i, err);
        if (st) return st;
        memcpy(l->d->stage[i], src + at, part * sizeof(float));
        st = stage_send(l, i, to + at * sizeof(float), part * sizeof(float), err);
        if (!st) st = stage_done(l, i, err);
        if (st) return st;
    }
    return BT_OK;
}

static bt_status load_vectors(loader *l, bt_err *err)
{
    bt_device *d = l->d;
    size_t hidden = (size_t)d->recipe->hidden, head_dim = (size_t)d->recipe->layer[0].head_dim;
    bt_status st = load_floats(l, d->weights->out_norm, hidden, d->w.out_norm, err);
    for (int32_t i = 0; !st && i < d->recipe->n_layers; i++) {
        const bt_layer_weights *w = &d->weights->layers[i];
        const cuda_layer *c = &d->w.layer[i];
        st = load_floats(l, w->attn_norm, hidden, c->attn_norm, err);
        if (!st) st = load_floats(l, w->ffn_norm, hidden, c->ffn_norm, err);
        if (!st && w->q_norm) st = load_floats(l, w->q_norm, head_dim, c->q_norm, err);
        if (!st && w->k_norm) st = load_floats(l, w->k_norm, head_dim, c->k_norm, err);
        for (int32_t b = 0; !st && b < BT_MATRICES_PER_LAYER; b++)
            if (c->bias[b])
                st = load_floats(l, bt_layer_bias(w, b), (size_t)bt_layer_matrix(w, b)->rows,
                                 c->bias[b], err);
    }
    return st;
}

/* Tables of some positions at a time: cos in the stage's first half, sin in its second. */
static bt_status load_tables(loader *l, bt_err *err)
{
    bt_device *d = l->d;
    size_t half = (size_t)(d->recipe->rope[0].dim / 2), row = half * sizeof(float);
    char *base = d->memory.segment[SEG_WEIGHTS].base;
    if (d->recipe->rope[0].style == BT_ROPE_NONE) return BT_OK;
    int32_t piece = (int32_t)BT_MIN(d->at.stage_bytes / (2 * row), (size_t)d->plan.ctx);
    BT_ASSERT(piece > 0);
    for (int32_t p = 0; p < d->plan.ctx; p += piece) {
        int32_t end = BT_MIN(p + piece, d->plan.ctx), i;
        size_t bytes = (size_t)(end - p) * row, at = (size_t)p * row;
        bt_status st = stage_take(l, &i, err);
        if (st) return st;
        float *cos = (float *)(void *)d->stage[i], *sin = cos + (size_t)(end - p) * half;
        bt_rope_tables(&d->recipe->rope[0], bt_rope_divisor(d->recipe, d->weights, 0, d->plan.ctx),
                       p, end, cos, sin);
        st = stage_send(l, i, base + d->at.cos + at, bytes, err);
        if (!st)
            st = bt__cuda_check(d,
                                cudaMemcpyAsync(base + d->at.sin + at, sin, bytes,
                                                cudaMemcpyHostToDevice, d->stream),
                                "copying tables to the device", err);
        if (!st) st = stage_done(l, i, err);
        if (st) return st;
    }
    return BT_OK;
}

static uint64_t total_bytes(const bt_device *d)
{
    const bt_weights *w = d->weights;
    uint64_t total = bt_format_bytes(w->head.format, (size_t)w->head.rows * (size_t)w->head.cols);
    if (!bt__cuda_tied(w))
        total += bt_format_bytes(w->embed.format, (size_t)w->embed.rows * (size_t)w->embed.cols);
    for (int32_t l = 0; l < d->recipe->n_layers; l++)
        for (int32_t i = 0; i < BT_MATRICES_PER_LAYER; i++) {
            const bt_weight *m = bt_layer_matrix(&w->layers[l], i);
            total += bt_format_bytes(m->format, (size_t)m->rows * (size_t)m->cols);
        }
    return total;
}

bt_status bt__cuda_load(bt_device *d, bt_load_progress progress, void *ud, bt_err *err)
{
    loader l = {.d = d, .progress = progress, .ud = ud, .total = total_bytes(d)};
    if (progress) progress(ud, 0, l.total);
    bt_status st = stages_open(d, err);
    if (!st)
        st = bt__cuda_check(d,
                            cudaMemsetAsync(d->memory.segment[SEG_WEIGHTS].base, 0,
                                            d->memory.segment[SEG_WEIGHTS].bytes, d->stream),
                            "clearing the weights' memory", err);
    for (int32_t i = 0; !st && i < d->recipe->n_layers; i++) st = load_layer(&l, i, err);
    if (!st) st = load_matrix(&l, &d->weights->head, &d->w.head, 0, err);
    if (!st && !bt__cuda_tied(d->weights))
        st = load_matrix(&l, &d->weights->embed, &d->w.embed, 0, err);
    if (!st) st = load_vectors(&l, err);
    if (!st) st = load_tables(&l, err);
    cudaError_t code = cudaStreamSynchronize(d->stream); // also before the stages may go
    if (!st) st = bt__cuda_check(d, code, "loading weights", err);
    stages_close(d);
    return st;
}
