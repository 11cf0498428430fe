/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

/* Lowest and highest second byte allowed after lead byte c; length of its sequence, 0 if c cannot
 * lead. */
static size_t utf8_lead(unsigned char c, unsigned char *lo, unsigned char *hi)
{
    *lo = 0x80;
    *hi = 0xBF;
    if (c < 0x80) return 1;
    if (c < 0xC2) return 0;
    if (c < 0xE0) return 2;
    if (c < 0xF0) {
        if (c == 0xE0) *lo = 0xA0;
        if (c == 0xED) *hi = 0x9F;
        return 3;
    }
    if (c > 0xF4) return 0;
    if (c == 0xF0) *lo = 0x90;
    if (c == 0xF4) *hi = 0x8F;
    return 4;
}

/* Valid bytes of the sequence at s: == *need if whole, less if cut short or wrong at that byte. */
static size_t utf8_match(const unsigned char *s, size_t n, size_t *need)
{
    unsigned char lo, hi;
    *need = utf8_lead(s[0], &lo, &hi);
    if (*need == 0) return 0;
    size_t i = 1;
    for (; i < *need && i < n; i++) {
        if (s[i] < lo || s[i] > hi) break;
        lo = 0x80;
        hi = 0xBF;
    }
    return i;
}

size_t bt_utf8_scan(const char *s, size_t n, size_t *incomplete)
{
    const unsigned char *p = (const unsigned char *)s;
    size_t i = 0, need;
    *incomplete = 0;
    while (i < n) {
        if (p[i] < 0x80) {
            i++;
            continue;
        }
        size_t got = utf8_match(p + i, n - i, &need);
        if (need == 0) return i;
        if (got < need) {
            if (i + got == n) *incomplete = got;
            return i;
        }
        i += need;
    }
    return i;
}

size_t bt_utf8_valid_prefix(const char *s, size_t n)
{
    size_t incomplete;
    return bt_utf8_scan(s, n, &incomplete);
}

size_t bt_utf8_decode(const char *s, size_t n, uint32_t *cp)
{
    static const unsigned char mask[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    const unsigned char *p = (const unsigned char *)s;
    size_t need;
    if (utf8_match(p, n, &need) < need || need == 0) return 0;
    uint32_t v = p[0] & mask[need];
    for (size_t i = 1; i < need; i++) v = v << 6 | (p[i] & 0x3F);
    *cp = v;
    return need;
}

size_t bt_utf8_encode(uint32_t cp, char *dst)
{
    if (cp < 0x80) {
        dst[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        dst[0] = (char)(0xC0 | cp >> 6);
        dst[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        dst[0] = (char)(0xE0 | cp >> 12);
        dst[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        dst[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    dst[0] = (char)(0xF0 | cp >> 18);
    dst[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    dst[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    dst[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}
