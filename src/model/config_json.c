/* SPDX-License-Identifier: Apache-2.0 */
/* config_json.c - members of an object as spans of its text, read when they are asked for. */
#include "model/config_json.h"
#include "base/mem.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MEMBERS_MAX = 4096 };

static bt_status add_member(bt__config *c, bt_str name, bt_str value, bt_err *err)
{
    if (c->n == MEMBERS_MAX)
        return bt_err_set(err, BT_EFORMAT, 0, "%s has more than %d members", c->label, MEMBERS_MAX);
    if (!(c->n & (c->n - 1))) {
        void *all = bt_realloc(c->member, (2 * c->n + 1) * sizeof *c->member);
        if (!all) return BT_ENOMEM;
        c->member = all;
    }
    c->member[c->n++] = (struct bt__member){name, value};
    return BT_OK;
}

bt_status bt__config_open(bt_str text, const char *label, const char *inside, bt__config *out,
                          bt_err *err)
{
    bt__config c = {.label = label, .inside = inside};
    bt_json_reader r;
    bt_str name, value;
    bt_status st = BT_OK;
    bt_json_reader_init(&r, text.s, text.n, BT_JSON_PYTHON);
    bt_json_enter(&r, '{');
    while (!st && r.depth && bt_json_next_key(&r, &name.s, &name.n)) {
        bool plain =
            name.s >= text.s && name.s < text.s + text.n; // no name that matters has escapes
        if (bt_json_span(&r, &value.s, &value.n) && plain) st = add_member(&c, name, value, err);
    }
    st = bt_json_end(&r, st, label, " is not sound JSON", 0, err);
    if (st == BT_ENOMEM) bt_err_set(err, st, 0, "out of memory to read %s", label);
    if (st)
        bt__config_close(&c);
    else
        *out = c;
    return st;
}

void bt__config_close(bt__config *c)
{
    bt_free(c->member);
    c->member = NULL;
    c->n = 0;
}

static const bt_str *any(const bt__config *c, const char *key)
{
    for (size_t i = c->n; i-- > 0;)
        if (bt_str_equals(c->member[i].name, key)) return &c->member[i].value;
    return NULL;
}

bool bt__config_given(const bt__config *c, const char *key)
{
    return any(c, key) != NULL;
}

const bt_str *bt__config_span(const bt__config *c, const char *key)
{
    const bt_str *value = any(c, key);
    return value && !bt_str_equals(*value, "null") ? value : NULL;
}

bt_json_kind bt__config_kind(const bt__config *c, const char *key)
{
    const bt_str *value = bt__config_span(c, key);
    bt_json_reader r;
    if (!value) return BT_JSON_NULL;
    bt_json_reader_init(&r, value->s, value->n, BT_JSON_PYTHON);
    return bt_json_peek(&r);
}

static bt_status wrong_type(const bt__config *c, const char *key, const char *wanted, bt_err *err)
{
    return bt_err_set(err, BT_EFORMAT, 0, "%s: '%s%s' is %.40s; %s was expected", c->label,
                      c->inside, key, bt_str_shown(*bt__config_span(c, key)).s, wanted);
}

bt_status bt__config_int(const bt__config *c, const char *key, int64_t min, int64_t max,
                         int64_t *out, bt_err *err)
{
    const bt_str *value = bt__config_span(c, key);
    bt_json_reader r;
    int64_t v;
    if (!value) return BT_OK;
    bt_json_reader_init(&r, value->s, value->n, BT_JSON_PYTHON);
    if (bt_json_peek(&r) != BT_JSON_NUMBER || !bt_json_read_int(&r, &v))
        return wrong_type(c, key, "a whole number", err);
    if (v < min || v > max)
        return bt_err_set(err, BT_EFORMAT, 0, "%s: '%s%s' is %lld; %lld to %lld are possible",
                          c->label, c->inside, key, (long long)v, (long long)min, (long long)max);
    *out = v;
    return BT_OK;
}

/* False: the reader stands at no finite number. */
static bool read_number(bt_json_reader *r, double *out)
{
    char text[64];
    const char *s;
    size_t n;
    if (bt_json_peek(r) != BT_JSON_NUMBER || !bt_json_read_number(r, &s, &n) || n >= sizeof text)
        return false;
    memcpy(text, s, n);
    text[n] = 0;
    *out = strtod(text, NULL);
    return isfinite(*out);
}

bt_status bt__config_num(const bt__config *c, const char *key, double min, double max, double *out,
                         bt_err *err)
{
    const bt_str *value = bt__config_span(c, key);
    bt_json_reader r;
    double v;
    if (!value) return BT_OK;
    bt_json_reader_init(&r, value->s, value->n, BT_JSON_PYTHON);
    if (!read_number(&r, &v)) return wrong_type(c, key, "a number", err);
    if (v < min || v > max)
        return bt_err_set(err, BT_EFORMAT, 0, "%s: '%s%s' is %g; %g to %g are possible", c->label,
                          c->inside, key, v, min, max);
    *out = v;
    return BT_OK;
}

bt_status bt__config_bool(const bt__config *c, const char *key, bool *out, bt_err *err)
{
    const bt_str *value = bt__config_span(c, key);
    if (!value) return BT_OK;
    bool yes = bt_str_equals(*value, "true");
    if (!yes && !bt_str_equals(*value, "false")) return wrong_type(c, key, "true or false", err);
    *out = yes;
    return BT_OK;
}

bt_status bt__config_str(const bt__config *c, const char *key, bt_str *out, bt_err *err)
{
    const bt_str *value = bt__config_span(c, key);
    if (!value) return BT_OK;
    if (value->n < 2 || value->s[0] != '"' || memchr(value->s, '\\', value->n))
        return wrong_type(c, key, "a plain string", err);
    *out = (bt_str){value->s + 1, value->n - 2};
    return BT_OK;
}

bt_status bt__config_nums(const bt__config *c, const char *key, double *dst, size_t cap, size_t *n,
                          bt_err *err)
{
    const bt_str *value = bt__config_span(c, key);
    bt_json_reader r;
    size_t count = 0;
    if (!value) return BT_OK;
    bt_json_reader_init(&r, value->s, value->n, BT_JSON_PYTHON);
    if (bt_json_peek(&r) != BT_JSON_ARRAY) return wrong_type(c, key, "a list of numbers", err);
    bt_json_enter(&r, '[');
    while (bt_json_next_item(&r)) {
        if (count == cap)
            return bt_err_set(err, BT_EFORMAT, 0, "%s: '%s%s' has more than %zu numbers", c->label,
                              c->inside, key, cap);
        if (!read_number(&r, &dst[count])) return wrong_type(c, key, "a list of numbers", err);
        count++;
    }
    *n = count;
    return BT_OK;
}

bt_status bt__config_strings(const bt__config *c, const char *key, bt__config_string_fn fn,
                             void *ud, bt_err *err)
{
    const bt_str *value = bt__config_span(c, key);
    bt_json_reader r;
    bt_str s;
    bt_status st = BT_OK;
    size_t i = 0;
    if (!value) return BT_OK;
    bt_json_reader_init(&r, value->s, value->n, BT_JSON_PYTHON);
    if (bt_json_peek(&r) == BT_JSON_ARRAY) bt_json_enter(&r, '[');
    while (!st && r.depth && bt_json_next_item(&r)) {
        if (bt_json_peek(&r) == BT_JSON_STRING && bt_json_read_string(&r, &s.s, &s.n))
            fn(ud, i++, s);
        else
            st = wrong_type(c, key, "a list of strings", err);
    }
    if (!st && !bt_json_done(&r)) st = wrong_type(c, key, "a list of strings", err);
    bt_json_reader_release(&r);
    return st;
}

bt_status bt__config_object(const bt__config *c, const char *key, const char *inside,
                            bt__config *out, bt_err *err)
{
    const bt_str *value = bt__config_span(c, key);
    if (!value) {
        *out = (bt__config){.label = c->label, .inside = inside};
        return BT_OK;
    }
    if (value->s[0] != '{') return wrong_type(c, key, "an object", err);
    return bt__config_open(*value, c->label, inside, out, err);
}
