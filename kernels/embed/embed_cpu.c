/* SPDX-License-Identifier: Apache-2.0 */
/* embed_cpu.c - rows of the embedding table as f32. */
#include "kernels/embed/embed.h"
#include "base/assert.h"
#include "kernels/quant/quant.h"

bool bt_embed_supported(int32_t format, int32_t cols)
{
    const bt_format_info *f = bt_format_get(format);
    return f && f->loadable && cols > 0 && cols % f->elems == 0;
}

void bt_embed_rows(const bt_weight *table, const int32_t *token, int32_t n, float *dst, int64_t ldd)
{
    size_t stride = bt_format_bytes(table->format, (size_t)table->cols);
    for (int32_t i = 0; i < n; i++) {
        BT_ASSERT(token[i] >= 0 && token[i] < table->rows);
        const char *row = (const char *)table->data + (size_t)token[i] * stride;
        bool known = bt_dequant_ref(table->format, row, (size_t)table->cols, dst + i * ldd);
        BT_ASSERT(known);
    }
}
