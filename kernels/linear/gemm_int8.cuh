/* SPDX-License-Identifier: Apache-2.0 */
/* gemm_int8.cuh - the GEMM of block-quantized weights on int8 tensor cores.
 *
 * ARITHMETIC of an output, blocks of 32 columns in ascending order, all sums of q exact in int32:
 *   Q8_0 Q4_0  acc = fma(float(sum qw q), d_w * d_x, acc)
 *   Q4_K Q5_K  acc = fma(float(sum qw q), (d * sc) * d_x, acc); acc = fma(-(dmin * m), s, acc)
 *              (d * sc and dmin * m are exact in f32: 11 bits times 6)
 *   Q6_K       acc = fma(float(sc0 * sum_0 + sc1 * sum_1), d * d_x, acc): the halves of 16 columns
 *              are two m16n8k16, and their scaled sum stays below 2^24, so f32 holds it exactly
 * Against these lines in C: |error| <= 1e-6 sum |terms| (they agree bit for bit where the compiler
 * keeps each rounding). Against f64 sums of the same terms: 2^-24 (k / 32 + 2) sum |terms|.
 *
 * The int32 accumulators start at 0x4B400000, the bits of 1.5 * 2^23: after the mma the register
 * read as a float is 1.5 * 2^23 + sum, because |sum| <= 32 * 128 * 127 < 2^22, and one subtraction
 * converts it exactly at the full float rate (I2F runs at a quarter or less).
 *
 * THREADS A warp: MT fragments of 16 outputs x NT fragments of 8 rows, MT * NT * 4 accumulators.
 *         Activations come by ldmatrix.x4 (two fragments an instruction), Q8_0 by ldmatrix.x4,
 *         nibbles by ldmatrix.x2: a lane's 32-bit word holds columns 4t.. (low nibbles) and 16+4t..
 *         (high nibbles), which are a[0], a[2] of the mma as they stand.
 *
 * BOUND   Weights once a CTA column: bytes as in linear_cuda.h; with R rows, 2 R operations a
 * weight. An mma of 8192 operations is followed by 3 float operations on each of 128 results (4
 *         with minimums, 6 for Q6_K), so besides the int8 rate there is a float limit:
 *         8192 / (3 * 128) = 21.3 int8 operations a float operation. From data-sheet rates,
 * unmeasured:
 *
 *                     T4    A10G   L4    L40S   A100   H200
 *         int8 TOP/s  130    140   242    733    624   1979   tensor cores
 *         float TOP/s  86    331   323    975    208    715   21.3 * f32 instructions/s (FMA = 1)
 *         so          86    140   242    733    208    715   TOP/s for Q8_0 Q4_0, at best
 *         rows where it passes weight streaming (4-bit: 0.5625 bytes a weight):
 *                     76     66   227    239     29     42
 *         (A100, H200: f16 tensor rates, 312 and 990, are higher; many rows go to cuBLASLt.) */
#pragma once
#include "kernels/linear/gemm.cuh"

static constexpr int32_t GEMM_MAGIC_BITS = 0x4B400000;
static constexpr float GEMM_MAGIC = 12582912.0f; // 1.5 * 2^23

static __device__ __forceinline__ float gemm_sum(int32_t biased)
{
    return __int_as_float(biased) - GEMM_MAGIC;
}
static __device__ __forceinline__ float gemm_half_at(const uint8_t *p)
{
    __half h;
    memcpy((void *)&h, p, 2);
    return __half2float(h);
}

/* Scales of one row of weights and one block: v = the scale of the sum, m = the factor of s. */
struct gemm_scale {
    float v, m;
    float half[2]; // Q6_K: of the two sums of 16 columns
};

template <class T>
static __device__ __forceinline__ gemm_scale gemm_scale_of(const uint8_t *stage, int row, int chunk,
                                                           int kb)
{
    gemm_scale out = {0, 0, {0, 0}};
    const uint8_t *at = stage + T::at(1) + row * 16 + (chunk * T::BLOCKS + kb) % 8 * 2;
    if constexpr (T::FORMAT == BT_FORMAT_Q8_0 || T::FORMAT == BT_FORMAT_Q4_0) {
        out.v = gemm_half_at(at);
    } else if constexpr (T::FORMAT == BT_FORMAT_Q6_K) {
        const uint8_t *super = stage + T::at(2) + row * 16 + chunk * T::BK / 256 % 8 * 2;
        out.v = gemm_half_at(super);
        out.half[0] = (float)(int8_t)at[0];
        out.half[1] = (float)(int8_t)at[1];
    } else {
        const uint8_t *super = stage + T::at(2) + row * 16 + chunk * T::BK / 256 % 4 * 4;
        out.v = gemm_half_at(super) * (float)at[0];
        out.m = -(gemm_half_at(super + 2) * (float)at[1]);
    }
    return out;
}

/* Each byte of v, 0 .. 2 * OFFSET - 1, minus OFFSET as an int8. */
template <uint32_t OFFSET> static __device__ __forceinline__ uint32_t gemm_centre(uint32_t v)
{
    return (v + (0x80u - OFFSET) * 0x01010101u) ^ 0x80808080u;
}

/* Fragment of tile rows row0 .. row0 + 15, block kb of the chunk. */
template <class T>
static __device__ __forceinline__ void gemm_weights(const uint8_t *stage, int row0, int kb, int g,
                                                    int t, uint32_t a[4])
{
    const int lane = g * 4 + t, row = row0 + lane % 16;
    constexpr int PIECES = T::segment(0) / 16;
    const uint8_t *line = stage + row * T::segment(0);
    if constexpr (T::FORMAT == BT_FORMAT_Q8_0) {
        bt_ldmatrix_x4(a, line + ((kb * 2 + lane / 16) ^ gemm_swizzle(PIECES, 1, row)) * 16);
        return;
    }
    uint32_t w[2];
    bt_ldmatrix_x2(w, line + (kb ^ gemm_swizzle(PIECES, 1, row)) * 16);
    a[0] = w[0] & 0x0F0F0F0Fu;
    a[1] = w[1] & 0x0F0F0F0Fu;
    a[2] = w[0] >> 4 & 0x0F0F0F0Fu;
    a[3] = w[1] >> 4 & 0x0F0F0F0Fu;
    if constexpr (T::FORMAT == BT_FORMAT_Q4_0) {
#pragma unroll
        for (int i = 0; i < 4; i++) a[i] = gemm_centre<8>(a[i]);
    } else if constexpr (T::FORMAT == BT_FORMAT_Q5_K) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const uint8_t *high = stage + T::at(3) + (row0 + g + h * 8) * T::segment(3) + kb * 4;
            uint32_t bits = bt_load4(high) >> t;
            a[h] |= (bits & 0x01010101u) << 4;
            a[h + 2] |= (bits >> 4 & 0x01010101u) << 4;
        }
    } else if constexpr (T::FORMAT == BT_FORMAT_Q6_K) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const uint8_t *high = stage + T::at(3) + (row0 + g + h * 8) * T::segment(3) + kb * 8;
            uint2 bits = bt_load8(high);
            a[h] = gemm_centre<32>(a[h] | (bits.x >> (2 * t) & 0x03030303u) << 4);
            a[h + 2] = gemm_centre<32>(a[h + 2] | (bits.y >> (2 * t) & 0x03030303u) << 4);
        }
    }
}

/* Adds one block's terms of a 16 x 8 fragment to its accumulators. */
template <class T>
static __device__ __forceinline__ void gemm_block(float acc[4], const uint32_t a[4],
                                                  const uint32_t b[2], const gemm_scale (&w)[2],
                                                  float2 d, float2 s)
{
    int32_t sum[4] = {GEMM_MAGIC_BITS, GEMM_MAGIC_BITS, GEMM_MAGIC_BITS, GEMM_MAGIC_BITS};
    int32_t more[4] = {GEMM_MAGIC_BITS, GEMM_MAGIC_BITS, GEMM_MAGIC_BITS, GEMM_MAGIC_BITS};
    if constexpr (T::FORMAT == BT_FORMAT_Q6_K) {
        bt_mma_s8_k16(sum, a, b[0]);
        bt_mma_s8_k16(more, a + 2, b[1]);
    } else {
        bt_mma_s8(sum, a, b);
    }
#pragma unroll
    for (int e = 0; e < 4; e++) {
        const gemm_scale &of = w[e / 2];
        float v = gemm_sum(sum[e]), dx = e % 2 ? d.y : d.x;
        if constexpr (T::FORMAT == BT_FORMAT_Q6_K)
            v = fmaf(gemm_sum(more[e]), of.half[1], v * of.half[0]);
        acc[e] = fmaf(v, of.v * dx, acc[e]);
        if constexpr (T::MINIMUM) acc[e] = fmaf(of.m, e % 2 ? s.y : s.x, acc[e]);
    }
}

template <class T>
static __device__ __forceinline__ float2 gemm_pair(const uint8_t *stage, int at, int kb, int column)
{
    uint2 v = bt_load8(stage + at + (kb * T::D_LD + column) * 4);
    return make_float2(__uint_as_float(v.x), __uint_as_float(v.y));
}

template <class T>
static __device__ __forceinline__ void
gemm_chunk(const uint8_t *stage, int chunk, const gemm_place<T> &at, float (&acc)[T::MT][T::NT][4])
{
    const int lane = at.g * 4 + at.t;
#pragma unroll 1 // unrolled, the loads of all blocks are hoisted and registers run out
    for (int kb = 0; kb < T::BLOCKS; kb++) {
        uint32_t b[T::NT][2];
        float2 d[T::NT], s[T::NT];
#pragma unroll
        for (int nt = 0; nt < T::NT; nt += 2) {
            int row = at.wn + nt * 8 + lane / 16 * 8 + lane % 8, piece = kb * 2 + lane / 8 % 2;
            uint32_t r[4];
            bt_ldmatrix_x4(r, stage + T::X_AT + row * 128 + (piece ^ gemm_swizzle(8, 1, row)) * 16);
            b[nt][0] = r[0];
            b[nt][1] = r[1];
            b[nt + 1][0] = r[2];
            b[nt + 1][1] = r[3];
        }
#pragma unroll
        for (int nt = 0; nt < T::NT; nt++) {
            int column = at.wn + nt * 8 + at.t * 2;
            d[nt] = gemm_pair<T>(stage, T::D_AT, kb, column);
            s[nt] = T::MINIMUM ? gemm_pair<T>(stage, T::S_AT, kb, column) : make_float2(0, 0);
        }
#pragma unroll
        for (int mt = 0; mt < T::MT; mt++) {
            uint32_t a[4];
            gemm_weights<T>(stage, at.wm + mt * 16, kb, at.g, at.t, a);
            const gemm_scale w[2] = {
                gemm_scale_of<T>(stage, at.wm + mt * 16 + at.g, chunk, kb),
                gemm_scale_of<T>(stage, at.wm + mt * 16 + at.g + 8, chunk, kb)};
#pragma unroll
            for (int nt = 0; nt < T::NT; nt++)
                gemm_block<T>(acc[mt][nt], a, b[nt], w, d[nt], s[nt]);
        }
    }
}

template <class T>
static __global__ void __launch_bounds__(T::THREADS, T::CTAS) gemm_int8_k(gemm_call c)
{
    BT_DYNAMIC_SHARED(uint8_t, shared);
    const gemm_place<T> at;
    float acc[T::MT][T::NT][4] = {};
    gemm_pipeline<T>(c, at, shared, [&](const uint8_t *stage, int chunk) {
        gemm_chunk<T>(stage, chunk, at, acc);
    });
    gemm_store<T>(c, at, acc);
}

template <int FORMAT>
static cudaError_t gemm_int8(const gemm_call &c, gemm_plan plan, cudaStream_t s)
{
#define GEMM_CASE(TILE)                                                                            \
    case TILE: {                                                                                   \
        typedef gemm_traits<FORMAT, TILE> traits;                                                  \
        return gemm_launch<traits>(gemm_int8_k<traits>, c, plan.splits, s);                        \
    }
    switch (plan.tile) {
        GEMM_CASE(GEMM_TILE_16)
        GEMM_CASE(GEMM_TILE_32)
        GEMM_CASE(GEMM_TILE_64)
        GEMM_CASE(GEMM_TILE_128)
    default: return cudaErrorInvalidValue;
    }
#undef GEMM_CASE
}
