/* SPDX-License-Identifier: Apache-2.0 */
/* norm_cpu.c - norms with the widest vectors at hand. */
#include "kernels/norm/norm.h"
#include "kernels/vec.h"

void bt_norm_rms(const float *x, int64_t ldx, const float *w, int32_t rows, int32_t cols, float eps,
                 float *y, int64_t ldy)
{
    const bt__vec *v = bt__vec_get();
    for (int32_t r = 0; r < rows; r++) v->norm_rms(x + r * ldx, w, cols, eps, y + r * ldy);
}

void bt_norm_layer(const float *x, int64_t ldx, const float *w, const float *bias, int32_t rows,
                   int32_t cols, float eps, float *y, int64_t ldy)
{
    const bt__vec *v = bt__vec_get();
    for (int32_t r = 0; r < rows; r++) v->norm_layer(x + r * ldx, w, bias, cols, eps, y + r * ldy);
}
