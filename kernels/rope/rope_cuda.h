/* SPDX-License-Identifier: Apache-2.0 */
/* rope_cuda.h - rotation of queries and keys, and the append of keys and values to their pages.
 *
 * For each row r of a step with row_seq[r] >= 0, position p = pos[r]:
 *     q, k heads:  optional RMS norm over the head (q_norm, k_norm: [head_dim] or NULL), then
 *                  rotated by cos[p], sin[p] as kernels/rope/rope.h says
 *     q            stored in place, f32
 *     k, v         stored to slot p % page_tokens of page pages[row_seq[r] * pages_ld + p /
 *                  page_tokens] in the format of kv; k and v themselves are left as they are
 * Padding rows (row_seq[r] < 0) append nothing and get q = 0.
 *
 * y[a] = fma(a, cos, -(b * sin)), y[b] = fma(a, sin, b * cos): within 2e-7 |x| of bt_rope_apply()
 * and its bits up to one rounding; the element conversions are those of kernels/attention/kv_element.h, the
 * same on host and device.
 *
 * One warp per head (q, k and v heads alike), four warps a block; a head goes through 1 KB of
 * shared memory, so that pairs of either style and 16-byte loads and stores can meet. Bound: (8 q +
 * 4 k + 4 v + page bytes) of memory traffic a row: 32 + 8 + 8 heads of 128 move 45 KB a row; 512
 * rows 23 MB: 75 us on a T4 or L4, 38 on an A10G, 27 on an L40S, 11 on an A100, 5 on an H200. */
#pragma once
#include "kernels/attention/kv_cuda.h"
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bt_cuda_rope_args {
    bt_cuda_kv kv;
    int32_t rows, n_heads;
    bt_rope_style style;
    int32_t rope_dim;       // even, at most head_dim; read unless style is NONE
    const float *cos, *sin; // [ctx, rope_dim / 2]
    float *q;               // [rows, n_heads * head_dim], row stride ldq
    const float *k, *v;     // [rows, kv_heads * head_dim]; 16-byte aligned, as q; strides % 4 == 0
    int64_t ldq, ldk, ldv;
    const float *q_norm, *k_norm; // NULL: none; read by 16-byte loads
    float norm_eps;
    const int32_t *pos, *row_seq; // [rows]
    const int32_t *pages;         // [sequences, pages_ld]
    int32_t pages_ld;
} bt_cuda_rope_args;

/* All pointers device. Enqueues on s. */
cudaError_t bt_cuda_rope_kv(const bt_cuda_rope_args *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
