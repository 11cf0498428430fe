/* SPDX-License-Identifier: Apache-2.0 */
/* spec.h - what a tokenizer's file says, as data: one neutral description that every reader fills
 * and that vocabulary and tokenizer are compiled from.
 *
 * Needs no foreign library. Readers append and check; nothing here knows a file format. Strings
 * are copied into the description. Thread: the owner's. Private to src/vocab, but for who opens
 * files. */
#pragma once
#include "base/buf.h"
#include "base/mem.h"
#include "vocab/decode_chain.h"
#include "vocab/vocab.h"

/* ---- Steps of the pipelines. */

typedef enum bt_normal_kind {
    BT_NORMAL_NFC,
    BT_NORMAL_NFD,
    BT_NORMAL_NFKC,
    BT_NORMAL_NFKD,
    BT_NORMAL_BERT,          // the four flags below
    BT_NORMAL_STRIP,         // left, right
    BT_NORMAL_STRIP_ACCENTS, //
    BT_NORMAL_LOWERCASE,
    BT_NORMAL_NMT,
    BT_NORMAL_CHARSMAP,   // pattern: the blob; longest: SentencePiece's own rule
    BT_NORMAL_REPLACE,    // pattern, regex, content
    BT_NORMAL_PREPEND,    // content, unless the text is empty
    BT_NORMAL_BYTE_LEVEL, // bytes spelled as printable characters
} bt_normal_kind;

typedef enum bt_accents { BT_ACCENTS_AS_CASE, BT_ACCENTS_KEEP, BT_ACCENTS_STRIP } bt_accents;

typedef struct bt_normal_step {
    bt_normal_kind kind;
    bt_str pattern, content;
    bool regex; // else a literal
    bool left, right, longest;
    bool clean_text, chinese, lowercase;
    bt_accents accents;
} bt_normal_step;

typedef enum bt_split_behavior {
    BT_SPLIT_REMOVED,
    BT_SPLIT_ISOLATED,
    BT_SPLIT_MERGED_WITH_PREVIOUS,
    BT_SPLIT_MERGED_WITH_NEXT,
    BT_SPLIT_CONTIGUOUS,
} bt_split_behavior;

typedef enum bt_split_kind {
    BT_SPLIT_PATTERN,     // pattern, regex, behavior, invert
    BT_SPLIT_BYTE_LEVEL,  // add_space, use_regex; then bytes spelled as printable characters
    BT_SPLIT_METASPACE,   // pattern: the replacement; scheme, split
    BT_SPLIT_WHITESPACE,  // white space removed
    BT_SPLIT_WORDS,       // "Whitespace": words, and runs of what is neither word nor white space
    BT_SPLIT_BERT,        // white space removed, punctuation alone
    BT_SPLIT_PUNCTUATION, // behavior
    BT_SPLIT_DIGITS,      // behavior: isolated or contiguous
    BT_SPLIT_CHAR,        // pattern: one character, removed
    BT_SPLIT_SCRIPTS,     // where the script changes
    BT_SPLIT_LENGTH,      // length characters each
} bt_split_kind;

typedef enum bt_prepend { BT_PREPEND_ALWAYS, BT_PREPEND_FIRST, BT_PREPEND_NEVER } bt_prepend;

typedef struct bt_split_step {
    bt_split_kind kind;
    bt_split_behavior behavior;
    bt_str pattern;
    bool regex, invert, add_space, use_regex, split;
    bt_prepend scheme;
    uint32_t length;
} bt_split_step;

/* A token that is cut out of the text before the model sees it. */
typedef struct bt_added {
    int32_t id;
    bt_str content;
    bool special;    // a control token
    bool normalized; // found in the normalized text, in its own normalized form
    bool lstrip, rstrip, single_word;
} bt_added;

typedef struct bt_spec_merge {
    int32_t left, right, both;
} bt_spec_merge;

typedef struct bt_spec_piece {
    uint32_t at, n; // in `text`
    double score;
    uint8_t kind;  // bt_token_kind; 0: no token has this id
    bool in_model; // what the model's own vocabulary lists
} bt_spec_piece;

enum {
    BT_SPEC_STEPS_MAX = 64,
    BT_SPEC_ADDED_MAX = 1 << 16,
    BT_SPEC_MERGES_MAX = 1 << 23,
    BT_SPEC_TEMPLATES_MAX = 16,
    BT_SPEC_TEMPLATE_BYTES_MAX = 1 << 20,
    BT_SPEC_NAMED_MAX = 512, // tokens that templates know by name
    BT_SPEC_STRING_BYTES_MAX = 1 << 16 // patterns and contents
};

struct bt_spec {
    char label[112]; // the file's name as sentences show it

    bt_vocab_kind kind;
    bt_spec_piece *piece; // owned [n_pieces]; the index is the id
    size_t n_pieces, cap_pieces;
    bt_buf text;          // owned: all pieces, back to back
    bt_spec_merge *merge; // owned [n_merges], first merged first
    size_t n_merges, cap_merges;

    /* The model's flags. */
    int32_t unk; // -1: none
    bool fuse_unk, byte_fallback, ignore_merges;
    bool sentencepiece; // Unigram: by the library's own rules
    bt_str subword_prefix, word_suffix;
    size_t max_chars; // WordPiece

    bt_normal_step normal[BT_SPEC_STEPS_MAX];
    bt_split_step split[BT_SPEC_STEPS_MAX];
    bt_chain_step chain[BT_CHAIN_STEPS_MAX];
    size_t n_normal, n_split, n_chain;
    bt_added *added; // owned
    size_t n_added, cap_added;

    int32_t bos, eos_token; // -1: none
    int32_t eos[BT_VOCAB_EOS_MAX];
    int32_t n_eos;
    int32_t prefix[BT_VOCAB_ENDS_MAX], suffix[BT_VOCAB_ENDS_MAX];
    size_t n_prefix, n_suffix;

    bt_str template_name[BT_SPEC_TEMPLATES_MAX], template_text[BT_SPEC_TEMPLATES_MAX];
    size_t n_templates;
    /* Special tokens as templates' variables; several additional_special_tokens are a list. */
    bt_str named_name[BT_SPEC_NAMED_MAX], named_text[BT_SPEC_NAMED_MAX];
    size_t n_named;

    /* Private: spelling -> id, and where strings live. */
    struct bt_spec_slot {
        uint64_t key; // up to 8 bytes: they themselves; else a part of the hash << 32 | place
        uint32_t n;
        int32_t id; // -1: free
    } * slot;
    size_t mask;
    bt_arena arena;
};

void bt_spec_init(bt_spec *s, const char *label);
void bt_spec_release(bt_spec *s);

/* All of these return false when out of memory or past a bound; bt_spec_failed makes the sentence.
 */
bool bt_spec_reserve(bt_spec *s, size_t n_pieces); // ids below n_pieces, kind 0 where new
bool bt_spec_set_piece(bt_spec *s, int32_t id, const char *text, size_t n, double score,
                       bt_token_kind kind, bool in_model);
bool bt_spec_add_merge(bt_spec *s, int32_t left, int32_t right, int32_t both);
bool bt_spec_add_token(bt_spec *s, const bt_added *token); // its content is copied
bool bt_spec_string(bt_spec *s, const char *text, size_t n, bt_str *out);
bt_normal_step *bt_spec_add_normal(bt_spec *s, bt_normal_kind kind); // NULL past the bound
bt_split_step *bt_spec_add_split(bt_spec *s, bt_split_kind kind);
bt_chain_step *bt_spec_add_chain(bt_spec *s, bt_chain_kind kind);
bool bt_spec_add_template(bt_spec *s, bt_str name, bt_str text);
/* A variable of templates; one of that name is replaced, but for additional_special_tokens. An empty
 * text is none. */
bool bt_spec_add_named(bt_spec *s, const char *name, bt_str text);
/* The token with this id under that name, unless there is one already; id -1: nothing. */
bool bt_spec_name_id(bt_spec *s, const char *name, int32_t id);
void bt_spec_add_eos(bt_spec *s, int32_t id); // into the ascending set; -1 and repeats are nothing

bt_str bt_spec_text(const bt_spec *s, int32_t id); // a piece's spelling
/* Spelling -> id. Call index after the pieces are set (again after more came); of equal spellings
 * the model's own counts, then the lowest id. */
bool bt_spec_index(bt_spec *s);
bool bt_spec_index_from(bt_spec *s, size_t first); // pieces from this id on came since
int32_t bt_spec_find(const bt_spec *s, const char *text, size_t n); // -1: none
/* The byte that "<0xHH>" names; -1 if it is not of that form. */
int bt_spec_byte_of(bt_str piece);
bool bt_str_is(bt_str s, const char *literal);

/* BT_EFORMAT or another code with "label: sentence". */
bt_status bt_spec_refuse(const bt_spec *s, bt_err *err, bt_status code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
bt_status bt_spec_no_memory(const bt_spec *s, bt_err *err);

/* A role is known of it: where it is spelled "<...>" or "[...]" it becomes a control token,
 * whatever kind the file gives it. id -1: nothing. */
void bt_spec_mark(bt_spec *s, int32_t id);
/* What ends or begins a turn by its name becomes a control token, whatever kind the file gives it;
 * what ends one goes into the eos set. */
void bt_spec_mark_by_name(bt_spec *s);

/* ---- Readers. Each fills an initialised description. */

/* tokenizer.ggml.*; vocabulary_only leaves out merges and pipelines (for decoding alone). */
bt_status bt_spec_read_gguf(bt_spec *s, const bt_gguf *file, bool vocabulary_only, bt_err *err);
/* tokenizer.json's text. */
bt_status bt_spec_read_json(bt_spec *s, const char *text, size_t n, bt_err *err);
/* The files beside it: special tokens, eos set, templates. Call after the above, any or none. */
typedef enum bt_spec_beside {
    BT_BESIDE_TOKENIZER_CONFIG,
    BT_BESIDE_SPECIAL_TOKENS_MAP,
    BT_BESIDE_GENERATION_CONFIG,
    BT_BESIDE_CONFIG,
    BT_BESIDE_TEMPLATE_JINJA, // the template's source itself
    BT_BESIDE_TEMPLATE_JSON,  // {"chat_template": ...}
    BT_BESIDE_COUNT
} bt_spec_beside;
typedef struct bt_spec_files {
    bt_str text[BT_BESIDE_COUNT]; // s NULL: there is no such file
    struct {                      // additional_chat_templates/NAME.jinja
        char name[64];
        bt_str text;
    } extra[BT_SPEC_TEMPLATES_MAX];
    size_t n_extra;
} bt_spec_files;
bt_status bt_spec_read_beside(bt_spec *s, const bt_spec_files *files, bt_err *err);
/* SentencePiece and tiktoken files. */
bt_status bt_spec_read_sentencepiece(bt_spec *s, const char *path, bt_err *err);
/* pattern NULL: known by the number of ranks, else refused. */
bt_status bt_spec_read_tiktoken(bt_spec *s, const char *path, const char *pattern, bt_err *err);
