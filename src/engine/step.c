/* SPDX-License-Identifier: Apache-2.0 */
/* step.c - one step: build the batch, run it, keep the books, tell what became of each sequence.
 *
 * ORDER    The books are in the crash file before any event of the step goes out: who reads a token
 *          of a step in the outside world finds its cost in the file, whatever dies next. The step
 *          event is the last, so its free pages count what ended in this step as given back. */
#include "engine/engine_internal.h"
#include "base/assert.h"
#include "base/clock.h"
#include "engine/forward.h"

/* ---- leases ---- */

/* Ends what is over its deadline or its last budget. Returns how many requests ended. */
static int32_t expire_leases(bt_engine *e)
{
    int64_t now = bt_now_ns();
    int32_t n = 0;
    for (int32_t i = 0; i < e->slots; i++) {
        bt_live_request *r = &e->request[i];
        if (!r->id) continue;
        bt_finish why = BT_FINISH_NONE;
        if (r->lease.deadline_ns && now >= r->lease.deadline_ns)
            why = BT_FINISH_LEASE_EXPIRED;
        else if (r->lease.budget_final && (int64_t)r->used_us >= r->lease.budget_us)
            why = BT_FINISH_QUOTA_EXHAUSTED;
        if (!why) continue;
        bt_request_end(e, r, why);
        n++;
    }
    return n;
}

int64_t bt_engine_next_deadline(const bt_engine *e)
{
    int64_t first = INT64_MAX;
    for (int32_t i = 0; i < e->slots; i++) {
        const bt_live_request *r = &e->request[i];
        if (r->id && r->lease.deadline_ns) first = BT_MIN(first, r->lease.deadline_ns);
    }
    return first;
}

bool bt_engine_has_work(const bt_engine *e)
{
    if (e->faulted) return false;
    for (int32_t i = 0; i < e->slots; i++)
        if (e->request[i].id && !bt_request_paused(&e->request[i])) return true;
    int64_t deadline = bt_engine_next_deadline(e);
    return deadline != INT64_MAX && bt_now_ns() >= deadline;
}

/* ---- books ---- */

/* What a sequence's rows of this step ask of the device; before kv_len moves on. */
static bt_cost_work seat_work(const bt_engine *e, const bt_seat *s)
{
    bool prefill = s->kv_len < e->request[s->request].n_prompt;
    return (bt_cost_work){.prefill_rows = prefill ? s->rows : 0,
                          .decode_rows = prefill ? 0 : s->rows,
                          .kv_reads = bt_cost_reads(s->kv_len, s->rows),
                          .n_seqs = 1};
}

/* Divides the step's busy time among its requests and learns from it. The part of a step that does
 * not depend on rows (reading the weights) is shared equally by its sequences. */
static void step_account(bt_engine *e, uint64_t busy_us)
{
    double weight[BT_COST_PARTS_MAX] = {0};
    uint64_t part[BT_COST_PARTS_MAX];
    int32_t owner[BT_COST_PARTS_MAX], n = 0;
    bt_cost_work all = {0};
    for (int32_t i = 0; i < e->batch.n_seqs; i++) {
        const bt_seat *s = &e->seat[e->batch_seat[i]];
        bt_cost_work w = seat_work(e, s);
        double cost =
            bt_cost_predict(&e->cost, &w) - e->cost.fixed + e->cost.fixed / e->batch.n_seqs;
        int32_t k = 0;
        while (k < n && owner[k] != s->request) k++;
        if (k == n) owner[n++] = s->request;
        weight[k] += cost;
        all.prefill_rows += w.prefill_rows;
        all.decode_rows += w.decode_rows;
        all.kv_reads += w.kv_reads;
        all.n_seqs++;
    }
    bt_cost_split(busy_us, weight, n, part);
    for (int32_t k = 0; k < n; k++) {
        bt_live_request *r = &e->request[owner[k]];
        r->used_us = bt_books_charge(&e->books, r->id, part[k]);
        e->share[k] = (bt_step_share){r->id, r->used_us};
    }
    e->n_share = n;
    bt_cost_learn(&e->cost, &all, busy_us);
    bt_books_publish(&e->books);
}

/* ---- results ---- */

/* Logprobs of the prompt's tokens that this step's rows foretold; token 0 has none. */
static void emit_prompt_logprobs(bt_engine *e, const bt_seat *s, int32_t from, int32_t to)
{
    bt_token_out piece[BT_ENGINE_PIECE];
    int32_t n = 0, out = s->first_out;
    if (from == 0) bt_token_describe(e, s->token[0], NULL, &piece[n++]);
    for (int32_t at = from + 1; at <= to; at++) {
        bt_token_describe(e, s->token[at], &e->out[out++], &piece[n++]);
        if (n < BT_ENGINE_PIECE && at < to) continue;
        bt_emit_tokens(e, BT_EE_PROMPT_LOGPROBS, s, piece, n, "", 0, BT_FINISH_NONE);
        n = 0;
    }
    if (n > 0) bt_emit_tokens(e, BT_EE_PROMPT_LOGPROBS, s, piece, n, "", 0, BT_FINISH_NONE);
}

/* A sequence has drawn a token: text, and its natural ends in their order. */
static void seat_take_token(bt_engine *e, bt_seat *s, const bt_sample_out *o)
{
    bt_live_request *r = &e->request[s->request];
    if (!r->first_token_ns) r->first_token_ns = bt_now_ns();
    bool full = s->n_generated + 1 >= r->max_tokens;
    r->completion_tokens++;
    if (bt_vocab_is_eos(e->vocab, o->token)) {
        bt_seat_end(e, s, BT_FINISH_EOS, true);
        return;
    }
    const char *text = "";
    size_t n = 0;
    bt_token_out token;
    bool stopped = bt_decoder_put(s->decoder, o->token, &text, &n);
    bt_token_describe(e, o->token, r->params.n_logprobs >= 0 ? o : NULL, &token);
    bt_emit_tokens(e, BT_EE_TOKENS, s, &token, 1, text, n, BT_FINISH_NONE);
    if (stopped) {
        bt_seat_end(e, s, BT_FINISH_STOP, false);
        return;
    }
    bt_seat_push(e, s, o->token);
    if (full) bt_seat_end(e, s, BT_FINISH_LENGTH, true);
}

static bool seat_bad(const bt_engine *e, const bt_seat *s)
{
    for (int32_t i = 0; i < s->n_out; i++)
        if (e->out[s->first_out + i].bad) return true;
    return false;
}

static void seat_advance(bt_engine *e, bt_seat *s)
{
    bt_live_request *r = &e->request[s->request];
    int32_t from = s->kv_len;
    bool prefill = from < r->n_prompt, first = s->seq == 0;
    if (seat_bad(e, s)) {
        /* A prompt that breaks the numbers breaks them for every sequence that shares its pages. */
        if (prefill && first)
            bt_request_end(e, r, BT_FINISH_DEVICE_FAULT);
        else
            bt_seat_end(e, s, BT_FINISH_DEVICE_FAULT, true);
        return;
    }
    s->kv_len += s->rows;
    bt_seat_publish(e, s);
    if (prefill && first) {
        bt_emit_prefill(e, r, s->kv_len);
        if (r->params.prompt_logprobs)
            emit_prompt_logprobs(e, s, from, BT_MIN(s->kv_len, r->n_prompt - 1));
        if (s->kv_len == r->n_prompt) bt_request_share_prompt(e, r);
    }
    if (s->kv_len < s->n_tokens) return;
    if (r->max_tokens == 0)
        bt_seat_end(e, s, BT_FINISH_LENGTH, true);
    else
        seat_take_token(e, s, &e->out[s->first_out + s->n_out - 1]);
}

bt_status bt_engine_step(bt_engine *e, bt_err *err)
{
    if (e->faulted)
        return bt_err_set(err, BT_EDEVICE, 0,
                          "the device failed earlier; the engine must be restarted");
    int32_t ended = expire_leases(e);
    bt_batch_build(e);
    if (e->batch.n_rows == 0) {
        if (ended > 0) bt_emit_step(e, 0);
        return BT_OK;
    }
    uint64_t busy_us = 0;
    bt_status status =
        bt_forward(e->backend, e->dev, e->recipe, &e->batch, e->sample, e->out, &busy_us, err);
    if (status) {
        e->faulted = true;
        return status;
    }
    e->n_steps++;
    step_account(e, busy_us);
    for (int32_t i = 0; i < e->batch.n_seqs; i++) {
        bt_seat *s = &e->seat[e->batch_seat[i]];
        /* A sibling earlier in this batch may have taken the whole request with it. */
        if (s->state == BT_SEAT_RUNNING && s->rows > 0) seat_advance(e, s);
    }
    expire_leases(e);
    bt_emit_step(e, busy_us);
    return BT_OK;
}
