/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL unit */
/* test_engine.c - what a request may expect of an engine, on the fake backend. */
#include "base/rng.h"
#include "fake_engine.h"
#include <fcntl.h>
#include <unistd.h>

static fake_engine *started(void)
{
    return fake_start(fake_new());
}

/* The greedy continuation by the definition. */
static void check_greedy(const seq_log *s, const int32_t *prompt, int32_t n_prompt, int32_t n)
{
    static int32_t text[4096];
    memcpy(text, prompt, (size_t)n_prompt * sizeof *text);
    CHECK_INT(s->n_tokens, n);
    for (int32_t i = 0; i < n && i < s->n_tokens; i++) {
        text[n_prompt + i] = fake_next_greedy(text, n_prompt + i);
        CHECK_INT(s->token[i], text[n_prompt + i]);
        if (s->token[i] != text[n_prompt + i]) return;
    }
}

/* The fake vocabulary's eos has a logit like any other, so its ban may change a greedy choice;
 * tests that compare with the definition use prompts where it does not. */
static void no_ban(bt_engine_request *q)
{
    q->params.ignore_eos = false;
}

static void ready_tells_the_plan(void)
{
    fake_engine *f = started();
    const bt_engine_event *r = &f->log.ready_event;
    CHECK_INT(r->u.ready.vocab, FAKE_VOCAB);
    CHECK_INT(r->u.ready.slots, 6);
    CHECK_INT(r->u.ready.n_pages, 64);
    CHECK_INT(r->u.ready.eos, 2);
    CHECK(r->u.ready.prefill_us_per_token > 0 && r->u.ready.decode_us_per_token > 0);
    CHECK(f->log.n_load >= 1);
    CHECK(!bt_engine_has_work(f->e));
    /* The warm-up is the house's. */
    CHECK(f->e->meter.bank.house_us > 0);
    CHECK_INT(f->e->meter.bank.busy_us, f->e->meter.bank.house_us);
    fake_end(f);
}

static void one_request(void)
{
    fake_engine *f = started();
    int32_t prompt[20];
    bt_engine_request q = ask(1, prompt_of(1, 20, prompt), 20, 30);
    no_ban(&q);
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    CHECK(bt_engine_has_work(f->e));
    run_all(f->e);
    const request_log *r = f->log.request[0];
    CHECK(r->ended);
    CHECK_INT(r->seq[0].finish, BT_FINISH_LENGTH);
    check_greedy(&r->seq[0], prompt, 20, 30);
    CHECK_INT(r->prefill_done, 20);
    CHECK_INT(r->prefill_total, 20);
    CHECK_INT(r->end.u.end.prompt_tokens, 20);
    CHECK_INT(r->end.u.end.completion_tokens, 30);
    CHECK_INT(r->end.u.end.cached_tokens, 0);
    CHECK(r->end.u.end.used_us > 0 && r->end.u.end.prefill_ns >= 0 && r->end.u.end.decode_ns >= 0);
    CHECK_INT(f->log.step.u.step.pages_free, f->plan.n_pages);
    fake_end(f);
}

/* The text of the events is the decoder's: all of it arrives, piece by piece. */
static void text_is_complete(void)
{
    fake_engine *f = started();
    int32_t prompt[5];
    bt_engine_request q = ask(1, prompt_of(9, 5, prompt), 5, 60);
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    const seq_log *s = &f->log.request[0]->seq[0];
    char expected[LOG_TEXT];
    int32_t n = 0;
    bt_decoder *d;
    REQUIRE(!bt_decoder_open(f->vocab, NULL, 0, true, false, &d, NULL));
    for (int32_t i = 0; i <= s->n_tokens; i++) {
        const char *text;
        size_t len;
        if (i < s->n_tokens)
            bt_decoder_put(d, s->token[i], &text, &len);
        else
            bt_decoder_finish(d, &text, &len);
        memcpy(expected + n, text, len);
        n += (int32_t)len;
    }
    bt_decoder_close(d);
    CHECK(n > 0);
    CHECK_INT(s->n_text, n);
    CHECK(memcmp(s->text, expected, (size_t)n) == 0);
    fake_end(f);
}

/* The same tokens whatever shares the batch and however the prompt is cut. */
static void crowd_and_chunks_change_nothing(void)
{
    const int32_t rows[] = {1, 2, 3, 7, 64};
    for (size_t k = 0; k < BT_COUNT(rows); k++) {
        fake_engine *f = fake_new();
        f->plan.rows_max = rows[k];
        f->plan.out_max = BT_MIN(rows[k], 16);
        fake_start(f);
        int32_t prompt[6][40];
        for (int32_t i = 0; i < 6; i++) {
            int32_t n = 3 + i * 6;
            bt_engine_request q =
                ask((uint64_t)i + 1, prompt_of((uint64_t)i + 50, n, prompt[i]), n, 10 + i);
            no_ban(&q);
            CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
        }
        run_all(f->e);
        for (int32_t i = 0; i < 6; i++)
            check_greedy(&f->log.request[i]->seq[0], prompt[i], 3 + i * 6, 10 + i);
        CHECK(fake.rows_most <= rows[k]);
        if (rows[k] == 64) CHECK_INT(fake.seqs_most, 6);
        fake_end(f);
    }
}

/* A long prompt among short ones: the short ones have their first token long before it is read. */
static void prompts_share_the_step(void)
{
    fake_engine *f = fake_new();
    f->plan.ctx = 600;
    f->plan.n_pages = 400;
    f->plan.rows_max = 32;
    fake_start(f);
    int32_t large[500], small[8];
    bt_engine_request q = ask(1, prompt_of(1, 500, large), 500, 4);
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    for (uint64_t i = 2; i <= 5; i++) {
        q = ask(i, prompt_of(i, 8, small), 8, 4);
        CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    }
    for (int32_t i = 0; i < 5; i++) REQUIRE(!bt_engine_step(f->e, NULL));
    for (int32_t i = 1; i < 5; i++) CHECK(f->log.request[i]->seq[0].n_tokens >= 1);
    CHECK(f->log.request[0]->prefill_done > 0);
    CHECK_INT(f->log.request[0]->seq[0].n_tokens, 0);
    run_all(f->e);
    CHECK_INT(f->log.request[0]->seq[0].n_tokens, 4);
    fake_end(f);
}

/* On a slow device chunks shrink until a step stays near the time aimed at. */
static void chunks_follow_the_cost(void)
{
    fake_engine *f = fake_new();
    f->plan.ctx = 4000;
    f->plan.n_pages = 1000;
    f->plan.rows_max = 512;
    f->plan.out_max = 512;
    f->opt.step_ms = 50;
    fake.us_fixed = 500;
    fake.us_row = 500; // 100 rows are 50 ms
    fake_start(f);
    static int32_t prompt[3800];
    bt_engine_request q = ask(1, prompt_of(1, 3800, prompt), 3800, 1);
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    while (f->log.n_steps < 10) REQUIRE(!bt_engine_step(f->e, NULL));
    uint64_t most = 0, least = UINT64_MAX;
    while (f->log.request[0]->prefill_done < 3500) {
        REQUIRE(!bt_engine_step(f->e, NULL));
        most = BT_MAX(most, f->log.step.u.step.step_us);
        least = BT_MIN(least, f->log.step.u.step.step_us);
    }
    CHECK(most < 70000);
    CHECK(least > 30000);
    run_all(f->e);
    fake_end(f);
}

/* Where not even the shortest chunk fits the time aimed at, a prompt is read all the same. */
static void slowest_device_reads_its_prompt(void)
{
    fake_engine *f = fake_new();
    f->opt.step_ms = 10;
    fake.us_row = 1000000;
    fake_start(f);
    int32_t prompt[40];
    bt_engine_request q = ask(1, prompt_of(1, 40, prompt), 40, 2);
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    for (int i = 0; i < 50 && bt_engine_has_work(f->e); i++) REQUIRE(!bt_engine_step(f->e, NULL));
    REQUIRE(f->log.request[0]->ended);
    CHECK_INT(f->log.request[0]->seq[0].n_tokens, 2);
    fake_end(f);
}

static void prefix_is_reused_exactly(void)
{
    fake_engine *f = started();
    int32_t prompt[41];
    prompt_of(3, 41, prompt);
    bt_engine_request q = ask(1, prompt, 41, 20);
    no_ban(&q);
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    CHECK(bt_kv_available(&f->e->kv) == f->plan.n_pages && f->e->kv.n_idle > 0);
    /* The same again; then one that goes on where the first answer ended. */
    q.id = 2;
    int32_t rows = fake.rows_seen;
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    const request_log *a = f->log.request[0], *b = f->log.request[1];
    CHECK_INT(a->end.u.end.cached_tokens, 0);
    CHECK_INT(b->end.u.end.cached_tokens, 40);
    CHECK_INT(fake.rows_seen - rows, 41 - 40 + 19);
    CHECK(memcmp(a->seq[0].token, b->seq[0].token, 20 * sizeof(int32_t)) == 0);
    check_greedy(&b->seq[0], prompt, 41, 20);
    int32_t longer[70];
    memcpy(longer, prompt, sizeof prompt);
    memcpy(longer + 41, a->seq[0].token, 20 * sizeof *longer);
    prompt_of(4, 9, longer + 61);
    q = ask(3, longer, 70, 5);
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    CHECK_INT(f->log.request[2]->end.u.end.cached_tokens, 60);
    check_greedy(&f->log.request[2]->seq[0], longer, 70, 5);
    fake_end(f);
}

/* A prompt that is all cached full pages still computes its last token. */
static void last_token_is_always_computed(void)
{
    fake_engine *f = started();
    int32_t prompt[16];
    for (uint64_t id = 1; id <= 2; id++) {
        bt_engine_request q = ask(id, prompt_of(3, 16, prompt), 16, 3);
        no_ban(&q);
        CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
        run_all(f->e);
        check_greedy(&f->log.request[id - 1]->seq[0], prompt, 16, 3);
    }
    CHECK_INT(f->log.request[1]->end.u.end.cached_tokens, 12);
    fake_end(f);
}

static void salts_isolate(void)
{
    for (int32_t share = 0; share < 2; share++) {
        fake_engine *f = fake_new();
        f->opt.share_prefix = share;
        fake_start(f);
        int32_t prompt[30];
        for (uint64_t id = 1; id <= 3; id++) {
            bt_engine_request q = ask(id, prompt_of(3, 30, prompt), 30, 3);
            q.salt = id == 2 ? 99 : 1;
            CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
            run_all(f->e);
        }
        CHECK_INT(f->log.request[0]->end.u.end.cached_tokens, 0);
        CHECK_INT(f->log.request[1]->end.u.end.cached_tokens, share ? 28 : 0);
        CHECK_INT(f->log.request[2]->end.u.end.cached_tokens, 28);
        fake_end(f);
    }
}

static void cache_prompt_off_leaves_nothing(void)
{
    fake_engine *f = started();
    int32_t prompt[30];
    bt_engine_request q = ask(1, prompt_of(3, 30, prompt), 30, 3);
    q.params.cache_prompt = false;
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    CHECK_INT(f->e->kv.n_idle, 0);
    fake_end(f);
}

/* Two that read the same prompt at the same time end up on one copy of its pages. */
static void twins_end_on_one_copy(void)
{
    fake_engine *f = started();
    int32_t prompt[40];
    for (uint64_t id = 1; id <= 2; id++) {
        bt_engine_request q = ask(id, prompt_of(3, 40, prompt), 40, 10);
        no_ban(&q);
        CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    }
    while (f->log.request[1]->seq[0].n_tokens == 0) REQUIRE(!bt_engine_step(f->e, NULL));
    CHECK_INT(f->e->slot[0].page[0], f->e->slot[1].page[0]);
    CHECK_INT(f->e->slot[0].page[8], f->e->slot[1].page[8]);
    CHECK(f->e->slot[0].page[10] != f->e->slot[1].page[10]);
    run_all(f->e);
    for (int32_t i = 0; i < 2; i++) check_greedy(&f->log.request[i]->seq[0], prompt, 40, 10);
    fake_end(f);
}

static void several_sequences(void)
{
    for (int32_t cache = 0; cache < 2; cache++) {
        fake_engine *f = started();
        int32_t prompt[42];
        bt_engine_request q = ask(1, prompt_of(8, 42, prompt), 42, 12);
        q.n_seq = 4;
        q.params.cache_prompt = cache;
        q.params.temperature = 1;
        q.params.seed = 1234;
        CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
        int32_t rows = fake.rows_seen;
        run_all(f->e);
        /* Sequence 0 reads the prompt, the others only what is past its full pages. */
        CHECK_INT(fake.rows_seen - rows, 42 + 3 * 2 + 4 * 11);
        const request_log *r = f->log.request[0];
        CHECK_INT(r->end.u.end.completion_tokens, 48);
        CHECK_INT(r->end.u.end.prompt_tokens, 42);
        for (int32_t i = 0; i < 4; i++) {
            CHECK_INT(r->seq[i].n_tokens, 12);
            CHECK_INT(r->seq[i].finish, BT_FINISH_LENGTH);
            for (int32_t k = 0; k < i; k++)
                CHECK(memcmp(r->seq[i].token, r->seq[k].token, 12 * sizeof(int32_t)) != 0);
        }
        /* Sequence 2 is what a request of its own with seed + 2 gets. */
        bt_engine_request alone = q;
        alone.id = 2;
        alone.n_seq = 1;
        alone.params.seed = 1236;
        CHECK_INT(submit(f->e, &f->log, &alone), BT_OK);
        run_all(f->e);
        CHECK(memcmp(r->seq[2].token, f->log.request[1]->seq[0].token, 12 * sizeof(int32_t)) == 0);
        fake_end(f);
    }
}

/* n > 1 with a single token each: sequence 0 is gone at once, its siblings must still have the
 * prompt. */
static void siblings_outlive_the_first(void)
{
    fake_engine *f = started();
    int32_t prompt[17];
    bt_engine_request q = ask(1, prompt_of(8, 17, prompt), 17, 1);
    no_ban(&q);
    q.n_seq = 3;
    q.params.cache_prompt = false;
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    for (int32_t i = 0; i < 3; i++) check_greedy(&f->log.request[0]->seq[i], prompt, 17, 1);
    fake_end(f);
}

static void seeds_reproduce(void)
{
    fake_engine *f = started();
    int32_t prompt[10];
    for (uint64_t id = 1; id <= 3; id++) {
        bt_engine_request q = ask(id, prompt_of(5, 10, prompt), 10, 20);
        q.params.temperature = 0.8f;
        q.params.top_k = 50;
        q.params.seed = id == 3 ? 8 : 7;
        CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
        if (id != 2) run_all(f->e);
    }
    const int32_t *a = f->log.request[0]->seq[0].token, *b = f->log.request[1]->seq[0].token;
    CHECK(memcmp(a, b, 20 * sizeof *a) == 0);
    CHECK(memcmp(a, f->log.request[2]->seq[0].token, 20 * sizeof *a) != 0);
    fake_end(f);
}

/* ---- ends ---- */

static void eos_ends_without_text(void)
{
    fake_engine *f = started();
    int32_t prompt[6];
    bt_logit_bias bias = {.token = 2, .bias = 100};
    bt_engine_request q = ask(1, prompt_of(1, 6, prompt), 6, 50);
    q.params.ignore_eos = false;
    q.params.n_bias = 1;
    q.params.bias = &bias;
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    const request_log *r = f->log.request[0];
    CHECK_INT(r->seq[0].finish, BT_FINISH_EOS);
    CHECK_INT(r->seq[0].n_tokens, 0);
    CHECK_INT(r->seq[0].n_text, 0);
    CHECK_INT(r->end.u.end.completion_tokens, 1);
    /* Not before min_tokens, and never with ignore_eos. */
    q.id = 2;
    q.params.min_tokens = 5;
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    CHECK_INT(f->log.request[1]->end.u.end.completion_tokens, 6);
    CHECK_INT(f->log.request[1]->seq[0].finish, BT_FINISH_EOS);
    q.id = 3;
    q.params.ignore_eos = true;
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    CHECK_INT(f->log.request[2]->seq[0].finish, BT_FINISH_LENGTH);
    CHECK_INT(f->log.request[2]->end.u.end.completion_tokens, 50);
    fake_end(f);
}

/* The stop string is cut from the middle of a known text; what is before it arrives, nothing after.
 */
static void stop_string_cuts_the_text(void)
{
    fake_engine *f = started();
    int32_t prompt[6];
    bt_engine_request q = ask(1, prompt_of(2, 6, prompt), 6, 40);
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    const seq_log *whole = &f->log.request[0]->seq[0];
    int32_t at = whole->n_text / 2;
    while (at > 0 && ((unsigned char)whole->text[at] & 0xC0) == 0x80) at--;
    int32_t end = at + 3;
    while (end < whole->n_text && ((unsigned char)whole->text[end] & 0xC0) == 0x80) end++;
    char stop[16] = {0};
    memcpy(stop, whole->text + at, (size_t)(end - at));
    REQUIRE(strlen(stop) == (size_t)(end - at));
    int32_t first = 0; // its first place, which may be before `at`
    while (memcmp(whole->text + first, stop, (size_t)(end - at)) != 0) first++;
    const char *stops[] = {"never there", stop};
    q.id = 2;
    q.params.n_stop = 2;
    q.params.stop = stops;
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    const seq_log *cut = &f->log.request[1]->seq[0];
    CHECK_INT(cut->finish, BT_FINISH_STOP);
    CHECK_INT(cut->n_text, first);
    CHECK(memcmp(cut->text, whole->text, (size_t)first) == 0);
    CHECK(cut->n_tokens < whole->n_tokens);
    CHECK_INT(f->log.request[1]->end.u.end.completion_tokens, cut->n_tokens);
    fake_end(f);
}

/* One sequence reaches its length, then a later one its stop string: the request says length. */
static void request_ends_as_its_worst_sequence(void)
{
    fake_engine *f = started();
    int32_t prompt[6];
    bt_engine_request q = ask(1, prompt_of(2, 6, prompt), 6, 20);
    q.n_seq = 2;
    q.params.temperature = 1;
    char stop[4] = {0};
    const request_log *r = NULL;
    for (q.id = 1; q.id < LOG_REQUESTS / 2; q.id++) { // until the last letters come only there
        q.params.seed = q.id;
        CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
        run_all(f->e);
        r = log_find(&f->log, q.id);
        int32_t n = r->seq[1].n_text;
        memcpy(stop, r->seq[1].text + BT_MAX(n - 3, 0), 3);
        bool ascii = n > 3 && stop[0] > ' ' && stop[1] > ' ' && stop[2] > ' ';
        if (ascii && !strstr(r->seq[0].text, stop) &&
            strstr(r->seq[1].text, stop) == r->seq[1].text + n - 3)
            break;
    }
    REQUIRE(q.id < LOG_REQUESTS / 2);
    q.id++;
    q.params.n_stop = 1;
    q.params.stop = (const char *[]){stop};
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    r = log_find(&f->log, q.id);
    CHECK_INT(r->seq[0].finish, BT_FINISH_LENGTH);
    CHECK_INT(r->seq[1].finish, BT_FINISH_STOP);
    CHECK_INT(r->end.u.end.finish, BT_FINISH_LENGTH);
    fake_end(f);
}

static void context_is_a_limit(void)
{
    fake_engine *f = started();
    int32_t prompt[97];
    bt_engine_request q = ask(1, prompt_of(2, 97, prompt), 80, 1000);
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    CHECK_INT(f->log.request[0]->seq[0].n_tokens, 16);
    CHECK_INT(f->log.request[0]->seq[0].finish, BT_FINISH_LENGTH);
    q = ask(2, prompt, 96, 1);
    CHECK_INT(submit(f->e, &f->log, &q), BT_ECONTEXT);
    q = ask(2, prompt, 97, 1);
    CHECK_INT(submit(f->e, &f->log, &q), BT_ECONTEXT);
    q = ask(2, prompt, 95, 1);
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    fake_end(f);
}

static void deadline_ends_at_every_stage(void)
{
    fake_engine *f = fake_new();
    f->plan.rows_max = 8;
    f->plan.out_max = 8;
    fake_start(f);
    int32_t prompt[40];
    /* 0: before the first step; 1: while reading the prompt; 2: while generating; 3: paused. */
    for (int32_t stage = 0; stage < 4; stage++) {
        bt_engine_request q =
            ask((uint64_t)stage + 1, prompt_of((uint64_t)stage, 40, prompt), 40, 40);
        q.n_seq = stage == 1 ? 2 : 1;
        q.lease.deadline_ns = bt_now_ns() + (stage ? 8000000 : 0);
        if (stage == 3) q.lease.budget_us = 1;
        CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
        int32_t steps = stage == 0 ? 0 : stage == 2 ? 12 : 2;
        for (int32_t i = 0; i < steps; i++) REQUIRE(!bt_engine_step(f->e, NULL));
        const request_log *r = f->log.request[stage];
        CHECK(!r->ended);
        if (stage == 1) CHECK(r->prefill_done > 0 && r->prefill_done < 40);
        if (stage == 2) CHECK(r->seq[0].n_tokens > 0);
        if (stage == 3) CHECK(!bt_engine_has_work(f->e));
        CHECK_INT(bt_engine_next_deadline(f->e), q.lease.deadline_ns);
        if (stage) bt_sleep_ns(q.lease.deadline_ns - bt_now_ns() + 100000);
        CHECK(bt_engine_has_work(f->e));
        REQUIRE(!bt_engine_step(f->e, NULL));
        CHECK(r->ended);
        CHECK_INT(r->end.u.end.finish, BT_FINISH_LEASE_EXPIRED);
        CHECK_INT(f->log.step.u.step.pages_free, f->plan.n_pages);
        CHECK(!bt_engine_has_work(f->e));
        CHECK(bt_engine_next_deadline(f->e) == INT64_MAX);
    }
    fake_end(f);
}

static void budget_pauses_then_ends(void)
{
    fake_engine *f = started();
    int32_t prompt[10];
    bt_engine_request q = ask(1, prompt_of(2, 10, prompt), 10, 60);
    no_ban(&q);
    q.lease.budget_us = 1000;
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    const request_log *r = f->log.request[0];
    CHECK(!r->ended && r->seq[0].n_tokens > 0);
    /* It stops at the first step past the budget, and keeps its pages. */
    CHECK(r->used_us >= 1000 && r->used_us < 1000 + 300);
    CHECK(bt_kv_available(&f->e->kv) < f->plan.n_pages);
    int32_t steps = f->log.n_steps;
    REQUIRE(!bt_engine_step(f->e, NULL));
    CHECK_INT(f->log.n_steps, steps);
    bt_engine_budget(f->e, 1, 77, 9999999, false); // another generation
    CHECK(!bt_engine_has_work(f->e));
    bt_engine_budget(f->e, 1, 1, 500, false); // never lowered
    CHECK(!bt_engine_has_work(f->e));
    bt_engine_budget(f->e, 1, 1, 3000, false);
    CHECK(bt_engine_has_work(f->e));
    run_all(f->e);
    CHECK(!r->ended && r->used_us >= 3000);
    bt_engine_budget(f->e, 1, 1, 5000, true);
    run_all(f->e);
    CHECK(r->ended);
    CHECK_INT(r->end.u.end.finish, BT_FINISH_QUOTA_EXHAUSTED);
    CHECK(r->used_us >= 5000 && r->used_us < 5300);
    check_greedy(&r->seq[0], prompt, 10, r->seq[0].n_tokens);
    /* Final at once: a paused request ends at the next step without a forward pass. */
    q = ask(2, prompt, 10, 60);
    q.lease.budget_us = 200;
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    bt_engine_budget(f->e, 2, 1, 200, true);
    CHECK(bt_engine_has_work(f->e));
    run_all(f->e);
    CHECK_INT(f->log.request[1]->end.u.end.finish, BT_FINISH_QUOTA_EXHAUSTED);
    fake_end(f);
}

/* A last budget that is used to the microsecond buys no further step. */
static void last_budget_buys_nothing_once_used(void)
{
    fake_engine *f = started();
    int32_t prompt[10];
    bt_engine_request q = ask(1, prompt_of(2, 10, prompt), 10, 60);
    q.lease.budget_us = 1000;
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    const request_log *r = f->log.request[0];
    uint64_t used_us = r->used_us;
    int32_t rows = fake.rows_seen;
    bt_engine_budget(f->e, 1, 1, (int64_t)used_us, true);
    run_all(f->e);
    CHECK(r->ended);
    CHECK_INT(r->end.u.end.finish, BT_FINISH_QUOTA_EXHAUSTED);
    CHECK_INT(r->end.u.end.used_us, used_us);
    CHECK_INT(fake.rows_seen, rows);
    fake_end(f);
}

/* Others run on while one waits for budget, and its text is what it would have been. */
static void pause_does_not_hold_others(void)
{
    fake_engine *f = started();
    int32_t a[10], b[10];
    bt_engine_request q = ask(1, prompt_of(2, 10, a), 10, 30),
                      p = ask(2, prompt_of(3, 10, b), 10, 30);
    no_ban(&q);
    no_ban(&p);
    q.lease.budget_us = 400;
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    CHECK_INT(submit(f->e, &f->log, &p), BT_OK);
    run_all(f->e);
    CHECK(!f->log.request[0]->ended && f->log.request[1]->ended);
    bt_engine_budget(f->e, 1, 1, INT64_MAX, true);
    run_all(f->e);
    check_greedy(&f->log.request[0]->seq[0], a, 10, 30);
    check_greedy(&f->log.request[1]->seq[0], b, 10, 30);
    fake_end(f);
}

static void cancel_frees_at_once(void)
{
    fake_engine *f = fake_new();
    f->plan.rows_max = 8;
    f->plan.out_max = 8;
    fake_start(f);
    int32_t prompt[40];
    for (int32_t stage = 0; stage < 3; stage++) {
        bt_engine_request q =
            ask((uint64_t)stage + 1, prompt_of((uint64_t)stage, 40, prompt), 40, 40);
        q.n_seq = 2;
        CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
        for (int32_t i = 0; i < stage * 6; i++) REQUIRE(!bt_engine_step(f->e, NULL));
        bt_engine_cancel(f->e, q.id, 2, BT_FINISH_CANCELLED); // an older lease: inert
        bt_engine_cancel(f->e, 999, 1, BT_FINISH_CANCELLED);
        CHECK(!f->log.request[stage]->ended);
        bt_engine_cancel(f->e, q.id, 1, BT_FINISH_CANCELLED);
        CHECK(f->log.request[stage]->ended);
        CHECK_INT(f->log.request[stage]->end.u.end.finish, BT_FINISH_CANCELLED);
        CHECK_INT(f->log.step.u.step.pages_free, f->plan.n_pages);
        run_all(f->e); // at most a step that was under way
        CHECK_INT(f->e->n_flight, 0);
        bt_engine_cancel(f->e, q.id, 1, BT_FINISH_CANCELLED); // twice: inert
        fake_check_idle(f);
    }
    fake_end(f);
}

static void nan_fails_one_request(void)
{
    fake_engine *f = started();
    int32_t a[10], b[10];
    bt_engine_request q = ask(1, prompt_of(2, 10, a), 10, 30),
                      p = ask(2, prompt_of(3, 10, b), 10, 30);
    no_ban(&p);
    a[9] = 300;
    fake.nan_token = 300;
    q.n_seq = 2;
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    CHECK_INT(submit(f->e, &f->log, &p), BT_OK);
    run_all(f->e);
    CHECK_INT(f->log.request[0]->end.u.end.finish, BT_FINISH_DEVICE_FAULT);
    CHECK_INT(f->log.request[0]->end.u.end.status, BT_EMODEL);
    CHECK_INT(f->log.request[0]->end.u.end.completion_tokens, 0);
    CHECK_INT(f->log.request[1]->end.u.end.status, BT_OK);
    check_greedy(&f->log.request[1]->seq[0], b, 10, 30);
    /* What it left in KV is not offered to the next. */
    fake.nan_token = 0;
    q.id = 3;
    q.n_seq = 1;
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    CHECK_INT(f->log.request[2]->end.u.end.cached_tokens, 0);
    CHECK_INT(f->log.request[2]->seq[0].n_tokens, 30);
    fake_end(f);
}

/* ---- scores ---- */

static void prompt_logprobs_in_order(void)
{
    const int32_t rows[] = {1, 5, 64};
    float reference[40] = {0};
    for (size_t k = 0; k < BT_COUNT(rows); k++) {
        fake_engine *f = fake_new();
        f->plan.rows_max = rows[k];
        f->plan.out_max = BT_MIN(rows[k], 7);
        fake_start(f);
        int32_t prompt[40], other[30];
        bt_engine_request q = ask(1, prompt_of(2, 40, prompt), 40, 2),
                          p = ask(2, prompt_of(7, 30, other), 30, 9);
        q.params.prompt_logprobs = true;
        q.params.n_logprobs = 2;
        CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
        CHECK_INT(submit(f->e, &f->log, &p), BT_OK);
        run_all(f->e);
        /* Again, though its pages are cached by now; only scoring, nothing drawn. */
        q.id = 3;
        q.params.max_tokens = 0;
        CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
        run_all(f->e);
        for (int32_t i = 0; i < 3; i += 2) {
            const request_log *r = f->log.request[i];
            CHECK_INT(r->n_prompt, 40);
            CHECK(memcmp(r->prompt_token, prompt, sizeof prompt) == 0);
            CHECK(isnan(r->prompt_logprob[0]));
            for (int32_t at = 1; at < 40; at++) {
                CHECK(r->prompt_logprob[at] < 0);
                if (k == 0 && i == 0) reference[at] = r->prompt_logprob[at];
                CHECK(r->prompt_logprob[at] == reference[at]);
            }
            CHECK_INT(r->end.u.end.cached_tokens, 0);
            CHECK_INT(r->seq[0].n_tokens, i ? 0 : 2);
            CHECK_INT(r->seq[0].finish, BT_FINISH_LENGTH);
        }
        CHECK(f->log.request[0]->seq[0].logprob[0] <= 0);
        CHECK(isnan(f->log.request[1]->seq[0].logprob[0])); // nobody asked
        fake_end(f);
    }
}

/* Twelve tokens that are drawn before all others. */
static void small_alphabet(bt_engine_request *q, bt_logit_bias bias[12])
{
    for (int32_t i = 0; i < 12; i++) bias[i] = (bt_logit_bias){100 + i, 50};
    q->params.n_bias = 12;
    q->params.bias = bias;
}

/* The repetition penalty's window holds what it should at each draw: nothing of it is drawn again,
 * and tokens that left it are free. The prompt's end is in it. */
static void repetition_sees_its_window(void)
{
    fake_engine *f = started();
    int32_t prompt[20];
    bt_engine_request q = ask(1, prompt_of(2, 20, prompt), 20, 70);
    bt_logit_bias bias[12];
    small_alphabet(&q, bias);
    for (int32_t i = 0; i < 8; i++) prompt[12 + i] = 100 + i;
    q.params.repeat_penalty = 1000;
    q.params.repeat_last_n = 8;
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    const seq_log *s = &f->log.request[0]->seq[0];
    bool again = false;
    CHECK_INT(s->n_tokens, 70);
    for (int32_t i = 0; i < 70; i++) {
        CHECK(s->token[i] >= 100 && s->token[i] < 112);
        if (i < 8) CHECK(s->token[i] >= 108 || s->token[i] < 100 + i);
        for (int32_t k = 1; k <= 8 && k <= i; k++) CHECK(s->token[i] != s->token[i - k]);
        for (int32_t k = 9; k <= i; k++) again = again || s->token[i] == s->token[i - k];
    }
    CHECK(again);
    fake_end(f);
}

/* Frequency and presence count what was generated, however long ago, and nothing of the prompt. */
static void presence_counts_what_was_generated(void)
{
    for (int32_t round = 0; round < 2; round++) {
        fake_engine *f = started();
        int32_t prompt[20];
        bt_engine_request q = ask(1, prompt_of(2, 20, prompt), 20, 12);
        bt_logit_bias bias[12];
        bool seen[12] = {false};
        small_alphabet(&q, bias);
        for (int32_t i = 0; i < 20; i++) prompt[i] = 100 + i % 12;
        *(round ? &q.params.freq_penalty : &q.params.presence_penalty) = 100;
        q.params.repeat_last_n = round ? 0 : 2; // concerns the repetition penalty alone
        CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
        run_all(f->e);
        const seq_log *s = &f->log.request[0]->seq[0];
        CHECK_INT(s->n_tokens, 12);
        for (int32_t i = 0; i < 12; i++) {
            REQUIRE(s->token[i] >= 100 && s->token[i] < 112);
            CHECK(!seen[s->token[i] - 100]);
            seen[s->token[i] - 100] = true;
        }
        fake_end(f);
    }
}

/* ---- limits and faults ---- */

static void busy_when_full(void)
{
    fake_engine *f = started();
    int32_t prompt[60];
    uint64_t id = 1;
    prompt_of(1, 60, prompt);
    bt_engine_request q = ask(id, prompt, 60, 30); // 23 of 64 pages
    q.params.cache_prompt = false;
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    q.id = ++id;
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    q.id = ++id;
    CHECK_INT(submit(f->e, &f->log, &q), BT_EBUSY); // pages
    q = ask(id, prompt, 4, 1);
    q.n_seq = 4;
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    q = ask(++id, prompt, 4, 1);
    CHECK_INT(submit(f->e, &f->log, &q), BT_EBUSY); // slots
    run_all(f->e);
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    fake_end(f);
}

static void bad_requests_are_refused(void)
{
    fake_engine *f = started();
    int32_t prompt[10];
    bt_logit_bias bias = {FAKE_VOCAB, 1};
    const char *stop[] = {""};
#define REFUSED(change, status)                                                                    \
    do {                                                                                           \
        bt_engine_request q = ask(5, prompt_of(1, 10, prompt), 10, 10);                            \
        change;                                                                                    \
        CHECK_INT(submit(f->e, &f->log, &q), status);                                              \
    } while (0)
    REFUSED(q.id = 0, BT_EINVAL);
    REFUSED(q.n_seq = 0, BT_EINVAL);
    REFUSED(q.n_seq = 7, BT_EINVAL);
    REFUSED(q.n_tokens = 0, BT_EINVAL);
    REFUSED(prompt[3] = FAKE_VOCAB, BT_EINVAL);
    REFUSED(prompt[3] = -1, BT_EINVAL);
    REFUSED(q.params.max_tokens = 0, BT_EINVAL);
    REFUSED(q.params.max_tokens = -1, BT_EINVAL);
    REFUSED(q.params.temperature = NAN, BT_EINVAL);
    REFUSED(q.params.temperature = -1, BT_EINVAL);
    REFUSED(q.params.top_p = 1.5f, BT_EINVAL);
    REFUSED(q.params.min_p = INFINITY, BT_EINVAL);
    REFUSED(q.params.repeat_penalty = 0, BT_EINVAL);
    REFUSED(q.params.freq_penalty = NAN, BT_EINVAL);
    REFUSED(q.params.n_logprobs = 21, BT_EINVAL);
    REFUSED((q.params.n_bias = 1, q.params.bias = &bias), BT_EINVAL);
    REFUSED(q.params.n_bias = BT_BIAS_MAX + 1, BT_EINVAL);
    REFUSED((q.params.n_stop = 1, q.params.stop = stop), BT_EINVAL);
    REFUSED((bias.token = 1, bias.bias = NAN, q.params.n_bias = 1, q.params.bias = &bias),
            BT_EINVAL);
#undef REFUSED
    CHECK(!bt_engine_has_work(f->e));
    bt_engine_request q = ask(5, prompt_of(1, 10, prompt), 10, 10);
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    CHECK_INT(submit(f->e, &f->log, &q), BT_EINVAL); // the id is in use
    run_all(f->e);
    fake_end(f);
}

/* Between open and close a step never allocates, whatever its requests do. */
static void steps_do_not_allocate(void)
{
    fake_engine *f = fake_new();
    fake_start(f);
    int32_t prompt[40];
    const char *stop[] = {"zzzz", "the"};
    for (uint64_t id = 1; id <= 3; id++) {
        bt_engine_request q = ask(id, prompt_of(id, 40, prompt), 40, 30);
        q.n_seq = id == 1 ? 2 : 1;
        q.params.repeat_penalty = 1.2f;
        q.params.repeat_last_n = -1;
        q.params.n_logprobs = 5;
        q.params.temperature = 0.7f;
        q.params.prompt_logprobs = id == 3;
        q.params.n_stop = 2;
        q.params.stop = stop;
        CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    }
    bt_mem_guard_begin();
    run_all(f->e);
    bt_mem_guard_end();
    for (int32_t i = 0; i < 3; i++) CHECK(f->log.request[i]->ended);
    fake_end(f);
}

/* The crash file as another process sees it now. */
static const bt_usage_file *usage_seen(const char *path)
{
    static bt_usage_file file;
    int fd = open(path, O_RDONLY);
    REQUIRE(fd >= 0 && read(fd, &file, sizeof file) == (ssize_t)sizeof file);
    close(fd);
    return &file;
}

static const bt_usage_bank *current_bank(const char *path)
{
    const bt_usage_file *file = usage_seen(path);
    return &file->bank[file->head.seq & 1];
}

/* Whichever device call fails: the step says so, later ones too, and the crash file holds the books
 * of the last good step. */
static void device_failure_at_every_call(void)
{
    char path[] = "/tmp/baton-usage-XXXXXX";
    int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    close(fd);
    for (long n = 1;; n++) {
        unlink(path);
        fake_engine *f = fake_new();
        f->opt.usage_path = path;
        fake.fail_at = n;
        bt_err err = {0};
        bt_status status = fake_try_start(f, &err);
        int32_t prompt[20];
        bt_engine_request q = ask(1, prompt_of(1, 20, prompt), 20, 3);
        q.n_seq = 2;
        if (!status) CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
        uint64_t before = f->log.step.u.step.busy_us;
        while (!status && bt_engine_has_work(f->e)) {
            before = f->log.step.u.step.busy_us;
            status = bt_engine_step(f->e, &err);
        }
        bool failed = fake.calls >= n;
        CHECK_INT(status, failed ? BT_EDEVICE : BT_OK);
        if (f->e && failed) {
            CHECK(strstr(err.msg, "scripted") != NULL);
            CHECK(!bt_engine_has_work(f->e));
            CHECK_INT(bt_engine_step(f->e, &err), BT_EDEVICE);
            const bt_usage_bank *b = current_bank(path);
            uint64_t sum = b->house_us + b->closed_us;
            for (uint64_t i = 0; i < b->n; i++) sum += b->entry[i].used_us;
            CHECK_INT(b->busy_us, sum);
            if (before) CHECK_INT(b->busy_us, before);
        }
        bt_engine_close(f->e);
        f->e = NULL;
        fake_end(f);
        if (!failed) break;
    }
    unlink(path);
}

/* The file has the cost of a step before the step is told; release closes the entry. */
static void usage_file_comes_first(void)
{
    char path[] = "/tmp/baton-usage-XXXXXX";
    int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    close(fd);
    fake_engine *f = fake_new();
    f->opt.usage_path = path;
    fake_start(f);
    int32_t prompt[20];
    bt_engine_request q = ask(77, prompt_of(1, 20, prompt), 20, 5);
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    CHECK_INT(f->log.ready_event.u.ready.boot, usage_seen(path)->head.boot);
    while (bt_engine_has_work(f->e)) {
        REQUIRE(!bt_engine_step(f->e, NULL));
        const bt_usage_bank *b = current_bank(path);
        CHECK_INT(b->busy_us, f->log.step.u.step.busy_us);
        CHECK_INT(b->n, 1);
        CHECK_INT(b->entry[0].used_us, f->log.request[0]->used_us);
        if (!f->log.request[0]->ended) {
            bt_engine_release(f->e, 77); // inert while it runs
            CHECK_INT(current_bank(path)->n, 1);
        }
    }
    CHECK_INT(submit(f->e, &f->log, &q), BT_EINVAL); // not until it is released
    bt_engine_release(f->e, 77);
    CHECK_INT(current_bank(path)->n, 0);
    CHECK_INT(current_bank(path)->closed_us, f->log.request[0]->used_us);
    bt_engine_release(f->e, 77);
    fake_end(f);
    unlink(path);
}

static void open_survives_memory_faults(void)
{
    for (long n = 1;; n++) {
        fake_engine *f = fake_new();
        bt_err err = {0};
        bt_mem_fail_at(n);
        bt_status status = fake_try_start(f, &err);
        bool failed = bt_mem_failed();
        bt_mem_fail_at(0);
        CHECK_INT(status, failed ? BT_ENOMEM : BT_OK);
        fake_end(f);
        if (!failed) break;
    }
}

static void finish_names(void)
{
    CHECK_STR(bt_finish_name(BT_FINISH_EOS), "eos");
    CHECK_STR(bt_finish_name(BT_FINISH_QUOTA_EXHAUSTED), "quota_exhausted");
    CHECK_STR(bt_finish_name((bt_finish)99), "none");
}

/* A step is on its way while the one before is told of, unless it must be known first. */
static void steps_overlap_where_they_can(void)
{
    for (int penalties = 0; penalties < 2; penalties++) {
        fake.flights_most = 0;
        fake_engine *f = started();
        int32_t prompt[20];
        bt_engine_request q = ask(1, prompt_of(1, 20, prompt), 20, 30);
        no_ban(&q);
        if (penalties) q.params.freq_penalty = 1e-30f;
        CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
        int32_t steps = fake.steps_seen;
        run_all(f->e);
        CHECK_INT(fake.flights_most, fake_ahead && !penalties ? 2 : 1);
        CHECK_INT(fake.steps_seen - steps, 30); // none for nothing: the last token was foreseen
        check_greedy(&f->log.request[0]->seq[0], prompt, 20, 30);
        CHECK_INT(fake.wrong, 0);
        fake_end(f);
    }
}

/* What a step computed for a sequence that had ended is nobody's but the house's. */
static void rows_for_the_ended_are_the_house_s(void)
{
    fake_engine *f = started();
    int32_t prompt[2][9];
    for (int32_t i = 0; i < 2; i++) {
        bt_engine_request q =
            ask((uint64_t)i + 1, prompt_of((uint64_t)i + 70, 9, prompt[i]), 9, 40);
        no_ban(&q);
        CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    }
    for (int i = 0; i < 6; i++) REQUIRE(!bt_engine_step(f->e, NULL));
    uint64_t house = f->e->meter.bank.house_us;
    bt_engine_cancel(f->e, 1, 1, BT_FINISH_CANCELLED);
    run_all(f->e);
    CHECK(f->e->meter.bank.house_us - house == 0 || fake_ahead);
    uint64_t used = 0;
    for (int i = 0; i < 2; i++) used += f->log.request[i]->end.u.end.used_us;
    CHECK_INT(used + f->e->meter.bank.house_us, f->e->meter.bank.busy_us);
    CHECK(fake_ahead ? f->e->meter.bank.house_us > house : f->e->meter.bank.house_us == house);
    check_greedy(&f->log.request[1]->seq[0], prompt[1], 9, 40);
    CHECK_INT(fake.wrong, 0);
    fake_end(f);
}

static void parks_when_idle_and_wakes_for_work(void)
{
    fake_engine *f = started();
    int32_t prompt[40];
    bt_engine_request q = ask(1, prompt_of(1, 40, prompt), 40, 8);
    no_ban(&q);
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    bt_err err = {0};
    CHECK_INT(bt_engine_park(f->e, &err), BT_EBUSY);
    CHECK(err.msg[0] != 0);
    run_all(f->e);
    for (int round = 0; round < 3; round++) {
        CHECK_INT(bt_engine_park(f->e, &err), BT_OK);
        CHECK(f->e->parked && fake.parked && !bt_engine_has_work(f->e));
        CHECK_INT(bt_engine_park(f->e, &err), BT_OK); // once is enough
        CHECK_INT(f->log.residency.u.residency.level, 1);
        CHECK_INT(f->log.n_residency, 2 * round + 1);
        bt_kv_check(&f->e->kv);
        q.id = (uint64_t)round + 2;
        CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
        run_all(f->e);
        CHECK(!f->e->parked);
        CHECK_INT(f->log.residency.u.residency.level, 0);
        CHECK(f->log.residency.u.residency.from_host);
        const request_log *r = f->log.request[round + 1];
        CHECK_INT(r->end.u.end.cached_tokens, 0); // what KV held was lost
        check_greedy(&r->seq[0], prompt, 40, 8);
    }
    CHECK_INT(fake.wrong, 0);
    CHECK_INT(bt_engine_park(f->e, &err), BT_OK);
    fake.no_room = true;
    CHECK_INT(bt_engine_wake(f->e, &err), BT_ENOMEM);
    CHECK(f->e->parked);
    q.id = 99; // one who needs it is told, and it stays parked
    CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
    run_all(f->e);
    CHECK(f->e->parked);
    CHECK_INT(log_find(&f->log, 99)->end.u.end.finish, BT_FINISH_DEVICE_FAULT);
    fake.no_room = false;
    CHECK_INT(bt_engine_wake(f->e, &err), BT_OK);
    fake_end(f);
}

static void run_everything(void)
{
    RUN(steps_overlap_where_they_can);
    RUN(rows_for_the_ended_are_the_house_s);
    RUN(parks_when_idle_and_wakes_for_work);
    RUN(ready_tells_the_plan);
    RUN(one_request);
    RUN(text_is_complete);
    RUN(crowd_and_chunks_change_nothing);
    RUN(prompts_share_the_step);
    RUN(chunks_follow_the_cost);
    RUN(slowest_device_reads_its_prompt);
    RUN(prefix_is_reused_exactly);
    RUN(last_token_is_always_computed);
    RUN(salts_isolate);
    RUN(cache_prompt_off_leaves_nothing);
    RUN(twins_end_on_one_copy);
    RUN(several_sequences);
    RUN(siblings_outlive_the_first);
    RUN(seeds_reproduce);
    RUN(eos_ends_without_text);
    RUN(stop_string_cuts_the_text);
    RUN(request_ends_as_its_worst_sequence);
    RUN(context_is_a_limit);
    RUN(deadline_ends_at_every_stage);
    RUN(budget_pauses_then_ends);
    RUN(last_budget_buys_nothing_once_used);
    RUN(pause_does_not_hold_others);
    RUN(cancel_frees_at_once);
    RUN(nan_fails_one_request);
    RUN(prompt_logprobs_in_order);
    RUN(repetition_sees_its_window);
    RUN(presence_counts_what_was_generated);
    RUN(busy_when_full);
    RUN(bad_requests_are_refused);
    RUN(steps_do_not_allocate);
    RUN(device_failure_at_every_call);
    RUN(usage_file_comes_first);
    RUN(open_survives_memory_faults);
    RUN(finish_names);
}

int main(void)
{
    for (fake_ahead = 0; fake_ahead < 2; fake_ahead++) run_everything();
    return TEST_END();
}
