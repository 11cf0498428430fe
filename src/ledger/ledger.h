/* SPDX-License-Identifier: Apache-2.0 */
/* ledger.h - the quota ledger: who may use the device, and who has.
 *
 * STATES   NONE --hold--> HELD --post--> POSTED
 *                          `----void---> VOIDED
 *
 * Append-only entries plus one row an account and window. post and void are idempotent by request
 * id; each hold reaches exactly one end and belongs to the window it was made in. A window is 24 h
 * from an account's first use after the last one ended (a window opens with the first hold after
 * that). Limits, holds and balances are charge: device time x price; post carries both.
 *
 * INVARIANTS at every commit
 *   1. posted + held <= limit + overrun of steps in flight, for each account and window.
 *   2. An entry is never rewritten.
 *   3. sum(posted entries) + sum(house entries) = sum of busy over settled boots.
 *
 * CRASH: bt_ledger_recover() posts from the usage files (baton/usage.h) what requests of older
 * boots used, posts their house time and busy time, voids the rest of their holds, and removes
 * the files.
 *
 * TIME: wall_us is the wall clock of the call. Windows and entries are in ledger time, which is
 * that clock but never goes back, over restarts too: a clock set back opens no fresh window. One
 * that was ahead when a window opened costs no more than that window. Balances tell the clock's
 * times.
 *
 * NOT HERE: clocks (wall_us is passed in), secrets, HTTP. Thread: ledger (one thread owns it).
 *
 * STORAGE: SQLite; WAL where the file system allows it (probed), else TRUNCATE. What was committed
 * survives kill -9. It survives a loss of power once bt_ledger_sync has run, which another thread
 * calls about once a second: nobody waits for a disk. */
#pragma once
#include "baton/status.h"
#include "baton/usage.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bt_ledger bt_ledger;

typedef struct bt_ledger_balance {
    int64_t limit_us, used_us, held_us, remaining_us; // remaining = max(0, limit - used - held)
    int64_t window_started_us;                        // wall clock; 0 = no window is open
    int64_t resets_us;                                // wall clock; 0 = no window is open
} bt_ledger_balance;

/* Locks DIR/lock and DIR's path, then opens or creates DIR/ledger.db. EFORMAT: damaged, or not
 * ours; nothing was changed. EIO: read-only, missing or full. EBUSY: another server uses DIR, or
 * had it deleted under it. Each says what to do. The descriptors are close-on-exec: a child must
 * exec, or it keeps the locks. */
bt_status bt_ledger_open(const char *dir, bt_ledger **out, bt_err *err);
void bt_ledger_close(bt_ledger *l);

/* Whether DIR still holds the lock and the database that are open here. EIO: somebody deleted,
 * moved or replaced them; the sentence says what to do. */
bt_status bt_ledger_there(const bt_ledger *l, bt_err *err);
/* Writes, and changes nothing: whether a ledger that failed can be written again. Not inside a
 * batch. */
bt_status bt_ledger_probe(bt_ledger *l, bt_err *err);
/* Charged = device x price for what recovery posts; 1 if never set. */
void bt_ledger_set_price(bt_ledger *l, double price);
/* Makes all that was committed before the call survive a loss of power. Cheap when nothing new was.
 * Thread: any; the ledger's own may work meanwhile. */
bt_status bt_ledger_sync(bt_ledger *l, bt_err *err);
/* Bounds what the store keeps beside its rows; now and then it waits for the disk. Call it about
 * once a second. Not inside a batch. */
bt_status bt_ledger_tidy(bt_ledger *l, bt_err *err);

/* Group commit: everything between begin and commit is one transaction. Calls outside a batch
 * commit by themselves. If commit fails nothing of the batch has happened and each caller must be
 * told. A call that is refused (EQUOTA, EINVAL, ENOTFOUND) leaves the batch as it was; after any
 * other error the batch cannot commit. (One case is undecidable: a disk that dies for good between
 * the two last calls of a commit in TRUNCATE mode. Then the next start finds the batch done.) */
bt_status bt_ledger_begin(bt_ledger *l, bt_err *err);
bt_status bt_ledger_commit(bt_ledger *l, bt_err *err);
void bt_ledger_rollback(bt_ledger *l);

/* Sets aside min(want_us, remaining) for the request. EQUOTA with *balance filled when nothing
 * remains. *held_us = held for this request now; *final = nothing further remains. limit_us is the
 * tier's (the account row may override it). `boot` names the front boot that owns the hold.
 * account: at most 128 bytes. A refusal opens no window. EINVAL if the request id was ever used
 * before. */
bt_status bt_ledger_hold(bt_ledger *l, uint64_t boot, const char *account, uint64_t request,
                         int64_t limit_us, int64_t want_us, int64_t wall_us, int64_t *held_us,
                         bool *final, bt_ledger_balance *balance, bt_err *err);
/* Raises the hold to at most want_total_us. *held_us may be unchanged. Counts against the window of
 * the hold, under the limit last passed to hold() for the account. ENOTFOUND: it has no open hold.
 */
bt_status bt_ledger_top_up(bt_ledger *l, uint64_t request, int64_t want_total_us, int64_t wall_us,
                           int64_t *held_us, bool *final, bt_err *err);
/* Ends the hold: device_us was used, charged_us is charged to the account (device x price).
 * Idempotent: a second post or void of a request changes nothing and is OK. *balance (may be NULL)
 * is the account's after it. ENOTFOUND: the request never had a hold. void is for requests that
 * used nothing; if nobody is to pay for what was used (a fault of ours), post it with charged_us 0,
 * else the books lack it. */
bt_status bt_ledger_post(bt_ledger *l, uint64_t request, int64_t device_us, int64_t charged_us,
                         int64_t wall_us, bt_ledger_balance *balance, bt_err *err);
bt_status bt_ledger_void(bt_ledger *l, uint64_t request, int64_t wall_us,
                         bt_ledger_balance *balance, bt_err *err);
/* Cumulative busy and house time of an engine boot; the difference to what is booked becomes an
 * entry. Values below what is booked change nothing. Each call may add two entries: call it now and
 * then, not every step. */
bt_status bt_ledger_engine(bt_ledger *l, uint64_t engine_boot, int64_t busy_us, int64_t house_us,
                           int64_t wall_us, bt_err *err);

bt_status bt_ledger_read(bt_ledger *l, const char *account, int64_t limit_us, int64_t wall_us,
                         bt_ledger_balance *out, bt_err *err);

/* Accounts for `baton quota`: an owner may override a limit (-1 = back to the tier's), reset the
 * window, or add a credit (negative use) to the current one. */
bt_status bt_ledger_set_limit(bt_ledger *l, const char *account, int64_t limit_us, int64_t wall_us,
                              bt_err *err);
bt_status bt_ledger_reset(bt_ledger *l, const char *account, int64_t wall_us, bt_err *err);
/* fn must not call the ledger. limit_override_us: -1 = none. */
typedef void (*bt_ledger_account_fn)(void *ud, const char *account, int64_t limit_override_us,
                                     const bt_ledger_balance *balance);
bt_status bt_ledger_accounts(bt_ledger *l, int64_t wall_us, bt_ledger_account_fn fn, void *ud,
                             bt_err *err);

/* Totals over the whole file: sums of the entries, kept in step with them, so reading is cheap. */
typedef struct bt_ledger_totals {
    int64_t busy_us, accounts_us, house_us, charged_us;
    int64_t holds_open;
} bt_ledger_totals;
bt_status bt_ledger_totals_read(bt_ledger *l, bt_ledger_totals *out, bt_err *err);

/* Adds all entries up again and compares: sums, windows, holds. EFORMAT names the first thing that
 * does not match. Reads the whole file: for `baton doctor` and tests. */
bt_status bt_ledger_check(bt_ledger *l, bt_err *err);
/* Folds the entries of windows that ended before older_than_us and have no open hold into one entry
 * a window, and older busy and house entries into one a boot. No sum changes; request ids that old
 * are forgotten, and a second post of one is then ENOTFOUND. *folded = entries that went (may be
 * NULL). */
bt_status bt_ledger_compact(bt_ledger *l, int64_t older_than_us, int64_t *folded, bt_err *err);

/* Settles every usage file in DIR/usage (so: before this boot's first engine starts), then voids
 * holds of boots other than `boot`. Counts go to *posted and *voided (may be NULL). A usage file
 * that cannot be read is renamed to NAME.bad with a warning; the holds of its requests are voided.
 * Use that no hold or post answers for goes to the house. */
bt_status bt_ledger_recover(bt_ledger *l, const char *dir, uint64_t boot, int64_t wall_us,
                            int *posted, int *voided, bt_err *err);
/* Settles one usage file whose engine is dead (same rules), and removes it. Used by front when an
 * engine ends. */
bt_status bt_ledger_settle_engine(bt_ledger *l, const char *usage_path, int64_t wall_us,
                                  bt_err *err);
