/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/cond.h"
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { RING_BYTES = 64 << 10, FLUSH_MS = 200 };

static atomic_int log_level = BT_LOG_INFO;
static const char *const level_name[] = {"error", "warn", "info", "debug"};

void bt_log_set_level(bt_log_level level)
{
    atomic_store(&log_level, level);
}

int bt_log_parse_level(const char *name)
{
    for (int i = 0; i < 4; i++)
        if (strcmp(name, level_name[i]) == 0) return i;
    return -1;
}

/* Returns how much of it was written: all, unless stderr is closed or broken. */
static size_t log_write(const char *line, size_t len)
{
    size_t at = 0;
    while (at < len) {
        ssize_t n = write(STDERR_FILENO, line + at, len - at);
        struct pollfd p = {STDERR_FILENO, POLLOUT, 0};
        if (n > 0)
            at += (size_t)n;
        else if (n < 0 && errno == EAGAIN) // another process made the shared pipe so
            poll(&p, 1, -1);
        else if (n == 0 || errno != EINTR)
            break;
    }
    return at;
}

/* "2026-01-02T03:04:05.678Z level event "; its length. */
static size_t log_begin(char *line, size_t cap, bt_log_level level, const char *event)
{
    char when[24];
    int64_t us = bt_wall_us();
    bt_rfc3339(us, when);
    when[19] = 0;
    return (size_t)snprintf(line, cap, "%s.%03dZ %s %s ", when, (int)(us / 1000 % 1000),
                            level_name[level], event);
}

/* ---- in the background: whole lines in a ring, and a thread that may wait for stderr */

static struct {
    pthread_mutex_t mu;
    pthread_cond_t filled, drained;
    char bytes[RING_BYTES];
    size_t at, len;    // what waits
    bool writing;      // the writer holds lines of it
    long long dropped; // lines, of which stderr has not been told
} ring = {.mu = PTHREAD_MUTEX_INITIALIZER};

static atomic_bool in_background;
static atomic_llong dropped_total;

/* Called with the lock held. */
static void ring_add(const char *line, size_t len)
{
    if (len > RING_BYTES - ring.len) {
        ring.dropped++;
        atomic_fetch_add(&dropped_total, 1);
        return;
    }
    size_t end = (ring.at + ring.len) % RING_BYTES, first = BT_MIN(len, RING_BYTES - end);
    memcpy(ring.bytes + end, line, first);
    memcpy(ring.bytes, line + first, len - first);
    ring.len += len;
    pthread_cond_signal(&ring.filled);
}

/* Takes whole lines, as many as one write() keeps together. Called with the lock held. */
static size_t ring_take(char chunk[static PIPE_BUF])
{
    size_t n = BT_MIN(ring.len, (size_t)PIPE_BUF), whole = 0;
    for (size_t i = 0; i < n; i++) {
        chunk[i] = ring.bytes[(ring.at + i) % RING_BYTES];
        if (chunk[i] == '\n') whole = i + 1;
    }
    ring.at = (ring.at + whole) % RING_BYTES;
    ring.len -= whole;
    return whole;
}

static void *ring_main(void *ud)
{
    char chunk[PIPE_BUF];
    (void)ud;
    pthread_mutex_lock(&ring.mu);
    for (;;) {
        while (ring.len == 0) pthread_cond_wait(&ring.filled, &ring.mu);
        size_t n = ring_take(chunk);
        ring.writing = true;
        pthread_mutex_unlock(&ring.mu);
        bool broken = log_write(chunk, n) < n;
        pthread_mutex_lock(&ring.mu);
        ring.writing = false;
        long long dropped = broken ? 0 : ring.dropped; // it flows again
        ring.dropped -= dropped;
        pthread_cond_broadcast(&ring.drained);
        if (dropped == 0) continue;
        pthread_mutex_unlock(&ring.mu);
        n = log_begin(chunk, sizeof chunk, BT_LOG_WARN, "log.dropped");
        n += (size_t)snprintf(chunk + n, sizeof chunk - n, "lines=%lld for want of a reader\n",
                              dropped);
        log_write(chunk, n);
        pthread_mutex_lock(&ring.mu);
    }
    return NULL;
}

void bt_log_flush(int ms)
{
    int64_t end_ns = bt_now_ns() + (int64_t)ms * 1000000;
    if (!atomic_load(&in_background)) return;
    pthread_mutex_lock(&ring.mu);
    while ((ring.len > 0 || ring.writing) && bt_cond_wait(&ring.drained, &ring.mu, end_ns))
        continue;
    pthread_mutex_unlock(&ring.mu);
}

static void flush_at_exit(void)
{
    bt_log_flush(FLUSH_MS);
}

void bt_log_background(void)
{
    pthread_t thread;
    sigset_t all, before;
    if (atomic_load(&in_background)) return;
    bt_cond_init(&ring.filled);
    bt_cond_init(&ring.drained);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, NULL, ring_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) return; // a line then waits for stderr, as it did before
    pthread_detach(thread);
    atexit(flush_at_exit);
    atomic_store(&in_background, true);
}

long long bt_log_dropped(void)
{
    return atomic_load(&dropped_total);
}

/* ---- lines */

/* Formats into line[cap] after `len` bytes, ends with a newline, writes it out. */
__attribute__((format(printf, 4, 0))) static void log_finish(char *line, size_t cap, size_t len,
                                                             const char *fmt, va_list ap)
{
    int n = vsnprintf(line + len, cap - len - 1, fmt, ap);
    if (n > 0) len += (size_t)n < cap - len - 1 ? (size_t)n : cap - len - 2;
    line[len++] = '\n';
    if (!atomic_load(&in_background)) {
        log_write(line, len);
        return;
    }
    pthread_mutex_lock(&ring.mu);
    ring_add(line, len);
    pthread_mutex_unlock(&ring.mu);
}

void bt_log(bt_log_level level, const char *event, const char *fmt, ...)
{
    if ((int)level > atomic_load_explicit(&log_level, memory_order_relaxed)) return;
    char line[1024];
    size_t n = log_begin(line, sizeof line, level, event);
    va_list ap;
    va_start(ap, fmt);
    log_finish(line, sizeof line, n, fmt, ap);
    va_end(ap);
}

void bt_say(const char *fmt, ...)
{
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    log_finish(line, sizeof line, 0, fmt, ap);
    va_end(ap);
}

void bt_bug(const char *file, int line, const char *what)
{
    bt_say("baton: bug: %s:%d: %s does not hold", file, line, what);
    bt_log_flush(FLUSH_MS);
    abort();
}
