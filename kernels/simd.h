/* SPDX-License-Identifier: Apache-2.0 */
/* simd.h - sixteen floats at a time, whatever the instruction set.
 *
 * v16 is one 512-bit register, two 256-bit ones or an array, chosen by the flags the including file
 * is compiled with. Each operation rounds the same way in all three (fma is fused everywhere, sums
 * over lanes use one fixed tree), so a kernel written on v16 gives the same bits on every machine.
 * d16 is sixteen doubles. A mask has bit i set for lane i. Thread: any. */
#pragma once
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* A sanitizer's checks multiply with unrolling and inlining until compilers take minutes, so its
 * builds have smaller tiles and calls. Results are the same by design. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define V_SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define V_SANITIZED 1
#endif

/* Values in registers must not pass through calls; arrays may. */
#if defined(__AVX2__)
#define V_INLINE static inline __attribute__((always_inline, unused))
#elif defined(V_SANITIZED)
#define V_INLINE static __attribute__((noinline, unused))
#else
#define V_INLINE static inline __attribute__((unused))
#endif

#if defined(__AVX512F__)
#include <immintrin.h>

typedef __m512 v16;
typedef struct d16 {
    __m512d a, b;
} d16;

V_INLINE __mmask16 v16_first(int n)
{
    return (__mmask16)((1u << n) - 1u);
} // n in [0, 16]
V_INLINE v16 v16_zero(void)
{
    return _mm512_setzero_ps();
}
V_INLINE v16 v16_set1(float x)
{
    return _mm512_set1_ps(x);
}
V_INLINE v16 v16_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
V_INLINE void v16_store(float *p, v16 x)
{
    _mm512_storeu_ps(p, x);
}
V_INLINE v16 v16_load_n(const float *p, int n)
{
    return _mm512_maskz_loadu_ps(v16_first(n), p);
}
V_INLINE void v16_store_n(float *p, v16 x, int n)
{
    _mm512_mask_storeu_ps(p, v16_first(n), x);
}
V_INLINE v16 v16_load_half(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
V_INLINE v16 v16_load_bf16(const void *p)
{
    __m512i x = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
}
V_INLINE v16 v16_load_int8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
/* fp8 e4m3 (kernels/attention/kv_element.h), which has no NaN here: its bits in a half are the value / 256.
 */
V_INLINE v16 v16_load_e4m3(const void *p)
{
    __m256i x = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
    __m256i sign = _mm256_slli_epi16(_mm256_and_si256(x, _mm256_set1_epi16(0x80)), 8);
    x = _mm256_slli_epi16(_mm256_and_si256(x, _mm256_set1_epi16(0x7F)), 7);
    return _mm512_mul_ps(_mm512_cvtph_ps(_mm256_or_si256(x, sign)), _mm512_set1_ps(256.0f));
}
V_INLINE void v16_store_half(void *p, v16 x)
{
    _mm256_storeu_si256((__m256i *)p,
                        _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
V_INLINE v16 v16_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}
V_INLINE v16 v16_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}
V_INLINE v16 v16_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}
V_INLINE v16 v16_div(v16 a, v16 b)
{
    return _mm512_div_ps(a, b);
}
V_INLINE v16 v16_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
V_INLINE v16 v16_max(v16 a, v16 b)
{
    return _mm512_max_ps(a, b);
}
V_INLINE v16 v16_min(v16 a, v16 b)
{
    return _mm512_min_ps(a, b);
}
V_INLINE uint32_t v16_ge(v16 a, v16 b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
}
V_INLINE uint32_t v16_gt(v16 a, v16 b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}
V_INLINE uint32_t v16_eq(v16 a, v16 b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
/* x in lanes below n, fill in the others. */
V_INLINE v16 v16_keep(v16 x, int n, v16 fill)
{
    return _mm512_mask_blend_ps(v16_first(n), fill, x);
}
/* x where a >= b, else zero. */
V_INLINE v16 v16_where_ge(v16 a, v16 b, v16 x)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_GE_OQ), x);
}
/* 2^n from t = n + 1.5 * 2^23, n in [-126, 127]. */
V_INLINE v16 v16_pow2(v16 t)
{
    __m512i n = _mm512_add_epi32(_mm512_castps_si512(t), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(n, 23));
}
/* zero where x < lo, else y (a NaN in x keeps y). */
V_INLINE v16 v16_zero_below(v16 x, v16 lo, v16 y)
{
    return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, lo, _CMP_LT_OQ), _mm512_setzero_ps());
}
V_INLINE float v16_sum(v16 x)
{
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
V_INLINE float v16_hmax(v16 x)
{
    return _mm512_reduce_max_ps(x);
}

V_INLINE d16 d16_zero(void)
{
    return (d16){_mm512_setzero_pd(), _mm512_setzero_pd()};
}
V_INLINE d16 d16_add_v16(d16 s, v16 x)
{
    s.a = _mm512_add_pd(s.a, _mm512_cvtps_pd(_mm512_castps512_ps256(x)));
    s.b = _mm512_add_pd(s.b, _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)));
    return s;
}
V_INLINE void d16_store(double *p, d16 s)
{
    _mm512_storeu_pd(p, s.a);
    _mm512_storeu_pd(p + 8, s.b);
}

#elif defined(__AVX2__)
#include <immintrin.h>

typedef struct v16 {
    __m256 a, b;
} v16;
typedef struct d16 {
    __m256d a, b, c, d;
} d16;

/* All ones in lanes (of eight) below n. */
V_INLINE __m256i v16_first(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
V_INLINE v16 v16_zero(void)
{
    return (v16){_mm256_setzero_ps(), _mm256_setzero_ps()};
}
V_INLINE v16 v16_set1(float x)
{
    return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
V_INLINE v16 v16_load(const float *p)
{
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
V_INLINE void v16_store(float *p, v16 x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
V_INLINE v16 v16_load_n(const float *p, int n)
{
    v16 x = {_mm256_maskload_ps(p, v16_first(n)), _mm256_setzero_ps()};
    if (n > 8) x.b = _mm256_maskload_ps(p + 8, v16_first(n - 8));
    return x;
}
V_INLINE void v16_store_n(float *p, v16 x, int n)
{
    _mm256_maskstore_ps(p, v16_first(n), x.a);
    if (n > 8) _mm256_maskstore_ps(p + 8, v16_first(n - 8), x.b);
}
V_INLINE v16 v16_load_half(const void *p)
{
    const __m128i *h = (const __m128i *)p;
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
}
V_INLINE v16 v16_load_bf16(const void *p)
{
    const __m128i *h = (const __m128i *)p;
    __m256i a = _mm256_cvtepu16_epi32(_mm_loadu_si128(h));
    __m256i b = _mm256_cvtepu16_epi32(_mm_loadu_si128(h + 1));
    return (v16){_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)),
                 _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))};
}
V_INLINE v16 v16_load_int8(const void *p)
{
    __m128i x = _mm_loadu_si128((const __m128i *)p);
    return (v16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)),
                 _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(x, 8)))};
}
V_INLINE v16 v16_load_e4m3(const void *p)
{
    __m256i x = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
    __m256i sign = _mm256_slli_epi16(_mm256_and_si256(x, _mm256_set1_epi16(0x80)), 8);
    const __m256 scale = _mm256_set1_ps(256.0f);
    x = _mm256_slli_epi16(_mm256_and_si256(x, _mm256_set1_epi16(0x7F)), 7);
    x = _mm256_or_si256(x, sign);
    return (v16){_mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(x)), scale),
                 _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(x, 1)), scale)};
}
V_INLINE void v16_store_half(void *p, v16 x)
{
    __m128i *h = (__m128i *)p;
    _mm_storeu_si128(h, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(h + 1, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}
#define V16_BOTH(name, op)                                                                         \
    V_INLINE v16 name(v16 x, v16 y)                                                                \
    {                                                                                              \
        return (v16){op(x.a, y.a), op(x.b, y.b)};                                                  \
    }
V16_BOTH(v16_add, _mm256_add_ps)
V16_BOTH(v16_sub, _mm256_sub_ps)
V16_BOTH(v16_mul, _mm256_mul_ps)
V16_BOTH(v16_div, _mm256_div_ps)
V16_BOTH(v16_max, _mm256_max_ps)
V16_BOTH(v16_min, _mm256_min_ps)
#undef V16_BOTH
V_INLINE v16 v16_fma(v16 x, v16 y, v16 z)
{
    return (v16){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
#define V16_MASK(name, how)                                                                        \
    V_INLINE uint32_t name(v16 x, v16 y)                                                           \
    {                                                                                              \
        return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(x.a, y.a, how)) |                        \
               (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(x.b, y.b, how)) << 8;                    \
    }
V16_MASK(v16_ge, _CMP_GE_OQ)
V16_MASK(v16_gt, _CMP_GT_OQ)
V16_MASK(v16_eq, _CMP_EQ_OQ)
#undef V16_MASK
V_INLINE v16 v16_keep(v16 x, int n, v16 fill)
{
    return (v16){_mm256_blendv_ps(fill.a, x.a, _mm256_castsi256_ps(v16_first(n))),
                 _mm256_blendv_ps(fill.b, x.b, _mm256_castsi256_ps(v16_first(n - 8)))};
}
V_INLINE v16 v16_where_ge(v16 x, v16 y, v16 z)
{
    return (v16){_mm256_and_ps(z.a, _mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ)),
                 _mm256_and_ps(z.b, _mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ))};
}
V_INLINE __m256 v8_pow2(__m256 t)
{
    __m256i n = _mm256_add_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(n, 23));
}
V_INLINE v16 v16_pow2(v16 t)
{
    return (v16){v8_pow2(t.a), v8_pow2(t.b)};
}
V_INLINE v16 v16_zero_below(v16 x, v16 lo, v16 y)
{
    return (v16){_mm256_andnot_ps(_mm256_cmp_ps(x.a, lo.a, _CMP_LT_OQ), y.a),
                 _mm256_andnot_ps(_mm256_cmp_ps(x.b, lo.b, _CMP_LT_OQ), y.b)};
}
V_INLINE float v16_sum(v16 x)
{
    __m256 h = _mm256_add_ps(x.a, x.b);
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
V_INLINE float v16_hmax(v16 x)
{
    __m256 h = _mm256_max_ps(x.a, x.b);
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
}

V_INLINE d16 d16_zero(void)
{
    __m256d z = _mm256_setzero_pd();
    return (d16){z, z, z, z};
}
V_INLINE d16 d16_add_v16(d16 s, v16 x)
{
    s.a = _mm256_add_pd(s.a, _mm256_cvtps_pd(_mm256_castps256_ps128(x.a)));
    s.b = _mm256_add_pd(s.b, _mm256_cvtps_pd(_mm256_extractf128_ps(x.a, 1)));
    s.c = _mm256_add_pd(s.c, _mm256_cvtps_pd(_mm256_castps256_ps128(x.b)));
    s.d = _mm256_add_pd(s.d, _mm256_cvtps_pd(_mm256_extractf128_ps(x.b, 1)));
    return s;
}
V_INLINE void d16_store(double *p, d16 s)
{
    _mm256_storeu_pd(p, s.a);
    _mm256_storeu_pd(p + 4, s.b);
    _mm256_storeu_pd(p + 8, s.c);
    _mm256_storeu_pd(p + 12, s.d);
}

#else
#include "kernels/attention/kv_element.h"
#include "kernels/quant/quant.h"

typedef struct v16 {
    float v[16];
} v16;
typedef struct d16 {
    double v[16];
} d16;

#define V16_EACH(name, params, expr)                                                               \
    V_INLINE v16 name params                                                                       \
    {                                                                                              \
        v16 r;                                                                                     \
        for (int i = 0; i < 16; i++) r.v[i] = (expr);                                              \
        return r;                                                                                  \
    }
V16_EACH(v16_zero, (void), 0.0f)
V16_EACH(v16_set1, (float x), x)
V16_EACH(v16_load, (const float *p), p[i])
V16_EACH(v16_load_n, (const float *p, int n), i < n ? p[i] : 0.0f)
V16_EACH(v16_load_half, (const void *p), bt_f32_from_f16(bt_load_u16((const char *)p + 2 * i)))
V16_EACH(v16_load_bf16, (const void *p), bt_f32_from_bf16(bt_load_u16((const char *)p + 2 * i)))
V16_EACH(v16_load_int8, (const void *p), (float)((const int8_t *)p)[i])
V16_EACH(v16_load_e4m3, (const void *p), bt_f32_from_e4m3(((const uint8_t *)p)[i]))
V16_EACH(v16_add, (v16 a, v16 b), a.v[i] + b.v[i])
V16_EACH(v16_sub, (v16 a, v16 b), a.v[i] - b.v[i])
V16_EACH(v16_mul, (v16 a, v16 b), a.v[i] * b.v[i])
V16_EACH(v16_div, (v16 a, v16 b), a.v[i] / b.v[i])
V16_EACH(v16_fma, (v16 a, v16 b, v16 c), fmaf(a.v[i], b.v[i], c.v[i]))
V16_EACH(v16_max, (v16 a, v16 b), a.v[i] > b.v[i] ? a.v[i] : b.v[i])
V16_EACH(v16_min, (v16 a, v16 b), a.v[i] < b.v[i] ? a.v[i] : b.v[i])
V16_EACH(v16_keep, (v16 x, int n, v16 fill), i < n ? x.v[i] : fill.v[i])
V16_EACH(v16_where_ge, (v16 a, v16 b, v16 x), a.v[i] >= b.v[i] ? x.v[i] : 0.0f)
V16_EACH(v16_zero_below, (v16 x, v16 lo, v16 y), x.v[i] < lo.v[i] ? 0.0f : y.v[i])
#undef V16_EACH
#define V16_MASK(name, op)                                                                         \
    V_INLINE uint32_t name(v16 a, v16 b)                                                           \
    {                                                                                              \
        uint32_t m = 0;                                                                            \
        for (int i = 0; i < 16; i++) m |= (uint32_t)(a.v[i] op b.v[i]) << i;                       \
        return m;                                                                                  \
    }
V16_MASK(v16_ge, >=)
V16_MASK(v16_gt, >)
V16_MASK(v16_eq, ==)
#undef V16_MASK
V_INLINE void v16_store(float *p, v16 x)
{
    memcpy(p, x.v, sizeof x.v);
}
V_INLINE void v16_store_n(float *p, v16 x, int n)
{
    memcpy(p, x.v, (size_t)n * sizeof *p);
}
V_INLINE void v16_store_half(void *p, v16 x)
{
    for (int i = 0; i < 16; i++) {
        uint16_t h = bt_f16_from_f32(x.v[i]);
        memcpy((char *)p + 2 * i, &h, sizeof h);
    }
}
V_INLINE v16 v16_pow2(v16 t)
{
    for (int i = 0; i < 16; i++) {
        uint32_t u;
        memcpy(&u, &t.v[i], sizeof u);
        u = (u + 127u) << 23;
        memcpy(&t.v[i], &u, sizeof u);
    }
    return t;
}
V_INLINE float v16_sum(v16 x)
{
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) x.v[i] += x.v[i + half];
    return x.v[0];
}
V_INLINE float v16_hmax(v16 x)
{
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) x.v[i] = x.v[i] > x.v[i + half] ? x.v[i] : x.v[i + half];
    return x.v[0];
}

V_INLINE d16 d16_zero(void)
{
    return (d16){{0}};
}
V_INLINE d16 d16_add_v16(d16 s, v16 x)
{
    for (int i = 0; i < 16; i++) s.v[i] += (double)x.v[i];
    return s;
}
V_INLINE void d16_store(double *p, d16 s)
{
    memcpy(p, s.v, sizeof s.v);
}
#endif

/* Sum of the sixteen, by the same tree as v16_sum. */
V_INLINE double d16_sum(d16 s)
{
    double v[16];
    d16_store(v, s);
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) v[i] += v[i + half];
    return v[0];
}

/* e^x: Cody-Waite reduction by ln 2 and a polynomial of degree 7 (minimax, after Cephes). Within 2
 * units in the last place on [-87, 88]; 0 below -87, e^88.3 above 88.3; NaN stays NaN. */
V_INLINE v16 v16_exp(v16 x)
{
    const v16 lo = v16_set1(-87.0f), magic = v16_set1(12582912.0f);
    v16 xc = v16_min(v16_set1(88.3f), v16_max(lo, x)); // this operand order lets NaN through
    v16 t = v16_fma(xc, v16_set1(1.44269504088896341f), magic);
    v16 n = v16_sub(t, magic);
    v16 r = v16_fma(n, v16_set1(-0.693359375f), xc);
    r = v16_fma(n, v16_set1(2.12194440e-4f), r);
    v16 p = v16_set1(1.9875691500e-4f);
    p = v16_fma(p, r, v16_set1(1.3981999507e-3f));
    p = v16_fma(p, r, v16_set1(8.3334519073e-3f));
    p = v16_fma(p, r, v16_set1(4.1665795894e-2f));
    p = v16_fma(p, r, v16_set1(1.6666665459e-1f));
    p = v16_fma(p, r, v16_set1(5.0000001201e-1f));
    p = v16_fma(v16_mul(r, r), p, v16_add(r, v16_set1(1.0f)));
    return v16_zero_below(x, lo, v16_mul(p, v16_pow2(t)));
}

/* cap * tanh(x / cap), tanh(u) = 1 - 2 / (1 + e^2u): within 3e-7 cap. NaN stays NaN. */
V_INLINE v16 v16_cap(v16 x, float cap)
{
    v16 e = v16_exp(v16_mul(x, v16_set1(2.0f / cap)));
    v16 t = v16_div(v16_set1(-2.0f), v16_add(v16_set1(1.0f), e));
    return v16_fma(t, v16_set1(cap), v16_set1(cap));
}
