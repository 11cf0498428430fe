/* SPDX-License-Identifier: Apache-2.0 */
/* heap.c - sift up, sift down, and the position table that lets an item be found again. */
#include "sched/heap.h"
#include "base/mem.h"
#include <string.h>

bool bt__heap_init(bt__heap *h, int32_t items)
{
    memset(h, 0, sizeof *h);
    h->entry = bt_calloc((size_t)items, sizeof *h->entry);
    h->pos = bt_malloc((size_t)items * sizeof *h->pos);
    if (!h->entry || !h->pos) return false;
    for (int32_t i = 0; i < items; i++) h->pos[i] = -1;
    return true;
}

void bt__heap_release(bt__heap *h)
{
    bt_free(h->entry);
    bt_free(h->pos);
    memset(h, 0, sizeof *h);
}

void bt__heap_clear(bt__heap *h)
{
    for (int32_t i = 0; i < h->len; i++) h->pos[h->entry[i].item] = -1;
    h->len = 0;
}

static bool entry_before(const bt__heap_entry *a, const bt__heap_entry *b)
{
    return a->key != b->key ? a->key < b->key : a->tie < b->tie;
}

static void heap_set(bt__heap *h, int32_t at, bt__heap_entry e)
{
    h->entry[at] = e;
    h->pos[e.item] = at;
}

/* Settles e, whose place is the hole at `at`. */
static void heap_sift(bt__heap *h, int32_t at, bt__heap_entry e)
{
    while (at > 0 && entry_before(&e, &h->entry[(at - 1) / 2])) {
        heap_set(h, at, h->entry[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (int32_t child; (child = 2 * at + 1) < h->len; at = child) {
        if (child + 1 < h->len && entry_before(&h->entry[child + 1], &h->entry[child])) child++;
        if (!entry_before(&h->entry[child], &e)) break;
        heap_set(h, at, h->entry[child]);
    }
    heap_set(h, at, e);
}

void bt__heap_put(bt__heap *h, int32_t item, int64_t key, uint64_t tie)
{
    int32_t at = h->pos[item];
    if (at < 0) at = h->len++;
    heap_sift(h, at, (bt__heap_entry){key, tie, item});
}

void bt__heap_remove(bt__heap *h, int32_t item)
{
    int32_t at = h->pos[item];
    if (at < 0) return;
    h->pos[item] = -1;
    h->len--;
    if (at < h->len) heap_sift(h, at, h->entry[h->len]);
}
