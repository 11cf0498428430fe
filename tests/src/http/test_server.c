/* SPDX-License-Identifier: Apache-2.0 */
/* The server over real sockets, with a scripted front behind it. TIMEOUT 120 */
#include "src/http/serve.h"
#include "test.h"
#include <sys/stat.h>

enum { WAIT_MS = 10000 };
#define CHAT "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"
#define CHAT_STREAM "{\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"

static void start(void)
{
    bt_server_options opt = {
        .host = "127.0.0.1", .model_path = "/m/stories.gguf", .body_bytes_max = 1 << 20};
    bt_accounts_options accounts = {.owner_token = "owner-secret"};
    start_with(&opt, &accounts);
}

static reply ask(const char *method, const char *path, const char *headers, const char *body)
{
    client c = client_open(port);
    client_request(&c, method, path, headers, body);
    reply r = client_reply(&c, strcmp(method, "HEAD") == 0, WAIT_MS);
    client_close(&c);
    return r;
}

static void expect(const char *method, const char *path, const char *headers, const char *body,
                   int status, const char *text)
{
    reply r = ask(method, path, headers, body);
    if (r.status != status || (text && !strstr(r.body.data, text)))
        fprintf(stderr, "%s %s: %d %s\n", method, path, r.status, r.body.data);
    CHECK_INT(r.status, status);
    CHECK(!text || strstr(r.body.data, text) != NULL);
    char value[128];
    CHECK(reply_header(&r, "x-request-id", value, sizeof value));
    reply_free(&r);
}

static void expect_header(const reply *r, const char *name, const char *want)
{
    char value[256] = "(absent)";
    reply_header(r, name, value, sizeof value);
    CHECK_STR(value, want);
}

/* Waits until a stream was submitted, and returns it. */
static bt_stream *submitted(int index)
{
    for (int i = 0; i < WAIT_MS && atomic_load(&fake.n_streams) <= index; i++) bt_sleep_ns(1000000);
    REQUIRE(atomic_load(&fake.n_streams) > index);
    return fake.stream[index];
}

static double until_cancelled_ms(bt_stream *s)
{
    int64_t from = bt_now_ns();
    while (!atomic_load(&s->cancelled) && bt_now_ns() - from < 5000000000) bt_sleep_ns(100000);
    return (double)(bt_now_ns() - from) / 1e6;
}

/* Thousands wait, and what runs comes last: the owner sees all. */
static void a_long_queue_is_shown_whole(void)
{
    start();
    fake.n_waiting = 3000;
    reply r = ask("GET", "/v1/queue", "Authorization: Bearer owner-secret\r\n", NULL);
    CHECK_INT(r.status, 200);
    CHECK(strstr(r.body.data, "\"position\":3001") != NULL);
    CHECK(strstr(r.body.data, "\"slot\":1") != NULL);
    reply_free(&r);
    stop();
}

static void plain_routes(void)
{
    start();
    expect("GET", "/health", "", NULL, 200, "\"status\":\"ok\"");
    expect("GET", "/health/live", "", NULL, 200, "ok");
    expect("GET", "/health/ready", "", NULL, 200, "\"ready\":true");
    expect("GET", "/v1/version", "", NULL, 200, "version");
    expect("GET", "/v1/models", "", NULL, 200, "{\"object\":\"list\",\"data\":[{\"id\":\"tiny\"");
    expect("GET", "/v1/models/tiny", "", NULL, 200, "\"object\":\"model\"");
    expect("GET", "/v1/models/org/tiny", "", NULL, 200, "\"id\":\"tiny\"");
    expect("GET", "/v1/models/gpt-4", "", NULL, 404, "model_not_found");
    expect("GET", "/metrics", "", NULL, 200, "baton_http_requests_total");
    expect("GET", "/", "", NULL, 200, "</html>");
    expect("GET", "/?x=1", "", NULL, 200, "</html>");
    expect("GET", "/nope", "", NULL, 404, "not_found");
    expect("POST", "/nope", "", "{}", 404, "not_found");
    expect("GET", "/v1/queue", "", NULL, 200, "\"position\":2");
    fake.ready = false;
    expect("GET", "/health", "", NULL, 503, "loading model");
    expect("GET", "/health/live", "", NULL, 200, "ok");
    expect("GET", "/health/ready", "", NULL, 503, "\"load_done\":10");
    stop();
}

static void methods(void)
{
    char value[256];
    start();
    reply r = ask("GET", "/v1/chat/completions", "", NULL);
    CHECK_INT(r.status, 405);
    expect_header(&r, "Allow", "POST, OPTIONS");
    reply_free(&r);
    r = ask("DELETE", "/health", "", NULL);
    CHECK_INT(r.status, 405);
    expect_header(&r, "Allow", "GET, HEAD, OPTIONS");
    reply_free(&r);
    r = ask("OPTIONS", "/v1/chat/completions",
            "Origin: http://a\r\nAccess-Control-Request-Headers: authorization\r\n", NULL);
    CHECK_INT(r.status, 204);
    expect_header(&r, "Access-Control-Allow-Methods", "POST, OPTIONS");
    expect_header(&r, "Access-Control-Allow-Origin", "*");
    reply_free(&r);
    r = ask("HEAD", "/health", "", NULL);
    CHECK_INT(r.status, 200);
    CHECK(reply_header(&r, "Content-Length", value, sizeof value) && atoi(value) > 10);
    reply_free(&r);
    stop();
}

static void keep_alive_and_pipelining(void)
{
    start();
    client c = client_open(port);
    for (int i = 0; i < 3; i++) {
        client_request(&c, "GET", "/health", "", NULL);
        reply r = client_reply(&c, false, WAIT_MS);
        CHECK_INT(r.status, 200);
        reply_free(&r);
    }
    client_request(&c, "HEAD", "/health", "", NULL);
    reply head = client_reply(&c, true, WAIT_MS);
    CHECK_INT(head.status, 200);
    reply_free(&head);
    /* a refused body is read to its end, so that the connection lives on */
    client_request(&c, "POST", "/nope", "", "{\"a\":1}");
    reply gone = client_reply(&c, false, WAIT_MS);
    CHECK_INT(gone.status, 404);
    reply_free(&gone);
    client_sends(&c,
                 "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
                 "GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n"
                 "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 45\r\n\r\n" CHAT
                 "GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n");
    static const char *const want[] = {"\"ready\":true", "\"version\"", "Hello world", "\"tiny\""};
    CHECK_INT(strlen(CHAT), 45);
    for (int i = 0; i < 4; i++) {
        reply r = client_reply(&c, false, WAIT_MS);
        CHECK_INT(r.status, 200);
        CHECK(strstr(r.body.data, want[i]) != NULL);
        reply_free(&r);
    }
    client_close(&c);
    stop();
}

static void split_bytes(void)
{
    static const char text[] =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 45\r\n\r\n" CHAT;
    start();
    client c = client_open(port);
    for (size_t i = 0; i < sizeof text - 1; i++) {
        client_send(&c, text + i, 1);
        if (i % 16 == 0) bt_sleep_ns(200000);
    }
    reply r = client_reply(&c, false, WAIT_MS);
    CHECK_INT(r.status, 200);
    CHECK(strstr(r.body.data, "Hello world") != NULL);
    reply_free(&r);
    client_close(&c);
    stop();
}

static void bad_requests(void)
{
    start();
    expect("POST", "/v1/chat/completions", "", "{\"messages\":[}", 400, "at byte 13");
    expect("POST", "/v1/chat/completions", "", "", 400, "invalid");
    expect("POST", "/v1/chat/completions", "", "{}", 400, "\"param\":\"messages\"");
    expect("POST", "/v1/completions", "", "{\"prompt\":\"x\",\"temperature\":\"hot\"}", 400,
           "\"param\":\"temperature\"");
    expect("POST", "/v1/completions", "", "{\"prompt\":\"x\",\"model\":\"gpt-4\"}", 404,
           "\"code\":\"model_not_found\"");
    expect("POST", "/v1/completions", "", "{\"prompt\":\"x\",\"model\":\"stories\"}", 200,
           "Hello world");
    expect("POST", "/v1/completions", "X-Baton-Lease: soon\r\n", "{\"prompt\":\"x\"}", 400,
           "X-Baton-Lease");
    CHECK_INT(atomic_load(&fake.n_streams), 1);
    expect("POST", "/v1/completions", "X-Baton-Lease: 7.5\r\n", "{\"prompt\":\"x\"}", 200, NULL);
    CHECK_NEAR(fake.last.lease_seconds, 7.5, 0);
    expect("POST", "/v1/completions", "X-Baton-Lease: 7.5\r\n",
           "{\"prompt\":\"x\",\"lease_seconds\":3}", 200, NULL);
    CHECK_NEAR(fake.last.lease_seconds, 3, 0);
    stop();
}

static void too_large(void)
{
    start();
    client c = client_open(port);
    client_sends(&c, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n");
    reply r = client_reply(&c, false, WAIT_MS);
    CHECK_INT(r.status, 413);
    CHECK(strstr(r.body.data, "1048576 bytes") != NULL);
    reply_free(&r);
    CHECK(client_closed(&c, WAIT_MS));
    client_close(&c);
    /* the length unknown: refused when the limit is passed */
    c = client_open(port);
    client_sends(&c,
                 "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    char *block = malloc(65536);
    memset(block, ' ', 65536);
    for (int i = 0; i < 17; i++) {
        client_sends(&c, "10000\r\n");
        client_send(&c, block, 65536);
        client_sends(&c, "\r\n");
    }
    client_sends(&c, "0\r\n\r\n");
    r = client_reply(&c, false, WAIT_MS);
    CHECK_INT(r.status, 413);
    reply_free(&r);
    client_close(&c);
    /* a head that does not fit */
    c = client_open(port);
    client_sends(&c, "GET /health HTTP/1.1\r\nX-Long: ");
    client_send(&c, block, 20000);
    client_sends(&c, "x\r\n\r\n");
    r = client_reply(&c, false, WAIT_MS);
    CHECK(r.status == 431 || r.status == 0); // MHD answers, then closes with bytes unread
    reply_free(&r);
    client_close(&c);
    free(block);
    expect("GET", "/health", "", NULL, 200, NULL);
    stop();
}

/* A body that is parsed by the helper thread, and a large prompt arrives whole. */
static void large_body(void)
{
    start();
    bt_buf b = BT_BUF_INIT;
    bt_buf_adds(&b, "{\"prompt\":\"");
    for (int i = 0; i < 60000; i++) bt_buf_adds(&b, "abcdefgh ");
    bt_buf_adds(&b, "\"}");
    expect("POST", "/v1/completions", "", b.data, 200, "Hello world");
    CHECK_INT(fake.last.n_text, 540000);
    b.data[b.len - 1] = ']';
    expect("POST", "/v1/completions", "", b.data, 400, "invalid JSON");
    bt_buf_release(&b);
    stop();
}

static void identities(void)
{
    bt_server_options opt = {.host = "127.0.0.1"};
    bt_accounts_options accounts = {.owner_token = "owner-secret", .require_key = true};
    start_keyed(opt, accounts);
    reply r = ask("POST", "/v1/chat/completions", "", CHAT);
    CHECK_INT(r.status, 401);
    expect_header(&r, "WWW-Authenticate", "Bearer realm=\"baton\"");
    CHECK(strstr(r.body.data, "authentication_error") != NULL);
    reply_free(&r);
    expect("POST", "/v1/chat/completions", "Authorization: Bearer wrong\r\n", CHAT, 401, NULL);
    expect("POST", "/v1/chat/completions", "Authorization: Bearer user-secret\r\n", CHAT, 200,
           "\"account\":\"key:alice\",\"tier\":\"pro\"");
    expect("POST", "/v1/chat/completions", "X-Api-Key: user-secret\r\n", CHAT, 200, NULL);
    expect("GET", "/v1/quota", "", NULL, 401, NULL);
    r = ask("GET", "/v1/quota", "X-Api-Key: user-secret\r\n", NULL);
    CHECK_INT(r.status, 200);
    CHECK(strstr(r.body.data, "\"limit_us\":210000000,\"used_us\":10000000,\"held_us\":0,"
                              "\"remaining_us\":200000000,"
                              "\"window_started_at\":\"2026-01-02T03:04:05Z\","
                              "\"resets_at\":\"2026-01-03T03:04:05Z\"}") != NULL);
    expect_header(&r, "x-ratelimit-limit-gpu-ms", "210000");
    expect_header(&r, "x-ratelimit-remaining-gpu-ms", "200000");
    reply_free(&r);
    expect("GET", "/v1/accounts", "X-Api-Key: user-secret\r\n", NULL, 403, "permission_error");
    expect("GET", "/v1/accounts", "X-Api-Key: owner-secret\r\n", NULL, 200,
           "\"account\":\"key:bob\"");
#define OWNER "Authorization: Bearer owner-secret\r\n"
    expect("POST", "/v1/accounts/key:bob", OWNER, "{\"limit_us\":5,\"reset\":true}", 200,
           "\"limit_override_us\":5");
    CHECK_INT(fake.resets, 1);
    expect("POST", "/v1/accounts/key:bob", OWNER, "{\"limit_us\":null}", 200,
           "\"limit_override_us\":null");
    CHECK_INT(fake.set_limit_us, -1);
    expect("POST", "/v1/accounts/key:bob", OWNER, "{}", 400, "nothing to change");
    expect("POST", "/v1/accounts/key:bob", OWNER, "{\"limit_us\":-5}", 400, "limit_us");
    expect("POST", "/v1/accounts/nobody", OWNER, "{\"reset\":true}", 404, "no account");
    expect("GET", "/health", "", NULL, 200, NULL); // public
    stop();
}

/* Behind a proxy the hop it added counts, not what the client claims in a header of its own. */
static void forwarded(void)
{
    bt_server_options opt = {.host = "127.0.0.1"};
    bt_accounts_options accounts = {.trusted_proxy = "127.0.0.1/32"};
    start_with(&opt, &accounts);
    expect("GET", "/v1/quota", "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n", NULL,
           200, "\"account\":\"ip:2.2.2.2\"");
    expect("GET", "/v1/quota", "X-Forwarded-For: 1.1.1.1, 3.3.3.3\r\n", NULL, 200, "ip:3.3.3.3");
    expect("GET", "/v1/quota", "", NULL, 200, "ip:127.0.0.1");
    stop();
}

/* At the limit new connections wait or are closed; who is in is served, and a place left is taken
 * again. */
static void tokenizing(void)
{
    start();
    expect("POST", "/tokenize", "", "{\"content\":\"ab\"}", 200, "{\"tokens\":[97,98]}");
    expect("POST", "/tokenize", "", "{\"content\":\"a\",\"add_special\":true,\"with_pieces\":true}",
           200, "{\"tokens\":[{\"id\":1,\"piece\":\"<s>\"},{\"id\":97,\"piece\":\"a\"}]}");
    expect("POST", "/tokenize", "", "{\"content\":[\"a\",7,\"b\"],\"add_special\":true}", 200,
           "{\"tokens\":[1,97,7,98]}");
    expect("POST", "/tokenize", "", "{\"content\":[{}]}", 400, "place 0");
    expect("POST", "/tokenize", "", CHAT, 200, "{\"tokens\":[91,123,");
    expect("POST", "/tokenize", "", "{\"content\":5}", 400, "content");
    expect("POST", "/tokenize", "", "{}", 400, "content");
    expect("POST", "/detokenize", "", "{\"tokens\":[104,105]}", 200, "{\"content\":\"hi\"}");
    expect("POST", "/detokenize", "", "{\"tokens\":[104,999]}", 400, "vocabulary");
    expect("POST", "/detokenize", "", "{\"tokens\":[\"x\"]}", 400, "tokens");
    expect("POST", "/apply-template", "", CHAT, 200,
           "{\"prompt\":\"[{\\\"role\\\":\\\"user\\\",\\\"content\\\":\\\"hi\\\"}]\"}");
    expect("POST", "/apply-template", "", "{\"messages\":[{\"role\":\"raise\",\"content\":\"\"}]}",
           400, "roles must alternate");
    expect("POST", "/apply-template", "", "{}", 400, "\"param\":\"messages\"");
    stop();
}

static void answers(void)
{
    start();
    reply r = ask("POST", "/v1/chat/completions", "", CHAT);
    CHECK_INT(r.status, 200);
    expect_header(&r, "Content-Type", "application/json");
    expect_header(&r, "x-ratelimit-remaining-gpu-ms", "200000");
    CHECK(strstr(r.body.data, "\"content\":\"Hello world\"") != NULL);
    char id[64] = "";
    CHECK(reply_header(&r, "x-request-id", id, sizeof id));
    CHECK(strstr(r.body.data, id) != NULL); // the same name in baton.request_id
    reply_free(&r);
    r = ask("POST", "/v1/chat/completions", "", CHAT_STREAM);
    CHECK_INT(r.status, 200);
    expect_header(&r, "Content-Type", "text/event-stream; charset=utf-8");
    expect_header(&r, "X-Accel-Buffering", "no");
    expect_header(&r, "Cache-Control", "no-cache");
    expect_header(&r, "x-ratelimit-limit-gpu-ms", "210000");
    CHECK(!r.cut);
    /* No blank line after a comment: there are readers to whom any blank line ends an event. */
    CHECK(strstr(r.body.data, ": queue position=3 eta_ms=1200\n: prefill ") != NULL);
    CHECK(strstr(r.body.data, "\"charged_us\":90000") != NULL);
    CHECK(r.body.len > 14 && strcmp(r.body.data + r.body.len - 14, "data: [DONE]\n\n") == 0);
    reply_free(&r);
    stop();
}

static void refusals(void)
{
    start();
    fake.plan = PLAN_REFUSE;
    fake.refuse_status = BT_EQUOTA;
    reply r = ask("POST", "/v1/chat/completions", "", CHAT_STREAM);
    CHECK_INT(r.status, 429);
    expect_header(&r, "x-should-retry", "false");
    expect_header(&r, "x-ratelimit-limit-gpu-ms", "210000");
    CHECK(strstr(r.body.data, "quota_exhausted") != NULL);
    CHECK(strstr(r.body.data, "\"resets_at\":\"2026-01-03T03:04:05Z\"") != NULL);
    reply_free(&r);
    fake.refuse_status = BT_EBUSY;
    r = ask("POST", "/v1/chat/completions", "", CHAT);
    CHECK_INT(r.status, 429);
    expect_header(&r, "Retry-After", "1");
    expect_header(&r, "x-should-retry", "(absent)");
    reply_free(&r);
    fake.plan = PLAN_SUBMIT_FAILS;
    r = ask("POST", "/v1/chat/completions", "", CHAT);
    CHECK_INT(r.status, 503);
    expect_header(&r, "Retry-After", "2");
    reply_free(&r);
    fake.plan = PLAN_BREAK;
    r = ask("POST", "/v1/chat/completions", "", CHAT);
    CHECK_INT(r.status, 503);
    CHECK(strstr(r.body.data, "device_fault") != NULL);
    reply_free(&r);
    r = ask("POST", "/v1/chat/completions", "", CHAT_STREAM);
    CHECK_INT(r.status, 200);
    CHECK(strstr(r.body.data, "data: {\"error\":{") != NULL);
    CHECK(strstr(r.body.data, "[DONE]") == NULL);
    reply_free(&r);
    stop();
}

/* Events put by another thread, one at a time, reach the client at once. */
static void live_stream(void)
{
    start();
    fake.plan = PLAN_HOLD;
    client c = client_open(port);
    client_request(&c, "POST", "/v1/chat/completions", "", CHAT_STREAM);
    bt_stream *s = submitted(0);
    CHECK(!client_wait(&c, "HTTP", 50)); // no status line before the verdict
    fake_put(s, fake_accepted());
    CHECK(client_wait(&c, "200 OK", WAIT_MS));
    double worst = 0;
    for (int i = 0; i < 50; i++) {
        char text[16];
        static char words[50][16];
        snprintf(words[i], sizeof words[i], "w%dw", i);
        snprintf(text, sizeof text, "w%dw", i);
        int64_t from = bt_now_ns();
        fake_put(s, fake_text(0, words[i]));
        CHECK(client_wait(&c, text, WAIT_MS));
        double ms = (double)(bt_now_ns() - from) / 1e6;
        if (ms > worst) worst = ms;
    }
    fprintf(stderr, "worst delay of an event: %.2f ms\n", worst);
    CHECK(worst < 200);
    fake_put(s, fake_end(0, "", BT_FINISH_EOS));
    fake_put(s, fake_done(BT_OK, BT_FINISH_EOS));
    CHECK(client_wait(&c, "[DONE]", WAIT_MS));
    client_close(&c);
    stop();
}

static void hang_up(const char *body, fake_plan plan)
{
    start();
    fake.plan = plan;
    double worst = 0;
    for (int i = 0; i < 10; i++) {
        client c = client_open(port);
        client_request(&c, "POST", "/v1/chat/completions", "", body);
        bt_stream *s = submitted(i);
        if (plan == PLAN_ACCEPT && strstr(body, "stream"))
            CHECK(client_wait(&c, "200 OK", WAIT_MS));
        bt_sleep_ns(2000000);
        CHECK(!atomic_load(&s->cancelled));
        client_close(&c);
        double ms = until_cancelled_ms(s);
        if (ms > worst) worst = ms;
        fake_put(s, fake_done(BT_OK, BT_FINISH_CANCELLED)); // a late wake finds nothing
    }
    fprintf(stderr, "hang-up noticed within %.2f ms\n", worst);
    CHECK(worst < 500);
    expect("GET", "/metrics", "", NULL, 200, "baton_http_hangups_total 10");
    stop();
}

static void hang_up_streaming(void)
{
    hang_up(CHAT_STREAM, PLAN_ACCEPT);
}
static void hang_up_quiet(void)
{
    hang_up(CHAT, PLAN_ACCEPT);
}
static void hang_up_undecided(void)
{
    hang_up(CHAT_STREAM, PLAN_HOLD);
}

/* Who has closed its sending side counts as gone; nothing is made up for it, not even a status. */
static void gone_client_reads_no_answer(void)
{
    start();
    fake.plan = PLAN_HOLD;
    client c = client_open(port);
    client_request(&c, "POST", "/v1/chat/completions", "", CHAT);
    bt_stream *s = submitted(0);
    shutdown(c.fd, SHUT_WR);
    until_cancelled_ms(s);
    int64_t end = bt_now_ns() + (int64_t)WAIT_MS * 1000000;
    CHECK(!client_more(&c, end) && bt_now_ns() < end); // closed
    CHECK_INT(c.in.len, 0);
    client_close(&c);
    fake_put(s, fake_done(BT_OK, BT_FINISH_CANCELLED));
    stop();
}

static void short_limits(void)
{
    bt_server_options opt = {.host = "127.0.0.1",
                             .request_timeout_ms = 600,
                             .idle_timeout_ms = 600,
                             .write_timeout_ms = 600,
                             .beat_ms = 200};
    bt_accounts_options accounts = {0};
    start_with(&opt, &accounts);
}

static void slow_requests(void)
{
    short_limits();
    client silent = client_open(port), head = client_open(port), body = client_open(port);
    client_sends(&head, "GET /health HTTP/1.1\r\nHost:");
    client_sends(&body, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{");
    int64_t from = bt_now_ns();
    /* a byte now and then does not buy more time */
    for (int i = 0;
         i < 60 && client_send(&body, " ", 1) && !client_more(&body, bt_now_ns() + 50000000); i++) {
        struct pollfd p = {body.fd, POLLIN, 0};
        if (poll(&p, 1, 0) > 0) break;
    }
    CHECK(bt_now_ns() - from < 2500000000);
    CHECK(client_closed(&silent, WAIT_MS));
    CHECK(client_closed(&head, WAIT_MS));
    CHECK(client_closed(&body, WAIT_MS));
    client idle = client_open(port);
    client_request(&idle, "GET", "/health", "", NULL);
    reply r = client_reply(&idle, false, WAIT_MS);
    CHECK_INT(r.status, 200);
    reply_free(&r);
    CHECK(client_closed(&idle, WAIT_MS));
    client_close(&silent);
    client_close(&head);
    client_close(&body);
    client_close(&idle);
    stop();
}

static void beats(void)
{
    short_limits();
    fake.plan = PLAN_ACCEPT;
    client c = client_open(port);
    client_request(&c, "POST", "/v1/chat/completions", "", CHAT_STREAM);
    bt_stream *s = submitted(0);
    CHECK(client_wait(&c, ": beat\n", WAIT_MS));
    bt_sleep_ns(900000000); // longer than every limit: a waiting client is not a slow one
    CHECK(!atomic_load(&s->cancelled));
    fake_put(s, fake_end(0, "late", BT_FINISH_EOS));
    fake_put(s, fake_done(BT_OK, BT_FINISH_EOS));
    CHECK(client_wait(&c, "late", WAIT_MS));
    CHECK(client_wait(&c, "[DONE]", WAIT_MS));
    CHECK(strstr(c.in.data, ": beat\n\n") == NULL);
    client_close(&c);
    stop();
}

/* A client that reads nothing: the events stay in front's ring, and after the limit it is cut off.
 */
static void slow_reader(void)
{
    static char words[40001];
    memset(words, 'x', sizeof words - 1);
    short_limits();
    fake.plan = PLAN_ACCEPT;
    client c = client_open(port);
    int small = 4096;
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    client_request(&c, "POST", "/v1/chat/completions", "", CHAT_STREAM);
    bt_stream *s = submitted(0);
    int64_t from = bt_now_ns();
    while (!atomic_load(&s->cancelled) && bt_now_ns() - from < 8000000000) {
        pthread_mutex_lock(&s->mu);
        bool room = s->tail < FAKE_EVENTS_MAX;
        pthread_mutex_unlock(&s->mu);
        if (room)
            fake_put(s, fake_text(0, words));
        else
            bt_sleep_ns(5000000);
    }
    CHECK(atomic_load(&s->cancelled));
    fprintf(stderr, "slow reader cut off after %.0f ms\n", (double)(bt_now_ns() - from) / 1e6);
    client_close(&c);
    stop();
}

static void closing(void)
{
    start();
    fake.plan = PLAN_ACCEPT;
    client a = client_open(port), b = client_open(port), idle = client_open(port);
    client_request(&a, "POST", "/v1/chat/completions", "", CHAT_STREAM);
    bt_stream *s = submitted(0);
    client_request(&b, "POST", "/v1/chat/completions", "", CHAT);
    bt_stream *t = submitted(1);
    CHECK(client_wait(&a, "200 OK", WAIT_MS));
    fake_put(s, fake_text(0, "abc"));
    fake_put(s, fake_end(0, "", BT_FINISH_EOS));
    fake_put(s, fake_done(BT_OK, BT_FINISH_EOS));
    int64_t from = bt_now_ns();
    bt_server_close(server, 300);
    double ms = (double)(bt_now_ns() - from) / 1e6;
    CHECK(client_wait(&a, "[DONE]", WAIT_MS)); // what could end did
    CHECK(atomic_load(&t->cancelled));         // what could not was cut off
    CHECK(!atomic_load(&s->cancelled));
    CHECK(ms >= 250 && ms < 5000);
    CHECK(client_closed(&b, WAIT_MS));
    CHECK(client_closed(&idle, WAIT_MS));
    client_close(&a);
    client_close(&b);
    client_close(&idle);
    fake_close();
}

static void many_clients(void)
{
    enum { N = 300 };
    static client c[N];
    start();
    fake.plan = PLAN_ACCEPT;
    for (int i = 0; i < N; i++) {
        c[i] = client_open(port);
        client_request(&c[i], "POST", "/v1/chat/completions", "", CHAT_STREAM);
    }
    submitted(N - 1);
    for (int i = 0; i < N; i++) {
        fake_put(fake.stream[i], fake_end(0, "done", BT_FINISH_EOS));
        fake_put(fake.stream[i], fake_done(BT_OK, BT_FINISH_EOS));
    }
    int complete = 0;
    for (int i = 0; i < N; i++) {
        complete += client_wait(&c[i], "[DONE]", WAIT_MS);
        client_close(&c[i]);
    }
    CHECK_INT(complete, N);
    stop();
}

/* A request and everything the server says until it closes, with no allocation on this side. */
static bool raw_answer(const char *request, const char *want)
{
    static char text[65536];
    client c = client_open(port);
    size_t n = 0;
    client_sends(&c, request);
    for (;;) {
        struct pollfd p = {c.fd, POLLIN, 0};
        ssize_t k = poll(&p, 1, WAIT_MS) > 0 ? recv(c.fd, text + n, sizeof text - 1 - n, 0) : -1;
        if (k <= 0) break;
        n += (size_t)k;
    }
    text[n] = 0;
    client_close(&c);
    return strstr(text, want) != NULL;
}

/* Any one allocation may fail: that request gets an honest error or a closed connection, the next
 * is served. */
static void out_of_memory(void)
{
    static const char stream[] =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        "Content-Length: 59\r\n\r\n" CHAT_STREAM;
    static const char quota[] = "GET /v1/quota HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    CHECK_INT(strlen(CHAT_STREAM), 59);
    start();
    long n = 1;
    bool failed = true;
    for (; failed && n < 200; n++) {
        bt_mem_fail_at(n);
        raw_answer(stream, "[DONE]");
        raw_answer(quota, "remaining_us");
        failed = bt_mem_failed();
        bt_mem_fail_at(0);
        CHECK(raw_answer(stream, "[DONE]"));
    }
    fprintf(stderr, "%ld allocations failed in turn\n", n - 2);
    CHECK(!failed && n > 10);
    stop();
}

int main(void)
{
    RUN(a_long_queue_is_shown_whole);
    RUN(plain_routes);
    RUN(methods);
    RUN(keep_alive_and_pipelining);
    RUN(split_bytes);
    RUN(bad_requests);
    RUN(too_large);
    RUN(large_body);
    RUN(identities);
    RUN(forwarded);
    RUN(tokenizing);
    RUN(answers);
    RUN(refusals);
    RUN(live_stream);
    RUN(hang_up_streaming);
    RUN(hang_up_quiet);
    RUN(hang_up_undecided);
    RUN(gone_client_reads_no_answer);
    RUN(slow_requests);
    RUN(beats);
    RUN(slow_reader);
    RUN(closing);
    RUN(many_clients);
    RUN(out_of_memory);
    return TEST_END();
}
