/* SPDX-License-Identifier: Apache-2.0 */
/* linger.h - sockets that were answered while their client still sends.
 *
 * Closing such a socket resets it, and a reset takes from the client the answer that it has not
 * read. So what comes is read and thrown away until the client has heard, for a while and up to a
 * bound. Thread: loop. */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { BT_LINGER_MAX = 64 };

typedef struct bt_linger {
    int epoll_fd;
    int max; // a further socket ends the one that has waited longest
    struct {
        int fd; // owned; -1: free
        int64_t until_ns;
        size_t left; // bytes that it may still send
    } at[BT_LINGER_MAX];
} bt_linger;

int bt__linger_open(bt_linger *l, int max); // 0, or -1 with errno. max: up to BT_LINGER_MAX
void bt__linger_close(bt_linger *l);
/* Takes a further descriptor of the socket fd, whose own is closed after this by its owner. */
void bt__linger_add(bt_linger *l, int fd);
void bt__linger_run(bt_linger *l); // whenever epoll_fd is readable, and now and then
