/* SPDX-License-Identifier: Apache-2.0 */
/* embed.h - token ids to rows of the embedding table.
 *
 * dst[i, :] = row token[i] of the table, dequantized, for i in [0, n); row stride of dst ldd
 * elements. The table is the file's own (row-major, any alignment): lookups read a few rows a step,
 * so it is not repacked. Exact: one rounding to f32 per element. Thread: any. */
#pragma once
#include "baton/model.h"
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

bool bt_embed_supported(int32_t format,
                        int32_t cols); // cols must be a multiple of the format's block
/* Requires every token in [0, table->rows). */
void bt_embed_rows(const bt_weight *table, const int32_t *token, int32_t n, float *dst,
                   int64_t ldd);
/* The specification: one element. */
float bt_embed_ref(const bt_weight *table, int32_t token, int32_t col);

#ifdef __cplusplus
}
#endif
