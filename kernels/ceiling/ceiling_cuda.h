/* SPDX-License-Identifier: Apache-2.0 */
/* ceiling_cuda.h - what a CUDA device can do at most: kernels that only move, or only multiply.
 *
 * bench divides by these, measured in the same run, so that "70 % of the copy bandwidth" means the
 * same on a throttled or shared device too. What they compute is known in advance (a test checks
 * it), so none of the work can have been optimised away.
 *
 * move   Blocks of 256 threads, eight an SM, four independent 16-byte loads a thread and round.
 *        read: writes one word a block. copy: reads and writes; its rate counts both.
 * rate   Blocks of 256 threads, two an SM (16 warps: four for each of an SM's four schedulers),
 *        eight independent accumulators a thread or warp, operands in registers. FMA: f32 on the
 *        ordinary cores. DP4A: int8 on the ordinary cores. MMA_F16: mma.sync m16n8k16, f16 inputs,
 *        f32 sums; MMA_S8: m16n8k32. An H200's tensor cores reach their data-sheet rate by wgmma
 *        only, which Baton's kernels do not use: mma.sync gets about 60 % of it.
 *
 * Bound, dense, from data sheets (GB/s of memory; TFLOP/s or TOP/s): T4 320, 8.1, 33, 65, 130;
 * A10G 600, 31, 125, 70, 140; L4 300, 30, 121, 121, 242; L40S 864, 92, 366, 362, 733; A100 2039,
 * 19.5, 78, 312, 624; H200 4800, 67, 134, 990, 1979. The columns are memory, FMA, DP4A, MMA_F16,
 * MMA_S8; FMA and DP4A are worked out from cores and boost clock. Unmeasured. */
#pragma once
#include "kernels/cuda_props.h"
#include <cuda_runtime_api.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum bt_cuda_ceiling {
    BT_CUDA_CEILING_FMA,
    BT_CUDA_CEILING_DP4A,
    BT_CUDA_CEILING_MMA_F16,
    BT_CUDA_CEILING_MMA_S8,
    BT_CUDA_CEILINGS
} bt_cuda_ceiling;

enum { BT_CUDA_CEILING_LOOPS_MAX = 1 << 17 }; // f32 sums stay exact

/* Words that the launches below write to out. */
int32_t bt_cuda_ceiling_blocks(const bt_cuda_props *props);

/* src, dst: device, 16-byte aligned; bytes a multiple of 16. out[b]: the exclusive or of what block
 * b read. Enqueue on s. */
cudaError_t bt_cuda_ceiling_read(const void *src, size_t bytes, uint32_t *out,
                                 const bt_cuda_props *props, cudaStream_t s);
cudaError_t bt_cuda_ceiling_copy(void *dst, const void *src, size_t bytes,
                                 const bt_cuda_props *props, cudaStream_t s);

/* out[b] becomes bt_cuda_ceiling_result(); a launch does bt_cuda_ceiling_ops() operations (a
 * multiply-add is two). */
cudaError_t bt_cuda_ceiling_rate(bt_cuda_ceiling kind, int32_t loops, uint32_t *out,
                                 const bt_cuda_props *props, cudaStream_t s);
uint32_t bt_cuda_ceiling_result(bt_cuda_ceiling kind, int32_t loops);
double bt_cuda_ceiling_ops(bt_cuda_ceiling kind, int32_t loops, const bt_cuda_props *props);

#ifdef __cplusplus
}
#endif
