/* SPDX-License-Identifier: Apache-2.0 */
/* LINK jinja */
/* TIMEOUT 120 */
/* test_encode.c - ids equal to the reference's for real vocabularies, and what the contract
 * promises beside. */
#include "base/rng.h"
#include "base/utf8.h"
#include "src/jinja/template_fixture.h"
#include "text_fixture.h"
#include <time.h>

/* A megabyte, less where a sanitizer makes everything slow. */
enum { HOSTILE_BYTES = TEST_SANITIZED ? 1 << 16 : 1 << 20 };

static const char *const names[] = {"llama-spm", "llama-bpe",      "qwen2",     "gpt-2",   "phi-3",
                                    "gemma-4",   "deepseek-coder", "starcoder", "bert-bge"};
enum { N_NAMES = 9, N_LOSSLESS = 7, IDS_MAX = 4096 };

static bool ids_equal(const char *what, size_t row, const int32_t *got, size_t n_got,
                      const int32_t *want, size_t n_want)
{
    if (n_got == n_want && (n_got == 0 || memcmp(got, want, n_got * sizeof *got) == 0)) return true;
    fprintf(stderr, "%s row %zu:\n  got ", what, row);
    for (size_t i = 0; i < n_got; i++) fprintf(stderr, " %d", got[i]);
    fprintf(stderr, "\n  want");
    for (size_t i = 0; i < n_want; i++) fprintf(stderr, " %d", want[i]);
    fprintf(stderr, "\n");
    return false;
}

/* The text before the next marker of all[0..n_all), which may hold NULs; false at the end. */
static bool next_text(const char *all, size_t n_all, size_t *at, const char **text, size_t *n)
{
    size_t len = strlen(MARKER);
    for (size_t i = *at; i + len <= n_all; i++) {
        if (memcmp(all + i, MARKER, len) != 0) continue;
        *text = all + *at;
        *n = i - *at;
        *at = i + len;
        return true;
    }
    return false;
}

static void check_rows(const char *name, const char *texts_path, const char *ids_path)
{
    size_t n_texts, n_lines, n, rows = 0, at = 0;
    static int32_t want[IDS_MAX];
    char *texts = slurp(texts_path, &n_texts), *lines = slurp(ids_path, &n_lines);
    const char *line = lines, *text;
    fixture f = fixture_vocab(name);
    for (; next_text(texts, n_texts, &at, &text, &n); rows++) {
        const int32_t *ids;
        size_t n_want = read_ids(&line, want, IDS_MAX);
        size_t n_ids = fixture_encode(&f, text, n, false, false, &ids);
        CHECK(ids_equal(name, rows, ids, n_ids, want, n_want));
        n_ids = fixture_encode(&f, text, n, false, false, &ids); // now from the word cache
        CHECK(ids_equal(name, rows, ids, n_ids, want, n_want));
    }
    CHECK(rows >= 46);
    CHECK_INT(line - lines, n_lines);
    fixture_close(&f);
    free(texts);
    free(lines);
}

static void reference_rows(void)
{
    for (int i = 0; i < N_NAMES; i++) {
        char path[512];
        snprintf(path, sizeof path, VOCAB_DIR "%s.out", names[i]);
        check_rows(names[i], VOCAB_DIR "texts.inp", path);
    }
}

static void fuzzed_rows(void)
{
    for (int i = 0; i < N_NAMES; i++) {
        char path[512];
        snprintf(path, sizeof path, VOCAB_DIR "fuzz-%s.out", names[i]);
        check_rows(names[i], VOCAB_DIR "fuzz.inp", path);
    }
}

/* Lines "vocabulary row ids...": control tokens spelled in the text are those tokens. */
static void special_rows(void)
{
    size_t n_file, n_texts, rows = 0;
    static int32_t want[IDS_MAX];
    char *file = slurp(VOCAB_DIR "fuzz-special.out", &n_file);
    char *texts = slurp(VOCAB_DIR "fuzz.inp", &n_texts);
    for (const char *line = file; *line; rows++) {
        char name[32];
        long row;
        int used;
        REQUIRE(sscanf(line, "%31s %ld%n", name, &row, &used) == 2);
        line += used;
        size_t n_want = read_ids(&line, want, IDS_MAX), n = 0, at = 0;
        const char *text = NULL;
        for (long i = 0; i <= row; i++) REQUIRE(next_text(texts, n_texts, &at, &text, &n));
        fixture f = fixture_vocab(name);
        const int32_t *ids;
        size_t n_ids = fixture_encode(&f, text, n, false, true, &ids);
        CHECK(ids_equal(name, (size_t)row, ids, n_ids, want, n_want));
        fixture_close(&f);
    }
    CHECK_INT(rows, 5);
    free(file);
    free(texts);
}

/* What transformers does to a decoded text, and answers must not: it closes up punctuation. */
static void clean_up(char *s)
{
    static const char *const row[][2] = {
        {" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
        {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        for (char *at = s; (at = strstr(at, row[i][0])) != NULL;) {
            size_t from = strlen(row[i][0]), to = strlen(row[i][1]);
            memcpy(at, row[i][1], to);
            memmove(at + to, at + from, strlen(at + from) + 1);
            at += to;
        }
}

typedef struct golden_rows {
    char vocab[16]; // of the fixture that is open
    fixture f;
    int n;
} golden_rows;

/* Rows of the tests of transformers.js whose vocabulary is here: ids, and the text they give. */
static void transformers_js_row(const bt_json *row, void *ud)
{
    golden_rows *g = ud;
    const char *vocab = text_of(row, "vocab"), *text = text_of(row, "text");
    const char *decoded = text_of(row, "decoded");
    const bt_json *ids = bt_json_find(row, "ids");
    REQUIRE(vocab && text && decoded && ids);
    if (strcmp(vocab, g->vocab) != 0) {
        char path[512];
        bool part = strcmp(vocab, "gpt-4o") == 0;
        snprintf(path, sizeof path, VOCAB_DIR "%s.%s", vocab, part ? "json" : "gguf");
        fixture_close(&g->f);
        g->f = fixture_text(path);
        snprintf(g->vocab, sizeof g->vocab, "%s", vocab);
    }
    static int32_t want[IDS_MAX];
    const int32_t *got;
    size_t n_want = 0, n_back;
    for (const bt_json *id = ids->child; id; id = id->next)
        want[n_want++] = (int32_t)bt_json_number(id);
    bool special = strcmp(vocab, "bert-bge") == 0;
    size_t n = fixture_encode(&g->f, text, strlen(text), special, true, &got);
    CHECK(ids_equal(vocab, (size_t)g->n++, got, n, want, n_want));
    char *back, clean[4096];
    REQUIRE(bt_decode(g->f.vocab, want, n_want, false, &back, &n_back, NULL) == BT_OK);
    snprintf(clean, sizeof clean, "%.*s", (int)n_back, back);
    if (strcmp(clean, decoded) != 0) clean_up(clean);
    CHECK_STR(clean, decoded);
    bt_free(back);
}

static void transformers_js_rows(void)
{
    golden_rows g = {0};
    each_line(VOCAB_DIR "transformers-js.jsonl", transformers_js_row, &g);
    CHECK_INT(g.n, 102);
    fixture_close(&g.f);
}

static void plain_text_never_becomes_control(void)
{
    for (int v = 0; v < N_NAMES; v++) {
        fixture f = fixture_vocab(names[v]);
        for (int32_t id = 0; id < bt_vocab_size(f.vocab); id++) {
            if (bt_vocab_token_kind(f.vocab, id) != BT_TOKEN_CONTROL) continue;
            size_t n;
            const char *piece = bt_vocab_piece(f.vocab, id, &n);
            const int32_t *ids;
            size_t n_ids = fixture_encode(&f, piece, n, false, false, &ids);
            for (size_t i = 0; i < n_ids; i++)
                CHECK(bt_vocab_token_kind(f.vocab, ids[i]) != BT_TOKEN_CONTROL);
            n_ids = fixture_encode(&f, piece, n, false, true, &ids);
            CHECK_INT(n_ids, 1);
            CHECK_INT(ids[0], id);
        }
        fixture_close(&f);
    }
}

static void special_tokens_at_the_ends(void)
{
    const int32_t *ids;
    fixture f = fixture_open(BATON_SOURCE_DIR "/models/stories260K.gguf");
    static const int32_t story[] = {1, 403, 407, 261, 378};
    size_t n = fixture_encode(&f, "Once upon a time", 16, true, false, &ids);
    CHECK(ids_equal("stories260K", 0, ids, n, story, 5));
    n = fixture_encode(&f, "", 0, true, false, &ids);
    CHECK(ids_equal("empty text", 0, ids, n, story, 1));
    CHECK_INT(fixture_encode(&f, "", 0, false, false, &ids), 0);
    fixture_close(&f);
    f = fixture_vocab("llama-bpe");
    n = fixture_encode(&f, "Hello", 5, true, false, &ids);
    CHECK_INT(n, 2);
    CHECK_INT(ids[0], bt_vocab_bos(f.vocab));
    fixture_close(&f);
    f = fixture_vocab("qwen2");
    CHECK_INT(fixture_encode(&f, "Hello", 5, true, false, &ids), 1);
    fixture_close(&f);
}

static void refusals(void)
{
    fixture f = fixture_vocab("gpt-2");
    bt_encode_options opt = {0};
    bt_err err = {0};
    const int32_t *ids = NULL;
    size_t n = 99;
    CHECK_INT(bt_encode(f.encoder, "ab\xFF", 3, &opt, 0, &ids, &n, &err), BT_EINVAL);
    CHECK(strstr(err.msg, "UTF-8 at byte 2") != NULL);
    CHECK_INT(bt_encode(f.encoder, "a\xED\xA0\x80", 4, &opt, 0, &ids, &n, &err), BT_EINVAL);
    CHECK_INT(bt_encode(f.encoder, "abc\xE2\x82", 5, &opt, 0, &ids, &n, &err), BT_EINVAL);
    CHECK(strstr(err.msg, "byte 3") != NULL);
    CHECK_INT(bt_encode(f.encoder, "one two three", 13, &opt, 2, &ids, &n, &err), BT_ECONTEXT);
    CHECK(strstr(err.msg, "more than 2 tokens") != NULL);
    CHECK_INT(n, 99);
    CHECK(ids == NULL);
    CHECK_INT(bt_encode(f.encoder, "one two three", 13, &opt, 3, &ids, &n, &err), BT_OK);
    CHECK_INT(n, 3);
    CHECK_INT(bt_encode(f.encoder, "", BT_ENCODE_BYTES_MAX + 1u, &opt, 3, &ids, &n, &err),
              BT_ETOOBIG);
    fixture_close(&f);
}

static void nul_and_control_bytes(void)
{
    static const char text[] = "a\0b\x01\x7F\r\n\x0B";
    for (int v = 0; v < N_LOSSLESS; v++) {
        fixture f = fixture_vocab(names[v]);
        const int32_t *ids;
        char *back;
        size_t n_back, n = fixture_encode(&f, text, sizeof text - 1, false, false, &ids);
        REQUIRE(bt_decode(f.vocab, ids, n, true, &back, &n_back, NULL) == BT_OK);
        CHECK_INT(n_back, sizeof text - 1);
        CHECK(memcmp(back, text, sizeof text - 1) == 0);
        bt_free(back);
        fixture_close(&f);
    }
}

/* A text of n bytes: the unit over and over. */
static char *repeat(const char *unit, size_t n)
{
    char *s = malloc(n + 1);
    size_t len = strlen(unit);
    REQUIRE(s);
    for (size_t i = 0; i < n; i++) s[i] = unit[i % len];
    s[n] = 0;
    return s;
}

/* Processor time, so that a busy machine does not fail the test. */
static double encode_seconds(fixture *f, const char *s, size_t n)
{
    const int32_t *ids;
    clock_t t0 = clock();
    CHECK(fixture_encode(f, s, n, false, false, &ids) > 0 ||
          bt_vocab_kind_of(f->vocab) == BT_VOCAB_WORDPIECE); // drops white space and marks
    return (double)(clock() - t0) / CLOCKS_PER_SEC;
}

/* A megabyte of anything takes less than a second, and eight times less is at least thrice as
 * quick. */
static void hostile_texts_are_quick(void)
{
    static const char *const unit[] = {"a",
                                       " ",
                                       "\n",
                                       "\xE4\xBD\xA0\xE5\xA5\xBD\xE4\xB8\x96", // Han
                                       "ab",
                                       "a b  c   ",
                                       "<|",
                                       "\xCC\x95\xCC\x96", // marks out of canonical order
                                       "0",
                                       "\xF0\x9F\xA6\x99",
                                       " \n",
                                       "'"};
    for (int v = 0; v < N_NAMES; v++) {
        fixture f = fixture_vocab(names[v]);
        for (size_t i = 0; i < sizeof unit / sizeof *unit; i++) {
            size_t n = HOSTILE_BYTES / 144 * 144; // a twelfth ends with a whole unit too
            char *s = repeat(unit[i], n);
            double all = encode_seconds(&f, s, n), part = encode_seconds(&f, s, n / 12);
            CHECK(all < 1);
            CHECK(all < 60 * part + 0.1); // a square law would be 144
            free(s);
        }
        fixture_close(&f);
    }
}

static void warm_encoder_does_not_allocate(void)
{
    size_t n;
    char *text = slurp(VOCAB_DIR "fuzz.inp", &n);
    for (int v = 0; v < N_NAMES; v++) {
        fixture f = fixture_vocab(names[v]);
        const int32_t *ids;
        size_t first = fixture_encode(&f, text, n, true, true, &ids);
        bt_mem_guard_begin();
        size_t second = fixture_encode(&f, text, n, true, true, &ids);
        size_t less = fixture_encode(&f, text, n / 2 - n / 2 % 4, true, false, &ids);
        bt_mem_guard_end();
        CHECK_INT(second, first);
        CHECK(less > 0 && less < first);
        fixture_close(&f);
    }
    free(text);
}

static void threads_share_a_tokenizer(void)
{
    size_t n;
    char *text = slurp(VOCAB_DIR "fuzz.inp", &n);
    for (int v = 0; v < N_NAMES; v++) {
        fixture f = fixture_vocab(names[v]);
        fixture_two_threads(&f, text, n, false);
        fixture_close(&f);
    }
    free(text);
}

/* Whatever bytes come, valid text survives the way there and back (Qwen2 sees it normalized, so
 * ASCII only). */
static void random_text_round_trips(void)
{
    for (int v = 0; v < N_LOSSLESS; v++) {
        fixture f = fixture_vocab(names[v]);
        bool ascii = strcmp(names[v], "qwen2") == 0;
        int wrong = 0;
        for (uint64_t k = 0; k < 3000; k++) {
            char text[64];
            size_t n = 0, chars = bt_rng_u64(1, k) % 12, n_back;
            for (size_t i = 0; i < chars; i++) {
                uint64_t r = bt_rng_u64(k + 2, i);
                uint32_t cp =
                    r % 3 || ascii ? (uint32_t)(r >> 8) % 128 : (uint32_t)(r >> 8) % 0x110000;
                if (cp >= 0xD800 && cp < 0xE000) cp = 0x2028;
                if (cp == 0x2581) cp = ' ';
                n += bt_utf8_encode(cp, text + n);
            }
            const int32_t *ids;
            char *back;
            size_t n_ids = fixture_encode(&f, text, n, true, false, &ids);
            REQUIRE(bt_decode(f.vocab, ids, n_ids, true, &back, &n_back, NULL) == BT_OK);
            bool same = n_back == n && memcmp(back, text, n) == 0;
            CHECK(same);
            if (!same && wrong++ == 0)
                fprintf(stderr, "%s: \"%.*s\" came back as \"%.*s\"\n", names[v], (int)n, text,
                        (int)n_back, back);
            bt_free(back);
        }
        fixture_close(&f);
    }
}

int main(void)
{
    RUN(reference_rows);
    RUN(fuzzed_rows);
    RUN(special_rows);
    RUN(transformers_js_rows);
    RUN(plain_text_never_becomes_control);
    RUN(special_tokens_at_the_ends);
    RUN(refusals);
    RUN(nul_and_control_bytes);
    RUN(hostile_texts_are_quick);
    RUN(warm_encoder_does_not_allocate);
    RUN(threads_share_a_tokenizer);
    RUN(random_text_round_trips);
    return TEST_END();
}
