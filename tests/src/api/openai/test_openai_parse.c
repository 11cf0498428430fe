/* SPDX-License-Identifier: Apache-2.0 */
/* Every field of the two OpenAI bodies: good, null, wrong type, out of range, and what it becomes.
 */
#include "src/http/fake_front.h"
#include "api/openai/openai.h"
#include "json.h"
#include "test.h"

static bt_api_request req;
static bt_err e;

static bt_status chat(const char *fields)
{
    char body[4096];
    snprintf(body, sizeof body, "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]%s%s}",
             *fields ? "," : "", fields);
    return bt_api_parse(&bt_openai_chat, NULL, NULL, body, strlen(body), &req, &e);
}

static bt_status completion(const char *fields)
{
    char body[4096];
    snprintf(body, sizeof body, "{\"prompt\":\"hi\"%s%s}", *fields ? "," : "", fields);
    return bt_api_parse(&bt_openai_completion, NULL, NULL, body, strlen(body), &req, &e);
}

static void refused_one(bt_status (*parse)(const char *), const char *fields, const char *param)
{
    bt_status rc = parse(fields);
    if (rc != BT_EINVAL || strcmp(e.field, param) != 0) fprintf(stderr, "fields: %s\n", fields);
    CHECK_INT(rc, BT_EINVAL);
    CHECK_STR(e.field, param);
    CHECK(strlen(e.msg) > 10);
    bt_api_request_release(&req);
}

/* What was read, as text again. */
static const char *written(const bt_json *v)
{
    static char *text;
    bt_free(text);
    return text = json_text(v);
}

static void defaults(void)
{
    REQUIRE(chat("") == BT_OK);
    const bt_gen_params *p = &req.part[0].params;
    CHECK(req.dialect == &bt_openai_chat);
    CHECK_INT(req.n_parts, 1);
    const bt_template_chat *c = req.part[0].chat;
    CHECK_STR(written(c->messages), "[{\"role\":\"user\",\"content\":\"hi\"}]");
    CHECK(!c->tools && !c->documents);
    CHECK(!c->kwargs && !c->name);
    CHECK(c->add_generation_prompt && !c->continue_final_message && !req.part[0].parse_special);
    CHECK_INT(req.part[0].n_seq, 1);
    CHECK_INT(p->max_tokens, 0); // as many as the context holds
    CHECK_NEAR(p->temperature, 1, 0);
    CHECK_NEAR(p->top_p, 1, 0);
    CHECK_INT(p->n_logprobs, -1);
    CHECK(!req.stream && !req.include_usage && !req.logprobs && !req.part[0].progress);
    CHECK(req.model == NULL && p->seed != 0);
    bt_api_request_release(&req);
    REQUIRE(completion("") == BT_OK);
    CHECK_INT(req.part[0].params.max_tokens, 16);
    CHECK_INT(req.part[0].n_text, 2);
    CHECK(!req.part[0].parse_special && !req.part[0].bare && !req.part[0].chat);
    bt_api_request_release(&req);
}

static void all_fields(void)
{
    REQUIRE(
        chat("\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
             "\"temperature\":0.5,\"top_p\":0.9,\"top_k\":40,\"min_p\":0.05,\"n\":3,\"seed\":42,"
             "\"max_tokens\":7,\"max_completion_tokens\":9,\"min_tokens\":2,\"logprobs\":true,"
             "\"top_logprobs\":5,\"logit_bias\":{\"15\":-100,\"7\":2.5},\"presence_penalty\":1,"
             "\"frequency_penalty\":-0.5,\"repetition_penalty\":1.1,\"repeat_last_n\":32,"
             "\"ignore_eos\":true,\"cache_prompt\":false,\"user\":\"u\",\"lease_seconds\":12.5,"
             "\"stop\":[\"a\",\"\",\"bc\"],\"timings_per_token\":true,\"unknown\":{\"x\":[1]}") ==
        BT_OK);
    const bt_gen_params *p = &req.part[0].params;
    CHECK_STR(req.model, "m");
    CHECK(req.stream && req.include_usage && req.logprobs && req.part[0].progress);
    CHECK_NEAR(p->temperature, 0.5, 1e-6);
    CHECK_NEAR(p->top_p, 0.9, 1e-6);
    CHECK_INT(p->top_k, 40);
    CHECK_NEAR(p->min_p, 0.05, 1e-6);
    CHECK_INT(req.part[0].n_seq, 3);
    CHECK_INT(p->seed, 42);
    CHECK_INT(p->max_tokens, 9);
    CHECK_INT(p->min_tokens, 2);
    CHECK_INT(p->n_logprobs, 5);
    CHECK_INT(p->n_bias, 2);
    CHECK_INT(p->bias[0].token, 15);
    CHECK_NEAR(p->bias[0].bias, -100, 0);
    CHECK_NEAR(p->bias[1].bias, 2.5, 0);
    CHECK_NEAR(p->presence_penalty, 1, 0);
    CHECK_NEAR(p->freq_penalty, -0.5, 0);
    CHECK_NEAR(p->repeat_penalty, 1.1, 1e-6);
    CHECK_INT(p->repeat_last_n, 32);
    CHECK(p->ignore_eos && !p->cache_prompt);
    CHECK_NEAR(req.part[0].lease_seconds, 12.5, 0);
    CHECK_INT(p->n_stop, 2);
    CHECK_STR(p->stop[0], "a");
    CHECK_STR(p->stop[1], "bc");
    bt_api_request_release(&req);
    REQUIRE(chat("\"repetition_penalty\":1.1") == BT_OK);
    CHECK_INT(req.part[0].params.repeat_last_n, -1);
    bt_api_request_release(&req);
    REQUIRE(chat("\"repeat_penalty\":1.1") == BT_OK);
    CHECK_INT(req.part[0].params.repeat_last_n, 64);
    bt_api_request_release(&req);
}

static void null_is_absent(void)
{
    static const char *const names[] = {"model",
                                        "stream",
                                        "stream_options",
                                        "temperature",
                                        "top_p",
                                        "top_k",
                                        "min_p",
                                        "n",
                                        "seed",
                                        "max_tokens",
                                        "max_completion_tokens",
                                        "min_tokens",
                                        "logprobs",
                                        "top_logprobs",
                                        "logit_bias",
                                        "presence_penalty",
                                        "frequency_penalty",
                                        "repetition_penalty",
                                        "repeat_last_n",
                                        "ignore_eos",
                                        "cache_prompt",
                                        "user",
                                        "lease_seconds",
                                        "stop",
                                        "tools",
                                        "tool_choice",
                                        "parse_special",
                                        "documents",
                                        "chat_template",
                                        "chat_template_kwargs",
                                        "add_generation_prompt",
                                        "continue_final_message",
                                        "add_special_tokens",
                                        "reasoning_effort",
                                        "response_format"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char field[64];
        snprintf(field, sizeof field, "\"%s\":null", names[i]);
        CHECK_INT(chat(field), BT_OK);
        bt_api_request_release(&req);
        CHECK_INT(completion(field), BT_OK);
        bt_api_request_release(&req);
    }
}

/* field, a value of the wrong type, two out of range */
static void bad_values(void)
{
    static const char *const rows[][4] = {
        {"model", "1", "[]", "{}"},
        {"stream", "\"yes\"", "1", "0"},
        {"stream_options", "true", "[]", "\"x\""},
        {"temperature", "\"hot\"", "-0.1", "2.1"},
        {"top_p", "\"x\"", "-0.1", "1.1"},
        {"top_k", "1.5", "-2", "1e12"},
        {"min_p", "[]", "-1", "2"},
        {"n", "\"2\"", "0", "17"},
        {"seed", "\"x\"", "1.5", "true"},
        {"max_tokens", "\"x\"", "-2", "1e12"},
        {"min_tokens", "\"x\"", "-1", "1e12"},
        {"logit_bias", "[]", "{\"x\":1}", "{\"5\":101}"},
        {"presence_penalty", "\"x\"", "-2.1", "2.1"},
        {"frequency_penalty", "\"x\"", "-2.1", "2.1"},
        {"repetition_penalty", "\"x\"", "0", "101"},
        {"repeat_last_n", "\"x\"", "-2", "1e12"},
        {"ignore_eos", "1", "\"true\"", "[]"},
        {"cache_prompt", "1", "\"true\"", "[]"},
        {"user", "5", "[]", "true"},
        {"lease_seconds", "\"x\"", "0", "86401"},
        {"stop", "5", "[1]", "{}"},
        {"best_of", "\"x\"", "0", "3"},
        {"tools", "{}", "5", "\"x\""},
        {"parse_special", "1", "\"true\"", "[]"},
        {"response_format", "\"json\"", "{\"type\":\"json_object\"}", "{}"},
        {"suffix", "\"end\"", "5", "{}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int k = 1; k < 4; k++) {
            char field[96];
            snprintf(field, sizeof field, "\"%s\":%s", rows[i][0], rows[i][k]);
            refused_one(chat, field, rows[i][0]);
            refused_one(completion, field, rows[i][0]);
        }
    refused_one(chat, "\"max_tokens\":0", "max_tokens");
    refused_one(chat, "\"max_completion_tokens\":0", "max_completion_tokens");
    refused_one(chat, "\"logprobs\":3", "logprobs");
    refused_one(chat, "\"top_logprobs\":3", "top_logprobs");
    refused_one(chat, "\"logprobs\":true,\"top_logprobs\":21", "top_logprobs");
    refused_one(chat, "\"stream_options\":{\"include_usage\":1}", "stream_options.include_usage");
    refused_one(completion, "\"logprobs\":true", "logprobs");
    refused_one(completion, "\"logprobs\":21", "logprobs");
    refused_one(completion, "\"echo\":1", "echo");
    char stop[1024] = "\"stop\":[\"x\"";
    for (int i = 0; i < 16; i++) strcat(stop, ",\"x\"");
    strcat(stop, "]");
    refused_one(chat, stop, "stop");
}

/* 64 bits, exactly: what lies beyond is not rounded into them. */
static void seeds(void)
{
    static const int64_t exact[] = {INT64_MAX, INT64_MIN, -INT64_MAX, (1LL << 53) + 1,
                                    -(1LL << 53) - 1};
    char field[64];
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++) {
        snprintf(field, sizeof field, "\"x\":{\"seed\":1},\"seed\":%lld", (long long)exact[i]);
        REQUIRE(completion(field) == BT_OK);
        CHECK(req.part[0].params.seed == (uint64_t)exact[i]);
        bt_api_request_release(&req);
    }
    refused_one(chat, "\"seed\":9223372036854775808", "seed");
    refused_one(chat, "\"seed\":-9223372036854775809", "seed");
    refused_one(completion, "\"seed\":18446744073709551615", "seed");
    refused_one(completion, "\"seed\":1e19", "seed");
}

static bt_status messages(const char *list)
{
    char body[2048];
    snprintf(body, sizeof body, "{\"messages\":%s}", list);
    return bt_api_parse(&bt_openai_chat, NULL, NULL, body, strlen(body), &req, &e);
}

static void chat_messages(void)
{
    /* what reaches the template is as it was spelled: key order, numbers */
    static const char list[] =
        "[{\"role\":\"developer\",\"content\":\"rules\"},"
        "{\"content\":[{\"type\":\"text\",\"text\":\"a\xC3\xA9\"}],\"role\":\"user\",\"x\":1.0},"
        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"i\",\"type\":"
        "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}},"
        "{\"function\":{\"name\":\"g\",\"arguments\":{\"n\":12345678901234567890}}}]},"
        "{\"role\":\"tool\",\"content\":\"t\",\"tool_call_id\":\"i\",\"name\":\"f\"},"
        "{\"role\":\"ipython\",\"content\":\"\"},{\"role\":\"assistant\"}]";
    REQUIRE(messages(list) == BT_OK);
    CHECK_STR(written(req.part[0].chat->messages), list);
    bt_api_request_release(&req);
    refused_one(messages, "[]", "messages");
    refused_one(messages, "{}", "messages");
    refused_one(messages, "null", "messages");
    refused_one(messages, "[5]", "messages[0]");
    refused_one(messages, "[{\"content\":\"x\"}]", "messages[0].role");
    refused_one(messages, "[{\"role\":\"\",\"content\":\"x\"}]", "messages[0].role");
    refused_one(messages, "[{\"role\":7,\"content\":\"x\"}]", "messages[0].role");
    refused_one(messages, "[{\"role\":\"user\"}]", "messages[0].content");
    refused_one(messages, "[{\"role\":\"user\",\"content\":5}]", "messages[0].content");
    refused_one(messages, "[{\"role\":\"user\",\"content\":\"\",\"name\":5}]", "messages[0].name");
    refused_one(messages, "[{\"role\":\"tool\",\"content\":\"\",\"tool_call_id\":[]}]",
                "messages[0].tool_call_id");
    refused_one(messages,
                "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{}}]}]",
                "messages[0].content[0]");
    refused_one(messages, "[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]",
                "messages[0].content[0]");
    refused_one(messages, "[{\"role\":\"assistant\",\"tool_calls\":{}}]", "messages[0].tool_calls");
    refused_one(messages, "[{\"role\":\"assistant\",\"tool_calls\":[{}]}]",
                "messages[0].tool_calls[0]");
    refused_one(messages, "[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{}}]}]",
                "messages[0].tool_calls[0].function.name");
    refused_one(messages,
                "[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
                "\"arguments\":5}}]}]",
                "messages[0].tool_calls[0].function.arguments");
}

#define TOOL                                                                                       \
    "{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"b\":1.50,\"a\":2}}}"

static void chat_tools(void)
{
    REQUIRE(chat("\"tools\":[" TOOL " ]") == BT_OK);
    CHECK_STR(written(req.part[0].chat->tools), "[" TOOL "]");
    bt_api_request_release(&req);
    REQUIRE(chat("\"tools\":[" TOOL "],\"tool_choice\":\"auto\"") == BT_OK);
    CHECK(req.part[0].chat->tools != NULL);
    bt_api_request_release(&req);
    REQUIRE(chat("\"tools\":[" TOOL "],\"tool_choice\":\"none\"") == BT_OK);
    CHECK(!req.part[0].chat->tools);
    bt_api_request_release(&req);
    REQUIRE(chat("\"tools\":[]") == BT_OK);
    CHECK(!req.part[0].chat->tools);
    bt_api_request_release(&req);
    refused_one(chat, "\"tools\":[" TOOL "],\"tool_choice\":\"required\"", "tool_choice");
    refused_one(chat,
                "\"tools\":[" TOOL "],\"tool_choice\":{\"type\":\"function\",\"function\":"
                "{\"name\":\"f\"}}",
                "tool_choice");
    refused_one(chat, "\"tools\":[" TOOL "],\"tool_choice\":5", "tool_choice");
    refused_one(chat, "\"tools\":[" TOOL ",{\"type\":\"function\"}]", "tools[1]");
    refused_one(chat, "\"tools\":[{\"type\":\"web_search\",\"function\":{\"name\":\"f\"}}]",
                "tools[0]");
    refused_one(chat, "\"tools\":[{\"type\":\"function\",\"function\":{}}]",
                "tools[0].function.name");
    refused_one(chat,
                "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":"
                "[]}}]",
                "tools[0].function");
    refused_one(completion, "\"tools\":[" TOOL "]", "tools");
    CHECK_INT(completion("\"tools\":[" TOOL "],\"tool_choice\":\"none\""), BT_OK);
    bt_api_request_release(&req);
}

static void chat_settings(void)
{
    REQUIRE(chat("\"chat_template_kwargs\":{ \"enable_thinking\":false},\"reasoning_effort\":"
                 "\"low\",\"documents\":[{\"title\":\"t\"},\"d\"],\"parse_special\":true,"
                 "\"continue_final_message\":true") == BT_OK);
    const bt_template_chat *c = req.part[0].chat;
    CHECK_STR(written(c->kwargs), "{\"reasoning_effort\":\"low\",\"enable_thinking\":false}");
    CHECK_STR(written(c->documents), "[{\"title\":\"t\"},\"d\"]");
    CHECK(c->continue_final_message && !c->add_generation_prompt && req.part[0].parse_special);
    bt_api_request_release(&req);
    REQUIRE(chat("\"reasoning_effort\":\"high\",\"add_generation_prompt\":false") == BT_OK);
    CHECK_STR(written(req.part[0].chat->kwargs), "{\"reasoning_effort\":\"high\"}");
    CHECK(!req.part[0].chat->add_generation_prompt);
    bt_api_request_release(&req);
    REQUIRE(chat("\"reasoning_effort\":\"high\",\"chat_template_kwargs\":{ }") == BT_OK);
    CHECK_STR(written(req.part[0].chat->kwargs), "{\"reasoning_effort\":\"high\"}");
    bt_api_request_release(&req);
    REQUIRE(completion("\"parse_special\":true,\"add_special_tokens\":false") == BT_OK);
    CHECK(req.part[0].parse_special && req.part[0].bare);
    bt_api_request_release(&req);
    refused_one(chat, "\"chat_template\":\"{{ 1 }}\"", "chat_template");
    refused_one(chat, "\"chat_template_kwargs\":[]", "chat_template_kwargs");
    refused_one(chat, "\"reasoning_effort\":3", "reasoning_effort");
    REQUIRE(chat("\"documents\":[]") == BT_OK);
    CHECK(!req.part[0].chat->documents);
    bt_api_request_release(&req);
    refused_one(chat, "\"documents\":{}", "documents");
    refused_one(chat, "\"documents\":[5]", "documents");
    refused_one(chat, "\"continue_final_message\":1", "continue_final_message");
    refused_one(chat, "\"continue_final_message\":true,\"add_generation_prompt\":true",
                "continue_final_message");
    /* of a field that comes twice the first counts, and an escaped name is the same name */
    static const char twice[] = "{\"m\\u0065ssages\":[{\"role\":\"user\",\"content\":\"1\"}],"
                                "\"messages\":5}";
    REQUIRE(bt_api_parse(&bt_openai_chat, NULL, NULL, twice, sizeof twice - 1, &req, &e) == BT_OK);
    CHECK_STR(written(req.part[0].chat->messages), "[{\"role\":\"user\",\"content\":\"1\"}]");
    bt_api_request_release(&req);
}

static bt_status prompt(const char *value)
{
    char body[2048];
    snprintf(body, sizeof body, "{\"prompt\":%s,\"echo\":true,\"logprobs\":1,\"max_tokens\":0}",
             value);
    return bt_api_parse(&bt_openai_completion, NULL, NULL, body, strlen(body), &req, &e);
}

static void prompts(void)
{
    REQUIRE(prompt("[\"a\",[1,2,3],\"\"]") == BT_OK);
    CHECK_INT(req.n_parts, 3);
    CHECK_STR(req.part[0].text, "a");
    CHECK_INT(req.part[1].n_tokens, 3);
    CHECK_INT(req.part[1].tokens[2], 3);
    CHECK(req.part[1].text == NULL && req.part[2].tokens == NULL);
    CHECK(req.score_only && req.echo && req.logprobs);
    CHECK(req.part[2].params.prompt_logprobs);
    CHECK_INT(req.part[2].params.max_tokens, 1);
    bt_api_request_release(&req);
    REQUIRE(prompt("[5,6]") == BT_OK);
    CHECK_INT(req.n_parts, 1);
    CHECK_INT(req.part[0].n_tokens, 2);
    bt_api_request_release(&req);
    refused_one(prompt, "null", "prompt");
    refused_one(prompt, "5", "prompt");
    refused_one(prompt, "[]", "prompt");
    refused_one(prompt, "[[]]", "prompt");
    refused_one(prompt, "[1,-1]", "prompt");
    refused_one(prompt, "[1,\"a\"]", "prompt");
    refused_one(prompt, "[1,1.5]", "prompt");
    refused_one(prompt, "[{}]", "prompt");
    static const char *const wrong[][2] = {{"[\"a\",\"b\",7]", "'prompt[2]'"},
                                           {"[\"a\",null]", "'prompt[1]'"},
                                           {"[[]]", "'prompt[0]'"},
                                           {"[[1],[2,-1]]", "'prompt[1][1]'"},
                                           {"[1,\"a\"]", "'prompt[1]'"},
                                           {"{}", "'prompt'"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        refused_one(prompt, wrong[i][0], "prompt");
        CHECK(strstr(e.msg, wrong[i][1]));
    }
    char many[4 * (BT_API_PARTS_MAX + 1) + 2] = "[";
    for (int i = 0; i <= BT_API_PARTS_MAX; i++) memcpy(many + 1 + 4 * i, "\"a\",", 4);
    many[4 * (BT_API_PARTS_MAX + 1)] = ']';
    refused_one(prompt, many, "prompt");
    memcpy(many + 4 * BT_API_PARTS_MAX, "]", 2);
    REQUIRE(prompt(many) == BT_OK);
    CHECK_INT(req.n_parts, 128);
    bt_api_request_release(&req);
}

/* Each prefix of a good body is refused, and reads nothing past its end. */
static void truncation(void)
{
    static const char body[] =
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
        "\"text\":"
        "\"\\u00e9\xC3\xA9\"}]}],\"logit_bias\":{\"5\":-1e2},\"stop\":[\"x\"],\"stream\":true}";
    for (size_t n = 0; n < sizeof body - 1; n++) {
        char *exact = malloc(n + !n);
        memcpy(exact, body, n);
        CHECK_INT(bt_api_parse(&bt_openai_chat, NULL, NULL, exact, n, &req, &e), BT_EINVAL);
        CHECK_INT(bt_api_parse(&bt_openai_completion, NULL, NULL, exact, n, &req, &e), BT_EINVAL);
        free(exact);
    }
    CHECK_INT(bt_api_parse(&bt_openai_chat, NULL, NULL, body, sizeof body - 1, &req, &e), BT_OK);
    bt_api_request_release(&req);
    char more[sizeof body + 1];
    snprintf(more, sizeof more, "%sx", body);
    CHECK_INT(bt_api_parse(&bt_openai_chat, NULL, NULL, more, sizeof body, &req, &e), BT_EINVAL);
    CHECK(strstr(e.msg, "byte") != NULL);
    CHECK_INT(bt_api_parse(&bt_openai_chat, NULL, NULL, "[]", 2, &req, &e), BT_EINVAL);
}

/* Every allocation that fails leaves a clean refusal behind. */
static void out_of_memory(void)
{
    static const char body[] = "{\"prompt\":[\"a\",[1,2]],\"stop\":\"x\",\"logit_bias\":{\"1\":1}}";
    for (long n = 1; n < 100; n++) {
        bt_mem_fail_at(n);
        bt_status rc =
            bt_api_parse(&bt_openai_completion, NULL, NULL, body, sizeof body - 1, &req, &e);
        bool failed = bt_mem_failed();
        bt_mem_fail_at(0);
        CHECK_INT(rc, failed ? BT_ENOMEM : BT_OK);
        bt_api_request_release(&req);
        if (!failed) return;
    }
    CHECK(false); // more allocations than expected
}

static void chat_out_of_memory(void)
{
    static const char body[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"\\n\"}],\"tools\":[" TOOL "],"
        "\"reasoning_effort\":\"low\",\"chat_template_kwargs\":{\"a\":1}}";
    for (long n = 1; n < 100; n++) {
        bt_mem_fail_at(n);
        bt_status rc = bt_api_parse(&bt_openai_chat, NULL, NULL, body, sizeof body - 1, &req, &e);
        bool failed = bt_mem_failed();
        bt_mem_fail_at(0);
        CHECK_INT(rc, failed ? BT_ENOMEM : BT_OK);
        bt_api_request_release(&req);
        if (!failed) return;
    }
    CHECK(false); // more allocations than expected
}

static void model_names(void)
{
    CHECK(bt_api_model_matches("tiny", "tiny", NULL));
    CHECK(bt_api_model_matches("tiny.gguf", "tiny", NULL));
    CHECK(bt_api_model_matches("org/tiny", "tiny", NULL));
    CHECK(bt_api_model_matches("stories.gguf", "tiny", "/models/stories.gguf"));
    CHECK(bt_api_model_matches("stories", "tiny", "/models/stories.gguf"));
    CHECK(!bt_api_model_matches("tin", "tiny", NULL));
    CHECK(!bt_api_model_matches("", "tiny", "/models/stories.gguf"));
    CHECK(!bt_api_model_matches("gpt-4o", "tiny", "/models/stories.gguf"));
}

int main(void)
{
    RUN(defaults);
    RUN(all_fields);
    RUN(null_is_absent);
    RUN(bad_values);
    RUN(seeds);
    RUN(chat_messages);
    RUN(chat_tools);
    RUN(chat_settings);
    RUN(chat_out_of_memory);
    RUN(prompts);
    RUN(truncation);
    RUN(out_of_memory);
    RUN(model_names);
    return TEST_END();
}
