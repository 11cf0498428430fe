/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda_kernel.h"
#include "kernels/embed/embed_cuda.h"
#include "kernels/linear/linear_layout.cuh"

enum { EMBED_THREADS = 128, EMBED_COLUMNS = 8 * EMBED_THREADS };

/* grid (rows, pieces of EMBED_COLUMNS columns) */
template <int FORMAT>
static __global__ void __launch_bounds__(EMBED_THREADS)
    embed_kernel(bt_matrix_view table, const int32_t *token, float *x, int64_t ldx)
{
    int64_t r = blockIdx.x;
    int32_t id = token[r], c = (int32_t)(blockIdx.y * EMBED_COLUMNS + threadIdx.x * 8);
    if (c >= table.k) return;
    float v[8] = {};
    if (id >= 0 && id < table.n) bt_matrix_read8<FORMAT>(table, id, c, v);
    float *dst = x + r * ldx + c;
    for (int i = 0; i < 8; i += 4) {
        if (c + i + 4 <= table.k)
            bt_store16(dst + i, make_uint4(__float_as_uint(v[i]), __float_as_uint(v[i + 1]),
                                           __float_as_uint(v[i + 2]), __float_as_uint(v[i + 3])));
        else
            for (int j = i; j < i + 4 && c + j < table.k; j++) dst[j] = v[j];
    }
}

extern "C" cudaError_t bt_cuda_embed(const bt_cuda_matrix *table, const int32_t *token, int32_t n,
                                     float *x, int64_t ldx, cudaStream_t s)
{
    if (n < 0 || !bt_cuda_linear_supported(table->format, table->k) || ldx % 4 || ldx < table->k ||
        (uintptr_t)x % 16)
        return cudaErrorInvalidValue;
    if (n == 0) return cudaSuccess;
    bt_matrix_view view = bt_matrix_view_of(table);
    dim3 grid((unsigned)n, (unsigned)(table->k + EMBED_COLUMNS - 1) / EMBED_COLUMNS);
#define CALL(F)                                                                                    \
    return bt_launch(embed_kernel<F>, grid, dim3(EMBED_THREADS), 0, s, view, token, x, ldx)
    BT_FORMAT_SWITCH(table->format)
#undef CALL
    return cudaErrorInvalidValue;
}
