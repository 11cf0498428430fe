/* SPDX-License-Identifier: Apache-2.0 */
/* kv_cuda.h - the device's KV page: where a token's keys and values lie.
 *
 * A page holds page_tokens positions of one layer, all KV heads:
 *     K       [kv_heads][page_tokens][head_dim]   elements
 *     V       [kv_heads][page_tokens][head_dim]
 *     K scale [kv_heads][page_tokens]             f16, formats int8 and fp8 only
 *     V scale [kv_heads][page_tokens]
 * Elements are f16, bf16, f32, int8 or fp8 e4m3 (a byte; kernels/attention/kv_element.h has the conversions);
 * in the last two x = q * scale, one scale per head and token. Pages start 256-byte aligned, so
 * with head_dim % 16 == 0 each row of a head is 16-byte aligned. Positions past a sequence's end
 * hold garbage that nobody's result may touch.
 *
 * bytes of a position, head_dim 128, 8 KV heads: f32 8192, f16 and bf16 4096, int8 and fp8 2080. */
#pragma once
#include "baton/backend.h"
#include <stddef.h>
#include <stdint.h>

#ifdef __CUDACC__
#define BT_KV_INLINE static inline __host__ __device__
#else
#define BT_KV_INLINE static inline
#endif

typedef struct bt_cuda_kv {
    bt_kv_format format;
    int32_t kv_heads, head_dim; // head_dim % 4 == 0, at most 256
    int32_t page_tokens;        // 16 or 32
    void *base;                 // page 0 of this layer
    size_t page_stride;         // bytes from page to page, a multiple of 256
} bt_cuda_kv;

BT_KV_INLINE size_t bt_cuda_kv_element_bytes(bt_kv_format f)
{
    return f == BT_KV_F32 ? 4 : f == BT_KV_INT8 || f == BT_KV_FP8 ? 1 : 2;
}
BT_KV_INLINE bool bt_cuda_kv_scaled(bt_kv_format f)
{
    return f == BT_KV_INT8 || f == BT_KV_FP8;
}
/* Byte offsets in a page of a head's row for one position, and of its scale. */
BT_KV_INLINE size_t bt_cuda_kv_k_offset(const bt_cuda_kv *kv, int32_t head, int32_t slot)
{
    return ((size_t)head * (size_t)kv->page_tokens + (size_t)slot) * (size_t)kv->head_dim *
           bt_cuda_kv_element_bytes(kv->format);
}
BT_KV_INLINE size_t bt_cuda_kv_v_offset(const bt_cuda_kv *kv, int32_t head, int32_t slot)
{
    return bt_cuda_kv_k_offset(kv, kv->kv_heads + head, slot);
}
BT_KV_INLINE size_t bt_cuda_kv_k_scale_offset(const bt_cuda_kv *kv, int32_t head, int32_t slot)
{
    return bt_cuda_kv_k_offset(kv, 2 * kv->kv_heads, 0) +
           ((size_t)head * (size_t)kv->page_tokens + (size_t)slot) * 2;
}
BT_KV_INLINE size_t bt_cuda_kv_v_scale_offset(const bt_cuda_kv *kv, int32_t head, int32_t slot)
{
    return bt_cuda_kv_k_scale_offset(kv, kv->kv_heads + head, slot);
}
/* One layer's page: a multiple of 256. */
BT_KV_INLINE size_t bt_cuda_kv_page_bytes(bt_kv_format format, int32_t kv_heads, int32_t head_dim,
                                          int32_t page_tokens)
{
    size_t rows = 2 * (size_t)kv_heads * (size_t)page_tokens;
    size_t row = (size_t)head_dim * bt_cuda_kv_element_bytes(format);
    return (rows * (row + (bt_cuda_kv_scaled(format) ? 2 : 0)) + 255) / 256 * 256;
}
