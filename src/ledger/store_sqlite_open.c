/* SPDX-License-Identifier: Apache-2.0 */
/* store_sqlite_open.c - the database of the data directory: opened, recognised, made, checked.
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
#include "base/mem.h"
#include "ledger/store_sqlite.h"
#include <stdio.h>
#include <string.h>
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

/* Runs a pragma; *is = whether the text of its first row, seen, is `want`. */
static bt_status db_text_is(sqlite_store *s, const char *sql, const char *want, bool *is,
                            char seen[64], bt_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bt_status st = BT_OK;
    if (sqlite3_prepare_v2(s->db, sql, -1, &stmt, NULL) != SQLITE_OK)
        return bt__sqlite_fail(s, err);
    int row = bt__sqlite_row(s, stmt, &st, err);
    const char *text = row == 1 ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
    if (row == 1 && !text) st = bt_err_set(err, BT_ENOMEM, 0, "out of memory in the ledger");
    snprintf(seen, 64, "%s", text ? text : "");
    *is = strcmp(seen, want) == 0;
    sqlite3_finalize(stmt);
    return st;
}

/* A transaction: whole, or rolled back. */
static bt_status db_write(sqlite_store *s, const char *sql, bt_err *err)
{
    bt_status st = bt__sqlite_exec(s, sql, err);
    if (st != BT_OK && !sqlite3_get_autocommit(s->db))
        sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return st;
}

/* Recognises the file. *is_new: it holds nothing yet. */
static bt_status db_recognise(sqlite_store *s, bool *is_new, bt_err *err)
{
    int64_t id = 0, version = 0, tables = 0;
    bt_status status;
    if ((status = bt__sqlite_int(s, "PRAGMA application_id", &id, err)) != BT_OK) return status;
    if ((status = bt__sqlite_int(s, "PRAGMA user_version", &version, err)) != BT_OK) return status;
    if ((status = bt__sqlite_int(s, "SELECT count(*) FROM sqlite_schema", &tables, err)) != BT_OK)
        return status;
    *is_new = id == 0 && version == 0 && tables == 0;
    if (*is_new) {
        /* SQLite takes less than a page for nothing at all; here it was a ledger once. */
        struct stat st;
        int64_t pages = 0;
        if ((status = bt__sqlite_int(s, "PRAGMA page_count", &pages, err)) != BT_OK) return status;
        bool cut = pages == 0 && stat(s->path, &st) == 0 && st.st_size > 0;
        return cut ? bt__sqlite_damaged(s, "it was cut short", err) : BT_OK;
    }
    if (id != LEDGER_APPLICATION_ID)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s is a database of another program; nothing was changed: move it away, "
                          "or give another --data",
                          s->path);
    if (version != LEDGER_VERSION)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s has format %lld and this program knows %d; use the newer Baton, or "
                          "move the file away",
                          s->path, (long long)version, LEDGER_VERSION);
    return BT_OK;
}

/* before: bytes of the file before it was opened; had_wal: pages may be in the log instead. */
static bt_status db_check(sqlite_store *s, int64_t before, bool had_wal, bt_err *err)
{
    int64_t pages = 0, page_bytes = 0;
    char seen[64];
    bool ok = false;
    bt_status st;
    if ((st = bt__sqlite_int(s, "PRAGMA page_count", &pages, err)) != BT_OK) return st;
    if ((st = bt__sqlite_int(s, "PRAGMA page_size", &page_bytes, err)) != BT_OK) return st;
    if (before > CHECK_BYTES_MAX && (had_wal || before == pages * page_bytes)) return BT_OK;
    if ((st = db_text_is(s, "PRAGMA quick_check(1)", "ok", &ok, seen, err)) != BT_OK) return st;
    return ok ? BT_OK : bt__sqlite_damaged(s, seen, err);
}

/* Whether WAL works here, found by a write to another file: one that has become a WAL database
 * where WAL then fails could not be opened again. */
static bool wal_works(const sqlite_store *s)
{
    static const char *const suffix[] = {"", "-wal", "-journal"};
    char path[4096], file[4200];
    sqlite3 *db = NULL;
    snprintf(path, sizeof path, "%s/probe.db", s->dir);
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

static bt_status db_journal(sqlite_store *s, bool is_new, bt_err *err)
{
    char seen[64];
    bool is = false;
    bt_status st = db_text_is(s, "PRAGMA journal_mode", "wal", &is, seen, err);
    if (st != BT_OK) return st;
    s->wal = is || wal_works(s);
    st = s->wal ? db_text_is(s, "PRAGMA journal_mode = WAL", "wal", &is, seen, err)
                : db_text_is(s, "PRAGMA journal_mode = TRUNCATE", "truncate", &is, seen, err);
    if (st == BT_OK && !is)
        return bt_err_set(err, BT_EIO, 0, "%s: the journal mode stays %s; give another --data",
                          s->path, seen);
    if (st == BT_OK)
        st = bt__sqlite_exec(
            s, s->wal ? "PRAGMA synchronous = NORMAL" : "PRAGMA synchronous = FULL", err);
    if (st == BT_OK) st = db_write(s, is_new ? schema_sql : probe_sql, err);
    return st;
}

static int note_frames(void *store, sqlite3 *db, const char *name, int frames)
{
    (void)db, (void)name;
    ((sqlite_store *)store)->wal_frames = frames;
    return SQLITE_OK;
}

static bt_status db_prepare(sqlite_store *s, bt_err *err)
{
    static const char *const text[SQL_COUNT] = {
#define X(name, sql) [SQL_##name] = sql,
        LEDGER_SQL_MAP(X)
#undef X
    };
    for (int i = 0; i < SQL_COUNT; i++) {
        int rc =
            sqlite3_prepare_v3(s->db, text[i], -1, SQLITE_PREPARE_PERSISTENT, &s->stmt[i], NULL);
        if (rc == SQLITE_ERROR) return bt__sqlite_damaged(s, sqlite3_errmsg(s->db), err);
        if (rc != SQLITE_OK) return bt__sqlite_fail(s, err);
    }
    return BT_OK;
}

static bt_status db_open(sqlite_store *s, bt_err *err)
{
    struct stat st;
    char wal[4096];
    bt_status status;
    bool is_new = false;
    int64_t before = stat(s->path, &st) == 0 ? (int64_t)st.st_size : 0;
    snprintf(wal, sizeof wal, "%s-wal", s->path);
    bool had_wal = stat(wal, &st) == 0 && st.st_size > 0;
    int flags =
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    if (sqlite3_open_v2(s->path, &s->db, flags, NULL) != SQLITE_OK) return bt__sqlite_fail(s, err);
    /* Until the file is known to be sound, closing must not write the log into it. */
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_busy_timeout(s->db, LEDGER_BUSY_MS);
    status = bt__sqlite_exec(s,
                             "PRAGMA locking_mode = EXCLUSIVE; PRAGMA mmap_size = 0;"
                             "PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY;"
                             "PRAGMA journal_size_limit = 16777216;",
                             err);
    if (status != BT_OK) return status;
    if (sqlite3_db_readonly(s->db, "main") == 1)
        return bt_err_set(err, BT_EIO, SQLITE_READONLY,
                          "%s may not be written by this user; change its owner, or give another "
                          "--data",
                          s->path);
    if ((status = db_recognise(s, &is_new, err)) != BT_OK) return status;
    if (!is_new && (status = db_check(s, before, had_wal, err)) != BT_OK) return status;
    if ((status = db_journal(s, is_new, err)) != BT_OK) return status;
    if ((status = db_prepare(s, err)) != BT_OK) return status;
    if ((status = bt__sqlite_commits(s, &s->commits, err)) != BT_OK) return status;
    if (s->wal) sqlite3_wal_hook(s->db, note_frames, s); // checkpoints are lite_tidy's
    if (stat(s->path, &s->db_stat) != 0) return bt__sqlite_fail(s, err);
    if ((status = bt__sqlite_int(s, newest_sql, &s->base.now_us, err)) != BT_OK) return status;
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    return BT_OK;
}

bt_status bt__sqlite_probe(ledger_store *store, bt_err *err)
{
    return db_write((sqlite_store *)store, probe_sql, err);
}

bt_status bt__sqlite_open(const char *dir, ledger_store **out, bt_err *err)
{
    bt_status st = BT_ENOMEM;
    char path[4096];
    if (snprintf(path, sizeof path, "%s/ledger.db", dir) >= (int)sizeof path - 8)
        return bt_err_set(err, BT_EINVAL, 0, "the path of the data directory is too long");
    sqlite_store *s = bt_calloc(1, sizeof *s);
    if (s) {
        s->base.op = &bt__store_sqlite;
        pthread_mutex_init(&s->sync_mu, NULL);
        s->dir = dir;
        s->path = bt_strdup(path);
    }
    if (s && s->path)
        st = db_open(s, err);
    else
        bt_err_set(err, BT_ENOMEM, 0, "out of memory while opening the ledger");
    if (st == BT_OK)
        *out = &s->base;
    else if (s)
        bt__sqlite_close(&s->base);
    return st;
}

void bt__sqlite_close(ledger_store *store)
{
    sqlite_store *s = (sqlite_store *)store;
    for (int i = 0; i < SQL_COUNT; i++) sqlite3_finalize(s->stmt[i]);
    if (s->db) BT_ASSERT(sqlite3_close(s->db) == SQLITE_OK);
    pthread_mutex_destroy(&s->sync_mu);
    bt_free(s->path);
    bt_free(s);
}
