/* SPDX-License-Identifier: Apache-2.0 */
/* engines.c - /v1/engines: the owner sees what of a model is in device memory, parks and wakes it.
 *
 * Parking and waking take as long as a copy of the weights: the answer is 202 with the state as it
 * is now, and GET tells when it has changed. */
#include "http/internal.h"
#include <string.h>

static const char *residency_name(const bt_front_state *st)
{
    if (st->failed) return "failed";
    if (st->residency == 2) return "asleep";
    if (!st->ready) return "loading";
    return st->residency == 1 ? "parked" : "running";
}

static void write_engine(bt_jw *w, const bt_front_state *st)
{
    bt_jw_open(w, '{');
    bt_jw_kstr(w, "id", st->model);
    bt_jw_kstr(w, "object", "engine");
    bt_jw_kstr(w, "state", residency_name(st));
    bt_jw_kint(w, "level", st->residency);
    bt_jw_kstr(w, "device", st->device);
    bt_jw_kbool(w, "can_park", st->can_park);
    bt_jw_kint(w, "load_done", (int64_t)st->load_done);
    bt_jw_kint(w, "load_total", (int64_t)st->load_total);
    bt_jw_kint(w, "device_free_bytes", (int64_t)st->device_free_bytes);
    bt_jw_kint(w, "slots", st->slots);
    bt_jw_kint(w, "ctx", st->ctx);
    bt_jw_kint(w, "restarts", st->engine_restarts);
    bt_jw_close(w, '}');
}

void bt__engines_list(bt_call *c)
{
    bt_front_state st = {0};
    bt_jw w = bt_jw_on(&c->reply);
    bt_front_state_get(c->conn->server->front, &st);
    bt_jw_open(&w, '{');
    bt_jw_kstr(&w, "object", "list");
    bt_jw_key(&w, "data");
    bt_jw_open(&w, '[');
    write_engine(&w, &st);
    bt_jw_close(&w, ']');
    bt_jw_close(&w, '}');
    bt__call_json(c, 200);
}

/* {"level": 1 | 2}; an empty body means 1 where the device has it, else 2. */
static bt_status park(bt_call *c, const bt_front_state *st, bt_err *err)
{
    cJSON *root = NULL;
    int64_t level = st->can_park ? 1 : 2;
    if (c->body.len > 0) {
        bt_status status = bt_json_parse(c->body.data, c->body.len, &root, err);
        if (status == BT_OK && !cJSON_IsObject(root))
            status = bt_err_set(err, BT_EINVAL, 0, "the request body must be a JSON object");
        if (status == BT_OK) status = bt_json_get_int(root, "level", 1, 2, &level, err);
        cJSON_Delete(root);
        if (status) return status;
    }
    return bt_front_engine_park(c->conn->server->front, (int32_t)level, err);
}

void bt__engines_change(bt_call *c)
{
    bt_front_state st = {0};
    bt_err err = {0};
    bt_front *front = c->conn->server->front;
    bt_front_state_get(front, &st);
    const char *verb = strrchr(c->tail, '/');
    size_t n = verb ? (size_t)(verb - c->tail) : strlen(c->tail);
    bt_status status = BT_OK;
    if (n != strlen(st.model) || strncmp(c->tail, st.model, n) != 0)
        status =
            bt_err_set(&err, BT_ENOTFOUND, 0, "there is no engine \"%.*s\"; there is \"%.100s\"",
                       (int)(n < 100 ? n : 100), c->tail, st.model);
    else if (verb && strcmp(verb, "/park") == 0)
        status = park(c, &st, &err);
    else if (verb && strcmp(verb, "/wake") == 0)
        status = bt_front_engine_wake(front, &err);
    else
        status = bt_err_set(&err, BT_ENOTFOUND, 0, "an engine can be asked to /park or to /wake");
    if (status) {
        bt__call_error(c, &err);
        return;
    }
    bt_jw w = bt_jw_on(&c->reply);
    bt_front_state_get(front, &st);
    write_engine(&w, &st);
    bt__call_json(c, 202);
}
