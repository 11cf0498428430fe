/* SPDX-License-Identifier: Apache-2.0 */
/* quant_k_ref.c - Q4_K, Q5_K and Q6_K, both ways.
 *
 * QUANTIZING  A sub-block is fitted alone: from several starting steps the values are rounded to
 * whole steps, and the scale (and minimum) that serve those integers best follow from least
 * squares; the fit with the smallest error is kept. Then the super-block's scales are rounded to
 * their own integers, and the values once more to what those really say. */
#include "base/assert.h"
#include "kernels/quant/quant.h"
#include <math.h>

enum { SUB = 32, SUB6 = 16, STARTS = 9 };

/* Dequantizing --------------------------------------------------------------------------------- */

static int q6_value(const bt_block_q6_k *b, int e)
{
    int h = e >> 7, g = e >> 5 & 3, l = e & 31;
    int low = b->ql[64 * h + 32 * (g & 1) + l] >> 4 * (g >> 1) & 15;
    return (low | (b->qh[32 * h + l] >> 2 * g & 3) << 4) - 32;
}

static void dequant_q4_k(const bt_block_q4_k *b, float *x)
{
    float d = bt_f32_from_f16(bt_load_u16(b->d)), dmin = bt_f32_from_f16(bt_load_u16(b->dmin));
    for (int j = 0; j < 8; j++) {
        float scale = d * (float)bt_k_scale(b->scales, j);
        float min = dmin * (float)bt_k_min(b->scales, j);
        for (int l = 0; l < SUB; l++) {
            int q = b->qs[j / 2 * SUB + l] >> j % 2 * 4 & 15;
            x[j * SUB + l] = scale * (float)q - min;
        }
    }
}

static void dequant_q5_k(const bt_block_q5_k *b, float *x)
{
    float d = bt_f32_from_f16(bt_load_u16(b->d)), dmin = bt_f32_from_f16(bt_load_u16(b->dmin));
    for (int j = 0; j < 8; j++) {
        float scale = d * (float)bt_k_scale(b->scales, j);
        float min = dmin * (float)bt_k_min(b->scales, j);
        for (int l = 0; l < SUB; l++) {
            int q = (b->qs[j / 2 * SUB + l] >> j % 2 * 4 & 15) | (b->qh[l] >> j & 1) << 4;
            x[j * SUB + l] = scale * (float)q - min;
        }
    }
}

static void dequant_q6_k(const bt_block_q6_k *b, float *x)
{
    float d = bt_f32_from_f16(bt_load_u16(b->d));
    for (int e = 0; e < BT_QUANT_SUPER; e++)
        x[e] = d * (float)b->scales[e / SUB6] * (float)q6_value(b, e);
}

bool bt__dequant_k(int32_t format, const uint8_t *src, size_t n, float *dst)
{
    size_t bytes = bt_format_bytes(format, BT_QUANT_SUPER);
    if (format < BT_FORMAT_Q4_K || format > BT_FORMAT_Q6_K) return false;
    for (; n >= BT_QUANT_SUPER; n -= BT_QUANT_SUPER, src += bytes, dst += BT_QUANT_SUPER)
        switch (format) {
        case BT_FORMAT_Q4_K: dequant_q4_k((const bt_block_q4_k *)src, dst); break;
        case BT_FORMAT_Q5_K: dequant_q5_k((const bt_block_q5_k *)src, dst); break;
        case BT_FORMAT_Q6_K: dequant_q6_k((const bt_block_q6_k *)src, dst); break;
        }
    return true;
}

/* Quantizing ----------------------------------------------------------------------------------- */

static int clamp_round(float v, int low, int high)
{
    return !(v > (float)low) ? low : v >= (float)high ? high : (int)lrintf(v);
}

/* x ~ scale * q - min with q in 0..top, scale >= 0, min >= 0. */
typedef struct affine {
    float scale, min;
} affine;

/* Sum of squared errors of x against its best integers, and the sums that least squares need. */
static double affine_error(const float *x, affine a, int top, double sums[3])
{
    double error = 0, s1 = 0, s2 = 0, sx = 0;
    float inverse = a.scale > 0 ? 1 / a.scale : 0;
    for (int i = 0; i < SUB; i++) {
        int q = clamp_round((x[i] + a.min) * inverse, 0, top);
        double off = (double)(a.scale * (float)q - a.min) - (double)x[i];
        error += off * off;
        s1 += q;
        s2 += (double)q * q;
        sx += (double)q * (double)x[i];
    }
    sums[0] = s1;
    sums[1] = s2;
    sums[2] = sx;
    return error;
}

/* Of starting steps around the full range, each refined once by least squares, the best. */
static affine affine_fit(const float *x, int top)
{
    float low = 0, high = 0;
    double total = 0, least = INFINITY, sums[3];
    affine best = {0, 0};
    for (int i = 0; i < SUB; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
        total += (double)x[i];
    }
    if (!(high - low > 0)) return best;
    for (int t = 0; t < STARTS; t++) {
        affine a = {(high - low) / ((float)top + 0.125f * (float)(t - 2)), -low};
        for (int round = 0; round < 2; round++) {
            double error = affine_error(x, a, top, sums);
            if (error < least) least = error, best = a;
            double det = SUB * sums[1] - sums[0] * sums[0];
            if (!(det > 0)) break;
            double scale = (SUB * sums[2] - sums[0] * total) / det;
            double min = (sums[0] * sums[2] - sums[1] * total) / det;
            if (min < 0) min = 0, scale = sums[2] / sums[1];
            if (!(scale > 0)) break;
            a = (affine){(float)scale, (float)min};
        }
    }
    return best;
}

static void pack_scales(const uint8_t sc[8], const uint8_t m[8], uint8_t out[12])
{
    for (int j = 0; j < 4; j++) {
        out[j] = (uint8_t)(sc[j] | sc[j + 4] >> 4 << 6);
        out[j + 4] = (uint8_t)(m[j] | m[j + 4] >> 4 << 6);
        out[j + 8] = (uint8_t)((sc[j + 4] & 15) | (m[j + 4] & 15) << 4);
    }
}

/* Scales, minimums and values of a super-block of 8 sub-blocks; d16 and dmin16 take an F16 each. A
 * block that is not finite gets a d that says so. */
static void quant_affine(const float *x, int top, uint8_t d16[2], uint8_t dmin16[2],
                         uint8_t scales[12], uint8_t q[BT_QUANT_SUPER])
{
    affine fit[8];
    float scale = 0, min = 0;
    uint8_t sc[8], m[8];
    bool finite = true;
    for (int i = 0; i < BT_QUANT_SUPER; i++) finite = finite && isfinite(x[i]);
    for (int j = 0; j < 8; j++) {
        fit[j] = finite ? affine_fit(x + j * SUB, top) : (affine){0, 0};
        scale = BT_MAX(scale, fit[j].scale);
        min = BT_MAX(min, fit[j].min);
    }
    bt_store_u16(d16, finite ? bt_f16_from_f32(scale / 63) : 0x7E00);
    bt_store_u16(dmin16, bt_f16_from_f32(min / 63));
    float d = bt_f32_from_f16(bt_load_u16(d16)), dmin = bt_f32_from_f16(bt_load_u16(dmin16));
    for (int j = 0; j < 8; j++) {
        sc[j] = (uint8_t)(d > 0 ? clamp_round(fit[j].scale / d, 0, 63) : 0);
        m[j] = (uint8_t)(dmin > 0 ? clamp_round(fit[j].min / dmin, 0, 63) : 0);
        float step = d * (float)sc[j], inverse = step > 0 ? 1 / step : 0, low = dmin * (float)m[j];
        for (int i = j * SUB; i < (j + 1) * SUB; i++)
            q[i] = (uint8_t)(finite ? clamp_round((x[i] + low) * inverse, 0, top) : 0);
    }
    pack_scales(sc, m, scales);
}

static void quant_q4_k(const float *x, bt_block_q4_k *b)
{
    uint8_t q[BT_QUANT_SUPER];
    quant_affine(x, 15, b->d, b->dmin, b->scales, q);
    for (int g = 0; g < 4; g++)
        for (int l = 0; l < SUB; l++)
            b->qs[g * SUB + l] = (uint8_t)(q[g * 64 + l] | q[g * 64 + 32 + l] << 4);
}

static void quant_q5_k(const float *x, bt_block_q5_k *b)
{
    uint8_t q[BT_QUANT_SUPER];
    quant_affine(x, 31, b->d, b->dmin, b->scales, q);
    memset(b->qh, 0, sizeof b->qh);
    for (int g = 0; g < 4; g++)
        for (int l = 0; l < SUB; l++)
            b->qs[g * SUB + l] = (uint8_t)((q[g * 64 + l] & 15) | (q[g * 64 + 32 + l] & 15) << 4);
    for (int i = 0; i < BT_QUANT_SUPER; i++) b->qh[i % SUB] |= (uint8_t)(q[i] >> 4 << i / SUB);
}

/* x ~ scale * q with q in -32..31: the signed scale of the smallest squared error. */
static float symmetric_fit(const float *x)
{
    float most = 0, best = 0;
    double least = INFINITY;
    for (int i = 0; i < SUB6; i++)
        if (fabsf(x[i]) > fabsf(most)) most = x[i];
    if (most == 0) return 0;
    for (int t = 0; t < STARTS; t++) {
        float scale = -most / (32 + 0.25f * (float)(t - 4));
        for (int round = 0; round < 2; round++) {
            double error = 0, s2 = 0, sx = 0;
            for (int i = 0; i < SUB6; i++) {
                int q = clamp_round(x[i] / scale, -32, 31);
                double off = (double)(scale * (float)q) - (double)x[i];
                error += off * off;
                s2 += (double)q * q;
                sx += (double)q * (double)x[i];
            }
            if (error < least) least = error, best = scale;
            if (!(s2 > 0) || sx == 0) break;
            scale = (float)(sx / s2);
        }
    }
    return best;
}

static void quant_q6_k(const float *x, bt_block_q6_k *b)
{
    float fit[16], most = 0;
    bool finite = true;
    memset(b, 0, sizeof *b);
    for (int i = 0; i < BT_QUANT_SUPER; i++) finite = finite && isfinite(x[i]);
    for (int j = 0; j < 16; j++) {
        fit[j] = finite ? symmetric_fit(x + j * SUB6) : 0;
        if (fabsf(fit[j]) > fabsf(most)) most = fit[j];
    }
    bt_store_u16(b->d, finite ? bt_f16_from_f32(most / -128) : 0x7E00);
    float d = bt_f32_from_f16(bt_load_u16(b->d));
    for (int j = 0; j < 16; j++) {
        int sc = d != 0 && finite ? clamp_round(fit[j] / d, -128, 127) : 0;
        float step = d * (float)sc;
        b->scales[j] = (int8_t)sc;
        for (int e = j * SUB6; e < (j + 1) * SUB6; e++) {
            int q = (finite && step != 0 ? clamp_round(x[e] / step, -32, 31) : 0) + 32;
            int h = e >> 7, g = e >> 5 & 3, l = e & 31;
            b->ql[64 * h + 32 * (g & 1) + l] |= (uint8_t)((q & 15) << 4 * (g >> 1));
            b->qh[32 * h + l] |= (uint8_t)(q >> 4 << 2 * g);
        }
    }
}

bool bt__quant_k(int32_t format, const float *src, size_t n, uint8_t *dst)
{
    size_t bytes = bt_format_bytes(format, BT_QUANT_SUPER);
    if (format < BT_FORMAT_Q4_K || format > BT_FORMAT_Q6_K) return false;
    for (; n >= BT_QUANT_SUPER; n -= BT_QUANT_SUPER, src += BT_QUANT_SUPER, dst += bytes)
        switch (format) {
        case BT_FORMAT_Q4_K: quant_q4_k(src, (bt_block_q4_k *)dst); break;
        case BT_FORMAT_Q5_K: quant_q5_k(src, (bt_block_q5_k *)dst); break;
        case BT_FORMAT_Q6_K: quant_q6_k(src, (bt_block_q6_k *)dst); break;
        }
    return true;
}
