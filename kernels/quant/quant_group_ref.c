/* SPDX-License-Identifier: Apache-2.0 */
/* quant_group_ref.c - quantizing to INT8G and INT4G, and whole matrices to them when a model is
 * loaded.
 *
 * INT8G  d = max |x| / 127 rounded to F16, then q = x / d to nearest: |error| <= d / 2, plus what
 *        rounding d down clips at 127.
 * INT4G  m = min x, d = (max x - m) / 15, both rounded to F16, q = (x - m) / d to nearest; then the
 *        line that fits those q best by least squares is tried, and kept if its squared error is
 *        smaller. */
#include "base/assert.h"
#include "kernels/quant/forms.h"
#include <math.h>

void bt__quantize_int8g(const float *x, uint8_t *block)
{
    bt_block_int8g *b = (bt_block_int8g *)block;
    uint32_t most = 0; // compared as bits, so that infinity and NaN win and show in d
    for (int i = 0; i < BT_QUANT_GROUP; i++) most = BT_MAX(most, bt_f32_bits(x[i]) & 0x7FFFFFFFu);
    bt_store_u16(b->d, bt_f16_from_f32(bt_f32_from_bits(most) / 127));
    float d = bt_f32_from_f16(bt_load_u16(b->d)), inverse = d > 0 && isfinite(d) ? 1 / d : 0;
    for (int i = 0; i < BT_QUANT_GROUP; i++) {
        float q = x[i] * inverse;
        b->qs[i] = (int8_t)(q >= 127 ? 127 : q > -127 ? lrintf(q) : inverse > 0 ? -127 : 0);
    }
}

/* Sums are taken in this many lanes, so that compilers can use vectors without changing a bit. */
enum { LANES = 8 };

static float lanes_sum(const float v[LANES])
{
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

/* Rounds d and m to F16, quantizes to q (whole numbers) and returns the squared error. */
static float int4g_try(const float *x, float *d, float *m, float q[BT_QUANT_GROUP])
{
    *d = bt_f32_from_f16(bt_f16_from_f32(*d));
    *m = bt_f32_from_f16(bt_f16_from_f32(*m));
    float step = *d, low = *m, inverse = step > 0 ? 1 / step : 0, error[LANES] = {0};
    for (int i = 0; i < BT_QUANT_GROUP; i += LANES)
        for (int l = 0; l < LANES; l++) {
            float v = (x[i + l] - low) * inverse;
            v = v > 0 ? v : 0;
            v = v < 15 ? v : 15;
            v = (v + 0x1.8p23f) - 0x1.8p23f; // to nearest: what is left of it has no fraction
            float off = step * v + low - x[i + l];
            q[i + l] = v;
            error[l] += off * off;
        }
    return lanes_sum(error);
}

/* The line d q + m closest to x for these q. False: all q are the same. */
static bool int4g_line(const float *x, const float q[BT_QUANT_GROUP], float *d, float *m)
{
    float s1[LANES] = {0}, s2[LANES] = {0}, sx[LANES] = {0}, sqx[LANES] = {0};
    for (int i = 0; i < BT_QUANT_GROUP; i += LANES)
        for (int l = 0; l < LANES; l++) {
            s1[l] += q[i + l];
            s2[l] += q[i + l] * q[i + l];
            sx[l] += x[i + l];
            sqx[l] += q[i + l] * x[i + l];
        }
    double n = BT_QUANT_GROUP, a = (double)lanes_sum(s1), b = (double)lanes_sum(s2);
    double c = (double)lanes_sum(sx), e = (double)lanes_sum(sqx), det = n * b - a * a;
    if (!(det > 0)) return false;
    *d = (float)((n * e - a * c) / det);
    *m = (float)((b * c - a * e) / det);
    return true;
}

void bt__quantize_int4g(const float *x, uint8_t *block)
{
    bt_block_int4g *b = (bt_block_int4g *)block;
    float q[BT_QUANT_GROUP], again[BT_QUANT_GROUP];
    float low = x[0], high = x[0], d2, m2;
    uint32_t most = 0;
    for (int i = 0; i < BT_QUANT_GROUP; i++) {
        uint32_t size = bt_f32_bits(x[i]) & 0x7FFFFFFFu;
        most = size > most ? size : most;
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    if (most >= 0x7F800000u) { // not finite: d says so
        memset(b, 0, sizeof *b);
        bt_store_u16(b->d, 0x7E00);
        return;
    }
    float d = high / 15 - low / 15, m = low; // no overflow before the division
    float error = int4g_try(x, &d, &m, q);
    if (int4g_line(x, q, &d2, &m2) && int4g_try(x, &d2, &m2, again) < error) {
        d = d2, m = m2;
        memcpy(q, again, sizeof q);
    }
    bt_store_u16(b->d, bt_f16_from_f32(d));
    bt_store_u16(b->m, bt_f16_from_f32(m));
    for (int i = 0; i < BT_QUANT_GROUP / 2; i++) {
        const float *from = q + i / 16 * 32 + i % 16;
        b->qs[i] = (uint8_t)((int)from[0] | (int)from[16] << 4);
    }
}

bool bt_requant_supported(int32_t from, int32_t to, int32_t k)
{
    const bt_format_info *f = bt_format_get(from);
    return f && f->loadable && (to == BT_FORMAT_INT8G || to == BT_FORMAT_INT4G) && k > 0 &&
           k % BT_QUANT_GROUP == 0 && k % f->elems == 0;
}

bool bt_requant(int32_t from, const void *src, int32_t to, int64_t rows, int32_t k, void *dst)
{
    if (!bt_requant_supported(from, to, k)) return false;
    float x[BT_QUANT_SUPER];
    const uint8_t *in = src;
    uint8_t *out = dst;
    for (int64_t r = 0; r < rows; r++)
        for (int32_t i = 0; i < k; i += BT_QUANT_SUPER) {
            size_t n = (size_t)BT_MIN(k - i, BT_QUANT_SUPER);
            bt_dequant_ref(from, in, n, x);
            bt_quant_ref(to, x, n, out);
            in += bt_format_bytes(from, n);
            out += bt_format_bytes(to, n);
        }
    return true;
}
