/* SPDX-License-Identifier: Apache-2.0 */
/* regex.h - the regular expressions of tokenizer files, in Oniguruma's syntax, run by PCRE2.
 *
 * The two differ in what \s, \w, \h and script names mean, in sets of sets ([a[^b]], &&), in
 * {n,m}+, and in what ^ and $ see; patterns are rewritten so that PCRE2 matches what Oniguruma
 * would, and what cannot be rewritten is refused by name. A compiled pattern is shared by threads;
 * match data belongs to one. Private to src/token. */
#pragma once
#include "base/buf.h"
#include "vocab/spec.h"

typedef struct bt__regex bt__regex;
typedef struct bt__regex_match bt__regex_match;

/* is_regex false: the pattern is a literal. BT_EUNSUPPORTED: has no exact equal; BT_EFORMAT: no
 * pattern at all. */
bt_status bt__regex_open(bt_str pattern, bool is_regex, bt__regex **out, bt_err *err);
void bt__regex_close(bt__regex *r); // NULL is fine
bt_status bt__regex_match_open(const bt__regex *r, bt__regex_match **out, bt_err *err);
void bt__regex_match_close(bt__regex_match *m);

/* The leftmost match that begins at or after `at` (a character's start of valid UTF-8); what is
 * before `at` is seen by look-behind. *start = SIZE_MAX if there is none. */
bt_status bt__regex_find(const bt__regex *r, bt__regex_match *m, const char *text, size_t n,
                         size_t at, size_t *start, size_t *end, bt_err *err);

/* All matches in turn, as Oniguruma's find_iter: none overlaps the one before, and an empty one
 * right behind it is passed over. Start with {0, SIZE_MAX}. */
typedef struct bt__regex_walk {
    size_t at, last_end;
} bt__regex_walk;
bt_status bt__regex_walk_next(const bt__regex *r, bt__regex_match *m, const char *text, size_t n,
                              bt__regex_walk *walk, size_t *start, size_t *end, bt_err *err);

/* The rewriting by itself: PCRE2's spelling, for UTF, UCP and MULTILINE, newline LF. */
bt_status bt__regex_rewrite(bt_str pattern, bt_buf *out, bt_err *err);
