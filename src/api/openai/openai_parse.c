/* SPDX-License-Identifier: Apache-2.0 */
/* openai_parse.c - what the bodies of chats and completions have in common. */
#include "api/openai/openai_parts.h"
#include <stdio.h>
#include <string.h>

/* ---- fields that chat and completions share */

typedef struct limits {
    int64_t max_tokens; // 0 = as many as the context holds
    double lease_s;
    int64_t n;
} limits;

/* Fields of OpenAI, vLLM, TGI and llama-server that would change the answer and that nothing here
 * can honour: refused, not ignored. What says "not at all" (false, 0, "", []) is fine everywhere.
 */
static const struct {
    const char *name;
    const char *fine[2]; // words that are fine as well, alone or in an array
    const char *instead;
} unsupported[] = {
    {"functions", {0}, "use 'tools'"},
    {"function_call", {"none", "auto"}, "use 'tools' and 'tool_choice'"},
    {"tool_choice", {"none", "auto"}, "a call cannot be enforced: use \"auto\" or \"none\""},
    {"modalities", {"text"}, "answers are \"text\""},
    {"audio", {0}, "answers are text"},
    {"web_search_options", {0}, "leave it out"},
    {"grammar", {0}, "leave it out"},
    {"json_schema", {0}, "leave it out"},
    {"guided_json", {0}, "leave it out"},
    {"guided_regex", {0}, "leave it out"},
    {"guided_choice", {0}, "leave it out"},
    {"guided_grammar", {0}, "leave it out"},
    {"structured_outputs", {0}, "leave it out"},
    {"suffix", {0}, "leave it out"},
    {"use_beam_search", {0}, "leave it out"},
    {"stop_token_ids", {0}, "use 'stop'"},
    {"include_stop_str_in_output", {0}, "leave it out"},
    {"bad_words", {0}, "use 'logit_bias'"},
    {"allowed_token_ids", {0}, "use 'logit_bias'"},
    {"n_probs", {0}, "use 'logprobs'"},
    {"prompt_logprobs", {0}, "use 'echo' and 'logprobs' of /v1/completions"},
};

static bool is_fine(const bt_json *v, const char *const fine[2])
{
    if (bt_json_is(v, BT_JSON_ARRAY)) {
        for (const bt_json *item = v->child; item; item = item->next)
            if (!bt_json_is(item, BT_JSON_STRING) || !is_fine(item, fine)) return false;
        return true;
    }
    if (bt_json_is(v, BT_JSON_NUMBER)) return bt_json_number(v) == 0;
    if (!bt_json_is(v, BT_JSON_STRING)) return bt_json_is(v, BT_JSON_BOOL) && !v->n;
    bool known = v->text[0] == 0;
    for (int i = 0; i < 2; i++) known = known || (fine[i] && strcmp(v->text, fine[i]) == 0);
    return known;
}

static bt_status refuse_unsupported(bt_parser *p)
{
    const bt_json *v;
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        if ((v = bt_json_item(p->root, unsupported[i].name)) && !is_fine(v, unsupported[i].fine))
            return bt__parse_fault(p, BT_EINVAL, unsupported[i].name, "'%s' is not supported: %s",
                                   unsupported[i].name, unsupported[i].instead);
    v = bt_json_item(p->root, "response_format");
    if (v) {
        const bt_json *type = bt_json_item(v, "type");
        if (!bt_json_is(type, BT_JSON_STRING))
            return bt__parse_fault(p, BT_EINVAL, "response_format",
                                   "'response_format' must be an object with a 'type'");
        if (strcmp(type->text, "text") != 0)
            return bt__parse_fault(
                p, BT_EINVAL, "response_format",
                "'response_format' of type \"%.40s\" is not supported; use \"text\"", type->text);
    }
    return BT_OK;
}

static bt_status parse_common(bt_parser *p, bt_gen_params *params, limits *l)
{
    bt_api_request *r = p->out;
    const char *user = NULL;
    int64_t best_of = 0;
    bt_status st;
    if ((st = bt__parse_str(p, "model", &r->model))) return st;
    const bt_gen_params *own = p->defaults ? p->defaults(p->ud, r->model) : NULL;
    bt_gen_params_init(params);
    if (own) *params = *own;
    if ((st = bt__parse_bool(p, "stream", &r->stream)) || (st = bt__parse_str(p, "user", &user)) ||
        (st = bt__parse_sampling(p, params)) ||
        (st = bt__parse_int(p, "n", 1, BT_SEQS_PER_REQUEST_MAX, &l->n)) ||
        (st = bt__parse_int(p, "best_of", 1, BT_SEQS_PER_REQUEST_MAX, &best_of)) ||
        (st = bt__parse_num(p, "lease_seconds", 0.1, BT_API_LEASE_MAX_S, &l->lease_s)) ||
        (st = refuse_unsupported(p)))
        return st;
    if (best_of && best_of != l->n)
        return bt__parse_fault(p, BT_EINVAL, "best_of",
                               "'best_of' other than 'n' is not supported");
    const bt_json *options = bt_json_item(p->root, "stream_options");
    if (options && !bt_json_is(options, BT_JSON_OBJECT))
        return bt__parse_fault(p, BT_EINVAL, "stream_options",
                               "'stream_options' must be an object");
    if (options && bt_json_get_bool(options, "include_usage", &r->include_usage, NULL) != BT_OK)
        return bt__parse_fault(p, BT_EINVAL, "stream_options.include_usage",
                               "'stream_options.include_usage' must be true or false");
    return BT_OK;
}

static void fill_part(bt_front_request *part, const bt_api_request *r, const bt_gen_params *params,
                      const limits *l)
{
    part->n_seq = (int32_t)l->n;
    part->params = *params;
    part->params.max_tokens = (int32_t)l->max_tokens;
    part->lease_seconds = l->lease_s;
    part->progress = r->stream;
}

/* ---- chat */

bt_status bt__openai_chat_parse(bt_parser *p)
{
    bt_api_request *r = p->out;
    bt_gen_params params;
    limits l = {0, 0, 1};
    int64_t top = 0;
    bt_status st;
    if ((st = parse_common(p, &params, &l)) ||
        (st = bt__parse_int(p, "max_tokens", -1, INT32_MAX, &l.max_tokens)) ||
        (st = bt__parse_int(p, "max_completion_tokens", -1, INT32_MAX, &l.max_tokens)) ||
        (st = bt__parse_bool(p, "logprobs", &r->logprobs)) ||
        (st = bt__parse_int(p, "top_logprobs", 0, BT_TOP_LOGPROBS_MAX, &top)))
        return st;
    const char *limit =
        bt_json_item(p->root, "max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
    if (bt_json_item(p->root, limit) && l.max_tokens == 0)
        return bt__parse_fault(p, BT_EINVAL, limit, "'%s' must be at least 1", limit);
    if (l.max_tokens < 0) l.max_tokens = 0; // -1: no limit, as llama-server has it
    if (bt_json_item(p->root, "top_logprobs") && !r->logprobs)
        return bt__parse_fault(p, BT_EINVAL, "top_logprobs",
                               "'top_logprobs' needs 'logprobs' set to true");
    if (r->logprobs) params.n_logprobs = (int32_t)top;
    r->part = bt__parse_alloc(p, 1, sizeof *r->part);
    if (!r->part) return bt__parse_nomem(p);
    r->n_parts = 1;
    r->n_seq = (int32_t)l.n;
    fill_part(&r->part[0], r, &params, &l);
    bt_template_chat *chat = bt__parse_alloc(p, 1, sizeof *chat);
    if (!chat) return bt__parse_nomem(p);
    r->part[0].chat = chat;
    if ((st = bt__parse_bool(p, "parse_special", &r->part[0].parse_special))) return st;
    return bt__parse_chat(p, chat);
}

/* ---- completions */

/* `where` is the place in the body: "prompt", "prompt[3]". */
static bt_status parse_tokens(bt_parser *p, const bt_json *list, const char *where,
                              bt_front_request *part)
{
    int count = (int)list->n;
    if (count < 1)
        return bt__parse_fault(p, BT_EINVAL, "prompt", "'%s' is an empty array of tokens", where);
    int32_t *ids = bt__parse_alloc(p, (size_t)count, sizeof *ids);
    if (!ids) return bt__parse_nomem(p);
    int32_t n = 0;
    for (const bt_json *item = list->child; item; item = item->next) {
        if (!bt__parse_id(item, &ids[n]))
            return bt__parse_fault(p, BT_EINVAL, "prompt", "'%s[%d]' is not a token id", where, n);
        n++;
    }
    part->tokens = ids;
    part->n_tokens = n;
    return BT_OK;
}

/* A string, an array of token ids, or an array of either: one part a prompt. */
static bt_status parse_prompts(bt_parser *p)
{
    bt_api_request *r = p->out;
    const bt_json *v = bt_json_item(p->root, "prompt");
    if (!v) return bt__parse_fault(p, BT_EINVAL, "prompt", "'prompt' is missing");
    bool many = bt_json_is(v, BT_JSON_ARRAY) && !bt_json_is(v->child, BT_JSON_NUMBER);
    int count = many ? (int)v->n : 1;
    if (count < 1 || count > BT_API_PARTS_MAX)
        return bt__parse_fault(p, BT_EINVAL, "prompt",
                               "'prompt' holds %d prompts; it must hold 1 to %d", count,
                               BT_API_PARTS_MAX);
    r->part = bt__parse_alloc(p, (size_t)count, sizeof *r->part);
    if (!r->part) return bt__parse_nomem(p);
    r->n_parts = count;
    const bt_json *item = many ? v->child : v;
    for (int i = 0; i < count; i++, item = item->next) {
        char where[32] = "prompt";
        if (many) snprintf(where, sizeof where, "prompt[%d]", i);
        bt_status st = BT_OK;
        if (bt_json_is(item, BT_JSON_ARRAY))
            st = parse_tokens(p, item, where, &r->part[i]);
        else if (!bt_json_is(item, BT_JSON_STRING))
            st = bt__parse_fault(p, BT_EINVAL, "prompt",
                                 "'%s' must be a string or an array of token ids%s", where,
                                 many ? "" : ", or an array of those");
        if (st != BT_OK) return st;
        if (r->part[i].tokens) continue;
        r->part[i].text = item->text;
        r->part[i].n_text = item->n;
    }
    return BT_OK;
}

/* Tools belong to chats. */
static bt_status refuse_tools(bt_parser *p)
{
    const bt_json *v = bt_json_item(p->root, "tools");
    const bt_json *choice = bt_json_item(p->root, "tool_choice");
    bool none = bt_json_is_text(choice, "none");
    if (!v || (bt_json_is(v, BT_JSON_ARRAY) && (!v->child || none))) return BT_OK;
    return bt__parse_fault(p, BT_EINVAL, "tools",
                           "a text completion takes no tools: leave 'tools' out, or use "
                           "/v1/chat/completions");
}

bt_status bt__openai_completion_parse(bt_parser *p)
{
    bt_api_request *r = p->out;
    bt_gen_params params;
    limits l = {16, 0, 1};
    int64_t logprobs = -1;
    bool special = false, ends = true;
    bt_status st;
    if ((st = parse_common(p, &params, &l)) ||
        (st = bt__parse_int(p, "max_tokens", -1, INT32_MAX, &l.max_tokens)) ||
        (st = bt__parse_bool(p, "echo", &r->echo)) ||
        (st = bt__parse_int(p, "logprobs", 0, BT_TOP_LOGPROBS_MAX, &logprobs)) ||
        (st = bt__parse_bool(p, "parse_special", &special)) ||
        (st = bt__parse_bool(p, "add_special_tokens", &ends)) || // vLLM's name
        (st = refuse_tools(p)) || (st = parse_prompts(p)))
        return st;
    if (r->n_parts * l.n > BT_API_CHOICES_MAX)
        return bt__parse_fault(p, BT_EINVAL, "n",
                               "%d prompts with n = %d ask for too many choices; at most %d are "
                               "allowed",
                               r->n_parts, (int)l.n, BT_API_CHOICES_MAX);
    /* Scoring: an engine always draws, so one token is drawn and never shown. */
    r->score_only = l.max_tokens == 0;
    if (r->score_only) l.max_tokens = 1;
    if (l.max_tokens < 0) l.max_tokens = 0;
    r->logprobs = logprobs >= 0;
    params.n_logprobs = (int32_t)logprobs;
    params.prompt_logprobs = r->echo && r->logprobs;
    r->n_seq = (int32_t)l.n;
    for (int32_t i = 0; i < r->n_parts; i++) {
        fill_part(&r->part[i], r, &params, &l);
        r->part[i].parse_special = special;
        r->part[i].bare = !ends;
    }
    return BT_OK;
}
