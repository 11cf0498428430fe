/* SPDX-License-Identifier: Apache-2.0 */
#include "file/gguf_names.h"
#include "base/hash.h"
#include "base/mem.h"
#include <string.h>

bool bt__names_init(bt__names *t, const void *items, size_t stride, size_t n, uint64_t seed)
{
    size_t cap = 16;
    while (cap < 2 * n) cap *= 2;
    t->slot = bt_calloc(cap, sizeof *t->slot);
    t->cap = cap;
    t->items = items;
    t->stride = stride;
    t->seed = seed;
    return t->slot != NULL;
}

void bt__names_release(bt__names *t)
{
    bt_free(t->slot);
    t->slot = NULL;
}

static bt_str names_at(const bt__names *t, size_t i)
{
    return *(const bt_str *)((const char *)t->items + i * t->stride);
}

/* The slot that holds this name, or the free one where it would go. */
static uint32_t *names_slot(const bt__names *t, bt_str name)
{
    size_t i = bt_hash(name.s, name.n, t->seed) & (t->cap - 1);
    for (; t->slot[i]; i = (i + 1) & (t->cap - 1)) {
        bt_str have = names_at(t, t->slot[i] - 1);
        if (have.n == name.n && memcmp(have.s, name.s, name.n) == 0) break;
    }
    return &t->slot[i];
}

bool bt__names_add(bt__names *t, size_t i)
{
    uint32_t *slot = names_slot(t, names_at(t, i));
    if (*slot) return false;
    *slot = (uint32_t)(i + 1);
    return true;
}

size_t bt__names_find(const bt__names *t, const char *name)
{
    if (!t->slot) return SIZE_MAX;
    uint32_t *slot = names_slot(t, (bt_str){name, strlen(name)});
    return *slot ? *slot - 1 : SIZE_MAX;
}
