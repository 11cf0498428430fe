/* SPDX-License-Identifier: Apache-2.0 */
/* template_adapt.c - messages as clients send them, made into what a template takes. */
#include "jinja/jinja_text.h"
#include "chat/template_parts.h"
#include <stdio.h>

/* Roles are ours when they are among the known ones: templates build markers like <|user|> from
 * them, and such a marker must stay one. Any other role is the user's text: false. */
static bool trust_role(jrt *r, jv *role)
{
    static const char *const known[] = {"system",    "developer",     "user",       "assistant",
                                        "tool",      "function",      "ipython",    "model",
                                        "tool_call", "tool_response", "observation"};
    for (size_t i = 0; role->type == JT_STR && i < BT_COUNT(known); i++)
        if (jstr_is(role->u.s, known[i])) {
            *role = bt__jstr_lit(r, known[i]);
            return true;
        }
    return false;
}

static jv get(const jdict *d, const char *key)
{
    const jv *v = bt__jdict_find_text(d, key);
    return v ? *v : jnone();
}

static jdict *copy_dict(jrt *r, const jdict *d)
{
    jdict *copy = bt__jdict_new(r, d->n + 1);
    for (uint32_t i = 0; i < d->n; i++) bt__jdict_put(r, copy, d->e[i].key, d->e[i].value);
    return copy;
}

/* The texts of parts, a newline between them. */
static jv join_parts(jrt *r, const jlist *parts)
{
    jsb b;
    bt__jsb_init(&b, r);
    for (size_t i = 0; i < parts->n; i++) {
        jv part = parts->v[i];
        jv text = part.type == JT_DICT ? get(part.u.d, "text") : part;
        if (text.type != JT_STR)
            bt__jraise(r, BT_JINJA_CONTEXT,
                       "this model's chat template takes text only, but part %zu of a message's "
                       "content has no text",
                       i + 1);
        if (i) bt__jsb_add(&b, "\n", 1, BT_JINJA_USER);
        bt__jsb_str(&b, text.u.s);
    }
    return bt__jsb_done(&b);
}

/* JSON text of an object becomes the object, or the other way round; no arguments are an empty
 * object. Other text, as a model may have written it, goes in as it is where the template takes
 * that. */
static jv adapt_arguments(jrt *r, const bt_template_caps *caps, jv arguments, const char *where)
{
    size_t at = 0, len = 0;
    if (arguments.type == JT_STR) bt__jstrip_span(r, arguments.u.s, NULL, true, true, &at, &len);
    if (arguments.type == JT_NONE || (arguments.type == JT_STR && len == 0))
        arguments = jof_dict(bt__jdict_new(r, 0));
    if (caps->object_arguments && arguments.type == JT_STR) {
        const char *text = arguments.u.s->p + at;
        const bt_json *object = *text == '{' ? bt__jjson_read(r, text, len, NULL) : NULL;
        if (object) return bt__jjson_value(r, object, BT_JINJA_USER);
        if (caps->text_arguments) return arguments;
        bt__jraise(r, BT_JINJA_CONTEXT,
                   "'%s' is not a JSON object, and this model's chat template takes nothing else",
                   where);
    }
    if (!caps->object_arguments && arguments.type == JT_DICT) {
        jdump how = {.indent = jnone(),
                     .item_sep = bt__jstr_lit(r, ", ").u.s,
                     .key_sep = bt__jstr_lit(r, ": ").u.s};
        return bt__jjson_dump(r, arguments, &how);
    }
    return arguments;
}

static jv adapt_calls(jrt *r, const bt_template_caps *caps, jv calls, size_t message,
                      bt_template_field *field)
{
    jlist *out = bt__jlist_new(r, calls.u.l->n);
    if (calls.u.l->n && caps->drops_calls) {
        snprintf(field->path, sizeof field->path, "messages[%zu].tool_calls", message);
        bt__jraise(r, BT_JINJA_CONTEXT,
                   "this model's chat format has no place for '%s': leave them out, or say in "
                   "'content' what was called",
                   field->path);
    }
    for (size_t i = 0; i < calls.u.l->n; i++) {
        jv call = calls.u.l->v[i];
        jv function = call.type == JT_DICT ? get(call.u.d, "function") : jnone();
        if (function.type == JT_DICT) {
            jdict *f = copy_dict(r, function.u.d), *c = copy_dict(r, call.u.d);
            snprintf(field->path, sizeof field->path,
                     "messages[%zu].tool_calls[%zu].function.arguments", message, i);
            jv arguments = adapt_arguments(r, caps, get(f, "arguments"), field->path);
            field->path[0] = 0;
            bt__jdict_put_text(r, f, "arguments", arguments);
            bt__jdict_put_text(r, c, "function", jof_dict(f));
            call = jof_dict(c);
        }
        bt__jlist_add(r, out, call);
    }
    return jof_list(out);
}

static bool has_role(jv message, const char *role)
{
    if (message.type != JT_DICT) return false;
    jv v = get(message.u.d, "role");
    return v.type == JT_STR && jstr_is(v.u.s, role);
}

static jv text_of_content(jrt *r, jv content)
{
    if (content.type == JT_LIST) return join_parts(r, content.u.l);
    return content.type == JT_STR ? content : bt__jstr_lit(r, "");
}

static bt_template_role role_of(jv message)
{
    static const char *const tool[] = {"tool", "function", "ipython", "tool_response",
                                       "observation"};
    if (has_role(message, "system") || has_role(message, "developer")) return BT_ROLE_SYSTEM;
    if (has_role(message, "assistant") || has_role(message, "model")) return BT_ROLE_ASSISTANT;
    for (size_t i = 0; i < BT_COUNT(tool); i++)
        if (has_role(message, tool[i])) return BT_ROLE_TOOL;
    return BT_ROLE_USER;
}

/* The message with this text before its own. */
static jv text_before(jrt *r, jv text, jv message)
{
    jdict *d = copy_dict(r, message.u.d);
    jv head = bt__jstr_cat(r, text.u.s, bt__jstr_lit(r, "\n\n").u.s);
    jv own = text_of_content(r, get(d, "content"));
    bt__jdict_put_text(r, d, "content", bt__jstr_cat(r, head.u.s, own.u.s));
    return jof_dict(d);
}

/* System messages where the template shows none go before the next user's text, as people put them
 * by hand; at the beginning they become one. */
static jlist *merge_system(jrt *r, const bt_template_caps *caps, const jlist *in)
{
    jlist *out = bt__jlist_new(r, in->n);
    jv system = jmissing(); // to come before a user's text
    bool beginning = true;  // nothing but system messages so far
    for (size_t i = 0; i < in->n; i++) {
        jv m = in->v[i];
        bool is_system = role_of(m) == BT_ROLE_SYSTEM, first = out->n == 0;
        beginning = beginning && is_system;
        if (is_system && beginning && caps->system_role && !first && !caps->system_run) {
            jv text = text_of_content(r, get(out->v[0].u.d, "content"));
            out->v[0] = text_before(r, text, m);
            continue;
        }
        bool shown = caps->system_role && (beginning || caps->system_later);
        if (is_system && !shown) {
            jv text = text_of_content(r, get(m.u.d, "content"));
            if (system.type != JT_MISSING)
                text = bt__jstr_cat(r, bt__jstr_cat(r, system.u.s, bt__jstr_lit(r, "\n\n").u.s).u.s,
                                    text.u.s);
            system = text;
            continue;
        }
        if (has_role(m, "user") && system.type != JT_MISSING) {
            m = text_before(r, system, m);
            system = jmissing();
        }
        bt__jlist_add(r, out, m);
    }
    if (system.type != JT_MISSING) { // nobody to give it to
        jdict *d = bt__jdict_new(r, 2);
        bt__jdict_put_text(r, d, "role", bt__jstr_lit(r, "user"));
        bt__jdict_put_text(r, d, "content", system);
        bt__jlist_add(r, out, jof_dict(d));
    }
    return out;
}

static jv adapt_message(jrt *r, const bt_template_caps *caps, jv message)
{
    jdict *d = copy_dict(r, message.u.d);
    bt_template_role role = role_of(message);
    jv content = get(d, "content");
    if (!caps->developer_role && has_role(message, "developer"))
        bt__jdict_put_text(r, d, "role", bt__jstr_lit(r, "system"));
    if (content.type == JT_LIST && !caps->content_parts[role]) {
        content = join_parts(r, content.u.l);
    } else if (content.type == JT_STR && !caps->content_string[role] && caps->content_parts[role]) {
        jdict *part = bt__jdict_new(r, 2);
        jlist *parts = bt__jlist_new(r, 1);
        bt__jdict_put_text(r, part, "type", bt__jstr_lit(r, "text"));
        bt__jdict_put_text(r, part, "text", content);
        bt__jlist_add(r, parts, jof_dict(part));
        content = jof_list(parts);
    } else if (content.type == JT_NONE && !caps->null_content) {
        content = bt__jstr_lit(r, "");
    }
    if (bt__jdict_find_text(d, "content") || !caps->null_content)
        bt__jdict_put_text(r, d, "content", content);
    return jof_dict(d);
}

jv bt__template_adapt(jrt *r, const bt_template_caps *caps, jv messages, bool as_given,
                      bt_template_field *at)
{
    if (messages.type != JT_LIST)
        bt__jraise(r, BT_JINJA_CONTEXT, "'messages' must be an array of messages");
    jlist *in = messages.u.l, *out = bt__jlist_new(r, in->n);
    size_t odd = in->n; // the first role of no known name: if the template refuses, then this
    for (size_t i = 0; i < in->n; i++) {
        if (in->v[i].type != JT_DICT)
            bt__jraise(r, BT_JINJA_CONTEXT, "'messages[%zu]' must be an object", i);
        jv *role = bt__jdict_find_text(in->v[i].u.d, "role");
        jv *calls = bt__jdict_find_text(in->v[i].u.d, "tool_calls");
        if (role && !trust_role(r, role) && odd == in->n) odd = i;
        if (calls && calls->type == JT_LIST && !as_given)
            *calls = adapt_calls(r, caps, *calls, i, at);
    }
    if (odd < in->n) snprintf(at->path, sizeof at->path, "messages[%zu].role", odd);
    if (as_given) return messages;
    in = merge_system(r, caps, in);
    for (size_t i = 0; i < in->n; i++) bt__jlist_add(r, out, adapt_message(r, caps, in->v[i]));
    return jof_list(out);
}
