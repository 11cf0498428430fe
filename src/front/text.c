/* SPDX-License-Identifier: Apache-2.0 */
/* text.c - the text worker: prompts to tokens, then on to the scheduler.
 *
 * Control tokens spelled inside messages or prompts stay plain text. */
#include "base/clock.h"
#include "front/internal.h"
#include <string.h>

/* Adds the format's own stop string, if there is room among the request's. */
static bt_status chat_add_stop(bt_stream *s, bt_err *err)
{
    int32_t n = s->params.n_stop;
    if (n >= BT_STOP_MAX) return BT_OK;
    const char **stop = bt_arena_alloc(&s->arena, ((size_t)n + 1) * sizeof *stop);
    if (!stop) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the request");
    for (int32_t i = 0; i < n; i++) stop[i] = s->params.stop[i];
    stop[n] = bt_chat_stop;
    s->params.stop = stop;
    s->params.n_stop = n + 1;
    return BT_OK;
}

static bt_status text_encode(bt_front *f, bt_encoder *enc, bt_stream *s, int32_t ctx, bt_err *err)
{
    if (s->tokens) {
        for (int32_t i = 0; i < s->n_tokens; i++)
            if (s->tokens[i] < 0 || s->tokens[i] >= bt_vocab_size(f->vocab))
                return bt_err_set(err, BT_EINVAL, 0,
                                  "'prompt' holds token %d, but ids go from 0 to %d", s->tokens[i],
                                  bt_vocab_size(f->vocab) - 1);
        return BT_OK;
    }
    bt_buf chat = BT_BUF_INIT;
    const int32_t *ids;
    size_t n;
    bt_status st = BT_OK;
    if (s->messages) {
        bt_chat_render(s->messages, s->n_messages, &chat);
        st = chat.failed ? bt_err_set(err, BT_ETOOBIG, 0, "the messages are too long")
                         : chat_add_stop(s, err);
    }
    if (st == BT_OK) {
        bt_encode_options opt = {.add_special = true, .parse_special = false};
        st = bt_encode(enc, s->messages ? chat.data : s->text, s->messages ? chat.len : s->n_text,
                       &opt, (size_t)ctx, &ids, &n, err);
    }
    bt_buf_release(&chat);
    if (st == BT_ECONTEXT)
        return bt_err_set(err, st, 0,
                          "the prompt is longer than this model's context of %d tokens; shorten it",
                          ctx);
    if (st) return st;
    if (n == 0) return bt_err_set(err, BT_EINVAL, 0, "the prompt is empty");
    s->tokens = bt_malloc(n * sizeof *s->tokens);
    if (!s->tokens) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for %zu tokens", n);
    memcpy(s->tokens, ids, n * sizeof *s->tokens);
    s->n_tokens = (int32_t)n;
    return BT_OK;
}

/* The context, before READY by the engine's own rule. */
static int32_t context_of(bt_front *f)
{
    pthread_mutex_lock(&f->state_mu);
    int32_t ctx = f->state.ctx;
    pthread_mutex_unlock(&f->state_mu);
    return ctx;
}

/* Room for the answer: what was asked for, at most what the context leaves. */
static bt_status text_bound(bt_front *f, bt_stream *s, int32_t ctx, bt_err *err)
{
    if (s->n_tokens >= ctx)
        return bt_err_set(err, BT_ECONTEXT, 0,
                          "the prompt is %d tokens, this model's context is %d: shorten the prompt",
                          s->n_tokens, ctx);
    pthread_mutex_lock(&f->state_mu);
    int64_t pages = f->state.n_pages, page = f->state.page_tokens;
    int32_t slots = f->state.slots;
    pthread_mutex_unlock(&f->state_mu);
    int32_t room = ctx - s->n_tokens;
    /* Who named no length gets what the KV cache holds for that many sequences. */
    int64_t fit = pages / s->n_seq * page - s->n_tokens;
    if (s->params.max_tokens <= 0 && fit > 0 && fit < room) room = (int32_t)fit;
    s->max_tokens =
        s->params.max_tokens > 0 && s->params.max_tokens < room ? s->params.max_tokens : room;
    s->params.max_tokens = s->max_tokens;
    if (slots > 0 && s->n_seq > slots)
        return bt_err_set(err, BT_EINVAL, 0, "'n' is %d, but this server runs %d sequences at once",
                          s->n_seq, slots);
    if (s->n_seq > s->identity.tier->slots)
        return bt_err_set(err, BT_EINVAL, 0, "'n' is %d, but tier %s runs %d sequences at once",
                          s->n_seq, s->identity.tier->name, s->identity.tier->slots);
    if (page > 0 && (s->n_tokens + s->max_tokens + page - 1) / page * s->n_seq > pages)
        return bt_err_set(
            err, BT_EINVAL, 0,
            "%d sequences of %d tokens do not fit the KV cache; lower 'n' or max_tokens", s->n_seq,
            s->n_tokens + s->max_tokens);
    return BT_OK;
}

static void text_submit(bt_front *f, bt_stream *s)
{
    const bt_tier *t = s->identity.tier;
    bt_sched_event ev = {.type = BT_EV_SUBMIT, .request = s->id};
    ev.u.submit = (bt_sched_request){
        .id = s->id,
        .account = {.id = s->identity.account_id,
                    .cls = (int32_t)t->cls,
                    .weight = t->weight,
                    .slots = t->slots,
                    .queue = t->queue,
                    .lease_max_ns = t->lease_max_s * (int64_t)1000000000},
        .prompt_tokens = s->n_tokens,
        .max_tokens = s->max_tokens,
        .n_seq = s->n_seq,
        .lease_ns = s->lease_ns,
    };
    bt__front_event(f, &ev);
    atomic_store(&s->in_sched, true);
    /* a cancel that came before in_sched was set has told nobody */
    if (atomic_load(&s->cancelled)) bt__front_event_simple(f, BT_EV_CANCEL, s->id);
}

/* *enc is opened for the first request, and for each again while that fails. */
static void text_one(bt_front *f, bt_encoder **enc, bt_stream *s)
{
    bt_err err = {0};
    int32_t ctx = context_of(f);
    bt_status st = atomic_load(&s->cancelled) ? BT_ECANCELLED : BT_OK;
    if (st == BT_OK && !*enc) st = bt_encoder_open(f->tokenizer, enc, &err);
    if (st == BT_OK) st = text_encode(f, *enc, s, ctx, &err);
    if (st == BT_OK) st = text_bound(f, s, ctx, &err);
    if (st == BT_OK) {
        text_submit(f, s);
        return;
    }
    bt__count_refused(&f->count, st);
    bt__stream_refused(s, st, err.msg, 0, NULL);
    bt__front_forget(f, s);
}

void *bt__text_main(void *front)
{
    bt_front *f = front;
    bt_encoder *enc = NULL;
    bt_stream *batch[64];
    int n;
    while ((n = bt_inbox_take(&f->text_in, batch, 64, bt_now_ns() + 1000000000)) >= 0)
        for (int i = 0; i < n; i++) {
            text_one(f, &enc, batch[i]);
            bt_stream_unref(batch[i]);
        }
    bt_encoder_close(enc);
    return NULL;
}
