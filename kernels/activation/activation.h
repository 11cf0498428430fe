/* SPDX-License-Identifier: Apache-2.0 */
/* activation.h - the gated unit between the two halves of an MLP.
 *
 * gate[r,c] = silu(gate[r,c]) * up[r,c], silu(x) = x / (1 + e^-x), for r in [0, rows), c in [c0,
 * c1). gate, up: f32, row stride ld elements. Element by element, so any split gives the same bits,
 * on every instruction set; NaN stays NaN. Relative error of silu at most 4 units in the last place
 * where |x| < 87. Thread: any. */
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

void bt_activation_silu_mul(float *gate, const float *up, int32_t rows, int64_t ld, int32_t c0,
                            int32_t c1);
/* The specification, in double. */
void bt_activation_silu_mul_ref(float *gate, const float *up, int32_t rows, int64_t ld, int32_t c0,
                                int32_t c1);

#ifdef __cplusplus
}
#endif
