/* SPDX-License-Identifier: Apache-2.0 */
/* rope_ref.c - rotary embedding as its formula says: the specification. */
#include "kernels/rope/rope.h"
#include <math.h>

static const double pi = 3.14159265358979323846;

static double frequency_llama3(const bt_rope *r, double f)
{
    double wavelength = 2 * pi / f, orig = r->orig_ctx;
    double low = (double)r->low, high = (double)r->high, factor = (double)r->factor;
    if (wavelength < orig / high) return f;
    if (wavelength > orig / low) return f / factor;
    double keep = (orig / wavelength - low) / (high - low);
    return (1 - keep) * f / factor + keep * f;
}

/* The pair, as a fraction, that turns so often within orig_ctx. */
static double pair_of_turns(const bt_rope *r, double turns)
{
    return r->dim * log(r->orig_ctx / (turns * 2 * pi)) / (2 * log((double)r->theta));
}

static double frequency_yarn(const bt_rope *r, double f, int32_t i)
{
    double first = fmax(floor(pair_of_turns(r, (double)r->high)), 0);
    double last = fmin(ceil(pair_of_turns(r, (double)r->low)), r->dim - 1);
    double divided = fmin(fmax((i - first) / fmax(last - first, 0.001), 0), 1);
    return f / (double)r->factor * divided + f * (1 - divided);
}

double bt_rope_frequency(const bt_rope *r, const float *divisor, int32_t i)
{
    double f = pow((double)r->theta, -2.0 * i / r->dim);
    if (r->scaling == BT_ROPE_SCALING_LINEAR) f /= (double)r->factor;
    if (r->scaling == BT_ROPE_SCALING_LLAMA3) f = frequency_llama3(r, f);
    if (r->scaling == BT_ROPE_SCALING_YARN) f = frequency_yarn(r, f, i);
    return divisor ? f / (double)divisor[i] : f;
}

void bt_rope_ref(const bt_rope *r, const float *divisor, int32_t pos, int32_t heads,
                 int32_t head_dim, float *x)
{
    if (r->style == BT_ROPE_NONE) return;
    int32_t half = r->dim / 2;
    for (int32_t h = 0; h < heads; h++) {
        for (int32_t i = 0; i < half; i++) {
            bool interleaved = r->style == BT_ROPE_INTERLEAVED;
            float *a = x + h * head_dim + (interleaved ? 2 * i : i);
            float *b = a + (interleaved ? 1 : half);
            double angle = pos * bt_rope_frequency(r, divisor, i);
            double xa = (double)(*a * r->amplitude), xb = (double)(*b * r->amplitude);
            *a = (float)(xa * cos(angle) - xb * sin(angle));
            *b = (float)(xa * sin(angle) + xb * cos(angle));
        }
    }
}
