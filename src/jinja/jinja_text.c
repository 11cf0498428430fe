/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_text.c - classes of characters, searching and stripping. */
#define _GNU_SOURCE // memmem
#include "jinja/jinja_text.h"
#include "base/utf8.h"
#include <utf8proc.h>

static utf8proc_category_t category(uint32_t cp)
{
    return utf8proc_category((utf8proc_int32_t)cp);
}

bool bt__jis_space(uint32_t cp)
{
    if (cp < 0x80) return (cp >= 9 && cp <= 13) || (cp >= 0x1C && cp <= 0x20);
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

bool bt__jis_printable(uint32_t cp)
{
    if (cp < 0x7F) return cp >= 0x20;
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
    }
}

bool bt__jis_alpha(uint32_t cp)
{
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool bt__jis_decimal(uint32_t cp)
{
    return category(cp) == UTF8PROC_CATEGORY_ND;
}

bool bt__jis_digit(uint32_t cp)
{
    return bt__jis_decimal(cp) || cp == 0xB2 || cp == 0xB3 || cp == 0xB9 || cp == 0x2070 ||
           (cp >= 0x2074 && cp <= 0x2079) || (cp >= 0x2080 && cp <= 0x2089) ||
           (cp >= 0x2460 && cp <= 0x2468) || (cp >= 0x2474 && cp <= 0x247C) ||
           (cp >= 0x2488 && cp <= 0x2490);
}

bool bt__jis_numeric(uint32_t cp)
{
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
}

bool bt__jis_alnum(uint32_t cp)
{
    return bt__jis_alpha(cp) || bt__jis_numeric(cp);
}

bool bt__jis_lower(uint32_t cp)
{
    if (cp < 0x80) return cp >= 'a' && cp <= 'z';
    return category(cp) == UTF8PROC_CATEGORY_LL || cp == 0xAA || cp == 0xBA ||
           (cp >= 0x2B0 && cp <= 0x2B8) || (cp >= 0x2170 && cp <= 0x217F) ||
           (cp >= 0x24D0 && cp <= 0x24E9);
}

bool bt__jis_upper(uint32_t cp)
{
    if (cp < 0x80) return cp >= 'A' && cp <= 'Z';
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LT ||
           (cp >= 0x2160 && cp <= 0x216F) || (cp >= 0x24B6 && cp <= 0x24CF);
}

size_t bt__jdecode(const char *p, size_t n, uint32_t *cp)
{
    if (n && (unsigned char)p[0] < 0x80) {
        *cp = (unsigned char)p[0];
        return 1;
    }
    size_t used = bt_utf8_decode(p, n, cp);
    if (used) return used;
    *cp = 0xFFFD;
    return 1;
}

size_t bt__jfind(const char *hay, size_t n, const char *needle, size_t m)
{
    if (m == 0) return 0;
    const char *hit = n ? memmem(hay, n, needle, m) : NULL;
    return hit ? (size_t)(hit - hay) : SIZE_MAX;
}

size_t bt__jrfind(jrt *r, const char *hay, size_t n, const char *needle, size_t m)
{
    if (m > n) return SIZE_MAX;
    for (size_t at = n - m;; at--) {
        if (!m || hay[at] == needle[0]) {
            bt__jcharge(r, m); // a long needle of one letter is compared again and again
            if (memcmp(hay + at, needle, m) == 0) return at;
        }
        if (at == 0) return SIZE_MAX;
    }
}

static bool strips(jrt *r, const char *p, size_t n, uint32_t cp, const jstr *set)
{
    if (!set) return bt__jis_space(cp);
    bt__jcharge(r, set->len);
    return bt__jfind(set->p, set->len, p, n) != SIZE_MAX;
}

void bt__jstrip_span(jrt *r, const jstr *s, const jstr *set, bool left, bool right, size_t *at,
                     size_t *len)
{
    size_t from = 0, end = s->len;
    uint32_t cp;
    while (left && from < end) {
        size_t n = bt__jdecode(s->p + from, end - from, &cp);
        if (!strips(r, s->p + from, n, cp, set)) break;
        from += n;
    }
    while (right && end > from) {
        size_t last = end - 1;
        while (last > from && bt_utf8_is_tail(s->p[last])) last--;
        size_t n = bt__jdecode(s->p + last, end - last, &cp);
        if (!strips(r, s->p + last, n, cp, set)) break;
        end = last;
    }
    *at = from;
    *len = end - from;
}

jv bt__jstrip(jrt *r, const jstr *s, const jstr *set, bool left, bool right)
{
    size_t at, len;
    bt__jcharge(r, s->len);
    bt__jstrip_span(r, s, set, left, right, &at, &len);
    return bt__jstr_sub(r, s, at, len);
}

size_t bt__jline_break(const char *p, size_t n)
{
    uint32_t cp;
    if (n >= 2 && p[0] == '\r' && p[1] == '\n') return 2;
    size_t used = bt__jdecode(p, n, &cp);
    bool is = (cp >= 10 && cp <= 13) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 ||
              cp == 0x2029;
    return is ? used : 0;
}
