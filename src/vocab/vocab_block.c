/* SPDX-License-Identifier: Apache-2.0 */
/* vocab_block.c - a tokenizer's description laid out as a vocabulary block. */
#include "vocab/vocab_block.h"
#include "base/assert.h"
#include "base/mem.h"
#include "vocab/byte_level.h"
#include "vocab/spec.h"
#include <stdlib.h>
#include <string.h>

typedef struct build {
    const bt_spec *spec;
    bt__vocab_head head;
    char *block;   // the result
    uint32_t *off; // owned [n + 1]: of the tokens' bytes
    char *text;    // owned: the tokens' bytes
    size_t n_string; // bytes laid out so far
    bt_str space;    // the mark that decodes to a space; n == 0: none
    bool raw;        // pieces are in byte-level spelling
} build;

/* ---- What a token adds to the text. */

static void find_style(build *b)
{
    const bt_spec *s = b->spec;
    b->raw = s->n_chain && s->chain[0].kind == BT_CHAIN_BYTES;
    for (size_t i = 0; i < s->n_chain && !b->space.n; i++) {
        const bt_chain_step *step = &s->chain[i];
        if (step->kind == BT_CHAIN_METASPACE ||
            (step->kind == BT_CHAIN_REPLACE && bt_str_is(step->content, " ")))
            b->space = step->pattern;
    }
}

/* s with the mark as spaces. dst has room for s.n bytes. */
static size_t unescape_spaces(bt_str s, bt_str mark, char *dst)
{
    size_t len = 0;
    for (size_t i = 0; i < s.n;) {
        if (mark.n && s.n - i >= mark.n && memcmp(s.s + i, mark.s, mark.n) == 0) {
            dst[len++] = ' ';
            i += mark.n;
        } else {
            dst[len++] = s.s[i++];
        }
    }
    return len;
}

/* WordPiece: a space before what does not continue a word. BPE with a suffix: a space for it. */
static size_t word_bytes(const build *b, bt_str s, char *dst)
{
    for (size_t i = 0; i < b->spec->n_chain; i++) {
        const bt_chain_step *step = &b->spec->chain[i];
        bt_str p = step->pattern;
        if (step->kind == BT_CHAIN_WORDPIECE) {
            bool goes_on = p.n && s.n >= p.n && memcmp(s.s, p.s, p.n) == 0;
            if (!goes_on) *dst = ' ';
            memcpy(dst + !goes_on, s.s + (goes_on ? p.n : 0), s.n - (goes_on ? p.n : 0));
            return goes_on ? s.n - p.n : s.n + 1;
        }
        if (step->kind == BT_CHAIN_BPE && p.n && s.n >= p.n &&
            memcmp(s.s + s.n - p.n, p.s, p.n) == 0) {
            memcpy(dst, s.s, s.n - p.n);
            dst[s.n - p.n] = ' ';
            return s.n - p.n + 1;
        }
    }
    return unescape_spaces(s, b->space, dst);
}

/* What token i adds to the text, into dst (room for its piece and one byte more). */
static size_t token_bytes(const build *b, const bt_spec_piece *p, bt_str s, char *dst)
{
    size_t n;
    if (p->kind == BT_TOKEN_CONTROL || p->kind == BT_TOKEN_UNKNOWN || s.n == 0) return 0;
    if (p->kind == BT_TOKEN_BYTE && bt_spec_byte_of(s) >= 0) {
        dst[0] = (char)bt_spec_byte_of(s);
        return 1;
    }
    bool literal = p->kind == BT_TOKEN_USER || (b->raw && p->kind == BT_TOKEN_UNUSED);
    if (b->raw && !literal && bt__byte_level_decode(s.s, s.n, dst, &n)) return n;
    if (literal || b->raw) {
        memcpy(dst, s.s, s.n);
        return b->raw ? s.n : unescape_spaces(s, b->space, dst);
    }
    return word_bytes(b, s, dst);
}

static bt_status make_bytes(build *b, bt_err *err)
{
    const bt_spec *s = b->spec;
    size_t at = 0, total = s->text.len + s->n_pieces + 8;
    if (total > UINT32_MAX)
        return bt_spec_refuse(s, err, BT_EFORMAT, "the tokens hold more than 4 GiB of text");
    b->text = bt_malloc(total);
    b->off = bt_malloc((s->n_pieces + 1) * sizeof *b->off);
    if (!b->text || !b->off) return bt_spec_no_memory(s, err);
    for (size_t i = 0; i < s->n_pieces; i++) {
        bt_str piece = bt_spec_text(s, (int32_t)i);
        if (piece.n > BT_VOCAB_PIECE_BYTES_MAX)
            return bt_spec_refuse(s, err, BT_EFORMAT,
                                  "token %zu has %zu bytes; at most %d are allowed", i, piece.n,
                                  BT_VOCAB_PIECE_BYTES_MAX);
        b->off[i] = (uint32_t)at;
        size_t n = token_bytes(b, &s->piece[i], piece, b->text + at);
        at += n;
        b->head.n_piece += piece.n;
        b->head.piece_max = (uint32_t)BT_MAX(b->head.piece_max, BT_MAX(piece.n, n));
    }
    b->off[s->n_pieces] = (uint32_t)at;
    b->head.n_text = at;
    return BT_OK;
}

/* ---- Laying out. */

static uint64_t place(build *b, uint64_t bytes)
{
    uint64_t at = b->head.bytes;
    b->head.bytes = (at + bytes + 7) / 8 * 8;
    return at;
}

static void lay_out(build *b)
{
    const bt_spec *s = b->spec;
    bt__vocab_head *h = &b->head;
    uint64_t n = s->n_pieces;
    h->kind = s->kind;
    h->n = (int32_t)n;
    h->bos = s->bos;
    h->unk = s->unk;
    h->eos_token = s->eos_token;
    h->n_eos = (uint32_t)s->n_eos;
    h->n_prefix = (uint32_t)s->n_prefix;
    h->n_suffix = (uint32_t)s->n_suffix;
    memcpy(h->eos, s->eos, sizeof h->eos);
    memcpy(h->prefix, s->prefix, sizeof h->prefix);
    memcpy(h->suffix, s->suffix, sizeof h->suffix);
    h->n_steps = (uint32_t)s->n_chain;
    h->n_templates = (uint32_t)s->n_templates;
    h->n_named = (uint32_t)s->n_named;
    for (size_t i = 0; i < s->n_chain; i++)
        h->n_string += s->chain[i].pattern.n + s->chain[i].content.n + 2;
    for (size_t i = 0; i < s->n_templates; i++)
        h->n_string += s->template_name[i].n + s->template_text[i].n + 2;
    for (size_t i = 0; i < s->n_named; i++)
        h->n_string += s->named_name[i].n + s->named_text[i].n + 2;
    h->bytes = (sizeof *h + 7) / 8 * 8;
    h->piece_off = place(b, 4 * (n + 1));
    h->bytes_off = place(b, 4 * (n + 1));
    h->step = place(b, sizeof(bt__vocab_step) * h->n_steps);
    h->template = place(b, sizeof(bt__vocab_template) * (h->n_templates + h->n_named));
    h->token_kind = place(b, n);
    h->piece = place(b, h->n_piece);
    h->text = place(b, h->n_text);
    h->string = place(b, h->n_string);
}

static bt__vocab_string put_string(build *b, bt_str s)
{
    char *dst = b->block + b->head.string + b->n_string;
    bt__vocab_string at = {(uint32_t)b->n_string, (uint32_t)s.n};
    if (s.n) memcpy(dst, s.s, s.n);
    b->n_string += s.n + 1; // the block is zeroed
    return at;
}

static void fill_strings(build *b)
{
    const bt_spec *s = b->spec;
    bt__vocab_step *step = (bt__vocab_step *)(b->block + b->head.step);
    for (size_t i = 0; i < s->n_chain; i++) {
        const bt_chain_step *c = &s->chain[i];
        step[i] = (bt__vocab_step){.kind = c->kind,
                                   .start = c->start,
                                   .stop = c->stop,
                                   .flag = c->flag,
                                   .pattern = put_string(b, c->pattern),
                                   .content = put_string(b, c->content)};
    }
    bt__vocab_template *t = (bt__vocab_template *)(b->block + b->head.template);
    size_t first = 0; // the default one goes first
    while (first < s->n_templates && !bt_str_is(s->template_name[first], "default")) first++;
    for (size_t i = 0, at = 0; i < s->n_templates; i++) {
        size_t slot = i == first ? 0 : at + (first < s->n_templates);
        at += i != first;
        t[slot].name = put_string(b, s->template_name[i]);
        t[slot].text = put_string(b, s->template_text[i]);
    }
    t += s->n_templates;
    for (size_t i = 0; i < s->n_named; i++) {
        t[i].name = put_string(b, s->named_name[i]);
        t[i].text = put_string(b, s->named_text[i]);
    }
}

static void fill(build *b)
{
    const bt_spec *s = b->spec;
    const bt__vocab_head *h = &b->head;
    memcpy(b->block, h, sizeof *h);
    uint32_t *off = (uint32_t *)(b->block + h->piece_off), at = 0;
    char *piece = b->block + h->piece;
    for (size_t i = 0; i < s->n_pieces; i++) {
        bt_str text = bt_spec_text(s, (int32_t)i);
        off[i] = at;
        if (text.n) memcpy(piece + at, text.s, text.n);
        at += (uint32_t)text.n;
        b->block[h->token_kind + i] = (char)(s->piece[i].kind ? s->piece[i].kind : BT_TOKEN_UNUSED);
    }
    off[s->n_pieces] = at;
    memcpy(b->block + h->bytes_off, b->off, (s->n_pieces + 1) * sizeof *b->off);
    memcpy(b->block + h->text, b->text, h->n_text);
    fill_strings(b);
}

bt_status bt__vocab_block_build(const bt_spec *spec, bt__vocab_head **block, bt_err *err)
{
    build b = {.spec = spec};
    BT_ASSERT(spec->n_pieces > 0);
    find_style(&b);
    bt_status st = make_bytes(&b, err);
    if (!st) {
        lay_out(&b);
        b.block = bt_calloc(1, b.head.bytes);
        if (b.block)
            fill(&b);
        else
            st = bt_spec_no_memory(spec, err);
    }
    bt_free(b.off);
    bt_free(b.text);
    if (!st) *block = (bt__vocab_head *)b.block;
    return st;
}
