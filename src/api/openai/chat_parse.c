/* SPDX-License-Identifier: Apache-2.0 */
/* chat_parse.c - the fields of a conversation: messages, tools, documents and what a chat template
 * is told besides.
 *
 * They are checked and passed on as they are in the body's tree, with numbers as they were spelled
 * and keys in their order, since templates show both. */
#include "api/parse.h"
#include <stdio.h>
#include <string.h>

enum { FIELD_BYTES = 64, NAME_BYTES_MAX = 256 };

/* ---- messages */

static bt_status check_name(bt_parser *p, const bt_json *object, const char *key, const char *at,
                            bool needed)
{
    char field[FIELD_BYTES];
    const bt_json *v = bt_json_item(object, key);
    if (!v && !needed) return BT_OK;
    snprintf(field, sizeof field, "%.40s.%.20s", at, key);
    if (!bt_json_is(v, BT_JSON_STRING) || (needed && !v->text[0]))
        return bt__parse_fault(p, BT_EINVAL, field, "'%s' must be a string%s", field,
                               needed ? " and not empty" : "");
    if (v->n > NAME_BYTES_MAX)
        return bt__parse_fault(p, BT_EINVAL, field, "'%s' is longer than %d bytes", field,
                               NAME_BYTES_MAX);
    return BT_OK;
}

static bt_status check_parts(bt_parser *p, const bt_json *content, const char *at)
{
    char field[FIELD_BYTES];
    int i = 0;
    for (const bt_json *part = content->child; part; part = part->next, i++) {
        const bt_json *type = bt_json_item(part, "type");
        const bt_json *text = bt_json_item(part, "text");
        snprintf(field, sizeof field, "%.40s.content[%d]", at, i);
        if (bt_json_is(type, BT_JSON_STRING) && strcmp(type->text, "text") != 0)
            return bt__parse_fault(p, BT_EINVAL, field,
                                   "'%s' is of type \"%.40s\"; this model reads \"text\" only",
                                   field, type->text);
        if (!bt_json_is(type, BT_JSON_STRING) || !bt_json_is(text, BT_JSON_STRING))
            return bt__parse_fault(
                p, BT_EINVAL, field,
                "'%s' must be an object with 'type' \"text\" and a string 'text'", field);
    }
    return BT_OK;
}

static bt_status check_calls(bt_parser *p, const bt_json *calls, const char *at)
{
    char field[FIELD_BYTES];
    int i = 0;
    snprintf(field, sizeof field, "%.40s.tool_calls", at);
    if (!bt_json_is(calls, BT_JSON_ARRAY))
        return bt__parse_fault(p, BT_EINVAL, field, "'%s' must be an array of tool calls", field);
    for (const bt_json *call = calls->child; call; call = call->next, i++) {
        char where[FIELD_BYTES];
        bt_status st;
        const bt_json *function = bt_json_item(call, "function");
        snprintf(field, sizeof field, "%.40s.tool_calls[%d]", at, i);
        if (!bt_json_is(function, BT_JSON_OBJECT))
            return bt__parse_fault(p, BT_EINVAL, field,
                                   "'%s' must be an object with an object 'function'", field);
        if ((st = check_name(p, call, "id", field, false)) ||
            (st = check_name(p, call, "type", field, false)))
            return st;
        snprintf(where, sizeof where, "%.50s.function", field);
        if ((st = check_name(p, function, "name", where, true))) return st;
        const bt_json *arguments = bt_json_item(function, "arguments");
        if (arguments && !bt_json_is(arguments, BT_JSON_STRING) &&
            !bt_json_is(arguments, BT_JSON_OBJECT)) {
            snprintf(where, sizeof where, "%.42s.function.arguments", field);
            return bt__parse_fault(p, BT_EINVAL, where, "'%s' must be a string or an object",
                                   where);
        }
    }
    return BT_OK;
}

static bt_status check_message(bt_parser *p, const bt_json *item, int at)
{
    char field[FIELD_BYTES], where[FIELD_BYTES];
    bt_status st;
    snprintf(field, sizeof field, "messages[%d]", at);
    if (!bt_json_is(item, BT_JSON_OBJECT))
        return bt__parse_fault(p, BT_EINVAL, field, "'%s' must be an object", field);
    if ((st = check_name(p, item, "role", field, true)) ||
        (st = check_name(p, item, "name", field, false)) ||
        (st = check_name(p, item, "tool_call_id", field, false)))
        return st;
    const bt_json *calls = bt_json_item(item, "tool_calls");
    if (calls && (st = check_calls(p, calls, field))) return st;
    const bt_json *content = bt_json_item(item, "content");
    if (bt_json_is(content, BT_JSON_ARRAY)) return check_parts(p, content, field);
    /* a turn that only called tools */
    bool may_lack = calls || strcmp(bt_json_item(item, "role")->text, "assistant") == 0;
    if (bt_json_is(content, BT_JSON_STRING) || (may_lack && !content)) return BT_OK;
    snprintf(where, sizeof where, "%.40s.content", field);
    return bt__parse_fault(p, BT_EINVAL, where, "'%s' must be a string or an array of text parts",
                           where);
}

static bt_status check_messages(bt_parser *p)
{
    const bt_json *list = bt_json_item(p->root, "messages");
    if (!bt_json_is(list, BT_JSON_ARRAY))
        return bt__parse_fault(p, BT_EINVAL, "messages", "'messages' must be an array of messages");
    int count = (int)list->n, i = 0;
    if (count < 1 || count > BT_API_MESSAGES_MAX)
        return bt__parse_fault(p, BT_EINVAL, "messages",
                               "'messages' holds %d messages; it must hold 1 to %d", count,
                               BT_API_MESSAGES_MAX);
    for (const bt_json *item = list->child; item; item = item->next, i++) {
        bt_status st = check_message(p, item, i);
        if (st != BT_OK) return st;
    }
    return BT_OK;
}

/* ---- tools */

/* *offer: whether the model is to be shown them. */
static bt_status check_choice(bt_parser *p, bool *offer)
{
    const bt_json *choice = bt_json_item(p->root, "tool_choice");
    const char *word = bt_json_is(choice, BT_JSON_STRING) ? choice->text : "";
    *offer = strcmp(word, "none") != 0;
    if (!choice || !*offer || strcmp(word, "auto") == 0) return BT_OK;
    if (!bt_json_is(choice, BT_JSON_STRING) && !bt_json_is(choice, BT_JSON_OBJECT))
        return bt__parse_fault(p, BT_EINVAL, "tool_choice",
                               "'tool_choice' must be \"none\" or \"auto\"");
    return bt__parse_fault(p, BT_EINVAL, "tool_choice",
                           "a call of a tool cannot be enforced: set 'tool_choice' to \"auto\" or "
                           "\"none\"");
}

static bt_status check_tools(bt_parser *p, const bt_json **tools)
{
    char field[FIELD_BYTES], where[FIELD_BYTES];
    const bt_json *list = bt_json_item(p->root, "tools");
    bool offer;
    int i = 0;
    bt_status st;
    *tools = NULL;
    if (!list) return BT_OK;
    if (!bt_json_is(list, BT_JSON_ARRAY))
        return bt__parse_fault(p, BT_EINVAL, "tools", "'tools' must be an array");
    if ((int)list->n > BT_API_TOOLS_MAX)
        return bt__parse_fault(p, BT_EINVAL, "tools", "'tools' holds %d tools; at most %d may be",
                               (int)list->n, BT_API_TOOLS_MAX);
    if (!list->child) return BT_OK;
    if ((st = check_choice(p, &offer))) return st;
    for (const bt_json *tool = list->child; tool; tool = tool->next, i++) {
        const bt_json *type = bt_json_item(tool, "type");
        const bt_json *function = bt_json_item(tool, "function");
        snprintf(field, sizeof field, "tools[%d]", i);
        if (!bt_json_is_text(type, "function") || !bt_json_is(function, BT_JSON_OBJECT))
            return bt__parse_fault(p, BT_EINVAL, field,
                                   "'%s' must be an object with 'type' \"function\" and an object "
                                   "'function'",
                                   field);
        snprintf(where, sizeof where, "%.40s.function", field);
        if ((st = check_name(p, function, "name", where, true))) return st;
        const bt_json *parameters = bt_json_item(function, "parameters");
        if (parameters && !bt_json_is(parameters, BT_JSON_OBJECT))
            return bt__parse_fault(p, BT_EINVAL, where, "'parameters' of '%s' must be an object",
                                   where);
    }
    if (offer) *tools = list;
    return BT_OK;
}

/* ---- the rest */

/* chat_template_kwargs, and before them what has a field of its own in the body, so that the
 * former overrule it. */
static bt_status join_kwargs(bt_parser *p, const bt_json **kwargs)
{
    const bt_json *effort = bt_json_item(p->root, "reasoning_effort");
    if (!effort) return BT_OK;
    if (!bt_json_is(effort, BT_JSON_STRING) || effort->n > FIELD_BYTES)
        return bt__parse_fault(p, BT_EINVAL, "reasoning_effort",
                               "'reasoning_effort' must be a short string");
    bt_json *both = bt__parse_alloc(p, 2, sizeof *both);
    if (!both) return bt__parse_nomem(p);
    both[0] = (bt_json){.kind = BT_JSON_OBJECT, .child = &both[1], .n = 1};
    both[1] = *effort;
    both[1].next = *kwargs ? (*kwargs)->child : NULL;
    both[0].n += *kwargs ? (*kwargs)->n : 0;
    *kwargs = both;
    return BT_OK;
}

static bt_status parse_mode(bt_parser *p, bt_template_chat *chat)
{
    bool prompt = true, given = bt_json_item(p->root, "add_generation_prompt") != NULL;
    bt_status st;
    if ((st = bt__parse_bool(p, "add_generation_prompt", &prompt)) ||
        (st = bt__parse_bool(p, "continue_final_message", &chat->continue_final_message)))
        return st;
    if (given && prompt && chat->continue_final_message)
        return bt__parse_fault(p, BT_EINVAL, "continue_final_message",
                               "'continue_final_message' and 'add_generation_prompt' exclude each "
                               "other");
    chat->add_generation_prompt = prompt && !chat->continue_final_message;
    return BT_OK;
}

bt_status bt__parse_chat(bt_parser *p, bt_template_chat *chat)
{
    const bt_json *tools = NULL, *documents = bt_json_item(p->root, "documents"),
                  *kwargs = bt_json_item(p->root, "chat_template_kwargs");
    bt_status st;
    if ((st = check_messages(p)) || (st = check_tools(p, &tools)) || (st = parse_mode(p, chat)))
        return st;
    if (documents && !bt_json_is(documents, BT_JSON_ARRAY))
        return bt__parse_fault(p, BT_EINVAL, "documents", "'documents' must be an array");
    for (const bt_json *item = documents ? documents->child : NULL; item; item = item->next)
        if (!bt_json_is(item, BT_JSON_OBJECT) && !bt_json_is(item, BT_JSON_STRING))
            return bt__parse_fault(p, BT_EINVAL, "documents",
                                   "'documents' must hold objects or strings only");
    if (documents && !documents->child) documents = NULL; // none, as with tools
    if (kwargs && !bt_json_is(kwargs, BT_JSON_OBJECT))
        return bt__parse_fault(p, BT_EINVAL, "chat_template_kwargs",
                               "'chat_template_kwargs' must be an object");
    if (bt_json_item(p->root, "chat_template"))
        return bt__parse_fault(p, BT_EINVAL, "chat_template",
                               "'chat_template' is the server's choice: leave it out");
    chat->messages = bt_json_item(p->root, "messages");
    chat->tools = tools;
    chat->documents = documents;
    chat->kwargs = kwargs;
    return join_kwargs(p, &chat->kwargs);
}
