/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_case.c - upper, lower, title and folded case, as Python's str has them. */
#include "base/assert.h"
#include "base/utf8.h"
#include "jinja/jinja_text.h"
#include <utf8proc.h>

/* Characters whose upper or title case is more than one (Unicode's SpecialCasing.txt). */
static const struct {
    uint16_t cp, upper[3], title[3];
} special[] = {
    {0xDF, {0x53, 0x53}, {0x53, 0x73}},
    {0x149, {0x2BC, 0x4E}, {0x2BC, 0x4E}},
    {0x1F0, {0x4A, 0x30C}, {0x4A, 0x30C}},
    {0x390, {0x399, 0x308, 0x301}, {0x399, 0x308, 0x301}},
    {0x3B0, {0x3A5, 0x308, 0x301}, {0x3A5, 0x308, 0x301}},
    {0x587, {0x535, 0x552}, {0x535, 0x582}},
    {0x1E96, {0x48, 0x331}, {0x48, 0x331}},
    {0x1E97, {0x54, 0x308}, {0x54, 0x308}},
    {0x1E98, {0x57, 0x30A}, {0x57, 0x30A}},
    {0x1E99, {0x59, 0x30A}, {0x59, 0x30A}},
    {0x1E9A, {0x41, 0x2BE}, {0x41, 0x2BE}},
    {0x1F50, {0x3A5, 0x313}, {0x3A5, 0x313}},
    {0x1F52, {0x3A5, 0x313, 0x300}, {0x3A5, 0x313, 0x300}},
    {0x1F54, {0x3A5, 0x313, 0x301}, {0x3A5, 0x313, 0x301}},
    {0x1F56, {0x3A5, 0x313, 0x342}, {0x3A5, 0x313, 0x342}},
    {0x1F80, {0x1F08, 0x399}, {0x1F88}},
    {0x1F81, {0x1F09, 0x399}, {0x1F89}},
    {0x1F82, {0x1F0A, 0x399}, {0x1F8A}},
    {0x1F83, {0x1F0B, 0x399}, {0x1F8B}},
    {0x1F84, {0x1F0C, 0x399}, {0x1F8C}},
    {0x1F85, {0x1F0D, 0x399}, {0x1F8D}},
    {0x1F86, {0x1F0E, 0x399}, {0x1F8E}},
    {0x1F87, {0x1F0F, 0x399}, {0x1F8F}},
    {0x1F88, {0x1F08, 0x399}, {0x1F88}},
    {0x1F89, {0x1F09, 0x399}, {0x1F89}},
    {0x1F8A, {0x1F0A, 0x399}, {0x1F8A}},
    {0x1F8B, {0x1F0B, 0x399}, {0x1F8B}},
    {0x1F8C, {0x1F0C, 0x399}, {0x1F8C}},
    {0x1F8D, {0x1F0D, 0x399}, {0x1F8D}},
    {0x1F8E, {0x1F0E, 0x399}, {0x1F8E}},
    {0x1F8F, {0x1F0F, 0x399}, {0x1F8F}},
    {0x1F90, {0x1F28, 0x399}, {0x1F98}},
    {0x1F91, {0x1F29, 0x399}, {0x1F99}},
    {0x1F92, {0x1F2A, 0x399}, {0x1F9A}},
    {0x1F93, {0x1F2B, 0x399}, {0x1F9B}},
    {0x1F94, {0x1F2C, 0x399}, {0x1F9C}},
    {0x1F95, {0x1F2D, 0x399}, {0x1F9D}},
    {0x1F96, {0x1F2E, 0x399}, {0x1F9E}},
    {0x1F97, {0x1F2F, 0x399}, {0x1F9F}},
    {0x1F98, {0x1F28, 0x399}, {0x1F98}},
    {0x1F99, {0x1F29, 0x399}, {0x1F99}},
    {0x1F9A, {0x1F2A, 0x399}, {0x1F9A}},
    {0x1F9B, {0x1F2B, 0x399}, {0x1F9B}},
    {0x1F9C, {0x1F2C, 0x399}, {0x1F9C}},
    {0x1F9D, {0x1F2D, 0x399}, {0x1F9D}},
    {0x1F9E, {0x1F2E, 0x399}, {0x1F9E}},
    {0x1F9F, {0x1F2F, 0x399}, {0x1F9F}},
    {0x1FA0, {0x1F68, 0x399}, {0x1FA8}},
    {0x1FA1, {0x1F69, 0x399}, {0x1FA9}},
    {0x1FA2, {0x1F6A, 0x399}, {0x1FAA}},
    {0x1FA3, {0x1F6B, 0x399}, {0x1FAB}},
    {0x1FA4, {0x1F6C, 0x399}, {0x1FAC}},
    {0x1FA5, {0x1F6D, 0x399}, {0x1FAD}},
    {0x1FA6, {0x1F6E, 0x399}, {0x1FAE}},
    {0x1FA7, {0x1F6F, 0x399}, {0x1FAF}},
    {0x1FA8, {0x1F68, 0x399}, {0x1FA8}},
    {0x1FA9, {0x1F69, 0x399}, {0x1FA9}},
    {0x1FAA, {0x1F6A, 0x399}, {0x1FAA}},
    {0x1FAB, {0x1F6B, 0x399}, {0x1FAB}},
    {0x1FAC, {0x1F6C, 0x399}, {0x1FAC}},
    {0x1FAD, {0x1F6D, 0x399}, {0x1FAD}},
    {0x1FAE, {0x1F6E, 0x399}, {0x1FAE}},
    {0x1FAF, {0x1F6F, 0x399}, {0x1FAF}},
    {0x1FB2, {0x1FBA, 0x399}, {0x1FBA, 0x345}},
    {0x1FB3, {0x391, 0x399}, {0x1FBC}},
    {0x1FB4, {0x386, 0x399}, {0x386, 0x345}},
    {0x1FB6, {0x391, 0x342}, {0x391, 0x342}},
    {0x1FB7, {0x391, 0x342, 0x399}, {0x391, 0x342, 0x345}},
    {0x1FBC, {0x391, 0x399}, {0x1FBC}},
    {0x1FC2, {0x1FCA, 0x399}, {0x1FCA, 0x345}},
    {0x1FC3, {0x397, 0x399}, {0x1FCC}},
    {0x1FC4, {0x389, 0x399}, {0x389, 0x345}},
    {0x1FC6, {0x397, 0x342}, {0x397, 0x342}},
    {0x1FC7, {0x397, 0x342, 0x399}, {0x397, 0x342, 0x345}},
    {0x1FCC, {0x397, 0x399}, {0x1FCC}},
    {0x1FD2, {0x399, 0x308, 0x300}, {0x399, 0x308, 0x300}},
    {0x1FD3, {0x399, 0x308, 0x301}, {0x399, 0x308, 0x301}},
    {0x1FD6, {0x399, 0x342}, {0x399, 0x342}},
    {0x1FD7, {0x399, 0x308, 0x342}, {0x399, 0x308, 0x342}},
    {0x1FE2, {0x3A5, 0x308, 0x300}, {0x3A5, 0x308, 0x300}},
    {0x1FE3, {0x3A5, 0x308, 0x301}, {0x3A5, 0x308, 0x301}},
    {0x1FE4, {0x3A1, 0x313}, {0x3A1, 0x313}},
    {0x1FE6, {0x3A5, 0x342}, {0x3A5, 0x342}},
    {0x1FE7, {0x3A5, 0x308, 0x342}, {0x3A5, 0x308, 0x342}},
    {0x1FF2, {0x1FFA, 0x399}, {0x1FFA, 0x345}},
    {0x1FF3, {0x3A9, 0x399}, {0x1FFC}},
    {0x1FF4, {0x38F, 0x399}, {0x38F, 0x345}},
    {0x1FF6, {0x3A9, 0x342}, {0x3A9, 0x342}},
    {0x1FF7, {0x3A9, 0x342, 0x399}, {0x3A9, 0x342, 0x345}},
    {0x1FFC, {0x3A9, 0x399}, {0x1FFC}},
    {0xFB00, {0x46, 0x46}, {0x46, 0x66}},
    {0xFB01, {0x46, 0x49}, {0x46, 0x69}},
    {0xFB02, {0x46, 0x4C}, {0x46, 0x6C}},
    {0xFB03, {0x46, 0x46, 0x49}, {0x46, 0x66, 0x69}},
    {0xFB04, {0x46, 0x46, 0x4C}, {0x46, 0x66, 0x6C}},
    {0xFB05, {0x53, 0x54}, {0x53, 0x74}},
    {0xFB06, {0x53, 0x54}, {0x53, 0x74}},
    {0xFB13, {0x544, 0x546}, {0x544, 0x576}},
    {0xFB14, {0x544, 0x535}, {0x544, 0x565}},
    {0xFB15, {0x544, 0x53B}, {0x544, 0x56B}},
    {0xFB16, {0x54E, 0x546}, {0x54E, 0x576}},
    {0xFB17, {0x544, 0x53D}, {0x544, 0x56D}},
};

static const uint16_t *special_find(uint32_t cp, bool title)
{
    size_t low = 0, high = BT_COUNT(special);
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (special[mid].cp == cp) return title ? special[mid].title : special[mid].upper;
        if (special[mid].cp < cp)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

static bool is_cased(uint32_t cp)
{
    return bt__jis_lower(cp) || bt__jis_upper(cp);
}

static bool is_case_ignorable(uint32_t cp)
{
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_ME || c == UTF8PROC_CATEGORY_CF ||
           c == UTF8PROC_CATEGORY_LM || c == UTF8PROC_CATEGORY_SK || cp == '\'' || cp == '.' ||
           cp == ':' || cp == 0xB7 || cp == 0x2019;
}

/* A sigma that ends a word: a cased letter before it, none after. */
static bool is_final_sigma(const jstr *s, size_t at)
{
    uint32_t cp = 0;
    bool before = false;
    size_t i = at;
    while (i > 0) {
        do i--;
        while (i > 0 && bt_utf8_is_tail(s->p[i]));
        bt__jdecode(s->p + i, s->len - i, &cp);
        if (is_case_ignorable(cp)) continue;
        before = is_cased(cp);
        break;
    }
    if (!before) return false;
    for (i = at + 2; i < s->len;) {
        i += bt__jdecode(s->p + i, s->len - i, &cp);
        if (!is_case_ignorable(cp)) return !is_cased(cp);
    }
    return true;
}

static void add_cp(jsb *b, uint32_t cp, unsigned flags)
{
    char text[4];
    bt__jsb_add(b, text, bt_utf8_encode(cp, text), flags);
}

static void add_upper(jsb *b, uint32_t cp, bool title, unsigned flags)
{
    const uint16_t *more = cp < 0x80 ? NULL : special_find(cp, title);
    if (!more) {
        utf8proc_int32_t c = (utf8proc_int32_t)cp;
        add_cp(b, (uint32_t)(title ? utf8proc_totitle(c) : utf8proc_toupper(c)), flags);
        return;
    }
    for (int i = 0; i < 3 && more[i]; i++) add_cp(b, more[i], flags);
}

static void add_lower(jsb *b, const jstr *s, size_t at, uint32_t cp, unsigned flags)
{
    if (cp == 0x130)
        bt__jsb_add(b, "i\xCC\x87", 3, flags);
    else if (cp == 0x3A3)
        add_cp(b, is_final_sigma(s, at) ? 0x3C2 : 0x3C3, flags);
    else
        add_cp(b, (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp), flags);
}

static void add_folded(jsb *b, uint32_t cp, unsigned flags)
{
    utf8proc_int32_t folded[8];
    int boundary = 0;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)cp, folded, 8, UTF8PROC_CASEFOLD, &boundary);
    if (n < 1 || n > 8) {
        add_cp(b, cp, flags);
        return;
    }
    for (utf8proc_ssize_t i = 0; i < n; i++) add_cp(b, (uint32_t)folded[i], flags);
}

void bt__jsb_case(jsb *b, const jstr *s, size_t at, size_t len, jcase what)
{
    bool inside = false; // of a word, for TITLE; past the first character, for CAPITAL
    size_t end = at + len;
    while (at < end) {
        uint32_t cp;
        unsigned flags = bt__jstr_flags_at(s, at);
        size_t n = bt__jdecode(s->p + at, end - at, &cp);
        switch (what) {
        case JCASE_UPPER: add_upper(b, cp, false, flags); break;
        case JCASE_LOWER: add_lower(b, s, at, cp, flags); break;
        case JCASE_FOLD: add_folded(b, cp, flags); break;
        case JCASE_SWAP:
            if (bt__jis_upper(cp))
                add_lower(b, s, at, cp, flags);
            else
                add_upper(b, cp, false, flags);
            break;
        case JCASE_TITLE:
        case JCASE_CAPITAL:
            if (inside)
                add_lower(b, s, at, cp, flags);
            else
                add_upper(b, cp, true, flags);
            inside = what == JCASE_CAPITAL || is_cased(cp);
            break;
        }
        at += n;
    }
}

jv bt__jcase(jrt *r, const jstr *s, jcase what)
{
    bool maps = what == JCASE_UPPER || what == JCASE_LOWER || what == JCASE_FOLD;
    if (maps && (uint32_t)bt__jstr_chars(s) == s->len) { // ASCII
        char *p = bt__jalloc(r, s->len + 1);
        for (size_t i = 0; i < s->len; i++) {
            char c = s->p[i];
            if (what == JCASE_UPPER ? c >= 'a' && c <= 'z' : c >= 'A' && c <= 'Z')
                c = (char)(c ^ 0x20);
            p[i] = c;
        }
        jstr *copy = bt__jalloc(r, sizeof *copy);
        *copy = *s;
        copy->p = p;
        copy->room = NULL;
        return (jv){.type = JT_STR, .u.s = copy};
    }
    jsb b;
    bt__jsb_init(&b, r);
    bt__jsb_case(&b, s, 0, s->len, what);
    b.markup = s->markup;
    return bt__jsb_done(&b);
}

jv bt__jtitle_filter(jrt *r, const jstr *s)
{
    jsb b;
    bt__jsb_init(&b, r);
    for (size_t at = 0; at < s->len;) {
        uint32_t cp;
        size_t from = at, first = 0;
        while (at < s->len) {
            size_t n = bt__jdecode(s->p + at, s->len - at, &cp);
            if (bt__jis_space(cp) || (cp < 0x80 && cp && strchr("-({[<", (int)cp))) break;
            if (!first) first = n;
            at += n;
        }
        bt__jsb_case(&b, s, from, first, JCASE_UPPER);
        /* The tail is cased as a string of its own, so a sigma cannot look before it. */
        if (at > from + first) {
            jv tail = bt__jstr_sub(r, s, from + first, at - from - first);
            bt__jsb_case(&b, tail.u.s, 0, tail.u.s->len, JCASE_LOWER);
        }
        if (at < s->len) {
            size_t n = bt__jdecode(s->p + at, s->len - at, &cp);
            bt__jsb_sub(&b, s, at, n);
            at += n;
        }
    }
    return bt__jsb_done(&b);
}
