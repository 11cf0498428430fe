/* SPDX-License-Identifier: Apache-2.0 */
/* gemv_group.cu - the instances of gemv.cuh for INT8G and INT4G. */
#include "kernels/linear/gemv.cuh"

cudaError_t bt__gemv_int8g(const gemv_args &a, const bt_cuda_props *props, int warps,
                           cudaStream_t s)
{
    return gemv_rows<gemv_int8g>(a, props, warps, s);
}

cudaError_t bt__gemv_int4g(const gemv_args &a, const bt_cuda_props *props, int warps,
                           cudaStream_t s)
{
    return gemv_rows<gemv_int4g>(a, props, warps, s);
}
