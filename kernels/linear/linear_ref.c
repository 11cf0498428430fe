/* SPDX-License-Identifier: Apache-2.0 */
/* linear_ref.c - a linear layer as its formula says, in double: the specification. */
#include "kernels/linear/linear.h"
#include "kernels/quant/quant.h"
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

static float ref_dot_int8(int32_t format, const uint8_t *row, const float *x, int32_t k)
{
    float acc = 0;
    for (int32_t i = 0; i < k; i += BT_QUANT_BLOCK) {
        const uint8_t *block = row + bt_format_bytes(format, (size_t)i), *qs = block + 2;
        int32_t q[BT_QUANT_BLOCK], sum = 0;
        float dx = ref_quantize(x + i, q), dw = bt_f32_from_f16(bt_load_u16(block));
        for (int j = 0; j < BT_QUANT_BLOCK; j++) {
            int32_t w = format == BT_FORMAT_Q8_0 ? (int8_t)qs[j]
                        : j < 16                 ? (qs[j] & 15) - 8
                                                 : (qs[j - 16] >> 4) - 8;
            sum += w * q[j];
        }
        acc = fmaf((float)sum, dw * dx, acc);
    }
    return acc;
}

void bt_linear_ref(int32_t format, int32_t n, int32_t k, const void *src, const float *x,
                   int64_t ldx, int32_t rows, const float *bias, bool accumulate, float *y,
                   int64_t ldy)
{
    bool quantized = format == BT_FORMAT_Q8_0 || format == BT_FORMAT_Q4_0;
    size_t row_bytes = bt_format_bytes(format, (size_t)k);
    for (int32_t r = 0; r < rows; r++)
        for (int32_t o = 0; o < n; o++) {
            const uint8_t *row = (const uint8_t *)src + row_bytes * (size_t)o;
            const float *xr = x + r * ldx;
            float v = quantized ? ref_dot_int8(format, row, xr, k)
                                : (float)ref_dot_float(format, row, xr, k);
            if (bias) v += bias[o];
            y[r * ldy + o] = accumulate ? y[r * ldy + o] + v : v;
        }
}
