/* SPDX-License-Identifier: Apache-2.0 */
/* conn.c - connections: whose they are, how many an address may hold, and which give way. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "http/internal.h"
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* ---- whose */

static void peer_name(struct MHD_Connection *mhd, char *dst, size_t cap)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    snprintf(dst, cap, "unknown");
    if (!info || !info->client_addr) return;
    const struct sockaddr *addr = info->client_addr;
    socklen_t len =
        addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (getnameinfo(addr, len, dst, (socklen_t)cap, NULL, 0, NI_NUMERICHOST) != 0) return;
    if (strncmp(dst, "::ffff:", 7) == 0 && strchr(dst, '.'))
        memmove(dst, dst + 7, strlen(dst + 7) + 1);
}

int32_t bt__conn_limit(const bt_server *s, bool near)
{
    int32_t all = s->opt.connections_max;
    if (s->opt.address_connections_max > 0) return s->opt.address_connections_max;
    return BT_MAX(near ? all / 4 * 3 : all / 8, CONNECTIONS_MIN);
}

/* The peer's share, by its /64 where it is IPv6, and how many connections it may have. */
static bool conn_share(bt_server *s, bt_conn *conn)
{
    bt_address a;
    char name[64] = "unknown";
    bool known = bt_address_parse(conn->peer, strlen(conn->peer), &a);
    if (known) bt_address_account(&a, name);
    conn->share = bt__budget_share(&s->budget, bt_hash(name, strlen(name), s->seed));
    conn->proxy = known && bt_accounts_trusts(bt_front_accounts(s->front), &a);
    /* a trusted proxy's clients are told apart by their requests */
    conn->limit = conn->proxy ? s->opt.connections_max
                              : bt__conn_limit(s, known && bt_proxies_trust(&s->near, &a));
    return conn->share != NULL;
}

/* ---- giving way */

/* Counts as gone at once; its socket is shut down after MHD_run(), in which we may be. */
static void cut(bt_conn *conn)
{
    bt_server *s = conn->server;
    conn->cut = true;
    conn->share->connections--;
    s->n_conns--;
    s->cuts = true;
}

/* The connection that can best be spared for a newcomer: one that is idle after an answer; else of
 * the address with the most one whose request is still to come, or, if that address has more than
 * the newcomer's, any. The one that has been so for longest. NULL: none. */
static bt_conn *spare(const bt_server *s, const bt_conn *newcomer, bool same_address)
{
    bt_conn *best = NULL;
    int64_t best_score = -1;
    for (bt_conn *c = s->conns; c; c = c->next) {
        bool same = c->share == newcomer->share, idle = !c->call && c->served;
        if (c == newcomer || c->cut || (same_address && !same)) continue;
        bool reading = c->call ? c->call->stage == BT_STAGE_READ : !c->served;
        int32_t more = c->share->connections - newcomer->share->connections;
        if (!idle && more <= 0 && !(reading && (same || more == 0))) continue;
        int64_t score = idle ? INT64_MAX : (int64_t)c->share->connections * 2 + reading;
        if (score < best_score || (score == best_score && c->since_ns >= best->since_ns)) continue;
        best = c;
        best_score = score;
    }
    return best;
}

void bt__conn_refuse(bt_conn *conn, bt_status status, const char *code, const char *message)
{
    bt_buf json = BT_BUF_INIT, all = BT_BUF_INIT;
    int http = bt_status_get(status)->http;
    bt_api_error_write(&json, status, message, NULL, code, NULL);
    bt_buf_addf(&all,
                "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                "%sConnection: close\r\n\r\n",
                http, MHD_get_reason_phrase_for((unsigned)http), json.len,
                bt_status_get(status)->retry ? "Retry-After: 1\r\n" : "");
    bt_buf_add(&all, json.data, json.len);
    if (!json.failed && !all.failed)
        (void)!send(conn->fd, all.data, all.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    bt_buf_release(&json);
    bt_buf_release(&all);
}

static void make_room(bt_server *s, bt_conn *newcomer, bool same_address)
{
    char message[160];
    bt_conn *other = spare(s, newcomer, same_address);
    if (other) {
        atomic_fetch_add(&s->count.gave_way, 1);
        cut(other);
        return;
    }
    if (same_address)
        snprintf(message, sizeof message,
                 "this address has %d connections with a request each, and may not have more; try "
                 "again in a second",
                 newcomer->limit);
    else
        snprintf(message, sizeof message,
                 "the server has %d connections with a request each, and takes no more; try again "
                 "in a second",
                 s->opt.connections_max);
    atomic_fetch_add(&s->count.turned_away, 1);
    bt__conn_refuse(newcomer, BT_EBUSY, "too_many_connections", message);
    cut(newcomer);
}

void bt__conns_cut(bt_server *s)
{
    if (!s->cuts) return;
    s->cuts = false;
    for (bt_conn *conn = s->conns; conn; conn = conn->next) {
        if (!conn->cut || conn->ended) continue;
        conn->ended = true;
        shutdown(conn->fd, SHUT_RDWR);
        if (conn->call) bt__call_hangup(conn->call);
    }
}

/* ---- life */

/* Peers that vanish without a word: found by keep-alive when idle, by unacknowledged data when not.
 */
static void tune_socket(const bt_server *s, int fd)
{
    int on = 1, idle = 30, interval = 10, probes = 3;
    unsigned unacked_ms = (unsigned)s->opt.write_timeout_ms;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacked_ms, sizeof unacked_ms);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void conn_open(bt_server *s, struct MHD_Connection *mhd, void **socket_context)
{
    bt_conn *conn = bt_calloc(1, sizeof *conn);
    if (!conn) return; // its requests are refused: there is no context
    conn->server = s;
    conn->mhd = mhd;
    conn->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    conn->since_ns = bt_now_ns();
    conn->deadline_ns = conn->since_ns + (int64_t)s->opt.request_timeout_ms * 1000000;
    peer_name(mhd, conn->peer, sizeof conn->peer);
    if (!conn_share(s, conn)) {
        bt_free(conn);
        return;
    }
    if (!bt_map_put(&s->by_fd, (uint64_t)conn->fd, (uint64_t)(uintptr_t)conn)) {
        bt__budget_drop(&s->budget, conn->share);
        bt_free(conn);
        return;
    }
    tune_socket(s, conn->fd);
    conn->next = s->conns;
    if (s->conns) s->conns->prev = conn;
    s->conns = conn;
    atomic_fetch_add(&s->count.connections, 1);
    *socket_context = conn;
    s->n_conns++;
    if (++conn->share->connections > conn->limit) make_room(s, conn, true);
    if (!conn->cut && s->n_conns > s->opt.connections_max) make_room(s, conn, false);
}

static void conn_close(bt_server *s, bt_conn *conn)
{
    if (!conn->cut) {
        conn->share->connections--;
        s->n_conns--;
    }
    if (conn->linger) bt__linger_add(&s->linger, conn->fd);
    if (conn->watched) epoll_ctl(s->watch_fd, EPOLL_CTL_DEL, conn->fd, NULL);
    if (conn->prev)
        conn->prev->next = conn->next;
    else
        s->conns = conn->next;
    if (conn->next) conn->next->prev = conn->prev;
    atomic_fetch_sub(&s->count.connections, 1);
    bt__budget_drop(&s->budget, conn->share);
    bt_map_remove(&s->by_fd, (uint64_t)conn->fd);
    bt__framing_release(&conn->framing);
    bt_free(conn);
}

void bt__conn_notify(void *cls, struct MHD_Connection *mhd, void **socket_context,
                     enum MHD_ConnectionNotificationCode what)
{
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        conn_open(cls, mhd, socket_context);
    } else if (*socket_context) {
        conn_close(cls, *socket_context);
        *socket_context = NULL;
    }
}

void *bt__conn_head(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    const bt_server *s = cls;
    bt_conn *conn =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    (void)uri;
    if (!conn) return NULL;
    conn->head = true;
    conn->deadline_ns = bt_now_ns() + (int64_t)s->opt.request_timeout_ms * 1000000;
    return NULL;
}

bool bt__conn_watch(bt_conn *conn)
{
    struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = conn};
    int op = conn->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(conn->server->watch_fd, op, conn->fd, &ev) != 0) return false;
    conn->watched = true;
    return true;
}

void bt__conn_late(bt_conn *conn)
{
    bt_call *c = conn->call;
    conn->deadline_ns = 0;
    if (c || conn->head) atomic_fetch_add(&conn->server->count.timeouts, 1);
    if (c && c->stage == BT_STAGE_READ)
        bt__call_cut(c), conn->linger = false;
    else if (!c && conn->head)
        bt__conn_refuse(conn, BT_ESLOW, NULL, "the request's head came too slowly");
    shutdown(conn->fd, SHUT_RDWR);
    if (c) bt__call_hangup(c);
}
