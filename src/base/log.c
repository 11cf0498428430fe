/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/clock.h"
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

static void log_write(const char *line, size_t len)
{
    while (len > 0) {
        ssize_t n = write(STDERR_FILENO, line, len);
        if (n <= 0) return;
        line += n;
        len -= (size_t)n;
    }
}

/* Formats into line[cap] after `len` bytes, ends with a newline, writes it out. */
__attribute__((format(printf, 4, 0))) static void log_finish(char *line, size_t cap, size_t len,
                                                             const char *fmt, va_list ap)
{
    int n = vsnprintf(line + len, cap - len - 1, fmt, ap);
    if (n > 0) len += (size_t)n < cap - len - 1 ? (size_t)n : cap - len - 2;
    line[len++] = '\n';
    log_write(line, len);
}

void bt_log(bt_log_level level, const char *event, const char *fmt, ...)
{
    if ((int)level > atomic_load_explicit(&log_level, memory_order_relaxed)) return;
    char line[1024], when[24];
    int64_t us = bt_wall_us();
    bt_rfc3339(us, when);
    when[19] = 0;
    int n = snprintf(line, sizeof line, "%s.%03dZ %s %s ", when, (int)(us / 1000 % 1000),
                     level_name[level], event);
    va_list ap;
    va_start(ap, fmt);
    log_finish(line, sizeof line, (size_t)n, fmt, ap);
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
