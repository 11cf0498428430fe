/* SPDX-License-Identifier: Apache-2.0 */
/* test_template.c - chat templates as a service: provenance of the prompt's bytes, choosing among
 * named templates, capabilities and what is done about their lack, continue_final_message, bounds.
 */
#include "base/clock.h"
#include "src/jinja/template_fixture.h"
#include "chat/template.h"
#include <pthread.h>

enum { SLOW = TEST_SANITIZED ? 20 : 1 }; // a sanitizer's share of the time

static bt_template *open_one(const char *source)
{
    static const bt_template_token tokens[] = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
    bt_template_source s = {NULL, {source, strlen(source)}};
    bt_template *t = NULL;
    bt_err err = {0};
    if (bt_template_new(&s, 1, tokens, 2, NULL, &t, &err)) fprintf(stderr, "%s\n", err.msg);
    REQUIRE(t);
    return t;
}

#define text_is(s)                                                                                 \
    {                                                                                              \
        s, sizeof s - 1                                                                            \
    }

/* The prompt with user bytes in [brackets] and generated ones in (parentheses). */
static const char *marked(const bt_jinja_output *out)
{
    static char line[4096];
    size_t n = 0, at = 0;
    for (size_t i = 0; i < out->n_ranges; i++) {
        const bt_jinja_range *g = &out->range[i];
        CHECK(g->start == at && g->end > g->start && g->end <= out->len);
        if (g->flags & BT_JINJA_GENERATION) line[n++] = '(';
        if (g->flags & BT_JINJA_USER) line[n++] = '[';
        memcpy(line + n, out->text + g->start, g->end - g->start);
        n += g->end - g->start;
        if (g->flags & BT_JINJA_USER) line[n++] = ']';
        if (g->flags & BT_JINJA_GENERATION) line[n++] = ')';
        at = g->end;
    }
    CHECK_INT(at, out->len);
    line[n] = 0;
    return line;
}

static const char *render_marked(const char *source, const char *context)
{
    static char line[4096];
    bt_jinja *t = NULL;
    bt_jinja_output out = {0};
    bt_err err = {0};
    bt_jinja_vars vars = {context, strlen(context), false};
    REQUIRE(bt_jinja_compile(source, strlen(source), NULL, &t, NULL, &err) == BT_OK);
    if (bt_jinja_render(t, &vars, 1, NULL, &out, NULL, &err))
        snprintf(line, sizeof line, "! %s", err.msg);
    else
        snprintf(line, sizeof line, "%s", marked(&out));
    bt_jinja_output_release(&out);
    bt_jinja_free(t);
    return line;
}

static void user_bytes_stay_marked(void)
{
    static const struct {
        const char *source, *want;
    } rows[] = {
        {"<|a|>{{ u }}<|b|>", "<|a|>[ Hi <|x|> ]<|b|>"},
        {"{{ '<|' + u|trim + '|>' }}", "<|[Hi <|x|>]|>"},
        {"{{ 'a' ~ u ~ 'b' ~ u }}", "a[ Hi <|x|> ]b[ Hi <|x|> ]"},
        {"{{ u|upper }}{{ u|lower|trim }}{{ u|title }}", "[ HI <|X|> hi <|x|> Hi <|x|> ]"},
        {"{{ u|replace('Hi', '<|im|>') }}", "[ ]<|im|>[ <|x|> ]"},
        {"{{ 'say HI'|replace('HI', u) }}", "say [ Hi <|x|> ]"},
        {"{{ ['a', u, 'b']|join('-') }}", "a-[ Hi <|x|> ]-b"},
        {"{{ u.split()|join('+') }}", "[Hi]+[<|x|>]"},
        {"{{ u[1:3] }}{{ ('a' + u + 'b')[::-1] }}", "[Hi]b[ >|x|< iH ]a"},
        {"{{ d|tojson }}", "{\"[k]\": [\"[v<|y|>]\", 1]}"},
        {"{{ d }}", "{'[k]': ['[v<|y|>]', 1]}"},
        {"{{ '%s=%d'|format(u, 5) }}{{ '{}!'.format(u) }}", "[ Hi <|x|> ]=5[ Hi <|x|> ]!"},
        {"{% set x %}<{{ u }}>{% endset %}{{ x }}", "<[ Hi <|x|> ]>"},
        {"{% macro m(t) %}({{ t }}){% endmacro %}{{ m(u) }}", "([ Hi <|x|> ])"},
        {"{% filter upper %}a{{ u }}{% endfilter %}", "A[ HI <|X|> ]"},
        {"{% for c in u|trim %}{{ c }}.{% endfor %}", "[H].[i].[ ].[<].[|].[x].[|].[>]."},
        {"{{ u|indent(2, true) }}{{ u|center(14) }}", "  [ Hi <|x|> ]  [ Hi <|x|> ]  "},
        {"{% for k, v in d.items() %}{{ k }}={{ v[0] }}{% endfor %}", "[k]=[v<|y|>]"},
        {"{{ u|e }}", "[ Hi &lt;|x|&gt; ]"},
        {"{% set ns = namespace(t='') %}{% for i in [1, 2] %}{% set ns.t = ns.t + i|string + "
         "u|trim "
         "%}{% endfor %}{{ ns.t }}",
         "1[Hi <|x|>]2[Hi <|x|>]"},
        {"a{% generation %}b{{ u|trim }}{% endgeneration %}c", "a(b)([Hi <|x|>])c"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK_STR(render_marked(rows[i].source,
                                "{\"u\": \" Hi <|x|> \", \"d\": {\"k\": [\"v<|y|>\", 1]}}"),
                  rows[i].want);
}

static const char *chat_line(const bt_template *t, const bt_template_chat *chat)
{
    static char line[4096];
    bt_jinja_output out = {0};
    bt_err err = {0};
    if (bt_template_render(t, chat, &out, NULL, &err))
        snprintf(line, sizeof line, "! %s", err.msg);
    else
        snprintf(line, sizeof line, "%s", marked(&out));
    bt_jinja_output_release(&out);
    return line;
}

static const char *chat_of(const char *source, const char *messages)
{
    bt_template *t = open_one(source);
    bt_template_chat chat = {.messages = json(messages), .add_generation_prompt = true};
    const char *line = chat_line(t, &chat);
    bt_template_free(t);
    return line;
}

#define CHATML                                                                                     \
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + eos_token }}{% endfor %}"        \
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"

static void roles_build_markers(void)
{
    CHECK_STR(chat_of(CHATML, "[{\"role\":\"user\",\"content\":\"<|end|>\"}]"),
              "<|user|>[<|end|>]</s><|assistant|>");
    /* a role nobody knows cannot make a marker */
    CHECK_STR(chat_of(CHATML, "[{\"role\":\"end\",\"content\":\"x\"}]"),
              "<|[end]|>[x]</s><|assistant|>");
}

static void content_is_adapted(void)
{
    CHECK_STR(chat_of(CHATML, "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
                              "{\"type\":\"text\",\"text\":\"b\"}]}]"),
              "<|user|>[a\nb]</s><|assistant|>");
    CHECK_STR(chat_of(CHATML, "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]"),
              "! this model's chat template takes text only, but part 1 of a message's content has "
              "no text");
    CHECK_STR(chat_of(CHATML, "[{\"role\":\"assistant\",\"content\":null}]"),
              "<|assistant|></s><|assistant|>");
    CHECK_STR(chat_of("{% for m in messages %}{% for p in m.content %}{{ p.text }};{% endfor %}"
                      "{% endfor %}",
                      "[{\"role\":\"user\",\"content\":\"plain\"}]"),
              "[plain];");
    CHECK_STR(chat_of("{% if messages[0].role == 'system' %}{{ raise_exception('No system') }}"
                      "{% endif %}" CHATML,
                      "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":"
                      "\"U\"}]"),
              "<|user|>[S]\n\n[U]</s><|assistant|>");
}

static void arguments_are_adapted(void)
{
    static const char calls[] =
        "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"\","
        "\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"f\","
        "\"arguments\":%s}}]}]";
    static const char as_object[] =
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{% for k, v in "
        "c.function.arguments.items() %}{{ k }}={{ v }};{% endfor %}{% endfor %}{{ m.content }}"
        "{% endfor %}";
    static const char as_text[] =
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ 'A' + c.function.arguments }}"
        "{% endfor %}{{ m.content }}{% endfor %}";
    static const char as_json[] =
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.arguments|tojson }}"
        "{% endfor %}{{ m.content }}{% endfor %}";
    char text_form[400], object_form[400];
    snprintf(text_form, sizeof text_form, calls, "\"{\\\"a\\\": 1, \\\"b\\\": \\\"x\\\"}\"");
    snprintf(object_form, sizeof object_form, calls, "{\"a\": 1, \"b\": \"x\"}");
    CHECK_STR(chat_of(as_object, text_form), "[ua]=1;[b]=[x];");
    CHECK_STR(chat_of(as_object, object_form), "[ua]=1;[b]=[x];");
    CHECK_STR(chat_of(as_text, text_form), "[u]A[{\"a\": 1, \"b\": \"x\"}]");
    CHECK_STR(chat_of(as_text, object_form), "[u]A{\"[a]\": 1, \"[b]\": \"[x]\"}");
    CHECK_STR(chat_of(as_json, text_form), "[u]{\"[a]\": 1, \"[b]\": \"[x]\"}");
    /* no arguments, however a client says so */
    static const char *const none[] = {"\"\"", "\" \\n\"", "null", "{}", "\"{}\""};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        snprintf(text_form, sizeof text_form, calls, none[i]);
        CHECK_STR(chat_of(as_object, text_form), "[u]");
        CHECK_STR(chat_of(as_text, text_form), i < 4 ? "[u]A{}" : "[u]A[{}]");
        CHECK_STR(chat_of(as_json, text_form), "[u]{}");
    }
}

/* What a model wrote and is no JSON: text where the template takes text, else named. */
static void free_arguments(void)
{
    static const char *const wrong[][2] = {{"\"{x\"", "{x"},
                                           {"\"{\\\"a\\\":1} x\"", "{\"a\":1} x"},
                                           {"\"Rome\"", "Rome"},
                                           {"\"[1]\"", "[1]"}};
    static const char messages[] =
        "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"u\"},"
        "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":"
        "\"f\",\"arguments\":\"{}\"}},{\"function\":{\"name\":\"f\",\"arguments\":%s}}]}]";
    static const char each[] = "{% for m in messages %}{% for c in m.tool_calls or [] %}";
    static const char end[] = "{% endfor %}{{ m.content }}{% endfor %}";
    static const struct {
        const char *print;
        bool text;
    } row[] = {{"{{ 'A' + c.function.arguments }}", true},
               {"{{ c.function.arguments|tojson }}", true},
               {"{{ c.function|tojson }}", true},
               {"{% if c.function.arguments is string %}{{ c.function.arguments }}{% else %}"
                "{{ c.function.arguments|tojson }}{% endif %}",
                true},
               {"{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}", false},
               {"{% for k, v in c.function.arguments|items %}{{ k }}={{ v }}{% endfor %}", false},
               {"{{ c.function.name }}", true}}; // shows no arguments: has nothing to object to
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char source[600], body[600];
        snprintf(source, sizeof source, "%s%s%s", each, row[i].print, end);
        bt_template *t = open_one(source);
        for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
            bt_jinja_output out = {0};
            bt_err err = {0};
            snprintf(body, sizeof body, messages, wrong[k][0]);
            bt_template_chat chat = {.messages = json(body)};
            bt_status st = bt_template_render(t, &chat, &out, NULL, &err);
            CHECK_INT(st, row[i].text ? BT_OK : BT_EINVAL);
            if (i == 0) CHECK(st == BT_OK && strstr(out.text, wrong[k][1]));
            if (!row[i].text) {
                CHECK_STR(err.field, "messages[2].tool_calls[1].function.arguments");
                CHECK(strstr(err.msg, err.field));
            }
            bt_jinja_output_release(&out);
        }
        bt_template_free(t);
    }
}

/* What a template shows nothing of is refused by name; what it shows any of, or cannot be tried,
 * goes in. */
static void nothing_is_dropped(void)
{
    static const char call[] = "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\","
                               "\"content\":\"a\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
                               "\"arguments\":\"{}\"}}]},{\"role\":\"user\",\"content\":\"v\"}]";
    static const char none[] = "[{\"role\":\"assistant\",\"content\":\"a\",\"tool_calls\":[]}]";
#define EACH(more) "{% for m in messages %}{{ m.content }}" more "{% endfor %}"
    static const struct {
        const char *source, *messages, *documents, *field; // NULL: is rendered
    } row[] = {
        {EACH(""), call, NULL, "messages[1].tool_calls"},
        {EACH(""), none, NULL, NULL},
        {EACH("{% for c in m.tool_calls %}{{ c.function.name }}{% endfor %}"), call, NULL, NULL},
        {EACH("{% if m.tool_calls %}!{% endif %}"), call, NULL, NULL},
        {"{% for m in messages %}{{ m.content or m.tool_calls[0].function.name }}{% endfor %}",
         call, NULL, NULL},
        {EACH(""), none, "[{\"text\":\"x\"}]", "documents"},
        {EACH("") "{% for d in documents or [] %}{{ d.text }}{% endfor %}", none, "[{}]", NULL},
        {EACH("") "{% if documents %}{{ raise_exception('two') }}{% endif %}", none, "[{}]",
         "messages"},
    };
#undef EACH
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        bt_template *t = open_one(row[i].source);
        bt_jinja_output out = {0};
        bt_err err = {0};
        bt_template_chat chat = {.messages = json(row[i].messages)};
        chat.documents = json(row[i].documents);
        CHECK_INT(bt_template_render(t, &chat, &out, NULL, &err), row[i].field ? BT_EINVAL : BT_OK);
        CHECK_STR(err.field, row[i].field ? row[i].field : "");
        bt_jinja_output_release(&out);
        bt_template_free(t);
    }
}

static void capabilities(void)
{
    bt_template *t = open_one(CHATML);
    const bt_template_caps *c = bt_template_get_caps(t);
    CHECK(c->system_role && c->content_string[BT_ROLE_USER] && c->generation_prompt);
    CHECK(!c->content_parts[BT_ROLE_USER] && !c->tools && !c->tool_calls && !c->reasoning &&
          !c->enable_thinking);
    bt_template_free(t);
    t = open_one("{% if tools %}{{ tools|tojson }}{% endif %}{% for m in messages %}"
                 "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
                 "{% if m.content is string %}{{ m.content }}{% elif m.content %}{% for p in "
                 "m.content %}{{ p.text }}{% endfor %}{% endif %}{% for c in m.tool_calls or [] %}"
                 "{{ c.id }}{{ c.function.arguments|tojson }}{% endfor %}{% endfor %}{% if not "
                 "enable_thinking|default(true) %}<think></think>{% endif %}");
    c = bt_template_get_caps(t);
    CHECK(c->system_role && c->content_string[BT_ROLE_USER] && c->content_parts[BT_ROLE_USER] &&
          c->null_content && c->tools);
    CHECK(c->tool_calls && c->tool_results && c->tool_call_id && c->object_arguments);
    CHECK(c->reasoning && c->enable_thinking && !c->generation_prompt);
    bt_template_free(t);
}

/* What holds without tools need not hold with them, nor of one role what holds of another. */
static void every_combination_is_probed(void)
{
    static const char system_or_tools[] =
        "{% if tools %}[{{ tools|tojson|length > 0 }}]{% for m in messages if m.role != 'system' %}"
        "{{ m.content }};{% endfor %}{% else %}{% for m in messages %}{{ m.role }}:{{ m.content }};"
        "{% endfor %}{% endif %}";
    static const char parts_of_users[] =
        "{% for m in messages %}{% if m.role == 'user' and m.content is not string %}"
        "{% for p in m.content %}{{ p.text }}{% endfor %}{% else %}{{ m.content + '' }}{% endif %};"
        "{% endfor %}";
    static const char first_only[] =
        "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
        "{{ raise_exception('System message must be at the beginning.') }}{% endif %}"
        "{{ m.role }}:{{ m.content }};{% endfor %}";
    static const char no_tool_parts[] =
        "{% for m in messages %}{% if m.role == 'tool' %}{{ m.content|trim }}{% elif m.content is "
        "string %}{{ m.content }}{% elif m.content %}{{ m.content[0].text }}{% endif %}"
        "{% for c in m.tool_calls or [] %}{{ c.function.arguments|tojson }}{% endfor %};{% endfor "
        "%}";
    static const char talk[] = "[{\"role\":\"system\",\"content\":\"S\"},"
                               "{\"role\":\"user\",\"content\":\"U\"}]";
    static const char parts[] =
        "[{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"S\"}]},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"U\"}]}]";
    static const char many[] = "[{\"role\":\"system\",\"content\":\"A\"},"
                               "{\"role\":\"developer\",\"content\":\"B\"},"
                               "{\"role\":\"user\",\"content\":\"U\"},"
                               "{\"role\":\"assistant\",\"content\":\"R\"},"
                               "{\"role\":\"system\",\"content\":\"C\"},"
                               "{\"role\":\"user\",\"content\":\"V\"}]";
    static const char result[] =
        "[{\"role\":\"user\",\"content\":\"U\"},{\"role\":\"assistant\",\"content\":null,"
        "\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"f\","
        "\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"1\","
        "\"content\":[{\"type\":\"text\",\"text\":\"T\"}]}]";
    static const struct {
        const char *source, *messages, *tools, *want;
    } rows[] = {
        {system_or_tools, talk, NULL, "system:[S];user:[U];"},
        {system_or_tools, talk, "[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]",
         "[True][S]\n\n[U];"},
        {parts_of_users, parts, NULL, "[S];[U];"},
        {first_only, talk, NULL, "system:[S];user:[U];"},
        {first_only, many, NULL, "system:[A]\n\n[B];user:[U];assistant:[R];user:[C]\n\n[V];"},
        {CHATML, many, NULL,
         "<|system|>[A]</s><|system|>[B]</s><|user|>[U]</s><|assistant|>[R]</s><|system|>[C]</s>"
         "<|user|>[V]</s>"},
        {no_tool_parts, result, NULL, "[U];{};[T];"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bt_template *t = open_one(rows[i].source);
        bt_template_chat chat = {.messages = json(rows[i].messages), .tools = json(rows[i].tools)};
        CHECK_STR(chat_line(t, &chat), rows[i].want);
        bt_template_free(t);
    }
}

/* A named template is asked for itself: what another can do says nothing. */
static void named_templates_are_probed_each(void)
{
    static const bt_template_source of[] = {
        {"default", text_is("{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}")},
        {"tool_use", text_is("{{ tools|length }}{% for m in messages %}{% if m.role == 'system' %}"
                             "{{ raise_exception('none here') }}{% endif %}{{ m.content }};"
                             "{% endfor %}")},
        {"rag", text_is("{{ documents|length }} {{ messages[0].content }}")},
    };
    bt_template *t = NULL;
    bt_template_chat chat = {.messages = json("[{\"role\":\"system\",\"content\":\"S\"},"
                                              "{\"role\":\"user\",\"content\":\"U\"}]")};
    REQUIRE(bt_template_new(of, 3, NULL, 0, NULL, &t, NULL) == BT_OK);
    CHECK_STR(chat_line(t, &chat), "system:[S];user:[U];");
    chat.documents = json("[{}]");
    CHECK_STR(chat_line(t, &chat), "1 [S]");
    chat.tools = json("[{\"name\":\"qNAMEq\"}]");
    CHECK(strstr(chat_line(t, &chat), "no place for documents"));
    chat.documents = NULL;
    CHECK_STR(chat_line(t, &chat), "1[S]\n\n[U];");
    bt_template_free(t);
}

/* Every real template opens, and what it can do is plausible for the lot. */
static void capabilities_of_real_templates(void)
{
    bt_arena arena;
    const bt_json *root = read_json(TEMPLATE_DATA "templates.json", &arena);
    int n = 0, text_in = 0, system_role = 0, tools = 0, parts = 0, thinking = 0, prompt = 0;
    for (const bt_json *item = bt_json_find(root, "templates")->child; item; item = item->next) {
        bt_template *t = open_one(text_of(item, "template"));
        const bt_template_caps *c = bt_template_get_caps(t);
        n++;
        text_in += c->content_string[BT_ROLE_USER];
        system_role += c->system_role;
        tools += c->tools;
        parts += c->content_parts[BT_ROLE_USER];
        thinking += c->enable_thinking;
        prompt += c->generation_prompt;
        bt_template_free(t);
    }
    fprintf(stderr,
            "%d templates: %d take strings, %d parts, %d a system role, %d tools, %d "
            "enable_thinking, %d add_generation_prompt\n",
            n, text_in, parts, system_role, tools, thinking, prompt);
    CHECK_INT(n, 184);
    CHECK(text_in > 160 && system_role > 120 && tools > 80 && thinking > 20 && prompt > 100);
    bt_arena_release(&arena);
}

static void named_templates(void)
{
    static const bt_template_token tokens[] = {{"bos_token", "<B>"}, {"eos_token", "<E>"}};
    static const bt_template_source of[] = {
        {"default", text_is("D{{ bos_token }}{{ messages[0].content }}")},
        {"tool_use", text_is("T{{ tools|length }}{{ documents is none }}")},
        {"rag", text_is("R{{ documents[0].text }}{{ eos_token }}")},
    };
    bt_template *t = NULL;
    bt_err err = {0};
    bt_template_chat chat = {.messages = json("[{\"role\":\"user\",\"content\":\"hi\"}]")};
    REQUIRE(bt_template_new(of, 3, tokens, 2, NULL, &t, &err) == BT_OK);
    CHECK_STR(chat_line(t, &chat), "D<B>[hi]");
    chat.tools = json("[{}, {}]");
    CHECK_STR(chat_line(t, &chat), "T2True");
    chat.name = "rag";
    chat.documents = json("[{\"text\": \"doc\"}]");
    CHECK_STR(chat_line(t, &chat), "R[doc]<E>");
    chat.name = "nope";
    CHECK_STR(chat_line(t, &chat), "! the model has no chat template named 'nope'");
    bt_template_free(t);
    t = open_one("J{{ x }}");
    chat = (bt_template_chat){.messages = chat.messages, .kwargs = json("{\"x\": \"<|y|>\"}")};
    CHECK_STR(chat_line(t, &chat), "J[<|y|>]");
    chat.kwargs = json("{\"messages\": []}");
    CHECK_STR(chat_line(t, &chat), "! 'chat_template_kwargs' may not hold 'messages'");
    bt_template_free(t);
    CHECK_INT(bt_template_new(NULL, 0, NULL, 0, NULL, &t, &err), BT_ENOTFOUND);
    CHECK_STR(err.msg, "the model has no chat template");
    static const bt_template_source broken = {NULL, text_is("a\n{% if %}")};
    CHECK_INT(bt_template_new(&broken, 1, NULL, 0, NULL, &t, &err), BT_EFORMAT);
    CHECK_STR(err.msg, "chat template 'default': line 2 of the chat template: Expected an "
                       "expression, got 'end of statement block'");
}

static void final_message_continues(void)
{
    bt_template *t = open_one(CHATML);
    bt_template_chat chat = {.messages = json("[{\"role\":\"user\",\"content\":\"q\"},"
                                              "{\"role\":\"assistant\",\"content\":\"Once \"}]"),
                             .continue_final_message = true};
    CHECK_STR(chat_line(t, &chat), "<|user|>[q]</s><|assistant|>[Once ]");
    chat.add_generation_prompt = true;
    CHECK_STR(chat_line(t, &chat),
              "! continue_final_message and add_generation_prompt are not compatible");
    bt_template_free(t);
    t = open_one("{% for m in messages %}<{{ m.role }}>{{ m.content|trim }}</s>{% endfor %}");
    chat.add_generation_prompt = false;
    CHECK_STR(chat_line(t, &chat), "<user>[q]</s><assistant>[Once]");
    chat.messages = json("[{\"role\":\"user\"}]");
    chat.as_given = true;
    CHECK_STR(chat_line(t, &chat), "! continue_final_message is set but we could not find any text "
                                   "to continue in the final message!");
    bt_template_free(t);
    t = open_one("nothing");
    chat.messages = json("[{\"role\":\"user\",\"content\":\"x\"}]");
    CHECK(strstr(chat_line(t, &chat), "does not appear in the chat") != NULL);
    bt_template_free(t);
}

/* ---- bounds: every one ends with a sentence, soon */

static void runaways_end(void)
{
    static const struct {
        const char *source, *says;
    } rows[] = {
        {"{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
         "line 1 of the chat template: the template ran for more than 20000000 steps"},
        {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
         "line 1 of the chat template: the template nests or recurses more than 900 levels deep"},
        {"{{ 'x' * 9000000000 }}", "the template repeats a text too often"},
        {"{{ 'x' * 20000000 }}", "the template writes more than 16 MiB"},
        {"{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s "
         "%}{% endfor %}{{ ns.s }}",
         "the template needs more than 256 MiB of memory"},
        {"{% set ns = namespace(l=[0]) %}{% for i in range(64) %}{% set ns.l = ns.l + ns.l %}"
         "{% endfor %}",
         "the template"},
        {"{% for i in range(99999) %}{{ 'abcdefghijklmnopqrstuvwxyz' * 100 }}{% endfor %}",
         "the template writes more than 16 MiB"},
        {"{{ '%1000000s' % 'x' }}{{ '{:9999999}'.format('x') }}", "Too many decimal digits"},
        {"{% set ns = namespace() %}{% set ns.n = ns %}{{ ns }}", "levels deep"},
        {"{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "levels deep"},
        {"{{ 9223372036854775807 + 1 }}", "integers beyond 64 bits"},
        {"{{ 10 ** 30 }}", "integers beyond 64 bits"},
        /* tuples of the same tuples, as a key; searches that begin anew at each byte */
        {"{% set ns = namespace(t=()) %}{% for i in range(100) %}{% set ns.t = (ns.t, ns.t) %}"
         "{% endfor %}{{ {ns.t: 1} }}",
         "steps"},
        {"{{ ('a' * 2000000).rfind('a' * 1000000 ~ 'c') }}", "steps"},
        {"{{ ('a' * 3000000).strip('b' * 300000 ~ 'a') }}", "steps"},
        {"{{ raise_exception(('a' * 1000000).find('a' * 500000 ~ 'c')) }}", "-1"},
        {"{{ raise_exception(('<' * 1000000)|striptags|length) }}", "1000000"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t start = bt_now_ns();
        const char *line = render_marked(rows[i].source, "{}");
        int64_t ms = (bt_now_ns() - start) / 1000000;
        if (!strstr(line, rows[i].says))
            fprintf(stderr, "%s\n  ends with %.100s\n", rows[i].source, line);
        CHECK(line[0] == '!' && strstr(line, rows[i].says));
        CHECK(ms < 8000 * SLOW); // sanitizers included
    }
}

static void deep_sources_end(void)
{
    static const struct {
        const char *open, *middle, *close;
    } shapes[] = {{"(", "1", ")"},          {"[", "", "]"},     {"{1:", "1", "}"},
                  {"-", "1", ""},           {"not ", "1", ""},  {"a[", "0", "]"},
                  {"f(", "", ")"},          {"1 if ", "1", ""}, {"1+", "1", ""},
                  {"x|upper|", "upper", ""}};
    char *source = malloc(400000);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        size_t n = 0;
        n += (size_t)sprintf(source, "{{ ");
        for (int k = 0; k < 20000; k++) n += (size_t)sprintf(source + n, "%s", shapes[i].open);
        n += (size_t)sprintf(source + n, "%s", shapes[i].middle);
        for (int k = 0; k < 20000; k++) n += (size_t)sprintf(source + n, "%s", shapes[i].close);
        n += (size_t)sprintf(source + n, " }}");
        bt_jinja *t = NULL;
        bt_err err = {0};
        CHECK(bt_jinja_compile(source, n, NULL, &t, NULL, &err) != BT_OK && err.msg[0]);
        bt_jinja_free(t);
    }
    size_t n = 0;
    for (int k = 0; k < 10000; k++) n += (size_t)sprintf(source + n, "{%% if 1 %%}");
    bt_jinja *t = NULL;
    CHECK(bt_jinja_compile(source, n, NULL, &t, NULL, NULL) != BT_OK);
    free(source);
}

/* Each prefix, in a buffer of its very size: no overread, no crash. */
static void truncated_sources(void)
{
    static const char source[] =
        "{% macro m(a, b='x\\u00e9\\n') -%} {# c #} {{ a.b['c'][1:-1]|join(', ')|tojson(indent=2) "
        "}}"
        "{%- endmacro %}{% raw %}{{ }}{% endraw %}{% for k, v in d.items() if v is not none "
        "recursive %}{{ loop.index0 ~ 1.5e3 // 2 ** 3 }}{% else %}{% set ns.x = [1, (2,), {'k': "
        "v}] "
        "%}{% endfor %}{% call(x) m(1, *y, **z) %}{% endcall %}{{ 'a' if b else c }}";
    static const char context[] = "{\"a\": [1, -2.5e10, true, false, null, "
                                  "\"\\u00e9\\ud83d\\ude00\\n\"], \"b\": {\"c\": []}}";
    for (size_t n = 0; n < sizeof source; n++) {
        char *copy = malloc(n ? n : 1);
        bt_jinja *t = NULL;
        bt_jinja_error error = {0};
        memcpy(copy, source, n);
        bt_status st = bt_jinja_compile(copy, n, NULL, &t, &error, NULL);
        CHECK((st == BT_OK) == (error.fault == BT_JINJA_OK));
        bt_jinja_free(t);
        free(copy);
    }
    bt_jinja *t = NULL;
    REQUIRE(bt_jinja_compile("{{ a }}{{ b }}", 14, NULL, &t, NULL, NULL) == BT_OK);
    for (size_t n = 0; n < sizeof context; n++) {
        char *copy = malloc(n ? n : 1);
        bt_jinja_output out = {0};
        memcpy(copy, context, n);
        bt_jinja_vars vars = {copy, n, false};
        bt_status st = bt_jinja_render(t, &vars, 1, NULL, &out, NULL, NULL);
        CHECK((st == BT_OK) == (n == sizeof context - 1));
        bt_jinja_output_release(&out);
        free(copy);
    }
    bt_jinja_free(t);
}

/* Out of memory at each point: an error, nothing leaked. */
static void memory_runs_out(void)
{
    for (long n = 1; n < 40; n++) {
        bt_jinja *t = NULL;
        bt_jinja_output out = {0};
        bt_jinja_vars vars = {"{\"a\": \"b\"}", 10, false};
        static const char source[] = "{% for i in range(500) %}{{ a ~ i }}{% endfor %}";
        bt_mem_fail_at(n);
        bt_status st = bt_jinja_compile(source, sizeof source - 1, NULL, &t, NULL, NULL);
        if (st == BT_OK) st = bt_jinja_render(t, &vars, 1, NULL, &out, NULL, NULL);
        CHECK_INT(st, bt_mem_failed() ? BT_ENOMEM : BT_OK);
        bt_mem_fail_at(0);
        bt_jinja_output_release(&out);
        bt_jinja_free(t);
    }
}

static bt_template *shared;
static const bt_json *shared_messages;

static void *render_many(void *ud)
{
    bt_template_chat chat = {.messages = shared_messages};
    int *bad = ud;
    for (int i = 0; i < 300; i++) {
        bt_jinja_output out = {0};
        bt_status st = bt_template_render(shared, &chat, &out, NULL, NULL);
        *bad += st != BT_OK || strcmp(out.text, "<|user|>é</s>") != 0;
        bt_jinja_output_release(&out);
    }
    return NULL;
}

static void threads_share_one(void)
{
    pthread_t thread[3];
    int bad[3] = {0};
    shared = open_one(CHATML);
    shared_messages = json("[{\"role\":\"user\",\"content\":\"é\"}]");
    for (int i = 0; i < 3; i++) pthread_create(&thread[i], NULL, render_many, &bad[i]);
    for (int i = 0; i < 3; i++) pthread_join(thread[i], NULL);
    CHECK_INT(bad[0] + bad[1] + bad[2], 0);
    bt_template_free(shared);
}

int main(void)
{
    RUN(user_bytes_stay_marked);
    RUN(roles_build_markers);
    RUN(content_is_adapted);
    RUN(arguments_are_adapted);
    RUN(free_arguments);
    RUN(nothing_is_dropped);
    RUN(capabilities);
    RUN(every_combination_is_probed);
    RUN(named_templates_are_probed_each);
    RUN(capabilities_of_real_templates);
    RUN(named_templates);
    RUN(final_message_continues);
    RUN(runaways_end);
    RUN(deep_sources_end);
    RUN(truncated_sources);
    RUN(memory_runs_out);
    RUN(threads_share_one);
    return TEST_END();
}
