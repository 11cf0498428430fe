/* SPDX-License-Identifier: Apache-2.0 */
/* jinja.h - the template language of chat templates: Jinja as Python's jinja2 runs it in the
 * environment that Hugging Face's transformers builds (immutable sandbox, trim_blocks,
 * lstrip_blocks, loop controls, {% generation %}, tojson as json.dumps).
 *
 * A source is compiled once to a read-only tree; rendering it is pure and bounded, so one compiled
 * template serves any number of threads. Values behave as Python's: exact integers (those of the
 * input of any length; results of arithmetic within 64 bits, beyond them it is an error), floats
 * printed by repr, strings indexed by code points.
 *
 * Every byte of the output remembers where it came from: a string of the context that was not
 * declared trusted (BT_JINJA_USER), or the template. The mark survives concatenation, slicing,
 * case mapping, replacing, joining and tojson, so a tokenizer can refuse special tokens that a
 * user spelled. Bytes written inside {% generation %} carry BT_JINJA_GENERATION. */
#pragma once
#include "baton/status.h"
#include "base/buf.h"
#include "base/stop.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bt_jinja bt_jinja;

/* What a template may use up; 0 in a field takes the default. One table, in jinja.c. */
typedef struct bt_jinja_limits {
    size_t source_bytes;  // of the template; default 1 MiB
    size_t compile_bytes; // memory of the compiled template; default 64 MiB
    uint64_t steps;       // nodes evaluated, and 64 bytes handled each; default 20 million
    size_t output_bytes;  // default 16 MiB
    size_t memory_bytes;  // all values of one rendering; default 256 MiB
    uint32_t depth;       // nested evaluation, recursion of macros included; default 900
} bt_jinja_limits;
extern const bt_jinja_limits bt_jinja_default_limits;

typedef enum bt_jinja_fault {
    BT_JINJA_OK,
    BT_JINJA_SYNTAX,    // compile only
    BT_JINJA_RAISED,    // the template called raise_exception: msg is its message, alone
    BT_JINJA_UNDEFINED, // something undefined was used
    BT_JINJA_TYPE,      // TypeError, ValueError and the like
    BT_JINJA_SECURITY,  // the sandbox forbids it
    BT_JINJA_LIMIT,     // a limit was reached
    BT_JINJA_CONTEXT,   // the context is not the JSON it should be
    BT_JINJA_MEMORY,
    BT_JINJA_STOPPED, // bt_jinja_options.stop said so
} bt_jinja_fault;

typedef struct bt_jinja_error {
    bt_jinja_fault fault;
    int32_t line;    // in the template; 0 = none
    char msg[1024]; // as Python words it; cut at a character's end
} bt_jinja_error;

enum { BT_JINJA_USER = 1, BT_JINJA_GENERATION = 2 };

typedef struct bt_jinja_range {
    size_t start, end; // bytes of the output; ranges are adjacent and cover it all
    unsigned flags;    // of BT_JINJA_USER, BT_JINJA_GENERATION
} bt_jinja_range;

typedef struct bt_jinja_output {
    char *text; // owned, NUL-terminated
    size_t len;
    bt_jinja_range *range; // owned
    size_t n_ranges;
} bt_jinja_output;
void bt_jinja_output_release(bt_jinja_output *out);

typedef struct bt_jinja_options {
    bt_jinja_limits limits;
    /* What strftime_now() shows: microseconds since 1970 as if the local clock were UTC's
     * (bt_jinja_local_us() has the present). */
    int64_t now_local_us;
    bool plain_safe; // `|safe` changes nothing (default: as Python, the result escapes HTML of
                     // strings added to it)
    bt_stop *stop;   // ends it early with the status it names; NULL: nothing does
} bt_jinja_options;
int64_t bt_jinja_local_us(int64_t wall_us);

/* Thread: any. BT_EFORMAT with "line N: ..." when the source is no template; error may be NULL. */
bt_status bt_jinja_compile(const char *source, size_t len, const bt_jinja_limits *limits,
                           bt_jinja **out, bt_jinja_error *error, bt_err *err);
void bt_jinja_free(bt_jinja *t);

/* One JSON object of variables. Later ones overrule earlier ones. */
typedef struct bt_jinja_vars {
    const char *json; // an object
    size_t len;
    bool trusted; // its strings count as the template's
} bt_jinja_vars;

/* Renders. BT_EINVAL: the template (or its context) is at fault and err has the sentence;
 * BT_ETOOBIG: a limit; BT_ENOMEM. Thread: any. */
bt_status bt_jinja_render(const bt_jinja *t, const bt_jinja_vars *vars, size_t n_vars,
                          const bt_jinja_options *options, bt_jinja_output *out,
                          bt_jinja_error *error, bt_err *err);
