/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_ptx.h - the instructions CUDA C++ has no name for; the only inline assembly there is.
 *
 * Every function is called by all 32 lanes of a warp together, except cp.async and the plain
 * loads. What an architecture lacks is composed from what it has, here and nowhere else.
 * Fragment layouts are those of the PTX ISA, "Matrix fragments for mma.m16n8k16" and
 * "... mma.m16n8k32"; with g = lane / 4 and t = lane % 4:
 *   16-bit inputs, k16   a[0]: row g,   k 2t, 2t+1     a[1]: row g+8, k 2t, 2t+1
 *                        a[2]: row g,   k 2t+8, 2t+9   a[3]: row g+8, k 2t+8, 2t+9
 *                        b[0]: k 2t, 2t+1, column g    b[1]: k 2t+8, 2t+9, column g
 *   8-bit inputs, k32    a[0]: row g,   k 4t..4t+3     a[1]: row g+8, k 4t..4t+3
 *                        a[2]: row g,   k 4t+16..+19   a[3]: row g+8, k 4t+16..+19
 *                        b[0]: k 4t..4t+3, column g    b[1]: k 4t+16..+19, column g
 *   d                    d[0], d[1]: row g, columns 2t, 2t+1    d[2], d[3]: row g+8, the same
 * Lower k sits in lower bits. D = A B + D.
 */
#pragma once
#include "kernels/cuda_kernel.h"

#ifdef BT_EMULATED
#include "emu_ptx.h"
#else

/* f16 inputs, f32 accumulators. sm_75: two m16n8k8. */
static __device__ __forceinline__ void bt_mma_f16(float d[4], const uint32_t a[4],
                                                  const uint32_t b[2])
{
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b[0]));
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[2]), "r"(a[3]), "r"(b[1]));
#endif
}

/* bf16 inputs, f32 accumulators. sm_80 and later; traps on sm_75, so launchers choose. */
static __device__ __forceinline__ void bt_mma_bf16(float d[4], const uint32_t a[4],
                                                   const uint32_t b[2])
{
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    (void)d, (void)a, (void)b;
    __trap();
#endif
}

/* int8 inputs, int32 accumulators (exact). sm_75: four m8n8k16. */
static __device__ __forceinline__ void bt_mma_s8(int32_t d[4], const uint32_t a[4],
                                                 const uint32_t b[2])
{
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#define BT_MMA_K16(half, ai, bi)                                                                   \
    asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"             \
        : "+r"(d[2 * (half)]), "+r"(d[2 * (half) + 1])                                             \
        : "r"(a[ai]), "r"(b[bi]))
    BT_MMA_K16(0, 0, 0);
    BT_MMA_K16(1, 1, 0);
    BT_MMA_K16(0, 2, 1);
    BT_MMA_K16(1, 3, 1);
#undef BT_MMA_K16
#endif
}

static __device__ __forceinline__ uint32_t bt_shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Loads 8x8 matrices of 16-bit elements: lane l gives the 16-byte-aligned shared address of row
 * l % 8 of matrix l / 8; r[i] is then matrix i's elements (row lane / 4, columns 2 (lane % 4) and
 * the next); _trans: rows 2 (lane % 4) and the next, column lane / 4. The x2 form reads the
 * addresses of lanes 0..15; the other lanes' must still be valid ones (sm_75 wants that). */
static __device__ __forceinline__ void bt_ldmatrix_x4(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(bt_shared_address(row))
                 : "memory");
}
static __device__ __forceinline__ void bt_ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(bt_shared_address(row))
                 : "memory");
}
static __device__ __forceinline__ void bt_ldmatrix_x2(uint32_t r[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(bt_shared_address(row))
                 : "memory");
}

/* Copies 16 bytes from global to shared memory, both 16-byte aligned, without passing through
 * registers; !valid writes zeros and never reads `global`. The bytes are there for the calling
 * thread after commit and wait, for others after a barrier that follows. sm_75: an ordinary copy.
 */
static __device__ __forceinline__ void bt_cp_async16(void *smem, const void *global, bool valid)
{
#if __CUDA_ARCH__ >= 800
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(bt_shared_address(smem)),
                 "l"(__cvta_generic_to_global(global)), "r"(bytes)
                 : "memory");
#else
    bt_store16(smem, valid ? bt_load16(global) : make_uint4(0, 0, 0, 0));
#endif
}

/* Closes the group of the copies issued so far; wait<N> returns when at most the N youngest groups
 * of this thread are still under way. */
static __device__ __forceinline__ void bt_cp_async_commit()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int N> static __device__ __forceinline__ void bt_cp_async_wait()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

/* A 16-byte load of what is read once (weights): not kept in L1. `p` is global and not written
 * while the kernel runs. */
static __device__ __forceinline__ uint4 bt_load16_once(const void *p)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(__cvta_generic_to_global(p)));
    return v;
}

/* int8, k16: a[0] is row g, a[1] row g+8, k 4t..4t+3; b the same k of column g. */
static __device__ __forceinline__ void bt_mma_s8_k16(int32_t d[4], const uint32_t a[2], uint32_t b)
{
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 "
        "{%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b));
#else
    asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
        : "+r"(d[0]), "+r"(d[1])
        : "r"(a[0]), "r"(b));
    asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};"
        : "+r"(d[2]), "+r"(d[3])
        : "r"(a[1]), "r"(b));
#endif
}

/* Four bytes at 4-byte aligned addresses, as bt_cp_async16. */
static __device__ __forceinline__ void bt_cp_async4(void *smem, const void *global, bool valid)
{
#if __CUDA_ARCH__ >= 800
    int bytes = valid ? 4 : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(bt_shared_address(smem)),
                 "l"(__cvta_generic_to_global(global)), "r"(bytes)
                 : "memory");
#else
    bt_store4(smem, valid ? bt_load4(global) : 0);
#endif
}

/* A barrier of some warps of a block: all lanes of `threads` / 32 warps come to barrier
 * `id`, 1..15; it orders their memory accesses as __syncthreads() does a whole block's. */
static __device__ __forceinline__ void bt_barrier_of(int id, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* Whether the copies above are asynchronous here; kernels that can hide loads another way ask. */
static __device__ __forceinline__ constexpr bool bt_has_cp_async()
{
#if __CUDA_ARCH__ >= 800
    return true;
#else
    return false;
#endif
}

#endif /* BT_EMULATED */
