/* SPDX-License-Identifier: Apache-2.0 */
/* front.c - start, stop and submit.
 *
 * Shutdown is one function, the reverse of start: stop accepting -> cancel the queue -> let running
 * requests end or cancel them -> stop the engines -> post or void -> join. */
#include "front/internal.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/crypto.h"
#include "base/mem.h"
#include <string.h>

enum {
    QUEUE_DEFAULT = 1024,
    STREAM_BYTES_DEFAULT = 256 << 10,
    DRAIN_NS = 20000000, // one look at the drain
};
static const int64_t ns_per_s = 1000000000;

/* ---- units */

bt_unit *bt_front_unit(bt_front *f, const char *name)
{
    if (!name || f->n_units == 1) return f->unit[0];
    for (int32_t i = 0; i < f->n_units; i++)
        if (strcmp(f->unit[i]->name, name) == 0) return f->unit[i];
    return NULL;
}

bt_unit *bt_front_unit_next(bt_front *f, const bt_unit *u)
{
    int32_t i = u ? u->index + 1 : 0;
    return i < f->n_units ? f->unit[i] : NULL;
}

const bt_accounts *bt_front_accounts(bt_front *f)
{
    return f->accounts;
}

/* ---- submit */

static bt_status check_ids(const bt_unit *u, const bt_front_request *req, bt_err *err)
{
    int32_t end = bt_vocab_size(u->vocab);
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
static bt_status submit_check(bt_unit *u, const bt_front_request *req, bt_err *err)
{
    bt_front *f = u->front;
    int given = (req->text != NULL) + (req->tokens != NULL) + (req->chat != NULL);
    if (given != 1 || (req->tokens && req->n_tokens < 1))
        return bt_err_field(err, BT_EINVAL, "prompt", "the prompt is missing or empty");
    if (req->n_seq < 1 || req->n_seq > BT_SEQS_PER_REQUEST_MAX)
        return bt_err_field(err, BT_EINVAL, "n", "'n' must be between 1 and %d",
                            BT_SEQS_PER_REQUEST_MAX);
    if (check_ids(u, req, err)) return BT_EINVAL;
    if (atomic_load(&f->draining))
        return bt_err_set(err, BT_ECLOSED, 0, "the server is shutting down");
    bt_status st = bt__text_fits(u, req, err);
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
    bt_unit *u = req->unit ? req->unit : f->unit[0];
    bt_status st = BT_OK;
    for (int32_t i = 0; i < n; i++) {
        st = submit_check(u, &req[i], err);
        if (st) {
            bt__parts_name(err, i, n);
            return st;
        }
    }
    if (atomic_load(&f->alive) >= f->alive_max)
        return bt_err_set(err, BT_EBUSY, 0, "the queue is full; try again in a moment");
    bt_parts *p = bt__parts_new(u, req, n, err);
    if (!p) return BT_ENOMEM;
    bt_stream *first = p->part[0];
    for (int32_t i = 0; i < n; i++) {
        out[i] = p->part[i];
        out[i]->lease_ns = lease_ns_of(&req[i]);
        bt__stream_ref(out[i]); // the registry's, in time
    }
    bt__stream_ref(first); // the text worker's
    st = bt__front_register(f, first) ? bt__text_start(first, err)
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

/* ---- what others ask of the schedulers */

/* Adds those of a unit to out[n..max); returns how many there are now. */
static int32_t queue_of(bt_unit *u, uint64_t account_id, bt_front_queue_entry *out, int32_t n,
                        int32_t max, int32_t *depth, int32_t *slots)
{
    bt_sched_view view[256];
    int64_t now = bt_now_ns();
    pthread_mutex_lock(&u->sched_mu);
    size_t found = bt_sched_list(u->sched, now, account_id, view, BT_COUNT(view));
    *depth += bt_sched_waiting(u->sched);
    pthread_mutex_unlock(&u->sched_mu);
    pthread_mutex_lock(&u->state_mu);
    *slots += u->state.slots;
    pthread_mutex_unlock(&u->state_mu);
    for (size_t i = 0; i < BT_MIN(found, BT_COUNT(view)) && n < max; i++) {
        const bt_sched_view *v = &view[i];
        bt_stream *s = bt__front_find(u->front, v->request);
        if (!s) continue;
        bt_front_queue_entry *e = &out[n++];
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
    }
    return n;
}

int32_t bt_front_queue(bt_front *f, uint64_t account_id, bt_front_queue_entry *out, int32_t max,
                       int32_t *depth, int32_t *slots)
{
    int32_t n = 0;
    *depth = *slots = 0;
    for (int32_t i = 0; i < f->n_units; i++)
        n = queue_of(f->unit[i], account_id, out, n, max, depth, slots);
    return n;
}

/* ---- start */

static void open_options(bt_front *f, const bt_front_options *opt)
{
    f->opt = *opt;
    const char *program = opt->engine_program ? opt->engine_program : "/proc/self/exe";
    f->opt.data_dir = bt__keep(f->strings, BT_COUNT(f->strings), opt->data_dir);
    f->opt.engine_program = bt__keep(f->strings, BT_COUNT(f->strings), program);
    memset(f->opt.unit, 0, sizeof f->opt.unit);          // read by bt__unit_open only
    memset(&f->opt.accounts, 0, sizeof f->opt.accounts); // and by bt_accounts_open
    if (f->opt.queue <= 0) f->opt.queue = QUEUE_DEFAULT;
    if (f->opt.queue_wait_s <= 0) f->opt.queue_wait_s = 600;
    if (f->opt.anonymous_percent <= 0) f->opt.anonymous_percent = 75;
    if (f->opt.stream_bytes <= 0) f->opt.stream_bytes = STREAM_BYTES_DEFAULT;
    if (f->opt.price <= 0) f->opt.price = 1;
    f->alive_max = f->opt.queue + opt->n_units * BT_RUNNING_MAX;
}

static bt_status open_units(bt_front *f, const bt_front_options *opt, bt_err *err)
{
    BT_ASSERT(opt->n_units >= 1 && opt->n_units <= BT_UNITS_MAX);
    for (; f->n_units < opt->n_units; f->n_units++) {
        bt_unit **u = &f->unit[f->n_units];
        bt_status st = bt__unit_open(f, &opt->unit[f->n_units], u, err);
        if (st) return st;
        for (int32_t i = 0; i < f->n_units; i++)
            if (strcmp(f->unit[i]->name, (*u)->name) == 0)
                return bt_err_set(err, BT_EINVAL, 0,
                                  "two models are called \"%s\": give one of them another name",
                                  (*u)->name);
    }
    return BT_OK;
}

static bool start(pthread_t *thread, bool *started, void *(*body)(void *), void *arg, bt_err *err)
{
    int rc = pthread_create(thread, NULL, body, arg);
    *started = rc == 0;
    if (rc) bt_err_set(err, BT_ENOMEM, rc, "cannot start a thread: %s", strerror(rc));
    return *started;
}

static bt_status open_threads(bt_front *f, bt_err *err)
{
    bool ok = start(&f->ledger_thread, &f->ledger_started, bt__ledger_main, f, err) &&
              start(&f->disk.thread, &f->disk.started, bt__disk_main, f, err);
    for (int32_t i = 0; ok && i < f->n_units; i++) {
        bt_unit *u = f->unit[i];
        ok = start(&u->sched_thread, &u->sched_started, bt__sched_main, u, err) &&
             start(&u->link_thread, &u->link_started, bt__life_main, u, err);
    }
    return ok ? BT_OK : BT_ENOMEM;
}

bt_status bt_front_open(const bt_front_options *opt, bt_front **out, bt_err *err)
{
    bt_front *f = bt_calloc(1, sizeof *f);
    if (!f) return bt_err_set(err, BT_ENOMEM, 0, "out of memory at start-up");
    f->boot = bt_random_id();
    pthread_mutex_init(&f->registry_mu, NULL);
    pthread_mutex_init(&f->wake_mu, NULL);
    pthread_mutex_init(&f->disk.mu, NULL);
    bt_cond_init(&f->disk.stopped);
    bt__balances_open(f);
    open_options(f, opt);
    bt_status st = open_units(f, opt, err);
    if (st == BT_OK) st = bt_accounts_open(&opt->accounts, &f->accounts, err);
    if (st == BT_OK) st = bt__books_open(f, err);
    if (st == BT_OK) st = bt__works_open(f, err);
    if (st == BT_OK) st = open_threads(f, err);
    if (st) {
        bt_front_close(f);
        return st;
    }
    f->open = true;
    *out = f;
    return BT_OK;
}

/* ---- stop */

void bt_front_drain(bt_front *f)
{
    long long never = 0;
    if (!atomic_compare_exchange_strong(&f->drained_ns, &never, bt_now_ns())) return;
    atomic_store(&f->draining, true);
    for (int32_t i = 0; i < f->n_units; i++) bt__unit_event(f->unit[i], BT_EV_DRAIN, 0);
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
        if (!s) continue;
        bt_work_cancel(f, &s->work);
        bt__unit_event(s->unit, BT_EV_CANCEL, ids[i]);
        bt_stream_unref(s);
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
    if (f->open) bt_front_drain_wait(f);
    atomic_store(&f->stopping, true);
    for (int32_t i = 0; i < f->n_units; i++) {
        bt__link_stop(&f->unit[i]->link);
        bt__link_poke(&f->unit[i]->link);
    }
    for (int32_t i = 0; i < f->n_units; i++)
        if (f->unit[i]->link_started) pthread_join(f->unit[i]->link_thread, NULL);
    bt__works_close(f);
    for (int32_t i = 0; i < f->n_units; i++) {
        if (!f->unit[i]->sched_started) continue;
        bt_inbox_close(&f->unit[i]->sched_in);
        pthread_join(f->unit[i]->sched_thread, NULL);
    }
    if (f->disk.started) bt__disk_stop(f);
    if (f->ledger_started) {
        bt_inbox_close(&f->ledger_in);
        pthread_join(f->ledger_thread, NULL);
    }
    bt__books_release(f);
    for (size_t i = 0; i < BT_COUNT(f->unit); i++) bt__unit_close(f->unit[i]);
    bt__balances_release(f);
    bt_ledger_close(f->ledger);
    bt_accounts_close(f->accounts);
    bt_map_release(&f->registry);
    for (size_t i = 0; i < BT_COUNT(f->strings); i++) bt_free(f->strings[i]);
    pthread_mutex_destroy(&f->registry_mu);
    pthread_mutex_destroy(&f->wake_mu);
    pthread_mutex_destroy(&f->disk.mu);
    pthread_cond_destroy(&f->disk.stopped);
    bt_free(f);
}
