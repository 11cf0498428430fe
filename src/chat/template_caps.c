/* SPDX-License-Identifier: Apache-2.0 */
/* template_caps.c - what a template takes, found by trying: each probe renders a small conversation
 * with marks in it and looks for them in the prompt.
 *
 * A template may do with tools what it does not do without them, and a named one what another does
 * not: all is asked of each combination. At first it is thought to take everything, so that a
 * message goes in as the probe spells it; what an earlier probe has denied is adapted. */
#include "chat/template_parts.h"

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

#define DOCUMENTS                                                                                  \
    "[{\"doc_id\":1,\"title\":\"qTITLEq\",\"text\":\"qDOCUMENTq\",\"content\":\"qDOCUMENTq\"}]"

#define SYSTEM "{\"role\":\"system\",\"content\":\"qSYSTEMq\"}"
#define ANSWER "{\"role\":\"assistant\",\"content\":\"qANSWERq\"}"
#define LATER "{\"role\":\"system\",\"content\":\"qLATERq\"}"
#define PARTS "[{\"type\":\"text\",\"text\":\"qPARTq\"}]"
#define OF(role, more, content) "{\"role\":\"" role "\"," more "\"content\":" content "}"
#define ID "\"tool_call_id\":\"qIDq56789\",\"name\":\"qNAMEq\","

enum { PROBE_STEPS = 400000 }; // a real template takes some thousands for so small a conversation

typedef struct probing {
    bt_template *t;
    bt_arena arena;        // of what the chats are made of
    bt_template_chat chat; // name and tools
    bt_template_caps *caps;
} probing;

static const bt_json *json(probing *p, const char *text)
{
    const bt_json *v;
    return bt_json_parse(text, strlen(text), &p->arena, &v, NULL) == BT_OK ? v : NULL;
}

/* The prompt, empty (text NULL) where the template refuses. */
static bt_jinja_output probe(probing *p, const char *messages, const char *kwargs,
                             bool add_generation_prompt)
{
    bt_jinja_output out = {0};
    bt_template_chat chat = p->chat;
    chat.messages = json(p, messages);
    if (kwargs) chat.kwargs = json(p, kwargs);
    chat.add_generation_prompt = add_generation_prompt;
    if (bt_template_render(p->t, &chat, &out, NULL, NULL)) return (bt_jinja_output){0};
    return out;
}

static bool has(const bt_jinja_output *out, const char *mark)
{
    return out->text && strstr(out->text, mark) != NULL;
}

static bool shows(probing *p, const char *messages, const char *mark, const char *and_mark)
{
    bt_jinja_output out = probe(p, messages, NULL, false);
    bool found = has(&out, mark) && (!and_mark || has(&out, and_mark));
    bt_jinja_output_release(&out);
    return found;
}

/* Both are prompts, and the same one. */
static bool same(bt_jinja_output a, bt_jinja_output b)
{
    bool same = a.text && b.text && strcmp(a.text, b.text) == 0;
    bt_jinja_output_release(&a);
    bt_jinja_output_release(&b);
    return same;
}

static bool differ(bt_jinja_output a, bt_jinja_output b)
{
    bool differ = a.text && b.text && strcmp(a.text, b.text) != 0;
    bt_jinja_output_release(&a);
    bt_jinja_output_release(&b);
    return differ;
}

/* Content as a string and as parts. A list printed as Python shows lists was not understood. */
static void probe_content(probing *p, bt_template_role role, const char *with_string,
                          const char *with_parts, const char *mark)
{
    bt_template_caps *c = p->caps;
    bool string = shows(p, with_string, mark, NULL);
    bt_jinja_output out = probe(p, with_parts, NULL, false);
    bool parts = has(&out, "qPARTq") && !has(&out, "'text'") && !has(&out, "\"text\"");
    bt_jinja_output_release(&out);
    bool known = string || parts || role == BT_ROLE_USER;
    c->content_string[role] = known ? string : c->content_string[BT_ROLE_USER];
    c->content_parts[role] = known ? parts : c->content_parts[BT_ROLE_USER];
}

/* Roles; where nothing of a user could be rendered nothing is known, and messages stay. */
static void probe_roles(probing *p)
{
    bt_template_caps *c = p->caps;
    probe_content(p, BT_ROLE_USER, "[" USER "]", "[" OF("user", "", PARTS) "]", "qUSERq");
    if (!c->content_string[BT_ROLE_USER] && !c->content_parts[BT_ROLE_USER]) {
        for (int i = 0; i < BT_ROLE_COUNT; i++) c->content_string[i] = c->content_parts[i] = false;
        return;
    }
    c->tools = shows(p, "[" USER "]", "qNAMEq", NULL);
    const char *tools = c->tools ? "qNAMEq" : NULL; // not at the cost of these
    probe_content(p, BT_ROLE_SYSTEM, "[" SYSTEM "," USER "]",
                  "[" OF("system", "", PARTS) "," USER "]", "qSYSTEMq");
    c->system_role = shows(p, "[" SYSTEM "," USER "]", "qSYSTEMq", tools);
    c->system_run = shows(p, "[" SYSTEM "," LATER "," USER "]", "qSYSTEMq", "qLATERq");
    c->system_later =
        shows(p, "[" SYSTEM "," USER "," ANSWER "," LATER "," USER "]", "qSYSTEMq", "qLATERq");
    probe_content(p, BT_ROLE_ASSISTANT, "[" USER "," ANSWER "," USER "]",
                  "[" USER "," OF("assistant", "", PARTS) "," USER "]", "qANSWERq");
    c->reasoning = shows(p,
                         "[" USER ",{\"role\":\"assistant\",\"content\":\"x\","
                         "\"reasoning_content\":\"qREASONq\"}]",
                         "qREASONq", NULL);
}

static void probe_calls(probing *p)
{
    bt_template_caps *c = p->caps;
    bt_jinja_output object =
        probe(p, "[" USER "," CALL("\"content\":\"\",", OBJECT) "," RESULT "]", NULL, false);
    c->object_arguments = false; // text goes in as text
    bt_jinja_output text =
        probe(p, "[" USER "," CALL("\"content\":\"\",", TEXT) "," RESULT "]", NULL, false);
    bool object_good = has(&object, "qVALUEq") && !has(&object, "{'qKEYq'");
    bool text_good = has(&text, "qVALUEq") && !has(&text, "\\\"qKEYq");
    /* transformers puts objects in: text only where objects do not work and text does */
    c->object_arguments = object_good || !text_good;
    const bt_jinja_output *best = c->object_arguments ? &object : &text;
    c->tool_calls = has(best, "qVALUEq");
    c->tool_results = has(best, "qRESULTq");
    c->tool_call_id = has(best, "qIDq");
    /* a template that shows no calls has nothing to object to */
    c->text_arguments =
        !c->tool_calls ||
        shows(p, "[" USER "," CALL("\"content\":\"\",", "\"{qFREEq\"") "," RESULT "]", "{qFREEq",
              NULL);
    bt_jinja_output_release(&object);
    bt_jinja_output_release(&text);
    probe_content(p, BT_ROLE_TOOL, "[" USER "," CALL("\"content\":\"\",", OBJECT) "," RESULT "]",
                  "[" USER "," CALL("\"content\":\"\",", OBJECT) "," OF("tool", ID, PARTS) "]",
                  "qRESULTq");
    bt_jinja_output none =
        probe(p, "[" USER "," CALL("\"content\":null,", OBJECT) "," RESULT "]", NULL, false);
    c->null_content = none.text && !has(&none, "None") && has(&none, "qVALUEq");
    bt_jinja_output_release(&none);
    /* a template may show calls only in place of text */
    c->drops_calls =
        !c->tool_calls &&
        same(probe(p, "[" USER "," CALL("\"content\":\"qANSWERq\",", OBJECT) "]", NULL, false),
             probe(p, "[" USER "," ANSWER "]", NULL, false)) &&
        same(probe(p, "[" USER "," CALL("\"content\":\"\",", OBJECT) "]", NULL, false),
             probe(p, "[" USER "," OF("assistant", "", "\"\"") "]", NULL, false));
}

static void probe_one(bt_template *t, size_t source, bool tools)
{
    static const char on[] = "{\"enable_thinking\":true}", off[] = "{\"enable_thinking\":false}";
    bt_template_caps *c = &t->source[source].caps[tools];
    probing p = {.t = t, .chat = {.name = t->source[source].name}, .caps = c};
    bt_arena_init(&p.arena, 1 << 20);
    if (tools) p.chat.tools = json(&p, TOOLS);
    c->system_role = c->system_run = c->system_later = true;
    c->null_content = c->object_arguments = c->text_arguments = true;
    for (int i = 0; i < BT_ROLE_COUNT; i++) c->content_string[i] = c->content_parts[i] = true;
    probe_roles(&p);
    probe_calls(&p);
    bt_jinja_output none = probe(&p, "[" USER "]", NULL, true);
    p.chat.documents = json(&p, DOCUMENTS);
    c->drops_documents = same(none, probe(&p, "[" USER "]", NULL, true));
    p.chat.documents = NULL;
    c->generation_prompt =
        differ(probe(&p, "[" USER "]", NULL, true), probe(&p, "[" USER "]", NULL, false));
    c->enable_thinking =
        differ(probe(&p, "[" USER "]", on, true), probe(&p, "[" USER "]", off, true));
    bt_arena_release(&p.arena);
}

void bt__template_probe(bt_template *t)
{
    static const bt_json some;
    static const bt_template_chat plain, with_tools = {.tools = &some};
    uint64_t steps = t->limits.steps;
    t->limits.steps = steps ? BT_MIN(steps, (uint64_t)PROBE_STEPS) : PROBE_STEPS;
    for (size_t i = 0; i < t->n_sources; i++)
        for (int tools = 0; tools < 2; tools++) probe_one(t, i, tools);
    t->limits.steps = steps;
    int first = bt__template_choose(t, &plain, NULL);
    int second = bt__template_choose(t, &with_tools, NULL);
    t->caps = t->source[BT_MAX(first, 0)].caps[0];
    const bt_template_caps *c = &t->source[BT_MAX(second, 0)].caps[1];
    t->caps.tools = c->tools;
    t->caps.tool_calls = c->tool_calls;
    t->caps.tool_results = c->tool_results;
    t->caps.tool_call_id = c->tool_call_id;
    t->caps.object_arguments = c->object_arguments;
    t->caps.null_content = c->null_content;
}
