/* SPDX-License-Identifier: Apache-2.0 */
/* linear_impl.h - what the parts of the linear family share: packed layouts, row tiles, and the
 * table of weight formats.
 *
 * WEIGHTS  A panel is 32 outputs, stored one after another; the last one is filled up with zeros.
 *
 *   F32, F16, BF16: [k][32], so a vector holds the same k of neighbouring outputs.
 *
 *   Block formats (kernels/quant/forms.h), for each of the format's blocks:
 *
 *     d [32]        16 bits each, as in the file
 *     m [32]        if there is a minimum
 *     for each 32 k: sc [1 or 2][32], then min [32] where 32 k have one (bytes); where 16 k have
 *                   one, it is in bits 4-7 of its scale's byte
 *     for each 32 k: quants, in parts of [..][32 outputs][4 consecutive k], where group g of the
 *                   block has k = 4g .. 4g + 3:
 *                     8 bits  [8]: group g
 *                     4 bits  [4]: bits 0-3 group 2j, bits 4-7 group 2j + 1 of part j
 *                     2 bits  [2]: bits 2t, 2t + 1 group 4u + t of part u
 *                     1 bit   [1]: bit g group g
 *                   where 3 is 2 + 1 bits, the lower ones first, 5 is 4 + 1, and 6 is 4 + 2
 *
 *   Four consecutive k of one output are neighbours (what VPDPBUSD and VPMADDUBSW sum), then come
 *   the outputs: each 32-bit lane is one output, and no sum runs across lanes. A panel is read
 *   once, in address order: the hardware then prefetches better than instructions do (measured on
 *   Zen 4, one thread: 29 GB/s; two interleaved streams 13 GB/s, with prefetch instructions 16).
 *
 * ACTIVATIONS  Rows are cut into tiles of nearly equal width w, at most BT__TILE_FLOAT or
 *   BT__TILE_INT8. A tile is contiguous, so it is dense in caches whatever the number of rows.
 *
 *   float: [k][w].
 *
 *   int8: for each block of 32 k: x int8 [w][32], then a vector [w] of each of these, 4 bytes each.
 *   They take out the offsets of unsigned quants exactly (sum((q + 128) * x) - 128 * sum(x) =
 *   sum(q * x)) and multiply the minimums:
 *     d     f32
 *     -8 * sum(x), -128 * sum(x)   int32
 *     s     f32, d * sum(x)
 *     pairs of k < 16, of k >= 16  two int16: the sums of x where k % 4 is 0, 1 and where it is 2, 3
 */
#pragma once
#include "kernels/cpu_isa.h"
#include "kernels/linear/linear.h"
#include "kernels/quant/forms.h"

enum {
    BT__TILE_FLOAT = 12,   // 12 rows x 2 vectors of 16 outputs leave 8 of 32 registers
    BT__TILE_INT8 = 6,     // integer and float sums: 6 rows x 2 x 2 leave 8
    BT__ACT_ROW = 32 + 24, // bytes of one row's block of int8 activations
    BT__ISAS = BT_ISA_AVX512 + 1,
};

/* Where the vectors of a tile's block are; each is [w]. */
enum bt__act_at {
    BT__ACT_D = 32,
    BT__ACT_SUM8 = 36,
    BT__ACT_SUM128 = 40,
    BT__ACT_S = 44,
    BT__ACT_PAIRS = 48, // and + 4
};

/* Activations below this magnitude count as zero: 127 / amax would leave f32. */
#define BT__AMAX_MIN 0x1p-100f

/* Bytes of scales and minimums that 32 k of one output have in a panel. */
static inline int bt__panel_scales(const bt_form *f)
{
    return f->scales + (f->min == BT_MIN_32);
}

/* Bytes of a block of a panel before its quants, and with them. */
static inline int bt__panel_head(const bt_form *f)
{
    return (f->min ? 128 : 64) + f->blocks * bt__panel_scales(f) * 32;
}

static inline int bt__panel_block(const bt_form *f)
{
    return bt__panel_head(f) + f->blocks * f->bits * 128;
}

/* What goes with the 32 int8 of a row's block, into its place in a tile of w rows. pairs: of k < 16,
 * then of the others. */
static inline void bt__act_put(uint8_t *act, int32_t w, int32_t row, float d, int32_t sum,
                               const int16_t pairs[4])
{
    int32_t sum8 = -8 * sum, sum128 = -128 * sum;
    float s = d * (float)sum;
    uint8_t *to = act + (size_t)row * 4;
    size_t rows = (size_t)w;
    memcpy(to + rows * BT__ACT_D, &d, 4);
    memcpy(to + rows * BT__ACT_SUM8, &sum8, 4);
    memcpy(to + rows * BT__ACT_SUM128, &sum128, 4);
    memcpy(to + rows * BT__ACT_S, &s, 4);
    memcpy(to + rows * BT__ACT_PAIRS, pairs, 4);
    memcpy(to + rows * (BT__ACT_PAIRS + 4), pairs + 2, 4);
}

/* One panel for one tile of w rows: acc += the terms of the next k, in order; acc is f32 [w][32],
 * 64-byte aligned. */
typedef void (*bt__dot_fn)(const void *panel, int32_t k, const void *act, int32_t w, float *acc);
typedef void (*bt__widen_fn)(const uint16_t *src, size_t n, float *dst); // n a multiple of 32
/* `lanes` rows of a file to one panel, which is zero where there are fewer than 32. */
typedef void (*bt__pack_fn)(const uint8_t *rows, int32_t k, int32_t lanes, void *panel);

typedef enum bt__act_kind { BT__ACT_FLOAT, BT__ACT_INT8 } bt__act_kind;

/* A weight format. */
typedef struct bt__linear_row {
    int32_t format, block; // k of a block
    size_t block_bytes;    // in a panel
    bt__act_kind kind;
    bt__pack_fn pack;
    bt__dot_fn dot[BT__ISAS];
    bt__widen_fn widen[BT__ISAS]; // 16-bit floats that meet many rows go through f32; else NULL
} bt__linear_row;

/* NULL: there is none. */
const bt__linear_row *bt__linear_row_of(int32_t format);

/* What formats have in common in one instruction set. */
typedef struct bt__linear_isa {
    /* y[r][0..width) = (acc + bias), or y + (acc + bias); bias NULL: none; width <= 32. */
    void (*store)(const float *acc, int32_t w, int32_t width, const float *bias, bool accumulate,
                  float *y, int64_t ldy);
    /* One row's blocks into its place in a tile of w rows, at act. */
    void (*quantize)(const float *x, int32_t blocks, int32_t w, int32_t row, uint8_t *act);
} bt__linear_isa;

extern const bt__linear_isa bt__linear_generic;
void bt__pack_16(const uint8_t *rows, int32_t k, int32_t lanes, void *panel);
void bt__pack_32(const uint8_t *rows, int32_t k, int32_t lanes, void *panel);

/* Kernels by name: bt__ISA_FORMAT. */
#define BT__DOTS(isa)                                                                              \
    void bt__##isa##_f32(const void *panel, int32_t k, const void *act, int32_t w, float *acc);    \
    void bt__##isa##_f16(const void *panel, int32_t k, const void *act, int32_t w, float *acc);    \
    void bt__##isa##_bf16(const void *panel, int32_t k, const void *act, int32_t w, float *acc);   \
    void bt__##isa##_widen_f16(const uint16_t *src, size_t n, float *dst);                         \
    void bt__##isa##_widen_bf16(const uint16_t *src, size_t n, float *dst);
BT__DOTS(generic)
#define X(name, ...)                                                                               \
    void bt__pack_##name(const uint8_t *rows, int32_t k, int32_t lanes, void *panel);              \
    void bt__generic_##name(const void *panel, int32_t k, const void *act, int32_t w, float *acc);
BT_QUANT_FORMS(X)
#undef X
#if defined(__x86_64__)
extern const bt__linear_isa bt__linear_avx2, bt__linear_avx512;
BT__DOTS(avx2)
BT__DOTS(avx512)
#define X(name, ...)                                                                               \
    void bt__avx2_##name(const void *panel, int32_t k, const void *act, int32_t w, float *acc);    \
    void bt__avx512_##name(const void *panel, int32_t k, const void *act, int32_t w, float *acc);
BT_QUANT_FORMS(X)
#undef X
#endif
#undef BT__DOTS
