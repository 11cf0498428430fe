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
    conn->limit =
        conn->proxy ? s->opt.connections_max
                    : bt__budget_connections(s->opt.connections_max, s->opt.address_connections_max,
                                             known && bt_proxies_trust(&s->near, &a));
    return conn->share != NULL;
}

/* ---- the list */

static void unlink_conn(bt_server *s, bt_conn *conn)
{
    *(conn->prev ? &conn->prev->next : &s->conns) = conn->next;
    *(conn->next ? &conn->next->prev : &s->last_conn) = conn->prev;
}

static void link_first(bt_server *s, bt_conn *conn)
{
    conn->prev = NULL;
    conn->next = s->conns;
    *(s->conns ? &s->conns->prev : &s->last_conn) = conn;
    s->conns = conn;
}

/* Idle: it has had an answer, and no other request has begun. */
static bool is_idle(const bt_conn *conn)
{
    return conn->served && !conn->call;
}

static void count(bt_conn *conn, int32_t by)
{
    int32_t idle = is_idle(conn) ? by : 0;
    if (conn->cut) return;
    conn->server->n_conns += by;
    conn->server->n_idle += idle;
    conn->share->connections += by;
    conn->share->idle += idle;
}

void bt__conn_state(bt_conn *conn, bt_call *call)
{
    count(conn, -1);
    if (!call) conn->served = true;
    conn->head = call != NULL;
    conn->call = call;
    count(conn, 1);
    unlink_conn(conn->server, conn);
    link_first(conn->server, conn);
}

/* ---- giving way */

/* Its socket is shut down after MHD_run(), in which we may be. */
static void cut(bt_conn *conn)
{
    count(conn, -1);
    conn->cut = true;
    conn->next_cut = conn->server->cuts;
    conn->server->cuts = conn;
}

static const bt_share *largest_address(const bt_server *s)
{
    const bt_share *best = NULL;
    size_t at = 0;
    uint64_t key, value;
    while (bt_map_next(&s->budget.shares, &at, &key, &value)) {
        const bt_share *share = (const bt_share *)(uintptr_t)value;
        if (!best || share->connections > best->connections) best = share;
    }
    return best;
}

/* The connection whose state has changed least lately, of an address (NULL: any). */
static bt_conn *oldest(const bt_server *s, const bt_share *of, bool idle, const bt_conn *newcomer)
{
    for (bt_conn *c = s->last_conn; c; c = c->prev) {
        bool waits = c->call ? c->call->stage == BT_STAGE_READ : !c->served; // for the client
        if (c != newcomer && !c->cut && (!of || c->share == of) && (idle ? is_idle(c) : waits))
            return c;
    }
    return NULL;
}

/* The connection that can best be spared for a newcomer: of its own address, or of the one that has
 * most (of any, where none stands out) one that is idle after an answer, else one whose request is
 * still to come; else an idle one of any address; else, of one that has more than the newcomer's,
 * any. NULL: none. */
static bt_conn *spare(const bt_server *s, const bt_conn *newcomer, bool same_address)
{
    const bt_share *most = same_address ? newcomer->share : largest_address(s), *of = most;
    if (!same_address && most->connections <= BT_CONNECTIONS_MIN) of = NULL;
    bt_conn *best = NULL;
    if (of ? of->idle : s->n_idle) best = oldest(s, of, true, newcomer);
    if (!best) best = oldest(s, of, false, newcomer);
    if (!best && !same_address && s->n_idle) best = oldest(s, NULL, true, newcomer);
    if (best || most->connections <= newcomer->share->connections) return best;
    best = s->last_conn;
    while (best && (best->cut || best->share != most)) best = best->prev;
    return best;
}

void bt__conn_refuse(bt_conn *conn, bt_status st, const char *code, const char *message)
{
    bt_buf json = BT_BUF_INIT, all = BT_BUF_INIT;
    int http = bt_status_get(st)->http;
    bt_api_error err = {.status = st, .message = message, .code = code};
    bt_api_error_write(bt__route_dialect(bt__route_path(conn->framing.target)), &err, false, &json);
    bt_buf_addf(&all,
                "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                "%sConnection: close\r\n\r\n",
                http, MHD_get_reason_phrase_for((unsigned)http), json.len,
                bt_status_get(st)->retry ? "Retry-After: 1\r\n" : "");
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
    while (s->cuts) {
        bt_conn *conn = s->cuts;
        s->cuts = conn->next_cut;
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
    conn->deadline_ns = bt_now_ns() + (int64_t)s->opt.request_timeout_ms * 1000000;
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
    link_first(s, conn);
    count(conn, 1);
    atomic_fetch_add(&s->count.connections, 1);
    *socket_context = conn;
    if (conn->share->connections > conn->limit) make_room(s, conn, true);
    if (!conn->cut && s->n_conns > s->opt.connections_max) make_room(s, conn, false);
}

static void conn_close(bt_server *s, bt_conn *conn)
{
    count(conn, -1);
    for (bt_conn **at = &s->cuts; *at; at = &(*at)->next_cut)
        if (*at == conn) {
            *at = conn->next_cut;
            break;
        }
    if (conn->linger) bt__linger_add(&s->linger, conn->fd);
    if (conn->watched) epoll_ctl(s->watch_fd, EPOLL_CTL_DEL, conn->fd, NULL);
    unlink_conn(s, conn);
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
