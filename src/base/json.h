/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - JSON of bounded size: a tree in, a plain writer out.
 *
 * The tree is what the pull reader (json_read.h) meets, built in one pass: numbers keep their
 * spelling, members their order, and repeated ones are all there. It lies in an arena and is
 * read-only. Thread: any. */
#pragma once
#include "base/buf.h"
#include "base/json_read.h"
#include "base/mem.h"
#include "baton/status.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct bt_json bt_json;
struct bt_json {
    bt_json *next;   // the member or element behind it
    const char *key; // of a member, NUL-terminated; else NULL
    union {
        bt_json *child;   // OBJECT, ARRAY: the first; NULL: it is empty
        const char *text; // STRING, NUMBER (as spelled): NUL-terminated
    };
    uint32_t n; // OBJECT, ARRAY: how many are in it; STRING, NUMBER: bytes; BOOL: 0 or 1
    uint32_t n_key : 28;
    uint32_t kind : 4; // bt_json_kind
};

enum { BT_JSON_DEPTH_MAX = 64 }; // of bt_json_parse()

/* One value, as r is set up to read it (flags, depth_max), of at most values_max values in all.
 * NULL: r has a fault; *member (or NULL) is then the member of the outermost object that it is in,
 * or "". What it takes is a byte for a byte and 32 for each value. */
const bt_json *bt_json_build(bt_json_reader *r, bt_arena *arena, size_t values_max,
                             const char **member);

/* The most of an arena that a text of len bytes can take: "0," is a value of two bytes. */
static inline size_t bt_json_room(size_t len)
{
    return len + (len / 2 + 2) * (sizeof(bt_json) + 16);
}

/* A whole text, as JSON's grammar has it and without strings that hold \u0000. A byte order mark
 * before it is skipped. BT_EINVAL names the byte that is wrong. */
bt_status bt_json_parse(const char *text, size_t len, bt_arena *arena, const bt_json **out,
                        bt_err *err);
/* The same; BT_ETOOBIG where there are more values than that, and its field is the member of the
 * outermost object that they are in. */
bt_status bt_json_parse_bounded(const char *text, size_t len, size_t values_max, bt_arena *arena,
                                const bt_json **out, bt_err *err);

static inline bool bt_json_is(const bt_json *v, bt_json_kind kind) // v may be NULL
{
    return v && v->kind == kind;
}
bool bt_json_is_text(const bt_json *v, const char *text); // a string, and that one
double bt_json_number(const bt_json *v);                  // of a NUMBER: the nearest
/* Whether it is a NUMBER without a fraction (1e3 and 2.0 have none) that 64 bits hold: exactly. */
bool bt_json_whole(const bt_json *v, int64_t *out);
/* The first member of that name; NULL if there is none, or obj is no object. */
const bt_json *bt_json_find(const bt_json *obj, const char *key);
const bt_json *bt_json_item(const bt_json *obj, const char *key); // the same; null counts as absent

/* Typed getters. Absent or null: BT_OK and *out untouched. Wrong type or out of range: BT_EINVAL
 * with a sentence that names the field. */
bt_status bt_json_get_int(const bt_json *obj, const char *key, int64_t min, int64_t max,
                          int64_t *out, bt_err *err);
bt_status bt_json_get_num(const bt_json *obj, const char *key, double min, double max, double *out,
                          bt_err *err);
bt_status bt_json_get_bool(const bt_json *obj, const char *key, bool *out, bt_err *err);
bt_status bt_json_get_str(const bt_json *obj, const char *key, const char **out, bt_err *err);

/* Writer: commas and quoting by itself. Strings must be valid UTF-8; other bytes are replaced by
 * U+FFFD. */
typedef struct bt_jw {
    bt_buf *b;
    bool comma; // a comma is due before the next value
} bt_jw;
static inline bt_jw bt_jw_on(bt_buf *b)
{
    bt_jw w = {b, false};
    return w;
}
void bt_jw_open(bt_jw *w, char bracket);  // '{' or '['
void bt_jw_close(bt_jw *w, char bracket); // '}' or ']'
void bt_jw_key(bt_jw *w, const char *key);
void bt_jw_str(bt_jw *w, const char *s); // NULL writes null
void bt_jw_strn(bt_jw *w, const char *s, size_t n);
void bt_jw_int(bt_jw *w, int64_t v);
void bt_jw_num(bt_jw *w, double v); // shortest that reads back equal; NaN and infinity write null
void bt_jw_bool(bt_jw *w, bool v);
void bt_jw_null(bt_jw *w);
void bt_jw_value(bt_jw *w, const bt_json *v);         // numbers as spelled
void bt_jw_raw(bt_jw *w, const char *json, size_t n); // an already written value
/* key and value in one call */
void bt_jw_kstr(bt_jw *w, const char *key, const char *s);
void bt_jw_kint(bt_jw *w, const char *key, int64_t v);
void bt_jw_knum(bt_jw *w, const char *key, double v);
void bt_jw_kbool(bt_jw *w, const char *key, bool v);
void bt_jw_knull(bt_jw *w, const char *key);
