/* SPDX-License-Identifier: Apache-2.0 */
/* linear.h - y[r, n] = sum_k x[r, k] * w[n, k] (+ bias[n]): every matrix of a transformer.
 *
 * Weights are repacked once at load to a layout that serves every row count and instruction set;
 * activations are prepared once for all matrices that read them. Per output there is one fixed
 * order of summation along k, in every variant (1 row, few rows, many rows), so a row's result
 * never depends on its neighbours.
 *
 * F32, F16, BF16:  acc = fma(w[k], x[k], acc) for k = 0, 1, ..., in f32.
 *
 * All others:     x is quantized in blocks of 32, all in f32, with amax = max |x| of the block:
 *                  d_x = amax / 127, q_x = x * (127 / amax) rounded to nearest, ties to even;
 *                  amax < 2^-100 makes d_x and q_x 0, infinity or NaN in the block makes d_x NaN.
 *                  With a weight as kernels/quant/forms.h has it, D v + M, each block in order does
 *                    acc = fma(float(sum of v * q_x), D * d_x, acc); then, if there is a minimum,
 *                    acc = fma(M, d_x * float(sum of q_x), acc).
 *                  Sums are exact. Where 16 elements have a scale (Q6_K, Q3_K, Q2_K), it is in the
 *                  sum, of sc * v * q_x, and D = d; so is a minimum of 16 (Q2_K):
 *                    acc = fma(float(sum of min * q_x), m * d_x, acc).
 *                  An activation is off by at most d_x / 2, and so y by the sum of |w| d_x / 2.
 *
 * Last, v = acc + bias[n] if there is a bias; then y = v, or y = y + v.
 *
 * All instruction sets agree bit for bit in every format. linear_ref.c agrees bit for bit in the
 * integer formats; in the float formats it sums in f64 and agrees within test_linear.c's bound.
 *
 * Thread: any; callers split outputs [n0, n1) or activation rows among threads. Nothing allocates;
 * a run takes 40 KB of stack. Give `data` huge pages where they can be had. */
#pragma once
#include "baton/format.h"
#include "baton/status.h"
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A packed matrix. data: owned by the caller, 64-byte aligned, bt_linear_packed_bytes() long. */
typedef struct bt_linear {
    int32_t format;
    int32_t n, k; // outputs, inputs
    void *data;
} bt_linear;

/* Outputs come in panels of this many; threads should split n at multiples of it. */
enum { BT_LINEAR_PANEL = 32 };

bool bt_linear_supported(int32_t format, int32_t k); // k must be a multiple of the format's block
size_t bt_linear_packed_bytes(int32_t format, int32_t n, int32_t k);
/* Packs rows [n0, n1) of src (row-major as in the file, not necessarily aligned); n0 a multiple of
 * the panel. */
void bt_linear_pack(const bt_linear *w, const void *src, int32_t n0, int32_t n1);

/* Prepared activations for one format: 64-byte aligned, this long for `rows` rows of k. The float
 * formats share one preparation, all others another: bt_linear_act_kind says which. */
int bt_linear_act_kind(int32_t format);
size_t bt_linear_act_bytes(int kind, int32_t rows, int32_t k);
/* Prepares rows [r0, r1) of x (f32, [rows, k], row stride ldx elements). */
void bt_linear_act_prepare(int kind, const float *x, int64_t ldx, int32_t rows, int32_t k,
                           void *act, int32_t r0, int32_t r1);

/* y[r * ldy + n] for r in [0, rows), n in [n0, n1). bias may be NULL. act was prepared for exactly
 * `rows` rows. accumulate: y += instead of y = (residual add, after bias). n0 a multiple of the
 * panel. */
void bt_linear_run(const bt_linear *w, const void *act, int32_t rows, const float *bias,
                   bool accumulate, float *y, int64_t ldy, int32_t n0, int32_t n1);
/* The specification: obvious loops over the file's own rows, f64 sums for the float formats. */
void bt_linear_ref(int32_t format, int32_t n, int32_t k, const void *src, const float *x,
                   int64_t ldx, int32_t rows, const float *bias, bool accumulate, float *y,
                   int64_t ldy);

#ifdef __cplusplus
}
#endif
