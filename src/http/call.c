/* SPDX-License-Identifier: Apache-2.0 */
/* call.c - one request: its head, its body, and who handles it. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "http/internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t ms_from_now(int32_t ms)
{
    return bt_now_ns() + (int64_t)ms * 1000000;
}

static void route(bt_call *c, const char *method, const char *target)
{
    char methods[64] = "";
    const char *tail = NULL, *url = bt__route_path(target);
    c->head = strcmp(method, "HEAD") == 0;
    c->route = bt__route_find(c->head ? "GET" : method, url, &tail, methods);
    c->dialect = c->route ? c->route->dialect : bt__route_dialect(url);
    if (strcmp(url, "*") == 0) snprintf(methods, sizeof methods, "GET, HEAD, POST, OPTIONS");
    if (tail && !(c->tail = bt_strdup(tail))) {
        bt__call_fail(c, BT_ENOMEM, NULL, NULL, NULL);
    } else if (c->route) {
        if (atomic_load(&c->conn->server->stop))
            bt__call_fail(c, BT_ECLOSED, NULL, NULL, NULL);
        else
            bt__gate_caller(c);
        bt__gate_page(c, target);
    } else if (!*methods) {
        char message[160];
        snprintf(message, sizeof message, "there is no %.100s here; GET / shows what there is",
                 url);
        bt__call_fail(c, BT_ENOTFOUND, message, NULL, NULL);
    } else if (strcmp(method, "OPTIONS") == 0) {
        bt__gate_preflight(c, target, methods);
    } else {
        bt__call_fail(c, BT_EMETHOD, NULL, NULL, NULL);
        bt__call_header(c, "Allow", "%s", methods);
    }
}

/* ---- bodies: whether one is wanted is decided before it comes */

enum {
    DROP_BYTES_MAX = BT_BODY_SMALL, // of a body that nobody wants, so that the connection can stay
    DROP_MS = 1000,
};

static void too_large(bt_call *c)
{
    char message[96];
    snprintf(message, sizeof message, "the request body is larger than %zu bytes",
             c->conn->server->opt.body_bytes_max);
    bt__call_fail(c, BT_ETOOBIG, message, NULL, NULL);
}

/* Memory for a body, which has `held` bytes of it. False: the reply says why there is none. */
static bool hold_body(bt_call *c, size_t held)
{
    bt_server *s = c->conn->server;
    bt_err err = {0};
    if (held <= c->body_held) return true;
    if (!c->share) c->share = bt__budget_share(&s->budget, c->who.account_id);
    if (!c->share) {
        bt__call_fail(c, BT_ENOMEM, NULL, NULL, NULL);
        return false;
    }
    bt_status st =
        bt__budget_grow(&s->budget, c->share, c->who.tier->cls, c->body_held, held, &err);
    if (st != BT_OK) {
        bt__call_fail(c, st, err.msg, NULL, "too_many_bodies");
        return false;
    }
    atomic_fetch_add(&s->count.body_bytes, (long long)(held - c->body_held));
    c->body_held = held;
    return true;
}

static void drop_body(bt_call *c)
{
    bt_server *s = c->conn->server;
    if (c->body_held) bt__budget_give_back(&s->budget, c->share, c->body_held);
    atomic_fetch_sub(&s->count.body_bytes, (long long)c->body_held);
    c->body_held = 0;
    bt_buf_release(&c->body);
}

/* The head is here, and what it says is decided: now the body, of which nothing has come. */
static enum MHD_Result expect_body(bt_call *c)
{
    const char *text = bt__head_value(c, "Content-Length");
    bool chunked = bt__head_value(c, "Transfer-Encoding") != NULL;
    uint64_t length = text && !chunked ? strtoull(text, NULL, 10) : 0;
    size_t max = c->conn->server->opt.body_bytes_max;
    if (!chunked && !length) return MHD_YES;
    bool wanted = !c->status && strcmp(c->route->method, "POST") == 0;
    if (wanted) {
        if (length > max)
            too_large(c);
        else if (chunked || hold_body(c, (size_t)length + 1))
            c->body.max_bytes = chunked ? max : (size_t)length;
    }
    c->discard = !wanted || c->status;
    if (!c->discard) return MHD_YES; // MHD says "100 Continue" to who waits for it
    c->conn->deadline_ns = ms_from_now(DROP_MS);
    if (!c->status && length > DROP_BYTES_MAX)
        bt__call_fail(c, BT_ETOOBIG, "this route takes no request body", NULL, NULL);
    if (!c->status || (length <= DROP_BYTES_MAX && !bt__head_value(c, "Expect"))) return MHD_YES;
    c->close_after = c->conn->linger = true;
    return bt__call_send(c); // before the body: MHD closes after it
}

/* The head is here: decides what can be decided before the body. */
static enum MHD_Result begin(bt_conn *conn, const char *url, const char *method, void **con_cls)
{
    if (conn->cut) return MHD_NO;
    bt_call *c = bt_calloc(1, sizeof *c);
    if (!c) return MHD_NO;
    c->conn = conn;
    bt__conn_state(conn, c);
    *con_cls = c;
    c->begun_ns = bt_now_ns();
    conn->deadline_ns = ms_from_now(conn->server->opt.request_timeout_ms);
    bt_api_id(bt_random_id(), c->id);
    atomic_fetch_add(&conn->server->count.requests, 1);
    route(c, method, url);
    return expect_body(c);
}

/* MHD_NO: nothing more of it is wanted, and what there is to say was said. */
static enum MHD_Result take_body(bt_call *c, const char *data, size_t n)
{
    const bt_server_options *o = &c->conn->server->opt;
    if (c->discard) {
        c->dropped += n;
        if (c->dropped <= DROP_BYTES_MAX) return MHD_YES;
        if (!c->status)
            bt__call_fail(c, BT_ETOOBIG, "this route takes no request body", NULL, NULL);
    } else if (c->body.len + n > o->body_bytes_max) {
        too_large(c);
    } else {
        bt_buf_add(&c->body, data, n);
        if (c->body.failed)
            bt__call_fail(c, BT_ENOMEM, NULL, NULL, NULL);
        else if (hold_body(c, c->body.cap)) {
            c->conn->deadline_ns = c->begun_ns + (int64_t)o->request_timeout_ms * 1000000 +
                                   (int64_t)c->body.len * 1000000000 / o->body_rate;
            return MHD_YES;
        }
    }
    drop_body(c);
    bt__call_cut(c);
    return MHD_NO;
}

/* ---- serving it */

enum { INLINE_PARSE_BYTES_MAX = 8 << 10 }; // a larger body would hold up every stream

static void finish_handling(bt_call *c)
{
    drop_body(c);
    if (c->route->generates && c->parsed && !c->status) bt__generate_start(c);
}

/* Text thread. What an attempt before it left is dropped. */
static enum MHD_Result handle(bt_call *c)
{
    const bt_route *r = c->route;
    if (c->status) return bt__call_send(c);
    if (r->at_once && r->at_once(c)) return bt__call_send(c);
    if (r->where != BT_ON_LOOP || (r->generates && c->body.len > INLINE_PARSE_BYTES_MAX)) {
        bt_err err = {0};
        if (bt__call_lend(c, &err) == BT_OK) return MHD_YES;
        c->stage = BT_STAGE_READ;
        bt__call_error(c, &err);
        return bt__call_send(c);
    }
    r->handle(c);
    finish_handling(c);
    return c->status ? bt__call_send(c) : MHD_YES;
}

void bt__call_worked(bt_call *c)
{
    c->stage = BT_STAGE_READ;
    if (!c->gone) finish_handling(c);
    if (c->stage == BT_STAGE_WAIT) return; // a generation began: it stays parked
    BT_ASSERT(c->gone || c->status);
    bt__call_unpark(c);
}

enum MHD_Result bt__call_serve(void *cls, struct MHD_Connection *mhd, const char *url,
                               const char *method, const char *version, const char *data,
                               size_t *n_data, void **con_cls)
{
    (void)cls;
    (void)version;
    bt_call *c = *con_cls;
    if (!c) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        bt_conn *conn = info ? info->socket_context : NULL;
        return conn ? begin(conn, url, method, con_cls) : MHD_NO;
    }
    if (*n_data) {
        size_t n = *n_data;
        *n_data = 0;
        return take_body(c, data, n);
    }
    if (c->gone) return MHD_NO;
    switch (c->stage) {
    case BT_STAGE_READ: return handle(c);
    case BT_STAGE_WAIT: return bt__generate_respond(c);
    default: return MHD_YES;
    }
}

void bt__call_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                        enum MHD_RequestTerminationCode why)
{
    (void)cls;
    (void)mhd;
    (void)why;
    bt_call *c = *con_cls;
    if (!c) return;
    *con_cls = NULL;
    bt_conn *conn = c->conn;
    bt__conn_state(conn, NULL);
    conn->deadline_ns = ms_from_now(conn->server->opt.idle_timeout_ms);
    bt__intake_completed(conn);
    bt__generate_release(c);
    drop_body(c);
    if (c->counted) c->share->requests--;
    bt__budget_drop(&conn->server->budget, c->share);
    bt_buf_release(&c->reply);
    bt_free((void *)c->tail);
    bt_free(c);
}
