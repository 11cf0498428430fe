/* SPDX-License-Identifier: Apache-2.0 */
/* linear_cuda.h - matrices on a CUDA device: their layout, and y = x w^T (+ bias) over it.
 *
 * LAYOUT "planar row-major". A matrix of n rows (outputs) and k columns (inputs) is one block of
 * device memory: planes one after another, each starting at a multiple of 256 bytes. A plane is
 * row-major; each of its rows is padded with zeros to a multiple of 16 bytes, so every lane may
 * load 16 aligned bytes, and a row can be found by itself (the embedding reads the same block).
 * bt_cuda_planes_of() is the only place that computes offsets.
 *
 *   format  plane 0: quants     plane 1             plane 2          plane 3    bytes / 256 columns
 *   F32     4 k                                                                 1024
 *   F16     2 k                                                                 512
 *   BF16    2 k                                                                 512
 *   Q8_0    k      int8         f16 d per 32                                    272  (file: 272)
 *   Q4_0    k / 2  nibbles      f16 d per 32                                    144  (file: 144)
 *   Q4_K    k / 2  nibbles      {sc, m} u8 per 32   {d, dmin} f16 per 256       148  (file: 144)
 *   Q5_K    k / 2  low nibbles  {sc, m} u8 per 32   {d, dmin} f16 per 256  k/8  180  (file: 176)
 *   Q6_K    k / 2  low nibbles  int8 sc per 16      f16 d per 256          k/4  210  (file: 210)
 *   INT8G   k      int8         f16 d per 128                                   260
 *   INT4G   k / 2  nibbles      {d, m} f16 per 128                              136
 *
 *   w = q                                   F32 F16 BF16
 *   w = d q                                 Q8_0 INT8G
 *   w = d (q - 8)                           Q4_0
 *   w = d sc q - dmin m                     Q4_K Q5_K
 *   w = d sc (q - 32)                       Q6_K
 *   w = d q + m                             INT4G
 *
 * Nibbles: each block of 32 columns is 16 bytes; byte j holds column j in bits 0-3 and column
 * j + 16 in bits 4-7. So the 32-bit word i of a block holds columns 4i .. 4i+3 (low nibbles) and
 * 16+4i .. 16+4i+3 (high nibbles), as __dp4a wants them.
 *
 *   byte:      0      1      2      3    |  4      5      6      7    | ...   15
 *   bits 0-3:  q0     q1     q2     q3   |  q4     q5     q6     q7   |       q15
 *   bits 4-7:  q16    q17    q18    q19  |  q20    q21    q22    q23  |       q31
 *
 * Q5_K, plane 3: a 32-bit word H for each block of 32. Column 4g + b (g 0..7, b 0..3) has its fifth
 * bit at bit 8b + g: ((H >> g) & 0x01010101) << 4 are the high bits of word g's four columns
 * (g < 4: the low nibbles of word g, g >= 4: the high nibbles of word g - 4).
 *
 * Q6_K, plane 3: two 32-bit words a block of 32: H[0] for columns 0..15, H[1] for 16..31. Column
 * 16h + 4i + b (i 0..3) has its upper two bits at bits 8b + 2i, 8b + 2i + 1 of H[h]:
 * ((H[h] >> 2i) & 0x03030303) << 4.
 *
 * ARITHMETIC of one output (bt_cuda_gemv; the GEMM has the same terms in another order):
 *   Q8 activations (kernels/cuda_act.h: q, d_x per 32, s = d_x * sum(q)), all sums of q exact:
 *     Q8_0, Q4_0   acc = fma(float(sum qw q), d_w * d_x, acc)
 *     Q4_K, Q5_K   acc = fma(float(sc * sum qw q), d * d_x, acc); acc = fma(-(dmin * m), s, acc)
 *     Q6_K         acc = fma(float(sc0 * sum_0 + sc1 * sum_1), d * d_x, acc), sum_h over 16 columns
 *   f32 activations:
 *     F32 F16 BF16 acc = fma(w, x, acc)
 *     INT8G        t = the chain of fma(q, x, t) over a lane's 16 columns; acc = fma(d, t, acc)
 *     INT4G        t likewise over 32; acc = fma(d, t, acc); acc = fma(m, sum of those x, acc)
 *   then a fixed tree over lanes, and over the warps that share the output; then the bias; then
 *   y = v, or y = y + v.
 * Against the same terms summed in f64: |error| <= 2^-24 * (k / 32 + 24) * sum |terms| (in INT4G
 * d q x and m x count apart).
 *
 * Every launcher checks shapes, launches on the given stream and returns the launch's status; it
 * neither synchronizes nor allocates. Thread: the device's. Nothing here depends on timing. */
#pragma once
#include "baton/format.h"
#include "kernels/cuda_act.h"
#include "kernels/cuda_props.h"
#include <assert.h>
#include <cuda_runtime_api.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bt_cuda_matrix {
    int32_t format, n, k;
    void *data; // device, 256-byte aligned, bt_cuda_matrix_bytes() long
} bt_cuda_matrix;

enum { BT_CUDA_PLANES = 4, BT_CUDA_PLANE_ALIGN = 256, BT_CUDA_ROW_ALIGN = 16 };

/* Where each plane begins, and the distance of its rows, in bytes. */
typedef struct bt_cuda_planes {
    int32_t count; // 0: no such format or shape
    uint32_t stride[BT_CUDA_PLANES];
    uint64_t offset[BT_CUDA_PLANES];
    uint64_t bytes; // of the whole block, a multiple of 256
} bt_cuda_planes;

/* A weight format of the device is a row here, and the functions that its names stand for: in
 * linear_pack.cu and linear_layout.cuh its way in and out, a struct of gemv_formats.cuh with its
 * instance bt__gemv_LOWER, a place in the GEMM file bt__gemm_FILE.
 * Columns are a multiple of the block; the bytes are of 256 columns in each plane; the kind is of
 * products of many rows (gemm.cuh). */
/* name, lower, block, bytes in planes 0 1 2 3, kind, GEMM file, has a minimum */
#define BT_CUDA_FORMAT_MAP(X)                                                                      \
    X(F32, f32, 1, 1024, 0, 0, 0, F32, f32, false)                                                 \
    X(F16, f16, 1, 512, 0, 0, 0, HALF, half, false)                                                \
    X(BF16, bf16, 1, 512, 0, 0, 0, HALF, half, false)                                              \
    X(Q8_0, q8_0, 32, 256, 16, 0, 0, INT8, q, false)                                               \
    X(Q4_0, q4_0, 32, 128, 16, 0, 0, INT8, q, false)                                               \
    X(Q4_K, q4_k, 256, 128, 16, 4, 0, INT8, k, true)                                               \
    X(Q5_K, q5_k, 256, 128, 16, 4, 32, INT8, k, true)                                              \
    X(Q6_K, q6_k, 256, 128, 16, 2, 64, INT8, k, false)                                             \
    X(INT8G, int8g, 128, 256, 4, 0, 0, HALF, half, false)                                          \
    X(INT4G, int4g, 128, 128, 8, 0, 0, HALF, half, false)

/* Columns must be a multiple of this; 0: no such format. */
static inline int32_t bt_cuda_linear_block(int32_t format)
{
    switch (format) {
#define X(name, lower, block, p0, p1, p2, p3, kind, file, min)                                     \
    case BT_FORMAT_##name: return block;
        BT_CUDA_FORMAT_MAP(X)
#undef X
    default: return 0;
    }
}

/* Bytes that k columns take in plane p, unpadded; 0: the format has no such plane. */
static inline uint64_t bt_cuda_plane_row(int32_t format, int32_t k, int p)
{
    switch (format) {
#define X(name, lower, block, p0, p1, p2, p3, kind, file, min)                                     \
    case BT_FORMAT_##name:                                                                         \
        return (uint64_t)k * (p0 * (p == 0) + p1 * (p == 1) + p2 * (p == 2) + p3 * (p == 3)) / 256;
        BT_CUDA_FORMAT_MAP(X)
#undef X
    default: return 0;
    }
}

static inline bt_cuda_planes bt_cuda_planes_of(int32_t format, int32_t n, int32_t k)
{
    bt_cuda_planes out = {0, {0, 0, 0, 0}, {0, 0, 0, 0}, 0};
    int32_t block = bt_cuda_linear_block(format);
    if (block == 0 || n <= 0 || k <= 0 || k % block || k > 1 << 24) return out;
    for (int p = 0; p < BT_CUDA_PLANES; p++) {
        uint64_t row = bt_cuda_plane_row(format, k, p);
        if (row == 0) break;
        row = (row + BT_CUDA_ROW_ALIGN - 1) / BT_CUDA_ROW_ALIGN * BT_CUDA_ROW_ALIGN;
        out.offset[p] = out.bytes;
        out.stride[p] = (uint32_t)row;
        out.bytes += (row * (uint64_t)n + BT_CUDA_PLANE_ALIGN - 1) / BT_CUDA_PLANE_ALIGN *
                     BT_CUDA_PLANE_ALIGN;
        out.count = p + 1;
    }
    return out;
}

/* True if bt_cuda_linear can multiply by such a matrix: k > 0, a multiple of the format's block. */
bool bt_cuda_linear_supported(int32_t format, int32_t k);
/* A multiple of 256; 0 for a shape that is not supported. */
size_t bt_cuda_matrix_bytes(int32_t format, int32_t n, int32_t k);
/* Fills rows [n0, n0 + rows) of m from rows as a file holds them (bt_format_bytes(format, k) bytes
 * each, no gaps; BT_FORMAT_INT8G and INT4G: the blocks of kernels/quant/quant.h), at device address src
 * of any alignment. Rows may be packed in any order and in pieces. */
cudaError_t bt_cuda_matrix_pack(const bt_cuda_matrix *m, int32_t n0, int32_t rows, const void *src,
                                cudaStream_t s);
/* Dequantizes rows [n0, n0 + rows) to dense [rows, k] at dst (device, 16-byte aligned). f32: exact
 * where the host's bt_dequant_ref is; f16: that value rounded to nearest even. */
cudaError_t bt_cuda_matrix_unpack_f32(const bt_cuda_matrix *m, int32_t n0, int32_t rows, float *dst,
                                      cudaStream_t s);
cudaError_t bt_cuda_matrix_unpack_f16(const bt_cuda_matrix *m, int32_t n0, int32_t rows, void *dst,
                                      cudaStream_t s);

/* Which forms of activations (BT_CUDA_ACT_*) bt_cuda_linear wants for `rows` rows. */
unsigned bt_cuda_linear_act(int32_t format, int32_t rows, bool deterministic);
/* Which form bt_cuda_gemv wants: BT_CUDA_ACT_Q8 or BT_CUDA_ACT_F32. */
unsigned bt_cuda_gemv_act(int32_t format);

typedef struct bt_cuda_linear_args {
    const bt_cuda_matrix *w;
    const bt_cuda_act *act; // of w->k columns, with the forms that bt_cuda_linear_act names
    int32_t rows;
    const float *bias; // [n] device, or NULL
    bool accumulate;   // y += instead of y = (after the bias)
    float *y;          // device, [rows, n] (glu: [rows, n / 2])
    int64_t ldy;       // row stride of y, elements
    bool glu; // w is gate rows, then as many up rows; y[r, j] = silu(gate_j) * up_j for j < n / 2,
              // silu(g) = g / (1 + exp(-g)); no bias, no accumulate
    bool deterministic; // the result of a row is independent of `rows`
    void *scratch;      // device, 256-byte aligned, bt_cuda_linear_scratch() bytes
    size_t scratch_bytes;
    const bt_cuda_props *props;
    struct bt_cuda_blas *blas; // NULL: no cuBLASLt
} bt_cuda_linear_args;

size_t bt_cuda_linear_scratch(int32_t format, int32_t n, int32_t k, int32_t rows_max,
                              const bt_cuda_props *props);
/* Dispatch: few rows by bt_cuda_gemv, more by bt_cuda_gemm, many perhaps dequantized + cuBLASLt. */
cudaError_t bt_cuda_linear(const bt_cuda_linear_args *a, cudaStream_t s);

/* kernels/linear/gemv.cuh has the mechanism. Up to 8 rows read the weights once; more rows are taken 8 at
 * a time. Needs no scratch. Batch-invariant: a row's result is a function of the matrix, its own
 * activations and the device's number of SMs alone.
 *
 * BOUND  A call moves at least the matrix, in the bytes of the table above, and does for each row
 * and 16 bytes of weights: 8 dp4a (4-bit: 32 columns), 4 dp4a (Q8_0), or 4 / 8 / 16 / 32 fma
 * (F32 / F16, BF16 / INT8G / INT4G). Limits by memory alone, in 10^9 weights a second, and the
 * rows at which arithmetic takes over (dp4a and fma issue: 64 lanes an SM and clock, fma 128 on
 * sm_86 sm_89 sm_90), from data-sheet rates; nobody has measured these kernels:
 *
 *            GB/s   Q8_0  Q4_0  Q4_K  Q6_K  F16   INT8G INT4G | Q8_0  4-bit  INT8G INT4G  rows
 *   T4        320    301   569   554   390   160   315   602     |   54     28     12     6
 *   A10G      600    565  1067  1038   731   300   591  1129     |   62     32     29    15
 *   L4        300    282   533   519   366   150   295   565     |  107     56     51    26
 *   L40S      864    813  1536  1495  1053   432   851  1626     |  112     59     53    28
 *   A100     2039   1919  3625  3527  2486  1020  2008  3838     |   20     10      4     2
 *   H200     4800   4518  8533  8303  5851  2400  4726  9035     |   14      7      7     3
 * (so from 3 rows an A100's INT4G is bound by fma, and tensor cores are the better way there.) */
cudaError_t bt_cuda_gemv(const bt_cuda_linear_args *a, cudaStream_t s);
/* 9 rows and more; kernels/linear/gemm.cuh. */
cudaError_t bt_cuda_gemm(const bt_cuda_linear_args *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
