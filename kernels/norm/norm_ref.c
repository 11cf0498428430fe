/* SPDX-License-Identifier: Apache-2.0 */
/* norm_ref.c - norms as their formulas say: the specification. */
#include "kernels/norm/norm.h"
#include <math.h>

void bt_norm_rms_ref(const float *x, int64_t ldx, const float *w, int32_t rows, int32_t cols,
                     float eps, float *y, int64_t ldy)
{
    for (int32_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int32_t c = 0; c < cols; c++) sum += (double)x[r * ldx + c] * (double)x[r * ldx + c];
        double scale = 1 / sqrt(sum / cols + (double)eps);
        for (int32_t c = 0; c < cols; c++)
            y[r * ldy + c] = (float)((double)x[r * ldx + c] * scale * (double)w[c]);
    }
}

void bt_norm_layer_ref(const float *x, int64_t ldx, const float *w, const float *bias, int32_t rows,
                       int32_t cols, float eps, float *y, int64_t ldy)
{
    for (int32_t r = 0; r < rows; r++) {
        double mean = 0, sum = 0;
        for (int32_t c = 0; c < cols; c++) mean += (double)x[r * ldx + c] / cols;
        for (int32_t c = 0; c < cols; c++)
            sum += ((double)x[r * ldx + c] - mean) * ((double)x[r * ldx + c] - mean);
        double scale = 1 / sqrt(sum / cols + (double)eps);
        for (int32_t c = 0; c < cols; c++)
            y[r * ldy + c] =
                (float)(((double)x[r * ldx + c] - mean) * scale * (w ? (double)w[c] : 1) +
                        (bias ? (double)bias[c] : 0));
    }
}
