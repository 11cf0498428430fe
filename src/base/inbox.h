/* SPDX-License-Identifier: Apache-2.0 */
/* inbox.h - a bounded queue of fixed-size messages from many threads to one.
 *
 * Messages are copied in and out. push() refuses when full (the caller answers 429 or 503);
 * push_wait() waits up to a deadline, for messages that must not be lost. Thread: any pushes, one
 * takes. */
#pragma once
#include "baton/status.h"
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bt_inbox {
    pthread_mutex_t mu;
    pthread_cond_t filled, drained;
    char *slot; // owned; guarded by mu, as all below
    size_t item_bytes, cap, head, len;
    bool closed;
} bt_inbox;

bt_status bt_inbox_init(bt_inbox *b, size_t item_bytes, size_t cap, bt_err *err);
void bt_inbox_release(bt_inbox *b);
/* After close, pushes fail with BT_ECLOSED; what is inside can still be taken. */
void bt_inbox_close(bt_inbox *b);
bt_status bt_inbox_push(bt_inbox *b, const void *item); // BT_EBUSY when full
/* n of them, at most as many as it holds, in order and nothing between them: all or none.
 * BT_ETIMEOUT: there was no room for them. */
bt_status bt_inbox_push_wait(bt_inbox *b, const void *items, size_t n, int64_t deadline_ns);
/* Takes up to max messages, waiting for the first until deadline_ns (0 = do not wait).
 * Returns how many; -1 when closed and empty. */
int bt_inbox_take(bt_inbox *b, void *items, int max, int64_t deadline_ns);
