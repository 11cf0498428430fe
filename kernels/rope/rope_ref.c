/* SPDX-License-Identifier: Apache-2.0 */
/* rope_ref.c - rotary embedding as its formula says: the specification. */
#include "kernels/rope/rope.h"
#include <math.h>

static const double pi = 3.14159265358979323846;

static double frequency_llama3(const bt_recipe *r, double f)
{
    double wavelength = 2 * pi / f, orig = r->rope_orig_ctx;
    double low = (double)r->rope_low, high = (double)r->rope_high, factor = (double)r->rope_factor;
    if (wavelength < orig / high) return f;
    if (wavelength > orig / low) return f / factor;
    double keep = (orig / wavelength - low) / (high - low);
    return (1 - keep) * f / factor + keep * f;
}

double bt_rope_frequency(const bt_recipe *r, const float *divisor, int32_t i)
{
    double f = pow((double)r->rope_theta, -2.0 * i / r->rope_dim);
    if (r->rope_scaling == BT_ROPE_SCALING_LINEAR) f /= (double)r->rope_factor;
    if (r->rope_scaling == BT_ROPE_SCALING_LLAMA3) f = frequency_llama3(r, f);
    return divisor ? f / (double)divisor[i] : f;
}

void bt_rope_ref(const bt_recipe *r, const float *divisor, int32_t pos, int32_t heads, float *x)
{
    if (r->rope_style == BT_ROPE_NONE) return;
    int32_t half = r->rope_dim / 2;
    for (int32_t h = 0; h < heads; h++) {
        for (int32_t i = 0; i < half; i++) {
            bool interleaved = r->rope_style == BT_ROPE_INTERLEAVED;
            float *a = x + h * r->head_dim + (interleaved ? 2 * i : i);
            float *b = a + (interleaved ? 1 : half);
            double angle = pos * bt_rope_frequency(r, divisor, i);
            double xa = (double)*a, xb = (double)*b;
            *a = (float)(xa * cos(angle) - xb * sin(angle));
            *b = (float)(xa * sin(angle) + xb * cos(angle));
        }
    }
}
