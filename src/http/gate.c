/* SPDX-License-Identifier: Apache-2.0 */
/* gate.c - who asks, and whether they may: credentials, places, quota, and pages of other sites. */
#include "http/internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

/* ---- who */

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
    int32_t limit =
        bt__budget_connections(s->opt.connections_max, s->opt.address_connections_max, false);
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
                                 bt__head_value(c, "Authorization"), bt__head_value(c, "X-Api-Key"),
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

bool bt__gate_by_owner(bt_call *c)
{
    bt_identity who = {0};
    return bt_account_identify(bt_front_accounts(c->conn->server->front),
                               bt__head_value(c, "Authorization"), bt__head_value(c, "X-Api-Key"),
                               c->conn->peer, NULL, &who, NULL) == BT_OK &&
           who.owner;
}

/* X-Baton-Lease: seconds, unless the body says otherwise. */
static void read_lease_header(bt_call *c)
{
    const char *text = bt__head_value(c, "X-Baton-Lease");
    if (!text) return;
    char *end;
    double v = strtod(text, &end);
    if (end != text && *end == 0 && v >= 0.1 && v <= BT_API_LEASE_MAX_S)
        c->lease_header_s = v;
    else
        bt__call_fail(c, BT_EINVAL,
                      "the header X-Baton-Lease must be a number of seconds from 0.1 to 86400",
                      "X-Baton-Lease", NULL);
}

void bt__gate_caller(bt_call *c)
{
    if (c->route->need == BT_NEED_NOTHING || (identify(c) == BT_OK && admitted(c)))
        read_lease_header(c);
}

/* ---- pages of other origins (origin.h) */

static bool local_is_loopback(int fd)
{
    struct sockaddr_storage name = {0};
    socklen_t len = sizeof name;
    return getsockname(fd, (struct sockaddr *)&name, &len) == 0 &&
           bt__origin_loopback((struct sockaddr *)&name);
}

static bt_origin_claim claim_of(const bt_call *c, const char *target)
{
    const bt_conn *conn = c->conn;
    const char *host = *target == '/' ? NULL : strstr(target, "://"); // before the header
    bt_origin_claim claim = {.origin = bt__head_value(c, "Origin"),
                             .fetch_site = bt__head_value(c, "Sec-Fetch-Site"),
                             .proxy = conn->proxy,
                             .loopback = conn->server->loopback};
    claim.host = host ? host + 3 : bt__head_value(c, "Host");
    claim.n_host = claim.host ? strcspn(claim.host, "/") : 0;
    if (conn->proxy) claim.forwarded_host = bt__head_value(c, "X-Forwarded-Host");
    if (claim.origin && !claim.loopback) claim.loopback = local_is_loopback(conn->fd);
    return claim;
}

/* With a known key any page may do what the key allows; without one only pages of this origin and
 * those that are listed may spend, change, or read more than what says nothing of the visitor. */
void bt__gate_page(bt_call *c, const char *target)
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
void bt__gate_preflight(bt_call *c, const char *target, const char *methods)
{
    const char *headers = bt__head_value(c, "Access-Control-Request-Headers");
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
