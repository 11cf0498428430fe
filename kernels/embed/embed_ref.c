/* SPDX-License-Identifier: Apache-2.0 */
/* embed_ref.c - rows of the embedding table by their format: the specification. */
#include "kernels/embed/embed.h"
#include "kernels/quant/quant.h"
#include <stdlib.h>

float bt_embed_ref(const bt_weight *table, int32_t token, int32_t col)
{
    const uint8_t *row = (const uint8_t *)table->data +
                         (size_t)token * bt_format_bytes(table->format, (size_t)table->cols);
    int32_t block = col / 32, i = col % 32;
    const bt_format_info *info = bt_format_get(table->format);
    const uint8_t *b;
    float f, wide[BT_QUANT_SUPER];
    switch (table->format) {
    case BT_FORMAT_F32: memcpy(&f, row + (size_t)col * 4, sizeof f); return f;
    case BT_FORMAT_F16: return bt_f32_from_f16(bt_load_u16(row + (size_t)col * 2));
    case BT_FORMAT_BF16: return bt_f32_from_bf16(bt_load_u16(row + (size_t)col * 2));
    case BT_FORMAT_Q8_0:
        b = row + (size_t)block * 34;
        return bt_f32_from_f16(bt_load_u16(b)) * (float)(int8_t)b[2 + i];
    case BT_FORMAT_Q4_0:
        b = row + (size_t)block * 18;
        return bt_f32_from_f16(bt_load_u16(b)) *
               (float)((i < 16 ? b[2 + i] & 15 : b[2 + i - 16] >> 4) - 8);
    default: break;
    }
    /* The formats of many parts: their whole block, as quant.h has it. */
    if (!info || info->elems > BT_QUANT_SUPER) abort(); // bt_embed_supported() is asked first
    b = row + (size_t)(col / info->elems) * (size_t)info->bytes;
    if (!bt_dequant_ref(table->format, b, (size_t)info->elems, wide)) abort();
    return wide[col % info->elems];
}
