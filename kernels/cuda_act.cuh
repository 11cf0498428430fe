/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_act.cuh - writing a row's prepared forms (kernels/cuda_act.h), four columns a thread.
 *
 * A quad is columns c .. c+3 of a row, c a multiple of 4, held by one thread; consecutive lanes
 * hold consecutive quads, so a Q8 block is eight lanes. All 32 lanes of a warp call, those past the
 * row's end with zeros. WIDE: cols and strides are multiples of 4 and bases 16-byte aligned. */
#pragma once
#include "kernels/cuda_act.h"

typedef struct quad {
    float v[4];
} quad;

template <bool WIDE>
static __device__ __forceinline__ quad quad_load(const float *row, int32_t c, int32_t cols)
{
    quad q = {{0.0f, 0.0f, 0.0f, 0.0f}};
    if (WIDE) {
        if (c < cols) {
            uint4 u = bt_load16(row + c);
            q.v[0] = __uint_as_float(u.x);
            q.v[1] = __uint_as_float(u.y);
            q.v[2] = __uint_as_float(u.z);
            q.v[3] = __uint_as_float(u.w);
        }
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (c + i < cols) q.v[i] = row[c + i];
    }
    return q;
}

template <bool WIDE>
static __device__ __forceinline__ void quad_store_f32(const quad &q, float *row, int32_t c,
                                                      int32_t cols)
{
    if (WIDE) {
        if (c < cols)
            bt_store16(row + c, make_uint4(__float_as_uint(q.v[0]), __float_as_uint(q.v[1]),
                                           __float_as_uint(q.v[2]), __float_as_uint(q.v[3])));
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (c + i < cols) row[c + i] = q.v[i];
    }
}

static __device__ __forceinline__ uint32_t half_bits(float a, float b)
{
    return (uint32_t)__half_as_ushort(__float2half_rn(a)) |
           (uint32_t)__half_as_ushort(__float2half_rn(b)) << 16;
}

/* inverse: of the row's scale, a power of two. */
template <bool WIDE>
static __device__ __forceinline__ void quad_store_f16(const quad &q, float inverse, __half *row,
                                                      int32_t c, int32_t cols)
{
    if (WIDE) {
        if (c < cols)
            bt_store8(row + c, make_uint2(half_bits(q.v[0] * inverse, q.v[1] * inverse),
                                          half_bits(q.v[2] * inverse, q.v[3] * inverse)));
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (c + i < cols) row[c + i] = __float2half_rn(q.v[i] * inverse);
    }
}

/* Greatest |x| of a quad as bits, so that infinity and NaN win. */
static __device__ __forceinline__ uint32_t quad_most(const quad &q)
{
    uint32_t most = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) most = max(most, __float_as_uint(q.v[i]) & 0x7FFFFFFFu);
    return most;
}

/* Row r's Q8 block of which this thread holds a quarter of a quarter; cols % 32 == 0. */
static __device__ __forceinline__ void quad_store_q8(const quad &q, const bt_cuda_act &out,
                                                     int64_t r, int32_t c, int32_t cols)
{
    uint32_t most = quad_most(q);
    for (int step = 4; step > 0; step >>= 1)
        most = max(most, __shfl_xor_sync(0xFFFFFFFFu, most, step));
    float amax = __uint_as_float(most);
    bool zero = !(amax >= 0x1p-100f && amax < INFINITY);
    float inverse = zero ? 0.0f : 127.0f / amax;
    int sum = 0;
    uint32_t packed = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int e = zero ? 0 : (int)rintf(q.v[i] * inverse);
        sum += e;
        packed |= ((uint32_t)e & 0xFFu) << 8 * i;
    }
    for (int step = 4; step > 0; step >>= 1) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, step);
    if (c >= cols) return;
    bt_store4(out.q + r * cols + c, packed);
    if (c % 32) return;
    float d = !zero ? amax / 127.0f : most >= 0x7F800000u ? NAN : 0.0f;
    out.d[r * (cols / 32) + c / 32] = d;
    out.s[r * (cols / 32) + c / 32] = d * (float)sum;
}

/* The scale of a row of halves from its greatest |x| (as bits): 1, or 2^(e - 9) for 2^e <= |x| <
 * 2^(e + 1), which brings it into [512, 1024); exactly 1024 * 2^j is brought to 1024. */
static __device__ __forceinline__ float act_f16_scale(uint32_t most)
{
    if (most <= 0x44800000u || most >= 0x7F800000u) return 1.0f; // 1024
    uint32_t exponent = (most >> 23) - 10 + ((most & 0x7FFFFFu) != 0);
    return __uint_as_float(exponent << 23);
}

/* All forms but F16. */
template <bool WIDE>
static __device__ __forceinline__ void quad_store(const quad &q, unsigned kinds,
                                                  const bt_cuda_act &out, int64_t r, int32_t c,
                                                  int32_t cols)
{
    if (kinds & BT_CUDA_ACT_F32) quad_store_f32<WIDE>(q, out.f32 + r * cols, c, cols);
    if (kinds & BT_CUDA_ACT_Q8) quad_store_q8(q, out, r, c, cols);
}

/* Greatest over a block of threads; part: shared, [32]. Ends with all threads having read it. */
static __device__ __forceinline__ uint32_t block_most(uint32_t most, uint32_t *part)
{
    most = bt_warp_max_uint(most);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = most;
    __syncthreads();
    most = part[0];
    for (unsigned i = 1; i < blockDim.x / 32; i++) most = max(most, part[i]);
    return most;
}

/* Whether buffers are there for the kinds, and their shape fits. */
static inline bool act_can_hold(const bt_cuda_act *a, unsigned kinds, int32_t cols)
{
    const unsigned all = BT_CUDA_ACT_F32 | BT_CUDA_ACT_F16 | BT_CUDA_ACT_Q8;
    if (!a || a->k != cols || kinds == 0 || kinds & ~all) return false;
    if (kinds & BT_CUDA_ACT_F32 && !a->f32) return false;
    if (kinds & BT_CUDA_ACT_F16 && !(a->f16 && a->f16_scale)) return false;
    return !(kinds & BT_CUDA_ACT_Q8) || (cols % 32 == 0 && a->q && a->d && a->s);
}

static inline bool is_wide(const void *p, int64_t ld)
{
    return p && (uintptr_t)p % 16 == 0 && ld % 4 == 0;
}
