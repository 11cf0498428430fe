/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_measure.h - what the files that measure CUDA kernels share. Private to src/device.
 *
 *   cuda_measure.c        the run: memory, timing, ceilings
 *   cuda_measure_linear.c GEMV and GEMM
 *   cuda_measure_step.c   embed, norm, rope, sample
 *   cuda_measure_attention.c  decode and prefill */
#pragma once
#include "bench/ops_impl.h"
#include "kernels/linear/blas_cuda.h"
#include "kernels/cuda_props.h"
#include <cuda_runtime_api.h>

enum { GPU_BLOCKS_MAX = 64 };

/* Emulated shapes stay small: its threads are fibers. */
#ifdef BT_EMULATED
enum { GPU_ROWS_MAX = 48, GPU_KV_MAX = 128, GPU_EMULATED = 1 };
#else
enum { GPU_ROWS_MAX = 4096, GPU_KV_MAX = 32768, GPU_EMULATED = 0 };
#endif

typedef struct bt__gpu {
    bt__ops ops;
    bt_cuda_props props;
    cudaStream_t stream;
    cudaEvent_t begin, end;
    bt_cuda_blas *blas;          // owned, or NULL
    void *block[GPU_BLOCKS_MAX]; // owned: device memory of the case under way
    int32_t n_blocks;
} bt__gpu;

/* Enqueues one call on the stream; copy rotates through what the case has several of. */
typedef cudaError_t (*bt__gpu_call)(void *ud, int32_t copy, cudaStream_t s);

/* BT_EDEVICE with what was being done. */
bt_status bt__gpu_check(cudaError_t code, const char *doing, bt_err *err);
/* Device memory until bt__gpu_clear(); NULL and err if there is none. */
void *bt__gpu_take(bt__gpu *g, size_t bytes, bt_err *err);
void *bt__gpu_put(bt__gpu *g, const void *from, size_t bytes, bt_err *err);
bt_status bt__gpu_get(bt__gpu *g, void *to, const void *from, size_t bytes, bt_err *err);
void bt__gpu_clear(bt__gpu *g);
/* Free bytes that a case may take. */
size_t bt__gpu_room(void);
/* How many copies of `bytes` make caches useless; within room. */
int32_t bt__gpu_copies(const bt__gpu *g, size_t bytes);

/* Time of a call in microseconds: the median of some timings, or the best. */
bt_status bt__gpu_time(bt__gpu *g, bt__gpu_call call, void *ud, bool best, double *us, bt_err *err);
/* One call, and the device waited for. */
bt_status bt__gpu_once(bt__gpu *g, bt__gpu_call call, void *ud, bt_err *err);
/* The row's result was compared already: times the call and tells it. */
bt_status bt__gpu_measure(bt__gpu *g, bt__gpu_call call, void *ud, bt_ops_row *row, bt_err *err);

bt_status bt__gpu_linear(bt__gpu *g, bool gemm, bt_err *err);
bt_status bt__gpu_step(bt__gpu *g, bt_err *err);
bt_status bt__gpu_sample(bt__gpu *g, bt_err *err);
bt_status bt__gpu_decode(bt__gpu *g, bt_err *err);
bt_status bt__gpu_prefill(bt__gpu *g, bt_err *err);
