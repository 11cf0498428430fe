/* SPDX-License-Identifier: Apache-2.0 */
/* LAYER sched
 * sched.c - what does a scheduling decision cost when many wait?
 *
 * Fills the queue, then times single calls of bt_sched_step: a submit with its hold, a cancel from
 * the middle of the queue, and a turn (a request ends, its successor is admitted and the place in
 * the queue is filled again: four events). Bound: 5 us an event, with 100,000 waiting.
 *
 *     bench-sched [turns] */
#include "sched/sched.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { TOOK_MAX = 1 << 16 };

typedef struct world {
    bt_sched *s;
    int64_t now, hold_us;
    uint32_t *took; // [TOOK_MAX] owned: ns of the last events
    size_t n_took;
    uint64_t next_id, running, n_accounts;
    bt_sched_action act[64];
} world;

/* One call with one event; notes what it admitted and how long it took. */
static int64_t call(world *w, const bt_sched_event *ev)
{
    int64_t t0 = bt_now_ns();
    size_t n = bt_sched_step(w->s, w->now, ev, 1, w->act, 64);
    int64_t took = bt_now_ns() - t0;
    for (size_t i = 0; i < n; i++) {
        if (w->act[i].type == BT_ACT_ADMIT) w->running = w->act[i].request;
        if (w->act[i].type == BT_ACT_HOLD) w->hold_us = w->act[i].amount_us;
    }
    w->took[w->n_took++ % TOOK_MAX] = (uint32_t)took;
    return took;
}

static int64_t enter(world *w)
{
    uint64_t id = ++w->next_id, dice = bt_rng_u64(1, id);
    uint64_t account = dice % w->n_accounts;
    bt_sched_event ev = {.type = BT_EV_SUBMIT};
    ev.u.submit = (bt_sched_request){.id = id,
                                     .account = {.id = account + 1,
                                                 .cls = (int32_t)(account % BT_SCHED_CLASSES),
                                                 .weight = 1,
                                                 .slots = 4,
                                                 .queue = INT32_MAX,
                                                 .lease_max_ns = 60000000000},
                                     .prompt_tokens = 1 + (int32_t)((dice >> 20) % 1000),
                                     .max_tokens = 1 + (int32_t)((dice >> 32) % 1000),
                                     .n_seq = 1,
                                     .lease_ns = (int64_t)(1 + (dice >> 40) % 60) * 1000000000};
    int64_t took = call(w, &ev);
    ev = (bt_sched_event){.type = BT_EV_HELD, .request = id, .amount_us = w->hold_us};
    return took + call(w, &ev);
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void measure(int waiting, int accounts, int turns)
{
    bt_sched_config c;
    bt_err err;
    bt_sched_config_init(&c);
    c.queue_max = waiting + 16;
    c.requests_max = waiting + 64;
    c.accounts_max = accounts;
    c.queue_wait_ns = 0;
    world w = {.n_accounts = (uint64_t)accounts, .now = 1};
    w.took = bt_must(bt_calloc(TOOK_MAX, sizeof *w.took));
    if (bt_sched_open(&c, &w.s, &err)) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    int64_t enter_ns = 0, cancel_ns = 0, turn_ns = 0;
    for (int i = 0; i < waiting; i++, w.now += 1000) enter_ns += enter(&w);
    bt_sched_event up = {.type = BT_EV_ENGINE_UP, .u.engine_up = {1, 1 << 20, 16, 100, 1000}};
    call(&w, &up);
    w.n_took = 0;
    int cancels = BT_SCHED_CLASSES * 333;
    for (int i = 0; i < cancels; i++) {
        bt_sched_event ev = {.type = BT_EV_CANCEL,
                             .request = 1 + bt_rng_u64(2, (uint64_t)i) % (uint64_t)waiting};
        if (ev.request == w.running) continue;
        cancel_ns += call(&w, &ev);
    }
    for (int i = 0; i < turns; i++, w.now += 20000000) {
        bt_sched_event used = {.type = BT_EV_USED, .request = w.running, .amount_us = 100000};
        bt_sched_event end = {.type = BT_EV_FINISHED,
                              .request = w.running,
                              .amount_us = 200000,
                              .finish = BT_FINISH_EOS};
        turn_ns += call(&w, &used) + call(&w, &end) + enter(&w);
    }
    size_t n = w.n_took < TOOK_MAX ? w.n_took : TOOK_MAX;
    qsort(w.took, n, sizeof *w.took, compare);
    int64_t t0 = bt_now_ns();
    bt_sched_view v;
    size_t alive = bt_sched_list(w.s, w.now, 0, &v, 1);
    int64_t walk_ns = bt_now_ns() - t0;
    printf("%8zu %9d %12.2f %12.2f %12.2f %12.2f %12.1f\n", alive, accounts,
           (double)enter_ns / waiting / 2e3, (double)cancel_ns / cancels / 1e3,
           (double)turn_ns / turns / 4e3, w.took[n * 99 / 100] / 1e3, (double)walk_ns / 1e3);
    bt_free(w.took);
    bt_sched_close(w.s);
}

int main(int argc, char **argv)
{
    int turns = argc > 1 ? atoi(argv[1]) : 20000;
    if (turns < 1) turns = 1;
    printf("microseconds an event: means, p99 of single ones; then one walk for positions\n");
    printf("%8s %9s %12s %12s %12s %12s %12s\n", "waiting", "accounts", "submit+held", "cancel",
           "turn", "p99", "positions");
    static const int waiting[] = {1000, 10000, 100000}, accounts[] = {100, 10000};
    for (size_t i = 0; i < sizeof waiting / sizeof *waiting; i++)
        for (size_t k = 0; k < sizeof accounts / sizeof *accounts; k++)
            measure(waiting[i], accounts[k], turns);
    return 0;
}
