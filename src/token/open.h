/* SPDX-License-Identifier: Apache-2.0 */
/* open.h - a model's tokenizer from whatever its path is. Not part of the engine-only build.
 *
 *   GGUF file                   tokenizer.ggml.*
 *   tokenizer.json              with the files beside it
 *   *.model                     SentencePiece, or tiktoken ranks as Llama 3 has them
 *   *.tiktoken                  tiktoken ranks
 *   folder, or a file of        its tokenizer.json, else its *.gguf, *.model or *.tiktoken
 *   weights or config in one
 *
 * Beside tokenizer.json and *.model files, tokenizer_config.json, special_tokens_map.json,
 * generation_config.json, config.json, chat_template.json, chat_template.jinja and
 * additional_chat_templates/NAME.jinja are read where they are there; templates in files of their
 * own stand for all others. Chat templates are the vocabulary's (bt_vocab_template_at). */
#pragma once
#include "token/encode.h"

typedef struct bt_text_options {
    const char *tiktoken_pattern; // for ranks that no published vocabulary has; NULL: refuse those
} bt_text_options;

/* opt may be NULL. tokenizer NULL: only the vocabulary is wanted. Both are the caller's to close,
 * the tokenizer first. BT_ENOTFOUND: nothing there; else what the readers say. */
bt_status bt_text_open(const char *path, const bt_text_options *opt, bt_vocab **vocab,
                       bt_tokenizer **tokenizer, bt_err *err);
/* The same from a GGUF file that is open already. */
bt_status bt_text_open_gguf(const bt_gguf *file, bt_vocab **vocab, bt_tokenizer **tokenizer,
                            bt_err *err);
/* From the text of a tokenizer.json and of the files beside it (NULL: none); name is for
 * sentences. */
struct bt_spec_files;
bt_status bt_text_open_json(const char *text, size_t n, const struct bt_spec_files *beside,
                            const char *name, bt_vocab **vocab, bt_tokenizer **tokenizer,
                            bt_err *err);
