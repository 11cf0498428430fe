/* SPDX-License-Identifier: Apache-2.0 */
/* test_config.c - config.json: published files give AutoConfig's numbers or are refused by name,
 * and what is wrong in one is named. */
#include "base/mem.h"
#include "file/whole.h"
#include "model/config.h"
#include "model/config_json.h"
#include "model/generation.h"
#include "test.h"

static bt_recipe recipe;
static bt_config config;

static bt_status read_text(const char *text, bt_err *err)
{
    return bt_config_read((bt_str){text, strlen(text)}, "C", &config, &recipe, err);
}

/* Published files ------------------------------------------------------------------------------*/

/* want's number, or `other` where it has none. */
static double wanted(const bt__config *want, const char *key, double other)
{
    bt__config_num(want, key, -1e30, 1e30, &other, NULL);
    return other;
}

#define CHECK_WANT(key, have, other)                                                               \
    do {                                                                                           \
        double w_ = wanted(want, key, other);                                                      \
        CHECK_NEAR(have, w_, fabs(w_) * 1e-6);                                                     \
    } while (0)

static void check_rope(const bt__config *want, const bt_recipe *r)
{
    const bt_rope *rope = &r->rope[0];
    bt_str type = {"default", 7};
    CHECK_INT(bt__config_str(want, "rope_type", &type, NULL), BT_OK);
    if (rope->style == BT_ROPE_NONE) return;
    CHECK_WANT("rope_theta", rope->theta, 0);
    if (strcmp(r->arch, "llama") == 0) CHECK_INT(rope->style, BT_ROPE_HALF);
    CHECK_INT(rope->scaling, bt_str_equals(type, "linear")   ? BT_ROPE_SCALING_LINEAR
                             : bt_str_equals(type, "llama3") ? BT_ROPE_SCALING_LLAMA3
                             : bt_str_equals(type, "yarn")   ? BT_ROPE_SCALING_YARN
                                                             : BT_ROPE_SCALING_NONE);
    if (rope->scaling != BT_ROPE_SCALING_NONE) CHECK_WANT("factor", rope->factor, 1);
    if (rope->scaling == BT_ROPE_SCALING_LLAMA3) {
        CHECK_WANT("low_freq_factor", rope->low, 0);
        CHECK_WANT("high_freq_factor", rope->high, 0);
    }
    if (rope->scaling > BT_ROPE_SCALING_LINEAR) CHECK_WANT("orig_ctx", rope->orig_ctx, 0);
    if (r->n_ropes > 1 && r->rope[1].style != BT_ROPE_NONE)
        CHECK_WANT("local_theta", r->rope[1].theta, 0);
}

static void check_numbers(const bt__config *want, const bt_recipe *r)
{
    const bt_layer_recipe *l = &r->layer[r->n_layers - 1];
    bool tied = false;
    bt_str windows = {"", 0};
    CHECK_WANT("layers", r->n_layers, 0);
    CHECK_WANT("hidden", r->hidden, 0);
    CHECK_WANT("heads", l->n_heads, 0);
    CHECK_WANT("kv_heads", l->n_kv_heads, 0);
    CHECK_WANT("head_dim", l->head_dim, 0);
    CHECK_WANT("ffn", l->ffn, 0);
    CHECK_WANT("vocab", r->vocab, 0);
    CHECK_WANT("ctx", r->ctx_train, 0);
    CHECK_WANT("eps", r->norm_eps, 0);
    CHECK_INT(bt__config_bool(want, "tied", &tied, NULL), BT_OK);
    CHECK_INT(config.tied, tied);
    CHECK_INT(bt__config_str(want, "windows", &windows, NULL), BT_OK);
    int64_t window = (int64_t)wanted(want, "window", 0);
    for (int32_t i = 0; i < r->n_layers; i++) {
        bool sliding = windows.n ? windows.s[i] == 's' : window > 0;
        CHECK_INT(r->layer[i].window, sliding && window < r->ctx_train ? window : 0);
    }
    check_rope(want, r);
}

/* BATON_CONFIGS: another file of the same kind, with all that there is. */
static void published(void)
{
    const char *path = getenv("BATON_CONFIGS");
    char *text = NULL;
    size_t n = 0;
    int loaded = 0, refused = 0;
    REQUIRE(
        !bt_file_read(path ? path : "tests/data/model/configs.jsonl", 1 << 26, &text, &n, NULL));
    for (char *line = text, *end; *line; line = end + 1) {
        bt__config row = {0}, want = {0};
        bt_str file = {0};
        bt_err err = {0};
        end = strchr(line, '\n');
        REQUIRE(end);
        REQUIRE(!bt__config_open((bt_str){line, (size_t)(end - line)}, "L", "", &row, NULL));
        REQUIRE(!bt__config_str(&row, "file", &file, NULL));
        const bt_str *body = bt__config_span(&row, "config");
        REQUIRE(body && !bt__config_object(&row, "want", "", &want, NULL));
        int failed = test_failed;
        if (bt_config_read(*body, "C", &config, &recipe, &err) == BT_OK) {
            CHECK(want.n > 0);
            check_numbers(&want, &recipe);
            loaded++;
        } else {
            CHECK_INT(err.code, BT_EUNSUPPORTED);
            CHECK(strstr(err.msg, "model_type '") || strstr(err.msg, "asks for "));
            refused++;
        }
        if (path || failed != test_failed)
            fprintf(stderr, "%.*s: %s\n", (int)file.n, file.s, err.code ? err.msg : "loaded");
        bt__config_close(&want);
        bt__config_close(&row);
    }
    fprintf(stderr, "  %d loaded, %d refused by name\n", loaded, refused);
    CHECK(loaded >= 4 && refused > 10);
    bt_free(text);
}

/* What is said of one --------------------------------------------------------------------------*/

#define SMALL                                                                                      \
    "\"hidden_size\":8,\"intermediate_size\":12,\"num_hidden_layers\":2,"                          \
    "\"num_attention_heads\":2,\"vocab_size\":6,\"max_position_embeddings\":64"
#define LLAMA "\"model_type\":\"llama\"," SMALL

static void expect(const char *text, bt_status code, const char *says)
{
    bt_err err = {0};
    bt_status st = read_text(text, &err);
    bool as_said = st == code && strstr(err.msg, says);
    CHECK(as_said && strlen(err.msg) + 1 < sizeof err.msg);
    if (!as_said) fprintf(stderr, "%s\ngot: %d %s\nnot: %s\n", text, st, err.msg, says);
}

static void defaults(void)
{
    expect("{" LLAMA "}", BT_OK, "");
    const bt_layer_recipe *l = &recipe.layer[1];
    CHECK_INT(l->n_kv_heads, 2);
    CHECK_INT(l->head_dim, 4);
    CHECK_INT(recipe.rope[0].dim, 4);
    CHECK_NEAR(recipe.norm_eps, 1e-6f, 0);
    CHECK_NEAR(recipe.rope[0].theta, 10000, 0);
    CHECK_NEAR(l->attn_scale, 0.5, 1e-7);
    CHECK(recipe.logit_scale == 1 && recipe.embed_scale == 1 && !config.tied);
    expect("{\"model_type\":\"llama\"}", BT_OK, "");
    CHECK_INT(recipe.hidden, 4096);
    CHECK_INT(recipe.n_layers, 32);
    CHECK_INT(recipe.vocab, 32000);
    expect("{" LLAMA ",\"num_key_value_heads\":null,\"head_dim\":null,\"rope_scaling\":null}",
           BT_OK, "");
    expect("\xef\xbb\xbf{" LLAMA "}", BT_OK, "");
    /* Of equal members the last one counts, as in Python. */
    expect("{" LLAMA ",\"hidden_size\":16}", BT_OK, "");
    CHECK_INT(recipe.hidden, 16);
}

static void nested(void)
{
    expect("{\"model_type\":\"llava\",\"vision_config\":{\"hidden_size\":3},\"text_config\":{" LLAMA
           "}}",
           BT_OK, "");
    CHECK(recipe.hidden == 8 && config.multimodal);
    expect("{\"model_type\":\"mistral3\",\"tie_word_embeddings\":true,\"text_config\":{" SMALL
           ",\"num_key_value_heads\":1}}",
           BT_OK, "");
    CHECK(config.tied && strcmp(recipe.arch, "llama") == 0);
    expect(
        "{\"model_type\":\"x\",\"text_config\":{\"model_type\":\"llama\",\"hidden_size\":\"8\"}}",
        BT_EFORMAT, "'text_config.hidden_size'");
    expect("{\"model_type\":\"qwen2_vl\",\"vision_config\":{}," SMALL
           ",\"num_key_value_heads\":2,\"rope_scaling\":{\"type\":\"mrope\","
           "\"mrope_section\":[1,1]}}",
           BT_OK, "");
    CHECK(config.multimodal && recipe.rope[0].scaling == BT_ROPE_SCALING_NONE);
}

static void ropes(void)
{
    expect("{" LLAMA ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":4.0}}", BT_OK, "");
    CHECK(recipe.rope[0].scaling == BT_ROPE_SCALING_LINEAR && recipe.rope[0].factor == 4);
    expect("{" LLAMA ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":4.0}}", BT_OK, "");
    CHECK(recipe.rope[0].scaling == BT_ROPE_SCALING_NONE && recipe.ctx_train == 64);
    expect("{" LLAMA ",\"rope_parameters\":{\"rope_type\":\"llama3\",\"rope_theta\":5e5,"
           "\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,"
           "\"original_max_position_embeddings\":32}}",
           BT_OK, "");
    CHECK_NEAR(recipe.rope[0].theta, 5e5, 0);
    CHECK_INT(recipe.rope[0].orig_ctx, 32);
    expect("{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,"
           "\"original_max_position_embeddings\":16}}",
           BT_OK, "");
    CHECK_INT(recipe.rope[0].scaling, BT_ROPE_SCALING_YARN);
    CHECK_NEAR(recipe.rope[0].amplitude, 0.1 * log(4) + 1, 1e-6);
    CHECK(recipe.rope[0].low == 1 && recipe.rope[0].high == 32);
    expect("{" LLAMA ",\"original_max_position_embeddings\":16,\"rope_scaling\":{\"type\":\"su\","
           "\"short_factor\":[1,1.5],\"long_factor\":[2,3]}}",
           BT_OK, "");
    CHECK_INT(config.n_pairs, 2);
    CHECK(config.divisor[1] == 1.5f && config.divisor_long[1] == 3);
    CHECK_NEAR(recipe.rope[0].amplitude, sqrt(1 + log(4) / log(16)), 1e-6);
    static const struct {
        const char *scaling, *says;
        bt_status code;
    } row[] = {
        {"{\"type\":\"linear\"}", "lacks 'rope_scaling.factor'", BT_EFORMAT},
        {"{\"type\":\"linear\",\"factor\":0}", "'rope_scaling.factor' is 0", BT_EFORMAT},
        {"{\"type\":\"linear\",\"factor\":\"2\"}", "'rope_scaling.factor' is", BT_EFORMAT},
        {"{\"type\":\"llama3\",\"factor\":8,\"high_freq_factor\":4}",
         "lacks 'rope_scaling.low_freq", BT_EFORMAT},
        {"{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4,"
         "\"original_max_position_embeddings\":32}",
         "has to be above", BT_EFORMAT},
        {"{\"type\":\"longrope\",\"short_factor\":[1],\"long_factor\":[2,3]}",
         "'rope_scaling.short_factor' has to be a list of 2", BT_EFORMAT},
        {"{\"type\":\"longrope\",\"short_factor\":[1,-1],\"long_factor\":[2,3]}",
         "'rope_scaling.short_factor'", BT_EFORMAT},
        {"{\"type\":\"longrope\",\"short_factor\":[1,1],\"long_factor\":[2,3]}",
         "lacks 'rope_scaling.original", BT_EFORMAT},
        {"{\"type\":\"proportional\"}", "rope scaling 'proportional' ('rope_scaling.rope_type')",
         BT_EUNSUPPORTED},
        {"{\"type\":\"yarn\",\"factor\":4,\"truncate\":false}", "yarn without truncation",
         BT_EUNSUPPORTED},
        {"7", "'rope_scaling' is 7; an object was expected", BT_EFORMAT},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char text[600];
        snprintf(text, sizeof text, "{" LLAMA ",\"rope_scaling\":%s}", row[i].scaling);
        expect(text, row[i].code, row[i].says);
    }
}

/* Which layers have a window, and which rope, where the file says it of each. */
static void layers(void)
{
    static const char types[] = ",\"layer_types\":[\"full_attention\",\"sliding_attention\"]}";
    static const struct {
        const char *type, *window;
        int32_t windows[2], ropes[2];
    } row[] = {
        {"gemma3_text", "8", {0, 8}, {0, 1}},   {"gemma3_text", "0", {0, 0}, {0, 0}},
        {"gemma3_text", "64", {0, 64}, {0, 1}}, {"cohere2", "8", {0, 8}, {1, 0}},
        {"gemma2", "8", {0, 8}, {0, 0}},        {"gemma2", "64", {0, 0}, {0, 0}},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char text[600];
        snprintf(text, sizeof text,
                 "{" SMALL ",\"num_key_value_heads\":1,\"head_dim\":4,\"model_type\":\"%s\","
                 "\"sliding_window\":%s%s",
                 row[i].type, row[i].window, types);
        expect(text, BT_OK, "");
        for (int k = 0; k < 2; k++) {
            CHECK_INT(recipe.layer[k].window, row[i].windows[k]);
            CHECK_INT(recipe.layer[k].rope, row[i].ropes[k]);
            CHECK(recipe.layer[k].rope < recipe.n_ropes);
        }
    }
}

static void refusals(void)
{
    static const struct {
        const char *more, *says;
        bt_status code;
    } row[] = {
        {"\"hidden_size\":-1", "'hidden_size' is -1", BT_EFORMAT},
        {"\"hidden_size\":1e9", "'hidden_size' is 1e9; a whole number was expected", BT_EFORMAT},
        {"\"hidden_size\":4294967304", "'hidden_size' is 4294967304", BT_EFORMAT},
        {"\"hidden_size\":[8]", "'hidden_size' is [8]", BT_EFORMAT},
        {"\"num_hidden_layers\":100000", "'num_hidden_layers' is 100000; 1 to 512", BT_EFORMAT},
        {"\"num_attention_heads\":3", "'num_attention_heads' 3 do not divide", BT_EFORMAT},
        {"\"num_key_value_heads\":3", "cannot share", BT_EFORMAT},
        {"\"head_dim\":5", "rope over 5", BT_EFORMAT},
        {"\"vocab_size\":true", "'vocab_size' is true", BT_EFORMAT},
        {"\"rms_norm_eps\":\"x\"", "'rms_norm_eps'", BT_EFORMAT},
        {"\"rms_norm_eps\":NaN", "'rms_norm_eps'", BT_EFORMAT},
        {"\"rope_theta\":0", "'rope_theta' is 0", BT_EFORMAT},
        {"\"tie_word_embeddings\":1", "'tie_word_embeddings'", BT_EFORMAT},
        {"\"hidden_act\":7", "'hidden_act'", BT_EFORMAT},
        {"\"hidden_act\":\"xielu\"", "the activation 'xielu'", BT_EUNSUPPORTED},
        {"\"num_local_experts\":8", "a mixture of experts ('num_local_experts')", BT_EUNSUPPORTED},
        {"\"layer_types\":[\"full_attention\"]", "'layer_types' is shorter", BT_EFORMAT},
        {"\"layer_types\":[\"full_attention\",\"linear_attention\"]", "layers of other kinds",
         BT_EUNSUPPORTED},
        {"\"layer_types\":[1,2]", "'layer_types'", BT_EFORMAT},
        {"\"model_type\":\"zzz\"", "model_type 'zzz' is not supported; supported are llama",
         BT_EUNSUPPORTED},
        {"\"model_type\":\"mixtral\",\"num_local_experts\":8",
         "model_type 'mixtral' (a mixture of experts)", BT_EUNSUPPORTED},
        {"\"model_type\":5", "'model_type'", BT_EFORMAT},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char text[600];
        snprintf(text, sizeof text, "{" LLAMA ",%s}", row[i].more);
        expect(text, row[i].code, row[i].says);
    }
    expect("{" SMALL "}", BT_EFORMAT, "lacks 'model_type'");
    expect("[]", BT_EFORMAT, "an object was expected");
    expect("", BT_EFORMAT, "ends too early");
}

static void every_prefix_is_refused(void)
{
    static const char text[] =
        "{" LLAMA ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4},\"layer_types\":"
        "[\"full_attention\",\"full_attention\"],\"quantization_config\":{\"bits\":4}}";
    for (size_t n = 0; n < sizeof text - 1; n++) {
        bt_err err = {0};
        char *exact = malloc(n + !n);
        REQUIRE(exact);
        memcpy(exact, text, n);
        CHECK_INT(bt_config_read((bt_str){exact, n}, "C", &config, &recipe, &err), BT_EFORMAT);
        CHECK(strncmp(err.msg, "C ", 2) == 0);
        free(exact);
    }
    CHECK_INT(read_text(text, NULL), BT_OK);
    CHECK(config.quantization.n == 10);
}

static void generation(void)
{
    static const char text[] = "{\"do_sample\":true,\"temperature\":0.6,\"top_p\":0.9,\"top_k\":20,"
                               "\"repetition_penalty\":1.05,\"eos_token_id\":[1,2]}";
    bt_generation g;
    bt_gen_params p;
    bt_err err = {0};
    memset(&p, 0, sizeof p);
    p.min_p = 0.25f;
    p.repeat_last_n = 64;
    CHECK_INT(bt_generation_read((bt_str){text, sizeof text - 1}, "G", &g, &err), BT_OK);
    bt_generation_apply(&g, &p);
    CHECK(p.temperature == 0.6f && p.top_p == 0.9f && p.top_k == 20 && p.min_p == 0.25f);
    CHECK(p.repeat_penalty == 1.05f && p.repeat_last_n == -1);
    g = bt_generation_none();
    p.repeat_last_n = 64;
    bt_generation_apply(&g, &p);
    CHECK(p.temperature == 0.6f && p.repeat_last_n == 64);
    CHECK_INT(bt_generation_read((bt_str){"{\"top_p\":\"x\"}", 13}, "G", &g, &err), BT_EFORMAT);
    CHECK(strstr(err.msg, "G: 'top_p' is"));
    CHECK_INT(bt_generation_read((bt_str){"{\"temperature\":-1}", 18}, "G", &g, &err), BT_EFORMAT);
}

int main(void)
{
    RUN(published);
    RUN(defaults);
    RUN(nested);
    RUN(ropes);
    RUN(layers);
    RUN(refusals);
    RUN(every_prefix_is_refused);
    RUN(generation);
    return TEST_END();
}
