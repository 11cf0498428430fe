/* SPDX-License-Identifier: Apache-2.0 */
/* link.c - the engine process: started, spoken to, watched, started again.
 *
 * The link thread starts the engine (the kernel ends it when this thread ends), reads its frames
 * and turns them into stream and scheduler events. When the engine ends unasked, the order is: what
 * its crash file says each request used -> scheduler; ENGINE_DOWN; the scheduler posts; the ledger
 * settles the file; only then the next engine starts, after a back-off. So no lease of a dead
 * engine ever reaches a new one. */
#define _GNU_SOURCE
#include "base/assert.h"
#include "base/clock.h"
#include "base/cond.h"
#include "base/crypto.h"
#include "base/log.h"
#include "engine/process.h"
#include "engine/wire.h"
#include "front/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TX_BYTES = 64 << 10 }; // kept for commands
static const int64_t settle_ns = 30000000000, stop_ns = 2000000000;
static const int64_t backoff_min_ns = 100000000, backoff_max_ns = 10000000000;

/* ---- commands: any thread, and none waits for the engine: between two steps, and while it loads,
 * it reads nothing. What its socket does not take stays in tx, for the link thread to send. */

/* Sends what the socket takes. Called with tx_mu held. */
static void tx_send(bt_link *l)
{
    size_t at = 0;
    bool gone = l->fd < 0;
    while (!gone && at < l->tx.len) {
        ssize_t n = send(l->fd, l->tx.data + at, l->tx.len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            at += (size_t)n;
        else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        else if (n == 0 || errno != EINTR)
            gone = true; // the link thread will read its end
    }
    if (gone)
        bt_buf_clear(&l->tx);
    else
        bt_buf_drop(&l->tx, at);
}

/* Ends the frame begun at mark and sends. A frame that found no memory is taken back. */
static bt_status tx_end(bt_link *l, size_t mark)
{
    uint64_t one = 1;
    bool failed = l->tx.failed;
    if (failed) {
        l->tx.failed = false;
        l->tx.len = mark;
    }
    tx_send(l);
    if (l->tx.len > 0 && l->wake_fd >= 0 && write(l->wake_fd, &one, sizeof one) < 0 &&
        errno != EAGAIN)
        bt_log(BT_LOG_ERR, "engine.wake", "errno=%d", errno);
    return failed ? BT_ENOMEM : BT_OK;
}

/* As tx_end, for what an engine cannot do without: one that misses it is ended, and the link thread
 * notices. */
static void tx_end_must(bt_link *l, size_t mark)
{
    if (tx_end(l, mark) == BT_OK || l->fd < 0) return;
    bt_log(BT_LOG_ERR, "engine.write", "out of memory for a command; it is started again");
    shutdown(l->fd, SHUT_RDWR);
}

bt_status bt__link_submit(bt_front *f, const bt_stream *s, const bt_lease *lease)
{
    bt_engine_request req = {
        .id = s->id,
        .salt = f->opt.engine.share_prefix ? 1 : s->identity.account_id,
        .tokens = s->tokens,
        .n_tokens = s->n_tokens,
        .n_seq = s->n_seq,
        .params = s->params,
        .lease = *lease,
    };
    pthread_mutex_lock(&f->link.tx_mu);
    size_t mark = f->link.tx.len;
    bt_wire_put_submit(&f->link.tx, &req);
    bt_status st = tx_end(&f->link, mark);
    pthread_mutex_unlock(&f->link.tx_mu);
    return st;
}

void bt__link_budget(bt_front *f, uint64_t request, const bt_lease *lease)
{
    pthread_mutex_lock(&f->link.tx_mu);
    size_t mark = f->link.tx.len;
    bt_wire_put_budget(&f->link.tx, request, lease->generation, lease->budget_us,
                       lease->budget_final);
    tx_end_must(&f->link, mark);
    pthread_mutex_unlock(&f->link.tx_mu);
}

void bt__link_cancel(bt_front *f, uint64_t request, const bt_lease *lease, bt_finish why)
{
    pthread_mutex_lock(&f->link.tx_mu);
    size_t mark = f->link.tx.len;
    bt_wire_put_cancel(&f->link.tx, request, lease->generation, why);
    tx_end_must(&f->link, mark);
    pthread_mutex_unlock(&f->link.tx_mu);
}

void bt__link_done(bt_front *f, uint64_t request)
{
    pthread_mutex_lock(&f->link.tx_mu);
    size_t mark = f->link.tx.len;
    bt_wire_put_release(&f->link.tx, request);
    tx_end_must(&f->link, mark);
    pthread_mutex_unlock(&f->link.tx_mu);
}

static void link_plain(bt_front *f, bt_wire_type type)
{
    pthread_mutex_lock(&f->link.tx_mu);
    size_t mark = f->link.tx.len;
    bt_wire_put_plain(&f->link.tx, type);
    tx_end_must(&f->link, mark);
    pthread_mutex_unlock(&f->link.tx_mu);
}

void bt__link_stop(bt_front *f)
{
    link_plain(f, BT_WIRE_STOP);
}

void bt__link_park(bt_front *f)
{
    link_plain(f, BT_WIRE_PARK);
}

void bt__link_wake(bt_front *f)
{
    link_plain(f, BT_WIRE_WAKE);
}

void bt__link_down_settled(bt_front *f, uint64_t boot)
{
    pthread_mutex_lock(&f->link.down_mu);
    f->link.down_settled = boot;
    pthread_cond_broadcast(&f->link.down_cond);
    pthread_mutex_unlock(&f->link.down_mu);
}

/* ---- events from the engine: link thread */

static void on_ready(bt_front *f, const bt_engine_event *ev)
{
    bt_sched_event up = {.type = BT_EV_ENGINE_UP};
    up.u.engine_up.slots = ev->u.ready.slots;
    up.u.engine_up.n_pages = ev->u.ready.n_pages;
    up.u.engine_up.page_tokens = ev->u.ready.page_tokens;
    up.u.engine_up.prefill_us_per_token = (double)ev->u.ready.prefill_us_per_token;
    up.u.engine_up.decode_us_per_token = (double)ev->u.ready.decode_us_per_token;
    pthread_mutex_lock(&f->state_mu);
    f->state.ctx = ev->u.ready.ctx;
    f->state.slots = ev->u.ready.slots;
    f->state.n_pages = ev->u.ready.n_pages;
    f->state.page_tokens = ev->u.ready.page_tokens;
    f->state.can_park = ev->u.ready.can_park;
    f->state.residency = 0;
    f->state.not_finite = f->link.finite = false;
    snprintf(f->state.device, sizeof f->state.device, "%s", ev->u.ready.device);
    pthread_mutex_unlock(&f->state_mu);
    f->link.busy_ns = bt_now_ns(); // idle time begins now
    bt__residency_ready(f, ev);
    bt__front_event(f, &up);
    bt__front_say(f, true, "");
    bt_log(BT_LOG_INFO, "engine.ready",
           "model=%s device=%s slots=%d ctx=%d kv_pages=%d weights_bytes=%" PRIu64
           " kv_bytes=%" PRIu64 " scratch_bytes=%" PRIu64,
           f->state_model, ev->u.ready.device, ev->u.ready.slots, ev->u.ready.ctx,
           ev->u.ready.n_pages, ev->u.ready.weights_bytes, ev->u.ready.kv_bytes,
           ev->u.ready.scratch_bytes);
}

static void on_step(bt_front *f, const bt_engine_event *ev)
{
    bt_sched_event e = {.type = BT_EV_USED};
    for (int32_t i = 0; i < ev->u.step.n_share; i++) {
        e.request = ev->u.step.share[i].request;
        e.amount_us = (int64_t)ev->u.step.share[i].used_us;
        bt__front_event(f, &e);
    }
    e = (bt_sched_event){.type = BT_EV_STEP};
    e.u.step.pages_free = ev->u.step.pages_free;
    e.u.step.n_rows = ev->u.step.n_rows;
    e.u.step.n_prefill_rows = BT_MAX(0, ev->u.step.n_rows - ev->u.step.n_seqs);
    e.u.step.n_seqs = ev->u.step.n_seqs;
    e.u.step.step_us = ev->u.step.step_us;
    bt__front_event(f, &e);
    bt__count(&f->count.steps, 1);
    bt__count(&f->count.step_us, ev->u.step.step_us);
    bt__count(&f->count.step_rows, (uint64_t)ev->u.step.n_rows);
    if (ev->u.step.step_us > atomic_load(&f->count.step_longest_us))
        atomic_store(&f->count.step_longest_us, ev->u.step.step_us); // written by this thread only
}

static void on_end(bt_front *f, bt_stream *s, const bt_engine_event *ev)
{
    pthread_mutex_lock(&s->mu);
    s->prompt_tokens = ev->u.end.prompt_tokens;
    s->cached_tokens = ev->u.end.cached_tokens;
    s->completion_tokens = ev->u.end.completion_tokens;
    s->prefill_ns = ev->u.end.prefill_ns;
    s->decode_ns = ev->u.end.decode_ns;
    if (ev->u.end.status) s->broke = ev->u.end.status;
    int64_t first_ns = s->first_token_ns;
    pthread_mutex_unlock(&s->mu);
    if (first_ns) bt__count_ttft(&f->count, first_ns - s->submitted_ns);
    bool not_finite = ev->u.end.status == BT_EMODEL;
    if (not_finite) bt__count(&f->count.not_finite, 1);
    if (not_finite || ev->u.end.completion_tokens > 0) { // some that it computed was
        pthread_mutex_lock(&f->state_mu);
        if (ev->u.end.completion_tokens > 0) f->link.finite = true;
        f->state.not_finite = not_finite && !f->link.finite;
        pthread_mutex_unlock(&f->state_mu);
    }
    bt__count(&f->count.prompt_tokens, (uint64_t)ev->u.end.prompt_tokens);
    bt__count(&f->count.cached_tokens, (uint64_t)ev->u.end.cached_tokens);
    bt__count(&f->count.completion_tokens, (uint64_t)ev->u.end.completion_tokens);
}

static void on_request(bt_front *f, const bt_engine_event *ev)
{
    bt_stream *s = bt__front_find(f, ev->request);
    if (s) {
        switch (ev->type) {
        case BT_EE_PREFILL: bt__stream_prefill(s, ev->u.prefill.done, ev->u.prefill.total); break;
        case BT_EE_PROMPT_LOGPROBS: bt__stream_tokens(s, BT_SE_PROMPT, ev); break;
        case BT_EE_TOKENS: bt__stream_tokens(s, BT_SE_TOKENS, ev); break;
        case BT_EE_SEQ_END: bt__stream_tokens(s, BT_SE_SEQ_END, ev); break;
        default: on_end(f, s, ev);
        }
        bt_stream_unref(s);
    }
    if (ev->type != BT_EE_END) return;
    bt_sched_event e = {.type = BT_EV_FINISHED,
                        .request = ev->request,
                        .amount_us = (int64_t)ev->u.end.used_us,
                        .finish = ev->u.end.finish};
    e.u.finished.completion_tokens = ev->u.end.completion_tokens;
    bt__front_event(f, &e);
}

static void on_event(bt_front *f, const bt_engine_event *ev)
{
    switch (ev->type) {
    case BT_EE_LOAD:
        pthread_mutex_lock(&f->state_mu);
        f->state.load_done = ev->u.load.done;
        f->state.load_total = ev->u.load.total;
        pthread_mutex_unlock(&f->state_mu);
        break;
    case BT_EE_READY: on_ready(f, ev); break;
    case BT_EE_STEP: on_step(f, ev); break;
    case BT_EE_RESIDENCY:
        bt__residency_told(f, ev);
        bt_log(BT_LOG_INFO, ev->u.residency.level ? "engine.parked" : "engine.awake",
               "bytes=%" PRIu64 " free_bytes=%" PRIu64 " took_ms=%" PRId64, ev->u.residency.bytes,
               ev->u.residency.free_bytes, ev->u.residency.took_ns / 1000000);
        break;
    case BT_EE_FATAL:
        f->link.fatal = true;
        pthread_mutex_lock(&f->state_mu);
        f->state.code = ev->u.fatal.code;
        pthread_mutex_unlock(&f->state_mu);
        bt__front_say(f, false, ev->u.fatal.message); // the engine has logged it
        break;
    case BT_EE_PREFILL:
    case BT_EE_PROMPT_LOGPROBS:
    case BT_EE_TOKENS:
    case BT_EE_SEQ_END:
    case BT_EE_END: on_request(f, ev); break;
    }
}

/* Whether an engine that has work has said nothing for too long: a step is much shorter. Called
 * while it is silent; *quiet_ns: since when, of the time that it has had work. */
static bool engine_silent(bt_front *f, int64_t *quiet_ns)
{
    pthread_mutex_lock(&f->sched_mu);
    bool works = bt_sched_running(f->sched) > 0;
    pthread_mutex_unlock(&f->sched_mu);
    if (!works) *quiet_ns = bt_now_ns();
    return bt_now_ns() - *quiet_ns >= (int64_t)f->opt.engine_timeout_s * 1000000000;
}

/* Waits for frames, and meanwhile sends what tx holds. False: nothing to read. */
static bool link_wait(bt_link *l, int fd)
{
    uint64_t count;
    pthread_mutex_lock(&l->tx_mu);
    bool more = l->tx.len > 0;
    pthread_mutex_unlock(&l->tx_mu);
    struct pollfd p[2] = {{.fd = fd, .events = (short)(more ? POLLIN | POLLOUT : POLLIN)},
                          {.fd = l->wake_fd, .events = POLLIN}};
    if (poll(p, 2, 1000) <= 0) return false;
    if (p[1].revents && read(l->wake_fd, &count, sizeof count) < 0 && errno != EAGAIN)
        bt_log(BT_LOG_ERR, "engine.wake", "errno=%d", errno);
    if (p[0].revents & POLLOUT) {
        pthread_mutex_lock(&l->tx_mu);
        tx_send(l);
        pthread_mutex_unlock(&l->tx_mu);
    }
    return p[0].revents & ~POLLOUT;
}

/* Reads frames until the engine's socket ends or breaks. An engine that was asked to stop has
 * stop_ns: it may be stuck, or loading, which is when it reads nothing. False: it did not end by
 * itself. */
static bool link_read(bt_front *f, int fd, bt_wire_storage *storage)
{
    bt_frame_reader reader = {0};
    bt_frame frame;
    bt_engine_event ev;
    bt_err err = {0};
    bt_status st = BT_OK;
    int64_t end_ns = 0, quiet_ns = bt_now_ns();
    if (atomic_load(&f->stopping))
        bt__link_stop(f); // the first call may have come before the socket was there
    while (st == BT_OK) {
        bt__residency_idle(f);
        bool asked = atomic_load(&f->stopping) || bt__residency_stopping(f);
        if (end_ns == 0 && asked) end_ns = bt_now_ns() + stop_ns;
        if (end_ns > 0 && bt_now_ns() >= end_ns) break;
        if (!link_wait(&f->link, fd)) {
            if (engine_silent(f, &quiet_ns)) break;
            continue;
        }
        quiet_ns = bt_now_ns();
        st = bt_frame_reader_fill(&reader, fd, &err);
        if (st == BT_ETIMEOUT) st = BT_OK;
        int got = 0;
        while (st == BT_OK && (got = bt_frame_reader_next(&reader, &frame, &err)) > 0) {
            st = bt_wire_get_event(frame.type, &frame.rd, storage, &ev, &err);
            if (st == BT_OK) on_event(f, &ev);
        }
        if (got < 0) st = BT_EIO;
    }
    if (st == BT_OK)
        bt_log(BT_LOG_WARN, "engine.stuck", "it does not answer, and is killed");
    else if (st != BT_ECLOSED)
        bt_log(BT_LOG_ERR, "engine.read", "why=\"%s\"", err.msg);
    bt_frame_reader_release(&reader);
    return st != BT_OK;
}

/* ---- start and end of a process */

/* What of our environment an engine process may see: what finds its libraries and devices, and what
 * tunes them. Keys and tokens, ours and other programs', are not its business. A name that ends in
 * '_' stands for all that begin so. */
static const char *const engine_env[] = {
    "PATH",    "HOME",   "USER",    "LANG",       "LANGUAGE", "LC_",    "TZ",    "TMPDIR",
    "LD_",     "GLIBC_", "MALLOC_", "GCONV_PATH", "OMP_",     "GOMP_",  "KMP_",  "CUDA_",
    "NVIDIA_", "NV_",    "NCCL_",   "ASAN_",      "LSAN_",    "UBSAN_", "TSAN_", "BT_EMU_",
};

static bool env_is_for_engine(const char *pair)
{
    size_t name = strcspn(pair, "=");
    for (size_t i = 0; i < BT_COUNT(engine_env); i++) {
        size_t n = strlen(engine_env[i]);
        bool prefix = engine_env[i][n - 1] == '_';
        if ((prefix ? name > n : name == n) && strncmp(pair, engine_env[i], n) == 0) return true;
    }
    return false;
}

/* In the child between fork and exec: async-signal-safe calls only. */
static void child_exec(const char *program, const char *fd_text, int keep_fd, char **env)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* Ours are close-on-exec already; who started us may have left others open. */
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    fcntl(keep_fd, F_SETFD, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    char *const argv[] = {"baton", BT_ENGINE_COMMAND, (char *)(uintptr_t)fd_text, NULL};
    execve(program, argv, env);
    _exit(127);
}

/* Starts the process with one end of a socket pair; *fd_out is the other. */
static bt_status engine_fork(bt_front *f, int *fd_out, bt_err *err)
{
    int fd[2];
    char fd_text[16], *env[256];
    size_t n_env = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) != 0)
        return bt_err_set(err, BT_EIO, errno, "cannot make a socket pair: %s", strerror(errno));
    snprintf(fd_text, sizeof fd_text, "%d", fd[1]);
    for (size_t i = 0; environ[i]; i++)
        if (n_env < BT_COUNT(env) - 1 && env_is_for_engine(environ[i])) env[n_env++] = environ[i];
    env[n_env] = NULL;
    pthread_mutex_lock(&f->state_mu); // who sees the process end knows whose it is
    pid_t pid = fork();
    if (pid == 0) child_exec(f->opt.engine_program, fd_text, fd[1], env);
    int why = errno;
    if (pid > 0) f->state.engine_pid = pid;
    pthread_mutex_unlock(&f->state_mu);
    close(fd[1]);
    if (pid < 0) {
        close(fd[0]);
        return bt_err_set(err, BT_EIO, why, "cannot start an engine process: %s", strerror(why));
    }
    fcntl(fd[0], F_SETFL, O_NONBLOCK);
    f->link.pid = pid;
    f->link.fatal = false;
    *fd_out = fd[0];
    return BT_OK;
}

static bt_status engine_spawn(bt_front *f, int *fd_out, bt_err *err)
{
    bt_link *l = &f->link;
    bt_usage *usage = NULL;
    uint64_t boot = bt_random_id();
    bt_status st = bt_usage_create(f->opt.data_dir, boot, &usage, err);
    if (st) return st;
    st = engine_fork(f, fd_out, err);
    if (st) {
        unlink(bt_usage_path(usage));
        bt_usage_close(usage);
        return st;
    }
    bt_engine_options opt = f->opt.engine;
    opt.usage_path = bt_usage_path(usage);
    opt.cost_dir = f->opt.data_dir;
    pthread_mutex_lock(&l->usage_mu);
    bt_usage_close(l->usage); // of an engine that could not be settled in time: the next start does
    l->usage = usage;
    l->boot = boot;
    pthread_mutex_unlock(&l->usage_mu);
    pthread_mutex_lock(&l->tx_mu);
    l->fd = *fd_out;
    bt_buf_clear(&l->tx);
    bt_buf_reserve(&l->tx, TX_BYTES);
    l->tx.failed = false;
    bt_wire_put_options(&l->tx, &opt);
    tx_end_must(l, 0);
    pthread_mutex_unlock(&l->tx_mu);
    return BT_OK;
}

/* Makes sure the process is gone; returns its exit code, 128 + signal, or -1 if somebody else
 * reaped it. */
static int engine_reap(bt_link *l, bool patient)
{
    int status;
    if (!patient) kill(l->pid, SIGKILL);
    for (int waited_ms = 0;; waited_ms += 10) {
        pid_t got = waitpid(l->pid, &status, WNOHANG);
        if (got == l->pid) break;
        if (got < 0) return -1;
        if (waited_ms == 3000) kill(l->pid, SIGKILL);
        bt_sleep_ns(10000000);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Tells the scheduler what each request had used when the engine died, then that it died. */
static void engine_down(bt_front *f)
{
    bt_link *l = &f->link;
    bt_usage_bank *bank = bt_malloc(sizeof *bank);
    uint64_t boot;
    bt_err err = {0};
    pthread_mutex_lock(&l->usage_mu);
    boot = l->boot;
    bt_status st = bank && l->usage ? bt_usage_read(l->usage, bank, &err) : BT_ENOMEM;
    pthread_mutex_unlock(&l->usage_mu);
    if (st) bt_log(BT_LOG_ERR, "engine.usage", "why=\"%s\"", err.msg);
    for (uint64_t i = 0; st == BT_OK && i < bank->n; i++) {
        bt_sched_event used = {.type = BT_EV_USED,
                               .request = bank->entry[i].request,
                               .amount_us = (int64_t)bank->entry[i].used_us};
        bt__front_event(f, &used);
    }
    bt_free(bank);
    bt_sched_event down = {.type = BT_EV_ENGINE_DOWN, .u.engine_down.boot = boot};
    bt__front_event(f, &down);
    int64_t deadline = bt_now_ns() + settle_ns;
    pthread_mutex_lock(&l->down_mu);
    while (l->down_settled != boot && bt_cond_wait(&l->down_cond, &l->down_mu, deadline)) continue;
    pthread_mutex_unlock(&l->down_mu);
}

/* What /health says from now on. True: the first engine could not even load. */
static bool engine_ended(bt_front *f, int code)
{
    pthread_mutex_lock(&f->state_mu);
    bool failed = f->state.slots == 0 && (code == BT_ENGINE_EXIT_LOAD || code == 127);
    f->state.ready = false;
    f->state.failed = failed;
    f->state.engine_pid = 0;
    if (!f->link.fatal && code == 127)
        snprintf(f->state_message, sizeof f->state_message,
                 "the engine process cannot be started: %s does not run", f->opt.engine_program);
    else if (!f->link.fatal)
        snprintf(f->state_message, sizeof f->state_message,
                 "the engine ended (code %d) and is being restarted", code);
    pthread_mutex_unlock(&f->state_mu);
    return failed;
}

/* One engine from start to end. True: start another after a pause. */
static bool engine_life(bt_front *f, bt_wire_storage *storage)
{
    bt_link *l = &f->link;
    bt_err err = {0};
    int fd = -1;
    if (engine_spawn(f, &fd, &err)) {
        bt_log(BT_LOG_ERR, "engine.start", "why=\"%s\"", err.msg);
        bt__front_say(f, false, err.msg);
        return true;
    }
    bool ended = link_read(f, fd, storage);
    pthread_mutex_lock(&l->tx_mu);
    l->fd = -1;
    pthread_mutex_unlock(&l->tx_mu);
    close(fd);
    int code = engine_reap(l, ended);
    bool asked = atomic_load(&f->stopping) || bt__residency_stopping(f);
    if (!asked) bt_log(BT_LOG_ERR, "engine.ended", "code=%d", code);
    bool failed = engine_ended(f, code) && !asked;
    engine_down(f);
    return !asked && !failed;
}

void *bt__link_main(void *front)
{
    bt_front *f = front;
    bt_wire_storage storage;
    int64_t backoff_ns = backoff_min_ns;
    while (!atomic_load(&f->stopping)) {
        int64_t start_ns = bt_now_ns();
        f->link.busy_ns = start_ns;
        bool again = engine_life(f, &storage);
        if (bt__residency_stopping(f) && !atomic_load(&f->stopping)) {
            bt__residency_sleep(f);
            continue;
        }
        if (!again) break;
        atomic_store(&f->sleep, BT_SLEEP_NO); // it ended before it could be asked to
        bt__count(&f->count.engine_restarts, 1);
        if (bt_now_ns() - start_ns > 6 * backoff_max_ns) backoff_ns = backoff_min_ns;
        for (int64_t until = bt_now_ns() + backoff_ns; bt_now_ns() < until;) {
            if (atomic_load(&f->stopping)) break;
            bt_sleep_ns(20000000);
        }
        backoff_ns = BT_MIN(backoff_ns * 2, backoff_max_ns);
    }
    return NULL;
}

void bt__link_open(bt_front *f)
{
    bt_link *l = &f->link;
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); // without it tx waits a second at most
    pthread_mutex_init(&l->tx_mu, NULL);
    pthread_mutex_init(&l->usage_mu, NULL);
    pthread_mutex_init(&l->down_mu, NULL);
    bt_cond_init(&l->down_cond);
}

void bt__link_release(bt_front *f)
{
    bt_buf_release(&f->link.tx);
    bt_usage_close(f->link.usage);
    f->link.usage = NULL;
    if (f->link.wake_fd >= 0) close(f->link.wake_fd);
}
