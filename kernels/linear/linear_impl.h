/* SPDX-License-Identifier: Apache-2.0 */
/* linear_impl.h - what linear.c and its variants share: packed layouts, row tiles, kernel table.
 *
 * WEIGHTS  A panel is 32 outputs, stored one after another; the last one is filled up with zeros.
 *
 *   F32, F16, BF16: [k][32], so a vector holds the same k of neighbouring outputs.
 *
 *   Q8_0, Q4_0: one of the structs below for each block of 32 k: quants, then the 32 scales. Four
 *   consecutive k of one output are neighbours (what VPDPBUSD and VPMADDUBSW sum), then come the
 *   outputs: each 32-bit lane is one output, and no sum runs across lanes. A panel is read once, in
 *   address order: the hardware then prefetches better than instructions do (measured on Zen 4,
 *   one thread: 29 GB/s; two interleaved streams 13 GB/s, with prefetch instructions 16).
 *
 *   Q4_K, Q5_K, Q6_K, INT8G, INT4G: kernels/linear/linear_wide.h.
 *
 * ACTIVATIONS  Rows are cut into tiles of nearly equal width w, at most BT__TILE_FLOAT or
 *   BT__TILE_INT8. A tile is contiguous, so it is dense in caches whatever the number of rows.
 *
 *   float: [k][w].
 *
 *   int8: for each block of 32 k: x int8 [w][32], d f32 [w], -8 * sum(x) int32 [w], and
 *   -128 * sum(x) int32 [w]. The sums take out the offsets of unsigned weights: for Q8_0,
 *   sum((q + 128) * x) - 128 * sum(x) = sum(q * x), exactly. */
#pragma once
#include "kernels/cpu_isa.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/linear_wide.h"
#include "kernels/quant/quant.h"

enum {
    BT__TILE_FLOAT = 12,   // 12 rows x 2 vectors of 16 outputs leave 8 of 32 registers
    BT__TILE_INT8 = 6,     // integer and float sums: 6 rows x 2 x 2 leave 8
    BT__ACT_ROW = 32 + 12, // bytes of one row's block of int8 activations
};

typedef struct bt__panel_q8 {
    uint8_t q[8][32][4]; // [group of 4 k][output][k], q + 128
    uint16_t d[32];
} bt__panel_q8;

typedef struct bt__panel_q4 {
    uint8_t q[4][32][4]; // low nibbles: group j, high nibbles: group j + 4
    uint16_t d[32];
} bt__panel_q4;

static_assert(sizeof(bt__panel_q8) == 1088 && sizeof(bt__panel_q4) == 576, "whole cache lines");

/* Each computes one panel for one tile of w rows; acc is f32 [w][32], 64-byte aligned.
 * q8, q4: acc = the sums. dot: acc += the chain's next k terms, so that k may be cut. */
typedef struct bt__linear_kernels {
    void (*q8)(const bt__panel_q8 *panel, int32_t blocks, const uint8_t *act, int32_t w,
               float *acc);
    void (*q4)(const bt__panel_q4 *panel, int32_t blocks, const uint8_t *act, int32_t w,
               float *acc);
    void (*dot_f32)(const void *panel, int32_t k, const float *act, int32_t w, float *acc);
    void (*dot_f16)(const void *panel, int32_t k, const float *act, int32_t w, float *acc);
    void (*dot_bf16)(const void *panel, int32_t k, const float *act, int32_t w, float *acc);
    void (*widen_f16)(const uint16_t *src, size_t n, float *dst);  // n a multiple of 32
    void (*widen_bf16)(const uint16_t *src, size_t n, float *dst); // n a multiple of 32
    void (*widen_sub)(const bt__wide_sub *sub, float *dst);        // dst [32 k][32]
    /* y[r][0..width) = (acc + bias), or y + (acc + bias); bias NULL: none; width <= 32. */
    void (*store)(const float *acc, int32_t w, int32_t width, const float *bias, bool accumulate,
                  float *y, int64_t ldy);
    /* One row's blocks into its place in a tile of w rows, at act. */
    void (*quantize)(const float *x, int32_t blocks, int32_t w, int32_t row, uint8_t *act);
} bt__linear_kernels;

extern const bt__linear_kernels bt__linear_generic;
#if defined(__x86_64__)
extern const bt__linear_kernels bt__linear_avx2, bt__linear_avx512;
#endif

/* Activations below this magnitude count as zero: 127 / amax would leave f32. */
#define BT__AMAX_MIN 0x1p-100f
