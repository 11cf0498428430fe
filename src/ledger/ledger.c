/* SPDX-License-Identifier: Apache-2.0 */
/* ledger.c - holds, posts and voids.
 *
 * Nothing is cached between calls: the rows are the state, so a rollback needs no undoing here. A
 * call checks all it can refuse before its first write; after that only the store can fail, and
 * then the whole transaction goes. */
#include "ledger/ledger.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "ledger/ledger_impl.h"
#include "quota/tiers.h"
#include <math.h>
#include <string.h>
#include <unistd.h>

bt_status bt_ledger_begin(bt_ledger *l, bt_err *err)
{
    ledger_store *s = l->store;
    BT_ASSERT(!s->batch);
    bt_status st = s->op->begin(s, err);
    if (st != BT_OK) return st;
    s->batch = true;
    s->broken.code = BT_OK;
    return BT_OK;
}

void bt_ledger_rollback(bt_ledger *l)
{
    ledger_store *s = l->store;
    if (!s->batch) return;
    s->op->rollback(s);
    s->batch = false;
}

bt_status bt_ledger_commit(bt_ledger *l, bt_err *err)
{
    ledger_store *s = l->store;
    BT_ASSERT(s->batch);
    bt_status st = s->broken.code;
    if (st != BT_OK) {
        if (err) *err = s->broken;
        bt_ledger_rollback(l);
        return st;
    }
    st = s->op->commit(s, err);
    s->batch = false;
    return st;
}

bt_status bt_ledger_sync(bt_ledger *l, bt_err *err)
{
    return l->store->op->sync(l->store, err);
}

bt_status bt_ledger_tidy(bt_ledger *l, bt_err *err)
{
    BT_ASSERT(!l->store->batch);
    return l->store->op->tidy(l->store, err);
}

bt_status bt_ledger_probe(bt_ledger *l, bt_err *err)
{
    BT_ASSERT(!l->store->batch);
    return l->store->op->probe(l->store, err);
}

bt_status bt__ledger_enter(bt_ledger *l, bool *own, bt_err *err)
{
    *own = !l->store->batch;
    if (*own) return bt_ledger_begin(l, err);
    if (l->store->broken.code != BT_OK && err) *err = l->store->broken;
    return l->store->broken.code;
}

bt_status bt__ledger_leave(bt_ledger *l, bool own, bt_status st, bt_err *err)
{
    if (!own) return st;
    if (st == BT_OK) return bt_ledger_commit(l, err);
    bt_ledger_rollback(l);
    return st;
}

bt_status bt__ledger_time(bt_ledger *l, int64_t wall_us, bt_err *err)
{
    if (wall_us <= 0 || wall_us > INT64_MAX / 2)
        return bt_err_set(err, BT_EINVAL, 0, "the clock says %lld us, which is no time",
                          (long long)wall_us);
    l->store->op->clock(l->store, wall_us);
    l->store->wall_us = wall_us;
    return BT_OK;
}

bt_status bt_ledger_open(const char *dir, bt_ledger **out, bt_err *err)
{
    bt_status st = BT_ENOMEM;
    bt_ledger *l = bt_calloc(1, sizeof *l);
    if (l) {
        l->lock_fd = l->path_fd = -1;
        l->price = 1;
        l->dir = bt_strdup(dir);
    }
    if (!l || !l->dir)
        bt_err_set(err, BT_ENOMEM, 0, "out of memory while opening the ledger");
    else if ((st = bt__ledger_lock(l, err)) == BT_OK)
        st = bt__store_sqlite.open(l->dir, &l->store, err);
    if (st == BT_OK)
        *out = l;
    else
        bt_ledger_close(l);
    return st;
}

void bt_ledger_close(bt_ledger *l)
{
    if (!l) return;
    if (l->store) {
        bt_ledger_rollback(l);
        l->store->op->close(l->store);
    }
    if (l->path_fd >= 0) close(l->path_fd);
    if (l->lock_fd >= 0) close(l->lock_fd);
    bt_free(l->dir);
    bt_free(l);
}

void bt_ledger_set_price(bt_ledger *l, double price)
{
    BT_ASSERT(isfinite(price) && price >= 0);
    l->price = price;
}

bt_status bt__ledger_account(ledger_store *s, const char *name, ledger_account *out, bt_err *err)
{
    size_t n = strlen(name);
    if (n == 0 || n > LEDGER_ACCOUNT_MAX)
        return bt_err_set(err, BT_EINVAL, 0, "an account's name has 1 to %d bytes",
                          LEDGER_ACCOUNT_MAX);
    return s->op->account_by_name(s, name, out, err);
}

bt_status bt__ledger_account_need(ledger_store *s, const char *name, ledger_account *out,
                                  bt_err *err)
{
    bt_status st = bt__ledger_account(s, name, out, err);
    return st != BT_OK || out->id != 0 ? st : s->op->account_add(s, name, out, err);
}

static bool window_is_open(const ledger_store *s, const ledger_account *a)
{
    return a->window != 0 && s->now_us < a->start_us + LEDGER_DAY_US;
}

/* People are told by the clock that they see. */
void bt__ledger_balance(const ledger_store *s, const ledger_account *a, int64_t limit_us,
                        bt_ledger_balance *out)
{
    bt_ledger_balance b = {.limit_us = a->override_us >= 0 ? a->override_us : limit_us};
    if (window_is_open(s, a)) {
        b.used_us = a->used_us;
        b.held_us = a->held_us;
        b.window_started_us = a->start_us - (s->now_us - s->wall_us);
        b.resets_us = b.window_started_us + LEDGER_DAY_US;
    }
    b.remaining_us = BT_MAX(0, b.limit_us - b.used_us - b.held_us);
    *out = b;
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
    int64_t limit_us, want_us;
} hold_args;

static bt_status hold_make(ledger_store *s, const hold_args *h, int64_t *held_us, bool *final,
                           bt_ledger_balance *balance, bt_err *err)
{
    ledger_account a;
    ledger_hold row;
    bool held = false, ended = false;
    int64_t unused;
    bt_status st;
    if ((st = bt__ledger_account(s, h->account, &a, err)) != BT_OK) return st;
    if ((st = s->op->hold_get(s, h->request, &row, &held, err)) != BT_OK) return st;
    st = s->op->entry_get(s, h->request, &unused, &unused, &ended, err);
    if (st != BT_OK) return st;
    if (held || ended)
        return bt_err_set(err, BT_EINVAL, 0, "request %llu %s", (unsigned long long)h->request,
                          held ? "holds quota already" : "has ended");
    bt__ledger_balance(s, &a, h->limit_us, balance);
    if (balance->remaining_us == 0) return hold_refuse(balance, err);

    if ((st = bt__ledger_account_need(s, h->account, &a, err)) != BT_OK) return st;
    if (!window_is_open(s, &a) && (st = s->op->window_add(s, &a, err)) != BT_OK) return st;
    if (a.tier_us != h->limit_us) {
        a.tier_us = h->limit_us;
        if ((st = s->op->account_set(s, &a, err)) != BT_OK) return st;
    }
    row = (ledger_hold){.request = h->request,
                        .boot = h->boot,
                        .account = a.id,
                        .window = a.window,
                        .amount_us = BT_MIN(h->want_us, balance->remaining_us)};
    if ((st = s->op->hold_add(s, &row, err)) != BT_OK) return st;
    a.held_us += row.amount_us;
    bt__ledger_balance(s, &a, h->limit_us, balance);
    *held_us = row.amount_us;
    *final = balance->remaining_us == 0;
    return BT_OK;
}

bt_status bt_ledger_hold(bt_ledger *l, uint64_t boot, const char *account, uint64_t request,
                         int64_t limit_us, int64_t want_us, int64_t wall_us, int64_t *held_us,
                         bool *final, bt_ledger_balance *balance, bt_err *err)
{
    hold_args h = {account, boot, request, BT_MIN(limit_us, BT_QUOTA_UNLIMITED),
                   BT_MIN(want_us, LEDGER_AMOUNT_MAX)};
    int64_t held = 0;
    bool last = false, own;
    bt_ledger_balance b = {0};
    bt_status st = bt__ledger_time(l, wall_us, err);
    if (st != BT_OK) return st;
    if (request == 0 || limit_us < 0 || want_us < 0)
        return bt_err_set(err, BT_EINVAL, 0,
                          "a hold needs a request id, a limit and an amount that are not negative");
    if ((st = bt__ledger_enter(l, &own, err)) != BT_OK) return st;
    st = hold_make(l->store, &h, &held, &last, &b, err);
    st = bt__ledger_leave(l, own, st, err);
    if ((st == BT_OK || st == BT_EQUOTA) && balance) *balance = b;
    if (st != BT_OK) return st;
    *held_us = held;
    *final = last;
    return BT_OK;
}

static bt_status hold_raise(ledger_store *s, uint64_t request, int64_t want_total_us,
                            int64_t *held_us, bool *final, bt_err *err)
{
    ledger_hold h;
    bool found = false;
    bt_status st = s->op->hold_get(s, request, &h, &found, err);
    if (st != BT_OK) return st;
    if (!found)
        return bt_err_set(err, BT_ENOTFOUND, 0, "request %llu holds no quota",
                          (unsigned long long)request);
    int64_t limit = h.override_us >= 0 ? h.override_us : h.tier_us;
    int64_t left = BT_MAX(0, limit - h.used_us - h.held_us);
    int64_t extra = BT_MAX(0, BT_MIN(want_total_us - h.amount_us, left));
    *held_us = h.amount_us + extra;
    *final = left - extra == 0;
    return extra == 0 ? BT_OK : s->op->hold_raise(s, &h, extra, err);
}

bt_status bt_ledger_top_up(bt_ledger *l, uint64_t request, int64_t want_total_us, int64_t wall_us,
                           int64_t *held_us, bool *final, bt_err *err)
{
    int64_t held = 0;
    bool last = false, own;
    bt_status st = bt__ledger_time(l, wall_us, err);
    if (st != BT_OK) return st;
    if ((st = bt__ledger_enter(l, &own, err)) != BT_OK) return st;
    st = hold_raise(l->store, request, BT_MIN(want_total_us, LEDGER_AMOUNT_MAX), &held, &last, err);
    st = bt__ledger_leave(l, own, st, err);
    if (st != BT_OK) return st;
    *held_us = held;
    *final = last;
    return BT_OK;
}

bt_status bt__ledger_end(ledger_store *s, ledger_kind kind, uint64_t request, int64_t device_us,
                         int64_t charged_us, ledger_end *out, bt_err *err)
{
    ledger_hold h;
    bool found = false;
    bt_status st = s->op->hold_get(s, request, &h, &found, err);
    if (st != BT_OK) return st;
    if (!found) {
        out->end = END_UNKNOWN;
        st = s->op->entry_get(s, request, &out->account, &out->device_us, &found, err);
        if (st == BT_OK && found) out->end = END_BEFORE;
        return st;
    }
    ledger_entry e = {kind, h.account, request, device_us, charged_us, h.window, h.boot};
    *out = (ledger_end){END_NOW, h.account, device_us};
    return s->op->hold_end(s, &h, &e, err);
}

static bt_status end_request(bt_ledger *l, ledger_kind kind, uint64_t request, int64_t device_us,
                             int64_t charged_us, int64_t wall_us, bt_ledger_balance *balance,
                             bt_err *err)
{
    ledger_end end;
    ledger_account a;
    bt_ledger_balance b = {0};
    bool own;
    bt_status st = bt__ledger_time(l, wall_us, err);
    if (st != BT_OK) return st;
    if (device_us < 0 || charged_us < 0 || device_us > LEDGER_AMOUNT_MAX ||
        charged_us > LEDGER_AMOUNT_MAX)
        return bt_err_set(err, BT_EINVAL, 0, "%lld us of device time cannot be posted",
                          (long long)device_us);
    if ((st = bt__ledger_enter(l, &own, err)) != BT_OK) return st;
    st = bt__ledger_end(l->store, kind, request, device_us, charged_us, &end, err);
    if (st == BT_OK && end.end == END_UNKNOWN)
        st = bt_err_set(err, BT_ENOTFOUND, 0, "request %llu never held quota",
                        (unsigned long long)request);
    if (st == BT_OK && balance) {
        st = l->store->op->account_by_id(l->store, end.account, &a, err);
        if (st == BT_OK) bt__ledger_balance(l->store, &a, a.tier_us, &b);
    }
    st = bt__ledger_leave(l, own, st, err);
    if (st == BT_OK && balance) *balance = b;
    return st;
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

bt_status bt__ledger_engine(ledger_store *s, uint64_t boot, int64_t busy_us, int64_t house_us,
                            bt_err *err)
{
    int64_t busy = 0, house = 0;
    bt_status st = s->op->boot_get(s, boot, &busy, &house, err);
    if (st != BT_OK) return st;
    ledger_entry e = {.kind = KIND_BUSY, .device_us = busy_us - busy, .boot = boot};
    if (busy_us > busy && (st = s->op->entry_add(s, &e, err)) != BT_OK) return st;
    e.kind = KIND_HOUSE;
    e.device_us = house_us - house;
    return house_us > house ? s->op->entry_add(s, &e, err) : BT_OK;
}

bt_status bt_ledger_engine(bt_ledger *l, uint64_t engine_boot, int64_t busy_us, int64_t house_us,
                           int64_t wall_us, bt_err *err)
{
    bool own;
    bt_status st = bt__ledger_time(l, wall_us, err);
    if (st != BT_OK) return st;
    if (busy_us < 0 || house_us < 0 || busy_us > LEDGER_AMOUNT_MAX || house_us > LEDGER_AMOUNT_MAX)
        return bt_err_set(err, BT_EINVAL, 0, "%lld us of busy time cannot be booked",
                          (long long)busy_us);
    if ((st = bt__ledger_enter(l, &own, err)) != BT_OK) return st;
    st = bt__ledger_engine(l->store, engine_boot, busy_us, house_us, err);
    return bt__ledger_leave(l, own, st, err);
}

bt_status bt_ledger_read(bt_ledger *l, const char *account, int64_t limit_us, int64_t wall_us,
                         bt_ledger_balance *out, bt_err *err)
{
    ledger_account a;
    bt_status st = bt__ledger_time(l, wall_us, err);
    if (st == BT_OK) st = bt__ledger_account(l->store, account, &a, err);
    if (st == BT_OK)
        bt__ledger_balance(l->store, &a, BT_MAX(0, BT_MIN(limit_us, BT_QUOTA_UNLIMITED)), out);
    return st;
}
