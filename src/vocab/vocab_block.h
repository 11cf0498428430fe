/* SPDX-License-Identifier: Apache-2.0 */
/* vocab_block.h - the layout of a vocabulary's block, for who builds and who reads it. Private to
 * src/vocab. */
#pragma once
#include "vocab/vocab.h"

typedef struct bt__vocab_string {
    uint32_t at, n; // in the strings; a NUL follows
} bt__vocab_string;

typedef struct bt__vocab_step {
    uint32_t kind, start, stop, flag;
    bt__vocab_string pattern, content;
} bt__vocab_step;

typedef struct bt__vocab_template {
    bt__vocab_string name, text;
} bt__vocab_template;

typedef struct bt__vocab_head {
    uint64_t bytes;
    uint32_t kind;
    int32_t n;
    uint32_t piece_max; // bytes of the longest piece or token
    int32_t bos, unk, eos_token;
    uint32_t n_eos, n_prefix, n_suffix;
    int32_t eos[BT_VOCAB_EOS_MAX];
    int32_t prefix[BT_VOCAB_ENDS_MAX], suffix[BT_VOCAB_ENDS_MAX];
    uint32_t n_steps, n_templates, n_named;
    uint64_t n_piece, n_text, n_string; // bytes of the three arenas
    /* Sections: bytes from the head. */
    uint64_t piece_off, bytes_off, piece, text, token_kind, step, template, string;
    /* template: the templates, then the tokens that they know by name. */
} bt__vocab_head;

struct bt_vocab {
    bt__vocab_head *head; // owned: the block
    const uint32_t *piece_off, *bytes_off;
    const char *piece, *text, *string;
    const uint8_t *token_kind;
    const bt__vocab_step *step;
    const bt__vocab_template *template;
    bt_decode_chain *chain; // owned
};

/* *block: bt_free. */
bt_status bt__vocab_block_build(const bt_spec *spec, bt__vocab_head **block, bt_err *err);
