/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/random.h"
#include "base/rng.h"
#include "kernels/quant/quant.h"
#include <math.h>

/* A quick generator for many bytes: xorshift64*, seeded by the good one. */
typedef struct stream {
    uint64_t state;
} stream;

static uint64_t next(stream *s)
{
    s->state ^= s->state >> 12;
    s->state ^= s->state << 25;
    s->state ^= s->state >> 27;
    return s->state * 0x2545F4914F6CDD1Du;
}

static stream stream_of(uint64_t seed)
{
    return (stream){bt_rng_u64(seed, 1) | 1};
}

static void fill(stream *s, void *dst, size_t bytes)
{
    uint8_t *to = dst;
    for (; bytes >= 8; bytes -= 8, to += 8) {
        uint64_t v = next(s);
        memcpy(to, &v, 8);
    }
    uint64_t v = next(s);
    memcpy(to, &v, bytes);
}

static void put_f16(uint8_t *dst, float f)
{
    bt_store_u16(dst, bt_f16_from_f32(f));
}

/* Six-bit scales 32..63 and minima equal to them, in the packing of Q4_K and Q5_K. */
static void fill_scales(stream *s, uint8_t scales[12])
{
    uint64_t bits = next(s);
    uint8_t v[8];
    for (int j = 0; j < 8; j++) v[j] = (uint8_t)(32 | (bits >> 8 * j & 31));
    for (int j = 0; j < 4; j++) {
        scales[j] = scales[j + 4] = (uint8_t)(v[j] | v[j + 4] >> 4 << 6);
        scales[j + 8] = (uint8_t)((v[j + 4] & 15) | (v[j + 4] & 15) << 4);
    }
}

/* Where a format keeps d and m (-1: nowhere), the standard deviation of its random quants under d
 * of 1, and the m that then makes their mean 0. A byte deviates by 73.9, four bits by 4.61, five by
 * 9.23, six by 18.5; scales of 32..63 multiply by 48.4 (root mean square), six signed bits by 18.5.
 */
static const struct {
    int32_t format, d, m;
    float deviation, mean;
} forms[] = {
    {BT_FORMAT_Q8_0, 0, -1, 73.9f, 0},     {BT_FORMAT_Q4_0, 0, -1, 4.61f, 0},
    {BT_FORMAT_Q4_1, 0, 2, 4.61f, -7.5f},  {BT_FORMAT_Q5_0, 0, -1, 9.23f, 0},
    {BT_FORMAT_Q5_1, 0, 2, 9.23f, -15.5f}, {BT_FORMAT_Q2_K, 80, 82, 13.9f, 1.5f},
    {BT_FORMAT_Q3_K, 108, -1, 43.3f, 0},   {BT_FORMAT_Q4_K, 0, 2, 223.2f, 7.5f},
    {BT_FORMAT_Q5_K, 0, 2, 461.4f, 15.5f}, {BT_FORMAT_Q6_K, 208, -1, 73.9f * 18.5f, 0},
    {BT_FORMAT_IQ4_NL, 0, -1, 67.4f, 0},   {BT_FORMAT_IQ4_XS, 0, -1, 67.4f * 18.5f, 0},
    {BT_FORMAT_INT8G, 0, -1, 73.9f, 0},    {BT_FORMAT_INT4G, 0, 2, 4.61f, -7.5f},
    {BT_FORMAT_MXFP4, -1, -1, 5.85f, 0},
};

/* d is a power of two: of the two around what is wanted, each so often that the mean square is. */
static void fill_exponent(stream *s, float d, uint8_t *b)
{
    int exp;
    float part = frexpf(d, &exp) * 2; // of 2^(exp - 1), in [1, 2)
    bool upper = (float)(next(s) >> 40) * 0x1p-24f < (part * part - 1) / 3;
    b[0] = (uint8_t)(exp - 1 + upper + 128);
}

/* False: a format that is not known here. */
static bool fill_block(stream *s, int32_t format, float spread, uint8_t *b)
{
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (forms[i].format != format) continue;
        float d = spread / forms[i].deviation;
        if (forms[i].d >= 0) put_f16(b + forms[i].d, d);
        if (forms[i].m >= 0) put_f16(b + forms[i].m, d * forms[i].mean);
        if (format == BT_FORMAT_Q4_K || format == BT_FORMAT_Q5_K) fill_scales(s, b + 4);
        if (format == BT_FORMAT_MXFP4) fill_exponent(s, d, b);
        return true;
    }
    return false;
}

static void fill_floats(stream *s, int32_t format, size_t n, float spread, uint8_t *dst)
{
    float scale = spread * 1.7320508f * 0x1p-23f; // uniform: half width is sqrt(3) deviations
    for (size_t i = 0; i < n; i++) {
        float v = (float)((int32_t)(next(s) >> 40) - (1 << 23)) * scale;
        if (format == BT_FORMAT_F32)
            memcpy(dst + 4 * i, &v, 4);
        else
            bt_store_u16(dst + 2 * i,
                         format == BT_FORMAT_F16 ? bt_f16_from_f32(v) : bt_bf16_from_f32(v));
    }
}

bool bt_random_weights(int32_t format, uint64_t seed, size_t n, float spread, void *dst)
{
    const bt_format_info *f = bt_format_get(format);
    stream s = stream_of(seed);
    if (!f || !f->loadable || n % (size_t)f->elems) return false;
    if (f->elems == 1) {
        fill_floats(&s, format, n, spread, dst);
        return true;
    }
    size_t bytes = bt_format_bytes(format, n);
    fill(&s, dst, bytes);
    for (uint8_t *b = dst; b < (uint8_t *)dst + bytes; b += f->bytes)
        if (!fill_block(&s, format, spread, b)) return false;
    return true;
}

void bt_random_floats(uint64_t seed, size_t n, float *dst)
{
    stream s = stream_of(seed);
    for (size_t i = 0; i < n; i++)
        dst[i] = (float)((int32_t)(next(&s) >> 40) - (1 << 23)) * 0x1p-23f;
}
