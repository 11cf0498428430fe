/* SPDX-License-Identifier: Apache-2.0 */
/* vec_avx512.c - vec_body.h compiled for AVX-512. */
#if defined(__x86_64__)
#include "kernels/vec_body.h"
#include "kernels/attention/attention_body.h"
#include "kernels/sample/sample_body.h"

const bt__vec bt__vec_avx512 = BT__VEC;
#else
typedef int bt__vec_avx512_is_for_x86_64; // a file may not be empty
#endif
