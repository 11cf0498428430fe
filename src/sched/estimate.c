/* SPDX-License-Identifier: Apache-2.0 */
/* estimate.c - the step-cost fit: two unknowns, so the normal equations are solved each step. */
#include "sched/estimate.h"
#include "base/assert.h"

static const double forget = 0.99;
/* The first estimates count as much as this many squared rows of each sort. */
static const double lean_prefill = 1024, lean_decode = 64;
/* A step counts as at most this many times what was foretold: one hiccup of the device is not to be
 * believed, and a device that did become slower is still believed within a few steps. */
static const double surprise_max = 4;
static const double us_min = 1e-3, us_max = 1e8; // a token
static const double out_tokens_first = 256;

void bt__estimate_init(bt__estimate *c, double prefill_us, double decode_us)
{
    *c = (bt__estimate){.out_tokens = out_tokens_first};
    bt__estimate_prior(c, prefill_us, decode_us);
}

static double cost_clamp(double us)
{
    return us > us_min ? BT_MIN(us, us_max) : us_min; // a NaN becomes us_min
}

void bt__estimate_prior(bt__estimate *c, double prefill_us, double decode_us)
{
    *c = (bt__estimate){.out_tokens = c->out_tokens};
    c->prefill_us = c->prior_prefill_us = cost_clamp(prefill_us);
    c->decode_us = c->prior_decode_us = cost_clamp(decode_us);
}

void bt__estimate_step(bt__estimate *c, int32_t prefill_rows, int32_t decode_rows, double step_us)
{
    double p = prefill_rows, d = decode_rows;
    if (p < 0 || d < 0 || p + d <= 0 || !(step_us >= 0)) return;
    step_us = BT_MIN(step_us, surprise_max * (p * c->prefill_us + d * c->decode_us));
    c->pp = c->pp * forget + p * p;
    c->pd = c->pd * forget + p * d;
    c->dd = c->dd * forget + d * d;
    c->py = c->py * forget + p * step_us;
    c->dy = c->dy * forget + d * step_us;
    double a = c->pp + lean_prefill, b = c->pd, e = c->dd + lean_decode;
    double y = c->py + lean_prefill * c->prior_prefill_us;
    double z = c->dy + lean_decode * c->prior_decode_us;
    double det = a * e - b * b; // > 0: the sums are a Gram matrix plus a positive diagonal
    c->prefill_us = cost_clamp((y * e - z * b) / det);
    c->decode_us = cost_clamp((z * a - y * b) / det);
}

double bt__estimate_mean(double mean, double tokens, double gain)
{
    return mean + (tokens - mean) * gain;
}

int64_t bt__estimate_predict(const bt__estimate *c, int32_t prompt_tokens, int32_t max_tokens,
                             int32_t n_seq, double out_tokens)
{
    double out = BT_MIN((double)max_tokens, BT_MAX(out_tokens, 1.0));
    double us = prompt_tokens * c->prefill_us + out * n_seq * c->decode_us;
    return (int64_t)BT_MIN(BT_MAX(us, 1.0), 1e15);
}
