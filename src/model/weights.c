/* SPDX-License-Identifier: Apache-2.0 */
/* weights.c - finds, checks and types every tensor of a model, driven by one table.
 *
 * Matrices stay in the mapped file (a backend repacks them). Vectors are few and small, and kernels
 * want them aligned: they are copied to F32 in one block. */
#include "model/model.h"
#include "base/assert.h"
#include "base/mem.h"
#include "kernels/quant/quant.h"
#include "model/recipe.h"
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* A size that a shape is made of. */
typedef enum tensor_size { S_ONE, S_HIDDEN, S_VOCAB, S_FFN, S_Q, S_KV, S_ROPE } tensor_size;

typedef enum tensor_need { NEEDED, IF_UNTIED, MAY_BE } tensor_need;

/* rows is S_ONE for a vector: it becomes a const float *, a matrix becomes a bt_weight. Names with
 * %d are one a layer, and their offset is in bt_layer_weights. */
static const struct tensor_row {
    const char *name;
    tensor_size rows, cols;
    tensor_need need;
    size_t offset;
} tensor_table[] = {
    {"token_embd.weight", S_VOCAB, S_HIDDEN, NEEDED, offsetof(bt_weights, embed)},
    {"output_norm.weight", S_ONE, S_HIDDEN, NEEDED, offsetof(bt_weights, out_norm)},
    {"output.weight", S_VOCAB, S_HIDDEN, IF_UNTIED, offsetof(bt_weights, head)},
    {"rope_freqs.weight", S_ONE, S_ROPE, MAY_BE, offsetof(bt_weights, rope_divisor)},
    {"blk.%d.attn_norm.weight", S_ONE, S_HIDDEN, NEEDED, offsetof(bt_layer_weights, attn_norm)},
    {"blk.%d.attn_q.weight", S_Q, S_HIDDEN, NEEDED, offsetof(bt_layer_weights, wq)},
    {"blk.%d.attn_k.weight", S_KV, S_HIDDEN, NEEDED, offsetof(bt_layer_weights, wk)},
    {"blk.%d.attn_v.weight", S_KV, S_HIDDEN, NEEDED, offsetof(bt_layer_weights, wv)},
    {"blk.%d.attn_q.bias", S_ONE, S_Q, MAY_BE, offsetof(bt_layer_weights, bq)},
    {"blk.%d.attn_k.bias", S_ONE, S_KV, MAY_BE, offsetof(bt_layer_weights, bk)},
    {"blk.%d.attn_v.bias", S_ONE, S_KV, MAY_BE, offsetof(bt_layer_weights, bv)},
    {"blk.%d.attn_output.weight", S_HIDDEN, S_Q, NEEDED, offsetof(bt_layer_weights, wo)},
    {"blk.%d.attn_output.bias", S_ONE, S_HIDDEN, MAY_BE, offsetof(bt_layer_weights, bo)},
    {"blk.%d.ffn_norm.weight", S_ONE, S_HIDDEN, NEEDED, offsetof(bt_layer_weights, ffn_norm)},
    {"blk.%d.ffn_gate.weight", S_FFN, S_HIDDEN, NEEDED, offsetof(bt_layer_weights, w_gate)},
    {"blk.%d.ffn_up.weight", S_FFN, S_HIDDEN, NEEDED, offsetof(bt_layer_weights, w_up)},
    {"blk.%d.ffn_down.weight", S_HIDDEN, S_FFN, NEEDED, offsetof(bt_layer_weights, w_down)},
    {"blk.%d.ffn_gate.bias", S_ONE, S_FFN, MAY_BE, offsetof(bt_layer_weights, b_gate)},
    {"blk.%d.ffn_up.bias", S_ONE, S_FFN, MAY_BE, offsetof(bt_layer_weights, b_up)},
    {"blk.%d.ffn_down.bias", S_ONE, S_HIDDEN, MAY_BE, offsetof(bt_layer_weights, b_down)},
};

/* Tensors of old converters that repeat what the keys say (rope tables). */
static const char *const ignored[] = {"blk.%d.attn_rot_embd.weight", "blk.%d.attn_rot_embd"};

enum { NAME_MAX_BYTES = 64, FLOAT_ALIGN = 16 }; // floats a cache line

typedef struct loader {
    const bt_gguf *g;
    bt_model *m;
    bool *used; // owned: [tensors of the file]
    size_t floats_at, floats_cap;
} loader;

static bool per_layer(const char *name)
{
    return strstr(name, "%d") != NULL;
}

/* The table's name with the layer's number in it. */
static void name_of(const char *pattern, int32_t layer, char dst[static NAME_MAX_BYTES])
{
    const char *mark = strstr(pattern, "%d");
    if (mark)
        snprintf(dst, NAME_MAX_BYTES, "%.*s%d%s", (int)(mark - pattern), pattern, layer, mark + 2);
    else
        snprintf(dst, NAME_MAX_BYTES, "%s", pattern);
}

static size_t lines_of(size_t n_floats)
{
    return (n_floats + FLOAT_ALIGN - 1) / FLOAT_ALIGN * FLOAT_ALIGN;
}

static int32_t size_of(const bt_recipe *r, tensor_size size)
{
    switch (size) {
    case S_HIDDEN: return r->hidden;
    case S_VOCAB: return r->vocab;
    case S_FFN: return r->ffn;
    case S_Q: return r->n_heads * r->head_dim;
    case S_KV: return r->n_kv_heads * r->head_dim;
    case S_ROPE: return r->rope_dim / 2;
    case S_ONE: break;
    }
    return 1;
}

static bool required(const bt_recipe *r, tensor_need need)
{
    return need == NEEDED || (need == IF_UNTIED && !r->tied_head);
}

/* The longest of what stands for a bias that is missing beside others. */
static size_t zeros_needed(const bt_recipe *r)
{
    return lines_of((size_t)BT_MAX(r->ffn, r->n_heads * r->head_dim));
}

/* Floats that the vectors of the file take, each on cache lines of its own. It counts what is
 * there, not what the keys claim, so the file's size bounds it, but for the zeros. */
static size_t floats_needed(const bt_gguf *g, const bt_recipe *r)
{
    size_t sum = zeros_needed(r);
    for (size_t i = 0; i < BT_COUNT(tensor_table); i++) {
        const struct tensor_row *row = &tensor_table[i];
        int32_t n = row->rows != S_ONE ? 0 : per_layer(row->name) ? r->n_layers : 1;
        for (int32_t layer = 0; layer < n; layer++) {
            char name[NAME_MAX_BYTES];
            name_of(row->name, layer, name);
            const bt_gguf_tensor *t = bt_gguf_tensor_find(g, name);
            if (t) sum += lines_of((size_t)t->dim[0]);
        }
    }
    return sum;
}

static void shape_text(const bt_gguf_tensor *t, char dst[static 96])
{
    int at = 0;
    for (int32_t i = 0; i < t->n_dims; i++)
        at += snprintf(dst + at, 96 - (size_t)at, "%s%lld", i ? " x " : "", (long long)t->dim[i]);
}

static bt_status check_shape(const loader *l, const struct tensor_row *row, const char *name,
                             const bt_gguf_tensor *t, bt_err *err)
{
    int32_t cols = size_of(&l->m->recipe, row->cols), rows = size_of(&l->m->recipe, row->rows);
    if (t->dim[0] == cols && t->dim[1] == rows && t->dim[2] == 1 && t->dim[3] == 1) return BT_OK;
    char have[96], want[32];
    shape_text(t, have);
    if (row->rows == S_ONE)
        snprintf(want, sizeof want, "%d", cols);
    else
        snprintf(want, sizeof want, "%d x %d", cols, rows);
    return bt_err_set(err, BT_EFORMAT, 0, "%s: tensor '%s' is %s; expected %s", bt_gguf_label(l->g),
                      name, have, want);
}

/* n numbers of F32, F16 or BF16, unaligned, to F32. False: another format. */
static bool to_floats(int32_t format, const void *src, size_t n, float *dst)
{
    if (format == BT_FORMAT_F32) {
        memcpy(dst, src, n * sizeof *dst);
        return true;
    }
    if (format != BT_FORMAT_F16 && format != BT_FORMAT_BF16) return false;
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)src + i * sizeof h, sizeof h);
        uint32_t bits = (uint32_t)h << 16;
        if (format == BT_FORMAT_F16)
            dst[i] = bt_f32_from_f16(h);
        else
            memcpy(&dst[i], &bits, sizeof bits);
    }
    return true;
}

static bt_status load_vector(loader *l, const struct tensor_row *row, const char *name,
                             const bt_gguf_tensor *t, const float **out, bt_err *err)
{
    size_t n = (size_t)t->dim[0];
    BT_ASSERT(l->floats_at + n <= l->floats_cap);
    float *dst = l->m->floats + l->floats_at;
    if (!to_floats(t->format, t->data, n, dst))
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s: tensor '%s' is %s; expected F32, F16 or BF16", bt_gguf_label(l->g),
                          name, bt_format_get(t->format)->name);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(dst[i]) || (row->cols == S_ROPE && dst[i] <= 0))
            return bt_err_set(err, BT_EFORMAT, 0,
                              "%s: tensor '%s' holds %g at %zu; the file is damaged",
                              bt_gguf_label(l->g), name, (double)dst[i], i);
    l->floats_at += lines_of(n);
    *out = dst;
    return BT_OK;
}

static bt_status load_tensor(loader *l, const struct tensor_row *row, int32_t layer, bt_err *err)
{
    bt_model *m = l->m;
    char name[NAME_MAX_BYTES];
    name_of(row->name, layer, name);
    const bt_gguf_tensor *t = bt_gguf_tensor_find(l->g, name);
    if (!t && !required(&m->recipe, row->need)) return BT_OK;
    if (!t)
        return bt_err_set(err, BT_EFORMAT, 0, "%s lacks the tensor '%s'", bt_gguf_label(l->g),
                          name);
    bt_status st = check_shape(l, row, name, t, err);
    if (st) return st;
    l->used[t - bt_gguf_tensor_at(l->g, 0)] = true;
    m->n_params += (uint64_t)t->dim[0] * (uint64_t)t->dim[1];
    m->weights_bytes += t->bytes;
    char *base = per_layer(row->name) ? (char *)&m->weights.layers[layer] : (char *)&m->weights;
    if (row->rows == S_ONE)
        return load_vector(l, row, name, t, (const float **)(void *)(base + row->offset), err);
    bt_weight w = {t->format, (int32_t)t->dim[1], (int32_t)t->dim[0], t->data};
    memcpy(base + row->offset, &w, sizeof w);
    return BT_OK;
}

static bool is_ignored(bt_str name, int32_t n_layers)
{
    char have[NAME_MAX_BYTES];
    for (size_t i = 0; i < BT_COUNT(ignored); i++)
        for (int32_t layer = 0; layer < n_layers; layer++) {
            name_of(ignored[i], layer, have);
            if (strlen(have) == name.n && memcmp(have, name.s, name.n) == 0) return true;
        }
    return false;
}

static bt_status check_unknown(const loader *l, bt_err *err)
{
    for (size_t i = 0; i < bt_gguf_n_tensors(l->g); i++) {
        bt_str name = bt_gguf_tensor_at(l->g, i)->name;
        if (l->used[i] || is_ignored(name, l->m->recipe.n_layers)) continue;
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s has a tensor '%s' that the architecture %s does not know",
                          bt_gguf_label(l->g), bt_str_shown(name).s, l->m->recipe.arch);
    }
    return BT_OK;
}

/* Backends run matrices of one input as one: either all of them have a bias or none. */
static void complete_biases(loader *l)
{
    float *zeros = l->m->floats + l->floats_at;
    memset(zeros, 0, zeros_needed(&l->m->recipe) * sizeof *zeros);
    for (int32_t i = 0; i < l->m->recipe.n_layers; i++) {
        bt_layer_weights *w = &l->m->weights.layers[i];
        if (w->bq || w->bk || w->bv) {
            if (!w->bq) w->bq = zeros;
            if (!w->bk) w->bk = zeros;
            if (!w->bv) w->bv = zeros;
        }
        if (w->b_gate || w->b_up) {
            if (!w->b_gate) w->b_gate = zeros;
            if (!w->b_up) w->b_up = zeros;
        }
    }
}

static bt_status load_all(loader *l, bt_err *err)
{
    bt_model *m = l->m;
    for (size_t i = 0; i < BT_COUNT(tensor_table); i++) {
        int32_t n = per_layer(tensor_table[i].name) ? m->recipe.n_layers : 1;
        for (int32_t layer = 0; layer < n; layer++) {
            bt_status st = load_tensor(l, &tensor_table[i], layer, err);
            if (st) return st;
        }
    }
    complete_biases(l);
    if (m->recipe.tied_head) m->weights.head = m->weights.embed;
    return check_unknown(l, err);
}

bt_status bt_model_from_gguf(const bt_gguf *g, bt_model **out, bt_err *err)
{
    loader l = {g, bt_calloc(1, sizeof *l.m), NULL, 0, 0};
    bt_status st = BT_ENOMEM;
    if (!l.m) goto done;
    l.m->gguf = g;
    if ((st = bt_recipe_read(g, &l.m->recipe, err))) goto done;
    l.floats_cap = floats_needed(g, &l.m->recipe);
    l.m->weights.layers = bt_calloc((size_t)l.m->recipe.n_layers, sizeof *l.m->weights.layers);
    l.m->floats = bt_aligned_alloc(64, l.floats_cap * sizeof *l.m->floats);
    l.used = bt_calloc(bt_gguf_n_tensors(g) + 1, sizeof *l.used);
    st = l.m->weights.layers && l.m->floats && l.used ? load_all(&l, err) : BT_ENOMEM;
done:
    if (st == BT_ENOMEM) bt_err_set(err, st, 0, "out of memory to open %s", bt_gguf_label(g));
    bt_free(l.used);
    if (st)
        bt_model_close(l.m);
    else
        *out = l.m;
    return st;
}

bt_status bt_model_open(const char *path, bt_model **out, bt_err *err)
{
    bt_gguf *g = NULL;
    bt_model *m = NULL;
    bt_status st = bt_gguf_open(path, &g, err);
    if (!st) st = bt_model_from_gguf(g, &m, err);
    if (st) {
        bt_gguf_close(g);
        return st;
    }
    m->own = g;
    *out = m;
    return BT_OK;
}

void bt_model_close(bt_model *m)
{
    if (!m) return;
    bt_free(m->weights.layers);
    bt_free(m->floats);
    bt_free(m->requantized);
    bt_gguf_close(m->own);
    bt_free(m);
}
