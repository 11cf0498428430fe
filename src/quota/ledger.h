/* SPDX-License-Identifier: Apache-2.0 */
/* ledger.h - the quota ledger: who may use the device, and who has.
 *
 * STATES   NONE --hold--> HELD --post--> POSTED
 *                          `----void---> VOIDED
 * Append-only entries plus one row an account. post and void are idempotent by request id; each hold reaches
 * exactly one end and belongs to the window it was made in. A window is 24 h from an account's first use after
 * the last one ended (a window opens with the first hold after that).
 * INVARIANTS at every commit
 *   1. posted + held <= limit + overrun of steps in flight, for each account and window.
 *   2. An entry is never rewritten.
 *   3. sum(posted entries) + sum(house entries) = sum of busy over settled boots.
 * CRASH    bt_ledger_recover() posts from the usage files (baton/usage.h) what requests of older boots used, posts
 *          their house time and busy time, voids the rest of their holds, and removes the files.
 * NOT HERE clocks (wall_us is passed in), secrets, HTTP. Thread: ledger (one thread owns the handle).
 * STORAGE  SQLite; WAL where the file system allows it (probed), else TRUNCATE. */
#pragma once
#include "baton/status.h"
#include "baton/usage.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bt_ledger bt_ledger;

typedef struct bt_ledger_balance {
    int64_t limit_us, used_us, held_us, remaining_us; // remaining = max(0, limit - used - held)
    int64_t window_started_us; // wall clock; 0 = no window is open
    int64_t resets_us;         // wall clock; 0 = no window is open
} bt_ledger_balance;

/* Opens or creates DIR/ledger.db. EFORMAT: damaged; EIO: read-only, missing or full; each says what to do. */
bt_status bt_ledger_open(const char *dir, bt_ledger **out, bt_err *err);
void bt_ledger_close(bt_ledger *l);

/* Group commit: everything between begin and commit is one transaction. Calls outside a batch commit by
 * themselves. If commit fails nothing of the batch has happened and each caller must be told. */
bt_status bt_ledger_begin(bt_ledger *l, bt_err *err);
bt_status bt_ledger_commit(bt_ledger *l, bt_err *err);
void bt_ledger_rollback(bt_ledger *l);

/* Sets aside min(want_us, remaining) for the request. EQUOTA with *balance filled when nothing remains.
 * *held_us = held for this request now; *final = nothing further remains. limit_us is the tier's (the account row
 * may override it). `boot` names the front boot that owns the hold. account: at most 128 bytes. */
bt_status bt_ledger_hold(bt_ledger *l, uint64_t boot, const char *account, uint64_t request, int64_t limit_us,
                         int64_t want_us, int64_t wall_us, int64_t *held_us, bool *final,
                         bt_ledger_balance *balance, bt_err *err);
/* Raises the hold to at most want_total_us. *held_us may be unchanged. */
bt_status bt_ledger_top_up(bt_ledger *l, uint64_t request, int64_t want_total_us, int64_t wall_us,
                           int64_t *held_us, bool *final, bt_err *err);
/* Ends the hold: device_us was used, charged_us is charged to the account (device x price). Idempotent: a second
 * post or void of a request changes nothing and is OK. *balance (may be NULL) is the account's after it. */
bt_status bt_ledger_post(bt_ledger *l, uint64_t request, int64_t device_us, int64_t charged_us,
                         int64_t wall_us, bt_ledger_balance *balance, bt_err *err);
bt_status bt_ledger_void(bt_ledger *l, uint64_t request, int64_t wall_us, bt_ledger_balance *balance,
                         bt_err *err);
/* Cumulative busy and house time of an engine boot; the difference to what is booked becomes an entry. */
bt_status bt_ledger_engine(bt_ledger *l, uint64_t engine_boot, int64_t busy_us, int64_t house_us,
                           int64_t wall_us, bt_err *err);

bt_status bt_ledger_read(bt_ledger *l, const char *account, int64_t limit_us, int64_t wall_us,
                         bt_ledger_balance *out, bt_err *err);

/* Accounts for `baton quota`: an owner may override a limit (-1 = back to the tier's), reset the window, or add a
 * credit (negative use) to the current one. */
bt_status bt_ledger_set_limit(bt_ledger *l, const char *account, int64_t limit_us, int64_t wall_us, bt_err *err);
bt_status bt_ledger_reset(bt_ledger *l, const char *account, int64_t wall_us, bt_err *err);
typedef void (*bt_ledger_account_fn)(void *ud, const char *account, int64_t limit_override_us,
                                     const bt_ledger_balance *balance);
bt_status bt_ledger_accounts(bt_ledger *l, int64_t wall_us, bt_ledger_account_fn fn, void *ud, bt_err *err);

/* Totals over the whole file, from entries: for the books' check and metrics. */
typedef struct bt_ledger_totals {
    int64_t busy_us, accounts_us, house_us, charged_us;
    int64_t holds_open;
} bt_ledger_totals;
bt_status bt_ledger_totals_read(bt_ledger *l, bt_ledger_totals *out, bt_err *err);

/* Settles every usage file in DIR/usage except `keep` (file name, may be NULL), then voids holds of boots other
 * than `boot`. Counts go to *posted and *voided (may be NULL). */
bt_status bt_ledger_recover(bt_ledger *l, const char *dir, uint64_t boot, int64_t wall_us, int *posted,
                            int *voided, bt_err *err);
/* Settles one usage file whose engine is dead (same rules), and removes it. Used by front when an engine ends. */
bt_status bt_ledger_settle_engine(bt_ledger *l, const char *usage_path, int64_t wall_us, bt_err *err);
