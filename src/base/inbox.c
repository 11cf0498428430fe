/* SPDX-License-Identifier: Apache-2.0 */
#include "base/inbox.h"
#include "base/assert.h"
#include "base/cond.h"
#include "base/mem.h"
#include <string.h>

bt_status bt_inbox_init(bt_inbox *b, size_t item_bytes, size_t cap, bt_err *err)
{
    memset(b, 0, sizeof *b);
    b->slot = bt_calloc(cap, item_bytes);
    if (!b->slot) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for an inbox of %zu", cap);
    b->item_bytes = item_bytes;
    b->cap = cap;
    pthread_mutex_init(&b->mu, NULL);
    bt_cond_init(&b->filled);
    bt_cond_init(&b->drained);
    return BT_OK;
}

void bt_inbox_release(bt_inbox *b)
{
    if (!b->slot) return;
    pthread_cond_destroy(&b->filled);
    pthread_cond_destroy(&b->drained);
    pthread_mutex_destroy(&b->mu);
    bt_free(b->slot);
    b->slot = NULL;
}

void bt_inbox_close(bt_inbox *b)
{
    pthread_mutex_lock(&b->mu);
    b->closed = true;
    pthread_cond_broadcast(&b->filled);
    pthread_cond_broadcast(&b->drained);
    pthread_mutex_unlock(&b->mu);
}

bt_status bt_inbox_push_wait(bt_inbox *b, const void *items, size_t n, int64_t deadline_ns)
{
    bt_status st = BT_OK;
    BT_ASSERT(n >= 1 && n <= b->cap);
    pthread_mutex_lock(&b->mu);
    while (!b->closed && b->cap - b->len < n && st == BT_OK)
        if (deadline_ns == 0 || !bt_cond_wait(&b->drained, &b->mu, deadline_ns)) st = BT_ETIMEOUT;
    if (b->closed) st = BT_ECLOSED;
    if (st == BT_OK) {
        size_t at = (b->head + b->len) % b->cap, straight = BT_MIN(n, b->cap - at);
        memcpy(b->slot + at * b->item_bytes, items, straight * b->item_bytes);
        memcpy(b->slot, (const char *)items + straight * b->item_bytes,
               (n - straight) * b->item_bytes);
        if (b->len == 0) pthread_cond_signal(&b->filled);
        b->len += n;
    }
    pthread_mutex_unlock(&b->mu);
    return st;
}

bt_status bt_inbox_push(bt_inbox *b, const void *item)
{
    bt_status st = bt_inbox_push_wait(b, item, 1, 0);
    return st == BT_ETIMEOUT ? BT_EBUSY : st;
}

int bt_inbox_take(bt_inbox *b, void *items, int max, int64_t deadline_ns)
{
    pthread_mutex_lock(&b->mu);
    while (b->len == 0 && !b->closed && deadline_ns != 0)
        if (!bt_cond_wait(&b->filled, &b->mu, deadline_ns)) break;
    int n = 0;
    for (; n < max && b->len > 0; n++, b->len--) {
        memcpy((char *)items + (size_t)n * b->item_bytes, b->slot + b->head * b->item_bytes,
               b->item_bytes);
        b->head = (b->head + 1) % b->cap;
    }
    if (n == 0 && b->closed) n = -1;
    if (n > 0) pthread_cond_broadcast(&b->drained);
    pthread_mutex_unlock(&b->mu);
    return n;
}
