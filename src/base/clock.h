/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - the two clocks: monotonic for durations and deadlines, wall for people and windows. */
#pragma once
#include <stddef.h>
#include <stdint.h>

int64_t bt_now_ns(void);      // CLOCK_MONOTONIC
int64_t bt_thread_ns(void);   // of the processor that the calling thread has had
int64_t bt_wall_us(void);     // microseconds since 1970, UTC
void bt_sleep_ns(int64_t ns); // not for waiting on others: those use deadlines
/* "2026-01-02T03:04:05Z"; dst needs 21 bytes. Returns dst. */
char *bt_rfc3339(int64_t wall_us, char dst[static 24]);
