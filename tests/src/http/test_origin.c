/* SPDX-License-Identifier: Apache-2.0 */
#include "http/origin.h"
#include "test.h"
#include <string.h>

static bt_origin judge(const char *list, const char *origin, const char *site, const char *host)
{
    bt_origins o;
    bt_origin_claim c = {.origin = origin,
                         .fetch_site = site,
                         .host = host,
                         .n_host = host ? strlen(host) : 0,
                         .loopback = true};
    CHECK_INT(bt__origins_parse(list, &o, NULL), BT_OK);
    return bt__origin_judge(&o, &c);
}

static void pages(void)
{
    static const struct {
        const char *list, *origin, *site, *host;
        bt_origin want;
    } cases[] = {
        {NULL, NULL, NULL, "127.0.0.1:7860", BT_ORIGIN_OWN}, // no browser
        {NULL, NULL, "none", "127.0.0.1:7860", BT_ORIGIN_OWN},
        {NULL, "http://localhost:7860", "same-origin", "localhost:7860", BT_ORIGIN_OWN},
        {NULL, "https://box.example", "same-origin", "127.0.0.1:7860", BT_ORIGIN_OWN}, // a proxy
        {NULL, "http://localhost:7860", NULL, "LOCALHOST:7860", BT_ORIGIN_OWN},
        {NULL, "http://localhost", NULL, "localhost:80", BT_ORIGIN_OWN},
        {NULL, "https://192.168.1.2", NULL, "192.168.1.2", BT_ORIGIN_OWN},
        {NULL, "http://localhost:3000", "same-site", "localhost:7860", BT_ORIGIN_FOREIGN},
        {NULL, "http://localhost:3000", NULL, "localhost:7860", BT_ORIGIN_FOREIGN},
        {NULL, "https://evil.example", "cross-site", "127.0.0.1:7860", BT_ORIGIN_FOREIGN},
        {NULL, "https://evil.example", NULL, "127.0.0.1:7860", BT_ORIGIN_FOREIGN},
        {NULL, "http://127.0.0.1:7860.evil.example", NULL, "127.0.0.1:7860", BT_ORIGIN_FOREIGN},
        {NULL, "null", NULL, "127.0.0.1:7860", BT_ORIGIN_FOREIGN},
        {NULL, "null", NULL, NULL, BT_ORIGIN_FOREIGN},
        {NULL, NULL, "cross-site", "127.0.0.1:7860", BT_ORIGIN_FOREIGN},
        {NULL, "http://evil.example:7860", NULL, "evil.example:7860", BT_ORIGIN_FOREIGN}, // rebound
        {"*", "https://evil.example", "cross-site", "127.0.0.1:7860", BT_ORIGIN_LISTED},
        {"https://a.example , https://b.example:8443/", "https://B.example:8443", "cross-site",
         "127.0.0.1:7860", BT_ORIGIN_LISTED},
        {"https://a.example", "http://a.example", "cross-site", "127.0.0.1", BT_ORIGIN_FOREIGN},
        {"https://a.example", "https://a.example.org", NULL, "127.0.0.1", BT_ORIGIN_FOREIGN},
        {"https://a.example:443", "https://a.example", "cross-site", "127.0.0.1", BT_ORIGIN_LISTED},
        {"https://a.example", "https://a.example:443", "cross-site", "127.0.0.1", BT_ORIGIN_LISTED},
        {"HTTPS://a.example:443/ , null", "https://a.example", NULL, "127.0.0.1", BT_ORIGIN_LISTED},
        {"http://[::2]:80", "http://[::2]", "cross-site", "127.0.0.1", BT_ORIGIN_LISTED},
        {"https://a.example:80", "https://a.example", "cross-site", "127.0.0.1", BT_ORIGIN_FOREIGN},
        {"http://a.example:443", "http://a.example", "cross-site", "127.0.0.1", BT_ORIGIN_FOREIGN},
        {"app://notes:80", "app://notes", NULL, "127.0.0.1:7860", BT_ORIGIN_FOREIGN},
        {"null, app://notes", "null", NULL, "127.0.0.1:7860", BT_ORIGIN_LISTED},
        {"null, app://notes", "app://notes", NULL, "127.0.0.1:7860", BT_ORIGIN_LISTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int got = (int)judge(cases[i].list, cases[i].origin, cases[i].site, cases[i].host);
        if (got != (int)cases[i].want) fprintf(stderr, "case %zu\n", i);
        CHECK_INT(got, (int)cases[i].want);
    }
}

static void names(void)
{
    static const struct {
        const char *list, *host;
        bool want;
    } cases[] = {
        {NULL, "127.0.0.1:7860", false},
        {NULL, "localhost", false},
        {NULL, "localhost.:1", false},
        {NULL, "app.localhost:7860", false},
        {NULL, "[::1]:7860", false},
        {NULL, "mybox:7860", false},
        {NULL, "10.0.0.1", false},
        {NULL, "", false},
        {NULL, "evil.example", true},
        {NULL, "127.0.0.1.evil.example:7860", true},
        {NULL, "localhost.evil.example", true},
        {NULL, "evil.example.", true},
        {"*", "evil.example", false},
        {"https://my.example", "my.example", false},
        {"https://my.example", "my.example:443", false},
        {"https://my.example", "not.my.example", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bt_origins o;
        bt_origin_claim c = {
            .host = cases[i].host, .n_host = strlen(cases[i].host), .loopback = true};
        CHECK_INT(bt__origins_parse(cases[i].list, &o, NULL), BT_OK);
        if (bt__origin_rebound(&o, &c) != cases[i].want) fprintf(stderr, "%s\n", cases[i].host);
        CHECK_INT(bt__origin_rebound(&o, &c), cases[i].want);
        c.proxy = true;
        CHECK(!bt__origin_rebound(&o, &c));
        c = (bt_origin_claim){.host = c.host, .n_host = c.n_host};
        CHECK(!bt__origin_rebound(&o, &c)); // not on loopback
    }
}

static void forwarded(void)
{
    bt_origins o = {0};
    bt_origin_claim c = {.origin = "https://box.example",
                         .host = "127.0.0.1:7860",
                         .n_host = 14,
                         .forwarded_host = "box.example, inner",
                         .proxy = true};
    CHECK_INT(bt__origin_judge(&o, &c), BT_ORIGIN_OWN);
    c.proxy = false;
    CHECK_INT(bt__origin_judge(&o, &c), BT_ORIGIN_FOREIGN);
}

static void lists(void)
{
    static const char *bad[] = {"example.org",
                                "https://",
                                "https://a.example/path",
                                "https://a b",
                                "://a.example",
                                "https://a.example:",
                                "https://a.example:x",
                                "https://a.example:0443",
                                "https://me@a.example",
                                "https://*.a.example",
                                "https://b\xc3\xbc"
                                "cher.example",
                                "https://[::2]x:"};
    bt_origins o;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bt_err err = {0};
        CHECK_INT(bt__origins_parse(bad[i], &o, &err), BT_EINVAL);
        CHECK(strstr(err.msg, bad[i]) != NULL);
    }
    CHECK_INT(bt__origins_parse(" ,, ", &o, NULL), BT_OK);
    CHECK(o.n == 0 && !o.any);
}

int main(void)
{
    RUN(pages);
    RUN(names);
    RUN(forwarded);
    RUN(lists);
    return TEST_END();
}
