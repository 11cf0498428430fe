/* SPDX-License-Identifier: Apache-2.0 */
#include "http/linger.h"
#include "base/clock.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 20, BYTES_MAX = 16 << 20 };
static const int64_t LINGER_NS = 2000000000;

int bt__linger_open(bt_linger *l, int max)
{
    l->max = max;
    for (int i = 0; i < BT_LINGER_MAX; i++) l->at[i].fd = -1;
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return l->epoll_fd < 0 ? -1 : 0;
}

static void end(bt_linger *l, int i)
{
    if (l->at[i].fd >= 0) close(l->at[i].fd); // and leaves the epoll by that
    l->at[i].fd = -1;
}

void bt__linger_close(bt_linger *l)
{
    for (int i = 0; i < BT_LINGER_MAX; i++) end(l, i);
    if (l->epoll_fd >= 0) close(l->epoll_fd);
}

void bt__linger_add(bt_linger *l, int fd)
{
    int i = 0, oldest = 0;
    for (; i < l->max && l->at[i].fd >= 0; i++)
        if (l->at[i].until_ns < l->at[oldest].until_ns) oldest = i;
    if (i == l->max) end(l, i = oldest);
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP, .data.u32 = (uint32_t)i};
    if (own < 0) return;
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, own, &ev) != 0) {
        close(own);
        return;
    }
    shutdown(own, SHUT_WR); // the client reads to the end of its answer
    l->at[i].fd = own;
    l->at[i].until_ns = bt_now_ns() + LINGER_NS;
    l->at[i].left = BYTES_MAX;
}

void bt__linger_run(bt_linger *l)
{
    struct epoll_event ev[BT_LINGER_MAX];
    int n = epoll_wait(l->epoll_fd, ev, BT_LINGER_MAX, 0);
    for (int k = 0; k < n; k++) {
        int i = (int)ev[k].data.u32;
        /* MSG_TRUNC: the kernel throws the bytes away itself */
        ssize_t got = recv(l->at[i].fd, NULL, READ_BYTES, MSG_TRUNC | MSG_DONTWAIT);
        bool more = got > 0 && (size_t)got < l->at[i].left;
        if (more)
            l->at[i].left -= (size_t)got;
        else if (got >= 0 || (errno != EAGAIN && errno != EINTR))
            end(l, i);
    }
    int64_t now_ns = bt_now_ns();
    for (int i = 0; i < BT_LINGER_MAX; i++)
        if (l->at[i].fd >= 0 && now_ns >= l->at[i].until_ns) end(l, i);
}
