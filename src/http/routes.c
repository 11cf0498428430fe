/* SPDX-License-Identifier: Apache-2.0 */
/* routes.c - the route table, and the answers that are not generations. */
#include "api/llama/llama.h"
#include "api/openai/openai.h"
#include "base/assert.h"
#include "base/clock.h"
#include "http/internal.h"
#include "http/page.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bt_front *front_of(const bt_call *c)
{
    return c->conn->server->front;
}

/* ---- health, models, version, page */

/* Why it is not ready. What strangers read names no files: the owner is told all. */
static const char *health_reason(const bt_unit_state *state, bool owner)
{
    if (state->draining) return "the server is shutting down";
    if (!state->ready && owner && state->message[0]) return state->message;
    if (state->failed) return "the model could not be loaded; the server's log says why";
    if (!state->ready) return "the model is being loaded";
    if (state->ledger[0])
        return owner ? state->ledger : "the quota ledger cannot be written just now";
    return bt_status_get(BT_EMODEL)->text;
}

/* up: the model is there. ready: and requests would be taken and answered. */
static void health_body(bt_call *c, bool ask_ready)
{
    bt_unit_state state = {0};
    bt_unit_state_get(bt_front_unit(front_of(c), NULL), &state);
    bool up = state.ready && !state.draining, ready = up && !state.ledger[0] && !state.not_finite;
    bool ok = ask_ready ? ready : up;
    const char *status = ok               ? "ok"
                         : state.draining ? "shutting down"
                         : state.failed   ? "failed"
                         : up             ? "not ready"
                                          : "loading model";
    const char *reason = ready ? "" : health_reason(&state, bt__gate_by_owner(c));
    bt_jw w = bt_jw_on(&c->reply);
    bt_jw_open(&w, '{');
    bt_jw_kstr(&w, "status", status);
    bt_jw_kbool(&w, "live", true);
    bt_jw_kbool(&w, "ready", ready);
    bt_jw_kstr(&w, "model", state.model);
    bt_jw_kint(&w, "residency",
               state.residency); // 0 running, 1 parked, 2 asleep: a request wakes it
    if (!ready) bt_jw_kstr(&w, "message", reason);
    if (!ok) {
        bt_jw_kint(&w, "load_done", (int64_t)state.load_done);
        bt_jw_kint(&w, "load_total", (int64_t)state.load_total);
        bt_jw_key(&w, "error"); // where llama-server's clients look
        bt_jw_open(&w, '{');
        bt_jw_kstr(&w, "message",
                   state.draining                ? "Shutting down"
                   : state.failed || state.ready ? reason
                                                 : "Loading model");
        bt_jw_kstr(&w, "type", "unavailable_error");
        bt_jw_kint(&w, "code", 503);
        bt_jw_close(&w, '}');
    }
    bt_jw_close(&w, '}');
    if (!ok && !state.failed) bt__call_header(c, "Retry-After", "1");
    bt__call_json(c, ok ? 200 : 503);
}

static void health(bt_call *c)
{
    health_body(c, false);
}

static void health_ready(bt_call *c)
{
    health_body(c, true);
}

static void health_live(bt_call *c)
{
    bt_buf_adds(&c->reply, "{\"status\":\"ok\"}");
    bt__call_json(c, 200);
}

static void write_model(bt_jw *w, bt_unit *u)
{
    bt_unit_state state = {0};
    bt_unit_state_get(u, &state);
    bt_jw_open(w, '{');
    bt_jw_kstr(w, "id", state.model);
    bt_jw_kstr(w, "object", "model");
    bt_jw_kint(w, "created", state.created);
    bt_jw_kstr(w, "owned_by", "baton");
    if (state.ready) bt_jw_kint(w, "max_model_len", state.ctx);
    bt_jw_kbool(w, "chat_template", state.chat_template); // else chats get the plain format
    bt_jw_key(w, "meta");
    bt_jw_open(w, '{');
    bt_jw_kbool(w, "ready", state.ready);
    bt_jw_kint(w, "n_ctx", state.ctx);
    bt_jw_kint(w, "n_vocab", state.vocab);
    bt_jw_kint(w, "slots", state.slots);
    bt_jw_close(w, '}');
    bt_jw_close(w, '}');
}

static void models(bt_call *c)
{
    bt_jw w = bt_jw_on(&c->reply);
    bt_jw_open(&w, '{');
    bt_jw_kstr(&w, "object", "list");
    bt_jw_key(&w, "data");
    bt_jw_open(&w, '[');
    for (bt_unit *u = NULL; (u = bt_front_unit_next(front_of(c), u)) != NULL;) write_model(&w, u);
    bt_jw_close(&w, ']');
    bt_jw_close(&w, '}');
    bt__call_json(c, 200);
}

static void model_one(bt_call *c)
{
    bt_unit *u = bt_front_unit(front_of(c), c->tail);
    bt_unit_state state = {0};
    if (u) bt_unit_state_get(u, &state);
    if (!u || !bt_api_model_matches(c->tail, state.model, c->conn->server->opt.model_path)) {
        char message[200];
        snprintf(message, sizeof message, "the model \"%.100s\" is not served here", c->tail);
        bt__call_fail(c, BT_ENOTFOUND, message, "model", "model_not_found");
        return;
    }
    bt_jw w = bt_jw_on(&c->reply);
    write_model(&w, u);
    bt__call_json(c, 200);
}

static void version(bt_call *c)
{
    bt_buf_adds(&c->reply, "{\"version\":\"" BATON_VERSION "\"}");
    bt__call_json(c, 200);
}

static void page(bt_call *c)
{
    bt_buf_add(&c->reply, bt__page, (size_t)(bt__page_end - bt__page));
    bt__call_header(c, "Cache-Control", "no-cache");
    bt__call_header_static(c, "Content-Security-Policy", bt__page_policy());
    bt__call_header(c, "Referrer-Policy", "no-referrer");
    bt__call_header(c, "X-Content-Type-Options", "nosniff");
    bt__call_json(c, 200);
    if (c->status == 200) c->type = "text/html; charset=utf-8";
}

/* ---- metrics */

static void metric(bt_buf *b, const char *name, const char *type, const char *help, long long v)
{
    bt_buf_addf(b, "# HELP %s %s\n# TYPE %s %s\n%s %lld\n", name, help, name, type, name, v);
}

static void metrics(bt_call *c)
{
    bt_counters *n = &c->conn->server->count;
    bt_buf *b = &c->reply;
    bt_front_metrics(front_of(c), b);
    metric(b, "baton_http_connections", "gauge", "Open connections.", atomic_load(&n->connections));
    metric(b, "baton_http_connections_given_way_total", "counter",
           "Connections closed to make room for newcomers.", atomic_load(&n->gave_way));
    metric(b, "baton_http_connections_refused_total", "counter",
           "Newcomers for whom there was no room.", atomic_load(&n->turned_away));
    metric(b, "baton_http_body_bytes", "gauge", "Memory of request bodies under way.",
           atomic_load(&n->body_bytes));
    metric(b, "baton_http_requests_total", "counter", "Requests read.", atomic_load(&n->requests));
    metric(b, "baton_http_generations_total", "counter", "Generations submitted.",
           atomic_load(&n->streams));
    metric(b, "baton_http_hangups_total", "counter", "Clients that left before their answer ended.",
           atomic_load(&n->hangups));
    metric(b, "baton_http_timeouts_total", "counter", "Requests cut off by a time limit.",
           atomic_load(&n->timeouts));
    bt_buf_adds(b, "# HELP baton_http_responses_total Responses by class of status code.\n"
                   "# TYPE baton_http_responses_total counter\n");
    for (int i = 1; i < 6; i++)
        bt_buf_addf(b, "baton_http_responses_total{class=\"%dxx\"} %lld\n", i,
                    (long long)atomic_load(&n->by_class[i]));
    bt__call_json(c, 200);
    if (c->status == 200) c->type = "text/plain; version=0.0.4; charset=utf-8";
}

/* ---- tokenize, detokenize, apply-template: llama-server's shapes */

static void text_route(bt_call *c, bt_llama_route route)
{
    bt_err e;
    bt_status st = bt_llama_answer(route, c->text, c->body.data ? c->body.data : "", c->body.len,
                                   &c->reply, &e);
    if (st == BT_OK)
        bt__call_json(c, 200);
    else
        bt__call_error(c, &e);
}

static void tokenize(bt_call *c)
{
    text_route(c, BT_LLAMA_TOKENIZE);
}
static void detokenize(bt_call *c)
{
    text_route(c, BT_LLAMA_DETOKENIZE);
}
static void apply_template(bt_call *c)
{
    text_route(c, BT_LLAMA_APPLY_TEMPLATE);
}

/* ---- quota, queue, accounts */

static void write_balance(bt_jw *w, const bt_ledger_balance *b)
{
    char when[24];
    bt_api_quota_write(w, "limit_us", b->limit_us, b->limit_us);
    bt_jw_kint(w, "used_us", b->used_us);
    bt_jw_kint(w, "held_us", b->held_us);
    bt_api_quota_write(w, "remaining_us", b->remaining_us, b->limit_us);
    bt_jw_kstr(w, "window_started_at",
               b->window_started_us ? bt_rfc3339(b->window_started_us, when) : NULL);
    bt_jw_kstr(w, "resets_at", b->resets_us ? bt_rfc3339(b->resets_us, when) : NULL);
}

static void quota_body(bt_call *c, const bt_ledger_balance *b)
{
    bt_jw w = bt_jw_on(&c->reply);
    bt_jw_open(&w, '{');
    bt_jw_kstr(&w, "account", c->who.account);
    bt_jw_kstr(&w, "tier", c->who.tier->name);
    write_balance(&w, b);
    bt_jw_close(&w, '}');
    bt__call_quota_headers(c, b);
    bt__call_json(c, 200);
}

static bool quota_at_once(bt_call *c)
{
    bt_ledger_balance b;
    if (!bt_front_balance_known(front_of(c), &c->who, &b)) return false;
    quota_body(c, &b);
    return true;
}

/* Of an account that is seen for the first time. */
static void quota(bt_call *c)
{
    bt_ledger_balance b = {0};
    bt_err err = {0};
    if (bt_front_balance(front_of(c), &c->who, &b, &err) == BT_OK)
        quota_body(c, &b);
    else
        bt__call_error(c, &err);
}

static void write_entry(bt_jw *w, const bt_front_queue_entry *e, bool owner)
{
    char id[24];
    bt_jw_open(w, '{');
    bt_jw_kstr(w, "request_id", bt_api_id(e->request, id));
    if (owner) bt_jw_kstr(w, "account", e->account);
    bt_jw_kint(w, "waited_ms", e->waited_ms);
    if (e->running) {
        bt_jw_kint(w, "slot", e->slot);
        bt_jw_knum(w, "lease_s", (double)e->lease_ms / 1000);
        bt_jw_knum(w, "left_s", (double)e->left_ms / 1000);
        bt_jw_kint(w, "device_us", e->device_us);
    } else {
        bt_jw_kint(w, "position", e->position);
        bt_jw_kint(w, "eta_ms", e->eta_ms);
    }
    bt_jw_close(w, '}');
}

static void queue(bt_call *c)
{
    enum { ENTRIES_MAX = 4096 };
    int32_t depth = 0, slots = 0;
    bt_front_queue_entry *e = bt_malloc(ENTRIES_MAX * sizeof *e);
    if (!e) {
        bt__call_fail(c, BT_ENOMEM, NULL, NULL, NULL);
        return;
    }
    int32_t n = bt_front_queue(front_of(c), c->who.owner ? 0 : c->who.account_id, e, ENTRIES_MAX,
                               &depth, &slots);
    bt_jw w = bt_jw_on(&c->reply);
    bt_jw_open(&w, '{');
    for (int running = 0; running < 2; running++) {
        bt_jw_key(&w, running ? "running" : "waiting");
        bt_jw_open(&w, '[');
        for (int32_t i = 0; i < n; i++)
            if (e[i].running == (running == 1)) write_entry(&w, &e[i], c->who.owner);
        bt_jw_close(&w, ']');
    }
    bt_jw_kint(&w, "depth", depth);
    bt_jw_kint(&w, "slots", slots);
    bt_jw_close(&w, '}');
    bt_free(e);
    bt__call_json(c, 200);
}

/* Everybody's may be thousands: not on the loop. */
static bool queue_at_once(bt_call *c)
{
    if (c->who.owner) return false;
    queue(c);
    return true;
}

/* Owner: the ledger's accounts, all or the one named. */
typedef struct account_list {
    bt_jw w;
    const char *only;
    int count;
} account_list;

static void list_account(void *ud, const char *account, int64_t limit_override_us,
                         const bt_ledger_balance *balance)
{
    account_list *l = ud;
    if (l->only && strcmp(l->only, account) != 0) return;
    l->count++;
    bt_jw_open(&l->w, '{');
    bt_jw_kstr(&l->w, "account", account);
    if (limit_override_us >= 0)
        bt_jw_kint(&l->w, "limit_override_us", limit_override_us);
    else
        bt_jw_knull(&l->w, "limit_override_us");
    write_balance(&l->w, balance);
    bt_jw_close(&l->w, '}');
}

static void accounts(bt_call *c)
{
    bt_err err = {0};
    account_list l = {bt_jw_on(&c->reply), NULL, 0};
    bt_jw_open(&l.w, '{');
    bt_jw_key(&l.w, "accounts");
    bt_jw_open(&l.w, '[');
    if (bt_front_quota_list(front_of(c), list_account, &l, &err) != BT_OK) {
        bt__call_error(c, &err);
        return;
    }
    bt_jw_close(&l.w, ']');
    bt_jw_close(&l.w, '}');
    bt__call_json(c, 200);
}

/* {limit_us: number | null (the tier's), reset: true}; answers with the account as it then is. */
static void account_change(bt_call *c)
{
    bt_arena arena;
    const bt_json *root;
    bt_err err = {0};
    int64_t limit_us = -1;
    bool reset = false;
    bt_status st = bt__call_object(c, &arena, &root, &err);
    if (st) goto done;
    bool has_limit = bt_json_find(root, "limit_us") != NULL;
    if ((st = bt_json_get_int(root, "limit_us", 0, INT64_MAX / 8, &limit_us, &err)) ||
        (st = bt_json_get_bool(root, "reset", &reset, &err)))
        goto done;
    if (!has_limit && !reset) {
        st = bt_err_set(&err, BT_EINVAL, 0, "nothing to change: send 'limit_us', 'reset' or both");
        goto done;
    }
    if (has_limit && (st = bt_front_quota_set(front_of(c), c->tail, limit_us, &err))) goto done;
    if (reset && (st = bt_front_quota_reset(front_of(c), c->tail, &err))) goto done;
    account_list l = {bt_jw_on(&c->reply), c->tail, 0};
    st = bt_front_quota_list(front_of(c), list_account, &l, &err);
    if (st == BT_OK && l.count == 0)
        st = bt_err_set(&err, BT_ENOTFOUND, 0, "there is no account \"%.100s\"", c->tail);
    if (st == BT_OK) bt__call_json(c, 200);
done:
    if (st != BT_OK) bt__call_error(c, &err);
    bt_arena_release(&arena);
}

/* ---- the table */

static const bt_route routes[] = {
    {"GET", "/", false, BT_NEED_NOTHING, BT_ON_LOOP, NULL, false, NULL, page},
    {"GET", "/health", false, BT_NEED_NOTHING, BT_ON_LOOP, NULL, false, NULL, health},
    {"GET", "/health/live", false, BT_NEED_NOTHING, BT_ON_LOOP, NULL, false, NULL, health_live},
    {"GET", "/health/ready", false, BT_NEED_NOTHING, BT_ON_LOOP, NULL, false, NULL, health_ready},
    {"GET", "/metrics", false, BT_NEED_NOTHING, BT_ON_LOOP, NULL, false, NULL, metrics},
    {"GET", "/v1/version", false, BT_NEED_NOTHING, BT_ON_LOOP, NULL, false, NULL, version},
    {"GET", "/v1/models", false, BT_NEED_NOTHING, BT_ON_LOOP, NULL, false, NULL, models},
    {"GET", "/v1/models/", true, BT_NEED_NOTHING, BT_ON_LOOP, NULL, false, NULL, model_one},
    {"POST", "/v1/chat/completions", false, BT_NEED_IDENTITY, BT_ON_LOOP, &bt_openai_chat, true,
     NULL, bt__generate_parse},
    {"POST", "/v1/completions", false, BT_NEED_IDENTITY, BT_ON_LOOP, &bt_openai_completion, true,
     NULL, bt__generate_parse},
    {"POST", "/tokenize", false, BT_NEED_IDENTITY, BT_ON_TEXT, NULL, false, NULL, tokenize},
    {"POST", "/detokenize", false, BT_NEED_IDENTITY, BT_ON_TEXT, NULL, false, NULL, detokenize},
    {"POST", "/apply-template", false, BT_NEED_IDENTITY, BT_ON_TEXT, NULL, false, NULL,
     apply_template},
    {"GET", "/v1/quota", false, BT_NEED_IDENTITY, BT_ON_HELPER, NULL, false, quota_at_once, quota},
    {"GET", "/v1/queue", false, BT_NEED_IDENTITY, BT_ON_HELPER, NULL, false, queue_at_once, queue},
    {"GET", "/v1/engines", false, BT_NEED_OWNER, BT_ON_LOOP, NULL, false, NULL, bt__engines_list},
    {"POST", "/v1/engines/", true, BT_NEED_OWNER, BT_ON_LOOP, NULL, false, NULL,
     bt__engines_change},
    {"GET", "/v1/accounts", false, BT_NEED_OWNER, BT_ON_HELPER, NULL, false, NULL, accounts},
    {"POST", "/v1/accounts/", true, BT_NEED_OWNER, BT_ON_HELPER, NULL, false, NULL, account_change},
};

static bool path_matches(const bt_route *r, const char *path, const char **tail)
{
    if (!r->prefix) return strcmp(r->path, path) == 0;
    size_t n = strlen(r->path);
    if (strncmp(r->path, path, n) != 0 || path[n] == 0) return false;
    *tail = path + n;
    return true;
}

static void methods_add(char methods[static 64], const char *more)
{
    size_t n = strlen(methods);
    snprintf(methods + n, 64 - n, "%s", more);
}

const bt_route *bt__route_find(const char *method, const char *path, const char **tail,
                               char methods[static 64])
{
    const char *rest = NULL;
    methods[0] = 0;
    for (size_t i = 0; i < BT_COUNT(routes); i++) {
        const bt_route *r = &routes[i];
        if (!path_matches(r, path, &rest)) continue;
        if (strcmp(r->method, method) == 0) {
            *tail = rest;
            return r;
        }
        methods_add(methods, strcmp(r->method, "GET") == 0 ? "GET, HEAD, " : "POST, ");
    }
    if (*methods) methods_add(methods, "OPTIONS");
    return NULL;
}

const char *bt__route_path(const char *target)
{
    const char *host = strstr(target, "://");
    if (*target == '/' || !host) return target;
    const char *path = strchr(host + 3, '/');
    return path ? path : "/";
}

const bt_dialect *bt__route_dialect(const char *path)
{
    const char *rest;
    for (size_t i = 0; i < BT_COUNT(routes); i++)
        if (path_matches(&routes[i], path, &rest)) return routes[i].dialect;
    return NULL;
}
