/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_lexer.c - source to tokens, by the rules of jinja2's lexer with trim_blocks and
 * lstrip_blocks: one newline after a block's or comment's end is dropped, spaces before one that
 * starts its line are dropped, '-' strips white space and '+' keeps what would be dropped. */
#include "base/assert.h"
#include "base/utf8.h"
#include "jinja/jinja_run.h"
#include "jinja/jinja_text.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

enum { BRACKETS_MAX = 200 };

typedef struct lexer {
    jrt *r;
    const char *p;
    size_t len, at;
    int32_t line;
    bool line_starting;
    char bracket[BRACKETS_MAX];
    int n_brackets;
    jtok *tok;
    size_t n, cap;
} lexer;

static void add(lexer *x, jtok t)
{
    if (x->n == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 64;
        jtok *grown = bt__jalloc(x->r, cap * sizeof *grown);
        if (x->n) memcpy(grown, x->tok, x->n * sizeof *grown);
        x->tok = grown;
        x->cap = cap;
    }
    x->tok[x->n++] = t;
}

static _Noreturn void fail(lexer *x, const char *what)
{
    x->r->line = x->line;
    bt__jraise(x->r, BT_JINJA_SYNTAX, "%s", what);
}

/* No token begins at x->at. */
static _Noreturn void fail_char(lexer *x)
{
    char text[64];
    uint32_t cp;
    size_t used = bt__jdecode(x->p + x->at, x->len - x->at, &cp);
    jstr before = {.p = x->p, .len = (uint32_t)x->at, .chars = -1};
    const char *quote = cp == '\'' ? "\"" : "'"; // as repr() shows one character
    snprintf(text, sizeof text, "unexpected char %s%s%.*s%s at %d", quote, cp == '\\' ? "\\" : "",
             (int)used, x->p + x->at, quote, bt__jstr_chars(&before));
    fail(x, text);
}

/* Moves to `to`, counting lines. */
static void advance(lexer *x, size_t to)
{
    if (to > x->at) x->line_starting = x->p[to - 1] == '\n';
    for (; x->at < to; x->at++) x->line += x->p[x->at] == '\n';
}

static bool looking_at(const lexer *x, size_t at, const char *text)
{
    size_t n = strlen(text);
    return at + n <= x->len && memcmp(x->p + at, text, n) == 0;
}

static size_t skip_space(const lexer *x, size_t at)
{
    uint32_t cp;
    while (at < x->len) {
        size_t n = bt__jdecode(x->p + at, x->len - at, &cp);
        if (!bt__jis_space(cp)) break;
        at += n;
    }
    return at;
}

/* End of a tag that closes with `close` at `at`: past it and what its sign and trim_blocks drop; 0
 * if it is not there. plus: whether '+' may stand before it; trim: whether a newline goes. */
static size_t tag_end(const lexer *x, size_t at, const char *close, bool plus, bool trim)
{
    if (at < x->len && x->p[at] == '-' && looking_at(x, at + 1, close))
        return skip_space(x, at + 3);
    if (plus && at < x->len && x->p[at] == '+' && looking_at(x, at + 1, close)) return at + 3;
    if (!looking_at(x, at, close)) return 0;
    at += 2;
    if (trim && at < x->len && x->p[at] == '\n') at++;
    return at;
}

/* Text [x->at, end) before a tag, stripped as the tag's sign says. */
static void add_data(lexer *x, size_t end, char sign, bool variable)
{
    size_t from = x->at, stop = end;
    if (sign == '-') {
        jstr s = {.p = x->p + from, .len = (uint32_t)(end - from), .chars = -1};
        size_t at, len;
        bt__jstrip_span(x->r, &s, NULL, false, true, &at, &len);
        stop = from + len;
    } else if (sign != '+' && !variable) {
        size_t line = end;
        while (line > from && x->p[line - 1] != '\n') line--;
        if ((line > from || x->line_starting) && line < end && skip_space(x, line) >= end)
            stop = line;
    }
    if (stop > from)
        add(x, (jtok){.kind = JTOK_DATA, .line = x->line, .p = x->p + from, .len = stop - from});
    advance(x, end);
}

static void lex_comment(lexer *x)
{
    for (size_t at = x->at; at < x->len; at++) {
        size_t end = tag_end(x, at, "#}", true, true);
        if (end) {
            advance(x, end);
            return;
        }
    }
    if (x->at < x->len) fail(x, "Missing end of comment tag"); // jinja2 lets an empty rest pass
}

/* Past `{% raw %}` if it stands at `at`, else 0. */
static size_t raw_tag(const lexer *x, size_t at, const char *word, bool trim)
{
    if (!looking_at(x, at, "{%")) return 0;
    at += 2;
    if (at < x->len && (x->p[at] == '-' || x->p[at] == '+')) at++;
    at = skip_space(x, at);
    if (!looking_at(x, at, word)) return 0;
    at = skip_space(x, at + strlen(word));
    return tag_end(x, at, "%}", trim, trim);
}

static void lex_raw(lexer *x)
{
    for (size_t at = x->at; at < x->len; at++) {
        size_t end = x->p[at] == '{' ? raw_tag(x, at, "endraw", true) : 0;
        if (!end) continue;
        char sign = x->p[at + 2];
        add_data(x, at, sign, false);
        advance(x, end);
        return;
    }
    if (x->at < x->len) fail(x, "Missing end of raw directive");
}

/* ---- strings */

static int hex_digits(const char *p, size_t n, int want, uint32_t *v)
{
    *v = 0;
    for (int i = 0; i < want; i++) {
        if ((size_t)i >= n || !isxdigit((unsigned char)p[i])) return 0;
        char digit[2] = {p[i], 0};
        *v = *v << 4 | (uint32_t)strtoul(digit, NULL, 16);
    }
    return want;
}

static size_t unescape_code(lexer *x, jsb *b, const char *p, size_t n)
{
    uint32_t cp, low;
    int want = *p == 'x' ? 2 : *p == 'u' ? 4 : 8;
    char text[4];
    if (!hex_digits(p + 1, n - 1, want, &cp))
        fail(x, want == 2   ? "truncated \\xXX escape"
                : want == 4 ? "truncated \\uXXXX escape"
                            : "truncated \\UXXXXXXXX escape");
    size_t used = (size_t)want + 1;
    if (cp > 0x10FFFF) fail(x, "illegal Unicode character");
    if (cp >= 0xD800 && cp < 0xDC00 && n > used + 1 && p[used] == '\\' && p[used + 1] == 'u' &&
        hex_digits(p + used + 2, n - used - 2, 4, &low) && low >= 0xDC00 && low < 0xE000) {
        cp = 0x10000 + ((cp - 0xD800) << 10) + (low - 0xDC00);
        used += 6;
    }
    if (cp >= 0xD800 && cp < 0xE000) fail(x, "half of a surrogate pair in a string");
    bt__jsb_add(b, text, bt_utf8_encode(cp, text), 0);
    return used;
}

/* One escape at p (behind the backslash); returns the bytes it takes. */
static size_t unescape(lexer *x, jsb *b, const char *p, size_t n)
{
    static const char names[] = "\\'\"abfnrtv", values[] = "\\'\"\a\b\f\n\r\t\v";
    const char *name = *p ? strchr(names, *p) : NULL;
    if (name) {
        bt__jsb_add(b, &values[name - names], 1, 0);
        return 1;
    }
    if (*p == '\n') return 1;
    if (*p == 'x' || *p == 'u' || *p == 'U') return unescape_code(x, b, p, n);
    if (*p == 'N') fail(x, "\\N{...} escapes are not supported");
    if (*p >= '0' && *p <= '7') {
        uint32_t v = 0;
        size_t i = 0;
        char text[4];
        for (; i < 3 && i < n && p[i] >= '0' && p[i] <= '7'; i++)
            v = v * 8 + (uint32_t)(p[i] - '0');
        bt__jsb_add(b, text, bt_utf8_encode(v, text), 0);
        return i;
    }
    bt__jsb_adds(b, "\\");
    return 0;
}

static void lex_string(lexer *x, char quote)
{
    size_t at = x->at + 1, run = at;
    jsb b;
    bt__jsb_init(&b, x->r);
    for (; at < x->len && x->p[at] != quote; at++)
        if (x->p[at] == '\\') at++;
    if (at >= x->len) fail_char(x);
    size_t end = at;
    for (at = run; at < end;) {
        if (x->p[at] != '\\') {
            at++;
            continue;
        }
        bt__jsb_add(&b, x->p + run, at - run, 0);
        at += 1 + unescape(x, &b, x->p + at + 1, end - at - 1);
        run = at;
    }
    bt__jsb_add(&b, x->p + run, end - run, 0);
    jtok t = {.kind = JTOK_VALUE, .line = x->line, .value = bt__jsb_done(&b)};
    bt__jstr_chars(t.value.u.s);
    add(x, t);
    advance(x, end + 1);
}

/* ---- numbers, names, operators */

static size_t digits_end(const lexer *x, size_t at, const char *set)
{
    size_t from = at;
    while (at < x->len) {
        char c = (char)tolower((unsigned char)x->p[at]);
        if (c == '_' && at > from && at + 1 < x->len && x->p[at - 1] != '_') {
            char after = (char)tolower((unsigned char)x->p[at + 1]);
            if (!after || !strchr(set, after)) break;
        } else if (!c || !strchr(set, c)) {
            break;
        }
        at++;
    }
    return at;
}

/* End of a float at x->at, 0 if there is none. */
static size_t float_end(const lexer *x)
{
    static const char dec[] = "0123456789";
    size_t at = digits_end(x, x->at, dec), end = 0;
    if (x->at > 0 && x->p[x->at - 1] == '.') return 0;
    if (at + 1 < x->len && x->p[at] == '.' && isdigit((unsigned char)x->p[at + 1]))
        end = at = digits_end(x, at + 1, dec);
    if (at < x->len && (x->p[at] == 'e' || x->p[at] == 'E')) {
        at++;
        if (at < x->len && (x->p[at] == '+' || x->p[at] == '-')) at++;
        if (at < x->len && isdigit((unsigned char)x->p[at])) end = digits_end(x, at, dec);
    }
    return end;
}

static void lex_number(lexer *x)
{
    static const char *const sets[] = {"01", "01234567", "0123456789abcdef"};
    jtok t = {.kind = JTOK_VALUE, .line = x->line};
    size_t end = float_end(x);
    if (end) {
        double f = 0;
        if (!bt__jparse_float(x->p + x->at, end - x->at, &f)) fail(x, "a float of too many digits");
        t.value = jfloat(f);
    } else {
        const char *set = "0123456789";
        char kind = x->at + 1 < x->len ? (char)tolower((unsigned char)x->p[x->at + 1]) : 0;
        if (x->p[x->at] == '0') {
            int base = kind == 'b' ? 0 : kind == 'o' ? 1 : kind == 'x' ? 2 : -1;
            size_t from = x->at + 2;
            if (base >= 0 && from < x->len && x->p[from] == '_') from++;
            if (base >= 0) end = digits_end(x, from, sets[base]);
            if (base < 0 || end == from) {
                end = 0;
                set = "0";
            }
        }
        if (!end) end = digits_end(x, x->at, set);
        if (!bt__jparse_int(x->r, x->p + x->at, end - x->at, 0, &t.value))
            fail(x, "a number that cannot be read");
    }
    add(x, t);
    advance(x, end);
}

static bool is_name(unsigned char c, bool first)
{
    return c == '_' || c >= 0x80 || isalpha(c) || (!first && isdigit(c));
}

static void lex_operator(lexer *x)
{
    static const struct {
        char text[3];
        int op;
    } twos[] = {{"//", JOP_FLOORDIV}, {"**", JOP_POW}, {"==", JOP_EQ},
                {"!=", JOP_NE},       {">=", JOP_GE},  {"<=", JOP_LE}};
    char c = x->p[x->at], text[64];
    jtok t = {.kind = JTOK_OP, .line = x->line, .op = c};
    size_t n = 1;
    for (size_t i = 0; i < BT_COUNT(twos); i++)
        if (looking_at(x, x->at, twos[i].text)) t.op = twos[i].op, n = 2;
    if (n == 1 && (!c || !strchr("+-*/%~[](){}<>=.:|,;", c))) fail_char(x);
    if (strchr("{[(", c)) {
        if (x->n_brackets == BRACKETS_MAX) fail(x, "brackets are nested too deep");
        x->bracket[x->n_brackets++] = c == '{' ? '}' : c == '[' ? ']' : ')';
    } else if (strchr("}])", c)) {
        if (!x->n_brackets) {
            snprintf(text, sizeof text, "unexpected '%c'", c);
            fail(x, text);
        }
        char want = x->bracket[--x->n_brackets];
        if (want != c) {
            snprintf(text, sizeof text, "unexpected '%c', expected '%c'", c, want);
            fail(x, text);
        }
    }
    add(x, t);
    advance(x, x->at + n);
}

/* The inside of {% %} or {{ }}, to its end. */
static void lex_tag(lexer *x, bool variable)
{
    x->n_brackets = 0;
    while (x->at < x->len) {
        size_t end = 0;
        if (!x->n_brackets)
            end = variable ? tag_end(x, x->at, "}}", false, false)
                           : tag_end(x, x->at, "%}", true, true);
        if (end) {
            add(x, (jtok){.kind = variable ? JTOK_VAR_END : JTOK_BLOCK_END, .line = x->line});
            advance(x, end);
            return;
        }
        size_t space = skip_space(x, x->at);
        unsigned char c = (unsigned char)x->p[x->at];
        if (space > x->at) {
            advance(x, space);
        } else if (isdigit(c)) {
            lex_number(x);
        } else if (is_name(c, true)) {
            size_t stop = x->at;
            while (stop < x->len && is_name((unsigned char)x->p[stop], false)) stop++;
            add(x,
                (jtok){.kind = JTOK_NAME, .line = x->line, .p = x->p + x->at, .len = stop - x->at});
            advance(x, stop);
        } else if (c == '\'' || c == '"') {
            lex_string(x, (char)c);
        } else {
            lex_operator(x);
        }
    }
}

jtok *bt__jlex(jrt *r, const char *source, size_t len)
{
    lexer x = {.r = r, .p = source, .len = len, .line = 1, .line_starting = true};
    while (x.at < len) {
        size_t at = x.at;
        while (at < len && !(source[at] == '{' && at + 1 < len && strchr("{%#", source[at + 1]) &&
                             source[at + 1]))
            at++;
        if (at == len) {
            add(&x,
                (jtok){.kind = JTOK_DATA, .line = x.line, .p = source + x.at, .len = len - x.at});
            break;
        }
        char what = source[at + 1];
        char sign = at + 2 < len ? source[at + 2] : 0;
        size_t raw = what == '%' ? raw_tag(&x, at, "raw", false) : 0;
        add_data(&x, at, sign, what == '{');
        if (raw) {
            advance(&x, raw);
            lex_raw(&x);
            continue;
        }
        advance(&x, at + 2 + (sign == '-' || sign == '+'));
        if (what == '#') {
            lex_comment(&x);
            continue;
        }
        add(&x, (jtok){.kind = what == '{' ? JTOK_VAR_BEGIN : JTOK_BLOCK_BEGIN, .line = x.line});
        lex_tag(&x, what == '{');
    }
    add(&x, (jtok){.kind = JTOK_EOF, .line = x.line});
    return x.tok;
}
