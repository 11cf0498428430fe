/* SPDX-License-Identifier: Apache-2.0 */
/* random.h - random weights of any loadable format, made quickly, for benchmarks and their checks.
 *
 * Every block is valid, its quants are random bits, and its scales are such that a value's mean is
 * about 0 and its standard deviation about `spread`. Speed does not depend on values, but a model
 * of such matrices (spread 1 / sqrt(cols)) also keeps its activations finite and near one.
 * Thread: any. */
#pragma once
#include "baton/format.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* n elements, a multiple of the format's block, as a file holds them; the same for the same seed.
 * False: the format has no kernels. */
bool bt_random_weights(int32_t format, uint64_t seed, size_t n, float spread, void *dst);
/* n floats, uniform in [-1, 1). */
void bt_random_floats(uint64_t seed, size_t n, float *dst);
