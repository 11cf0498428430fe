/* SPDX-License-Identifier: Apache-2.0 */
/* tensor.c - names from files: which are sound, and how a sentence shows them. */
#include "file/tensor.h"
#include "base/assert.h"
#include <string.h>

bool bt_str_equals(bt_str s, const char *text)
{
    return strlen(text) == s.n && memcmp(s.s, text, s.n) == 0;
}

bt_shown bt_str_shown(bt_str s)
{
    bt_shown out = {{0}};
    size_t n = BT_MIN(s.n, sizeof out.s - 4);
    for (size_t i = 0; i < n; i++) out.s[i] = s.s[i] >= ' ' && s.s[i] < 0x7f ? s.s[i] : '?';
    if (n < s.n) memcpy(out.s + n, "...", 4);
    return out;
}

bool bt_name_is_clean(bt_str s, size_t max)
{
    if (s.n == 0 || s.n > max) return false;
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.s[i] < 0x20 || s.s[i] == 0x7f) return false;
    return true;
}
