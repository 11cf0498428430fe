/* SPDX-License-Identifier: Apache-2.0 */
/* test_charsmap.c - SentencePiece's real nmt_nfkc map under both rules, and damaged maps. */
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "file/sentencepiece.h"
#include "golden.h"
#include "token/charsmap.h"

static bt_spm *model;
static bt_charsmap *map;

static void real_map(void)
{
    bt_err err = {0};
    REQUIRE(bt_spm_open("tests/data/leaves/nmt-nfkc.model", &model, &err) == BT_OK);
    CHECK(model->charsmap.n > 200000);
    REQUIRE(bt_charsmap_open(model->charsmap.s, model->charsmap.n, &map, &err) == BT_OK);
}

static void both_rules(void)
{
    static golden g;
    golden_open(&g, "tests/data/leaves/charsmap.out");
    bt_buf out = BT_BUF_INIT;
    int lines = 0;
    for (; golden_line(&g); lines++) {
        size_t n, n_want;
        const char *s = golden_hex(&g, 0, &n);
        for (int rule = 0; rule < 2; rule++) {
            const char *want = golden_hex(&g, 1 + (size_t)rule, &n_want);
            bt_buf_clear(&out);
            bt_charsmap_apply(map, rule ? BT_CHARSMAP_LONGEST : BT_CHARSMAP_CLUSTERS, s, n, &out);
            bool same = out.len == n_want && memcmp(out.len ? out.data : "", want, n_want) == 0;
            if (!same) fprintf(stderr, "rule %d: %s\n", rule, g.word[0]);
            CHECK(same);
        }
    }
    CHECK(lines > 1000);
    bt_buf_release(&out);
    golden_close(&g);
}

/* Each code point between letters, and between a character that is replaced and a mark. */
static void every_code_point(void)
{
    static golden g;
    golden_open(&g, "tests/data/leaves/charsmap.sums");
    bt_buf out = BT_BUF_INIT;
    for (uint32_t start = 0; golden_line(&g); start += 4096) {
        uint64_t sum[2] = {GOLDEN_SUM_START, GOLDEN_SUM_START};
        for (uint32_t c = BT_MAX(start, 1u); c < start + 4096; c++) {
            static const char *const before[2] = {"a", "\xC2\xBD"}, *const after[2] = {"b",
                                                                                       "\xCC\x81"};
            if (c >= 0xD800 && c <= 0xDFFF) continue;
            for (int k = 0; k < 2; k++) {
                char s[12];
                strcpy(s, before[k]);
                size_t n = strlen(s);
                n += bt_utf8_encode(c, s + n);
                strcpy(s + n, after[k]);
                bt_buf_clear(&out);
                bt_charsmap_apply(map, BT_CHARSMAP_CLUSTERS, s, strlen(s), &out);
                sum[k] = golden_sum(sum[k], out.data, out.len);
            }
        }
        for (size_t k = 0; k < 2; k++) {
            if (sum[k] != strtoull(g.word[k], NULL, 16))
                fprintf(stderr, "case %zu differs in U+%X..\n", k, start);
            CHECK(sum[k] == strtoull(g.word[k], NULL, 16));
        }
    }
    bt_buf_release(&out);
    golden_close(&g);
}

static void warm_buffers_do_not_grow(void)
{
    bt_buf out = BT_BUF_INIT;
    static const char text[] =
        "\xEF\xBC\xA1\xEF\xBC\xA2 \xEF\xAC\x81x"; // fullwidth AB, fi ligature
    bt_charsmap_apply(map, BT_CHARSMAP_CLUSTERS, text, strlen(text), &out);
    CHECK_STR(out.data, "AB fix");
    bt_buf_clear(&out);
    bt_mem_guard_begin();
    bt_charsmap_apply(map, BT_CHARSMAP_LONGEST, text, strlen(text), &out);
    bt_mem_guard_end();
    CHECK_STR(out.data, "AB fix");
    bt_buf_release(&out);
    bt_buf tiny = {.max_bytes = 3};
    bt_charsmap_apply(map, BT_CHARSMAP_CLUSTERS, text, strlen(text), &tiny);
    CHECK(tiny.failed);
    bt_buf_release(&tiny);
}

static void damaged_maps(void)
{
    bt_err err = {0};
    bt_charsmap *c = NULL;
    const char *s = model->charsmap.s;
    size_t n = model->charsmap.n, trie = 0;
    for (size_t k = 4; k-- > 0;) trie = trie << 8 | (unsigned char)s[k];
    for (size_t k = 1; k < n; k = k < 64 || k + 64 > n ? k + 1 : k + 997) {
        char *copy = malloc(k); // exact, so that reading past it shows
        REQUIRE(copy != NULL);
        memcpy(copy, s, k);
        bt_status st = bt_charsmap_open(copy, k, &c, &err);
        CHECK(st == BT_OK ? k > trie + 4 || k == trie + 4 : st == BT_EFORMAT);
        if (st == BT_OK) {
            bt_buf out = BT_BUF_INIT;
            bt_charsmap_apply(c, BT_CHARSMAP_LONGEST, "\xEF\xBC\xA1 \xC2\xBD x", 8, &out);
            CHECK(bt_utf8_valid_prefix(out.data, out.len) == out.len);
            bt_buf_release(&out);
            bt_charsmap_close(c);
        }
        free(copy);
    }
    CHECK_INT(bt_charsmap_open("\x03\0\0\0abc", 7, &c, &err), BT_EFORMAT);
    CHECK(strstr(err.msg, "trie") != NULL);
    CHECK_INT(bt_charsmap_open("\x04\0\0\0\0\0\0\0\xFF", 9, &c, &err), BT_EFORMAT);
    REQUIRE(bt_charsmap_open(NULL, 0, &c, &err) == BT_OK); // changes nothing
    bt_buf out = BT_BUF_INIT;
    bt_charsmap_apply(c, BT_CHARSMAP_CLUSTERS, "x\xC2\xBD", 3, &out);
    CHECK_STR(out.data, "x\xC2\xBD");
    bt_buf_release(&out);
    bt_charsmap_close(c);
    bt_mem_fail_at(1);
    CHECK_INT(bt_charsmap_open(s, n, &c, &err), BT_ENOMEM);
    bt_mem_fail_at(0);
}

int main(void)
{
    RUN(real_map);
    RUN(both_rules);
    RUN(every_code_point);
    RUN(warm_buffers_do_not_grow);
    RUN(damaged_maps);
    bt_charsmap_close(map);
    bt_spm_close(model);
    return TEST_END();
}
