/* SPDX-License-Identifier: Apache-2.0 */
/* sample.h - one row of logits becomes a token, as bt_sample_req (baton/backend.h) says.
 *
 * Exactly: ids from req.vocab on do not exist. A row with NaN or infinity among the rest is bad.
 * Then
 *   1. every bias is added; then the logit l of a token in the repetition window becomes
 * l > 0 ? l / repeat : l * repeat, and that of a token already drawn loses freq * drawn + presence;
 *   2. logprobs are log softmax of the result (bans are not in it); the likeliest are listed by
 *      logprob, then lowest id; with `forced` nothing else happens;
 *   3. banned tokens are out; temperature 0 takes the greatest logit, lowest id first;
 *   4. else weight w = e^((l - max) / temperature). Tokens stand in order of logit, then lowest id.
 * top_k keeps the first k; top_p keeps the shortest prefix of these that has top_p of their weight
 * (at least one); min_p keeps those with l >= max + temperature * ln(min_p);
 *   5. the draw u = bt_rng_unit(seed, counter) takes the first kept token, by ascending id, at
 * which the running sum of weights passes u times their sum. A row where nothing can be chosen (all
 * banned, or a bias made NaN) is bad too. Weights are f32, sums are double in one fixed order: the
 * same bits on every instruction set. Never allocates; the logits are not changed. Thread: any,
 * each with its own scratch. */
#pragma once
#include "baton/backend.h"
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

size_t bt_sample_scratch_bytes(int32_t vocab); // a multiple of 64; scratch is 64-byte aligned
void bt_sample_run(const bt_sample_req *req, const float *logits, int32_t vocab, void *scratch,
                   bt_sample_out *out);
/* The specification: a full sort, weights in double. Allocates. */
void bt_sample_ref(const bt_sample_req *req, const float *logits, int32_t vocab,
                   bt_sample_out *out);

#ifdef __cplusplus
}
#endif
