/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - reads a config.json into a recipe, by four tables.
 *
 * types[]     what the class of a model_type takes where the file says nothing;
 * ints[]      the whole numbers, with the names that families have for them, and their bounds;
 * features[]  fields whose effect a recipe cannot express;
 * scalings[]  rope_type.
 * What an architecture fixes without a file saying so is in arch.c. */
#include "model/config.h"
#include "base/assert.h"
#include "model/arch.h"
#include "model/config_json.h"
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* As transformers' configuration classes have it (5.x). 0 in kv_heads: as many as heads; in
 * head_dim: width / heads; in ffn: 4 * width. turn: the part of a head that rope turns. window:
 * where the file has none. half: GGUF has the rows of q and k in another order, in which pairs
 * stand together; here they are in halves. */
static const struct type {
    const char *model_type, *arch;
    int32_t hidden, ffn, layers, heads, kv_heads, head_dim, vocab, ctx, window;
    double eps, theta, turn;
    bool tied, half;
} types[] = {
    {"llama", "llama", 4096, 11008, 32, 32, 0, 0, 32000, 2048, 0, 1e-6, 10000, 1, false, true},
    {"mistral", "llama", 4096, 14336, 32, 32, 8, 0, 32000, 131072, 4096, 1e-6, 10000, 1, false,
     true},
    {"ministral3", "mistral3", 4096, 14336, 34, 32, 8, 128, 131072, 262144, 0, 1e-5, 1e6, 1, false,
     true},
    {"arcee", "arcee", 2560, 18432, 32, 32, 0, 0, 32000, 4096, 0, 1e-5, 10000, 1, false, true},
    {"olmo", "olmo", 4096, 11008, 32, 32, 0, 0, 50304, 2048, 0, 1e-5, 10000, 1, false, true},
    {"qwen2", "qwen2", 4096, 22016, 32, 32, 32, 0, 151936, 32768, 0, 1e-6, 10000, 1, false, false},
    {"qwen2_vl_text", "qwen2", 8192, 29568, 80, 64, 8, 0, 152064, 32768, 0, 1e-5, 1e6, 1, false,
     false},
    {"qwen2_5_vl_text", "qwen2", 8192, 29568, 80, 64, 8, 0, 152064, 32768, 0, 1e-5, 1e6, 1, false,
     false},
    {"qwen3", "qwen3", 4096, 22016, 32, 32, 32, 128, 151936, 32768, 0, 1e-6, 10000, 1, false,
     false},
    {"qwen3_vl_text", "qwen3", 4096, 22016, 32, 32, 32, 128, 151936, 128000, 0, 1e-6, 5e5, 1, false,
     false},
    {"phi3", "phi3", 3072, 8192, 32, 32, 0, 0, 32064, 4096, 0, 1e-5, 10000, 1, false, false},
    {"phi", "phi2", 2048, 8192, 24, 32, 0, 0, 51200, 2048, 0, 1e-5, 10000, 0.5, false, false},
    {"gemma", "gemma", 3072, 24576, 28, 16, 16, 256, 256000, 8192, 0, 1e-6, 10000, 1, true, false},
    {"gemma2", "gemma2", 2304, 9216, 26, 8, 4, 256, 256000, 8192, 4096, 1e-6, 10000, 1, true,
     false},
    {"gemma3_text", "gemma3", 2304, 9216, 26, 8, 4, 256, 262208, 131072, 4096, 1e-6, 1e6, 1, true,
     false},
    {"granite", "granite", 4096, 11008, 32, 32, 0, 0, 32000, 2048, 0, 1e-6, 10000, 1, false, true},
    {"smollm3", "smollm3", 2048, 11008, 36, 16, 4, 0, 128256, 32768, 0, 1e-6, 2e6, 1, true, true},
    {"olmo2", "olmo2", 4096, 11008, 32, 32, 0, 0, 50304, 2048, 0, 1e-5, 10000, 1, false, false},
    {"olmo3", "olmo2", 4096, 11008, 32, 32, 0, 0, 50304, 2048, 4096, 1e-5, 5e5, 1, false, false},
    {"glm4", "glm4", 4096, 13696, 40, 32, 2, 128, 151552, 131072, 0, 1.5625e-7, 10000, 0.5, false,
     false},
    {"exaone4", "exaone4", 4096, 16384, 32, 32, 32, 0, 102400, 2048, 4096, 1e-5, 10000, 1, false,
     false},
    {"cohere", "command-r", 8192, 22528, 40, 64, 0, 0, 256000, 8192, 0, 1e-5, 5e5, 1, true, false},
    {"cohere2", "cohere2", 8192, 22528, 40, 64, 0, 0, 256000, 8192, 4096, 1e-5, 10000, 1, true,
     false},
    {"starcoder2", "starcoder2", 3072, 12288, 30, 24, 2, 0, 49152, 4096, 0, 1e-5, 10000, 1, true,
     false},
    {"stablelm", "stablelm", 2560, 6912, 32, 32, 32, 0, 50304, 4096, 0, 1e-5, 10000, 0.25, false,
     false},
    {"gpt2", "gpt2", 768, 0, 12, 12, 0, 0, 50257, 1024, 0, 1e-5, 10000, 1, true, false},
    {"gpt_neox", "gptneox", 6144, 24576, 44, 64, 0, 0, 50432, 2048, 0, 1e-5, 10000, 0.25, false,
     false},
    {"falcon", "falcon", 4544, 0, 32, 71, 0, 0, 65024, 2048, 0, 1e-5, 10000, 1, true, false},
    {"nemotron", "nemotron", 6144, 24576, 32, 48, 0, 0, 256000, 4096, 0, 1e-5, 10000, 0.5, false,
     false},
    {"seed_oss", "seed_oss", 4096, 27648, 64, 80, 8, 128, 155136, 524288, 0, 1e-6, 10000, 1, false,
     false},
    {"ernie4_5", "ernie4_5", 1024, 3072, 18, 16, 2, 128, 103424, 131072, 0, 1e-5, 5e5, 1, true,
     false},
};

/* The text part's own type where a multimodal file leaves it out. */
static const struct {
    const char *outer, *text;
} text_types[] = {
    {"gemma3", "gemma3_text"},     {"mistral3", "mistral"},           {"llava", "llama"},
    {"qwen2_vl", "qwen2_vl_text"}, {"qwen2_5_vl", "qwen2_5_vl_text"}, {"qwen3_vl", "qwen3_vl_text"},
};

enum { NAMES_MAX = 4 };

/* `layered`: into each layer's recipe. */
static const struct int_field {
    const char *name[NAMES_MAX];
    int32_t min, max;
    bool layered;
    size_t offset;   // in bt_layer_recipe, or bt_recipe
    size_t default_; // in struct type
} ints[] = {
    {{"num_hidden_layers", "n_layer", "n_layers", "num_layers"},
     1,
     BT_LAYERS_MAX,
     false,
     offsetof(bt_recipe, n_layers),
     offsetof(struct type, layers)},
    {{"hidden_size", "n_embd", "d_model", "dim"},
     1,
     1 << 16,
     false,
     offsetof(bt_recipe, hidden),
     offsetof(struct type, hidden)},
    {{"vocab_size"}, 1, 1 << 22, false, offsetof(bt_recipe, vocab), offsetof(struct type, vocab)},
    {{"max_position_embeddings", "n_positions", "max_seq_len"},
     1,
     1 << 24,
     false,
     offsetof(bt_recipe, ctx_train),
     offsetof(struct type, ctx)},
    {{"intermediate_size", "n_inner", "ffn_hidden_size"},
     1,
     1 << 18,
     true,
     offsetof(bt_layer_recipe, ffn),
     offsetof(struct type, ffn)},
    {{"num_attention_heads", "n_head", "n_heads"},
     1,
     1024,
     true,
     offsetof(bt_layer_recipe, n_heads),
     offsetof(struct type, heads)},
    {{"num_key_value_heads", "num_kv_heads"},
     1,
     1024,
     true,
     offsetof(bt_layer_recipe, n_kv_heads),
     offsetof(struct type, kv_heads)},
    {{"head_dim"},
     2,
     2 * BT_CONFIG_PAIRS_MAX,
     true,
     offsetof(bt_layer_recipe, head_dim),
     offsetof(struct type, head_dim)},
};

/* A field that is there, and is no null, 0, false or [], asks for it. */
static const struct {
    const char *name, *what;
} features[] = {
    {"num_local_experts", "a mixture of experts"},
    {"num_experts", "a mixture of experts"},
    {"n_routed_experts", "a mixture of experts"},
    {"moe_num_experts", "a mixture of experts"},
    {"num_experts_per_tok", "a mixture of experts"},
    {"kv_lora_rank", "latent attention"},
    {"index_topk", "sparse attention"},
    {"compress_ratios", "compressed attention"},
    {"linear_num_value_heads", "layers with a state"},
    {"mamba_num_heads", "layers with a state"},
    {"mamba_d_state", "layers with a state"},
    {"hybrid_override_pattern", "layers with a state"},
    {"conv_L_cache", "layers with a state"},
    {"hidden_size_per_layer_input", "embeddings for each layer"},
    {"num_kv_shared_layers", "keys and values that layers share"},
    {"attention_k_eq_v", "values that are the keys"},
    {"block_configs", "blocks that differ from layer to layer"},
    {"alibi", "ALiBi positions"},
    {"use_qk_norm", "norms of q and k"},
    {"qk_layernorm", "norms of q and k"},
    {"scale_attn_by_inverse_layer_idx", "scales that differ from layer to layer"},
    {"is_encoder_decoder", "an encoder"},
    {"use_bidirectional_attention", "attention without a causal mask (an encoder)"},
    {"attention_chunk_size", "attention in chunks"},
    {"num_nextn_predict_layers", "multi-token prediction layers"},
};

/* The object that describes the text, the whole file's, and the rope's. */
typedef struct reader {
    bt__config file, text, rope;
    const bt__config *c; // text, or file where there is no text_config
    const struct type *type;
    const bt_arch *arch;
    bt_recipe *r;
    bt_config *out;
} reader;

static bt_status unsupported(const reader *in, const char *field, const char *what, bt_err *err)
{
    return bt_err_set(err, BT_EUNSUPPORTED, 0,
                      "%s asks for %s ('%s%s'), which this build does not support", in->c->label,
                      what, in->c->inside, field);
}

/* Which feature the file asks for; NULL: none of those. */
static const char *asked(const bt__config *c, const char **field)
{
    for (size_t i = 0; i < BT_COUNT(features); i++) {
        double number = 0;
        bool yes = false;
        bt_json_kind kind = bt__config_kind(c, features[i].name);
        if (kind == BT_JSON_NUMBER) bt__config_num(c, features[i].name, -1e9, 1e9, &number, NULL);
        if (kind == BT_JSON_BOOL) bt__config_bool(c, features[i].name, &yes, NULL);
        if (number == 0 && !yes && kind != BT_JSON_ARRAY && kind != BT_JSON_OBJECT &&
            kind != BT_JSON_STRING)
            continue;
        *field = features[i].name;
        return features[i].what;
    }
    return NULL;
}

static void supported_types(char *dst, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i < BT_COUNT(types); i++) {
        const char *name = types[i].model_type;
        if (!bt_arch_find(types[i].arch, strlen(types[i].arch))) continue;
        bool full = at + strlen(name) + sizeof ", ..." + 2 > n;
        at += (size_t)snprintf(dst + at, n - at, "%s%s", at ? ", " : "", full ? "..." : name);
        if (full) break;
    }
}

/* By the text part's model_type. */
static bt_status find_type(reader *in, bt_err *err)
{
    bt_str outer = {0}, name = {0};
    const char *field = NULL, *what;
    char known[120] = "";
    bt_status st = bt__config_str(&in->file, "model_type", &outer, err);
    if (!st) st = bt__config_object(&in->file, "text_config", "text_config.", &in->text, err);
    if (st) return st;
    in->out->multimodal = in->text.n > 0 || bt__config_span(&in->file, "vision_config") ||
                          bt__config_span(&in->file, "audio_config");
    in->c = in->text.n ? &in->text : &in->file;
    if ((st = bt__config_str(in->c, "model_type", &name, err))) return st;
    for (size_t i = 0; i < BT_COUNT(text_types); i++)
        if (bt_str_equals(outer, text_types[i].outer) && (in->c == &in->file || !name.s))
            name = (bt_str){text_types[i].text, strlen(text_types[i].text)};
    if (!name.s)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s lacks '%smodel_type', which says what the model is", in->c->label,
                          in->c->inside);
    for (size_t i = 0; i < BT_COUNT(types); i++)
        if (bt_str_equals(name, types[i].model_type)) in->type = &types[i];
    if (in->type) in->arch = bt_arch_find(in->type->arch, strlen(in->type->arch));
    if (in->arch) return BT_OK;
    what = asked(in->c, &field);
    supported_types(known, sizeof known);
    return bt_err_set(err, BT_EUNSUPPORTED, 0,
                      "%s: model_type '%s'%s%s%s is not supported; supported are %s", in->c->label,
                      bt_str_shown(name).s, what ? " (" : "", what ? what : "", what ? ")" : "",
                      known);
}

static bt_status read_ints(reader *in, bt_err *err)
{
    for (size_t i = 0; i < BT_COUNT(ints); i++) {
        const struct int_field *f = &ints[i];
        int32_t v;
        memcpy(&v, (const char *)in->type + f->default_, sizeof v);
        int64_t have = v;
        for (int k = NAMES_MAX; k-- > 0;) { // the first name counts
            bt_status st =
                f->name[k] ? bt__config_int(in->c, f->name[k], f->min, f->max, &have, err) : BT_OK;
            if (st) return st;
        }
        v = (int32_t)have;
        if (!f->layered) memcpy((char *)in->r + f->offset, &v, sizeof v);
        for (int32_t l = 0; f->layered && l < in->r->n_layers; l++)
            memcpy((char *)&in->r->layer[l] + f->offset, &v, sizeof v);
    }
    return BT_OK;
}

/* Head sizes and what must divide what. */
static bt_status check_heads(reader *in, bt_err *err)
{
    double turn = in->type->turn;
    bt_layer_recipe *l = &in->r->layer[0];
    if (l->n_kv_heads == 0) l->n_kv_heads = l->n_heads;
    if (l->n_heads % l->n_kv_heads)
        return bt_err_set(
            err, BT_EFORMAT, 0,
            "%s: 'num_attention_heads' %d cannot share 'num_key_value_heads' %d evenly",
            in->c->label, l->n_heads, l->n_kv_heads);
    if (l->head_dim == 0 && in->r->hidden % l->n_heads)
        return bt_err_set(
            err, BT_EFORMAT, 0,
            "%s: 'num_attention_heads' %d do not divide 'hidden_size' %d, and there is "
            "no 'head_dim'",
            in->c->label, l->n_heads, in->r->hidden);
    if (l->head_dim == 0) l->head_dim = in->r->hidden / l->n_heads;
    bt_status st = bt__config_num(in->c, "rotary_pct", 0, 1, &turn, err);
    if (!st) st = bt__config_num(in->c, "partial_rotary_factor", 0, 1, &turn, err);
    if (!st) st = bt__config_num(&in->rope, "partial_rotary_factor", 0, 1, &turn, err);
    if (st) return st;
    in->r->rope[0].dim = (int32_t)(l->head_dim * turn);
    if (l->head_dim % 2 || in->r->rope[0].dim % 2 || in->r->rope[0].dim == 0)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s: rope over %d of 'head_dim' %d numbers cannot be (both even, not 0)",
                          in->c->label, in->r->rope[0].dim, l->head_dim);
    for (int32_t i = 1; i < in->r->n_layers; i++) {
        in->r->layer[i].n_kv_heads = l->n_kv_heads;
        in->r->layer[i].head_dim = l->head_dim;
    }
    return BT_OK;
}

/* ---- rope */

/* The object with rope_type; of one for each kind of layer, that of the full ones. */
static bt_status find_rope(reader *in, double *local_theta, bt_err *err)
{
    bt__config all = {0};
    bt_status st = bt__config_object(in->c, "rope_parameters", "rope_parameters.", &all, err);
    if (st) return st;
    if (bt__config_kind(&all, "full_attention") == BT_JSON_OBJECT) {
        bt__config local = {0};
        st = bt__config_object(&all, "sliding_attention", "rope_parameters.sliding_attention.",
                               &local, err);
        if (!st) st = bt__config_num(&local, "rope_theta", 1e-3, 1e30, local_theta, err);
        if (!st)
            st = bt__config_object(&all, "full_attention", "rope_parameters.full_attention.",
                                   &in->rope, err);
        bt__config_close(&local);
        bt__config_close(&all);
        return st;
    }
    if (all.n) {
        in->rope = all;
        return BT_OK;
    }
    return bt__config_object(in->c, "rope_scaling", "rope_scaling.", &in->rope, err);
}

static bt_status lacks(const reader *in, const char *field, bt_err *err)
{
    return bt_err_set(err, BT_EFORMAT, 0, "%s lacks '%s%s'", in->rope.label, in->rope.inside,
                      field);
}

/* The context that the model was trained with before it was stretched. */
static bt_status read_original(const reader *in, int64_t *out, bt_err *err)
{
    static const char name[] = "original_max_position_embeddings";
    bt_status st = bt__config_int(in->c, name, 1, 1 << 24, out, err);
    return st ? st : bt__config_int(&in->rope, name, 1, 1 << 24, out, err);
}

static bt_status scale_linear(reader *in, bt_rope *rope, bt_err *err)
{
    (void)in, (void)err;
    if (rope->factor != 1) rope->scaling = BT_ROPE_SCALING_LINEAR;
    return BT_OK;
}

/* Frequencies change with the length once it is past the training's: up to there nothing does. */
static bt_status scale_dynamic(reader *in, bt_rope *rope, bt_err *err)
{
    int64_t original = in->r->ctx_train;
    double alpha = 0;
    bt_status st = read_original(in, &original, err);
    if (!st) st = bt__config_num(&in->rope, "alpha", 0, 1e9, &alpha, err);
    if (st) return st;
    if (alpha > 0) return unsupported(in, "rope_scaling.alpha", "a rope stretched by alpha", err);
    rope->factor = 1;
    in->r->ctx_train = (int32_t)BT_MIN(original, in->r->ctx_train);
    return BT_OK;
}

static bt_status scale_llama3(reader *in, bt_rope *rope, bt_err *err)
{
    double low = 0, high = 0;
    int64_t original = 0;
    bt_status st = bt__config_num(&in->rope, "low_freq_factor", 1e-6, 1e6, &low, err);
    if (!st) st = bt__config_num(&in->rope, "high_freq_factor", 1e-6, 1e6, &high, err);
    if (!st) st = read_original(in, &original, err);
    if (st) return st;
    if (low == 0) return lacks(in, "low_freq_factor", err);
    if (high == 0) return lacks(in, "high_freq_factor", err);
    if (original == 0) return lacks(in, "original_max_position_embeddings", err);
    if (high <= low)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s: '%shigh_freq_factor' %g has to be above 'low_freq_factor' %g",
                          in->rope.label, in->rope.inside, high, low);
    rope->scaling = BT_ROPE_SCALING_LLAMA3;
    rope->low = (float)low;
    rope->high = (float)high;
    rope->orig_ctx = (int32_t)original;
    return BT_OK;
}

static double yarn_mscale(double factor, double m)
{
    return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1;
}

static bt_status scale_yarn(reader *in, bt_rope *rope, bt_err *err)
{
    double fast = 32, slow = 1, amplitude = 0, mscale = 0, mscale_all = 0;
    bool truncate = true;
    int64_t original = in->r->ctx_train;
    bt_status st = bt__config_num(&in->rope, "beta_fast", 1e-6, 1e6, &fast, err);
    if (!st) st = bt__config_num(&in->rope, "beta_slow", 1e-6, 1e6, &slow, err);
    if (!st) st = bt__config_num(&in->rope, "attention_factor", 1e-6, 1e6, &amplitude, err);
    if (!st) st = bt__config_num(&in->rope, "mscale", 0, 1e6, &mscale, err);
    if (!st) st = bt__config_num(&in->rope, "mscale_all_dim", 0, 1e6, &mscale_all, err);
    if (!st) st = bt__config_bool(&in->rope, "truncate", &truncate, err);
    if (!st) st = read_original(in, &original, err);
    if (st) return st;
    if (!truncate) return unsupported(in, "truncate", "yarn without truncation", err);
    double factor = (double)rope->factor;
    if (amplitude == 0 && mscale > 0 && mscale_all > 0)
        amplitude = yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all);
    if (amplitude == 0) amplitude = yarn_mscale(factor, 1);
    rope->scaling = BT_ROPE_SCALING_YARN;
    rope->low = (float)slow;
    rope->high = (float)fast;
    rope->orig_ctx = (int32_t)original;
    rope->amplitude = (float)amplitude;
    return BT_OK;
}

static bt_status read_divisors(const reader *in, const char *name, float *dst, bt_err *err)
{
    double v[BT_CONFIG_PAIRS_MAX];
    size_t n = 0, want = (size_t)in->r->rope[0].dim / 2;
    bt_status st = bt__config_nums(&in->rope, name, v, BT_CONFIG_PAIRS_MAX, &n, err);
    if (st) return st;
    for (size_t i = 0; i < n; i++)
        if (!(v[i] > 0 && v[i] < 1e9)) n = 0;
    if (n != want)
        return bt_err_set(err, BT_EFORMAT, 0, "%s: '%s%s' has to be a list of %zu numbers above 0",
                          in->rope.label, in->rope.inside, name, want);
    for (size_t i = 0; i < n; i++) dst[i] = (float)v[i];
    return BT_OK;
}

static bt_status scale_longrope(reader *in, bt_rope *rope, bt_err *err)
{
    double amplitude = 0;
    int64_t original = 0;
    bt_status st = read_divisors(in, "short_factor", in->out->divisor, err);
    if (!st) st = read_divisors(in, "long_factor", in->out->divisor_long, err);
    if (!st) st = bt__config_num(&in->rope, "attention_factor", 1e-6, 1e6, &amplitude, err);
    if (!st) st = read_original(in, &original, err);
    if (st) return st;
    if (original == 0) return lacks(in, "original_max_position_embeddings", err);
    double factor = (double)in->r->ctx_train / (double)original;
    if (amplitude == 0) amplitude = factor <= 1 ? 1 : sqrt(1 + log(factor) / log((double)original));
    rope->factor = 1;
    rope->amplitude = (float)amplitude;
    rope->orig_ctx = (int32_t)original;
    in->out->n_pairs = in->r->rope[0].dim / 2;
    return BT_OK;
}

static const struct {
    const char *name;
    bt_status (*read)(reader *in, bt_rope *rope, bt_err *err);
    bool factor; // has to have one
} scalings[] = {
    {"default", scale_linear, false},
    {"linear", scale_linear, true},
    {"dynamic", scale_dynamic, true},
    {"llama3", scale_llama3, true},
    {"yarn", scale_yarn, true},
    {"longrope", scale_longrope, false},
    {"su", scale_longrope, false},
    {"mrope", scale_linear, false}, // text has one position on all axes
};

static bt_status read_rope(reader *in, bt_err *err)
{
    bt_str type = {"default", 7};
    double theta = in->type->theta, factor = 0;
    bt_rope *rope = &in->r->rope[0];
    bt_status st = bt__config_num(in->c, "rotary_emb_base", 1e-3, 1e30, &theta, err);
    if (!st) st = bt__config_num(in->c, "rope_theta", 1e-3, 1e30, &theta, err);
    if (!st) st = bt__config_num(&in->rope, "rope_theta", 1e-3, 1e30, &theta, err);
    if (!st) st = bt__config_str(&in->rope, "type", &type, err);
    if (!st) st = bt__config_str(&in->rope, "rope_type", &type, err);
    if (!st) st = bt__config_num(&in->rope, "factor", 1e-6, 1e6, &factor, err);
    if (st) return st;
    rope->theta = (float)theta;
    rope->factor = (float)(factor > 0 ? factor : 1);
    rope->amplitude = 1;
    for (size_t i = 0; i < BT_COUNT(scalings); i++) {
        if (!bt_str_equals(type, scalings[i].name)) continue;
        if (scalings[i].factor && factor == 0) return lacks(in, "factor", err);
        return scalings[i].read(in, rope, err);
    }
    return bt_err_set(err, BT_EUNSUPPORTED, 0,
                      "%s asks for rope scaling '%s' ('%srope_type'), which this build does not "
                      "support; default, linear, dynamic, llama3, yarn and longrope are",
                      in->rope.label, bt_str_shown(type).s, in->rope.inside);
}

/* ---- the rest */

/* The names that a family has for one number, the first that is there. */
static bt_status read_num(const reader *in, const char *const *name, size_t n, double min,
                          double max, double *out, bt_err *err)
{
    for (size_t i = n; i-- > 0;) {
        bt_status st = bt__config_num(in->c, name[i], min, max, out, err);
        if (st) return st;
    }
    return BT_OK;
}

static bt_status read_scales(reader *in, bt_err *err)
{
    static const char *const eps_names[] = {"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon",
                                            "norm_epsilon", "norm_eps"};
    double eps = in->type->eps, scale = 0, pre = 0, embed = 1, residual = 1, logit = 1, times = 1,
           attn_cap = 0, logit_cap = 0, clamp = 0, growth = 0;
    bt_recipe *r = in->r;
    bt_status st = read_num(in, eps_names, BT_COUNT(eps_names), 1e-30, 1, &eps, err);
    if (!st) st = bt__config_num(in->c, "attention_multiplier", 1e-9, 1e6, &scale, err);
    if (!st) st = bt__config_num(in->c, "query_pre_attn_scalar", 1e-9, 1e9, &pre, err);
    if (!st) st = bt__config_num(in->c, "embedding_multiplier", 1e-9, 1e9, &embed, err);
    if (!st) st = bt__config_num(in->c, "residual_multiplier", 1e-9, 1e9, &residual, err);
    if (!st) st = bt__config_num(in->c, "logits_scaling", 1e-9, 1e9, &logit, err);
    if (!st && in->arch->flags & BT_ARCH_LOGIT_TIMES)
        st = bt__config_num(in->c, "logit_scale", 1e-9, 1e9, &times, err);
    if (!st) st = bt__config_num(in->c, "attn_logit_softcapping", 1e-9, 1e9, &attn_cap, err);
    if (!st) st = bt__config_num(in->c, "final_logit_softcapping", 1e-9, 1e9, &logit_cap, err);
    if (!st) st = bt__config_num(in->c, "clip_qkv", 1e-9, 1e9, &clamp, err);
    if (!st) st = bt__config_num(&in->rope, "llama_4_scaling_beta", 0, 1e6, &growth, err);
    if (st) return st;
    r->norm_eps = (float)eps;
    r->embed_scale = (float)embed;
    r->residual_scale = (float)residual;
    r->logit_scale = (float)(times / logit);
    r->logit_cap = (float)logit_cap;
    if (pre > 0 && scale == 0) scale = 1 / sqrt(pre);
    if (scale == 0) scale = 1 / sqrt((double)r->layer[0].head_dim);
    for (int32_t i = 0; i < r->n_layers; i++) {
        r->layer[i].attn_scale = (float)scale;
        r->layer[i].attn_cap = (float)attn_cap;
        r->layer[i].qkv_clamp = (float)clamp;
        r->layer[i].q_growth = (float)growth;
    }
    return BT_OK;
}

/* The feed-forward's function; families whose file does not mean what it says keep the table's. */
static bt_status check_activation(const reader *in, bt_err *err)
{
    static const struct {
        const char *name;
        bt_activation activation;
    } known[] = {
        {"silu", BT_ACTIVATION_SILU},
        {"swish", BT_ACTIVATION_SILU},
        {"gelu", BT_ACTIVATION_GELU},
        {"gelu_new", BT_ACTIVATION_GELU_TANH},
        {"gelu_pytorch_tanh", BT_ACTIVATION_GELU_TANH},
        {"relu2", BT_ACTIVATION_RELU2},
    };
    bt_str name = {0};
    bt_status st = bt__config_str(in->c, "hidden_act", &name, err);
    if (!st) st = bt__config_str(in->c, "activation", &name, err);
    if (!st) st = bt__config_str(in->c, "activation_function", &name, err);
    if (!st) st = bt__config_str(in->c, "hidden_activation", &name, err);
    if (st || !name.s) return st;
    bool gemma = strncmp(in->arch->name, "gemma", 5) == 0; // "gelu" of old files is the tanh form
    for (size_t i = 0; i < BT_COUNT(known); i++)
        if (bt_str_equals(name, known[i].name) &&
            (known[i].activation == in->arch->activation ||
             (gemma && known[i].activation == BT_ACTIVATION_GELU)))
            return BT_OK;
    return bt_err_set(err, BT_EUNSUPPORTED, 0,
                      "%s asks for the activation '%s' ('%shidden_act'), which this build does not "
                      "support in %s",
                      in->c->label, bt_str_shown(name).s, in->c->inside, in->type->model_type);
}

/* The window of the layers that have one; 0: none has. */
static bt_status read_window(reader *in, int32_t *window, bt_err *err)
{
    int64_t v = bt__config_given(in->c, "sliding_window") ? 0 : in->type->window;
    bool use = strcmp(in->type->arch, "qwen2") != 0 && strcmp(in->type->arch, "qwen3") != 0;
    bt_status st = bt__config_int(in->c, "sliding_window", 0, INT32_MAX, &v, err);
    if (!st) st = bt__config_bool(in->c, "use_sliding_window", &use, err);
    /* One as wide as the context hides nothing, but other ropes may hang on it. */
    bool ropes = in->arch->flags & (BT_ARCH_LOCAL_ROPE | BT_ARCH_WINDOW_ROPE);
    *window = use && (ropes || v < in->r->ctx_train) ? (int32_t)v : 0;
    return st;
}

typedef struct layer_types {
    bt_recipe *r;
    int32_t window;
    int32_t local, full; // their ropes: of layers with a window, and without
    bool other;          // a kind that is not known
    size_t n;
} layer_types;

static void on_layer_type(void *ud, size_t i, bt_str s)
{
    layer_types *t = ud;
    bool sliding = bt_str_equals(s, "sliding_attention");
    t->other = t->other || (!sliding && !bt_str_equals(s, "full_attention"));
    t->n = i + 1;
    if (i >= (size_t)t->r->n_layers) return;
    t->r->layer[i].window = sliding ? t->window : 0;
    if (t->local != t->full) t->r->layer[i].rope = sliding ? t->local : t->full;
}

/* Where the file says of each layer what it is, that counts, not the architecture's rule. */
static bt_status read_layers(reader *in, int32_t window, bt_err *err)
{
    bool two = in->r->n_ropes > 1;
    layer_types t = {.r = in->r,
                     .window = window,
                     .local = two && in->arch->flags & BT_ARCH_LOCAL_ROPE,
                     .full = two && in->arch->flags & BT_ARCH_WINDOW_ROPE};
    double turns[BT_LAYERS_MAX];
    size_t n = 0;
    int64_t first = 0;
    bt_status st = bt__config_int(in->c, "max_window_layers", 0, INT32_MAX, &first, err);
    for (int32_t i = 0; !st && i < in->r->n_layers; i++)
        if (i < first) in->r->layer[i].window = 0;
    if (!st) st = bt__config_strings(in->c, "layer_types", on_layer_type, &t, err);
    if (!st) st = bt__config_nums(in->c, "no_rope_layers", turns, BT_LAYERS_MAX, &n, err);
    if (st) return st;
    if (t.other) return unsupported(in, "layer_types", "layers of other kinds", err);
    if ((t.n && t.n < (size_t)in->r->n_layers) || (n && n < (size_t)in->r->n_layers))
        return bt_err_set(err, BT_EFORMAT, 0, "%s: '%s%s' is shorter than the model's %d layers",
                          in->c->label, in->c->inside, n ? "no_rope_layers" : "layer_types",
                          in->r->n_layers);
    for (int32_t i = 0; n && i < in->r->n_layers; i++) {
        if (turns[i] == 0 && !(in->arch->flags & BT_ARCH_NO_ROPE))
            return unsupported(in, "no_rope_layers", "layers without positions", err);
        in->r->layer[i].rope = turns[i] == 0;
    }
    return BT_OK;
}

/* What single families say in words of their own. */
static bt_status read_family(reader *in, bt_err *err)
{
    bool falcon = strcmp(in->type->arch, "falcon") == 0;
    bool neox = strcmp(in->type->arch, "gptneox") == 0, parallel = neox;
    bool split = true, grouped = false, single = true;
    bt_status st = bt__config_bool(in->c, "use_parallel_residual", &parallel, err);
    if (!st && falcon) st = bt__config_bool(in->c, "parallel_attn", &split, err);
    if (!st && falcon) st = bt__config_bool(in->c, "new_decoder_architecture", &grouped, err);
    if (!st && falcon) st = bt__config_bool(in->c, "multi_query", &single, err);
    if (st) return st;
    if (!split) return unsupported(in, "parallel_attn", "Falcon's layers in series", err);
    for (int32_t i = 0; i < in->r->n_layers; i++) {
        bt_layer_recipe *l = &in->r->layer[i];
        l->parallel = parallel;
        if (l->ffn == 0) l->ffn = 4 * in->r->hidden;
        if (falcon && !grouped) l->n_kv_heads = single ? 1 : l->n_heads;
        if (neox) l->n_kv_heads = l->n_heads; // whatever the file says
    }
    return BT_OK;
}

static bt_status read_all(reader *in, bt_err *err)
{
    int32_t window = 0;
    double local_theta = 0;
    int64_t every = 0;
    bool tied;
    const char *field = NULL, *what;
    bt_status st = find_type(in, err);
    if (st) return st;
    if ((what = asked(in->c, &field))) return unsupported(in, field, what, err);
    tied = in->type->tied;
    st = bt__config_num(in->c, "rope_local_base_freq", 1e-3, 1e30, &local_theta, err);
    if (!st) st = bt__config_int(in->c, "sliding_window_pattern", 0, BT_LAYERS_MAX, &every, err);
    if (!st) st = read_ints(in, err);
    if (!st) st = read_family(in, err);
    if (!st) st = find_rope(in, &local_theta, err);
    if (!st) st = check_heads(in, err);
    if (!st) st = read_rope(in, err);
    if (!st) st = read_scales(in, err);
    if (!st) st = check_activation(in, err);
    if (!st) st = read_window(in, &window, err);
    if (!st && in->c != &in->file)
        st = bt__config_bool(&in->file, "tie_word_embeddings", &tied, err);
    if (!st) st = bt__config_bool(in->c, "tie_word_embeddings", &tied, err);
    if (st) return st;
    in->out->tied = in->r->tied_head = tied;
    bt_arch_apply(in->arch, window, (int32_t)every, (float)local_theta, in->r);
    for (int32_t i = 0; in->type->half && i < in->r->n_ropes; i++)
        if (in->r->rope[i].style != BT_ROPE_NONE) in->r->rope[i].style = BT_ROPE_HALF;
    return read_layers(in, window, err);
}

bt_status bt_config_read(bt_str text, const char *label, bt_config *out, bt_recipe *r, bt_err *err)
{
    reader in = {.r = r, .out = out};
    memset(out, 0, sizeof *out);
    out->label = label;
    memset(r, 0, sizeof *r);
    bt_status st = bt__config_open(text, label, "", &in.file, err);
    if (!st) st = read_all(&in, err);
    if (!st) {
        const bt_str *quantization = bt__config_span(in.c, "quantization_config");
        if (!quantization) quantization = bt__config_span(&in.file, "quantization_config");
        if (quantization) out->quantization = *quantization;
    }
    bt__config_close(&in.rope);
    bt__config_close(&in.text);
    bt__config_close(&in.file);
    return st;
}
