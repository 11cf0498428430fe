/* SPDX-License-Identifier: Apache-2.0 */
/* cond.h - a condition variable whose waits end at a deadline of bt_now_ns(). */
#pragma once
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

static inline void bt_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

/* Waits with mu held, as pthread_cond_wait: false once the deadline has passed. */
static inline bool bt_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mu, int64_t deadline_ns)
{
    struct timespec t = {deadline_ns / 1000000000, deadline_ns % 1000000000};
    return pthread_cond_timedwait(cond, mu, &t) != ETIMEDOUT;
}
