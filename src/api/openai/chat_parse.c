/* SPDX-License-Identifier: Apache-2.0 */
/* chat_parse.c - the fields of a conversation: messages, tools, documents and what a chat template
 * is told besides.
 *
 * They are checked as a tree and passed on as they were spelled: templates print numbers and keep
 * the order of keys, so what reaches them is the body's own text. */
#include "api/parse.h"
#include "base/json_read.h"
#include <stdio.h>
#include <string.h>

enum { FIELD_BYTES = 64, NAME_BYTES_MAX = 256 };

/* ---- the body's own text of its members */

typedef struct raw_field {
    const char *name;
    const cJSON *value; // the same in the tree
    bt_template_text *out;
} raw_field;

static bool key_is(const char *key, size_t n, const char *name)
{
    return strlen(name) == n && memcmp(key, name, n) == 0;
}

/* Copies the texts of those fields that the tree has. Of repeated keys the first counts, as in the
 * tree. */
static bt_status copy_raw(bt_parser *p, raw_field *fields, size_t count)
{
    bt_json_reader r;
    const char *key, *text;
    size_t n_key, n;
    bool ok = true;
    bt_json_reader_init(&r, p->body, p->len, 0);
    if (bt_json_enter(&r, '{'))
        while (ok && bt_json_next_key(&r, &key, &n_key)) {
            raw_field *f = fields;
            while (f < fields + count && !key_is(key, n_key, f->name)) f++;
            if (!bt_json_span(&r, &text, &n)) break;
            if (f == fields + count || !f->value || f->out->text) continue;
            *f->out = (bt_template_text){bt_arena_strndup(&p->out->arena, text, n), n};
            ok = f->out->text != NULL;
        }
    for (size_t i = 0; i < count; i++) ok = ok && (!fields[i].value || fields[i].out->text);
    bt_json_reader_release(&r);
    return ok ? BT_OK : bt__parse_nomem(p); // the text is sound: only memory can lack
}

/* ---- messages */

static bt_status check_name(bt_parser *p, const cJSON *object, const char *key, const char *at,
                            bool needed)
{
    char field[FIELD_BYTES];
    const cJSON *v = bt_json_item(object, key);
    if (!v && !needed) return BT_OK;
    snprintf(field, sizeof field, "%.40s.%.20s", at, key);
    if (!cJSON_IsString(v) || (needed && !v->valuestring[0]))
        return bt__parse_fault(p, BT_EINVAL, field, "'%s' must be a string%s", field,
                               needed ? " and not empty" : "");
    if (strlen(v->valuestring) > NAME_BYTES_MAX)
        return bt__parse_fault(p, BT_EINVAL, field, "'%s' is longer than %d bytes", field,
                               NAME_BYTES_MAX);
    return BT_OK;
}

static bt_status check_parts(bt_parser *p, const cJSON *content, const char *at)
{
    char field[FIELD_BYTES];
    int i = 0;
    for (const cJSON *part = content->child; part; part = part->next, i++) {
        const cJSON *type = cJSON_IsObject(part) ? bt_json_item(part, "type") : NULL;
        const cJSON *text = cJSON_IsObject(part) ? bt_json_item(part, "text") : NULL;
        snprintf(field, sizeof field, "%.40s.content[%d]", at, i);
        if (cJSON_IsString(type) && strcmp(type->valuestring, "text") != 0)
            return bt__parse_fault(p, BT_EINVAL, field,
                                   "'%s' is of type \"%.40s\"; this model reads \"text\" only",
                                   field, type->valuestring);
        if (!cJSON_IsString(type) || !cJSON_IsString(text))
            return bt__parse_fault(
                p, BT_EINVAL, field,
                "'%s' must be an object with 'type' \"text\" and a string 'text'", field);
    }
    return BT_OK;
}

static bt_status check_calls(bt_parser *p, const cJSON *calls, const char *at)
{
    char field[FIELD_BYTES];
    int i = 0;
    snprintf(field, sizeof field, "%.40s.tool_calls", at);
    if (!cJSON_IsArray(calls))
        return bt__parse_fault(p, BT_EINVAL, field, "'%s' must be an array of tool calls", field);
    for (const cJSON *call = calls->child; call; call = call->next, i++) {
        char where[FIELD_BYTES];
        bt_status st;
        const cJSON *function = cJSON_IsObject(call) ? bt_json_item(call, "function") : NULL;
        snprintf(field, sizeof field, "%.40s.tool_calls[%d]", at, i);
        if (!cJSON_IsObject(function))
            return bt__parse_fault(p, BT_EINVAL, field,
                                   "'%s' must be an object with an object 'function'", field);
        if ((st = check_name(p, call, "id", field, false)) ||
            (st = check_name(p, call, "type", field, false)))
            return st;
        snprintf(where, sizeof where, "%.50s.function", field);
        if ((st = check_name(p, function, "name", where, true))) return st;
        const cJSON *arguments = bt_json_item(function, "arguments");
        if (arguments && !cJSON_IsString(arguments) && !cJSON_IsObject(arguments)) {
            snprintf(where, sizeof where, "%.42s.function.arguments", field);
            return bt__parse_fault(p, BT_EINVAL, where, "'%s' must be a string or an object",
                                   where);
        }
    }
    return BT_OK;
}

static bt_status check_message(bt_parser *p, const cJSON *item, int at)
{
    char field[FIELD_BYTES], where[FIELD_BYTES];
    bt_status st;
    snprintf(field, sizeof field, "messages[%d]", at);
    if (!cJSON_IsObject(item))
        return bt__parse_fault(p, BT_EINVAL, field, "'%s' must be an object", field);
    if ((st = check_name(p, item, "role", field, true)) ||
        (st = check_name(p, item, "name", field, false)) ||
        (st = check_name(p, item, "tool_call_id", field, false)))
        return st;
    const cJSON *calls = bt_json_item(item, "tool_calls");
    if (calls && (st = check_calls(p, calls, field))) return st;
    const cJSON *content = bt_json_item(item, "content");
    if (cJSON_IsArray(content)) return check_parts(p, content, field);
    /* a turn that only called tools */
    bool may_lack = calls || strcmp(bt_json_item(item, "role")->valuestring, "assistant") == 0;
    if (cJSON_IsString(content) || (may_lack && !content)) return BT_OK;
    snprintf(where, sizeof where, "%.40s.content", field);
    return bt__parse_fault(p, BT_EINVAL, where, "'%s' must be a string or an array of text parts",
                           where);
}

static bt_status check_messages(bt_parser *p)
{
    const cJSON *list = bt_json_item(p->root, "messages");
    if (!cJSON_IsArray(list))
        return bt__parse_fault(p, BT_EINVAL, "messages", "'messages' must be an array of messages");
    int count = cJSON_GetArraySize(list), i = 0;
    if (count < 1 || count > BT_API_MESSAGES_MAX)
        return bt__parse_fault(p, BT_EINVAL, "messages",
                               "'messages' holds %d messages; it must hold 1 to %d", count,
                               BT_API_MESSAGES_MAX);
    for (const cJSON *item = list->child; item; item = item->next, i++) {
        bt_status st = check_message(p, item, i);
        if (st != BT_OK) return st;
    }
    return BT_OK;
}

/* ---- tools */

/* *offer: whether the model is to be shown them. */
static bt_status check_choice(bt_parser *p, bool *offer)
{
    const cJSON *choice = bt_json_item(p->root, "tool_choice");
    const char *word = cJSON_IsString(choice) ? choice->valuestring : "";
    *offer = strcmp(word, "none") != 0;
    if (!choice || !*offer || strcmp(word, "auto") == 0) return BT_OK;
    if (!cJSON_IsString(choice) && !cJSON_IsObject(choice))
        return bt__parse_fault(p, BT_EINVAL, "tool_choice",
                               "'tool_choice' must be \"none\" or \"auto\"");
    return bt__parse_fault(p, BT_EINVAL, "tool_choice",
                           "a call of a tool cannot be enforced: set 'tool_choice' to \"auto\" or "
                           "\"none\"");
}

static bt_status check_tools(bt_parser *p, const cJSON **tools)
{
    char field[FIELD_BYTES], where[FIELD_BYTES];
    const cJSON *list = bt_json_item(p->root, "tools");
    bool offer;
    int i = 0;
    bt_status st;
    *tools = NULL;
    if (!list) return BT_OK;
    if (!cJSON_IsArray(list))
        return bt__parse_fault(p, BT_EINVAL, "tools", "'tools' must be an array");
    if (cJSON_GetArraySize(list) > BT_API_TOOLS_MAX)
        return bt__parse_fault(p, BT_EINVAL, "tools", "'tools' holds %d tools; at most %d may be",
                               cJSON_GetArraySize(list), BT_API_TOOLS_MAX);
    if (!list->child) return BT_OK;
    if ((st = check_choice(p, &offer))) return st;
    for (const cJSON *tool = list->child; tool; tool = tool->next, i++) {
        const cJSON *type = cJSON_IsObject(tool) ? bt_json_item(tool, "type") : NULL;
        const cJSON *function = cJSON_IsObject(tool) ? bt_json_item(tool, "function") : NULL;
        snprintf(field, sizeof field, "tools[%d]", i);
        if (!cJSON_IsString(type) || strcmp(type->valuestring, "function") != 0 ||
            !cJSON_IsObject(function))
            return bt__parse_fault(p, BT_EINVAL, field,
                                   "'%s' must be an object with 'type' \"function\" and an object "
                                   "'function'",
                                   field);
        snprintf(where, sizeof where, "%.40s.function", field);
        if ((st = check_name(p, function, "name", where, true))) return st;
        const cJSON *parameters = bt_json_item(function, "parameters");
        if (parameters && !cJSON_IsObject(parameters))
            return bt__parse_fault(p, BT_EINVAL, where, "'parameters' of '%s' must be an object",
                                   where);
    }
    if (offer) *tools = list;
    return BT_OK;
}

/* ---- the rest */

static bt_status check_documents(bt_parser *p, const cJSON *list)
{
    if (!cJSON_IsArray(list))
        return bt__parse_fault(p, BT_EINVAL, "documents", "'documents' must be an array");
    for (const cJSON *item = list->child; item; item = item->next)
        if (!cJSON_IsObject(item) && !cJSON_IsString(item))
            return bt__parse_fault(p, BT_EINVAL, "documents",
                                   "'documents' must hold objects or strings only");
    return BT_OK;
}

/* chat_template_kwargs, and before them what has a field of its own in the body, so that the
 * former overrule it. */
static bt_status join_kwargs(bt_parser *p, bt_template_text *kwargs)
{
    const cJSON *effort = bt_json_item(p->root, "reasoning_effort");
    bt_buf b = BT_BUF_INIT;
    if (!effort) return BT_OK;
    if (!cJSON_IsString(effort) || strlen(effort->valuestring) > FIELD_BYTES)
        return bt__parse_fault(p, BT_EINVAL, "reasoning_effort",
                               "'reasoning_effort' must be a short string");
    bt_jw w = bt_jw_on(&b);
    bt_jw_open(&w, '{');
    bt_jw_kstr(&w, "reasoning_effort", effort->valuestring);
    const char *more = kwargs->text ? kwargs->text + 1 : "}"; // what follows its '{'
    while (*more == ' ' || *more == '\t' || *more == '\r' || *more == '\n') more++;
    if (*more != '}') bt_buf_addc(&b, ',');
    bt_buf_adds(&b, more);
    if (!b.failed)
        *kwargs = (bt_template_text){bt_arena_strndup(&p->out->arena, b.data, b.len), b.len};
    bool ok = !b.failed && kwargs->text;
    bt_buf_release(&b);
    return ok ? BT_OK : bt__parse_nomem(p);
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
    const cJSON *tools = NULL, *documents = bt_json_item(p->root, "documents"),
                *kwargs = bt_json_item(p->root, "chat_template_kwargs");
    bt_status st;
    if ((st = check_messages(p)) || (st = check_tools(p, &tools)) || (st = parse_mode(p, chat)))
        return st;
    if (documents && (st = check_documents(p, documents))) return st;
    if (documents && !documents->child) documents = NULL; // none, as with tools
    if (kwargs && !cJSON_IsObject(kwargs))
        return bt__parse_fault(p, BT_EINVAL, "chat_template_kwargs",
                               "'chat_template_kwargs' must be an object");
    if (bt_json_item(p->root, "chat_template"))
        return bt__parse_fault(p, BT_EINVAL, "chat_template",
                               "'chat_template' is the server's choice: leave it out");
    raw_field fields[] = {{"messages", p->root, &chat->messages},
                          {"tools", tools, &chat->tools},
                          {"documents", documents, &chat->documents},
                          {"chat_template_kwargs", kwargs, &chat->kwargs}};
    if ((st = copy_raw(p, fields, sizeof fields / sizeof *fields))) return st;
    return join_kwargs(p, &chat->kwargs);
}
