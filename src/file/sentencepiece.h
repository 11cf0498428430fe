/* SPDX-License-Identifier: Apache-2.0 */
/* sentencepiece.h - SentencePiece model files (tokenizer.model, spiece.model): read and checked.
 *
 * The file is one protobuf message, sentencepiece.ModelProto, read here by hand: pieces, the
 * trainer's settings and the normalizer's. Unknown fields are skipped, as protobuf wants. After
 * open every piece, score and id has been checked. Strings point into memory that the model owns.
 * Thread: any, read-only. */
#pragma once
#include "baton/status.h"
#include "file/gguf.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum bt_spm_type { // ModelProto.SentencePiece.Type
    BT_SPM_NORMAL = 1,
    BT_SPM_UNKNOWN = 2,
    BT_SPM_CONTROL = 3,
    BT_SPM_USER_DEFINED = 4,
    BT_SPM_UNUSED = 5,
    BT_SPM_BYTE = 6,
} bt_spm_type;

typedef enum bt_spm_model { // TrainerSpec.ModelType
    BT_SPM_MODEL_UNIGRAM = 1,
    BT_SPM_MODEL_BPE = 2,
    BT_SPM_MODEL_WORD = 3,
    BT_SPM_MODEL_CHAR = 4,
} bt_spm_model;

typedef struct bt_spm_piece {
    bt_str piece; // UTF-8, 1 to BT_SPM_PIECE_BYTES_MAX bytes, unique
    float score;  // finite
    bt_spm_type type;
} bt_spm_piece;

typedef struct bt_spm {
    const bt_spm_piece *piece; // [n_pieces]; the index is the id
    size_t n_pieces;
    /* trainer_spec */
    bt_spm_model model;
    int32_t unk, bos, eos, pad; // unk: the piece of that type; the others -1 if there is none
    bool byte_fallback;         // all 256 byte pieces are there then
    bool treat_whitespace_as_suffix;
    /* normalizer_spec */
    bt_str normalizer_name; // "nmt_nfkc", "identity", ...
    bt_str charsmap;        // precompiled; n == 0: none
    bool add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces;
    /* denormalizer_spec */
    bt_str denormalizer_charsmap;
    int32_t byte_id[256]; // of the byte pieces; -1 where there is none
} bt_spm;

enum {
    BT_SPM_BYTES_MAX = 256 << 20, // bytes a file
    BT_SPM_PIECES_MAX = 1 << 22,
    BT_SPM_PIECE_BYTES_MAX = 1 << 14,
};

/* BT_ENOTFOUND: no such file; BT_EFORMAT: not a sound model, with a sentence that names the field
 * or piece; a Git LFS pointer and other formats are told by name. */
bt_status bt_spm_open(const char *path, bt_spm **out, bt_err *err);
/* The same over memory, which is copied; name is for sentences. */
bt_status bt_spm_open_memory(const void *data, size_t bytes, const char *name, bt_spm **out,
                             bt_err *err);
void bt_spm_close(bt_spm *m); // NULL is fine
