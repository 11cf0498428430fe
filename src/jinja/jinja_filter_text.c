/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_filter_text.c - the filters that make text or numbers. */
#include "base/assert.h"
#include "jinja/jinja_run.h"
#include "jinja/jinja_text.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>

#define FILTER(name) static jv f_##name(jrt *r, const jv *a, const jcall *c)

static const jstr *soft(jrt *r, jv v)
{
    return bt__jv_str(r, v).u.s;
}

FILTER(upper)
{
    (void)c;
    return bt__jcase(r, soft(r, a[0]), JCASE_UPPER);
}
FILTER(lower)
{
    (void)c;
    return bt__jcase(r, soft(r, a[0]), JCASE_LOWER);
}
FILTER(capitalize)
{
    (void)c;
    return bt__jcase(r, soft(r, a[0]), JCASE_CAPITAL);
}
FILTER(title)
{
    (void)c;
    return bt__jtitle_filter(r, soft(r, a[0]));
}
FILTER(string)
{
    (void)c;
    return bt__jv_str(r, a[0]);
}

FILTER(trim)
{
    (void)c;
    const jstr *set = NULL;
    if (a[1].type != JT_MISSING && a[1].type != JT_NONE) set = bt__jarg_str(r, a[1], "strip arg");
    return bt__jstrip(r, soft(r, a[0]), set, true, true);
}

FILTER(safe)
{
    (void)c;
    jv v = bt__jv_str(r, a[0]);
    return r->plain_safe ? v : bt__jstr_mark(r, v.u.s, true);
}

static jv escape(jrt *r, const jstr *s)
{
    jsb b;
    bt__jsb_init(&b, r);
    bt__jsb_escaped(&b, s);
    b.markup = !r->plain_safe;
    return bt__jsb_done(&b);
}
FILTER(escape)
{
    (void)c;
    return escape(r, soft(r, a[0]));
}
FILTER(forceescape)
{
    (void)c;
    return escape(r, bt__jstr_mark(r, soft(r, a[0]), false).u.s);
}

FILTER(replace)
{
    (void)c;
    jv s = bt__jstr_mark(r, soft(r, a[0]), false);
    int64_t count = a[3].type == JT_NONE ? -1 : bt__jarg_int(r, a[3], -1);
    return bt__jreplace(r, s.u.s, soft(r, a[1]), soft(r, a[2]), count);
}

FILTER(center)
{
    (void)c;
    return bt__jpad(r, soft(r, a[0]), bt__jarg_int(r, a[1], 80), bt__jstr_lit(r, " ").u.s, 'c');
}

FILTER(format)
{
    (void)a;
    const jstr *s = soft(r, c->pos[0]);
    if (c->n_kw) {
        jdict *d = bt__jdict_new(r, 0);
        if (c->n_pos > 1)
            bt__jraise(r, BT_JINJA_TYPE,
                       "can't handle positional and keyword arguments at the same time");
        for (uint32_t i = 0; i < c->n_kw; i++) bt__jdict_put(r, d, c->key[i], c->kw[i]);
        return bt__jpercent(r, s, jof_dict(d));
    }
    jlist *l = bt__jlist_new(r, 0);
    for (uint32_t i = 1; i < c->n_pos; i++) bt__jlist_add(r, l, c->pos[i]);
    return bt__jpercent(r, s, jof_tuple(l));
}

FILTER(indent)
{
    (void)c;
    const jstr *s = bt__jarg_str(r, a[0], "indent() text"), *by;
    bool first = bt__jarg_bool(r, a[2], false), blank = bt__jarg_bool(r, a[3], false);
    jsb b;
    if (a[1].type == JT_STR)
        by = a[1].u.s;
    else
        by = bt__jpad(r, bt__jstr_lit(r, "").u.s, bt__jarg_int(r, a[1], 4),
                      bt__jstr_lit(r, " ").u.s, '<')
                 .u.s;
    bt__jsb_init(&b, r);
    b.markup = s->markup;
    if (first) bt__jsb_str(&b, by);
    /* a newline is added first and the last break dropped, so "a\n" keeps its empty last line */
    for (size_t at = 0, n_line = 0; at <= s->len; n_line++) {
        uint32_t cp;
        size_t from = at, n = 0;
        while (at < s->len && !(n = bt__jline_break(s->p + at, s->len - at)))
            at += bt__jdecode(s->p + at, s->len - at, &cp);
        if (n_line) bt__jsb_adds(&b, "\n");
        if (n_line && (blank || at > from)) bt__jsb_str(&b, by);
        bt__jsb_sub(&b, s, from, at - from);
        at += n ? n : 1;
    }
    return bt__jsb_done(&b);
}

FILTER(truncate)
{
    (void)c;
    int64_t length = bt__jarg_int(r, a[1], 255), leeway = 5, have;
    bool kill = bt__jarg_bool(r, a[2], false);
    jv end = a[3].type == JT_MISSING ? bt__jstr_lit(r, "...") : a[3];
    const jstr *tail = bt__jarg_str(r, end, "truncate() end");
    if (a[4].type != JT_MISSING && a[4].type != JT_NONE) leeway = bt__jarg_int(r, a[4], 5);
    if (length < bt__jstr_chars(tail))
        bt__jraise(r, BT_JINJA_TYPE, "expected length >= %d, got %lld", bt__jstr_chars(tail),
                   (long long)length);
    if (leeway < 0)
        bt__jraise(r, BT_JINJA_TYPE, "expected leeway >= 0, got %lld", (long long)leeway);
    if (!bt__jv_len(r, a[0], &have))
        bt__jraise(r, BT_JINJA_TYPE, "object of type '%s' has no len()", bt__jv_type(a[0]));
    if (have <= BT_MIN(length, INT32_MAX) + BT_MIN(leeway, INT32_MAX)) return a[0];
    const jstr *s = bt__jarg_str(r, a[0], "truncate() text");
    size_t at = bt__jstr_at(s, length - bt__jstr_chars(tail));
    if (!kill) {
        size_t space = bt__jrfind(r, s->p, at, " ", 1);
        if (space != SIZE_MAX) at = space;
    }
    return bt__jbinary(r, '+', bt__jstr_sub(r, s, 0, at), end);
}

FILTER(wordcount)
{
    (void)c;
    const jstr *s = soft(r, a[0]);
    int64_t n = 0;
    bool inside = false;
    uint32_t cp;
    bt__jcharge(r, s->len);
    for (size_t at = 0; at < s->len;) {
        at += bt__jdecode(s->p + at, s->len - at, &cp);
        bool word = cp == '_' || bt__jis_alnum(cp);
        n += word && !inside;
        inside = word;
    }
    return jint(n);
}

/* Bytes of the comment or tag at `at`; 0 if it has no end. */
static size_t tag_length(const jstr *s, size_t at)
{
    size_t left = s->len - at;
    bool comment = left >= 4 && memcmp(s->p + at, "<!--", 4) == 0;
    const char *close = comment ? "-->" : ">";
    size_t from = comment ? 4 : 0;
    size_t end = bt__jfind(s->p + at + from, left - from, close, strlen(close));
    return end == SIZE_MAX ? 0 : from + end + strlen(close);
}

/* Markup(...).striptags(): without comments and tags, white space runs made one space. */
FILTER(striptags)
{
    (void)c;
    static const char *const entities[][2] = {{"&lt;", "<"},    {"&gt;", ">"},   {"&amp;", "&"},
                                              {"&quot;", "\""}, {"&#34;", "\""}, {"&#39;", "'"}};
    const jstr *s = soft(r, a[0]);
    jsb b;
    size_t at = 0;
    uint32_t cp;
    bool space = false, unclosed = false;
    bt__jsb_init(&b, r);
    bt__jcharge(r, s->len);
    while (at < s->len) {
        size_t tag = s->p[at] == '<' && !unclosed ? tag_length(s, at) : 0;
        unclosed |= s->p[at] == '<' && !tag; // nothing is a tag from here on
        if (tag) {
            at += tag;
            continue;
        }
        size_t n = bt__jdecode(s->p + at, s->len - at, &cp);
        if (bt__jis_space(cp)) {
            space = b.len > 0;
            at += n;
            continue;
        }
        if (space) bt__jsb_adds(&b, " ");
        space = false;
        const char *plain = NULL;
        for (size_t i = 0; cp == '&' && !plain && i < BT_COUNT(entities); i++)
            if (s->len - at >= strlen(entities[i][0]) &&
                memcmp(s->p + at, entities[i][0], strlen(entities[i][0])) == 0) {
                plain = entities[i][1];
                n = strlen(entities[i][0]);
            }
        if (cp == '&' && !plain && at + 1 < s->len &&
            (s->p[at + 1] == '#' || isalpha((unsigned char)s->p[at + 1])))
            bt__jraise(r, BT_JINJA_TYPE,
                       "striptags: HTML's entities beyond &lt; &gt; &amp; and "
                       "quotes are not supported");
        if (plain)
            bt__jsb_add(&b, plain, 1, bt__jstr_flags_at(s, at));
        else
            bt__jsb_sub(&b, s, at, n);
        at += n;
    }
    return bt__jsb_done(&b);
}

static void quote(jsb *b, const jstr *s, bool query)
{
    for (size_t i = 0; i < s->len; i++) {
        unsigned char ch = (unsigned char)s->p[i];
        char text[4];
        if ((ch < 0x80 && (isalnum(ch) || strchr("_.-~", ch))) || (!query && ch == '/')) {
            if (ch) {
                bt__jsb_sub(b, s, i, 1);
                continue;
            }
        }
        if (query && ch == ' ')
            snprintf(text, sizeof text, "+");
        else
            snprintf(text, sizeof text, "%%%02X", ch);
        bt__jsb_add(b, text, strlen(text), bt__jstr_flags_at(s, i));
    }
}

FILTER(urlencode)
{
    (void)c;
    jsb b;
    jv pair;
    bt__jsb_init(&b, r);
    if (a[0].type == JT_STR || !bt__jiter_can(a[0])) {
        quote(&b, soft(r, a[0]), false);
        return bt__jsb_done(&b);
    }
    jv items = a[0];
    if (items.type == JT_DICT) {
        jview *view = bt__jalloc(r, sizeof *view);
        *view = (jview){items.u.d, 2};
        items = (jv){.type = JT_VIEW, .u.view = view};
    }
    for (jiter *it = bt__jiter_new(r, items); bt__jiter_next(r, it, &pair);) {
        const jlist *kv = bt__jlist_of(r, pair);
        if (kv->n != 2)
            bt__jraise(r, BT_JINJA_TYPE, "%s values to unpack (expected 2)",
                       kv->n < 2 ? "not enough" : "too many");
        if (b.len) bt__jsb_adds(&b, "&");
        quote(&b, soft(r, kv->v[0]), true);
        bt__jsb_adds(&b, "=");
        quote(&b, soft(r, kv->v[1]), true);
    }
    return bt__jsb_done(&b);
}

FILTER(xmlattr)
{
    (void)c;
    jsb b;
    if (a[0].type == JT_UNDEF) bt__jraise_undef(r, a[0]);
    if (a[0].type != JT_DICT)
        bt__jraise(r, BT_JINJA_TYPE, "'%s' object has no attribute 'items'", bt__jv_type(a[0]));
    bt__jsb_init(&b, r);
    for (uint32_t i = 0; i < a[0].u.d->n; i++) {
        const jentry *e = &a[0].u.d->e[i];
        if (e->value.type == JT_NONE || e->value.type == JT_UNDEF) continue;
        const jstr *key = bt__jarg_str(r, e->key, "an attribute's name");
        for (size_t k = 0; k < key->len; k++)
            if (strchr(" \t\n\r\f\v/>=", key->p[k]) && key->p[k])
                bt__jraise(r, BT_JINJA_TYPE, "Invalid character in attribute name: '%.*s'",
                           (int)key->len, key->p);
        if (b.len || bt__jarg_bool(r, a[1], true)) bt__jsb_adds(&b, " ");
        bt__jsb_escaped(&b, key);
        bt__jsb_adds(&b, "=\"");
        bt__jsb_escaped(&b, soft(r, e->value));
        bt__jsb_adds(&b, "\"");
    }
    return bt__jsb_done(&b);
}

/* ---- numbers */

FILTER(int)
{
    (void)c;
    double f;
    jv out, v = a[0], initial = a[1].type == JT_MISSING ? jint(0) : a[1];
    int64_t base = bt__jarg_int(r, a[2], 10);
    if (v.type == JT_UNDEF) bt__jraise_undef(r, v);
    if (jis_int(v)) return jint(jas_int(v));
    if (v.type == JT_BIG) return v;
    if (v.type == JT_FLOAT) return isnan(v.u.f) ? initial : bt__jfloat_to_int(r, v.u.f);
    if (v.type != JT_STR) return initial;
    bool known = base == 0 || (base >= 2 && base <= 36);
    if (known && bt__jparse_int(r, v.u.s->p, v.u.s->len, (int)base, &out)) return out;
    if (!bt__jparse_float(v.u.s->p, v.u.s->len, &f) || isnan(f) || isinf(f)) return initial;
    return bt__jfloat_to_int(r, f);
}

FILTER(float)
{
    (void)c;
    double f;
    if (a[0].type == JT_UNDEF) bt__jraise_undef(r, a[0]);
    if (jis_num(a[0])) return jfloat(bt__jv_double(r, a[0]));
    if (a[0].type == JT_STR && bt__jparse_float(a[0].u.s->p, a[0].u.s->len, &f)) return jfloat(f);
    return a[1].type == JT_MISSING ? jfloat(0) : a[1];
}

FILTER(abs)
{
    (void)c;
    if (!jis_num(a[0]))
        bt__jraise(r, BT_JINJA_TYPE, "bad operand type for abs(): '%s'", bt__jv_type(a[0]));
    if (a[0].type == JT_FLOAT) return jfloat(fabs(a[0].u.f));
    if (a[0].type == JT_BIG && a[0].u.s->p[0] == '-') {
        jv v = bt__jstr_sub(r, a[0].u.s, 1, a[0].u.s->len - 1);
        v.type = JT_BIG;
        return v;
    }
    if (a[0].type == JT_BIG || jas_int(a[0]) >= 0)
        return jis_int(a[0]) ? jint(jas_int(a[0])) : a[0];
    return bt__jarith(r, '-', jint(0), a[0]);
}

FILTER(round)
{
    (void)c;
    int64_t digits = bt__jarg_int(r, a[1], 0);
    jv how = a[2].type == JT_MISSING ? bt__jstr_lit(r, "common") : a[2];
    bool common = how.type == JT_STR && jstr_is(how.u.s, "common");
    bool up = how.type == JT_STR && jstr_is(how.u.s, "ceil");
    if (!common && !up && !(how.type == JT_STR && jstr_is(how.u.s, "floor")))
        bt__jraise(r, BT_JINJA_TYPE, "method must be common, ceil or floor");
    if (a[0].type == JT_UNDEF) bt__jraise_undef(r, a[0]);
    if (!jis_num(a[0]))
        bt__jraise(r, BT_JINJA_TYPE, "type %s doesn't define __round__ method", bt__jv_type(a[0]));
    digits = BT_MAX(BT_MIN(digits, 400), -400);
    bool whole = a[0].type != JT_FLOAT;
    if (common && whole && digits < 0) return bt__jround_int(r, a[0], digits);
    if (common && whole) return jis_int(a[0]) ? jint(jas_int(a[0])) : a[0];
    double x = bt__jv_double(r, a[0]), scale = pow(10, (double)digits);
    if (common) return jfloat(bt__jround(x, (int)digits));
    if (whole && digits >= 0) return jfloat(x);
    x = up ? ceil(x * scale) : floor(x * scale);
    if (!isfinite(x)) bt__jfloat_to_int(r, x); // Python makes it an integer in between
    return jfloat((x + 0.0) / scale);          // and an integer has no negative zero
}

FILTER(filesizeformat)
{
    (void)c;
    static const char *const prefix[2][8] = {
        {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"},
        {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}};
    (void)c;
    bool binary = bt__jarg_bool(r, a[1], false);
    double bytes, base = binary ? 1024 : 1000;
    long double unit = base * base; // exact up to 1000^9, as Python's integers
    jsb b;
    int i = 0;
    bt__jsb_init(&b, r);
    if (!jis_num(a[0]) && a[0].type != JT_STR)
        bt__jraise(r, BT_JINJA_TYPE, "float() argument must be a string or a real number, not '%s'",
                   bt__jv_type(a[0]));
    if (jis_num(a[0])) {
        bytes = bt__jv_double(r, a[0]);
    } else if (!bt__jparse_float(a[0].u.s->p, a[0].u.s->len, &bytes)) {
        bt__jsb_repr(&b, a[0]);
        bt__jraise(r, BT_JINJA_TYPE, "could not convert string to float: %.*s",
                   (int)BT_MIN(b.len, (size_t)200), b.p);
    }
    if (bytes == 1) return bt__jstr_lit(r, "1 Byte");
    if (bytes < base || isnan(bytes)) {
        bt__jsb_value(&b, bt__jfloat_to_int(r, bytes));
        bt__jsb_adds(&b, " Bytes");
        return bt__jsb_done(&b);
    }
    while (i < 7 && bytes >= unit) unit *= base, i++;
    bt__jsb_addf(&b, "%.1f %s", base * bytes / (double)unit, prefix[binary][i]);
    return bt__jsb_done(&b);
}

/* ---- tojson, as transformers defines it */

FILTER(tojson)
{
    (void)c;
    jdump how = {.ascii = bt__jarg_bool(r, a[1], false),
                 .indent = jnone(),
                 .sort_keys = bt__jarg_bool(r, a[4], false)};
    if (a[2].type != JT_MISSING) how.indent = a[2];
    if (how.indent.type != JT_NONE && how.indent.type != JT_STR && !jis_int(how.indent))
        bt__jraise(r, BT_JINJA_TYPE, "can't multiply sequence by non-int of type '%s'",
                   bt__jv_type(how.indent));
    how.item_sep = bt__jstr_lit(r, how.indent.type == JT_NONE ? ", " : ",").u.s;
    how.key_sep = bt__jstr_lit(r, ": ").u.s;
    if (a[3].type != JT_MISSING && a[3].type != JT_NONE) {
        const jlist *pair = bt__jlist_of(r, a[3]);
        if (pair->n != 2)
            bt__jraise(r, BT_JINJA_TYPE, "%s values to unpack (expected 2)",
                       pair->n < 2 ? "not enough" : "too many");
        how.item_sep = bt__jarg_str(r, pair->v[0], "a separator");
        how.key_sep = bt__jarg_str(r, pair->v[1], "a separator");
    }
    return bt__jjson_dump(r, a[0], &how);
}

/* Known to jinja2, and to no chat template: refused by name rather than taken for unknown. */
FILTER(urlize)
{
    (void)a, (void)c;
    bt__jraise(r, BT_JINJA_TYPE, "the filter 'urlize' is not supported");
}
FILTER(wordwrap)
{
    (void)a, (void)c;
    bt__jraise(r, BT_JINJA_TYPE, "the filter 'wordwrap' is not supported");
}

/* Whether pprint, which sorts the keys of a dict, leaves their order. */
static bool in_order(jrt *r, jv v)
{
    bool good = true;
    jenter(r);
    if (v.type == JT_LIST || v.type == JT_TUPLE)
        for (size_t i = 0; i < v.u.l->n && good; i++) good = in_order(r, v.u.l->v[i]);
    if (v.type == JT_DICT)
        for (uint32_t i = 0; i < v.u.d->n && good; i++) {
            jv key = v.u.d->e[i].key, before = v.u.d->e[i ? i - 1 : 0].key;
            good = in_order(r, v.u.d->e[i].value) &&
                   (!i || (key.type == JT_STR && before.type == JT_STR &&
                           bt__jv_order(r, before, key, "<") < 0));
        }
    jleave(r);
    return good;
}

/* What fits one line is shown as by repr(); pprint's way of breaking lines is refused. */
FILTER(pprint)
{
    (void)c;
    jsb b;
    bt__jsb_init(&b, r);
    bt__jsb_repr(&b, a[0]);
    jv text = bt__jsb_done(&b);
    if (bt__jstr_chars(text.u.s) > 80 || !in_order(r, a[0]))
        bt__jraise(r, BT_JINJA_TYPE,
                   "pprint of more than a line, or of keys out of order, is not supported");
    return text;
}

const jfunc bt__jtext_filters[] = {
    {"tojson", "value ensure_ascii indent separators sort_keys", 1, f_tojson},
    {"trim", "value chars", 1, f_trim},
    {"string", "value", 1, f_string},
    {"safe", "value", 1, f_safe},
    {"upper", "s", 1, f_upper},
    {"lower", "s", 1, f_lower},
    {"capitalize", "s", 1, f_capitalize},
    {"title", "s", 1, f_title},
    {"replace", "s old new count", 3, f_replace},
    {"format", NULL, 1, f_format},
    {"indent", "s width first blank", 1, f_indent},
    {"int", "value default base", 1, f_int},
    {"float", "value default", 1, f_float},
    {"abs", "value", 1, f_abs},
    {"round", "value precision method", 1, f_round},
    {"center", "value width", 1, f_center},
    {"e", "value", 1, f_escape},
    {"escape", "value", 1, f_escape},
    {"forceescape", "value", 1, f_forceescape},
    {"truncate", "s length killwords end leeway", 1, f_truncate},
    {"wordcount", "s", 1, f_wordcount},
    {"striptags", "value", 1, f_striptags},
    {"urlencode", "value", 1, f_urlencode},
    {"xmlattr", "d autospace", 1, f_xmlattr},
    {"filesizeformat", "value binary", 1, f_filesizeformat},
    {"pprint", "value", 1, f_pprint},
    {"urlize", NULL, 1, f_urlize},
    {"wordwrap", NULL, 1, f_wordwrap},
    {0},
};
