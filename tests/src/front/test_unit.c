/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 120 */
/* test_unit.c - two models behind one front: each has its engine, queue and residency; accounts and
 * books are common. */
#include "harness.h"

static bt_front_options two(void)
{
    bt_front_options opt = options();
    opt.n_units = 2;
    opt.unit[0].alias = "one";
    opt.unit[1] = opt.unit[0];
    opt.unit[1].alias = "two";
    opt.unit[1].engine.slots = 2;
    opt.unit[1].engine.ctx = 256;
    return opt;
}

static void open_two(const bt_front_options *opt)
{
    open_front(opt);
    WAIT_FOR(state_of(0).ready && state_of(1).ready, 20000);
}

static bt_front_request request_to(const char *name, const char *key, int32_t max_tokens)
{
    bt_front_request r = request(key, max_tokens);
    r.unit = bt_front_unit(front, name);
    r.params.ignore_eos = true;
    REQUIRE(r.unit != NULL);
    return r;
}

static void names_find_their_units(void)
{
    bt_front_options opt = two();
    open_two(&opt);
    CHECK_STR(state_of(0).model, "one");
    CHECK_STR(state_of(1).model, "two");
    CHECK(bt_front_unit(front, "one") == front->unit[0]);
    CHECK(bt_front_unit(front, "two") == front->unit[1]);
    CHECK(bt_front_unit(front, NULL) == front->unit[0]);
    CHECK(bt_front_unit(front, "three") == NULL);
    CHECK(bt_front_unit_next(front, NULL) == front->unit[0]);
    CHECK(bt_front_unit_next(front, front->unit[0]) == front->unit[1]);
    CHECK(bt_front_unit_next(front, front->unit[1]) == NULL);
    CHECK(state_of(0).engine_pid != state_of(1).engine_pid);
    close_front();
    bt_err err = {0};
    opt = two();
    opt.unit[1].alias = "one";
    CHECK_INT(bt_front_open(&opt, &front, &err), BT_EINVAL);
    CHECK(strstr(err.msg, "\"one\""));
    open_ready(); // where there is one, any name is its
    CHECK(bt_front_unit(front, "three") == front->unit[0]);
    close_front();
}

/* Both run at once, for one account: what each is charged is what the account has used. */
static void both_answer(void)
{
    enum { N = 6 };
    static asked a[N];
    bt_front_options opt = two();
    int64_t charged_us = 0, device_us = 0;
    bt_tier wide;
    open_two(&opt);
    for (int i = 0; i < N; i++) {
        bt_front_request r = request_to(i % 2 ? "two" : "one", "k-shy", 60);
        wide = *r.identity.tier;
        wide.queue = N;
        r.identity.tier = &wide; // as long as it lives
        REQUIRE(ask(&a[i], &r));
        WAIT_FOR(take(&a[i]) || a[i].accepted, 2000);
        CHECK(a[i].s->unit == front->unit[i % 2]);
    }
    for (int i = 0; i < N; i++) {
        finish(&a[i], 10000);
        CHECK_INT(a[i].last.status, BT_OK);
        CHECK_INT(a[i].tokens, 60);
        CHECK(strncmp(a[i].text, a[0].text, sizeof a[i].text) == 0); // it is one model, after all
        charged_us += a[i].last.charged_us;
        device_us += a[i].last.device_us;
    }
    check_idle();
    for (int i = 0; i < 2; i++) CHECK(atomic_load(&front->unit[i]->count.steps) > 60);
    bt_ledger_balance balance;
    bt_front_request r = request("k-shy", 1);
    CHECK_INT(bt_front_balance(front, &r.identity, &balance, NULL), BT_OK);
    CHECK_INT(balance.used_us, charged_us);
    CHECK_INT(books().accounts_us, device_us);
    WAIT_FOR(books().busy_us == books().accounts_us + books().house_us, 5000);
    for (int i = 0; i < N; i++) forget(&a[i]);
    close_front();
}

/* Each by its own bounds: what is too long for one is not for the other. */
static void each_has_its_bounds(void)
{
    bt_front_options opt = two();
    static int32_t ids[300];
    asked a;
    open_two(&opt);
    for (int i = 0; i < 300; i++) ids[i] = 300;
    bt_front_request r = request_to("two", "k-rich", 4);
    r.text = NULL;
    r.tokens = ids;
    r.n_tokens = 300;
    CHECK(!ask(&a, &r));
    CHECK_INT(a.submit, BT_ECONTEXT);
    r.unit = bt_front_unit(front, "one");
    REQUIRE(ask(&a, &r));
    finish(&a, 5000);
    CHECK_INT(a.last.status, BT_OK);
    forget(&a);
    int32_t depth, slots;
    bt_front_queue_entry entry[4];
    CHECK_INT(bt_front_queue(front, 0, entry, 4, &depth, &slots), 0);
    CHECK_INT(slots, 4 + 2);
    check_idle();
    close_front();
}

static void one_sleeps_while_the_other_runs(void)
{
    bt_front_options opt = two();
    bt_err err = {0};
    asked a, b;
    open_two(&opt);
    bt_front_request to_one = request_to("one", "k-rich", 480),
                     to_two = request_to("two", "k-rich", 20);
    REQUIRE(ask(&a, &to_one));
    WAIT_FOR(take(&a) || a.tokens > 0, 5000);
    CHECK_INT(bt_unit_park(front->unit[0], 2, &err), BT_EBUSY); // it runs
    CHECK_INT(bt_unit_park(front->unit[1], 2, &err), BT_OK);
    WAIT_FOR(state_of(1).residency == 2 && state_of(1).engine_pid == 0, 5000);
    CHECK_INT(state_of(0).residency, 0);
    finish(&a, 10000);
    CHECK_INT(a.last.status, BT_OK);
    CHECK_INT(a.tokens, 480);
    forget(&a);
    REQUIRE(ask(&a, &to_one)); // and goes on running
    finish(&a, 10000);
    CHECK_INT(a.last.status, BT_OK);
    CHECK_INT(state_of(1).residency, 2);
    REQUIRE(ask(&b, &to_two)); // which wakes it
    finish(&b, 20000);
    CHECK_INT(b.last.status, BT_OK);
    CHECK_INT(b.tokens, 20);
    CHECK_INT(state_of(1).residency, 0);
    CHECK_INT(state_of(0).engine_restarts + state_of(1).engine_restarts, 0);
    forget(&a);
    forget(&b);
    check_idle();
    WAIT_FOR(books().busy_us == books().accounts_us + books().house_us, 5000);
    close_front();
}

/* A crash is one unit's: the other's requests do not notice, and the books are exact. */
static void one_crashes_alone(void)
{
    bt_front_options opt = two();
    asked a, b;
    open_two(&opt);
    bt_front_request to_one = request_to("one", "k-rich", 480),
                     to_two = request_to("two", "k-rich", 240);
    REQUIRE(ask(&a, &to_one));
    REQUIRE(ask(&b, &to_two));
    WAIT_FOR((take(&a) || a.tokens > 0) && (take(&b) || b.tokens > 0), 5000);
    REQUIRE(kill((pid_t)state_of(1).engine_pid, SIGKILL) == 0);
    finish(&b, 5000);
    CHECK_INT(b.last.status, BT_EDEVICE);
    CHECK_INT(b.last.charged_us, 0);
    finish(&a, 10000);
    CHECK_INT(a.last.status, BT_OK);
    CHECK_INT(a.tokens, 480);
    WAIT_FOR(state_of(1).engine_restarts == 1 && state_of(1).ready, 20000);
    CHECK_INT(state_of(0).engine_restarts, 0);
    forget(&a);
    forget(&b);
    check_idle();
    WAIT_FOR(books().busy_us == books().accounts_us + books().house_us, 5000);
    close_front();
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], BT_ENGINE_COMMAND) == 0) return engine_child(argv[2]);
    bt_log_set_level(getenv("TEST_LOG") ? BT_LOG_INFO : BT_LOG_ERR);
    RUN(names_find_their_units);
    RUN(both_answer);
    RUN(each_has_its_bounds);
    RUN(one_sleeps_while_the_other_runs);
    RUN(one_crashes_alone);
    scratch_done();
    return TEST_END();
}
