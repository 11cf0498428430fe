/* SPDX-License-Identifier: Apache-2.0 */
/* harness.h - a sink that writes down everything an engine says, and checks as it goes what must
 * always hold. */
#pragma once
#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "engine/engine_internal.h"
#include "model/model.h"
#include "test.h"

enum { LOG_REQUESTS = 4096, LOG_TOKENS = 1024, LOG_TEXT = 8192, LOG_PROMPT = 640 };

typedef struct seq_log {
    int32_t token[LOG_TOKENS], n_tokens;
    float logprob[LOG_TOKENS];
    char text[LOG_TEXT];
    int32_t n_text;
    bt_finish finish;                              // NONE while it runs
    int32_t n_top, top_token[BT_TOP_LOGPROBS_MAX]; // of the first token
    float top_logprob[BT_TOP_LOGPROBS_MAX];
} seq_log;

typedef struct request_log {
    uint64_t id;
    seq_log *seq; // [BT_SEQS_PER_REQUEST_MAX]
    int32_t n_seq;
    bool ended;
    bt_engine_event end;
    uint64_t used_us; // from step shares
    int32_t prefill_done, prefill_total;
    int32_t prompt_token[LOG_PROMPT], n_prompt;
    float prompt_logprob[LOG_PROMPT];
} request_log;

typedef struct event_log {
    request_log *request[LOG_REQUESTS];
    int32_t n_requests;
    bool ready;
    bt_engine_event ready_event, step; // the last ones
    int32_t n_steps, n_load, n_residency;
    bt_engine_event residency;
    uint64_t used_sum; // of all requests, from step shares
} event_log;

static inline request_log *log_find(event_log *l, uint64_t id)
{
    for (int32_t i = l->n_requests; i-- > 0;)
        if (l->request[i]->id == id) return l->request[i];
    return NULL;
}

static inline request_log *log_add(event_log *l, uint64_t id, int32_t n_seq)
{
    REQUIRE(l->n_requests < LOG_REQUESTS);
    request_log *r = calloc(1, sizeof *r);
    REQUIRE(r);
    r->id = id;
    r->n_seq = n_seq;
    r->seq = calloc((size_t)n_seq, sizeof *r->seq);
    REQUIRE(r->seq);
    l->request[l->n_requests++] = r;
    return r;
}

static inline void log_release(event_log *l)
{
    for (int32_t i = 0; i < l->n_requests; i++) {
        free(l->request[i]->seq);
        free(l->request[i]);
    }
    memset(l, 0, sizeof *l);
}

static inline void log_token(seq_log *s, const bt_token_out *t)
{
    REQUIRE(s->n_tokens < LOG_TOKENS);
    if (s->n_tokens == 0) {
        s->n_top = t->n_top;
        for (int32_t i = 0; i < t->n_top; i++) {
            s->top_token[i] = t->top_token[i];
            s->top_logprob[i] = t->top_logprob[i];
        }
    }
    s->logprob[s->n_tokens] = t->logprob;
    s->token[s->n_tokens++] = t->token;
}

static inline void log_text(seq_log *s, const char *text, int32_t n)
{
    REQUIRE(s->n_text + n < LOG_TEXT);
    memcpy(s->text + s->n_text, text, (size_t)n);
    s->n_text += n;
}

static inline void log_step(event_log *l, const bt_engine_event *ev)
{
    for (int32_t i = 0; i < ev->u.step.n_share; i++) {
        request_log *r = log_find(l, ev->u.step.share[i].request);
        REQUIRE(r);
        CHECK(ev->u.step.share[i].used_us >= r->used_us);
        l->used_sum += ev->u.step.share[i].used_us - r->used_us;
        r->used_us = ev->u.step.share[i].used_us;
        if (r->ended) CHECK_INT(r->end.u.end.used_us, r->used_us);
    }
    /* Every microsecond has an owner, at every step. */
    CHECK_INT(ev->u.step.busy_us, ev->u.step.house_us + l->used_sum);
    l->step = *ev;
    l->n_steps++;
}

static inline void log_end(request_log *r, const bt_engine_event *ev)
{
    CHECK(!r->ended);
    r->ended = true;
    r->end = *ev;
    bt_finish worst = BT_FINISH_NONE;
    for (int32_t i = 0; i < r->n_seq; i++) {
        CHECK(r->seq[i].finish != BT_FINISH_NONE);
        if (r->seq[i].finish > worst) worst = r->seq[i].finish;
    }
    CHECK_INT(ev->u.end.finish, worst);
}

static inline void log_sink(void *ud, const bt_engine_event *ev)
{
    event_log *l = ud;
    request_log *r = ev->request ? log_find(l, ev->request) : NULL;
    if (ev->request) REQUIRE(r);
    switch (ev->type) {
    case BT_EE_PREFILL:
        CHECK(!r->ended && ev->u.prefill.done > r->prefill_done);
        CHECK(ev->u.prefill.done <= ev->u.prefill.total);
        r->prefill_done = ev->u.prefill.done;
        r->prefill_total = ev->u.prefill.total;
        break;
    case BT_EE_PROMPT_LOGPROBS:
        for (int32_t i = 0; i < ev->u.tokens.n_tokens; i++) {
            REQUIRE(r->n_prompt < LOG_PROMPT);
            r->prompt_token[r->n_prompt] = ev->u.tokens.token[i].token;
            r->prompt_logprob[r->n_prompt++] = ev->u.tokens.token[i].logprob;
        }
        break;
    case BT_EE_TOKENS:
    case BT_EE_SEQ_END: {
        REQUIRE(ev->seq >= 0 && ev->seq < r->n_seq);
        seq_log *s = &r->seq[ev->seq];
        CHECK(s->finish == BT_FINISH_NONE);
        for (int32_t i = 0; i < ev->u.tokens.n_tokens; i++) {
            bt_token_out unknown = {.token = -1, .logprob = NAN}; // from afar: see wire.h
            log_token(s, ev->u.tokens.token ? &ev->u.tokens.token[i] : &unknown);
        }
        log_text(s, ev->u.tokens.text, ev->u.tokens.n_text);
        if (ev->type == BT_EE_SEQ_END) s->finish = ev->u.tokens.finish;
        break;
    }
    case BT_EE_END: log_end(r, ev); break;
    case BT_EE_STEP: log_step(l, ev); break;
    case BT_EE_LOAD: l->n_load++; break;
    case BT_EE_RESIDENCY:
        l->n_residency++;
        l->residency = *ev;
        break;
    case BT_EE_READY:
        l->ready = true;
        l->ready_event = *ev;
        break;
    case BT_EE_FATAL: CHECK(!"FATAL is the process's to send"); break;
    }
}

/* A request with greedy decoding, no limits and no end-of-sequence. */
static inline bt_engine_request ask(uint64_t id, const int32_t *tokens, int32_t n,
                                    int32_t max_tokens)
{
    bt_engine_request q = {.id = id, .salt = 1, .tokens = tokens, .n_tokens = n, .n_seq = 1};
    bt_gen_params_init(&q.params);
    q.params.temperature = 0;
    q.params.max_tokens = max_tokens;
    q.params.ignore_eos = true;
    q.lease.generation = 1;
    q.lease.budget_us = INT64_MAX;
    return q;
}

static inline bt_status submit(bt_engine *e, event_log *l, const bt_engine_request *q)
{
    bt_err err = {0};
    request_log *r = log_add(l, q->id, q->n_seq);
    bt_status status = bt_engine_submit(e, q, &err);
    if (!status) return status;
    CHECK(err.msg[0] != 0);
    l->n_requests--;
    free(r->seq);
    free(r);
    return status;
}

/* Steps until nothing is left to do; fails the test after many steps. */
static inline void run_all(bt_engine *e)
{
    bt_err err = {0};
    for (int32_t i = 0; bt_engine_has_work(e); i++) {
        REQUIRE(i < 200000);
        bt_status status = bt_engine_step(e, &err);
        if (status) fprintf(stderr, "step: %s\n", err.msg);
        REQUIRE(!status);
    }
}
