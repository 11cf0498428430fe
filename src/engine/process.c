/* SPDX-License-Identifier: Apache-2.0 */
/* process.c - the engine process: commands in between steps, events out after each.
 *
 * One thread, one loop. Busy: drain the socket without waiting, step, write everything the step
 * said with one call. Idle: sleep in poll() until a command or the next lease deadline. */
#include "engine/process.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/wire.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#define WRITE_NS 5000000000LL  // front must read within this, or it is gone
#define IDLE_NS 10000000000LL  // longest sleep: every wait has a deadline
#define LOAD_EVERY_NS 50000000 // load progress is for people

enum { OUT_BYTES = 256 << 10, OUT_BYTES_MAX = 32 << 20, ARENA_BYTES_MAX = 16 << 20 };

typedef struct engine_process {
    int fd;
    bt_engine *engine;
    bt_frame_reader in;
    bt_buf out;
    bt_arena arena;  // of the command under way
    int64_t load_ns; // when load progress last went out
    bool stop, lost; // asked to stop; front is gone
} engine_process;

static void process_flush(engine_process *p)
{
    bt_err err = {0};
    if (p->lost || p->out.len == 0) return;
    bt_status st = bt_frame_flush(&p->out, p->fd, bt_now_ns() + WRITE_NS, &err);
    if (!st) return;
    p->lost = true;
    bt_log(BT_LOG_WARN, "engine.front_lost", "reason=\"%s\"", err.msg);
}

static void process_sink(void *ud, const bt_engine_event *ev)
{
    engine_process *p = ud;
    if (ev->type == BT_EE_LOAD) {
        int64_t now = bt_now_ns();
        if (ev->u.load.done < ev->u.load.total && now - p->load_ns < LOAD_EVERY_NS) return;
        p->load_ns = now;
    }
    bt_wire_put_event(&p->out, ev);
    if (ev->type == BT_EE_LOAD || ev->type == BT_EE_READY) process_flush(p);
}

static void process_fatal(engine_process *p, const bt_err *err)
{
    bt_engine_event ev = {.type = BT_EE_FATAL};
    ev.u.fatal.message = err->msg;
    ev.u.fatal.code = err->code;
    bt_log(BT_LOG_ERR, "engine.fatal", "status=%s reason=\"%s\"", bt_status_get(err->code)->label,
           err->msg);
    bt_wire_put_event(&p->out, &ev);
    process_flush(p);
}

/* Waits for the socket at most until deadline_ns. */
static void process_wait(engine_process *p, int64_t deadline_ns)
{
    int64_t left_ns = deadline_ns - bt_now_ns();
    struct pollfd poll_fd = {.fd = p->fd, .events = POLLIN};
    if (left_ns > 0) poll(&poll_fd, 1, (int)((left_ns + 999999) / 1000000));
}

/* Front admitted what the engine cannot take (it looked at an older report): front must know, or it
 * would wait for ever. Nothing ran, and the device has no part in it. */
static void process_refuse(engine_process *p, uint64_t request, const bt_err *err)
{
    bt_engine_event ev = {.type = BT_EE_END, .request = request};
    ev.u.end.finish = BT_FINISH_REFUSED;
    ev.u.end.status = err->code;
    bt_log(BT_LOG_WARN, "engine.refused", "req=%llu status=%s reason=\"%s\"",
           (unsigned long long)request, bt_status_get(err->code)->label, err->msg);
    process_sink(p, &ev);
}

static bt_status process_submit(engine_process *p, bt_rd *rd, bt_err *err)
{
    bt_engine_request req;
    bt_err refusal = {0};
    bt_status st = bt_wire_get_submit(rd, &p->arena, &req, err);
    if (!st && bt_engine_submit(p->engine, &req, &refusal)) process_refuse(p, req.id, &refusal);
    bt_arena_release(&p->arena);
    return st;
}

/* Front asks again where that makes sense: what cannot be done now is logged. A device that failed
 * is the end. */
static bt_status process_residency(engine_process *p, bool park, bt_err *err)
{
    bt_err why = {0};
    bt_status st = park ? bt_engine_park(p->engine, &why) : bt_engine_wake(p->engine, &why);
    if (st == BT_EDEVICE) return bt_err_set(err, st, why.sys, "%s", why.msg);
    if (st)
        bt_log(BT_LOG_WARN, park ? "engine.not_parked" : "engine.not_awake", "reason=\"%s\"",
               why.msg);
    return BT_OK;
}

static bt_status process_command(engine_process *p, bt_frame *frame, bt_err *err)
{
    bt_wire_command c;
    if (frame->type == BT_WIRE_SUBMIT) return process_submit(p, &frame->rd, err);
    bt_status st = bt_wire_get_command(frame->type, &frame->rd, &c, err);
    if (st) return st;
    switch (frame->type) {
    case BT_WIRE_CANCEL: bt_engine_cancel(p->engine, c.request, c.generation, c.why); break;
    case BT_WIRE_BUDGET:
        bt_engine_budget(p->engine, c.request, c.generation, c.budget_us, c.budget_final);
        break;
    case BT_WIRE_RELEASE: bt_engine_release(p->engine, c.request); break;
    case BT_WIRE_PARK: return process_residency(p, true, err);
    case BT_WIRE_WAKE: return process_residency(p, false, err);
    default: p->stop = true; break;
    }
    return BT_OK;
}

/* Takes every command that has arrived; never waits. */
static bt_status process_drain(engine_process *p, bt_err *err)
{
    for (;;) {
        bt_frame frame;
        int got;
        while (!p->stop && (got = bt_frame_reader_next(&p->in, &frame, err)) != 0) {
            if (got < 0) return (bt_status)got;
            bt_status st = process_command(p, &frame, err);
            if (st) return st;
        }
        if (p->stop) return BT_OK;
        bt_status st = bt_frame_reader_fill(&p->in, p->fd, err);
        if (st == BT_ETIMEOUT) return BT_OK;
        if (st == BT_ECLOSED) p->lost = true;
        if (st) return st == BT_ECLOSED ? BT_OK : st;
    }
}

/* The options frame, which front sends first. */
static bt_status process_options(engine_process *p, bt_engine_options *opt, bt_err *err)
{
    int64_t deadline = bt_now_ns() + IDLE_NS;
    for (;;) {
        bt_frame frame;
        int got = bt_frame_reader_next(&p->in, &frame, err);
        if (got < 0) return (bt_status)got;
        if (got > 0 && frame.type != BT_WIRE_OPTIONS)
            return bt_err_set(err, BT_EIO, frame.type, "the first frame must be the options");
        if (got > 0) return bt_wire_get_options(&frame.rd, &p->arena, opt, err);
        bt_status st = bt_frame_reader_fill(&p->in, p->fd, err);
        if (st == BT_OK) continue;
        if (st != BT_ETIMEOUT) return st;
        if (bt_now_ns() >= deadline)
            return bt_err_set(err, BT_ETIMEOUT, 0, "no options came within 10 seconds");
        process_wait(p, deadline);
    }
}

static int process_serve(engine_process *p)
{
    bt_err err = {0};
    for (;;) {
        if (process_drain(p, &err)) {
            process_fatal(p, &err);
            return err.code == BT_EDEVICE ? BT_ENGINE_EXIT_FAULT : BT_ENGINE_EXIT_LOAD;
        }
        if (p->stop || p->lost) return BT_ENGINE_EXIT_OK;
        if (bt_engine_has_work(p->engine)) {
            if (bt_engine_step(p->engine, &err)) {
                process_fatal(p, &err);
                return BT_ENGINE_EXIT_FAULT;
            }
            process_flush(p);
            continue;
        }
        process_flush(p);
        int64_t until = bt_now_ns() + IDLE_NS, lease = bt_engine_next_deadline(p->engine);
        process_wait(p, lease < until ? lease : until);
    }
}

int bt_engine_main(int fd, const bt_engine_options *opt, bt_engine_opener opener)
{
    engine_process p = {.fd = fd, .out.max_bytes = OUT_BYTES_MAX};
    bt_engine_options sent;
    bt_err err = {0};
    int code = BT_ENGINE_EXIT_LOAD;
    /* If front died before this line its end of the socket is closed already, and the first read
     * says so; asking for the parent's id would not tell, as front may well be process 1. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "baton-engine");
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    bt_log_background();
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        bt_log(BT_LOG_ERR, "engine.fatal", "reason=\"the socket is not usable: %s\"",
               strerror(errno));
        return code;
    }
    bt_arena_init(&p.arena, ARENA_BYTES_MAX);
    bt_status st = bt_buf_reserve(&p.out, OUT_BYTES)
                       ? BT_OK
                       : bt_err_set(&err, BT_ENOMEM, 0, "out of memory for the event buffer");
    if (!st && !opt) {
        st = process_options(&p, &sent, &err);
        opt = &sent;
    }
    if (!st) st = opener(opt, process_sink, &p, &p.engine, &err);
    if (st)
        process_fatal(&p, &err);
    else {
        bt_arena_release(&p.arena);
        code = process_serve(&p);
    }
    bt_engine_close(p.engine);
    bt_arena_release(&p.arena);
    bt_buf_release(&p.out);
    bt_frame_reader_release(&p.in);
    return code;
}
