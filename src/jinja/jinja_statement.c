/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_statement.c - statements, and the check that every filter and test exists. */
#include "jinja/jinja_parse.h"
#include <stdio.h>

static jnode *parse_body(jparser *p, const char *ends);

static bool at_one_of(const jparser *p, const char *names)
{
    if (p->t->kind != JTOK_NAME) return false;
    for (const char *at = names; *at;) {
        size_t n = strcspn(at, " ");
        if (n == p->t->len && memcmp(at, p->t->p, n) == 0) return true;
        at += n + (at[n] == ' ');
    }
    return false;
}

static _Noreturn void fail_tag(jparser *p, const char *tag, size_t len)
{
    char text[300];
    int n = tag ? snprintf(text, sizeof text, "Encountered unknown tag '%.*s'.",
                           (int)BT_MIN(len, (size_t)60), tag)
                : snprintf(text, sizeof text, "Unexpected end of template.");
    if (p->wants) {
        n += snprintf(text + n, sizeof text - (size_t)n,
                      " Jinja was looking for the following tags:");
        for (const char *at = p->wants; *at;) {
            int size = (int)strcspn(at, " ");
            n += snprintf(text + n, sizeof text - (size_t)n, "%s '%.*s'",
                          at == p->wants ? "" : " or", size, at);
            at += size + (at[size] == ' ');
        }
        snprintf(text + n, sizeof text - (size_t)n,
                 ". The innermost block that needs to be closed is '%.*s'.", (int)p->tag->len,
                 p->tag->p);
    }
    bt__jfail_at(p, p->t->line, text);
}

static void expect_block_end(jparser *p)
{
    if (p->t->kind != JTOK_BLOCK_END) bt__jfail_expected(p, "end of statement block");
    p->t++;
}

/* The rest of the opening tag, the body, up to one of the end tags, which is left current. */
static jnode *parse_statements(jparser *p, const char *ends)
{
    const char *outer = p->wants;
    const jtok *tag = p->tag;
    bt__jskip_op(p, ':');
    expect_block_end(p);
    p->wants = ends;
    p->tag = p->open;
    jnode *list = parse_body(p, ends);
    if (p->t->kind == JTOK_EOF) fail_tag(p, NULL, 0);
    p->wants = outer;
    p->tag = tag;
    return list;
}

static jnode *parse_block_of(jparser *p, jnode *n, const char *end)
{
    n->list = parse_statements(p, end);
    p->t++;
    return n;
}

static void check_target(jparser *p, const jnode *n)
{
    char text[80];
    if (n->kind == JN_TUPLE) {
        for (const jnode *item = n->list; item; item = item->next) check_target(p, item);
        return;
    }
    if (n->kind == JN_NAME || n->kind == JN_NSREF) return;
    snprintf(text, sizeof text, "can't assign to '%s'",
             n->kind == JN_CONST  ? "const"
             : n->kind == JN_LIST ? "list"
             : n->kind == JN_DICT ? "dict"
                                  : "expression");
    bt__jfail_at(p, n->line, text);
}

static bool names_loop(const jparser *p, const jnode *target)
{
    if (target->kind == JN_TUPLE) {
        for (const jnode *item = target->list; item; item = item->next)
            if (names_loop(p, item)) return true;
        return false;
    }
    return target->kind == JN_NAME && jstr_is(p->name[target->name].u.s, "loop");
}

static jnode *parse_target(jparser *p, unsigned how, const char *end_name)
{
    unsigned seen = p->seen; // a name that is stored was not read
    jnode *n = bt__jparse_tuple(p, JTUPLE_TARGET | how, end_name);
    p->seen = seen;
    check_target(p, n);
    p->loop_stores += names_loop(p, n);
    return n;
}

static uint32_t parse_target_name(jparser *p)
{
    if (p->t->kind != JTOK_NAME) bt__jfail_expected(p, "name");
    const jtok *t = p->t++;
    return bt__jname_id(p, t->p, t->len);
}

static jnode *parse_set(jparser *p, jnode *n)
{
    n->a = parse_target(p, JTUPLE_NAMESPACE, NULL);
    if (bt__jskip_op(p, '=')) {
        n->kind = JN_SET;
        n->b = bt__jparse_tuple(p, 0, NULL);
        return n;
    }
    n->kind = JN_SET_BLOCK;
    n->b = bt__jparse_filter(p, NULL, false);
    return parse_block_of(p, n, "endset");
}

static jnode *parse_for(jparser *p, jnode *n)
{
    int stores = p->loop_stores, loops = p->loops;
    n->kind = JN_FOR;
    n->a = parse_target(p, 0, "in");
    bt__jexpect_name(p, "in");
    n->b = bt__jparse_tuple(p, JTUPLE_NO_COND, "recursive");
    if (bt__jskip_name(p, "if")) n->c = bt__jparse_expr(p, true);
    n->flag = bt__jskip_name(p, "recursive");
    n->name = bt__jname_id(p, "loop", 4);
    p->loops++;
    n->list = parse_statements(p, "endfor else");
    p->loops = n->flag ? 0 : loops; // a recursive loop is a function of its own
    if (bt__jskip_name(p, "else")) n->d = parse_statements(p, "endfor");
    p->loops = loops;
    p->t++;
    if (p->loop_stores != stores)
        bt__jfail_at(p, n->line, "Can't assign to special loop variable in for-loop target");
    return n;
}

static jnode *parse_if(jparser *p, jnode *n)
{
    n->kind = JN_IF;
    n->a = bt__jparse_tuple(p, JTUPLE_NO_COND, NULL);
    n->list = parse_statements(p, "elif else endif");
    jnode *last = n;
    while (bt__jat_name(p, "elif")) {
        jnode *more = bt__jnode_new(p, JN_IF, p->t++->line);
        more->flag = true; // an elif, not an if inside else
        more->a = bt__jparse_tuple(p, JTUPLE_NO_COND, NULL);
        more->list = parse_statements(p, "elif else endif");
        last->d = more;
        last = more;
    }
    if (bt__jskip_name(p, "else")) last->d = parse_statements(p, "endif");
    p->t++;
    return n;
}

static void parse_signature(jparser *p, jnode *n)
{
    jparam **to = &n->params;
    bool initials = false;
    bt__jexpect_op(p, '(');
    while (!jat_op(p, ')')) {
        if (n->params) bt__jexpect_op(p, ',');
        jparam *param = bt__jalloc(p->r, sizeof *param);
        param->name = parse_target_name(p);
        for (const jparam *other = n->params; other; other = other->next)
            if (other->name == param->name) bt__jfail_at(p, n->line, "a parameter is named twice");
        if (bt__jskip_op(p, '=')) {
            param->initial = bt__jparse_expr(p, true);
            initials = true;
        } else if (initials) {
            bt__jfail_at(p, p->t->line, "non-default argument follows default argument");
        }
        *to = param;
        to = &param->next;
    }
    bt__jexpect_op(p, ')');
}

/* The body of a macro or call block: a function of its own, with caller, kwargs and varargs where
 * it reads them and does not declare them. */
static jnode *parse_function(jparser *p, jnode *n, const char *end)
{
    unsigned seen = p->seen, declared = 0;
    int loops = p->loops;
    p->seen = 0;
    p->loops = 0;
    n->list = parse_statements(p, end);
    p->t++;
    for (const jparam *param = n->params; param; param = param->next) {
        unsigned which = bt__jseen(p->name[param->name].u.s);
        if (which == JSEEN_CALLER && p->seen & which && !param->initial)
            bt__jfail_at(p, n->line,
                         "When defining macros or call blocks the special \"caller\" argument "
                         "must be omitted or be given a default.");
        declared |= which;
    }
    n->caller = p->seen & JSEEN_CALLER;
    n->kwargs = p->seen & ~declared & JSEEN_KWARGS;
    n->varargs = p->seen & ~declared & JSEEN_VARARGS;
    p->seen |= seen;
    p->loops = loops;
    return n;
}

static jnode *parse_macro(jparser *p, jnode *n)
{
    n->kind = JN_MACRO;
    n->name = parse_target_name(p);
    parse_signature(p, n);
    return parse_function(p, n, "endmacro");
}

static jnode *parse_call_block(jparser *p, jnode *n)
{
    n->kind = JN_CALL_BLOCK;
    if (jat_op(p, '(')) parse_signature(p, n);
    n->a = bt__jparse_expr(p, true);
    if (n->a->kind != JN_CALL) bt__jfail_at(p, n->line, "expected call");
    return parse_function(p, n, "endcall");
}

static jnode *parse_with(jparser *p, jnode *n)
{
    jnode **to = &n->d;
    n->kind = JN_WITH;
    while (p->t->kind != JTOK_BLOCK_END) {
        if (n->d) bt__jexpect_op(p, ',');
        *to = bt__jnode_new(p, JN_SET, p->t->line);
        (*to)->a = bt__jparse_primary(p, false);
        check_target(p, (*to)->a);
        bt__jexpect_op(p, '=');
        (*to)->b = bt__jparse_expr(p, true);
        to = &(*to)->next;
    }
    return parse_block_of(p, n, "endwith");
}

static jnode *parse_print(jparser *p, jnode *n)
{
    jnode *first = NULL, **to = &first;
    (void)n;
    while (p->t->kind != JTOK_BLOCK_END) {
        if (first) bt__jexpect_op(p, ',');
        *to = bt__jnode_new(p, JN_PRINT, p->t->line);
        (*to)->a = bt__jparse_expr(p, true);
        to = &(*to)->next;
    }
    return first;
}

static jnode *parse_filter_block(jparser *p, jnode *n)
{
    n->kind = JN_FILTER_BLOCK;
    n->b = bt__jparse_filter(p, NULL, true);
    return parse_block_of(p, n, "endfilter");
}

static jnode *parse_generation(jparser *p, jnode *n)
{
    int loops = p->loops;
    n->kind = JN_GENERATION;
    p->loops = 0; // its body is a function of its own
    parse_block_of(p, n, "endgeneration");
    p->loops = loops;
    return n;
}

static jnode *parse_jump(jparser *p, jnode *n)
{
    bool is_break = p->t[-1].len == 5;
    n->kind = is_break ? JN_BREAK : JN_CONTINUE;
    if (!p->loops)
        bt__jfail_at(p, n->line,
                     is_break ? "'break' outside loop" : "'continue' not properly in loop");
    return n;
}

static jnode *parse_named_block(jparser *p, jnode *n)
{
    char text[120];
    unsigned seen = p->seen;
    int loops = p->loops;
    n->kind = JN_BLOCK;
    if (p->t->kind != JTOK_NAME) bt__jfail_expected(p, "name");
    const jtok *name = p->t++;
    jparam *block = bt__jalloc(p->r, sizeof *block);
    *block = (jparam){.name = bt__jname_id(p, name->p, name->len), .next = p->blocks};
    if (++p->n_blocks > JPARSE_BLOCKS_MAX)
        bt__jfail_at(p, n->line, "the template has too many blocks");
    for (const jparam *other = p->blocks; other; other = other->next)
        if (other->name == block->name) {
            snprintf(text, sizeof text, "block '%.*s' defined twice",
                     (int)BT_MIN(name->len, (size_t)80), name->p);
            bt__jfail_at(p, n->line, text);
        }
    p->blocks = block;
    n->flag = bt__jskip_name(p, "scoped");
    if (bt__jat_name(p, "required"))
        bt__jfail_at(p, n->line, "a required block needs a template that extends this one");
    p->loops = 0; // its body is a function of its own
    parse_block_of(p, n, "endblock");
    p->loops = loops;
    p->seen = seen;
    if (p->t->kind == JTOK_NAME && p->t->len == name->len &&
        memcmp(p->t->p, name->p, name->len) == 0)
        p->t++;
    return n;
}

static jnode *parse_autoescape(jparser *p, jnode *n)
{
    n->kind = JN_AUTOESCAPE;
    n->a = bt__jparse_expr(p, true);
    return parse_block_of(p, n, "endautoescape");
}

/* include, import, from, extends: read over, and refused when reached. */
static jnode *parse_loader(jparser *p, jnode *n)
{
    n->kind = JN_LOADER;
    while (p->t->kind != JTOK_BLOCK_END && p->t->kind != JTOK_EOF) p->t++;
    return n;
}

static jnode *parse_statement(jparser *p)
{
    static const struct {
        const char *name;
        jnode *(*parse)(jparser *p, jnode *n);
    } rows[] = {
        {"set", parse_set},
        {"if", parse_if},
        {"for", parse_for},
        {"macro", parse_macro},
        {"call", parse_call_block},
        {"filter", parse_filter_block},
        {"with", parse_with},
        {"generation", parse_generation},
        {"break", parse_jump},
        {"continue", parse_jump},
        {"print", parse_print},
        {"block", parse_named_block},
        {"include", parse_loader},
        {"import", parse_loader},
        {"from", parse_loader},
        {"extends", parse_loader},
        {"autoescape", parse_autoescape},
    };
    if (p->t->kind != JTOK_NAME) bt__jfail_at(p, p->t->line, "tag name expected");
    for (size_t i = 0; i < BT_COUNT(rows); i++)
        if (bt__jat_name(p, rows[i].name)) {
            if (++p->depth > JPARSE_DEPTH_MAX)
                bt__jfail_at(p, p->t->line, "the template is nested too deep");
            const jtok *outer = p->open;
            p->open = p->t;
            jnode *n = bt__jnode_new(p, JN_BLOCK, p->t++->line);
            n = rows[i].parse(p, n);
            p->open = outer;
            p->depth--;
            return n;
        }
    fail_tag(p, p->t->p, p->t->len);
}

static jnode *parse_body(jparser *p, const char *ends)
{
    jnode *list = NULL, **to = &list;
    while (p->t->kind != JTOK_EOF) {
        const jtok *t = p->t++;
        if (t->kind == JTOK_DATA) {
            *to = bt__jnode_new(p, JN_TEXT, t->line);
            (*to)->value = bt__jstr_ref(p->r, t->p, t->len, 0);
            bt__jstr_chars((*to)->value.u.s);
        } else if (t->kind == JTOK_VAR_BEGIN) {
            jnode *n = bt__jnode_new(p, JN_PRINT, t->line);
            n->a = bt__jparse_tuple(p, 0, NULL);
            if (p->t->kind != JTOK_VAR_END) bt__jfail_expected(p, "end of print statement");
            p->t++;
            *to = n;
        } else {
            if (ends && at_one_of(p, ends)) break;
            *to = parse_statement(p);
            expect_block_end(p);
        }
        while (*to) to = &(*to)->next;
    }
    return list;
}

/* jinja2 refuses unknown filters and tests when it compiles, except under a condition. */
static void check_known(jrt *r, const jnode *n, bool soft)
{
    jenter(r);
    for (; n; n = n->next) {
        bool below = soft || n->kind == JN_COND;
        if (n->kind == JN_IF)
            below = true;
        else if (n->kind <= JN_LOADER && n->kind != JN_PRINT && n->kind != JN_SET)
            below = false;
        if ((n->kind == JN_FILTER || n->kind == JN_TEST) && !n->func && !below) {
            r->line = n->line;
            bt__jraise(r, BT_JINJA_SYNTAX, "No %s named '%.*s'.",
                       n->kind == JN_FILTER ? "filter" : "test", (int)n->value.u.s->len,
                       n->value.u.s->p);
        }
        const jnode *children[] = {n->a, n->b, n->c, n->d, n->list};
        for (size_t i = 0; i < BT_COUNT(children); i++)
            if (children[i]) {
                bool outer = (n->kind == JN_FOR && children[i] == n->b) ||
                             (n->kind == JN_CALL_BLOCK && children[i] == n->a);
                check_known(r, children[i], outer ? soft : below);
            }
        if (n->args) {
            const jnode *args[] = {n->args->pos, n->args->kw, n->args->star, n->args->star2};
            for (size_t i = 0; i < BT_COUNT(args); i++)
                if (args[i]) check_known(r, args[i], below);
        }
        for (const jparam *param = n->params; param; param = param->next)
            if (param->initial) check_known(r, param->initial, below);
    }
    jleave(r);
}

void bt__jparse(jrt *r, bt_jinja *t, jparser *p, const jtok *tokens)
{
    p->r = r;
    p->t = tokens;
    t->body = parse_body(p, NULL);
    check_known(r, t->body, false);
    t->early = bt__jscopes(r, t->body);
    t->name = p->name;
    t->n_names = p->n_names;
}
