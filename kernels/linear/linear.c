/* SPDX-License-Identifier: Apache-2.0 */
/* linear.c - packing, tiles and loops; the arithmetic is in linear_{generic,avx2,avx512}.c.
 *
 * Loop order: rows in chunks whose activations stay in the second-level cache, then panels (weights
 * come from memory once a chunk), then tiles of rows. 16-bit floats meeting more than one tile, and
 * the formats of linear_wide.h always, are widened to f32 a stretch of k at a time, once for all
 * tiles of the chunk; the sums pause in memory between stretches, which keeps each one a single
 * chain. */
#include "kernels/linear/linear.h"
#include "base/assert.h"
#include "kernels/linear/linear_impl.h"

enum {
    ACT_CHUNK_BYTES = 512 * 1024, // of a chunk's int8 activations: half of a second-level cache
    STRETCH = 128,                // k widened at once: 16 KB, half of a first-level cache
    CHUNK_ROWS_MAX = 96,          // of float activations: widening a panel must pay
    ACT_FLOAT = 0,
    ACT_INT8 = 1,
};

static const bt__linear_kernels *linear_kernels(void)
{
#if defined(__x86_64__)
    switch (bt_isa_get()) {
    case BT_ISA_AVX512: return &bt__linear_avx512;
    case BT_ISA_AVX2: return &bt__linear_avx2;
    case BT_ISA_GENERIC: break;
    }
#endif
    return &bt__linear_generic;
}

bool bt_linear_supported(int32_t format, int32_t k)
{
    bt__wide_format wide;
    if (bt__wide_format_of(format, &wide)) return k > 0 && k % wide.block == 0;
    switch (format) {
    case BT_FORMAT_F32:
    case BT_FORMAT_F16:
    case BT_FORMAT_BF16: return k > 0;
    case BT_FORMAT_Q8_0:
    case BT_FORMAT_Q4_0: return k > 0 && k % BT_QUANT_BLOCK == 0;
    default: return false;
    }
}

static size_t panel_bytes(int32_t format, int32_t k)
{
    bt__wide_format wide;
    if (bt__wide_format_of(format, &wide)) return (size_t)(k / wide.block) * wide.block_bytes;
    switch (format) {
    case BT_FORMAT_F32: return (size_t)k * BT_LINEAR_PANEL * 4;
    case BT_FORMAT_Q8_0: return (size_t)k / BT_QUANT_BLOCK * sizeof(bt__panel_q8);
    case BT_FORMAT_Q4_0: return (size_t)k / BT_QUANT_BLOCK * sizeof(bt__panel_q4);
    default: return (size_t)k * BT_LINEAR_PANEL * 2;
    }
}

size_t bt_linear_packed_bytes(int32_t format, int32_t n, int32_t k)
{
    if (!bt_linear_supported(format, k) || n <= 0) return 0;
    return ((size_t)n + BT_LINEAR_PANEL - 1) / BT_LINEAR_PANEL * panel_bytes(format, k);
}

static void pack_q8(const uint8_t *row, int32_t blocks, int o, bt__panel_q8 *panel)
{
    for (int32_t b = 0; b < blocks; b++, row += sizeof(bt_block_q8_0)) {
        panel[b].d[o] = bt_load_u16(row);
        for (int g = 0; g < 8; g++) {
            uint32_t four;
            memcpy(&four, row + 2 + 4 * g, 4);
            four ^= 0x80808080u; // two's complement + 128
            memcpy(panel[b].q[g][o], &four, 4);
        }
    }
}

static void pack_q4(const uint8_t *row, int32_t blocks, int o, bt__panel_q4 *panel)
{
    for (int32_t b = 0; b < blocks; b++, row += sizeof(bt_block_q4_0)) {
        panel[b].d[o] = bt_load_u16(row);
        for (int j = 0; j < 4; j++) memcpy(panel[b].q[j][o], row + 2 + 4 * j, 4);
    }
}

/* Transposes `lanes` rows, some k at a time so that both sides stay in the first-level cache. */
static void pack_16(const uint8_t *rows, int32_t k, int32_t lanes, uint16_t *panel)
{
    enum { STEP = 64 };
    for (int32_t i0 = 0; i0 < k; i0 += STEP)
        for (int32_t o = 0; o < lanes; o++) {
            const uint8_t *row = rows + (size_t)o * (size_t)k * 2;
            for (int32_t i = i0; i < BT_MIN(i0 + STEP, k); i++)
                memcpy(&panel[(size_t)i * BT_LINEAR_PANEL + (size_t)o], row + (size_t)i * 2, 2);
        }
}

static void pack_32(const uint8_t *rows, int32_t k, int32_t lanes, uint32_t *panel)
{
    enum { STEP = 32 };
    for (int32_t i0 = 0; i0 < k; i0 += STEP)
        for (int32_t o = 0; o < lanes; o++) {
            const uint8_t *row = rows + (size_t)o * (size_t)k * 4;
            for (int32_t i = i0; i < BT_MIN(i0 + STEP, k); i++)
                memcpy(&panel[(size_t)i * BT_LINEAR_PANEL + (size_t)o], row + (size_t)i * 4, 4);
        }
}

void bt_linear_pack(const bt_linear *w, const void *src, int32_t n0, int32_t n1)
{
    BT_ASSERT(bt_linear_supported(w->format, w->k));
    BT_ASSERT(n0 % BT_LINEAR_PANEL == 0 && n1 <= w->n);
    size_t row_bytes = bt_format_bytes(w->format, (size_t)w->k),
           step = panel_bytes(w->format, w->k);
    int32_t blocks = w->k / BT_QUANT_BLOCK;
    for (int32_t n = n0; n < n1; n += BT_LINEAR_PANEL) {
        const uint8_t *rows = (const uint8_t *)src + row_bytes * (size_t)n;
        uint8_t *panel = (uint8_t *)w->data + step * (size_t)(n / BT_LINEAR_PANEL);
        int32_t lanes = BT_MIN(n1 - n, BT_LINEAR_PANEL);
        bt__wide_format wide;
        bool widened = bt__wide_format_of(w->format, &wide);
        if (widened || lanes < BT_LINEAR_PANEL) memset(panel, 0, step);
        if (w->format == BT_FORMAT_F32) {
            pack_32(rows, w->k, lanes, (uint32_t *)(void *)panel);
        } else if (w->format == BT_FORMAT_F16 || w->format == BT_FORMAT_BF16) {
            pack_16(rows, w->k, lanes, (uint16_t *)(void *)panel);
        } else {
            for (int32_t o = 0; o < lanes; o++, rows += row_bytes)
                if (widened)
                    bt__wide_pack(w->format, rows, w->k, o, panel);
                else if (w->format == BT_FORMAT_Q8_0)
                    pack_q8(rows, blocks, o, (bt__panel_q8 *)(void *)panel);
                else
                    pack_q4(rows, blocks, o, (bt__panel_q4 *)(void *)panel);
        }
    }
}

int bt_linear_act_kind(int32_t format)
{
    return format == BT_FORMAT_Q8_0 || format == BT_FORMAT_Q4_0 ? ACT_INT8 : ACT_FLOAT;
}

/* Bytes that one row takes in prepared activations. */
static size_t act_row_bytes(int kind, int32_t k)
{
    return kind == ACT_INT8 ? (size_t)k / BT_QUANT_BLOCK * BT__ACT_ROW : (size_t)k * sizeof(float);
}

size_t bt_linear_act_bytes(int kind, int32_t rows, int32_t k)
{
    return ((size_t)rows * act_row_bytes(kind, k) + 63) / 64 * 64;
}

/* Rows cut into `count` tiles of nearly equal width: tile t is [start(t), start(t + 1)). */
typedef struct row_tiles {
    int32_t rows, count;
} row_tiles;

static row_tiles tiles_of(int kind, int32_t rows)
{
    int32_t most = kind == ACT_INT8 ? BT__TILE_INT8 : BT__TILE_FLOAT;
    return (row_tiles){rows, (rows + most - 1) / most};
}

static int32_t tile_start(row_tiles s, int32_t t)
{
    int32_t width = s.rows / s.count, wider = s.rows % s.count;
    return t * width + BT_MIN(t, wider);
}

/* One row into column `row` of a float tile. */
static void act_spread(const float *x, int32_t k, int32_t w, int32_t row, float *tile)
{
    if (w == 1)
        memcpy(tile, x, sizeof *x * (size_t)k);
    else
        for (int32_t i = 0; i < k; i++) tile[(size_t)i * (size_t)w + (size_t)row] = x[i];
}

void bt_linear_act_prepare(int kind, const float *x, int64_t ldx, int32_t rows, int32_t k,
                           void *act, int32_t r0, int32_t r1)
{
    const bt__linear_kernels *kern = linear_kernels();
    row_tiles s = tiles_of(kind, rows);
    for (int32_t t = 0; t < s.count; t++) {
        int32_t start = tile_start(s, t), end = tile_start(s, t + 1), w = end - start;
        uint8_t *tile = (uint8_t *)act + act_row_bytes(kind, k) * (size_t)start;
        for (int32_t r = BT_MAX(start, r0); r < BT_MIN(end, r1); r++)
            if (kind == ACT_INT8)
                kern->quantize(x + r * ldx, k / BT_QUANT_BLOCK, w, r - start, tile);
            else
                act_spread(x + r * ldx, k, w, r - start, (float *)(void *)tile);
    }
}

/* Everything a run needs, so that the loops stay readable. */
typedef struct linear_job {
    const bt_linear *w;
    const uint8_t *act;
    row_tiles tiles;
    size_t act_row, panel;
    const float *bias;
    bool accumulate;
    float *y;
    int64_t ldy;
    int32_t n0, n1;
} linear_job;

/* acc [rows][32] of the panel at output n goes to y's rows from r. */
static void job_store(const linear_job *job, int32_t n, int32_t r, int32_t rows, const float *acc)
{
    int32_t width = BT_MIN(job->n1 - n, BT_LINEAR_PANEL);
    linear_kernels()->store(acc, rows, width, job->bias ? job->bias + n : NULL, job->accumulate,
                            job->y + r * job->ldy + n, job->ldy);
}

static const uint8_t *job_panel(const linear_job *job, int32_t n)
{
    return (const uint8_t *)job->w->data + job->panel * (size_t)(n / BT_LINEAR_PANEL);
}

static void run_int8(const linear_job *job, int32_t t0, int32_t t1)
{
    const bt__linear_kernels *kern = linear_kernels();
    int32_t blocks = job->w->k / BT_QUANT_BLOCK;
    _Alignas(64) float acc[BT__TILE_INT8 * BT_LINEAR_PANEL];
    for (int32_t n = job->n0; n < job->n1; n += BT_LINEAR_PANEL)
        for (int32_t t = t0; t < t1; t++) {
            int32_t r = tile_start(job->tiles, t), w = tile_start(job->tiles, t + 1) - r;
            const uint8_t *act = job->act + job->act_row * (size_t)r, *panel = job_panel(job, n);
            if (job->w->format == BT_FORMAT_Q8_0)
                kern->q8((const bt__panel_q8 *)panel, blocks, act, w, acc);
            else
                kern->q4((const bt__panel_q4 *)panel, blocks, act, w, acc);
            job_store(job, n, r, w, acc);
        }
}

/* k [i, i + len) of a panel to f32, dst [len][32]; i is a multiple of the stretch. */
static void widen(int32_t format, const uint8_t *panel, int32_t i, int32_t len, float *dst)
{
    const bt__linear_kernels *kern = linear_kernels();
    size_t at = (size_t)i * BT_LINEAR_PANEL, count = (size_t)len * BT_LINEAR_PANEL;
    const uint16_t *halves = (const uint16_t *)(const void *)panel;
    bt__wide_format wide;
    if (format == BT_FORMAT_F16) {
        kern->widen_f16(halves + at, count, dst);
    } else if (format == BT_FORMAT_BF16) {
        kern->widen_bf16(halves + at, count, dst);
    } else {
        bool known = bt__wide_format_of(format, &wide);
        BT_ASSERT(known);
        for (int32_t k = i; k < i + len; k += BT_QUANT_BLOCK, dst += BT_QUANT_BLOCK * 32) {
            _Alignas(64) float room[3 * BT_LINEAR_PANEL];
            bt__wide_sub sub;
            bt__wide_open(format, &wide, panel, k, kern->widen_f16, room, &sub);
            kern->widen_sub(&sub, dst);
        }
    }
}

/* One panel against tiles [t0, t1), through a widened copy of k's next stretch. */
static void run_widened(const linear_job *job, int32_t n, int32_t t0, int32_t t1, float *acc)
{
    const bt__linear_kernels *kern = linear_kernels();
    _Alignas(64) float wide[STRETCH * BT_LINEAR_PANEL];
    int32_t k = job->w->k, row0 = tile_start(job->tiles, t0);
    for (int32_t i = 0; i < k; i += STRETCH) {
        int32_t len = BT_MIN(STRETCH, k - i);
        widen(job->w->format, job_panel(job, n), i, len, wide);
        for (int32_t t = t0; t < t1; t++) {
            int32_t r = tile_start(job->tiles, t), w = tile_start(job->tiles, t + 1) - r;
            const float *act = (const float *)(const void *)(job->act + job->act_row * (size_t)r);
            kern->dot_f32(wide, len, act + (size_t)i * (size_t)w, w,
                          acc + (size_t)(r - row0) * BT_LINEAR_PANEL);
        }
    }
}

static void run_float(const linear_job *job, int32_t t0, int32_t t1)
{
    const bt__linear_kernels *kern = linear_kernels();
    int32_t format = job->w->format, k = job->w->k;
    int32_t row0 = tile_start(job->tiles, t0), rows = tile_start(job->tiles, t1) - row0;
    bt__wide_format wide;
    bool widened = bt__wide_format_of(format, &wide);
    _Alignas(64) float acc[CHUNK_ROWS_MAX * BT_LINEAR_PANEL];
    for (int32_t n = job->n0; n < job->n1; n += BT_LINEAR_PANEL) {
        memset(acc, 0, sizeof *acc * (size_t)rows * BT_LINEAR_PANEL);
        if (widened || (format != BT_FORMAT_F32 && t1 - t0 > 1)) {
            run_widened(job, n, t0, t1, acc);
        } else {
            for (int32_t t = t0; t < t1; t++) {
                int32_t r = tile_start(job->tiles, t), w = tile_start(job->tiles, t + 1) - r;
                const float *act =
                    (const float *)(const void *)(job->act + job->act_row * (size_t)r);
                float *sums = acc + (size_t)(r - row0) * BT_LINEAR_PANEL;
                (format == BT_FORMAT_F32   ? kern->dot_f32
                 : format == BT_FORMAT_F16 ? kern->dot_f16
                                           : kern->dot_bf16)(job_panel(job, n), k, act, w, sums);
            }
        }
        job_store(job, n, row0, rows, acc);
    }
}

void bt_linear_run(const bt_linear *w, const void *act, int32_t rows, const float *bias,
                   bool accumulate, float *y, int64_t ldy, int32_t n0, int32_t n1)
{
    BT_ASSERT(n0 % BT_LINEAR_PANEL == 0 && n1 <= w->n);
    if (rows <= 0 || n0 >= n1) return;
    int kind = bt_linear_act_kind(w->format);
    linear_job job = {.w = w,
                      .act = act,
                      .tiles = tiles_of(kind, rows),
                      .bias = bias,
                      .accumulate = accumulate,
                      .y = y,
                      .ldy = ldy,
                      .n0 = n0,
                      .n1 = n1};
    job.act_row = act_row_bytes(kind, w->k);
    job.panel = panel_bytes(w->format, w->k);
    size_t fit = ACT_CHUNK_BYTES / (job.act_row * BT__TILE_INT8);
    int32_t step = kind == ACT_INT8 ? (int32_t)BT_MAX(fit, 1u) : CHUNK_ROWS_MAX / BT__TILE_FLOAT;
    for (int32_t t = 0; t < job.tiles.count; t += step) {
        int32_t end = BT_MIN(t + step, job.tiles.count);
        if (kind == ACT_INT8)
            run_int8(&job, t, end);
        else
            run_float(&job, t, end);
    }
}
