/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_regex.c - any bytes as a pattern in Oniguruma's syntax: refused, or PCRE2 takes its
 * rewriting and finds matches that lie in the text, in order. Patterns that nest quantifiers are
 * only compiled: backtracking has no bound. */
#include "base/assert.h"
#include "token/regex.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "Hi 12 \xE4\xBD\xA0\n'S  a\xC3\xA9.";
    bt__regex *r = NULL;
    bt__regex_match *m = NULL;
    bt_err err = {0};
    size_t n_quantifiers = 0;
    if (size > 256) return 0;
    for (size_t i = 0; i < size; i++) n_quantifiers += memchr("*+?{", data[i], 4) != NULL;
    if (bt__regex_open((bt_str){(const char *)data, size}, true, &r, &err)) {
        BT_ASSERT(err.msg[0]);
        return 0;
    }
    if (n_quantifiers < 6 && bt__regex_match_open(r, &m, NULL) == BT_OK) {
        bt__regex_walk walk = {0, SIZE_MAX};
        size_t last = 0, start, end;
        while (bt__regex_walk_next(r, m, text, sizeof text - 1, &walk, &start, &end, NULL) ==
                   BT_OK &&
               start != SIZE_MAX) {
            BT_ASSERT(start <= end && end < sizeof text && start >= last);
            last = end;
        }
    }
    bt__regex_match_close(m);
    bt__regex_close(r);
    return 0;
}
