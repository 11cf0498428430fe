/* SPDX-License-Identifier: Apache-2.0 */
/* address.h - which address a request really comes from.
 *
 * A proxy in front hides its clients; X-Forwarded-For tells them, but anyone can write that header.
 * So it is read from the right, and only while the hop that wrote it is trusted: the first hop that
 * is not trusted is the client. Pure; no names are resolved. Thread: any. */
#pragma once
#include "baton/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* IPv4 is kept as ::ffff:a.b.c.d, so both spellings of one address are equal. */
typedef struct bt_address {
    uint8_t b[16];
} bt_address;

/* "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]:80", "fe80::1%eth0"; blanks around
 * it and double quotes are fine. False if it is none of these. */
bool bt_address_parse(const char *s, size_t n, bt_address *out);

/* "ip:192.0.2.1", or "ip:2001:db8:0:1::/64": one customer usually has a whole /64. ::1 is
 * 127.0.0.1. */
void bt_address_account(const bt_address *a, char dst[static 64]);

/* The network that one party may well have to itself: "2001:db8:1::/48", or "192.0.2.0/24". */
void bt_address_network(const bt_address *a, char dst[static 64]);

enum { BT_PROXIES_MAX = 64, BT_FORWARDED_HOPS_MAX = 64 };

typedef struct bt_cidr {
    bt_address net;
    uint8_t bits; // of the 128
} bt_cidr;

typedef struct bt_proxies {
    bt_cidr net[BT_PROXIES_MAX];
    int n;
} bt_proxies;

/* "" trusts nobody; "auto" trusts private addresses when behind_space, else nobody; otherwise a
 * comma-separated list of networks or addresses. EINVAL names the part that is wrong. */
bt_status bt_proxies_parse(const char *list, bool behind_space, bt_proxies *out, bt_err *err);
bool bt_proxies_trust(const bt_proxies *p, const bt_address *a);

/* The client of a request from `peer` that carried X-Forwarded-For `forwarded` (NULL = none). If
 * all hops are trusted it is the left-most; a header that cannot be read counts for nothing: the
 * peer. False: peer itself is no address. */
bool bt_proxies_client(const bt_proxies *p, const char *peer, const char *forwarded,
                       bt_address *out);
