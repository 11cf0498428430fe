/* SPDX-License-Identifier: Apache-2.0 */
/* activation_cpu.c - the gated unit with the widest vectors at hand. */
#include "kernels/activation/activation.h"
#include "kernels/vec.h"

void bt_activation_silu_mul(float *gate, const float *up, int32_t rows, int64_t ld, int32_t c0,
                            int32_t c1)
{
    const bt__vec *v = bt__vec_get();
    for (int32_t r = 0; r < rows; r++) v->silu_mul(gate + r * ld + c0, up + r * ld + c0, c1 - c0);
}
