/* SPDX-License-Identifier: Apache-2.0 */
/* linear_int8_sums.h - the sums that go with int8 activations, for the files compiled with AVX2 and
 * more. Private to the linear family. */
#pragma once
#include "kernels/linear/linear_impl.h"
#if defined(__AVX2__)
#include <immintrin.h>

/* low, high: sums of quants over k % 8 of 0 .. 7, of k < 16 and of the others. */
static inline __attribute__((always_inline)) void bt__act_sums(uint8_t *act, int32_t w, int32_t row,
                                                               float d, __m256i low, __m256i high)
{
    __m128i a = _mm_add_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
    __m128i b = _mm_add_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
    int16_t pairs[8];
    _mm_storeu_si128((__m128i *)(void *)pairs, _mm_packs_epi32(_mm_hadd_epi32(a, b), a));
    bt__act_put(act, w, row, d, pairs[0] + pairs[1] + pairs[2] + pairs[3], pairs);
}
#endif
