/* SPDX-License-Identifier: Apache-2.0 */
/* quant_ref.c - from and to each format, a format a function: the specification. */
#include "kernels/quant/quant.h"
#include "base/assert.h"
#include <math.h>

uint16_t bt_f16_from_f32(float f)
{
    uint32_t bits = bt_f32_bits(f), mag = bits & 0x7FFFFFFFu;
    uint32_t sign = bits >> 16 & 0x8000u, man = mag & 0x7FFFFFu;
    int exp = (int)(mag >> 23) - 127;
    if (mag > 0x7F800000u) return (uint16_t)(sign | 0x7E00u | man >> 13);
    if (exp > 15) return (uint16_t)(sign | 0x7C00u);
    if (exp < -25) return (uint16_t)sign;
    /* Below 2^-14 the result is subnormal: the hidden bit becomes explicit and more bits are cut.
     */
    uint32_t full = man | 0x800000u;
    int cut = exp >= -14 ? 13 : -1 - exp;
    uint32_t half = 1u << (cut - 1), rest = full & ((1u << cut) - 1), out = full >> cut;
    if (rest > half || (rest == half && (out & 1))) out++;
    /* A carry out of the mantissa moves into the exponent, up to infinity. */
    if (exp >= -14) out += (uint32_t)(exp + 14) << 10;
    return (uint16_t)(sign | out);
}

uint16_t bt_bf16_from_f32(float f)
{
    uint32_t bits = bt_f32_bits(f);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1)) >> 16);
}

static void dequant_q8_0(const bt_block_q8_0 *b, size_t blocks, float *dst)
{
    for (size_t i = 0; i < blocks; i++) {
        float d = bt_f32_from_f16(bt_load_u16(b[i].d));
        for (size_t j = 0; j < BT_QUANT_BLOCK; j++)
            dst[i * BT_QUANT_BLOCK + j] = d * (float)b[i].qs[j];
    }
}

static void dequant_q4_0(const bt_block_q4_0 *b, size_t blocks, float *dst)
{
    for (size_t i = 0; i < blocks; i++) {
        float d = bt_f32_from_f16(bt_load_u16(b[i].d)), *x = dst + i * BT_QUANT_BLOCK;
        for (size_t j = 0; j < BT_QUANT_BLOCK / 2; j++) {
            x[j] = d * (float)((b[i].qs[j] & 15) - 8);
            x[j + 16] = d * (float)((b[i].qs[j] >> 4) - 8);
        }
    }
}

bool bt_dequant_ref(int32_t format, const void *src, size_t n, float *dst)
{
    const uint8_t *p = src;
    switch (format) {
    case BT_FORMAT_F32: memcpy(dst, src, n * sizeof *dst); return true;
    case BT_FORMAT_F16:
        for (size_t i = 0; i < n; i++) dst[i] = bt_f32_from_f16(bt_load_u16(p + 2 * i));
        return true;
    case BT_FORMAT_BF16:
        for (size_t i = 0; i < n; i++) dst[i] = bt_f32_from_bf16(bt_load_u16(p + 2 * i));
        return true;
    case BT_FORMAT_Q8_0: dequant_q8_0(src, n / BT_QUANT_BLOCK, dst); return true;
    case BT_FORMAT_Q4_0: dequant_q4_0(src, n / BT_QUANT_BLOCK, dst); return true;
    default: return bt__dequant_k(format, p, n, dst) || bt__dequant_group(format, p, n, dst);
    }
}

/* d = max|x| / 127; q = x / d to nearest, halves away from zero. The quotient uses d before it is
 * rounded to F16. */
static void quant_q8_0(const float *src, size_t blocks, bt_block_q8_0 *b)
{
    for (size_t i = 0; i < blocks; i++) {
        const float *x = src + i * BT_QUANT_BLOCK;
        uint32_t most = 0; // compared as bits, so that infinity and NaN win and show in d
        for (int j = 0; j < BT_QUANT_BLOCK; j++) most = BT_MAX(most, bt_f32_bits(fabsf(x[j])));
        float amax = bt_f32_from_bits(most), d = amax / 127, inverse = d > 0 ? 1 / d : 0;
        bt_store_u16(b[i].d, bt_f16_from_f32(d));
        for (int j = 0; j < BT_QUANT_BLOCK; j++) {
            float q = roundf(x[j] * inverse);
            b[i].qs[j] = (int8_t)(q >= -127 && q <= 127 ? q : 0); // not finite: d says so
        }
    }
}

/* d = -x[m] / 8 for the m of largest magnitude, so that this element maps to q = 0 and one side
 * reaches 16 (cut to 15); q = floor(x / d + 8.5). */
static void quant_q4_0(const float *src, size_t blocks, bt_block_q4_0 *b)
{
    for (size_t i = 0; i < blocks; i++) {
        const float *x = src + i * BT_QUANT_BLOCK;
        float most = x[0];
        for (int j = 1; j < BT_QUANT_BLOCK; j++)
            if (bt_f32_bits(fabsf(x[j])) > bt_f32_bits(fabsf(most))) most = x[j];
        float d = most / -8, inverse = d != 0 ? 1 / d : 0;
        uint8_t q[BT_QUANT_BLOCK];
        bt_store_u16(b[i].d, bt_f16_from_f32(d));
        for (int j = 0; j < BT_QUANT_BLOCK; j++) {
            float v = x[j] * inverse + 8.5f; // two roundings: the build forbids fusing them
            q[j] = (uint8_t)(v >= 15 ? 15 : v > 0 ? v : 0);
        }
        for (int j = 0; j < 16; j++) b[i].qs[j] = (uint8_t)(q[j] | q[j + 16] << 4);
    }
}

bool bt_quant_ref(int32_t format, const float *src, size_t n, void *dst)
{
    uint8_t *p = dst;
    switch (format) {
    case BT_FORMAT_F32: memcpy(dst, src, n * sizeof *src); return true;
    case BT_FORMAT_F16:
        for (size_t i = 0; i < n; i++) bt_store_u16(p + 2 * i, bt_f16_from_f32(src[i]));
        return true;
    case BT_FORMAT_BF16:
        for (size_t i = 0; i < n; i++) bt_store_u16(p + 2 * i, bt_bf16_from_f32(src[i]));
        return true;
    case BT_FORMAT_Q8_0: quant_q8_0(src, n / BT_QUANT_BLOCK, dst); return true;
    case BT_FORMAT_Q4_0: quant_q4_0(src, n / BT_QUANT_BLOCK, dst); return true;
    default: return bt__quant_k(format, src, n, p) || bt__quant_group(format, src, n, p);
    }
}
