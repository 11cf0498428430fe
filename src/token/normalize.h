/* SPDX-License-Identifier: Apache-2.0 */
/* normalize.h - text rewritten by a tokenizer's normalizers, one after the other.
 *
 * Steps are compiled once and shared by threads; a state belongs to one thread and does not
 * allocate when warm. Private to src/token. */
#pragma once
#include "base/stop.h"
#include "vocab/spec.h"

typedef struct bt_normalize bt_normalize;
typedef struct bt_normalize_state bt_normalize_state;

bt_status bt_normalize_open(const bt_normal_step *step, size_t n, bt_normalize **out, bt_err *err);
void bt_normalize_close(bt_normalize *p); // NULL is fine
bt_status bt_normalize_state_open(const bt_normalize *p, bt_normalize_state **out, bt_err *err);
void bt_normalize_state_close(bt_normalize_state *s);
void bt_normalize_state_trim(bt_normalize_state *s, size_t keep_bytes);

/* *text (valid UTF-8) becomes the normalized text, which lives in the state until the next call, or
 * stays where it is if no step changes it. stop (may be NULL) is looked at between steps and, where
 * something is replaced, inside of one. */
bt_status bt_normalize_run(const bt_normalize *p, bt_normalize_state *s, const char **text,
                           size_t *n, bt_stop *stop, bt_err *err);
/* Whether the text that ran last lost its beginning, and what it begins with now stood further
 * behind. */
bool bt_normalize_moved(const bt_normalize_state *s);
