/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 240 */
/* test_open.c - whatever a path is, its tokenizer opens, or a sentence says why not; long and
 * hostile texts stay quick with every kind of tokenizer; threads share one. */
#include "base/assert.h"
#include "base/hash.h"
#include "vocab/spec_pre.h"
#include "text_fixture.h"
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DATA BATON_SOURCE_DIR "/tests/data/"

/* A megabyte, less where a sanitizer makes everything slow. */
enum { HOSTILE_BYTES = TEST_SANITIZED ? 1 << 15 : 1 << 20 };

static char folder[64];

static void write_file(const char *name, const char *text, size_t n)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    REQUIRE(f && fwrite(text, 1, n, f) == n);
    fclose(f);
}

static void remove_file(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

static void expect_refusal(const char *path, const bt_text_options *opt, bt_status code,
                           const char *word)
{
    bt_vocab *v = NULL;
    bt_tokenizer *t = NULL;
    bt_err err = {0};
    CHECK_INT(bt_text_open(path, opt, &v, &t, &err), code);
    if (!strstr(err.msg, word)) fprintf(stderr, "%s: %s\n", path, err.msg);
    CHECK(strstr(err.msg, word) != NULL);
    CHECK(v == NULL && t == NULL);
}

static void what_a_path_may_be(void)
{
    static const struct {
        const char *path;
        int32_t size, bos, eos;
    } row[] = {{DATA "vocab/gpt-2.gguf", 50257, 50256, 50256},
               {DATA "tokenizer/llama-2", 32000, 1, 2},
               {DATA "tokenizer/llama-2/", 32000, 1, 2},
               {DATA "tokenizer/llama-2/tokenizer.json", 32000, 1, 2},
               {DATA "tokenizer/llama-2/config.json", 32000, 1, 2},
               {DATA "tokenizer/llama-2/model.safetensors", 32000, 1, 2}}; // not there, but its
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {                // folder is
        fixture f = fixture_text(row[i].path);
        CHECK_INT(bt_vocab_size(f.vocab), row[i].size);
        CHECK_INT(bt_vocab_bos(f.vocab), row[i].bos);
        CHECK_INT(bt_vocab_eos_token(f.vocab), row[i].eos);
        fixture_close(&f);
    }
    bt_vocab *v;
    REQUIRE(bt_text_open(DATA "vocab/qwen2.gguf", NULL, &v, NULL, NULL) == BT_OK);
    CHECK(default_template(v) != NULL);
    bt_vocab_close(v);
}

static void refusals_say_what(void)
{
    char path[128];
    expect_refusal("/nonexistent/model.gguf", NULL, BT_ENOTFOUND, "cannot be opened");
    expect_refusal(folder, NULL, BT_ENOTFOUND, "holds no tokenizer");
    write_file("tokenizer.json", "", 0);
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    expect_refusal(path, NULL, BT_EFORMAT, "");
    static const char lfs[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    write_file("tokenizer.json", lfs, sizeof lfs - 1);
    expect_refusal(folder, NULL, BT_EFORMAT, "LFS");
    write_file("tokenizer.json", "{\"model\":", 9);
    expect_refusal(folder, NULL, BT_EFORMAT, "ends too early at byte 9");
    remove_file("tokenizer.json");
    mkdir(path, 0700);
    expect_refusal(path, NULL, BT_ENOTFOUND, "holds no tokenizer");
    rmdir(path);
    static const char *const others[][2] = {{"tekken.json", "Mistral's own format"},
                                            {"vocab.json", "how text is split"},
                                            {"encoder.json", "how text is split"},
                                            {"vocab.txt", "how text is normalized"}};
    for (size_t i = 0; i < BT_COUNT(others); i++) {
        write_file(others[i][0], "{}", 2);
        expect_refusal(folder, NULL, BT_EUNSUPPORTED, others[i][1]);
        remove_file(others[i][0]);
    }
}

/* The bytes and four tokens more. */
static void write_ranks(const char *name, char path[static 128])
{
    bt_buf b = BT_BUF_INIT;
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (unsigned byte = 0; byte < 256; byte++)
        bt_buf_addf(&b, "%c%c== %u\n", digits[byte >> 2], digits[(byte & 3) << 4], byte);
    bt_buf_adds(&b, "aGU= 256\nbGw= 257\naGVsbA== 258\nIHg= 259\n"); // he, ll, hell, " x"
    write_file(name, b.data, b.len);
    bt_buf_release(&b);
    snprintf(path, 128, "%s/%s", folder, name);
}

static void ranks_with_a_pattern(void)
{
    char path[128];
    write_ranks("tiktoken.model", path); // as Kimi's folders call it
    expect_refusal(folder, NULL, BT_EUNSUPPORTED, "260 ranks is not known");
    remove_file("tiktoken.model");
    write_ranks("small.tiktoken", path);
    expect_refusal(path, NULL, BT_EUNSUPPORTED, "260 ranks is not known");
    bt_text_options opt = {.tiktoken_pattern = "\\p{L}+|\\s\\p{L}+|."};
    fixture f = {0};
    REQUIRE(bt_text_open(path, &opt, &f.vocab, &f.tokenizer, NULL) == BT_OK);
    REQUIRE(bt_encoder_open(f.tokenizer, &f.encoder, NULL) == BT_OK);
    const int32_t *ids;
    static const int32_t want[] = {258, 'o', 259, '!', 0xC3, 0xA9};
    size_t n = fixture_encode(&f, "hello x!\xC3\xA9", 10, true, true, &ids);
    CHECK(n == 6 && memcmp(ids, want, sizeof want) == 0);
    fixture_close(&f);
    remove_file("small.tiktoken");
}

/* ---- Time. */

static char *repeat(const char *unit, size_t n)
{
    char *s = malloc(n + 1);
    size_t len = strlen(unit);
    REQUIRE(s);
    for (size_t i = 0; i < n; i++) s[i] = unit[i % len];
    s[n] = 0;
    return s;
}

/* Processor time, the best of some, so that a busy machine does not fail the test. */
static double encode_seconds(fixture *f, const char *s, size_t n, int times)
{
    const int32_t *ids;
    double best = 1e9;
    for (int i = 0; i < times; i++) {
        clock_t t0 = clock();
        fixture_encode(f, s, n, false, false, &ids);
        best = fmin(best, (double)(clock() - t0) / CLOCKS_PER_SEC);
    }
    return best;
}

static void hostile(fixture *f, const char *name)
{
    static const char *const unit[] = {"a",
                                       " ",
                                       "\n",
                                       "\xE4\xBD\xA0",
                                       "ab",
                                       "A",
                                       "\xCC\x95\xCC\x96",
                                       "0",
                                       " a\xE4\xBD\xA0\xD0\xB6",
                                       "\xE2\x96\x81"};
    for (size_t i = 0; i < sizeof unit / sizeof *unit; i++) {
        size_t n = HOSTILE_BYTES / 168 * 168; // half of it ends with a whole unit too
        char *s = repeat(unit[i], n);
        double half = encode_seconds(f, s, n / 2, 1), all = encode_seconds(f, s, n, 1);
        CHECK(all < 1);
        bool linear = all < 2.3 * half + 0.03;
        for (int again = 0; again < 3 && !linear; again++) { // a neighbour may have had the core
            half = fmax(half, encode_seconds(f, s, n / 2, 3));
            linear = encode_seconds(f, s, n, 3) < 2.3 * half + 0.03;
        }
        CHECK(linear);
        if (!linear || all >= 1)
            fprintf(stderr, "%s, '%s': %.3f s, half %.3f s\n", name, unit[i], all, half);
        free(s);
    }
}

static void published_patterns_are_quick(void)
{
    static const char *const pattern[] = {bt__pattern_gpt2,  bt__pattern_llama3, bt__pattern_qwen2,
                                          bt__pattern_o200k, bt__pattern_tekken, bt__pattern_kimi};
    char path[128], name[16];
    write_ranks("small.tiktoken", path);
    for (size_t i = 0; i < sizeof pattern / sizeof *pattern; i++) {
        fixture f = {0};
        bt_text_options opt = {.tiktoken_pattern = pattern[i]};
        snprintf(name, sizeof name, "pattern %zu", i);
        REQUIRE(bt_text_open(path, &opt, &f.vocab, &f.tokenizer, NULL) == BT_OK);
        REQUIRE(bt_encoder_open(f.tokenizer, &f.encoder, NULL) == BT_OK);
        hostile(&f, name);
        fixture_close(&f);
    }
    remove_file("small.tiktoken");
}

/* Those of cases.txt whose steps are not about single texts. */
static void hostile_texts_are_quick(void)
{
    static const char *const wanted[] = {"bpe-",   "word",          "unigram",  "added-tokens",
                                         "falcon", "normalizer-NF", "split-02", "split-08"};
    size_t n, cases = 0;
    char *all = slurp(DATA "tokenizer/cases.txt", &n);
    for (const char *line = all, *next; *line; line = next) {
        next = strchr(line, '\n') + 1;
        if (strncmp(line, "# ", 2) != 0) continue;
        bool take = false;
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            take = take || strncmp(line + 2, wanted[i], strlen(wanted[i])) == 0;
        const char *end = strchr(next, '\n');
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)BT_MIN(next - line - 3, 60), line + 2);
        if (!take) continue;
        fixture f = fixture_json(next, (size_t)(end - next));
        hostile(&f, name);
        fixture_close(&f);
        cases++;
    }
    CHECK(cases > 15);
    free(all);
    fixture f = fixture_text(DATA "tokenizer/llama-2");
    hostile(&f, "llama-2");
    fixture_close(&f);
}

/* ---- Threads. */

static void threads_share_any_tokenizer(void)
{
    size_t n, n_all;
    char *text = slurp(DATA "vocab/fuzz.inp", &n), *all = slurp(DATA "tokenizer/cases.txt", &n_all);
    for (const char *line = all, *next; *line; line = next) {
        next = strchr(line, '\n') + 1;
        if (strncmp(line, "# ", 2) != 0) continue;
        const char *end = strchr(next, '\n');
        fixture f = fixture_json(next, (size_t)(end - next));
        fixture_two_threads(&f, text, n, true);
        fixture_close(&f);
    }
    free(text);
    free(all);
}

static void warm_encoders_do_not_allocate(void)
{
    size_t n, n_all;
    char *text = slurp(DATA "vocab/fuzz.inp", &n), *all = slurp(DATA "tokenizer/cases.txt", &n_all);
    for (const char *line = all, *next; *line; line = next) {
        next = strchr(line, '\n') + 1;
        if (strncmp(line, "# ", 2) != 0) continue;
        const char *end = strchr(next, '\n');
        fixture f = fixture_json(next, (size_t)(end - next));
        const int32_t *ids;
        size_t first = fixture_encode(&f, text, n, true, true, &ids);
        bt_mem_guard_begin();
        CHECK_INT(fixture_encode(&f, text, n, true, true, &ids), first);
        bt_mem_guard_end();
        fixture_close(&f);
    }
    free(text);
    free(all);
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/baton-open-XXXXXX");
    REQUIRE(mkdtemp(folder));
    RUN(what_a_path_may_be);
    RUN(refusals_say_what);
    RUN(ranks_with_a_pattern);
    RUN(published_patterns_are_quick);
    RUN(hostile_texts_are_quick);
    RUN(threads_share_any_tokenizer);
    RUN(warm_encoders_do_not_allocate);
    rmdir(folder);
    return TEST_END();
}
