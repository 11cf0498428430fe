/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - one table row a knob: it makes the flag, the BATON_* variable, the key of baton.json,
 * and the help.
 *
 * Precedence: flag, then environment, then file, then default. A row's field in the caller's struct
 * is const char * (STR), int64_t (INT), double (NUM) or bool (BOOL). Thread: main, at start. */
#pragma once
#include "baton/status.h"
#include "base/buf.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum bt_knob_type { BT_KNOB_STR, BT_KNOB_INT, BT_KNOB_NUM, BT_KNOB_BOOL } bt_knob_type;

typedef struct bt_knob {
    const char *name;  // "queue-wait": --queue-wait, BATON_QUEUE_WAIT, "queue_wait"
    const char *alias; // other spellings, space separated ("-m -model"); NULL = none
    const char *arg;   // what help calls the value; NULL for BOOL
    bt_knob_type type;
    size_t offset;
    double min, max;     // INT and NUM
    const char *initial; // as text; NULL = 0, false or NULL
    unsigned commands;   // bit set of the subcommands that take it
    const char *group;   // heading in help
    const char *help;
} bt_knob;

/* Fills config (zeroed by the caller). argv holds what follows the subcommand. Positional arguments
 * are moved to the front of argv and counted in *n_args. file: path of the JSON file; NULL = none;
 * a missing file is an error. Strings live until bt_config_release(). Errors name the flag, variable
 * or key (BT_EINVAL). */
bt_status bt_config_load(const bt_knob *knobs, size_t n, void *config, unsigned command,
                         const char *file, int argc, char **argv, int *n_args, bt_err *err);
/* Frees the strings, also after a load that failed. */
void bt_config_release(const bt_knob *knobs, size_t n, void *config);
/* Grouped help of the knobs of one command. */
void bt_config_help(const bt_knob *knobs, size_t n, unsigned command, bt_buf *out);
