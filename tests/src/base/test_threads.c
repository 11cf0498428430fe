/* SPDX-License-Identifier: Apache-2.0 */
/* pool and inbox, under the thread sanitizer too */
#include "base/clock.h"
#include "base/inbox.h"
#include "base/pool.h"
#include "test.h"
#include <pthread.h>
#include <stdatomic.h>

typedef struct work {
    bt_pool *pool;
    atomic_int calls;
    int stage[8];
    atomic_int wrong;
} work;

static void work_run(void *ud, int thread, int threads)
{
    work *w = ud;
    atomic_fetch_add(&w->calls, 1);
    for (int round = 1; round <= 50; round++) {
        w->stage[thread] = round;
        bt_pool_barrier(w->pool);
        for (int i = 0; i < threads; i++)
            if (w->stage[i] != round) atomic_fetch_add(&w->wrong, 1);
        bt_pool_barrier(w->pool);
    }
}

static void pool_runs_all_threads_and_barriers_hold(void)
{
    for (int threads = 1; threads <= 4; threads++) {
        work w = {0};
        bt_err err;
        REQUIRE(bt_pool_new(threads, &w.pool, &err) == BT_OK);
        for (int i = 0; i < 20; i++) {
            bt_pool_run(w.pool, work_run, &w);
            if (i % 7 == 0) bt_sleep_ns(1000000); // long enough for workers to fall asleep
        }
        CHECK_INT(atomic_load(&w.calls), 20 * threads);
        CHECK_INT(atomic_load(&w.wrong), 0);
        bt_pool_free(w.pool);
    }
}

static void inbox_is_bounded_and_keeps_order(void)
{
    bt_inbox b;
    bt_err err;
    int out[8];
    REQUIRE(bt_inbox_init(&b, sizeof(int), 4, &err) == BT_OK);
    for (int i = 0; i < 4; i++) CHECK_INT(bt_inbox_push(&b, &i), BT_OK);
    int five = 5;
    CHECK_INT(bt_inbox_push(&b, &five), BT_EBUSY);
    CHECK_INT(bt_inbox_push_wait(&b, &five, 1, bt_now_ns() + 10000000), BT_ETIMEOUT);
    CHECK_INT(bt_inbox_take(&b, out, 3, 0), 3);
    CHECK(out[0] == 0 && out[1] == 1 && out[2] == 2);
    CHECK_INT(bt_inbox_push(&b, &five), BT_OK);
    bt_inbox_close(&b);
    CHECK_INT(bt_inbox_push(&b, &five), BT_ECLOSED);
    CHECK_INT(bt_inbox_take(&b, out, 8, 0), 2);
    CHECK(out[0] == 3 && out[1] == 5);
    CHECK_INT(bt_inbox_take(&b, out, 8, bt_now_ns() + 1000000000), -1);
    bt_inbox_release(&b);
}

static void many_are_pushed_at_once_or_not(void)
{
    bt_inbox b;
    bt_err err;
    int out[8];
    const int run[4] = {1, 2, 3, 4};
    REQUIRE(bt_inbox_init(&b, sizeof(int), 5, &err) == BT_OK);
    CHECK_INT(bt_inbox_push_wait(&b, run, 3, 0), BT_OK);
    CHECK_INT(bt_inbox_push_wait(&b, run, 3, 0), BT_ETIMEOUT); // two places are not enough
    CHECK_INT(bt_inbox_take(&b, out, 2, 0), 2);
    CHECK_INT(bt_inbox_push_wait(&b, run, 4, 0), BT_OK); // past the end of its memory
    CHECK_INT(bt_inbox_take(&b, out, 8, 0), 5);
    const int want[5] = {3, 1, 2, 3, 4};
    CHECK(memcmp(out, want, sizeof want) == 0);
    bt_inbox_release(&b);
}

enum { PRODUCERS = 3, EACH = 5000 };

static void *produce(void *arg)
{
    bt_inbox *b = arg;
    int run[13], n;
    for (int i = 0; i < EACH; i += n) {
        for (n = 0; n <= i % 13 && i + n < EACH; n++) run[n] = i + n;
        if (bt_inbox_push_wait(b, run, (size_t)n, bt_now_ns() + 10000000000)) return arg;
    }
    return NULL;
}

static void inbox_loses_nothing_between_threads(void)
{
    bt_inbox b;
    bt_err err;
    pthread_t t[PRODUCERS];
    int out[16], n, taken = 0;
    long long sum = 0;
    REQUIRE(bt_inbox_init(&b, sizeof(int), 32, &err) == BT_OK);
    for (int i = 0; i < PRODUCERS; i++) REQUIRE(pthread_create(&t[i], NULL, produce, &b) == 0);
    while (taken < PRODUCERS * EACH &&
           (n = bt_inbox_take(&b, out, 16, bt_now_ns() + 5000000000)) > 0)
        for (int i = 0; i < n; i++, taken++) sum += out[i];
    for (int i = 0; i < PRODUCERS; i++) {
        void *failed;
        pthread_join(t[i], &failed);
        CHECK(failed == NULL);
    }
    CHECK_INT(taken, PRODUCERS * EACH);
    CHECK_INT(sum, (long long)PRODUCERS * EACH * (EACH - 1) / 2);
    bt_inbox_release(&b);
}

int main(void)
{
    RUN(pool_runs_all_threads_and_barriers_hold);
    RUN(inbox_is_bounded_and_keeps_order);
    RUN(many_are_pushed_at_once_or_not);
    RUN(inbox_loses_nothing_between_threads);
    return TEST_END();
}
