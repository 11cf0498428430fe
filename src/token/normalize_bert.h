/* SPDX-License-Identifier: Apache-2.0 */
/* normalize_bert.h - BertNormalizer, StripAccents, Lowercase and Nmt, as the Rust `tokenizers`
 * library (0.22) does them to the character.
 *
 * Each of its rules rests on another Unicode version: lower case on 17, what a non-spacing mark and
 * a control character is on 8, canonical decomposition on 12; the ranges are in normalize_bert.c.
 * Lower case is by character: no final sigma; U+0130 becomes two characters. All append to out,
 * read valid UTF-8 (s[0..n)), are linear, and tell by out->failed that memory or out's bound was
 * not enough; they allocate only when a buffer must grow. Pure. Private to src/token. */
#pragma once
#include "base/buf.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum bt_tristate { BT_TRISTATE_DEFAULT, BT_TRISTATE_NO, BT_TRISTATE_YES } bt_tristate;

typedef struct bt_bert_normalizer {
    bool clean_text;           // control characters dropped, white space becomes ' '
    bool handle_chinese_chars; // ' ' on both sides of each CJK ideograph
    bt_tristate strip_accents; // canonical decomposition less non-spacing marks; default: lowercase
    bool lowercase;
} bt_bert_normalizer;

/* Zero-initialise; kept between calls. */
typedef struct bt_bert_scratch {
    int32_t *cp, *tmp; // owned
    size_t cap;
} bt_bert_scratch;
void bt_bert_scratch_release(bt_bert_scratch *x);

void bt_normalize_bert(const bt_bert_normalizer *o, bt_bert_scratch *x, const char *s, size_t n,
                       bt_buf *out);
void bt_normalize_lowercase(const char *s, size_t n, bt_buf *out);
/* Drops combining marks (Mn, Mc, Me of the library's Unicode version); does not decompose. */
void bt_normalize_strip_accents(const char *s, size_t n, bt_buf *out);
/* Drops control characters and makes odd white space ' '. */
void bt_normalize_nmt(const char *s, size_t n, bt_buf *out);
