/* SPDX-License-Identifier: Apache-2.0 */
/* activation_ref.c - the gated unit as its formula says: the specification. */
#include "kernels/activation/activation.h"
#include <math.h>

void bt_activation_silu_mul_ref(float *gate, const float *up, int32_t rows, int64_t ld, int32_t c0,
                                int32_t c1)
{
    for (int32_t r = 0; r < rows; r++) {
        for (int32_t c = c0; c < c1; c++) {
            double x = (double)gate[r * ld + c];
            gate[r * ld + c] = (float)(x / (1 + exp(-x)) * (double)up[r * ld + c]);
        }
    }
}
