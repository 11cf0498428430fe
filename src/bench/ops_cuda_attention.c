/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_measure_attention.c - times attention over paged KV: decode by context length, sequences and
 * KV formats, and prefill by prompt length.
 *
 * Pages hold one of PATTERNS random contents and are dealt out of order, so a reference can read
 * any position on the host without a copy of the whole cache. */
#include "base/assert.h"
#include "base/mem.h"
#include "bench/ops_cuda.h"
#include "bench/random.h"
#include "kernels/attention/attention_cuda.h"
#include "kernels/attention/kv_element.h"
#include "kernels/quant/quant.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PAGE_TOKENS = 16, PATTERNS = 8, SCATTER = 7919, CHECKED = 3, DIM_MAX = 256 };

typedef struct attention_case {
    bt_cuda_attention_args args;
    bool prefill;
    int32_t kv_len, copies;
    uint8_t *pattern; // owned: host, PATTERNS pages
    int32_t *pages;   // owned: host, [copies][n_seqs][pages_ld]
    float *q;         // owned: host
    int32_t n_pages;
    const int32_t *dev_pages;
    float *dev_out;
} attention_case;

static cudaError_t call_attention(void *ud, int32_t copy, cudaStream_t s)
{
    const attention_case *c = ud;
    bt_cuda_attention_args a = c->args;
    a.pages = c->dev_pages + (int64_t)(copy % c->copies) * a.n_seqs * a.pages_ld;
    return c->prefill ? bt_cuda_attention_prefill(&a, s) : bt_cuda_attention_decode(&a, s);
}

/* ---- contents */

static void put_element(bt_kv_format format, uint8_t *at, float v)
{
    switch (format) {
    case BT_KV_F32: memcpy(at, &v, 4); break;
    case BT_KV_F16: bt_store_u16(at, bt_f16_from_f32(v)); break;
    case BT_KV_BF16: bt_store_u16(at, bt_bf16_from_f32(v)); break;
    case BT_KV_INT8: *at = (uint8_t)(int8_t)lrintf(v * 127); break;
    default: *at = bt_e4m3_from_f32(v * 448); break;
    }
}

static double get_element(bt_kv_format format, const uint8_t *at)
{
    float v;
    switch (format) {
    case BT_KV_F32: memcpy(&v, at, 4); return (double)v;
    case BT_KV_F16: return (double)bt_f32_from_f16(bt_load_u16(at));
    case BT_KV_BF16: return (double)bt_f32_from_bf16(bt_load_u16(at));
    case BT_KV_INT8: return (double)(int8_t)*at;
    default: return (double)bt_f32_from_e4m3(*at);
    }
}

static bt_status fill_pattern(attention_case *c, bt_err *err)
{
    const bt_cuda_kv *kv = &c->args.kv;
    size_t bytes = kv->page_stride * PATTERNS, element = bt_cuda_kv_element_bytes(kv->format);
    int32_t rows = 2 * kv->kv_heads * PAGE_TOKENS, cols = rows * kv->head_dim;
    float *v = bt_malloc((size_t)cols * sizeof *v);
    c->pattern = bt_calloc(1, bytes);
    if (!c->pattern || !v) {
        bt_free(v);
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    }
    float unit = kv->format == BT_KV_INT8 ? 1.0f / 127 : 1.0f / 448;
    for (int32_t p = 0; p < PATTERNS; p++) {
        uint8_t *page = c->pattern + (size_t)p * kv->page_stride;
        bt_random_floats((uint64_t)p + 20, (size_t)cols, v);
        for (int32_t i = 0; i < cols; i++)
            put_element(kv->format, page + (size_t)i * element, v[i]);
        for (int32_t i = 0; bt_cuda_kv_scaled(kv->format) && i < rows; i++)
            bt_store_u16(page + (size_t)cols * element + 2 * (size_t)i, bt_f16_from_f32(unit));
    }
    bt_free(v);
    return BT_OK;
}

/* What a reference reads: one KV head of one sequence. */
typedef struct kv_view {
    const attention_case *c;
    const int32_t *pages;
    int32_t head;
} kv_view;

static double kv_element(const void *ud, bool value, int32_t position, int32_t column)
{
    const kv_view *view = ud;
    const bt_cuda_kv *kv = &view->c->args.kv;
    int32_t physical = view->pages[position / PAGE_TOKENS], slot = position % PAGE_TOKENS;
    const uint8_t *page = view->c->pattern + (size_t)(physical % PATTERNS) * kv->page_stride;
    size_t row = value ? bt_cuda_kv_v_offset(kv, view->head, slot)
                       : bt_cuda_kv_k_offset(kv, view->head, slot);
    double x =
        get_element(kv->format, page + row + (size_t)column * bt_cuda_kv_element_bytes(kv->format));
    if (!bt_cuda_kv_scaled(kv->format)) return x;
    size_t scale = value ? bt_cuda_kv_v_scale_offset(kv, view->head, slot)
                         : bt_cuda_kv_k_scale_offset(kv, view->head, slot);
    return x * (double)bt_f32_from_f16(bt_load_u16(page + scale));
}

/* ---- on the device */

/* The whole cache: the patterns again and again, each time twice as many. */
static bt_status put_cache(bt__gpu *g, attention_case *c, bt_err *err)
{
    size_t stride = c->args.kv.page_stride, all = stride * (size_t)c->n_pages;
    size_t done = stride * PATTERNS;
    char *base = bt__gpu_take(g, BT_MAX(all, done), err);
    if (!base) return BT_ENOMEM;
    cudaError_t code = cudaMemcpy(base, c->pattern, done, cudaMemcpyHostToDevice);
    while (done < all && code == cudaSuccess) {
        size_t more = BT_MIN(done, all - done);
        code = cudaMemcpy(base + done, base, more, cudaMemcpyDeviceToDevice);
        done += more;
    }
    c->args.kv.base = base;
    return bt__gpu_check(code, "filling the KV cache", err);
}

static bt_status put_tables(bt__gpu *g, attention_case *c, bt_err *err)
{
    bt_cuda_attention_args *a = &c->args;
    int32_t n = c->copies * a->n_seqs * a->pages_ld;
    int32_t *seqs = bt_malloc((size_t)(3 * a->n_seqs) * sizeof *seqs);
    c->pages = bt_malloc((size_t)n * sizeof *c->pages);
    if (!seqs || !c->pages) {
        bt_free(seqs);
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    }
    for (int32_t i = 0; i < n; i++)
        c->pages[i] = (int32_t)((int64_t)i * SCATTER % c->n_pages); // SCATTER is prime
    for (int32_t i = 0; i < a->n_seqs; i++) {
        seqs[i] = c->kv_len;
        seqs[a->n_seqs + i] = i * (a->rows / a->n_seqs);
        seqs[2 * a->n_seqs + i] = a->rows / a->n_seqs;
    }
    c->dev_pages = bt__gpu_put(g, c->pages, (size_t)n * sizeof *c->pages, err);
    const int32_t *dev = bt__gpu_put(g, seqs, (size_t)(3 * a->n_seqs) * sizeof *seqs, err);
    bt_status status = c->dev_pages && dev ? BT_OK : BT_ENOMEM;
    if (!status && c->prefill) {
        int32_t tile = bt_cuda_attention_tile(&a->kv, a->props),
                group = a->n_heads / a->kv.kv_heads;
        int32_t cap = a->rows * group / tile + a->n_seqs + 1;
        int32_t *work = bt_must(bt_malloc((size_t)(cap * BT_CUDA_ATTENTION_WORK_INTS) * 4));
        a->n_work = bt_cuda_attention_plan(&a->kv, a->props, a->n_heads, a->n_seqs,
                                           seqs + 2 * a->n_seqs, 2, work, cap);
        a->work = bt__gpu_put(
            g, work, (size_t)(a->n_work * BT_CUDA_ATTENTION_WORK_INTS) * sizeof *work, err);
        bt_free(work);
        if (!a->work) status = BT_ENOMEM;
    }
    a->kv_len = dev;
    a->first_row = dev ? dev + a->n_seqs : NULL;
    a->n_rows = dev ? dev + 2 * a->n_seqs : NULL;
    bt_free(seqs);
    return status;
}

static bt_status put_case(bt__gpu *g, attention_case *c, bt_err *err)
{
    bt_cuda_attention_args *a = &c->args;
    int32_t cols = a->n_heads * a->kv.head_dim;
    size_t n = (size_t)a->rows * (size_t)cols;
    bt_status status = fill_pattern(c, err);
    if (!status) status = put_cache(g, c, err);
    if (!status) status = put_tables(g, c, err);
    c->q = bt_malloc(n * sizeof *c->q);
    if (!status && !c->q) status = bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    if (status) return status;
    bt_random_floats(8, n, c->q);
    for (size_t i = 0; i < n; i++) c->q[i] *= 6; // scores that differ
    a->scratch_bytes =
        bt_cuda_attention_scratch(&a->kv, a->props, a->n_heads, a->n_seqs, a->ctx_max, false);
    a->q = bt__gpu_put(g, c->q, n * sizeof *c->q, err);
    c->dev_out = bt__gpu_take(g, n * sizeof *c->q, err);
    a->out = c->dev_out;
    a->ldq = a->ldo = cols;
    a->scratch = bt__gpu_take(g, a->scratch_bytes, err);
    return a->q && a->out && a->scratch ? BT_OK : BT_ENOMEM;
}

/* ---- cases */

/* Over some heads of the first and the last row. */
static bt_status error_of(bt__gpu *g, attention_case *c, double *error, bt_err *err)
{
    const bt_cuda_attention_args *a = &c->args;
    int32_t dim = a->kv.head_dim, group = a->n_heads / a->kv.kv_heads, count = 0;
    float got[CHECKED * DIM_MAX];
    double want[CHECKED * DIM_MAX];
    bt_status status = bt__gpu_once(g, call_attention, c, err);
    for (int32_t i = 0; i < CHECKED && !status; i++) {
        int32_t row = i == 0 ? a->rows - 1 : (a->rows - 1) * (i - 1) / 2,
                head = (i * 5) % a->n_heads;
        int32_t each = a->rows / a->n_seqs, seq = row / each;
        int64_t at = (int64_t)row * a->ldq + (int64_t)head * dim;
        kv_view view = {c, c->pages + (int64_t)seq * a->pages_ld, head / group};
        status = bt__gpu_get(g, got + count, c->dev_out + at, (size_t)dim * sizeof(float), err);
        int32_t sees = c->kv_len - each + row % each + 1;
        bt__ops_attention(c->q + at, (double)a->scale, sees, dim, kv_element, &view, want + count);
        count += dim;
    }
    if (!status) *error = bt__ops_error(got, want, count);
    return status;
}

static double within_of(bt_kv_format f)
{
    return f == BT_KV_F32 ? 1e-4 : f == BT_KV_BF16 ? 8e-2 : 1.5e-2;
}

static bt_status one(bt__gpu *g, bt_kv_format format, int32_t seqs, int32_t rows, int32_t kv_len,
                     bt_err *err)
{
    const bt_recipe *r = g->ops.ask->recipe;
    const bt_layer_recipe *l = &r->layer[0];
    size_t stride = bt_cuda_kv_page_bytes(format, l->n_kv_heads, l->head_dim, PAGE_TOKENS);
    int32_t ld = (kv_len + PAGE_TOKENS - 1) / PAGE_TOKENS, q = l->n_heads * l->head_dim;
    attention_case c = {.prefill = rows > seqs, .kv_len = kv_len};
    c.args = (bt_cuda_attention_args){
        .kv = {format, l->n_kv_heads, l->head_dim, PAGE_TOKENS, NULL, stride},
        .n_heads = l->n_heads,
        .scale = l->attn_scale,
        .pages_ld = ld,
        .n_seqs = seqs,
        .rows = rows,
        .ctx_max = kv_len,
        .props = &g->props};
    if (!bt__ops_wants(&g->ops, c.prefill ? "prefill" : "attention") ||
        !bt_cuda_attention_supported(&c.args.kv, l->n_heads, &g->props))
        return BT_OK;
    c.copies = c.prefill ? 1 : bt__gpu_copies(g, stride * (size_t)(ld * seqs));
    c.n_pages = c.copies * seqs * ld;
    while (c.n_pages % SCATTER == 0) c.n_pages++;
    bt_ops_row row = {.rows = rows, .within = within_of(format)};
    bt_status status = put_case(g, &c, err);
    if (!status) status = error_of(g, &c, &row.error, err);
    snprintf(row.kernel, sizeof row.kernel, c.prefill ? "prefill" : "attention");
    snprintf(row.shape, sizeof row.shape, "%d seq kv %d %d/%d x %d", seqs, kv_len, l->n_heads,
             l->n_kv_heads, l->head_dim);
    const char *name = bt_kv_format_name(format);
    snprintf(row.format, sizeof row.format, "%s", name ? name : "?");
    row.unit = format == BT_KV_F32 ? BT_UNIT_FMA : BT_UNIT_MMA_F16;
    double each = rows / seqs, seen = kv_len - (each - 1) / 2; // positions a row sees, mean
    row.ops = 4 * seen * rows * q;
    row.bytes = (double)seqs * kv_len * ((double)stride / PAGE_TOKENS) + 8.0 * rows * q;
    if (!status) status = bt__gpu_measure(g, call_attention, &c, &row, err);
    bt__gpu_clear(g);
    bt_free(c.pattern);
    bt_free(c.pages);
    bt_free(c.q);
    if (status != BT_ENOMEM) return status;
    g->ops.skipped++;
    return BT_OK;
}

bt_status bt__gpu_decode(bt__gpu *g, bt_err *err)
{
    static const bt_kv_format formats[] = {BT_KV_F16, BT_KV_INT8, BT_KV_FP8, BT_KV_BF16, BT_KV_F32};
    static const int32_t kv[] = {1024, 4096, 8192, 16384, 32768};
    bool quick = g->ops.ask->quick;
    bt_status status = BT_OK;
    for (size_t f = 0; f < BT_COUNT(formats) && !status; f++)
        for (size_t i = 0; i < BT_COUNT(kv) && !status; i++)
            for (int32_t seqs = 1; seqs <= 16 && !status; seqs *= 16) {
                if (quick && (f > 1 || i % 2 == 0) && !(GPU_EMULATED && i == 0)) continue;
                if (kv[i] > GPU_KV_MAX && i > 0) continue;
                if ((int64_t)seqs * kv[i] > 1 << 18) continue; // 1 GB a layer
                status = one(g, formats[f], GPU_EMULATED ? (seqs + 2) / 2 : seqs,
                             GPU_EMULATED ? (seqs + 2) / 2 : seqs, BT_MIN(kv[i], GPU_KV_MAX), err);
            }
    return status;
}

bt_status bt__gpu_prefill(bt__gpu *g, bt_err *err)
{
    static const bt_kv_format formats[] = {BT_KV_F16, BT_KV_INT8};
    static const int32_t rows[] = {512, 2048, 8192};
    bt_status status = BT_OK;
    for (size_t f = 0; f < BT_COUNT(formats) && !status; f++)
        for (size_t i = 0; i < BT_COUNT(rows) && !status; i++) {
            if ((GPU_EMULATED && i > 0) || (g->ops.ask->quick && (i > 1 || f > 0))) continue;
            int32_t n = GPU_EMULATED ? GPU_ROWS_MAX : rows[i];
            status = one(g, formats[f], 1, n, n, err);
        }
    return status;
}
