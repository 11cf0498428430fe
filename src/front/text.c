/* SPDX-License-Identifier: Apache-2.0 */
/* text.c - the text work of front: prompts to tokens, then on to the scheduler; and the text
 * services.
 *
 * Control tokens spelled by users inside messages or prompts stay plain text, unless the request
 * asks otherwise. Chats are rendered here, never on the HTTP loop: a template is bounded, but not
 * short. */
#include "base/assert.h"
#include "base/clock.h"
#include "front/internal.h"
#include <stdio.h>
#include <string.h>

/* ---- prompts to tokens */

/* Adds the format's own stop string, if there is room among the request's. */
static bt_status chat_add_stop(bt_stream *s, const char *own, bt_err *err)
{
    int32_t n = s->params.n_stop;
    if (!own || n >= BT_STOP_MAX) return BT_OK;
    const char **stop = bt_arena_alloc(&s->arena, ((size_t)n + 1) * sizeof *stop);
    if (!stop) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the request");
    for (int32_t i = 0; i < n; i++) stop[i] = s->params.stop[i];
    stop[n] = own;
    s->params.stop = stop;
    s->params.n_stop = n + 1;
    return BT_OK;
}

static bt_status chat_render(bt_text *t, const bt_template_chat *chat, bt_jinja_output *out,
                             bt_err *err)
{
    const bt_unit *u = t->unit;
    bt_template_chat now = *chat;
    now.stop = &t->stop;
    if (!u->chat)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "this model's chat template cannot be used (%.150s): use "
                          "/v1/completions",
                          u->chat_why.msg);
    return bt_chat_render(u->chat, &now, out, err);
}

static bt_status encode_chat(bt_text *t, bt_encoder *enc, const bt_template_chat *chat,
                             bool parse_special, size_t n_max, const int32_t **ids, size_t *n,
                             bt_err *err)
{
    bt_jinja_output prompt = {0};
    bt_status st = chat_render(t, chat, &prompt, err);
    if (st == BT_OK)
        st = bt_chat_encode(t->unit->chat, enc, &prompt, parse_special, n_max, &t->stop, ids, n,
                            err);
    bt_jinja_output_release(&prompt);
    return st;
}

/* A private copy of ids; NULL if there is no memory. */
static int32_t *copy_ids(const int32_t *ids, size_t n, bt_err *err)
{
    int32_t *copy = bt_malloc((n + 1) * sizeof *copy);
    if (copy && n) memcpy(copy, ids, n * sizeof *copy);
    if (!copy) bt_err_set(err, BT_ENOMEM, 0, "out of memory for %zu tokens", n);
    return copy;
}

static bt_status too_long(int32_t ctx, bt_err *err)
{
    return bt_err_set(err, BT_ECONTEXT, 0,
                      "the prompt is longer than this model's context of %d tokens; shorten it",
                      ctx);
}

static bt_status longer(int32_t n_tokens, int32_t ctx, bt_err *err)
{
    return bt_err_set(err, BT_ECONTEXT, 0,
                      "the prompt is %d tokens, this model's context is %d: shorten the prompt",
                      n_tokens, ctx);
}

static bt_status text_encode(bt_text *t, bt_stream *s, int32_t ctx, bt_err *err)
{
    bt_encoder *enc;
    const int32_t *ids;
    size_t n;
    if (s->tokens) return BT_OK;
    bt_status st = bt_text_encoder(t, &enc, err);
    if (st) return st;
    if (s->chat) {
        st = encode_chat(t, enc, s->chat, s->parse_special, (size_t)ctx, &ids, &n, err);
        if (st == BT_OK) {
            s->chat = NULL;
            bt_arena_release(&s->arena);
            st = chat_add_stop(s, bt_chat_stop(t->unit->chat), err);
        }
    } else {
        bt_encode_options opt = {
            .add_special = !s->bare, .parse_special = s->parse_special, .stop = &t->stop};
        st = bt_encode(enc, s->text, s->n_text, &opt, (size_t)ctx, &ids, &n, err);
    }
    if (st == BT_ECONTEXT) return too_long(ctx, err);
    if (st) return st;
    if (n == 0) return bt_err_field(err, BT_EINVAL, "prompt", "the prompt is empty");
    s->tokens = copy_ids(ids, n, err);
    if (!s->tokens) return BT_ENOMEM;
    s->n_tokens = (int32_t)n;
    return BT_OK;
}

bt_status bt__text_fits(bt_unit *u, const bt_front_request *req, bt_err *err)
{
    size_t bytes = bt_tokenizer_token_bytes(u->tokenizer);
    int32_t ctx = bt__unit_ctx(u);
    if (req->tokens && req->n_tokens >= ctx)
        longer(req->n_tokens, ctx, err);
    else if (req->text && bytes && req->n_text / bytes > (size_t)ctx)
        too_long(ctx, err);
    else
        return BT_OK;
    if (err) snprintf(err->field, sizeof err->field, "prompt");
    return BT_ECONTEXT;
}

/* Room for the answer: what was asked for, at most what the context leaves. */
static bt_status text_bound(bt_stream *s, int32_t ctx, bt_err *err)
{
    bt_unit *u = s->unit;
    if (s->n_tokens >= ctx) return longer(s->n_tokens, ctx, err);
    pthread_mutex_lock(&u->state_mu);
    int64_t pages = u->state.n_pages, page = u->state.page_tokens;
    int32_t slots = u->state.slots > 0 ? u->state.slots : u->opt.engine.slots;
    pthread_mutex_unlock(&u->state_mu);
    int32_t room = ctx - s->n_tokens;
    /* Who named no length gets what the KV cache holds for that many sequences. */
    int64_t fit = pages / s->n_seq * page - s->n_tokens;
    if (s->params.max_tokens <= 0 && fit > 0 && fit < room) room = (int32_t)fit;
    s->max_tokens =
        s->params.max_tokens > 0 && s->params.max_tokens < room ? s->params.max_tokens : room;
    s->params.max_tokens = s->max_tokens;
    if (s->n_seq > slots)
        return bt_err_field(err, BT_EINVAL, "n",
                            "'n' is %d, but this server runs %d sequences at once", s->n_seq,
                            slots);
    if (s->n_seq > s->identity.tier->slots)
        return bt_err_field(err, BT_EINVAL, "n", "'n' is %d, but tier %s runs %d sequences at once",
                            s->n_seq, s->identity.tier->name, s->identity.tier->slots);
    if (page > 0 && (s->n_tokens + s->max_tokens + page - 1) / page * s->n_seq > pages)
        return bt_err_field(
            err, BT_EINVAL, s->n_seq > 1 ? "n" : "max_tokens",
            "%d sequences of %d tokens do not fit the KV cache; lower 'n' or max_tokens", s->n_seq,
            s->n_tokens + s->max_tokens);
    return BT_OK;
}

/* All prompts of a request; what is wrong with one of many names it. */
static bt_status text_parts(bt_text *t, bt_parts *p, bt_err *err)
{
    int32_t ctx = bt__unit_ctx(t->unit);
    for (int32_t i = 0; i < p->n; i++) {
        bt_stream *s = p->part[i];
        if (atomic_load(&s->cancelled)) return BT_ECANCELLED;
        bt_status st = text_encode(t, s, ctx, err);
        if (st == BT_OK) st = text_bound(s, ctx, err);
        if (st == BT_OK) continue;
        bt__parts_name(err, i, p->n);
        return st;
    }
    return BT_OK;
}

/* ---- as text work */

static void text_run(bt_work *w, bt_text *t)
{
    bt_stream *s = BT_OF(bt_stream, work, w);
    s->text_err.code = text_parts(t, s->parts, &s->text_err);
}

static void text_done(bt_work *w, bt_status st)
{
    bt_stream *s = BT_OF(bt_stream, work, w);
    bt_front *f = s->unit->front;
    if (st == BT_OK && atomic_load(&s->cancelled)) st = BT_ECANCELLED;
    const char *why = st ? bt_status_get(st)->text : s->text_err.msg;
    if (st == BT_OK) st = s->text_err.code;
    if (st == BT_OK) {
        s->parts->next = 1;
        s->parts->waiting = true;
        bt__parts_submit(s);
    } else {
        bt__parts_drop(s->parts);
        bt__count_refused(&f->count, st);
        snprintf(s->field, sizeof s->field, "%s", s->text_err.field);
        bt__stream_refused(s, st, why, 0, NULL);
        bt__front_forget(f, s);
    }
    bt_stream_unref(s);
}

bt_status bt__text_start(bt_stream *s, bt_err *err)
{
    s->work.bytes = s->arena.used;
    for (int32_t i = 0; i < s->parts->n; i++)
        s->work.bytes +=
            s->parts->part[i]->n_text + (size_t)s->parts->part[i]->n_tokens * sizeof *s->tokens;
    s->work.who = &s->identity;
    s->work.unit = s->unit;
    s->work.run = text_run;
    s->work.done = text_done;
    return bt_work_start(s->unit->front, &s->work, err);
}

/* ---- text services */

bt_status bt_front_tokenize(bt_text *t, const char *text, size_t n, bool add_special,
                            bool parse_special, size_t n_max, int32_t **ids, size_t *n_ids,
                            bt_err *err)
{
    bt_encoder *enc;
    const int32_t *found;
    size_t count;
    bt_encode_options opt = {
        .add_special = add_special, .parse_special = parse_special, .stop = &t->stop};
    bt_status st = bt_text_encoder(t, &enc, err);
    if (st == BT_OK) st = bt_encode(enc, text, n, &opt, n_max, &found, &count, err);
    if (st == BT_OK) {
        int32_t *copy = copy_ids(found, count, err);
        st = copy ? BT_OK : BT_ENOMEM;
        if (copy) *ids = copy, *n_ids = count;
    }
    return st;
}

bt_status bt_front_chat(bt_text *t, const bt_template_chat *chat, bool parse_special, size_t n_max,
                        char **text, size_t *n_text, int32_t **ids, size_t *n_ids, bt_err *err)
{
    bt_jinja_output prompt = {0};
    bt_encoder *enc;
    const int32_t *found;
    size_t count;
    int32_t *copy = NULL;
    bt_status st = chat_render(t, chat, &prompt, err);
    if (st == BT_OK && ids) {
        st = bt_text_encoder(t, &enc, err);
        if (st == BT_OK)
            st = bt_chat_encode(t->unit->chat, enc, &prompt, parse_special, n_max, &t->stop, &found,
                                &count, err);
        if (st == BT_OK && !(copy = copy_ids(found, count, err))) st = BT_ENOMEM;
    }
    if (st == BT_OK && ids) *ids = copy, *n_ids = count;
    if (st == BT_OK && text) {
        *text = prompt.text;
        *n_text = prompt.len;
        prompt.text = NULL;
    }
    bt_jinja_output_release(&prompt);
    return st;
}
