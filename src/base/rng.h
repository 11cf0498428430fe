/* SPDX-License-Identifier: Apache-2.0 */
/* rng.h - counter-based random numbers: the same (seed, counter) gives the same draw, whatever else
 * runs. */
#pragma once
#include "base/hash.h"

static inline uint64_t bt_rng_u64(uint64_t seed, uint64_t counter)
{
    return bt_hash_u64(bt_hash_u64(seed + 0x9E3779B97F4A7C15u) + counter * 0x9E3779B97F4A7C15u);
}

/* In [0, 1), 53 bits. */
static inline double bt_rng_unit(uint64_t seed, uint64_t counter)
{
    return (double)(bt_rng_u64(seed, counter) >> 11) * 0x1p-53;
}
