/* SPDX-License-Identifier: Apache-2.0 */
#include "http/origin.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* The HOST[:PORT] of an origin; port: the one that its scheme implies. */
static const char *authority(const char *origin, size_t n, size_t *n_out, const char **port)
{
    const char *s = strstr(origin, "://");
    if (!s || (size_t)(s - origin) + 3 > n) return NULL;
    *port = s - origin == 5 && strncasecmp(origin, "https", 5) == 0  ? ":443"
            : s - origin == 4 && strncasecmp(origin, "http", 4) == 0 ? ":80"
                                                                     : "";
    s += 3;
    *n_out = n - (size_t)(s - origin);
    return s;
}

static size_t without_port(const char *s, size_t n, const char *port)
{
    size_t k = strlen(port);
    return n > k && strncmp(s + n - k, port, k) == 0 ? n - k : n;
}

/* The length of an origin as browsers spell it: without the port that its scheme implies. */
static size_t origin_length(const char *origin, size_t n)
{
    const char *port, *s = authority(origin, n, &n, &port);
    return s ? (size_t)(s - origin) + without_port(s, n, port) : n;
}

/* Whether a page of that origin was served under that Host. */
static bool same_host(const char *origin, size_t n, const char *host, size_t n_host)
{
    const char *port, *s = authority(origin, n, &n, &port);
    if (!s || !host) return false;
    n = without_port(s, n, port);
    n_host = without_port(host, n_host, port);
    return n == n_host && strncasecmp(s, host, n) == 0;
}

static bool listed(const bt_origins *o, const char *origin)
{
    size_t n = origin_length(origin, strlen(origin));
    for (int i = 0; i < o->n; i++)
        if (o->at[i].n == n && strncasecmp(o->at[i].s, origin, n) == 0) return true;
    return o->any;
}

static bool host_listed(const bt_origins *o, const char *host, size_t n_host)
{
    for (int i = 0; i < o->n; i++)
        if (same_host(o->at[i].s, o->at[i].n, host, n_host)) return true;
    return o->any;
}

/* HOST or HOST:PORT as a browser would say it. What it never says would match nothing. */
static bool authority_ok(const char *s, size_t n)
{
    size_t i = 0, port;
    if (n && *s == '[')
        while (i < n && s[i] != ']') i++;
    for (; i < n && s[i] != ':'; i++)
        if (s[i] <= ' ' || s[i] > '~' || strchr("/?#@*\\", s[i])) return false;
    if (i == n) return n > 0;
    port = n - i - 1;
    return i > 0 && port >= 1 && port <= 5 && s[i + 1] != '0' &&
           strspn(s + i + 1, "0123456789") >= port;
}

bt_status bt__origins_parse(const char *list, bt_origins *out, bt_err *err)
{
    *out = (bt_origins){0};
    for (const char *s = list; s && *s;) {
        size_t n = strcspn(s, ",");
        const char *next = s + n + (s[n] == ',');
        for (; n && strchr(" \t", *s); n--) s++;
        while (n && strchr(" \t/", s[n - 1])) n--;
        const char *port, *host;
        size_t n_host = 0;
        if (n == 1 && *s == '*') {
            out->any = true;
        } else if (n) {
            host = authority(s, n, &n_host, &port);
            bool fits = (host && host > s + 3 && authority_ok(host, n_host)) ||
                        (n == 4 && memcmp(s, "null", 4) == 0);
            if (!fits)
                return bt_err_set(err, BT_EINVAL, 0,
                                  "--cors-origins: '%.*s' is not like https://HOST or "
                                  "https://HOST:PORT",
                                  (int)(n < 80 ? n : 80), s);
            if (out->n == BT_ORIGINS_MAX)
                return bt_err_set(err, BT_EINVAL, 0,
                                  "--cors-origins has more than %d origins; * admits all",
                                  BT_ORIGINS_MAX);
            out->at[out->n].s = s;
            out->at[out->n++].n = origin_length(s, n);
        }
        s = next;
    }
    return BT_OK;
}

/* A browser that reached us safely says that the page is of the same origin, or that nobody but the
 * visitor asked. */
static bool vouched(const bt_origin_claim *c)
{
    return c->fetch_site && (strcasecmp(c->fetch_site, "same-origin") == 0 ||
                             strcasecmp(c->fetch_site, "none") == 0);
}

bool bt__origin_rebound(const bt_origins *o, const bt_origin_claim *c)
{
    char name[256];
    struct in_addr address;
    if (!c->loopback || c->proxy || vouched(c) || !c->host || *c->host == '[') return false;
    snprintf(name, sizeof name, "%.*s", (int)c->n_host, c->host);
    name[strcspn(name, ":")] = 0;
    size_t n = strlen(name);
    if (n && name[n - 1] == '.') name[--n] = 0;
    bool ours = !strchr(name, '.') || inet_pton(AF_INET, name, &address) == 1 ||
                (n > 10 && strcasecmp(name + n - 10, ".localhost") == 0);
    return !ours && !host_listed(o, c->host, c->n_host);
}

bt_origin bt__origin_judge(const bt_origins *o, const bt_origin_claim *c)
{
    if (c->origin && listed(o, c->origin)) return BT_ORIGIN_LISTED;
    if (c->fetch_site)
        return vouched(c) ? BT_ORIGIN_OWN : o->any ? BT_ORIGIN_LISTED : BT_ORIGIN_FOREIGN;
    if (!c->origin) return BT_ORIGIN_OWN;
    size_t n = strlen(c->origin);
    bool own = same_host(c->origin, n, c->host, c->n_host) && !bt__origin_rebound(o, c);
    if (c->proxy && c->forwarded_host)
        own = own || same_host(c->origin, n, c->forwarded_host, strcspn(c->forwarded_host, ", "));
    return own ? BT_ORIGIN_OWN : BT_ORIGIN_FOREIGN;
}

bool bt__origin_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
    if (a->sa_family != AF_INET6) return false;
    const struct in6_addr *six = &((const struct sockaddr_in6 *)a)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(six) || (IN6_IS_ADDR_V4MAPPED(six) && six->s6_addr[12] == 127);
}
