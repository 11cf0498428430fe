/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_k.cu - GEMM of Q4_K, Q5_K and Q6_K; a file of its own to compile beside the others. */
#include "kernels/linear/gemm_int8.cuh"

extern "C" cudaError_t bt__gemm_k(const gemm_call *c, int format, gemm_plan plan, cudaStream_t s)
{
    switch (format) {
    case BT_FORMAT_Q4_K: return gemm_int8<BT_FORMAT_Q4_K>(*c, plan, s);
    case BT_FORMAT_Q5_K: return gemm_int8<BT_FORMAT_Q5_K>(*c, plan, s);
    case BT_FORMAT_Q6_K: return gemm_int8<BT_FORMAT_Q6_K>(*c, plan, s);
    default: return cudaErrorInvalidValue;
    }
}
