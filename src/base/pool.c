/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/pool.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* How long a thread looks before it sleeps (worker). Between two operations of one step the gap is
 * a few microseconds; between steps it may be forever. Every SPINS_A_LOOK it yields: where cores
 * are shared, the thread it waits for may stand behind it on the same core, and on a core of its
 * own a yield costs nothing. */
enum { SPIN_NS = 60000, SPINS_A_LOOK = 64 };

struct bt_pool {
    int threads;
    pthread_t *worker; // owned, [threads - 1]
    pthread_mutex_t mu;
    pthread_cond_t wake;
    int sleeping; // guarded by mu
    bt_pool_fn fn;
    void *ud;
    atomic_uint generation; // bumped to start a run
    atomic_int running;     // workers still inside fn
    atomic_bool stop;
    atomic_int arrived; // barrier
    atomic_uint phase;
};

static void pool_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Waits for *word to differ from seen: spins for SPIN_NS. False: still the same. */
static bool pool_spin(const atomic_uint *word, unsigned seen)
{
    int64_t until = bt_now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < SPINS_A_LOOK; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != seen) return true;
            pool_pause();
        }
        sched_yield();
    } while (bt_now_ns() < until);
    return false;
}

typedef struct pool_start {
    bt_pool *pool;
    int index;
} pool_start;

static void *pool_worker(void *arg)
{
    pool_start s = *(pool_start *)arg;
    bt_pool *p = s.pool;
    bt_free(arg);
    unsigned seen = 0;
    for (;;) {
        if (!pool_spin(&p->generation, seen)) {
            pthread_mutex_lock(&p->mu);
            p->sleeping++;
            while (atomic_load(&p->generation) == seen) pthread_cond_wait(&p->wake, &p->mu);
            p->sleeping--;
            pthread_mutex_unlock(&p->mu);
        }
        seen = atomic_load_explicit(&p->generation, memory_order_acquire);
        if (atomic_load(&p->stop)) return NULL;
        p->fn(p->ud, s.index, p->threads);
        atomic_fetch_sub_explicit(&p->running, 1, memory_order_release);
    }
}

static void pool_kick(bt_pool *p)
{
    pthread_mutex_lock(&p->mu);
    atomic_fetch_add_explicit(&p->generation, 1, memory_order_release);
    if (p->sleeping) pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mu);
}

bt_status bt_pool_new(int threads, bt_pool **out, bt_err *err)
{
    BT_ASSERT(threads >= 1);
    bt_pool *p = bt_calloc(1, sizeof *p);
    if (!p) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the thread pool");
    pthread_mutex_init(&p->mu, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->threads = 1;
    p->worker = bt_calloc((size_t)threads, sizeof *p->worker);
    bool ok = p->worker != NULL;
    for (int i = 1; ok && i < threads; i++) {
        pool_start *s = bt_malloc(sizeof *s);
        ok = s != NULL;
        if (!ok) break;
        *s = (pool_start){p, i};
        ok = pthread_create(&p->worker[i - 1], NULL, pool_worker, s) == 0;
        if (ok)
            p->threads = i + 1;
        else
            bt_free(s);
    }
    if (!ok) {
        bt_pool_free(p);
        return bt_err_set(err, BT_ENOMEM, 0, "cannot start %d worker threads", threads);
    }
    *out = p;
    return BT_OK;
}

void bt_pool_free(bt_pool *p)
{
    if (!p) return;
    atomic_store(&p->stop, true);
    pool_kick(p);
    for (int i = 1; i < p->threads; i++) pthread_join(p->worker[i - 1], NULL);
    pthread_mutex_destroy(&p->mu);
    pthread_cond_destroy(&p->wake);
    bt_free(p->worker);
    bt_free(p);
}

void bt_pool_run(bt_pool *p, bt_pool_fn fn, void *ud)
{
    if (p->threads == 1) {
        fn(ud, 0, 1);
        return;
    }
    p->fn = fn;
    p->ud = ud;
    atomic_store(&p->running, p->threads - 1);
    pool_kick(p);
    fn(ud, 0, p->threads);
    for (int spins = 0; atomic_load_explicit(&p->running, memory_order_acquire) > 0; spins++) {
        pool_pause();
        if (spins % SPINS_A_LOOK == SPINS_A_LOOK - 1) sched_yield();
    }
}

void bt_pool_barrier(bt_pool *p)
{
    if (p->threads == 1) return;
    unsigned phase = atomic_load_explicit(&p->phase, memory_order_acquire);
    if (atomic_fetch_add_explicit(&p->arrived, 1, memory_order_acq_rel) == p->threads - 1) {
        atomic_store_explicit(&p->arrived, 0, memory_order_relaxed);
        atomic_fetch_add_explicit(&p->phase, 1, memory_order_release);
        return;
    }
    while (!pool_spin(&p->phase, phase)) continue;
}

/* The container's CPU quota in whole cores, rounded up; 0 if there is none. */
static int cgroup_cpus(void)
{
    long long quota = 0, period = 0;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!f) return 0;
    int n = fscanf(f, "%lld %lld", &quota, &period);
    fclose(f);
    return n == 2 && quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

int bt_cpu_count(void)
{
    cpu_set_t set;
    int n = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
    int limit = cgroup_cpus();
    if (limit > 0 && limit < n) n = limit;
    return n < 1 ? 1 : n;
}
