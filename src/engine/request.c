/* SPDX-License-Identifier: Apache-2.0 */
/* request.c - requests and their slots: how they come in, and each way they go. */
#include "engine/engine_internal.h"
#include "base/assert.h"
#include "base/clock.h"
#include <math.h>
#include <string.h>

void bt_gen_params_init(bt_gen_params *p)
{
    *p = (bt_gen_params){.temperature = 1,
                         .top_p = 1,
                         .repeat_penalty = 1,
                         .repeat_last_n = 64,
                         .max_tokens = 16,
                         .cache_prompt = true,
                         .n_logprobs = -1};
}

/* ---- validation: what a client could have sent is refused here by name, whoever let it through
 * ---- */

static bool in_range(float v, float low, float high)
{
    return v >= low && v <= high;
} // false: NaN

static bt_status check_sampling(const bt_gen_params *p, bt_err *err)
{
    if (!in_range(p->temperature, 0, 1e6f))
        return bt_err_set(err, BT_EINVAL, 0, "temperature must be between 0 and 1000000");
    if (!in_range(p->top_p, 0, 1)) return bt_err_set(err, BT_EINVAL, 0, "top_p must be in [0, 1]");
    if (!in_range(p->min_p, 0, 1)) return bt_err_set(err, BT_EINVAL, 0, "min_p must be in [0, 1]");
    if (!in_range(p->repeat_penalty, 1e-3f, 1e3f))
        return bt_err_set(err, BT_EINVAL, 0, "repeat_penalty must be between 0.001 and 1000");
    if (!in_range(p->freq_penalty, -100, 100) || !in_range(p->presence_penalty, -100, 100))
        return bt_err_set(err, BT_EINVAL, 0,
                          "frequency_penalty and presence_penalty must be between -100 and 100");
    if (p->n_logprobs < -1 || p->n_logprobs > BT_TOP_LOGPROBS_MAX)
        return bt_err_set(err, BT_EINVAL, 0, "at most %d logprobs can be asked for",
                          BT_TOP_LOGPROBS_MAX);
    return BT_OK;
}

static bt_status check_lists(const bt_engine *e, const bt_engine_request *req, bt_err *err)
{
    const bt_gen_params *p = &req->params;
    for (int32_t i = 0; i < req->n_tokens; i++)
        if (req->tokens[i] < 0 || req->tokens[i] >= e->vocab_limit)
            return bt_err_set(err, BT_EINVAL, 0, "token %d of the prompt is %d; ids end at %d", i,
                              req->tokens[i], e->vocab_limit - 1);
    if (p->n_bias < 0 || p->n_bias > BT_BIAS_MAX)
        return bt_err_set(err, BT_EINVAL, 0, "logit_bias has more than %d entries", BT_BIAS_MAX);
    for (int32_t i = 0; i < p->n_bias; i++)
        if (p->bias[i].token < 0 || p->bias[i].token >= e->vocab_limit || isnan(p->bias[i].bias))
            return bt_err_set(err, BT_EINVAL, 0, "logit_bias names token %d; ids end at %d",
                              p->bias[i].token, e->vocab_limit - 1);
    if (p->n_stop < 0 || p->n_stop > BT_STOP_MAX)
        return bt_err_set(err, BT_EINVAL, 0, "more than %d stop strings", BT_STOP_MAX);
    for (int32_t i = 0; i < p->n_stop; i++) {
        size_t n = strnlen(p->stop[i], BT_STOP_BYTES_MAX + 1);
        if (n == 0 || n > BT_STOP_BYTES_MAX)
            return bt_err_set(err, BT_EINVAL, 0, "a stop string must have 1 to %d bytes",
                              BT_STOP_BYTES_MAX);
    }
    return BT_OK;
}

static bt_status check_request(const bt_engine *e, const bt_engine_request *req, bt_err *err)
{
    const bt_gen_params *p = &req->params;
    if (req->id == 0) return bt_err_set(err, BT_EINVAL, 0, "request id 0 is not allowed");
    if (bt_meter_has(&e->meter, req->id))
        return bt_err_set(err, BT_EINVAL, 0, "request id %llu is in use",
                          (unsigned long long)req->id);
    if (req->n_seq < 1 || req->n_seq > BT_MIN(BT_SEQS_PER_REQUEST_MAX, e->slots))
        return bt_err_set(err, BT_EINVAL, 0, "a request can have 1 to %d sequences here",
                          BT_MIN(BT_SEQS_PER_REQUEST_MAX, e->slots));
    if (req->n_tokens < 1) return bt_err_set(err, BT_EINVAL, 0, "the prompt is empty");
    if (p->max_tokens < 0 || (p->max_tokens == 0 && !p->prompt_logprobs))
        return bt_err_set(err, BT_EINVAL, 0, "max_tokens must be at least 1");
    if (req->n_tokens > e->plan.ctx || (p->max_tokens > 0 && req->n_tokens == e->plan.ctx))
        return bt_err_set(err, BT_ECONTEXT, 0,
                          "the prompt has %d tokens; the context holds %d with the answer",
                          req->n_tokens, e->plan.ctx);
    bt_status st = check_sampling(p, err);
    return st ? st : check_lists(e, req, err);
}

/* ---- submit ---- */

/* Pages of a sequence: the last token drawn is never fed back, so it needs no place. */
static int32_t pages_of(const bt_engine *e, int32_t n_prompt, int32_t max_tokens)
{
    int32_t len = n_prompt + BT_MAX(max_tokens - 1, 0);
    return (len + e->plan.page_tokens - 1) / e->plan.page_tokens;
}

/* Full pages of a prompt that can be shared: the last token is always computed, for its logits. */
static int32_t pages_shareable(const bt_engine *e, int32_t n_prompt)
{
    return (n_prompt - 1) / e->plan.page_tokens;
}

static uint64_t chain_parent(const bt_engine *e, const bt_slot *s)
{
    return s->n_chain > 0 ? e->kv.page[s->page[s->n_chain - 1]].serial : 0;
}

/* Whether the chain can still grow at its end: its last page may have been forgotten since. */
static bool chain_sound(const bt_engine *e, const bt_slot *s)
{
    return s->chain_open && (s->n_chain == 0 || chain_parent(e, s) != 0);
}

/* Holds the cached pages that the prompt starts with. */
static void slot_find_prefix(bt_engine *e, bt_slot *s, const bt_live_request *r)
{
    int32_t pt = e->plan.page_tokens;
    while (s->n_pages < pages_shareable(e, r->n_prompt)) {
        int32_t page = bt_kv_find(&e->kv, r->salt, chain_parent(e, s), s->token + s->n_pages * pt);
        if (page < 0) break;
        bt_kv_ref(&e->kv, page);
        s->page[s->n_pages++] = page;
        s->n_chain = s->n_pages;
        s->kv_len = s->n_pages * pt;
    }
}

static void slot_drop_pages(bt_engine *e, bt_slot *s)
{
    while (s->n_pages > 0) bt_kv_unref(&e->kv, s->page[--s->n_pages]);
}

/* Takes the pages of all sequences, or none. */
static bt_status request_take_pages(bt_engine *e, bt_live_request *r, bt_err *err)
{
    bt_slot *first = &e->slot[r->slot[0]];
    int32_t each = pages_of(e, r->n_prompt, r->max_tokens);
    int32_t shared = pages_shareable(e, r->n_prompt);
    int64_t all = each + (int64_t)(r->n_seq - 1) * (each - shared);
    if (all > e->plan.n_pages)
        return bt_err_set(
            err, BT_ECONTEXT, 0,
            "prompt and answer need %lld KV pages of %d tokens; there are %d; ask for "
            "less or start with a larger --ctx",
            (long long)all, e->plan.page_tokens, e->plan.n_pages);
    if (r->params.cache_prompt && !r->params.prompt_logprobs) slot_find_prefix(e, first, r);
    r->cached_tokens = first->kv_len;
    if (all - first->n_pages > bt_kv_available(&e->kv)) {
        slot_drop_pages(e, first);
        return bt_err_set(err, BT_EBUSY, 0, "%lld KV pages are needed and %d are free",
                          (long long)all, bt_kv_available(&e->kv));
    }
    while (first->n_pages < each) first->page[first->n_pages++] = bt_kv_take(&e->kv);
    for (int32_t i = 1; i < r->n_seq; i++) {
        bt_slot *s = &e->slot[r->slot[i]];
        for (; s->n_pages < shared; s->n_pages++) {
            s->page[s->n_pages] = first->page[s->n_pages];
            bt_kv_ref(&e->kv, s->page[s->n_pages]);
        }
        while (s->n_pages < each) s->page[s->n_pages++] = bt_kv_take(&e->kv);
    }
    return BT_OK;
}

/* Tokens the repetition penalty looks back on; 0 when it is off. */
static int32_t window_of(const bt_engine *e, const bt_gen_params *p)
{
    if (p->repeat_penalty == 1) return 0;
    return p->repeat_last_n < 0 ? e->plan.ctx : BT_MIN(p->repeat_last_n, e->plan.ctx);
}

static bt_status slot_start(bt_engine *e, int32_t slot, int32_t request, int32_t seq,
                            const bt_engine_request *req, bt_err *err)
{
    bt_slot *s = &e->slot[slot];
    bt_status st = bt_decoder_open(e->vocab, req->params.stop, req->params.n_stop, true, false,
                                   &s->decoder, err);
    if (st) return st;
    s->request = request;
    s->seq = seq;
    s->kv_len = s->n_pages = s->n_chain = s->n_generated = 0;
    s->epoch = ++e->next_epoch;
    s->chain_open = req->params.cache_prompt;
    s->n_tokens = req->n_tokens;
    memcpy(s->token, req->tokens, (size_t)req->n_tokens * sizeof *s->token);
    bt_window_clear(&s->window);
    s->window_tokens = window_of(e, &req->params);
    s->counts_drawn = req->params.freq_penalty != 0 || req->params.presence_penalty != 0;
    for (int32_t i = BT_MAX(0, s->n_tokens - s->window_tokens); i < s->n_tokens; i++)
        bt_window_add(&s->window, s->token[i], 1, 0);
    s->state = seq == 0 ? BT_SLOT_RUNNING : BT_SLOT_WAITING;
    return BT_OK;
}

static void slot_free(bt_engine *e, bt_slot *s)
{
    slot_drop_pages(e, s);
    bt_decoder_close(s->decoder);
    s->decoder = NULL;
    s->state = BT_SLOT_FREE;
}

static int32_t request_free_index(const bt_engine *e)
{
    for (int32_t i = 0; i < e->slots; i++)
        if (e->request[i].id == 0) return i;
    return -1;
}

static bt_status request_slots_take(bt_engine *e, int32_t index, const bt_engine_request *req,
                                    bt_err *err)
{
    bt_live_request *r = &e->request[index];
    int32_t n = 0;
    for (int32_t i = 0; i < e->slots && n < req->n_seq; i++)
        if (e->slot[i].state == BT_SLOT_FREE) r->slot[n++] = i;
    if (n < req->n_seq)
        return bt_err_set(err, BT_EBUSY, 0, "%d slots are needed and %d are free", req->n_seq, n);
    for (int32_t i = 0; i < n; i++) {
        bt_status st = slot_start(e, r->slot[i], index, i, req, err);
        if (!st) continue;
        while (i-- > 0) slot_free(e, &e->slot[r->slot[i]]);
        return st;
    }
    return BT_OK;
}

bt_status bt_engine_submit(bt_engine *e, const bt_engine_request *req, bt_err *err)
{
    bt_status st = check_request(e, req, err);
    if (st) return st;
    int32_t index = request_free_index(e);
    if (index < 0 || bt_meter_full(&e->meter))
        return bt_err_set(err, BT_EBUSY, 0, "the engine has no room for another request");
    bt_live_request *r = &e->request[index];
    r->salt = e->share_prefix ? 0 : req->salt;
    r->lease = req->lease;
    r->params = req->params;
    r->n_prompt = req->n_tokens;
    r->max_tokens = BT_MIN(req->params.max_tokens, e->plan.ctx - req->n_tokens);
    r->n_seq = r->n_live = req->n_seq;
    r->cached_tokens = r->completion_tokens = 0;
    r->worst = BT_FINISH_NONE;
    r->status = BT_OK;
    r->used_us = 0;
    r->submit_ns = bt_now_ns();
    r->first_token_ns = 0;
    if (r->params.n_bias > 0)
        memcpy(r->own_bias, req->params.bias, (size_t)r->params.n_bias * sizeof *r->own_bias);
    r->params.bias = r->own_bias;
    r->params.stop = NULL;
    if (r->params.prompt_logprobs && r->params.n_logprobs < 0) r->params.n_logprobs = 0;
    st = request_slots_take(e, index, req, err);
    if (st) return st;
    st = request_take_pages(e, r, err);
    if (st) {
        for (int32_t i = 0; i < r->n_seq; i++) slot_free(e, &e->slot[r->slot[i]]);
        return st;
    }
    r->id = req->id;
    bt_meter_add(&e->meter, r->id);
    return BT_OK;
}

/* ---- while it runs ---- */

bool bt__request_paused(const bt_live_request *r)
{
    return !r->lease.budget_final && (int64_t)r->used_us >= r->lease.budget_us;
}

void bt__slot_reuse(bt_engine *e, bt_slot *s)
{
    bt_live_request *r = &e->request[s->request];
    int32_t pt = e->plan.page_tokens;
    if (!s->chain_open || (r->params.prompt_logprobs && s->seq == 0)) return;
    while (s->kv_len == s->n_chain * pt && s->n_chain < pages_shareable(e, r->n_prompt) &&
           chain_sound(e, s)) {
        int32_t page = bt_kv_find(&e->kv, r->salt, chain_parent(e, s), s->token + s->n_chain * pt);
        if (page < 0) return;
        bt_kv_ref(&e->kv, page);
        bt_kv_unref(&e->kv, s->page[s->n_chain]);
        s->page[s->n_chain++] = page;
        s->kv_len += pt;
        if (s->seq == 0) r->cached_tokens += pt;
    }
}

void bt__slot_publish(bt_engine *e, bt_slot *s)
{
    const bt_live_request *r = &e->request[s->request];
    int32_t pt = e->plan.page_tokens;
    while (s->chain_open && (s->n_chain + 1) * pt <= s->kv_len) {
        int32_t own = s->page[s->n_chain], page = -1;
        if (chain_sound(e, s))
            page =
                bt_kv_publish(&e->kv, own, r->salt, chain_parent(e, s), s->token + s->n_chain * pt);
        if (page < 0) {
            s->chain_open = false;
            return;
        }
        if (page != own) {
            /* Someone computed the same page meanwhile; results do not depend on the batch, so the
             * contents are equal and one copy is enough. */
            bt_kv_ref(&e->kv, page);
            bt_kv_unref(&e->kv, own);
            s->page[s->n_chain] = page;
        }
        s->n_chain++;
    }
}

void bt__request_share_prompt(bt_engine *e, bt_live_request *r)
{
    const bt_slot *first = &e->slot[r->slot[0]];
    int32_t shared = pages_shareable(e, r->n_prompt);
    for (int32_t i = 1; i < r->n_seq; i++) {
        if (r->slot[i] < 0) continue;
        bt_slot *s = &e->slot[r->slot[i]];
        if (s->state != BT_SLOT_WAITING) continue;
        /* Sequence 0 may have changed over to equal pages of the cache since submit. */
        for (int32_t k = 0; k < shared; k++) {
            bt_kv_ref(&e->kv, first->page[k]);
            bt_kv_unref(&e->kv, s->page[k]);
            s->page[k] = first->page[k];
        }
        s->n_chain = BT_MIN(first->n_chain, shared);
        s->chain_open = first->chain_open;
        s->kv_len = shared * e->plan.page_tokens;
        s->state = BT_SLOT_RUNNING;
    }
}

void bt__slot_push(bt_engine *e, bt_slot *s, int32_t token)
{
    BT_ASSERT(s->n_tokens < e->plan.ctx);
    s->token[s->n_tokens++] = token;
    if (s->window_tokens > 0 && s->n_tokens > s->window_tokens)
        bt_window_add(&s->window, s->token[s->n_tokens - 1 - s->window_tokens], -1, 0);
    if (bt__slot_penalized(s))
        bt_window_add(&s->window, token, s->window_tokens > 0, s->counts_drawn);
    s->n_generated++;
}

/* ---- ends ---- */

void bt__slot_end(bt_engine *e, bt_slot *s, bt_finish why, bool flush_text)
{
    bt_live_request *r = &e->request[s->request];
    const char *text = "";
    size_t n = 0;
    if (flush_text) bt_decoder_finish(s->decoder, &text, &n);
    bt__emit_tokens(e, BT_EE_SEQ_END, s, NULL, 0, text, n, why);
    if (why == BT_FINISH_DEVICE_FAULT)
        for (int32_t i = 0; i < s->n_pages; i++) bt_kv_forget(&e->kv, s->page[i]);
    slot_free(e, s);
    r->slot[s->seq] = -1;
    /* The enum ascends from a natural end to the worst one. */
    r->worst = BT_MAX(r->worst, why);
    if (--r->n_live > 0) return;
    bt__emit_end(e, r);
    bt_meter_end(&e->meter, r->id);
    if (e->auto_release) bt_meter_release(&e->meter, r->id);
    r->id = 0;
}

void bt__request_end(bt_engine *e, bt_live_request *r, bt_finish why)
{
    for (int32_t i = 0; r->id && i < r->n_seq; i++)
        if (r->slot[i] >= 0) bt__slot_end(e, &e->slot[r->slot[i]], why, true);
}

static bt_live_request *request_find(bt_engine *e, uint64_t id, uint32_t generation)
{
    for (int32_t i = 0; id && i < e->slots; i++)
        if (e->request[i].id == id)
            return e->request[i].lease.generation == generation ? &e->request[i] : NULL;
    return NULL;
}

void bt_engine_cancel(bt_engine *e, uint64_t request, uint32_t generation, bt_finish why)
{
    bt_live_request *r = request_find(e, request, generation);
    if (!r) return;
    bt__request_end(e, r, why);
    e->n_rows = e->n_seqs = e->n_share = 0;
    bt__emit_step(e, 0);
}

void bt_engine_budget(bt_engine *e, uint64_t request, uint32_t generation, int64_t budget_us,
                      bool budget_final)
{
    bt_live_request *r = request_find(e, request, generation);
    if (!r) return;
    r->lease.budget_us = BT_MAX(r->lease.budget_us, budget_us);
    r->lease.budget_final = budget_final;
}

void bt_engine_release(bt_engine *e, uint64_t request)
{
    if (bt_meter_release(&e->meter, request)) bt_meter_publish(&e->meter);
}
