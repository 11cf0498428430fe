/* SPDX-License-Identifier: Apache-2.0 */
/* ledger_impl.h - what the ledger's own files share. Nobody else includes it.
 *
 * SCHEMA (version 1)
 *   accounts  one row a name: the owner's override, the tier's limit last seen, the current window
 *   windows   one row a window: what it has used and what is held in it
 *   holds     one row an open hold, in the window it was made in
 *   entries   append-only (triggers refuse the rest): post, void, house, busy, adjust
 *   boots     busy and house time booked so far for an engine boot
 *   sums      one row a kind: the sums of its entries, changed in the same transaction
 *   commits   how many there were, in TRUNCATE mode: tells whether one that failed took place
 *
 * Every change of a window's used_us is the charged_us of an entry; every change of its held_us is
 * a hold. */
#pragma once
#include "ledger/ledger.h"
#include <sqlite3.h>
#include <sys/stat.h>

enum {
    LEDGER_APPLICATION_ID = 0x4254514C, // "BTQL"
    LEDGER_VERSION = 1,
    LEDGER_ACCOUNT_MAX = 128,
    LEDGER_BUSY_MS = 2000,
};
#define LEDGER_DAY_US INT64_C(86400000000)
#define LEDGER_STEP_US INT64_C(600000000) // a longer step of a clock that is behind is a jump
#define LEDGER_AMOUNT_MAX INT64_C(1000000000000000) // 31 years: sums of them stay far from 2^63

typedef enum ledger_kind {
    KIND_POST = 1,
    KIND_VOID = 2,
    KIND_HOUSE = 3,
    KIND_BUSY = 4,
    KIND_ADJUST = 5,
} ledger_kind;

/* Entries are append-only; folding drops these for the length of its transaction. */
#define LEDGER_TRIGGERS                                                                            \
    "CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries BEGIN"                              \
    " SELECT RAISE(ABORT, 'an entry is never rewritten'); END;"                                    \
    "CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries BEGIN"                              \
    " SELECT RAISE(ABORT, 'an entry is never removed'); END;"

#define ACCOUNT_COLUMNS                                                                            \
    "a.id, a.limit_override_us, a.tier_limit_us, a.window, w.start_us, w.used_us, w.held_us"
#define ACCOUNT_FROM " FROM accounts a LEFT JOIN windows w ON w.id = a.window "

#define LEDGER_SQL_MAP(X)                                                                          \
    X(BEGIN, "BEGIN IMMEDIATE")                                                                    \
    X(COMMIT, "COMMIT")                                                                            \
    X(ROLLBACK, "ROLLBACK")                                                                        \
    X(COMMITS_ADD, "UPDATE commits SET n = n + 1")                                                 \
    X(COMMITS, "SELECT n FROM commits")                                                            \
    X(ACCOUNT_BY_NAME, "SELECT " ACCOUNT_COLUMNS ACCOUNT_FROM "WHERE a.name = ?1")                 \
    X(ACCOUNT_BY_ID, "SELECT " ACCOUNT_COLUMNS ACCOUNT_FROM "WHERE a.id = ?1")                     \
    X(ACCOUNTS, "SELECT " ACCOUNT_COLUMNS ", a.name" ACCOUNT_FROM "ORDER BY a.name")               \
    X(ACCOUNT_ADD, "INSERT INTO accounts(name) VALUES(?1)")                                        \
    X(ACCOUNT_SET_WINDOW, "UPDATE accounts SET window = NULLIF(?2, 0) WHERE id = ?1")              \
    X(ACCOUNT_SET_TIER, "UPDATE accounts SET tier_limit_us = ?2 WHERE id = ?1")                    \
    X(ACCOUNT_SET_OVERRIDE, "UPDATE accounts SET limit_override_us = ?2 WHERE id = ?1")            \
    X(WINDOW_ADD, "INSERT INTO windows(account, start_us) VALUES(?1, ?2)")                         \
    X(WINDOW_CHANGE,                                                                               \
      "UPDATE windows SET used_us = used_us + ?2, held_us = held_us + ?3 WHERE id = ?1")           \
    X(HOLD_ADD, "INSERT INTO holds(request, account, window, boot, amount_us, wall_us) "           \
                "VALUES(?1, ?2, ?3, ?4, ?5, ?6)")                                                  \
    X(HOLD_GET, "SELECT h.account, h.window, h.boot, h.amount_us, w.used_us, w.held_us, "          \
                "a.limit_override_us, a.tier_limit_us FROM holds h JOIN windows w ON "             \
                "w.id = h.window JOIN accounts a ON a.id = h.account WHERE h.request = ?1")        \
    X(HOLD_SET, "UPDATE holds SET amount_us = ?2 WHERE request = ?1")                              \
    X(HOLD_DROP, "DELETE FROM holds WHERE request = ?1")                                           \
    X(HOLDS_OF_OTHERS, "SELECT request FROM holds WHERE boot <> ?1 LIMIT 256")                     \
    X(HOLDS_COUNT, "SELECT count(*) FROM holds")                                                   \
    X(ENTRY_ADD, "INSERT INTO entries(wall_us, kind, account, request, device_us, charged_us, "    \
                 "window, boot) VALUES(?1, ?2, NULLIF(?3, 0), NULLIF(?4, 0), ?5, ?6, "             \
                 "NULLIF(?7, 0), ?8)")                                                             \
    X(ENTRY_OF_REQUEST, "SELECT account, device_us FROM entries WHERE request = ?1")               \
    X(SUM_ADD, "UPDATE sums SET device_us = device_us + ?2, "                                      \
               "charged_us = charged_us + ?3 WHERE kind = ?1")                                     \
    X(SUMS, "SELECT kind, device_us, charged_us FROM sums")                                        \
    X(BOOT_GET, "SELECT busy_us, house_us FROM boots WHERE boot = ?1")                             \
    X(BOOT_SET, "INSERT INTO boots(boot, busy_us, house_us) VALUES(?1, ?2, ?3) "                   \
                "ON CONFLICT(boot) DO UPDATE SET busy_us = ?2, house_us = ?3")

typedef enum ledger_sql {
#define X(name, text) SQL_##name,
    LEDGER_SQL_MAP(X)
#undef X
        SQL_COUNT
} ledger_sql;

struct bt_ledger {
    sqlite3 *db; // owned, as all below
    char *dir;
    char *path;                     // of the database, for sentences
    int lock_fd, path_fd;           // the lock of DIR/lock, and of the path
    struct stat lock_stat, db_stat; // which files they are
    sqlite3_stmt *stmt[SQL_COUNT];
    double price;
    bool batch;    // a transaction is open
    bt_err broken; // of this batch: why it cannot commit; code OK while it can
    bool wal;
    int64_t commits;                 // as in its table
    int64_t changes_before;          // of the handle, when the batch began
    bool unsynced;                   // commits since the last sync
    int64_t wall_us, synced_wall_us; // wall clock seen last, 0 = none; the one at the last sync
    int64_t now_us;                  // ledger time: never goes back, see bt__ledger_time
};

typedef struct ledger_account {
    int64_t id; // 0 = no such account yet
    int64_t override_us, tier_us;
    int64_t window; // 0 = none
    int64_t start_us, used_us, held_us;
} ledger_account;

/* Turns the handle's last SQLite error into a status and a sentence; inside a batch, breaks it. */
bt_status bt__ledger_fail(bt_ledger *l, bt_err *err);
/* A statement, reset, with integers bound to ?1..?n. */
sqlite3_stmt *bt__ledger_sql(bt_ledger *l, ledger_sql which, const int64_t *v, int n);
/* 1: a row; 0: no more; -1: error, *status and err say which. Reset the statement when done with
 * its row. */
int bt__ledger_row(bt_ledger *l, sqlite3_stmt *stmt, bt_status *status, bt_err *err);
/* Runs a statement that has no rows. */
bt_status bt__ledger_do(bt_ledger *l, ledger_sql which, const int64_t *v, int n, bt_err *err);
#define LEDGER_VALUES(...)                                                                         \
    (const int64_t[]){__VA_ARGS__}, (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

/* An operation that is its own transaction when no batch is open: enter ... leave(status). */
bt_status bt__ledger_enter(bt_ledger *l, bool *own, bt_err *err);
bt_status bt__ledger_leave(bt_ledger *l, bool own, bt_status status, bt_err *err);

bt_status bt__ledger_account(bt_ledger *l, const char *name, ledger_account *out, bt_err *err);
/* As account(), and adds it if it is new. */
bt_status bt__ledger_account_need(bt_ledger *l, const char *name, ledger_account *out, bt_err *err);
/* Opens a window unless one is open. */
bt_status bt__ledger_window_need(bt_ledger *l, ledger_account *a, int64_t wall_us, bt_err *err);
bool bt__ledger_window_open(const ledger_account *a, int64_t now_us);
void bt__ledger_balance(const bt_ledger *l, const ledger_account *a, int64_t limit_us,
                        bt_ledger_balance *out);
/* Turns the wall clock of a call into ledger time, which windows and entries are in. It is the wall
 * clock, but never goes back, over restarts too: a clock that is set back must not open a fresh
 * window. Until the clock has caught up, ledger time goes on by the clock's own steps. */
bt_status bt__ledger_time(bt_ledger *l, int64_t *wall_us, bt_err *err);
void bt__ledger_account_row(sqlite3_stmt *stmt, ledger_account *out);

typedef struct ledger_entry {
    ledger_kind kind;
    int64_t account, request, device_us, charged_us, window, boot; // 0 = none
} ledger_entry;
bt_status bt__ledger_append(bt_ledger *l, const ledger_entry *e, int64_t wall_us, bt_err *err);

typedef struct ledger_end {
    enum {
        END_UNKNOWN,
        END_NOW,
        END_BEFORE
    } end;                      // never held; ended by this call; or by an earlier one
    int64_t account, device_us; // what its entry says; unless END_UNKNOWN
} ledger_end;
/* Ends the hold of a request, inside a transaction. */
bt_status bt__ledger_end(bt_ledger *l, ledger_kind kind, uint64_t request, int64_t device_us,
                         int64_t charged_us, int64_t wall_us, ledger_end *out, bt_err *err);
/* bt_ledger_engine, inside a transaction. */
bt_status bt__ledger_engine(bt_ledger *l, uint64_t boot, int64_t busy_us, int64_t house_us,
                            int64_t wall_us, bt_err *err);

bt_status bt__ledger_commits(bt_ledger *l, int64_t *out, bt_err *err);

bt_status bt__ledger_lock(bt_ledger *l, bt_err *err); // of the directory; ledger_lock.c
bt_status bt__ledger_open_db(bt_ledger *l, bt_err *err);
