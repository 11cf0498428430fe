/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL sim TIMEOUT 120 */
/* test_storm.c - thousands of random requests with cancels, leases, budgets, shared prefixes and
 * few pages: each ends exactly once with the right tokens, the books balance at every step, and
 * nothing is left behind. */
#include "base/rng.h"
#include "fake_engine.h"

enum { REQUESTS = 3000 };

typedef struct storm {
    fake_engine *f;
    uint64_t seed, n;
    bt_engine_request ask[REQUESTS];
    int32_t prompt[REQUESTS][64];
    uint64_t id;
} storm;

static uint64_t draw(storm *s, uint64_t below)
{
    return bt_rng_u64(s->seed, s->n++) % below;
}

/* Prompts begin with one of a few texts, so that prefixes of every length are shared. */
static void storm_submit(storm *s)
{
    uint64_t k = s->id;
    int32_t n = 1 + (int32_t)draw(s, 60), common = (int32_t)draw(s, 64);
    prompt_of(draw(s, 3), n, s->prompt[k]);
    if (common < n) prompt_of(100 + draw(s, 50), n - common, s->prompt[k] + common);
    bt_engine_request q = ask(k + 1, s->prompt[k], n, 1 + (int32_t)draw(s, 30));
    q.n_seq = draw(s, 8) ? 1 : 1 + (int32_t)draw(s, 4);
    q.salt = draw(s, 2);
    q.params.ignore_eos = draw(s, 2);
    q.params.cache_prompt = draw(s, 5) != 0;
    if (draw(s, 4) == 0) q.params.temperature = 0.9f;
    if (draw(s, 6) == 0) q.params.presence_penalty = 1;
    if (draw(s, 12) == 0) q.params.prompt_logprobs = true;
    q.params.seed = k;
    q.lease.generation = (uint32_t)draw(s, 3);
    if (draw(s, 6) == 0) q.lease.budget_us = (int64_t)draw(s, 5000);
    q.lease.budget_final = draw(s, 2);
    if (draw(s, 12) == 0) q.lease.deadline_ns = bt_now_ns() + (int64_t)draw(s, 3000000);
    bt_status status = submit(s->f->e, &s->f->log, &q);
    CHECK(status == BT_OK || status == BT_EBUSY);
    if (status == BT_OK) s->ask[s->id++] = q;
}

static void storm_poke(storm *s)
{
    uint64_t k = draw(s, s->id + 1);
    if (k == s->id) return;
    const bt_engine_request *q = &s->ask[k];
    if (draw(s, 3) == 0)
        bt_engine_cancel(s->f->e, q->id, q->lease.generation, BT_FINISH_CANCELLED);
    else
        bt_engine_budget(s->f->e, q->id, q->lease.generation, (int64_t)draw(s, 100000), draw(s, 2));
}

/* A request of a quiet engine gets the same tokens as it got in the storm, as far as it came there.
 */
static void storm_compare(storm *s)
{
    fake_engine *quiet = fake_start(fake_new());
    bool same = true;
    for (uint64_t k = 0; k < s->id; k += 7) {
        bt_engine_request q = s->ask[k];
        q.params.cache_prompt = false;
        q.lease = (bt_lease){.generation = 1, .budget_us = INT64_MAX};
        CHECK_INT(submit(quiet->e, &quiet->log, &q), BT_OK);
        run_all(quiet->e);
        const request_log *a = log_find(&s->f->log, q.id), *b = log_find(&quiet->log, q.id);
        for (int32_t i = 0; i < q.n_seq; i++) {
            same = same && a->seq[i].n_tokens <= b->seq[i].n_tokens;
            same = same && memcmp(a->seq[i].token, b->seq[i].token,
                                  (size_t)a->seq[i].n_tokens * sizeof(int32_t)) == 0;
        }
    }
    CHECK(same);
    fake_end(quiet);
}

static void storm_run(uint64_t seed, int32_t rows, int32_t pages)
{
    static storm s;
    memset(&s, 0, sizeof s);
    s.seed = seed;
    s.f = fake_new();
    s.f->plan.rows_max = rows;
    s.f->plan.out_max = BT_MIN(rows, 12);
    s.f->plan.n_pages = pages;
    fake_start(s.f);
    while (s.id < REQUESTS) {
        uint64_t what = draw(&s, 10);
        if (what < 3) storm_submit(&s);
        if (what == 3) storm_poke(&s);
        REQUIRE(!bt_engine_step(s.f->e, NULL));
        if (draw(&s, 100) == 0) bt_kv_check(&s.f->e->kv);
    }
    for (int32_t left = 1; left > 0;) {
        run_all(s.f->e);
        left = 0;
        for (uint64_t k = 0; k < s.id; k++) {
            if (s.f->log.request[k]->ended) continue;
            bt_engine_budget(s.f->e, k + 1, s.ask[k].lease.generation, INT64_MAX, true);
            left++;
        }
    }
    int32_t finish[BT_FINISH_COUNT] = {0};
    uint64_t cached = 0;
    for (uint64_t k = 0; k < s.id; k++) {
        const request_log *r = s.f->log.request[k];
        finish[r->end.u.end.finish]++;
        cached += (uint64_t)r->end.u.end.cached_tokens;
    }
    /* The storm must have been one: every kind of end, and hits in the cache. */
    CHECK(finish[BT_FINISH_EOS] > 0 && finish[BT_FINISH_LENGTH] > 0);
    CHECK(finish[BT_FINISH_LEASE_EXPIRED] > 0 && finish[BT_FINISH_QUOTA_EXHAUSTED] > 0);
    CHECK(finish[BT_FINISH_CANCELLED] > 0);
    CHECK(cached > 0);
    fake_check_idle(s.f);
    bt_engine *stormed = s.f->e;
    event_log log = s.f->log;
    uint64_t busy = fake.busy_us;
    storm_compare(&s);
    fake.busy_us = busy;
    fake.open_devices = 1;
    s.f->e = stormed;
    s.f->log = log;
    fake_end(s.f);
}

static void few_pages(void)
{
    storm_run(1, 24, 48);
}
static void single_rows(void)
{
    storm_run(2, 1, 64);
}
static void wide_steps(void)
{
    storm_run(3, 64, 200);
}

int main(void)
{
    for (fake_ahead = 0; fake_ahead < 2; fake_ahead++) {
        RUN(few_pages);
        RUN(single_rows);
        RUN(wide_steps);
    }
    return TEST_END();
}
