/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_device.h - what the files of the CPU backend share: the memory layout and the open device.
 *
 * All memory is three blocks, laid out by bt__cpu_layout_make() before anything is allocated:
 *   weights   every matrix, packed (kernels/linear/linear.h), one after the other
 *   KV        [layer][page] (kernels/attention/kv.h)
 *   scratch   activations, tables, per-thread scratch, the step's lists
 * The embedding is read from the file's own rows, so it takes no memory here; a tied head is
 * packed. */
#pragma once
#include "base/pool.h"
#include "baton/backend.h"
#include "kernels/attention/attention.h"
#include "kernels/linear/linear.h"
#include "model/tensors.h"
#include <stdatomic.h>

enum { ACT_KINDS = 2 };

typedef struct cpu_layout {
    bt_kv_layout kv;
    size_t page_stride, layer_stride;             // bytes
    int64_t ld_x, ld_q, ld_kv, ld_ffn, ld_logits; // row strides, floats
    int32_t tiles_max, records_max;
    /* Offsets in scratch. qkv, attention output and the MLP's halves are never alive together. */
    size_t x, normed, q, k, v, att, gate, up, act[ACT_KINDS], logits, records, tiles;
    size_t side;                                 // parallel: what the feed-forward reads
    size_t added;                                // what a layer adds, where it is normed or scaled
    size_t cos[BT_ROPES_MAX], sin[BT_ROPES_MAX]; // [ctx, dim / 2]
    size_t thread_scratch, thread_stride;        // attention's and sampling's, one a thread
    uint64_t weights_bytes, kv_bytes, scratch_bytes;
} cpu_layout;

/* A piece of attention: queries [q0, q1) of a sequence, for each KV head. */
typedef struct cpu_tile {
    int32_t seq, q0, q1;
    int32_t spans;        // positions it sees, in spans
    int32_t first_item;   // spans apart: where its (head, span) items begin
    int32_t first_record; // likewise its records
} cpu_tile;

struct bt_device {
    const bt_recipe *recipe;   // borrowed: the model outlives the device
    const bt_weights *weights; // borrowed
    bt_device_plan plan;
    cpu_layout at;
    bt_pool *pool;               // owned
    bt_linear *matrix;           // owned, [n_layers * BT_MATRICES_PER_LAYER + 1]
    char *packed, *kv, *scratch; // owned
    /* The step. */
    const bt_batch *batch; // borrowed from step_begin to step_end; NULL between
    int64_t begin_ns;
    int64_t att_cost; // multiplications of one layer's attention, about
    bool alone;       // the step is too small to wake the other threads for
    int32_t layer;    // of the operation that runs
    int32_t n_tiles, n_items;
    bool by_span;              // spans of a tile are items of their own
    atomic_int next[2];        // next item of the two stages of attention; next row of sampling
    int32_t n_logits;          // rows of logits that hold good
    const bt_sample_req *reqs; // during sample
    bt_sample_out *outs;
};

bool bt__cpu_can(const bt_recipe *r, const bt_weights *w, const bt_device_plan *p, bt_err *err);
void bt__cpu_layout_make(const bt_recipe *r, const bt_weights *w, const bt_device_plan *p,
                         cpu_layout *out);
/* The layers' matrices one after another, and the head last. */
const bt_weight *bt__cpu_weight(const bt_recipe *r, const bt_weights *w, int32_t i);
static inline int32_t bt__cpu_weight_count(const bt_recipe *r)
{
    return r->n_layers * BT_MATRICES_PER_LAYER + 1;
}

bt_status bt__cpu_step_begin(bt_device *d, const bt_batch *batch, bt_err *err);
bt_status bt__cpu_embed(bt_device *d, bt_err *err);
bt_status bt__cpu_attn_in(bt_device *d, int32_t layer, bt_err *err);
bt_status bt__cpu_attention(bt_device *d, int32_t layer, bt_err *err);
bt_status bt__cpu_attn_out(bt_device *d, int32_t layer, bt_err *err);
bt_status bt__cpu_mlp(bt_device *d, int32_t layer, bt_err *err);
bt_status bt__cpu_head(bt_device *d, bt_err *err);
bt_status bt__cpu_sample(bt_device *d, const bt_sample_req *reqs, bt_sample_out *outs, bt_err *err);
bt_status bt__cpu_step_end(bt_device *d, uint64_t *busy_us, bt_err *err);
bt_status bt__cpu_logits(bt_device *d, int32_t i, float *dst, bt_err *err);

/* cpu_attention.c: cuts the step's attention into tiles; runs one layer's. */
void bt__cpu_attention_plan(bt_device *d);
void bt__cpu_attention_work(bt_device *d, int threads, int thread);

static inline float *bt__cpu_floats(const bt_device *d, size_t offset)
{
    return (float *)(void *)(d->scratch + offset);
}
/* The thread's part [*a, *b) of n. */
static inline void bt__cpu_split(int32_t n, int thread, int threads, int32_t *a, int32_t *b)
{
    *a = (int32_t)((int64_t)n * thread / threads);
    *b = (int32_t)((int64_t)n * (thread + 1) / threads);
}
static inline void bt__cpu_meet(bt_device *d, int threads)
{
    if (threads > 1) bt_pool_barrier(d->pool);
}
/* Runs fn on all threads, or on the caller alone if the work is not worth waking them. The choice
 * changes no result. */
void bt__cpu_run(bt_device *d, bt_pool_fn fn, int64_t cost);
