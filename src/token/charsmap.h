/* SPDX-License-Identifier: Apache-2.0 */
/* charsmap.h - SentencePiece's precompiled character map: text rewritten by a table in the file.
 *
 * The blob is a u32 (bytes of the trie, little endian), the trie (a darts-clone double array of u32
 * units) and a pool of NUL-terminated UTF-8 replacements. Everything is checked at open, so that
 * applying cannot read outside. Read-only after open and shared by threads. Private to src/token. */
#pragma once
#include "baton/status.h"
#include "base/buf.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bt_charsmap bt_charsmap;

/* Two programs read the same table differently. */
typedef enum bt_charsmap_rule {
    /* tokenizer.json's Precompiled: each extended grapheme cluster of at most 5 bytes that begins
     * with a key is replaced as a whole by the shortest such key's text; else each character by
     * itself in the same way. */
    BT_CHARSMAP_CLUSTERS,
    /* SentencePiece itself: the longest key at each place is replaced, else a character copied. */
    BT_CHARSMAP_LONGEST,
} bt_charsmap_rule;

enum { BT_CHARSMAP_BYTES_MAX = 64 << 20 };

/* An empty blob (n == 0) is the map that changes nothing. BT_EFORMAT: not a sound map. Copies. */
bt_status bt_charsmap_open(const void *blob, size_t n, bt_charsmap **out, bt_err *err);
void bt_charsmap_close(bt_charsmap *c); // NULL is fine

/* Appends the rewritten s (n bytes of valid UTF-8) to out; out->failed tells no memory, or past its
 * bound. O(n * longest key). Allocates only when out must grow. */
void bt_charsmap_apply(const bt_charsmap *c, bt_charsmap_rule rule, const char *s, size_t n,
                       bt_buf *out);
