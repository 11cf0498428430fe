/* SPDX-License-Identifier: Apache-2.0 */
/* recipe.c - reads the keys of a GGUF file into a recipe, by two tables.
 *
 * ints[]      the whole numbers of a recipe, with their bounds;
 * refusals[]  keys whose effect a recipe cannot express, and the value at which they have none.
 * What an architecture fixes without saying so in the file is in arch.c. */
#include "model/recipe.h"
#include "base/assert.h"
#include "base/utf8.h"
#include "model/arch.h"
#include <math.h>
#include <stddef.h>
#include <string.h>

enum { VOCAB_MAX = 1 << 22, HEAD_DIM_MAX = 1024 };

/* Keys read as {arch}.suffix; `layered` ones may be an array of a number a layer. */
static const struct int_key {
    const char *suffix;
    int64_t min, max;
    bool required, layered;
    size_t offset; // in bt_layer_recipe, or bt_recipe
} ints[] = {
    {"block_count", 1, BT_LAYERS_MAX, true, false, offsetof(bt_recipe, n_layers)},
    {"context_length", 1, 1 << 24, true, false, offsetof(bt_recipe, ctx_train)},
    {"embedding_length", 1, 1 << 16, true, false, offsetof(bt_recipe, hidden)},
    {"feed_forward_length", 1, 1 << 18, true, true, offsetof(bt_layer_recipe, ffn)},
    {"attention.head_count", 1, 1024, true, true, offsetof(bt_layer_recipe, n_heads)},
    {"attention.head_count_kv", 1, 1024, false, true, offsetof(bt_layer_recipe, n_kv_heads)},
    {"attention.key_length", 2, HEAD_DIM_MAX, false, true, offsetof(bt_layer_recipe, head_dim)},
    {"rope.dimension_count", 2, HEAD_DIM_MAX, false, false, offsetof(bt_recipe, rope[0].dim)},
};

static const struct refusal {
    const char *suffix;
    double neutral; // the value without effect
    const char *what;
} refusals[] = {
    {"expert_count", 0, "a mixture of experts"},
    {"nextn_predict_layers", 0, "multi-token prediction layers"},
    {"attention.causal", 1, "attention without a causal mask (an encoder)"},
};

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
                          "does (docs/models.md lists the architectures)",
                          bt_gguf_label(g), o->name);
    if (type.n != 5 || memcmp(type.s, "model", 5) != 0)
        return bt_err_set(err, BT_EUNSUPPORTED, 0, "%s holds no model but a '%s'", bt_gguf_label(g),
                          bt_str_shown(type).s);
    if (bt_gguf_n_tensors(g) == 0)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s is a vocabulary and holds no weights; \"baton tokenize\" reads it",
                          bt_gguf_label(g));
    return BT_OK;
}

static bt_status read_arch(const bt_gguf *g, bt_recipe *r, const bt_arch **arch, bt_err *err)
{
    bt_str name = {"", 0}, type = {"model", 5};
    bt_status st = bt_gguf_string(g, "general.architecture", &name, err);
    if (!st) st = bt_gguf_string(g, "general.type", &type, err);
    if (!st) st = refuse_other(g, type, name, err);
    if (st) return st;
    if (name.n == 0) return missing(g, "general.architecture", err);
    *arch = bt_arch_find(name.s, name.n);
    if (*arch) {
        memcpy(r->arch, name.s, name.n);
        return BT_OK;
    }
    return bt_err_set(err, BT_EUNSUPPORTED, 0,
                      "%s: the architecture '%s' is not known; docs/models.md lists those that are",
                      bt_gguf_label(g), bt_str_shown(name).s);
}

/* Number i of a key that is one number or an array of n. Absent: *out untouched. */
static bt_status read_int(const bt_gguf *g, const char *key, const struct int_key *row, int32_t i,
                          int32_t n, int64_t *out, bt_err *err)
{
    size_t have;
    int elem = bt_gguf_array(g, key, &have);
    if (elem < 0) return bt_gguf_int(g, key, row->min, row->max, out, err);
    if (elem == BT_GGUF_STRING || !row->layered || have < (size_t)n)
        return bt_err_set(err, BT_EFORMAT, 0, "%s: key '%s' is not a number", bt_gguf_label(g),
                          key);
    int64_t v = bt_gguf_array_int(g, key, (size_t)i);
    if (v < row->min || v > row->max)
        return bt_err_set(err, BT_EFORMAT, 0, "%s: key '%s' is %lld; expected %lld to %lld",
                          bt_gguf_label(g), key, (long long)v, (long long)row->min,
                          (long long)row->max);
    *out = v;
    return BT_OK;
}

static bt_status read_ints(const bt_gguf *g, bt_recipe *r, bt_err *err)
{
    for (size_t i = 0; i < BT_COUNT(ints); i++) {
        recipe_key key = key_of(r, ints[i].suffix);
        for (int32_t l = 0; l < (ints[i].layered ? r->n_layers : 1); l++) {
            int64_t v = 0;
            bt_status st = read_int(g, key.s, &ints[i], l, r->n_layers, &v, err);
            if (st) return st;
            if (v == 0 && ints[i].required) return missing(g, key.s, err);
            int32_t v32 = (int32_t)v;
            char *base = ints[i].layered ? (char *)&r->layer[l] : (char *)r;
            memcpy(base + ints[i].offset, &v32, sizeof v32);
        }
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
    recipe_key key = key_of(r, "attention.value_length");
    int32_t least = HEAD_DIM_MAX;
    for (int32_t i = 0; i < r->n_layers; i++) {
        bt_layer_recipe *l = &r->layer[i];
        if (l->n_kv_heads == 0) l->n_kv_heads = l->n_heads;
        if (l->n_heads % l->n_kv_heads)
            return bt_err_set(err, BT_EFORMAT, 0,
                              "%s: %d query heads cannot share %d key heads evenly",
                              bt_gguf_label(g), l->n_heads, l->n_kv_heads);
        if (l->head_dim == 0 && r->hidden % l->n_heads)
            return bt_err_set(err, BT_EFORMAT, 0,
                              "%s: %d heads do not divide a width of %d, and there is no key "
                              "'%s.attention.key_length'",
                              bt_gguf_label(g), l->n_heads, r->hidden, r->arch);
        if (l->head_dim == 0) l->head_dim = r->hidden / l->n_heads;
        int64_t value_dim = l->head_dim;
        bt_status st = bt_gguf_int(g, key.s, 1, HEAD_DIM_MAX, &value_dim, err);
        if (st) return st;
        if (value_dim != l->head_dim)
            return bt_err_set(err, BT_EUNSUPPORTED, 0,
                              "%s: values of %lld numbers beside keys of %d are not supported",
                              bt_gguf_label(g), (long long)value_dim, l->head_dim);
        least = BT_MIN(least, l->head_dim);
    }
    if (r->rope[0].dim == 0) r->rope[0].dim = least;
    if (least % 2 || r->layer[0].head_dim > HEAD_DIM_MAX || r->rope[0].dim % 2 ||
        r->rope[0].dim > least)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s: rope over %d of %d numbers of a head cannot be (both even, the "
                          "first not larger)",
                          bt_gguf_label(g), r->rope[0].dim, least);
    return BT_OK;
}

/* The same where 0 is as good as absent: some converters write it where nothing is scaled. */
static bt_status read_or_off(const bt_gguf *g, const char *key, double *out, bt_err *err)
{
    double v = 1;
    return bt_gguf_float(g, key, &v, NULL) == BT_OK && v == 0 ? BT_OK
                                                              : read_positive(g, key, out, err);
}

static bt_status read_rope(const bt_gguf *g, bt_recipe *r, bt_err *err)
{
    /* A factor without a type is linear; scale_linear is the key of 2023 for the same. */
    bt_str type = {"linear", 6};
    bt_rope *rope = &r->rope[0];
    double factor = 1, theta = 10000, amplitude = 1, given = 0, log_mul = 0, fast = 32, slow = 1;
    int64_t orig = r->ctx_train;
    bt_status st = read_positive(g, key_of(r, "rope.freq_base").s, &theta, err);
    if (!st) st = read_or_off(g, key_of(r, "rope.scale_linear").s, &factor, err);
    if (!st) st = read_or_off(g, key_of(r, "rope.scaling.factor").s, &factor, err);
    if (!st) st = read_or_off(g, key_of(r, "rope.scaling.attn_factor").s, &amplitude, err);
    if (!st) st = read_or_off(g, key_of(r, "rope.scaling.yarn_attn_factor").s, &given, err);
    if (!st) st = read_or_off(g, key_of(r, "rope.scaling.yarn_log_multiplier").s, &log_mul, err);
    if (!st) st = read_positive(g, key_of(r, "rope.scaling.yarn_beta_fast").s, &fast, err);
    if (!st) st = read_positive(g, key_of(r, "rope.scaling.yarn_beta_slow").s, &slow, err);
    if (!st)
        st = bt_gguf_int(g, key_of(r, "rope.scaling.original_context_length").s, 1, 1 << 24, &orig,
                         err);
    if (!st) st = bt_gguf_string(g, key_of(r, "rope.scaling.type").s, &type, err);
    if (st) return st;
    rope->theta = (float)theta;
    rope->factor = 1;
    rope->amplitude = (float)amplitude;
    rope->orig_ctx = (int32_t)orig;
    /* The tensors rope_factors_{short,long}.weight say all of longrope but the amplitude. */
    if (bt_str_equals(type, "none") || bt_str_equals(type, "longrope")) return BT_OK;
    if (!bt_str_equals(type, "linear") && !bt_str_equals(type, "yarn"))
        return bt_err_set(
            err, BT_EUNSUPPORTED, 0,
            "%s: rope scaling '%s' is not supported; none, linear, yarn, longrope and "
            "the tensor rope_freqs.weight are",
            bt_gguf_label(g), bt_str_shown(type).s);
    if (factor == 1) return BT_OK;
    rope->factor = (float)factor;
    rope->scaling = BT_ROPE_SCALING_LINEAR;
    if (bt_str_equals(type, "linear")) return BT_OK;
    rope->scaling = BT_ROPE_SCALING_YARN;
    rope->low = (float)slow;
    rope->high = (float)fast;
    if (given == 0) given = (1 + 0.1 * log(factor)) / (1 + 0.1 * log_mul * log(factor));
    rope->amplitude = (float)(amplitude * given);
    return BT_OK;
}

static bt_status read_floats(const bt_gguf *g, const bt_arch *arch, bt_recipe *r, bt_err *err)
{
    recipe_key eps_key = key_of(r, arch->norm == BT_NORM_RMS ? "attention.layer_norm_rms_epsilon"
                                                             : "attention.layer_norm_epsilon");
    double eps = 0, scale = 0;
    bt_status st = read_positive(g, eps_key.s, &eps, err);
    if (!st) st = bt_gguf_float(g, key_of(r, "attention.scale").s, &scale, err);
    if (st) return st;
    if (eps == 0) return missing(g, eps_key.s, err);
    if (!isfinite(scale) || scale < 0 || scale > 1e6 || eps > 1)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s: an attention scale of %g or a norm epsilon of %g cannot be",
                          bt_gguf_label(g), scale, eps);
    r->norm_eps = (float)eps;
    /* GGUF does not carry query_pre_attn_scalar: the largest Gemmas are told by their layers. */
    bool wide = (strcmp(r->arch, "gemma2") == 0 && r->n_layers == 46) ||
                (strcmp(r->arch, "gemma3") == 0 && r->n_layers == 62);
    for (int32_t i = 0; i < r->n_layers; i++) {
        const bt_layer_recipe *l = &r->layer[i];
        double dim = wide ? (double)r->hidden / l->n_heads : l->head_dim;
        r->layer[i].attn_scale = (float)(scale > 0 ? scale : 1 / sqrt(dim));
    }
    return read_rope(g, r, err);
}

/* Embedding, residual and logits: what they are multiplied by, and caps. */
static bt_status read_scales(const bt_gguf *g, const bt_arch *arch, bt_recipe *r, bt_err *err)
{
    double embed = 1, residual = 1, logit = 1, attn_cap = 0, logit_cap = 0;
    double clamp = 0, alibi = arch->flags & BT_ARCH_ALIBI ? 8 : 0, growth = 0;
    bool times = arch->flags & (BT_ARCH_LOGIT_TIMES | BT_ARCH_LOGIT_DIVIDE);
    bt_status st = read_positive(g, key_of(r, "embedding_scale").s, &embed, err);
    if (!st) st = read_positive(g, key_of(r, "residual_scale").s, &residual, err);
    if (!st) st = read_positive(g, key_of(r, "logit_scale").s, &logit, err);
    if (!st) st = read_or_off(g, key_of(r, "attn_logit_softcapping").s, &attn_cap, err);
    if (!st) st = read_or_off(g, key_of(r, "final_logit_softcapping").s, &logit_cap, err);
    if (!st) st = read_or_off(g, key_of(r, "attention.clamp_kqv").s, &clamp, err);
    if (!st) st = read_or_off(g, key_of(r, "attention.max_alibi_bias").s, &alibi, err);
    if (!st) st = read_or_off(g, key_of(r, "attention.temperature_scale").s, &growth, err);
    if (st) return st;
    if (!(arch->flags & BT_ARCH_ALIBI) && alibi != 0)
        return bt_err_set(
            err, BT_EUNSUPPORTED, 0,
            "%s asks for ALiBi positions (key '%s.attention.max_alibi_bias'), which %s "
            "does not have",
            bt_gguf_label(g), r->arch, r->arch);
    if (!times && logit != 1)
        return bt_err_set(
            err, BT_EUNSUPPORTED, 0,
            "%s asks for scaled logits (key '%s.logit_scale'), which %s does not have",
            bt_gguf_label(g), r->arch, r->arch);
    r->embed_scale = (float)embed;
    r->residual_scale = (float)residual;
    r->logit_scale = (float)(arch->flags & BT_ARCH_LOGIT_DIVIDE ? 1 / logit : logit);
    r->logit_cap = (float)logit_cap;
    for (int32_t i = 0; i < r->n_layers; i++) {
        bt_layer_recipe *l = &r->layer[i];
        l->attn_cap = (float)attn_cap;
        l->qkv_clamp = (float)clamp;
        l->alibi = (float)alibi;
        l->q_growth = (float)growth;
    }
    return BT_OK;
}

/* The window of the layers that have one, and which layers have none: every n-th by a number, or by
 * an array that repeats so (true: a window). */
static bt_status read_window(const bt_gguf *g, const bt_recipe *r, int32_t *window, int32_t *every,
                             bt_err *err)
{
    recipe_key pattern = key_of(r, "attention.sliding_window_pattern");
    int64_t v = 0, n = 0;
    size_t length = 0;
    bt_status st = bt_gguf_int(g, key_of(r, "attention.sliding_window").s, 0, INT32_MAX, &v, err);
    if (st) return st;
    *window = v < r->ctx_train ? (int32_t)v : 0; // as wide as the context: it hides nothing
    *every = 0;
    int elem = bt_gguf_array(g, pattern.s, &length);
    if (elem < 0) {
        st = bt_gguf_int(g, pattern.s, 0, BT_LAYERS_MAX, &n, err);
        *every = (int32_t)n;
        return st;
    }
    bool repeats = elem != BT_GGUF_STRING && length >= (size_t)r->n_layers;
    int32_t first = 0;
    while (repeats && first < r->n_layers && bt_gguf_array_int(g, pattern.s, (size_t)first))
        first++;
    for (int32_t i = 0; repeats && i < r->n_layers; i++)
        repeats = !bt_gguf_array_int(g, pattern.s, (size_t)i) == ((i + 1) % (first + 1) == 0);
    if (!repeats)
        return bt_err_set(
            err, BT_EUNSUPPORTED, 0,
            "%s: key '%s' is no pattern of windows that repeats: that is not supported",
            bt_gguf_label(g), pattern.s);
    *every = first + 1;
    return BT_OK;
}

/* The four numbers of xIELU, one a layer each; the alphas go through softplus. */
static bt_status read_xielu(const bt_gguf *g, bt_recipe *r, bt_err *err)
{
    static const char *const key[] = {"xielu.alpha_p", "xielu.alpha_n", "xielu.beta", "xielu.eps"};
    for (int32_t i = 0; i < r->n_layers; i++) {
        double v[4];
        for (size_t k = 0; k < BT_COUNT(key); k++) {
            size_t n;
            int elem = bt_gguf_array(g, key[k], &n);
            if (elem < 0 || elem == BT_GGUF_STRING || n < (size_t)r->n_layers)
                return bt_err_set(err, BT_EFORMAT, 0, "%s: key '%s' is no number a layer",
                                  bt_gguf_label(g), key[k]);
            v[k] = bt_gguf_array_float(g, key[k], (size_t)i);
            if (!isfinite(v[k]) || fabs(v[k]) > 1e3)
                return bt_err_set(err, BT_EFORMAT, 0, "%s: key '%s' holds %g", bt_gguf_label(g),
                                  key[k], v[k]);
        }
        r->layer[i].xielu = (bt_xielu){(float)log1p(exp(v[0])), (float)(v[2] + log1p(exp(v[1]))),
                                       (float)v[2], (float)v[3]};
    }
    return BT_OK;
}

/* Where an architecture leaves it to the file whether attention and feed-forward read the same. */
static bt_status read_parallel(const bt_gguf *g, bt_recipe *r, bt_err *err)
{
    bool parallel = false;
    bt_status st = bt_gguf_bool(g, key_of(r, "use_parallel_residual").s, &parallel, err);
    for (int32_t i = 0; i < r->n_layers; i++) r->layer[i].parallel = parallel;
    return st;
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

bt_status bt_recipe_read(const bt_gguf *g, bt_recipe *r, bt_err *err)
{
    const bt_arch *arch = NULL;
    bt_str name = {"", 0};
    int32_t window = 0, every = 0;
    double local_theta = 0;
    memset(r, 0, sizeof *r);
    bt_status st = read_arch(g, r, &arch, err);
    if (!st) st = bt_gguf_string(g, "general.name", &name, err);
    if (!st) st = read_ints(g, r, err);
    if (!st) st = refuse_features(g, r, err);
    if (!st) st = check_heads(g, r, err);
    if (!st) st = read_floats(g, arch, r, err);
    if (!st) st = read_scales(g, arch, r, err);
    if (!st) st = read_window(g, r, &window, &every, err);
    if (!st) st = read_parallel(g, r, err);
    if (!st && arch->activation == BT_ACTIVATION_XIELU) st = read_xielu(g, r, err);
    if (!st) st = read_positive(g, key_of(r, "rope.freq_base_swa").s, &local_theta, err);
    if (!st) st = read_vocab(g, r, err);
    if (st) return st;
    bt_arch_apply(arch, window, every, (float)local_theta, r);
    /* Cut on a character's border: the name goes into JSON. */
    memcpy(r->name, name.s, bt_utf8_valid_prefix(name.s, BT_MIN(name.n, sizeof r->name - 1)));
    return BT_OK;
}
