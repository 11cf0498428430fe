/* SPDX-License-Identifier: Apache-2.0 */
/* quant.h - the element formats in bits, and their reference conversions.
 *
 *   F16   s eeeee mmmmmmmmmm           IEEE 754 binary16, little-endian as all here
 *   BF16  s eeeeeeee mmmmmmm           the upper half of a binary32
 *
 *   Q8_0  bytes 0-1: d (F16)           34 bytes, 32 elements: x[i] = d * qs[i]
 *         byte 2+i:  qs[i] (int8)
 *
 *   Q4_0  bytes 0-1: d (F16)           18 bytes, 32 elements: x[i] = d * (q[i] - 8), q in 0..15
 *         byte 2+j:  bits 0-3 q[j], bits 4-7 q[j + 16]
 *
 * Blocks are the GGUF format's (gguf specification, ggml project). A row is a run of whole blocks;
 * rows in a file may start at any address, so blocks are read bytewise (alignment 1).
 *
 * Conversions here are the specification: exact dequantization (one rounding to f32), and the same
 * quantization as the reference quantizer of the gguf Python package. Thread: any. */
#pragma once
#include "baton/format.h"
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BT_QUANT_BLOCK = 32 };

typedef struct bt_block_q8_0 {
    uint8_t d[2]; // F16
    int8_t qs[BT_QUANT_BLOCK];
} bt_block_q8_0;

typedef struct bt_block_q4_0 {
    uint8_t d[2]; // F16
    uint8_t qs[BT_QUANT_BLOCK / 2];
} bt_block_q4_0;

#ifdef __cplusplus
static_assert(sizeof(bt_block_q8_0) == 34 && alignof(bt_block_q8_0) == 1, "Q8_0 is 34 bytes");
static_assert(sizeof(bt_block_q4_0) == 18 && alignof(bt_block_q4_0) == 1, "Q4_0 is 18 bytes");
#else
static_assert(sizeof(bt_block_q8_0) == 34 && _Alignof(bt_block_q8_0) == 1, "Q8_0 is 34 bytes");
static_assert(sizeof(bt_block_q4_0) == 18 && _Alignof(bt_block_q4_0) == 1, "Q4_0 is 18 bytes");
#endif

static inline float bt_f32_from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t bt_f32_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* Exact; NaN stays NaN (made quiet, as the processors do). */
static inline float bt_f32_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exp = (h >> 10) & 31u, man = h & 0x3FFu;
    if (exp == 31) return bt_f32_from_bits(sign | 0x7F800000u | man << 13 | (man ? 0x400000u : 0u));
    if (exp) return bt_f32_from_bits(sign | (exp + 112) << 23 | man << 13);
    float f = (float)man * 0x1p-24f; // zero or subnormal
    return sign ? -f : f;
}

static inline float bt_f32_from_bf16(uint16_t h)
{
    return bt_f32_from_bits((uint32_t)h << 16);
}

uint16_t bt_f16_from_f32(float f);  // nearest, ties to even; overflow gives infinity
uint16_t bt_bf16_from_f32(float f); // nearest, ties to even; NaN stays NaN

/* Two bytes at any address. */
static inline uint16_t bt_load_u16(const void *p)
{
    const uint8_t *b = (const uint8_t *)p;
    return (uint16_t)(b[0] | b[1] << 8);
}

/* Formats F32 F16 BF16 Q8_0 Q4_0; n a multiple of the format's block. False: no such conversion.
 * src and dst of the packed format may have any alignment. */
bool bt_dequant_ref(int32_t format, const void *src, size_t n, float *dst);
bool bt_quant_ref(int32_t format, const float *src, size_t n, void *dst);

#ifdef __cplusplus
}
#endif
