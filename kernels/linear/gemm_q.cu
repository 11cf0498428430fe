/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_q.cu - GEMM of Q8_0 and Q4_0; a file of its own to compile beside the others. */
#include "kernels/linear/gemm_int8.cuh"

extern "C" cudaError_t bt__gemm_q(const gemm_call *c, int format, gemm_plan plan, cudaStream_t s)
{
    switch (format) {
    case BT_FORMAT_Q8_0: return gemm_int8<BT_FORMAT_Q8_0>(*c, plan, s);
    case BT_FORMAT_Q4_0: return gemm_int8<BT_FORMAT_Q4_0>(*c, plan, s);
    default: return cudaErrorInvalidValue;
    }
}
