/* SPDX-License-Identifier: Apache-2.0 */
/* ledger_open.c - the database of the data directory.
 *
 * JOURNAL: the connection is exclusive, so WAL keeps its index on the heap: no shared memory, which
 * network and FUSE mounts lack and which can raise SIGBUS on a full disk. Whether WAL works is
 * found by a write to a file of its own; if not, a rollback journal that is truncated. WAL runs
 * with synchronous NORMAL: a commit is one write() into the page cache, which kill -9 cannot take
 * back; the disk is waited for by bt_ledger_sync, about once a second. TRUNCATE runs with FULL:
 * there a commit without a sync could leave a damaged file after a loss of power.
 *
 * DAMAGE: nothing is written before the file has been recognised, and checked if it is small (or
 * shorter than it says). What is damaged stays as it is for its owner to look at. */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "ledger/ledger_impl.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHECK_BYTES_MAX = 8 << 20 };

static const char schema_sql[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE accounts("
    " id INTEGER PRIMARY KEY,"
    " name TEXT NOT NULL UNIQUE,"
    " limit_override_us INTEGER NOT NULL DEFAULT -1,"
    " tier_limit_us INTEGER NOT NULL DEFAULT 0,"
    " window INTEGER) STRICT;"
    "CREATE TABLE windows("
    " id INTEGER PRIMARY KEY,"
    " account INTEGER NOT NULL,"
    " start_us INTEGER NOT NULL,"
    " used_us INTEGER NOT NULL DEFAULT 0,"
    " held_us INTEGER NOT NULL DEFAULT 0 CHECK(held_us >= 0),"
    " folded INTEGER NOT NULL DEFAULT 0) STRICT;"
    "CREATE TABLE holds("
    " request INTEGER PRIMARY KEY,"
    " account INTEGER NOT NULL,"
    " window INTEGER NOT NULL,"
    " boot INTEGER NOT NULL,"
    " amount_us INTEGER NOT NULL CHECK(amount_us >= 0),"
    " wall_us INTEGER NOT NULL) STRICT;"
    "CREATE TABLE entries("
    " id INTEGER PRIMARY KEY,"
    " wall_us INTEGER NOT NULL,"
    " kind INTEGER NOT NULL," // 1 post, 2 void, 3 house, 4 busy, 5 adjust
    " account INTEGER,"
    " request INTEGER,"
    " device_us INTEGER NOT NULL,"
    " charged_us INTEGER NOT NULL,"
    " window INTEGER,"
    " boot INTEGER NOT NULL) STRICT;" // post, void: of the front; house, busy: of the engine
    "CREATE UNIQUE INDEX entries_request ON entries(request) WHERE request IS NOT NULL;"
    "CREATE TABLE boots("
    " boot INTEGER PRIMARY KEY,"
    " busy_us INTEGER NOT NULL,"
    " house_us INTEGER NOT NULL) STRICT;"
    "CREATE TABLE sums("
    " kind INTEGER PRIMARY KEY,"
    " device_us INTEGER NOT NULL DEFAULT 0,"
    " charged_us INTEGER NOT NULL DEFAULT 0) STRICT;"
    "INSERT INTO sums(kind) VALUES(1),(2),(3),(4),(5);"
    "CREATE TABLE commits(n INTEGER NOT NULL) STRICT;"
    "INSERT INTO commits(n) VALUES(0);" LEDGER_TRIGGERS
    "PRAGMA application_id = 1112822092;" // 0x4254514C
    "PRAGMA user_version = 1;"
    "COMMIT;";

/* A write that changes nothing: a full or read-only disk is found now, not by a user. */
static const char probe_sql[] = "BEGIN IMMEDIATE; PRAGMA user_version = 1; COMMIT;";

/* The ledger's time goes on from the newest that it holds. */
static const char newest_sql[] = "SELECT max((SELECT coalesce(max(wall_us), 0) FROM entries),"
                                 " (SELECT coalesce(max(start_us), 0) FROM windows),"
                                 " (SELECT coalesce(max(wall_us), 0) FROM holds))";

static bt_status db_damaged(bt_ledger *l, const char *how, bt_err *err)
{
    return bt_err_set(err, BT_EFORMAT, SQLITE_CORRUPT,
                      "%s is damaged (%s); nothing was changed: restore a copy, or move it away to "
                      "start with empty books",
                      l->path, how);
}

/* Reads the first column of the first row as an integer. */
static bt_status db_int(bt_ledger *l, const char *sql, int64_t *out, bt_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bt_status status = BT_OK;
    if (sqlite3_prepare_v2(l->db, sql, -1, &stmt, NULL) != SQLITE_OK)
        return bt__ledger_fail(l, err);
    int row = bt__ledger_row(l, stmt, &status, err);
    if (row == 1) *out = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return row == 0 ? db_damaged(l, "a value is missing", err) : status;
}

/* Runs a pragma; *is = whether the text of its first row, seen, is `want`. */
static bt_status db_text_is(bt_ledger *l, const char *sql, const char *want, bool *is,
                            char seen[64], bt_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bt_status status = BT_OK;
    if (sqlite3_prepare_v2(l->db, sql, -1, &stmt, NULL) != SQLITE_OK)
        return bt__ledger_fail(l, err);
    int row = bt__ledger_row(l, stmt, &status, err);
    const char *text = row == 1 ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
    if (row == 1 && !text) status = bt_err_set(err, BT_ENOMEM, 0, "out of memory in the ledger");
    snprintf(seen, 64, "%s", text ? text : "");
    *is = strcmp(seen, want) == 0;
    sqlite3_finalize(stmt);
    return status;
}

static bt_status db_exec(bt_ledger *l, const char *sql, bt_err *err)
{
    return sqlite3_exec(l->db, sql, NULL, NULL, NULL) == SQLITE_OK ? BT_OK
                                                                   : bt__ledger_fail(l, err);
}

/* A transaction: whole, or rolled back. */
static bt_status db_write(bt_ledger *l, const char *sql, bt_err *err)
{
    bt_status status = db_exec(l, sql, err);
    if (status != BT_OK && !sqlite3_get_autocommit(l->db))
        sqlite3_exec(l->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

/* Recognises the file. *is_new: it holds nothing yet. */
static bt_status db_recognise(bt_ledger *l, bool *is_new, bt_err *err)
{
    int64_t id = 0, version = 0, tables = 0;
    bt_status status;
    if ((status = db_int(l, "PRAGMA application_id", &id, err)) != BT_OK) return status;
    if ((status = db_int(l, "PRAGMA user_version", &version, err)) != BT_OK) return status;
    if ((status = db_int(l, "SELECT count(*) FROM sqlite_schema", &tables, err)) != BT_OK)
        return status;
    *is_new = id == 0 && version == 0 && tables == 0;
    if (*is_new) {
        /* SQLite takes less than a page for nothing at all; here it was a ledger once. */
        struct stat st;
        int64_t pages = 0;
        if ((status = db_int(l, "PRAGMA page_count", &pages, err)) != BT_OK) return status;
        bool cut = pages == 0 && stat(l->path, &st) == 0 && st.st_size > 0;
        return cut ? db_damaged(l, "it was cut short", err) : BT_OK;
    }
    if (id != LEDGER_APPLICATION_ID)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s is a database of another program; nothing was changed: move it away, "
                          "or give another --data",
                          l->path);
    if (version != LEDGER_VERSION)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s has format %lld and this program knows %d; use the newer Baton, or "
                          "move the file away",
                          l->path, (long long)version, LEDGER_VERSION);
    return BT_OK;
}

/* before: bytes of the file before it was opened; had_wal: pages may be in the log instead. */
static bt_status db_check(bt_ledger *l, int64_t before, bool had_wal, bt_err *err)
{
    int64_t pages = 0, page_bytes = 0;
    char seen[64];
    bool ok = false;
    bt_status status;
    if ((status = db_int(l, "PRAGMA page_count", &pages, err)) != BT_OK) return status;
    if ((status = db_int(l, "PRAGMA page_size", &page_bytes, err)) != BT_OK) return status;
    if (before > CHECK_BYTES_MAX && (had_wal || before == pages * page_bytes)) return BT_OK;
    if ((status = db_text_is(l, "PRAGMA quick_check(1)", "ok", &ok, seen, err)) != BT_OK)
        return status;
    return ok ? BT_OK : db_damaged(l, seen, err);
}

/* Whether WAL works here, found by a write to another file: one that has become a WAL database
 * where WAL then fails could not be opened again. */
static bool wal_works(const bt_ledger *l)
{
    static const char *const suffix[] = {"", "-wal", "-journal"};
    char path[4096], file[4200];
    sqlite3 *db = NULL;
    snprintf(path, sizeof path, "%s/probe.db", l->dir);
    for (size_t i = 0; i < BT_COUNT(suffix); i++) {
        snprintf(file, sizeof file, "%s%s", path, suffix[i]);
        unlink(file);
    }
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    bool works = sqlite3_open_v2(path, &db, flags, NULL) == SQLITE_OK &&
                 sqlite3_exec(db,
                              "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
                              "PRAGMA mmap_size = 0; CREATE TABLE probe(x);",
                              NULL, NULL, NULL) == SQLITE_OK;
    snprintf(file, sizeof file, "%s-wal", path);
    works = works && access(file, F_OK) == 0;
    sqlite3_close(db);
    for (size_t i = 0; i < BT_COUNT(suffix); i++) {
        snprintf(file, sizeof file, "%s%s", path, suffix[i]);
        unlink(file);
    }
    return works;
}

static bt_status db_journal(bt_ledger *l, bool is_new, bt_err *err)
{
    char seen[64];
    bool is = false;
    bt_status status = db_text_is(l, "PRAGMA journal_mode", "wal", &is, seen, err);
    if (status != BT_OK) return status;
    l->wal = is || wal_works(l);
    status = l->wal ? db_text_is(l, "PRAGMA journal_mode = WAL", "wal", &is, seen, err)
                    : db_text_is(l, "PRAGMA journal_mode = TRUNCATE", "truncate", &is, seen, err);
    if (status == BT_OK && !is)
        return bt_err_set(err, BT_EIO, 0, "%s: the journal mode stays %s; give another --data",
                          l->path, seen);
    if (status == BT_OK)
        status =
            db_exec(l, l->wal ? "PRAGMA synchronous = NORMAL" : "PRAGMA synchronous = FULL", err);
    if (status == BT_OK) status = db_write(l, is_new ? schema_sql : probe_sql, err);
    return status;
}

bt_status bt_ledger_probe(bt_ledger *l, bt_err *err)
{
    BT_ASSERT(!l->batch);
    return db_write(l, probe_sql, err);
}

static bt_status db_prepare(bt_ledger *l, bt_err *err)
{
    static const char *const text[SQL_COUNT] = {
#define X(name, sql) [SQL_##name] = sql,
        LEDGER_SQL_MAP(X)
#undef X
    };
    for (int i = 0; i < SQL_COUNT; i++) {
        int rc =
            sqlite3_prepare_v3(l->db, text[i], -1, SQLITE_PREPARE_PERSISTENT, &l->stmt[i], NULL);
        if (rc == SQLITE_ERROR) return db_damaged(l, sqlite3_errmsg(l->db), err);
        if (rc != SQLITE_OK) return bt__ledger_fail(l, err);
    }
    return BT_OK;
}

bt_status bt__ledger_open_db(bt_ledger *l, bt_err *err)
{
    struct stat st;
    char wal[4096];
    bt_status status;
    bool is_new = false;
    int64_t before = stat(l->path, &st) == 0 ? (int64_t)st.st_size : 0;
    snprintf(wal, sizeof wal, "%s-wal", l->path);
    bool had_wal = stat(wal, &st) == 0 && st.st_size > 0;
    int flags =
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    if (sqlite3_open_v2(l->path, &l->db, flags, NULL) != SQLITE_OK) return bt__ledger_fail(l, err);
    /* Until the file is known to be sound, closing must not write the log into it. */
    sqlite3_db_config(l->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_db_config(l->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(l->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_busy_timeout(l->db, LEDGER_BUSY_MS);
    status = db_exec(l,
                     "PRAGMA locking_mode = EXCLUSIVE; PRAGMA mmap_size = 0;"
                     "PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY;"
                     "PRAGMA journal_size_limit = 4194304;",
                     err);
    if (status != BT_OK) return status;
    if (sqlite3_db_readonly(l->db, "main") == 1)
        return bt_err_set(err, BT_EIO, SQLITE_READONLY,
                          "%s may not be written by this user; change its owner, or give another "
                          "--data",
                          l->path);
    if ((status = db_recognise(l, &is_new, err)) != BT_OK) return status;
    if (!is_new && (status = db_check(l, before, had_wal, err)) != BT_OK) return status;
    if ((status = db_journal(l, is_new, err)) != BT_OK) return status;
    if ((status = db_prepare(l, err)) != BT_OK) return status;
    if ((status = bt__ledger_commits(l, &l->commits, err)) != BT_OK) return status;
    if (stat(l->path, &l->db_stat) != 0) return bt__ledger_fail(l, err);
    if ((status = db_int(l, newest_sql, &l->now_us, err)) != BT_OK) return status;
    sqlite3_db_config(l->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    return BT_OK;
}
