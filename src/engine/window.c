/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/window.h"
#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include <string.h>

bt_status bt_window_init(bt_window *w, int32_t cap, bt_err *err)
{
    memset(w, 0, sizeof *w);
    uint32_t size = 16;
    while (size < (uint32_t)cap * 2) size *= 2;
    w->cap = cap;
    w->mask = size - 1;
    w->count = bt_calloc((size_t)cap, sizeof *w->count);
    w->slot = bt_calloc(size, sizeof *w->slot);
    if (w->count && w->slot) return BT_OK;
    bt_window_release(w);
    return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a penalty window of %d tokens", cap);
}

void bt_window_release(bt_window *w)
{
    bt_free(w->count);
    bt_free(w->slot);
    memset(w, 0, sizeof *w);
}

static uint32_t window_home(const bt_window *w, int32_t token)
{
    return (uint32_t)bt_hash_u64((uint32_t)token) & w->mask;
}

/* The token's slot, or the empty one where it would go. */
static uint32_t window_find(const bt_window *w, int32_t token)
{
    uint32_t i = window_home(w, token);
    while (w->slot[i] && w->count[w->slot[i] - 1].token != token) i = (i + 1) & w->mask;
    return i;
}

/* Empties a slot; later entries of the probe chain move back, so that no tombstone is needed. */
static void window_erase(bt_window *w, uint32_t i)
{
    for (uint32_t j = (i + 1) & w->mask; w->slot[j]; j = (j + 1) & w->mask) {
        uint32_t home = window_home(w, w->count[w->slot[j] - 1].token);
        if (((j - home) & w->mask) >= ((j - i) & w->mask)) {
            w->slot[i] = w->slot[j];
            i = j;
        }
    }
    w->slot[i] = 0;
}

void bt_window_clear(bt_window *w)
{
    memset(w->slot, 0, ((size_t)w->mask + 1) * sizeof *w->slot);
    w->n = 0;
}

static void window_drop(bt_window *w, uint32_t i)
{
    int32_t at = w->slot[i] - 1;
    window_erase(w, i);
    if (at == --w->n) return;
    uint32_t last = window_find(w, w->count[w->n].token);
    w->count[at] = w->count[w->n];
    w->slot[last] = at + 1;
}

void bt_window_add(bt_window *w, int32_t token, int32_t in_window, int32_t drawn)
{
    uint32_t i = window_find(w, token);
    if (!w->slot[i]) {
        BT_ASSERT(w->n < w->cap);
        w->count[w->n] = (bt_token_count){token, 0, 0};
        w->slot[i] = ++w->n;
    }
    bt_token_count *c = &w->count[w->slot[i] - 1];
    c->in_window += in_window;
    c->drawn += drawn;
    BT_ASSERT(c->in_window >= 0 && c->drawn >= 0);
    if (c->in_window == 0 && c->drawn == 0) window_drop(w, i);
}
