/* SPDX-License-Identifier: Apache-2.0 */
/* emu_device.h - what a kernel's code calls in the emulated device: the C side of emu_kernel.h and
 * emu_ptx.h. `file` and `line` name the place of the call in the kernel. */
#pragma once
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The running thread and its block; they change with every switch of fibers. */
typedef struct emu_thread_now {
    uint3 idx;
} emu_thread_now;
typedef struct emu_launch_now {
    uint3 block;
    dim3 grid_dim, block_dim;
} emu_launch_now;
extern const emu_thread_now *emu_now;
extern emu_launch_now emu_launch;

enum emu_op {
    EMU_SYNC,
    EMU_SHFL,
    EMU_SHFL_UP,
    EMU_SHFL_DOWN,
    EMU_SHFL_XOR,
    EMU_BALLOT,
    EMU_ANY,
    EMU_ALL,
    EMU_MATCH_ANY,
    EMU_REDUCE_ADD,
    EMU_REDUCE_MIN,
    EMU_REDUCE_MAX,
    EMU_REDUCE_UMIN,
    EMU_REDUCE_UMAX,
    EMU_REDUCE_AND,
    EMU_REDUCE_OR,
    EMU_REDUCE_XOR,
    EMU_MMA_F16,
    EMU_MMA_BF16,
    EMU_MMA_S8,
    EMU_LDMATRIX_X2,
    EMU_LDMATRIX_X4,
    EMU_LDMATRIX_X4_TRANS,
    EMU_OPS
};
enum emu_barrier_op { EMU_BARRIER, EMU_BARRIER_OR, EMU_BARRIER_AND, EMU_BARRIER_COUNT };

/* __syncthreads and its reducing forms. */
int emu_barrier(int op, int value, const char *file, int line);
/* bar.sync id, threads: of whole warps. */
void emu_barrier_of(int id, int threads, const char *file, int line);

/* A warp collective among the lanes of `mask`; returns this lane's result. */
uint64_t emu_collective(int op, uint32_t mask, uint64_t value, int arg, int width, const char *file,
                        int line);
void emu_mma(int op, void *d, const uint32_t *a, const uint32_t *b, const char *file, int line);
void emu_ldmatrix(int op, uint32_t *r, const void *row, const char *file, int line);
/* bytes: 4 or 16. */
void emu_cp_async(void *smem, const void *global, int bytes, bool valid, const char *file,
                  int line);
void emu_cp_async_commit(void);
void emu_cp_async_wait(int groups);

/* Shared memory of the running block: a static array, named by its slot's address, and the launch's
 * dynamic part. */
void *emu_shared(const void *slot, size_t bytes, size_t align, const char *name);
void *emu_dynamic_shared(void);

void emu_misaligned(const void *p, size_t bytes, const char *file, int line);
void emu_trap(const char *file, int line);
void emu_yield(void); // maybe lets another thread of the block run
void emu_atomic(const void *p,
                size_t bytes); // before an atomic operation; yields
uint64_t emu_clock(void);

/* How a kernel is called: told once before its launches. */
typedef struct emu_kernel_type {
    void (*call)(const void *kernel, void **args);
    int n_params;
    const uint32_t *sizes; // of the parameters
} emu_kernel_type;
void emu_kernel_known(const void *kernel, const emu_kernel_type *type);

#ifdef __cplusplus
}
#endif
