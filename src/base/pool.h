/* SPDX-License-Identifier: Apache-2.0 */
/* pool.h - a fixed team of threads that runs one function together, many times a step.
 *
 * bt_pool_run() calls fn(ud, thread, threads) once on each thread, the caller being thread 0, and
 * returns when all have finished. Workers spin for some microseconds between runs, then sleep, so
 * an idle pool costs nothing. Thread: one caller at a time. */
#pragma once
#include "baton/status.h"

typedef struct bt_pool bt_pool;
typedef void (*bt_pool_fn)(void *ud, int thread, int threads);

bt_status bt_pool_new(int threads, bt_pool **out, bt_err *err); // threads >= 1
void bt_pool_free(bt_pool *p);
void bt_pool_run(bt_pool *p, bt_pool_fn fn, void *ud);
/* Inside fn: waits until all threads have come here. */
void bt_pool_barrier(bt_pool *p);
int bt_cpu_count(void); // cores this process may use: affinity mask and cgroup CPU quota
