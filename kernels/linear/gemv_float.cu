/* SPDX-License-Identifier: Apache-2.0 */
/* gemv_float.cu - the instances of gemv.cuh for F32, F16 and BF16. */
#include "kernels/linear/gemv.cuh"

cudaError_t bt__gemv_f32(const gemv_args &a, const bt_cuda_props *props, int warps, cudaStream_t s)
{
    return gemv_rows<gemv_f32>(a, props, warps, s);
}

cudaError_t bt__gemv_f16(const gemv_args &a, const bt_cuda_props *props, int warps, cudaStream_t s)
{
    return gemv_rows<gemv_f16>(a, props, warps, s);
}

cudaError_t bt__gemv_bf16(const gemv_args &a, const bt_cuda_props *props, int warps, cudaStream_t s)
{
    return gemv_rows<gemv_bf16>(a, props, warps, s);
}
