/* SPDX-License-Identifier: Apache-2.0 */
/* norm_ref.c - RMS norm as its formula says: the specification. */
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
