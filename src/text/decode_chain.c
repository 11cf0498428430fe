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
 *           model spells in bytes alone would not stream otherwise. */
#include "text/decode_chain.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "text/byte_level.h"
#include <string.h>

static const char replacement[] = "\xEF\xBF\xBD";
enum { REPLACEMENT_BYTES = 3, TAIL_MAX = 3, BYTE_TOKEN_BYTES = 6, OPS_A_STEP_MAX = 16 };

typedef enum op_kind {
    OP_FUSE,
    OP_LOSSY,    // bytes to UTF-8; fuses
    OP_BYTE_MAP, // GPT-2 spelling to bytes, whole tokens
    OP_RUN,      // byte fallback
    OP_SPACE,    // ' ' before tokens without the prefix
    OP_JOIN,     // ' ' before tokens
    OP_REPLACE,
    OP_STRIP,
    OP_LAST,     // suffix to ' ', in the last token to nothing; whole tokens
    OP_DEDUP,    // equal neighbours once; whole tokens
    OP_NONEMPTY, // empty tokens dropped
} op_kind;

typedef struct op {
    op_kind kind;
    uint8_t n_pattern, n_content;
    bool drop_in_first; // REPLACE: in the first token the pattern becomes nothing
    bool fused;         // what comes in is one token
    uint32_t start, stop;
    size_t cap, at; // bytes of its buffer, and where it lies in the stream's memory
    char pattern[BT_CHAIN_PATTERN_MAX], content[BT_CHAIN_PATTERN_MAX];
    uint8_t fail[BT_CHAIN_PATTERN_MAX]; // REPLACE: longest proper border of pattern[0..i]
} op;

struct bt_decode_chain {
    size_t token_max, room, buffers; // bytes
    size_t n_ops;
    op op[];
};

typedef enum run_state { RUN_HELD, RUN_BAD, RUN_LONG } run_state;

typedef struct op_state {
    bool seen;    // a token has begun (or, not at_start, text stands before)
    bool first;   // this token is the first
    bool waiting; // RUN: may be a byte token; SPACE: may have the prefix; STRIP: at the beginning;
                  // NONEMPTY: nothing has come; LAST, DEDUP: the buffer holds an earlier token
    run_state run;
    uint32_t k;      // bytes of the pattern that stand matched
    uint32_t n;      // STRIP: characters dropped or held
    uint32_t n_tail; // LOSSY, RUN
    size_t n_buf, n_prev;
    char tail[BT_CHAIN_RUN_BYTES];
    char head[BYTE_TOKEN_BYTES]; // RUN: the beginning of a token
} op_state;

struct bt_decode_stream {
    const bt_decode_chain *chain; // borrowed
    char *dst;                    // of the call that runs
    size_t n_dst;
    char *buffer; // in the same allocation
    op_state state[];
};

/* ---- open: steps to ops, and the bounds of each ---- */

static const char *const cleanup[][2] = {
    {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
    {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
    {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
};

/* Knuth, Morris and Pratt's failure table. */
static void set_fail(op *o)
{
    uint8_t k = 0;
    o->fail[0] = 0;
    for (size_t i = 1; i < o->n_pattern; i++) {
        while (k && o->pattern[i] != o->pattern[k]) k = o->fail[k - 1];
        if (o->pattern[i] == o->pattern[k]) k++;
        o->fail[i] = k;
    }
}

static op *add(bt_decode_chain *c, op_kind kind, bt_str pattern, bt_str content)
{
    op *o = &c->op[c->n_ops++];
    *o = (op){.kind = kind, .n_pattern = (uint8_t)pattern.n, .n_content = (uint8_t)content.n};
    if (pattern.n) memcpy(o->pattern, pattern.s, pattern.n);
    if (content.n) memcpy(o->content, content.s, content.n);
    if (kind == OP_REPLACE) set_fail(o);
    return o;
}

static bt_str str(const char *s)
{
    return (bt_str){s, strlen(s)};
}

static void add_cleanup(bt_decode_chain *c)
{
    for (size_t i = 0; i < BT_COUNT(cleanup); i++)
        add(c, OP_REPLACE, str(cleanup[i][0]), str(cleanup[i][1]));
}

/* fused: what the step is given is one token. Returns whether what it gives is. */
static bool add_step(bt_decode_chain *c, const bt_chain_step *s, bool fused)
{
    const bt_str none = {"", 0}, space = {" ", 1};
    switch (s->kind) {
    case BT_CHAIN_BYTE_LEVEL:
        add(c, OP_BYTE_MAP, none, none);
        add(c, OP_LOSSY, none, none);
        return true;
    case BT_CHAIN_BYTES: add(c, OP_LOSSY, none, none); return true;
    case BT_CHAIN_BYTE_FALLBACK: add(c, OP_RUN, none, none); break;
    case BT_CHAIN_WORDPIECE:
        add(c, OP_SPACE, s->pattern, none);
        if (s->flag) add_cleanup(c);
        break;
    case BT_CHAIN_METASPACE: add(c, OP_REPLACE, s->pattern, space)->drop_in_first = s->flag; break;
    case BT_CHAIN_FUSE: add(c, OP_FUSE, none, none); return true;
    case BT_CHAIN_STRIP: {
        op *o = add(c, OP_STRIP, s->pattern, none);
        o->start = s->start;
        o->stop = s->stop;
        break;
    }
    case BT_CHAIN_REPLACE: add(c, OP_REPLACE, s->pattern, s->content); break;
    case BT_CHAIN_BPE: add(c, fused ? OP_REPLACE : OP_LAST, s->pattern, none); break;
    case BT_CHAIN_CTC:
        if (!fused) add(c, OP_DEDUP, none, none);
        if (s->pattern.n) add(c, OP_REPLACE, s->pattern, none);
        if (s->flag) {
            add_cleanup(c);
            add(c, OP_REPLACE, s->content, space);
        }
        add(c, OP_NONEMPTY, none, none);
        break;
    case BT_CHAIN_JOIN: add(c, OP_JOIN, none, none); break;
    }
    return fused;
}

static bt_status check_step(const bt_chain_step *s, size_t i, bool fused, bt_err *err)
{
    if ((int)s->kind < 0 || s->kind > BT_CHAIN_JOIN)
        return bt_err_set(err, BT_EINVAL, 0, "decoder step %zu is of no known kind", i);
    if (s->pattern.n > BT_CHAIN_PATTERN_MAX || s->content.n > BT_CHAIN_PATTERN_MAX)
        return bt_err_set(err, BT_EINVAL, 0,
                          "a string of decoder step %zu has %zu bytes; at most %d can be used", i,
                          BT_MAX(s->pattern.n, s->content.n), BT_CHAIN_PATTERN_MAX);
    if (bt_utf8_valid_prefix(s->pattern.s, s->pattern.n) != s->pattern.n ||
        bt_utf8_valid_prefix(s->content.s, s->content.n) != s->content.n)
        return bt_err_set(err, BT_EINVAL, 0, "a string of decoder step %zu is not valid UTF-8", i);
    bool one_char = s->kind == BT_CHAIN_METASPACE || s->kind == BT_CHAIN_STRIP;
    if (s->pattern.n == 0 && (one_char || s->kind == BT_CHAIN_REPLACE || s->kind == BT_CHAIN_BPE))
        return bt_err_set(err, BT_EINVAL, 0, "decoder step %zu looks for an empty string", i);
    uint32_t cp;
    if (one_char && bt_utf8_decode(s->pattern.s, s->pattern.n, &cp) != s->pattern.n)
        return bt_err_set(err, BT_EINVAL, 0, "decoder step %zu wants one character", i);
    if (s->kind == BT_CHAIN_CTC && s->flag && s->content.n == 0)
        return bt_err_set(err, BT_EINVAL, 0, "the word delimiter of decoder step %zu is empty", i);
    if (s->kind == BT_CHAIN_STRIP && BT_MAX(s->start, s->stop) > BT_CHAIN_STRIP_MAX)
        return bt_err_set(err, BT_EINVAL, 0,
                          "decoder step %zu strips %u characters; at most %d can be stripped", i,
                          BT_MAX(s->start, s->stop), BT_CHAIN_STRIP_MAX);
    if (s->kind == BT_CHAIN_BYTE_LEVEL && fused)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "decoder step %zu is ByteLevel behind a step that joins the tokens; such "
                          "text cannot be streamed",
                          i);
    return BT_OK;
}

/* The most bytes that op o hands on when in bytes of `tokens` tokens come; sets its buffer. */
static size_t bound(op *o, size_t in, size_t *tokens)
{
    size_t held = o->n_pattern ? o->n_pattern - 1u : 0;
    switch (o->kind) {
    case OP_FUSE: *tokens = 1; return in;
    case OP_LOSSY: *tokens = 1; return (in + TAIL_MAX) * REPLACEMENT_BYTES;
    case OP_BYTE_MAP: o->cap = in; return in;
    case OP_RUN:
        *tokens += BT_CHAIN_RUN_BYTES;
        return (in + BT_CHAIN_RUN_BYTES + BYTE_TOKEN_BYTES) * REPLACEMENT_BYTES;
    case OP_SPACE: return in + held + *tokens;
    case OP_JOIN: return in + *tokens;
    case OP_REPLACE: {
        size_t grown = BT_MAX(o->n_content, (uint8_t)1) + o->n_pattern - 1u;
        return (in + held) * (grown / o->n_pattern);
    }
    case OP_STRIP: return in + (size_t)o->n_pattern * (o->stop + 1);
    case OP_LAST:
        o->cap = in;
        *tokens += 1;
        return 2 * in;
    case OP_DEDUP: o->cap = 2 * in; return in;
    case OP_NONEMPTY: return in;
    }
    return in;
}

bt_status bt_decode_chain_open(const bt_chain_step *step, size_t n, size_t token_max,
                               bt_decode_chain **out, bt_err *err)
{
    if (n > BT_CHAIN_STEPS_MAX)
        return bt_err_set(err, BT_EINVAL, 0, "the decoder has %zu steps; at most %d can be used", n,
                          BT_CHAIN_STEPS_MAX);
    size_t ops = n * OPS_A_STEP_MAX + 1;
    bt_decode_chain *c = bt_calloc(1, sizeof *c + ops * sizeof(op));
    if (!c) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a decoder of %zu steps", n);
    bt_status st = BT_OK;
    bool fused = false;
    for (size_t i = 0; i < n && !st; i++) {
        st = check_step(&step[i], i, fused, err);
        if (st) goto done;
        bool after = add_step(c, &step[i], fused);
        fused = after;
    }
    const bt_str none = {"", 0};
    /* Whatever the tokens hold, what leaves is UTF-8. */
    if (c->n_ops == 0 || c->op[c->n_ops - 1].kind != OP_LOSSY) add(c, OP_LOSSY, none, none);
    size_t bytes = token_max, tokens = 1;
    fused = false;
    for (size_t i = 0; i < c->n_ops; i++) {
        op *o = &c->op[i];
        o->fused = fused;
        o->at = c->buffers;
        bytes = bound(o, bytes, &tokens);
        c->buffers += o->cap;
        fused = fused || o->kind == OP_FUSE || o->kind == OP_LOSSY;
        if (bytes > BT_CHAIN_ROOM_MAX || c->buffers > BT_CHAIN_ROOM_MAX) {
            st = bt_err_set(err, BT_EUNSUPPORTED, 0,
                            "the decoder could make %zu bytes of one token of %zu", bytes,
                            token_max);
            goto done;
        }
    }
    c->token_max = token_max;
    c->room = bytes;
    bt_decode_chain *exact = bt_realloc(c, sizeof *c + c->n_ops * sizeof(op));
    *out = exact ? exact : c;
done:
    if (st) bt_free(c);
    return st;
}

void bt_decode_chain_close(bt_decode_chain *c)
{
    bt_free(c);
}

size_t bt_decode_chain_room(const bt_decode_chain *c)
{
    return c->room;
}

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
    op_state *x = &t->state[i];
    size_t incomplete;
    while (x->n_tail > 0 && n > 0) {
        x->tail[x->n_tail] = *s;
        size_t len = x->n_tail + 1u;
        bool whole = bt_utf8_scan(x->tail, len, &incomplete) == len;
        if (!whole && incomplete != len) { // what waited is a subpart; this byte begins anew
            x->n_tail = 0;
            feed(t, i + 1, replacement, REPLACEMENT_BYTES);
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
        size_t skip = BT_MIN(n, (size_t)TAIL_MAX);
        for (; skip > 1; skip--)
            if (bt_utf8_scan(s, skip, &incomplete) == 0 && incomplete == skip) break;
        feed(t, i + 1, replacement, REPLACEMENT_BYTES);
        s += skip;
        n -= skip;
    }
}

/* RUN: the byte that a token of that spelling stands for; -1 if it stands for none. */
static int byte_of(const char *s, size_t n)
{
    if (n != BYTE_TOKEN_BYTES || memcmp(s, "<0x", 3) != 0 || s[5] != '>') return -1;
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
    while (n-- > 0) whole_token(t, i + 1, replacement, REPLACEMENT_BYTES);
}

/* One more byte of a run. */
static void run_byte(bt_decode_stream *t, size_t i, char byte)
{
    op_state *x = &t->state[i];
    size_t incomplete, ok;
    if (x->run == RUN_BAD) {
        bad_bytes(t, i, 1);
        return;
    }
    x->tail[x->n_tail++] = byte;
    ok = bt_utf8_scan(x->tail, x->n_tail, &incomplete);
    if (ok + incomplete < x->n_tail) {
        if (x->run == RUN_LONG) end(t, i + 1);
        x->run = RUN_BAD;
        uint32_t n = x->n_tail;
        x->n_tail = 0;
        bad_bytes(t, i, n);
        return;
    }
    if (x->run == RUN_HELD && x->n_tail == BT_CHAIN_RUN_BYTES) {
        x->run = RUN_LONG;
        begin(t, i + 1);
    }
    if (x->run == RUN_LONG && ok > 0) {
        feed(t, i + 1, x->tail, ok);
        memmove(x->tail, x->tail + ok, incomplete);
        x->n_tail = (uint32_t)incomplete;
    }
}

static void run_end(bt_decode_stream *t, size_t i)
{
    op_state *x = &t->state[i];
    uint32_t n = x->n_tail;
    run_state was = x->run;
    x->run = RUN_HELD;
    x->n_tail = 0;
    if (was == RUN_LONG) end(t, i + 1);
    if (n == 0) return;
    if (bt_utf8_valid_prefix(x->tail, n) == n)
        whole_token(t, i + 1, x->tail, n);
    else
        bad_bytes(t, i, n);
}

/* The token is no byte: what of it waited goes on. */
static void run_plain(bt_decode_stream *t, size_t i)
{
    op_state *x = &t->state[i];
    x->waiting = false;
    run_end(t, i);
    begin(t, i + 1);
    feed(t, i + 1, x->head, x->k);
}

static void feed_run(bt_decode_stream *t, size_t i, const char *s, size_t n)
{
    op_state *x = &t->state[i];
    if (x->waiting) {
        if (n <= BYTE_TOKEN_BYTES - x->k) {
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
    op_state *x = &t->state[i];
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
    op_state *x = &t->state[i];
    x->waiting = false;
    feed(t, i + 1, " ", 1);
    feed(t, i + 1, t->chain->op[i].pattern, x->k);
}

static void feed_space(bt_decode_stream *t, size_t i, const char *s, size_t n)
{
    const op *o = &t->chain->op[i];
    op_state *x = &t->state[i];
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
    const op *o = &t->chain->op[i];
    op_state *x = &t->state[i];
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
    const op *o = &t->chain->op[i];
    op_state *x = &t->state[i];
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
    const op *o = &t->chain->op[i];
    op_state *x = &t->state[i];
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

static size_t find(const char *s, size_t n, const op *o)
{
    for (size_t k = 0; k + o->n_pattern <= n; k++)
        if (memcmp(s + k, o->pattern, o->n_pattern) == 0) return k;
    return n;
}

/* LAST: the held token with its suffixes replaced. */
static void last_give(bt_decode_stream *t, size_t i, bool is_last)
{
    const op *o = &t->chain->op[i];
    op_state *x = &t->state[i];
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
    const op *o = &t->chain->op[i];
    op_state *x = &t->state[i];
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
    const op *o = &t->chain->op[i];
    op_state *x = &t->state[i];
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
    const op *o = &t->chain->op[i];
    op_state *x = &t->state[i];
    x->first = !x->seen;
    x->seen = true;
    switch (o->kind) {
    case OP_FUSE:
    case OP_LOSSY:
        if (x->first) begin(t, i + 1);
        return;
    case OP_RUN:
        x->k = 0;
        x->waiting = true;
        return;
    case OP_NONEMPTY: x->waiting = true; return;
    case OP_LAST:
        if (x->waiting) last_give(t, i, false);
        return;
    case OP_DEDUP: x->n_buf = 0; return;
    case OP_BYTE_MAP: x->n_buf = 0; break;
    case OP_SPACE:
        x->k = 0;
        x->waiting = !x->first && o->n_pattern > 0;
        break;
    case OP_STRIP:
        x->k = x->n = 0;
        x->waiting = x->first || !o->fused;
        break;
    case OP_JOIN:
    case OP_REPLACE: break;
    }
    begin(t, i + 1);
    if (o->kind == OP_JOIN && !x->first) feed(t, i + 1, " ", 1);
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
    const op *o = &t->chain->op[i];
    op_state *x = &t->state[i];
    switch (o->kind) {
    case OP_LOSSY: feed_lossy(t, i, s, n); return;
    case OP_RUN: feed_run(t, i, s, n); return;
    case OP_SPACE: feed_space(t, i, s, n); return;
    case OP_REPLACE: feed_replace(t, i, s, n); return;
    case OP_STRIP: feed_strip(t, i, s, n); return;
    case OP_BYTE_MAP:
    case OP_LAST:
    case OP_DEDUP: {
        size_t half = o->kind == OP_DEDUP ? o->cap / 2 : 0;
        BT_ASSERT(n <= o->cap - half - x->n_buf);
        memcpy(t->buffer + o->at + half + x->n_buf, s, n);
        x->n_buf += n;
        return;
    }
    case OP_NONEMPTY:
        if (x->waiting) begin(t, i + 1);
        x->waiting = false;
        break;
    case OP_FUSE:
    case OP_JOIN: break;
    }
    feed(t, i + 1, s, n);
}

static void end(bt_decode_stream *t, size_t i)
{
    if (i == t->chain->n_ops) return;
    const op *o = &t->chain->op[i];
    op_state *x = &t->state[i];
    switch (o->kind) {
    case OP_FUSE:
    case OP_LOSSY: return;
    case OP_BYTE_MAP: end_byte_map(t, i); return;
    case OP_RUN: end_run(t, i); return;
    case OP_LAST: end_last(t, i); return;
    case OP_DEDUP: end_dedup(t, i); return;
    case OP_SPACE:
        if (x->waiting) space_settle(t, i);
        break;
    case OP_NONEMPTY:
        if (x->waiting) return;
        break;
    case OP_REPLACE:
    case OP_STRIP: // what is held of its characters is dropped
        feed(t, i + 1, o->pattern, x->k);
        x->k = 0;
        break;
    case OP_JOIN: break;
    }
    end(t, i + 1);
}

/* The text has ended: op by op, what is held goes on. */
static void finish_op(bt_decode_stream *t, size_t i)
{
    op_state *x = &t->state[i];
    switch (t->chain->op[i].kind) {
    case OP_LOSSY:
        if (x->n_tail) feed(t, i + 1, replacement, REPLACEMENT_BYTES);
        end(t, i + 1);
        break;
    case OP_FUSE: end(t, i + 1); break;
    case OP_RUN: run_end(t, i); break;
    case OP_LAST:
        if (x->waiting) last_give(t, i, true);
        break;
    default: break;
    }
}

/* ---- streams ---- */

bt_status bt_decode_stream_open(const bt_decode_chain *c, bool at_start, bt_decode_stream **out,
                                bt_err *err)
{
    size_t head = sizeof(bt_decode_stream) + c->n_ops * sizeof(op_state);
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
    for (size_t i = 0; i < t->chain->n_ops; i++) {
        const op *o = &t->chain->op[i];
        bool per_text = o->kind == OP_SPACE || o->kind == OP_JOIN || o->kind == OP_REPLACE ||
                        o->kind == OP_STRIP;
        t->state[i].seen = per_text && !at_start;
    }
}

size_t bt_decode_stream_put(bt_decode_stream *t, const char *token, size_t n, char *dst)
{
    BT_ASSERT(n <= t->chain->token_max);
    t->dst = dst;
    t->n_dst = 0;
    whole_token(t, 0, token, n);
    return t->n_dst;
}

size_t bt_decode_stream_finish(bt_decode_stream *t, char *dst)
{
    t->dst = dst;
    t->n_dst = 0;
    for (size_t i = 0; i < t->chain->n_ops; i++) finish_op(t, i);
    return t->n_dst;
}
