/* SPDX-License-Identifier: Apache-2.0 */
/* drive.h - a scheduler driven by hand: one event a call, and what came of it. */
#pragma once
#include "sched/sched.h"
#include "test.h"

enum { OUT_MAX = 4096, VIEWS_MAX = 8192 };
static const int64_t SEC = 1000000000;

static bt_sched *S;
static int64_t now;
static bt_sched_action out[OUT_MAX];
static size_t n_out;

static inline void start_with(const bt_sched_config *c)
{
    bt_err err = {0};
    bt_sched_close(S);
    now = 1000 * SEC;
    REQUIRE(bt_sched_open(c, &S, &err) == BT_OK);
}

static inline void start(void)
{
    bt_sched_config c;
    bt_sched_config_init(&c);
    start_with(&c);
}

static inline void step(const bt_sched_event *ev)
{
    n_out = bt_sched_step(S, now, ev, ev ? 1 : 0, out, OUT_MAX);
    REQUIRE(n_out < OUT_MAX);
}

static inline void wait_until(int64_t at)
{
    now = at;
    step(NULL);
}

static inline const bt_sched_action *find(bt_sched_action_type type, uint64_t request)
{
    for (size_t i = 0; i < n_out; i++)
        if (out[i].type == type && out[i].request == request) return &out[i];
    return NULL;
}

static inline bt_sched_request request(uint64_t id, uint64_t account, int32_t cls)
{
    return (bt_sched_request){.id = id,
                              .account = {.id = account,
                                          .cls = cls,
                                          .weight = 1,
                                          .slots = 4,
                                          .queue = 64,
                                          .lease_max_ns = 60 * SEC},
                              .prompt_tokens = 10,
                              .max_tokens = 10,
                              .n_seq = 1};
}

static inline void submit(const bt_sched_request *q)
{
    step(&(bt_sched_event){.type = BT_EV_SUBMIT, .u.submit = *q});
}

static inline void event(bt_sched_event_type type, uint64_t id, int64_t us)
{
    step(&(bt_sched_event){.type = type, .request = id, .amount_us = us, .finish = BT_FINISH_EOS});
}

/* Submits and gets the hold that was asked for. */
static inline void enter(const bt_sched_request *q)
{
    submit(q);
    const bt_sched_action *a = find(BT_ACT_HOLD, q->id);
    REQUIRE(a != NULL);
    event(BT_EV_HELD, q->id, a->amount_us);
}

static inline void enter_simple(uint64_t id, uint64_t account, int32_t cls)
{
    bt_sched_request q = request(id, account, cls);
    enter(&q);
}

static inline void engine_up(int32_t slots, int32_t pages)
{
    step(&(bt_sched_event){.type = BT_EV_ENGINE_UP, .u.engine_up = {slots, pages, 16, 100, 1000}});
}

/* The one request that this step admitted, 0 = none; more than one is a failure. */
static inline uint64_t admitted(void)
{
    uint64_t id = 0;
    for (size_t i = 0; i < n_out; i++) {
        if (out[i].type != BT_ACT_ADMIT) continue;
        CHECK_INT(id, 0);
        id = out[i].request;
    }
    return id;
}

static inline bt_sched_view view(uint64_t id)
{
    static bt_sched_view all[VIEWS_MAX];
    size_t n = bt_sched_list(S, now, 0, all, VIEWS_MAX), i = 0;
    REQUIRE(n <= VIEWS_MAX);
    while (i < n && all[i].request != id) i++;
    REQUIRE(i < n);
    return all[i];
}
