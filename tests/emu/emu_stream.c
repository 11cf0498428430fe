/* SPDX-License-Identifier: Apache-2.0 */
/* emu_stream.c - queues of work, run only when somebody waits for them, in any legal order.
 *
 * LAZY     Work waits in its stream until a host call has to see its result. Then only what that
 *          needs runs (seed 0), or other streams run first or in between (other seeds): a missing
 *          event or a host read without a wait shows as poison or stale data.
 * LEGAL    A stream is first in, first out. A wait holds its stream until the record it was asked
 *          for has run. The legacy stream and the ordinary ("blocking") streams wait for each other
 *          in the order of the calls, as CUDA has it.
 * CLOCK    The device's clock advances by what each piece of work is taken to cost. */
#include "emu_stream.h"
#include <stdlib.h>
#include <string.h>

enum { PENDING_MAX = 4096 };

pthread_mutex_t emu_lock = PTHREAD_MUTEX_INITIALIZER;
uint64_t emu_clock_ns;

static pthread_cond_t executed = PTHREAD_COND_INITIALIZER;
static bool executing;
static pthread_t executor;
static struct CUstream_st *streams; // all but the two below
static struct CUstream_st legacy = {.legacy = true}, per_thread = {.id = 1};
static struct CUevent_st *events;
static uint64_t last_seq, last_id = 1;
static long pending;
static bool in_host_fn;
static pthread_t host_fn_thread;

void emu_execute_begin(void)
{
    while (executing) pthread_cond_wait(&executed, &emu_lock);
    executing = true;
    executor = pthread_self();
    emu_fault_handler_install();
    emu_memory_open(true);
}

void emu_execute_end(void)
{
    emu_memory_open(false);
    executing = false;
    pthread_cond_broadcast(&executed);
}

bool emu_in_host_fn(void)
{
    return in_host_fn && pthread_equal(host_fn_thread, pthread_self());
}

uint64_t emu_clock(void)
{
    return emu_clock_ns;
}

/* Streams. */

struct CUstream_st *emu_stream_check(cudaStream_t s)
{
    if (s == NULL || s == cudaStreamLegacy) return &legacy;
    if (s == cudaStreamPerThread) return &per_thread;
    for (struct CUstream_st *i = streams; i; i = i->next)
        if (i == s) return i;
    return NULL;
}

struct CUstream_st *emu_stream_new(bool non_blocking, int priority)
{
    struct CUstream_st *s = emu_must(calloc(1, sizeof *s));
    s->non_blocking = non_blocking;
    s->priority = priority;
    s->id = ++last_id;
    s->next = streams;
    streams = s;
    return s;
}

static void queue_clear(struct CUstream_st *s)
{
    while (s->head) {
        emu_queued *q = s->head;
        s->head = q->next;
        emu_work_release(&q->work);
        free(q);
        pending--;
    }
    s->tail = NULL;
}

void emu_stream_delete(struct CUstream_st *s)
{
    queue_clear(s);
    for (struct CUstream_st **i = &streams; *i; i = &(*i)->next) {
        if (*i != s) continue;
        *i = s->next;
        break;
    }
    free(s->tips);
    free(s);
}

/* All streams in turn; NULL starts and ends. */
static struct CUstream_st *next_stream(struct CUstream_st *s)
{
    if (!s) return &legacy;
    if (s == &legacy) return &per_thread;
    return s == &per_thread ? streams : s->next;
}

bool emu_capturing_anything(void)
{
    for (struct CUstream_st *s = next_stream(NULL); s; s = next_stream(s))
        if (s->capture) return true;
    return false;
}

struct CUstream_st *emu_stream_each(struct CUstream_st *s)
{
    return next_stream(s);
}

/* Events. */

struct CUevent_st *emu_event_new(unsigned flags)
{
    struct CUevent_st *e = emu_must(calloc(1, sizeof *e));
    e->flags = flags;
    e->refs = 1;
    e->id = ++last_id;
    e->next = events;
    events = e;
    return e;
}

struct CUevent_st *emu_event_check(cudaEvent_t e)
{
    for (struct CUevent_st *i = events; i; i = i->next)
        if (i == e && !i->destroyed) return i;
    return NULL;
}

void emu_event_unref(struct CUevent_st *e)
{
    if (--e->refs) return;
    for (struct CUevent_st **i = &events; *i; i = &(*i)->next) {
        if (*i != e) continue;
        *i = e->next;
        break;
    }
    free(e->tips);
    free(e);
}

void emu_work_release(emu_work *work)
{
    if (work->launch && --work->launch->refs == 0) free(work->launch);
    if (work->event) emu_event_unref(work->event);
    if (work->body) emu_body_unref(work->body);
    memset(work, 0, sizeof *work);
}

/* Execution. */

static void run_host_fn(const emu_work *work)
{
    emu_memory_open(false);
    in_host_fn = true;
    host_fn_thread = pthread_self();
    pthread_mutex_unlock(&emu_lock);
    work->fn(work->user);
    pthread_mutex_lock(&emu_lock);
    in_host_fn = false;
    emu_memory_open(true);
}

static bool run_copy(const emu_work *work)
{
    const char *to =
        emu_space_of(work->to) == EMU_HOST ? NULL : emu_memory_check(work->to, work->bytes);
    const char *from = !work->from || emu_space_of(work->from) == EMU_HOST
                           ? NULL
                           : emu_memory_check(work->from, work->bytes);
    if (to || from) {
        emu_note("emulated device: a copy of %zu bytes from %p to %p: %s is %s\n", work->bytes,
                 work->from, work->to, to ? "target" : "source", to ? to : from);
        emu_sticky_set(cudaErrorIllegalAddress);
        return false;
    }
    if (work->kind == EMU_OP_SET)
        memset(work->to, work->value, work->bytes);
    else
        memmove(work->to, work->from, work->bytes);
    bool crosses = work->kind == EMU_OP_COPY &&
                   (emu_space_of(work->to) != EMU_DEVICE || emu_space_of(work->from) != EMU_DEVICE);
    emu_clock_ns += 3000 + work->bytes / (crosses ? 12 : 200); // 12 and 200 GB/s
    return true;
}

bool emu_work_run(const emu_work *work)
{
    uint64_t cost = 0;
    switch (work->kind) {
    case EMU_OP_KERNEL:
        if (emu_kernel_should_fault()) {
            emu_sticky_set(cudaErrorIllegalAddress);
            return false;
        }
        if (!emu_run_grid(work->launch, &cost)) return false;
        emu_clock_ns += cost;
        return true;
    case EMU_OP_COPY:
    case EMU_OP_SET: return run_copy(work);
    case EMU_OP_HOST: run_host_fn(work); return true;
    case EMU_OP_RECORD:
        if (work->event->done < work->version) {
            work->event->done = work->version;
            work->event->time_ns = emu_clock_ns;
        }
        return true;
    case EMU_OP_GRAPH: emu_clock_ns += 5000; return emu_body_run(work->body);
    case EMU_OP_WAIT:
    case EMU_OP_EMPTY: return true;
    }
    return true;
}

static void fault_everywhere(void)
{
    for (struct CUstream_st *s = next_stream(NULL); s; s = next_stream(s)) queue_clear(s);
}

static void run_head(struct CUstream_st *s)
{
    emu_queued *q = s->head;
    s->head = q->next;
    if (!s->head) s->tail = NULL;
    pending--;
    bool ok = emu_work_run(&q->work);
    s->done_seq = q->seq;
    emu_work_release(&q->work);
    free(q);
    if (!ok) fault_everywhere();
}

/* The stream that must advance before s can; NULL: s can. */
static struct CUstream_st *blocker(const struct CUstream_st *s)
{
    const emu_queued *h = s->head;
    if (s->legacy) {
        for (struct CUstream_st *o = next_stream(NULL); o; o = next_stream(o))
            if (!o->legacy && !o->non_blocking && o->head && o->head->seq < h->seq) return o;
    } else if (!s->non_blocking && legacy.head && legacy.head->seq < h->seq) {
        return &legacy;
    }
    if (h->work.kind != EMU_OP_WAIT || h->work.event->done >= h->work.version) return NULL;
    for (struct CUstream_st *o = next_stream(NULL); o; o = next_stream(o))
        for (const emu_queued *q = o->head; q; q = q->next)
            if (q->work.kind == EMU_OP_RECORD && q->work.event == h->work.event &&
                q->work.version == h->work.version)
                return o;
    return NULL; // its record is gone with its stream: nothing left to wait for
}

/* Runs one piece of work that brings s forward: its own, or what that waits for. */
static void step(struct CUstream_st *s)
{
    struct CUstream_st *before;
    while ((before = blocker(s))) s = before;
    run_head(s);
}

static struct CUstream_st *any_stream(void)
{
    int n = 0;
    struct CUstream_st *found = NULL;
    for (struct CUstream_st *s = next_stream(NULL); s; s = next_stream(s))
        if (s->head && emu_random() % (uint64_t)++n == 0) found = s;
    return found;
}

/* Runs s up to `seq`; with a seed other streams get turns too. */
static void advance(struct CUstream_st *s, uint64_t seq)
{
    if (!s->head || s->head->seq > seq) return;
    uint64_t mode = emu_random() % 3; // 0: only what is needed, 1: others often, 2: others first
    while (s->head && s->head->seq <= seq) {
        struct CUstream_st *other =
            mode == 2 || (mode == 1 && emu_random() % 2) ? any_stream() : NULL;
        step(other ? other : s);
        if (other == s) mode = 1;
    }
}

static uint64_t tail_seq(const struct CUstream_st *s)
{
    return s->tail ? s->tail->seq : 0;
}

void emu_drain_stream(struct CUstream_st *s)
{
    if (!s->head) return;
    emu_execute_begin();
    advance(s, tail_seq(s));
    emu_execute_end();
}

void emu_drain_some(struct CUstream_st *s, int steps)
{
    if (!s->head) return;
    emu_execute_begin();
    while (steps-- > 0 && s->head) step(s);
    emu_execute_end();
}

void emu_drain_event(struct CUevent_st *e, uint64_t version)
{
    if (e->done >= version) return;
    emu_execute_begin();
    for (struct CUstream_st *s = next_stream(NULL); s && e->done < version; s = next_stream(s))
        for (const emu_queued *q = s->head; q; q = q->next)
            if (q->work.kind == EMU_OP_RECORD && q->work.event == e && q->work.version == version) {
                advance(s, q->seq);
                break;
            }
    emu_execute_end();
}

void emu_drain_all(void)
{
    emu_execute_begin();
    for (struct CUstream_st *s = next_stream(NULL); s; s = next_stream(s))
        while (s->head) step(s);
    emu_execute_end();
}

void emu_drain_before_legacy(void)
{
    emu_execute_begin();
    for (struct CUstream_st *s = next_stream(NULL); s; s = next_stream(s))
        if (!s->non_blocking) advance(s, tail_seq(s));
    emu_execute_end();
}

cudaError_t emu_enqueue(struct CUstream_st *s, const emu_work *work)
{
    emu_queued *q = emu_must(calloc(1, sizeof *q));
    q->work = *work;
    q->seq = ++last_seq;
    if (s->tail)
        s->tail->next = q;
    else
        s->head = q;
    s->tail = q;
    if (++pending > PENDING_MAX) emu_drain_some(s, PENDING_MAX / 2);
    if (emu_set.eager) emu_drain_all();
    return emu_sticky();
}

int emu_streams_alive(bool tell)
{
    int n = 0;
    for (struct CUstream_st *s = streams; s; s = s->next, n++)
        if (tell) emu_note("  stream %llu\n", (unsigned long long)s->id);
    for (struct CUevent_st *e = events; e; e = e->next) {
        if (e->destroyed) continue;
        n++;
        if (tell) emu_note("  event %llu\n", (unsigned long long)e->id);
    }
    return n;
}

static void stop_capture(struct CUstream_st *s)
{
    free(s->tips);
    s->capture = NULL;
    s->tips = NULL;
    s->n_tips = 0;
}

void emu_streams_reset(void)
{
    fault_everywhere();
    while (streams) emu_stream_delete(streams);
    stop_capture(&legacy);
    stop_capture(&per_thread);
    while (events) {
        events->refs = 1;
        emu_event_unref(events);
    }
    emu_clock_ns = 0;
}
