/* SPDX-License-Identifier: Apache-2.0 */
/* activation_ref.c - activations as their formulas say: the specification. */
#include "kernels/activation/activation.h"
#include <math.h>

static double activate(bt_activation kind, double x)
{
    switch (kind) {
    case BT_ACTIVATION_SILU: return x / (1 + exp(-x));
    case BT_ACTIVATION_GELU: return x / 2 * erfc(-x * sqrt(0.5));
    case BT_ACTIVATION_GELU_TANH:
        return x / 2 * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    case BT_ACTIVATION_RELU2: return x * fmax(x, 0);
    case BT_ACTIVATION_XIELU: break;
    }
    return NAN;
}

void bt_activation_ref(bt_activation kind, float *x, const float *up, int32_t rows, int64_t ld,
                       int32_t c0, int32_t c1)
{
    for (int32_t r = 0; r < rows; r++)
        for (int32_t c = c0; c < c1; c++) {
            int64_t i = r * ld + c;
            x[i] = (float)(activate(kind, (double)x[i]) * (up ? (double)up[i] : 1));
        }
}
