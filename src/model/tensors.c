/* SPDX-License-Identifier: Apache-2.0 */
/* tensors.c - the table of tensors, and the names that single architectures have for them. */
#include "model/tensors.h"
#include "base/assert.h"
#include <stdio.h>
#include <string.h>

#define LAYER(member) offsetof(bt_layer_weights, member)
#define MODEL(member) offsetof(bt_weights, member)
#define HF_LAYER "model.layers.%d."
#define HF_ATTN HF_LAYER "self_attn."
#define HF_FALCON "transformer.h.%d."
#define QKV                                                                                        \
    {                                                                                              \
        "blk.%d.attn_qkv", HF_ATTN "qkv_proj"                                                      \
    }
#define GATE_UP                                                                                    \
    {                                                                                              \
        "blk.%d.ffn_up", HF_LAYER "mlp.gate_up_proj"                                               \
    }

const bt_tensor bt_tensors[BT_TENSORS] = {
    [BT_MATRIX_Q] =
        {{"blk.%d.attn_q", HF_ATTN "q_proj"}, QKV, BT_SIZE_Q, BT_SIZE_HIDDEN, LAYER(wq), LAYER(bq)},
    [BT_MATRIX_K] = {{"blk.%d.attn_k", HF_ATTN "k_proj"},
                     QKV,
                     BT_SIZE_KV,
                     BT_SIZE_HIDDEN,
                     LAYER(wk),
                     LAYER(bk)},
    [BT_MATRIX_V] = {{"blk.%d.attn_v", HF_ATTN "v_proj"},
                     QKV,
                     BT_SIZE_KV,
                     BT_SIZE_HIDDEN,
                     LAYER(wv),
                     LAYER(bv)},
    [BT_MATRIX_O] = {{"blk.%d.attn_output", HF_ATTN "o_proj"},
                     {0},
                     BT_SIZE_HIDDEN,
                     BT_SIZE_Q,
                     LAYER(wo),
                     LAYER(bo)},
    [BT_MATRIX_GATE] = {{"blk.%d.ffn_gate", HF_LAYER "mlp.gate_proj"},
                        GATE_UP,
                        BT_SIZE_FFN,
                        BT_SIZE_HIDDEN,
                        LAYER(w_gate),
                        LAYER(b_gate)},
    [BT_MATRIX_UP] = {{"blk.%d.ffn_up", HF_LAYER "mlp.up_proj"},
                      GATE_UP,
                      BT_SIZE_FFN,
                      BT_SIZE_HIDDEN,
                      LAYER(w_up),
                      LAYER(b_up)},
    [BT_MATRIX_DOWN] = {{"blk.%d.ffn_down", HF_LAYER "mlp.down_proj"},
                        {0},
                        BT_SIZE_HIDDEN,
                        BT_SIZE_FFN,
                        LAYER(w_down),
                        LAYER(b_down)},
    [BT_TENSOR_ATTN_NORM] = {{"blk.%d.attn_norm", HF_LAYER "input_layernorm"},
                             {0},
                             BT_SIZE_ONE,
                             BT_SIZE_HIDDEN,
                             LAYER(attn_norm),
                             LAYER(attn_norm_b)},
    [BT_TENSOR_ATTN_AFTER] = {{"blk.%d.post_attention_norm", HF_LAYER "post_attention_layernorm"},
                              {0},
                              BT_SIZE_ONE,
                              BT_SIZE_HIDDEN,
                              LAYER(attn_after),
                              LAYER(attn_after_b)},
    [BT_TENSOR_FFN_NORM] = {{"blk.%d.ffn_norm", HF_LAYER "post_attention_layernorm"},
                            {0},
                            BT_SIZE_ONE,
                            BT_SIZE_HIDDEN,
                            LAYER(ffn_norm),
                            LAYER(ffn_norm_b)},
    [BT_TENSOR_FFN_AFTER] = {{"blk.%d.post_ffw_norm", HF_LAYER "post_feedforward_layernorm"},
                             {0},
                             BT_SIZE_ONE,
                             BT_SIZE_HIDDEN,
                             LAYER(ffn_after),
                             LAYER(ffn_after_b)},
    [BT_TENSOR_Q_NORM] = {{"blk.%d.attn_q_norm", HF_ATTN "q_norm"},
                          {0},
                          BT_SIZE_ONE,
                          BT_SIZE_Q_NORM,
                          LAYER(q_norm),
                          0},
    [BT_TENSOR_K_NORM] = {{"blk.%d.attn_k_norm", HF_ATTN "k_norm"},
                          {0},
                          BT_SIZE_ONE,
                          BT_SIZE_K_NORM,
                          LAYER(k_norm),
                          0},
    [BT_TENSOR_EMBED] =
        {{"token_embd", "model.embed_tokens"}, {0}, BT_SIZE_VOCAB, BT_SIZE_HIDDEN, MODEL(embed), 0},
    [BT_TENSOR_POSITIONS] = {{"position_embd", "transformer.wpe"},
                             {0},
                             BT_SIZE_CTX,
                             BT_SIZE_HIDDEN,
                             MODEL(positions),
                             0},
    [BT_TENSOR_EMBED_NORM] = {{"token_embd_norm", "transformer.word_embeddings_layernorm"},
                              {0},
                              BT_SIZE_ONE,
                              BT_SIZE_HIDDEN,
                              MODEL(embed_norm),
                              MODEL(embed_norm_b)},
    [BT_TENSOR_OUT_NORM] = {{"output_norm", "model.norm"},
                            {0},
                            BT_SIZE_ONE,
                            BT_SIZE_HIDDEN,
                            MODEL(out_norm),
                            MODEL(out_norm_b)},
    [BT_TENSOR_HEAD] =
        {{"output", "lm_head"}, {0}, BT_SIZE_VOCAB, BT_SIZE_HIDDEN, MODEL(head), MODEL(head_b)},
    [BT_TENSOR_ROPE] = {{"rope_freqs", NULL},
                        {"rope_factors_short", NULL},
                        BT_SIZE_ONE,
                        BT_SIZE_ROPE,
                        MODEL(rope_divisor),
                        0},
    [BT_TENSOR_ROPE_LONG] =
        {{"rope_factors_long", NULL}, {0}, BT_SIZE_ONE, BT_SIZE_ROPE, MODEL(rope_divisor_long), 0},
};

/* What single architectures call a module, in place of the table's name. A fused one stands once
 * for each of its members. */
static const struct alias {
    const char *archs; // in spaces
    int32_t id;
    bt_naming naming;
    bool fused;
    bt_tensor_form form;
    const char *base;
} aliases[] = {
    {" seed_oss ", BT_TENSOR_FFN_NORM, BT_NAMING_GGUF, false, BT_FORM_ROWS,
     "blk.%d.post_attention_norm"},
    /* falcon's larger models have a norm for each of the two; the first is the feed-forward's. */
    {" falcon ", BT_TENSOR_ATTN_NORM, BT_NAMING_GGUF, false, BT_FORM_ROWS, "blk.%d.attn_norm_2"},
    {" falcon ", BT_TENSOR_ATTN_NORM, BT_NAMING_GGUF, false, BT_FORM_ROWS, "blk.%d.attn_norm"},
    {" falcon ", BT_TENSOR_FFN_NORM, BT_NAMING_GGUF, false, BT_FORM_ROWS, "blk.%d.attn_norm"},
    /* The safetensors of transformers. */
    {" gemma2 gemma3 ", BT_TENSOR_FFN_NORM, BT_NAMING_HF, false, BT_FORM_PLUS_ONE,
     HF_LAYER "pre_feedforward_layernorm"},
    {" gemma gemma2 gemma3 ", BT_TENSOR_ATTN_NORM, BT_NAMING_HF, false, BT_FORM_PLUS_ONE,
     HF_LAYER "input_layernorm"},
    {" gemma ", BT_TENSOR_FFN_NORM, BT_NAMING_HF, false, BT_FORM_PLUS_ONE,
     HF_LAYER "post_attention_layernorm"},
    {" gemma2 gemma3 ", BT_TENSOR_ATTN_AFTER, BT_NAMING_HF, false, BT_FORM_PLUS_ONE,
     HF_LAYER "post_attention_layernorm"},
    {" gemma2 gemma3 ", BT_TENSOR_FFN_AFTER, BT_NAMING_HF, false, BT_FORM_PLUS_ONE,
     HF_LAYER "post_feedforward_layernorm"},
    {" gemma3 ", BT_TENSOR_Q_NORM, BT_NAMING_HF, false, BT_FORM_PLUS_ONE, HF_ATTN "q_norm"},
    {" gemma3 ", BT_TENSOR_K_NORM, BT_NAMING_HF, false, BT_FORM_PLUS_ONE, HF_ATTN "k_norm"},
    {" gemma gemma2 gemma3 ", BT_TENSOR_OUT_NORM, BT_NAMING_HF, false, BT_FORM_PLUS_ONE,
     "model.norm"},
    {" glm4 ", BT_TENSOR_ATTN_AFTER, BT_NAMING_HF, false, BT_FORM_ROWS,
     HF_LAYER "post_self_attn_layernorm"},
    {" glm4 ", BT_TENSOR_FFN_AFTER, BT_NAMING_HF, false, BT_FORM_ROWS,
     HF_LAYER "post_mlp_layernorm"},
    /* gpt2 */
    {" gpt2 ", BT_TENSOR_EMBED, BT_NAMING_HF, false, BT_FORM_ROWS, "transformer.wte"},
    {" gpt2 ", BT_TENSOR_ATTN_NORM, BT_NAMING_HF, false, BT_FORM_ROWS, "transformer.h.%d.ln_1"},
    {" gpt2 ", BT_MATRIX_Q, BT_NAMING_HF, true, BT_FORM_COLUMNS, "transformer.h.%d.attn.c_attn"},
    {" gpt2 ", BT_MATRIX_K, BT_NAMING_HF, true, BT_FORM_COLUMNS, "transformer.h.%d.attn.c_attn"},
    {" gpt2 ", BT_MATRIX_V, BT_NAMING_HF, true, BT_FORM_COLUMNS, "transformer.h.%d.attn.c_attn"},
    {" gpt2 ", BT_MATRIX_O, BT_NAMING_HF, false, BT_FORM_COLUMNS, "transformer.h.%d.attn.c_proj"},
    {" gpt2 ", BT_TENSOR_FFN_NORM, BT_NAMING_HF, false, BT_FORM_ROWS, "transformer.h.%d.ln_2"},
    {" gpt2 ", BT_MATRIX_UP, BT_NAMING_HF, false, BT_FORM_COLUMNS, "transformer.h.%d.mlp.c_fc"},
    {" gpt2 ", BT_MATRIX_DOWN, BT_NAMING_HF, false, BT_FORM_COLUMNS, "transformer.h.%d.mlp.c_proj"},
    {" gpt2 ", BT_TENSOR_OUT_NORM, BT_NAMING_HF, false, BT_FORM_ROWS, "transformer.ln_f"},
    /* gpt_neox */
    {" falcon ", BT_TENSOR_EMBED, BT_NAMING_HF, false, BT_FORM_ROWS, "transformer.word_embeddings"},
    {" falcon ", BT_TENSOR_ATTN_NORM, BT_NAMING_HF, false, BT_FORM_ROWS,
     HF_FALCON "input_layernorm"},
    {" falcon ", BT_TENSOR_ATTN_NORM, BT_NAMING_HF, false, BT_FORM_ROWS, HF_FALCON "ln_attn"},
    {" falcon ", BT_TENSOR_FFN_NORM, BT_NAMING_HF, false, BT_FORM_ROWS, HF_FALCON "ln_mlp"},
    {" falcon ", BT_MATRIX_Q, BT_NAMING_HF, true, BT_FORM_GROUPS,
     HF_FALCON "self_attention.query_key_value"},
    {" falcon ", BT_MATRIX_K, BT_NAMING_HF, true, BT_FORM_GROUPS,
     HF_FALCON "self_attention.query_key_value"},
    {" falcon ", BT_MATRIX_V, BT_NAMING_HF, true, BT_FORM_GROUPS,
     HF_FALCON "self_attention.query_key_value"},
    {" falcon ", BT_MATRIX_O, BT_NAMING_HF, false, BT_FORM_ROWS, HF_FALCON "self_attention.dense"},
    {" falcon ", BT_MATRIX_UP, BT_NAMING_HF, false, BT_FORM_ROWS, HF_FALCON "mlp.dense_h_to_4h"},
    {" falcon ", BT_MATRIX_DOWN, BT_NAMING_HF, false, BT_FORM_ROWS, HF_FALCON "mlp.dense_4h_to_h"},
    {" falcon ", BT_TENSOR_OUT_NORM, BT_NAMING_HF, false, BT_FORM_ROWS, "transformer.ln_f"},
    {" phi2 ", BT_MATRIX_O, BT_NAMING_HF, false, BT_FORM_ROWS, HF_ATTN "dense"},
    {" phi2 ", BT_MATRIX_UP, BT_NAMING_HF, false, BT_FORM_ROWS, HF_LAYER "mlp.fc1"},
    {" phi2 ", BT_MATRIX_DOWN, BT_NAMING_HF, false, BT_FORM_ROWS, HF_LAYER "mlp.fc2"},
    {" phi2 ", BT_TENSOR_OUT_NORM, BT_NAMING_HF, false, BT_FORM_ROWS, "model.final_layernorm"},
    {" starcoder2 ", BT_MATRIX_UP, BT_NAMING_HF, false, BT_FORM_ROWS, HF_LAYER "mlp.c_fc"},
    {" starcoder2 ", BT_MATRIX_DOWN, BT_NAMING_HF, false, BT_FORM_ROWS, HF_LAYER "mlp.c_proj"},
    {" nemotron ", BT_TENSOR_ATTN_NORM, BT_NAMING_HF, false, BT_FORM_PLUS_ONE,
     HF_LAYER "input_layernorm"},
    {" nemotron ", BT_TENSOR_FFN_NORM, BT_NAMING_HF, false, BT_FORM_PLUS_ONE,
     HF_LAYER "post_attention_layernorm"},
    {" nemotron ", BT_TENSOR_OUT_NORM, BT_NAMING_HF, false, BT_FORM_PLUS_ONE, "model.norm"},
    {" gptneox ", BT_TENSOR_EMBED, BT_NAMING_HF, false, BT_FORM_ROWS, "gpt_neox.embed_in"},
    {" gptneox ", BT_TENSOR_ATTN_NORM, BT_NAMING_HF, false, BT_FORM_ROWS,
     "gpt_neox.layers.%d.input_layernorm"},
    {" gptneox ", BT_MATRIX_Q, BT_NAMING_HF, true, BT_FORM_GROUPS,
     "gpt_neox.layers.%d.attention.query_key_value"},
    {" gptneox ", BT_MATRIX_K, BT_NAMING_HF, true, BT_FORM_GROUPS,
     "gpt_neox.layers.%d.attention.query_key_value"},
    {" gptneox ", BT_MATRIX_V, BT_NAMING_HF, true, BT_FORM_GROUPS,
     "gpt_neox.layers.%d.attention.query_key_value"},
    {" gptneox ", BT_MATRIX_O, BT_NAMING_HF, false, BT_FORM_ROWS,
     "gpt_neox.layers.%d.attention.dense"},
    {" gptneox ", BT_TENSOR_FFN_NORM, BT_NAMING_HF, false, BT_FORM_ROWS,
     "gpt_neox.layers.%d.post_attention_layernorm"},
    {" gptneox ", BT_MATRIX_UP, BT_NAMING_HF, false, BT_FORM_ROWS,
     "gpt_neox.layers.%d.mlp.dense_h_to_4h"},
    {" gptneox ", BT_MATRIX_DOWN, BT_NAMING_HF, false, BT_FORM_ROWS,
     "gpt_neox.layers.%d.mlp.dense_4h_to_h"},
    {" gptneox ", BT_TENSOR_OUT_NORM, BT_NAMING_HF, false, BT_FORM_ROWS,
     "gpt_neox.final_layer_norm"},
    {" gptneox ", BT_TENSOR_HEAD, BT_NAMING_HF, false, BT_FORM_ROWS, "embed_out"},
};

int32_t bt_tensor_size_of(const bt_recipe *r, int32_t layer, bt_tensor_size size)
{
    const bt_layer_recipe *l = &r->layer[layer];
    switch (size) {
    case BT_SIZE_ONE: return 1;
    case BT_SIZE_HIDDEN: return r->hidden;
    case BT_SIZE_VOCAB: return r->vocab;
    case BT_SIZE_CTX: return r->ctx_train;
    case BT_SIZE_FFN: return l->ffn;
    case BT_SIZE_Q: return l->n_heads * l->head_dim;
    case BT_SIZE_KV: return l->n_kv_heads * l->head_dim;
    case BT_SIZE_Q_NORM:
        return l->qk_norm == BT_QK_NORM_ROW ? l->n_heads * l->head_dim : l->head_dim;
    case BT_SIZE_K_NORM:
        return l->qk_norm == BT_QK_NORM_ROW ? l->n_kv_heads * l->head_dim : l->head_dim;
    case BT_SIZE_ROPE: return r->rope[0].dim / 2;
    }
    return 0;
}

static bt_tensor_need must_if(bool condition)
{
    return condition ? BT_NEED_MUST : BT_NEED_NOT;
}

static bt_tensor_need weight_needed(const bt_recipe *r, const bt_layer_recipe *l, int32_t id)
{
    switch (id) {
    case BT_MATRIX_GATE: return must_if(!l->plain);
    case BT_TENSOR_ATTN_NORM: return must_if(l->norm_before && !r->bare_norms);
    case BT_TENSOR_OUT_NORM: return must_if(!r->bare_norms);
    case BT_TENSOR_EMBED_NORM: return must_if(r->embed_norm);
    case BT_TENSOR_FFN_NORM:
        if (r->bare_norms) return BT_NEED_NOT;
        return l->norm_before && l->parallel ? BT_NEED_MAY : must_if(l->norm_before);
    case BT_TENSOR_ATTN_AFTER:
    case BT_TENSOR_FFN_AFTER: return must_if(l->norm_after);
    case BT_TENSOR_Q_NORM:
    case BT_TENSOR_K_NORM: return must_if(l->qk_norm != BT_QK_NORM_NONE);
    case BT_TENSOR_POSITIONS: return must_if(r->learned_positions);
    case BT_TENSOR_HEAD: return must_if(!r->tied_head);
    case BT_TENSOR_ROPE:
    case BT_TENSOR_ROPE_LONG: return r->rope[0].style == BT_ROPE_NONE ? BT_NEED_NOT : BT_NEED_MAY;
    default: return BT_NEED_MUST;
    }
}

bt_tensor_need bt_tensor_needed(const bt_recipe *r, int32_t layer, int32_t id, bool bias)
{
    bt_tensor_need need = weight_needed(r, &r->layer[layer], id);
    if (!bias || need == BT_NEED_NOT) return need;
    if (bt_tensors[id].bias_at == 0) return BT_NEED_NOT;
    return bt_tensor_is_vector(id) && r->norm == BT_NORM_RMS ? BT_NEED_NOT : BT_NEED_MAY;
}

/* What stands before it in the module that it shares with its neighbours, and all of that. */
static void span_of(const bt_recipe *r, int32_t layer, int32_t id, bt_tensor_place *p)
{
    bool gated = id == BT_MATRIX_GATE || id == BT_MATRIX_UP;
    int32_t first = gated ? BT_MATRIX_GATE : BT_MATRIX_Q, last = gated ? BT_MATRIX_UP : BT_MATRIX_V;
    p->first = p->rows = 0;
    for (int32_t i = first; i <= last; i++) {
        if (i == id) p->first = p->rows;
        p->rows += bt_tensor_size_of(r, layer, bt_tensors[i].rows);
    }
}

static void fill(const bt_recipe *r, int32_t layer, int32_t id, bool bias, bool fused,
                 bt_tensor_form form, const char *base, bt_tensor_place *p)
{
    const char *mark = strstr(base, "%d");
    int head = mark ? (int)(mark - base) : (int)strlen(base);
    char number[16] = "";
    if (mark) snprintf(number, sizeof number, "%d", layer);
    snprintf(p->name, sizeof p->name, "%.*s%s%s%s", head, base, number, mark ? mark + 2 : "",
             bias ? ".bias" : ".weight");
    p->form = bias && form == BT_FORM_COLUMNS ? BT_FORM_ROWS : form;
    p->first = 0;
    p->rows = bt_tensor_size_of(r, layer, bt_tensors[id].rows);
    if (fused && !bt_tensor_is_vector(id)) span_of(r, layer, id, p);
}

int32_t bt_tensor_places(const bt_recipe *r, int32_t layer, int32_t id, bool bias, bt_naming naming,
                         bt_tensor_place out[static BT_TENSOR_PLACES_MAX])
{
    const bt_tensor *t = &bt_tensors[id];
    char arch[sizeof r->arch + 2];
    int32_t n = 0;
    snprintf(arch, sizeof arch, " %s ", r->arch);
    for (size_t i = 0; i < BT_COUNT(aliases) && n < BT_TENSOR_PLACES_MAX; i++) {
        const struct alias *a = &aliases[i];
        if (a->id == id && a->naming == naming && strstr(a->archs, arch))
            fill(r, layer, id, bias, a->fused, a->form, a->base, &out[n++]);
    }
    if (n > 0) return n;
    if (t->base[naming]) fill(r, layer, id, bias, false, BT_FORM_ROWS, t->base[naming], &out[n++]);
    if (t->fused[naming]) fill(r, layer, id, bias, true, BT_FORM_ROWS, t->fused[naming], &out[n++]);
    return n;
}

const char *bt_tensor_name(const bt_recipe *r, int32_t layer, int32_t id, bt_naming naming,
                           char dst[static BT_TENSOR_NAME_MAX])
{
    bt_tensor_place place[BT_TENSOR_PLACES_MAX];
    int32_t n = bt_tensor_places(r, layer, id, false, naming, place);
    snprintf(dst, BT_TENSOR_NAME_MAX, "%s", n ? place[0].name : "");
    return dst;
}
