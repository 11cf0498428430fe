/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_access.c - attributes, items, slices, operators, and the binding of arguments, with the
 * words of Python's complaints. */
#include "base/assert.h"
#include "jinja/jinja_run.h"
#include "jinja/jinja_text.h"
#include <stdio.h>

/* ---- attributes */

/* What an immutable sandbox keeps from templates. */
static bool is_mutation(jtype type, const jstr *name)
{
    static const char *const list[] = {"append", "clear", "pop",    "reverse",
                                       "insert", "sort",  "extend", "remove"};
    static const char *const dict[] = {"clear", "pop", "popitem", "setdefault", "update"};
    const char *const *names = type == JT_LIST ? list : dict;
    size_t n = type == JT_LIST ? BT_COUNT(list) : type == JT_DICT ? BT_COUNT(dict) : 0;
    for (size_t i = 0; i < n; i++)
        if (jstr_is(name, names[i])) return true;
    return false;
}

static jv unsafe(jrt *r, jv obj, const jstr *name)
{
    size_t n = name->len + 100;
    char *hint = bt__jalloc(r, n);
    snprintf(hint, n, "access to attribute '%.*s' of '%s' object is unsafe.", (int)name->len,
             name->p, bt__jv_type(obj));
    jundef *u = bt__jalloc(r, sizeof *u);
    *u = (jundef){.hint = hint, .security = true};
    return (jv){.type = JT_UNDEF, .u.undef = u};
}

static jv loop_attribute(jrt *r, jloop *l, const jstr *name)
{
    static const char *const names[] = {"index",  "index0",   "first",     "last",
                                        "length", "revindex", "revindex0", "depth",
                                        "depth0", "previtem", "nextitem"};
    size_t i = 0;
    jv v;
    while (i < BT_COUNT(names) && !jstr_is(name, names[i])) i++;
    switch (i) {
    case 0: return jint(l->index0 + 1);
    case 1: return jint(l->index0);
    case 2: return jbool(l->index0 == 0);
    case 3: return jbool(bt__jloop_next(r, l).type == JT_MISSING);
    case 4: return jint(bt__jloop_len(r, l));
    case 5: return jint(bt__jloop_len(r, l) - l->index0);
    case 6: return jint(bt__jloop_len(r, l) - l->index0 - 1);
    case 7: return jint(l->depth0 + 1);
    case 8: return jint(l->depth0);
    case 9: return l->index0 == 0 ? bt__jundef_hint(r, "there is no previous item") : l->before;
    case 10:
        v = bt__jloop_next(r, l);
        return v.type == JT_MISSING ? bt__jundef_hint(r, "there is no next item") : v;
    default: return jmissing();
    }
}

static jv macro_attribute(jrt *r, const jmacro *m, const jstr *name)
{
    if (jstr_is(name, "name"))
        return m->node->kind == JN_MACRO ? r->tmpl->name[m->node->name] : jnone();
    if (jstr_is(name, "arguments")) {
        jlist *l = bt__jlist_new(r, 0);
        for (const jparam *p = m->node->params; p; p = p->next)
            bt__jlist_add(r, l, r->tmpl->name[p->name]);
        return jof_tuple(l);
    }
    if (jstr_is(name, "caller")) return jbool(m->node->caller);
    if (jstr_is(name, "catch_kwargs")) return jbool(m->node->kwargs);
    if (jstr_is(name, "catch_varargs")) return jbool(m->node->varargs);
    return jmissing();
}

/* Python has these and we do not: better refused by name than taken for undefined. */
static void refuse_missing(jrt *r, jv obj, const jstr *name)
{
    static const struct {
        jtype type;
        const char *names;
    } rows[] = {
        {JT_STR, " encode translate maketrans "},
        {JT_INT, " as_integer_ratio bit_count conjugate from_bytes to_bytes "},
        {JT_BIG, " as_integer_ratio bit_count bit_length conjugate from_bytes to_bytes "},
        {JT_BOOL, " as_integer_ratio bit_count conjugate from_bytes to_bytes "},
        {JT_FLOAT, " as_integer_ratio conjugate fromhex hex "},
        {JT_DICT, " fromkeys "},
        {JT_VIEW, " isdisjoint mapping "},
        {JT_CYCLER, " items "},
        {JT_JOINER, " sep used "},
        {JT_MACRO, " explicit_caller "},
        {JT_ITER, " send throw close "},
    };
    char text[32];
    bool self = obj.type == JT_FUNC && strcmp(obj.u.func->name, "self") == 0;
    bool dict = obj.type == JT_FUNC && strcmp(obj.u.func->name, "dict") == 0;
    if (name->len > sizeof text - 3) return;
    snprintf(text, sizeof text, " %.*s ", (int)name->len, name->p);
    bool known = self || (dict && jstr_is(name, "fromkeys"));
    for (size_t i = 0; i < BT_COUNT(rows) && !known; i++)
        known = rows[i].type == obj.type && strstr(rows[i].names, text);
    if (obj.type == JT_STR && obj.u.s->markup)
        known = known || strstr(" unescape striptags escape ", text);
    if (known)
        bt__jraise(r, BT_JINJA_TYPE, "'%.*s' of '%s' is not supported", (int)name->len, name->p,
                   self || dict ? obj.u.func->name : bt__jv_type(obj));
}

static jv number_attribute(jv v, const jstr *name)
{
    bool whole = v.type != JT_FLOAT;
    if (v.type == JT_BOOL) v = jint(v.u.b);
    if (jstr_is(name, "real") || (whole && jstr_is(name, "numerator"))) return v;
    if (jstr_is(name, "imag")) return whole ? jint(0) : jfloat(0);
    return whole && jstr_is(name, "denominator") ? jint(1) : jmissing();
}

static jv namespace_attribute(jrt *r, jv obj, const jstr *name)
{
    jv key = {.type = JT_STR, .u.s = name};
    const jv *found = bt__jdict_find(r, obj.u.d, key);
    if (found && name->len && name->p[0] == '_') return unsafe(r, obj, name);
    return found ? *found : jmissing();
}

/* What getattr() finds; missing if nothing. */
static jv attribute(jrt *r, jv obj, const jstr *name)
{
    jv v = jmissing();
    if (obj.type == JT_NS) return namespace_attribute(r, obj, name);
    if (name->len > 4 && memcmp(name->p, "__", 2) == 0 &&
        memcmp(name->p + name->len - 2, "__", 2) == 0)
        return unsafe(r, obj, name);
    if (is_mutation(obj.type, name)) return unsafe(r, obj, name);
    if (obj.type == JT_LOOP) v = loop_attribute(r, obj.u.loop, name);
    if (obj.type == JT_MACRO) v = macro_attribute(r, obj.u.macro, name);
    if (obj.type == JT_TUPLE && obj.u.l->group && jstr_is(name, "grouper")) return obj.u.l->v[0];
    if (obj.type == JT_TUPLE && obj.u.l->group && jstr_is(name, "list")) return obj.u.l->v[1];
    if (obj.type == JT_CYCLER && jstr_is(name, "current"))
        return obj.u.cycler->items->v[obj.u.cycler->pos];
    if (obj.type == JT_CYCLER && jstr_is(name, "pos")) return jint((int64_t)obj.u.cycler->pos);
    if (obj.type == JT_RANGE && jstr_is(name, "start")) return jint(obj.u.range->start);
    if (obj.type == JT_RANGE && jstr_is(name, "stop")) return jint(obj.u.range->stop);
    if (obj.type == JT_RANGE && jstr_is(name, "step")) return jint(obj.u.range->step);
    if (jis_num(obj)) v = number_attribute(obj, name);
    if (v.type != JT_MISSING) return v;
    const jmethod_row *row = bt__jmethod_find(obj.type, name);
    if (!row) refuse_missing(r, obj, name);
    if (!row) return v;
    jmethod *m = bt__jalloc(r, sizeof *m);
    *m = (jmethod){.self = obj, .row = row};
    return (jv){.type = JT_METHOD, .u.method = m};
}

/* obj[key]; missing where Python raises TypeError or LookupError. */
static jv item(jrt *r, jv obj, jv key)
{
    int64_t n = 0, i;
    jv v;
    if (obj.type == JT_DICT) {
        if (!bt__jv_hashable(r, key)) return jmissing();
        const jv *found = bt__jdict_find(r, obj.u.d, key);
        return found ? *found : jmissing();
    }
    if (!jis_int(key)) return jmissing();
    if (obj.type != JT_STR && obj.type != JT_LIST && obj.type != JT_TUPLE && obj.type != JT_RANGE)
        return jmissing();
    bt__jv_len(r, obj, &n);
    i = jas_int(key);
    if (i < 0) i += n;
    if (i < 0 || i >= n) return jmissing();
    if (obj.type == JT_RANGE) return jint(obj.u.range->start + i * obj.u.range->step);
    if (obj.type != JT_STR) return obj.u.l->v[i];
    size_t at = bt__jstr_at(obj.u.s, i), end = bt__jstr_at(obj.u.s, i + 1);
    bt__jcharge(r, end);
    v = bt__jstr_sub(r, obj.u.s, at, end - at);
    return v;
}

jv bt__jgetattr(jrt *r, jv obj, jv name)
{
    if (obj.type == JT_UNDEF) bt__jraise_undef(r, obj);
    jv v = attribute(r, obj, name.u.s);
    if (v.type == JT_MISSING && obj.type == JT_DICT) v = item(r, obj, name);
    return v.type == JT_MISSING ? bt__jundef_in(r, obj, name) : v;
}

jv bt__jgetitem(jrt *r, jv obj, jv key)
{
    if (obj.type == JT_UNDEF) bt__jraise_undef(r, obj);
    jv v = item(r, obj, key);
    if (v.type == JT_MISSING && key.type == JT_STR) v = attribute(r, obj, key.u.s);
    return v.type == JT_MISSING ? bt__jundef_in(r, obj, key) : v;
}

/* ---- slices */

static int64_t slice_index(jrt *r, jv v, int64_t initial, int64_t n, int64_t low, int64_t high)
{
    if (v.type == JT_NONE) return initial;
    if (!jis_int(v))
        bt__jraise(r, BT_JINJA_TYPE,
                   "slice indices must be integers or None or have an __index__ method");
    int64_t i = jas_int(v);
    if (i < 0) i = i < -n ? low : i + n;
    return BT_MAX(BT_MIN(i, high), low);
}

static jv slice_str(jrt *r, const jstr *s, int64_t start, int64_t count, int64_t step)
{
    jsb b;
    bt__jcharge(r, s->len);
    if (count == 0) return bt__jstr_mark(r, bt__jstr_lit(r, "").u.s, s->markup);
    if (step == 1) {
        size_t at = bt__jstr_at(s, start), end = bt__jstr_at(s, start + count);
        return bt__jstr_sub(r, s, at, end - at);
    }
    size_t n = (size_t)bt__jstr_chars(s), k = 0;
    uint32_t *at = bt__jalloc(r, (n + 1) * sizeof *at);
    for (uint32_t i = 0; i < s->len; i++)
        if (((unsigned char)s->p[i] & 0xC0) != 0x80) at[k++] = i;
    at[k] = s->len;
    bt__jsb_init(&b, r);
    for (int64_t i = start; count-- > 0; i += step) bt__jsb_sub(&b, s, at[i], at[i + 1] - at[i]);
    b.markup = s->markup;
    return bt__jsb_done(&b);
}

jv bt__jslice(jrt *r, jv obj, jv start, jv stop, jv step)
{
    int64_t n = 0, by = 1;
    if (obj.type == JT_UNDEF) bt__jraise_undef(r, obj);
    if (obj.type == JT_DICT) bt__jraise(r, BT_JINJA_TYPE, "unhashable type: 'slice'");
    if (obj.type != JT_STR && obj.type != JT_LIST && obj.type != JT_TUPLE && obj.type != JT_RANGE)
        bt__jraise(r, BT_JINJA_TYPE, "'%s' object is not subscriptable", bt__jv_type(obj));
    bt__jv_len(r, obj, &n);
    if (step.type != JT_NONE) {
        by = slice_index(r, step, 1, 0, INT64_MIN / 2, INT64_MAX / 2);
        if (jis_int(step)) by = BT_MAX(BT_MIN(jas_int(step), INT32_MAX), -INT32_MAX);
        if (by == 0) bt__jraise(r, BT_JINJA_TYPE, "slice step cannot be zero");
    }
    int64_t low = by < 0 ? -1 : 0, high = by < 0 ? n - 1 : n;
    int64_t from = slice_index(r, start, by < 0 ? high : low, n, low, high);
    int64_t to = slice_index(r, stop, by < 0 ? low : high, n, low, high);
    int64_t count = by > 0 ? (to > from ? (to - from - 1) / by + 1 : 0)
                           : (from > to ? (from - to - 1) / -by + 1 : 0);
    if (obj.type == JT_STR) return slice_str(r, obj.u.s, from, count, by);
    if (obj.type == JT_RANGE) {
        jrange *g = bt__jalloc(r, sizeof *g);
        const jrange *o = obj.u.range;
        *g = (jrange){o->start + from * o->step, o->start + to * o->step, o->step * by};
        return (jv){.type = JT_RANGE, .u.range = g};
    }
    jlist *l = bt__jlist_new(r, (size_t)count);
    for (int64_t i = from; count-- > 0; i += by) bt__jlist_add(r, l, obj.u.l->v[i]);
    return (jv){.type = obj.type, .u.l = l};
}

/* ---- operators */

static const char *op_name(char op)
{
    static const char one[] = "+\0-\0*\0/\0%";
    if (op == JOP_FLOORDIV) return "//";
    if (op == JOP_POW) return "** or pow()";
    return &one[strchr("+ - * / %", op) - "+ - * / %"];
}

static jv escaped(jrt *r, const jstr *s)
{
    jsb b;
    bt__jsb_init(&b, r);
    bt__jsb_escaped(&b, s);
    b.markup = true;
    return bt__jsb_done(&b);
}

static jv add(jrt *r, jv a, jv b)
{
    if (a.type == JT_STR && b.type == JT_STR) {
        if (a.u.s->markup && !b.u.s->markup) b = escaped(r, b.u.s);
        if (b.u.s->markup && !a.u.s->markup) a = escaped(r, a.u.s);
        return bt__jstr_cat(r, a.u.s, b.u.s);
    }
    if (a.type == b.type && (a.type == JT_LIST || a.type == JT_TUPLE)) {
        jlist *l = bt__jlist_new(r, a.u.l->n + b.u.l->n);
        for (size_t i = 0; i < a.u.l->n; i++) bt__jlist_add(r, l, a.u.l->v[i]);
        for (size_t i = 0; i < b.u.l->n; i++) bt__jlist_add(r, l, b.u.l->v[i]);
        return (jv){.type = a.type, .u.l = l};
    }
    if (a.type == JT_STR || a.type == JT_LIST || a.type == JT_TUPLE) {
        const char *type = a.type == JT_STR ? "str" : bt__jv_type(a);
        bt__jraise(r, BT_JINJA_TYPE, "can only concatenate %s (not \"%s\") to %s", type,
                   bt__jv_type(b), type);
    }
    bt__jraise(r, BT_JINJA_TYPE, "unsupported operand type(s) for +: '%s' and '%s'", bt__jv_type(a),
               bt__jv_type(b));
}

static jv repeat(jrt *r, jv seq, int64_t n)
{
    if (n < 0) n = 0;
    if (seq.type == JT_STR) {
        jsb b;
        if (seq.u.s->len && (uint64_t)n > r->limits->memory_bytes / seq.u.s->len)
            bt__jraise(r, BT_JINJA_LIMIT, "the template repeats a text too often");
        if (!seq.u.s->n_segs) {
            size_t len = seq.u.s->len;
            char *p = bt__jalloc(r, len * (size_t)n + 1);
            for (int64_t i = 0; len && i < n; i++) memcpy(p + (size_t)i * len, seq.u.s->p, len);
            jv v = bt__jstr_ref(r, p, len * (size_t)n, seq.u.s->flags);
            return bt__jstr_mark(r, v.u.s, seq.u.s->markup);
        }
        bt__jsb_init(&b, r);
        for (int64_t i = 0; seq.u.s->len && i < n; i++) {
            jstep(r);
            bt__jsb_str(&b, seq.u.s);
        }
        b.markup = seq.u.s->markup;
        return bt__jsb_done(&b);
    }
    jlist *l = bt__jlist_new(r, 0);
    for (int64_t i = 0; seq.u.l->n && i < n; i++)
        for (size_t k = 0; k < seq.u.l->n; k++) {
            jstep(r);
            bt__jlist_add(r, l, seq.u.l->v[k]);
        }
    return (jv){.type = seq.type, .u.l = l};
}

static bool is_sequence(jv v)
{
    return v.type == JT_STR || v.type == JT_LIST || v.type == JT_TUPLE;
}

jv bt__jbinary(jrt *r, char op, jv a, jv b)
{
    if (jis_num(a) && jis_num(b)) return bt__jarith(r, op, a, b);
    if (a.type == JT_UNDEF) bt__jraise_undef(r, a);
    if (op == '%' && a.type == JT_STR) return bt__jpercent(r, a.u.s, b);
    if (b.type == JT_UNDEF) bt__jraise_undef(r, b);
    if (op == '+') return add(r, a, b);
    if (op == '*' && is_sequence(a) && jis_int(b)) return repeat(r, a, jas_int(b));
    if (op == '*' && is_sequence(b) && jis_int(a)) return repeat(r, b, jas_int(a));
    if (op == '*' && (is_sequence(a) || is_sequence(b)))
        bt__jraise(r, BT_JINJA_TYPE, "can't multiply sequence by non-int of type '%s'",
                   bt__jv_type(is_sequence(a) ? b : a));
    bt__jraise(r, BT_JINJA_TYPE, "unsupported operand type(s) for %s: '%s' and '%s'", op_name(op),
               bt__jv_type(a), bt__jv_type(b));
}

bool bt__jcompare(jrt *r, char op, jv a, jv b)
{
    int c;
    switch (op) {
    case JOP_EQ: return bt__jv_equal(r, a, b);
    case JOP_NE: return !bt__jv_equal(r, a, b);
    case JOP_IN: return bt__jv_in(r, a, b);
    case JOP_NOT_IN: return !bt__jv_in(r, a, b);
    case JOP_LT: c = bt__jv_order(r, a, b, "<"); return c == -1;
    case JOP_LE: c = bt__jv_order(r, a, b, "<="); return c == -1 || c == 0;
    case JOP_GT: c = bt__jv_order(r, a, b, ">"); return c == 1;
    default: c = bt__jv_order(r, a, b, ">="); return c == 1 || c == 0;
    }
}

/* ---- arguments */

static int param_index(const char *params, const jstr *name)
{
    int i = 0;
    for (const char *at = params; *at; i++) {
        size_t n = strcspn(at, " ");
        if (n == name->len && memcmp(at, name->p, n) == 0) return i;
        at += n + (at[n] == ' ');
    }
    return -1;
}

void bt__jbind(jrt *r, const char *function, const char *params, int required, const jcall *call,
               jv out[static JARGS_MAX])
{
    int n = params[0] != 0;
    for (const char *at = params; *at; at++) n += *at == ' ';
    BT_ASSERT(n <= JARGS_MAX);
    for (int i = 0; i < JARGS_MAX; i++) out[i] = jmissing();
    if (call->n_pos > (uint32_t)n)
        bt__jraise(r, BT_JINJA_TYPE, "%s() takes at most %d argument%s (%u given)", function, n,
                   n == 1 ? "" : "s", call->n_pos);
    for (uint32_t i = 0; i < call->n_pos; i++) out[i] = call->pos[i];
    for (uint32_t i = 0; i < call->n_kw; i++) {
        const jstr *key = call->key[i].u.s;
        int at = param_index(params, key);
        if (at < 0)
            bt__jraise(r, BT_JINJA_TYPE, "%s() got an unexpected keyword argument '%.*s'", function,
                       (int)key->len, key->p);
        if (out[at].type != JT_MISSING)
            bt__jraise(r, BT_JINJA_TYPE, "%s() got multiple values for argument '%.*s'", function,
                       (int)key->len, key->p);
        out[at] = call->kw[i];
    }
    for (int i = 0; i < required; i++)
        if (out[i].type == JT_MISSING)
            bt__jraise(r, BT_JINJA_TYPE, "%s() is missing a required argument (number %d)",
                       function, i + 1);
}

jv bt__jrun_func(jrt *r, const jfunc *f, const jcall *call)
{
    jv args[JARGS_MAX];
    jstep(r);
    if (f->params) bt__jbind(r, f->name, f->params, f->required, call, args);
    return f->run(r, args, call);
}

jv bt__jrun_filter(jrt *r, const jfunc *f, jv value, const jcall *call)
{
    jv *pos = bt__jalloc(r, (call->n_pos + 1) * sizeof *pos);
    pos[0] = value;
    if (call->n_pos) memcpy(pos + 1, call->pos, call->n_pos * sizeof *pos);
    jcall with = *call;
    with.pos = pos;
    with.n_pos++;
    return bt__jrun_func(r, f, &with);
}

int64_t bt__jarg_int(jrt *r, jv v, int64_t initial)
{
    if (v.type == JT_MISSING) return initial;
    if (v.type == JT_UNDEF) bt__jraise_undef(r, v);
    if (!jis_int(v))
        bt__jraise(r, BT_JINJA_TYPE, "'%s' object cannot be interpreted as an integer",
                   bt__jv_type(v));
    return jas_int(v);
}

bool bt__jarg_bool(jrt *r, jv v, bool initial)
{
    return v.type == JT_MISSING ? initial : bt__jv_true(r, v);
}

const jstr *bt__jarg_str(jrt *r, jv v, const char *what)
{
    if (v.type == JT_UNDEF) bt__jraise_undef(r, v);
    if (v.type != JT_STR)
        bt__jraise(r, BT_JINJA_TYPE, "%s must be str, not %s", what, bt__jv_type(v));
    return v.u.s;
}
