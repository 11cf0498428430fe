/* SPDX-License-Identifier: Apache-2.0 */
/* logprobs.c - OpenAI's two shapes of logprobs objects.
 *
 * OFFSETS  A completion's text_offset counts characters (code points) of the text that is returned.
 *          A token that goes on with a character begun before it has that character's place. Tokens
 *          of an echoed prompt are followed through its text, which may differ from theirs: the
 *          space that SentencePiece puts in front, what a normalizer changed. A control token has
 *          no text, but stands in a prompt by its name where that was parsed. An answer's text
 *          comes later than its tokens, so that their bytes are counted, as decoding will show
 *          them; where it shows wrong bytes otherwise the text itself sets the count right. */
#include "api/answer.h"
#include "base/utf8.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A float with as many digits as make it read back equal. Minus infinity is -9999, as OpenAI has
 * it. */
static void write_float(bt_jw *w, float v)
{
    char text[32];
    if (isnan(v)) {
        bt_jw_null(w);
        return;
    }
    if (isinf(v)) v = v < 0 ? -9999.0f : 9999.0f;
    for (int digits = 5; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v) break;
    }
    bt_jw_raw(w, text, strlen(text));
}

static void write_bytes(bt_jw *w, const char *bytes, size_t n)
{
    bt_jw_open(w, '[');
    for (size_t i = 0; i < n; i++) bt_jw_int(w, (unsigned char)bytes[i]);
    bt_jw_close(w, ']');
}

/* A completion names a token by its text, or by its bytes where these are not whole characters. */
static void token_name(bt_buf *name, const char *bytes, size_t n)
{
    bt_buf_clear(name);
    if (bt_utf8_valid_prefix(bytes, n) == n) {
        bt_buf_add(name, bytes, n);
        return;
    }
    bt_buf_adds(name, "bytes:");
    for (size_t i = 0; i < n; i++) bt_buf_addf(name, "\\x%02x", (unsigned char)bytes[i]);
}

static const char *top_bytes(const bt_answer *a, int32_t id, size_t *n)
{
    const char *s = bt_front_token_bytes(a->front, id, n);
    if (!s) *n = 0;
    return s ? s : "";
}

static void chat_token(bt_jw *w, const char *bytes, size_t n, float logprob)
{
    bt_jw_key(w, "token");
    bt_jw_strn(w, bytes, n);
    bt_jw_key(w, "logprob");
    write_float(w, logprob);
    bt_jw_key(w, "bytes");
    write_bytes(w, bytes, n);
}

static void chat_add(bt_answer *a, bt_choice *c, const bt_token_out *t)
{
    bt_jw w = {&c->tokens, c->tokens.len > 0};
    bt_jw_open(&w, '{');
    chat_token(&w, t->bytes ? t->bytes : "", (size_t)t->n_bytes, t->logprob);
    bt_jw_key(&w, "top_logprobs");
    bt_jw_open(&w, '[');
    for (int32_t i = 0; i < t->n_top; i++) {
        size_t n;
        const char *s = top_bytes(a, t->top_token[i], &n);
        bt_jw_open(&w, '{');
        chat_token(&w, s, n, t->top_logprob[i]);
        bt_jw_close(&w, '}');
    }
    bt_jw_close(&w, ']');
    bt_jw_close(&w, '}');
}

/* {"text": logprob, ...} of the likeliest tokens and the chosen one. Tokens that read alike share a
 * key: the likelier one keeps it. */
static void completion_top(bt_answer *a, bt_jw *w, const bt_token_out *t, bt_buf *name)
{
    bt_buf seen = BT_BUF_INIT; // the keys so far, each ended by a NUL
    bool chosen_in = false;
    bt_jw_open(w, '{');
    for (int32_t i = 0; i <= t->n_top; i++) {
        bool chosen = i == t->n_top;
        if (chosen && chosen_in) break;
        if (!chosen && t->top_token[i] == t->token) chosen_in = true;
        size_t n = (size_t)t->n_bytes;
        const char *s = chosen ? t->bytes : top_bytes(a, t->top_token[i], &n);
        token_name(name, s ? s : "", n);
        bool known = false;
        for (size_t at = 0; at < seen.len && !known; at += strlen(seen.data + at) + 1)
            known = strcmp(seen.data + at, name->data ? name->data : "") == 0;
        if (known) continue;
        bt_buf_adds(&seen, name->data ? name->data : "");
        bt_buf_addc(&seen, 0);
        bt_jw_key(w, name->data ? name->data : "");
        write_float(w, chosen ? t->logprob : t->top_logprob[i]);
    }
    bt_jw_close(w, '}');
    if (seen.failed || name->failed) w->b->failed = true;
    bt_buf_release(&seen);
}

static bool is_tail(char c)
{
    return ((unsigned char)c & 0xC0) == 0x80;
}

/* Counts the prompt's characters that begin before byte `end`; a wrong byte is one, as in JSON. */
static void pass_prompt(bt_choice *c, const bt_part *part, size_t end)
{
    uint32_t cp;
    while (c->counted < end) {
        size_t n = bt_utf8_decode(part->prompt + c->counted, part->n_prompt - c->counted, &cp);
        c->counted += n ? n : 1;
        c->chars++;
    }
}

/* Counts the answer's characters that begin in s[0..n); a wrong byte is one. */
static void pass(bt_choice *c, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char u = (unsigned char)s[i];
        if (c->lacks > 0 && is_tail(s[i])) {
            c->lacks--;
            continue;
        }
        c->chars++;
        c->lacks = u >= 0xF0 && u < 0xF5 ? 3 : u >= 0xE0 && u < 0xF0 ? 2 : u >= 0xC2 && u < 0xE0;
    }
}

/* How many bytes of the text s[0..n) belong to a token of these bytes and what was left out before
 * it (*skipped). */
static size_t follow(const char *s, size_t n, const char *bytes, size_t n_bytes, size_t *skipped)
{
    enum { LOOK_AHEAD = 64 };
    size_t added = n_bytes > 0 && *bytes == ' ' && (n == 0 || *s != ' ');
    bytes += added;
    n_bytes -= added;
    *skipped = 0;
    for (size_t skip = 0; skip <= LOOK_AHEAD && skip + n_bytes <= n; skip++)
        if (memcmp(s + skip, bytes, n_bytes) == 0) {
            *skipped = skip;
            return skip + n_bytes;
        }
    return n_bytes < n ? n_bytes : n;
}

/* The token as the text s[0..n) spells it: a control token by its name where that comes next,
 * blanks aside, which some of them take with them. */
static bt_token_out as_spelled(const bt_answer *a, const bt_token_out *t, const char *s, size_t n)
{
    bt_token_out out = *t;
    size_t len = 0, blank = 0;
    const char *name = t->n_bytes ? NULL : bt_front_token_piece(a->front, t->token, &len);
    while (blank < n && s[blank] == ' ') blank++;
    if (name && len <= n - blank && memcmp(s + blank, name, len) == 0) {
        out.bytes = name;
        out.n_bytes = (int32_t)len;
    }
    return out;
}

static void completion_add(bt_answer *a, bt_choice *c, const bt_token_out *t, int64_t place,
                           bool first)
{
    bool comma = c->values.len > 0;
    bt_jw tokens = {&c->tokens, comma}, values = {&c->values, comma};
    bt_jw top = {&c->top, comma}, offsets = {&c->offsets, comma};
    bt_buf name = BT_BUF_INIT;
    token_name(&name, t->bytes ? t->bytes : "", (size_t)t->n_bytes);
    bt_jw_strn(&tokens, name.data ? name.data : "", name.len);
    bt_jw_int(&offsets, place);
    if (first) {
        bt_jw_null(&values);
        bt_jw_null(&top);
    } else {
        write_float(&values, t->logprob);
        completion_top(a, &top, t, &name);
    }
    if (name.failed) c->tokens.failed = true;
    bt_buf_release(&name);
}

void bt__logprobs_prompt(bt_answer *a, bt_choice *c, const bt_part *part, const bt_token_out *t)
{
    const char *left = part->prompt + c->passed;
    size_t n = part->n_prompt - c->passed, skipped;
    bt_token_out shown = part->named ? as_spelled(a, t, left, n) : *t;
    size_t taken = follow(left, n, shown.bytes, (size_t)shown.n_bytes, &skipped);
    size_t begin = c->passed + skipped;
    pass_prompt(c, part, begin);
    completion_add(a, c, &shown, c->counted > begin ? c->chars - 1 : c->chars, !c->prompt_begun);
    c->prompt_begun = true;
    c->passed += taken;
    pass_prompt(c, part, c->passed);
}

static void answer_token(bt_answer *a, bt_choice *c, const bt_token_out *t)
{
    const char *s = t->bytes ? t->bytes : "";
    size_t n = (size_t)t->n_bytes;
    if (c->given > c->chars) {
        c->chars = c->given;
        c->lacks = 0;
    }
    completion_add(a, c, t, c->lacks > 0 && is_tail(*s) ? c->chars - 1 : c->chars, false);
    pass(c, s, n);
}

void bt__logprobs_answer(bt_answer *a, bt_choice *c, const bt_part *part, const bt_stream_event *ev)
{
    if (!c->answer_begun) { // its text begins behind the prompt's
        pass_prompt(c, part, part->n_prompt);
        c->given = c->chars;
        c->answer_begun = true;
    }
    for (int32_t i = 0; i < ev->n_tokens; i++) {
        if (a->dialect == BT_API_CHAT)
            chat_add(a, c, &ev->token[i]);
        else
            answer_token(a, c, &ev->token[i]);
    }
    for (int32_t i = 0; i < ev->n_text; i++) c->given += !is_tail(ev->text[i]);
}

static void write_items(bt_jw *w, const char *key, bt_buf *items)
{
    bt_jw_key(w, key);
    bt_jw_open(w, '[');
    if (items->len) bt_jw_raw(w, items->data, items->len);
    bt_jw_close(w, ']');
    if (items->failed) w->b->failed = true;
    bt_buf_release(items);
}

void bt__logprobs_write(bt_answer *a, bt_choice *c, bt_jw *w)
{
    bt_jw_key(w, "logprobs");
    if (!a->logprobs) {
        bt_jw_null(w);
        return;
    }
    bt_jw_open(w, '{');
    if (a->dialect == BT_API_CHAT) {
        write_items(w, "content", &c->tokens);
        bt_jw_knull(w, "refusal");
    } else {
        write_items(w, "tokens", &c->tokens);
        write_items(w, "token_logprobs", &c->values);
        write_items(w, "top_logprobs", &c->top);
        write_items(w, "text_offset", &c->offsets);
    }
    bt_jw_close(w, '}');
}
