/* SPDX-License-Identifier: Apache-2.0 */
/* heap.h - a binary heap of small integers with a key each; any item can be moved or removed.
 *
 * Items are 0..items-1; smallest key first, ties by the smaller `tie`, so the order is total and
 * the same on every run. No allocation after init. Thread: the owner's. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef struct bt__heap_entry {
    int64_t key;
    uint64_t tie;
    int32_t item;
} bt__heap_entry;

typedef struct bt__heap {
    bt__heap_entry *entry; // owned
    int32_t *pos;          // owned; where an item is in entry, -1 = not here
    int32_t len;
} bt__heap;

bool bt__heap_init(bt__heap *h, int32_t items); // false: out of memory; release either way
void bt__heap_release(bt__heap *h);
void bt__heap_clear(bt__heap *h);
void bt__heap_put(bt__heap *h, int32_t item, int64_t key, uint64_t tie); // adds or moves it
void bt__heap_remove(bt__heap *h, int32_t item);                         // fine if it is not here
static inline const bt__heap_entry *bt__heap_top(const bt__heap *h)
{
    return h->len ? h->entry : 0;
}
