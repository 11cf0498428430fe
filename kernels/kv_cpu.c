/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/kv.h"
#include "kernels/quant.h"
#include "kernels/vec.h"

/* K goes through a row of the same element type, so that the scatter moves elements only. */
static void append_k(const bt_kv_layout *l, const bt__vec *v, char *page, int32_t slot,
                     const float *k)
{
    for (int32_t h = 0; h < l->kv_heads; h++) {
        const float *row = k + (ptrdiff_t)h * l->head_dim;
        char *dst = page + bt_kv_k_offset(l, h);
        if (l->format == BT_KV_F32) {
            for (int32_t d = 0; d < l->head_dim; d++) {
                int32_t at = d * l->page_tokens + slot;
                memcpy(dst + (size_t)at * sizeof *row, row + d, sizeof *row);
            }
            continue;
        }
        uint16_t half[BT_KV_HEAD_DIM_MAX];
        v->half_store(row, l->head_dim, half);
        for (int32_t d = 0; d < l->head_dim; d++)
            memcpy(dst + (size_t)(d * l->page_tokens + slot) * 2, &half[d], 2);
    }
}

void bt_kv_append(const bt_kv_layout *l, void *page, int32_t slot, const float *k, const float *v)
{
    const bt__vec *vec = bt__vec_get();
    append_k(l, vec, page, slot, k);
    size_t element = bt_kv_element_bytes(l), cols = (size_t)bt_kv_v_cols(l);
    size_t dim = (size_t)l->head_dim;
    for (int32_t h = 0; h < l->kv_heads; h++) {
        char *dst = (char *)page + bt_kv_v_offset(l, h) + (size_t)slot * cols * element;
        if (l->format == BT_KV_F16)
            vec->half_store(v + (size_t)h * dim, l->head_dim, (uint16_t *)(void *)dst);
        else
            memcpy(dst, v + (size_t)h * dim, dim * element);
        memset(dst + dim * element, 0, (cols - dim) * element);
    }
}

static float element_at(const bt_kv_layout *l, const char *p)
{
    if (l->format == BT_KV_F16) return bt_f32_from_f16(bt_load_u16(p));
    float f;
    memcpy(&f, p, sizeof f);
    return f;
}

float bt_kv_k_at(const bt_kv_layout *l, const void *page, int32_t head, int32_t slot, int32_t d)
{
    size_t at = (size_t)(d * l->page_tokens + slot) * bt_kv_element_bytes(l);
    return element_at(l, (const char *)page + bt_kv_k_offset(l, head) + at);
}

float bt_kv_v_at(const bt_kv_layout *l, const void *page, int32_t head, int32_t slot, int32_t d)
{
    size_t at = (size_t)(slot * bt_kv_v_cols(l) + d) * bt_kv_element_bytes(l);
    return element_at(l, (const char *)page + bt_kv_v_offset(l, head) + at);
}
