/* SPDX-License-Identifier: Apache-2.0 */
/* linear_int8_generic.c - the block formats in plain C over the packed layouts. */
#include "kernels/linear/linear_impl.h"
#include <math.h>

/* The 32 values of output o in the quants of one panel's block of 32 k. */
static inline void values_of(const bt_form *f, const uint8_t *quants, int o, int *v)
{
    for (int k = 0; k < 32; k++) {
        const uint8_t *part = quants + 4 * o + k % 4;
        int g = k / 4, q = 0, at = 0;
        if (f->bits == 8) q = part[(ptrdiff_t)128 * g];
        if (f->bits & 4) {
            q = part[(ptrdiff_t)128 * (g / 2)] >> g % 2 * 4 & 15;
            part += 512;
            at = 4;
        }
        if (f->bits & 2) {
            q |= (part[(ptrdiff_t)128 * (g / 4)] >> g % 4 * 2 & 3) << at;
            part += 256;
            at += 2;
        }
        if (f->bits & 1) q |= (part[0] >> g & 1) << at;
        v[k] = bt_form_value(f, (uint8_t)q);
    }
}

/* What multiplies the sums of output o: D, M and the integer scales and minimums of 16 k. */
typedef struct numbers {
    float d, m;
    int scale[2], min[2];
} numbers;

static inline numbers numbers_of(const bt_form *f, const uint8_t *head, const uint8_t *bytes, int o)
{
    numbers n = {.scale = {1, 1}};
    uint16_t d = bt_load_u16(head + 2 * o);
    n.d = f->bf16 ? bt_f32_from_bf16(d) : bt_f32_from_f16(d);
    if (f->min) n.m = bt_f32_from_f16(bt_load_u16(head + 64 + 2 * o));
    if (f->scales == 1) n.d *= (float)(int8_t)bytes[o];
    if (f->min == BT_MIN_32) n.m *= (float)(int8_t)bytes[32 * f->scales + o];
    for (int h = 0; f->scales == 2 && h < 2; h++) {
        uint8_t byte = bytes[32 * h + o];
        n.scale[h] = f->min == BT_MIN_16 ? byte & 15 : (int8_t)byte;
        n.min[h] = byte >> 4;
    }
    return n;
}

static inline __attribute__((always_inline)) void
dot(const bt_form *f, const uint8_t *panel, int32_t k, const uint8_t *act, int32_t w, float *acc)
{
    int size = f->bits * 128, scales = bt__panel_scales(f) * 32;
    for (int32_t b = 0; b < k / 32; b++, act += (size_t)w * BT__ACT_ROW) {
        int j = b % f->blocks;
        const uint8_t *bytes = panel + (f->min ? 128 : 64) + (ptrdiff_t)j * scales;
        const uint8_t *quants = panel + bt__panel_head(f) + (ptrdiff_t)j * size;
        const float *d = (const float *)(const void *)(act + (size_t)w * BT__ACT_D);
        const float *s = (const float *)(const void *)(act + (size_t)w * BT__ACT_S);
        for (int o = 0; o < 32; o++) {
            int v[32];
            numbers n = numbers_of(f, panel, bytes, o);
            values_of(f, quants, o, v);
            for (int32_t r = 0; r < w; r++) {
                const int8_t *x = (const int8_t *)act + (size_t)r * 32;
                int32_t sum[2] = {0}, all[2] = {0};
                for (int i = 0; i < 16; i++) {
                    sum[0] += v[i] * x[i], all[0] += x[i];
                    sum[1] += v[i + 16] * x[i + 16], all[1] += x[i + 16];
                }
                float *a = &acc[r * 32 + o];
                *a = fmaf((float)(sum[0] * n.scale[0] + sum[1] * n.scale[1]), n.d * d[r], *a);
                if (f->min == BT_MIN_16)
                    *a = fmaf((float)(all[0] * n.min[0] + all[1] * n.min[1]), n.m * d[r], *a);
                else if (f->min)
                    *a = fmaf(n.m, s[r], *a);
            }
        }
        if (j == f->blocks - 1) panel += bt__panel_block(f);
    }
}

/* One instance a format: in each, the form is a constant. */
#define X(name, FORMAT, ...)                                                                       \
    void bt__generic_##name(const void *panel, int32_t k, const void *act, int32_t w, float *acc)  \
    {                                                                                              \
        static const bt_form form = {BT_FORMAT_##FORMAT, __VA_ARGS__};                             \
        dot(&form, panel, k, act, w, acc);                                                         \
    }
BT_QUANT_FORMS(X)
