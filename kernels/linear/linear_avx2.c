/* SPDX-License-Identifier: Apache-2.0 */
/* linear_avx2.c - the float formats, and what formats share, with AVX2, FMA and F16C. */
#include "kernels/linear/linear_int8_sums.h"
#if defined(__x86_64__)
#include <immintrin.h>

#define ALWAYS static inline __attribute__((always_inline))
enum { ROWS_DOT = 6, STRETCH = 64 };

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

void bt__avx2_f32(const void *panel, int32_t k, const void *act, int32_t w, float *acc)
{
    const float *p = panel, *x = act;
    if (w == 1) {
        dot_part(p, k, x, 1, 1, 4, acc, BT_FORMAT_F32);
        return;
    }
    for (int32_t i = 0; i < k; i += STRETCH) {
        int32_t len = k - i < STRETCH ? k - i : STRETCH;
        dot_stretch(p + (size_t)i * 32, len, x + (size_t)i * (size_t)w, w, acc);
    }
}

void bt__avx2_widen_f16(const uint16_t *src, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i += 8) _mm256_store_ps(dst + i, weights(src, i, BT_FORMAT_F16));
}

void bt__avx2_widen_bf16(const uint16_t *src, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i += 8) _mm256_store_ps(dst + i, weights(src, i, BT_FORMAT_BF16));
}

/* Up to two rows read the 16-bit weights directly; more go through a widened stretch. */
#define DOT(name, format)                                                                          \
    void bt__avx2_##name(const void *panel, int32_t k, const void *act, int32_t w, float *acc)     \
    {                                                                                              \
        _Alignas(32) float wide[STRETCH * 32];                                                     \
        const uint16_t *p = panel;                                                                 \
        const float *x = act;                                                                      \
        if (w == 1) {                                                                              \
            dot_part(p, k, x, 1, 1, 4, acc, format);                                               \
            return;                                                                                \
        }                                                                                          \
        if (w == 2) {                                                                              \
            dot_part(p, k, x, 2, 2, 4, acc, format);                                               \
            return;                                                                                \
        }                                                                                          \
        for (int32_t i = 0; i < k; i += STRETCH) {                                                 \
            int32_t len = k - i < STRETCH ? k - i : STRETCH;                                       \
            bt__avx2_widen_##name(p + (size_t)i * 32, (size_t)len * 32, wide);                     \
            dot_stretch(wide, len, x + (size_t)i * (size_t)w, w, acc);                             \
        }                                                                                          \
    }
DOT(f16, BT_FORMAT_F16)
DOT(bf16, BT_FORMAT_BF16)

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
        __m256i m = _mm256_setzero_si256();
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
        __m256 inverse = _mm256_set1_ps(zero ? 0 : 127 / amax);
        __m256i sums[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        for (int i = 0; i < 4; i++) {
            __m256i t = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
            if (zero) t = _mm256_setzero_si256(); // infinity times zero would not be
            sums[i / 2] = _mm256_add_epi32(sums[i / 2], t);
            __m128i w16 =
                _mm_packs_epi32(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1));
            _mm_storel_epi64((__m128i *)(void *)(q + 8 * i), _mm_packs_epi16(w16, w16));
        }
        float d = !zero ? amax / 127 : most >= 0x7F800000u ? bt_f32_from_bits(0x7FC00000u) : 0;
        bt__act_sums(act, w, row, d, sums[0], sums[1]);
    }
}

const bt__linear_isa bt__linear_avx2 = {avx2_store, avx2_quantize};
#endif
