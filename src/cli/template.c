/* SPDX-License-Identifier: Apache-2.0 */
/* template.c - `baton template`: what a chat template makes of a context, byte for byte, or what a
 * model's chat format makes of a chat request; exit 1 with the reason where it raises. */
#include "api/openai/openai.h"
#include "base/clock.h"
#include "cli/cli.h"
#include "token/open.h"
#include "chat/template_chat.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { FILE_MAX = 64 << 20 };

static bt_status read_time(const char *text, int64_t *local_us, bt_err *err)
{
    struct tm tm;
    char end;
    memset(&tm, 0, sizeof tm);
    if (!text) {
        *local_us = bt_jinja_local_us(bt_wall_us());
        return BT_OK;
    }
    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%c", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
               &tm.tm_min, &tm.tm_sec, &end) != 6 ||
        tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 ||
        tm.tm_min > 59 || tm.tm_sec > 59)
        return bt_err_set(err, BT_EINVAL, 0, "--now must look like 2026-01-31T12:00:00");
    tm.tm_year -= 1900;
    tm.tm_mon--;
    int day = tm.tm_mday;
    *local_us = (int64_t)timegm(&tm) * 1000000;
    if (tm.tm_mday != day) // timegm makes a March day of February's 31st
        return bt_err_set(err, BT_EINVAL, 0, "--now names a day that its month does not have");
    return BT_OK;
}

/* A source and its variables, nothing else. */
static bt_status render_source(const bt_buf *source, const bt_buf *context, int64_t now_local_us,
                               bt_err *err)
{
    bt_jinja *t = NULL;
    bt_jinja_output out = {0};
    bt_jinja_options options = {.now_local_us = now_local_us};
    bt_jinja_vars vars = {context->data ? context->data : "", context->len, false};
    bt_status st =
        bt_jinja_compile(source->data ? source->data : "", source->len, NULL, &t, NULL, err);
    if (st == BT_OK) st = bt_jinja_render(t, &vars, 1, &options, &out, NULL, err);
    if (st == BT_OK) fwrite(out.text, 1, out.len, stdout);
    bt_jinja_output_release(&out);
    bt_jinja_free(t);
    return st;
}

static bt_status print_ids(const bt_chat *chat, const bt_tokenizer *tok,
                           const bt_jinja_output *prompt, bool parse_special, bt_err *err)
{
    bt_encoder *enc = NULL;
    const int32_t *ids;
    size_t n = 0;
    bt_status st = bt_encoder_open(tok, &enc, err);
    if (st == BT_OK) st = bt_chat_encode(chat, enc, prompt, parse_special, 0, NULL, &ids, &n, err);
    for (size_t i = 0; st == BT_OK && i < n; i++) printf("%s%d", i ? " " : "", ids[i]);
    if (st == BT_OK) putchar('\n');
    bt_encoder_close(enc);
    return st;
}

/* A model's chat format and the body of a chat request. */
static bt_status render_chat(const bt_options *o, const bt_buf *body, int64_t now_local_us,
                             bt_err *err)
{
    bt_vocab *vocab = NULL;
    bt_tokenizer *tok = NULL;
    bt_chat *chat = NULL;
    bt_api_request req = {0};
    bt_jinja_output prompt = {0};
    bt_buf file = BT_BUF_INIT;
    const char *own;
    bt_status st = bt_api_parse(&bt_openai_chat, NULL, NULL, body->data ? body->data : "",
                                body->len, &req, err);
    if (st) return st;
    bt_template_chat ask = *req.part[0].chat;
    ask.now_local_us = now_local_us;
    st = bt_cli_chat_template(o, &file, &own, err);
    if (st == BT_OK) st = bt_text_open(o->model, NULL, &vocab, o->ids ? &tok : NULL, err);
    if (st == BT_OK) st = bt_chat_open(vocab, own, &chat, err);
    if (st == BT_OK) st = bt_chat_render(chat, &ask, &prompt, err);
    if (st == BT_OK && o->ids)
        st = print_ids(chat, tok, &prompt, req.part[0].parse_special, err);
    else if (st == BT_OK)
        fwrite(prompt.text, 1, prompt.len, stdout);
    bt_jinja_output_release(&prompt);
    bt_chat_close(chat);
    bt_tokenizer_close(tok);
    bt_vocab_close(vocab);
    bt_api_request_release(&req);
    bt_buf_release(&file);
    return st;
}

int bt_cmd_template(const bt_options *o, int argc, char **argv)
{
    (void)argc, (void)argv;
    bt_buf source = BT_BUF_INIT, context = BT_BUF_INIT;
    int64_t now_local_us = 0;
    bt_err err = {0};
    bt_status st = BT_OK;
    if ((!o->template_file && (!o->model || !*o->model)) || !o->context)
        st = bt_err_set(&err, BT_EINVAL, 0,
                        "give a template and its variables (--template FILE --context FILE), or a "
                        "model and a chat request (--model PATH --context FILE)");
    else if (o->ids && o->template_file)
        st = bt_err_set(&err, BT_EINVAL, 0, "--ids goes with --model, not with --template");
    if (st == BT_OK) st = read_time(o->now, &now_local_us, &err);
    if (st) { // the command line is at fault, not the template
        bt_cli_fail(&err);
        return 2;
    }
    if (o->template_file) st = bt_cli_read_file(o->template_file, &source, FILE_MAX, &err);
    if (st == BT_OK) st = bt_cli_read_file(o->context, &context, FILE_MAX, &err);
    if (st == BT_OK && o->template_file)
        st = render_source(&source, &context, now_local_us, &err);
    else if (st == BT_OK)
        st = render_chat(o, &context, now_local_us, &err);
    if (st) fprintf(stderr, "baton: %s\n", err.msg);
    bt_buf_release(&source);
    bt_buf_release(&context);
    return st ? 1 : 0;
}
