/* SPDX-License-Identifier: Apache-2.0 */
/* measure_cpu.c - the run over the CPU's kernels, on all threads that the engine would use. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/pool.h"
#include "bench/ops_impl.h"
#include "bench/random.h"
#include "kernels/attention/attention.h"
#include "kernels/ceiling/ceiling.h"
#include "kernels/cpu_isa.h"
#include "kernels/embed/embed.h"
#include "kernels/linear/linear.h"
#include "kernels/norm/norm.h"
#include "kernels/sample/sample.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    BAND_BYTES = 256 << 20,
    LOOPS = 400000,
    TIMINGS = 9,
    TRIES = 60,
    PAGE_TOKENS = 16,
    ROWS_MAX = 512
};

typedef struct cpu {
    bt__ops ops;
    bt_pool *pool; // owned
    int32_t threads;
    int32_t turn; // of runs, for cases that rotate through copies
} cpu;

/* Median of a few runs, in microseconds, of a ceiling the best; the first does not count. */
static double time_of(cpu *c, bt_pool_fn fn, void *ud, bool best)
{
    double v[TRIES];
    int32_t n = 0, most = best ? TRIES : c->ops.ask->quick ? 3 : TIMINGS;
    bt_pool_run(c->pool, fn, ud);
    int64_t until = bt_now_ns() + (c->ops.ask->quick ? 200000000 : 1000000000);
    while (n < most && (n < 3 || bt_now_ns() < until)) {
        c->turn++;
        int64_t begin = bt_now_ns();
        bt_pool_run(c->pool, fn, ud);
        v[n++] = (double)(bt_now_ns() - begin) / 1e3;
    }
    double median = bt__ops_median(v, n); // sorts
    return BT_MAX(best ? v[0] : median, 1e-3);
}

static void measure(cpu *c, bt_pool_fn fn, void *ud, bt_ops_row *row)
{
    if (!bt__ops_right(&c->ops, row)) return;
    row->us = time_of(c, fn, ud, row->ceiling);
    bt__ops_tell(&c->ops, row);
}

/* The thread's part [a, b) of n, at multiples of step. */
static void split(int64_t n, int64_t step, int thread, int threads, int64_t *a, int64_t *b)
{
    int64_t pieces = (n + step - 1) / step;
    *a = BT_MIN(n, pieces * thread / threads * step);
    *b = BT_MIN(n, pieces * (thread + 1) / threads * step);
}

static bt_status no_memory(bt_err *err)
{
    return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a measurement");
}

/* ---- ceilings */

typedef struct band {
    const char *data;
    double sum[256]; // so that nothing is left out
} band;

static void read_band(void *ud, int thread, int threads)
{
    band *b = ud;
    int64_t from, to;
    split(BAND_BYTES, 4096, thread, threads, &from, &to);
    b->sum[thread % 256] = (double)bt_ceiling_read(b->data + from, (size_t)(to - from));
}
static void run_fma(void *ud, int thread, int threads)
{
    (void)threads;
    ((band *)ud)->sum[thread % 256] = bt_ceiling_fma(LOOPS);
}
static void run_int8(void *ud, int thread, int threads)
{
    (void)threads;
    ((band *)ud)->sum[thread % 256] = (double)bt_ceiling_int8(LOOPS);
}

static bt_status ceilings(cpu *c, bt_err *err)
{
    bt_ops_limits *l = &c->ops.limits;
    band b = {0};
    void *data = bt_aligned_alloc(4096, BAND_BYTES);
    if (!data) return no_memory(err);
    memset(data, 1, BAND_BYTES);
    b.data = data;
    bt_ops_row read = {.kernel = "read", .ceiling = true, .bytes = BAND_BYTES};
    snprintf(read.shape, sizeof read.shape, "%d MiB", BAND_BYTES >> 20);
    measure(c, read_band, &b, &read);
    l->memory = read.bytes / read.us * 1e6;
    bt_free(data);
    bt_ops_row fma = {.kernel = "fma f32", .ceiling = true, .unit = BT_UNIT_FMA};
    fma.ops = (double)bt_ceiling_fma_ops() * LOOPS * c->threads;
    measure(c, run_fma, &b, &fma);
    l->rate[BT_UNIT_FMA] = fma.ops / fma.us * 1e6;
    if (bt_ceiling_int8_ops() == 0) return BT_OK;
    bt_ops_row int8 = {.kernel = "dot int8", .ceiling = true, .unit = BT_UNIT_DOT};
    int8.ops = (double)bt_ceiling_int8_ops() * LOOPS * c->threads;
    measure(c, run_int8, &b, &int8);
    l->rate[BT_UNIT_DOT] = int8.ops / int8.us * 1e6;
    return BT_OK;
}

/* ---- matrices */

typedef struct linear_case {
    const cpu *run;
    bt_linear w; // the first of the copies, which lie one behind the other
    int32_t copies;
    size_t packed;
    const void *src;
    const float *x;
    float *y;
    void *act;
    int32_t rows;
} linear_case;

/* So that caches hold no more of a matrix than while a whole model runs. */
enum { COPIES_BYTES = 128 << 20, COPIES_MAX = 16 };

static void pack(void *ud, int thread, int threads)
{
    linear_case *c = ud;
    int64_t a, b;
    split(c->w.n, BT_LINEAR_PANEL, thread, threads, &a, &b);
    if (a < b) bt_linear_pack(&c->w, c->src, (int32_t)a, (int32_t)b);
}

static void run_linear(void *ud, int thread, int threads)
{
    linear_case *c = ud;
    int64_t a, b;
    bt_linear w = c->w;
    w.data = (char *)w.data + (size_t)(c->run->turn % c->copies) * c->packed;
    split(w.n, BT_LINEAR_PANEL, thread, threads, &a, &b);
    if (a < b)
        bt_linear_run(&w, c->act, c->rows, NULL, false, c->y, c->w.n, (int32_t)a, (int32_t)b);
}

static bt_status matrix_rows(cpu *c, const bt__ops_matrix *m, linear_case *l, bt_err *err)
{
    static const int32_t few[] = {1, 4, 8, 16, 32, 64, 128, 256, 512}, quick[] = {1, 4, 64};
    const int32_t *rows = c->ops.ask->quick ? quick : few;
    int32_t n = c->ops.ask->quick ? BT_COUNT(quick) : BT_COUNT(few);
    int kind = bt_linear_act_kind(l->w.format);
    bool q8 = kind != bt_linear_act_kind(BT_FORMAT_F32);
    bt__ops_matrix plain = *m;
    plain.glu = false;
    for (int32_t i = 0; i < n; i++) {
        const char *name = rows[i] <= 8 ? "gemv" : "gemm";
        if ((m->head && rows[i] > 16) || !bt__ops_wants(&c->ops, name)) continue;
        l->rows = rows[i];
        l->act = bt_aligned_alloc(64, (bt_linear_act_bytes(kind, l->rows, l->w.k) + 63) / 64 * 64);
        if (!l->act) return no_memory(err);
        bt_linear_act_prepare(kind, l->x, l->w.k, l->rows, l->w.k, l->act, 0, l->rows);
        bt_pool_run(c->pool, run_linear, l);
        bt_ops_row row = {.rows = l->rows, .unit = q8 ? BT_UNIT_DOT : BT_UNIT_FMA};
        row.within = q8 ? 2e-2 : 1e-4;
        row.error = bt__ops_linear_error(&plain, l->w.format, l->src, l->x, l->rows, l->y, l->w.n);
        row.ops = 2.0 * m->n * m->k * l->rows;
        row.bytes = (double)bt_linear_packed_bytes(l->w.format, m->n, m->k) +
                    4.0 * l->rows * ((double)m->n + m->k);
        snprintf(row.kernel, sizeof row.kernel, "%s", name);
        snprintf(row.shape, sizeof row.shape, "%s %d x %d", m->name, m->n, m->k);
        snprintf(row.format, sizeof row.format, "%s", bt_format_get(l->w.format)->name);
        measure(c, run_linear, l, &row);
        bt_free(l->act);
    }
    return BT_OK;
}

static bt_status matrix(cpu *c, const bt__ops_matrix *m, int32_t format, bt_err *err)
{
    size_t n = (size_t)m->n * (size_t)m->k;
    size_t packed = (bt_linear_packed_bytes(format, m->n, m->k) + 63) / 64 * 64;
    void *src = bt_malloc(bt_format_bytes(format, n));
    float *x = bt_malloc((size_t)ROWS_MAX * (size_t)m->k * sizeof *x);
    float *y = bt_malloc((size_t)(m->head ? 16 : ROWS_MAX) * (size_t)m->n * sizeof *y);
    size_t copies = c->ops.ask->quick ? 2 : BT_MIN(COPIES_BYTES / packed + 1, (size_t)COPIES_MAX);
    linear_case l = {.run = c, .copies = (int32_t)copies, .packed = packed, .src = src, .x = x};
    l.w = (bt_linear){format, m->n, m->k, bt_aligned_alloc(64, packed * copies)};
    l.y = y;
    bt_status st = BT_OK;
    if (!src || !x || !y || !l.w.data) st = no_memory(err);
    if (!st) {
        bt_random_weights(format, 5, n, 1 / sqrtf((float)m->k), src);
        bt_random_floats(9, (size_t)ROWS_MAX * (size_t)m->k, x);
        bt_pool_run(c->pool, pack, &l);
        for (size_t i = 1; i < copies; i++) memcpy((char *)l.w.data + i * packed, l.w.data, packed);
        st = matrix_rows(c, m, &l, err);
    }
    bt_free(src);
    bt_free(x);
    bt_free(y);
    bt_free(l.w.data);
    return st;
}

static bt_status linear(cpu *c, bt_err *err)
{
    static const int32_t all[] = {BT_FORMAT_Q4_0, BT_FORMAT_Q8_0,  BT_FORMAT_Q4_K,  BT_FORMAT_Q6_K,
                                  BT_FORMAT_F16,  BT_FORMAT_INT4G, BT_FORMAT_INT8G, BT_FORMAT_Q5_K,
                                  BT_FORMAT_BF16, BT_FORMAT_F32};
    const bt_ops_ask *ask = c->ops.ask;
    const int32_t *format = ask->format ? ask->format : all;
    int32_t n = ask->format ? ask->n_formats : ask->quick ? 3 : (int32_t)BT_COUNT(all);
    bt__ops_matrix list[BT__OPS_MATRICES];
    bt_status st = BT_OK;
    bt__ops_matrices(ask->recipe, list);
    for (int32_t f = 0; f < n && !st; f++)
        for (int32_t i = 0; i < BT__OPS_MATRICES && !st; i++) {
            if (ask->quick && !list[i].glu) continue;
            bool named = bt__ops_named(&c->ops, "gemv") || bt__ops_named(&c->ops, "gemm");
            if (!named || !bt_linear_supported(format[f], list[i].k)) continue;
            st = matrix(c, &list[i], format[f], err);
        }
    return st;
}

/* ---- attention */

typedef struct attention_case {
    bt_attention a;
    bt_attention_rows rows;
    int32_t n_rows, scratch_stride;
    char *scratch;
} attention_case;

/* KV heads are dealt to threads, queries of one in pieces. */
static void run_attention(void *ud, int thread, int threads)
{
    attention_case *c = ud;
    int32_t group = c->a.n_heads / c->a.kv.kv_heads, queries = c->n_rows * group;
    int32_t pieces = (queries + BT_ATTENTION_QUERIES - 1) / BT_ATTENTION_QUERIES, item = 0;
    for (int32_t head = 0; head < c->a.kv.kv_heads; head++)
        for (int32_t i = 0; i < pieces; i++, item++) {
            if (item % threads != thread) continue;
            int32_t q0 = i * BT_ATTENTION_QUERIES, q1 = BT_MIN(q0 + BT_ATTENTION_QUERIES, queries);
            bt_attention_run(&c->a, &c->rows, head, q0, q1,
                             c->scratch + (size_t)thread * (size_t)c->scratch_stride);
        }
}

typedef struct kv_view {
    const attention_case *c;
    int32_t head;
} kv_view;

static double kv_element(const void *ud, bool value, int32_t position, int32_t column)
{
    const kv_view *v = ud;
    const bt_kv_layout *l = &v->c->a.kv;
    const void *page = (const char *)v->c->a.pages +
                       (size_t)v->c->rows.pages[position / PAGE_TOKENS] * v->c->a.page_stride;
    int32_t slot = position % PAGE_TOKENS;
    return (double)(value ? bt_kv_v_at(l, page, v->head, slot, column)
                          : bt_kv_k_at(l, page, v->head, slot, column));
}

static double attention_error(const attention_case *c)
{
    double want[BT_KV_HEAD_DIM_MAX];
    int32_t last = c->n_rows - 1, head = c->a.n_heads - 1, dim = c->a.kv.head_dim;
    kv_view view = {c, c->a.kv.kv_heads - 1};
    int64_t at = (int64_t)last * c->rows.ldq + (int64_t)head * dim;
    bt__ops_attention(c->rows.q + at, (double)c->a.scale, c->rows.pos + last + 1, dim, kv_element,
                      &view, want);
    return bt__ops_error(c->rows.out + at, want, dim);
}

static bt_status attention_fill(attention_case *c, int32_t kv_len, bt_err *err)
{
    const bt_kv_layout *l = &c->a.kv;
    int32_t n_pages = (kv_len + PAGE_TOKENS - 1) / PAGE_TOKENS, cols = l->kv_heads * l->head_dim;
    char *base = bt_aligned_alloc(4096, (size_t)n_pages * c->a.page_stride);
    int32_t *pages = bt_malloc((size_t)n_pages * sizeof *pages);
    float *v = bt_malloc(2 * (size_t)cols * sizeof *v);
    c->a.pages = base;
    c->rows.pages = pages;
    bt_status st = base && pages && v ? BT_OK : no_memory(err);
    for (int32_t i = 0; !st && i < n_pages; i++) pages[i] = n_pages - 1 - i;
    for (int32_t t = 0; !st && t < kv_len; t++) {
        bt_random_floats((uint64_t)t + 1, 2 * (size_t)cols, v);
        bt_kv_append(l, base + (size_t)pages[t / PAGE_TOKENS] * c->a.page_stride, t % PAGE_TOKENS,
                     v, v + cols);
    }
    bt_free(v);
    return st;
}

static bt_status attention(cpu *c, bt_kv_format format, int32_t rows, int32_t kv_len, bt_err *err)
{
    const bt_recipe *r = c->ops.ask->recipe;
    const bt_layer_recipe *l = &r->layer[0];
    const char *name = rows > 1 ? "prefill" : "attention";
    if (!bt__ops_wants(&c->ops, name)) return BT_OK;
    attention_case a = {.n_rows = rows};
    int32_t cols = l->n_heads * l->head_dim;
    size_t n = (size_t)rows * (size_t)cols;
    a.a = (bt_attention){.kv = {format, l->n_kv_heads, l->head_dim, PAGE_TOKENS},
                         .n_heads = l->n_heads,
                         .scale = l->attn_scale};
    a.a.page_stride = bt_kv_page_bytes(&a.a.kv);
    a.scratch_stride = (int32_t)((bt_attention_scratch_bytes(&a.a.kv) + 63) / 64 * 64);
    a.scratch = bt_aligned_alloc(64, (size_t)a.scratch_stride * (size_t)c->threads);
    float *q = bt_malloc(2 * n * sizeof *q);
    bt_status st = attention_fill(&a, kv_len, err);
    if (!st && (!q || !a.scratch)) st = no_memory(err);
    if (!st) {
        bt_random_floats(8, n, q);
        a.rows.q = q;
        a.rows.out = q + n;
        a.rows.ldq = a.rows.ldo = cols;
        a.rows.pos = kv_len - rows;
        bt_pool_run(c->pool, run_attention, &a);
        bt_ops_row row = {.rows = rows, .unit = BT_UNIT_FMA, .within = 1e-4};
        row.error = attention_error(&a);
        row.ops = 4.0 * (kv_len - (rows - 1) / 2.0) * (double)n;
        row.bytes = (double)a.a.page_stride / PAGE_TOKENS * kv_len + 8.0 * (double)n;
        snprintf(row.kernel, sizeof row.kernel, "%s", name);
        snprintf(row.shape, sizeof row.shape, "kv %d %d/%d x %d", kv_len, l->n_heads, l->n_kv_heads,
                 l->head_dim);
        const char *text = bt_kv_format_name(format);
        snprintf(row.format, sizeof row.format, "%s", text ? text : "?");
        measure(c, run_attention, &a, &row);
    }
    bt_free((void *)a.a.pages);
    bt_free((void *)a.rows.pages);
    bt_free(a.scratch);
    bt_free(q);
    return st;
}

static bt_status attentions(cpu *c, bt_err *err)
{
    static const bt_kv_format formats[] = {BT_KV_F16, BT_KV_INT8, BT_KV_BF16, BT_KV_FP8, BT_KV_F32};
    static const int32_t kv[] = {1024, 4096, 16384};
    bool quick = c->ops.ask->quick;
    bt_status st = BT_OK;
    for (size_t f = 0; f < (quick ? 1 : BT_COUNT(formats)) && !st; f++)
        for (size_t i = 0; i < (quick ? 1 : BT_COUNT(kv)) && !st; i++)
            st = attention(c, formats[f], 1, kv[i], err);
    for (int32_t n = 256; n <= (quick ? 256 : 1024) && !st; n *= 4)
        st = attention(c, BT_KV_F16, n, n, err);
    return st;
}

/* ---- small operations */

typedef struct small_case {
    const float *x, *w;
    float *y;
    int32_t rows, cols;
    bt_weight table;
    const int32_t *token;
    const bt_sample_req *req;
    bt_sample_out out[ROWS_MAX];
    char *scratch;
    size_t scratch_stride;
} small_case;

static void run_norm(void *ud, int thread, int threads)
{
    small_case *s = ud;
    int64_t a, b;
    split(s->rows, 1, thread, threads, &a, &b);
    if (a < b)
        bt_norm_rms(s->x + a * s->cols, s->cols, s->w, (int32_t)(b - a), s->cols, 1e-5f,
                    s->y + a * s->cols, s->cols);
}
static void run_embed(void *ud, int thread, int threads)
{
    small_case *s = ud;
    int64_t a, b;
    split(s->rows, 1, thread, threads, &a, &b);
    if (a < b)
        bt_embed_rows(&s->table, s->token + a, (int32_t)(b - a), s->y + a * s->cols, s->cols);
}
static void run_sample(void *ud, int thread, int threads)
{
    small_case *s = ud;
    for (int32_t i = thread; i < s->rows; i += threads)
        bt_sample_run(s->req, s->x + (int64_t)i * s->cols, s->cols,
                      s->scratch + (size_t)thread * s->scratch_stride, &s->out[i]);
}

/* Norm and embedding of 1 and of many rows. */
static bt_status rows_of(cpu *c, small_case *s, bt_err *err)
{
    const bt_recipe *r = c->ops.ask->recipe;
    size_t hidden = (size_t)r->hidden;
    float *x = bt_malloc((ROWS_MAX + 1) * hidden * sizeof *x),
          *y = bt_malloc(hidden * 4 * ROWS_MAX);
    void *table = bt_malloc(bt_format_bytes(BT_FORMAT_Q8_0, (size_t)r->vocab * hidden));
    int32_t token[ROWS_MAX];
    bt_status st = x && y && table ? BT_OK : no_memory(err);
    for (int32_t i = 0; i < ROWS_MAX; i++) token[i] = (int32_t)((int64_t)i * 7919 % r->vocab);
    if (!st) {
        bt_random_floats(2, (ROWS_MAX + 1) * hidden, x);
        bt_random_weights(BT_FORMAT_Q8_0, 3, (size_t)r->vocab * hidden, 0.02f, table);
    }
    *s =
        (small_case){.x = x, .w = x + ROWS_MAX * hidden, .y = y, .cols = r->hidden, .token = token};
    s->table = (bt_weight){BT_FORMAT_Q8_0, r->vocab, r->hidden, table};
    for (int32_t rows = 1; !st && rows <= ROWS_MAX; rows *= ROWS_MAX) {
        s->rows = rows;
        bt_ops_row norm = {.kernel = "norm", .rows = rows, .format = "F32"};
        bt_ops_row embed = {.kernel = "embed", .rows = rows, .format = "Q8_0"};
        snprintf(norm.shape, sizeof norm.shape, "%d", r->hidden);
        snprintf(embed.shape, sizeof embed.shape, "%d x %d", r->vocab, r->hidden);
        norm.bytes = 8.0 * rows * r->hidden;
        embed.bytes = rows * r->hidden * (4 + 34.0 / 32);
        if (bt__ops_wants(&c->ops, "norm")) measure(c, run_norm, s, &norm);
        if (bt__ops_wants(&c->ops, "embed")) measure(c, run_embed, s, &embed);
    }
    bt_free(x);
    bt_free(y);
    bt_free(table);
    return st;
}

static bt_status samples(cpu *c, small_case *s, bt_err *err)
{
    enum { VOCAB = 131072, ROWS = 32, LOGITS = ROWS * VOCAB };
    static const char *const name[] = {"greedy", "k 40 p .95", "p .95"};
    bt_sample_req req[3];
    for (int i = 0; i < 3; i++)
        req[i] = (bt_sample_req){.top_p = i ? 0.95f : 1,
                                 .temperature = i ? 0.8f : 0,
                                 .top_k = i == 1 ? 40 : 0,
                                 .repeat_penalty = 1,
                                 .n_logprobs = -1,
                                 .forced = -1};
    size_t stride = bt_sample_scratch_bytes(VOCAB);
    float *x = bt_malloc(LOGITS * sizeof *x);
    char *scratch = bt_aligned_alloc(64, stride * (size_t)c->threads);
    bt_status st = x && scratch ? BT_OK : no_memory(err);
    if (!st) bt_random_floats(6, LOGITS, x);
    for (int32_t i = 0; !st && i < LOGITS; i++) x[i] *= 12 * x[i] * x[i];
    for (int32_t i = 0; !st && i < 6; i++) {
        *s = (small_case){.x = x, .rows = i < 3 ? 1 : ROWS, .cols = VOCAB, .req = &req[i % 3]};
        s->scratch = scratch;
        s->scratch_stride = stride;
        bt_ops_row row = {.kernel = "sample", .format = "F32", .rows = s->rows};
        snprintf(row.shape, sizeof row.shape, "%d %s", VOCAB, name[i % 3]);
        row.bytes = 4.0 * s->rows * VOCAB;
        if (bt__ops_wants(&c->ops, "sample")) measure(c, run_sample, s, &row);
    }
    bt_free(x);
    bt_free(scratch);
    return st;
}

bt_status bt_ops_run_cpu(const bt_ops_ask *ask, bt_ops_sink sink, void *ud, int32_t *skipped,
                         bt_err *err)
{
    cpu c = {.threads = ask->threads > 0 ? ask->threads : bt_cpu_count()};
    bt__ops_begin(&c.ops, ask, sink, ud);
    snprintf(c.ops.limits.device, sizeof c.ops.limits.device, "CPU %s %d threads",
             bt_isa_name(bt_isa_get()), c.threads);
    small_case *small = bt_malloc(sizeof *small);
    bt_status st = small ? bt_pool_new(c.threads, &c.pool, err) : no_memory(err);
    if (!st) st = ceilings(&c, err);
    if (!st) st = rows_of(&c, small, err);
    if (!st) st = linear(&c, err);
    if (!st) st = attentions(&c, err);
    if (!st) st = samples(&c, small, err);
    bt_pool_free(c.pool);
    bt_free(small);
    return st ? st : bt__ops_end(&c.ops, skipped, err);
}
