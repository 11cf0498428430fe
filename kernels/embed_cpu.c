/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/embed.h"
#include "base/assert.h"
#include "kernels/quant.h"

bool bt_embed_supported(int32_t format, int32_t cols)
{
    switch (format) {
    case BT_FORMAT_F32:
    case BT_FORMAT_F16:
    case BT_FORMAT_BF16:
    case BT_FORMAT_Q8_0:
    case BT_FORMAT_Q4_0: return cols > 0 && cols % bt_format_get(format)->elems == 0;
    default: return false;
    }
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
