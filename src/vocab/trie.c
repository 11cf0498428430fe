/* SPDX-License-Identifier: Apache-2.0 */
/* trie.c - building the double array (Aoe 1989, with xor as in Yata's darts-clone).
 *
 * The children of a node with base b lie at b ^ byte and name the node as their parent. Keys are
 * sorted, and each node places its children together. Free units form a list, newest block first:
 * a node with several children tries a bounded number of places from the front, then takes a new
 * block; single children fill the holes from the back. So building is linear in the nodes. */
#include "vocab/trie.h"
#include "base/assert.h"
#include "base/mem.h"
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 256, TRIES_MAX = 48 };
#define NONE UINT32_MAX

typedef struct range { // keys lo .. hi-1 agree on their first `depth` bytes, which lead to `node`
    uint32_t lo, hi, depth, node;
} range;

typedef struct builder {
    const bt__trie_key **key; // owned: sorted, equal ones once
    size_t n_keys;
    bt__trie_unit *unit;   // owned until done
    uint32_t *next, *prev; // owned: the list of free units; a used one is in no list
    uint32_t head, tail;
    size_t n_units, cap;
    range *todo; // owned [n_keys + 1]: ranges are disjoint
} builder;

static int compare_keys(const void *a, const void *b)
{
    const bt__trie_key *x = *(const bt__trie_key *const *)a, *y = *(const bt__trie_key *const *)b;
    int c = memcmp(x->s, y->s, BT_MIN(x->n, y->n));
    if (c) return c;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return x < y ? -1 : x > y; // equal keys stay in their order
}

/* Room for one more block, all of it free. */
static bool add_block(builder *b)
{
    if (b->n_units + BLOCK > b->cap) {
        size_t cap = BT_MAX(b->cap * 2, (size_t)BLOCK * 4);
        void *u = bt_realloc(b->unit, cap * sizeof *b->unit);
        if (u) b->unit = u;
        void *n = bt_realloc(b->next, cap * sizeof *b->next);
        if (n) b->next = n;
        void *p = bt_realloc(b->prev, cap * sizeof *b->prev);
        if (p) b->prev = p;
        if (!u || !n || !p) return false;
        b->cap = cap;
    }
    for (size_t k = BLOCK; k-- > 0;) { // the lowest comes first
        uint32_t at = (uint32_t)(b->n_units + k);
        b->unit[at] = (bt__trie_unit){.parent = NONE, .value = -1};
        b->prev[at] = NONE;
        b->next[at] = b->head;
        if (b->head != NONE)
            b->prev[b->head] = at;
        else
            b->tail = at;
        b->head = at;
    }
    b->n_units += BLOCK;
    return true;
}

static bool is_free(const builder *b, uint32_t at)
{
    return b->unit[at].parent == NONE && at != 0; // the root has no parent
}

static void take(builder *b, uint32_t at)
{
    if (b->prev[at] != NONE)
        b->next[b->prev[at]] = b->next[at];
    else
        b->head = b->next[at];
    if (b->next[at] != NONE)
        b->prev[b->next[at]] = b->prev[at];
    else
        b->tail = b->prev[at];
}

static bool fits(const builder *b, uint32_t base, const unsigned char *label, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!is_free(b, base ^ label[i])) return false;
    return true;
}

/* A base whose places for these bytes are all free; false: out of memory. */
static bool find_base(builder *b, const unsigned char *label, size_t n, uint32_t *base)
{
    if (n == 1 && b->tail != NONE) {
        *base = b->tail ^ label[0];
        return true;
    }
    uint32_t at = b->head;
    for (int k = 0; at != NONE && k < TRIES_MAX; k++, at = b->next[at]) {
        *base = at ^ label[0];
        if (fits(b, *base, label, n)) return true;
    }
    *base = (uint32_t)b->n_units;
    return add_block(b);
}

/* Places the children of one node and puts their ranges on the list. */
static bool place(builder *b, range r, size_t *n_todo)
{
    unsigned char label[BLOCK];
    uint32_t start[BLOCK + 1], base = 0;
    size_t n = 0;
    uint32_t lo = r.lo;
    if (b->key[lo]->n == r.depth) b->unit[r.node].value = b->key[lo++]->value;
    for (uint32_t i = lo; i < r.hi; i++) {
        unsigned char c = (unsigned char)b->key[i]->s[r.depth];
        if (n > 0 && label[n - 1] == c) continue;
        start[n] = i;
        label[n++] = c;
    }
    if (n == 0) return true; // base 0: no unit there names this node
    start[n] = r.hi;
    if (!find_base(b, label, n, &base)) return false;
    b->unit[r.node].base = base;
    for (size_t i = 0; i < n; i++) {
        uint32_t at = base ^ label[i];
        take(b, at);
        b->unit[at] = (bt__trie_unit){.parent = r.node, .value = -1};
        b->todo[(*n_todo)++] = (range){start[i], start[i + 1], r.depth + 1, at};
    }
    return true;
}

/* The keys sorted, empty ones left out, of equal ones the last. */
static bt_status sort_keys(builder *b, const bt__trie_key *key, size_t n, bt_err *err)
{
    size_t bytes = 0;
    if (n > BT__TRIE_KEYS_MAX)
        return bt_err_set(err, BT_EFORMAT, 0, "the vocabulary has %zu pieces; at most %d are read",
                          n, BT__TRIE_KEYS_MAX);
    for (size_t i = 0; i < n; i++) {
        BT_ASSERT(key[i].value >= 0);
        bytes += key[i].n;
        if (key[i].n > BT__TRIE_KEY_BYTES_MAX || bytes > BT__TRIE_BYTES_MAX)
            return bt_err_set(
                err, BT_EFORMAT, 0,
                "piece %zu has %u bytes, all up to it %zu; at most %d and %d are read", i, key[i].n,
                bytes, BT__TRIE_KEY_BYTES_MAX, BT__TRIE_BYTES_MAX);
        if (key[i].n > 0) b->key[b->n_keys++] = &key[i];
    }
    if (b->n_keys > 0) qsort(b->key, b->n_keys, sizeof(const bt__trie_key *), compare_keys);
    size_t kept = 0;
    for (size_t i = 0; i < b->n_keys; i++) {
        const bt__trie_key *k = b->key[i];
        if (kept > 0 && b->key[kept - 1]->n == k->n && memcmp(b->key[kept - 1]->s, k->s, k->n) == 0)
            kept--;
        b->key[kept++] = k;
    }
    b->n_keys = kept;
    return BT_OK;
}

bt_status bt__trie_open(const bt__trie_key *key, size_t n, bt__trie **out, bt_err *err)
{
    builder b = {.head = NONE, .tail = NONE};
    bt_status st = BT_ENOMEM;
    size_t n_todo = 0;
    bt__trie *t = bt_calloc(1, sizeof *t);
    b.key = bt_malloc((n + 1) * sizeof(const bt__trie_key *));
    if (!t || !b.key) goto done;
    st = sort_keys(&b, key, n, err);
    if (st) goto done;
    st = BT_ENOMEM;
    b.todo = bt_malloc((b.n_keys + 1) * sizeof *b.todo);
    if (!b.todo || !add_block(&b)) goto done;
    take(&b, 0);
    if (b.n_keys > 0) b.todo[n_todo++] = (range){0, (uint32_t)b.n_keys, 0, 0};
    while (n_todo > 0) {
        range r = b.todo[--n_todo];
        if (!place(&b, r, &n_todo)) goto done;
    }
    t->unit = bt_realloc(b.unit, b.n_units * sizeof *b.unit);
    if (!t->unit) t->unit = b.unit; // no smaller block to be had
    b.unit = NULL;
    *out = t;
    t = NULL;
    st = BT_OK;
done:
    if (st == BT_ENOMEM)
        bt_err_set(err, st, 0, "out of memory for the trie of a vocabulary of %zu pieces", n);
    bt_free(b.key);
    bt_free(b.unit);
    bt_free(b.next);
    bt_free(b.prev);
    bt_free(b.todo);
    bt_free(t);
    return st;
}

void bt__trie_close(bt__trie *t)
{
    if (!t) return;
    bt_free(t->unit);
    bt_free(t);
}

int32_t bt__trie_find(const bt__trie *t, const char *s, size_t n)
{
    uint32_t node = 0;
    int32_t value = -1;
    for (size_t i = 0; i < n; i++)
        if (!bt__trie_step(t, &node, (unsigned char)s[i], &value)) return -1;
    return n > 0 ? value : -1;
}
