/* SPDX-License-Identifier: Apache-2.0 */
/* linear_int8_avx2.c - the block formats with AVX2, FMA and F16C.
 *
 * Vectors of 8 outputs; per 32 k the four vectors of a panel take turns, and their f32 sums wait in
 * the first-level cache, so weights are read once, in order. VPMADDUBSW sums pairs of products into
 * 16 bits, where as many as fit are added before VPMADDWD makes 32 bits of them, times the scale of
 * 16 k where there is one:
 *
 *   quants up to 15   all 32 k: 16 products of 15 * 127
 *   up to 31          half: 8 products of 31 * 127
 *   up to 63          half as well, for sums wrap around: what leaves the 16 bits comes back when
 *                     32 * x has been taken off, whose 8 products of 32 * 127 fit
 *   more              each pair is made wider at once. It saturates, so |v| meets x with v's sign;
 *                     the worst pair is 2 * 128 * 127. */
#include "kernels/linear/linear_impl.h"
#if defined(__x86_64__)
#include <immintrin.h>

#define ALWAYS static inline __attribute__((always_inline))

ALWAYS __m256i four(const uint8_t *x)
{
    int32_t v;
    memcpy(&v, x, 4);
    return _mm256_set1_epi32(v);
}

ALWAYS __m256 one(const uint8_t *x)
{
    return _mm256_castsi256_ps(four(x));
}

ALWAYS __m256i load(const void *p)
{
    return _mm256_load_si256((const __m256i *)p);
}

/* A sum that is made here and now: gcc would otherwise add in an order that needs more registers
 * than there are, and spill. */
ALWAYS __m256i now(__m256i sum)
{
    __asm__("" : "+x"(sum));
    return sum;
}

/* `bits` bits at `from` of each byte to `to`, the others 0. */
ALWAYS __m256i field(__m256i v, int bits, int from, int to)
{
    if (from > to) v = _mm256_srli_epi16(v, from - to);
    if (from < to) v = _mm256_slli_epi16(v, to - from);
    return _mm256_and_si256(v, _mm256_set1_epi8((char)(((1 << bits) - 1) << to)));
}

/* The quants (or codes, whose table is given) of group g: 8 outputs, 4 k. */
ALWAYS __m256i quants_of(const bt_form *f, const uint8_t *q, int g, __m256i codes)
{
    __m256i v = _mm256_setzero_si256();
    int at = 0;
    if (f->bits == 8) return load(q + 128 * g);
    if (f->bits & 4) {
        v = field(load(q + 128 * (g / 2)), 4, g % 2 * 4, 0);
        q += 512;
        at = 4;
    }
    if (f->bits & 2) {
        v = _mm256_or_si256(v, field(load(q + 128 * (g / 4)), 2, g % 4 * 2, at));
        q += 256;
        at += 2;
    }
    if (f->bits & 1) v = _mm256_or_si256(v, field(load(q), 1, g, at));
    return f->codes ? _mm256_shuffle_epi8(codes, v) : v;
}

/* 8 signed bytes as int32. */
ALWAYS __m256i bytes_of(const uint8_t *p)
{
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

/* Each int32, which fits 16 bits, twice as int16. */
ALWAYS __m256i twice(__m256i v)
{
    return _mm256_or_si256(_mm256_slli_epi32(v, 16), _mm256_and_si256(v, _mm256_set1_epi32(65535)));
}

ALWAYS __m256 halves_of(const uint8_t *p, bool bf16)
{
    __m128i h = _mm_load_si128((const __m128i *)(const void *)p);
    if (!bf16) return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

/* Sums of 32 k for 8 outputs and w rows: t = sum(v * x), times the scales of 16 k if there are. */
ALWAYS void sums_of(const bt_form *f, const uint8_t *q, __m256i codes, const __m256i *scale,
                    const uint8_t *act, int w, __m256i *t)
{
    const int run = f->top > 63 ? 1 : f->top > 15 || f->scales == 2 ? 4 : 8; // groups in 16 bits
    const __m256i ones = _mm256_set1_epi16(1), flip = _mm256_set1_epi8(-128);
#pragma GCC unroll 6
    for (int r = 0; r < w; r++) t[r] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int g0 = 0; g0 < 8; g0 += run) {
        __m256i part[BT__TILE_INT8];
#pragma GCC unroll 6
        for (int r = 0; r < w; r++) part[r] = _mm256_setzero_si256();
#pragma GCC unroll 8
        for (int g = g0; g < g0 + run; g++) {
            __m256i v = quants_of(f, q, g, codes), size = v;
            if (f->top > 63) {
                if (!f->codes) v = _mm256_xor_si256(v, flip);
                size = _mm256_abs_epi8(v); // 128 is right: read as unsigned
            }
#pragma GCC unroll 6
            for (int r = 0; r < w; r++) {
                __m256i x = four(act + 32 * r + 4 * g);
                if (f->top > 63) x = _mm256_sign_epi8(x, v);
                part[r] = now(_mm256_add_epi16(part[r], _mm256_maddubs_epi16(size, x)));
            }
        }
#pragma GCC unroll 6
        for (int r = 0; r < w; r++) {
            if (f->scales == 2 && f->offset) {
                __m256i x = four(act + w * (BT__ACT_PAIRS + g0) + 4 * r);
                int shift = f->offset == 32 ? 5 : 2;
                part[r] = _mm256_sub_epi16(part[r], _mm256_slli_epi16(x, shift));
            }
            __m256i by = f->scales == 2 ? scale[g0 / 4] : ones;
            t[r] = now(_mm256_add_epi32(t[r], _mm256_madd_epi16(part[r], by)));
        }
    }
    if (f->scales == 2 || f->top > 63 || !f->offset) return;
#pragma GCC unroll 6
    for (int r = 0; r < w; r++) {
        __m256i x = four(act + w * BT__ACT_SUM8 + 4 * r);
        t[r] = _mm256_add_epi32(t[r], f->offset == 16 ? _mm256_slli_epi32(x, 1) : x);
    }
}

/* acc += the terms of 32 k, for 8 outputs and w rows; all pointers are the outputs' own. bytes: of
 * the block's scales and minimums. */
ALWAYS void step(const bt_form *f, const uint8_t *head, const uint8_t *bytes, const uint8_t *q,
                 __m256i codes, const uint8_t *act, int w, float *acc)
{
    __m256i t[BT__TILE_INT8], scale[2], min[2];
    for (int h = 0; f->scales == 2 && h < 2; h++) {
        __m256i byte = bytes_of(bytes + 32 * h);
        scale[h] = f->min == BT_MIN_16 ? _mm256_and_si256(byte, _mm256_set1_epi32(15)) : byte;
        scale[h] = twice(scale[h]);
        min[h] = twice(_mm256_and_si256(_mm256_srli_epi32(byte, 4), _mm256_set1_epi32(15)));
    }
    sums_of(f, q, codes, scale, act, w, t);
    __m256 d = halves_of(head, f->bf16), m = _mm256_setzero_ps();
    if (f->scales == 1) d = _mm256_mul_ps(d, _mm256_cvtepi32_ps(bytes_of(bytes)));
    if (f->min) m = halves_of(head + 64, false);
    if (f->min == BT_MIN_32)
        m = _mm256_mul_ps(m, _mm256_cvtepi32_ps(bytes_of(bytes + 32 * f->scales)));
#pragma GCC unroll 6
    for (int r = 0; r < w; r++) {
        __m256 dx = one(act + w * BT__ACT_D + 4 * r);
        __m256 a = _mm256_fmadd_ps(_mm256_cvtepi32_ps(t[r]), _mm256_mul_ps(d, dx),
                                   _mm256_load_ps(acc + 32 * r));
        if (f->min == BT_MIN_16) {
            const uint8_t *pairs = act + w * BT__ACT_PAIRS + 4 * r;
            __m256i all = _mm256_add_epi32(_mm256_madd_epi16(four(pairs), min[0]),
                                           _mm256_madd_epi16(four(pairs + 4 * w), min[1]));
            a = _mm256_fmadd_ps(_mm256_cvtepi32_ps(all), _mm256_mul_ps(m, dx), a);
        } else if (f->min) {
            a = _mm256_fmadd_ps(m, one(act + w * BT__ACT_S + 4 * r), a);
        }
        _mm256_store_ps(acc + 32 * r, a);
    }
}

ALWAYS void tile(const bt_form *f, const uint8_t *panel, int32_t k, const uint8_t *act, int w,
                 float *acc)
{
    const int scales = bt__panel_scales(f) * 32, size = f->bits * 128;
    __m256i codes = _mm256_setzero_si256();
    if (f->codes) {
        codes = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)f->codes));
        if (f->top > 63) codes = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
    }
    for (int32_t b = 0; b < k; b += f->blocks * 32, panel += bt__panel_block(f)) {
        const uint8_t *bytes = panel + (f->min ? 128 : 64), *q = panel + bt__panel_head(f);
        for (int j = 0; j < f->blocks; j++, bytes += scales, q += size, act += w * BT__ACT_ROW)
            for (int v = 0; v < 4; v++)
                step(f, panel + 16 * v, bytes + 8 * v, q + 32 * v, codes, act, w, acc + 8 * v);
    }
}

/* One instance a format and tile width: in each, the form and w are constants and the loops over
 * rows vanish. */
#define TILE(w)                                                                                    \
    case w:                                                                                        \
        tile(&form, panel, k, act, w, acc);                                                        \
        break;
#define X(name, FORMAT, ...)                                                                       \
    void bt__avx2_##name(const void *panel, int32_t k, const void *act, int32_t w, float *acc)     \
    {                                                                                              \
        static const bt_form form = {BT_FORMAT_##FORMAT, __VA_ARGS__};                             \
        switch (w) {                                                                               \
            TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)                                        \
        }                                                                                          \
    }
BT_QUANT_FORMS(X)
#endif
