/* SPDX-License-Identifier: Apache-2.0 */
/* vec_cpu.c - vec_body.h for any processor, and the choice among the three. */
#include "kernels/vec_body.h"
#include "kernels/attention/attention_body.h"
#include "kernels/sample/sample_body.h"
#include "kernels/cpu_isa.h"

const bt__vec bt__vec_generic = BT__VEC;

const bt__vec *bt__vec_get(void)
{
#if defined(__x86_64__)
    switch (bt_isa_get()) {
    case BT_ISA_AVX512: return &bt__vec_avx512;
    case BT_ISA_AVX2: return &bt__vec_avx2;
    case BT_ISA_GENERIC: break;
    }
#endif
    return &bt__vec_generic;
}
