/* SPDX-License-Identifier: Apache-2.0 */
/* server.c - the loop: sockets in, wakes in, deadlines. */
#include "http/server.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "http/internal.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    TICK_MS = 250,       // deadlines and beats are looked at this often
    BUSY_STREAMS = 64,   // with more of them, wakes are gathered for
    GATHER_NS = 2000000, // this long: each resume walks all suspended connections
    WORK_MAX = 1024,     // calls lent to the helper
    RECALL_NS = 1000000,
    BACKLOG = 4096,
    FDS_SPARE = 32, // descriptors that are opened later
};

/* ---- wakes */

static void on_front_wake(void *ud, bt_stream *stream)
{
    bt__server_ready(ud, bt_stream_id(stream));
}

static void *helper_main(void *ud)
{
    bt_server *s = ud;
    bt_call *c;
    for (;;) {
        int n = bt_inbox_take(&s->work, &c, 1, bt_now_ns() + 1000000000);
        if (n < 0) return NULL;
        if (n == 0) continue;
        c->route->handle(c);
        bt__server_done(c);
    }
}

/* Takes what producers left, and lets the calls concerned go on. */
static void drain(bt_server *s)
{
    uint64_t count;
    if (read(s->event_fd, &count, sizeof count) < 0 && errno != EAGAIN)
        bt_log(BT_LOG_ERR, "http.wake", "errno=%d", errno);
    pthread_mutex_lock(&s->mu);
    uint64_t *ids = s->ready;
    size_t n = s->n_ready, cap = s->cap_ready;
    bool lost = s->ready_lost;
    bt_call *done = s->done;
    s->ready = s->drained; // the two arrays take turns
    s->cap_ready = s->cap_drained;
    s->n_ready = 0;
    s->ready_lost = false;
    s->done = NULL;
    pthread_mutex_unlock(&s->mu);
    s->drained = ids;
    s->cap_drained = cap;
    while (done) {
        bt_call *next = done->next_done;
        bt__call_worked(done);
        done = next;
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t leg;
        if (bt_map_get(&s->legs, ids[i], &leg))
            bt__generate_ready(((bt_leg *)(uintptr_t)leg)->call);
    }
    for (bt_conn *conn = lost ? s->conns : NULL; conn; conn = conn->next)
        if (conn->call && conn->call->n_legs) bt__generate_ready(conn->call);
}

/* The loop has ended: what is lent comes back, so that nothing of it stays with another thread. */
static void recall(bt_server *s)
{
    for (bool lent = true; lent;) {
        drain(s);
        lent = false;
        for (bt_conn *conn = s->conns; conn; conn = conn->next) {
            if (!conn->call || conn->call->stage != BT_STAGE_WORK) continue;
            bt__call_hangup(conn->call);
            lent = true;
        }
        if (lent) bt_sleep_ns(RECALL_NS);
    }
}

/* ---- connections */

/* No connection is freed between epoll_wait and the loop: that happens in MHD_run() only. */
static void take_hangups(bt_server *s)
{
    struct epoll_event ev[64];
    int n = epoll_wait(s->watch_fd, ev, 64, 0);
    for (int i = 0; i < n; i++) {
        bt_conn *conn = ev[i].data.ptr;
        if (conn->call) bt__call_hangup(conn->call);
    }
}

/* A socket past its deadline is shut down: MHD then sees its end, and closes it. */
static void tick(bt_server *s, int64_t now_ns)
{
    for (bt_conn *conn = s->conns; conn; conn = conn->next) {
        if (conn->deadline_ns && now_ns >= conn->deadline_ns) bt__conn_late(conn);
        if (conn->call) bt__generate_beat(conn->call, now_ns);
        bt__intake_tick(conn);
    }
}

/* ---- the loop */

static int poll_ms(bt_server *s, int64_t until_ns)
{
    if (s->resumed) return 0; // resumed inside MHD_run(): it must run again to see that
    MHD_UNSIGNED_LONG_LONG mhd_ms;
    int64_t ms = (until_ns - bt_now_ns() + 999999) / 1000000;
    if (MHD_get_timeout(s->daemon, &mhd_ms) == MHD_YES && (int64_t)mhd_ms < ms)
        ms = (int64_t)mhd_ms;
    return ms > 0 ? (int)ms : 0;
}

static void end_idle(bt_server *s, bool all)
{
    for (bt_conn *conn = s->conns; conn; conn = conn->next) {
        if (conn->call && !all) continue;
        shutdown(conn->fd, SHUT_RDWR);
        if (conn->call) bt__call_hangup(conn->call);
    }
}

/* One turn: wait, take wakes and hang-ups, run MHD. *gather_ns: wakes are left alone until then. */
static void turn(bt_server *s, int mhd_fd, int64_t *gather_ns, int64_t *tick_ns)
{
    int64_t now_ns = bt_now_ns();
    bool gathering = now_ns < *gather_ns;
    struct pollfd fds[4] = {{mhd_fd, POLLIN, 0},
                            {s->watch_fd, POLLIN, 0},
                            {gathering ? -1 : s->event_fd, POLLIN, 0},
                            {s->linger.epoll_fd, POLLIN, 0}};
    poll(fds, 4, poll_ms(s, gathering && *gather_ns < *tick_ns ? *gather_ns : *tick_ns));
    if (fds[2].revents) {
        drain(s);
        *gather_ns = s->legs.len > BUSY_STREAMS ? bt_now_ns() + GATHER_NS : 0;
    }
    if (fds[1].revents) take_hangups(s);
    now_ns = bt_now_ns();
    if (now_ns >= *tick_ns) {
        *tick_ns = now_ns + (int64_t)TICK_MS * 1000000;
        tick(s, now_ns);
        bt__linger_run(&s->linger);
    }
    if (fds[3].revents) bt__linger_run(&s->linger);
    s->resumed = false;
    MHD_run(s->daemon);
    bt__conns_cut(s);
}

static void *loop_main(void *ud)
{
    bt_server *s = ud;
    bt__intake_begin(s);
    int mhd_fd = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    int64_t gather_ns = 0, tick_ns = bt_now_ns();
    while (!atomic_load(&s->stop)) turn(s, mhd_fd, &gather_ns, &tick_ns);
    MHD_socket listener = MHD_quiesce_daemon(s->daemon);
    if (listener != MHD_INVALID_SOCKET) close(listener);
    int64_t end_ns = bt_now_ns() + (int64_t)s->drain_ms * 1000000;
    bool all = false;
    while (s->conns) {
        /* past the deadline all are cut off; what still hangs a second later is left to
         * MHD_stop_daemon */
        all = bt_now_ns() >= end_ns;
        if (all && bt_now_ns() >= end_ns + 1000000000) break;
        end_idle(s, all);
        tick_ns = BT_MIN(tick_ns, bt_now_ns() + 20000000);
        turn(s, mhd_fd, &gather_ns, &tick_ns);
    }
    return NULL;
}

/* ---- life */

static void defaults(bt_server_options *o)
{
    if (!o->host) o->host = "0.0.0.0";
    if (!o->body_bytes_max) o->body_bytes_max = 8 << 20;
    if (!o->bodies_bytes_max) o->bodies_bytes_max = 8 * o->body_bytes_max;
    if (o->connections_max <= 0) o->connections_max = 4096;
    if (o->header_bytes <= 0) o->header_bytes = 8192;
    if (o->request_timeout_ms <= 0) o->request_timeout_ms = 15000;
    if (o->body_rate <= 0) o->body_rate = 16 << 10;
    if (o->idle_timeout_ms <= 0) o->idle_timeout_ms = 75000;
    if (o->write_timeout_ms <= 0) o->write_timeout_ms = 30000;
    if (o->beat_ms <= 0) o->beat_ms = 12000;
}

/* Descriptors of this process, or a guess where there is no /proc. */
static rlim_t files_open(void)
{
    rlim_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    if (!dir) return 32;
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

/* Connections beside n: as many for newcomers and those that give way to them, and for sockets that
 * linger. */
static int32_t spare(rlim_t n)
{
    return (int32_t)BT_MIN(BT_MAX(n / 64, 2), BT_LINGER_MAX);
}

/* As many connections as the limit on open files allows, beside what is open and what the loop, the
 * engine's socket, its usage files and the ledger will open later: none may find no descriptor. */
static bt_status fit_files(bt_server_options *o, bt_err *err)
{
    struct rlimit lim;
    rlim_t max = (rlim_t)o->connections_max, others = files_open() + FDS_SPARE;
    rlim_t want = others + max + 2 * spare(max), least = others + BT_CONNECTIONS_MIN + 2 * spare(0);
    if (getrlimit(RLIMIT_NOFILE, &lim) != 0 || lim.rlim_cur >= want) return BT_OK;
    lim.rlim_cur = lim.rlim_max == RLIM_INFINITY ? want : BT_MIN(want, lim.rlim_max);
    setrlimit(RLIMIT_NOFILE, &lim);
    getrlimit(RLIMIT_NOFILE, &lim);
    if (lim.rlim_cur >= want) return BT_OK;
    if (lim.rlim_cur < least)
        return bt_err_set(err, BT_EINVAL, 0,
                          "the limit on open files (ulimit -n) is %llu, and serving needs %llu; "
                          "raise it",
                          (unsigned long long)lim.rlim_cur, (unsigned long long)least);
    max = lim.rlim_cur - others;
    o->connections_max = (int32_t)max - 2 * spare(max);
    bt_log(BT_LOG_WARN, "http.files",
           "connections=%d the limit on open files (ulimit -n, %llu) allows no more",
           o->connections_max, (unsigned long long)lim.rlim_cur);
    return BT_OK;
}

static bt_status listen_on(bt_server *s, bt_err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char port[8];
    snprintf(port, sizeof port, "%u", s->opt.port);
    int rc = getaddrinfo(s->opt.host, port, &hints, &list);
    if (rc != 0)
        return bt_err_set(err, BT_EINVAL, rc, "--host %s is not an address: %s", s->opt.host,
                          gai_strerror(rc));
    int fd = -1, saved = 0, on = 1;
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) continue;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) break;
        saved = errno;
        close(fd);
        fd = -1;
    }
    freeaddrinfo(list);
    if (fd < 0)
        return bt_err_set(err, BT_EIO, saved,
                          "cannot listen on %s port %u: %s; choose another with --port",
                          s->opt.host, s->opt.port, strerror(saved));
    struct sockaddr_storage name;
    socklen_t len = sizeof name;
    getsockname(fd, (struct sockaddr *)&name, &len);
    s->loopback = bt__origin_loopback((struct sockaddr *)&name);
    s->port = ntohs(name.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&name)->sin6_port
                                               : ((struct sockaddr_in *)&name)->sin_port);
    s->listen_fd = fd;
    return BT_OK;
}

static bt_status start(bt_server *s, bt_err *err)
{
    s->watch_fd = epoll_create1(EPOLL_CLOEXEC);
    s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->watch_fd < 0 || s->event_fd < 0)
        return bt_err_set(err, BT_EIO, errno, "cannot make event descriptors: %s", strerror(errno));
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC, 0, NULL, NULL, bt__call_serve, s,
        MHD_OPTION_LISTEN_SOCKET, s->listen_fd, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned int)(s->opt.connections_max + spare(s->opt.connections_max)),
        MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)s->opt.header_bytes, MHD_OPTION_NOTIFY_COMPLETED, bt__call_completed, s,
        MHD_OPTION_NOTIFY_CONNECTION, bt__conn_notify, s, MHD_OPTION_URI_LOG_CALLBACK,
        bt__conn_head, s, MHD_OPTION_END);
    if (!s->daemon) return bt_err_set(err, BT_EIO, errno, "cannot start the HTTP daemon");
    s->listen_fd = -1; // the daemon's now
    bt_front_on_wake(s->front, on_front_wake, s);
    if (pthread_create(&s->helper, NULL, helper_main, s) != 0)
        return bt_err_set(err, BT_ENOMEM, 0, "cannot start a thread");
    s->helper_started = true;
    if (pthread_create(&s->loop, NULL, loop_main, s) != 0)
        return bt_err_set(err, BT_ENOMEM, 0, "cannot start a thread");
    s->loop_started = true;
    return BT_OK;
}

bt_status bt_server_open(bt_front *front, const bt_server_options *opt, bt_server **out,
                         bt_err *err)
{
    bt_server *s = bt_calloc(1, sizeof *s);
    if (!s) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the server");
    s->front = front;
    s->opt = *opt;
    s->listen_fd = s->watch_fd = s->event_fd = -1;
    defaults(&s->opt);
    pthread_mutex_init(&s->mu, NULL);
    signal(SIGPIPE, SIG_IGN); // a write to a closed socket is an error code, not the end
    bt_status st = bt_inbox_init(&s->work, sizeof(bt_call *), WORK_MAX, err);
    if (st != BT_OK) {
        pthread_mutex_destroy(&s->mu);
        bt_free(s);
        return st;
    }
    st = fit_files(&s->opt, err);
    int32_t max = s->opt.connections_max;
    if (bt__linger_open(&s->linger, spare((rlim_t)max)) != 0 && st == BT_OK)
        st = bt_err_set(err, BT_EIO, errno, "cannot make an epoll: %s", strerror(errno));
    bt__budget_open(&s->budget, s->opt.body_bytes_max, s->opt.bodies_bytes_max);
    bt_random(&s->seed, sizeof s->seed);
    if (st == BT_OK) st = bt_proxies_parse("auto", true, &s->near, err);
    bt_log(BT_LOG_INFO, "http.limits",
           "connections=%d of_an_address=%d of_a_private_one=%d body_bytes=%zu bodies_bytes=%zu "
           "body_bytes_s=%d",
           max, bt__budget_connections(max, s->opt.address_connections_max, false),
           bt__budget_connections(max, s->opt.address_connections_max, true), s->opt.body_bytes_max,
           s->opt.bodies_bytes_max, s->opt.body_rate);
    if (st == BT_OK) st = bt__origins_parse(s->opt.cors_origins, &s->origins, err);
    if (st == BT_OK) st = listen_on(s, err);
    if (st == BT_OK) st = start(s, err);
    if (st != BT_OK) {
        bt_server_close(s, 0);
        return st;
    }
    *out = s;
    return BT_OK;
}

uint16_t bt_server_port(const bt_server *s)
{
    return s->port;
}

void bt_server_close(bt_server *s, int32_t drain_ms)
{
    if (!s) return;
    s->drain_ms = drain_ms;
    atomic_store(&s->stop, true);
    if (s->loop_started) {
        bt__server_ready(s, 0); // 0 names no stream: it only wakes the loop
        pthread_join(s->loop, NULL);
    }
    if (s->loop_started) recall(s);
    bt_inbox_close(&s->work);
    if (s->helper_started) pthread_join(s->helper, NULL);
    bt_front_on_wake(s->front, NULL, NULL);
    if (s->daemon) {
        drain(s); // what the helper still held goes back, so that nothing stays suspended
        MHD_run(s->daemon);
        MHD_stop_daemon(s->daemon);
    }
    if (s->listen_fd >= 0) close(s->listen_fd);
    if (s->watch_fd >= 0) close(s->watch_fd);
    if (s->event_fd >= 0) close(s->event_fd);
    bt_inbox_release(&s->work);
    bt_map_release(&s->by_fd);
    bt_map_release(&s->legs);
    bt__linger_close(&s->linger);
    bt__budget_release(&s->budget);
    bt_free(s->ready);
    bt_free(s->drained);
    pthread_mutex_destroy(&s->mu);
    bt_free(s);
}
