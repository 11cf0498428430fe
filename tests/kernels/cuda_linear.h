/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_linear.h - fixtures of the tests of linear layers on the device: matrices of random bits in
 * the file's form and on the device, activations prepared by the letter of kernels/cuda_act.h, and
 * the expected result with a bound for each output. */
#pragma once
#include "base/assert.h"
#include "kernels/linear/linear_cuda.h"
#include "kernels/quant/quant.h"
#include "kernels/random.h"
#include "test.h"

#define LINEAR_OK(call) CHECK_INT((call), cudaSuccess)

static inline void linear_need_device(void)
{
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) SKIP("no CUDA device");
}

/* Of device 0; n_sm as asked, so that one device shows the choices of several. */
static inline bt_cuda_props linear_props(int32_t n_sm)
{
    int major = 0, minor = 0, shared = 0, l2 = 0;
    bt_cuda_props p = {.n_sm = n_sm, .warps_max = 32};
    LINEAR_OK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
    LINEAR_OK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0));
    LINEAR_OK(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    LINEAR_OK(cudaDeviceGetAttribute(&l2, cudaDevAttrL2CacheSize, 0));
    p.sm = major * 10 + minor;
    p.shared_optin_bytes = shared;
    p.l2_bytes = l2;
    return p;
}

/* Device memory holding `bytes` of host memory. */
static inline void *linear_upload(const void *host, size_t bytes)
{
    void *device = NULL;
    REQUIRE(cudaMalloc(&device, bytes) == cudaSuccess);
    REQUIRE(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice) == cudaSuccess);
    return device;
}

static inline void linear_set_f16(uint8_t *p, float v)
{
    uint16_t h = bt_f16_from_f32(v);
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
}

/* Where a block's f16 scale and minimum stand; -1: none. */
static inline void linear_scales_at(int32_t format, int *d, int *m)
{
    *d = format == BT_FORMAT_F32 || format == BT_FORMAT_F16 || format == BT_FORMAT_BF16 ? -1
         : format == BT_FORMAT_Q6_K                                                     ? 208
                                                                                        : 0;
    *m = format == BT_FORMAT_Q4_K || format == BT_FORMAT_Q5_K || format == BT_FORMAT_INT4G ? 2 : -1;
}

/* A row-major matrix as a file holds it: random bits, every quant and sub-scale pattern, with
 * scales of either sign that keep the values moderate. */
static inline uint8_t *linear_random_file(int32_t format, int32_t n, int32_t k)
{
    const bt_format_info *f = bt_format_get(format);
    size_t count = (size_t)n * (size_t)k, blocks = count / (size_t)f->elems;
    uint8_t *src = bt_must(bt_malloc(blocks * (size_t)f->bytes));
    int d, m;
    linear_scales_at(format, &d, &m);
    for (size_t i = 0; i < blocks; i++) {
        uint8_t *b = src + i * (size_t)f->bytes;
        if (d < 0) {
            float v = random_normal() / 8;
            bt_quant_ref(format, &v, 1, b);
            continue;
        }
        for (int j = 0; j < f->bytes; j++) b[j] = (uint8_t)random_below(256);
        linear_set_f16(b + d, (0.2f + (float)random_unit()) * (random_below(2) ? 0.003f : -0.003f));
        if (m >= 0) linear_set_f16(b + m, (float)random_unit() * 0.02f - 0.01f);
    }
    return src;
}

/* Host and device forms of activations. */
typedef struct linear_act {
    int32_t rows, k;
    float *f32;
    uint16_t *f16;
    float *f16_scale;
    int8_t *q;
    float *d, *s;
    bt_cuda_act device;
} linear_act;

static inline void linear_act_block(linear_act *a, size_t block)
{
    const float *x = a->f32 + block * 32;
    uint32_t most = 0;
    int sum = 0;
    for (int j = 0; j < 32; j++) most = BT_MAX(most, bt_f32_bits(x[j]) & 0x7FFFFFFFu);
    float amax = bt_f32_from_bits(most);
    bool finite = most < 0x7F800000u, some = finite && !(amax < 0x1p-100f);
    for (int j = 0; j < 32; j++) {
        float q = some ? rintf(x[j] * (127 / amax)) : 0;
        a->q[block * 32 + (size_t)j] = (int8_t)q;
        sum += (int)q;
    }
    a->d[block] = !finite ? NAN : some ? amax / 127 : 0;
    a->s[block] = a->d[block] * (float)sum;
}

static inline void linear_act_row(linear_act *a, size_t r)
{
    size_t k = (size_t)a->k;
    float amax = 0, scale = 1;
    for (size_t j = 0; j < k; j++) amax = fmaxf(amax, fabsf(a->f32[r * k + j]));
    while (amax / scale > 1024 && isfinite(amax)) scale *= 2;
    a->f16_scale[r] = scale;
    for (size_t j = 0; j < k; j++) a->f16[r * k + j] = bt_f16_from_f32(a->f32[r * k + j] / scale);
    if (a->k % 32 == 0)
        for (size_t b = 0; b < k / 32; b++) linear_act_block(a, r * (k / 32) + b);
}

/* Takes x (owned then), [rows, k]; uploads the kinds asked for and no others. */
static inline linear_act linear_act_open(float *x, int32_t rows, int32_t k, unsigned kinds)
{
    size_t count = (size_t)rows * (size_t)k, blocks = (size_t)rows * (size_t)(k / 32);
    linear_act a = {.rows = rows, .k = k, .f32 = x, .device = {.k = k}};
    a.f16 = bt_must(bt_malloc(count * 2));
    a.f16_scale = bt_must(bt_malloc((size_t)rows * sizeof(float)));
    a.q = bt_must(bt_malloc(count));
    a.d = bt_must(bt_malloc(blocks * sizeof(float) + 4));
    a.s = bt_must(bt_malloc(blocks * sizeof(float) + 4));
    for (size_t r = 0; r < (size_t)rows; r++) linear_act_row(&a, r);
    if (kinds & BT_CUDA_ACT_F32) a.device.f32 = linear_upload(a.f32, count * sizeof(float));
    if (kinds & BT_CUDA_ACT_F16) {
        a.device.f16 = linear_upload(a.f16, count * 2);
        a.device.f16_scale = linear_upload(a.f16_scale, (size_t)rows * sizeof(float));
    }
    if (kinds & BT_CUDA_ACT_Q8) {
        a.device.q = linear_upload(a.q, count);
        a.device.d = linear_upload(a.d, blocks * sizeof(float));
        a.device.s = linear_upload(a.s, blocks * sizeof(float));
    }
    return a;
}

static inline void linear_act_close(linear_act *a)
{
    cudaFree(a->device.f32);
    cudaFree(a->device.f16);
    cudaFree(a->device.f16_scale);
    cudaFree(a->device.q);
    cudaFree(a->device.d);
    cudaFree(a->device.s);
    bt_free(a->f32);
    bt_free(a->f16);
    bt_free(a->f16_scale);
    bt_free(a->q);
    bt_free(a->d);
    bt_free(a->s);
}

/* A matrix: the file's bytes, and on the device. */
typedef struct linear_matrix {
    uint8_t *src;
    bt_cuda_matrix m;
} linear_matrix;

static inline linear_matrix linear_matrix_open(int32_t format, int32_t n, int32_t k)
{
    linear_matrix w = {linear_random_file(format, n, k), {format, n, k, NULL}};
    size_t bytes = bt_format_bytes(format, (size_t)n * (size_t)k);
    void *file = linear_upload(w.src, bytes);
    REQUIRE(cudaMalloc(&w.m.data, bt_cuda_matrix_bytes(format, n, k)) == cudaSuccess);
    LINEAR_OK(bt_cuda_matrix_pack(&w.m, 0, n, file, NULL));
    LINEAR_OK(cudaDeviceSynchronize());
    cudaFree(file);
    return w;
}

static inline void linear_matrix_close(linear_matrix *w)
{
    cudaFree(w->m.data);
    bt_free(w->src);
}

/* ---------------------------------------------------------------------- expected values */

/* One block of 32 columns of an integer format: quants, scale d (times sc) and minimum. */
typedef struct linear_block {
    int q[32];
    float v, m;
    int half[2]; // Q6_K: sub-block scales
} linear_block;

static inline void linear_k_scales(const uint8_t *s, int j, int *sc, int *m)
{
    *sc = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
    *m = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
}

static inline void linear_block_q6(const uint8_t *row, size_t index, linear_block *out)
{
    const bt_block_q6_k *b = (const bt_block_q6_k *)(const void *)row + index / 8;
    size_t j = index % 8;
    for (size_t l = 0; l < 32; l++) {
        size_t h = j / 4, g = j % 4;
        int low = b->ql[64 * h + 32 * (g & 1) + l] >> (g >> 1) * 4 & 15;
        int high = b->qh[32 * h + l] >> 2 * g & 3;
        out->q[l] = (low | high << 4) - 32;
    }
    out->v = bt_f32_from_f16(bt_load_u16(b->d));
    out->half[0] = b->scales[2 * j];
    out->half[1] = b->scales[2 * j + 1];
}

static inline void linear_block_at(int32_t format, const uint8_t *row, size_t index,
                                   linear_block *out)
{
    const bt_block_q8_0 *q8 = (const bt_block_q8_0 *)(const void *)row + index;
    const bt_block_q4_0 *q4 = (const bt_block_q4_0 *)(const void *)row + index;
    const bt_block_q4_k *k4 = (const bt_block_q4_k *)(const void *)row + index / 8;
    const bt_block_q5_k *k5 = (const bt_block_q5_k *)(const void *)row + index / 8;
    size_t j = index % 8;
    int sc, m;
    *out = (linear_block){0};
    switch (format) {
    case BT_FORMAT_Q8_0:
        for (int l = 0; l < 32; l++) out->q[l] = q8->qs[l];
        out->v = bt_f32_from_f16(bt_load_u16(q8->d));
        break;
    case BT_FORMAT_Q4_0:
        for (int l = 0; l < 32; l++) out->q[l] = (q4->qs[l % 16] >> l / 16 * 4 & 15) - 8;
        out->v = bt_f32_from_f16(bt_load_u16(q4->d));
        break;
    case BT_FORMAT_Q4_K:
        for (size_t l = 0; l < 32; l++) out->q[l] = k4->qs[j / 2 * 32 + l] >> j % 2 * 4 & 15;
        linear_k_scales(k4->scales, (int)j, &sc, &m);
        out->v = bt_f32_from_f16(bt_load_u16(k4->d)) * (float)sc;
        out->m = bt_f32_from_f16(bt_load_u16(k4->dmin)) * (float)m;
        break;
    case BT_FORMAT_Q5_K:
        for (size_t l = 0; l < 32; l++)
            out->q[l] = (k5->qs[j / 2 * 32 + l] >> j % 2 * 4 & 15) | (k5->qh[l] >> j & 1) << 4;
        linear_k_scales(k5->scales, (int)j, &sc, &m);
        out->v = bt_f32_from_f16(bt_load_u16(k5->d)) * (float)sc;
        out->m = bt_f32_from_f16(bt_load_u16(k5->dmin)) * (float)m;
        break;
    default: linear_block_q6(row, index, out);
    }
}

/* The arithmetic of gemm_int8.cuh; *sum of |terms|. */
static inline float linear_want_int8(const linear_matrix *w, const linear_act *a, int32_t o,
                                     int32_t r, double *sum)
{
    int32_t format = w->m.format, k = w->m.k;
    const uint8_t *row = w->src + bt_format_bytes(format, (size_t)k) * (size_t)o;
    float acc = 0;
    *sum = 0;
    for (size_t b = 0; b < (size_t)k / 32; b++) {
        size_t at = (size_t)r * (size_t)(k / 32) + b;
        linear_block block;
        int half[2] = {0, 0};
        linear_block_at(format, row, b, &block);
        for (int l = 0; l < 32; l++) half[l / 16] += block.q[l] * a->q[at * 32 + (size_t)l];
        int total = format == BT_FORMAT_Q6_K ? block.half[0] * half[0] + block.half[1] * half[1]
                                             : half[0] + half[1];
        float scale = block.v * a->d[at];
        acc = fmaf((float)total, scale, acc);
        if (block.m != 0) acc = fmaf(-block.m, a->s[at], acc);
        *sum += fabs((double)total * (double)scale) + fabs((double)block.m * (double)a->s[at]);
    }
    return acc;
}

/* f64 sums of the file's weights and the f32 activations; *sum of |terms|, and what values below
 * the halves' normal range may cost. */
static inline double linear_want_float(const linear_matrix *w, const linear_act *a, int32_t o,
                                       int32_t r, double *sum, double *small)
{
    int32_t k = w->m.k;
    const uint8_t *row = w->src + bt_format_bytes(w->m.format, (size_t)k) * (size_t)o;
    float *weights = bt_must(bt_malloc((size_t)k * sizeof *weights));
    double acc = 0, all = 0, below = 0;
    bt_dequant_ref(w->m.format, row, (size_t)k, weights);
    for (int32_t i = 0; i < k; i++) {
        double v = (double)weights[i], x = (double)a->f32[(size_t)r * (size_t)k + (size_t)i];
        acc += v * x;
        all += fabs(v * x);
        below += fabs(v) * (double)a->f16_scale[r] + fabs(x);
    }
    bt_free(weights);
    *sum = all;
    *small = below * 0x1p-25;
    return acc;
}

static inline bool linear_is_int8(int32_t format)
{
    return format == BT_FORMAT_Q8_0 || format == BT_FORMAT_Q4_0 || format == BT_FORMAT_Q4_K ||
           format == BT_FORMAT_Q5_K || format == BT_FORMAT_Q6_K;
}

/* Expected x w^T of one output and the error that its kernel may make; halves: computed from f16
 * activations. */
static inline double linear_want(const linear_matrix *w, const linear_act *a, int32_t o, int32_t r,
                                 bool halves, double *bound)
{
    int32_t format = w->m.format, k = w->m.k;
    double sum, small, want;
    if (linear_is_int8(format) && !halves) {
        want = (double)linear_want_int8(w, a, o, r, &sum);
        *bound = 1e-6 * sum;
        return want;
    }
    want = linear_want_float(w, a, o, r, &sum, &small);
    *bound = 0x1p-24 * (k + 2) * sum;
    if (halves) {
        bool rounded = format != BT_FORMAT_F16 && format != BT_FORMAT_BF16;
        *bound += (rounded ? 2 : 1) * 0x1p-11 * 1.01 * sum + small;
    }
    return want;
}
