/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_measure_step.c - times the small operations of a step: embedding, norm, rotation with the KV
 * append, sampling. */
#include "base/assert.h"
#include "base/mem.h"
#include "bench/ops_cuda.h"
#include "bench/random.h"
#include "kernels/embed/embed.h"
#include "kernels/embed/embed_cuda.h"
#include "kernels/norm/norm.h"
#include "kernels/norm/norm_cuda.h"
#include "kernels/rope/rope.h"
#include "kernels/rope/rope_cuda.h"
#include "kernels/sample/sample.h"
#include "kernels/sample/sample_cuda.h"
#include <math.h>
#include <stdio.h>

enum { PAGE_TOKENS = 16 };

/* ---- embedding */

typedef struct embed_case {
    bt_cuda_matrix table;
    int32_t *token, rows;
    float *x;
} embed_case;

static cudaError_t call_embed(void *ud, int32_t copy, cudaStream_t s)
{
    const embed_case *c = ud;
    (void)copy;
    return bt_cuda_embed(&c->table, c->token, c->rows, c->x, c->table.k, s);
}

/* Largest difference from the reference over every 97th element; must be none. */
static double embed_error(const bt_weight *table, const int32_t *token, int32_t rows,
                          const float *got)
{
    double most = 0;
    for (int64_t i = 0; i < (int64_t)rows * table->cols; i += 97) {
        double want =
            (double)bt_embed_ref(table, token[i / table->cols], (int32_t)(i % table->cols));
        most = BT_MAX(most, fabs((double)got[i] - want));
    }
    return most;
}

static bt_status embed_rows(bt__gpu *g, embed_case *c, const bt_weight *table, int32_t rows,
                            bt_err *err)
{
    size_t bytes = (size_t)rows * (size_t)table->cols * sizeof(float);
    int32_t *token = bt_malloc((size_t)rows * sizeof *token);
    float *got = bt_malloc(bytes);
    bt_status status = token && got ? BT_OK : bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    bt_ops_row row = {.kernel = "embed", .rows = rows, .within = 1e-30};
    for (int32_t i = 0; !status && i < rows; i++)
        token[i] = (int32_t)((int64_t)i * 7919 % table->rows);
    c->rows = rows;
    if (!status) {
        c->token = bt__gpu_put(g, token, (size_t)rows * sizeof *token, err);
        c->x = c->token ? bt__gpu_take(g, bytes, err) : NULL;
        status = c->x ? bt__gpu_once(g, call_embed, c, err) : BT_ENOMEM;
    }
    if (!status) status = bt__gpu_get(g, got, c->x, bytes, err);
    if (!status) {
        row.error = embed_error(table, token, rows, got);
        row.bytes = (double)bytes +
                    (double)rows * (double)bt_format_bytes(table->format, (size_t)table->cols);
        snprintf(row.shape, sizeof row.shape, "%d x %d", table->rows, table->cols);
        snprintf(row.format, sizeof row.format, "%s", bt_format_get(table->format)->name);
        status = bt__gpu_measure(g, call_embed, c, &row, err);
    }
    bt_free(token);
    bt_free(got);
    return status;
}

static bt_status embed(bt__gpu *g, bt_err *err)
{
    const bt_recipe *r = g->ops.ask->recipe;
    int32_t format = r->hidden % 256 ? BT_FORMAT_Q8_0 : BT_FORMAT_Q6_K;
    size_t n = (size_t)r->vocab * (size_t)r->hidden, bytes = bt_format_bytes(format, n);
    if (!bt__ops_wants(&g->ops, "embed")) return BT_OK;
    void *src = bt_malloc(bytes);
    if (!src) return bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    bt_random_weights(format, 3, n, 0.02f, src);
    bt_weight table = {format, r->vocab, r->hidden, src};
    embed_case c = {.table = {format, r->vocab, r->hidden, NULL}};
    void *raw = bt__gpu_put(g, src, bytes, err);
    c.table.data =
        raw ? bt__gpu_take(g, bt_cuda_matrix_bytes(format, r->vocab, r->hidden), err) : NULL;
    bt_status status = c.table.data ? BT_OK : BT_ENOMEM;
    if (!status)
        status = bt__gpu_check(bt_cuda_matrix_pack(&c.table, 0, r->vocab, raw, g->stream),
                               "packing the embedding", err);
    if (!status) status = embed_rows(g, &c, &table, 1, err);
    if (!status) status = embed_rows(g, &c, &table, BT_MIN(512, GPU_ROWS_MAX), err);
    bt__gpu_clear(g);
    bt_free(src);
    return status;
}

/* ---- norm */

typedef struct norm_case {
    const float *x, *w;
    int32_t rows, cols;
    unsigned kinds;
    bt_cuda_act out;
} norm_case;

static cudaError_t call_norm(void *ud, int32_t copy, cudaStream_t s)
{
    const norm_case *c = ud;
    (void)copy;
    return bt_cuda_norm_rms(c->x, c->cols, NULL, c->w, c->rows, c->cols, 1e-5f, c->kinds, &c->out,
                            s);
}

/* Of the last row, as F32 (the other forms' own tests are the kernels'). */
static bt_status norm_error(bt__gpu *g, norm_case *c, const float *x, const float *w, double *error,
                            bt_err *err)
{
    size_t cols = (size_t)c->cols, last = (size_t)(c->rows - 1) * cols;
    float *want = bt_malloc(2 * cols * sizeof *want);
    double *exact = bt_malloc(cols * sizeof *exact);
    bt_status status = want && exact ? BT_OK : bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    if (!status) status = bt__gpu_once(g, call_norm, c, err);
    if (!status) status = bt__gpu_get(g, want + cols, c->out.f32 + last, cols * sizeof(float), err);
    if (!status) {
        bt_norm_rms_ref(x + last, c->cols, w, 1, c->cols, 1e-5f, want, c->cols);
        for (size_t i = 0; i < cols; i++) exact[i] = (double)want[i];
        *error = bt__ops_error(want + cols, exact, c->cols);
    }
    bt_free(want);
    bt_free(exact);
    return status;
}

static bt_status norm_rows(bt__gpu *g, int32_t rows, bt_err *err)
{
    const bt_recipe *r = g->ops.ask->recipe;
    const unsigned kinds = BT_CUDA_ACT_F32 | BT_CUDA_ACT_Q8;
    size_t n = (size_t)rows * (size_t)r->hidden, cols = (size_t)r->hidden;
    if (!bt__ops_wants(&g->ops, "norm")) return BT_OK;
    float *x = bt_malloc((n + cols) * sizeof *x);
    if (!x) return bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    bt_random_floats(2, n + cols, x);
    norm_case c = {.rows = rows, .cols = r->hidden, .kinds = kinds};
    float *on = bt__gpu_put(g, x, (n + cols) * sizeof *x, err);
    void *block = on ? bt__gpu_take(g, bt_cuda_act_bytes(rows, r->hidden, kinds), err) : NULL;
    bt_status status = block ? BT_OK : BT_ENOMEM;
    bt_ops_row row = {.kernel = "norm", .format = "Q8", .rows = rows, .within = 1e-5};
    if (!status) {
        c.x = on;
        c.w = on + n;
        bt_cuda_act_place(&c.out, block, rows, r->hidden, kinds);
        status = norm_error(g, &c, x, x + n, &row.error, err);
    }
    c.kinds = BT_CUDA_ACT_Q8;
    row.bytes = (double)n * 5.25 + 4 * (double)cols;
    snprintf(row.shape, sizeof row.shape, "%d", r->hidden);
    if (!status) status = bt__gpu_measure(g, call_norm, &c, &row, err);
    bt__gpu_clear(g);
    bt_free(x);
    return status;
}

/* ---- rotation and append */

typedef struct rope_case {
    bt_cuda_rope_args args;
    float *tables; // owned: host, cos then sin
    float *qkv;    // owned: host
    float *dev_qkv;
    int32_t ctx;
} rope_case;

static cudaError_t call_rope(void *ud, int32_t copy, cudaStream_t s)
{
    const rope_case *c = ud;
    (void)copy;
    return bt_cuda_rope_kv(&c->args, s);
}

static bt_status rope_put(bt__gpu *g, rope_case *c, int32_t rows, bt_kv_format format, bt_err *err)
{
    const bt_recipe *r = g->ops.ask->recipe;
    const bt_layer_recipe *l = &r->layer[0];
    int32_t half = r->rope[0].dim / 2, cols = (l->n_heads + 2 * l->n_kv_heads) * l->head_dim;
    size_t table = (size_t)rows * (size_t)half, n = (size_t)rows * (size_t)cols;
    int32_t n_pages = (rows + PAGE_TOKENS - 1) / PAGE_TOKENS;
    size_t stride = bt_cuda_kv_page_bytes(format, l->n_kv_heads, l->head_dim, PAGE_TOKENS);
    c->tables = bt_malloc(2 * table * sizeof(float));
    c->qkv = bt_malloc(n * sizeof(float));
    int32_t *ints = bt_calloc((size_t)(2 * rows + n_pages), sizeof *ints); // pos, row_seq, pages
    if (!c->tables || !c->qkv || !ints) {
        bt_free(ints);
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    }
    bt_rope_tables(&r->rope[0], NULL, 0, rows, c->tables, c->tables + table);
    bt_random_floats(4, n, c->qkv);
    for (int32_t i = 0; i < rows; i++) ints[i] = i;
    for (int32_t i = 0; i < n_pages; i++) ints[2 * rows + i] = i;
    const float *tables = bt__gpu_put(g, c->tables, 2 * table * sizeof(float), err);
    c->dev_qkv = bt__gpu_put(g, c->qkv, n * sizeof(float), err);
    const int32_t *dev = bt__gpu_put(g, ints, (size_t)(2 * rows + n_pages) * sizeof *ints, err);
    void *pages = bt__gpu_take(g, stride * (size_t)n_pages, err);
    bt_free(ints);
    if (!tables || !c->dev_qkv || !dev || !pages) return BT_ENOMEM;
    int32_t q = l->n_heads * l->head_dim, kv = l->n_kv_heads * l->head_dim;
    c->args =
        (bt_cuda_rope_args){.kv = {format, l->n_kv_heads, l->head_dim, PAGE_TOKENS, pages, stride},
                            .rows = rows,
                            .n_heads = l->n_heads,
                            .style = r->rope[0].style,
                            .rope_dim = r->rope[0].dim,
                            .cos = tables,
                            .sin = tables + table,
                            .q = c->dev_qkv,
                            .k = c->dev_qkv + q,
                            .v = c->dev_qkv + q + kv,
                            .ldq = cols,
                            .ldk = cols,
                            .ldv = cols,
                            .pos = dev,
                            .row_seq = dev + rows,
                            .pages = dev + 2 * rows,
                            .pages_ld = n_pages};
    return BT_OK;
}

/* Of the last row's queries. */
static bt_status rope_error(bt__gpu *g, rope_case *c, double *error, bt_err *err)
{
    const bt_recipe *r = g->ops.ask->recipe;
    const bt_layer_recipe *l = &r->layer[0];
    int32_t n = l->n_heads * l->head_dim, last = c->args.rows - 1;
    float *x = c->qkv + (int64_t)last * c->args.ldq, *got = bt_malloc((size_t)n * sizeof *got);
    double *want = bt_malloc((size_t)n * sizeof *want);
    bt_status status = got && want ? BT_OK : bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    if (!status) status = bt__gpu_once(g, call_rope, c, err);
    if (!status)
        status = bt__gpu_get(g, got, c->dev_qkv + (int64_t)last * c->args.ldq,
                             (size_t)n * sizeof *got, err);
    if (!status) {
        bt_rope_ref(&r->rope[0], NULL, last, l->n_heads, l->head_dim, x);
        for (int32_t i = 0; i < n; i++) want[i] = (double)x[i];
        *error = bt__ops_error(got, want, n);
    }
    bt_free(got);
    bt_free(want);
    return status;
}

static bt_status rope_rows(bt__gpu *g, int32_t rows, bt_kv_format format, bt_err *err)
{
    const bt_recipe *r = g->ops.ask->recipe;
    const bt_layer_recipe *l = &r->layer[0];
    if (!bt__ops_wants(&g->ops, "rope")) return BT_OK;
    rope_case c = {0};
    bt_ops_row row = {.kernel = "rope+append", .rows = rows, .within = 1e-5};
    bt_status status = rope_put(g, &c, rows, format, err);
    if (!status) status = rope_error(g, &c, &row.error, err);
    double page_row =
        (double)bt_cuda_kv_page_bytes(format, l->n_kv_heads, l->head_dim, PAGE_TOKENS) /
        PAGE_TOKENS;
    row.bytes = rows * (l->head_dim * (8.0 * l->n_heads + 8.0 * l->n_kv_heads) + page_row);
    snprintf(row.shape, sizeof row.shape, "%d+%d heads of %d", l->n_heads, l->n_kv_heads,
             l->head_dim);
    const char *name = bt_kv_format_name(format);
    snprintf(row.format, sizeof row.format, "%s", name ? name : "?");
    if (!status) status = bt__gpu_measure(g, call_rope, &c, &row, err);
    bt__gpu_clear(g);
    bt_free(c.tables);
    bt_free(c.qkv);
    return status;
}

bt_status bt__gpu_step(bt__gpu *g, bt_err *err)
{
    int32_t many = BT_MIN(512, GPU_ROWS_MAX);
    bt_status status = embed(g, err);
    if (!status) status = norm_rows(g, 1, err);
    if (!status) status = norm_rows(g, many, err);
    if (!status) status = rope_rows(g, 1, BT_KV_F16, err);
    if (!status) status = rope_rows(g, many, BT_KV_F16, err);
    if (!status) status = rope_rows(g, many, BT_KV_INT8, err);
    return status;
}

/* ---- sampling */

typedef struct sample_case {
    bt_cuda_sample_args args;
    bt_cuda_sample_row *row; // owned: host
    float *logits;           // owned: host
} sample_case;

static cudaError_t call_sample(void *ud, int32_t copy, cudaStream_t s)
{
    const sample_case *c = ud;
    (void)copy;
    return bt_cuda_sample(&c->args, s);
}

/* 0 where the device draws the tokens that the host draws from the same logits. */
static bt_status sample_error(bt__gpu *g, sample_case *c, const bt_sample_req *req, double *error,
                              bt_err *err)
{
    int32_t rows = c->args.rows, vocab = c->args.vocab;
    bt_cuda_sample_pick *pick = bt_malloc((size_t)rows * sizeof *pick);
    void *scratch = bt_aligned_alloc(64, bt_sample_scratch_bytes(vocab));
    bt_status status = pick && scratch ? BT_OK : bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    if (!status) status = bt__gpu_once(g, call_sample, c, err);
    if (!status) status = bt__gpu_get(g, pick, c->args.pick, (size_t)rows * sizeof *pick, err);
    for (int32_t i = 0; !status && i<rows; i += rows> 1 ? rows - 1 : 1) {
        bt_sample_out want;
        bt_sample_req one = *req;
        one.counter = (uint64_t)i;
        bt_sample_run(&one, c->logits + (int64_t)i * vocab, vocab, scratch, &want);
        if (want.token != pick[i].token) *error = 1;
    }
    bt_free(pick);
    bt_free(scratch);
    return status;
}

static bt_status sample_put(bt__gpu *g, sample_case *c, const bt_sample_req *req, int32_t rows,
                            int32_t vocab, bt_err *err)
{
    size_t n = (size_t)rows * (size_t)vocab;
    c->row = bt_calloc((size_t)rows, sizeof *c->row);
    c->logits = bt_malloc(n * sizeof *c->logits);
    if (!c->row || !c->logits) return bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    bt_random_floats(6, n, c->logits);
    for (size_t i = 0; i < n; i++) c->logits[i] *= 12 * c->logits[i] * c->logits[i];
    for (int32_t i = 0; i < rows; i++) {
        bt_sample_req one = *req;
        one.counter = (uint64_t)i;
        bt_cuda_sample_pack(&one, vocab, 0, 0, 0, -1, &c->row[i]);
    }
    c->args = (bt_cuda_sample_args){.ld = vocab, .rows = rows, .vocab = vocab};
    c->args.row = bt__gpu_put(g, c->row, (size_t)rows * sizeof *c->row, err);
    c->args.logits = bt__gpu_put(g, c->logits, n * sizeof *c->logits, err);
    c->args.scratch = bt__gpu_take(g, bt_cuda_sample_scratch(rows, vocab), err);
    c->args.pick = bt__gpu_take(g, (size_t)rows * sizeof(bt_cuda_sample_pick), err);
    c->args.top = bt__gpu_take(g, (size_t)rows * sizeof(bt_cuda_sample_top), err);
    bool ok = c->args.row && c->args.logits && c->args.scratch && c->args.pick && c->args.top;
    return ok ? BT_OK : BT_ENOMEM;
}

bt_status bt__gpu_sample(bt__gpu *g, bt_err *err)
{
    static const bt_sample_req plain = {
        .top_p = 1, .repeat_penalty = 1, .n_logprobs = -1, .forced = -1, .seed = 11};
    bt_sample_req req[3] = {plain, plain, plain};
    static const char *const name[] = {"greedy", "k 40 p .95", "p .95"};
    req[1].temperature = req[2].temperature = 0.8f;
    req[1].top_k = 40;
    req[1].top_p = req[2].top_p = 0.95f;
    int32_t vocab = GPU_EMULATED ? 4000 : 131072;
    bt_status status = BT_OK;
    for (int32_t i = 0; i < 6 && !status; i++) {
        int32_t rows = i < 3 ? 1 : GPU_EMULATED ? 3 : 32;
        if (!bt__ops_wants(&g->ops, "sample")) continue;
        sample_case c = {0};
        bt_ops_row row = {.kernel = "sample", .rows = rows, .within = 0.5};
        status = sample_put(g, &c, &req[i % 3], rows, vocab, err);
        if (!status) status = sample_error(g, &c, &req[i % 3], &row.error, err);
        row.bytes = 4.0 * rows * vocab;
        snprintf(row.shape, sizeof row.shape, "%d %s", vocab, name[i % 3]);
        snprintf(row.format, sizeof row.format, "F32");
        if (!status) status = bt__gpu_measure(g, call_sample, &c, &row, err);
        bt__gpu_clear(g);
        bt_free(c.row);
        bt_free(c.logits);
    }
    return status;
}
