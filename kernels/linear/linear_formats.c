/* SPDX-License-Identifier: Apache-2.0 */
/* linear_formats.c - the weight formats of the CPU: a row each. */
#include "kernels/linear/linear_impl.h"

#if defined(__x86_64__)
#define ISAS(name)                                                                                 \
    {                                                                                              \
        bt__generic_##name, bt__avx2_##name, bt__avx512_##name                                     \
    }
#else
#define ISAS(name)                                                                                 \
    {                                                                                              \
        bt__generic_##name                                                                         \
    }
#endif

enum { LANES = BT_LINEAR_PANEL };

/* As bt__panel_block(). */
#define PANEL_BYTES(blocks, bits, scales, min)                                                     \
    (((min) ? 128 : 64) + (blocks) * (((scales) + ((min) == BT_MIN_32)) * 32 + (bits)*128))

static const bt__linear_row rows[] = {
    {BT_FORMAT_F32, 1, LANES * 4, BT__ACT_FLOAT, bt__pack_32, ISAS(f32), {NULL}},
    {BT_FORMAT_F16, 1, LANES * 2, BT__ACT_FLOAT, bt__pack_16, ISAS(f16), ISAS(widen_f16)},
    {BT_FORMAT_BF16, 1, LANES * 2, BT__ACT_FLOAT, bt__pack_16, ISAS(bf16), ISAS(widen_bf16)},
#define X(name, FORMAT, blocks, bits, top, offset, scales, min, codes, bf16)                       \
    {BT_FORMAT_##FORMAT,                                                                           \
     (blocks)*BT_QUANT_BLOCK,                                                                      \
     PANEL_BYTES(blocks, bits, scales, min),                                                       \
     BT__ACT_INT8,                                                                                 \
     bt__pack_##name,                                                                              \
     ISAS(name),                                                                                   \
     {NULL}},
    BT_QUANT_FORMS(X)
#undef X
};

const bt__linear_row *bt__linear_row_of(int32_t format)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].format == format) return &rows[i];
    return NULL;
}
