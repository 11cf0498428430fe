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
 *   Q4_1  bytes 0-1: d, 2-3: m (F16)   20 bytes, 32 elements: x[i] = d * q[i] + m
 *         byte 4+j:  as Q4_0
 *
 *   Q5_0  bytes 0-1: d (F16)           22 bytes, 32 elements: x[i] = d * (q[i] - 16), q in 0..31
 *         byte 2+i:  4 bytes of high bits: bit i % 8 of byte i / 8 is bit 4 of q[i]
 *         byte 6+j:  bits 0-3 of q[j] and q[j + 16], as Q4_0
 *
 *   Q5_1  bytes 0-1: d, 2-3: m (F16)   24 bytes, 32 elements: x[i] = d * q[i] + m
 *         bytes 4-7 high bits, byte 8+j low nibbles, as Q5_0
 *
 *   IQ4_NL  as Q4_0, 18 bytes, with x[i] = d * codes[q[i]] (forms.h has the 16 codes)
 *
 *   MXFP4 byte 0:    e                 17 bytes, 32 elements: x[i] = 2^(e - 128) * codes[q[i]]
 *         byte 1+j:  nibbles as Q4_0   (codes are twice those of FP4 E2M1)
 *
 *   Q2_K  byte i:     bits 0-3 sc[i], 4-7 m[i], i 0..15     84 bytes, 256 elements in 16
 *         byte 16+i:  64 bytes of two bits as Q6_K's upper  sub-blocks of 16:
 *         bytes 80-81: d, 82-83: dmin (F16)                 x = (d * sc) * q - (dmin * m), q in 0..3
 *
 *   Q3_K  byte l:     bit j is bit 2 of q[32j + l]          110 bytes, 256 elements in 16
 *         byte 32+i:  64 bytes of two bits as Q2_K          sub-blocks of 16:
 *         byte 96+i:  12 bytes of scales                    x = (d * (sc - 32)) * (q - 4)
 *         bytes 108-109: d (F16)
 *         scales      bits 0-3 of sc[j] are at bit 4 (j / 8) of byte j % 8,
 *                     bits 4-5 at bit 2 (j / 4) of byte 8 + j % 4
 *
 *   IQ4_XS  bytes 0-1: d (F16)         136 bytes, 256 elements in 8 sub-blocks of 32:
 *           bytes 2-3: bits 2j, 2j + 1 are bits 4-5 of sc[j]
 *           byte 4+i:  bits 0-3 of sc[2i] and sc[2i + 1]    x = (d * (sc - 32)) * codes[q]
 *           byte 8+16j: 16 bytes of nibbles as IQ4_NL
 *
 *   Q4_K  bytes 0-1: d, 2-3: dmin (F16)    144 bytes, 256 elements in 8 sub-blocks of 32:
 *         byte 4+i:  12 bytes of scales    x = (d * sc[j]) * q - (dmin * m[j])
 *         byte 16+i: 128 bytes of nibbles  sub-block 2g: low, 2g + 1: high nibbles of bytes
 *                                          32g .. 32g+31
 *         scales     sc[j], m[j] of 6 bits, j 0..7; for j < 4:
 *           byte j:      bits 0-5 sc[j]    bits 6-7 upper two of sc[j + 4]
 *           byte j + 4:  bits 0-5 m[j]     bits 6-7 upper two of m[j + 4]
 *           byte j + 8:  bits 0-3 lower four of sc[j + 4], bits 4-7 lower four of m[j + 4]
 *
 *   Q5_K  as Q4_K with a fifth bit; 176 bytes: d, dmin, scales, then
 *         byte 16+i: 32 bytes of high bits: bit j of byte l is bit 4 of q[32j + l]
 *         byte 48+i: 128 bytes of nibbles as in Q4_K
 *
 *   Q6_K  byte i:     128 bytes of low nibbles    210 bytes, 256 elements in 16 sub-blocks of 16:
 *         byte 128+i: 64 bytes of upper two bits  x = (d * sc[e / 16]) * (q[e] - 32), q in 0..63
 *         byte 192+i: sc[i] (int8)
 *         byte 208:   d (F16)
 *         for e = 128h + 32g + l:  low nibble byte 64h + 32(g & 1) + l, bits 4(g >> 1) ..
 *                                  upper bits byte 128 + 32h + l, bits 2g, 2g + 1
 *
 *   INT8G bytes 0-1: d (F16)     130 bytes, 128 elements: x[i] = d * q[i]
 *         byte 2+i:  q[i] (int8)
 *
 *   INT4G bytes 0-1: d, 2-3: m (F16)   68 bytes, 128 elements: x[i] = d * q[i] + m, q in 0..15
 *         byte 4+16b+j: bits 0-3 q[32b + j], bits 4-7 q[32b + j + 16]
 *
 * Blocks are the GGUF format's (gguf specification, ggml project), except INT8G and INT4G, which
 * are Baton's own. A row is a run of whole blocks; rows in a file may start at any address, so
 * blocks are read bytewise (alignment 1).
 *
 * Conversions here are the specification: dequantization as the formulas say, each operation
 * rounded to f32, equal to the gguf Python package's bit for bit; quantization to the formats that
 * it can quantize to equal to its reference. It has none for the K and IQ formats: ours fits scale
 * and minimum of each sub-block by least squares over several starting steps, or scales to the
 * largest. Thread: any. */
#pragma once
#include "baton/format.h"
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BT_QUANT_BLOCK = 32, BT_QUANT_SUPER = 256, BT_QUANT_GROUP = 128 };

typedef struct bt_block_q8_0 {
    uint8_t d[2]; // F16
    int8_t qs[BT_QUANT_BLOCK];
} bt_block_q8_0;

typedef struct bt_block_q4_0 {
    uint8_t d[2]; // F16
    uint8_t qs[BT_QUANT_BLOCK / 2];
} bt_block_q4_0;

typedef struct bt_block_q4_k {
    uint8_t d[2], dmin[2]; // F16
    uint8_t scales[12];
    uint8_t qs[BT_QUANT_SUPER / 2];
} bt_block_q4_k;

typedef struct bt_block_q5_k {
    uint8_t d[2], dmin[2]; // F16
    uint8_t scales[12];
    uint8_t qh[BT_QUANT_SUPER / 8];
    uint8_t qs[BT_QUANT_SUPER / 2];
} bt_block_q5_k;

typedef struct bt_block_q6_k {
    uint8_t ql[BT_QUANT_SUPER / 2];
    uint8_t qh[BT_QUANT_SUPER / 4];
    int8_t scales[BT_QUANT_SUPER / 16];
    uint8_t d[2]; // F16
} bt_block_q6_k;

typedef struct bt_block_int8g {
    uint8_t d[2]; // F16
    int8_t qs[BT_QUANT_GROUP];
} bt_block_int8g;

typedef struct bt_block_int4g {
    uint8_t d[2], m[2]; // F16
    uint8_t qs[BT_QUANT_GROUP / 2];
} bt_block_int4g;

/* Every member is a byte, so no block is padded and any address will do. */
static_assert(sizeof(bt_block_q8_0) == 34, "Q8_0 is 34 bytes");
static_assert(sizeof(bt_block_q4_0) == 18, "Q4_0 is 18 bytes");
static_assert(sizeof(bt_block_q4_k) == 144, "Q4_K is 144 bytes");
static_assert(sizeof(bt_block_q5_k) == 176, "Q5_K is 176 bytes");
static_assert(sizeof(bt_block_q6_k) == 210, "Q6_K is 210 bytes");
static_assert(sizeof(bt_block_int8g) == 130, "INT8G is 130 bytes");
static_assert(sizeof(bt_block_int4g) == 68, "INT4G is 68 bytes");

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

/* Scale and minimum of sub-block j (0..7) of a Q4_K or Q5_K block. */
static inline uint8_t bt_k_scale(const uint8_t scales[12], int j)
{
    return (uint8_t)(j < 4 ? scales[j] & 63 : (scales[j + 4] & 15) | scales[j - 4] >> 6 << 4);
}

static inline uint8_t bt_k_min(const uint8_t scales[12], int j)
{
    return (uint8_t)(j < 4 ? scales[j + 4] & 63 : scales[j + 4] >> 4 | scales[j] >> 6 << 4);
}

/* Every loadable format; n a multiple of the format's block. False: no such conversion. src and dst
 * of the packed format may have any alignment. */
bool bt_dequant_ref(int32_t format, const void *src, size_t n, float *dst);
bool bt_quant_ref(int32_t format, const float *src, size_t n, void *dst);

/* --quant on load: `rows` rows of k elements, from any loadable format to INT8G or INT4G (the same
 * result as dequantizing and bt_quant_ref). src and dst are dense rows of their formats. Rows are
 * independent: callers split them among threads. Nothing allocates. False, and nothing written: k
 * is not a multiple of both blocks, or no such conversion (bt_requant_supported says which). */
bool bt_requant_supported(int32_t from, int32_t to, int32_t k);
bool bt_requant(int32_t from, const void *src, int32_t to, int64_t rows, int32_t k, void *dst);

/* Two bytes to any address. */
static inline void bt_store_u16(void *p, uint16_t v)
{
    uint8_t *b = (uint8_t *)p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
}

#ifdef __cplusplus
}
#endif
