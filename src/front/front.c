/* SPDX-License-Identifier: Apache-2.0 */
/* front.c - start, stop, submit and the registry of living requests.
 *
 * Shutdown is one function, the reverse of start: stop accepting -> cancel the queue -> let running
 * requests end or cancel them -> stop the engine -> post or void -> join. */
#include "front/internal.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/mem.h"
#include "front/model_text.h"
#include <string.h>

enum {
    QUEUE_DEFAULT = 1024,
    CTX_DEFAULT = 4096, // until the engine says; its own rules too
    SLOTS_DEFAULT = 8,
    STREAM_BYTES_DEFAULT = 256 << 10,
    PUSH_WAIT_NS = 1000000000,
    DRAIN_NS = 20000000, // one look at the drain
};
static const int64_t ns_per_s = 1000000000;

/* ---- small shared helpers */

/* Under a lock, so that a server that unhooks itself can be freed: no wake is still in flight. */
void bt__front_wake(bt_front *f, bt_stream *s)
{
    pthread_mutex_lock(&f->wake_mu);
    if (f->wake) f->wake(f->wake_ud, s);
    pthread_mutex_unlock(&f->wake_mu);
}

void bt_front_on_wake(bt_front *f, bt_front_wake wake, void *ud)
{
    pthread_mutex_lock(&f->wake_mu);
    f->wake_ud = ud;
    f->wake = wake;
    pthread_mutex_unlock(&f->wake_mu);
}

void bt__front_event(bt_front *f, const bt_sched_event *ev)
{
    bt_status st = bt_inbox_push_wait(&f->sched_in, ev, bt_now_ns() + PUSH_WAIT_NS);
    if (st == BT_ETIMEOUT) bt_log(BT_LOG_ERR, "sched.inbox_full", "event=%d", ev->type);
}

void bt__front_event_simple(bt_front *f, bt_sched_event_type type, uint64_t request)
{
    bt_sched_event ev = {.type = type, .request = request};
    bt__front_event(f, &ev);
}

void bt__front_book(bt_front *f, const bt_book *book)
{
    if (bt_inbox_push_wait(&f->ledger_in, book, bt_now_ns() + 10 * ns_per_s) == BT_OK) return;
    bt_log(BT_LOG_ERR, "ledger.inbox_full", "type=%d", book->type);
    bt_stream_unref(book->stream);
}

bt_stream *bt__front_find(bt_front *f, uint64_t id)
{
    uint64_t value = 0;
    pthread_mutex_lock(&f->registry_mu);
    bool found = bt_map_get(&f->registry, id, &value);
    bt_stream *s = found ? (bt_stream *)(uintptr_t)value : NULL;
    if (s) bt__stream_ref(s);
    pthread_mutex_unlock(&f->registry_mu);
    return s;
}

bool bt__front_register(bt_front *f, bt_stream *s)
{
    pthread_mutex_lock(&f->registry_mu);
    s->registered = bt_map_put(&f->registry, s->id, (uintptr_t)s);
    pthread_mutex_unlock(&f->registry_mu);
    if (s->registered) atomic_fetch_add(&f->alive, 1);
    return s->registered;
}

void bt__front_forget(bt_front *f, bt_stream *s)
{
    pthread_mutex_lock(&f->registry_mu);
    bool removed = bt_map_remove(&f->registry, s->id);
    pthread_mutex_unlock(&f->registry_mu);
    if (!removed) return;
    bt_stream_unref(s);
    atomic_fetch_sub(&f->alive, 1);
}

void bt__front_say(bt_front *f, bool ready, const char *message)
{
    pthread_mutex_lock(&f->state_mu);
    f->state.ready = ready;
    snprintf(f->state_message, sizeof f->state_message, "%s", message);
    pthread_mutex_unlock(&f->state_mu);
}

void bt_front_state_get(bt_front *f, bt_front_state *out)
{
    pthread_mutex_lock(&f->state_mu);
    *out = f->state;
    memcpy(out->message, f->state_message, sizeof out->message);
    pthread_mutex_unlock(&f->state_mu);
    out->draining = atomic_load(&f->draining);
    out->model = f->state_model;
    out->engine_restarts = (int32_t)atomic_load(&f->count.engine_restarts);
}

const bt_accounts *bt_front_accounts(bt_front *f)
{
    return f->accounts;
}

/* ---- submit */

static bt_status check_ids(const bt_front *f, const bt_front_request *req, bt_err *err)
{
    int32_t end = bt_vocab_size(f->vocab);
    for (int32_t i = 0; i < req->n_tokens; i++)
        if (req->tokens[i] < 0 || req->tokens[i] >= end)
            return bt_err_field(err, BT_EINVAL, "prompt",
                                "'prompt' holds token %d, but ids go from 0 to %d", req->tokens[i],
                                end - 1);
    for (int32_t i = 0; i < req->params.n_bias; i++)
        if (req->params.bias[i].token < 0 || req->params.bias[i].token >= end)
            return bt_err_field(err, BT_EINVAL, "logit_bias",
                                "'logit_bias' names token %d, but ids go from 0 to %d",
                                req->params.bias[i].token, end - 1);
    return BT_OK;
}

/* What the engine would refuse is refused here, by name: there it is too late for a status line. */
static bt_status submit_check(bt_front *f, const bt_front_request *req, bt_err *err)
{
    int given = (req->text != NULL) + (req->tokens != NULL) + (req->chat != NULL);
    if (given != 1 || (req->tokens && req->n_tokens < 1))
        return bt_err_field(err, BT_EINVAL, "prompt", "the prompt is missing or empty");
    if (req->n_seq < 1 || req->n_seq > BT_SEQS_PER_REQUEST_MAX)
        return bt_err_field(err, BT_EINVAL, "n", "'n' must be between 1 and %d",
                            BT_SEQS_PER_REQUEST_MAX);
    if (check_ids(f, req, err)) return BT_EINVAL;
    if (atomic_load(&f->draining))
        return bt_err_set(err, BT_ECLOSED, 0, "the server is shutting down");
    bt_status st = bt__text_fits(f, req, err);
    if (st) bt__count_refused(&f->count, st);
    return st;
}

static int64_t lease_ns_of(const bt_front_request *req)
{
    double longest = req->identity.tier->lease_max_s;
    double s = req->lease_seconds > 0 ? req->lease_seconds : 60;
    return (int64_t)((s < longest ? s : longest) * 1e9);
}

bt_status bt_front_submit(bt_front *f, const bt_front_request *req, int32_t n, bt_stream **out,
                          bt_err *err)
{
    bt_status st = BT_OK;
    for (int32_t i = 0; i < n; i++) {
        st = submit_check(f, &req[i], err);
        if (st) {
            bt__parts_name(err, i, n);
            return st;
        }
    }
    if (atomic_load(&f->alive) >= f->opt.queue + BT_RUNNING_MAX)
        return bt_err_set(err, BT_EBUSY, 0, "the queue is full; try again in a moment");
    bt_parts *p = bt__parts_new(f, req, n, err);
    if (!p) return BT_ENOMEM;
    bt_stream *first = p->part[0];
    for (int32_t i = 0; i < n; i++) {
        out[i] = p->part[i];
        out[i]->lease_ns = lease_ns_of(&req[i]);
        bt__stream_ref(out[i]); // the registry's, in time
    }
    bt__stream_ref(first); // the text worker's
    st = bt__front_register(f, first) ? bt__text_start(f, first, err)
                                      : bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    if (st == BT_OK) {
        bt__count(&f->count.submitted, (uint64_t)n);
        bt__parts_unref(p);
        return BT_OK;
    }
    if (first->registered)
        bt__front_forget(f, first);
    else
        bt_stream_unref(first);
    bt_stream_unref(first);
    bt__parts_drop(p);
    for (int32_t i = 0; i < n; i++) bt_stream_unref(out[i]);
    bt__parts_unref(p);
    return st;
}

/* ---- what others ask of the scheduler's state */

int32_t bt_front_queue(bt_front *f, uint64_t account_id, bt_front_queue_entry *out, int32_t max,
                       int32_t *depth, int32_t *slots)
{
    bt_sched_view view[256];
    int64_t now = bt_now_ns();
    pthread_mutex_lock(&f->sched_mu);
    size_t n = bt_sched_list(f->sched, now, account_id, view, BT_COUNT(view));
    *depth = bt_sched_waiting(f->sched);
    pthread_mutex_unlock(&f->sched_mu);
    pthread_mutex_lock(&f->state_mu);
    *slots = f->state.slots;
    pthread_mutex_unlock(&f->state_mu);
    if (n > BT_COUNT(view)) n = BT_COUNT(view);
    int32_t count = 0;
    for (size_t i = 0; i < n && count < max; i++) {
        const bt_sched_view *v = &view[i];
        bt_front_queue_entry *e = &out[count];
        bt_stream *s = bt__front_find(f, v->request);
        if (!s) continue;
        memset(e, 0, sizeof *e);
        snprintf(e->account, sizeof e->account, "%s", s->identity.account);
        e->request = v->request;
        e->running = v->running;
        e->position = v->position;
        e->slot = v->running ? v->lease.slot : -1;
        e->eta_ms = v->eta_ms;
        e->waited_ms = v->waited_ns / 1000000;
        e->lease_ms = s->lease_ns / 1000000;
        e->left_ms = v->running ? BT_MAX(0, (v->lease.deadline_ns - now) / 1000000) : e->lease_ms;
        e->device_us = v->used_us;
        bt_stream_unref(s);
        count++;
    }
    return count;
}

/* ---- start */

/* Copies a string the options point to, so that they outlive the caller's. */
static const char *keep(bt_front *f, const char *s)
{
    size_t i = 0;
    if (!s) return NULL;
    while (i < BT_COUNT(f->strings) && f->strings[i]) i++;
    BT_ASSERT(i < BT_COUNT(f->strings));
    f->strings[i] = bt_must(bt_strdup(s));
    return f->strings[i];
}

static void open_options(bt_front *f, const bt_front_options *opt)
{
    f->opt = *opt;
    f->opt.engine.model_path = keep(f, opt->engine.model_path);
    f->opt.engine.device = keep(f, opt->engine.device);
    f->opt.engine.quant = keep(f, opt->engine.quant);
    f->opt.model_alias = keep(f, opt->model_alias);
    f->opt.chat_template = keep(f, opt->chat_template);
    f->opt.data_dir = keep(f, opt->data_dir);
    f->opt.engine_program = keep(f, opt->engine_program ? opt->engine_program : "/proc/self/exe");
    memset(&f->opt.accounts, 0, sizeof f->opt.accounts); // read by bt_accounts_open only
    if (f->opt.queue <= 0) f->opt.queue = QUEUE_DEFAULT;
    if (f->opt.queue_wait_s <= 0) f->opt.queue_wait_s = 600;
    if (f->opt.anonymous_percent <= 0) f->opt.anonymous_percent = 75;
    if (f->opt.engine_timeout_s <= 0) f->opt.engine_timeout_s = 60;
    if (f->opt.engine.slots <= 0) f->opt.engine.slots = SLOTS_DEFAULT;
    if (f->opt.stream_bytes <= 0) f->opt.stream_bytes = STREAM_BYTES_DEFAULT;
    if (f->opt.price <= 0) f->opt.price = 1;
}

/* "models/stories260K.gguf" -> "stories260K" */
static void open_alias(bt_front *f)
{
    const char *path = f->opt.engine.model_path, *slash = strrchr(path, '/');
    const char *name = f->opt.model_alias ? f->opt.model_alias : slash ? slash + 1 : path;
    snprintf(f->state_model, sizeof f->state_model, "%s", name);
    size_t n = strlen(f->state_model);
    if (!f->opt.model_alias && n > 5 && strcmp(f->state_model + n - 5, ".gguf") == 0)
        f->state_model[n - 5] = 0;
}

static bt_status open_text(bt_front *f, bt_err *err)
{
    bt_model_text t;
    bt_status st = bt_model_text_open(f->opt.engine.model_path, f->opt.chat_template, &t, err);
    if (st) return st;
    f->vocab = t.vocab;
    f->tokenizer = t.tokenizer;
    f->chat = t.chat;
    f->chat_why = t.chat_why;
    if (t.chat_why.code)
        bt_log(BT_LOG_WARN, "chat.template", "error=\"%s\" hint=\"give --chat-template plain\"",
               t.chat_why.msg);
    int32_t wanted = f->opt.engine.ctx > 0         ? f->opt.engine.ctx
                     : f->opt.engine.kv_tokens > 0 ? BT_MIN(f->opt.engine.kv_tokens, CTX_DEFAULT)
                                                   : CTX_DEFAULT;
    f->state.ctx = BT_MIN(t.model->recipe.ctx_train, wanted);
    f->state.chat_template = t.chat && !bt_chat_is_plain(t.chat);
    f->state.vocab = bt_vocab_size(t.vocab);
    bt_model_close(t.model); // the engine opens its own
    return BT_OK;
}

static bt_status open_sched(bt_front *f, bt_err *err)
{
    bt_sched_config c;
    bt_sched_config_init(&c);
    c.queue_max = f->opt.queue;
    c.requests_max = f->opt.queue + BT_RUNNING_MAX;
    c.accounts_max = c.requests_max + 4096;
    c.queue_wait_ns = f->opt.queue_wait_s * ns_per_s;
    c.anonymous_percent = f->opt.anonymous_percent;
    c.group_max = BT_MAX(c.queue_max / 16, 8);
    return bt_sched_open(&c, &f->sched, err);
}

/* Sized so that what must not be lost finds room: a living request has at most a submit, a cancel
 * of its client and one of a drain, and an answer of the ledger or an end on their way to the
 * scheduler, and one book on its way to the ledger. */
static bt_status open_inboxes(bt_front *f, bt_err *err)
{
    size_t alive = (size_t)f->opt.queue + BT_RUNNING_MAX;
    bt_status st =
        bt_inbox_init(&f->sched_in, sizeof(bt_sched_event), BT_SCHED_INBOX + 4 * alive, err);
    if (st == BT_OK)
        st = bt_inbox_init(&f->ledger_in, sizeof(bt_book), BT_LEDGER_INBOX + alive, err);
    return st;
}

static bt_status open_threads(bt_front *f, bt_err *err)
{
    struct {
        pthread_t *thread;
        void *(*body)(void *);
    } const row[] = {{&f->ledger_thread, bt__ledger_main},
                     {&f->disk.thread, bt__disk_main},
                     {&f->sched_thread, bt__sched_main},
                     {&f->link.thread, bt__link_main}};
    for (size_t i = 0; i < BT_COUNT(row); i++) {
        int rc = pthread_create(row[i].thread, NULL, row[i].body, f);
        if (rc) return bt_err_set(err, BT_ENOMEM, rc, "cannot start a thread: %s", strerror(rc));
        f->threads_started++;
    }
    return BT_OK;
}

bt_status bt_front_open(const bt_front_options *opt, bt_front **out, bt_err *err)
{
    bt_front *f = bt_calloc(1, sizeof *f);
    if (!f) return bt_err_set(err, BT_ENOMEM, 0, "out of memory at start-up");
    f->link.fd = -1;
    f->boot = bt_random_id();
    pthread_mutex_init(&f->sched_mu, NULL);
    pthread_mutex_init(&f->registry_mu, NULL);
    pthread_mutex_init(&f->state_mu, NULL);
    pthread_mutex_init(&f->wake_mu, NULL);
    pthread_mutex_init(&f->disk.mu, NULL);
    bt_cond_init(&f->disk.stopped);
    bt__link_open(f);
    bt__balances_open(f);
    open_options(f, opt);
    open_alias(f);
    f->state.created = bt_wall_us() / 1000000;
    snprintf(f->state_message, sizeof f->state_message, "loading the model");
    bt_status st = open_text(f, err);
    if (st == BT_OK) st = bt_accounts_open(&opt->accounts, &f->accounts, err);
    if (st == BT_OK) st = bt__books_open(f, err);
    if (st == BT_OK) st = open_sched(f, err);
    if (st == BT_OK) st = open_inboxes(f, err);
    if (st == BT_OK) st = bt__works_open(f, err);
    if (st == BT_OK) st = open_threads(f, err);
    if (st) {
        bt_front_close(f);
        return st;
    }
    *out = f;
    return BT_OK;
}

/* ---- stop */

void bt_front_drain(bt_front *f)
{
    long long never = 0;
    if (!atomic_compare_exchange_strong(&f->drained_ns, &never, bt_now_ns())) return;
    atomic_store(&f->draining, true);
    if (f->threads_started > 2) bt__front_event_simple(f, BT_EV_DRAIN, 0);
}

/* Ends all that lives. Not under the registry's lock: the scheduler needs that to make room in its
 * inbox. False: no memory for the list, try again. */
static bool cancel_all(bt_front *f)
{
    size_t n = 0, at = 0;
    uint64_t id, value;
    pthread_mutex_lock(&f->registry_mu);
    uint64_t *ids = bt_malloc(f->registry.len * sizeof *ids);
    while (ids && bt_map_next(&f->registry, &at, &id, &value)) ids[n++] = id;
    pthread_mutex_unlock(&f->registry_mu);
    if (!ids) return false;
    for (size_t i = 0; i < n; i++) {
        bt_stream *s = bt__front_find(f, ids[i]);
        if (s) bt_work_cancel(f, &s->work);
        bt_stream_unref(s);
        bt__front_event_simple(f, BT_EV_CANCEL, ids[i]);
    }
    bt_free(ids);
    return true;
}

void bt_front_drain_wait(bt_front *f)
{
    bt_front_drain(f);
    int64_t grace_ns = atomic_load(&f->drained_ns) + 5 * ns_per_s;
    int64_t limit_ns = grace_ns + 2 * ns_per_s;
    bool cancelled = false;
    while (atomic_load(&f->alive) > 0 && bt_now_ns() < limit_ns) {
        if (!cancelled && bt_now_ns() > grace_ns) cancelled = cancel_all(f);
        bt_sleep_ns(DRAIN_NS);
    }
}

void bt_front_close(bt_front *f)
{
    if (!f) return;
    int n = f->threads_started;
    if (n == 4) bt_front_drain_wait(f);
    atomic_store(&f->stopping, true);
    if (n > 3) {
        bt__link_stop(f);
        pthread_join(f->link.thread, NULL);
    }
    bt__works_close(f);
    if (n > 2) bt_inbox_close(&f->sched_in), pthread_join(f->sched_thread, NULL);
    if (n > 1) bt__disk_stop(f);
    if (n > 0) bt_inbox_close(&f->ledger_in), pthread_join(f->ledger_thread, NULL);
    bt__link_release(f);
    bt__books_release(f);
    bt__balances_release(f);
    bt_inbox_release(&f->sched_in);
    bt_inbox_release(&f->ledger_in);
    bt_sched_close(f->sched);
    bt_ledger_close(f->ledger);
    bt_accounts_close(f->accounts);
    bt_chat_close(f->chat);
    bt_tokenizer_close(f->tokenizer);
    bt_vocab_close(f->vocab);
    bt_map_release(&f->registry);
    for (size_t i = 0; i < BT_COUNT(f->strings); i++) bt_free(f->strings[i]);
    pthread_mutex_destroy(&f->sched_mu);
    pthread_mutex_destroy(&f->registry_mu);
    pthread_mutex_destroy(&f->state_mu);
    pthread_mutex_destroy(&f->wake_mu);
    pthread_mutex_destroy(&f->disk.mu);
    pthread_cond_destroy(&f->disk.stopped);
    bt_free(f);
}
