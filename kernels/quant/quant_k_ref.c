/* SPDX-License-Identifier: Apache-2.0 */
/* quant_k_ref.c - quantizing to the formats of 256 elements.
 *
 * A sub-block is fitted alone: from several starting steps the values are rounded to
 * whole steps, and the scale (and minimum) that serve those integers best follow from least
 * squares; the fit with the smallest error is kept. Then the super-block's scales are rounded to
 * their own integers, and the values once more to what those really say. */
#include "base/assert.h"
#include "kernels/quant/forms.h"
#include <math.h>

enum { SUB = 32, SUB16 = 16, STARTS = 9 };

static int clamp_round(float v, int low, int high)
{
    return !(v > (float)low) ? low : v >= (float)high ? high : (int)lrintf(v);
}

/* x ~ scale * q - min with q in 0..top, scale >= 0, min >= 0. */
typedef struct affine {
    float scale, min;
} affine;

/* Sum of squared errors of x against its best integers, and the sums that least squares need. */
static double affine_error(const float *x, int n, affine a, int top, double sums[3])
{
    double error = 0, s1 = 0, s2 = 0, sx = 0;
    float inverse = a.scale > 0 ? 1 / a.scale : 0;
    for (int i = 0; i < n; i++) {
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
static affine affine_fit(const float *x, int n, int top)
{
    float low = 0, high = 0;
    double total = 0, least = INFINITY, sums[3];
    affine best = {0, 0};
    for (int i = 0; i < n; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
        total += (double)x[i];
    }
    if (!(high - low > 0)) return best;
    for (int t = 0; t < STARTS; t++) {
        affine a = {(high - low) / ((float)top + 0.125f * (float)(t - 2)), -low};
        for (int round = 0; round < 2; round++) {
            double error = affine_error(x, n, a, top, sums);
            if (error < least) least = error, best = a;
            double det = n * sums[1] - sums[0] * sums[0];
            if (!(det > 0)) break;
            double scale = (n * sums[2] - sums[0] * total) / det;
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

/* Scales and minimums in 0..limit and values of a super-block's sub-blocks of n; d16 and dmin16
 * take an F16 each. A block that is not finite gets a d that says so. */
static void quant_affine(const float *x, int n, int top, int limit, uint8_t d16[2],
                         uint8_t dmin16[2], uint8_t sc[16], uint8_t m[16],
                         uint8_t q[BT_QUANT_SUPER])
{
    affine fit[16];
    float scale = 0, min = 0;
    bool finite = true;
    int subs = BT_QUANT_SUPER / n;
    for (int i = 0; i < BT_QUANT_SUPER; i++) finite = finite && isfinite(x[i]);
    for (int j = 0; j < subs; j++) {
        fit[j] = finite ? affine_fit(x + (ptrdiff_t)j * n, n, top) : (affine){0, 0};
        scale = BT_MAX(scale, fit[j].scale);
        min = BT_MAX(min, fit[j].min);
    }
    bt_store_u16(d16, finite ? bt_f16_from_f32(scale / (float)limit) : 0x7E00);
    bt_store_u16(dmin16, bt_f16_from_f32(min / (float)limit));
    float d = bt_f32_from_f16(bt_load_u16(d16)), dmin = bt_f32_from_f16(bt_load_u16(dmin16));
    for (int j = 0; j < subs; j++) {
        sc[j] = (uint8_t)(d > 0 ? clamp_round(fit[j].scale / d, 0, limit) : 0);
        m[j] = (uint8_t)(dmin > 0 ? clamp_round(fit[j].min / dmin, 0, limit) : 0);
        float step = d * (float)sc[j], inverse = step > 0 ? 1 / step : 0, low = dmin * (float)m[j];
        for (int i = j * n; i < (j + 1) * n; i++)
            q[i] = (uint8_t)(finite ? clamp_round((x[i] + low) * inverse, 0, top) : 0);
    }
}

/* 128 elements h of q two bits at a time: bits 2g of byte l are element 32g + l. */
static void put_pairs(const uint8_t *q, int shift, uint8_t *qs)
{
    for (int h = 0; h < 2; h++)
        for (int l = 0; l < 32; l++, qs++) {
            *qs = 0;
            for (int g = 0; g < 4; g++)
                *qs |= (uint8_t)((q[128 * h + 32 * g + l] >> shift & 3) << 2 * g);
        }
}

void bt__quantize_q2_k(const float *x, uint8_t *b)
{
    uint8_t q[BT_QUANT_SUPER], sc[16], m[16];
    quant_affine(x, SUB16, 3, 15, b + 80, b + 82, sc, m, q);
    for (int j = 0; j < 16; j++) b[j] = (uint8_t)(sc[j] | m[j] << 4);
    put_pairs(q, 0, b + 16);
}

void bt__quantize_q4_k(const float *x, uint8_t *block)
{
    bt_block_q4_k *b = (bt_block_q4_k *)block;
    uint8_t q[BT_QUANT_SUPER], sc[16], m[16];
    quant_affine(x, SUB, 15, 63, b->d, b->dmin, sc, m, q);
    pack_scales(sc, m, b->scales);
    for (int g = 0; g < 4; g++)
        for (int l = 0; l < SUB; l++)
            b->qs[g * SUB + l] = (uint8_t)(q[g * 64 + l] | q[g * 64 + 32 + l] << 4);
}

void bt__quantize_q5_k(const float *x, uint8_t *block)
{
    bt_block_q5_k *b = (bt_block_q5_k *)block;
    uint8_t q[BT_QUANT_SUPER], sc[16], m[16];
    quant_affine(x, SUB, 31, 63, b->d, b->dmin, sc, m, q);
    pack_scales(sc, m, b->scales);
    memset(b->qh, 0, sizeof b->qh);
    for (int g = 0; g < 4; g++)
        for (int l = 0; l < SUB; l++)
            b->qs[g * SUB + l] = (uint8_t)((q[g * 64 + l] & 15) | (q[g * 64 + 32 + l] & 15) << 4);
    for (int i = 0; i < BT_QUANT_SUPER; i++) b->qh[i % SUB] |= (uint8_t)(q[i] >> 4 << i / SUB);
}

/* x ~ scale * q with q in -half..half - 1: the signed scale of the smallest squared error. */
static float symmetric_fit(const float *x, int half)
{
    float most = 0, best = 0;
    double least = INFINITY;
    for (int i = 0; i < SUB16; i++)
        if (fabsf(x[i]) > fabsf(most)) most = x[i];
    if (most == 0) return 0;
    for (int t = 0; t < STARTS; t++) {
        float scale = -most / ((float)half + (float)half / 128 * (float)(t - 4));
        for (int round = 0; round < 2; round++) {
            double error = 0, s2 = 0, sx = 0;
            for (int i = 0; i < SUB16; i++) {
                int q = clamp_round(x[i] / scale, -half, half - 1);
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

/* Signed scales of 16 sub-blocks in -limit..limit - 1, and values + half. */
static void quant_symmetric(const float *x, int half, int limit, uint8_t d16[2], int8_t sc[16],
                            uint8_t q[BT_QUANT_SUPER])
{
    float fit[16], most = 0;
    bool finite = true;
    for (int i = 0; i < BT_QUANT_SUPER; i++) finite = finite && isfinite(x[i]);
    for (int j = 0; j < 16; j++) {
        fit[j] = finite ? symmetric_fit(x + j * SUB16, half) : 0;
        if (fabsf(fit[j]) > fabsf(most)) most = fit[j];
    }
    bt_store_u16(d16, finite ? bt_f16_from_f32(most / (float)-limit) : 0x7E00);
    float d = bt_f32_from_f16(bt_load_u16(d16));
    for (int j = 0; j < 16; j++) {
        sc[j] = (int8_t)(d != 0 && finite ? clamp_round(fit[j] / d, -limit, limit - 1) : 0);
        float step = d * (float)sc[j];
        for (int e = j * SUB16; e < (j + 1) * SUB16; e++)
            q[e] = (uint8_t)((finite && step != 0 ? clamp_round(x[e] / step, -half, half - 1) : 0) +
                             half);
    }
}

void bt__quantize_q3_k(const float *x, uint8_t *b)
{
    uint8_t q[BT_QUANT_SUPER], *qh = b, *out = b + 96;
    int8_t sc[16];
    quant_symmetric(x, 4, 32, b + 108, sc, q);
    memset(qh, 0, 32);
    memset(out, 0, 12);
    for (int j = 0; j < 16; j++) {
        int v = sc[j] + 32;
        out[j % 8] |= (uint8_t)((v & 15) << j / 8 * 4);
        out[8 + j % 4] |= (uint8_t)(v >> 4 << j / 4 * 2);
    }
    for (int e = 0; e < BT_QUANT_SUPER; e++) qh[e % 32] |= (uint8_t)(q[e] >> 2 << e / 32);
    put_pairs(q, 0, b + 32);
}

void bt__quantize_q6_k(const float *x, uint8_t *block)
{
    bt_block_q6_k *b = (bt_block_q6_k *)block;
    uint8_t q[BT_QUANT_SUPER];
    quant_symmetric(x, 32, 128, b->d, b->scales, q);
    for (int i = 0; i < 128; i++) {
        const uint8_t *from = q + i / 64 * 128 + i % 64;
        b->ql[i] = (uint8_t)((from[0] & 15) | (from[64] & 15) << 4);
    }
    put_pairs(q, 4, b->qh);
}

/* As IQ4_NL in each sub-block; the scales then get 6 bits. */
void bt__quantize_iq4_xs(const float *x, uint8_t *b)
{
    float fit[8], most = 0;
    int high = 0;
    bool finite = true;
    memset(b, 0, 136);
    for (int i = 0; i < BT_QUANT_SUPER; i++) finite = finite && isfinite(x[i]);
    for (int j = 0; j < 8; j++) {
        float top = 0;
        for (int i = 0; i < SUB; i++)
            if (fabsf(x[j * SUB + i]) > fabsf(top)) top = x[j * SUB + i];
        fit[j] = finite ? top / -127 : 0;
        if (fabsf(fit[j]) > fabsf(most)) most = fit[j];
    }
    bt_store_u16(b, finite ? bt_f16_from_f32(most / -32) : 0x7E00);
    float d = bt_f32_from_f16(bt_load_u16(b));
    for (int j = 0; j < 8; j++) {
        int sc = d != 0 && finite ? clamp_round(fit[j] / d, -32, 31) : 0;
        b[4 + j / 2] |= (uint8_t)(((sc + 32) & 15) << j % 2 * 4);
        high |= (sc + 32) >> 4 << 2 * j;
        for (int i = 0; i < SUB; i++)
            b[8 + 16 * j + i % 16] |=
                (uint8_t)(bt__nearest_code(x[j * SUB + i], d * (float)sc, bt_codes_iq4, 128)
                          << i / 16 * 4);
    }
    bt_store_u16(b + 2, (uint16_t)high);
}
