/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_builtin.c - global functions, tests, the methods of objects other than strings, and the
 * look-up in the tables. */
#include "base/assert.h"
#include "jinja/jinja_run.h"
#include "jinja/jinja_text.h"
#include <math.h>

/* ---- globals */

#define GLOBAL(name) static jv g_##name(jrt *r, const jv *a, const jcall *c)
enum { RANGE_MAX = 100000 };

GLOBAL(range)
{
    (void)a;
    int64_t start = 0, stop, step = 1, len;
    if (c->n_kw || c->n_pos < 1 || c->n_pos > 3)
        bt__jraise(r, BT_JINJA_TYPE, "range expected 1 to 3 arguments, got %u", c->n_pos + c->n_kw);
    stop = bt__jarg_int(r, c->pos[c->n_pos > 1], 0);
    if (c->n_pos > 1) start = bt__jarg_int(r, c->pos[0], 0);
    if (c->n_pos > 2) step = bt__jarg_int(r, c->pos[2], 1);
    if (step == 0) bt__jraise(r, BT_JINJA_TYPE, "range() arg 3 must not be zero");
    if (__builtin_sub_overflow(stop, start, &len) || len == INT64_MIN || step == INT64_MIN)
        len = INT64_MAX;
    else if (step > 0)
        len = len > 0 ? (len - 1) / step + 1 : 0;
    else
        len = len < 0 ? (-len - 1) / -step + 1 : 0;
    if (len > RANGE_MAX)
        bt__jraise(r, BT_JINJA_TYPE,
                   "Range too big. The sandbox blocks ranges larger than "
                   "MAX_RANGE (100000).");
    jrange *g = bt__jalloc(r, sizeof *g);
    *g = (jrange){start, stop, step};
    return (jv){.type = JT_RANGE, .u.range = g};
}

/* dict(mapping or pairs, **more) */
static jdict *dict_of(jrt *r, const jcall *c, const char *what)
{
    jdict *d = bt__jdict_new(r, 0);
    jv pair;
    if (c->n_pos > 1)
        bt__jraise(r, BT_JINJA_TYPE, "%s expected at most 1 argument, got %u", what, c->n_pos);
    if (c->n_pos && c->pos[0].type == JT_DICT) {
        const jdict *from = c->pos[0].u.d;
        for (uint32_t i = 0; i < from->n; i++)
            bt__jdict_put(r, d, from->e[i].key, from->e[i].value);
    } else if (c->n_pos) {
        for (jiter *it = bt__jiter_new(r, c->pos[0]); bt__jiter_next(r, it, &pair);) {
            const jlist *kv = bt__jlist_of(r, pair);
            if (kv->n != 2)
                bt__jraise(r, BT_JINJA_TYPE,
                           "dictionary update sequence element #%u has length %zu; 2 is required",
                           d->n, kv->n);
            bt__jdict_put(r, d, kv->v[0], kv->v[1]);
        }
    }
    for (uint32_t i = 0; i < c->n_kw; i++) bt__jdict_put(r, d, c->key[i], c->kw[i]);
    return d;
}

GLOBAL(dict)
{
    (void)a;
    return jof_dict(dict_of(r, c, "dict"));
}
GLOBAL(namespace)
{
    (void)a;
    return (jv){.type = JT_NS, .u.d = dict_of(r, c, "namespace")};
}

static jv cycler_new(jrt *r, jtype type, const jv *items, uint32_t n)
{
    jcycler *cycler = bt__jalloc(r, sizeof *cycler);
    cycler->items = bt__jlist_new(r, n);
    for (uint32_t i = 0; i < n; i++) bt__jlist_add(r, cycler->items, items[i]);
    return (jv){.type = type, .u.cycler = cycler};
}

GLOBAL(cycler)
{
    (void)a;
    if (!c->n_pos) bt__jraise(r, BT_JINJA_TYPE, "at least one item has to be provided");
    return cycler_new(r, JT_CYCLER, c->pos, c->n_pos);
}

GLOBAL(joiner)
{
    (void)c;
    jv sep = a[0].type == JT_MISSING ? bt__jstr_lit(r, ", ") : a[0];
    return cycler_new(r, JT_JOINER, &sep, 1);
}

GLOBAL(raise_exception)
{
    (void)c;
    jv text = bt__jv_str(r, a[0]);
    bt__jraise(r, BT_JINJA_RAISED, "%.*s", (int)text.u.s->len, text.u.s->p);
}

GLOBAL(strftime_now)
{
    (void)c;
    return bt__jstrftime(r, bt__jarg_str(r, a[0], "strftime() argument 1"));
}

/* Known to jinja2, but not here. */
GLOBAL(lipsum)
{
    (void)a, (void)c;
    bt__jraise(r, BT_JINJA_TYPE, "'lipsum' is not supported");
}
GLOBAL(self)
{
    (void)a, (void)c;
    bt__jraise(r, BT_JINJA_TYPE, "'self' is not supported");
}

static const jfunc globals[] = {
    {"namespace", NULL, 0, g_namespace},
    {"raise_exception", "message", 1, g_raise_exception},
    {"strftime_now", "format", 1, g_strftime_now},
    {"range", NULL, 1, g_range},
    {"dict", NULL, 0, g_dict},
    {"cycler", NULL, 1, g_cycler},
    {"joiner", "sep", 0, g_joiner},
    {"lipsum", NULL, 0, g_lipsum},
    {"self", NULL, 0, g_self},
    {0},
};

/* ---- tests */

#define TEST(name) static jv t_##name(jrt *r, const jv *a, const jcall *c)
#define TYPE_TEST(name, is)                                                                        \
    static jv t_##name(jrt *r, const jv *a, const jcall *c)                                        \
    {                                                                                              \
        (void)r, (void)c;                                                                          \
        return jbool(is);                                                                          \
    }
TYPE_TEST(defined, a[0].type != JT_UNDEF)
TYPE_TEST(undefined, a[0].type == JT_UNDEF)
TYPE_TEST(none, a[0].type == JT_NONE)
TYPE_TEST(boolean, a[0].type == JT_BOOL)
TYPE_TEST(true, a[0].type == JT_BOOL && a[0].u.b)
TYPE_TEST(false, a[0].type == JT_BOOL && !a[0].u.b)
TYPE_TEST(integer, a[0].type == JT_INT || a[0].type == JT_BIG)
TYPE_TEST(float, a[0].type == JT_FLOAT)
TYPE_TEST(number, jis_num(a[0]))
TYPE_TEST(string, a[0].type == JT_STR)
TYPE_TEST(mapping, a[0].type == JT_DICT)
TYPE_TEST(iterable, bt__jiter_can(a[0]) || a[0].type == JT_LOOP)
TYPE_TEST(escaped, a[0].type == JT_STR && a[0].u.s->markup)
TYPE_TEST(sequence, a[0].type == JT_STR || a[0].type == JT_LIST || a[0].type == JT_TUPLE ||
                        a[0].type == JT_DICT || a[0].type == JT_RANGE || a[0].type == JT_UNDEF)
TYPE_TEST(callable, a[0].type == JT_MACRO || a[0].type == JT_FUNC || a[0].type == JT_METHOD ||
                        a[0].type == JT_LOOP || a[0].type == JT_JOINER || a[0].type == JT_UNDEF)

TEST(lower)
{
    (void)c;
    return jbool(bt__jstr_is_case(bt__jv_str(r, a[0]).u.s, false));
}
TEST(upper)
{
    (void)c;
    return jbool(bt__jstr_is_case(bt__jv_str(r, a[0]).u.s, true));
}

TEST(odd)
{
    (void)c;
    return jbool(bt__jv_equal(r, bt__jbinary(r, '%', a[0], jint(2)), jint(1)));
}
TEST(even)
{
    (void)c;
    return jbool(bt__jv_equal(r, bt__jbinary(r, '%', a[0], jint(2)), jint(0)));
}
TEST(divisibleby)
{
    (void)c;
    return jbool(bt__jv_equal(r, bt__jbinary(r, '%', a[0], a[1]), jint(0)));
}
TEST(sameas)
{
    (void)c;
    if (a[0].type != a[1].type) return jbool(false);
    if (a[0].type == JT_LIST || a[0].type == JT_TUPLE || a[0].type == JT_DICT)
        return jbool(a[0].u.l == a[1].u.l);
    return jbool(bt__jv_equal(r, a[0], a[1]));
}
TEST(filter)
{
    (void)c;
    bt__jv_hash(r, a[0]); // raises for what cannot be a key of the table
    const jstr *s = a[0].type == JT_STR ? a[0].u.s : NULL;
    return jbool(s && bt__jfilter_find(s->p, s->len));
}
TEST(test)
{
    (void)c;
    bt__jv_hash(r, a[0]);
    const jstr *s = a[0].type == JT_STR ? a[0].u.s : NULL;
    return jbool(s && bt__jtest_find(s->p, s->len));
}

#define COMPARE_TEST(name, op)                                                                     \
    static jv t_##name(jrt *r, const jv *a, const jcall *c)                                        \
    {                                                                                              \
        (void)c;                                                                                   \
        return jbool(bt__jcompare(r, op, a[0], a[1]));                                             \
    }
COMPARE_TEST(eq, JOP_EQ)
COMPARE_TEST(ne, JOP_NE)
COMPARE_TEST(lt, JOP_LT)
COMPARE_TEST(le, JOP_LE)
COMPARE_TEST(gt, JOP_GT)
COMPARE_TEST(ge, JOP_GE)
COMPARE_TEST(in, JOP_IN)

static const jfunc tests[] = {
    {"defined", "value", 1, t_defined},
    {"undefined", "value", 1, t_undefined},
    {"none", "value", 1, t_none},
    {"string", "value", 1, t_string},
    {"mapping", "value", 1, t_mapping},
    {"iterable", "value", 1, t_iterable},
    {"sequence", "value", 1, t_sequence},
    {"boolean", "value", 1, t_boolean},
    {"true", "value", 1, t_true},
    {"false", "value", 1, t_false},
    {"integer", "value", 1, t_integer},
    {"float", "value", 1, t_float},
    {"number", "value", 1, t_number},
    {"callable", "value", 1, t_callable},
    {"escaped", "value", 1, t_escaped},
    {"lower", "value", 1, t_lower},
    {"upper", "value", 1, t_upper},
    {"odd", "value", 1, t_odd},
    {"even", "value", 1, t_even},
    {"divisibleby", "value num", 2, t_divisibleby},
    {"sameas", "value other", 2, t_sameas},
    {"filter", "value", 1, t_filter},
    {"test", "value", 1, t_test},
    {"in", "value seq", 2, t_in},
    {"eq", "a b", 2, t_eq},
    {"equalto", "a b", 2, t_eq},
    {"==", "a b", 2, t_eq},
    {"ne", "a b", 2, t_ne},
    {"!=", "a b", 2, t_ne},
    {"lt", "a b", 2, t_lt},
    {"lessthan", "a b", 2, t_lt},
    {"<", "a b", 2, t_lt},
    {"le", "a b", 2, t_le},
    {"<=", "a b", 2, t_le},
    {"gt", "a b", 2, t_gt},
    {"greaterthan", "a b", 2, t_gt},
    {">", "a b", 2, t_gt},
    {"ge", "a b", 2, t_ge},
    {">=", "a b", 2, t_ge},
    {0},
};

/* ---- methods */

#define METHOD(name) static jv m_##name(jrt *r, jv self, const jv *a, const jcall *c)

static jv view_of(jrt *r, jv self, int what)
{
    jview *view = bt__jalloc(r, sizeof *view);
    *view = (jview){self.u.d, what};
    return (jv){.type = JT_VIEW, .u.view = view};
}
METHOD(keys)
{
    (void)a, (void)c;
    return view_of(r, self, 0);
}
METHOD(values)
{
    (void)a, (void)c;
    return view_of(r, self, 1);
}
METHOD(items)
{
    (void)a, (void)c;
    return view_of(r, self, 2);
}

METHOD(get)
{
    (void)c;
    const jv *found = bt__jdict_find(r, self.u.d, a[0]);
    return found ? *found : a[1].type == JT_MISSING ? jnone() : a[1];
}

METHOD(copy)
{
    (void)a, (void)c;
    jcall call = {.pos = &self, .n_pos = 1};
    return self.type == JT_DICT ? jof_dict(dict_of(r, &call, "dict"))
                                : jof_list(bt__jlist_of(r, self));
}

METHOD(count)
{
    (void)c;
    int64_t n = 0;
    jv v;
    for (jiter *it = bt__jiter_new(r, self); bt__jiter_next(r, it, &v);)
        n += bt__jv_equal(r, v, a[0]);
    return jint(n);
}

METHOD(index)
{
    (void)c;
    int64_t n = 0, from = bt__jarg_int(r, a[1], 0), to = bt__jarg_int(r, a[2], INT64_MAX), len = 0;
    jv v;
    bt__jv_len(r, self, &len);
    if (from < 0) from = BT_MAX(from + len, 0);
    if (to < 0) to += len;
    for (jiter *it = bt__jiter_new(r, self); bt__jiter_next(r, it, &v); n++)
        if (n >= from && n < to && bt__jv_equal(r, v, a[0])) return jint(n);
    jsb b;
    bt__jsb_init(&b, r);
    bt__jsb_repr(&b, a[0]);
    bt__jraise(r, BT_JINJA_TYPE, "%.*s is not in %s", (int)BT_MIN(b.len, (size_t)200), b.p,
               bt__jv_type(self));
}

METHOD(cycler_next)
{
    (void)a, (void)c, (void)r;
    jcycler *y = self.u.cycler;
    jv v = y->items->v[y->pos];
    y->pos = (y->pos + 1) % y->items->n;
    return v;
}
METHOD(cycler_reset)
{
    (void)a, (void)c, (void)r;
    self.u.cycler->pos = 0;
    return jnone();
}

METHOD(loop_cycle)
{
    (void)a;
    if (!c->n_pos) bt__jraise(r, BT_JINJA_TYPE, "no items for cycling given");
    return c->pos[self.u.loop->index0 % c->n_pos];
}

METHOD(loop_changed)
{
    (void)a;
    jlist *now = bt__jlist_new(r, c->n_pos);
    for (uint32_t i = 0; i < c->n_pos; i++) bt__jlist_add(r, now, c->pos[i]);
    jv v = jof_tuple(now);
    if (self.u.loop->changed.type != JT_MISSING && bt__jv_equal(r, self.u.loop->changed, v))
        return jbool(false);
    self.u.loop->changed = v;
    return jbool(true);
}

METHOD(is_integer)
{
    (void)a, (void)c, (void)r;
    return jbool(isfinite(self.u.f) && self.u.f == floor(self.u.f));
}

METHOD(bit_length)
{
    (void)a, (void)c, (void)r;
    int64_t i = jas_int(self), n = 0;
    for (uint64_t size = i < 0 ? 0 - (uint64_t)i : (uint64_t)i; size; size >>= 1) n++;
    return jint(n);
}

const jmethod_row bt__jobject_methods[] = {
    {JT_DICT, "get", "key default", 1, m_get},
    {JT_DICT, "items", "", 0, m_items},
    {JT_DICT, "keys", "", 0, m_keys},
    {JT_DICT, "values", "", 0, m_values},
    {JT_DICT, "copy", "", 0, m_copy},
    {JT_LIST, "copy", "", 0, m_copy},
    {JT_LIST, "count", "value", 1, m_count},
    {JT_LIST, "index", "value start stop", 1, m_index},
    {JT_TUPLE, "count", "value", 1, m_count},
    {JT_TUPLE, "index", "value start stop", 1, m_index},
    {JT_RANGE, "count", "value", 1, m_count},
    {JT_RANGE, "index", "value", 1, m_index},
    {JT_CYCLER, "next", "", 0, m_cycler_next},
    {JT_CYCLER, "reset", "", 0, m_cycler_reset},
    {JT_LOOP, "cycle", NULL, 0, m_loop_cycle},
    {JT_LOOP, "changed", NULL, 0, m_loop_changed},
    {JT_FLOAT, "is_integer", "", 0, m_is_integer},
    {JT_INT, "bit_length", "", 0, m_bit_length},
    {JT_BOOL, "bit_length", "", 0, m_bit_length},
    {0},
};

/* ---- look-up */

static const jfunc *find(const jfunc *rows, const char *name, size_t len)
{
    for (; rows->name; rows++)
        if (strlen(rows->name) == len && memcmp(rows->name, name, len) == 0) return rows;
    return NULL;
}

const jfunc *bt__jfilter_find(const char *name, size_t len)
{
    const jfunc *f = find(bt__jlist_filters, name, len);
    return f ? f : find(bt__jtext_filters, name, len);
}

const jfunc *bt__jtest_find(const char *name, size_t len)
{
    return find(tests, name, len);
}

const jfunc *bt__jglobal_find(const char *name, size_t len)
{
    return find(globals, name, len);
}

const jmethod_row *bt__jmethod_find(jtype type, const jstr *name)
{
    const jmethod_row *row = type == JT_STR ? bt__jstr_methods : bt__jobject_methods;
    for (; row->name; row++)
        if (row->type == type && jstr_is(name, row->name)) return row;
    return NULL;
}
