/* SPDX-License-Identifier: Apache-2.0 */
/* encode.h - text -> tokens. Uses PCRE2 and utf8proc; not part of the engine-only build.
 *
 * A tokenizer is read-only after open and shared by threads; each thread that encodes has an
 * encoder of its own (match data, heap, word cache, about 1 MB): a warm encoder does not allocate
 * for texts up to 1 MiB; what larger ones take is given back. O(n log n) for any text, times the
 * longest added token where one begins everywhere. Ids are those of the Rust `tokenizers` library
 * (with special tokens parsed), which is what models were trained with: added tokens are cut out
 * first, each piece between them is normalized, cut into words and encoded by itself. Control
 * tokens are never formed from plain text. */
#pragma once
#include "base/stop.h"
#include "vocab/vocab.h"

typedef struct bt_tokenizer bt_tokenizer;
typedef struct bt_encoder bt_encoder;

enum { BT_ENCODE_BYTES_MAX = 32 << 20 }; // bytes a text

/* vocab must have been opened from the same file and outlive the tokenizer; the file may be closed.
 * Refuses by name merges and scores that do not fit the vocabulary. */
bt_status bt_tokenizer_open(const bt_gguf *file, const bt_vocab *vocab, bt_tokenizer **out,
                            bt_err *err);
/* From any tokenizer's description, from which vocab was built too. */
bt_status bt_tokenizer_build(const bt_spec *spec, const bt_vocab *vocab, bt_tokenizer **out,
                             bt_err *err);
void bt_tokenizer_close(bt_tokenizer *t);
/* The most bytes of text that one token may stand for, so that a longer text has more tokens; 0:
 * there is no such bound, because some text is dropped, or is one unknown token however long. */
size_t bt_tokenizer_token_bytes(const bt_tokenizer *t);
bt_status bt_encoder_open(const bt_tokenizer *t, bt_encoder **out, bt_err *err);
void bt_encoder_close(bt_encoder *e);

/* A part of the text: bytes [start, end). */
typedef struct bt_encode_range {
    size_t start, end;
} bt_encode_range;

typedef struct bt_encode_options {
    bool add_special;   // BOS, EOS, [CLS] and the like as the model wants them
    bool parse_special; // control tokens spelled in the text become those tokens; false: plain text
    /* With parse_special: parts, ascending and apart, that a user wrote. A control token is
     * recognised only where it lies wholly outside of them. */
    const bt_encode_range *user;
    size_t n_user;
    bt_stop *stop; // ends it early with the status it names; NULL: nothing does
} bt_encode_options;

/* text: n bytes, NULs included; invalid UTF-8 is refused (BT_EINVAL, with the offset). The ids live
 * in the encoder until the next call (n_ids may be 0, ids NULL then). n_max bounds the count
 * (BT_ECONTEXT as soon as it is clear that there are more; 0 = no bound). BT_ETOOBIG past
 * BT_ENCODE_BYTES_MAX. */
bt_status bt_encode(bt_encoder *e, const char *text, size_t n, const bt_encode_options *opt,
                    size_t n_max, const int32_t **ids, size_t *n_ids, bt_err *err);
