/* SPDX-License-Identifier: Apache-2.0 */
/* loop.c - a unit's scheduler thread: events in, actions out.
 *
 * bt_sched_step() decides; this file only carries its decisions to where they act: the ledger, the
 * engine's socket, the request's stream. */
#include "base/clock.h"
#include "base/log.h"
#include "front/internal.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { EVENTS_MAX = 256, ACTIONS_MAX = 256 };
static const int64_t idle_ns = 1000000000, positions_ns = 250000000;

static void act_book(bt_unit *u, bt_book_type type, const bt_sched_action *a)
{
    bt_book book = {.type = type,
                    .stream = bt__front_find(u->front, a->request),
                    .amount_us = a->amount_us,
                    .finish = a->finish,
                    .status = a->status};
    if (book.stream) bt__front_book(u->front, &book);
}

static void act_void(bt_unit *u, const bt_sched_action *a)
{
    bt_sched_action end = *a;
    bt_stream *s = bt__front_find(u->front, a->request);
    if (!s) return;
    s->retry_ms = a->retry_ns / 1000000;
    bt_finish over = bt__parts_over(s, a->status);
    if (over != BT_FINISH_NONE) { // the answer has begun: this part of it stays empty
        end.finish = over;
        end.status = BT_OK;
    }
    act_book(u, BT_BOOK_VOID, &end);
    bt__parts_voided(s);
    bt_stream_unref(s);
}

static void act_post(bt_unit *u, const bt_sched_action *a)
{
    bt_stream *s = bt__front_find(u->front, a->request);
    act_book(u, BT_BOOK_POST, a);
    if (s) bt__parts_posted(s);
    bt_stream_unref(s);
}

static void act_admit(bt_unit *u, const bt_sched_action *a)
{
    bt_stream *s = bt__front_find(u->front, a->request);
    if (!s) return;
    int64_t now = bt_now_ns();
    pthread_mutex_lock(&s->mu);
    s->admitted_ns = now;
    pthread_mutex_unlock(&s->mu);
    bt__count(&u->front->count.queue_sum_us, (uint64_t)(now - s->submitted_ns) / 1000);
    bt__count(&u->front->count.queue_count, 1);
    bt_log(BT_LOG_DEBUG, "lease.granted", "req=%016" PRIx64 " slot=%d budget_us=%" PRId64, s->id,
           a->lease.slot, a->lease.budget_us);
    bt_engine_request req = {
        .id = s->id,
        .salt = u->opt.engine.share_prefix ? 1 : s->identity.account_id,
        .tokens = s->tokens,
        .n_tokens = s->n_tokens,
        .n_seq = s->n_seq,
        .params = s->params,
        .lease = a->lease,
    };
    if (bt__link_submit(&u->link, &req)) { // it never ran: ends as if the engine had refused it
        bt_sched_event ev = {.type = BT_EV_FINISHED, .request = s->id, .finish = BT_FINISH_REFUSED};
        pthread_mutex_lock(&s->mu);
        s->broke = BT_ENOMEM;
        pthread_mutex_unlock(&s->mu);
        bt__unit_events(u, &ev, 1);
    }
    bt__parts_admitted(s);
    bt_stream_unref(s);
}

static void act_accept(bt_unit *u, const bt_sched_action *a)
{
    bt_stream *s = bt__front_find(u->front, a->request);
    if (!s) return;
    s->accepted = true;
    bt__stream_accepted(s, &s->balance);
    bt__residency_needed(u);
    bt_stream_unref(s);
}

/* Which bound it was, and when to try again. */
static void busy_text(const bt_stream *s, const bt_sched_action *a, char *text, size_t cap)
{
    const char *tier = s->identity.tier->name;
    long long wait_s = bt_retry_s(a->retry_ns / 1000000);
    switch (a->limit) {
    case BT_LIMIT_ACCOUNT:
        snprintf(text, cap,
                 "account %s has %d requests waiting, and tier %s may have no more; try again in "
                 "%lld s",
                 s->identity.account, a->places, tier, wait_s);
        break;
    case BT_LIMIT_GROUP:
        snprintf(text, cap,
                 "%d requests from your network are waiting, and it may have no more without a "
                 "key; try again in %lld s",
                 a->places, wait_s);
        break;
    case BT_LIMIT_ANONYMOUS:
        snprintf(text, cap,
                 "%d requests without a key are waiting, and together they may be no more; try "
                 "again in %lld s",
                 a->places, wait_s);
        break;
    case BT_LIMIT_CLASS:
        snprintf(text, cap,
                 "the %d places in the queue for tier %s and those of its class and below are "
                 "taken; try again in %lld s",
                 a->places, tier, wait_s);
        break;
    default:
        snprintf(text, cap, "all %d places in the queue are taken; try again in %lld s", a->places,
                 wait_s);
    }
}

static void refusal_text(const bt_stream *s, const bt_sched_action *a, bt_status st, char *text,
                         size_t cap)
{
    switch (st) {
    case BT_EQUOTA: bt__quota_sentence(&s->identity, &s->balance, text, cap); break;
    case BT_EBUSY: busy_text(s, a, text, cap); break;
    case BT_ECLOSED: snprintf(text, cap, "the server is shutting down"); break;
    case BT_ESTORAGE:
        snprintf(text, cap, "the quota ledger cannot be written just now; try again in a moment");
        break;
    default: snprintf(text, cap, "%s", bt_status_get(st)->text);
    }
}

static void act_refuse(bt_unit *u, const bt_sched_action *a)
{
    bt_stream *s = bt__front_find(u->front, a->request);
    if (!s) return;
    char text[200];
    bool ledger_said = a->status == BT_EQUOTA && s->hold_status != BT_OK;
    bt_status st = ledger_said ? s->hold_status : a->status;
    if (!bt__parts_refused(s, st)) {
        refusal_text(s, a, st, text, sizeof text);
        bt__count_refused(&u->front->count, st);
        bt__stream_refused(s, st, text, a->retry_ns / 1000000,
                           st == BT_EQUOTA ? &s->balance : NULL);
        bt__front_forget(u->front, s);
    }
    bt_stream_unref(s);
}

static void act(bt_unit *u, const bt_sched_action *a)
{
    switch (a->type) {
    case BT_ACT_HOLD: act_book(u, BT_BOOK_HOLD, a); break;
    case BT_ACT_TOP_UP: act_book(u, BT_BOOK_TOP_UP, a); break;
    case BT_ACT_POST: act_post(u, a); break;
    case BT_ACT_VOID: act_void(u, a); break;
    case BT_ACT_ACCEPT: act_accept(u, a); break;
    case BT_ACT_ADMIT: act_admit(u, a); break;
    case BT_ACT_BUDGET: bt__link_budget(&u->link, a->request, &a->lease); break;
    case BT_ACT_CANCEL: bt__link_cancel(&u->link, a->request, &a->lease, a->finish); break;
    case BT_ACT_REFUSE: act_refuse(u, a); break;
    }
}

/* One call of the state machine and all its consequences. Actions are carried out after sched_mu is
 * given back: they take other locks. */
static void loop_step(bt_unit *u, const bt_sched_event *events, size_t n)
{
    bt_sched_action actions[ACTIONS_MAX];
    size_t got;
    do {
        pthread_mutex_lock(&u->sched_mu);
        got = bt_sched_step(u->sched, bt_now_ns(), events, n, actions, ACTIONS_MAX);
        pthread_mutex_unlock(&u->sched_mu);
        for (size_t i = 0; i < got; i++) act(u, &actions[i]);
        n = 0;
    } while (got == ACTIONS_MAX);
}

typedef struct moved {
    uint64_t request;
    int32_t position;
    int64_t eta_ms;
} moved;

typedef struct moved_list {
    moved item[1024];
    size_t n;
} moved_list;

static void moved_add(void *ud, uint64_t request, int32_t position, int64_t eta_ms)
{
    moved_list *l = ud;
    if (l->n < sizeof l->item / sizeof *l->item)
        l->item[l->n++] = (moved){request, position, eta_ms};
}

static void loop_positions(bt_unit *u, moved_list *l)
{
    l->n = 0;
    pthread_mutex_lock(&u->sched_mu);
    if (bt_sched_waiting(u->sched) > 0) bt_sched_positions(u->sched, bt_now_ns(), moved_add, l);
    pthread_mutex_unlock(&u->sched_mu);
    for (size_t i = 0; i < l->n; i++) {
        bt_stream *s = bt__front_find(u->front, l->item[i].request);
        if (!s) continue;
        bt__stream_queue(s, l->item[i].position, l->item[i].eta_ms);
        bt_stream_unref(s);
    }
}

/* An engine's end: after its requests' posts have gone to the ledger, what its usage file still
 * holds is settled. */
static void loop_engine_down(bt_unit *u, const bt_sched_event *ev)
{
    bt_book book = {.type = BT_BOOK_SETTLE, .unit = u, .boot = ev->u.engine_down.boot};
    bt__front_book(u->front, &book);
}

void *bt__sched_main(void *unit)
{
    bt_unit *u = unit;
    bt_sched_event events[EVENTS_MAX];
    moved_list moved_now;
    int64_t next_positions_ns = 0;
    for (;;) {
        int64_t now = bt_now_ns(), until = now + idle_ns;
        pthread_mutex_lock(&u->sched_mu);
        int64_t deadline = bt_sched_next_deadline(u->sched);
        bool waiting = bt_sched_waiting(u->sched) > 0;
        pthread_mutex_unlock(&u->sched_mu);
        if (deadline < until) until = deadline;
        if (waiting && next_positions_ns < until) until = next_positions_ns;
        int n = bt_inbox_take(&u->sched_in, events, EVENTS_MAX, until > now ? until : 0);
        if (n < 0) break;
        loop_step(u, events, (size_t)n);
        for (int i = 0; i < n; i++)
            if (events[i].type == BT_EV_ENGINE_DOWN) loop_engine_down(u, &events[i]);
        if (bt_now_ns() >= next_positions_ns) {
            next_positions_ns = bt_now_ns() + positions_ns;
            loop_positions(u, &moved_now);
        }
    }
    loop_step(u, NULL, 0);
    return NULL;
}
