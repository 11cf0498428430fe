/* SPDX-License-Identifier: Apache-2.0 */
/* linear_generic.c - the family in plain C over the packed layouts: every machine has this one. */
#include "kernels/linear/linear_impl.h"
#include <math.h>

static void generic_q8(const bt__panel_q8 *panel, int32_t blocks, const uint8_t *act, int32_t w,
                       float *acc)
{
    memset(acc, 0, sizeof *acc * (size_t)w * 32);
    for (int32_t b = 0; b < blocks; b++, act += (size_t)w * BT__ACT_ROW) {
        const float *d = (const float *)(const void *)(act + (size_t)w * 32);
        for (int32_t r = 0; r < w; r++) {
            const int8_t *x = (const int8_t *)act + (size_t)r * 32;
            for (int o = 0; o < 32; o++) {
                int32_t sum = 0;
                for (int i = 0; i < 32; i++) sum += (panel[b].q[i / 4][o][i % 4] - 128) * x[i];
                float *a = &acc[r * 32 + o];
                *a = fmaf((float)sum, bt_f32_from_f16(panel[b].d[o]) * d[r], *a);
            }
        }
    }
}

static void generic_q4(const bt__panel_q4 *panel, int32_t blocks, const uint8_t *act, int32_t w,
                       float *acc)
{
    memset(acc, 0, sizeof *acc * (size_t)w * 32);
    for (int32_t b = 0; b < blocks; b++, act += (size_t)w * BT__ACT_ROW) {
        const float *d = (const float *)(const void *)(act + (size_t)w * 32);
        for (int32_t r = 0; r < w; r++) {
            const int8_t *x = (const int8_t *)act + (size_t)r * 32;
            for (int o = 0; o < 32; o++) {
                int32_t sum = 0;
                for (int i = 0; i < 16; i++) {
                    uint8_t q = panel[b].q[i / 4][o][i % 4];
                    sum += ((q & 15) - 8) * x[i] + ((q >> 4) - 8) * x[i + 16];
                }
                float *a = &acc[r * 32 + o];
                *a = fmaf((float)sum, bt_f32_from_f16(panel[b].d[o]) * d[r], *a);
            }
        }
    }
}

static void generic_dot_f32(const void *panel, int32_t k, const float *act, int32_t w, float *acc)
{
    const float *p = panel;
    for (int32_t i = 0; i < k; i++, p += 32, act += w)
        for (int32_t r = 0; r < w; r++)
            for (int o = 0; o < 32; o++) acc[r * 32 + o] = fmaf(p[o], act[r], acc[r * 32 + o]);
}

static void generic_widen_f16(const uint16_t *src, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i++) dst[i] = bt_f32_from_f16(src[i]);
}

static void generic_widen_bf16(const uint16_t *src, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i++) dst[i] = bt_f32_from_bf16(src[i]);
}

static void generic_dot_f16(const void *panel, int32_t k, const float *act, int32_t w, float *acc)
{
    const uint16_t *p = panel;
    float wide[32];
    for (int32_t i = 0; i < k; i++) {
        generic_widen_f16(p + (size_t)i * 32, 32, wide);
        generic_dot_f32(wide, 1, act + (size_t)i * (size_t)w, w, acc);
    }
}

static void generic_dot_bf16(const void *panel, int32_t k, const float *act, int32_t w, float *acc)
{
    const uint16_t *p = panel;
    float wide[32];
    for (int32_t i = 0; i < k; i++) {
        generic_widen_bf16(p + (size_t)i * 32, 32, wide);
        generic_dot_f32(wide, 1, act + (size_t)i * (size_t)w, w, acc);
    }
}

static void generic_widen_sub(const bt__wide_sub *sub, float *dst)
{
    bt__wide_widen(sub, dst);
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
        float *d = (float *)(void *)(act + (size_t)w * 32) + row;
        int32_t *sums = (int32_t *)(void *)(act + (size_t)w * 36) + row, sum = 0;
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
            sum += q[i];
        }
        *d = !zero ? amax / 127 : most >= 0x7F800000u ? NAN : 0;
        sums[0] = -8 * sum;
        sums[w] = -128 * sum;
    }
}

const bt__linear_kernels bt__linear_generic = {
    generic_q8,        generic_q4,         generic_dot_f32,   generic_dot_f16, generic_dot_bf16,
    generic_widen_f16, generic_widen_bf16, generic_widen_sub, generic_store,   generic_quantize,
};
