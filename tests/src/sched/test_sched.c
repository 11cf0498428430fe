/* SPDX-License-Identifier: Apache-2.0 */
/* test_sched.c - the life of a request by rule: holds, bounds, ends, leases, crashes. */
#include "drive.h"
#include "base/mem.h"

static void life_of_a_request(void)
{
    start();
    engine_up(1, 100);
    bt_sched_request q = request(7, 1, 1);
    submit(&q);
    CHECK_INT(n_out, 1);
    CHECK(find(BT_ACT_HOLD, 7));
    CHECK_INT(bt_sched_waiting(S), 1);
    step(&(bt_sched_event){.type = BT_EV_HELD, .request = 7, .amount_us = 1234, .final = true});
    CHECK_INT(n_out, 2);
    CHECK_INT(out[0].type, BT_ACT_ACCEPT);
    CHECK_INT(out[1].type, BT_ACT_ADMIT);
    CHECK_INT(out[1].lease.budget_us, 1234);
    CHECK(out[1].lease.budget_final);
    CHECK_INT(out[1].lease.deadline_ns, now + 60 * SEC);
    CHECK_INT(out[1].lease.slot, 0);
    CHECK_INT(bt_sched_waiting(S), 0);
    CHECK_INT(bt_sched_running(S), 1);
    event(BT_EV_USED, 7, 500);
    CHECK_INT(n_out, 0); // final: nothing to top up with
    event(BT_EV_FINISHED, 7, 900);
    CHECK_INT(n_out, 1);
    const bt_sched_action *post = find(BT_ACT_POST, 7);
    REQUIRE(post != NULL);
    CHECK_INT(post->amount_us, 900);
    CHECK_INT(post->finish, BT_FINISH_EOS);
    CHECK_INT(bt_sched_list(S, now, 0, NULL, 0), 0);
    event(BT_EV_FINISHED, 7, 900);
    CHECK_INT(n_out, 0);
    CHECK_INT(bt_sched_next_deadline(S) == INT64_MAX, 1);
}

static void hold_is_predicted_times_factor(void)
{
    start();
    engine_up(4, 1000); // 100 us a prompt token, 1000 us an output token
    bt_sched_request q = request(1, 1, 1);
    q.prompt_tokens = 100;
    q.max_tokens = 40;
    submit(&q);
    REQUIRE(find(BT_ACT_HOLD, 1) != NULL);
    CHECK_INT(find(BT_ACT_HOLD, 1)->amount_us, 75000); // (100*100 + 40*1000) * 1.5
    q.id = 2;
    q.n_seq = 3;
    submit(&q);
    CHECK_INT(find(BT_ACT_HOLD, 2)->amount_us, 195000); // one prompt, three outputs
    q = request(3, 1, 1);
    q.prompt_tokens = q.max_tokens = 1;
    submit(&q);
    CHECK_INT(find(BT_ACT_HOLD, 3)->amount_us, 1650);
    q.id = 4;
    q.max_tokens = 10000;
    q.lease_ns = SEC / 100; // 10 ms of lease can use no more than that and the steps in flight
    submit(&q);
    CHECK(find(BT_ACT_HOLD, 4)->amount_us <= 1010000);
}

static void a_refused_hold_refuses(void)
{
    start();
    engine_up(1, 100);
    bt_sched_request q = request(1, 1, 1);
    submit(&q);
    event(BT_EV_REFUSED, 1, 0);
    CHECK_INT(n_out, 1);
    REQUIRE(find(BT_ACT_REFUSE, 1) != NULL);
    CHECK_INT(find(BT_ACT_REFUSE, 1)->status, BT_EQUOTA);
    CHECK_INT(bt_sched_waiting(S), 0);
}

static void impossible_requests_are_refused(void)
{
    start();
    engine_up(4, 10); // 160 tokens of KV
    bt_sched_request q = request(1, 1, 1);
    q.n_seq = 5; // of 4 slots of the tier
    submit(&q);
    CHECK_INT(find(BT_ACT_REFUSE, 1)->status, BT_EINVAL);
    q = request(2, 1, 1);
    q.prompt_tokens = 151;
    submit(&q);
    CHECK_INT(find(BT_ACT_REFUSE, 2)->status, BT_ECONTEXT);
    q = request(4, 1, 3);
    submit(&q);
    CHECK_INT(find(BT_ACT_REFUSE, 4)->status, BT_EINVAL);
    q = request(5, 1, 1);
    q.prompt_tokens = 150; // exactly fits
    enter(&q);
    CHECK_INT(admitted(), 5);
}

static void one_queued_before_the_engine_may_turn_out_impossible(void)
{
    start();
    bt_sched_request q = request(1, 1, 1);
    q.prompt_tokens = 1000;
    enter(&q);
    enter_simple(2, 1, 1);
    engine_up(1, 10);
    REQUIRE(find(BT_ACT_VOID, 1) != NULL);
    CHECK_INT(find(BT_ACT_VOID, 1)->status, BT_ECONTEXT);
    CHECK_INT(admitted(), 2);
}

static void queue_bounds_refuse_with_a_hint(void)
{
    bt_sched_config c;
    bt_sched_config_init(&c);
    c.queue_max = 3;
    c.requests_max = 8;
    start_with(&c);
    bt_sched_request q = request(1, 1, 1);
    q.account.queue = 2;
    enter(&q);
    q.id = 2;
    enter(&q);
    q.id = 3;
    submit(&q);
    REQUIRE(find(BT_ACT_REFUSE, 3) != NULL); // the account's bound
    CHECK_INT(find(BT_ACT_REFUSE, 3)->status, BT_EBUSY);
    CHECK(find(BT_ACT_REFUSE, 3)->retry_ns >= SEC);
    enter_simple(4, 2, 1);
    bt_sched_request more = request(5, 3, 1);
    submit(&more);
    REQUIRE(find(BT_ACT_REFUSE, 5) != NULL); // the bound of all
    CHECK_INT(find(BT_ACT_REFUSE, 5)->status, BT_EBUSY);
    CHECK_INT(bt_sched_waiting(S), 3);
    event(BT_EV_CANCEL, 1, 0);
    more.id = 6;
    submit(&more);
    CHECK(find(BT_ACT_HOLD, 6));
}

/* Of 8 places class 0 may have 4, with class 1 together 6. */
static void start_small(void)
{
    bt_sched_config c;
    bt_sched_config_init(&c);
    c.queue_max = 8;
    start_with(&c);
}

static const bt_sched_action *refused(uint64_t id, uint64_t account, int32_t cls)
{
    bt_sched_request q = request(id, account, cls);
    submit(&q);
    REQUIRE(find(BT_ACT_REFUSE, id) != NULL);
    CHECK_INT(find(BT_ACT_REFUSE, id)->status, BT_EBUSY);
    CHECK(find(BT_ACT_REFUSE, id)->retry_ns >= SEC);
    return find(BT_ACT_REFUSE, id);
}

static void places_are_kept_for_higher_classes(void)
{
    start_small();
    for (uint64_t id = 1; id <= 4; id++) enter_simple(id, id, 0);
    CHECK_INT(refused(5, 5, 0)->limit, BT_LIMIT_CLASS);
    CHECK_INT(refused(5, 5, 0)->places, 4);
    enter_simple(11, 11, 1);
    enter_simple(12, 12, 1);
    enter_simple(21, 21, 2);
    enter_simple(22, 22, 2);
    CHECK_INT(bt_sched_waiting(S), 8); // and nobody had to go
    CHECK_INT(refused(5, 5, 0)->limit, BT_LIMIT_CLASS);
}

static void a_higher_class_displaces_the_last_of_the_lowest(void)
{
    start_small();
    for (uint64_t id = 1; id <= 3; id++) enter_simple(id, id, 0);
    enter_simple(4, 1, 0); // account 1's second: last in order
    CHECK_INT(view(4).position, 4);
    for (uint64_t id = 11; id <= 12; id++) enter_simple(id, id, 1);
    bt_sched_request q = request(13, 13, 1);
    submit(&q);
    CHECK(find(BT_ACT_HOLD, 13) != NULL);
    REQUIRE(find(BT_ACT_VOID, 4) != NULL);
    CHECK_INT(find(BT_ACT_VOID, 4)->status, BT_EBUSY);
    CHECK_INT(find(BT_ACT_VOID, 4)->limit, BT_LIMIT_DISPLACED);
    CHECK(find(BT_ACT_VOID, 4)->retry_ns >= SEC);
    event(BT_EV_HELD, 13, 1000);
    for (uint64_t id = 21; id <= 26;
         id++) { // places 7 and 8, then three of class 0, one of class 1
        q = request(id, id, 2);
        submit(&q);
        CHECK(find(BT_ACT_HOLD, id) != NULL);
        static const uint64_t goes[] = {0, 0, 3, 2, 1, 13};
        CHECK_INT(n_out, goes[id - 21] ? 2 : 1);
        CHECK(!goes[id - 21] || find(BT_ACT_VOID, goes[id - 21]));
        event(BT_EV_HELD, id, 1000);
    }
    enter_simple(27, 27, 2); // 12
    enter_simple(28, 28, 2); // 11
    const bt_sched_action *a = refused(29, 29, 2);
    CHECK_INT(a->limit, BT_LIMIT_QUEUE); // equals give nothing to each other
    CHECK_INT(a->places, 8);
    CHECK_INT(bt_sched_waiting(S), 8);
}

static void the_top_line_is_not_displaced(void)
{
    start_small();
    for (uint64_t id = 1; id <= 4; id++) enter_simple(id, id, 0);
    for (int i = 0; i < 8; i++) wait_until(now + 10 * SEC);
    CHECK(view(1).aged && view(4).aged);
    enter_simple(5, 11, 1);
    enter_simple(6, 12, 1);
    bt_sched_request q = request(7, 13, 1);
    submit(&q);
    CHECK_INT(find(BT_ACT_REFUSE, 7)->limit, BT_LIMIT_CLASS);
    enter_simple(8, 21, 2);
    enter_simple(9, 22, 2);
    enter_simple(10, 23, 2); // the last of class 1, which has not aged
    CHECK_INT(bt_sched_waiting(S), 8);
}

/* A part whose last one was just admitted: it has that one's place, whoever came meanwhile. */
static void parts_follow_each_other(void)
{
    start_small();
    for (uint64_t id = 1; id <= 3; id++) enter_simple(id, id, 0);
    bt_sched_request q = request(4, 4, 0);
    q.account.queue = 1;
    enter(&q);
    engine_up(1, 100);
    CHECK_INT(admitted(), 1);
    enter_simple(5, 5, 0);
    q = request(6, 1, 0);
    q.follows = true;
    enter(&q);
    CHECK_INT(bt_sched_waiting(S), 5);
    CHECK_INT(refused(7, 7, 0)->limit, BT_LIMIT_CLASS);
    for (uint64_t id = 11; id <= 15; id++) enter_simple(id, id, 1);
    CHECK_INT(bt_sched_waiting(S), 6);
    CHECK_INT(view(6).account, 1); // all of class 0 went but this
    CHECK_INT(refused(16, 16, 1)->limit, BT_LIMIT_CLASS);
}

static bt_sched_request visitor(uint64_t id, uint64_t account, uint64_t group)
{
    bt_sched_request q = request(id, account, 0);
    q.account.anonymous = true;
    q.account.group = group;
    return q;
}

static void anonymous_ones_share_places(void)
{
    bt_sched_config c;
    bt_sched_config_init(&c);
    c.queue_max = 16; // class 0: 8, anonymous: 6
    c.group_max = 4;
    start_with(&c);
    bt_sched_request q = visitor(1, 1, 7);
    q.account.queue = 1;
    enter(&q);
    q.id = 2;
    submit(&q);
    CHECK_INT(find(BT_ACT_REFUSE, 2)->limit, BT_LIMIT_ACCOUNT);
    CHECK_INT(find(BT_ACT_REFUSE, 2)->places, 1);
    for (uint64_t id = 2; id <= 4; id++) {
        q = visitor(id, id, 7);
        enter(&q);
    }
    q = visitor(5, 5, 7);
    submit(&q);
    CHECK_INT(find(BT_ACT_REFUSE, 5)->limit, BT_LIMIT_GROUP);
    CHECK_INT(find(BT_ACT_REFUSE, 5)->places, 4);
    for (uint64_t id = 5; id <= 6; id++) {
        q = visitor(id, id, 0);
        enter(&q);
    }
    q = visitor(7, 7, 8);
    submit(&q);
    CHECK_INT(find(BT_ACT_REFUSE, 7)->limit, BT_LIMIT_ANONYMOUS);
    CHECK_INT(find(BT_ACT_REFUSE, 7)->places, 6);
    enter_simple(8, 8, 0); // one with a name
    event(BT_EV_CANCEL, 1, 0);
    enter(&q);
}

/* A house full of visitors, half of them aged: one with a name has a slot at once. */
static void anonymous_ones_leave_slots(void)
{
    start();
    engine_up(8, 100);
    int running = 0;
    for (uint64_t id = 1; id <= 40; id++) {
        bt_sched_request q = visitor(id, id, 0);
        enter(&q);
        running += admitted() != 0;
    }
    CHECK_INT(running, 6);
    for (int i = 0; i < 8; i++) wait_until(now + 10 * SEC);
    CHECK(view(40).aged);
    enter_simple(100, 100, 2);
    CHECK_INT(admitted(), 100);
    enter_simple(101, 101, 0);
    CHECK_INT(admitted(), 101);
    enter_simple(102, 102, 2);
    CHECK_INT(admitted(), 0);
    event(BT_EV_FINISHED, 1, 1000); // a visitor's slot: they are below their bound
    CHECK_INT(admitted(), 7);
    event(BT_EV_FINISHED, 100, 1000);
    CHECK_INT(admitted(), 102);
    event(BT_EV_FINISHED, 101, 1000);
    CHECK_INT(admitted(), 0);
}

/* Pages too: six visitors with large contexts leave a quarter of them. */
static void anonymous_ones_leave_pages(void)
{
    start();
    engine_up(8, 100);
    for (uint64_t id = 1; id <= 6; id++) {
        bt_sched_request q = visitor(id, id, 0);
        q.max_tokens = 390; // 25 pages
        enter(&q);
        CHECK_INT(admitted(), id <= 3 ? id : 0);
    }
    bt_sched_request q = request(100, 100, 2);
    q.max_tokens = 390;
    enter(&q);
    CHECK_INT(admitted(), 100);
    for (uint64_t id = 1; id <= 3; id++) event(BT_EV_FINISHED, id, 1000);
    bt_sched_request whole = visitor(7, 7, 0);
    whole.max_tokens = 1500; // more than their share
    event(BT_EV_CANCEL, 4, 0);
    event(BT_EV_CANCEL, 5, 0);
    event(BT_EV_CANCEL, 6, 0);
    event(BT_EV_FINISHED, 100, 1000);
    enter(&whole);
    CHECK_INT(admitted(), 0);
    now += 6 * SEC;
    for (uint64_t id = 4; id <= 6; id++) event(BT_EV_FINISHED, id, 1000);
    CHECK_INT(admitted(), 7); // alone it may run
}

static void holds_are_topped_up_at_half(void)
{
    start();
    engine_up(1, 100);
    bt_sched_request q = request(1, 1, 1);
    submit(&q);
    event(BT_EV_HELD, 1, 10000);
    event(BT_EV_USED, 1, 4999);
    CHECK_INT(n_out, 0);
    event(BT_EV_USED, 1, 5000);
    CHECK_INT(n_out, 1);
    REQUIRE(find(BT_ACT_TOP_UP, 1) != NULL);
    CHECK_INT(find(BT_ACT_TOP_UP, 1)->amount_us, 20000);
    event(BT_EV_USED, 1, 9000);
    CHECK_INT(n_out, 0); // one at a time
    event(BT_EV_TOPPED_UP, 1, 20000);
    REQUIRE(find(BT_ACT_BUDGET, 1) != NULL);
    CHECK_INT(find(BT_ACT_BUDGET, 1)->lease.budget_us, 20000);
    CHECK(!find(BT_ACT_BUDGET, 1)->lease.budget_final);
    event(BT_EV_USED, 1, 10000);
    CHECK_INT(find(BT_ACT_TOP_UP, 1)->amount_us, 40000);
    step(&(bt_sched_event){
        .type = BT_EV_TOPPED_UP, .request = 1, .amount_us = 25000, .final = true});
    CHECK_INT(find(BT_ACT_BUDGET, 1)->lease.budget_us, 25000);
    CHECK(find(BT_ACT_BUDGET, 1)->lease.budget_final);
    event(BT_EV_USED, 1, 24000);
    CHECK_INT(n_out, 0);
}

/* The engine pauses at its budget and reports no more use: asking must not wait for a report. */
static void a_top_up_that_came_too_late_is_followed_by_another(void)
{
    start();
    engine_up(1, 100);
    bt_sched_request q = request(1, 1, 1);
    submit(&q);
    event(BT_EV_HELD, 1, 1000);
    event(BT_EV_USED, 1, 900000); // one step, far past the hold and the prediction
    REQUIRE(find(BT_ACT_TOP_UP, 1) != NULL);
    CHECK_INT(find(BT_ACT_TOP_UP, 1)->amount_us, 2700000); // or it would stay paused
    event(BT_EV_USED, 1, 1900000);                         // steps in flight meanwhile
    CHECK_INT(n_out, 0);
    event(BT_EV_TOPPED_UP, 1, 2700000);
    REQUIRE(find(BT_ACT_BUDGET, 1) != NULL);
    REQUIRE(find(BT_ACT_TOP_UP, 1) != NULL);
    CHECK_INT(find(BT_ACT_TOP_UP, 1)->amount_us, 5700000);
    event(BT_EV_TOPPED_UP, 1, 5700000);
    CHECK_INT(n_out, 1);
    CHECK_INT(find(BT_ACT_BUDGET, 1)->lease.budget_us, 5700000);
}

static void use_is_of_running_requests_only(void)
{
    start();
    engine_up(1, 100);
    enter_simple(1, 1, 1);
    enter_simple(2, 2, 1);
    event(BT_EV_USED, 2, 5000);
    event(BT_EV_FINISHED, 2, 5000);
    event(BT_EV_TOPPED_UP, 2, 5000);
    CHECK_INT(n_out, 0);
    event(BT_EV_USED, 1, 900);
    event(BT_EV_USED, 1, 800); // old news
    event(BT_EV_FINISHED, 1, 700);
    CHECK_INT(find(BT_ACT_POST, 1)->amount_us, 900);
    CHECK_INT(admitted(), 2);
    event(BT_EV_FINISHED, 2, 0);
    CHECK_INT(find(BT_ACT_POST, 2)->amount_us, 0);
}

static void cancel_works_everywhere_and_once(void)
{
    start();
    engine_up(1, 100);
    bt_sched_request q = request(1, 1, 1);
    submit(&q); // waits for its hold
    event(BT_EV_CANCEL, 1, 0);
    CHECK_INT(n_out, 0);
    event(BT_EV_CANCEL, 1, 0);
    event(BT_EV_HELD, 1, 100);
    CHECK_INT(n_out, 1);
    REQUIRE(find(BT_ACT_VOID, 1) != NULL);
    CHECK_INT(find(BT_ACT_VOID, 1)->status, BT_ECANCELLED);
    CHECK_INT(find(BT_ACT_VOID, 1)->finish, BT_FINISH_CANCELLED);
    q.id = 2;
    submit(&q);
    event(BT_EV_CANCEL, 2, 0);
    event(BT_EV_REFUSED, 2, 0);
    REQUIRE(find(BT_ACT_REFUSE, 2) != NULL);
    CHECK_INT(find(BT_ACT_REFUSE, 2)->status, BT_ECANCELLED);

    enter_simple(3, 1, 1);
    CHECK_INT(admitted(), 3);
    enter_simple(4, 1, 1);
    event(BT_EV_CANCEL, 4, 0); // queued
    CHECK_INT(n_out, 1);
    CHECK(find(BT_ACT_VOID, 4));
    event(BT_EV_CANCEL, 3, 0); // running
    CHECK_INT(n_out, 1);
    REQUIRE(find(BT_ACT_CANCEL, 3) != NULL);
    CHECK_INT(find(BT_ACT_CANCEL, 3)->finish, BT_FINISH_CANCELLED);
    CHECK_INT(find(BT_ACT_CANCEL, 3)->lease.generation, 1);
    event(BT_EV_CANCEL, 3, 0);
    CHECK_INT(n_out, 0);
    step(&(bt_sched_event){
        .type = BT_EV_FINISHED, .request = 3, .amount_us = 50, .finish = BT_FINISH_CANCELLED});
    CHECK_INT(find(BT_ACT_POST, 3)->amount_us, 50);
    event(BT_EV_CANCEL, 3, 0);
    event(BT_EV_CANCEL, 77, 0); // never heard of
    CHECK_INT(n_out, 0);
}

static void a_crash_posts_what_ran_and_keeps_the_queue(void)
{
    start();
    engine_up(2, 100);
    for (uint64_t id = 1; id <= 3; id++) enter_simple(id, id, 1);
    event(BT_EV_USED, 1, 4000);
    event(BT_EV_ENGINE_DOWN, 0, 0);
    CHECK_INT(n_out, 2);
    CHECK_INT(find(BT_ACT_POST, 1)->amount_us, 4000);
    CHECK_INT(find(BT_ACT_POST, 1)->finish, BT_FINISH_DEVICE_FAULT);
    CHECK_INT(find(BT_ACT_POST, 2)->amount_us, 0);
    CHECK_INT(bt_sched_running(S), 0);
    CHECK_INT(bt_sched_waiting(S), 1);
    event(BT_EV_FINISHED, 1, 9000); // late news of the dead engine
    CHECK_INT(n_out, 0);
    enter_simple(4, 4, 1);
    CHECK_INT(admitted(), 0);
    engine_up(1, 100);
    CHECK_INT(admitted(), 3);
    engine_up(1, 100); // up without down: it must have been away
    CHECK_INT(find(BT_ACT_POST, 3)->finish, BT_FINISH_DEVICE_FAULT);
    CHECK_INT(admitted(), 4);
}

static void a_parked_engine_admits_nothing(void)
{
    start();
    engine_up(2, 100);
    enter_simple(1, 1, 1);
    event(BT_EV_ENGINE_ASLEEP, 0, 0);
    enter_simple(2, 2, 1);
    CHECK_INT(admitted(), 0);
    engine_up(2, 100);
    CHECK_INT(admitted(), 2);
    CHECK_INT(bt_sched_running(S), 2);
    CHECK_INT(view(2).lease.slot, 1);
}

static void drain_ends_the_queue_and_lets_the_rest_run(void)
{
    start();
    engine_up(1, 100);
    enter_simple(1, 1, 1);
    enter_simple(2, 1, 1);
    bt_sched_request q = request(3, 2, 1);
    submit(&q);
    event(BT_EV_DRAIN, 0, 0);
    CHECK_INT(n_out, 1);
    CHECK_INT(find(BT_ACT_VOID, 2)->status, BT_ECLOSED);
    q.id = 4;
    submit(&q);
    CHECK_INT(find(BT_ACT_REFUSE, 4)->status, BT_ECLOSED);
    event(BT_EV_HELD, 3, 100);
    CHECK_INT(find(BT_ACT_VOID, 3)->status, BT_ECLOSED);
    event(BT_EV_FINISHED, 1, 100);
    CHECK(find(BT_ACT_POST, 1));
}

static void waiting_too_long_times_out(void)
{
    start();
    enter_simple(1, 1, 1);
    int64_t t0 = now;
    wait_until(t0 + 20 * SEC); // aged by now: only the timeout is left
    CHECK_INT(bt_sched_next_deadline(S), t0 + 600 * SEC);
    now = t0 + 100 * SEC;
    bt_sched_request q = request(2, 2, 1);
    submit(&q); // its hold is never answered in time
    wait_until(t0 + 600 * SEC - 1);
    CHECK_INT(n_out, 0);
    wait_until(t0 + 600 * SEC);
    CHECK_INT(find(BT_ACT_VOID, 1)->status, BT_ETIMEOUT);
    wait_until(t0 + 700 * SEC);
    CHECK_INT(n_out, 0);
    CHECK(bt_sched_next_deadline(S) == INT64_MAX);
    event(BT_EV_HELD, 2, 100);
    CHECK_INT(find(BT_ACT_VOID, 2)->status, BT_ETIMEOUT);
}

static void an_overdue_lease_is_ended_once(void)
{
    start();
    engine_up(1, 100);
    bt_sched_request q = request(1, 1, 1);
    q.lease_ns = 3 * SEC;
    enter(&q);
    CHECK_INT(find(BT_ACT_ADMIT, 1)->lease.deadline_ns, now + 3 * SEC);
    CHECK_INT(bt_sched_next_deadline(S), now + 5 * SEC);
    wait_until(now + 5 * SEC - 1);
    CHECK_INT(n_out, 0);
    wait_until(now + 1);
    CHECK_INT(n_out, 1);
    CHECK_INT(find(BT_ACT_CANCEL, 1)->finish, BT_FINISH_LEASE_EXPIRED);
    wait_until(now + 60 * SEC);
    CHECK_INT(n_out, 0);
}

static void a_lease_never_passes_the_tier(void)
{
    start();
    engine_up(1, 100);
    bt_sched_request q = request(1, 1, 1);
    q.lease_ns = 3600 * SEC;
    enter(&q);
    CHECK_INT(find(BT_ACT_ADMIT, 1)->lease.deadline_ns, now + 60 * SEC);
}

/* With room for one action a call, nothing is lost and nothing comes twice. */
static void a_full_action_array_loses_nothing(void)
{
    start();
    engine_up(8, 1000);
    for (uint64_t id = 1; id <= 40; id++) enter_simple(id, id, 1);
    bt_sched_event ev[2] = {{.type = BT_EV_ENGINE_DOWN}, {.type = BT_EV_DRAIN}};
    bt_sched_action a;
    int posts = 0, voids = 0, calls = 0;
    size_t n = bt_sched_step(S, now, ev, 2, &a, 1);
    for (; n == 1 && calls < 100; calls++) {
        posts += a.type == BT_ACT_POST;
        voids += a.type == BT_ACT_VOID;
        n = bt_sched_step(S, now, NULL, 0, &a, 1);
    }
    CHECK_INT(posts, 8);
    CHECK_INT(voids, 32);
    CHECK_INT(calls, 40);
}

static void idle_accounts_are_forgotten_for_new_ones(void)
{
    bt_sched_config c;
    bt_sched_config_init(&c);
    c.accounts_max = 3;
    start_with(&c);
    enter_simple(1, 1, 1);
    enter_simple(2, 2, 1);
    enter_simple(3, 3, 1);
    bt_sched_request q = request(4, 4, 1);
    submit(&q); // all three have somebody waiting
    CHECK_INT(find(BT_ACT_REFUSE, 4)->status, BT_EBUSY);
    event(BT_EV_CANCEL, 2, 0);
    enter(&q);
    CHECK_INT(bt_sched_waiting(S), 3);
    CHECK_INT(view(4).account, 4);
}

static void a_second_submit_of_a_live_id_is_ignored(void)
{
    start();
    enter_simple(1, 1, 1);
    bt_sched_request q = request(1, 2, 2);
    submit(&q);
    CHECK_INT(n_out, 0);
    CHECK_INT(bt_sched_waiting(S), 1);
    q.id = 0;
    submit(&q);
    CHECK_INT(n_out, 0);
}

static void open_checks_and_survives_no_memory(void)
{
    bt_sched_config c;
    bt_sched *s = NULL;
    bt_err err = {0};
    bt_sched_config_init(&c);
    c.requests_max = 10; // fewer than may wait
    CHECK_INT(bt_sched_open(&c, &s, &err), BT_EINVAL);
    CHECK(strstr(err.msg, "1024") != NULL);
    bt_sched_config_init(&c);
    c.hold_factor = 0.5;
    CHECK_INT(bt_sched_open(&c, &s, &err), BT_EINVAL);
    bt_sched_config_init(&c);
    int n = 1;
    for (;; n++) {
        bt_mem_fail_at(n);
        bt_status st = bt_sched_open(&c, &s, &err);
        bool failed = bt_mem_failed();
        bt_mem_fail_at(0);
        if (!failed) break;
        CHECK_INT(st, BT_ENOMEM);
        CHECK(s == NULL);
    }
    CHECK(n > 10);
    bt_sched_close(s);
}

static void on_position(void *ud, uint64_t id, int32_t position, int64_t eta_ms)
{
    (void)ud;
    CHECK(id > 0 && position > 0 && eta_ms >= 0);
}

static void nothing_is_allocated_after_open(void)
{
    start();
    bt_mem_guard_begin();
    engine_up(4, 1000);
    for (uint64_t id = 1; id <= 600; id++) enter_simple(id, id % 50 + 1, (int32_t)id % 3);
    bt_sched_positions(S, now, on_position, NULL);
    for (int i = 0; i < 100; i++) {
        uint64_t done = 0;
        bt_sched_view v[700];
        size_t n = bt_sched_list(S, now, 0, v, 700);
        for (size_t k = 0; k < n; k++)
            if (v[k].running) done = v[k].request;
        now += SEC;
        event(BT_EV_FINISHED, done, 100);
    }
    event(BT_EV_DRAIN, 0, 0);
    bt_mem_guard_end();
    CHECK_INT(bt_sched_waiting(S), 0);
}

int main(void)
{
    RUN(life_of_a_request);
    RUN(hold_is_predicted_times_factor);
    RUN(a_refused_hold_refuses);
    RUN(impossible_requests_are_refused);
    RUN(one_queued_before_the_engine_may_turn_out_impossible);
    RUN(queue_bounds_refuse_with_a_hint);
    RUN(places_are_kept_for_higher_classes);
    RUN(a_higher_class_displaces_the_last_of_the_lowest);
    RUN(the_top_line_is_not_displaced);
    RUN(parts_follow_each_other);
    RUN(anonymous_ones_share_places);
    RUN(anonymous_ones_leave_slots);
    RUN(anonymous_ones_leave_pages);
    RUN(holds_are_topped_up_at_half);
    RUN(a_top_up_that_came_too_late_is_followed_by_another);
    RUN(use_is_of_running_requests_only);
    RUN(cancel_works_everywhere_and_once);
    RUN(a_crash_posts_what_ran_and_keeps_the_queue);
    RUN(a_parked_engine_admits_nothing);
    RUN(drain_ends_the_queue_and_lets_the_rest_run);
    RUN(waiting_too_long_times_out);
    RUN(an_overdue_lease_is_ended_once);
    RUN(a_lease_never_passes_the_tier);
    RUN(a_full_action_array_loses_nothing);
    RUN(idle_accounts_are_forgotten_for_new_ones);
    RUN(a_second_submit_of_a_live_id_is_ignored);
    RUN(open_checks_and_survives_no_memory);
    RUN(nothing_is_allocated_after_open);
    bt_sched_close(S);
    return TEST_END();
}
