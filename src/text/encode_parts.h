/* SPDX-License-Identifier: Apache-2.0 */
/* encode_parts.h - what the files of the encoder share: its tables and the merge engine. Private to
 * src/text. */
#pragma once
#include "base/hash.h"
#include "text/encode.h"
#include "text/pretok.h"

/* Bytes -> id, open addressing; the bytes themselves are the vocabulary's. */
typedef struct bt__pieces {
    const bt_vocab *vocab; // borrowed: outlives the tokenizer
    struct bt__piece_slot {
        uint32_t tag; // upper half of the hash
        int32_t id;   // -1: free
    } * slot;         // owned
    size_t mask, longest;
} bt__pieces;

/* Holds what plain text may become: normal and user-defined tokens; in byte-level vocabularies,
 * whose merges may name them, unused ones too. Never control tokens. */
bt_status bt__pieces_init(bt__pieces *p, const bt_vocab *vocab, bt_err *err);
void bt__pieces_release(bt__pieces *p);
int32_t bt__pieces_find(const bt__pieces *p, const char *s, size_t n); // -1 if none

/* Tokens that are cut out of the raw text before anything else: a trie over their bytes. */
typedef struct bt__added {
    bt_map edge; // (node << 8 | byte) + 1 -> node
    struct bt__added_node {
        int32_t user, any; // id that ends here: user-defined ones only, or control ones as well; -1
    } * node;              // owned
    size_t n_nodes, cap;
    bool first_user[256], first_any[256]; // bytes that such tokens begin with
} bt__added;

bt_status bt__added_init(bt__added *a, const bt_vocab *vocab, bt_err *err);
void bt__added_release(bt__added *a);
/* The leftmost token at or after `at`, the longest there. special: control tokens too. */
bool bt__added_next(const bt__added *a, const char *s, size_t n, size_t at, bool special,
                    size_t *start, size_t *end, int32_t *id);

struct bt_tokenizer {
    const bt_vocab *vocab; // borrowed
    bt_vocab_kind kind;
    bt__pieces pieces;
    bt__added added;
    int32_t byte_id[256]; // the token of a single byte; -1 if none
    int32_t unk;
    uint32_t *order;    // SPM, owned: [vocab] merge order of a token, 0 first (from the scores)
    bt_map merges;      // BPE: (left + 1) << 32 | right -> rank << 32 | merged id
    bt_pretok *pretok;  // BPE, owned
    bool nfc;           // text is normalized first
    bool ignore_merges; // a word that is a token is that token
    bool split_words;   // SPM: no piece continues past the end of a word, so words merge alone
    bool add_space;
};

/* A symbol of the word being merged; its index is the offset of its first byte. */
typedef struct bt__symbol {
    uint32_t prev, next; // UINT32_MAX: none
    uint32_t len;        // 0: merged away
    int32_t id;          // -1: not a token
} bt__symbol;

typedef struct bt__pair {
    uint64_t key; // order or rank << 32 | offset: the smallest is merged first, ties leftmost
    int32_t id;   // what they become
    uint32_t len; // bytes of both; differs from the symbols' when one of them has changed since
} bt__pair;

typedef struct bt__merger {
    bt__symbol *symbol; // owned [cap]
    bt__pair *heap;     // owned [2 * cap]: each merge takes one pair and adds at most two
    size_t cap, n_heap;
} bt__merger;

bool bt__merger_reserve(bt__merger *m, size_t n);
void bt__merger_release(bt__merger *m);
/* Merges the word (n >= 1 bytes, reserved) to ids, which has room for n; returns how many. O(n log
 * n). */
size_t bt__merge(bt__merger *m, const bt_tokenizer *t, const char *word, size_t n, int32_t *ids);
