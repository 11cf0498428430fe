/* SPDX-License-Identifier: Apache-2.0 */
/* template.c - named templates, the variables transformers passes, and continue_final_message. */
#include "chat/template.h"
#include "base/json.h"
#include "jinja/jinja_text.h"
#include "chat/template_parts.h"
#include <stdio.h>

/* ---- opening */

static bt_status add_source(bt_template *t, const bt_template_source *s, bt_err *err)
{
    bt_err why = {0};
    const char *name = s->name ? s->name : "default";
    if (t->n_sources == BT_TEMPLATE_SOURCES_MAX)
        return bt_err_set(err, BT_EFORMAT, 0, "more than %d chat templates in one model",
                          BT_TEMPLATE_SOURCES_MAX);
    char *copy = bt_strdup(name);
    if (!copy) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the chat template");
    t->source[t->n_sources++].name = copy;
    bt_status st = bt_jinja_compile(s->text.text, s->text.len, &t->limits,
                                    &t->source[t->n_sources - 1].jinja, NULL, &why);
    if (bt__jfind(s->text.text, s->text.len, "developer", 9) != SIZE_MAX)
        for (int tools = 0; tools < 2; tools++)
            t->source[t->n_sources - 1].caps[tools].developer_role = true;
    if (st == BT_OK) return st;
    return bt_err_set(err, st, 0, "chat template '%.40s': %.180s", name, why.msg);
}

bt_status bt_template_new(const bt_template_source *sources, size_t n_sources,
                          const bt_template_token *tokens, size_t n_tokens,
                          const bt_jinja_limits *limits, bt_template **out, bt_err *err)
{
    bt_template *t = bt_calloc(1, sizeof *t);
    bt_status st = BT_OK;
    if (!t) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the chat template");
    if (limits) t->limits = *limits;
    if (!n_sources) st = bt_err_set(err, BT_ENOTFOUND, 0, "the model has no chat template");
    for (size_t i = 0; st == BT_OK && i < n_sources; i++) st = add_source(t, &sources[i], err);
    t->token = bt_calloc(n_tokens + 1, sizeof *t->token);
    if (!t->token) st = bt_err_set(err, BT_ENOMEM, 0, "out of memory for the chat template");
    for (size_t i = 0; st == BT_OK && i < n_tokens; i++) {
        t->token[i].name = bt_strdup(tokens[i].name);
        t->token[i].text = bt_strdup(tokens[i].text);
        t->n_tokens++;
        if (!t->token[i].name || !t->token[i].text)
            st = bt_err_set(err, BT_ENOMEM, 0, "out of memory for the chat template");
    }
    if (st) {
        bt_template_free(t);
        return st;
    }
    bt__template_probe(t);
    *out = t;
    return BT_OK;
}

void bt_template_free(bt_template *t)
{
    if (!t) return;
    for (size_t i = 0; i < t->n_sources; i++) {
        bt_free(t->source[i].name);
        bt_jinja_free(t->source[i].jinja);
    }
    for (size_t i = 0; i < t->n_tokens; i++) {
        bt_free(t->token[i].name);
        bt_free(t->token[i].text);
    }
    bt_free(t->token);
    bt_free(t);
}

const bt_template_caps *bt_template_get_caps(const bt_template *t)
{
    return &t->caps;
}

/* ---- rendering */

static const char continue_tag[] = "CONTINUE_FINAL_MESSAGE_TAG ";

typedef struct job {
    const bt_template *t;
    const bt_template_chat *chat;
    const bt_template_caps *caps; // of the template at hand
    const jstr *final;            // the last message's text, as it was
    bt_template_field at;         // what of the body is at fault
} job;

static jv value(jrt *r, const bt_json *json, const char *what, jtype type)
{
    jv v = json ? bt__jjson_value(r, json, BT_JINJA_USER) : jnone();
    if (v.type != type && v.type != JT_NONE)
        bt__jraise(r, BT_JINJA_CONTEXT, "'%s' must be %s", what,
                   type == JT_LIST ? "an array" : "an object");
    return v;
}

static jv tagged(jrt *r, job *j, const jstr *text)
{
    j->final = text;
    return bt__jstr_cat(r, text, bt__jstr_lit(r, continue_tag).u.s);
}

/* Marks the end of the last message's content, of its last text part if it has parts. */
static void mark_final(jrt *r, job *j, jv messages)
{
    jlist *l = messages.u.l;
    jdict *last = l->n && l->v[l->n - 1].type == JT_DICT ? l->v[l->n - 1].u.d : NULL;
    jv *content = last ? bt__jdict_find_text(last, "content") : NULL;
    if (content && content->type == JT_STR) *content = tagged(r, j, content->u.s);
    if (content && content->type == JT_LIST) {
        for (size_t i = content->u.l->n; i-- > 0 && !j->final;) {
            jv part = content->u.l->v[i];
            jv *text = part.type == JT_DICT ? bt__jdict_find_text(part.u.d, "text") : NULL;
            if (text && text->type == JT_STR) *text = tagged(r, j, text->u.s);
        }
    }
    if (!j->final) {
        snprintf(j->at.path, sizeof j->at.path, "continue_final_message");
        bt__jraise(r, BT_JINJA_CONTEXT,
                   "continue_final_message is set but we could not find any "
                   "text to continue in the final message!");
    }
}

static void add_kwargs(jrt *r, job *j, jdict *all, jv kwargs)
{
    static const char *const taken[] = {"messages", "tools", "documents", "add_generation_prompt"};
    if (kwargs.type != JT_DICT) return;
    for (uint32_t i = 0; i < kwargs.u.d->n; i++) {
        const jentry *e = &kwargs.u.d->e[i];
        for (size_t k = 0; k < BT_COUNT(taken); k++)
            if (jstr_is(e->key.u.s, taken[k])) {
                snprintf(j->at.path, sizeof j->at.path, "chat_template_kwargs.%s", taken[k]);
                bt__jraise(r, BT_JINJA_CONTEXT, "'chat_template_kwargs' may not hold '%s'",
                           taken[k]);
            }
        bt__jdict_put(r, all, e->key, e->value);
    }
}

static void add_tokens(jrt *r, jdict *all, const bt_template *t)
{
    static const char several[] = "additional_special_tokens";
    jlist *list = NULL;
    for (size_t i = 0; i < t->n_tokens; i++) {
        jv text = bt__jstr_lit(r, t->token[i].text);
        if (strcmp(t->token[i].name, several) != 0) {
            bt__jdict_put_text(r, all, t->token[i].name, text);
            continue;
        }
        if (!list) list = bt__jlist_new(r, 8);
        bt__jlist_add(r, list, text);
    }
    if (list) bt__jdict_put_text(r, all, several, jof_list(list));
}

static jdict *chat_context(jrt *r, void *ud)
{
    job *j = ud;
    const bt_template_chat *chat = j->chat;
    jdict *all = bt__jdict_new(r, 32);
    add_tokens(r, all, j->t);
    add_kwargs(r, j, all, value(r, chat->kwargs, "chat_template_kwargs", JT_DICT));
    jv messages = value(r, chat->messages, "messages", JT_LIST);
    messages = bt__template_adapt(r, j->caps, messages, chat->as_given, &j->at);
    if (chat->continue_final_message) {
        if (chat->add_generation_prompt)
            bt__jraise(r, BT_JINJA_CONTEXT,
                       "continue_final_message and add_generation_prompt are "
                       "not compatible");
        mark_final(r, j, messages);
    }
    bt__jdict_put_text(r, all, "messages", messages);
    bt__jdict_put_text(r, all, "tools", value(r, chat->tools, "tools", JT_LIST));
    bt__jdict_put_text(r, all, "documents", value(r, chat->documents, "documents", JT_LIST));
    bt__jdict_put_text(r, all, "add_generation_prompt", jbool(chat->add_generation_prompt));
    return all;
}

/* The text ends where the mark is; a template that trimmed the content took the mark's space, and
 * then white space before the mark goes too. */
static void cut_final(jrt *r, void *ud, jsb *text)
{
    job *j = ud;
    size_t at, len, n = sizeof continue_tag - 1;
    if (!j->chat->continue_final_message) return;
    bt__jstrip_span(r, j->final, NULL, true, true, &at, &len);
    size_t final = bt__jfind(text->p, text->len, j->final->p + at, len);
    size_t tag = bt__jrfind(r, text->p, text->len, continue_tag, n - 1);
    if (final == SIZE_MAX || tag == SIZE_MAX) {
        snprintf(j->at.path, sizeof j->at.path, "continue_final_message");
        bt__jraise(r, BT_JINJA_CONTEXT,
                   "continue_final_message is set but the final message does not appear in the "
                   "chat after applying the chat template! This can happen if the chat template "
                   "deletes portions of the final message. Please verify the chat template and "
                   "final message in your chat to ensure they are compatible.");
    }
    bool spaced = text->len - tag >= n && memcmp(text->p + tag, continue_tag, n) == 0;
    jstr head = {.p = text->p, .len = (uint32_t)tag, .chars = -1};
    if (!spaced) {
        bt__jstrip_span(r, &head, NULL, false, true, &at, &len);
        tag = len;
    }
    text->len = tag;
    while (text->n_segs > 1 && text->segs[text->n_segs - 2].end >= tag) text->n_segs--;
    if (text->n_segs) text->segs[text->n_segs - 1].end = (uint32_t)tag;
    if (!tag) text->n_segs = 0;
}

static int find_source(const bt_template *t, const char *name)
{
    for (size_t i = 0; i < t->n_sources; i++)
        if (strcmp(t->source[i].name, name) == 0) return (int)i;
    return -1;
}

int bt__template_choose(const bt_template *t, const bt_template_chat *chat, bt_err *err)
{
    int found = -1;
    if (chat->name) {
        found = find_source(t, chat->name);
        if (found < 0)
            bt_err_set(err, BT_EINVAL, 0, "the model has no chat template named '%.60s'",
                       chat->name);
        return found;
    }
    if (chat->tools) found = find_source(t, "tool_use");
    if (found < 0 && !chat->tools && chat->documents) found = find_source(t, "rag");
    if (found < 0) found = find_source(t, "default");
    if (found < 0 && t->n_sources == 1) found = 0;
    if (found < 0)
        bt_err_set(err, BT_EINVAL, 0,
                   "the model has chat templates, but none named 'default': choose one by its "
                   "name");
    return found;
}

bt_status bt_template_render(const bt_template *t, const bt_template_chat *chat,
                             bt_jinja_output *out, bt_jinja_error *error, bt_err *err)
{
    job j = {.t = t, .chat = chat};
    int at = bt__template_choose(t, chat, err);
    bt_jinja_options options = {.limits = t->limits,
                                .now_local_us = chat->now_local_us,
                                .plain_safe = chat->plain_safe,
                                .stop = chat->stop};
    if (error) *error = (bt_jinja_error){0};
    if (at < 0) return BT_EINVAL;
    j.caps = &t->source[at].caps[chat->tools != NULL];
    if (chat->documents && j.caps->drops_documents && !chat->as_given)
        return bt_err_field(err, BT_EINVAL, "documents",
                            "this model's chat format has no place for documents: leave "
                            "'documents' out, or put their text into a message");
    bt_status st =
        bt__jinja_run(t->source[at].jinja, chat_context, cut_final, &j, &options, out, error, err);
    if (st == BT_EINVAL && err)
        snprintf(err->field, sizeof err->field, "%.63s", *j.at.path ? j.at.path : "messages");
    return st;
}
