/* SPDX-License-Identifier: Apache-2.0 */
/* embed_cuda.h - token ids to rows of the embedding table, on the device.
 *
 * x[r, :] = row token[r] of the table, dequantized to f32, for r in [0, n). The table is a packed
 * matrix (kernels/linear/linear_cuda.h), so a tied head is stored once. Ids outside of [0, table->n) give
 * a row of zeros (a graph's padding rows hold id 0, which is a row like any other). Exact: the
 * same bits as bt_embed_ref().
 *
 * One block of threads per (1024 columns, row); a thread makes 8 consecutive columns and writes
 * them as two 16-byte stores. Bound: n * (row bytes + 4 k) bytes; a row of 4096 in Q8_0 is 21 KB,
 * far below a launch's own time up to some hundred rows. */
#pragma once
#include "kernels/linear/linear_cuda.h"
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* token: device [n]. x: device, 16-byte aligned, ldx % 4 == 0. Enqueues on s. */
cudaError_t bt_cuda_embed(const bt_cuda_matrix *table, const int32_t *token, int32_t n, float *x,
                          int64_t ldx, cudaStream_t s);

#ifdef __cplusplus
}
#endif
