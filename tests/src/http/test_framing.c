/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that have two readings, or none, over real sockets: one answer, and the connection's
 * end where the framing is in doubt. TIMEOUT 120 */
#include "src/http/serve.h"
#include "test.h"

enum { WAIT_MS = 10000 };
#define PROMPT "{\"prompt\":\"x\"}" // 14 bytes
#define ASK "POST /v1/completions HTTP/1.1\r\n"
#define POST ASK "Host: x\r\n"
#define GET "GET /health/live HTTP/1.1\r\n"
#define ALIVE GET "Host: x\r\n\r\n"
#define CHUNKS "e\r\n" PROMPT "\r\n0\r\n\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

static void start(void)
{
    bt_server_options opt = {.host = "127.0.0.1"};
    bt_accounts_options accounts = {0};
    start_with(&opt, &accounts);
}

/* status: of the last answer. closes: the server ends the connection after it by itself. */
typedef struct framing_case {
    const char *request;
    size_t len; // 0 = a string's
    int answers, status;
    bool closes;
} framing_case;

static const framing_case cases[] = {
    /* what is fine stays fine */
    {POST "Content-Length: 14\r\n\r\n" PROMPT, 0, 1, 200, false},
    {CHUNKED CHUNKS, 0, 1, 200, false},
    {POST "transfer-encoding:\tCHUNKED\r\n\r\ne;a=\"b\"\r\n" PROMPT "\r\n0\r\nX: y\r\n\r\n", 0, 1,
     200, false},
    {"\r\n" ALIVE ALIVE, 0, 2, 200, false},
    {"GET /health/live HTTP/1.0\r\n\r\n", 0, 1, 200, true},
    {"GET /health/live HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n" ALIVE, 0, 2, 200, false},
    {"GET /health/live HTTP/1.1\nHost: x\n\n", 0, 1, 200, false},
    {GET "Host:\r\nX-A: b c\t\xC3\xA9 \r\n\r\n", 0, 1, 200, false},
    {"GET http://somewhere:80/health/live?a=b HTTP/1.1\r\nHost: x\r\n\r\n", 0, 1, 200, false},
    {"GET HTTPS://x/nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 0, 1, 404, false},
    {"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", 0, 1, 200, false},
    {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 0, 1, 204, false},
    {GET "Host: x\r\nConnection: a, close\r\n\r\nnonsense\r\n", 0, 1, 200, true},
    /* Content-Length */
    {POST "Content-Length: 14\r\nContent-Length: 14\r\n\r\n" PROMPT, 0, 1, 200, false},
    {POST "Content-Length: 14\r\nContent-Length: 5\r\n\r\n" PROMPT, 0, 1, 400, true},
    {POST "Content-Length: 14, 14\r\n\r\n" PROMPT, 0, 1, 400, true},
    {POST "Content-Length: abc\r\n\r\n" PROMPT, 0, 1, 400, true},
    {POST "Content-Length: 14x\r\n\r\n" PROMPT, 0, 1, 400, true},
    {POST "Content-Length: -1\r\n\r\n" PROMPT, 0, 1, 400, true},
    {POST "Content-Length: +14\r\n\r\n" PROMPT, 0, 1, 400, true},
    {POST "Content-Length:\r\n\r\n" PROMPT, 0, 1, 400, true},
    {POST "Content-Length: 99999999999999999999\r\n\r\n" PROMPT, 0, 1, 413, true},
    {GET "Host: x\r\nContent-Length: abc\r\n\r\n", 0, 1, 400, true},
    /* Transfer-Encoding */
    {POST "Content-Length: 14\r\nTransfer-Encoding: chunked\r\n\r\n" CHUNKS, 0, 1, 400, true},
    {POST "Transfer-Encoding: chunked\r\nContent-Length: 14\r\n\r\n" CHUNKS, 0, 1, 400, true},
    {POST "Transfer-Encoding: identity\r\n\r\n" PROMPT, 0, 1, 400, true},
    {POST "Transfer-Encoding: gzip\r\n\r\n" CHUNKS, 0, 1, 400, true},
    {POST "Transfer-Encoding: chunked, gzip\r\n\r\n" CHUNKS, 0, 1, 400, true},
    {POST "Transfer-Encoding: gzip, chunked\r\n\r\n" CHUNKS, 0, 1, 501, true},
    {POST "Transfer-Encoding: chunked, chunked\r\n\r\n" CHUNKS, 0, 1, 400, true},
    {POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" CHUNKS, 0, 1, 400,
     true},
    {POST "Transfer-Encoding: xchunked\r\n\r\n" CHUNKS, 0, 1, 400, true},
    {"POST /v1/completions HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" CHUNKS, 0, 1,
     400, true},
    /* chunks */
    {CHUNKED "xyz\r\n" PROMPT, 0, 1, 400, true},
    {CHUNKED "0xe\r\n" PROMPT "\r\n0\r\n\r\n", 0, 1, 400, true},
    {CHUNKED "d\r\n" PROMPT "\r\n0\r\n\r\n", 0, 1, 400, true},
    {CHUNKED "e\n" PROMPT "\n0\n\n", 0, 1, 400, true},
    {CHUNKED "ffffffffffffffffffff\r\n" PROMPT, 0, 1, 413, true},
    {CHUNKED "e\r\n" PROMPT "\r\n0\r\nno trailer\r\n\r\n", 0, 1, 400, true},
    /* header lines */
    {POST "Content-Length : 14\r\n\r\n" PROMPT, 0, 1, 400, true},
    {GET "Host: x\r\nX-A\t: b\r\n\r\n", 0, 1, 400, true},
    {GET "Host: x\r\nno colon\r\n\r\n", 0, 1, 400, true},
    {GET "Host: x\r\n: b\r\n\r\n", 0, 1, 400, true},
    {GET "Host: x\r\nX-A: b\r\n Content-Length: 14\r\n\r\n", 0, 1, 400, true},
    {GET " Host: x\r\n\r\n", 0, 1, 400, true},
    {GET "Host: x\r\nX-A: b\rContent-Length: 14\r\n\r\n", 0, 1, 400, true},
    {GET "Host: x\r\nX-A: \0b\r\n\r\n", sizeof GET - 1 + 19, 1, 400, true},
    /* Host */
    {GET "\r\n", 0, 1, 400, true},
    {GET "Host: x\r\nHost: x\r\n\r\n", 0, 1, 400, true},
    {GET "Host: a b\r\n\r\n", 0, 1, 400, true},
    {GET "Host: a/b\r\n\r\n", 0, 1, 400, true},
    {GET "Host: u@a\r\n\r\n", 0, 1, 400, true},
    /* first lines */
    {"hello\r\n\r\n", 0, 1, 400, true},
    {"\x16\x03\x01\x02\r\n\r\n", 0, 1, 400, true},
    {"GET /health/live\r\n\r\n", 0, 1, 400, true},
    {"GET /health/live http/1.1\r\nHost: x\r\n\r\n", 0, 1, 400, true},
    {"GET  /health/live HTTP/1.1\r\nHost: x\r\n\r\n", 0, 1, 400, true},
    {"GET /health /live HTTP/1.1\r\nHost: x\r\n\r\n", 0, 1, 400, true},
    {"GET health HTTP/1.1\r\nHost: x\r\n\r\n", 0, 1, 400, true},
    {"GET * HTTP/1.1\r\nHost: x\r\n\r\n", 0, 1, 400, true},
    {"GET /health%00/live HTTP/1.1\r\nHost: x\r\n\r\n", 0, 1, 400, true},
    {"G(T /health/live HTTP/1.1\r\nHost: x\r\n\r\n", 0, 1, 400, true},
    {"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 0, 1, 501, true},
    {"GET /health/live HTTP/2.0\r\nHost: x\r\n\r\n", 0, 1, 505, true},
    /* behind requests that are fine: those are answered first */
    {ALIVE POST "Content-Length: abc\r\n\r\n" PROMPT, 0, 2, 400, true},
    {ALIVE ALIVE "hello\r\n", 0, 3, 400, true},
    {POST "Content-Length: 14\r\n\r\n" PROMPT "hello\r\n", 0, 2, 400, true},
    {CHUNKED CHUNKS CHUNKED "xyz\r\n", 0, 2, 400, true},
};

static int heads(const char *text)
{
    int n = 0;
    for (const char *at = text; at && (at = strstr(at, "HTTP/1.1 ")); at += 9)
        n += strspn(at + 9, "0123456789") == 3;
    return n;
}

/* `step` bytes at a time. */
static void expect_case(const framing_case *k, size_t step)
{
    client c = client_open(port);
    size_t n = k->len ? k->len : strlen(k->request);
    for (size_t at = 0; at < n; at += step) {
        if (step < n) bt_sleep_ns(50000);
        if (!client_send(&c, k->request + at, step < n - at ? step : n - at)) break;
    }
    int status = 0, answers = 0;
    while (answers < k->answers) {
        reply r = client_reply(&c, false, WAIT_MS);
        if (!(status = r.status)) break;
        answers++;
        if (status >= 400 && k->closes) {
            char text[16] = "";
            CHECK(reply_header(&r, "Connection", text, sizeof text));
            CHECK_STR(text, "close");
            CHECK(r.body.len > 0 && !r.cut);
        }
        reply_free(&r);
    }
    bool more = !k->closes && client_more(&c, bt_now_ns() + 20000000);
    if (k->closes) {
        shutdown(c.fd, SHUT_WR);
        while (client_more(&c, bt_now_ns() + (int64_t)WAIT_MS * 1000000)) {
        }
    } else {
        CHECK(!more);
        client_sends(&c, ALIVE);
        reply r = client_reply(&c, false, WAIT_MS);
        CHECK_INT(r.status, 200);
        reply_free(&r);
    }
    int extra = heads(c.in.data);
    if (status != k->status || answers != k->answers || extra)
        fprintf(stderr, "%.*s\n-> %d answers and %d more, the last %d\n", (int)n, k->request,
                answers, extra, status);
    CHECK_INT(status, k->status);
    CHECK_INT(answers, k->answers);
    CHECK_INT(extra, 0);
    client_close(&c);
}

static void whole(void)
{
    start();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) expect_case(&cases[i], SIZE_MAX);
    stop();
}

static void in_pieces(void)
{
    start();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_case(&cases[i], 1);
        expect_case(&cases[i], 7);
    }
    stop();
}

/* The client does not have to hang up, or to stop sending, to hear why, and is not kept. */
static void refused_clients_are_let_go(void)
{
    static char block[65536];
    start();
    client quiet = client_open(port), loud = client_open(port);
    client_sends(&quiet, GET "\r\n");
    client_sends(&loud, POST "Content-Length: 10000000x\r\n\r\n");
    for (int i = 0; i < 40 && client_send(&loud, block, sizeof block); i++) bt_sleep_ns(1000000);
    reply r = client_reply(&loud, false, WAIT_MS);
    CHECK_INT(r.status, 400);
    reply_free(&r);
    CHECK(client_closed(&quiet, 5000));
    int64_t end = bt_now_ns() + 5000000000;
    while (bt_now_ns() < end && client_send(&loud, block, 1)) bt_sleep_ns(20000000);
    CHECK(bt_now_ns() < end);
    client_close(&quiet);
    client_close(&loud);
    stop();
}

/* Behind a generation that takes its time: it is not disturbed, and answered first. */
static void behind_a_generation(void)
{
    start();
    fake.plan = PLAN_ACCEPT;
    client c = client_open(port);
    client_sends(&c, POST "Content-Length: 14\r\n\r\n" PROMPT "hello\r\n");
    while (atomic_load(&fake.n_streams) < 1) bt_sleep_ns(1000000);
    bt_sleep_ns(600000000); // longer than it takes to look for those that are due
    CHECK(!c.in.len && !client_more(&c, bt_now_ns() + 1000000));
    CHECK(!atomic_load(&fake.stream[0]->cancelled));
    fake_put(fake.stream[0], fake_end(0, "there", BT_FINISH_EOS));
    fake_put(fake.stream[0], fake_done(BT_OK, BT_FINISH_EOS));
    reply r = client_reply(&c, false, WAIT_MS);
    CHECK_INT(r.status, 200);
    CHECK(strstr(r.body.data, "there") != NULL);
    reply_free(&r);
    r = client_reply(&c, false, WAIT_MS);
    CHECK_INT(r.status, 400);
    reply_free(&r);
    client_close(&c);
    stop();
}

int main(void)
{
    RUN(whole);
    RUN(in_pieces);
    RUN(refused_clients_are_let_go);
    RUN(behind_a_generation);
    return TEST_END();
}
