/* SPDX-License-Identifier: Apache-2.0 */
/* emu_ptx.h - the bodies of cuda_ptx.h's functions on the emulated device (emu_warp.c). */
#pragma once

static inline void bt_mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2], EMU_SITE)
{
    emu_mma(EMU_MMA_F16, d, a, b, file, line);
}
static inline void bt_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], EMU_SITE)
{
    emu_mma(EMU_MMA_BF16, d, a, b, file, line);
}
static inline void bt_mma_s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2], EMU_SITE)
{
    emu_mma(EMU_MMA_S8, d, a, b, file, line);
}
static inline void bt_ldmatrix_x4(uint32_t r[4], const void *row, EMU_SITE)
{
    emu_ldmatrix(EMU_LDMATRIX_X4, r, row, file, line);
}
static inline void bt_ldmatrix_x4_trans(uint32_t r[4], const void *row, EMU_SITE)
{
    emu_ldmatrix(EMU_LDMATRIX_X4_TRANS, r, row, file, line);
}
static inline void bt_ldmatrix_x2(uint32_t r[2], const void *row, EMU_SITE)
{
    emu_ldmatrix(EMU_LDMATRIX_X2, r, row, file, line);
}
static inline void bt_cp_async16(void *smem, const void *global, bool valid, EMU_SITE)
{
    emu_cp_async(smem, global, 16, valid, file, line);
}
static inline void bt_cp_async4(void *smem, const void *global, bool valid, EMU_SITE)
{
    emu_cp_async(smem, global, 4, valid, file, line);
}
static inline void bt_cp_async_commit()
{
    emu_cp_async_commit();
}
template <int N> static inline void bt_cp_async_wait()
{
    emu_cp_async_wait(N);
}
static inline void bt_barrier_of(int id, int threads, EMU_SITE)
{
    emu_barrier_of(id, threads, file, line);
}
static inline uint4 bt_load16_once(const void *p, EMU_SITE)
{
    return emu_load<16, uint4>(p, file, line);
}

/* Composed of the above, as the GEMM uses them. */
static inline void bt_mma_s8_k16(int32_t d[4], const uint32_t a[2], uint32_t b, EMU_SITE)
{
    const uint32_t whole[4] = {a[0], a[1], 0, 0}, column[2] = {b, 0};
    emu_mma(EMU_MMA_S8, d, whole, column, file, line);
}
