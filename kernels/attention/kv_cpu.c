/* SPDX-License-Identifier: Apache-2.0 */
/* kv_cpu.c - rows of keys and values into pages and out of them, in each KV format. */
#include "kernels/attention/kv.h"
#include "kernels/attention/kv_element.h"
#include "kernels/quant/quant.h"
#include "kernels/vec.h"

/* A row of n floats as elements of int8 or fp8; returns its F16 scale. */
static uint16_t encode_scaled(bt_kv_format format, const float *x, int32_t n, uint8_t *dst)
{
    uint32_t most = 0;
    for (int32_t i = 0; i < n; i++) {
        uint32_t mag = bt_f32_bits(x[i]) & 0x7FFFFFFFu;
        most = mag > most ? mag : most;
    }
    float top = format == BT_KV_INT8 ? 127.0f : 448.0f;
    uint16_t scale = bt_kv_scale_bits(bt_f16_from_f32(bt_kv_scale(most, top)));
    float inverse = bt_kv_inverse(bt_f32_from_f16(scale));
    for (int32_t i = 0; i < n; i++)
        dst[i] = format == BT_KV_INT8 ? bt_kv_int8(x[i], inverse) : bt_kv_e4m3(x[i], inverse);
    return scale;
}

/* A row of n floats as elements at dst; the scale, if the format has one, goes to *scale. */
static void encode(const bt_kv_layout *l, const bt__vec *vec, const float *x, char *dst,
                   char *scale)
{
    int32_t n = l->head_dim;
    uint16_t half;
    switch (l->format) {
    case BT_KV_F16: vec->half_store(x, n, (uint16_t *)(void *)dst); return;
    case BT_KV_F32: memcpy(dst, x, (size_t)n * sizeof *x); return;
    case BT_KV_BF16:
        for (int32_t i = 0; i < n; i++) {
            half = bt_bf16_from_f32(x[i]);
            memcpy(dst + (size_t)i * 2, &half, 2);
        }
        return;
    case BT_KV_INT8:
    case BT_KV_FP8: half = encode_scaled(l->format, x, n, (uint8_t *)dst); memcpy(scale, &half, 2);
    }
}

/* Moves n elements of `bytes` bytes to every stride-th place. */
static void scatter(const char *row, int32_t n, size_t bytes, char *dst, size_t stride)
{
    switch (bytes) {
    case 1:
        for (int32_t d = 0; d < n; d++) dst[(size_t)d * stride] = row[d];
        return;
    case 2:
        for (int32_t d = 0; d < n; d++) memcpy(dst + (size_t)d * stride * 2, row + 2 * d, 2);
        return;
    default:
        for (int32_t d = 0; d < n; d++) memcpy(dst + (size_t)d * stride * 4, row + 4 * d, 4);
    }
}

void bt_kv_append(const bt_kv_layout *l, void *page, int32_t slot, const float *k, const float *v)
{
    const bt__vec *vec = bt__vec_get();
    size_t element = bt_kv_element_bytes(l), cols = (size_t)bt_kv_v_cols(l);
    size_t dim = (size_t)l->head_dim, tokens = (size_t)l->page_tokens, at = (size_t)slot;
    _Alignas(64) char row[BT_KV_HEAD_DIM_MAX * sizeof(float)];
    for (int32_t h = 0; h < l->kv_heads; h++) {
        char *k_scale = (char *)page + bt_kv_k_scale_offset(l, h) + at * 2;
        char *v_scale = (char *)page + bt_kv_v_scale_offset(l, h) + at * 2;
        encode(l, vec, k + (size_t)h * dim, row, k_scale);
        scatter(row, l->head_dim, element, (char *)page + bt_kv_k_offset(l, h) + at * element,
                tokens);
        char *dst = (char *)page + bt_kv_v_offset(l, h) + at * cols * element;
        encode(l, vec, v + (size_t)h * dim, dst, v_scale);
        memset(dst + dim * element, 0, (cols - dim) * element);
    }
}

static float element_at(const bt_kv_layout *l, const char *p, const char *scale)
{
    float f;
    switch (l->format) {
    case BT_KV_F16: return bt_f32_from_f16(bt_load_u16(p));
    case BT_KV_BF16: return bt_f32_from_bf16(bt_load_u16(p));
    case BT_KV_INT8: return (float)(int8_t)*p * bt_f32_from_f16(bt_load_u16(scale));
    case BT_KV_FP8: return bt_f32_from_e4m3((uint8_t)*p) * bt_f32_from_f16(bt_load_u16(scale));
    case BT_KV_F32: break;
    }
    memcpy(&f, p, sizeof f);
    return f;
}

float bt_kv_k_at(const bt_kv_layout *l, const void *page, int32_t head, int32_t slot, int32_t d)
{
    size_t at = (size_t)(d * l->page_tokens + slot) * bt_kv_element_bytes(l);
    return element_at(l, (const char *)page + bt_kv_k_offset(l, head) + at,
                      (const char *)page + bt_kv_k_scale_offset(l, head) + (size_t)slot * 2);
}

float bt_kv_v_at(const bt_kv_layout *l, const void *page, int32_t head, int32_t slot, int32_t d)
{
    size_t at = (size_t)(slot * bt_kv_v_cols(l) + d) * bt_kv_element_bytes(l);
    return element_at(l, (const char *)page + bt_kv_v_offset(l, head) + at,
                      (const char *)page + bt_kv_v_scale_offset(l, head) + (size_t)slot * 2);
}
