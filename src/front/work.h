/* SPDX-License-Identifier: Apache-2.0 */
/* work.h - text work: what takes a processor's time before any device time is charged. Prompts of
 * generations, the text routes and large bodies are jobs of one queue, in which accounts take turns
 * by the time their jobs took (turns.h).
 *
 * LANES    Short jobs have a thread of their own. What is long by its bytes, or turns out to be
 * (SHORT_NS), goes to the long lane, whose threads yield to all others in this machine (nice). So a
 * small job waits for a few milliseconds at most, whatever else is under way.
 * ENDS     A job ends early when it is cancelled, and when it has taken LONG_NS of a processor:
 * bt_text.stop says so, and what a job calls must look at it.
 * Included by src/front and src/http. */
#pragma once
#include "base/stop.h"
#include "front/turns.h"
#include "quota/account.h"
#include "token/encode.h"

typedef struct bt_front bt_front;
typedef struct bt_unit bt_unit;

/* What a text thread lends to a job. */
typedef struct bt_text {
    bt_unit *unit;        // the job's
    bt_encoder **encoder; // a unit's is NULL until bt_text_encoder()
    bt_stop stop;         // of the job at hand
} bt_text;
/* The thread's encoder for the unit, opened when first needed. */
bt_status bt_text_encoder(bt_text *t, bt_encoder **out, bt_err *err);

typedef struct bt_work bt_work;
struct bt_work {
    /* The caller's, set before bt_work_start() and left alone until done(). */
    const bt_identity *who;
    bt_unit *unit; // whose vocabulary and templates it needs; NULL = the first
    size_t bytes;  // of what it works on
    /* Thread: text. Called again, from the beginning, for a job that turned out to be long: what
     * the first call left must not matter then. */
    void (*run)(bt_work *w, bt_text *t);
    /* Called once after run(); or, without it, with BT_ECANCELLED or BT_ECLOSED. Thread: text, or
     * who cancelled it. The last that is done with w. */
    void (*done)(bt_work *w, bt_status st);

    /* Front's own. */
    bt_turn turn;
    atomic_bool cancelled;
    int lane;
};

/* Thread: any, as all below. BT_EBUSY names whose places are taken; done() is called on BT_OK only.
 */
bt_status bt_work_start(bt_front *f, bt_work *w, bt_err *err);
/* Ends it within milliseconds, or at once where it has not begun. Nothing where it is over. */
void bt_work_cancel(bt_front *f, bt_work *w);
