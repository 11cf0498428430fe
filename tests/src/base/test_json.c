/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "base/mem.h"
#include "test.h"

static bt_status parse(const char *text, size_t n, bt_err *err)
{
    cJSON *root = NULL;
    char *exact = malloc(n + !n); // exact size: ASan sees one byte too far
    memcpy(exact, text, n);
    bt_status st = bt_json_parse(exact, n, &root, err);
    CHECK((st == BT_OK) == (root != NULL));
    cJSON_Delete(root);
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

static void refuses_what_cjson_would_take(void)
{
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"", "unexpected end"},
        {"01", "bytes after"},
        {"1.", "lacks digits"},
        {"[1,]", "unexpected character"},
        {"{\"a\":1,}", "member name"},
        {"\"\t\"", "control character"},
        {"\"\\u0000\"", "\\u0000"},
        {"\"\\ud83d\"", "lone surrogate"},
        {"\"\\ude00\"", "lone surrogate"},
        {"\"\\x\"", "unknown escape"},
        {"{} {}", "bytes after"},
        {"[1 2]", "expected ','"},
        {"{\"a\" 1}", "expected ':'"},
        {"\"abc", "does not end"},
        {"\"\xC3\"", "UTF-8"},
        {"\"\xED\xA0\x80\"", "UTF-8"},
        {"nul", "unexpected character"},
        {"+1", "unexpected"},
        {"[1}", "expected ','"},
        {"'a'", "unexpected"},
        {"NaN", "unexpected"},
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
    cJSON *o = NULL;
    bt_err err = {0};
    const char *text = "{\"i\":3,\"f\":2.5,\"s\":\"x\",\"b\":true,\"n\":null,\"big\":1e300}";
    REQUIRE(bt_json_parse(text, strlen(text), &o, &err) == BT_OK);
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
    cJSON_Delete(o);
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

int main(void)
{
    RUN(accepts_valid_json);
    RUN(refuses_what_cjson_would_take);
    RUN(depth_is_bounded);
    RUN(every_prefix_is_refused);
    RUN(getters_name_the_field);
    RUN(writer_reads_back);
    return TEST_END();
}
