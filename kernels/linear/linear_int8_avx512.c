/* SPDX-License-Identifier: Apache-2.0 */
/* linear_int8_avx512.c - the block formats with AVX-512 and VNNI.
 *
 * 2 vectors of outputs x w rows. VPDPBUSD multiplies unsigned weights by signed activations and
 * starts from the offset's correction, so exact block sums cost one instruction a 64 products. The
 * f32 sums stay in registers over the whole of k, but where 16 k have a scale of their own: those
 * need the registers, and their scaled sums are made in f32, where they are exact (below 2^24). */
#include "kernels/linear/linear_impl.h"
#if defined(__x86_64__)
#include <immintrin.h>

#define ALWAYS static inline __attribute__((always_inline))
#define ROWS _Pragma("GCC unroll 6") for (int r = 0; r < w; r++)
#define PAIR _Pragma("GCC unroll 2") for (int v = 0; v < 2; v++)

ALWAYS __m512i four(const uint8_t *x)
{
    int32_t v;
    memcpy(&v, x, 4);
    return _mm512_set1_epi32(v);
}

ALWAYS __m512 one(const uint8_t *x)
{
    return _mm512_castsi512_ps(four(x));
}

/* `bits` bits at `from` of each byte to `to`, the others 0. */
ALWAYS __m512i field(__m512i v, int bits, int from, int to)
{
    if (from > to) v = _mm512_srli_epi16(v, (unsigned)(from - to));
    if (from < to) v = _mm512_slli_epi16(v, (unsigned)(to - from));
    return _mm512_and_si512(v, _mm512_set1_epi8((char)(((1 << bits) - 1) << to)));
}

/* The quants (or codes, whose table is given) of group g: 16 outputs, 4 k. */
ALWAYS __m512i quants_of(const bt_form *f, const uint8_t *q, int g, __m512i codes)
{
    __m512i v = _mm512_setzero_si512();
    int at = 0;
    if (f->bits == 8) return _mm512_load_si512(q + 128 * g);
    if (f->bits & 4) {
        v = field(_mm512_load_si512(q + 128 * (g / 2)), 4, g % 2 * 4, 0);
        q += 512;
        at = 4;
    }
    if (f->bits & 2) {
        v = _mm512_or_si512(v, field(_mm512_load_si512(q + 128 * (g / 4)), 2, g % 4 * 2, at));
        q += 256;
        at += 2;
    }
    if (f->bits & 1) v = _mm512_or_si512(v, field(_mm512_load_si512(q), 1, g, at));
    return f->codes ? _mm512_shuffle_epi8(codes, v) : v;
}

/* 16 signed bytes as int32. */
ALWAYS __m512i bytes_of(const uint8_t *p)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}

ALWAYS __m512 halves_of(const uint8_t *p, bool bf16)
{
    __m256i h = _mm256_load_si256((const __m256i *)(const void *)p);
    if (!bf16) return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* t += sum(q * x) over groups [g0, g1), 32 outputs and w rows. */
ALWAYS void groups(const bt_form *f, const uint8_t *q, int g0, int g1, __m512i codes,
                   const uint8_t *act, int w, __m512i (*t)[2])
{
#pragma GCC unroll 8
    for (int g = g0; g < g1; g++) {
        __m512i q0 = quants_of(f, q, g, codes), q1 = quants_of(f, q + 64, g, codes);
        ROWS
        {
            __m512i x = four(act + 32 * r + 4 * g);
            t[r][0] = _mm512_dpbusd_epi32(t[r][0], q0, x);
            t[r][1] = _mm512_dpbusd_epi32(t[r][1], q1, x);
        }
    }
}

/* sum += the terms of 32 k that have one scale. */
ALWAYS void step(const bt_form *f, const uint8_t *head, const uint8_t *bytes, const uint8_t *q,
                 __m512i codes, const uint8_t *act, int w, __m512 (*sum)[2])
{
    __m512i t[BT__TILE_INT8][2];
    __m512 d[2], m[2];
    ROWS
    {
        t[r][0] = _mm512_setzero_si512();
        if (f->offset)
            t[r][0] = four(act + w * (f->offset == 128 ? BT__ACT_SUM128 : BT__ACT_SUM8) + 4 * r);
        if (f->offset == 16) t[r][0] = _mm512_slli_epi32(t[r][0], 1);
        t[r][1] = t[r][0];
    }
    groups(f, q, 0, 8, codes, act, w, t);
    PAIR
    {
        d[v] = halves_of(head + 32 * v, f->bf16);
        if (f->scales) d[v] = _mm512_mul_ps(d[v], _mm512_cvtepi32_ps(bytes_of(bytes + 16 * v)));
        if (f->min) m[v] = halves_of(head + 64 + 32 * v, false);
        if (f->min == BT_MIN_32)
            m[v] =
                _mm512_mul_ps(m[v], _mm512_cvtepi32_ps(bytes_of(bytes + 32 * f->scales + 16 * v)));
    }
    ROWS
    {
        __m512 dx = one(act + w * BT__ACT_D + 4 * r);
        PAIR sum[r][v] =
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(t[r][v]), _mm512_mul_ps(d[v], dx), sum[r][v]);
        if (!f->min) continue;
        __m512 s = one(act + w * BT__ACT_S + 4 * r);
        PAIR sum[r][v] = _mm512_fmadd_ps(m[v], s, sum[r][v]);
    }
}

/* acc += the terms of 32 k whose halves have scales of their own, and minimums perhaps. */
ALWAYS void step_halves(const bt_form *f, const uint8_t *head, const uint8_t *bytes,
                        const uint8_t *q, __m512i codes, const uint8_t *act, int w, float *acc)
{
    const __m512i low = _mm512_set1_epi32(15);
    __m512 scaled[BT__TILE_INT8][2], scale[2][2], min[2][2], d[2], m[2];
    PAIR
    {
        d[v] = halves_of(head + 32 * v, f->bf16);
        if (f->min) m[v] = halves_of(head + 64 + 32 * v, false);
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            __m512i byte = bytes_of(bytes + 32 * h + 16 * v);
            min[h][v] = _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(byte, 4), low));
            if (f->min == BT_MIN_16) byte = _mm512_and_si512(byte, low);
            scale[h][v] = _mm512_cvtepi32_ps(byte);
        }
    }
    ROWS PAIR scaled[r][v] = _mm512_setzero_ps();
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        __m512i t[BT__TILE_INT8][2], off = _mm512_set1_epi16((short)-f->offset);
        ROWS
        {
            t[r][0] = _mm512_setzero_si512();
            if (f->offset)
                t[r][0] = _mm512_madd_epi16(four(act + w * (BT__ACT_PAIRS + 4 * h) + 4 * r), off);
            t[r][1] = t[r][0];
        }
        groups(f, q, 4 * h, 4 * h + 4, codes, act, w, t);
        ROWS PAIR
        {
            scaled[r][v] =
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(t[r][v]), scale[h][v], scaled[r][v]);
        }
    }
    ROWS
    {
        __m512 dx = one(act + w * BT__ACT_D + 4 * r);
        const uint8_t *pairs = act + w * BT__ACT_PAIRS + 4 * r;
        PAIR
        {
            float *to = acc + 32 * r + 16 * v;
            __m512 a = _mm512_fmadd_ps(scaled[r][v], _mm512_mul_ps(d[v], dx), _mm512_load_ps(to));
            if (f->min == BT_MIN_16) {
                const __m512i ones = _mm512_set1_epi16(1);
                __m512 x0 = _mm512_cvtepi32_ps(_mm512_madd_epi16(four(pairs), ones));
                __m512 x1 = _mm512_cvtepi32_ps(_mm512_madd_epi16(four(pairs + 4 * w), ones));
                __m512 all = _mm512_fmadd_ps(x1, min[1][v], _mm512_mul_ps(x0, min[0][v]));
                a = _mm512_fmadd_ps(all, _mm512_mul_ps(m[v], dx), a);
            }
            _mm512_store_ps(to, a);
        }
    }
}

ALWAYS void tile(const bt_form *f, const uint8_t *panel, int32_t k, const uint8_t *act, int w,
                 float *acc)
{
    const int scales = bt__panel_scales(f) * 32, size = f->bits * 128;
    __m512i codes = _mm512_setzero_si512();
    __m512 sum[BT__TILE_INT8][2];
    if (f->codes) codes = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)f->codes));
    if (f->scales < 2) ROWS PAIR sum[r][v] = _mm512_load_ps(acc + 32 * r + 16 * v);
    for (int32_t b = 0; b < k; b += f->blocks * 32, panel += bt__panel_block(f)) {
        const uint8_t *bytes = panel + (f->min ? 128 : 64), *q = panel + bt__panel_head(f);
        for (int j = 0; j < f->blocks; j++, bytes += scales, q += size, act += w * BT__ACT_ROW)
            if (f->scales < 2)
                step(f, panel, bytes, q, codes, act, w, sum);
            else
                step_halves(f, panel, bytes, q, codes, act, w, acc);
    }
    if (f->scales < 2) ROWS PAIR _mm512_store_ps(acc + 32 * r + 16 * v, sum[r][v]);
}

/* One instance a format and tile width: in each, the form and w are constants and the loops over
 * rows vanish. */
#define TILE(w)                                                                                    \
    case w:                                                                                        \
        tile(&form, panel, k, act, w, acc);                                                        \
        break;
#define X(name, FORMAT, ...)                                                                       \
    void bt__avx512_##name(const void *panel, int32_t k, const void *act, int32_t w, float *acc)   \
    {                                                                                              \
        static const bt_form form = {BT_FORMAT_##FORMAT, __VA_ARGS__};                             \
        switch (w) {                                                                               \
            TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)                                        \
        }                                                                                          \
    }
BT_QUANT_FORMS(X)
#endif
