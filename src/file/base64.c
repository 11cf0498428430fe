/* SPDX-License-Identifier: Apache-2.0 */
#include "file/base64.h"
#include <stdint.h>

/* The six bits that a character stands for; -1 if none. */
static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool bt_base64_decode(const char *src, size_t n, bool padded, void *dst, size_t *n_out)
{
    uint8_t *out = dst;
    size_t len = 0;
    if (padded && n % 4) return false;
    for (int k = 0; padded && k < 2 && n > 0 && src[n - 1] == '='; k++) n--;
    if (n % 4 == 1) return false;
    for (size_t i = 0; i < n; i += 4) {
        uint32_t word = 0;
        size_t left = n - i < 4 ? n - i : 4;
        for (size_t k = 0; k < left; k++) {
            int six = sextet(src[i + k]);
            if (six < 0) return false;
            word |= (uint32_t)six << (18 - 6 * k);
        }
        if (left < 4 && (word & (left == 2 ? 0xFFFFu : 0xFFu))) return false;
        for (size_t k = 0; k + 1 < left; k++) out[len++] = (uint8_t)(word >> (16 - 8 * k));
    }
    *n_out = len;
    return true;
}
