/* SPDX-License-Identifier: Apache-2.0 */
/* vocab.h - a model's vocabulary: token -> bytes, kinds, special ids, end-of-sequence set.
 *
 * Needs no foreign library: the engine's own path (decoding) rests on this alone. Read-only after
 * it is made and shared by threads. */
#pragma once
#include "baton/status.h"
#include "file/gguf.h"
#include "vocab/decode_chain.h"
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

typedef enum bt_vocab_kind {
    BT_VOCAB_SPM, // pieces merged by score (SentencePiece's BPE)
    BT_VOCAB_BPE, // pieces merged by rank
    BT_VOCAB_UNIGRAM,
    BT_VOCAB_WORDPIECE,
    BT_VOCAB_WORDLEVEL,
} bt_vocab_kind;

enum {
    BT_VOCAB_SIZE_MAX = 1 << 22,        // tokens
    BT_VOCAB_PIECE_BYTES_MAX = 1 << 14, // bytes a piece
    BT_VOCAB_EOS_MAX = 16,
    BT_VOCAB_ENDS_MAX = 8 // tokens that encoding puts before or after a text
};

typedef struct bt_vocab bt_vocab;
typedef struct bt_spec bt_spec; // vocab/spec.h

/* Refuses by name: unknown tokenizer models, unknown `pre`, arrays too short. What can be left out
 * or guessed (ids out of range, a missing `pre`, types or scores) is, with a line in the log once
 * the tokenizer is opened. Copies what it needs, so the file may be closed afterwards. */
bt_status bt_vocab_open(const bt_gguf *file, bt_vocab **out, bt_err *err);
/* From any tokenizer's description. */
bt_status bt_vocab_build(const bt_spec *spec, bt_vocab **out, bt_err *err);
void bt_vocab_close(bt_vocab *v); // NULL is fine

bt_vocab_kind bt_vocab_kind_of(const bt_vocab *v);
int32_t bt_vocab_size(const bt_vocab *v);
/* What the token adds to the text: byte-level pieces mapped back to raw bytes, U+2581 to a space
 * where the decoder does so, byte tokens to their byte, user-defined ones as spelled, control and
 * unknown tokens to "" (their name is bt_vocab_piece). NULL if id is out of range. */
const char *bt_vocab_bytes(const bt_vocab *v, int32_t id, size_t *n);
/* The piece as the file spells it: UTF-8, but for a piece that is odd in a GGUF file. */
const char *bt_vocab_piece(const bt_vocab *v, int32_t id, size_t *n);
bt_token_kind bt_vocab_token_kind(const bt_vocab *v, int32_t id);
/* Control and unknown tokens: left out of an answer's text, never formed from plain text. */
bool bt_vocab_is_special(const bt_vocab *v, int32_t id);
/* The lowest id of that kind spelled so (kind 0: any kind); -1 if none. O(tokens): for start-up. */
int32_t bt_vocab_find(const bt_vocab *v, const char *piece, int kind);
bool bt_vocab_is_eos(const bt_vocab *v, int32_t id);
const int32_t *bt_vocab_eos(const bt_vocab *v, int32_t *n); // the set, ascending
int32_t bt_vocab_eos_token(const bt_vocab *v); // the one that encoding appends; -1 if none
int32_t bt_vocab_bos(const bt_vocab *v);       // -1 if none
int32_t bt_vocab_unk(const bt_vocab *v);       // -1 if none
/* What encoding with special tokens puts before and after a text; n may be 0. */
const int32_t *bt_vocab_prefix(const bt_vocab *v, size_t *n);
const int32_t *bt_vocab_suffix(const bt_vocab *v, size_t *n);

/* The steps of the tokenizer's decoder. */
const bt_decode_chain *bt_vocab_chain(const bt_vocab *v);

/* Chat templates that came with the tokenizer; the first of them is the default one if any is. */
size_t bt_vocab_n_templates(const bt_vocab *v);
const char *bt_vocab_template_at(const bt_vocab *v, size_t i, const char **name);
/* Special tokens as the variables of templates: "bos_token", ..., and "additional_special_tokens"
 * once for each. NULL past the end. */
const char *bt_vocab_named_at(const bt_vocab *v, size_t i, const char **name);
