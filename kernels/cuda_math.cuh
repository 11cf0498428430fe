/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_math.cuh - arithmetic that gives the CPU kernels' bits on the device; included after
 * cuda_kernel.h. Products that feed sums are written as fmaf() or kept apart on purpose, so that
 * the compiler has nothing to contract. */
#pragma once
#include <math.h>

/* e^x, the polynomial of v16_exp() in kernels/simd.h operation by operation: within 2 units in the
 * last place on [-87, 88]; 0 below -87, e^88.3 above 88.3; NaN stays NaN. */
static __device__ __forceinline__ float bt_exp(float x)
{
    const float magic = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer
    float c = x < -87.0f ? -87.0f : x;
    c = c > 88.3f ? 88.3f : c;
    float t = fmaf(c, 1.44269504088896341f, magic), n = t - magic;
    float r = fmaf(n, 2.12194440e-4f, fmaf(n, -0.693359375f, c));
    float p = fmaf(1.9875691500e-4f, r, 1.3981999507e-3f);
    p = fmaf(p, r, 8.3334519073e-3f);
    p = fmaf(p, r, 4.1665795894e-2f);
    p = fmaf(p, r, 1.6666665459e-1f);
    p = fmaf(p, r, 5.0000001201e-1f);
    p = fmaf(r * r, p, r + 1.0f);
    float power = __uint_as_float((__float_as_uint(t) + 127u) << 23);
    return x < -87.0f ? 0.0f : p * power;
}

static __device__ __forceinline__ float bt_silu(float x)
{
    return x / (1.0f + bt_exp(-x));
}
