/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 120 */
#include "kernels/sample/sample.h"
#include "kernels/random.h"
#include "test.h"

enum { VOCAB_MAX = 5003 };

static bt_sample_req plain(void)
{
    return (bt_sample_req){.temperature = 1,
                           .top_p = 1,
                           .repeat_penalty = 1,
                           .seed = 1,
                           .n_logprobs = -1,
                           .forced = -1};
}

static void *scratch_new(int32_t vocab)
{
    void *p = bt_must(bt_aligned_alloc(64, bt_sample_scratch_bytes(vocab)));
    memset(p, 0xFF, bt_sample_scratch_bytes(vocab)); // NaN, should anything read before it writes
    return p;
}

/* Runs on each instruction set without allocating, and compares with the reference. */
static bt_sample_out check_req(const bt_sample_req *req, const float *x, int32_t vocab,
                               void *scratch)
{
    bt_sample_out want, got = {0};
    bt_sample_ref(req, x, vocab, &want);
    float *copy = bt_must(bt_malloc((size_t)vocab * sizeof *copy));
    memcpy(copy, x, (size_t)vocab * sizeof *copy);
    for (int isa = 0; isa_next(&isa);) {
        memset(&got, 0x55, sizeof got);
        bt_mem_guard_begin();
        bt_sample_run(req, x, vocab, scratch, &got);
        bt_mem_guard_end();
        CHECK_INT(got.bad, want.bad);
        CHECK_INT(got.token, want.token);
        if (got.logprob != want.logprob && (req->n_logprobs >= 0 || req->forced >= 0))
            CHECK_NEAR(got.logprob, want.logprob, 2e-6);
        CHECK_INT(got.n_top, want.n_top);
        for (int i = 0; i < want.n_top && i < got.n_top; i++) {
            CHECK_INT(got.top_token[i], want.top_token[i]);
            CHECK_NEAR(got.top_logprob[i], want.top_logprob[i], 2e-6);
        }
    }
    CHECK(memcmp(copy, x, (size_t)vocab * sizeof *copy) == 0); // the row is left as it was
    bt_free(copy);
    return got;
}

static void greedy_takes_the_lowest_of_equals(void)
{
    static const int32_t sizes[] = {1, 2, 15, 16, 17, 100, 256, 257, VOCAB_MAX};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int32_t n = sizes[s];
        float *x = random_floats((size_t)n, 1);
        void *scratch = scratch_new(n);
        bt_sample_req req = plain();
        req.temperature = 0;
        check_req(&req, x, n, scratch);
        x[n / 2] = x[n - 1] = 50;
        CHECK_INT(check_req(&req, x, n, scratch).token, n / 2);
        for (int32_t i = 0; i < n; i++) x[i] = -0.0f;
        x[n - 1] = 0.0f; // the two zeros are equal
        CHECK_INT(check_req(&req, x, n, scratch).token, 0);
        bt_free(x);
        bt_free(scratch);
    }
}

/* Thousands of draws with every combination of knobs, on rows from flat to peaked. */
static void draws_equal_the_reference(void)
{
    static const float temperature[] = {0.05f, 0.7f, 1, 2.5f, 100};
    static const int32_t top_k[] = {0, 1, 2, 40, 511, 512, 513, 2000, 4000};
    static const float top_p[] = {1, 0, 0.1f, 0.5f, 0.9f, 0.999f};
    static const float min_p[] = {0, 0.05f, 0.5f, 1};
    static const int32_t vocab[] = {7, 300, VOCAB_MAX};
    random_counter = 1;
    for (int round = 0; round < 900; round++) {
        int32_t n = vocab[round % 3];
        float *x = random_floats((size_t)n, 0.01f + 4 * (float)random_unit());
        if (round % 4 == 0) // many exact ties
            for (int32_t i = 0; i < n; i++) x[i] = floorf(x[i]);
        void *scratch = scratch_new(n);
        bt_sample_req req = plain();
        req.temperature = temperature[random_below(5)];
        req.top_k = top_k[random_below(9)];
        req.top_p = top_p[random_below(6)];
        req.min_p = min_p[random_below(4)];
        req.seed = (uint64_t)round;
        req.counter = (uint64_t)random_below(1000);
        req.n_logprobs = round % 3 - 1;
        check_req(&req, x, n, scratch);
        bt_free(x);
        bt_free(scratch);
    }
}

static void penalties_bias_and_bans(void)
{
    random_counter = 2;
    for (int round = 0; round < 300; round++) {
        enum { N = 400, M = 12 };
        float *x = random_floats(N, 3);
        bt_logit_bias bias[M];
        bt_token_count counts[M];
        int32_t ban[M];
        for (int i = 0; i < M; i++) {
            bias[i] = (bt_logit_bias){random_below(N + 20), 5 * random_normal()};
            counts[i] = (bt_token_count){i * 33, random_below(3), random_below(4)};
            ban[i] = random_below(N + 20);
        }
        bt_sample_req req = plain();
        req.temperature = round % 2 ? 0.0f : 0.9f;
        req.bias = bias;
        req.n_bias = round % 3 ? M : 0;
        req.counts = counts;
        req.n_counts = round % 5 ? M : 0;
        req.ban = ban;
        req.n_ban = round % 7 ? M : 0;
        req.repeat_penalty = round % 4 ? 1.3f : 1.0f;
        req.freq_penalty = 0.5f;
        req.presence_penalty = -0.3f;
        req.top_k = round % 11;
        req.seed = (uint64_t)round;
        req.n_logprobs = round % 22;
        req.vocab = round % 13 ? 0 : 390;
        void *scratch = scratch_new(N);
        bt_sample_out out = check_req(&req, x, N, scratch);
        for (int i = 0; i < req.n_ban; i++) CHECK(out.token != ban[i]);
        if (req.vocab) CHECK(out.token < req.vocab);
        bt_free(x);
        bt_free(scratch);
    }
}

/* The formulas by hand: 2 -> 2 / 2 - 0.5 * 3 - 0.25; -2 -> -2 * 2 - 0.5 * 3 - 0.25. */
static void penalty_formulas(void)
{
    float x[4] = {2, -2, -10, 0};
    bt_token_count counts[2] = {{0, 3, 3}, {1, 1, 3}};
    bt_sample_req req = plain();
    char *scratch = scratch_new(4);
    req.temperature = 0;
    req.counts = counts;
    req.n_counts = 2;
    req.repeat_penalty = 2;
    req.freq_penalty = 0.5f;
    req.presence_penalty = 0.25f;
    req.n_logprobs = 4;
    bt_sample_out out = check_req(&req, x, 4, scratch);
    CHECK_INT(out.token, 3);
    CHECK_NEAR(out.top_logprob[1] - out.top_logprob[0], -0.75, 1e-6);
    CHECK_NEAR(out.top_logprob[2] - out.top_logprob[0], -5.75, 1e-6);
    counts[0] = (bt_token_count){0, 3, 0}; // of the prompt only: 2 -> 2 / 2
    counts[1] = (bt_token_count){1, 0, 3}; // drawn, and left the window: -2 -> -2 - 0.5 * 3 - 0.25
    out = check_req(&req, x, 4, scratch);
    CHECK_INT(out.token, 0);
    CHECK_NEAR(out.top_logprob[1] - out.top_logprob[0], -1, 1e-6);
    CHECK_NEAR(out.top_logprob[2] - out.top_logprob[0], -4.75, 1e-6);
    bt_free(scratch);
}

static void sick_rows_are_bad(void)
{
    static const float sick[] = {NAN, INFINITY, -INFINITY};
    static const int32_t at[] = {0, 15, 16, 98, 99};
    void *scratch = scratch_new(100);
    for (int s = 0; s < 3; s++) {
        for (int i = 0; i < 5; i++) {
            float *x = random_floats(100, 1);
            bt_sample_req req = plain();
            req.temperature = (float)(i % 2);
            x[at[i]] = sick[s];
            CHECK(check_req(&req, x, 100, scratch).bad);
            req.vocab = at[i]; // a padding row may hold anything
            if (at[i]) CHECK(!check_req(&req, x, 100, scratch).bad);
            bt_free(x);
        }
    }
    float *x = random_floats(3, 1);
    int32_t ban[] = {2, 0, 1};
    bt_sample_req req = plain();
    req.ban = ban;
    req.n_ban = 3;
    for (req.temperature = 0; req.temperature <= 1; req.temperature += 1)
        CHECK(check_req(&req, x, 3, scratch).bad); // nothing is left to choose
    req.n_ban = 2;
    CHECK_INT(check_req(&req, x, 3, scratch).token, 1);
    bt_free(x);
    bt_free(scratch);
}

static void forced_reports_only(void)
{
    float *x = random_floats(300, 2);
    void *scratch = scratch_new(300);
    bt_sample_req req = plain();
    double sum = 0;
    req.n_logprobs = 3;
    for (req.forced = 0; req.forced < 300; req.forced++) {
        bt_sample_out out = check_req(&req, x, 300, scratch);
        CHECK_INT(out.token, req.forced);
        sum += exp((double)out.logprob);
    }
    CHECK_NEAR(sum, 1, 1e-5);
    req.vocab = 200;
    req.forced = 250;
    CHECK(check_req(&req, x, 300, scratch).logprob == -INFINITY);
    bt_free(x);
    bt_free(scratch);
}

/* Frequencies of 20,000 draws follow the softmax. */
static void draws_follow_the_distribution(void)
{
    enum { N = 6, DRAWS = 20000 };
    float x[N] = {0, 1, 2, -1, 0.5f, -30};
    int32_t seen[N] = {0};
    void *scratch = scratch_new(N);
    bt_sample_req req = plain();
    bt_sample_out out;
    double sum = 0;
    req.temperature = 0.8f;
    for (int i = 0; i < DRAWS; i++) {
        req.counter = (uint64_t)i;
        bt_sample_run(&req, x, N, scratch, &out);
        REQUIRE(out.token >= 0 && out.token < N);
        seen[out.token]++;
    }
    for (int i = 0; i < N; i++) sum += exp((double)x[i] / 0.8);
    for (int i = 0; i < N; i++)
        CHECK_NEAR((double)seen[i] / DRAWS, exp((double)x[i] / 0.8) / sum, 0.012);
    CHECK_INT(seen[5], 0);
    bt_free(scratch);
}

/* A temperature next to nothing is greedy, and overflows nothing. */
static void tiny_temperature(void)
{
    float *x = random_floats(1000, 5);
    void *scratch = scratch_new(1000);
    bt_sample_req req = plain();
    req.temperature = 0;
    int32_t best = check_req(&req, x, 1000, scratch).token;
    static const float tiny[] = {1e-6f, 1e-30f, 1e-42f};
    for (int i = 0; i < 3; i++) {
        req.temperature = tiny[i];
        req.top_p = 0.9f;
        CHECK_INT(check_req(&req, x, 1000, scratch).token, best);
    }
    bt_free(x);
    bt_free(scratch);
}

int main(void)
{
    RUN(greedy_takes_the_lowest_of_equals);
    RUN(draws_equal_the_reference);
    RUN(penalties_bias_and_bans);
    RUN(penalty_formulas);
    RUN(sick_rows_are_bad);
    RUN(forced_reports_only);
    RUN(draws_follow_the_distribution);
    RUN(tiny_temperature);
    return TEST_END();
}
