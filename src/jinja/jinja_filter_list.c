/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_filter_list.c - the filters over sequences and mappings. map, select and their kin make
 * generators, as in Python: lazy, and used up by one pass. */
#include "base/rng.h"
#include "jinja/jinja_run.h"
#include "jinja/jinja_text.h"

#define FILTER(name) static jv f_##name(jrt *r, const jv *a, const jcall *c)

static jv generator(jrt *r, const char *name, jv src, jiter_step step, void *state)
{
    jiter *it = bt__jalloc(r, sizeof *it);
    *it = (jiter){.step = step, .name = name, .src = src, .state = state};
    return (jv){.type = JT_ITER, .u.it = it};
}

/* The generator's source, opened at the first item. */
static bool pull(jrt *r, jiter *it, jv *out)
{
    if (!it->from) it->from = bt__jiter_new(r, it->src);
    return bt__jiter_next(r, it->from, out);
}

/* ---- attributes by path: "a.b.0", or an index */

typedef struct path {
    jlist *part;
    jv initial; // for undefined on the way; missing: none
    bool fold;  // strings compare without case
} path;

static path *path_new(jrt *r, jv attribute, jv initial, bool fold)
{
    path *p = bt__jalloc(r, sizeof *p);
    *p = (path){bt__jlist_new(r, 0), initial, fold};
    if (attribute.type == JT_MISSING || attribute.type == JT_NONE) return p;
    if (attribute.type != JT_STR) {
        bt__jlist_add(r, p->part, attribute);
        return p;
    }
    const jstr *s = attribute.u.s;
    for (size_t at = 0; at <= s->len;) {
        size_t n = bt__jfind(s->p + at, s->len - at, ".", 1);
        if (n == SIZE_MAX) n = s->len - at;
        jv part = bt__jstr_sub(r, s, at, n), number;
        bool digits = n > 0;
        for (size_t i = 0; i < n; i++) digits &= s->p[at + i] >= '0' && s->p[at + i] <= '9';
        if (digits && bt__jparse_int(r, s->p + at, n, 10, &number)) part = number;
        bt__jlist_add(r, p->part, part);
        at += n + 1;
    }
    return p;
}

static jv path_get(jrt *r, jv item, void *state)
{
    const path *p = state;
    for (size_t i = 0; i < p->part->n; i++) {
        item = bt__jgetitem(r, item, p->part->v[i]);
        if (item.type == JT_UNDEF && p->initial.type != JT_MISSING) item = p->initial;
    }
    if (p->fold && item.type == JT_STR) item = bt__jcase(r, item.u.s, JCASE_LOWER);
    return item;
}

/* ---- sorting */

typedef struct keyed {
    jv key, value;
} keyed;

/* Stable merge sort; an item goes first unless the later one is strictly less (or, reversed,
 * strictly greater). */
static void merge_sort(jrt *r, keyed *v, keyed *tmp, size_t n, bool reverse)
{
    if (n < 2) return;
    size_t half = n / 2, i = 0, j = half, k = 0;
    merge_sort(r, v, tmp, half, reverse);
    merge_sort(r, v + half, tmp, n - half, reverse);
    while (i < half && j < n) {
        bool later = reverse ? bt__jv_order(r, v[i].key, v[j].key, "<") == -1
                             : bt__jv_order(r, v[j].key, v[i].key, "<") == -1;
        tmp[k++] = later ? v[j++] : v[i++];
    }
    while (i < half) tmp[k++] = v[i++];
    memcpy(v, tmp, k * sizeof *v);
}

jv bt__jsort(jrt *r, jv list, bool reverse, jv (*key)(jrt *r, jv item, void *ud), void *ud)
{
    jlist *l = bt__jlist_of(r, list), *out = bt__jlist_new(r, l->n);
    keyed *v = bt__jalloc(r, (l->n + 1) * 2 * sizeof *v);
    for (size_t i = 0; i < l->n; i++) v[i] = (keyed){key(r, l->v[i], ud), l->v[i]};
    merge_sort(r, v, v + l->n, l->n, reverse);
    for (size_t i = 0; i < l->n; i++) bt__jlist_add(r, out, v[i].value);
    return jof_list(out);
}

typedef struct paths {
    path **path;
    size_t n;
} paths;

/* Keys of "a,b.c": a list of what each path finds. */
static jv multi_get(jrt *r, jv item, void *state)
{
    const paths *p = state;
    jlist *keys = bt__jlist_new(r, p->n);
    for (size_t i = 0; i < p->n; i++) bt__jlist_add(r, keys, path_get(r, item, p->path[i]));
    return jof_list(keys);
}

FILTER(sort)
{
    (void)c;
    bool fold = !bt__jarg_bool(r, a[2], false);
    size_t most = a[3].type == JT_STR ? a[3].u.s->len + 1u : 1;
    paths p = {bt__jalloc(r, most * sizeof *p.path), 0};
    if (a[3].type != JT_STR) {
        p.path[p.n++] = path_new(r, a[3], jmissing(), fold);
        return bt__jsort(r, a[0], bt__jarg_bool(r, a[1], false), multi_get, &p);
    }
    const jstr *s = a[3].u.s;
    for (size_t at = 0; at <= s->len;) {
        size_t n = bt__jfind(s->p + at, s->len - at, ",", 1);
        if (n == SIZE_MAX) n = s->len - at;
        p.path[p.n++] = path_new(r, bt__jstr_sub(r, s, at, n), jmissing(), fold);
        at += n + 1;
    }
    return bt__jsort(r, a[0], bt__jarg_bool(r, a[1], false), multi_get, &p);
}

typedef struct dictsort_key {
    int at;
    bool fold;
} dictsort_key;

static jv dictsort_get(jrt *r, jv item, void *state)
{
    const dictsort_key *k = state;
    jv v = item.u.l->v[k->at];
    return k->fold && v.type == JT_STR ? bt__jcase(r, v.u.s, JCASE_LOWER) : v;
}

FILTER(dictsort)
{
    (void)c;
    dictsort_key k = {0, !bt__jarg_bool(r, a[1], false)};
    if (a[2].type != JT_MISSING) {
        const jstr *by = bt__jarg_str(r, a[2], "by");
        if (!jstr_is(by, "key") && !jstr_is(by, "value"))
            bt__jraise(r, BT_JINJA_TYPE, "You can only sort by either \"key\" or \"value\"");
        k.at = jstr_is(by, "value");
    }
    if (a[0].type == JT_UNDEF) bt__jraise_undef(r, a[0]);
    if (a[0].type != JT_DICT)
        bt__jraise(r, BT_JINJA_TYPE, "'%s' object has no attribute 'items'", bt__jv_type(a[0]));
    jview *view = bt__jalloc(r, sizeof *view);
    *view = (jview){a[0].u.d, 2};
    jv items = {.type = JT_VIEW, .u.view = view};
    return bt__jsort(r, items, bt__jarg_bool(r, a[3], false), dictsort_get, &k);
}

static jv group_get(jrt *r, jv item, void *state)
{
    (void)r, (void)state;
    return item.u.l->v[0];
}

/* Sorts by the attribute; one (key, items) per run of equal keys. */
FILTER(groupby)
{
    (void)c;
    jv initial = a[2].type == JT_NONE ? jmissing() : a[2], item;
    bool fold = !bt__jarg_bool(r, a[3], false);
    path *key = path_new(r, a[1], initial, fold), *shown = path_new(r, a[1], initial, false);
    jlist *pairs = bt__jlist_new(r, 0), *out = bt__jlist_new(r, 0), *group = NULL;
    jv last = jmissing();
    for (jiter *it = bt__jiter_new(r, a[0]); bt__jiter_next(r, it, &item);) {
        jlist *pair = bt__jlist_new(r, 2);
        bt__jlist_add(r, pair, path_get(r, item, key));
        bt__jlist_add(r, pair, item);
        bt__jlist_add(r, pairs, jof_tuple(pair));
    }
    jv sorted = bt__jsort(r, jof_list(pairs), false, group_get, NULL);
    for (size_t i = 0; i < sorted.u.l->n; i++) {
        const jlist *pair = sorted.u.l->v[i].u.l;
        if (!group || !bt__jv_equal(r, last, pair->v[0])) {
            jlist *tuple = bt__jlist_new(r, 2);
            group = bt__jlist_new(r, 0);
            tuple->group = true;
            bt__jlist_add(r, tuple, path_get(r, pair->v[1], shown));
            bt__jlist_add(r, tuple, jof_list(group));
            bt__jlist_add(r, out, jof_tuple(tuple));
            last = pair->v[0];
        }
        bt__jlist_add(r, group, pair->v[1]);
    }
    return jof_list(out);
}

/* ---- map, select, reject */

typedef struct chosen {
    path *attribute;   // NULL: the item itself
    const jfunc *func; // NULL: the attribute, or the item's truth
    jcall call;        // arguments of func
    bool negate;
} chosen;

static bool step_map(jrt *r, jiter *it, jv *out)
{
    const chosen *m = it->state;
    if (!pull(r, it, out)) return false;
    *out = m->func ? bt__jrun_filter(r, m->func, *out, &m->call) : path_get(r, *out, m->attribute);
    return true;
}

static bool step_select(jrt *r, jiter *it, jv *out)
{
    const chosen *s = it->state;
    while (pull(r, it, out)) {
        jv v = s->attribute ? path_get(r, *out, s->attribute) : *out;
        if (s->func) v = bt__jrun_filter(r, s->func, v, &s->call);
        if (bt__jv_true(r, v) != s->negate) return true;
    }
    return false;
}

/* Arguments from `from` on, for the function that the first of them names. */
static jcall rest_of(const jcall *c, uint32_t from)
{
    jcall rest = *c;
    rest.pos += from;
    rest.n_pos -= from;
    return rest;
}

static const jfunc *named(jrt *r, jv name, bool filter)
{
    if (name.type == JT_UNDEF || name.type != JT_STR)
        bt__jraise(r, BT_JINJA_TYPE, "No %s named %s.", filter ? "filter" : "test",
                   bt__jv_type(name));
    const jstr *s = name.u.s;
    const jfunc *f = filter ? bt__jfilter_find(s->p, s->len) : bt__jtest_find(s->p, s->len);
    if (!f)
        bt__jraise(r, BT_JINJA_TYPE, "No %s named '%.*s'.", filter ? "filter" : "test",
                   (int)BT_MIN(s->len, 80u), s->p);
    return f;
}

FILTER(map)
{
    (void)a;
    chosen *m = bt__jalloc(r, sizeof *m);
    jv attribute = jmissing(), initial = jmissing();
    for (uint32_t i = 0; i < c->n_kw; i++) {
        if (jstr_is(c->key[i].u.s, "attribute")) attribute = c->kw[i];
        if (jstr_is(c->key[i].u.s, "default")) initial = c->kw[i];
    }
    if (!bt__jv_true(r, c->pos[0]))
        return generator(r, "sync_do_map", jof_list(bt__jlist_new(r, 0)), step_map, m);
    if (c->n_pos == 1 && attribute.type != JT_MISSING) {
        if (c->n_kw > 1u + (initial.type != JT_MISSING))
            bt__jraise(r, BT_JINJA_TYPE, "Unexpected keyword argument in map()");
        if (initial.type == JT_NONE) initial = jmissing();
        m->attribute = path_new(r, attribute, initial, false);
    } else {
        if (c->n_pos < 2) bt__jraise(r, BT_JINJA_TYPE, "map requires a filter argument");
        m->func = named(r, c->pos[1], true);
        m->call = rest_of(c, 2);
    }
    return generator(r, "sync_do_map", c->pos[0], step_map, m);
}

static jv choose(jrt *r, const jcall *c, const char *name, bool by_attribute, bool negate)
{
    chosen *s = bt__jalloc(r, sizeof *s);
    uint32_t at = 1;
    s->negate = negate;
    if (!bt__jv_true(r, c->pos[0]))
        return generator(r, name, jof_list(bt__jlist_new(r, 0)), step_select, s);
    if (by_attribute) {
        if (c->n_pos < 2) bt__jraise(r, BT_JINJA_TYPE, "Missing parameter for attribute name");
        s->attribute = path_new(r, c->pos[at++], jmissing(), false);
    }
    if (c->n_pos > at) {
        s->func = named(r, c->pos[at], false);
        s->call = rest_of(c, at + 1);
    }
    return generator(r, name, c->pos[0], step_select, s);
}
FILTER(select)
{
    (void)a;
    return choose(r, c, "select_or_reject", false, false);
}
FILTER(reject)
{
    (void)a;
    return choose(r, c, "select_or_reject", false, true);
}
FILTER(selectattr)
{
    (void)a;
    return choose(r, c, "select_or_reject", true, false);
}
FILTER(rejectattr)
{
    (void)a;
    return choose(r, c, "select_or_reject", true, true);
}

/* ---- other generators */

static bool step_items(jrt *r, jiter *it, jv *out)
{
    if (!it->from) {
        jview *view = bt__jalloc(r, sizeof *view);
        if (it->src.type == JT_UNDEF) return false;
        if (it->src.type != JT_DICT)
            bt__jraise(r, BT_JINJA_TYPE, "Can only get item pairs from a mapping.");
        *view = (jview){it->src.u.d, 2};
        it->from = bt__jiter_new(r, (jv){.type = JT_VIEW, .u.view = view});
    }
    return bt__jiter_next(r, it->from, out);
}
FILTER(items)
{
    (void)c;
    return generator(r, "do_items", a[0], step_items, NULL);
}

typedef struct unique {
    path *key;
    jdict *seen;
} unique;

static bool step_unique(jrt *r, jiter *it, jv *out)
{
    unique *u = it->state;
    while (pull(r, it, out)) {
        jv key = path_get(r, *out, u->key);
        if (bt__jdict_find(r, u->seen, key)) continue;
        bt__jdict_put(r, u->seen, key, jnone());
        return true;
    }
    return false;
}

FILTER(unique)
{
    (void)c;
    unique *u = bt__jalloc(r, sizeof *u);
    u->key = path_new(r, a[2], jmissing(), !bt__jarg_bool(r, a[1], false));
    u->seen = bt__jdict_new(r, 0);
    return generator(r, "sync_do_unique", a[0], step_unique, u);
}

FILTER(batch)
{
    (void)c;
    jlist *out = bt__jlist_new(r, 0), *row = bt__jlist_new(r, 0);
    jv item;
    for (jiter *it = bt__jiter_new(r, a[0]); bt__jiter_next(r, it, &item);) {
        if (bt__jv_equal(r, jint((int64_t)row->n), a[1])) { // a count of 0 makes an empty first row
            bt__jlist_add(r, out, jof_list(row));
            row = bt__jlist_new(r, 0);
        }
        bt__jlist_add(r, row, item);
    }
    if (row->n) bt__jlist_add(r, out, jof_list(row));
    if (row->n && a[2].type != JT_MISSING && a[2].type != JT_NONE)
        for (int64_t n = bt__jarg_int(r, a[1], 0); (int64_t)row->n < n;) {
            jstep(r);
            bt__jlist_add(r, row, a[2]);
        }
    jiter *it = bt__jiter_new(r, jof_list(out));
    it->name = "do_batch";
    return (jv){.type = JT_ITER, .u.it = it};
}

FILTER(slice)
{
    (void)c;
    int64_t slices = bt__jarg_int(r, a[1], 1);
    const jlist *l = bt__jlist_of(r, a[0]);
    jlist *out = bt__jlist_new(r, 0);
    if (slices == 0) bt__jraise(r, BT_JINJA_TYPE, "integer division or modulo by zero");
    for (int64_t i = 0, at = 0; i < slices; i++) {
        jlist *row = bt__jlist_new(r, 0);
        int64_t n = (int64_t)l->n / slices + (i < (int64_t)l->n % slices);
        jstep(r);
        for (int64_t k = 0; k < n; k++) bt__jlist_add(r, row, l->v[at++]);
        if (a[2].type != JT_MISSING && a[2].type != JT_NONE && i >= (int64_t)l->n % slices)
            bt__jlist_add(r, row, a[2]);
        bt__jlist_add(r, out, jof_list(row));
    }
    jiter *it = bt__jiter_new(r, jof_list(out));
    it->name = "sync_do_slice";
    return (jv){.type = JT_ITER, .u.it = it};
}

FILTER(reverse)
{
    (void)c;
    if (a[0].type == JT_STR) return bt__jslice(r, a[0], jnone(), jnone(), jint(-1));
    if (!bt__jiter_can(a[0])) bt__jraise(r, BT_JINJA_TYPE, "argument must be iterable");
    jlist *l = bt__jlist_of(r, a[0]);
    jv turned = bt__jslice(r, jof_list(l), jnone(), jnone(), jint(-1));
    if (a[0].type == JT_ITER) return turned;
    jiter *it = bt__jiter_new(r, turned);
    it->name = "reversed";
    return (jv){.type = JT_ITER, .u.it = it};
}

/* ---- one value of many */

FILTER(length)
{
    (void)c;
    int64_t n;
    if (!bt__jv_len(r, a[0], &n))
        bt__jraise(r, BT_JINJA_TYPE, "object of type '%s' has no len()", bt__jv_type(a[0]));
    return jint(n);
}

FILTER(list)
{
    (void)c;
    return jof_list(bt__jlist_of(r, a[0]));
}

FILTER(first)
{
    (void)c;
    jv v;
    if (bt__jiter_next(r, bt__jiter_new(r, a[0]), &v)) return v;
    return bt__jundef_hint(r, "No first item, sequence was empty.");
}

FILTER(last)
{
    (void)c;
    if (a[0].type == JT_ITER || !bt__jiter_can(a[0]))
        bt__jraise(r, BT_JINJA_TYPE, "'%s' object is not reversible", bt__jv_type(a[0]));
    const jlist *l = bt__jlist_of(r, a[0]);
    return l->n ? l->v[l->n - 1] : bt__jundef_hint(r, "No last item, sequence was empty.");
}

FILTER(random)
{
    (void)c;
    int64_t n;
    if (!bt__jv_len(r, a[0], &n) || a[0].type == JT_DICT || a[0].type == JT_VIEW)
        bt__jraise(r, BT_JINJA_TYPE, "object of type '%s' is no sequence", bt__jv_type(a[0]));
    if (!n) return bt__jundef_hint(r, "No random item, sequence was empty.");
    return bt__jgetitem(r, a[0], jint((int64_t)(bt_rng_u64(r->seed, r->steps) % (uint64_t)n)));
}

static jv best(jrt *r, const jv *a, int want)
{
    path *key = path_new(r, a[2], jmissing(), !bt__jarg_bool(r, a[1], false));
    jv item, found, found_key;
    jiter *it = bt__jiter_new(r, a[0]);
    if (!bt__jiter_next(r, it, &found))
        return bt__jundef_hint(r, "No aggregated item, sequence was empty.");
    found_key = path_get(r, found, key);
    while (bt__jiter_next(r, it, &item)) {
        jv k = path_get(r, item, key);
        if (bt__jv_order(r, k, found_key, want < 0 ? "<" : ">") != want) continue;
        found = item;
        found_key = k;
    }
    return found;
}
FILTER(min)
{
    (void)c;
    return best(r, a, -1);
}
FILTER(max)
{
    (void)c;
    return best(r, a, 1);
}

FILTER(sum)
{
    (void)c;
    path *key = path_new(r, a[1], jmissing(), false);
    jv total = a[2].type == JT_MISSING ? jint(0) : a[2], item;
    if (total.type == JT_STR)
        bt__jraise(r, BT_JINJA_TYPE, "sum() can't sum strings [use ''.join(seq) instead]");
    for (jiter *it = bt__jiter_new(r, a[0]); bt__jiter_next(r, it, &item);)
        total = bt__jbinary(r, '+', total, path_get(r, item, key));
    return total;
}

FILTER(default)
{
    (void)c;
    bool absent = a[0].type == JT_UNDEF;
    if (bt__jarg_bool(r, a[2], false)) absent = absent || !bt__jv_true(r, a[0]);
    if (!absent) return a[0];
    return a[1].type == JT_MISSING ? bt__jstr_lit(r, "") : a[1];
}

FILTER(join)
{
    (void)c;
    path *key = a[2].type == JT_MISSING || a[2].type == JT_NONE
                    ? NULL
                    : path_new(r, a[2], jmissing(), false);
    jv sep = a[1].type == JT_MISSING ? bt__jstr_lit(r, "") : bt__jv_str(r, a[1]), item;
    jsb b;
    bool more = false;
    bt__jsb_init(&b, r);
    for (jiter *it = bt__jiter_new(r, a[0]); bt__jiter_next(r, it, &item); more = true) {
        if (more) bt__jsb_str(&b, sep.u.s);
        bt__jsb_value(&b, key ? path_get(r, item, key) : item);
    }
    return bt__jsb_done(&b);
}

FILTER(attr)
{
    (void)c;
    bt__jarg_str(r, a[1], "an attribute's name");
    if (a[0].type == JT_UNDEF) bt__jraise_undef(r, a[0]);
    jv v = bt__jgetattr(r, a[0], a[1]);
    /* an item of a dict is no attribute of it */
    if (a[0].type == JT_DICT && v.type != JT_METHOD && v.type != JT_UNDEF)
        return bt__jundef_in(r, a[0], a[1]);
    return v;
}

const jfunc bt__jlist_filters[] = {
    {"length", "obj", 1, f_length},
    {"count", "obj", 1, f_length},
    {"list", "value", 1, f_list},
    {"join", "value d attribute", 1, f_join},
    {"default", "value default_value boolean", 1, f_default},
    {"d", "value default_value boolean", 1, f_default},
    {"items", "value", 1, f_items},
    {"map", NULL, 1, f_map},
    {"select", NULL, 1, f_select},
    {"reject", NULL, 1, f_reject},
    {"selectattr", NULL, 1, f_selectattr},
    {"rejectattr", NULL, 1, f_rejectattr},
    {"first", "seq", 1, f_first},
    {"last", "seq", 1, f_last},
    {"sort", "value reverse case_sensitive attribute", 1, f_sort},
    {"dictsort", "value case_sensitive by reverse", 1, f_dictsort},
    {"groupby", "value attribute default case_sensitive", 2, f_groupby},
    {"unique", "value case_sensitive attribute", 1, f_unique},
    {"min", "value case_sensitive attribute", 1, f_min},
    {"max", "value case_sensitive attribute", 1, f_max},
    {"sum", "iterable attribute start", 1, f_sum},
    {"reverse", "value", 1, f_reverse},
    {"batch", "value linecount fill_with", 2, f_batch},
    {"slice", "value slices fill_with", 2, f_slice},
    {"random", "seq", 1, f_random},
    {"attr", "obj name", 2, f_attr},
    {0},
};
