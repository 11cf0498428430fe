/* SPDX-License-Identifier: Apache-2.0 */
/* encode_nfc.h - Unicode normalization form C in linear time, on the caller's scratch. Thread: any.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* NFD has at most 1.5 code points for a byte of UTF-8, and NFC at most 3 bytes (Unicode 15). */
enum { BT__NFC_CODE_POINTS = 2, BT__NFC_BYTES = 3, BT__NFC_SLACK = 32 };

/* True if s (valid UTF-8) is certainly NFC already; false: it may or may not be. Covers what nearly
 * all text is made of: composed Latin, Greek, Cyrillic, kana, Han, Hangul, symbols and emoji. */
bool bt__nfc_quick(const char *s, size_t n);

/* The NFC of s (valid UTF-8) into dst; returns its length. Room: cp and tmp BT__NFC_CODE_POINTS * n
 * + BT__NFC_SLACK each, dst BT__NFC_BYTES * n. */
size_t bt__nfc(const char *s, size_t n, int32_t *cp, int32_t *tmp, char *dst);
