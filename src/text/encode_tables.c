/* SPDX-License-Identifier: Apache-2.0 */
/* encode_tables.c - the two tables over token bytes: exact lookup, and longest match in running
 * text. */
#include "base/assert.h"
#include "base/mem.h"
#include "text/encode_parts.h"
#include <string.h>

static bt_status no_memory(bt_err *err)
{
    return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the tokenizer's tables");
}

static size_t piece_home(const bt__pieces *p, uint64_t hash)
{
    return (size_t)hash & p->mask;
}
static uint32_t piece_tag(uint64_t hash)
{
    return (uint32_t)(hash >> 32);
}

int32_t bt__pieces_find(const bt__pieces *p, const char *s, size_t n)
{
    if (n == 0 || n > p->longest) return -1;
    uint64_t hash = bt_hash(s, n, 0);
    for (size_t i = piece_home(p, hash);; i = (i + 1) & p->mask) {
        const struct bt__piece_slot *slot = &p->slot[i];
        if (slot->id < 0) return -1;
        if (slot->tag != piece_tag(hash)) continue;
        size_t len;
        const char *bytes = bt_vocab_bytes(p->vocab, slot->id, &len);
        if (len == n && memcmp(bytes, s, n) == 0) return slot->id;
    }
}

static void piece_add(bt__pieces *p, int32_t id)
{
    size_t n;
    const char *s = bt_vocab_bytes(p->vocab, id, &n);
    p->longest = BT_MAX(p->longest, n);
    if (n == 0 || bt__pieces_find(p, s, n) >= 0) return; // the first of equals
    uint64_t hash = bt_hash(s, n, 0);
    size_t i = piece_home(p, hash);
    while (p->slot[i].id >= 0) i = (i + 1) & p->mask;
    p->slot[i] = (struct bt__piece_slot){piece_tag(hash), id};
}

bt_status bt__pieces_init(bt__pieces *p, const bt_vocab *vocab, bt_err *err)
{
    int32_t n = bt_vocab_size(vocab);
    bool bpe = bt_vocab_kind_of(vocab) == BT_VOCAB_BPE;
    size_t cap = 16;
    while (cap < 2 * (size_t)n) cap *= 2;
    p->vocab = vocab;
    p->slot = bt_malloc(cap * sizeof *p->slot);
    if (!p->slot) return no_memory(err);
    p->mask = cap - 1;
    for (size_t i = 0; i < cap; i++) p->slot[i].id = -1;
    for (int32_t id = 0; id < n; id++)
        if (bt_vocab_token_kind(vocab, id) == BT_TOKEN_NORMAL) piece_add(p, id);
    for (int32_t id = 0; id < n; id++) {
        bt_token_kind kind = bt_vocab_token_kind(vocab, id);
        bool late =
            kind == BT_TOKEN_USER || (bpe && (kind == BT_TOKEN_UNUSED || kind == BT_TOKEN_BYTE));
        if (late) piece_add(p, id);
    }
    return BT_OK;
}

void bt__pieces_release(bt__pieces *p)
{
    bt_free(p->slot);
}

/* A node for the trie; -1 if out of memory. */
static int64_t node_new(bt__added *a)
{
    if (a->n_nodes == a->cap) {
        size_t cap = a->cap ? 2 * a->cap : 64;
        struct bt__added_node *node = bt_realloc(a->node, cap * sizeof *node);
        if (!node) return -1;
        a->node = node;
        a->cap = cap;
    }
    a->node[a->n_nodes] = (struct bt__added_node){-1, -1};
    return (int64_t)a->n_nodes++;
}

static uint64_t edge_key(uint64_t node, char byte)
{
    return (node << 8 | (unsigned char)byte) + 1;
}

static bool added_insert(bt__added *a, const char *s, size_t n, int32_t id, bool user)
{
    uint64_t at = 0, next;
    for (size_t i = 0; i < n; i++, at = next) {
        if (bt_map_get(&a->edge, edge_key(at, s[i]), &next)) continue;
        int64_t fresh = node_new(a);
        if (fresh < 0 || !bt_map_put(&a->edge, edge_key(at, s[i]), (uint64_t)fresh)) return false;
        next = (uint64_t)fresh;
    }
    struct bt__added_node *node = &a->node[at];
    if (user && node->user < 0) node->user = id;
    if (node->any < 0 || user) node->any = node->user >= 0 ? node->user : id;
    a->first_any[(unsigned char)s[0]] = true;
    if (user) a->first_user[(unsigned char)s[0]] = true;
    return true;
}

bt_status bt__added_init(bt__added *a, const bt_vocab *vocab, bt_err *err)
{
    if (node_new(a) < 0) return no_memory(err);
    for (int32_t id = 0; id < bt_vocab_size(vocab); id++) {
        size_t n;
        bt_token_kind kind = bt_vocab_token_kind(vocab, id);
        if (kind != BT_TOKEN_USER && kind != BT_TOKEN_CONTROL && kind != BT_TOKEN_UNKNOWN) continue;
        const char *s =
            kind == BT_TOKEN_USER ? bt_vocab_bytes(vocab, id, &n) : bt_vocab_piece(vocab, id, &n);
        if (n && !added_insert(a, s, n, id, kind == BT_TOKEN_USER)) return no_memory(err);
    }
    return BT_OK;
}

void bt__added_release(bt__added *a)
{
    bt_map_release(&a->edge);
    bt_free(a->node);
}

/* Length of the longest token that s begins with; 0 if none. */
static size_t added_match(const bt__added *a, const char *s, size_t n, bool special, int32_t *id)
{
    uint64_t at = 0;
    size_t longest = 0;
    for (size_t i = 0; i < n && bt_map_get(&a->edge, edge_key(at, s[i]), &at); i++) {
        int32_t here = special ? a->node[at].any : a->node[at].user;
        if (here < 0) continue;
        longest = i + 1;
        *id = here;
    }
    return longest;
}

bool bt__added_next(const bt__added *a, const char *s, size_t n, size_t at, bool special,
                    size_t *start, size_t *end, int32_t *id)
{
    const bool *first = special ? a->first_any : a->first_user;
    for (size_t i = at; i < n; i++) {
        if (!first[(unsigned char)s[i]]) continue;
        size_t len = added_match(a, s + i, n - i, special, id);
        if (len == 0) continue;
        *start = i;
        *end = i + len;
        return true;
    }
    return false;
}
