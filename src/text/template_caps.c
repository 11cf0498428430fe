/* SPDX-License-Identifier: Apache-2.0 */
/* template_caps.c - what a template takes, found by trying: each probe renders a small conversation
 * with marks in it and looks for them in the prompt. */
#include "text/template_parts.h"

#define USER "{\"role\":\"user\",\"content\":\"qUSERq\"}"
#define CALL(content, arguments)                                                                   \
    "{\"role\":\"assistant\"," content "\"tool_calls\":[{\"id\":\"qIDq56789\",\"type\":"           \
    "\"function\",\"function\":{\"name\":\"qNAMEq\",\"arguments\":" arguments "}}]}"
#define RESULT                                                                                     \
    "{\"role\":\"tool\",\"tool_call_id\":\"qIDq56789\",\"name\":\"qNAMEq\","                       \
    "\"content\":\"qRESULTq\"}"
#define OBJECT "{\"qKEYq\":\"qVALUEq\"}"
#define TEXT "\"{\\\"qKEYq\\\": \\\"qVALUEq\\\"}\""
#define TOOLS                                                                                      \
    "[{\"type\":\"function\",\"function\":{\"name\":\"qNAMEq\",\"description\":\"qDESCRIBEq\","    \
    "\"parameters\":{\"type\":\"object\",\"properties\":{\"qKEYq\":{\"type\":\"string\","          \
    "\"description\":\"a key\"}},\"required\":[\"qKEYq\"]}}}]"

/* The prompt, empty (text NULL) where the template refuses. */
static bt_jinja_output probe(const bt_template *t, const char *messages, const char *tools,
                             const char *kwargs, bool add_generation_prompt)
{
    bt_jinja_output out = {0};
    bt_template_chat chat = {.messages = {messages, strlen(messages)},
                             .add_generation_prompt = add_generation_prompt,
                             .as_given = true};
    if (tools) chat.tools = (bt_template_text){tools, strlen(tools)};
    if (kwargs) chat.kwargs = (bt_template_text){kwargs, strlen(kwargs)};
    if (bt_template_render(t, &chat, &out, NULL, NULL)) return (bt_jinja_output){0};
    return out;
}

static bool shows(const bt_jinja_output *out, const char *mark)
{
    return out->text && strstr(out->text, mark) != NULL;
}

static bool probe_shows(const bt_template *t, const char *messages, const char *tools,
                        const char *mark)
{
    bt_jinja_output out = probe(t, messages, tools, NULL, false);
    bool found = shows(&out, mark);
    bt_jinja_output_release(&out);
    return found;
}

static bool differ(bt_jinja_output a, bt_jinja_output b)
{
    bool differ = a.text && b.text && strcmp(a.text, b.text) != 0;
    bt_jinja_output_release(&a);
    bt_jinja_output_release(&b);
    return differ;
}

static void probe_content(bt_template *t)
{
    bt_template_caps *c = &t->caps;
    c->content_string = probe_shows(t, "[" USER "]", NULL, "qUSERq");
    bt_jinja_output out =
        probe(t, "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"qPARTq\"}]}]",
              NULL, NULL, false);
    /* a list printed as Python shows lists was not understood */
    c->content_parts = shows(&out, "qPARTq") && !shows(&out, "'text'") && !shows(&out, "\"text\"");
    bt_jinja_output_release(&out);
    c->system_role = probe_shows(t, "[{\"role\":\"system\",\"content\":\"qSYSTEMq\"}," USER "]",
                                 NULL, "qSYSTEMq");
    /* where nothing could be rendered nothing is known: messages stay as they are */
    if (!c->content_string && !c->content_parts) c->system_role = true;
    c->reasoning = probe_shows(t,
                               "[" USER ",{\"role\":\"assistant\",\"content\":\"x\","
                               "\"reasoning_content\":\"qREASONq\"}]",
                               NULL, "qREASONq");
}

static void probe_tools(bt_template *t)
{
    bt_template_caps *c = &t->caps;
    c->tools = probe_shows(t, "[" USER "]", TOOLS, "qNAMEq");
    bt_jinja_output object =
        probe(t, "[" USER "," CALL("\"content\":\"\",", OBJECT) "," RESULT "]", TOOLS, NULL, false);
    bt_jinja_output text =
        probe(t, "[" USER "," CALL("\"content\":\"\",", TEXT) "," RESULT "]", TOOLS, NULL, false);
    bool object_good = shows(&object, "qVALUEq") && !shows(&object, "{'qKEYq'");
    bool text_good = shows(&text, "qVALUEq") && !shows(&text, "\\\"qKEYq");
    /* transformers puts objects in: text only where objects do not work and text does */
    c->object_arguments = object_good || !text_good;
    const bt_jinja_output *best = c->object_arguments ? &object : &text;
    c->tool_calls = shows(best, "qVALUEq");
    c->tool_results = shows(best, "qRESULTq");
    c->tool_call_id = shows(best, "qIDq");
    bt_jinja_output_release(&object);
    bt_jinja_output_release(&text);
    bt_jinja_output none =
        c->object_arguments
            ? probe(t, "[" USER "," CALL("\"content\":null,", OBJECT) "," RESULT "]", TOOLS, NULL,
                    false)
            : probe(t, "[" USER "," CALL("\"content\":null,", TEXT) "," RESULT "]", TOOLS, NULL,
                    false);
    c->null_content = none.text && !shows(&none, "None") && shows(&none, "qVALUEq");
    bt_jinja_output_release(&none);
}

void bt__template_probe(bt_template *t)
{
    static const char on[] = "{\"enable_thinking\":true}", off[] = "{\"enable_thinking\":false}";
    /* first what the other probes lean on: their content is a string */
    probe_content(t);
    probe_tools(t);
    t->caps.generation_prompt =
        differ(probe(t, "[" USER "]", NULL, NULL, true), probe(t, "[" USER "]", NULL, NULL, false));
    t->caps.enable_thinking =
        differ(probe(t, "[" USER "]", NULL, on, true), probe(t, "[" USER "]", NULL, off, true));
}
