/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_json.c - JSON to values as json.loads makes them, and values to JSON as json.dumps writes
 * them. */
#include "base/utf8.h"
#include "jinja/jinja_text.h"
#include <math.h>
#include <stdio.h>

/* ---- loads */

const bt_json *bt__jjson_read(jrt *r, const char *text, size_t len, jjson_fault *what)
{
    bt_json_reader in;
    size_t at;
    bt__jcharge(r, len);
    bt_json_reader_init(&in, text, len, BT_JSON_PYTHON);
    const bt_json *v = bt_json_build(&in, &r->arena, SIZE_MAX, NULL);
    if (v && !bt_json_done(&in)) v = NULL;
    const char *why = bt_json_reader_why(&in, &at);
    bool no_memory = in.no_memory;
    bt_json_reader_release(&in);
    if (no_memory) bt__jno_memory(r, bt_json_room(len));
    if (what) *what = (jjson_fault){why, at};
    return v;
}

static jv number(jrt *r, const bt_json *v)
{
    jv whole;
    double f;
    bool digits = strspn(v->text, "-0123456789") == v->n;
    if (digits && bt__jparse_int(r, v->text, v->n, 10, &whole)) return whole;
    if (!digits && bt__jparse_float(v->text, v->n, &f)) return jfloat(f);
    bt__jraise(r, BT_JINJA_CONTEXT, "the context holds a number of too many digits");
}

/* As deep as the reader goes. Of repeated keys the last counts, at the place of the first. */
jv bt__jjson_value(jrt *r, const bt_json *v, unsigned flags)
{
    jstep(r);
    switch ((bt_json_kind)v->kind) {
    case BT_JSON_OBJECT: {
        jdict *d = bt__jdict_new(r, v->n);
        for (const bt_json *item = v->child; item; item = item->next)
            bt__jdict_put(r, d, bt__jstr_ref(r, item->key, item->n_key, flags),
                          bt__jjson_value(r, item, flags));
        return jof_dict(d);
    }
    case BT_JSON_ARRAY: {
        jlist *l = bt__jlist_new(r, v->n);
        for (const bt_json *item = v->child; item; item = item->next)
            bt__jlist_add(r, l, bt__jjson_value(r, item, flags));
        return jof_list(l);
    }
    case BT_JSON_STRING: return bt__jstr_ref(r, v->text, v->n, flags);
    case BT_JSON_NUMBER: return number(r, v);
    case BT_JSON_BOOL: return jbool(v->n);
    case BT_JSON_NULL:
    case BT_JSON_END: break;
    }
    return jnone();
}

jv bt__jjson_parse(jrt *r, const char *text, size_t len, unsigned flags)
{
    jjson_fault what;
    const bt_json *v = bt__jjson_read(r, text, len, &what);
    if (!v)
        bt__jraise(r, BT_JINJA_CONTEXT, "the context is not valid JSON: %s at byte %zu", what.why,
                   what.at);
    return bt__jjson_value(r, v, flags);
}

/* ---- dumps */

static void dump_string(jsb *b, const jstr *s, bool ascii)
{
    size_t from = 0;
    bt__jsb_adds(b, "\"");
    for (size_t i = 0; i < s->len;) {
        static const char names[] = "\"\\\b\f\n\r\t", values[] = "\"\\bfnrt";
        unsigned char c = (unsigned char)s->p[i];
        if (c >= 0x20 && c != '"' && c != '\\' && (!ascii || c < 0x7F)) {
            i++;
            continue;
        }
        uint32_t cp;
        char text[16];
        int n;
        size_t used = bt__jdecode(s->p + i, s->len - i, &cp);
        const char *name = c ? strchr(names, (char)c) : NULL;
        if (name)
            n = snprintf(text, sizeof text, "\\%c", values[name - names]);
        else if (cp < 0x10000)
            n = snprintf(text, sizeof text, "\\u%04x", cp);
        else
            n = snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xD7C0 + (cp >> 10),
                         0xDC00 + (cp & 0x3FF));
        bt__jsb_sub(b, s, from, i - from);
        bt__jsb_add(b, text, (size_t)n, bt__jstr_flags_at(s, i));
        i += used;
        from = i;
    }
    bt__jsb_sub(b, s, from, s->len - from);
    bt__jsb_adds(b, "\"");
}

static void dump_newline(jsb *b, const jdump *how, int level)
{
    if (how->indent.type == JT_NONE) return;
    bt__jsb_adds(b, "\n");
    for (int i = 0; i < level; i++) {
        if (how->indent.type == JT_STR)
            bt__jsb_str(b, how->indent.u.s);
        else
            for (int64_t k = 0; k < jas_int(how->indent); k++) bt__jsb_adds(b, " ");
    }
}

static void dump_float(jsb *b, double f)
{
    char text[40];
    bt__jfloat_repr(f, text);
    bt__jsb_adds(b, isnan(f) ? "NaN" : isinf(f) ? (f < 0 ? "-Infinity" : "Infinity") : text);
}

static void dump_key(jsb *b, jv key, const jdump *how)
{
    switch (key.type) {
    case JT_STR: dump_string(b, key.u.s, how->ascii); return;
    case JT_NONE: bt__jsb_adds(b, "\"null\""); return;
    case JT_BOOL: bt__jsb_adds(b, key.u.b ? "\"true\"" : "\"false\""); return;
    case JT_INT:
    case JT_BIG:
    case JT_FLOAT:
        bt__jsb_adds(b, "\"");
        if (key.type == JT_FLOAT)
            dump_float(b, key.u.f);
        else
            bt__jsb_value(b, key);
        bt__jsb_adds(b, "\"");
        return;
    default:
        bt__jraise(b->r, BT_JINJA_TYPE, "keys must be str, int, float, bool or None, not %s",
                   bt__jv_type(key));
    }
}

static void dump_value(jsb *b, jv v, const jdump *how, int level);

static void dump_list(jsb *b, const jlist *l, const jdump *how, int level)
{
    bt__jsb_adds(b, "[");
    for (size_t i = 0; i < l->n; i++) {
        if (i) bt__jsb_str(b, how->item_sep);
        dump_newline(b, how, level + 1);
        dump_value(b, l->v[i], how, level + 1);
    }
    if (l->n) dump_newline(b, how, level);
    bt__jsb_adds(b, "]");
}

/* Indexes of the entries by key, a stable insertion merge for what is rarely more than a dozen. */
static void sort_keys(jrt *r, const jdict *d, uint32_t *order, uint32_t *scratch, uint32_t n)
{
    if (n < 2) return;
    uint32_t half = n / 2, i = 0, j = half, k = 0;
    sort_keys(r, d, order, scratch, half);
    sort_keys(r, d, order + half, scratch, n - half);
    while (i < half && j < n) {
        bool later = bt__jv_order(r, d->e[order[j]].key, d->e[order[i]].key, "<") < 0;
        scratch[k++] = later ? order[j++] : order[i++];
    }
    while (i < half) scratch[k++] = order[i++];
    memcpy(order, scratch, k * sizeof *order);
}

static void dump_dict(jsb *b, const jdict *d, const jdump *how, int level)
{
    uint32_t *order = NULL;
    if (how->sort_keys && d->n) {
        order = bt__jalloc(b->r, d->n * 2 * sizeof *order);
        for (uint32_t i = 0; i < d->n; i++) order[i] = i;
        sort_keys(b->r, d, order, order + d->n, d->n);
    }
    bt__jsb_adds(b, "{");
    for (uint32_t i = 0; i < d->n; i++) {
        const jentry *e = &d->e[order ? order[i] : i];
        if (i) bt__jsb_str(b, how->item_sep);
        dump_newline(b, how, level + 1);
        dump_key(b, e->key, how);
        bt__jsb_str(b, how->key_sep);
        dump_value(b, e->value, how, level + 1);
    }
    if (d->n) dump_newline(b, how, level);
    bt__jsb_adds(b, "}");
}

static void dump_value(jsb *b, jv v, const jdump *how, int level)
{
    jstep(b->r);
    jenter(b->r);
    switch (v.type) {
    case JT_STR: dump_string(b, v.u.s, how->ascii); break;
    case JT_NONE: bt__jsb_adds(b, "null"); break;
    case JT_BOOL: bt__jsb_adds(b, v.u.b ? "true" : "false"); break;
    case JT_INT:
    case JT_BIG: bt__jsb_value(b, v); break;
    case JT_FLOAT: dump_float(b, v.u.f); break;
    case JT_LIST:
    case JT_TUPLE: dump_list(b, v.u.l, how, level); break;
    case JT_DICT: dump_dict(b, v.u.d, how, level); break;
    default:
        bt__jraise(b->r, BT_JINJA_TYPE, "Object of type %s is not JSON serializable",
                   bt__jv_type(v));
    }
    jleave(b->r);
}

jv bt__jjson_dump(jrt *r, jv v, const jdump *how)
{
    jsb b;
    bt__jsb_init(&b, r);
    dump_value(&b, v, how, 0);
    return bt__jsb_done(&b);
}
