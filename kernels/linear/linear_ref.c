/* SPDX-License-Identifier: Apache-2.0 */
/* linear_ref.c - a linear layer as its formula says, in double: the specification. */
#include "kernels/linear/linear.h"
#include "kernels/quant/forms.h"
#include <math.h>

/* Row elements [i, i + 256) or up to k, as f32. */
static int32_t ref_weights(int32_t format, const uint8_t *row, int32_t i, int32_t k, float *out)
{
    int32_t n = k - i < BT_QUANT_SUPER ? k - i : BT_QUANT_SUPER;
    bt_dequant_ref(format, row + bt_format_bytes(format, (size_t)i), (size_t)n, out);
    return n;
}

static double ref_dot_float(int32_t format, const uint8_t *row, const float *x, int32_t k)
{
    float w[BT_QUANT_SUPER];
    double sum = 0;
    for (int32_t i = 0; i < k; i += BT_QUANT_SUPER) {
        int32_t n = ref_weights(format, row, i, k, w);
        for (int32_t j = 0; j < n; j++) sum += (double)w[j] * (double)x[i + j];
    }
    return sum;
}

/* Scale of one block of activations, and its int8 values. */
static float ref_quantize(const float *x, int32_t *q)
{
    uint32_t most = 0; // as bits: infinity and NaN are larger than every number
    for (int j = 0; j < BT_QUANT_BLOCK; j++) {
        uint32_t bits = bt_f32_bits(x[j]) & 0x7FFFFFFFu;
        most = bits > most ? bits : most;
        q[j] = 0;
    }
    if (most >= 0x7F800000u) return NAN;
    float amax = bt_f32_from_bits(most);
    if (amax < 0x1p-100f) return 0;
    float inverse = 127 / amax;
    for (int j = 0; j < BT_QUANT_BLOCK; j++) q[j] = (int32_t)rintf(x[j] * inverse);
    return amax / 127;
}

/* acc += the terms of 32 elements, the j-th such in its block. */
static float ref_block(const bt_form *f, const bt_parts *p, int j, const float *x, float acc)
{
    int32_t qx[BT_QUANT_BLOCK], sum = 0, sum_x = 0, sum_min = 0;
    float dx = ref_quantize(x, qx);
    for (int i = 0; i < BT_QUANT_BLOCK; i++) {
        int at = 2 * j + i / 16; // of 16 elements
        int scale = f->scales == 2 ? p->scale[at] : 1, min = f->min == BT_MIN_16 ? p->min[at] : 0;
        sum += scale * bt_form_value(f, p->q[j * BT_QUANT_BLOCK + i]) * qx[i];
        sum_min += min * qx[i];
        sum_x += qx[i];
    }
    float d = f->bf16 ? bt_f32_from_bf16(p->d) : bt_f32_from_f16(p->d);
    if (f->scales == 1) d *= (float)p->scale[j];
    acc = fmaf((float)sum, d * dx, acc);
    if (f->min == BT_MIN_16) return fmaf((float)sum_min, bt_f32_from_f16(p->m) * dx, acc);
    return f->min ? fmaf(bt_form_min(f, p, 2 * j), dx * (float)sum_x, acc) : acc;
}

static float ref_dot_int8(const bt_quant_row *format, const uint8_t *row, const float *x, int32_t k)
{
    const bt_form *f = &format->form;
    size_t bytes = bt_format_bytes(f->format, (size_t)f->blocks * BT_QUANT_BLOCK);
    float acc = 0;
    bt_parts parts;
    for (int32_t b = 0; b < k / BT_QUANT_BLOCK; b++) {
        int32_t j = b % f->blocks;
        if (j == 0) format->parts(row + (size_t)(b / f->blocks) * bytes, &parts);
        acc = ref_block(f, &parts, j, x + (ptrdiff_t)b * BT_QUANT_BLOCK, acc);
    }
    return acc;
}

void bt_linear_ref(int32_t format, int32_t n, int32_t k, const void *src, const float *x,
                   int64_t ldx, int32_t rows, const float *bias, bool accumulate, float *y,
                   int64_t ldy)
{
    const bt_quant_row *quantized = bt_quant_row_of(format);
    size_t row_bytes = bt_format_bytes(format, (size_t)k);
    for (int32_t r = 0; r < rows; r++)
        for (int32_t o = 0; o < n; o++) {
            const uint8_t *row = (const uint8_t *)src + row_bytes * (size_t)o;
            const float *xr = x + r * ldx;
            float v = quantized ? ref_dot_int8(quantized, row, xr, k)
                                : (float)ref_dot_float(format, row, xr, k);
            if (bias) v += bias[o];
            y[r * ldy + o] = accumulate ? y[r * ldy + o] + v : v;
        }
}
