/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_eval.c - walks the tree: names, calls, macros and statements.
 *
 * Scopes chain from the innermost outwards to the root, which holds the context and what the
 * outermost level sets. Loops, macros, with, and the blocks that capture their output open a scope;
 * if does not. A scope may begin with variables that have no value yet (jinja_scope.c). A macro
 * sees the scope it was defined in, not its caller's. */
#include "jinja/jinja_run.h"
#include "jinja/jinja_text.h"
#include <stdio.h>

typedef enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;
static flow exec_list(jrt *r, const jnode *n);

/* ---- names */

static jv name_get(jrt *r, uint32_t name)
{
    const jv *v = NULL;
    for (const jscope *s = r->scope; s && !v; s = s->parent)
        for (uint32_t i = 0; i < s->n && !v; i++)
            if (s->v[i].name == name) v = &s->v[i].value;
    if (!v) v = &r->root[name];
    return v->type == JT_MISSING ? bt__jundef_name(r, r->tmpl->name[name]) : *v;
}

static void scope_add(jrt *r, jscope *s, uint32_t name, jv value)
{
    if (s->n == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 4;
        jvar *grown = bt__jalloc(r, cap * sizeof *grown);
        if (s->n) memcpy(grown, s->v, s->n * sizeof *grown);
        s->v = grown;
        s->cap = cap;
    }
    s->v[s->n++] = (jvar){name, value};
}

static void name_set(jrt *r, uint32_t name, jv value)
{
    jscope *s = r->scope;
    if (!s) {
        r->root[name] = value;
        return;
    }
    for (uint32_t i = 0; i < s->n; i++)
        if (s->v[i].name == name) {
            s->v[i].value = value;
            return;
        }
    scope_add(r, s, name, value);
}

static void scope_begin(jrt *r, jscope *s, const uint32_t *early)
{
    s->n = 0;
    for (; early && *early != UINT32_MAX; early++) scope_add(r, s, *early, jmissing());
}

static jscope *scope_new(jrt *r, jscope *parent, const uint32_t *early)
{
    jscope *s = bt__jalloc(r, sizeof *s);
    s->parent = parent;
    scope_begin(r, s, early);
    return s;
}

static void assign(jrt *r, const jnode *target, jv value);

static void unpack(jrt *r, const jnode *target, jv value)
{
    size_t want = 0, have = 0;
    jv item;
    for (const jnode *n = target->list; n; n = n->next) want++;
    if (!bt__jiter_can(value))
        bt__jraise(r, BT_JINJA_TYPE, "cannot unpack non-iterable %s object", bt__jv_type(value));
    jiter *it = bt__jiter_new(r, value);
    jlist *items = bt__jlist_new(r, want);
    for (; have < want && bt__jiter_next(r, it, &item); have++) bt__jlist_add(r, items, item);
    if (have < want)
        bt__jraise(r, BT_JINJA_TYPE, "not enough values to unpack (expected %zu, got %zu)", want,
                   have);
    if (bt__jiter_next(r, it, &item))
        bt__jraise(r, BT_JINJA_TYPE, "too many values to unpack (expected %zu)", want);
    have = 0;
    for (const jnode *n = target->list; n; n = n->next) assign(r, n, items->v[have++]);
}

static void assign(jrt *r, const jnode *target, jv value)
{
    jenter(r);
    if (target->kind == JN_TUPLE) {
        unpack(r, target, value);
    } else if (target->kind == JN_NSREF) {
        jv ns = name_get(r, target->name);
        bt__jdict_put(r, ns.u.d, target->value, value);
    } else {
        name_set(r, target->name, value);
    }
    jleave(r);
}

/* Every namespace that a target names must be one, before anything is assigned. */
static void check_refs(jrt *r, const jnode *target)
{
    if (target->kind == JN_NSREF && name_get(r, target->name).type != JT_NS)
        bt__jraise(r, BT_JINJA_TYPE, "cannot assign attribute on non-namespace object");
    if (target->kind == JN_TUPLE)
        for (const jnode *n = target->list; n; n = n->next) check_refs(r, n);
}

/* ---- calls */

/* Evaluates arguments; value, unless missing, comes first. extra: a keyword added at the end. */
static jcall eval_args(jrt *r, const jargs *a, jv value, const char *extra, jv extra_value)
{
    jlist *pos = bt__jlist_new(r, (a ? a->n_pos : 0) + 1u);
    jdict *kw = (a && (a->n_kw || a->star2)) || extra ? bt__jdict_new(r, 0) : NULL;
    if (value.type != JT_MISSING) bt__jlist_add(r, pos, value);
    if (a) {
        jv item;
        for (const jnode *n = a->pos; n; n = n->next) bt__jlist_add(r, pos, bt__jeval(r, n));
        for (const jnode *n = a->kw; n; n = n->next)
            bt__jdict_put(r, kw, n->value, bt__jeval(r, n->a));
        if (a->star) {
            jiter *it = bt__jiter_new(r, bt__jeval(r, a->star));
            while (bt__jiter_next(r, it, &item)) bt__jlist_add(r, pos, item);
        }
        if (a->star2) {
            jv more = bt__jeval(r, a->star2);
            if (more.type != JT_DICT)
                bt__jraise(r, BT_JINJA_TYPE, "argument after ** must be a mapping, not %s",
                           bt__jv_type(more));
            for (uint32_t i = 0; i < more.u.d->n; i++) {
                if (more.u.d->e[i].key.type != JT_STR)
                    bt__jraise(r, BT_JINJA_TYPE, "keywords must be strings");
                bt__jdict_put(r, kw, more.u.d->e[i].key, more.u.d->e[i].value);
            }
        }
    }
    if (extra) bt__jdict_put_text(r, kw, extra, extra_value);
    jcall call = {.pos = pos->v, .n_pos = (uint32_t)pos->n};
    if (kw && kw->n) {
        jv *names = bt__jalloc(r, kw->n * 2 * sizeof *names);
        for (uint32_t i = 0; i < kw->n; i++) {
            names[i] = kw->e[i].key;
            names[kw->n + i] = kw->e[i].value;
        }
        call.key = names;
        call.kw = names + kw->n;
        call.n_kw = kw->n;
    }
    return call;
}

static const char *macro_name(jrt *r, const jmacro *m, char dst[static 80])
{
    const jstr *s = m->node->kind == JN_MACRO ? r->tmpl->name[m->node->name].u.s : NULL;
    snprintf(dst, 80, "%.*s", s ? (int)BT_MIN(s->len, 70u) : 4, s ? s->p : "None");
    return dst;
}

static uint32_t name_of_text(jrt *r, const char *text)
{
    for (uint32_t i = 0; i < r->tmpl->n_names; i++)
        if (jstr_is(r->tmpl->name[i].u.s, text)) return i;
    return UINT32_MAX;
}

/* Binds the special names that the body reads: caller, kwargs, varargs. */
static void macro_specials(jrt *r, const jmacro *m, const jcall *call, const bool *used,
                           uint32_t n_params)
{
    const jnode *n = m->node;
    char name[80];
    jdict *rest = bt__jdict_new(r, 0);
    jv caller = jmissing();
    bool declared = false;
    for (const jparam *p = n->params; p; p = p->next)
        declared |= jstr_is(r->tmpl->name[p->name].u.s, "caller");
    for (uint32_t i = 0; i < call->n_kw; i++) {
        if (used[i]) continue;
        if (n->caller && !declared && jstr_is(call->key[i].u.s, "caller"))
            caller = call->kw[i];
        else
            bt__jdict_put(r, rest, call->key[i], call->kw[i]);
    }
    if (n->caller && !declared) {
        if (caller.type == JT_MISSING || caller.type == JT_NONE)
            caller = bt__jundef_hint(r, "No caller defined");
        name_set(r, name_of_text(r, "caller"), caller);
    }
    if (n->kwargs) {
        name_set(r, name_of_text(r, "kwargs"), jof_dict(rest));
    } else if (rest->n) {
        const jstr *key = rest->e[0].key.u.s;
        macro_name(r, m, name);
        if (bt__jdict_find_text(rest, "caller"))
            bt__jraise(r, BT_JINJA_TYPE,
                       "macro '%s' was invoked with two values for the special caller argument. "
                       "This is most likely a bug.",
                       name);
        bt__jraise(r, BT_JINJA_TYPE, "macro '%s' takes no keyword argument '%.*s'", name,
                   (int)key->len, key->p);
    }
    if (n->varargs) {
        jlist *more = bt__jlist_new(r, 0);
        for (uint32_t i = n_params; i < call->n_pos; i++) bt__jlist_add(r, more, call->pos[i]);
        name_set(r, name_of_text(r, "varargs"), jof_tuple(more));
    } else if (call->n_pos > n_params) {
        bt__jraise(r, BT_JINJA_TYPE, "macro '%s' takes not more than %u argument(s)",
                   macro_name(r, m, name), n_params);
    }
}

/* A parameter that was not given: its default, which sees the parameters that already have values.
 */
static jv param_initial(jrt *r, const jparam *p)
{
    if (p->initial) return bt__jeval(r, p->initial);
    const jstr *name = r->tmpl->name[p->name].u.s;
    size_t n = name->len + 40;
    char *hint = bt__jalloc(r, n);
    snprintf(hint, n, "parameter '%.*s' was not provided", (int)name->len, name->p);
    return bt__jundef_hint(r, hint);
}

static void macro_bind(jrt *r, const jmacro *m, const jcall *call)
{
    uint32_t at = 0;
    bool *used = bt__jalloc(r, call->n_kw + 1);
    for (const jparam *p = m->node->params; p; p = p->next, at++) {
        jv value = at < call->n_pos ? call->pos[at] : jmissing();
        for (uint32_t i = 0; at >= call->n_pos && i < call->n_kw; i++)
            if (bt__jv_equal(r, call->key[i], r->tmpl->name[p->name])) {
                value = call->kw[i];
                used[i] = true;
            }
        scope_add(r, r->scope, p->name, value);
    }
    uint32_t first = r->scope->n - at;
    at = 0;
    for (const jparam *p = m->node->params; p; p = p->next, at++)
        if (r->scope->v[first + at].value.type == JT_MISSING)
            name_set(r, p->name, param_initial(r, p));
    macro_specials(r, m, call, used, at);
}

/* Runs a body with its output captured. */
static jv capture(jrt *r, const jnode *list)
{
    jsb b, *outer = r->out;
    bt__jsb_init(&b, r);
    b.max = r->limits->output_bytes;
    r->out = &b;
    exec_list(r, list);
    r->out = outer;
    return bt__jsb_done(&b);
}

static jv call_macro(jrt *r, const jmacro *m, const jcall *call)
{
    jscope *outer = r->scope;
    int32_t line = r->line;
    r->scope = scope_new(r, m->scope, m->node->early);
    macro_bind(r, m, call);
    jv text = capture(r, m->node->list);
    r->scope = outer;
    r->line = line;
    return text;
}

static jv run_loop(jrt *r, const jnode *n, jscope *outer, jv iterable, int32_t depth0);

static jv call_loop(jrt *r, jloop *loop, const jcall *call)
{
    if (!loop->node->flag)
        bt__jraise(r, BT_JINJA_TYPE,
                   "The loop must have the 'recursive' marker to be called recursively.");
    if (call->n_pos != 1 || call->n_kw)
        bt__jraise(r, BT_JINJA_TYPE, "loop() takes exactly one argument");
    return run_loop(r, loop->node, loop->outer, call->pos[0], loop->depth0 + 1);
}

jv bt__jcall(jrt *r, jv callee, const jcall *call)
{
    jv v, args[JARGS_MAX];
    jenter(r);
    switch (callee.type) {
    case JT_MACRO: v = call_macro(r, callee.u.macro, call); break;
    case JT_FUNC: v = bt__jrun_func(r, callee.u.func, call); break;
    case JT_METHOD: {
        const jmethod_row *row = callee.u.method->row;
        if (row->params) bt__jbind(r, row->name, row->params, row->required, call, args);
        v = row->run(r, callee.u.method->self, args, call);
        break;
    }
    case JT_LOOP: v = call_loop(r, callee.u.loop, call); break;
    case JT_JOINER:
        v = callee.u.cycler->pos++ ? callee.u.cycler->items->v[0] : bt__jstr_lit(r, "");
        break;
    case JT_UNDEF: bt__jraise_undef(r, callee);
    default: bt__jraise(r, BT_JINJA_TYPE, "'%s' object is not callable", bt__jv_type(callee));
    }
    jleave(r);
    return v;
}

/* ---- expressions */

static jv eval_filter(jrt *r, const jnode *n, jv value)
{
    if (!n->func)
        bt__jraise(r, BT_JINJA_TYPE, "No %s named '%.*s' found.",
                   n->kind == JN_FILTER ? "filter" : "test", (int)n->value.u.s->len,
                   n->value.u.s->p);
    jcall call = eval_args(r, n->args, value, NULL, jnone());
    r->line = n->line;
    return bt__jrun_func(r, n->func, &call);
}

/* Filters over a captured text: the innermost has no value of its own. */
static jv eval_filters_over(jrt *r, const jnode *n, jv text)
{
    if (!n) return text;
    jenter(r);
    jv v = eval_filter(r, n, eval_filters_over(r, n->a, text));
    jleave(r);
    return v;
}

static jv eval_items(jrt *r, const jnode *n)
{
    jlist *l = bt__jlist_new(r, 0);
    for (const jnode *item = n->list; item; item = item->next)
        bt__jlist_add(r, l, bt__jeval(r, item));
    return n->kind == JN_LIST ? jof_list(l) : jof_tuple(l);
}

static jv eval_dict(jrt *r, const jnode *n)
{
    jdict *d = bt__jdict_new(r, 0);
    for (const jnode *key = n->list; key; key = key->next->next) {
        jv k = bt__jeval(r, key);
        bt__jdict_put(r, d, k, bt__jeval(r, key->next));
    }
    return jof_dict(d);
}

static jv eval_concat(jrt *r, const jnode *n)
{
    jv text = bt__jstr_lit(r, "");
    for (const jnode *item = n->list; item; item = item->next) {
        jv part = bt__jv_str(r, bt__jeval(r, item));
        text = bt__jstr_cat(r, text.u.s, bt__jstr_mark(r, part.u.s, false).u.s);
    }
    return text;
}

static jv eval_compare(jrt *r, const jnode *n)
{
    jv left = bt__jeval(r, n->a);
    for (const jnode *op = n->list; op; op = op->next) {
        jv right = bt__jeval(r, op->a);
        r->line = n->line;
        if (!bt__jcompare(r, (char)op->op, left, right)) return jbool(false);
        left = right;
    }
    return jbool(true);
}

static jv eval_cond(jrt *r, const jnode *n)
{
    if (bt__jv_true(r, bt__jeval(r, n->a))) return bt__jeval(r, n->b);
    if (n->c) return bt__jeval(r, n->c);
    static const char hint[] = "the inline if-expression on line %d evaluated to false and no else "
                               "section was defined.";
    char *text = bt__jalloc(r, sizeof hint + 16);
    snprintf(text, sizeof hint + 16, hint, n->line);
    return bt__jundef_hint(r, text);
}

static jv eval_sign(jrt *r, const jnode *n)
{
    jv v = bt__jeval(r, n->a);
    if (v.type == JT_UNDEF) bt__jraise_undef(r, v);
    if (!jis_num(v))
        bt__jraise(r, BT_JINJA_TYPE, "bad operand type for unary %c: '%s'", n->op, bt__jv_type(v));
    if (n->op == '+') return jis_int(v) ? jint(jas_int(v)) : v;
    if (v.type == JT_FLOAT) return jfloat(-v.u.f);
    return bt__jarith(r, '-', jint(0), v);
}

static jv eval_slice(jrt *r, const jnode *n)
{
    jv obj = bt__jeval(r, n->a);
    jv start = n->b ? bt__jeval(r, n->b) : jnone(), stop = n->c ? bt__jeval(r, n->c) : jnone();
    jv step = n->d ? bt__jeval(r, n->d) : jnone();
    r->line = n->line;
    return bt__jslice(r, obj, start, stop, step);
}

static jv eval_call(jrt *r, const jnode *n, const char *extra, jv extra_value)
{
    jv callee = bt__jeval(r, n->a);
    jcall call = eval_args(r, n->args, jmissing(), extra, extra_value);
    r->line = n->line;
    return bt__jcall(r, callee, &call);
}

static jv eval_any(jrt *r, const jnode *n)
{
    jv a, b;
    switch (n->kind) {
    case JN_CONST: return n->value;
    case JN_NAME: return name_get(r, n->name);
    case JN_LIST:
    case JN_TUPLE: return eval_items(r, n);
    case JN_DICT: return eval_dict(r, n);
    case JN_ATTR:
        a = bt__jeval(r, n->a);
        r->line = n->line;
        return bt__jgetattr(r, a, n->value);
    case JN_ITEM:
        a = bt__jeval(r, n->a);
        b = bt__jeval(r, n->b);
        r->line = n->line;
        return bt__jgetitem(r, a, b);
    case JN_SLICE: return eval_slice(r, n);
    case JN_CALL: return eval_call(r, n, NULL, jnone());
    case JN_FILTER:
    case JN_TEST: return eval_filter(r, n, bt__jeval(r, n->a));
    case JN_COND: return eval_cond(r, n);
    case JN_AND: a = bt__jeval(r, n->a); return bt__jv_true(r, a) ? bt__jeval(r, n->b) : a;
    case JN_OR: a = bt__jeval(r, n->a); return bt__jv_true(r, a) ? a : bt__jeval(r, n->b);
    case JN_NOT: return jbool(!bt__jv_true(r, bt__jeval(r, n->a)));
    case JN_SIGN: return eval_sign(r, n);
    case JN_ARITH:
        a = bt__jeval(r, n->a);
        b = bt__jeval(r, n->b);
        r->line = n->line;
        return bt__jbinary(r, (char)n->op, a, b);
    case JN_CONCAT: return eval_concat(r, n);
    default: return eval_compare(r, n);
    }
}

jv bt__jeval(jrt *r, const jnode *n)
{
    jstep(r);
    jenter(r);
    jv v = eval_any(r, n);
    jleave(r);
    return v;
}

/* ---- loops */

/* The next item that passes the loop's own condition, seen from a scope with its targets only. */
static bool loop_pull(jrt *r, jloop *loop, jv *out)
{
    if (loop->rest) {
        if (loop->rest_at == loop->rest->n) return false;
        *out = loop->rest->v[loop->rest_at++];
        return true;
    }
    while (bt__jiter_next(r, loop->it, out)) {
        if (!loop->node->c) return true;
        jscope *inner = r->scope;
        r->scope = scope_new(r, loop->outer, NULL);
        assign(r, loop->node->a, *out);
        bool pass = bt__jv_true(r, bt__jeval(r, loop->node->c));
        r->scope = inner;
        if (pass) return true;
    }
    return false;
}

jv bt__jloop_next(jrt *r, jloop *loop)
{
    if (!loop->has_after) {
        if (!loop_pull(r, loop, &loop->after)) return jmissing();
        loop->has_after = true;
    }
    return loop->after;
}

int64_t bt__jloop_len(jrt *r, jloop *loop)
{
    int64_t n;
    if (loop->length >= 0) return loop->length;
    if (!loop->node->c && loop->iterable.type != JT_UNDEF && bt__jv_len(r, loop->iterable, &n)) {
        loop->length = n;
        return n;
    }
    jlist *rest = bt__jlist_new(r, 0);
    jv item;
    while (loop_pull(r, loop, &item)) bt__jlist_add(r, rest, item);
    loop->rest = rest;
    loop->rest_at = 0;
    loop->length = (int64_t)rest->n + loop->index0 + 1 + loop->has_after;
    return loop->length;
}

static flow exec_loop(jrt *r, const jnode *n, jscope *outer, jv iterable, int32_t depth0)
{
    flow after = FLOW_ON;
    jscope *saved = r->scope;
    jloop *loop = bt__jalloc(r, sizeof *loop);
    *loop = (jloop){.node = n,
                    .outer = outer,
                    .iterable = iterable,
                    .index0 = -1,
                    .length = -1,
                    .depth0 = depth0,
                    .now = jmissing(),
                    .before = jmissing(),
                    .changed = jmissing()};
    r->line = n->line;
    loop->it = bt__jiter_new(r, iterable);
    jscope *inner = scope_new(r, outer, NULL);
    bool finished = false; // a turn came to its end: else is for loops where none did
    for (;;) {
        jv item = bt__jloop_next(r, loop);
        if (item.type == JT_MISSING) break;
        loop->has_after = false;
        loop->index0++;
        loop->before = loop->now;
        loop->now = item;
        scope_begin(r, inner, n->early);
        r->scope = inner;
        name_set(r, n->name, (jv){.type = JT_LOOP, .u.loop = loop});
        assign(r, n->a, item);
        flow f = exec_list(r, n->list);
        finished |= f == FLOW_ON;
        if (f == FLOW_BREAK) break;
        r->scope = outer;
    }
    if (!finished && n->d) {
        r->scope = scope_new(r, outer, n->early_else);
        after = exec_list(r, n->d); // a jump there is the loop's around us
    }
    r->scope = saved;
    return after;
}

static jv run_loop(jrt *r, const jnode *n, jscope *outer, jv iterable, int32_t depth0)
{
    jsb b, *out = r->out;
    bt__jsb_init(&b, r);
    b.max = r->limits->output_bytes;
    r->out = &b;
    exec_loop(r, n, outer, iterable, depth0);
    r->out = out;
    return bt__jsb_done(&b);
}

/* ---- statements */

static flow exec_if(jrt *r, const jnode *n)
{
    while (n && n->kind == JN_IF) {
        jstep(r);
        r->line = n->line;
        if (bt__jv_true(r, bt__jeval(r, n->a))) return exec_list(r, n->list);
        /* an elif is an IF alone; an else that begins with an if has been read as a list */
        if (!n->d || n->d->kind != JN_IF || !n->d->flag) return n->d ? exec_list(r, n->d) : FLOW_ON;
        n = n->d;
    }
    return FLOW_ON;
}

static void exec_set_block(jrt *r, const jnode *n)
{
    jscope *outer = r->scope;
    check_refs(r, n->a);
    r->scope = scope_new(r, outer, n->early);
    jv text = capture(r, n->list);
    text = eval_filters_over(r, n->b, text);
    r->scope = outer;
    assign(r, n->a, text);
}

static flow exec_scoped(jrt *r, const jnode *n)
{
    jscope *outer = r->scope, *inner = scope_new(r, outer, n->early);
    for (const jnode *set = n->d; set; set = set->next) {
        jv value = bt__jeval(r, set->b);
        r->scope = inner;
        assign(r, set->a, value);
        r->scope = outer;
    }
    r->scope = inner;
    flow f = exec_list(r, n->list);
    r->scope = outer;
    return f;
}

/* What a filter or call block makes is joined to the text as it is. */
static void write_text(jrt *r, jv v)
{
    if (v.type != JT_STR)
        bt__jraise(r, BT_JINJA_TYPE, "sequence item 0: expected str instance, %s found",
                   bt__jv_type(v));
    bt__jsb_str(r->out, v.u.s);
}

static jv macro_value(jrt *r, const jnode *n)
{
    jmacro *m = bt__jalloc(r, sizeof *m);
    *m = (jmacro){.node = n, .scope = r->scope};
    return (jv){.type = JT_MACRO, .u.macro = m};
}

static flow exec_one(jrt *r, const jnode *n)
{
    jscope *outer = r->scope;
    unsigned flags = r->out->or_flags;
    r->line = n->line;
    switch (n->kind) {
    case JN_TEXT: bt__jsb_add(r->out, n->value.u.s->p, n->value.u.s->len, 0); break;
    case JN_PRINT: bt__jsb_value(r->out, bt__jeval(r, n->a)); break;
    case JN_FOR: return exec_loop(r, n, r->scope, bt__jeval(r, n->b), 0);
    case JN_IF: return exec_if(r, n);
    case JN_SET:
        check_refs(r, n->a);
        assign(r, n->a, bt__jeval(r, n->b));
        break;
    case JN_SET_BLOCK: exec_set_block(r, n); break;
    case JN_MACRO: name_set(r, n->name, macro_value(r, n)); break;
    case JN_CALL_BLOCK: write_text(r, eval_call(r, n->a, "caller", macro_value(r, n))); break;
    case JN_FILTER_BLOCK:
        r->scope = scope_new(r, outer, n->early);
        write_text(r, eval_filters_over(r, n->b, capture(r, n->list)));
        break;
    case JN_AUTOESCAPE:
        if (bt__jv_true(r, bt__jeval(r, n->a)))
            bt__jraise(r, BT_JINJA_TYPE, "autoescape is not supported in chat templates");
        return exec_scoped(r, n);
    case JN_WITH: return exec_scoped(r, n);
    case JN_BLOCK: // sees the context and the outermost level only, unless it is scoped
        r->scope = scope_new(r, n->flag ? outer : NULL, n->early);
        exec_list(r, n->list);
        break;
    case JN_GENERATION:
        r->out->or_flags |= BT_JINJA_GENERATION;
        exec_scoped(r, n);
        r->out->or_flags = flags;
        break;
    case JN_BREAK: return FLOW_BREAK;
    case JN_CONTINUE: return FLOW_CONTINUE;
    default: bt__jraise(r, BT_JINJA_TYPE, "no loader for this environment specified");
    }
    r->scope = outer;
    return FLOW_ON;
}

static flow exec_list(jrt *r, const jnode *n)
{
    flow f = FLOW_ON;
    jenter(r);
    for (; n && f == FLOW_ON; n = n->next) {
        jstep(r);
        f = exec_one(r, n);
    }
    jleave(r);
    return f;
}

void bt__jexec(jrt *r, const jnode *list)
{
    exec_list(r, list);
}
