/* SPDX-License-Identifier: Apache-2.0 */
/* unicode_ranges.h - the character properties that the Rust `tokenizers` library (0.22) goes by.
 *
 * It rests on several crates, each with a Unicode version of its own; these tables were taken from
 * its behaviour over all code points, so that the same text gives the same tokens. Private to
 * src/token. Pure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* char::to_lowercase (Unicode 17): one character, or the two of U+0130; returns how many. */
size_t bt__lowercase(uint32_t cp, uint32_t dst[2]);
/* What StripAccents drops (Mn, Mc, Me of Unicode 9). */
bool bt__is_combining_mark(uint32_t cp);
/* What BertNormalizer drops: non-spacing marks (of Unicode 8), and control characters (with the
 * formats and private ones of the same). */
bool bt__is_bert_mark(uint32_t cp);
bool bt__is_bert_control(uint32_t cp);
/* Marks younger than the library's normalization (Unicode 9), where their class is 0. */
bool bt__is_young_mark(uint32_t cp);

/* Classes of extended grapheme clusters (UAX 29, Unicode 16), one for each rule that can matter to
 * a cluster of at most five bytes: regional indicators, of four bytes each, cannot. */
typedef enum bt__cluster {
    BT__CLUSTER_OTHER,
    BT__CLUSTER_CONTROL, // CR and LF too: callers tell them by their value
    BT__CLUSTER_EXTEND,
    BT__CLUSTER_JOINER, // U+200D
    BT__CLUSTER_SPACING,
    BT__CLUSTER_PREPEND,
    BT__CLUSTER_PICTURE,   // Extended_Pictographic
    BT__CLUSTER_CONSONANT, // Indic_Conjunct_Break=Consonant
    BT__CLUSTER_LINKER,    // Indic_Conjunct_Break=Linker: extends
    BT__CLUSTER_L,         // Hangul
    BT__CLUSTER_V,
    BT__CLUSTER_T,
    BT__CLUSTER_LV,
    BT__CLUSTER_LVT,
} bt__cluster;
bt__cluster bt__cluster_of(uint32_t cp);
