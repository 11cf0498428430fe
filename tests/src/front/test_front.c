/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 120 */
/* test_front.c - requests through a whole front: each way one can end, and what it leaves. */
#include "harness.h"

static const char story[] =
    ", there was a little girl named Lily. She loved to play outside in the park.";

static void completes_and_is_charged(void)
{
    asked a;
    bt_front_request r = request("k-shy", 40);
    REQUIRE(ask(&a, &r));
    finish(&a, 5000);
    CHECK(a.accepted);
    CHECK_INT(a.last.type, BT_SE_DONE);
    CHECK_INT(a.last.status, BT_OK);
    CHECK_INT(a.last.finish, BT_FINISH_LENGTH);
    CHECK_INT(a.tokens, 40);
    CHECK_INT(a.last.completion_tokens, 40);
    CHECK_INT(a.last.prompt_tokens, 5);
    CHECK(strncmp(a.text, story, strlen(story)) == 0);
    CHECK(a.last.device_us > 0);
    CHECK_INT(a.last.charged_us, a.last.device_us);
    CHECK_INT(a.last.balance.used_us, a.last.charged_us);
    CHECK_INT(a.last.balance.held_us, 0);
    bt_stream_cancel(a.s); // too late: nothing happens
    CHECK(!bt_stream_next(a.s, &a.last));
    forget(&a);
    check_idle();
}

static void quota_ends_and_refuses(void)
{
    asked a;
    bt_front_request r = request("k-poor", 400);
    r.params.ignore_eos = true;
    for (int i = 0; i < 50; i++) { // 10 ms are soon used up
        REQUIRE(ask(&a, &r));
        finish(&a, 5000);
        if (a.last.type == BT_SE_REFUSED) break;
        CHECK_INT(a.last.status, BT_OK);
        CHECK(a.last.finish == BT_FINISH_QUOTA_EXHAUSTED || a.last.finish == BT_FINISH_LENGTH);
        forget(&a);
    }
    CHECK_INT(a.last.type, BT_SE_REFUSED);
    CHECK_INT(a.last.status, BT_EQUOTA);
    CHECK(strstr(a.last.message, "resets at"));
    CHECK_INT(a.last.balance.remaining_us, 0);
    CHECK(a.last.balance.used_us >= a.last.balance.limit_us);
    CHECK_INT(a.last.balance.held_us, 0);
    forget(&a);
    check_idle();
}

static void bad_requests_are_refused(void)
{
    asked a;
    bt_front_request r = request("k-rich", 10);
    r.n_seq = 17;
    CHECK(!ask(&a, &r));
    CHECK_INT(a.submit, BT_EINVAL);
    int32_t ids[] = {1, 512};
    r = request("k-rich", 10);
    r.text = NULL;
    r.tokens = ids;
    r.n_tokens = 2;
    CHECK(!ask(&a, &r));
    CHECK_INT(a.submit, BT_EINVAL);
    CHECK_STR(a.why.field, "prompt");
    CHECK(strstr(a.why.msg, "512"));
    bt_logit_bias bias = {512, 1};
    r = request("k-rich", 10);
    r.params.bias = &bias;
    r.params.n_bias = 1;
    CHECK(!ask(&a, &r));
    CHECK_INT(a.submit, BT_EINVAL);
    CHECK_STR(a.why.field, "logit_bias");
    CHECK(strstr(a.why.msg, "512"));
    r = request("k-rich", 10);
    r.n_seq = 5; // more than there are slots
    REQUIRE(ask(&a, &r));
    finish(&a, 5000);
    CHECK_INT(a.last.type, BT_SE_REFUSED);
    CHECK_INT(a.last.status, BT_EINVAL);
    CHECK_STR(a.last.field, "n");
    forget(&a);
    check_idle();
    CHECK_INT(atomic_load(&front->count.finished[BT_FINISH_DEVICE_FAULT]), 0);
}

/* Occupies all four slots for long. */
static void occupy(asked *a)
{
    bt_front_request r = request("k-rich", 500);
    r.n_seq = 4;
    r.params.ignore_eos = true;
    REQUIRE(ask(a, &r));
    WAIT_FOR(take(a) || a->tokens > 0, 5000);
    CHECK(!a->ended);
}

static void cancel_while_queued(void)
{
    asked hog, a;
    occupy(&hog);
    bt_front_request r = request("k-shy", 10);
    REQUIRE(ask(&a, &r));
    WAIT_FOR(take(&a) || a.accepted, 2000);
    bt_stream_cancel(a.s);
    finish(&a, 2000);
    CHECK_INT(a.last.finish, BT_FINISH_CANCELLED);
    CHECK_INT(a.last.charged_us, 0);
    CHECK_INT(a.last.balance.held_us, 0);
    bt_stream_cancel(hog.s);
    finish(&hog, 2000);
    CHECK_INT(hog.last.finish, BT_FINISH_CANCELLED);
    CHECK(hog.last.device_us > 0); // what ran is charged
    CHECK_INT(hog.last.charged_us, hog.last.device_us);
    forget(&hog);
    forget(&a);
    check_idle();
}

/* At whatever stage a cancel finds it, a request ends, once, and holds nothing. */
static void cancel_at_any_time(void)
{
    static asked a[40];
    bt_front_request r = request("k-rich", 60);
    for (int i = 0; i < 40; i++) {
        r.n_seq = 1 + i % 3;
        REQUIRE(ask(&a[i], &r));
        if (i % 2) bt_sleep_ns(i * 20000);
        bt_stream_cancel(a[i].s);
        bt_stream_cancel(a[i].s);
    }
    for (int i = 0; i < 40; i++) {
        finish(&a[i], 5000);
        CHECK(a[i].last.status == BT_ECANCELLED ||
              (a[i].last.status == BT_OK && a[i].last.finish != BT_FINISH_NONE));
        forget(&a[i]);
    }
    check_idle();
}

/* A client that is gone for good: nobody reads, nobody holds the stream. */
static void cancel_and_forget(void)
{
    asked a;
    bt_front_request r = request("k-rich", 200);
    r.params.ignore_eos = true;
    for (int i = 0; i < 20; i++) {
        REQUIRE(ask(&a, &r));
        bt_sleep_ns(i * 200000);
        bt_stream_cancel(a.s);
        forget(&a);
    }
    check_idle();
}

static void full_queue_is_refused(void)
{
    asked hog, a[3];
    occupy(&hog);
    bt_front_request r = request("k-shy", 10); // the tier has two places
    for (int i = 0; i < 3; i++) {
        REQUIRE(ask(&a[i], &r));
        WAIT_FOR(take(&a[i]) || a[i].accepted, 2000);
    }
    CHECK_INT(a[2].last.type, BT_SE_REFUSED);
    CHECK_INT(a[2].last.status, BT_EBUSY);
    CHECK(a[2].last.retry_after_ms >= 1000);
    CHECK(strstr(a[2].last.message, " has 2 requests waiting, and tier "));
    bt_stream_cancel(hog.s);
    finish(&hog, 2000);
    for (int i = 0; i < 2; i++) {
        finish(&a[i], 5000);
        CHECK_INT(a[i].last.status, BT_OK);
    }
    for (int i = 0; i < 3; i++) forget(&a[i]);
    forget(&hog);
    check_idle();
}

static void slow_reader_ends(void)
{
    bt_front_options opt = options();
    asked slow, other;
    opt.stream_bytes = 4096;
    open_front(&opt);
    WAIT_FOR(state().ready, 20000);
    bt_front_request r = request("k-rich", 480);
    r.n_seq = 2;
    r.params.ignore_eos = true;
    REQUIRE(ask(&slow, &r));
    r.n_seq = 1;
    REQUIRE(ask(&other, &r));
    finish(&other, 10000); // nobody else is held up
    CHECK_INT(other.last.status, BT_OK);
    CHECK_INT(other.tokens, 480);
    finish(&slow, 5000);
    CHECK_INT(slow.last.status, BT_ECANCELLED);
    CHECK(slow.tokens > 0 && slow.tokens < 2 * 480);
    CHECK(slow.last.charged_us > 0);
    CHECK_INT(atomic_load(&front->count.slow_readers), 1);
    forget(&slow);
    forget(&other);
    check_idle();
    close_front();
}

static void price_is_charged(void)
{
    bt_front_options opt = options();
    asked a;
    opt.price = 0.0001; // holds round to nothing: still nothing pauses
    open_front(&opt);
    WAIT_FOR(state().ready, 20000);
    bt_front_request r = request("k-shy", 200);
    r.params.ignore_eos = true;
    REQUIRE(ask(&a, &r));
    finish(&a, 5000);
    CHECK_INT(a.last.finish, BT_FINISH_LENGTH);
    CHECK_INT(a.last.charged_us, llround((double)a.last.device_us * 0.0001));
    forget(&a);
    check_idle();
    close_front();
}

/* Three requests of four sequences whose prompt ends with a page: what the scheduler counts for
 * them is what the engine takes, so one too many waits and is not turned away. */
static void pages_are_counted_alike(void)
{
    bt_front_options opt = options();
    static asked a[3];
    int32_t ids[16];
    opt.unit[0].engine.kv_tokens = 512;
    opt.unit[0].engine.slots = 16;
    open_front(&opt);
    WAIT_FOR(state().ready, 20000);
    CHECK_INT(state().page_tokens, 16);
    CHECK_INT(state().n_pages, 32);
    for (int i = 0; i < 16; i++) ids[i] = 300 + i;
    bt_front_request r = request("k-rich", 18);
    r.text = NULL;
    r.tokens = ids;
    r.n_tokens = 16;
    r.n_seq = 4;
    bt_tier wide = *r.identity.tier;
    wide.slots = wide.queue = 64;
    r.identity.tier = &wide;
    r.params.ignore_eos = true;
    kill((pid_t)state().engine_pid, SIGSTOP); // so that they come at once
    for (int i = 0; i < 3; i++) {
        REQUIRE(ask(&a[i], &r));
        WAIT_FOR(take(&a[i]) || a[i].accepted, 2000);
    }
    kill((pid_t)state().engine_pid, SIGCONT);
    for (int i = 0; i < 3; i++) {
        finish(&a[i], 5000);
        CHECK_INT(a[i].last.status, BT_OK);
        CHECK_INT(a[i].tokens, 4 * 18);
        forget(&a[i]);
    }
    r.params.max_tokens = 0; // no length named: 32 pages are 8 for each of four
    REQUIRE(ask(&a[0], &r));
    finish(&a[0], 5000);
    CHECK_INT(a[0].last.status, BT_OK);
    CHECK_INT(a[0].tokens, 4 * (8 * 16 - 16));
    forget(&a[0]);
    check_idle();
    close_front();
}

static void drain_ends_everything(void)
{
    asked hog, queued, late;
    open_ready();
    occupy(&hog);
    bt_front_request r = request("k-shy", 10);
    REQUIRE(ask(&queued, &r));
    WAIT_FOR(take(&queued) || queued.accepted, 2000);
    bt_front_drain(front);
    CHECK(!ask(&late, &r));
    CHECK_INT(late.submit, BT_ECLOSED);
    finish(&queued, 2000);
    CHECK_INT(queued.last.status, BT_ECLOSED);
    CHECK(strstr(queued.last.message, "shutting down"));
    finish(&hog, 5000); // what runs goes on to its end
    CHECK_INT(hog.last.status, BT_OK);
    CHECK_INT(hog.last.finish, BT_FINISH_LENGTH);
    CHECK_INT(hog.tokens, 4 * 500);
    forget(&queued);
    forget(&hog);
    check_idle();
    close_front();
}

/* Closing with requests of every kind alive: each stream ends, and nothing stays held. */
static void close_ends_everything(void)
{
    static asked a[30];
    open_ready();
    bt_front_request r = request("k-rich", 100);
    for (int i = 0; i < 30; i++) REQUIRE(ask(&a[i], &r));
    close_front();
    for (int i = 0; i < 30; i++) {
        CHECK(take(&a[i]));
        forget(&a[i]);
    }
}

static void cannot_open(void)
{
    bt_front_options opt = options();
    bt_err err = {0};
    opt.unit[0].engine.model_path = "models/none.gguf";
    CHECK(bt_front_open(&opt, &front, &err) != BT_OK);
    CHECK(strstr(err.msg, "none.gguf"));
    opt = options();
    opt.data_dir = MODEL; // a file
    CHECK(bt_front_open(&opt, &front, &err) != BT_OK);
    CHECK(strstr(err.msg, MODEL));
    opt = options();
    opt.accounts.api_keys = "models/none.keys";
    CHECK(bt_front_open(&opt, &front, &err) != BT_OK);
    CHECK(strstr(err.msg, "none.keys"));
    open_ready();
    bt_front *second = NULL;
    bt_front_options same = {.unit[0].engine = {.model_path = MODEL, .device = "cpu"},
                             .n_units = 1,
                             .data_dir = front->opt.data_dir};
    CHECK_INT(bt_front_open(&same, &second, &err), BT_EBUSY);
    CHECK(second == NULL);
    close_front();
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], BT_ENGINE_COMMAND) == 0) return engine_child(argv[2]);
    bt_log_set_level(BT_LOG_ERR);
    open_ready();
    RUN(completes_and_is_charged);
    RUN(quota_ends_and_refuses);
    RUN(bad_requests_are_refused);
    RUN(cancel_while_queued);
    RUN(cancel_at_any_time);
    RUN(cancel_and_forget);
    RUN(full_queue_is_refused);
    close_front();
    RUN(slow_reader_ends);
    RUN(price_is_charged);
    RUN(pages_are_counted_alike);
    RUN(drain_ends_everything);
    RUN(close_ends_everything);
    RUN(cannot_open);
    scratch_done();
    return TEST_END();
}
