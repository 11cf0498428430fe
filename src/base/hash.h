/* SPDX-License-Identifier: Apache-2.0 */
/* hash.h - a fast 64-bit hash and an open-addressing map from 64-bit keys to 64-bit values.
 *
 * For tables keyed by bytes, key the map by bt_hash() and compare the bytes on a hit. Keys from
 * outside that could be chosen to collide must be hashed with a secret seed. Thread: the owner's.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint64_t bt_hash(const void *data, size_t len, uint64_t seed);
/* A good mix of one word (splitmix64's finalizer). */
static inline uint64_t bt_hash_u64(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xBF58476D1CE4E5B9u;
    x ^= x >> 27;
    x *= 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

/* Key 0 is not allowed. Zero-initialise; grows by itself. */
typedef struct bt_map {
    uint64_t *slot; // owned: pairs (key, value)
    size_t cap, len;
} bt_map;

void bt_map_release(bt_map *m);
bool bt_map_reserve(bt_map *m, size_t n); // room for n keys without growing
bool bt_map_put(bt_map *m, uint64_t key,
                uint64_t value); // inserts or replaces; false: out of memory
bool bt_map_get(const bt_map *m, uint64_t key, uint64_t *value);
/* Brings the key's place nearer, for tables beyond the caches: call some keys ahead. */
static inline void bt_map_prefetch(const bt_map *m, uint64_t key)
{
    if (m->cap) __builtin_prefetch(&m->slot[2 * (bt_hash_u64(key) & (m->cap - 1))]);
}
bool bt_map_remove(bt_map *m, uint64_t key);
/* Iterates: start with *at = 0; false at the end. Not stable under change. */
bool bt_map_next(const bt_map *m, size_t *at, uint64_t *key, uint64_t *value);
