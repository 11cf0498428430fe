/* SPDX-License-Identifier: Apache-2.0 */
/* order.c - who is next: accounts, their lines, weighted fair queueing inside classes, ageing.
 *
 * DESIGN   An account takes part with one request at a time, its contender, so every structure here
 * is sized by accounts, and a line of 100,000 costs no more than a line of one:
 *   order[side][c]  heap of contenders by tag = counter + predicted cost / weight
 *   floor[c]        heap of the same accounts by what they had: its top is where newcomers are
 *                   lifted to
 *   last[c]         heap of accounts with a line by the tag of its end, the latest first: who gives
 *                   way when the queue is full
 *   ageing          heap by the time at which a contender climbs
 *   top_line[side]  list of contenders in the order in which they came to it
 * The sides are named and anonymous: at their bound of slots the latter are passed over at once. A
 * contender that climbed from 0 to 1 is in order[..][1] but in floor[0]: the counters of two
 * classes cannot be compared, since one class may stand still while the other is served. There its
 * tag is floor + cost / weight, a newcomer's, and stays.
 *
 * SOURCES  Weighted fair queueing (Demers, Keshav, Shenker 1989); virtual counters with a lift on
 * re-entry (VTC, OSDI 2024), here on device time in place of tokens, and with the predicted cost
 * charged at admission, so that an account with several requests in flight is not taken for one
 * that has had nothing yet. */
#include "sched/state.h"
#include <string.h>

static bt__link *list_link(void *rows, size_t row_bytes, size_t offset, int32_t i)
{
    return (bt__link *)(void *)((char *)rows + (size_t)i * row_bytes + offset);
}

void bt__list_insert(bt__list *l, void *rows, size_t row_bytes, size_t offset, int32_t after,
                     int32_t i)
{
    bt__link *me = list_link(rows, row_bytes, offset, i);
    me->prev = after;
    me->next = after < 0 ? l->head : list_link(rows, row_bytes, offset, after)->next;
    if (me->prev >= 0)
        list_link(rows, row_bytes, offset, me->prev)->next = i;
    else
        l->head = i;
    if (me->next >= 0)
        list_link(rows, row_bytes, offset, me->next)->prev = i;
    else
        l->tail = i;
}

void bt__list_add(bt__list *l, void *rows, size_t row_bytes, size_t offset, int32_t i)
{
    bt__list_insert(l, rows, row_bytes, offset, l->tail, i);
}

void bt__list_remove(bt__list *l, void *rows, size_t row_bytes, size_t offset, int32_t i)
{
    bt__link *me = list_link(rows, row_bytes, offset, i);
    if (me->prev >= 0)
        list_link(rows, row_bytes, offset, me->prev)->next = me->next;
    else
        l->head = me->next;
    if (me->next >= 0)
        list_link(rows, row_bytes, offset, me->next)->prev = me->prev;
    else
        l->tail = me->prev;
    me->prev = me->next = -1;
}

int64_t bt__virtual(int64_t us, double weight)
{
    return (int64_t)BT_MIN((double)us * 1000.0 / weight, 1e18);
}

/* What an account has had. Floors are made of this: a charge for what is yet to come may turn out
 * far too high, and would be taken back from the one charged but not from those lifted to it. */
static int64_t had(const bt__account *a)
{
    return a->counter - a->pending;
}

static int64_t floor_of(const bt_sched *s, int32_t cls)
{
    const bt__heap_entry *top = bt__heap_top(&s->floor[cls]);
    return top ? top->key : s->floor_last[cls];
}

/* The contender with the smallest tag at a level. */
static const bt__heap_entry *level_first(const bt_sched *s, int32_t level, bool anonymous_too)
{
    const bt__heap_entry *named = bt__heap_top(&s->order[BT__NAMED][level]);
    const bt__heap_entry *other = bt__heap_top(&s->order[BT__ANONYMOUS][level]);
    if (!other || !anonymous_too) return named;
    if (!named) return other;
    bool first = named->key != other->key ? named->key < other->key : named->tie < other->tie;
    return first ? named : other;
}

/* How long a contender would wait if its class had the device and shared it by weight: the time for
 * the others to come up to its tag. Ageing begins after that (sched.h, ORDER 3). */
static int64_t fair_wait(const bt_sched *s, const bt__account *a)
{
    const bt__heap_entry *top = level_first(s, a->cls, true);
    int64_t most = BT__FAIR_WAIT_MAX * s->config.age_ns;
    if (!top || top->key >= a->tag) return 0;
    double wait = (double)(a->tag - top->key) * s->weights[a->cls];
    return wait < (double)most ? (int64_t)wait : most;
}

static void compete_leave(bt_sched *s, int32_t ai)
{
    bt__account *a = &s->account[ai];
    if (a->level == BT__TOP_LINE) {
        BT__ACCOUNT_REMOVE(s, &s->top_line[a->side], top, ai);
    } else {
        bt__heap_remove(&s->order[a->side][a->level], ai);
        bt__heap_remove(&s->ageing, ai);
    }
    bt__heap_remove(&s->floor[a->cls], ai);
    s->weights[a->cls] = s->floor[a->cls].len ? s->weights[a->cls] - a->weight : 0;
    a->level = -1;
    a->contender = -1;
}

/* Where the account's line ends in the order of its class; what must not be displaced is not the
 * last of anything. */
static void last_update(bt_sched *s, int32_t ai)
{
    const bt__account *a = &s->account[ai];
    bool top = a->level == BT__TOP_LINE && a->contender == a->line.tail;
    if (a->line.tail < 0 || top || s->req[a->line.tail].follows)
        bt__heap_remove(&s->last[a->cls], ai);
    else
        bt__heap_put(&s->last[a->cls], ai, -(a->counter + bt__virtual(a->line_us, a->weight)),
                     ~s->req[a->line.tail].seq);
}

void bt__account_update(bt_sched *s, int32_t ai)
{
    bt__account *a = &s->account[ai];
    bool want = false;
    if (a->line.head >= 0) {
        /* A tier's slots may have shrunk below n_seq since the submit: alone, it may still run. */
        int32_t n_seq = BT_MIN(s->req[a->line.head].n_seq, a->slots);
        want = a->running_seqs + n_seq <= a->slots;
    }
    if (a->level >= 0 && (!want || a->contender != a->line.head)) compete_leave(s, ai);
    if (want && a->level < 0) {
        bt__req *r = &s->req[a->line.head];
        bt__req_predict(s, r);
        a->level = a->cls;
        a->contender = a->line.head;
        a->tag = a->counter + bt__virtual(r->cost_us, a->weight);
        s->weights[a->cls] += a->weight;
        a->age_due_ns = s->now_ns + fair_wait(s, a) + s->config.age_ns;
        bt__heap_put(&s->order[a->side][a->cls], ai, a->tag, r->seq);
        bt__heap_put(&s->floor[a->cls], ai, had(a), r->seq);
        bt__heap_put(&s->ageing, ai, a->age_due_ns, r->seq);
    }
    last_update(s, ai);
    s->version++;
}

void bt__order_repredict(bt_sched *s)
{
    for (int32_t ai = s->lined.head; ai >= 0; ai = s->account[ai].lined.next) {
        bt__account *a = &s->account[ai];
        if (a->level < 0 || a->level == BT__TOP_LINE) continue;
        bt__req *r = &s->req[a->contender];
        bt__req_predict(s, r);
        int64_t base = a->level == a->cls ? a->counter : floor_of(s, a->level);
        a->tag = base + bt__virtual(r->cost_us, a->weight);
        bt__heap_put(&s->order[a->side][a->level], ai, a->tag, r->seq);
        last_update(s, ai);
    }
    for (int32_t ai = s->lined.head; ai >= 0; ai = s->account[ai].lined.next) {
        bt__account *a = &s->account[ai];
        if (a->level != a->cls) continue;
        int64_t due = s->now_ns + fair_wait(s, a) + s->config.age_ns;
        if (due >= a->age_due_ns) continue;
        a->age_due_ns = due;
        bt__heap_put(&s->ageing, ai, due, s->req[a->contender].seq);
    }
    s->tagged_prefill_us = s->cost.prefill_us;
    s->tagged_decode_us = s->cost.decode_us;
    s->tagged_ns = s->now_ns;
    s->version++;
}

void bt__account_charge(bt_sched *s, int32_t ai, int64_t delta, int64_t pending)
{
    bt__account *a = &s->account[ai];
    a->counter += delta;
    a->pending += pending;
    if (delta != 0) last_update(s, ai);
    if (a->level < 0) return;
    uint64_t tie = s->req[a->contender].seq;
    if (delta != pending) bt__heap_put(&s->floor[a->cls], ai, had(a), tie);
    if (a->level != a->cls || delta == 0) return;
    a->tag += delta;
    bt__heap_put(&s->order[a->side][a->cls], ai, a->tag, tie);
    s->version++;
}

/* A forgotten account comes back as a newcomer; that forgives debt, so the one that has been idle
 * longest goes first: its debt is the oldest, and soon the floor has passed it. */
static int32_t account_new(bt_sched *s)
{
    int32_t ai = s->free_accounts.head;
    if (ai >= 0) {
        BT__ACCOUNT_REMOVE(s, &s->free_accounts, link, ai);
        return ai;
    }
    ai = s->idle.head;
    if (ai < 0) return -1;
    BT__ACCOUNT_REMOVE(s, &s->idle, link, ai);
    bt_map_remove(&s->account_by_id, s->account[ai].id);
    return ai;
}

int32_t bt__account_find(const bt_sched *s, uint64_t id)
{
    uint64_t found;
    return bt_map_get(&s->account_by_id, id, &found) ? (int32_t)found : -1;
}

int32_t bt__account_get(bt_sched *s, const bt_sched_account *who)
{
    int32_t ai = bt__account_find(s, who->id);
    if (ai < 0) {
        ai = account_new(s);
        if (ai < 0) return -1;
        s->account[ai] = (bt__account){.id = who->id, .cls = who->cls, .weight = who->weight};
        s->account[ai].line = BT__LIST_NONE;
        s->account[ai].level = s->account[ai].contender = -1;
        s->account[ai].out_tokens = -1;
        bool ok = bt_map_put(&s->account_by_id, who->id, (uint64_t)ai);
        BT_ASSERT(ok); // room was reserved at open
        BT__ACCOUNT_ADD(s, &s->idle, link, ai);
    }
    bt__account *a = &s->account[ai];
    if (a->alive == 0) {
        a->side = who->anonymous ? BT__ANONYMOUS : BT__NAMED;
        a->group = who->anonymous ? who->group : 0;
    }
    if (a->cls != who->cls || a->weight != who->weight || a->slots != who->slots) {
        if (a->level >= 0) compete_leave(s, ai);
        /* Counters of two classes cannot be compared: it changes as a newcomer. */
        if (a->cls != who->cls) a->counter = floor_of(s, who->cls) + a->pending;
        bt__heap_remove(&s->last[a->cls], ai);
        s->n_class[a->cls] -= a->n_waiting;
        s->n_class[who->cls] += a->n_waiting;
        a->cls = who->cls;
        a->weight = who->weight;
        a->slots = who->slots;
        bt__account_update(s, ai);
    }
    a->queue = who->queue;
    return ai;
}

void bt__account_alive(bt_sched *s, int32_t ai, int32_t by)
{
    bt__account *a = &s->account[ai];
    if (a->alive == 0) BT__ACCOUNT_REMOVE(s, &s->idle, link, ai);
    a->alive += by;
    if (a->alive == 0) BT__ACCOUNT_ADD(s, &s->idle, link, ai);
}

static int64_t line_key(const bt__req *r)
{
    return r->submit_ns + r->lease_ns;
}

void bt__line_push(bt_sched *s, int32_t ri)
{
    bt__req *r = &s->req[ri];
    bt__account *a = &s->account[r->account];
    if (a->line.head < 0) {
        int64_t least = floor_of(s, a->cls);
        if (had(a) < least) a->counter = least + a->pending;
        BT__ACCOUNT_ADD(s, &s->lined, lined, r->account);
    }
    int32_t after = a->line.tail;
    for (int passed = 0; after >= 0 && after != a->line.head && passed < BT__LINE_PASS_MAX;
         passed++) {
        if (line_key(&s->req[after]) <= line_key(r)) break;
        after = s->req[after].link.prev;
    }
    bt__list_insert(&a->line, s->req, sizeof *r, offsetof(bt__req, link), after, ri);
    a->line_us += r->cost_us;
    bt__account_update(s, r->account);
}

void bt__line_remove(bt_sched *s, int32_t ri)
{
    bt__req *r = &s->req[ri];
    bt__account *a = &s->account[r->account];
    BT__REQ_REMOVE(s, &a->line, link, ri);
    a->line_us -= r->cost_us;
    if (a->line.head < 0) BT__ACCOUNT_REMOVE(s, &s->lined, lined, r->account);
    bt__account_update(s, r->account);
}

int32_t bt__order_first(const bt_sched *s, bool anonymous_too)
{
    int32_t named = s->top_line[BT__NAMED].head, other = s->top_line[BT__ANONYMOUS].head;
    if (other >= 0 && anonymous_too &&
        (named < 0 || s->account[other].top_seq < s->account[named].top_seq))
        return other;
    if (named >= 0) return named;
    for (int32_t c = BT_SCHED_CLASSES - 1; c >= 0; c--) {
        const bt__heap_entry *first = level_first(s, c, anonymous_too);
        if (first) return first->item;
    }
    return -1;
}

int32_t bt__order_last(const bt_sched *s, int32_t cls)
{
    for (int32_t c = 0; c < cls; c++)
        if (s->last[c].len) return s->account[bt__heap_top(&s->last[c])->item].line.tail;
    return -1;
}

void bt__order_climb(bt_sched *s)
{
    const bt__heap_entry *top;
    while ((top = bt__heap_top(&s->ageing)) && top->key <= s->now_ns) {
        int32_t ai = top->item;
        bt__account *a = &s->account[ai];
        const bt__req *r = &s->req[a->contender];
        bt__heap_remove(&s->order[a->side][a->level], ai);
        if (a->level + 1 >= BT_SCHED_CLASSES - 1) {
            bt__heap_remove(&s->ageing, ai);
            a->level = BT__TOP_LINE;
            a->top_seq = ++s->top_seq;
            BT__ACCOUNT_ADD(s, &s->top_line[a->side], top, ai);
            last_update(s, ai);
        } else {
            a->level++;
            a->tag = floor_of(s, a->level) + bt__virtual(r->cost_us, a->weight);
            a->age_due_ns += s->config.age_ns;
            bt__heap_put(&s->order[a->side][a->level], ai, a->tag, r->seq);
            bt__heap_put(&s->ageing, ai, a->age_due_ns, r->seq);
        }
        s->version++;
    }
}
