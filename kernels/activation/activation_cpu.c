/* SPDX-License-Identifier: Apache-2.0 */
/* activation_cpu.c - activations and caps with the widest vectors at hand. */
#include "kernels/activation/activation.h"
#include "kernels/vec.h"

void bt_activation_apply(bt_activation kind, float *x, const float *up, int32_t rows, int64_t ld,
                         int32_t c0, int32_t c1)
{
    const bt__vec *v = bt__vec_get();
    for (int32_t r = 0; r < rows; r++)
        v->activate(kind, x + r * ld + c0, up ? up + r * ld + c0 : NULL, c1 - c0);
}

void bt_activation_xielu(const bt_xielu *a, float *x, int32_t rows, int64_t ld, int32_t c0,
                         int32_t c1)
{
    for (int32_t r = 0; r < rows; r++) bt__vec_get()->xielu(a, x + r * ld + c0, c1 - c0);
}

void bt_activation_cap(float *x, int32_t n, float scale, float cap)
{
    bt__vec_get()->cap(x, n, scale, cap);
}
