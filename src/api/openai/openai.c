/* SPDX-License-Identifier: Apache-2.0 */
/* openai.c - chunks, bodies and errors, as far as chats and completions have them alike. */
#include "api/openai/openai_parts.h"
#include "base/clock.h"
#include <stdio.h>

/* ---- what each chunk starts with, written once */

static void put_head(bt_answer *a, bt_buf *out)
{
    if (!a->head.len) {
        bt_jw w = bt_jw_on(&a->head);
        char id[24], name[40];
        bool chat = a->dialect == &bt_openai_chat;
        snprintf(name, sizeof name, "%s-%s", chat ? "chatcmpl" : "cmpl",
                 bt_api_id(a->part[0].id, id));
        bt_jw_open(&w, '{');
        bt_jw_kstr(&w, "id", name);
        bt_jw_kstr(&w, "object",
                   !chat       ? "text_completion"
                   : a->stream ? "chat.completion.chunk"
                               : "chat.completion");
        bt_jw_kint(&w, "created", a->created_s);
        bt_jw_kstr(&w, "model", a->model);
        bt_jw_kstr(&w, "system_fingerprint", a->fingerprint);
        bt_jw_key(&w, "choices");
        bt_jw_open(&w, '[');
    }
    bt_buf_add(out, a->head.data, a->head.len);
    if (a->head.failed) out->failed = true;
}

static void write_books(const bt_answer *a, bt_jw *w)
{
    bt__answer_usage(a, w);
    bt__answer_timings(a, w);
    bt__answer_baton(a, w);
}

/* ---- chunks */

static bt_jw choices_open(bt_answer *a, bt_buf *out)
{
    bt_buf_adds(out, "data: ");
    put_head(a, out);
    return bt_jw_on(out);
}

static void choices_close(const bt_answer *a, bt_jw *w, bool books)
{
    bt_jw_close(w, ']');
    if (books)
        write_books(a, w);
    else if (a->include_usage)
        bt_jw_knull(w, "usage");
    bt_jw_close(w, '}');
    bt_buf_adds(w->b, "\n\n");
}

bt_jw bt__openai_chunk_open(bt_answer *a, int32_t choice, bt_buf *out)
{
    bt_jw w = choices_open(a, out);
    bt_jw_open(&w, '{');
    bt_jw_kint(&w, "index", choice);
    return w;
}

void bt__openai_chunk_close(const bt_answer *a, bt_jw *w, const char *reason, bool books)
{
    bt_jw_kstr(w, "finish_reason", reason);
    bt_jw_close(w, '}');
    choices_close(a, w, books);
}

void bt__openai_done(bt_answer *a, bt_buf *out)
{
    if (a->include_usage) {
        bt_jw w = choices_open(a, out);
        choices_close(a, &w, true);
    }
    bt_buf_adds(out, "data: [DONE]\n\n");
}

void bt__openai_note(const char *text, bt_buf *out)
{
    bt_buf_addf(out, ": %s\n", text);
}

/* ---- bodies */

bt_jw bt__openai_body_open(bt_answer *a, bt_buf *out)
{
    put_head(a, out);
    return bt_jw_on(out);
}

void bt__openai_body_close(const bt_answer *a, bt_jw *w)
{
    bt_jw_close(w, ']');
    write_books(a, w);
    bt_jw_close(w, '}');
}

void bt__openai_body_text(bt_jw *w, const char *key, bt_choice *c)
{
    bt_jw_key(w, key);
    bt_jw_strn(w, c->text.data ? c->text.data : "", c->text.len);
    if (c->text.failed) w->b->failed = true;
    bt_buf_release(&c->text);
}

bool bt__openai_logprobs_open(const bt_answer *a, bt_jw *w)
{
    bt_jw_key(w, "logprobs");
    if (a->logprobs)
        bt_jw_open(w, '{');
    else
        bt_jw_null(w);
    return a->logprobs;
}

void bt__openai_items(bt_jw *w, const char *key, bt_buf *items)
{
    bt_jw_key(w, key);
    bt_jw_open(w, '[');
    if (items->len) bt_jw_raw(w, items->data, items->len);
    bt_jw_close(w, ']');
    if (items->failed) w->b->failed = true;
    bt_buf_release(items);
}

const char *bt__openai_finish_reason(bt_finish f)
{
    return f == BT_FINISH_EOS || f == BT_FINISH_STOP ? "stop" : "length";
}

/* ---- errors */

/* OpenAI's names for the kinds of errors, by status code. */
static const char *error_type(bt_status st)
{
    if (st == BT_EQUOTA) return "insufficient_quota";
    switch (bt_status_get(st)->http) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 429: return "rate_limit_error";
    case 503: return "unavailable_error";
    default: return bt_status_get(st)->http < 500 ? "invalid_request_error" : "server_error";
    }
}

void bt_openai_error(const bt_api_error *err, bool event, bt_buf *out)
{
    const bt_status_info *info = bt_status_get(err->status);
    const bt_ledger_balance *balance = err->balance;
    if (event) bt_buf_adds(out, "data: ");
    bt_jw w = bt_jw_on(out);
    bt_jw_open(&w, '{');
    bt_jw_key(&w, "error");
    bt_jw_open(&w, '{');
    bt_jw_kstr(&w, "message", err->message && *err->message ? err->message : info->text);
    bt_jw_kstr(&w, "type", error_type(err->status));
    bt_jw_kstr(&w, "param", err->param && *err->param ? err->param : NULL);
    bt_jw_kstr(&w, "code", err->code ? err->code : info->label);
    if (balance && err->status == BT_EQUOTA && balance->limit_us >= 0) {
        char when[24];
        bt_jw_kint(&w, "limit_us", balance->limit_us);
        bt_jw_kint(&w, "remaining_us", balance->remaining_us);
        bt_jw_kstr(&w, "resets_at",
                   balance->resets_us ? bt_rfc3339(balance->resets_us, when) : NULL);
    }
    bt_jw_close(&w, '}');
    bt_jw_close(&w, '}');
    if (event) bt_buf_adds(out, "\n\n");
}

void bt_api_error_write(const bt_dialect *d, const bt_api_error *err, bool event, bt_buf *out)
{
    if (d)
        d->error(err, event, out);
    else
        bt_openai_error(err, event, out);
}
