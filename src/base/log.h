/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - one line an event on stderr: time, level, event, logfmt pairs.
 *
 *     bt_log(BT_LOG_INFO, "lease.expired", "req=%llu slot=%d held_ms=%d", ...);
 *
 * Prompts, generated text and credentials are never logged. A line is logged once, by the layer
 * that decides. A stderr that nobody reads holds up whoever logs, unless bt_log_background() was
 * called. Thread: any; lines stay whole. */
#pragma once

typedef enum bt_log_level { BT_LOG_ERR, BT_LOG_WARN, BT_LOG_INFO, BT_LOG_DEBUG } bt_log_level;

void bt_log_set_level(bt_log_level level); // default INFO
int bt_log_parse_level(const char *name);  // -1 if unknown
void bt_log(bt_log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* A plain line without time and level: for what people and scripts read ("listening on ..."). */
void bt_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* From now on a thread of its own writes the lines, so that no caller ever waits for stderr: lines
 * that find no room (64 KiB) are dropped, and their number is logged once others flow again. exit()
 * waits a moment for what is left. For processes that serve. */
void bt_log_background(void);
void bt_log_flush(int ms);      // waits until all is written, so long at most
long long bt_log_dropped(void); // lines in all
