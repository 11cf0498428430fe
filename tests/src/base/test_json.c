/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "json.h"

static bt_status parse(const char *text, size_t n, bt_err *err)
{
    bt_arena arena;
    const bt_json *root;
    char *exact = malloc(n + !n); // exact size: ASan sees one byte too far
    memcpy(exact, text, n);
    bt_arena_init(&arena, bt_json_room(n));
    bt_status st = bt_json_parse(exact, n, &arena, &root, err);
    CHECK((st == BT_OK) == (root != NULL));
    bt_arena_release(&arena);
    free(exact);
    return st;
}

static void accepts_valid_json(void)
{
    static const char *const good[] = {
        "{}",
        "[]",
        " [ ] ",
        "0",
        "-0.5e+10",
        "true",
        "null",
        "\"\"",
        "{\"a\":[1,2,{\"b\":null}]}",
        "\"\\u00e9\\ud83d\\ude00\"",
        "[1,2,3]",
        "\"\xC3\xA9\"",
        "{\"a\":1,\"a\":2}",
        "123456789012345678901234567890",
    };
    bt_err err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK_INT(parse(good[i], strlen(good[i]), &err), BT_OK);
}

static void refuses_what_is_none(void)
{
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"", "ends too early"},
        {"01", "bytes after"},
        {"1.", "lacks digits"},
        {"[1,]", "a comma before"},
        {"{\"a\":1,}", "a comma before"},
        {"\"\t\"", "control character"},
        {"\"\\u0000\"", "\\u0000"},
        {"\"\\ud83d\"", "lone surrogate"},
        {"\"\\ude00\"", "lone surrogate"},
        {"\"\\x\"", "unknown escape"},
        {"{} {}", "bytes after"},
        {"[1 2]", "',' or a closing bracket"},
        {"{\"a\" 1}", "':' was expected"},
        {"\"abc", "does not end"},
        {"\"\xC3\"", "UTF-8"},
        {"\"\xED\xA0\x80\"", "UTF-8"},
        {"nul", "a value was expected"},
        {"+1", "a value"},
        {"[1}", "',' or a closing bracket"},
        {"'a'", "a value"},
        {"NaN", "a value"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bt_err err = {0};
        CHECK_INT(parse(bad[i].text, strlen(bad[i].text), &err), BT_EINVAL);
        CHECK(strstr(err.msg, bad[i].why) != NULL);
    }
}

static void depth_is_bounded(void)
{
    char deep[200];
    bt_err err;
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    CHECK_INT(parse(deep, 200, &err), BT_EINVAL);
    CHECK(strstr(err.msg, "deep") != NULL);
    CHECK_INT(parse(deep + 100 - BT_JSON_DEPTH_MAX, 2 * BT_JSON_DEPTH_MAX, &err), BT_OK);
}

static void every_prefix_is_refused(void)
{
    const char *whole = "{\"a\": [1.5e3, true, \"x\\u00e9\\n\"], \"b\": {\"c\": null}}";
    bt_err err;
    for (size_t n = 0; n < strlen(whole); n++) CHECK_INT(parse(whole, n, &err), BT_EINVAL);
    CHECK_INT(parse(whole, strlen(whole), &err), BT_OK);
}

static void getters_name_the_field(void)
{
    const bt_json *o = json("{\"i\":3,\"f\":2.5,\"s\":\"x\",\"b\":true,\"n\":null,"
                            "\"big\":1e300,\"long\":9223372036854775807,"
                            "\"longer\":9223372036854775808,\"round\":2e3}");
    bt_err err = {0};
    int64_t i = -1;
    double f = -1;
    bool b = false;
    const char *s = NULL;
    CHECK_INT(bt_json_get_int(o, "i", 0, 10, &i, &err), BT_OK);
    CHECK_INT(i, 3);
    CHECK_INT(bt_json_get_int(o, "missing", 0, 10, &i, &err), BT_OK);
    CHECK_INT(bt_json_get_int(o, "n", 0, 10, &i, &err), BT_OK);
    CHECK_INT(i, 3);
    CHECK_INT(bt_json_get_int(o, "f", 0, 10, &i, &err), BT_EINVAL);
    CHECK_STR(err.msg, "'f' must be an integer");
    CHECK_INT(bt_json_get_int(o, "i", 5, 10, &i, &err), BT_EINVAL);
    CHECK_STR(err.msg, "'i' must be between 5 and 10");
    CHECK_INT(bt_json_get_int(o, "big", INT64_MIN, INT64_MAX, &i, &err), BT_EINVAL);
    CHECK_INT(bt_json_get_num(o, "f", 0, 10, &f, &err), BT_OK);
    CHECK_NEAR(f, 2.5, 0);
    CHECK_INT(bt_json_get_num(o, "s", 0, 10, &f, &err), BT_EINVAL);
    CHECK_INT(bt_json_get_bool(o, "b", &b, &err), BT_OK);
    CHECK(b);
    CHECK_INT(bt_json_get_bool(o, "i", &b, &err), BT_EINVAL);
    CHECK_INT(bt_json_get_str(o, "s", &s, &err), BT_OK);
    CHECK_STR(s, "x");
    CHECK_INT(bt_json_get_str(o, "b", &s, &err), BT_EINVAL);
    CHECK_INT(bt_json_get_int(o, "long", INT64_MIN, INT64_MAX, &i, &err), BT_OK);
    CHECK(i == INT64_MAX); // exactly
    CHECK_INT(bt_json_get_int(o, "longer", INT64_MIN, INT64_MAX, &i, &err), BT_EINVAL);
    CHECK_STR(err.field, "longer");
    CHECK_INT(bt_json_get_int(o, "round", 0, 5000, &i, &err), BT_OK);
    CHECK_INT(i, 2000);
    CHECK(bt_json_find(o, "n") && !bt_json_item(o, "n") && !bt_json_find(o, "N"));
}

static void writer_reads_back(void)
{
    bt_buf b = BT_BUF_INIT;
    bt_jw w = bt_jw_on(&b);
    bt_jw_open(&w, '{');
    bt_jw_kstr(&w, "text", "a\"b\\c\n\x01\xC3\xA9");
    bt_jw_key(&w, "bad");
    bt_jw_strn(&w, "x\xFFy", 3);
    bt_jw_kint(&w, "int", INT64_MIN);
    bt_jw_knum(&w, "num", 0.1);
    bt_jw_knum(&w, "nan", NAN);
    bt_jw_key(&w, "list");
    bt_jw_open(&w, '[');
    bt_jw_bool(&w, true);
    bt_jw_null(&w);
    bt_jw_close(&w, ']');
    bt_jw_close(&w, '}');
    CHECK_STR(b.data, "{\"text\":\"a\\\"b\\\\c\\n\\u0001\xC3\xA9\",\"bad\":\"x\xEF\xBF\xBDy\","
                      "\"int\":-9223372036854775808,"
                      "\"num\":0.1,\"nan\":null,\"list\":[true,null]}");
    bt_err err;
    CHECK_INT(parse(b.data, b.len, &err), BT_OK);
    bt_buf_release(&b);
}

/* What was read is written again as it was, but for white space and needless escapes. */
static void trees_keep_all(void)
{
    static const char text[] =
        "{\"z\":[1,1.50,-0,1E5,12345678901234567890],\"a\":{},\"\":[],\"a\":[true,false,null],"
        "\"s\":\"\xC3\xA9\\n\\\"\"}";
    const bt_json *v = json("\xEF\xBB\xBF { \"z\" : [1, 1.50,-0,1E5 ,12345678901234567890],"
                            "\"a\":{},\"\":[ ],\"\\u0061\":[true,false,null],"
                            "\"s\":\"\\u00e9\\n\\\"\"} ");
    char *again = json_text(v);
    CHECK_STR(again, text);
    bt_free(again);
    CHECK_INT(v->n, 5);
    CHECK(bt_json_is(bt_json_find(v, "a"), BT_JSON_OBJECT)); // of equal names the first
    CHECK(bt_json_is_text(bt_json_find(v, "s"), "\xC3\xA9\n\""));
}

static void values_are_bounded(void)
{
    static const char text[] = "{\"a\":1,\"b\":[1,2,3]}";
    const bt_json *root;
    bt_arena arena;
    bt_err err = {0};
    bt_arena_init(&arena, bt_json_room(sizeof text));
    CHECK_INT(bt_json_parse_bounded(text, sizeof text - 1, 6, &arena, &root, &err), BT_OK);
    CHECK_INT(bt_json_parse_bounded(text, sizeof text - 1, 5, &arena, &root, &err), BT_ETOOBIG);
    CHECK_STR(err.field, "b");
    CHECK(!root);
    bt_arena_release(&arena);
    bt_arena_init(&arena, 64);
    CHECK_INT(bt_json_parse(text, sizeof text - 1, &arena, &root, &err), BT_ENOMEM);
    bt_arena_release(&arena);
}

/* A text of the shortest values takes the most memory for a byte; there is always room for it. */
static void room_is_enough(void)
{
    enum { VALUES = 5000 };
    static char text[2 * VALUES + 1] = "[";
    bt_err err = {0};
    for (int i = 0; i < VALUES; i++) memcpy(text + 1 + 2 * i, "0,", 2);
    text[2 * VALUES] = ']';
    for (size_t n = 1; n <= VALUES; n = n * 3) {
        char end = text[2 * n];
        text[2 * n] = ']';
        CHECK_INT(parse(text, 2 * n + 1, &err), BT_OK);
        text[2 * n] = end;
    }
}

int main(void)
{
    RUN(trees_keep_all);
    RUN(values_are_bounded);
    RUN(room_is_enough);
    RUN(accepts_valid_json);
    RUN(refuses_what_is_none);
    RUN(depth_is_bounded);
    RUN(every_prefix_is_refused);
    RUN(getters_name_the_field);
    RUN(writer_reads_back);
    return TEST_END();
}
