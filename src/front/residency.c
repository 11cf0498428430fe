/* SPDX-License-Identifier: Apache-2.0 */
/* residency.c - when a model gives its device back, and when it takes it again.
 *
 *   level 0  runs
 *   level 1  parked: the engine process keeps its context, weights and KV are given back. The
 *            scheduler goes on admitting; the engine wakes by itself when there is work.
 *   level 2  asleep: the engine process is gone, and all memory with it. Requests wait in the queue
 *            while the link thread starts an engine for them.
 *
 * The link thread does it all; others ask, and poke it. Going to sleep is in three steps, so that
 * no request is lost on the way: the scheduler is told to admit nothing (ENGINE_ASLEEP); when it
 * has heard that and nothing runs any more, the engine is asked to end; when it has ended, the
 * thread sleeps instead of starting another. Then the driver is asked whether the memory has come
 * back. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "device/nvml.h"
#include "front/internal.h"
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

typedef enum sleep_stage {
    STAGE_NO,
    STAGE_TOLD,     // the scheduler has been told
    STAGE_STOPPING, // and the engine was asked to end
} sleep_stage;

enum { LOOK_MS = 1000, LOOK_SOON_MS = 10 }; // while the scheduler has not heard
static const int64_t return_ns = 3000000000, return_look_ns = 50000000;

/* ---- asking */

bt_status bt_unit_park(bt_unit *u, int32_t level, bt_err *err)
{
    bt_unit_state state;
    bt_unit_state_get(u, &state);
    if (level != 1 && level != 2)
        return bt_err_set(err, BT_EINVAL, 0, "'level' must be 1 (parked) or 2 (asleep)");
    if (state.draining) return bt_err_set(err, BT_ECLOSED, 0, "the server is shutting down");
    if (state.residency >= level) return BT_OK;
    if (!state.ready)
        return bt_err_set(err, BT_ENOTREADY, 0, "the model is still loading; park it afterwards");
    if (bt__unit_has_requests(u))
        return bt_err_set(err, BT_EBUSY, 0,
                          "requests are running or waiting; the model is parked when it is idle");
    if (level == 1 && !state.can_park)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "a model on %s cannot be parked; level 2 ends its process instead",
                          state.device);
    atomic_store(&u->residency.asked, level);
    bt__link_poke(&u->link);
    return BT_OK;
}

void bt__residency_needed(bt_unit *u)
{
    if (atomic_load(&u->residency.stage) == STAGE_NO) return;
    atomic_store(&u->residency.needed, true);
    bt__link_poke(&u->link);
}

bt_status bt_unit_wake(bt_unit *u, bt_err *err)
{
    bt_unit_state state;
    bt_unit_state_get(u, &state);
    if (state.draining) return bt_err_set(err, BT_ECLOSED, 0, "the server is shutting down");
    if (state.residency == 1) bt__link_wake(&u->link);
    bt__residency_needed(u);
    return BT_OK;
}

/* ---- what the engine says */

static void set_level(bt_unit *u, int32_t level)
{
    pthread_mutex_lock(&u->state_mu);
    u->state.residency = level;
    pthread_mutex_unlock(&u->state_mu);
}

void bt__residency_ready(bt_unit *u, const bt_engine_event *ev)
{
    bt_held *h = &u->residency.held;
    bt_nvml_memory m = {0};
    set_level(u, 0);
    u->residency.busy_ns = bt_now_ns(); // idle time begins now
    snprintf(h->device_id, sizeof h->device_id, "%s", ev->u.ready.device_id);
    h->bytes = ev->u.ready.weights_bytes + ev->u.ready.kv_bytes + ev->u.ready.scratch_bytes;
    h->used_bytes = 0;
    if (h->device_id[0] && bt_nvml_memory_read(h->device_id, &m, NULL) == BT_OK)
        h->used_bytes = m.used_bytes;
}

void bt__residency_told(bt_unit *u, const bt_engine_event *ev)
{
    pthread_mutex_lock(&u->state_mu);
    u->state.residency = ev->u.residency.level;
    u->state.device_free_bytes = ev->u.residency.free_bytes;
    pthread_mutex_unlock(&u->state_mu);
    bt_log(BT_LOG_INFO, ev->u.residency.level ? "engine.parked" : "engine.awake",
           "bytes=%" PRIu64 " free_bytes=%" PRIu64 " took_ms=%" PRId64, ev->u.residency.bytes,
           ev->u.residency.free_bytes, ev->u.residency.took_ns / 1000000);
}

/* ---- going to sleep */

void bt__residency_begin(bt_unit *u)
{
    atomic_store(&u->residency.asked, 0);
    atomic_store(&u->residency.stage, STAGE_NO);
    u->residency.busy_ns = bt_now_ns();
}

/* Asks for itself after the idle time. */
static void idle(bt_unit *u, bool has_requests)
{
    bt_unit_state state;
    int64_t now = bt_now_ns(), after_ns = (int64_t)u->opt.park_after_s * 1000000000;
    if (has_requests) u->residency.busy_ns = now;
    if (after_ns == 0 || now - u->residency.busy_ns < after_ns) return;
    bt_unit_state_get(u, &state);
    if (!state.ready || state.residency > 0) return;
    u->residency.busy_ns = now; // and again, if it could not be done
    bt_err err = {0};
    if (bt_unit_park(u, state.can_park ? 1 : 2, &err))
        bt_log(BT_LOG_WARN, "engine.not_parked", "reason=\"%s\"", err.msg);
}

/* The scheduler admits no more, and nothing runs. */
static bool at_rest(bt_unit *u)
{
    pthread_mutex_lock(&u->sched_mu);
    bool rests = !bt_sched_admits(u->sched) && bt_sched_running(u->sched) == 0;
    pthread_mutex_unlock(&u->sched_mu);
    return rests;
}

int bt__residency_turn(bt_unit *u)
{
    bt_unit_residency *r = &u->residency;
    int stage = atomic_load(&r->stage);
    /* At every look at the socket: the scheduler is asked only where that can matter. */
    if (u->opt.park_after_s == 0 && stage == STAGE_NO && atomic_load(&r->asked) == 0)
        return LOOK_MS;
    bool has_requests = bt__unit_has_requests(u);
    idle(u, has_requests);
    int32_t level = atomic_exchange(&r->asked, 0);
    if (stage == STAGE_NO && level == 1 && !has_requests) bt__link_park(&u->link);
    if (stage == STAGE_NO && level == 2 && !has_requests) {
        atomic_store(&r->needed, false);
        atomic_store(&r->stage, STAGE_TOLD);
        bt__unit_event(u, BT_EV_ENGINE_ASLEEP, 0);
        return LOOK_SOON_MS;
    }
    if (stage != STAGE_TOLD) return LOOK_MS;
    if (!at_rest(u)) return LOOK_SOON_MS;
    atomic_store(&r->stage, STAGE_STOPPING);
    bt__link_stop(&u->link);
    return LOOK_MS;
}

bool bt__residency_stopping(bt_unit *u)
{
    return atomic_load(&u->residency.stage) == STAGE_STOPPING;
}

/* ---- asleep */

static bool sleeps_on(bt_unit *u)
{
    return !atomic_load(&u->front->stopping) && !atomic_load(&u->residency.needed) &&
           !bt__unit_has_requests(u);
}

/* Says whether what the ended engine held is the device's again, as its driver counts. */
static void watch_return(bt_unit *u)
{
    const bt_held *h = &u->residency.held;
    bt_nvml_memory m;
    int64_t until = bt_now_ns() + return_ns;
    if (h->used_bytes == 0) return;
    /* An eighth is left to what others on the device take meanwhile. */
    uint64_t most = h->used_bytes - BT_MIN(h->bytes - h->bytes / 8, h->used_bytes);
    do {
        if (bt_nvml_memory_read(h->device_id, &m, NULL)) return;
        pthread_mutex_lock(&u->state_mu);
        u->state.device_free_bytes = m.free_bytes;
        pthread_mutex_unlock(&u->state_mu);
        if (m.used_bytes <= most) {
            bt_log(BT_LOG_INFO, "engine.memory_returned",
                   "used_bytes=%" PRIu64 " when_ready=%" PRIu64, m.used_bytes, h->used_bytes);
            return;
        }
        bt_sleep_ns(return_look_ns);
    } while (sleeps_on(u) && bt_now_ns() < until);
    if (sleeps_on(u))
        bt_log(BT_LOG_WARN, "engine.memory_not_returned",
               "used_bytes=%" PRIu64 " when_ready=%" PRIu64 " held=%" PRIu64
               " see=\"nvidia-smi: another process may have taken it\"",
               m.used_bytes, h->used_bytes, h->bytes);
}

void bt__residency_sleep(bt_unit *u)
{
    uint64_t count;
    set_level(u, 2);
    bt__unit_say(u, true, ""); // requests are welcome: they wake it
    bt_log(BT_LOG_INFO, "engine.asleep", "until=\"a request or the owner wakes it\"");
    watch_return(u);
    while (sleeps_on(u)) {
        struct pollfd p = {.fd = u->link.wake_fd, .events = POLLIN};
        if (poll(&p, 1, LOOK_MS) > 0 && read(u->link.wake_fd, &count, sizeof count) < 0) break;
    }
    set_level(u, 0);
    bt__unit_say(u, false, "the model is waking up");
}
