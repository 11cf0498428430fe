/* SPDX-License-Identifier: Apache-2.0 */
#include "token/spec_json.h"
#include "base/assert.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool bt__jfail(bt__jload *l, bt_status st, const char *fmt, ...)
{
    char text[200];
    va_list ap;
    if (l->status) return false;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    l->status = bt_spec_refuse(l->s, l->err, st, "%s", text);
    return false;
}

bool bt__jfail_reader(bt__jload *l, const bt_json_reader *r)
{
    size_t at;
    const char *why = bt_json_reader_why(r, &at);
    if (r->no_memory) return bt__jmemory(l);
    return bt__jfail(l, BT_EFORMAT, "%s at byte %zu", why ? why : "a value is not understood",
                     (size_t)(r->s - l->text) + at);
}

bool bt__jmemory(bt__jload *l)
{
    if (!l->status) l->status = bt_spec_no_memory(l->s, l->err);
    return false;
}

void bt__jreader(const bt__jload *l, bt_json_reader *r, bt_str span)
{
    bt_json_reader_init(r, span.s, span.n, l->flags);
}

static struct bt__field *field_slot(bt__fields *f, const char *name, size_t n)
{
    if (n >= sizeof f->field[0].name) return NULL;
    for (size_t i = 0; i < f->n; i++)
        if (strlen(f->field[i].name) == n && memcmp(f->field[i].name, name, n) == 0)
            return &f->field[i];
    if (f->n == BT__FIELDS_MAX) return NULL;
    struct bt__field *slot = &f->field[f->n++];
    if (n) memcpy(slot->name, name, n);
    slot->name[n] = 0;
    return slot;
}

bool bt__fields_from(bt__fields *f, bt__jload *l, bt_json_reader *r, bt__take_fn take, void *ud)
{
    const char *key;
    size_t n;
    f->l = l;
    f->n = 0;
    bool ok = bt_json_enter(r, '{');
    while (ok && bt_json_next_key(r, &key, &n)) {
        bt_str value = {0};
        bool taken = false;
        if (take) ok = take(ud, f, (bt_str){key, n}, r, &taken);
        if (!ok || taken) continue;
        struct bt__field *slot = field_slot(f, key, n);
        ok = bt_json_span(r, &value.s, &value.n);
        if (slot) slot->value = value;
    }
    return ok && !bt_json_reader_why(r, NULL);
}

bool bt__fields_read(bt__fields *f, bt__jload *l, bt_str object)
{
    bt_json_reader r;
    bt__jreader(l, &r, object);
    bool ok = bt__fields_from(f, l, &r, NULL, NULL) ? true : bt__jfail_reader(l, &r);
    bt_json_reader_release(&r);
    return ok && !l->status;
}

static const bt_str *field_value(const bt__fields *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->field[i].name, name) == 0) return &f->field[i].value;
    return NULL;
}

const bt_str *bt__field_find(const bt__fields *f, const char *name)
{
    const bt_str *value = field_value(f, name);
    return value && !bt_str_is(*value, "null") ? value : NULL;
}

bool bt__field_given(const bt__fields *f, const char *name)
{
    return field_value(f, name) != NULL;
}

bt_json_kind bt__field_kind(const bt__fields *f, const char *name)
{
    const bt_str *value = bt__field_find(f, name);
    bt_json_reader r;
    if (!value) return BT_JSON_NULL;
    bt__jreader(f->l, &r, *value);
    return bt_json_peek(&r);
}

static bool wrong_type(const bt__fields *f, const char *name, const char *wanted)
{
    return bt__jfail(f->l, BT_EFORMAT, "'%s' is not %s", name, wanted);
}

bool bt__field_text(const bt__fields *f, const char *name, bt_str *out)
{
    const bt_str *value = bt__field_find(f, name);
    bt_json_reader r;
    bt_str text;
    if (!value) return true;
    bt__jreader(f->l, &r, *value);
    bool ok = bt_json_read_string(&r, &text.s, &text.n);
    if (!ok && r.no_memory)
        bt__jmemory(f->l);
    else if (!ok)
        wrong_type(f, name, "a string");
    else if (!bt_spec_string(f->l->s, text.s, text.n, out))
        ok = bt__jmemory(f->l);
    bt_json_reader_release(&r);
    return ok;
}

bool bt__field_bool(const bt__fields *f, const char *name, bool *out)
{
    const bt_str *value = bt__field_find(f, name);
    bt_json_reader r;
    if (!value) return true;
    bt__jreader(f->l, &r, *value);
    return bt_json_read_bool(&r, out) ? true : wrong_type(f, name, "true or false");
}

bool bt__field_int(const bt__fields *f, const char *name, int64_t min, int64_t max, int64_t *out)
{
    const bt_str *value = bt__field_find(f, name);
    bt_json_reader r;
    int64_t v;
    if (!value) return true;
    bt__jreader(f->l, &r, *value);
    if (!bt_json_read_int(&r, &v)) return wrong_type(f, name, "a whole number");
    if (v < min || v > max)
        return bt__jfail(f->l, BT_EFORMAT, "'%s' is %lld; %lld to %lld are possible", name,
                         (long long)v, (long long)min, (long long)max);
    *out = v;
    return true;
}

bool bt__field_each(const bt__fields *f, const char *name, bt__element_fn fn, void *ud)
{
    const bt_str *value = bt__field_find(f, name);
    bt_json_reader r;
    size_t i = 0;
    if (!value) return true;
    bt__jreader(f->l, &r, *value);
    bool ok = bt_json_enter(&r, '[');
    if (!ok) return wrong_type(f, name, "an array");
    while (ok && bt_json_next_item(&r)) {
        bt_str element;
        ok = bt_json_span(&r, &element.s, &element.n) && fn(f->l, ud, i++, element);
    }
    if (bt_json_reader_why(&r, NULL)) ok = bt__jfail_reader(f->l, &r);
    bt_json_reader_release(&r);
    return ok && !f->l->status;
}

bool bt__field_members(const bt__fields *f, const char *name, bt__member_fn fn, void *ud)
{
    const bt_str *object = bt__field_find(f, name);
    bt_json_reader r;
    bt_str key, value;
    if (!object) return true;
    bt__jreader(f->l, &r, *object);
    bool ok = bt_json_enter(&r, '{');
    if (!ok) return wrong_type(f, name, "an object");
    while (ok && bt_json_next_key(&r, &key.s, &key.n))
        ok = bt_json_span(&r, &value.s, &value.n) && fn(f->l, ud, key, value);
    if (bt_json_reader_why(&r, NULL)) ok = bt__jfail_reader(f->l, &r);
    bt_json_reader_release(&r);
    return ok && !f->l->status;
}

/* significand * 10^exponent. */
static bool scaled(uint64_t significand, int64_t exponent, double *v)
{
    double f = (double)significand;
    for (; exponent < -308 && f != 0; exponent += 308) f /= 1e308;
    if (f == 0) {
        *v = 0;
        return true;
    }
    if (exponent > 308) return false;
    static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    int power = (int)(exponent < 0 ? -exponent : exponent);
    double ten;
    if (power < (int)BT_COUNT(tens)) {
        ten = tens[power];
    } else {
        char text[8];
        snprintf(text, sizeof text, "1e%d", power % 1000);
        ten = strtod(text, NULL);
    }
    *v = exponent < 0 ? f / ten : f * ten;
    return isfinite(*v);
}

bool bt__json_double(const char *s, size_t n, double *v)
{
    uint64_t significand = 0;
    int64_t exponent = 0, written = 0;
    size_t i = 0;
    bool negative = n > 0 && s[0] == '-', point = false, full = false;
    for (i = negative; i < n && s[i] != 'e' && s[i] != 'E'; i++) {
        if (s[i] == '.') {
            point = true;
            full = false;
            continue;
        }
        uint64_t digit = (uint64_t)(s[i] - '0');
        full = full || significand > (UINT64_MAX - digit) / 10;
        if (!full) significand = significand * 10 + digit;
        exponent += full ? !point : -(int64_t)point; // what does not fit is left out
    }
    if (i < n) { // at the 'e'
        bool minus = ++i < n && s[i] == '-';
        if (i < n && (s[i] == '-' || s[i] == '+')) i++;
        for (; i < n; i++)
            if (written < INT32_MAX) written = written * 10 + (s[i] - '0');
        exponent += minus ? -written : written;
    }
    if (!scaled(significand, exponent, v)) return false;
    if (negative) *v = -*v;
    return true;
}
