/* SPDX-License-Identifier: Apache-2.0 */
/* gemm.cuh - y[r, n] = sum_k x[r, k] w[n, k] for 9 rows and more, on tensor cores.
 *
 * SHAPES  w: any n, k a multiple of the format's block (linear_cuda.h); rows >= 1. Edges are masked
 *         by zero-filled copies, never by reading beyond. Rows of activations that are not whole
 *         16-byte pieces (k of F16, BF16 not a multiple of 8, of F32 of 4) are copied element by
 *         element: slow, for odd models.
 *
 * TILES   A CTA computes BM outputs x BN rows of activations; its warps WM x WN each. Weights are
 *         the mma's A operand (16 outputs a fragment), activations its B operand (8 rows), so that
 *         a few rows waste little. gemm_shape_of() is the table; bt__gemm_plan() chooses.
 *
 * KINDS   int8  Q8_0 Q4_0 Q4_K Q5_K Q6_K with Q8 activations, mma m16n8k32 s8 (gemm_int8.cuh)
 *         half  F16 BF16 INT8G INT4G with F16 activations, mma m16n8k16 f16   (gemm_half.cuh)
 *         f32   F32 with F32 activations, plain fma                           (gemm_f32.cu)
 *         Weights stay packed in shared memory and are unpacked in registers on their way to the
 *         mma: a dequantized copy would double the shared traffic for what takes two or three
 *         integer instructions a fragment register.
 *
 * STAGES  k goes by in chunks of BK columns (128 int8, 64 half). A stage of shared memory holds one
 *         chunk: each plane of the weights row-major, the activations row-major, and their d and s
 *         transposed, [block][row], rows padded by 8. cp.async fills stages ahead (sm_80 and later:
 *         2 to 4 of them, one barrier a chunk); on sm_75 the next chunk waits in registers while
 *         this one is computed, and there are two stages. A plane whose chunk is shorter than 16
 *         bytes (scales) is copied as the aligned 16 bytes that hold it; the neighbours' bytes come
 *         from L2.
 *
 * BANKS   Row r's 16-byte piece p of a quants or activations tile with P pieces a row lies at piece
 *         p ^ gemm_swizzle(P, W, r), where one access reads W neighbouring pieces of each row:
 *         ldmatrix, and words of 16-byte blocks, W = 1 (eight rows at once); 8-byte loads of halves
 *         W = 2 (four rows a half-warp). The pieces of one access then fall into the eight
 *         different groups of four banks: with P >= 8 a row is whole lines of 128 bytes and the
 *         8 / W rows differ in the xor; with P < 8, 8 / P rows share a line at different offsets
 *         and the lines differ in the xor. Scales are 16 bytes a row, rows g = lane / 4 = 0..7 at
 *         one offset: banks 4 g + c, lanes of equal g share the word. Copies write whole rows of
 *         pieces, permuted within a line. d and s: 4-byte copies of four blocks x eight rows go to
 *         banks 8 b + r, all different.
 *
 * ORDER   An output is one chain over k: int8 per block of 32, half per mma of 16 columns, in
 *         ascending order whatever the tile, so that a row's result does not depend on `rows` or on
 *         the tile. Only a split of k changes it: then each split is such a chain and gemm_finish
 *         adds the splits in ascending order. Splits depend on the shape, rows and the device,
 * never on timing; deterministic calls are never split.
 *
 * GLU     Tile rows 16 i + 0..7 are gate rows, 16 i + 8..15 the up rows of the same outputs: a
 *         thread's fragment then holds gate and up of an output, and no exchange is needed.
 *
 * Nothing here has been timed on a GPU. Bounds are derived where the kernels are. */
#pragma once
#include "kernels/cuda_kernel.h"
#include "kernels/cuda_ptx.h"
#include "kernels/linear/linear_cuda.h"
#include <string.h>

#define GEMM_CONST __host__ __device__ constexpr

enum gemm_kind { GEMM_INT8, GEMM_HALF, GEMM_F32, GEMM_KINDS };
enum gemm_tile { GEMM_TILE_16, GEMM_TILE_32, GEMM_TILE_64, GEMM_TILE_128, GEMM_TILES };

struct gemm_shape {
    int bm, bn, wm, wn; // of a CTA and of a warp
    int stages, ctas;   // most stages, least CTAs a multiprocessor (bounds the registers)
};
static GEMM_CONST gemm_shape gemm_shape_of(int tile)
{
    return tile == GEMM_TILE_16   ? gemm_shape{64, 16, 16, 16, 4, 3}
           : tile == GEMM_TILE_32 ? gemm_shape{64, 32, 16, 32, 4, 3}
           : tile == GEMM_TILE_64 ? gemm_shape{64, 64, 32, 32, 3, 2}
                                  : gemm_shape{128, 128, 64, 32, 3, 1};
}
enum { GEMM_SHARED_MAX = 99 * 1024 }; // what sm_86 and sm_89 allow; the table stays within it

/* What linear_cuda.h's rows say. Not of a format that it does not have. */
static GEMM_CONST gemm_kind gemm_kind_of(int format)
{
    switch (format) {
#define X(name, lower, block, p0, p1, p2, p3, kind, file, min)                                     \
    case BT_FORMAT_##name: return GEMM_##kind;
        BT_CUDA_FORMAT_MAP(X)
#undef X
    }
    return GEMM_KINDS;
}

/* Bytes of 256 columns in plane p; 0: no such plane. */
static GEMM_CONST int gemm_plane_bytes(int format, int p)
{
    switch (format) {
#define X(name, lower, block, p0, p1, p2, p3, kind, file, min)                                     \
    case BT_FORMAT_##name: return p == 0 ? p0 : p == 1 ? p1 : p == 2 ? p2 : p3;
        BT_CUDA_FORMAT_MAP(X)
#undef X
    }
    return 0;
}
static GEMM_CONST bool gemm_has_minimum(int format)
{
    switch (format) {
#define X(name, lower, block, p0, p1, p2, p3, kind, file, min)                                     \
    case BT_FORMAT_##name: return min;
        BT_CUDA_FORMAT_MAP(X)
#undef X
    }
    return false;
}

static GEMM_CONST int gemm_columns(int format) // BK
{
    return gemm_kind_of(format) == GEMM_INT8 ? 128 : 64;
}
/* Bytes of plane p's row in a stage. */
static GEMM_CONST int gemm_segment(int format, int p)
{
    int bytes = gemm_plane_bytes(format, p) * gemm_columns(format) / 256;
    return gemm_plane_bytes(format, p) == 0 ? 0 : bytes < 16 ? 16 : bytes;
}
/* Where plane p begins in a stage of bm rows; p = 4: where the activations do. */
static GEMM_CONST int gemm_offset(int format, int bm, int p)
{
    int at = 0;
    for (int i = 0; i < p; i++) at += bm * gemm_segment(format, i);
    return at;
}
static GEMM_CONST int gemm_scales_bytes(int bn) // of d or s in an int8 stage: four blocks
{
    return 4 * (bn + 8) * 4;
}
static GEMM_CONST int gemm_stage_bytes(int format, int tile)
{
    int bn = gemm_shape_of(tile).bn, at = gemm_offset(format, gemm_shape_of(tile).bm, 4) + bn * 128;
    if (gemm_kind_of(format) == GEMM_INT8)
        at += gemm_scales_bytes(bn) * (gemm_has_minimum(format) ? 2 : 1);
    return at;
}
/* Stages with cp.async: as many as the table says and the smallest sm_8x allows. */
static GEMM_CONST int gemm_stages(int format, int tile)
{
    int fit = GEMM_SHARED_MAX / gemm_stage_bytes(format, tile);
    return fit < gemm_shape_of(tile).stages ? fit : gemm_shape_of(tile).stages;
}
static GEMM_CONST int gemm_shared_bytes(int format, int tile, bool async)
{
    return gemm_stage_bytes(format, tile) * (async ? gemm_stages(format, tile) : 2);
}

/* A kernel's parameter: the whole call. */
struct gemm_call {
    const uint8_t *plane[BT_CUDA_PLANES];
    uint32_t stride[BT_CUDA_PLANES];
    const uint8_t *x;       // activations, [rows, k] of int8, half or float
    const float *d, *s;     // int8: [rows, k / 32]
    const float *row_scale; // half: [rows]
    int32_t n, k, rows;
    int32_t chunks_each; // of one split
    const float *bias;
    float *y;
    int64_t ldy;
    float *partial; // [splits, rows, n], or NULL: not split
    bool accumulate, glu, async;
    bool ragged; // rows of x are not whole 16-byte pieces
};

struct gemm_plan {
    int tile, splits;
};
struct gemm_finish_args {
    const float *partial; // [splits, rows, n]
    const float *row_scale, *bias;
    int32_t splits, rows, n;
    bool glu, accumulate;
    float *y;
    int64_t ldy;
};

extern "C" {
/* The tile and the number of splits for a call; needs no device. */
gemm_plan bt__gemm_plan(int format, int n, int k, int rows, bool deterministic,
                        const bt_cuda_props *props);
/* One launch each; they check nothing. */
typedef cudaError_t gemm_entry(const gemm_call *c, int format, gemm_plan plan, cudaStream_t s);
gemm_entry bt__gemm_q, bt__gemm_k, bt__gemm_half, bt__gemm_f32;
/* y from partial sums: adds the splits in order, scales rows, then bias, GLU, accumulation. */
cudaError_t bt__gemm_finish(const gemm_finish_args *f, cudaStream_t s);
}

static __device__ __forceinline__ float gemm_silu(float g)
{
    return g / (1.0f + expf(-g));
}

/* ---------------------------------------------------------------------- places */

static GEMM_CONST int gemm_swizzle(int pieces, int wide, int row)
{
    return pieces >= 8 ? row % (8 / wide) * wide
                       : row / (8 / pieces) % (pieces > wide ? pieces / wide : 1) * wide;
}

template <int FORMAT_, int TILE_> struct gemm_traits {
    static constexpr int FORMAT = FORMAT_, TILE = TILE_;
    static constexpr gemm_kind KIND = gemm_kind_of(FORMAT);
    static constexpr int BM = gemm_shape_of(TILE).bm, BN = gemm_shape_of(TILE).bn;
    static constexpr int WM = gemm_shape_of(TILE).wm, WN = gemm_shape_of(TILE).wn;
    static constexpr int MT = WM / 16, NT = WN / 8, WARPS_N = BN / WN;
    static constexpr int THREADS = BM / WM * WARPS_N * 32, CTAS = gemm_shape_of(TILE).ctas;
    static constexpr int BK = gemm_columns(FORMAT), BLOCKS = BK / 32;
    static constexpr int STAGES = gemm_stages(FORMAT, TILE);
    static constexpr int STAGE_BYTES = gemm_stage_bytes(FORMAT, TILE);
    static constexpr bool MINIMUM = gemm_has_minimum(FORMAT);
    static constexpr int X_SIZE = KIND == GEMM_INT8 ? 1 : 2, X_WIDE = X_SIZE;
    static constexpr int W_WIDE = gemm_plane_bytes(FORMAT, 0) == 512 ? 2 : 1;
    static constexpr int X_AT = gemm_offset(FORMAT, BM, 4), D_AT = X_AT + BN * 128;
    static constexpr int S_AT = D_AT + gemm_scales_bytes(BN), D_LD = BN + 8;
    static GEMM_CONST int at(int p) { return gemm_offset(FORMAT, BM, p); }
    static GEMM_CONST int segment(int p) { return gemm_segment(FORMAT, p); }
    static GEMM_CONST int chunk_bytes(int p) { return gemm_plane_bytes(FORMAT, p) * BK / 256; }
    /* Copies of one thread for `total` of a tile. */
    static GEMM_CONST int slots(int total) { return (total + THREADS - 1) / THREADS; }
    static GEMM_CONST int plane_slots(int p) { return slots(BM * segment(p) / 16); }
    static constexpr int SCALE_SLOTS = slots(BN * BLOCKS);
    static_assert(BK * X_SIZE == 128 && NT % 2 == 0 && STAGES >= 2, "the tile table");
};

/* Where this CTA and this thread are. */
template <class T> struct gemm_place {
    int n0, r0, wm, wn, g, t; // g = lane / 4, t = lane % 4
    __device__ __forceinline__ gemm_place()
    {
        int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
        r0 = (int)blockIdx.x * T::BN;
        n0 = (int)blockIdx.y * T::BM;
        wm = warp / T::WARPS_N * T::WM;
        wn = warp % T::WARPS_N * T::WN;
        g = lane / 4;
        t = lane % 4;
    }
};

/* The matrix's row at row i of the tile; -1: none. */
static __device__ __forceinline__ int gemm_row(const gemm_call &c, int n0, int i)
{
    if (!c.glu) return n0 + i < c.n ? n0 + i : -1;
    int j = n0 / 2 + i / 16 * 8 + i % 8;
    return j >= c.n / 2 ? -1 : i & 8 ? j + c.n / 2 : j;
}

/* ---------------------------------------------------------------------- copies
 * The visitors call copy(slot, offset in the stage, source, valid) for each copy that this thread
 * makes of a chunk; slots are constants after unrolling, so what sm_75 holds stays in registers. */

template <class T, int P, class F>
static __device__ __forceinline__ void gemm_visit_plane(const gemm_call &c, int n0, int chunk,
                                                        int base, F &copy)
{
    constexpr int PIECES = T::segment(P) / 16, TOTAL = T::BM * PIECES;
    const uint32_t from = (uint32_t)(chunk * T::chunk_bytes(P)) / 16 * 16;
#pragma unroll
    for (int i = 0; i < T::slots(TOTAL); i++) {
        int index = (int)threadIdx.x + i * T::THREADS;
        if (TOTAL % T::THREADS != 0 && index >= TOTAL) continue;
        int row = index / PIECES, piece = index % PIECES, m = gemm_row(c, n0, row);
        uint32_t byte = from + (uint32_t)piece * 16;
        bool valid = m >= 0 && byte < c.stride[P];
        int put = P == 0 ? piece ^ gemm_swizzle(PIECES, T::W_WIDE, row) : piece;
        copy(base + i, T::at(P) + row * T::segment(P) + put * 16,
             c.plane[P] + (valid ? (size_t)m * c.stride[P] + byte : 0), valid);
    }
}

template <class T, class F>
static __device__ __forceinline__ void gemm_visit_x(const gemm_call &c, int r0, int chunk, int base,
                                                    F &copy)
{
    constexpr int TOTAL = T::BN * 8;
    const int row_bytes = c.k * T::X_SIZE;
#pragma unroll
    for (int i = 0; i < T::slots(TOTAL); i++) {
        int index = (int)threadIdx.x + i * T::THREADS, row = index / 8, piece = index % 8;
        if (TOTAL % T::THREADS != 0 && index >= TOTAL) continue;
        int byte = chunk * 128 + piece * 16;
        bool valid = r0 + row < c.rows && byte < row_bytes;
        copy(base + i, T::X_AT + row * 128 + (piece ^ gemm_swizzle(8, T::X_WIDE, row)) * 16,
             c.x + (valid ? (size_t)(r0 + row) * (size_t)row_bytes + (size_t)byte : 0), valid);
    }
}

/* The activations of a chunk, half by half. */
template <class T>
static __device__ __forceinline__ void gemm_copy_ragged(const gemm_call &c, int r0, int chunk,
                                                        uint8_t *stage)
{
    const uint16_t *x = (const uint16_t *)c.x;
#pragma unroll 1
    for (int index = (int)threadIdx.x; index < T::BN * T::BK; index += T::THREADS) {
        int row = index / T::BK, column = index % T::BK, k = chunk * T::BK + column;
        bool valid = r0 + row < c.rows && k < c.k;
        uint8_t *line = stage + T::X_AT + row * 128;
        int piece = column / 8 ^ gemm_swizzle(8, T::X_WIDE, row);
        uint16_t *to = (uint16_t *)(line + piece * 16 + column % 8 * 2);
        *to = valid ? x[(size_t)(r0 + row) * (size_t)c.k + (size_t)k] : (uint16_t)0;
    }
}

template <class T, class F>
static __device__ __forceinline__ void gemm_visit_scales(const gemm_call &c, const float *from,
                                                         int at, int r0, int chunk, int base,
                                                         F &copy)
{
    constexpr int TOTAL = T::BN * T::BLOCKS;
    const int blocks = c.k / 32;
#pragma unroll
    for (int i = 0; i < T::SCALE_SLOTS; i++) {
        int index = (int)threadIdx.x + i * T::THREADS, row = index / T::BLOCKS;
        if (TOTAL % T::THREADS != 0 && index >= TOTAL) continue;
        int b = index % T::BLOCKS, block = chunk * T::BLOCKS + b;
        bool valid = r0 + row < c.rows && block < blocks;
        copy(base + i, at + (b * T::D_LD + row) * 4,
             from + (valid ? (size_t)(r0 + row) * (size_t)blocks + (size_t)block : 0), valid);
    }
}

template <class T> static GEMM_CONST int gemm_slots_wide()
{
    return T::plane_slots(0) + T::plane_slots(1) + T::plane_slots(2) + T::plane_slots(3) +
           T::slots(T::BN * 8);
}

template <class T, class WIDE, class WORD>
static __device__ __forceinline__ void gemm_visit(const gemm_call &c, const gemm_place<T> &at,
                                                  int chunk, WIDE wide, WORD word)
{
    constexpr int S1 = T::plane_slots(0), S2 = S1 + T::plane_slots(1), S3 = S2 + T::plane_slots(2),
                  SX = S3 + T::plane_slots(3);
    gemm_visit_plane<T, 0>(c, at.n0, chunk, 0, wide);
    if constexpr (T::segment(1) > 0) gemm_visit_plane<T, 1>(c, at.n0, chunk, S1, wide);
    if constexpr (T::segment(2) > 0) gemm_visit_plane<T, 2>(c, at.n0, chunk, S2, wide);
    if constexpr (T::segment(3) > 0) gemm_visit_plane<T, 3>(c, at.n0, chunk, S3, wide);
    if (T::KIND == GEMM_INT8 || !c.ragged) gemm_visit_x<T>(c, at.r0, chunk, SX, wide);
    if constexpr (T::KIND == GEMM_INT8) {
        gemm_visit_scales<T>(c, c.d, T::D_AT, at.r0, chunk, 0, word);
        if constexpr (T::MINIMUM)
            gemm_visit_scales<T>(c, c.s, T::S_AT, at.r0, chunk, T::SCALE_SLOTS, word);
    }
}

/* ---------------------------------------------------------------------- pipeline */

static __device__ __forceinline__ bool gemm_async(const gemm_call &c)
{
#ifdef BT_EMULATED
    return c.async;
#else
    (void)c;
    return bt_has_cp_async();
#endif
}

template <class T, class COMPUTE>
static __device__ __forceinline__ void gemm_pipeline_async(const gemm_call &c,
                                                           const gemm_place<T> &at, uint8_t *shared,
                                                           int first, int last, COMPUTE &compute)
{
    auto fill = [&](int chunk, int slot) {
        uint8_t *stage = shared + slot * T::STAGE_BYTES;
        if (chunk < last)
            gemm_visit<T>(
                c, at, chunk,
                [&](int, int to, const void *from, bool valid) {
                    bt_cp_async16(stage + to, from, valid);
                },
                [&](int, int to, const void *from, bool valid) {
                    bt_cp_async4(stage + to, from, valid);
                });
        if (T::KIND == GEMM_HALF && c.ragged && chunk < last)
            gemm_copy_ragged<T>(c, at.r0, chunk, stage);
        bt_cp_async_commit();
    };
    for (int i = 0; i < T::STAGES - 1; i++) fill(first + i, i);
    int slot = 0, ahead = T::STAGES - 1;
    for (int chunk = first; chunk < last; chunk++) {
        bt_cp_async_wait<T::STAGES - 2>();
        __syncthreads(); // this chunk is there for all, and the last one's stage is free
        fill(chunk + T::STAGES - 1, ahead);
        compute(shared + slot * T::STAGE_BYTES, chunk);
        slot = slot + 1 == T::STAGES ? 0 : slot + 1;
        ahead = ahead + 1 == T::STAGES ? 0 : ahead + 1;
    }
}

template <class T, class COMPUTE>
static __device__ __forceinline__ void gemm_pipeline_held(const gemm_call &c,
                                                          const gemm_place<T> &at, uint8_t *shared,
                                                          int first, int last, COMPUTE &compute)
{
    uint4 wide[gemm_slots_wide<T>()];
    uint32_t words[T::SCALE_SLOTS * 2];
    auto fetch = [&](int chunk) {
        gemm_visit<T>(
            c, at, chunk,
            [&](int i, int, const void *from, bool valid) {
                wide[i] = valid ? bt_load16(from) : make_uint4(0, 0, 0, 0);
            },
            [&](int i, int, const void *from, bool valid) {
                words[i] = valid ? bt_load4(from) : 0;
            });
    };
    auto put = [&](int chunk, uint8_t *stage) {
        gemm_visit<T>(
            c, at, chunk,
            [&](int i, int to, const void *, bool) { bt_store16(stage + to, wide[i]); },
            [&](int i, int to, const void *, bool) { bt_store4(stage + to, words[i]); });
        if (T::KIND == GEMM_HALF && c.ragged) gemm_copy_ragged<T>(c, at.r0, chunk, stage);
    };
    fetch(first);
    put(first, shared);
    for (int chunk = first; chunk < last; chunk++) {
        int slot = (chunk - first) & 1;
        __syncthreads(); // this chunk is there for all, and the other stage is free
        if (chunk + 1 < last) fetch(chunk + 1);
        compute(shared + slot * T::STAGE_BYTES, chunk);
        if (chunk + 1 < last) put(chunk + 1, shared + (1 - slot) * T::STAGE_BYTES);
    }
}

/* Calls compute(stage, chunk) for this CTA's chunks in ascending order. */
template <class T, class COMPUTE>
static __device__ __forceinline__ void gemm_pipeline(const gemm_call &c, const gemm_place<T> &at,
                                                     uint8_t *shared, COMPUTE compute)
{
    int chunks = (c.k + T::BK - 1) / T::BK, first = (int)blockIdx.z * c.chunks_each;
    int last = first + c.chunks_each < chunks ? first + c.chunks_each : chunks;
    if (gemm_async(c))
        gemm_pipeline_async<T>(c, at, shared, first, last, compute);
    else
        gemm_pipeline_held<T>(c, at, shared, first, last, compute);
}

/* ---------------------------------------------------------------------- results */

/* The sums of tile rows i and i + 8 and activation row r. */
static __device__ __forceinline__ void gemm_put(const gemm_call &c, int n0, int i, int r, float v0,
                                                float v1)
{
    int m0 = gemm_row(c, n0, i), m1 = gemm_row(c, n0, i + 8);
    if (r >= c.rows || m0 < 0) return;
    if (c.partial) {
        float *p = c.partial + ((size_t)blockIdx.z * (size_t)c.rows + (size_t)r) * (size_t)c.n;
        p[m0] = v0;
        if (m1 >= 0) p[m1] = v1;
        return;
    }
    float *y = c.y + r * c.ldy;
    if (c.row_scale) {
        float scale = c.row_scale[r];
        v0 *= scale;
        v1 *= scale;
    }
    if (c.glu) {
        y[m0] = gemm_silu(v0) * v1;
        return;
    }
    if (c.bias) v0 += c.bias[m0];
    y[m0] = c.accumulate ? y[m0] + v0 : v0;
    if (m1 < 0) return;
    if (c.bias) v1 += c.bias[m1];
    y[m1] = c.accumulate ? y[m1] + v1 : v1;
}

template <class T>
static __device__ __forceinline__ void gemm_store(const gemm_call &c, const gemm_place<T> &at,
                                                  const float (&acc)[T::MT][T::NT][4])
{
#pragma unroll
    for (int nt = 0; nt < T::NT; nt++)
#pragma unroll
        for (int e = 0; e < 2; e++)
#pragma unroll
            for (int mt = 0; mt < T::MT; mt++)
                gemm_put(c, at.n0, at.wm + mt * 16 + at.g, at.r0 + at.wn + nt * 8 + at.t * 2 + e,
                         acc[mt][nt][e], acc[mt][nt][2 + e]);
}

/* ---------------------------------------------------------------------- launch */

template <class T>
static cudaError_t gemm_launch(void (*kernel)(gemm_call), const gemm_call &c, int splits,
                               cudaStream_t s)
{
    dim3 grid((unsigned)((c.rows + T::BN - 1) / T::BN), (unsigned)((c.n + T::BM - 1) / T::BM),
              (unsigned)splits);
    return bt_launch(kernel, grid, dim3(T::THREADS),
                     (size_t)gemm_shared_bytes(T::FORMAT, T::TILE, c.async), s, c);
}
