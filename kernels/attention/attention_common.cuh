/* SPDX-License-Identifier: Apache-2.0 */
/* attention_common.cuh - what decode and prefill share whatever the KV format: the argument block
 * of a kernel, spans, and how softmaxes of parts become one. Private to attention_*.cu. */
#pragma once
#include "kernels/attention/attention_cuda.h"
#include "kernels/cuda_kernel.h"
#include <math.h>

namespace
{

constexpr int THREADS = 128, WARPS = THREADS / 32;
constexpr int GROUP = 16;                // positions that always lie in one page
constexpr int DECODE_QUERIES = 16;       // of a CTA
constexpr int SPLIT_POSITIONS_MIN = 128; // a shorter split costs more than it saves
constexpr int RECORD_HEAD = 4;           // floats before a record's sums: maximum, sum, two unused
constexpr float LOG2E = 1.44269504088896340736f;

/* By value to every kernel. */
struct attend {
    bt_cuda_kv kv;
    int32_t n_heads, group, group_blocks; // group_blocks: decode CTAs that share a group's queries
    float q_scale;                        // folded into q
    float cap;                            // scores are cap * tanh(score), base 2; 0: no soft cap
    int32_t window, page_shift;
    const float *sinks, *q;
    float *out, *records;
    int64_t ldq, ldo;
    const int32_t *pages, *kv_len, *first_row, *n_rows, *work;
    int32_t pages_ld, rows;
    int32_t n_splits, records_ld; // records of a (sequence, head)
    int32_t record_floats, buffers;
    bool deterministic;
};

/* The parts of positions [lo, hi) that decode gives to different CTAs. */
struct spans {
    int32_t lo, hi, base, size, count;
};
static __device__ __forceinline__ spans spans_of(const attend &p, int32_t kv_len, int32_t tile)
{
    spans s;
    s.hi = kv_len;
    s.lo = p.window > 0 && kv_len > p.window ? kv_len - p.window : 0;
    if (p.deterministic) {
        s.size = BT_CUDA_ATTENTION_SPAN;
        s.base = s.lo / s.size * s.size;
    } else {
        s.base = s.lo / tile * tile;
        int32_t tiles = (s.hi - s.base + tile - 1) / tile;
        int32_t each = (tiles + p.n_splits - 1) / p.n_splits;
        if (each < SPLIT_POSITIONS_MIN / tile) each = SPLIT_POSITIONS_MIN / tile;
        s.size = each * tile;
    }
    s.count = (s.hi - s.base + s.size - 1) / s.size;
    return s;
}

static __device__ __forceinline__ float *record_of(const attend &p, int32_t seq, int32_t head,
                                                   int32_t i)
{
    int64_t record = ((int64_t)seq * p.n_heads + head) * p.records_ld + i;
    return p.records + record * p.record_floats;
}

/* The row of the step and the head that query i of a sequence's chunk is. */
static __device__ __forceinline__ int64_t query_offset(const attend &p, int64_t ld, int32_t seq,
                                                       int32_t kv_head, int32_t i)
{
    int32_t row = i / p.group, head = kv_head * p.group + (i - row * p.group);
    return (int64_t)(p.first_row[seq] + row) * ld + (int64_t)head * p.kv.head_dim;
}

/* Maxima are in base 2; -inf says that nothing was seen. What every exponent is taken against: */
static __device__ __forceinline__ float reference_of(float max)
{
    return max == -INFINITY ? 0.0f : max;
}

/* Two softmaxes of disjoint positions become one: x = fmaf(x, total, x_part * part). */
struct merging {
    float max, total, part;
};
static __device__ __forceinline__ merging merge_of(float max_total, float max_part)
{
    merging m;
    m.max = fmaxf(max_total, max_part);
    float ref = reference_of(m.max);
    m.total = exp2f(max_total - ref);
    m.part = exp2f(max_part - ref);
    return m;
}
static __device__ __forceinline__ float merged(const merging &m, float total, float part)
{
    return fmaf(total, m.total, part * m.part);
}

/* What the sums of a query are multiplied by in the end; NaN or infinite where nothing counted. */
static __device__ __forceinline__ float finish_of(const attend &p, int32_t head, float max,
                                                  float sum)
{
    if (p.sinks == nullptr) return 1.0f / sum;
    float sink = p.sinks[head] * LOG2E, top = fmaxf(max, sink);
    float keep = exp2f(max - top);
    return keep / fmaf(sum, keep, exp2f(sink - top));
}

/* cap * tanh(x), absolute error 1e-6 cap. */
static __device__ __forceinline__ float soft_capped(float x, float cap)
{
    return cap * (1.0f - 2.0f / (1.0f + __expf(2.0f * x)));
}

/* Positions of a tile: more where they are short, so that the work between barriers is alike. */
static constexpr int tile_positions(int dim)
{
    return dim <= 64 ? 64 : 32;
}
constexpr int TILE_POSITIONS_F32 = 16;

static inline int32_t tile_positions_of(const bt_cuda_kv *kv)
{
    return kv->format == BT_KV_F32 ? TILE_POSITIONS_F32 : tile_positions(kv->head_dim);
}

/* Head sizes are rounded up to one of these; the columns past head_dim are zeros. */
static inline int32_t padded_dim(int32_t head_dim)
{
    const int32_t dims[] = {32, 64, 96, 128, 192, 256};
    for (int32_t dim : dims)
        if (head_dim <= dim) return dim;
    return 0;
}

static inline bool args_are_sound(const bt_cuda_attention_args *a)
{
    return bt_cuda_attention_supported(&a->kv, a->n_heads, a->props) && a->q && a->out &&
           a->ldq % 4 == 0 && a->ldo % 4 == 0 && (uintptr_t)a->q % 16 == 0 &&
           (uintptr_t)a->out % 16 == 0 && a->kv.base && a->kv.page_stride % 256 == 0 && a->pages &&
           a->kv_len && a->first_row && a->n_rows && a->n_seqs >= 0 && a->n_seqs <= 65535 &&
           a->window >= 0 && a->soft_cap >= 0 && a->ctx_max >= 1;
}

static inline attend attend_of(const bt_cuda_attention_args *a)
{
    attend p = {};
    p.kv = a->kv;
    p.n_heads = a->n_heads;
    p.group = a->n_heads / a->kv.kv_heads;
    p.group_blocks = (p.group + DECODE_QUERIES - 1) / DECODE_QUERIES;
    p.q_scale = a->soft_cap > 0 ? a->scale / a->soft_cap : a->scale * LOG2E;
    p.cap = a->soft_cap * LOG2E;
    p.window = a->window;
    p.page_shift = a->kv.page_tokens == 32 ? 5 : 4;
    p.sinks = a->sinks;
    p.q = a->q, p.ldq = a->ldq;
    p.out = a->out, p.ldo = a->ldo;
    p.pages = a->pages, p.pages_ld = a->pages_ld;
    p.kv_len = a->kv_len, p.first_row = a->first_row, p.n_rows = a->n_rows;
    p.work = a->work;
    p.rows = a->rows;
    p.deterministic = a->deterministic;
    p.buffers = a->props->sm >= 80 ? 2 : 1;
    return p;
}

/* Calls launch<dim>() for the padded head size. */
#define BT_ATTENTION_CASE_DIM(head_dim, launch)                                                    \
    switch (padded_dim(head_dim)) {                                                                \
    case 32: return launch(32);                                                                    \
    case 64: return launch(64);                                                                    \
    case 96: return launch(96);                                                                    \
    case 128: return launch(128);                                                                  \
    case 192: return launch(192);                                                                  \
    case 256: return launch(256);                                                                  \
    default: return cudaErrorInvalidValue;                                                         \
    }

} // namespace
