/* SPDX-License-Identifier: Apache-2.0 */
/* origin.h - which web pages may make a visitor's browser ask here. Private to src/http.
 *
 * A browser sends what any page asks it to, from the visitor's address, so a page elsewhere could
 * spend the quota of everybody who looks at it. Browsers say where a request comes from: Origin,
 * and, to servers they reach safely (https, this machine), Sec-Fetch-Site. No page can write
 * either. A page can also have its own name point at this machine (DNS rebinding); then Origin and
 * Host agree, but Host is a name that this machine does not have. Pure. Thread: any. */
#pragma once
#include "baton/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

enum { BT_ORIGINS_MAX = 64 };

/* --cors-origins. The text is the caller's and stays. */
typedef struct bt_origins {
    bool any;
    int n;
    struct {
        const char *s; // SCHEME://HOST[:PORT] less the port that the scheme implies, or null
        size_t n;
    } at[BT_ORIGINS_MAX];
} bt_origins;

/* What a request says of itself; NULL: nothing. */
typedef struct bt_origin_claim {
    const char *origin, *fetch_site, *forwarded_host;
    const char *host;
    size_t n_host;
    bool proxy;    // a trusted one has sent it
    bool loopback; // it came to an address of this machine only
} bt_origin_claim;

typedef enum bt_origin {
    BT_ORIGIN_OWN,    // our own page, or no page at all
    BT_ORIGIN_LISTED, // a page that the owner lists
    BT_ORIGIN_FOREIGN,
} bt_origin;

/* list: NULL, "*" or comma-separated origins; BT_EINVAL names the one that is none. */
bt_status bt__origins_parse(const char *list, bt_origins *out, bt_err *err);
bt_origin bt__origin_judge(const bt_origins *o, const bt_origin_claim *c);
/* Host, on a connection to a loopback address, is a name that may be another's: not an address, not
 * localhost, has a dot; not listed, and no proxy or safe page vouches for it. */
bool bt__origin_rebound(const bt_origins *o, const bt_origin_claim *c);
/* An address of this machine only. */
bool bt__origin_loopback(const struct sockaddr *a);
