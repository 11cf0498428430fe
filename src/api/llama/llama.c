/* SPDX-License-Identifier: Apache-2.0 */
/* llama.c - llama-server's text routes: /tokenize, /detokenize, /apply-template. */
#include "api/llama/llama.h"
#include "api/parse.h"
#include "base/utf8.h"
#include <stdio.h>
#include <string.h>

/* What one answer may hold. All of it counts, whatever else the request says. */
enum {
    PIECES_MAX = 4096,    // strings in one 'content'
    TOKENS_MAX = 1 << 20, // tokens out, or in
    TEXT_MAX = 32 << 20,  // bytes of a detokenized text
};

/* ---- tokenize */

typedef struct tokens {
    int32_t *ids; // owned
    size_t n, cap;
} tokens;

static bool tokens_add(tokens *t, const int32_t *ids, size_t n)
{
    if (t->n + n > t->cap) {
        size_t want = t->cap ? 2 * t->cap : 256;
        if (want < t->n + n) want = t->n + n;
        int32_t *bigger = bt_realloc(t->ids, want * sizeof *bigger);
        if (!bigger) return false;
        t->ids = bigger;
        t->cap = want;
    }
    if (n) memcpy(t->ids + t->n, ids, n * sizeof *ids);
    t->n += n;
    return true;
}

static bt_status too_many(bt_parser *p, const char *field)
{
    return bt__parse_fault(p, BT_ETOOBIG, field,
                           "'%s' has more than %d tokens, the most that one answer holds: send it "
                           "in parts",
                           field, TOKENS_MAX);
}

/* What front said of the text in `field`, as a fault of that field where it is the text's own. */
static bt_status text_fault(bt_parser *p, bt_status st, const char *field)
{
    if (st == BT_ECONTEXT) return too_many(p, field);
    if ((st == BT_ETOOBIG || st == BT_EINVAL) && !*p->e->field)
        snprintf(p->e->field, sizeof p->e->field, "%s", field);
    return st;
}

static bt_status add_text(bt_parser *p, bt_text *x, const char *text, bool ends, bool special,
                          tokens *t)
{
    int32_t *ids = NULL;
    size_t n = 0, room = TOKENS_MAX - t->n;
    if (room == 0) return too_many(p, "content");
    bt_status st = bt_front_tokenize(x, text, strlen(text), ends, special, room, &ids, &n, p->e);
    if (st == BT_OK && !tokens_add(t, ids, n)) st = bt__parse_nomem(p);
    bt_free(ids);
    return text_fault(p, st, "content");
}

/* A string, or an array of strings and token ids; what belongs before a text comes once. */
static bt_status add_content(bt_parser *p, bt_text *x, const bt_json *content, bool ends,
                             bool special, tokens *t)
{
    int texts = 0;
    size_t n;
    size_t at = 0;
    if (bt_json_is(content, BT_JSON_STRING)) return add_text(p, x, content->text, ends, special, t);
    if (!bt_json_is(content, BT_JSON_ARRAY))
        return bt__parse_fault(p, BT_EINVAL, "content",
                               "'content' must be the text to tokenize: a string, or an array of "
                               "strings and token ids");
    for (const bt_json *item = content->child; item; item = item->next, at++) {
        int32_t id;
        bt_status st = BT_OK;
        if (bt_json_is(item, BT_JSON_STRING)) {
            if (texts == PIECES_MAX)
                return bt__parse_fault(p, BT_EINVAL, "content",
                                       "'content' holds more than %d strings", PIECES_MAX);
            st = add_text(p, x, item->text, ends && texts == 0, special, t);
            texts++;
        } else if (!bt__parse_id(item, &id)) {
            st = bt__parse_fault(p, BT_EINVAL, "content",
                                 "'content' has something at place %zu that is neither a string "
                                 "nor a token id",
                                 at);
        } else if (!bt_unit_token_bytes(x->unit, id, &n)) {
            st = bt__parse_fault(p, BT_EINVAL, "content",
                                 "'content' holds %d at place %zu, and the vocabulary has no such "
                                 "token",
                                 id, at);
        } else if (t->n == TOKENS_MAX) {
            st = too_many(p, "content");
        } else if (!tokens_add(t, &id, 1)) {
            st = bt__parse_nomem(p);
        }
        if (st != BT_OK) return st;
    }
    return BT_OK;
}

static void write_tokens(bt_buf *out, bt_unit *u, const tokens *t, bool pieces)
{
    bt_jw w = bt_jw_on(out);
    bt_jw_open(&w, '{');
    bt_jw_key(&w, "tokens");
    bt_jw_open(&w, '[');
    for (size_t i = 0; i < t->n; i++) {
        size_t n = 0;
        if (!pieces) {
            bt_jw_int(&w, t->ids[i]);
            continue;
        }
        const char *s = bt_unit_token_piece(u, t->ids[i], &n);
        bt_jw_open(&w, '{');
        bt_jw_kint(&w, "id", t->ids[i]);
        bt_jw_key(&w, "piece");
        if (s && bt_utf8_valid_prefix(s, n) == n) {
            bt_jw_strn(&w, s, n);
        } else {
            bt_jw_open(&w, '[');
            for (size_t k = 0; s && k < n; k++) bt_jw_int(&w, (unsigned char)s[k]);
            bt_jw_close(&w, ']');
        }
        bt_jw_close(&w, '}');
    }
    bt_jw_close(&w, ']');
    bt_jw_close(&w, '}');
}

static bt_status tokenize(bt_parser *p, bt_text *x, bt_buf *out)
{
    bool ends = false, special = true, pieces = false, guard = false;
    const bt_json *content = bt_json_item(p->root, "content");
    tokens t = {0};
    bt_status st;
    if ((st = bt__parse_bool(p, "add_special", &ends)) ||
        (st = bt__parse_bool(p, "with_pieces", &pieces)))
        return st;
    if (!content && bt_json_item(p->root, "messages")) {
        bt_template_chat chat = {0};
        if ((st = bt__parse_bool(p, "parse_special", &guard)) || (st = bt__parse_chat(p, &chat)))
            return st;
        st = bt_front_chat(x, &chat, guard, TOKENS_MAX, NULL, NULL, &t.ids, &t.n, p->e);
        st = text_fault(p, st, "messages");
    } else {
        st = bt__parse_bool(p, "parse_special", &special);
        if (st == BT_OK && !content)
            st = bt__parse_fault(p, BT_EINVAL, "content",
                                 "'content' is missing: the text to tokenize");
        if (st == BT_OK) st = add_content(p, x, content, ends, special, &t);
    }
    if (st == BT_OK) write_tokens(out, x->unit, &t, pieces);
    bt_free(t.ids);
    return st;
}

/* ---- detokenize */

static bt_status detokenize(bt_parser *p, bt_text *x, bt_buf *out)
{
    const bt_json *list = bt_json_item(p->root, "tokens");
    char *text = NULL;
    size_t n = 0, n_text = 0, bytes = 0, one = 0;
    if (!bt_json_is(list, BT_JSON_ARRAY))
        return bt__parse_fault(p, BT_EINVAL, "tokens", "'tokens' must be an array of token ids");
    size_t count = list->n;
    if (count > TOKENS_MAX) return too_many(p, "tokens");
    int32_t *ids = bt__parse_alloc(p, count + 1, sizeof *ids);
    if (!ids) return bt__parse_nomem(p);
    for (const bt_json *item = list->child; item; item = item->next, n++)
        if (!bt__parse_id(item, &ids[n]))
            return bt__parse_fault(p, BT_EINVAL, "tokens",
                                   "'tokens' has something at place %zu that is not a token id", n);
    for (size_t i = 0; i < n && bytes <= TEXT_MAX; i++)
        if (bt_unit_token_bytes(x->unit, ids[i], &one)) bytes += one;
    if (bytes > TEXT_MAX) // known before there is memory for it
        return bt__parse_fault(p, BT_ETOOBIG, "tokens",
                               "'tokens' make a text of more than %d MiB, the most that one answer "
                               "holds: send them in parts",
                               TEXT_MAX >> 20);
    bt_status st = bt_unit_detokenize(x->unit, ids, n, &text, &n_text, p->e);
    if (st != BT_OK) return text_fault(p, st, "tokens");
    bt_jw w = bt_jw_on(out);
    bt_jw_open(&w, '{');
    bt_jw_key(&w, "content");
    bt_jw_strn(&w, text, n_text);
    bt_jw_close(&w, '}');
    bt_free(text);
    return BT_OK;
}

/* ---- apply-template */

static bt_status apply_template(bt_parser *p, bt_text *x, bt_buf *out)
{
    bt_template_chat chat = {0};
    char *text = NULL;
    size_t n = 0;
    bt_status st = bt__parse_chat(p, &chat);
    if (st != BT_OK) return st;
    st = bt_front_chat(x, &chat, false, 0, &text, &n, NULL, NULL, p->e);
    if (st != BT_OK) return text_fault(p, st, "messages");
    bt_jw w = bt_jw_on(out);
    bt_jw_open(&w, '{');
    bt_jw_key(&w, "prompt");
    bt_jw_strn(&w, text, n);
    bt_jw_close(&w, '}');
    bt_free(text);
    return BT_OK;
}

bt_status bt_llama_answer(bt_llama_route route, bt_text *x, const char *body, size_t len,
                          bt_buf *out, bt_err *e)
{
    static bt_status (*const answer[])(bt_parser *, bt_text *,
                                       bt_buf *) = {[BT_LLAMA_TOKENIZE] = tokenize,
                                                    [BT_LLAMA_DETOKENIZE] = detokenize,
                                                    [BT_LLAMA_APPLY_TEMPLATE] = apply_template};
    bt_api_request scratch; // for its arena
    bt_parser p;
    bt_status st = bt__parse_open(&p, body, len, &scratch, e);
    if (st == BT_OK) st = answer[route](&p, x, out);
    bt_api_request_release(&scratch);
    return st;
}
