/* SPDX-License-Identifier: Apache-2.0 */
/* decode.c - tokens to text while they come.
 *
 * STAGES  token -> the vocabulary's decoder chain (whole characters that are certain) -> `text`,
 *         whose end is held back while it is a prefix of a stop string.
 * STOPS   one Knuth-Morris-Pratt automaton a stop string, fed byte by byte: its state is the length
 *         of the longest suffix of the text that is a prefix of the string, which is just what must
 *         be held back.
 * MEMORY  two allocations at open, the chain's state and the rest. `text` has room for what is held
 *         plus the most that the chain gives for one token. */
#include "vocab/decode.h"
#include "base/assert.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "vocab/vocab_block.h"
#include <string.h>

typedef struct stop_string {
    const char *s;  // in the decoder's allocation
    uint16_t *fail; // [n]: longest proper border of s[0..i]
    uint32_t n, state;
} stop_string;

struct bt_decoder {
    const bt_vocab *vocab; // borrowed
    bool skip_special;
    bool stopped;
    bt_decode_stream *stream; // owned
    char *text;               // what the last call returned, then what is held back
    size_t text_cap, given, held;
    int32_t n_stop;
    stop_string stop[];
};

/* What a token is to the decoder; NULL if it is nothing to it: skipped, or no token at all. */
static const char *token_text(const bt_vocab *v, int32_t token, bool skip_special, size_t *n)
{
    if (token < 0 || token >= v->head->n) return NULL;
    bool special =
        v->token_kind[token] == BT_TOKEN_CONTROL || v->token_kind[token] == BT_TOKEN_UNKNOWN;
    if (special && skip_special) return NULL;
    bool bytes = v->head->n_steps && v->step[0].kind == BT_CHAIN_BYTES && !special;
    const uint32_t *off = bytes ? v->bytes_off : v->piece_off;
    *n = off[token + 1] - off[token];
    return (bytes ? v->text : v->piece) + off[token];
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
    size_t text_cap = longest + bt_decode_chain_room(bt_vocab_chain(v));
    bt_decoder *d = bt_malloc(head + bytes * sizeof(uint16_t) + bytes + text_cap);
    if (!d)
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a decoder of %zu bytes",
                          head + text_cap);
    memset(d, 0, head);
    st = bt_decode_stream_open(bt_vocab_chain(v), at_start, &d->stream, err);
    if (st) {
        bt_free(d);
        return st;
    }
    d->vocab = v;
    d->skip_special = skip_special;
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
    if (!d) return;
    bt_decode_stream_close(d->stream);
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

/* More text was written behind what is held. */
static void give(bt_decoder *d, size_t more, const char **text, size_t *n)
{
    size_t len = d->held + more;
    BT_ASSERT(len <= d->text_cap);
    *text = d->text;
    *n = d->given = stop_scan(d, d->held, len);
    d->held = d->stopped ? 0 : len - d->given;
}

bool bt_decoder_put(bt_decoder *d, int32_t token, const char **text, size_t *n)
{
    *text = d->text;
    *n = 0;
    if (d->stopped) return true;
    size_t n_raw;
    const char *raw = token_text(d->vocab, token, d->skip_special, &n_raw);
    drop_given(d);
    if (!raw) return false;
    give(d, bt_decode_stream_put(d->stream, raw, n_raw, d->text + d->held), text, n);
    return d->stopped;
}

void bt_decoder_finish(bt_decoder *d, const char **text, size_t *n)
{
    *text = d->text;
    *n = 0;
    if (d->stopped) return;
    drop_given(d);
    give(d, bt_decode_stream_finish(d->stream, d->text + d->held), text, n);
    *n = d->given += d->held; // nothing can follow that would complete a stop string
    d->held = 0;
    d->stopped = true;
}

/* All tokens through one stream; out has no bound of its own. */
static bt_status decode_all(const bt_vocab *v, const int32_t *ids, size_t n_ids, bool skip_special,
                            bt_decode_stream *stream, bt_buf *out, bt_err *err)
{
    size_t room = bt_decode_chain_room(bt_vocab_chain(v));
    for (size_t i = 0; i <= n_ids; i++) {
        size_t n = 0;
        const char *raw = i < n_ids ? token_text(v, ids[i], skip_special, &n) : NULL;
        if (i < n_ids && !raw) continue;
        if (out->cap - out->len < room + 2 && !bt_buf_reserve(out, room + 1))
            return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the text of %zu tokens", n_ids);
        char *dst = out->data + out->len;
        out->len +=
            raw ? bt_decode_stream_put(stream, raw, n, dst) : bt_decode_stream_finish(stream, dst);
    }
    out->data[out->len] = 0;
    return BT_OK;
}

bt_status bt_decode(const bt_vocab *v, const int32_t *ids, size_t n_ids, bool skip_special,
                    char **out, size_t *n_out, bt_err *err)
{
    for (size_t i = 0; i < n_ids; i++)
        if (ids[i] < 0 || ids[i] >= bt_vocab_size(v))
            return bt_err_set(err, BT_EINVAL, 0, "token %zu is %d; the vocabulary has ids 0 to %d",
                              i, ids[i], bt_vocab_size(v) - 1);
    bt_decode_stream *stream;
    bt_buf text = {.max_bytes = SIZE_MAX};
    bt_status st = bt_decode_stream_open(bt_vocab_chain(v), true, &stream, err);
    if (st) return st;
    st = decode_all(v, ids, n_ids, skip_special, stream, &text, err);
    bt_decode_stream_close(stream);
    if (st) {
        bt_buf_release(&text);
        return st;
    }
    *out = text.data;
    *n_out = text.len;
    return BT_OK;
}
