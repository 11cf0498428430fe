/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda_kernel.h"
#include "kernels/activation/activation_cuda.h"
#include "kernels/cuda_act.cuh"
#include "kernels/cuda_math.cuh"

enum { ACT_THREADS = 256, ACT_ROW_THREADS = 1024 };

/* Where values come from: x itself, or silu(gate) * up. */
typedef struct source_x {
    const float *x;
    int64_t ld;
    template <bool WIDE> __device__ quad load(int64_t r, int32_t c, int32_t cols) const
    {
        return quad_load<WIDE>(x + r * ld, c, cols);
    }
} source_x;

typedef struct source_glu {
    const float *gate, *up;
    int64_t ld;
    template <bool WIDE> __device__ quad load(int64_t r, int32_t c, int32_t cols) const
    {
        quad g = quad_load<WIDE>(gate + r * ld, c, cols), u = quad_load<WIDE>(up + r * ld, c, cols);
#pragma unroll
        for (int i = 0; i < 4; i++) g.v[i] = bt_silu(g.v[i]) * u.v[i];
        return g;
    }
} source_glu;

/* Without F16: a block a piece of a row. */
template <class S, bool WIDE>
static __global__ void __launch_bounds__(ACT_THREADS)
    act_piece_kernel(S src, int32_t cols, unsigned kinds, bt_cuda_act out)
{
    int64_t r = blockIdx.x;
    int32_t c = 4 * (int32_t)(blockIdx.y * ACT_THREADS + threadIdx.x);
    quad_store<WIDE>(src.template load<WIDE>(r, c, cols), kinds, out, r, c, cols);
}

/* With F16: a block a row, once for the maximum and once for the stores. */
template <class S, bool WIDE>
static __global__ void __launch_bounds__(ACT_ROW_THREADS)
    act_row_kernel(S src, int32_t cols, unsigned kinds, bt_cuda_act out)
{
    BT_SHARED(uint32_t, mosts, 32);
    int64_t r = blockIdx.x;
    int32_t step = 4 * (int32_t)blockDim.x, end = (cols + step - 1) / step * step;
    uint32_t most = 0;
    for (int32_t c = 4 * (int32_t)threadIdx.x; c < end; c += step)
        most = max(most, quad_most(src.template load<WIDE>(r, c, cols)));
    float scale = act_f16_scale(block_most(most, mosts)), inverse = 1.0f / scale;
    if (threadIdx.x == 0) out.f16_scale[r] = scale;
    for (int32_t c = 4 * (int32_t)threadIdx.x; c < end; c += step) {
        quad q = src.template load<WIDE>(r, c, cols);
        quad_store<WIDE>(q, kinds, out, r, c, cols);
        quad_store_f16<WIDE>(q, inverse, (__half *)out.f16 + r * cols, c, cols);
    }
}

template <class S, bool WIDE>
static cudaError_t act_launch(S src, int32_t rows, int32_t cols, unsigned kinds,
                              const bt_cuda_act &out, cudaStream_t s)
{
    unsigned quads = (unsigned)(cols + 3) / 4;
    if (!(kinds & BT_CUDA_ACT_F16))
        return bt_launch(act_piece_kernel<S, WIDE>,
                         dim3((unsigned)rows, (quads + ACT_THREADS - 1) / ACT_THREADS),
                         dim3(ACT_THREADS), 0, s, src, cols, kinds, out);
    unsigned threads = (quads + 31) / 32 * 32;
    return bt_launch(act_row_kernel<S, WIDE>, dim3((unsigned)rows),
                     dim3(min(threads, (unsigned)ACT_ROW_THREADS)), 0, s, src, cols, kinds, out);
}

template <class S>
static cudaError_t act_run(S src, bool wide, int32_t rows, int32_t cols, unsigned kinds,
                           const bt_cuda_act *out, cudaStream_t s)
{
    if (rows < 0 || cols < 1 || !act_can_hold(out, kinds, cols)) return cudaErrorInvalidValue;
    if (rows == 0) return cudaSuccess;
    return wide && cols % 4 == 0 ? act_launch<S, true>(src, rows, cols, kinds, *out, s)
                                 : act_launch<S, false>(src, rows, cols, kinds, *out, s);
}

extern "C" cudaError_t bt_cuda_act_prepare(const float *x, int64_t ldx, int32_t rows, int32_t cols,
                                           unsigned kinds, const bt_cuda_act *out, cudaStream_t s)
{
    return act_run(source_x{x, ldx}, is_wide(x, ldx), rows, cols, kinds, out, s);
}

extern "C" cudaError_t bt_cuda_silu_mul(const float *gate, const float *up, int64_t ld,
                                        int32_t rows, int32_t cols, unsigned kinds,
                                        const bt_cuda_act *out, cudaStream_t s)
{
    bool wide = is_wide(gate, ld) && is_wide(up, ld);
    return act_run(source_glu{gate, up, ld}, wide, rows, cols, kinds, out, s);
}

static size_t round256(size_t n)
{
    return (n + 255) / 256 * 256;
}

/* The one place that knows the block's order. */
static size_t place(bt_cuda_act *a, char *block, int32_t rows, int32_t k, unsigned kinds)
{
    size_t elements = (size_t)rows * (size_t)k, at = 0;
    size_t blocks = (size_t)rows * ((size_t)k / 32);
    struct part {
        unsigned kind;
        size_t bytes;
        void **slot;
    } parts[] = {{BT_CUDA_ACT_F32, elements * 4, (void **)&a->f32},
                 {BT_CUDA_ACT_F16, elements * 2, &a->f16},
                 {BT_CUDA_ACT_F16, (size_t)rows * 4, (void **)&a->f16_scale},
                 {BT_CUDA_ACT_Q8, elements, (void **)&a->q},
                 {BT_CUDA_ACT_Q8, blocks * 4, (void **)&a->d},
                 {BT_CUDA_ACT_Q8, blocks * 4, (void **)&a->s}};
    for (const part &p : parts) {
        bool wanted = (kinds & p.kind) != 0;
        *p.slot = wanted && block ? block + at : nullptr;
        if (wanted) at += round256(p.bytes);
    }
    return at;
}

extern "C" size_t bt_cuda_act_bytes(int32_t rows, int32_t k, unsigned kinds)
{
    bt_cuda_act unused;
    return rows > 0 && k > 0 ? place(&unused, nullptr, rows, k, kinds) : 0;
}

extern "C" void bt_cuda_act_place(bt_cuda_act *a, void *block, int32_t rows, int32_t k,
                                  unsigned kinds)
{
    a->k = k;
    place(a, (char *)block, rows, k, kinds);
}
