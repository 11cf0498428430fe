/* SPDX-License-Identifier: Apache-2.0 */
/* rope_cpu.c - tables of angles, and rows turned by them. */
#include "kernels/rope/rope.h"
#include "kernels/vec.h"
#include <math.h>

void bt_rope_tables(const bt_rope *r, const float *divisor, int32_t p0, int32_t p1, float *cos_out,
                    float *sin_out)
{
    int32_t half = r->style == BT_ROPE_NONE ? 0 : r->dim / 2;
    double amplitude = (double)r->amplitude;
    for (int32_t i = 0; i < half; i++) {
        double f = bt_rope_frequency(r, divisor, i);
        for (int32_t p = p0; p < p1; p++) {
            cos_out[(int64_t)(p - p0) * half + i] = (float)(amplitude * cos(p * f));
            sin_out[(int64_t)(p - p0) * half + i] = (float)(amplitude * sin(p * f));
        }
    }
}

void bt_rope_apply(const bt_rope *r, const float *cos, const float *sin, int32_t heads,
                   int32_t head_dim, float *x)
{
    const bt__vec *v = bt__vec_get();
    if (r->style == BT_ROPE_INTERLEAVED)
        v->rope_interleaved(cos, sin, r->dim / 2, heads, head_dim, x);
    else if (r->style == BT_ROPE_HALF)
        v->rope_half(cos, sin, r->dim / 2, heads, head_dim, x);
}
