/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_print.c - str() and repr() of values. */
#include "jinja/jinja_run.h"
#include "jinja/jinja_text.h"
#include <inttypes.h>
#include <stdio.h>

static void repr_string(jsb *b, const jstr *s)
{
    bool single = bt__jfind(s->p, s->len, "'", 1) != SIZE_MAX;
    bool twice = bt__jfind(s->p, s->len, "\"", 1) != SIZE_MAX;
    char quote[2] = {single && !twice ? '"' : '\'', 0};
    size_t from = 0;
    if (s->markup) bt__jsb_adds(b, "Markup(");
    bt__jsb_adds(b, quote);
    for (size_t i = 0; i < s->len;) {
        uint32_t cp;
        char text[16];
        size_t used = bt__jdecode(s->p + i, s->len - i, &cp);
        if (bt__jis_printable(cp) && cp != '\\' && cp != (uint32_t)(unsigned char)quote[0]) {
            i += used;
            continue;
        }
        int n = cp == '\n'   ? snprintf(text, sizeof text, "\\n")
                : cp == '\r' ? snprintf(text, sizeof text, "\\r")
                : cp == '\t' ? snprintf(text, sizeof text, "\\t")
                : cp == '\\' || cp == '\'' || cp == '"'
                    ? snprintf(text, sizeof text, "\\%c", (int)cp)
                : cp < 0x100   ? snprintf(text, sizeof text, "\\x%02x", cp)
                : cp < 0x10000 ? snprintf(text, sizeof text, "\\u%04x", cp)
                               : snprintf(text, sizeof text, "\\U%08x", cp);
        bt__jsb_sub(b, s, from, i - from);
        bt__jsb_add(b, text, (size_t)n, bt__jstr_flags_at(s, i));
        i += used;
        from = i;
    }
    bt__jsb_sub(b, s, from, s->len - from);
    bt__jsb_adds(b, quote);
    if (s->markup) bt__jsb_adds(b, ")");
}

static void repr_items(jsb *b, const jlist *l, const char *open, const char *close)
{
    bt__jsb_adds(b, open);
    for (size_t i = 0; i < l->n; i++) {
        if (i) bt__jsb_adds(b, ", ");
        bt__jsb_repr(b, l->v[i]);
    }
    bt__jsb_adds(b, close);
}

static void repr_dict(jsb *b, const jdict *d)
{
    bt__jsb_adds(b, "{");
    for (uint32_t i = 0; i < d->n; i++) {
        if (i) bt__jsb_adds(b, ", ");
        bt__jsb_repr(b, d->e[i].key);
        bt__jsb_adds(b, ": ");
        bt__jsb_repr(b, d->e[i].value);
    }
    bt__jsb_adds(b, "}");
}

static void repr_object(jsb *b, jv v)
{
    jrt *r = b->r;
    const jrange *g;
    switch (v.type) {
    case JT_RANGE:
        g = v.u.range;
        bt__jsb_addf(b, "range(%" PRId64 ", %" PRId64, g->start, g->stop);
        if (g->step != 1) bt__jsb_addf(b, ", %" PRId64, g->step);
        bt__jsb_adds(b, ")");
        break;
    case JT_VIEW:
        bt__jsb_addf(b, "%s(", bt__jv_type(v));
        repr_items(b, bt__jlist_of(r, v), "[", "])");
        break;
    case JT_NS:
        bt__jsb_adds(b, "<Namespace ");
        repr_dict(b, v.u.d);
        bt__jsb_adds(b, ">");
        break;
    case JT_MACRO:
        bt__jsb_adds(b, "<Macro ");
        if (v.u.macro->node->kind == JN_MACRO)
            bt__jsb_repr(b, r->tmpl->name[v.u.macro->node->name]);
        else
            bt__jsb_adds(b, "anonymous");
        bt__jsb_adds(b, ">");
        break;
    case JT_LOOP:
        bt__jsb_addf(b, "<LoopContext %" PRId64 "/%" PRId64 ">", v.u.loop->index0 + 1,
                     bt__jloop_len(r, v.u.loop));
        break;
    case JT_ITER: bt__jsb_addf(b, "<generator object %s at 0x0>", v.u.it->name); break;
    case JT_FUNC: bt__jsb_addf(b, "<function %s at 0x0>", v.u.func->name); break;
    case JT_METHOD:
        bt__jsb_addf(b, "<built-in method %s of %s object at 0x0>", v.u.method->row->name,
                     bt__jv_type(v.u.method->self));
        break;
    default: bt__jsb_addf(b, "<jinja2.utils.%s object at 0x0>", bt__jv_type(v));
    }
}

void bt__jsb_repr(jsb *b, jv v)
{
    char text[40];
    jstep(b->r);
    jenter(b->r);
    switch (v.type) {
    case JT_UNDEF: bt__jsb_adds(b, "Undefined"); break;
    case JT_NONE: bt__jsb_adds(b, "None"); break;
    case JT_BOOL: bt__jsb_adds(b, v.u.b ? "True" : "False"); break;
    case JT_INT: bt__jsb_addf(b, "%" PRId64, v.u.i); break;
    case JT_BIG: bt__jsb_str(b, v.u.s); break;
    case JT_FLOAT:
        bt__jfloat_repr(v.u.f, text);
        bt__jsb_adds(b, text);
        break;
    case JT_STR: repr_string(b, v.u.s); break;
    case JT_LIST: repr_items(b, v.u.l, "[", "]"); break;
    case JT_TUPLE: repr_items(b, v.u.l, "(", v.u.l->n == 1 ? ",)" : ")"); break;
    case JT_DICT: repr_dict(b, v.u.d); break;
    default: repr_object(b, v);
    }
    jleave(b->r);
}

void bt__jsb_value(jsb *b, jv v)
{
    if (v.type == JT_STR)
        bt__jsb_str(b, v.u.s);
    else if (v.type != JT_UNDEF)
        bt__jsb_repr(b, v);
}

jv bt__jv_str(jrt *r, jv v)
{
    if (v.type == JT_STR) return v;
    jsb b;
    bt__jsb_init(&b, r);
    bt__jsb_value(&b, v);
    return bt__jsb_done(&b);
}
