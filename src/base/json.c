/* SPDX-License-Identifier: Apache-2.0 */
/* json.c - the tree that is built from the pull reader, its getters, and the writer. */
#include "base/json.h"
#include "base/assert.h"
#include "base/utf8.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- building */

static const char too_many[] = "too many values";

typedef struct builder {
    bt_json_reader *r;
    bt_arena *arena;
    char *text; // where the next string goes: there is a byte for each byte of the document
    size_t values_left;
    const char *member; // of the outermost object
} builder;

static const char *keep(builder *b, const char *s, size_t n)
{
    char *kept = b->text;
    if (n) memcpy(kept, s, n);
    kept[n] = 0;
    b->text += n + 1;
    return kept;
}

/* As deep as the reader goes. NULL after a fault, and then nothing is looked at any more. */
static bt_json *build(builder *b)
{
    bt_json_reader *r = b->r;
    bt_json_kind kind = bt_json_peek(r);
    const char *s = NULL;
    size_t n = 0;
    bool is = false;
    if (kind == BT_JSON_END) return NULL;
    if (b->values_left-- == 0) {
        bt_json_fail(r, too_many);
        return NULL;
    }
    bt_json *v = bt_arena_alloc(b->arena, sizeof *v);
    if (!v) {
        bt_json_fail_memory(r);
        return NULL;
    }
    v->kind = kind;
    switch (kind) {
    case BT_JSON_OBJECT:
    case BT_JSON_ARRAY: {
        bool object = kind == BT_JSON_OBJECT, outermost = object && r->depth == 0;
        bt_json **end = &v->child;
        bt_json_enter(r, object ? '{' : '[');
        while (object ? bt_json_next_key(r, &s, &n) : bt_json_next_item(r)) {
            const char *key = object ? keep(b, s, n) : NULL;
            if (outermost) b->member = key;
            bt_json *item = build(b);
            if (!item) return NULL;
            item->key = key;
            item->n_key = n & 0xFFFFFFF;
            *end = item;
            end = &item->next;
            v->n++;
        }
        break;
    }
    case BT_JSON_STRING:
    case BT_JSON_NUMBER:
        if (!(kind == BT_JSON_STRING ? bt_json_read_string : bt_json_read_number)(r, &s, &n)) break;
        v->text = keep(b, s, n);
        v->n = (uint32_t)n;
        break;
    case BT_JSON_BOOL:
        bt_json_read_bool(r, &is);
        v->n = is;
        break;
    case BT_JSON_NULL: bt_json_read_null(r); break;
    case BT_JSON_END: break;
    }
    return r->why ? NULL : v;
}

const bt_json *bt_json_build(bt_json_reader *r, bt_arena *arena, size_t values_max,
                             const char **member)
{
    enum { BYTES_MAX = 0xFFFFFFF }; // n_key
    size_t n = r->n - r->at;
    builder b = {.r = r, .arena = arena, .values_left = values_max, .member = ""};
    if (n > BYTES_MAX)
        bt_json_fail(r, "it is longer than 256 MiB");
    else if (!(b.text = bt_arena_alloc(arena, n + 1)))
        bt_json_fail_memory(r);
    const bt_json *v = r->why ? NULL : build(&b);
    if (member) *member = b.member;
    return v;
}

bt_status bt_json_parse(const char *text, size_t len, bt_arena *arena, const bt_json **out,
                        bt_err *err)
{
    return bt_json_parse_bounded(text, len, SIZE_MAX, arena, out, err);
}

bt_status bt_json_parse_bounded(const char *text, size_t len, size_t values_max, bt_arena *arena,
                                const bt_json **out, bt_err *err)
{
    bt_json_reader r;
    const char *member;
    size_t at;
    bt_status st = BT_OK;
    bt_json_reader_init(&r, text, len, BT_JSON_NO_NUL);
    r.depth_max = BT_JSON_DEPTH_MAX;
    *out = bt_json_build(&r, arena, values_max, &member);
    bool sound = *out && bt_json_done(&r);
    const char *why = bt_json_reader_why(&r, &at);
    if (r.no_memory)
        st = bt_err_set(err, BT_ENOMEM, 0, "out of memory for a JSON text of %zu bytes", len);
    else if (why == too_many)
        st = bt_err_field(err, BT_ETOOBIG, member,
                          "'%.60s' brings the JSON to more than %zu values; send less at once",
                          member, values_max);
    else if (!sound)
        st = bt_err_set(err, BT_EINVAL, 0, "invalid JSON at byte %zu: %s", BT_MIN(at, len), why);
    bt_json_reader_release(&r);
    if (st) *out = NULL;
    return st;
}

/* ---- looking */

bool bt_json_is_text(const bt_json *v, const char *text)
{
    return bt_json_is(v, BT_JSON_STRING) && strcmp(v->text, text) == 0;
}

double bt_json_number(const bt_json *v)
{
    return strtod(v->text, NULL);
}

bool bt_json_whole(const bt_json *v, int64_t *out)
{
    if (!bt_json_is(v, BT_JSON_NUMBER)) return false;
    if (bt_json_int(v->text, v->n, out)) return true;
    double near = bt_json_number(v);
    if (!strpbrk(v->text, ".eE") || near != floor(near) || !(fabs(near) < 0x1p63)) return false;
    *out = (int64_t)near;
    return true;
}

const bt_json *bt_json_find(const bt_json *obj, const char *key)
{
    size_t n = strlen(key);
    if (!bt_json_is(obj, BT_JSON_OBJECT)) return NULL;
    for (const bt_json *v = obj->child; v; v = v->next)
        if (v->n_key == n && memcmp(v->key, key, n) == 0) return v;
    return NULL;
}

const bt_json *bt_json_item(const bt_json *obj, const char *key)
{
    const bt_json *v = bt_json_find(obj, key);
    return bt_json_is(v, BT_JSON_NULL) ? NULL : v;
}

bt_status bt_json_get_num(const bt_json *obj, const char *key, double min, double max, double *out,
                          bt_err *err)
{
    const bt_json *v = bt_json_item(obj, key);
    if (!v) return BT_OK;
    if (!bt_json_is(v, BT_JSON_NUMBER))
        return bt_err_field(err, BT_EINVAL, key, "'%s' must be a number", key);
    double number = bt_json_number(v);
    if (!(number >= min && number <= max))
        return bt_err_field(err, BT_EINVAL, key, "'%s' must be between %g and %g", key, min, max);
    *out = number;
    return BT_OK;
}

bt_status bt_json_get_int(const bt_json *obj, const char *key, int64_t min, int64_t max,
                          int64_t *out, bt_err *err)
{
    const bt_json *v = bt_json_item(obj, key);
    if (!v) return BT_OK;
    double near = bt_json_is(v, BT_JSON_NUMBER) ? bt_json_number(v) : 0.5;
    int64_t exact;
    if (near != floor(near))
        return bt_err_field(err, BT_EINVAL, key, "'%s' must be an integer", key);
    if (!bt_json_whole(v, &exact) || exact < min || exact > max)
        return bt_err_field(err, BT_EINVAL, key, "'%s' must be between %" PRId64 " and %" PRId64,
                            key, min, max);
    *out = exact;
    return BT_OK;
}

bt_status bt_json_get_bool(const bt_json *obj, const char *key, bool *out, bt_err *err)
{
    const bt_json *v = bt_json_item(obj, key);
    if (!v) return BT_OK;
    if (!bt_json_is(v, BT_JSON_BOOL))
        return bt_err_field(err, BT_EINVAL, key, "'%s' must be true or false", key);
    *out = v->n;
    return BT_OK;
}

bt_status bt_json_get_str(const bt_json *obj, const char *key, const char **out, bt_err *err)
{
    const bt_json *v = bt_json_item(obj, key);
    if (!v) return BT_OK;
    if (!bt_json_is(v, BT_JSON_STRING))
        return bt_err_field(err, BT_EINVAL, key, "'%s' must be a string", key);
    *out = v->text;
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

void bt_jw_value(bt_jw *w, const bt_json *v)
{
    bool object = v->kind == BT_JSON_OBJECT;
    switch ((bt_json_kind)v->kind) {
    case BT_JSON_OBJECT:
    case BT_JSON_ARRAY:
        bt_jw_open(w, object ? '{' : '[');
        for (const bt_json *item = v->child; item; item = item->next) {
            if (object) bt_jw_key(w, item->key);
            bt_jw_value(w, item);
        }
        bt_jw_close(w, object ? '}' : ']');
        break;
    case BT_JSON_STRING: bt_jw_strn(w, v->text, v->n); break;
    case BT_JSON_NUMBER: bt_jw_raw(w, v->text, v->n); break;
    case BT_JSON_BOOL: bt_jw_bool(w, v->n); break;
    case BT_JSON_NULL:
    case BT_JSON_END: bt_jw_null(w); break;
    }
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
