/* SPDX-License-Identifier: Apache-2.0 */
/* encode_tables.c - the tables over token bytes: exact lookup, pairs of characters, and longest
 * match in running text. */
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "vocab/byte_level.h"
#include "token/encode_parts.h"
#include <string.h>

/* ---- Exact lookup. */

static size_t piece_home(const bt__pieces *p, uint64_t hash)
{
    return (size_t)hash & p->mask;
}
static uint32_t piece_tag(uint64_t hash)
{
    return (uint32_t)(hash >> 32);
}

static const char *piece_key(const bt__pieces *p, int32_t id, size_t *n)
{
    return p->raw ? bt_vocab_bytes(p->vocab, id, n) : bt_vocab_piece(p->vocab, id, n);
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
        const char *bytes = piece_key(p, slot->id, &len);
        if (len == n && memcmp(bytes, s, n) == 0) return slot->id;
    }
}

static void piece_add(bt__pieces *p, int32_t id)
{
    size_t n;
    const char *s = piece_key(p, id, &n);
    p->longest = BT_MAX(p->longest, n);
    if (n == 0 || bt__pieces_find(p, s, n) >= 0) return; // the first of equals
    uint64_t hash = bt_hash(s, n, 0);
    size_t i = piece_home(p, hash);
    while (p->slot[i].id >= 0) i = (i + 1) & p->mask;
    p->slot[i] = (struct bt__piece_slot){piece_tag(hash), id};
}

/* Whether plain text may become it: 1, 2 if only where no other token is spelled alike, else 0. */
static int piece_rank(const bt_spec *spec, size_t id)
{
    const bt_spec_piece *p = &spec->piece[id];
    if (!p->in_model) return 0;
    if (p->kind == BT_TOKEN_NORMAL) return 1;
    if (p->kind == BT_TOKEN_USER) return 2;
    bool odd = p->kind == BT_TOKEN_UNUSED || p->kind == BT_TOKEN_BYTE;
    return odd && spec->kind == BT_VOCAB_BPE ? 2 : 0; // merges may name them
}

bt_status bt__pieces_init(bt__pieces *p, const bt_spec *spec, const bt_vocab *vocab, bool raw,
                          bt_err *err)
{
    size_t cap = 16;
    while (cap < 2 * spec->n_pieces) cap *= 2;
    p->vocab = vocab;
    p->raw = raw;
    p->slot = bt_malloc(cap * sizeof *p->slot);
    if (!p->slot) return bt__no_memory(err);
    p->mask = cap - 1;
    for (size_t i = 0; i < cap; i++) p->slot[i].id = -1;
    for (int rank = 1; rank <= 2; rank++)
        for (size_t i = 0; i < spec->n_pieces; i++) {
            bt_str s = bt_spec_text(spec, (int32_t)i);
            /* Raw keys are of pieces that spell bytes: the others the model never meets. */
            if (piece_rank(spec, i) == rank && (!raw || bt__byte_level_spells(s.s, s.n)))
                piece_add(p, (int32_t)i);
        }
    return BT_OK;
}

void bt__pieces_release(bt__pieces *p)
{
    bt_free(p->slot);
}

/* ---- Pairs of characters. */

static uint64_t pair_key(uint32_t first, uint32_t second)
{
    return ((uint64_t)first << 21 | second) + 1;
}

static bool pair_has(const bt__pairs *p, uint32_t first, uint32_t second)
{
    if ((first | second) < 128) return p->ascii[first][second >> 6] >> (second & 63) & 1;
    return bt_map_get(&p->other, pair_key(first, second), NULL);
}

static bool pair_add(bt__pairs *p, uint32_t first, uint32_t second)
{
    if ((first | second) >= 128) return bt_map_put(&p->other, pair_key(first, second), 1);
    p->ascii[first][second >> 6] |= UINT64_C(1) << (second & 63);
    return true;
}

bt_status bt__pairs_init(bt__pairs *p, const bt_spec *spec, bt_err *err)
{
    p->on = true;
    for (size_t id = 0; id < spec->n_pieces; id++) {
        bt_str s = bt_spec_text(spec, (int32_t)id);
        if (!piece_rank(spec, id)) continue;
        uint32_t last = 0, cp;
        for (size_t i = 0, step; i < s.n; i += step, last = cp) {
            step = bt_utf8_decode(s.s + i, s.n - i, &cp);
            BT_ASSERT(step > 0);
            if (i > 0 && !pair_add(p, last, cp)) return bt__no_memory(err);
        }
    }
    return BT_OK;
}

void bt__pairs_release(bt__pairs *p)
{
    bt_map_release(&p->other);
}

size_t bt__pairs_end(const bt__pairs *p, const char *s, size_t n, size_t at)
{
    uint32_t last = 0, cp;
    if (!p->on) return n;
    for (size_t i = at, step; i < n; i += step, last = cp) {
        step = bt_utf8_decode(s + i, n - i, &cp);
        if (i > at && !pair_has(p, last, cp)) return i;
    }
    return n;
}

/* ---- Added tokens. */

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

bt_status bt__added_init(bt__added *a, size_t max_tokens, bt_err *err)
{
    a->token = bt_malloc((max_tokens + 1) * sizeof *a->token);
    return a->token && node_new(a) == 0 ? BT_OK : bt__no_memory(err);
}

static void mark_beginning(bt__added *a, const char *s, size_t n)
{
    unsigned first = (unsigned char)s[0];
    if (n > 1) {
        unsigned two = first << 8 | (unsigned char)s[1];
        a->begins[two >> 3] |= (uint8_t)(1 << (two & 7));
    } else {
        a->single[first] = true;
    }
}

bt_status bt__added_insert(bt__added *a, const char *s, size_t n, const bt__added_token *token,
                           bt_err *err)
{
    uint64_t at = 0, next;
    if (n == 0) return BT_OK;
    for (size_t i = 0; i < n; i++, at = next) {
        if (bt_map_get(&a->edge, edge_key(at, s[i]), &next)) continue;
        int64_t fresh = node_new(a);
        if (fresh < 0 || !bt_map_put(&a->edge, edge_key(at, s[i]), (uint64_t)fresh))
            return bt__no_memory(err);
        next = (uint64_t)fresh;
    }
    int32_t index = (int32_t)a->n_tokens++;
    a->token[index] = *token;
    if (a->node[at].end < 0) a->node[at].end = index;
    if (a->node[at].plain < 0 && !token->special) a->node[at].plain = index;
    mark_beginning(a, s, n);
    return BT_OK;
}

void bt__added_release(bt__added *a)
{
    bt_map_release(&a->edge);
    bt_free(a->node);
    bt_free(a->token);
}

static bool may_begin(const bt__added *a, const char *s, size_t n)
{
    unsigned first = (unsigned char)s[0];
    if (a->single[first]) return true;
    if (n < 2) return false;
    unsigned two = first << 8 | (unsigned char)s[1];
    return a->begins[two >> 3] >> (two & 7) & 1;
}

/* How far a special token that begins at i may reach; i if none may begin there. */
static size_t special_limit(bt__added_rule *rule, size_t n, size_t i)
{
    if (!rule->parse) return i;
    while (rule->at < rule->n_user && rule->user[rule->at].end <= i) rule->at++;
    if (rule->at == rule->n_user) return n;
    return BT_MAX(i, BT_MIN(n, rule->user[rule->at].start));
}

/* The longest token at s[at..]: its index and length; -1 if there is none. */
static int32_t longest_at(const bt__added *a, const bt__added_rule *rule, const char *s, size_t n,
                          size_t at, size_t limit, size_t *len)
{
    uint64_t node = 0;
    int32_t found = -1;
    for (size_t i = at; i < n && bt_map_get(&a->edge, edge_key(node, s[i]), &node); i++) {
        const struct bt__added_node *x = &a->node[node];
        int32_t here = x->end;
        if (here < 0) continue;
        const bt__added_token *t = &a->token[here];
        bool refused = t->special && i + 1 > limit;
        if (refused || (t->guarded && rule->n_user == 0)) here = x->plain;
        if (here < 0) continue;
        found = here;
        *len = i + 1 - at;
    }
    return found;
}

int32_t bt__added_next(const bt__added *a, bt__added_rule *rule, const char *s, size_t n, size_t at,
                       size_t *start, size_t *end)
{
    if (a->n_tokens == 0) return -1;
    for (size_t i = at; i < n; i++) {
        if (!may_begin(a, s + i, n - i)) continue;
        size_t len = 0;
        int32_t found = longest_at(a, rule, s, n, i, special_limit(rule, n, i), &len);
        if (found < 0) continue;
        *start = i;
        *end = i + len;
        return found;
    }
    return -1;
}
