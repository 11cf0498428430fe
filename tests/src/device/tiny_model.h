/* SPDX-License-Identifier: Apache-2.0 */
/* tiny_model.h - a random model in memory, and its forward pass in double, written from the
 * definition. */
#pragma once
#include "base/mem.h"
#include "base/rng.h"
#include "baton/backend.h"
#include "kernels/quant/quant.h"
#include <math.h>
#include <stdlib.h>

typedef struct tiny_spec {
    int32_t layers, hidden, heads, kv_heads, head_dim, ffn, vocab;
    bt_rope_style style;
    int32_t rope_dim;
    int32_t format[3]; // of attention, MLP, and embedding with head
    bool bias, tied, divisors, qk_norm;
} tiny_spec;

typedef struct tiny_model {
    bt_recipe recipe;
    bt_weights weights;
    uint64_t draws, seed;
    void *owned[512];
    int n_owned;
} tiny_model;

static inline void *tiny_keep(tiny_model *m, size_t bytes)
{
    return m->owned[m->n_owned++] = bt_must(bt_malloc(bytes));
}

static inline float tiny_random(tiny_model *m)
{
    double sum = 0;
    for (int i = 0; i < 4; i++) sum += bt_rng_unit(m->seed, m->draws++);
    return (float)((sum - 2) * 1.7320508);
}

static inline float *tiny_floats(tiny_model *m, int32_t n, float mean, float scale)
{
    float *x = tiny_keep(m, (size_t)n * sizeof *x);
    for (int32_t i = 0; i < n; i++) x[i] = mean + scale * tiny_random(m);
    return x;
}

static inline bt_weight tiny_matrix(tiny_model *m, int32_t format, int32_t rows, int32_t cols)
{
    size_t n = (size_t)rows * (size_t)cols;
    float *x = bt_must(bt_malloc(n * sizeof *x));
    char *data = tiny_keep(m, bt_format_bytes(format, n) + 2);
    for (size_t i = 0; i < n; i++) x[i] = tiny_random(m) / sqrtf((float)cols);
    if (!bt_quant_ref(format, x, n, data + 2)) abort();
    bt_free(x);
    return (bt_weight){format, rows, cols, data + 2};
}

static inline tiny_model *tiny_new(const tiny_spec *s, uint64_t seed)
{
    tiny_model *m = bt_must(bt_calloc(1, sizeof *m));
    int32_t q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    m->seed = seed;
    m->recipe = (bt_recipe){
        .arch = "llama",
        .n_layers = s->layers,
        .hidden = s->hidden,
        .vocab = s->vocab,
        .ctx_train = 2048,
        .norm_eps = 1e-5f,
        .embed_scale = 1,
        .residual_scale = 1,
        .logit_scale = 1,
        .tied_head = s->tied,
        .n_ropes = 1,
        .rope = {
            {.style = s->style, .dim = s->rope_dim, .theta = 10000, .factor = 1, .amplitude = 1}}};
    for (int32_t i = 0; i < s->layers; i++)
        m->recipe.layer[i] =
            (bt_layer_recipe){.n_heads = s->heads,
                              .n_kv_heads = s->kv_heads,
                              .head_dim = s->head_dim,
                              .attn_scale = 1 / sqrtf((float)s->head_dim),
                              .qk_norm = s->qk_norm ? BT_QK_NORM_HEAD : BT_QK_NORM_NONE,
                              .norm_before = true,
                              .ffn = s->ffn};
    bt_weights *w = &m->weights;
    w->embed = tiny_matrix(m, s->format[2], s->vocab, s->hidden);
    w->head = s->tied ? w->embed : tiny_matrix(m, s->format[2], s->vocab, s->hidden);
    w->out_norm = tiny_floats(m, s->hidden, 1, 0.2f);
    if (s->divisors) w->rope_divisor = tiny_floats(m, s->rope_dim / 2, 2, 0.3f);
    w->layers = tiny_keep(m, (size_t)s->layers * sizeof *w->layers);
    for (int32_t i = 0; i < s->layers; i++) {
        bt_layer_weights *l = &w->layers[i];
        *l = (bt_layer_weights){.attn_norm = tiny_floats(m, s->hidden, 1, 0.2f),
                                .ffn_norm = tiny_floats(m, s->hidden, 1, 0.2f),
                                .wq = tiny_matrix(m, s->format[0], q, s->hidden),
                                .wk = tiny_matrix(m, s->format[0], kv, s->hidden),
                                .wv = tiny_matrix(m, s->format[1], kv, s->hidden),
                                .wo = tiny_matrix(m, s->format[0], s->hidden, q),
                                .w_gate = tiny_matrix(m, s->format[1], s->ffn, s->hidden),
                                .w_up = tiny_matrix(m, s->format[1], s->ffn, s->hidden),
                                .w_down = tiny_matrix(m, s->format[1], s->hidden, s->ffn)};
        if (s->qk_norm) {
            l->q_norm = tiny_floats(m, s->head_dim, 1, 0.2f);
            l->k_norm = tiny_floats(m, s->head_dim, 1, 0.2f);
        }
        if (!s->bias) continue;
        l->bq = tiny_floats(m, q, 0, 0.5f);
        l->bk = tiny_floats(m, kv, 0, 0.5f);
        l->bv = tiny_floats(m, kv, 0, 0.5f);
        l->bo = tiny_floats(m, s->hidden, 0, 0.5f);
        l->b_gate = tiny_floats(m, s->ffn, 0, 0.5f);
        l->b_up = tiny_floats(m, s->ffn, 0, 0.5f);
        l->b_down = tiny_floats(m, s->hidden, 0, 0.5f);
    }
    return m;
}

static inline void tiny_free(tiny_model *m)
{
    for (int i = 0; i < m->n_owned; i++) bt_free(m->owned[i]);
    bt_free(m);
}

/* y = W x + b, W dequantized row by row. */
static inline void tiny_apply(const bt_weight *w, const float *bias, const double *x, double *y,
                              bool add)
{
    float *row = bt_must(bt_malloc((size_t)w->cols * sizeof *row));
    size_t stride = bt_format_bytes(w->format, (size_t)w->cols);
    for (int32_t n = 0; n < w->rows; n++) {
        double sum = bias ? (double)bias[n] : 0;
        bt_dequant_ref(w->format, (const char *)w->data + (size_t)n * stride, (size_t)w->cols, row);
        for (int32_t k = 0; k < w->cols; k++) sum += (double)row[k] * x[k];
        y[n] = add ? y[n] + sum : sum;
    }
    bt_free(row);
}

static inline void tiny_norm(const bt_recipe *r, const float *w, const double *x, double *y)
{
    double sum = 0;
    for (int32_t i = 0; i < r->hidden; i++) sum += x[i] * x[i];
    double scale = 1 / sqrt(sum / r->hidden + (double)r->norm_eps);
    for (int32_t i = 0; i < r->hidden; i++) y[i] = x[i] * scale * (double)w[i];
}

/* Each head of a row alone; w NULL: none. */
static inline void tiny_norm_heads(const bt_recipe *r, const float *w, int32_t heads, double *x)
{
    int32_t dim = r->layer[0].head_dim;
    for (int32_t h = 0; w && h < heads; h++, x += dim) {
        double sum = 0;
        for (int32_t i = 0; i < dim; i++) sum += x[i] * x[i];
        for (int32_t i = 0; i < dim; i++)
            x[i] *= (double)w[i] / sqrt(sum / dim + (double)r->norm_eps);
    }
}

static inline void tiny_rotate(const tiny_model *m, int32_t pos, int32_t heads, double *x)
{
    const bt_rope *r = &m->recipe.rope[0];
    for (int32_t h = 0; h < heads; h++, x += m->recipe.layer[0].head_dim) {
        for (int32_t i = 0; i < r->dim / 2; i++) {
            bool pairs = r->style == BT_ROPE_INTERLEAVED;
            int32_t a = pairs ? 2 * i : i, b = pairs ? a + 1 : i + r->dim / 2;
            double f = pow((double)r->theta, -2.0 * i / r->dim);
            if (m->weights.rope_divisor) f /= (double)m->weights.rope_divisor[i];
            double c = cos(pos * f), s = sin(pos * f), xa = x[a], xb = x[b];
            x[a] = xa * c - xb * s;
            x[b] = xa * s + xb * c;
        }
    }
}

/* One layer for one token; k and v hold all positions so far, [pos][kv]. */
static inline void tiny_layer(const tiny_model *m, const bt_layer_weights *l, int32_t pos,
                              double *x, double *k, double *v)
{
    const bt_recipe *recipe = &m->recipe;
    const bt_layer_recipe *r = &recipe->layer[0];
    int32_t dim = r->head_dim, kv = r->n_kv_heads * dim, wide = r->n_heads * dim + r->ffn;
    double *t = bt_must(bt_calloc((size_t)(3 * wide + recipe->hidden + pos + 1), sizeof *t));
    double *q = t + recipe->hidden, *out = q + wide, *up = out + wide, *p = up + wide;
    tiny_norm(recipe, l->attn_norm, x, t);
    tiny_apply(&l->wq, l->bq, t, q, false);
    tiny_apply(&l->wk, l->bk, t, k + (int64_t)pos * kv, false);
    tiny_apply(&l->wv, l->bv, t, v + (int64_t)pos * kv, false);
    tiny_norm_heads(recipe, l->q_norm, r->n_heads, q);
    tiny_norm_heads(recipe, l->k_norm, r->n_kv_heads, k + (int64_t)pos * kv);
    tiny_rotate(m, pos, r->n_heads, q);
    tiny_rotate(m, pos, r->n_kv_heads, k + (int64_t)pos * kv);
    for (int32_t h = 0; h < r->n_heads; h++) {
        int32_t at = h / (r->n_heads / r->n_kv_heads) * dim;
        double sum = 0, max = -INFINITY;
        for (int32_t j = 0; j <= pos; j++) {
            p[j] = 0;
            for (int32_t d = 0; d < dim; d++) p[j] += q[h * dim + d] * k[j * kv + at + d];
            p[j] *= (double)r->attn_scale;
            max = fmax(max, p[j]);
        }
        for (int32_t j = 0; j <= pos; j++) sum += p[j] = exp(p[j] - max);
        for (int32_t d = 0; d < dim; d++) {
            out[h * dim + d] = 0;
            for (int32_t j = 0; j <= pos; j++) out[h * dim + d] += p[j] / sum * v[j * kv + at + d];
        }
    }
    tiny_apply(&l->wo, l->bo, out, x, true);
    tiny_norm(recipe, l->ffn_norm, x, t);
    tiny_apply(&l->w_gate, l->b_gate, t, q, false);
    tiny_apply(&l->w_up, l->b_up, t, up, false);
    for (int32_t i = 0; i < r->ffn; i++) q[i] = q[i] / (1 + exp(-q[i])) * up[i];
    tiny_apply(&l->w_down, l->b_down, q, x, true);
    bt_free(t);
}

/* Logits of every position, [n][vocab]. */
static inline double *tiny_forward(const tiny_model *m, const int32_t *token, int32_t n)
{
    const bt_recipe *r = &m->recipe;
    size_t layer = (size_t)(n * r->layer[0].n_kv_heads * r->layer[0].head_dim);
    double *k = bt_must(bt_calloc(2 * layer * (size_t)r->n_layers, sizeof *k));
    double *logits = bt_must(bt_calloc((size_t)n * (size_t)r->vocab, sizeof *logits));
    double *x = bt_must(bt_calloc(2 * (size_t)r->hidden, sizeof *x));
    float *row = bt_must(bt_calloc((size_t)r->hidden, sizeof *row));
    const bt_weight *e = &m->weights.embed;
    for (int32_t i = 0; i < n; i++) {
        bt_dequant_ref(e->format,
                       (const char *)e->data +
                           (size_t)token[i] * bt_format_bytes(e->format, (size_t)r->hidden),
                       (size_t)r->hidden, row);
        for (int32_t c = 0; c < r->hidden; c++) x[c] = (double)row[c];
        for (int32_t l = 0; l < r->n_layers; l++)
            tiny_layer(m, &m->weights.layers[l], i, x, k + 2 * layer * (size_t)l,
                       k + 2 * layer * (size_t)l + layer);
        tiny_norm(r, m->weights.out_norm, x, x + r->hidden);
        tiny_apply(&m->weights.head, NULL, x + r->hidden, logits + (int64_t)i * r->vocab, false);
    }
    bt_free(k);
    bt_free(x);
    bt_free(row);
    return logits;
}
