/* SPDX-License-Identifier: Apache-2.0 */
/* gguf.h - GGUF files (versions 2 and 3): mapped, everything validated before anyone looks.
 *
 * After open every key, array, name, offset and size has been checked against the file, so
 * accessors cannot fail on damage. Pointers point into the mapping, are not aligned, and live until
 * close. A file that another program cuts shorter while it is mapped ends the process with SIGBUS:
 * replace model files by rename, never in place. Thread: any, read-only. */
#pragma once
#include "baton/status.h"
#include "file/tensor.h"

typedef struct bt_gguf bt_gguf;

typedef bt_file_tensor bt_gguf_tensor;

enum {
    BT_GGUF_U8,
    BT_GGUF_I8,
    BT_GGUF_U16,
    BT_GGUF_I16,
    BT_GGUF_U32,
    BT_GGUF_I32,
    BT_GGUF_F32,
    BT_GGUF_BOOL,
    BT_GGUF_STRING,
    BT_GGUF_ARRAY,
    BT_GGUF_U64,
    BT_GGUF_I64,
    BT_GGUF_F64
};

/* Errors name the file, what is wrong ("12 bytes are missing") and what to do; other formats are
 * told apart by name. The first part of a split model opens the others beside it, and all their
 * tensors are its own. BT_ENOTFOUND: no such file; BT_EFORMAT: not a sound GGUF file;
 * BT_EUNSUPPORTED: sound, but of a kind this build does not read. */
bt_status bt_gguf_open(const char *path, bt_gguf **out, bt_err *err);
/* The same over memory the caller keeps (tests, fuzzing). */
bt_status bt_gguf_open_memory(const void *data, size_t bytes, const char *name, bt_gguf **out,
                              bt_err *err);
void bt_gguf_close(bt_gguf *g); // NULL is fine
const char *bt_gguf_path(const bt_gguf *g);
const char *bt_gguf_label(const bt_gguf *g); // the path's last 100 bytes: fits into a sentence

size_t bt_gguf_n_tensors(const bt_gguf *g);
const bt_gguf_tensor *bt_gguf_tensor_at(const bt_gguf *g, size_t i);
const bt_gguf_tensor *bt_gguf_tensor_find(const bt_gguf *g, const char *name); // or NULL; O(1)

/* Keys in file order, for tools and for checks over all keys. */
size_t bt_gguf_n_keys(const bt_gguf *g);
bt_str bt_gguf_key_at(const bt_gguf *g, size_t i);

/* Scalars: BT_OK and *out untouched if the key is absent; BT_EFORMAT naming the key if its type or
 * range is wrong. Any integer type is accepted for an integer, any float for a float. */
bt_status bt_gguf_int(const bt_gguf *g, const char *key, int64_t min, int64_t max, int64_t *out,
                      bt_err *err);
bt_status bt_gguf_float(const bt_gguf *g, const char *key, double *out, bt_err *err);
bt_status bt_gguf_bool(const bt_gguf *g, const char *key, bool *out, bt_err *err);
bt_status bt_gguf_string(const bt_gguf *g, const char *key, bt_str *out, bt_err *err);
bool bt_gguf_has(const bt_gguf *g, const char *key);
/* Arrays: n and element type; -1 if the key is absent or not an array. n may be NULL. */
int bt_gguf_array(const bt_gguf *g, const char *key, size_t *n);
/* Calls fn for each string of a string array, in order, until it returns false; O(n). False if the
 * key is absent, no array of strings, or fn stopped. */
typedef bool (*bt_gguf_string_fn)(void *ud, size_t i, bt_str s);
bool bt_gguf_each_string(const bt_gguf *g, const char *key, bt_gguf_string_fn fn, void *ud);
/* Number i of a numeric array, converted (unaligned-safe). It is a bug to ask for a key that is no
 * numeric array, or past its end. */
int64_t bt_gguf_array_int(const bt_gguf *g, const char *key, size_t i);
double bt_gguf_array_float(const bt_gguf *g, const char *key, size_t i);
/* Raw numbers of an array; NULL unless it has exactly this element type. Not aligned. */
const void *bt_gguf_array_raw(const bt_gguf *g, const char *key, int type, size_t *n);
