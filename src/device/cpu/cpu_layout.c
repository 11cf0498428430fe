/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_layout.c - what the CPU backend can run, and where everything of it lies. */
#include "base/assert.h"
#include "device/cpu/cpu_device.h"
#include "kernels/embed/embed.h"
#include "kernels/sample/sample.h"
#include <stdio.h>
#include <string.h>

const bt_weight *bt__cpu_weight(const bt_recipe *r, const bt_weights *w, int32_t i)
{
    if (i == r->n_layers * BT_MATRICES_PER_LAYER) return &w->head;
    return bt_layer_matrix(&w->layers[i / BT_MATRICES_PER_LAYER], i % BT_MATRICES_PER_LAYER);
}

static const char *weight_name(const bt_recipe *r, int32_t i, char dst[static BT_TENSOR_NAME_MAX])
{
    int32_t layer = i / BT_MATRICES_PER_LAYER, id = i % BT_MATRICES_PER_LAYER;
    if (layer == r->n_layers) id = r->tied_head ? BT_TENSOR_EMBED : BT_TENSOR_HEAD;
    return bt_tensor_name(r, layer % r->n_layers, id, BT_NAMING_GGUF, dst);
}

static bool refuse(const char *name, const bt_weight *w, bt_err *err)
{
    char known[128] = "";
    size_t len = 0;
    const bt_format_info *f = bt_format_get(w->format);
#define X(id_name, id, elems, bytes, loadable, text)                                               \
    if (id < BT_FORMAT_OWN && bt_linear_supported(id, 256) &&                                      \
        len + sizeof text + 2 < sizeof known)                                                      \
        len += (size_t)snprintf(known + len, sizeof known - len, "%s%s", len ? ", " : "", text);
    BT_FORMAT_MAP(X)
#undef X
    if (!w->data)
        bt_err_set(err, BT_EFORMAT, 0, "tensor %s is missing", name);
    else if (f && bt_linear_supported(w->format, 256) && w->cols % f->elems)
        bt_err_set(err, BT_EUNSUPPORTED, 0, "tensor %s has rows of %d, not a multiple of %s's %d",
                   name, w->cols, f->name, f->elems);
    else
        bt_err_set(err, BT_EUNSUPPORTED, 0,
                   "tensor %s is %s, for which the CPU has no kernel; use a file in %s", name,
                   f ? f->name : "of an unknown format", known);
    return false;
}

static bool plan_is_sane(const bt_device_plan *p, bt_err *err)
{
    bool ok = p->threads >= 1 && (p->page_tokens == 16 || p->page_tokens == 32) &&
              p->n_pages >= 1 && p->ctx >= 1 && p->rows_max >= 1 && p->seqs_max >= 1 &&
              p->out_max >= 1 && p->out_max <= p->rows_max && p->kv_format >= BT_KV_F16 &&
              p->kv_format <= BT_KV_FP8;
    if (!ok) bt_err_set(err, BT_EINVAL, 0, "the CPU device cannot be opened with this plan");
    return ok;
}

static bool layers_can(const bt_recipe *r, bt_err *err)
{
    const bt_layer_recipe *first = &r->layer[0];
    for (int32_t i = 0; i < r->n_layers; i++) {
        const bt_layer_recipe *l = &r->layer[i];
        if (l->head_dim > BT_KV_HEAD_DIM_MAX) {
            bt_err_set(err, BT_EUNSUPPORTED, 0,
                       "heads of %d dimensions; the CPU has kernels up to %d", l->head_dim,
                       (int)BT_KV_HEAD_DIM_MAX);
            return false;
        }
        if (l->n_heads != first->n_heads || l->n_kv_heads != first->n_kv_heads ||
            l->head_dim != first->head_dim) {
            bt_err_set(err, BT_EUNSUPPORTED, 0,
                       "layer %d has other heads than the first; the CPU cannot do that yet", i);
            return false;
        }
    }
    return true;
}

bool bt__cpu_can(const bt_recipe *r, const bt_weights *w, const bt_device_plan *p, bt_err *err)
{
    char name[BT_TENSOR_NAME_MAX];
    if (!plan_is_sane(p, err) || !layers_can(r, err)) return false;
    for (int32_t i = 0; i < bt__cpu_weight_count(r); i++) {
        const bt_weight *m = bt__cpu_weight(r, w, i);
        bool gate = i % BT_MATRICES_PER_LAYER == BT_MATRIX_GATE;
        if (gate && r->layer[i / BT_MATRICES_PER_LAYER].plain) continue;
        if (!m->data || !bt_linear_supported(m->format, m->cols))
            return refuse(weight_name(r, i, name), m, err);
    }
    if (!w->embed.data || !bt_embed_supported(w->embed.format, w->embed.cols))
        return refuse("token_embd.weight", &w->embed, err);
    if (r->learned_positions &&
        (!w->positions.data || !bt_embed_supported(w->positions.format, w->positions.cols)))
        return refuse("position_embd.weight", &w->positions, err);
    return true;
}

static size_t round64(size_t n)
{
    return (n + 63) / 64 * 64;
}
static int64_t row_stride(int64_t width)
{
    return (width + 15) / 16 * 16;
}

/* Takes bytes from a block; returns where they begin. */
static size_t take(size_t *end, size_t bytes)
{
    size_t at = *end;
    *end += round64(bytes);
    return at;
}

static size_t take_rows(size_t *end, int32_t rows, int64_t ld)
{
    return take(end, (size_t)rows * (size_t)ld * sizeof(float));
}

static void layout_weights(const bt_recipe *r, const bt_weights *w, const bt_device_plan *p,
                           cpu_layout *l, size_t act_bytes[ACT_KINDS])
{
    for (int32_t i = 0; i < bt__cpu_weight_count(r); i++) {
        const bt_weight *m = bt__cpu_weight(r, w, i);
        if (!m->data) continue;
        l->weights_bytes += round64(bt_linear_packed_bytes(m->format, m->rows, m->cols));
        int kind = bt_linear_act_kind(m->format);
        BT_ASSERT(kind >= 0 && kind < ACT_KINDS);
        act_bytes[kind] = BT_MAX(act_bytes[kind], bt_linear_act_bytes(kind, p->rows_max, m->cols));
    }
}

static void layout_kv(const bt_recipe *r, const bt_device_plan *p, cpu_layout *l)
{
    const bt_layer_recipe *first = &r->layer[0];
    l->kv = (bt_kv_layout){p->kv_format, first->n_kv_heads, first->head_dim, p->page_tokens};
    l->page_stride = bt_kv_page_bytes(&l->kv);
    l->layer_stride = l->page_stride * (size_t)p->n_pages;
    l->kv_bytes = l->layer_stride * (size_t)r->n_layers;
}

/* Tiles: at most rows * group / QUERIES of them are full, each sequence has one that is not, and
 * when there are few they are cut further until each thread has one. Records: four rows of the
 * longest context. */
static void layout_attention(const bt_recipe *r, const bt_device_plan *p, cpu_layout *l,
                             size_t *end)
{
    int32_t heads = r->layer[0].n_heads, group = heads / r->layer[0].n_kv_heads;
    int32_t spans = (p->ctx + BT_ATTENTION_SPAN - 1) / BT_ATTENTION_SPAN;
    l->tiles_max = (int32_t)((int64_t)p->rows_max * group / BT_ATTENTION_QUERIES) +
                   2 * p->seqs_max + p->threads + 1;
    l->tiles = take(end, (size_t)l->tiles_max * sizeof(cpu_tile));
    l->records_max = p->threads > 1 && spans > 1 ? 4 * heads * spans : 0;
    l->records =
        take(end, (size_t)l->records_max * bt_attention_record_floats(&l->kv) * sizeof(float));
}

void bt__cpu_layout_make(const bt_recipe *r, const bt_weights *w, const bt_device_plan *p,
                         cpu_layout *l)
{
    size_t act_bytes[ACT_KINDS] = {0}, end = 0;
    memset(l, 0, sizeof *l);
    layout_weights(r, w, p, l, act_bytes);
    layout_kv(r, p, l);
    l->ld_x = row_stride(r->hidden);
    l->ld_q = row_stride(bt_tensor_size_of(r, 0, BT_SIZE_Q));
    l->ld_kv = row_stride(bt_tensor_size_of(r, 0, BT_SIZE_KV));
    bool side = false, added = r->residual_scale != 1;
    for (int32_t i = 0; i < r->n_layers; i++) {
        l->ld_ffn = BT_MAX(l->ld_ffn, row_stride(r->layer[i].ffn));
        side = side || r->layer[i].parallel;
        added = added || r->layer[i].norm_after;
    }
    l->ld_logits = row_stride(r->vocab);

    l->x = take_rows(&end, p->rows_max, l->ld_x);
    l->normed = take_rows(&end, p->rows_max, l->ld_x);
    l->side = take_rows(&end, side ? p->rows_max : 0, l->ld_x);
    l->added = take_rows(&end, added ? p->rows_max : 0, l->ld_x);
    size_t mlp_end = end;
    l->q = take_rows(&end, p->rows_max, l->ld_q);
    l->k = take_rows(&end, p->rows_max, l->ld_kv);
    l->v = take_rows(&end, p->rows_max, l->ld_kv);
    l->att = take_rows(&end, p->rows_max, l->ld_q);
    l->gate = take_rows(&mlp_end, p->rows_max, l->ld_ffn);
    l->up = take_rows(&mlp_end, p->rows_max, l->ld_ffn);
    end = BT_MAX(end, mlp_end);
    for (int i = 0; i < ACT_KINDS; i++) l->act[i] = take(&end, act_bytes[i]);
    l->logits = take_rows(&end, p->out_max, l->ld_logits);
    for (int32_t i = 0; i < r->n_ropes; i++) {
        const bt_rope *rope = &r->rope[i];
        size_t pairs = rope->style == BT_ROPE_NONE ? 0 : (size_t)(rope->dim / 2);
        l->cos[i] = take(&end, (size_t)p->ctx * pairs * sizeof(float));
        l->sin[i] = take(&end, (size_t)p->ctx * pairs * sizeof(float));
    }
    layout_attention(r, p, l, &end);
    l->thread_stride =
        BT_MAX(bt_attention_scratch_bytes(&l->kv), bt_sample_scratch_bytes(r->vocab));
    l->thread_scratch = take(&end, l->thread_stride * (size_t)p->threads);
    l->scratch_bytes = end;
}
