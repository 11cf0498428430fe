/* SPDX-License-Identifier: Apache-2.0 */
#include "chat/template_chat.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include <string.h>

struct bt_chat {
    bt_template *tmpl; // owned
    bool plain;
};

/* A long conversation takes some 100,000 steps. These are over in a fraction of a second, and a
 * prompt beyond them fits no context. */
const bt_jinja_limits bt_chat_limits = {
    .steps = 4000000, .output_bytes = 32 << 20, .memory_bytes = 192 << 20};

static const char plain_source[] =
    "{%- set names = {'system': 'System', 'developer': 'System', 'user': 'User',"
    " 'assistant': 'Assistant', 'tool': 'Tool', 'function': 'Tool'} -%}"
    "{%- for m in messages -%}"
    "{%- if m.role not in names -%}"
    "{{- raise_exception(\"a message's role must be system, developer, user, assistant or tool\")"
    " -}}"
    "{%- endif -%}"
    "{{- names[m.role] + ': ' + m.content + '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}";
static const char plain_stop[] = "\nUser:";

/* ---- opening */

bt_status bt_chat_open(const bt_vocab *v, const char *own, bt_chat **out, bt_err *err)
{
    bt_template_source source[BT_TEMPLATE_SOURCES_MAX];
    bt_template_token token[BT_TEMPLATE_TOKENS_MAX];
    size_t n_source = own ? 1 : bt_vocab_n_templates(v), n = 0;
    bt_chat *c = bt_calloc(1, sizeof *c);
    if (!c) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the chat template");
    c->plain = own ? strcmp(own, "plain") == 0 : n_source == 0;
    n_source = BT_MIN(n_source, (size_t)BT_TEMPLATE_SOURCES_MAX);
    for (size_t i = 0; i < n_source; i++) {
        source[i].text.text = own ? own : bt_vocab_template_at(v, i, &source[i].name);
        if (own) source[i].name = NULL;
        source[i].text.len = strlen(source[i].text.text);
    }
    if (c->plain) {
        source[0] = (bt_template_source){NULL, {plain_source, sizeof plain_source - 1}};
        n_source = 1;
    }
    while (n < BT_TEMPLATE_TOKENS_MAX && (token[n].text = bt_vocab_named_at(v, n, &token[n].name)))
        n++;
    bt_status st = bt_template_new(source, n_source, token, n, &bt_chat_limits, &c->tmpl, err);
    if (st) {
        bt_chat_close(c);
        return st;
    }
    *out = c;
    return BT_OK;
}

void bt_chat_close(bt_chat *c)
{
    if (!c) return;
    bt_template_free(c->tmpl);
    bt_free(c);
}

bool bt_chat_is_plain(const bt_chat *c)
{
    return c->plain;
}

const char *bt_chat_stop(const bt_chat *c)
{
    return c->plain ? plain_stop : NULL;
}

const bt_template_caps *bt_chat_caps(const bt_chat *c)
{
    return bt_template_get_caps(c->tmpl);
}

/* ---- prompts */

bt_status bt_chat_render(const bt_chat *c, const bt_template_chat *chat, bt_jinja_output *out,
                         bt_err *err)
{
    bt_template_chat now = *chat;
    if (chat->tools && !bt_template_get_caps(c->tmpl)->tools)
        return bt_err_field(err, BT_EINVAL, "tools",
                            "this model's chat format has no place for tools: leave 'tools' out or "
                            "set 'tool_choice' to \"none\"");
    if (!now.now_local_us) now.now_local_us = bt_jinja_local_us(bt_wall_us());
    now.plain_safe = true; // |safe must not put HTML escapes into a prompt
    return bt_template_render(c->tmpl, &now, out, NULL, err);
}

bt_status bt_chat_check(const bt_chat *c, bt_err *err)
{
#define USER "{\"role\":\"user\",\"content\":\"qUSERq\"}"
    static const struct {
        const char *what, *messages;
    } row[] = {
        {"a user's message", "[" USER "]"},
        {"a system message", "[{\"role\":\"system\",\"content\":\"qSYSTEMq\"}," USER "]"},
        {"a conversation", "[" USER ",{\"role\":\"assistant\",\"content\":\"qANSWERq\"}," USER "]"},
    };
#undef USER
    for (size_t i = 0; i < BT_COUNT(row); i++) {
        bt_template_chat chat = {.add_generation_prompt = true};
        bt_jinja_output out = {0};
        bt_err why = {0};
        bt_arena arena;
        bt_arena_init(&arena, bt_json_room(strlen(row[i].messages)));
        bt_status st =
            bt_json_parse(row[i].messages, strlen(row[i].messages), &arena, &chat.messages, &why);
        if (st == BT_OK) st = bt_chat_render(c, &chat, &out, &why);
        bt_arena_release(&arena);
        bool shown = st == BT_OK && strstr(out.text, "qUSERq") != NULL;
        bt_jinja_output_release(&out);
        if (shown) continue;
        bt_status code = i == 0 ? BT_EFORMAT : BT_EUNSUPPORTED;
        if (st)
            return bt_err_set(err, code, 0, "the chat template refuses %s: %.160s", row[i].what,
                              why.msg);
        return bt_err_set(err, code, 0, "the chat template leaves out what the user says in %s",
                          row[i].what);
    }
    return BT_OK;
}

bt_status bt_chat_encode(const bt_chat *c, bt_encoder *e, const bt_jinja_output *prompt,
                         bool parse_special, size_t n_max, bt_stop *stop, const int32_t **ids,
                         size_t *n_ids, bt_err *err)
{
    bt_encode_options opt = {.add_special = c->plain, .parse_special = true, .stop = stop};
    bt_encode_range *user = NULL;
    if (!parse_special) {
        size_t n = 0;
        user = bt_malloc((prompt->n_ranges + 1) * sizeof *user);
        if (!user) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the prompt");
        for (size_t i = 0; i < prompt->n_ranges; i++) {
            const bt_jinja_range *r = &prompt->range[i];
            if (!(r->flags & BT_JINJA_USER)) continue;
            if (n && user[n - 1].end == r->start)
                user[n - 1].end = r->end;
            else
                user[n++] = (bt_encode_range){r->start, r->end};
        }
        opt.user = user;
        opt.n_user = n;
    }
    bt_status st = bt_encode(e, prompt->text, prompt->len, &opt, n_max, ids, n_ids, err);
    bt_free(user);
    return st;
}
