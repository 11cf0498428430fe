/* SPDX-License-Identifier: Apache-2.0 */
/* usage.h - the crash file: what each request in an engine has used so far.
 *
 * A file of fixed size under --data/usage/, mapped shared by front (creates, reads, settles) and by
 * one engine (the only writer while it lives). It survives kill -9 of both. Two banks: the writer
 * fills bank[(seq + 1) & 1] whole, then stores seq + 1 (release); a reader takes bank[seq & 1]. So
 * a reader always sees the books of one finished step: busy_us == house_us + closed_us +
 * sum(entry.used_us).
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

typedef struct bt_usage_file {
    uint32_t magic;
    uint32_t bytes; // sizeof(bt_usage_file)
    uint64_t boot;  // random id of the engine boot: names it in the ledger
    uint64_t seq;   // atomic: which bank is current
    uint8_t reserved[40];
    bt_usage_bank bank[2];
} bt_usage_file;
