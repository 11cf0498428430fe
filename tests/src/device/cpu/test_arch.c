/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 300 */
/* Every architecture on the CPU against transformers: tests/data/arch/README.md. */
#include "model/model.h"
#include "src/device/drive.h"

static const bt_backend *const cpu = &bt_backend_cpu;

static const char *const names[] = {
    "apertus",    "arcee",      "bloom",
    "cohere",     "cohere2",    "ernie4_5",
    "exaone4",    "falcon",     "falcon-two-norms",
    "gemma",      "gemma2",     "gemma3",
    "glm4",       "gpt2",       "gpt_neox",
    "granite",    "hunyuan",    "llama-bias",
    "llama-yarn", "llama3",     "ministral3",
    "mistral",    "mpt",        "nemotron",
    "olmo",       "olmo2",      "olmo3",
    "phi2",       "phi3",       "phi3-longrope",
    "qwen3",      "seed_oss",   "smollm3",
    "stablelm",   "starcoder2",
};

typedef struct golden {
    int32_t n, vocab;
    int32_t ids[64];
    float *logits; // owned, [n][vocab]
} golden;

static golden golden_read(const char *name)
{
    char path[128];
    golden g = {0};
    snprintf(path, sizeof path, "tests/data/arch/%s.bin", name);
    FILE *f = fopen(path, "rb");
    REQUIRE(f);
    REQUIRE(fread(&g, sizeof(int32_t), 2, f) == 2 && g.n <= 64);
    REQUIRE(fread(g.ids, sizeof *g.ids, (size_t)g.n, f) == (size_t)g.n);
    size_t count = (size_t)g.n * (size_t)g.vocab;
    g.logits = bt_must(bt_malloc(count * sizeof *g.logits));
    REQUIRE(fread(g.logits, sizeof *g.logits, count, f) == count);
    fclose(f);
    return g;
}

static int32_t best(const float *x, int32_t n, float *gap)
{
    int32_t top = 0;
    float second = -INFINITY;
    for (int32_t i = 1; i < n; i++)
        if (x[i] > x[top]) top = i;
    for (int32_t i = 0; i < n; i++)
        if (i != top) second = fmaxf(second, x[i]);
    *gap = x[top] - second;
    return top;
}

/* Rows [from, n) of got against the golden's: 1e-4 of the logits' size, and the same greedy token
 * wherever that leaves no doubt. */
static void compare(const char *name, const char *how, const golden *g, const float *got)
{
    double error = 0, size = 0;
    for (int64_t i = 0; i < (int64_t)g->n * g->vocab; i++) {
        error = fmax(error, fabs((double)got[i] - (double)g->logits[i]));
        size += (double)g->logits[i] * (double)g->logits[i];
    }
    size = sqrt(size / ((double)g->n * g->vocab));
    CHECK(error <= 1e-4 * size);
    if (!(error <= 1e-4 * size))
        fprintf(stderr, "     %s, %s: off by %g of %g\n", name, how, error, size);
    for (int32_t r = 0; r < g->n; r++) {
        float gap, other;
        int32_t want = best(g->logits + (int64_t)r * g->vocab, g->vocab, &gap);
        if ((double)gap > 2e-4 * size)
            CHECK_INT(best(got + (int64_t)r * g->vocab, g->vocab, &other), want);
    }
}

static void check_arch(const char *name, const char *path)
{
    bt_model *model = NULL;
    bt_device *d = NULL;
    bt_err err = {0};
    if (bt_model_open(path, &model, &err) != BT_OK) fprintf(stderr, "     %s\n", err.msg);
    REQUIRE(model);
    CHECK_INT(bt_model_convert(model, 2, NULL, NULL, &err), BT_OK);
    golden g = golden_read(name);
    tiny_model m = {.recipe = model->recipe, .weights = model->weights};
    bt_device_plan p = {.threads = 2,
                        .page_tokens = 16,
                        .n_pages = PAGES,
                        .ctx = model->recipe.ctx_train,
                        .rows_max = ROWS_MAX,
                        .seqs_max = SEQS_MAX,
                        .out_max = ROWS_MAX,
                        .kv_format = BT_KV_F32};
    if (cpu->open(&m.recipe, &m.weights, &p, NULL, NULL, &d, &err) != BT_OK)
        fprintf(stderr, "     %s: %s\n", name, err.msg);
    REQUIRE(d && g.vocab == m.recipe.vocab);
    sequence *s[3];
    for (int i = 0; i < 3; i++) {
        s[i] = sequence_new(&m, g.n, 80 * i, 1);
        memcpy(s[i]->token, g.ids, (size_t)g.n * sizeof *g.ids);
    }
    size_t row = (size_t)g.vocab, bytes = (size_t)g.n * row * sizeof(float);
    float *whole = drive_alone(cpu, d, &m, s[0], g.n);
    compare(name, "whole", &g, whole);
    static const int32_t chunks[] = {7, 1}; // a prompt in pieces, and token by token
    for (int i = 0; i < 2; i++) {
        float *got = drive_alone(cpu, d, &m, s[0], chunks[i]);
        CHECK(memcmp(got, whole, bytes) == 0);
        bt_free(got);
    }
    /* Beside others: rows of three sequences of different lengths in each step. */
    float *got = bt_must(bt_malloc(ROWS_MAX * row * sizeof *got));
    for (int i = 0; i < 3; i++) s[i]->done = 0;
    while (s[1]->done + 5 <= g.n) {
        int32_t rows[3] = {1, 5, 2}, at[3] = {s[0]->done, s[1]->done, s[2]->done}, first = 0;
        drive_step(cpu, d, &m, s, rows, 3, got);
        for (int i = 0; i < 3; first += rows[i++])
            CHECK(memcmp(got + (size_t)first * row, whole + (size_t)at[i] * row,
                         (size_t)rows[i] * row * sizeof *got) == 0);
    }
    bt_free(got);
    bt_free(whole);
    bt_free(g.logits);
    for (int i = 0; i < 3; i++) bt_free(s[i]);
    cpu->close(d);
    bt_model_close(model);
}

static void equal_to_transformers(void)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[128];
        snprintf(path, sizeof path, "tests/data/arch/%s.gguf", names[i]);
        check_arch(names[i], path);
    }
}

/* As save_pretrained wrote them. BATON_FOLDERS: where all of them are. */
static void folders(void)
{
    static const char *const some[] = {"gpt2", "gpt_neox", "phi3"};
    const char *all = getenv("BATON_FOLDERS");
    size_t n = all ? sizeof names / sizeof *names : sizeof some / sizeof *some;
    for (size_t i = 0; i < n; i++) {
        char path[256];
        const char *name = all ? names[i] : some[i];
        snprintf(path, sizeof path, "%s/%s", all ? all : "tests/data/arch", name);
        check_arch(name, path);
    }
}

int main(void)
{
    RUN(equal_to_transformers);
    RUN(folders);
    return TEST_END();
}
