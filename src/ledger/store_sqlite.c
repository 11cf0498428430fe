/* SPDX-License-Identifier: Apache-2.0 */
/* store_sqlite.c - the ledger's rows in SQLite: the statements, errors and transactions, and each
 * function of the row. store_sqlite_open.c opens the file. */
#include "base/assert.h"
#include "ledger/store_sqlite.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CLOCK_STEP_US INT64_C(600000000) // a longer step of a clock that is behind is a jump

bt_status bt__sqlite_damaged(const sqlite_store *s, const char *how, bt_err *err)
{
    return bt_err_set(err, BT_EFORMAT, SQLITE_CORRUPT,
                      "%s is damaged (%s); nothing was changed: restore a copy, or move it away to "
                      "start with empty books",
                      s->path, how);
}

static bt_status fail_sentence(const sqlite_store *s, int rc, bt_err *err)
{
    const char *why = s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(rc);
    switch (rc & 0xFF) {
    case SQLITE_NOMEM: return bt_err_set(err, BT_ENOMEM, rc, "out of memory in the ledger");
    case SQLITE_FULL:
        return bt_err_set(err, BT_EIO, rc,
                          "the disk that holds %s is full; free some space, then try again",
                          s->dir);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR: // our statements are fixed: a file they do not suit is not as we made it
    case SQLITE_CONSTRAINT: return bt__sqlite_damaged(s, why, err);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return bt_err_set(err, BT_EBUSY, rc, "%s is in use by another program; end it first",
                          s->path);
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_CANTOPEN:
        return bt_err_set(err, BT_EIO, rc, "%s cannot be written (%s); check its owner and rights",
                          s->path, why);
    default:
        return bt_err_set(err, BT_EIO, rc, "%s: a read or write failed (%s); check the disk",
                          s->path, why);
    }
}

bt_status bt__sqlite_fail(sqlite_store *s, bt_err *err)
{
    bt_err why = {0};
    int rc = s->db ? sqlite3_extended_errcode(s->db) : SQLITE_NOMEM;
    fail_sentence(s, rc, &why);
    if (s->base.batch && s->base.broken.code == BT_OK) s->base.broken = why;
    if (err) *err = why;
    return why.code;
}

int bt__sqlite_row(sqlite_store *s, sqlite3_stmt *stmt, bt_status *status, bt_err *err)
{
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) return 1;
    if (rc == SQLITE_DONE) return 0;
    *status = bt__sqlite_fail(s, err);
    return -1;
}

bt_status bt__sqlite_exec(sqlite_store *s, const char *sql, bt_err *err)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? BT_OK
                                                                   : bt__sqlite_fail(s, err);
}

bt_status bt__sqlite_int(sqlite_store *s, const char *sql, int64_t *out, bt_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bt_status st = BT_OK;
    if (sqlite3_prepare_v2(s->db, sql, -1, &stmt, NULL) != SQLITE_OK)
        return bt__sqlite_fail(s, err);
    int row = bt__sqlite_row(s, stmt, &st, err);
    if (row == 1) *out = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return row == 0 ? bt__sqlite_damaged(s, "a value is missing", err) : st;
}

/* A statement, reset, with integers bound to ?1..?n. */
static sqlite3_stmt *sql_bind(sqlite_store *s, ledger_sql which, const int64_t *v, int n)
{
    sqlite3_stmt *stmt = s->stmt[which];
    sqlite3_reset(stmt);
    for (int i = 0; i < n; i++) BT_ASSERT(sqlite3_bind_int64(stmt, i + 1, v[i]) == SQLITE_OK);
    return stmt;
}
#define VALUES(...)                                                                                \
    (const int64_t[]){__VA_ARGS__}, (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

/* Runs a statement that has no rows. */
static bt_status sql_do(sqlite_store *s, ledger_sql which, const int64_t *v, int n, bt_err *err)
{
    bt_status st = BT_OK;
    sqlite3_stmt *stmt = sql_bind(s, which, v, n);
    bt__sqlite_row(s, stmt, &st, err);
    sqlite3_reset(stmt);
    return st;
}

/* Reads the first row's first n columns of a statement whose values are bound; *found: there is
 * one. */
static bt_status sql_get(sqlite_store *s, sqlite3_stmt *stmt, int64_t *v, int n, bool *found,
                         bt_err *err)
{
    bt_status st = BT_OK;
    *found = bt__sqlite_row(s, stmt, &st, err) == 1;
    for (int i = 0; *found && i < n; i++) v[i] = sqlite3_column_int64(stmt, i);
    sqlite3_reset(stmt);
    return st;
}

/* ---- transactions */

static bt_status lite_begin(ledger_store *store, bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    /* A rollback that failed is caught up on here, or no transaction could begin any more. */
    if (!sqlite3_get_autocommit(s->db)) sql_do(s, SQL_ROLLBACK, NULL, 0, NULL);
    s->changes_before = sqlite3_total_changes64(s->db);
    return sql_do(s, SQL_BEGIN, NULL, 0, err);
}

static void lite_rollback(ledger_store *store)
{
    sqlite_store *s = (sqlite_store *)store;
    /* After some errors SQLite has rolled back by itself. */
    if (!sqlite3_get_autocommit(s->db)) sql_do(s, SQL_ROLLBACK, NULL, 0, NULL);
}

bt_status bt__sqlite_commits(sqlite_store *s, int64_t *out, bt_err *err)
{
    bool found;
    return sql_get(s, sql_bind(s, SQL_COMMITS, NULL, 0), out, 1, &found, err);
}

/* With a rollback journal COMMIT can fail after the point of no return: the journal is gone, and
 * only the sync of its end failed. Then the number in the file tells. In WAL mode a commit is one
 * write, and a failed one is void by its checksum. */
static bt_status lite_commit(ledger_store *store, bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    bool count = !s->wal && sqlite3_total_changes64(s->db) != s->changes_before;
    bt_status st = BT_OK;
    int64_t commits = 0;
    if (count) st = sql_do(s, SQL_COMMITS_ADD, NULL, 0, err);
    if (st == BT_OK) st = sql_do(s, SQL_COMMIT, NULL, 0, err);
    if (st != BT_OK) lite_rollback(store);
    if (st != BT_OK && count && bt__sqlite_commits(s, &commits, NULL) == BT_OK &&
        commits == s->commits + 1)
        st = BT_OK;
    if (st != BT_OK) return st;
    s->commits += count;
    if (s->wal) atomic_store(&s->unsynced, true);
    return BT_OK;
}

/* The log is all that a commit writes, so its way to the disk is the commit's; the rows follow from
 * it after a loss of power. From beside the connection, which must not wait: hence descriptors of
 * our own, the folder's too, which names a log that is new. */
static bt_status lite_sync(ledger_store *store, bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    char path[4096];
    pthread_mutex_lock(&s->sync_mu); // who finds nothing to do has waited for who does it
    if (!atomic_exchange(&s->unsynced, false)) {
        pthread_mutex_unlock(&s->sync_mu);
        return BT_OK;
    }
    snprintf(path, sizeof path, "%s-wal", s->path);
    int fd = open(path, O_RDONLY | O_CLOEXEC), dir = open(s->dir, O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && dir >= 0 && fdatasync(fd) == 0 && fdatasync(dir) == 0;
    if (!good) bt_err_set(err, BT_EIO, errno, "%s cannot be synced: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    if (dir >= 0) close(dir);
    if (!good) atomic_store(&s->unsynced, true);
    pthread_mutex_unlock(&s->sync_mu);
    return good ? BT_OK : BT_EIO;
}

/* Pages of the log that a crash leaves to be read: 16 MB. */
enum { WAL_FRAMES = 4000 };

/* The log's pages go to their places in the database, and the next commit begins the log anew. */
static bt_status lite_tidy(ledger_store *store, bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    if (s->wal_frames < WAL_FRAMES) return BT_OK;
    int rc = sqlite3_wal_checkpoint_v2(s->db, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    return rc == SQLITE_OK ? BT_OK : bt__sqlite_fail(s, err);
}

static const char *lite_gone(const ledger_store *store)
{
    const sqlite_store *s = (const sqlite_store *)store;
    struct stat st;
    bool same =
        stat(s->path, &st) == 0 && st.st_dev == s->db_stat.st_dev && st.st_ino == s->db_stat.st_ino;
    return same ? NULL : s->path;
}

/* The wall clock, but it never goes back, over restarts too: a clock that is set back must not open
 * a fresh window. Until the clock has caught up, ledger time goes on by the clock's own steps. */
static void lite_clock(ledger_store *s, int64_t wall_us)
{
    int64_t step = wall_us - s->wall_us;
    bool behind = s->wall_us != 0 && s->wall_us < s->now_us;
    if (behind && step > 0 && step <= CLOCK_STEP_US) s->now_us += step;
    s->now_us = BT_MAX(s->now_us, wall_us);
}

/* ---- accounts and windows */

static void account_take(sqlite3_stmt *stmt, ledger_account *out)
{
    *out = (ledger_account){
        .id = sqlite3_column_int64(stmt, 0),
        .override_us = sqlite3_column_int64(stmt, 1),
        .tier_us = sqlite3_column_int64(stmt, 2),
        .window = sqlite3_column_int64(stmt, 3),
        .start_us = sqlite3_column_int64(stmt, 4),
        .used_us = sqlite3_column_int64(stmt, 5),
        .held_us = sqlite3_column_int64(stmt, 6),
    };
}

/* ?1 of the statement is bound. */
static bt_status account_get(sqlite_store *s, sqlite3_stmt *stmt, ledger_account *out, bt_err *err)
{
    bt_status st = BT_OK;
    int row = bt__sqlite_row(s, stmt, &st, err);
    if (row == 1) account_take(stmt, out);
    if (row == 0) *out = (ledger_account){.override_us = -1};
    sqlite3_reset(stmt);
    return st;
}

static sqlite3_stmt *bind_name(sqlite_store *s, ledger_sql which, const char *name)
{
    sqlite3_stmt *stmt = sql_bind(s, which, NULL, 0);
    int rc = sqlite3_bind_text(stmt, 1, name, (int)strlen(name), SQLITE_TRANSIENT);
    return rc == SQLITE_OK ? stmt : NULL;
}

static bt_status lite_account_by_name(ledger_store *store, const char *name, ledger_account *a,
                                      bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    sqlite3_stmt *stmt = bind_name(s, SQL_ACCOUNT_BY_NAME, name);
    return stmt ? account_get(s, stmt, a, err) : bt__sqlite_fail(s, err);
}

static bt_status lite_account_by_id(ledger_store *store, int64_t id, ledger_account *a, bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    return account_get(s, sql_bind(s, SQL_ACCOUNT_BY_ID, VALUES(id)), a, err);
}

static bt_status lite_account_add(ledger_store *store, const char *name, ledger_account *a,
                                  bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    bt_status st = BT_OK;
    sqlite3_stmt *stmt = bind_name(s, SQL_ACCOUNT_ADD, name);
    if (!stmt) return bt__sqlite_fail(s, err);
    bt__sqlite_row(s, stmt, &st, err);
    sqlite3_reset(stmt);
    if (st == BT_OK) a->id = sqlite3_last_insert_rowid(s->db);
    return st;
}

static bt_status lite_account_set(ledger_store *store, const ledger_account *a, bt_err *err)
{
    return sql_do((sqlite_store *)store, SQL_ACCOUNT_SET,
                  VALUES(a->id, a->override_us, a->tier_us, a->window), err);
}

static bt_status lite_window_add(ledger_store *store, ledger_account *a, bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    bt_status st = sql_do(s, SQL_WINDOW_ADD, VALUES(a->id, store->now_us), err);
    if (st != BT_OK) return st;
    a->window = sqlite3_last_insert_rowid(s->db);
    a->start_us = store->now_us;
    a->used_us = a->held_us = 0;
    return lite_account_set(store, a, err);
}

static bt_status lite_accounts(ledger_store *store, void (*fn)(void *ud, const ledger_account *a),
                               void *ud, bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    bt_status st = BT_OK;
    sqlite3_stmt *stmt = sql_bind(s, SQL_ACCOUNTS, NULL, 0);
    while (bt__sqlite_row(s, stmt, &st, err) == 1) {
        ledger_account a;
        account_take(stmt, &a);
        a.name = (const char *)sqlite3_column_text(stmt, 7);
        if (!a.name) {
            st = bt_err_set(err, BT_ENOMEM, 0, "out of memory in the ledger");
            break;
        }
        fn(ud, &a);
    }
    sqlite3_reset(stmt);
    return st;
}

/* ---- holds and entries */

static bt_status lite_hold_get(ledger_store *store, uint64_t request, ledger_hold *h, bool *found,
                               bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    int64_t v[8];
    sqlite3_stmt *stmt = sql_bind(s, SQL_HOLD_GET, VALUES((int64_t)request));
    bt_status st = sql_get(s, stmt, v, 8, found, err);
    if (*found)
        *h = (ledger_hold){request, (uint64_t)v[2], v[0], v[1], v[3], v[4], v[5], v[6], v[7]};
    return st;
}

static bt_status window_change(sqlite_store *s, int64_t window, int64_t used_us, int64_t held_us,
                               bt_err *err)
{
    return sql_do(s, SQL_WINDOW_CHANGE, VALUES(window, used_us, held_us), err);
}

static bt_status lite_hold_add(ledger_store *store, const ledger_hold *h, bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    bt_status st = sql_do(s, SQL_HOLD_ADD,
                          VALUES((int64_t)h->request, h->account, h->window, (int64_t)h->boot,
                                 h->amount_us, store->now_us),
                          err);
    return st == BT_OK ? window_change(s, h->window, 0, h->amount_us, err) : st;
}

static bt_status lite_hold_raise(ledger_store *store, const ledger_hold *h, int64_t by_us,
                                 bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    bt_status st = sql_do(s, SQL_HOLD_SET, VALUES((int64_t)h->request, h->amount_us + by_us), err);
    return st == BT_OK ? window_change(s, h->window, 0, by_us, err) : st;
}

/* The entry and its kind's sum. */
static bt_status entry_append(sqlite_store *s, const ledger_entry *e, bt_err *err)
{
    bt_status st = sql_do(s, SQL_ENTRY_ADD,
                          VALUES(s->base.now_us, e->kind, e->account, (int64_t)e->request,
                                 e->device_us, e->charged_us, e->window, (int64_t)e->boot),
                          err);
    if (st != BT_OK) return st;
    return sql_do(s, SQL_SUM_ADD, VALUES(e->kind, e->device_us, e->charged_us), err);
}

static bt_status lite_hold_end(ledger_store *store, const ledger_hold *h, const ledger_entry *e,
                               bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    bt_status st = entry_append(s, e, err);
    if (st == BT_OK) st = sql_do(s, SQL_HOLD_DROP, VALUES((int64_t)h->request), err);
    return st == BT_OK ? window_change(s, h->window, e->charged_us, -h->amount_us, err) : st;
}

static bt_status lite_holds_dead(ledger_store *store, uint64_t boot, uint64_t *request, int max,
                                 int *n, bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    bt_status st = BT_OK;
    sqlite3_stmt *stmt = sql_bind(s, SQL_HOLDS_OF_OTHERS, VALUES((int64_t)boot, max));
    *n = 0;
    while (*n < max && bt__sqlite_row(s, stmt, &st, err) == 1)
        request[(*n)++] = (uint64_t)sqlite3_column_int64(stmt, 0);
    sqlite3_reset(stmt);
    return st;
}

static bt_status lite_entry_add(ledger_store *store, const ledger_entry *e, bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    bt_status st = entry_append(s, e, err);
    if (st == BT_OK && e->window != 0) st = window_change(s, e->window, e->charged_us, 0, err);
    if (st == BT_OK && (e->kind == KIND_BUSY || e->kind == KIND_HOUSE))
        st = sql_do(s, SQL_BOOT_CHANGE,
                    VALUES((int64_t)e->boot, e->kind == KIND_BUSY ? e->device_us : 0,
                           e->kind == KIND_HOUSE ? e->device_us : 0),
                    err);
    return st;
}

static bt_status lite_entry_get(ledger_store *store, uint64_t request, int64_t *account,
                                int64_t *device_us, bool *found, bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    int64_t v[2];
    sqlite3_stmt *stmt = sql_bind(s, SQL_ENTRY_OF_REQUEST, VALUES((int64_t)request));
    bt_status st = sql_get(s, stmt, v, 2, found, err);
    if (!*found) return st;
    *account = v[0];
    *device_us = v[1];
    return BT_OK;
}

static bt_status lite_boot_get(ledger_store *store, uint64_t boot, int64_t *busy_us,
                               int64_t *house_us, bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    int64_t v[2] = {0, 0};
    bool found;
    bt_status st = sql_get(s, sql_bind(s, SQL_BOOT_GET, VALUES((int64_t)boot)), v, 2, &found, err);
    *busy_us = v[0];
    *house_us = v[1];
    return st;
}

/* ---- the whole of the books */

static bt_status lite_totals(ledger_store *store, bt_ledger_totals *out, bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    bt_ledger_totals t = {0};
    bt_status st = BT_OK;
    bool found;
    sqlite3_stmt *stmt = sql_bind(s, SQL_SUMS, NULL, 0);
    while (bt__sqlite_row(s, stmt, &st, err) == 1) {
        int64_t device_us = sqlite3_column_int64(stmt, 1);
        switch (sqlite3_column_int64(stmt, 0)) {
        case KIND_POST:
            t.accounts_us = device_us;
            t.charged_us = sqlite3_column_int64(stmt, 2);
            break;
        case KIND_HOUSE: t.house_us = device_us; break;
        case KIND_BUSY: t.busy_us = device_us; break;
        default: break;
        }
    }
    sqlite3_reset(stmt);
    if (st != BT_OK) return st;
    st = sql_get(s, sql_bind(s, SQL_HOLDS_COUNT, NULL, 0), &t.holds_open, 1, &found, err);
    if (st == BT_OK) *out = t;
    return st;
}

/* Each query counts the rows that do not match. */
static const struct {
    const char *sql, *what;
} book_check[] = {
    {"SELECT count(*) FROM sums s LEFT JOIN (SELECT kind, sum(device_us) d, sum(charged_us) c "
     "FROM entries GROUP BY kind) e ON e.kind = s.kind "
     "WHERE s.device_us <> coalesce(e.d, 0) OR s.charged_us <> coalesce(e.c, 0)",
     "the totals are not the sums of the entries"},
    {"SELECT count(*) FROM entries WHERE kind NOT IN (SELECT kind FROM sums)",
     "there are entries of an unknown kind"},
    {"SELECT count(*) FROM windows w LEFT JOIN (SELECT window, sum(charged_us) c FROM entries "
     "WHERE window IS NOT NULL GROUP BY window) e ON e.window = w.id "
     "WHERE w.used_us <> coalesce(e.c, 0)",
     "a window's use is not the sum of its entries"},
    {"SELECT count(*) FROM windows w LEFT JOIN (SELECT window, sum(amount_us) h FROM holds "
     "GROUP BY window) h ON h.window = w.id WHERE w.held_us <> coalesce(h.h, 0)",
     "what a window holds is not the sum of its holds"},
    {"SELECT count(*) FROM holds h LEFT JOIN windows w ON w.id = h.window "
     "WHERE w.account IS NOT h.account",
     "a hold is in no window of its account"},
    {"SELECT count(*) FROM entries e LEFT JOIN windows w ON w.id = e.window "
     "WHERE e.account IS NOT NULL AND w.account IS NOT e.account",
     "an entry is in no window of its account"},
    {"SELECT count(*) FROM accounts a LEFT JOIN windows w ON w.id = a.window "
     "WHERE a.window IS NOT NULL AND w.account IS NOT a.id",
     "an account's window is not its own"},
    {"SELECT count(*) FROM holds WHERE request IN (SELECT request FROM entries)",
     "a request that has ended still holds quota"},
    {"SELECT count(*) FROM boots b LEFT JOIN (SELECT boot, "
     "sum(CASE kind WHEN 4 THEN device_us ELSE 0 END) busy, "
     "sum(CASE kind WHEN 3 THEN device_us ELSE 0 END) house FROM entries WHERE kind IN (3, 4) "
     "GROUP BY boot) e ON e.boot = b.boot WHERE b.busy_us <> coalesce(e.busy, 0) OR "
     "b.house_us <> coalesce(e.house, 0)",
     "an engine's booked time is not the sum of its entries"},
};

static bt_status lite_check(ledger_store *store, bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    for (size_t i = 0; i < BT_COUNT(book_check); i++) {
        int64_t wrong = 0;
        bt_status st = bt__sqlite_int(s, book_check[i].sql, &wrong, err);
        if (st != BT_OK) return st;
        if (wrong != 0)
            return bt_err_set(err, BT_EFORMAT, 0, "%s does not balance: %s (%lld rows)", s->path,
                              book_check[i].what, (long long)wrong);
    }
    return BT_OK;
}

/* %lld: started_us; older_than_us, twice.
 * Folded entries carry no request, and void entries no amount, so those simply go. */
static const char fold_sql[] =
    "DROP TRIGGER entries_no_update; DROP TRIGGER entries_no_delete;"
    "CREATE TEMP TABLE old AS SELECT id FROM windows WHERE folded = 0 AND start_us <= %lld"
    " AND id NOT IN (SELECT window FROM holds);"
    "CREATE TEMP TABLE fold AS"
    " SELECT max(wall_us) wall_us, kind, account, sum(device_us) device_us,"
    "  sum(charged_us) charged_us, window, 0 boot"
    " FROM entries WHERE window IN (SELECT id FROM old) AND kind <> 2 GROUP BY window, kind"
    " UNION ALL SELECT max(wall_us), kind, NULL, sum(device_us), sum(charged_us), NULL, boot"
    " FROM entries WHERE kind IN (3, 4) AND wall_us < %lld GROUP BY kind, boot;"
    "DELETE FROM entries WHERE window IN (SELECT id FROM old)"
    " OR (kind IN (3, 4) AND wall_us < %lld);";
static const char fold_end_sql[] =
    "INSERT INTO entries(wall_us, kind, account, device_us, charged_us, window, boot)"
    " SELECT wall_us, kind, account, device_us, charged_us, window, boot FROM temp.fold;"
    "UPDATE windows SET folded = 1 WHERE id IN (SELECT id FROM old);"
    "DROP TABLE temp.old; DROP TABLE temp.fold;" LEDGER_TRIGGERS;

static bt_status lite_fold(ledger_store *store, int64_t started_us, int64_t older_than_us,
                           int64_t *folded, bt_err *err)
{
    sqlite_store *s = (sqlite_store *)store;
    char sql[sizeof fold_sql + 64];
    int n = snprintf(sql, sizeof sql, fold_sql, (long long)started_us, (long long)older_than_us,
                     (long long)older_than_us);
    BT_ASSERT(n > 0 && n < (int)sizeof sql);
    bt_status st = bt__sqlite_exec(s, sql, err);
    if (st != BT_OK) return st;
    *folded = sqlite3_changes64(s->db); // the deletion was the last statement that changed rows
    return bt__sqlite_exec(s, fold_end_sql, err);
}

const ledger_store_ops bt__store_sqlite = {
    .open = bt__sqlite_open,
    .close = bt__sqlite_close,
    .gone = lite_gone,
    .probe = bt__sqlite_probe,
    .sync = lite_sync,
    .tidy = lite_tidy,
    .clock = lite_clock,
    .begin = lite_begin,
    .commit = lite_commit,
    .rollback = lite_rollback,
    .account_by_name = lite_account_by_name,
    .account_by_id = lite_account_by_id,
    .account_add = lite_account_add,
    .account_set = lite_account_set,
    .window_add = lite_window_add,
    .accounts = lite_accounts,
    .hold_get = lite_hold_get,
    .hold_add = lite_hold_add,
    .hold_raise = lite_hold_raise,
    .hold_end = lite_hold_end,
    .holds_dead = lite_holds_dead,
    .entry_add = lite_entry_add,
    .entry_get = lite_entry_get,
    .boot_get = lite_boot_get,
    .totals = lite_totals,
    .check = lite_check,
    .fold = lite_fold,
};
