/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_device.h - what the files of the CUDA backend share.
 *
 *   cuda.c         the backend table; opening and closing
 *   cuda_layout.c  what can run, and where everything lies
 *   cuda_load.c    weights: from the mapped file through pinned staging, repacked on the device
 *   cuda_step.c    a step's block operations, enqueued on one stream
 *   cuda_batch.c   the batch on its way to the device: one pinned block, one copy
 *   cuda_graph.c   decode steps as graphs, one a bucket
 *   cuda_park.c    residency: memory given back and taken again
 *   cuda_memory.c, cuda_error.c, cuda_probe.c, nvml.c
 *
 * MEMORY   One reserved range of addresses in three segments: weights, KV [layer][page], scratch.
 * STEPS    Up to two are in flight on one stream. Each has its own pinned blocks and events; the
 *          device side of a block is single, because the stream keeps the order. A step is: copy
 *          in, forward, sampling, copy out, event. Nothing else synchronizes, nothing allocates.
 * GRAPHS   A step of decodes only runs as a graph of its bucket: the batch is padded to the
 *          bucket's rows, and everything that changes lies in device memory. */
#pragma once
#include "baton/backend.h"
#include "device/cuda/cuda_error.h"
#include "device/cuda/cuda_memory.h"
#include "kernels/attention/attention_cuda.h"
#include "kernels/linear/blas_cuda.h"
#include "kernels/cuda_act.h"
#include "kernels/cuda_props.h"
#include "kernels/attention/kv_cuda.h"
#include "kernels/linear/linear_cuda.h"
#include "kernels/sample/sample_cuda.h"
#include "model/tensors.h"
#include <cuda_runtime_api.h>

enum { SEG_WEIGHTS, SEG_KV, SEG_SCRATCH, SEG_COUNT };
enum { CUDA_STEPS = 2, CUDA_STAGES = 3, CUDA_BUCKETS_MAX = 32, CUDA_CTX_BUCKETS = 12 };

typedef struct cuda_layer {
    bt_cuda_matrix qkv[3]; // one, or Q, K and V apart
    int32_t n_qkv;
    bt_cuda_matrix o;
    bt_cuda_matrix gate_up[2]; // one of 2 * ffn rows, or apart
    int32_t n_gate_up;
    bt_cuda_matrix down;
    const float *attn_norm, *ffn_norm; // device
    const float *q_norm, *k_norm;      // device, or NULL
    /* device, or NULL; of matrices that are one, one after the other */
    const float *bias[BT_MATRICES_PER_LAYER];
} cuda_layer;

/* Every matrix and vector of the model, by its device address. */
typedef struct cuda_weights {
    cuda_layer *layer; // owned, [n_layers]
    bt_cuda_matrix embed, head;
    const float *out_norm;
} cuda_weights;

/* Where everything lies; byte offsets in its segment. */
typedef struct cuda_layout {
    size_t segment_bytes[SEG_COUNT];
    size_t floats, floats_bytes; // in weights: norms and biases of all layers, uploaded at once
    size_t cos, sin;             // in weights
    size_t page_stride, layer_stride; // in KV
    int32_t q_cols, kv_cols, qkv_cols, k_max, pages_ld;
    int32_t bucket_max; // rows of the largest decode graph
    int32_t work_max;   // items of a prefill's work list
    /* in scratch */
    size_t x, act, qkv, att, gate_up, glu, logits, linear, attention, sample, drawn, pick, top, in,
        ask, pages;
    size_t linear_bytes, attention_bytes, sample_bytes;
    size_t stage_bytes; // of one staging buffer; while loading they lie at scratch's beginning
    /* in the input block */
    size_t in_token, in_pos, in_row_seq, in_out_row, in_kv_len, in_first_row, in_n_rows, in_work,
        in_bytes;
    /* in the block of sampling requests: rows first, lists behind them */
    size_t ask_bias, ask_counts, ask_ban, ask_bytes;
    int32_t bias_max, counts_max, ban_max; // entries of all rows together
    int64_t ld_x, ld_logits;               // row strides, floats
} cuda_layout;

/* One step under way. */
typedef struct cuda_flight {
    char *in;                  // owned, pinned: in_bytes
    char *ask;                 // owned, pinned: ask_bytes
    int32_t *pages;            // owned, pinned: [seqs_max * pages_ld]
    bt_cuda_sample_pick *pick; // owned, pinned: [out_max]
    bt_cuda_sample_top *top;   // owned, pinned: [out_max]
    cudaEvent_t begin, end;    // owned
    bt_sample_out *dst;        // borrowed from sample() to step_end()
    int32_t n_out;
    bool sampled;
} cuda_flight;

typedef enum cuda_mode { MODE_DIRECT, MODE_CAPTURE, MODE_REPLAY } cuda_mode;

struct bt_device {
    const bt_recipe *recipe;   // borrowed: the model outlives the device
    const bt_weights *weights; // borrowed
    bt_device_plan plan;
    bt_cuda_props props;
    char label[96];
    char driver_id[48];
    cuda_layout at;
    bt_cuda_memory memory;
    cuda_weights w;
    struct bt_cuda_blas *blas; // owned, or NULL
    cudaStream_t stream;

    /* loading and parking */
    char *stage[CUDA_STAGES]; // owned, pinned; only while loading
    cudaEvent_t stage_free[CUDA_STAGES];
    char *host_image; // owned, pinned: the weights segment; NULL if host memory does not allow it
    bool parked;
    cudaError_t lost; // a fault that sticks; cudaSuccess while all is well

    /* steps */
    cuda_flight flight[CUDA_STEPS];
    int32_t first, n_flight;  // the oldest under way, and how many
    const bt_batch *batch;    // borrowed, from step_begin until sample
    int32_t rows, seqs, outs; // as the kernels see them: padded to the bucket
    int32_t ctx_rows;         // longest kv_len, rounded up to its bucket
    int32_t n_work;
    bool decodes, prefills; // which attention kernels the step needs
    cuda_mode mode;
    int32_t n_logits;      // rows of logits that hold good
    int32_t n_drawn;       // tokens that the newest step drew
    int32_t *pages_shadow; // owned, [seqs_max * pages_ld]: what the device has
    cudaGraphExec_t graph[CUDA_BUCKETS_MAX][CUDA_CTX_BUCKETS];
    int32_t graph_bucket, graph_ctx;
    bool graphless;      // the device had no memory for one: none is tried until it was parked
    double busy_rest_us; // what step_end has yet to tell, below a microsecond
};

/* cuda_layout.c */
bool bt__cuda_can(const bt_recipe *r, const bt_weights *w, const bt_device_plan *p,
                  const bt_cuda_props *props, bt_err *err);
bt_cuda_kv bt__cuda_kv_shape(const bt_recipe *r, const bt_device_plan *p);
void bt__cuda_layout_make(const bt_recipe *r, const bt_weights *w, const bt_device_plan *p,
                          const bt_cuda_props *props, cuda_layout *out);
/* Gives every matrix and vector its place in the weights segment, which begins at base; the sizes
 * go to at. base and out may be NULL, to count only. */
void bt__cuda_place(const bt_recipe *r, const bt_weights *w, const bt_device_plan *p, char *base,
                    cuda_weights *out, cuda_layout *at);
static inline bool bt__cuda_tied(const bt_weights *w)
{
    return w->head.data == w->embed.data;
}
/* Rows of bucket number i of decode graphs; 0 past the last. */
int32_t bt__cuda_bucket_rows(int32_t i);

/* cuda_load.c: fills the weights segment, which is resident; needs the stream. */
bt_status bt__cuda_load(bt_device *d, bt_load_progress progress, void *ud, bt_err *err);

/* cuda_batch.c */
bt_status bt__cuda_batch_upload(bt_device *d, cuda_flight *f, bt_err *err);
void bt__cuda_pages_forget(bt_device *d); // what page tables the device has

/* cuda_graph.c: chooses the step's mode; begins and ends a capture; replays. A capture that ends in
 * MODE_DIRECT has run nothing: there was no memory for its graph. */
void bt__cuda_graph_choose(bt_device *d);
bt_status bt__cuda_graph_begin(bt_device *d, bt_err *err);
bt_status bt__cuda_graph_end(bt_device *d, bt_err *err);
void bt__cuda_graph_abandon(bt_device *d); // a step that failed while it was captured
void bt__cuda_graphs_drop(bt_device *d);

/* cuda_step.c */
bt_status bt__cuda_step_begin(bt_device *d, const bt_batch *batch, bt_err *err);
bt_status bt__cuda_embed(bt_device *d, bt_err *err);
bt_status bt__cuda_attn_in(bt_device *d, int32_t layer, bt_err *err);
bt_status bt__cuda_attention(bt_device *d, int32_t layer, bt_err *err);
bt_status bt__cuda_attn_out(bt_device *d, int32_t layer, bt_err *err);
bt_status bt__cuda_mlp(bt_device *d, int32_t layer, bt_err *err);
bt_status bt__cuda_head(bt_device *d, bt_err *err);
bt_status bt__cuda_sample(bt_device *d, const bt_sample_req *reqs, bt_sample_out *outs,
                          bt_err *err);
bt_status bt__cuda_step_submit(bt_device *d, bt_err *err);
bt_status bt__cuda_step_end(bt_device *d, uint64_t *busy_us, bt_err *err);
bt_status bt__cuda_logits(bt_device *d, int32_t i, float *dst, bt_err *err);

/* cuda_park.c */
bt_status bt__cuda_park(bt_device *d, bt_residency *out, bt_err *err);
bt_status bt__cuda_wake(bt_device *d, bt_load_progress progress, void *ud, bt_residency *out,
                        bt_err *err);

/* cuda_park.c: takes all segments' memory and places the weights in it. */
bt_status bt__cuda_take_memory(bt_device *d, bt_err *err);
/* Notes a fault that sticks, so that later calls say it too. */
static inline bt_status bt__cuda_check(bt_device *d, cudaError_t code, const char *doing,
                                       bt_err *err)
{
    if (bt__cuda_sticky(code) && d->lost == cudaSuccess) d->lost = code;
    return bt__cuda_status(code, doing, err);
}

static inline void *bt__cuda_scratch(const bt_device *d, size_t offset)
{
    return d->memory.segment[SEG_SCRATCH].base + offset;
}
static inline float *bt__cuda_floats(const bt_device *d, size_t offset)
{
    return (float *)bt__cuda_scratch(d, offset);
}
static inline const int32_t *bt__cuda_input(const bt_device *d, size_t offset)
{
    return (const int32_t *)(const void *)((char *)bt__cuda_scratch(d, d->at.in) + offset);
}
