/* SPDX-License-Identifier: Apache-2.0 */
/* char_class.h - what the Rust `tokenizers` library takes a code point for.
 *
 * Its rules rest on the Unicode versions of several crates, so the tables were asked from the
 * library itself (scripts/make_char_classes.py). Pure. Private to src/token. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bt__char_range {
    uint32_t first, last;
} bt__char_range;
typedef struct bt__char_script {
    uint32_t first, last, script;
} bt__char_script;

extern const bt__char_range bt__char_number[], bt__char_punct[], bt__char_space[], bt__char_word[];
extern const bt__char_script bt__char_scripts[];
extern const size_t bt__char_number_len, bt__char_punct_len, bt__char_space_len, bt__char_word_len,
    bt__char_scripts_len;

bool bt__char_is_number(uint32_t cp); // Digits
bool bt__char_is_punct(uint32_t cp);  // Punctuation, BertPreTokenizer
bool bt__char_is_space(uint32_t cp);  // white space everywhere
bool bt__char_is_word(uint32_t cp);   // \w of Whitespace and of single_word
/* UnicodeScripts: 0 where it never cuts. */
uint32_t bt__char_script_of(uint32_t cp);
