/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.h - a model's vocabulary: token -> bytes, kinds, special ids, end-of-sequence set.
 *
 * Needs no foreign library: the engine's own path (decoding) rests on this alone. Read-only after
 * load and shared by threads. Built from a GGUF's tokenizer.ggml.* keys; later from other files
 * too. */
#pragma once
#include "baton/status.h"
#include "file/gguf.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum bt_token_kind {
    BT_TOKEN_NORMAL = 1, // GGUF's numbers
    BT_TOKEN_UNKNOWN = 2,
    BT_TOKEN_CONTROL = 3,
    BT_TOKEN_USER = 4,
    BT_TOKEN_UNUSED = 5,
    BT_TOKEN_BYTE = 6,
} bt_token_kind;

typedef enum bt_vocab_kind { BT_VOCAB_SPM, BT_VOCAB_BPE } bt_vocab_kind;

/* How text is cut into words before BPE: what tokenizer.ggml.pre means. */
typedef enum bt_vocab_pretok {
    BT_VOCAB_PRETOK_NONE, // SPM: the whole text is one word
    BT_VOCAB_PRETOK_GPT2,
    BT_VOCAB_PRETOK_LLAMA3,
    BT_VOCAB_PRETOK_QWEN2,
} bt_vocab_pretok;

enum {
    BT_VOCAB_SIZE_MAX = 1 << 22,       // tokens
    BT_VOCAB_PIECE_BYTES_MAX = 1 << 14 // bytes a piece
};

typedef struct bt_vocab bt_vocab;

/* Refuses by name: unknown tokenizer models, unknown `pre`, inconsistent arrays, ids out of range.
 * A byte-level BPE file without `pre` is refused too: the wrong pre-tokenizer would cost quality
 * silently. Copies what it needs, so the file may be closed afterwards. */
bt_status bt_vocab_open(const bt_gguf *file, bt_vocab **out, bt_err *err);
void bt_vocab_close(bt_vocab *v);

bt_vocab_kind bt_vocab_kind_of(const bt_vocab *v);
int32_t bt_vocab_size(const bt_vocab *v);
/* What the token adds to the text: byte-level pieces mapped back to raw bytes, SPM's U+2581 to a
 * space, byte tokens to their byte, user-defined ones as spelled, control and unknown tokens to ""
 * (their name is bt_vocab_piece). NULL if id is out of range. */
const char *bt_vocab_bytes(const bt_vocab *v, int32_t id, size_t *n);
/* The piece as the file spells it (UTF-8). */
const char *bt_vocab_piece(const bt_vocab *v, int32_t id, size_t *n);
size_t bt_vocab_piece_max(const bt_vocab *v); // bytes of the longest piece
bt_token_kind bt_vocab_token_kind(const bt_vocab *v, int32_t id);
/* The lowest id of that kind spelled so (kind 0: any kind); -1 if none. O(tokens): for start-up. */
int32_t bt_vocab_find(const bt_vocab *v, const char *piece, int kind);
bool bt_vocab_is_eos(const bt_vocab *v, int32_t id);
const int32_t *bt_vocab_eos(const bt_vocab *v, int32_t *n); // the set, ascending
int32_t bt_vocab_eos_token(const bt_vocab *v); // the one that encoding appends; -1 if none
int32_t bt_vocab_bos(const bt_vocab *v);       // -1 if none
int32_t bt_vocab_unk(const bt_vocab *v);       // -1 if none
bool bt_vocab_add_bos(const bt_vocab *v);
bool bt_vocab_add_eos(const bt_vocab *v);
bt_vocab_pretok bt_vocab_pretok_of(const bt_vocab *v);
/* True if encoding puts one space before each piece of text and decoding drops one leading space of
 * the whole text (SPM with add_space_prefix). */
bool bt_vocab_strip_space(const bt_vocab *v);
const char *bt_vocab_chat_template(const bt_vocab *v); // source text or NULL
