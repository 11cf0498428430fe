/* SPDX-License-Identifier: Apache-2.0 */
/* encode_parts.h - what the files of the encoder share: its tables and the merge engine. Private to
 * src/text. */
#pragma once
#include "base/hash.h"
#include "text/encode.h"
#include "text/normalize.h"
#include "text/pretok.h"
#include "text/spec.h"
#include "text/unigram.h"
#include "text/wordpiece.h"

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
    int32_t unk;
    bool fuse_unk, byte_fallback;
    bool ignore_merges;    // a word that is a token is that token
    uint32_t *order;       // SPM, owned: [vocab] merge order of a token, 0 first (from the scores)
    bt_map merges;         // BPE: (left + 1) << 32 | right -> rank << 32 | merged id
    char *prefix, *suffix; // BPE, owned: of pieces inside and at the end of a word; NULL: none
    size_t n_prefix, n_suffix;
    bt_normalize *normalize; // owned
    bt_pretok *pretok;       // owned
    bt_unigram *unigram;     // owned
    bt_wordpiece *wordpiece; // owned
};

enum { BT__AFFIX_BYTES_MAX = 64 };

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
    bt__symbol *symbol;   // owned [cap]
    bt__pair *heap_block; // owned
    bt__pair *heap;       // in it [2 * cap]: each merge takes one pair and adds at most two
    size_t cap, n_heap;
    uint32_t first, last; // symbols of the list; UINT32_MAX: none
} bt__merger;

bool bt__merger_reserve(bt__merger *m, size_t n);
void bt__merger_release(bt__merger *m);
/* Merges the word (n >= 1 bytes, reserved) to ids, which has room for n; returns how many. O(n log
 * n). */
size_t bt__merge(bt__merger *m, const bt_tokenizer *t, const char *word, size_t n, int32_t *ids);
