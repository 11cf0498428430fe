/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_str.c - the methods of Python's str. */
#include "jinja/jinja_run.h"
#include "base/utf8.h"
#include "jinja/jinja_text.h"

/* Bytes of s[start:end] in code points, as slices count. */
static void span(jrt *r, const jstr *s, jv start, jv end, size_t *at, size_t *len)
{
    int64_t n = bt__jstr_chars(s), from = 0, to = n;
    if (start.type != JT_MISSING && start.type != JT_NONE) from = bt__jarg_int(r, start, 0);
    if (end.type != JT_MISSING && end.type != JT_NONE) to = bt__jarg_int(r, end, 0);
    from = from < 0 ? BT_MAX(from + n, 0) : from;
    to = to < 0 ? BT_MAX(to + n, 0) : BT_MIN(to, n);
    if (from > to) {
        *at = SIZE_MAX;
        *len = 0;
        return;
    }
    *at = bt__jstr_at(s, from);
    *len = bt__jstr_at(s, to) - *at;
}

static int64_t chars_before(const jstr *s, size_t at)
{
    jstr head = {.p = s->p, .len = (uint32_t)at, .chars = -1};
    return bt__jstr_chars(&head);
}

static const jstr *optional_set(jrt *r, jv v)
{
    return v.type == JT_MISSING || v.type == JT_NONE ? NULL : bt__jarg_str(r, v, "strip arg");
}

static jv m_strip(jrt *r, jv self, const jv *a, const jcall *c)
{
    (void)c;
    return bt__jstrip(r, self.u.s, optional_set(r, a[0]), true, true);
}
static jv m_lstrip(jrt *r, jv self, const jv *a, const jcall *c)
{
    (void)c;
    return bt__jstrip(r, self.u.s, optional_set(r, a[0]), true, false);
}
static jv m_rstrip(jrt *r, jv self, const jv *a, const jcall *c)
{
    (void)c;
    return bt__jstrip(r, self.u.s, optional_set(r, a[0]), false, true);
}

#define CASE_METHOD(name, how)                                                                     \
    static jv m_##name(jrt *r, jv self, const jv *a, const jcall *c)                               \
    {                                                                                              \
        (void)a, (void)c;                                                                          \
        return bt__jcase(r, self.u.s, how);                                                        \
    }
CASE_METHOD(upper, JCASE_UPPER)
CASE_METHOD(lower, JCASE_LOWER)
CASE_METHOD(title, JCASE_TITLE)
CASE_METHOD(capitalize, JCASE_CAPITAL)
CASE_METHOD(swapcase, JCASE_SWAP)
CASE_METHOD(casefold, JCASE_FOLD)

/* ---- splitting and joining */

static jv split_space(jrt *r, const jstr *s, int64_t max)
{
    jlist *l = bt__jlist_new(r, 0);
    size_t at = 0;
    uint32_t cp;
    for (;;) {
        while (at < s->len) {
            size_t n = bt__jdecode(s->p + at, s->len - at, &cp);
            if (!bt__jis_space(cp)) break;
            at += n;
        }
        if (at == s->len) return jof_list(l);
        size_t from = at;
        if (max >= 0 && (int64_t)l->n >= max) {
            bt__jlist_add(r, l, bt__jstr_sub(r, s, from, s->len - from));
            return jof_list(l);
        }
        while (at < s->len) {
            size_t n = bt__jdecode(s->p + at, s->len - at, &cp);
            if (bt__jis_space(cp)) break;
            at += n;
        }
        bt__jlist_add(r, l, bt__jstr_sub(r, s, from, at - from));
    }
}

static void reverse_list(jlist *l)
{
    for (size_t i = 0; i < l->n / 2; i++) {
        jv t = l->v[i];
        l->v[i] = l->v[l->n - 1 - i];
        l->v[l->n - 1 - i] = t;
    }
}

static jv rsplit_space(jrt *r, const jstr *s, int64_t max)
{
    if (max < 0) return split_space(r, s, -1);
    jlist *l = bt__jlist_new(r, 0);
    size_t end = s->len, at, len;
    for (;;) {
        jstr head = {.p = s->p, .len = (uint32_t)end, .chars = -1};
        bt__jstrip_span(r, &head, NULL, false, true, &at, &len);
        end = len;
        if (end == 0) break;
        if ((int64_t)l->n >= max) {
            bt__jlist_add(r, l, bt__jstr_sub(r, s, 0, end));
            break;
        }
        size_t from = end;
        uint32_t cp;
        while (from > 0) {
            size_t last = from - 1;
            while (last > 0 && bt_utf8_is_tail(s->p[last])) last--;
            bt__jdecode(s->p + last, from - last, &cp);
            if (bt__jis_space(cp)) break;
            from = last;
        }
        bt__jlist_add(r, l, bt__jstr_sub(r, s, from, end - from));
        end = from;
    }
    reverse_list(l);
    return jof_list(l);
}

static const jstr *separator(jrt *r, jv v)
{
    const jstr *sep = bt__jarg_str(r, v, "sep");
    if (!sep->len) bt__jraise(r, BT_JINJA_TYPE, "empty separator");
    return sep;
}

static jv m_split(jrt *r, jv self, const jv *a, const jcall *c)
{
    const jstr *s = self.u.s;
    int64_t max = bt__jarg_int(r, a[1], -1);
    (void)c;
    bt__jcharge(r, s->len);
    if (a[0].type == JT_MISSING || a[0].type == JT_NONE) return split_space(r, s, max);
    const jstr *sep = separator(r, a[0]);
    jlist *l = bt__jlist_new(r, 0);
    size_t from = 0;
    while (max < 0 || (int64_t)l->n < max) {
        size_t hit = bt__jfind(s->p + from, s->len - from, sep->p, sep->len);
        if (hit == SIZE_MAX) break;
        bt__jlist_add(r, l, bt__jstr_sub(r, s, from, hit));
        from += hit + sep->len;
    }
    bt__jlist_add(r, l, bt__jstr_sub(r, s, from, s->len - from));
    return jof_list(l);
}

static jv m_rsplit(jrt *r, jv self, const jv *a, const jcall *c)
{
    const jstr *s = self.u.s;
    int64_t max = bt__jarg_int(r, a[1], -1);
    (void)c;
    bt__jcharge(r, s->len);
    if (a[0].type == JT_MISSING || a[0].type == JT_NONE) return rsplit_space(r, s, max);
    const jstr *sep = separator(r, a[0]);
    jlist *l = bt__jlist_new(r, 0);
    size_t end = s->len;
    while (max < 0 || (int64_t)l->n < max) {
        size_t hit = bt__jrfind(r, s->p, end, sep->p, sep->len);
        if (hit == SIZE_MAX) break;
        bt__jlist_add(r, l, bt__jstr_sub(r, s, hit + sep->len, end - hit - sep->len));
        end = hit;
    }
    bt__jlist_add(r, l, bt__jstr_sub(r, s, 0, end));
    reverse_list(l);
    return jof_list(l);
}

static jv m_splitlines(jrt *r, jv self, const jv *a, const jcall *c)
{
    const jstr *s = self.u.s;
    bool keep = bt__jarg_bool(r, a[0], false);
    jlist *l = bt__jlist_new(r, 0);
    size_t from = 0;
    (void)c;
    bt__jcharge(r, s->len);
    for (size_t at = 0; at < s->len;) {
        uint32_t cp;
        size_t n = bt__jline_break(s->p + at, s->len - at);
        if (n) {
            bt__jlist_add(r, l, bt__jstr_sub(r, s, from, at - from + (keep ? n : 0)));
            at += n;
            from = at;
        } else {
            at += bt__jdecode(s->p + at, s->len - at, &cp);
        }
    }
    if (from < s->len) bt__jlist_add(r, l, bt__jstr_sub(r, s, from, s->len - from));
    return jof_list(l);
}

static jv partition(jrt *r, const jstr *s, const jstr *sep, bool last)
{
    jlist *l = bt__jlist_new(r, 3);
    size_t hit = last ? bt__jrfind(r, s->p, s->len, sep->p, sep->len)
                      : bt__jfind(s->p, s->len, sep->p, sep->len);
    jv whole = {.type = JT_STR, .u.s = s}, empty = bt__jstr_lit(r, "");
    if (hit == SIZE_MAX) {
        bt__jlist_add(r, l, last ? empty : whole);
        bt__jlist_add(r, l, empty);
        bt__jlist_add(r, l, last ? whole : empty);
    } else {
        bt__jlist_add(r, l, bt__jstr_sub(r, s, 0, hit));
        bt__jlist_add(r, l, bt__jstr_sub(r, s, hit, sep->len));
        bt__jlist_add(r, l, bt__jstr_sub(r, s, hit + sep->len, s->len - hit - sep->len));
    }
    return jof_tuple(l);
}

static jv m_partition(jrt *r, jv self, const jv *a, const jcall *c)
{
    (void)c;
    return partition(r, self.u.s, separator(r, a[0]), false);
}
static jv m_rpartition(jrt *r, jv self, const jv *a, const jcall *c)
{
    (void)c;
    return partition(r, self.u.s, separator(r, a[0]), true);
}

static jv m_join(jrt *r, jv self, const jv *a, const jcall *c)
{
    jsb b;
    jv item;
    size_t n = 0;
    (void)c;
    if (!bt__jiter_can(a[0])) bt__jraise(r, BT_JINJA_TYPE, "can only join an iterable");
    bt__jsb_init(&b, r);
    b.markup = self.u.s->markup;
    for (jiter *it = bt__jiter_new(r, a[0]); bt__jiter_next(r, it, &item); n++) {
        if (item.type != JT_STR)
            bt__jraise(r, BT_JINJA_TYPE, "sequence item %zu: expected str instance, %s found", n,
                       bt__jv_type(item));
        if (n) bt__jsb_str(&b, self.u.s);
        if (b.markup)
            bt__jsb_escaped(&b, item.u.s);
        else
            bt__jsb_str(&b, item.u.s);
    }
    return bt__jsb_done(&b);
}

/* ---- searching */

jv bt__jreplace(jrt *r, const jstr *s, const jstr *old, const jstr *new, int64_t count)
{
    jsb b;
    size_t at = 0;
    bt__jsb_init(&b, r);
    b.markup = s->markup;
    bt__jcharge(r, s->len);
    while (count != 0) {
        size_t hit = bt__jfind(s->p + at, s->len - at, old->p, old->len);
        if (hit == SIZE_MAX) break;
        jstep(r);
        bt__jsb_sub(&b, s, at, hit);
        bt__jsb_str(&b, new);
        at += hit + old->len;
        if (count > 0) count--;
        if (!old->len) { // between all characters
            if (at >= s->len) return bt__jsb_done(&b);
            uint32_t cp;
            size_t n = bt__jdecode(s->p + at, s->len - at, &cp);
            bt__jsb_sub(&b, s, at, n);
            at += n;
        }
    }
    bt__jsb_sub(&b, s, at, s->len - at);
    return bt__jsb_done(&b);
}

static jv m_replace(jrt *r, jv self, const jv *a, const jcall *c)
{
    (void)c;
    const jstr *old = bt__jarg_str(r, a[0], "replace() argument 1");
    const jstr *new = bt__jarg_str(r, a[1], "replace() argument 2");
    if (self.u.s->markup && !new->markup) {
        jsb b;
        bt__jsb_init(&b, r);
        bt__jsb_escaped(&b, new);
        new = bt__jsb_done(&b).u.s;
    }
    return bt__jreplace(r, self.u.s, old, new, bt__jarg_int(r, a[2], -1));
}

static int64_t find(jrt *r, jv self, const jv *a, bool last)
{
    size_t at, len;
    const jstr *s = self.u.s, *what = bt__jarg_str(r, a[0], "find() argument");
    span(r, s, a[1], a[2], &at, &len);
    bt__jcharge(r, s->len);
    if (at == SIZE_MAX) return -1;
    size_t hit = last ? bt__jrfind(r, s->p + at, len, what->p, what->len)
                      : bt__jfind(s->p + at, len, what->p, what->len);
    return hit == SIZE_MAX ? -1 : chars_before(s, at + hit);
}

static jv m_find(jrt *r, jv self, const jv *a, const jcall *c)
{
    (void)c;
    return jint(find(r, self, a, false));
}
static jv m_rfind(jrt *r, jv self, const jv *a, const jcall *c)
{
    (void)c;
    return jint(find(r, self, a, true));
}
static jv found_or_raise(jrt *r, int64_t at)
{
    if (at < 0) bt__jraise(r, BT_JINJA_TYPE, "substring not found");
    return jint(at);
}
static jv m_index(jrt *r, jv self, const jv *a, const jcall *c)
{
    (void)c;
    return found_or_raise(r, find(r, self, a, false));
}
static jv m_rindex(jrt *r, jv self, const jv *a, const jcall *c)
{
    (void)c;
    return found_or_raise(r, find(r, self, a, true));
}

static jv m_count(jrt *r, jv self, const jv *a, const jcall *c)
{
    size_t at, len;
    int64_t n = 0;
    const jstr *s = self.u.s, *what = bt__jarg_str(r, a[0], "count() argument");
    (void)c;
    span(r, s, a[1], a[2], &at, &len);
    bt__jcharge(r, s->len);
    if (at == SIZE_MAX) return jint(0);
    if (!what->len) return jint(chars_before(s, at + len) - chars_before(s, at) + 1);
    for (size_t hit; (hit = bt__jfind(s->p + at, len, what->p, what->len)) != SIZE_MAX; n++) {
        at += hit + what->len;
        len -= hit + what->len;
    }
    return jint(n);
}

static bool has_affix(jrt *r, const char *p, size_t len, jv affix, bool start, const char *method)
{
    if (affix.type == JT_TUPLE) {
        for (size_t i = 0; i < affix.u.l->n; i++) {
            if (affix.u.l->v[i].type != JT_STR)
                bt__jraise(r, BT_JINJA_TYPE, "tuple for %s must only contain str, not %s", method,
                           bt__jv_type(affix.u.l->v[i]));
            if (has_affix(r, p, len, affix.u.l->v[i], start, method)) return true;
        }
        return false;
    }
    if (affix.type != JT_STR)
        bt__jraise(r, BT_JINJA_TYPE, "%s first arg must be str or a tuple of str, not %s", method,
                   bt__jv_type(affix));
    const jstr *x = affix.u.s;
    return x->len <= len && memcmp(start ? p : p + len - x->len, x->p, x->len) == 0;
}

static jv affix(jrt *r, jv self, const jv *a, bool start)
{
    size_t at, len;
    const char *method = start ? "startswith" : "endswith";
    span(r, self.u.s, a[1], a[2], &at, &len);
    if (at == SIZE_MAX) return jbool(has_affix(r, NULL, 0, a[0], start, method) && false);
    return jbool(has_affix(r, self.u.s->p + at, len, a[0], start, method));
}
static jv m_startswith(jrt *r, jv self, const jv *a, const jcall *c)
{
    (void)c;
    return affix(r, self, a, true);
}
static jv m_endswith(jrt *r, jv self, const jv *a, const jcall *c)
{
    (void)c;
    return affix(r, self, a, false);
}

static jv m_removeprefix(jrt *r, jv self, const jv *a, const jcall *c)
{
    const jstr *s = self.u.s, *x = bt__jarg_str(r, a[0], "removeprefix() argument");
    (void)c;
    if (!has_affix(r, s->p, s->len, a[0], true, "removeprefix")) return self;
    return bt__jstr_sub(r, s, x->len, s->len - x->len);
}
static jv m_removesuffix(jrt *r, jv self, const jv *a, const jcall *c)
{
    const jstr *s = self.u.s, *x = bt__jarg_str(r, a[0], "removesuffix() argument");
    (void)c;
    if (!has_affix(r, s->p, s->len, a[0], false, "removesuffix")) return self;
    return bt__jstr_sub(r, s, 0, s->len - x->len);
}

/* ---- padding */

static const jstr *fill_of(jrt *r, jv v)
{
    if (v.type == JT_MISSING) return bt__jstr_lit(r, " ").u.s;
    const jstr *fill = bt__jarg_str(r, v, "the fill character");
    if (bt__jstr_chars(fill) != 1)
        bt__jraise(r, BT_JINJA_TYPE, "The fill character must be exactly one character long");
    return fill;
}

static void add_fill(jsb *b, const jstr *fill, int64_t n)
{
    for (; n > 0; n--) {
        jstep(b->r);
        bt__jsb_str(b, fill);
    }
}

jv bt__jpad(jrt *r, const jstr *s, int64_t width, const jstr *fill, char align)
{
    int64_t pad = width - bt__jstr_chars(s), left = 0;
    jsb b;
    if (pad <= 0) return (jv){.type = JT_STR, .u.s = s};
    if (align == '>') left = pad;
    if (align == '^') left = pad / 2;
    if (align == 'c') left = pad / 2 + (pad & width & 1); // str.center leans the other way
    bt__jsb_init(&b, r);
    b.markup = s->markup;
    add_fill(&b, fill, left);
    bt__jsb_str(&b, s);
    add_fill(&b, fill, pad - left);
    return bt__jsb_done(&b);
}

#define PAD_METHOD(name, align)                                                                    \
    static jv m_##name(jrt *r, jv self, const jv *a, const jcall *c)                               \
    {                                                                                              \
        (void)c;                                                                                   \
        return bt__jpad(r, self.u.s, bt__jarg_int(r, a[0], 0), fill_of(r, a[1]), align);           \
    }
PAD_METHOD(center, 'c')
PAD_METHOD(ljust, '<')
PAD_METHOD(rjust, '>')

static jv m_zfill(jrt *r, jv self, const jv *a, const jcall *c)
{
    const jstr *s = self.u.s, *zero = bt__jstr_lit(r, "0").u.s;
    int64_t pad = bt__jarg_int(r, a[0], 0) - bt__jstr_chars(s);
    size_t sign = s->len && (s->p[0] == '-' || s->p[0] == '+');
    jsb b;
    (void)c;
    bt__jsb_init(&b, r);
    bt__jsb_sub(&b, s, 0, sign);
    add_fill(&b, zero, pad);
    bt__jsb_sub(&b, s, sign, s->len - sign);
    return bt__jsb_done(&b);
}

static jv m_expandtabs(jrt *r, jv self, const jv *a, const jcall *c)
{
    const jstr *s = self.u.s, *space = bt__jstr_lit(r, " ").u.s;
    int64_t size = bt__jarg_int(r, a[0], 8), column = 0;
    jsb b;
    (void)c;
    bt__jsb_init(&b, r);
    for (size_t i = 0; i < s->len; i++) {
        if (s->p[i] == '\t') {
            int64_t n = size > 0 ? size - column % size : 0;
            add_fill(&b, space, n);
            column += n;
            continue;
        }
        bt__jsb_sub(&b, s, i, 1);
        if (((unsigned char)s->p[i] & 0xC0) != 0x80) column++;
        if (s->p[i] == '\n' || s->p[i] == '\r') column = 0;
    }
    return bt__jsb_done(&b);
}

/* ---- questions */

static bool all_chars(const jstr *s, bool (*is)(uint32_t cp))
{
    uint32_t cp;
    for (size_t at = 0; at < s->len;) {
        at += bt__jdecode(s->p + at, s->len - at, &cp);
        if (!is(cp)) return false;
    }
    return s->len > 0;
}

#define IS_METHOD(name, test)                                                                      \
    static jv m_##name(jrt *r, jv self, const jv *a, const jcall *c)                               \
    {                                                                                              \
        (void)a, (void)c;                                                                          \
        bt__jcharge(r, self.u.s->len);                                                             \
        return jbool(test);                                                                        \
    }

static bool is_ascii(const jstr *s)
{
    for (size_t i = 0; i < s->len; i++)
        if ((unsigned char)s->p[i] >= 0x80) return false;
    return true;
}

/* islower, isupper: a cased character, and none of the other case. */
bool bt__jstr_is_case(const jstr *s, bool upper)
{
    bool some = false;
    uint32_t cp;
    for (size_t at = 0; at < s->len;) {
        at += bt__jdecode(s->p + at, s->len - at, &cp);
        if (upper ? bt__jis_lower(cp) : bt__jis_upper(cp)) return false;
        some |= upper ? bt__jis_upper(cp) : bt__jis_lower(cp);
    }
    return some;
}

static bool is_title(const jstr *s)
{
    bool some = false, inside = false;
    uint32_t cp;
    for (size_t at = 0; at < s->len;) {
        at += bt__jdecode(s->p + at, s->len - at, &cp);
        if (bt__jis_upper(cp) ? inside : bt__jis_lower(cp) && !inside) return false;
        inside = bt__jis_upper(cp) || bt__jis_lower(cp);
        some |= inside;
    }
    return some;
}

static bool is_identifier(const jstr *s)
{
    uint32_t cp;
    for (size_t at = 0; at < s->len;) {
        size_t n = bt__jdecode(s->p + at, s->len - at, &cp);
        if (cp != '_' && !(at ? bt__jis_alnum(cp) : bt__jis_alpha(cp))) return false;
        at += n;
    }
    return s->len > 0;
}

IS_METHOD(isalnum, all_chars(self.u.s, bt__jis_alnum))
IS_METHOD(isalpha, all_chars(self.u.s, bt__jis_alpha))
IS_METHOD(isascii, is_ascii(self.u.s))
IS_METHOD(isdecimal, all_chars(self.u.s, bt__jis_decimal))
IS_METHOD(isdigit, all_chars(self.u.s, bt__jis_digit))
IS_METHOD(isidentifier, is_identifier(self.u.s))
IS_METHOD(islower, bt__jstr_is_case(self.u.s, false))
IS_METHOD(isnumeric, all_chars(self.u.s, bt__jis_numeric))
IS_METHOD(isprintable, !self.u.s->len || all_chars(self.u.s, bt__jis_printable))
IS_METHOD(isspace, all_chars(self.u.s, bt__jis_space))
IS_METHOD(istitle, is_title(self.u.s))
IS_METHOD(isupper, bt__jstr_is_case(self.u.s, true))

static jv m_format(jrt *r, jv self, const jv *a, const jcall *c)
{
    (void)a;
    return bt__jformat(r, self.u.s, c);
}
static jv m_format_map(jrt *r, jv self, const jv *a, const jcall *c)
{
    (void)c;
    return bt__jformat_map(r, self.u.s, a[0]);
}

const jmethod_row bt__jstr_methods[] = {
    {JT_STR, "split", "sep maxsplit", 0, m_split},
    {JT_STR, "strip", "chars", 0, m_strip},
    {JT_STR, "lstrip", "chars", 0, m_lstrip},
    {JT_STR, "rstrip", "chars", 0, m_rstrip},
    {JT_STR, "startswith", "prefix start end", 1, m_startswith},
    {JT_STR, "endswith", "suffix start end", 1, m_endswith},
    {JT_STR, "replace", "old new count", 2, m_replace},
    {JT_STR, "join", "iterable", 1, m_join},
    {JT_STR, "upper", "", 0, m_upper},
    {JT_STR, "lower", "", 0, m_lower},
    {JT_STR, "title", "", 0, m_title},
    {JT_STR, "capitalize", "", 0, m_capitalize},
    {JT_STR, "swapcase", "", 0, m_swapcase},
    {JT_STR, "casefold", "", 0, m_casefold},
    {JT_STR, "format", NULL, 0, m_format},
    {JT_STR, "format_map", "mapping", 1, m_format_map},
    {JT_STR, "rsplit", "sep maxsplit", 0, m_rsplit},
    {JT_STR, "splitlines", "keepends", 0, m_splitlines},
    {JT_STR, "partition", "sep", 1, m_partition},
    {JT_STR, "rpartition", "sep", 1, m_rpartition},
    {JT_STR, "find", "sub start end", 1, m_find},
    {JT_STR, "rfind", "sub start end", 1, m_rfind},
    {JT_STR, "index", "sub start end", 1, m_index},
    {JT_STR, "rindex", "sub start end", 1, m_rindex},
    {JT_STR, "count", "sub start end", 1, m_count},
    {JT_STR, "removeprefix", "prefix", 1, m_removeprefix},
    {JT_STR, "removesuffix", "suffix", 1, m_removesuffix},
    {JT_STR, "center", "width fillchar", 1, m_center},
    {JT_STR, "ljust", "width fillchar", 1, m_ljust},
    {JT_STR, "rjust", "width fillchar", 1, m_rjust},
    {JT_STR, "zfill", "width", 1, m_zfill},
    {JT_STR, "expandtabs", "tabsize", 0, m_expandtabs},
    {JT_STR, "isalnum", "", 0, m_isalnum},
    {JT_STR, "isalpha", "", 0, m_isalpha},
    {JT_STR, "isascii", "", 0, m_isascii},
    {JT_STR, "isdecimal", "", 0, m_isdecimal},
    {JT_STR, "isdigit", "", 0, m_isdigit},
    {JT_STR, "isidentifier", "", 0, m_isidentifier},
    {JT_STR, "islower", "", 0, m_islower},
    {JT_STR, "isnumeric", "", 0, m_isnumeric},
    {JT_STR, "isprintable", "", 0, m_isprintable},
    {JT_STR, "isspace", "", 0, m_isspace},
    {JT_STR, "istitle", "", 0, m_istitle},
    {JT_STR, "isupper", "", 0, m_isupper},
    {0},
};
