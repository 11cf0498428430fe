/* SPDX-License-Identifier: Apache-2.0 */
/* wordpiece.h - WordPiece (greedy, longest piece first) and WordLevel (the word or nothing).
 *
 * Read-only after open and shared by threads; encoding needs no scratch and never allocates.
 * Private to src/token. */
#pragma once
#include "baton/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bt_wordpiece bt_wordpiece;

typedef struct bt_wordpiece_piece {
    const char *s; // UTF-8; borrowed until open returns
    uint32_t n;
    int32_t id; // >= 0
} bt_wordpiece_piece;

typedef struct bt_wordpiece_options {
    const char *prefix; // of pieces that continue a word ("##"); n_prefix may be 0
    size_t n_prefix;
    size_t max_chars; // code points; a longer word is unknown (100 in BERT)
    int32_t unk;      // id of the unknown token; -1: none
    bool whole;       // WordLevel: prefix and max_chars are not used
} bt_wordpiece_options;

/* Refuses pieces past the bounds of trie.h. Of equal pieces the last one counts. */
bt_status bt_wordpiece_open(const bt_wordpiece_piece *piece, size_t n,
                            const bt_wordpiece_options *opt, bt_wordpiece **out, bt_err *err);
void bt_wordpiece_close(bt_wordpiece *w); // NULL is fine

/* One word (n bytes of valid UTF-8, what the pre-tokenizer cut) to ids, which has room for
 * max(n, 1). A word of which any part is no piece is one unknown token; an empty one gives nothing.
 * BT_EINVAL: unknown, and the model has no unknown token. */
bt_status bt_wordpiece_encode(const bt_wordpiece *w, const char *word, size_t n, int32_t *ids,
                              size_t *n_ids, bt_err *err);
