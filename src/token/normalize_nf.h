/* SPDX-License-Identifier: Apache-2.0 */
/* normalize_nf.h - Unicode normalization forms C, D, KC and KD in linear time, as the Rust
 * `tokenizers` library has them: its tables are older than utf8proc's, and characters that it does
 * not know yet stay as they are. Thread: any. Private to src/token. */
#pragma once
#include "base/buf.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum bt__nf { BT__NFC, BT__NFD, BT__NFKC, BT__NFKD } bt__nf;

/* Zero-initialise; kept between calls. */
typedef struct bt__nf_scratch {
    int32_t *cp, *tmp; // owned [cap]
    size_t cap;
} bt__nf_scratch;
void bt__nf_scratch_release(bt__nf_scratch *x);

/* True if s (valid UTF-8) is certainly of that form already; false: it may or may not be. For C
 * this covers what nearly all text is made of: composed Latin, Greek, Cyrillic, kana, Han, Hangul,
 * symbols and emoji; for the others, ASCII. */
bool bt__nf_quick(bt__nf form, const char *s, size_t n);

/* Appends the normalized s (valid UTF-8). False: no memory, or past out's bound. Scratch grows with
 * the longest stretch of characters that act on each other. */
bool bt__nf_append(bt__nf form, bt__nf_scratch *x, const char *s, size_t n, bt_buf *out);

/* Characters that utf8proc's tables know and the library's do not. */
bool bt__nf_newer(uint32_t cp);

/* Sorts a run of marks by combining class, stably, and a long one in linear time. tmp [n]. */
void bt__nf_sort_marks(int32_t *cp, size_t n, int32_t *tmp);
