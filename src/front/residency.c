/* SPDX-License-Identifier: Apache-2.0 */
/* residency.c - when the model gives its device back, and when it takes it again.
 *
 *   level 0  runs
 *   level 1  parked: the engine process keeps its context, weights and KV are given back. The
 *            scheduler goes on admitting; the engine wakes by itself when there is work.
 *   level 2  asleep: the engine process is gone, and all memory with it. Requests wait in the queue
 *            while the link thread starts an engine for them.
 *
 * Going to sleep is in three steps, so that no request is lost on the way: the scheduler is told
 * to admit nothing (ENGINE_ASLEEP); when nothing runs any more, the scheduler's thread asks the
 * engine to end; when it has ended, the link thread sleeps instead of starting another. Then the
 * driver is asked whether the memory has come back.
 * Thread: any, unless said otherwise. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "device/nvml.h"
#include "front/internal.h"
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

static const int64_t look_ms = 1000;
static const int64_t return_ns = 3000000000, return_look_ns = 50000000;

static bool has_requests(bt_front *f)
{
    pthread_mutex_lock(&f->sched_mu);
    bool has = bt_sched_running(f->sched) + bt_sched_waiting(f->sched) > 0;
    pthread_mutex_unlock(&f->sched_mu);
    return has;
}

static bool has_running(bt_front *f)
{
    pthread_mutex_lock(&f->sched_mu);
    bool has = bt_sched_running(f->sched) > 0;
    pthread_mutex_unlock(&f->sched_mu);
    return has;
}

static void set_level(bt_front *f, int32_t level)
{
    pthread_mutex_lock(&f->state_mu);
    f->state.residency = level;
    pthread_mutex_unlock(&f->state_mu);
}

static void poke_link(bt_front *f)
{
    uint64_t one = 1;
    if (f->link.wake_fd >= 0 && write(f->link.wake_fd, &one, sizeof one) < 0)
        return; // full: it is awake
}

bt_status bt_front_engine_park(bt_front *f, int32_t level, bt_err *err)
{
    bt_front_state st;
    bt_front_state_get(f, &st);
    if (level != 1 && level != 2)
        return bt_err_set(err, BT_EINVAL, 0, "'level' must be 1 (parked) or 2 (asleep)");
    if (st.draining) return bt_err_set(err, BT_ECLOSED, 0, "the server is shutting down");
    if (st.residency >= level) return BT_OK;
    if (!st.ready)
        return bt_err_set(err, BT_ENOTREADY, 0, "the model is still loading; park it afterwards");
    if (has_requests(f))
        return bt_err_set(err, BT_EBUSY, 0,
                          "requests are running or waiting; the model is parked when it is idle");
    if (level == 1 && !st.can_park)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "a model on %s cannot be parked; level 2 ends its process instead",
                          st.device);
    if (level == 1) {
        bt__link_park(f);
        return BT_OK;
    }
    int awake = BT_SLEEP_NO;
    if (atomic_compare_exchange_strong(&f->sleep, &awake, BT_SLEEP_ASKED)) {
        atomic_store(&f->wake_wanted, false);
        bt__front_event_simple(f, BT_EV_ENGINE_ASLEEP, 0);
    }
    return BT_OK;
}

void bt__residency_needed(bt_front *f)
{
    if (atomic_load(&f->sleep) == BT_SLEEP_NO) return;
    atomic_store(&f->wake_wanted, true);
    poke_link(f);
}

bt_status bt_front_engine_wake(bt_front *f, bt_err *err)
{
    bt_front_state st;
    bt_front_state_get(f, &st);
    if (st.draining) return bt_err_set(err, BT_ECLOSED, 0, "the server is shutting down");
    if (st.residency == 1) bt__link_wake(f);
    bt__residency_needed(f);
    return BT_OK;
}

void bt__residency_ready(bt_front *f, const bt_engine_event *ev)
{
    bt_held *h = &f->link.held;
    bt_nvml_memory m = {0};
    snprintf(h->device_id, sizeof h->device_id, "%s", ev->u.ready.device_id);
    h->bytes = ev->u.ready.weights_bytes + ev->u.ready.kv_bytes + ev->u.ready.scratch_bytes;
    h->used_bytes = 0;
    if (h->device_id[0] && bt_nvml_memory_read(h->device_id, &m, NULL) == BT_OK)
        h->used_bytes = m.used_bytes;
}

void bt__residency_told(bt_front *f, const bt_engine_event *ev)
{
    pthread_mutex_lock(&f->state_mu);
    f->state.residency = ev->u.residency.level;
    f->state.device_free_bytes = ev->u.residency.free_bytes;
    pthread_mutex_unlock(&f->state_mu);
}

void bt__residency_idle(bt_front *f)
{
    bt_front_state st;
    int64_t now = bt_now_ns(), after_ns = (int64_t)f->opt.park_after_s * 1000000000;
    if (has_requests(f)) f->link.busy_ns = now;
    if (after_ns == 0 || now - f->link.busy_ns < after_ns) return;
    bt_front_state_get(f, &st);
    if (!st.ready || st.residency > 0) return;
    f->link.busy_ns = now; // and again, if it could not be done
    bt_err err = {0};
    if (bt_front_engine_park(f, st.can_park ? 1 : 2, &err))
        bt_log(BT_LOG_WARN, "engine.not_parked", "reason=\"%s\"", err.msg);
}

void bt__residency_admits_no_more(bt_front *f)
{
    int asked = BT_SLEEP_ASKED;
    atomic_compare_exchange_strong(&f->sleep, &asked, BT_SLEEP_WANTED);
}

void bt__residency_settled(bt_front *f)
{
    int wanted = BT_SLEEP_WANTED;
    if (atomic_load(&f->sleep) != BT_SLEEP_WANTED || has_running(f)) return;
    if (atomic_compare_exchange_strong(&f->sleep, &wanted, BT_SLEEP_STOPPING)) bt__link_stop(f);
}

bool bt__residency_stopping(bt_front *f)
{
    return atomic_load(&f->sleep) == BT_SLEEP_STOPPING;
}

static bool sleeps_on(bt_front *f)
{
    return !atomic_load(&f->stopping) && !atomic_load(&f->wake_wanted) && !has_requests(f);
}

/* Says whether what the ended engine held is the device's again, as its driver counts. */
static void watch_return(bt_front *f)
{
    const bt_held *h = &f->link.held;
    bt_nvml_memory m;
    int64_t until = bt_now_ns() + return_ns;
    if (h->used_bytes == 0) return;
    /* An eighth is left to what others on the device take meanwhile. */
    uint64_t most = h->used_bytes - BT_MIN(h->bytes - h->bytes / 8, h->used_bytes);
    do {
        if (bt_nvml_memory_read(h->device_id, &m, NULL)) return;
        pthread_mutex_lock(&f->state_mu);
        f->state.device_free_bytes = m.free_bytes;
        pthread_mutex_unlock(&f->state_mu);
        if (m.used_bytes <= most) {
            bt_log(BT_LOG_INFO, "engine.memory_returned",
                   "used_bytes=%" PRIu64 " when_ready=%" PRIu64, m.used_bytes, h->used_bytes);
            return;
        }
        bt_sleep_ns(return_look_ns);
    } while (sleeps_on(f) && bt_now_ns() < until);
    if (sleeps_on(f))
        bt_log(BT_LOG_WARN, "engine.memory_not_returned",
               "used_bytes=%" PRIu64 " when_ready=%" PRIu64 " held=%" PRIu64
               " see=\"nvidia-smi: another process may have taken it\"",
               m.used_bytes, h->used_bytes, h->bytes);
}

void bt__residency_sleep(bt_front *f)
{
    uint64_t count;
    set_level(f, 2);
    bt__front_say(f, true, ""); // requests are welcome: they wake it
    bt_log(BT_LOG_INFO, "engine.asleep", "until=\"a request or the owner wakes it\"");
    watch_return(f);
    while (sleeps_on(f)) {
        struct pollfd p = {.fd = f->link.wake_fd, .events = POLLIN};
        if (poll(&p, 1, (int)look_ms) > 0 && read(f->link.wake_fd, &count, sizeof count) < 0) break;
    }
    atomic_store(&f->wake_wanted, false);
    atomic_store(&f->sleep, BT_SLEEP_NO);
    f->link.busy_ns = bt_now_ns();
    set_level(f, 0);
    bt__front_say(f, false, "the model is waking up");
}
