/* SPDX-License-Identifier: Apache-2.0 */
/* linear_avx2.c - the family with AVX2, FMA and F16C.
 *
 * Vectors of 8 outputs; per block of k the four vectors of a panel take turns, and their f32 sums
 * wait in the first-level cache, so weights are read once, in order. VPMADDUBSW saturates at 16
 * bits: for Q8_0 it gets |w| and x with w's sign, where the worst pair is 2 * 128 * 127; for Q4_0
 * sixteen products of 15 * 127 still fit. */
#include "kernels/linear/linear_impl.h"
#if defined(__x86_64__)
#include <immintrin.h>

#define ALWAYS static inline __attribute__((always_inline))
enum { ROWS_DOT = 6, STRETCH = 64 };

ALWAYS __m256i four(const uint8_t *x)
{
    int32_t v;
    memcpy(&v, x, 4);
    return _mm256_set1_epi32(v);
}

ALWAYS __m256i load(const void *p)
{
    return _mm256_load_si256((const __m256i *)p);
}

/* acc += float(t) * (d_w * d_x) for 8 outputs (from `at` of the panel) and w rows. */
ALWAYS void finish(const __m256i *t, const uint16_t *dw, const uint8_t *act, int w, float *acc)
{
    const float *dx = (const float *)(const void *)(act + (size_t)w * 32);
    __m256 d = _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)dw));
#pragma GCC unroll 6
    for (int r = 0; r < w; r++) {
        __m256 both = _mm256_mul_ps(d, _mm256_set1_ps(dx[r]));
        _mm256_store_ps(acc + 32 * r, _mm256_fmadd_ps(_mm256_cvtepi32_ps(t[r]), both,
                                                      _mm256_load_ps(acc + 32 * r)));
    }
}

ALWAYS void q8_tile(const bt__panel_q8 *p, int32_t blocks, const uint8_t *act, int w, float *acc)
{
    const __m256i flip = _mm256_set1_epi8(-128), ones = _mm256_set1_epi16(1);
    memset(acc, 0, sizeof *acc * (size_t)w * 32);
    for (int32_t b = 0; b < blocks; b++, act += w * BT__ACT_ROW) {
        for (int v = 0; v < 4; v++) {
            __m256i t[BT__TILE_INT8];
#pragma GCC unroll 6
            for (int r = 0; r < w; r++) t[r] = _mm256_setzero_si256();
#pragma GCC unroll 8
            for (int g = 0; g < 8; g++) {
                __m256i q = _mm256_xor_si256(load(p[b].q[g][v * 8]), flip);
                __m256i mag = _mm256_abs_epi8(q); // 128 is right: read as unsigned
#pragma GCC unroll 6
                for (int r = 0; r < w; r++) {
                    __m256i x = _mm256_sign_epi8(four(act + 32 * r + 4 * g), q);
                    __m256i pairs = _mm256_maddubs_epi16(mag, x);
                    t[r] = _mm256_add_epi32(t[r], _mm256_madd_epi16(pairs, ones));
                }
            }
            finish(t, p[b].d + 8 * v, act, w, acc + 8 * v);
        }
    }
}

ALWAYS void q4_tile(const bt__panel_q4 *p, int32_t blocks, const uint8_t *act, int w, float *acc)
{
    const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    memset(acc, 0, sizeof *acc * (size_t)w * 32);
    for (int32_t b = 0; b < blocks; b++, act += w * BT__ACT_ROW) {
        for (int v = 0; v < 4; v++) {
            __m256i t[BT__TILE_INT8];
#pragma GCC unroll 6
            for (int r = 0; r < w; r++) t[r] = _mm256_setzero_si256();
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                __m256i q = load(p[b].q[j][v * 8]);
                __m256i lo = _mm256_and_si256(q, low);
                __m256i hi = _mm256_and_si256(_mm256_srli_epi16(q, 4), low);
#pragma GCC unroll 6
                for (int r = 0; r < w; r++) {
                    __m256i a = _mm256_maddubs_epi16(lo, four(act + 32 * r + 4 * j));
                    __m256i c = _mm256_maddubs_epi16(hi, four(act + 32 * r + 16 + 4 * j));
                    t[r] = _mm256_add_epi16(t[r], _mm256_add_epi16(a, c));
                }
            }
#pragma GCC unroll 6
            for (int r = 0; r < w; r++)
                t[r] = _mm256_add_epi32(_mm256_madd_epi16(t[r], ones), four(act + w * 36 + 4 * r));
            finish(t, p[b].d + 8 * v, act, w, acc + 8 * v);
        }
    }
}

/* 8 weights of a format as f32. */
ALWAYS __m256 weights(const void *p, size_t i, int32_t format)
{
    if (format == BT_FORMAT_F32) return _mm256_load_ps((const float *)p + i);
    __m128i h = _mm_load_si128((const __m128i *)(const void *)((const uint16_t *)p + i));
    if (format == BT_FORMAT_F16) return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

/* rows x (8 * vectors) outputs in registers; act and acc already point at the first of them. */
ALWAYS void dot_part(const void *p, int32_t k, const float *act, int32_t w, int rows, int vectors,
                     float *acc, int32_t format)
{
    __m256 sum[ROWS_DOT][4];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) sum[r][v] = _mm256_load_ps(acc + 32 * r + 8 * v);
    for (int32_t i = 0; i < k; i++, act += w) {
        __m256 q[4];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) q[v] = weights(p, (size_t)i * 32 + 8 * (size_t)v, format);
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            __m256 x = _mm256_set1_ps(act[r]);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) sum[r][v] = _mm256_fmadd_ps(q[v], x, sum[r][v]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) _mm256_store_ps(acc + 32 * r + 8 * v, sum[r][v]);
}

/* One instance a tile width: in each, w is a constant and the loops over rows vanish. */
#define CASE(w, call)                                                                              \
    case w: call; break;
static void avx2_q8(const bt__panel_q8 *p, int32_t blocks, const uint8_t *act, int32_t w,
                    float *acc)
{
#define TILE(w) CASE(w, q8_tile(p, blocks, act, w, acc))
    switch (w) {
        TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)
    }
#undef TILE
}

static void avx2_q4(const bt__panel_q4 *p, int32_t blocks, const uint8_t *act, int32_t w,
                    float *acc)
{
#define TILE(w) CASE(w, q4_tile(p, blocks, act, w, acc))
    switch (w) {
        TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)
    }
#undef TILE
}

/* A stretch of k stays in the first-level cache while both halves of the panel and all rows pass
 * over it. */
static void dot_stretch(const float *p, int32_t k, const float *act, int32_t w, float *acc)
{
    int32_t parts = (w + ROWS_DOT - 1) / ROWS_DOT;
    for (int32_t r = 0, rows = 0; r < w; r += rows, parts--) {
        rows = (w - r + parts - 1) / parts;
        for (int half = 0; half < 2; half++) {
            const float *q = p + 16 * half, *x = act + r;
            float *a = acc + 32 * r + 16 * half;
#define TILE(n) CASE(n, dot_part(q, k, x, w, n, 2, a, BT_FORMAT_F32))
            switch (rows) {
                TILE(1) TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)
            }
#undef TILE
        }
    }
}

static void avx2_dot_f32(const void *panel, int32_t k, const float *act, int32_t w, float *acc)
{
    const float *p = panel;
    if (w == 1) {
        dot_part(p, k, act, 1, 1, 4, acc, BT_FORMAT_F32);
        return;
    }
    for (int32_t i = 0; i < k; i += STRETCH) {
        int32_t len = k - i < STRETCH ? k - i : STRETCH;
        dot_stretch(p + (size_t)i * 32, len, act + (size_t)i * (size_t)w, w, acc);
    }
}

static void avx2_widen_f16(const uint16_t *src, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i += 8) _mm256_store_ps(dst + i, weights(src, i, BT_FORMAT_F16));
}

static void avx2_widen_bf16(const uint16_t *src, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i += 8) _mm256_store_ps(dst + i, weights(src, i, BT_FORMAT_BF16));
}

/* Up to two rows read the 16-bit weights directly; more go through a widened stretch. */
#define DOT(name, format)                                                                          \
    static void avx2_dot_##name(const void *panel, int32_t k, const float *act, int32_t w,         \
                                float *acc)                                                        \
    {                                                                                              \
        _Alignas(32) float wide[STRETCH * 32];                                                     \
        const uint16_t *p = panel;                                                                 \
        if (w == 1) {                                                                              \
            dot_part(p, k, act, 1, 1, 4, acc, format);                                             \
            return;                                                                                \
        }                                                                                          \
        if (w == 2) {                                                                              \
            dot_part(p, k, act, 2, 2, 4, acc, format);                                             \
            return;                                                                                \
        }                                                                                          \
        for (int32_t i = 0; i < k; i += STRETCH) {                                                 \
            int32_t len = k - i < STRETCH ? k - i : STRETCH;                                       \
            avx2_widen_##name(p + (size_t)i * 32, (size_t)len * 32, wide);                         \
            dot_stretch(wide, len, act + (size_t)i * (size_t)w, w, acc);                           \
        }                                                                                          \
    }
DOT(f16, BT_FORMAT_F16)
DOT(bf16, BT_FORMAT_BF16)

static void avx2_widen_sub(const bt__wide_sub *sub, float *dst)
{
    bt__wide_widen(sub, dst);
}

static void avx2_store(const float *acc, int32_t w, int32_t width, const float *bias,
                       bool accumulate, float *y, int64_t ldy)
{
    for (int32_t r = 0; r < w; r++, acc += 32, y += ldy) {
        int32_t o = 0;
        for (; o + 8 <= width; o += 8) {
            __m256 v = _mm256_load_ps(acc + o);
            if (bias) v = _mm256_add_ps(v, _mm256_loadu_ps(bias + o));
            if (accumulate) v = _mm256_add_ps(_mm256_loadu_ps(y + o), v);
            _mm256_storeu_ps(y + o, v);
        }
        for (; o < width; o++) {
            float v = bias ? acc[o] + bias[o] : acc[o];
            y[o] = accumulate ? y[o] + v : v;
        }
    }
}

static void avx2_quantize(const float *x, int32_t blocks, int32_t w, int32_t row, uint8_t *act)
{
    const __m256i sign_off = _mm256_set1_epi32(0x7FFFFFFF);
    for (int32_t b = 0; b < blocks; b++, x += 32, act += (size_t)w * BT__ACT_ROW) {
        __m256 v[4];
        __m256i m = _mm256_setzero_si256(), s = m;
        for (int i = 0; i < 4; i++) {
            v[i] = _mm256_loadu_ps(x + 8 * i);
            m = _mm256_max_epu32(m, _mm256_and_si256(_mm256_castps_si256(v[i]), sign_off));
        }
        __m128i h = _mm_max_epu32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
        h = _mm_max_epu32(h, _mm_shuffle_epi32(h, 0x4E));
        h = _mm_max_epu32(h, _mm_shuffle_epi32(h, 0xB1));
        uint32_t most = (uint32_t)_mm_cvtsi128_si32(h);
        float amax = bt_f32_from_bits(most);
        bool zero = !(amax >= BT__AMAX_MIN && most < 0x7F800000u);
        uint8_t *q = act + (size_t)row * 32;
        float *d = (float *)(void *)(act + (size_t)w * 32) + row;
        int32_t *sums = (int32_t *)(void *)(act + (size_t)w * 36) + row;
        __m256 inverse = _mm256_set1_ps(zero ? 0 : 127 / amax);
        for (int i = 0; i < 4; i++) {
            __m256i t = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
            if (zero) t = _mm256_setzero_si256(); // infinity times zero would not be
            s = _mm256_add_epi32(s, t);
            __m128i w16 =
                _mm_packs_epi32(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1));
            _mm_storel_epi64((__m128i *)(void *)(q + 8 * i), _mm_packs_epi16(w16, w16));
        }
        h = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
        h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4E));
        h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0xB1));
        int32_t sum = _mm_cvtsi128_si32(h);
        *d = !zero ? amax / 127 : most >= 0x7F800000u ? bt_f32_from_bits(0x7FC00000u) : 0;
        sums[0] = -8 * sum;
        sums[w] = -128 * sum;
    }
}

const bt__linear_kernels bt__linear_avx2 = {
    avx2_q8,        avx2_q4,         avx2_dot_f32,   avx2_dot_f16, avx2_dot_bf16,
    avx2_widen_f16, avx2_widen_bf16, avx2_widen_sub, avx2_store,   avx2_quantize,
};
#endif
