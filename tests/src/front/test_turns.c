/* SPDX-License-Identifier: Apache-2.0 */
/* test_turns.c - the queue of text work: turns by time, places by account, all in virtual time. */
#include "front/turns.h"
#include "base/assert.h"
#include "base/rng.h"
#include "test.h"

enum { PRO = 1, OTHER = 2, ANON = 100, MS = 1000 };

static bt_turns turns;
static bt_turn job[8192];
static int n_jobs;

static void open_turns(int32_t account, int32_t anonymous, int32_t all)
{
    const bt_turns_bound bound[BT_TURNS_BOUNDS] = {{account, 1000}, {anonymous, 2000}, {all, 4000}};
    n_jobs = 0;
    REQUIRE(bt_turns_init(&turns, bound, NULL) == BT_OK);
}

static bt_status put_bytes(uint64_t account, size_t bytes, bt_turns_who *full)
{
    bt_turn *j = &job[n_jobs++];
    *j = (bt_turn){.account = account, .weight = 1, .anonymous = account >= ANON, .bytes = bytes};
    return bt_turns_put(&turns, j, full);
}

static bt_status put(uint64_t account)
{
    bt_turns_who full;
    return put_bytes(account, 1, &full);
}

/* Takes the next job, which lasts so long; whose it was, 0: nobody's turn. */
static uint64_t serve(int64_t us)
{
    bt_turn *j = bt_turns_take(&turns);
    if (!j) return 0;
    uint64_t account = j->account;
    bt_turns_end(&turns, j, us);
    return account;
}

static void in_order_of_arrival_where_all_else_is_equal(void)
{
    open_turns(10, 10, 100);
    put(PRO), put(PRO), put(OTHER);
    CHECK_INT(serve(0), PRO);
    CHECK_INT(serve(0), PRO);
    CHECK_INT(serve(0), OTHER);
    CHECK_INT(serve(0), 0);
    bt_turns_release(&turns);
}

static void who_took_long_waits_for_long(void)
{
    open_turns(1000, 1000, 4000);
    for (int i = 0; i < 200; i++) put(PRO), put(OTHER);
    int64_t pro_us = 0, other_us = 0;
    for (int i = 0; i < 100; i++) {
        bt_turn *j = bt_turns_take(&turns);
        int64_t us = j->account == PRO ? 10 * MS : 1 * MS;
        *(j->account == PRO ? &pro_us : &other_us) += us;
        bt_turns_end(&turns, j, us);
    }
    CHECK(llabs(pro_us - other_us) <= 10 * MS); // no further apart than one job
    bt_turns_release(&turns);
}

static void weight_is_a_share(void)
{
    open_turns(1000, 1000, 4000);
    int got[3] = {0};
    for (int i = 0; i < 300; i++) {
        bt_turns_who full;
        bt_turn *j = &job[n_jobs++];
        *j = (bt_turn){.account = i % 2 ? PRO : OTHER, .weight = i % 2 ? 4 : 1};
        CHECK_INT(bt_turns_put(&turns, j, &full), BT_OK);
    }
    for (int i = 0; i < 100; i++) got[serve(MS)]++;
    CHECK(got[PRO] >= 78 && got[PRO] <= 82);
    bt_turns_release(&turns);
}

/* A thousand addresses that never pause, and one key: its job is next, whatever waits. */
static void anonymous_visitors_are_one_party(void)
{
    open_turns(10, 1000, 4000);
    for (int i = 0; i < 1000; i++) CHECK_INT(put(ANON + (uint64_t)i), BT_OK);
    for (int i = 0; i < 50; i++) CHECK(serve(5 * MS) >= ANON);
    CHECK_INT(put(PRO), BT_OK);
    CHECK_INT(serve(MS), PRO);
    CHECK(serve(5 * MS) >= ANON);
    bt_turns_release(&turns);
}

static void anonymous_visitors_take_turns(void)
{
    open_turns(100, 1000, 4000);
    for (int i = 0; i < 100; i++) put(ANON);
    for (int i = 0; i < 10; i++) put(ANON + 1);
    int got[2] = {0};
    for (int i = 0; i < 20; i++) got[serve(MS) - ANON]++;
    CHECK_INT(got[1], 10);
    bt_turns_release(&turns);
}

/* Its credit does not grow while it is away, nor is its debt forgotten. */
static void a_pause_gives_nothing(void)
{
    open_turns(1000, 1000, 4000);
    put(PRO);
    CHECK_INT(serve(100 * MS), PRO); // owes a tenth of a second
    for (int i = 0; i < 200; i++) put(OTHER);
    for (int i = 0; i < 50; i++) put(PRO);
    for (int i = 0; i < 90; i++) CHECK_INT(serve(MS), OTHER);
    int got[3] = {0};
    for (int i = 0; i < 60; i++) got[serve(MS)]++;
    CHECK(got[PRO] >= 20 && got[OTHER] >= 20);
    bt_turns_release(&turns);
}

static void one_job_of_a_party_at_a_time(void)
{
    open_turns(10, 10, 100);
    put(PRO), put(PRO), put(ANON), put(ANON + 1);
    bt_turn *a = bt_turns_take(&turns), *b = bt_turns_take(&turns);
    CHECK_INT(a->account, PRO);
    CHECK_INT(b->account, ANON);
    CHECK(bt_turns_take(&turns) == NULL); // two wait, but both parties have one under way
    bt_turns_end(&turns, b, MS);
    CHECK_INT(serve(MS), ANON + 1);
    bt_turns_end(&turns, a, MS);
    CHECK_INT(serve(MS), PRO);
    bt_turns_release(&turns);
}

static void each_bound_is_named(void)
{
    bt_turns_who full;
    open_turns(2, 3, 4);
    CHECK_INT(put(PRO), BT_OK);
    CHECK_INT(put(PRO), BT_OK);
    CHECK_INT(put_bytes(PRO, 1, &full), BT_EBUSY);
    CHECK_INT(full, BT_TURNS_ACCOUNT);
    bt_turns_release(&turns);
    open_turns(2, 3, 4);
    for (int i = 0; i < 3; i++) CHECK_INT(put(ANON + (uint64_t)i), BT_OK);
    CHECK_INT(put_bytes(ANON + 9, 1, &full), BT_EBUSY);
    CHECK_INT(full, BT_TURNS_ANONYMOUS);
    CHECK_INT(put(PRO), BT_OK); // whose places the anonymous do not take
    CHECK_INT(put_bytes(OTHER, 1, &full), BT_EBUSY);
    CHECK_INT(full, BT_TURNS_ALL);
    bt_turns_release(&turns);
}

static void bytes_are_bounded_too(void)
{
    bt_turns_who full;
    open_turns(100, 100, 100);
    CHECK_INT(put_bytes(PRO, 5000, &full), BT_OK); // alone it may be larger than all bounds
    CHECK_INT(put_bytes(PRO, 1, &full), BT_EBUSY);
    CHECK_INT(full, BT_TURNS_ACCOUNT);
    CHECK_INT(serve(MS), PRO);
    CHECK_INT(put_bytes(PRO, 600, &full), BT_OK);
    CHECK_INT(put_bytes(PRO, 400, &full), BT_OK);
    CHECK_INT(put_bytes(PRO, 1, &full), BT_EBUSY);
    bt_turns_release(&turns);
}

static void what_is_dropped_gives_its_place_back(void)
{
    open_turns(3, 3, 3);
    put(PRO), put(PRO), put(PRO);
    bt_turns_drop(&turns, &job[1]);
    CHECK_INT(put(PRO), BT_OK);
    bt_turns_drop(&turns, &job[0]);
    bt_turns_drop(&turns, &job[3]);
    CHECK(bt_turns_take(&turns) == &job[2]);
    bt_turns_end(&turns, &job[2], MS);
    CHECK_INT(turns.jobs, 0);
    CHECK_INT(turns.bytes, 0);
    bt_turns_release(&turns);
}

/* However many addresses come, few are remembered. */
static void memory_is_bounded(void)
{
    open_turns(10, 1000, 4000);
    for (uint64_t i = 0; i < 100000; i++) {
        n_jobs = 0;
        CHECK_INT(put(ANON + i), BT_OK);
        CHECK_INT(serve(MS), ANON + i);
    }
    CHECK(turns.parties.len <= BT_TURNS_REMEMBERED_MAX);
    bt_turns_release(&turns);
}

/* Random work against its own counts: nothing is lost, no party gets two at a time. */
static void random_work(void)
{
    bt_turn *under_way[3] = {0};
    int waiting = 0;
    open_turns(50, 100, 400);
    for (int i = 0; i < 8000; i++) {
        uint64_t roll = bt_rng_u64(7, (uint64_t)i);
        int slot = (int)(roll >> 8 & 3);
        if (slot == 3) {
            waiting += put(roll % 7 < 4 ? 1 + roll % 3 : ANON + roll % 5) == BT_OK;
        } else if (under_way[slot]) {
            bt_turns_end(&turns, under_way[slot], (int64_t)(roll % 9999));
            under_way[slot] = NULL;
        } else if ((under_way[slot] = bt_turns_take(&turns)) != NULL) {
            waiting--;
            for (int k = 0; k < 3; k++)
                CHECK(k == slot || !under_way[k] ||
                      under_way[k]->account != under_way[slot]->account);
        }
        CHECK_INT(turns.jobs, waiting);
    }
    bt_turns_release(&turns);
}

int main(void)
{
    RUN(in_order_of_arrival_where_all_else_is_equal);
    RUN(who_took_long_waits_for_long);
    RUN(weight_is_a_share);
    RUN(anonymous_visitors_are_one_party);
    RUN(anonymous_visitors_take_turns);
    RUN(a_pause_gives_nothing);
    RUN(one_job_of_a_party_at_a_time);
    RUN(each_bound_is_named);
    RUN(bytes_are_bounded_too);
    RUN(what_is_dropped_gives_its_place_back);
    RUN(memory_is_bounded);
    RUN(random_work);
    return TEST_END();
}
