/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_parser.c - expressions, by jinja2's grammar and precedence. Statements are in
 * jinja_statement.c. */
#include "jinja/jinja_parse.h"
#include "base/hash.h"
#include <stdio.h>

/* ---- tokens */

_Noreturn void bt__jfail_at(jparser *p, int32_t line, const char *what)
{
    p->r->line = line;
    bt__jraise(p->r, BT_JINJA_SYNTAX, "%s", what);
}

void bt__jtok_text(const jtok *t, char dst[static 80])
{
    static const char *const names[] = {"end of template",          "template data / text",
                                        "begin of statement block", "end of statement block",
                                        "begin of print statement", "end of print statement"};
    static const char twos[] = "f//p**e==n!=l<=g>=";
    if (t->kind <= JTOK_VAR_END)
        snprintf(dst, 80, "%s", names[t->kind]);
    else if (t->kind == JTOK_NAME)
        snprintf(dst, 80, "%.*s", (int)BT_MIN(t->len, (size_t)60), t->p);
    else if (t->kind == JTOK_VALUE)
        snprintf(dst, 80, "%s",
                 t->value.type == JT_STR     ? "string"
                 : t->value.type == JT_FLOAT ? "float"
                                             : "integer");
    else {
        const char *two = strchr("fpenlg", t->op) ? strchr(twos, t->op) : NULL;
        snprintf(dst, 80, "%.*s", two ? 2 : 1, two ? two + 1 : (char[]){(char)t->op, 0});
    }
}

_Noreturn void bt__jfail_expected(jparser *p, const char *want)
{
    char have[80], text[200];
    bt__jtok_text(p->t, have);
    if (p->t->kind == JTOK_EOF)
        snprintf(text, sizeof text, "unexpected end of template, expected '%s'.", want);
    else
        snprintf(text, sizeof text, "expected token '%s', got '%s'", want, have);
    bt__jfail_at(p, p->t->line, text);
}

bool bt__jskip_op(jparser *p, int op)
{
    if (!jat_op(p, op)) return false;
    p->t++;
    return true;
}

void bt__jexpect_op(jparser *p, int op)
{
    char text[2] = {(char)op, 0};
    if (!bt__jskip_op(p, op)) bt__jfail_expected(p, text);
}

bool bt__jat_name(const jparser *p, const char *name)
{
    return p->t->kind == JTOK_NAME && strlen(name) == p->t->len &&
           memcmp(name, p->t->p, p->t->len) == 0;
}

bool bt__jskip_name(jparser *p, const char *name)
{
    if (!bt__jat_name(p, name)) return false;
    p->t++;
    return true;
}

void bt__jexpect_name(jparser *p, const char *name)
{
    if (!bt__jskip_name(p, name)) bt__jfail_expected(p, name);
}

jnode *bt__jnode_new(jparser *p, jkind kind, int32_t line)
{
    jnode *n = bt__jalloc(p->r, sizeof *n);
    n->kind = (uint8_t)kind;
    n->line = line;
    return n;
}

/* The id of a name; the same for the same text. */
uint32_t bt__jname_id(jparser *p, const char *text, size_t len)
{
    uint64_t id, hash = bt_hash(text, len, p->r->seed) | 1;
    while (bt_map_get(&p->names, hash, &id)) {
        const jstr *s = p->name[id].u.s;
        if (s->len == len && memcmp(s->p, text, len) == 0) return (uint32_t)id;
        hash += 2;
    }
    if (p->n_names == p->cap_names) {
        uint32_t cap = p->cap_names ? p->cap_names * 2 : 32;
        jv *grown = bt__jalloc(p->r, cap * sizeof *grown);
        if (p->n_names) memcpy(grown, p->name, p->n_names * sizeof *grown);
        p->name = grown;
        p->cap_names = cap;
    }
    jv name = bt__jstr_new(p->r, text, len, 0);
    bt__jstr_chars(name.u.s);
    if (!bt_map_put(&p->names, hash, p->n_names))
        bt__jraise(p->r, BT_JINJA_MEMORY, "out of memory for the template");
    p->name[p->n_names] = name;
    return p->n_names++;
}

static jv name_value(jparser *p, const jtok *t)
{
    uint32_t id = bt__jname_id(p, t->p, t->len); // may move the table
    return p->name[id];
}

static const jtok *expect_any_name(jparser *p)
{
    if (p->t->kind != JTOK_NAME) bt__jfail_expected(p, "name");
    return p->t++;
}

static void nest(jparser *p)
{
    if (++p->depth > JPARSE_DEPTH_MAX)
        bt__jfail_at(p, p->t->line, "the template is nested too deep");
}

/* ---- primaries */

static jnode *parse_list(jparser *p)
{
    jnode *n = bt__jnode_new(p, JN_LIST, p->t->line), **to = &n->list;
    bt__jexpect_op(p, '[');
    while (!jat_op(p, ']')) {
        if (n->list) bt__jexpect_op(p, ',');
        if (jat_op(p, ']')) break;
        *to = bt__jparse_expr(p, true);
        to = &(*to)->next;
    }
    bt__jexpect_op(p, ']');
    return n;
}

static jnode *parse_dict(jparser *p)
{
    jnode *n = bt__jnode_new(p, JN_DICT, p->t->line), **to = &n->list;
    bt__jexpect_op(p, '{');
    while (!jat_op(p, '}')) {
        if (n->list) bt__jexpect_op(p, ',');
        if (jat_op(p, '}')) break;
        *to = bt__jparse_expr(p, true);
        to = &(*to)->next;
        bt__jexpect_op(p, ':');
        *to = bt__jparse_expr(p, true);
        to = &(*to)->next;
    }
    bt__jexpect_op(p, '}');
    return n;
}

static jnode *parse_name(jparser *p, bool with_namespace)
{
    static const struct {
        const char *text;
        int value; // 0 false, 1 true, 2 none
    } words[] = {{"true", 1}, {"false", 0}, {"True", 1}, {"False", 0}, {"none", 2}, {"None", 2}};
    jnode *n = bt__jnode_new(p, JN_CONST, p->t->line);
    for (size_t i = 0; i < BT_COUNT(words); i++)
        if (bt__jskip_name(p, words[i].text)) {
            n->value = words[i].value == 2 ? jnone() : jbool(words[i].value);
            return n;
        }
    const jtok *t = p->t++;
    n->name = bt__jname_id(p, t->p, t->len);
    n->kind = JN_NAME;
    p->seen |= bt__jseen(p->name[n->name].u.s);
    if (with_namespace && bt__jskip_op(p, '.')) {
        n->kind = JN_NSREF;
        n->value = name_value(p, expect_any_name(p));
    }
    return n;
}

unsigned bt__jseen(const jstr *name)
{
    return jstr_is(name, "caller")    ? JSEEN_CALLER
           : jstr_is(name, "kwargs")  ? JSEEN_KWARGS
           : jstr_is(name, "varargs") ? JSEEN_VARARGS
                                      : 0;
}

static jnode *parse_value(jparser *p)
{
    jnode *n = bt__jnode_new(p, JN_CONST, p->t->line);
    n->value = p->t++->value;
    while (n->value.type == JT_STR && p->t->kind == JTOK_VALUE && p->t->value.type == JT_STR) {
        n->value = bt__jstr_cat(p->r, n->value.u.s, p->t++->value.u.s);
        bt__jstr_chars(n->value.u.s);
    }
    return n;
}

jnode *bt__jparse_primary(jparser *p, bool with_namespace)
{
    char have[80], text[120];
    jnode *n;
    if (p->t->kind == JTOK_NAME) return parse_name(p, with_namespace);
    if (p->t->kind == JTOK_VALUE) return parse_value(p);
    if (jat_op(p, '[') || jat_op(p, '{') || jat_op(p, '(')) {
        nest(p);
        if (jat_op(p, '[')) {
            n = parse_list(p);
        } else if (jat_op(p, '{')) {
            n = parse_dict(p);
        } else {
            p->t++;
            n = bt__jparse_tuple(p, JTUPLE_PARENS, NULL);
            bt__jexpect_op(p, ')');
        }
        p->depth--;
        return n;
    }
    bt__jtok_text(p->t, have);
    snprintf(text, sizeof text, "unexpected '%s'", have);
    bt__jfail_at(p, p->t->line, text);
}

static bool tuple_end(const jparser *p, const char *end_name)
{
    return p->t->kind == JTOK_VAR_END || p->t->kind == JTOK_BLOCK_END || jat_op(p, ')') ||
           (end_name && bt__jat_name(p, end_name));
}

jnode *bt__jparse_tuple(jparser *p, unsigned how, const char *end_name)
{
    jnode *list = NULL, **to = &list;
    int32_t line = p->t->line;
    bool is_tuple = false;
    for (;;) {
        if (list) bt__jexpect_op(p, ',');
        if (tuple_end(p, end_name)) break;
        *to = how & JTUPLE_TARGET ? bt__jparse_primary(p, how & JTUPLE_NAMESPACE)
                                  : bt__jparse_expr(p, !(how & JTUPLE_NO_COND));
        to = &(*to)->next;
        if (!jat_op(p, ',')) break;
        is_tuple = true;
    }
    if (!is_tuple) {
        if (list) return list;
        if (!(how & JTUPLE_PARENS)) {
            char have[80], text[120];
            bt__jtok_text(p->t, have);
            snprintf(text, sizeof text, "Expected an expression, got '%s'", have);
            bt__jfail_at(p, p->t->line, text);
        }
    }
    jnode *n = bt__jnode_new(p, JN_TUPLE, line);
    n->list = list;
    return n;
}

/* ---- subscripts and calls */

static jnode *parse_subscript_item(jparser *p)
{
    jnode *part[3] = {NULL, NULL, NULL};
    int32_t line = p->t->line;
    if (!jat_op(p, ':')) {
        part[0] = bt__jparse_expr(p, true);
        if (!jat_op(p, ':')) return part[0];
    }
    for (int i = 1; i < 3 && bt__jskip_op(p, ':'); i++)
        if (!jat_op(p, ':') && !jat_op(p, ']') && !jat_op(p, ','))
            part[i] = bt__jparse_expr(p, true);
    jnode *n = bt__jnode_new(p, JN_SLICE, line);
    n->b = part[0];
    n->c = part[1];
    n->d = part[2];
    return n;
}

static jnode *parse_subscript(jparser *p, jnode *obj)
{
    int32_t line = p->t->line;
    jnode *n = bt__jnode_new(p, JN_ITEM, line);
    n->a = obj;
    if (bt__jskip_op(p, '.')) {
        const jtok *t = p->t++;
        if (t->kind == JTOK_NAME) {
            n->kind = JN_ATTR;
            n->value = name_value(p, t);
            return n;
        }
        if (t->kind != JTOK_VALUE || t->value.type != JT_INT)
            bt__jfail_at(p, t->line, "expected name or number");
        n->b = bt__jnode_new(p, JN_CONST, t->line);
        n->b->value = t->value;
        return n;
    }
    jnode *list = NULL, **to = &list;
    bt__jexpect_op(p, '[');
    nest(p);
    while (!jat_op(p, ']')) {
        if (list) bt__jexpect_op(p, ',');
        *to = parse_subscript_item(p);
        to = &(*to)->next;
    }
    p->depth--;
    bt__jexpect_op(p, ']');
    if (list && !list->next) {
        if (list->kind != JN_SLICE) {
            n->b = list;
            return n;
        }
        list->a = obj;
        return list;
    }
    for (jnode *item = list; item; item = item->next)
        if (item->kind == JN_SLICE)
            bt__jfail_at(p, line, "slices of more than one dimension are not supported");
    n->b = bt__jnode_new(p, JN_TUPLE, line);
    n->b->list = list;
    return n;
}

static jargs *parse_call_args(jparser *p)
{
    static const char wrong[] = "invalid syntax for function call expression";
    jargs *a = bt__jalloc(p->r, sizeof *a);
    jnode **pos = &a->pos, **kw = &a->kw;
    int32_t line = p->t->line;
    bt__jexpect_op(p, '(');
    nest(p);
    for (bool more = false; !jat_op(p, ')'); more = true) {
        if (more) {
            bt__jexpect_op(p, ',');
            if (jat_op(p, ')')) break;
        }
        if (jat_op(p, '*')) {
            if (a->star || a->star2) bt__jfail_at(p, line, wrong);
            p->t++;
            a->star = bt__jparse_expr(p, true);
        } else if (jat_op(p, JOP_POW)) {
            if (a->star2) bt__jfail_at(p, line, wrong);
            p->t++;
            a->star2 = bt__jparse_expr(p, true);
        } else if (p->t->kind == JTOK_NAME && p->t[1].kind == JTOK_OP && p->t[1].op == '=') {
            if (a->star2) bt__jfail_at(p, line, wrong);
            *kw = bt__jnode_new(p, JN_KEYWORD, p->t->line);
            (*kw)->value = name_value(p, p->t);
            for (const jnode *k = a->kw; k != *kw; k = k->next)
                if (k->value.u.s == (*kw)->value.u.s)
                    bt__jfail_at(p, line, "a keyword argument is repeated");
            p->t += 2;
            (*kw)->a = bt__jparse_expr(p, true);
            kw = &(*kw)->next;
            a->n_kw++;
        } else {
            if (a->star || a->star2 || a->kw) bt__jfail_at(p, line, wrong);
            *pos = bt__jparse_expr(p, true);
            pos = &(*pos)->next;
            a->n_pos++;
        }
    }
    p->depth--;
    bt__jexpect_op(p, ')');
    return a;
}

static jnode *parse_call(jparser *p, jnode *callee)
{
    jnode *n = bt__jnode_new(p, JN_CALL, p->t->line);
    n->a = callee;
    n->args = parse_call_args(p);
    return n;
}

static jnode *parse_postfix(jparser *p, jnode *n)
{
    for (;;) {
        if (jat_op(p, '.') || jat_op(p, '['))
            n = parse_subscript(p, n);
        else if (jat_op(p, '('))
            n = parse_call(p, n);
        else
            return n;
    }
}

/* A name with dots, as filters and tests may have. */
static jv dotted_name(jparser *p, char *text, size_t cap)
{
    const jtok *t = expect_any_name(p);
    size_t len = BT_MIN(t->len, cap - 1);
    memcpy(text, t->p, len);
    while (bt__jskip_op(p, '.')) {
        t = expect_any_name(p);
        len += (size_t)snprintf(text + len, cap - len, ".%.*s", (int)t->len, t->p);
        len = BT_MIN(len, cap - 1);
    }
    text[len] = 0;
    jv name = bt__jstr_new(p->r, text, len, 0);
    bt__jstr_chars(name.u.s);
    return name;
}

jnode *bt__jparse_filter(jparser *p, jnode *value, bool start_inline)
{
    char name[100];
    while (jat_op(p, '|') || start_inline) {
        if (!start_inline) p->t++;
        jnode *n = bt__jnode_new(p, JN_FILTER, p->t->line);
        n->value = dotted_name(p, name, sizeof name);
        n->func = bt__jfilter_find(name, strlen(name));
        n->a = value;
        if (jat_op(p, '(')) n->args = parse_call_args(p);
        value = n;
        start_inline = false;
    }
    return value;
}

static jnode *parse_test(jparser *p, jnode *value)
{
    char name[100];
    jnode *n = bt__jnode_new(p, JN_TEST, p->t++->line);
    bool negated = bt__jskip_name(p, "not");
    n->a = value;
    n->value = dotted_name(p, name, sizeof name);
    n->func = bt__jtest_find(name, strlen(name));
    bool bare =
        p->t->kind == JTOK_NAME || p->t->kind == JTOK_VALUE || jat_op(p, '[') || jat_op(p, '{');
    if (jat_op(p, '(')) {
        n->args = parse_call_args(p);
    } else if (bare && !bt__jat_name(p, "else") && !bt__jat_name(p, "or") &&
               !bt__jat_name(p, "and")) {
        if (bt__jat_name(p, "is"))
            bt__jfail_at(p, p->t->line, "You cannot chain multiple tests with is");
        n->args = bt__jalloc(p->r, sizeof *n->args);
        n->args->pos = parse_postfix(p, bt__jparse_primary(p, false));
        n->args->n_pos = 1;
    }
    if (!negated) return n;
    jnode *not = bt__jnode_new(p, JN_NOT, n->line);
    not ->a = n;
    return not ;
}

/* ---- operators, loosest last */

static jnode *binary(jparser *p, jkind kind, int op, int32_t line, jnode *a, jnode *b)
{
    jnode *n = bt__jnode_new(p, kind, line);
    n->op = (uint8_t)op;
    n->a = a;
    n->b = b;
    return n;
}

static jnode *parse_unary(jparser *p, bool with_filter)
{
    jnode *n;
    int32_t line = p->t->line;
    if (jat_op(p, '-') || jat_op(p, '+')) {
        int op = p->t++->op;
        nest(p);
        n = binary(p, JN_SIGN, op, line, parse_unary(p, false), NULL);
        p->depth--;
    } else {
        n = bt__jparse_primary(p, false);
    }
    n = parse_postfix(p, n);
    while (with_filter) {
        if (jat_op(p, '|'))
            n = bt__jparse_filter(p, n, false);
        else if (bt__jat_name(p, "is"))
            n = parse_test(p, n);
        else if (jat_op(p, '('))
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

static jnode *parse_pow(jparser *p)
{
    jnode *n = parse_unary(p, true);
    while (jat_op(p, JOP_POW)) {
        int32_t line = p->t++->line;
        n = binary(p, JN_ARITH, JOP_POW, line, n, parse_unary(p, true));
    }
    return n;
}

static jnode *parse_product(jparser *p)
{
    jnode *n = parse_pow(p);
    while (jat_op(p, '*') || jat_op(p, '/') || jat_op(p, JOP_FLOORDIV) || jat_op(p, '%')) {
        const jtok *t = p->t++;
        n = binary(p, JN_ARITH, t->op, t->line, n, parse_pow(p));
    }
    return n;
}

static jnode *parse_concat(jparser *p)
{
    jnode *first = parse_product(p);
    if (!jat_op(p, '~')) return first;
    jnode *n = bt__jnode_new(p, JN_CONCAT, p->t->line), **to = &first->next;
    n->list = first;
    while (bt__jskip_op(p, '~')) {
        *to = parse_product(p);
        to = &(*to)->next;
    }
    return n;
}

static jnode *parse_sum(jparser *p)
{
    jnode *n = parse_concat(p);
    while (jat_op(p, '+') || jat_op(p, '-')) {
        const jtok *t = p->t++;
        n = binary(p, JN_ARITH, t->op, t->line, n, parse_concat(p));
    }
    return n;
}

static int compare_op(jparser *p)
{
    if (p->t->kind == JTOK_OP && p->t->op && strchr("enlg<>", p->t->op)) return p->t++->op;
    if (bt__jskip_name(p, "in")) return JOP_IN;
    if (bt__jat_name(p, "not") && p->t[1].kind == JTOK_NAME && p->t[1].len == 2 &&
        memcmp(p->t[1].p, "in", 2) == 0) {
        p->t += 2;
        return JOP_NOT_IN;
    }
    return 0;
}

static jnode *parse_compare(jparser *p)
{
    jnode *first = parse_sum(p), *n = NULL, **to = NULL;
    int op;
    int32_t line = p->t->line;
    while ((op = compare_op(p)) != 0) {
        if (!n) {
            n = bt__jnode_new(p, JN_COMPARE, line);
            n->a = first;
            to = &n->list;
        }
        *to = binary(p, JN_OPERAND, op, line, parse_sum(p), NULL);
        to = &(*to)->next;
    }
    return n ? n : first;
}

static jnode *parse_not(jparser *p)
{
    if (!bt__jat_name(p, "not")) return parse_compare(p);
    int32_t line = p->t++->line;
    nest(p);
    jnode *n = binary(p, JN_NOT, 0, line, parse_not(p), NULL);
    p->depth--;
    return n;
}

static jnode *parse_and(jparser *p)
{
    jnode *n = parse_not(p);
    while (bt__jat_name(p, "and")) {
        int32_t line = p->t++->line;
        n = binary(p, JN_AND, 0, line, n, parse_not(p));
    }
    return n;
}

static jnode *parse_or(jparser *p)
{
    jnode *n = parse_and(p);
    while (bt__jat_name(p, "or")) {
        int32_t line = p->t++->line;
        n = binary(p, JN_OR, 0, line, n, parse_and(p));
    }
    return n;
}

jnode *bt__jparse_expr(jparser *p, bool with_cond)
{
    nest(p);
    jnode *n = parse_or(p);
    while (with_cond && bt__jat_name(p, "if")) {
        jnode *cond = bt__jnode_new(p, JN_COND, p->t++->line);
        cond->b = n;
        cond->a = parse_or(p);
        if (bt__jskip_name(p, "else")) cond->c = bt__jparse_expr(p, true);
        n = cond;
    }
    p->depth--;
    return n;
}
