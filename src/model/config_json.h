/* SPDX-License-Identifier: Apache-2.0 */
/* config_json.h - an object of config.json or generation_config.json, its members by name. Private to
 * src/model.
 *
 * Absent and null are the same: the getters leave *out as it is. A value of a wrong type, or out of
 * its range, is refused with a sentence that names file and field; BT_EFORMAT, BT_ENOMEM. */
#pragma once
#include "base/json_read.h"
#include "file/tensor.h"

typedef struct bt__config {
    const char *label;  // borrowed: the file as sentences name it
    const char *inside; // borrowed: the object's own name with a dot, "text_config."; "" at the top
    struct bt__member {
        bt_str name, value; // its JSON text, in the file's
    } * member;             // owned; of equal names the last one counts
    size_t n;
} bt__config;

/* text is the caller's and has to outlive *out: bt__config_close. */
bt_status bt__config_open(bt_str text, const char *label, const char *inside, bt__config *out,
                          bt_err *err);
void bt__config_close(bt__config *c); // zeroed is fine

bt_json_kind bt__config_kind(const bt__config *c, const char *key);  // BT_JSON_NULL if absent
bool bt__config_given(const bt__config *c, const char *key);         // there, if only as null
const bt_str *bt__config_span(const bt__config *c, const char *key); // its JSON text; NULL: absent
bt_status bt__config_int(const bt__config *c, const char *key, int64_t min, int64_t max,
                         int64_t *out, bt_err *err);
bt_status bt__config_num(const bt__config *c, const char *key, double min, double max, double *out,
                         bt_err *err);
bt_status bt__config_bool(const bt__config *c, const char *key, bool *out, bt_err *err);
/* Without escapes, in the file's text. */
bt_status bt__config_str(const bt__config *c, const char *key, bt_str *out, bt_err *err);
/* n numbers of a list, at most cap; *n stays where there is no list. */
bt_status bt__config_nums(const bt__config *c, const char *key, double *dst, size_t cap, size_t *n,
                          bt_err *err);
/* Calls fn for each string of a list; absent: for none. Another kind of element is refused. */
typedef void (*bt__config_string_fn)(void *ud, size_t i, bt_str s);
bt_status bt__config_strings(const bt__config *c, const char *key, bt__config_string_fn fn,
                             void *ud, bt_err *err);
/* The object under key; absent: one without members. inside as of *out. */
bt_status bt__config_object(const bt__config *c, const char *key, const char *inside,
                            bt__config *out, bt_err *err);
