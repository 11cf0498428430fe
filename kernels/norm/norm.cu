/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda_kernel.h"
#include "kernels/cuda_act.cuh"
#include "kernels/norm/norm_cuda.h"

enum { NORM_THREADS_MAX = 1024 };

typedef struct norm_args {
    const float *x;
    int64_t ldx;
    const int32_t *gather;
    const float *w;
    int32_t cols;
    float eps;
    unsigned kinds;
    bt_cuda_act out;
} norm_args;

/* Sum over the block: warps by a butterfly, then the warps in order. */
static __device__ __forceinline__ float block_sum(float v, float *part)
{
    v = bt_warp_sum(v);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    v = part[0];
    for (unsigned i = 1; i < blockDim.x / 32; i++) v += part[i];
    return v;
}

/* NV quads a thread: quad j of thread t is columns 4 * (j * threads + t) onwards. */
template <int NV, bool WIDE>
static __global__ void __launch_bounds__(NORM_THREADS_MAX) norm_kernel(norm_args a)
{
    BT_SHARED(float, sums, 32);
    BT_SHARED(uint32_t, mosts, 32);
    int64_t r = blockIdx.x, from = a.gather ? a.gather[r] : r;
    int32_t step = 4 * (int32_t)blockDim.x, c0 = 4 * (int32_t)threadIdx.x;
    quad x[NV];
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < NV; j++) {
        x[j] = quad_load<WIDE>(a.x + (from < 0 ? 0 : from) * a.ldx, c0 + j * step, a.cols);
#pragma unroll
        for (int i = 0; i < 4; i++) sum = fmaf(x[j].v[i], x[j].v[i], sum);
    }
    float scale = 1.0f / sqrtf(block_sum(sum, sums) / (float)a.cols + a.eps);
    uint32_t most = 0;
#pragma unroll
    for (int j = 0; j < NV; j++) {
        quad w = quad_load<WIDE>(a.w, c0 + j * step, a.cols);
#pragma unroll
        for (int i = 0; i < 4; i++) x[j].v[i] = from < 0 ? 0.0f : x[j].v[i] * scale * w.v[i];
        most = max(most, quad_most(x[j]));
    }
    float inverse = 1.0f;
    if (a.kinds & BT_CUDA_ACT_F16) {
        float f16_scale = act_f16_scale(block_most(most, mosts));
        inverse = 1.0f / f16_scale;
        if (threadIdx.x == 0) a.out.f16_scale[r] = f16_scale;
    }
#pragma unroll
    for (int j = 0; j < NV; j++) {
        int32_t c = c0 + j * step;
        quad_store<WIDE>(x[j], a.kinds, a.out, r, c, a.cols);
        if (a.kinds & BT_CUDA_ACT_F16)
            quad_store_f16<WIDE>(x[j], inverse, (__half *)a.out.f16 + r * a.cols, c, a.cols);
    }
}

template <bool WIDE>
static cudaError_t norm_launch(const norm_args &a, int32_t rows, cudaStream_t s)
{
    int32_t quads = (a.cols + 3) / 4, each = (quads + NORM_THREADS_MAX - 1) / NORM_THREADS_MAX;
    int32_t held = each <= 1 ? 1 : each <= 2 ? 2 : 4;
    dim3 grid((unsigned)rows), block((unsigned)((quads + held - 1) / held + 31) / 32 * 32);
    switch (held) {
    case 1: return bt_launch(norm_kernel<1, WIDE>, grid, block, 0, s, a);
    case 2: return bt_launch(norm_kernel<2, WIDE>, grid, block, 0, s, a);
    default: return bt_launch(norm_kernel<4, WIDE>, grid, block, 0, s, a);
    }
}

extern "C" cudaError_t bt_cuda_norm_rms(const float *x, int64_t ldx, const int32_t *gather,
                                        const float *w, int32_t rows, int32_t cols, float eps,
                                        unsigned kinds, const bt_cuda_act *out, cudaStream_t s)
{
    if (rows < 0 || cols < 1 || cols > BT_CUDA_NORM_COLS_MAX || !act_can_hold(out, kinds, cols))
        return cudaErrorInvalidValue;
    if (rows == 0) return cudaSuccess;
    norm_args a = {x, ldx, gather, w, cols, eps, kinds, *out};
    bool wide = cols % 4 == 0 && is_wide(x, ldx) && is_wide(w, 0);
    return wide ? norm_launch<true>(a, rows, s) : norm_launch<false>(a, rows, s);
}
