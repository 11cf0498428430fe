/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_kernel.h - what every .cu file includes first: the CUDA language, real or emulated.
 *
 * Kernels are written once. nvcc builds them for a GPU; with BT_EMULATED the host's C++ compiler
 * builds the same text against tests/emu, where threads are fibers and every rule is checked.
 * So a .cu file may use only what both sides have:
 *
 *   BT_DYNAMIC_SHARED(type, name);      type *name = the launch's dynamic shared memory, 16-aligned
 *   BT_SHARED(type, name, count);       a static shared array; `name` acts as a type * (for a
 *                                       matrix let `type` be a typedef of a row). Uninitialised.
 *   bt_launch(kernel, grid, block, shared_bytes, stream, args...)   returns the launch's error
 *   bt_load16/8/4, bt_store16/8/4       aligned vector access; misaligned is an error when emulated
 *   bt_warp_sum, bt_warp_max_uint       over all 32 lanes: fixed order, the same in each
 *   the usual __syncthreads, __syncwarp, __shfl*_sync, __ballot_sync, __any_sync, __all_sync,
 *   __match_any_sync, integer atomics, __dp4a, __expf, __half and __nv_bfloat16, threadIdx ...
 *
 * Not allowed (and not there when emulated): <<<>>>, __shared__, extern __shared__, inline asm
 * (it lives in cuda_ptx.h), float atomics, warps that are not full (blockDim.x % 32 == 0 always).
 */
#pragma once

#ifdef BT_EMULATED
#include "emu_kernel.h"
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#define BT_DYNAMIC_SHARED(type, name)                                                              \
    extern __shared__ __align__(16) unsigned char bt_dynamic_shared[];                             \
    type *const name = reinterpret_cast<type *>(bt_dynamic_shared)

#define BT_SHARED(type, name, count) __shared__ __align__(16) type name[count]

/* Launches on stream s. More than 48 KB of dynamic shared memory is asked for first (idempotent,
 * host side only, allowed while capturing). Returns the error of the launch and leaves no error
 * behind for a later call to find; a sticky error stays, as it must. */
template <class... P, class... A>
static inline cudaError_t bt_launch(void (*kernel)(P...), dim3 grid, dim3 block,
                                    size_t shared_bytes, cudaStream_t s, A... args)
{
    static_assert(sizeof...(P) == sizeof...(A), "one argument for each parameter");
    cudaError_t e = cudaSuccess;
    if (shared_bytes > 48 * 1024)
        e = cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
    if (e == cudaSuccess) {
        cudaLaunchConfig_t config = {};
        config.gridDim = grid;
        config.blockDim = block;
        config.dynamicSmemBytes = shared_bytes;
        config.stream = s;
        e = cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...);
    }
    if (e != cudaSuccess) (void)cudaGetLastError();
    return e;
}

static __device__ __forceinline__ uint4 bt_load16(const void *p)
{
    return *static_cast<const uint4 *>(p);
}
static __device__ __forceinline__ uint2 bt_load8(const void *p)
{
    return *static_cast<const uint2 *>(p);
}
static __device__ __forceinline__ uint32_t bt_load4(const void *p)
{
    return *static_cast<const uint32_t *>(p);
}
static __device__ __forceinline__ void bt_store16(void *p, uint4 v)
{
    *static_cast<uint4 *>(p) = v;
}
static __device__ __forceinline__ void bt_store8(void *p, uint2 v)
{
    *static_cast<uint2 *>(p) = v;
}
static __device__ __forceinline__ void bt_store4(void *p, uint32_t v)
{
    *static_cast<uint32_t *>(p) = v;
}

#endif /* BT_EMULATED */

/* The sum over the 32 lanes of a warp, the same bits in every lane. All lanes call. */
static __device__ __forceinline__ float bt_warp_sum(float v)
{
    for (int step = 16; step > 0; step >>= 1) v += __shfl_xor_sync(0xffffffffu, v, step);
    return v;
}

/* The largest: one instruction from sm_80 on. */
static __device__ __forceinline__ unsigned bt_warp_max_uint(unsigned v)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    return __reduce_max_sync(0xffffffffu, v);
#else
    for (int step = 16; step > 0; step >>= 1) {
        unsigned other = __shfl_xor_sync(0xffffffffu, v, step);
        v = other > v ? other : v;
    }
    return v;
#endif
}
