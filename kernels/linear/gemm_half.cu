/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_half.cu - GEMM of F16, BF16, INT8G and INT4G. */
#include "kernels/linear/gemm_half.cuh"

template <int FORMAT>
static cudaError_t gemm_half(const gemm_call &c, gemm_plan plan, cudaStream_t s)
{
#define GEMM_CASE(TILE)                                                                            \
    case TILE: {                                                                                   \
        typedef gemm_traits<FORMAT, TILE> traits;                                                  \
        return gemm_launch<traits>(gemm_half_k<traits>, c, plan.splits, s);                        \
    }
    switch (plan.tile) {
        GEMM_CASE(GEMM_TILE_16)
        GEMM_CASE(GEMM_TILE_32)
        GEMM_CASE(GEMM_TILE_64)
        GEMM_CASE(GEMM_TILE_128)
    default: return cudaErrorInvalidValue;
    }
#undef GEMM_CASE
}

extern "C" cudaError_t bt__gemm_half(const gemm_call *c, int format, gemm_plan plan, cudaStream_t s)
{
    switch (format) {
    case BT_FORMAT_F16: return gemm_half<BT_FORMAT_F16>(*c, plan, s);
    case BT_FORMAT_BF16: return gemm_half<BT_FORMAT_BF16>(*c, plan, s);
    case BT_FORMAT_INT8G: return gemm_half<BT_FORMAT_INT8G>(*c, plan, s);
    case BT_FORMAT_INT4G: return gemm_half<BT_FORMAT_INT4G>(*c, plan, s);
    default: return cudaErrorInvalidValue;
    }
}
