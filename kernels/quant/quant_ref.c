/* SPDX-License-Identifier: Apache-2.0 */
/* quant_ref.c - from and to each format: the specification. Quantizers of blocks of 32 are here,
 * those of super-blocks in quant_k_ref.c, of Baton's own groups in quant_group_ref.c. */
#include "base/assert.h"
#include "kernels/quant/forms.h"
#include <math.h>

uint16_t bt_f16_from_f32(float f)
{
    uint32_t bits = bt_f32_bits(f), mag = bits & 0x7FFFFFFFu;
    uint32_t sign = bits >> 16 & 0x8000u, man = mag & 0x7FFFFFu;
    int exp = (int)(mag >> 23) - 127;
    if (mag > 0x7F800000u) return (uint16_t)(sign | 0x7E00u | man >> 13);
    if (exp > 15) return (uint16_t)(sign | 0x7C00u);
    if (exp < -25) return (uint16_t)sign;
    /* Below 2^-14 the result is subnormal: the hidden bit becomes explicit and more bits are cut.
     */
    uint32_t full = man | 0x800000u;
    int cut = exp >= -14 ? 13 : -1 - exp;
    uint32_t half = 1u << (cut - 1), rest = full & ((1u << cut) - 1), out = full >> cut;
    if (rest > half || (rest == half && (out & 1))) out++;
    /* A carry out of the mantissa moves into the exponent, up to infinity. */
    if (exp >= -14) out += (uint32_t)(exp + 14) << 10;
    return (uint16_t)(sign | out);
}

uint16_t bt_bf16_from_f32(float f)
{
    uint32_t bits = bt_f32_bits(f);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1)) >> 16);
}

static void dequant(const bt_form *f, const bt_parts *p, float *x)
{
    for (int i = 0; i < f->blocks * 2; i++, x += 16) {
        const uint8_t *q = p->q + (ptrdiff_t)16 * i;
        float scale = bt_form_scale(f, p, i), min = f->min ? bt_form_min(f, p, i) : 0;
        for (int e = 0; e < 16; e++) x[e] = scale * (float)bt_form_value(f, q[e]);
        for (int e = 0; f->min && e < 16; e++) x[e] += min;
    }
}

bool bt_dequant_ref(int32_t format, const void *src, size_t n, float *dst)
{
    const uint8_t *p = src;
    const bt_quant_row *row = bt_quant_row_of(format);
    if (format == BT_FORMAT_F32) {
        memcpy(dst, src, n * sizeof *dst);
    } else if (format == BT_FORMAT_F16) {
        for (size_t i = 0; i < n; i++) dst[i] = bt_f32_from_f16(bt_load_u16(p + 2 * i));
    } else if (format == BT_FORMAT_BF16) {
        for (size_t i = 0; i < n; i++) dst[i] = bt_f32_from_bf16(bt_load_u16(p + 2 * i));
    } else if (row) {
        bt_parts parts;
        size_t elems = (size_t)row->form.blocks * BT_QUANT_BLOCK,
               bytes = bt_format_bytes(format, elems);
        for (; n >= elems; n -= elems, p += bytes, dst += elems) {
            row->parts(p, &parts);
            dequant(&row->form, &parts, dst);
        }
    } else {
        return false;
    }
    return true;
}

/* The largest magnitude's bits: compared as such, infinity and NaN win and show in the scale. */
static uint32_t most_of(const float x[BT_QUANT_BLOCK])
{
    uint32_t most = 0;
    for (int j = 0; j < BT_QUANT_BLOCK; j++) most = BT_MAX(most, bt_f32_bits(fabsf(x[j])));
    return most;
}

/* d = max|x| / 127; q = x / d to nearest, halves away from zero. The quotient uses d before it is
 * rounded to F16. */
void bt__quantize_q8_0(const float *x, uint8_t *b)
{
    float d = bt_f32_from_bits(most_of(x)) / 127, inverse = d > 0 ? 1 / d : 0;
    bt_store_u16(b, bt_f16_from_f32(d));
    for (int j = 0; j < BT_QUANT_BLOCK; j++) {
        float q = roundf(x[j] * inverse);
        b[2 + j] = (uint8_t)(int8_t)(q >= -127 && q <= 127 ? q : 0); // not finite: d says so
    }
}

static void put_nibbles(const uint8_t q[BT_QUANT_BLOCK], uint8_t *qs)
{
    for (int j = 0; j < 16; j++) qs[j] = (uint8_t)((q[j] & 15) | (q[j + 16] & 15) << 4);
}

static void put_fifth_bits(const uint8_t q[BT_QUANT_BLOCK], uint8_t qh[4])
{
    memset(qh, 0, 4);
    for (int j = 0; j < BT_QUANT_BLOCK; j++) qh[j / 8] |= (uint8_t)(q[j] >> 4 << j % 8);
}

/* d = -x[m] / half for the m of largest magnitude, so that this element maps to q = 0 and one side
 * reaches 2 half (cut to one less); q = floor(x / d + half + 0.5). Returns d as F16. */
static uint16_t quant_symmetric(const float *x, int half, uint8_t q[BT_QUANT_BLOCK])
{
    float most = x[0], middle = (float)half + 0.5f, top = (float)(2 * half - 1);
    for (int j = 1; j < BT_QUANT_BLOCK; j++)
        if (bt_f32_bits(fabsf(x[j])) > bt_f32_bits(fabsf(most))) most = x[j];
    float d = most / (float)-half, inverse = d != 0 ? 1 / d : 0;
    for (int j = 0; j < BT_QUANT_BLOCK; j++) {
        float v = x[j] * inverse + middle; // two roundings: the build forbids fusing them
        q[j] = (uint8_t)(v >= top ? top : v > 0 ? v : 0);
    }
    return bt_f16_from_f32(d);
}

/* m = min x, d = (max x - m) / top; q = floor((x - m) / d + 0.5). */
static void quant_affine(const float *x, int top, uint8_t *d16, uint8_t *m16, uint8_t *q)
{
    float low = x[0], high = x[0];
    bool finite = most_of(x) < 0x7F800000u;
    for (int j = 1; j < BT_QUANT_BLOCK; j++) {
        low = x[j] < low ? x[j] : low;
        high = x[j] > high ? x[j] : high;
    }
    float d = (high - low) / (float)top, inverse = d != 0 ? 1 / d : 0;
    bt_store_u16(d16, finite ? bt_f16_from_f32(d) : 0x7E00);
    bt_store_u16(m16, bt_f16_from_f32(low));
    for (int j = 0; j < BT_QUANT_BLOCK; j++) {
        float v = (x[j] - low) * inverse + 0.5f;
        q[j] = (uint8_t)(v >= (float)top ? (float)top : v > 0 ? v : 0);
    }
}

void bt__quantize_q4_0(const float *x, uint8_t *b)
{
    uint8_t q[BT_QUANT_BLOCK];
    bt_store_u16(b, quant_symmetric(x, 8, q));
    put_nibbles(q, b + 2);
}

void bt__quantize_q4_1(const float *x, uint8_t *b)
{
    uint8_t q[BT_QUANT_BLOCK];
    quant_affine(x, 15, b, b + 2, q);
    put_nibbles(q, b + 4);
}

void bt__quantize_q5_0(const float *x, uint8_t *b)
{
    uint8_t q[BT_QUANT_BLOCK];
    bt_store_u16(b, quant_symmetric(x, 16, q));
    put_fifth_bits(q, b + 2);
    put_nibbles(q, b + 6);
}

void bt__quantize_q5_1(const float *x, uint8_t *b)
{
    uint8_t q[BT_QUANT_BLOCK];
    quant_affine(x, 31, b, b + 2, q);
    put_fifth_bits(q, b + 4);
    put_nibbles(q, b + 8);
}

uint8_t bt__nearest_code(float x, float d, const uint8_t codes[16], int offset)
{
    uint8_t best = 0;
    float least = INFINITY;
    for (int c = 0; c < 16; c++) {
        float off = fabsf(d * (float)(codes[c] - offset) - x);
        if (off < least) least = off, best = (uint8_t)c;
    }
    return best;
}

/* d so that the element of largest magnitude meets the code of largest magnitude, -127. */
void bt__quantize_iq4_nl(const float *x, uint8_t *b)
{
    float most = x[0];
    uint8_t q[BT_QUANT_BLOCK];
    for (int j = 1; j < BT_QUANT_BLOCK; j++)
        if (bt_f32_bits(fabsf(x[j])) > bt_f32_bits(fabsf(most))) most = x[j];
    bt_store_u16(b, bt_f16_from_f32(most / -127));
    float d = bt_f32_from_f16(bt_load_u16(b));
    for (int j = 0; j < BT_QUANT_BLOCK; j++) q[j] = bt__nearest_code(x[j], d, bt_codes_iq4, 128);
    put_nibbles(q, b + 2);
}

/* The exponent is floor(log2 max|x|) - 2, for FP4 goes to 6. There is no NaN: a block that is not
 * finite becomes infinite, 12 * 2^127. */
void bt__quantize_mxfp4(const float *x, uint8_t *b)
{
    int exp = (int)(most_of(x) >> 23);
    uint8_t q[BT_QUANT_BLOCK];
    bt_parts p;
    b[0] = (uint8_t)(exp == 255 ? 255 : exp > 2 ? exp - 2 : 0);
    bt__parts_mxfp4(b, &p);
    float d = bt_f32_from_bf16(p.d);
    for (int j = 0; j < BT_QUANT_BLOCK; j++) q[j] = bt__nearest_code(x[j], d, bt_codes_mxfp4, 16);
    if (exp == 255) memset(q, 7, sizeof q);
    put_nibbles(q, b + 1);
}

bool bt_quant_ref(int32_t format, const float *src, size_t n, void *dst)
{
    uint8_t *p = dst;
    const bt_quant_row *row = bt_quant_row_of(format);
    if (format == BT_FORMAT_F32) {
        memcpy(dst, src, n * sizeof *src);
    } else if (format == BT_FORMAT_F16) {
        for (size_t i = 0; i < n; i++) bt_store_u16(p + 2 * i, bt_f16_from_f32(src[i]));
    } else if (format == BT_FORMAT_BF16) {
        for (size_t i = 0; i < n; i++) bt_store_u16(p + 2 * i, bt_bf16_from_f32(src[i]));
    } else if (row) {
        size_t elems = (size_t)row->form.blocks * BT_QUANT_BLOCK,
               bytes = bt_format_bytes(format, elems);
        for (; n >= elems; n -= elems, p += bytes, src += elems) row->quantize(src, p);
    } else {
        return false;
    }
    return true;
}
