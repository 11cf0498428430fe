/* SPDX-License-Identifier: Apache-2.0 */
/* life.c - an engine's life, as the link thread sees it: started, listened to, buried, started
 * again.
 *
 * The link thread starts the engine (the kernel ends it when this thread ends), reads its frames
 * and turns them into stream and scheduler events: what the engine says of a text goes into the
 * stream as it came, checked and not decoded; what the scheduler hears of one look at the socket
 * reaches it as one push. When the engine ends unasked, the order is: what its crash file says each
 * request used -> scheduler; ENGINE_DOWN; the scheduler posts; the ledger settles the file; only
 * then the next engine starts, after a back-off. So no lease of a dead engine ever reaches a new
 * one. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/process.h"
#include "engine/wire.h"
#include "front/internal.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const int64_t settle_ns = 30000000000, stop_ns = 2000000000;
static const int64_t backoff_min_ns = 100000000, backoff_max_ns = 10000000000;

/* ---- what the scheduler hears */

static void heard_push(bt_unit *u)
{
    bt_link *l = &u->link;
    if (l->n_heard > 0) bt__unit_events(u, l->heard, l->n_heard);
    l->n_heard = 0;
}

static void heard(bt_unit *u, const bt_sched_event *ev)
{
    bt_link *l = &u->link;
    if (l->n_heard == BT_HEARD_MAX) heard_push(u);
    l->heard[l->n_heard++] = *ev;
}

/* ---- events from the engine: link thread */

static void on_ready(bt_unit *u, const bt_engine_event *ev)
{
    bt_sched_event up = {.type = BT_EV_ENGINE_UP};
    up.u.engine_up.slots = ev->u.ready.slots;
    up.u.engine_up.n_pages = ev->u.ready.n_pages;
    up.u.engine_up.page_tokens = ev->u.ready.page_tokens;
    up.u.engine_up.prefill_us_per_token = (double)ev->u.ready.prefill_us_per_token;
    up.u.engine_up.decode_us_per_token = (double)ev->u.ready.decode_us_per_token;
    pthread_mutex_lock(&u->state_mu);
    u->state.ctx = ev->u.ready.ctx;
    u->state.slots = ev->u.ready.slots;
    u->state.n_pages = ev->u.ready.n_pages;
    u->state.page_tokens = ev->u.ready.page_tokens;
    u->state.can_park = ev->u.ready.can_park;
    u->state.not_finite = u->link.finite = false;
    snprintf(u->state.device, sizeof u->state.device, "%s", ev->u.ready.device);
    pthread_mutex_unlock(&u->state_mu);
    bt__residency_ready(u, ev);
    heard(u, &up);
    heard_push(u);
    bt__unit_say(u, true, "");
    bt_log(BT_LOG_INFO, "engine.ready",
           "model=%s device=%s slots=%d ctx=%d kv_pages=%d weights_bytes=%" PRIu64
           " kv_bytes=%" PRIu64 " scratch_bytes=%" PRIu64,
           u->name, ev->u.ready.device, ev->u.ready.slots, ev->u.ready.ctx, ev->u.ready.n_pages,
           ev->u.ready.weights_bytes, ev->u.ready.kv_bytes, ev->u.ready.scratch_bytes);
}

static void on_step(bt_unit *u, const bt_engine_event *ev)
{
    bt_unit_counters *c = &u->count;
    bt_sched_event e = {.type = BT_EV_USED};
    for (int32_t i = 0; i < ev->u.step.n_share; i++) {
        e.request = ev->u.step.share[i].request;
        e.amount_us = (int64_t)ev->u.step.share[i].used_us;
        heard(u, &e);
    }
    e = (bt_sched_event){.type = BT_EV_STEP};
    e.u.step.pages_free = ev->u.step.pages_free;
    e.u.step.n_rows = ev->u.step.n_rows;
    e.u.step.n_prefill_rows = BT_MAX(0, ev->u.step.n_rows - ev->u.step.n_seqs);
    e.u.step.n_seqs = ev->u.step.n_seqs;
    e.u.step.step_us = ev->u.step.step_us;
    heard(u, &e);
    bt__count(&c->steps, 1);
    bt__count(&c->step_us, ev->u.step.step_us);
    bt__count(&c->step_rows, (uint64_t)ev->u.step.n_rows);
    if (ev->u.step.step_us > atomic_load(&c->step_longest_us))
        atomic_store(&c->step_longest_us, ev->u.step.step_us); // written by this thread only
}

static void on_end(bt_unit *u, bt_stream *s, const bt_engine_event *ev)
{
    bt_front_counters *c = &u->front->count;
    pthread_mutex_lock(&s->mu);
    s->prompt_tokens = ev->u.end.prompt_tokens;
    s->cached_tokens = ev->u.end.cached_tokens;
    s->completion_tokens = ev->u.end.completion_tokens;
    s->prefill_ns = ev->u.end.prefill_ns;
    s->decode_ns = ev->u.end.decode_ns;
    if (ev->u.end.status) s->broke = ev->u.end.status;
    int64_t first_ns = s->first_token_ns;
    pthread_mutex_unlock(&s->mu);
    if (first_ns) bt__count_ttft(c, first_ns - s->submitted_ns);
    bool not_finite = ev->u.end.status == BT_EMODEL;
    if (not_finite) bt__count(&u->count.not_finite, 1);
    if (not_finite || ev->u.end.completion_tokens > 0) { // some that it computed was
        pthread_mutex_lock(&u->state_mu);
        if (ev->u.end.completion_tokens > 0) u->link.finite = true;
        u->state.not_finite = not_finite && !u->link.finite;
        pthread_mutex_unlock(&u->state_mu);
    }
    bt__count(&c->prompt_tokens, (uint64_t)ev->u.end.prompt_tokens);
    bt__count(&c->cached_tokens, (uint64_t)ev->u.end.cached_tokens);
    bt__count(&c->completion_tokens, (uint64_t)ev->u.end.completion_tokens);
}

/* payload: the event's own, as the engine has written it. */
static void on_request(bt_unit *u, const bt_engine_event *ev, const bt_rd *payload)
{
    bt_stream *s = bt__front_find(u->front, ev->request);
    if (s && ev->type == BT_EE_END)
        on_end(u, s, ev);
    else if (s && ev->type == BT_EE_PREFILL)
        bt__stream_prefill(s, ev->u.prefill.done, ev->u.prefill.total);
    else if (s)
        bt__stream_tokens(s, ev->type, payload);
    bt_stream_unref(s);
    if (ev->type != BT_EE_END) return;
    bt_sched_event e = {.type = BT_EV_FINISHED,
                        .request = ev->request,
                        .amount_us = (int64_t)ev->u.end.used_us,
                        .finish = ev->u.end.finish};
    e.u.finished.completion_tokens = ev->u.end.completion_tokens;
    heard(u, &e);
}

static void on_event(bt_unit *u, const bt_engine_event *ev, const bt_rd *payload)
{
    switch (ev->type) {
    case BT_EE_LOAD:
        pthread_mutex_lock(&u->state_mu);
        u->state.load_done = ev->u.load.done;
        u->state.load_total = ev->u.load.total;
        pthread_mutex_unlock(&u->state_mu);
        break;
    case BT_EE_READY: on_ready(u, ev); break;
    case BT_EE_STEP: on_step(u, ev); break;
    case BT_EE_RESIDENCY: bt__residency_told(u, ev); break;
    case BT_EE_FATAL:
        u->link.fatal = true;
        pthread_mutex_lock(&u->state_mu);
        u->state.code = ev->u.fatal.code;
        pthread_mutex_unlock(&u->state_mu);
        bt__unit_say(u, false, ev->u.fatal.message); // the engine has logged it
        break;
    case BT_EE_PREFILL:
    case BT_EE_PROMPT_LOGPROBS:
    case BT_EE_TOKENS:
    case BT_EE_SEQ_END:
    case BT_EE_END: on_request(u, ev, payload); break;
    }
}

/* Whether an engine that has work has said nothing for too long: a step is much shorter. Called
 * while it is silent; *quiet_ns: since when, of the time that it has had work. */
static bool engine_silent(bt_unit *u, int64_t *quiet_ns)
{
    if (!bt__unit_has_running(u)) *quiet_ns = bt_now_ns();
    return bt_now_ns() - *quiet_ns >= (int64_t)u->opt.engine_timeout_s * 1000000000;
}

/* Reads frames until the engine's socket ends or breaks. An engine that was asked to stop has
 * stop_ns: it may be stuck, or loading, which is when it reads nothing. False: it did not end by
 * itself. */
static bool listen_to(bt_unit *u, int fd, bt_wire_storage *storage)
{
    bt_frame_reader reader = {0};
    bt_frame frame;
    bt_engine_event ev;
    bt_err err = {0};
    bt_status st = BT_OK;
    int64_t end_ns = 0, quiet_ns = bt_now_ns();
    if (atomic_load(&u->front->stopping))
        bt__link_stop(&u->link); // the first call may have come before the socket was there
    while (st == BT_OK) {
        int wait_ms = bt__residency_turn(u);
        bool asked = atomic_load(&u->front->stopping) || bt__residency_stopping(u);
        if (end_ns == 0 && asked) end_ns = bt_now_ns() + stop_ns;
        if (end_ns > 0 && bt_now_ns() >= end_ns) break;
        if (!bt__link_wait(&u->link, fd, wait_ms)) {
            if (engine_silent(u, &quiet_ns)) break;
            continue;
        }
        quiet_ns = bt_now_ns();
        st = bt_frame_reader_fill(&reader, fd, &err);
        if (st == BT_ETIMEOUT) st = BT_OK;
        int got = 0;
        while (st == BT_OK && (got = bt_frame_reader_next(&reader, &frame, &err)) > 0) {
            bt_rd payload = frame.rd;
            st = bt_wire_get_event(frame.type, &frame.rd, storage, NULL, &ev, &err);
            if (st == BT_OK) on_event(u, &ev, &payload);
        }
        if (got < 0) st = BT_EIO;
        heard_push(u);
    }
    if (st == BT_OK)
        bt_log(BT_LOG_WARN, "engine.stuck", "it does not answer, and is killed");
    else if (st != BT_ECLOSED)
        bt_log(BT_LOG_ERR, "engine.read", "why=\"%s\"", err.msg);
    bt_frame_reader_release(&reader);
    return st != BT_OK;
}

/* ---- the end of a process */

/* Tells the scheduler what each request had used when the engine died, then that it died. */
static void engine_down(bt_unit *u)
{
    bt_link *l = &u->link;
    bt_usage_bank *bank = bt_malloc(sizeof *bank);
    bt_err err = {0};
    pthread_mutex_lock(&l->usage_mu);
    uint64_t boot = l->boot;
    bt_status st = bank && l->usage ? bt_usage_read(l->usage, bank, &err) : BT_ENOMEM;
    pthread_mutex_unlock(&l->usage_mu);
    if (st) bt_log(BT_LOG_ERR, "engine.usage", "why=\"%s\"", err.msg);
    for (uint64_t i = 0; st == BT_OK && i < bank->n; i++) {
        bt_sched_event used = {.type = BT_EV_USED,
                               .request = bank->entry[i].request,
                               .amount_us = (int64_t)bank->entry[i].used_us};
        heard(u, &used);
    }
    bt_free(bank);
    bt_sched_event down = {.type = BT_EV_ENGINE_DOWN, .u.engine_down.boot = boot};
    heard(u, &down);
    heard_push(u);
    int64_t deadline = bt_now_ns() + settle_ns;
    pthread_mutex_lock(&l->down_mu);
    while (l->down_settled != boot && bt_cond_wait(&l->down_cond, &l->down_mu, deadline)) continue;
    pthread_mutex_unlock(&l->down_mu);
}

/* What /health says from now on. True: the first engine could not even load. */
static bool engine_ended(bt_unit *u, int code)
{
    pthread_mutex_lock(&u->state_mu);
    bool failed = u->state.slots == 0 && (code == BT_ENGINE_EXIT_LOAD || code == 127);
    u->state.ready = false;
    u->state.failed = failed;
    u->state.engine_pid = 0;
    if (!u->link.fatal && code == 127)
        snprintf(u->state.message, sizeof u->state.message,
                 "the engine process cannot be started: %s does not run",
                 u->front->opt.engine_program);
    else if (!u->link.fatal)
        snprintf(u->state.message, sizeof u->state.message,
                 "the engine ended (code %d) and is being restarted", code);
    pthread_mutex_unlock(&u->state_mu);
    return failed;
}

/* One engine from start to end. True: start another after a pause. */
static bool engine_life(bt_unit *u, bt_wire_storage *storage)
{
    bt_err err = {0};
    int fd = -1;
    if (bt__link_spawn(u, &fd, &err)) {
        bt_log(BT_LOG_ERR, "engine.start", "why=\"%s\"", err.msg);
        bt__unit_say(u, false, err.msg);
        return true;
    }
    bool ended = listen_to(u, fd, storage);
    int code = bt__link_reap(&u->link, fd, ended);
    bool asked = atomic_load(&u->front->stopping) || bt__residency_stopping(u);
    if (!asked) bt_log(BT_LOG_ERR, "engine.ended", "code=%d", code);
    bool failed = engine_ended(u, code) && !asked;
    engine_down(u);
    return !asked && !failed;
}

void *bt__life_main(void *unit)
{
    bt_unit *u = unit;
    const atomic_bool *stopping = &u->front->stopping;
    bt_wire_storage storage;
    int64_t backoff_ns = backoff_min_ns;
    while (!atomic_load(stopping)) {
        int64_t start_ns = bt_now_ns();
        bt__residency_begin(u);
        bool again = engine_life(u, &storage);
        if (bt__residency_stopping(u) && !atomic_load(stopping)) {
            bt__residency_sleep(u);
            continue;
        }
        if (!again) break;
        bt__count(&u->count.engine_restarts, 1);
        if (bt_now_ns() - start_ns > 6 * backoff_max_ns) backoff_ns = backoff_min_ns;
        for (int64_t until = bt_now_ns() + backoff_ns; bt_now_ns() < until;) {
            if (atomic_load(stopping)) break;
            bt_sleep_ns(20000000);
        }
        backoff_ns = BT_MIN(backoff_ns * 2, backoff_max_ns);
    }
    return NULL;
}
