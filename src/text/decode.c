/* SPDX-License-Identifier: Apache-2.0 */
/* decode.c - tokens to text while they come.
 *
 * STAGES   token -> raw bytes -> characters (incomplete ones wait in `tail`, invalid ones become
 * U+FFFD) -> `text`, whose end is held back while it is a prefix of a stop string. STOPS    one
 * Knuth-Morris-Pratt automaton a stop string, fed byte by byte: its state is the length of the
 *          longest suffix of the text that is a prefix of the string, which is just what must be
 * held back. MEMORY   one allocation at open. `text` has room for what is held plus one token, each
 * byte of which may be replaced by the three of U+FFFD. */
#include "text/decode.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include <string.h>

enum { TAIL_MAX = 3, REPLACEMENT_BYTES = 3 };
static const char replacement[] = "\xEF\xBF\xBD";

typedef struct stop_string {
    const char *s;  // in the decoder's allocation
    uint16_t *fail; // [n]: longest proper border of s[0..i]
    uint32_t n, state;
} stop_string;

struct bt_decoder {
    const bt_vocab *vocab; // borrowed
    bool skip_special;
    bool strip_space; // a leading space of the next text is dropped
    bool stopped;
    char tail[TAIL_MAX]; // an incomplete character
    size_t n_tail;
    char *text; // what the last call returned, then what is held back
    size_t text_cap, given, held;
    int32_t n_stop;
    stop_string stop[];
};

/* What one token adds before any character is put together. */
static const char *token_text(const bt_vocab *v, int32_t token, bool skip_special, size_t *n)
{
    bt_token_kind kind = bt_vocab_token_kind(v, token);
    bool special = kind == BT_TOKEN_CONTROL || kind == BT_TOKEN_UNKNOWN;
    if (special && !skip_special) return bt_vocab_piece(v, token, n);
    return bt_vocab_bytes(v, token, n);
}

/* Bytes of the maximal invalid subpart at s: the longest start of a character, else one byte. */
static size_t invalid_subpart(const char *s, size_t n)
{
    for (size_t k = BT_MIN(n, (size_t)TAIL_MAX); k > 1; k--) {
        size_t incomplete;
        if (bt_utf8_scan(s, k, &incomplete) == 0 && incomplete == k) return k;
    }
    return 1;
}

/* Appends s as valid UTF-8 to dst (room for 3 n); an incomplete last character is left out and
 * counted in *tail. */
static size_t append_valid(char *dst, const char *s, size_t n, size_t *tail)
{
    size_t len = 0;
    *tail = 0;
    while (n > 0) {
        size_t ok = bt_utf8_scan(s, n, tail);
        memcpy(dst + len, s, ok);
        len += ok;
        s += ok;
        n -= ok;
        if (n == 0 || *tail == n) break;
        size_t skip = invalid_subpart(s, n); // before writing, which may reach s
        memcpy(dst + len, replacement, REPLACEMENT_BYTES);
        len += REPLACEMENT_BYTES;
        s += skip;
        n -= skip;
    }
    return len;
}

static bt_status check_stops(const char *const *stop, int32_t n_stop, size_t *bytes,
                             size_t *longest, bt_err *err)
{
    *bytes = *longest = 0;
    if (n_stop < 0 || n_stop > BT_DECODE_STOPS_MAX)
        return bt_err_set(err, BT_EINVAL, 0, "%d stop strings were given; at most %d are allowed",
                          n_stop, BT_DECODE_STOPS_MAX);
    for (int32_t i = 0; i < n_stop; i++) {
        size_t n = strlen(stop[i]);
        if (n == 0 || n > BT_DECODE_STOP_BYTES_MAX)
            return bt_err_set(err, BT_EINVAL, 0,
                              "stop string %d has %zu bytes; 1 to %d are allowed", i, n,
                              BT_DECODE_STOP_BYTES_MAX);
        if (bt_utf8_valid_prefix(stop[i], n) != n)
            return bt_err_set(err, BT_EINVAL, 0, "stop string %d is not valid UTF-8", i);
        *bytes += n;
        *longest = BT_MAX(*longest, n);
    }
    return BT_OK;
}

/* Knuth, Morris and Pratt's failure table. */
static void stop_init(stop_string *p)
{
    uint32_t k = 0;
    p->fail[0] = 0;
    for (uint32_t i = 1; i < p->n; i++) {
        while (k && p->s[i] != p->s[k]) k = p->fail[k - 1];
        if (p->s[i] == p->s[k]) k++;
        p->fail[i] = (uint16_t)k;
    }
}

bt_status bt_decoder_open(const bt_vocab *v, const char *const *stop, int32_t n_stop,
                          bool skip_special, bool at_start, bt_decoder **out, bt_err *err)
{
    size_t bytes, longest;
    bt_status st = check_stops(stop, n_stop, &bytes, &longest, err);
    if (st) return st;
    size_t head = sizeof(bt_decoder) + (size_t)n_stop * sizeof(stop_string);
    size_t text_cap = longest + (bt_vocab_piece_max(v) + TAIL_MAX) * REPLACEMENT_BYTES;
    bt_decoder *d = bt_malloc(head + bytes * sizeof(uint16_t) + bytes + text_cap);
    if (!d)
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a decoder of %zu bytes",
                          head + text_cap);
    memset(d, 0, head);
    d->vocab = v;
    d->skip_special = skip_special;
    d->strip_space = at_start && bt_vocab_strip_space(v);
    d->n_stop = n_stop;
    uint16_t *fail = (uint16_t *)((char *)d + head);
    char *s = (char *)(fail + bytes);
    for (int32_t i = 0; i < n_stop; i++) {
        stop_string *p = &d->stop[i];
        *p = (stop_string){.s = s, .fail = fail, .n = (uint32_t)strlen(stop[i])};
        memcpy(s, stop[i], p->n);
        stop_init(p);
        s += p->n;
        fail += p->n;
    }
    d->text = s;
    d->text_cap = text_cap;
    *out = d;
    return BT_OK;
}

void bt_decoder_close(bt_decoder *d)
{
    bt_free(d);
}

/* Feeds the automata one byte: the length of the longest stop string that it completes, else 0. */
static size_t stop_feed(bt_decoder *d, char c)
{
    size_t hit = 0;
    for (int32_t i = 0; i < d->n_stop; i++) {
        stop_string *p = &d->stop[i];
        while (p->state && p->s[p->state] != c) p->state = p->fail[p->state - 1];
        if (p->s[p->state] == c) p->state++;
        if (p->state == p->n) hit = BT_MAX(hit, (size_t)p->n);
    }
    return hit;
}

/* Matches text[from..n) and returns how much of text[0..n) is certain; sets stopped at a match. */
static size_t stop_scan(bt_decoder *d, size_t from, size_t n)
{
    if (d->n_stop == 0) return n;
    for (size_t i = from; i < n; i++) {
        size_t hit = stop_feed(d, d->text[i]);
        if (hit) {
            d->stopped = true;
            return i + 1 - hit;
        }
    }
    size_t hold = 0;
    for (int32_t i = 0; i < d->n_stop; i++) hold = BT_MAX(hold, (size_t)d->stop[i].state);
    return n - hold;
}

/* Forgets what was given out; what is held back moves to the front. */
static void drop_given(bt_decoder *d)
{
    memmove(d->text, d->text + d->given, d->held);
    d->given = 0;
}

bool bt_decoder_put(bt_decoder *d, int32_t token, const char **text, size_t *n)
{
    *text = d->text;
    *n = 0;
    if (d->stopped) return true;
    size_t n_raw, n_tail;
    const char *raw = token_text(d->vocab, token, d->skip_special, &n_raw);
    drop_given(d);
    if (n_raw && d->strip_space) {
        d->strip_space = false;
        if (raw[0] == ' ') {
            raw++;
            n_raw--;
        }
    }
    if (n_raw == 0) return false;
    /* The bytes are put together at the far end of the buffer and converted towards its front:
     * reading stays ahead of writing, since the room behind what is held is three times the bytes.
     */
    size_t joined = d->n_tail + n_raw;
    BT_ASSERT(d->held + joined * REPLACEMENT_BYTES <= d->text_cap);
    char *src = d->text + d->text_cap - joined;
    memcpy(src, d->tail, d->n_tail);
    memcpy(src + d->n_tail, raw, n_raw);
    size_t len = d->held + append_valid(d->text + d->held, src, joined, &n_tail);
    memcpy(d->tail, src + joined - n_tail, n_tail);
    d->n_tail = n_tail;
    *n = d->given = stop_scan(d, d->held, len);
    d->held = d->stopped ? 0 : len - d->given;
    return d->stopped;
}

void bt_decoder_finish(bt_decoder *d, const char **text, size_t *n)
{
    *text = d->text;
    *n = 0;
    if (d->stopped) return;
    drop_given(d);
    size_t len = d->held, certain = len;
    if (d->n_tail) {
        memcpy(d->text + len, replacement, REPLACEMENT_BYTES);
        len += REPLACEMENT_BYTES;
        certain = stop_scan(d, d->held, len);
    }
    *n = d->stopped ? certain : len;
    d->n_tail = d->held = 0;
    d->given = *n;
    d->stopped = true;
}

bt_status bt_decode(const bt_vocab *v, const int32_t *ids, size_t n_ids, bool skip_special,
                    char **out, size_t *n_out, bt_err *err)
{
    size_t total = 0, n, tail;
    for (size_t i = 0; i < n_ids; i++) {
        if (!token_text(v, ids[i], skip_special, &n))
            return bt_err_set(err, BT_EINVAL, 0, "token %zu is %d; the vocabulary has ids 0 to %d",
                              i, ids[i], bt_vocab_size(v) - 1);
        total += n;
    }
    char *raw = bt_malloc(total);
    char *text = bt_malloc(total * REPLACEMENT_BYTES + 1);
    if (!raw || !text) {
        bt_free(raw);
        bt_free(text);
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the text of %zu tokens", n_ids);
    }
    total = 0;
    for (size_t i = 0; i < n_ids; i++) {
        const char *s = token_text(v, ids[i], skip_special, &n);
        memcpy(raw + total, s, n);
        total += n;
    }
    size_t skip = bt_vocab_strip_space(v) && total > 0 && raw[0] == ' ';
    size_t len = append_valid(text, raw + skip, total - skip, &tail);
    if (tail) {
        memcpy(text + len, replacement, REPLACEMENT_BYTES);
        len += REPLACEMENT_BYTES;
    }
    text[len] = 0;
    bt_free(raw);
    *out = text;
    *n_out = len;
    return BT_OK;
}
