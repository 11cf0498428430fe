/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_layout.c - what the CUDA backend can run, and where everything of it lies. */
#include "base/assert.h"
#include "device/cuda/cuda_device.h"
#include <stdio.h>
#include <string.h>

enum {
    ALIGN = 256,
    STAGE_MAX = 16 << 20,
    BIAS_MAX = 1024,
    BAN_MAX = 64,
    ACT_ALL = BT_CUDA_ACT_F32 | BT_CUDA_ACT_F16 | BT_CUDA_ACT_Q8
};

int32_t bt__cuda_bucket_rows(int32_t i)
{
    static const int32_t rows[CUDA_BUCKETS_MAX] = {1,  2,  4,  8,  12, 16,  20,  24,  28,  32,
                                                   40, 48, 56, 64, 96, 128, 160, 192, 224, 256};
    return i < CUDA_BUCKETS_MAX ? rows[i] : 0;
}

/* ---- what can run ---- */

static bool refuse(const char *name, const bt_weight *w, bt_err *err)
{
    char known[128] = "";
    size_t len = 0;
    const bt_format_info *f = bt_format_get(w->format);
#define X(id_name, id, elems, bytes, loadable, text)                                               \
    if (bt_cuda_linear_supported(id, 256) && len + sizeof text + 2 < sizeof known)                 \
        len += (size_t)snprintf(known + len, sizeof known - len, "%s%s", len ? ", " : "", text);
    BT_FORMAT_MAP(X)
#undef X
    if (!w->data)
        bt_err_set(err, BT_EFORMAT, 0, "tensor %s is missing", name);
    else if (f && bt_cuda_linear_supported(w->format, 256))
        bt_err_set(err, BT_EUNSUPPORTED, 0,
                   "tensor %s has rows of %d, which %s cannot hold on CUDA", name, w->cols,
                   f->name);
    else
        bt_err_set(err, BT_EUNSUPPORTED, 0,
                   "tensor %s is %s, for which CUDA has no kernel; use a file in %s", name,
                   f ? f->name : "of an unknown format", known);
    return false;
}

static bool weight_can(const bt_weight *w)
{
    return w->data && bt_cuda_linear_supported(w->format, w->cols);
}

static bool weights_can(const bt_recipe *r, const bt_weights *w, bt_err *err)
{
    char name[BT_TENSOR_NAME_MAX];
    for (int32_t l = 0; l < r->n_layers; l++)
        for (int32_t i = 0; i < BT_MATRICES_PER_LAYER; i++) {
            const bt_weight *m = bt_layer_matrix(&w->layers[l], i);
            if (weight_can(m)) continue;
            return refuse(bt_tensor_name(r, l, i, BT_NAMING_GGUF, name), m, err);
        }
    int32_t head = r->tied_head ? BT_TENSOR_EMBED : BT_TENSOR_HEAD;
    if (!weight_can(&w->head))
        return refuse(bt_tensor_name(r, 0, head, BT_NAMING_GGUF, name), &w->head, err);
    return weight_can(&w->embed) || refuse("token_embd.weight", &w->embed, err);
}

/* What a recipe asks for and no kernel here does yet; NULL: nothing. */
static const char *lacking(const bt_recipe *r, const bt_weights *w)
{
    if (r->norm != BT_NORM_RMS) return "norms that take out the mean";
    if (r->embed_scale != 1 || r->residual_scale != 1 || r->logit_scale != 1)
        return "scaled embeddings, residuals or logits";
    if (r->logit_cap != 0) return "soft-capped logits";
    if (r->learned_positions || r->embed_norm) return "learned positions or normed embeddings";
    if (w->head_b) return "a bias of the head";
    for (int32_t i = 0; i < r->n_layers; i++) {
        const bt_layer_recipe *l = &r->layer[i], *first = &r->layer[0];
        if (l->n_heads != first->n_heads || l->n_kv_heads != first->n_kv_heads ||
            l->head_dim != first->head_dim || l->ffn != first->ffn ||
            l->attn_scale != first->attn_scale)
            return "layers of different shapes";
        if (l->rope != 0) return "a second rope";
        if (l->window > 0) return "sliding windows";
        if (l->attn_cap != 0) return "soft-capped attention";
        if (l->alibi != 0) return "ALiBi positions";
        if (l->qkv_clamp != 0 || l->q_growth != 0) return "clamped or growing queries";
        if (l->qk_norm != BT_QK_NORM_NONE && l->qk_norm != BT_QK_NORM_HEAD)
            return "norms of q and k over a row or behind the rope";
        if (!l->norm_before || l->norm_after) return "norms of what layers add";
        if (l->parallel) return "attention and feed-forward side by side";
        if (l->plain || l->activation != BT_ACTIVATION_SILU)
            return "feed-forwards other than gated SiLU";
    }
    return NULL;
}

bool bt__cuda_can(const bt_recipe *r, const bt_weights *w, const bt_device_plan *p,
                  const bt_cuda_props *props, bt_err *err)
{
    const bt_layer_recipe *l = &r->layer[0];
    bool ok = (p->page_tokens == 16 || p->page_tokens == 32) && p->n_pages >= 1 && p->ctx >= 1 &&
              p->rows_max >= 1 && p->seqs_max >= 1 && p->out_max >= 1 && p->out_max <= p->rows_max;
    if (!ok) {
        bt_err_set(err, BT_EINVAL, 0, "the CUDA device cannot be opened with this plan");
        return false;
    }
    const char *lack = lacking(r, w);
    if (lack) {
        bt_err_set(err, BT_EUNSUPPORTED, 0,
                   "%s asks for %s; CUDA has no kernels for that yet: use --device cpu", r->arch,
                   lack);
        return false;
    }
    bt_cuda_kv kv = bt__cuda_kv_shape(r, p);
    if (!bt_cuda_attention_supported(&kv, l->n_heads, props)) {
        bt_err_set(err, BT_EUNSUPPORTED, 0,
                   "heads of %d dimensions with this KV format have no kernel on a device of "
                   "compute capability %d.%d; bf16 needs 8.0, and dimensions are multiples of 4 up "
                   "to 256",
                   l->head_dim, props->sm / 10, props->sm % 10);
        return false;
    }
    return weights_can(r, w, err);
}

/* ---- weights ---- */

static size_t round_up(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

static size_t take(size_t *end, size_t bytes)
{
    size_t at = *end;
    *end += round_up(bytes);
    return at;
}

/* Where one matrix goes, or several of equal format and width as one; returns how many. */
static int32_t place_group(const bt_layer_weights *l, const int32_t *which, int32_t n,
                           bt_cuda_matrix *out, char *base, size_t *end)
{
    const bt_weight *first = bt_layer_matrix(l, which[0]);
    bt_cuda_matrix all = {.format = first->format, .k = first->cols};
    bool one = true;
    for (int32_t i = 0; i < n; i++) {
        const bt_weight *w = bt_layer_matrix(l, which[i]);
        one = one && w->format == first->format;
        all.n += w->rows;
    }
    for (int32_t i = 0; i < (one ? 1 : n); i++) {
        const bt_weight *w = bt_layer_matrix(l, which[i]);
        bt_cuda_matrix m = one ? all : (bt_cuda_matrix){w->format, w->rows, w->cols, NULL};
        size_t at = take(end, bt_cuda_matrix_bytes(m.format, m.n, m.k));
        m.data = base ? base + at : NULL;
        out[i] = m;
    }
    return one ? 1 : n;
}

/* On 16 bytes, as kernels load them. */
static const float *place_floats(size_t n, char *base, size_t *end)
{
    size_t at = *end;
    *end += (n + 3) / 4 * 4 * sizeof(float);
    return base ? (const float *)(const void *)(base + at) : NULL;
}

static void place_layer(const bt_recipe *r, const bt_layer_weights *w, cuda_layer *l, char *base,
                        size_t *end)
{
    static const int32_t qkv[] = {BT_MATRIX_Q, BT_MATRIX_K, BT_MATRIX_V}, o[] = {BT_MATRIX_O},
                         gate_up[] = {BT_MATRIX_GATE, BT_MATRIX_UP}, down[] = {BT_MATRIX_DOWN};
    (void)r;
    l->n_qkv = place_group(w, qkv, 3, l->qkv, base, end);
    place_group(w, o, 1, &l->o, base, end);
    l->n_gate_up = place_group(w, gate_up, 2, l->gate_up, base, end);
    place_group(w, down, 1, &l->down, base, end);
}

/* Norms and biases of all layers stand together, in the order in which cuda_load.c uploads them. */
static void place_layer_floats(const bt_recipe *r, const bt_layer_weights *w, cuda_layer *l,
                               char *base, size_t *end)
{
    l->attn_norm = place_floats((size_t)r->hidden, base, end);
    l->ffn_norm = place_floats((size_t)r->hidden, base, end);
    l->q_norm = w->q_norm ? place_floats((size_t)r->layer[0].head_dim, base, end) : NULL;
    l->k_norm = w->k_norm ? place_floats((size_t)r->layer[0].head_dim, base, end) : NULL;
    for (int32_t i = 0; i < BT_MATRICES_PER_LAYER; i++)
        l->bias[i] = bt_layer_bias(w, i)
                         ? place_floats((size_t)bt_layer_matrix(w, i)->rows, base, end)
                         : NULL;
}

void bt__cuda_place(const bt_recipe *r, const bt_weights *w, const bt_device_plan *p, char *base,
                    cuda_weights *out, cuda_layout *at)
{
    size_t end = 0;
    cuda_layer scratch;
    for (int32_t i = 0; i < r->n_layers; i++)
        place_layer(r, &w->layers[i], out ? &out->layer[i] : &scratch, base, &end);
    bt_cuda_matrix head = {w->head.format, w->head.rows, w->head.cols, NULL};
    bt_cuda_matrix embed = {w->embed.format, w->embed.rows, w->embed.cols, NULL};
    size_t head_at = take(&end, bt_cuda_matrix_bytes(head.format, head.n, head.k));
    head.data = base ? base + head_at : NULL;
    size_t embed_at = head_at;
    if (!bt__cuda_tied(w))
        embed_at = take(&end, bt_cuda_matrix_bytes(embed.format, embed.n, embed.k));
    embed.data = base ? base + embed_at : NULL;
    at->floats = end;
    for (int32_t i = 0; i < r->n_layers; i++)
        place_layer_floats(r, &w->layers[i], out ? &out->layer[i] : &scratch, base, &end);
    const float *out_norm = place_floats((size_t)r->hidden, base, &end);
    at->floats_bytes = end - at->floats;
    end = round_up(end);
    size_t table = r->rope[0].style == BT_ROPE_NONE
                       ? 0
                       : (size_t)p->ctx * (size_t)(r->rope[0].dim / 2) * sizeof(float);
    at->cos = take(&end, table);
    at->sin = take(&end, table);
    at->segment_bytes[SEG_WEIGHTS] = end;
    if (!out) return;
    out->head = head;
    out->embed = embed;
    out->out_norm = out_norm;
}

/* ---- KV and scratch ---- */

bt_cuda_kv bt__cuda_kv_shape(const bt_recipe *r, const bt_device_plan *p)
{
    const bt_layer_recipe *l = &r->layer[0];
    return (bt_cuda_kv){.format = p->kv_format,
                        .kv_heads = l->n_kv_heads,
                        .head_dim = l->head_dim,
                        .page_tokens = p->page_tokens};
}

static void layout_kv(const bt_recipe *r, const bt_device_plan *p, cuda_layout *l)
{
    const bt_layer_recipe *first = &r->layer[0];
    l->page_stride =
        bt_cuda_kv_page_bytes(p->kv_format, first->n_kv_heads, first->head_dim, p->page_tokens);
    l->layer_stride = l->page_stride * (size_t)p->n_pages;
    l->segment_bytes[SEG_KV] = l->layer_stride * (size_t)r->n_layers;
}

static size_t ints(size_t *end, int32_t n)
{
    size_t at = *end;
    *end += (size_t)n * sizeof(int32_t);
    return at;
}

static void layout_input(const bt_device_plan *p, cuda_layout *l)
{
    size_t end = 0;
    l->in_kv_len = ints(&end, p->seqs_max);
    l->in_first_row = ints(&end, p->seqs_max);
    l->in_n_rows = ints(&end, p->seqs_max);
    l->in_out_row = ints(&end, p->out_max);
    l->in_token = ints(&end, p->rows_max);
    l->in_pos = ints(&end, p->rows_max);
    l->in_row_seq = ints(&end, p->rows_max);
    l->in_work = ints(&end, l->work_max * BT_CUDA_ATTENTION_WORK_INTS);
    end = round_up(end);
    l->in_bytes = end;
}

/* Sequences alone have lists; rows of a prompt's logprobs have none. */
static void layout_ask(const bt_recipe *r, const bt_device_plan *p, cuda_layout *l)
{
    size_t end = 0;
    l->bias_max = p->seqs_max * BIAS_MAX;
    l->counts_max = p->seqs_max * BT_MIN(p->ctx, r->vocab);
    l->ban_max = p->seqs_max * BAN_MAX;
    take(&end, (size_t)p->out_max * sizeof(bt_cuda_sample_row));
    l->ask_bias = take(&end, (size_t)l->bias_max * sizeof(bt_logit_bias));
    l->ask_ban = take(&end, (size_t)l->ban_max * sizeof(int32_t));
    l->ask_counts = take(&end, (size_t)l->counts_max * sizeof(bt_token_count));
    l->ask_bytes = end;
}

static size_t group_scratch(const bt_cuda_matrix *m, int32_t n, int32_t rows,
                            const bt_cuda_props *props)
{
    size_t most = 0;
    for (int32_t i = 0; i < n; i++)
        most = BT_MAX(most, bt_cuda_linear_scratch(m[i].format, m[i].n, m[i].k, rows, props));
    return most;
}

/* The most scratch that any matrix asks for as it is placed, alone or with its neighbours: a wider
 * one may need less. */
static size_t linear_scratch(const bt_recipe *r, const bt_weights *w, const bt_device_plan *p,
                             const bt_cuda_props *props)
{
    size_t end = 0;
    size_t most =
        bt_cuda_linear_scratch(w->head.format, w->head.rows, w->head.cols, p->out_max, props);
    for (int32_t i = 0; i < r->n_layers; i++) {
        cuda_layer l;
        place_layer(r, &w->layers[i], &l, NULL, &end);
        most = BT_MAX(most, group_scratch(l.qkv, l.n_qkv, p->rows_max, props));
        most = BT_MAX(most, group_scratch(&l.o, 1, p->rows_max, props));
        most = BT_MAX(most, group_scratch(l.gate_up, l.n_gate_up, p->rows_max, props));
        most = BT_MAX(most, group_scratch(&l.down, 1, p->rows_max, props));
    }
    return most;
}

static void layout_widths(const bt_recipe *r, const bt_device_plan *p, const bt_cuda_props *props,
                          cuda_layout *l)
{
    const bt_layer_recipe *first = &r->layer[0];
    l->q_cols = first->n_heads * first->head_dim;
    l->kv_cols = first->n_kv_heads * first->head_dim;
    l->qkv_cols = l->q_cols + 2 * l->kv_cols;
    l->ld_x = (r->hidden + 3) / 4 * 4;
    l->ld_logits = (r->vocab + 3) / 4 * 4;
    l->k_max = BT_MAX(BT_MAX(r->hidden, l->q_cols), first->ffn);
    l->pages_ld = (p->ctx + p->page_tokens - 1) / p->page_tokens;
    l->bucket_max = BT_MIN(BT_MIN(p->rows_max, p->seqs_max), p->out_max);
    bt_cuda_kv kv = bt__cuda_kv_shape(r, p);
    l->work_max = (int32_t)((int64_t)p->rows_max * (first->n_heads / first->n_kv_heads) /
                            bt_cuda_attention_tile(&kv, props)) +
                  p->seqs_max;
}

static void layout_scratch(const bt_recipe *r, const bt_weights *w, const bt_device_plan *p,
                           const bt_cuda_props *props, cuda_layout *l)
{
    const bt_layer_recipe *first = &r->layer[0];
    size_t end = 0, rows = (size_t)p->rows_max, f = sizeof(float);
    l->x = take(&end, rows * (size_t)l->ld_x * f);
    l->act = take(&end, bt_cuda_act_bytes(p->rows_max, l->k_max, ACT_ALL));
    /* Attention's rows and the MLP's are never alive together. */
    size_t mlp_end = end;
    l->qkv = take(&end, rows * (size_t)l->qkv_cols * f);
    l->att = take(&end, rows * (size_t)l->q_cols * f);
    l->gate_up = take(&mlp_end, rows * (size_t)first->ffn * 2 * f);
    l->glu = take(&mlp_end, rows * (size_t)first->ffn * f);
    end = BT_MAX(end, mlp_end);
    l->logits = take(&end, (size_t)p->out_max * (size_t)l->ld_logits * f);
    l->linear_bytes = linear_scratch(r, w, p, props);
    l->linear = take(&end, l->linear_bytes);
    bt_cuda_kv kv = bt__cuda_kv_shape(r, p);
    l->attention_bytes = bt_cuda_attention_scratch(&kv, props, first->n_heads, p->seqs_max, p->ctx,
                                                   p->deterministic);
    l->attention = take(&end, l->attention_bytes);
    l->sample_bytes = bt_cuda_sample_scratch(p->out_max, r->vocab);
    l->sample = take(&end, l->sample_bytes);
    l->drawn = take(&end, (size_t)p->out_max * sizeof(int32_t));
    l->pick = take(&end, (size_t)p->out_max * sizeof(bt_cuda_sample_pick));
    l->top = take(&end, (size_t)p->out_max * sizeof(bt_cuda_sample_top));
    l->in = take(&end, l->in_bytes);
    l->ask = take(&end, l->ask_bytes);
    l->pages = take(&end, (size_t)p->seqs_max * (size_t)l->pages_ld * sizeof(int32_t));
    /* Loading stages pieces of the file's rows where the steps will have their scratch. */
    size_t row = bt_format_bytes(BT_FORMAT_F32, (size_t)l->k_max);
    l->stage_bytes = BT_MIN(BT_MAX(round_up(end / CUDA_STAGES) - ALIGN, round_up(row)), STAGE_MAX);
    l->segment_bytes[SEG_SCRATCH] = BT_MAX(end, l->stage_bytes * CUDA_STAGES);
}

void bt__cuda_layout_make(const bt_recipe *r, const bt_weights *w, const bt_device_plan *p,
                          const bt_cuda_props *props, cuda_layout *l)
{
    memset(l, 0, sizeof *l);
    bt__cuda_place(r, w, p, NULL, NULL, l);
    layout_widths(r, p, props, l);
    layout_kv(r, p, l);
    layout_input(p, l);
    layout_ask(r, p, l);
    layout_scratch(r, w, p, props, l);
}
