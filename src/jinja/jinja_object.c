/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_object.c - lists, dicts, equality, order and iteration as Python has them. */
#include "base/hash.h"
#include "base/utf8.h"
#include "jinja/jinja_text.h"
#include "jinja/jinja_value.h"
#include <math.h>

const char *bt__jv_type(jv v)
{
    static const char *const view[] = {"dict_keys", "dict_values", "dict_items"};
    switch (v.type) {
    case JT_UNDEF: return "Undefined";
    case JT_NONE: return "NoneType";
    case JT_BOOL: return "bool";
    case JT_INT:
    case JT_BIG: return "int";
    case JT_FLOAT: return "float";
    case JT_STR: return v.u.s->markup ? "Markup" : "str";
    case JT_LIST: return "list";
    case JT_TUPLE: return "tuple";
    case JT_DICT: return "dict";
    case JT_RANGE: return "range";
    case JT_VIEW: return view[v.u.view->what];
    case JT_ITER: return "generator";
    case JT_NS: return "Namespace";
    case JT_MACRO: return "Macro";
    case JT_FUNC: return "function";
    case JT_METHOD: return "builtin_function_or_method";
    case JT_LOOP: return "LoopContext";
    case JT_CYCLER: return "Cycler";
    case JT_JOINER: return "Joiner";
    case JT_MISSING: break;
    }
    return "missing"; // no template sees one
}

/* ---- lists */

jlist *bt__jlist_new(jrt *r, size_t cap)
{
    jlist *l = bt__jalloc(r, sizeof *l);
    if (cap) l->v = bt__jalloc(r, cap * sizeof *l->v);
    l->cap = cap;
    return l;
}

void bt__jlist_add(jrt *r, jlist *l, jv v)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 4;
        jv *grown = bt__jalloc(r, cap * sizeof *grown);
        if (l->n) memcpy(grown, l->v, l->n * sizeof *grown);
        l->v = grown;
        l->cap = cap;
    }
    l->v[l->n++] = v;
}

/* ---- dicts */

enum { DICT_SMALL = 8 };

jdict *bt__jdict_new(jrt *r, uint32_t cap)
{
    jdict *d = bt__jalloc(r, sizeof *d);
    if (cap) d->e = bt__jalloc(r, cap * sizeof *d->e);
    d->cap = cap;
    return d;
}

bool bt__jv_hashable(jrt *r, jv v)
{
    if (v.type == JT_TUPLE) {
        bool all = true;
        jstep(r); // tuples of the same tuples double with each level
        jenter(r);
        for (size_t i = 0; i < v.u.l->n && all; i++) all = bt__jv_hashable(r, v.u.l->v[i]);
        jleave(r);
        return all;
    }
    return v.type != JT_LIST && v.type != JT_DICT && v.type != JT_VIEW;
}

static uint64_t hash_num(jrt *r, double f)
{
    if (f >= -0x1p62 && f <= 0x1p62 && f == floor(f)) {
        int64_t i = (int64_t)f;
        return bt_hash(&i, sizeof i, r->seed);
    }
    return bt_hash(&f, sizeof f, r->seed);
}

uint64_t bt__jv_hash(jrt *r, jv v)
{
    if (!bt__jv_hashable(r, v))
        bt__jraise(r, BT_JINJA_TYPE, "unhashable type: '%s'", bt__jv_type(v));
    switch (v.type) {
    case JT_STR:
    case JT_BIG: return bt_hash(v.u.s->p, v.u.s->len, r->seed);
    case JT_BOOL:
    case JT_INT: {
        int64_t i = jas_int(v);
        if (i > (int64_t)1 << 53 || i < -((int64_t)1 << 53)) return hash_num(r, (double)i);
        return bt_hash(&i, sizeof i, r->seed);
    }
    case JT_FLOAT: return hash_num(r, v.u.f);
    case JT_TUPLE: {
        uint64_t h = r->seed;
        jenter(r);
        jstep(r);
        for (size_t i = 0; i < v.u.l->n; i++) h = bt_hash_u64(h ^ bt__jv_hash(r, v.u.l->v[i]));
        jleave(r);
        return h;
    }
    case JT_NONE:
    case JT_UNDEF: return r->seed + v.type;
    default: return bt_hash_u64((uint64_t)(uintptr_t)v.u.l);
    }
}

static bool key_equal(jrt *r, const jentry *e, jv key)
{
    if (e->key.type == JT_STR && key.type == JT_STR)
        return e->key.u.s->len == key.u.s->len &&
               memcmp(e->key.u.s->p, key.u.s->p, key.u.s->len) == 0;
    return bt__jv_equal(r, e->key, key);
}

static void dict_index(jrt *r, jdict *d)
{
    uint32_t n = d->cap * 2;
    uint32_t size = 16;
    while (size < n) size *= 2;
    d->slot = bt__jalloc(r, size * sizeof *d->slot);
    d->n_slots = size;
    for (uint32_t i = 0; i < d->n; i++) {
        d->e[i].hash = bt__jv_hash(r, d->e[i].key);
        uint32_t at = (uint32_t)d->e[i].hash & (size - 1);
        while (d->slot[at]) at = (at + 1) & (size - 1);
        d->slot[at] = i + 1;
    }
}

jv *bt__jdict_find(jrt *r, const jdict *d, jv key)
{
    jstep(r);
    if (!d->slot) {
        if (key.type != JT_STR && !bt__jv_hashable(r, key))
            bt__jraise(r, BT_JINJA_TYPE, "unhashable type: '%s'", bt__jv_type(key));
        for (uint32_t i = 0; i < d->n; i++)
            if (key_equal(r, &d->e[i], key)) return &d->e[i].value;
        return NULL;
    }
    uint64_t h = bt__jv_hash(r, key);
    for (uint32_t at = (uint32_t)h & (d->n_slots - 1); d->slot[at];
         at = (at + 1) & (d->n_slots - 1)) {
        const jentry *e = &d->e[d->slot[at] - 1];
        if (e->hash == h && key_equal(r, e, key)) return &d->e[d->slot[at] - 1].value;
    }
    return NULL;
}

jv *bt__jdict_find_text(const jdict *d, const char *key)
{
    for (uint32_t i = 0; i < d->n; i++)
        if (d->e[i].key.type == JT_STR && jstr_is(d->e[i].key.u.s, key)) return &d->e[i].value;
    return NULL;
}

void bt__jdict_put(jrt *r, jdict *d, jv key, jv value)
{
    jv *old = bt__jdict_find(r, d, key);
    if (old) {
        *old = value;
        return;
    }
    if (d->n == d->cap) {
        uint32_t cap = d->cap ? d->cap * 2 : 4;
        jentry *e = bt__jalloc(r, cap * sizeof *e);
        if (d->n) memcpy(e, d->e, d->n * sizeof *e);
        d->e = e;
        d->cap = cap;
        d->slot = NULL;
    }
    d->e[d->n++] = (jentry){.key = key, .value = value};
    if (d->n <= DICT_SMALL) return;
    if (!d->slot) {
        dict_index(r, d);
        return;
    }
    jentry *e = &d->e[d->n - 1];
    e->hash = bt__jv_hash(r, key);
    uint32_t at = (uint32_t)e->hash & (d->n_slots - 1);
    while (d->slot[at]) at = (at + 1) & (d->n_slots - 1);
    d->slot[at] = d->n;
}

void bt__jdict_put_text(jrt *r, jdict *d, const char *key, jv value)
{
    bt__jdict_put(r, d, bt__jstr_lit(r, key), value);
}

/* ---- truth, length, equality, order */

static int64_t range_len(const jrange *g)
{
    if (g->step > 0) return g->start < g->stop ? (g->stop - g->start - 1) / g->step + 1 : 0;
    return g->start > g->stop ? (g->start - g->stop - 1) / -g->step + 1 : 0;
}

bool bt__jv_len(jrt *r, jv v, int64_t *len)
{
    (void)r;
    switch (v.type) {
    case JT_UNDEF: *len = 0; return true;
    case JT_STR: *len = bt__jstr_chars(v.u.s); return true;
    case JT_LIST:
    case JT_TUPLE: *len = (int64_t)v.u.l->n; return true;
    case JT_DICT: *len = v.u.d->n; return true;
    case JT_RANGE: *len = range_len(v.u.range); return true;
    case JT_VIEW: *len = v.u.view->d->n; return true;
    default: return false;
    }
}

bool bt__jv_true(jrt *r, jv v)
{
    int64_t len;
    switch (v.type) {
    case JT_NONE: return false;
    case JT_BOOL: return v.u.b;
    case JT_INT: return v.u.i != 0;
    case JT_FLOAT: return v.u.f != 0;
    case JT_STR: return v.u.s->len > 0;
    default: return !bt__jv_len(r, v, &len) || len > 0;
    }
}

/* Exact also where a double cannot hold the integer. */
static int order_int_float(int64_t i, double f)
{
    if (isnan(f)) return 2;
    if (f >= 0x1p63) return -1;
    if (f < -0x1p63) return 1;
    int64_t whole = (int64_t)f;
    if (i != whole) return i < whole ? -1 : 1;
    double rest = f - (double)whole;
    return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

static int order_big(const jstr *a, const jstr *b)
{
    bool na = a->p[0] == '-', nb = b->p[0] == '-';
    if (na != nb) return na ? -1 : 1;
    int c = a->len != b->len ? (a->len < b->len ? -1 : 1) : memcmp(a->p, b->p, a->len);
    return na ? -c : c;
}

static double big_double(const jstr *s)
{
    double f = 0;
    bt__jparse_float(s->p, s->len, &f);
    return f;
}

static int order_num(jv a, jv b)
{
    if (jis_int(a) && jis_int(b)) return jas_int(a) < jas_int(b) ? -1 : jas_int(a) > jas_int(b);
    if (a.type == JT_FLOAT && b.type == JT_FLOAT)
        return isnan(a.u.f) || isnan(b.u.f) ? 2 : a.u.f < b.u.f ? -1 : a.u.f > b.u.f;
    if (a.type == JT_BIG && b.type == JT_BIG) return order_big(a.u.s, b.u.s);
    if (a.type == JT_BIG && jis_int(b)) return a.u.s->p[0] == '-' ? -1 : 1;
    if (b.type == JT_BIG && jis_int(a)) return b.u.s->p[0] == '-' ? 1 : -1;
    if (a.type == JT_BIG) a = jfloat(big_double(a.u.s));
    if (b.type == JT_BIG) b = jfloat(big_double(b.u.s));
    if (a.type == JT_FLOAT && b.type == JT_FLOAT) return order_num(a, b);
    if (jis_int(a)) return order_int_float(jas_int(a), b.u.f);
    int c = order_int_float(jas_int(b), a.u.f);
    return c == 2 ? 2 : -c;
}

static bool list_equal(jrt *r, const jlist *a, const jlist *b)
{
    if (a == b) return true;
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++)
        if (!bt__jv_equal(r, a->v[i], b->v[i])) return false;
    return true;
}

static bool dict_equal(jrt *r, const jdict *a, const jdict *b)
{
    if (a == b) return true;
    if (a->n != b->n) return false;
    for (uint32_t i = 0; i < a->n; i++) {
        const jv *other = bt__jdict_find(r, b, a->e[i].key);
        if (!other || !bt__jv_equal(r, a->e[i].value, *other)) return false;
    }
    return true;
}

bool bt__jv_equal(jrt *r, jv a, jv b)
{
    bool same = false;
    jstep(r);
    if (jis_num(a) && jis_num(b)) return order_num(a, b) == 0;
    if (a.type != b.type) return false;
    jenter(r);
    switch (a.type) {
    case JT_NONE:
    case JT_UNDEF: same = true; break;
    case JT_STR:
        if (a.u.s->len == b.u.s->len) {
            r->steps += a.u.s->len / 64;
            same = memcmp(a.u.s->p, b.u.s->p, a.u.s->len) == 0;
        }
        break;
    case JT_LIST:
    case JT_TUPLE: same = list_equal(r, a.u.l, b.u.l); break;
    case JT_DICT: same = dict_equal(r, a.u.d, b.u.d); break;
    case JT_RANGE: same = list_equal(r, bt__jlist_of(r, a), bt__jlist_of(r, b)); break;
    case JT_VIEW:
        same = a.u.view->what != 1 && a.u.view->what == b.u.view->what &&
               (a.u.view->what ? dict_equal(r, a.u.view->d, b.u.view->d)
                               : list_equal(r, bt__jlist_of(r, a), bt__jlist_of(r, b)));
        break;
    default: same = a.u.l == b.u.l; break;
    }
    jleave(r);
    return same;
}

int bt__jv_order(jrt *r, jv a, jv b, const char *op)
{
    jstep(r);
    if (jis_num(a) && jis_num(b)) return order_num(a, b);
    if (a.type == JT_UNDEF) bt__jraise_undef(r, a);
    if (b.type == JT_UNDEF) bt__jraise_undef(r, b);
    if (a.type == JT_STR && b.type == JT_STR) {
        size_t n = BT_MIN(a.u.s->len, b.u.s->len);
        r->steps += n / 64;
        int c = memcmp(a.u.s->p, b.u.s->p, n);
        if (c) return c < 0 ? -1 : 1;
        return a.u.s->len < b.u.s->len ? -1 : a.u.s->len > b.u.s->len;
    }
    if (a.type == b.type && (a.type == JT_LIST || a.type == JT_TUPLE)) {
        const jlist *x = a.u.l, *y = b.u.l;
        for (size_t i = 0; i < x->n && i < y->n; i++) {
            if (bt__jv_equal(r, x->v[i], y->v[i])) continue;
            jenter(r);
            int c = bt__jv_order(r, x->v[i], y->v[i], op);
            jleave(r);
            return c;
        }
        return x->n < y->n ? -1 : x->n > y->n;
    }
    bt__jraise(r, BT_JINJA_TYPE, "'%s' not supported between instances of '%s' and '%s'", op,
               bt__jv_type(a), bt__jv_type(b));
}

bool bt__jv_in(jrt *r, jv item, jv container)
{
    jv v;
    switch (container.type) {
    case JT_STR:
        if (item.type != JT_STR)
            bt__jraise(r, BT_JINJA_TYPE, "'in <string>' requires string as left operand, not %s",
                       bt__jv_type(item));
        bt__jcharge(r, container.u.s->len);
        return bt__jfind(container.u.s->p, container.u.s->len, item.u.s->p, item.u.s->len) !=
               SIZE_MAX;
    case JT_DICT: return bt__jdict_find(r, container.u.d, item) != NULL;
    case JT_VIEW:
        if (container.u.view->what == 0)
            return bt__jdict_find(r, container.u.view->d, item) != NULL;
        break;
    default: break;
    }
    if (!bt__jiter_can(container))
        bt__jraise(r, BT_JINJA_TYPE, "argument of type '%s' is not iterable",
                   bt__jv_type(container));
    jiter *it = bt__jiter_new(r, container);
    while (bt__jiter_next(r, it, &v))
        if (bt__jv_equal(r, v, item)) return true;
    return false;
}

/* ---- iteration */

static bool step_list(jrt *r, jiter *it, jv *out)
{
    (void)r;
    if (it->at >= it->src.u.l->n) return false;
    *out = it->src.u.l->v[it->at++];
    return true;
}

static bool step_str(jrt *r, jiter *it, jv *out)
{
    const jstr *s = it->src.u.s;
    if (it->at >= s->len) return false;
    size_t n = 1;
    while (it->at + n < s->len && bt_utf8_is_tail(s->p[it->at + n])) n++;
    *out = bt__jstr_sub(r, s, it->at, n);
    it->at += n;
    return true;
}

static bool dict_step(jrt *r, jdict *d, int what, size_t *at, jv *out)
{
    if (*at >= d->n) return false;
    jentry *e = &d->e[(*at)++];
    if (what == 2) {
        jlist *pair = bt__jlist_new(r, 2);
        bt__jlist_add(r, pair, e->key);
        bt__jlist_add(r, pair, e->value);
        *out = jof_tuple(pair);
    } else {
        *out = what ? e->value : e->key;
    }
    return true;
}

static bool step_dict(jrt *r, jiter *it, jv *out)
{
    return dict_step(r, it->src.u.d, 0, &it->at, out);
}

static bool step_view(jrt *r, jiter *it, jv *out)
{
    return dict_step(r, it->src.u.view->d, it->src.u.view->what, &it->at, out);
}

static bool step_range(jrt *r, jiter *it, jv *out)
{
    (void)r;
    const jrange *g = it->src.u.range;
    if ((int64_t)it->at >= range_len(g)) return false;
    *out = jint(g->start + (int64_t)it->at++ * g->step);
    return true;
}

static bool step_none(jrt *r, jiter *it, jv *out)
{
    (void)r, (void)it, (void)out;
    return false;
}

static jiter_step step_of(jv v)
{
    switch (v.type) {
    case JT_UNDEF: return step_none;
    case JT_STR: return step_str;
    case JT_LIST:
    case JT_TUPLE: return step_list;
    case JT_DICT: return step_dict;
    case JT_VIEW: return step_view;
    case JT_RANGE: return step_range;
    default: return NULL;
    }
}

bool bt__jiter_can(jv v)
{
    return v.type == JT_ITER || step_of(v) != NULL;
}

jiter *bt__jiter_new(jrt *r, jv v)
{
    if (v.type == JT_ITER) return v.u.it;
    jiter_step step = step_of(v);
    if (!step) bt__jraise(r, BT_JINJA_TYPE, "'%s' object is not iterable", bt__jv_type(v));
    jiter *it = bt__jalloc(r, sizeof *it);
    it->step = step;
    it->src = v;
    return it;
}

bool bt__jiter_next(jrt *r, jiter *it, jv *out)
{
    jstep(r);
    jenter(r);
    bool more = it->step(r, it, out);
    jleave(r);
    return more;
}

jlist *bt__jlist_of(jrt *r, jv v)
{
    int64_t n;
    jv item;
    jlist *l = bt__jlist_new(r, bt__jv_len(r, v, &n) ? (size_t)n : 0);
    jiter *it = bt__jiter_new(r, v);
    while (bt__jiter_next(r, it, &item)) bt__jlist_add(r, l, item);
    return l;
}
