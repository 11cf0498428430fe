/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "base/utf8.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- validation: RFC 8259 grammar over bytes, iterative, so that depth costs no stack. */

typedef struct scan {
    const char *s;
    size_t at, len;
    const char *why; // first fault, NULL while fine
    size_t values, values_max;
    size_t key, n_key; // the last member name of the outermost object
} scan;

static bool scan_fail(scan *c, const char *why)
{
    if (!c->why) c->why = why;
    return false;
}

static void scan_space(scan *c)
{
    while (c->at < c->len && strchr(" \t\r\n", c->s[c->at]) && c->s[c->at]) c->at++;
}

static bool scan_hex4(scan *c, unsigned *out)
{
    unsigned v = 0;
    for (int i = 0; i < 4; i++, c->at++) {
        char ch = c->at < c->len ? c->s[c->at] : 0;
        if (ch >= '0' && ch <= '9')
            v = v * 16 + (unsigned)(ch - '0');
        else if (ch >= 'a' && ch <= 'f')
            v = v * 16 + (unsigned)(ch - 'a' + 10);
        else if (ch >= 'A' && ch <= 'F')
            v = v * 16 + (unsigned)(ch - 'A' + 10);
        else
            return scan_fail(c, "a \\u escape needs four hexadecimal digits");
    }
    *out = v;
    return true;
}

static bool scan_escape(scan *c)
{
    char ch = c->at < c->len ? c->s[c->at] : 0;
    c->at++;
    if (ch && strchr("\"\\/bfnrt", ch)) return true;
    if (ch != 'u') return scan_fail(c, "unknown escape in a string");
    unsigned hi, lo;
    if (!scan_hex4(c, &hi)) return false;
    if (hi == 0) return scan_fail(c, "a string holds \\u0000");
    if (hi >= 0xDC00 && hi <= 0xDFFF) return scan_fail(c, "a string holds a lone surrogate");
    if (hi < 0xD800 || hi > 0xDBFF) return true;
    if (c->at + 1 >= c->len || c->s[c->at] != '\\' || c->s[c->at + 1] != 'u')
        return scan_fail(c, "a string holds a lone surrogate");
    c->at += 2;
    if (!scan_hex4(c, &lo)) return false;
    return lo >= 0xDC00 && lo <= 0xDFFF ? true : scan_fail(c, "a string holds a lone surrogate");
}

static bool scan_string(scan *c)
{
    c->at++; // the opening quote
    while (c->at < c->len) {
        unsigned char ch = (unsigned char)c->s[c->at];
        if (ch == '"') {
            c->at++;
            return true;
        }
        if (ch < 0x20) return scan_fail(c, "a string holds a raw control character");
        c->at++;
        if (ch == '\\' && !scan_escape(c)) return false;
    }
    return scan_fail(c, "a string does not end");
}

static bool scan_digits(scan *c)
{
    size_t from = c->at;
    while (c->at < c->len && c->s[c->at] >= '0' && c->s[c->at] <= '9') c->at++;
    return c->at > from ? true : scan_fail(c, "a number lacks digits");
}

static bool scan_number(scan *c)
{
    if (c->s[c->at] == '-') c->at++;
    if (c->at < c->len && c->s[c->at] == '0')
        c->at++;
    else if (!scan_digits(c))
        return false;
    if (c->at < c->len && c->s[c->at] == '.') {
        c->at++;
        if (!scan_digits(c)) return false;
    }
    if (c->at < c->len && (c->s[c->at] == 'e' || c->s[c->at] == 'E')) {
        c->at++;
        if (c->at < c->len && (c->s[c->at] == '+' || c->s[c->at] == '-')) c->at++;
        if (!scan_digits(c)) return false;
    }
    return true;
}

static bool scan_word(scan *c, const char *word)
{
    size_t n = strlen(word);
    if (c->len - c->at < n || memcmp(c->s + c->at, word, n) != 0)
        return scan_fail(c, "unexpected character");
    c->at += n;
    return true;
}

static bool scan_scalar(scan *c)
{
    char ch = c->s[c->at];
    if (ch == '"') return scan_string(c);
    if (ch == '-' || (ch >= '0' && ch <= '9')) return scan_number(c);
    if (ch == 't') return scan_word(c, "true");
    if (ch == 'f') return scan_word(c, "false");
    if (ch == 'n') return scan_word(c, "null");
    return scan_fail(c, "unexpected character");
}

/* Reads `"key" :` of an object member. */
static bool scan_key(scan *c, int depth)
{
    scan_space(c);
    size_t from = c->at;
    if (c->at >= c->len || c->s[c->at] != '"') return scan_fail(c, "expected a member name");
    if (!scan_string(c)) return false;
    if (depth == 1) {
        c->key = from + 1;
        c->n_key = c->at - from - 2;
    }
    scan_space(c);
    if (c->at >= c->len || c->s[c->at] != ':') return scan_fail(c, "expected ':'");
    c->at++;
    return true;
}

static bool scan_document(scan *c)
{
    char stack[BT_JSON_DEPTH_MAX];
    int depth = 0;
    for (;;) {
        /* a value */
        scan_space(c);
        if (c->at >= c->len) return scan_fail(c, "unexpected end");
        if (++c->values > c->values_max) return scan_fail(c, "too many values");
        char ch = c->s[c->at];
        if (ch == '{' || ch == '[') {
            if (depth == BT_JSON_DEPTH_MAX) return scan_fail(c, "nested too deeply");
            stack[depth++] = ch;
            c->at++;
            scan_space(c);
            if (c->at < c->len && c->s[c->at] == ch + 2) { // '{'+2 == '}', '['+2 == ']'
                c->at++;
                depth--;
            } else {
                if (ch == '{' && !scan_key(c, depth)) return false;
                continue;
            }
        } else if (!scan_scalar(c)) {
            return false;
        }
        /* what may follow it */
        for (;;) {
            scan_space(c);
            if (depth == 0) return c->at == c->len ? true : scan_fail(c, "bytes after the value");
            if (c->at >= c->len) return scan_fail(c, "unexpected end");
            ch = c->s[c->at++];
            if (ch == stack[depth - 1] + 2) {
                depth--;
                continue;
            }
            if (ch != ',') return scan_fail(c, "expected ',' or a closing bracket");
            if (stack[depth - 1] == '{' && !scan_key(c, depth)) return false;
            break;
        }
    }
}

bt_status bt_json_parse(const char *text, size_t len, cJSON **out, bt_err *err)
{
    return bt_json_parse_bounded(text, len, SIZE_MAX, out, err);
}

bt_status bt_json_parse_bounded(const char *text, size_t len, size_t values_max, cJSON **out,
                                bt_err *err)
{
    size_t mark = bt_utf8_mark(text, len);
    text += mark;
    len -= mark;
    size_t valid = bt_utf8_valid_prefix(text, len);
    if (valid != len)
        return bt_err_set(err, BT_EINVAL, 0, "invalid UTF-8 at byte %zu of the JSON text", valid);
    scan c = {.s = text, .len = len, .values_max = values_max};
    bool sound = scan_document(&c);
    if (c.values > values_max) {
        char member[64];
        snprintf(member, sizeof member, "%.*s", (int)c.n_key, text + c.key);
        return bt_err_field(err, BT_ETOOBIG, member,
                            "'%s' brings the JSON to more than %zu values; send less at once",
                            member, values_max);
    }
    if (!sound)
        return bt_err_set(err, BT_EINVAL, 0, "invalid JSON at byte %zu: %s",
                          c.at < len ? c.at : len, c.why);
    cJSON *root = cJSON_ParseWithLength(text, len);
    if (!root)
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a JSON text of %zu bytes", len);
    *out = root;
    return BT_OK;
}

/* ---- typed getters */

const cJSON *bt_json_item(const cJSON *obj, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(obj, key);
    return v && !cJSON_IsNull(v) ? v : NULL;
}

bt_status bt_json_get_num(const cJSON *obj, const char *key, double min, double max, double *out,
                          bt_err *err)
{
    const cJSON *v = bt_json_item(obj, key);
    if (!v) return BT_OK;
    if (!cJSON_IsNumber(v)) return bt_err_field(err, BT_EINVAL, key, "'%s' must be a number", key);
    if (!(v->valuedouble >= min && v->valuedouble <= max))
        return bt_err_field(err, BT_EINVAL, key, "'%s' must be between %g and %g", key, min, max);
    *out = v->valuedouble;
    return BT_OK;
}

bt_status bt_json_get_int(const cJSON *obj, const char *key, int64_t min, int64_t max, int64_t *out,
                          bt_err *err)
{
    const cJSON *v = bt_json_item(obj, key);
    if (!v) return BT_OK;
    if (!cJSON_IsNumber(v) || v->valuedouble != floor(v->valuedouble))
        return bt_err_field(err, BT_EINVAL, key, "'%s' must be an integer", key);
    if (!(v->valuedouble >= (double)min && v->valuedouble <= (double)max))
        return bt_err_field(err, BT_EINVAL, key, "'%s' must be between %" PRId64 " and %" PRId64,
                            key, min, max);
    /* (double)INT64_MAX rounds up to 2^63, which does not convert */
    *out = v->valuedouble >= 9223372036854775807.0 ? INT64_MAX : (int64_t)v->valuedouble;
    return BT_OK;
}

bt_status bt_json_get_bool(const cJSON *obj, const char *key, bool *out, bt_err *err)
{
    const cJSON *v = bt_json_item(obj, key);
    if (!v) return BT_OK;
    if (!cJSON_IsBool(v))
        return bt_err_field(err, BT_EINVAL, key, "'%s' must be true or false", key);
    *out = cJSON_IsTrue(v);
    return BT_OK;
}

bt_status bt_json_get_str(const cJSON *obj, const char *key, const char **out, bt_err *err)
{
    const cJSON *v = bt_json_item(obj, key);
    if (!v) return BT_OK;
    if (!cJSON_IsString(v)) return bt_err_field(err, BT_EINVAL, key, "'%s' must be a string", key);
    *out = v->valuestring;
    return BT_OK;
}

/* ---- writer */

static void jw_value(bt_jw *w)
{
    if (w->comma) bt_buf_addc(w->b, ',');
    w->comma = true;
}

void bt_jw_open(bt_jw *w, char bracket)
{
    jw_value(w);
    bt_buf_addc(w->b, bracket);
    w->comma = false;
}

void bt_jw_close(bt_jw *w, char bracket)
{
    bt_buf_addc(w->b, bracket);
    w->comma = true;
}

static void jw_quote(bt_buf *b, const char *s, size_t n)
{
    bt_buf_addc(b, '"');
    size_t i = 0;
    while (i < n) {
        size_t run = i;
        while (run < n && (unsigned char)s[run] >= 0x20 && (unsigned char)s[run] < 0x7F &&
               s[run] != '"' && s[run] != '\\')
            run++;
        bt_buf_add(b, s + i, run - i);
        if (run == n) break;
        unsigned char c = (unsigned char)s[run];
        uint32_t cp;
        size_t len = bt_utf8_decode(s + run, n - run, &cp);
        i = run + (len ? len : 1);
        if (c == '"' || c == '\\')
            bt_buf_addf(b, "\\%c", c);
        else if (c == '\n')
            bt_buf_adds(b, "\\n");
        else if (c == '\r')
            bt_buf_adds(b, "\\r");
        else if (c == '\t')
            bt_buf_adds(b, "\\t");
        else if (c < 0x20 || c == 0x7F)
            bt_buf_addf(b, "\\u%04x", c);
        else if (len == 0)
            bt_buf_adds(b, "\xEF\xBF\xBD");
        else
            bt_buf_add(b, s + run, len);
    }
    bt_buf_addc(b, '"');
}

void bt_jw_key(bt_jw *w, const char *key)
{
    jw_value(w);
    jw_quote(w->b, key, strlen(key));
    bt_buf_addc(w->b, ':');
    w->comma = false;
}

void bt_jw_strn(bt_jw *w, const char *s, size_t n)
{
    jw_value(w);
    jw_quote(w->b, s, n);
}

void bt_jw_str(bt_jw *w, const char *s)
{
    if (!s)
        bt_jw_null(w);
    else
        bt_jw_strn(w, s, strlen(s));
}

void bt_jw_int(bt_jw *w, int64_t v)
{
    jw_value(w);
    bt_buf_addf(w->b, "%" PRId64, v);
}

void bt_jw_num(bt_jw *w, double v)
{
    if (!isfinite(v)) {
        bt_jw_null(w);
        return;
    }
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    jw_value(w);
    bt_buf_adds(w->b, text);
}

void bt_jw_bool(bt_jw *w, bool v)
{
    jw_value(w);
    bt_buf_adds(w->b, v ? "true" : "false");
}

void bt_jw_null(bt_jw *w)
{
    jw_value(w);
    bt_buf_adds(w->b, "null");
}

void bt_jw_raw(bt_jw *w, const char *json, size_t n)
{
    jw_value(w);
    bt_buf_add(w->b, json, n);
}

void bt_jw_kstr(bt_jw *w, const char *key, const char *s)
{
    bt_jw_key(w, key);
    bt_jw_str(w, s);
}
void bt_jw_kint(bt_jw *w, const char *key, int64_t v)
{
    bt_jw_key(w, key);
    bt_jw_int(w, v);
}
void bt_jw_knum(bt_jw *w, const char *key, double v)
{
    bt_jw_key(w, key);
    bt_jw_num(w, v);
}
void bt_jw_kbool(bt_jw *w, const char *key, bool v)
{
    bt_jw_key(w, key);
    bt_jw_bool(w, v);
}
void bt_jw_knull(bt_jw *w, const char *key)
{
    bt_jw_key(w, key);
    bt_jw_null(w);
}
