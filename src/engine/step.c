/* SPDX-License-Identifier: Apache-2.0 */
/* step.c - one step: build the batch, run it, keep the books, tell what became of each sequence.
 *
 * ORDER    The books are in the crash file before any event of the step goes out: who reads a token
 *          of a step in the outside world finds its cost in the file, whatever dies next. The step
 *          event is the last, so its free pages count what ended in this step as given back. */
#include "engine/engine_internal.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/forward.h"
#include <inttypes.h>

#define NOT_FINITE_NS 60000000000LL // the log is told once a minute

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
        bt__request_end(e, r, why);
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
    if (e->n_flight > 0) return true;
    for (int32_t i = 0; i < e->slots; i++)
        if (e->request[i].id && !bt__request_paused(&e->request[i])) return true;
    int64_t deadline = bt_engine_next_deadline(e);
    return deadline != INT64_MAX && bt_now_ns() >= deadline;
}

/* ---- books ---- */

/* What a sequence's rows of this step ask of the device. */
static bt_cost_work part_work(const bt_step_part *p)
{
    return (bt_cost_work){.prefill_rows = p->prefill ? p->rows : 0,
                          .decode_rows = p->prefill ? 0 : p->rows,
                          .kv_reads = bt_cost_reads(p->from, p->rows),
                          .n_seqs = 1};
}

/* Divides the step's busy time among its requests and learns from it. The part of a step that does
 * not depend on rows (reading the weights) is shared equally by its sequences. Rows computed for a
 * sequence that had ended meanwhile are the house's: its books are closed. */
static void step_account(bt_engine *e, const bt_step *st, uint64_t busy_us)
{
    double weight[BT_COST_PARTS_MAX] = {0};
    uint64_t part[BT_COST_PARTS_MAX];
    int32_t owner[BT_COST_PARTS_MAX], n = 0;
    bt_cost_work all = {0};
    for (int32_t i = 0; i < st->batch.n_seqs; i++) {
        const bt_step_part *p = &st->part[i];
        bt_cost_work w = part_work(p);
        double cost =
            bt_cost_predict(&e->cost, &w) - e->cost.fixed + e->cost.fixed / st->batch.n_seqs;
        int32_t k = 0, who = bt__step_part_lives(e, p) ? e->slot[p->slot].request : -1;
        while (k < n && owner[k] != who) k++;
        if (k == n) owner[n++] = who;
        weight[k] += cost;
        all.prefill_rows += w.prefill_rows;
        all.decode_rows += w.decode_rows;
        all.kv_reads += w.kv_reads;
        all.n_seqs++;
    }
    bt_cost_split(busy_us, weight, n, part);
    e->n_share = 0;
    for (int32_t k = 0; k < n; k++) {
        if (owner[k] < 0) {
            bt_meter_charge_house(&e->meter, part[k]);
            continue;
        }
        bt_live_request *r = &e->request[owner[k]];
        r->used_us = bt_meter_charge(&e->meter, r->id, part[k]);
        e->share[e->n_share++] = (bt_step_share){r->id, r->used_us};
    }
    e->n_rows = st->batch.n_rows;
    e->n_seqs = st->batch.n_seqs;
    bt_cost_learn(&e->cost, &all, busy_us);
    bt_meter_publish(&e->meter);
}

/* ---- results ---- */

/* Logprobs of the prompt's tokens that this step's rows foretold; token 0 has none. */
static void emit_prompt_logprobs(bt_engine *e, const bt_slot *s, const bt_sample_out *out,
                                 int32_t from, int32_t to)
{
    bt_token_out piece[BT_ENGINE_PIECE];
    int32_t n = 0;
    if (from == 0) bt__token_describe(e, s->token[0], NULL, &piece[n++]);
    for (int32_t at = from + 1; at <= to; at++) {
        bt__token_describe(e, s->token[at], out++, &piece[n++]);
        if (n < BT_ENGINE_PIECE && at < to) continue;
        bt__emit_tokens(e, BT_EE_PROMPT_LOGPROBS, s, piece, n, "", 0, BT_FINISH_NONE);
        n = 0;
    }
    if (n > 0) bt__emit_tokens(e, BT_EE_PROMPT_LOGPROBS, s, piece, n, "", 0, BT_FINISH_NONE);
}

/* A sequence has drawn a token: text, and its natural ends in their order. */
static void slot_take_token(bt_engine *e, bt_slot *s, const bt_sample_out *o)
{
    bt_live_request *r = &e->request[s->request];
    if (!r->first_token_ns) r->first_token_ns = bt_now_ns();
    bool full = s->n_generated + 1 >= r->max_tokens;
    r->completion_tokens++;
    if (bt_vocab_is_eos(e->vocab, o->token)) {
        bt__slot_end(e, s, BT_FINISH_EOS, true);
        return;
    }
    const char *text = "";
    size_t n = 0;
    bt_token_out token;
    bool stopped = bt_decoder_put(s->decoder, o->token, &text, &n);
    bt__token_describe(e, o->token, r->params.n_logprobs >= 0 ? o : NULL, &token);
    bt__emit_tokens(e, BT_EE_TOKENS, s, &token, 1, text, n, BT_FINISH_NONE);
    if (stopped) {
        bt__slot_end(e, s, BT_FINISH_STOP, false);
        return;
    }
    bt__slot_push(e, s, o->token);
    if (full) bt__slot_end(e, s, BT_FINISH_LENGTH, true);
}

static bool any_bad(const bt_sample_out *out, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        if (out[i].bad) return true;
    return false;
}

/* A fault of the model, or of the numbers it was quantized to: all of its requests may end so. */
static void tell_not_finite(bt_engine *e, bt_live_request *r)
{
    int64_t now = bt_now_ns();
    if (r->params.n_bias > 0) return; // it may be the client's own doing
    r->status = BT_EMODEL;
    e->n_not_finite++;
    if (e->not_finite_ns && now - e->not_finite_ns < NOT_FINITE_NS) return;
    e->not_finite_ns = now;
    bt_log(BT_LOG_ERR, "model.not_finite",
           "req=%016" PRIx64 " sequences=%" PRIu64
           " the model's logits are NaN or infinite: check its file, or try another --quant or "
           "--kv-type",
           r->id, e->n_not_finite);
}

static void part_advance(bt_engine *e, const bt_step_part *p, const bt_sample_out *out)
{
    bt_slot *s = &e->slot[p->slot];
    bt_live_request *r = &e->request[s->request];
    bool first = s->seq == 0;
    BT_ASSERT(s->kv_len == p->from);
    if (any_bad(out, p->n_out)) {
        tell_not_finite(e, r);
        /* A prompt that breaks the numbers breaks them for every sequence that shares its pages. */
        if (p->prefill && first)
            bt__request_end(e, r, BT_FINISH_DEVICE_FAULT);
        else
            bt__slot_end(e, s, BT_FINISH_DEVICE_FAULT, true);
        return;
    }
    s->kv_len += p->rows;
    bt__slot_publish(e, s);
    if (p->prefill && first) {
        bt__emit_prefill(e, r, s->kv_len);
        if (r->params.prompt_logprobs)
            emit_prompt_logprobs(e, s, out, p->from, BT_MIN(s->kv_len, r->n_prompt - 1));
        if (s->kv_len == r->n_prompt) bt__request_share_prompt(e, r);
    }
    if (s->kv_len < s->n_tokens) return;
    if (r->max_tokens == 0)
        bt__slot_end(e, s, BT_FINISH_LENGTH, true);
    else
        slot_take_token(e, s, &out[p->n_out - 1]);
}

/* ---- steps ---- */

static bt_status fault(bt_engine *e, bt_status st)
{
    e->faulted = true;
    e->n_flight = 0;
    return st;
}

/* Puts the step after the last one under way on its way too. */
static bt_status step_launch(bt_engine *e, bt_step *st, bt_err *err)
{
    bt_status status =
        bt_forward_launch(e->backend, e->dev, e->recipe, &st->batch, st->sample, st->out, err);
    if (status) return fault(e, status);
    e->n_flight++;
    e->n_steps++;
    return BT_OK;
}

/* Waits for the oldest step and tells what became of its sequences. */
static bt_status step_finish(bt_engine *e, bt_err *err)
{
    bt_step *st = &e->step[e->first_step];
    uint64_t busy_us = 0;
    bt_status status = e->backend->step_end(e->dev, &busy_us, err);
    if (status) return fault(e, status);
    e->first_step = (e->first_step + 1) % BT_ENGINE_STEPS;
    e->n_flight--;
    step_account(e, st, busy_us);
    for (int32_t i = 0; i < st->batch.n_seqs; i++) {
        const bt_step_part *p = &st->part[i];
        /* An earlier step, a cancel or a sibling in this batch may have taken it away. */
        if (bt__step_part_lives(e, p)) part_advance(e, p, st->out + p->first_out);
    }
    expire_leases(e);
    bt__emit_step(e, busy_us);
    return BT_OK;
}

/* Leases do not run while the device is not there. Where its memory is somebody else's, those who
 * wait are told, and the engine stays parked: it can be tried again. */
static bt_status wake_for_work(bt_engine *e, bt_err *err)
{
    int64_t begin = bt_now_ns();
    bt_status st = bt_engine_wake(e, err);
    int64_t took = bt_now_ns() - begin;
    bool busy = st == BT_ENOMEM || st == BT_EBUSY;
    for (int32_t i = 0; i < e->slots; i++) {
        bt_live_request *r = &e->request[i];
        if (r->id && busy) bt__request_end(e, r, BT_FINISH_DEVICE_FAULT);
        if (r->id && !st && r->lease.deadline_ns) r->lease.deadline_ns += took;
    }
    if (!busy) return st ? fault(e, st) : BT_OK;
    bt_log(BT_LOG_WARN, "engine.not_awake", "reason=\"%s\"", err ? err->msg : "");
    e->n_rows = e->n_seqs = e->n_share = 0;
    bt__emit_step(e, 0);
    return BT_OK;
}

bt_status bt_engine_step(bt_engine *e, bt_err *err)
{
    if (e->faulted)
        return bt_err_set(err, BT_EDEVICE, 0,
                          "the device failed earlier; the engine must be restarted");
    int32_t ended = expire_leases(e);
    bt_step *next = &e->step[e->first_step];
    bt_status st = BT_OK;
    if (e->n_flight == 0) {
        bt__batch_build(e, next);
        if (next->batch.n_rows == 0) {
            e->n_rows = e->n_seqs = e->n_share = 0;
            if (ended > 0) bt__emit_step(e, 0);
            return BT_OK;
        }
        if (e->parked) {
            st = wake_for_work(e, err);
            if (st || e->parked) return st;
        }
        st = step_launch(e, next, err);
    }
    /* The host tells of this step, and prepares what comes, while the device works on the next. */
    bt_step *second = &e->step[(e->first_step + 1) % BT_ENGINE_STEPS];
    if (!st && e->n_flight == 1 && bt__batch_follow(e, second, next))
        st = step_launch(e, second, err);
    return st ? st : step_finish(e, err);
}

bt_status bt__engine_settle(bt_engine *e, bt_err *err)
{
    bt_status st = BT_OK;
    while (!st && e->n_flight > 0) st = step_finish(e, err);
    return st;
}
