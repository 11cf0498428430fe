/* SPDX-License-Identifier: Apache-2.0 */
/* linear_generic.c - the float formats, and what formats share, in plain C over the packed layouts:
 * every machine has this one. */
#include "kernels/linear/linear_impl.h"
#include <math.h>

void bt__generic_f32(const void *panel, int32_t k, const void *act, int32_t w, float *acc)
{
    const float *p = panel, *x = act;
    for (int32_t i = 0; i < k; i++, p += 32, x += w)
        for (int32_t r = 0; r < w; r++)
            for (int o = 0; o < 32; o++) acc[r * 32 + o] = fmaf(p[o], x[r], acc[r * 32 + o]);
}

void bt__generic_widen_f16(const uint16_t *src, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i++) dst[i] = bt_f32_from_f16(src[i]);
}

void bt__generic_widen_bf16(const uint16_t *src, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i++) dst[i] = bt_f32_from_bf16(src[i]);
}

void bt__generic_f16(const void *panel, int32_t k, const void *act, int32_t w, float *acc)
{
    const uint16_t *p = panel;
    float wide[32];
    for (int32_t i = 0; i < k; i++) {
        bt__generic_widen_f16(p + (size_t)i * 32, 32, wide);
        bt__generic_f32(wide, 1, (const float *)act + (size_t)i * (size_t)w, w, acc);
    }
}

void bt__generic_bf16(const void *panel, int32_t k, const void *act, int32_t w, float *acc)
{
    const uint16_t *p = panel;
    float wide[32];
    for (int32_t i = 0; i < k; i++) {
        bt__generic_widen_bf16(p + (size_t)i * 32, 32, wide);
        bt__generic_f32(wide, 1, (const float *)act + (size_t)i * (size_t)w, w, acc);
    }
}

static void generic_store(const float *acc, int32_t w, int32_t width, const float *bias,
                          bool accumulate, float *y, int64_t ldy)
{
    for (int32_t r = 0; r < w; r++, acc += 32, y += ldy)
        for (int32_t o = 0; o < width; o++) {
            float v = bias ? acc[o] + bias[o] : acc[o];
            y[o] = accumulate ? y[o] + v : v;
        }
}

static void generic_quantize(const float *x, int32_t blocks, int32_t w, int32_t row, uint8_t *act)
{
    for (int32_t b = 0; b < blocks; b++, x += 32, act += (size_t)w * BT__ACT_ROW) {
        int8_t *q = (int8_t *)act + (size_t)row * 32;
        int32_t sum[4] = {0}; // of pairs of neighbours: k < 16 and k % 4 of 0 or 1; 2 or 3; k >= 16
        uint32_t most = 0;
        for (int i = 0; i < 32; i++) {
            uint32_t bits = bt_f32_bits(x[i]) & 0x7FFFFFFFu;
            most = bits > most ? bits : most;
        }
        float amax = bt_f32_from_bits(most);
        bool zero = !(amax >= BT__AMAX_MIN && amax < INFINITY);
        float inverse = zero ? 0 : 127 / amax;
        for (int i = 0; i < 32; i++) {
            q[i] = zero ? 0 : (int8_t)lrintf(x[i] * inverse);
            sum[i / 16 * 2 + i % 4 / 2] += q[i];
        }
        int16_t pairs[4] = {(int16_t)sum[0], (int16_t)sum[1], (int16_t)sum[2], (int16_t)sum[3]};
        int32_t all = sum[0] + sum[1] + sum[2] + sum[3];
        float d = !zero ? amax / 127 : most >= 0x7F800000u ? NAN : 0;
        bt__act_put(act, w, row, d, all, pairs);
    }
}

const bt__linear_isa bt__linear_generic = {generic_store, generic_quantize};
