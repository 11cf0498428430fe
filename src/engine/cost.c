/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/cost.h"
#include "base/assert.h"
#include <math.h>

/* How far a correction goes: large while little is known, then a steady small one that follows a
 * device which gets slower (heat, neighbours) within some tens of steps. */
#define LEARN_FIRST 0.5
#define LEARN_STEADY 0.08
#define RATIO_MAX 2.0
#define TERM_MIN 1e-6

void bt_cost_init(bt_cost *c, double decode_us)
{
    if (decode_us < 1) decode_us = 1;
    c->fixed = decode_us * 0.6;
    c->decode_row = decode_us * 0.4;
    c->prefill_row = decode_us * 0.2;
    c->kv_read = decode_us / 8192;
    c->n_seen = 0;
}

void bt_cost_fit(bt_cost *c, double decode_us, int32_t few, double few_us, int32_t more,
                 double more_us)
{
    bt_cost_init(c, decode_us);
    decode_us = fmax(decode_us, 1);
    more_us = fmax(more_us, 1);
    double low = decode_us * 0.02;
    double row = fmin(fmax((more_us - few_us) / (more - few), low), more_us / more);
    double fixed = fmin(fmax(more_us - row * more, low), decode_us * 0.9);
    c->prefill_row = row;
    c->fixed = fixed;
    c->decode_row = decode_us - fixed;
}

double bt_cost_predict(const bt_cost *c, const bt_cost_work *w)
{
    return c->prefill_row * (double)w->prefill_rows + c->decode_row * (double)w->decode_rows +
           c->kv_read * (double)w->kv_reads + c->fixed;
}

static void term_learn(double *term, double part, double step)
{
    *term *= 1 + part * step;
    if (*term < TERM_MIN) *term = TERM_MIN;
}

void bt_cost_learn(bt_cost *c, const bt_cost_work *w, uint64_t busy_us)
{
    double expected = bt_cost_predict(c, w), measured = busy_us > 0 ? (double)busy_us : 0.5;
    /* The first measurements replace a guess, so they may move it further. */
    double bound = c->n_seen < 4 ? 4 * RATIO_MAX : RATIO_MAX;
    double ratio = measured / expected;
    ratio = fmin(fmax(ratio, 1 / bound), bound);
    double rate = fmax(LEARN_FIRST / (1 + 0.1 * (double)c->n_seen), LEARN_STEADY);
    double step = (ratio - 1) * rate;
    double prefill = c->prefill_row * (double)w->prefill_rows / expected;
    double decode = c->decode_row * (double)w->decode_rows / expected;
    double reads = c->kv_read * (double)w->kv_reads / expected;
    double fixed = c->fixed / expected;
    /* Parts are squared sums away from 1: dividing by their norm makes one step remove `rate` of
     * the error whatever the mix is. */
    double norm = prefill * prefill + decode * decode + reads * reads + fixed * fixed;
    step = fmax(step / norm, -0.9);
    term_learn(&c->prefill_row, prefill, step);
    term_learn(&c->decode_row, decode, step);
    term_learn(&c->kv_read, reads, step);
    term_learn(&c->fixed, fixed, step);
    c->n_seen++;
}

int64_t bt_cost_reads(int32_t pos, int32_t n)
{
    return (int64_t)n * pos + (int64_t)n * (n + 1) / 2;
}

int32_t bt_cost_chunk(const bt_cost *c, int32_t pos, int32_t max_rows, double us)
{
    int32_t low = 0, high = max_rows; // low rows fit
    while (low < high) {
        int32_t mid = low + (high - low + 1) / 2;
        double cost = c->prefill_row * mid + c->kv_read * (double)bt_cost_reads(pos, mid);
        if (cost <= us)
            low = mid;
        else
            high = mid - 1;
    }
    return low;
}

void bt_cost_split(uint64_t total, const double *weight, int32_t n, uint64_t *part)
{
    enum { SCALE_BITS = 40 };
    uint64_t scaled[BT_COST_PARTS_MAX], rest[BT_COST_PARTS_MAX], sum = 0, given = 0;
    double all = 0;
    BT_ASSERT(n >= 1 && n <= BT_COST_PARTS_MAX);
    for (int32_t i = 0; i < n; i++) all += weight[i];
    for (int32_t i = 0; i < n; i++) {
        scaled[i] = all > 0 ? (uint64_t)(weight[i] / all * (double)(1ull << SCALE_BITS)) : 1;
        sum += scaled[i];
    }
    for (int32_t i = 0; i < n; i++) {
        unsigned __int128 product = (unsigned __int128)total * scaled[i];
        part[i] = (uint64_t)(product / sum);
        rest[i] = (uint64_t)(product % sum);
        given += part[i];
    }
    /* Fewer than n microseconds are left; each goes to the largest remainder still without one. */
    for (uint64_t left = total - given; left > 0; left--) {
        int32_t best = -1;
        for (int32_t i = 0; i < n; i++)
            if (rest[i] != UINT64_MAX && (best < 0 || rest[i] > rest[best])) best = i;
        part[best]++;
        rest[best] = UINT64_MAX;
    }
}
