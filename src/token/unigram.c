/* SPDX-License-Identifier: Apache-2.0 */
/* unigram.c - the best cut by Viterbi, one pass over the text.
 *
 * A node stands at each byte offset where a character may end: the best sum that reaches it, where
 * its last piece starts, and which piece that is. Nodes are visited in order, so the first of equal
 * sums is the one with the earliest start. Both libraries that this follows walk a trie from each
 * character; only their arithmetic differs. */
#include "token/unigram.h"
#include "base/assert.h"
#include "base/mem.h"
#include "vocab/trie.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define NO_START UINT32_MAX
static const double unk_penalty = 10;

struct bt__unigram_node {
    double sum;
    uint32_t start; // NO_START: not reached
    int32_t id;
};

struct bt_unigram {
    bt__trie *trie; // owned: pieces that take part
    double *score;  // owned [n_pieces]
    bool *user;     // owned [n_pieces]; NULL unless `single`
    size_t n_pieces;
    double unk_score, max_score;
    int32_t unk;
    int32_t byte_id[256];
    bool byte_fallback; // all 256 may still not be there
    bool single;
};

static bt_status check_pieces(const bt_unigram_piece *piece, size_t n,
                              const bt_unigram_options *opt, bt_err *err)
{
    if (n == 0 || n > BT__TRIE_KEYS_MAX)
        return bt_err_set(err, BT_EFORMAT, 0, "a Unigram model has %zu pieces; 1 to %d can be read",
                          n, BT__TRIE_KEYS_MAX);
    if (opt->unk < -1 || (opt->unk >= 0 && (size_t)opt->unk >= n))
        return bt_err_set(err, BT_EFORMAT, 0,
                          "the Unigram model's unknown token is %d; its pieces are 0 to %zu",
                          opt->unk, n - 1);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(piece[i].score))
            return bt_err_set(err, BT_EFORMAT, 0, "the score of Unigram piece %zu is not finite",
                              i);
    return BT_OK;
}

/* Smallest and largest score as each library takes them. */
static void set_range(bt_unigram *u, const bt_unigram_piece *piece)
{
    double low = INFINITY;
    u->max_score = FLT_MIN; // what SentencePiece starts from
    for (size_t i = 0; i < u->n_pieces; i++) {
        if (!piece[i].s || (u->single && (piece[i].absent || piece[i].user))) continue;
        low = fmin(low, piece[i].score);
        u->max_score = fmax(u->max_score, piece[i].score);
    }
    if (!isfinite(low)) low = u->single ? FLT_MAX : 0; // no normal piece
    u->unk_score = u->single ? (double)((float)low - (float)unk_penalty) : low - unk_penalty;
}

/* The pieces of bytes; of equal ones the last, as everywhere. */
static void find_bytes(bt_unigram *u, const bt_unigram_piece *piece)
{
    for (size_t k = 0; k < BT_COUNT(u->byte_id); k++) u->byte_id[k] = -1;
    for (size_t i = 0; u->byte_fallback && i < u->n_pieces; i++) {
        if (piece[i].n != 6 || memcmp(piece[i].s, "<0x", 3) != 0 || piece[i].s[5] != '>') continue;
        for (int k = 0; k < 256; k++) {
            char hex[3];
            snprintf(hex, sizeof hex, "%02X", (unsigned)k & 0xFF);
            if (memcmp(hex, piece[i].s + 3, 2) != 0) continue;
            u->byte_id[k] = (int32_t)i;
        }
    }
}

bt_status bt_unigram_open(const bt_unigram_piece *piece, size_t n, const bt_unigram_options *opt,
                          bt_unigram **out, bt_err *err)
{
    bt_status st = check_pieces(piece, n, opt, err);
    if (st) return st;
    size_t n_keys = 0;
    bt_unigram *u = bt_calloc(1, sizeof *u);
    bt__trie_key *key = bt_malloc(n * sizeof *key);
    if (u) {
        u->score = bt_malloc(n * sizeof *u->score);
        u->user = bt_malloc(n);
    }
    if (!u || !key || !u->score || !u->user) {
        st = bt_err_set(err, BT_ENOMEM, 0, "out of memory for a Unigram model of %zu pieces", n);
        goto done;
    }
    u->n_pieces = n;
    u->unk = opt->unk;
    u->byte_fallback = opt->byte_fallback;
    u->single = opt->sentencepiece;
    for (size_t i = 0; i < n; i++) {
        u->score[i] = u->single ? (double)(float)piece[i].score : piece[i].score;
        u->user[i] = u->single && piece[i].user;
        if (!piece[i].absent) key[n_keys++] = (bt__trie_key){piece[i].s, piece[i].n, (int32_t)i};
    }
    set_range(u, piece);
    find_bytes(u, piece);
    st = bt__trie_open(key, n_keys, &u->trie, err);
done:
    bt_free(key);
    if (st)
        bt_unigram_close(u);
    else
        *out = u;
    return st;
}

void bt_unigram_close(bt_unigram *u)
{
    if (!u) return;
    bt__trie_close(u->trie);
    bt_free(u->score);
    bt_free(u->user);
    bt_free(u);
}

void bt_unigram_scratch_release(bt_unigram_scratch *x)
{
    bt_free(x->node);
    *x = (bt_unigram_scratch){0};
}

static bool reserve(bt_unigram_scratch *x, size_t n)
{
    if (n + 1 <= x->cap) return true;
    if (n >= NO_START) return false;
    size_t cap = BT_MAX(n + 1, x->cap + x->cap / 2);
    struct bt__unigram_node *node = bt_malloc(cap * sizeof *node); // nothing in it is kept
    if (!node) return false;
    bt_free(x->node);
    x->node = node;
    x->cap = cap;
    return true;
}

/* Bytes of the character that begins so (valid UTF-8). */
static size_t char_bytes(char first)
{
    unsigned char c = (unsigned char)first;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

static bool improves(const struct bt__unigram_node *to, double sum)
{
    return to->start == NO_START || sum > to->sum;
}

static void relax(const bt_unigram *u, struct bt__unigram_node *to, double sum, size_t start,
                  int32_t id)
{
    if (!improves(to, sum)) return;
    *to = (struct bt__unigram_node){u->single ? (double)(float)sum : sum, (uint32_t)start, id};
}

/* Fills the nodes; false: an unknown character and no unknown token, or it was stopped. */
static bool forward(const bt_unigram *u, bt_unigram_scratch *x, const char *s, size_t n)
{
    struct bt__unigram_node *node = x->node;
    size_t step;
    for (size_t i = 0; i <= n; i++)
        node[i] = (struct bt__unigram_node){.start = NO_START, .id = -1};
    for (size_t i = 0; i < n; i += step) {
        double sum = node[i].sum;
        bool single_char = false;
        uint32_t at = 0;
        int32_t id = -1;
        step = BT_MIN(char_bytes(s[i]), n - i);
        if (bt_stop_after(x->stop, step)) return false;
        for (size_t k = i; k < n && bt__trie_step(u->trie, &at, (unsigned char)s[k], &id); k++) {
            if (id < 0) continue;
            size_t len = k + 1 - i;
            double score = u->score[id];
            if (u->user[id]) score = (double)((float)len * (float)u->max_score) - 0.1;
            relax(u, &node[k + 1], score + sum, i, id);
            single_char = single_char || len == step;
        }
        if (single_char) continue;
        double unk = u->unk_score + sum;
        if (u->unk < 0 && improves(&node[i + step], unk)) return false;
        relax(u, &node[i + step], u->single ? (double)(float)unk : unk, i, u->unk);
    }
    return true;
}

/* An unknown run s[0..n), written downwards from ids[end]; returns where it begins. */
static size_t put_unknown(const bt_unigram *u, const char *s, size_t n, int32_t *ids, size_t end)
{
    /* Joined unknown characters may spell a piece whose score lost against them. */
    int32_t id = u->single ? -1 : bt__trie_find(u->trie, s, n);
    bool bytes = u->byte_fallback && id < 0;
    for (size_t i = 0; bytes && i < n; i++) bytes = u->byte_id[(unsigned char)s[i]] >= 0;
    if (!bytes) {
        ids[--end] = id >= 0 ? id : u->unk;
        return end;
    }
    for (size_t i = n; i-- > 0;) ids[--end] = u->byte_id[(unsigned char)s[i]];
    return end;
}

bt_status bt_unigram_encode(const bt_unigram *u, bt_unigram_scratch *x, const char *s, size_t n,
                            int32_t *ids, size_t *n_ids, bt_err *err)
{
    *n_ids = 0;
    if (n == 0) return BT_OK;
    if (!reserve(x, n))
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory to encode %zu bytes of text", n);
    bool found = forward(u, x, s, n);
    if (!found && x->stop && x->stop->why) return bt_stop_why(x->stop, err);
    if (!found)
        return bt_err_set(err, BT_EINVAL, 0,
                          "the text has a character that is no piece of the model, and the model "
                          "has no unknown token");
    size_t w = n, unknown_end = 0; // of a run of unknown characters; 0: in none
    for (size_t end = n; end > 0;) {
        const struct bt__unigram_node *node = &x->node[end];
        BT_ASSERT(node->start < end); // each character's end is reached
        bool unknown = u->unk >= 0 && node->id == u->unk;
        if (unknown && !unknown_end) unknown_end = end;
        if (!unknown && unknown_end) {
            w = put_unknown(u, s + end, unknown_end - end, ids, w);
            unknown_end = 0;
        }
        if (!unknown) ids[--w] = node->id;
        end = node->start;
    }
    if (unknown_end) w = put_unknown(u, s, unknown_end, ids, w);
    memmove(ids, ids + w, (n - w) * sizeof *ids);
    *n_ids = n - w;
    return BT_OK;
}
