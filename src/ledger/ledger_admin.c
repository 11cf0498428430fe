/* SPDX-License-Identifier: Apache-2.0 */
/* ledger_admin.c - what an owner does with the books: limits, totals, check, folding. */
#include "base/assert.h"
#include "ledger/ledger_impl.h"

bt_status bt_ledger_set_limit(bt_ledger *l, const char *account, int64_t limit_us, int64_t wall_us,
                              bt_err *err)
{
    ledger_account a;
    bool own;
    bt_status st = bt__ledger_time(l, wall_us, err);
    if (st != BT_OK) return st;
    if (limit_us < -1 || limit_us > INT64_MAX / 4)
        return bt_err_set(err, BT_EINVAL, 0, "a limit is 0 or more, or -1 for the tier's");
    if ((st = bt__ledger_enter(l, &own, err)) != BT_OK) return st;
    st = bt__ledger_account_need(l->store, account, &a, err);
    a.override_us = limit_us;
    if (st == BT_OK) st = l->store->op->account_set(l->store, &a, err);
    return bt__ledger_leave(l, own, st, err);
}

bt_status bt_ledger_reset(bt_ledger *l, const char *account, int64_t wall_us, bt_err *err)
{
    ledger_account a;
    bool own;
    bt_status st = bt__ledger_time(l, wall_us, err);
    if (st != BT_OK) return st;
    if ((st = bt__ledger_enter(l, &own, err)) != BT_OK) return st;
    st = bt__ledger_account(l->store, account, &a, err);
    if (st == BT_OK && a.id == 0)
        st =
            bt_err_set(err, BT_ENOTFOUND, 0, "there is no account '%.100s' in the ledger", account);
    /* The window stays in the books; the account only leaves it. Open holds remain part of it. The
     * entry of nothing tells a reader of the books when. */
    if (st == BT_OK && a.window != 0) {
        ledger_entry e = {.kind = KIND_ADJUST, .account = a.id, .window = a.window};
        st = l->store->op->entry_add(l->store, &e, err);
        a.window = 0;
        if (st == BT_OK) st = l->store->op->account_set(l->store, &a, err);
    }
    return bt__ledger_leave(l, own, st, err);
}

typedef struct accounts_call {
    const ledger_store *s;
    bt_ledger_account_fn fn;
    void *ud;
} accounts_call;

static void accounts_each(void *ud, const ledger_account *a)
{
    const accounts_call *c = ud;
    bt_ledger_balance b;
    bt__ledger_balance(c->s, a, a->tier_us, &b);
    c->fn(c->ud, a->name, a->override_us, &b);
}

bt_status bt_ledger_accounts(bt_ledger *l, int64_t wall_us, bt_ledger_account_fn fn, void *ud,
                             bt_err *err)
{
    accounts_call c = {l->store, fn, ud};
    bt_status st = bt__ledger_time(l, wall_us, err);
    return st == BT_OK ? l->store->op->accounts(l->store, accounts_each, &c, err) : st;
}

bt_status bt_ledger_totals_read(bt_ledger *l, bt_ledger_totals *out, bt_err *err)
{
    return l->store->op->totals(l->store, out, err);
}

bt_status bt_ledger_check(bt_ledger *l, bt_err *err)
{
    return l->store->op->check(l->store, err);
}

bt_status bt_ledger_compact(bt_ledger *l, int64_t older_than_us, int64_t *folded, bt_err *err)
{
    ledger_store *s = l->store;
    bool own;
    int64_t gone = 0;
    if (s->wall_us != 0) older_than_us += s->now_us - s->wall_us; // from the clock's to ledger time
    BT_ASSERT(!s->batch);
    bt_status st = bt__ledger_enter(l, &own, err);
    if (st != BT_OK) return st;
    st = s->op->fold(s, older_than_us - LEDGER_DAY_US, older_than_us, &gone, err);
    st = bt__ledger_leave(l, own, st, err);
    if (st == BT_OK && folded) *folded = gone;
    return st;
}
