/* SPDX-License-Identifier: Apache-2.0 */
/* blas_cuda.h - NVIDIA's cuBLASLt for products of many rows, if the library is there.
 *
 * The library is opened at run time (libcublasLt.so.13, .12), so a build needs neither its headers
 * nor its half gigabyte; without it Baton's own kernels do the same work. The declarations in
 * blas_cuda.c follow the library's documented interface, stable since 11.0. An emulated build finds
 * the functions through bt_emu_dlsym(name): cublasLt{Create, Destroy, MatmulDescCreate,
 * MatmulDescDestroy, MatmulDescSetAttribute, MatrixLayoutCreate, MatrixLayoutDestroy,
 * MatmulPreferenceCreate, MatmulPreferenceDestroy, MatmulPreferenceSetAttribute,
 * MatmulAlgoGetHeuristic, Matmul}.
 *
 * Thread: the device's. The order of sums is the library's: the same for equal calls on one
 * device, but dependent on the number of rows. */
#pragma once
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bt_cuda_blas bt_cuda_blas;

/* NULL: no usable library. Host memory and the library's own, small, on the current device. */
bt_cuda_blas *bt_cuda_blas_open(void);
void bt_cuda_blas_close(bt_cuda_blas *b); // NULL: nothing

/* y[r * ldy + j] = sum_k w[j * ldw + k] x[r * ldx + k], j < n, r < rows; w and x halves at 16-byte
 * aligned addresses, sums in f32. The workspace is used until the stream gets past this call; more
 * may be faster, 0 works. Shapes are prepared when first seen and the latest 64 kept, so that
 * repeated shapes neither allocate nor search. cudaErrorNotSupported: not this shape on this device
 * (nothing was launched), the caller has other kernels; cudaErrorInvalidValue: bad arguments. */
cudaError_t bt_cuda_blas_gemm_f16(bt_cuda_blas *b, int32_t n, int32_t rows, int32_t k,
                                  const void *w, int64_t ldw, const void *x, int64_t ldx, float *y,
                                  int64_t ldy, void *workspace, size_t workspace_bytes,
                                  cudaStream_t s);

#ifdef __cplusplus
}
#endif
