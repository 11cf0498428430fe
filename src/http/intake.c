/* SPDX-License-Identifier: Apache-2.0 */
/* intake.c - what clients send, on its way into libmicrohttpd.
 *
 * libmicrohttpd 0.9.75 takes some requests that have two readings, says nothing to a first line
 * that is no request, and answers a Content-Length it cannot read twice. It has no hook between the
 * socket and its parser but the function that it reads with: recv(), which is therefore this one.
 * On a loop thread each connection's bytes pass framing.c; elsewhere, and for other sockets, it is
 * the C library's. */
#include "base/clock.h"
#include "http/internal.h"
#include <errno.h>
#include <sys/socket.h>

static const int64_t LINGER_NS = 1000000000; // for who sends more requests than were read

static _Thread_local bt_server *serving; // on its loop thread

void bt__intake_begin(bt_server *s)
{
    serving = s;
}

static void answer(bt_conn *conn)
{
    const bt_framing *f = &conn->framing;
    bt__conn_refuse(conn, f->status, NULL, f->why);
    shutdown(conn->fd, SHUT_WR);
    conn->refused = conn->linger = true;
    conn->deadline_ns = bt_now_ns() + LINGER_NS;
    atomic_fetch_add(&conn->server->count.requests, conn->call ? 0 : 1);
    atomic_fetch_add(&conn->server->count.by_class[bt_status_get(f->status)->http / 100], 1);
}

void bt__intake_completed(bt_conn *conn)
{
    if (conn->framing.status != BT_OK) conn->framing.ahead--;
}

void bt__intake_tick(bt_conn *conn)
{
    if (conn->framing.status != BT_OK && !conn->refused && conn->framing.ahead <= 0) answer(conn);
}

/* Nothing follows, and the request is not whole. An end that comes with the last bytes is looked
 * for here: libmicrohttpd reads again when there is more, and would wait for that. */
static bool broken_off(const bt_conn *conn, ssize_t got)
{
    char next;
    const bt_framing *f = &conn->framing;
    if (f->status != BT_OK || f->ahead || !bt__framing_midway(f)) return false;
    return got == 0 || recvfrom(conn->fd, &next, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL) == 0;
}

ssize_t recv(int fd, void *buf, size_t n, int flags)
{
    uint64_t found;
    bt_conn *conn = serving && bt_map_get(&serving->by_fd, (uint64_t)fd, &found)
                        ? (bt_conn *)(uintptr_t)found
                        : NULL;
    if (conn && conn->refused) return 0;         // the end, to libmicrohttpd
    if (conn && conn->framing.status != BT_OK) { // earlier answers come first
        errno = EAGAIN;
        return -1;
    }
    /* What recv() is; not recvfrom(), by which the thread sanitizer learns no order of threads. */
    struct msghdr msg = {.msg_iov = &(struct iovec){buf, n}, .msg_iovlen = 1};
    ssize_t got = recvmsg(fd, &msg, flags);
    if (!conn || got < 0) return got;
    size_t passed =
        got ? bt__framing_take(&conn->framing, buf, (size_t)got, (size_t)serving->opt.header_bytes)
            : 0;
    if (broken_off(conn, got)) {
        errno = ECONNRESET;
        return -1;
    }
    if (conn->framing.status == BT_OK || conn->framing.ahead) return (ssize_t)passed;
    answer(conn);
    return 0;
}
