/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_json.c - JSON to values as json.loads reads it, and values to JSON as json.dumps writes
 * them. cJSON cannot serve here: it keeps numbers as doubles and cuts strings at NUL. */
#include "base/utf8.h"
#include "jinja/jinja_text.h"
#include <math.h>
#include <stdio.h>

enum { JSON_DEPTH_MAX = 200 };

typedef struct reader {
    jrt *r;
    const char *text, *at, *end;
    unsigned flags;
    int depth;
} reader;

static _Noreturn void read_fail(reader *j, const char *what)
{
    bt__jraise(j->r, BT_JINJA_CONTEXT, "the context is not valid JSON: %s at byte %zu", what,
               (size_t)(j->at - j->text));
}

static void read_space(reader *j)
{
    while (j->at < j->end && (*j->at == ' ' || *j->at == '\t' || *j->at == '\n' || *j->at == '\r'))
        j->at++;
}

static bool read_word(reader *j, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(j->end - j->at) < n || memcmp(j->at, word, n) != 0) return false;
    j->at += n;
    return true;
}

static uint32_t read_hex4(reader *j)
{
    uint32_t v = 0;
    if (j->end - j->at < 4) read_fail(j, "a cut \\u escape");
    for (int i = 0; i < 4; i++) {
        char c = *j->at;
        uint32_t d = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                     : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                     : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                            : 99;
        if (d == 99) read_fail(j, "a wrong \\u escape");
        v = v << 4 | d;
        j->at++;
    }
    return v;
}

/* Halves of surrogate pairs that stand alone have no UTF-8: U+FFFD. */
static uint32_t read_escaped_cp(reader *j)
{
    uint32_t cp = read_hex4(j);
    if (cp >= 0xD800 && cp < 0xDC00 && j->end - j->at >= 6 && j->at[0] == '\\' && j->at[1] == 'u') {
        const char *mark = j->at;
        j->at += 2;
        uint32_t low = read_hex4(j);
        if (low >= 0xDC00 && low < 0xE000) return 0x10000 + ((cp - 0xD800) << 10) + (low - 0xDC00);
        j->at = mark;
    }
    return cp >= 0xD800 && cp < 0xE000 ? 0xFFFD : cp;
}

static jv read_escapes(reader *j, const char *from)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    jsb b;
    bt__jsb_init(&b, j->r);
    bt__jsb_add(&b, from, (size_t)(j->at - from), j->flags);
    for (;;) {
        if (j->at == j->end) read_fail(j, "a string without end");
        unsigned char c = (unsigned char)*j->at;
        if (c == '"') break;
        if (c < 0x20) read_fail(j, "a control character in a string");
        if (c != '\\') {
            const char *run = j->at;
            while (j->at < j->end && (unsigned char)*j->at >= 0x20 && *j->at != '"' &&
                   *j->at != '\\')
                j->at++;
            bt__jsb_add(&b, run, (size_t)(j->at - run), j->flags);
            continue;
        }
        if (++j->at == j->end) read_fail(j, "a string without end");
        const char *name = *j->at ? strchr(names, *j->at) : NULL;
        if (name) {
            bt__jsb_add(&b, &values[name - names], 1, j->flags);
            j->at++;
        } else if (*j->at == 'u') {
            char utf8[4];
            j->at++;
            bt__jsb_add(&b, utf8, bt_utf8_encode(read_escaped_cp(j), utf8), j->flags);
        } else {
            read_fail(j, "an unknown escape");
        }
    }
    j->at++;
    return bt__jsb_done(&b);
}

static jv read_string(reader *j)
{
    const char *from = ++j->at;
    while (j->at < j->end && (unsigned char)*j->at >= 0x20 && *j->at != '"' && *j->at != '\\')
        j->at++;
    if (j->at < j->end && *j->at == '"') {
        jv v = bt__jstr_ref(j->r, from, (size_t)(j->at - from), j->flags);
        j->at++;
        return v;
    }
    return read_escapes(j, from);
}

static jv read_number(reader *j)
{
    const char *from = j->at;
    bool is_float = false;
    jv v;
    if (read_word(j, "-Infinity")) return jfloat(-INFINITY);
    if (*j->at == '-') j->at++;
    const char *digits = j->at;
    while (j->at < j->end && *j->at >= '0' && *j->at <= '9') j->at++;
    if (j->at == digits || (*digits == '0' && j->at - digits > 1)) read_fail(j, "a wrong number");
    if (j->at < j->end && *j->at == '.') {
        is_float = true;
        const char *part = ++j->at;
        while (j->at < j->end && *j->at >= '0' && *j->at <= '9') j->at++;
        if (j->at == part) read_fail(j, "a wrong number");
    }
    if (j->at < j->end && (*j->at == 'e' || *j->at == 'E')) {
        is_float = true;
        j->at++;
        if (j->at < j->end && (*j->at == '+' || *j->at == '-')) j->at++;
        const char *part = j->at;
        while (j->at < j->end && *j->at >= '0' && *j->at <= '9') j->at++;
        if (j->at == part) read_fail(j, "a wrong number");
    }
    size_t n = (size_t)(j->at - from);
    double f;
    if (is_float && bt__jparse_float(from, n, &f)) return jfloat(f);
    if (!is_float && bt__jparse_int(j->r, from, n, 10, &v)) return v;
    read_fail(j, "a number of too many digits");
}

static jv read_value(reader *j);

static jv read_array(reader *j)
{
    jlist *l = bt__jlist_new(j->r, 0);
    j->at++;
    read_space(j);
    if (j->at < j->end && *j->at == ']') {
        j->at++;
        return jof_list(l);
    }
    for (;;) {
        bt__jlist_add(j->r, l, read_value(j));
        read_space(j);
        if (read_word(j, "]")) return jof_list(l);
        if (!read_word(j, ",")) read_fail(j, "',' or ']' is missing");
    }
}

static jv read_object(reader *j)
{
    jdict *d = bt__jdict_new(j->r, 0);
    j->at++;
    read_space(j);
    if (read_word(j, "}")) return jof_dict(d);
    for (;;) {
        read_space(j);
        if (j->at == j->end || *j->at != '"') read_fail(j, "a key is missing");
        jv key = read_string(j);
        read_space(j);
        if (!read_word(j, ":")) read_fail(j, "':' is missing");
        bt__jdict_put(j->r, d, key, read_value(j));
        read_space(j);
        if (read_word(j, "}")) return jof_dict(d);
        if (!read_word(j, ",")) read_fail(j, "',' or '}' is missing");
    }
}

static jv read_value(reader *j)
{
    jv v = jnone();
    read_space(j);
    jstep(j->r);
    if (++j->depth > JSON_DEPTH_MAX) read_fail(j, "nested too deep");
    if (j->at == j->end)
        read_fail(j, "a value is missing");
    else if (*j->at == '"')
        v = read_string(j);
    else if (*j->at == '{')
        v = read_object(j);
    else if (*j->at == '[')
        v = read_array(j);
    else if (*j->at == '-' || (*j->at >= '0' && *j->at <= '9'))
        v = read_number(j);
    else if (read_word(j, "true"))
        v = jbool(true);
    else if (read_word(j, "false"))
        v = jbool(false);
    else if (read_word(j, "NaN"))
        v = jfloat(NAN);
    else if (read_word(j, "Infinity"))
        v = jfloat(INFINITY);
    else if (!read_word(j, "null"))
        read_fail(j, "a value is missing");
    j->depth--;
    return v;
}

jv bt__jjson_parse(jrt *r, const char *text, size_t len, unsigned flags)
{
    reader j = {.r = r, .text = text, .at = text, .end = text + len, .flags = flags};
    size_t valid = bt_utf8_valid_prefix(text, len);
    bt__jcharge(r, len);
    if (valid != len) {
        j.at += valid;
        read_fail(&j, "a byte that is not UTF-8");
    }
    jv v = read_value(&j);
    read_space(&j);
    if (j.at != j.end) read_fail(&j, "something after the value");
    return v;
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
