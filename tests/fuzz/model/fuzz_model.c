/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a model: refused with a sentence, or a recipe and weights that keep their word. */
#include "base/assert.h"
#include "model/model.h"
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_matrix(const bt_weight *w, int64_t rows, int64_t cols, const uint8_t *data,
                         size_t size)
{
    BT_ASSERT(w->rows == rows && w->cols == cols);
    size_t bytes = bt_format_bytes(w->format, (size_t)rows * (size_t)cols);
    BT_ASSERT((const uint8_t *)w->data >= data && (const uint8_t *)w->data + bytes <= data + size);
}

static void check_vector(const float *v, int32_t n)
{
    for (int32_t i = 0; i < n; i++) BT_ASSERT(v[i] - v[i] == 0); // finite
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bt_gguf *g = NULL;
    bt_model *m = NULL;
    bt_err err = {0};
    if (bt_gguf_open_memory(data, size, "fuzz", &g, NULL) != BT_OK) return 0;
    if (bt_model_from_gguf(g, &m, &err) != BT_OK) {
        BT_ASSERT(!m && err.msg[0]);
        bt_gguf_close(g);
        return 0;
    }
    const bt_recipe *r = &m->recipe;
    BT_ASSERT(r->norm_eps >= 0 && r->n_ropes >= 1 && r->n_ropes <= BT_ROPES_MAX);
    check_matrix(&m->weights.embed, r->vocab, r->hidden, data, size);
    check_matrix(&m->weights.head, r->vocab, r->hidden, data, size);
    check_vector(m->weights.out_norm, r->hidden);
    if (m->weights.rope_divisor) check_vector(m->weights.rope_divisor, r->rope[0].dim / 2);
    for (int32_t i = 0; i < r->n_layers; i++) {
        const bt_layer_weights *l = &m->weights.layers[i];
        const bt_layer_recipe *s = &r->layer[i];
        BT_ASSERT(s->n_heads % s->n_kv_heads == 0 && s->rope < r->n_ropes && s->window >= 0);
        BT_ASSERT(r->rope[s->rope].dim <= s->head_dim);
        check_matrix(&l->wk, (int64_t)s->n_kv_heads * s->head_dim, r->hidden, data, size);
        check_matrix(&l->w_down, r->hidden, s->ffn, data, size);
        if (l->ffn_norm) check_vector(l->ffn_norm, r->hidden);
        BT_ASSERT(!l->bq == !l->bk && !l->bk == !l->bv && (s->plain || !l->b_gate == !l->b_up));
        if (l->bq) check_vector(l->bq, s->n_heads * s->head_dim);
        if (l->b_up) check_vector(l->b_up, s->ffn);
        if (l->bo) check_vector(l->bo, r->hidden);
    }
    bt_model_close(m);
    bt_gguf_close(g);
    return 0;
}
