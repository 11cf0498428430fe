/* SPDX-License-Identifier: Apache-2.0 */
/* test_wordpiece.c - WordPiece and WordLevel as the tokenizers library cuts words. */
#include "base/mem.h"
#include "base/rng.h"
#include "golden.h"
#include "vocab/trie.h"
#include "token/wordpiece.h"

enum { PIECES_MAX = 1024 };
static bt_wordpiece_piece piece[PIECES_MAX];
static size_t n_pieces;

static void load(void)
{
    static golden g;
    golden_open(&g, "tests/data/leaves/wordpiece.vocab");
    while (golden_line(&g)) {
        size_t n;
        const char *s = golden_hex(&g, 0, &n);
        char *copy = bt_strndup(s, n);
        REQUIRE(copy && n_pieces < PIECES_MAX);
        piece[n_pieces] = (bt_wordpiece_piece){copy, (uint32_t)n, (int32_t)n_pieces};
        n_pieces++;
    }
    golden_close(&g);
}

static void check_ids(golden *g, size_t *word, const int32_t *ids, size_t n_ids)
{
    bool same = true;
    size_t i = 0;
    for (; *word < g->n_words && strcmp(g->word[*word], "/") != 0; ++*word, i++)
        same = same && i < n_ids && ids[i] == golden_int(g, *word);
    if (!same || i != n_ids) fprintf(stderr, "word %s\n", g->word[0]);
    CHECK(same && i == n_ids);
    ++*word;
}

static void as_tokenizers(void)
{
    static golden g;
    bt_wordpiece *w, *level;
    bt_wordpiece_options o = {.prefix = "##", .n_prefix = 2, .max_chars = 20, .unk = 0};
    REQUIRE(bt_wordpiece_open(piece, n_pieces, &o, &w, NULL) == BT_OK);
    o.whole = true;
    REQUIRE(bt_wordpiece_open(piece, n_pieces, &o, &level, NULL) == BT_OK);
    golden_open(&g, "tests/data/leaves/wordpiece.out");
    int lines = 0;
    for (; golden_line(&g); lines++) {
        size_t n, n_ids, at = 1;
        int32_t ids[256];
        const char *s = golden_hex(&g, 0, &n);
        bt_mem_guard_begin();
        CHECK(bt_wordpiece_encode(w, s, n, ids, &n_ids, NULL) == BT_OK);
        bt_mem_guard_end();
        check_ids(&g, &at, ids, n_ids);
        CHECK(bt_wordpiece_encode(level, s, n, ids, &n_ids, NULL) == BT_OK);
        check_ids(&g, &at, ids, n_ids);
    }
    CHECK(lines > 400);
    golden_close(&g);
    bt_wordpiece_close(w);
    bt_wordpiece_close(level);
}

static void edges(void)
{
    static const bt_wordpiece_piece few[] = {{"a", 1, 5}, {"ab", 2, 6}, {"##b", 3, 7}, {"a", 1, 8}};
    bt_wordpiece_options o = {.prefix = "##", .n_prefix = 2, .max_chars = 100, .unk = -1};
    bt_wordpiece *w = NULL;
    bt_err err = {0};
    int32_t ids[8];
    size_t n;
    for (long k = 1;; k++) {
        bt_mem_fail_at(k);
        bt_status st = bt_wordpiece_open(few, 4, &o, &w, &err);
        bool failed = bt_mem_failed();
        bt_mem_fail_at(0);
        if (!failed) break;
        CHECK(st == BT_ENOMEM || st == BT_OK); // one of them only gives memory back
        if (st == BT_OK) bt_wordpiece_close(w);
    }
    REQUIRE(w != NULL);
    CHECK_INT(bt_wordpiece_encode(w, "a", 1, ids, &n, &err), BT_OK);
    CHECK_INT(ids[0], 8); // the last of equal pieces
    CHECK_INT(bt_wordpiece_encode(w, "abb", 3, ids, &n, &err), BT_OK);
    CHECK(n == 2 && ids[0] == 6 && ids[1] == 7);
    CHECK_INT(bt_wordpiece_encode(w, "", 0, ids, &n, &err), BT_OK);
    CHECK_INT(n, 0);
    CHECK_INT(bt_wordpiece_encode(w, "ac", 2, ids, &n, &err), BT_EINVAL);
    CHECK(strstr(err.msg, "unknown token") != NULL);
    bt_wordpiece_close(w);
    o.prefix = "@@"; // no piece has it: no word can go on
    REQUIRE(bt_wordpiece_open(few, 4, &o, &w, &err) == BT_OK);
    CHECK_INT(bt_wordpiece_encode(w, "ab", 2, ids, &n, &err), BT_OK);
    CHECK_INT(bt_wordpiece_encode(w, "abb", 3, ids, &n, &err), BT_EINVAL);
    bt_wordpiece_close(w);
}

/* Random keys, dense and sparse: all are found, and what is no key is not. */
static void trie_of_random_keys(void)
{
    enum { KEYS = 20000 };
    static char bytes[KEYS][8];
    static bt__trie_key key[KEYS];
    bt__trie *t;
    for (uint32_t i = 0; i < KEYS; i++) {
        uint64_t r = bt_rng_u64(3, i);
        key[i] = (bt__trie_key){bytes[i], 1 + (uint32_t)(r % 7), (int32_t)i};
        for (uint32_t k = 0; k < 8; k++) {
            uint64_t b = bt_rng_u64(r, k);
            bytes[i][k] = (char)(i % 2 ? b & 0xFF : b & 3);
        }
    }
    REQUIRE(bt__trie_open(key, KEYS, &t, NULL) == BT_OK);
    for (uint32_t i = 0; i < KEYS; i++) {
        int32_t v = bt__trie_find(t, key[i].s, key[i].n);
        REQUIRE(v >= (int32_t)i); // the last of equal ones
        CHECK(key[v].n == key[i].n && memcmp(key[v].s, key[i].s, key[i].n) == 0);
        char other[9];
        memcpy(other, key[i].s, 8);
        other[key[i].n] = (char)0xF7;
        v = bt__trie_find(t, other, key[i].n + 1u);
        CHECK(v < 0 || memcmp(key[v].s, other, key[i].n + 1u) == 0);
    }
    bt__trie_close(t);
    REQUIRE(bt__trie_open(NULL, 0, &t, NULL) == BT_OK);
    CHECK_INT(bt__trie_find(t, "a", 1), -1);
    bt__trie_close(t);
}

int main(void)
{
    load();
    RUN(as_tokenizers);
    RUN(edges);
    RUN(trie_of_random_keys);
    for (size_t i = 0; i < n_pieces; i++) bt_free((char *)piece[i].s);
    return TEST_END();
}
