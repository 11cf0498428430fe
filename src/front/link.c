/* SPDX-License-Identifier: Apache-2.0 */
/* link.c - the engine process and its socket: started, written to, waited for, gone.
 *
 * Commands come from any thread, and none waits for the engine: between two steps, and while it
 * loads, it reads nothing. What its socket does not take stays in tx, for the link thread to send.
 * What the engine says is life.c's. */
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
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TX_BYTES = 64 << 10 }; // kept for commands

/* ---- commands */

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

void bt__link_poke(bt_link *l)
{
    uint64_t one = 1;
    if (l->wake_fd >= 0 && write(l->wake_fd, &one, sizeof one) < 0 && errno != EAGAIN)
        bt_log(BT_LOG_ERR, "engine.wake", "errno=%d", errno);
}

/* Ends the frame begun at mark and sends. A frame that found no memory is taken back. */
static bt_status tx_end(bt_link *l, size_t mark)
{
    bool failed = l->tx.failed;
    if (failed) {
        l->tx.failed = false;
        l->tx.len = mark;
    }
    tx_send(l);
    if (l->tx.len > 0) bt__link_poke(l);
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

bt_status bt__link_submit(bt_link *l, const bt_engine_request *req)
{
    pthread_mutex_lock(&l->tx_mu);
    size_t mark = l->tx.len;
    bt_wire_put_submit(&l->tx, req);
    bt_status st = tx_end(l, mark);
    pthread_mutex_unlock(&l->tx_mu);
    return st;
}

void bt__link_budget(bt_link *l, uint64_t request, const bt_lease *lease)
{
    pthread_mutex_lock(&l->tx_mu);
    size_t mark = l->tx.len;
    bt_wire_put_budget(&l->tx, request, lease->generation, lease->budget_us, lease->budget_final);
    tx_end_must(l, mark);
    pthread_mutex_unlock(&l->tx_mu);
}

void bt__link_cancel(bt_link *l, uint64_t request, const bt_lease *lease, bt_finish why)
{
    pthread_mutex_lock(&l->tx_mu);
    size_t mark = l->tx.len;
    bt_wire_put_cancel(&l->tx, request, lease->generation, why);
    tx_end_must(l, mark);
    pthread_mutex_unlock(&l->tx_mu);
}

void bt__link_done(bt_link *l, uint64_t request)
{
    pthread_mutex_lock(&l->tx_mu);
    size_t mark = l->tx.len;
    bt_wire_put_release(&l->tx, request);
    tx_end_must(l, mark);
    pthread_mutex_unlock(&l->tx_mu);
}

static void link_plain(bt_link *l, bt_wire_type type)
{
    pthread_mutex_lock(&l->tx_mu);
    size_t mark = l->tx.len;
    bt_wire_put_plain(&l->tx, type);
    tx_end_must(l, mark);
    pthread_mutex_unlock(&l->tx_mu);
}

void bt__link_stop(bt_link *l)
{
    link_plain(l, BT_WIRE_STOP);
}

void bt__link_park(bt_link *l)
{
    link_plain(l, BT_WIRE_PARK);
}

void bt__link_wake(bt_link *l)
{
    link_plain(l, BT_WIRE_WAKE);
}

void bt__link_down_settled(bt_link *l, uint64_t boot)
{
    pthread_mutex_lock(&l->down_mu);
    l->down_settled = boot;
    pthread_cond_broadcast(&l->down_cond);
    pthread_mutex_unlock(&l->down_mu);
}

/* ---- the process */

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
static bt_status engine_fork(bt_unit *u, int *fd_out, bt_err *err)
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
    pthread_mutex_lock(&u->state_mu); // who sees the process end knows whose it is
    pid_t pid = fork();
    if (pid == 0) child_exec(u->front->opt.engine_program, fd_text, fd[1], env);
    int why = errno;
    if (pid > 0) u->state.engine_pid = pid;
    pthread_mutex_unlock(&u->state_mu);
    close(fd[1]);
    if (pid < 0) {
        close(fd[0]);
        return bt_err_set(err, BT_EIO, why, "cannot start an engine process: %s", strerror(why));
    }
    fcntl(fd[0], F_SETFL, O_NONBLOCK);
    u->link.pid = pid;
    u->link.fatal = false;
    *fd_out = fd[0];
    return BT_OK;
}

bt_status bt__link_spawn(bt_unit *u, int *fd_out, bt_err *err)
{
    bt_link *l = &u->link;
    bt_usage *usage = NULL;
    uint64_t boot = bt_random_id();
    bt_status st = bt_usage_create(u->front->opt.data_dir, boot, &usage, err);
    if (st) return st;
    st = engine_fork(u, fd_out, err);
    if (st) {
        unlink(bt_usage_path(usage));
        bt_usage_close(usage);
        return st;
    }
    bt_engine_options opt = u->opt.engine;
    opt.usage_path = bt_usage_path(usage);
    opt.cost_dir = u->front->opt.data_dir;
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

bool bt__link_wait(bt_link *l, int fd, int ms)
{
    uint64_t count;
    pthread_mutex_lock(&l->tx_mu);
    bool more = l->tx.len > 0;
    pthread_mutex_unlock(&l->tx_mu);
    struct pollfd p[2] = {{.fd = fd, .events = (short)(more ? POLLIN | POLLOUT : POLLIN)},
                          {.fd = l->wake_fd, .events = POLLIN}};
    if (poll(p, 2, ms) <= 0) return false;
    if (p[1].revents && read(l->wake_fd, &count, sizeof count) < 0 && errno != EAGAIN)
        bt_log(BT_LOG_ERR, "engine.wake", "errno=%d", errno);
    if (p[0].revents & POLLOUT) {
        pthread_mutex_lock(&l->tx_mu);
        tx_send(l);
        pthread_mutex_unlock(&l->tx_mu);
    }
    return p[0].revents & ~POLLOUT;
}

int bt__link_reap(bt_link *l, int fd, bool patient)
{
    int status;
    pthread_mutex_lock(&l->tx_mu);
    l->fd = -1;
    pthread_mutex_unlock(&l->tx_mu);
    close(fd);
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

/* ---- life */

void bt__link_open(bt_link *l)
{
    l->fd = -1;
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); // without it tx waits a second at most
    pthread_mutex_init(&l->tx_mu, NULL);
    pthread_mutex_init(&l->usage_mu, NULL);
    pthread_mutex_init(&l->down_mu, NULL);
    bt_cond_init(&l->down_cond);
}

void bt__link_release(bt_link *l)
{
    bt_buf_release(&l->tx);
    bt_usage_close(l->usage);
    l->usage = NULL;
    if (l->wake_fd >= 0) close(l->wake_fd);
}
