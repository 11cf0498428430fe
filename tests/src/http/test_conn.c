/* SPDX-License-Identifier: Apache-2.0 */
/* How many connections and bodies one client gets, over real sockets. TIMEOUT 120 */
#include "src/http/serve.h"
#include "test.h"
#include <sys/stat.h>

enum { WAIT_MS = 10000, MIB = 1 << 20 };
#define CHAT "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"
#define CHAT_STREAM "{\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"
#define KEY "Authorization: Bearer user-secret\r\n"

static void start(int32_t connections, int32_t of_an_address)
{
    bt_server_options opt = {.connections_max = connections,
                             .address_connections_max = of_an_address,
                             .body_bytes_max = MIB};
    start_keyed(opt, (bt_accounts_options){0});
}

/* The status of one more answer on c; its body must hold text (NULL: anything). */
static int answer(client *c, const char *text)
{
    reply r = client_reply(c, false, WAIT_MS);
    int status = r.status;
    if (text && !strstr(r.body.data, text)) {
        fprintf(stderr, "%d %s\n", status, r.body.data);
        status = -status;
    }
    reply_free(&r);
    return status;
}

static int health_from(int last)
{
    client c = client_open_from(port, last);
    client_request(&c, "GET", "/health", "", NULL);
    int status = answer(&c, NULL);
    client_close(&c);
    return status;
}

/* A connection with a stream that does not end. */
static client stream_from(int last, const char *headers)
{
    client c = client_open_from(port, last);
    int before = atomic_load(&fake.n_streams);
    client_request(&c, "POST", "/v1/chat/completions", headers, CHAT_STREAM);
    for (int i = 0; i < WAIT_MS && atomic_load(&fake.n_streams) == before; i++)
        bt_sleep_ns(1000000);
    REQUIRE(atomic_load(&fake.n_streams) == before + 1);
    return c;
}

static int cancelled(int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++) sum += atomic_load(&fake.stream[i]->cancelled);
    return sum;
}

static void idle_connections_give_way(void)
{
    enum { N = 8 };
    client in[N + 1];
    start(N, N);
    for (int i = 0; i <= N; i++) {
        in[i] = client_open(port);
        client_request(&in[i], "GET", "/health", "", NULL);
        CHECK_INT(answer(&in[i], NULL), 200);
    }
    CHECK(client_closed(&in[0], WAIT_MS)); // the oldest
    for (int i = 1; i <= N; i++) {
        client_request(&in[i], "GET", "/health", "", NULL);
        CHECK_INT(answer(&in[i], NULL), 200);
    }
    for (int i = 0; i <= N; i++) client_close(&in[i]);
    stop();
}

/* All places have streams: one more of the same address is told so; another address displaces one.
 */
static void the_largest_address_gives_way(void)
{
    enum { N = 8 };
    client in[N];
    start(N, N);
    fake.plan = PLAN_ACCEPT;
    for (int i = 0; i < N; i++) in[i] = stream_from(1, "");
    client more = client_open(port);
    CHECK_INT(answer(&more, "too_many_connections"), 429);
    client_close(&more);
    CHECK_INT(cancelled(N), 0);
    client other = stream_from(2, "");
    for (int i = 0; i < WAIT_MS && cancelled(N) == 0; i++) bt_sleep_ns(1000000);
    CHECK_INT(cancelled(N), 1);
    CHECK_INT(health_from(3), 200);
    client_close(&other);
    for (int i = 0; i < N; i++) client_close(&in[i]);
    stop();
}

static void an_address_has_its_limit(void)
{
    enum { N = 8 };
    client in[N];
    start(64, N);
    fake.plan = PLAN_ACCEPT;
    for (int i = 0; i < N; i++) in[i] = stream_from(1, "");
    client more = client_open(port);
    CHECK_INT(answer(&more, "this address has 8 connections"), 429);
    client_close(&more);
    CHECK_INT(health_from(2), 200);
    CHECK_INT(cancelled(N), 0);
    client_close(&in[0]);
    for (int i = 0; i < WAIT_MS && cancelled(N) == 0; i++) bt_sleep_ns(1000000);
    bt_sleep_ns(50000000);
    CHECK_INT(health_from(1), 200);
    for (int i = 1; i < N; i++) client_close(&in[i]);
    stop();
}

/* Requests that trickle give way to newcomers of their own address, too. */
static void slow_senders_give_way(void)
{
    enum { N = 8 };
    client in[N];
    start(64, N);
    for (int i = 0; i < N; i++) {
        in[i] = client_open(port);
        client_sends(&in[i], "POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
                             "Content-Length: 100\r\n\r\n{");
    }
    bt_sleep_ns(100000000);
    CHECK_INT(health_from(1), 200);
    CHECK(client_closed(&in[0], WAIT_MS));
    for (int i = 0; i < N; i++) client_close(&in[i]);
    stop();
}

/* A crowd of one address that sends nothing costs its own connections, not those that others keep.
 */
static void a_crowd_gives_way_before_others(void)
{
    enum { N = 32 };
    client crowd[2 * N];
    start(N, N);
    client keeps = client_open_from(port, 2);
    for (int i = 0; i < 2 * N; i++) {
        crowd[i] = client_open(port);
        if (i % 16) continue;
        client_request(&keeps, "GET", "/health", "", NULL);
        CHECK_INT(answer(&keeps, NULL), 200);
    }
    CHECK(client_closed(&crowd[0], WAIT_MS));
    for (int i = 0; i < 2 * N; i++) client_close(&crowd[i]);
    client_close(&keeps);
    stop();
}

/* A trusted proxy has as many connections as there are; each client that it names has its share. */
static void clients_behind_a_proxy(void)
{
    enum { N = 8 };
    client in[N + 2];
    bt_server_options opt = {.connections_max = 64, .address_connections_max = N};
    bt_accounts_options accounts = {.trusted_proxy = "127.0.0.1"};
    start_keyed(opt, accounts);
    fake.plan = PLAN_ACCEPT;
    for (int i = 0; i < N; i++) in[i] = stream_from(1, "X-Forwarded-For: 198.51.100.1\r\n");
    client more = client_open(port);
    client_request(&more, "POST", "/v1/chat/completions", "X-Forwarded-For: 198.51.100.1\r\n",
                   CHAT);
    CHECK_INT(answer(&more, "this address has 8 requests under way"), 429);
    client_close(&more);
    in[N] = stream_from(1, "X-Forwarded-For: 198.51.100.2\r\n");
    in[N + 1] = stream_from(1, "X-Forwarded-For: 198.51.100.1\r\n" KEY);
    for (int i = 0; i < N + 2; i++) client_close(&in[i]);
    for (int i = 0; i < WAIT_MS && cancelled(N + 2) < N + 2; i++) bt_sleep_ns(1000000);
    bt_sleep_ns(50000000);
    client again = stream_from(1, "X-Forwarded-For: 198.51.100.1\r\n");
    client_close(&again);
    stop();
}

/* ---- bodies */

static void head_of(client *c, const char *path, const char *headers, size_t length)
{
    char head[512];
    snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n",
             path, headers, length);
    client_sends(c, head);
}

static int whole_from(int last, const char *headers)
{
    client c = client_open_from(port, last);
    client_request(&c, "POST", "/v1/chat/completions", headers, CHAT);
    int status = answer(&c, NULL);
    client_close(&c);
    return status;
}

/* Connections that hold large bodies stop nobody: neither small bodies, nor large ones with a key.
 */
static void large_bodies_are_bounded(void)
{
    enum { N = 8, ADDRESSES = 6 };
    client in[N], others[ADDRESSES];
    int held = 0;
    start(64, 32);
    for (int i = 0; i < N; i++) {
        in[i] = client_open(port);
        head_of(&in[i], "/v1/completions", "", MIB);
        if (i == 0)
            client_sends(&in[i], "{\"prompt\":\"");
        else
            CHECK_INT(answer(&in[i], "too_many_bodies"), 429); // at once
    }
    for (int i = 0; i < ADDRESSES; i++) {
        others[i] = client_open_from(port, 10 + i);
        head_of(&others[i], "/v1/completions", "Expect: 100-continue\r\n", MIB);
        held += client_wait(&others[i], "100 Continue", 300);
    }
    CHECK_INT(held, 2); // with the first: strangers have less than half
    CHECK_INT(whole_from(1, ""), 200);
    CHECK_INT(whole_from(10, ""), 200);
    CHECK_INT(whole_from(20, ""), 200);
    client paying = client_open(port);
    head_of(&paying, "/v1/completions", KEY "Expect: 100-continue\r\n", MIB);
    CHECK(client_wait(&paying, "100 Continue", WAIT_MS));
    client_close(&paying);
    for (int i = 0; i < N; i++) client_close(&in[i]);
    for (int i = 0; i < ADDRESSES; i++) client_close(&others[i]);
    bt_sleep_ns(100000000);
    client c = client_open(port);
    client_request(&c, "GET", "/metrics", "", NULL);
    CHECK_INT(answer(&c, "baton_http_body_bytes 0\n"), 200);
    client_close(&c);
    stop();
}

static void routes_without_a_body(void)
{
    static char junk[BUFSIZ];
    memset(junk, 'x', sizeof junk);
    start(64, 32);
    client c = client_open(port);
    for (int i = 0; i < 2; i++) { // a small one is read and forgotten
        client_sends(&c, "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 8192\r\n\r\n");
        client_send(&c, junk, 8192);
        CHECK_INT(answer(&c, NULL), 200);
    }
    client_sends(&c, "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
    CHECK_INT(answer(&c, "takes no request body"), 413);
    CHECK(client_closed(&c, WAIT_MS));
    client_close(&c);
    c = client_open(port);
    client_sends(&c, "GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 64; i++) {
        if (!client_sends(&c, "2000\r\n") || !client_send(&c, junk, 8192)) break;
        client_sends(&c, "\r\n");
    }
    CHECK_INT(answer(&c, "takes no request body"), 413);
    client_close(&c);
    stop();
}

/* Who may not is told before a body comes, and hears it whatever is still on its way. */
static void identity_before_bodies(void)
{
    static char block[65536];
    memset(block, ' ', sizeof block);
    start_keyed((bt_server_options){0}, (bt_accounts_options){.require_key = true});
    int64_t from = bt_now_ns();
    client c = client_open(port);
    head_of(&c, "/v1/completions", "", 8 * MIB);
    CHECK_INT(answer(&c, "needs an API key"), 401);
    CHECK(bt_now_ns() - from < 500000000);
    client_close(&c);
    c = client_open(port);
    head_of(&c, "/v1/completions", "Expect: 100-continue\r\n", 10);
    CHECK_INT(answer(&c, "needs an API key"), 401);
    CHECK(!client_wait(&c, "100 Continue", 50));
    client_close(&c);
    c = client_open(port); // small, and never sent: the answer does not wait for it
    head_of(&c, "/v1/completions", "", 100);
    CHECK_INT(answer(&c, "needs an API key"), 401);
    CHECK(bt_now_ns() - from < 3000000000);
    client_close(&c);
    c = client_open(port); // sent to the end, as clients do that do not read meanwhile
    head_of(&c, "/v1/completions", "", 8 * MIB);
    bool sent = true;
    for (int i = 0; i < 128 && sent; i++) sent = client_send(&c, block, sizeof block);
    CHECK(sent);
    CHECK_INT(answer(&c, "needs an API key"), 401);
    client_close(&c);
    c = client_open(port);
    head_of(&c, "/v1/completions", KEY "Expect: 100-continue\r\n", strlen(CHAT));
    CHECK(client_wait(&c, "100 Continue\r\n\r\n", WAIT_MS));
    client_close(&c);
    stop();
}

/* A body that trickles is cut and told so; one that keeps up its rate may take longer than the
 * grace. */
static void slow_bodies(void)
{
    bt_server_options opt = {.request_timeout_ms = 500, .body_rate = 1000};
    start_keyed(opt, (bt_accounts_options){0});
    client slow = client_open(port), head = client_open(port), fair = client_open(port);
    head_of(&slow, "/v1/completions", "", 10000);
    client_sends(&head, "POST /v1/completions HTTP/1.1\r\nHost: ");
    head_of(&fair, "/v1/chat/completions", "", 1500 + strlen(CHAT));
    int64_t from = bt_now_ns();
    for (int i = 0; i < 15; i++) {
        char pad[100];
        memset(pad, ' ', sizeof pad);
        client_send(&fair, pad, sizeof pad);
        client_send(&slow, pad, 1);
        client_send(&head, pad, 1);
        bt_sleep_ns(80000000);
    }
    CHECK(bt_now_ns() - from > 1000000000);
    client_sends(&fair, CHAT);
    CHECK_INT(answer(&fair, NULL), 200);
    CHECK_INT(answer(&slow, "too slowly"), 408);
    CHECK_INT(answer(&head, "too slowly"), 408);
    CHECK(client_closed(&slow, WAIT_MS) && client_closed(&head, WAIT_MS));
    client_close(&slow);
    client_close(&head);
    client_close(&fair);
    stop();
}

int main(void)
{
    RUN(idle_connections_give_way);
    RUN(the_largest_address_gives_way);
    RUN(an_address_has_its_limit);
    RUN(slow_senders_give_way);
    RUN(a_crowd_gives_way_before_others);
    RUN(clients_behind_a_proxy);
    RUN(large_bodies_are_bounded);
    RUN(routes_without_a_body);
    RUN(identity_before_bodies);
    RUN(slow_bodies);
    return TEST_END();
}
