/* SPDX-License-Identifier: Apache-2.0 */
/* ceiling.cu - the device's own limits, for benchmarks. Contract: kernels/ceiling/ceiling_cuda.h. */
#include "kernels/ceiling/ceiling_cuda.h"
#include "kernels/cuda_kernel.h"
#include "kernels/cuda_ptx.h"

enum { THREADS = 256, MOVE_BLOCKS = 8, RATE_BLOCKS = 2, CHAINS = 8, UNROLL = 4 };

/* ---------------------------------------------------------------------- kernels */

static __device__ __forceinline__ uint32_t fold(uint4 v)
{
    return v.x ^ v.y ^ v.z ^ v.w;
}

__global__ void __launch_bounds__(THREADS)
    ceiling_read_k(const uint4 *src, int64_t n, uint32_t *out)
{
    BT_SHARED(uint32_t, part, THREADS / 32);
    int64_t step = (int64_t)gridDim.x * THREADS, i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    uint32_t sum = 0;
    for (; i + (UNROLL - 1) * step < n; i += UNROLL * step) {
        uint4 v[UNROLL];
#pragma unroll
        for (int j = 0; j < UNROLL; j++) v[j] = bt_load16_once(src + i + j * step);
#pragma unroll
        for (int j = 0; j < UNROLL; j++) sum ^= fold(v[j]);
    }
    for (; i < n; i += step) sum ^= fold(bt_load16_once(src + i));
    for (int lanes = 16; lanes > 0; lanes >>= 1) sum ^= __shfl_xor_sync(0xffffffffu, sum, lanes);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int w = 1; w < THREADS / 32; w++) sum ^= part[w];
    out[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(THREADS) ceiling_copy_k(uint4 *dst, const uint4 *src, int64_t n)
{
    int64_t step = (int64_t)gridDim.x * THREADS, i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    for (; i + (UNROLL - 1) * step < n; i += UNROLL * step) {
        uint4 v[UNROLL];
#pragma unroll
        for (int j = 0; j < UNROLL; j++) v[j] = bt_load16_once(src + i + j * step);
#pragma unroll
        for (int j = 0; j < UNROLL; j++) bt_store16(dst + i + j * step, v[j]);
    }
    for (; i < n; i += step) bt_store16(dst + i, bt_load16_once(src + i));
}

/* Each step adds a known amount to a chain; chains start apart, so that no two are one. */
template <class T> static __device__ __forceinline__ uint32_t mean(const T d[4])
{
    return ((uint32_t)d[0] + (uint32_t)d[1] + (uint32_t)d[2] + (uint32_t)d[3]) / 4;
}
struct chain_fma {
    float v;
    __device__ __forceinline__ void start(int j) { v = (float)j; }
    __device__ __forceinline__ void step(uint32_t one) { v = fmaf(v, __uint_as_float(one), 1.0f); }
    __device__ __forceinline__ uint32_t value() const { return (uint32_t)v; }
};
struct chain_dp4a {
    int v;
    __device__ __forceinline__ void start(int j) { v = j; }
    __device__ __forceinline__ void step(uint32_t ones) { v = __dp4a((int)ones, (int)ones, v); }
    __device__ __forceinline__ uint32_t value() const { return (uint32_t)v; }
};
struct chain_f16 {
    float d[4];
    __device__ __forceinline__ void start(int j) { d[0] = d[1] = d[2] = d[3] = (float)j; }
    __device__ __forceinline__ void step(uint32_t ones)
    {
        const uint32_t a[4] = {ones, ones, ones, ones}, b[2] = {ones, ones};
        bt_mma_f16(d, a, b);
    }
    __device__ __forceinline__ uint32_t value() const { return mean(d); }
};
struct chain_s8 {
    int32_t d[4];
    __device__ __forceinline__ void start(int j) { d[0] = d[1] = d[2] = d[3] = j; }
    __device__ __forceinline__ void step(uint32_t ones)
    {
        const uint32_t a[4] = {ones, ones, ones, ones}, b[2] = {ones, ones};
        bt_mma_s8(d, a, b);
    }
    __device__ __forceinline__ uint32_t value() const { return mean(d); }
};

template <class Chain>
__global__ void __launch_bounds__(THREADS) ceiling_rate_k(int loops, uint32_t ones, uint32_t *out)
{
    Chain chain[CHAINS];
#pragma unroll
    for (int j = 0; j < CHAINS; j++) chain[j].start(j);
#pragma unroll 1
    for (int i = 0; i < loops; i += UNROLL) {
#pragma unroll
        for (int u = 0; u < UNROLL; u++)
#pragma unroll
            for (int j = 0; j < CHAINS; j++) chain[j].step(ones);
    }
    uint32_t sum = 0;
#pragma unroll
    for (int j = 0; j < CHAINS; j++) sum += chain[j].value();
    /* Every thread has the same sum; one that had not would show. */
    uint32_t same = __all_sync(0xffffffffu, sum == __shfl_sync(0xffffffffu, sum, 0));
    if (threadIdx.x == 0) out[blockIdx.x] = same ? sum : 0;
}

/* ---------------------------------------------------------------------- launchers */

int32_t bt_cuda_ceiling_blocks(const bt_cuda_props *props)
{
    return props->n_sm * MOVE_BLOCKS;
}

static bool aligned(const void *p)
{
    return p && (uintptr_t)p % 16 == 0;
}

cudaError_t bt_cuda_ceiling_read(const void *src, size_t bytes, uint32_t *out,
                                 const bt_cuda_props *props, cudaStream_t s)
{
    if (!aligned(src) || bytes % 16 || !out || !props) return cudaErrorInvalidValue;
    return bt_launch(ceiling_read_k, dim3((unsigned)bt_cuda_ceiling_blocks(props)), dim3(THREADS),
                     0, s, static_cast<const uint4 *>(src), (int64_t)(bytes / 16), out);
}

cudaError_t bt_cuda_ceiling_copy(void *dst, const void *src, size_t bytes,
                                 const bt_cuda_props *props, cudaStream_t s)
{
    if (!aligned(src) || !aligned(dst) || bytes % 16 || !props) return cudaErrorInvalidValue;
    return bt_launch(ceiling_copy_k, dim3((unsigned)bt_cuda_ceiling_blocks(props)), dim3(THREADS),
                     0, s, static_cast<uint4 *>(dst), static_cast<const uint4 *>(src),
                     (int64_t)(bytes / 16));
}

cudaError_t bt_cuda_ceiling_rate(bt_cuda_ceiling kind, int32_t loops, uint32_t *out,
                                 const bt_cuda_props *props, cudaStream_t s)
{
    if (loops <= 0 || loops % UNROLL || loops > BT_CUDA_CEILING_LOOPS_MAX || !out || !props)
        return cudaErrorInvalidValue;
    dim3 grid((unsigned)(props->n_sm * RATE_BLOCKS)), block(THREADS);
    const uint32_t bytes = 0x01010101u, halves = 0x3c003c00u, one = 0x3f800000u; // ones, all
    switch (kind) {
    case BT_CUDA_CEILING_FMA:
        return bt_launch(ceiling_rate_k<chain_fma>, grid, block, 0, s, loops, one, out);
    case BT_CUDA_CEILING_DP4A:
        return bt_launch(ceiling_rate_k<chain_dp4a>, grid, block, 0, s, loops, bytes, out);
    case BT_CUDA_CEILING_MMA_F16:
        return bt_launch(ceiling_rate_k<chain_f16>, grid, block, 0, s, loops, halves, out);
    case BT_CUDA_CEILING_MMA_S8:
        return bt_launch(ceiling_rate_k<chain_s8>, grid, block, 0, s, loops, bytes, out);
    default: return cudaErrorInvalidValue;
    }
}

/* What a step adds to a chain, and the operations of a chain's step for each thread. */
static const int RATE_ADDS[BT_CUDA_CEILINGS] = {1, 4, 16, 32};
static const int RATE_OPS[BT_CUDA_CEILINGS] = {2, 8, 4096 / 32, 8192 / 32};

uint32_t bt_cuda_ceiling_result(bt_cuda_ceiling kind, int32_t loops)
{
    return (uint32_t)(CHAINS * (CHAINS - 1) / 2 + CHAINS * RATE_ADDS[kind] * loops);
}

double bt_cuda_ceiling_ops(bt_cuda_ceiling kind, int32_t loops, const bt_cuda_props *props)
{
    return (double)props->n_sm * RATE_BLOCKS * THREADS * CHAINS * RATE_OPS[kind] * loops;
}
