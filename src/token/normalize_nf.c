/* SPDX-License-Identifier: Apache-2.0 */
/* normalize_nf.c - normalization forms by utf8proc's tables.
 *
 * utf8proc's own whole-string decomposition sorts combining marks by insertion: a megabyte of
 * alternating marks takes it hours. So characters are decomposed one by one here and long runs of
 * marks are sorted by counting; the composition that follows is linear. Text goes through in
 * stretches that cannot act on each other. */
#include "token/normalize_nf.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include <string.h>
#include <utf8proc.h>

enum { INSERTION_MAX = 24, CLASSES = 256, STRETCH_BYTES = 4096 };
enum { POINTS_A_BYTE = 7, SLACK = 32 }; // KD makes 18 code points of the 3 bytes of U+FDFA
enum { INERT = 0x200000, PLACEHOLDER = 0x10FFFE };

static const struct range {
    uint32_t first, last;
} quick_c[] = {
    /* All are starters, stay themselves under NFC, and never compose with what precedes them
     * (derived from Unicode 14; such properties are stable by policy for assigned characters). */
    {0x0000, 0x02FF}, {0x0388, 0x0482},   {0x048A, 0x0590}, {0x0621, 0x064A}, {0x0904, 0x0939},
    {0x0E01, 0x0E37}, {0x1E00, 0x1F6F},   {0x2010, 0x20CF}, {0x2190, 0x2328}, {0x2460, 0x27FF},
    {0x3000, 0x3029}, {0x3041, 0x3096},   {0x309B, 0x30FF}, {0x3400, 0x9FFF}, {0xAC00, 0xD7A3},
    {0xFF01, 0xFFEE}, {0x1F300, 0x1FAFF},
};
/* Where a stretch may begin in any form: what these become begins with a starter that does not
 * compose with what precedes it. */
static const struct range begins[] = {
    {0x0000, 0x02FF}, {0x0388, 0x0482}, {0x048A, 0x0590},   {0x0904, 0x0939}, {0x0E01, 0x0E31},
    {0x2010, 0x20CF}, {0x3001, 0x3029}, {0x3041, 0x3096},   {0x30A1, 0x30FA}, {0x3400, 0x9FFF},
    {0xAC00, 0xD7A3}, {0xFF01, 0xFF60}, {0x1F300, 0x1FAFF},
};
/* Characters that are newer than the library's tables, of those that utf8proc decomposes, gives a
 * class other than 0, or composes. */
static const struct range newer[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},
    {0xC3C, 0xC3C},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},
    {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},
    {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x10785}, {0x10787, 0x107B0},
    {0x107B2, 0x107BA}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B},
    {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11930, 0x11930}, {0x11935, 0x11935},
    {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0},
    {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42},
    {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1},
    {0x1E030, 0x1E06D}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9},
};

static bool in_ranges(const struct range *range, size_t n, uint32_t cp)
{
    for (size_t i = 0; i < n && cp >= range[i].first; i++)
        if (cp <= range[i].last) return true;
    return false;
}

bool bt__nf_newer(uint32_t cp)
{
    return cp >= newer[0].first && in_ranges(newer, BT_COUNT(newer), cp);
}

void bt__nf_scratch_release(bt__nf_scratch *x)
{
    bt_free(x->cp);
    bt_free(x->tmp);
    *x = (bt__nf_scratch){0};
}

bool bt__nf_quick(bt__nf form, const char *s, size_t n)
{
    unsigned char limit = form == BT__NFC ? 0xCC : 0x80; // 0xCC: up to U+02FF
    for (size_t i = 0; i < n;) {
        if ((unsigned char)s[i] < limit) {
            i++;
            continue;
        }
        uint32_t cp = 0;
        size_t step = bt_utf8_decode(s + i, n - i, &cp);
        BT_ASSERT(step > 0);
        if (form != BT__NFC || !in_ranges(quick_c, BT_COUNT(quick_c), cp)) return false;
        i += step;
    }
    return true;
}

static int combining_class(int32_t cp)
{
    return utf8proc_get_property(cp)->combining_class; // 0 for those marked INERT
}

void bt__nf_sort_marks(int32_t *cp, size_t n, int32_t *tmp)
{
    if (n <= INSERTION_MAX) {
        for (size_t i = 1; i < n; i++) {
            int32_t c = cp[i];
            int class = combining_class(c);
            size_t at = i;
            for (; at > 0 && combining_class(cp[at - 1]) > class; at--) cp[at] = cp[at - 1];
            cp[at] = c;
        }
        return;
    }
    size_t start[CLASSES + 1] = {0};
    for (size_t i = 0; i < n; i++) start[(combining_class(cp[i]) & (CLASSES - 1)) + 1]++;
    for (size_t i = 1; i <= CLASSES; i++) start[i] += start[i - 1];
    for (size_t i = 0; i < n; i++) tmp[start[combining_class(cp[i]) & (CLASSES - 1)]++] = cp[i];
    memcpy(cp, tmp, n * sizeof *cp);
}

/* Canonical order: marks between two starters, by class. */
static void order(int32_t *cp, size_t n, int32_t *tmp)
{
    for (size_t i = 0; i < n;) {
        size_t first = i;
        while (i < n && combining_class(cp[i]) != 0) i++;
        if (i - first > 1) bt__nf_sort_marks(cp + first, i - first, tmp);
        if (i == first) i++;
    }
}

/* Composes cp[0..n); what is inert takes part as a placeholder, because utf8proc looks code points
 * up unchecked. */
static size_t compose(int32_t *cp, size_t n, int32_t *tmp)
{
    size_t waiting = 0, given = 0;
    for (size_t i = 0; i < n; i++) {
        if (cp[i] < INERT && cp[i] != PLACEHOLDER) continue;
        tmp[waiting++] = cp[i];
        cp[i] = PLACEHOLDER;
    }
    utf8proc_ssize_t kept = utf8proc_normalize_utf32(
        cp, (utf8proc_ssize_t)n, (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    BT_ASSERT(kept >= 0 && (size_t)kept <= n);
    for (size_t i = 0; i < (size_t)kept; i++)
        if (cp[i] == PLACEHOLDER) cp[i] = tmp[given++];
    BT_ASSERT(given == waiting);
    return (size_t)kept;
}

static bool reserve(bt__nf_scratch *x, size_t n)
{
    if (n <= x->cap) return true;
    size_t cap = 1024;
    while (cap < n) cap *= 2;
    bt__nf_scratch_release(x);
    x->cp = bt_malloc(cap * sizeof *x->cp);
    x->tmp = bt_malloc(cap * sizeof *x->tmp);
    if (!x->cp || !x->tmp) {
        bt__nf_scratch_release(x);
        return false;
    }
    x->cap = cap;
    return true;
}

static bool append_stretch(bt__nf form, bt__nf_scratch *x, const char *s, size_t n, bt_buf *out)
{
    bool composes = form == BT__NFC || form == BT__NFKC;
    utf8proc_option_t options =
        (utf8proc_option_t)(UTF8PROC_STABLE | (composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                            (form == BT__NFKC || form == BT__NFKD ? UTF8PROC_COMPAT : 0));
    size_t len = 0;
    if (!reserve(x, n * POINTS_A_BYTE + SLACK)) return false;
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        int boundary = 0;
        size_t step = bt_utf8_decode(s + i, n - i, &c);
        BT_ASSERT(step > 0);
        i += step;
        if (bt__nf_newer(c)) {
            x->cp[len++] = (int32_t)c | INERT;
            continue;
        }
        utf8proc_ssize_t got = utf8proc_decompose_char(
            (int32_t)c, x->cp + len, (utf8proc_ssize_t)(x->cap - len), options, &boundary);
        BT_ASSERT(got > 0 && (size_t)got <= x->cap - len);
        len += (size_t)got;
    }
    order(x->cp, len, x->tmp);
    if (composes) len = compose(x->cp, len, x->tmp);
    if (!bt_buf_reserve(out, 4 * len)) return false;
    for (size_t i = 0; i < len; i++)
        out->len += bt_utf8_encode((uint32_t)(x->cp[i] & ~INERT), out->data + out->len);
    out->data[out->len] = 0;
    return true;
}

bool bt__nf_append(bt__nf form, bt__nf_scratch *x, const char *s, size_t n, bt_buf *out)
{
    for (size_t from = 0, at = 0; from < n; from = at) {
        at = BT_MIN(n, from + STRETCH_BYTES);
        while (at < n && bt_utf8_is_tail(s[at])) at++;
        for (uint32_t cp; at < n;) {
            size_t step = bt_utf8_decode(s + at, n - at, &cp);
            if (in_ranges(begins, BT_COUNT(begins), cp)) break;
            at += step;
        }
        if (!append_stretch(form, x, s + from, at - from, out)) return false;
    }
    return true;
}
