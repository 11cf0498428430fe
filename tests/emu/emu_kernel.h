/* SPDX-License-Identifier: Apache-2.0 */
/* emu_kernel.h - the CUDA language for the host's C++ compiler: what cuda_kernel.h stands for when
 * the device is emulated. Threads are fibers of one host thread (emu_block.c), so plain memory
 * operations are atomic and a collective is a rendezvous (emu_warp.c). */
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>
#include <utility>

#include "emu_device.h"

#undef __shared__
#define __shared__ use_BT_SHARED_from_cuda_kernel_h
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __maxnreg__
#define __maxnreg__(...)
#ifndef __noinline__
#define __noinline__ __attribute__((noinline))
#endif

#define EMU_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

#define BT_DYNAMIC_SHARED(type, name) type *const name = static_cast<type *>(emu_dynamic_shared())
#define BT_SHARED(type, name, count)                                                               \
    static char name##_slot;                                                                       \
    type *const name = static_cast<type *>(                                                        \
        emu_shared(&name##_slot, sizeof(type) * (count), alignof(type), #name))

/* Launching: the kernel's type is told to the runtime, which keeps copies of the arguments. */
template <class... P> struct emu_call {
    template <size_t... I>
    static void spread(const void *kernel, void **args, std::index_sequence<I...>)
    {
        (void)args; // a kernel without parameters
        reinterpret_cast<void (*)(P...)>(const_cast<void *>(kernel))(
            *static_cast<std::remove_reference_t<P> *>(args[I])...);
    }
    static void call(const void *kernel, void **args)
    {
        spread(kernel, args, std::index_sequence_for<P...>());
    }
    static const emu_kernel_type *type()
    {
        static const uint32_t sizes[] = {(uint32_t)sizeof(P)..., 0};
        static const emu_kernel_type t = {call, (int)sizeof...(P), sizes};
        return &t;
    }
};

template <class... P, class... A>
static inline cudaError_t bt_launch(void (*kernel)(P...), dim3 grid, dim3 block,
                                    size_t shared_bytes, cudaStream_t s, A... args)
{
    static_assert(sizeof...(P) == sizeof...(A), "one argument for each parameter");
    const void *k = reinterpret_cast<const void *>(kernel);
    emu_kernel_known(k, emu_call<P...>::type());
    cudaError_t e = cudaSuccess;
    if (shared_bytes > 48 * 1024)
        e = cudaFuncSetAttribute(k, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
    if (e == cudaSuccess) {
        cudaLaunchConfig_t config = {};
        config.gridDim = grid;
        config.blockDim = block;
        config.dynamicSmemBytes = shared_bytes;
        config.stream = s;
        e = [&](std::remove_const_t<P>... as_declared) {
            void *list[] = {static_cast<void *>(&as_declared)..., nullptr};
            return cudaLaunchKernelExC(&config, k, list);
        }(static_cast<P>(args)...);
    }
    if (e != cudaSuccess) (void)cudaGetLastError();
    return e;
}

#define threadIdx (emu_now->idx)
#define blockIdx (emu_launch.block)
#define blockDim (emu_launch.block_dim)
#define gridDim (emu_launch.grid_dim)
static const int warpSize = 32;

/* Bits of any small type. */
template <class T> static inline uint64_t emu_bits(T v)
{
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "up to 8 plain bytes");
    uint64_t b = 0;
    memcpy(&b, static_cast<const void *>(&v), sizeof v);
    return b;
}
template <class T> static inline T emu_from_bits(uint64_t b)
{
    T v;
    memcpy(static_cast<void *>(&v), &b, sizeof v);
    return v;
}

/* Memory. */
template <size_t N, class T> static inline T emu_load(const void *p, const char *file, int line)
{
    if (reinterpret_cast<uintptr_t>(p) % N) emu_misaligned(p, N, file, line);
    return *static_cast<const T *>(p);
}
template <size_t N, class T> static inline void emu_store(void *p, T v, const char *file, int line)
{
    if (reinterpret_cast<uintptr_t>(p) % N) emu_misaligned(p, N, file, line);
    *static_cast<T *>(p) = v;
}
static inline uint4 bt_load16(const void *p, EMU_SITE)
{
    return emu_load<16, uint4>(p, file, line);
}
static inline uint2 bt_load8(const void *p, EMU_SITE)
{
    return emu_load<8, uint2>(p, file, line);
}
static inline uint32_t bt_load4(const void *p, EMU_SITE)
{
    return emu_load<4, uint32_t>(p, file, line);
}
static inline void bt_store16(void *p, uint4 v, EMU_SITE)
{
    emu_store<16>(p, v, file, line);
}
static inline void bt_store8(void *p, uint2 v, EMU_SITE)
{
    emu_store<8>(p, v, file, line);
}
static inline void bt_store4(void *p, uint32_t v, EMU_SITE)
{
    emu_store<4>(p, v, file, line);
}
template <class T> static inline T __ldg(const T *p, EMU_SITE)
{
    if (reinterpret_cast<uintptr_t>(p) % alignof(T)) emu_misaligned(p, alignof(T), file, line);
    return *p;
}
template <class T> static inline T __ldcg(const T *p)
{
    return *p;
}
template <class T> static inline T __ldcs(const T *p)
{
    return *p;
}
template <class T> static inline void __stcs(T *p, T v)
{
    *p = v;
}

/* Barriers, votes, shuffles. */
static inline void __syncthreads(EMU_SITE)
{
    (void)emu_barrier(EMU_BARRIER, 0, file, line);
}
static inline int __syncthreads_or(int v, EMU_SITE)
{
    return emu_barrier(EMU_BARRIER_OR, v, file, line);
}
static inline int __syncthreads_and(int v, EMU_SITE)
{
    return emu_barrier(EMU_BARRIER_AND, v, file, line);
}
static inline int __syncthreads_count(int v, EMU_SITE)
{
    return emu_barrier(EMU_BARRIER_COUNT, v, file, line);
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, EMU_SITE)
{
    (void)emu_collective(EMU_SYNC, mask, 0, 0, 32, file, line);
}
template <class T>
static inline T __shfl_sync(unsigned mask, T v, int source, int width = 32, EMU_SITE)
{
    return emu_from_bits<T>(emu_collective(EMU_SHFL, mask, emu_bits(v), source, width, file, line));
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, EMU_SITE)
{
    return emu_from_bits<T>(
        emu_collective(EMU_SHFL_UP, mask, emu_bits(v), (int)delta, width, file, line));
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, EMU_SITE)
{
    return emu_from_bits<T>(
        emu_collective(EMU_SHFL_DOWN, mask, emu_bits(v), (int)delta, width, file, line));
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T v, int lane_mask, int width = 32, EMU_SITE)
{
    return emu_from_bits<T>(
        emu_collective(EMU_SHFL_XOR, mask, emu_bits(v), lane_mask, width, file, line));
}
static inline unsigned __ballot_sync(unsigned mask, int v, EMU_SITE)
{
    return (unsigned)emu_collective(EMU_BALLOT, mask, v != 0, 0, 32, file, line);
}
static inline int __any_sync(unsigned mask, int v, EMU_SITE)
{
    return (int)emu_collective(EMU_ANY, mask, v != 0, 0, 32, file, line);
}
static inline int __all_sync(unsigned mask, int v, EMU_SITE)
{
    return (int)emu_collective(EMU_ALL, mask, v != 0, 0, 32, file, line);
}
template <class T> static inline unsigned __match_any_sync(unsigned mask, T v, EMU_SITE)
{
    return (unsigned)emu_collective(EMU_MATCH_ANY, mask, emu_bits(v), 0, 32, file, line);
}
#define EMU_REDUCE(name, type, op)                                                                 \
    static inline type name(unsigned mask, type v, EMU_SITE)                                       \
    {                                                                                              \
        return (type)emu_collective(op, mask, (uint32_t)v, 0, 32, file, line);                     \
    }
EMU_REDUCE(__reduce_add_sync, int, EMU_REDUCE_ADD)
EMU_REDUCE(__reduce_add_sync, unsigned, EMU_REDUCE_ADD)
EMU_REDUCE(__reduce_min_sync, int, EMU_REDUCE_MIN)
EMU_REDUCE(__reduce_max_sync, int, EMU_REDUCE_MAX)
EMU_REDUCE(__reduce_min_sync, unsigned, EMU_REDUCE_UMIN)
EMU_REDUCE(__reduce_max_sync, unsigned, EMU_REDUCE_UMAX)
EMU_REDUCE(__reduce_and_sync, unsigned, EMU_REDUCE_AND)
EMU_REDUCE(__reduce_or_sync, unsigned, EMU_REDUCE_OR)
EMU_REDUCE(__reduce_xor_sync, unsigned, EMU_REDUCE_XOR)
#undef EMU_REDUCE
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __trap(EMU_SITE)
{
    emu_trap(file, line);
}
static inline void __nanosleep(unsigned)
{
    emu_yield();
}
static inline long long clock64()
{
    return (long long)emu_clock();
}

/* Atomics, on integers only; emu_race.c is told of them and does not watch their own accesses. */
#define EMU_UNWATCHED __attribute__((no_sanitize("thread")))
#define EMU_ATOMIC(name, type, result)                                                             \
    EMU_UNWATCHED static inline type name(type *p, type v)                                         \
    {                                                                                              \
        emu_atomic(p, sizeof *p);                                                                  \
        type old = *p;                                                                             \
        *p = result;                                                                               \
        return old;                                                                                \
    }
#define EMU_ATOMICS(type)                                                                          \
    EMU_ATOMIC(atomicMax, type, (v > old ? v : old))                                               \
    EMU_ATOMIC(atomicMin, type, (v < old ? v : old))                                               \
    EMU_ATOMIC(atomicAnd, type, (old & v))                                                         \
    EMU_ATOMIC(atomicOr, type, (old | v))                                                          \
    EMU_ATOMIC(atomicXor, type, (old ^ v))                                                         \
    EMU_ATOMIC(atomicExch, type, v)                                                                \
    EMU_UNWATCHED static inline type atomicCAS(type *p, type compare, type v)                      \
    {                                                                                              \
        emu_atomic(p, sizeof *p);                                                                  \
        type old = *p;                                                                             \
        if (old == compare) *p = v;                                                                \
        return old;                                                                                \
    }
EMU_ATOMIC(atomicAdd, int, ((int)((unsigned)old + (unsigned)v)))
EMU_ATOMIC(atomicAdd, unsigned, (old + v))
EMU_ATOMIC(atomicAdd, unsigned long long, (old + v))
EMU_ATOMIC(atomicSub, int, ((int)((unsigned)old - (unsigned)v)))
EMU_ATOMIC(atomicSub, unsigned, (old - v))
EMU_ATOMICS(int)
EMU_ATOMICS(unsigned)
EMU_ATOMICS(unsigned long long)
#undef EMU_ATOMICS
#undef EMU_ATOMIC

#include "emu_math.h"
