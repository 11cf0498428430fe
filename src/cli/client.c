/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"
#include "cli/cli.h"
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { ANSWER_MAX = 64 << 20, WAIT_S = 10 };

static bt_status client_connect(const char *host, const char *port, const char *url, int *out,
                                bt_err *err)
{
    struct addrinfo hint = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int rc = getaddrinfo(host, port, &hint, &list);
    if (rc) return bt_err_set(err, BT_EIO, rc, "cannot find %s: %s", host, gai_strerror(rc));
    int fd = -1, why = 0;
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        struct timeval wait = {WAIT_S, 0};
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd < 0) continue;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
        if (connect(fd, a->ai_addr, a->ai_addrlen) == 0) break;
        why = errno;
        close(fd);
        fd = -1;
    }
    freeaddrinfo(list);
    if (fd < 0)
        return bt_err_set(err, BT_EIO, why,
                          "no server answers at %s (%s); is `baton serve` running? "
                          "--url or --data says where",
                          url, strerror(why));
    *out = fd;
    return BT_OK;
}

static bt_status client_exchange(int fd, const bt_buf *request, bt_buf *raw, bt_err *err)
{
    size_t at = 0;
    while (at < request->len) {
        ssize_t n = send(fd, request->data + at, request->len - at, MSG_NOSIGNAL);
        if (n <= 0)
            return bt_err_set(err, BT_EIO, errno, "cannot send the request: %s", strerror(errno));
        at += (size_t)n;
    }
    char chunk[16384];
    ssize_t n;
    raw->max_bytes = ANSWER_MAX;
    while ((n = recv(fd, chunk, sizeof chunk, 0)) > 0) bt_buf_add(raw, chunk, (size_t)n);
    if (n < 0)
        return bt_err_set(err, BT_EIO, errno, "the server does not answer: %s", strerror(errno));
    if (raw->failed) return bt_err_set(err, BT_ETOOBIG, 0, "the server's answer is too long");
    return BT_OK;
}

void bt_client_url_write(const char *host, int port, char *out, size_t cap)
{
    const char *zone = strchr(host, '%'); // of a link-local address; "%" is spelled %25 in a URL
    if (!strchr(host, ':'))
        snprintf(out, cap, "http://%s:%d", host, port);
    else
        snprintf(out, cap, "http://[%.*s%s%s]:%d", (int)strcspn(host, "%"), host, zone ? "%25" : "",
                 zone ? zone + 1 : "", port);
}

/* http://HOST:PORT, http://[ADDRESS]:PORT; what follows is not looked at. `name` is the host as a
 * Host header spells it, `host` as getaddrinfo() does. */
static bool url_read(const char *url, char host[static 256], char name[static 260], char port[8])
{
    char *zone;
    if (sscanf(url, "http://[%255[0-9A-Fa-f:.]", host) == 1) {
        const char *end = strchr(url, ']');
        snprintf(name, 260, "[%s]", host);
        if (!end) return false;
        (void)sscanf(url, "http://[%255[^]]", host);
        if ((zone = strstr(host, "%25"))) memmove(zone + 1, zone + 3, strlen(zone + 3) + 1);
        (void)sscanf(end, "]:%7[0-9]", port);
        return true;
    }
    if (sscanf(url, "http://%255[^:/]:%7[0-9]", host, port) < 1) return false;
    snprintf(name, 260, "%s", host);
    return true;
}

bt_status bt_client_call(const char *url, const char *method, const char *path, const char *token,
                         const char *body, int *code, bt_buf *answer, bt_err *err)
{
    char host[256], name[260], port[8] = "80";
    bt_buf request = BT_BUF_INIT, raw = BT_BUF_INIT;
    int fd = -1;
    if (!url_read(url, host, name, port))
        return bt_err_set(err, BT_EINVAL, 0,
                          "'%s' is not like http://HOST:PORT or http://[ADDRESS]:PORT", url);
    bt_buf_addf(&request, "%s %s HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n", method, path,
                name, port);
    if (token && *token) bt_buf_addf(&request, "Authorization: Bearer %s\r\n", token);
    if (body)
        bt_buf_addf(&request, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                    strlen(body));
    bt_buf_addf(&request, "\r\n%s", body ? body : "");
    bt_status st = client_connect(host, port, url, &fd, err);
    if (st == BT_OK) st = client_exchange(fd, &request, &raw, err);
    if (st == BT_OK) {
        const char *end = raw.data ? strstr(raw.data, "\r\n\r\n") : NULL;
        if (!end || sscanf(raw.data, "HTTP/1.1 %d", code) != 1)
            st = bt_err_set(err, BT_EIO, 0, "%s does not speak HTTP", url);
        else
            bt_buf_add(answer, end + 4, raw.len - (size_t)(end + 4 - raw.data));
    }
    if (fd >= 0) close(fd);
    bt_buf_release(&request);
    bt_buf_release(&raw);
    return st;
}

bt_status bt_client_url(const bt_options *o, char *out, size_t cap, bt_err *err)
{
    char path[512];
    out[0] = 0;
    if (o->url) {
        snprintf(out, cap, "%s", o->url);
        return BT_OK;
    }
    snprintf(path, sizeof path, "%s/server", bt_options_data_dir(o));
    bt_status st = bt_cli_read_line(path, out, cap, err);
    if (st == BT_OK && !out[0]) snprintf(out, cap, "http://127.0.0.1:7860");
    return st;
}
