/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_step.c - the block operations, enqueued on the device's stream.
 *
 * Nothing here waits but step_end. In a replayed step the operations between embed and head do
 * nothing: the graph holds them. Activations stay f32 between kernels; what a matrix multiplies is
 * prepared by the kernel before it, in the forms that its format wants. */
#include "base/assert.h"
#include "device/batch_check.h"
#include "device/cuda/cuda_device.h"
#include "kernels/activation/activation_cuda.h"
#include "kernels/embed/embed_cuda.h"
#include "kernels/norm/norm_cuda.h"
#include "kernels/rope/rope_cuda.h"
#include "kernels/step_cuda.h"
#include <string.h>

static cuda_flight *newest(bt_device *d)
{
    return &d->flight[(d->first + d->n_flight - 1) % CUDA_STEPS];
}

/* A step that cannot go on is no longer in flight. */
static bt_status give_up(bt_device *d, bt_status st)
{
    bt__cuda_graph_abandon(d);
    d->n_flight--;
    d->batch = NULL;
    return st;
}

static bt_status lost_device(bt_device *d, bt_err *err)
{
    return bt__cuda_check(d, d->lost, "an earlier step", err);
}

/* ---- activations ---- */

static bt_cuda_act act_of(const bt_device *d, int32_t rows, int32_t k, unsigned kinds)
{
    bt_cuda_act a;
    bt_cuda_act_place(&a, bt__cuda_scratch(d, d->at.act), rows, k, kinds);
    a.k = k;
    return a;
}

static unsigned kinds_of(const bt_device *d, const bt_cuda_matrix *m, int32_t n, int32_t rows)
{
    unsigned kinds = 0;
    for (int32_t i = 0; i < n; i++)
        kinds |= bt_cuda_linear_act(m[i].format, rows, d->plan.deterministic);
    return kinds;
}

/* Dense rows x[rows, k] as they are for the forms in f32, and prepared for the others. */
static cudaError_t prepare(const bt_device *d, float *x, int32_t rows, int32_t k, unsigned kinds,
                           bt_cuda_act *out)
{
    unsigned others = kinds & ~(unsigned)BT_CUDA_ACT_F32;
    *out = act_of(d, rows, k, others);
    cudaError_t code =
        others ? bt_cuda_act_prepare(x, k, rows, k, others, out, d->stream) : cudaSuccess;
    out->f32 = x;
    return code;
}

/* ---- matrices ---- */

static bt_cuda_linear_args linear(const bt_device *d, const bt_cuda_matrix *m,
                                  const bt_cuda_act *act, int32_t rows, float *y, int64_t ldy)
{
    return (bt_cuda_linear_args){.w = m,
                                 .act = act,
                                 .rows = rows,
                                 .y = y,
                                 .ldy = ldy,
                                 .deterministic = d->plan.deterministic,
                                 .scratch = bt__cuda_scratch(d, d->at.linear),
                                 .scratch_bytes = d->at.linear_bytes,
                                 .props = &d->props,
                                 .blas = d->blas};
}

/* x += rows * m^T + bias. */
static cudaError_t project_back(const bt_device *d, const bt_cuda_matrix *m, const float *bias,
                                float *rows_in, int32_t k)
{
    bt_cuda_act act;
    unsigned kinds = kinds_of(d, m, 1, d->rows);
    cudaError_t code = prepare(d, rows_in, d->rows, k, kinds, &act);
    if (code != cudaSuccess) return code;
    bt_cuda_linear_args a = linear(d, m, &act, d->rows, bt__cuda_floats(d, d->at.x), d->at.ld_x);
    a.bias = bias;
    a.accumulate = true;
    return bt_cuda_linear(&a, d->stream);
}

/* ---- a step ---- */

/* Which device inputs the new step reads decides its mode; then all of it is on its way. */
bt_status bt__cuda_step_begin(bt_device *d, const bt_batch *batch, bt_err *err)
{
    BT_ASSERT(d->n_flight < CUDA_STEPS && !d->batch && !d->parked);
    if (d->lost != cudaSuccess) return lost_device(d, err);
    bt_status st = bt__batch_check(d->recipe, &d->plan, batch, d->n_drawn, err);
    if (st) return st;
    d->n_flight++;
    cuda_flight *f = newest(d);
    f->sampled = false;
    f->n_out = 0;
    d->batch = batch;
    d->n_logits = 0;
    d->decodes = d->prefills = false;
    bool fed = false;
    for (int32_t i = 0; i < batch->n_seqs; i++)
        *(batch->seqs[i].n_rows == 1 ? &d->decodes : &d->prefills) = true;
    for (int32_t i = 0; i < batch->n_rows; i++) fed = fed || batch->token[i] < 0;
    bt__cuda_graph_choose(d);
    st = bt__cuda_check(d, cudaEventRecord(f->begin, d->stream), "beginning a step", err);
    if (!st) st = bt__cuda_batch_upload(d, f, err);
    if (!st && fed) {
        int32_t *token = (int32_t *)(uintptr_t)bt__cuda_input(d, d->at.in_token);
        st = bt__cuda_check(
            d, bt_cuda_step_tokens(token, bt__cuda_scratch(d, d->at.drawn), d->rows, d->stream),
            "handing on the tokens drawn", err);
    }
    if (!st) st = bt__cuda_graph_begin(d, err);
    return st ? give_up(d, st) : BT_OK;
}

bt_status bt__cuda_embed(bt_device *d, bt_err *err)
{
    if (d->mode == MODE_REPLAY) return BT_OK;
    bt_status st =
        bt__cuda_check(d,
                       bt_cuda_embed(&d->w.embed, bt__cuda_input(d, d->at.in_token), d->rows,
                                     bt__cuda_floats(d, d->at.x), d->at.ld_x, d->stream),
                       "the embedding", err);
    return st ? give_up(d, st) : BT_OK;
}

static bt_cuda_kv kv_of(const bt_device *d, int32_t layer)
{
    bt_cuda_kv kv = bt__cuda_kv_shape(d->recipe, &d->plan);
    kv.page_stride = d->at.page_stride;
    kv.base = d->memory.segment[SEG_KV].base + (size_t)layer * d->at.layer_stride;
    return kv;
}

static cudaError_t project_qkv(const bt_device *d, const cuda_layer *l, float *qkv)
{
    int32_t hidden = d->recipe->hidden, col = 0;
    unsigned kinds = kinds_of(d, l->qkv, l->n_qkv, d->rows);
    bt_cuda_act act = act_of(d, d->rows, hidden, kinds);
    cudaError_t code =
        bt_cuda_norm_rms(bt__cuda_floats(d, d->at.x), d->at.ld_x, NULL, l->attn_norm, d->rows,
                         hidden, d->recipe->norm_eps, kinds, &act, d->stream);
    for (int32_t i = 0; i < l->n_qkv && code == cudaSuccess; i++) {
        bt_cuda_linear_args a = linear(d, &l->qkv[i], &act, d->rows, qkv + col, d->at.qkv_cols);
        a.bias = l->bias[BT_MATRIX_Q + i];
        code = bt_cuda_linear(&a, d->stream);
        col += l->qkv[i].n;
    }
    return code;
}

bt_status bt__cuda_attn_in(bt_device *d, int32_t layer, bt_err *err)
{
    if (d->mode == MODE_REPLAY) return BT_OK;
    const bt_recipe *r = d->recipe;
    const char *tables = d->memory.segment[SEG_WEIGHTS].base;
    float *qkv = bt__cuda_floats(d, d->at.qkv);
    cudaError_t code = project_qkv(d, &d->w.layer[layer], qkv);
    bt_cuda_rope_args a = {.kv = kv_of(d, layer),
                           .rows = d->rows,
                           .n_heads = r->layer[0].n_heads,
                           .style = r->rope[0].style,
                           .rope_dim = r->rope[0].dim,
                           .cos = (const float *)(const void *)(tables + d->at.cos),
                           .sin = (const float *)(const void *)(tables + d->at.sin),
                           .q = qkv,
                           .k = qkv + d->at.q_cols,
                           .v = qkv + d->at.q_cols + d->at.kv_cols,
                           .ldq = d->at.qkv_cols,
                           .ldk = d->at.qkv_cols,
                           .ldv = d->at.qkv_cols,
                           .q_norm = d->w.layer[layer].q_norm,
                           .k_norm = d->w.layer[layer].k_norm,
                           .norm_eps = r->norm_eps,
                           .pos = bt__cuda_input(d, d->at.in_pos),
                           .row_seq = bt__cuda_input(d, d->at.in_row_seq),
                           .pages = bt__cuda_scratch(d, d->at.pages),
                           .pages_ld = d->at.pages_ld};
    if (code == cudaSuccess) code = bt_cuda_rope_kv(&a, d->stream);
    bt_status st = bt__cuda_check(d, code, "queries, keys and values", err);
    return st ? give_up(d, st) : BT_OK;
}

bt_status bt__cuda_attention(bt_device *d, int32_t layer, bt_err *err)
{
    if (d->mode == MODE_REPLAY) return BT_OK;
    bt_cuda_attention_args a = {.kv = kv_of(d, layer),
                                .n_heads = d->recipe->layer[0].n_heads,
                                .scale = d->recipe->layer[0].attn_scale,
                                .q = bt__cuda_floats(d, d->at.qkv),
                                .ldq = d->at.qkv_cols,
                                .out = bt__cuda_floats(d, d->at.att),
                                .ldo = d->at.q_cols,
                                .pages = bt__cuda_scratch(d, d->at.pages),
                                .pages_ld = d->at.pages_ld,
                                .kv_len = bt__cuda_input(d, d->at.in_kv_len),
                                .first_row = bt__cuda_input(d, d->at.in_first_row),
                                .n_rows = bt__cuda_input(d, d->at.in_n_rows),
                                .n_seqs = d->seqs,
                                .rows = d->rows,
                                .ctx_max = d->ctx_rows,
                                .work = bt__cuda_input(d, d->at.in_work),
                                .n_work = d->n_work,
                                .scratch = bt__cuda_scratch(d, d->at.attention),
                                .scratch_bytes = d->at.attention_bytes,
                                .deterministic = d->plan.deterministic,
                                .props = &d->props};
    cudaError_t code = cudaSuccess;
    if (d->decodes) code = bt_cuda_attention_decode(&a, d->stream);
    if (d->prefills && code == cudaSuccess) code = bt_cuda_attention_prefill(&a, d->stream);
    bt_status st = bt__cuda_check(d, code, "attention", err);
    return st ? give_up(d, st) : BT_OK;
}

bt_status bt__cuda_attn_out(bt_device *d, int32_t layer, bt_err *err)
{
    if (d->mode == MODE_REPLAY) return BT_OK;
    const cuda_layer *l = &d->w.layer[layer];
    cudaError_t code =
        project_back(d, &l->o, l->bias[BT_MATRIX_O], bt__cuda_floats(d, d->at.att), d->at.q_cols);
    bt_status st = bt__cuda_check(d, code, "the attention's output", err);
    return st ? give_up(d, st) : BT_OK;
}

static cudaError_t gated_unit(const bt_device *d, const cuda_layer *l, float *glu)
{
    int32_t hidden = d->recipe->hidden, ffn = d->recipe->layer[0].ffn;
    unsigned kinds = kinds_of(d, l->gate_up, l->n_gate_up, d->rows);
    bt_cuda_act act = act_of(d, d->rows, hidden, kinds);
    cudaError_t code =
        bt_cuda_norm_rms(bt__cuda_floats(d, d->at.x), d->at.ld_x, NULL, l->ffn_norm, d->rows,
                         hidden, d->recipe->norm_eps, kinds, &act, d->stream);
    if (code != cudaSuccess) return code;
    if (l->n_gate_up == 1 && !l->bias[BT_MATRIX_GATE]) {
        bt_cuda_linear_args a = linear(d, &l->gate_up[0], &act, d->rows, glu, ffn);
        a.glu = true;
        return bt_cuda_linear(&a, d->stream);
    }
    float *half = bt__cuda_floats(d, d->at.gate_up);
    for (int32_t i = 0; i < l->n_gate_up && code == cudaSuccess; i++) {
        bt_cuda_linear_args a = linear(d, &l->gate_up[i], &act, d->rows, half + i * ffn, 2 * ffn);
        a.bias = l->bias[BT_MATRIX_GATE + i];
        code = bt_cuda_linear(&a, d->stream);
    }
    bt_cuda_act out = {.k = ffn, .f32 = glu};
    if (code == cudaSuccess)
        code = bt_cuda_silu_mul(half, half + ffn, 2 * (int64_t)ffn, d->rows, ffn, BT_CUDA_ACT_F32,
                                &out, d->stream);
    return code;
}

bt_status bt__cuda_mlp(bt_device *d, int32_t layer, bt_err *err)
{
    if (d->mode == MODE_REPLAY) return BT_OK;
    float *glu = bt__cuda_floats(d, d->at.glu);
    cudaError_t code = gated_unit(d, &d->w.layer[layer], glu);
    const cuda_layer *l = &d->w.layer[layer];
    if (code == cudaSuccess)
        code = project_back(d, &l->down, l->bias[BT_MATRIX_DOWN], glu, d->recipe->layer[0].ffn);
    bt_status st = bt__cuda_check(d, code, "the MLP", err);
    return st ? give_up(d, st) : BT_OK;
}

static cudaError_t head_rows(const bt_device *d)
{
    int32_t hidden = d->recipe->hidden;
    if (d->mode == MODE_REPLAY || d->outs == 0) return cudaSuccess;
    unsigned kinds = kinds_of(d, &d->w.head, 1, d->outs);
    bt_cuda_act act = act_of(d, d->outs, hidden, kinds);
    cudaError_t code = bt_cuda_norm_rms(bt__cuda_floats(d, d->at.x), d->at.ld_x,
                                        bt__cuda_input(d, d->at.in_out_row), d->w.out_norm, d->outs,
                                        hidden, d->recipe->norm_eps, kinds, &act, d->stream);
    bt_cuda_linear_args a =
        linear(d, &d->w.head, &act, d->outs, bt__cuda_floats(d, d->at.logits), d->at.ld_logits);
    return code == cudaSuccess ? bt_cuda_linear(&a, d->stream) : code;
}

/* The whole forward pass of a step whose capture came to nothing. */
static bt_status forward_directly(bt_device *d, bt_err *err)
{
    bt_status st = bt__cuda_embed(d, err);
    for (int32_t l = 0; !st && l < d->recipe->n_layers; l++) {
        st = bt__cuda_attn_in(d, l, err);
        if (!st) st = bt__cuda_attention(d, l, err);
        if (!st) st = bt__cuda_attn_out(d, l, err);
        if (!st) st = bt__cuda_mlp(d, l, err);
    }
    return st ? st : bt__cuda_head(d, err);
}

bt_status bt__cuda_head(bt_device *d, bt_err *err)
{
    bool captured = d->mode == MODE_CAPTURE;
    bt_status st = bt__cuda_check(d, head_rows(d), "the head", err);
    if (!st) st = bt__cuda_graph_end(d, err);
    if (st) return give_up(d, st);
    if (captured && d->mode == MODE_DIRECT) return forward_directly(d, err);
    d->mode = MODE_DIRECT;
    d->n_logits = d->batch->n_out;
    return BT_OK;
}

/* ---- sampling ---- */

typedef struct ask_ends {
    int32_t bias, counts, ban;
} ask_ends;

/* Packs one row's request and its lists; false if the lists do not fit. */
static bool pack_row(const bt_device *d, const cuda_flight *f, const bt_sample_req *q, int32_t i,
                     ask_ends *end)
{
    bt_cuda_sample_row *row = (bt_cuda_sample_row *)(void *)f->ask;
    bt_logit_bias *bias = (bt_logit_bias *)(void *)(f->ask + d->at.ask_bias);
    bt_token_count *counts = (bt_token_count *)(void *)(f->ask + d->at.ask_counts);
    int32_t *ban = (int32_t *)(void *)(f->ask + d->at.ask_ban);
    if (q->n_bias > d->at.bias_max - end->bias || q->n_counts > d->at.counts_max - end->counts ||
        q->n_ban > d->at.ban_max - end->ban)
        return false;
    bt_cuda_sample_pack(q, d->recipe->vocab, end->bias, end->counts, end->ban, -1, &row[i]);
    if (q->n_bias) memcpy(bias + end->bias, q->bias, (size_t)q->n_bias * sizeof *bias);
    if (q->n_counts) memcpy(counts + end->counts, q->counts, (size_t)q->n_counts * sizeof *counts);
    if (q->n_ban) memcpy(ban + end->ban, q->ban, (size_t)q->n_ban * sizeof *ban);
    end->bias += q->n_bias;
    end->counts += q->n_counts;
    end->ban += q->n_ban;
    return true;
}

/* Rows and each list are one copy apiece; lists are seldom there. */
static cudaError_t send_ask(const bt_device *d, const cuda_flight *f, int32_t n, ask_ends end)
{
    const struct {
        size_t at, bytes;
    } part[] = {
        {0, (size_t)n * sizeof(bt_cuda_sample_row)},
        {d->at.ask_bias, (size_t)end.bias * sizeof(bt_logit_bias)},
        {d->at.ask_ban, (size_t)end.ban * sizeof(int32_t)},
        {d->at.ask_counts, (size_t)end.counts * sizeof(bt_token_count)},
    };
    char *dst = bt__cuda_scratch(d, d->at.ask);
    cudaError_t code = cudaSuccess;
    for (size_t i = 0; i < BT_COUNT(part) && code == cudaSuccess; i++)
        if (part[i].bytes > 0)
            code = cudaMemcpyAsync(dst + part[i].at, f->ask + part[i].at, part[i].bytes,
                                   cudaMemcpyHostToDevice, d->stream);
    return code;
}

static cudaError_t run_sampling(bt_device *d, cuda_flight *f, int32_t n, int32_t n_top)
{
    const char *ask = bt__cuda_scratch(d, d->at.ask);
    bt_cuda_sample_args a = {
        .logits = bt__cuda_floats(d, d->at.logits),
        .ld = d->at.ld_logits,
        .rows = n,
        .vocab = d->recipe->vocab,
        .row = (const bt_cuda_sample_row *)(const void *)ask,
        .bias = (const bt_logit_bias *)(const void *)(ask + d->at.ask_bias),
        .counts = (const bt_token_count *)(const void *)(ask + d->at.ask_counts),
        .ban = (const int32_t *)(const void *)(ask + d->at.ask_ban),
        .scratch = bt__cuda_scratch(d, d->at.sample),
        .pick = bt__cuda_scratch(d, d->at.pick),
        .top = bt__cuda_scratch(d, d->at.top),
        .next = bt__cuda_scratch(d, d->at.drawn),
    };
    cudaError_t code = bt_cuda_sample(&a, d->stream);
    if (code == cudaSuccess)
        code = cudaMemcpyAsync(f->pick, a.pick, (size_t)n * sizeof *f->pick, cudaMemcpyDeviceToHost,
                               d->stream);
    if (code == cudaSuccess && n_top > 0)
        code = cudaMemcpyAsync(f->top, a.top, (size_t)n_top * sizeof *f->top,
                               cudaMemcpyDeviceToHost, d->stream);
    return code;
}

bt_status bt__cuda_sample(bt_device *d, const bt_sample_req *reqs, bt_sample_out *outs, bt_err *err)
{
    cuda_flight *f = newest(d);
    int32_t n = d->n_logits, n_top = 0;
    ask_ends end = {0};
    if (n == 0) return BT_OK;
    for (int32_t i = 0; i < n; i++) {
        if (!pack_row(d, f, &reqs[i], i, &end))
            return give_up(d, bt_err_set(err, BT_EINVAL, 0,
                                         "the lists of biases, counts or bans are longer than "
                                         "planned"));
        if (reqs[i].n_logprobs > 0) n_top = i + 1;
    }
    cudaError_t code = send_ask(d, f, n, end);
    if (code == cudaSuccess) code = run_sampling(d, f, n, n_top);
    bt_status st = bt__cuda_check(d, code, "sampling", err);
    if (st) return give_up(d, st);
    f->dst = outs;
    f->n_out = n;
    f->sampled = true;
    return BT_OK;
}

static void deliver(const cuda_flight *f)
{
    for (int32_t i = 0; i < f->n_out; i++) {
        const bt_cuda_sample_pick *p = &f->pick[i];
        bt_sample_out *o = &f->dst[i];
        o->token = p->token;
        o->logprob = p->logprob;
        o->n_top = p->n_top;
        o->bad = p->bad != 0;
        if (p->n_top <= 0) continue;
        memcpy(o->top_token, f->top[i].token, (size_t)p->n_top * sizeof(int32_t));
        memcpy(o->top_logprob, f->top[i].logprob, (size_t)p->n_top * sizeof(float));
    }
}

bt_status bt__cuda_step_submit(bt_device *d, bt_err *err)
{
    cuda_flight *f = newest(d);
    d->batch = NULL;
    d->n_drawn = f->sampled ? f->n_out : 0;
    return bt__cuda_check(d, cudaEventRecord(f->end, d->stream), "ending a step", err);
}

bt_status bt__cuda_step_end(bt_device *d, uint64_t *busy_us, bt_err *err)
{
    float ms = 0;
    BT_ASSERT(d->n_flight > 0);
    cuda_flight *f = &d->flight[d->first];
    cudaError_t code = cudaEventSynchronize(f->end);
    if (code == cudaSuccess) code = cudaEventElapsedTime(&ms, f->begin, f->end);
    d->first = (d->first + 1) % CUDA_STEPS;
    d->n_flight--;
    bt_status st = bt__cuda_check(d, code, "a step", err);
    if (st) return st;
    if (f->sampled) deliver(f);
    /* Whole microseconds, and the rest with the next step: the sum stays the device's own. */
    double us = d->busy_rest_us + (double)ms * 1000;
    *busy_us = us >= 1 ? (uint64_t)us : 1;
    d->busy_rest_us = us - (double)*busy_us;
    return BT_OK;
}

bt_status bt__cuda_logits(bt_device *d, int32_t i, float *dst, bt_err *err)
{
    if (i < 0 || i >= d->n_logits)
        return bt_err_set(err, BT_EINVAL, 0, "row %d of %d rows of logits was asked for", i,
                          d->n_logits);
    const float *src = bt__cuda_floats(d, d->at.logits) + i * d->at.ld_logits;
    cudaError_t code = cudaMemcpyAsync(dst, src, (size_t)d->recipe->vocab * sizeof *dst,
                                       cudaMemcpyDeviceToHost, d->stream);
    if (code == cudaSuccess) code = cudaStreamSynchronize(d->stream);
    return bt__cuda_check(d, code, "reading logits", err);
}
