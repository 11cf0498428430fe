/* SPDX-License-Identifier: Apache-2.0 */
/* ledger.c - holds, posts and voids.
 *
 * Nothing is cached between calls: the rows are the state, so a rollback needs no undoing here. A
 * call checks all it can refuse before its first write; after that only SQLite can fail, and then
 * the whole transaction goes. */
#include "ledger/ledger.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "ledger/ledger_impl.h"
#include "quota/tiers.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Statements, errors and transactions: what every operation below is made of. */

static bt_status fail_sentence(bt_ledger *l, int rc, bt_err *err)
{
    const char *why = l->db ? sqlite3_errmsg(l->db) : sqlite3_errstr(rc);
    switch (rc & 0xFF) {
    case SQLITE_NOMEM: return bt_err_set(err, BT_ENOMEM, rc, "out of memory in the ledger");
    case SQLITE_FULL:
        return bt_err_set(err, BT_EIO, rc,
                          "the disk that holds %s is full; free some space, then try again",
                          l->dir);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR: // our statements are fixed: a file they do not suit is not as we made it
    case SQLITE_CONSTRAINT:
        return bt_err_set(
            err, BT_EFORMAT, rc,
            "%s is damaged (%s); nothing was changed: restore a copy, or move it away "
            "to start with empty books",
            l->path, why);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return bt_err_set(err, BT_EBUSY, rc, "%s is in use by another program; end it first",
                          l->path);
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_CANTOPEN:
        return bt_err_set(err, BT_EIO, rc, "%s cannot be written (%s); check its owner and rights",
                          l->path, why);
    default:
        return bt_err_set(err, BT_EIO, rc, "%s: a read or write failed (%s); check the disk",
                          l->path, why);
    }
}

bt_status bt__ledger_fail(bt_ledger *l, bt_err *err)
{
    bt_err why = {0};
    int rc = l->db ? sqlite3_extended_errcode(l->db) : SQLITE_NOMEM;
    fail_sentence(l, rc, &why);
    if (l->batch && l->broken.code == BT_OK) l->broken = why;
    if (err) *err = why;
    return why.code;
}

sqlite3_stmt *bt__ledger_sql(bt_ledger *l, ledger_sql which, const int64_t *v, int n)
{
    sqlite3_stmt *stmt = l->stmt[which];
    sqlite3_reset(stmt);
    for (int i = 0; i < n; i++) BT_ASSERT(sqlite3_bind_int64(stmt, i + 1, v[i]) == SQLITE_OK);
    return stmt;
}

int bt__ledger_row(bt_ledger *l, sqlite3_stmt *stmt, bt_status *status, bt_err *err)
{
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) return 1;
    if (rc == SQLITE_DONE) return 0;
    *status = bt__ledger_fail(l, err);
    return -1;
}

bt_status bt__ledger_do(bt_ledger *l, ledger_sql which, const int64_t *v, int n, bt_err *err)
{
    bt_status status = BT_OK;
    sqlite3_stmt *stmt = bt__ledger_sql(l, which, v, n);
    bt__ledger_row(l, stmt, &status, err);
    sqlite3_reset(stmt);
    return status;
}

bt_status bt_ledger_begin(bt_ledger *l, bt_err *err)
{
    BT_ASSERT(!l->batch);
    /* A rollback that failed is caught up on here, or no transaction could begin any more. */
    if (!sqlite3_get_autocommit(l->db)) bt__ledger_do(l, SQL_ROLLBACK, NULL, 0, NULL);
    bt_status status = bt__ledger_do(l, SQL_BEGIN, NULL, 0, err);
    if (status != BT_OK) return status;
    l->batch = true;
    l->broken.code = BT_OK;
    l->changes_before = sqlite3_total_changes64(l->db);
    return BT_OK;
}

void bt_ledger_rollback(bt_ledger *l)
{
    if (!l->batch) return;
    /* After some errors SQLite has rolled back by itself. */
    if (!sqlite3_get_autocommit(l->db)) bt__ledger_do(l, SQL_ROLLBACK, NULL, 0, NULL);
    l->batch = false;
    l->broken.code = BT_OK;
}

bt_status bt__ledger_commits(bt_ledger *l, int64_t *out, bt_err *err)
{
    bt_status status = BT_OK;
    sqlite3_stmt *s = bt__ledger_sql(l, SQL_COMMITS, NULL, 0);
    if (bt__ledger_row(l, s, &status, err) == 1) *out = sqlite3_column_int64(s, 0);
    sqlite3_reset(s);
    return status;
}

/* COMMIT. With a rollback journal it can fail after the point of no return: the journal is gone,
 * and only the sync of its end failed. Then the number in the file tells. In WAL mode a commit is
 * one write, and a failed one is void by its checksum. */
static bt_status commit_run(bt_ledger *l, bt_err *err)
{
    bool count = !l->wal && sqlite3_total_changes64(l->db) != l->changes_before;
    bt_status status = BT_OK;
    int64_t commits = 0;
    if (count) status = bt__ledger_do(l, SQL_COMMITS_ADD, NULL, 0, err);
    if (status == BT_OK) status = bt__ledger_do(l, SQL_COMMIT, NULL, 0, err);
    if (status != BT_OK) bt_ledger_rollback(l);
    if (status != BT_OK && count && bt__ledger_commits(l, &commits, NULL) == BT_OK &&
        commits == l->commits + 1)
        status = BT_OK;
    if (status == BT_OK) l->commits += count;
    return status;
}

bt_status bt_ledger_commit(bt_ledger *l, bt_err *err)
{
    BT_ASSERT(l->batch);
    bt_status status = l->broken.code;
    if (status != BT_OK) {
        if (err) *err = l->broken;
        bt_ledger_rollback(l);
        return status;
    }
    if ((status = commit_run(l, err)) != BT_OK) return status;
    l->batch = false;
    l->unsynced = l->wal;
    /* The commit stands whatever the sync says: a failed one is tried again, and told by
     * bt_ledger_sync to the thread that asks. */
    int64_t since_us = l->wall_us - l->synced_wall_us;
    if (since_us >= 1000000 || since_us < 0) {
        l->synced_wall_us = l->wall_us;
        bt_ledger_sync(l, NULL);
    }
    return BT_OK;
}

bt_status bt_ledger_sync(bt_ledger *l, bt_err *err)
{
    BT_ASSERT(!l->batch);
    if (!l->unsynced) return BT_OK;
    int rc = sqlite3_wal_checkpoint_v2(l->db, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if (rc != SQLITE_OK) return bt__ledger_fail(l, err);
    l->unsynced = false;
    return BT_OK;
}

bt_status bt__ledger_enter(bt_ledger *l, bool *own, bt_err *err)
{
    *own = !l->batch;
    if (*own) return bt_ledger_begin(l, err);
    if (l->broken.code != BT_OK && err) *err = l->broken;
    return l->broken.code;
}

bt_status bt__ledger_leave(bt_ledger *l, bool own, bt_status status, bt_err *err)
{
    if (!own) return status;
    if (status == BT_OK) return bt_ledger_commit(l, err);
    bt_ledger_rollback(l);
    return status;
}

bt_status bt__ledger_time(bt_ledger *l, int64_t *wall_us, bt_err *err)
{
    int64_t wall = *wall_us, step = wall - l->wall_us;
    if (wall <= 0 || wall > INT64_MAX / 2)
        return bt_err_set(err, BT_EINVAL, 0, "the clock says %lld us, which is no time",
                          (long long)wall);
    bool behind = l->wall_us != 0 && l->wall_us < l->now_us;
    if (behind && step > 0 && step <= LEDGER_STEP_US) l->now_us += step;
    l->now_us = BT_MAX(l->now_us, wall);
    l->wall_us = wall;
    *wall_us = l->now_us;
    return BT_OK;
}

bt_status bt_ledger_open(const char *dir, bt_ledger **out, bt_err *err)
{
    bt_status status = BT_ENOMEM;
    char path[4096];
    if (snprintf(path, sizeof path, "%s/ledger.db", dir) >= (int)sizeof path - 8)
        return bt_err_set(err, BT_EINVAL, 0, "the path of the data directory is too long");
    bt_ledger *l = bt_calloc(1, sizeof *l);
    if (l) {
        l->lock_fd = l->path_fd = -1;
        l->price = 1;
        l->dir = bt_strdup(dir);
        l->path = bt_strdup(path);
    }
    if (!l || !l->dir || !l->path)
        bt_err_set(err, BT_ENOMEM, 0, "out of memory while opening the ledger");
    else if ((status = bt__ledger_lock(l, err)) == BT_OK)
        status = bt__ledger_open_db(l, err);
    if (status == BT_OK)
        *out = l;
    else
        bt_ledger_close(l);
    return status;
}

void bt_ledger_close(bt_ledger *l)
{
    if (!l) return;
    bt_ledger_rollback(l);
    for (int i = 0; i < SQL_COUNT; i++) sqlite3_finalize(l->stmt[i]);
    if (l->db) BT_ASSERT(sqlite3_close(l->db) == SQLITE_OK);
    if (l->path_fd >= 0) close(l->path_fd);
    if (l->lock_fd >= 0) close(l->lock_fd);
    bt_free(l->path);
    bt_free(l->dir);
    bt_free(l);
}

void bt_ledger_set_price(bt_ledger *l, double price)
{
    BT_ASSERT(isfinite(price) && price >= 0);
    l->price = price;
}

/* Accounts and their windows. */

void bt__ledger_account_row(sqlite3_stmt *stmt, ledger_account *out)
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

/* ?1 of the statement is bound; an account that is not there has id 0. */
static bt_status account_take(bt_ledger *l, sqlite3_stmt *stmt, ledger_account *out, bt_err *err)
{
    bt_status status = BT_OK;
    int row = bt__ledger_row(l, stmt, &status, err);
    if (row == 1) bt__ledger_account_row(stmt, out);
    if (row == 0) *out = (ledger_account){.override_us = -1};
    sqlite3_reset(stmt);
    return status;
}

static bt_status account_by_id(bt_ledger *l, int64_t id, ledger_account *out, bt_err *err)
{
    return account_take(l, bt__ledger_sql(l, SQL_ACCOUNT_BY_ID, LEDGER_VALUES(id)), out, err);
}

static bool account_bind(bt_ledger *l, ledger_sql which, const char *name, sqlite3_stmt **out)
{
    size_t n = strlen(name);
    *out = bt__ledger_sql(l, which, NULL, 0);
    return n > 0 && n <= LEDGER_ACCOUNT_MAX &&
           sqlite3_bind_text(*out, 1, name, (int)n, SQLITE_TRANSIENT) == SQLITE_OK;
}

bt_status bt__ledger_account(bt_ledger *l, const char *name, ledger_account *out, bt_err *err)
{
    sqlite3_stmt *stmt;
    size_t n = strlen(name);
    if (n == 0 || n > LEDGER_ACCOUNT_MAX)
        return bt_err_set(err, BT_EINVAL, 0, "an account's name has 1 to %d bytes",
                          LEDGER_ACCOUNT_MAX);
    if (!account_bind(l, SQL_ACCOUNT_BY_NAME, name, &stmt)) return bt__ledger_fail(l, err);
    return account_take(l, stmt, out, err);
}

bt_status bt__ledger_account_need(bt_ledger *l, const char *name, ledger_account *out, bt_err *err)
{
    sqlite3_stmt *stmt;
    bt_status status = bt__ledger_account(l, name, out, err);
    if (status != BT_OK || out->id != 0) return status;
    if (!account_bind(l, SQL_ACCOUNT_ADD, name, &stmt)) return bt__ledger_fail(l, err);
    bt__ledger_row(l, stmt, &status, err);
    sqlite3_reset(stmt);
    if (status == BT_OK) out->id = sqlite3_last_insert_rowid(l->db);
    return status;
}

bool bt__ledger_window_open(const ledger_account *a, int64_t now_us)
{
    return a->window != 0 && now_us < a->start_us + LEDGER_DAY_US;
}

bt_status bt__ledger_window_need(bt_ledger *l, ledger_account *a, int64_t wall_us, bt_err *err)
{
    if (bt__ledger_window_open(a, wall_us)) return BT_OK;
    bt_status status = bt__ledger_do(l, SQL_WINDOW_ADD, LEDGER_VALUES(a->id, wall_us), err);
    if (status != BT_OK) return status;
    a->window = sqlite3_last_insert_rowid(l->db);
    a->start_us = wall_us;
    a->used_us = a->held_us = 0;
    return bt__ledger_do(l, SQL_ACCOUNT_SET_WINDOW, LEDGER_VALUES(a->id, a->window), err);
}

/* People are told by the clock that they see. */
void bt__ledger_balance(const bt_ledger *l, const ledger_account *a, int64_t limit_us,
                        bt_ledger_balance *out)
{
    bt_ledger_balance b = {.limit_us = a->override_us >= 0 ? a->override_us : limit_us};
    if (bt__ledger_window_open(a, l->now_us)) {
        b.used_us = a->used_us;
        b.held_us = a->held_us;
        b.window_started_us = a->start_us - (l->now_us - l->wall_us);
        b.resets_us = b.window_started_us + LEDGER_DAY_US;
    }
    b.remaining_us = BT_MAX(0, b.limit_us - b.used_us - b.held_us);
    *out = b;
}

bt_status bt__ledger_append(bt_ledger *l, const ledger_entry *e, int64_t wall_us, bt_err *err)
{
    bt_status status = bt__ledger_do(l, SQL_ENTRY_ADD,
                                     LEDGER_VALUES(wall_us, e->kind, e->account, e->request,
                                                   e->device_us, e->charged_us, e->window, e->boot),
                                     err);
    if (status != BT_OK) return status;
    return bt__ledger_do(l, SQL_SUM_ADD, LEDGER_VALUES(e->kind, e->device_us, e->charged_us), err);
}

/* The operations. */

typedef struct hold_row {
    int64_t account, window, boot, amount_us;
    int64_t used_us, held_us;     // of its window
    int64_t override_us, tier_us; // of its account
} hold_row;

/* *found false: the request has no open hold. */
static bt_status hold_get(bt_ledger *l, uint64_t request, hold_row *out, bool *found, bt_err *err)
{
    bt_status status = BT_OK;
    sqlite3_stmt *s = bt__ledger_sql(l, SQL_HOLD_GET, LEDGER_VALUES((int64_t)request));
    int row = bt__ledger_row(l, s, &status, err);
    *found = row == 1;
    if (row == 1)
        *out = (hold_row){
            .account = sqlite3_column_int64(s, 0),
            .window = sqlite3_column_int64(s, 1),
            .boot = sqlite3_column_int64(s, 2),
            .amount_us = sqlite3_column_int64(s, 3),
            .used_us = sqlite3_column_int64(s, 4),
            .held_us = sqlite3_column_int64(s, 5),
            .override_us = sqlite3_column_int64(s, 6),
            .tier_us = sqlite3_column_int64(s, 7),
        };
    sqlite3_reset(s);
    return status;
}

/* *found false: the request has neither been posted nor voided. */
static bt_status ended_get(bt_ledger *l, uint64_t request, int64_t *account, int64_t *device_us,
                           bool *found, bt_err *err)
{
    bt_status status = BT_OK;
    sqlite3_stmt *s = bt__ledger_sql(l, SQL_ENTRY_OF_REQUEST, LEDGER_VALUES((int64_t)request));
    *found = bt__ledger_row(l, s, &status, err) == 1;
    if (*found) {
        *account = sqlite3_column_int64(s, 0);
        *device_us = sqlite3_column_int64(s, 1);
    }
    sqlite3_reset(s);
    return status;
}

static bt_status hold_refuse(const bt_ledger_balance *b, bt_err *err)
{
    char when[24];
    if (b->window_started_us == 0)
        return bt_err_set(err, BT_EQUOTA, 0, "this account has no device-time quota");
    if (b->used_us < b->limit_us)
        return bt_err_set(err, BT_EQUOTA, 0,
                          "what is left of the device-time quota (%.1f s) is held by this "
                          "account's other requests; wait for one of them to end",
                          (double)(b->limit_us - b->used_us) * 1e-6);
    return bt_err_set(err, BT_EQUOTA, 0,
                      "the device-time quota of %.1f s is used up; it resets at %s",
                      (double)b->limit_us * 1e-6, bt_rfc3339(b->resets_us, when));
}

typedef struct hold_args {
    const char *account;
    uint64_t boot, request;
    int64_t limit_us, want_us, wall_us;
} hold_args;

static bt_status hold_make(bt_ledger *l, const hold_args *h, int64_t *held_us, bool *final,
                           bt_ledger_balance *balance, bt_err *err)
{
    ledger_account a;
    hold_row row;
    bool held = false, ended = false;
    int64_t unused;
    bt_status status;
    if ((status = bt__ledger_account(l, h->account, &a, err)) != BT_OK) return status;
    if ((status = hold_get(l, h->request, &row, &held, err)) != BT_OK) return status;
    if ((status = ended_get(l, h->request, &unused, &unused, &ended, err)) != BT_OK) return status;
    if (held || ended)
        return bt_err_set(err, BT_EINVAL, 0, "request %llu %s", (unsigned long long)h->request,
                          held ? "holds quota already" : "has ended");
    bt__ledger_balance(l, &a, h->limit_us, balance);
    if (balance->remaining_us == 0) return hold_refuse(balance, err);

    if ((status = bt__ledger_account_need(l, h->account, &a, err)) != BT_OK) return status;
    if ((status = bt__ledger_window_need(l, &a, h->wall_us, err)) != BT_OK) return status;
    if (a.tier_us != h->limit_us) {
        status = bt__ledger_do(l, SQL_ACCOUNT_SET_TIER, LEDGER_VALUES(a.id, h->limit_us), err);
        if (status != BT_OK) return status;
    }
    int64_t amount = BT_MIN(h->want_us, balance->remaining_us);
    status = bt__ledger_do(
        l, SQL_HOLD_ADD,
        LEDGER_VALUES((int64_t)h->request, a.id, a.window, (int64_t)h->boot, amount, h->wall_us),
        err);
    if (status != BT_OK) return status;
    a.held_us += amount;
    *held_us = amount;
    bt__ledger_balance(l, &a, h->limit_us, balance);
    *final = balance->remaining_us == 0;
    return bt__ledger_do(l, SQL_WINDOW_CHANGE, LEDGER_VALUES(a.window, 0, amount), err);
}

bt_status bt_ledger_hold(bt_ledger *l, uint64_t boot, const char *account, uint64_t request,
                         int64_t limit_us, int64_t want_us, int64_t wall_us, int64_t *held_us,
                         bool *final, bt_ledger_balance *balance, bt_err *err)
{
    hold_args h = {account,
                   boot,
                   request,
                   BT_MIN(limit_us, BT_QUOTA_UNLIMITED),
                   BT_MIN(want_us, LEDGER_AMOUNT_MAX),
                   wall_us};
    int64_t held = 0;
    bool last = false, own;
    bt_ledger_balance b = {0};
    bt_status status = bt__ledger_time(l, &h.wall_us, err);
    if (status != BT_OK) return status;
    if (request == 0 || limit_us < 0 || want_us < 0)
        return bt_err_set(err, BT_EINVAL, 0,
                          "a hold needs a request id, a limit and an amount that are not negative");
    if ((status = bt__ledger_enter(l, &own, err)) != BT_OK) return status;
    status = hold_make(l, &h, &held, &last, &b, err);
    status = bt__ledger_leave(l, own, status, err);
    if ((status == BT_OK || status == BT_EQUOTA) && balance) *balance = b;
    if (status != BT_OK) return status;
    *held_us = held;
    *final = last;
    return BT_OK;
}

static bt_status hold_raise(bt_ledger *l, uint64_t request, int64_t want_total_us, int64_t *held_us,
                            bool *final, bt_err *err)
{
    hold_row h;
    bool found = false;
    bt_status status = hold_get(l, request, &h, &found, err);
    if (status != BT_OK) return status;
    if (!found)
        return bt_err_set(err, BT_ENOTFOUND, 0, "request %llu holds no quota",
                          (unsigned long long)request);
    int64_t limit = h.override_us >= 0 ? h.override_us : h.tier_us;
    int64_t left = BT_MAX(0, limit - h.used_us - h.held_us);
    int64_t extra = BT_MAX(0, BT_MIN(want_total_us - h.amount_us, left));
    *held_us = h.amount_us + extra;
    *final = left - extra == 0;
    if (extra == 0) return BT_OK;
    status = bt__ledger_do(l, SQL_HOLD_SET, LEDGER_VALUES((int64_t)request, *held_us), err);
    if (status != BT_OK) return status;
    return bt__ledger_do(l, SQL_WINDOW_CHANGE, LEDGER_VALUES(h.window, 0, extra), err);
}

bt_status bt_ledger_top_up(bt_ledger *l, uint64_t request, int64_t want_total_us, int64_t wall_us,
                           int64_t *held_us, bool *final, bt_err *err)
{
    int64_t held = 0;
    bool last = false, own;
    bt_status status = bt__ledger_time(l, &wall_us, err);
    if (status != BT_OK) return status;
    if ((status = bt__ledger_enter(l, &own, err)) != BT_OK) return status;
    status = hold_raise(l, request, BT_MIN(want_total_us, LEDGER_AMOUNT_MAX), &held, &last, err);
    status = bt__ledger_leave(l, own, status, err);
    if (status != BT_OK) return status;
    *held_us = held;
    *final = last;
    return BT_OK;
}

bt_status bt__ledger_end(bt_ledger *l, ledger_kind kind, uint64_t request, int64_t device_us,
                         int64_t charged_us, int64_t wall_us, ledger_end *out, bt_err *err)
{
    hold_row h;
    bool found = false;
    bt_status status = hold_get(l, request, &h, &found, err);
    if (status != BT_OK) return status;
    if (!found) {
        out->end = END_UNKNOWN;
        status = ended_get(l, request, &out->account, &out->device_us, &found, err);
        if (status == BT_OK && found) out->end = END_BEFORE;
        return status;
    }
    ledger_entry e = {kind, h.account, (int64_t)request, device_us, charged_us, h.window, h.boot};
    *out = (ledger_end){END_NOW, h.account, device_us};
    if ((status = bt__ledger_append(l, &e, wall_us, err)) != BT_OK) return status;
    if ((status = bt__ledger_do(l, SQL_HOLD_DROP, LEDGER_VALUES((int64_t)request), err)) != BT_OK)
        return status;
    return bt__ledger_do(l, SQL_WINDOW_CHANGE, LEDGER_VALUES(h.window, charged_us, -h.amount_us),
                         err);
}

static bt_status end_request(bt_ledger *l, ledger_kind kind, uint64_t request, int64_t device_us,
                             int64_t charged_us, int64_t wall_us, bt_ledger_balance *balance,
                             bt_err *err)
{
    ledger_end end;
    ledger_account a;
    bt_ledger_balance b = {0};
    bool own;
    bt_status status = bt__ledger_time(l, &wall_us, err);
    if (status != BT_OK) return status;
    if (device_us < 0 || charged_us < 0 || device_us > LEDGER_AMOUNT_MAX ||
        charged_us > LEDGER_AMOUNT_MAX)
        return bt_err_set(err, BT_EINVAL, 0, "%lld us of device time cannot be posted",
                          (long long)device_us);
    if ((status = bt__ledger_enter(l, &own, err)) != BT_OK) return status;
    status = bt__ledger_end(l, kind, request, device_us, charged_us, wall_us, &end, err);
    if (status == BT_OK && end.end == END_UNKNOWN)
        status = bt_err_set(err, BT_ENOTFOUND, 0, "request %llu never held quota",
                            (unsigned long long)request);
    if (status == BT_OK && balance) {
        status = account_by_id(l, end.account, &a, err);
        if (status == BT_OK) bt__ledger_balance(l, &a, a.tier_us, &b);
    }
    status = bt__ledger_leave(l, own, status, err);
    if (status == BT_OK && balance) *balance = b;
    return status;
}

bt_status bt_ledger_post(bt_ledger *l, uint64_t request, int64_t device_us, int64_t charged_us,
                         int64_t wall_us, bt_ledger_balance *balance, bt_err *err)
{
    return end_request(l, KIND_POST, request, device_us, charged_us, wall_us, balance, err);
}

bt_status bt_ledger_void(bt_ledger *l, uint64_t request, int64_t wall_us,
                         bt_ledger_balance *balance, bt_err *err)
{
    return end_request(l, KIND_VOID, request, 0, 0, wall_us, balance, err);
}

bt_status bt__ledger_engine(bt_ledger *l, uint64_t boot, int64_t busy_us, int64_t house_us,
                            int64_t wall_us, bt_err *err)
{
    int64_t busy = 0, house = 0;
    bt_status status = BT_OK;
    sqlite3_stmt *s = bt__ledger_sql(l, SQL_BOOT_GET, LEDGER_VALUES((int64_t)boot));
    if (bt__ledger_row(l, s, &status, err) == 1) {
        busy = sqlite3_column_int64(s, 0);
        house = sqlite3_column_int64(s, 1);
    }
    sqlite3_reset(s);
    if (status != BT_OK || (busy_us <= busy && house_us <= house)) return status;
    ledger_entry e = {.kind = KIND_BUSY, .device_us = busy_us - busy, .boot = (int64_t)boot};
    if (busy_us > busy) {
        if ((status = bt__ledger_append(l, &e, wall_us, err)) != BT_OK) return status;
        busy = busy_us;
    }
    if (house_us > house) {
        e.kind = KIND_HOUSE;
        e.device_us = house_us - house;
        if ((status = bt__ledger_append(l, &e, wall_us, err)) != BT_OK) return status;
        house = house_us;
    }
    return bt__ledger_do(l, SQL_BOOT_SET, LEDGER_VALUES((int64_t)boot, busy, house), err);
}

bt_status bt_ledger_engine(bt_ledger *l, uint64_t engine_boot, int64_t busy_us, int64_t house_us,
                           int64_t wall_us, bt_err *err)
{
    bool own;
    bt_status status = bt__ledger_time(l, &wall_us, err);
    if (status != BT_OK) return status;
    if (busy_us < 0 || house_us < 0 || busy_us > LEDGER_AMOUNT_MAX || house_us > LEDGER_AMOUNT_MAX)
        return bt_err_set(err, BT_EINVAL, 0, "%lld us of busy time cannot be booked",
                          (long long)busy_us);
    if ((status = bt__ledger_enter(l, &own, err)) != BT_OK) return status;
    status = bt__ledger_engine(l, engine_boot, busy_us, house_us, wall_us, err);
    return bt__ledger_leave(l, own, status, err);
}

bt_status bt_ledger_read(bt_ledger *l, const char *account, int64_t limit_us, int64_t wall_us,
                         bt_ledger_balance *out, bt_err *err)
{
    ledger_account a;
    bt_status status = bt__ledger_time(l, &wall_us, err);
    if (status == BT_OK) status = bt__ledger_account(l, account, &a, err);
    if (status == BT_OK)
        bt__ledger_balance(l, &a, BT_MAX(0, BT_MIN(limit_us, BT_QUOTA_UNLIMITED)), out);
    return status;
}
