/* SPDX-License-Identifier: Apache-2.0 */
/* activation_cuda.h - preparing activations, alone or behind the gated unit, on the device.
 *
 * act_prepare: out = the kinds of x[rows, cols] (kernels/cuda_act.h).
 * silu_mul:    out = the kinds of silu(gate) * up, silu(v) = v / (1 + e^-v).
 *
 * Element by element and block of 32 by block of 32: the same bits as the CPU's
 * bt_activation_apply() and bt_linear_act_prepare() (e^x is the same polynomial). Only F16's
 * scale looks at a whole row.
 *
 * Without F16 a block of 256 threads makes 1024 columns of a row, four a thread by 16-byte loads;
 * amax and sum of a Q8 block go through 8 lanes. With F16 one block of threads takes a row twice,
 * for its greatest and for the stores; the second time it comes from cache. Bound: bytes read and
 * written / bandwidth; silu of one row of 14336 moves 130 KB, less than a launch; 512 rows in Q8 76
 * MB: 240 us on a T4 or L4 (320, 300 GB/s), 130 on an A10G, 90 on an L40S, 40 on an A100, 16 on an
 * H200. */
#pragma once
#include "kernels/cuda_act.h"
#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* All pointers device; out->k == cols; Q8 needs cols % 32 == 0. x may be out->f32 with ldx ==
 * cols, and gate or up may be out->f32 with ld == cols. Wide loads are used where alignment allows
 * them; anything is accepted. Enqueues on s. */
cudaError_t bt_cuda_act_prepare(const float *x, int64_t ldx, int32_t rows, int32_t cols,
                                unsigned kinds, const bt_cuda_act *out, cudaStream_t s);
cudaError_t bt_cuda_silu_mul(const float *gate, const float *up, int64_t ld, int32_t rows,
                             int32_t cols, unsigned kinds, const bt_cuda_act *out, cudaStream_t s);

#ifdef __cplusplus
}
#endif
