/* SPDX-License-Identifier: Apache-2.0 */
/* normalize.c - the normalizers of the Rust `tokenizers` library, as a list of steps over two
 * buffers in turns. */
#include "token/normalize.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "vocab/byte_level.h"
#include "token/unicode/char_class.h"
#include "token/charsmap.h"
#include "token/normalize_bert.h"
#include "token/normalize_nf.h"
#include "token/regex.h"
#include <string.h>

enum { BUFFER_BYTES_MAX = 1 << 30 };

typedef struct step {
    bt_normal_kind kind;
    bt__regex *regex; // owned
    bt_charsmap *map; // owned
    bt_charsmap_rule rule;
    char *content; // owned
    size_t n_content;
    bool left, right;
    bt_bert_normalizer bert;
} step;

struct bt_normalize {
    size_t n;
    step step[BT_SPEC_STEPS_MAX];
};

struct bt_normalize_state {
    bt_buf text[2];
    bool moved; // the text that ran last lost its beginning
    bt__regex_match *match[BT_SPEC_STEPS_MAX];
    size_t n;
    bt__nf_scratch nf;
    bt_bert_scratch bert;
};

static bt_status no_memory(bt_err *err)
{
    return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the normalizer");
}

static bt_status open_step(step *s, const bt_normal_step *from, bt_err *err)
{
    static const bt_tristate accents[] = {[BT_ACCENTS_AS_CASE] = BT_TRISTATE_DEFAULT,
                                          [BT_ACCENTS_KEEP] = BT_TRISTATE_NO,
                                          [BT_ACCENTS_STRIP] = BT_TRISTATE_YES};
    s->kind = from->kind;
    s->left = from->left;
    s->right = from->right;
    s->rule = from->longest ? BT_CHARSMAP_LONGEST : BT_CHARSMAP_CLUSTERS;
    s->bert = (bt_bert_normalizer){.clean_text = from->clean_text,
                                   .handle_chinese_chars = from->chinese,
                                   .strip_accents = accents[from->accents],
                                   .lowercase = from->lowercase};
    if (from->content.n) {
        s->content = bt_strndup(from->content.s, from->content.n);
        s->n_content = from->content.n;
        if (!s->content) return no_memory(err);
    }
    if (from->kind == BT_NORMAL_CHARSMAP)
        return bt_charsmap_open(from->pattern.s, from->pattern.n, &s->map, err);
    if (from->kind == BT_NORMAL_REPLACE)
        return bt__regex_open(from->pattern, from->regex, &s->regex, err);
    return BT_OK;
}

bt_status bt_normalize_open(const bt_normal_step *from, size_t n, bt_normalize **out, bt_err *err)
{
    bt_normalize *p = bt_calloc(1, sizeof *p);
    if (!p) return no_memory(err);
    BT_ASSERT(n <= BT_SPEC_STEPS_MAX);
    bt_status st = BT_OK;
    for (; !st && p->n < n; p->n++) st = open_step(&p->step[p->n], &from[p->n], err);
    if (st) {
        bt_normalize_close(p);
        return st;
    }
    *out = p;
    return BT_OK;
}

void bt_normalize_close(bt_normalize *p)
{
    if (!p) return;
    for (size_t i = 0; i < p->n; i++) {
        bt__regex_close(p->step[i].regex);
        bt_charsmap_close(p->step[i].map);
        bt_free(p->step[i].content);
    }
    bt_free(p);
}

bt_status bt_normalize_state_open(const bt_normalize *p, bt_normalize_state **out, bt_err *err)
{
    bt_normalize_state *s = bt_calloc(1, sizeof *s);
    if (!s) return no_memory(err);
    s->text[0].max_bytes = s->text[1].max_bytes = BUFFER_BYTES_MAX;
    bt_status st = BT_OK;
    for (s->n = 0; !st && s->n < p->n; s->n++)
        if (p->step[s->n].regex)
            st = bt__regex_match_open(p->step[s->n].regex, &s->match[s->n], err);
    if (st) {
        bt_normalize_state_close(s);
        return st;
    }
    *out = s;
    return BT_OK;
}

void bt_normalize_state_close(bt_normalize_state *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n; i++) bt__regex_match_close(s->match[i]);
    bt_buf_release(&s->text[0]);
    bt_buf_release(&s->text[1]);
    bt__nf_scratch_release(&s->nf);
    bt_bert_scratch_release(&s->bert);
    bt_free(s);
}

void bt_normalize_state_trim(bt_normalize_state *s, size_t keep_bytes)
{
    for (int i = 0; i < 2; i++)
        if (s->text[i].cap > keep_bytes) bt_buf_release(&s->text[i]);
    if (s->nf.cap * 2 * sizeof *s->nf.cp > keep_bytes) bt__nf_scratch_release(&s->nf);
    if (s->bert.cap * 2 * sizeof *s->bert.cp > keep_bytes) bt_bert_scratch_release(&s->bert);
}

/* Both ends without white space: a part of s. */
static void strip(const step *x, const char **s, size_t *n)
{
    uint32_t cp;
    while (x->left && *n) {
        size_t step_bytes = bt_utf8_decode(*s, *n, &cp);
        if (!bt__char_is_space(cp)) break;
        *s += step_bytes;
        *n -= step_bytes;
    }
    while (x->right && *n) {
        size_t at = *n - 1;
        while (at > 0 && bt_utf8_is_tail((*s)[at])) at--;
        bt_utf8_decode(*s + at, *n - at, &cp);
        if (!bt__char_is_space(cp)) break;
        *n = at;
    }
}

/* Bytes of the first character. */
static size_t first_bytes(const char *s, size_t n)
{
    uint32_t cp;
    return bt_utf8_decode(s, n, &cp);
}

/* *same: nothing was found, so that s stays as it is. The library takes what stands for several
 * characters to be in the place of the last of them. */
static bt_status replace(const step *x, bt__regex_match *m, const char *s, size_t n, bt_buf *out,
                         bool *same, bool *moved, bt_stop *stop, bt_err *err)
{
    bt__regex_walk walk = {0, SIZE_MAX};
    size_t done = 0, start, end;
    *same = true;
    if (n == 0) return BT_OK;
    for (;;) {
        bt_status st = bt__regex_walk_next(x->regex, m, s, n, &walk, &start, &end, err);
        if (st) return st;
        if (start == SIZE_MAX) break;
        if (bt_stop_after(stop, end - done)) return bt_stop_why(stop, err);
        *same = false;
        if (start == 0 && end > 0) *moved |= !x->n_content || end > first_bytes(s, n);
        bt_buf_add(out, s + done, start - done);
        bt_buf_add(out, x->content, x->n_content);
        done = end;
    }
    if (!*same) bt_buf_add(out, s + done, n - done);
    return BT_OK;
}

static void filter(const step *x, bt_normalize_state *st, const char *s, size_t n, bt_buf *out)
{
    if (x->kind == BT_NORMAL_BERT)
        bt_normalize_bert(&x->bert, &st->bert, s, n, out);
    else if (x->kind == BT_NORMAL_NMT)
        bt_normalize_nmt(s, n, out);
    else
        bt_normalize_strip_accents(s, n, out);
}

/* One step from s to out; *same: s stays (perhaps a part of it). */
static bt_status run_step(const bt_normalize *p, bt_normalize_state *st, size_t i, const char **s,
                          size_t *n, bt_buf *out, bool *same, bt_stop *stop, bt_err *err)
{
    const step *x = &p->step[i];
    bt__nf form = (bt__nf)((int)x->kind - BT_NORMAL_NFC);
    *same = false;
    switch (x->kind) {
    case BT_NORMAL_NFC:
    case BT_NORMAL_NFD:
    case BT_NORMAL_NFKC:
    case BT_NORMAL_NFKD:
        *same = bt__nf_quick(form, *s, *n);
        if (!*same && !bt__nf_append(form, &st->nf, *s, *n, out)) return no_memory(err);
        break;
    case BT_NORMAL_BERT:
    case BT_NORMAL_NMT:
    case BT_NORMAL_STRIP_ACCENTS:
        filter(x, st, *s, first_bytes(*s, *n), out);
        st->moved |= *n > 0 && out->len == 0;
        bt_buf_clear(out);
        filter(x, st, *s, *n, out);
        break;
    case BT_NORMAL_STRIP: {
        const char *before = *s;
        *same = true;
        strip(x, s, n);
        st->moved |= *s != before;
        break;
    }
    case BT_NORMAL_LOWERCASE: bt_normalize_lowercase(*s, *n, out); break;
    case BT_NORMAL_CHARSMAP: bt_charsmap_apply(x->map, x->rule, *s, *n, out); break;
    case BT_NORMAL_REPLACE:
        return replace(x, st->match[i], *s, *n, out, same, &st->moved, stop, err);
    case BT_NORMAL_PREPEND:
        *same = *n == 0;
        if (*same) break;
        bt_buf_add(out, x->content, x->n_content);
        bt_buf_add(out, *s, *n);
        break;
    case BT_NORMAL_BYTE_LEVEL:
        if (!bt_buf_reserve(out, 2 * *n)) break;
        out->len = 0;
        bt__byte_level_encode(*s, *n, out->data, &out->len);
        break;
    }
    return BT_OK;
}

bt_status bt_normalize_run(const bt_normalize *p, bt_normalize_state *s, const char **text,
                           size_t *n, bt_stop *stop, bt_err *err)
{
    int turn = 0;
    s->moved = false;
    for (size_t i = 0; i < p->n; i++) {
        bool same;
        bt_buf *out = &s->text[turn];
        bt_buf_clear(out);
        bt_status st = run_step(p, s, i, text, n, out, &same, stop, err);
        if (!st && bt_stop_after(stop, *n)) st = bt_stop_why(stop, err);
        if (!st && out->failed) st = no_memory(err);
        if (st) return st;
        if (same) continue;
        *text = out->len ? out->data : "";
        *n = out->len;
        turn = !turn;
    }
    return BT_OK;
}

bool bt_normalize_moved(const bt_normalize_state *s)
{
    return s->moved;
}
