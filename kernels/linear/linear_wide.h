/* SPDX-License-Identifier: Apache-2.0 */
/* linear_wide.h - formats that the CPU widens to f32 before it multiplies: Q4_K Q5_K Q6_K and the
 * group formats. Private to the linear family.
 *
 * PANEL  32 outputs, as everywhere in the family; blocks of `block` k one after another. o is the
 * output, k is counted from the block's or sub-block's start:
 *
 *   block      half[0][o], half[1][o]: F16 d and dmin (or m)      then block / 32 sub-blocks
 *   sub-block  byte[0][o], byte[1][o]: sc and m (Q6_K: sc of k < 16, of k >= 16), then quants:
 *              nibbles [16][o]: bits 0-3 k, bits 4-7 k + 16       or bytes [32][o] (INT8G)
 *              upper bits, U of them a weight: [4 U][o], byte g has k = 8 g / U .. in bits U i ..
 *
 * A vector of outputs is 32 consecutive bytes, so all instruction sets unpack it with the same
 * plain loops, and every operation rounds alike. */
#pragma once
#include "kernels/quant/quant.h"

typedef struct bt__wide_format {
    int32_t block;        // k
    int32_t halves;       // F16 vectors of a block
    int32_t bytes;        // byte vectors of a sub-block, before its quants
    int32_t upper;        // upper bits a weight
    bool whole;           // quants are int8, not nibbles
    int32_t offset;       // taken from every quant
    uint32_t block_bytes; // of a panel
    uint32_t sub_bytes;
} bt__wide_format;

/* One sub-block ready to widen: x = scale[k / 16][o] * (q - offset) - min[o]. */
typedef struct bt__wide_sub {
    const uint8_t *q, *upper;
    const float *scale[2], *min; // [32], 64-byte aligned
    int32_t upper_bits, offset;
    bool whole;
} bt__wide_sub;

/* False: another kind of format. */
bool bt__wide_format_of(int32_t format, bt__wide_format *out);
/* Packs one row of blocks as output o of a panel that holds no other bits there (zeros). */
void bt__wide_pack(int32_t format, const uint8_t *row, int32_t k, int32_t o, uint8_t *panel);
/* The sub-block of a panel at k (a multiple of 32); its numbers go to room, [3][32] f32, 64-byte
 * aligned. widen_f16: of the instruction set. */
void bt__wide_open(int32_t format, const bt__wide_format *f, const uint8_t *panel, int32_t k,
                   void (*widen_f16)(const uint16_t *src, size_t n, float *dst), float *room,
                   bt__wide_sub *out);

/* dst [32 k][32 outputs]. Compiled once for each instruction set, as vectors of outputs: hence the
 * plain inner loops over memory that does not overlap. */
static inline __attribute__((always_inline)) void bt__wide_widen(const bt__wide_sub *s,
                                                                 float *restrict dst)
{
    enum { N = 32 };
    const float *restrict min = s->min;
    for (int k = 0; k < N; k++, dst += N) {
        const float *restrict scale = s->scale[k / 16];
        if (s->whole) {
            const int8_t *restrict q = (const int8_t *)s->q + k * N;
            for (int o = 0; o < N; o++) dst[o] = scale[o] * (float)q[o] - min[o];
            continue;
        }
        const uint8_t *restrict q = s->q + k % 16 * N;
        int shift = k / 16 * 4;
        if (s->upper_bits == 0) {
            for (int o = 0; o < N; o++)
                dst[o] = scale[o] * (float)((int)q[o] >> shift & 15) - min[o];
            continue;
        }
        const uint8_t *restrict upper = s->upper + k * s->upper_bits / 8 * N;
        int at = k * s->upper_bits % 8, mask = (1 << s->upper_bits) - 1;
        for (int o = 0; o < N; o++) {
            int v = ((int)q[o] >> shift & 15) | ((int)upper[o] >> at & mask) << 4;
            dst[o] = scale[o] * (float)(v - s->offset) - min[o];
        }
    }
}
