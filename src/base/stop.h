/* SPDX-License-Identifier: Apache-2.0 */
/* stop.h - long work that can be ended before it is done: by a flag that another thread sets, or by
 * a limit on the time that its own thread has worked.
 *
 * The work counts what it does in units (a byte of text, a step of a template; a small part of a
 * microsecond each) and looks once in BT_STOP_UNITS, which is within a few milliseconds. Thread:
 * the one that works; flag is another's. */
#pragma once
#include "baton/status.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum { BT_STOP_UNITS = 16384 };

typedef struct bt_stop {
    const atomic_bool *flag; // somebody wants the work to end; NULL: nobody can
    int64_t end_ns;          // of bt_thread_ns() on the thread that works; 0 = no limit
    size_t left;             // units until the next look
    bt_status why;           // BT_OK: go on. BT_ECANCELLED: the flag. BT_ETOOBIG: the limit
} bt_stop;

bool bt__stop_look(bt_stop *s);
/* Counts units; true: end now, and then for ever. s may be NULL: work that nobody stops. */
static inline bool bt_stop_after(bt_stop *s, size_t units)
{
    if (!s) return false;
    if (units < s->left) {
        s->left -= units;
        return false;
    }
    return bt__stop_look(s);
}
/* s->why, with its sentence. */
bt_status bt_stop_why(const bt_stop *s, bt_err *err);
