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

/* Standard deviations: a byte 73.9, four bits 4.61, five 9.23, six 18.5; scales of 32..63 multiply
 * by 48.4 (root mean square), those of Q6_K in [-128, 127] by 73.9. */
static void fill_block(stream *s, int32_t format, float spread, uint8_t *b)
{
    switch (format) {
    case BT_FORMAT_Q8_0: put_f16(b, spread / 73.9f); break;
    case BT_FORMAT_INT8G: put_f16(b, spread / 73.9f); break;
    case BT_FORMAT_Q4_0: put_f16(b, spread / 4.61f); break;
    case BT_FORMAT_INT4G:
        put_f16(b, spread / 4.61f);
        put_f16(b + 2, -7.5f * spread / 4.61f);
        break;
    case BT_FORMAT_Q4_K:
    case BT_FORMAT_Q5_K: {
        float top = format == BT_FORMAT_Q4_K ? 15 : 31, d = spread / (48.4f * 0.3075f * top);
        put_f16(b, d);
        put_f16(b + 2, d * top / 2);
        fill_scales(s, b + 4);
        break;
    }
    default: put_f16(b + 208, spread / (73.9f * 18.5f)); break; // Q6_K
    }
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
        fill_block(&s, format, spread, b);
    return true;
}

void bt_random_floats(uint64_t seed, size_t n, float *dst)
{
    stream s = stream_of(seed);
    for (size_t i = 0; i < n; i++)
        dst[i] = (float)((int32_t)(next(&s) >> 40) - (1 << 23)) * 0x1p-23f;
}
