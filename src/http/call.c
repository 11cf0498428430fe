/* SPDX-License-Identifier: Apache-2.0 */
/* call.c - one request: head, body, reply. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "http/internal.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

static int64_t ms_from_now(int32_t ms)
{
    return bt_now_ns() + (int64_t)ms * 1000000;
}

static const char *head_value(const bt_call *c, const char *name)
{
    return MHD_lookup_connection_value(c->conn->mhd, MHD_HEADER_KIND, name);
}

/* ---- replies */

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
    c->conn->deadline_ns =
        ms_from_now(c->conn->server->opt.write_timeout_ms + (int32_t)(len / 16384) * 1000);
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

void bt__call_hangup(bt_call *c)
{
    if (c->gone) return;
    c->gone = true;
    bool answered = c->stage == BT_STAGE_REPLIED ||
                    (c->answer && bt_answer_state_get(c->answer) > BT_ANSWER_RUNNING);
    if (!answered) atomic_fetch_add(&c->conn->server->count.hangups, 1);
    if (c->stage == BT_STAGE_WORK) { // lent: looked at when it comes back
        bt_work_cancel(c->conn->server->front, &c->work);
        return;
    }
    bt__generate_cancel(c);
    bt__call_unpark(c);
}

/* ---- reading a request */

static enum MHD_Result add_hops(void *ud, enum MHD_ValueKind kind, const char *key,
                                const char *value)
{
    bt_buf *hops = ud;
    (void)kind;
    if (strcasecmp(key, "X-Forwarded-For") == 0 && value)
        bt_buf_addf(hops, "%s%s", hops->len ? ", " : "", value);
    return MHD_YES;
}

/* A trusted proxy's connections are not bounded by its address; those of each anonymous client that
 * it names are, by their requests. */
static bt_status take_place(bt_call *c, bt_err *err)
{
    bt_server *s = c->conn->server;
    int32_t limit = bt__conn_limit(s, false);
    if (!c->conn->proxy || c->who.authenticated) return BT_OK;
    c->share = bt__budget_share(&s->budget, c->who.account_id);
    if (!c->share) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the request");
    if (c->share->requests >= limit)
        return bt_err_set(err, BT_EBUSY, 0,
                          "this address has %d requests under way, and may not have more; try "
                          "again in a second",
                          limit);
    c->share->requests++;
    c->counted = true;
    return BT_OK;
}

/* Who asks, by the credentials and the address. */
static bt_status identity(bt_call *c, bt_err *err)
{
    bt_buf hops = BT_BUF_INIT;
    /* A client may send this header itself and a proxy add a second one: the last hop counts. */
    MHD_get_connection_values(c->conn->mhd, MHD_HEADER_KIND, add_hops, &hops);
    bt_status st = BT_OK;
    if (hops.failed) st = bt_err_set(err, BT_ENOMEM, 0, "out of memory for the request");
    if (st == BT_OK)
        st = bt_account_identify(bt_front_accounts(c->conn->server->front),
                                 head_value(c, "Authorization"), head_value(c, "X-Api-Key"),
                                 c->conn->peer, hops.data, &c->who, err);
    bt_buf_release(&hops);
    return st;
}

static bt_status identify(bt_call *c)
{
    bt_err err = {0};
    bt_status st = identity(c, &err);
    if (st == BT_OK && c->route->need == BT_NEED_OWNER && !c->who.owner)
        st = bt_err_set(&err, BT_EFORBIDDEN, 0,
                        "only the owner may do that; send the owner's token");
    if (st == BT_OK) st = take_place(c, &err);
    if (st != BT_OK) bt__call_error(c, &err);
    return st;
}

/* Whose quota is used up is told so before anything is read or worked on. */
static bool admitted(bt_call *c)
{
    bt_ledger_balance balance;
    bt_err err = {0};
    if (!c->route->generates ||
        bt_front_admits(c->conn->server->front, &c->who, &balance, &err) == BT_OK)
        return true;
    atomic_fetch_add(&c->conn->server->count.streams, 1); // front has counted it as refused
    bt_api_error refusal = {.status = err.code, .message = err.msg, .balance = &balance};
    bt_api_error_write(c->dialect, &refusal, false, &c->reply);
    bt__call_quota_refused(c, &balance, 0);
    bt__call_json(c, bt_status_get(err.code)->http);
    return false;
}

bool bt__call_by_owner(bt_call *c)
{
    bt_identity who = {0};
    return bt_account_identify(bt_front_accounts(c->conn->server->front),
                               head_value(c, "Authorization"), head_value(c, "X-Api-Key"),
                               c->conn->peer, NULL, &who, NULL) == BT_OK &&
           who.owner;
}

/* X-Baton-Lease: seconds, unless the body says otherwise. */
static bool read_lease_header(bt_call *c)
{
    const char *text = head_value(c, "X-Baton-Lease");
    if (!text) return true;
    char *end;
    double v = strtod(text, &end);
    if (end != text && *end == 0 && v >= 0.1 && v <= BT_API_LEASE_MAX_S) {
        c->lease_header_s = v;
        return true;
    }
    bt__call_fail(c, BT_EINVAL,
                  "the header X-Baton-Lease must be a number of seconds from 0.1 to 86400",
                  "X-Baton-Lease", NULL);
    return false;
}

/* ---- pages of other origins (origin.h) */

static bool local_is_loopback(int fd)
{
    struct sockaddr_storage name = {0};
    socklen_t len = sizeof name;
    return getsockname(fd, (struct sockaddr *)&name, &len) == 0 &&
           bt__conn_loopback((struct sockaddr *)&name);
}

static bt_origin_claim claim_of(const bt_call *c, const char *target)
{
    const bt_conn *conn = c->conn;
    const char *host = *target == '/' ? NULL : strstr(target, "://"); // before the header
    bt_origin_claim claim = {.origin = head_value(c, "Origin"),
                             .fetch_site = head_value(c, "Sec-Fetch-Site"),
                             .proxy = conn->proxy,
                             .loopback = conn->server->loopback};
    claim.host = host ? host + 3 : head_value(c, "Host");
    claim.n_host = claim.host ? strcspn(claim.host, "/") : 0;
    if (conn->proxy) claim.forwarded_host = head_value(c, "X-Forwarded-Host");
    if (claim.origin && !claim.loopback) claim.loopback = local_is_loopback(conn->fd);
    return claim;
}

/* With a known key any page may do what the key allows; without one only pages of this origin and
 * those that are listed may spend, change, or read more than what says nothing of the visitor. */
static void judge_page(bt_call *c, const char *target)
{
    const bt_server *s = c->conn->server;
    bt_err err = {0};
    bt_origin_claim claim = claim_of(c, target);
    bt_origin origin = bt__origin_judge(&s->origins, &claim);
    bool rebound = s->loopback && bt__origin_rebound(&s->origins, &claim);
    bool open = c->route->need == BT_NEED_NOTHING;
    if (c->status == 0 && open && rebound) (void)identity(c, &err);
    if (c->status == 0 && !c->who.authenticated) {
        if (rebound)
            bt__call_fail(c, BT_EFORBIDDEN,
                          "this server is for its own machine, and Host is another's name: send a "
                          "key, or the owner names the site in --cors-origins, or a proxy's "
                          "address in --trusted-proxy",
                          NULL, NULL);
        else if (origin == BT_ORIGIN_FOREIGN && strcmp(c->route->method, "POST") == 0)
            bt__call_fail(c, BT_EFORBIDDEN,
                          "a page of another site may not spend its visitors' quota: send a key, "
                          "or the owner names the site in --cors-origins",
                          NULL, NULL);
    }
    bool refused = c->status == 401 || (c->status == 403 && !rebound); // and nothing else in it
    c->readable = claim.origin && (origin != BT_ORIGIN_FOREIGN || c->who.authenticated || refused ||
                                   (open && c->status == 0));
}

/* Before a request with a key there is one without, that says what will come, in small letters. */
static void preflight(bt_call *c, const char *target, const char *methods)
{
    const char *headers = head_value(c, "Access-Control-Request-Headers");
    bt_origin_claim claim = claim_of(c, target);
    c->status = 204;
    bt__call_header(c, "Allow", "%s", methods);
    if (bt__origin_judge(&c->conn->server->origins, &claim) == BT_ORIGIN_FOREIGN &&
        !(headers && (strstr(headers, "authorization") || strstr(headers, "x-api-key"))))
        return;
    c->readable = true;
    bt__call_header(c, "Access-Control-Allow-Methods", "%s", methods);
    bt__call_header(c, "Access-Control-Allow-Headers",
                    "Authorization, Content-Type, X-Api-Key, X-Baton-Lease, *");
    bt__call_header(c, "Access-Control-Max-Age", "86400");
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
        else if (c->route->need == BT_NEED_NOTHING || (identify(c) == BT_OK && admitted(c)))
            read_lease_header(c);
        judge_page(c, target);
    } else if (!*methods) {
        char message[160];
        snprintf(message, sizeof message, "there is no %.100s here; GET / shows what there is",
                 url);
        bt__call_fail(c, BT_ENOTFOUND, message, NULL, NULL);
    } else if (strcmp(method, "OPTIONS") == 0) {
        preflight(c, target, methods);
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
    const char *text = head_value(c, "Content-Length");
    bool chunked = head_value(c, "Transfer-Encoding") != NULL;
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
    if (!c->status || (length <= DROP_BYTES_MAX && !head_value(c, "Expect"))) return MHD_YES;
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
static void run_text(bt_work *w, bt_text *t)
{
    bt_call *c = BT_OF(bt_call, work, w);
    bt_buf_clear(&c->reply);
    c->n_headers = c->status = 0;
    c->text = t;
    c->route->handle(c);
    c->text = NULL;
}

static void text_done(bt_work *w, bt_status st)
{
    bt_call *c = BT_OF(bt_call, work, w);
    if (st) bt__call_fail(c, st, NULL, NULL, NULL);
    bt__server_done(c);
}

/* Gives the call to another thread; its connection is parked meanwhile. */
static bt_status lend(bt_call *c, bt_err *err)
{
    bt_server *s = c->conn->server;
    bt_status st;
    c->stage = BT_STAGE_WORK;
    if (c->route->where == BT_ON_HELPER) {
        st = bt_inbox_push(&s->work, &c);
        if (st) return bt_err_set(err, BT_EBUSY, 0, "the server is busy; try again in a moment");
    } else {
        c->work =
            (bt_work){.who = &c->who, .bytes = c->body.len, .run = run_text, .done = text_done};
        st = bt_work_start(s->front, &c->work, err);
        if (st) return st;
        if (!bt__conn_watch(c->conn))
            bt_log(BT_LOG_WARN, "http.watch", "id=%s hang-ups of this client go unnoticed", c->id);
    }
    bt__call_park(c);
    return BT_OK;
}

static enum MHD_Result handle(bt_call *c)
{
    const bt_route *r = c->route;
    if (c->status) return bt__call_send(c);
    if (r->at_once && r->at_once(c)) return bt__call_send(c);
    if (r->where != BT_ON_LOOP || (r->generates && c->body.len > INLINE_PARSE_BYTES_MAX)) {
        bt_err err = {0};
        if (lend(c, &err) == BT_OK) return MHD_YES;
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
