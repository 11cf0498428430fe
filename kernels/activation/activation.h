/* SPDX-License-Identifier: Apache-2.0 */
/* activation.h - what stands between the two halves of a feed-forward.
 *
 * x[r,c] = act(x[r,c]) * up[r,c], or act(x[r,c]) where up is NULL, for r in [0, rows), c in [c0,
 * c1), act being any kind but XIELU. x, up: f32, row stride ld elements. The formulas are in
 * baton/model.h. Element by element, so any split gives the same bits, on every instruction set;
 * NaN stays NaN. Relative error of silu at most 4 units in the last place where |x| < 87; of gelu
 * (erfc by Abramowitz and Stegun 7.1.26) 2e-7 (1 + |x|) absolute. Thread: any. */
#pragma once
#include "baton/model.h"

#ifdef __cplusplus
extern "C" {
#endif

void bt_activation_apply(bt_activation kind, float *x, const float *up, int32_t rows, int64_t ld,
                         int32_t c0, int32_t c1);
/* The specification, in double. */
void bt_activation_ref(bt_activation kind, float *x, const float *up, int32_t rows, int64_t ld,
                       int32_t c0, int32_t c1);

/* XIELU, which has numbers of its own, of x[r,c]: within 2e-7 (1 + |x| + x^2). */
void bt_activation_xielu(const bt_xielu *a, float *x, int32_t rows, int64_t ld, int32_t c0,
                         int32_t c1);

/* x[i] = cap * tanh(x[i] * scale / cap); cap 0: x[i] * scale. */
void bt_activation_cap(float *x, int32_t n, float scale, float cap);

#ifdef __cplusplus
}
#endif
