/* SPDX-License-Identifier: Apache-2.0 */
/* books.c - the ledger thread: every change of a balance, in group commits.
 *
 * What waits in the inbox becomes one transaction; nobody is told before it has committed. If a
 * commit fails (disk full) holds are refused, and posts are kept and tried again: the engine's
 * usage entry is released only after a post, so even a crash meanwhile loses nothing. A client
 * does not wait for a disk: after tell_ns it has its last event, without a balance. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"
#include "base/mem.h"
#include "front/internal.h"
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

enum { BATCH_MAX = 256, UNSETTLED_MAX = 16 };
static const int64_t compact_ns = 24 * 3600 * (int64_t)1000000000,
                     keep_us = 48 * 3600 * (int64_t)1000000;
static const int64_t retry_ns = 250000000, look_ns = 1000000000, ask_ns = 2000000000,
                     tell_ns = 3000000000;

/* ---- questions from other threads: two owners, the asker may give up waiting */

typedef enum ask_type { ASK_READ, ASK_SET_LIMIT, ASK_RESET, ASK_LIST } ask_type;

struct bt_ask {
    atomic_int refs;
    ask_type type;
    char account[64];
    uint64_t account_id; // READ
    int64_t limit_us;
    bt_ledger_balance balance;
    struct {
        char account[64];
        int64_t limit_us;
        bt_ledger_balance balance;
    } * list; // owned
    size_t n_list, cap_list;
    bool list_short; // out of memory for some
    bt_status st;
    bt_err err;
    pthread_mutex_t mu;
    pthread_cond_t cond;
    bool answered; // guarded by mu
};

static bt_ask *ask_new(ask_type type, const char *account, int64_t limit_us)
{
    bt_ask *a = bt_calloc(1, sizeof *a);
    if (!a) return NULL;
    atomic_init(&a->refs, 2);
    a->type = type;
    if (account) snprintf(a->account, sizeof a->account, "%s", account);
    a->limit_us = limit_us;
    pthread_mutex_init(&a->mu, NULL);
    bt_cond_init(&a->cond);
    return a;
}

static void ask_unref(bt_ask *a)
{
    if (!a || atomic_fetch_sub(&a->refs, 1) != 1) return;
    pthread_mutex_destroy(&a->mu);
    pthread_cond_destroy(&a->cond);
    bt_free(a->list);
    bt_free(a);
}

/* Sends the question and waits for its answer; *a is released by the caller in any case. */
static bt_status ask_wait(bt_front *f, bt_ask *a, bt_err *err)
{
    if (!a) return bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    bt_book book = {.type = BT_BOOK_ASK, .ask = a};
    if (bt_inbox_push(&f->ledger_in, &book)) {
        ask_unref(a);
        return bt_err_set(err, BT_EBUSY, 0, "the ledger is busy; try again in a moment");
    }
    int64_t deadline = bt_now_ns() + ask_ns;
    pthread_mutex_lock(&a->mu);
    while (!a->answered && bt_cond_wait(&a->cond, &a->mu, deadline)) continue;
    bool answered = a->answered;
    pthread_mutex_unlock(&a->mu);
    if (!answered) return bt_err_set(err, BT_ETIMEOUT, 0, "the ledger did not answer in time");
    if (a->st && err) *err = a->err;
    return a->st;
}

static void ask_list_add(void *ud, const char *account, int64_t limit_us,
                         const bt_ledger_balance *balance)
{
    bt_ask *a = ud;
    if (a->n_list == a->cap_list) {
        size_t cap = a->cap_list ? a->cap_list * 2 : 64;
        void *list = bt_realloc(a->list, cap * sizeof *a->list);
        if (!list) {
            a->list_short = true;
            return;
        }
        a->list = list;
        a->cap_list = cap;
    }
    snprintf(a->list[a->n_list].account, sizeof a->list->account, "%s", account);
    a->list[a->n_list].limit_us = limit_us;
    a->list[a->n_list++].balance = *balance;
}

static void ask_run(bt_front *f, bt_ask *a)
{
    int64_t now = bt_wall_us();
    switch (a->type) {
    case ASK_READ:
        a->st = bt_ledger_read(f->ledger, a->account, a->limit_us, now, &a->balance, &a->err);
        if (a->st == BT_OK) bt__balances_put(f, a->account_id, a->limit_us, &a->balance);
        break;
    case ASK_SET_LIMIT:
        a->st = bt_ledger_set_limit(f->ledger, a->account, a->limit_us, now, &a->err);
        break;
    case ASK_RESET: a->st = bt_ledger_reset(f->ledger, a->account, now, &a->err); break;
    case ASK_LIST:
        a->st = bt_ledger_accounts(f->ledger, now, ask_list_add, a, &a->err);
        if (a->st == BT_OK && a->list_short)
            a->st = bt_err_set(&a->err, BT_ENOMEM, 0, "out of memory for the list of accounts");
        break;
    }
    if (a->type == ASK_SET_LIMIT || a->type == ASK_RESET) bt__balances_forget(f);
    if (a->st == BT_EIO || a->st == BT_EFORMAT || a->st == BT_EBUSY) { // it names files
        bt_log(BT_LOG_WARN, "ledger.ask_failed", "why=\"%s\"", a->err.msg);
        a->st = bt_err_set(&a->err, BT_ESTORAGE, 0,
                           "the ledger cannot be used just now; the server's log says why");
    }
    pthread_mutex_lock(&a->mu);
    a->answered = true;
    pthread_cond_signal(&a->cond);
    pthread_mutex_unlock(&a->mu);
    ask_unref(a);
}

bt_status bt_front_balance(bt_front *f, const bt_identity *who, bt_ledger_balance *out, bt_err *err)
{
    bt_ask *a = ask_new(ASK_READ, who->account, who->tier->quota_us);
    if (a) a->account_id = who->account_id;
    bt_status st = ask_wait(f, a, err);
    if (st == BT_OK) *out = a->balance;
    ask_unref(a);
    return st;
}

typedef struct ask_name {
    const char *account;
    bool there;
} ask_name;

static void name_compare(void *ud, const char *account, int64_t limit_us,
                         const bt_ledger_balance *balance)
{
    ask_name *name = ud;
    (void)limit_us, (void)balance;
    name->there = name->there || strcmp(account, name->account) == 0;
}

/* A typing error would make an account that nobody is. One whose key is gone may still be in the
 * books. */
static bt_status name_check(bt_front *f, const char *account, bt_err *err)
{
    ask_name name = {account, false};
    if (bt_accounts_name_check(f->accounts, account, err) == BT_OK) return BT_OK;
    bt_status st = bt_front_quota_list(f, name_compare, &name, err);
    if (st || name.there) return st;
    return bt_accounts_name_check(f->accounts, account, err);
}

bt_status bt_front_quota_set(bt_front *f, const char *account, int64_t limit_us, bt_err *err)
{
    bt_status st = name_check(f, account, err);
    if (st) return st;
    bt_ask *a = ask_new(ASK_SET_LIMIT, account, limit_us);
    st = ask_wait(f, a, err);
    ask_unref(a);
    return st;
}

bt_status bt_front_quota_reset(bt_front *f, const char *account, bt_err *err)
{
    bt_status st = name_check(f, account, err);
    if (st) return st;
    bt_ask *a = ask_new(ASK_RESET, account, 0);
    st = ask_wait(f, a, err);
    ask_unref(a);
    return st;
}

bt_status bt_front_quota_list(bt_front *f, bt_ledger_account_fn fn, void *ud, bt_err *err)
{
    bt_ask *a = ask_new(ASK_LIST, NULL, 0);
    bt_status st = ask_wait(f, a, err);
    for (size_t i = 0; st == BT_OK && i < a->n_list; i++)
        fn(ud, a->list[i].account, a->list[i].limit_us, &a->list[i].balance);
    ask_unref(a);
    return st;
}

/* ---- one transaction */

/* What the ledger thread keeps. Room for all: each living request ends once, and stays alive until
 * that is written. */
struct bt_unposted {
    bt_book *item, *again; // owned, [cap]
    size_t n, cap;
    int64_t next_try_ns;
    bool failing;                   // the last write failed
    bool gone;                      // DATA is no longer the directory that was opened: no new holds
    char *unsettled[UNSETTLED_MAX]; // owned: usage files of dead engines
};

typedef struct outcome {
    bt_status st;
    int64_t held_us, charged_us;
    bool final;
    bt_ledger_balance balance;
} outcome;

/* The ledger counts charge, the scheduler device time: price lies between them. */
static int64_t to_charge(const bt_front *f, int64_t device_us)
{
    return llround((double)device_us * f->opt.price);
}

/* A hold of nothing would pause for ever. */
static int64_t hold_charge(const bt_front *f, int64_t device_us)
{
    return BT_MAX(1, to_charge(f, device_us));
}

static int64_t to_device(const bt_front *f, int64_t charge_us)
{
    return f->opt.price == 1 ? charge_us : (int64_t)((double)charge_us / f->opt.price);
}

/* What a request is charged. Our own faults are the house's: the time is booked, nobody pays. */
static int64_t charge_of(const bt_front *f, const bt_book *b)
{
    return b->type == BT_BOOK_POST && b->finish != BT_FINISH_DEVICE_FAULT
               ? to_charge(f, b->amount_us)
               : 0;
}

static outcome book_run(bt_front *f, const bt_book *b, bt_err *err)
{
    outcome o = {BT_OK, 0, 0, false, {0}};
    bt_stream *s = b->stream;
    int64_t now = bt_wall_us();
    switch (b->type) {
    case BT_BOOK_HOLD:
        o.st = BT_ESTORAGE;
        if (!f->unposted->gone)
            o.st = bt_ledger_hold(f->ledger, f->boot, s->identity.account, s->id,
                                  s->identity.tier->quota_us, hold_charge(f, b->amount_us), now,
                                  &o.held_us, &o.final, &o.balance, err);
        break;
    case BT_BOOK_TOP_UP:
        o.st = bt_ledger_top_up(f->ledger, s->id, hold_charge(f, b->amount_us), now, &o.held_us,
                                &o.final, err);
        break;
    case BT_BOOK_POST:
        o.charged_us = charge_of(f, b);
        o.st = bt_ledger_post(f->ledger, s->id, b->amount_us, o.charged_us, now, &o.balance, err);
        break;
    case BT_BOOK_VOID: o.st = bt_ledger_void(f->ledger, s->id, now, &o.balance, err); break;
    case BT_BOOK_SETTLE:
    case BT_BOOK_ASK: break;
    }
    return o;
}

static void deliver_hold(bt_front *f, const bt_book *b, const outcome *o)
{
    bt_stream *s = b->stream;
    bool first = b->type == BT_BOOK_HOLD;
    bt_sched_event ev = {
        .request = s->id, .amount_us = to_device(f, o->held_us), .final = o->final};
    ev.type = !first ? BT_EV_TOPPED_UP : o->st == BT_OK ? BT_EV_HELD : BT_EV_REFUSED;
    if (o->st) ev.final = true; // a failed top-up: what is held is what there is
    if (first) {
        s->balance = o->balance;
        s->hold_status = o->st;
    }
    bt__unit_events(s->unit, &ev, 1);
}

/* The client's last event. */
static void tell_end(bt_front *f, const bt_book *b, int64_t charged_us,
                     const bt_ledger_balance *balance)
{
    bt_stream *s = b->stream;
    bool posted = b->type == BT_BOOK_POST;
    bt_status st = b->status ? b->status : BT_ECANCELLED;
    pthread_mutex_lock(&s->mu);
    if (b->finish == BT_FINISH_DEVICE_FAULT)
        s->broke = s->broke ? s->broke : BT_EDEVICE;
    else if (!posted && b->status != BT_OK)
        s->broke = b->status;
    bool accepted = s->accepted;
    pthread_mutex_unlock(&s->mu);
    if (b->finish != BT_FINISH_NONE)
        bt__count(&f->count.finished[b->finish], 1);
    else
        bt__count_refused(&f->count, st);
    if (accepted)
        bt__stream_done(s, b->finish, posted ? b->amount_us : 0, charged_us, balance);
    else
        bt__stream_refused(s, st, bt_status_get(st)->text, 0, NULL);
}

static void deliver_end(bt_front *f, const bt_book *b, const outcome *o)
{
    /* What was voided never came to the engine: it has nothing to release. */
    if (b->type == BT_BOOK_POST) bt__link_done(&b->stream->unit->link, b->stream->id);
    bt__count(&f->count.charged_us, (uint64_t)o->charged_us);
    if (!b->told) tell_end(f, b, o->charged_us, &o->balance);
    bt__front_forget(f, b->stream);
}

static void deliver(bt_front *f, const bt_book *b, const outcome *o)
{
    if (b->type == BT_BOOK_HOLD || b->type == BT_BOOK_TOP_UP)
        deliver_hold(f, b, o);
    else if (b->type == BT_BOOK_POST || b->type == BT_BOOK_VOID)
        deliver_end(f, b, o);
    bt_stream_unref(b->stream);
}

/* What was committed, for all who ask. */
static void remember(bt_front *f, const bt_book *b, const outcome *o)
{
    bt_stream *s = b->stream;
    bool said = o->st == BT_OK || (o->st == BT_EQUOTA && b->type == BT_BOOK_HOLD);
    if (!said) return;
    if (b->type == BT_BOOK_TOP_UP)
        bt__balances_held(f, s->identity.account_id, s->balance.window_started_us,
                          o->held_us - s->held_us);
    else
        bt__balances_put(f, s->identity.account_id, s->identity.tier->quota_us, &o->balance);
    s->held_us = o->held_us;
    if (b->type == BT_BOOK_HOLD && o->st == BT_OK) bt__balances_booked(f, 1, 0, 0);
    if (b->type == BT_BOOK_POST) bt__balances_booked(f, -1, b->amount_us, o->charged_us);
    if (b->type == BT_BOOK_VOID) bt__balances_booked(f, -1, 0, 0);
}

/* ---- posts that could not be written yet */

static bt_status unposted_open(bt_front *f, bt_err *err)
{
    bt_unposted *u = f->unposted = bt_calloc(1, sizeof *u);
    if (u) {
        u->cap = (size_t)f->alive_max;
        u->item = bt_calloc(u->cap, sizeof *u->item);
        u->again = bt_calloc(u->cap, sizeof *u->again);
    }
    return u && u->item && u->again ? BT_OK
                                    : bt_err_set(err, BT_ENOMEM, 0, "out of memory for the books");
}

void bt__books_release(bt_front *f)
{
    bt_unposted *u = f->unposted;
    bt_inbox_release(&f->ledger_in);
    if (!u) return;
    for (int i = 0; i < UNSETTLED_MAX; i++) bt_free(u->unsettled[i]);
    bt_free(u->item);
    bt_free(u->again);
    bt_free(u);
    f->unposted = NULL;
}

static void write_failed(bt_front *f, bt_unposted *u, const bt_err *err)
{
    if (!u->failing)
        bt_log(BT_LOG_ERR, "ledger.write_failed",
               "why=\"%s\" holds are refused and posts kept until it can be written", err->msg);
    u->failing = true;
    if (!u->gone) bt__balances_refuses(f, err->msg);
}

static void write_worked(bt_front *f, bt_unposted *u)
{
    if (!u->failing) return;
    bt_log(BT_LOG_INFO, "ledger.writable", "it can be written again");
    u->failing = false;
    if (!u->gone) bt__balances_refuses(f, "");
}

static void unposted_keep(bt_front *f, bt_unposted *u, const bt_book *b)
{
    u->next_try_ns = bt_now_ns() + retry_ns;
    BT_ASSERT(u->n < u->cap);
    bt_book *kept = &u->item[u->n++];
    *kept = *b;
    if (kept->failed_ns == 0) kept->failed_ns = bt_now_ns();
    if (kept->told || bt_now_ns() - kept->failed_ns < tell_ns) return;
    kept->told = true;
    tell_end(f, kept, charge_of(f, kept), NULL);
}

/* The ledger has failed this one: what must not be lost is kept, the rest is told no. */
static void book_failed(bt_front *f, const bt_book *b, bt_status st, bt_unposted *keep)
{
    if (b->type == BT_BOOK_POST || b->type == BT_BOOK_VOID) {
        unposted_keep(f, keep, b);
        return;
    }
    outcome o = {.st = st == BT_EQUOTA ? BT_EQUOTA : BT_ESTORAGE, .final = true};
    deliver(f, b, &o);
}

/* The times of a unit's engine into link.bank, and for metrics. *boot stays 0: none runs. */
static bt_status engine_read(bt_unit *u, uint64_t *boot, bt_err *err)
{
    bt_link *l = &u->link;
    bt_status st = BT_EBUSY;
    pthread_mutex_lock(&l->usage_mu);
    if (l->usage) {
        *boot = l->boot;
        st = bt_usage_read(l->usage, &l->bank, err);
    }
    pthread_mutex_unlock(&l->usage_mu);
    if (st) return st;
    if (l->spent_boot != *boot) l->told = l->booked = (bt_spent){0};
    l->spent_boot = *boot;
    bt_spent now = {(int64_t)l->bank.busy_us, (int64_t)l->bank.house_us};
    bt__balances_engine(u->front, now.busy_us - l->told.busy_us, now.house_us - l->told.house_us);
    l->told = now;
    return BT_OK;
}

/* Runs books[0..n) as one transaction and delivers. */
static void books_commit(bt_front *f, const bt_book *books, size_t n, bt_unposted *keep)
{
    outcome out[BATCH_MAX];
    bt_err err = {0};
    bool apple = false, posts = false; // apple: it is one of the books, and not the disk
    uint64_t boot = 0;
    bt_status st = bt_ledger_begin(f->ledger, &err);
    for (size_t i = 0; st == BT_OK && i < n; i++) {
        out[i] = book_run(f, &books[i], &err);
        bool refused = out[i].st == BT_EQUOTA || out[i].st == BT_EINVAL ||
                       out[i].st == BT_ENOTFOUND || out[i].st == BT_ESTORAGE;
        if (out[i].st && !refused) st = out[i].st;
        apple = st != BT_OK;
        posts = posts || books[i].type == BT_BOOK_POST;
    }
    if (st == BT_OK)
        st = bt_ledger_commit(f->ledger, &err);
    else
        bt_ledger_rollback(f->ledger);
    if (st == BT_OK) {
        write_worked(f, keep);
        for (int32_t i = 0; posts && i < f->n_units; i++) // no more is attributed than was busy
            (void)engine_read(f->unit[i], &boot, NULL);
        for (size_t i = 0; i < n; i++) remember(f, &books[i], &out[i]);
        for (size_t i = 0; i < n; i++) deliver(f, &books[i], &out[i]);
    } else if (apple && n > 1) { // one bad apple must not spoil the batch
        for (size_t i = 0; i < n; i++) books_commit(f, &books[i], 1, keep);
    } else {
        write_failed(f, keep, &err);
        for (size_t i = 0; i < n; i++) book_failed(f, &books[i], st, keep);
    }
}

static void unposted_retry(bt_front *f, bt_unposted *u)
{
    if (u->n == 0 || bt_now_ns() < u->next_try_ns) return;
    size_t n = u->n;
    memcpy(u->again, u->item, n * sizeof *u->again);
    u->n = 0;
    u->next_try_ns = bt_now_ns() + retry_ns;
    for (size_t at = 0; at < n; at += BATCH_MAX)
        books_commit(f, u->again + at, BT_MIN(n - at, (size_t)BATCH_MAX), u);
}

/* At the very end: the usage file has what was used, and the next start posts it. */
static void unposted_close(bt_front *f, bt_unposted *u)
{
    for (int tries = 0; u->n > 0 && tries < 8; tries++) {
        bt_sleep_ns(retry_ns);
        unposted_retry(f, u);
    }
    for (size_t i = 0; i < u->n; i++) {
        bt_book *b = &u->item[i];
        if (!b->told) tell_end(f, b, charge_of(f, b), NULL);
        bt__front_forget(f, b->stream);
        bt_stream_unref(b->stream);
    }
}

/* For whoever asks for metrics: read here, so that nobody waits for the ledger. What engines were
 * busy since they were booked is added. */
static void books_totals(bt_front *f)
{
    bt_ledger_totals t;
    if (bt_ledger_totals_read(f->ledger, &t, NULL)) return;
    for (int32_t i = 0; i < f->n_units; i++) {
        const bt_link *l = &f->unit[i]->link;
        t.busy_us += l->told.busy_us - l->booked.busy_us;
        t.house_us += l->told.house_us - l->booked.house_us;
    }
    bt__balances_totals(f, &t);
}

/* ---- the engines' own books: busy and house time */

static bool engine_book(bt_unit *u, bool failing)
{
    bt_link *l = &u->link;
    bt_err err = {0};
    uint64_t boot = 0;
    bt_status st = engine_read(u, &boot, &err);
    if (st == BT_OK)
        st = bt_ledger_engine(u->front->ledger, boot, l->told.busy_us, l->told.house_us,
                              bt_wall_us(), &err);
    if (st == BT_OK) l->booked = l->told;
    if (st && boot && !failing && !l->usage_said)
        bt_log(BT_LOG_WARN, "ledger.engine", "why=\"%s\"", err.msg);
    l->usage_said = st && boot;
    return st == BT_OK;
}

static void books_engines(bt_front *f, const bt_unposted *keep)
{
    bool booked = false;
    bt_err err = {0};
    for (int32_t i = 0; i < f->n_units; i++)
        booked = engine_book(f->unit[i], keep->failing) || booked;
    if (booked) books_totals(f);
    if (bt_ledger_tidy(f->ledger, &err) && !keep->failing)
        bt_log(BT_LOG_WARN, "ledger.tidy", "why=\"%s\"", err.msg);
}

/* Once a second: whether the books are still where the next start will look for them. If somebody
 * has deleted or replaced them, what is charged here would be lost, so nobody is admitted until
 * they are back or the server is started again. */
static void books_there(bt_front *f, bt_unposted *u)
{
    bt_err err = {0};
    bool gone = bt_ledger_there(f->ledger, &err) != BT_OK;
    if (gone != u->gone) {
        u->gone = gone;
        bt__balances_refuses(f, err.msg);
        bt_log(gone ? BT_LOG_ERR : BT_LOG_INFO, gone ? "ledger.gone" : "ledger.back", "%s",
               gone ? err.msg : "the data directory is there again");
    }
    if (u->failing && bt_ledger_probe(f->ledger, NULL) == BT_OK) write_worked(f, u);
}

static bool settle(bt_front *f, const char *path)
{
    bt_err err;
    bt_status st = bt_ledger_settle_engine(f->ledger, path, bt_wall_us(), &err);
    bt__balances_forget(f);
    books_totals(f);
    if (st == BT_OK) return true;
    bt_log(BT_LOG_ERR, "ledger.settle", "file=%s why=\"%s\"", path, err.msg);
    return false;
}

/* A file that could not be settled is tried again; what does not fit here waits for the next start.
 */
static void unsettled_keep(bt_unposted *u, const char *path)
{
    for (int i = 0; i < UNSETTLED_MAX; i++) {
        if (u->unsettled[i]) continue;
        u->unsettled[i] = bt_strdup(path);
        return;
    }
}

static void unsettled_retry(bt_front *f, bt_unposted *u)
{
    for (int i = 0; i < UNSETTLED_MAX && u->n == 0; i++) {
        if (!u->unsettled[i]) continue;
        if (!settle(f, u->unsettled[i])) return;
        bt_free(u->unsettled[i]);
        u->unsettled[i] = NULL;
    }
}

/* A dead engine: what its file still holds is booked, the file goes, and the next engine may start.
 * Its requests' posts come first: they know what is charged and what is our own fault. */
static void books_settle(bt_unit *u, uint64_t boot, bt_unposted *keep)
{
    bt_front *f = u->front;
    bt_link *l = &u->link;
    char path[4200] = "";
    pthread_mutex_lock(&l->usage_mu);
    if (l->usage && l->boot == boot) {
        snprintf(path, sizeof path, "%s", bt_usage_path(l->usage));
        bt_usage_close(l->usage);
        l->usage = NULL;
    }
    pthread_mutex_unlock(&l->usage_mu);
    keep->next_try_ns = 0;
    unposted_retry(f, keep);
    l->told = l->booked = (bt_spent){0}; // its file has all
    if (path[0] && (keep->n > 0 || !settle(f, path))) unsettled_keep(keep, path);
    bt__link_down_settled(l, boot);
}

/* ---- thread */

bt_status bt__books_open(bt_front *f, bt_err *err)
{
    const char *dir = f->opt.data_dir;
    int posted = 0, voided = 0;
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return bt_err_set(err, BT_EIO, errno, "cannot make the data directory %s: %s", dir,
                          strerror(errno));
    bt_status st = unposted_open(f, err);
    if (st == BT_OK)
        st = bt_inbox_init(&f->ledger_in, sizeof(bt_book), BT_LEDGER_INBOX + (size_t)f->alive_max,
                           err);
    if (st == BT_OK) st = bt_ledger_open(dir, &f->ledger, err);
    if (st) return st;
    bt_ledger_set_price(f->ledger, f->opt.price);
    st = bt_ledger_recover(f->ledger, dir, f->boot, bt_wall_us(), &posted, &voided, err);
    if (st == BT_OK && posted + voided > 0)
        bt_log(BT_LOG_WARN, "ledger.recovered", "posted=%d voided=%d", posted, voided);
    return st;
}

/* Splits a take of the inbox: runs of ledger work become transactions, the rest is done in its
 * place. */
static void books_batch(bt_front *f, const bt_book *books, int n, bt_unposted *keep)
{
    int from = 0;
    for (int i = 0; i <= n; i++) {
        bool plain = i < n && books[i].type != BT_BOOK_SETTLE && books[i].type != BT_BOOK_ASK;
        if (plain) continue;
        if (i > from) books_commit(f, books + from, (size_t)(i - from), keep);
        if (i < n && books[i].type == BT_BOOK_SETTLE)
            books_settle(books[i].unit, books[i].boot, keep);
        if (i < n && books[i].type == BT_BOOK_ASK) ask_run(f, books[i].ask);
        from = i + 1;
    }
}

void *bt__ledger_main(void *front)
{
    bt_front *f = front;
    bt_unposted *keep = f->unposted;
    bt_book books[BATCH_MAX];
    int64_t next_look_ns = 0, next_compact_ns = bt_now_ns() + compact_ns;
    int n;
    books_totals(f);
    while ((n = bt_inbox_take(&f->ledger_in, books, BATCH_MAX,
                              bt_now_ns() + (keep->n ? retry_ns : look_ns))) >= 0) {
        if (n > 0) books_batch(f, books, n, keep);
        unposted_retry(f, keep);
        if (bt_now_ns() >= next_look_ns) {
            next_look_ns = bt_now_ns() + look_ns;
            books_there(f, keep);
            books_engines(f, keep);
            unsettled_retry(f, keep);
        }
        if (bt_now_ns() >= next_compact_ns) {
            next_compact_ns = bt_now_ns() + compact_ns;
            bt_ledger_compact(f->ledger, bt_wall_us() - keep_us, NULL, NULL);
        }
    }
    unposted_close(f, keep);
    unsettled_retry(f, keep);
    return NULL;
}
