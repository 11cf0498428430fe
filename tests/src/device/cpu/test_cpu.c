/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 120 */
#include "src/device/drive.h"
#include "kernels/cpu_isa.h"
#include "kernels/sample/sample.h"

static const bt_backend *const cpu = &bt_backend_cpu;

static bt_device_plan plan_of(int32_t threads, bt_kv_format kv, int32_t page_tokens)
{
    return (bt_device_plan){.threads = threads,
                            .page_tokens = page_tokens,
                            .n_pages = PAGES,
                            .ctx = CTX,
                            .rows_max = ROWS_MAX,
                            .seqs_max = SEQS_MAX,
                            .out_max = ROWS_MAX,
                            .kv_format = kv};
}

static bt_device *open_or_die(const tiny_model *m, const bt_device_plan *p)
{
    bt_device *d = NULL;
    bt_err err = {0};
    if (cpu->open(&m->recipe, &m->weights, p, NULL, NULL, &d, &err) != BT_OK)
        fprintf(stderr, "open: %s\n", err.msg);
    REQUIRE(d);
    return d;
}

static void step(bt_device *d, const tiny_model *m, sequence *const *seqs, const int32_t *rows,
                 int n, float *dst)
{
    drive_step(cpu, d, m, seqs, rows, n, dst);
}

static float *run_alone(bt_device *d, const tiny_model *m, sequence *s, int32_t chunk)
{
    return drive_alone(cpu, d, m, s, chunk);
}

static tiny_spec base_spec(void)
{
    return (tiny_spec){.layers = 2,
                       .hidden = 96,
                       .heads = 6,
                       .kv_heads = 2,
                       .head_dim = 16,
                       .ffn = 160,
                       .vocab = 301,
                       .style = BT_ROPE_INTERLEAVED,
                       .rope_dim = 16};
}

static void check_forward(const tiny_spec *s, bt_kv_format kv, int32_t page_tokens, double bound)
{
    tiny_model *m = tiny_new(s, 11);
    bt_device_plan p = plan_of(2, kv, page_tokens);
    bt_device *d = open_or_die(m, &p);
    sequence *q = sequence_new(m, 41, 3, 5);
    double *want = tiny_forward(m, q->token, q->len);
    float *got = run_alone(d, m, q, 32);
    double error = relative_error(got, want, (int64_t)q->len * s->vocab);
    CHECK(error < bound);
    if (!(error < bound))
        fprintf(stderr, "     formats %d %d %d style %d: error %g, bound %g\n", s->format[0],
                s->format[1], s->format[2], s->style, error, bound);
    bt_free(want);
    bt_free(got);
    bt_free(q);
    cpu->close(d);
    tiny_free(m);
}

/* Float formats: rounding only. Integer formats: activations of 8 bits, about half a percent a
 * matrix. */
static void forward_equals_the_definition(void)
{
    static const int32_t formats[][3] = {
        {BT_FORMAT_F32, BT_FORMAT_F32, BT_FORMAT_F32},
        {BT_FORMAT_F16, BT_FORMAT_F16, BT_FORMAT_F16},
        {BT_FORMAT_BF16, BT_FORMAT_F32, BT_FORMAT_BF16},
        {BT_FORMAT_Q8_0, BT_FORMAT_Q8_0, BT_FORMAT_Q8_0},
        {BT_FORMAT_Q4_0, BT_FORMAT_F16, BT_FORMAT_Q8_0}, // both kinds of activations in one
                                                         // operation
        {BT_FORMAT_Q4_0, BT_FORMAT_Q4_0, BT_FORMAT_Q4_0},
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        for (int style = BT_ROPE_NONE; style <= BT_ROPE_HALF; style++) {
            tiny_spec s = base_spec();
            memcpy(s.format, formats[i], sizeof s.format);
            s.style = (bt_rope_style)style;
            s.rope_dim = style == BT_ROPE_NONE ? 0 : style == BT_ROPE_HALF ? 8 : 16;
            s.bias = style == BT_ROPE_HALF;
            s.tied = i % 2 == 0;
            s.divisors = i == 0 && style != BT_ROPE_NONE;
            s.qk_norm = i == 1;
            check_forward(&s, BT_KV_F32, 16, i < 3 ? 2e-6 : 3e-2);
            check_forward(&s, BT_KV_F16, 32, i < 3 ? 1e-3 : 3e-2);
        }
    }
}

static void odd_shapes(void)
{
    tiny_spec s = base_spec();
    s.heads = s.kv_heads = 3; // no grouping, head_dim off the vector width
    s.head_dim = s.rope_dim = 20;
    s.hidden = 50;
    s.ffn = 77;
    s.vocab = 65;
    check_forward(&s, BT_KV_F32, 16, 2e-6);
    s.heads = 9;
    s.kv_heads = 1; // all heads share
    s.head_dim = 8;
    s.rope_dim = 4;
    s.layers = 1;
    s.style = BT_ROPE_HALF;
    check_forward(&s, BT_KV_F32, 32, 2e-6);
}

/* What each KV format costs against arithmetic in double. */
static void kv_formats(void)
{
    static const double bound[] = {[BT_KV_F16] = 1e-3,
                                   [BT_KV_F32] = 2e-6,
                                   [BT_KV_BF16] = 5e-3,
                                   [BT_KV_INT8] = 1e-2,
                                   [BT_KV_FP8] = 6e-2};
    tiny_spec s = base_spec();
    for (bt_kv_format f = BT_KV_F16; f <= BT_KV_FP8; f++) check_forward(&s, f, 16, bound[f]);
    s.head_dim = s.rope_dim = 20;
    for (bt_kv_format f = BT_KV_F16; f <= BT_KV_FP8; f++) check_forward(&s, f, 32, bound[f]);
}

/* A sequence's logits, bit for bit: whole, in chunks, token by token, and in a batch with others.
 */
static void check_batch_independence(const tiny_model *m, int32_t threads, const float *want)
{
    bt_device_plan p = plan_of(threads, BT_KV_F16, 16);
    bt_device *d = open_or_die(m, &p);
    size_t vocab = (size_t)m->recipe.vocab;
    sequence *s[3] = {sequence_new(m, 70, 0, 1), sequence_new(m, 52, 80, 2),
                      sequence_new(m, 33, 160, 3)};
    static const int32_t chunks[] = {96, 17, 5, 1};
    for (int i = 0; i < 4; i++) {
        float *got = run_alone(d, m, s[0], chunks[i]);
        CHECK(memcmp(got, want, (size_t)s[0]->len * vocab * sizeof *got) == 0);
        bt_free(got);
    }
    /* Together: 3 rows of one, 2 of another, 1 of the third, in every step. */
    float *got = bt_must(bt_malloc(ROWS_MAX * vocab * sizeof *got));
    for (int i = 0; i < 3; i++) s[i]->done = 0;
    while (s[0]->done + 3 <= 70 && s[1]->done + 2 <= 52 && s[2]->done < 33) {
        sequence *order[3] = {s[2], s[0], s[1]};
        int32_t rows[3] = {1, 3, 2}, at = s[0]->done;
        step(d, m, order, rows, 3, got);
        CHECK(memcmp(got + vocab, want + (size_t)at * vocab, 3 * vocab * sizeof *got) == 0);
    }
    bt_free(got);
    for (int i = 0; i < 3; i++) bt_free(s[i]);
    cpu->close(d);
}

static void batch_chunks_and_threads_change_nothing(void)
{
    for (int f = 0; f < 3; f++) {
        static const int32_t formats[3] = {BT_FORMAT_F16, BT_FORMAT_Q8_0, BT_FORMAT_Q4_0};
        tiny_spec s = base_spec();
        s.hidden = 128;
        s.ffn = 352;
        s.vocab = 515;
        for (int i = 0; i < 3; i++) s.format[i] = formats[f];
        tiny_model *m = tiny_new(&s, 23);
        bt_device_plan p = plan_of(1, BT_KV_F16, 16);
        bt_device *d = open_or_die(m, &p);
        sequence *q = sequence_new(m, 70, 0, 1);
        float *want = run_alone(d, m, q, 70);
        for (int32_t threads = 1; threads <= 3; threads++)
            check_batch_independence(m, threads, want);
        bt_free(q);
        bt_free(want);
        cpu->close(d);
        tiny_free(m);
    }
}

/* Past two spans few long sequences are shared by spans; that must not show. The MLP is wide enough
 * for steps of one row to be worth all threads. */
static void long_context_is_the_same_on_any_threads(void)
{
    tiny_spec s = base_spec();
    s.layers = 1;
    s.hidden = 512;
    s.ffn = 2816;
    s.vocab = 40;
    tiny_model *m = tiny_new(&s, 29);
    size_t bytes = (size_t)CTX * 40 * sizeof(float);
    float *want = NULL;
    for (int32_t threads = 1; threads <= 4; threads++) {
        bt_device_plan p = plan_of(threads, BT_KV_F16, 16);
        bt_device *d = open_or_die(m, &p);
        sequence *q = sequence_new(m, CTX, 0, 4);
        q->len = CTX - 20;
        float *got = run_alone(d, m, q, 96);
        got = bt_realloc(got, bytes);
        REQUIRE(got);
        for (q->len = CTX; q->done < CTX;) { // then token by token
            int32_t one = 1;
            step(d, m, &q, &one, 1, got + (size_t)q->done * 40);
        }
        if (want) CHECK(memcmp(got, want, bytes) == 0);
        if (!want)
            want = got;
        else
            bt_free(got);
        bt_free(q);
        cpu->close(d);
    }
    bt_free(want);
    tiny_free(m);
}

static void sampling_many_rows_equals_each_alone(void)
{
    enum { N = 40 };
    tiny_spec s = base_spec();
    s.vocab = 3001;
    tiny_model *m = tiny_new(&s, 31);
    bt_device_plan p = plan_of(3, BT_KV_F16, 16);
    bt_device *d = open_or_die(m, &p);
    sequence *q = sequence_new(m, N, 0, 8);
    int32_t pos[N], row_seq[N] = {0}, out_row[N];
    for (int32_t i = 0; i < N; i++) pos[i] = out_row[i] = i;
    bt_batch_seq part = {q->page, 0, N, N};
    bt_batch b = {N, 1, N, q->token, pos, row_seq, &part, out_row};
    bt_sample_req reqs[N];
    bt_sample_out outs[N], alone;
    float *logits = bt_must(bt_malloc((size_t)s.vocab * sizeof *logits));
    void *scratch = bt_must(bt_aligned_alloc(64, bt_sample_scratch_bytes(s.vocab)));
    uint64_t busy;
    for (int32_t i = 0; i < N; i++)
        reqs[i] = (bt_sample_req){.temperature = i % 4 ? 0.8f : 0.0f,
                                  .top_p = 0.9f,
                                  .top_k = i % 3 ? 0 : 50,
                                  .repeat_penalty = 1,
                                  .seed = (uint64_t)i,
                                  .n_logprobs = i % 5,
                                  .forced = -1};
    REQUIRE(cpu->step_begin(d, &b, NULL) == BT_OK);
    cpu->embed(d, NULL);
    for (int32_t l = 0; l < s.layers; l++) {
        cpu->attn_in(d, l, NULL);
        cpu->attention(d, l, NULL);
        cpu->attn_out(d, l, NULL);
        cpu->mlp(d, l, NULL);
    }
    cpu->head(d, NULL);
    CHECK_INT(cpu->sample(d, reqs, outs, NULL), BT_OK);
    CHECK_INT(cpu->step_end(d, &busy, NULL), BT_OK);
    for (int32_t i = 0; i < N; i++) {
        REQUIRE(cpu->logits(d, i, logits, NULL) == BT_OK);
        bt_sample_run(&reqs[i], logits, s.vocab, scratch, &alone);
        CHECK_INT(outs[i].token, alone.token);
        CHECK_NEAR(outs[i].logprob, alone.logprob, 0);
        CHECK_INT(outs[i].bad, false);
        CHECK_INT(outs[i].n_top, i % 5);
    }
    CHECK_INT(cpu->logits(d, N, logits, NULL), BT_EINVAL);
    bt_free(logits);
    bt_free(scratch);
    bt_free(q);
    cpu->close(d);
    tiny_free(m);
}

static void only_wanted_rows_get_logits(void)
{
    tiny_spec s = base_spec();
    tiny_model *m = tiny_new(&s, 37);
    bt_device_plan p = plan_of(2, BT_KV_F32, 16);
    bt_device *d = open_or_die(m, &p);
    sequence *q = sequence_new(m, 20, 0, 8);
    float *all = run_alone(d, m, q, 20);
    float *row = bt_must(bt_malloc((size_t)s.vocab * sizeof *row));
    int32_t pos[20], row_seq[20] = {0}, out_row[2] = {4, 19};
    for (int32_t i = 0; i < 20; i++) pos[i] = i;
    bt_batch_seq part = {q->page, 0, 20, 20};
    for (int32_t n_out = 0; n_out <= 2; n_out += 2) {
        bt_batch b = {20, 1, n_out, q->token, pos, row_seq, &part, out_row};
        uint64_t busy;
        REQUIRE(cpu->step_begin(d, &b, NULL) == BT_OK);
        cpu->embed(d, NULL);
        for (int32_t l = 0; l < s.layers; l++) {
            cpu->attn_in(d, l, NULL);
            cpu->attention(d, l, NULL);
            cpu->attn_out(d, l, NULL);
            cpu->mlp(d, l, NULL);
        }
        cpu->head(d, NULL);
        if (n_out == 0) CHECK_INT(cpu->sample(d, NULL, NULL, NULL), BT_OK); // nothing to sample
        cpu->step_end(d, &busy, NULL);
        for (int32_t i = 0; i < n_out; i++) {
            CHECK_INT(cpu->logits(d, i, row, NULL), BT_OK);
            CHECK(memcmp(row, all + (int64_t)out_row[i] * s.vocab, (size_t)s.vocab * 4) == 0);
        }
        CHECK_INT(cpu->logits(d, n_out, row, NULL), BT_EINVAL);
    }
    bt_free(all);
    bt_free(row);
    bt_free(q);
    cpu->close(d);
    tiny_free(m);
}

static void open_refuses_by_name(void)
{
    tiny_spec s = base_spec();
    tiny_model *m = tiny_new(&s, 41);
    bt_device_plan p = plan_of(1, BT_KV_F16, 16);
    bt_weight *w = &m->weights.layers[1].w_down;
    bt_weight good = *w;
    w->format = BT_FORMAT_Q8_1;
    drive_refused(cpu, m, &p, BT_EUNSUPPORTED, "blk.1.ffn_down.weight is Q8_1", "Q6_K");
    w->format = 77;
    drive_refused(cpu, m, &p, BT_EUNSUPPORTED, "blk.1.ffn_down.weight", "unknown format");
    w->format = BT_FORMAT_Q8_0;
    w->cols = 161;
    drive_refused(cpu, m, &p, BT_EUNSUPPORTED, "rows of 161", "Q8_0");
    *w = good;
    w->data = NULL;
    drive_refused(cpu, m, &p, BT_EFORMAT, "blk.1.ffn_down.weight", "missing");
    *w = good;
    m->weights.embed.format = BT_FORMAT_I8;
    drive_refused(cpu, m, &p, BT_EUNSUPPORTED, "token_embd.weight is I8", "F16");
    m->weights.embed.format = BT_FORMAT_F32;
    m->weights.head.format = BT_FORMAT_F64;
    drive_refused(cpu, m, &p, BT_EUNSUPPORTED, "output.weight is F64", "F16");
    m->weights.head.format = BT_FORMAT_F32;
    p.page_tokens = 24;
    drive_refused(cpu, m, &p, BT_EINVAL, "plan", "CPU");
    p = plan_of(1, BT_KV_F16, 16);
    m->recipe.layer[0].head_dim = 512;
    drive_refused(cpu, m, &p, BT_EUNSUPPORTED, "512", "256");
    m->recipe.layer[0].head_dim = m->recipe.layer[1].head_dim;
    m->recipe.layer[1].n_kv_heads = 1;
    drive_refused(cpu, m, &p, BT_EUNSUPPORTED, "layer 1 has other heads", "the CPU");
    tiny_free(m);
}

static void steps_refuse_bad_batches(void)
{
    tiny_spec s = base_spec();
    tiny_model *m = tiny_new(&s, 43);
    bt_device_plan p = plan_of(1, BT_KV_F16, 16);
    bt_device *d = open_or_die(m, &p);
    for (int wrong = 0; wrong < 13; wrong++) {
        int32_t token[4] = {1, 2, 3, 4}, pos[4] = {0, 1, 2, 0}, row_seq[4] = {0, 0, 0, 1};
        int32_t out_row[2] = {2, 3}, pages_a[1] = {5}, pages_b[1] = {6};
        bt_batch_seq part[2] = {{pages_a, 0, 3, 3}, {pages_b, 3, 1, 1}};
        bt_batch b = {4, 2, 2, token, pos, row_seq, part, out_row};
        switch (wrong) {
        case 0: token[2] = s.vocab; break;
        case 1: token[0] = -1; break;
        case 2: pos[1] = 2; break;
        case 3: row_seq[3] = 0; break;
        case 4: pages_b[0] = PAGES; break;
        case 5: pages_a[0] = -1; break;
        case 6: part[1].kv_len = CTX + 1; break;
        case 7: part[0].kv_len = 2; break;
        case 8: b.n_rows = 3; break;
        case 9: out_row[0] = 3; break;
        case 10: out_row[1] = 4; break;
        case 11: b.n_rows = ROWS_MAX + 1; break;
        case 12: part[1].first_row = 2; break;
        default: break;
        }
        bt_err err = {0};
        CHECK_INT(cpu->step_begin(d, &b, &err), BT_EINVAL);
        CHECK(err.msg[0] != 0);
    }
    cpu->close(d);
    tiny_free(m);
}

typedef struct told {
    uint64_t done, total;
    int calls;
    bool orderly;
} told;

static void on_progress(void *ud, uint64_t done, uint64_t total)
{
    told *t = ud;
    t->orderly = t->orderly && done >= t->done && done <= total;
    t->done = done;
    t->total = total;
    t->calls++;
}

static void loading_tells_progress_and_takes_what_it_said(void)
{
    tiny_spec s = base_spec();
    tiny_model *m = tiny_new(&s, 47);
    bt_device_plan p = plan_of(2, BT_KV_F16, 16);
    uint64_t weights, kv, scratch, twice;
    cpu->bytes(&m->recipe, &m->weights, &p, &weights, &kv, &scratch);
    uint64_t elements = 2ull * (96 * 96 * 2 + 32 * 96 * 2 + 3 * 96 * 160) + 301 * 96;
    CHECK(weights >= elements * 4 && weights < elements * 5);
    CHECK(kv >= 2ull * PAGES * 16 * 2 * 16 * 2 * 2 && kv < 3ull * PAGES * 16 * 2 * 16 * 2 * 2);
    p.n_pages *= 2;
    cpu->bytes(&m->recipe, &m->weights, &p, &weights, &twice, &scratch);
    CHECK_INT(twice, 2 * kv);
    told t = {.orderly = true};
    bt_device *d = NULL;
    REQUIRE(cpu->open(&m->recipe, &m->weights, &p, on_progress, &t, &d, NULL) == BT_OK);
    CHECK(t.orderly && t.calls >= 2);
    CHECK_INT(t.done, elements * 4);
    CHECK_INT(t.total, elements * 4);
    cpu->close(d);
    cpu->close(NULL);
    tiny_free(m);
}

/* Each allocation of open() fails once: it says so, leaks nothing, and the next try works. */
static void open_survives_failing_allocations(void)
{
    tiny_spec s = base_spec();
    tiny_model *m = tiny_new(&s, 53);
    bt_device_plan p = plan_of(2, BT_KV_F16, 16);
    for (long n = 1;; n++) {
        bt_device *d = NULL;
        bt_err err = {0};
        bt_mem_fail_at(n);
        bt_status rc = cpu->open(&m->recipe, &m->weights, &p, NULL, NULL, &d, &err);
        bool failed = bt_mem_failed();
        bt_mem_fail_at(0);
        if (failed) {
            CHECK_INT(rc, BT_ENOMEM);
            CHECK(!d && err.msg[0] != 0);
            continue;
        }
        CHECK_INT(rc, BT_OK);
        CHECK(n > 6);
        cpu->close(d);
        break;
    }
    tiny_free(m);
}

/* Instruction sets agree as far as float formats can; the chosen one is used from open on. */
static void every_isa_runs_the_model(void)
{
    static const char *const isa[] = {"generic", "avx2", "avx512"};
    for (int i = 0; i < 3; i++) {
        if (!bt_isa_force(isa[i])) continue;
        tiny_spec s = base_spec();
        check_forward(&s, BT_KV_F32, 16, 2e-6);
        s.format[0] = s.format[1] = s.format[2] = BT_FORMAT_Q8_0;
        check_forward(&s, BT_KV_F16, 16, 3e-2);
    }
    bt_isa_force(NULL);
}

int main(void)
{
    RUN(forward_equals_the_definition);
    RUN(odd_shapes);
    RUN(kv_formats);
    RUN(every_isa_runs_the_model);
    RUN(batch_chunks_and_threads_change_nothing);
    RUN(long_context_is_the_same_on_any_threads);
    RUN(sampling_many_rows_equals_each_alone);
    RUN(only_wanted_rows_get_logits);
    RUN(open_refuses_by_name);
    RUN(steps_refuse_bad_batches);
    RUN(loading_tells_progress_and_takes_what_it_said);
    RUN(open_survives_failing_allocations);
    return TEST_END();
}
