/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"
#include "base/mem.h"
#include <string.h>

/* The last n < 8 bytes as a word, the first of them lowest: most keys are no longer than this. */
static uint64_t tail_of(const unsigned char *p, size_t n)
{
    if (n >= 4) {
        uint32_t first, last; // they overlap
        memcpy(&first, p, 4);
        memcpy(&last, p + n - 4, 4);
        return first | (uint64_t)last << 8 * (n - 4);
    }
    if (n == 0) return 0;
    return p[0] | (uint64_t)p[n / 2] << 8 * (n / 2) | (uint64_t)p[n - 1] << 8 * (n - 1);
}

uint64_t bt_hash(const void *data, size_t len, uint64_t seed)
{
    const unsigned char *p = data;
    uint64_t h = seed ^ (uint64_t)len * 0x9E3779B97F4A7C15u;
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = (h ^ bt_hash_u64(w)) * 0x9FB21C651E98DF25u;
        h ^= h >> 29;
    }
    uint64_t tail = tail_of(p, len);
    return bt_hash_u64(h ^ (tail + 0xD6E8FEB86659FD93u));
}

void bt_map_release(bt_map *m)
{
    bt_free(m->slot);
    memset(m, 0, sizeof *m);
}

/* Index of the key's slot, or of the free slot where it would go. */
static size_t map_find(const bt_map *m, uint64_t key)
{
    size_t i = bt_hash_u64(key) & (m->cap - 1);
    while (m->slot[2 * i] && m->slot[2 * i] != key) i = (i + 1) & (m->cap - 1);
    return i;
}

static bool map_resize(bt_map *m, size_t cap)
{
    bt_map next = {bt_calloc(cap * 2, sizeof *m->slot), cap, m->len};
    if (!next.slot) return false;
    for (size_t i = 0; i < m->cap; i++) {
        if (!m->slot[2 * i]) continue;
        size_t j = map_find(&next, m->slot[2 * i]);
        next.slot[2 * j] = m->slot[2 * i];
        next.slot[2 * j + 1] = m->slot[2 * i + 1];
    }
    bt_free(m->slot);
    *m = next;
    return true;
}

bool bt_map_reserve(bt_map *m, size_t n)
{
    size_t cap = 16;
    while (cap / 4 * 3 < n) cap *= 2;
    return cap <= m->cap || map_resize(m, cap);
}

bool bt_map_put(bt_map *m, uint64_t key, uint64_t value)
{
    if (!bt_map_reserve(m, m->len + 1)) return false;
    size_t i = map_find(m, key);
    if (!m->slot[2 * i]) m->len++;
    m->slot[2 * i] = key;
    m->slot[2 * i + 1] = value;
    return true;
}

bool bt_map_get(const bt_map *m, uint64_t key, uint64_t *value)
{
    if (!m->cap) return false;
    size_t i = map_find(m, key);
    if (!m->slot[2 * i]) return false;
    if (value) *value = m->slot[2 * i + 1];
    return true;
}

/* Backward-shift deletion keeps probe chains whole without tombstones. */
bool bt_map_remove(bt_map *m, uint64_t key)
{
    if (!m->cap) return false;
    size_t mask = m->cap - 1, i = map_find(m, key);
    if (!m->slot[2 * i]) return false;
    for (size_t j = (i + 1) & mask; m->slot[2 * j]; j = (j + 1) & mask) {
        size_t home = bt_hash_u64(m->slot[2 * j]) & mask;
        if (((j - home) & mask) >= ((j - i) & mask)) {
            m->slot[2 * i] = m->slot[2 * j];
            m->slot[2 * i + 1] = m->slot[2 * j + 1];
            i = j;
        }
    }
    m->slot[2 * i] = m->slot[2 * i + 1] = 0;
    m->len--;
    return true;
}

bool bt_map_next(const bt_map *m, size_t *at, uint64_t *key, uint64_t *value)
{
    for (; *at < m->cap; (*at)++) {
        if (!m->slot[2 * *at]) continue;
        *key = m->slot[2 * *at];
        *value = m->slot[2 * *at + 1];
        (*at)++;
        return true;
    }
    return false;
}
