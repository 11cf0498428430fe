/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 120 */
/* With instrumented kernels, races and stray accesses are found whatever the order of threads. */
#include "emu_test.h"
#include "kernels/cuda_ptx.h"

static const dim3 one(1);
static int *ints;

static void fresh(size_t n)
{
    REQUIRE_CUDA(cudaMalloc((void **)&ints, n * sizeof(int)));
    REQUIRE_CUDA(cudaMemset(ints, 0, n * sizeof(int)));
}

/* kind 0: right; 1: no barrier before reading; 2: none before the next round's writes. */
static __global__ void reverse_k(int *x, int kind)
{
    BT_SHARED(int, tile, 96);
    for (int round = 0; round < 2; round++) {
        tile[threadIdx.x] = x[threadIdx.x] + round;
        if (kind != 1) __syncthreads();
        x[threadIdx.x] = tile[95 - threadIdx.x];
        if (kind != 2) __syncthreads();
    }
}
template <int KIND> static void reverse(void)
{
    fresh(96);
    CHECK_CUDA(bt_launch(reverse_k, one, dim3(96), 0, nullptr, ints, KIND));
}

/* kind 0: right; 1: a shuffle instead of __syncwarp; 2: warps need more than __syncwarp. */
static __global__ void warp_k(int *x, int kind)
{
    BT_SHARED(int, tile, 64);
    tile[threadIdx.x] = x[threadIdx.x];
    if (kind == 1)
        (void)__shfl_sync(0xffffffffu, 1, 0);
    else
        __syncwarp();
    x[threadIdx.x] = tile[kind == 2 ? (threadIdx.x + 32) % 64 : threadIdx.x ^ 1];
}
template <int KIND> static void in_warps(void)
{
    fresh(64);
    CHECK_CUDA(bt_launch(warp_k, one, dim3(64), 0, nullptr, ints, KIND));
}

/* Blocks: 0: each its own; 1: all the first's, plain; 2: the same with atomics; 3: one reads what
 * others write; 4: all only read; 5: all write the same. */
static __global__ void blocks_k(int *x, int kind)
{
    if (threadIdx.x) return;
    if (kind == 0) x[blockIdx.x] = 1;
    if (kind == 1) x[0] = (int)blockIdx.x;
    if (kind == 2) (void)atomicAdd(&x[0], 1);
    if (kind == 3) x[blockIdx.x] = x[0] + 1;
    if (kind == 4 && x[0] != 0) __trap();
    if (kind == 5) x[0] = 9;
}
template <int KIND> static void blocks(void)
{
    fresh(4);
    CHECK_CUDA(bt_launch(blocks_k, dim3(4), dim3(32), 0, nullptr, ints, KIND));
}

/* Lanes read what one of them then writes; neighbours in one word are no race.
 */
static __global__ void lanes_k(int *x, int kind)
{
    BT_SHARED(uint8_t, bytes, 64);
    bytes[threadIdx.x] = (uint8_t)threadIdx.x;
    __syncthreads();
    int sum = bytes[0];
    if (kind == 1 && threadIdx.x == 31) bytes[0] = 7;
    if (kind == 2) __syncwarp();
    if (kind == 2 && threadIdx.x == 31) bytes[0] = 7;
    x[threadIdx.x] = sum;
}
template <int KIND> static void lanes(void)
{
    fresh(32);
    CHECK_CUDA(bt_launch(lanes_k, one, dim3(32), 0, nullptr, ints, KIND));
}

/* Teams of two warps. kind 0: right; 1: reads what another team wrote; 2: no second barrier. */
static __global__ void teams_k(int *x, int kind)
{
    BT_SHARED(int, tile, 128);
    int team = (int)threadIdx.x / 64, other = (int)threadIdx.x ^ 32;
    for (int round = 0; round < 2; round++) {
        tile[threadIdx.x] = x[threadIdx.x] + round;
        __syncwarp();
        bt_barrier_of(1 + team, 64);
        x[threadIdx.x] = tile[other] + tile[threadIdx.x ^ (kind == 1 ? 64 : 1)];
        if (kind != 2) bt_barrier_of(1 + team, 64);
    }
}
template <int KIND> static void teams(void)
{
    fresh(128);
    CHECK_CUDA(bt_launch(teams_k, one, dim3(128), 0, nullptr, ints, KIND));
}

static __global__ void unset_k(int *x)
{
    BT_DYNAMIC_SHARED(int, tile);
    if (threadIdx.x < 20) tile[threadIdx.x] = 1;
    __syncthreads();
    x[threadIdx.x] = tile[threadIdx.x];
}
static void unset(void)
{
    fresh(32);
    CHECK_CUDA(bt_launch(unset_k, one, dim3(32), 32 * sizeof(int), nullptr, ints));
}

/* 0: waits, then a barrier; 1: no barrier between another thread's copy and the read. */
static __global__ void copy_k(uint4 *x, int kind)
{
    BT_SHARED(uint4, tile, 32);
    bt_cp_async16(&tile[threadIdx.x], x + threadIdx.x, true);
    bt_cp_async_commit();
    bt_cp_async_wait<0>();
    if (kind == 0) __syncthreads();
    uint32_t r[2];
    bt_ldmatrix_x2(r, &tile[31 - threadIdx.x]);
    __syncthreads();
    x[threadIdx.x] = make_uint4(r[0], r[1], 0, 0);
}
template <int KIND> static void copies(void)
{
    fresh(128);
    CHECK_CUDA(bt_launch(copy_k, one, dim3(32), 0, nullptr, (uint4 *)(void *)ints, KIND));
}

static int host_variable[32];
static __global__ void follow_k(const int *from, int *x)
{
    x[threadIdx.x] = from[threadIdx.x];
}
static void host_memory(void)
{
    fresh(32);
    static int *heap = (int *)calloc(32, sizeof(int));
    CHECK_CUDA(bt_launch(follow_k, one, dim3(32), 0, nullptr, (const int *)heap, ints));
}
static void writes_host_variable(void)
{
    fresh(32);
    CHECK_CUDA(bt_launch(follow_k, one, dim3(32), 0, nullptr, (const int *)ints, host_variable));
}
static __global__ void share_local_k(int *x)
{
    BT_SHARED(int *, where, 1);
    int mine[2] = {(int)threadIdx.x, 1};
    if (threadIdx.x == 0) where[0] = mine;
    __syncthreads();
    x[threadIdx.x] = where[0][0]; // on a GPU this is another variable in every thread
    __syncthreads();
}
static void others_locals(void)
{
    fresh(32);
    CHECK_CUDA(bt_launch(share_local_k, one, dim3(32), 0, nullptr, ints));
}
static void slack(void)
{
    REQUIRE_CUDA(cudaMalloc((void **)&ints, 31 * sizeof(int)));
    CHECK_CUDA(bt_launch(follow_k, one, dim3(32), 0, nullptr, (const int *)ints, ints));
}

static void check_fine(void (*fn)(void))
{
    for (int i = 0; cuda_orders_next(&i, 5);) {
        fn();
        CHECK_CUDA(cudaDeviceSynchronize());
        CHECK_CUDA(cudaFree(ints));
    }
}

static void barriers_order_a_block(void)
{
    check_fine(reverse<0>);
    check_faults(reverse<1>, cudaErrorLaunchFailure,
                 "shared memory at"); // unset, or a race
    check_faults(reverse<2>, cudaErrorLaunchFailure, "race in shared memory");
}
static void syncwarp_orders_a_warp(void)
{
    check_fine(in_warps<0>);
    check_faults(in_warps<1>, cudaErrorLaunchFailure, "race in shared memory");
    check_faults(in_warps<2>, cudaErrorLaunchFailure,
                 "shared memory at"); // unset, or a race
    check_fine(lanes<0>);
    check_faults(lanes<1>, cudaErrorLaunchFailure, "race in shared memory");
    check_fine(lanes<2>);
}
static void a_barrier_orders_its_team(void)
{
    check_fine(teams<0>);
    check_faults(teams<1>, cudaErrorLaunchFailure,
                 "shared memory at"); // unset, or a race
    check_faults(teams<2>, cudaErrorLaunchFailure, "race in shared memory");
}
static void blocks_are_never_ordered(void)
{
    check_fine(blocks<0>);
    check_faults(blocks<1>, cudaErrorLaunchFailure, "race in device memory");
    check_fine(blocks<2>);
    check_faults(blocks<3>, cudaErrorLaunchFailure, "race in device memory");
    check_fine(blocks<4>);
    check_fine(blocks<5>);
}
static void copies_need_wait_and_barrier(void)
{
    check_fine(copies<0>);
    check_faults(copies<1>, cudaErrorLaunchFailure, "shared memory at");
}
static void unset_and_stray_accesses(void)
{
    check_faults(unset, cudaErrorLaunchFailure, "no thread of the block wrote");
    check_faults(host_memory, cudaErrorIllegalAddress, "host memory");
    check_faults(writes_host_variable, cudaErrorIllegalAddress, "a variable of the host program");
    check_faults(others_locals, cudaErrorIllegalAddress, "a local variable of another thread");
    check_faults(slack, cudaErrorIllegalAddress, "outside any live allocation");
}

int main(void)
{
    RUN(barriers_order_a_block);
    RUN(syncwarp_orders_a_warp);
    RUN(a_barrier_orders_its_team);
    RUN(blocks_are_never_ordered);
    RUN(copies_need_wait_and_barrier);
    RUN(unset_and_stray_accesses);
    return TEST_END();
}
