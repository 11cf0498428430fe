/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/kv.h"
#include "base/assert.h"
#include "base/mem.h"
#include <string.h>

bt_status bt_kv_init(bt_kv *kv, int32_t n_pages, int32_t page_tokens, bt_err *err)
{
    memset(kv, 0, sizeof *kv);
    kv->n_pages = n_pages;
    kv->page_tokens = page_tokens;
    kv->page = bt_calloc((size_t)n_pages, sizeof *kv->page);
    kv->token = bt_calloc((size_t)n_pages * (size_t)page_tokens, sizeof *kv->token);
    if (!kv->page || !kv->token || !bt_map_reserve(&kv->index, (size_t)n_pages + 1)) {
        bt_kv_release(kv);
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the table of %d KV pages", n_pages);
    }
    for (int32_t i = 0; i < n_pages; i++) kv->page[i].next = i + 1 < n_pages ? i + 1 : -1;
    kv->free_head = 0;
    kv->n_free = n_pages;
    kv->idle_oldest = kv->idle_newest = -1;
    kv->next_serial = 1;
    return BT_OK;
}

void bt_kv_release(bt_kv *kv)
{
    bt_free(kv->page);
    bt_free(kv->token);
    bt_map_release(&kv->index);
    memset(kv, 0, sizeof *kv);
}

int32_t bt_kv_available(const bt_kv *kv)
{
    return kv->n_free + kv->n_idle;
}

static void idle_remove(bt_kv *kv, int32_t page)
{
    bt_kv_page *p = &kv->page[page];
    if (p->prev >= 0)
        kv->page[p->prev].next = p->next;
    else
        kv->idle_oldest = p->next;
    if (p->next >= 0)
        kv->page[p->next].prev = p->prev;
    else
        kv->idle_newest = p->prev;
    kv->n_idle--;
}

static void idle_append(bt_kv *kv, int32_t page)
{
    bt_kv_page *p = &kv->page[page];
    p->prev = kv->idle_newest;
    p->next = -1;
    if (kv->idle_newest >= 0)
        kv->page[kv->idle_newest].next = page;
    else
        kv->idle_oldest = page;
    kv->idle_newest = page;
    kv->n_idle++;
}

static void free_push(bt_kv *kv, int32_t page)
{
    kv->page[page].next = kv->free_head;
    kv->free_head = page;
    kv->n_free++;
}

static void unpublish(bt_kv *kv, int32_t page)
{
    bool had = bt_map_remove(&kv->index, kv->page[page].hash);
    BT_ASSERT(had);
    kv->page[page].serial = 0;
}

int32_t bt_kv_take(bt_kv *kv)
{
    int32_t page = kv->free_head;
    if (page >= 0) {
        kv->free_head = kv->page[page].next;
        kv->n_free--;
    } else if (kv->idle_oldest >= 0) {
        page = kv->idle_oldest;
        idle_remove(kv, page);
        unpublish(kv, page);
    } else {
        return -1;
    }
    kv->page[page].refs = 1;
    return page;
}

void bt_kv_ref(bt_kv *kv, int32_t page)
{
    BT_ASSERT(page >= 0 && page < kv->n_pages);
    bt_kv_page *p = &kv->page[page];
    BT_ASSERT(p->refs > 0 || p->serial);
    if (p->refs++ == 0) idle_remove(kv, page);
}

void bt_kv_unref(bt_kv *kv, int32_t page)
{
    BT_ASSERT(page >= 0 && page < kv->n_pages && kv->page[page].refs > 0);
    if (--kv->page[page].refs > 0) return;
    if (kv->page[page].serial)
        idle_append(kv, page);
    else
        free_push(kv, page);
}

/* Never 0: that is the map's empty key. */
static uint64_t key_hash(const bt_kv *kv, uint64_t salt, uint64_t parent, const int32_t *tokens)
{
    uint64_t seed = bt_hash_u64(salt ^ bt_hash_u64(parent + 0x9E3779B97F4A7C15u));
    uint64_t h = bt_hash(tokens, (size_t)kv->page_tokens * sizeof *tokens, seed);
    return h ? h : 1;
}

static bool key_equal(const bt_kv *kv, int32_t page, uint64_t salt, uint64_t parent,
                      const int32_t *tokens)
{
    const bt_kv_page *p = &kv->page[page];
    size_t n = (size_t)kv->page_tokens;
    return p->salt == salt && p->parent == parent &&
           memcmp(kv->token + (size_t)page * n, tokens, n * sizeof *tokens) == 0;
}

int32_t bt_kv_find(const bt_kv *kv, uint64_t salt, uint64_t parent, const int32_t *tokens)
{
    uint64_t found;
    if (!bt_map_get(&kv->index, key_hash(kv, salt, parent, tokens), &found)) return -1;
    return key_equal(kv, (int32_t)found, salt, parent, tokens) ? (int32_t)found : -1;
}

int32_t bt_kv_publish(bt_kv *kv, int32_t page, uint64_t salt, uint64_t parent,
                      const int32_t *tokens)
{
    BT_ASSERT(kv->page[page].refs > 0 && !kv->page[page].serial);
    uint64_t hash = key_hash(kv, salt, parent, tokens), found;
    if (bt_map_get(&kv->index, hash, &found))
        return key_equal(kv, (int32_t)found, salt, parent, tokens) ? (int32_t)found : -1;
    if (!bt_map_put(&kv->index, hash, (uint64_t)page)) return -1;
    bt_kv_page *p = &kv->page[page];
    p->serial = kv->next_serial++;
    p->parent = parent;
    p->salt = salt;
    p->hash = hash;
    memcpy(kv->token + (size_t)page * (size_t)kv->page_tokens, tokens,
           (size_t)kv->page_tokens * sizeof *tokens);
    return page;
}

void bt_kv_forget(bt_kv *kv, int32_t page)
{
    bt_kv_page *p = &kv->page[page];
    if (!p->serial) return;
    unpublish(kv, page);
    if (p->refs == 0) {
        idle_remove(kv, page);
        free_push(kv, page);
    }
}

void bt_kv_forget_all(bt_kv *kv)
{
    for (int32_t i = 0; i < kv->n_pages; i++) bt_kv_forget(kv, i);
}

void bt_kv_check(const bt_kv *kv)
{
    int32_t held = 0, idle = 0, n_free = 0;
    size_t cached = 0;
    for (int32_t i = 0; i < kv->n_pages; i++) {
        const bt_kv_page *p = &kv->page[i];
        BT_ASSERT(p->refs >= 0);
        held += p->refs > 0;
        if (!p->serial) continue;
        cached++;
        int32_t same =
            bt_kv_find(kv, p->salt, p->parent, kv->token + (size_t)i * (size_t)kv->page_tokens);
        BT_ASSERT(same == i);
    }
    for (int32_t i = kv->free_head; i >= 0; i = kv->page[i].next) {
        BT_ASSERT(kv->page[i].refs == 0 && !kv->page[i].serial);
        n_free++;
    }
    for (int32_t i = kv->idle_oldest, prev = -1; i >= 0; prev = i, i = kv->page[i].next) {
        BT_ASSERT(kv->page[i].refs == 0 && kv->page[i].serial && kv->page[i].prev == prev);
        idle++;
    }
    BT_ASSERT(n_free == kv->n_free && idle == kv->n_idle && cached == kv->index.len);
    BT_ASSERT(held + idle + n_free == kv->n_pages);
}
