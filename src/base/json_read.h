/* SPDX-License-Identifier: Apache-2.0 */
/* json_read.h - a pull reader for JSON of any size: strict, bounded, no tree. It is the one place
 * that knows the grammar: trees (json.h) and the template language's values come from it.
 *
 * The caller walks the text in its order, entering what it wants and skipping the rest; strings
 * without escapes are handed out in place. The first fault stops everything: each later call
 * returns false or BT_JSON_END, and bt_json_reader_why() says what and where. Numbers stay as
 * spelled until asked for, so that integers are exact. Thread: the owner's.
 *
 *     if (bt_json_enter(&r, '{'))
 *         while (bt_json_next_key(&r, &key, &n)) { ... one value is read or skipped ... }
 */
#pragma once
#include "base/buf.h"
#include "baton/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum bt_json_kind {
    BT_JSON_END, // a fault, or nothing more
    BT_JSON_OBJECT,
    BT_JSON_ARRAY,
    BT_JSON_STRING,
    BT_JSON_NUMBER,
    BT_JSON_BOOL,
    BT_JSON_NULL,
} bt_json_kind;

enum { BT_JSON_READ_DEPTH_MAX = 200 };

enum {
    /* As Python's json module reads: NaN, Infinity and -Infinity are numbers, and an unpaired
     * surrogate becomes U+FFFD. Without it both are refused, as Rust's serde does. */
    BT_JSON_PYTHON = 1,
    BT_JSON_NO_NUL = 2, // strings that hold \u0000 are refused
};

typedef struct bt_json_reader {
    const char *s; // borrowed
    size_t n, at;
    int flags;
    int depth, depth_max;              // the latter may be lowered before reading
    char open[BT_JSON_READ_DEPTH_MAX]; // brackets
    bool first;                        // nothing of the innermost bracket was read yet
    const char *why;                   // the first fault
    bool no_memory;                    // that is what it was
    bt_buf scratch[2];                 // strings that had escapes, in turns
    int turn;
} bt_json_reader;

/* text is kept by the caller; a byte order mark at its start is passed over. */
void bt_json_reader_init(bt_json_reader *r, const char *text, size_t n, int flags);
void bt_json_reader_release(bt_json_reader *r);
/* NULL while all is well; else what is wrong (*at: the byte). */
const char *bt_json_reader_why(const bt_json_reader *r, size_t *at);
/* Makes the reader fail from outside, where a value makes no sense. Returns false. */
bool bt_json_fail(bt_json_reader *r, const char *why);
bool bt_json_fail_memory(bt_json_reader *r);

bt_json_kind bt_json_peek(bt_json_reader *r); // of the value that comes
bool bt_json_enter(bt_json_reader *r, char bracket); // '{' or '['; any other value is a fault
/* The next member or element; false at the bracket's end, which is consumed. The value must be read
 * or skipped before the next call. */
bool bt_json_next_key(bt_json_reader *r, const char **key, size_t *n);
bool bt_json_next_item(bt_json_reader *r);
/* Scalars; a value of another kind is a fault. A string is valid UTF-8, may hold NULs, is not
 * terminated, and lives until the next but one string or key is read. */
bool bt_json_read_string(bt_json_reader *r, const char **s, size_t *n);
bool bt_json_read_number(bt_json_reader *r, const char **s, size_t *n); // as spelled
bool bt_json_read_int(bt_json_reader *r, int64_t *v);    // exact; a fraction or overflow is a fault
/* The same of a number's spelling. False: a fraction, an exponent, or an overflow. */
bool bt_json_int(const char *s, size_t n, int64_t *v);
bool bt_json_read_bool(bt_json_reader *r, bool *v);
bool bt_json_read_null(bt_json_reader *r);
bool bt_json_skip(bt_json_reader *r); // any value, fully checked
/* Skips a value and says where it lies, so that it can be read later by a reader of its own. */
bool bt_json_span(bt_json_reader *r, const char **s, size_t *n);
/* True if nothing but white space is left and no fault was met. */
bool bt_json_done(bt_json_reader *r);
/* Ends the reading of a whole text, of which all must have been read, and releases the reader. st:
 * what reading came to so far, which is passed on. BT_ENOMEM, without a sentence. BT_EFORMAT: LABEL,
 * `fault` (" is no sound index"), ": ", what is wrong and at which byte, `before` bytes being ahead
 * of the text. */
bt_status bt_json_end(bt_json_reader *r, bt_status st, const char *label, const char *fault,
                      size_t before, bt_err *err);
