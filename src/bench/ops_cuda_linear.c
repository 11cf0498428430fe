/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_measure_linear.c - times the matrices of a layer and the head: GEMV, GEMM, and what the
 * dispatch makes of many rows where NVIDIA's library is there. */
#include "base/assert.h"
#include "base/mem.h"
#include "bench/ops_cuda.h"
#include "bench/random.h"
#include "kernels/activation/activation_cuda.h"
#include "kernels/linear/linear_cuda.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { COPIES_MAX = 24 };

/* One matrix in one format, on host and device, and one number of rows. */
typedef struct linear_case {
    const bt__ops_matrix *m;
    int32_t format, copies, rows;
    void *src; // owned: host, as a file has it
    float *x;  // owned: host, [rows_max, k]
    float *y;  // owned: host
    bt_cuda_matrix w[COPIES_MAX];
    float *dev_x, *dev_y;
    void *act_block, *scratch;
    size_t scratch_bytes;
    bt_cuda_act act;
    bt_cuda_linear_args args;
    enum { BY_GEMV, BY_GEMM, BY_DISPATCH } way;
} linear_case;

static cudaError_t call_linear(void *ud, int32_t copy, cudaStream_t s)
{
    linear_case *c = ud;
    bt_cuda_linear_args args = c->args;
    args.w = &c->w[copy % c->copies];
    switch (c->way) {
    case BY_GEMV: return bt_cuda_gemv(&args, s);
    case BY_GEMM: return bt_cuda_gemm(&args, s);
    default: return bt_cuda_linear(&args, s);
    }
}

static int32_t outputs(const bt__ops_matrix *m)
{
    return m->glu ? m->n / 2 : m->n;
}

/* Random rows, the same ones again after BAND_ROWS: making gigabytes anew would take longer than
 * all timings. */
static void random_rows(linear_case *c)
{
    enum { BAND_ROWS = 509 };
    size_t row = bt_format_bytes(c->format, (size_t)c->m->k), band = row * BAND_ROWS;
    size_t rows = (size_t)BT_MIN(c->m->n, (int32_t)BAND_ROWS), all = row * (size_t)c->m->n;
    bool known =
        bt_random_weights(c->format, 5, rows * (size_t)c->m->k, 1 / sqrtf((float)c->m->k), c->src);
    BT_ASSERT(known);
    for (size_t at = band; at < all; at += band)
        memcpy((char *)c->src + at, c->src, BT_MIN(band, all - at));
}

/* The matrix on the device, several times; the file's rows are there while they are packed. */
static bt_status put_matrix(bt__gpu *g, linear_case *c, bt_err *err)
{
    const bt__ops_matrix *m = c->m;
    size_t elements = (size_t)m->n * (size_t)m->k, bytes = bt_format_bytes(c->format, elements);
    size_t packed = bt_cuda_matrix_bytes(c->format, m->n, m->k);
    void *raw = NULL;
    c->src = bt_malloc(bytes);
    if (!c->src) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a matrix");
    random_rows(c);
    c->copies = bt__gpu_copies(g, packed);
    if (cudaMalloc(&raw, bytes) != cudaSuccess) {
        cudaGetLastError();
        return bt_err_set(err, BT_ENOMEM, 0, "the device has no room for a matrix");
    }
    cudaError_t code = cudaMemcpy(raw, c->src, bytes, cudaMemcpyHostToDevice);
    for (int32_t i = 0; i < c->copies && code == cudaSuccess; i++) {
        c->w[i] = (bt_cuda_matrix){c->format, m->n, m->k, bt__gpu_take(g, packed, err)};
        if (!c->w[i].data) {
            cudaFree(raw);
            return BT_ENOMEM;
        }
        code = bt_cuda_matrix_pack(&c->w[i], 0, m->n, raw, g->stream);
    }
    if (code == cudaSuccess) code = cudaStreamSynchronize(g->stream);
    cudaFree(raw);
    return bt__gpu_check(code, "packing a matrix", err);
}

static bt_status put_activations(bt__gpu *g, linear_case *c, int32_t rows_max, bt_err *err)
{
    const bt__ops_matrix *m = c->m;
    const unsigned all = BT_CUDA_ACT_F32 | BT_CUDA_ACT_F16 | BT_CUDA_ACT_Q8;
    size_t n = (size_t)rows_max * (size_t)m->k;
    size_t ny = (size_t)rows_max * (size_t)outputs(m);
    c->x = bt_malloc(n * sizeof *c->x);
    c->y = bt_malloc(ny * sizeof *c->y);
    if (!c->x || !c->y) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for activations");
    bt_random_floats(9, n, c->x);
    c->scratch_bytes = bt_cuda_linear_scratch(c->format, m->n, m->k, rows_max, &g->props);
    c->dev_x = bt__gpu_put(g, c->x, n * sizeof *c->x, err);
    c->dev_y = c->dev_x ? bt__gpu_take(g, ny * sizeof(float), err) : NULL;
    c->act_block = c->dev_y ? bt__gpu_take(g, bt_cuda_act_bytes(rows_max, m->k, all), err) : NULL;
    c->scratch = c->act_block ? bt__gpu_take(g, c->scratch_bytes, err) : NULL;
    return c->scratch ? BT_OK : BT_ENOMEM;
}

/* Prepares the forms that are read, and says how exact the result must be: Q8 activations have an
 * error of about 1/254 of a block's greatest value, halves (and BF16 weights made halves) 2^-11. */
static bt_status prepare(bt__gpu *g, linear_case *c, double *within, double *act_bytes, bt_err *err)
{
    unsigned kinds = c->way == BY_GEMV   ? bt_cuda_gemv_act(c->format)
                     : c->way == BY_GEMM ? bt_cuda_linear_act(c->format, c->rows, true)
                                         : bt_cuda_linear_act(c->format, c->rows, false);
    bt_cuda_act_place(&c->act, c->act_block, c->rows, c->m->k, kinds);
    cudaError_t code =
        bt_cuda_act_prepare(c->dev_x, c->m->k, c->rows, c->m->k, kinds, &c->act, g->stream);
    *within = kinds & BT_CUDA_ACT_Q8 ? 2e-2 : kinds & BT_CUDA_ACT_F16 ? 5e-3 : 1e-4;
    double each = kinds & BT_CUDA_ACT_Q8 ? 1.25 : kinds & BT_CUDA_ACT_F16 ? 2 : 4;
    *act_bytes = each * c->rows * c->m->k;
    c->args = (bt_cuda_linear_args){.act = &c->act,
                                    .rows = c->rows,
                                    .y = c->dev_y,
                                    .ldy = outputs(c->m),
                                    .glu = c->m->glu,
                                    .scratch = c->scratch,
                                    .scratch_bytes = c->scratch_bytes,
                                    .props = &g->props,
                                    .blas = c->way == BY_DISPATCH ? g->blas : NULL};
    return bt__gpu_check(code, "preparing activations", err);
}

static bt_ops_unit unit_of(const linear_case *c)
{
    bool q8 = c->way == BY_GEMV ? bt_cuda_gemv_act(c->format) == BT_CUDA_ACT_Q8
                                : bt_cuda_linear_act(c->format, 16, true) == BT_CUDA_ACT_Q8;
    if (c->way == BY_GEMV) return q8 ? BT_UNIT_DOT : BT_UNIT_FMA;
    if (c->way == BY_DISPATCH) return BT_UNIT_MMA_F16;
    return q8 ? BT_UNIT_MMA_S8 : c->format == BT_FORMAT_F32 ? BT_UNIT_FMA : BT_UNIT_MMA_F16;
}

static bt_status one(bt__gpu *g, linear_case *c, bt_err *err)
{
    const bt__ops_matrix *m = c->m;
    static const char *const names[] = {"gemv", "gemm", "gemm cublaslt"};
    bt_ops_row row = {.rows = c->rows, .unit = unit_of(c)};
    double act_bytes = 0;
    if (!bt__ops_wants(&g->ops, names[c->way])) return BT_OK;
    snprintf(row.kernel, sizeof row.kernel, "%s", names[c->way]);
    snprintf(row.shape, sizeof row.shape, "%s %d x %d", m->name, m->n, m->k);
    snprintf(row.format, sizeof row.format, "%s", bt_format_get(c->format)->name);
    bt_status status = prepare(g, c, &row.within, &act_bytes, err);
    size_t y_bytes = sizeof(float) * (size_t)c->rows * (size_t)outputs(m);
    row.ops = 2.0 * m->n * m->k * c->rows;
    row.bytes = (double)bt_cuda_matrix_bytes(c->format, m->n, m->k) + act_bytes + (double)y_bytes;
    if (!status)
        status = bt__gpu_check(cudaMemset(c->dev_y, 0xFF, y_bytes), "filling a result", err);
    if (!status) status = bt__gpu_once(g, call_linear, c, err);
    if (!status) status = bt__gpu_get(g, c->y, c->dev_y, y_bytes, err);
    if (status) return status;
    row.error = bt__ops_linear_error(m, c->format, c->src, c->x, c->rows, c->y, outputs(m));
    return bt__gpu_measure(g, call_linear, c, &row, err);
}

/* All numbers of rows of one matrix in one format. */
static bt_status matrix(bt__gpu *g, const bt__ops_matrix *m, int32_t format, bool gemm, bt_err *err)
{
    static const int32_t few[] = {1, 2, 4, 8}, few_quick[] = {1, 8};
    static const int32_t many[] = {16, 32, 64, 128, 256, 512, 1024, 2048, 4096},
                         many_quick[] = {16, 128, 1024};
    bool quick = g->ops.ask->quick;
    const int32_t *rows = gemm ? quick ? many_quick : many : quick ? few_quick : few;
    size_t n = gemm    ? quick ? BT_COUNT(many_quick) : BT_COUNT(many)
                  : quick ? BT_COUNT(few_quick)
                       : BT_COUNT(few);
    linear_case c = {.m = m, .format = format};
    if (!bt__ops_wants(&g->ops, gemm ? "gemm" : "gemv")) return BT_OK;
    bt_status status = put_matrix(g, &c, err);
    if (!status) status = put_activations(g, &c, gemm ? BT_MIN(rows[n - 1], GPU_ROWS_MAX) : 8, err);
    for (size_t i = 0; i < n && !status; i++) {
        if (rows[i] > GPU_ROWS_MAX) continue;
        c.rows = rows[i];
        c.way = gemm ? BY_GEMM : BY_GEMV;
        status = one(g, &c, err);
        if (!gemm || !g->blas || format == BT_FORMAT_F32 || rows[i] < 256) continue;
        c.way = BY_DISPATCH;
        if (!status) status = one(g, &c, err);
    }
    bt__gpu_clear(g);
    bt_free(c.src);
    bt_free(c.x);
    bt_free(c.y);
    if (status != BT_ENOMEM) return status;
    g->ops.skipped++; // too large for this device
    return BT_OK;
}

bt_status bt__gpu_linear(bt__gpu *g, bool gemm, bt_err *err)
{
    static const int32_t all[] = {BT_FORMAT_Q4_K,  BT_FORMAT_Q8_0, BT_FORMAT_F16,  BT_FORMAT_INT4G,
                                  BT_FORMAT_INT8G, BT_FORMAT_Q4_0, BT_FORMAT_Q6_K, BT_FORMAT_Q5_K,
                                  BT_FORMAT_BF16,  BT_FORMAT_F32};
    const bt_ops_ask *ask = g->ops.ask;
    const int32_t *format = ask->format ? ask->format : all;
    int32_t known = ask->quick && !GPU_EMULATED ? 5 : (int32_t)BT_COUNT(all);
    int32_t n = ask->format ? ask->n_formats : known;
    bt__ops_matrix list[BT__OPS_MATRICES];
    bt_status status = BT_OK;
    bt__ops_matrices(ask->recipe, list);
    for (int32_t f = 0; f < n && !status; f++)
        for (int32_t i = 0; i < BT__OPS_MATRICES && !status; i++) {
            bool seldom = list[i].head ? gemm : ask->quick && !list[i].glu;
            if (seldom || !bt_cuda_linear_supported(format[f], list[i].k)) continue;
            status = matrix(g, &list[i], format[f], gemm, err);
        }
    return status;
}
