/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda_kernel.h"
#include "kernels/cuda_act.cuh"
#include "kernels/attention/kv_element.h"
#include "kernels/rope/rope_cuda.h"

enum { ROPE_WARPS = 4, HEAD_MAX = 256, QUADS = HEAD_MAX / 128 };

/* Nearest, ties to even, as bt_bf16_from_f32(). */
static __device__ __forceinline__ uint32_t bf16_bits(float f)
{
    uint32_t u = __float_as_uint(f);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) return u >> 16 | 0x40u;
    return (u + 0x7FFFu + (u >> 16 & 1u)) >> 16;
}

static __device__ __forceinline__ uint32_t int8_or_fp8(int format, float x, float inverse)
{
    return format == BT_KV_INT8 ? bt_kv_int8(x, inverse) : bt_kv_e4m3(x, inverse);
}

/* A head as elements of the page at dst; x[j]: columns 128 j + 4 lane onwards. */
template <int FORMAT>
static __device__ __forceinline__ void encode_head(const quad *x, int32_t head_dim, char *dst,
                                                   char *scale_at)
{
    int32_t lane = (int32_t)threadIdx.x % 32;
    float inverse = 1.0f;
    if (FORMAT == BT_KV_INT8 || FORMAT == BT_KV_FP8) {
        uint32_t most = 0;
#pragma unroll
        for (int j = 0; j < QUADS; j++) most = max(most, quad_most(x[j]));
        float top = FORMAT == BT_KV_INT8 ? 127.0f : 448.0f;
        float scale = bt_kv_scale(bt_warp_max_uint(most), top);
        uint16_t half = bt_kv_scale_bits(__half_as_ushort(__float2half_rn(scale)));
        inverse = bt_kv_inverse(__half2float(__ushort_as_half(half)));
        if (lane == 0) *(uint16_t *)scale_at = half;
    }
#pragma unroll
    for (int j = 0; j < QUADS; j++) {
        int32_t c = 128 * j + 4 * lane;
        const float *v = x[j].v;
        if (c >= head_dim) continue;
        if (FORMAT == BT_KV_F32)
            quad_store_f32<true>(x[j], (float *)dst, c, head_dim);
        else if (FORMAT == BT_KV_F16)
            quad_store_f16<true>(x[j], 1.0f, (__half *)dst, c, head_dim);
        else if (FORMAT == BT_KV_BF16)
            bt_store8(dst + 2 * c, make_uint2(bf16_bits(v[0]) | bf16_bits(v[1]) << 16,
                                              bf16_bits(v[2]) | bf16_bits(v[3]) << 16));
        else
            bt_store4(dst + c, int8_or_fp8(FORMAT, v[0], inverse) |
                                   int8_or_fp8(FORMAT, v[1], inverse) << 8 |
                                   int8_or_fp8(FORMAT, v[2], inverse) << 16 |
                                   int8_or_fp8(FORMAT, v[3], inverse) << 24);
    }
}

/* Norm and rotation of the head in x, through shared memory of this warp. */
static __device__ __forceinline__ void turn_head(const bt_cuda_rope_args &a, const float *norm,
                                                 int32_t pos, quad *x, float *shared)
{
    int32_t lane = (int32_t)threadIdx.x % 32, dim = a.kv.head_dim;
    if (norm) {
        float sum = 0.0f;
#pragma unroll
        for (int j = 0; j < QUADS; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) sum = fmaf(x[j].v[i], x[j].v[i], sum);
        float scale = 1.0f / sqrtf(bt_warp_sum(sum) / (float)dim + a.norm_eps);
#pragma unroll
        for (int j = 0; j < QUADS; j++) {
            quad w = quad_load<true>(norm, 128 * j + 4 * lane, dim);
#pragma unroll
            for (int i = 0; i < 4; i++) x[j].v[i] = x[j].v[i] * scale * w.v[i];
        }
    }
    if (a.style == BT_ROPE_NONE) return;
#pragma unroll
    for (int j = 0; j < QUADS; j++)
        quad_store_f32<true>(x[j], shared, 128 * j + 4 * lane, HEAD_MAX);
    __syncwarp();
    int32_t half = a.rope_dim / 2, apart = a.style == BT_ROPE_HALF ? half : 1;
    for (int32_t i = lane; i < half; i += 32) {
        float *p = shared + (a.style == BT_ROPE_HALF ? i : 2 * i);
        float u = p[0], v = p[apart];
        float cos = a.cos[(int64_t)pos * half + i], sin = a.sin[(int64_t)pos * half + i];
        p[0] = fmaf(u, cos, -(v * sin));
        p[apart] = fmaf(u, sin, v * cos);
    }
    __syncwarp();
#pragma unroll
    for (int j = 0; j < QUADS; j++) x[j] = quad_load<true>(shared, 128 * j + 4 * lane, dim);
}

/* grid (rows, heads / 4); a warp is one head of q, of k or of v. */
template <int FORMAT>
static __global__ void __launch_bounds__(ROPE_WARPS * 32) rope_kv_kernel(bt_cuda_rope_args a)
{
    typedef float head_row[HEAD_MAX];
    BT_SHARED(head_row, heads, ROPE_WARPS);
    int32_t warp = (int32_t)threadIdx.x / 32, lane = (int32_t)threadIdx.x % 32;
    int32_t head = (int32_t)blockIdx.y * ROPE_WARPS + warp, dim = a.kv.head_dim;
    int64_t r = blockIdx.x;
    int32_t seq = a.row_seq[r], pos = a.pos[r], kv_heads = a.kv.kv_heads;
    quad x[QUADS] = {};
    if (head < a.n_heads) {
        float *q = a.q + r * a.ldq + (int64_t)head * dim;
        if (seq >= 0) {
#pragma unroll
            for (int j = 0; j < QUADS; j++) x[j] = quad_load<true>(q, 128 * j + 4 * lane, dim);
            turn_head(a, a.q_norm, pos, x, heads[warp]);
        }
#pragma unroll
        for (int j = 0; j < QUADS; j++) quad_store_f32<true>(x[j], q, 128 * j + 4 * lane, dim);
        return;
    }
    head -= a.n_heads;
    if (seq < 0 || head >= 2 * kv_heads) return;
    bool is_k = head < kv_heads;
    if (!is_k) head -= kv_heads;
    const float *src = (is_k ? a.k + r * a.ldk : a.v + r * a.ldv) + (int64_t)head * dim;
#pragma unroll
    for (int j = 0; j < QUADS; j++) x[j] = quad_load<true>(src, 128 * j + 4 * lane, dim);
    if (is_k) turn_head(a, a.k_norm, pos, x, heads[warp]);
    int32_t tokens = a.kv.page_tokens, slot = pos % tokens;
    char *page = (char *)a.kv.base +
                 (size_t)a.pages[(int64_t)seq * a.pages_ld + pos / tokens] * a.kv.page_stride;
    encode_head<FORMAT>(x, dim,
                        page + (is_k ? bt_cuda_kv_k_offset(&a.kv, head, slot)
                                     : bt_cuda_kv_v_offset(&a.kv, head, slot)),
                        page + (is_k ? bt_cuda_kv_k_scale_offset(&a.kv, head, slot)
                                     : bt_cuda_kv_v_scale_offset(&a.kv, head, slot)));
}

static bool rope_args_ok(const bt_cuda_rope_args *a)
{
    const bt_cuda_kv *kv = &a->kv;
    if (a->rows < 0 || a->n_heads < 1 || kv->kv_heads < 1) return false;
    if (kv->head_dim < 4 || kv->head_dim > HEAD_MAX || kv->head_dim % 4) return false;
    if (kv->page_tokens < 1 || kv->page_stride % 256 || (uintptr_t)kv->base % 256) return false;
    if (kv->page_stride <
        bt_cuda_kv_page_bytes(kv->format, kv->kv_heads, kv->head_dim, kv->page_tokens))
        return false;
    if (a->style != BT_ROPE_NONE &&
        (a->rope_dim < 2 || a->rope_dim % 2 || a->rope_dim > kv->head_dim || !a->cos || !a->sin))
        return false;
    return is_wide(a->q, a->ldq) && is_wide(a->k, a->ldk) && is_wide(a->v, a->ldv) &&
           (uintptr_t)a->q_norm % 16 == 0 && (uintptr_t)a->k_norm % 16 == 0;
}

extern "C" cudaError_t bt_cuda_rope_kv(const bt_cuda_rope_args *a, cudaStream_t s)
{
    if (!rope_args_ok(a)) return cudaErrorInvalidValue;
    if (a->rows == 0) return cudaSuccess;
    int32_t heads = a->n_heads + 2 * a->kv.kv_heads;
    dim3 grid((unsigned)a->rows, (unsigned)(heads + ROPE_WARPS - 1) / ROPE_WARPS);
    dim3 block(ROPE_WARPS * 32);
    switch (a->kv.format) {
    case BT_KV_F16: return bt_launch(rope_kv_kernel<BT_KV_F16>, grid, block, 0, s, *a);
    case BT_KV_F32: return bt_launch(rope_kv_kernel<BT_KV_F32>, grid, block, 0, s, *a);
    case BT_KV_BF16: return bt_launch(rope_kv_kernel<BT_KV_BF16>, grid, block, 0, s, *a);
    case BT_KV_INT8: return bt_launch(rope_kv_kernel<BT_KV_INT8>, grid, block, 0, s, *a);
    case BT_KV_FP8: return bt_launch(rope_kv_kernel<BT_KV_FP8>, grid, block, 0, s, *a);
    }
    return cudaErrorInvalidValue;
}
