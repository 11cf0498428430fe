/* SPDX-License-Identifier: Apache-2.0 */
/* test_json_read.c - the pull reader: what it reads, what it refuses and where, and that no byte
 * beyond the text is touched. */
#include "base/json_read.h"
#include "base/mem.h"
#include "test.h"

/* Reads any document whole; NULL if it is fine, else why not. */
static const char *read_all(const char *text, size_t n, int flags, size_t *at)
{
    static char why[80];
    bt_json_reader r;
    bt_json_reader_init(&r, text, n, flags);
    bool ok = bt_json_skip(&r) && bt_json_done(&r);
    const char *fault = bt_json_reader_why(&r, at);
    CHECK(ok == (fault == NULL));
    if (fault) snprintf(why, sizeof why, "%s", fault);
    bt_json_reader_release(&r);
    return fault ? why : NULL;
}

static void expect_fault(const char *text, const char *word, size_t at)
{
    size_t where = 0, n = strlen(text);
    char *exact = malloc(n + !n);
    REQUIRE(exact);
    memcpy(exact, text, n);
    const char *why = read_all(exact, n, 0, &where);
    CHECK(why && strstr(why, word));
    if (!why || !strstr(why, word)) fprintf(stderr, "%s: %s\n", text, why ? why : "(fine)");
    CHECK_INT(where, at);
    free(exact);
}

static void grammar(void)
{
    static const char *const fine[] = {"null",
                                       "true",
                                       " false\n",
                                       "0",
                                       "-0",
                                       "12.5e-3",
                                       "1E+9",
                                       "\"\"",
                                       "[]",
                                       "{}",
                                       "[ ]",
                                       "[1,2,[3]]",
                                       "{\"a\":{\"b\":[null]},\"a\":1}",
                                       "\"\\u0000\\ud83d\\ude00\\/\"",
                                       "\xEF\xBB\xBF{\"a\":1}",
                                       "\"\x7F\xC3\xA9\"",
                                       "[\"a\",{\"b\":\"c\"},true]"};
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        size_t at;
        const char *why = read_all(fine[i], strlen(fine[i]), 0, &at);
        CHECK(why == NULL);
        if (why) fprintf(stderr, "%s: %s\n", fine[i], why);
    }
    expect_fault("", "ends too early", 0);
    expect_fault("[1,]", "comma before", 3);
    expect_fault("{\"a\":1,}", "comma before", 7);
    expect_fault("[1 2]", "','", 3);
    expect_fault("{\"a\" 1}", "':'", 5);
    expect_fault("{a:1}", "member name", 1);
    expect_fault("01", "bytes after", 1);
    expect_fault("1.", "digits", 2);
    expect_fault("-", "digits", 1);
    expect_fault("tru", "a value", 0);
    expect_fault("\"a\nb\"", "control character", 2);
    expect_fault("\"abcdefgh\x01ijklmnop\"", "control character", 9);
    expect_fault("\"\\x\"", "escape", 3);
    expect_fault("\"\\u12g4\"", "hexadecimal", 5);
    expect_fault("\"\xC3\"", "UTF-8", 1);
    expect_fault("\"\\ud800\"", "lone surrogate", 7);
    expect_fault("\"\\udc00\\ud800\"", "lone surrogate", 7);
    expect_fault("\"abc", "does not end", 4);
    expect_fault("{\"a\":1}}", "bytes after", 7);
    expect_fault("[1}", "','", 2);
    expect_fault("NaN", "a value", 0);
    expect_fault("[Infinity]", "a value", 1);
}

static void as_python_reads(void)
{
    size_t at, n;
    const char *s;
    bt_json_reader r;
    CHECK(read_all("[NaN,Infinity,-Infinity]", 24, BT_JSON_PYTHON, &at) == NULL);
    CHECK(read_all("-NaN", 4, BT_JSON_PYTHON, &at) != NULL);
    CHECK(read_all("Nan", 3, BT_JSON_PYTHON, &at) != NULL);
    bt_json_reader_init(&r, "-Infinity", 9, BT_JSON_PYTHON);
    CHECK(bt_json_read_number(&r, &s, &n) && n == 9);
    static const char odd[] = "\"x\\ud83cy\\udf00\\ud83c\\udf00\"";
    bt_json_reader_init(&r, odd, sizeof odd - 1, BT_JSON_PYTHON);
    CHECK(bt_json_read_string(&r, &s, &n));
    CHECK(n == 12 && memcmp(s, "x\xEF\xBF\xBDy\xEF\xBF\xBD\xF0\x9F\x8C\x80", 12) == 0);
    bt_json_reader_release(&r);
}

static void walking(void)
{
    static const char text[] = "{\"a\\n\":\"x\\u0000y\",\"n\":[1,-9223372036854775808,2.5],"
                               "\"skip\":{\"deep\":[[[\"]}\"]]]},\"t\":true,\"z\":null}";
    bt_json_reader r;
    const char *key, *s;
    size_t n;
    int64_t i = 0;
    bool b = false;
    bt_json_reader_init(&r, text, sizeof text - 1, 0);
    REQUIRE(bt_json_enter(&r, '{') && bt_json_next_key(&r, &key, &n));
    CHECK(n == 2 && memcmp(key, "a\n", 2) == 0);
    CHECK(bt_json_read_string(&r, &s, &n) && n == 3 && memcmp(s, "x\0y", 3) == 0);
    CHECK(memcmp(key, "a\n", 2) == 0); // the one before still lives
    REQUIRE(bt_json_next_key(&r, &key, &n) && bt_json_enter(&r, '['));
    CHECK(bt_json_next_item(&r) && bt_json_read_int(&r, &i) && i == 1);
    CHECK(bt_json_next_item(&r) && bt_json_read_int(&r, &i) && i == INT64_MIN);
    CHECK(bt_json_next_item(&r) && bt_json_read_number(&r, &s, &n));
    CHECK(n == 3 && memcmp(s, "2.5", 3) == 0);
    CHECK(!bt_json_next_item(&r));
    REQUIRE(bt_json_next_key(&r, &key, &n));
    CHECK(bt_json_span(&r, &s, &n) && n == 19 && s[0] == '{' && s[18] == '}');
    REQUIRE(bt_json_next_key(&r, &key, &n));
    CHECK(bt_json_peek(&r) == BT_JSON_BOOL && bt_json_read_bool(&r, &b) && b);
    REQUIRE(bt_json_next_key(&r, &key, &n));
    CHECK(bt_json_read_null(&r));
    CHECK(!bt_json_next_key(&r, &key, &n) && bt_json_done(&r));
    bt_json_reader_release(&r);
}

static void expect_int(const char *text, bool ok, int64_t want)
{
    int64_t v = 77;
    bt_json_reader r;
    bt_json_reader_init(&r, text, strlen(text), 0);
    CHECK_INT(bt_json_read_int(&r, &v), ok);
    CHECK_INT(v, ok ? want : 77);
}

static void exact_numbers(void)
{
    expect_int("9007199254740993", true, 9007199254740993);
    expect_int("9223372036854775807", true, INT64_MAX);
    expect_int("9223372036854775808", false, 0);
    expect_int("-9223372036854775808", true, INT64_MIN);
    expect_int("-9223372036854775809", false, 0);
    expect_int("1e2", false, 0);
    expect_int("1.0", false, 0);
}

static void misuse_stops(void)
{
    bt_json_reader r;
    const char *s;
    size_t n;
    bool b;
    bt_json_reader_init(&r, "{\"a\":1}", 7, 0);
    CHECK(!bt_json_enter(&r, '['));
    CHECK(!bt_json_enter(&r, '{')); // the first fault stays
    CHECK(strstr(bt_json_reader_why(&r, NULL), "array") != NULL);
    bt_json_reader_init(&r, "{\"a\":1}", 7, 0);
    CHECK(bt_json_enter(&r, '{') && bt_json_next_key(&r, &s, &n));
    CHECK(!bt_json_read_bool(&r, &b));
    CHECK_INT(bt_json_peek(&r), BT_JSON_END);
    bt_json_reader_release(&r);
}

static void depth_is_bounded(void)
{
    char deep[2 * BT_JSON_READ_DEPTH_MAX + 2];
    size_t at, n = BT_JSON_READ_DEPTH_MAX;
    memset(deep, '[', n);
    memset(deep + n, ']', n);
    CHECK(read_all(deep, 2 * n, 0, &at) == NULL);
    memset(deep, '[', n + 1);
    memset(deep + n + 1, ']', n + 1);
    const char *why = read_all(deep, 2 * n + 2, 0, &at);
    CHECK(why && strstr(why, "deep"));
}

static void every_prefix_is_refused(void)
{
    static const char text[] =
        "{\"key\\u00e9\":[1.5e3,\"a long enough string \\ud83d\\ude00 \xC3\xA9\","
        "true,null,{\"x\":-1}]}";
    size_t at;
    for (size_t n = 0; n < sizeof text - 1; n++) {
        char *part = malloc(n + !n);
        REQUIRE(part);
        memcpy(part, text, n);
        CHECK(read_all(part, n, 0, &at) != NULL);
        CHECK(at <= n + 1);
        free(part);
    }
    CHECK(read_all(text, sizeof text - 1, 0, &at) == NULL);
}

static void memory_may_fail(void)
{
    static const char text[] = "[\"\\u0041\\u0042\",\"\\n\"]";
    for (long k = 1; k < 4; k++) {
        bt_json_reader r;
        const char *s;
        size_t n;
        bt_json_reader_init(&r, text, sizeof text - 1, 0);
        bt_mem_fail_at(k);
        bool ok = bt_json_enter(&r, '[') && bt_json_next_item(&r) &&
                  bt_json_read_string(&r, &s, &n) && bt_json_next_item(&r) &&
                  bt_json_read_string(&r, &s, &n);
        CHECK_INT(ok, !bt_mem_failed());
        bt_mem_fail_at(0);
        bt_json_reader_release(&r);
    }
}

int main(void)
{
    RUN(grammar);
    RUN(as_python_reads);
    RUN(walking);
    RUN(exact_numbers);
    RUN(misuse_stops);
    RUN(depth_is_bounded);
    RUN(every_prefix_is_refused);
    RUN(memory_may_fail);
    return TEST_END();
}
