/* SPDX-License-Identifier: Apache-2.0 */
/* batch.c - which rows the next step computes.
 *
 * Decodes first, one row each: whoever is generating keeps its pace. What the token budget and the
 * time aimed at leave over is divided evenly among the sequences that still read their prompt, so
 * that a long prompt cannot hold up a short one. Both lists start where the step before left off.
 */
#include "engine/engine_internal.h"
#include "base/assert.h"

typedef enum slot_phase { PHASE_NONE, PHASE_PREFILL, PHASE_DECODE } slot_phase;

static slot_phase slot_phase_of(const bt_engine *e, const bt_slot *s)
{
    if (s->state != BT_SLOT_RUNNING) return PHASE_NONE;
    const bt_live_request *r = &e->request[s->request];
    if (bt__request_paused(r)) return PHASE_NONE;
    return s->kv_len < r->n_prompt ? PHASE_PREFILL : PHASE_DECODE;
}

static void sample_plain(bt_sample_req *q, const bt_engine *e, const bt_live_request *r)
{
    *q = (bt_sample_req){.top_p = 1,
                         .repeat_penalty = 1,
                         .vocab = e->vocab_limit,
                         .n_logprobs = r->params.n_logprobs,
                         .forced = -1};
}

/* How the token after this sequence's last row is drawn. ahead: tokens that will be there by then
 * and are not yet. */
static void sample_next(bt_sample_req *q, const bt_engine *e, const bt_slot *s, int32_t ahead)
{
    const bt_live_request *r = &e->request[s->request];
    const bt_gen_params *p = &r->params;
    sample_plain(q, e, r);
    q->temperature = p->temperature;
    q->top_p = p->top_p;
    q->min_p = p->min_p;
    q->top_k = p->top_k;
    q->seed = p->seed + (uint64_t)s->seq;
    q->counter = (uint64_t)(s->n_tokens + ahead);
    q->bias = p->bias;
    q->n_bias = p->n_bias;
    if (bt__slot_penalized(s)) {
        q->repeat_penalty = p->repeat_penalty;
        q->freq_penalty = p->freq_penalty;
        q->presence_penalty = p->presence_penalty;
        q->counts = s->window.count;
        q->n_counts = s->window.n;
    }
    if (p->ignore_eos || s->n_generated + ahead < p->min_tokens)
        q->ban = bt_vocab_eos(e->vocab, &q->n_ban);
}

static void batch_out(const bt_engine *e, bt_step *st, bt_step_part *part, int32_t row)
{
    bt_batch *b = &st->batch;
    BT_ASSERT(b->n_out < e->plan.out_max);
    st->out_row[b->n_out++] = row;
    part->n_out++;
}

static void batch_row(bt_step *st, int32_t token, int32_t pos)
{
    bt_batch *b = &st->batch;
    st->token[b->n_rows] = token;
    st->pos[b->n_rows] = pos;
    st->row_seq[b->n_rows] = b->n_seqs;
    b->n_rows++;
}

static bt_step_part *part_begin(const bt_engine *e, bt_step *st, int32_t slot, int32_t from,
                                int32_t rows)
{
    const bt_slot *s = &e->slot[slot];
    bt_step_part *part = &st->part[st->batch.n_seqs];
    *part = (bt_step_part){.slot = slot,
                           .epoch = s->epoch,
                           .from = from,
                           .rows = rows,
                           .first_row = st->batch.n_rows,
                           .first_out = st->batch.n_out,
                           .prefill = from < e->request[s->request].n_prompt};
    return part;
}

static void part_end(const bt_engine *e, bt_step *st, const bt_step_part *part)
{
    const bt_slot *s = &e->slot[part->slot];
    st->seq[st->batch.n_seqs++] =
        (bt_batch_seq){s->page, part->first_row, part->rows, part->from + part->rows};
}

/* Adds the next n tokens of a sequence. */
static void batch_add(bt_engine *e, bt_step *st, int32_t slot, int32_t n)
{
    const bt_slot *s = &e->slot[slot];
    const bt_live_request *r = &e->request[s->request];
    bt_step_part *part = part_begin(e, st, slot, s->kv_len, n);
    for (int32_t i = 0; i < n; i++) {
        int32_t at = s->kv_len + i, row = st->batch.n_rows;
        batch_row(st, s->token[at], at);
        bool last = at == s->n_tokens - 1;
        if (last && r->max_tokens > 0) {
            sample_next(&st->sample[st->batch.n_out], e, s, 0);
            batch_out(e, st, part, row);
        } else if (!last && r->params.prompt_logprobs && s->seq == 0) {
            sample_plain(&st->sample[st->batch.n_out], e, r);
            st->sample[st->batch.n_out].forced = s->token[at + 1];
            batch_out(e, st, part, row);
        }
    }
    part_end(e, st, part);
}

static void build_decodes(bt_engine *e, bt_step *st, int32_t limit, bt_cost_work *work)
{
    int32_t start = e->next_decode;
    for (int32_t i = 0; i < e->slots; i++) {
        int32_t slot = (start + i) % e->slots;
        if (slot_phase_of(e, &e->slot[slot]) != PHASE_DECODE) continue;
        if (st->batch.n_rows >= limit) {
            e->next_decode = slot;
            return;
        }
        work->decode_rows++;
        work->kv_reads += e->slot[slot].kv_len + 1;
        work->n_seqs++;
        batch_add(e, st, slot, 1);
    }
}

/* Rows for one prompt when `left` prompts, it included, share what remains of the step. */
static int32_t chunk_rows(const bt_engine *e, const bt_step *st, const bt_slot *s, int32_t left,
                          double us, bool first)
{
    const bt_live_request *r = &e->request[s->request];
    int32_t pending = r->n_prompt - s->kv_len;
    int32_t room = e->plan.rows_max - st->batch.n_rows;
    if (r->params.prompt_logprobs && s->seq == 0)
        room = BT_MIN(room, e->plan.out_max - st->batch.n_out - (left - 1));
    int32_t most = BT_MIN(pending, room);
    int32_t fair = BT_MIN(most, BT_MAX((room + left - 1) / left, BT_ENGINE_CHUNK_MIN));
    int32_t n = bt_cost_chunk(&e->cost, s->kv_len, fair, us / left);
    int32_t least = BT_MIN(most, BT_ENGINE_CHUNK_MIN);
    if (n >= least) return n;
    /* A share too small to be worth it: a short chunk as long as the step has time for one, and the
     * first always gets one, or a slow device would never read a prompt. */
    return first || bt_cost_chunk(&e->cost, s->kv_len, least, us) == least ? least : 0;
}

static void build_prefills(bt_engine *e, bt_step *st, int32_t n_prefill, bt_cost_work *work)
{
    int32_t start = e->next_prefill, left = n_prefill, unserved = -1, served = -1;
    double us = e->step_us - bt_cost_predict(&e->cost, work);
    for (int32_t i = 0; i < e->slots && left > 0; i++) {
        int32_t slot = (start + i) % e->slots;
        bt_slot *s = &e->slot[slot];
        if (slot_phase_of(e, s) != PHASE_PREFILL) continue;
        bt__slot_reuse(e, s);
        int32_t n = chunk_rows(e, st, s, left--, us, served < 0);
        if (n <= 0) {
            if (unserved < 0) unserved = slot;
            continue;
        }
        if (served < 0) served = slot;
        us -= e->cost.prefill_row * n + e->cost.kv_read * (double)bt_cost_reads(s->kv_len, n);
        batch_add(e, st, slot, n);
    }
    if (unserved >= 0)
        e->next_prefill = unserved;
    else if (served >= 0)
        e->next_prefill = (served + 1) % e->slots;
}

static void step_clear(bt_step *st)
{
    st->batch = (bt_batch){.token = st->token,
                           .pos = st->pos,
                           .row_seq = st->row_seq,
                           .seqs = st->seq,
                           .out_row = st->out_row};
}

void bt__batch_build(bt_engine *e, bt_step *st)
{
    int32_t n_prefill = 0;
    bt_cost_work work = {0};
    step_clear(st);
    for (int32_t i = 0; i < e->slots; i++)
        n_prefill += slot_phase_of(e, &e->slot[i]) == PHASE_PREFILL;
    /* One row is kept for prompts, or decodes could hold them off for ever where the budget is
     * tiny; with a budget of a single row they take turns. */
    int32_t limit = e->plan.rows_max;
    if (n_prefill > 0) limit = limit > 1 ? limit - 1 : (int32_t)(e->n_steps & 1);
    build_decodes(e, st, limit, &work);
    if (n_prefill > 0) build_prefills(e, st, n_prefill, &work);
}

/* ---- the step after one that is under way ---- */

static bool can_follow(const bt_engine *e, const bt_step *before)
{
    int32_t living = 0, waiting = 0;
    if (e->backend->steps_in_flight < 2) return false;
    for (int32_t i = 0; i < before->batch.n_seqs; i++) {
        const bt_step_part *p = &before->part[i];
        if (p->prefill || p->n_out != 1) return false;
        if (!bt__step_part_lives(e, p)) continue;
        const bt_slot *s = &e->slot[p->slot];
        if (bt__slot_penalized(s) || bt__request_paused(&e->request[s->request])) return false;
        living++;
    }
    for (int32_t i = 0; i < e->slots; i++) waiting += slot_phase_of(e, &e->slot[i]) != PHASE_NONE;
    return living > 0 && waiting == living;
}

bool bt__batch_follow(bt_engine *e, bt_step *st, const bt_step *before)
{
    if (!can_follow(e, before)) return false;
    step_clear(st);
    for (int32_t i = 0; i < before->batch.n_seqs; i++) {
        const bt_step_part *p = &before->part[i];
        const bt_slot *s = &e->slot[p->slot];
        const bt_live_request *r = &e->request[s->request];
        if (!bt__step_part_lives(e, p) || s->n_generated + 1 >= r->max_tokens) continue;
        bt_step_part *part = part_begin(e, st, p->slot, s->kv_len + 1, 1);
        sample_next(&st->sample[st->batch.n_out], e, s, 1);
        batch_row(st, -(p->first_out + 1), part->from);
        batch_out(e, st, part, part->first_row);
        part_end(e, st, part);
    }
    return st->batch.n_rows > 0;
}
