/* SPDX-License-Identifier: Apache-2.0 */
#include "http/budget.h"
#include "base/assert.h"
#include "base/mem.h"

enum { SMALL_BODY_BYTES = BT_BODY_SMALL + 1 }; // held of it: the text and a NUL

void bt__budget_open(bt_budget *b, size_t body_max, size_t bodies_max)
{
    *b = (bt_budget){.body_max = body_max, .large_max = bodies_max};
    b->small_max = BT_MAX(bodies_max / 8, (size_t)16 * SMALL_BODY_BYTES);
}

void bt__budget_release(bt_budget *b)
{
    size_t at = 0;
    uint64_t key, value;
    while (bt_map_next(&b->shares, &at, &key, &value)) bt_free((bt_share *)(uintptr_t)value);
    bt_map_release(&b->shares);
}

bt_share *bt__budget_share(bt_budget *b, uint64_t key)
{
    uint64_t value;
    if (key == 0) key = 1; // the map's own
    if (bt_map_get(&b->shares, key, &value)) {
        bt_share *known = (bt_share *)(uintptr_t)value;
        known->refs++;
        return known;
    }
    bt_share *s = bt_calloc(1, sizeof *s);
    if (!s) return NULL;
    s->key = key;
    s->refs = 1;
    if (bt_map_put(&b->shares, key, (uint64_t)(uintptr_t)s)) return s;
    bt_free(s);
    return NULL;
}

void bt__budget_drop(bt_budget *b, bt_share *s)
{
    if (!s || --s->refs > 0) return;
    BT_ASSERT(!s->connections && !s->requests && !s->small && !s->large);
    bt_map_remove(&b->shares, s->key);
    bt_free(s);
}

/* Takes bytes of one pool for one share. */
static bt_status take(size_t *pool, size_t pool_max, size_t *mine, bt_class cls, size_t bytes,
                      size_t one_body, bt_err *err)
{
    static const size_t pool_eighths[] = {4, 6, 8}, share_eighths[] = {1, 2, 4}; // by class
    size_t all = BT_MAX(pool_max / 8 * pool_eighths[cls], one_body);
    size_t each = BT_MAX(pool_max / 8 * share_eighths[cls], one_body);
    if (*mine + bytes > each)
        return bt_err_set(err, BT_EBUSY, 0,
                          "request bodies of this account or address may take %zu bytes at once, "
                          "and hold %zu; try again in a second",
                          each, *mine);
    if (*pool + bytes > all)
        return bt_err_set(err, BT_EBUSY, 0,
                          "request bodies of this tier and those below may take %zu bytes at once, "
                          "and %zu are taken; try again in a second",
                          all, *pool);
    *pool += bytes;
    *mine += bytes;
    return BT_OK;
}

bt_status bt__budget_grow(bt_budget *b, bt_share *s, bt_class cls, size_t was, size_t now,
                          bt_err *err)
{
    bool was_large = was > SMALL_BODY_BYTES, large = now > SMALL_BODY_BYTES;
    size_t more = was_large == large ? now - was : now;
    bt_status st = large
                       ? take(&b->large, b->large_max, &s->large, cls, more, b->body_max + 1, err)
                       : take(&b->small, b->small_max, &s->small, cls, more, SMALL_BODY_BYTES, err);
    if (st == BT_OK && was_large != large) bt__budget_give_back(b, s, was);
    return st;
}

void bt__budget_give_back(bt_budget *b, bt_share *s, size_t bytes)
{
    bool large = bytes > SMALL_BODY_BYTES;
    *(large ? &b->large : &b->small) -= bytes;
    *(large ? &s->large : &s->small) -= bytes;
}

int32_t bt__budget_connections(int32_t all, int32_t of_address, bool near)
{
    if (of_address > 0) return of_address;
    return BT_MAX(near ? all / 4 * 3 : all / 8, BT_CONNECTIONS_MIN);
}
