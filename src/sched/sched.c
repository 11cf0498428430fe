/* SPDX-License-Identifier: Apache-2.0 */
/* sched.c - the state machine: events in, actions out.
 *
 * DESIGN   An event changes state at once; what it says to the world goes to a ring that step()
 *          empties first. What one event may cause in any number (ends of requests, admissions,
 *          timeouts) is not written down but left in the state (the `ending` list, the order, the
 *          clock's due work) and turned into actions only while there is room: so a full array
 *          loses nothing. The ring is emptied before the ending list, so a request's end is always
 *          its last action.
 * INVARIANTS
 *   1. A request leaves the table by one action of REFUSE, VOID, POST, and by no other way.
 *   2. Seats and pages of running requests plus the free ones are the engine's.
 *   3. An account's running_seqs <= slots; n_waiting counts its HOLDING and QUEUED requests, and so
 *      do n_class, n_anonymous and group_waiting theirs. */
#include "sched/state.h"
#include "base/mem.h"
#include <string.h>

static const int64_t overdue_ns = 2000000000;    // past a deadline the engine should have kept
static const int64_t retry_min_ns = 1000000000;  // of a refusal's hint
static const int64_t retry_max_ns = 60000000000; //
static const int64_t lease_margin_us = 1000000;  // steps in flight when a lease ends
static const int64_t retag_ns = 20000000;        // it walks all accounts that wait
static const double tag_ratio = 1.25;
static const double account_gain = 0.25; // of running means
static const double global_gain = 1.0 / 16;

void bt_sched_config_init(bt_sched_config *c)
{
    *c = (bt_sched_config){
        .queue_max = 1024,
        .class_percent = {50, 75, 100},
        .anonymous_percent = 75,
        .group_max = 64,
        .requests_max = 2048,
        .accounts_max = 4096,
        .age_ns = 10000000000,
        .bypass_ns = 5000000000,
        .queue_wait_ns = 600000000000,
        .hold_factor = 1.5,
        .hold_min_us = 1000,
        .default_prefill_us_per_token = 1000,
        .default_decode_us_per_token = 20000,
    };
}

static bt_status sched_check(const bt_sched_config *c, bt_err *err)
{
    if (c->queue_max < 1 || c->accounts_max < 1 || c->requests_max < c->queue_max)
        return bt_err_set(err, BT_EINVAL, 0,
                          "scheduler tables of %d waiting, %d requests and %d accounts make no "
                          "sense; each must be at least 1 and requests at least the waiting",
                          c->queue_max, c->requests_max, c->accounts_max);
    if (c->age_ns < 1 || c->age_ns > INT64_MAX / 1000 || c->bypass_ns < 0 || c->queue_wait_ns < 0 ||
        !(c->hold_factor >= 1 && c->hold_factor <= 1000) || c->hold_min_us < 1)
        return bt_err_set(err, BT_EINVAL, 0,
                          "scheduler times and holds must be positive and the hold factor in "
                          "[1, 1000]");
    int32_t below = 1;
    for (int i = 0; i < BT_SCHED_CLASSES; below = c->class_percent[i++])
        if (c->class_percent[i] < below || c->class_percent[i] > 100)
            return bt_err_set(err, BT_EINVAL, 0,
                              "the classes' shares of the queue must rise from 1 to 100 percent");
    if (below != 100 || c->anonymous_percent < 1 || c->anonymous_percent > 100 || c->group_max < 1)
        return bt_err_set(err, BT_EINVAL, 0,
                          "the highest class must have 100 percent of the queue, anonymous "
                          "accounts 1 to 100, and a group a place at least");
    return BT_OK;
}

static bool sched_alloc(bt_sched *s)
{
    size_t requests = (size_t)s->config.requests_max, accounts = (size_t)s->config.accounts_max;
    s->req = bt_calloc(requests, sizeof *s->req);
    s->account = bt_calloc(accounts, sizeof *s->account);
    s->ring = bt_calloc(BT__RING, sizeof *s->ring);
    s->walk = bt_calloc(1, sizeof *s->walk);
    if (!s->req || !s->account || !s->ring || !s->walk) return false;
    s->walk->cursor = bt_calloc(accounts, sizeof *s->walk->cursor);
    s->walk->tag = bt_calloc(accounts, sizeof *s->walk->tag);
    s->walk->rank = bt_calloc(BT_SCHED_EXACT, sizeof *s->walk->rank);
    if (!s->walk->cursor || !s->walk->tag || !s->walk->rank) return false;
    for (int c = 0; c < BT_SCHED_CLASSES; c++)
        if (!bt__heap_init(&s->order[BT__NAMED][c], s->config.accounts_max) ||
            !bt__heap_init(&s->order[BT__ANONYMOUS][c], s->config.accounts_max) ||
            !bt__heap_init(&s->floor[c], s->config.accounts_max) ||
            !bt__heap_init(&s->last[c], s->config.accounts_max))
            return false;
    return bt__heap_init(&s->ageing, s->config.accounts_max) &&
           bt__heap_init(&s->walk->heap, s->config.accounts_max) &&
           bt__heap_init(&s->backstop, s->config.requests_max) &&
           bt_map_reserve(&s->req_by_id, requests) && bt_map_reserve(&s->group_waiting, requests) &&
           bt_map_reserve(&s->account_by_id, accounts);
}

/* A share of n, rounded up. */
static int32_t percent_of(int32_t n, int32_t percent)
{
    return (int32_t)(((int64_t)n * percent + 99) / 100);
}

bt_status bt_sched_open(const bt_sched_config *config, bt_sched **out, bt_err *err)
{
    bt_status st = sched_check(config, err);
    if (st) return st;
    bt_sched *s = bt_calloc(1, sizeof *s);
    if (!s) return bt_err_set(err, BT_ENOMEM, 0, "no memory for the scheduler");
    s->config = *config;
    s->free_reqs = s->waits = s->running = s->ending = BT__LIST_NONE;
    s->free_accounts = s->idle = s->lined = BT__LIST_NONE;
    s->top_line[BT__NAMED] = s->top_line[BT__ANONYMOUS] = BT__LIST_NONE;
    for (int c = 0; c < BT_SCHED_CLASSES; c++)
        s->class_max[c] = percent_of(config->queue_max, config->class_percent[c]);
    if (!sched_alloc(s)) {
        bt_sched_close(s);
        return bt_err_set(err, BT_ENOMEM, 0,
                          "no memory for scheduler tables of %d requests and %d accounts; lower "
                          "the queue bound",
                          config->requests_max, config->accounts_max);
    }
    for (int32_t i = 0; i < config->requests_max; i++) BT__REQ_ADD(s, &s->free_reqs, link, i);
    for (int32_t i = 0; i < config->accounts_max; i++)
        BT__ACCOUNT_ADD(s, &s->free_accounts, link, i);
    bt__estimate_init(&s->cost, config->default_prefill_us_per_token,
                      config->default_decode_us_per_token);
    s->now_ns = INT64_MIN;
    s->version = 1;
    s->admit_gap_ns = -1;
    s->admit_last_ns = -1;
    *out = s;
    return BT_OK;
}

void bt_sched_close(bt_sched *s)
{
    if (!s) return;
    for (int c = 0; c < BT_SCHED_CLASSES; c++) {
        bt__heap_release(&s->order[BT__NAMED][c]);
        bt__heap_release(&s->order[BT__ANONYMOUS][c]);
        bt__heap_release(&s->floor[c]);
        bt__heap_release(&s->last[c]);
    }
    bt__heap_release(&s->ageing);
    bt__heap_release(&s->backstop);
    if (s->walk) {
        bt__heap_release(&s->walk->heap);
        bt_free(s->walk->cursor);
        bt_free(s->walk->tag);
        bt_free(s->walk->rank);
    }
    bt_free(s->walk);
    bt_map_release(&s->req_by_id);
    bt_map_release(&s->account_by_id);
    bt_map_release(&s->group_waiting);
    bt_free(s->req);
    bt_free(s->account);
    bt_free(s->ring);
    bt_free(s);
}

static void emit(bt_sched *s, bt_sched_action a)
{
    BT_ASSERT(s->ring_len < BT__RING); // two actions an event at most, and step() has emptied it
    s->ring[(s->ring_at + s->ring_len++) % BT__RING] = a;
}

static int32_t req_find(const bt_sched *s, uint64_t id)
{
    uint64_t ri;
    return bt_map_get(&s->req_by_id, id, &ri) ? (int32_t)ri : -1;
}

static int32_t group_count(const bt_sched *s, uint64_t group)
{
    uint64_t n;
    return group && bt_map_get(&s->group_waiting, group, &n) ? (int32_t)n : 0;
}

/* One of the account's requests more waits, or one less. */
static void count_waiting(bt_sched *s, bt__account *a, int32_t by)
{
    s->n_waiting += by;
    a->n_waiting += by;
    s->n_class[a->cls] += by;
    if (a->side == BT__ANONYMOUS) s->n_anonymous += by;
    if (!a->group) return;
    int32_t n = group_count(s, a->group) + by;
    bool ok = n ? bt_map_put(&s->group_waiting, a->group, (uint64_t)n)
                : bt_map_remove(&s->group_waiting, a->group);
    BT_ASSERT(ok); // room was reserved at open
}

/* Takes the request out of wherever it waits or runs and leaves its last action to be written. */
static void req_end(bt_sched *s, int32_t ri, bt_sched_action end)
{
    bt__req *r = &s->req[ri];
    bt__account *a = &s->account[r->account];
    if (r->state == BT__REQ_HOLDING || r->state == BT__REQ_QUEUED) {
        BT__REQ_REMOVE(s, &s->waits, wait, ri);
        count_waiting(s, a, -1);
        if (s->n_waiting == 0) s->admit_last_ns = -1;
        if (r->state == BT__REQ_QUEUED) bt__line_remove(s, ri);
    } else {
        BT_ASSERT(r->state == BT__REQ_RUNNING);
        bt__engine *e = &s->engine;
        BT__REQ_REMOVE(s, &s->running, link, ri);
        bt__heap_remove(&s->backstop, ri);
        for (int32_t i = r->lease.slot, left = r->n_seq; left > 0; i++)
            if (e->owner[i] == ri) e->owner[i] = -1, left--;
        e->slots_free += r->n_seq;
        e->pages_free += r->pages;
        if (a->side == BT__ANONYMOUS) {
            e->anonymous_seqs -= r->n_seq;
            e->anonymous_held -= r->pages;
        }
        s->n_running--;
        a->running_seqs -= r->n_seq;
        bt__account_update(s, r->account);
    }
    end.request = r->id;
    r->end = end;
    r->state = BT__REQ_ENDING;
    BT__REQ_ADD(s, &s->ending, link, ri);
    s->version++;
}

static void req_void(bt_sched *s, int32_t ri, bt_status st)
{
    bt_finish finish = st == BT_ECANCELLED ? BT_FINISH_CANCELLED : BT_FINISH_NONE;
    bt_sched_action end = {.type = BT_ACT_VOID, .status = st, .finish = finish};
    bt__req *r = &s->req[ri];
    if (r->state != BT__REQ_HOLDING) {
        req_end(s, ri, end);
    } else if (!r->doomed) { // the ledger has yet to answer
        r->doomed = true;
        r->end = end;
    }
}

/* What of a request's charge is not used yet, virtual. */
static int64_t req_pending(const bt__req *r)
{
    int64_t used = BT_MIN(r->used_us, r->charged_us);
    return bt__virtual(r->charged_us, r->weight) - bt__virtual(used, r->weight);
}

static void req_charge(bt_sched *s, bt__req *r, int64_t charged_us, int64_t used_us)
{
    int64_t delta = bt__virtual(charged_us, r->weight) - bt__virtual(r->charged_us, r->weight);
    int64_t pending = req_pending(r);
    r->charged_us = charged_us;
    r->used_us = used_us;
    bt__account_charge(s, r->account, delta, req_pending(r) - pending);
}

static void req_post(bt_sched *s, int32_t ri, bt_finish finish)
{
    bt__req *r = &s->req[ri];
    req_charge(s, r, r->used_us, r->used_us);
    req_end(s, ri,
            (bt_sched_action){.type = BT_ACT_POST, .amount_us = r->used_us, .finish = finish});
}

void bt__req_predict(bt_sched *s, bt__req *r)
{
    bt__account *a = &s->account[r->account];
    int64_t before = r->cost_us;
    r->predicted_us = bt__estimate_predict(&s->cost, r->prompt_tokens, r->max_tokens, r->n_seq,
                                           bt__out_tokens(s, a));
    r->cost_us = BT_MIN(r->predicted_us, BT_MAX(r->lease_ns / 1000, 1));
    if (r->state == BT__REQ_QUEUED) a->line_us += r->cost_us - before;
}

static int64_t pages_needed(const bt__engine *e, const bt__req *r)
{
    int64_t all = ((int64_t)r->prompt_tokens + r->max_tokens + e->page_tokens - 1) / e->page_tokens;
    /* Each sequence computes the prompt's last token itself, so that token's page is its own. */
    int64_t shared = r->n_seq > 1 ? (r->prompt_tokens - 1) / e->page_tokens : 0;
    return shared + (all - shared) * r->n_seq;
}

/* Whether it fits into an engine that runs nothing else; BT_OK while its sizes are not known. */
static bt_status engine_check(const bt__engine *e, const bt__req *r)
{
    if (!e->known) return BT_OK;
    if (r->n_seq > e->slots) return BT_EINVAL;
    return pages_needed(e, r) <= e->n_pages ? BT_OK : BT_ECONTEXT;
}

/* What is wrong with a request in itself; BT_OK = nothing. */
static bt_status submit_check(const bt_sched_request *q)
{
    const bt_sched_account *a = &q->account;
    bool ok = a->id && a->cls >= 0 && a->cls < BT_SCHED_CLASSES && a->weight >= 1e-6 &&
              a->weight <= 1e6 && a->lease_max_ns > 0 && a->lease_max_ns < INT64_MAX / 4 &&
              q->n_seq >= 1 && q->n_seq <= BT_SEQS_PER_REQUEST_MAX && q->n_seq <= a->slots &&
              q->prompt_tokens >= 1 && q->max_tokens >= 1 && q->lease_ns >= 0;
    return ok ? BT_OK : BT_EINVAL;
}

static void refuse(bt_sched *s, uint64_t id, bt_sched_action why)
{
    why.type = BT_ACT_REFUSE;
    why.request = id;
    emit(s, why);
}

/* ahead: how many must leave before another try makes sense: an eighth of a full queue, or one of
 * the account's own. */
static bt_sched_action full(const bt_sched *s, bt_sched_limit limit, int32_t places, int32_t ahead)
{
    double gap = s->admit_gap_ns >= 0 ? s->admit_gap_ns : (double)retry_min_ns;
    double wait = gap * BT_MAX(ahead, 1);
    int64_t retry_ns = wait < (double)retry_min_ns   ? retry_min_ns
                       : wait > (double)retry_max_ns ? retry_max_ns
                                                     : (int64_t)wait;
    return (bt_sched_action){
        .status = BT_EBUSY, .limit = limit, .places = places, .retry_ns = retry_ns};
}

/* Looks for a place (sched.h, BOUNDS): why there is none, status BT_OK if there is one. *victim:
 * who must give it up, -1 = nobody. */
static bt_sched_action place_find(const bt_sched *s, const bt_sched_request *q, int32_t *victim)
{
    const bt_sched_config *c = &s->config;
    const bt_sched_account *who = &q->account;
    int32_t ai = bt__account_find(s, who->id), own = ai < 0 ? 0 : s->account[ai].n_waiting;
    int32_t group = who->anonymous ? group_count(s, who->group) : 0;
    int32_t anonymous = percent_of(s->class_max[who->cls], c->anonymous_percent);
    int32_t below = 0;
    *victim = -1;
    if (q->follows) return (bt_sched_action){.status = BT_OK};
    if (own >= who->queue)
        return full(s, BT_LIMIT_ACCOUNT, who->queue, s->n_waiting / BT_MAX(own, 1));
    if (group >= c->group_max) return full(s, BT_LIMIT_GROUP, c->group_max, s->n_waiting / group);
    if (who->anonymous && s->n_anonymous >= anonymous)
        return full(s, BT_LIMIT_ANONYMOUS, anonymous, s->n_anonymous / 8);
    for (int32_t cls = 0; cls < BT_SCHED_CLASSES; cls++) {
        below += s->n_class[cls];
        if (cls < who->cls || below < s->class_max[cls] || *victim >= 0) continue;
        *victim = bt__order_last(s, who->cls);
        bool whole = s->class_max[cls] == c->queue_max;
        if (*victim < 0)
            return full(s, whole ? BT_LIMIT_QUEUE : BT_LIMIT_CLASS, s->class_max[cls], below / 8);
    }
    return (bt_sched_action){.status = BT_OK};
}

static void on_submit(bt_sched *s, const bt_sched_request *q)
{
    if (q->id == 0 || req_find(s, q->id) >= 0) return;
    bt_status st = s->draining ? BT_ECLOSED : submit_check(q);
    bt__req r = {.id = q->id,
                 .state = BT__REQ_HOLDING,
                 .prompt_tokens = q->prompt_tokens,
                 .max_tokens = q->max_tokens,
                 .n_seq = q->n_seq,
                 .follows = q->follows,
                 .submit_ns = s->now_ns,
                 .blocked_ns = -1,
                 .weight = q->account.weight};
    if (st == BT_OK) st = engine_check(&s->engine, &r);
    if (st) return refuse(s, q->id, (bt_sched_action){.status = st});
    int32_t victim, ri = s->free_reqs.head;
    bt_sched_action why = place_find(s, q, &victim);
    if (why.status) return refuse(s, q->id, why);
    int32_t ai = ri < 0 ? -1 : bt__account_get(s, &q->account);
    if (ai < 0) // tables smaller than what may be alive at a time
        return refuse(s, q->id, full(s, BT_LIMIT_QUEUE, s->config.queue_max, s->n_waiting / 8));
    bt__account *a = &s->account[ai];
    if (victim >= 0) {
        bt_sched_action end = full(s, BT_LIMIT_DISPLACED, s->config.queue_max, s->n_waiting / 8);
        end.type = BT_ACT_VOID;
        req_end(s, victim, end);
    }

    int64_t lease_max = q->account.lease_max_ns;
    r.lease_ns = q->lease_ns > 0 && q->lease_ns < lease_max ? q->lease_ns : lease_max;
    r.account = ai;
    r.seq = ++s->seq;
    r.predicted_us = bt__estimate_predict(&s->cost, q->prompt_tokens, q->max_tokens, q->n_seq,
                                          bt__out_tokens(s, a));
    r.cost_us = BT_MIN(r.predicted_us, BT_MAX(r.lease_ns / 1000, 1));
    BT__REQ_REMOVE(s, &s->free_reqs, link, ri);
    s->req[ri] = r;
    bool ok = bt_map_put(&s->req_by_id, r.id, (uint64_t)ri);
    BT_ASSERT(ok); // room was reserved at open
    BT__REQ_ADD(s, &s->waits, wait, ri);
    bt__account_alive(s, ai, 1);
    count_waiting(s, a, 1);
    s->version++;
    double hold = (double)r.predicted_us * s->config.hold_factor;
    int64_t most = r.lease_ns / 1000 + lease_margin_us;
    int64_t amount = hold < (double)most ? (int64_t)hold : most;
    emit(s, (bt_sched_action){.type = BT_ACT_HOLD,
                              .request = r.id,
                              .amount_us = BT_MAX(amount, s->config.hold_min_us)});
}

static void on_held(bt_sched *s, int32_t ri, const bt_sched_event *ev)
{
    bt__req *r = &s->req[ri];
    if (r->state != BT__REQ_HOLDING) return;
    r->held_us = ev->amount_us;
    r->held_final = ev->final;
    if (r->doomed) {
        req_end(s, ri, r->end);
        return;
    }
    r->state = BT__REQ_QUEUED;
    bt__line_push(s, ri);
    emit(s, (bt_sched_action){.type = BT_ACT_ACCEPT, .request = r->id});
}

static void on_refused(bt_sched *s, int32_t ri)
{
    bt__req *r = &s->req[ri];
    if (r->state != BT__REQ_HOLDING) return;
    bt_sched_action end = {.type = BT_ACT_REFUSE, .status = BT_EQUOTA};
    if (r->doomed) {
        end.status = r->end.status;
        end.finish = r->end.finish;
    }
    req_end(s, ri, end);
}

/* Asks for more once half is used. The amount stays ahead of what is used already: at its budget
 * the engine pauses and reports no more use, so nobody would ask again. */
static void top_up(bt_sched *s, bt__req *r)
{
    int64_t most = r->lease_ns / 1000 + lease_margin_us;
    if (r->held_final || r->topping_up || r->used_us < r->held_us / 2 || r->held_us >= most) return;
    double rest = (double)BT_MAX(r->predicted_us - r->used_us, 0) * s->config.hold_factor;
    double ahead = BT_MAX(2.0 * (double)r->held_us, 3.0 * (double)r->used_us);
    double want = BT_MAX(ahead, (double)r->used_us + rest);
    r->topping_up = true;
    emit(s, (bt_sched_action){.type = BT_ACT_TOP_UP,
                              .request = r->id,
                              .amount_us = want < (double)most ? (int64_t)want : most});
}

static void on_used(bt_sched *s, int32_t ri, int64_t used_us)
{
    bt__req *r = &s->req[ri];
    if (r->state != BT__REQ_RUNNING || used_us <= r->used_us) return;
    req_charge(s, r, BT_MAX(r->charged_us, used_us), used_us);
    top_up(s, r);
}

static void on_topped_up(bt_sched *s, int32_t ri, const bt_sched_event *ev)
{
    bt__req *r = &s->req[ri];
    if (r->state != BT__REQ_RUNNING || !r->topping_up) return;
    r->topping_up = false;
    r->held_us = BT_MAX(r->held_us, ev->amount_us);
    r->held_final = ev->final;
    r->lease.budget_us = r->held_us;
    r->lease.budget_final = r->held_final;
    emit(s, (bt_sched_action){.type = BT_ACT_BUDGET, .request = r->id, .lease = r->lease});
    top_up(s, r); // steps in flight meanwhile may have used it
}

/* What a natural end teaches about lengths; others say more about the client than about the model.
 */
static void learn_length(bt_sched *s, const bt__req *r, const bt_sched_event *ev)
{
    if (ev->finish != BT_FINISH_EOS && ev->finish != BT_FINISH_STOP &&
        ev->finish != BT_FINISH_LENGTH)
        return;
    double tokens = (double)ev->u.finished.completion_tokens / r->n_seq;
    if (tokens <= 0) { // not told: what the device time past the prompt amounts to
        double us = (double)r->used_us - r->prompt_tokens * s->cost.prefill_us;
        tokens = us / (s->cost.decode_us * r->n_seq);
    }
    tokens = BT_MAX(1.0, BT_MIN(tokens, (double)r->max_tokens));
    bt__account *a = &s->account[r->account];
    a->out_tokens = bt__estimate_mean(bt__out_tokens(s, a), tokens, account_gain);
    s->cost.out_tokens = bt__estimate_mean(s->cost.out_tokens, tokens, global_gain);
}

static void on_finished(bt_sched *s, int32_t ri, const bt_sched_event *ev)
{
    bt__req *r = &s->req[ri];
    if (r->state != BT__REQ_RUNNING) return;
    req_charge(s, r, r->charged_us, BT_MAX(r->used_us, ev->amount_us));
    learn_length(s, r, ev);
    req_post(s, ri, ev->finish);
}

static void req_cancel_running(bt_sched *s, bt__req *r, bt_finish finish)
{
    if (r->cancel_sent) return;
    r->cancel_sent = true;
    emit(s, (bt_sched_action){
                .type = BT_ACT_CANCEL, .request = r->id, .lease = r->lease, .finish = finish});
}

static void on_cancel(bt_sched *s, int32_t ri)
{
    bt__req *r = &s->req[ri];
    if (r->state == BT__REQ_RUNNING)
        req_cancel_running(s, r, BT_FINISH_CANCELLED);
    else if (r->state != BT__REQ_ENDING)
        req_void(s, ri, BT_ECANCELLED);
}

/* Whether the estimates are no longer those that tags were made from. */
static bool moved(double now, double then)
{
    return now > then * tag_ratio || then > now * tag_ratio;
}

static void on_step(bt_sched *s, const bt_sched_event *ev)
{
    int32_t rows = ev->u.step.n_rows, seqs = ev->u.step.n_seqs;
    int32_t prefill = ev->u.step.n_prefill_rows;
    /* More rows than sequences: at least one is in its prompt, with all its rows. */
    if (rows > seqs && prefill <= rows - seqs) prefill = rows - seqs + 1;
    bt__estimate_step(&s->cost, prefill, rows - prefill, (double)ev->u.step.step_us);
    bool stale = moved(s->cost.prefill_us, s->tagged_prefill_us) ||
                 moved(s->cost.decode_us, s->tagged_decode_us);
    if (stale && s->now_ns - s->tagged_ns >= retag_ns) bt__order_repredict(s);
}

static void on_engine_down(bt_sched *s)
{
    while (s->running.head >= 0) req_post(s, s->running.head, BT_FINISH_DEVICE_FAULT);
    s->engine.up = false;
}

static void on_engine_up(bt_sched *s, const bt_sched_event *ev)
{
    bt__engine *e = &s->engine;
    if (e->up) on_engine_down(s);
    if (s->n_running == 0) {
        e->slots = e->slots_free = BT_MAX(0, BT_MIN(ev->u.engine_up.slots, BT_SCHED_SLOTS_MAX));
        e->n_pages = e->pages_free = BT_MAX(0, ev->u.engine_up.n_pages);
        e->page_tokens = BT_MAX(1, ev->u.engine_up.page_tokens);
        e->anonymous_slots = (int32_t)((int64_t)e->slots * s->config.anonymous_percent / 100);
        e->anonymous_pages = (int32_t)((int64_t)e->n_pages * s->config.anonymous_percent / 100);
        for (int i = 0; i < BT_SCHED_SLOTS_MAX; i++) e->owner[i] = -1;
        double prefill = ev->u.engine_up.prefill_us_per_token;
        double decode = ev->u.engine_up.decode_us_per_token;
        if (prefill > 0 && decode > 0) bt__estimate_prior(&s->cost, prefill, decode);
        bt__order_repredict(s);
    }
    e->up = e->known = true;
    s->version++;
}

static void on_drain(bt_sched *s)
{
    s->draining = true;
    for (int32_t ri = s->waits.head, next; ri >= 0; ri = next) {
        next = s->req[ri].wait.next;
        req_void(s, ri, BT_ECLOSED);
    }
}

static void apply(bt_sched *s, const bt_sched_event *ev)
{
    int32_t ri = ev->type == BT_EV_SUBMIT ? -1 : req_find(s, ev->request);
    switch (ev->type) {
    case BT_EV_SUBMIT: on_submit(s, &ev->u.submit); break;
    case BT_EV_HELD:
        if (ri >= 0) on_held(s, ri, ev);
        break;
    case BT_EV_REFUSED:
        if (ri >= 0) on_refused(s, ri);
        break;
    case BT_EV_TOPPED_UP:
        if (ri >= 0) on_topped_up(s, ri, ev);
        break;
    case BT_EV_USED:
        if (ri >= 0) on_used(s, ri, ev->amount_us);
        break;
    case BT_EV_FINISHED:
        if (ri >= 0) on_finished(s, ri, ev);
        break;
    case BT_EV_CANCEL:
        if (ri >= 0) on_cancel(s, ri);
        break;
    case BT_EV_STEP: on_step(s, ev); break;
    case BT_EV_ENGINE_UP: on_engine_up(s, ev); break;
    case BT_EV_ENGINE_DOWN: on_engine_down(s); break;
    case BT_EV_ENGINE_ASLEEP: s->engine.up = false; break;
    case BT_EV_DRAIN: on_drain(s); break;
    case BT_EV_TICK: break; // time is looked at in every step
    }
}

/* What the clock alone causes: queue timeouts, ageing, leases that the engine failed to end. */
static void sweep(bt_sched *s)
{
    int64_t wait = s->config.queue_wait_ns;
    for (int32_t ri = s->waits.head, next; wait && ri >= 0; ri = next) {
        if (s->now_ns - s->req[ri].submit_ns < wait) break;
        next = s->req[ri].wait.next;
        req_void(s, ri, BT_ETIMEOUT);
    }
    bt__order_climb(s);
    const bt__heap_entry *top;
    while ((top = bt__heap_top(&s->backstop)) && top->key <= s->now_ns) {
        bt__req *r = &s->req[top->item];
        bt__heap_remove(&s->backstop, top->item);
        req_cancel_running(s, r, BT_FINISH_LEASE_EXPIRED);
    }
}

/* Writes what waits to be written. */
static size_t flush(bt_sched *s, bt_sched_action *actions, size_t n, size_t max)
{
    for (; n < max && s->ring_len; s->ring_len--) {
        actions[n++] = s->ring[s->ring_at];
        s->ring_at = (s->ring_at + 1) % BT__RING;
    }
    while (n < max && s->ending.head >= 0) {
        int32_t ri = s->ending.head;
        bt__req *r = &s->req[ri];
        actions[n++] = r->end;
        BT__REQ_REMOVE(s, &s->ending, link, ri);
        bt_map_remove(&s->req_by_id, r->id);
        r->state = BT__REQ_FREE;
        bt__account_alive(s, r->account, -1);
        BT__REQ_ADD(s, &s->free_reqs, link, ri);
    }
    return n;
}

static void measure_drain(bt_sched *s)
{
    if (s->admit_last_ns >= 0) {
        double gap = (double)(s->now_ns - s->admit_last_ns);
        s->admit_gap_ns =
            s->admit_gap_ns < 0 ? gap : bt__estimate_mean(s->admit_gap_ns, gap, global_gain);
    }
    s->admit_last_ns = s->n_waiting ? s->now_ns : -1;
}

static bt_sched_action admit(bt_sched *s, int32_t ri)
{
    bt__req *r = &s->req[ri];
    bt__account *a = &s->account[r->account];
    bt__engine *e = &s->engine;
    BT__REQ_REMOVE(s, &s->waits, wait, ri);
    count_waiting(s, a, -1);
    r->state = BT__REQ_RUNNING;
    r->pages = (int32_t)pages_needed(e, r);
    e->pages_free -= r->pages;
    e->slots_free -= r->n_seq;
    if (a->side == BT__ANONYMOUS) {
        e->anonymous_seqs += r->n_seq;
        e->anonymous_held += r->pages;
    }
    int32_t first = -1;
    for (int32_t i = 0, left = r->n_seq; left > 0; i++) {
        if (e->owner[i] >= 0) continue;
        e->owner[i] = ri;
        left--;
        if (first < 0) first = i;
    }
    a->running_seqs += r->n_seq;
    s->floor_last[a->cls] = BT_MAX(s->floor_last[a->cls], a->counter - a->pending);
    bt__line_remove(s, ri);
    BT__REQ_ADD(s, &s->running, link, ri);
    s->n_running++;
    bt__req_predict(s, r);
    r->weight = a->weight;
    req_charge(s, r, r->cost_us, 0);
    r->admit_ns = s->now_ns;
    if (++s->generation == 0) s->generation = 1;
    r->lease = (bt_lease){.slot = first,
                          .generation = s->generation,
                          .deadline_ns = s->now_ns + r->lease_ns,
                          .budget_us = r->held_us,
                          .budget_final = r->held_final};
    bt__heap_put(&s->backstop, ri, r->lease.deadline_ns + overdue_ns, r->seq);
    measure_drain(s);
    return (bt_sched_action){.type = BT_ACT_ADMIT, .request = r->id, .lease = r->lease};
}

/* Whether anonymous requests may take this much more (nothing: whether they may take any). */
static bool anonymous_room(const bt__engine *e, int32_t n_seq, int64_t pages)
{
    if (e->anonymous_seqs == 0) return true;
    return e->anonymous_seqs + BT_MAX(n_seq, 1) <= e->anonymous_slots &&
           e->anonymous_held + pages <= e->anonymous_pages;
}

/* Admits the first in order that fits, if those before it may be passed (sched.h, FIT). */
static bool admit_next(bt_sched *s, bt_sched_action *out)
{
    bt__engine *e = &s->engine;
    int32_t passed[BT__BYPASS_MAX], n_passed = 0, ai;
    bool admitted = false, anonymous_too = anonymous_room(e, 0, 0);
    while (e->up && e->slots_free > 0 && (ai = bt__order_first(s, anonymous_too)) >= 0) {
        bt__account *a = &s->account[ai];
        bt__req *r = &s->req[a->contender];
        bt_status st = engine_check(e, r);
        if (st) { // queued before the engine's sizes were known, or they changed
            req_void(s, a->contender, st);
            continue;
        }
        int64_t pages = pages_needed(e, r);
        bool share = a->side == BT__NAMED || anonymous_room(e, r->n_seq, pages);
        if (share && r->n_seq <= e->slots_free && pages <= e->pages_free) {
            *out = admit(s, a->contender);
            admitted = true;
            break;
        }
        if (r->blocked_ns < 0) r->blocked_ns = s->now_ns;
        if (a->level == BT__TOP_LINE || s->now_ns - r->blocked_ns >= s->config.bypass_ns ||
            n_passed == BT__BYPASS_MAX) {
            if (share) break;
            anonymous_too = false; // it waits for others like it: named ones pass
            continue;
        }
        passed[n_passed++] = ai;
        bt__heap_remove(&s->order[a->side][a->level], ai);
    }
    for (int32_t i = 0; i < n_passed; i++) {
        bt__account *a = &s->account[passed[i]];
        bt__heap_put(&s->order[a->side][a->level], passed[i], a->tag, s->req[a->contender].seq);
    }
    return admitted;
}

size_t bt_sched_step(bt_sched *s, int64_t now_ns, const bt_sched_event *events, size_t n_events,
                     bt_sched_action *actions, size_t max_actions)
{
    BT_ASSERT(n_events <= BT_SCHED_EVENTS_MAX);
    if (now_ns > s->now_ns) s->now_ns = now_ns;
    for (size_t i = 0; i < n_events; i++) apply(s, &events[i]);
    size_t n = flush(s, actions, 0, max_actions);
    if (n < max_actions) sweep(s);
    n = flush(s, actions, n, max_actions);
    while (n < max_actions && admit_next(s, &actions[n])) n++;
    return flush(s, actions, n, max_actions); // ends that admit_next found
}

int64_t bt_sched_next_deadline(const bt_sched *s)
{
    int64_t at = INT64_MAX;
    const bt__heap_entry *top;
    if ((top = bt__heap_top(&s->ageing))) at = BT_MIN(at, top->key);
    if ((top = bt__heap_top(&s->backstop))) at = BT_MIN(at, top->key);
    /* The doomed ones at the head wait for the ledger and not for time. */
    int32_t ri = s->config.queue_wait_ns ? s->waits.head : -1;
    while (ri >= 0 && s->req[ri].doomed) ri = s->req[ri].wait.next;
    if (ri >= 0) at = BT_MIN(at, s->req[ri].submit_ns + s->config.queue_wait_ns);
    return at;
}

int32_t bt_sched_waiting(const bt_sched *s)
{
    return s->n_waiting;
}

int32_t bt_sched_running(const bt_sched *s)
{
    return s->n_running;
}

bool bt_sched_admits(const bt_sched *s)
{
    return s->engine.up;
}
