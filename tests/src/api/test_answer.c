/* SPDX-License-Identifier: Apache-2.0 */
/* Events in, bytes out: the whole text of answers, streamed or not. Ids, dates and seeds are fixed.
 */
#include "src/http/fake_front.h"
#include "api/openai/openai.h"
#include "test.h"

#define HEAD(kind, object)                                                                         \
    "{\"id\":\"" kind "-00000000000000ab\",\"object\":\"" object                                   \
    "\",\"created\":1700000000,\"model\":\"tiny\",\"system_fingerprint\":\"fp\",\"choices\":["
#define BOOKS                                                                                      \
    "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":3,\"total_tokens\":8,"                   \
    "\"prompt_tokens_details\":{\"cached_tokens\":2}},"                                            \
    "\"timings\":{\"cache_n\":2,\"prompt_n\":3,\"prompt_ms\":30,\"prompt_per_token_ms\":10,"       \
    "\"prompt_per_second\":100,\"predicted_n\":3,\"predicted_ms\":60,"                             \
    "\"predicted_per_token_ms\":20,\"predicted_per_second\":50},"                                  \
    "\"baton\":{\"request_id\":\"00000000000000ab\",\"account\":\"key:alice\",\"tier\":\"pro\","   \
    "\"queue_us\":1500,\"lease_s\":60,\"device_us\":90000,\"charged_us\":90000,"                   \
    "\"remaining_us\":200000000,\"resets_at\":\"2026-01-03T03:04:05Z\",\"finish_detail\":\"%s\"}"

static bt_api_request req;
static bt_answer *answer;
static bt_buf out;

static void begin(bool chat, const char *body)
{
    bt_err e;
    bt_status rc =
        chat ? bt_api_parse(&bt_openai_chat, NULL, NULL, body, strlen(body), &req, &e)
             : bt_api_parse(&bt_openai_completion, NULL, NULL, body, strlen(body), &req, &e);
    REQUIRE(rc == BT_OK);
    bt_api_context ctx = {&fake.unit, "tiny", "fp", 1700000000};
    REQUIRE(bt_answer_open(&req, &ctx, &answer, NULL) == BT_OK);
    for (int32_t i = 0; i < req.n_parts; i++)
        bt_answer_part(answer, i, 0xab + (uint64_t)i, "key:alice", "pro");
    bt_api_request_release(&req);
    bt_buf_clear(&out);
    bt_buf_adds(&out, "");
}

static void finish(void)
{
    bt_answer_close(answer);
    bt_buf_release(&out);
}

static void put(int32_t part, bt_stream_event ev)
{
    bt_answer_event(answer, part, &ev, &out);
}

static void put_hello(int32_t part)
{
    put(part, fake_accepted());
    put(part, fake_text(0, "Hel"));
    put(part, fake_text(0, "lo"));
}

static const char *format_books(const char *finish_detail)
{
    static char text[1024];
    snprintf(text, sizeof text, BOOKS, finish_detail);
    return text;
}

static void chat_stream(void)
{
    char want[4096];
    begin(true, "{\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    CHECK_INT(bt_answer_state_get(answer), BT_ANSWER_WAITING);
    put(0, fake_accepted());
    CHECK_INT(bt_answer_state_get(answer), BT_ANSWER_RUNNING);
    CHECK_STR(out.data, ""); // the status line comes before any byte
    put(0, (bt_stream_event){.type = BT_SE_QUEUE, .position = 3, .eta_ms = 1200});
    put(0, (bt_stream_event){.type = BT_SE_PREFILL, .done = 512, .total = 2048});
    CHECK_STR(out.data, ": queue position=3 eta_ms=1200\n: prefill done=512 total=2048\n");
    bt_buf_clear(&out);
    put(0, fake_text(0, "H\"\n"));
    put(0, fake_text(0, "")); // nothing certain yet: no chunk
    put(0, fake_text(0, "\xC3\xA9"));
    put(0, fake_end(0, "!", BT_FINISH_STOP));
    put(0, fake_done(BT_OK, BT_FINISH_STOP));
#define CHUNK "data: " HEAD("chatcmpl", "chat.completion.chunk")
    snprintf(
        want, sizeof want,
        CHUNK "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"H\\\"\\n\"},"
              "\"logprobs\":null,\"finish_reason\":null}]}\n\n" //
        CHUNK "{\"index\":0,\"delta\":{\"content\":\"\xC3\xA9\"},\"logprobs\":null,"
              "\"finish_reason\":null}]}\n\n" //
        CHUNK "{\"index\":0,\"delta\":{\"content\":\"!\"},\"logprobs\":null,"
              "\"finish_reason\":null}]}\n\n" //
        CHUNK "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}],%s}\n\n"
              "data: [DONE]\n\n",
        format_books("stop"));
    CHECK_STR(out.data, want);
    CHECK_INT(bt_answer_state_get(answer), BT_ANSWER_COMPLETE);
    CHECK_INT(bt_answer_status(answer), BT_OK);
    finish();
}

static void chat_stream_usage(void)
{
    char want[4096];
    begin(true, "{\"stream\":true,\"stream_options\":{\"include_usage\":true},"
                "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    put(0, fake_accepted());
    put(0, fake_end(0, "Hi", BT_FINISH_LEASE_EXPIRED));
    put(0, fake_done(BT_OK, BT_FINISH_LEASE_EXPIRED));
    snprintf(want, sizeof want,
             CHUNK "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hi\"},"
                   "\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n" //
             CHUNK "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"length\"}],"
                   "\"usage\":null}\n\n" //
             CHUNK "],%s}\n\n"
                   "data: [DONE]\n\n",
             format_books("lease_expired"));
    CHECK_STR(out.data, want);
    finish();
}

static void chat_body(void)
{
    char want[2048];
    begin(true, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    put_hello(0);
    put(0, (bt_stream_event){.type = BT_SE_QUEUE, .position = 3, .eta_ms = 1200});
    put(0, fake_end(0, "", BT_FINISH_EOS));
    CHECK_STR(out.data, "");
    put(0, fake_done(BT_OK, BT_FINISH_EOS));
    snprintf(
        want, sizeof want,
        HEAD("chatcmpl", "chat.completion") "{\"index\":0,\"message\":{\"role\":\"assistant\","
                                            "\"content\":\"Hello\",\"refusal\":null},"
                                            "\"logprobs\":null,\"finish_reason\":\"stop\"}],%s}",
        format_books("eos"));
    CHECK_STR(out.data, want);
    finish();
}

static void two_sequences(void)
{
    begin(false, "{\"prompt\":\"x\",\"n\":2}");
    put(0, fake_accepted());
    put(0, fake_text(1, "b"));
    put(0, fake_text(0, "a"));
    put(0, fake_end(1, "B", BT_FINISH_LENGTH));
    put(0, fake_end(0, "A", BT_FINISH_EOS));
    put(0, fake_done(BT_OK, BT_FINISH_LENGTH));
    CHECK(strstr(out.data,
                 "[{\"index\":0,\"text\":\"aA\",\"logprobs\":null,\"finish_reason\":\"stop\"},"
                 "{\"index\":1,\"text\":\"bB\",\"logprobs\":null,"
                 "\"finish_reason\":\"length\"}]") != NULL);
    CHECK(strstr(out.data, "\"object\":\"text_completion\"") != NULL);
    finish();
    /* streamed: the first to end says so at once, the last waits for the books */
    begin(true, "{\"stream\":true,\"n\":2,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    put(0, fake_accepted());
    put(0, fake_text(0, "a"));
    put(0, fake_text(1, "b"));
    bt_buf_clear(&out);
    put(0, fake_end(1, "", BT_FINISH_EOS));
    CHECK(strstr(out.data, "\"index\":1") && strstr(out.data, "\"finish_reason\":\"stop\""));
    CHECK(strstr(out.data, "baton") == NULL);
    bt_buf_clear(&out);
    put(0, fake_end(0, "", BT_FINISH_EOS));
    CHECK_STR(out.data, "");
    put(0, fake_done(BT_OK, BT_FINISH_EOS));
    CHECK(strstr(out.data, "\"index\":0") && strstr(out.data, "\"charged_us\":90000"));
    finish();
}

static const int32_t top_ids[] = {'a', 'b'};
static const float top_values[] = {-0.1f, -2.5f};
static const bt_token_out token_a = {'a', -0.1f, 2, top_ids, top_values, "a", 1};
static const bt_token_out token_half = {0xC3, -3.25f, 2, top_ids, top_values, "\xC3", 1};

static void chat_logprobs(void)
{
    begin(true, "{\"logprobs\":true,\"top_logprobs\":2,"
                "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    put(0, fake_accepted());
    bt_stream_event ev = fake_text(0, "a");
    ev.token = &token_a;
    put(0, ev);
    ev = fake_end(0, "", BT_FINISH_EOS);
    ev.token = &token_half;
    ev.n_tokens = 1;
    put(0, ev);
    put(0, fake_done(BT_OK, BT_FINISH_EOS));
    CHECK(strstr(out.data,
                 "\"logprobs\":{\"content\":["
                 "{\"token\":\"a\",\"logprob\":-0.1,\"bytes\":[97],\"top_logprobs\":["
                 "{\"token\":\"a\",\"logprob\":-0.1,\"bytes\":[97]},"
                 "{\"token\":\"b\",\"logprob\":-2.5,\"bytes\":[98]}]},"
                 "{\"token\":\"\xEF\xBF\xBD\",\"logprob\":-3.25,\"bytes\":[195],\"top_logprobs\":["
                 "{\"token\":\"a\",\"logprob\":-0.1,\"bytes\":[97]},"
                 "{\"token\":\"b\",\"logprob\":-2.5,\"bytes\":[98]}]}],\"refusal\":null}") != NULL);
    finish();
}

static void completion_logprobs(void)
{
    begin(false, "{\"prompt\":\"x\",\"logprobs\":2}");
    put(0, fake_accepted());
    bt_stream_event ev = fake_text(0, "a");
    ev.token = &token_a;
    put(0, ev);
    ev.token = &token_half;
    ev.text = "";
    ev.n_text = 0;
    put(0, ev);
    put(0, fake_end(0, "", BT_FINISH_EOS));
    put(0, fake_done(BT_OK, BT_FINISH_EOS));
    CHECK(strstr(out.data, "\"logprobs\":{\"tokens\":[\"a\",\"bytes:\\\\xc3\"],"
                           "\"token_logprobs\":[-0.1,-3.25],"
                           "\"top_logprobs\":[{\"a\":-0.1,\"b\":-2.5},"
                           "{\"a\":-0.1,\"b\":-2.5,\"bytes:\\\\xc3\":-3.25}],"
                           "\"text_offset\":[0,1]}") != NULL);
    finish();
}

/* One event a token, with the text that became certain by it. */
static void put_token(const char *bytes, const char *text)
{
    bt_token_out token = token_a;
    bt_stream_event ev = fake_text(0, text);
    token.bytes = bytes;
    token.n_bytes = (int32_t)strlen(bytes);
    ev.token = &token;
    put(0, ev);
}

/* Places in characters of the text: the bytes of one share its place, an echoed prompt that lacks
 * the first token's space or has other white space is followed, wrong bytes are set right by the
 * text. */
static void text_offsets(void)
{
    static const char *const prompt[] = {"", " caf", "\xC3", "\xA9", " x"};
    begin(false, "{\"prompt\":\"caf\xC3\xA9  x\",\"echo\":true,\"logprobs\":0}");
    put(0, fake_accepted());
    for (size_t i = 0; i < sizeof prompt / sizeof *prompt; i++) {
        bt_token_out token = token_a;
        token.bytes = prompt[i];
        token.n_bytes = (int32_t)strlen(prompt[i]);
        put(0, (bt_stream_event){.type = BT_SE_PROMPT, .token = &token, .n_tokens = 1, .text = ""});
    }
    put_token(" \xE4", " ");
    put_token("\xBD", "");
    put_token("\xA0!", "\xE4\xBD\xA0!"); // 你!
    put_token("\xE4", "");
    put_token("\xBD", "");
    put_token("a", "\xEF\xBF\xBD\xEF\xBF\xBD"
                   "a"); // two wrong bytes, each shown
    put_token("b", "b");
    put(0, fake_end(0, "", BT_FINISH_EOS));
    put(0, fake_done(BT_OK, BT_FINISH_EOS));
    CHECK(strstr(out.data, "\"text_offset\":[0,0,3,3,5,7,8,8,10,10,11,13]}") != NULL);
    finish();
}

/* A control token has its name where the prompt spelled it and it was parsed, and else no text. */
static void control_offsets(void)
{
    static const char *const body[] = {
        "{\"prompt\":\"a <s>b\",\"echo\":true,\"logprobs\":0,\"parse_special\":true}",
        "{\"prompt\":\"a <s>b\",\"echo\":true,\"logprobs\":0}"};
    static const char *const want[] = {"\"text_offset\":[0,2,5]", "\"text_offset\":[0,1,5]"};
    static const char *const names[] = {"\"tokens\":[\"a\",\"<s>\",\"b\"]",
                                        "\"tokens\":[\"a\",\"\",\"b\"]"};
    bt_token_out token[3] = {token_a, {.token = 1, .bytes = ""}, token_a};
    token[2].bytes = "b";
    for (int i = 0; i < 2; i++) {
        begin(false, body[i]);
        put(0, fake_accepted());
        put(0, (bt_stream_event){.type = BT_SE_PROMPT, .token = token, .n_tokens = 3, .text = ""});
        put(0, fake_end(0, "", BT_FINISH_EOS));
        put(0, fake_done(BT_OK, BT_FINISH_EOS));
        CHECK(strstr(out.data, want[i]) != NULL && strstr(out.data, names[i]) != NULL);
        finish();
    }
}

/* What lm-eval asks: the prompt's own logprobs, nothing generated. */
static void scoring(void)
{
    begin(false, "{\"prompt\":[120,97],\"echo\":true,\"logprobs\":1,\"max_tokens\":0}");
    put(0, fake_accepted());
    bt_token_out prompt[2] = {token_a, token_a};
    prompt[0].bytes = "x";
    bt_stream_event ev = {.type = BT_SE_PROMPT, .token = prompt, .n_tokens = 2, .text = ""};
    put(0, ev);
    ev = fake_text(0, "drawn");
    ev.token = &token_half;
    put(0, ev);
    put(0, fake_end(0, "more", BT_FINISH_EOS));
    put(0, fake_done(BT_OK, BT_FINISH_EOS));
    CHECK(strstr(out.data,
                 "{\"index\":0,\"text\":\"xa\",\"logprobs\":{\"tokens\":[\"x\",\"a\"],"
                 "\"token_logprobs\":[null,-0.1],\"top_logprobs\":[null,{\"a\":-0.1,\"b\":-2.5}],"
                 "\"text_offset\":[0,1]},\"finish_reason\":\"length\"}") != NULL);
    CHECK(strstr(out.data, "\"completion_tokens\":0,\"total_tokens\":5") != NULL);
    CHECK(strstr(out.data, "\"finish_detail\":\"length\"") != NULL);
    finish();
}

static void echo(void)
{
    begin(false, "{\"prompt\":\"Once\",\"echo\":true,\"n\":2}");
    put(0, fake_accepted());
    put(0, fake_text(0, " upon"));
    put(0, fake_end(0, "", BT_FINISH_LENGTH));
    put(0, fake_end(1, "", BT_FINISH_EOS)); // a sequence without text still echoes
    put(0, fake_done(BT_OK, BT_FINISH_LENGTH));
    CHECK(strstr(out.data, "\"text\":\"Once upon\"") != NULL);
    CHECK(strstr(out.data, "\"text\":\"Once\",") != NULL);
    finish();
    begin(false, "{\"prompt\":\"Once\",\"echo\":true,\"stream\":true}");
    put(0, fake_accepted());
    put(0, fake_text(0, " upon"));
    put(0, fake_text(0, " a"));
    CHECK(strstr(out.data, "\"text\":\"Once upon\"") != NULL);
    CHECK(strstr(out.data, "\"text\":\" a\"") != NULL);
    finish();
}

static void several_prompts(void)
{
    begin(false, "{\"prompt\":[\"x\",\"y\"],\"n\":2}");
    CHECK_INT(bt_answer_state_get(answer), BT_ANSWER_WAITING);
    put(0, fake_accepted());
    CHECK_INT(bt_answer_state_get(answer), BT_ANSWER_RUNNING); // the others come in their turn
    put(1, fake_accepted());
    put(1, fake_end(1, "y1", BT_FINISH_EOS));
    put(0, fake_end(0, "x0", BT_FINISH_EOS));
    put(1, fake_end(0, "y0", BT_FINISH_EOS));
    put(0, fake_end(1, "x1", BT_FINISH_EOS));
    put(0, fake_done(BT_OK, BT_FINISH_EOS));
    CHECK_STR(out.data, "");
    put(1, fake_done(BT_OK, BT_FINISH_QUOTA_EXHAUSTED));
    const char *at = out.data;
    static const char *const want[] = {"\"index\":0,\"text\":\"x0\"", "\"index\":1,\"text\":\"x1\"",
                                       "\"index\":2,\"text\":\"y0\"",
                                       "\"index\":3,\"text\":\"y1\""};
    for (int i = 0; i < 4; i++) {
        at = strstr(at, want[i]);
        REQUIRE(at != NULL);
    }
    CHECK(strstr(out.data, "\"prompt_tokens\":10,\"completion_tokens\":6") != NULL);
    CHECK(strstr(out.data, "\"device_us\":180000") != NULL);
    CHECK(strstr(out.data, "\"finish_detail\":\"quota_exhausted\"") != NULL);
    finish();
}

/* The answer ends as its worst part, whichever part that is. */
static void worst_part_is_told(void)
{
    begin(false, "{\"prompt\":[\"x\",\"y\"]}");
    put(0, fake_accepted());
    put(0, fake_end(0, "x", BT_FINISH_QUOTA_EXHAUSTED));
    put(0, fake_done(BT_OK, BT_FINISH_QUOTA_EXHAUSTED));
    put(1, fake_accepted());
    put(1, fake_end(0, "y", BT_FINISH_EOS));
    put(1, fake_done(BT_OK, BT_FINISH_EOS));
    CHECK(strstr(out.data, "\"finish_detail\":\"quota_exhausted\"") != NULL);
    finish();
}

/* The end was charged and its balance is not known: the one of before no longer holds. */
static void balance_before_a_charge_is_not_told(void)
{
    for (int charged = 0; charged < 2; charged++) {
        begin(false, "{\"prompt\":\"x\"}");
        put(0, fake_accepted());
        REQUIRE(bt_answer_balance(answer) != NULL);
        put(0, fake_end(0, "y", BT_FINISH_EOS));
        bt_stream_event done = fake_done(BT_OK, BT_FINISH_EOS);
        done.balance = (bt_ledger_balance){.limit_us = -1};
        if (!charged) done.device_us = done.charged_us = 0;
        put(0, done);
        CHECK((bt_answer_balance(answer) == NULL) == charged);
        CHECK((strstr(out.data, "\"remaining_us\":null") != NULL) == charged);
        CHECK((strstr(out.data, "\"resets_at\":null") != NULL) == charged);
        finish();
    }
}

static void refusals(void)
{
    begin(true, "{\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    put(0, (bt_stream_event){.type = BT_SE_REFUSED,
                             .status = BT_EQUOTA,
                             .message = "quota used up",
                             .retry_after_ms = 9000,
                             .balance = fake_balance()});
    CHECK_STR(out.data, "{\"error\":{\"message\":\"quota used up\",\"type\":\"insufficient_quota\","
                        "\"param\":null,\"code\":\"quota_exhausted\",\"limit_us\":210000000,"
                        "\"remaining_us\":200000000,\"resets_at\":\"2026-01-03T03:04:05Z\"}}");
    CHECK_INT(bt_answer_state_get(answer), BT_ANSWER_REFUSED);
    CHECK_INT(bt_answer_status(answer), BT_EQUOTA);
    CHECK_INT(bt_answer_retry_after_ms(answer), 9000);
    size_t len = out.len;
    put(0, fake_done(BT_OK, BT_FINISH_EOS)); // nothing follows a refusal
    CHECK_INT(out.len, len);
    finish();
}

static void prompt_too_long(void)
{
    begin(false, "{\"prompt\":\"x\"}");
    put(0, (bt_stream_event){.type = BT_SE_REFUSED, .status = BT_ECONTEXT, .message = "too long"});
    CHECK_STR(out.data, "{\"error\":{\"message\":\"too long\",\"type\":\"invalid_request_error\","
                        "\"param\":\"prompt\",\"code\":\"context_length_exceeded\"}}");
    finish();
}

static void broken(void)
{
    begin(true, "{\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    put_hello(0);
    bt_buf_clear(&out);
    put(0, fake_done(BT_EDEVICE, BT_FINISH_DEVICE_FAULT));
    CHECK_STR(out.data,
              "data: {\"error\":{\"message\":\"the device failed; try again\","
              "\"type\":\"unavailable_error\",\"param\":null,\"code\":\"device_fault\"}}\n\n");
    CHECK_INT(bt_answer_state_get(answer), BT_ANSWER_BROKEN);
    finish();
    begin(false, "{\"prompt\":\"x\"}");
    put_hello(0);
    put(0, fake_done(BT_EDEVICE, BT_FINISH_DEVICE_FAULT));
    CHECK(strncmp(out.data, "{\"error\":{", 10) == 0);
    CHECK_INT(bt_answer_status(answer), BT_EDEVICE);
    finish();
}

/* A request whose lease or quota ended while it waited has no text, and still a valid answer. */
static void ended_unheard(void)
{
    begin(true, "{\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}");
    put(0, fake_accepted());
    put(0, fake_done(BT_OK, BT_FINISH_LEASE_EXPIRED));
    CHECK(strstr(out.data, "\"finish_reason\":\"length\"") != NULL);
    CHECK(strstr(out.data, "\"finish_detail\":\"lease_expired\"") != NULL);
    CHECK(strstr(out.data, "\"role\":\"assistant\"") != NULL);
    CHECK(strstr(out.data, "data: [DONE]") != NULL);
    finish();
}

int main(void)
{
    fake_open(NULL);
    RUN(chat_stream);
    RUN(chat_stream_usage);
    RUN(chat_body);
    RUN(two_sequences);
    RUN(chat_logprobs);
    RUN(completion_logprobs);
    RUN(text_offsets);
    RUN(control_offsets);
    RUN(scoring);
    RUN(echo);
    RUN(several_prompts);
    RUN(worst_part_is_told);
    RUN(balance_before_a_charge_is_not_told);
    RUN(refusals);
    RUN(prompt_too_long);
    RUN(broken);
    RUN(ended_unheard);
    return TEST_END();
}
