/* SPDX-License-Identifier: Apache-2.0 */
/* weights.c - finds, checks and types every tensor of a model, by the table of tensors.h.
 *
 * Matrices stay in the mapped file (a backend repacks them), but for those that lie there as no
 * device loads them: they are noted, for bt_model_convert(). Vectors are few and small, and kernels
 * want them aligned: they are copied to F32 in one block. */
#include "model/weights.h"
#include "base/assert.h"
#include "base/mem.h"
#include "kernels/quant/quant.h"
#include "model/quantized.h"
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { FLOAT_ALIGN = 16 }; // floats a cache line

typedef struct loader {
    const bt__source *s;
    const bt_config *config; // NULL: a GGUF file
    bt_model *m;
    bt__quantization quantization;
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
 * there, not what the keys claim, so the file's size bounds it, but for the zeros; what is longer
 * than any vector is left out. */
static size_t floats_needed(const loader *l)
{
    const bt_recipe *r = &l->m->recipe;
    size_t longest = BT_MAX(3 * zeros_needed(r), (size_t)BT_MAX(r->vocab, r->hidden));
    size_t sum = zeros_needed(r);
    if (l->config) sum += 2 * lines_of((size_t)l->config->n_pairs);
    for (size_t i = 0; i < bt__source_n(l->s); i++) {
        const bt_file_tensor *t = bt__source_at(l->s, i);
        /* A fused bias becomes three vectors. */
        if (t->dim[1] == 1 && (size_t)t->dim[0] <= longest)
            sum += lines_of((size_t)t->dim[0]) + (size_t)2 * FLOAT_ALIGN;
    }
    return sum;
}

static void shape_text(const bt_file_tensor *t, char dst[static 96])
{
    int at = 0;
    for (int32_t i = 0; i < t->n_dims; i++)
        at += snprintf(dst + at, 96 - (size_t)at, "%s%lld", i ? " x " : "", (long long)t->dim[i]);
}

/* The sentence about a tensor that is there in another shape. */
static bt_status wrong_shape(const loader *l, int32_t layer, int32_t id, bool bias,
                             const bt_tensor_place *p, const bt_file_tensor *t, bt_err *err)
{
    int32_t cols = bt_tensor_size_of(&l->m->recipe, layer, bt_tensors[id].cols);
    char have[96], want[32];
    shape_text(t, have);
    if (bias || bt_tensor_is_vector(id))
        snprintf(want, sizeof want, "%d", bt_tensor_is_vector(id) ? cols : p->rows);
    else
        snprintf(want, sizeof want, "%d x %d", cols, p->rows);
    return bt_err_set(err, BT_EFORMAT, 0, "%s: tensor '%s' is %s; expected %s", l->s->label,
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

/* n numbers of a tensor from `first` on, or as `heads` has them, as aligned floats; `add` is added
 * to each. */
static bt_status load_vector(loader *l, const char *name, const bt_file_tensor *t, size_t first,
                             const bt__conversion *heads, size_t n, bool positive, float add,
                             const float **out, bt_err *err)
{
    BT_ASSERT(l->floats_at + n <= l->floats_cap);
    float *dst = l->m->floats + l->floats_at;
    const char *src = (const char *)t->data;
    bool known = true;
    for (size_t i = 0; heads && i < n; i++) {
        size_t at = (size_t)bt__convert_head_row(heads, (int32_t)i);
        known = to_floats(t->format, src + bt_format_bytes(t->format, at), 1, dst + i);
    }
    if (!heads) known = to_floats(t->format, src + bt_format_bytes(t->format, first), n, dst);
    if (!known)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s: tensor '%s' is %s; expected F32, F16 or BF16", l->s->label, name,
                          bt_format_get(t->format)->name);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(dst[i]) || (positive && dst[i] <= 0))
            return bt_err_set(err, BT_EFORMAT, 0,
                              "%s: tensor '%s' holds %g at %zu; the file is damaged", l->s->label,
                              name, (double)dst[i], i);
    for (size_t i = 0; i < n; i++) dst[i] += add;
    l->floats_at += lines_of(n);
    *out = dst;
    return BT_OK;
}

/* Found, and counted the first time. */
static const bt_file_tensor *take(void *ud, const char *name)
{
    loader *l = ud;
    const bt_file_tensor *t = bt__source_find(l->s, name);
    if (!t) return NULL;
    bool *used = &l->s->used[t - bt__source_at(l->s, 0)];
    if (!*used) l->m->weights_bytes += t->bytes;
    *used = true;
    return t;
}

static bt_status add_conversion(loader *l, const bt__conversion *c, bt_err *err)
{
    bt_model *m = l->m;
    if (!(m->n_conversions & (m->n_conversions - 1))) {
        void *all = bt_realloc(m->conversion, (2 * m->n_conversions + 1) * sizeof *m->conversion);
        if (!all) return bt_err_set(err, BT_ENOMEM, 0, "out of memory to open %s", l->s->label);
        m->conversion = all;
    }
    m->conversion[m->n_conversions++] = *c;
    c->to->format = bt__convert_format(c);
    c->to->data = c->q->data; // there is one; it is no device's before bt_model_convert
    return BT_OK;
}

/* How a module that holds q, k and v head by head has the rows of one of them. */
static bt__conversion head_order(const bt_model *m, int32_t layer, int32_t id)
{
    const bt_layer_recipe *r = &m->recipe.layer[layer];
    return (bt__conversion){.kind = BT__CONVERT_HEADS,
                            .head_dim = r->head_dim,
                            .queries = r->n_heads / r->n_kv_heads,
                            .member = id - BT_MATRIX_Q};
}

/* A matrix that a place's module holds in a form of its own; *done: it does. */
static bt_status load_form(loader *l, int32_t id, int32_t layer, const bt_tensor_place *p,
                           bt_weight *to, bool *done, bt_err *err)
{
    bt__conversion c = {.to = to, .first = p->first, .of = p->rows, .block = to->cols};
    const bt_file_tensor *t = bt__source_find(l->s, p->name);
    char module[BT_TENSOR_NAME_MAX];
    bool floats = t && (t->format == BT_FORMAT_F32 || t->format == BT_FORMAT_F16 ||
                        t->format == BT_FORMAT_BF16);
    if (floats && p->form == BT_FORM_ROWS) return BT_OK;
    if (floats && p->form == BT_FORM_COLUMNS) {
        if (t->dim[0] != p->rows || t->dim[1] != to->cols || t->dim[2] * t->dim[3] != 1)
            return BT_OK; // the caller says so
        c.kind = BT__CONVERT_COLUMNS;
        c.q = take(l, p->name);
    } else if (floats && p->form == BT_FORM_GROUPS) {
        if (t->dim[0] != to->cols || t->dim[1] != p->rows || t->dim[2] * t->dim[3] != 1)
            return BT_OK;
        c = head_order(l->m, layer, id);
        c.to = to;
        c.block = to->cols;
        c.q = take(l, p->name);
    } else {
        snprintf(module, sizeof module, "%.*s", (int)(strlen(p->name) - strlen(".weight")),
                 p->name);
        bt_status st = bt__quantized_find(&l->quantization, module, p->rows, to->cols, take, l,
                                          l->s->label, &c, err);
        if (st || !c.q) return st;
        if (p->form != BT_FORM_ROWS)
            return bt_err_set(err, BT_EUNSUPPORTED, 0,
                              "%s: '%s' is quantized, which is not read in this architecture: get "
                              "the model unquantized, or as GGUF",
                              l->s->label, module);
    }
    *done = true;
    l->m->n_params += (uint64_t)to->rows * (uint64_t)to->cols;
    return add_conversion(l, &c, err);
}

/* A module's weight or bias from the first place that has it. */
static bt_status load_tensor(loader *l, int32_t id, bool bias, int32_t layer, bt_err *err)
{
    bt_model *m = l->m;
    const bt_tensor *row = &bt_tensors[id];
    bt_tensor_place place[BT_TENSOR_PLACES_MAX];
    bt_tensor_need need = bt_tensor_needed(&m->recipe, layer, id, bias);
    if (need == BT_NEED_NOT) return BT_OK;
    int32_t n = bt_tensor_places(&m->recipe, layer, id, bias, l->s->naming, place), wrong = -1;
    /* A bias is a vector as long as its matrix has rows, or as the norm has columns. */
    bool vector = bt_tensor_is_vector(id), lies = bias && !vector;
    int32_t cols = bt_tensor_size_of(&m->recipe, layer, row->cols);
    int32_t rows = bt_tensor_size_of(&m->recipe, layer, row->rows);
    char *base = (char *)&m->weights;
    if (bt_tensor_per_layer(id)) base = (char *)&m->weights.layers[layer];
    bt_weight w = {0, rows, cols, NULL}, *to = (bt_weight *)(void *)(base + row->at);
    for (int32_t i = 0; i < n; i++) {
        const bt_tensor_place *p = &place[i];
        const bt_file_tensor *t = bt__source_find(l->s, p->name);
        bool done = false;
        if (l->config && !vector && !bias) {
            *to = w;
            bt_status st = load_form(l, id, layer, p, to, &done, err);
            if (st || done) return st;
        }
        if (!t) continue;
        if (t->dim[0] != (lies ? p->rows : cols) || t->dim[1] != (lies ? 1 : p->rows) ||
            t->dim[2] != 1 || t->dim[3] != 1) {
            /* A gate may lie in what is otherwise the tensor beside it. */
            if (wrong < 0 && (i == 0 || id != BT_MATRIX_GATE)) wrong = i;
            continue;
        }
        take(l, p->name);
        m->n_params += (uint64_t)(lies ? 1 : cols) * (uint64_t)(vector ? 1 : rows);
        bt__conversion heads = {0};
        bool mixed = lies && p->form == BT_FORM_GROUPS;
        if (mixed) heads = head_order(m, layer, id);
        if (vector || bias)
            return load_vector(l, p->name, t, lies ? (size_t)p->first : 0, mixed ? &heads : NULL,
                               (size_t)(lies ? rows : cols), row->cols == BT_SIZE_ROPE,
                               p->form == BT_FORM_PLUS_ONE && !bias ? 1 : 0,
                               (const float **)(void *)(base + (bias ? row->bias_at : row->at)),
                               err);
        size_t skip = (size_t)p->first * bt_format_bytes(t->format, (size_t)cols);
        w.format = t->format;
        w.data = (const char *)t->data + skip;
        *to = w;
        return BT_OK;
    }
    if (wrong >= 0)
        return wrong_shape(l, layer, id, bias, &place[wrong],
                           bt__source_find(l->s, place[wrong].name), err);
    if (need == BT_NEED_MAY || n == 0) return BT_OK;
    return bt_err_set(err, BT_EFORMAT, 0, "%s lacks the tensor '%s'", l->s->label, place[0].name);
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

/* longrope's lists, which safetensors have in the configuration. */
static const float *copy_divisors(loader *l, const float *src)
{
    size_t n = (size_t)l->config->n_pairs;
    float *dst = l->m->floats + l->floats_at;
    memcpy(dst, src, n * sizeof *dst);
    l->floats_at += lines_of(n);
    return dst;
}

/* Whether a file has a head of its own, in any form. */
static bool has_head(const bt__source *s, const bt_recipe *r)
{
    static const char *const ends[] = {".weight", ".qweight", ".weight_packed"};
    char name[BT_TENSOR_NAME_MAX], full[BT_TENSOR_NAME_MAX + 16];
    bt_tensor_name(r, 0, BT_TENSOR_HEAD, s->naming, name);
    for (size_t i = 0; i < BT_COUNT(ends); i++) {
        snprintf(full, sizeof full, "%.*s%s", (int)(strlen(name) - strlen(".weight")), name,
                 ends[i]);
        if (bt__source_find(s, full)) return true;
    }
    return false;
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
    if (l->config && l->config->n_pairs) {
        m->weights.rope_divisor = copy_divisors(l, l->config->divisor);
        m->weights.rope_divisor_long = copy_divisors(l, l->config->divisor_long);
    }
    complete_biases(l);
    if (m->recipe.tied_head) m->weights.head = m->weights.embed;
    return bt__source_check(l->s, &m->recipe, l->config && l->config->multimodal, &m->n_left, err);
}

bt_status bt__weights_load(bt_model *m, const bt__source *s, const bt_config *config, bt_err *err)
{
    loader l = {.s = s, .config = config, .m = m};
    if (config) {
        bt_status st =
            bt__quantization_read(config->quantization, config->label, &l.quantization, err);
        if (st) return st;
        if (!has_head(s, &m->recipe)) m->recipe.tied_head = true;
    }
    l.floats_cap = floats_needed(&l);
    m->weights.layers = bt_calloc((size_t)m->recipe.n_layers, sizeof *m->weights.layers);
    m->floats = bt_aligned_alloc(64, l.floats_cap * sizeof *m->floats);
    if (!m->weights.layers || !m->floats)
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory to open %s", s->label);
    return load_all(&l, err);
}
