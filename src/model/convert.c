/* SPDX-License-Identifier: Apache-2.0 */
/* convert.c - one function a form: a row of numbers. */
#include "model/convert.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/pool.h"
#include "kernels/quant/quant.h"
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { GROUP = BT_QUANT_GROUP };

/* Numbers --------------------------------------------------------------------------------------*/

/* 1 4 3 bits, bias 7, no infinity (OCP FP8): NaN where all of exponent and mantissa are set. */
static float from_e4m3(uint8_t b)
{
    int exp = b >> 3 & 15, man = b & 7;
    float f = exp ? ldexpf((float)(8 + man), exp - 10) : ldexpf((float)man, -9);
    if (exp == 15 && man == 7) f = NAN;
    return b & 0x80 ? -f : f;
}

/* 1 2 1 bits, bias 1 (OCP FP4). */
static const float e2m1[16] = {0,    0.5f,  1,  1.5f,  2,  3,  4,  6,
                               -0.f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

/* Number i of a tensor of any plain format. */
static float number(const bt_file_tensor *t, size_t i)
{
    const uint8_t *p = t->data;
    int32_t v;
    float f;
    switch (t->format) {
    case BT_FORMAT_F32: memcpy(&f, p + 4 * i, sizeof f); return f;
    case BT_FORMAT_F16: return bt_f32_from_f16(bt_load_u16(p + 2 * i));
    case BT_FORMAT_BF16: return bt_f32_from_bf16(bt_load_u16(p + 2 * i));
    case BT_FORMAT_F8_E4M3: return from_e4m3(p[i]);
    case BT_FORMAT_F8_E5M2: return bt_f32_from_f16((uint16_t)(p[i] << 8));
    case BT_FORMAT_F8_E8M0: return p[i] == 255 ? NAN : ldexpf(1, p[i] - 127);
    case BT_FORMAT_I8: return (float)(int8_t)p[i];
    case BT_FORMAT_U8: return (float)p[i];
    case BT_FORMAT_I32: memcpy(&v, p + 4 * i, sizeof v); return (float)v;
    default: return NAN;
    }
}

static uint32_t word(const bt_file_tensor *t, size_t i)
{
    uint32_t w;
    memcpy(&w, (const uint8_t *)t->data + 4 * i, sizeof w);
    return w;
}

/* `bits` bits from place i of a stream whose words lie `stride` apart, beginning at word `at`. */
static int32_t stream(const bt_file_tensor *t, size_t at, size_t stride, size_t i, int32_t bits)
{
    size_t bit = i * (size_t)bits, w = bit / 32, shift = bit % 32;
    uint64_t v = word(t, at + w * stride) >> shift;
    if (shift + (size_t)bits > 32) v |= (uint64_t)word(t, at + (w + 1) * stride) << (32 - shift);
    return (int32_t)(v & ((1u << bits) - 1));
}

/* AWQ: row r of n in line i, of words of 8 rows in an order of their own. */
static int32_t awq(const bt_file_tensor *t, size_t i, size_t r, size_t n)
{
    static const uint8_t place[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    return (int32_t)(word(t, i * (n / 8) + r / 8) >> 4 * place[r % 8] & 15);
}

/* Rows -----------------------------------------------------------------------------------------*/

int32_t bt__convert_head_row(const bt__conversion *c, int32_t r)
{
    int32_t head = r / c->head_dim, at = r % c->head_dim, group = head;
    int32_t place = c->queries + c->member - 1; // of k and v
    if (c->member == 0) {
        group = head / c->queries;
        place = head % c->queries;
    }
    return (group * (c->queries + 2) + place) * c->head_dim + at;
}

/* Number q of column k in GPTQ's, AWQ's and PACKED's words, and the zero that goes with group g. */
static int32_t packed(const bt__conversion *c, int32_t row, int32_t k)
{
    size_t rows = (size_t)c->of, r = (size_t)row;
    if (c->kind == BT__CONVERT_GPTQ) return stream(c->q, r, rows, (size_t)k, c->bits);
    if (c->kind == BT__CONVERT_AWQ) return awq(c->q, (size_t)k, r, rows);
    return stream(c->q, r * (size_t)c->q->dim[0], 1, (size_t)k, c->bits);
}

static int32_t zero_of(const bt__conversion *c, int32_t row, int32_t g, int32_t groups)
{
    size_t r = (size_t)row, rows = (size_t)c->of;
    if (!c->zero) return 1 << (c->bits - 1);
    if (c->kind == BT__CONVERT_GPTQ)
        return stream(c->zero, (size_t)g * (size_t)c->zero->dim[0], 1, r, c->bits) + c->plus_one;
    if (c->kind == BT__CONVERT_AWQ) return awq(c->zero, (size_t)g, r, rows);
    return stream(c->zero, (size_t)g, (size_t)groups, r, c->bits);
}

static float scale_of(const bt__conversion *c, int32_t row, int32_t g, int32_t groups)
{
    size_t at = c->kind == BT__CONVERT_PACKED ? (size_t)row * (size_t)groups + (size_t)g
                                              : (size_t)g * (size_t)c->of + (size_t)row;
    return number(c->scale, at);
}

static int32_t groups_of(const bt__conversion *c)
{
    return (c->to->cols + c->block - 1) / c->block;
}

static void packed_row(const bt__conversion *c, int32_t row, float *dst)
{
    int32_t groups = groups_of(c);
    for (int32_t k = 0; k < c->to->cols; k++) {
        int32_t g = c->order ? (int32_t)word(c->order, (size_t)k) : k / c->block;
        if (g < 0 || g >= groups) {
            dst[k] = NAN;
            continue;
        }
        dst[k] =
            (float)(packed(c, row, k) - zero_of(c, row, g, groups)) * scale_of(c, row, g, groups);
    }
}

static void codes_row(const bt__conversion *c, int32_t row, float *dst)
{
    const uint8_t *q = c->q->data;
    for (int32_t k = 0; k < c->to->cols; k++) {
        size_t i = (size_t)row * (size_t)c->to->cols + (size_t)k, block = i / (size_t)c->block;
        float scale = number(c->scale, block);
        if (c->scale2) {
            scale = number(c->code2, (size_t)scale) * number(c->scale2, block / (size_t)c->block2);
            scale += c->offset;
        }
        dst[k] = number(c->code, i % 2 ? q[i / 2] & 15 : q[i / 2] >> 4) * scale;
    }
}

static void scaled_row(const bt__conversion *c, int32_t row, float *dst)
{
    float of[256];
    const uint8_t *q = (const uint8_t *)c->q->data + (size_t)row * (size_t)c->to->cols;
    size_t at = (size_t)(row / c->block_rows) * (size_t)groups_of(c);
    bt_file_tensor byte = {.format = c->q->format};
    for (int i = 0; i < 256; i++) {
        uint8_t b = (uint8_t)i;
        byte.data = &b;
        of[i] = number(&byte, 0);
    }
    for (int32_t k = 0; k < c->to->cols; at++) {
        float scale = c->factor * number(c->scale, at);
        for (int32_t end = BT_MIN(k + c->block, c->to->cols); k < end; k++)
            dst[k] = of[q[k]] * scale;
    }
}

static void float_row(const bt__conversion *c, int32_t r, float *dst)
{
    int32_t row = c->first + r, cols = c->to->cols, groups = groups_of(c);
    const uint8_t *q = c->q->data;
    size_t at = (size_t)row * (size_t)cols;
    switch (c->kind) {
    case BT__CONVERT_COLUMNS:
        for (int32_t k = 0; k < cols; k++)
            dst[k] = number(c->q, (size_t)k * (size_t)c->of + (size_t)row);
        break;
    case BT__CONVERT_HEADS:
        at = (size_t)bt__convert_head_row(c, r) * (size_t)cols;
        for (int32_t k = 0; k < cols; k++) dst[k] = number(c->q, at + (size_t)k);
        break;
    case BT__CONVERT_SCALED: scaled_row(c, row, dst); break;
    case BT__CONVERT_GPTQ:
    case BT__CONVERT_AWQ:
    case BT__CONVERT_PACKED: packed_row(c, row, dst); break;
    case BT__CONVERT_CODES: codes_row(c, row, dst); break;
    case BT__CONVERT_FP4:
        for (int32_t k = 0; k < cols; k++) {
            size_t i = at + (size_t)k;
            dst[k] = e2m1[q[i / 2] >> 4 * (i % 2) & 15] * c->factor *
                     number(c->scale, (size_t)row * (size_t)groups + (size_t)(k / c->block));
        }
        break;
    }
}

/* The file's own numbers in blocks of 128: nothing is fitted again. */
static bool group_row(const bt__conversion *c, int32_t r, uint8_t *dst)
{
    int32_t row = c->first + r, groups = groups_of(c);
    bool sound = true;
    for (int32_t k = 0; k < c->to->cols; k += GROUP) {
        int32_t g = k / c->block;
        if (c->to->format == BT_FORMAT_INT8G) {
            float d = c->factor *
                      number(c->scale, (size_t)(row / c->block_rows) * (size_t)groups + (size_t)g);
            bt_store_u16(dst, bt_f16_from_f32(d));
            memcpy(dst + 2, (const uint8_t *)c->q->data + (size_t)row * (size_t)c->to->cols + k,
                   GROUP);
            sound = sound && fabsf(d) <= 65504;
            dst += sizeof(bt_block_int8g);
            continue;
        }
        float d = scale_of(c, row, g, groups), m = -d * (float)zero_of(c, row, g, groups);
        bt_store_u16(dst, bt_f16_from_f32(d));
        bt_store_u16(dst + 2, bt_f16_from_f32(m));
        for (int32_t b = 0; b < GROUP; b += 32)
            for (int32_t j = 0; j < 16; j++)
                dst[4 + b / 2 + j] =
                    (uint8_t)(packed(c, row, k + b + j) | packed(c, row, k + b + j + 16) << 4);
        sound = sound && fabsf(d) <= 65504 && fabsf(m) <= 65504;
        dst += sizeof(bt_block_int4g);
    }
    return sound;
}

int32_t bt__convert_format(const bt__conversion *c)
{
    bool whole = c->to->cols % GROUP == 0 && (c->block % GROUP == 0 || c->block >= c->to->cols);
    switch (c->kind) {
    case BT__CONVERT_COLUMNS:
    case BT__CONVERT_HEADS: return c->q->format;
    case BT__CONVERT_SCALED:
        return c->q->format == BT_FORMAT_I8 && whole ? BT_FORMAT_INT8G : BT_FORMAT_BF16;
    case BT__CONVERT_GPTQ:
    case BT__CONVERT_AWQ:
    case BT__CONVERT_PACKED:
        return c->bits <= 4 && whole && !c->order ? BT_FORMAT_INT4G : BT_FORMAT_F16;
    case BT__CONVERT_CODES:
    case BT__CONVERT_FP4: break;
    }
    return BT_FORMAT_BF16;
}

bool bt__convert_rows(const bt__conversion *c, int32_t a, int32_t b, float *buffer, void *dst)
{
    int32_t format = c->to->format;
    size_t cols = (size_t)c->to->cols;
    uint8_t *out = dst;
    for (int32_t r = a; r < b; r++, out += bt_format_bytes(format, cols)) {
        if (format == BT_FORMAT_INT4G || format == BT_FORMAT_INT8G) {
            if (!group_row(c, r, out)) return false;
            continue;
        }
        float_row(c, r, buffer);
        for (size_t k = 0; k < cols; k++) {
            if (!(fabsf(buffer[k]) <= (format == BT_FORMAT_F16 ? 65504.f : 3.3e38f))) return false;
            if (format == BT_FORMAT_F32)
                memcpy(out + 4 * k, &buffer[k], sizeof buffer[k]);
            else
                bt_store_u16(out + 2 * k, format == BT_FORMAT_F16 ? bt_f16_from_f32(buffer[k])
                                                                  : bt_bf16_from_f32(buffer[k]));
        }
    }
    return true;
}

/* All of a model's ------------------------------------------------------------------------------*/

static size_t bytes_of(const bt__conversion *c)
{
    return bt_format_bytes(c->to->format, (size_t)c->to->cols) * (size_t)c->to->rows;
}

uint64_t bt_model_convert_bytes(const bt_model *m, char text[static 96])
{
    uint64_t sum = 0;
    text[0] = 0;
    for (size_t i = 0; i < m->n_conversions; i++)
        sum += (bytes_of(&m->conversion[i]) + 63) / 64 * 64;
    if (m->n_conversions)
        snprintf(text, 96, "%zu matrices of %s become %s", m->n_conversions,
                 bt_format_get(m->conversion[0].q->format)->name,
                 bt_format_get(m->conversion[0].to->format)->name);
    return sum;
}

typedef struct convert_job {
    const bt__conversion *c;
    uint8_t *dst;
    float *buffer; // [threads][stride]
    size_t stride;
    atomic_bool unsound;
} convert_job;

static void convert_part(void *ud, int thread, int threads)
{
    convert_job *j = ud;
    int32_t a = (int32_t)((int64_t)j->c->to->rows * thread / threads);
    int32_t b = (int32_t)((int64_t)j->c->to->rows * (thread + 1) / threads);
    size_t row = bt_format_bytes(j->c->to->format, (size_t)j->c->to->cols);
    if (!bt__convert_rows(j->c, a, b, j->buffer + (size_t)thread * j->stride,
                          j->dst + (size_t)a * row))
        atomic_store(&j->unsound, true);
}

bt_status bt_model_convert(bt_model *m, int threads,
                           void (*progress)(void *ud, uint64_t done, uint64_t total), void *ud,
                           bt_err *err)
{
    char text[96];
    uint64_t total = bt_model_convert_bytes(m, text);
    size_t at = 0;
    convert_job job = {.stride = 0};
    bt_pool *pool = NULL;
    bt_status st = BT_OK;
    if (total == 0) return BT_OK;
    const bool tied = m->recipe.tied_head;
    for (size_t i = 0; i < m->n_conversions; i++)
        job.stride = BT_MAX(job.stride, (size_t)m->conversion[i].to->cols);
    job.stride = (job.stride + 15) / 16 * 16;
    m->converted = bt_aligned_alloc(64, total);
    job.buffer = bt_aligned_alloc(64, job.stride * (size_t)threads * sizeof *job.buffer);
    if (!m->converted || !job.buffer)
        st =
            bt_err_set(err, BT_ENOMEM, 0,
                       "the model's matrices need %llu MiB of host memory to be made from what the "
                       "file holds",
                       (unsigned long long)(total >> 20));
    if (!st) st = bt_pool_new(threads, &pool, err);
    for (size_t i = 0; !st && i < m->n_conversions; i++) {
        job.c = &m->conversion[i];
        job.dst = (uint8_t *)m->converted + at;
        bt_pool_run(pool, convert_part, &job);
        if (atomic_load(&job.unsound))
            st =
                bt_err_set(err, BT_EFORMAT, 0,
                           "tensor '%s' or its scales hold what is not finite; the file is damaged",
                           bt_str_shown(job.c->q->name).s);
        job.c->to->data = job.dst;
        at += (bytes_of(job.c) + 63) / 64 * 64;
        if (progress) progress(ud, at, total);
    }
    if (tied) m->weights.head = m->weights.embed;
    m->n_conversions = 0;
    if (pool) bt_pool_free(pool);
    bt_free(job.buffer);
    return st;
}
