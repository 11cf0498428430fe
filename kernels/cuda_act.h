/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_act.h - activations on the device, prepared once for all matrices that read them.
 *
 * A row of k values comes in up to three forms, asked for by kind:
 *   F32  the values themselves, [rows, k]
 *   F16  half [rows, k] and float f16_scale[rows]: x = f16 * f16_scale. The scale is 1 where the
 *        row's greatest |x| is at most 1024, else the least power of two that brings it there, so
 *        nothing overflows; a row with NaN or infinity has scale 1 and keeps them.
 *   Q8   blocks of 32 columns, k % 32 == 0: int8 q [rows, k], float d and s [rows, k / 32].
 *        amax = max |x| of the block, d = amax / 127, q = x * (127 / amax) rounded to nearest,
 *        ties to even, s = d * (sum of q as float); amax < 2^-100 makes d, s and q 0; NaN or
 *        infinity in the block makes d and s NaN and q 0. All in f32, the same bits as
 *        kernels/linear/linear.h.
 * Buffers are dense and 256-byte aligned. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BT_CUDA_ACT_F32 = 1, BT_CUDA_ACT_F16 = 2, BT_CUDA_ACT_Q8 = 4 };

typedef struct bt_cuda_act {
    int32_t k;
    float *f32;       // [rows, k]
    void *f16;        // half [rows, k]
    float *f16_scale; // [rows]
    int8_t *q;        // [rows, k]
    float *d, *s;     // [rows, k / 32]
} bt_cuda_act;

/* Bytes of a block that holds the kinds for up to `rows` rows of up to k columns; a multiple of
 * 256. */
size_t bt_cuda_act_bytes(int32_t rows, int32_t k, unsigned kinds);
/* Points a at its parts of the block (256-byte aligned); those of other kinds are NULL. */
void bt_cuda_act_place(bt_cuda_act *a, void *block, int32_t rows, int32_t k, unsigned kinds);

#ifdef __cplusplus
}
#endif
