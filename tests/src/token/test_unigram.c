/* SPDX-License-Identifier: Apache-2.0 */
/* test_unigram.c - the best cut as the tokenizers and the SentencePiece library find it. */
#include "base/clock.h"
#include "base/mem.h"
#include "file/sentencepiece.h"
#include "golden.h"
#include "token/unigram.h"

static bt_unigram *open_model(bool bytes, bool library)
{
    bt_spm *m;
    bt_unigram *u;
    bt_err err = {0};
    REQUIRE(bt_spm_open("tests/data/leaves/unigram.model", &m, &err) == BT_OK);
    bt_unigram_piece *p = calloc(m->n_pieces, sizeof *p);
    REQUIRE(p != NULL);
    for (size_t i = 0; i < m->n_pieces; i++) {
        bt_spm_type type = m->piece[i].type;
        p[i] = (bt_unigram_piece){.s = m->piece[i].piece.s,
                                  .n = (uint32_t)m->piece[i].piece.n,
                                  .score = (double)m->piece[i].score,
                                  .user = type == BT_SPM_USER_DEFINED};
        p[i].absent = library && type != BT_SPM_NORMAL && type != BT_SPM_USER_DEFINED;
    }
    const bt_unigram_options o = {m->unk, bytes, library};
    REQUIRE(bt_unigram_open(p, m->n_pieces, &o, &u, &err) == BT_OK);
    free(p);
    bt_spm_close(m);
    return u;
}

static void check_file(const bt_unigram *u, const char *path)
{
    static golden g;
    static int32_t ids[4096];
    golden_open(&g, path);
    bt_unigram_scratch x = {0};
    bt_err err = {0};
    int lines = 0;
    for (; golden_line(&g); lines++) {
        size_t n, n_ids;
        const char *s = golden_hex(&g, 0, &n);
        REQUIRE(bt_unigram_encode(u, &x, s, n, ids, &n_ids, &err) == BT_OK);
        bool same = n_ids == g.n_words - 1;
        for (size_t i = 0; same && i < n_ids; i++) same = ids[i] == golden_int(&g, i + 1);
        if (!same) fprintf(stderr, "%s: \"%s\"\n", path, s);
        CHECK(same);
    }
    CHECK(lines >= 300);
    bt_unigram_scratch_release(&x);
    golden_close(&g);
}

static void as_tokenizers(void)
{
    bt_unigram *u = open_model(false, false);
    check_file(u, "tests/data/leaves/unigram-plain.out");
    bt_unigram_close(u);
    u = open_model(true, false);
    check_file(u, "tests/data/leaves/unigram-bytes.out");
    bt_unigram_close(u);
}

static void as_sentencepiece(void)
{
    bt_unigram *u = open_model(true, true);
    check_file(u, "tests/data/leaves/unigram-library.out");
    bt_unigram_close(u);
}

static const bt_unigram_piece odd[] = {
    {"<unk>", 5, 0, false, false}, {"a", 1, 1, false, false},    {"b", 1, 1, false, false},
    {"ab", 2, 2, false, false},    {"abc", 3, .5, false, false}, {"\xC3\xA9", 2, -1, false, false},
    {"xy", 2, -40, false, false},  {"aa", 2, 2, false, false},   {"ba", 2, 2, false, false},
    {"z", 1, 3, false, false},
};

static void ties_and_positive_scores(void)
{
    const bt_unigram_options o = {.unk = 0};
    bt_unigram *u;
    REQUIRE(bt_unigram_open(odd, sizeof odd / sizeof *odd, &o, &u, NULL) == BT_OK);
    check_file(u, "tests/data/leaves/unigram-odd.out");
    bt_unigram_close(u);
}

static void refusals(void)
{
    bt_err err = {0};
    bt_unigram *u = NULL;
    bt_unigram_options o = {.unk = 10};
    size_t n = sizeof odd / sizeof *odd;
    CHECK_INT(bt_unigram_open(odd, n, &o, &u, &err), BT_EFORMAT);
    CHECK_INT(bt_unigram_open(odd, 0, &o, &u, &err), BT_EFORMAT);
    bt_unigram_piece bad = {"a", 1, (double)NAN, false, false};
    o = (bt_unigram_options){.unk = -1};
    CHECK_INT(bt_unigram_open(&bad, 1, &o, &u, &err), BT_EFORMAT);
    CHECK(u == NULL);
    for (long k = 1;; k++) {
        bt_mem_fail_at(k);
        bt_status st = bt_unigram_open(odd, n, &o, &u, &err);
        bool failed = bt_mem_failed();
        bt_mem_fail_at(0);
        if (!failed) {
            CHECK_INT(st, BT_OK);
            break;
        }
        CHECK(st == BT_ENOMEM || st == BT_OK); // one of them only gives memory back
        if (st == BT_OK) bt_unigram_close(u);
    }
    int32_t ids[8];
    size_t n_ids;
    bt_unigram_scratch x = {0};
    CHECK_INT(bt_unigram_encode(u, &x, "a?", 2, ids, &n_ids, &err), BT_EINVAL);
    CHECK(strstr(err.msg, "unknown token") != NULL);
    CHECK_INT(bt_unigram_encode(u, &x, "", 0, ids, &n_ids, &err), BT_OK);
    CHECK_INT(n_ids, 0);
    bt_unigram_scratch_release(&x);
    bt_unigram_close(u);
    bt_unigram_close(NULL);
}

/* A megabyte of one letter, of unknown characters, and of prose. */
static void long_texts(void)
{
    enum { N = 1 << 20 };
    bt_unigram *u = open_model(true, false);
    char *s = malloc(N);
    int32_t *ids = malloc(N * sizeof *ids);
    bt_unigram_scratch x = {0};
    REQUIRE(s && ids);
    static const char *const fill[] = {"a", "\xF0\x9F\x98\x80",
                                       "the\xE2\x96\x81prince\xE2\x96\x81"};
    for (size_t k = 0; k < 3; k++) {
        size_t len = strlen(fill[k]), n = N / len * len, n_ids, again;
        for (size_t i = 0; i < n; i++) s[i] = fill[k][i % len];
        int64_t start = bt_now_ns();
        REQUIRE(bt_unigram_encode(u, &x, s, n, ids, &n_ids, NULL) == BT_OK);
        double seconds = (double)(bt_now_ns() - start) / 1e9;
        fprintf(stderr, "1 MiB of %zu-byte pattern: %zu ids, %.1f ms\n", len, n_ids, seconds * 1e3);
        CHECK(seconds < 5 && n_ids > 0);
        bt_mem_guard_begin();
        CHECK(bt_unigram_encode(u, &x, s, n, ids, &again, NULL) == BT_OK);
        bt_mem_guard_end();
        CHECK_INT(again, n_ids);
    }
    bt_unigram_scratch_release(&x);
    bt_unigram_close(u);
    free(s);
    free(ids);
}

int main(void)
{
    RUN(as_tokenizers);
    RUN(as_sentencepiece);
    RUN(ties_and_positive_scores);
    RUN(refusals);
    RUN(long_texts);
    return TEST_END();
}
