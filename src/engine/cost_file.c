/* SPDX-License-Identifier: Apache-2.0 */
/* cost_file.c - what steps cost, kept from one start to the next: one line of text a file.
 *
 * The file is a hint. Whatever is wrong with it (absent, cut short, of another version, terms that
 * no device has) reads as "not there", and the costs are measured again. It is replaced as a whole,
 * so a reader never sees half of one. */
#include "base/hash.h"
#include "engine/cost.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LINE_MAX_BYTES = 256 };
#define TERM_MOST 1e9 // microseconds

static int line_of(uint64_t key, const bt_cost *c, char dst[static LINE_MAX_BYTES])
{
    int n = snprintf(dst, LINE_MAX_BYTES, "baton-cost 1 %016" PRIx64 " %a %a %a %a ", key,
                     c->prefill_row, c->decode_row, c->kv_read, c->fixed);
    uint64_t sum = bt_hash(dst, (size_t)n, 0);
    return n + snprintf(dst + n, (size_t)(LINE_MAX_BYTES - n), "%016" PRIx64 "\n", sum);
}

static bool possible(double term)
{
    return isfinite(term) && term > 0 && term < TERM_MOST;
}

bool bt_cost_load(const char *path, uint64_t key, bt_cost *c)
{
    char text[LINE_MAX_BYTES] = "", same[LINE_MAX_BYTES];
    bt_cost got = {0};
    uint64_t of = 0;
    FILE *f = fopen(path, "re");
    if (!f) return false;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    if (sscanf(text, "baton-cost 1 %" SCNx64 " %la %la %la %la", &of, &got.prefill_row,
               &got.decode_row, &got.kv_read, &got.fixed) != 5 ||
        of != key || !possible(got.prefill_row) || !possible(got.decode_row) ||
        !possible(got.kv_read) || !possible(got.fixed))
        return false;
    /* What was read must write the same bytes, its sum among them. */
    if (line_of(key, &got, same) != (int)n || memcmp(text, same, n) != 0) return false;
    *c = got;
    return true;
}

bool bt_cost_save(const char *path, uint64_t key, const bt_cost *c)
{
    char text[LINE_MAX_BYTES], beside[4096];
    int n = line_of(key, c, text);
    if (snprintf(beside, sizeof beside, "%s.new", path) >= (int)sizeof beside) return false;
    FILE *f = fopen(beside, "we");
    if (!f) return false;
    bool ok = fwrite(text, 1, (size_t)n, f) == (size_t)n;
    ok = fclose(f) == 0 && ok;
    ok = ok && rename(beside, path) == 0;
    if (!ok) remove(beside);
    return ok;
}
