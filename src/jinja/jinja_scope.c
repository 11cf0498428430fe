/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_scope.c - which variables begin a scope without a value.
 *
 * jinja2 knows the variables of a scope before it runs: one that the scope sets before it reads it
 * is undefined until then, for the loops and macros inside it too, whatever the context has by that
 * name:
 *
 *     {% for x in [1] %}{{ tools }}{% endfor %}{% set tools = [] %}        shows nothing
 *
 * This is jinja2's analysis (idtracking.py), for the one case that shows: the first that the scope
 * does with the variable is to set it, outside of conditions, and no scope around has it. */
#include "jinja/jinja_parse.h"

enum { WORK_MAX = 20 * 1000 * 1000 }; // comparisons; a template of many thousand names is refused

typedef struct symbol {
    uint32_t name;
    bool early; // begins without a value
} symbol;

typedef struct frame {
    const struct frame *parent;
    symbol *v;
    uint32_t n, cap;
    int conditions; // around what is being visited
} frame;

typedef struct scoper {
    jrt *r;
    uint32_t work;
} scoper;

/* ---- symbols */

static bool own(scoper *x, const frame *f, uint32_t name)
{
    x->work += f->n;
    if (x->work > WORK_MAX)
        bt__jraise(x->r, BT_JINJA_LIMIT, "the template has too many variables in one scope");
    for (uint32_t i = 0; i < f->n; i++)
        if (f->v[i].name == name) return true;
    return false;
}

static bool known(scoper *x, const frame *f, uint32_t name)
{
    for (; f; f = f->parent)
        if (own(x, f, name)) return true;
    return false;
}

static void define(scoper *x, frame *f, uint32_t name, bool early)
{
    if (f->n == f->cap) {
        uint32_t cap = f->cap ? f->cap * 2 : 8;
        symbol *grown = bt__jalloc(x->r, cap * sizeof *grown);
        if (f->n) memcpy(grown, f->v, f->n * sizeof *grown);
        f->v = grown;
        f->cap = cap;
    }
    f->v[f->n++] = (symbol){name, early};
}

static void on_read(scoper *x, frame *f, uint32_t name)
{
    if (!known(x, f, name)) define(x, f, name, false);
}

static void on_store(scoper *x, frame *f, uint32_t name)
{
    if (!own(x, f, name)) define(x, f, name, !f->conditions && !known(x, f->parent, name));
}

static void on_param(scoper *x, frame *f, uint32_t name)
{
    if (!own(x, f, name)) define(x, f, name, false);
}

/* ---- what a scope does itself, without the scopes inside it */

static void visit_list(scoper *x, frame *f, const jnode *list);

static void visit_expr(scoper *x, frame *f, const jnode *n)
{
    for (; n; n = n->next) {
        if (n->kind == JN_NAME || n->kind == JN_NSREF) on_read(x, f, n->name);
        const jnode *children[] = {n->a, n->b, n->c, n->d, n->list};
        for (size_t i = 0; i < BT_COUNT(children); i++)
            if (children[i]) visit_expr(x, f, children[i]);
        if (!n->args) continue;
        visit_expr(x, f, n->args->pos);
        visit_expr(x, f, n->args->kw);
        visit_expr(x, f, n->args->star);
        visit_expr(x, f, n->args->star2);
    }
}

static void visit_target(scoper *x, frame *f, const jnode *n, bool param)
{
    if (n->kind == JN_TUPLE) {
        for (const jnode *item = n->list; item; item = item->next) visit_target(x, f, item, param);
    } else if (n->kind == JN_NSREF) {
        on_read(x, f, n->name);
    } else if (param) {
        on_param(x, f, n->name);
    } else {
        on_store(x, f, n->name);
    }
}

static void visit_if(scoper *x, frame *f, const jnode *n)
{
    f->conditions++;
    for (; n && n->kind == JN_IF; n = n->d) {
        visit_expr(x, f, n->a);
        visit_list(x, f, n->list);
        if (!n->d || n->d->kind != JN_IF || !n->d->flag) {
            visit_list(x, f, n->d);
            break;
        }
    }
    f->conditions--;
}

static void visit_list(scoper *x, frame *f, const jnode *list)
{
    for (const jnode *n = list; n; n = n->next) switch (n->kind) {
        case JN_PRINT: visit_expr(x, f, n->a); break;
        case JN_SET:
            visit_expr(x, f, n->b);
            visit_target(x, f, n->a, false);
            break;
        case JN_SET_BLOCK: visit_target(x, f, n->a, false); break;
        case JN_IF: visit_if(x, f, n); break;
        case JN_FOR: visit_expr(x, f, n->b); break;
        case JN_MACRO: on_store(x, f, n->name); break;
        case JN_CALL_BLOCK: visit_expr(x, f, n->a); break;
        case JN_FILTER_BLOCK: visit_expr(x, f, n->b); break;
        case JN_WITH:
            for (const jnode *set = n->d; set; set = set->next) visit_expr(x, f, set->b);
            break;
        default: break;
        }
}

/* ---- the scopes inside */

static void open_inner(scoper *x, const frame *f, jnode *list);

/* The names that begin without a value, up to UINT32_MAX; NULL if there are none. */
static const uint32_t *close_frame(scoper *x, const frame *f, jnode *list)
{
    uint32_t n = 0, at = 0, *early = NULL;
    for (uint32_t i = 0; i < f->n; i++) n += f->v[i].early;
    if (n) {
        early = bt__jalloc(x->r, (n + 1) * sizeof *early);
        for (uint32_t i = 0; i < f->n; i++)
            if (f->v[i].early) early[at++] = f->v[i].name;
        early[at] = UINT32_MAX;
    }
    open_inner(x, f, list);
    return early;
}

static void open_one(scoper *x, const frame *f, jnode *n)
{
    frame inner = {.parent = n->kind == JN_BLOCK ? NULL : f}, other = {.parent = f};
    if (n->kind == JN_FOR) {
        on_param(x, &inner, n->name);
        visit_target(x, &inner, n->a, true);
        visit_list(x, &other, n->d);
        n->early_else = close_frame(x, &other, n->d);
    }
    for (const jparam *p = n->params; p; p = p->next) on_param(x, &inner, p->name);
    for (const jparam *p = n->params; p; p = p->next) visit_expr(x, &inner, p->initial);
    if (n->kind == JN_WITH)
        for (const jnode *set = n->d; set; set = set->next) visit_target(x, &inner, set->a, true);
    visit_list(x, &inner, n->list);
    if (n->kind == JN_FILTER_BLOCK) visit_expr(x, &inner, n->b);
    n->early = close_frame(x, &inner, n->list);
}

static void open_inner(scoper *x, const frame *f, jnode *list)
{
    jenter(x->r);
    for (jnode *n = list; n; n = n->next) {
        if (n->kind == JN_IF) {
            open_inner(x, f, n->list);
            open_inner(x, f, n->d);
        } else if (n->list && n->kind < JN_CONST) {
            open_one(x, f, n);
        }
    }
    jleave(x->r);
}

const uint32_t *bt__jscopes(jrt *r, jnode *body)
{
    scoper x = {.r = r};
    frame root = {0};
    visit_list(&x, &root, body);
    return close_frame(&x, &root, body);
}
