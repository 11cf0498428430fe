/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda_kernel.h"
#include "kernels/step_cuda.h"

enum { THREADS = 256 };

static __global__ void step_tokens_kernel(int32_t *token, const int32_t *drawn, int32_t n)
{
    int32_t r = (int32_t)(blockIdx.x * THREADS + threadIdx.x);
    if (r < n && token[r] < 0) token[r] = drawn[-(token[r] + 1)];
}

extern "C" cudaError_t bt_cuda_step_tokens(int32_t *token, const int32_t *drawn, int32_t n,
                                           cudaStream_t stream)
{
    if (n < 0) return cudaErrorInvalidValue;
    if (n == 0) return cudaSuccess;
    return bt_launch(step_tokens_kernel, dim3((unsigned)((n + THREADS - 1) / THREADS)),
                     dim3(THREADS), 0, stream, token, drawn, n);
}
