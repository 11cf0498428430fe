/* SPDX-License-Identifier: Apache-2.0 */
/* store_sqlite.h - what the two files of the SQLite store share. Nobody else includes it.
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
#include "ledger/store.h"
#include <sqlite3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

enum {
    LEDGER_APPLICATION_ID = 0x4254514C, // "BTQL"
    LEDGER_VERSION = 1,
    LEDGER_BUSY_MS = 2000,
};

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
    X(ACCOUNT_SET, "UPDATE accounts SET limit_override_us = ?2, tier_limit_us = ?3, "              \
                   "window = NULLIF(?4, 0) WHERE id = ?1")                                         \
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
    X(HOLDS_OF_OTHERS, "SELECT request FROM holds WHERE boot <> ?1 LIMIT ?2")                      \
    X(HOLDS_COUNT, "SELECT count(*) FROM holds")                                                   \
    X(ENTRY_ADD, "INSERT INTO entries(wall_us, kind, account, request, device_us, charged_us, "    \
                 "window, boot) VALUES(?1, ?2, NULLIF(?3, 0), NULLIF(?4, 0), ?5, ?6, "             \
                 "NULLIF(?7, 0), ?8)")                                                             \
    X(ENTRY_OF_REQUEST, "SELECT account, device_us FROM entries WHERE request = ?1")               \
    X(SUM_ADD, "UPDATE sums SET device_us = device_us + ?2, "                                      \
               "charged_us = charged_us + ?3 WHERE kind = ?1")                                     \
    X(SUMS, "SELECT kind, device_us, charged_us FROM sums")                                        \
    X(BOOT_GET, "SELECT busy_us, house_us FROM boots WHERE boot = ?1")                             \
    X(BOOT_CHANGE, "INSERT INTO boots(boot, busy_us, house_us) VALUES(?1, ?2, ?3) "                \
                   "ON CONFLICT(boot) DO UPDATE SET busy_us = busy_us + ?2, "                      \
                   "house_us = house_us + ?3")

typedef enum ledger_sql {
#define X(name, text) SQL_##name,
    LEDGER_SQL_MAP(X)
#undef X
        SQL_COUNT
} ledger_sql;

typedef struct sqlite_store {
    ledger_store base;
    sqlite3 *db; // owned, as the path and the statements
    const char *dir;
    char *path;          // of the database, for sentences
    struct stat db_stat; // which file it is
    sqlite3_stmt *stmt[SQL_COUNT];
    bool wal;
    int64_t commits;        // as in its table
    int64_t changes_before; // of the handle, when the transaction began
    int wal_frames;         // pages in the log, after the last commit
    pthread_mutex_t sync_mu;
    atomic_bool unsynced; // the log has commits since the last sync
} sqlite_store;

/* Turns the handle's last SQLite error into a status and a sentence; inside a batch, breaks it. */
bt_status bt__sqlite_fail(sqlite_store *s, bt_err *err);
bt_status bt__sqlite_damaged(const sqlite_store *s, const char *how, bt_err *err);
/* 1: a row; 0: no more; -1: error, *status and err say which. Reset the statement when done with
 * its row. */
int bt__sqlite_row(sqlite_store *s, sqlite3_stmt *stmt, bt_status *status, bt_err *err);
bt_status bt__sqlite_exec(sqlite_store *s, const char *sql, bt_err *err);
/* Reads the first column of the first row as an integer. */
bt_status bt__sqlite_int(sqlite_store *s, const char *sql, int64_t *out, bt_err *err);
bt_status bt__sqlite_commits(sqlite_store *s, int64_t *out, bt_err *err);

/* store_sqlite_open.c: the row's first functions. */
bt_status bt__sqlite_open(const char *dir, ledger_store **out, bt_err *err);
void bt__sqlite_close(ledger_store *store);
bt_status bt__sqlite_probe(ledger_store *store, bt_err *err);
