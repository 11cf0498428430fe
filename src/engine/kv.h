/* SPDX-License-Identifier: Apache-2.0 */
/* kv.h - KV pages: who holds which, and which full pages can be used again.
 *
 * DESIGN   A page holds the keys and values of page_tokens consecutive positions; the numbers are
 *          the device's, the accounting is here. A page is held by refs sequences. A full page may
 *          be published in the prefix cache under the key (salt, serial of the page before it, its
 *          tokens); each publication gets a serial of its own, so a key names the whole text from
 *          position 0 on, and a hit is exact: keys are compared, a hash only finds the candidate.
 * STATES   free --take--> held (--publish--> held and cached) --unref--> free, or, if cached, idle
 *          idle --find + ref--> held and cached;  idle --take (evicted, oldest first)--> held
 * INVARIANTS
 *   1. free + idle + held = n_pages, and free + idle pages can be taken at any time.
 *   2. Whoever holds a cached page holds the page its key names as its parent. A sequence gives its
 *      pages back last first, so the idle list meets children before parents.
 *   3. No allocation after init.
 * Thread: engine. */
#pragma once
#include "baton/status.h"
#include "base/hash.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct bt_kv_page {
    int32_t refs;
    int32_t prev, next; // idle list; next also links the free list; -1 = none
    uint64_t serial;    // of its publication; 0 = not in the cache
    uint64_t parent;    // serial of the page before; 0 = first page
    uint64_t salt, hash;
} bt_kv_page;

typedef struct bt_kv {
    int32_t n_pages, page_tokens;
    bt_kv_page *page; // owned, [n_pages]
    int32_t *token;   // owned, [n_pages * page_tokens] of cached pages
    bt_map index;     // hash of the key -> page
    int32_t free_head, n_free;
    int32_t idle_oldest, idle_newest, n_idle;
    uint64_t next_serial;
} bt_kv;

bt_status bt_kv_init(bt_kv *kv, int32_t n_pages, int32_t page_tokens, bt_err *err);
void bt_kv_release(bt_kv *kv);
/* Pages that bt_kv_take could give. */
int32_t bt_kv_available(const bt_kv *kv);
/* A page for its caller alone (refs 1, not cached); evicts the oldest idle page if none is free.
 * -1: none available. */
int32_t bt_kv_take(bt_kv *kv);
void bt_kv_ref(bt_kv *kv, int32_t page);
void bt_kv_unref(bt_kv *kv, int32_t page);
/* The cached page with these page_tokens tokens after `parent` (0 = at the start), or -1. */
int32_t bt_kv_find(const bt_kv *kv, uint64_t salt, uint64_t parent, const int32_t *tokens);
/* Puts a held, full page into the cache. Returns the page under this key from now on: `page`, or
 * the one that was there before (the caller changes over to it), or -1 when the key cannot be
 * stored. */
int32_t bt_kv_publish(bt_kv *kv, int32_t page, uint64_t salt, uint64_t parent,
                      const int32_t *tokens);
/* Takes a page out of the cache, whoever holds it: its content is not to be trusted. */
void bt_kv_forget(bt_kv *kv, int32_t page);
/* Takes every page out of the cache: the device's memory has been given back. */
void bt_kv_forget_all(bt_kv *kv);
/* Asserts the invariants by walking every list: for tests. */
void bt_kv_check(const bt_kv *kv);
