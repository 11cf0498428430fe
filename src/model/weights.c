/* SPDX-License-Identifier: Apache-2.0 */
/* weights.c - finds, checks and types every tensor of a model, by the table of tensors.h.
 *
 * Matrices stay in the mapped file (a backend repacks them). Vectors are few and small, and kernels
 * want them aligned: they are copied to F32 in one block. */
#include "model/model.h"
#include "base/assert.h"
#include "base/mem.h"
#include "kernels/quant/quant.h"
#include "model/recipe.h"
#include "model/tensors.h"
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Tensors of layers, of old converters, that repeat what the keys say (rope tables). */
static const char *const ignored[] = {"attn_rot_embd.weight", "attn_rot_embd"};

enum { FLOAT_ALIGN = 16 }; // floats a cache line

typedef struct loader {
    const bt_gguf *g;
    bt_model *m;
    bool *used; // owned: [tensors of the file]
    size_t floats_at, floats_cap;
} loader;

static size_t lines_of(size_t n_floats)
{
    return (n_floats + FLOAT_ALIGN - 1) / FLOAT_ALIGN * FLOAT_ALIGN;
}

/* The longest of what stands for a bias that is missing beside others. */
static size_t zeros_needed(const bt_recipe *r)
{
    int32_t most = 0;
    for (int32_t i = 0; i < r->n_layers; i++)
        most = BT_MAX(
            most, BT_MAX(bt_tensor_size_of(r, i, BT_SIZE_FFN), bt_tensor_size_of(r, i, BT_SIZE_Q)));
    return lines_of((size_t)most);
}

/* Floats that the vectors of the file take, each on cache lines of its own. It counts what is
 * there, not what the keys claim, so the file's size bounds it, but for the zeros. */
static size_t floats_needed(const bt_gguf *g, const bt_recipe *r)
{
    size_t sum = zeros_needed(r);
    for (size_t i = 0; i < bt_gguf_n_tensors(g); i++) {
        const bt_gguf_tensor *t = bt_gguf_tensor_at(g, i);
        /* A fused bias becomes three vectors. */
        if (t->dim[1] == 1) sum += lines_of((size_t)t->dim[0]) + (size_t)2 * FLOAT_ALIGN;
    }
    return sum;
}

static void shape_text(const bt_gguf_tensor *t, char dst[static 96])
{
    int at = 0;
    for (int32_t i = 0; i < t->n_dims; i++)
        at += snprintf(dst + at, 96 - (size_t)at, "%s%lld", i ? " x " : "", (long long)t->dim[i]);
}

/* The sentence about a tensor that is there in another shape. */
static bt_status wrong_shape(const loader *l, int32_t layer, int32_t id, bool bias,
                             const bt_tensor_place *p, const bt_gguf_tensor *t, bt_err *err)
{
    int32_t cols = bt_tensor_size_of(&l->m->recipe, layer, bt_tensors[id].cols);
    char have[96], want[32];
    shape_text(t, have);
    if (bias || bt_tensor_is_vector(id))
        snprintf(want, sizeof want, "%d", bt_tensor_is_vector(id) ? cols : p->rows);
    else
        snprintf(want, sizeof want, "%d x %d", cols, p->rows);
    return bt_err_set(err, BT_EFORMAT, 0, "%s: tensor '%s' is %s; expected %s", bt_gguf_label(l->g),
                      p->name, have, want);
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

/* n numbers of a tensor from `first` on, as aligned floats. */
static bt_status load_vector(loader *l, const char *name, const bt_gguf_tensor *t, size_t first,
                             size_t n, bool positive, const float **out, bt_err *err)
{
    BT_ASSERT(l->floats_at + n <= l->floats_cap);
    float *dst = l->m->floats + l->floats_at;
    const char *src = (const char *)t->data + bt_format_bytes(t->format, first);
    if (!to_floats(t->format, src, n, dst))
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s: tensor '%s' is %s; expected F32, F16 or BF16", bt_gguf_label(l->g),
                          name, bt_format_get(t->format)->name);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(dst[i]) || (positive && dst[i] <= 0))
            return bt_err_set(err, BT_EFORMAT, 0,
                              "%s: tensor '%s' holds %g at %zu; the file is damaged",
                              bt_gguf_label(l->g), name, (double)dst[i], i);
    l->floats_at += lines_of(n);
    *out = dst;
    return BT_OK;
}

/* A module's weight or bias from the first place that has it. */
static bt_status load_tensor(loader *l, int32_t id, bool bias, int32_t layer, bt_err *err)
{
    bt_model *m = l->m;
    const bt_tensor *row = &bt_tensors[id];
    bt_tensor_place place[BT_TENSOR_PLACES_MAX];
    bt_tensor_need need = bt_tensor_needed(&m->recipe, layer, id, bias);
    if (need == BT_NEED_NOT) return BT_OK;
    int32_t n = bt_tensor_places(&m->recipe, layer, id, bias, BT_NAMING_GGUF, place), wrong = -1;
    /* A bias is a vector as long as its matrix has rows, or as the norm has columns. */
    bool vector = bt_tensor_is_vector(id), lies = bias && !vector;
    int32_t cols = bt_tensor_size_of(&m->recipe, layer, row->cols);
    int32_t rows = bt_tensor_size_of(&m->recipe, layer, row->rows);
    char *base = (char *)&m->weights;
    if (bt_tensor_per_layer(id)) base = (char *)&m->weights.layers[layer];
    for (int32_t i = 0; i < n; i++) {
        const bt_tensor_place *p = &place[i];
        const bt_gguf_tensor *t = bt_gguf_tensor_find(l->g, p->name);
        if (!t) continue;
        if (t->dim[0] != (lies ? p->rows : cols) || t->dim[1] != (lies ? 1 : p->rows) ||
            t->dim[2] != 1 || t->dim[3] != 1) {
            /* A gate may lie in what is otherwise the tensor beside it. */
            if (wrong < 0 && (i == 0 || id != BT_MATRIX_GATE)) wrong = i;
            continue;
        }
        bool *used = &l->used[t - bt_gguf_tensor_at(l->g, 0)];
        if (!*used) {
            m->n_params += (uint64_t)t->dim[0] * (uint64_t)t->dim[1];
            m->weights_bytes += t->bytes;
        }
        *used = true;
        if (vector || bias)
            return load_vector(l, p->name, t, lies ? (size_t)p->first : 0,
                               (size_t)(lies ? rows : cols), row->cols == BT_SIZE_ROPE,
                               (const float **)(void *)(base + (bias ? row->bias_at : row->at)),
                               err);
        size_t skip = (size_t)p->first * bt_format_bytes(t->format, (size_t)cols);
        bt_weight w = {t->format, rows, cols, (const char *)t->data + skip};
        memcpy(base + row->at, &w, sizeof w);
        return BT_OK;
    }
    if (wrong >= 0)
        return wrong_shape(l, layer, id, bias, &place[wrong],
                           bt_gguf_tensor_find(l->g, place[wrong].name), err);
    if (need == BT_NEED_MAY) return BT_OK;
    return bt_err_set(err, BT_EFORMAT, 0, "%s lacks the tensor '%s'", bt_gguf_label(l->g),
                      place[0].name);
}

static bool is_ignored(bt_str name, int32_t n_layers)
{
    char have[64];
    for (size_t i = 0; i < BT_COUNT(ignored); i++)
        for (int32_t layer = 0; layer < n_layers; layer++) {
            int n = snprintf(have, sizeof have, "blk.%d.%s", layer, ignored[i]);
            if ((size_t)n == name.n && memcmp(have, name.s, name.n) == 0) return true;
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
        if (w->w_gate.data && (w->b_gate || w->b_up)) {
            if (!w->b_gate) w->b_gate = zeros;
            if (!w->b_up) w->b_up = zeros;
        }
    }
}

static bt_status load_all(loader *l, bt_err *err)
{
    bt_model *m = l->m;
    for (int32_t id = 0; id < BT_TENSORS; id++) {
        int32_t n = bt_tensor_per_layer(id) ? m->recipe.n_layers : 1;
        for (int32_t layer = 0; layer < n; layer++) {
            bt_status st = load_tensor(l, id, false, layer, err);
            if (!st) st = load_tensor(l, id, true, layer, err);
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
