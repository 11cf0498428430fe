/* SPDX-License-Identifier: Apache-2.0 */
/* registry.c - the living requests of all units: found by their ids, forgotten after their last
 * event; and who is told of them. */
#include "base/clock.h"
#include "base/log.h"
#include "front/internal.h"

static const int64_t push_wait_ns = 10000000000;

bt_stream *bt__front_find(bt_front *f, uint64_t id)
{
    uint64_t value = 0;
    pthread_mutex_lock(&f->registry_mu);
    bool found = bt_map_get(&f->registry, id, &value);
    bt_stream *s = found ? (bt_stream *)(uintptr_t)value : NULL;
    if (s) bt__stream_ref(s);
    pthread_mutex_unlock(&f->registry_mu);
    return s;
}

bool bt__front_register(bt_front *f, bt_stream *s)
{
    pthread_mutex_lock(&f->registry_mu);
    s->registered = bt_map_put(&f->registry, s->id, (uintptr_t)s);
    pthread_mutex_unlock(&f->registry_mu);
    if (s->registered) atomic_fetch_add(&f->alive, 1);
    return s->registered;
}

void bt__front_forget(bt_front *f, bt_stream *s)
{
    pthread_mutex_lock(&f->registry_mu);
    bool removed = bt_map_remove(&f->registry, s->id);
    pthread_mutex_unlock(&f->registry_mu);
    if (!removed) return;
    bt_stream_unref(s);
    atomic_fetch_sub(&f->alive, 1);
}

void bt__front_book(bt_front *f, const bt_book *book)
{
    if (bt_inbox_push_wait(&f->ledger_in, book, 1, bt_now_ns() + push_wait_ns) == BT_OK) return;
    bt_log(BT_LOG_ERR, "ledger.inbox_full", "type=%d", book->type);
    bt_stream_unref(book->stream);
}
