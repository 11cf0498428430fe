/* SPDX-License-Identifier: Apache-2.0 */
/* byte_level.h - the GPT-2 spelling of bytes as printable characters, and back.
 *
 * Bytes that print in Latin-1 spell themselves; the other 68, in order, are U+0100 onwards (Radford
 * et al. 2019). */
#pragma once
#include "base/utf8.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The byte that a character spells; -1 if it spells none. */
static inline int bt__byte_level_of(uint32_t cp)
{
    if ((cp >= 33 && cp <= 126) || (cp >= 161 && cp <= 172) || (cp >= 174 && cp <= 255))
        return (int)cp;
    if (cp < 256 || cp >= 256 + 68) return -1;
    uint32_t i = cp - 256;
    if (i < 33) return (int)i;
    return i < 67 ? (int)(i - 33 + 127) : 173;
}

/* s[0..n) to raw bytes in dst (room for n). False, with dst undefined, where a character spells no
 * byte. */
static inline bool bt__byte_level_decode(const char *s, size_t n, char *dst, size_t *n_out)
{
    size_t len = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        size_t step = bt_utf8_decode(s + i, n - i, &cp);
        int byte = step ? bt__byte_level_of(cp) : -1;
        if (byte < 0) return false;
        dst[len++] = (char)byte;
        i += step;
    }
    *n_out = len;
    return true;
}

/* Whether every character spells a byte. */
static inline bool bt__byte_level_spells(const char *s, size_t n)
{
    for (size_t i = 0, step = 1; i < n; i += step) {
        uint32_t cp = (unsigned char)s[i];
        if (cp > ' ' && cp < 127) {
            step = 1;
            continue;
        }
        step = bt_utf8_decode(s + i, n - i, &cp);
        if (!step || bt__byte_level_of(cp) < 0) return false;
    }
    return true;
}

/* The spelling of n bytes into dst (room for 2 n). */
static inline void bt__byte_level_encode(const char *s, size_t n, char *dst, size_t *n_out)
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char b = (unsigned char)s[i];
        uint32_t cp = b;
        if (b <= 32)
            cp = 256u + b;
        else if (b >= 127 && b <= 160)
            cp = 256u + 33 + (b - 127u);
        else if (b == 173)
            cp = 256 + 67;
        len += bt_utf8_encode(cp, dst + len);
    }
    *n_out = len;
}
