/* SPDX-License-Identifier: Apache-2.0 */
/* reply.c - what a call says: headers, bodies, errors, streams; and when it is silent meanwhile. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "http/internal.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

void bt__call_header(bt_call *c, const char *name, const char *fmt, ...)
{
    if (c->n_headers == BT_HEADERS_MAX) return;
    bt_header *h = &c->header[c->n_headers++];
    h->name = name;
    h->text = NULL;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(h->value, sizeof h->value, fmt, ap);
    va_end(ap);
}

void bt__call_header_static(bt_call *c, const char *name, const char *text)
{
    if (c->n_headers == BT_HEADERS_MAX) return;
    bt_header *h = &c->header[c->n_headers++];
    h->name = name;
    h->text = text;
}

void bt__call_json(bt_call *c, int status)
{
    c->status = status;
    c->type = "application/json";
    if (!c->reply.failed) return;
    bt_buf_release(&c->reply);
    bt_api_error err = {.status = BT_ENOMEM};
    c->status = bt_status_get(err.status)->http;
    bt_api_error_write(c->dialect, &err, false, &c->reply);
}

void bt__call_fail(bt_call *c, bt_status st, const char *message, const char *param,
                   const char *code)
{
    const bt_status_info *info = bt_status_get(st);
    bt_buf_clear(&c->reply);
    bt_api_error err = {.status = st, .message = message, .param = param, .code = code};
    bt_api_error_write(c->dialect, &err, false, &c->reply);
    if (st == BT_EAUTH) bt__call_header(c, "WWW-Authenticate", "Bearer realm=\"baton\"");
    if (info->retry) bt__call_header(c, "Retry-After", "%d", st == BT_ENOTREADY ? 2 : 1);
    bt__call_json(c, info->http);
}

void bt__call_error(bt_call *c, const bt_err *err)
{
    bt__call_fail(c, err->code, err->msg, err->field, NULL);
}

void bt__call_quota_headers(bt_call *c, const bt_ledger_balance *balance)
{
    if (!balance || balance->limit_us < 0 || bt_api_quota_unlimited(balance->limit_us)) return;
    int64_t left_s = balance->resets_us ? (balance->resets_us - bt_wall_us()) / 1000000 : 0;
    bt__call_header(c, "x-ratelimit-limit-gpu-ms", "%" PRId64, balance->limit_us / 1000);
    bt__call_header(c, "x-ratelimit-remaining-gpu-ms", "%" PRId64, balance->remaining_us / 1000);
    bt__call_header(c, "x-ratelimit-reset", "%" PRId64, BT_MAX(left_s, 0));
}

void bt__call_quota_refused(bt_call *c, const bt_ledger_balance *balance, int64_t retry_ms)
{
    bt__call_quota_headers(c, balance);
    /* Clients that retry by themselves must not: nothing changes before the window ends. */
    bt__call_header(c, "x-should-retry", "false");
    if (retry_ms <= 0 && balance && balance->resets_us)
        retry_ms = (balance->resets_us - bt_wall_us()) / 1000;
    if (retry_ms > 0) bt__call_header(c, "Retry-After", "%" PRId64, bt_retry_s(retry_ms));
}

static void add_headers(bt_call *c, struct MHD_Response *r)
{
    MHD_add_response_header(r, "Vary", "Origin");
    if (c->readable) {
        MHD_add_response_header(r, "Access-Control-Allow-Origin", "*");
        MHD_add_response_header(r, "Access-Control-Expose-Headers",
                                "x-request-id, retry-after, x-ratelimit-limit-gpu-ms, "
                                "x-ratelimit-remaining-gpu-ms, x-ratelimit-reset");
    }
    MHD_add_response_header(r, "x-request-id", c->id);
    if (c->type) MHD_add_response_header(r, "Content-Type", c->type);
    for (int32_t i = 0; i < c->n_headers; i++)
        MHD_add_response_header(r, c->header[i].name,
                                c->header[i].text ? c->header[i].text : c->header[i].value);
    if (c->close_after || atomic_load(&c->conn->server->stop))
        MHD_add_response_header(r, "Connection", "close");
}

static void count_status(bt_call *c)
{
    int hundreds = c->status / 100;
    if (hundreds >= 1 && hundreds <= 5)
        atomic_fetch_add(&c->conn->server->count.by_class[hundreds], 1);
}

/* The reply with its headers, and out of c; NULL: out of memory. */
static struct MHD_Response *take_reply(bt_call *c)
{
    static char nothing[1];
    struct MHD_Response *r =
        c->reply.data ? MHD_create_response_from_buffer_with_free_callback(c->reply.len,
                                                                           c->reply.data, bt_free)
                      : MHD_create_response_from_buffer(0, nothing, MHD_RESPMEM_PERSISTENT);
    if (!r) return NULL;
    c->reply = (bt_buf)BT_BUF_INIT; // MHD owns the bytes now
    add_headers(c, r);
    return r;
}

enum MHD_Result bt__call_send(bt_call *c)
{
    size_t len = c->reply.len;
    struct MHD_Response *r = take_reply(c);
    if (!r) return MHD_NO;
    c->stage = BT_STAGE_REPLIED;
    /* All of it must leave within the write limit plus a second for each 16 KiB. */
    int64_t ms = c->conn->server->opt.write_timeout_ms + (int64_t)(len / 16384) * 1000;
    c->conn->deadline_ns = bt_now_ns() + ms * 1000000;
    count_status(c);
    enum MHD_Result rc = MHD_queue_response(c->conn->mhd, (unsigned int)c->status, r);
    MHD_destroy_response(r);
    return rc;
}

static enum MHD_Result write_header(void *ud, enum MHD_ValueKind kind, const char *name,
                                    const char *value)
{
    (void)kind;
    bt_buf_addf(ud, "%s: %s\r\n", name, value);
    return MHD_YES;
}

/* MHD takes no response in the midst of a body: it is written on the socket, past MHD. */
void bt__call_cut(bt_call *c)
{
    bt_buf b = BT_BUF_INIT;
    if (!c->status)
        bt__call_fail(c, BT_ESLOW, "the request's body came too slowly; send it again", NULL, NULL);
    c->close_after = c->conn->linger = true;
    bt_buf_addf(&b, "HTTP/1.1 %d %s\r\nContent-Length: %zu\r\n", c->status,
                MHD_get_reason_phrase_for((unsigned)c->status), c->reply.len);
    bt_buf body = c->reply;
    c->reply = (bt_buf)BT_BUF_INIT;
    struct MHD_Response *r = take_reply(c);
    if (r) MHD_get_response_headers(r, write_header, &b);
    bt_buf_adds(&b, "\r\n");
    if (!c->head) bt_buf_add(&b, body.data, body.len);
    if (r && !b.failed && send(c->conn->fd, b.data, b.len, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
        c->stage = BT_STAGE_REPLIED;
        count_status(c);
    }
    MHD_destroy_response(r);
    bt_buf_release(&body);
    bt_buf_release(&b);
}

/* The response of a stream: the reader gives bytes until it says END. */
enum MHD_Result bt__call_stream(bt_call *c, MHD_ContentReaderCallback reader)
{
    struct MHD_Response *r =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 64, reader, c, NULL);
    if (!r) return MHD_NO;
    c->status = 200;
    c->type = c->dialect->stream_type;
    bt__call_header(c, "Cache-Control", "no-cache");
    bt__call_header(c, "X-Accel-Buffering", "no");
    add_headers(c, r);
    c->stage = BT_STAGE_STREAM;
    count_status(c);
    enum MHD_Result rc = MHD_queue_response(c->conn->mhd, 200, r);
    MHD_destroy_response(r);
    return rc;
}

/* ---- parking */

void bt__call_park(bt_call *c)
{
    BT_ASSERT(!c->parked);
    c->parked = true;
    c->conn->deadline_ns = 0; // nothing is expected of the client while it waits
    MHD_suspend_connection(c->conn->mhd);
}

void bt__call_unpark(bt_call *c)
{
    if (!c->parked) return;
    c->parked = false;
    c->conn->server->resumed = true;
    MHD_resume_connection(c->conn->mhd);
}

void bt__call_watch(bt_call *c)
{
    bt_conn *conn = c->conn;
    struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = conn};
    int op = conn->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(conn->server->watch_fd, op, conn->fd, &ev) == 0)
        conn->watched = true;
    else
        bt_log(BT_LOG_WARN, "http.watch", "id=%s hang-ups of this client go unnoticed", c->id);
}
