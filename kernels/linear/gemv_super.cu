/* SPDX-License-Identifier: Apache-2.0 */
/* gemv_super.cu - the instances of gemv.cuh for Q4_K, Q5_K and Q6_K. */
#include "kernels/linear/gemv.cuh"

cudaError_t bt__gemv_q4_k(const gemv_args &a, const bt_cuda_props *props, int warps, cudaStream_t s)
{
    return gemv_rows<gemv_k_affine<false>>(a, props, warps, s);
}

cudaError_t bt__gemv_q5_k(const gemv_args &a, const bt_cuda_props *props, int warps, cudaStream_t s)
{
    return gemv_rows<gemv_k_affine<true>>(a, props, warps, s);
}

cudaError_t bt__gemv_q6_k(const gemv_args &a, const bt_cuda_props *props, int warps, cudaStream_t s)
{
    return gemv_rows<gemv_q6_k>(a, props, warps, s);
}
