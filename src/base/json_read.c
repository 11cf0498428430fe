/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json_read.h"
#include "base/utf8.h"
#include <assert.h>
#include <string.h>

void bt_json_reader_init(bt_json_reader *r, const char *text, size_t n, int flags)
{
    memset(r, 0, sizeof *r);
    r->s = text;
    r->n = n;
    r->flags = flags;
    r->depth_max = BT_JSON_READ_DEPTH_MAX;
    r->at = bt_utf8_mark(text, n);
    r->scratch[0].max_bytes = r->scratch[1].max_bytes = (size_t)1 << 30;
}

void bt_json_reader_release(bt_json_reader *r)
{
    bt_buf_release(&r->scratch[0]);
    bt_buf_release(&r->scratch[1]);
}

const char *bt_json_reader_why(const bt_json_reader *r, size_t *at)
{
    if (at) *at = r->at;
    return r->why;
}

bool bt_json_fail(bt_json_reader *r, const char *why)
{
    if (!r->why) r->why = why;
    return false;
}

bool bt_json_fail_memory(bt_json_reader *r)
{
    r->no_memory = r->no_memory || !r->why;
    return bt_json_fail(r, "out of memory");
}

/* The index of the lowest byte of w that is not 0. */
static size_t low_byte(uint64_t w)
{
    return (size_t)__builtin_ctzll(w) / 8;
}
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the first byte is a word's lowest");

/* How many spaces s begins with at least. */
static size_t count_spaces(const char *s, size_t n)
{
    size_t i = 0;
    for (uint64_t w; n - i >= 8; i += 8) {
        memcpy(&w, s + i, 8);
        w ^= UINT64_MAX / 255 * ' ';
        if (w) return i + low_byte(w);
    }
    return i;
}

/* Files are often indented: behind a line end, spaces go eight at a time. */
static void skip_space(bt_json_reader *r)
{
    for (; r->at < r->n; r->at++) {
        char c = r->s[r->at];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t') break;
        if (c == '\n') r->at += count_spaces(r->s + r->at + 1, r->n - r->at - 1);
    }
}

bt_json_kind bt_json_peek(bt_json_reader *r)
{
    if (r->why) return BT_JSON_END;
    skip_space(r);
    if (r->at >= r->n) {
        bt_json_fail(r, "the text ends too early");
        return BT_JSON_END;
    }
    char c = r->s[r->at];
    if (c == '{') return BT_JSON_OBJECT;
    if (c == '[') return BT_JSON_ARRAY;
    if (c == '"') return BT_JSON_STRING;
    if (c == 't' || c == 'f') return BT_JSON_BOOL;
    if (c == 'n') return BT_JSON_NULL;
    if (c == '-' || (c >= '0' && c <= '9')) return BT_JSON_NUMBER;
    if (r->flags & BT_JSON_PYTHON && (c == 'N' || c == 'I')) return BT_JSON_NUMBER;
    bt_json_fail(r, "a value was expected");
    return BT_JSON_END;
}

bool bt_json_enter(bt_json_reader *r, char bracket)
{
    bt_json_kind kind = bt_json_peek(r);
    if (kind == BT_JSON_END) return false;
    if (kind != (bracket == '{' ? BT_JSON_OBJECT : BT_JSON_ARRAY))
        return bt_json_fail(r, bracket == '{' ? "an object was expected" : "an array was expected");
    if (r->depth >= r->depth_max) return bt_json_fail(r, "nested too deeply");
    r->open[r->depth++] = bracket;
    r->at++;
    r->first = true;
    return true;
}

/* Moves past the comma to the next element; false at the closing bracket. */
static bool next_element(bt_json_reader *r, char bracket)
{
    if (r->why) return false;
    if (r->depth == 0 || r->open[r->depth - 1] != bracket)
        return bt_json_fail(r, "the value before this one was not read");
    skip_space(r);
    if (r->at >= r->n) return bt_json_fail(r, "the text ends too early");
    char c = r->s[r->at];
    if (c == (bracket == '{' ? '}' : ']')) {
        r->at++;
        r->depth--;
        r->first = false;
        return false;
    }
    if (!r->first) {
        if (c != ',') return bt_json_fail(r, "',' or a closing bracket was expected");
        r->at++;
        skip_space(r);
        if (r->at < r->n && r->s[r->at] == (bracket == '{' ? '}' : ']'))
            return bt_json_fail(r, "a comma before a closing bracket");
    }
    r->first = false;
    return true;
}

bool bt_json_next_item(bt_json_reader *r)
{
    return next_element(r, '[');
}

bool bt_json_next_key(bt_json_reader *r, const char **key, size_t *n)
{
    if (!next_element(r, '{')) return false;
    if (r->at >= r->n || r->s[r->at] != '"') return bt_json_fail(r, "a member name was expected");
    if (!bt_json_read_string(r, key, n)) return false;
    skip_space(r);
    if (r->at >= r->n || r->s[r->at] != ':') return bt_json_fail(r, "':' was expected");
    r->at++;
    return true;
}

/* ---- Strings. The plain run up to the next quote or backslash is checked in one go. */

static bool read_hex4(bt_json_reader *r, uint32_t *out)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        char c = r->at < r->n ? r->s[r->at] : 0;
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint32_t)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            v = v << 4 | (uint32_t)(c - 'A' + 10);
        else
            return bt_json_fail(r, "a \\u escape needs four hexadecimal digits");
    }
    *out = v;
    return true;
}

/* After "\u": one code point, two escapes for a pair of surrogates. */
static bool read_unicode(bt_json_reader *r, uint32_t *cp)
{
    uint32_t low;
    if (!read_hex4(r, cp)) return false;
    if (*cp < 0xD800 || *cp > 0xDFFF) return true;
    if (*cp < 0xDC00 && r->n - r->at >= 2 && r->s[r->at] == '\\' && r->s[r->at + 1] == 'u') {
        size_t back = r->at;
        r->at += 2;
        if (!read_hex4(r, &low)) return false;
        if (low >= 0xDC00 && low <= 0xDFFF) {
            *cp = 0x10000 + ((*cp - 0xD800) << 10) + (low - 0xDC00);
            return true;
        }
        r->at = back; // the second escape is a character of its own
    }
    if (!(r->flags & BT_JSON_PYTHON)) return bt_json_fail(r, "a string holds a lone surrogate");
    *cp = 0xFFFD;
    return true;
}

static bool read_escape(bt_json_reader *r, bt_buf *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = r->at < r->n ? r->s[r->at] : 0;
    const char *simple = c ? strchr(from, c) : NULL;
    r->at++;
    if (simple) {
        if (out) bt_buf_addc(out, to[simple - from]);
        return true;
    }
    if (c != 'u') return bt_json_fail(r, "unknown escape in a string");
    uint32_t cp;
    char utf8[4];
    if (!read_unicode(r, &cp)) return false;
    if (cp == 0 && r->flags & BT_JSON_NO_NUL) return bt_json_fail(r, "a string holds \\u0000");
    if (out) bt_buf_add(out, utf8, bt_utf8_encode(cp, utf8));
    return true;
}

/* The high bit of each byte of w that is a quote, a backslash, a control character, or not ASCII.
 */
static uint64_t odd_bytes(uint64_t w)
{
    const uint64_t ones = UINT64_MAX / 255, tops = ones * 128;
    uint64_t quote = w ^ ones * '"', slash = w ^ ones * '\\';
    uint64_t odd = (w - ones * 0x20) | (quote - ones) | (slash - ones) | w;
    return odd & tops; // false alarms only above a true one, and bytes are looked at again
}

/* How many bytes from p on are plain ASCII at least. */
static size_t plain_bytes(const unsigned char *p, size_t n)
{
    size_t i = 0;
    for (uint64_t w; n - i >= 8; i += 8) {
        memcpy(&w, p + i, 8);
        uint64_t odd = odd_bytes(w);
        if (odd) return i + low_byte(odd);
    }
    return i;
}

/* Moves over characters that stand for themselves. */
static bool plain_run(bt_json_reader *r)
{
    const unsigned char *p = (const unsigned char *)r->s;
    size_t from = r->at;
    bool ascii = true;
    while (r->at < r->n) {
        r->at += plain_bytes(p + r->at, r->n - r->at);
        if (r->at == r->n || p[r->at] == '"' || p[r->at] == '\\') break;
        if (p[r->at] < 0x20) return bt_json_fail(r, "a string holds a raw control character");
        ascii = ascii && p[r->at] < 0x80;
        do r->at++;
        while (r->at < r->n && p[r->at] >= 0x80);
    }
    if (r->at >= r->n) return bt_json_fail(r, "a string does not end");
    size_t valid = ascii ? r->at - from : bt_utf8_valid_prefix(r->s + from, r->at - from);
    if (valid == r->at - from) return true;
    r->at = from + valid;
    return bt_json_fail(r, "a string is not UTF-8");
}

/* s NULL: only checked. */
static bool read_string(bt_json_reader *r, const char **s, size_t *n)
{
    r->at++; // the quote
    size_t from = r->at;
    if (!plain_run(r)) return false;
    if (r->s[r->at] == '"') {
        if (s) {
            *s = r->s + from;
            *n = r->at - from;
        }
        r->at++;
        return true;
    }
    bt_buf *out = NULL;
    if (s) {
        out = &r->scratch[r->turn ^= 1];
        bt_buf_clear(out);
        bt_buf_add(out, r->s + from, r->at - from);
    }
    while (r->s[r->at] == '\\') {
        r->at++;
        if (!read_escape(r, out)) return false;
        from = r->at;
        if (!plain_run(r)) return false;
        if (out) bt_buf_add(out, r->s + from, r->at - from);
    }
    r->at++;
    if (!s) return true;
    if (out->failed) return bt_json_fail_memory(r);
    *s = out->data;
    *n = out->len;
    return true;
}

bool bt_json_read_string(bt_json_reader *r, const char **s, size_t *n)
{
    if (bt_json_peek(r) != BT_JSON_STRING) return bt_json_fail(r, "a string was expected");
    return read_string(r, s, n);
}

/* ---- The other scalars. */

static bool read_word(bt_json_reader *r, const char *word)
{
    size_t n = strlen(word);
    if (r->n - r->at < n || memcmp(r->s + r->at, word, n) != 0)
        return bt_json_fail(r, "a value was expected");
    r->at += n;
    return true;
}

static size_t digits(bt_json_reader *r)
{
    size_t from = r->at;
    while (r->at < r->n && r->s[r->at] >= '0' && r->s[r->at] <= '9') r->at++;
    return r->at - from;
}

static bool read_python_number(bt_json_reader *r)
{
    if (r->s[r->at] == '-') r->at++;
    return read_word(r, r->at < r->n && r->s[r->at] == 'N' ? "NaN" : "Infinity");
}

bool bt_json_read_number(bt_json_reader *r, const char **s, size_t *n)
{
    if (bt_json_peek(r) != BT_JSON_NUMBER) return bt_json_fail(r, "a number was expected");
    size_t from = r->at, sign = r->s[from] == '-';
    char c = from + sign < r->n ? r->s[from + sign] : 0;
    if (r->flags & BT_JSON_PYTHON && (c == 'N' || c == 'I')) {
        if (sign && c == 'N') return bt_json_fail(r, "a number lacks digits");
        if (!read_python_number(r)) return false;
    } else {
        r->at += sign;
        if (c == '0')
            r->at++;
        else if (!digits(r))
            return bt_json_fail(r, "a number lacks digits");
        if (r->at < r->n && r->s[r->at] == '.') {
            r->at++;
            if (!digits(r)) return bt_json_fail(r, "a number lacks digits");
        }
        if (r->at < r->n && (r->s[r->at] == 'e' || r->s[r->at] == 'E')) {
            r->at++;
            if (r->at < r->n && (r->s[r->at] == '+' || r->s[r->at] == '-')) r->at++;
            if (!digits(r)) return bt_json_fail(r, "a number lacks digits");
        }
    }
    *s = r->s + from;
    *n = r->at - from;
    return true;
}

bool bt_json_int(const char *s, size_t n, int64_t *v)
{
    bool minus = n > 0 && s[0] == '-';
    uint64_t sum = 0, limit = (uint64_t)INT64_MAX + minus;
    for (size_t i = minus; i < n; i++) {
        if (s[i] < '0' || s[i] > '9') return false;
        uint64_t digit = (uint64_t)(s[i] - '0');
        if (sum > (limit - digit) / 10) return false;
        sum = sum * 10 + digit;
    }
    *v = minus ? (int64_t)(0 - sum) : (int64_t)sum;
    return true;
}

bool bt_json_read_int(bt_json_reader *r, int64_t *v)
{
    const char *s;
    size_t n;
    if (!bt_json_read_number(r, &s, &n)) return false;
    return bt_json_int(s, n, v) ? true : bt_json_fail(r, "no whole number, or out of range");
}

bool bt_json_read_bool(bt_json_reader *r, bool *v)
{
    if (bt_json_peek(r) != BT_JSON_BOOL) return bt_json_fail(r, "true or false was expected");
    bool value = r->s[r->at] == 't';
    if (!read_word(r, value ? "true" : "false")) return false;
    *v = value;
    return true;
}

bool bt_json_read_null(bt_json_reader *r)
{
    if (bt_json_peek(r) != BT_JSON_NULL) return bt_json_fail(r, "null was expected");
    return read_word(r, "null");
}

/* Iterative: depth costs no stack. */
bool bt_json_skip(bt_json_reader *r)
{
    int base = r->depth;
    do {
        const char *s;
        size_t n;
        bool unused;
        switch (bt_json_peek(r)) {
        case BT_JSON_OBJECT: bt_json_enter(r, '{'); break;
        case BT_JSON_ARRAY: bt_json_enter(r, '['); break;
        case BT_JSON_STRING: read_string(r, NULL, NULL); break;
        case BT_JSON_NUMBER: bt_json_read_number(r, &s, &n); break;
        case BT_JSON_BOOL: bt_json_read_bool(r, &unused); break;
        case BT_JSON_NULL: bt_json_read_null(r); break;
        case BT_JSON_END: break;
        }
        while (!r->why && r->depth > base) {
            bool more =
                r->open[r->depth - 1] == '{' ? bt_json_next_key(r, &s, &n) : bt_json_next_item(r);
            if (more) break;
        }
    } while (!r->why && r->depth > base);
    return !r->why;
}

bool bt_json_span(bt_json_reader *r, const char **s, size_t *n)
{
    if (bt_json_peek(r) == BT_JSON_END) return false;
    size_t from = r->at;
    if (!bt_json_skip(r)) return false;
    *s = r->s + from;
    *n = r->at - from;
    return true;
}

bool bt_json_done(bt_json_reader *r)
{
    if (r->why) return false;
    skip_space(r);
    if (r->depth > 0) return bt_json_fail(r, "the text ends too early");
    return r->at == r->n ? true : bt_json_fail(r, "bytes after the value");
}

bt_status bt_json_end(bt_json_reader *r, bt_status st, const char *label, const char *fault,
                      size_t before, bt_err *err)
{
    if (r->no_memory)
        st = BT_ENOMEM;
    else if (!st && !bt_json_done(r))
        st = bt_err_set(err, BT_EFORMAT, 0, "%s%s: %s at byte %zu", label, fault,
                        r->why ? r->why : "more follows", r->at + before);
    bt_json_reader_release(r);
    return st;
}
