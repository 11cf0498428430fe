/* SPDX-License-Identifier: Apache-2.0 */
/* decode_chain.c - the steps of a decoder as a pipeline of small machines.
 *
 * MACHINES  Each step becomes one or more machines ("ops"); each takes three events: a token
 *           begins, some of its bytes, the token ends; and at the very end of the text a fourth.
 *           It hands events on to the next, the last one writes to the caller's room. How bytes of
 *           a token are cut into events means nothing, so every machine works byte by byte.
 * FUSING    Behind FUSE and LOSSY there is one token, which ends with the text; machines that need
 *           whole tokens stand only in front of them, the others do not notice.
 * CLEAN-UP  of WordPiece and CTC is eleven literal replacements in a row, so it is eleven ops.
 * BOUNDS    For each op the most bytes and tokens that one put can bring are computed at open; they
 *           give the size of the buffers of the ops that wait, and of the caller's room.
 * BYTES     A run of byte tokens is text only if all of it is valid UTF-8, so it waits for its end,
 *           up to BT_CHAIN_RUN_BYTES; beyond that what is complete is given out, as a script that a
 *           model spells in bytes alone would not stream otherwise.
 * QUICK     Nearly all tokens come when no machine has anything in hand, and then the usual chains
 *           come down to a copy, one replacement, or a space in front. */
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "vocab/byte_level.h"
#include "vocab/decode_chain_parts.h"
#include <string.h>

static const char replacement[] = "\xEF\xBF\xBD";

/* ---- the machines: each event goes to op i, which hands others on to op i + 1 ---- */

static void feed(bt_decode_stream *t, size_t i, const char *s, size_t n);
static void begin(bt_decode_stream *t, size_t i);
static void end(bt_decode_stream *t, size_t i);

static void whole_token(bt_decode_stream *t, size_t i, const char *s, size_t n)
{
    begin(t, i);
    feed(t, i, s, n);
    end(t, i);
}

static void feed_times(bt_decode_stream *t, size_t i, const char *s, size_t n, uint32_t times)
{
    while (times-- > 0) feed(t, i, s, n);
}

/* LOSSY: valid UTF-8 on; one U+FFFD a maximal invalid subpart; an incomplete character waits. */
static void feed_lossy(bt_decode_stream *t, size_t i, const char *s, size_t n)
{
    bt__op_state *x = &t->state[i];
    size_t incomplete;
    while (x->n_tail > 0 && n > 0) {
        x->tail[x->n_tail] = *s;
        size_t len = x->n_tail + 1u;
        bool whole = bt_utf8_scan(x->tail, len, &incomplete) == len;
        if (!whole && incomplete != len) { // what waited is a subpart; this byte begins anew
            x->n_tail = 0;
            feed(t, i + 1, replacement, BT__REPLACEMENT_BYTES);
            break;
        }
        s++;
        n--;
        x->n_tail = whole ? 0 : (uint32_t)len;
        if (whole) feed(t, i + 1, x->tail, len);
    }
    while (n > 0) {
        size_t ok = bt_utf8_scan(s, n, &incomplete);
        if (ok) feed(t, i + 1, s, ok);
        s += ok;
        n -= ok;
        if (n == incomplete) { // nothing left, or the beginning of a character
            memcpy(x->tail, s, n);
            x->n_tail = (uint32_t)n;
            return;
        }
        size_t skip = BT_MIN(n, (size_t)BT__TAIL_MAX);
        for (; skip > 1; skip--)
            if (bt_utf8_scan(s, skip, &incomplete) == 0 && incomplete == skip) break;
        feed(t, i + 1, replacement, BT__REPLACEMENT_BYTES);
        s += skip;
        n -= skip;
    }
}

/* RUN: the byte that a token of that spelling stands for; -1 if it stands for none. */
static int byte_of(const char *s, size_t n)
{
    if (n != BT__BYTE_TOKEN_BYTES || memcmp(s, "<0x", 3) != 0 || s[5] != '>') return -1;
    int value = 0;
    for (int k = 3; k < 5; k++) {
        char c = s[k];
        if (c == '+' && k == 3) continue; // as Rust's from_str_radix reads it
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

static void bad_bytes(bt_decode_stream *t, size_t i, uint32_t n)
{
    while (n-- > 0) whole_token(t, i + 1, replacement, BT__REPLACEMENT_BYTES);
}

/* One more byte of a run. */
static void run_byte(bt_decode_stream *t, size_t i, char byte)
{
    bt__op_state *x = &t->state[i];
    size_t incomplete, ok;
    if (x->run == BT__RUN_BAD) {
        bad_bytes(t, i, 1);
        return;
    }
    x->tail[x->n_tail++] = byte;
    ok = bt_utf8_scan(x->tail, x->n_tail, &incomplete);
    if (ok + incomplete < x->n_tail) {
        if (x->run == BT__RUN_LONG) end(t, i + 1);
        x->run = BT__RUN_BAD;
        uint32_t n = x->n_tail;
        x->n_tail = 0;
        bad_bytes(t, i, n);
        return;
    }
    if (x->run == BT__RUN_HELD && x->n_tail == BT_CHAIN_RUN_BYTES) {
        x->run = BT__RUN_LONG;
        begin(t, i + 1);
    }
    if (x->run == BT__RUN_LONG && ok > 0) {
        feed(t, i + 1, x->tail, ok);
        memmove(x->tail, x->tail + ok, incomplete);
        x->n_tail = (uint32_t)incomplete;
    }
}

static void run_end(bt_decode_stream *t, size_t i)
{
    bt__op_state *x = &t->state[i];
    uint32_t n = x->n_tail;
    bt__run_state was = x->run;
    x->run = BT__RUN_HELD;
    x->n_tail = 0;
    if (was == BT__RUN_LONG) end(t, i + 1);
    if (n == 0) return;
    if (bt_utf8_valid_prefix(x->tail, n) == n)
        whole_token(t, i + 1, x->tail, n);
    else
        bad_bytes(t, i, n);
}

/* The token is no byte: what of it waited goes on. */
static void run_plain(bt_decode_stream *t, size_t i)
{
    bt__op_state *x = &t->state[i];
    x->waiting = false;
    run_end(t, i);
    begin(t, i + 1);
    feed(t, i + 1, x->head, x->k);
}

static void feed_run(bt_decode_stream *t, size_t i, const char *s, size_t n)
{
    bt__op_state *x = &t->state[i];
    if (x->waiting) {
        if (n <= BT__BYTE_TOKEN_BYTES - x->k) {
            memcpy(x->head + x->k, s, n);
            x->k += (uint32_t)n;
            if (memcmp(x->head, "<0x", BT_MIN(x->k, 3u)) == 0) return;
            n = 0;
        }
        run_plain(t, i);
    }
    feed(t, i + 1, s, n);
}

static void end_run(bt_decode_stream *t, size_t i)
{
    bt__op_state *x = &t->state[i];
    int byte = x->waiting ? byte_of(x->head, x->k) : -1;
    if (byte >= 0) {
        run_byte(t, i, (char)byte);
        return;
    }
    if (x->waiting) run_plain(t, i);
    end(t, i + 1);
}

/* SPACE: the prefix of a token but the first is dropped, others get a space in front. */
static void space_settle(bt_decode_stream *t, size_t i)
{
    bt__op_state *x = &t->state[i];
    x->waiting = false;
    feed(t, i + 1, " ", 1);
    feed(t, i + 1, t->chain->op[i].pattern, x->k);
}

static void feed_space(bt_decode_stream *t, size_t i, const char *s, size_t n)
{
    const bt__op *o = &t->chain->op[i];
    bt__op_state *x = &t->state[i];
    while (x->waiting && n > 0) {
        if (*s != o->pattern[x->k]) {
            space_settle(t, i);
            break;
        }
        s++;
        n--;
        if (++x->k == o->n_pattern) x->waiting = false;
    }
    feed(t, i + 1, s, n);
}

static void feed_replace(bt_decode_stream *t, size_t i, const char *s, size_t n)
{
    const bt__op *o = &t->chain->op[i];
    bt__op_state *x = &t->state[i];
    while (n > 0) {
        if (x->k == 0) { // up to where a match may begin
            const char *hit = memchr(s, o->pattern[0], n);
            size_t skip = hit ? (size_t)(hit - s) : n;
            feed(t, i + 1, s, skip);
            s += skip;
            n -= skip;
            if (n == 0) return;
        }
        if (*s == o->pattern[x->k]) {
            s++;
            n--;
            if (++x->k < o->n_pattern) continue;
            x->k = 0;
            if (!(o->drop_in_first && x->first)) feed(t, i + 1, o->content, o->n_content);
        } else {
            uint32_t k = o->fail[x->k - 1];
            feed(t, i + 1, o->pattern, x->k - k);
            x->k = k;
        }
    }
}

/* STRIP: one whole character `pattern` has come. */
static void strip_char(bt_decode_stream *t, size_t i)
{
    const bt__op *o = &t->chain->op[i];
    bt__op_state *x = &t->state[i];
    if (x->waiting && x->n < o->start) {
        x->n++;
        return;
    }
    if (x->waiting) x->n = 0;
    x->waiting = false;
    if (x->n < o->stop)
        x->n++;
    else
        feed(t, i + 1, o->pattern, o->n_pattern);
}

static void feed_strip(bt_decode_stream *t, size_t i, const char *s, size_t n)
{
    const bt__op *o = &t->chain->op[i];
    bt__op_state *x = &t->state[i];
    while (n > 0) {
        if (*s == o->pattern[x->k]) {
            s++;
            n--;
            if (++x->k < o->n_pattern) continue;
            x->k = 0;
            strip_char(t, i);
            continue;
        }
        if (!x->waiting) feed_times(t, i + 1, o->pattern, o->n_pattern, x->n);
        x->waiting = false;
        x->n = 0;
        feed(t, i + 1, o->pattern, x->k);
        if (x->k > 0) { // this byte may begin the character anew
            x->k = 0;
            continue;
        }
        const char *hit = memchr(s, o->pattern[0], n);
        size_t skip = hit ? (size_t)(hit - s) : n;
        feed(t, i + 1, s, skip);
        s += skip;
        n -= skip;
    }
}

static size_t find(const char *s, size_t n, const bt__op *o)
{
    for (size_t k = 0; k + o->n_pattern <= n; k++)
        if (memcmp(s + k, o->pattern, o->n_pattern) == 0) return k;
    return n;
}

/* LAST: the held token with its suffixes replaced. */
static void last_give(bt_decode_stream *t, size_t i, bool is_last)
{
    const bt__op *o = &t->chain->op[i];
    bt__op_state *x = &t->state[i];
    const char *s = t->buffer + o->at;
    x->waiting = false;
    for (size_t n = x->n_buf; n > 0;) {
        size_t k = find(s, n, o);
        feed(t, i + 1, s, k);
        if (k == n) break;
        feed(t, i + 1, " ", !is_last);
        s += k + o->n_pattern;
        n -= k + o->n_pattern;
    }
    x->n_buf = 0;
    end(t, i + 1);
}

/* What stands before the first suffix is certain. */
static void end_last(bt_decode_stream *t, size_t i)
{
    const bt__op *o = &t->chain->op[i];
    bt__op_state *x = &t->state[i];
    char *s = t->buffer + o->at;
    size_t k = find(s, x->n_buf, o);
    begin(t, i + 1);
    feed(t, i + 1, s, k);
    x->n_buf -= k;
    memmove(s, s + k, x->n_buf);
    x->waiting = true;
}

static void end_dedup(bt_decode_stream *t, size_t i)
{
    const bt__op *o = &t->chain->op[i];
    bt__op_state *x = &t->state[i];
    char *prev = t->buffer + o->at, *s = prev + o->cap / 2;
    if (x->waiting && x->n_prev == x->n_buf && memcmp(prev, s, x->n_buf) == 0) return;
    memcpy(prev, s, x->n_buf);
    x->n_prev = x->n_buf;
    x->waiting = true;
    whole_token(t, i + 1, prev, x->n_prev);
}

static void end_byte_map(bt_decode_stream *t, size_t i)
{
    char *s = t->buffer + t->chain->op[i].at;
    size_t n = t->state[i].n_buf;
    bool mapped = true;
    for (size_t k = 0, step; k < n && mapped; k += step) {
        uint32_t cp = 0;
        step = bt_utf8_decode(s + k, n - k, &cp);
        mapped = step && bt__byte_level_of(cp) >= 0;
    }
    /* In place: a byte never takes more room than its spelling. */
    if (mapped) BT_ASSERT(bt__byte_level_decode(s, n, s, &n));
    feed(t, i + 1, s, n);
    end(t, i + 1);
}

/* ---- events ---- */

static void begin(bt_decode_stream *t, size_t i)
{
    if (i == t->chain->n_ops) return;
    const bt__op *o = &t->chain->op[i];
    bt__op_state *x = &t->state[i];
    x->first = !x->seen;
    x->seen = true;
    switch (o->kind) {
    case BT__OP_FUSE:
    case BT__OP_LOSSY:
        if (x->first) begin(t, i + 1);
        return;
    case BT__OP_RUN:
        x->k = 0;
        x->waiting = true;
        return;
    case BT__OP_NONEMPTY: x->waiting = true; return;
    case BT__OP_LAST:
        if (x->waiting) last_give(t, i, false);
        return;
    case BT__OP_DEDUP: x->n_buf = 0; return;
    case OP_BYTE_MAP: x->n_buf = 0; break;
    case BT__OP_SPACE:
        x->k = 0;
        x->waiting = !x->first && o->n_pattern > 0;
        break;
    case BT__OP_STRIP:
        x->k = x->n = 0;
        x->waiting = x->first || !o->fused;
        break;
    case BT__OP_JOIN:
    case BT__OP_REPLACE: break;
    }
    begin(t, i + 1);
    if (o->kind == BT__OP_JOIN && !x->first) feed(t, i + 1, " ", 1);
}

static void feed(bt_decode_stream *t, size_t i, const char *s, size_t n)
{
    if (n == 0) return;
    if (i == t->chain->n_ops) {
        BT_ASSERT(n <= t->chain->room - t->n_dst);
        memcpy(t->dst + t->n_dst, s, n);
        t->n_dst += n;
        return;
    }
    const bt__op *o = &t->chain->op[i];
    bt__op_state *x = &t->state[i];
    switch (o->kind) {
    case BT__OP_LOSSY: feed_lossy(t, i, s, n); return;
    case BT__OP_RUN: feed_run(t, i, s, n); return;
    case BT__OP_SPACE: feed_space(t, i, s, n); return;
    case BT__OP_REPLACE: feed_replace(t, i, s, n); return;
    case BT__OP_STRIP: feed_strip(t, i, s, n); return;
    case OP_BYTE_MAP:
    case BT__OP_LAST:
    case BT__OP_DEDUP: {
        size_t half = o->kind == BT__OP_DEDUP ? o->cap / 2 : 0;
        BT_ASSERT(n <= o->cap - half - x->n_buf);
        memcpy(t->buffer + o->at + half + x->n_buf, s, n);
        x->n_buf += n;
        return;
    }
    case BT__OP_NONEMPTY:
        if (x->waiting) begin(t, i + 1);
        x->waiting = false;
        break;
    case BT__OP_FUSE:
    case BT__OP_JOIN: break;
    }
    feed(t, i + 1, s, n);
}

static void end(bt_decode_stream *t, size_t i)
{
    if (i == t->chain->n_ops) return;
    const bt__op *o = &t->chain->op[i];
    bt__op_state *x = &t->state[i];
    switch (o->kind) {
    case BT__OP_FUSE:
    case BT__OP_LOSSY: return;
    case OP_BYTE_MAP: end_byte_map(t, i); return;
    case BT__OP_RUN: end_run(t, i); return;
    case BT__OP_LAST: end_last(t, i); return;
    case BT__OP_DEDUP: end_dedup(t, i); return;
    case BT__OP_SPACE:
        if (x->waiting) space_settle(t, i);
        break;
    case BT__OP_NONEMPTY:
        if (x->waiting) return;
        break;
    case BT__OP_REPLACE:
    case BT__OP_STRIP: // what is held of its characters is dropped
        feed(t, i + 1, o->pattern, x->k);
        x->k = 0;
        break;
    case BT__OP_JOIN: break;
    }
    end(t, i + 1);
}

/* The text has ended: op by op, what is held goes on. */
static void finish_op(bt_decode_stream *t, size_t i)
{
    bt__op_state *x = &t->state[i];
    switch (t->chain->op[i].kind) {
    case BT__OP_LOSSY:
        if (x->n_tail) feed(t, i + 1, replacement, BT__REPLACEMENT_BYTES);
        end(t, i + 1);
        break;
    case BT__OP_FUSE: end(t, i + 1); break;
    case BT__OP_RUN: run_end(t, i); break;
    case BT__OP_LAST:
        if (x->waiting) last_give(t, i, true);
        break;
    default: break;
    }
}

/* ---- streams ---- */

bt_status bt_decode_stream_open(const bt_decode_chain *c, bool at_start, bt_decode_stream **out,
                                bt_err *err)
{
    size_t head = sizeof(bt_decode_stream) + c->n_ops * sizeof(bt__op_state);
    bt_decode_stream *t = bt_malloc(head + c->buffers);
    if (!t)
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a decoder of %zu bytes",
                          head + c->buffers);
    t->chain = c;
    t->buffer = (char *)t + head;
    bt_decode_stream_reset(t, at_start);
    *out = t;
    return BT_OK;
}

void bt_decode_stream_close(bt_decode_stream *t)
{
    bt_free(t);
}

void bt_decode_stream_reset(bt_decode_stream *t, bool at_start)
{
    memset(t->state, 0, t->chain->n_ops * sizeof *t->state);
    t->quiet = false;
    for (size_t i = 0; i < t->chain->n_ops; i++) {
        const bt__op *o = &t->chain->op[i];
        bool per_text = o->kind == BT__OP_SPACE || o->kind == BT__OP_JOIN ||
                        o->kind == BT__OP_REPLACE || o->kind == BT__OP_STRIP;
        t->state[i].seen = per_text && !at_start;
    }
}

/* ---- the shortcut ---- */

/* Every op has seen a token and none holds a part of one. */
static bool is_quiet(const bt_decode_stream *t)
{
    if (t->chain->quick == BT__QUICK_NONE) return false;
    for (size_t i = 0; i < t->chain->n_ops; i++) {
        const bt__op_state *x = &t->state[i];
        bool waits = t->chain->op[i].kind == BT__OP_STRIP && (x->waiting || x->k || x->n);
        if (!x->seen || waits || x->n_tail || x->run != BT__RUN_HELD) return false;
    }
    return true;
}

/* Most tokens are short and ASCII: overlapping words spare the loop over bytes. n >= 1 */
static bool is_ascii(const char *s, size_t n)
{
    uint64_t a, b, all = 0;
    uint32_t c, d;
    if (n < 4)
        return (((unsigned char)s[0] | (unsigned char)s[n / 2] | (unsigned char)s[n - 1]) & 0x80) ==
               0;
    if (n < 8) {
        memcpy(&c, s, 4);
        memcpy(&d, s + n - 4, 4);
        return ((c | d) & 0x80808080u) == 0;
    }
    for (size_t i = 0; i + 8 <= n; i += 8) {
        memcpy(&a, s + i, 8);
        all |= a;
    }
    memcpy(&b, s + n - 8, 8);
    return ((all | b) & UINT64_C(0x8080808080808080)) == 0;
}

static bool starts_with(const bt__op *o, const char *s, size_t n)
{
    return n >= o->n_pattern && s[0] == o->pattern[0] && memcmp(s, o->pattern, o->n_pattern) == 0;
}

/* False: s is not all text. Most tokens have the pattern, if at all, in front. */
static bool copy_replaced(const bt__op *o, const char *s, size_t n, char *dst, size_t *n_dst)
{
    size_t i = 0, len = 0;
    if (starts_with(o, s, n)) {
        memcpy(dst, o->content, o->n_content);
        len = o->n_content;
        i = o->n_pattern;
    }
    if (i == n || ((unsigned char)o->pattern[0] >= 0x80 && is_ascii(s + i, n - i))) {
        memcpy(dst + len, s + i, n - i);
        *n_dst = len + n - i;
        return true;
    }
    if (bt_utf8_valid_prefix(s, n) != n) return false;
    while (i < n) {
        if (!starts_with(o, s + i, n - i)) {
            dst[len++] = s[i++];
            continue;
        }
        memcpy(dst + len, o->content, o->n_content);
        len += o->n_content;
        i += o->n_pattern;
    }
    *n_dst = len;
    return true;
}

/* What the machines would give for the token, and they would stay quiet. False: not so sure. */
static bool quick(const bt_decode_chain *c, const char *s, size_t n, char *dst, size_t *n_dst)
{
    const bt__op *first = &c->op[0];
    if (n == 0 || (c->quick_runs && s[0] == '<')) return false;
    if (c->quick == BT__QUICK_REPLACE) return copy_replaced(&c->op[c->quick_op], s, n, dst, n_dst);
    if (!is_ascii(s, n) && bt_utf8_valid_prefix(s, n) != n) return false;
    if (c->quick == BT__QUICK_COPY) {
        memcpy(dst, s, n);
        *n_dst = n;
        return true;
    }
    if (memchr(s, ' ', n)) return false;
    if (first->n_pattern == 0 || starts_with(first, s, n)) {
        *n_dst = n - first->n_pattern;
        memcpy(dst, s + first->n_pattern, *n_dst);
        return true;
    }
    if (c->after[(unsigned char)s[0]]) return false;
    dst[0] = ' ';
    memcpy(dst + 1, s, n);
    *n_dst = n + 1;
    return true;
}

size_t bt_decode_stream_put(bt_decode_stream *t, const char *token, size_t n, char *dst)
{
    size_t n_quick;
    BT_ASSERT(n <= t->chain->token_max);
    if (t->quiet && quick(t->chain, token, n, dst, &n_quick)) return n_quick;
    t->dst = dst;
    t->n_dst = 0;
    whole_token(t, 0, token, n);
    t->quiet = is_quiet(t);
    return t->n_dst;
}

size_t bt_decode_stream_finish(bt_decode_stream *t, char *dst)
{
    t->dst = dst;
    t->n_dst = 0;
    for (size_t i = 0; i < t->chain->n_ops; i++) finish_op(t, i);
    return t->n_dst;
}
