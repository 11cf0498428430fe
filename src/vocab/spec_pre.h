/* SPDX-License-Identifier: Apache-2.0 */
/* spec_pre.h - the published pre-tokenizers under the names that GGUF files give them, and the
 * patterns of well-known vocabularies. Private to src/vocab. */
#pragma once
#include "vocab/spec.h"

/* Patterns in the syntax of tokenizer.json (Oniguruma's). */
extern const char bt__pattern_gpt2[], bt__pattern_cl100k[], bt__pattern_llama3[];
extern const char bt__pattern_qwen2[], bt__pattern_o200k[], bt__pattern_tekken[];
extern const char bt__pattern_kimi[];

/* What a name stands for beside the steps. */
typedef struct bt__pre {
    bool ignore_merges;
    bool add_bos;    // where the file does not say
    bool characters; // no bytes in other spelling: BPE over characters, U+2581 for spaces
    bool sentence;   // <cls> text <sep>, as RoBERTa
} bt__pre;

/* Appends the steps of that name, ByteLevel included; false if nobody knows the name. *full: false
 * if a step did not fit. */
bool bt__pre_find(bt_str name, bt_spec *s, bt__pre *out, bool *full);
