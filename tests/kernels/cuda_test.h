/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_test.h - what tests of device code share that need nothing but the CUDA runtime: the same
 * program runs on a GPU and on the emulated device (tests/emu), where every order of threads is
 * tried and allocations end exactly where they end. */
#pragma once
#include "test.h"
#include <cuda_runtime_api.h>
#include <stdbool.h>
#ifdef BT_EMULATED
#include "emu.h"
#endif

#define CHECK_CUDA(call) CHECK_INT(call, cudaSuccess)
#define REQUIRE_CUDA(call) REQUIRE((call) == cudaSuccess)

/* Skips the program where there is no device. */
static inline void cuda_need_device(void)
{
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0) SKIP("no CUDA device");
}

/* for (int i = 0; cuda_order_next(&i);) runs the body once for each order that is to give the same
 * bits: n random orders of threads, blocks and streams when emulated; three repetitions on a GPU,
 * whose orders nobody chooses. */
static inline bool cuda_orders_next(int *i, int n)
{
#ifdef BT_EMULATED
    bt_emu_seed(*i < n ? (uint64_t)*i : 0);
#else
    n = 3;
#endif
    return (*i)++ < n;
}
static inline bool cuda_order_next(int *i)
{
    return cuda_orders_next(i, 20);
}

/* Device memory with poison before and after it on a GPU; emulated, the device itself guards. */
enum { CUDA_RED_BYTES = 256 };
static struct cuda_block {
    void *p;
    size_t bytes;
} cuda_blocks[256];
static int cuda_n_blocks;

static inline void *cuda_new(size_t bytes)
{
    void *p = NULL;
    REQUIRE(cuda_n_blocks < 256);
#ifdef BT_EMULATED
    REQUIRE_CUDA(cudaMalloc(&p, bytes ? bytes : 1));
    cuda_blocks[cuda_n_blocks++] = (struct cuda_block){p, bytes};
    return p;
#else
    REQUIRE_CUDA(cudaMalloc(&p, bytes + 2 * CUDA_RED_BYTES));
    REQUIRE_CUDA(cudaMemset(p, 0xa5, bytes + 2 * CUDA_RED_BYTES));
    cuda_blocks[cuda_n_blocks++] = (struct cuda_block){p, bytes};
    return (unsigned char *)p + CUDA_RED_BYTES;
#endif
}

static inline void *cuda_put(const void *from, size_t bytes)
{
    void *p = cuda_new(bytes);
    REQUIRE_CUDA(cudaMemcpy(p, from, bytes, cudaMemcpyHostToDevice));
    return p;
}

/* Waits for the device. */
static inline void cuda_get(void *to, const void *from, size_t bytes)
{
    CHECK_CUDA(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
}

/* Frees all of it; what was written beside an allocation is a failed check. */
static inline void cuda_clear(void)
{
    while (cuda_n_blocks > 0) {
        struct cuda_block b = cuda_blocks[--cuda_n_blocks];
#ifndef BT_EMULATED
        unsigned char red[CUDA_RED_BYTES];
        for (int side = 0; side < 2; side++) {
            cuda_get(red, (unsigned char *)b.p + (side ? CUDA_RED_BYTES + b.bytes : 0), sizeof red);
            for (size_t i = 0; i < sizeof red; i++) CHECK_INT(red[i], 0xa5);
        }
#endif
        CHECK_CUDA(cudaFree(b.p));
    }
}
