/* SPDX-License-Identifier: Apache-2.0 */
/* generate.c - a generation from its body to its last byte.
 *
 * Before the status line, events are taken as soon as they come, because the answer's status
 * depends on them (and a client that does not stream reads nothing until the end). Once a stream's
 * status line is out, events are taken only when the socket has room, so that a slow reader fills
 * its ring in front and ends there, and costs no memory here. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "http/internal.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const int64_t LOADING_NS = 1000000000; // between two words on a load that one waits for

/* ---- parsing */

/* The model that is named, as bt__generate_start finds it. */
static const bt_gen_params *defaults_of(void *ud, const char *model)
{
    bt_unit *u = bt_front_unit(ud, model);
    if (!u) u = bt_front_unit(ud, NULL);
    return u ? bt_unit_defaults(u) : NULL;
}

void bt__generate_parse(bt_call *c)
{
    bt_err e;
    const char *body = c->body.data ? c->body.data : "";
    bt_status st = bt_api_parse(c->dialect, defaults_of, c->conn->server->front, body, c->body.len,
                                &c->req, &e);
    if (st != BT_OK)
        bt__call_error(c, &e);
    else
        c->parsed = true;
}

/* ---- submitting */

static bool model_known(bt_call *c, const bt_unit_state *state)
{
    const bt_server *s = c->conn->server;
    const char *wanted = c->req.model;
    if (!wanted || s->opt.any_model ||
        bt_api_model_matches(wanted, state->model, s->opt.model_path))
        return true;
    char message[248];
    snprintf(message, sizeof message, "the model \"%.80s\" is not served here; \"%.80s\" is",
             wanted, state->model);
    bt__call_fail(c, BT_ENOTFOUND, message, "model", "model_not_found");
    return false;
}

static bt_status open_answer(bt_call *c, const bt_unit_state *state, bt_err *err)
{
    bt_api_context ctx = {.unit = c->unit,
                          .model = state->model,
                          .fingerprint = "baton-" BATON_VERSION,
                          .created_s = bt_wall_us() / 1000000};
    bt_status st = bt_answer_open(&c->req, &ctx, &c->answer, err);
    if (st != BT_OK) return st;
    c->leg = bt_calloc((size_t)c->req.n_parts, sizeof *c->leg);
    if (!c->leg) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the answer");
    return BT_OK;
}

/* The parts as one request to front. */
static bt_status submit(bt_call *c, bt_err *err)
{
    bt_server *s = c->conn->server;
    bt_stream *stream[BT_API_PARTS_MAX];
    int32_t n = c->req.n_parts;
    for (int32_t i = 0; i < n; i++) {
        bt_front_request *req = &c->req.part[i];
        req->unit = c->unit;
        req->identity = c->who;
        req->memory = &c->req.arena;
        if (req->lease_seconds <= 0) req->lease_seconds = c->lease_header_s;
    }
    bt_status st = bt_front_submit(s->front, c->req.part, n, stream, err);
    if (st != BT_OK) return st;
    c->n_legs = n;
    for (int32_t i = 0; i < n; i++) {
        uint64_t id = bt_stream_id(stream[i]);
        c->leg[i] = (bt_leg){.call = c, .part = i, .stream = stream[i]};
        if (!bt_map_put(&s->legs, id, (uint64_t)(uintptr_t)&c->leg[i])) st = BT_ENOMEM;
        bt_answer_part(c->answer, i, id, bt_stream_account(stream[i]), bt_stream_tier(stream[i]));
    }
    bt_api_id(bt_stream_id(stream[0]), c->id);
    return st ? bt_err_set(err, st, 0, "out of memory for the answer") : BT_OK;
}

void bt__generate_start(bt_call *c)
{
    bt_err err = {0};
    bt_unit_state state = {0};
    bt_front *f = c->conn->server->front;
    c->unit = bt_front_unit(f, c->req.model);
    if (!c->unit) c->unit = bt_front_unit(f, NULL); // which says that it is not the one
    bt_unit_state_get(c->unit, &state);
    if (!model_known(c, &state)) return;
    bt_status st = open_answer(c, &state, &err);
    if (st == BT_OK) st = submit(c, &err);
    bt_api_request_release(&c->req); // front and the answer have copied what they need
    if (st != BT_OK) {
        bt__generate_cancel(c);
        bt__call_error(c, &err);
        return;
    }
    bt_log(BT_LOG_DEBUG, "http.generate", "id=%s dialect=%s", c->id, c->dialect->name);
    atomic_fetch_add(&c->conn->server->count.streams, 1);
    c->stage = BT_STAGE_WAIT;
    c->sent_ns = bt_now_ns();
    if (!c->parked) bt__call_park(c);
    bt__call_watch(c);
    bt__generate_ready(c); // events may have come before the stream's id was known here
}

void bt__generate_cancel(bt_call *c)
{
    for (int32_t i = 0; i < c->n_legs; i++)
        if (!c->leg[i].ended) bt_stream_cancel(c->leg[i].stream);
}

void bt__generate_release(bt_call *c)
{
    bt__generate_cancel(c);
    for (int32_t i = 0; i < c->n_legs; i++) {
        bt_map_remove(&c->conn->server->legs, bt_stream_id(c->leg[i].stream));
        bt_stream_unref(c->leg[i].stream);
    }
    bt_free(c->leg);
    c->leg = NULL;
    c->n_legs = 0;
    bt_answer_close(c->answer);
    c->answer = NULL;
    bt_api_request_release(&c->req);
    bt_buf_release(&c->out);
}

/* ---- events */

/* Takes events until enough bytes wait (0 = all there are). */
static void pump(bt_call *c, size_t enough)
{
    bt_stream_event ev;
    for (int32_t i = 0; i < c->n_legs; i++) {
        bt_leg *leg = &c->leg[i];
        while (!leg->ended && (!enough || c->out.len - c->out_at < enough) &&
               bt_stream_next(leg->stream, &ev)) {
            leg->ended = ev.type == BT_SE_DONE || ev.type == BT_SE_REFUSED;
            bt_answer_event(c->answer, leg->part, &ev, &c->out);
        }
    }
    bt_answer_state state = bt_answer_state_get(c->answer);
    if (state == BT_ANSWER_REFUSED || state == BT_ANSWER_BROKEN) bt__generate_cancel(c);
}

void bt__generate_ready(bt_call *c)
{
    if (c->stage == BT_STAGE_STREAM) {
        bt__call_unpark(c);
        return;
    }
    if (c->stage != BT_STAGE_WAIT || c->gone) return;
    pump(c, 0);
    bt_answer_state state = bt_answer_state_get(c->answer);
    bool running = state == BT_ANSWER_RUNNING && c->req.stream;
    if (running || state > BT_ANSWER_RUNNING) bt__call_unpark(c);
}

/* MHD_ContentReaderCallback: fills the socket's buffer, or parks. */
static ssize_t read_stream(void *cls, uint64_t pos, char *dst, size_t max)
{
    bt_call *c = cls;
    (void)pos;
    if (c->gone) return MHD_CONTENT_READER_END_WITH_ERROR;
    if (c->out_at == c->out.len) {
        bool failed = c->out.failed;
        bt_buf_release(&c->out);
        c->out_at = 0;
        if (failed) return MHD_CONTENT_READER_END_WITH_ERROR;
        pump(c, max);
    }
    size_t n = c->out.len - c->out_at;
    if (n == 0) {
        if (c->out.failed) return MHD_CONTENT_READER_END_WITH_ERROR;
        if (bt_answer_state_get(c->answer) > BT_ANSWER_RUNNING)
            return MHD_CONTENT_READER_END_OF_STREAM;
        bt__call_park(c);
        return 0;
    }
    if (n > max) n = max;
    memcpy(dst, c->out.data + c->out_at, n);
    c->out_at += n;
    c->sent_ns = bt_now_ns();
    c->conn->deadline_ns = c->sent_ns + (int64_t)c->conn->server->opt.write_timeout_ms * 1000000;
    return (ssize_t)n;
}

/* ---- responding */

static enum MHD_Result respond_whole(bt_call *c)
{
    bt_status st = bt_answer_status(c->answer);
    const bt_ledger_balance *balance = bt_answer_balance(c->answer);
    int64_t retry_ms = bt_answer_retry_after_ms(c->answer);
    c->reply = c->out;
    c->out = (bt_buf)BT_BUF_INIT;
    if (st == BT_EQUOTA) {
        bt__call_quota_refused(c, balance, retry_ms);
    } else {
        bt__call_quota_headers(c, balance);
        if (st != BT_OK && bt_status_get(st)->retry && retry_ms <= 0) retry_ms = 1000;
        if (st != BT_OK && retry_ms > 0)
            bt__call_header(c, "Retry-After", "%" PRId64, bt_retry_s(retry_ms));
    }
    bt__call_json(c, bt_status_get(st)->http);
    return bt__call_send(c);
}

enum MHD_Result bt__generate_respond(bt_call *c)
{
    bt_answer_state state = bt_answer_state_get(c->answer);
    if (!c->req.stream || state == BT_ANSWER_REFUSED) return respond_whole(c);
    bt__call_quota_headers(c, bt_answer_balance(c->answer));
    return bt__call_stream(c, read_stream);
}

void bt__generate_beat(bt_call *c, int64_t now_ns)
{
    int64_t beat_ns = (int64_t)c->conn->server->opt.beat_ms * 1000000;
    if (c->stage != BT_STAGE_STREAM || !c->parked) return;
    int64_t silent_ns = now_ns - c->sent_ns;
    if (silent_ns < BT_MIN(beat_ns, LOADING_NS)) return;
    bt_unit_state state = {0};
    bt_unit_state_get(c->unit, &state);
    bool loading = state.load_done < state.load_total && (!state.ready || state.residency > 0);
    if (loading)
        bt_answer_note(c->answer, &c->out, "loading done=%" PRIu64 " total=%" PRIu64,
                       state.load_done, state.load_total);
    else if (silent_ns >= beat_ns)
        bt_answer_note(c->answer, &c->out, "beat");
    if (loading || silent_ns >= beat_ns) bt__call_unpark(c);
}
