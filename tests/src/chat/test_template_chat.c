/* SPDX-License-Identifier: Apache-2.0 */
/* A model's chat format: which template it is, what ends an answer, and that users' text forms no
 * control token. */
#include "chat/template_chat.h"
#include "base/assert.h"
#include "json.h"
#include "src/token/text_fixture.h"

#define STORIES BATON_SOURCE_DIR "/models/stories260K.gguf"
enum { IM_START = 10246, IM_END = 10247 }; // of Qwen2's part

static bt_chat *open_chat(const fixture *f, const char *own)
{
    bt_chat *c = NULL;
    bt_err err = {0};
    if (bt_chat_open(f->vocab, own, &c, &err)) fprintf(stderr, "%s\n", err.msg);
    REQUIRE(c != NULL);
    return c;
}

static bt_template_chat ask(const char *messages)
{
    return (bt_template_chat){.messages = json(messages), .add_generation_prompt = true};
}

static bt_jinja_output render(const bt_chat *c, const bt_template_chat *chat)
{
    bt_jinja_output out = {0};
    bt_err err = {0};
    if (bt_chat_render(c, chat, &out, &err)) fprintf(stderr, "%s\n", err.msg);
    REQUIRE(out.text != NULL);
    return out;
}

static int count(const int32_t *ids, size_t n, int32_t id)
{
    int found = 0;
    for (size_t i = 0; i < n; i++) found += ids[i] == id;
    return found;
}

static void plain_where_there_is_none(void)
{
    fixture f = fixture_text(STORIES);
    bt_chat *c = open_chat(&f, NULL);
    CHECK(bt_chat_is_plain(c) && !bt_chat_caps(c)->tools);
    CHECK_STR(bt_chat_stop(c), "\nUser:");
    bt_template_chat chat =
        ask("[{\"role\":\"developer\",\"content\":\"S\"},"
            "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
            "{\"type\":\"text\",\"text\":\"b\"}]},"
            "{\"role\":\"assistant\",\"content\":null},"
            "{\"role\":\"tool\",\"content\":\"<s>\"}]");
    bt_jinja_output out = render(c, &chat);
    CHECK_STR(out.text, "System: S\nUser: a\nb\nAssistant: \nTool: <s>\nAssistant:");
    const int32_t *ids;
    size_t n;
    REQUIRE(bt_chat_encode(c, f.encoder, &out, false, 0, NULL, &ids, &n, NULL) == BT_OK);
    CHECK_INT(ids[0], 1); // the plain format writes no BOS itself
    CHECK_INT(count(ids, n, 1), 1);
    REQUIRE(bt_chat_encode(c, f.encoder, &out, true, 0, NULL, &ids, &n, NULL) == BT_OK);
    CHECK_INT(count(ids, n, 1), 2);
    CHECK_INT(bt_chat_encode(c, f.encoder, &out, true, 3, NULL, &ids, &n, NULL), BT_ECONTEXT);
    bt_jinja_output_release(&out);
    bt_chat_close(c);
    fixture_close(&f);
}

static void refusals(void)
{
    fixture f = fixture_text(STORIES);
    bt_chat *c = open_chat(&f, "plain"), *none = NULL;
    bt_jinja_output out = {0};
    bt_err err = {0};
    bt_template_chat chat = ask("[{\"role\":\"king\",\"content\":\"x\"}]");
    CHECK_INT(bt_chat_render(c, &chat, &out, &err), BT_EINVAL);
    CHECK_STR(err.msg, "a message's role must be system, developer, user, assistant or tool");
    CHECK_STR(err.field, "messages[0].role");
    chat = ask("[{\"role\":\"user\",\"content\":\"x\"}]");
    chat.tools = json("[{}]");
    CHECK_INT(bt_chat_render(c, &chat, &out, &err), BT_EINVAL);
    CHECK(strstr(err.msg, "tools") != NULL);
    CHECK_STR(err.field, "tools");
    chat.tools = NULL;
    chat.documents = json("[\"x\"]");
    CHECK_INT(bt_chat_render(c, &chat, &out, &err), BT_EINVAL);
    CHECK_STR(err.field, "documents");
    chat.documents = NULL;
    chat.kwargs = json("{\"messages\":[]}");
    CHECK_INT(bt_chat_render(c, &chat, &out, &err), BT_EINVAL);
    CHECK_STR(err.field, "chat_template_kwargs.messages");
    chat = ask("[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":\"y\","
               "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}]");
    CHECK_INT(bt_chat_render(c, &chat, &out, &err), BT_EINVAL);
    CHECK_STR(err.field, "messages[1].tool_calls");
    CHECK(strstr(err.msg, err.field) != NULL);
    CHECK_INT(bt_chat_open(f.vocab, "{% if %}", &none, &err), BT_EFORMAT);
    CHECK(none == NULL && strstr(err.msg, "line 1") != NULL);
    bt_chat_close(c);
    fixture_close(&f);
}

static void models_own(void)
{
    fixture f = fixture_text(VOCAB_DIR "qwen2.gguf");
    bt_chat *c = open_chat(&f, NULL);
    CHECK(!bt_chat_is_plain(c) && bt_chat_stop(c) == NULL);
    bt_template_chat chat = ask("[{\"role\":\"user\",\"content\":\"a<|im_end|>b\"}]");
    bt_jinja_output out = render(c, &chat);
    CHECK_STR(out.text, "<|im_start|>system\nYou are a helpful assistant<|im_end|>\n"
                        "<|im_start|>user\na<|im_end|>b<|im_end|>\n<|im_start|>assistant\n");
    const int32_t *ids;
    size_t n;
    REQUIRE(bt_chat_encode(c, f.encoder, &out, false, 0, NULL, &ids, &n, NULL) == BT_OK);
    CHECK_INT(ids[0], IM_START);
    CHECK_INT(count(ids, n, IM_START), 3);
    CHECK_INT(count(ids, n, IM_END), 2);
    REQUIRE(bt_chat_encode(c, f.encoder, &out, true, 0, NULL, &ids, &n, NULL) == BT_OK);
    CHECK_INT(count(ids, n, IM_END), 3);
    bt_jinja_output_release(&out);
    bt_chat_close(c);
    fixture_close(&f);
}

/* Special tokens of the vocabulary are the template's variables, and theirs. */
static void special_tokens_are_known(void)
{
    fixture f = fixture_text(STORIES);
    bt_chat *c =
        open_chat(&f, "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}"
                      "{% endfor %}{{ unk_token }}{{ strftime_now('%Y') }}{{ now is defined }}");
    bt_template_chat chat = ask("[{\"role\":\"user\",\"content\":\"</s>\"}]");
    chat.now_local_us = INT64_C(1722006245000000);
    bt_jinja_output out = render(c, &chat);
    CHECK_STR(out.text, "<s></s></s><unk>2024False");
    const int32_t *ids;
    size_t n;
    REQUIRE(bt_chat_encode(c, f.encoder, &out, false, 0, NULL, &ids, &n, NULL) == BT_OK);
    CHECK_INT(ids[0], 1);
    CHECK_INT(count(ids, n, 1), 1);
    CHECK_INT(count(ids, n, 2), 1);
    bt_jinja_output_release(&out);
    bt_chat_close(c);
    fixture_close(&f);
}

/* Of a GGUF file: by the ids that it names. */
static void padding_is_known(void)
{
    fixture f = fixture_text(VOCAB_DIR "qwen2.gguf");
    bt_chat *c = open_chat(&f, "{{ pad_token }}{{ messages[0].content }}{{ sep_token }}");
    bt_template_chat chat = ask("[{\"role\":\"user\",\"content\":\"U\"}]");
    bt_jinja_output out = render(c, &chat);
    CHECK_STR(out.text, "<|endoftext|>U");
    bt_jinja_output_release(&out);
    bt_chat_close(c);
    fixture_close(&f);
}

/* A template written for people who do not know of developers gets a system message. */
static void developers(void)
{
    fixture f = fixture_text(STORIES);
    static const char role[] = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
    static const char knows[] = "{% for m in messages %}{% if m.role == 'developer' %}D{% endif %}"
                                "[{{ m.role }}]{{ m.content }}{% endfor %}";
    static const char *const rows[][2] = {{role, "[system]x"}, {knows, "D[developer]x"}};
    for (size_t i = 0; i < BT_COUNT(rows); i++) {
        bt_chat *c = open_chat(&f, rows[i][0]);
        bt_template_chat chat = ask("[{\"role\":\"developer\",\"content\":\"x\"}]");
        bt_jinja_output out = render(c, &chat);
        CHECK_STR(out.text, rows[i][1]);
        bt_jinja_output_release(&out);
        bt_chat_close(c);
    }
    fixture_close(&f);
}

static void safe_writes_no_html(void)
{
    fixture f = fixture_text(STORIES);
    bt_chat *c = open_chat(&f, "{{ ('<b>'|safe) + messages[0].content }}");
    bt_template_chat chat = ask("[{\"role\":\"user\",\"content\":\"\\\"&\\\"\"}]");
    bt_jinja_output out = render(c, &chat);
    CHECK_STR(out.text, "<b>\"&\"");
    bt_jinja_output_release(&out);
    bt_chat_close(c);
    fixture_close(&f);
}

static void memory_runs_out(void)
{
    fixture f = fixture_text(STORIES);
    bt_chat *c = open_chat(&f, NULL);
    bt_template_chat chat = ask("[{\"role\":\"user\",\"content\":\"Once upon a time\"}]");
    long n = 1;
    for (bool failed = true; failed && n < 200; n++) {
        bt_jinja_output out = {0};
        const int32_t *ids;
        size_t n_ids;
        bt_mem_fail_at(n);
        bt_status st = bt_chat_render(c, &chat, &out, NULL);
        if (!st) st = bt_chat_encode(c, f.encoder, &out, false, 0, NULL, &ids, &n_ids, NULL);
        failed = bt_mem_failed();
        bt_mem_fail_at(0);
        CHECK_INT(st, failed ? BT_ENOMEM : BT_OK);
        bt_jinja_output_release(&out);
    }
    CHECK(n > 3 && n < 200);
    bt_chat_close(c);
    fixture_close(&f);
}

int main(void)
{
    RUN(plain_where_there_is_none);
    RUN(refusals);
    RUN(models_own);
    RUN(special_tokens_are_known);
    RUN(padding_is_known);
    RUN(developers);
    RUN(safe_writes_no_html);
    RUN(memory_runs_out);
    return TEST_END();
}
