/* SPDX-License-Identifier: Apache-2.0 */
/* llama.c - llama-server's text routes: /tokenize, /detokenize, /apply-template. */
#include "api/parse.h"
#include "base/utf8.h"
#include <string.h>

enum { PIECES_MAX = 4096 }; // strings in one 'content'

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

static bt_status no_memory(bt_parser *p)
{
    return bt_err_set(p->e, BT_ENOMEM, 0, "out of memory for the tokens");
}

static bt_status add_text(bt_parser *p, bt_front *f, const char *text, bool ends, bool special,
                          tokens *t)
{
    int32_t *ids = NULL;
    size_t n = 0;
    bt_status rc = bt_front_tokenize(f, text, strlen(text), ends, special, &ids, &n, p->e);
    if (rc == BT_OK && !tokens_add(t, ids, n)) rc = no_memory(p);
    bt_free(ids);
    return rc;
}

static bool id_of(const cJSON *item, int32_t *id)
{
    double v = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(v >= 0 && v <= INT32_MAX) || v != (double)(int32_t)v) return false;
    *id = (int32_t)v;
    return true;
}

/* A string, or an array of strings and token ids; what belongs before a text comes once. */
static bt_status add_content(bt_parser *p, bt_front *f, const cJSON *content, bool ends,
                             bool special, tokens *t)
{
    int texts = 0;
    size_t at = 0;
    if (cJSON_IsString(content)) return add_text(p, f, content->valuestring, ends, special, t);
    if (!cJSON_IsArray(content))
        return bt__parse_fault(p, BT_EINVAL, "content",
                               "'content' must be the text to tokenize: a string, or an array of "
                               "strings and token ids");
    for (const cJSON *item = content->child; item; item = item->next, at++) {
        int32_t id;
        bt_status rc = BT_OK;
        if (cJSON_IsString(item)) {
            if (texts == PIECES_MAX)
                return bt__parse_fault(p, BT_EINVAL, "content",
                                       "'content' holds more than %d strings", PIECES_MAX);
            rc = add_text(p, f, item->valuestring, ends && texts++ == 0, special, t);
        } else if (!id_of(item, &id)) {
            rc = bt__parse_fault(p, BT_EINVAL, "content",
                                 "'content' has something at place %zu that is neither a string "
                                 "nor a token id",
                                 at);
        } else if (!tokens_add(t, &id, 1)) {
            rc = no_memory(p);
        }
        if (rc != BT_OK) return rc;
    }
    return BT_OK;
}

static void write_piece(bt_jw *w, bt_front *f, int32_t id)
{
    size_t n = 0;
    const char *s = bt_front_token_piece(f, id, &n);
    bt_jw_open(w, '{');
    bt_jw_kint(w, "id", id);
    bt_jw_key(w, "piece");
    if (s && bt_utf8_valid_prefix(s, n) == n) {
        bt_jw_strn(w, s, n);
    } else {
        bt_jw_open(w, '[');
        for (size_t i = 0; s && i < n; i++) bt_jw_int(w, (unsigned char)s[i]);
        bt_jw_close(w, ']');
    }
    bt_jw_close(w, '}');
}

static void write_tokens(bt_buf *out, bt_front *f, const tokens *t, bool pieces)
{
    bt_jw w = bt_jw_on(out);
    bt_jw_open(&w, '{');
    bt_jw_key(&w, "tokens");
    bt_jw_open(&w, '[');
    for (size_t i = 0; i < t->n; i++) {
        if (pieces)
            write_piece(&w, f, t->ids[i]);
        else
            bt_jw_int(&w, t->ids[i]);
    }
    bt_jw_close(&w, ']');
    bt_jw_close(&w, '}');
}

static bt_status tokenize(bt_parser *p, bt_front *f, bt_buf *out)
{
    bool ends = false, special = true, pieces = false, guard = false;
    const cJSON *content = bt_json_item(p->root, "content");
    tokens t = {0};
    bt_status rc;
    if ((rc = bt__parse_bool(p, "add_special", &ends)) ||
        (rc = bt__parse_bool(p, "with_pieces", &pieces)))
        return rc;
    if (!content && bt_json_item(p->root, "messages")) {
        bt_template_chat chat = {0};
        if ((rc = bt__parse_bool(p, "parse_special", &guard)) || (rc = bt__parse_chat(p, &chat)))
            return rc;
        rc = bt_front_chat(f, &chat, guard, NULL, NULL, &t.ids, &t.n, p->e);
    } else {
        rc = bt__parse_bool(p, "parse_special", &special);
        if (rc == BT_OK && !content)
            rc = bt__parse_fault(p, BT_EINVAL, "content",
                                 "'content' is missing: the text to tokenize");
        if (rc == BT_OK) rc = add_content(p, f, content, ends, special, &t);
    }
    if (rc == BT_OK) write_tokens(out, f, &t, pieces);
    bt_free(t.ids);
    return rc;
}

/* ---- detokenize */

static bt_status detokenize(bt_parser *p, bt_front *f, bt_buf *out)
{
    const cJSON *list = bt_json_item(p->root, "tokens");
    char *text = NULL;
    size_t n = 0, n_text = 0;
    if (!cJSON_IsArray(list))
        return bt__parse_fault(p, BT_EINVAL, "tokens", "'tokens' must be an array of token ids");
    int32_t *ids = bt__parse_alloc(p, (size_t)cJSON_GetArraySize(list) + 1, sizeof *ids);
    if (!ids) return bt__parse_nomem(p);
    for (const cJSON *item = list->child; item; item = item->next, n++)
        if (!id_of(item, &ids[n]))
            return bt__parse_fault(p, BT_EINVAL, "tokens",
                                   "'tokens' has something at place %zu that is not a token id", n);
    bt_status rc = bt_front_detokenize(f, ids, n, &text, &n_text, p->e);
    if (rc != BT_OK) return rc;
    bt_jw w = bt_jw_on(out);
    bt_jw_open(&w, '{');
    bt_jw_key(&w, "content");
    bt_jw_strn(&w, text, n_text);
    bt_jw_close(&w, '}');
    bt_free(text);
    return BT_OK;
}

/* ---- apply-template */

static bt_status apply_template(bt_parser *p, bt_front *f, bt_buf *out)
{
    bt_template_chat chat = {0};
    char *text = NULL;
    size_t n = 0;
    bt_status rc = bt__parse_chat(p, &chat);
    if (rc == BT_OK) rc = bt_front_chat(f, &chat, false, &text, &n, NULL, NULL, p->e);
    if (rc != BT_OK) return rc;
    bt_jw w = bt_jw_on(out);
    bt_jw_open(&w, '{');
    bt_jw_key(&w, "prompt");
    bt_jw_strn(&w, text, n);
    bt_jw_close(&w, '}');
    bt_free(text);
    return BT_OK;
}

bt_status bt_llama_answer(bt_llama_route route, bt_front *f, const char *body, size_t len,
                          bt_buf *out, bt_err *e)
{
    static bt_status (*const answer[])(bt_parser *, bt_front *,
                                       bt_buf *) = {[BT_LLAMA_TOKENIZE] = tokenize,
                                                    [BT_LLAMA_DETOKENIZE] = detokenize,
                                                    [BT_LLAMA_APPLY_TEMPLATE] = apply_template};
    bt_api_request scratch; // for its arena
    bt_parser p;
    bt_status rc = bt__parse_open(&p, body, len, &scratch, e);
    if (rc == BT_OK) rc = answer[route](&p, f, out);
    rc = bt__parse_close(&p, rc);
    bt_api_request_release(&scratch);
    return rc;
}
