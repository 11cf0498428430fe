/* SPDX-License-Identifier: Apache-2.0 */
/* client.h - a plain HTTP client over a socket, for tests that need to misbehave. */
#pragma once
#include "base/buf.h"
#include "base/clock.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct client {
    int fd;
    bt_buf in; // bytes not yet taken
} client;

typedef struct reply {
    int status; // 0: the connection ended or the time was up
    bt_buf head, body;
    bool cut; // a chunked body without its end
} reply;

/* last: the client's address is 127.0.0.last */
static inline client client_open_from(uint16_t port, int last)
{
    client c = {socket(AF_INET, SOCK_STREAM, 0), BT_BUF_INIT};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in own = {.sin_family = AF_INET};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    own.sin_addr.s_addr = htonl(0x7F000000u + (unsigned)last);
    if (c.fd < 0 || bind(c.fd, (struct sockaddr *)&own, sizeof own) != 0 ||
        connect(c.fd, (struct sockaddr *)&a, sizeof a) != 0) {
        perror("connect");
        abort();
    }
    return c;
}

static inline client client_open(uint16_t port)
{
    return client_open_from(port, 1);
}

static inline void client_close(client *c)
{
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    bt_buf_release(&c->in);
}

static inline bool client_send(client *c, const char *data, size_t n)
{
    while (n > 0) {
        ssize_t k = send(c->fd, data, n, MSG_NOSIGNAL);
        if (k <= 0) return false;
        data += k;
        n -= (size_t)k;
    }
    return true;
}

static inline bool client_sends(client *c, const char *text)
{
    return client_send(c, text, strlen(text));
}

/* Reads more; false at the end of the connection or the time. */
static inline bool client_more(client *c, int64_t deadline_ns)
{
    char data[65536];
    int64_t ms = (deadline_ns - bt_now_ns()) / 1000000;
    struct pollfd p = {c->fd, POLLIN, 0};
    if (ms <= 0 || poll(&p, 1, (int)ms) <= 0) return false;
    ssize_t n = recv(c->fd, data, sizeof data, 0);
    if (n <= 0) return false;
    bt_buf_add(&c->in, data, (size_t)n);
    return true;
}

static inline bool client_wait(client *c, const char *text, int ms)
{
    int64_t end = bt_now_ns() + (int64_t)ms * 1000000;
    while (!c->in.data || !strstr(c->in.data, text))
        if (!client_more(c, end)) return false;
    return true;
}

/* True if the server closes within the time. */
static inline bool client_closed(client *c, int ms)
{
    int64_t end = bt_now_ns() + (int64_t)ms * 1000000;
    while (client_more(c, end)) bt_buf_clear(&c->in);
    return bt_now_ns() < end;
}

static inline bool reply_header(const reply *r, const char *name, char *dst, size_t cap)
{
    size_t n = strlen(name);
    for (const char *line = r->head.data; line && *line; line = strstr(line, "\r\n")) {
        if (strncmp(line, "\r\n", 2) == 0) line += 2;
        if (strncasecmp(line, name, n) != 0 || line[n] != ':') continue;
        const char *v = line + n + 1;
        while (*v == ' ') v++;
        size_t len = strcspn(v, "\r");
        snprintf(dst, cap, "%.*s", (int)len, v);
        return true;
    }
    return false;
}

static inline bool take_chunks(client *c, bt_buf *body, int64_t end)
{
    for (;;) {
        char *eol;
        while (!c->in.data || !(eol = strstr(c->in.data, "\r\n")))
            if (!client_more(c, end)) return false;
        size_t n = strtoul(c->in.data, NULL, 16), skip = (size_t)(eol - c->in.data) + 2;
        while (c->in.len < skip + n + 2)
            if (!client_more(c, end)) return false;
        bt_buf_add(body, c->in.data + skip, n);
        bt_buf_drop(&c->in, skip + n + 2);
        if (n == 0) return true;
    }
}

/* One response; `head`: to a HEAD request. */
static inline reply client_reply(client *c, bool head, int ms)
{
    reply r = {0};
    char text[64], *end_of_head;
    int64_t end = bt_now_ns() + (int64_t)ms * 1000000;
    bt_buf_adds(&r.body, "");
    while (!c->in.data || !(end_of_head = strstr(c->in.data, "\r\n\r\n")))
        if (!client_more(c, end)) return r;
    size_t n = (size_t)(end_of_head - c->in.data) + 4;
    bt_buf_add(&r.head, c->in.data, n);
    bt_buf_drop(&c->in, n);
    r.status = atoi(r.head.data + 9);
    if (head || r.status == 204) return r;
    if (r.status == 100) {
        bt_buf_release(&r.head);
        bt_buf_release(&r.body);
        return client_reply(c, head, ms);
    }
    if (reply_header(&r, "Transfer-Encoding", text, sizeof text)) {
        r.cut = !take_chunks(c, &r.body, end);
    } else if (reply_header(&r, "Content-Length", text, sizeof text)) {
        n = strtoul(text, NULL, 10);
        while (c->in.len < n && client_more(c, end)) {
        }
        r.cut = c->in.len < n;
        bt_buf_add(&r.body, c->in.data ? c->in.data : "", r.cut ? c->in.len : n);
        bt_buf_drop(&c->in, n);
    }
    return r;
}

static inline void reply_free(reply *r)
{
    bt_buf_release(&r->head);
    bt_buf_release(&r->body);
}

static inline bool client_request(client *c, const char *method, const char *path,
                                  const char *headers, const char *body)
{
    bt_buf b = BT_BUF_INIT;
    bt_buf_addf(&b, "%s %s HTTP/1.1\r\nHost: x\r\n%s", method, path, headers);
    if (body) bt_buf_addf(&b, "Content-Length: %zu\r\n", strlen(body));
    bt_buf_adds(&b, "\r\n");
    if (body) bt_buf_adds(&b, body);
    bool ok = client_send(c, b.data, b.len);
    bt_buf_release(&b);
    return ok;
}
