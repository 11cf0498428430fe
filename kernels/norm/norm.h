/* SPDX-License-Identifier: Apache-2.0 */
/* norm.h - normalization of rows.
 *
 * rms:    y[r,c] = x[r,c] * w[c] / sqrt(mean_c(x[r,:]^2) + eps), for r in [0, rows).
 * layer:  y[r,c] = (x[r,c] - m) * w[c] / sqrt(mean_c((x[r,:] - m)^2) + eps) + bias[c], m being the
 *         row's mean; w (all ones) and bias may be NULL.
 * x, y: f32, row strides ldx and ldy elements; y == x allowed with ldx == ldy. w: [cols], any
 * alignment. Deterministic: one row, one fixed order, the same on every instruction set. Thread:
 * any. */
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

void bt_norm_rms(const float *x, int64_t ldx, const float *w, int32_t rows, int32_t cols, float eps,
                 float *y, int64_t ldy);
void bt_norm_layer(const float *x, int64_t ldx, const float *w, const float *bias, int32_t rows,
                   int32_t cols, float eps, float *y, int64_t ldy);
/* The specification: sums in double. */
void bt_norm_rms_ref(const float *x, int64_t ldx, const float *w, int32_t rows, int32_t cols,
                     float eps, float *y, int64_t ldy);
void bt_norm_layer_ref(const float *x, int64_t ldx, const float *w, const float *bias, int32_t rows,
                       int32_t cols, float eps, float *y, int64_t ldy);

#ifdef __cplusplus
}
#endif
