/* SPDX-License-Identifier: Apache-2.0 */
/* pretok.h - text cut into words by a tokenizer's pre-tokenizers, one after the other.
 *
 * The steps push: each piece that one of them cuts goes through the rest before the next is cut, so
 * that nothing is collected. Steps are compiled once and shared by threads; a state belongs to one
 * thread. A warm state does not allocate. Private to src/token. */
#pragma once
#include "vocab/spec.h"

typedef struct bt_pretok bt_pretok;
typedef struct bt_pretok_state bt_pretok_state;

/* raw: what a ByteLevel step makes of bytes is left out; they stay as they are. The strings of the
 * steps are copied. */
bt_status bt_pretok_open(const bt_split_step *step, size_t n, bool raw, bt_pretok **out,
                         bt_err *err);
void bt_pretok_close(bt_pretok *p); // NULL is fine
bt_status bt_pretok_state_open(const bt_pretok *p, bt_pretok_state **out, bt_err *err);
void bt_pretok_state_close(bt_pretok_state *s);
void bt_pretok_state_trim(bt_pretok_state *s, size_t keep_bytes); // gives back larger buffers

/* Calls fn for each word of text (n bytes of valid UTF-8), none of them empty, until it fails.
 * first: the text begins the whole input. A word lives until fn returns. */
typedef bt_status (*bt_pretok_fn)(void *ud, const char *word, size_t n, bt_err *err);
bt_status bt_pretok_run(const bt_pretok *p, bt_pretok_state *s, const char *text, size_t n,
                        bool first, bt_pretok_fn fn, void *ud, bt_err *err);
