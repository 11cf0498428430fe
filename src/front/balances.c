/* SPDX-License-Identifier: Apache-2.0 */
/* balances.c - what the ledger said last, in memory: of each account that was seen, and in all.
 *
 * The ledger thread writes after each commit and before it tells anybody; all others read, and wait
 * for nothing. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "front/internal.h"
#include <stdio.h>
#include <string.h>

enum { KNOWN_MAX = 1 << 16 };

struct bt__known {
    int64_t asked_us; // the tier's limit it was asked with
    bt_ledger_balance balance;
};

void bt__balances_open(bt_front *f)
{
    pthread_mutex_init(&f->balances.mu, NULL);
}

static void forget_all(bt_balances *b)
{
    bt_map_release(&b->index);
    b->n = 0;
}

void bt__balances_release(bt_front *f)
{
    forget_all(&f->balances);
    bt_free(f->balances.known);
    pthread_mutex_destroy(&f->balances.mu);
}

/* Under mu: NULL where the account is not known. */
static struct bt__known *find(const bt_balances *b, uint64_t account_id)
{
    uint64_t at;
    return bt_map_get(&b->index, account_id, &at) ? &b->known[at] : NULL;
}

/* Under mu; NULL: no memory, and it stays unknown. */
static struct bt__known *add(bt_balances *b, uint64_t account_id)
{
    if (b->n == KNOWN_MAX) forget_all(b); // each is asked for once more
    if (b->n == b->cap) {
        size_t cap = b->cap ? 2 * b->cap : 64;
        struct bt__known *more = bt_realloc(b->known, cap * sizeof *more);
        if (!more) return NULL;
        b->known = more;
        b->cap = cap;
    }
    return bt_map_put(&b->index, account_id, b->n) ? &b->known[b->n++] : NULL;
}

void bt__balances_put(bt_front *f, uint64_t account_id, int64_t asked_us,
                      const bt_ledger_balance *balance)
{
    bt_balances *b = &f->balances;
    pthread_mutex_lock(&b->mu);
    struct bt__known *k = find(b, account_id);
    if (!k) k = add(b, account_id);
    if (k) *k = (struct bt__known){asked_us, *balance};
    pthread_mutex_unlock(&b->mu);
}

void bt__balances_held(bt_front *f, uint64_t account_id, int64_t window_us, int64_t more_us)
{
    bt_balances *b = &f->balances;
    pthread_mutex_lock(&b->mu);
    struct bt__known *k = find(b, account_id);
    if (k && k->balance.window_started_us == window_us) {
        bt_ledger_balance *now = &k->balance;
        now->held_us += more_us;
        now->remaining_us = BT_MAX(0, now->limit_us - now->used_us - now->held_us);
    }
    pthread_mutex_unlock(&b->mu);
}

void bt__balances_forget(bt_front *f)
{
    pthread_mutex_lock(&f->balances.mu);
    forget_all(&f->balances);
    pthread_mutex_unlock(&f->balances.mu);
}

bool bt_front_balance_known(bt_front *f, const bt_identity *who, bt_ledger_balance *out)
{
    bt_balances *b = &f->balances;
    int64_t now_us = bt_wall_us();
    pthread_mutex_lock(&b->mu);
    const struct bt__known *k = find(b, who->account_id);
    bool known = k && k->asked_us == who->tier->quota_us;
    if (known) *out = k->balance;
    pthread_mutex_unlock(&b->mu);
    if (known && out->resets_us && now_us >= out->resets_us)
        *out = (bt_ledger_balance){.limit_us = out->limit_us, .remaining_us = out->limit_us};
    return known;
}

void bt__quota_sentence(const bt_identity *who, const bt_ledger_balance *b, char *text, size_t cap)
{
    char when[24] = "its first use";
    if (b->limit_us <= 0) {
        snprintf(text, cap, "account %s may use no device time: the owner has set its limit to 0",
                 who->account);
        return;
    }
    if (b->resets_us) bt_rfc3339(b->resets_us, when);
    snprintf(
        text, cap,
        "account %s has used its %.10g s of device time (%.10g s are held by running requests); "
        "the window resets at %s",
        who->account, (double)b->limit_us / 1e6, (double)b->held_us / 1e6, when);
}

bt_status bt_front_admits(bt_front *f, const bt_identity *who, bt_ledger_balance *balance,
                          bt_err *err)
{
    char text[200];
    if (!bt_front_balance_known(f, who, balance) || balance->remaining_us > 0) return BT_OK;
    bt__count_refused(&f->count, BT_EQUOTA);
    bt__quota_sentence(who, balance, text, sizeof text);
    return bt_err_set(err, BT_EQUOTA, 0, "%s", text);
}

/* ---- totals */

void bt__balances_totals(bt_front *f, const bt_ledger_totals *totals)
{
    pthread_mutex_lock(&f->balances.mu);
    f->balances.totals = *totals;
    f->balances.totals_known = true;
    pthread_mutex_unlock(&f->balances.mu);
}

void bt__balances_engine(bt_front *f, int64_t busy_us, int64_t house_us)
{
    pthread_mutex_lock(&f->balances.mu);
    f->balances.totals.busy_us += busy_us;
    f->balances.totals.house_us += house_us;
    pthread_mutex_unlock(&f->balances.mu);
}

void bt__balances_refuses(bt_front *f, const char *why)
{
    pthread_mutex_lock(&f->balances.mu);
    snprintf(f->balances.refuses, sizeof f->balances.refuses, "%s", why);
    pthread_mutex_unlock(&f->balances.mu);
}

void bt__balances_refusal(bt_front *f, char *text, size_t cap)
{
    pthread_mutex_lock(&f->balances.mu);
    snprintf(text, cap, "%s", f->balances.refuses);
    pthread_mutex_unlock(&f->balances.mu);
}

void bt__balances_booked(bt_front *f, int holds, int64_t device_us, int64_t charged_us)
{
    bt_ledger_totals *t = &f->balances.totals;
    pthread_mutex_lock(&f->balances.mu);
    t->holds_open += holds;
    t->accounts_us += device_us;
    t->charged_us += charged_us;
    pthread_mutex_unlock(&f->balances.mu);
}

bool bt__balances_totals_get(bt_front *f, bt_ledger_totals *out)
{
    pthread_mutex_lock(&f->balances.mu);
    bool known = f->balances.totals_known;
    *out = f->balances.totals;
    pthread_mutex_unlock(&f->balances.mu);
    return known;
}
