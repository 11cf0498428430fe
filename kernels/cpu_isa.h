/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_isa.h - which vector instructions this process uses; asked by every kernel that has variants.
 *
 * Chosen once, from what the processor and the operating system both support, at the first
 * question. Variants live in files named *_avx2.c and *_avx512.c, which alone are compiled for
 * those instructions. Thread: any; bt_isa_force() only while no kernel runs. */
#pragma once
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Ascending: each one may use all that the ones before it use. */
typedef enum bt_isa {
    BT_ISA_GENERIC, // C alone
    BT_ISA_AVX2,    // AVX2, FMA, F16C
    BT_ISA_AVX512,  // and AVX-512 F, BW, VL, DQ, VNNI
} bt_isa;

bt_isa bt_isa_best(void); // what this machine has
bt_isa bt_isa_get(void);  // what kernels shall use: bt_isa_best() unless forced
/* "generic", "avx2", "avx512"; NULL = best. False, and nothing changes: unknown or not on this
 * machine. */
bool bt_isa_force(const char *name);
const char *bt_isa_name(bt_isa isa);

#ifdef __cplusplus
}
#endif
