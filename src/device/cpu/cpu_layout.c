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

static const char *weight_name(const bt_recipe *r, int32_t i, char dst[static 64])
{
    if (i == r->n_layers * BT_MATRICES_PER_LAYER) return bt_head_name(r);
    return bt_layer_matrix_name(i / BT_MATRICES_PER_LAYER, i % BT_MATRICES_PER_LAYER, dst);
}

static bool refuse(const char *name, const bt_weight *w, bt_err *err)
{
    char known[96] = "";
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

static bool plan_is_sane(const bt_recipe *r, const bt_device_plan *p, bt_err *err)
{
    bool ok = p->threads >= 1 && (p->page_tokens == 16 || p->page_tokens == 32) &&
              p->n_pages >= 1 && p->ctx >= 1 && p->rows_max >= 1 && p->seqs_max >= 1 &&
              p->out_max >= 1 && p->out_max <= p->rows_max && p->kv_format >= BT_KV_F16 &&
              p->kv_format <= BT_KV_FP8;
    if (!ok) bt_err_set(err, BT_EINVAL, 0, "the CPU device cannot be opened with this plan");
    if (ok && r->head_dim > BT_KV_HEAD_DIM_MAX) {
        bt_err_set(err, BT_EUNSUPPORTED, 0, "heads of %d dimensions; the CPU has kernels up to %d",
                   r->head_dim, (int)BT_KV_HEAD_DIM_MAX);
        return false;
    }
    return ok;
}

bool bt__cpu_can(const bt_recipe *r, const bt_weights *w, const bt_device_plan *p, bt_err *err)
{
    char name[64];
    if (!plan_is_sane(r, p, err)) return false;
    for (int32_t i = 0; i < bt__cpu_weight_count(r); i++) {
        const bt_weight *m = bt__cpu_weight(r, w, i);
        if (!m->data || !bt_linear_supported(m->format, m->cols))
            return refuse(weight_name(r, i, name), m, err);
    }
    if (!w->embed.data || !bt_embed_supported(w->embed.format, w->embed.cols))
        return refuse("token_embd.weight", &w->embed, err);
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
        l->weights_bytes += round64(bt_linear_packed_bytes(m->format, m->rows, m->cols));
        int kind = bt_linear_act_kind(m->format);
        BT_ASSERT(kind >= 0 && kind < ACT_KINDS);
        act_bytes[kind] = BT_MAX(act_bytes[kind], bt_linear_act_bytes(kind, p->rows_max, m->cols));
    }
}

static void layout_kv(const bt_recipe *r, const bt_device_plan *p, cpu_layout *l)
{
    l->kv = (bt_kv_layout){p->kv_format, r->n_kv_heads, r->head_dim, p->page_tokens};
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
    int32_t group = r->n_heads / r->n_kv_heads;
    int32_t spans = (p->ctx + BT_ATTENTION_SPAN - 1) / BT_ATTENTION_SPAN;
    l->tiles_max = (int32_t)((int64_t)p->rows_max * group / BT_ATTENTION_QUERIES) +
                   2 * p->seqs_max + p->threads + 1;
    l->tiles = take(end, (size_t)l->tiles_max * sizeof(cpu_tile));
    l->records_max = p->threads > 1 && spans > 1 ? 4 * r->n_heads * spans : 0;
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
    l->ld_q = row_stride((int64_t)r->n_heads * r->head_dim);
    l->ld_kv = row_stride((int64_t)r->n_kv_heads * r->head_dim);
    l->ld_ffn = row_stride(r->ffn);
    l->ld_logits = row_stride(r->vocab);

    l->x = take_rows(&end, p->rows_max, l->ld_x);
    l->normed = take_rows(&end, p->rows_max, l->ld_x);
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
    size_t table = r->rope_style == BT_ROPE_NONE
                       ? 0
                       : (size_t)p->ctx * (size_t)(r->rope_dim / 2) * sizeof(float);
    l->cos = take(&end, table);
    l->sin = take(&end, table);
    layout_attention(r, p, l, &end);
    l->thread_stride =
        BT_MAX(bt_attention_scratch_bytes(&l->kv), bt_sample_scratch_bytes(r->vocab));
    l->thread_scratch = take(&end, l->thread_stride * (size_t)p->threads);
    l->scratch_bytes = end;
}
