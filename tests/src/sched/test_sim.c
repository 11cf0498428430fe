/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL sim
 * TIMEOUT 300
 * test_sim.c - the scheduler in a simulated world (sim.h): 1,000 random worlds, and fairness
 * measured.
 *
 *     test_sim [seed]      replays one world and prints what happened in it */
#include "sim.h"
#include "base/clock.h"
#include "base/mem.h"
#include <string.h>

int64_t sim_pick(sim *w, int64_t lo, int64_t hi)
{
    return lo + (int64_t)(bt_rng_u64(w->seed, w->draws++) % (uint64_t)(hi - lo + 1));
}

void sim_open(sim *w)
{
    bt_err err;
    REQUIRE(bt_sched_open(&w->config, &w->s, &err) == BT_OK);
    w->r = bt_must(bt_calloc(SIM_REQS, sizeof *w->r));
}

void sim_close(sim *w)
{
    bt_sched_close(w->s);
    bt_free(w->r);
}

sim_req *sim_add(sim *w, int account, int64_t at, int prompt, int max_tokens, int out, int n_seq)
{
    SIM_CHECK(w, w->n < SIM_REQS, NULL);
    sim_req *r = &w->r[w->n++];
    *r = (sim_req){.q = {.id = (uint64_t)w->n,
                         .account = w->a[account].a,
                         .prompt_tokens = prompt,
                         .max_tokens = max_tokens,
                         .n_seq = n_seq},
                   .account = account,
                   .out_tokens = out,
                   .arrive_at = at,
                   .cancel_at = SIM_NEVER,
                   .reply_at = SIM_NEVER,
                   .aged_at = SIM_NEVER,
                   .prompt_left = prompt};
    return r;
}

static void push(sim *w, bt_sched_event ev)
{
    SIM_CHECK(w, w->n_ev < SIM_EVENTS, NULL);
    w->ev[w->n_ev++] = ev;
}

static int pages_of(const sim *w, const sim_req *r)
{
    int all = (r->q.prompt_tokens + r->q.max_tokens + w->page_tokens - 1) / w->page_tokens;
    int shared = r->q.n_seq > 1 ? r->q.prompt_tokens / w->page_tokens : 0;
    return shared + (all - shared) * r->q.n_seq;
}

/* The model ledger. */

static void ledger_reply(sim *w, sim_req *r)
{
    sim_account *a = &w->a[r->account];
    int64_t left = a->limit_us - a->used_us - a->held_us;
    r->reply_at = SIM_NEVER;
    if (r->state == SIM_DONE) return; // a top-up whose request ended meanwhile: its hold is closed
    bool first = !r->hold_open;
    if (first && (left <= 0 || sim_pick(w, 0, 99) < w->refuse_percent)) {
        push(w, (bt_sched_event){.type = BT_EV_REFUSED, .request = r->q.id});
        return;
    }
    int64_t add = BT_MAX(0, BT_MIN(r->want_us - r->held_us, left));
    r->held_us += add;
    a->held_us += add;
    r->hold_open = true;
    if (first && r->state == SIM_HOLDING) {
        r->state = SIM_QUEUED;
        r->queued_at = w->now;
        bool alone = true;
        for (int i = w->first_alive; i < w->n; i++)
            if (&w->r[i] != r && w->r[i].account == r->account && w->r[i].state == SIM_QUEUED)
                alone = false;
        if (alone) a->change_at = w->now;
    }
    push(w, (bt_sched_event){.type = first ? BT_EV_HELD : BT_EV_TOPPED_UP,
                             .request = r->q.id,
                             .amount_us = r->held_us,
                             .final = left - add <= 0});
}

static void ledger_close(sim *w, sim_req *r, int64_t used_us)
{
    sim_account *a = &w->a[r->account];
    SIM_CHECK(w, r->hold_open, r); // each hold ends, and ends once
    r->hold_open = false;
    a->held_us -= r->held_us;
    a->used_us += used_us;
    a->total_us += used_us;
    SIM_CHECK(w, used_us <= r->held_us + w->step_us_max, r); // overrun: the step in flight
}

/* The model engine. */

static bool spent(const sim_req *r)
{
    return r->used_us >= r->lease.budget_us;
}

static bool paused(const sim_req *r)
{
    return spent(r) && !r->lease.budget_final;
}

static void engine_finish(sim *w, sim_req *r, bt_finish why)
{
    int tokens = 0;
    for (int i = 0; i < r->q.n_seq; i++) tokens += r->made[i];
    r->end_now = true;
    r->end_why = BT_FINISH_COUNT; // gone from the engine
    push(w, (bt_sched_event){.type = BT_EV_FINISHED,
                             .request = r->q.id,
                             .amount_us = r->used_us,
                             .finish = why,
                             .u.finished = {w->seed % 3 ? tokens : 0}});
}

static bool engine_has(const sim_req *r)
{
    return r->state == SIM_RUNNING && !(r->end_now && r->end_why == BT_FINISH_COUNT);
}

/* Ends what must end, between steps. */
static void engine_ends(sim *w)
{
    for (int i = w->first_alive; i < w->n; i++) {
        sim_req *r = &w->r[i];
        if (!engine_has(r)) continue;
        bool all = true;
        for (int k = 0; k < r->q.n_seq; k++) all = all && r->made[k] >= r->out_tokens;
        if (all)
            engine_finish(w, r, r->out_tokens < r->q.max_tokens ? BT_FINISH_EOS : BT_FINISH_LENGTH);
        else if (r->end_now)
            engine_finish(w, r, r->end_why);
        else if (r->lease.deadline_ns <= w->now && !r->deaf)
            engine_finish(w, r, BT_FINISH_LEASE_EXPIRED);
        else if (spent(r) && r->lease.budget_final)
            engine_finish(w, r, BT_FINISH_QUOTA_EXHAUSTED);
    }
}

/* Prompts go in the order of admission. */
static sim_req *prefill_next(sim *w)
{
    sim_req *first = NULL;
    for (int i = w->first_alive; i < w->n; i++) {
        sim_req *r = &w->r[i];
        if (!engine_has(r) || spent(r) || !r->prompt_left || r->rows) continue;
        if (!first || r->lease.generation < first->lease.generation) first = r;
    }
    return first;
}

/* One step: a row for each sequence that decodes, then prompt chunks up to 256 rows in all. */
static void engine_start(sim *w)
{
    int rows = 0;
    double us = w->base_us;
    if (!w->up || w->stepping) return;
    for (int i = w->first_alive; i < w->n; i++) {
        sim_req *r = &w->r[i];
        r->rows = 0;
        if (!engine_has(r) || spent(r) || r->prompt_left) continue;
        for (int k = 0; k < r->q.n_seq; k++) r->rows += r->made[k] < r->out_tokens;
        rows += r->rows;
        us += r->rows * w->decode_us;
    }
    for (sim_req *r; rows < 256 && (r = prefill_next(w)) != NULL;) {
        r->rows = BT_MIN(r->prompt_left, 256 - rows);
        rows += r->rows;
        us += r->rows * w->prefill_us;
    }
    if (!rows) return;
    w->stepping = true;
    w->step_us = BT_MAX((int64_t)us, 1);
    w->step_us_max = BT_MAX(w->step_us_max, w->step_us);
    w->step_end = w->now + w->step_us * 1000;
}

static void engine_step_end(sim *w)
{
    int rows = 0, prefill = 0, seqs = 0;
    double weight = 0, done = 0;
    int64_t given = 0;
    w->stepping = false;
    for (int i = w->first_alive; i < w->n; i++)
        if (engine_has(&w->r[i]))
            weight += w->r[i].rows * (w->r[i].prompt_left ? w->prefill_us : w->decode_us);
    for (int i = w->first_alive; i < w->n; i++) {
        sim_req *r = &w->r[i];
        if (!engine_has(r) || !r->rows) continue;
        done += r->rows * (r->prompt_left ? w->prefill_us : w->decode_us);
        int64_t share = (int64_t)((double)w->step_us * (done / weight)) - given;
        given += share;
        r->used_us += share;
        w->a[r->account].window_us += share;
        rows += r->rows;
        if (r->prompt_left) {
            seqs++;
            prefill += r->rows;
            r->prompt_left -= r->rows;
            if (r->prompt_left == 0) {
                for (int k = 0; k < r->q.n_seq; k++) r->made[k] = 1;
                r->first_token_at = w->now;
            }
        } else {
            seqs += r->rows;
            for (int k = 0; k < r->q.n_seq; k++) r->made[k] += r->made[k] < r->out_tokens;
        }
        r->rows = 0;
        push(w, (bt_sched_event){.type = BT_EV_USED, .request = r->q.id, .amount_us = r->used_us});
    }
    w->busy_us += w->step_us;
    push(w, (bt_sched_event){.type = BT_EV_STEP,
                             .u.step = {.n_rows = rows,
                                        .n_prefill_rows = prefill,
                                        .n_seqs = seqs,
                                        .step_us = (uint64_t)w->step_us}});
    if (w->on_busy) w->on_busy(w, w->step_us);
}

static void engine_crash(sim *w)
{
    w->crash_at = SIM_NEVER;
    w->up = w->stepping = false;
    push(w, (bt_sched_event){.type = BT_EV_ENGINE_DOWN});
    for (int i = w->first_alive; i < w->n; i++) {
        sim_req *r = &w->r[i];
        r->rows = 0;
        if (!engine_has(r)) continue;
        r->end_now = true;
        r->end_why = BT_FINISH_COUNT;
    }
    w->up_at = w->now + sim_pick(w, 1, 3 * SIM_SEC);
}

static void engine_up(sim *w)
{
    w->up_at = SIM_NEVER;
    w->up = true;
    double prefill = w->prefill_us * 2, decode = w->decode_us / 2;
    if (w->seed % 7 == 0) { // first estimates far too low: one step outruns a hold
        prefill /= 200;
        decode /= 100;
    }
    push(w,
         (bt_sched_event){.type = BT_EV_ENGINE_UP,
                          .u.engine_up = {w->slots, w->n_pages, w->page_tokens, prefill, decode}});
}

/* What the scheduler said, checked against what it may say. */

static void on_ended(sim *w, sim_req *r)
{
    SIM_CHECK(w, r->state != SIM_DONE && r->state != SIM_FUTURE, r); // ends exactly once
    if (r->state == SIM_RUNNING) w->a[r->account].running_seqs -= r->q.n_seq;
    w->a[r->account].change_at = w->now;
    r->state = SIM_DONE;
    w->ended++;
    if (w->on_end) w->on_end(w, r);
}

/* Whether anonymous requests have what they may take of the engine, without one that comes now. */
static bool anonymous_full(const sim *w, const sim_req *next)
{
    int slots = next->q.n_seq, pages = pages_of(w, next), running = 0;
    for (int i = w->first_alive; i < w->n; i++) {
        const sim_req *r = &w->r[i];
        if (r == next || r->state != SIM_RUNNING || !r->q.account.anonymous) continue;
        slots += r->q.n_seq;
        pages += pages_of(w, r);
        running++;
    }
    return running && (slots > w->slots * w->config.anonymous_percent / 100 ||
                       pages > w->n_pages * w->config.anonymous_percent / 100);
}

/* Whoever is in the top line is passed neither by one who arrived later nor by one who came to the
 * line later; but by named ones while it is anonymous and those have their share. */
static void check_not_passed(sim *w, const sim_req *x)
{
    SIM_CHECK(w, !x->q.account.anonymous || !anonymous_full(w, x), x);
    for (int i = w->first_alive; i < w->n; i++) {
        const sim_req *y = &w->r[i];
        if (y == x || y->state != SIM_QUEUED || y->aged_at == SIM_NEVER) continue;
        if (y->q.n_seq > w->slots || pages_of(w, y) > w->n_pages) continue; // about to be voided
        if (y->q.account.anonymous && !x->q.account.anonymous) continue;
        SIM_CHECK(w, x->arrive_at <= y->aged_at, y);
        SIM_CHECK(w, x->aged_at <= y->aged_at, y);
    }
}

static void on_admit(sim *w, sim_req *r, const bt_sched_action *act)
{
    sim_account *a = &w->a[r->account];
    SIM_CHECK(w, w->up && r->state == SIM_QUEUED && !r->cancelled, r);
    check_not_passed(w, r);
    w->aged_admits += r->aged_at != SIM_NEVER;
    r->state = SIM_RUNNING;
    r->lease = act->lease;
    a->running_seqs += r->q.n_seq;
    a->change_at = w->now;
    SIM_CHECK(w, act->lease.deadline_ns <= w->now + r->q.account.lease_max_ns, r);
    SIM_CHECK(w, act->lease.deadline_ns > w->now, r);
    SIM_CHECK(w, act->lease.budget_us == r->held_us, r);
    SIM_CHECK(w, act->lease.generation > w->generation, r);
    w->generation = act->lease.generation;
    SIM_CHECK(w, a->running_seqs <= a->a.slots, r);
    int slots = 0, pages = 0;
    for (int i = w->first_alive; i < w->n; i++) {
        if (!engine_has(&w->r[i])) continue;
        slots += w->r[i].q.n_seq;
        pages += pages_of(w, &w->r[i]);
        SIM_CHECK(w, &w->r[i] == r || w->r[i].lease.slot != r->lease.slot, r);
    }
    SIM_CHECK(w, slots <= w->slots && pages <= w->n_pages, r);
    if (r->parts_left == 0) return;
    sim_req *next = sim_add(w, r->account, w->now, r->q.prompt_tokens, r->q.max_tokens,
                            r->out_tokens, r->q.n_seq);
    next->q.follows = true;
    next->parts_left = r->parts_left - 1;
}

/* A place is refused to, and taken from, nobody whom the bounds do not name. */
static void check_place(sim *w, const sim_req *r, const bt_sched_action *act)
{
    bool busy = act->status == BT_EBUSY, higher = false;
    SIM_CHECK(w, busy == (act->limit != BT_LIMIT_NONE), r);
    SIM_CHECK(w, !busy || !r->q.follows || w->tight, r);
    SIM_CHECK(w, !busy || (act->retry_ns >= SIM_SEC && act->places >= 1), r);
    SIM_CHECK(w, (act->type == BT_ACT_VOID) == (act->limit == BT_LIMIT_DISPLACED) || !busy, r);
    SIM_CHECK(w, act->limit != BT_LIMIT_DISPLACED || r->aged_at == SIM_NEVER, r);
    for (int i = w->first_alive; i < w->n; i++)
        if (w->r[i].arrive_at == w->now && w->r[i].q.account.cls > r->q.account.cls) higher = true;
    SIM_CHECK(w, act->limit != BT_LIMIT_DISPLACED || higher, r);
    if (act->limit == BT_LIMIT_CLASS || act->limit == BT_LIMIT_QUEUE)
        w->full_cls = BT_MAX(w->full_cls, r->q.account.cls);
    w->displaced += act->limit == BT_LIMIT_DISPLACED;
}

static void on_action(sim *w, const bt_sched_action *act)
{
    SIM_CHECK(w, act->request >= 1 && act->request <= (uint64_t)w->n, NULL);
    sim_req *r = &w->r[act->request - 1];
    w->hash = bt_hash_u64(w->hash * 31 + (uint64_t)act->type + act->request * 64) ^
              bt_hash_u64((uint64_t)(act->amount_us + act->lease.deadline_ns + w->now));
    switch (act->type) {
    case BT_ACT_HOLD:
    case BT_ACT_TOP_UP:
        SIM_CHECK(w, r->reply_at == SIM_NEVER, r);
        SIM_CHECK(w, act->amount_us > r->held_us, r);
        SIM_CHECK(w, (act->type == BT_ACT_HOLD) == (r->state == SIM_HOLDING), r);
        r->want_us = act->amount_us;
        r->reply_at = w->now + sim_pick(w, 0, w->reply_delay_ns);
        break;
    case BT_ACT_ACCEPT: SIM_CHECK(w, r->state == SIM_QUEUED, r); break;
    case BT_ACT_ADMIT: on_admit(w, r, act); break;
    case BT_ACT_BUDGET:
        SIM_CHECK(w, act->lease.generation == r->lease.generation, r);
        SIM_CHECK(w, act->lease.budget_us == r->held_us, r);
        r->lease = act->lease;
        break;
    case BT_ACT_CANCEL:
        SIM_CHECK(w, r->state == SIM_RUNNING, r);
        SIM_CHECK(w, act->lease.generation == r->lease.generation, r);
        SIM_CHECK(w, r->cancelled || (r->deaf && act->finish == BT_FINISH_LEASE_EXPIRED), r);
        if (engine_has(r)) {
            SIM_CHECK(w, !r->end_now, r); // said once
            r->end_now = true;
            r->end_why = act->finish;
        }
        break;
    case BT_ACT_POST:
        SIM_CHECK(w, r->state == SIM_RUNNING && act->amount_us == r->used_us, r);
        SIM_CHECK(w, r->end_now && r->end_why == BT_FINISH_COUNT, r); // it is out of the engine
        ledger_close(w, r, act->amount_us);
        w->posted++;
        w->expired += act->finish == BT_FINISH_LEASE_EXPIRED;
        w->exhausted += act->finish == BT_FINISH_QUOTA_EXHAUSTED;
        w->faults += act->finish == BT_FINISH_DEVICE_FAULT;
        on_ended(w, r);
        break;
    case BT_ACT_VOID:
        SIM_CHECK(w, r->state == SIM_QUEUED && act->status != BT_OK, r);
        check_place(w, r, act);
        ledger_close(w, r, 0);
        w->voided++;
        on_ended(w, r);
        break;
    case BT_ACT_REFUSE:
        SIM_CHECK(w, r->state == SIM_HOLDING && !r->hold_open && act->status != BT_OK, r);
        check_place(w, r, act);
        w->refused++;
        on_ended(w, r);
        break;
    default: sim_fail(w, "an action of a type that this version does not use", r);
    }
}

/* What must hold between calls. */
static void sim_check(sim *w)
{
    int waiting = 0, running = 0, queued = 0, anonymous = 0;
    int of_class[BT_SCHED_CLASSES] = {0}, of_group[3] = {0};
    int64_t wake = bt_sched_next_deadline(w->s);
    bool aged[SIM_ACCOUNTS] = {false}, lined[SIM_ACCOUNTS] = {false};
    uint8_t seen[SIM_REQS] = {0};
    for (int k = 0; k < w->n_accounts; k++) w->a[k].waiting = 0;
    while (w->first_alive < w->n && w->r[w->first_alive].state == SIM_DONE) w->first_alive++;
    static bt_sched_view view[SIM_REQS];
    static int listed[SIM_REQS];
    int n_listed = (int)bt_sched_list(w->s, w->now, 0, view, SIM_REQS);
    memset(listed + w->first_alive, -1, (size_t)(w->n - w->first_alive) * sizeof *listed);
    for (int i = 0; i < n_listed; i++) {
        int of = (int)view[i].request - 1;
        SIM_CHECK(w, of >= w->first_alive && of < w->n && listed[of] < 0, NULL);
        listed[of] = i;
    }
    for (int i = w->first_alive; i < w->n; i++) {
        sim_req *r = &w->r[i];
        bool here = r->state != SIM_FUTURE && r->state != SIM_DONE;
        SIM_CHECK(w, (listed[i] >= 0) == here, r);
        if (!here) continue;
        bt_sched_view v = view[listed[i]];
        running += r->state == SIM_RUNNING;
        SIM_CHECK(w, v.running == (r->state == SIM_RUNNING), r);
        if (r->state == SIM_RUNNING) { // looked at again if the engine is deaf
            bool told = r->cancelled || r->end_now || wake <= r->lease.deadline_ns + 2 * SIM_SEC;
            SIM_CHECK(w, told || w->now >= r->lease.deadline_ns + 2 * SIM_SEC, r);
            /* Whoever is paused for want of budget waits for an answer of the ledger. */
            SIM_CHECK(w, !engine_has(r) || !paused(r) || r->reply_at != SIM_NEVER, r);
            continue;
        }
        int64_t out = w->config.queue_wait_ns ? r->arrive_at + w->config.queue_wait_ns : SIM_NEVER;
        SIM_CHECK(w, r->cancelled || w->drained || w->now >= out || wake <= out, r);
        SIM_CHECK(w, r->state != SIM_QUEUED || w->now < out, r); // nobody waits too long
        waiting++;
        if (!r->q.follows) {
            of_class[r->q.account.cls]++;
            anonymous += r->q.account.anonymous;
            of_group[r->q.account.anonymous ? r->q.account.group : 0]++;
            w->a[r->account].waiting++;
        }
        if (r->state != SIM_QUEUED) continue;
        queued++;
        lined[r->account] = true;
        SIM_CHECK(w, r->aged_at == SIM_NEVER || v.aged, r); // nobody falls out of the top line
        if (v.aged && r->aged_at == SIM_NEVER) r->aged_at = w->now;
        aged[r->account] = aged[r->account] || v.aged;
        SIM_CHECK(w, v.position >= 1 && v.position <= bt_sched_waiting(w->s), r);
        SIM_CHECK(w, !seen[v.position], r); // exact positions: no two alike
        seen[v.position] = 1;
        /* Nobody of a higher class was refused for want of the place that this one has. */
        bool gives_way = r->queued_at < w->now && r->aged_at == SIM_NEVER && !w->tight &&
                         !w->a[r->account].parts;
        SIM_CHECK(w, !gives_way || r->q.account.cls >= w->full_cls, r);
    }
    w->full_cls = 0;
    SIM_CHECK(w, waiting == bt_sched_waiting(w->s) && running == bt_sched_running(w->s), NULL);
    for (int c = 0, below = 0; c < BT_SCHED_CLASSES; c++) {
        below += of_class[c];
        SIM_CHECK(w, below <= (w->config.queue_max * w->config.class_percent[c] + 99) / 100, NULL);
    }
    SIM_CHECK(w, anonymous <= (w->config.queue_max * w->config.anonymous_percent + 99) / 100, NULL);
    for (int g = 1; g < 3; g++) SIM_CHECK(w, of_group[g] <= w->config.group_max, NULL);
    SIM_CHECK(w, !(w->up && queued && !running), NULL); // an idle engine, and somebody waits
    for (int k = 0; k < w->n_accounts; k++) {
        const sim_account *a = &w->a[k];
        int64_t bound = (6 + BT_MAX(2 - a->a.cls, 1)) * w->config.age_ns;
        SIM_CHECK(w, a->waiting <= a->a.queue, NULL);
        SIM_CHECK(w, a->held_us >= 0, NULL);
        if (lined[k] && a->running_seqs == 0 && w->now - a->change_at >= bound)
            SIM_CHECK(w, aged[k], NULL);
    }
    SIM_CHECK(w, wake > w->now, NULL); // else it would spin
}

static void call(sim *w)
{
    bt_sched_action act[64];
    const bt_sched_event *ev = w->ev;
    size_t n_ev = w->n_ev, n;
    w->n_ev = 0;
    do {
        n = bt_sched_step(w->s, w->now, ev, n_ev, act, w->max_actions);
        n_ev = 0;
        w->calls++;
        for (size_t i = 0; i < n; i++) on_action(w, &act[i]);
    } while (n == w->max_actions);
}

static int64_t next_time(const sim *w)
{
    int64_t t = BT_MIN(w->up_at, w->drain_at);
    if (w->up) t = BT_MIN(t, BT_MAX(w->crash_at, w->now));
    t = BT_MIN(t, bt_sched_next_deadline(w->s));
    if (w->stepping) t = BT_MIN(t, w->step_end);
    for (int i = w->first_alive; i < w->n; i++) {
        const sim_req *r = &w->r[i];
        if (r->state == SIM_FUTURE) t = BT_MIN(t, r->arrive_at);
        if (r->state != SIM_FUTURE && r->state != SIM_DONE && !r->cancelled)
            t = BT_MIN(t, BT_MAX(r->cancel_at, w->now));
        t = BT_MIN(t, r->reply_at);
        if (engine_has(r) && !w->stepping) {
            if (!r->deaf) t = BT_MIN(t, BT_MAX(r->lease.deadline_ns, w->now));
            if (r->end_now || (spent(r) && r->lease.budget_final)) t = w->now;
        }
    }
    return t;
}

static void collect(sim *w)
{
    if (w->stepping && w->step_end <= w->now) engine_step_end(w);
    if (w->up && !w->stepping) engine_ends(w);
    for (int i = w->first_alive; i < w->n; i++) {
        sim_req *r = &w->r[i];
        if (r->state == SIM_FUTURE && r->arrive_at <= w->now) {
            r->state = SIM_HOLDING;
            push(w, (bt_sched_event){.type = BT_EV_SUBMIT, .u.submit = r->q});
        }
        if (r->reply_at <= w->now) ledger_reply(w, r);
        if (r->cancel_at <= w->now && !r->cancelled && r->state != SIM_DONE &&
            r->state != SIM_FUTURE) {
            r->cancelled = true;
            for (int k = 0; k < 2; k++) // twice: it must be idempotent
                push(w, (bt_sched_event){.type = BT_EV_CANCEL, .request = r->q.id});
        }
    }
    if (w->crash_at <= w->now && w->up) engine_crash(w);
    if (w->up_at <= w->now) engine_up(w);
    if (w->drain_at <= w->now) {
        w->drain_at = SIM_NEVER;
        w->drained = true;
        push(w, (bt_sched_event){.type = BT_EV_DRAIN});
    }
}

void sim_run(sim *w, int64_t until_ns)
{
    for (int64_t t; (t = next_time(w)) <= until_ns && t != SIM_NEVER;) {
        SIM_CHECK(w, t >= w->now, NULL);
        w->now = t;
        collect(w);
        call(w);
        engine_start(w);
        sim_check(w);
    }
}

/* Random worlds. */

static void random_accounts(sim *w)
{
    w->n_accounts = (int)sim_pick(w, 1, 12);
    for (int k = 0; k < w->n_accounts; k++) {
        sim_account *a = &w->a[k];
        a->a = (bt_sched_account){.id = (uint64_t)k + 1,
                                  .cls = (int32_t)sim_pick(w, 0, 2),
                                  .weight = (double)sim_pick(w, 1, 8) / 2,
                                  .slots = (int32_t)sim_pick(w, 1, 4),
                                  .queue = (int32_t)sim_pick(w, 1, 20),
                                  .lease_max_ns = sim_pick(w, 1, 60) * SIM_SEC / 2,
                                  .anonymous = sim_pick(w, 0, 1) == 0,
                                  .group = (uint64_t)sim_pick(w, 0, 2)};
        a->limit_us = sim_pick(w, 0, 3) ? sim_pick(w, 100000, 20000000) : 1000000000;
    }
}

static void random_requests(sim *w)
{
    int n = (int)sim_pick(w, 20, 160);
    int64_t span = sim_pick(w, 1, 20) * SIM_SEC * (sim_pick(w, 0, 1) ? 1 : 3) / 3;
    for (int i = 0; i < n; i++) {
        int account = (int)sim_pick(w, 0, w->n_accounts - 1);
        int32_t slots = w->a[account].a.slots;
        int max_tokens = (int)sim_pick(w, 1, 60);
        int n_seq = sim_pick(w, 0, 5) ? 1 : (int)sim_pick(w, 1, slots + 1);
        sim_req *r = sim_add(w, account, sim_pick(w, 0, span), (int)sim_pick(w, 1, 300), max_tokens,
                             (int)sim_pick(w, 1, max_tokens), n_seq);
        if (sim_pick(w, 0, 3) == 0) r->q.lease_ns = sim_pick(w, 1, 20 * SIM_SEC);
        if (sim_pick(w, 0, 5) == 0) r->cancel_at = r->arrive_at + sim_pick(w, 0, 10 * SIM_SEC);
        r->deaf = sim_pick(w, 0, 15) == 0;
        if (sim_pick(w, 0, 9) == 0) r->parts_left = (int)sim_pick(w, 1, 12);
        if (r->parts_left) w->a[account].parts = true;
    }
}

/* A world from a seed: one in four with tables too small for it, one in three with crashes. */
static sim *random_world(uint64_t seed, const char *replay)
{
    sim *w = bt_must(bt_calloc(1, sizeof *w));
    *w = (sim){.seed = seed, .replay = replay, .crash_at = SIM_NEVER, .drain_at = SIM_NEVER};
    bt_sched_config_init(&w->config);
    w->config.age_ns = sim_pick(w, 1, 50) * SIM_SEC / 10;
    w->config.bypass_ns = sim_pick(w, 0, 20) * SIM_SEC / 10;
    w->config.queue_wait_ns = sim_pick(w, 0, 2) ? sim_pick(w, 1, 60) * SIM_SEC : 0;
    w->config.hold_factor = 1 + (double)sim_pick(w, 0, 10) / 10;
    w->config.class_percent[1] = (int32_t)sim_pick(w, 1, 100);
    w->config.class_percent[0] = (int32_t)sim_pick(w, 1, w->config.class_percent[1]);
    w->config.anonymous_percent = (int32_t)sim_pick(w, 1, 100);
    w->config.group_max = (int32_t)sim_pick(w, 1, 30);
    bool tight = seed % 4 == 1;
    w->config.queue_max = (int32_t)sim_pick(w, 1, tight ? 10 : 100);
    w->config.requests_max = w->config.queue_max + (int32_t)sim_pick(w, 0, tight ? 3 : 100);
    w->config.accounts_max = (int32_t)sim_pick(w, 1, tight ? 4 : 20);
    w->tight = w->config.accounts_max < 12 || w->config.requests_max < w->config.queue_max + 20;
    w->slots = (int)sim_pick(w, 1, 8);
    w->page_tokens = 16;
    w->n_pages = (int)sim_pick(w, 20, 200);
    w->prefill_us = (double)sim_pick(w, 10, 1000);
    w->decode_us = (double)sim_pick(w, 500, 20000);
    w->base_us = (double)sim_pick(w, 0, 5000);
    w->refuse_percent = sim_pick(w, 0, 5);
    w->reply_delay_ns = sim_pick(w, 0, 50) * SIM_MS;
    w->max_actions = (size_t)sim_pick(w, 1, 64);
    w->up_at = sim_pick(w, 0, 1) ? 0 : sim_pick(w, 0, 5 * SIM_SEC);
    if (seed % 3 == 0) w->crash_at = sim_pick(w, 0, 30 * SIM_SEC);
    if (seed % 5 == 0) w->drain_at = sim_pick(w, 0, 60 * SIM_SEC);
    random_accounts(w);
    sim_open(w);
    random_requests(w);
    return w;
}

typedef struct tally {
    long calls, ended, refused, voided, displaced, posted, aged, expired, exhausted, faults;
} tally;

static uint64_t run_seed(uint64_t seed, const char *replay, tally *t)
{
    sim *w = random_world(seed, replay);
    sim_run(w, SIM_NEVER);
    /* It came to rest: everybody has ended, every hold is closed, the table is empty. */
    SIM_CHECK(w, w->ended == w->n, NULL);
    for (int k = 0; k < w->n_accounts; k++) SIM_CHECK(w, w->a[k].held_us == 0, NULL);
    SIM_CHECK(w, bt_sched_waiting(w->s) == 0 && bt_sched_running(w->s) == 0, NULL);
    SIM_CHECK(w, bt_sched_next_deadline(w->s) == INT64_MAX, NULL);
    t->calls += w->calls;
    t->ended += w->ended;
    t->refused += w->refused;
    t->voided += w->voided;
    t->displaced += w->displaced;
    t->posted += w->posted;
    t->aged += w->aged_admits;
    t->expired += w->expired;
    t->exhausted += w->exhausted;
    t->faults += w->faults;
    uint64_t hash = w->hash;
    sim_close(w);
    bt_free(w);
    return hash;
}

static void tally_print(const tally *t)
{
    fprintf(stderr,
            "%ld calls, %ld requests: %ld refused, %ld voided (%ld displaced), %ld posted (%ld "
            "lease_expired, %ld quota_exhausted, %ld device_fault), %ld admitted from the top "
            "line\n",
            t->calls, t->ended, t->refused, t->voided, t->displaced, t->posted, t->expired,
            t->exhausted, t->faults, t->aged);
}

static const char *self = "test_sim";

static void a_thousand_worlds(void)
{
    tally t = {0};
    int64_t t0 = bt_now_ns();
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        uint64_t hash = run_seed(seed, self, &t);
        if (seed % 10 == 0)
            CHECK(run_seed(seed, self, &(tally){0}) == hash); // same seed, same trace
    }
    fprintf(stderr, "1000 worlds in %.1f s: ", (double)(bt_now_ns() - t0) / 1e9);
    tally_print(&t);
    /* The worlds must have been worth it: every way to end, often. */
    CHECK(t.refused > 1000 && t.voided > 1000 && t.posted > 10000);
    CHECK(t.displaced > 100);
    CHECK(t.expired > 100 && t.exhausted > 100 && t.faults > 100 && t.aged > 1000);
}

/* Events of any type, about anybody, in any order: each accepted submit still ends exactly once. */
static void events_in_any_order_break_nothing(void)
{
    enum { IDS = 40 };
    for (uint64_t seed = 1; seed <= 300; seed++) {
        sim *w = random_world(seed, self); // for its configuration; its requests stay at home
        bool alive[IDS + 1] = {false}, gone = false;
        bt_sched_action act[64];
        for (int i = 0; i < 2200; i++) {
            bt_sched_event ev = {.type = (bt_sched_event_type)sim_pick(w, 0, BT_EV_TICK),
                                 .request = (uint64_t)sim_pick(w, 0, IDS),
                                 .amount_us = sim_pick(w, -10, 1000000),
                                 .final = sim_pick(w, 0, 1) == 0,
                                 .finish = (bt_finish)sim_pick(w, 0, BT_FINISH_COUNT - 1)};
            if (i >= 2000) { // the world's end: whoever is left ends now
                ev.type = i % 2 ? BT_EV_FINISHED : BT_EV_REFUSED;
                ev.request = (uint64_t)(i - 2000) / 2 % (IDS + 1);
                if (i == 2000) ev.type = BT_EV_DRAIN;
            } else if (ev.type == BT_EV_DRAIN) {
                ev.type = BT_EV_TICK;
            } else if (ev.type == BT_EV_SUBMIT) {
                ev.u.submit = w->r[sim_pick(w, 0, w->n - 1)].q;
                ev.u.submit.id = ev.request;
                ev.u.submit.max_tokens = (int32_t)sim_pick(w, -1, 100);
            } else if (ev.type == BT_EV_ENGINE_UP) {
                ev.u.engine_up.slots = (int32_t)sim_pick(w, -1, 2000);
                ev.u.engine_up.n_pages = (int32_t)sim_pick(w, -1, 1000);
                ev.u.engine_up.page_tokens = (int32_t)sim_pick(w, -1, 32);
            } else if (ev.type == BT_EV_STEP) {
                ev.u.step.n_rows = (int32_t)sim_pick(w, -9, 99);
                ev.u.step.n_prefill_rows = (int32_t)sim_pick(w, -9, 99);
                ev.u.step.step_us = (uint64_t)sim_pick(w, 0, 1000000);
            }
            if (ev.type == BT_EV_SUBMIT && ev.request) alive[ev.request] = true;
            w->now += sim_pick(w, 0, 200) * SIM_MS;
            size_t n = 0, n_ev = 1;
            do {
                n = bt_sched_step(w->s, w->now, &ev, n_ev, act, w->max_actions);
                n_ev = 0;
                for (size_t k = 0; k < n; k++) {
                    if (act[k].type != BT_ACT_REFUSE && act[k].type != BT_ACT_VOID &&
                        act[k].type != BT_ACT_POST)
                        continue;
                    SIM_CHECK(w, alive[act[k].request], NULL);
                    alive[act[k].request] = false;
                }
            } while (n == w->max_actions);
            bt_sched_view v[4];
            int64_t here = bt_sched_waiting(w->s) + bt_sched_running(w->s);
            SIM_CHECK(w, (int64_t)bt_sched_list(w->s, w->now, 0, v, 4) == here, NULL);
            gone = here == 0;
        }
        SIM_CHECK(w, gone, NULL);
        for (int i = 1; i <= IDS; i++) SIM_CHECK(w, !alive[i], NULL);
        sim_close(w);
        bt_free(w);
    }
}

#include "sim_fair.h"

int main(int argc, char **argv)
{
    self = argv[0];
    if (argc > 1) {
        tally t = {0};
        run_seed(strtoull(argv[1], NULL, 10), self, &t);
        tally_print(&t);
        return TEST_END();
    }
    RUN(a_thousand_worlds);
    RUN(events_in_any_order_break_nothing);
    RUN(five_backlogged_accounts_share_evenly);
    RUN(a_slow_device_shares_evenly_too);
    RUN(weights_share_one_two_four);
    RUN(light_accounts_hardly_feel_a_flood);
    return TEST_END();
}
