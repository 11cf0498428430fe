/* SPDX-License-Identifier: Apache-2.0 */
/* rope.h - rotary position embedding from tables.
 *
 * Pair i of a head at position p turns by the angle p * f(i):
 *     f(i) = scaled(theta^(-2i / rope_dim)) / divisor[i]
 *     y[a] = x[a] cos - x[b] sin,  y[b] = x[a] sin + x[b] cos
 * (a, b) is (2i, 2i + 1) in the interleaved style and (i, i + rope_dim / 2) in the half style;
 * dimensions from rope_dim on stay as they are. LINEAR scaling divides f by the factor. LLAMA3
 * scaling (Llama 3.1) goes by wavelength 2 pi / f: shorter than orig / high is kept, longer than
 * orig / low is divided by the factor, between the two they are blended. YARN (Peng et al. 2023)
 * keeps what turns more than `high` times within orig, divides what turns less than `low` times,
 * and blends the pairs between. The tables hold amplitude * cos and sin for positions [0, ctx),
 * computed in double, rounded once. Thread: any. */
#pragma once
#include "baton/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Angle of pair i at position 1; divisor may be NULL. */
double bt_rope_frequency(const bt_rope *r, const float *divisor, int32_t i);
/* Positions [p0, p1) of the tables: cos and sin are [p1 - p0, rope_dim / 2]. */
void bt_rope_tables(const bt_rope *r, const float *divisor, int32_t p0, int32_t p1, float *cos,
                    float *sin);
/* Rotates `heads` heads of one row in place. cos, sin: this position's entries, [rope_dim / 2]. */
void bt_rope_apply(const bt_rope *r, const float *cos, const float *sin, int32_t heads,
                   int32_t head_dim, float *x);
/* The specification: the angle and the rotation in double, no tables. */
void bt_rope_ref(const bt_rope *r, const float *divisor, int32_t pos, int32_t heads,
                 int32_t head_dim, float *x);

#ifdef __cplusplus
}
#endif
