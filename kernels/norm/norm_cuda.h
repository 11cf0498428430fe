/* SPDX-License-Identifier: Apache-2.0 */
/* norm_cuda.h - RMS normalization that also prepares the activations of the matrices after it.
 *
 * y[r,c] = x[g(r),c] * scale * w[c], scale = 1 / sqrt(mean_c(x[g(r),:]^2) + eps), for r in [0,
 * rows); g(r) = gather[r], or r where gather is NULL; a negative gather[r] gives a row of zeros.
 * y is not stored as such but as the kinds of kernels/cuda_act.h that are asked for.
 *
 * One block of threads per row. A thread holds its columns in registers (1, 2 or 4 groups of
 * four), so x is read once, by 16-byte loads, whatever the kinds. Sum of squares: a thread adds its
 * own by fma in ascending order, warps add by a butterfly (16, 8, 4, 2, 1), then the warps' sums
 * are added in order. The order depends on cols alone: the same bits whatever the other rows.
 * Against bt_norm_rms_ref(): 4e-6 relative to the largest value of the row.
 *
 * Bound: rows * cols * (4 + 4 + bytes of the kinds) / bandwidth; 1 row of 4096 is one launch
 * (about 2-4 us), 512 rows of 4096 in Q8 14 MB: 45 us on a T4 or L4 (320, 300 GB/s), 23 on an
 * A10G, 16 on an L40S, 7 on an A100, 3 on an H200. */
#pragma once
#include "kernels/cuda_act.h"
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BT_CUDA_NORM_COLS_MAX = 16384 };

/* x, w: device. gather: device [rows] or NULL. out->k == cols. Q8 needs cols % 32 == 0. Wide loads
 * are used where x, w, ldx and cols allow; anything is accepted. Enqueues on s. */
cudaError_t bt_cuda_norm_rms(const float *x, int64_t ldx, const int32_t *gather, const float *w,
                             int32_t rows, int32_t cols, float eps, unsigned kinds,
                             const bt_cuda_act *out, cudaStream_t s);

#ifdef __cplusplus
}
#endif
