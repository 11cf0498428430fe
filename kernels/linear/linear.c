/* SPDX-License-Identifier: Apache-2.0 */
/* linear.c - tiles and loops. What a format is says linear_formats.c; the arithmetic of the float
 * formats is in linear_{generic,avx2,avx512}.c, that of the others in linear_int8_*.c.
 *
 * Loop order: rows in chunks whose activations stay in the second-level cache, then panels (weights
 * come from memory once a chunk), then tiles of rows. 16-bit floats meeting more than one tile are
 * widened to f32 a stretch of k at a time, once for all tiles of the chunk; the sums pause in
 * memory between stretches, which keeps each one a single chain. */
#include "kernels/linear/linear.h"
#include "base/assert.h"
#include "kernels/linear/linear_impl.h"

enum {
    ACT_CHUNK_BYTES = 512 * 1024, // of a chunk's int8 activations: half of a second-level cache
    STRETCH = 128,                // k widened at once: 16 KB, half of a first-level cache
    CHUNK_ROWS_MAX = 96,          // of float activations: widening a panel must pay
};

static const bt__linear_isa *linear_isa(void)
{
#if defined(__x86_64__)
    static const bt__linear_isa *const all[BT__ISAS] = {&bt__linear_generic, &bt__linear_avx2,
                                                        &bt__linear_avx512};
    return all[bt_isa_get()];
#else
    return &bt__linear_generic;
#endif
}

bool bt_linear_supported(int32_t format, int32_t k)
{
    const bt__linear_row *row = bt__linear_row_of(format);
    return row && k > 0 && k % row->block == 0;
}

static size_t panel_bytes(const bt__linear_row *row, int32_t k)
{
    return (size_t)(k / row->block) * row->block_bytes;
}

size_t bt_linear_packed_bytes(int32_t format, int32_t n, int32_t k)
{
    if (!bt_linear_supported(format, k) || n <= 0) return 0;
    return ((size_t)n + BT_LINEAR_PANEL - 1) / BT_LINEAR_PANEL *
           panel_bytes(bt__linear_row_of(format), k);
}

void bt_linear_pack(const bt_linear *w, const void *src, int32_t n0, int32_t n1)
{
    BT_ASSERT(bt_linear_supported(w->format, w->k));
    BT_ASSERT(n0 % BT_LINEAR_PANEL == 0 && n1 <= w->n);
    const bt__linear_row *row = bt__linear_row_of(w->format);
    size_t row_bytes = bt_format_bytes(w->format, (size_t)w->k), step = panel_bytes(row, w->k);
    for (int32_t n = n0; n < n1; n += BT_LINEAR_PANEL) {
        uint8_t *panel = (uint8_t *)w->data + step * (size_t)(n / BT_LINEAR_PANEL);
        int32_t lanes = BT_MIN(n1 - n, BT_LINEAR_PANEL);
        if (lanes < BT_LINEAR_PANEL) memset(panel, 0, step);
        row->pack((const uint8_t *)src + row_bytes * (size_t)n, w->k, lanes, panel);
    }
}

int bt_linear_act_kind(int32_t format)
{
    const bt__linear_row *row = bt__linear_row_of(format);
    BT_ASSERT(row);
    return row->kind;
}

/* Bytes that one row takes in prepared activations. */
static size_t act_row_bytes(int kind, int32_t k)
{
    return kind == BT__ACT_INT8 ? (size_t)k / BT_QUANT_BLOCK * BT__ACT_ROW
                                : (size_t)k * sizeof(float);
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
    int32_t most = kind == BT__ACT_INT8 ? BT__TILE_INT8 : BT__TILE_FLOAT;
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
    const bt__linear_isa *isa = linear_isa();
    row_tiles s = tiles_of(kind, rows);
    for (int32_t t = 0; t < s.count; t++) {
        int32_t start = tile_start(s, t), end = tile_start(s, t + 1), w = end - start;
        uint8_t *tile = (uint8_t *)act + act_row_bytes(kind, k) * (size_t)start;
        for (int32_t r = BT_MAX(start, r0); r < BT_MIN(end, r1); r++)
            if (kind == BT__ACT_INT8)
                isa->quantize(x + r * ldx, k / BT_QUANT_BLOCK, w, r - start, tile);
            else
                act_spread(x + r * ldx, k, w, r - start, (float *)(void *)tile);
    }
}

/* Everything a run needs, so that the loops stay readable. */
typedef struct linear_job {
    const bt_linear *w;
    bt__dot_fn dot;
    bt__widen_fn widen; // or NULL
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
    linear_isa()->store(acc, rows, width, job->bias ? job->bias + n : NULL, job->accumulate,
                        job->y + r * job->ldy + n, job->ldy);
}

static const uint8_t *job_panel(const linear_job *job, int32_t n)
{
    return (const uint8_t *)job->w->data + job->panel * (size_t)(n / BT_LINEAR_PANEL);
}

/* One panel against one tile; acc is the tile's. */
static void run_tile(const linear_job *job, int32_t n, int32_t t, float *acc)
{
    int32_t r = tile_start(job->tiles, t), w = tile_start(job->tiles, t + 1) - r;
    job->dot(job_panel(job, n), job->w->k, job->act + job->act_row * (size_t)r, w, acc);
}

static void run_int8(const linear_job *job, int32_t t0, int32_t t1)
{
    _Alignas(64) float acc[BT__TILE_INT8 * BT_LINEAR_PANEL];
    for (int32_t n = job->n0; n < job->n1; n += BT_LINEAR_PANEL)
        for (int32_t t = t0; t < t1; t++) {
            int32_t r = tile_start(job->tiles, t), w = tile_start(job->tiles, t + 1) - r;
            memset(acc, 0, sizeof *acc * (size_t)w * BT_LINEAR_PANEL);
            run_tile(job, n, t, acc);
            job_store(job, n, r, w, acc);
        }
}

/* One panel against tiles [t0, t1), through a widened copy of k's next stretch. */
static void run_widened(const linear_job *job, int32_t n, int32_t t0, int32_t t1, float *acc)
{
    _Alignas(64) float wide[STRETCH * BT_LINEAR_PANEL];
    bt__dot_fn dot = bt__linear_row_of(BT_FORMAT_F32)->dot[bt_isa_get()];
    const uint16_t *panel = (const uint16_t *)(const void *)job_panel(job, n);
    int32_t k = job->w->k, row0 = tile_start(job->tiles, t0);
    for (int32_t i = 0; i < k; i += STRETCH) {
        int32_t len = BT_MIN(STRETCH, k - i);
        job->widen(panel + (size_t)i * BT_LINEAR_PANEL, (size_t)len * BT_LINEAR_PANEL, wide);
        for (int32_t t = t0; t < t1; t++) {
            int32_t r = tile_start(job->tiles, t), w = tile_start(job->tiles, t + 1) - r;
            const float *act = (const float *)(const void *)(job->act + job->act_row * (size_t)r);
            dot(wide, len, act + (size_t)i * (size_t)w, w,
                acc + (size_t)(r - row0) * BT_LINEAR_PANEL);
        }
    }
}

static void run_float(const linear_job *job, int32_t t0, int32_t t1)
{
    int32_t row0 = tile_start(job->tiles, t0), rows = tile_start(job->tiles, t1) - row0;
    _Alignas(64) float acc[CHUNK_ROWS_MAX * BT_LINEAR_PANEL];
    for (int32_t n = job->n0; n < job->n1; n += BT_LINEAR_PANEL) {
        memset(acc, 0, sizeof *acc * (size_t)rows * BT_LINEAR_PANEL);
        if (job->widen && t1 - t0 > 1)
            run_widened(job, n, t0, t1, acc);
        else
            for (int32_t t = t0; t < t1; t++)
                run_tile(job, n, t,
                         acc + (size_t)(tile_start(job->tiles, t) - row0) * BT_LINEAR_PANEL);
        job_store(job, n, row0, rows, acc);
    }
}

void bt_linear_run(const bt_linear *w, const void *act, int32_t rows, const float *bias,
                   bool accumulate, float *y, int64_t ldy, int32_t n0, int32_t n1)
{
    BT_ASSERT(n0 % BT_LINEAR_PANEL == 0 && n1 <= w->n);
    if (rows <= 0 || n0 >= n1) return;
    const bt__linear_row *row = bt__linear_row_of(w->format);
    BT_ASSERT(row);
    linear_job job = {.w = w,
                      .dot = row->dot[bt_isa_get()],
                      .widen = row->widen[bt_isa_get()],
                      .act = act,
                      .tiles = tiles_of(row->kind, rows),
                      .act_row = act_row_bytes(row->kind, w->k),
                      .panel = panel_bytes(row, w->k),
                      .bias = bias,
                      .accumulate = accumulate,
                      .y = y,
                      .ldy = ldy,
                      .n0 = n0,
                      .n1 = n1};
    bool int8 = row->kind == BT__ACT_INT8;
    size_t fit = ACT_CHUNK_BYTES / (job.act_row * BT__TILE_INT8);
    int32_t step = int8 ? (int32_t)BT_MAX(fit, 1u) : CHUNK_ROWS_MAX / BT__TILE_FLOAT;
    for (int32_t t = 0; t < job.tiles.count; t += step) {
        int32_t end = BT_MIN(t + step, job.tiles.count);
        if (int8)
            run_int8(&job, t, end);
        else
            run_float(&job, t, end);
    }
}
