/* SPDX-License-Identifier: Apache-2.0 */
/* encode_queue.c - which merge is next: a heap, and buckets that are swept for long words.
 *
 * A sweep walks the symbols in ascending order, so that a word of a megabyte is read as memory is
 * read best. Merges of a rank mostly bring merges of higher ranks, which go to buckets of their
 * own; the others wait in the heap, which stays small, and are taken in between where their key
 * says. */
#include "base/assert.h"
#include "base/mem.h"
#include "token/encode_parts.h"
#include <assert.h>
#include <string.h>

#define NONE UINT32_MAX
enum { HEAP_WAYS = 4, LINE_BYTES = 64, LONG_SYMBOLS = 8192, SMALL = 32 };
static_assert(HEAP_WAYS * sizeof(bt__pair) == LINE_BYTES, "the heap's layout");

/* ---- Memory. */

bool bt__queue_reserve(bt__queue *q, size_t n_symbols, size_t n_ranks)
{
    size_t cap = BT_MAX(n_symbols + n_symbols / 8, (size_t)256);
    if (n_symbols > q->cap) {
        bt_free(q->symbol);
        bt_free(q->heap_block);
        q->symbol = bt_malloc(cap * sizeof *q->symbol);
        q->heap_block = bt_aligned_alloc(LINE_BYTES, (2 * cap + HEAP_WAYS) * sizeof *q->heap);
        q->heap = q->heap_block + HEAP_WAYS - 1; // the children of a node are one cache line
        q->cap = q->symbol && q->heap_block ? cap : 0;
        if (!q->cap) return false;
    }
    if (n_symbols < LONG_SYMBOLS || n_ranks == 0) return true;
    if (!q->bucket) {
        q->bucket = bt_malloc((n_ranks + 1) * sizeof *q->bucket);
        q->filled = bt_calloc(n_ranks / 64 + 1, sizeof *q->filled);
        if (!q->bucket || !q->filled) return false;
        for (size_t i = 0; i <= n_ranks; i++) q->bucket[i].last = NONE;
        q->n_ranks = n_ranks;
    }
    if (q->cap > q->long_cap) {
        bt_free(q->entry);
        bt_free(q->sweep);
        q->entry = bt_malloc(3 * q->cap * sizeof *q->entry); // first pairs, and two for each merge
        q->sweep = bt_malloc(2 * q->cap * sizeof *q->sweep);
        q->long_cap = q->entry && q->sweep ? q->cap : 0;
    }
    return q->long_cap > 0;
}

size_t bt__queue_bytes(const bt__queue *q)
{
    return q->cap * (sizeof *q->symbol + 2 * sizeof *q->heap) +
           q->long_cap * (3 * sizeof *q->entry + 2 * sizeof *q->sweep);
}

void bt__queue_release(bt__queue *q)
{
    bt_free(q->symbol);
    bt_free(q->heap_block);
    bt_free(q->bucket);
    bt_free(q->filled);
    bt_free(q->entry);
    bt_free(q->sweep);
    *q = (bt__queue){0};
}

/* ---- The heap: four children a node make it half as deep as two. */

static void heap_sift_down(bt__pair *heap, size_t n, size_t i)
{
    bt__pair p = heap[i];
    for (size_t child; (child = HEAP_WAYS * i + 1) < n; i = child) {
        size_t end = BT_MIN(child + HEAP_WAYS, n), below = HEAP_WAYS * child + 1;
        for (size_t k = 0; k < HEAP_WAYS && below + HEAP_WAYS * k < n; k++)
            __builtin_prefetch(&heap[below + HEAP_WAYS * k]);
        for (size_t k = child + 1; k < end; k++)
            if (heap[k].key < heap[child].key) child = k;
        if (heap[child].key >= p.key) break;
        heap[i] = heap[child];
    }
    heap[i] = p;
}

/* ---- Buckets. */

static void bucket_push(bt__queue *q, bt__pair p)
{
    uint32_t rank = (uint32_t)(p.key >> 32);
    struct bt__bucket *b = &q->bucket[rank];
    BT_ASSERT(q->n_entries < 3 * q->long_cap);
    q->entry[q->n_entries] = (struct bt__entry){(uint32_t)p.key, b->last};
    *b = (struct bt__bucket){(uint32_t)q->n_entries++, p.id};
    q->filled[rank / 64] |= UINT64_C(1) << rank % 64;
}

/* The lowest bucket with entries above the rank at hand; -1: there is none. */
static int64_t next_bucket(const bt__queue *q)
{
    size_t from = (size_t)(q->rank + 1), words = q->n_ranks / 64 + 1;
    uint64_t mask = UINT64_MAX << from % 64;
    for (size_t i = from / 64; i < words; i++, mask = UINT64_MAX)
        if (q->filled[i] & mask) return (int64_t)(64 * i) + __builtin_ctzll(q->filled[i] & mask);
    return -1;
}

/* Ascending, by one byte of the places after the other: as many passes as `below`, which no place
 * reaches, has bytes. */
static void sort_places(uint32_t *v, uint32_t *room, size_t n, size_t below)
{
    if (n <= SMALL) {
        for (size_t i = 1; i < n; i++) {
            uint32_t x = v[i];
            size_t k = i;
            for (; k > 0 && v[k - 1] > x; k--) v[k] = v[k - 1];
            v[k] = x;
        }
        return;
    }
    uint32_t *from = v, *to = room;
    for (int shift = 0; shift < 32 && (below - 1) >> shift; shift += 8) {
        size_t start[257] = {0};
        for (size_t i = 0; i < n; i++) start[(from[i] >> shift & 255) + 1]++;
        for (int k = 0; k < 256; k++) start[k + 1] += start[k];
        for (size_t i = 0; i < n; i++) to[start[from[i] >> shift & 255]++] = from[i];
        uint32_t *t = from;
        from = to;
        to = t;
    }
    if (from != v) memcpy(v, from, n * sizeof *v);
}

/* Takes the lowest bucket for the sweep, without what is stale. */
static bool next_sweep(bt__queue *q)
{
    int64_t rank = q->long_cap && q->rank != INT64_MAX ? next_bucket(q) : -1;
    if (rank < 0) return false;
    bool sorted = true;
    size_t end = q->long_cap;
    q->rank = rank;
    q->at = end;
    for (uint32_t i = q->bucket[rank].last; i != NONE; i = q->entry[i].before) {
        uint32_t place = q->entry[i].symbol;
        if (q->symbol[place].pair != (uint32_t)rank) continue;
        q->symbol[place].pair = BT__PAIR_TAKEN;
        sorted = sorted && (q->at == end || place < q->sweep[q->at]);
        q->sweep[--q->at] = place;
    }
    q->bucket[rank].last = NONE;
    q->filled[rank / 64] &= ~(UINT64_C(1) << rank % 64);
    if (!sorted) sort_places(q->sweep + q->at, q->sweep + end, end - q->at, q->cap);
    return true;
}

/* ---- Both. */

void bt__queue_begin(bt__queue *q, size_t n_symbols, bool ranked)
{
    bool buckets = ranked && n_symbols >= LONG_SYMBOLS && q->bucket;
    q->n_heap = q->n_entries = 0;
    q->at = q->long_cap;
    q->rank = buckets ? -1 : INT64_MAX;
}

void bt__queue_add(bt__queue *q, bt__pair p)
{
    if (q->rank < 0)
        bucket_push(q, p);
    else
        q->heap[q->n_heap++] = p;
}

void bt__queue_start(bt__queue *q)
{
    if (q->n_heap < 2) return;
    for (size_t i = q->n_heap / HEAP_WAYS + 1; i-- > 0;) heap_sift_down(q->heap, q->n_heap, i);
}

void bt__queue_push(bt__queue *q, bt__pair p)
{
    if ((int64_t)(p.key >> 32) > q->rank) {
        bucket_push(q, p);
        return;
    }
    size_t i = q->n_heap++;
    for (size_t up; i > 0 && p.key < q->heap[up = (i - 1) / HEAP_WAYS].key; i = up)
        q->heap[i] = q->heap[up];
    q->heap[i] = p;
}

bool bt__queue_pop(bt__queue *q, bt__pair *p)
{
    while (q->at == q->long_cap && q->n_heap == 0)
        if (!next_sweep(q)) return false;
    uint64_t swept = UINT64_MAX;
    if (q->at < q->long_cap) swept = (uint64_t)q->rank << 32 | q->sweep[q->at];
    if (q->n_heap > 0 && q->heap[0].key < swept) {
        *p = q->heap[0];
        q->heap[0] = q->heap[--q->n_heap];
        if (q->n_heap > 1) heap_sift_down(q->heap, q->n_heap, 0);
        return true;
    }
    if (q->long_cap - q->at > BT__AHEAD)
        __builtin_prefetch(&q->symbol[q->sweep[q->at + BT__AHEAD]]);
    *p = (bt__pair){swept, q->bucket[q->rank].id, BT__PAIR_TAKEN};
    q->at++;
    return true;
}
