/* SPDX-License-Identifier: Apache-2.0 */
/* unigram.h - the Unigram model: the cut of a text whose pieces have the largest sum of scores.
 *
 * Viterbi over the text's characters (Kudo 2018), in double precision; of equal sums the one found
 * first stays (earlier starts first). A character that is no piece costs the smallest score less
 * 10 and is unknown; neighbouring unknown ones are one token. O(n * longest piece). Read-only
 * after open and shared by threads; scratch belongs to one thread. Private to src/token. */
#pragma once
#include "base/stop.h"
#include "baton/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bt_unigram bt_unigram;

/* The id of a piece is its index. */
typedef struct bt_unigram_piece {
    const char *s; // UTF-8; borrowed until open returns; NULL: the model does not have this id
    uint32_t n;
    double score;
    bool absent; // takes no part in plain text: SentencePiece's control, byte and unknown pieces
    bool user;   // SentencePiece's user-defined symbol: with `sentencepiece` below, always chosen
} bt_unigram_piece;

typedef struct bt_unigram_options {
    int32_t unk;        // -1: none
    bool byte_fallback; // unknown bytes become <0x00> .. <0xFF> where all of them are pieces
    /* False: as the Rust `tokenizers` library does it. True: as the SentencePiece library does:
     * sums kept in single precision, min and max over normal pieces only, user-defined symbols
     * always win. */
    bool sentencepiece;
} bt_unigram_options;

/* Refuses: no pieces, scores that are not finite, an unk out of range. Of equal pieces
 * the last one counts. Copies what it needs. */
bt_status bt_unigram_open(const bt_unigram_piece *piece, size_t n, const bt_unigram_options *opt,
                          bt_unigram **out, bt_err *err);
void bt_unigram_close(bt_unigram *u); // NULL is fine

/* Zero-initialise; grows to the longest text (16 bytes a byte) and is kept until released. */
typedef struct bt_unigram_scratch {
    struct bt__unigram_node *node; // owned
    size_t cap;
    bt_stop *stop; // borrowed; NULL: nothing ends it early
} bt_unigram_scratch;
void bt_unigram_scratch_release(bt_unigram_scratch *x);

/* s: n bytes of valid UTF-8, normalized. ids has room for n. BT_EINVAL: an unknown character, and
 * the model has no unknown token. BT_ENOMEM: scratch. What x->stop names, where it says so. */
bt_status bt_unigram_encode(const bt_unigram *u, bt_unigram_scratch *x, const char *s, size_t n,
                            int32_t *ids, size_t *n_ids, bt_err *err);
