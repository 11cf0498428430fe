/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/shape.h"
#include "base/assert.h"
#include "base/mem.h"
#include "bench/random.h"
#include "vocab/spec.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* From the models' public config.json. `tiny` is nobody's: for tests and the emulated device. The
 * 70b layers are the real ones, as many as a single small device holds. */
static const bt_shape shapes[] = {
    {"tiny", "llama", 2, 256, 8, 2, 32, 512, 1000, 2048, 10000, BT_ROPE_INTERLEAVED, false, false},
    {"qwen2.5-0.5b", "qwen2", 24, 896, 14, 2, 64, 4864, 151936, 32768, 1000000, BT_ROPE_HALF, true,
     true},
    {"llama-3.2-1b", "llama", 16, 2048, 32, 8, 64, 8192, 128256, 131072, 500000,
     BT_ROPE_INTERLEAVED, false, true},
    {"qwen2.5-7b", "qwen2", 28, 3584, 28, 4, 128, 18944, 152064, 131072, 1000000, BT_ROPE_HALF,
     true, false},
    {"mistral-7b", "llama", 32, 4096, 32, 8, 128, 14336, 32768, 32768, 1000000, BT_ROPE_INTERLEAVED,
     false, false},
    {"llama-2-7b", "llama", 32, 4096, 32, 32, 128, 11008, 32000, 4096, 10000, BT_ROPE_INTERLEAVED,
     false, false},
    {"llama-3-8b", "llama", 32, 4096, 32, 8, 128, 14336, 128256, 8192, 500000, BT_ROPE_INTERLEAVED,
     false, false},
    {"qwen2.5-14b", "qwen2", 48, 5120, 40, 8, 128, 13824, 152064, 131072, 1000000, BT_ROPE_HALF,
     true, false},
    {"llama-3-70b", "llama", 80, 8192, 64, 8, 128, 28672, 128256, 8192, 500000, BT_ROPE_INTERLEAVED,
     false, false},
    {"llama-3-70b-8-layers", "llama", 8, 8192, 64, 8, 128, 28672, 128256, 8192, 500000,
     BT_ROPE_INTERLEAVED, false, false},
};

typedef struct mixture {
    const char *name;
    int32_t layer, ends; // of the layers' matrices; of embedding and head
    bool more;           // V and down of half of the layers in Q6_K
} mixture;

static const mixture mixtures[] = {
    {"f32", BT_FORMAT_F32, BT_FORMAT_F32, false},
    {"f16", BT_FORMAT_F16, BT_FORMAT_F16, false},
    {"bf16", BT_FORMAT_BF16, BT_FORMAT_BF16, false},
    {"q8_0", BT_FORMAT_Q8_0, BT_FORMAT_Q8_0, false},
    {"q4_0", BT_FORMAT_Q4_0, BT_FORMAT_Q6_K, false},
    {"q4_k", BT_FORMAT_Q4_K, BT_FORMAT_Q6_K, false},
    {"q4_k_m", BT_FORMAT_Q4_K, BT_FORMAT_Q6_K, true},
    {"q5_k", BT_FORMAT_Q5_K, BT_FORMAT_Q6_K, false},
    {"q5_k_m", BT_FORMAT_Q5_K, BT_FORMAT_Q6_K, true},
    {"q6_k", BT_FORMAT_Q6_K, BT_FORMAT_Q6_K, false},
    {"int8", BT_FORMAT_INT8G, BT_FORMAT_Q8_0, false},
    {"int4", BT_FORMAT_INT4G, BT_FORMAT_Q6_K, false},
};

const bt_shape *bt_shape_find(const char *name)
{
    for (size_t i = 0; i < BT_COUNT(shapes); i++)
        if (strcmp(shapes[i].name, name) == 0) return &shapes[i];
    return NULL;
}

static const mixture *mixture_find(const char *name)
{
    for (size_t i = 0; i < BT_COUNT(mixtures); i++)
        if (strcmp(mixtures[i].name, name) == 0) return &mixtures[i];
    return NULL;
}

void bt_shape_names(bt_buf *out)
{
    for (size_t i = 0; i < BT_COUNT(shapes); i++)
        bt_buf_addf(out, "%s%s", i ? ", " : "", shapes[i].name);
}

void bt_quant_names(bt_buf *out)
{
    for (size_t i = 0; i < BT_COUNT(mixtures); i++)
        bt_buf_addf(out, "%s%s", i ? ", " : "", mixtures[i].name);
}

void bt_shape_recipe(const bt_shape *s, bt_recipe *out)
{
    *out = (bt_recipe){.n_layers = s->layers,
                       .hidden = s->hidden,
                       .vocab = s->vocab,
                       .ctx_train = s->ctx,
                       .norm_eps = 1e-5f,
                       .embed_scale = 1,
                       .residual_scale = 1,
                       .logit_scale = 1,
                       .tied_head = s->tied,
                       .n_ropes = 1,
                       .rope = {{.style = s->style,
                                 .dim = s->head_dim,
                                 .theta = s->theta,
                                 .factor = 1,
                                 .amplitude = 1}}};
    for (int32_t i = 0; i < s->layers; i++)
        out->layer[i] = (bt_layer_recipe){.n_heads = s->heads,
                                          .n_kv_heads = s->kv_heads,
                                          .head_dim = s->head_dim,
                                          .attn_scale = 1 / sqrtf((float)s->head_dim),
                                          .norm_before = true,
                                          .ffn = s->ffn};
    snprintf(out->arch, sizeof out->arch, "%s", s->arch);
    snprintf(out->name, sizeof out->name, "%s", s->name);
}

static bt_status no_memory(bt_err *err)
{
    return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a model of random weights");
}

/* ---- weights */

static bool divides(int32_t format, int32_t cols)
{
    const bt_format_info *f = bt_format_get(format);
    return f && cols % f->elems == 0;
}

/* A matrix of `rows` rows; `spare` more lie behind them in memory. */
static bt_status matrix(bt_shape_model *m, int32_t format, int32_t rows, int32_t cols,
                        int32_t spare, bt_weight *out, bt_err *err)
{
    if (!divides(format, cols)) format = BT_FORMAT_Q8_0;
    if (!divides(format, cols))
        return bt_err_set(err, BT_EINVAL, 0, "rows of %d columns cannot be quantized", cols);
    m->file_bytes += (uint64_t)rows * bt_format_bytes(format, (size_t)cols);
    m->n_params += (uint64_t)rows * (uint64_t)cols;
    *out = (bt_weight){format, rows, cols, NULL};
    for (int32_t i = 0; i < m->n_blocks; i++)
        if (m->block[i].format == format && m->block[i].rows == rows + spare &&
            m->block[i].cols == cols)
            out->data = m->block[i].data;
    if (out->data) return BT_OK;
    BT_ASSERT(m->n_blocks < (int32_t)BT_COUNT(m->block));
    size_t n = (size_t)(rows + spare) * (size_t)cols;
    void *data = bt_malloc(bt_format_bytes(format, n));
    if (!data) return no_memory(err);
    uint64_t seed = (uint64_t)m->n_blocks + 1;
    bool ok = bt_random_weights(format, seed, n, 1 / sqrtf((float)cols), data);
    BT_ASSERT(ok);
    m->block[m->n_blocks++] = (struct bt_shape_block){format, rows + spare, cols, data};
    out->data = data;
    return BT_OK;
}

/* As llama.cpp's mixtures named "_M" choose the layers that keep more bits. */
static bool more_bits(int32_t layer, int32_t layers)
{
    return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

static bt_status layer_weights(bt_shape_model *m, const mixture *mix, int32_t i, bt_err *err)
{
    const bt_recipe *r = &m->recipe;
    const bt_layer_recipe *first = &r->layer[0];
    bt_layer_weights *l = &m->weights.layers[i];
    int32_t q = first->n_heads * first->head_dim, kv = first->n_kv_heads * first->head_dim,
            f = mix->layer;
    int32_t more = mix->more && more_bits(i, r->n_layers) ? BT_FORMAT_Q6_K : f;
    const struct {
        bt_weight *w;
        int32_t format, rows, cols;
    } row[] = {{&l->wq, f, q, r->hidden},
               {&l->wk, f, kv, r->hidden},
               {&l->wv, more, kv, r->hidden},
               {&l->wo, f, r->hidden, q},
               {&l->w_gate, f, first->ffn, r->hidden},
               {&l->w_up, f, first->ffn, r->hidden},
               {&l->w_down, more, r->hidden, first->ffn}};
    bt_status st = BT_OK;
    for (size_t j = 0; !st && j < BT_COUNT(row); j++)
        st = matrix(m, row[j].format, row[j].rows, row[j].cols, 0, row[j].w, err);
    const float *at = m->floats;
    l->attn_norm = l->ffn_norm = at;
    if (m->bias) {
        l->bq = at + r->hidden;
        l->bk = l->bv = l->bq + q;
    }
    return st;
}

/* Norm weights near one, then biases of Q and of K and V, the same for all layers. */
static bt_status make_floats(bt_shape_model *m, bt_err *err)
{
    const bt_recipe *r = &m->recipe;
    const bt_layer_recipe *l = &r->layer[0];
    size_t q = (size_t)(l->n_heads * l->head_dim), kv = (size_t)(l->n_kv_heads * l->head_dim);
    size_t hidden = (size_t)r->hidden, n = hidden + q + kv;
    m->floats = bt_malloc(n * sizeof *m->floats);
    if (!m->floats) return no_memory(err);
    bt_random_floats(7, n, m->floats);
    for (size_t i = 0; i < n; i++)
        m->floats[i] = i < hidden ? 1 + 0.1f * m->floats[i] : 0.1f * m->floats[i];
    m->weights.out_norm = m->floats;
    return BT_OK;
}

static bt_status make_weights(bt_shape_model *m, const mixture *mix, bt_err *err)
{
    const bt_recipe *r = &m->recipe;
    bt_weights *w = &m->weights;
    w->layers = bt_calloc((size_t)r->n_layers, sizeof *w->layers);
    if (!w->layers) return no_memory(err);
    bt_status st = make_floats(m, err);
    for (int32_t i = 0; !st && i < r->n_layers; i++) st = layer_weights(m, mix, i, err);
    if (st) return st;
    /* One row more than the embedding has: a head of its own begins a row later, so that both are
     * other addresses of one block. */
    st = matrix(m, mix->ends, r->vocab, r->hidden, 1, &w->embed, err);
    if (st) return st;
    w->head = w->embed;
    if (r->tied_head) return BT_OK;
    size_t row = bt_format_bytes(w->embed.format, (size_t)r->hidden);
    w->head.data = (const char *)w->embed.data + row;
    m->file_bytes += row * (size_t)r->vocab;
    m->n_params += (uint64_t)r->vocab * (uint64_t)r->hidden;
    return BT_OK;
}

/* ---- vocabulary */

static bt_status make_vocab(bt_shape_model *m, bt_err *err)
{
    bt_spec *s = bt_must(bt_calloc(1, sizeof *s));
    bt_spec_init(s, m->name);
    s->kind = BT_VOCAB_SPM;
    bool ok = bt_spec_reserve(s, (size_t)m->recipe.vocab);
    for (int32_t i = 0; ok && i < m->recipe.vocab; i++) {
        char piece[16];
        bool byte = i < 256, end = i == m->recipe.vocab - 1;
        int n = snprintf(piece, sizeof piece, byte ? "<0x%02X>" : end ? "</s>" : " w%d", i);
        ok = bt_spec_set_piece(s, i, piece, (size_t)n, -i,
                               byte  ? BT_TOKEN_BYTE
                               : end ? BT_TOKEN_CONTROL
                                     : BT_TOKEN_NORMAL,
                               true);
    }
    ok = ok && bt_spec_add_chain(s, BT_CHAIN_BYTE_FALLBACK) && bt_spec_add_chain(s, BT_CHAIN_FUSE);
    s->unk = s->bos = -1;
    s->eos_token = m->recipe.vocab - 1;
    bt_spec_add_eos(s, s->eos_token);
    bt_status st = ok ? bt_vocab_build(s, &m->vocab, err) : bt_spec_no_memory(s, err);
    bt_spec_release(s);
    bt_free(s);
    return st;
}

/* ---- all of it */

static bt_status unknown(const char *what, const char *name, void (*names)(bt_buf *), bt_err *err)
{
    bt_buf known = BT_BUF_INIT;
    names(&known);
    bt_status st = bt_err_set(err, BT_EINVAL, 0, "unknown %s '%.32s'; known are %s", what, name,
                              known.data ? known.data : "");
    bt_buf_release(&known);
    return st;
}

bt_status bt_quant_formats(const char *quant, int32_t out[static 3], int32_t *n, bt_err *err)
{
    const mixture *m = mixture_find(quant);
    if (!m) return unknown("format", quant, bt_quant_names, err);
    *n = 0;
    out[(*n)++] = m->layer;
    if (m->more) out[(*n)++] = BT_FORMAT_Q6_K;
    if (m->ends != out[*n - 1]) out[(*n)++] = m->ends;
    return BT_OK;
}

bt_status bt_shape_model_new(const char *shape, const char *quant, int32_t layers,
                             bt_shape_model **out, bt_err *err)
{
    const bt_shape *s = bt_shape_find(shape);
    const mixture *mix = mixture_find(quant);
    if (!s) return unknown("shape", shape, bt_shape_names, err);
    if (!mix) return unknown("format", quant, bt_quant_names, err);
    bt_shape_model *m = bt_calloc(1, sizeof *m);
    if (!m) return no_memory(err);
    bt_shape_recipe(s, &m->recipe);
    m->bias = s->bias;
    if (layers > 0 && layers < s->layers) m->recipe.n_layers = layers;
    snprintf(m->name, sizeof m->name, "%s %s", s->name, mix->name);
    snprintf(m->recipe.name, sizeof m->recipe.name, "%s", m->name);
    bt_status st = make_weights(m, mix, err);
    if (!st) st = make_vocab(m, err);
    if (st)
        bt_shape_model_free(m);
    else
        *out = m;
    return st;
}

void bt_shape_model_free(bt_shape_model *m)
{
    if (!m) return;
    for (int32_t i = 0; i < m->n_blocks; i++) bt_free(m->block[i].data);
    bt_free(m->weights.layers);
    bt_free(m->floats);
    bt_vocab_close(m->vocab);
    bt_free(m);
}
