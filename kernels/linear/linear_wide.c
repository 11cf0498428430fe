/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/linear/linear_wide.h"
#include "base/assert.h"

enum { LANES = 32, SUB = 32 };

bool bt__wide_format_of(int32_t format, bt__wide_format *out)
{
    bt__wide_format f;
    switch (format) {
    case BT_FORMAT_Q4_K: f = (bt__wide_format){BT_QUANT_SUPER, 2, 2, 0, false, 0, 0, 0}; break;
    case BT_FORMAT_Q5_K: f = (bt__wide_format){BT_QUANT_SUPER, 2, 2, 1, false, 0, 0, 0}; break;
    case BT_FORMAT_Q6_K: f = (bt__wide_format){BT_QUANT_SUPER, 1, 2, 2, false, 32, 0, 0}; break;
    case BT_FORMAT_INT8G: f = (bt__wide_format){BT_QUANT_GROUP, 1, 0, 0, true, 0, 0, 0}; break;
    case BT_FORMAT_INT4G: f = (bt__wide_format){BT_QUANT_GROUP, 2, 0, 0, false, 0, 0, 0}; break;
    default: return false;
    }
    int32_t quants = f.whole ? SUB * LANES : 16 * LANES + 4 * f.upper * LANES;
    f.sub_bytes = (uint32_t)(f.bytes * LANES + quants);
    f.block_bytes = (uint32_t)(f.halves * LANES * 2) + (uint32_t)(f.block / SUB) * f.sub_bytes;
    BT_ASSERT(f.sub_bytes % 64 == 0 && f.block_bytes % 64 == 0);
    *out = f;
    return true;
}

/* A block of a file, taken apart: q without its offset, and what goes before the quants. */
typedef struct parts {
    uint16_t half[2];
    uint8_t byte[8][2]; // of each sub-block
    uint8_t q[BT_QUANT_SUPER];
} parts;

static void take_k(int32_t format, const uint8_t *block, parts *p)
{
    const bt_block_q4_k *b4 = (const bt_block_q4_k *)block;
    const bt_block_q5_k *b5 = (const bt_block_q5_k *)block;
    bool five = format == BT_FORMAT_Q5_K;
    const uint8_t *qs = five ? b5->qs : b4->qs; // d, dmin and scales are where Q4_K has them
    p->half[0] = bt_load_u16(b4->d);
    p->half[1] = bt_load_u16(b4->dmin);
    for (int j = 0; j < 8; j++) {
        p->byte[j][0] = bt_k_scale(b4->scales, j);
        p->byte[j][1] = bt_k_min(b4->scales, j);
        for (int l = 0; l < SUB; l++) {
            int q = qs[j / 2 * SUB + l] >> j % 2 * 4 & 15;
            p->q[j * SUB + l] = (uint8_t)(five ? q | (b5->qh[l] >> j & 1) << 4 : q);
        }
    }
}

static void take_q6_k(const bt_block_q6_k *b, parts *p)
{
    p->half[0] = bt_load_u16(b->d);
    for (int i = 0; i < 16; i++) p->byte[i / 2][i % 2] = (uint8_t)b->scales[i];
    for (int e = 0; e < BT_QUANT_SUPER; e++) {
        int h = e >> 7, g = e >> 5 & 3, l = e & 31;
        int low = b->ql[64 * h + 32 * (g & 1) + l] >> 4 * (g >> 1) & 15;
        p->q[e] = (uint8_t)(low | (b->qh[32 * h + l] >> 2 * g & 3) << 4);
    }
}

static void take(int32_t format, const uint8_t *block, parts *p)
{
    switch (format) {
    case BT_FORMAT_Q6_K: take_q6_k((const bt_block_q6_k *)block, p); break;
    case BT_FORMAT_INT8G:
        p->half[0] = bt_load_u16(block);
        memcpy(p->q, block + 2, BT_QUANT_GROUP);
        break;
    case BT_FORMAT_INT4G:
        p->half[0] = bt_load_u16(block);
        p->half[1] = bt_load_u16(block + 2);
        for (int i = 0; i < BT_QUANT_GROUP / 2; i++) {
            p->q[i / 16 * 32 + i % 16] = block[4 + i] & 15;
            p->q[i / 16 * 32 + i % 16 + 16] = block[4 + i] >> 4;
        }
        break;
    default: take_k(format, block, p); break;
    }
}

static void put_sub(const bt__wide_format *f, const parts *p, int32_t j, int32_t o, uint8_t *to)
{
    const uint8_t *q = p->q + j * SUB;
    for (int32_t i = 0; i < f->bytes; i++, to += LANES) to[o] = p->byte[j][i];
    if (f->whole) {
        for (int32_t k = 0; k < SUB; k++) to[k * LANES + o] = q[k];
        return;
    }
    for (int32_t k = 0; k < 16; k++)
        to[k * LANES + o] = (uint8_t)((q[k] & 15) | (q[k + 16] & 15) << 4);
    to += 16 * LANES;
    for (int32_t k = 0; k < SUB && f->upper; k++)
        to[k * f->upper / 8 * LANES + o] |= (uint8_t)(q[k] >> 4 << k * f->upper % 8);
}

void bt__wide_pack(int32_t format, const uint8_t *row, int32_t k, int32_t o, uint8_t *panel)
{
    bt__wide_format f;
    bool known = bt__wide_format_of(format, &f);
    BT_ASSERT(known);
    size_t bytes = bt_format_bytes(format, (size_t)f.block);
    for (int32_t i = 0; i < k; i += f.block, row += bytes, panel += f.block_bytes) {
        parts p;
        take(format, row, &p);
        for (int32_t h = 0; h < f.halves; h++)
            memcpy(panel + (h * LANES + o) * 2, &p.half[h], sizeof p.half[h]);
        for (int32_t j = 0; j < f.block / SUB; j++)
            put_sub(&f, &p, j, o, panel + f.halves * LANES * 2 + (size_t)j * f.sub_bytes);
    }
}

void bt__wide_open(int32_t format, const bt__wide_format *f, const uint8_t *panel, int32_t k,
                   void (*widen_f16)(const uint16_t *src, size_t n, float *dst), float *room,
                   bt__wide_sub *out)
{
    static const _Alignas(64) float zeros[LANES];
    const uint8_t *block = panel + (size_t)(k / f->block) * f->block_bytes;
    const uint8_t *sub =
        block + f->halves * LANES * 2 + (size_t)(k % f->block / SUB) * f->sub_bytes;
    const uint16_t *half = (const uint16_t *)(const void *)block;
    float *a = room, *b = room + LANES, *d = room + (ptrdiff_t)2 * LANES;
    widen_f16(half, LANES, d);
    *out = (bt__wide_sub){.q = sub + f->bytes * LANES,
                          .scale = {a, a},
                          .min = b,
                          .upper_bits = f->upper,
                          .offset = f->offset,
                          .whole = f->whole};
    out->upper = out->q + 16 * LANES;
    switch (format) {
    case BT_FORMAT_Q6_K:
        for (int o = 0; o < LANES; o++) a[o] = d[o] * (float)(int8_t)sub[o];
        for (int o = 0; o < LANES; o++) b[o] = d[o] * (float)(int8_t)sub[LANES + o];
        out->scale[1] = b;
        out->min = zeros;
        break;
    case BT_FORMAT_INT8G:
        out->scale[0] = out->scale[1] = d;
        out->min = zeros;
        break;
    case BT_FORMAT_INT4G:
        widen_f16(half + LANES, LANES, b);
        for (int o = 0; o < LANES; o++) b[o] = -b[o];
        out->scale[0] = out->scale[1] = d;
        break;
    default:
        for (int o = 0; o < LANES; o++) a[o] = d[o] * (float)sub[o];
        widen_f16(half + LANES, LANES, b);
        for (int o = 0; o < LANES; o++) b[o] *= (float)sub[LANES + o];
        break;
    }
}
