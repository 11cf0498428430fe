/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_step.c - the block operations on the CPU.
 *
 * Each one is one run of the thread team with a few meetings inside: rows are split where every row
 * is on its own (norm, rotation, preparation of activations), outputs where a matrix is applied.
 * Which thread does what never changes a result, because each kernel has one order of summation per
 * output. */
#include "base/assert.h"
#include "base/clock.h"
#include "device/batch_check.h"
#include "device/cpu/cpu_device.h"
#include "kernels/activation/activation.h"
#include "kernels/embed/embed.h"
#include "kernels/norm/norm.h"
#include "kernels/rope/rope.h"
#include "kernels/sample/sample.h"
#include <math.h>
#include <string.h>

/* Multiplications below which company does not pay: an operation's, when the others are awake and
 * only have to be met; a whole step's, when they have to be woken first, which takes tens of
 * microseconds. */
enum { COST_ALONE = 1 << 16, STEP_COST_ALONE = 1 << 22 };

void bt__cpu_run(bt_device *d, bt_pool_fn fn, int64_t cost)
{
    if (d->alone || cost < COST_ALONE)
        fn(d, 0, 1);
    else
        bt_pool_run(d->pool, fn, d);
}

static int64_t step_cost(const bt_device *d, const bt_batch *b)
{
    const bt_recipe *r = d->recipe;
    int64_t layer = 0;
    for (int32_t i = 0; i < BT_MATRICES_PER_LAYER; i++)
        layer += (int64_t)d->matrix[i].n * d->matrix[i].k;
    return r->n_layers * (layer * b->n_rows + 2 * d->att_cost) +
           (int64_t)b->n_out * r->vocab * r->hidden;
}

bt_status bt__cpu_step_begin(bt_device *d, const bt_batch *batch, bt_err *err)
{
    BT_ASSERT(!d->batch);
    d->begin_ns = bt_now_ns();
    bt_status st = bt__batch_check(d->recipe, &d->plan, batch, 0, err);
    if (st != BT_OK) return st;
    d->batch = batch;
    d->n_logits = 0;
    bt__cpu_attention_plan(d);
    d->alone = step_cost(d, batch) < STEP_COST_ALONE;
    return BT_OK;
}

bt_status bt__cpu_step_end(bt_device *d, uint64_t *busy_us, bt_err *err)
{
    (void)err;
    BT_ASSERT(d->batch);
    d->batch = NULL;
    int64_t us = (bt_now_ns() - d->begin_ns + 999) / 1000;
    *busy_us = us > 0 ? (uint64_t)us : 1;
    return BT_OK;
}

/* ---- Parts of operations. ---- */

/* Prepares rows of x for each kind of activation that matrices [m0, m1) read. */
static void prepare(bt_device *d, const bt_linear *m0, const bt_linear *m1, const float *x,
                    int64_t ld, int32_t rows, int32_t r0, int32_t r1)
{
    bool done[ACT_KINDS] = {false};
    for (const bt_linear *m = m0; r0 < r1 && m < m1; m++) {
        if (m->n == 0) continue; // a gate that the recipe has not
        int kind = bt_linear_act_kind(m->format);
        if (!done[kind])
            bt_linear_act_prepare(kind, x, ld, rows, m->k, d->scratch + d->at.act[kind], r0, r1);
        done[kind] = true;
    }
}

static const void *act_of(const bt_device *d, const bt_linear *m)
{
    return d->scratch + d->at.act[bt_linear_act_kind(m->format)];
}

static int32_t panels_of(const bt_linear *m)
{
    return (m->n + BT_LINEAR_PANEL - 1) / BT_LINEAR_PANEL;
}

/* Panels [a, b) of m, where a and b may lie outside of it. */
static void apply(bt_device *d, const bt_linear *m, int32_t rows, const float *bias,
                  bool accumulate, float *y, int64_t ld, int32_t a, int32_t b)
{
    int32_t n0 = BT_MAX(a, 0) * BT_LINEAR_PANEL, n1 = BT_MIN(b * BT_LINEAR_PANEL, m->n);
    if (n0 < n1) bt_linear_run(m, act_of(d, m), rows, bias, accumulate, y, ld, n0, n1);
}

static const bt_linear *matrix_of(const bt_device *d, int32_t index)
{
    return &d->matrix[d->layer * BT_MATRICES_PER_LAYER + index];
}

static int64_t matrix_cost(const bt_device *d, int32_t first, int32_t last)
{
    int64_t cost = 0;
    for (int32_t i = first; i <= last; i++)
        cost += (int64_t)matrix_of(d, i)->n * matrix_of(d, i)->k;
    return cost * d->batch->n_rows;
}

/* ---- The operations. ---- */

/* Rows of the residual stream's width. */
static void norm_rows(const bt_device *d, const float *x, const float *w, const float *bias,
                      int32_t rows, float *y)
{
    const bt_recipe *r = d->recipe;
    int64_t ld = d->at.ld_x;
    if (r->norm == BT_NORM_LAYER)
        bt_norm_layer(x, ld, w, bias, rows, r->hidden, r->norm_eps, y, ld);
    else
        bt_norm_rms(x, ld, w, rows, r->hidden, r->norm_eps, y, ld);
}

static void embed_work(void *ud, int thread, int threads)
{
    bt_device *d = ud;
    const bt_recipe *r = d->recipe;
    int32_t a, b;
    bt__cpu_split(d->batch->n_rows, thread, threads, &a, &b);
    float *x = bt__cpu_floats(d, d->at.x) + a * d->at.ld_x, *row = x;
    bt_embed_rows(&d->weights->embed, d->batch->token + a, b - a, x, d->at.ld_x);
    for (int32_t i = a; r->embed_scale != 1 && i < b; i++, row += d->at.ld_x)
        for (int32_t c = 0; c < r->hidden; c++) row[c] *= r->embed_scale;
    if (r->embed_norm) norm_rows(d, x, d->weights->embed_norm, d->weights->embed_norm_b, b - a, x);
    if (!r->learned_positions) return;
    /* Rows of the table of positions, by way of the room that the norms use later. */
    float *pos = bt__cpu_floats(d, d->at.normed) + a * d->at.ld_x;
    bt_embed_rows(&d->weights->positions, d->batch->pos + a, b - a, pos, d->at.ld_x);
    for (int64_t i = 0; i < (b - a) * d->at.ld_x; i++) x[i] += pos[i];
}

bt_status bt__cpu_embed(bt_device *d, bt_err *err)
{
    (void)err;
    bt__cpu_run(d, embed_work, (int64_t)d->batch->n_rows * d->recipe->hidden);
    return BT_OK;
}

static void store_kv(bt_device *d, int32_t row, const float *k, const float *v)
{
    const bt_batch_seq *s = &d->batch->seqs[d->batch->row_seq[row]];
    int32_t pos = d->batch->pos[row], tokens = d->plan.page_tokens;
    char *page = d->kv + (size_t)d->layer * d->at.layer_stride +
                 (size_t)s->pages[pos / tokens] * d->at.page_stride;
    bt_kv_append(&d->at.kv, page, pos % tokens, k, v);
}

static void clamp(float most, int32_t n, float *x)
{
    for (int32_t i = 0; i < n; i++) x[i] = x[i] > most ? most : x[i] < -most ? -most : x[i];
}

/* One row's heads of q and k, each alone or all together. */
static void norm_qk(const bt_device *d, const bt_layer_recipe *l, float *q, float *k)
{
    const bt_layer_weights *w = &d->weights->layers[d->layer];
    bool row = l->qk_norm == BT_QK_NORM_ROW;
    int32_t nq = row ? 1 : l->n_heads, nk = row ? 1 : l->n_kv_heads, dim = l->head_dim;
    int32_t q_cols = l->n_heads * dim / nq, k_cols = l->n_kv_heads * dim / nk;
    if (l->qk_norm == BT_QK_NORM_NONE) return;
    bt_norm_rms(q, q_cols, w->q_norm, nq, q_cols, d->recipe->norm_eps, q, q_cols);
    bt_norm_rms(k, k_cols, w->k_norm, nk, k_cols, d->recipe->norm_eps, k, k_cols);
}

/* Rows of q and k: normed, rotated; k and v go to their page. */
static void rotate_and_store(bt_device *d, int32_t r0, int32_t r1)
{
    const bt_recipe *r = d->recipe;
    const bt_layer_recipe *lr = &r->layer[d->layer];
    const bt_rope *rope = &r->rope[lr->rope];
    const cpu_layout *l = &d->at;
    int64_t half = rope->style == BT_ROPE_NONE ? 0 : rope->dim / 2;
    for (int32_t row = r0; row < r1; row++) {
        float *q = bt__cpu_floats(d, l->q) + row * l->ld_q;
        float *k = bt__cpu_floats(d, l->k) + row * l->ld_kv;
        float *v = bt__cpu_floats(d, l->v) + row * l->ld_kv;
        const float *cos = bt__cpu_floats(d, l->cos[lr->rope]) + d->batch->pos[row] * half;
        const float *sin = bt__cpu_floats(d, l->sin[lr->rope]) + d->batch->pos[row] * half;
        if (lr->qkv_clamp > 0) {
            clamp(lr->qkv_clamp, lr->n_heads * lr->head_dim, q);
            clamp(lr->qkv_clamp, lr->n_kv_heads * lr->head_dim, k);
            clamp(lr->qkv_clamp, lr->n_kv_heads * lr->head_dim, v);
        }
        if (lr->qk_norm != BT_QK_NORM_LATE) norm_qk(d, lr, q, k);
        bt_rope_apply(rope, cos, sin, lr->n_heads, lr->head_dim, q);
        bt_rope_apply(rope, cos, sin, lr->n_kv_heads, lr->head_dim, k);
        if (lr->qk_norm == BT_QK_NORM_LATE) norm_qk(d, lr, q, k);
        if (lr->q_growth > 0) {
            float grown = (float)(d->batch->pos[row] / r->rope[0].orig_ctx);
            grown = 1 + lr->q_growth * logf(1 + grown);
            for (int32_t i = 0; i < lr->n_heads * lr->head_dim; i++) q[i] *= grown;
        }
        store_kv(d, row, k, v);
    }
}

static void attn_in_work(void *ud, int thread, int threads)
{
    bt_device *d = ud;
    const cpu_layout *l = &d->at;
    const bt_layer_recipe *lr = &d->recipe->layer[d->layer];
    const bt_layer_weights *w = &d->weights->layers[d->layer];
    int32_t rows = d->batch->n_rows, a, b;
    float *x = bt__cpu_floats(d, l->x), *in = lr->norm_before ? bt__cpu_floats(d, l->normed) : x;
    bt__cpu_split(rows, thread, threads, &a, &b);
    int64_t at = a * l->ld_x;
    if (lr->norm_before) norm_rows(d, x + at, w->attn_norm, w->attn_norm_b, b - a, in + at);
    prepare(d, matrix_of(d, BT_MATRIX_Q), matrix_of(d, BT_MATRIX_V) + 1, in, l->ld_x, rows, a, b);
    if (lr->parallel) {
        float *side = bt__cpu_floats(d, l->side) + at;
        if (w->ffn_norm)
            norm_rows(d, x + at, w->ffn_norm, w->ffn_norm_b, b - a, side);
        else if (b > a)
            memcpy(side, in + at, (size_t)((b - a) * l->ld_x) * sizeof *side);
    }
    bt__cpu_meet(d, threads);

    const bt_linear *q = matrix_of(d, BT_MATRIX_Q), *k = matrix_of(d, BT_MATRIX_K),
                    *v = matrix_of(d, BT_MATRIX_V);
    int32_t nq = panels_of(q), nk = panels_of(k), nv = panels_of(v);
    bt__cpu_split(nq + nk + nv, thread, threads, &a, &b);
    apply(d, q, rows, w->bq, false, bt__cpu_floats(d, l->q), l->ld_q, a, b);
    apply(d, k, rows, w->bk, false, bt__cpu_floats(d, l->k), l->ld_kv, a - nq, b - nq);
    apply(d, v, rows, w->bv, false, bt__cpu_floats(d, l->v), l->ld_kv, a - nq - nk, b - nq - nk);
    bt__cpu_meet(d, threads);

    bt__cpu_split(rows, thread, threads, &a, &b);
    rotate_and_store(d, a, b);
}

bt_status bt__cpu_attn_in(bt_device *d, int32_t layer, bt_err *err)
{
    (void)err;
    d->layer = layer;
    bt__cpu_run(d, attn_in_work, matrix_cost(d, BT_MATRIX_Q, BT_MATRIX_V));
    return BT_OK;
}

static void attention_work(void *ud, int thread, int threads)
{
    bt__cpu_attention_work(ud, threads, thread);
}

bt_status bt__cpu_attention(bt_device *d, int32_t layer, bt_err *err)
{
    (void)err;
    d->layer = layer;
    atomic_store(&d->next[0], 0);
    atomic_store(&d->next[1], 0);
    bt__cpu_run(d, attention_work, 2 * d->att_cost);
    return BT_OK;
}

/* x += matrix * in + bias, by all threads; `in` is finished. What is added is normed by `norm` and
 * scaled where the recipe says so. */
static void project_back(bt_device *d, const bt_linear *m, const float *bias, const float *in,
                         int64_t ld, const float *norm, const float *norm_bias, int thread,
                         int threads)
{
    int32_t rows = d->batch->n_rows, a, b;
    float scale = d->recipe->residual_scale, *x = bt__cpu_floats(d, d->at.x);
    bool direct = !norm && scale == 1;
    float *y = direct ? x : bt__cpu_floats(d, d->at.added);
    bt__cpu_split(rows, thread, threads, &a, &b);
    prepare(d, m, m + 1, in, ld, rows, a, b);
    bt__cpu_meet(d, threads);
    int32_t p, q;
    bt__cpu_split(panels_of(m), thread, threads, &p, &q);
    apply(d, m, rows, bias, direct, y, d->at.ld_x, p, q);
    if (direct) return;
    bt__cpu_meet(d, threads);
    x += a * d->at.ld_x;
    y += a * d->at.ld_x;
    if (norm) norm_rows(d, y, norm, norm_bias, b - a, y);
    for (int32_t i = a; i < b; i++, x += d->at.ld_x, y += d->at.ld_x)
        for (int32_t c = 0; c < d->recipe->hidden; c++) x[c] += scale * y[c];
}

static void attn_out_work(void *ud, int thread, int threads)
{
    bt_device *d = ud;
    const bt_layer_weights *w = &d->weights->layers[d->layer];
    project_back(d, matrix_of(d, BT_MATRIX_O), w->bo, bt__cpu_floats(d, d->at.att), d->at.ld_q,
                 w->attn_after, w->attn_after_b, thread, threads);
}

bt_status bt__cpu_attn_out(bt_device *d, int32_t layer, bt_err *err)
{
    (void)err;
    d->layer = layer;
    bt__cpu_run(d, attn_out_work, matrix_cost(d, BT_MATRIX_O, BT_MATRIX_O));
    return BT_OK;
}

static void mlp_work(void *ud, int thread, int threads)
{
    bt_device *d = ud;
    const cpu_layout *l = &d->at;
    const bt_layer_recipe *lr = &d->recipe->layer[d->layer];
    const bt_layer_weights *w = &d->weights->layers[d->layer];
    int32_t rows = d->batch->n_rows, a, b;
    float *gate = bt__cpu_floats(d, l->gate), *up = bt__cpu_floats(d, l->up);
    float *x = bt__cpu_floats(d, l->x), *in = lr->norm_before ? bt__cpu_floats(d, l->normed) : x;
    bt__cpu_split(rows, thread, threads, &a, &b);
    if (lr->parallel)
        in = bt__cpu_floats(d, l->side);
    else if (lr->norm_before)
        norm_rows(d, x + a * l->ld_x, w->ffn_norm, w->ffn_norm_b, b - a, in + a * l->ld_x);
    prepare(d, matrix_of(d, BT_MATRIX_GATE), matrix_of(d, BT_MATRIX_UP) + 1, in, l->ld_x, rows, a,
            b);
    bt__cpu_meet(d, threads);

    /* A thread makes the same columns of both halves, so it can join them without a meeting. */
    const bt_linear *g = matrix_of(d, BT_MATRIX_GATE), *u = matrix_of(d, BT_MATRIX_UP);
    float *out = lr->plain ? up : gate;
    bt__cpu_split(panels_of(u), thread, threads, &a, &b);
    if (!lr->plain) apply(d, g, rows, w->b_gate, false, gate, l->ld_ffn, a, b);
    apply(d, u, rows, w->b_up, false, up, l->ld_ffn, a, b);
    int32_t n0 = a * BT_LINEAR_PANEL, n1 = BT_MIN(b * BT_LINEAR_PANEL, u->n);
    if (lr->activation == BT_ACTIVATION_XIELU)
        bt_activation_xielu(&lr->xielu, out, rows, l->ld_ffn, n0, n1);
    else
        bt_activation_apply(lr->activation, out, lr->plain ? NULL : up, rows, l->ld_ffn, n0, n1);
    bt__cpu_meet(d, threads);

    project_back(d, matrix_of(d, BT_MATRIX_DOWN), w->b_down, out, l->ld_ffn, w->ffn_after,
                 w->ffn_after_b, thread, threads);
}

bt_status bt__cpu_mlp(bt_device *d, int32_t layer, bt_err *err)
{
    (void)err;
    d->layer = layer;
    bt__cpu_run(d, mlp_work, matrix_cost(d, BT_MATRIX_GATE, BT_MATRIX_DOWN));
    return BT_OK;
}

static void head_work(void *ud, int thread, int threads)
{
    bt_device *d = ud;
    const cpu_layout *l = &d->at;
    const bt_batch *batch = d->batch;
    const bt_linear *m = &d->matrix[d->recipe->n_layers * BT_MATRICES_PER_LAYER];
    float *x = bt__cpu_floats(d, l->x), *normed = bt__cpu_floats(d, l->normed);
    int32_t a, b;
    bt__cpu_split(batch->n_out, thread, threads, &a, &b);
    for (int32_t i = a; i < b; i++)
        norm_rows(d, x + batch->out_row[i] * l->ld_x, d->weights->out_norm, d->weights->out_norm_b,
                  1, normed + i * l->ld_x);
    prepare(d, m, m + 1, normed, l->ld_x, batch->n_out, a, b);
    bt__cpu_meet(d, threads);
    bt__cpu_split(panels_of(m), thread, threads, &a, &b);
    float *logits = bt__cpu_floats(d, l->logits);
    apply(d, m, batch->n_out, d->weights->head_b, false, logits, l->ld_logits, a, b);
    if (d->recipe->logit_scale == 1 && d->recipe->logit_cap == 0) return;
    int32_t n0 = a * BT_LINEAR_PANEL, n1 = BT_MIN(b * BT_LINEAR_PANEL, m->n);
    for (int32_t i = 0; n0 < n1 && i < batch->n_out; i++)
        bt_activation_cap(logits + i * l->ld_logits + n0, n1 - n0, d->recipe->logit_scale,
                          d->recipe->logit_cap);
}

bt_status bt__cpu_head(bt_device *d, bt_err *err)
{
    (void)err;
    int32_t n = d->batch->n_out;
    if (n > 0) bt__cpu_run(d, head_work, (int64_t)n * d->recipe->vocab * d->recipe->hidden);
    d->n_logits = n;
    return BT_OK;
}

static void sample_work(void *ud, int thread, int threads)
{
    bt_device *d = ud;
    void *scratch = d->scratch + d->at.thread_scratch + (size_t)thread * d->at.thread_stride;
    (void)threads;
    for (int32_t i; (i = atomic_fetch_add(&d->next[0], 1)) < d->n_logits;)
        bt_sample_run(&d->reqs[i], bt__cpu_floats(d, d->at.logits) + i * d->at.ld_logits,
                      d->recipe->vocab, scratch, &d->outs[i]);
}

bt_status bt__cpu_sample(bt_device *d, const bt_sample_req *reqs, bt_sample_out *outs, bt_err *err)
{
    (void)err;
    d->reqs = reqs;
    d->outs = outs;
    atomic_store(&d->next[0], 0);
    bt__cpu_run(d, sample_work, d->n_logits > 1 ? (int64_t)d->n_logits * d->recipe->vocab : 0);
    return BT_OK;
}

bt_status bt__cpu_logits(bt_device *d, int32_t i, float *dst, bt_err *err)
{
    if (i < 0 || i >= d->n_logits)
        return bt_err_set(err, BT_EINVAL, 0, "row %d of %d rows of logits was asked for", i,
                          d->n_logits);
    memcpy(dst, bt__cpu_floats(d, d->at.logits) + i * d->at.ld_logits,
           (size_t)d->recipe->vocab * sizeof *dst);
    return BT_OK;
}
