/* SPDX-License-Identifier: Apache-2.0 */
/* meter.h - who used how much device time of this engine boot, and the crash file that keeps it.
 *
 * An entry is opened at submit, grows with each step and is closed by release, when its
 * microseconds move to closed_us. At every moment busy_us == house_us + closed_us +
 * sum(entry.used_us). Each publish writes a whole bank of the file (baton/usage.h) and then flips
 * the sequence number, so a reader, or front after a crash, always finds the books of one finished
 * step. No allocation after open. Thread: engine. */
#pragma once
#include "baton/status.h"
#include "baton/usage.h"
#include <stdbool.h>

typedef struct bt_meter {
    bt_usage_bank bank; // the truth; the file gets copies
    bool ended[BT_USAGE_ENTRIES];
    uint64_t boot, seq;
    bool has_file, failing; // failing: the last write failed, which was logged
    int fd;                 // of the file, if there is one
} bt_meter;

/* path NULL: books in memory only. A file that does not exist is made; one that holds the books of
 * another boot that nobody settled is refused. A boot id already in the file is kept. */
bt_status bt_meter_open(bt_meter *b, const char *path, bt_err *err);
void bt_meter_close(bt_meter *b);
bool bt_meter_full(const bt_meter *b);
bool bt_meter_has(const bt_meter *b, uint64_t request);
void bt_meter_add(bt_meter *b, uint64_t request);
/* Busy time of a step: to a request that has an entry, or to the house. Returns cumulative use. */
uint64_t bt_meter_charge(bt_meter *b, uint64_t request, uint64_t us);
void bt_meter_charge_house(bt_meter *b, uint64_t us);
/* The request runs no more: from now on release may close it. */
void bt_meter_end(bt_meter *b, uint64_t request);
/* Closes an ended entry; false (and nothing happens) if there is none. */
bool bt_meter_release(bt_meter *b, uint64_t request);
/* A write that fails is logged once: the file then says what it said before, and the engine goes
 * on. */
void bt_meter_publish(bt_meter *b);
