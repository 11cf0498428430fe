/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - strict, bounded JSON in (cJSON behind a validator) and a plain writer out.
 *
 * cJSON accepts raw control characters, "01", invalid UTF-8, and cuts strings at \u0000. So
 * bt_json_parse first checks grammar, UTF-8 and depth itself, and refuses what cJSON would misread,
 * with the byte offset in the sentence. Thread: any. */
#pragma once
#include "baton/status.h"
#include "base/buf.h"
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

enum { BT_JSON_DEPTH_MAX = 64 };

/* *out is owned by the caller (cJSON_Delete). Refuses trailing bytes and strings that hold \u0000.
 * A byte order mark before the text is skipped. */
bt_status bt_json_parse(const char *text, size_t len, cJSON **out, bt_err *err);

/* The same; BT_ETOOBIG where there are more values than that, and its field is the member of the
 * outermost object that they are in. */
bt_status bt_json_parse_bounded(const char *text, size_t len, size_t values_max, cJSON **out,
                                bt_err *err);

/* Typed getters for request bodies. Absent or null: BT_OK and *out untouched. Wrong type or out of
 * range: BT_EINVAL with a sentence that names the field. */
bt_status bt_json_get_int(const cJSON *obj, const char *key, int64_t min, int64_t max, int64_t *out,
                          bt_err *err);
bt_status bt_json_get_num(const cJSON *obj, const char *key, double min, double max, double *out,
                          bt_err *err);
bt_status bt_json_get_bool(const cJSON *obj, const char *key, bool *out, bt_err *err);
bt_status bt_json_get_str(const cJSON *obj, const char *key, const char **out, bt_err *err);
const cJSON *bt_json_item(const cJSON *obj, const char *key); // NULL if absent or null

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
void bt_jw_raw(bt_jw *w, const char *json, size_t n); // an already written value
/* key and value in one call */
void bt_jw_kstr(bt_jw *w, const char *key, const char *s);
void bt_jw_kint(bt_jw *w, const char *key, int64_t v);
void bt_jw_knum(bt_jw *w, const char *key, double v);
void bt_jw_kbool(bt_jw *w, const char *key, bool v);
void bt_jw_knull(bt_jw *w, const char *key);
