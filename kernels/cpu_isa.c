/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cpu_isa.h"
#include <stdatomic.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const isa_names[] = {"generic", "avx2", "avx512"};
static atomic_int isa_chosen = -1;

#if defined(__x86_64__)
/* Not every compiler knows this one by name. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

bt_isa bt_isa_best(void)
{
#if defined(__x86_64__)
    /* The builtin also asks XGETBV whether the system saves the wide registers. */
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    if (!avx2) return BT_ISA_GENERIC;
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vnni");
    return avx512 ? BT_ISA_AVX512 : BT_ISA_AVX2;
#else
    return BT_ISA_GENERIC;
#endif
}

bt_isa bt_isa_get(void)
{
    int isa = atomic_load_explicit(&isa_chosen, memory_order_relaxed);
    if (isa < 0) {
        isa = (int)bt_isa_best();
        atomic_store_explicit(&isa_chosen, isa, memory_order_relaxed);
    }
    return (bt_isa)isa;
}

bool bt_isa_force(const char *name)
{
    bt_isa best = bt_isa_best();
    int isa = name ? -1 : (int)best;
    for (int i = 0; name && i <= (int)best; i++)
        if (strcmp(name, isa_names[i]) == 0) isa = i;
    if (isa < 0) return false;
    atomic_store_explicit(&isa_chosen, isa, memory_order_relaxed);
    return true;
}

const char *bt_isa_name(bt_isa isa)
{
    return isa_names[isa];
}
