/* SPDX-License-Identifier: Apache-2.0 */
#include "token/unicode/char_class.h"

static bool in_ranges(const bt__char_range *range, size_t n, uint32_t cp)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (range[middle].last < cp)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && range[low].first <= cp;
}

bool bt__char_is_number(uint32_t cp)
{
    if (cp < 0x80) return cp >= '0' && cp <= '9';
    return in_ranges(bt__char_number, bt__char_number_len, cp);
}

bool bt__char_is_punct(uint32_t cp)
{
    return in_ranges(bt__char_punct, bt__char_punct_len, cp);
}

bool bt__char_is_space(uint32_t cp)
{
    if (cp < 0x80) return cp == ' ' || (cp >= 9 && cp <= 13);
    return in_ranges(bt__char_space, bt__char_space_len, cp);
}

bool bt__char_is_word(uint32_t cp)
{
    if (cp < 0x80)
        return (cp >= '0' && cp <= '9') || (cp >= 'A' && cp <= 'Z') || (cp >= 'a' && cp <= 'z') ||
               cp == '_';
    return in_ranges(bt__char_word, bt__char_word_len, cp);
}

uint32_t bt__char_script_of(uint32_t cp)
{
    size_t low = 0, high = bt__char_scripts_len;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (bt__char_scripts[middle].last < cp)
            low = middle + 1;
        else
            high = middle;
    }
    bool inside = low < bt__char_scripts_len && bt__char_scripts[low].first <= cp;
    return inside ? bt__char_scripts[low].script : 0;
}
