/* SPDX-License-Identifier: Apache-2.0 */
/* encode_merge.c - pair merging of one word, for both kinds of vocabulary.
 *
 * Symbols stand in a row of places and grow over those of what they merge with; a queue holds the
 * pairs that could merge. Each symbol knows its pair with the next one by name, so that a pair that
 * comes out of the queue late is seen to be stale. Byte pair encoding looks a pair up by its two
 * ids, SPM by the bytes of both, as Sennrich et al. 2016 and SentencePiece do. */
#include "base/assert.h"
#include "base/utf8.h"
#include "token/encode_parts.h"
#include <string.h>

/* A character that falls back to bytes does so with what its place in the word adds to it. */
size_t bt__merge_room(const bt_tokenizer *t, size_t n)
{
    return t->byte_fallback ? n * (1 + t->n_prefix) + t->n_suffix : n;
}

bool bt__merger_reserve(bt__merger *m, const bt_tokenizer *t, size_t n)
{
    return bt__queue_reserve(&m->queue, bt__merge_room(t, n), t->n_ranks);
}

void bt__merger_release(bt__merger *m)
{
    bt__queue_release(&m->queue);
}

/* ---- The row. */

/* Where the symbol at i ends. */
static uint32_t end_of(const bt__merger *m, uint32_t i)
{
    const bt__symbol *symbol = m->queue.symbol;
    bool longer = i + 1 < m->n && symbol[i + 1].pair == BT__INSIDE;
    return longer ? i + (uint32_t)symbol[i + 1].id : i + 1;
}

/* Where the symbol that ends at i > 0 begins. */
static uint32_t begin_of(const bt__merger *m, uint32_t i)
{
    const bt__symbol *last = &m->queue.symbol[i - 1];
    return last->pair == BT__INSIDE ? i - (uint32_t)last->id : i - 1;
}

/* The symbol at i gets the places up to end, those of the symbol at next among them. */
static void widen(bt__merger *m, uint32_t i, uint32_t next, uint32_t end)
{
    bt__symbol *symbol = m->queue.symbol;
    symbol[next].pair = BT__INSIDE;
    symbol[i + 1] = symbol[end - 1] = (bt__symbol){(int32_t)(end - i), BT__INSIDE};
}

static void append(bt__merger *m, int32_t id)
{
    m->queue.symbol[m->n++] = (bt__symbol){id, BT__NO_PAIR};
}

/* Whether the symbol at left and its successor may merge, and when. */
static bool pair_find(const bt__merger *m, const bt_tokenizer *t, const char *word, uint32_t left,
                      bt__pair *out)
{
    const bt__symbol *symbol = m->queue.symbol;
    uint64_t order, value;
    uint32_t right = end_of(m, left);
    if (right == m->n) return false;
    if (t->kind == BT_VOCAB_SPM) {
        out->id = bt__pieces_find(&t->pieces, word + left, end_of(m, right) - left);
        if (out->id < 0) return false;
        order = t->order[out->id];
        out->name = (uint32_t)out->id;
    } else {
        uint64_t key = ((uint64_t)symbol[left].id + 1) << 32 | (uint32_t)symbol[right].id;
        if (!bt_map_get(&t->merges, key, &value)) return false;
        out->id = (int32_t)(uint32_t)value;
        order = value >> 32;
        out->name = (uint32_t)order;
    }
    out->key = order << 32 | left;
    return true;
}

/* ---- The first symbols. */

/* SentencePiece: one symbol a character, token or not. */
static void split_scored(bt__merger *m, const bt_tokenizer *t, const char *word, size_t n)
{
    for (size_t i = 0, step; i < n; i += step) {
        uint32_t cp;
        step = bt_utf8_decode(word + i, n - i, &cp);
        BT_ASSERT(step > 0);
        append(m, bt__pieces_find(&t->pieces, word + i, step));
        m->n = (uint32_t)(i + step);
        if (step > 1) widen(m, (uint32_t)i, (uint32_t)i + 1, m->n);
    }
}

/* The character at word[i..i + step) with what its place in the word adds to it. */
static bt_str spelled(const bt_tokenizer *t, const char *word, size_t n, size_t i, size_t step,
                      char buf[static 2 * BT__AFFIX_BYTES_MAX + 4])
{
    size_t len = 0;
    bool inside = t->prefix && i > 0, last = t->suffix && i + step == n;
    if (!inside && !last) return (bt_str){word + i, step};
    if (inside) memcpy(buf, t->prefix, t->n_prefix);
    if (inside) len = t->n_prefix;
    memcpy(buf + len, word + i, step);
    len += step;
    if (last) memcpy(buf + len, t->suffix, t->n_suffix);
    if (last) len += t->n_suffix;
    return (bt_str){buf, len};
}

static bool all_bytes(const bt_tokenizer *t, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (t->byte_id[(unsigned char)s[i]] < 0) return false;
    return true;
}

static void split_raw(bt__merger *m, const bt_tokenizer *t, const char *word, size_t n)
{
    bool unknown = false; // what came last
    for (size_t i = 0; i < n; i++) {
        int32_t id = t->byte_id[(unsigned char)word[i]];
        if (id < 0 && (t->unk < 0 || (unknown && t->fuse_unk))) continue;
        unknown = id < 0;
        append(m, unknown ? t->unk : id);
    }
}

/* Byte pair encoding: every symbol is a token from the start. A character without one becomes its
 * bytes, which overtake an unknown token before them, or else an unknown token, which takes part in
 * the list; without any of these it is left out. */
static void split_ranked(bt__merger *m, const bt_tokenizer *t, const char *word, size_t n)
{
    char buf[2 * BT__AFFIX_BYTES_MAX + 4];
    bool unknown = false; // a token that is still to come
    for (size_t i = 0, step; i < n; i += step) {
        uint32_t cp;
        step = bt_utf8_decode(word + i, n - i, &cp);
        BT_ASSERT(step > 0);
        bt_str s = spelled(t, word, n, i, step, buf);
        int32_t id = bt__pieces_find(&t->pieces, s.s, s.n);
        if (id < 0 && t->byte_fallback && all_bytes(t, s.s, s.n)) {
            for (size_t k = 0; k < s.n; k++) append(m, t->byte_id[(unsigned char)s.s[k]]);
            continue;
        }
        if (id < 0 && (t->unk < 0 || (unknown && t->fuse_unk))) continue;
        if (unknown) append(m, t->unk);
        unknown = id < 0;
        if (id >= 0) append(m, id);
    }
    if (unknown) append(m, t->unk);
}

/* ---- Merging. */

/* Looks the symbol's pair up anew. */
static void renew_pair(bt__merger *m, const bt_tokenizer *t, const char *word, uint32_t left)
{
    bt__pair p;
    bool found = pair_find(m, t, word, left, &p);
    m->queue.symbol[left].pair = found ? p.name : BT__NO_PAIR;
    if (found) bt__queue_push(&m->queue, p);
}

static void merge_all(bt__merger *m, const bt_tokenizer *t, const char *word)
{
    bt__pair p;
    bt__symbol *symbol = m->queue.symbol;
    bt__queue_begin(&m->queue, m->n, t->kind != BT_VOCAB_SPM);
    for (uint32_t i = 0; i < m->n; i = end_of(m, i)) {
        if (bt_stop_after(m->stop, 1)) return;
        if (!pair_find(m, t, word, i, &p)) continue;
        symbol[i].pair = p.name;
        bt__queue_add(&m->queue, p);
    }
    bt__queue_start(&m->queue);
    while (bt__queue_pop(&m->queue, &p)) {
        uint32_t left = (uint32_t)p.key;
        if (bt_stop_after(m->stop, 1)) return;
        if (symbol[left].pair != p.name) continue;
        uint32_t right = end_of(m, left);
        symbol[left].id = p.id;
        widen(m, left, right, end_of(m, right));
        if (left > 0) renew_pair(m, t, word, begin_of(m, left));
        renew_pair(m, t, word, left);
    }
}

size_t bt__merge(bt__merger *m, const bt_tokenizer *t, const char *word, size_t n, int32_t *ids)
{
    size_t n_ids = 0;
    BT_ASSERT(n > 0 && bt__merge_room(t, n) <= m->queue.cap);
    m->n = 0;
    if (t->kind == BT_VOCAB_SPM)
        split_scored(m, t, word, n);
    else if (t->raw)
        split_raw(m, t, word, n);
    else
        split_ranked(m, t, word, n);
    merge_all(m, t, word);
    for (uint32_t i = 0, end; i < m->n; i = end) {
        int32_t id = m->queue.symbol[i].id;
        end = end_of(m, i);
        if (id >= 0) {
            ids[n_ids++] = id;
            continue;
        }
        /* its bytes if all of them are tokens, else one unknown token for a run of such */
        bool all = all_bytes(t, word + i, end - i);
        for (size_t k = i; all && k < end; k++) ids[n_ids++] = t->byte_id[(unsigned char)word[k]];
        if (!all && t->unk >= 0 && (n_ids == 0 || ids[n_ids - 1] != t->unk)) ids[n_ids++] = t->unk;
    }
    return n_ids;
}
