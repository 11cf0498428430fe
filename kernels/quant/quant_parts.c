/* SPDX-License-Identifier: Apache-2.0 */
/* quant_parts.c - blocks of each format taken apart, as the drawings of quant.h say. */
#include "kernels/quant/forms.h"

enum { BLOCK = BT_QUANT_BLOCK };

/* 16 bytes of two quants each: j and j + 16. */
static void nibbles(const uint8_t *qs, uint8_t *q)
{
    for (int j = 0; j < 16; j++) {
        q[j] = qs[j] & 15;
        q[j + 16] = qs[j] >> 4;
    }
}

static void fifth_bits(const uint8_t *qh, uint8_t *q)
{
    for (int i = 0; i < BLOCK; i++) q[i] |= (uint8_t)((qh[i / 8] >> i % 8 & 1) << 4);
}

/* d, dmin, scales and minimums of Q4_K and Q5_K, and their nibbles. */
static void super(const uint8_t *block, const uint8_t *qs, bt_parts *out)
{
    const bt_block_q4_k *b = (const bt_block_q4_k *)block; // Q5_K begins with the same
    out->d = bt_load_u16(b->d);
    out->m = bt_load_u16(b->dmin) ^ 0x8000; // it is taken away
    for (int j = 0; j < 8; j++) {
        out->scale[j] = (int8_t)bt_k_scale(b->scales, j);
        out->min[j] = (int8_t)bt_k_min(b->scales, j);
    }
    for (int g = 0; g < 4; g++)
        for (int l = 0; l < BLOCK; l++) {
            out->q[64 * g + l] = qs[BLOCK * g + l] & 15;
            out->q[64 * g + 32 + l] = qs[BLOCK * g + l] >> 4;
        }
}

void bt__parts_q8_0(const uint8_t *block, bt_parts *out)
{
    out->d = bt_load_u16(block);
    for (int i = 0; i < BLOCK; i++) out->q[i] = block[2 + i] ^ 0x80;
}

void bt__parts_q4_0(const uint8_t *block, bt_parts *out)
{
    out->d = bt_load_u16(block);
    nibbles(block + 2, out->q);
}

void bt__parts_q4_1(const uint8_t *block, bt_parts *out)
{
    out->d = bt_load_u16(block);
    out->m = bt_load_u16(block + 2);
    nibbles(block + 4, out->q);
}

void bt__parts_q5_0(const uint8_t *block, bt_parts *out)
{
    out->d = bt_load_u16(block);
    nibbles(block + 6, out->q);
    fifth_bits(block + 2, out->q);
}

void bt__parts_q5_1(const uint8_t *block, bt_parts *out)
{
    out->d = bt_load_u16(block);
    out->m = bt_load_u16(block + 2);
    nibbles(block + 8, out->q);
    fifth_bits(block + 4, out->q);
}

void bt__parts_q2_k(const uint8_t *block, bt_parts *out)
{
    const uint8_t *qs = block + 16;
    out->d = bt_load_u16(block + 80);
    out->m = bt_load_u16(block + 82) ^ 0x8000;
    for (int i = 0; i < 16; i++) {
        out->scale[i] = block[i] & 15;
        out->min[i] = (int8_t)(block[i] >> 4);
    }
    for (int h = 0; h < 2; h++)
        for (int g = 0; g < 4; g++)
            for (int l = 0; l < BLOCK; l++)
                out->q[128 * h + 32 * g + l] = qs[BLOCK * h + l] >> 2 * g & 3;
}

void bt__parts_q3_k(const uint8_t *block, bt_parts *out)
{
    const uint8_t *qh = block, *qs = block + 32, *sc = block + 96;
    out->d = bt_load_u16(block + 108);
    for (int i = 0; i < 16; i++) {
        int low = sc[i % 8] >> i / 8 * 4 & 15, high = sc[8 + i % 4] >> i / 4 * 2 & 3;
        out->scale[i] = (int8_t)((low | high << 4) - 32);
    }
    for (int h = 0; h < 2; h++)
        for (int g = 0; g < 4; g++)
            for (int l = 0; l < BLOCK; l++)
                out->q[128 * h + 32 * g + l] =
                    (uint8_t)((qs[BLOCK * h + l] >> 2 * g & 3) | (qh[l] >> (4 * h + g) & 1) << 2);
}

void bt__parts_q4_k(const uint8_t *block, bt_parts *out)
{
    super(block, ((const bt_block_q4_k *)block)->qs, out);
}

void bt__parts_q5_k(const uint8_t *block, bt_parts *out)
{
    const bt_block_q5_k *b = (const bt_block_q5_k *)block;
    super(block, b->qs, out);
    for (int j = 0; j < 8; j++)
        for (int l = 0; l < BLOCK; l++)
            out->q[BLOCK * j + l] |= (uint8_t)((b->qh[l] >> j & 1) << 4);
}

void bt__parts_q6_k(const uint8_t *block, bt_parts *out)
{
    const bt_block_q6_k *b = (const bt_block_q6_k *)block;
    out->d = bt_load_u16(b->d);
    memcpy(out->scale, b->scales, sizeof b->scales);
    for (int h = 0; h < 2; h++)
        for (int g = 0; g < 4; g++)
            for (int l = 0; l < BLOCK; l++) {
                int low = b->ql[64 * h + 32 * (g & 1) + l] >> 4 * (g >> 1) & 15;
                int high = b->qh[32 * h + l] >> 2 * g & 3;
                out->q[128 * h + 32 * g + l] = (uint8_t)(low | high << 4);
            }
}

void bt__parts_iq4_nl(const uint8_t *block, bt_parts *out)
{
    out->d = bt_load_u16(block);
    nibbles(block + 2, out->q);
}

void bt__parts_iq4_xs(const uint8_t *block, bt_parts *out)
{
    int high = bt_load_u16(block + 2);
    out->d = bt_load_u16(block);
    for (int j = 0; j < 8; j++) {
        int low = block[4 + j / 2] >> j % 2 * 4 & 15;
        out->scale[j] = (int8_t)((low | (high >> 2 * j & 3) << 4) - 32);
        nibbles(block + 8 + 16 * j, out->q + BLOCK * j);
    }
}

/* 2^(e - 128), from 2^-128 on, is a BF16 exactly. */
void bt__parts_mxfp4(const uint8_t *block, bt_parts *out)
{
    int e = block[0];
    out->d = (uint16_t)(e < 2 ? 0x20 << e : (e - 1) << 7);
    nibbles(block + 1, out->q);
}

void bt__parts_int8g(const uint8_t *block, bt_parts *out)
{
    out->d = bt_load_u16(block);
    for (int i = 0; i < BT_QUANT_GROUP; i++) out->q[i] = block[2 + i] ^ 0x80;
}

void bt__parts_int4g(const uint8_t *block, bt_parts *out)
{
    out->d = bt_load_u16(block);
    out->m = bt_load_u16(block + 2);
    for (int j = 0; j < 4; j++) nibbles(block + 4 + 16 * j, out->q + BLOCK * j);
}

const bt_quant_row *bt_quant_row_of(int32_t format)
{
    static const bt_quant_row rows[] = {
#define X(name, FORMAT, blocks, bits, top, offset, scales, min, codes, bf16)                       \
    {{BT_FORMAT_##FORMAT, blocks, bits, top, offset, scales, min, codes, bf16},                    \
     bt__parts_##name,                                                                             \
     bt__quantize_##name},
        BT_QUANT_FORMS(X)
#undef X
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].form.format == format) return &rows[i];
    return NULL;
}
