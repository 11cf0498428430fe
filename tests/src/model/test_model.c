/* SPDX-License-Identifier: Apache-2.0 */
/* Recipes and weights: every key and tensor is used as meant, or refused by its name. */
#include "base/clock.h"
#include "base/mem.h"
#include "model/model.h"
#include "model/recipe.h"
#include "src/file/gguf_build.h"
#include "test.h"
#include <stdbool.h>

/* A file to be: keys and tensors in a list, which a case changes before it is written. */
typedef struct spec_key {
    const char *key, *text; // text: a string value
    int type;               // BT_GGUF_*; -1: dropped
    double number;
    int n, last; // n != 0: an array of n numbers (below 0: none), the last different by `last`
} spec_key;

typedef struct spec_tensor {
    char name[64];
    uint32_t n_dims;
    uint64_t dim[4];
    uint32_t format;
    float fill;    // F32 only
    uint16_t bits; // F16 and BF16: each element
    bool dropped;
} spec_tensor;

typedef struct spec {
    spec_key key[64];
    spec_tensor tensor[64];
    int n_keys, n_tensors;
} spec;

enum { HIDDEN = 8, FFN = 12, HEADS = 2, KV = 1, HEAD_DIM = 4, VOCAB = 6, LAYERS = 2 };

static spec_key *key(spec *s, const char *name, int type, double number)
{
    int i = 0;
    while (i < s->n_keys && strcmp(s->key[i].key, name) != 0) i++;
    REQUIRE(i < 64);
    if (i == s->n_keys) s->n_keys++;
    s->key[i] = (spec_key){name, NULL, type, number, 0, 0};
    return &s->key[i];
}

static void text(spec *s, const char *name, const char *value)
{
    key(s, name, BT_GGUF_STRING, 0)->text = value;
}

static void array(spec *s, const char *name, double number, int n, int last)
{
    spec_key *k = key(s, name, BT_GGUF_I32, number);
    k->n = n;
    k->last = last;
}

static spec_tensor *tensor(spec *s, const char *name, uint64_t cols, uint64_t rows)
{
    int i = 0;
    while (i < s->n_tensors && strcmp(s->tensor[i].name, name) != 0) i++;
    REQUIRE(i < 64);
    if (i == s->n_tensors) s->n_tensors++;
    s->tensor[i] = (spec_tensor){
        "", rows ? 2 : 1, {cols, rows ? rows : 1, 1, 1}, BT_FORMAT_F32, 1.0f, 0, false};
    snprintf(s->tensor[i].name, sizeof s->tensor[i].name, "%s", name);
    return &s->tensor[i];
}

static void layer_tensors(spec *s, int layer, bool bias)
{
    static const struct {
        const char *name;
        uint64_t cols, rows;
    } list[] = {
        {"attn_norm.weight", HIDDEN, 0},
        {"attn_q.weight", HIDDEN, HEADS * HEAD_DIM},
        {"attn_k.weight", HIDDEN, KV * HEAD_DIM},
        {"attn_v.weight", HIDDEN, KV * HEAD_DIM},
        {"attn_output.weight", HEADS * HEAD_DIM, HIDDEN},
        {"ffn_norm.weight", HIDDEN, 0},
        {"ffn_gate.weight", HIDDEN, FFN},
        {"ffn_up.weight", HIDDEN, FFN},
        {"ffn_down.weight", FFN, HIDDEN},
        {"attn_q.bias", HEADS * HEAD_DIM, 0},
        {"attn_k.bias", KV * HEAD_DIM, 0},
        {"attn_v.bias", KV * HEAD_DIM, 0},
        {"attn_output.bias", HIDDEN, 0},
        {"ffn_gate.bias", FFN, 0},
        {"ffn_up.bias", FFN, 0},
        {"ffn_down.bias", HIDDEN, 0},
    };
    char name[64];
    for (size_t i = 0; i < sizeof list / sizeof *list - (bias ? 0 : 7); i++) {
        snprintf(name, sizeof name, "blk.%d.%s", layer, list[i].name);
        tensor(s, name, list[i].cols, list[i].rows);
    }
}

/* A sound llama: two layers, grouped heads, untied. */
static void spec_llama(spec *s)
{
    memset(s, 0, sizeof *s);
    text(s, "general.architecture", "llama");
    text(s, "general.name", "Tiny");
    key(s, "llama.block_count", BT_GGUF_U32, LAYERS);
    key(s, "llama.context_length", BT_GGUF_U32, 64);
    key(s, "llama.embedding_length", BT_GGUF_U32, HIDDEN);
    key(s, "llama.feed_forward_length", BT_GGUF_U32, FFN);
    key(s, "llama.attention.head_count", BT_GGUF_U32, HEADS);
    key(s, "llama.attention.head_count_kv", BT_GGUF_U32, KV);
    key(s, "llama.attention.layer_norm_rms_epsilon", BT_GGUF_F32, 1e-5);
    key(s, "llama.rope.freq_base", BT_GGUF_F32, 500000);
    tensor(s, "token_embd.weight", HIDDEN, VOCAB);
    tensor(s, "output_norm.weight", HIDDEN, 0);
    tensor(s, "output.weight", HIDDEN, VOCAB);
    for (int i = 0; i < LAYERS; i++) layer_tensors(s, i, false);
}

static void write_number(bt_buf *b, int type, double v)
{
    if (type == BT_GGUF_F32) {
        float f = (float)v;
        bt_buf_add(b, &f, sizeof f);
    } else if (type == BT_GGUF_BOOL) {
        bt_buf_addc(b, v != 0);
    } else {
        gb_u32(b, (uint32_t)(int64_t)v);
    }
}

static void write_spec(const spec *s, bt_buf *b)
{
    uint64_t keys = 0, tensors = 0, offset = 0;
    for (int i = 0; i < s->n_keys; i++) keys += s->key[i].type >= 0;
    for (int i = 0; i < s->n_tensors; i++) tensors += !s->tensor[i].dropped;
    gb_head(b, 3, tensors, keys);
    for (int i = 0; i < s->n_keys; i++) {
        const spec_key *k = &s->key[i];
        if (k->type < 0) continue;
        if (k->text) {
            gb_string(b, k->key, k->text);
            continue;
        }
        if (k->n)
            gb_array(b, k->key, (uint32_t)k->type, k->n > 0 ? (uint64_t)k->n : 0);
        else
            gb_key(b, k->key, (uint32_t)k->type);
        for (int j = 0; j < (k->n ? k->n : 1); j++)
            write_number(b, k->type, k->number + (k->n && j == k->n - 1 ? k->last : 0));
    }
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < s->n_tensors; i++) {
            const spec_tensor *t = &s->tensor[i];
            size_t n = (size_t)(t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3]);
            if (t->dropped) continue;
            if (pass == 0) {
                gb_tensor(b, t->name, t->n_dims, t->dim, t->format, offset);
                offset += (bt_format_bytes((int32_t)t->format, n) + 31) / 32 * 32;
                continue;
            }
            gb_pad(b, 32);
            if (t->format == BT_FORMAT_F32)
                for (size_t j = 0; j < n; j++) bt_buf_add(b, &t->fill, sizeof t->fill);
            else if (t->format == BT_FORMAT_F16 || t->format == BT_FORMAT_BF16)
                for (size_t j = 0; j < n; j++) bt_buf_add(b, &t->bits, sizeof t->bits);
            else
                gb_zeros(b, bt_format_bytes((int32_t)t->format, n));
        }
    }
    gb_pad(b, 32);
}

static bt_status open_spec(const spec *s, bt_buf *b, bt_gguf **g, bt_model **m, bt_err *err)
{
    write_spec(s, b);
    REQUIRE(!b->failed);
    bt_status st = bt_gguf_open_memory(b->data, b->len, "F", g, err);
    if (st) fprintf(stderr, "%s\n", err->msg);
    REQUIRE(st == BT_OK);
    return bt_model_from_gguf(*g, m, err);
}

/* Opens, runs check on the model, closes. */
static void expect_opens(const spec *s, void (*check)(const bt_model *m))
{
    bt_buf b = BT_BUF_INIT;
    bt_gguf *g = NULL;
    bt_model *m = NULL;
    bt_err err = {0};
    CHECK_INT(open_spec(s, &b, &g, &m, &err), BT_OK);
    if (err.msg[0]) fprintf(stderr, "%s\n", err.msg);
    if (m && check) check(m);
    bt_model_close(m);
    bt_gguf_close(g);
    bt_buf_release(&b);
}

static void expect_refused(const spec *s, bt_status code, const char *says)
{
    bt_buf b = BT_BUF_INIT;
    bt_gguf *g = NULL;
    bt_model *m = NULL;
    bt_err err = {0};
    CHECK_INT(open_spec(s, &b, &g, &m, &err), code);
    bool says_why = strstr(err.msg, says);
    CHECK(says_why);
    if (!says_why) fprintf(stderr, "got: %s\nnot: %s\n", err.msg, says);
    CHECK(!m && strlen(err.msg) + 1 < sizeof err.msg);
    bt_gguf_close(g);
    bt_buf_release(&b);
}

/* What opens ------------------------------------------------------------------------------------*/

static void check_plain(const bt_model *m)
{
    const bt_recipe *r = &m->recipe;
    CHECK_STR(r->arch, "llama");
    CHECK_STR(r->name, "Tiny");
    CHECK_INT(r->n_layers, LAYERS);
    CHECK_INT(r->hidden, HIDDEN);
    CHECK_INT(r->layer[LAYERS - 1].n_heads, HEADS);
    CHECK_INT(r->layer[LAYERS - 1].n_kv_heads, KV);
    CHECK_INT(r->layer[LAYERS - 1].head_dim, HEAD_DIM);
    CHECK_INT(r->rope[0].dim, HEAD_DIM);
    CHECK_INT(r->layer[LAYERS - 1].ffn, FFN);
    CHECK_INT(r->vocab, VOCAB);
    CHECK_INT(r->ctx_train, 64);
    CHECK_NEAR(r->norm_eps, 1e-5f, 0);
    CHECK_NEAR(r->rope[0].theta, 500000, 0);
    CHECK_NEAR(r->layer[LAYERS - 1].attn_scale, 0.5, 1e-7);
    CHECK_INT(r->rope[0].style, BT_ROPE_INTERLEAVED);
    CHECK_INT(r->rope[0].scaling, BT_ROPE_SCALING_NONE);
    CHECK(!m->weights.layers[0].bq && !r->tied_head);
    CHECK(m->weights.head.data != m->weights.embed.data);
    CHECK(!m->weights.rope_divisor && !m->weights.layers[0].bq);
    for (int i = 0; i < LAYERS; i++) {
        const bt_layer_weights *l = &m->weights.layers[i];
        CHECK_INT(l->wk.rows, KV * HEAD_DIM);
        CHECK_INT(l->w_down.cols, FFN);
        CHECK_INT(l->w_down.rows, HIDDEN);
        CHECK_INT(l->wo.format, BT_FORMAT_F32);
        CHECK((uintptr_t)l->attn_norm % 64 == 0 && (uintptr_t)l->ffn_norm % 64 == 0);
        CHECK_NEAR(l->ffn_norm[HIDDEN - 1], 1, 0);
    }
    uint64_t layer =
        HIDDEN * HEADS * HEAD_DIM * 2 + HIDDEN * KV * HEAD_DIM * 2 + 3 * HIDDEN * FFN + 2 * HIDDEN;
    CHECK_INT(m->n_params, 2 * HIDDEN * VOCAB + HIDDEN + LAYERS * layer);
    CHECK_INT(m->weights_bytes, m->n_params * 4);
}

static void check_tied(const bt_model *m)
{
    CHECK(m->recipe.tied_head && m->weights.head.data == m->weights.embed.data);
    CHECK_INT(m->weights.head.rows, VOCAB);
}

static void check_bias(const bt_model *m)
{
    CHECK_NEAR(m->weights.layers[1].bv[KV * HEAD_DIM - 1], 1, 0);
    CHECK_NEAR(m->weights.layers[0].bo[HIDDEN - 1], 1, 0);
    CHECK_NEAR(m->weights.layers[0].b_down[HIDDEN - 1], 1, 0);
    CHECK_NEAR(m->weights.layers[1].b_gate[FFN - 1], 1, 0);
    CHECK_NEAR(m->weights.layers[1].b_up[FFN - 1], 1, 0);
}

static void check_no_bias(const bt_model *m)
{
    CHECK_STR(m->recipe.arch, "qwen2");
    CHECK(!m->weights.layers[0].bq && !m->weights.layers[1].bv);
}

/* What is left out beside others is zero; what is left out altogether is not there. */
static void check_some_bias(const bt_model *m)
{
    const bt_layer_weights *l = m->weights.layers;
    CHECK(l[0].bq && l[0].bk && l[0].bv && l[0].b_gate && l[0].b_up);
    CHECK(!l[0].bo && !l[0].b_down && !l[1].bq && !l[1].b_up);
    CHECK_NEAR(l[0].bk[KV * HEAD_DIM - 1], 1, 0);
    CHECK_NEAR(l[0].b_up[FFN - 1], 1, 0);
    for (int i = 0; i < HEADS * HEAD_DIM; i++) CHECK_NEAR(l[0].bq[i], 0, 0);
    for (int i = 0; i < FFN; i++) CHECK_NEAR(l[0].b_gate[i], 0, 0);
}

static void check_linear(const bt_model *m)
{
    CHECK_INT(m->recipe.rope[0].scaling, BT_ROPE_SCALING_LINEAR);
    CHECK_NEAR(m->recipe.rope[0].factor, 4, 0);
}

/* What one layer has and another has not, or all have alike, by its key. */
static void check_layer_keys(const bt_model *m)
{
    const bt_recipe *r = &m->recipe;
    CHECK_INT(r->layer[0].ffn, FFN);
    CHECK_INT(r->layer[1].window, 32);
    CHECK_NEAR(r->layer[1].attn_cap, 50, 0);
    CHECK_NEAR(r->logit_cap, 30, 0);
    CHECK_NEAR(r->embed_scale, 12, 0);
    CHECK_NEAR(r->residual_scale, 0.5, 0);
    CHECK_NEAR(r->logit_scale, 1, 0);
    CHECK_INT(r->rope[0].scaling, BT_ROPE_SCALING_YARN);
    CHECK_NEAR(r->rope[0].amplitude, 1.13862944, 1e-7); // 1 + 0.1 ln 4
    CHECK_INT(r->rope[0].orig_ctx, 16);
}

static void check_no_scaling(const bt_model *m)
{
    CHECK_INT(m->recipe.rope[0].scaling, BT_ROPE_SCALING_NONE);
}

static void check_divisors(const bt_model *m)
{
    CHECK_INT(m->recipe.rope[0].scaling, BT_ROPE_SCALING_NONE);
    CHECK(m->weights.rope_divisor && m->weights.rope_divisor[1] == 8.0f);
}

static void check_wide_heads(const bt_model *m)
{
    CHECK_INT(m->recipe.layer[0].head_dim, 6);
    CHECK_INT(m->recipe.rope[0].dim, 2);
    CHECK_NEAR(m->recipe.layer[0].attn_scale, 0.25, 0);
}

static float first_norm; // what a vector of 16-bit numbers became

static void check_half_norms(const bt_model *m)
{
    first_norm = m->weights.out_norm[HIDDEN - 1];
    CHECK_NEAR(m->weights.layers[0].attn_norm[3], -1.5, 0);
    CHECK_INT(m->weights.layers[0].wq.format, BT_FORMAT_Q4_K);
}

static void what_a_recipe_expresses_opens(void)
{
    spec s;
    spec_llama(&s);
    expect_opens(&s, check_plain);

    spec_llama(&s); // absent kv heads: as many as query heads
    key(&s, "llama.attention.head_count_kv", -1, 0);
    for (int i = 0; i < LAYERS; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.attn_k.weight", i);
        tensor(&s, name, HIDDEN, HEADS * HEAD_DIM);
        snprintf(name, sizeof name, "blk.%d.attn_v.weight", i);
        tensor(&s, name, HIDDEN, HEADS * HEAD_DIM);
    }
    tensor(&s, "output.weight", HIDDEN, VOCAB)->dropped = true;
    expect_opens(&s, check_tied);

    spec_llama(&s); // biases are honoured where a llama has them
    for (int i = 0; i < LAYERS; i++) layer_tensors(&s, i, true);
    expect_opens(&s, check_bias);

    spec_llama(&s); // a qwen2 without any
    for (int i = 0; i < s.n_keys; i++) {
        const char *dot = strchr(s.key[i].key, '.');
        static char name[64][64];
        if (strncmp(s.key[i].key, "llama.", 6) != 0) continue;
        snprintf(name[i], sizeof name[i], "qwen2%s", dot);
        s.key[i].key = name[i];
    }
    text(&s, "general.architecture", "qwen2");
    expect_opens(&s, check_no_bias);

    spec_llama(&s);
    tensor(&s, "blk.0.attn_k.bias", KV * HEAD_DIM, 0);
    tensor(&s, "blk.0.ffn_up.bias", FFN, 0);
    expect_opens(&s, check_some_bias);

    spec_llama(&s); // per-layer arrays that say the same for each layer, neutral refusals
    array(&s, "llama.attention.head_count_kv", KV, LAYERS, 0);
    array(&s, "llama.feed_forward_length", FFN, LAYERS, 0);
    key(&s, "llama.expert_count", BT_GGUF_U32, 0);
    key(&s, "llama.logit_scale", BT_GGUF_F32, 1);
    key(&s, "llama.attention.sliding_window", BT_GGUF_U32, 64);
    key(&s, "llama.attention.causal", BT_GGUF_BOOL, 1);
    text(&s, "llama.rope.scaling.type", "none");
    text(&s, "general.type", "model");
    expect_opens(&s, check_plain);

    spec_llama(&s);
    text(&s, "llama.rope.scaling.type", "linear");
    key(&s, "llama.rope.scaling.factor", BT_GGUF_F32, 4);
    expect_opens(&s, check_linear);

    spec_llama(&s);
    key(&s, "llama.attention.sliding_window", BT_GGUF_U32, 32);
    key(&s, "llama.attn_logit_softcapping", BT_GGUF_F32, 50);
    key(&s, "llama.final_logit_softcapping", BT_GGUF_F32, 30);
    key(&s, "llama.embedding_scale", BT_GGUF_F32, 12);
    key(&s, "llama.residual_scale", BT_GGUF_F32, 0.5);
    text(&s, "llama.rope.scaling.type", "yarn");
    key(&s, "llama.rope.scaling.factor", BT_GGUF_F32, 4);
    key(&s, "llama.rope.scaling.original_context_length", BT_GGUF_U32, 16);
    expect_opens(&s, check_layer_keys);
    key(&s, "llama.rope.scaling.type", -1, 0);
    expect_opens(&s, check_linear);
    text(&s, "llama.rope.scaling.type", "none");
    expect_opens(&s, check_no_scaling);
    text(&s, "llama.rope.scaling.type", "linear");
    key(&s, "llama.rope.scaling.factor", BT_GGUF_F32, 0); // as some converters say "none"
    expect_opens(&s, check_no_scaling);
    spec_llama(&s);
    key(&s, "llama.rope.scale_linear", BT_GGUF_F32, 4);
    expect_opens(&s, check_linear);

    spec_llama(&s);
    tensor(&s, "rope_freqs.weight", HEAD_DIM / 2, 0)->fill = 8;
    tensor(&s, "blk.1.attn_rot_embd.weight", 2, 0); // of old converters; without meaning
    expect_opens(&s, check_divisors);
}

static void other_sizes_and_formats_open(void)
{
    spec s;
    spec_llama(&s); // heads wider than hidden / heads, rope over a part, a scale of its own
    key(&s, "llama.attention.key_length", BT_GGUF_U32, 6);
    key(&s, "llama.attention.value_length", BT_GGUF_U32, 6);
    key(&s, "llama.rope.dimension_count", BT_GGUF_U32, 2);
    key(&s, "llama.attention.scale", BT_GGUF_F32, 0.25);
    for (int i = 0; i < LAYERS; i++) {
        static const char *const name[] = {"q.weight", "k.weight", "v.weight", "output.weight"};
        for (int j = 0; j < 4; j++) {
            char full[64];
            snprintf(full, sizeof full, "blk.%d.attn_%s", i, name[j]);
            uint64_t wide = 6 * (j == 0 || j == 3 ? HEADS : KV);
            tensor(&s, full, j == 3 ? wide : HIDDEN, j == 3 ? HIDDEN : wide);
        }
    }
    expect_opens(&s, check_wide_heads);

    /* Formats are the backend's business (Q4_K has no kernel), but norms become F32 here. */
    static const struct {
        uint16_t bits;
        double value;
    } half[] = {{0x3c00, 1},       {0x3555, 0.333251953125}, {0xc400, -4},      {0x7bff, 65504},
                {0x0001, 0x1p-24}, {0x83ff, -0x3ffp-24},     {0x0400, 0x1p-14}, {0x8000, 0}};
    spec_llama(&s);
    spec_tensor *norm = tensor(&s, "blk.0.attn_norm.weight", HIDDEN, 0);
    norm->format = BT_FORMAT_BF16;
    norm->bits = 0xbfc0;
    key(&s, "llama.embedding_length", BT_GGUF_U32, 256);
    key(&s, "llama.attention.head_count", BT_GGUF_U32, 64);
    key(&s, "llama.attention.head_count_kv", BT_GGUF_U32, 32);
    for (int i = 0; i < s.n_tensors; i++)
        for (int d = 0; d < 2; d++) {
            spec_tensor *t = &s.tensor[i];
            bool kv = d == 1 && (strstr(t->name, "attn_k") || strstr(t->name, "attn_v"));
            if (t->dim[d] == HIDDEN) t->dim[d] = 256;
            if (kv) t->dim[d] = 128;
        }
    tensor(&s, "blk.0.attn_q.weight", 256, 256)->format = BT_FORMAT_Q4_K;
    for (size_t i = 0; i < sizeof half / sizeof *half; i++) {
        norm = tensor(&s, "output_norm.weight", 256, 0);
        norm->format = BT_FORMAT_F16;
        norm->bits = half[i].bits;
        expect_opens(&s, check_half_norms);
        CHECK_NEAR(first_norm, half[i].value, 0);
    }
    norm->bits = 0x7c00;
    expect_refused(&s, BT_EFORMAT, "tensor 'output_norm.weight' holds inf at 0");
}

/* What is refused -------------------------------------------------------------------------------*/

static void missing_keys_are_named(void)
{
    static const char *const needed[] = {
        "llama.block_count",          "llama.context_length",
        "llama.embedding_length",     "llama.feed_forward_length",
        "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon",
        "general.architecture",
    };
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        spec s;
        char says[96];
        spec_llama(&s);
        key(&s, needed[i], -1, 0);
        snprintf(says, sizeof says, "F lacks the key '%s'", needed[i]);
        expect_refused(&s, BT_EFORMAT, says);
    }
}

static void missing_and_wrong_tensors_are_named(void)
{
    spec s;
    spec_llama(&s);
    int n = s.n_tensors;
    for (int i = 0; i < n; i++) {
        char says[128];
        spec_llama(&s);
        if (strcmp(s.tensor[i].name, "output.weight") != 0) { // absent: tied
            s.tensor[i].dropped = true;
            snprintf(says, sizeof says, "F lacks the tensor '%s'", s.tensor[i].name);
            expect_refused(&s, BT_EFORMAT, says);
        }
        if (strcmp(s.tensor[i].name, "token_embd.weight") == 0) continue; // its rows are the vocab
        spec_llama(&s);
        s.tensor[i].dim[s.tensor[i].n_dims - 1]++;
        snprintf(says, sizeof says, "F: tensor '%s' is ", s.tensor[i].name);
        expect_refused(&s, BT_EFORMAT, says);
    }
    spec_llama(&s);
    tensor(&s, "blk.1.attn_k.weight", HIDDEN, 2 * HEAD_DIM);
    expect_refused(&s, BT_EFORMAT, "tensor 'blk.1.attn_k.weight' is 8 x 8; expected 8 x 4");
    spec_llama(&s);
    tensor(&s, "blk.0.ffn_norm.weight", HIDDEN, 2);
    expect_refused(&s, BT_EFORMAT, "tensor 'blk.0.ffn_norm.weight' is 8 x 2; expected 8");
    spec_llama(&s);
    spec_tensor *t = tensor(&s, "blk.0.ffn_up.weight", HIDDEN, FFN);
    t->n_dims = 3;
    t->dim[2] = 4;
    expect_refused(&s, BT_EFORMAT, "'blk.0.ffn_up.weight' is 8 x 12 x 4; expected 8 x 12");

    static const char *const unknown[] = {"blk.0.attn_qkv.scale", "blk.0.attn_q_norm.weight",
                                          "blk.2.attn_q.weight", "blk.00.attn_norm.weight",
                                          "vision.patch"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        char says[128];
        spec_llama(&s);
        tensor(&s, unknown[i], HIDDEN, 0);
        snprintf(says, sizeof says, "tensor '%s' that the architecture llama does not know",
                 unknown[i]);
        expect_refused(&s, BT_EUNSUPPORTED, says);
    }
    spec_llama(&s);
    tensor(&s, "blk.1.ffn_up.bias", FFN + 1, 0);
    expect_refused(&s, BT_EFORMAT, "'blk.1.ffn_up.bias' is 13; expected 12");
}

static void damaged_numbers_are_refused(void)
{
    spec s;
    spec_llama(&s);
    tensor(&s, "blk.1.ffn_norm.weight", HIDDEN, 0)->fill = NAN;
    expect_refused(&s, BT_EFORMAT, "tensor 'blk.1.ffn_norm.weight' holds nan at 0");
    spec_llama(&s);
    tensor(&s, "rope_freqs.weight", HEAD_DIM / 2, 0)->fill = 0;
    expect_refused(&s, BT_EFORMAT, "tensor 'rope_freqs.weight' holds 0 at 0");
    spec_llama(&s);
    tensor(&s, "output_norm.weight", HIDDEN, 0)->format = BT_FORMAT_I8;
    expect_refused(&s, BT_EUNSUPPORTED, "'output_norm.weight' is I8; expected F32, F16 or BF16");
}

/* One key set to a value that must be refused. */
static const struct bad_key {
    const char *key;
    int type;
    double number;
    bt_status code;
    const char *says;
} bad_keys[] = {
    {"llama.block_count", BT_GGUF_U32, 0, BT_EFORMAT, "'llama.block_count' is 0; expected 1 to"},
    {"llama.block_count", BT_GGUF_U32, 513, BT_EFORMAT, "'llama.block_count' is 513"},
    {"llama.block_count", BT_GGUF_F32, 2, BT_EFORMAT, "is a 32-bit float; expected an integer"},
    {"llama.embedding_length", BT_GGUF_I32, -8, BT_EFORMAT, "'llama.embedding_length' is -8"},
    {"llama.attention.head_count", BT_GGUF_U32, 3, BT_EFORMAT, "3 heads do not divide a width"},
    {"llama.attention.head_count_kv", BT_GGUF_U32, 4, BT_EFORMAT, "2 query heads cannot share 4"},
    {"llama.attention.key_length", BT_GGUF_U32, 3, BT_EFORMAT, "rope over 3 of 3 numbers"},
    {"llama.attention.value_length", BT_GGUF_U32, 8, BT_EUNSUPPORTED, "values of 8 numbers"},
    {"llama.rope.dimension_count", BT_GGUF_U32, 6, BT_EFORMAT, "rope over 6 of 4 numbers"},
    {"llama.rope.freq_base", BT_GGUF_F32, 0, BT_EFORMAT, "'llama.rope.freq_base' is 0"},
    {"llama.rope.freq_base", BT_GGUF_F32, INFINITY, BT_EFORMAT, "'llama.rope.freq_base' is inf"},
    {"llama.rope.scaling.factor", BT_GGUF_F32, -2, BT_EFORMAT, "factor' is -2"},
    {"llama.attention.layer_norm_rms_epsilon", BT_GGUF_F32, 2, BT_EFORMAT, "epsilon of 2"},
    {"llama.attention.scale", BT_GGUF_F32, -1, BT_EFORMAT, "attention scale of -1"},
    {"llama.expert_count", BT_GGUF_U32, 8, BT_EUNSUPPORTED,
     "a mixture of experts (key 'llama.expert_count')"},
    {"llama.attention.sliding_window", BT_GGUF_I32, -1, BT_EFORMAT, "sliding_window' is -1"},
    {"llama.attn_logit_softcapping", BT_GGUF_F32, -1, BT_EFORMAT, "softcapping' is -1"},
    {"llama.residual_scale", BT_GGUF_F32, 0, BT_EFORMAT, "residual_scale' is 0"},
    {"llama.logit_scale", BT_GGUF_F32, 0.5, BT_EUNSUPPORTED, "scaled logits"},
    {"llama.attention.causal", BT_GGUF_BOOL, 0, BT_EUNSUPPORTED, "an encoder"},
    {"llama.rope.dimension_sections", BT_GGUF_U32, 1, BT_EUNSUPPORTED, "multi-axis rope"},
    {"llama.nextn_predict_layers", BT_GGUF_U32, 1, BT_EUNSUPPORTED, "multi-token prediction"},
    {"general.name", BT_GGUF_U32, 3, BT_EFORMAT, "'general.name' is an unsigned 32-bit integer"},
};

static const struct bad_text {
    const char *key, *value;
    bt_status code;
    const char *says;
} bad_texts[] = {
    {"general.architecture", "mamba", BT_EUNSUPPORTED,
     "the architecture 'mamba' is not known; docs/models.md lists"},
    {"general.architecture", "a\x01\xff", BT_EUNSUPPORTED, "the architecture 'a?\?' is not known"},
    {"general.type", "adapter", BT_EUNSUPPORTED, "F is a LoRA adapter and no model"},
    {"llama.rope.scaling.type", "dynamic", BT_EUNSUPPORTED,
     "'dynamic' is not supported; none, lin"},
    {"llama.block_count", "two", BT_EFORMAT, "'llama.block_count' is a string"},
    {"llama.expert_count", "eight", BT_EUNSUPPORTED, "a mixture of experts"},
};

static void what_a_recipe_lacks_is_refused_by_key(void)
{
    spec s;
    for (size_t i = 0; i < sizeof bad_keys / sizeof *bad_keys; i++) {
        spec_llama(&s);
        key(&s, bad_keys[i].key, bad_keys[i].type, bad_keys[i].number);
        expect_refused(&s, bad_keys[i].code, bad_keys[i].says);
    }
    for (size_t i = 0; i < sizeof bad_texts / sizeof *bad_texts; i++) {
        spec_llama(&s);
        text(&s, bad_texts[i].key, bad_texts[i].value);
        expect_refused(&s, bad_texts[i].code, bad_texts[i].says);
    }
    spec_llama(&s);
    array(&s, "llama.attention.head_count_kv", 1, LAYERS, 1); // the second layer's are two
    expect_refused(&s, BT_EFORMAT, "'blk.1.attn_k.weight' is 8 x 4; expected 8 x 8");
    spec_llama(&s);
    array(&s, "llama.attention.head_count_kv", -1, LAYERS, 0);
    expect_refused(&s, BT_EFORMAT, "head_count_kv' is -1");
    spec_llama(&s);
    array(&s, "llama.attention.head_count", 0, -1, 0); // n < 0: an array of nothing
    expect_refused(&s, BT_EFORMAT, "'llama.attention.head_count' is not a number");
    spec_llama(&s);
    array(&s, "tokenizer.ggml.tokens", 0, VOCAB + 1, 0);
    expect_refused(&s, BT_EFORMAT, "an embedding of 6 rows does not go with 7 tokens");
    spec_llama(&s);
    s.n_tensors = 0;
    expect_refused(&s, BT_EUNSUPPORTED, "F is a vocabulary and holds no weights");
}

static void long_names_are_cut_on_a_character(void)
{
    spec s;
    char name[200] = "";
    for (int i = 0; i < 60; i++) strcat(name, "\xc3\xa9"); // 2 bytes each
    spec_llama(&s);
    text(&s, "general.name", name);
    bt_buf b = BT_BUF_INIT;
    bt_gguf *g = NULL;
    bt_model *m = NULL;
    CHECK_INT(open_spec(&s, &b, &g, &m, NULL), BT_OK);
    if (m) CHECK_INT(strlen(m->recipe.name), 94);
    bt_model_close(m);
    bt_gguf_close(g);
    bt_buf_release(&b);
}

/* Real files ------------------------------------------------------------------------------------*/

static void committed_models_open(void)
{
    static const struct {
        const char *path, *arch;
        int layers, hidden, heads, kv, head_dim, vocab, format;
        bool bias, tied, divisors;
        bt_rope_scaling scaling;
    } want[] = {
        {"models/stories260K.gguf", "llama", 5, 64, 8, 4, 8, 512, BT_FORMAT_F32, 0, 0, 0, 0},
        {"tests/data/arch/llama3.gguf", "llama", 2, 16, 4, 2, 8, 48, BT_FORMAT_F16, 0, 0, 1, 0},
        {"tests/data/model/llama-tied.gguf", "llama", 2, 64, 4, 4, 16, 128, BT_FORMAT_F32, 0, 1, 0,
         BT_ROPE_SCALING_LINEAR},
        {"tests/data/model/llama-tied-f16.gguf", "llama", 2, 64, 4, 4, 16, 128, BT_FORMAT_F16, 0, 1,
         0, BT_ROPE_SCALING_LINEAR},
        {"tests/data/model/llama-tied-q8_0.gguf", "llama", 2, 64, 4, 4, 16, 128, BT_FORMAT_Q8_0, 0,
         1, 0, BT_ROPE_SCALING_LINEAR},
        {"tests/data/model/llama-tied-q4_0.gguf", "llama", 2, 64, 4, 4, 16, 128, BT_FORMAT_Q4_0, 0,
         1, 0, BT_ROPE_SCALING_LINEAR},
        {"tests/data/model/qwen2.gguf", "qwen2", 2, 64, 4, 2, 16, 128, BT_FORMAT_F32, 1, 1, 0, 0},
        {"tests/data/gguf/tiny-llama.gguf", "llama", 1, 8, 2, 1, 4, 8, BT_FORMAT_F32, 0, 0, 0, 0},
        {"tests/data/gguf/tiny-qwen2.gguf", "qwen2", 1, 8, 2, 2, 4, 8, BT_FORMAT_F32, 1, 1, 0, 0},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        bt_model *m = NULL;
        bt_err err = {0};
        CHECK_INT(bt_model_open(want[i].path, &m, &err), BT_OK);
        if (!m) {
            fprintf(stderr, "%s\n", err.msg);
            continue;
        }
        const bt_recipe *r = &m->recipe;
        CHECK_STR(r->arch, want[i].arch);
        CHECK(r->n_layers == want[i].layers && r->hidden == want[i].hidden &&
              r->layer[0].n_heads == want[i].heads && r->layer[0].n_kv_heads == want[i].kv &&
              r->layer[0].head_dim == want[i].head_dim && r->vocab == want[i].vocab);
        CHECK(!!m->weights.layers[0].bq == want[i].bias && r->tied_head == want[i].tied);
        CHECK_INT(m->weights.rope_divisor != NULL, want[i].divisors);
        CHECK_INT(r->rope[0].scaling, want[i].scaling);
        CHECK_INT(m->weights.layers[0].wq.format, want[i].format);
        CHECK_INT(r->rope[0].style,
                  strcmp(r->arch, "llama") == 0 ? BT_ROPE_INTERLEAVED : BT_ROPE_HALF);
        if (want[i].divisors) {
            CHECK_NEAR(m->weights.rope_divisor[0], 1, 0);
            CHECK_NEAR(m->weights.rope_divisor[3], 8, 1e-6);
        }
        bt_model_close(m);
    }
    bt_model *m = NULL;
    int64_t t0 = bt_now_ns();
    CHECK_INT(bt_model_open("models/stories260K.gguf", &m, NULL), BT_OK);
    fprintf(stderr, "stories260K opens in %.3f ms\n", (double)(bt_now_ns() - t0) * 1e-6);
    CHECK_INT(m->n_params, 292800);
    bt_model_close(m);
    m = NULL;
    bt_err err = {0};
    CHECK_INT(bt_model_open("models/none.gguf", &m, &err), BT_ENOTFOUND);
    CHECK(!m && strstr(err.msg, "models/none.gguf"));
}

static void every_failed_allocation_is_survived(void)
{
    int n = 1;
    for (;; n++) {
        bt_model *m = NULL;
        bt_err err = {0};
        bt_mem_fail_at(n);
        bt_status s = bt_model_open("tests/data/gguf/tiny-qwen2.gguf", &m, &err);
        bool failed = bt_mem_failed();
        bt_mem_fail_at(0);
        CHECK_INT(s, failed ? BT_ENOMEM : BT_OK);
        CHECK(failed ? !m && strstr(err.msg, "out of memory") : m != NULL);
        bt_model_close(m);
        if (!failed) break;
    }
    CHECK(n > 8);
}

/* Each prefix and each flipped byte of a real file: opens or is refused, and never worse. */
static void cut_and_flipped_files_are_survived(void)
{
    static char file[8192];
    FILE *f = fopen("tests/data/gguf/tiny-qwen2.gguf", "rb");
    REQUIRE(f);
    size_t n = fread(file, 1, sizeof file, f);
    fclose(f);
    int opened = 0;
    for (size_t i = 0; i < 2 * n; i++) {
        size_t len = i < n ? i : n;
        char *copy = malloc(len + !len);
        REQUIRE(copy);
        memcpy(copy, file, len);
        if (i >= n) copy[i - n] = (char)(copy[i - n] ^ (1 << (i % 8)));
        bt_gguf *g = NULL;
        bt_model *m = NULL;
        if (bt_gguf_open_memory(copy, len, "cut", &g, NULL) == BT_OK &&
            bt_model_from_gguf(g, &m, NULL) == BT_OK)
            opened++;
        if (i + 32 < n) CHECK(!m); // the last tensor may end up to 31 bytes before the padding
        bt_model_close(m);
        bt_gguf_close(g);
        free(copy);
    }
    CHECK(opened > 500);
}

int main(void)
{
    RUN(what_a_recipe_expresses_opens);
    RUN(other_sizes_and_formats_open);
    RUN(missing_keys_are_named);
    RUN(missing_and_wrong_tensors_are_named);
    RUN(damaged_numbers_are_refused);
    RUN(what_a_recipe_lacks_is_refused_by_key);
    RUN(long_names_are_cut_on_a_character);
    RUN(committed_models_open);
    RUN(every_failed_allocation_is_survived);
    RUN(cut_and_flipped_files_are_survived);
    return TEST_END();
}
