/* SPDX-License-Identifier: Apache-2.0 */
/* encode_nfc.c - NFC by utf8proc's tables.
 *
 * utf8proc's own whole-string decomposition sorts combining marks by insertion: a megabyte of
 * alternating marks takes it hours. So characters are decomposed one by one here and long runs of
 * marks are sorted by counting; the composition that follows is linear. */
#include "text/encode_nfc.h"
#include "base/assert.h"
#include "base/utf8.h"
#include <string.h>
#include <utf8proc.h>

#define NFC_OPTIONS ((utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE))
enum { INSERTION_MAX = 24, CLASSES = 256 };

/* Ranges whose characters all are starters, stay themselves under NFC, and never compose with what
 * precedes them (derived from Unicode 14; such properties are stable by policy for assigned
 * characters). */
static const struct range {
    uint32_t first, last;
} quick[] = {
    {0x0000, 0x02FF}, {0x0388, 0x0482},   {0x048A, 0x0590}, {0x0621, 0x064A}, {0x0904, 0x0939},
    {0x0E01, 0x0E37}, {0x1E00, 0x1F6F},   {0x2010, 0x20CF}, {0x2190, 0x2328}, {0x2460, 0x27FF},
    {0x3000, 0x3029}, {0x3041, 0x3096},   {0x309B, 0x30FF}, {0x3400, 0x9FFF}, {0xAC00, 0xD7A3},
    {0xFF01, 0xFFEE}, {0x1F300, 0x1FAFF},
};

static bool quick_char(uint32_t cp)
{
    for (size_t i = 0; i < BT_COUNT(quick) && cp >= quick[i].first; i++)
        if (cp <= quick[i].last) return true;
    return false;
}

bool bt__nfc_quick(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        if ((unsigned char)s[i] < 0xCC) { // up to U+02FF
            i++;
            continue;
        }
        uint32_t cp = 0;
        size_t step = bt_utf8_decode(s + i, n - i, &cp);
        BT_ASSERT(step > 0);
        if (!quick_char(cp)) return false;
        i += step;
    }
    return true;
}

static int combining_class(int32_t cp)
{
    return utf8proc_get_property(cp)->combining_class;
}

/* Sorts a run of marks by combining class, stably. */
static void sort_marks(int32_t *cp, size_t n, int32_t *tmp)
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
        if (i - first > 1) sort_marks(cp + first, i - first, tmp);
        if (i == first) i++;
    }
}

size_t bt__nfc(const char *s, size_t n, int32_t *cp, int32_t *tmp, char *dst)
{
    size_t len = 0, room = n * BT__NFC_CODE_POINTS + BT__NFC_SLACK, bytes = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        int boundary = 0;
        size_t step = bt_utf8_decode(s + i, n - i, &c);
        BT_ASSERT(step > 0);
        i += step;
        utf8proc_ssize_t got = utf8proc_decompose_char(
            (int32_t)c, cp + len, (utf8proc_ssize_t)(room - len), NFC_OPTIONS, &boundary);
        BT_ASSERT(got > 0 && (size_t)got <= room - len);
        len += (size_t)got;
    }
    order(cp, len, tmp);
    utf8proc_ssize_t kept = utf8proc_normalize_utf32(cp, (utf8proc_ssize_t)len, NFC_OPTIONS);
    BT_ASSERT(kept >= 0 && (size_t)kept <= len);
    for (utf8proc_ssize_t i = 0; i < kept; i++)
        bytes += bt_utf8_encode((uint32_t)cp[i], dst + bytes);
    return bytes;
}
