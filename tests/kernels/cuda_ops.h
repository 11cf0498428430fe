/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_ops.h - what the tests of small device operations share: buffers of exact size, so that the
 * emulated device (or compute-sanitizer) sees accesses past them, and prepared activations checked
 * bit by bit. */
#pragma once
#include "cuda_test.h"
#include "kernels/cuda_act.h"
#include "kernels/quant/quant.h"
#include "random.h"

/* Filled with 0xA5: as floats a tiny number, as ids far out of range. */
static inline void *cuda_filled(size_t bytes)
{
    void *p = cuda_new(bytes);
    if (bytes) REQUIRE_CUDA(cudaMemset(p, 0xA5, bytes));
    return p;
}

/* A copy on the host, freed by bt_free(). Waits for the device. */
static inline void *cuda_copy(const void *p, size_t bytes)
{
    void *dst = bt_must(bt_malloc(bytes ? bytes : 1));
    if (bytes) cuda_get(dst, p, bytes);
    return dst;
}

static inline bt_cuda_act cuda_act_new(int32_t rows, int32_t k, unsigned kinds)
{
    bt_cuda_act a;
    size_t bytes = bt_cuda_act_bytes(rows, k, kinds);
    CHECK_INT(bytes % 256, 0);
    bt_cuda_act_place(&a, cuda_filled(bytes), rows, k, kinds);
    return a;
}

static inline bool same_float(float a, float b)
{
    return a == b || (isnan(a) && isnan(b));
}

/* The Q8 form of a block of 32, by the words of kernels/cuda_act.h. */
static inline void check_q8(const float *x, const int8_t *q, float d, float s)
{
    float amax = 0;
    bool sick = false;
    for (int i = 0; i < 32; i++) {
        sick = sick || !(fabsf(x[i]) < INFINITY);
        amax = fmaxf(amax, fabsf(x[i]));
    }
    bool zero = sick || amax < 0x1p-100f;
    int sum = 0, wrong = 0;
    for (int i = 0; i < 32; i++) {
        int want = zero ? 0 : (int)rintf(x[i] * (127 / amax));
        wrong += q[i] != want;
        sum += want;
    }
    float want_d = sick ? NAN : zero ? 0 : amax / 127;
    CHECK_INT(wrong, 0);
    CHECK(same_float(d, want_d));
    CHECK(same_float(s, want_d * (float)sum));
}

static inline void check_f16(const float *x, int32_t k, const uint16_t *half, float scale)
{
    float amax = 0, want = 1;
    bool sick = false;
    for (int32_t i = 0; i < k; i++) {
        sick = sick || !(fabsf(x[i]) < INFINITY);
        amax = fmaxf(amax, fabsf(x[i]));
    }
    while (!sick && amax / want > 1024) want *= 2;
    int wrong = 0;
    for (int32_t i = 0; i < k; i++)
        wrong +=
            !same_float(bt_f32_from_f16(half[i]), bt_f32_from_f16(bt_f16_from_f32(x[i] / want)));
    CHECK_INT(wrong, 0);
    CHECK(scale == want);
}

/* x: host [rows, k], what act must hold. F32 is compared only where exact. */
static inline void check_act(const bt_cuda_act *a, unsigned kinds, int32_t rows, const float *x)
{
    size_t k = (size_t)a->k, n = (size_t)rows * k;
    if (kinds & BT_CUDA_ACT_F32) {
        float *got = cuda_copy(a->f32, n * 4);
        int wrong = 0;
        for (size_t i = 0; i < n; i++) wrong += !same_float(got[i], x[i]);
        CHECK_INT(wrong, 0);
        bt_free(got);
    }
    if (kinds & BT_CUDA_ACT_F16) {
        uint16_t *half = cuda_copy(a->f16, n * 2);
        float *scale = cuda_copy(a->f16_scale, (size_t)rows * 4);
        for (size_t r = 0; r < (size_t)rows; r++)
            check_f16(x + r * k, a->k, half + r * k, scale[r]);
        bt_free(half);
        bt_free(scale);
    }
    if (kinds & BT_CUDA_ACT_Q8) {
        int8_t *q = cuda_copy(a->q, n);
        float *d = cuda_copy(a->d, n / 8), *s = cuda_copy(a->s, n / 8);
        for (size_t b = 0; b < n / 32; b++) check_q8(x + b * 32, q + b * 32, d[b], s[b]);
        bt_free(q);
        bt_free(d);
        bt_free(s);
    }
}
