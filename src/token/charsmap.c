/* SPDX-License-Identifier: Apache-2.0 */
/* charsmap.c - walking a darts-clone double array that a stranger built.
 *
 * A unit of the array (S. Yata's darts-clone): bits 0-7 and 31 the label, bit 8 whether a value
 * hangs below, bits 10-30 the distance to the children, times 256 if bit 9 is set; a value's unit
 * holds it in bits 0-30. Positions come from xor with data, so each is compared with the size of
 * the array before it is read, and each value with the pool. */
#include "token/charsmap.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "token/unicode/unicode_ranges.h"
#include <string.h>

enum { WHOLE_CLUSTER_MAX = 5, HEAD_BYTES = 4 };

struct bt_charsmap {
    size_t n_units, n_pool;
    const char *pool; // behind the units
    uint32_t unit[];
};

static uint32_t read_u32(const unsigned char *s)
{
    return s[0] | (uint32_t)s[1] << 8 | (uint32_t)s[2] << 16 | (uint32_t)s[3] << 24;
}

bt_status bt_charsmap_open(const void *blob, size_t n, bt_charsmap **out, bt_err *err)
{
    const unsigned char *s = blob;
    size_t trie = 0, n_pool = 0;
    if (n > BT_CHARSMAP_BYTES_MAX)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "the character map has %zu bytes; at most %d can be read", n,
                          BT_CHARSMAP_BYTES_MAX);
    if (n > 0) {
        if (n < HEAD_BYTES)
            return bt_err_set(err, BT_EFORMAT, 0, "the character map is cut short: %zu bytes", n);
        trie = read_u32(s);
        if (trie % 4 || trie < 4 || trie > n - HEAD_BYTES)
            return bt_err_set(err, BT_EFORMAT, 0,
                              "the character map says that its trie has %zu bytes of %zu", trie,
                              n - HEAD_BYTES);
        n_pool = n - HEAD_BYTES - trie;
        const char *pool = (const char *)s + HEAD_BYTES + trie;
        if (bt_utf8_valid_prefix(pool, n_pool) != n_pool)
            return bt_err_set(err, BT_EFORMAT, 0,
                              "the replacements of the character map are not valid UTF-8");
        if (n_pool > 0 && pool[n_pool - 1] != 0)
            return bt_err_set(err, BT_EFORMAT, 0,
                              "the last replacement of the character map does "
                              "not end");
    }
    bt_charsmap *c = bt_malloc(sizeof *c + trie + n_pool);
    if (!c)
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a character map of %zu bytes", n);
    c->n_units = trie / 4;
    c->n_pool = n_pool;
    for (size_t i = 0; i < c->n_units; i++) c->unit[i] = read_u32(s + HEAD_BYTES + 4 * i);
    char *pool = (char *)(c->unit + c->n_units);
    if (n_pool) memcpy(pool, s + HEAD_BYTES + trie, n_pool);
    c->pool = pool;
    *out = c;
    return BT_OK;
}

void bt_charsmap_close(bt_charsmap *c)
{
    bt_free(c);
}

static size_t offset_of(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* The replacement of a key that s begins with, the longest one or the shortest; NULL if there is
 * none. *n_key is its length. */
static const char *transform(const bt_charsmap *c, const char *s, size_t n, bool longest,
                             size_t *n_key)
{
    const char *found = NULL;
    if (c->n_units == 0) return NULL;
    size_t at = offset_of(c->unit[0]);
    for (size_t i = 0; i < n && s[i]; i++) {
        uint32_t byte = (unsigned char)s[i];
        at ^= byte;
        if (at >= c->n_units) break;
        uint32_t unit = c->unit[at];
        if ((unit & (1u << 31 | 0xFF)) != byte) break;
        at ^= offset_of(unit);
        bool cut = longest && i + 1 < n && bt_utf8_is_tail(s[i + 1]);
        if (!(unit & 1u << 8) || cut) continue; // no key, or one that ends inside a character
        if (at >= c->n_units) break;
        size_t value = c->unit[at] & ~(1u << 31);
        if (value >= c->n_pool || bt_utf8_is_tail(c->pool[value])) continue;
        found = c->pool + value;
        *n_key = i + 1;
        if (!longest) break;
    }
    return found;
}

/* UAX 29's rules between two neighbours, with what came before in the cluster. */
typedef struct cluster_state {
    bt__cluster last;
    bool picture;   // a picture and then only extending characters
    bool consonant; // the same of a consonant,
    bool linked;    // with a linker among them
} cluster_state;

static bool joins(const cluster_state *x, bt__cluster next)
{
    bt__cluster last = x->last;
    if (last == BT__CLUSTER_CONTROL || next == BT__CLUSTER_CONTROL) return false;
    switch (next) {
    case BT__CLUSTER_EXTEND:
    case BT__CLUSTER_JOINER:
    case BT__CLUSTER_SPACING:
    case BT__CLUSTER_LINKER: return true;
    case BT__CLUSTER_PICTURE:
        if (x->picture && last == BT__CLUSTER_JOINER) return true;
        break;
    case BT__CLUSTER_CONSONANT:
        if (x->consonant && x->linked) return true;
        break;
    case BT__CLUSTER_L:
    case BT__CLUSTER_LV:
    case BT__CLUSTER_LVT:
        if (last == BT__CLUSTER_L) return true;
        break;
    case BT__CLUSTER_V:
        if (last == BT__CLUSTER_L || last == BT__CLUSTER_V || last == BT__CLUSTER_LV) return true;
        break;
    case BT__CLUSTER_T:
        if (last == BT__CLUSTER_V || last == BT__CLUSTER_LV || last == BT__CLUSTER_T ||
            last == BT__CLUSTER_LVT)
            return true;
        break;
    default: break;
    }
    return last == BT__CLUSTER_PREPEND;
}

static void pass(cluster_state *x, bt__cluster next)
{
    bool extends =
        next == BT__CLUSTER_EXTEND || next == BT__CLUSTER_LINKER || next == BT__CLUSTER_JOINER;
    x->picture =
        next == BT__CLUSTER_PICTURE || (x->picture && extends && x->last != BT__CLUSTER_JOINER);
    x->consonant = next == BT__CLUSTER_CONSONANT || (x->consonant && extends);
    x->linked = x->consonant && extends && (x->linked || next == BT__CLUSTER_LINKER);
    x->last = next;
}

/* Where the cluster that begins at s[at] ends. */
static size_t cluster_end(const char *s, size_t n, size_t at)
{
    uint32_t cp = 0;
    cluster_state x = {0};
    size_t end = at + bt_utf8_decode(s + at, n - at, &cp);
    if (cp == '\r' && end < n && s[end] == '\n') return end + 1;
    pass(&x, bt__cluster_of(cp));
    while (end < n) {
        size_t step = bt_utf8_decode(s + end, n - end, &cp);
        BT_ASSERT(step > 0);
        bt__cluster next = bt__cluster_of(cp);
        if (!joins(&x, next)) break;
        pass(&x, next);
        end += step;
    }
    return end;
}

static void apply_clusters(const bt_charsmap *c, const char *s, size_t n, bt_buf *out)
{
    size_t key, end;
    for (size_t i = 0; i < n && !out->failed; i = end) {
        end = cluster_end(s, n, i);
        const char *whole =
            end - i <= WHOLE_CLUSTER_MAX ? transform(c, s + i, end - i, false, &key) : NULL;
        if (whole) {
            bt_buf_adds(out, whole);
            continue;
        }
        for (size_t k = i, step; k < end; k += step) {
            uint32_t cp;
            step = bt_utf8_decode(s + k, end - k, &cp);
            const char *one = transform(c, s + k, step, false, &key);
            bt_buf_add(out, one ? one : s + k, one ? strlen(one) : step);
        }
    }
}

static void apply_longest(const bt_charsmap *c, const char *s, size_t n, bt_buf *out)
{
    size_t step;
    for (size_t i = 0; i < n && !out->failed; i += step) {
        const char *text = transform(c, s + i, n - i, true, &step);
        uint32_t cp;
        if (text) {
            bt_buf_adds(out, text);
            continue;
        }
        step = bt_utf8_decode(s + i, n - i, &cp);
        BT_ASSERT(step > 0);
        bt_buf_add(out, s + i, step);
    }
}

void bt_charsmap_apply(const bt_charsmap *c, bt_charsmap_rule rule, const char *s, size_t n,
                       bt_buf *out)
{
    if (rule == BT_CHARSMAP_CLUSTERS)
        apply_clusters(c, s, n, out);
    else
        apply_longest(c, s, n, out);
}
