/* SPDX-License-Identifier: Apache-2.0 */
/* pretok.h - text cut into words by a model's regular expression (PCRE2, compiled by its JIT where
 * allowed).
 *
 * A pattern is shared by threads; match data belongs to one thread. */
#pragma once
#include "baton/status.h"
#include "text/vocab.h"

typedef struct bt_pretok bt_pretok;
typedef struct bt_pretok_match bt_pretok_match;

/* which: not BT_VOCAB_PRETOK_NONE. */
bt_status bt_pretok_open(bt_vocab_pretok which, bt_pretok **out, bt_err *err);
void bt_pretok_close(bt_pretok *p);
bt_status bt_pretok_match_open(const bt_pretok *p, bt_pretok_match **out, bt_err *err);
void bt_pretok_match_close(bt_pretok_match *m);

/* The next word of text[at..n): *end is where it ends. Words cover the text without gaps. text is
 * valid UTF-8 and at < n a character's start. */
bt_status bt_pretok_next(const bt_pretok *p, bt_pretok_match *m, const char *text, size_t n,
                         size_t at, size_t *end, bt_err *err);
