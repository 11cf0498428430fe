/* SPDX-License-Identifier: Apache-2.0 */
/* test_order.c - who is next, by rule: fair turns, classes, ageing, fit; and where people see it.
 */
#include "drive.h"
#include "sched/state.h"

static int64_t predicted(int32_t prompt_tokens, int32_t max_tokens)
{
    return bt__estimate_predict(&S->cost, prompt_tokens, max_tokens, 1, S->cost.out_tokens);
}

static void retry_hint_follows_the_drain(void)
{
    bt_sched_config c;
    bt_sched_config_init(&c);
    c.queue_max = 8;
    start_with(&c);
    engine_up(1, 100);
    for (uint64_t id = 1; id <= 8; id++) enter_simple(id, id, 2);
    for (uint64_t id = 1; id <= 4; id++) { // one leaves each 8 s
        now += 8 * SEC;
        event(BT_EV_FINISHED, id, 1000);
    }
    for (uint64_t id = 11; id <= 14; id++) enter_simple(id, id, 2);
    enter_simple(15, 15, 2);
    bt_sched_request q = request(20, 20, 2);
    submit(&q);
    REQUIRE(find(BT_ACT_REFUSE, 20) != NULL);
    CHECK(find(BT_ACT_REFUSE, 20)->retry_ns > 5 * SEC);
    CHECK(find(BT_ACT_REFUSE, 20)->retry_ns < 10 * SEC);
    bt_sched_view v = view(15);
    CHECK_INT(v.position, 8);
    CHECK(v.eta_ms > 8 * 5000 && v.eta_ms <= 8 * 8000);
}

static void classes_go_from_the_top(void)
{
    start();
    enter_simple(1, 1, 0);
    enter_simple(2, 2, 1);
    enter_simple(3, 3, 2);
    CHECK_INT(view(3).position, 1);
    CHECK_INT(view(2).position, 2);
    CHECK_INT(view(1).position, 3);
    engine_up(1, 100);
    CHECK_INT(admitted(), 3);
    event(BT_EV_FINISHED, 3, 100);
    CHECK_INT(admitted(), 2);
    event(BT_EV_FINISHED, 2, 100);
    CHECK_INT(admitted(), 1);
}

/* Two accounts, one with 3 x the cost a request: the cheap one gets three turns for each of it. */
static void turns_follow_device_time(void)
{
    start();
    for (uint64_t i = 0; i < 12; i++) {
        bt_sched_request q = request(100 + i, 1, 1);
        q.max_tokens = 29; // 1000 + 29000 us
        enter(&q);
        q = request(200 + i, 2, 1);
        q.max_tokens = 9; // 1000 + 9000 us
        enter(&q);
    }
    engine_up(1, 100);
    int dear = 0, cheap = 0;
    for (int i = 0; i < 12; i++) {
        uint64_t id = admitted();
        REQUIRE(id != 0);
        dear += id < 200;
        cheap += id >= 200;
        event(BT_EV_FINISHED, id, id < 200 ? 30000 : 10000);
    }
    CHECK_INT(dear, 3);
    CHECK_INT(cheap, 9);
}

static void weights_scale_the_share(void)
{
    start();
    for (uint64_t i = 0; i < 30; i++) {
        for (uint64_t a = 1; a <= 3; a++) {
            bt_sched_request q = request(a * 1000 + i, a, 1);
            q.account.weight = (double)(1 << (a - 1));
            enter(&q);
        }
    }
    engine_up(1, 100);
    int turns[4] = {0};
    for (int i = 0; i < 28; i++) {
        uint64_t id = admitted();
        REQUIRE(id != 0);
        turns[id / 1000]++;
        event(BT_EV_FINISHED, id, 11000);
    }
    CHECK_INT(turns[1], 4);
    CHECK_INT(turns[2], 8);
    CHECK_INT(turns[3], 16);
}

/* What is in flight counts before any of it was reported as used. */
static void admission_charges_the_prediction(void)
{
    start();
    for (uint64_t i = 0; i < 4; i++) enter_simple(100 + i, 1, 1);
    for (uint64_t i = 0; i < 4; i++) enter_simple(200 + i, 2, 1);
    engine_up(4, 100);
    int first = 0;
    for (size_t i = 0; i < n_out; i++) first += out[i].type == BT_ACT_ADMIT && out[i].request < 200;
    CHECK_INT(first, 2);
    CHECK_INT(bt_sched_running(S), 4);
}

/* An account that used more than predicted pays with later turns; one that used less gets it back.
 */
static void use_corrects_the_counter(void)
{
    start();
    for (uint64_t i = 0; i < 8; i++) enter_simple(100 + i, 1, 1);
    for (uint64_t i = 0; i < 8; i++) enter_simple(200 + i, 2, 1);
    engine_up(1, 100);
    int turns[3] = {0};
    for (int i = 0; i < 8; i++) {
        uint64_t id = admitted();
        REQUIRE(id != 0);
        turns[id / 100]++;
        if (id < 200) event(BT_EV_USED, id, 33000); // three times the prediction of 11 ms
        event(BT_EV_FINISHED, id, id < 200 ? 33000 : 11000);
    }
    CHECK_INT(turns[1], 2);
    CHECK_INT(turns[2], 6);
}

static void what_was_not_used_is_given_back(void)
{
    start();
    for (uint64_t i = 0; i < 20; i++) enter_simple(100 + i, 1, 1);
    for (uint64_t i = 0; i < 20; i++) enter_simple(200 + i, 2, 1);
    engine_up(1, 100);
    int turns[3] = {0};
    for (int i = 0; i < 22; i++) { // predicted 11 ms each, and account 1 needs 1.1
        uint64_t id = admitted();
        REQUIRE(id != 0);
        turns[id / 100]++;
        event(BT_EV_FINISHED, id, id < 200 ? 1100 : 11000);
    }
    CHECK(turns[1] >= 19);
    CHECK(turns[2] <= 3);
}

/* Lifted to where the others are now, not to where they were when they began to compete. */
static void a_newcomer_starts_where_the_others_are(void)
{
    start();
    engine_up(1, 100);
    enter_simple(1, 1, 1);
    enter_simple(2, 1, 1);
    event(BT_EV_USED, 1, 5000000);
    enter_simple(3, 2, 1);
    CHECK_INT(view(2).position, 1);
    CHECK_INT(view(3).position, 2);
}

static void a_newcomer_owes_nothing_for_what_others_may_yet_use(void)
{
    start();
    engine_up(4, 10000);
    for (uint64_t i = 0; i < 40; i++) { // account 1, then, the first four of it running, account 2
        bt_sched_request q = request(1 + i, i < 20 ? 1 : 2, 1);
        q.max_tokens = 1000; // foretold as 257 ms, used: 11
        enter(&q);
    }
    uint64_t running[4] = {1, 2, 3, 4};
    int second = 0;
    for (int i = 0; i < 16; i++) {
        step(&(bt_sched_event){.type = BT_EV_FINISHED,
                               .request = running[i % 4],
                               .amount_us = 11000,
                               .finish = BT_FINISH_CANCELLED}); // teaches nothing about lengths
        running[i % 4] = admitted();
        second += running[i % 4] > 20;
    }
    CHECK(second >= 8); // half from its first moment on, and what brings it level
    CHECK(second <= 12);
}

static void serving_an_idle_device_builds_no_debt(void)
{
    start();
    engine_up(1, 100);
    for (uint64_t id = 1; id <= 20; id++) {
        enter_simple(id, 1, 1);
        CHECK_INT(admitted(), id);
        if (id < 20) event(BT_EV_FINISHED, id, 11000);
    }
    for (uint64_t i = 0; i < 10; i++) enter_simple(200 + i, 2, 1); // the first to wait
    for (uint64_t i = 0; i < 10; i++) enter_simple(100 + i, 1, 1);
    event(BT_EV_FINISHED, 20, 11000);
    int first = 0;
    for (int i = 0; i < 8; i++) {
        uint64_t id = admitted();
        first += id < 200;
        event(BT_EV_FINISHED, id, 11000);
    }
    CHECK(first >= 3);
}

static void an_idle_account_saves_up_nothing(void)
{
    start();
    engine_up(1, 100);
    enter_simple(1, 1, 1);
    enter_simple(900, 2, 1);
    event(BT_EV_FINISHED, 1, 11000);
    event(BT_EV_FINISHED, 900, 11000); // account 2 was here once, then stayed away
    for (uint64_t i = 0; i < 20; i++) enter_simple(100 + i, 1, 1);
    for (uint64_t i = 0; i < 10; i++) event(BT_EV_FINISHED, 100 + i, 11000);
    for (uint64_t i = 0; i < 10; i++) enter_simple(200 + i, 2, 1);
    int second = 0;
    event(BT_EV_FINISHED, 110, 11000);
    for (int i = 0; i < 8; i++) {
        uint64_t id = admitted();
        second += id >= 200;
        event(BT_EV_FINISHED, id, 11000);
    }
    CHECK_INT(second, 4); // its half from now on, and not all of it for what it left unused
}

static void a_shorter_lease_goes_earlier(void)
{
    start();
    bt_sched_request q = request(1, 1, 1);
    enter(&q);
    q.id = 2;
    enter(&q);
    q.id = 3;
    q.lease_ns = 5 * SEC;
    enter(&q);
    /* and between accounts: 1 ms of lease cannot cost more than 1 ms */
    q = request(4, 2, 1);
    enter(&q);
    q = request(5, 3, 1);
    q.lease_ns = SEC / 1000;
    enter(&q);
    CHECK_INT(view(5).position, 1);
    CHECK_INT(view(1).position, 2); // the first in line is not passed by its own account's
    CHECK_INT(view(4).position, 3);
    CHECK_INT(view(3).position, 4);
    CHECK_INT(view(2).position, 5);
}

static void a_shorter_lease_passes_for_a_bounded_time(void)
{
    start();
    bt_sched_request q = request(1, 1, 1);
    enter(&q);
    q.id = 2;
    enter(&q);
    q.id = 3;
    q.lease_ns = 5 * SEC;
    now += 56 * SEC; // arrival + lease is later than that of 2 by now
    enter(&q);
    CHECK_INT(view(2).position, 2);
    CHECK_INT(view(3).position, 3);
}

/* While class 2 keeps the device busy, class 0 climbs and then goes before any later arrival. */
static void ageing_reaches_the_top_line(void)
{
    start();
    engine_up(1, 100);
    enter_simple(1, 1, 2); // runs
    enter_simple(2, 2, 0);
    enter_simple(3, 3, 1);
    CHECK_INT(bt_sched_next_deadline(S), now + 10 * SEC);
    CHECK_INT(view(2).cls, 0);
    int64_t t0 = now;
    wait_until(t0 + 10 * SEC - 1);
    CHECK_INT(view(2).cls, 0);
    CHECK(!view(3).aged);
    wait_until(t0 + 10 * SEC);
    CHECK_INT(view(2).cls, 1);
    CHECK(!view(2).aged);
    CHECK(view(3).aged);
    CHECK_INT(view(3).cls, 2);
    enter_simple(4, 4, 2);
    CHECK_INT(view(3).position, 1); // before the newcomer of the top class
    CHECK_INT(view(4).position, 2);
    CHECK_INT(view(2).position, 3);
    wait_until(t0 + 20 * SEC);
    CHECK(view(2).aged);
    CHECK_INT(view(2).position, 2);
    enter_simple(5, 5, 2);
    event(BT_EV_FINISHED, 1, 100);
    CHECK_INT(admitted(), 3);
    event(BT_EV_FINISHED, 3, 100);
    CHECK_INT(admitted(), 2);
    event(BT_EV_FINISHED, 2, 100);
    CHECK_INT(admitted(), 4);
}

/* The top class ages into the top line too, or a stream of aged ones could starve it. */
static void the_top_class_ages_too(void)
{
    start();
    engine_up(1, 100);
    enter_simple(1, 1, 2);
    enter_simple(2, 2, 2);
    wait_until(now + 10 * SEC);
    CHECK(view(2).aged);
    bt_sched_request q = request(3, 3, 2);
    q.lease_ns = SEC / 1000; // a smaller tag does not help against the top line
    enter(&q);
    event(BT_EV_FINISHED, 1, 100);
    CHECK_INT(admitted(), 2);
}

/* A flood does not age in bulk: of a line only the first competes, and only that ages. */
static void a_flood_does_not_age_in_bulk(void)
{
    start();
    engine_up(1, 1000);
    enter_simple(1, 1, 1);
    for (uint64_t i = 0; i < 60; i++) enter_simple(100 + i, 1, 1);
    wait_until(now + 30 * SEC);
    CHECK(view(100).aged);
    for (uint64_t i = 1; i < 60; i++) CHECK(!view(100 + i).aged);
    enter_simple(2, 2, 1);
    CHECK_INT(view(2).position, 2);
    event(BT_EV_FINISHED, 1, 11000);
    CHECK_INT(admitted(), 100);
    event(BT_EV_FINISHED, 100, 11000);
    CHECK_INT(admitted(), 2);
}

/* Time that fairness asks for is not time that ages: 60 s of device time ahead of the others, an
 * account starts its clock later, but no more than 6 age_ns later. */
static void debt_delays_ageing_but_not_for_ever(void)
{
    start();
    engine_up(1, 1000);
    enter_simple(1, 1, 1);
    enter_simple(2, 2, 1); // competes, and stays without service
    event(BT_EV_USED, 1, 60000000);
    enter_simple(3, 1, 1); // account 1 again: 60 s of device time ahead of account 2
    int64_t t0 = now;
    wait_until(t0 + 10 * SEC);
    CHECK(view(2).aged);
    wait_until(t0 + 70 * SEC - 1);
    CHECK(!view(3).aged);
    wait_until(t0 + 70 * SEC);
    CHECK(view(3).aged);
}

static void an_account_keeps_to_its_slots(void)
{
    start();
    engine_up(4, 100);
    bt_sched_request q = request(1, 1, 1);
    q.account.slots = 1;
    enter(&q);
    CHECK_INT(admitted(), 1);
    q.id = 2;
    enter(&q);
    CHECK_INT(admitted(), 0);
    enter_simple(3, 2, 0); // does not stand behind it
    CHECK_INT(admitted(), 3);
    event(BT_EV_FINISHED, 1, 100);
    CHECK_INT(admitted(), 2);
}

static void slots_and_pages_bound_admission(void)
{
    start();
    engine_up(3, 10);
    bt_sched_request q = request(1, 1, 1); // 20 tokens: 2 pages
    q.n_seq = 2;
    q.prompt_tokens = 40;
    q.max_tokens = 10; // 50 tokens: 2 shared pages and 2 for each sequence
    enter(&q);
    CHECK_INT(admitted(), 1);
    q = request(2, 2, 1);
    q.prompt_tokens = 55; // 65 tokens: 5 pages, 4 are left
    enter(&q);
    CHECK_INT(admitted(), 0);
    event(BT_EV_FINISHED, 1, 100);
    CHECK_INT(admitted(), 2);
    CHECK_INT(find(BT_ACT_ADMIT, 2)->lease.slot, 0);
    CHECK(find(BT_ACT_ADMIT, 2)->lease.generation == 2);
}

static void bypass_is_bounded(void)
{
    start();
    engine_up(4, 10);
    bt_sched_request q = request(1, 1, 2);
    q.prompt_tokens = 70; // 5 pages
    enter(&q);
    CHECK_INT(admitted(), 1);
    q.id = 2;
    q.account.id = 2;
    q.prompt_tokens = 90; // 7 pages: must wait for 1
    enter(&q);
    CHECK_INT(admitted(), 0);
    enter_simple(3, 3, 1); // 2 pages: may pass
    CHECK_INT(admitted(), 3);
    now += 5 * SEC;
    enter_simple(4, 4, 1); // no longer
    CHECK_INT(admitted(), 0);
    event(BT_EV_FINISHED, 3, 100);
    CHECK_INT(admitted(), 0);
    event(BT_EV_FINISHED, 1, 100);
    CHECK_INT(n_out, 3);
    CHECK(find(BT_ACT_ADMIT, 2));
    CHECK(find(BT_ACT_ADMIT, 4));
}

static void no_more_than_eight_are_passed_at_a_time(void)
{
    start();
    engine_up(16, 10);
    bt_sched_request q = request(1, 1, 2);
    q.prompt_tokens = 70;
    enter(&q);
    q.prompt_tokens = 90;
    for (q.id = 2; q.id <= 10; q.id++) { // nine that do not fit
        q.account.id = q.id;
        enter(&q);
    }
    enter_simple(11, 11, 1);
    CHECK_INT(admitted(), 0);
    event(BT_EV_CANCEL, 5, 0); // eight
    CHECK_INT(admitted(), 11);
}

static void the_top_line_is_never_passed(void)
{
    bt_sched_config c;
    bt_sched_config_init(&c);
    c.bypass_ns = 1000 * SEC;
    start_with(&c);
    engine_up(4, 10);
    bt_sched_request q = request(1, 1, 2);
    q.prompt_tokens = 70;
    enter(&q);
    q.id = 2;
    q.account.id = 2;
    q.prompt_tokens = 90;
    enter(&q);
    now += 10 * SEC;
    enter_simple(3, 3, 2);
    CHECK(view(2).aged);
    CHECK_INT(admitted(), 0);
    event(BT_EV_FINISHED, 1, 100);
    CHECK(find(BT_ACT_ADMIT, 2));
    CHECK(find(BT_ACT_ADMIT, 3));
}

static void predictions_learn(void)
{
    start();
    engine_up(1, 10000);
    CHECK_INT(predicted(100, 10), 20000);
    CHECK_INT(predicted(100, 10000), 266000); // 256 tokens until it knows better
    for (int i = 0; i < 300; i++) {
        step(&(bt_sched_event){.type = BT_EV_STEP,
                               .u.step = {.n_rows = 128,
                                          .n_prefill_rows = i % 2 ? 128 : 0,
                                          .n_seqs = 1,
                                          .step_us = 128 * 50}});
        step(&(bt_sched_event){.type = BT_EV_STEP,
                               .u.step = {.n_rows = 4, .n_seqs = 4, .step_us = 4 * 3000}});
    }
    CHECK_NEAR((double)predicted(1000, 1), 53000, 2000);
    CHECK_NEAR((double)predicted(1, 100), 300000, 20000);
    for (uint64_t id = 1; id <= 150; id++) {
        bt_sched_request q = request(id, 1, 1);
        q.max_tokens = 1000;
        enter(&q);
        step(&(bt_sched_event){.type = BT_EV_FINISHED,
                               .request = id,
                               .finish = BT_FINISH_EOS,
                               .amount_us = 60500, // nobody says that these were 20 tokens
                               .u.finished = {id % 2 ? 20 : 0}});
    }
    CHECK_NEAR((double)predicted(10, 1000), 60500, 12000);
}

static int told;
static int32_t told_position[16];
/* `n` steps of ten rows of a prompt and two that generate. */
static void steps_of(int n, uint64_t step_us)
{
    bt_sched_event ev = {.type = BT_EV_STEP};
    ev.u.step.n_rows = 12;
    ev.u.step.n_prefill_rows = 10;
    ev.u.step.n_seqs = 3;
    ev.u.step.step_us = step_us;
    for (int i = 0; i < n; i++) {
        now += (int64_t)step_us * 1000;
        step(&ev);
    }
}

static void who_came_in_a_bad_moment_is_not_held_to_it(void)
{
    start();
    engine_up(1, 100);
    for (uint64_t i = 0; i < 40; i++) enter_simple(1 + i, 1, 1); // the first of them runs
    steps_of(20, 3000);
    steps_of(3, 10000000); // the device hangs for a while; all that is predicted now is absurd
    enter_simple(100, 2, 1);
    bool came = false;
    for (uint64_t i = 1; i < 10 && !came; i++) { // usual steps again, and the usual use
        steps_of(100, 3000);
        event(BT_EV_FINISHED, i, 11000);
        came = admitted() == 100;
    }
    CHECK(came);
}

static void on_position(void *ud, uint64_t id, int32_t position, int64_t eta_ms)
{
    (void)ud;
    CHECK(eta_ms >= 0);
    told++;
    if (id < 16) told_position[id] = position;
}

static void positions_tell_changes_only(void)
{
    start();
    engine_up(1, 100);
    for (uint64_t id = 1; id <= 5; id++) enter_simple(id, id, 1);
    told = 0;
    bt_sched_positions(S, now, on_position, NULL);
    CHECK_INT(told, 4);
    CHECK_INT(told_position[2], 1);
    CHECK_INT(told_position[5], 4);
    bt_sched_positions(S, now, on_position, NULL);
    CHECK_INT(told, 4);
    event(BT_EV_CANCEL, 4, 0);
    bt_sched_positions(S, now, on_position, NULL);
    CHECK_INT(told, 5);
    CHECK_INT(told_position[5], 3);
}

/* Four hundred waiters at once would hold up whoever writes to them. */
static void positions_behind_the_next_are_told_in_turns(void)
{
    start();
    engine_up(1, 1000);
    for (uint64_t id = 1; id <= 201; id++) enter_simple(id, id, 1);
    told = 0;
    bt_sched_positions(S, now, on_position, NULL);
    CHECK_INT(told, 200); // newcomers at once
    event(BT_EV_CANCEL, 2, 0); // the next: all others move up
    int calls[4];
    for (int i = 0; i < 4; i++) {
        told = 0;
        bt_sched_positions(S, now, on_position, NULL);
        calls[i] = told;
    }
    CHECK(calls[0] >= 32 + 41 && calls[0] <= 32 + 43);
    CHECK(calls[1] >= 41 && calls[1] <= 43);
    CHECK_INT(calls[0] + calls[1] + calls[2] + calls[3], 199);
}

static void positions_far_back_are_estimated(void)
{
    bt_sched_config c;
    bt_sched_config_init(&c);
    c.queue_max = 10000;
    c.requests_max = 10000;
    start_with(&c);
    for (uint64_t id = 1; id <= 5000; id++) {
        bt_sched_request q = request(id, 1 + id % 10, 1);
        q.account.queue = 10000;
        enter(&q);
    }
    CHECK_INT(view(1).position, 1);
    CHECK_NEAR((double)view(3000).position, 3000, 2);
    CHECK_INT(view(5000).position, 5000);
    told = 0;
    bt_sched_positions(S, now, on_position, NULL);
    CHECK_INT(told, 2 * BT_SCHED_EXACT);
    for (int i = 0; i < 8; i++) bt_sched_positions(S, now, on_position, NULL);
    CHECK_INT(told, 2 * BT_SCHED_EXACT);
    bt_sched_view v[5];
    CHECK_INT(bt_sched_list(S, now, 0, v, 5), 5000);
    CHECK_INT(v[4].position, 5);
}

static void list_shows_waiting_in_order_then_running(void)
{
    start();
    engine_up(1, 100);
    enter_simple(1, 1, 1);
    enter_simple(2, 2, 0);
    enter_simple(3, 3, 2);
    enter_simple(4, 2, 0);
    event(BT_EV_USED, 1, 77);
    bt_sched_view v[8];
    REQUIRE(bt_sched_list(S, now, 0, v, 8) == 4);
    CHECK_INT(v[0].request, 3);
    CHECK_INT(v[1].request, 2);
    CHECK_INT(v[2].request, 4);
    CHECK_INT(v[3].request, 1);
    CHECK(v[3].running);
    CHECK_INT(v[3].used_us, 77);
    CHECK_INT(v[3].position, 0);
    REQUIRE(bt_sched_list(S, now, 2, v, 8) == 2);
    CHECK_INT(v[0].request, 2);
    CHECK_INT(v[0].position, 2);
    CHECK_INT(v[1].request, 4);
    CHECK_INT(bt_sched_list(S, now, 99, v, 8), 0);
    CHECK_INT(bt_sched_list(S, now, 0, v, 1), 4);
}

int main(void)
{
    RUN(retry_hint_follows_the_drain);
    RUN(classes_go_from_the_top);
    RUN(turns_follow_device_time);
    RUN(weights_scale_the_share);
    RUN(admission_charges_the_prediction);
    RUN(use_corrects_the_counter);
    RUN(what_was_not_used_is_given_back);
    RUN(a_newcomer_starts_where_the_others_are);
    RUN(a_newcomer_owes_nothing_for_what_others_may_yet_use);
    RUN(serving_an_idle_device_builds_no_debt);
    RUN(an_idle_account_saves_up_nothing);
    RUN(a_shorter_lease_goes_earlier);
    RUN(a_shorter_lease_passes_for_a_bounded_time);
    RUN(ageing_reaches_the_top_line);
    RUN(the_top_class_ages_too);
    RUN(a_flood_does_not_age_in_bulk);
    RUN(debt_delays_ageing_but_not_for_ever);
    RUN(an_account_keeps_to_its_slots);
    RUN(slots_and_pages_bound_admission);
    RUN(bypass_is_bounded);
    RUN(no_more_than_eight_are_passed_at_a_time);
    RUN(the_top_line_is_never_passed);
    RUN(predictions_learn);
    RUN(who_came_in_a_bad_moment_is_not_held_to_it);
    RUN(positions_tell_changes_only);
    RUN(positions_behind_the_next_are_told_in_turns);
    RUN(positions_far_back_are_estimated);
    RUN(list_shows_waiting_in_order_then_running);
    bt_sched_close(S);
    return TEST_END();
}
