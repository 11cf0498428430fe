/* SPDX-License-Identifier: Apache-2.0 */
/* event.c - names of endings, and events put together for the sink. */
#include "engine/engine_internal.h"
#include "base/clock.h"
#include <math.h>

const char *bt_finish_name(bt_finish f)
{
    static const char *const name[BT_FINISH_COUNT] = {
#define X(id, text) text,
        BT_FINISH_MAP(X)
#undef X
    };
    return f >= 0 && f < BT_FINISH_COUNT ? name[f] : "none";
}

void bt__token_describe(const bt_engine *e, int32_t token, const bt_sample_out *o,
                        bt_token_out *dst)
{
    size_t n = 0;
    const char *bytes = bt_vocab_bytes(e->vocab, token, &n);
    *dst = (bt_token_out){.token = token,
                          .logprob = o ? o->logprob : NAN,
                          .n_top = o ? o->n_top : 0,
                          .top_token = o ? o->top_token : NULL,
                          .top_logprob = o ? o->top_logprob : NULL,
                          .bytes = bytes ? bytes : "",
                          .n_bytes = bytes ? (int32_t)n : 0};
}

void bt__emit_load(void *engine, uint64_t done, uint64_t total)
{
    const bt_engine *e = engine;
    bt_engine_event ev = {.type = BT_EE_LOAD};
    ev.u.load.done = done;
    ev.u.load.total = total;
    e->sink(e->ud, &ev);
}

void bt__emit_residency(const bt_engine *e, int32_t level, const bt_residency *r)
{
    bt_engine_event ev = {.type = BT_EE_RESIDENCY};
    ev.u.residency.level = level;
    ev.u.residency.bytes = r->bytes;
    ev.u.residency.free_bytes = r->free_bytes;
    ev.u.residency.took_ns = r->took_ns;
    ev.u.residency.from_host = r->from_host;
    e->sink(e->ud, &ev);
}

void bt__emit_prefill(bt_engine *e, const bt_live_request *r, int32_t done)
{
    bt_engine_event ev = {.type = BT_EE_PREFILL, .request = r->id};
    ev.u.prefill.done = done;
    ev.u.prefill.total = r->n_prompt;
    e->sink(e->ud, &ev);
}

void bt__emit_tokens(bt_engine *e, bt_engine_event_type type, const bt_slot *s,
                     const bt_token_out *token, int32_t n_tokens, const char *text, size_t n_text,
                     bt_finish finish)
{
    bt_engine_event ev = {.type = type, .request = e->request[s->request].id, .seq = s->seq};
    ev.u.tokens.token = token;
    ev.u.tokens.n_tokens = n_tokens;
    ev.u.tokens.text = text ? text : "";
    ev.u.tokens.n_text = (int32_t)n_text;
    ev.u.tokens.finish = finish;
    e->sink(e->ud, &ev);
}

void bt__emit_end(bt_engine *e, const bt_live_request *r)
{
    int64_t now = bt_now_ns();
    int64_t first = r->first_token_ns ? r->first_token_ns : now;
    bt_engine_event ev = {.type = BT_EE_END, .request = r->id};
    ev.u.end.finish = r->worst;
    ev.u.end.status = r->status;
    ev.u.end.prompt_tokens = r->n_prompt;
    ev.u.end.cached_tokens = r->cached_tokens;
    ev.u.end.completion_tokens = r->completion_tokens;
    ev.u.end.used_us = r->used_us;
    ev.u.end.prefill_ns = first - r->submit_ns;
    ev.u.end.decode_ns = now - first;
    e->sink(e->ud, &ev);
}

void bt__emit_step(bt_engine *e, uint64_t step_us)
{
    bt_engine_event ev = {.type = BT_EE_STEP};
    ev.u.step.busy_us = e->meter.bank.busy_us;
    ev.u.step.house_us = e->meter.bank.house_us;
    ev.u.step.step_us = step_us;
    ev.u.step.n_rows = e->n_rows;
    ev.u.step.n_seqs = e->n_seqs;
    ev.u.step.pages_free = bt_kv_available(&e->kv);
    ev.u.step.share = e->share;
    ev.u.step.n_share = e->n_share;
    e->sink(e->ud, &ev);
}
