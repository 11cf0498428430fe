/* SPDX-License-Identifier: Apache-2.0 */
/* kv_element.h - elements of a quantized KV cache, the same bits on host and device.
 *
 * A head's row x[0, n) with amax = max |x| becomes q[0, n) and one F16 scale:
 *     scale = amax / top rounded to nearest F16, top = 127 (int8) or 448 (fp8)
 *     int8  q = x * (1 / scale) to nearest, ties to even, cut to [-127, 127]
 *     fp8   q = e4m3 of x * (1 / scale)
 * A row whose scale rounds to 0 is all zeros; NaN or infinity in x, or an amax that no scale
 * reaches, makes the scale NaN and q 0, so that whoever reads the row sees NaN.
 * Error while the scale is a normal F16 (amax at least 0.0078 for int8, 0.028 for fp8): int8 0.57 *
 * scale; fp8 2^-4 of the element, or 2^-10 * scale where the element is below 2^-6 * scale.
 *
 * fp8 e4m3  s eeee mmm, bias 7: (-1)^s 2^(e-7) (1 + m/8), e = 0: (-1)^s 2^-6 m/8. No infinity;
 * 0x7F and 0xFF are NaN; the greatest is 448. Conversion rounds to nearest, ties to even, and what
 * is beyond 448 becomes 448 (as CUDA's __nv_fp8_e4m3 does with __NV_SATFINITE). */
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define BT_ELEMENT_INLINE static inline __host__ __device__
#else
#define BT_ELEMENT_INLINE static inline
#endif

BT_ELEMENT_INLINE uint8_t bt_e4m3_from_f32(float f)
{
    uint32_t bits, mag;
    memcpy(&bits, &f, sizeof bits);
    mag = bits & 0x7FFFFFFFu;
    uint8_t sign = (uint8_t)(bits >> 24 & 0x80u);
    if (mag > 0x7F800000u) return (uint8_t)(sign | 0x7Fu);
    if (mag >= 0x43E80000u) return (uint8_t)(sign | 0x7Eu); // 464: half way past 448
    if (mag < 0x3C800000u) {                                // below 2^-6: steps of 2^-9
        float scaled;
        memcpy(&scaled, &mag, sizeof scaled);
        scaled = scaled * 512.0f + 12582912.0f; // 1.5 * 2^23: the sum rounds to an integer
        memcpy(&bits, &scaled, sizeof bits);
        return (uint8_t)(sign | (bits & 0xFu));
    }
    mag += 0x7FFFFu + (mag >> 20 & 1u); // to 3 bits of mantissa; a carry moves the exponent
    return (uint8_t)(sign | ((mag >> 20) - (120u << 3)));
}

BT_ELEMENT_INLINE float bt_f32_from_e4m3(uint8_t b)
{
    uint32_t sign = (uint32_t)(b & 0x80u) << 24, rest = b & 0x7Fu, bits;
    float f;
    if (rest == 0x7Fu) {
        bits = sign | 0x7FC00000u;
    } else if (rest >= 8) {
        bits = sign | ((rest << 20) + (120u << 23));
    } else {
        f = (float)rest * 0x1p-9f;
        memcpy(&bits, &f, sizeof bits);
        bits |= sign;
    }
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* The scale before it is rounded to F16. amax compared as bits, so that NaN is the greatest. */
BT_ELEMENT_INLINE float bt_kv_scale(uint32_t amax_bits, float top)
{
    float amax;
    if (amax_bits >= 0x7F800000u) amax_bits = 0x7FC00000u;
    memcpy(&amax, &amax_bits, sizeof amax);
    return amax / top;
}
/* An F16 scale that overflowed is NaN. */
BT_ELEMENT_INLINE uint16_t bt_kv_scale_bits(uint16_t half)
{
    return (half & 0x7C00u) == 0x7C00u ? (uint16_t)0x7E00u : half;
}
/* What elements are multiplied by; 0 for a scale of 0 or NaN, which makes every element 0. */
BT_ELEMENT_INLINE float bt_kv_inverse(float scale)
{
    return scale > 0.0f ? 1.0f / scale : 0.0f;
}
BT_ELEMENT_INLINE uint8_t bt_kv_int8(float x, float inverse)
{
    if (!(inverse > 0.0f)) return 0;
    return (uint8_t)(int8_t)rintf(fminf(fmaxf(x * inverse, -127.0f), 127.0f));
}
BT_ELEMENT_INLINE uint8_t bt_kv_e4m3(float x, float inverse)
{
    return inverse > 0.0f ? bt_e4m3_from_f32(x * inverse) : 0;
}
