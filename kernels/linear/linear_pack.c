/* SPDX-License-Identifier: Apache-2.0 */
/* linear_pack.c - rows of a file to panels, as linear_impl.h draws them. */
#include "base/assert.h"
#include "kernels/linear/linear_impl.h"

enum { LANES = BT_LINEAR_PANEL };

/* Transposes `lanes` rows, some k at a time so that both sides stay in the first-level cache. */
void bt__pack_16(const uint8_t *rows, int32_t k, int32_t lanes, void *panel)
{
    enum { STEP = 64 };
    uint16_t *to = panel;
    for (int32_t i0 = 0; i0 < k; i0 += STEP)
        for (int32_t o = 0; o < lanes; o++) {
            const uint8_t *row = rows + (size_t)o * (size_t)k * 2;
            for (int32_t i = i0; i < BT_MIN(i0 + STEP, k); i++)
                memcpy(&to[(size_t)i * LANES + (size_t)o], row + (size_t)i * 2, 2);
        }
}

void bt__pack_32(const uint8_t *rows, int32_t k, int32_t lanes, void *panel)
{
    enum { STEP = 32 };
    uint32_t *to = panel;
    for (int32_t i0 = 0; i0 < k; i0 += STEP)
        for (int32_t o = 0; o < lanes; o++) {
            const uint8_t *row = rows + (size_t)o * (size_t)k * 4;
            for (int32_t i = i0; i < BT_MIN(i0 + STEP, k); i++)
                memcpy(&to[(size_t)i * LANES + (size_t)o], row + (size_t)i * 4, 4);
        }
}

/* 32 quants of one output, four at a time in a 32-bit word; `to` is that output's. */
static inline void put_quants(const bt_form *f, const uint8_t *q, uint8_t *to)
{
    uint32_t four[8], v;
    memcpy(four, q, sizeof four);
    for (int g = 0; f->bits == 8 && g < 8; g++, to += 4 * LANES) memcpy(to, &four[g], 4);
    for (int j = 0; f->bits & 4 && j < 4; j++, to += 4 * LANES) {
        v = (four[2 * j] & 0x0F0F0F0Fu) | (four[2 * j + 1] & 0x0F0F0F0Fu) << 4;
        memcpy(to, &v, 4);
    }
    for (int u = 0; f->bits & 2 && u < 2; u++, to += 4 * LANES) {
        v = 0;
        for (int t = 0; t < 4; t++) v |= (four[4 * u + t] >> (f->bits & 4) & 0x03030303u) << 2 * t;
        memcpy(to, &v, 4);
    }
    if (f->bits & 1) {
        v = 0;
        for (int g = 0; g < 8; g++) v |= (four[g] >> (f->bits & 6) & 0x01010101u) << g;
        memcpy(to, &v, 4);
    }
}

/* One block as output o of a panel's block. */
static inline void put_block(const bt_form *f, const bt_parts *p, int32_t o, uint8_t *panel)
{
    uint8_t *bytes = panel + (f->min ? 128 : 64) + o, *quants = panel + bt__panel_head(f) + 4 * o;
    memcpy(panel + 2 * o, &p->d, 2);
    if (f->min) memcpy(panel + 64 + 2 * o, &p->m, 2);
    for (int j = 0; j < f->blocks; j++, quants += f->bits * 128) {
        for (int i = 0; i < f->scales; i++, bytes += LANES) {
            int at = j * f->scales + i;
            *bytes = (uint8_t)p->scale[at];
            if (f->min == BT_MIN_16) *bytes |= (uint8_t)(p->min[at] << 4);
        }
        if (f->min == BT_MIN_32) {
            *bytes = (uint8_t)p->min[j];
            bytes += LANES;
        }
        put_quants(f, p->q + (ptrdiff_t)j * BT_QUANT_BLOCK, quants);
    }
}

/* Block by block, so that the panel's block stays in the first-level cache for all its rows. */
static inline __attribute__((always_inline)) void
pack_blocks(const bt_form *f, void (*parts)(const uint8_t *block, bt_parts *out),
            const uint8_t *rows, int32_t k, int32_t lanes, uint8_t *panel)
{
    int32_t elems = f->blocks * BT_QUANT_BLOCK;
    size_t bytes = bt_format_bytes(f->format, (size_t)elems), stride = (size_t)(k / elems) * bytes;
    for (int32_t i = 0; i < k; i += elems, rows += bytes, panel += bt__panel_block(f))
        for (int32_t o = 0; o < lanes; o++) {
            bt_parts p;
            parts(rows + stride * (size_t)o, &p);
            put_block(f, &p, o, panel);
        }
}

/* One instance a format: in each, the form is a constant. */
#define X(name, FORMAT, ...)                                                                       \
    void bt__pack_##name(const uint8_t *rows, int32_t k, int32_t lanes, void *panel)               \
    {                                                                                              \
        static const bt_form form = {BT_FORMAT_##FORMAT, __VA_ARGS__};                             \
        pack_blocks(&form, bt__parts_##name, rows, k, lanes, panel);                               \
    }
BT_QUANT_FORMS(X)
