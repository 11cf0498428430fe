/* SPDX-License-Identifier: Apache-2.0 */
/* regex_table.h - what Oniguruma's properties hold beyond PCRE2's of the same name, whose Unicode
 * is older. Private to src/token. */
#pragma once
#include <stddef.h>

typedef struct bt__regex_extra {
    const char *property; // "Lu", "sc:Han"; "w": \w
    const char *items;    // for a class of PCRE2
} bt__regex_extra;

extern const bt__regex_extra bt__regex_extras[];
extern const size_t bt__regex_extras_len;
