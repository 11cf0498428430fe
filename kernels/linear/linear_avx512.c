/* SPDX-License-Identifier: Apache-2.0 */
/* linear_avx512.c - the float formats, and what formats share, with AVX-512. */
#include "kernels/linear/linear_int8_sums.h"
#if defined(__x86_64__)
#include <immintrin.h>

#define ALWAYS static inline __attribute__((always_inline))

/* 16 weights of a format as f32. */
ALWAYS __m512 weights(const void *p, size_t i, int32_t format)
{
    if (format == BT_FORMAT_F32) return _mm512_load_ps((const float *)p + i);
    __m256i h = _mm256_load_si256((const __m256i *)(const void *)((const uint16_t *)p + i));
    if (format == BT_FORMAT_F16) return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

ALWAYS void dot_tile(const void *p, int32_t k, const float *act, int w, float *acc, int32_t format)
{
    __m512 sum[BT__TILE_FLOAT][2];
#pragma GCC unroll 12
    for (int r = 0; r < w; r++) {
        sum[r][0] = _mm512_load_ps(acc + 32 * r);
        sum[r][1] = _mm512_load_ps(acc + 32 * r + 16);
    }
    for (int32_t i = 0; i < k; i++, act += w) {
        __m512 w0 = weights(p, (size_t)i * 32, format),
               w1 = weights(p, (size_t)i * 32 + 16, format);
#pragma GCC unroll 12
        for (int r = 0; r < w; r++) {
            __m512 x = _mm512_set1_ps(act[r]);
            sum[r][0] = _mm512_fmadd_ps(w0, x, sum[r][0]);
            sum[r][1] = _mm512_fmadd_ps(w1, x, sum[r][1]);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < w; r++) {
        _mm512_store_ps(acc + 32 * r, sum[r][0]);
        _mm512_store_ps(acc + 32 * r + 16, sum[r][1]);
    }
}

/* One instance a tile width: in each, w is a constant and the loops over rows vanish. */
#define CASE(w, call)                                                                              \
    case w:                                                                                        \
        call;                                                                                      \
        break;
#define DOT(name, format)                                                                          \
    void bt__avx512_##name(const void *p, int32_t k, const void *act, int32_t w, float *acc)       \
    {                                                                                              \
        switch (w) {                                                                               \
            TILE(1, format)                                                                        \
            TILE(2, format)                                                                        \
            TILE(3, format)                                                                        \
            TILE(4, format)                                                                        \
            TILE(5, format)                                                                        \
            TILE(6, format)                                                                        \
            TILE(7, format)                                                                        \
            TILE(8, format) TILE(9, format) TILE(10, format) TILE(11, format) TILE(12, format)     \
        }                                                                                          \
    }
#define TILE(w, format) CASE(w, dot_tile(p, k, act, w, acc, format))
DOT(f32, BT_FORMAT_F32)
DOT(f16, BT_FORMAT_F16)
DOT(bf16, BT_FORMAT_BF16)
#undef TILE

void bt__avx512_widen_f16(const uint16_t *src, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i += 16) _mm512_store_ps(dst + i, weights(src, i, BT_FORMAT_F16));
}

void bt__avx512_widen_bf16(const uint16_t *src, size_t n, float *dst)
{
    for (size_t i = 0; i < n; i += 16) _mm512_store_ps(dst + i, weights(src, i, BT_FORMAT_BF16));
}

static void avx512_store(const float *acc, int32_t w, int32_t width, const float *bias,
                         bool accumulate, float *y, int64_t ldy)
{
    for (int half = 0; half < 2 && width > 16 * half; half++) {
        int32_t left = width - 16 * half;
        __mmask16 m = (__mmask16)(left >= 16 ? 0xFFFFu : (1u << left) - 1);
        __m512 b = bias ? _mm512_maskz_loadu_ps(m, bias + 16 * half) : _mm512_setzero_ps();
        for (int32_t r = 0; r < w; r++) {
            float *to = y + r * ldy + 16 * half;
            __m512 v = _mm512_load_ps(acc + 32 * r + 16 * half);
            if (bias) v = _mm512_add_ps(v, b); // -0 + 0 would change a sign
            if (accumulate) v = _mm512_add_ps(_mm512_maskz_loadu_ps(m, to), v);
            _mm512_mask_storeu_ps(to, m, v);
        }
    }
}

static void avx512_quantize(const float *x, int32_t blocks, int32_t w, int32_t row, uint8_t *act)
{
    const __m512i sign_off = _mm512_set1_epi32(0x7FFFFFFF);
    for (int32_t b = 0; b < blocks; b++, x += 32, act += (size_t)w * BT__ACT_ROW) {
        __m512 x0 = _mm512_loadu_ps(x), x1 = _mm512_loadu_ps(x + 16);
        __m512i m0 = _mm512_and_si512(_mm512_castps_si512(x0), sign_off);
        __m512i m1 = _mm512_and_si512(_mm512_castps_si512(x1), sign_off);
        uint32_t most = _mm512_reduce_max_epu32(_mm512_max_epu32(m0, m1));
        float amax = bt_f32_from_bits(most);
        bool zero = !(amax >= BT__AMAX_MIN && most < 0x7F800000u);
        __m512i q0 = _mm512_setzero_si512(), q1 = q0;
        if (!zero) {
            __m512 inverse = _mm512_set1_ps(127 / amax);
            q0 = _mm512_cvtps_epi32(_mm512_mul_ps(x0, inverse));
            q1 = _mm512_cvtps_epi32(_mm512_mul_ps(x1, inverse));
        }
        uint8_t *q = act + (size_t)row * 32;
        _mm_storeu_si128((__m128i *)(void *)q, _mm512_cvtepi32_epi8(q0));
        _mm_storeu_si128((__m128i *)(void *)(q + 16), _mm512_cvtepi32_epi8(q1));
        float d = !zero ? amax / 127 : most >= 0x7F800000u ? bt_f32_from_bits(0x7FC00000u) : 0;
        bt__act_sums(
            act, w, row, d,
            _mm256_add_epi32(_mm512_castsi512_si256(q0), _mm512_extracti64x4_epi64(q0, 1)),
            _mm256_add_epi32(_mm512_castsi512_si256(q1), _mm512_extracti64x4_epi64(q1, 1)));
    }
}

const bt__linear_isa bt__linear_avx512 = {avx512_store, avx512_quantize};
#endif
