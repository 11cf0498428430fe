/* SPDX-License-Identifier: Apache-2.0 */
/* A server whose chat route speaks another dialect: lines of JSON, errors of one word. All of it is
 * in the row below, which takes the place of OpenAI's at link time; nothing of the server or of the
 * answers knows. TIMEOUT 60 */
#include "src/http/serve.h"
#include "api/answer.h"
#include "api/openai/openai.h"
#include "api/parse.h"
#include "test.h"

enum { WAIT_MS = 10000 };
static const char chat_path[] = "/v1/chat/completions", text_path[] = "/v1/completions";

/* ---- the dialect */

static bt_status parse(bt_parser *p)
{
    bt_api_request *r = p->out;
    bt_status rc;
    r->part = bt__parse_alloc(p, 1, sizeof *r->part);
    if (!r->part) return BT_ENOMEM;
    r->n_parts = r->n_seq = r->part->n_seq = 1;
    if ((rc = bt__parse_str(p, "ask", &r->part->text)) ||
        (rc = bt__parse_bool(p, "lines", &r->stream)))
        return rc;
    if (!r->part->text) return bt__parse_fault(p, BT_EINVAL, "ask", "'ask' is missing");
    r->part->n_text = strlen(r->part->text);
    r->part->progress = r->stream;
    bt_gen_params_init(&r->part->params);
    return BT_OK;
}

static void chunk(bt_answer *a, int32_t choice, const char *text, size_t n, bt_buf *out)
{
    bt_buf_addf(out, "%s{\"say\":\"%.*s\"}\n", a->choice[choice].begun ? "" : "{\"begin\":true}\n",
                (int)n, text);
}

static void finish(bt_answer *a, int32_t choice, bool books, bt_buf *out)
{
    bt_buf_addf(out, "{\"why\":%d,\"tokens\":%d}\n", a->choice[choice].finish == BT_FINISH_EOS,
                books ? a->part[0].completion_tokens : -1);
}

static void done(bt_answer *a, bt_buf *out)
{
    (void)a;
    bt_buf_adds(out, "{\"bye\":true}\n");
}

static void body(bt_answer *a, bt_buf *out)
{
    bt_buf_addf(out, "{\"said\":\"%s\"}", a->choice[0].text.data);
}

static void error(const bt_api_error *err, bool event, bt_buf *out)
{
    const char *code = err->code ? err->code : bt_status_get(err->status)->label;
    bt_buf_addf(out, "{\"oops\":\"%s\",\"left\":%lld}%s", code,
                err->balance ? (long long)err->balance->remaining_us : -1, event ? "\n" : "");
}

static void note(const char *text, bt_buf *out)
{
    bt_buf_addf(out, "{\"psst\":\"%s\"}\n", text);
}

const bt_dialect bt_openai_chat = {.name = "lines",
                                   .stream_type = "application/x-ndjson",
                                   .prompt_field = "ask",
                                   .parse = parse,
                                   .chunk = chunk,
                                   .finish = finish,
                                   .done = done,
                                   .body = body,
                                   .error = error,
                                   .note = note};

/* ---- the server */

static void start_asking(bool require_key)
{
    bt_server_options opt = {
        .host = "127.0.0.1", .body_bytes_max = 1024, .beat_ms = 50, .request_timeout_ms = 1000};
    bt_accounts_options accounts = {.require_key = require_key};
    start_with(&opt, &accounts);
}

static void start(void)
{
    start_asking(false);
}

static void expect(reply r, int status, const char *type, const char *body)
{
    char got[64] = "";
    reply_header(&r, "Content-Type", got, sizeof got);
    CHECK_INT(r.status, status);
    CHECK_STR(got, type);
    CHECK_STR(r.body.data, body);
    reply_free(&r);
}

static reply ask(const char *method, const char *path, const char *headers, const char *content)
{
    client c = client_open(port);
    client_request(&c, method, path, headers, content);
    reply r = client_reply(&c, false, WAIT_MS);
    client_close(&c);
    return r;
}

static reply send_raw(const char *format, const char *path)
{
    client c = client_open(port);
    char text[256];
    snprintf(text, sizeof text, format, path);
    client_sends(&c, text);
    reply r = client_reply(&c, false, WAIT_MS);
    client_close(&c);
    return r;
}

static void bodies(void)
{
    start();
    expect(ask("POST", chat_path, "", "{\"ask\":\"hi\"}"), 200, "application/json",
           "{\"said\":\"Hello world\"}");
    stop();
}

static void streams(void)
{
    start();
    expect(ask("POST", chat_path, "", "{\"ask\":\"hi\",\"lines\":true}"), 200,
           "application/x-ndjson",
           "{\"psst\":\"queue position=3 eta_ms=1200\"}\n{\"psst\":\"prefill done=2 total=5\"}\n"
           "{\"begin\":true}\n{\"say\":\"Hello\"}\n{\"say\":\" world\"}\n"
           "{\"why\":1,\"tokens\":3}\n{\"bye\":true}\n");
    fake.plan = PLAN_BREAK;
    reply r = ask("POST", chat_path, "", "{\"ask\":\"hi\",\"lines\":true}");
    CHECK(strstr(r.body.data, "}\n{\"oops\":\"device_fault\",\"left\":") != NULL);
    CHECK(r.body.len > 0 && r.body.data[r.body.len - 1] == '\n');
    reply_free(&r);
    stop();
}

static void signs_of_life(void)
{
    start();
    fake.plan = PLAN_ACCEPT;
    client c = client_open(port);
    client_request(&c, "POST", chat_path, "", "{\"ask\":\"hi\",\"lines\":true}");
    CHECK(client_wait(&c, "{\"psst\":\"beat\"}\n", WAIT_MS));
    client_close(&c);
    stop();
}

/* What goes wrong before the body, in it and after it, wherever it is found. */
static void errors(void)
{
    static const struct {
        const char *method, *headers, *content;
        int status;
        const char *code;
    } fault[] = {
        {"GET", "", NULL, 405, "method_not_allowed"},
        {"POST", "X-Baton-Lease: soon\r\n", "{}", 400, "invalid_request"},
        {"POST", "Origin: http://a.example\r\n", "{}", 403, "forbidden"},
        {"POST", "Content-Length: 9999\r\n", NULL, 413, "too_large"},
        {"POST", "", "{", 400, "invalid_request"},
        {"POST", "Host: y\r\n", "{}", 400, "invalid_request"}, // framing: a second one
    };
    char want[96];
    start();
    for (size_t i = 0; i < sizeof fault / sizeof *fault; i++) {
        reply r = ask(fault[i].method, chat_path, fault[i].headers, fault[i].content);
        snprintf(want, sizeof want, "{\"oops\":\"%s\",\"left\":-1}", fault[i].code);
        expect(r, fault[i].status, "application/json", want);
        r = ask(fault[i].method, text_path, fault[i].headers, fault[i].content);
        snprintf(want, sizeof want, "\"code\":\"%s\"", fault[i].code);
        CHECK_INT(r.status, fault[i].status);
        CHECK(r.body.data && strncmp(r.body.data, "{\"error\":{", 10) == 0);
        CHECK(r.body.data && strstr(r.body.data, want) != NULL);
        reply_free(&r);
    }
    fake.spent = true;
    expect(ask("POST", chat_path, "", "{}"), 429, "application/json",
           "{\"oops\":\"quota_exhausted\",\"left\":0}");
    fake.spent = false;
    fake.plan = PLAN_REFUSE;
    expect(ask("POST", chat_path, "", "{\"ask\":\"hi\",\"lines\":true}"), 429, "application/json",
           "{\"oops\":\"queue_full\",\"left\":200000000}");
    stop();
    start_asking(true);
    expect(ask("POST", chat_path, "", "{}"), 401, "application/json",
           "{\"oops\":\"bad_credentials\",\"left\":-1}");
    stop();
}

/* What is cut off past libmicrohttpd: a head that stalls, a body that stalls, a wrong chunk. */
static void cut_off(void)
{
    static const char *const text[] = {
        "POST %s?x=1 HTTP/1.1\r\nHost: x\r\nX-Half: ",
        "POST http://x%s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        "POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nmuch\r\n",
    };
    static const char *const code[] = {"request_timeout", "request_timeout", "invalid_request"};
    char want[96];
    start();
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        reply r = send_raw(text[i], chat_path);
        snprintf(want, sizeof want, "{\"oops\":\"%s\",\"left\":-1}", code[i]);
        CHECK_STR(r.body.data, want);
        reply_free(&r);
        r = send_raw(text[i], text_path);
        CHECK(r.body.data && strncmp(r.body.data, "{\"error\":{", 10) == 0);
        reply_free(&r);
    }
    /* where no path is known, and for the next request on a connection */
    client c = client_open(port);
    client_request(&c, "POST", chat_path, "", "{\"ask\":\"hi\"}");
    expect(client_reply(&c, false, WAIT_MS), 200, "application/json", "{\"said\":\"Hello world\"}");
    client_sends(&c, "nonsense\r\n\r\n");
    reply r = client_reply(&c, false, WAIT_MS);
    CHECK_INT(r.status, 400);
    CHECK(r.body.data && strncmp(r.body.data, "{\"error\":{", 10) == 0);
    reply_free(&r);
    client_close(&c);
    stop();
}

int main(void)
{
    RUN(bodies);
    RUN(streams);
    RUN(signs_of_life);
    RUN(errors);
    RUN(cut_off);
    return TEST_END();
}
