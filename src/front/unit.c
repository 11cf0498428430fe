/* SPDX-License-Identifier: Apache-2.0 */
/* unit.c - a model's start and end, and what others ask of it. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "front/internal.h"
#include "front/model_text.h"
#include "model/files.h"
#include "vocab/decode.h"
#include <stdio.h>
#include <string.h>

enum {
    CTX_DEFAULT = 4096, // until the engine says; its own rules too
    SLOTS_DEFAULT = 8,
};
static const int64_t push_wait_ns = 1000000000;

/* ---- the scheduler, from outside */

void bt__unit_events(bt_unit *u, const bt_sched_event *ev, size_t n)
{
    bt_status st = bt_inbox_push_wait(&u->sched_in, ev, n, bt_now_ns() + push_wait_ns);
    if (st == BT_ETIMEOUT)
        bt_log(BT_LOG_ERR, "sched.inbox_full", "event=%d count=%zu", ev->type, n);
}

void bt__unit_event(bt_unit *u, bt_sched_event_type type, uint64_t request)
{
    bt_sched_event ev = {.type = type, .request = request};
    bt__unit_events(u, &ev, 1);
}

bool bt__unit_has_running(bt_unit *u)
{
    pthread_mutex_lock(&u->sched_mu);
    bool has = bt_sched_running(u->sched) > 0;
    pthread_mutex_unlock(&u->sched_mu);
    return has;
}

bool bt__unit_has_requests(bt_unit *u)
{
    pthread_mutex_lock(&u->sched_mu);
    bool has = bt_sched_running(u->sched) + bt_sched_waiting(u->sched) > 0;
    pthread_mutex_unlock(&u->sched_mu);
    return has;
}

/* ---- its state */

void bt__unit_say(bt_unit *u, bool ready, const char *message)
{
    pthread_mutex_lock(&u->state_mu);
    u->state.ready = ready;
    snprintf(u->state.message, sizeof u->state.message, "%s", message);
    pthread_mutex_unlock(&u->state_mu);
}

int32_t bt__unit_ctx(bt_unit *u)
{
    pthread_mutex_lock(&u->state_mu);
    int32_t ctx = u->state.ctx;
    pthread_mutex_unlock(&u->state_mu);
    return ctx;
}

void bt_unit_state_get(bt_unit *u, bt_unit_state *out)
{
    pthread_mutex_lock(&u->state_mu);
    *out = u->state;
    pthread_mutex_unlock(&u->state_mu);
    out->model = u->name;
    out->draining = atomic_load(&u->front->draining);
    out->engine_restarts = (int32_t)atomic_load(&u->count.engine_restarts);
    bt__balances_refusal(u->front, out->ledger, sizeof out->ledger);
}

/* ---- its text, before anything has been decoded */

bt_status bt_unit_detokenize(bt_unit *u, const int32_t *ids, size_t n, char **text, size_t *n_text,
                             bt_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= bt_vocab_size(u->vocab))
            return bt_err_field(err, BT_EINVAL, "tokens",
                                "'tokens' holds %d, but ids go from 0 to %d", ids[i],
                                bt_vocab_size(u->vocab) - 1);
    return bt_decode(u->vocab, ids, n, false, text, n_text, err);
}

const char *bt_unit_token_bytes(bt_unit *u, int32_t id, size_t *n)
{
    return bt_vocab_bytes(u->vocab, id, n);
}

const char *bt_unit_token_piece(bt_unit *u, int32_t id, size_t *n)
{
    const char *s = bt_vocab_bytes(u->vocab, id, n);
    return s && bt_vocab_is_special(u->vocab, id) ? bt_vocab_piece(u->vocab, id, n) : s;
}

const bt_gen_params *bt_unit_defaults(const bt_unit *u)
{
    return &u->defaults;
}

/* ---- start */

const char *bt__keep(char **strings, size_t n, const char *s)
{
    size_t i = 0;
    if (!s) return NULL;
    while (i < n && strings[i]) i++;
    BT_ASSERT(i < n);
    return strings[i] = bt_must(bt_strdup(s));
}

static const char *keep(bt_unit *u, const char *s)
{
    return bt__keep(u->strings, BT_COUNT(u->strings), s);
}

static void open_options(bt_unit *u, const bt_unit_options *opt)
{
    u->opt = *opt;
    u->opt.engine.model_path = keep(u, opt->engine.model_path);
    u->opt.engine.device = keep(u, opt->engine.device);
    u->opt.engine.quant = keep(u, opt->engine.quant);
    u->opt.alias = keep(u, opt->alias);
    u->opt.chat_template = keep(u, opt->chat_template);
    if (u->opt.engine_timeout_s <= 0) u->opt.engine_timeout_s = 60;
    if (u->opt.engine.slots <= 0) u->opt.engine.slots = SLOTS_DEFAULT;
}

/* "models/stories260K.gguf" -> "stories260K" */
static void open_name(bt_unit *u)
{
    if (u->opt.alias)
        snprintf(u->name, sizeof u->name, "%s", u->opt.alias);
    else
        bt_model_name(u->opt.engine.model_path, u->name, sizeof u->name);
}

static bt_status open_text(bt_unit *u, bt_err *err)
{
    bt_model_text t;
    bt_status st = bt_model_text_open(u->opt.engine.model_path, u->opt.chat_template, &t, err);
    if (st) return st;
    u->vocab = t.vocab;
    u->tokenizer = t.tokenizer;
    u->chat = t.chat;
    u->chat_why = t.chat_why;
    if (t.chat_why.code)
        bt_log(BT_LOG_WARN, "chat.template", "error=\"%s\" hint=\"give --chat-template plain\"",
               t.chat_why.msg);
    int32_t wanted = u->opt.engine.ctx > 0         ? u->opt.engine.ctx
                     : u->opt.engine.kv_tokens > 0 ? BT_MIN(u->opt.engine.kv_tokens, CTX_DEFAULT)
                                                   : CTX_DEFAULT;
    u->state.ctx = BT_MIN(t.model->recipe.ctx_train, wanted);
    u->state.chat_template = t.chat && !bt_chat_is_plain(t.chat);
    u->state.vocab = bt_vocab_size(t.vocab);
    bt_gen_params_init(&u->defaults);
    bt_generation_apply(&t.model->generation, &u->defaults);
    if (u->opt.sampling) bt_generation_apply(u->opt.sampling, &u->defaults);
    u->opt.sampling = NULL;
    bt_model_close(t.model); // the engine opens its own
    return BT_OK;
}

/* The inbox is sized so that what must not be lost finds room: a living request has at most a
 * submit, a cancel of its client and one of a drain, and an answer of the ledger or an end on their
 * way to the scheduler. */
static bt_status open_sched(bt_unit *u, bt_err *err)
{
    const bt_front_options *opt = &u->front->opt;
    bt_sched_config c;
    bt_sched_config_init(&c);
    c.queue_max = opt->queue;
    c.requests_max = opt->queue + BT_RUNNING_MAX;
    c.accounts_max = c.requests_max + 4096;
    c.queue_wait_ns = opt->queue_wait_s * (int64_t)1000000000;
    c.anonymous_percent = opt->anonymous_percent;
    c.group_max = BT_MAX(c.queue_max / 16, 8);
    bt_status st = bt_sched_open(&c, &u->sched, err);
    if (st == BT_OK)
        st = bt_inbox_init(&u->sched_in, sizeof(bt_sched_event),
                           BT_SCHED_INBOX + 4 * u->front->alive_max, err);
    return st;
}

bt_status bt__unit_open(bt_front *f, const bt_unit_options *opt, bt_unit **out, bt_err *err)
{
    bt_unit *u = bt_calloc(1, sizeof *u);
    if (!u) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a model");
    *out = u;
    u->front = f;
    u->index = f->n_units;
    pthread_mutex_init(&u->sched_mu, NULL);
    pthread_mutex_init(&u->state_mu, NULL);
    bt__link_open(&u->link);
    open_options(u, opt);
    open_name(u);
    u->state.created = bt_wall_us() / 1000000;
    bt__unit_say(u, false, "loading the model");
    bt_status st = open_text(u, err);
    return st ? st : open_sched(u, err);
}

void bt__unit_close(bt_unit *u)
{
    if (!u) return;
    bt__link_release(&u->link);
    bt_inbox_release(&u->sched_in);
    bt_sched_close(u->sched);
    bt_chat_close(u->chat);
    bt_tokenizer_close(u->tokenizer);
    bt_vocab_close(u->vocab);
    for (size_t i = 0; i < BT_COUNT(u->strings); i++) bt_free(u->strings[i]);
    pthread_mutex_destroy(&u->sched_mu);
    pthread_mutex_destroy(&u->state_mu);
    bt_free(u);
}
