/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_value.c - the run's memory and faults, and strings that know where they come from. */
#include "base/assert.h"
#include "base/utf8.h"
#include "jinja/jinja_value.h"
#include <stdarg.h>
#include <stdio.h>

/* ---- the run */

_Noreturn void bt__jraise(jrt *r, bt_jinja_fault fault, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->fault.msg, sizeof r->fault.msg, fmt, ap);
    va_end(ap);
    size_t n = strlen(r->fault.msg);
    r->fault.msg[bt_utf8_valid_prefix(r->fault.msg, n)] = 0;
    r->fault.fault = fault;
    r->fault.line = r->line;
    longjmp(r->escape, 1);
}

_Noreturn void bt__jno_memory(jrt *r, size_t bytes)
{
    if (bytes > r->arena.max_bytes - r->arena.used)
        bt__jraise(r, BT_JINJA_LIMIT, "the template needs more than %zu MiB of memory",
                   r->arena.max_bytes >> 20);
    bt__jraise(r, BT_JINJA_MEMORY, "out of memory for the template");
}

void *bt__jalloc(jrt *r, size_t bytes)
{
    size_t whole = (bytes + 15) / 16 * 16;
    bt__jcharge(r, bytes);
    void *p = whole >= bytes ? bt_arena_alloc(&r->arena, whole) : NULL;
    if (!p) bt__jno_memory(r, whole < bytes ? SIZE_MAX : whole);
    return p;
}

void bt__jlook(jrt *r)
{
    enum { AHEAD = 1024 };
    if (r->steps > r->limits->steps)
        bt__jraise(r, BT_JINJA_LIMIT, "the template ran for more than %llu steps",
                   (unsigned long long)r->limits->steps);
    if (bt_stop_after(r->stop, BT_STOP_UNITS)) bt__jraise(r, BT_JINJA_STOPPED, "stopped");
    r->look = r->limits->steps - r->steps < AHEAD ? r->limits->steps + 1 : r->steps + AHEAD;
}

void bt__jcharge(jrt *r, size_t bytes)
{
    r->steps += bytes / 64;
    jstep(r);
}

/* ---- undefined */

static jv undef_new(jrt *r, const char *hint, const char *owner, jv name)
{
    jundef *u = bt__jalloc(r, sizeof *u);
    *u = (jundef){.hint = hint, .owner = owner, .name = name};
    return (jv){.type = JT_UNDEF, .u.undef = u};
}

jv bt__jundef_hint(jrt *r, const char *hint)
{
    return undef_new(r, hint, NULL, jnone());
}

jv bt__jundef_name(jrt *r, jv name)
{
    return undef_new(r, NULL, NULL, name);
}

static const char *type_repr(jrt *r, jv v)
{
    static const char *const jinja_types[][2] = {
        {"Namespace", "jinja2.utils.Namespace object"},
        {"Macro", "jinja2.runtime.Macro object"},
        {"LoopContext", "jinja2.runtime.LoopContext object"},
        {"Cycler", "jinja2.utils.Cycler object"},
        {"Joiner", "jinja2.utils.Joiner object"},
    };
    if (v.type == JT_NONE) return "None";
    const char *name = bt__jv_type(v);
    for (size_t i = 0; i < BT_COUNT(jinja_types); i++)
        if (strcmp(jinja_types[i][0], name) == 0) return jinja_types[i][1];
    size_t n = strlen(name) + sizeof " object";
    char *text = bt__jalloc(r, n);
    snprintf(text, n, "%s object", name);
    return text;
}

/* The owner's type is all that a later message needs. */
jv bt__jundef_in(jrt *r, jv owner, jv name)
{
    static const char *const common[][2] = {
        {"dict", "dict object"}, {"str", "str object"}, {"list", "list object"}};
    const char *type = bt__jv_type(owner);
    for (size_t i = 0; i < BT_COUNT(common); i++)
        if (strcmp(type, common[i][0]) == 0) return undef_new(r, NULL, common[i][1], name);
    return undef_new(r, NULL, type_repr(r, owner), name);
}

_Noreturn void bt__jraise_undef(jrt *r, jv undef)
{
    const jundef *u = undef.u.undef;
    jsb name;
    bt__jsb_init(&name, r);
    bt_jinja_fault fault = u->security ? BT_JINJA_SECURITY : BT_JINJA_UNDEFINED;
    if (u->hint) bt__jraise(r, fault, "%s", u->hint);
    bt__jsb_repr(&name, u->name);
    bt__jsb_add(&name, "", 1, 0);
    if (!u->owner) bt__jraise(r, fault, "%s is undefined", name.p);
    if (u->name.type != JT_STR) bt__jraise(r, fault, "%s has no element %s", u->owner, name.p);
    bt__jraise(r, fault, "'%s' has no attribute %s", u->owner, name.p);
}

/* ---- strings */

static jv str_value(const jstr *s)
{
    return (jv){.type = JT_STR, .u.s = s};
}

jv bt__jstr_ref(jrt *r, const char *p, size_t len, unsigned flags)
{
    jstr *s = bt__jalloc(r, sizeof *s);
    *s = (jstr){.p = p, .len = (uint32_t)len, .chars = -1, .flags = (uint8_t)flags};
    return str_value(s);
}

jv bt__jstr_new(jrt *r, const char *p, size_t len, unsigned flags)
{
    char *copy = bt__jalloc(r, len + 1);
    memcpy(copy, p, len);
    return bt__jstr_ref(r, copy, len, flags);
}

jv bt__jstr_lit(jrt *r, const char *literal)
{
    return bt__jstr_ref(r, literal, strlen(literal), 0);
}

jv bt__jstr_mark(jrt *r, const jstr *s, bool markup)
{
    if (s->markup == markup) return str_value(s);
    jstr *copy = bt__jalloc(r, sizeof *copy);
    *copy = *s;
    copy->markup = markup;
    return str_value(copy);
}

int32_t bt__jstr_chars(const jstr *s)
{
    if (s->chars >= 0) return s->chars;
    int32_t n = 0;
    for (size_t i = 0; i < s->len; i++) n += ((unsigned char)s->p[i] & 0xC0) != 0x80;
    ((jstr *)(uintptr_t)s)->chars = n; // compiled constants are counted when compiled
    return n;
}

size_t bt__jstr_at(const jstr *s, int64_t i)
{
    if ((uint32_t)bt__jstr_chars(s) == s->len) return (size_t)i;
    size_t at = 0;
    for (; at < s->len; at++)
        if (((unsigned char)s->p[at] & 0xC0) != 0x80 && i-- == 0) break;
    return at;
}

/* Index of the segment that holds byte at. */
static uint32_t seg_find(const jstr *s, size_t at)
{
    uint32_t low = 0, high = s->n_segs;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (s->segs[mid].end <= at)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

unsigned bt__jstr_flags_at(const jstr *s, size_t at)
{
    if (!s->n_segs) return s->flags;
    uint32_t i = seg_find(s, at);
    return i < s->n_segs ? s->segs[i].flags : 0;
}

jv bt__jstr_sub(jrt *r, const jstr *s, size_t at, size_t len)
{
    if (at == 0 && len == s->len) return str_value(s);
    jstr *sub = bt__jalloc(r, sizeof *sub);
    *sub = (jstr){
        .p = s->p + at, .len = (uint32_t)len, .chars = -1, .markup = s->markup, .flags = s->flags};
    if ((uint32_t)s->chars == s->len) sub->chars = (int32_t)len;
    if (s->n_segs && len) {
        uint32_t first = seg_find(s, at), last = seg_find(s, at + len - 1);
        if (first == last) {
            sub->flags = (uint8_t)s->segs[first].flags;
        } else {
            jseg *segs = bt__jalloc(r, (last - first + 1) * sizeof *segs);
            for (uint32_t i = first; i <= last; i++)
                segs[i - first] = (jseg){s->segs[i].end - (uint32_t)at, s->segs[i].flags};
            segs[last - first].end = (uint32_t)len;
            sub->segs = segs;
            sub->n_segs = last - first + 1;
        }
    }
    return str_value(sub);
}

/* Segments of a then b, merged where they touch. */
static void cat_segs(jrt *r, jstr *out, const jstr *a, const jstr *b)
{
    if (!a->n_segs && !b->n_segs && (a->flags == b->flags || !a->len || !b->len)) {
        out->flags = a->len ? a->flags : b->flags;
        return;
    }
    uint32_t na = a->n_segs ? a->n_segs : a->len > 0, nb = b->n_segs ? b->n_segs : b->len > 0;
    jseg *segs = bt__jalloc(r, (na + nb) * sizeof *segs);
    uint32_t n = 0;
    for (uint32_t i = 0; i < na + nb; i++) {
        const jstr *s = i < na ? a : b;
        uint32_t k = i < na ? i : i - na;
        jseg seg = s->n_segs ? s->segs[k] : (jseg){s->len, s->flags};
        if (i >= na) seg.end += a->len;
        if (n && segs[n - 1].flags == seg.flags)
            segs[n - 1].end = seg.end;
        else
            segs[n++] = seg;
    }
    if (n == 1)
        out->flags = (uint8_t)segs[0].flags;
    else {
        out->segs = segs;
        out->n_segs = n;
    }
}

/* Appending to a growing string fills the room behind it, so that a template which builds its
 * text by `ns.text = ns.text + more` stays linear. */
jv bt__jstr_cat(jrt *r, const jstr *a, const jstr *b)
{
    if (!b->len && a->markup == b->markup) return str_value(a);
    if (!a->len && a->markup == b->markup) return str_value(b);
    jstr *out = bt__jalloc(r, sizeof *out);
    size_t len = (size_t)a->len + b->len;
    *out = (jstr){.len = (uint32_t)len, .chars = -1, .markup = a->markup || b->markup};
    if (a->chars >= 0 && b->chars >= 0) out->chars = a->chars + b->chars;
    if (a->room && a->room->used == a->len && a->room->cap >= len) {
        out->room = a->room;
        out->p = a->p;
        memcpy((char *)(uintptr_t)a->p + a->len, b->p, b->len);
        bt__jcharge(r, b->len);
    } else {
        size_t cap = len < 256 ? len : len + len / 2;
        char *p = bt__jalloc(r, cap + 1);
        memcpy(p, a->p, a->len);
        memcpy(p + a->len, b->p, b->len);
        out->p = p;
        out->room = bt__jalloc(r, sizeof *out->room);
        out->room->cap = cap;
    }
    out->room->used = len;
    cat_segs(r, out, a, b);
    return str_value(out);
}

/* ---- builder */

void bt__jsb_init(jsb *b, jrt *r)
{
    *b = (jsb){.r = r};
}

static void sb_room(jsb *b, size_t extra)
{
    size_t need = b->len + extra;
    if (need <= b->cap) return;
    if (b->max && need > b->max)
        bt__jraise(b->r, BT_JINJA_LIMIT, "the template writes more than %zu MiB", b->max >> 20);
    size_t cap = b->cap * 2 > need ? b->cap * 2 : need + 32;
    char *p = bt__jalloc(b->r, cap + 1);
    if (b->len) memcpy(p, b->p, b->len);
    b->p = p;
    b->cap = cap;
}

static void sb_flag(jsb *b, size_t n, unsigned flags)
{
    flags |= b->or_flags;
    if (b->n_segs && b->segs[b->n_segs - 1].flags == flags) {
        b->segs[b->n_segs - 1].end += (uint32_t)n;
        return;
    }
    if (b->n_segs == b->cap_segs) {
        size_t cap = b->cap_segs ? b->cap_segs * 2 : 4;
        jseg *segs = bt__jalloc(b->r, cap * sizeof *segs);
        if (b->n_segs) memcpy(segs, b->segs, b->n_segs * sizeof *segs);
        b->segs = segs;
        b->cap_segs = cap;
    }
    b->segs[b->n_segs++] = (jseg){(uint32_t)(b->len + n), flags};
}

void bt__jsb_add(jsb *b, const char *p, size_t n, unsigned flags)
{
    if (!n) return;
    sb_room(b, n);
    memcpy(b->p + b->len, p, n);
    sb_flag(b, n, flags);
    b->len += n;
    b->r->steps += n / 64;
}

void bt__jsb_adds(jsb *b, const char *text)
{
    bt__jsb_add(b, text, strlen(text), 0);
}

void bt__jsb_addf(jsb *b, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    BT_ASSERT(n >= 0 && (size_t)n < sizeof text);
    bt__jsb_add(b, text, (size_t)n, 0);
}

void bt__jsb_sub(jsb *b, const jstr *s, size_t at, size_t len)
{
    if (!len) return;
    if (!s->n_segs) {
        bt__jsb_add(b, s->p + at, len, s->flags);
        return;
    }
    for (uint32_t i = seg_find(s, at); len && i < s->n_segs; i++) {
        size_t n = BT_MIN(s->segs[i].end - at, len);
        bt__jsb_add(b, s->p + at, n, s->segs[i].flags);
        at += n;
        len -= n;
    }
}

void bt__jsb_str(jsb *b, const jstr *s)
{
    bt__jsb_sub(b, s, 0, s->len);
}

void bt__jsb_escaped(jsb *b, const jstr *s)
{
    if (s->markup) {
        bt__jsb_str(b, s);
        return;
    }
    size_t from = 0;
    for (size_t i = 0; i < s->len; i++) {
        char c = s->p[i];
        const char *e = c == '&'    ? "&amp;"
                        : c == '<'  ? "&lt;"
                        : c == '>'  ? "&gt;"
                        : c == '\'' ? "&#39;"
                        : c == '"'  ? "&#34;"
                                    : NULL;
        if (!e) continue;
        bt__jsb_sub(b, s, from, i - from);
        bt__jsb_add(b, e, strlen(e), bt__jstr_flags_at(s, i));
        from = i + 1;
    }
    bt__jsb_sub(b, s, from, s->len - from);
}

jv bt__jsb_done(jsb *b)
{
    jstr *s = bt__jalloc(b->r, sizeof *s);
    *s = (jstr){.p = b->p ? b->p : "", .len = (uint32_t)b->len, .chars = -1, .markup = b->markup};
    if (b->n_segs == 1) {
        s->flags = (uint8_t)b->segs[0].flags;
    } else {
        s->n_segs = (uint32_t)b->n_segs;
        s->segs = b->segs;
    }
    return str_value(s);
}
