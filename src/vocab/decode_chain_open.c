/* SPDX-License-Identifier: Apache-2.0 */
/* decode_chain_open.c - a decoder's steps to machines, and how much room each needs. */
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "vocab/decode_chain_parts.h"
#include <string.h>

static const char *const cleanup[][2] = {
    {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
    {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
    {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
};

/* Knuth, Morris and Pratt's failure table. */
static void set_fail(bt__op *o)
{
    uint8_t k = 0;
    o->fail[0] = 0;
    for (size_t i = 1; i < o->n_pattern; i++) {
        while (k && o->pattern[i] != o->pattern[k]) k = o->fail[k - 1];
        if (o->pattern[i] == o->pattern[k]) k++;
        o->fail[i] = k;
    }
}

static bt__op *add(bt_decode_chain *c, bt__op_kind kind, bt_str pattern, bt_str content)
{
    bt__op *o = &c->op[c->n_ops++];
    *o = (bt__op){.kind = kind, .n_pattern = (uint8_t)pattern.n, .n_content = (uint8_t)content.n};
    if (pattern.n) memcpy(o->pattern, pattern.s, pattern.n);
    if (content.n) memcpy(o->content, content.s, content.n);
    if (kind == BT__OP_REPLACE) set_fail(o);
    return o;
}

static bt_str str(const char *s)
{
    return (bt_str){s, strlen(s)};
}

static void add_cleanup(bt_decode_chain *c)
{
    for (size_t i = 0; i < BT_COUNT(cleanup); i++)
        add(c, BT__OP_REPLACE, str(cleanup[i][0]), str(cleanup[i][1]));
}

/* fused: what the step is given is one token. Returns whether what it gives is. */
static bool add_step(bt_decode_chain *c, const bt_chain_step *s, bool fused)
{
    const bt_str none = {"", 0}, space = {" ", 1};
    switch (s->kind) {
    case BT_CHAIN_BYTE_LEVEL:
        add(c, OP_BYTE_MAP, none, none);
        add(c, BT__OP_LOSSY, none, none);
        return true;
    case BT_CHAIN_BYTES: add(c, BT__OP_LOSSY, none, none); return true;
    case BT_CHAIN_BYTE_FALLBACK: add(c, BT__OP_RUN, none, none); break;
    case BT_CHAIN_WORDPIECE:
        add(c, BT__OP_SPACE, s->pattern, none);
        if (s->flag) add_cleanup(c);
        break;
    case BT_CHAIN_METASPACE:
        add(c, BT__OP_REPLACE, s->pattern, space)->drop_in_first = s->flag;
        break;
    case BT_CHAIN_FUSE: add(c, BT__OP_FUSE, none, none); return true;
    case BT_CHAIN_STRIP: {
        bt__op *o = add(c, BT__OP_STRIP, s->pattern, none);
        o->start = s->start;
        o->stop = s->stop;
        break;
    }
    case BT_CHAIN_REPLACE: add(c, BT__OP_REPLACE, s->pattern, s->content); break;
    case BT_CHAIN_BPE: add(c, fused ? BT__OP_REPLACE : BT__OP_LAST, s->pattern, none); break;
    case BT_CHAIN_CTC:
        if (!fused) add(c, BT__OP_DEDUP, none, none);
        if (s->pattern.n) add(c, BT__OP_REPLACE, s->pattern, none);
        if (s->flag) {
            add_cleanup(c);
            add(c, BT__OP_REPLACE, s->content, space);
        }
        add(c, BT__OP_NONEMPTY, none, none);
        break;
    case BT_CHAIN_JOIN: add(c, BT__OP_JOIN, none, none); break;
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
static size_t bound(bt__op *o, size_t in, size_t *tokens)
{
    size_t held = o->n_pattern ? o->n_pattern - 1u : 0;
    switch (o->kind) {
    case BT__OP_FUSE: *tokens = 1; return in;
    case BT__OP_LOSSY: *tokens = 1; return (in + BT__TAIL_MAX) * BT__REPLACEMENT_BYTES;
    case OP_BYTE_MAP: o->cap = in; return in;
    case BT__OP_RUN:
        *tokens += BT_CHAIN_RUN_BYTES;
        return (in + BT_CHAIN_RUN_BYTES + BT__BYTE_TOKEN_BYTES) * BT__REPLACEMENT_BYTES;
    case BT__OP_SPACE: return in + held + *tokens;
    case BT__OP_JOIN: return in + *tokens;
    case BT__OP_REPLACE: {
        size_t grown = BT_MAX(o->n_content, (uint8_t)1) + o->n_pattern - 1u;
        return (in + held) * (grown / o->n_pattern);
    }
    case BT__OP_STRIP: return in + (size_t)o->n_pattern * (o->stop + 1);
    case BT__OP_LAST:
        o->cap = in;
        *tokens += 1;
        return 2 * in;
    case BT__OP_DEDUP: o->cap = 2 * in; return in;
    case BT__OP_NONEMPTY: return in;
    }
    return in;
}

/* Which shortcut there is; see quick in decode_chain.c. */
static void set_quick(bt_decode_chain *c)
{
    size_t n_replace = 0;
    bool spaces = c->op[0].kind == BT__OP_SPACE, plain = !spaces;
    for (size_t i = 0; i + 1 < c->n_ops; i++) {
        const bt__op *o = &c->op[i];
        bool replace = o->kind == BT__OP_REPLACE && !o->fused;
        bool one_byte = o->kind == BT__OP_STRIP && o->fused && o->stop == 0 && o->n_pattern == 1;
        c->quick_runs = c->quick_runs || o->kind == BT__OP_RUN;
        plain = plain && (replace || one_byte || o->kind == BT__OP_RUN || o->kind == BT__OP_FUSE);
        if (i > 0) spaces = spaces && replace && o->n_pattern > 1 && o->pattern[0] == ' ';
        if (i > 0 && spaces) c->after[(unsigned char)o->pattern[1]] = true;
        if (!replace) continue;
        n_replace++;
        c->quick_op = (uint32_t)i;
        plain = plain && o->n_content > 0 && o->content[0] != '<';
    }
    c->quick = spaces                    ? BT__QUICK_SPACE
               : !plain || n_replace > 1 ? BT__QUICK_NONE
               : n_replace               ? BT__QUICK_REPLACE
                                         : BT__QUICK_COPY;
}

bt_status bt_decode_chain_open(const bt_chain_step *step, size_t n, size_t token_max,
                               bt_decode_chain **out, bt_err *err)
{
    if (n > BT_CHAIN_STEPS_MAX)
        return bt_err_set(err, BT_EINVAL, 0, "the decoder has %zu steps; at most %d can be used", n,
                          BT_CHAIN_STEPS_MAX);
    size_t ops = n * BT__OPS_A_STEP_MAX + 1;
    bt_decode_chain *c = bt_calloc(1, sizeof *c + ops * sizeof(bt__op));
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
    if (c->n_ops == 0 || c->op[c->n_ops - 1].kind != BT__OP_LOSSY) add(c, BT__OP_LOSSY, none, none);
    size_t bytes = token_max, tokens = 1;
    fused = false;
    for (size_t i = 0; i < c->n_ops; i++) {
        bt__op *o = &c->op[i];
        o->fused = fused;
        o->at = c->buffers;
        bytes = bound(o, bytes, &tokens);
        c->buffers += o->cap;
        fused = fused || o->kind == BT__OP_FUSE || o->kind == BT__OP_LOSSY;
        if (bytes > BT_CHAIN_ROOM_MAX || c->buffers > BT_CHAIN_ROOM_MAX) {
            st = bt_err_set(err, BT_EUNSUPPORTED, 0,
                            "the decoder could make %zu bytes of one token of %zu", bytes,
                            token_max);
            goto done;
        }
    }
    c->token_max = token_max;
    c->room = bytes;
    set_quick(c);
    bt_decode_chain *exact = bt_realloc(c, sizeof *c + c->n_ops * sizeof(bt__op));
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
