/* SPDX-License-Identifier: Apache-2.0 */
/* kv.h - the CPU's KV page: where a token's keys and values lie.
 *
 * A page holds page_tokens positions of one layer, all KV heads:
 *     K  [kv_heads][head_dim][page_tokens]   keys lie across, so a score needs no sum over lanes
 *     V  [kv_heads][page_tokens][v_cols]     v_cols = head_dim rounded up to 16, padding zero
 * In formats int8 and fp8 (kernels/attention/kv_element.h: x = q * scale) one f16 scale a head and position:
 *     K scale [kv_heads][page_tokens], V scale likewise
 * Elements are f16, bf16, f32, int8 or fp8 e4m3. Positions past a sequence's end hold garbage that
 * nobody's result may touch. Thread: any; rows of different positions may be appended at the same
 * time. */
#pragma once
#include "baton/backend.h"
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bt_kv_layout {
    bt_kv_format format;
    int32_t kv_heads, head_dim; // head_dim in [1, BT_KV_HEAD_DIM_MAX]
    int32_t page_tokens;        // 16 or 32
} bt_kv_layout;

enum { BT_KV_HEAD_DIM_MAX = 256 };

static inline int32_t bt_kv_v_cols(const bt_kv_layout *l)
{
    return (l->head_dim + 15) / 16 * 16;
}
static inline size_t bt_kv_element_bytes(const bt_kv_layout *l)
{
    switch (l->format) {
    case BT_KV_F32: return 4;
    case BT_KV_INT8:
    case BT_KV_FP8: return 1;
    default: return 2;
    }
}
static inline bool bt_kv_scaled(const bt_kv_layout *l)
{
    return l->format == BT_KV_INT8 || l->format == BT_KV_FP8;
}
/* Byte offsets in a page of a head's K and V. */
static inline size_t bt_kv_k_offset(const bt_kv_layout *l, int32_t head)
{
    return (size_t)head * (size_t)l->head_dim * (size_t)l->page_tokens * bt_kv_element_bytes(l);
}
static inline size_t bt_kv_v_offset(const bt_kv_layout *l, int32_t head)
{
    return bt_kv_k_offset(l, l->kv_heads) +
           (size_t)head * (size_t)bt_kv_v_cols(l) * (size_t)l->page_tokens * bt_kv_element_bytes(l);
}
/* Of a head's scales, [page_tokens] f16. */
static inline size_t bt_kv_k_scale_offset(const bt_kv_layout *l, int32_t head)
{
    return bt_kv_v_offset(l, l->kv_heads) + (size_t)head * (size_t)l->page_tokens * 2;
}
static inline size_t bt_kv_v_scale_offset(const bt_kv_layout *l, int32_t head)
{
    return bt_kv_k_scale_offset(l, l->kv_heads + head);
}
/* One layer's page, K and V: a multiple of 64. */
static inline size_t bt_kv_page_bytes(const bt_kv_layout *l)
{
    size_t end =
        bt_kv_scaled(l) ? bt_kv_v_scale_offset(l, l->kv_heads) : bt_kv_v_offset(l, l->kv_heads);
    return (end + 63) / 64 * 64;
}

/* Stores one token's keys and values ([kv_heads, head_dim] each) at position `slot` of a page. */
void bt_kv_append(const bt_kv_layout *l, void *page, int32_t slot, const float *k, const float *v);
/* One stored element, for the reference and tests. */
float bt_kv_k_at(const bt_kv_layout *l, const void *page, int32_t head, int32_t slot, int32_t d);
float bt_kv_v_at(const bt_kv_layout *l, const void *page, int32_t head, int32_t slot, int32_t d);

#ifdef __cplusplus
}
#endif
