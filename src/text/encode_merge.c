/* SPDX-License-Identifier: Apache-2.0 */
/* encode_merge.c - pair merging of one word, for both kinds of vocabulary.
 *
 * Symbols form a doubly linked list over the word's bytes; a heap holds the pairs that could
 * merge. A popped pair whose symbols have grown or gone since is stale and skipped (symbols only
 * grow, so the length of both together tells). Byte-level BPE looks a pair up by its two ids, SPM
 * by the bytes of both, as Sennrich et al. 2016 and SentencePiece do. */
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "text/encode_parts.h"
#include <assert.h>
#include <string.h>

#define NONE UINT32_MAX
enum { HEAP_WAYS = 4, LINE_BYTES = 64 };
static_assert(HEAP_WAYS * sizeof(bt__pair) == LINE_BYTES, "the heap's layout");

bool bt__merger_reserve(bt__merger *m, size_t n)
{
    if (n <= m->cap) return true;
    size_t cap = 256;
    while (cap < n) cap *= 2;
    bt__merger_release(m);
    m->symbol = bt_malloc(cap * sizeof *m->symbol);
    m->heap_block = bt_aligned_alloc(LINE_BYTES, (2 * cap + HEAP_WAYS) * sizeof *m->heap);
    if (!m->symbol || !m->heap_block) {
        bt__merger_release(m);
        return false;
    }
    m->heap = m->heap_block + HEAP_WAYS - 1; // the children of a node are one cache line
    m->cap = cap;
    return true;
}

void bt__merger_release(bt__merger *m)
{
    bt_free(m->symbol);
    bt_free(m->heap_block);
    *m = (bt__merger){0};
}

/* Four children a node: a word of a megabyte outgrows the caches, and this heap is half as deep. */
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

static void heap_push(bt__merger *m, bt__pair p)
{
    size_t i = m->n_heap++;
    for (size_t up; i > 0 && p.key < m->heap[up = (i - 1) / HEAP_WAYS].key; i = up)
        m->heap[i] = m->heap[up];
    m->heap[i] = p;
}

static bt__pair heap_pop(bt__merger *m)
{
    bt__pair top = m->heap[0];
    m->heap[0] = m->heap[--m->n_heap];
    if (m->n_heap > 1) heap_sift_down(m->heap, m->n_heap, 0);
    return top;
}

/* Whether the symbol at left and its successor may merge, and when. */
static bool pair_find(const bt__merger *m, const bt_tokenizer *t, const char *word, uint32_t left,
                      bt__pair *out)
{
    const bt__symbol *a = &m->symbol[left];
    if (a->next == NONE) return false;
    const bt__symbol *b = &m->symbol[a->next];
    uint64_t order;
    out->len = a->len + b->len;
    if (t->kind == BT_VOCAB_SPM) {
        out->id = bt__pieces_find(&t->pieces, word + left, out->len);
        if (out->id < 0) return false;
        order = t->order[out->id];
    } else {
        uint64_t value;
        if (a->id < 0 || b->id < 0) return false;
        if (!bt_map_get(&t->merges, ((uint64_t)a->id + 1) << 32 | (uint32_t)b->id, &value))
            return false;
        out->id = (int32_t)(uint32_t)value;
        order = value >> 32;
    }
    out->key = order << 32 | left;
    return true;
}

static void append_symbol(bt__merger *m, size_t at, size_t len, int32_t id)
{
    m->symbol[at] = (bt__symbol){m->last, NONE, (uint32_t)len, id};
    if (m->last == NONE)
        m->first = (uint32_t)at;
    else
        m->symbol[m->last].next = (uint32_t)at;
    m->last = (uint32_t)at;
}

/* SentencePiece: one symbol a character, token or not. */
static void split_scored(bt__merger *m, const bt_tokenizer *t, const char *word, size_t n)
{
    for (size_t i = 0, step; i < n; i += step) {
        uint32_t cp;
        step = bt_utf8_decode(word + i, n - i, &cp);
        BT_ASSERT(step > 0);
        append_symbol(m, i, step, bt__pieces_find(&t->pieces, word + i, step));
    }
}

/* The token of the character at word[i..i + step), with what its place in the word adds to it. */
static int32_t first_token(const bt_tokenizer *t, const char *word, size_t n, size_t i, size_t step)
{
    char buf[2 * BT__AFFIX_BYTES_MAX + 4];
    size_t len = 0;
    if (t->raw) return t->byte_id[(unsigned char)word[i]];
    bool inside = t->prefix && i > 0, last = t->suffix && i + step == n;
    if (!inside && !last) return bt__pieces_find(&t->pieces, word + i, step);
    if (inside) memcpy(buf, t->prefix, t->n_prefix);
    if (inside) len = t->n_prefix;
    memcpy(buf + len, word + i, step);
    len += step;
    if (last) memcpy(buf + len, t->suffix, t->n_suffix);
    if (last) len += t->n_suffix;
    return bt__pieces_find(&t->pieces, buf, len);
}

static bool all_bytes(const bt_tokenizer *t, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (t->byte_id[(unsigned char)s[i]] < 0) return false;
    return true;
}

/* Byte pair encoding: every symbol is a token from the start. A character without one becomes its
 * bytes, or else an unknown token, which takes part in the list; without any of these it is left
 * out. */
static void split_ranked(bt__merger *m, const bt_tokenizer *t, const char *word, size_t n)
{
    size_t unk_at = 0, unk_len = 0;
    for (size_t i = 0, step; i < n; i += step) {
        uint32_t cp;
        step = t->raw ? 1 : bt_utf8_decode(word + i, n - i, &cp);
        BT_ASSERT(step > 0);
        int32_t id = first_token(t, word, n, i, step);
        if (id < 0 && !t->raw && t->byte_fallback && all_bytes(t, word + i, step)) {
            for (size_t k = 0; k < step; k++)
                append_symbol(m, i + k, 1, t->byte_id[(unsigned char)word[i + k]]);
            continue;
        }
        if (id < 0 && t->unk < 0) continue;
        if (id < 0 && unk_len && t->fuse_unk) {
            unk_len = i + step - unk_at;
            continue;
        }
        if (unk_len) append_symbol(m, unk_at, unk_len, t->unk);
        unk_len = 0;
        if (id >= 0) {
            append_symbol(m, i, step, id);
        } else {
            unk_at = i;
            unk_len = step;
        }
    }
    if (unk_len) append_symbol(m, unk_at, unk_len, t->unk);
}

static void merge_all(bt__merger *m, const bt_tokenizer *t, const char *word)
{
    bt__pair p;
    m->n_heap = 0;
    for (uint32_t i = m->first; i != NONE; i = m->symbol[i].next)
        if (pair_find(m, t, word, i, &p)) m->heap[m->n_heap++] = p;
    if (m->n_heap == 0) return;
    for (size_t i = m->n_heap / HEAP_WAYS + 1; i-- > 0;) heap_sift_down(m->heap, m->n_heap, i);
    while (m->n_heap > 0) {
        p = heap_pop(m);
        uint32_t left = (uint32_t)p.key;
        bt__symbol *a = &m->symbol[left];
        if (a->len == 0 || a->next == NONE) continue;
        bt__symbol *b = &m->symbol[a->next];
        if (a->len + b->len != p.len) continue;
        a->len = p.len;
        a->id = p.id;
        a->next = b->next;
        b->len = 0;
        if (a->next != NONE) m->symbol[a->next].prev = left;
        if (a->prev != NONE && pair_find(m, t, word, a->prev, &p)) heap_push(m, p);
        if (pair_find(m, t, word, left, &p)) heap_push(m, p);
    }
}

/* A symbol that is no token: its bytes if all of them are tokens, else one unknown token for a run
 * of such. */
static size_t fall_back(const bt_tokenizer *t, const char *s, size_t n, int32_t *ids, size_t n_ids)
{
    bool all = all_bytes(t, s, n);
    for (size_t i = 0; all && i < n; i++) ids[n_ids++] = t->byte_id[(unsigned char)s[i]];
    if (!all && t->unk >= 0 && (n_ids == 0 || ids[n_ids - 1] != t->unk)) ids[n_ids++] = t->unk;
    return n_ids;
}

size_t bt__merge(bt__merger *m, const bt_tokenizer *t, const char *word, size_t n, int32_t *ids)
{
    size_t n_ids = 0;
    BT_ASSERT(n > 0 && n <= m->cap);
    m->first = m->last = NONE;
    if (t->kind == BT_VOCAB_SPM)
        split_scored(m, t, word, n);
    else
        split_ranked(m, t, word, n);
    merge_all(m, t, word);
    for (uint32_t i = m->first; i != NONE; i = m->symbol[i].next) {
        const bt__symbol *s = &m->symbol[i];
        if (s->id >= 0)
            ids[n_ids++] = s->id;
        else
            n_ids = fall_back(t, word + i, s->len, ids, n_ids);
    }
    return n_ids;
}
