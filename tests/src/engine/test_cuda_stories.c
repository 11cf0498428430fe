/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL unit TIMEOUT 900 */
/* test_cuda_stories.c - the bundled model end to end on a CUDA device, real or emulated, beside the
 * CPU. */
#include "base/log.h"
#include "device/cuda/cuda_probe.h"
#include "harness.h"
#ifdef BT_EMULATED
#define DEVICE "emulated"
#else
#define DEVICE "cuda"
#endif

#define MODEL "models/stories260K.gguf"
#define PARK ", there was a little girl named Lily. She loved to play outside in the park."

static bt_cuda_found gpu;
static const int32_t once[] = {1, 403, 407, 261, 378}; // "Once upon a time"
enum { N_ONCE = 5, N_TEXT = 60 };

static bt_status engine_try(event_log *log, bt_engine_options opt, bt_engine **e, bt_err *err)
{
    opt.model_path = MODEL;
    opt.threads = 1;
    opt.ctx = 256;
    return bt_engine_open(&opt, log_sink, log, e, err);
}

static bt_engine *engine(event_log *log, bt_engine_options opt)
{
    bt_engine *e = NULL;
    bt_err err = {0};
    if (engine_try(log, opt, &e, &err)) fprintf(stderr, "open: %s\n", err.msg);
    REQUIRE(e);
    return e;
}

static void done(bt_engine *e, event_log *log)
{
    bt_kv_check(&e->kv);
    CHECK_INT(bt_kv_available(&e->kv), e->plan.n_pages);
    CHECK_INT(log->used_sum + e->meter.bank.house_us, e->meter.bank.busy_us);
    bt_engine_close(e);
    log_release(log);
}

static void greedy_text(void)
{
    static event_log log;
    bt_engine *e = engine(&log, (bt_engine_options){.device = DEVICE});
    CHECK(strncmp(log.ready_event.u.ready.device, "cuda", 4) == 0);
    CHECK(log.ready_event.u.ready.can_park);
    bt_engine_request q = ask(1, once, N_ONCE, N_TEXT);
    CHECK_INT(submit(e, &log, &q), BT_OK);
    run_all(e);
    const seq_log *s = &log.request[0]->seq[0];
    CHECK(s->n_text >= (int32_t)strlen(PARK) && memcmp(s->text, PARK, strlen(PARK)) == 0);
    CHECK(log.request[0]->end.u.end.used_us > 0);
    done(e, &log);
}

/* The CPU's story, forced through the device: every logprob near the CPU's, and wherever the CPU's
 * two best are further apart than that, the same best. */
static void scores_are_the_cpu_s(void)
{
    static const struct {
        bt_kv_format kv;
        float bound;
    } row[] = {{BT_KV_F32, 2e-2f},
               {BT_KV_F16, 2e-2f},
               {BT_KV_BF16, 6e-2f},
               {BT_KV_INT8, 5e-2f},
               {BT_KV_FP8, 2e-1f}};
    for (size_t k = 0; k < sizeof row / sizeof *row; k++) {
        static event_log log[2];
        if (row[k].kv == BT_KV_BF16 && gpu.props.sm < 80) continue; // refused, and says so
        int32_t story[N_ONCE + N_TEXT];
        memcpy(story, once, sizeof once);
        for (int on = 0; on < 2; on++) {
            bt_engine *e = engine(&log[on], (bt_engine_options){.device = on ? DEVICE : "cpu",
                                                                .kv_format = row[k].kv});
            if (!on) {
                bt_engine_request q = ask(1, once, N_ONCE, N_TEXT);
                CHECK_INT(submit(e, &log[on], &q), BT_OK);
                run_all(e);
                memcpy(story + N_ONCE, log[on].request[0]->seq[0].token, N_TEXT * sizeof *story);
            }
            bt_engine_request q = ask(2, story, N_ONCE + N_TEXT, 1);
            q.params.prompt_logprobs = true;
            q.params.n_logprobs = 0;
            CHECK_INT(submit(e, &log[on], &q), BT_OK);
            run_all(e);
            bt_engine_close(e);
        }
        const request_log *want = log[0].request[1], *got = log[1].request[0];
        REQUIRE(got->n_prompt == N_ONCE + N_TEXT && want->n_prompt == got->n_prompt);
        float worst = 0;
        for (int32_t i = 1; i < got->n_prompt; i++) {
            float gap = fabsf(got->prompt_logprob[i] - want->prompt_logprob[i]);
            if (gap > worst || isnan(gap)) worst = gap;
        }
        CHECK(worst < row[k].bound);
        if (!(worst < row[k].bound))
            fprintf(stderr, "     kv %d: worst %g\n", (int)row[k].kv, (double)worst);
        log_release(&log[0]);
        log_release(&log[1]);
    }
}

static bt_engine_request story_request(uint64_t id)
{
    bt_engine_request q = ask(id, once, N_ONCE, 24);
    q.params.n_logprobs = 0;
    return q;
}

/* --deterministic: the same bits whatever shares the batch. */
static void deterministic_means_alone(void)
{
    static event_log log;
    bt_engine *e = engine(&log, (bt_engine_options){.device = DEVICE, .deterministic = true});
    bt_engine_request q = story_request(1);
    CHECK_INT(submit(e, &log, &q), BT_OK);
    run_all(e);
    for (int32_t i = 0; i < 5; i++) {
        int32_t prompt[60];
        for (int32_t k = 0; k < 20 + 9 * i; k++) prompt[k] = 3 + (k * 37 + i * 11) % 500;
        bt_engine_request other = ask((uint64_t)i + 10, prompt, 20 + 9 * i, 16 + i);
        other.params.temperature = 0.8f;
        CHECK_INT(submit(e, &log, &other), BT_OK);
        if (i != 2) continue;
        q = story_request(2);
        q.params.cache_prompt = false;
        CHECK_INT(submit(e, &log, &q), BT_OK);
    }
    run_all(e);
    const seq_log *alone = &log.request[0]->seq[0], *crowd = &log_find(&log, 2)->seq[0];
    CHECK_INT(crowd->n_tokens, alone->n_tokens);
    CHECK(memcmp(crowd->token, alone->token, 24 * sizeof *alone->token) == 0);
    CHECK(memcmp(crowd->logprob, alone->logprob, 24 * sizeof *alone->logprob) == 0);
    done(e, &log);
}

static void parking_loses_nothing_but_the_cache(void)
{
    static event_log log;
    bt_engine *e = engine(&log, (bt_engine_options){.device = DEVICE});
    bt_err err = {0};
    for (uint64_t i = 0; i < 50; i++) {
        CHECK_INT(bt_engine_park(e, &err), BT_OK);
        CHECK_INT(log.residency.u.residency.level, 1);
        CHECK(log.residency.u.residency.bytes > 0);
        if (i % 10) {
            CHECK_INT(bt_engine_wake(e, &err), BT_OK);
            continue;
        }
        bt_engine_request q = story_request(i + 1);
        CHECK_INT(submit(e, &log, &q), BT_OK);
        run_all(e); // wakes by itself
        const request_log *first = log.request[0], *r = log_find(&log, i + 1);
        CHECK_INT(r->seq[0].n_tokens, 24);
        CHECK(memcmp(r->seq[0].token, first->seq[0].token, 24 * sizeof(int32_t)) == 0);
        CHECK(memcmp(r->seq[0].logprob, first->seq[0].logprob, 24 * sizeof(float)) == 0);
    }
    CHECK_INT(log.n_residency, 100);
    done(e, &log);
}

int main(void)
{
    bt_err err = {0};
    if (bt_cuda_choose("auto", &gpu, &err) != BT_OK) {
        fprintf(stderr, "skipped: %s\n", err.msg);
        return 77;
    }
    bt_log_set_level(BT_LOG_WARN);
    RUN(greedy_text);
    RUN(scores_are_the_cpu_s);
    RUN(deterministic_means_alone);
    RUN(parking_loses_nothing_but_the_cache);
    return TEST_END();
}
