/* SPDX-License-Identifier: Apache-2.0 */
/* logprobs.c - what a dialect's logprobs are made of: numbers, bytes, and places in the text.
 *
 * PLACES  A place counts characters (code points) of the text that is returned. A token that goes
 *         on with a character begun before it has that character's place. Tokens of an echoed
 *         prompt are followed through its text, which may differ from theirs: the space that
 *         SentencePiece puts in front, what a normalizer changed. A control token has no text, but
 *         stands in a prompt by its name where that was parsed. An answer's text comes later than
 *         its tokens, so that their bytes are counted, as decoding will show them; where it shows
 *         wrong bytes otherwise the text itself sets the count right. */
#include "api/answer.h"
#include "base/utf8.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A float with as many digits as make it read back equal. Minus infinity is -9999, as OpenAI has
 * it. */
void bt__logprob_write(bt_jw *w, float v)
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

const char *bt__logprob_bytes(const bt_answer *a, int32_t id, size_t *n)
{
    const char *s = bt_unit_token_bytes(a->unit, id, n);
    if (!s) *n = 0;
    return s ? s : "";
}

/* ---- places */

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
        if (c->lacks > 0 && bt_utf8_is_tail(s[i])) {
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
    const char *name = t->n_bytes ? NULL : bt_unit_token_piece(a->unit, t->token, &len);
    while (blank < n && s[blank] == ' ') blank++;
    if (name && len <= n - blank && memcmp(s + blank, name, len) == 0) {
        out.bytes = name;
        out.n_bytes = (int32_t)len;
    }
    return out;
}

int64_t bt__place_in_prompt(const bt_answer *a, bt_choice *c, const bt_part *part, bt_token_out *t)
{
    const char *left = part->prompt + c->passed;
    size_t n = part->n_prompt - c->passed, skipped;
    if (part->named) *t = as_spelled(a, t, left, n);
    size_t taken = follow(left, n, t->bytes, (size_t)t->n_bytes, &skipped);
    size_t begin = c->passed + skipped;
    pass_prompt(c, part, begin);
    int64_t place = c->counted > begin ? c->chars - 1 : c->chars;
    c->prompt_begun = true;
    c->passed += taken;
    pass_prompt(c, part, c->passed);
    return place;
}

int64_t bt__place_in_answer(bt_choice *c, const bt_part *part, const bt_token_out *t)
{
    const char *s = t->bytes ? t->bytes : "";
    if (!c->answer_begun) { // its text begins behind the prompt's
        pass_prompt(c, part, part->n_prompt);
        c->given = c->chars;
        c->answer_begun = true;
    }
    if (c->given > c->chars) {
        c->chars = c->given;
        c->lacks = 0;
    }
    int64_t place = c->lacks > 0 && bt_utf8_is_tail(*s) ? c->chars - 1 : c->chars;
    pass(c, s, (size_t)t->n_bytes);
    return place;
}

void bt__place_text(bt_choice *c, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) c->given += !bt_utf8_is_tail(text[i]);
}
