/* SPDX-License-Identifier: Apache-2.0 */
#include "front/work.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/cond.h"
#include "front/internal.h"
#include <string.h>
#include <sys/resource.h>

enum { LANE_SHORT, LANE_LONG };
enum { SHORT_BYTES = 32 << 10, NICE = 10 };
static const int64_t SHORT_NS = 5000000, LONG_NS = 10000000000; // of a processor

/* As many as the queue has places by default: what a tier may have waiting there must get there. */
static const bt_turns_bound bounds[BT_TURNS_BOUNDS] = {
    [BT_TURNS_ACCOUNT] = {1024, 64 << 20},
    [BT_TURNS_ANONYMOUS] = {1024, 64 << 20},
    [BT_TURNS_ALL] = {4096, 512 << 20},
};

bt_status bt_text_encoder(bt_text *t, bt_encoder **out, bt_err *err)
{
    bt_encoder **own = &t->encoder[t->unit->index];
    bt_status st = *own ? BT_OK : bt_encoder_open(t->unit->tokenizer, own, err);
    if (st == BT_OK) *out = *own;
    return st;
}

/* ---- jobs */

static bt_status refuse(const bt_work *w, bt_turns_who full, bt_err *err)
{
    const bt_turns_bound *b = &bounds[full];
    switch (full) {
    case BT_TURNS_ACCOUNT:
        return bt_err_set(err, BT_EBUSY, 0,
                          "account %s has as many texts waiting to be read as it may (%d, or %zu "
                          "MiB); try again in a moment",
                          w->who->account, b->jobs, b->bytes >> 20);
    case BT_TURNS_ANONYMOUS:
        return bt_err_set(err, BT_EBUSY, 0,
                          "visitors without a key have as many texts waiting to be read as they "
                          "may together (%d, or %zu MiB); try again in a moment, or send a key",
                          b->jobs, b->bytes >> 20);
    default:
        return bt_err_set(err, BT_EBUSY, 0,
                          "as many texts wait to be read as may (%d, or %zu MiB); try again in a "
                          "moment",
                          b->jobs, b->bytes >> 20);
    }
}

/* Under mu. */
static bt_status put(bt_works *q, bt_work *w, int lane, bt_turns_who *full)
{
    w->lane = lane;
    bt_status st = q->closed ? BT_ECLOSED : bt_turns_put(&q->turns[lane], &w->turn, full);
    if (st == BT_OK) pthread_cond_signal(&q->filled[lane]);
    return st;
}

bt_status bt_work_start(bt_front *f, bt_work *w, bt_err *err)
{
    bt_works *q = &f->works;
    bt_turns_who full = BT_TURNS_ALL;
    pthread_mutex_lock(&q->mu);
    atomic_store(&w->cancelled, false);
    if (!w->unit) w->unit = f->unit[0];
    w->turn = (bt_turn){.account = w->who->account_id,
                        .weight = w->who->tier->weight,
                        .anonymous = !w->who->authenticated && !w->who->owner,
                        .bytes = w->bytes};
    bt_status st = put(q, w, w->bytes > SHORT_BYTES ? LANE_LONG : LANE_SHORT, &full);
    pthread_mutex_unlock(&q->mu);
    if (st == BT_EBUSY) return refuse(w, full, err);
    return st ? bt_err_set(err, st, 0, "%s", bt_status_get(st)->text) : BT_OK;
}

void bt_work_cancel(bt_front *f, bt_work *w)
{
    bt_works *q = &f->works;
    pthread_mutex_lock(&q->mu);
    atomic_store(&w->cancelled, true);
    bool waits = w->turn.party && !w->turn.under_way;
    if (waits) bt_turns_drop(&q->turns[w->lane], &w->turn);
    pthread_mutex_unlock(&q->mu);
    if (waits) w->done(w, BT_ECANCELLED);
}

/* ---- threads */

/* Runs it; true: it is done. */
static bool run(bt_text *t, bt_work *w, int lane, int64_t *took_us)
{
    int64_t begun_ns = bt_thread_ns();
    t->unit = w->unit;
    t->stop = (bt_stop){.flag = &w->cancelled,
                        .end_ns = begun_ns + (lane == LANE_SHORT ? SHORT_NS : LONG_NS)};
    w->run(w, t);
    *took_us = (bt_thread_ns() - begun_ns) / 1000;
    return lane == LANE_LONG || t->stop.why != BT_ETOOBIG;
}

/* Under mu: one job, without it meanwhile. */
static void work_one(bt_works *q, bt_works_thread *self, bt_text *t, bt_turn *turn)
{
    int lane = self->lane;
    bt_work *w = BT_OF(bt_work, turn, turn);
    bt_turns_who full;
    int64_t took_us = 0;
    self->now = w;
    pthread_mutex_unlock(&q->mu);
    bool whole = run(t, w, lane, &took_us);
    pthread_mutex_lock(&q->mu);
    self->now = NULL;
    bt_turns_end(&q->turns[lane], turn, took_us);
    bt_status st = whole ? BT_OK : put(q, w, LANE_LONG, &full);
    if (st == BT_OK && !whole) return;
    pthread_mutex_unlock(&q->mu);
    w->done(w, st);
    pthread_mutex_lock(&q->mu);
}

static void *works_main(void *arg)
{
    bt_works_thread *self = arg;
    bt_works *q = &self->front->works;
    bt_encoder *encoder[BT_UNITS_MAX] = {0};
    bt_text text = {.encoder = encoder};
    bool long_lane = self->lane == LANE_LONG;
    if (long_lane) // on Linux: of this thread alone
        setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + NICE);
    pthread_mutex_lock(&q->mu);
    while (!q->closed) {
        bt_turn *turn = bt_turns_take(&q->turns[self->lane]);
        if (!turn) {
            bt_cond_wait(&q->filled[self->lane], &q->mu, bt_now_ns() + 1000000000);
            continue;
        }
        work_one(q, self, &text, turn);
        /* What ended may have been in the way of its party's next, for the other thread. */
        if (long_lane) pthread_cond_signal(&q->filled[self->lane]);
    }
    pthread_mutex_unlock(&q->mu);
    for (int i = 0; i < BT_UNITS_MAX; i++) bt_encoder_close(encoder[i]);
    return NULL;
}

bt_status bt__works_open(bt_front *f, bt_err *err)
{
    bt_works *q = &f->works;
    pthread_mutex_init(&q->mu, NULL);
    for (int lane = 0; lane < BT_LANES; lane++) bt_cond_init(&q->filled[lane]);
    q->open = true;
    for (int lane = 0; lane < BT_LANES; lane++) {
        bt_status st = bt_turns_init(&q->turns[lane], bounds, err);
        if (st) return st;
    }
    for (int i = 0; i < BT_WORKS_THREADS; i++) {
        q->thread[i] = (bt_works_thread){.front = f, .lane = i == 0 ? LANE_SHORT : LANE_LONG};
        int rc = pthread_create(&q->thread[i].id, NULL, works_main, &q->thread[i]);
        if (rc) return bt_err_set(err, BT_ENOMEM, rc, "cannot start a thread: %s", strerror(rc));
        q->started++;
    }
    return BT_OK;
}

void bt__works_close(bt_front *f)
{
    bt_works *q = &f->works;
    bt_turn *turn;
    if (!q->open) return;
    pthread_mutex_lock(&q->mu);
    q->closed = true;
    for (int i = 0; i < q->started; i++)
        if (q->thread[i].now) atomic_store(&q->thread[i].now->cancelled, true);
    for (int lane = 0; lane < BT_LANES; lane++) pthread_cond_broadcast(&q->filled[lane]);
    pthread_mutex_unlock(&q->mu);
    for (int i = 0; i < q->started; i++) pthread_join(q->thread[i].id, NULL);
    for (int lane = 0; lane < BT_LANES; lane++) {
        while ((turn = bt_turns_take(&q->turns[lane])) != NULL) {
            bt_turns_end(&q->turns[lane], turn, 0);
            bt_work *w = BT_OF(bt_work, turn, turn);
            w->done(w, BT_ECLOSED);
        }
        bt_turns_release(&q->turns[lane]);
        pthread_cond_destroy(&q->filled[lane]);
    }
    pthread_mutex_destroy(&q->mu);
    q->open = false;
}
