/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL unit */
/* test_numerics.c - logits of the layer loop on the CPU backend against goldens made by PyTorch
 * (tests/data/model/README.md), in prompts cut several ways. */
#include "base/assert.h"
#include "base/mem.h"
#include "engine/forward.h"
#include "model/model.h"
#include "src/model/hf_folder.h"
#include "test.h"

typedef struct golden {
    int32_t n, vocab;
    int32_t *token; // [n]
    float *logits;  // [n * vocab]
} golden;

static golden golden_read(const char *path)
{
    golden g;
    FILE *f = fopen(path, "rb");
    REQUIRE(f);
    REQUIRE(fread(&g.n, 4, 1, f) == 1 && fread(&g.vocab, 4, 1, f) == 1);
    REQUIRE(g.n > 0 && g.n < 4096 && g.vocab > 0 && g.vocab < 100000);
    size_t n = (size_t)g.n, all = n * (size_t)g.vocab;
    g.token = malloc(n * 4);
    g.logits = malloc(all * 4);
    REQUIRE(g.token && g.logits && fread(g.token, 4, n, f) == n);
    REQUIRE(fread(g.logits, 4, all, f) == all);
    fclose(f);
    return g;
}

static void golden_free(golden *g)
{
    free(g->token);
    free(g->logits);
}

/* Logits of every position, the prompt cut into chunks of this many rows. */
static void run_model(const bt_model *m, const golden *g, int32_t chunk, bt_kv_format kv,
                      float *dst)
{
    const bt_backend *be = &bt_backend_cpu;
    bt_device_plan plan = {.threads = 1,
                           .page_tokens = 16,
                           .n_pages = 8,
                           .ctx = 128,
                           .rows_max = 128,
                           .seqs_max = 1,
                           .out_max = 128,
                           .kv_format = kv};
    bt_device *dev = NULL;
    bt_err err = {0};
    bt_status status = be->open(&m->recipe, &m->weights, &plan, NULL, NULL, &dev, &err);
    if (status) fprintf(stderr, "open: %s\n", err.msg);
    REQUIRE(!status);
    const int32_t pages[8] = {5, 0, 7, 2, 1, 6, 3, 4}; // out of order, as pages are
    int32_t pos[128], row_seq[128] = {0}, out_row[128];
    bt_sample_req sample[128];
    bt_sample_out out[128];
    for (int32_t at = 0; at < g->n; at += chunk) {
        int32_t n = BT_MIN(chunk, g->n - at);
        for (int32_t i = 0; i < n; i++) {
            pos[i] = at + i;
            out_row[i] = i;
            sample[i] =
                (bt_sample_req){.top_p = 1, .repeat_penalty = 1, .n_logprobs = -1, .forced = -1};
        }
        bt_batch_seq seq = {pages, 0, n, at + n};
        bt_batch batch = {n, 1, n, g->token + at, pos, row_seq, &seq, out_row};
        uint64_t busy_us = 0;
        REQUIRE(!bt_forward(be, dev, &m->recipe, &batch, sample, out, &busy_us, &err));
        for (int32_t i = 0; i < n; i++)
            REQUIRE(!be->logits(dev, i, dst + (size_t)(at + i) * (size_t)g->vocab, &err));
    }
    be->close(dev);
}

/* Worst over positions of |got - want| / |want| as vectors. */
static double worst_error(const golden *g, const float *got)
{
    double worst = 0;
    for (int32_t i = 0; i < g->n; i++) {
        double diff = 0, norm = 0;
        for (int32_t k = 0; k < g->vocab; k++) {
            double want = (double)g->logits[(size_t)i * (size_t)g->vocab + (size_t)k];
            double d = (double)got[(size_t)i * (size_t)g->vocab + (size_t)k] - want;
            diff += d * d;
            norm += want * want;
        }
        double error = sqrt(diff / norm);
        if (!(error <= worst)) worst = error;
    }
    return worst;
}

static void check_model(const char *name, const char *gguf, double bound_f32, double bound_f16)
{
    char path[128];
    bt_model *m = NULL;
    bt_err err = {0};
    snprintf(path, sizeof path, "tests/data/model/%s.bin", name);
    golden g = golden_read(path);
    bt_status status = bt_model_open(gguf, &m, &err);
    if (status) fprintf(stderr, "%s\n", err.msg);
    REQUIRE(!status);
    CHECK_INT(m->recipe.vocab, g.vocab);
    size_t bytes = (size_t)g.n * (size_t)g.vocab * 4;
    float *whole = malloc(bytes), *cut = malloc(bytes);
    REQUIRE(whole && cut);
    run_model(m, &g, 128, BT_KV_F16, whole);
    double error_f16 = worst_error(&g, whole);
    CHECK_NEAR(error_f16, 0, bound_f16);
    run_model(m, &g, 128, BT_KV_F32, whole);
    double error_f32 = worst_error(&g, whole);
    CHECK_NEAR(error_f32, 0, bound_f32);
    fprintf(stderr, "  %-16s relative error %.2e (KV F32), %.2e (KV F16)\n", name, error_f32,
            error_f16);
    const int32_t chunks[] = {1, 3, 7, 16};
    for (size_t i = 0; i < BT_COUNT(chunks); i++) {
        run_model(m, &g, chunks[i], BT_KV_F32, cut);
        CHECK(memcmp(cut, whole, bytes) == 0); // not one bit
    }
    free(whole);
    free(cut);
    bt_model_close(m);
    golden_free(&g);
}

/* The same model as transformers would have saved it: the golden's logits, and the GGUF file's to
 * the last digits, since heads turn in halves there and sums of q k come in another order. */
static void check_folder(const char *name, const char *gguf, const char *more)
{
    char path[128];
    bt_model *m = NULL, *h = NULL;
    hf_folder f;
    bt_err err = {0};
    snprintf(path, sizeof path, "tests/data/model/%s.bin", name);
    golden g = golden_read(path);
    REQUIRE(!bt_model_open(gguf, &m, &err));
    hf_write(&f, m, more);
    if (bt_model_open(f.path, &h, &err)) fprintf(stderr, "%s\n", err.msg);
    REQUIRE(h);
    size_t bytes = (size_t)g.n * (size_t)g.vocab * 4;
    float *mine = malloc(bytes), *theirs = malloc(bytes);
    REQUIRE(mine && theirs);
    run_model(h, &g, 128, BT_KV_F32, mine);
    run_model(m, &g, 128, BT_KV_F32, theirs);
    double error = worst_error(&g, mine);
    CHECK_NEAR(error, 0, 1e-4);
    golden as_gguf = {g.n, g.vocab, g.token, theirs};
    double other = worst_error(&as_gguf, mine);
    CHECK_NEAR(other, 0, 5e-6);
    fprintf(stderr, "  %-16s relative error %.2e, to the GGUF file %.2e\n", name, error, other);
    free(mine);
    free(theirs);
    bt_model_close(m);
    bt_model_close(h);
    hf_free(&f);
    golden_free(&g);
}

#define DATA "tests/data/model/"

static void folders(void)
{
    check_folder("llama-tied", DATA "llama-tied.gguf",
                 ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}");
    check_folder("qwen2", DATA "qwen2.gguf", ",\"use_sliding_window\":false");
    check_folder("stories260K", "models/stories260K.gguf", "");
}

static void llama_tied(void)
{
    check_model("llama-tied", DATA "llama-tied.gguf", 1e-4, 4e-3);
}
static void qwen2(void)
{
    check_model("qwen2", DATA "qwen2.gguf", 1e-4, 4e-3);
}
static void stories(void)
{
    check_model("stories260K", "models/stories260K.gguf", 1e-4, 4e-3);
}
static void llama_f16(void)
{
    check_model("llama-tied-f16", DATA "llama-tied-f16.gguf", 1e-4, 4e-3);
}

/* Activations are rounded to 8 bits too; the golden has the file's weights and float activations.
 * In layers of 64 inputs there are only two blocks to average that rounding over. */
static void llama_q8_0(void)
{
    check_model("llama-tied-q8_0", DATA "llama-tied-q8_0.gguf", 8e-2, 8e-2);
}
static void llama_q4_0(void)
{
    check_model("llama-tied-q4_0", DATA "llama-tied-q4_0.gguf", 8e-2, 8e-2);
}

int main(void)
{
    RUN(llama_tied);
    RUN(qwen2);
    RUN(stories);
    RUN(folders);
    RUN(llama_f16);
    RUN(llama_q8_0);
    RUN(llama_q4_0);
    return TEST_END();
}
