/* SPDX-License-Identifier: Apache-2.0 */
/* ceiling.h - what a CPU thread can do at most: loops that only read, or only multiply.
 *
 * A benchmark divides by these, measured in the same run on the same threads, so that a share of
 * the ceiling means the same on every machine. They use the instruction set that kernels use
 * (kernels/cpu_isa.h). What is computed is returned, and known in advance, so that a test can tell
 * that all of it was done. Thread: any. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The exclusive or of all 64-bit words. p 64-byte aligned, bytes a multiple of 256. */
uint64_t bt_ceiling_read(const void *p, size_t bytes);

/* f32 fused multiply-adds: `loops` times bt_ceiling_fma_ops() operations (a multiply-add is two).
 * 12 chains of vectors, chain j from j, each step adding 1: returns the sum over the chains' first
 * lanes, 66 + 12 * loops (exact below 2^24 a chain). */
double bt_ceiling_fma(int64_t loops);
int32_t bt_ceiling_fma_ops(void);

/* The same with the integer instructions of the Q8_0 kernels, chains of ones times ones added by
 * fours: 66 + 48 * loops. bt_ceiling_int8_ops() is 0 where there are none. */
int64_t bt_ceiling_int8(int64_t loops);
int32_t bt_ceiling_int8_ops(void);

#ifdef __cplusplus
}
#endif
