/* SPDX-License-Identifier: Apache-2.0 */
/* estimate.h - what a request will cost: time a token from step reports, tokens from experience.
 *
 * step_us ~ prefill_rows * prefill_us + decode_rows * decode_us, fitted by least squares that
 * forgets (half of a step's weight is gone after about 70 steps) and leans on the engine's first
 * estimates until there are steps to speak of. Output length: a running mean, since max_tokens is
 * what a client allows and not what it gets. Thread: the owner's. */
#pragma once
#include <stdint.h>

typedef struct bt__estimate {
    double prefill_us, decode_us;             // the estimates
    double prior_prefill_us, prior_decode_us; // what they lean on
    double pp, pd, dd, py, dy;                // sums of the normal equations, decayed
    double out_tokens;                        // running mean of completions, a sequence
} bt__estimate;

void bt__estimate_init(bt__estimate *c, double prefill_us, double decode_us);
/* New first estimates, from an engine that came up; what steps taught is forgotten. */
void bt__estimate_prior(bt__estimate *c, double prefill_us, double decode_us);
void bt__estimate_step(bt__estimate *c, int32_t prefill_rows, int32_t decode_rows, double step_us);
/* Folds a completion's length into a running mean; returns the new mean. `gain` in (0, 1]. */
double bt__estimate_mean(double mean, double tokens, double gain);
/* Device time of a request; out_tokens is a sequence's expected length. */
int64_t bt__estimate_predict(const bt__estimate *c, int32_t prompt_tokens, int32_t max_tokens,
                             int32_t n_seq, double out_tokens);
