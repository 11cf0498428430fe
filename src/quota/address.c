/* SPDX-License-Identifier: Apache-2.0 */
#include "quota/address.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};

static bool address_is_v4(const bt_address *a)
{
    return memcmp(a->b, mapped_prefix, 12) == 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static void trim(const char **s, size_t *n)
{
    while (*n > 0 && is_blank(**s)) {
        (*s)++;
        (*n)--;
    }
    while (*n > 0 && is_blank((*s)[*n - 1])) (*n)--;
}

static bool is_port(const char *s, size_t n)
{
    if (n == 0 || n > 5) return false;
    for (size_t i = 0; i < n; i++)
        if (s[i] < '0' || s[i] > '9') return false;
    return true;
}

/* The address alone: no port, no brackets. */
static bool address_parse_bare(const char *s, size_t n, bt_address *out)
{
    char text[INET6_ADDRSTRLEN];
    const char *zone = memchr(s, '%', n);
    bool v6 = memchr(s, ':', n) != NULL;
    if (zone) n = (size_t)(zone - s);
    if (n == 0 || n >= sizeof text || memchr(s, 0, n) || (zone && !v6)) return false;
    memcpy(text, s, n);
    text[n] = 0;
    if (v6) return inet_pton(AF_INET6, text, out->b) == 1;
    memcpy(out->b, mapped_prefix, 12);
    return inet_pton(AF_INET, text, out->b + 12) == 1;
}

bool bt_address_parse(const char *s, size_t n, bt_address *out)
{
    bt_address a;
    trim(&s, &n);
    if (n >= 2 && s[0] == '"' && s[n - 1] == '"') {
        s++;
        n -= 2;
        trim(&s, &n);
    }
    if (n > 0 && s[0] == '[') {
        const char *end = memchr(s, ']', n);
        if (!end) return false;
        size_t rest = n - (size_t)(end - s) - 1;
        if (rest > 0 && (end[1] != ':' || !is_port(end + 2, rest - 1))) return false;
        s++;
        n = (size_t)(end - s);
        if (!memchr(s, ':', n)) return false;
    } else {
        const char *colon = memchr(s, ':', n);
        size_t rest = colon ? n - (size_t)(colon - s) - 1 : 0;
        if (colon && !memchr(colon + 1, ':', rest)) {
            if (!is_port(colon + 1, rest)) return false;
            n = (size_t)(colon - s);
        }
    }
    if (!address_parse_bare(s, n, &a)) return false;
    *out = a;
    return true;
}

void bt_address_account(const bt_address *a, char dst[static 64])
{
    static const uint8_t loopback[16] = {[15] = 1};
    char text[INET6_ADDRSTRLEN];
    if (address_is_v4(a)) {
        inet_ntop(AF_INET, a->b + 12, text, sizeof text);
        snprintf(dst, 64, "ip:%s", text);
    } else if (memcmp(a->b, loopback, 16) == 0) {
        snprintf(dst, 64, "ip:127.0.0.1");
    } else {
        uint8_t net[16] = {0};
        memcpy(net, a->b, 8);
        inet_ntop(AF_INET6, net, text, sizeof text);
        snprintf(dst, 64, "ip:%s/64", text);
    }
}

void bt_address_network(const bt_address *a, char dst[static 64])
{
    char text[INET6_ADDRSTRLEN];
    bool v4 = address_is_v4(a);
    uint8_t net[16] = {0};
    memcpy(net, a->b, v4 ? 15 : 6);
    inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? net + 12 : net, text, sizeof text);
    snprintf(dst, 64, "%s/%d", text, v4 ? 24 : 48);
}

static void cidr_mask(bt_cidr *c)
{
    for (int i = 0; i < 16; i++) {
        int keep = c->bits - 8 * i;
        if (keep <= 0)
            c->net.b[i] = 0;
        else if (keep < 8)
            c->net.b[i] &= (uint8_t)(0xFF << (8 - keep));
    }
}

static bool cidr_parse(const char *s, size_t n, bt_cidr *out)
{
    trim(&s, &n);
    const char *slash = memchr(s, '/', n);
    size_t len = slash ? (size_t)(slash - s) : n;
    if (!address_parse_bare(s, len, &out->net)) return false;
    bool v4_text = !memchr(s, ':', len);
    int max = v4_text ? 32 : 128, bits = max;
    if (slash) {
        size_t digits = n - len - 1;
        if (digits == 0 || digits > 3) return false;
        bits = 0;
        for (size_t i = 0; i < digits; i++) {
            char c = slash[1 + i];
            if (c < '0' || c > '9') return false;
            bits = bits * 10 + (c - '0');
        }
        if (bits > max) return false;
    }
    out->bits = (uint8_t)(v4_text ? bits + 96 : bits);
    cidr_mask(out);
    return true;
}

static bool cidr_has(const bt_cidr *c, const bt_address *a)
{
    /* ::/0 means every IPv6 address: without this it would hold the mapped IPv4 ones too. */
    if (c->bits < 96 && address_is_v4(a)) return false;
    size_t whole = c->bits / 8;
    int part = c->bits % 8;
    if (memcmp(c->net.b, a->b, whole) != 0) return false;
    return part == 0 || (uint8_t)(a->b[whole] >> (8 - part)) == c->net.b[whole] >> (8 - part);
}

/* Private, loopback, link-local, and the carrier range that clusters use between their nodes. */
static const char private_networks[] = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,"
                                       "169.254.0.0/16,100.64.0.0/10,::1,fc00::/7,fe80::/10";

bt_status bt_proxies_parse(const char *list, bool behind_space, bt_proxies *out, bt_err *err)
{
    bt_proxies p = {.n = 0};
    if (strcmp(list, "auto") == 0) list = behind_space ? private_networks : "";
    while (*list) {
        size_t n = strcspn(list, ",");
        if (p.n == BT_PROXIES_MAX)
            return bt_err_set(err, BT_EINVAL, 0, "trusted-proxy names more than %d networks",
                              BT_PROXIES_MAX);
        if (!cidr_parse(list, n, &p.net[p.n++]))
            return bt_err_set(err, BT_EINVAL, 0,
                              "trusted-proxy: '%.*s' is no address or network; write 10.0.0.0/8, "
                              "fd00::/8, or auto",
                              (int)(n > 60 ? 60 : n), list);
        list += n + (list[n] == ',');
    }
    *out = p;
    return BT_OK;
}

bool bt_proxies_trust(const bt_proxies *p, const bt_address *a)
{
    for (int i = 0; i < p->n; i++)
        if (cidr_has(&p->net[i], a)) return true;
    return false;
}

bool bt_proxies_client(const bt_proxies *p, const char *peer, const char *forwarded,
                       bt_address *out)
{
    bt_address from, hop;
    if (!peer || !bt_address_parse(peer, strlen(peer), &from)) return false;
    *out = from;
    if (!forwarded || !bt_proxies_trust(p, &from)) return true;

    size_t end = strlen(forwarded);
    hop = from;
    for (int hops = 0; hops < BT_FORWARDED_HOPS_MAX; hops++) {
        size_t start = end;
        while (start > 0 && forwarded[start - 1] != ',') start--;
        if (!bt_address_parse(forwarded + start, end - start, &hop)) return true;
        if (start == 0 || !bt_proxies_trust(p, &hop)) {
            *out = hop;
            return true;
        }
        end = start - 1;
    }
    return true;
}
