/* SPDX-License-Identifier: Apache-2.0 */
/* test_normalize_bert.c - every code point, and mixed strings, as the tokenizers library has them.
 */
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "golden.h"
#include "token/normalize_bert.h"

static bt_bert_scratch scratch;

static void apply(const char *kind, const char *s, size_t n, bt_buf *out)
{
    static const struct bert {
        const char *kind;
        bt_bert_normalizer o;
    } bert[] = {
        {"bert-clean", {.clean_text = true, .strip_accents = BT_TRISTATE_NO}},
        {"bert-chinese", {.handle_chinese_chars = true, .strip_accents = BT_TRISTATE_NO}},
        {"bert-strip", {.strip_accents = BT_TRISTATE_YES}},
        {"bert-lower", {.strip_accents = BT_TRISTATE_NO, .lowercase = true}},
        {"bert", {.clean_text = true, .handle_chinese_chars = true, .lowercase = true}},
    };
    bt_buf_clear(out);
    if (strcmp(kind, "lowercase") == 0)
        bt_normalize_lowercase(s, n, out);
    else if (strcmp(kind, "strip-accents") == 0)
        bt_normalize_strip_accents(s, n, out);
    else if (strcmp(kind, "nmt") == 0)
        bt_normalize_nmt(s, n, out);
    else
        for (size_t i = 0; i < BT_COUNT(bert); i++)
            if (strcmp(kind, bert[i].kind) == 0) bt_normalize_bert(&bert[i].o, &scratch, s, n, out);
    REQUIRE(!out->failed);
}

static void every_code_point(void)
{
    static golden g;
    golden_open(&g, "tests/data/leaves/normalize.sums");
    bt_buf out = BT_BUF_INIT;
    int lines = 0;
    while (golden_line(&g)) {
        uint32_t start = (uint32_t)strtoul(g.word[1], NULL, 16);
        uint64_t sum = GOLDEN_SUM_START;
        for (uint32_t c = start; c < start + 4096; c++) {
            char s[6] = "a";
            if (c >= 0xD800 && c <= 0xDFFF) continue;
            size_t n = 1 + bt_utf8_encode(c, s + 1);
            s[n++] = 'b';
            apply(g.word[0], s, n, &out);
            sum = golden_sum(sum, out.data, out.len);
        }
        if (sum != strtoull(g.word[2], NULL, 16))
            fprintf(stderr, "%s differs in U+%X..U+%X\n", g.word[0], start, start + 4095);
        CHECK(sum == strtoull(g.word[2], NULL, 16));
        lines++;
    }
    CHECK_INT(lines, 8 * 272);
    bt_buf_release(&out);
    golden_close(&g);
}

static void mixed_strings(void)
{
    static golden g;
    golden_open(&g, "tests/data/leaves/normalize.out");
    bt_buf out = BT_BUF_INIT;
    int lines = 0;
    while (golden_line(&g)) {
        size_t n, n_want;
        const char *s = golden_hex(&g, 1, &n), *want = golden_hex(&g, 2, &n_want);
        apply(g.word[0], s, n, &out);
        bool same = out.len == n_want && memcmp(out.len ? out.data : "", want, n_want) == 0;
        if (!same) fprintf(stderr, "%s %s\n", g.word[0], g.word[1]);
        CHECK(same);
        lines++;
    }
    CHECK_INT(lines, 1600);
    bt_buf_release(&out);
    golden_close(&g);
}

static void known_words(void)
{
    bt_buf out = BT_BUF_INIT;
    apply("bert", "H\xC3\xA9llo\tW\xC3\x96RLD \xE4\xB8\xAD", 17, &out);
    CHECK_STR(out.data, "hello world  \xE4\xB8\xAD ");
    apply("lowercase", "\xC4\xB0\xCE\xA3", 4, &out); // no final sigma, two characters for one
    CHECK_STR(out.data, "i\xCC\x87\xCF\x83");
    apply("bert", "\xEA\xB0\x81", 3, &out); // a syllable becomes its letters
    CHECK_STR(out.data, "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8");
    bt_buf_release(&out);
}

/* A megabyte of marks that wait, in the worst order: linear, and no allocation the second time. */
static void hostile_marks_are_linear(void)
{
    enum { PAIRS = 150000 };
    char *s = malloc(PAIRS * 7);
    size_t n = 0;
    REQUIRE(s != NULL);
    for (int i = 0; i < PAIRS; i++) {
        memcpy(s + n, "\xE3\x80\xAE\xF0\x9D\x85\xA5", 7); // classes 224 and 216
        n += 7;
    }
    bt_buf out = BT_BUF_INIT;
    apply("bert-strip", s, n, &out);
    CHECK_INT(out.len, n);
    CHECK(memcmp(out.data, "\xF0\x9D\x85\xA5\xF0\x9D\x85\xA5", 8) == 0);
    CHECK(memcmp(out.data + n - 6, "\xE3\x80\xAE\xE3\x80\xAE", 6) == 0);
    bt_mem_guard_begin();
    apply("bert-strip", s, n, &out);
    bt_mem_guard_end();
    CHECK_INT(out.len, n);
    bt_buf_release(&out);
    free(s);
}

static void no_memory_is_told(void)
{
    bt_buf out = {.max_bytes = 4};
    bt_normalize_lowercase("ABCDEFGH", 8, &out);
    CHECK(out.failed);
    bt_buf_release(&out);
    bt_bert_scratch x = {0};
    bt_bert_normalizer o = {.strip_accents = BT_TRISTATE_YES};
    for (long k = 1; k <= 3; k++) {
        bt_buf b = BT_BUF_INIT;
        bt_mem_fail_at(k);
        bt_normalize_bert(&o, &x,
                          "\xE3\x80\xAE"
                          "a",
                          4, &b);
        bt_mem_fail_at(0);
        CHECK(b.failed);
        bt_buf_release(&b);
        bt_bert_scratch_release(&x);
    }
}

int main(void)
{
    RUN(every_code_point);
    RUN(mixed_strings);
    RUN(known_words);
    RUN(hostile_marks_are_linear);
    RUN(no_memory_is_told);
    bt_bert_scratch_release(&scratch);
    return TEST_END();
}
