/* SPDX-License-Identifier: Apache-2.0 */
/* normalize_bert.c - character by character into the buffer.
 *
 * Stripping accents is canonical decomposition less the non-spacing marks. Marks are put in order
 * by their class, but those that are dropped need no order: only a run of kept ones (there are few
 * such characters) waits until a starter comes, and is sorted then; a long one by counting, since
 * a hostile text may consist of them. */
#include "token/normalize_bert.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "token/normalize_nf.h"
#include "token/unicode/unicode_ranges.h"
#include <utf8proc.h>

enum { DECOMPOSED_MAX = 8, YOUNG_COMPOSITE = 0x11938 };

typedef struct writer {
    const bt_bert_normalizer *o;
    bt_bert_scratch *x;
    size_t n_run; // marks that wait, in x->cp
    bool strip;
    bt_buf *out;
} writer;

void bt_bert_scratch_release(bt_bert_scratch *x)
{
    bt_free(x->cp);
    bt_free(x->tmp);
    *x = (bt_bert_scratch){0};
}

static void add_char(bt_buf *out, uint32_t cp)
{
    char s[4];
    bt_buf_add(out, s, bt_utf8_encode(cp, s));
}

static void add_lower(bt_buf *out, uint32_t cp)
{
    uint32_t lower[2];
    size_t n = bt__lowercase(cp, lower);
    for (size_t i = 0; i < n; i++) add_char(out, lower[i]);
}

static int class_of(int32_t cp)
{
    if (cp < 0x300 || bt__is_young_mark((uint32_t)cp)) return 0;
    return utf8proc_get_property(cp)->combining_class;
}

static void put_cased(writer *w, uint32_t cp)
{
    if (w->o->lowercase)
        add_lower(w->out, cp);
    else
        add_char(w->out, cp);
}

static void flush_run(writer *w)
{
    if (w->n_run == 0) return;
    bt__nf_sort_marks(w->x->cp, w->n_run, w->x->tmp);
    for (size_t i = 0; i < w->n_run; i++) put_cased(w, (uint32_t)w->x->cp[i]);
    w->n_run = 0;
}

static void keep_mark(writer *w, int32_t cp)
{
    if (w->n_run == w->x->cap) {
        size_t cap = BT_MAX(w->x->cap * 2, (size_t)64);
        int32_t *a = bt_realloc(w->x->cp, cap * sizeof *a);
        if (a) w->x->cp = a;
        int32_t *b = bt_realloc(w->x->tmp, cap * sizeof *b);
        if (b) w->x->tmp = b;
        if (!a || !b) {
            w->out->failed = true;
            return;
        }
        w->x->cap = cap;
    }
    w->x->cp[w->n_run++] = cp;
}

/* One character behind the cleaning steps. */
static void put(writer *w, uint32_t cp)
{
    if (!w->strip || cp < 0x80) {
        flush_run(w);
        put_cased(w, cp);
        return;
    }
    utf8proc_int32_t part[DECOMPOSED_MAX];
    utf8proc_ssize_t n = 1;
    part[0] = (utf8proc_int32_t)cp;
    if (cp != YOUNG_COMPOSITE)
        n = utf8proc_decompose_char((utf8proc_int32_t)cp, part, DECOMPOSED_MAX,
                                    (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE),
                                    NULL);
    BT_ASSERT(n > 0 && n <= DECOMPOSED_MAX);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        bool starter = class_of(part[i]) == 0;
        if (starter) flush_run(w);
        if (bt__is_bert_mark((uint32_t)part[i])) continue;
        if (starter)
            put_cased(w, (uint32_t)part[i]);
        else
            keep_mark(w, part[i]);
    }
}

static bool is_white_space(uint32_t cp)
{
    return cp == ' ' || cp == '\t' || cp == '\n' || cp == '\r' || cp == 0xA0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F ||
           cp == 0x205F || cp == 0x3000;
}

/* The library's ranges, of which the fifth begins 0x100 late. */
static bool is_chinese(uint32_t cp)
{
    return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) ||
           (cp >= 0x20000 && cp <= 0x2A6DF) || (cp >= 0x2A700 && cp <= 0x2B81F) ||
           (cp >= 0x2B920 && cp <= 0x2CEAF) || (cp >= 0xF900 && cp <= 0xFAFF) ||
           (cp >= 0x2F800 && cp <= 0x2FA1F);
}

/* The character at s[*at], which moves past it. */
static uint32_t next_char(const char *s, size_t n, size_t *at)
{
    uint32_t cp = 0;
    size_t step = bt_utf8_decode(s + *at, n - *at, &cp);
    BT_ASSERT(step > 0);
    *at += step;
    return cp;
}

void bt_normalize_bert(const bt_bert_normalizer *o, bt_bert_scratch *x, const char *s, size_t n,
                       bt_buf *out)
{
    bool strip = o->strip_accents == BT_TRISTATE_YES ||
                 (o->strip_accents == BT_TRISTATE_DEFAULT && o->lowercase);
    writer w = {.o = o, .x = x, .strip = strip, .out = out};
    for (size_t i = 0; i < n && !out->failed;) {
        uint32_t cp = next_char(s, n, &i);
        if (o->clean_text) {
            if (bt__is_bert_control(cp)) continue;
            if (is_white_space(cp)) cp = ' ';
        }
        bool apart = o->handle_chinese_chars && cp >= 0x3400 && is_chinese(cp);
        if (apart) put(&w, ' ');
        put(&w, cp);
        if (apart) put(&w, ' ');
    }
    flush_run(&w);
}

void bt_normalize_lowercase(const char *s, size_t n, bt_buf *out)
{
    for (size_t i = 0; i < n && !out->failed;) add_lower(out, next_char(s, n, &i));
}

void bt_normalize_strip_accents(const char *s, size_t n, bt_buf *out)
{
    for (size_t i = 0; i < n && !out->failed;) {
        uint32_t cp = next_char(s, n, &i);
        if (!bt__is_combining_mark(cp)) add_char(out, cp);
    }
}

void bt_normalize_nmt(const char *s, size_t n, bt_buf *out)
{
    for (size_t i = 0; i < n && !out->failed;) {
        uint32_t cp = next_char(s, n, &i);
        bool white = cp == '\t' || cp == '\n' || cp == '\f' || cp == '\r' || cp == 0x1680 ||
                     (cp >= 0x200B && cp <= 0x200F) || cp == 0x2028 || cp == 0x2029 ||
                     cp == 0x2581 || cp == 0xFEFF || cp == 0xFFFD;
        bool control = (cp > 0 && cp < ' ') || cp == 0x7F || cp == 0x8F || cp == 0x9F;
        if (white)
            add_char(out, ' ');
        else if (!control)
            add_char(out, cp);
    }
}
