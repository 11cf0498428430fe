/* SPDX-License-Identifier: Apache-2.0 */
/* spec_json.h - an object of a JSON file as named spans, for the readers of tokenizer.json and the
 * files beside it. Private to src/token. */
#pragma once
#include "base/json_read.h"
#include "vocab/spec.h"

/* What every function below needs, and where the first fault is kept. */
typedef struct bt__jload {
    bt_spec *s;
    bt_err *err;
    bt_status status;
    const char *text; // the whole file: faults name a byte of it
    size_t n;
    int flags; // of the reader
} bt__jload;

enum { BT__FIELDS_MAX = 64, BT__NAME_BYTES = 128 }; // names with their NUL

/* The members of an object; of equal names the last one counts. Names longer than any that matter
 * are left out. */
typedef struct bt__fields {
    bt__jload *l;
    struct bt__field {
        char name[BT__NAME_BYTES];
        bt_str value; // its JSON text
    } field[BT__FIELDS_MAX];
    size_t n;
} bt__fields;

/* All functions return false after a fault, which is in l->status then. */
bool bt__jfail(bt__jload *l, bt_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool bt__jfail_reader(bt__jload *l, const bt_json_reader *r); // the reader's own fault
bool bt__jmemory(bt__jload *l);
/* A reader over a span of the file. */
void bt__jreader(const bt__jload *l, bt_json_reader *r, bt_str span);

bool bt__fields_read(bt__fields *f, bt__jload *l, bt_str object);
/* The same from where a reader of the whole file stands; its faults are the caller's to report.
 * take (or NULL) is asked first about each member and may read its value from r: *taken. */
typedef bool (*bt__take_fn)(void *ud, const bt__fields *f, bt_str name, bt_json_reader *r,
                            bool *taken);
bool bt__fields_from(bt__fields *f, bt__jload *l, bt_json_reader *r, bt__take_fn take, void *ud);
/* NULL if absent or null. */
const bt_str *bt__field_find(const bt__fields *f, const char *name);
/* Absent or null: *out stays as it is. The text is copied into the description. */
bool bt__field_text(const bt__fields *f, const char *name, bt_str *out);
bool bt__field_bool(const bt__fields *f, const char *name, bool *out);
bool bt__field_int(const bt__fields *f, const char *name, int64_t min, int64_t max, int64_t *out);
bool bt__field_given(const bt__fields *f, const char *name);        // present, if only as null
bt_json_kind bt__field_kind(const bt__fields *f, const char *name); // BT_JSON_NULL if absent
/* Calls fn for each element of an array; absent or null: none. */
typedef bool (*bt__element_fn)(bt__jload *l, void *ud, size_t i, bt_str element);
bool bt__field_each(const bt__fields *f, const char *name, bt__element_fn fn, void *ud);
/* Calls fn for each member of an object, its name given. */
typedef bool (*bt__member_fn)(bt__jload *l, void *ud, bt_str name, bt_str value);
bool bt__field_members(const bt__fields *f, const char *name, bt__member_fn fn, void *ud);

/* The number as Rust's serde_json reads it, which is what models of pieces with scores were used
 * with: digits as one integer, then one multiplication or division by a power of ten. That is up to
 * one unit in the last place from the nearest double, and decides between cuts of equal sums. The
 * spelling is JSON's. False: too large. */
bool bt__json_double(const char *s, size_t n, double *v);
