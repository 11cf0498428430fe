/* SPDX-License-Identifier: Apache-2.0 */
/* trie.h - a set of byte strings with a number each, walked byte by byte: a double array.
 *
 * Read-only after open and shared by threads; one memory access a byte. Private to src/vocab. */
#pragma once
#include "baton/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bt__trie bt__trie;

typedef struct bt__trie_key {
    const char *s; // borrowed until open returns
    uint32_t n;
    int32_t value; // >= 0
} bt__trie_key;

enum {
    BT__TRIE_KEYS_MAX = 1 << 22,
    BT__TRIE_KEY_BYTES_MAX = 1 << 16, // bytes a key
    BT__TRIE_BYTES_MAX = 1 << 25      // bytes of all keys
};

/* Empty keys are left out; of equal keys the last one's value stays. BT_EFORMAT past the bounds. */
bt_status bt__trie_open(const bt__trie_key *key, size_t n, bt__trie **out, bt_err *err);
void bt__trie_close(bt__trie *t); // NULL is fine

/* Exactly s: its value, or -1. */
int32_t bt__trie_find(const bt__trie *t, const char *s, size_t n);

/* A walk: starts at 0 (the root); true and *node is the child at this byte, false if there is none.
 * *value is what ends there, -1 if nothing does. */
typedef struct bt__trie_unit {
    uint32_t base;   // children are at base ^ byte
    uint32_t parent; // UINT32_MAX: free
    int32_t value;
} bt__trie_unit;
struct bt__trie {
    bt__trie_unit *unit; // owned, a multiple of 256 units
};
static inline bool bt__trie_step(const bt__trie *t, uint32_t *node, unsigned char byte,
                                int32_t *value)
{
    uint32_t at = t->unit[*node].base ^ byte;
    const bt__trie_unit *u = &t->unit[at];
    if (u->parent != *node) return false;
    *value = u->value;
    *node = at;
    return true;
}
