/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 300 */
#include "kernels/sample/sample.h"
#include "kernels/sample/sample_cuda.h"
#include "kernels/cuda_ops.h"

enum { ROWS_MAX = 16, LIST_CAP = 4096 };

static bt_sample_req plain(void)
{
    return (bt_sample_req){.temperature = 1,
                           .top_p = 1,
                           .repeat_penalty = 1,
                           .seed = 1,
                           .n_logprobs = -1,
                           .forced = -1};
}

/* The step's lists, as a backend would gather them. */
typedef struct lists {
    bt_logit_bias bias[LIST_CAP];
    bt_token_count counts[LIST_CAP];
    int32_t ban[LIST_CAP];
    int32_t n_bias, n_counts, n_ban;
    bt_cuda_sample_row row[ROWS_MAX];
} lists;

static void lists_add(lists *l, int32_t i, const bt_sample_req *r, int32_t vocab, int32_t mask)
{
    REQUIRE(i < ROWS_MAX && l->n_bias + r->n_bias <= LIST_CAP &&
            l->n_counts + r->n_counts <= LIST_CAP && l->n_ban + r->n_ban <= LIST_CAP);
    bt_cuda_sample_pack(r, vocab, l->n_bias, l->n_counts, l->n_ban, mask, &l->row[i]);
    if (r->n_bias) memcpy(l->bias + l->n_bias, r->bias, (size_t)r->n_bias * sizeof *r->bias);
    if (r->n_counts)
        memcpy(l->counts + l->n_counts, r->counts, (size_t)r->n_counts * sizeof *r->counts);
    if (r->n_ban) memcpy(l->ban + l->n_ban, r->ban, (size_t)r->n_ban * sizeof *r->ban);
    l->n_bias += r->n_bias;
    l->n_counts += r->n_counts;
    l->n_ban += r->n_ban;
}

/* Rows x[n][vocab] on the device; got[i] is what the engine would see. */
static void run_rows(const lists *l, const uint32_t *mask, size_t mask_words, const float *x,
                     int32_t n, int32_t vocab, int64_t ld, bt_sample_out *got)
{
    bt_cuda_sample_args a = {.ld = ld, .rows = n, .vocab = vocab};
    a.logits = cuda_put(x, (size_t)((n - 1) * ld + vocab) * 4);
    a.row = cuda_put(l->row, (size_t)n * sizeof *l->row);
    a.bias = cuda_put(l->bias, (size_t)l->n_bias * sizeof *l->bias);
    a.counts = cuda_put(l->counts, (size_t)l->n_counts * sizeof *l->counts);
    a.ban = cuda_put(l->ban, (size_t)l->n_ban * sizeof *l->ban);
    a.mask = cuda_put(mask, mask_words * 4);
    a.scratch = cuda_filled(bt_cuda_sample_scratch(n, vocab));
    a.pick = cuda_filled((size_t)n * sizeof *a.pick);
    a.top = cuda_filled((size_t)n * sizeof *a.top);
    a.next = cuda_filled((size_t)n * sizeof *a.next);
    CHECK_CUDA(bt_cuda_sample(&a, NULL));
    bt_cuda_sample_pick *pick = cuda_copy(a.pick, (size_t)n * sizeof *pick);
    bt_cuda_sample_top *top = cuda_copy(a.top, (size_t)n * sizeof *top);
    int32_t *next = cuda_copy(a.next, (size_t)n * sizeof *next);
    float *after = cuda_copy(a.logits, (size_t)((n - 1) * ld + vocab) * 4);
    CHECK(memcmp(after, x, (size_t)((n - 1) * ld + vocab) * 4) == 0); // the rows stay as they were
    for (int32_t i = 0; i < n; i++) {
        got[i] = (bt_sample_out){.token = pick[i].token,
                                 .logprob = pick[i].logprob,
                                 .n_top = pick[i].n_top,
                                 .bad = pick[i].bad != 0};
        REQUIRE(pick[i].n_top >= 0 && pick[i].n_top <= BT_TOP_LOGPROBS_MAX);
        memcpy(got[i].top_token, top[i].token, (size_t)pick[i].n_top * 4);
        memcpy(got[i].top_logprob, top[i].logprob, (size_t)pick[i].n_top * 4);
        CHECK_INT(next[i], pick[i].token < 0 ? 0 : pick[i].token);
    }
    bt_free(pick);
    bt_free(top);
    bt_free(next);
    bt_free(after);
    cuda_clear();
}

static void check_out(const bt_sample_req *req, const bt_sample_out *got, const bt_sample_out *want)
{
    CHECK_INT(got->bad, want->bad);
    CHECK_INT(got->token, want->token);
    if (got->logprob != want->logprob && (req->n_logprobs >= 0 || req->forced >= 0))
        CHECK_NEAR(got->logprob, want->logprob, 2e-6);
    CHECK_INT(got->n_top, want->n_top);
    for (int i = 0; i < want->n_top && i < got->n_top; i++) {
        CHECK_INT(got->top_token[i], want->top_token[i]);
        CHECK_NEAR(got->top_logprob[i], want->top_logprob[i], 2e-6);
    }
}

/* n requests of one vocabulary in one launch, each against the reference. */
static void check_rows(const bt_sample_req *req, const float *x, int32_t n, int32_t vocab)
{
    static lists l;
    bt_sample_out got[ROWS_MAX], want;
    memset(&l, 0, sizeof l);
    for (int32_t i = 0; i < n; i++) lists_add(&l, i, &req[i], vocab, -1);
    run_rows(&l, NULL, 0, x, n, vocab, vocab, got);
    for (int32_t i = 0; i < n; i++) {
        bt_sample_ref(&req[i], x + (int64_t)i * vocab, vocab, &want);
        check_out(&req[i], &got[i], &want);
    }
}

static bt_sample_out check_one(const bt_sample_req *req, const float *x, int32_t vocab)
{
    static lists l;
    bt_sample_out got, want;
    memset(&l, 0, sizeof l);
    lists_add(&l, 0, req, vocab, -1);
    run_rows(&l, NULL, 0, x, 1, vocab, vocab, &got);
    bt_sample_ref(req, x, vocab, &want);
    check_out(req, &got, &want);
    return got;
}

static void greedy_takes_the_lowest_of_equals(void)
{
    static const int32_t sizes[] = {1, 2, 31, 33, 1023, 1025, 5003};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int32_t n = sizes[s];
        float *x = random_floats((size_t)n, 1);
        bt_sample_req req = plain();
        req.temperature = 0;
        check_one(&req, x, n);
        x[n / 2] = x[n - 1] = 50;
        CHECK_INT(check_one(&req, x, n).token, n / 2);
        for (int32_t i = 0; i < n; i++) x[i] = -0.0f;
        x[n - 1] = 0.0f; // the two zeros are equal
        CHECK_INT(check_one(&req, x, n).token, 0);
        bt_free(x);
    }
}

/* Draws with every combination of knobs, on rows from flat to peaked, with and without ties. */
static void draws_equal_the_reference(void)
{
    static const float temperature[] = {0.05f, 0.7f, 1, 2.5f, 100};
    static const int32_t top_k[] = {0, 1, 2, 40, 1000, 1024, 1025, 2000, 4000};
    static const float top_p[] = {1, 0, 0.1f, 0.5f, 0.9f, 0.999f};
    static const float min_p[] = {0, 0.05f, 0.5f, 1};
    static const int32_t vocab[] = {7, 301, 1500, 5003};
    random_counter = 1;
    for (int round = 0; round < 24; round++) {
        int32_t n = vocab[round % 4];
        bt_sample_req req[ROWS_MAX];
        float *x = random_floats((size_t)(ROWS_MAX * n), 0.01f + 4 * (float)random_unit());
        if (round % 3 == 0) // many exact ties
            for (int32_t i = 0; i < ROWS_MAX * n; i++) x[i] = floorf(x[i]);
        for (int i = 0; i < ROWS_MAX; i++) {
            req[i] = plain();
            req[i].temperature = temperature[random_below(5)];
            req[i].top_k = top_k[random_below(9)];
            req[i].top_p = top_p[random_below(6)];
            req[i].min_p = min_p[random_below(4)];
            req[i].seed = (uint64_t)(round * 100 + i);
            req[i].counter = (uint64_t)random_below(1000);
            req[i].n_logprobs = i % 3 - 1;
        }
        check_rows(req, x, ROWS_MAX, n);
        bt_free(x);
    }
}

/* All logits equal: ties alone decide, far more of them than the list holds. */
static void nothing_but_ties(void)
{
    static const int32_t top_k[] = {0, 1, 1500, 2999};
    static const float top_p[] = {1, 0.3f, 0.9999f};
    float *x = bt_must(bt_calloc(12 * 3000, sizeof *x));
    bt_sample_req req[12];
    for (int i = 0; i < 12; i++) {
        req[i] = plain();
        req[i].top_k = top_k[i % 4];
        req[i].top_p = top_p[i / 4];
        req[i].seed = (uint64_t)i;
        req[i].n_logprobs = i % 2 ? 20 : 0;
    }
    check_rows(req, x, 12, 3000);
    bt_free(x);
}

static void penalties_bias_and_bans(void)
{
    enum { N = 400, M = 12 };
    static bt_logit_bias bias[ROWS_MAX][M];
    static bt_token_count counts[ROWS_MAX][M];
    static int32_t ban[ROWS_MAX][M];
    random_counter = 2;
    for (int round = 0; round < 10; round++) {
        bt_sample_req req[ROWS_MAX];
        float *x = random_floats(ROWS_MAX * N, 3);
        for (int r = 0; r < ROWS_MAX; r++) {
            int at = round * ROWS_MAX + r;
            for (int i = 0; i < M; i++) {
                /* Now and then the same token again. */
                bias[r][i] = (bt_logit_bias){i % 3 ? random_below(N + 20) : 7, 5 * random_normal()};
                counts[r][i] = (bt_token_count){i * 33 + (i > 0), random_below(3), random_below(4)};
                ban[r][i] = random_below(N + 20);
            }
            req[r] = plain();
            req[r].temperature = at % 2 ? 0.0f : 0.9f;
            req[r].bias = bias[r];
            req[r].n_bias = at % 3 ? M : 0;
            req[r].counts = counts[r];
            req[r].n_counts = at % 5 ? M : 0;
            req[r].ban = ban[r];
            req[r].n_ban = at % 7 ? M : 0;
            req[r].repeat_penalty = at % 4 ? 1.3f : 1.0f;
            req[r].freq_penalty = 0.5f;
            req[r].presence_penalty = -0.3f;
            req[r].top_k = at % 11;
            req[r].seed = (uint64_t)at;
            req[r].n_logprobs = at % 22;
            req[r].vocab = at % 13 ? 0 : 390;
        }
        check_rows(req, x, ROWS_MAX, N);
        bt_free(x);
    }
}

static void sick_rows_are_bad(void)
{
    static const float sick[] = {NAN, INFINITY, -INFINITY};
    static const int32_t at[] = {0, 15, 64, 98, 99};
    for (int s = 0; s < 3; s++) {
        for (int i = 0; i < 5; i++) {
            float *x = random_floats(100, 1);
            bt_sample_req req = plain();
            req.temperature = (float)(i % 2);
            req.n_logprobs = 2;
            x[at[i]] = sick[s];
            CHECK(check_one(&req, x, 100).bad);
            req.vocab = at[i]; // a padding row may hold anything
            if (at[i]) CHECK(!check_one(&req, x, 100).bad);
            bt_free(x);
        }
    }
    float *x = random_floats(3, 1);
    int32_t ban[] = {2, 0, 1};
    bt_sample_req req = plain();
    req.ban = ban;
    req.n_ban = 3;
    for (req.temperature = 0; req.temperature <= 1; req.temperature += 1)
        CHECK(check_one(&req, x, 3).bad); // nothing is left to choose
    req.n_ban = 2;
    CHECK_INT(check_one(&req, x, 3).token, 1);
    bt_logit_bias wild = {1, INFINITY};
    req.bias = &wild;
    req.n_bias = 1;
    req.n_ban = 0;
    static lists l;
    bt_sample_out got;
    memset(&l, 0, sizeof l);
    lists_add(&l, 0, &req, 3, -1);
    run_rows(&l, NULL, 0, x, 1, 3, 3, &got);
    CHECK(got.bad);
    CHECK_INT(got.token, -1);
    bt_free(x);
}

static void forced_reports_only(void)
{
    float *x = random_floats(ROWS_MAX * 300, 2);
    bt_sample_req req[ROWS_MAX];
    int32_t ban[] = {3};
    for (int i = 0; i < ROWS_MAX; i++) {
        req[i] = plain();
        req[i].n_logprobs = i % 2 ? 3 : -1;
        req[i].forced = i;
        req[i].ban = ban;
        req[i].n_ban = 1;
    }
    req[5].vocab = 200;
    req[5].forced = 250; // past the vocabulary: minus infinity
    check_rows(req, x, ROWS_MAX, 300);
    bt_free(x);
}

/* A mask is a ban of the tokens it leaves out; logprobs do not see it. */
static void masks(void)
{
    enum { N = 333, WORDS = (N + 31) / 32, ROWS = 6 };
    static lists l;
    static int32_t ban[ROWS][N];
    uint32_t mask[2 * ROWS * WORDS];
    bt_sample_req req[ROWS];
    bt_sample_out got[ROWS], want;
    float *x = random_floats(ROWS * N, 2);
    memset(&l, 0, sizeof l);
    for (int r = 0; r < ROWS; r++) {
        uint32_t *m = mask + (2 * r + 1) * WORDS; // with a gap, so that a wrong offset shows
        req[r] = plain();
        req[r].temperature = r % 2 ? 0 : 1.5f;
        req[r].seed = (uint64_t)r;
        req[r].n_logprobs = 4;
        for (int i = 0; i < WORDS; i++) {
            m[i] = r == 5 ? 0 : (uint32_t)bt_rng_u64(9, (uint64_t)(r * 100 + i));
            m[i - WORDS] = 0;
        }
        lists_add(&l, r, &req[r], N, (2 * r + 1) * WORDS);
        req[r].ban = ban[r];
        for (int32_t i = 0; i < N; i++)
            if (!(m[i / 32] >> i % 32 & 1)) ban[r][req[r].n_ban++] = i;
    }
    run_rows(&l, mask, 2 * ROWS * WORDS, x, ROWS, N, N, got);
    for (int r = 0; r < ROWS; r++) {
        bt_sample_ref(&req[r], x + r * N, N, &want);
        check_out(&req[r], &got[r], &want);
    }
    CHECK(got[5].bad); // nothing is allowed
    bt_free(x);
}

/* Padding rows are left alone; rows with a stride; a row's result is its own. */
static void batches_and_padding(void)
{
    enum { N = 1201, LD = 1204, ROWS = 5 };
    static lists l, alone;
    bt_sample_out got[ROWS], one;
    bt_sample_req req = plain();
    float *x = random_floats(ROWS * LD, 3);
    memset(&l, 0, sizeof l);
    req.top_p = 0.95f;
    req.n_logprobs = 1;
    for (int r = 0; r < ROWS; r++) {
        req.seed = (uint64_t)r;
        lists_add(&l, r, &req, N, -1);
    }
    memset(&l.row[2], 0, sizeof l.row[2]);
    run_rows(&l, NULL, 0, x, ROWS, N, LD, got);
    CHECK_INT(got[2].token, -1);
    CHECK(!got[2].bad);
    for (int r = 0; r < ROWS; r++) {
        if (r == 2) continue;
        memset(&alone, 0, sizeof alone);
        req.seed = (uint64_t)r;
        lists_add(&alone, 0, &req, N, -1);
        run_rows(&alone, NULL, 0, x + r * LD, 1, N, N, &one);
        CHECK_INT(one.token, got[r].token);
        CHECK(one.logprob == got[r].logprob && one.top_logprob[0] == got[r].top_logprob[0]);
    }
    bt_free(x);
}

/* Real sizes of vocabulary, and a row that starts where wide loads cannot. */
static void great_vocabularies(void)
{
    static const int32_t vocab[] = {32000, 151936, 262144};
    for (int i = 0; i < 3; i++) {
        int32_t n = vocab[i];
        float *x = random_floats((size_t)n, 2.5f);
        bt_sample_req req = plain();
        req.seed = (uint64_t)(i + 3);
        req.top_k = i == 0 ? 40 : 0;
        req.top_p = i == 2 ? 1 : 0.95f;
        req.n_logprobs = i == 1 ? 20 : -1;
        check_one(&req, x, n);
        bt_free(x);
    }
    enum { N = 2003 };
    static lists l;
    bt_sample_out got[2], want;
    bt_sample_req req = plain();
    float *x = random_floats(2 * N, 2);
    memset(&l, 0, sizeof l);
    req.top_k = 30;
    req.n_logprobs = 20;
    for (int r = 0; r < 2; r++) lists_add(&l, r, &req, N, -1);
    run_rows(&l, NULL, 0, x, 2, N, N, got); // row 1 starts at 4 * 2003 bytes
    for (int r = 0; r < 2; r++) {
        bt_sample_ref(&req, x + r * N, N, &want);
        check_out(&req, &got[r], &want);
    }
    bt_free(x);
}

/* Whoever adds or gathers first: the same bits. */
static void any_order_of_threads(void)
{
    enum { N = 3001, ROWS = 4 };
    static lists l;
    bt_sample_out first[ROWS], got[ROWS];
    float *x = random_floats(ROWS * N, 1);
    memset(&l, 0, sizeof l);
    for (int r = 0; r < ROWS; r++) { // by weight far down, by count far down, listed, all
        bt_sample_req req = plain();
        req.temperature = r == 0 ? 10 : 1;
        req.top_p = r == 0 ? 0.9f : 1;
        req.top_k = r == 1 ? 2000 : r == 2 ? 50 : 0;
        req.n_logprobs = 20;
        req.seed = (uint64_t)r;
        lists_add(&l, r, &req, N, -1);
    }
    for (int i = 0; cuda_orders_next(&i, 6);) {
        memset(got, 0, sizeof got);
        run_rows(&l, NULL, 0, x, ROWS, N, N, got);
        if (i == 1) memcpy(first, got, sizeof got);
        for (int r = 0; r < ROWS; r++) {
            CHECK_INT(got[r].token, first[r].token);
            CHECK(got[r].logprob == first[r].logprob);
            CHECK(memcmp(got[r].top_token, first[r].top_token, sizeof got[r].top_token) == 0);
            CHECK(memcmp(got[r].top_logprob, first[r].top_logprob, sizeof got[r].top_logprob) == 0);
        }
    }
    bt_free(x);
}

/* A temperature next to nothing is greedy, and overflows nothing. */
static void tiny_temperature(void)
{
    static const float tiny[] = {1e-6f, 1e-30f, 1e-42f};
    float *x = random_floats(1500, 5);
    bt_sample_req req = plain();
    req.temperature = 0;
    int32_t best = check_one(&req, x, 1500).token;
    for (int i = 0; i < 3; i++) {
        req.temperature = tiny[i];
        req.top_p = 0.9f;
        CHECK_INT(check_one(&req, x, 1500).token, best);
    }
    bt_free(x);
}

/* Frequencies of 3,200 draws follow the softmax. */
static void draws_follow_the_distribution(void)
{
    enum { N = 6, LAUNCHES = 200 };
    static const float logits[N] = {0, 1, 2, -1, 0.5f, -30};
    static lists l;
    float x[ROWS_MAX * N];
    int32_t seen[N] = {0};
    bt_sample_out got[ROWS_MAX];
    bt_sample_req req = plain();
    double sum = 0;
    req.temperature = 0.8f;
    for (int i = 0; i < ROWS_MAX * N; i++) x[i] = logits[i % N];
    for (int i = 0; i < LAUNCHES; i++) {
        memset(&l, 0, sizeof l);
        for (int r = 0; r < ROWS_MAX; r++) {
            req.counter = (uint64_t)(i * ROWS_MAX + r);
            lists_add(&l, r, &req, N, -1);
        }
        run_rows(&l, NULL, 0, x, ROWS_MAX, N, N, got);
        for (int r = 0; r < ROWS_MAX; r++) {
            REQUIRE(got[r].token >= 0 && got[r].token < N);
            seen[got[r].token]++;
        }
    }
    for (int i = 0; i < N; i++) sum += exp((double)logits[i] / 0.8);
    for (int i = 0; i < N; i++)
        CHECK_NEAR((double)seen[i] / (LAUNCHES * ROWS_MAX), exp((double)logits[i] / 0.8) / sum,
                   0.03);
    CHECK_INT(seen[5], 0);
}

static void shapes_are_refused(void)
{
    bt_cuda_sample_args a = {.ld = 10, .rows = 1, .vocab = 10};
    CHECK_INT(bt_cuda_sample(&a, NULL), cudaErrorInvalidValue);
    a.row = cuda_filled(sizeof *a.row);
    a.pick = cuda_filled(sizeof *a.pick);
    a.ld = 9;
    CHECK_INT(bt_cuda_sample(&a, NULL), cudaErrorInvalidValue);
    a.ld = a.vocab = BT_CUDA_SAMPLE_VOCAB_MAX + 1;
    CHECK_INT(bt_cuda_sample(&a, NULL), cudaErrorInvalidValue);
    cuda_clear();
}

int main(void)
{
    cuda_need_device();
    RUN(greedy_takes_the_lowest_of_equals);
    RUN(draws_equal_the_reference);
    RUN(nothing_but_ties);
    RUN(penalties_bias_and_bans);
    RUN(sick_rows_are_bad);
    RUN(forced_reports_only);
    RUN(masks);
    RUN(batches_and_padding);
    RUN(great_vocabularies);
    RUN(any_order_of_threads);
    RUN(tiny_temperature);
    RUN(draws_follow_the_distribution);
    RUN(shapes_are_refused);
    return TEST_END();
}
