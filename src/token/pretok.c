/* SPDX-License-Identifier: Apache-2.0 */
/* pretok.c - the pre-tokenizers of the Rust `tokenizers` library, as steps that push.
 *
 * CUTS     A step that looks for something sees the text as spans, each found or not; the behavior
 * says what becomes of them (cut_put). Only a span or two are held at a time.
 * TEXT     Three steps change the text: ByteLevel and Metaspace put a character in front and spell
 * bytes or spaces anew. They write to buffers of their own, which live while the piece goes
 * through the steps behind. */
#include "token/pretok.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "vocab/byte_level.h"
#include "token/unicode/char_class.h"
#include "token/regex.h"
#include "vocab/spec_pre.h"
#include <string.h>

enum { BUFFER_BYTES_MAX = 1 << 30 };

typedef struct step {
    bt_split_kind kind;
    bt_split_behavior behavior;
    bt__regex *regex; // owned
    char *mark;       // owned: Metaspace's replacement
    size_t n_mark;
    uint32_t one; // the character of BT_SPLIT_CHAR
    bool invert, add_space, split;
    bt_prepend scheme;
    uint32_t length;
} step;

struct bt_pretok {
    bool raw;
    size_t n;
    step step[BT_SPEC_STEPS_MAX];
};

struct bt_pretok_state {
    bt__regex_match *match[BT_SPEC_STEPS_MAX];
    bt_buf text[BT_SPEC_STEPS_MAX], spelled[BT_SPEC_STEPS_MAX];
    size_t n;
};

typedef struct run {
    const bt_pretok *p;
    bt_pretok_state *s;
    bt_pretok_fn fn;
    void *ud;
    bt_err *err;
} run;

static bt_status no_memory(bt_err *err)
{
    return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the pre-tokenizer");
}

/* ---- Opening. */

static bt_status open_step(step *s, const bt_split_step *from, bt_err *err)
{
    uint32_t cp = 0;
    size_t n = from->pattern.n ? bt_utf8_decode(from->pattern.s, from->pattern.n, &cp) : 0;
    s->kind = from->kind;
    s->behavior = from->behavior;
    s->invert = from->invert;
    s->add_space = from->add_space;
    s->split = from->split;
    s->scheme = from->scheme;
    s->length = from->length;
    s->one = cp;
    switch (from->kind) {
    case BT_SPLIT_PATTERN: return bt__regex_open(from->pattern, from->regex, &s->regex, err);
    case BT_SPLIT_BYTE_LEVEL:
        if (!from->use_regex) return BT_OK;
        return bt__regex_open((bt_str){bt__pattern_gpt2, strlen(bt__pattern_gpt2)}, true, &s->regex,
                              err);
    case BT_SPLIT_METASPACE:
        if (n == 0 || n != from->pattern.n)
            return bt_err_set(err, BT_EFORMAT, 0, "Metaspace's replacement is not one character");
        s->mark = bt_strndup(from->pattern.s, n);
        s->n_mark = n;
        return s->mark ? BT_OK : no_memory(err);
    case BT_SPLIT_CHAR:
        if (n == 0 || n != from->pattern.n)
            return bt_err_set(err, BT_EFORMAT, 0, "the delimiter to split at is not one character");
        return BT_OK;
    case BT_SPLIT_LENGTH:
        if (from->length == 0)
            return bt_err_set(err, BT_EFORMAT, 0, "FixedLength with length 0 cuts nothing");
        return BT_OK;
    default: return BT_OK;
    }
}

bt_status bt_pretok_open(const bt_split_step *from, size_t n, bool raw, bt_pretok **out,
                         bt_err *err)
{
    bt_pretok *p = bt_calloc(1, sizeof *p);
    if (!p) return no_memory(err);
    BT_ASSERT(n <= BT_SPEC_STEPS_MAX);
    p->raw = raw;
    bt_status st = BT_OK;
    for (; !st && p->n < n; p->n++) st = open_step(&p->step[p->n], &from[p->n], err);
    if (st) {
        bt_pretok_close(p);
        return st;
    }
    *out = p;
    return BT_OK;
}

void bt_pretok_close(bt_pretok *p)
{
    if (!p) return;
    for (size_t i = 0; i < p->n; i++) {
        bt__regex_close(p->step[i].regex);
        bt_free(p->step[i].mark);
    }
    bt_free(p);
}

bt_status bt_pretok_state_open(const bt_pretok *p, bt_pretok_state **out, bt_err *err)
{
    bt_pretok_state *s = bt_calloc(1, sizeof *s);
    if (!s) return no_memory(err);
    bt_status st = BT_OK;
    for (s->n = 0; !st && s->n < p->n; s->n++) {
        s->text[s->n].max_bytes = s->spelled[s->n].max_bytes = BUFFER_BYTES_MAX;
        if (p->step[s->n].regex)
            st = bt__regex_match_open(p->step[s->n].regex, &s->match[s->n], err);
    }
    if (st) {
        bt_pretok_state_close(s);
        return st;
    }
    *out = s;
    return BT_OK;
}

void bt_pretok_state_close(bt_pretok_state *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n; i++) {
        bt__regex_match_close(s->match[i]);
        bt_buf_release(&s->text[i]);
        bt_buf_release(&s->spelled[i]);
    }
    bt_free(s);
}

void bt_pretok_state_trim(bt_pretok_state *s, size_t keep_bytes)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->text[i].cap > keep_bytes) bt_buf_release(&s->text[i]);
        if (s->spelled[i].cap > keep_bytes) bt_buf_release(&s->spelled[i]);
    }
}

/* ---- Cutting. */

static bt_status run_from(const run *r, size_t at, const char *text, size_t n, bool first);

typedef struct cutter {
    const run *r;
    size_t next; // the step that pieces go to
    const char *text;
    bool first;
    bt_split_behavior behavior;
    bool held, held_found; // a span that may still grow
    size_t start, end;
} cutter;

static bt_status cut_emit(const cutter *c, size_t start, size_t end)
{
    if (start == end) return BT_OK;
    return run_from(c->r, c->next, c->text + start, end - start, c->first && start == 0);
}

static bt_status cut_end(cutter *c)
{
    bt_status st = c->held ? cut_emit(c, c->start, c->end) : BT_OK;
    c->held = false;
    return st;
}

/* The next span of the text, found or between. */
static bt_status cut_put(cutter *c, size_t start, size_t end, bool found)
{
    bool join = false;
    switch (c->behavior) {
    case BT_SPLIT_REMOVED: return found ? BT_OK : cut_emit(c, start, end);
    case BT_SPLIT_ISOLATED: return cut_emit(c, start, end);
    case BT_SPLIT_CONTIGUOUS: join = c->held && c->held_found == found; break;
    case BT_SPLIT_MERGED_WITH_PREVIOUS: join = c->held && found && !c->held_found; break;
    case BT_SPLIT_MERGED_WITH_NEXT: join = c->held && !found && c->held_found; break;
    }
    bt_status st = join ? BT_OK : cut_end(c);
    if (!join) c->start = start;
    c->end = end;
    c->held = true;
    c->held_found = found;
    return st;
}

static bt_status cut_pattern(const run *r, size_t at, const char *text, size_t n, bool first)
{
    const step *s = &r->p->step[at];
    cutter c = {r, at + 1, text, first, s->behavior, false, false, 0, 0};
    bt__regex_walk walk = {0, SIZE_MAX};
    size_t done = 0, start, end;
    for (;;) {
        bt_status st =
            bt__regex_walk_next(s->regex, r->s->match[at], text, n, &walk, &start, &end, r->err);
        if (!st && start == SIZE_MAX) break;
        if (!st && start > done) st = cut_put(&c, done, start, s->invert);
        if (!st) st = cut_put(&c, start, end, !s->invert);
        if (st) return st;
        done = end;
    }
    bt_status st = done < n ? cut_put(&c, done, n, s->invert) : BT_OK;
    return st ? st : cut_end(&c);
}

typedef bool (*char_test)(const step *s, uint32_t cp);

static bool test_space(const step *s, uint32_t cp)
{
    (void)s;
    return bt__char_is_space(cp);
}
static bool test_punct(const step *s, uint32_t cp)
{
    (void)s;
    return bt__char_is_punct(cp);
}
static bool test_number(const step *s, uint32_t cp)
{
    (void)s;
    return bt__char_is_number(cp);
}
static bool test_one(const step *s, uint32_t cp)
{
    return s->one == cp;
}

/* Each character that passes the test is a span of its own. */
static bt_status cut_chars(const run *r, size_t at, const char *text, size_t n, bool first,
                           char_test test, bt_split_behavior behavior)
{
    cutter c = {r, at + 1, text, first, behavior, false, false, 0, 0};
    bt_status st = BT_OK;
    size_t done = 0;
    for (size_t i = 0; !st && i < n;) {
        uint32_t cp = 0;
        size_t len = bt_utf8_decode(text + i, n - i, &cp);
        BT_ASSERT(len > 0);
        if (test(&r->p->step[at], cp)) {
            if (i > done) st = cut_put(&c, done, i, false);
            if (!st) st = cut_put(&c, i, i + len, true);
            done = i + len;
        }
        i += len;
    }
    if (!st && done < n) st = cut_put(&c, done, n, false);
    return st ? st : cut_end(&c);
}

/* Runs of characters of one class; class 0 is left out. `alone`: characters of this class are words
 * by themselves. */
typedef int (*char_class)(uint32_t cp);

static int class_words(uint32_t cp)
{
    return bt__char_is_word(cp) ? 1 : bt__char_is_space(cp) ? 0 : 2;
}
static int class_bert(uint32_t cp)
{
    return bt__char_is_space(cp) ? 0 : bt__char_is_punct(cp) ? 2 : 1;
}

static bt_status cut_classes(const run *r, size_t at, const char *text, size_t n, bool first,
                             char_class class_of, int alone)
{
    bt_status st = BT_OK;
    int last = 0;
    size_t start = 0;
    for (size_t i = 0; !st && i < n;) {
        uint32_t cp = 0;
        size_t len = bt_utf8_decode(text + i, n - i, &cp);
        BT_ASSERT(len > 0);
        int class = class_of(cp);
        if (class != last || class == alone) {
            if (last) st = run_from(r, at + 1, text + start, i - start, first && start == 0);
            start = i;
            last = class;
        }
        i += len;
    }
    if (!st && last) st = run_from(r, at + 1, text + start, n - start, first && start == 0);
    return st;
}

static bt_status cut_scripts(const run *r, size_t at, const char *text, size_t n, bool first)
{
    bt_status st = BT_OK;
    uint32_t last = 0;
    size_t start = SIZE_MAX; // what is before the first script is left out, as the library does
    for (size_t i = 0; !st && i < n;) {
        uint32_t cp = 0;
        size_t len = bt_utf8_decode(text + i, n - i, &cp);
        BT_ASSERT(len > 0);
        uint32_t script = bt__char_script_of(cp);
        if (script && script != last) {
            if (start != SIZE_MAX)
                st = run_from(r, at + 1, text + start, i - start, first && start == 0);
            start = i;
            last = script;
        }
        i += len;
    }
    if (st || start == SIZE_MAX) return st;
    return run_from(r, at + 1, text + start, n - start, first && start == 0);
}

static bt_status cut_length(const run *r, size_t at, const char *text, size_t n, bool first)
{
    bt_status st = BT_OK;
    for (size_t start = 0, i = 0; !st && start < n; start = i) {
        for (uint32_t k = 0; k < r->p->step[at].length && i < n; k++) {
            uint32_t cp;
            i += bt_utf8_decode(text + i, n - i, &cp);
        }
        st = run_from(r, at + 1, text + start, i - start, first && start == 0);
    }
    return st;
}

/* ---- Steps that change the text. */

static bt_status byte_piece(const run *r, size_t at, const char *text, size_t start, size_t end,
                            bool first)
{
    size_t n = end - start;
    const char *s = text + start;
    bt_buf *out = &r->s->spelled[at];
    if (n == 0) return BT_OK;
    first = first && start == 0;
    if (r->p->raw) return run_from(r, at + 1, s, n, first);
    bt_buf_clear(out);
    if (!bt_buf_reserve(out, 2 * n)) return no_memory(r->err);
    bt__byte_level_encode(s, n, out->data, &out->len);
    return run_from(r, at + 1, out->data, out->len, first);
}

static bt_status cut_byte_level(const run *r, size_t at, const char *text, size_t n, bool first)
{
    const step *s = &r->p->step[at];
    if (s->add_space && text[0] != ' ') {
        bt_buf *out = &r->s->text[at];
        bt_buf_clear(out);
        bt_buf_addc(out, ' ');
        bt_buf_add(out, text, n);
        if (out->failed) return no_memory(r->err);
        text = out->data;
        n = out->len;
    }
    bt__regex_walk walk = {0, SIZE_MAX};
    size_t done = 0, start, end;
    bt_status st = BT_OK;
    while (s->regex) {
        st = bt__regex_walk_next(s->regex, r->s->match[at], text, n, &walk, &start, &end, r->err);
        if (st || start == SIZE_MAX) break;
        st = byte_piece(r, at, text, done, start, first);
        if (!st) st = byte_piece(r, at, text, start, end, first);
        if (st) break;
        done = end;
    }
    return st ? st : byte_piece(r, at, text, done, n, first);
}

static bt_status cut_metaspace(const run *r, size_t at, const char *text, size_t n, bool first)
{
    const step *s = &r->p->step[at];
    bt_buf *out = &r->s->text[at];
    bool marked = n >= s->n_mark && memcmp(text, s->mark, s->n_mark) == 0;
    bt_buf_clear(out);
    bool wanted = s->scheme == BT_PREPEND_ALWAYS || (s->scheme == BT_PREPEND_FIRST && first);
    if (wanted && !marked && text[0] != ' ') bt_buf_add(out, s->mark, s->n_mark);
    for (size_t i = 0; i < n;) {
        const char *space = memchr(text + i, ' ', n - i);
        size_t stop = space ? (size_t)(space - text) : n;
        bt_buf_add(out, text + i, stop - i);
        if (space) bt_buf_add(out, s->mark, s->n_mark);
        i = stop + (space != NULL);
    }
    if (out->failed) return no_memory(r->err);
    if (!s->split) return run_from(r, at + 1, out->data, out->len, first);
    cutter c = {r, at + 1, out->data, first, BT_SPLIT_MERGED_WITH_NEXT, false, false, 0, 0};
    bt_status st = BT_OK;
    size_t done = 0;
    for (size_t i = 0; !st && i + s->n_mark <= out->len;) {
        if (out->data[i] != s->mark[0] || memcmp(out->data + i, s->mark, s->n_mark) != 0) {
            i++;
            continue;
        }
        if (i > done) st = cut_put(&c, done, i, false);
        if (!st) st = cut_put(&c, i, i + s->n_mark, true);
        done = i += s->n_mark;
    }
    if (!st && done < out->len) st = cut_put(&c, done, out->len, false);
    return st ? st : cut_end(&c);
}

static bt_status run_from(const run *r, size_t at, const char *text, size_t n, bool first)
{
    if (at == r->p->n) return r->fn(r->ud, text, n, r->err);
    const step *s = &r->p->step[at];
    switch (s->kind) {
    case BT_SPLIT_PATTERN: return cut_pattern(r, at, text, n, first);
    case BT_SPLIT_BYTE_LEVEL: return cut_byte_level(r, at, text, n, first);
    case BT_SPLIT_METASPACE: return cut_metaspace(r, at, text, n, first);
    case BT_SPLIT_WHITESPACE: return cut_chars(r, at, text, n, first, test_space, BT_SPLIT_REMOVED);
    case BT_SPLIT_WORDS: return cut_classes(r, at, text, n, first, class_words, 0);
    case BT_SPLIT_BERT: return cut_classes(r, at, text, n, first, class_bert, 2);
    case BT_SPLIT_PUNCTUATION: return cut_chars(r, at, text, n, first, test_punct, s->behavior);
    case BT_SPLIT_DIGITS: return cut_chars(r, at, text, n, first, test_number, s->behavior);
    case BT_SPLIT_CHAR: return cut_chars(r, at, text, n, first, test_one, BT_SPLIT_REMOVED);
    case BT_SPLIT_SCRIPTS: return cut_scripts(r, at, text, n, first);
    case BT_SPLIT_LENGTH: return cut_length(r, at, text, n, first);
    }
    return BT_OK;
}

bt_status bt_pretok_run(const bt_pretok *p, bt_pretok_state *s, const char *text, size_t n,
                        bool first, bt_pretok_fn fn, void *ud, bt_err *err)
{
    run r = {p, s, fn, ud, err};
    return n ? run_from(&r, 0, text, n, first) : BT_OK;
}
