/* SPDX-License-Identifier: Apache-2.0 */
/* ceiling_cpu.c - what this machine's memory and arithmetic can do at most. */
#include "kernels/ceiling/ceiling.h"
#include "kernels/cpu_isa.h"
#include <math.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { CHAINS = 12 }; // enough to hide the latency of one

#if defined(__x86_64__)
#define WIDE __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define HALF __attribute__((target("avx2,fma")))

WIDE static uint64_t read_wide(const char *p, size_t n)
{
    __m512i s[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                    _mm512_setzero_si512()};
    uint64_t lane[8], sum = 0;
    for (size_t i = 0; i + 256 <= n; i += 256)
        for (int j = 0; j < 4; j++)
            s[j] = _mm512_xor_si512(s[j], _mm512_load_si512(p + i + 64 * (size_t)j));
    s[0] = _mm512_xor_si512(_mm512_xor_si512(s[0], s[1]), _mm512_xor_si512(s[2], s[3]));
    _mm512_storeu_si512(lane, s[0]);
    for (int j = 0; j < 8; j++) sum ^= lane[j];
    return sum;
}

HALF static uint64_t read_half(const char *p, size_t n)
{
    __m256i s[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                    _mm256_setzero_si256()};
    uint64_t lane[4];
    for (size_t i = 0; i + 128 <= n; i += 128)
        for (int j = 0; j < 4; j++)
            s[j] = _mm256_xor_si256(
                s[j], _mm256_load_si256((const __m256i *)(const void *)(p + i + 32 * (size_t)j)));
    s[0] = _mm256_xor_si256(_mm256_xor_si256(s[0], s[1]), _mm256_xor_si256(s[2], s[3]));
    _mm256_storeu_si256((__m256i *)(void *)lane, s[0]);
    return lane[0] ^ lane[1] ^ lane[2] ^ lane[3];
}

/* The chains start apart, so that no two of them are the same computation. */
WIDE static double fma_wide(int64_t loops)
{
    __m512 s[CHAINS], one = _mm512_set1_ps(1);
    double sum = 0;
    for (int j = 0; j < CHAINS; j++) s[j] = _mm512_set1_ps((float)j);
    for (int64_t i = 0; i < loops; i++)
#pragma GCC unroll 12
        for (int j = 0; j < CHAINS; j++) s[j] = _mm512_fmadd_ps(s[j], one, one);
    for (int j = 0; j < CHAINS; j++) sum += (double)_mm512_cvtss_f32(s[j]);
    return sum;
}

HALF static double fma_half(int64_t loops)
{
    __m256 s[CHAINS], one = _mm256_set1_ps(1);
    double sum = 0;
    for (int j = 0; j < CHAINS; j++) s[j] = _mm256_set1_ps((float)j);
    for (int64_t i = 0; i < loops; i++)
#pragma GCC unroll 12
        for (int j = 0; j < CHAINS; j++) s[j] = _mm256_fmadd_ps(s[j], one, one);
    for (int j = 0; j < CHAINS; j++) sum += (double)_mm256_cvtss_f32(s[j]);
    return sum;
}

WIDE static int64_t int8_wide(int64_t loops)
{
    __m512i s[CHAINS], ones = _mm512_set1_epi8(1);
    int64_t sum = 0;
    for (int j = 0; j < CHAINS; j++) s[j] = _mm512_set1_epi32(j);
    for (int64_t i = 0; i < loops; i++)
#pragma GCC unroll 12
        for (int j = 0; j < CHAINS; j++) s[j] = _mm512_dpbusd_epi32(s[j], ones, ones);
    for (int j = 0; j < CHAINS; j++) sum += _mm_cvtsi128_si32(_mm512_castsi512_si128(s[j]));
    return sum;
}

/* The product of bytes is made anew in each step, as in life: hence the input that changes. */
HALF static int64_t int8_half(int64_t loops)
{
    __m256i s[CHAINS], ones = _mm256_set1_epi8(1), wide = _mm256_set1_epi16(1);
    int64_t sum = 0;
    for (int j = 0; j < CHAINS; j++) s[j] = _mm256_set1_epi32(j);
    for (int64_t i = 0; i < loops; i++) {
        __asm__ volatile("" : "+x"(ones));
#pragma GCC unroll 12
        for (int j = 0; j < CHAINS; j++) {
            __m256i product = _mm256_maddubs_epi16(ones, ones);
            __asm__ volatile("" : "+x"(product));
            s[j] = _mm256_add_epi32(s[j], _mm256_madd_epi16(product, wide));
        }
    }
    for (int j = 0; j < CHAINS; j++) sum += _mm_cvtsi128_si32(_mm256_castsi256_si128(s[j]));
    return sum;
}
#endif

static uint64_t read_plain(const char *p, size_t n)
{
    uint64_t s[4] = {0}, v[4];
    for (size_t i = 0; i + 32 <= n; i += 32) {
        memcpy(v, p + i, 32);
        for (int j = 0; j < 4; j++) s[j] ^= v[j];
    }
    return s[0] ^ s[1] ^ s[2] ^ s[3];
}

static double fma_plain(int64_t loops)
{
    float s[CHAINS];
    double sum = 0;
    for (int j = 0; j < CHAINS; j++) s[j] = (float)j;
    for (int64_t i = 0; i < loops; i++)
        for (int j = 0; j < CHAINS; j++) s[j] = fmaf(s[j], 1, 1);
    for (int j = 0; j < CHAINS; j++) sum += (double)s[j];
    return sum;
}

uint64_t bt_ceiling_read(const void *p, size_t bytes)
{
#if defined(__x86_64__)
    if (bt_isa_get() == BT_ISA_AVX512) return read_wide(p, bytes);
    if (bt_isa_get() == BT_ISA_AVX2) return read_half(p, bytes);
#endif
    return read_plain(p, bytes);
}

double bt_ceiling_fma(int64_t loops)
{
#if defined(__x86_64__)
    if (bt_isa_get() == BT_ISA_AVX512) return fma_wide(loops);
    if (bt_isa_get() == BT_ISA_AVX2) return fma_half(loops);
#endif
    return fma_plain(loops);
}

int32_t bt_ceiling_fma_ops(void)
{
    int32_t lanes = bt_isa_get() == BT_ISA_AVX512 ? 16 : bt_isa_get() == BT_ISA_AVX2 ? 8 : 1;
    return 2 * CHAINS * lanes;
}

int64_t bt_ceiling_int8(int64_t loops)
{
#if defined(__x86_64__)
    if (bt_isa_get() == BT_ISA_AVX512) return int8_wide(loops);
    if (bt_isa_get() == BT_ISA_AVX2) return int8_half(loops);
#endif
    return 66 + 48 * loops;
}

int32_t bt_ceiling_int8_ops(void)
{
    int32_t lanes = bt_isa_get() == BT_ISA_AVX512 ? 64 : bt_isa_get() == BT_ISA_AVX2 ? 32 : 0;
    return 2 * CHAINS * lanes;
}
