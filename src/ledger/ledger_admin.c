/* SPDX-License-Identifier: Apache-2.0 */
/* ledger_admin.c - what an owner does with the books: limits, totals, check, folding. */
#include "base/assert.h"
#include "ledger/ledger_impl.h"
#include <stdio.h>

bt_status bt_ledger_set_limit(bt_ledger *l, const char *account, int64_t limit_us, int64_t wall_us,
                              bt_err *err)
{
    ledger_account a;
    bool own;
    bt_status status = bt__ledger_time(l, &wall_us, err);
    if (status != BT_OK) return status;
    if (limit_us < -1 || limit_us > INT64_MAX / 4)
        return bt_err_set(err, BT_EINVAL, 0, "a limit is 0 or more, or -1 for the tier's");
    if ((status = bt__ledger_enter(l, &own, err)) != BT_OK) return status;
    status = bt__ledger_account_need(l, account, &a, err);
    if (status == BT_OK)
        status = bt__ledger_do(l, SQL_ACCOUNT_SET_OVERRIDE, LEDGER_VALUES(a.id, limit_us), err);
    return bt__ledger_leave(l, own, status, err);
}

/* An adjustment of the account's current window, as an entry and in the window. */
static bt_status account_adjust(bt_ledger *l, const ledger_account *a, int64_t charged_us,
                                int64_t wall_us, bt_err *err)
{
    ledger_entry e = {
        .kind = KIND_ADJUST, .account = a->id, .charged_us = charged_us, .window = a->window};
    bt_status status = bt__ledger_append(l, &e, wall_us, err);
    if (status != BT_OK) return status;
    return bt__ledger_do(l, SQL_WINDOW_CHANGE, LEDGER_VALUES(a->window, charged_us, 0), err);
}

bt_status bt_ledger_reset(bt_ledger *l, const char *account, int64_t wall_us, bt_err *err)
{
    ledger_account a;
    bool own;
    bt_status status = bt__ledger_time(l, &wall_us, err);
    if (status != BT_OK) return status;
    if ((status = bt__ledger_enter(l, &own, err)) != BT_OK) return status;
    status = bt__ledger_account(l, account, &a, err);
    if (status == BT_OK && a.id == 0)
        status =
            bt_err_set(err, BT_ENOTFOUND, 0, "there is no account '%.100s' in the ledger", account);
    /* The window stays in the books; the account only leaves it. Open holds remain part of it. The
     * entry of nothing tells a reader of the books when. */
    if (status == BT_OK && a.window != 0) {
        status = account_adjust(l, &a, 0, wall_us, err);
        if (status == BT_OK)
            status = bt__ledger_do(l, SQL_ACCOUNT_SET_WINDOW, LEDGER_VALUES(a.id, 0), err);
    }
    return bt__ledger_leave(l, own, status, err);
}

bt_status bt_ledger_accounts(bt_ledger *l, int64_t wall_us, bt_ledger_account_fn fn, void *ud,
                             bt_err *err)
{
    bt_status status = bt__ledger_time(l, &wall_us, err);
    if (status != BT_OK) return status;
    sqlite3_stmt *s = bt__ledger_sql(l, SQL_ACCOUNTS, NULL, 0);
    while (bt__ledger_row(l, s, &status, err) == 1) {
        ledger_account a;
        bt_ledger_balance b;
        const char *name = (const char *)sqlite3_column_text(s, 7);
        if (!name) {
            status = bt_err_set(err, BT_ENOMEM, 0, "out of memory in the ledger");
            break;
        }
        bt__ledger_account_row(s, &a);
        bt__ledger_balance(l, &a, a.tier_us, &b);
        fn(ud, name, a.override_us, &b);
    }
    sqlite3_reset(s);
    return status;
}

bt_status bt_ledger_totals_read(bt_ledger *l, bt_ledger_totals *out, bt_err *err)
{
    bt_ledger_totals t = {0};
    bt_status status = BT_OK;
    sqlite3_stmt *s = bt__ledger_sql(l, SQL_SUMS, NULL, 0);
    while (bt__ledger_row(l, s, &status, err) == 1) {
        int64_t device_us = sqlite3_column_int64(s, 1);
        switch (sqlite3_column_int64(s, 0)) {
        case KIND_POST:
            t.accounts_us = device_us;
            t.charged_us = sqlite3_column_int64(s, 2);
            break;
        case KIND_HOUSE: t.house_us = device_us; break;
        case KIND_BUSY: t.busy_us = device_us; break;
        default: break;
        }
    }
    sqlite3_reset(s);
    if (status != BT_OK) return status;
    s = bt__ledger_sql(l, SQL_HOLDS_COUNT, NULL, 0);
    if (bt__ledger_row(l, s, &status, err) == 1) t.holds_open = sqlite3_column_int64(s, 0);
    sqlite3_reset(s);
    if (status == BT_OK) *out = t;
    return status;
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

bt_status bt_ledger_check(bt_ledger *l, bt_err *err)
{
    for (size_t i = 0; i < BT_COUNT(book_check); i++) {
        sqlite3_stmt *stmt = NULL;
        bt_status status = BT_OK;
        int64_t wrong = 0;
        if (sqlite3_prepare_v2(l->db, book_check[i].sql, -1, &stmt, NULL) != SQLITE_OK)
            return bt__ledger_fail(l, err);
        if (bt__ledger_row(l, stmt, &status, err) == 1) wrong = sqlite3_column_int64(stmt, 0);
        sqlite3_finalize(stmt);
        if (status != BT_OK) return status;
        if (wrong != 0)
            return bt_err_set(err, BT_EFORMAT, 0, "%s does not balance: %s (%lld rows)", l->path,
                              book_check[i].what, (long long)wrong);
    }
    return BT_OK;
}

/* %lld: a window that started at or before this has ended by older_than_us; older_than_us itself.
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

static bt_status ledger_exec(bt_ledger *l, const char *sql, bt_err *err)
{
    return sqlite3_exec(l->db, sql, NULL, NULL, NULL) == SQLITE_OK ? BT_OK
                                                                   : bt__ledger_fail(l, err);
}

bt_status bt_ledger_compact(bt_ledger *l, int64_t older_than_us, int64_t *folded, bt_err *err)
{
    char sql[sizeof fold_sql + 64];
    bool own;
    int64_t gone = 0;
    if (l->wall_us != 0) older_than_us += l->now_us - l->wall_us; // from the clock's to ledger time
    int n = snprintf(sql, sizeof sql, fold_sql, (long long)(older_than_us - LEDGER_DAY_US),
                     (long long)older_than_us, (long long)older_than_us);
    BT_ASSERT(n > 0 && n < (int)sizeof sql);
    BT_ASSERT(!l->batch);
    bt_status status = bt__ledger_enter(l, &own, err);
    if (status != BT_OK) return status;
    status = ledger_exec(l, sql, err);
    /* The deletion was the last statement so far that changed rows. */
    if (status == BT_OK) gone = sqlite3_changes64(l->db);
    if (status == BT_OK) status = ledger_exec(l, fold_end_sql, err);
    status = bt__ledger_leave(l, own, status, err);
    if (status == BT_OK && folded) *folded = gone;
    return status;
}
