/* SPDX-License-Identifier: Apache-2.0 */
/* test_regex.c - Oniguruma's patterns in PCRE2's spelling: what they match, and what is refused.
 * The patterns of real tokenizers are compared with the library itself in test_tokenizer_json.c. */
#include "base/utf8.h"
#include "test.h"
#include "token/regex.h"

/* All matches of the pattern in text, as "[...]" around each. */
static const char *marked(const char *pattern, const char *text)
{
    static bt_buf out;
    bt__regex *r;
    bt__regex_match *m;
    bt_err err = {0};
    bt__regex_walk walk = {0, SIZE_MAX};
    size_t done = 0, start, end, n = strlen(text);
    bt_buf_clear(&out);
    bt_buf_adds(&out, "");
    if (bt__regex_open((bt_str){pattern, strlen(pattern)}, true, &r, &err)) {
        bt_buf_adds(&out, err.msg);
        return out.data;
    }
    REQUIRE(bt__regex_match_open(r, &m, NULL) == BT_OK);
    for (;;) {
        REQUIRE(bt__regex_walk_next(r, m, text, n, &walk, &start, &end, NULL) == BT_OK);
        if (start == SIZE_MAX) break;
        bt_buf_add(&out, text + done, start - done);
        bt_buf_addc(&out, '[');
        bt_buf_add(&out, text + start, end - start);
        bt_buf_addc(&out, ']');
        done = end;
    }
    bt_buf_add(&out, text + done, n - done);
    bt__regex_match_close(m);
    bt__regex_close(r);
    return out.data;
}

static void quantifiers(void)
{
    CHECK_STR(marked("a{2}+", "aaaaa"), "[aaaa]a"); // repeats, is not possessive
    CHECK_STR(marked("a{,2}b", "aaab b"), "a[aab] [b]");
    CHECK_STR(marked("a{2}?b", "aab b"), "[aab] [b]"); // may be left out
    CHECK_STR(marked("a++a", "aaa"), "aaa");
    CHECK_STR(marked("a+?", "aa"), "[a][a]");
    CHECK_STR(marked("(?:ab)*{2}", "ababab"), "[ababab]"); // none right behind
    CHECK_STR(marked("x{y}", "x{y}"), "[x{y}]");
    CHECK_STR(marked("x*", "axxb"), "[]a[xx]b[]");
}

static void sets(void)
{
    CHECK_STR(marked("[a[bc]]+", "xabcx"), "x[abc]x");
    CHECK_STR(marked("[a-z&&[^aeiou]]+", "hello"), "[h]e[ll]o");
    CHECK_STR(marked("[^a-z&&[^aeiou]]+", "hello"), "h[e]ll[o]");
    CHECK_STR(marked("[^\\S\\n]+", "a \t\nb"), "a[ \t]\nb");
    CHECK_STR(marked("[\\S]+", "ab c"), "[ab] [c]");
    CHECK_STR(marked("[]a]+", "x]a]"), "x[]a]]");
    CHECK_STR(marked("[a\\-z]+", "a-mz"), "[a-]m[z]");
    CHECK_STR(marked("[a-]+", "a-b"), "[a-]b");
    CHECK_STR(marked("[[:digit:]a]+", "1a-\xD9\xA3"), "[1a]-[\xD9\xA3]");
    CHECK_STR(marked("[[:^digit:]]+", "1ab2"), "1[ab]2");
    CHECK_STR(marked("[\\[\\]]", "[]"), "[[][]]");
    CHECK_STR(marked("\\h+", "xyz12afg"), "xyz[12af]g");
}

static void lines_and_options(void)
{
    CHECK_STR(marked("^.", "ab\ncd"), "[a]b\n[c]d");
    CHECK_STR(marked("\\s+$", "a  \n  b  "), "a[  ]\n  b[  ]");
    CHECK_STR(marked("\\s+$", "a \n\n b"), "a[ \n]\n b");
    CHECK_STR(marked("(?m:a.b)", "a\nb"), "[a\nb]");
    CHECK_STR(marked("a.b", "a\nb"), "a\nb");
    CHECK_STR(marked("a(?i)b|C", "aB ac C"), "[aB] [ac] C"); // holds over the bar
    CHECK_STR(marked("(?i:'s)", "'S '\xC5\xBF"), "['S] ['\xC5\xBF]");
    CHECK_STR(marked("(?#note)a", "a"), "[a]");
    CHECK_STR(marked("(a)(b)\\2\\1", "abba"), "[abba]");
}

static void classes_of_unicode(void)
{
    CHECK_STR(marked("\\s", "\xE1\xA0\x8E"), "\xE1\xA0\x8E"); // U+180E is no white space
    CHECK_STR(marked("\\p{Han}+", "\xE4\xB8\xAD\xE3\x80\x82"), "[\xE4\xB8\xAD]\xE3\x80\x82");
    CHECK_STR(marked("\\p{^L}+", "a1b"), "a[1]b");
    CHECK_STR(marked("\\P{^L}+", "a1b"), "[a]1[b]");
    CHECK_STR(marked("\\p{Letter}+", "a1"), "[a]1");
    CHECK_STR(marked("\\w+", "a_1\xC2\xBD-"), "[a_1\xC2\xBD]-");
    CHECK_STR(marked("[\\w]+", "a\xC2\xBD"), "[a]\xC2\xBD"); // in a class, no fractions of Latin-1
    CHECK_STR(marked("\\b", "ab c"), "[]ab[] []c[]");
    CHECK_STR(marked("\\u0041\\x42\\x{43}", "ABC"), "[ABC]");
    CHECK_STR(marked("\\p{L}", "\xF0\xB1\x8D\x90"), "[\xF0\xB1\x8D\x90]"); // newer than PCRE2's
}

static void refusals_say_what(void)
{
    static const char *const row[][2] = {{"(?~abc)", "option of a group"},
                                         {"(a", "group that does not end"},
                                         {"a)", "closes nothing"},
                                         {"[a", "class that does not end"},
                                         {"[b-a]", "ends before it begins"},
                                         {"+a", "behind nothing"},
                                         {"\\p{Klingon}", "refused"},
                                         {"\\pL", "without braces"},
                                         {"\\x{110000}", "number"},
                                         {"\\xE9", "byte above 7F"},
                                         {"\\y", "an escape"},
                                         {"(*FAIL)", "verb"},
                                         {"(?x: a)", "option"},
                                         {"\\", "backslash at the end"},
                                         {"[[:klingon:]]", "bracket of that name"}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const char *got = marked(row[i][0], "");
        CHECK(strstr(got, row[i][1]) != NULL);
        if (!strstr(got, row[i][1])) fprintf(stderr, "%s: %s\n", row[i][0], got);
    }
}

static void literals(void)
{
    bt__regex *r;
    bt__regex_match *m;
    size_t start, end;
    REQUIRE(bt__regex_open((bt_str){"a.b", 3}, false, &r, NULL) == BT_OK);
    REQUIRE(bt__regex_match_open(r, &m, NULL) == BT_OK);
    REQUIRE(bt__regex_find(r, m, "axb a.b", 7, 0, &start, &end, NULL) == BT_OK);
    CHECK_INT(start, 4);
    CHECK_INT(end, 7);
    REQUIRE(bt__regex_find(r, m, "axb a.b", 7, 5, &start, &end, NULL) == BT_OK);
    CHECK(start == SIZE_MAX);
    bt__regex_match_close(m);
    bt__regex_close(r);
}

/* Each prefix of a pattern in a buffer of exactly its size. */
static void truncated_patterns(void)
{
    static const char text[] =
        "(?i:'s|[a[b-d]&&[^\\p{Lu}\\x{41}]]{1,3}+)(?=\\w)[[:^alpha:]]\\u0041\\p{^L}";
    for (size_t n = 0; n < sizeof text; n++) {
        char *part = malloc(n + !n);
        bt__regex *r = NULL;
        REQUIRE(part);
        memcpy(part, text, n);
        bt_status st = bt__regex_open((bt_str){part, n}, true, &r, NULL);
        CHECK(st == BT_OK || st == BT_EUNSUPPORTED || st == BT_EFORMAT);
        if (st == BT_OK) bt__regex_close(r);
        free(part);
    }
}

int main(void)
{
    RUN(quantifiers);
    RUN(sets);
    RUN(lines_and_options);
    RUN(classes_of_unicode);
    RUN(refusals_say_what);
    RUN(literals);
    RUN(truncated_patterns);
    return TEST_END();
}
