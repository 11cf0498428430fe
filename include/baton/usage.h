/* SPDX-License-Identifier: Apache-2.0 */
/* usage.h - the crash file: what each request in an engine has used so far.
 *
 * A file of fixed size under --data/usage/ that front creates, reads and settles, and that one
 * engine writes while it lives. It survives kill -9 of both. Two banks: the writer fills bank[(seq
 * + 1) & 1] whole, then writes the head with seq + 1; a reader takes bank[seq & 1]. So a reader
 * always sees the books of one finished step: busy_us == house_us + closed_us +
 * sum(entry.used_us).
 *
 * It is read and written by calls, never mapped: where somebody cuts it short, or a disk is full
 * after all, a call fails, while a mapping would kill the process (SIGBUS).
 *
 * An entry lives from admission until front has posted it and told the engine so (release); then
 * its microseconds move to closed_us. Posting is idempotent by request id, so a crash anywhere
 * between loses and doubles nothing. */
#pragma once
#include <stdint.h>

enum {
    BT_USAGE_MAGIC = 0x31555442, // "BTU1"
    BT_USAGE_ENTRIES = 1024,
};

typedef struct bt_usage_entry {
    uint64_t request; // 0 = free
    uint64_t used_us; // cumulative device time attributed to it
} bt_usage_entry;

typedef struct bt_usage_bank {
    uint64_t busy_us;   // all device time of this engine boot
    uint64_t house_us;  // of it, carried by the house
    uint64_t closed_us; // of it, in requests already posted and released
    uint64_t n;         // entries in use, [0, n)
    bt_usage_entry entry[BT_USAGE_ENTRIES];
} bt_usage_bank;

typedef struct bt_usage_head {
    uint32_t magic;
    uint32_t bytes; // sizeof(bt_usage_file)
    uint64_t boot;  // random id of the engine boot: names it in the ledger
    uint64_t seq;   // which bank is current
} bt_usage_head;

typedef struct bt_usage_file {
    bt_usage_head head;
    uint8_t reserved[40];
    bt_usage_bank bank[2];
} bt_usage_file;
