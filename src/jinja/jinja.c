/* SPDX-License-Identifier: Apache-2.0 */
/* jinja.c - compiling and rendering: the two places that own a run and catch its faults. */
#include "jinja/jinja.h"
#include "base/assert.h"
#include "base/crypto.h"
#include "base/utf8.h"
#include "jinja/jinja_parse.h"
#include "jinja/jinja_run.h"
#include "jinja/jinja_text.h"
#include <time.h>

const bt_jinja_limits bt_jinja_default_limits = {
    .source_bytes = 1 << 20,
    .compile_bytes = 64 << 20,
    .steps = 20 * 1000 * 1000,
    .output_bytes = 16 << 20,
    .memory_bytes = 256 << 20,
    .depth = 900,
};

static bt_jinja_limits limits_of(const bt_jinja_limits *l)
{
    bt_jinja_limits use = bt_jinja_default_limits;
    if (!l) return use;
    if (l->source_bytes) use.source_bytes = l->source_bytes;
    if (l->compile_bytes) use.compile_bytes = l->compile_bytes;
    if (l->steps) use.steps = l->steps;
    if (l->output_bytes) use.output_bytes = l->output_bytes;
    if (l->memory_bytes) use.memory_bytes = l->memory_bytes;
    if (l->depth) use.depth = l->depth;
    return use;
}

int64_t bt_jinja_local_us(int64_t wall_us)
{
    struct tm tm;
    time_t seconds = (time_t)(wall_us / 1000000);
    if (!localtime_r(&seconds, &tm)) return wall_us;
    return wall_us + (int64_t)tm.tm_gmtoff * 1000000;
}

static bt_status fault_status(bt_jinja_fault f)
{
    switch (f) {
    case BT_JINJA_OK: return BT_OK;
    case BT_JINJA_MEMORY: return BT_ENOMEM;
    case BT_JINJA_LIMIT: return BT_ETOOBIG;
    default: return BT_EINVAL;
    }
}

static bt_status report(const bt_jinja_error *e, bt_status st, bt_err *err)
{
    size_t len = strnlen(e->msg, sizeof err->msg - 40);
    len = bt_utf8_valid_prefix(e->msg, len);
    if (e->fault == BT_JINJA_RAISED || e->fault == BT_JINJA_CONTEXT || !e->line)
        return bt_err_set(err, st, 0, "%.*s", (int)len, e->msg);
    return bt_err_set(err, st, 0, "line %d of the chat template: %.*s", e->line, (int)len, e->msg);
}

/* Newlines become '\n' and one at the very end is dropped, as jinja2 does. */
static char *normalize(jrt *r, const char *source, size_t len, size_t *out_len)
{
    char *text = bt__jalloc(r, len + 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (source[i] == '\r') {
            text[n++] = '\n';
            if (i + 1 < len && source[i + 1] == '\n') i++;
        } else {
            text[n++] = source[i];
        }
    }
    if (n && text[n - 1] == '\n') n--;
    text[n] = 0;
    *out_len = n;
    return text;
}

static void compile(jrt *r, bt_jinja *t, jparser *p, const char *source, size_t len)
{
    size_t n;
    size_t valid = bt_utf8_valid_prefix(source, len);
    if (len > r->limits->source_bytes)
        bt__jraise(r, BT_JINJA_LIMIT, "the template is longer than %zu KiB",
                   r->limits->source_bytes >> 10);
    if (valid != len)
        bt__jraise(r, BT_JINJA_SYNTAX, "byte %zu of the template is not UTF-8", valid);
    t->source = normalize(r, source, len, &n);
    r->line = 1;
    bt__jparse(r, t, p, bt__jlex(r, t->source, n));
}

bt_status bt_jinja_compile(const char *source, size_t len, const bt_jinja_limits *limits,
                           bt_jinja **out, bt_jinja_error *error, bt_err *err)
{
    jrt *r = bt_calloc(1, sizeof *r);
    bt_jinja *t = bt_calloc(1, sizeof *t);
    jparser *p = bt_calloc(1, sizeof *p);
    bt_status st;
    if (!r || !t || !p) {
        st = bt_err_set(err, BT_ENOMEM, 0, "out of memory for the template");
        goto done;
    }
    r->use = limits_of(limits);
    r->use.steps = UINT64_MAX; // bounded by the source
    r->limits = &r->use;
    bt_arena_init(&r->arena, r->use.compile_bytes);
    if (setjmp(r->escape) == 0) compile(r, t, p, source, len);
    st = fault_status(r->fault.fault);
    if (r->fault.fault == BT_JINJA_SYNTAX) st = BT_EFORMAT;
    if (error) *error = r->fault;
    if (st) {
        report(&r->fault, st, err);
        bt_arena_release(&r->arena);
        goto done;
    }
    t->arena = r->arena;
    *out = t;
    t = NULL;
done:
    if (p) bt_map_release(&p->names);
    bt_free(p);
    bt_free(t);
    bt_free(r);
    return st;
}

void bt_jinja_free(bt_jinja *t)
{
    if (!t) return;
    bt_arena_release(&t->arena);
    bt_free(t);
}

/* ---- rendering */

static void root_fill(jrt *r, const bt_jinja *t, const jdict *context)
{
    r->root = bt__jalloc(r, (t->n_names + 1) * sizeof *r->root);
    for (uint32_t i = 0; i < t->n_names; i++) {
        const jstr *name = t->name[i].u.s;
        const jv *found = bt__jdict_find(r, context, t->name[i]);
        const jfunc *f = found ? NULL : bt__jglobal_find(name->p, name->len);
        r->root[i] = found ? *found : f ? (jv){.type = JT_FUNC, .u.func = f} : jmissing();
    }
    for (const uint32_t *early = t->early; early && *early != UINT32_MAX; early++)
        r->root[*early] = jmissing();
}

static void output_take(jrt *r, const jsb *b)
{
    bt_jinja_output *out = &r->made;
    out->text = bt_malloc(b->len + 1);
    out->range = bt_malloc((b->n_segs + 1) * sizeof *out->range);
    if (!out->text || !out->range) {
        bt_jinja_output_release(out);
        bt__jraise(r, BT_JINJA_MEMORY, "out of memory for the prompt");
    }
    if (b->len) memcpy(out->text, b->p, b->len);
    out->text[b->len] = 0;
    out->len = b->len;
    size_t start = 0;
    for (size_t i = 0; i < b->n_segs && start < b->len; i++) {
        size_t end = BT_MIN(b->segs[i].end, b->len);
        out->range[out->n_ranges++] = (bt_jinja_range){start, end, b->segs[i].flags};
        start = end;
    }
}

void bt_jinja_output_release(bt_jinja_output *out)
{
    bt_free(out->text);
    bt_free(out->range);
    *out = (bt_jinja_output){0};
}

static void render(jrt *r, const bt_jinja *t, bt__jcontext make, bt__jafter after, void *ud)
{
    jsb text;
    bt__jsb_init(&text, r);
    text.max = r->limits->output_bytes;
    r->out = &text;
    root_fill(r, t, make(r, ud));
    bt__jexec(r, t->body);
    r->line = 0;
    if (after) after(r, ud, &text);
    output_take(r, &text);
}

bt_status bt__jinja_run(const bt_jinja *t, bt__jcontext make, bt__jafter after, void *ud,
                        const bt_jinja_options *options, bt_jinja_output *out,
                        bt_jinja_error *error, bt_err *err)
{
    jrt *r = bt_calloc(1, sizeof *r);
    if (!r) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the template");
    r->tmpl = t;
    r->use = limits_of(options ? &options->limits : NULL);
    r->limits = &r->use;
    r->seed = bt_random_id();
    r->plain_safe = options && options->plain_safe;
    r->now_local_us = options ? options->now_local_us : 0;
    r->stop = options ? options->stop : NULL;
    bt_arena_init(&r->arena, r->use.memory_bytes);
    if (setjmp(r->escape) == 0) render(r, t, make, after, ud);
    bt_status st = fault_status(r->fault.fault);
    if (r->fault.fault == BT_JINJA_STOPPED)
        st = bt_stop_why(r->stop, err);
    else if (st)
        report(&r->fault, st, err);
    if (error) *error = r->fault;
    if (st == BT_OK) *out = r->made;
    bt_arena_release(&r->arena);
    bt_free(r);
    return st;
}

typedef struct given_vars {
    const bt_jinja_vars *vars;
    size_t n;
} given_vars;

static jdict *vars_context(jrt *r, void *ud)
{
    const given_vars *given = ud;
    jdict *all = bt__jdict_new(r, 0);
    for (size_t i = 0; i < given->n; i++) {
        const bt_jinja_vars *v = &given->vars[i];
        jv parsed = bt__jjson_parse(r, v->json, v->len, v->trusted ? 0 : BT_JINJA_USER);
        if (parsed.type != JT_DICT)
            bt__jraise(r, BT_JINJA_CONTEXT, "the context must be a JSON object");
        for (uint32_t k = 0; k < parsed.u.d->n; k++)
            bt__jdict_put(r, all, parsed.u.d->e[k].key, parsed.u.d->e[k].value);
    }
    return all;
}

bt_status bt_jinja_render(const bt_jinja *t, const bt_jinja_vars *vars, size_t n_vars,
                          const bt_jinja_options *options, bt_jinja_output *out,
                          bt_jinja_error *error, bt_err *err)
{
    given_vars given = {vars, n_vars};
    return bt__jinja_run(t, vars_context, NULL, &given, options, out, error, err);
}
