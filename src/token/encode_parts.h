/* SPDX-License-Identifier: Apache-2.0 */
/* encode_parts.h - what the files of the encoder share: its tables and the merge engine. Private to
 * src/token. */
#pragma once
#include "base/hash.h"
#include "token/encode.h"
#include "token/normalize.h"
#include "token/pretok.h"
#include "vocab/spec.h"
#include "token/unigram.h"
#include "token/wordpiece.h"

static inline bt_status bt__no_memory(bt_err *err)
{
    return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the tokenizer");
}

/* Bytes -> id, open addressing; the bytes themselves are the vocabulary's. */
typedef struct bt__pieces {
    const bt_vocab *vocab; // borrowed: outlives the tokenizer
    bool raw;              // keys are what tokens add to the text; else their spelling
    struct bt__piece_slot {
        uint32_t tag; // upper half of the hash
        int32_t id;   // -1: free
    } * slot;         // owned
    size_t mask, longest;
} bt__pieces;

/* Holds what plain text may become. Never control tokens. */
bt_status bt__pieces_init(bt__pieces *p, const bt_spec *spec, const bt_vocab *vocab, bool raw,
                          bt_err *err);
void bt__pieces_release(bt__pieces *p);
int32_t bt__pieces_find(const bt__pieces *p, const char *s, size_t n); // -1 if none

/* Pairs of neighbouring characters that some piece holds. Where a text has another pair, no token
 * spans it, and what is on its two sides can be merged alone. */
typedef struct bt__pairs {
    bool on;
    uint64_t ascii[128][2]; // bit second of [first]
    bt_map other;           // (first << 21 | second) + 1
} bt__pairs;
bt_status bt__pairs_init(bt__pairs *p, const bt_spec *spec, bt_err *err);
void bt__pairs_release(bt__pairs *p);
/* Where the part that begins at `at` ends. */
size_t bt__pairs_end(const bt__pairs *p, const char *s, size_t n, size_t at);

/* Tokens that are cut out of the text before the model sees it: a trie over their bytes. */
typedef struct bt__added_token {
    int32_t id;
    bool special, lstrip, rstrip, single_word;
    bool guarded; // in this trie only where parts of the text are marked as a user's
} bt__added_token;

typedef struct bt__added {
    bt__added_token *token; // owned
    size_t n_tokens;
    bt_map edge; // (node << 8 | byte) + 1 -> node
    struct bt__added_node {
        int32_t end;   // index of the token that ends here; -1
        int32_t plain; // the same of those that are not special
    } * node;          // owned
    size_t n_nodes, cap;
    uint8_t begins[1 << 13]; // a bit for each two bytes that tokens begin with
    bool single[256];        // tokens of one byte
} bt__added;

bt_status bt__added_init(bt__added *a, size_t max_tokens, bt_err *err);
bt_status bt__added_insert(bt__added *a, const char *s, size_t n, const bt__added_token *token,
                           bt_err *err);
void bt__added_release(bt__added *a);

/* What may be found: special tokens only with parse, and then only outside of the user's parts. */
typedef struct bt__added_rule {
    bool parse;
    const bt_encode_range *user;
    size_t n_user, at; // at: the first range that may still matter; start at 0
} bt__added_rule;
/* The leftmost token at or after `at`, the longest there; its index, or -1. */
int32_t bt__added_next(const bt__added *a, bt__added_rule *rule, const char *s, size_t n, size_t at,
                       size_t *start, size_t *end);

struct bt_tokenizer {
    const bt_vocab *vocab; // borrowed
    bt_vocab_kind kind;
    bool raw; // words are raw bytes; else text as the file spells it
    bt__pieces pieces;
    bt__pairs pairs;
    bt__added added, added_normal; // found in the raw and in the normalized text
    int32_t byte_id[256]; // raw: the token of a single byte; else its byte token; -1 if none
    size_t token_bytes;   // bt_tokenizer_token_bytes()
    int32_t unk;
    bool fuse_unk, byte_fallback;
    bool ignore_merges;    // a word that is a token is that token
    uint32_t *order;       // SPM, owned: [vocab] merge order of a token, 0 first (from the scores)
    size_t n_ranks;        // BPE: merges
    bt_map merges;         // BPE: (left + 1) << 32 | right -> rank << 32 | merged id
    char *prefix, *suffix; // BPE, owned: of pieces inside and at the end of a word; NULL: none
    size_t n_prefix, n_suffix;
    bt_normalize *normalize; // owned
    bt_pretok *pretok;       // owned
    bt_unigram *unigram;     // owned
    bt_wordpiece *wordpiece; // owned
};

enum { BT__AFFIX_BYTES_MAX = 64 };

/* A symbol of the word being merged, in the first of its places. Where it has more, the second and
 * the last one say how many, which leads to its neighbours. */
typedef struct bt__symbol {
    int32_t id;    // -1: not a token
    uint32_t pair; // the name of the merge with the next symbol; BT__NO_PAIR, or BT__INSIDE
} bt__symbol;

enum { BT__AHEAD = 8 }; // places of a sweep that are fetched before their turn
#define BT__NO_PAIR UINT32_MAX
#define BT__PAIR_TAKEN (UINT32_MAX - 1) // in the sweep
#define BT__INSIDE (UINT32_MAX - 2)     // not the first place of a symbol; id: its places

/* A merge that could be. It is stale where the symbol's pair has another name by now. */
typedef struct bt__pair {
    uint64_t key;  // rank << 32 | symbol: the smallest is merged first, ties leftmost
    int32_t id;    // what they become
    uint32_t name; // one for each pair of tokens: the rank of merges that have ranks, else the id
} bt__pair;

/* Merges in order of their keys. Of short words all are in a heap. A long word's heap would outgrow
 * the caches, so its merges are in buckets, one a rank; the lowest one is put in order of places
 * and swept from left to right, and only what comes up at a rank that is swept already is in the
 * heap. */
typedef struct bt__queue {
    bt__pair *heap_block; // owned
    bt__pair *heap;       // in it [2 * cap]: each merge takes one pair and adds at most two
    size_t cap, n_heap;
    struct bt__bucket {
        uint32_t last; // of its entries; UINT32_MAX: empty
        int32_t id;    // what its pairs become
    } * bucket;        // owned [n_ranks]
    uint64_t *filled;  // owned: a bit for each bucket, set where it has entries
    struct bt__entry {
        uint32_t symbol, before; // before: the entry before in the bucket; UINT32_MAX: none
    } * entry;                   // owned [3 * long_cap]
    uint32_t *sweep;             // owned [long_cap], filled from its end; as many to sort them
    size_t n_ranks, long_cap, n_entries, at; // at: the next place of the sweep
    int64_t rank;                            // of the sweep; INT64_MAX: the heap takes all
    bt__symbol *symbol;                      // owned [cap]
} bt__queue;

bool bt__queue_reserve(bt__queue *q, size_t n_symbols, size_t n_ranks);
size_t bt__queue_bytes(const bt__queue *q);
void bt__queue_release(bt__queue *q);
void bt__queue_begin(bt__queue *q, size_t n_symbols, bool ranked);
void bt__queue_add(bt__queue *q, bt__pair p); // before the first pop; order comes with start
void bt__queue_start(bt__queue *q);
void bt__queue_push(bt__queue *q, bt__pair p); // later
bool bt__queue_pop(bt__queue *q, bt__pair *p); // false: empty

typedef struct bt__merger {
    bt__queue queue;
    bt_stop *stop; // while it is in use
    uint32_t n;    // places: of raw words one a byte, of SPM's too, else one for each first symbol
} bt__merger;

/* The most symbols and ids that a word of n bytes may have. */
size_t bt__merge_room(const bt_tokenizer *t, size_t n);
bool bt__merger_reserve(bt__merger *m, const bt_tokenizer *t, size_t n);
void bt__merger_release(bt__merger *m);
/* Merges the word (n >= 1 bytes, reserved) to ids, which has room; returns how many. Where m->stop
 * says so it ends early, and what it made is worth nothing. */
size_t bt__merge(bt__merger *m, const bt_tokenizer *t, const char *word, size_t n, int32_t *ids);
