/* SPDX-License-Identifier: Apache-2.0 */
/* random.h - repeatable numbers for kernel tests, and the instruction sets to run them on. */
#pragma once
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/cpu_isa.h"
#include <stddef.h>

static uint64_t random_counter;

static inline double random_unit(void)
{
    return bt_rng_unit(42, random_counter++);
}
static inline int32_t random_below(int32_t n)
{
    return (int32_t)(random_unit() * n);
}
/* Roughly normal: mean 0, deviation 1. */
static inline float random_normal(void)
{
    double sum = 0;
    for (int i = 0; i < 6; i++) sum += random_unit();
    return (float)((sum - 3) * 1.41421356);
}
/* n floats in a block of exactly that size, so that ASan sees reads past it. */
static inline float *random_floats(size_t n, float scale)
{
    float *x = bt_must(bt_malloc(n * sizeof *x));
    for (size_t i = 0; i < n; i++) x[i] = scale * random_normal();
    return x;
}

static const char *const isa_all[] = {"generic", "avx2", "avx512"};
/* for (int i = 0; isa_next(&i);) runs the body once on each instruction set this machine has. */
static inline bool isa_next(int *i)
{
    while (*i < 3 && !bt_isa_force(isa_all[*i])) ++*i;
    if (*i < 3) return ++*i, true;
    bt_isa_force(NULL);
    return false;
}
