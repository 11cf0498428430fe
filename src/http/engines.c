/* SPDX-License-Identifier: Apache-2.0 */
/* engines.c - /v1/engines: the owner sees what of a model is in device memory, parks and wakes it.
 *
 * Parking and waking take as long as a copy of the weights: the answer is 202 with the state as it
 * is now, and GET tells when it has changed. */
#include "http/internal.h"
#include <string.h>

static const char *residency_name(const bt_unit_state *state)
{
    if (state->failed) return "failed";
    if (state->residency == 2) return "asleep";
    if (!state->ready) return "loading";
    return state->residency == 1 ? "parked" : "running";
}

static void write_engine(bt_jw *w, bt_unit *u)
{
    bt_unit_state state = {0};
    bt_unit_state_get(u, &state);
    bt_jw_open(w, '{');
    bt_jw_kstr(w, "id", state.model);
    bt_jw_kstr(w, "object", "engine");
    bt_jw_kstr(w, "state", residency_name(&state));
    bt_jw_kint(w, "level", state.residency);
    bt_jw_kstr(w, "device", state.device);
    bt_jw_kbool(w, "can_park", state.can_park);
    bt_jw_kint(w, "load_done", (int64_t)state.load_done);
    bt_jw_kint(w, "load_total", (int64_t)state.load_total);
    bt_jw_kint(w, "device_free_bytes", (int64_t)state.device_free_bytes);
    bt_jw_kint(w, "slots", state.slots);
    bt_jw_kint(w, "ctx", state.ctx);
    bt_jw_kint(w, "restarts", state.engine_restarts);
    bt_jw_close(w, '}');
}

void bt__engines_list(bt_call *c)
{
    bt_front *f = c->conn->server->front;
    bt_jw w = bt_jw_on(&c->reply);
    bt_jw_open(&w, '{');
    bt_jw_kstr(&w, "object", "list");
    bt_jw_key(&w, "data");
    bt_jw_open(&w, '[');
    for (bt_unit *u = NULL; (u = bt_front_unit_next(f, u)) != NULL;) write_engine(&w, u);
    bt_jw_close(&w, ']');
    bt_jw_close(&w, '}');
    bt__call_json(c, 200);
}

/* {"level": 1 | 2}; an empty body means 1 where the device has it, else 2. */
static bt_status park(const bt_call *c, bt_unit *u, bt_err *err)
{
    bt_unit_state state = {0};
    bt_unit_state_get(u, &state);
    int64_t level = state.can_park ? 1 : 2;
    if (c->body.len > 0) {
        bt_arena arena;
        const bt_json *root;
        bt_status st = bt__call_object(c, &arena, &root, err);
        if (st == BT_OK) st = bt_json_get_int(root, "level", 1, 2, &level, err);
        bt_arena_release(&arena);
        if (st) return st;
    }
    return bt_unit_park(u, (int32_t)level, err);
}

/* The unit called name[0..n), to the letter. */
static bt_unit *named(bt_front *f, const char *name, size_t n)
{
    bt_unit_state state = {0};
    for (bt_unit *u = NULL; (u = bt_front_unit_next(f, u)) != NULL;) {
        bt_unit_state_get(u, &state);
        if (n == strlen(state.model) && strncmp(name, state.model, n) == 0) return u;
    }
    return NULL;
}

void bt__engines_change(bt_call *c)
{
    bt_err err = {0};
    bt_front *f = c->conn->server->front;
    const char *verb = strrchr(c->tail, '/');
    size_t n = verb ? (size_t)(verb - c->tail) : strlen(c->tail);
    bt_unit *u = named(f, c->tail, n);
    bt_status st = BT_OK;
    if (!u) {
        bt_unit_state state = {0};
        bt_unit_state_get(bt_front_unit(f, NULL), &state);
        st = bt_err_set(&err, BT_ENOTFOUND, 0, "there is no engine \"%.*s\"; there is \"%.100s\"",
                        (int)(n < 100 ? n : 100), c->tail, state.model);
    } else if (verb && strcmp(verb, "/park") == 0) {
        st = park(c, u, &err);
    } else if (verb && strcmp(verb, "/wake") == 0) {
        st = bt_unit_wake(u, &err);
    } else {
        st = bt_err_set(&err, BT_ENOTFOUND, 0, "an engine can be asked to /park or to /wake");
    }
    if (st) {
        bt__call_error(c, &err);
        return;
    }
    bt_jw w = bt_jw_on(&c->reply);
    write_engine(&w, u);
    bt__call_json(c, 202);
}
