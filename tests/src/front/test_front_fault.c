/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL fault TIMEOUT 600 */
/* test_front_fault.c - front when something else fails: memory, the disk, the engine. Whatever it
 * is, each request ends, nothing stays held, and the books add up. */
#include "src/ledger/fault_vfs.h"
#include "harness.h"
#include "json.h"
#include <dirent.h>

/* ---- memory */

/* One request with everything in it, while the n-th allocation of front fails. False: none did. */
static bool ask_short_of_memory(long n)
{
    asked a;
    static const char messages[] = "[{\"role\":\"system\",\"content\":\"You tell stories.\"},"
                                   "{\"role\":\"user\",\"content\":\"Once upon a time\"}]";
    bt_template_chat chat = {.messages = json(messages), .add_generation_prompt = true};
    const char *stop[] = {"zebra"};
    bt_front_request r = request("k-rich", 30);
    r.params.n_logprobs = 3;
    r.params.stop = stop;
    r.params.n_stop = 1;
    r.n_seq = 2;
    r.progress = true;
    r.text = NULL;
    r.chat = &chat;
    bt_err err = {0};
    memset(&a, 0, sizeof a);
    bt_mem_fail_at(n);
    a.submit = bt_front_submit(front, &r, 1, &a.s, &err);
    if (a.submit) {
        CHECK_INT(a.submit, BT_ENOMEM);
        CHECK_INT(err.code, BT_ENOMEM);
    } else {
        finish(&a, 10000);
        if (!a.ended) fprintf(stderr, "allocation %ld: no end\n", n);
        if (a.last.status == BT_OK) CHECK_INT(a.last.completion_tokens, 60);
        forget(&a);
    }
    bool failed = bt_mem_failed();
    bt_mem_fail_at(0);
    check_idle();
    return failed;
}

static void each_allocation_fails(void)
{
    open_ready();
    long n = 1;
    for (; n < 2000 && ask_short_of_memory(n); n++) {
        WAIT_FOR(state().ready, 20000); // an engine whose link ran dry is started again
    }
    fprintf(stderr, "%ld allocations\n", n - 1);
    CHECK(n > 12 && n < 2000);
    close_front();
}

static void opening_fails_at_each_allocation(void)
{
    bt_front_options opt = options();
    bt_err err;
    bt_status st = BT_ENOMEM;
    for (long n = 10; st && n < 4000; n += 7) { // the first few are small ones that may abort
        bt_mem_fail_at(n);
        st = bt_front_open(&opt, &front, &err);
        bool failed = bt_mem_failed();
        bt_mem_fail_at(0);
        CHECK(st == BT_OK || failed);
        if (st == BT_OK && failed) { // a thread's own, after open
            bt_front_close(front);
            st = BT_ENOMEM;
        }
    }
    CHECK_INT(st, BT_OK);
    close_front();
}

/* ---- the engine */

static void hog_params(bt_front_request *r)
{
    r->params.ignore_eos = true;
    r->params.max_tokens = 480;
}

static void killed_engine_costs_nothing(void)
{
    asked a, queued, b;
    open_ready();
    bt_front_request r = request("k-shy", 480);
    hog_params(&r);
    r.n_seq = 4;
    REQUIRE(ask(&a, &r));
    WAIT_FOR(take(&a) || a.tokens > 0, 5000);
    r = request("k-rich", 10);
    REQUIRE(ask(&queued, &r));
    WAIT_FOR(take(&queued) || queued.accepted, 2000);
    pid_t pid = (pid_t)state().engine_pid;
    REQUIRE(pid > 0);
    REQUIRE(kill(pid, SIGKILL) == 0);
    finish(&a, 5000);
    CHECK_INT(a.last.type, BT_SE_DONE);
    CHECK_INT(a.last.status, BT_EDEVICE);
    CHECK_INT(a.last.finish, BT_FINISH_DEVICE_FAULT);
    CHECK(a.last.device_us > 0);
    CHECK_INT(a.last.charged_us, 0); // our own fault
    CHECK_INT(a.last.balance.used_us, 0);
    finish(&queued, 10000); // it waits for the next engine
    CHECK_INT(queued.last.status, BT_OK);
    CHECK_INT(queued.tokens, 10);
    REQUIRE(ask(&b, &r));
    finish(&b, 5000);
    CHECK_INT(b.last.status, BT_OK);
    CHECK_INT(state().engine_restarts, 1);
    CHECK(state().engine_pid != pid);
    forget(&a);
    forget(&b);
    forget(&queued);
    check_idle();
    close_front();
}

/* Kills at any moment: while it loads, is idle, reads a prompt, ends a request. */
static void killed_at_any_time(void)
{
    static asked a[8];
    open_ready();
    bt_front_request r = request("k-rich", 60);
    for (int round = 0; round < 6; round++) {
        pid_t pid = (pid_t)state().engine_pid;
        for (int i = 0; i < 8; i++) REQUIRE(ask(&a[i], &r));
        bt_sleep_ns(round * round * 700000);
        if (pid > 0) kill(pid, SIGKILL);
        for (int i = 0; i < 8; i++) {
            finish(&a[i], 20000);
            CHECK(a[i].last.status == BT_OK || a[i].last.status == BT_EDEVICE);
            forget(&a[i]);
        }
        WAIT_FOR(state().ready && state().engine_pid != pid, 20000);
    }
    check_idle();
    close_front();
}

static void silent_engine_is_replaced(void)
{
    asked a;
    bt_front_options opt = options();
    opt.unit[0].engine_timeout_s = 2;
    open_front(&opt);
    WAIT_FOR(state().ready, 20000);
    bt_sleep_ns(2500 * MS); // an idle engine says nothing either
    pid_t pid = (pid_t)state().engine_pid;
    bt_front_request r = request("k-rich", 10);
    REQUIRE(kill(pid, SIGSTOP) == 0);
    REQUIRE(ask(&a, &r));
    bt_sleep_ns(1300 * MS); // slow is not silent
    REQUIRE(kill(pid, SIGCONT) == 0);
    finish(&a, 5000);
    CHECK_INT(a.last.status, BT_OK);
    CHECK_INT(state().engine_restarts, 0);
    forget(&a);
    REQUIRE(kill(pid, SIGSTOP) == 0);
    REQUIRE(ask(&a, &r));
    finish(&a, 8000);
    CHECK_INT(a.last.status, BT_EDEVICE);
    forget(&a);
    WAIT_FOR(state().ready, 20000);
    check_idle();
    close_front();
}

/* Hundreds come and go while the engine loads and reads nothing: nobody waits for its socket. */
static void many_leave_while_it_loads(void)
{
    enum { N = 700 };
    static asked a[N];
    setenv("LC_TEST_ENGINE", "slow", 1);
    bt_front_options opt = options();
    open_front(&opt);
    bt_front_request r = request("k-rich", 10);
    int64_t start = bt_now_ns();
    for (int i = 0; i < N; i++) REQUIRE(ask(&a[i], &r));
    for (int i = 0; i < N; i++) WAIT_FOR(take(&a[i]) || a[i].accepted, 1000);
    for (int i = 0; i < N; i++) bt_stream_cancel(a[i].s);
    for (int i = 0; i < N; i++) {
        finish(&a[i], 1500);
        CHECK_INT(a[i].last.finish, BT_FINISH_CANCELLED);
        forget(&a[i]);
    }
    CHECK(bt_now_ns() - start < 1900 * MS);
    CHECK(!state().ready);
    CHECK_INT(books().holds_open, 0);
    WAIT_FOR(state().ready, 20000);
    CHECK_INT(state().engine_restarts, 0);
    unsetenv("LC_TEST_ENGINE");
    check_idle();
    close_front();
}

static void no_engine(const char *how, const char *program, const char *sentence)
{
    asked a;
    bt_front_options opt = options();
    opt.engine_program = program;
    if (how) setenv("LC_TEST_ENGINE", how, 1);
    open_front(&opt);
    bt_front_request r = request("k-rich", 10);
    REQUIRE(ask(&a, &r));
    WAIT_FOR(state().failed, 10000);
    CHECK(strstr(state().message, sentence));
    close_front(); // who waited for the engine hears why
    CHECK(take(&a));
    CHECK_INT(a.last.status, BT_ECLOSED);
    forget(&a);
    unsetenv("LC_TEST_ENGINE");
}

static void first_load_fails(void)
{
    no_engine("never", NULL, "the weights are of cheese");
    no_engine(NULL, "/nowhere/baton", "/nowhere/baton does not run");
}

static void crashing_engine_is_tried_again(void)
{
    bt_front_options opt = options();
    setenv("LC_TEST_ENGINE", "crash", 1);
    open_front(&opt);
    WAIT_FOR(state().engine_restarts >= 2, 10000);
    CHECK(strstr(state().message, "is being restarted"));
    CHECK(!state().failed);
    unsetenv("LC_TEST_ENGINE");
    WAIT_FOR(state().ready, 20000);
    close_front();
}

/* ---- the disk */

static void disk(bool works)
{
    fault.kinds = FAULT_WRITE | FAULT_FULL;
    fault.for_ever = !works;
    fault.at = works ? 0 : 1;
}

static void full_disk_loses_no_charge(void)
{
    asked a, b;
    open_ready();
    bt_front_request r = request("k-shy", 480);
    hog_params(&r);
    REQUIRE(ask(&a, &r));
    WAIT_FOR(take(&a) || a.accepted, 5000);
    disk(false);
    bt_front_request small = request("k-rich", 10);
    REQUIRE(ask(&b, &small));
    finish(&b, 5000);
    CHECK_INT(b.last.type, BT_SE_REFUSED);
    CHECK_INT(b.last.status, BT_ESTORAGE);
    CHECK(strstr(b.last.message, "cannot be written"));
    forget(&b);
    finish(&a, 8000); // its client does not wait for the disk
    CHECK_INT(a.last.type, BT_SE_DONE);
    CHECK_INT(a.last.status, BT_OK);
    CHECK(a.last.charged_us > 0);
    CHECK_INT(a.last.balance.limit_us, -1); // not known
    CHECK_INT(atomic_load(&front->alive), 1);
    disk(true);
    check_idle();
    bt_ledger_balance balance;
    CHECK_INT(bt_front_balance(front, &r.identity, &balance, NULL), BT_OK);
    CHECK_INT(balance.used_us, a.last.charged_us);
    CHECK_INT(balance.held_us, 0);
    CHECK_INT(books().accounts_us, a.last.device_us);
    forget(&a);
    close_front();
}

/* The engine dies while its requests cannot be posted; its file is settled when they can. */
static void full_disk_and_dead_engine(void)
{
    asked a;
    open_ready();
    bt_front_request r = request("k-shy", 480);
    hog_params(&r);
    r.n_seq = 4;
    REQUIRE(ask(&a, &r));
    WAIT_FOR(take(&a) || a.tokens > 0, 5000);
    disk(false);
    kill((pid_t)state().engine_pid, SIGKILL);
    finish(&a, 8000);
    CHECK_INT(a.last.status, BT_EDEVICE);
    CHECK_INT(a.last.charged_us, 0);
    disk(true);
    check_idle();
    WAIT_FOR(books().busy_us == books().accounts_us + books().house_us, 5000);
    CHECK(books().accounts_us >= a.last.device_us);
    forget(&a);
    close_front();
}

/* Front ends while the disk is full: the next start books it. */
static void full_disk_at_the_end(void)
{
    asked a;
    open_ready();
    char data[512];
    snprintf(data, sizeof data, "%s", scratch_path("data"));
    bt_front_request r = request("k-shy", 100);
    REQUIRE(ask(&a, &r));
    WAIT_FOR(take(&a) || a.accepted, 5000);
    disk(false);
    bt_front_close(front);
    CHECK(take(&a));
    CHECK_INT(a.last.status, BT_OK);
    disk(true);
    int posted = 0, voided = 0;
    bt_err err = {0};
    bt_ledger *l = ledger_in(data);
    CHECK_INT(bt_ledger_recover(l, data, 99, bt_wall_us(), &posted, &voided, &err), BT_OK);
    CHECK_INT(posted, 1);
    CHECK_INT(totals(l).accounts_us, a.last.device_us);
    CHECK_INT(totals(l).charged_us, a.last.charged_us);
    CHECK_INT(totals(l).busy_us, totals(l).accounts_us + totals(l).house_us);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
    forget(&a);
}

/* ---- frames */

/* Each read of the engine's frames breaks in turn: the engine is replaced, and what it ran ends
 * with a device fault that nobody pays for. */
static void each_frame_breaks(void)
{
    int broke = 0;
    for (long n = 1; n <= 30; n++) {
        asked a;
        open_ready();
        bt_front_request r = request("k-rich", 24);
        bt_frame_fail_at(n);
        REQUIRE(ask(&a, &r));
        finish(&a, 20000);
        bt_frame_fail_at(0);
        CHECK(a.last.status == BT_OK || a.last.status == BT_EDEVICE);
        if (a.last.status == BT_EDEVICE) {
            broke++;
            CHECK_INT(a.last.charged_us, 0);
        } else {
            CHECK_INT(a.last.completion_tokens, 24);
        }
        forget(&a);
        WAIT_FOR(state().ready, 20000);
        check_idle();
        WAIT_FOR(books().busy_us == books().accounts_us + books().house_us, 5000);
        close_front();
    }
    CHECK(broke > 0);
}

/* ---- nothing is left behind */

static int open_files(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    REQUIRE(d != NULL);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static void no_descriptor_is_left(void)
{
    open_ready();
    close_front();
    int before = open_files();
    for (int i = 0; i < 3; i++) {
        open_ready();
        kill((pid_t)state().engine_pid, SIGKILL);
        WAIT_FOR(state().engine_restarts == 1 && state().ready, 20000);
        close_front();
    }
    CHECK_INT(open_files(), before);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], BT_ENGINE_COMMAND) == 0) return engine_child(argv[2]);
    bt_log_set_level(getenv("TEST_LOG") ? BT_LOG_INFO : BT_LOG_ERR);
    fault_install();
    RUN(killed_engine_costs_nothing);
    RUN(killed_at_any_time);
    RUN(silent_engine_is_replaced);
    RUN(many_leave_while_it_loads);
    RUN(first_load_fails);
    RUN(crashing_engine_is_tried_again);
    RUN(full_disk_loses_no_charge);
    RUN(full_disk_and_dead_engine);
    RUN(full_disk_at_the_end);
    RUN(each_frame_breaks);
    RUN(each_allocation_fails);
    RUN(opening_fails_at_each_allocation);
    RUN(no_descriptor_is_left);
    scratch_done();
    return TEST_END();
}
