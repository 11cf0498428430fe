/* SPDX-License-Identifier: Apache-2.0 */
/* view.c - what people see of the queue: positions, waits, leases.
 *
 * DESIGN   Nothing about positions is kept up to date while scheduling. When somebody asks and the
 * state has changed, one walk merges the accounts' lines in the order in which they would be
 * admitted and numbers the first BT_SCHED_EXACT requests: the top line, then each class from the
 *          top, an account's next request following with the tag it will have when the one before
 * it is charged. A request behind the walk's end is placed by its share of the arrivals that still
 * wait, in O(1). */
#include "sched/state.h"

static bool walk_number(const bt_sched *s, int32_t ri)
{
    bt__walk *w = s->walk;
    if (w->n_rank >= BT_SCHED_EXACT) return false;
    w->rank[w->n_rank++] = ri;
    s->req[ri].rank = w->n_rank;
    s->req[ri].rank_walk = w->number;
    return true;
}

static void walk_put(const bt_sched *s, int32_t ai, int32_t ri, int64_t tag)
{
    bt__walk *w = s->walk;
    w->cursor[ai] = ri;
    w->tag[ai] = tag;
    bt__heap_put(&w->heap, ai, tag, s->req[ri].seq);
}

/* Each account with somebody to be served in class c, with the first of them. */
static void walk_enter(const bt_sched *s, int32_t c)
{
    for (int32_t ai = s->lined.head; ai >= 0; ai = s->account[ai].lined.next) {
        const bt__account *a = &s->account[ai];
        int32_t ri = a->line.head;
        int64_t cost = bt__virtual(s->req[ri].cost_us, a->weight);
        if (a->level == c || (a->level < 0 && a->cls == c)) {
            walk_put(s, ai, ri, a->level == c ? a->tag : a->counter + cost);
        } else if (a->level > a->cls && a->cls == c && s->req[ri].link.next >= 0) {
            ri = s->req[ri].link.next; // the first has climbed away
            walk_put(s, ai, ri, a->counter + cost + bt__virtual(s->req[ri].cost_us, a->weight));
        }
    }
}

static void walk(const bt_sched *s)
{
    bt__walk *w = s->walk;
    if (w->version == s->version) return;
    w->version = s->version;
    w->number++;
    w->n_rank = 0;
    int32_t named = s->top_line[BT__NAMED].head, other = s->top_line[BT__ANONYMOUS].head;
    while (named >= 0 || other >= 0) {
        bool first =
            other < 0 || (named >= 0 && s->account[named].top_seq < s->account[other].top_seq);
        const bt__account *a = &s->account[first ? named : other];
        if (!walk_number(s, a->contender)) return;
        *(first ? &named : &other) = a->top.next;
    }
    for (int32_t c = BT_SCHED_CLASSES - 1; c >= 0; c--) {
        bt__heap_clear(&w->heap);
        walk_enter(s, c);
        while (w->heap.len) {
            int32_t ai = bt__heap_top(&w->heap)->item, ri = w->cursor[ai];
            const bt__account *a = &s->account[ai];
            if (!walk_number(s, ri)) return;
            bt__heap_remove(&w->heap, ai);
            int32_t next = s->req[ri].link.next;
            bool climbed = a->contender == ri && a->level != a->cls; // the rest is in its own class
            if (next >= 0 && !climbed)
                walk_put(s, ai, next, w->tag[ai] + bt__virtual(s->req[next].cost_us, a->weight));
        }
    }
}

/* Needs a walk of the current state. */
static int32_t position_of(const bt_sched *s, const bt__req *r)
{
    if (r->rank_walk == s->walk->number) return r->rank;
    const bt__req *oldest = &s->req[s->waits.head];
    double share = (double)(r->seq - oldest->seq) / (double)(s->seq - oldest->seq + 1);
    int32_t estimate = 1 + (int32_t)(share * s->n_waiting);
    return BT_MAX(estimate, BT_MIN(s->walk->n_rank + 1, s->n_waiting));
}

/* Position times the time between admissions; before those were measured, times what an average
 * request should take of the device. */
static int64_t eta_of(const bt_sched *s, const bt__req *r, int32_t position)
{
    double gap = s->admit_gap_ns >= 0 ? s->admit_gap_ns : (double)r->cost_us * 1000;
    return (int64_t)BT_MIN(gap * position / 1e6, 1e15);
}

static void view_fill(const bt_sched *s, int64_t now_ns, const bt__req *r, bt_sched_view *v)
{
    const bt__account *a = &s->account[r->account];
    *v = (bt_sched_view){.request = r->id,
                         .account = a->id,
                         .running = r->state == BT__REQ_RUNNING,
                         .lease_ns = r->lease_ns,
                         .used_us = r->used_us,
                         .cls = a->cls,
                         .n_seq = r->n_seq};
    if (v->running) {
        v->lease = r->lease;
        v->waited_ns = r->admit_ns - r->submit_ns;
        return;
    }
    v->waited_ns = BT_MAX(now_ns - r->submit_ns, 0);
    v->position = position_of(s, r);
    v->eta_ms = eta_of(s, r, v->position);
    if (r->state == BT__REQ_QUEUED && a->level >= 0 && &s->req[a->contender] == r) {
        v->aged = a->level == BT__TOP_LINE;
        v->cls = v->aged ? BT_SCHED_CLASSES - 1 : a->level;
    }
}

size_t bt_sched_list(const bt_sched *s, int64_t now_ns, uint64_t account, bt_sched_view *out,
                     size_t max)
{
    const bt__account *only = NULL;
    if (account) {
        uint64_t ai;
        if (!bt_map_get(&s->account_by_id, account, &ai)) return 0;
        only = &s->account[ai];
    }
    walk(s);
    size_t n = 0;
    for (int32_t i = 0; i < s->walk->n_rank && n < max; i++) {
        const bt__req *r = &s->req[s->walk->rank[i]];
        if (!only || &s->account[r->account] == only) view_fill(s, now_ns, r, &out[n++]);
    }
    size_t waiting = (size_t)(only ? only->n_waiting : s->n_waiting);
    for (int32_t ri = s->waits.head; ri >= 0 && n < max && n < waiting; ri = s->req[ri].wait.next) {
        const bt__req *r = &s->req[ri];
        if (r->rank_walk == s->walk->number) continue;
        if (!only || &s->account[r->account] == only) view_fill(s, now_ns, r, &out[n++]);
    }
    size_t running = 0;
    for (int32_t ri = s->running.head; ri >= 0; ri = s->req[ri].link.next) {
        const bt__req *r = &s->req[ri];
        if (only && &s->account[r->account] != only) continue;
        running++;
        if (n < max) view_fill(s, now_ns, r, &out[n++]);
    }
    return waiting + running;
}

void bt_sched_positions(bt_sched *s, int64_t now_ns,
                        void (*fn)(void *ud, uint64_t request, int32_t position, int64_t eta_ms),
                        void *ud)
{
    (void)now_ns;
    walk(s);
    s->tellings++;
    for (int32_t i = 0; i < s->walk->n_rank; i++) {
        bt__req *r = &s->req[s->walk->rank[i]];
        bool turn = r->rank <= BT__NEAR || (r->seq + s->tellings) % BT__FAR_EVERY == 0;
        if (r->told == r->rank || (r->told && !turn)) continue;
        r->told = r->rank;
        fn(ud, r->id, r->rank, eta_of(s, r, r->rank));
    }
    /* Newcomers are at the end of the arrivals; one told before stops the search, as does a bound.
     */
    int32_t ri = s->waits.tail;
    for (int i = 0; i < BT_SCHED_EXACT && ri >= 0; i++, ri = s->req[ri].wait.prev) {
        bt__req *r = &s->req[ri];
        if (r->state != BT__REQ_QUEUED) continue;
        if (r->told) break;
        r->told = position_of(s, r);
        fn(ud, r->id, r->told, eta_of(s, r, r->told));
    }
}
