/* SPDX-License-Identifier: Apache-2.0 */
/* recipe.c - reads the keys of a GGUF file into a recipe, by three tables.
 *
 * archs[]     what an architecture fixes without saying so in the file;
 * INTS        the whole numbers of a recipe, with their bounds;
 * refusals[]  keys whose effect a recipe cannot express, and the value at which they have none. */
#include "model/recipe.h"
#include "base/assert.h"
#include "base/utf8.h"
#include <math.h>
#include <stddef.h>
#include <string.h>

static const struct arch {
    const char *name;
    bt_rope_style rope_style;
} archs[] = {
    {"llama", BT_ROPE_INTERLEAVED},
    {"qwen2", BT_ROPE_HALF},
};

enum { VOCAB_MAX = 1 << 22, HEAD_DIM_MAX = 1024 };

/* Keys read as {arch}.suffix. A per-layer array counts if all its numbers are equal. */
static const struct int_key {
    const char *suffix;
    int64_t min, max;
    bool required;
    size_t offset;
} ints[] = {
    {"block_count", 1, 512, true, offsetof(bt_recipe, n_layers)},
    {"context_length", 1, 1 << 24, true, offsetof(bt_recipe, ctx_train)},
    {"embedding_length", 1, 1 << 16, true, offsetof(bt_recipe, hidden)},
    {"feed_forward_length", 1, 1 << 18, true, offsetof(bt_recipe, ffn)},
    {"attention.head_count", 1, 1024, true, offsetof(bt_recipe, n_heads)},
    {"attention.head_count_kv", 1, 1024, false, offsetof(bt_recipe, n_kv_heads)},
    {"attention.key_length", 2, HEAD_DIM_MAX, false, offsetof(bt_recipe, head_dim)},
    {"rope.dimension_count", 2, HEAD_DIM_MAX, false, offsetof(bt_recipe, rope_dim)},
};

static const struct refusal {
    const char *suffix;
    double neutral; // the value without effect
    const char *what;
} refusals[] = {
    {"expert_count", 0, "a mixture of experts"},
    {"nextn_predict_layers", 0, "multi-token prediction layers"},
    {"attn_logit_softcapping", 0, "soft-capped attention"},
    {"final_logit_softcapping", 0, "soft-capped logits"},
    {"attention.clamp_kqv", 0, "clamped attention inputs"},
    {"attention.max_alibi_bias", 0, "ALiBi positions"},
    {"logit_scale", 1, "scaled logits"},
    {"residual_scale", 1, "scaled residuals"},
    {"embedding_scale", 1, "scaled embeddings"},
    {"rope.scaling.attn_factor", 1, "rescaled attention (yarn)"},
    {"attention.causal", 1, "attention without a causal mask (an encoder)"},
};

const char *bt_recipe_archs(void)
{
    static const char text[] = "llama, qwen2";
    return text;
}

/* {arch}.suffix, in a buffer of the caller's. */
typedef struct recipe_key {
    char s[96];
} recipe_key;

static recipe_key key_of(const bt_recipe *r, const char *suffix)
{
    recipe_key k;
    snprintf(k.s, sizeof k.s, "%s.%s", r->arch, suffix);
    return k;
}

static bt_status missing(const bt_gguf *g, const char *key, bt_err *err)
{
    return bt_err_set(err, BT_EFORMAT, 0, "%s lacks the key '%s'", bt_gguf_label(g), key);
}

/* Files that are no model to talk to, by general.type or the architecture: what they are for. */
static const struct other {
    const char *name, *what;
} other_types[] =
    {
        {"adapter", "a LoRA adapter and no model: give the model it was made for; adapters are not "
                    "applied yet"},
        {"mmproj",
         "the part of a model that sees or hears (mmproj): give the language model's file"},
        {"clip-vision", "the part of a model that sees (mmproj): give the language model's file"},
        {"imatrix", "an importance matrix, for making a quantized file: give the model's own file"},
        {"vocab", "a vocabulary and holds no weights; \"baton tokenize\" reads it"},
},
  other_archs[] = {
      {"clip", "the part of a model that sees or hears (mmproj): give the language model's file"},
      {"bert", NULL},
      {"modern-bert", NULL},
      {"nomic-bert", NULL},
      {"nomic-bert-moe", NULL},
      {"neo-bert", NULL},
      {"eurobert", NULL},
      {"jina-bert-v2", NULL},
      {"jina-bert-v3", NULL},
      {"gemma-embedding", NULL},
      {"llama-embed", NULL},
      {"t5encoder", NULL},
};

static const struct other *find_other(const struct other *row, size_t n, bt_str name)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(row[i].name) == name.n && memcmp(row[i].name, name.s, name.n) == 0)
            return &row[i];
    return NULL;
}

/* BT_EUNSUPPORTED for what is no model that writes text. */
static bt_status refuse_other(const bt_gguf *g, bt_str type, bt_str name, bt_err *err)
{
    const struct other *by_type = find_other(other_types, BT_COUNT(other_types), type);
    const struct other *by_arch = find_other(other_archs, BT_COUNT(other_archs), name);
    const struct other *o = by_type ? by_type : by_arch;
    if (o && o->what)
        return bt_err_set(err, BT_EUNSUPPORTED, 0, "%s is %s", bt_gguf_label(g), o->what);
    if (o)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s is an embedding model (%s), which writes no text: give a model that "
                          "does; known architectures are %s",
                          bt_gguf_label(g), o->name, bt_recipe_archs());
    if (type.n != 5 || memcmp(type.s, "model", 5) != 0)
        return bt_err_set(err, BT_EUNSUPPORTED, 0, "%s holds no model but a '%s'", bt_gguf_label(g),
                          bt_str_shown(type).s);
    if (bt_gguf_n_tensors(g) == 0)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s is a vocabulary and holds no weights; \"baton tokenize\" reads it",
                          bt_gguf_label(g));
    return BT_OK;
}

static bt_status read_arch(const bt_gguf *g, bt_recipe *r, const struct arch **arch, bt_err *err)
{
    bt_str name = {"", 0}, type = {"model", 5};
    bt_status st = bt_gguf_string(g, "general.architecture", &name, err);
    if (!st) st = bt_gguf_string(g, "general.type", &type, err);
    if (!st) st = refuse_other(g, type, name, err);
    if (st) return st;
    if (name.n == 0) return missing(g, "general.architecture", err);
    for (size_t i = 0; i < BT_COUNT(archs); i++) {
        if (strlen(archs[i].name) != name.n || memcmp(archs[i].name, name.s, name.n) != 0) continue;
        memcpy(r->arch, name.s, name.n);
        *arch = &archs[i];
        return BT_OK;
    }
    return bt_err_set(err, BT_EUNSUPPORTED, 0,
                      "%s: the architecture '%s' is not known; known are %s", bt_gguf_label(g),
                      bt_str_shown(name).s, bt_recipe_archs());
}

/* A number, or an array of equal ones. Absent: *out untouched. */
static bt_status read_int(const bt_gguf *g, const char *key, const struct int_key *row,
                          int64_t *out, bt_err *err)
{
    size_t n;
    int elem = bt_gguf_array(g, key, &n);
    if (elem < 0) return bt_gguf_int(g, key, row->min, row->max, out, err);
    if (elem == BT_GGUF_STRING || n == 0)
        return bt_err_set(err, BT_EFORMAT, 0, "%s: key '%s' is not a number", bt_gguf_label(g),
                          key);
    int64_t first = bt_gguf_array_int(g, key, 0);
    for (size_t i = 1; i < n; i++)
        if (bt_gguf_array_int(g, key, i) != first)
            return bt_err_set(err, BT_EUNSUPPORTED, 0,
                              "%s: key '%s' differs from layer to layer, which is not supported",
                              bt_gguf_label(g), key);
    if (first < row->min || first > row->max)
        return bt_err_set(err, BT_EFORMAT, 0, "%s: key '%s' is %lld; expected %lld to %lld",
                          bt_gguf_label(g), key, (long long)first, (long long)row->min,
                          (long long)row->max);
    *out = first;
    return BT_OK;
}

static bt_status read_ints(const bt_gguf *g, bt_recipe *r, bt_err *err)
{
    for (size_t i = 0; i < BT_COUNT(ints); i++) {
        recipe_key key = key_of(r, ints[i].suffix);
        int64_t v = 0;
        bt_status st = read_int(g, key.s, &ints[i], &v, err);
        if (st) return st;
        if (v == 0 && ints[i].required) return missing(g, key.s, err);
        int32_t v32 = (int32_t)v;
        memcpy((char *)r + ints[i].offset, &v32, sizeof v32);
    }
    return BT_OK;
}

/* A finite float > 0; absent: *out untouched. */
static bt_status read_positive(const bt_gguf *g, const char *key, double *out, bt_err *err)
{
    double v = 1;
    bt_status st = bt_gguf_float(g, key, &v, err);
    if (st || !bt_gguf_has(g, key)) return st;
    if (!isfinite(v) || v <= 0 || v > 1e30)
        return bt_err_set(err, BT_EFORMAT, 0, "%s: key '%s' is %g; expected a number above 0",
                          bt_gguf_label(g), key, v);
    *out = v;
    return BT_OK;
}

/* A key of any scalar type as a number; false: absent or not a number. */
static bool any_number(const bt_gguf *g, const char *key, double *out)
{
    int64_t i;
    bool b;
    if (!bt_gguf_has(g, key)) return false;
    if (bt_gguf_float(g, key, out, NULL) == BT_OK) return true;
    if (bt_gguf_int(g, key, INT64_MIN, INT64_MAX, &i, NULL) == BT_OK)
        *out = (double)i;
    else if (bt_gguf_bool(g, key, &b, NULL) == BT_OK)
        *out = b;
    else
        return false;
    return true;
}

static bt_status refuse_features(const bt_gguf *g, const bt_recipe *r, bt_err *err)
{
    double v = 0;
    for (size_t i = 0; i < BT_COUNT(refusals); i++) {
        recipe_key key = key_of(r, refusals[i].suffix);
        if (!bt_gguf_has(g, key.s)) continue;
        if (!any_number(g, key.s, &v) || v != refusals[i].neutral)
            return bt_err_set(err, BT_EUNSUPPORTED, 0,
                              "%s asks for %s (key '%s'), which this build does not support",
                              bt_gguf_label(g), refusals[i].what, key.s);
    }
    recipe_key window = key_of(r, "attention.sliding_window");
    /* A window as wide as the context hides nothing. */
    if (bt_gguf_has(g, window.s) &&
        (!any_number(g, window.s, &v) || (v != 0 && v < (double)r->ctx_train)))
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s asks for a sliding window (key '%s'), which this build does not "
                          "support",
                          bt_gguf_label(g), window.s);
    recipe_key sections = key_of(r, "rope.dimension_sections");
    if (bt_gguf_has(g, sections.s))
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s asks for multi-axis rope (key '%s'), which this build does not "
                          "support",
                          bt_gguf_label(g), sections.s);
    return BT_OK;
}

/* Head sizes and what must divide what. */
static bt_status check_heads(const bt_gguf *g, bt_recipe *r, bt_err *err)
{
    if (r->n_kv_heads == 0) r->n_kv_heads = r->n_heads;
    if (r->n_heads % r->n_kv_heads)
        return bt_err_set(err, BT_EFORMAT, 0, "%s: %d query heads cannot share %d key heads evenly",
                          bt_gguf_label(g), r->n_heads, r->n_kv_heads);
    if (r->head_dim == 0 && r->hidden % r->n_heads)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s: %d heads do not divide a width of %d, and there is no key "
                          "'%s.attention.key_length'",
                          bt_gguf_label(g), r->n_heads, r->hidden, r->arch);
    if (r->head_dim == 0) r->head_dim = r->hidden / r->n_heads;
    int64_t value_dim = r->head_dim;
    recipe_key key = key_of(r, "attention.value_length");
    bt_status st = bt_gguf_int(g, key.s, 1, HEAD_DIM_MAX, &value_dim, err);
    if (st) return st;
    if (value_dim != r->head_dim)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s: values of %lld numbers beside keys of %d are not supported",
                          bt_gguf_label(g), (long long)value_dim, r->head_dim);
    if (r->rope_dim == 0) r->rope_dim = r->head_dim;
    if (r->head_dim % 2 || r->head_dim > HEAD_DIM_MAX || r->rope_dim % 2 ||
        r->rope_dim > r->head_dim)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s: rope over %d of %d numbers of a head cannot be (both even, the "
                          "first not larger)",
                          bt_gguf_label(g), r->rope_dim, r->head_dim);
    return BT_OK;
}

/* Some converters write 0 where nothing is scaled. */
static bt_status read_factor(const bt_gguf *g, const char *key, double *out, bt_err *err)
{
    double v = 1;
    return bt_gguf_float(g, key, &v, NULL) == BT_OK && v == 0 ? BT_OK
                                                              : read_positive(g, key, out, err);
}

static bt_status read_rope_scaling(const bt_gguf *g, bt_recipe *r, bt_err *err)
{
    /* A factor without a type is linear; scale_linear is the key of 2023 for the same. */
    bt_str type = {"linear", 6};
    double factor = 1;
    bt_status st = read_factor(g, key_of(r, "rope.scale_linear").s, &factor, err);
    if (!st) st = read_factor(g, key_of(r, "rope.scaling.factor").s, &factor, err);
    if (!st) st = bt_gguf_string(g, key_of(r, "rope.scaling.type").s, &type, err);
    if (st) return st;
    r->rope_factor = 1;
    if (type.n == 4 && memcmp(type.s, "none", 4) == 0) return BT_OK;
    if (type.n != 6 || memcmp(type.s, "linear", 6) != 0)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s: rope scaling '%s' is not supported; none, linear and the "
                          "tensor rope_freqs.weight are",
                          bt_gguf_label(g), bt_str_shown(type).s);
    if (factor == 1) return BT_OK;
    r->rope_scaling = BT_ROPE_SCALING_LINEAR;
    r->rope_factor = (float)factor;
    return BT_OK;
}

static bt_status read_floats(const bt_gguf *g, bt_recipe *r, bt_err *err)
{
    recipe_key eps_key = key_of(r, "attention.layer_norm_rms_epsilon");
    double eps = 0, theta = 10000, scale = 0;
    bt_status st = read_positive(g, eps_key.s, &eps, err);
    if (!st) st = read_positive(g, key_of(r, "rope.freq_base").s, &theta, err);
    if (!st) st = bt_gguf_float(g, key_of(r, "attention.scale").s, &scale, err);
    if (st) return st;
    if (eps == 0) return missing(g, eps_key.s, err);
    if (!isfinite(scale) || scale < 0 || scale > 1e6 || eps > 1)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s: an attention scale of %g or a norm epsilon of %g cannot be",
                          bt_gguf_label(g), scale, eps);
    r->norm_eps = (float)eps;
    r->rope_theta = (float)theta;
    r->attn_scale = (float)(scale > 0 ? scale : 1 / sqrt((double)r->head_dim));
    return read_rope_scaling(g, r, err);
}

/* Rows of the embedding decide: some files have more rows than named tokens (padding). */
static bt_status read_vocab(const bt_gguf *g, bt_recipe *r, bt_err *err)
{
    const bt_gguf_tensor *embed = bt_gguf_tensor_find(g, "token_embd.weight");
    size_t n_tokens = 0;
    if (!embed)
        return bt_err_set(err, BT_EFORMAT, 0, "%s lacks the tensor 'token_embd.weight'",
                          bt_gguf_label(g));
    bt_gguf_array(g, "tokenizer.ggml.tokens", &n_tokens);
    if (embed->dim[1] > VOCAB_MAX || n_tokens > (size_t)embed->dim[1])
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s: an embedding of %lld rows does not go with %zu tokens",
                          bt_gguf_label(g), (long long)embed->dim[1], n_tokens);
    r->vocab = (int32_t)embed->dim[1];
    r->tied_head = !bt_gguf_tensor_find(g, "output.weight");
    return BT_OK;
}

bt_status bt_recipe_read(const bt_gguf *g, bt_recipe *out, bt_err *err)
{
    bt_recipe r = {0};
    const struct arch *arch = NULL;
    bt_str name = {"", 0};
    bt_status st = read_arch(g, &r, &arch, err);
    if (!st) st = bt_gguf_string(g, "general.name", &name, err);
    if (!st) st = read_ints(g, &r, err);
    if (!st) st = refuse_features(g, &r, err);
    if (!st) st = check_heads(g, &r, err);
    if (!st) st = read_floats(g, &r, err);
    if (!st) st = read_vocab(g, &r, err);
    if (st) return st;
    /* Cut on a character's border: the name goes into JSON. */
    memcpy(r.name, name.s, bt_utf8_valid_prefix(name.s, BT_MIN(name.n, sizeof r.name - 1)));
    r.rope_style = arch->rope_style;
    r.qkv_bias = bt_gguf_tensor_find(g, "blk.0.attn_q.bias") ||
                 bt_gguf_tensor_find(g, "blk.0.attn_k.bias") ||
                 bt_gguf_tensor_find(g, "blk.0.attn_v.bias");
    *out = r;
    return BT_OK;
}
