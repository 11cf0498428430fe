/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL unit TIMEOUT 120 */
/* test_stories.c - the bundled model on the CPU backend, from the file to the text. */
#include "base/pool.h"
#include "base/rng.h"
#include "harness.h"

#define MODEL "models/stories260K.gguf"
#define PARK ", there was a little girl named Lily. She loved to play outside in the park."

static const int32_t once[] = {1, 403, 407, 261, 378}; // "Once upon a time"
enum { N_ONCE = 5, N_TEXT = 60 };

static bt_engine *engine(event_log *log, bt_engine_options opt)
{
    bt_engine *e = NULL;
    bt_err err = {0};
    opt.model_path = MODEL;
    bt_status status = bt_engine_open(&opt, log_sink, log, &e, &err);
    if (status) fprintf(stderr, "open: %s\n", err.msg);
    REQUIRE(!status);
    return e;
}

static void done(bt_engine *e, event_log *log)
{
    bt_kv_check(&e->kv);
    CHECK_INT(bt_kv_available(&e->kv), e->plan.n_pages);
    bt_engine_close(e);
    log_release(log);
}

static void greedy_text(void)
{
    static event_log log;
    int64_t start = bt_now_ns();
    bt_engine *e = engine(&log, (bt_engine_options){0});
    bt_engine_request q = ask(1, once, N_ONCE, N_TEXT);
    CHECK_INT(submit(e, &log, &q), BT_OK);
    REQUIRE(!bt_engine_step(e, NULL));
    int64_t first_ns = bt_now_ns() - start;
    CHECK_INT(log.request[0]->seq[0].n_tokens, 1);
    run_all(e);
    const seq_log *s = &log.request[0]->seq[0];
    CHECK(s->n_text >= (int32_t)strlen(PARK) && memcmp(s->text, PARK, strlen(PARK)) == 0);
    CHECK_STR(log.ready_event.u.ready.device, "cpu0");
    CHECK_INT(log.ready_event.u.ready.vocab, 512);
    CHECK_INT(log.ready_event.u.ready.ctx, 512);
    fprintf(stderr,
            "  open to first token: %.1f ms (estimates: %.0f us a prompt token, %.0f us a token)\n",
            (double)first_ns / 1e6, (double)log.ready_event.u.ready.prefill_us_per_token,
            (double)log.ready_event.u.ready.decode_us_per_token);
    done(e, &log);
}

/* The five likeliest after ", there was a" (float32 PyTorch). */
static void five_probabilities(void)
{
    static event_log log;
    const int32_t token[5] = {376, 370, 268, 280, 298};
    const double p[5] = {0.61019, 0.07377, 0.06599, 0.03000, 0.02868};
    for (int32_t format = BT_KV_F16; format <= BT_KV_F32; format++) {
        bt_engine *e = engine(&log, (bt_engine_options){.kv_format = (bt_kv_format)format});
        bt_engine_request q = ask(1, once, N_ONCE, 4);
        CHECK_INT(submit(e, &log, &q), BT_OK);
        run_all(e);
        int32_t prompt[9];
        memcpy(prompt, once, sizeof once);
        memcpy(prompt + 5, log.request[0]->seq[0].token, 4 * sizeof *prompt);
        q = ask(2, prompt, 9, 1);
        q.params.n_logprobs = 5;
        q.params.ignore_eos = false;
        CHECK_INT(submit(e, &log, &q), BT_OK);
        run_all(e);
        const seq_log *s = &log.request[1]->seq[0];
        REQUIRE(s->n_top == 5);
        for (int32_t i = 0; i < 5; i++) {
            CHECK_INT(s->top_token[i], token[i]);
            CHECK_NEAR(exp(s->top_logprob[i]), p[i], 2e-3);
        }
        CHECK_NEAR(s->logprob[0], s->top_logprob[0], 0);
        done(e, &log);
    }
}

/* Mixed company: long prompts, sampling, scores, several sequences. */
static void crowd_submit(bt_engine *e, event_log *log, uint64_t from, int32_t n)
{
    static int32_t prompt[16][200];
    for (int32_t i = 0; i < n; i++) {
        int32_t len = 5 + (i * 37) % 190;
        for (int32_t k = 0; k < len; k++)
            prompt[i][k] = 3 + (int32_t)(bt_rng_u64(from, (uint64_t)(i * 1000 + k)) % 500);
        bt_engine_request q = ask(from + (uint64_t)i, prompt[i], len, 20 + i * 7);
        q.params.temperature = i % 2 ? 0.9f : 0;
        q.params.top_k = i % 3 ? 40 : 0;
        q.params.repeat_penalty = i % 4 ? 1 : 1.1f;
        q.params.prompt_logprobs = i % 5 == 4;
        q.n_seq = i == 1 ? 2 : 1;
        CHECK_INT(submit(e, log, &q), BT_OK);
    }
}

typedef struct want {
    int32_t token[N_TEXT];
    float logprob[N_TEXT];
} want;

static bt_engine_request story(uint64_t id)
{
    bt_engine_request q = ask(id, once, N_ONCE, N_TEXT);
    q.params.n_logprobs = 0;
    return q;
}

static void check_same(const request_log *r, const want *w)
{
    CHECK_INT(r->seq[0].n_tokens, N_TEXT);
    CHECK(memcmp(r->seq[0].token, w->token, sizeof w->token) == 0);
    CHECK(memcmp(r->seq[0].logprob, w->logprob, sizeof w->logprob) == 0); // to the last bit
}

static void bits_do_not_depend_on_company(void)
{
    static event_log log;
    want w;
    bt_engine *e = engine(&log, (bt_engine_options){.threads = 1, .slots = 1});
    bt_engine_request q = story(1);
    CHECK_INT(submit(e, &log, &q), BT_OK);
    run_all(e);
    memcpy(w.token, log.request[0]->seq[0].token, sizeof w.token);
    memcpy(w.logprob, log.request[0]->seq[0].logprob, sizeof w.logprob);
    q.id = 2; // again, from the prefix cache
    CHECK_INT(submit(e, &log, &q), BT_OK);
    run_all(e);
    check_same(log.request[1], &w);
    done(e, &log);
    const int32_t step_tokens[] = {1, 3, 7, 64, 512}, slots[] = {1, 3, 7, 8, 8};
    for (int32_t i = 0; i < 5; i++) {
        for (int32_t threads = 1; threads <= 2; threads++) {
            e = engine(&log, (bt_engine_options){.threads = threads,
                                                 .slots = slots[i],
                                                 .step_tokens = step_tokens[i]});
            q = story(50);
            if (slots[i] > 2) crowd_submit(e, &log, 1, slots[i] - 2);
            for (int32_t k = 0; k < 3 && slots[i] > 2; k++) REQUIRE(!bt_engine_step(e, NULL));
            CHECK_INT(submit(e, &log, &q), BT_OK);
            run_all(e);
            check_same(log_find(&log, 50), &w);
            done(e, &log);
        }
    }
}

/* A long prompt, whole and from the cache, in chunks of several sizes: same answer, same logprobs.
 */
static void prefix_and_chunks(void)
{
    static event_log log;
    int32_t prompt[150];
    float logprob[20];
    int32_t token[20];
    for (int32_t i = 0; i < 150; i++)
        prompt[i] = i ? 3 + (int32_t)(bt_rng_u64(9, (uint64_t)i) % 500) : 1;
    const int32_t step_tokens[] = {512, 1, 3, 7, 50};
    for (size_t k = 0; k < BT_COUNT(step_tokens); k++) {
        bt_engine *e = engine(&log, (bt_engine_options){.slots = 1, .step_tokens = step_tokens[k]});
        for (uint64_t id = 1; id <= 2; id++) {
            bt_engine_request q = ask(id, prompt, 150, 20);
            q.params.n_logprobs = 0;
            CHECK_INT(submit(e, &log, &q), BT_OK);
            run_all(e);
            const seq_log *s = &log.request[id - 1]->seq[0];
            if (k == 0 && id == 1) {
                memcpy(token, s->token, sizeof token);
                memcpy(logprob, s->logprob, sizeof logprob);
            }
            CHECK(memcmp(s->token, token, sizeof token) == 0);
            CHECK(memcmp(s->logprob, logprob, sizeof logprob) == 0);
        }
        CHECK_INT(log.request[0]->end.u.end.cached_tokens, 0);
        CHECK_INT(log.request[1]->end.u.end.cached_tokens, 144);
        done(e, &log);
    }
}

static void seeds_reproduce(void)
{
    static event_log log;
    bt_engine *e = engine(&log, (bt_engine_options){0});
    for (uint64_t id = 1; id <= 3; id++) {
        bt_engine_request q = ask(id, once, N_ONCE, 40);
        q.params.temperature = 1;
        q.params.seed = id == 3 ? 6 : 5;
        CHECK_INT(submit(e, &log, &q), BT_OK);
        if (id == 1) crowd_submit(e, &log, 100, 3);
        if (id != 2) run_all(e);
    }
    const int32_t *a = log_find(&log, 1)->seq[0].token, *b = log_find(&log, 2)->seq[0].token;
    CHECK(memcmp(a, b, 40 * sizeof *a) == 0);
    CHECK(memcmp(a, log_find(&log, 3)->seq[0].token, 40 * sizeof *a) != 0);
    done(e, &log);
}

/* The scores of a text are the logprobs that greedy decoding saw when it wrote it. */
static void scores_agree_with_decoding(void)
{
    static event_log log;
    bt_engine *e = engine(&log, (bt_engine_options){0});
    bt_engine_request q = story(1);
    q.params.ignore_eos = false;
    CHECK_INT(submit(e, &log, &q), BT_OK);
    run_all(e);
    int32_t text[N_ONCE + N_TEXT];
    memcpy(text, once, sizeof once);
    memcpy(text + N_ONCE, log.request[0]->seq[0].token, N_TEXT * sizeof *text);
    q = ask(2, text, N_ONCE + N_TEXT, 0);
    q.params.prompt_logprobs = true;
    CHECK_INT(submit(e, &log, &q), BT_OK);
    run_all(e);
    const request_log *r = log.request[1];
    CHECK_INT(r->n_prompt, N_ONCE + N_TEXT);
    for (int32_t i = 0; i < N_TEXT; i++)
        CHECK(r->prompt_logprob[N_ONCE + i] == log.request[0]->seq[0].logprob[i]);
    done(e, &log);
}

static void steps_do_not_allocate(void)
{
    static event_log log;
    bt_engine *e = engine(&log, (bt_engine_options){0});
    crowd_submit(e, &log, 1, 6);
    bt_mem_guard_begin();
    run_all(e);
    bt_mem_guard_end();
    done(e, &log);
}

static void refusals(void)
{
    bt_engine *e = NULL;
    bt_err err = {0};
    static event_log log;
    bt_engine_options opt = {.model_path = MODEL, .device = "cuda:0"};
    CHECK_INT(bt_engine_open(&opt, log_sink, &log, &e, &err), BT_ENODEVICE);
    CHECK(strstr(err.msg, "cuda") || strstr(err.msg, "CUDA"));
    opt.device = "tpu";
    CHECK_INT(bt_engine_open(&opt, log_sink, &log, &e, &err), BT_EINVAL);
    opt.device = "cpu";
    opt.model_path = "models/absent.gguf";
    CHECK(bt_engine_open(&opt, log_sink, &log, &e, &err) != BT_OK);
    CHECK(strstr(err.msg, "absent.gguf") != NULL);
    opt.model_path = NULL;
    CHECK_INT(bt_engine_open(&opt, log_sink, &log, &e, &err), BT_EINVAL);
    CHECK(e == NULL);
}

int main(void)
{
    RUN(greedy_text);
    RUN(five_probabilities);
    RUN(bits_do_not_depend_on_company);
    RUN(prefix_and_chunks);
    RUN(seeds_reproduce);
    RUN(scores_agree_with_decoding);
    RUN(steps_do_not_allocate);
    RUN(refusals);
    return TEST_END();
}
