/* SPDX-License-Identifier: Apache-2.0 */
/* utf8.h - UTF-8 validation and decoding (Unicode 15, table 3-7: no surrogates, no overlongs). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes of the byte order mark that a text begins with, as editors on Windows write it; 0: none. */
static inline size_t bt_utf8_mark(const char *s, size_t n)
{
    return n >= 3 && memcmp(s, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

/* Whether the byte goes on with a character. */
static inline bool bt_utf8_is_tail(char c)
{
    return ((unsigned char)c & 0xC0) == 0x80;
}

/* Length of the longest valid prefix of s[0..n). */
size_t bt_utf8_valid_prefix(const char *s, size_t n);
/* As above, but an incomplete character at the very end is told apart from a wrong byte:
 * *incomplete = number of trailing bytes (0..3) that could still become a character. */
size_t bt_utf8_scan(const char *s, size_t n, size_t *incomplete);
/* Decodes one character at s (n >= 1): its length, and the code point; 0 if not valid. */
size_t bt_utf8_decode(const char *s, size_t n, uint32_t *cp);
/* Writes cp (a scalar value) to dst[4]; returns 1..4. */
size_t bt_utf8_encode(uint32_t cp, char *dst);
