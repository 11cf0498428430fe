/* SPDX-License-Identifier: Apache-2.0 */
/* wordpiece.c - the longest piece at each place, found by one walk down a trie.
 *
 * Pieces that continue a word carry the prefix, so their walk begins at the node that the prefix
 * leads to. A word of n bytes takes at most n times the longest piece. */
#include "token/wordpiece.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "vocab/trie.h"

struct bt_wordpiece {
    bt__trie *trie;       // owned
    uint32_t inner;       // node of the prefix
    bool no_continuation; // no piece has the prefix
    size_t max_chars;
    int32_t unk, empty; // empty: id of the piece of no bytes (WordLevel); -1: none
    bool whole;
};

bt_status bt_wordpiece_open(const bt_wordpiece_piece *piece, size_t n,
                            const bt_wordpiece_options *opt, bt_wordpiece **out, bt_err *err)
{
    bt_status st;
    bt_wordpiece *w = bt_calloc(1, sizeof *w);
    bt__trie_key *key = bt_malloc((n + 1) * sizeof *key);
    if (!w || !key) {
        st = bt_err_set(err, BT_ENOMEM, 0, "out of memory for a vocabulary of %zu words", n);
        goto done;
    }
    w->empty = -1;
    for (size_t i = 0; i < n; i++) {
        key[i] = (bt__trie_key){piece[i].s, piece[i].n, piece[i].id};
        if (piece[i].n == 0) w->empty = piece[i].id;
    }
    st = bt__trie_open(key, n, &w->trie, err);
    if (st) goto done;
    w->max_chars = opt->max_chars;
    w->unk = opt->unk;
    w->whole = opt->whole;
    for (size_t i = 0; i < opt->n_prefix && !w->no_continuation; i++) {
        int32_t value;
        w->no_continuation =
            !bt__trie_step(w->trie, &w->inner, (unsigned char)opt->prefix[i], &value);
    }
done:
    bt_free(key);
    if (st)
        bt_wordpiece_close(w);
    else
        *out = w;
    return st;
}

void bt_wordpiece_close(bt_wordpiece *w)
{
    if (!w) return;
    bt__trie_close(w->trie);
    bt_free(w);
}

static bool too_long(const bt_wordpiece *w, const char *word, size_t n)
{
    if (n <= w->max_chars) return false;
    size_t chars = 0;
    for (size_t i = 0; i < n; i++) chars += !bt_utf8_is_tail(word[i]);
    return chars > w->max_chars;
}

/* Cuts the word; false: some part of it is no piece. */
static bool cut(const bt_wordpiece *w, const char *word, size_t n, int32_t *ids, size_t *n_ids)
{
    size_t count = 0;
    if (too_long(w, word, n)) return false;
    for (size_t i = 0; i < n;) {
        uint32_t node = i > 0 ? w->inner : 0;
        int32_t id, best = -1;
        size_t end = i;
        if (i > 0 && w->no_continuation) return false;
        for (size_t k = i; k < n && bt__trie_step(w->trie, &node, (unsigned char)word[k], &id);) {
            k++;
            bool whole_char = k == n || !bt_utf8_is_tail(word[k]);
            if (id < 0 || !whole_char) continue;
            best = id;
            end = k;
        }
        if (best < 0) return false;
        ids[count++] = best;
        i = end;
    }
    *n_ids = count;
    return true;
}

bt_status bt_wordpiece_encode(const bt_wordpiece *w, const char *word, size_t n, int32_t *ids,
                              size_t *n_ids, bt_err *err)
{
    if (w->whole) {
        int32_t id = n > 0 ? bt__trie_find(w->trie, word, n) : w->empty;
        if (id >= 0) {
            ids[0] = id;
            *n_ids = 1;
            return BT_OK;
        }
    } else if (cut(w, word, n, ids, n_ids)) {
        return BT_OK;
    }
    if (w->unk < 0)
        return bt_err_set(err, BT_EINVAL, 0,
                          "the text has a word that is not in the vocabulary, and the model has no "
                          "unknown token");
    ids[0] = w->unk;
    *n_ids = 1;
    return BT_OK;
}
