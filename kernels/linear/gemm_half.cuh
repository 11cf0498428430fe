/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_half.cuh - the GEMM of float and group-quantized weights on f16 tensor cores.
 *
 * ARITHMETIC x is act.f16 (half, x / f16_scale), w a half; per 16 columns one mma adds 16 products
 *         to the f32 accumulator, in the hardware's order; last the sum times f16_scale[row].
 *   F16     w as stored
 *   BF16    w rounded to half: exact for 2^-14 <= |w| < 65520, below with an error up to 2^-25,
 *           beyond infinite (no weight of a model is). One path serves sm_75, which has no bf16,
 *           and the rest, and it keeps 11 bits of the activations where a bf16 mma would keep 8.
 *   INT8G   w = half(d q)            INT4G   w = half(d q + m), one fma
 * Against f64 sums of the file's weights and the f32 activations, with S = sum |w x|:
 *   |error| <= (2^-11 (x) + 2^-11 (w: INT8G INT4G) + 2^-24 k) S + what is below the halves' range:
 *   2^-25 f16_scale sum |w| + 2^-25 sum |x|.
 *
 * COLUMNS Inside an mma the order of k is free as long as both operands agree: slots 2t, 2t+1 and
 *         2t+8, 2t+9 of a lane hold columns 4t, 4t+1 and 4t+2, 4t+3 of the 16. A lane's share is
 *         then contiguous: 8 bytes of halves, 4 bytes of INT8G, and the word of an INT4G block
 *         serves two mma (low and high nibbles). Blocks of 32 columns go by as two mma.
 *
 * THREADS A warp: MT fragments of 16 outputs x NT fragments of 8 rows. Loads of 8 bytes a lane; the
 *         unpacked weights of a fragment serve NT mma.
 *
 * BOUND   Weights once a CTA column, bytes as in linear_cuda.h; with R rows 2 R operations a weight
 *         at the f16 rate: T4 65, A10G 70, L4 121, L40S 362, A100 312, H200 990 TFLOP/s by data
 *         sheet (on sm_90 mma reaches part of it: the rest needs wgmma). Rows where arithmetic
 *         passes streaming, F16 | INT8G | INT4G: T4 203|103|54, A10G 117|59|31, L4 403|205|107,
 *         L40S 419|213|111, A100 153|78|41, H200 206|105|55. Unpacking costs 2.5 (INT8G), 2 (INT4G)
 *         and 3 (BF16) instructions a fragment register, spread over NT mma. Nothing was timed. */
#pragma once
#include "kernels/linear/gemm.cuh"

static __device__ __forceinline__ uint32_t gemm_bits(__half2 v)
{
    uint32_t bits;
    memcpy(&bits, (const void *)&v, 4);
    return bits;
}
static __device__ __forceinline__ __half2 gemm_halves(uint32_t bits)
{
    __half2 v;
    memcpy((void *)&v, &bits, 4);
    return v;
}

/* Factors of one row of weights in a chunk: w = d q + m. */
struct gemm_group {
    __half2 d, m;
};

template <class T>
static __device__ __forceinline__ gemm_group gemm_group_of(const uint8_t *stage, int row, int chunk)
{
    gemm_group out = {gemm_halves(0), gemm_halves(0)};
    const int group = chunk * T::BK / 128;
    if constexpr (T::FORMAT == BT_FORMAT_INT8G) {
        __half d;
        memcpy((void *)&d, stage + T::at(1) + row * 16 + group % 8 * 2, 2);
        out.d = __half2half2(d);
    } else if constexpr (T::FORMAT == BT_FORMAT_INT4G) {
        __half2 both = gemm_halves(bt_load4(stage + T::at(1) + row * 16 + group % 4 * 4));
        out.d = __half2half2(__low2half(both));
        out.m = __half2half2(__high2half(both));
    }
    return out;
}

/* Bytes u of v, 0..255, as 1024 + u in two pairs of halves: 0x6400 is 1024, its last place 1. */
static __device__ __forceinline__ void gemm_widen(uint32_t v, __half2 out[2])
{
    out[0] = gemm_halves(__byte_perm(v, 0x64646464u, 0x4140));
    out[1] = gemm_halves(__byte_perm(v, 0x64646464u, 0x4342));
}

/* Row `row`, the lane's four columns of each 16 of block kb: w[h][0], w[h][1]. */
template <class T>
static __device__ __forceinline__ void gemm_row_block(const uint8_t *stage, int row, int kb, int t,
                                                      const gemm_group &group, uint32_t w[2][2])
{
    constexpr int PIECES = T::segment(0) / 16;
    const uint8_t *line = stage + row * T::segment(0);
    const int swizzle = gemm_swizzle(PIECES, T::W_WIDE, row);
    if constexpr (T::FORMAT == BT_FORMAT_INT4G) {
        uint32_t v = bt_load4(line + (kb ^ swizzle) * 16 + t * 4);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            __half2 q[2];
            gemm_widen(v >> 4 * h & 0x0F0F0F0Fu, q);
#pragma unroll
            for (int i = 0; i < 2; i++)
                w[h][i] =
                    gemm_bits(__hfma2(__hsub2(q[i], __float2half2_rn(1024.0f)), group.d, group.m));
        }
    } else if constexpr (T::FORMAT == BT_FORMAT_INT8G) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            uint32_t v = bt_load4(line + ((kb * 2 + h) ^ swizzle) * 16 + t * 4);
            __half2 q[2];
            gemm_widen(v ^ 0x80808080u, q); // q + 128
#pragma unroll
            for (int i = 0; i < 2; i++)
                w[h][i] = gemm_bits(__hmul2(__hsub2(q[i], __float2half2_rn(1152.0f)), group.d));
        }
    } else {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            uint2 v = bt_load8(line + ((kb * 4 + h * 2 + t / 2) ^ swizzle) * 16 + t % 2 * 8);
            w[h][0] = v.x;
            w[h][1] = v.y;
            if constexpr (T::FORMAT == BT_FORMAT_BF16)
#pragma unroll
                for (int i = 0; i < 2; i++)
                    w[h][i] = gemm_bits(__floats2half2_rn(__uint_as_float(w[h][i] << 16),
                                                          __uint_as_float(w[h][i] & 0xFFFF0000u)));
        }
    }
}

template <class T>
static __device__ __forceinline__ void
gemm_chunk(const uint8_t *stage, int chunk, const gemm_place<T> &at, float (&acc)[T::MT][T::NT][4])
{
#pragma unroll 1 // unrolled, the loads of both blocks are hoisted and registers run out
    for (int kb = 0; kb < T::BLOCKS; kb++) {
        uint32_t b[2][T::NT][2];
#pragma unroll
        for (int nt = 0; nt < T::NT; nt++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                int row = at.wn + nt * 8 + at.g, piece = kb * 4 + h * 2 + at.t / 2;
                uint2 v = bt_load8(stage + T::X_AT + row * 128 +
                                   (piece ^ gemm_swizzle(8, T::X_WIDE, row)) * 16 + at.t % 2 * 8);
                b[h][nt][0] = v.x;
                b[h][nt][1] = v.y;
            }
#pragma unroll
        for (int mt = 0; mt < T::MT; mt++) {
            const int row = at.wm + mt * 16 + at.g;
            uint32_t low[2][2], high[2][2];
            gemm_row_block<T>(stage, row, kb, at.t, gemm_group_of<T>(stage, row, chunk), low);
            gemm_row_block<T>(stage, row + 8, kb, at.t, gemm_group_of<T>(stage, row + 8, chunk),
                              high);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const uint32_t a[4] = {low[h][0], high[h][0], low[h][1], high[h][1]};
#pragma unroll
                for (int nt = 0; nt < T::NT; nt++) bt_mma_f16(acc[mt][nt], a, b[h][nt]);
            }
        }
    }
}

template <class T>
static __global__ void __launch_bounds__(T::THREADS, T::CTAS) gemm_half_k(gemm_call c)
{
    BT_DYNAMIC_SHARED(uint8_t, shared);
    const gemm_place<T> at;
    float acc[T::MT][T::NT][4] = {};
    gemm_pipeline<T>(c, at, shared, [&](const uint8_t *stage, int chunk) {
        gemm_chunk<T>(stage, chunk, at, acc);
    });
    gemm_store<T>(c, at, acc);
}
