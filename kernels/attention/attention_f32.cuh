/* SPDX-License-Identifier: Apache-2.0 */
/* attention_f32.cuh - attention over f32 KV on the ordinary cores. Private to attention_*.cu.
 *
 * The exact path, for comparing and debugging rather than for speed. A CTA of 128 threads takes up
 * to 16 queries of one KV head and tiles of 16 positions. Thread (r, c) = (tid / 8, tid % 8) has
 * query r: the scores of positions c and c + 8 of a tile, summed over columns in order, and 4
 * columns of every 32 of its output, summed over positions in order. Shared memory: q, K and V,
 * 16 * (DIM + 4) floats each; rows lie 16 bytes apart in the banks, so 8 lanes read 8 rows at once.
 */
#pragma once
#include "kernels/attention/attention_common.cuh"
#include "kernels/cuda_ptx.h"

namespace
{

constexpr int F32_QUERIES = 16;

template <int DIM> struct f32_shape {
    static constexpr int ROW = DIM + 4; // floats
    static constexpr int BYTES = 3 * 16 * ROW * 4;
    static constexpr int VECTORS = DIM / 32; // of 4 columns, a thread's
};

template <int DIM> struct f32_state {
    float max, sum;
    float4 o[f32_shape<DIM>::VECTORS];
};
template <int DIM> static __device__ __forceinline__ void f32_clear(f32_state<DIM> &x)
{
    x.max = -INFINITY, x.sum = 0;
#pragma unroll
    for (int i = 0; i < f32_shape<DIM>::VECTORS; i++) x.o[i] = make_float4(0, 0, 0, 0);
}

/* Over the eight threads of a query. */
static __device__ __forceinline__ float f32_row_max(float v)
{
    for (int step = 1; step < 8; step *= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, step));
    return v;
}
static __device__ __forceinline__ float f32_row_sum(float v)
{
    for (int step = 1; step < 8; step *= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
    return v;
}

/* Queries [q0, q0 + n), scaled; rows and columns past the end are zeros. */
template <int DIM>
static __device__ void f32_queries(const attend &p, int32_t seq, int32_t kv_head, int32_t q0,
                                   int32_t n, float *to)
{
    for (int32_t i = (int32_t)threadIdx.x; i < F32_QUERIES * DIM; i += THREADS) {
        int32_t row = i / DIM, col = i % DIM;
        bool valid = row < n && col < p.kv.head_dim;
        to[row * f32_shape<DIM>::ROW + col] =
            valid ? p.q[query_offset(p, p.ldq, seq, kv_head, q0 + row) + col] * p.q_scale : 0.0f;
    }
}

/* K and V of the 16 positions at pos, zeros outside [lo, hi); k is followed by v. Ends in a
 * barrier. */
template <int DIM>
static __device__ void f32_tile(const attend &p, const int32_t *pages, int32_t kv_head, int32_t pos,
                                int32_t lo, int32_t hi, float *k)
{
    constexpr int CHUNKS = DIM / 4;
    const char *page =
        (const char *)p.kv.base + (size_t)pages[pos >> p.page_shift] * p.kv.page_stride;
    int32_t slot = pos & (p.kv.page_tokens - 1);
    for (int32_t i = (int32_t)threadIdx.x; i < 2 * GROUP * CHUNKS; i += THREADS) {
        int32_t row = i / CHUNKS, chunk = i % CHUNKS, at = pos + row % GROUP;
        bool valid = at >= lo && at < hi && chunk * 4 < p.kv.head_dim;
        int32_t head = row / GROUP * p.kv.kv_heads + kv_head;
        size_t line = (size_t)head * p.kv.page_tokens + slot + row % GROUP;
        const char *from = page + (line * p.kv.head_dim + chunk * 4) * 4;
        bt_cp_async16(k + row * f32_shape<DIM>::ROW + chunk * 4, valid ? from : page, valid);
    }
    bt_cp_async_commit();
    bt_cp_async_wait<0>();
    __syncthreads();
}

static __device__ __forceinline__ float f32_dot(float sum, float4 a, float4 b)
{
    sum = fmaf(a.x, b.x, sum);
    sum = fmaf(a.y, b.y, sum);
    sum = fmaf(a.z, b.z, sum);
    return fmaf(a.w, b.w, sum);
}

/* The tile at pos enters the softmax; last: greatest position that the query sees. */
template <int DIM>
static __device__ void f32_attend(const attend &p, const float *q, const float *k, int32_t pos,
                                  int32_t last, f32_state<DIM> &x)
{
    constexpr int ROW = f32_shape<DIM>::ROW;
    int32_t r = (int32_t)threadIdx.x / 8, c = (int32_t)threadIdx.x % 8;
    const float4 *query = (const float4 *)(q + r * ROW);
    float s[2] = {0, 0}, w[2];
    for (int i = 0; i < DIM / 4; i++) {
        s[0] = f32_dot(s[0], query[i], ((const float4 *)(k + c * ROW))[i]);
        s[1] = f32_dot(s[1], query[i], ((const float4 *)(k + (c + 8) * ROW))[i]);
    }
    for (int h = 0; h < 2; h++) {
        int32_t at = pos + c + 8 * h;
        if (p.cap > 0) s[h] = soft_capped(s[h], p.cap);
        if (at > last || (p.window > 0 && at <= last - p.window)) s[h] = -INFINITY;
    }
    float top = fmaxf(x.max, f32_row_max(fmaxf(s[0], s[1]))), ref = reference_of(top);
    float keep = exp2f(x.max - ref);
    for (int h = 0; h < 2; h++) w[h] = exp2f(s[h] - ref);
    x.max = top;
    x.sum = fmaf(x.sum, keep, w[0] + w[1]);
#pragma unroll
    for (int i = 0; i < f32_shape<DIM>::VECTORS; i++)
        x.o[i] = make_float4(x.o[i].x * keep, x.o[i].y * keep, x.o[i].z * keep, x.o[i].w * keep);
    const float *v = k + GROUP * ROW + c * 4;
    for (int t = 0; t < GROUP; t++) {
        float weight = __shfl_sync(0xffffffffu, t < 8 ? w[0] : w[1], t % 8, 8);
#pragma unroll
        for (int i = 0; i < f32_shape<DIM>::VECTORS; i++) {
            float4 y = *(const float4 *)(v + t * ROW + i * 32);
            x.o[i].x = fmaf(weight, y.x, x.o[i].x);
            x.o[i].y = fmaf(weight, y.y, x.o[i].y);
            x.o[i].z = fmaf(weight, y.z, x.o[i].z);
            x.o[i].w = fmaf(weight, y.w, x.o[i].w);
        }
    }
}

/* total takes a part in; the sums of the part's weights are complete in every thread. */
template <int DIM>
static __device__ void f32_merge(f32_state<DIM> &total, const f32_state<DIM> &part)
{
    merging m = merge_of(total.max, part.max);
    total.max = m.max;
    total.sum = merged(m, total.sum, part.sum);
#pragma unroll
    for (int i = 0; i < f32_shape<DIM>::VECTORS; i++)
        total.o[i] =
            make_float4(merged(m, total.o[i].x, part.o[i].x), merged(m, total.o[i].y, part.o[i].y),
                        merged(m, total.o[i].z, part.o[i].z), merged(m, total.o[i].w, part.o[i].w));
}

/* Writes this thread's columns, times factor. */
template <int DIM>
static __device__ void f32_write(const attend &p, const f32_state<DIM> &x, float factor, float *to)
{
    for (int i = 0; i < f32_shape<DIM>::VECTORS; i++) {
        int32_t col = i * 32 + (int32_t)threadIdx.x % 8 * 4;
        if (col < p.kv.head_dim)
            *(float4 *)(to + col) = make_float4(x.o[i].x * factor, x.o[i].y * factor,
                                                x.o[i].z * factor, x.o[i].w * factor);
    }
}

} // namespace
