/* SPDX-License-Identifier: Apache-2.0 */
/* forms.h - every quantized format as one row: what a block of it consists of.
 *
 * An element is x = D * v + M, with v = (codes ? codes[q] : q) - offset:
 *
 *   scales 0   D = d            1, 2: D = d * sc, one sc for each 32, each 16 elements
 *   BT_MIN_NO  x = D * v
 *   BT_MIN_D   M = m            BT_MIN_32, BT_MIN_16: M = m * min, likewise
 *
 * d and m hold for the whole block. From the row follow dequantizing, --quant, embedding rows, and
 * the CPU's panels, packing and kernels in all instruction sets. A new format is its row here,
 * bt__parts_NAME in quant_parts.c, bt__quantize_NAME, its drawing in quant.h, and `loadable`. */
#pragma once
#include "kernels/quant/quant.h"

typedef enum bt_min { BT_MIN_NO, BT_MIN_D, BT_MIN_32, BT_MIN_16 } bt_min;

/* One of 16 values, with the offset of the row that names it. */
static const uint8_t bt_codes_iq4[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                         129, 141, 153, 166, 181, 197, 217, 241};
static const uint8_t bt_codes_mxfp4[16] = {16, 17, 18, 19, 20, 22, 24, 28,
                                           16, 15, 14, 13, 12, 10, 8,  4};

/* name, format, blocks of 32 elements under one d, bits of q, largest (codes[q] or q), offset,
 * scales, minimum, codes, d is BF16 (else F16) */
#define BT_QUANT_FORMS(X)                                                                          \
    X(q8_0, Q8_0, 1, 8, 255, 128, 0, BT_MIN_NO, NULL, false)                                       \
    X(q4_0, Q4_0, 1, 4, 15, 8, 0, BT_MIN_NO, NULL, false)                                          \
    X(q4_1, Q4_1, 1, 4, 15, 0, 0, BT_MIN_D, NULL, false)                                           \
    X(q5_0, Q5_0, 1, 5, 31, 16, 0, BT_MIN_NO, NULL, false)                                         \
    X(q5_1, Q5_1, 1, 5, 31, 0, 0, BT_MIN_D, NULL, false)                                           \
    X(q2_k, Q2_K, 8, 2, 3, 0, 2, BT_MIN_16, NULL, false)                                           \
    X(q3_k, Q3_K, 8, 3, 7, 4, 2, BT_MIN_NO, NULL, false)                                           \
    X(q4_k, Q4_K, 8, 4, 15, 0, 1, BT_MIN_32, NULL, false)                                          \
    X(q5_k, Q5_K, 8, 5, 31, 0, 1, BT_MIN_32, NULL, false)                                          \
    X(q6_k, Q6_K, 8, 6, 63, 32, 2, BT_MIN_NO, NULL, false)                                         \
    X(iq4_nl, IQ4_NL, 1, 4, 241, 128, 0, BT_MIN_NO, bt_codes_iq4, false)                           \
    X(iq4_xs, IQ4_XS, 8, 4, 241, 128, 1, BT_MIN_NO, bt_codes_iq4, false)                           \
    X(mxfp4, MXFP4, 1, 4, 28, 16, 0, BT_MIN_NO, bt_codes_mxfp4, true)                              \
    X(int8g, INT8G, 4, 8, 255, 128, 0, BT_MIN_NO, NULL, false)                                     \
    X(int4g, INT4G, 4, 4, 15, 0, 0, BT_MIN_D, NULL, false)

typedef struct bt_form {
    int32_t format;
    int blocks, bits, top, offset, scales;
    bt_min min;
    const uint8_t *codes; // [16], or NULL
    bool bf16;
} bt_form;

/* One block of a file, taken apart: what the form says there is, in order of the elements. */
typedef struct bt_parts {
    uint16_t d, m; // d F16 or BF16, m F16
    int8_t scale[16], min[16];
    uint8_t q[BT_QUANT_SUPER];
} bt_parts;

typedef struct bt_quant_row {
    bt_form form;
    void (*parts)(const uint8_t *block, bt_parts *out);
    void (*quantize)(const float *x, uint8_t *block); // of a whole block
} bt_quant_row;

/* NULL: no quantized format that can be read. */
const bt_quant_row *bt_quant_row_of(int32_t format);

/* v of a quant, in [-offset, top - offset]. */
static inline int bt_form_value(const bt_form *f, uint8_t q)
{
    return (f->codes ? f->codes[q] : q) - f->offset;
}

/* D and M of 16 elements, the i-th such group of the block; each product rounded to f32. */
static inline float bt_form_scale(const bt_form *f, const bt_parts *p, int i)
{
    float d = f->bf16 ? bt_f32_from_bf16(p->d) : bt_f32_from_f16(p->d);
    return f->scales == 0 ? d : d * (float)p->scale[f->scales == 2 ? i : i / 2];
}

static inline float bt_form_min(const bt_form *f, const bt_parts *p, int i)
{
    float m = bt_f32_from_f16(p->m);
    return f->min == BT_MIN_D ? m : m * (float)p->min[f->min == BT_MIN_16 ? i : i / 2];
}

/* The nearest of the values d * (codes[c] - offset) to x; the first of several. */
uint8_t bt__nearest_code(float x, float d, const uint8_t codes[16], int offset);

#define X(name, ...)                                                                               \
    void bt__parts_##name(const uint8_t *block, bt_parts *out);                                    \
    void bt__quantize_##name(const float *x, uint8_t *block);
BT_QUANT_FORMS(X)
#undef X
