/* SPDX-License-Identifier: Apache-2.0 */
/* convert.h - matrices that lie in a file as no device loads them: what they are, and how they are
 * made in host memory while a model is loaded. Private to src/model.
 *
 *   COLUMNS   x[r][c] = q[c][r]                                    gpt2's Conv1D, in floats
 *   HEADS     the same rows in another order                       gpt_neox's query_key_value
 *   SCALED    x = q * scale of its block                           FP8 and int8: one scale in all,
 *             q[r][c] F8_E4M3, F8_E5M2 or I8                       one a row, or blocks (128 x 128)
 *   GPTQ      x = (q - z - 1) * scale[g][r], g = order[c]          q: `bits` wide along c, a column
 *             or c / group; z packed along r                       of words a row; AutoGPTQ
 *   AWQ       x = (q - z) * scale[g][r], g = c / group             4 bits, 8 rows a word in the order
 *                                                                  0 2 4 6 1 3 5 7
 *   PACKED    x = (q - z) * scale[r][g]; both less 2^(bits - 1)    compressed-tensors' w4a16, w8a16
 *   CODES     x = code[q] * scale[i / block], i = r * cols + c     bitsandbytes' nf4 and fp4, high
 *             scale itself may be code2[q2] * scale2 + offset      nibble first
 *   FP4       x = e2m1(q) * scale[r][c / 16] * scale2              NVFP4, low nibble first
 *
 * 4-bit groups of a multiple of 128 become INT4G and int8 becomes INT8G, which keep their numbers; all
 * others become floats. Where scales are so wrong that a number is not finite, the model is refused. */
#pragma once
#include "file/tensor.h"
#include "model/model.h"

typedef enum bt__convert_kind {
    BT__CONVERT_COLUMNS,
    BT__CONVERT_HEADS,
    BT__CONVERT_SCALED,
    BT__CONVERT_GPTQ,
    BT__CONVERT_AWQ,
    BT__CONVERT_PACKED,
    BT__CONVERT_CODES,
    BT__CONVERT_FP4,
} bt__convert_kind;

typedef struct bt__conversion {
    bt_weight *to; // format, rows and cols are set; data becomes ours
    bt__convert_kind kind;
    int32_t first, of;       // the source's row that becomes row 0, and how many rows it has
    const bt_file_tensor *q; // borrowed, as all of these
    const bt_file_tensor *scale, *zero, *order, *code, *scale2, *code2;
    int32_t block_rows, block; // numbers that share a scale: rows and columns, or in a run
    int32_t bits, block2;
    float factor, offset;              // of all scales; added to scales that are codes themselves
    bool plus_one;                     // GPTQ: z is one less than it means
    int32_t head_dim, queries, member; // HEADS: query heads a key head; 0 q, 1 k, 2 v
} bt__conversion;

/* HEADS: the source's row that is row r: for each key head its queries, its key and its value. */
int32_t bt__convert_head_row(const bt__conversion *c, int32_t r);
/* The format that it becomes, from kind, bits, block and the rest; to->cols is set. */
int32_t bt__convert_format(const bt__conversion *c);
/* Rows [a, b) of to into dst, dense rows of its format. buffer: floats of one row. False: a number is
 * not finite. Rows are independent: threads split them. */
bool bt__convert_rows(const bt__conversion *c, int32_t a, int32_t b, float *buffer, void *dst);
