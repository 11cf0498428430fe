/* SPDX-License-Identifier: Apache-2.0 */
/* framing.c - the lines of heads, chunks and trailers, one at a time. */
#include "http/framing.h"
#include "base/assert.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static void refuse(bt_framing *f, bt_status st, const char *why)
{
    f->status = st;
    f->why = why;
}

static bool is_token(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)s[i]) && !(s[i] && strchr("!#$%&'*+-.^_`|~", s[i])))
            return false;
    return n > 0;
}

static bool equals(const char *s, size_t n, const char *word)
{
    return strlen(word) == n && strncasecmp(s, word, n) == 0;
}

static bool begins(const char *s, size_t n, const char *word)
{
    size_t k = strlen(word);
    return n > k && strncasecmp(s, word, k) == 0;
}

/* The next element of a comma-separated list, without blanks around it; false at its end. */
static bool list_next(const char **s, const char *end, const char **word, size_t *n)
{
    if (*s > end) return false;
    const char *comma = memchr(*s, ',', (size_t)(end - *s)), *stop = comma ? comma : end;
    const char *from = *s;
    *s = stop + 1;
    while (from < stop && (*from == ' ' || *from == '\t')) from++;
    while (stop > from && (stop[-1] == ' ' || stop[-1] == '\t')) stop--;
    *word = from;
    *n = (size_t)(stop - from);
    return true;
}

/* ---- the head */

static bool target_fits(const char *method, size_t n_method, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] <= ' ' || s[i] == 0x7F ||
            (s[i] == '%' && i + 2 < n && s[i + 1] == '0' && s[i + 2] == '0'))
            return false;
    if (equals(s, n, "*")) return equals(method, n_method, "OPTIONS");
    return *s == '/' || begins(s, n, "http://") || begins(s, n, "https://");
}

/* METHOD SP TARGET SP HTTP/1.x */
static void request_line(bt_framing *f, const char *s, size_t n)
{
    bt_buf line = f->line;
    *f = (bt_framing){.ahead = f->ahead, .line = line, .place = BT_FRAMING_FIELD};
    const char *end = s + n, *sp = memchr(s, ' ', n), *version = n > 9 ? end - 8 : NULL;
    if (!sp || !version || version - 1 <= sp + 1 || version[-1] != ' ' ||
        !is_token(s, (size_t)(sp - s)) || strncmp(version, "HTTP/", 5) != 0 ||
        !isdigit((unsigned char)version[5]) || version[6] != '.' ||
        !isdigit((unsigned char)version[7]))
        refuse(f, BT_EINVAL, "the first line is no HTTP request, METHOD TARGET HTTP/1.1");
    else if (equals(s, (size_t)(sp - s), "CONNECT"))
        refuse(f, BT_EUNSUPPORTED, "this is no proxy: it does not CONNECT");
    else if (version[5] != '1')
        f->place = BT_FRAMING_OFF; // libmicrohttpd says so
    else if (!target_fits(s, (size_t)(sp - s), sp + 1, (size_t)(version - 1 - (sp + 1))))
        refuse(f, BT_EINVAL,
               "the request's target must be a path or an http:// URL, without blanks, control "
               "characters or %00");
    else {
        f->old = version[7] == '0';
        snprintf(f->target, sizeof f->target, "%.*s", (int)strcspn(sp + 1, "? "), sp + 1);
    }
}

static void content_length(bt_framing *f, const char *s, size_t n)
{
    uint64_t v = 0;
    size_t digits = 0;
    while (digits < n && isdigit((unsigned char)s[digits])) {
        if (v > (UINT64_MAX >> 1) / 10) {
            refuse(f, BT_ETOOBIG, NULL);
            return;
        }
        v = v * 10 + (uint64_t)(s[digits++] - '0');
    }
    if (n == 0 || digits < n)
        refuse(f, BT_EINVAL, "Content-Length must be one number in digits");
    else if (f->sized && v != f->left)
        refuse(f, BT_EINVAL, "there are two different Content-Lengths");
    f->sized = true;
    f->left = v;
}

/* Codings that are not known are a 501, but only where the end of the body would be certain. */
static void transfer_encoding(bt_framing *f, const char *s, size_t n)
{
    const char *word, *end = s + n;
    size_t n_word;
    int chunked = f->chunked, others = 0;
    bool last = false;
    while (list_next(&s, end, &word, &n_word)) {
        last = equals(word, n_word, "chunked");
        chunked += last;
        others += !last;
    }
    if (!last || chunked > 1 || (!others && !equals(end - n, n, "chunked")))
        refuse(f, BT_EINVAL, "a body's Transfer-Encoding must end in one \"chunked\"");
    else if (others)
        refuse(f, BT_EUNSUPPORTED, "no Transfer-Encoding but \"chunked\" is understood");
    f->chunked = true;
}

static void field(bt_framing *f, const char *s, size_t n)
{
    const char *colon = memchr(s, ':', n);
    size_t name = colon ? (size_t)(colon - s) : 0;
    if (!is_token(s, name)) {
        refuse(f, BT_EINVAL,
               "a header line is not NAME: VALUE, with no blank before NAME nor after it");
        return;
    }
    const char *value = colon + 1, *end = s + n;
    while (value < end && (*value == ' ' || *value == '\t')) value++;
    size_t n_value = (size_t)(end - value);
    if (f->place == BT_FRAMING_TRAILER) return;
    if (equals(s, name, "Content-Length")) content_length(f, value, n_value);
    if (equals(s, name, "Transfer-Encoding")) transfer_encoding(f, value, n_value);
    if (equals(s, name, "Connection"))
        for (const char *word; list_next(&value, end, &word, &n_value);) {
            f->close = f->close || equals(word, n_value, "close");
            f->keep = f->keep || equals(word, n_value, "keep-alive");
        }
    if (equals(s, name, "Host")) {
        bool fits = true;
        while (n_value && strchr(" \t", value[n_value - 1])) n_value--;
        for (size_t i = 0; i < n_value; i++)
            fits = fits && (isalnum((unsigned char)value[i]) ||
                            (value[i] && strchr("-._~%!$&'()*+,;=:[]", value[i])));
        if (!fits) refuse(f, BT_EINVAL, "the Host header is not HOST or HOST:PORT");
        if (++f->hosts > 1) refuse(f, BT_EINVAL, "there are two Host headers");
    }
}

static void request_end(bt_framing *f)
{
    f->ahead++;
    f->target[0] = 0;
    f->place = f->close || (f->old && !f->keep) ? BT_FRAMING_OFF : BT_FRAMING_START;
}

static void head_end(bt_framing *f)
{
    if (!f->old && f->hosts == 0)
        refuse(f, BT_EINVAL, "a request of HTTP/1.1 needs a Host header");
    else if (f->chunked && f->sized)
        refuse(f, BT_EINVAL, "a request has a Content-Length or a Transfer-Encoding, not both");
    else if (f->chunked && f->old)
        refuse(f, BT_EINVAL, "HTTP/1.0 has no Transfer-Encoding");
    else if (f->chunked)
        f->place = BT_FRAMING_CHUNK;
    else if (f->left)
        f->place = BT_FRAMING_BODY;
    else
        request_end(f);
}

/* ---- chunks */

/* HEX [; extension] */
static void chunk_size(bt_framing *f, const char *s, size_t n)
{
    static const char bad[] = "a chunk does not begin with its size in hexadecimal digits";
    size_t digits = 0;
    f->left = 0;
    for (; digits < n && isxdigit((unsigned char)s[digits]); digits++) {
        int c = tolower((unsigned char)s[digits]);
        if (f->left >> 59) {
            refuse(f, BT_ETOOBIG, NULL);
            return;
        }
        f->left = f->left << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    if (digits == 0 || (digits < n && s[digits] != ';'))
        refuse(f, BT_EINVAL, bad);
    else
        f->place = f->left ? BT_FRAMING_DATA : BT_FRAMING_TRAILER;
}

/* ---- bytes */

/* One line without its end. */
static void take_line(bt_framing *f, const char *s, size_t n)
{
    bool cr = n > 0 && s[n - 1] == '\r';
    bool chunks = f->place == BT_FRAMING_CHUNK || f->place == BT_FRAMING_CHUNK_END;
    n -= cr;
    for (size_t i = 0; i < n; i++)
        if (((unsigned char)s[i] < ' ' && s[i] != '\t') || s[i] == 0x7F) {
            refuse(f, BT_EINVAL, "there is a control character in the request");
            return;
        }
    if (chunks && !cr) {
        refuse(f, BT_EINVAL, "a chunk's line does not end in CR LF");
        return;
    }
    switch (f->place) {
    case BT_FRAMING_START:
        if (n) request_line(f, s, n); // a few empty lines before it are nothing
        break;
    case BT_FRAMING_FIELD:
        if (n)
            field(f, s, n);
        else
            head_end(f);
        break;
    case BT_FRAMING_CHUNK: chunk_size(f, s, n); break;
    case BT_FRAMING_CHUNK_END:
        if (n) refuse(f, BT_EINVAL, "a chunk is longer than its size");
        f->place = BT_FRAMING_CHUNK;
        break;
    case BT_FRAMING_TRAILER:
        if (n)
            field(f, s, n);
        else
            request_end(f);
        break;
    default: BT_ASSERT(false);
    }
}

static size_t take_data(bt_framing *f, size_t n)
{
    if (n > f->left) n = (size_t)f->left;
    f->left -= n;
    if (f->left) return n;
    if (f->place == BT_FRAMING_BODY)
        request_end(f);
    else
        f->place = BT_FRAMING_CHUNK_END;
    return n;
}

/* Up to the end of a line, or what there is of it. */
static size_t take_text(bt_framing *f, const char *data, size_t n, size_t line_max)
{
    const char *lf = memchr(data, '\n', n);
    size_t k = lf ? (size_t)(lf - data) : n;
    if (f->line.len + k > line_max) {
        bt__framing_release(f);
        f->place = BT_FRAMING_OFF;
        return n;
    }
    if (lf && !f->line.len) {
        take_line(f, data, k);
        return k + 1;
    }
    bt_buf_add(&f->line, data, k);
    if (f->line.failed)
        refuse(f, BT_ENOMEM, NULL);
    else if (lf)
        take_line(f, f->line.data, f->line.len);
    if (lf || f->line.failed) bt__framing_release(f);
    return k + (lf != NULL);
}

size_t bt__framing_take(bt_framing *f, const char *data, size_t n, size_t line_max)
{
    size_t at = 0, whole = 0;
    f->ahead = 0;
    while (at < n && f->status == BT_OK && f->place != BT_FRAMING_OFF) {
        int32_t ahead = f->ahead;
        if (f->place == BT_FRAMING_BODY || f->place == BT_FRAMING_DATA)
            at += take_data(f, n - at);
        else
            at += take_text(f, data + at, n - at, line_max);
        if (f->ahead > ahead) whole = at;
    }
    return f->status == BT_OK ? n : whole;
}

bool bt__framing_midway(const bt_framing *f)
{
    return f->place != BT_FRAMING_START && f->place != BT_FRAMING_OFF;
}

void bt__framing_release(bt_framing *f)
{
    bt_buf_release(&f->line);
}
