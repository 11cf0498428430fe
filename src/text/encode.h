/* SPDX-License-Identifier: Apache-2.0 */
/* encode.h - text -> tokens. Uses PCRE2 and utf8proc; not part of the engine-only build.
 *
 * A tokenizer is read-only after open and shared by threads; each thread that encodes has an encoder of its own
 * (match data, heap, word cache): a warm encoder does not allocate. O(n log n) for any input. */
#pragma once
#include "text/vocab.h"

typedef struct bt_tokenizer bt_tokenizer;
typedef struct bt_encoder bt_encoder;

bt_status bt_tokenizer_open(const bt_gguf *file, const bt_vocab *vocab, bt_tokenizer **out, bt_err *err);
void bt_tokenizer_close(bt_tokenizer *t);
bt_status bt_encoder_open(const bt_tokenizer *t, bt_encoder **out, bt_err *err);
void bt_encoder_close(bt_encoder *e);

typedef struct bt_encode_options {
    bool add_special;   // BOS / EOS as the model wants them
    bool parse_special; // control tokens spelled in the text become those tokens; false: plain text
} bt_encode_options;

/* text: n bytes; invalid UTF-8 is refused (BT_EINVAL, with the offset). The ids live in the encoder until the next
 * call. n_max bounds the count (BT_ECONTEXT beyond it; 0 = no bound). */
bt_status bt_encode(bt_encoder *e, const char *text, size_t n, const bt_encode_options *opt, size_t n_max,
                    const int32_t **ids, size_t *n_ids, bt_err *err);
