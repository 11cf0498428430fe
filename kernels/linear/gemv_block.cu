/* SPDX-License-Identifier: Apache-2.0 */
/* gemv_block.cu - the instances of gemv.cuh for Q8_0 and Q4_0. */
#include "kernels/linear/gemv.cuh"

cudaError_t bt__gemv_q8_0(const gemv_args &a, const bt_cuda_props *props, int warps, cudaStream_t s)
{
    return gemv_rows<gemv_q8_0>(a, props, warps, s);
}

cudaError_t bt__gemv_q4_0(const gemv_args &a, const bt_cuda_props *props, int warps, cudaStream_t s)
{
    return gemv_rows<gemv_q4_0>(a, props, warps, s);
}
