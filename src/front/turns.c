/* SPDX-License-Identifier: Apache-2.0 */
#include "front/turns.h"
#include "base/assert.h"
#include "base/mem.h"

struct bt_turns_party {
    uint64_t account; // 0: the anonymous together
    bt_turns_level *level;
    size_t at; // its place there
    double weight, start;
    bool under_way;
    int32_t jobs; // that wait
    size_t bytes;
    bt_turn *first, *last;
};

static const double WEIGHT_MIN = 0.01;

/* ---- parties */

static bt_turns_party *party_new(bt_turns_level *level, uint64_t account)
{
    if (level->n == level->cap) {
        size_t cap = level->cap ? 2 * level->cap : 64;
        bt_turns_party **more = bt_realloc(level->party, cap * sizeof(bt_turns_party *));
        if (!more) return NULL;
        level->party = more;
        level->cap = cap;
    }
    bt_turns_party *p = bt_calloc(1, sizeof *p);
    if (!p) return NULL;
    p->account = account;
    p->level = level;
    p->start = level->now;
    p->at = level->n;
    level->party[level->n++] = p;
    return p;
}

static bool idle(const bt_turns_party *p)
{
    return p->account && !p->jobs && !p->under_way;
}

static void party_forget(bt_turns *t, bt_turns_party *p)
{
    bt_turns_level *level = p->level;
    bt_turns_party *moved = level->party[--level->n];
    level->party[p->at] = moved;
    moved->at = p->at;
    bt_map_remove(&t->parties, p->account);
    bt_free(p);
}

static void level_forget(bt_turns *t, bt_turns_level *level)
{
    for (size_t i = level->n; i-- > 0;)
        if (idle(level->party[i])) party_forget(t, level->party[i]);
}

static bt_turns_party *party_of(bt_turns *t, const bt_turn *job)
{
    uint64_t value;
    if (bt_map_get(&t->parties, job->account, &value)) return (bt_turns_party *)(uintptr_t)value;
    if (t->parties.len >= BT_TURNS_REMEMBERED_MAX) {
        level_forget(t, &t->keyed);
        level_forget(t, &t->anonymous);
    }
    bt_turns_level *level = job->anonymous ? &t->anonymous : &t->keyed;
    bt_turns_party *p = party_new(level, job->account);
    if (p && !bt_map_put(&t->parties, job->account, (uintptr_t)p)) {
        level->n--;
        bt_free(p);
        return NULL;
    }
    return p;
}

/* ---- the queue */

bt_status bt_turns_init(bt_turns *t, const bt_turns_bound bound[BT_TURNS_BOUNDS], bt_err *err)
{
    *t = (bt_turns){0};
    for (int i = 0; i < BT_TURNS_BOUNDS; i++) t->bound[i] = bound[i];
    t->together = party_new(&t->keyed, 0);
    return t->together ? BT_OK : bt_err_set(err, BT_ENOMEM, 0, "out of memory for a queue");
}

void bt_turns_release(bt_turns *t)
{
    for (size_t i = 0; i < t->keyed.n; i++) bt_free(t->keyed.party[i]);
    for (size_t i = 0; i < t->anonymous.n; i++) bt_free(t->anonymous.party[i]);
    bt_free(t->keyed.party);
    bt_free(t->anonymous.party);
    bt_map_release(&t->parties);
    *t = (bt_turns){0};
}

/* What is larger than the bound may wait where nothing else does. */
static bool full(const bt_turns_bound *b, int32_t jobs, size_t bytes, size_t more)
{
    return jobs > 0 && (jobs >= b->jobs || bytes + more > b->bytes);
}

static void count(bt_turns *t, const bt_turn *job, int32_t jobs, size_t bytes)
{
    bt_turns_party *p = job->party;
    p->jobs += jobs;
    p->bytes += bytes;
    t->jobs += jobs;
    t->bytes += bytes;
    if (p->level != &t->anonymous) return;
    t->together->jobs += jobs;
    t->together->bytes += bytes;
}

/* It was not in line until now. */
static void arrives(bt_turns_party *p, double weight)
{
    p->weight = weight > WEIGHT_MIN ? weight : WEIGHT_MIN;
    if (!p->jobs && !p->under_way && p->start < p->level->now) p->start = p->level->now;
}

bt_status bt_turns_put(bt_turns *t, bt_turn *job, bt_turns_who *who)
{
    bt_turns_party *p = party_of(t, job), *all = t->together;
    if (!p) return BT_ENOMEM;
    bool anonymous = p->level == &t->anonymous;
    *who = BT_TURNS_ACCOUNT;
    if (full(&t->bound[*who], p->jobs, p->bytes, job->bytes)) return BT_EBUSY;
    *who = BT_TURNS_ANONYMOUS;
    if (anonymous && full(&t->bound[*who], all->jobs, all->bytes, job->bytes)) return BT_EBUSY;
    *who = BT_TURNS_ALL;
    if (full(&t->bound[*who], t->jobs, t->bytes, job->bytes)) return BT_EBUSY;
    arrives(p, job->weight);
    if (anonymous) arrives(all, job->weight);
    job->party = p;
    job->order = t->order++;
    job->under_way = false;
    job->next = NULL;
    job->prev = p->last;
    *(p->last ? &p->last->next : &p->first) = job;
    p->last = job;
    count(t, job, 1, job->bytes);
    return BT_OK;
}

static void take_out(bt_turns *t, bt_turn *job)
{
    bt_turns_party *p = job->party;
    *(job->prev ? &job->prev->next : &p->first) = job->next;
    *(job->next ? &job->next->prev : &p->last) = job->prev;
    count(t, job, -1, -job->bytes);
}

static uint64_t oldest(const bt_turns *t, const bt_turns_party *p)
{
    uint64_t order = UINT64_MAX;
    if (p != t->together) return p->first->order;
    for (size_t i = 0; i < t->anonymous.n; i++) {
        const bt_turns_party *one = t->anonymous.party[i];
        if (one->jobs && one->first->order < order) order = one->first->order;
    }
    return order;
}

static bt_turns_party *next_of(const bt_turns *t, const bt_turns_level *level)
{
    bt_turns_party *best = NULL;
    for (size_t i = 0; i < level->n; i++) {
        bt_turns_party *p = level->party[i];
        if (!p->jobs || p->under_way) continue;
        if (!best || p->start < best->start ||
            (p->start == best->start && oldest(t, p) < oldest(t, best)))
            best = p;
    }
    return best;
}

static void begins(bt_turns_party *p)
{
    p->under_way = true;
    if (p->start > p->level->now) p->level->now = p->start;
}

bt_turn *bt_turns_take(bt_turns *t)
{
    bt_turns_party *p = next_of(t, &t->keyed);
    if (!p) return NULL;
    if (p == t->together) {
        begins(p);
        p = next_of(t, &t->anonymous);
    }
    begins(p);
    bt_turn *job = p->first;
    take_out(t, job);
    job->under_way = true;
    return job;
}

static void ends(bt_turns_party *p, int64_t took_us)
{
    p->under_way = false;
    p->start += (double)took_us / p->weight;
}

void bt_turns_end(bt_turns *t, bt_turn *job, int64_t took_us)
{
    bt_turns_party *p = job->party;
    BT_ASSERT(p && job->under_way);
    job->party = NULL;
    job->under_way = false;
    ends(p, took_us);
    if (p->level == &t->anonymous) ends(t->together, took_us);
    if (idle(p) && p->start <= p->level->now) party_forget(t, p);
}

void bt_turns_drop(bt_turns *t, bt_turn *job)
{
    BT_ASSERT(job->party && !job->under_way);
    take_out(t, job);
    job->party = NULL;
}
