/* SPDX-License-Identifier: Apache-2.0 */
/* parity_strings.h - the random strings and ids of tests/data/text-parity, draw for draw as make.py
 * there makes them. */
#pragma once
#include "base/assert.h"
#include "base/buf.h"
#include "base/json_read.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "text_fixture.h"

/* Strings of a JSON array, back to back. */
typedef struct string_list {
    bt_buf text;
    uint32_t *end; // owned [n]
    size_t n, cap;
} string_list;

static inline bt_str list_at(const string_list *l, size_t i)
{
    size_t start = i ? l->end[i - 1] : 0;
    return (bt_str){l->text.data + start, l->end[i] - start};
}

static inline void list_add(string_list *l, const char *s, size_t n)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 64;
        l->end = realloc(l->end, l->cap * sizeof *l->end);
        REQUIRE(l->end);
    }
    bt_buf_add(&l->text, s, n);
    l->end[l->n++] = (uint32_t)l->text.len;
}

/* The array that the reader is at. */
static inline void list_read(string_list *l, bt_json_reader *r)
{
    const char *s;
    size_t n;
    REQUIRE(bt_json_enter(r, '['));
    while (bt_json_next_item(r)) {
        REQUIRE(bt_json_read_string(r, &s, &n));
        list_add(l, s, n);
    }
}

static inline void list_release(string_list *l)
{
    bt_buf_release(&l->text);
    free(l->end);
    *l = (string_list){0};
}

enum { WORDS, SPACES, PUNCTUATION, DIGITS, BASES, MARKS, ODD, N_LISTS, RANGES_MAX = 8192 };

typedef struct alphabet {
    string_list list[N_LISTS];
    uint32_t range[RANGES_MAX]; // first, last, first, last, ...
    size_t n_ranges;
} alphabet;

static inline void alphabet_open(alphabet *a, const char *path)
{
    static const char *const names[N_LISTS] = {"words", "spaces", "punctuation", "digits",
                                               "bases", "marks",  "odd"};
    size_t n, n_key, n_numbers = 0;
    const char *key;
    char *text = slurp(path, &n);
    bt_json_reader r;
    memset(a, 0, sizeof *a);
    bt_json_reader_init(&r, text, n, 0);
    REQUIRE(bt_json_enter(&r, '{'));
    while (bt_json_next_key(&r, &key, &n_key)) {
        int which = 0;
        while (which < N_LISTS && !bt_str_is((bt_str){key, n_key}, names[which])) which++;
        if (which < N_LISTS) {
            list_read(&a->list[which], &r);
            continue;
        }
        REQUIRE(bt_json_enter(&r, '['));
        for (int64_t v; bt_json_next_item(&r); a->range[n_numbers++] = (uint32_t)v)
            REQUIRE(n_numbers < RANGES_MAX && bt_json_read_int(&r, &v));
    }
    REQUIRE(bt_json_done(&r) && n_numbers > 0);
    a->n_ranges = n_numbers / 2;
    bt_json_reader_release(&r);
    free(text);
}

static inline void alphabet_close(alphabet *a)
{
    for (int i = 0; i < N_LISTS; i++) list_release(&a->list[i]);
}

typedef struct draws {
    uint64_t seed, at;
} draws;

static inline size_t draw(draws *d, size_t n)
{
    return (size_t)(bt_rng_u64(d->seed, d->at++) % n);
}

static inline void add_cp(bt_buf *out, size_t cp)
{
    char s[4];
    bt_buf_add(out, s, bt_utf8_encode((uint32_t)cp, s));
}

static inline bt_str pick(const alphabet *a, draws *d, int which)
{
    return list_at(&a->list[which], draw(d, a->list[which].n));
}

static inline void add_pick(const alphabet *a, draws *d, int which, bt_buf *out)
{
    bt_str s = pick(a, d, which);
    bt_buf_add(out, s.s, s.n);
}

static inline void add_of_range(const alphabet *a, draws *d, size_t i, bt_buf *out)
{
    uint32_t first = a->range[2 * i], last = a->range[2 * i + 1];
    add_cp(out, first + draw(d, last - first + 1));
}

static inline void add_repeated(bt_buf *out, bt_str unit, size_t times)
{
    for (size_t i = 0; i < times; i++) bt_buf_add(out, unit.s, unit.n);
}

static inline void add_token(const alphabet *a, draws *d, const string_list *added, bt_buf *out)
{
    static const char *const around[] = {"", " ", "  ", "a", "\n", "\xC2\xA0", ".", "_"};
    bt_buf_adds(out, around[draw(d, 8)]);
    bt_str token = added->n ? list_at(added, draw(d, added->n)) : pick(a, d, WORDS);
    bt_buf_add(out, token.s, token.n);
    bt_buf_adds(out, around[draw(d, 8)]);
}

static inline void add_run(const alphabet *a, draws *d, bt_buf *out)
{
    static const int kinds[] = {WORDS, SPACES, PUNCTUATION, ODD};
    bt_str unit = pick(a, d, kinds[draw(d, 4)]);
    add_repeated(out, unit, draw(d, 16) == 0 ? 100 + draw(d, 400) : 2 + draw(d, 12));
}

/* As Strings.segment in make.py: each draw in the same order. long: it is one table */
static inline void add_segment(const alphabet *a, draws *d, const string_list *added, bt_buf *out)
{
    size_t kind = draw(d, 20), n, i, c;
    if (kind < 5) {
        for (n = 1 + draw(d, 3); n-- > 0;) {
            if (draw(d, 2)) bt_buf_addc(out, ' ');
            add_pick(a, d, WORDS, out);
        }
    } else if (kind == 5) {
        bt_str unit = pick(a, d, SPACES);
        add_repeated(out, unit, 1 + draw(d, 6));
    } else if (kind == 6) {
        for (n = 1 + draw(d, 5); n-- > 0;) add_pick(a, d, PUNCTUATION, out);
    } else if (kind == 7) {
        for (n = 1 + draw(d, 8); n-- > 0;) add_pick(a, d, DIGITS, out);
    } else if (kind < 12) {
        i = draw(d, a->n_ranges);
        for (n = 1 + draw(d, 10); n-- > 0;) add_of_range(a, d, i, out);
    } else if (kind == 12) {
        add_pick(a, d, BASES, out);
        for (n = 1 + draw(d, 4); n-- > 0;) add_pick(a, d, MARKS, out);
    } else if (kind == 13) {
        for (n = 1 + draw(d, 2); n-- > 0;) add_pick(a, d, ODD, out);
    } else if (kind == 14) {
        c = draw(d, 64);
        add_cp(out, c < 32 ? c : c + 95);
    } else if (kind < 17) {
        add_token(a, d, added, out);
    } else if (kind == 17) {
        for (n = 1 + draw(d, 6); n-- > 0;) add_of_range(a, d, draw(d, a->n_ranges), out);
    } else if (kind == 18) {
        if (draw(d, 2)) bt_buf_addc(out, ' ');
        for (n = 1 + draw(d, 12); n-- > 0;) {
            c = 65 + draw(d, 26);
            bt_buf_addc(out, (char)(c + 32 * draw(d, 2)));
        }
    } else {
        add_run(a, d, out);
    }
}

/* String i for a tokenizer with these added tokens; out is cleared first. */
static inline void make_string(const alphabet *a, size_t i, const string_list *added, bt_buf *out)
{
    draws d = {i + 1000, 0};
    bt_buf_clear(out);
    for (size_t n = 1 + draw(&d, 6); n-- > 0;) add_segment(a, &d, added, out);
    BT_ASSERT(!out->failed); // threads call this, and test.h counts checks without a lock
}

enum { RANDOM_IDS_MAX = 40 };
static inline size_t make_ids(size_t k, int32_t size, int32_t ids[RANDOM_IDS_MAX])
{
    draws d = {k + 1000000, 0};
    size_t n = 1 + draw(&d, RANDOM_IDS_MAX), all = (size_t)size;
    for (size_t i = 0; i < n; i++) {
        size_t among = draw(&d, 2) ? (all < 300 ? all : 300) : all;
        ids[i] = (int32_t)draw(&d, among);
    }
    return n;
}
