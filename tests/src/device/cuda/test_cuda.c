/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 900 */
/* test_cuda.c - the CUDA backend against the CPU backend, on a GPU or on the emulated device: the
 * same program. */
#include "base/assert.h"
#include "base/log.h"
#include "device/cuda/cuda_probe.h"
#include "src/device/drive.h"
#include "kernels/sample/sample.h"
#include <cuda_runtime_api.h>
#ifdef BT_EMULATED
#include "emu.h"
#endif

static const bt_backend *const cpu = &bt_backend_cpu, *const cuda = &bt_backend_cuda;
static bt_cuda_found gpu;

static bt_device_plan plan_of(bt_kv_format kv, int32_t page_tokens)
{
    return (bt_device_plan){.threads = 1,
                            .page_tokens = page_tokens,
                            .n_pages = PAGES,
                            .ctx = 128,
                            .rows_max = 40,
                            .seqs_max = SEQS_MAX,
                            .out_max = 40,
                            .kv_format = kv,
                            .ordinal = gpu.ordinal,
                            .keep_host = true};
}

static bt_device *open_on(const bt_backend *be, const tiny_model *m, const bt_device_plan *p)
{
    bt_device *d = NULL;
    bt_err err = {0};
    if (be->open(&m->recipe, &m->weights, p, NULL, NULL, &d, &err) != BT_OK)
        fprintf(stderr, "open: %s\n", err.msg);
    REQUIRE(d);
    return d;
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

static double error_of(const float *got, const float *want, int64_t n)
{
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        diff += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        norm += (double)want[i] * (double)want[i];
    }
    return sqrt(diff / norm);
}

/* The same tokens forced through both: a prompt in two chunks, then one by one. */
static float *teacher_forced(const bt_backend *be, bt_device *d, const tiny_model *m, sequence *s)
{
    size_t vocab = (size_t)m->recipe.vocab;
    float *logits = bt_must(bt_malloc((size_t)s->len * vocab * sizeof *logits));
    static const int32_t chunk[] = {17, 12, 1};
    s->done = 0;
    for (int i = 0; s->done < s->len; i++) {
        int32_t rows = chunk[i < 2 ? i : 2], left = s->len - s->done;
        if (rows > left) rows = left;
        drive_step(be, d, m, &s, &rows, 1, logits + (size_t)s->done * vocab);
    }
    return logits;
}

static int32_t best_of(const float *logits, int32_t n, float *gap)
{
    int32_t best = 0;
    float second = -INFINITY;
    for (int32_t i = 1; i < n; i++) {
        if (logits[i] > logits[best]) {
            second = logits[best];
            best = i;
        } else {
            second = fmaxf(second, logits[i]);
        }
    }
    *gap = logits[best] - second;
    return best;
}

/* Greedy ids are equal wherever the reference's two best are further apart than what two logits may
 * be off, each by five times the bound on their mean; some rows must be so. */
static void check_greedy(const float *got, const float *want, int32_t rows, int32_t vocab,
                         double bound)
{
    double norm = 0;
    int decided = 0;
    for (int64_t i = 0; i < (int64_t)rows * vocab; i++) norm += (double)want[i] * (double)want[i];
    double apart = 2 * 5 * bound * sqrt(norm / ((double)rows * vocab));
    for (int32_t r = 0; r < rows; r++) {
        float gap, other;
        int32_t id = best_of(want + (size_t)r * (size_t)vocab, vocab, &gap);
        if (!((double)gap > apart)) continue;
        decided++;
        CHECK_INT(best_of(got + (size_t)r * (size_t)vocab, vocab, &other), id);
    }
    CHECK(decided > rows / 8);
}

static void check_against_cpu(const tiny_spec *s, bt_kv_format kv, int32_t page_tokens,
                              double bound)
{
    tiny_model *m = tiny_new(s, 11);
    bt_device_plan p = plan_of(kv, page_tokens);
    bt_device *a = open_on(cpu, m, &p), *b = open_on(cuda, m, &p);
    sequence *q = sequence_new(m, 34, 3, 5);
    float *want = teacher_forced(cpu, a, m, q), *got = teacher_forced(cuda, b, m, q);
    double error = error_of(got, want, (int64_t)q->len * s->vocab);
    CHECK(error < bound);
    check_greedy(got, want, q->len, s->vocab, bound);
    if (!(error < bound))
        fprintf(stderr, "     formats %d %d %d kv %d: error %g, bound %g\n", s->format[0],
                s->format[1], s->format[2], (int)kv, error, bound);
    bt_free(want);
    bt_free(got);
    bt_free(q);
    cpu->close(a);
    cuda->close(b);
    tiny_free(m);
}

/* Formats whose activations are 8 bits on both, on neither, or on the CPU alone (INT8G, INT4G).
 * Float formats on tensor cores: activations of 11 bits. */
static void every_weight_format(void)
{
    static const struct {
        int32_t format;
        double bound;
    } row[] = {{BT_FORMAT_F32, 1e-5},  {BT_FORMAT_F16, 2e-3},  {BT_FORMAT_BF16, 8e-3},
               {BT_FORMAT_Q8_0, 2e-3}, {BT_FORMAT_Q4_0, 2e-3}, {BT_FORMAT_Q4_K, 2e-3},
               {BT_FORMAT_Q5_K, 2e-3}, {BT_FORMAT_Q6_K, 2e-3}, {BT_FORMAT_INT8G, 3e-2},
               {BT_FORMAT_INT4G, 3e-2}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        tiny_spec s = base_spec();
        s.hidden = s.ffn = 256;
        s.heads = 8;
        s.head_dim = 32;
        s.rope_dim = 32;
        for (int f = 0; f < 3; f++) s.format[f] = row[i].format;
        s.tied = i % 2 == 0;
        s.bias = i % 3 == 0;
        s.style = i % 2 ? BT_ROPE_HALF : BT_ROPE_INTERLEAVED;
        check_against_cpu(&s, BT_KV_F32, 16, row[i].bound);
    }
}

static void every_kv_format(void)
{
    static const struct {
        bt_kv_format kv;
        double bound;
    } row[] = {{BT_KV_F32, 1e-5},
               {BT_KV_F16, 3e-3},
               {BT_KV_BF16, 2e-2},
               {BT_KV_INT8, 5e-3},
               {BT_KV_FP8, 1e-2}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        for (int32_t page_tokens = 16; page_tokens <= 32; page_tokens += 16) {
            tiny_spec s = base_spec();
            if (row[i].kv == BT_KV_BF16 && gpu.props.sm < 80) continue; // refused, and says so
            check_against_cpu(&s, row[i].kv, page_tokens, row[i].bound);
        }
}

/* Formats that differ within a layer (files of mixed quantization), odd widths, no rotation.
 * Between float and integer formats the last bits of a float decide which way an activation is
 * rounded to 8 bits, so one bound is wide. */
static void mixed_formats_and_odd_shapes(void)
{
    tiny_spec s = base_spec();
    s.format[0] = BT_FORMAT_Q4_0;
    s.format[1] = BT_FORMAT_F16;
    s.format[2] = BT_FORMAT_Q8_0;
    check_against_cpu(&s, BT_KV_F32, 16, 2e-2);
    s = base_spec();
    s.heads = s.kv_heads = 3;
    s.head_dim = s.rope_dim = 20;
    s.hidden = 50;
    s.ffn = 77;
    s.vocab = 65;
    check_against_cpu(&s, BT_KV_F32, 16, 1e-5);
    s.qk_norm = true;
    check_against_cpu(&s, BT_KV_F32, 16, 1e-5);
    s.style = BT_ROPE_NONE;
    s.rope_dim = 0;
    check_against_cpu(&s, BT_KV_F32, 32, 1e-5);
}

/* Several sequences at different places in one step, decodes beside prompts; then decodes alone,
 * which run as graphs of several buckets. Each sequence's logits stay near its own alone. */
static void batches_are_near_each_alone(void)
{
    tiny_spec s = base_spec();
    for (int f = 0; f < 3; f++) s.format[f] = BT_FORMAT_Q8_0;
    tiny_model *m = tiny_new(&s, 13);
    size_t vocab = (size_t)s.vocab;
    for (int deterministic = 0; deterministic < 2; deterministic++) {
        bt_device_plan p = plan_of(BT_KV_F16, 16);
        p.deterministic = deterministic != 0;
        bt_device *d = open_on(cuda, m, &p);
        sequence *q[3];
        float *alone[3], *got = bt_must(bt_malloc(40 * vocab * sizeof *got));
        for (int i = 0; i < 3; i++) {
            q[i] = sequence_new(m, 40, 80 * i, (uint64_t)i + 1);
            alone[i] = drive_alone(cuda, d, m, q[i], 7);
            q[i]->done = 0;
        }
        static const int32_t plan[][3] = {{9, 5, 0}, {1, 7, 3}, {4, 1, 1}, {1, 1, 1},
                                          {1, 1, 1}, {1, 0, 1}, {0, 1, 0}, {1, 1, 1}};
        for (size_t t = 0; t < sizeof plan / sizeof *plan; t++) {
            sequence *in[3];
            int32_t rows[3], from[3], who[3], n = 0, row = 0;
            for (int i = 0; i < 3; i++)
                if (plan[t][i]) {
                    who[n] = i;
                    from[n] = q[i]->done;
                    rows[n] = plan[t][i];
                    in[n++] = q[i];
                }
            drive_step(cuda, d, m, in, rows, n, got);
            for (int i = 0; i < n; i++) {
                const float *want = alone[who[i]] + (size_t)from[i] * vocab;
                const float *mine = got + (size_t)row * vocab;
                size_t count = (size_t)rows[i] * vocab;
                if (deterministic)
                    CHECK(memcmp(mine, want, count * sizeof *want) == 0);
                else
                    CHECK(error_of(mine, want, (int64_t)count) < 1e-3);
                row += rows[i];
            }
        }
        for (int i = 0; i < 3; i++) {
            bt_free(q[i]);
            bt_free(alone[i]);
        }
        bt_free(got);
        cuda->close(d);
    }
    tiny_free(m);
}

/* One decode step of `n` sequences through the whole table, sampling included; not ended. */
static void launch(bt_device *d, const tiny_model *m, const bt_batch *b, const bt_sample_req *reqs,
                   bt_sample_out *outs)
{
    bt_err err = {0};
    REQUIRE(cuda->step_begin(d, b, &err) == BT_OK);
    REQUIRE(cuda->embed(d, &err) == BT_OK);
    for (int32_t l = 0; l < m->recipe.n_layers; l++) {
        REQUIRE(cuda->attn_in(d, l, &err) == BT_OK);
        REQUIRE(cuda->attention(d, l, &err) == BT_OK);
        REQUIRE(cuda->attn_out(d, l, &err) == BT_OK);
        REQUIRE(cuda->mlp(d, l, &err) == BT_OK);
    }
    REQUIRE(cuda->head(d, &err) == BT_OK);
    REQUIRE(cuda->sample(d, reqs, outs, &err) == BT_OK);
    REQUIRE(cuda->step_submit(d, &err) == BT_OK);
}

/* Decoding two sequences, greedy and drawn, with the host one step behind or not: the same tokens.
 */
static void steps_in_flight_draw_the_same(void)
{
    enum { N = 2, STEPS = 20 };
    tiny_spec s = base_spec();
    tiny_model *m = tiny_new(&s, 17);
    bt_device_plan p = plan_of(BT_KV_F16, 16);
    bt_device *d = open_on(cuda, m, &p);
    int32_t drawn[2][STEPS][N];
    for (int ahead = 0; ahead < 2; ahead++) {
        sequence *q[N] = {sequence_new(m, 1, 0, 3), sequence_new(m, 1, 90, 4)};
        int32_t token[STEPS + 1][N], pos[N], row_seq[N] = {0, 1}, out_row[N] = {0, 1};
        bt_sample_req reqs[N];
        bt_sample_out outs[STEPS][N];
        uint64_t busy;
        for (int i = 0; i < N; i++) {
            reqs[i] = (bt_sample_req){
                .top_p = 1, .repeat_penalty = 1, .n_logprobs = 3, .forced = -1, .seed = 5};
            reqs[i].temperature = i ? 0.7f : 0;
            token[0][i] = q[i]->token[0];
        }
        for (int32_t t = 0; t < STEPS; t++) {
            bt_batch_seq part[N];
            for (int i = 0; i < N; i++) {
                pos[i] = t;
                reqs[i].counter = (uint64_t)t;
                part[i] = (bt_batch_seq){q[i]->page, i, 1, t + 1};
                if (t > 0) token[t][i] = ahead ? -(i + 1) : outs[t - 1][i].token;
            }
            bt_batch b = {N, N, N, token[t], pos, row_seq, part, out_row};
            launch(d, m, &b, reqs, outs[t]);
            if (!ahead || t > 0) REQUIRE(cuda->step_end(d, &busy, NULL) == BT_OK);
        }
        if (ahead) REQUIRE(cuda->step_end(d, &busy, NULL) == BT_OK);
        for (int32_t t = 0; t < STEPS; t++)
            for (int i = 0; i < N; i++) {
                drawn[ahead][t][i] = outs[t][i].token;
                CHECK(outs[t][i].token >= 0 && outs[t][i].token < s.vocab && !outs[t][i].bad);
                CHECK_INT(outs[t][i].n_top, 3);
                if (i == 0) CHECK_INT(outs[t][i].top_token[0], outs[t][i].token);
            }
        for (int i = 0; i < N; i++) bt_free(q[i]);
    }
    CHECK(memcmp(drawn[0], drawn[1], sizeof drawn[0]) == 0);
    cuda->close(d);
    tiny_free(m);
}

/* The driver's figures: exact on the emulated device. A real driver takes some for itself when a
 * kernel or a library is first used, and other programs come and go. */
static bool about(uint64_t a, uint64_t b)
{
#ifdef BT_EMULATED
    return a == b;
#else
    return (a > b ? a - b : b - a) <= (uint64_t)256 << 20;
#endif
}

/* Parked, the memory is the driver's again; awake, everything is as it was. */
static void fifty_parkings_leak_nothing(void)
{
    tiny_spec s = base_spec();
    for (int f = 0; f < 3; f++) s.format[f] = BT_FORMAT_Q4_0;
    tiny_model *m = tiny_new(&s, 19);
    for (int keep = 0; keep < 2; keep++) {
        bt_device_plan p = plan_of(BT_KV_F16, 16);
        p.keep_host = keep != 0;
        uint64_t before = 0, open = 0, total;
        REQUIRE(bt_cuda_free_bytes(gpu.ordinal, &before, &total, NULL) == BT_OK);
        bt_device *d = open_on(cuda, m, &p);
        sequence *q = sequence_new(m, 20, 0, 6);
        float *want = teacher_forced(cuda, d, m, q);
        REQUIRE(bt_cuda_free_bytes(gpu.ordinal, &open, &total, NULL) == BT_OK);
        CHECK(open < before);
        for (int i = 0; i < 50; i++) {
            bt_residency r;
            bt_err err = {0};
            REQUIRE(cuda->park(d, &r, &err) == BT_OK);
            CHECK(about(r.free_bytes, open + r.bytes));
            REQUIRE(cuda->wake(d, NULL, NULL, &r, &err) == BT_OK);
            CHECK(about(r.free_bytes, open));
            CHECK_INT(r.from_host, keep);
            if (i % 10) continue;
            float *got = teacher_forced(cuda, d, m, q);
            CHECK(memcmp(got, want, 20 * (size_t)s.vocab * sizeof *got) == 0);
            bt_free(got);
        }
        bt_free(want);
        bt_free(q);
        cuda->close(d);
        uint64_t after = 0;
        REQUIRE(bt_cuda_free_bytes(gpu.ordinal, &after, &total, NULL) == BT_OK);
        CHECK(about(after, before));
    }
    tiny_free(m);
}

static void open_refuses_by_name(void)
{
    tiny_spec s = base_spec();
    tiny_model *m = tiny_new(&s, 41);
    bt_device_plan p = plan_of(BT_KV_F16, 16);
    bt_weight *w = &m->weights.layers[1].w_down;
    bt_weight good = *w;
    w->format = BT_FORMAT_Q2_K;
    drive_refused(cuda, m, &p, BT_EUNSUPPORTED, "blk.1.ffn_down.weight is Q2_K", "Q8_0");
    *w = good;
    w->data = NULL;
    drive_refused(cuda, m, &p, BT_EFORMAT, "blk.1.ffn_down.weight", "missing");
    *w = good;
    p.ordinal = 63;
    drive_refused(cuda, m, &p, BT_ENODEVICE, "cuda:63", "there are");
    p = plan_of(BT_KV_F16, 16);
    p.n_pages = 1 << 28;
    drive_refused(cuda, m, &p, BT_ENOMEM, "missing", "--ctx");
    p = plan_of(BT_KV_F16, 16);
    for (int32_t i = 0; i < m->recipe.n_layers; i++) m->recipe.layer[i].head_dim = 260;
    drive_refused(cuda, m, &p, BT_EUNSUPPORTED, "260", "256");
    tiny_free(m);
}

/* What a recipe may say and no kernel here does is refused by name, never computed without. */
static void what_a_recipe_may_say_is_refused_by_name(void)
{
    tiny_spec s = base_spec();
    tiny_model *m = tiny_new(&s, 43);
    bt_device_plan p = plan_of(BT_KV_F16, 16);
    bt_recipe good = m->recipe, *r = &m->recipe;
    bt_layer_recipe *l = &r->layer[1];
#define REFUSED(change, what)                                                                      \
    change;                                                                                        \
    drive_refused(cuda, m, &p, BT_EUNSUPPORTED, what, "CUDA has no kernels for that yet");         \
    *r = good
    REFUSED(r->norm = BT_NORM_LAYER, "norms that take out the mean");
    REFUSED(r->embed_scale = 3, "scaled embeddings");
    REFUSED(r->residual_scale = 0.5f, "residuals");
    REFUSED(r->logit_scale = 0.5f, "logits");
    REFUSED(r->logit_cap = 30, "soft-capped logits");
    REFUSED(r->learned_positions = true, "learned positions");
    REFUSED(r->embed_norm = true, "normed embeddings");
    REFUSED(l->n_kv_heads = 1, "layers of different shapes");
    REFUSED(l->rope = 1, "a second rope");
    REFUSED(l->window = 8, "sliding windows");
    REFUSED(l->attn_cap = 50, "soft-capped attention");
    REFUSED(l->alibi = 8, "ALiBi");
    REFUSED(l->qkv_clamp = 8, "clamped");
    REFUSED(l->q_growth = 0.1f, "growing queries");
    REFUSED(l->qk_norm = BT_QK_NORM_ROW, "over a row");
    REFUSED(l->qk_norm = BT_QK_NORM_LATE, "behind the rope");
    REFUSED(l->norm_before = false, "norms of what layers add");
    REFUSED(l->norm_after = true, "norms of what layers add");
    REFUSED(l->parallel = true, "side by side");
    REFUSED(l->plain = true, "other than gated SiLU");
    REFUSED(l->activation = BT_ACTIVATION_GELU_TANH, "other than gated SiLU");
#undef REFUSED
    tiny_free(m);
}

static void choice_of_a_device(void)
{
    bt_cuda_found f;
    bt_err err = {0};
    CHECK_INT(bt_cuda_choose("auto", &f, &err), BT_OK);
    CHECK_INT(f.ordinal, gpu.ordinal);
    CHECK_INT(bt_cuda_choose("cuda:0", &f, &err), BT_OK);
    CHECK_INT(bt_cuda_choose(f.uuid, &f, &err), BT_EINVAL);
    char name[64];
    snprintf(name, sizeof name, "cuda:%s", gpu.uuid);
    CHECK_INT(bt_cuda_choose(name, &f, &err), BT_OK);
    CHECK_INT(bt_cuda_choose("cuda:17", &f, &err), BT_ENODEVICE);
    CHECK(strstr(err.msg, "cuda:0") != NULL);
    CHECK_INT(bt_cuda_choose("cuda:GPU-00000000-no", &f, &err), BT_ENODEVICE);
    CHECK_INT(bt_cuda_choose("tpu", &f, &err), BT_EINVAL);
}

#ifdef BT_EMULATED
/* What a driver says when CUDA cannot be used, and what the owner is told to do about it. */
static void errors_say_what_to_do(void)
{
    static const struct {
        const char *call;
        int code;
        bt_status status;
        const char *says;
    } row[] = {
        {"cudaGetDeviceCount", cudaErrorNoDevice, BT_ENODEVICE, "CUDA_VISIBLE_DEVICES"},
        {"cudaGetDeviceCount", cudaErrorInsufficientDriver, BT_ENODEVICE, "update the driver"},
        {"cudaGetDeviceCount", cudaErrorSystemDriverMismatch, BT_ENODEVICE, "reboot"},
        {"cudaGetDeviceCount", cudaErrorSystemNotReady, BT_ENODEVICE, "fabricmanager"},
        {"cudaGetDeviceCount", cudaErrorCompatNotSupportedOnDevice, BT_ENODEVICE, "cuda-compat"},
        {"cudaGetDeviceCount", cudaErrorUnknown, BT_ENODEVICE, "nvidia-uvm"},
        {"cudaMemGetInfo", cudaErrorDevicesUnavailable, BT_EBUSY, "exclusive mode"},
        {"cudaHostAlloc", cudaErrorMemoryAllocation, BT_ENOMEM, "the host has no"},
        {"cudaLaunchKernelExC", cudaErrorNoKernelImageForDevice, BT_EDEVICE, "BATON_CUDA_ARCHS"},
        {"cudaLaunchKernelExC", cudaErrorUnsupportedPtxVersion, BT_EDEVICE, "BATON_CUDA_ARCHS"},
    };
    tiny_spec s = base_spec();
    tiny_model *m = tiny_new(&s, 43);
    bt_device_plan p = plan_of(BT_KV_F16, 16);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        bt_err err = {0};
        bt_cuda_found f;
        bt_device *d = NULL;
        bt_emu_answer(row[i].call, row[i].code);
        bt_status status = bt_cuda_choose("cuda:0", &f, &err);
        if (!status) status = cuda->open(&m->recipe, &m->weights, &p, NULL, NULL, &d, &err);
        bt_emu_answer(NULL, 0);
        CHECK_INT(status, row[i].status);
        CHECK(!d);
        if (!strstr(err.msg, row[i].says)) CHECK_STR(err.msg, row[i].says);
    }
    tiny_free(m);
}

/* Where the device's driver has no calls to map memory, wherever it says so, segments are plain
 * allocations, which move when it is parked. */
static void without_mapping(void)
{
    static const char *const call[] = {"cuMemAddressReserve", "cuMemCreate", "cuMemMap",
                                       "cuMemSetAccess", "cuMemGetAllocationGranularity"};
    tiny_spec s = base_spec();
    tiny_model *m = tiny_new(&s, 45);
    bt_device_plan p = plan_of(BT_KV_F16, 16);
    sequence *q = sequence_new(m, 20, 0, 6);
    float *want = NULL;
    for (size_t i = 0; i <= BT_COUNT(call); i++) {
        if (i > 0) bt_emu_answer(call[i - 1], cudaErrorNotSupported);
        bt_device *d = open_on(cuda, m, &p);
        for (int round = 0; round < 2; round++) {
            bt_residency r;
            float *got = teacher_forced(cuda, d, m, q);
            if (!want) want = got;
            CHECK(memcmp(got, want, 20 * (size_t)s.vocab * sizeof *got) == 0);
            if (got != want) bt_free(got);
            if (round > 0) break;
            REQUIRE(cuda->park(d, &r, NULL) == BT_OK);
            REQUIRE(cuda->wake(d, NULL, NULL, &r, NULL) == BT_OK);
        }
        cuda->close(d);
        bt_emu_answer(NULL, 0);
    }
    bt_free(want);
    bt_free(q);
    tiny_free(m);
}

/* The steps' own times add up to no more than the device's clock: they neither overlap nor are they
 * rounded up one by one. */
static void busy_time_is_the_device_s(void)
{
    enum { STEPS = 60 };
    tiny_spec s = base_spec();
    s.layers = 1;
    tiny_model *m = tiny_new(&s, 51);
    bt_device_plan p = plan_of(BT_KV_F16, 16);
    bt_device *d = open_on(cuda, m, &p);
    sequence *q = sequence_new(m, 1, 0, 3);
    cudaEvent_t begin, end;
    uint64_t sum = 0, busy = 0;
    float ms = 0;
    int32_t token = q->token[0], row_seq = 0, out_row = 0;
    bt_sample_req req = {.top_p = 1, .repeat_penalty = 1, .n_logprobs = -1, .forced = -1};
    bt_sample_out out[2];
    REQUIRE(!cudaEventCreate(&begin) && !cudaEventCreate(&end));
    REQUIRE(!cudaEventRecord(begin, NULL) && !cudaEventSynchronize(begin));
    for (int32_t t = 0; t < STEPS; t++) {
        bt_batch_seq part = {q->page, 0, 1, t + 1};
        bt_batch b = {1, 1, 1, &token, &t, &row_seq, &part, &out_row};
        launch(d, m, &b, &req, &out[t % 2]);
        token = -1;
        if (t == 0) continue;
        REQUIRE(cuda->step_end(d, &busy, NULL) == BT_OK);
        sum += busy;
    }
    REQUIRE(cuda->step_end(d, &busy, NULL) == BT_OK);
    sum += busy;
    REQUIRE(!cudaEventRecord(end, NULL) && !cudaEventSynchronize(end));
    REQUIRE(!cudaEventElapsedTime(&ms, begin, end));
    CHECK((double)sum <= (double)ms * 1000 + 1);
    CHECK(sum > 0);
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    cuda->close(d);
    bt_free(q);
    tiny_free(m);
}

/* One life of a device: opened, a prompt, decodes, parked, woken, decodes, closed. */
static bt_status whole_life(const tiny_model *m, sequence *q, float *logits, bt_err *err)
{
    bt_device_plan p = plan_of(BT_KV_F16, 16);
    bt_device *d = NULL;
    bt_residency r;
    bt_status rc = cuda->open(&m->recipe, &m->weights, &p, NULL, NULL, &d, err);
    q->done = 0;
    for (int32_t i = 0; !rc && i < 4; i++) {
        if (i == 2) {
            rc = cuda->park(d, &r, err);
            if (!rc) rc = cuda->wake(d, NULL, NULL, &r, err);
            if (rc) break;
            q->done = 0; // what KV held is lost
        }
        int32_t rows = i % 2 ? 1 : 6;
        rc = drive_try(cuda, d, m, q, rows, logits, err);
    }
    cuda->close(d);
    return rc;
}

/* Every call of the runtime fails once: a sentence, no hang, no leak, and the next life is well. */
static void every_runtime_call_can_fail(void)
{
    tiny_spec s = base_spec();
    s.layers = 1;
    tiny_model *m = tiny_new(&s, 47);
    sequence *q = sequence_new(m, 40, 0, 9);
    float *logits = bt_must(bt_malloc(ROWS_MAX * (size_t)s.vocab * sizeof *logits));
    uint64_t before = 0, after = 0, total;
    REQUIRE(bt_cuda_free_bytes(gpu.ordinal, &before, &total, NULL) == BT_OK);
    bt_err err = {0};
    long calls = (long)bt_emu_calls();
    REQUIRE(whole_life(m, q, logits, &err) == BT_OK);
    calls = (long)bt_emu_calls() - calls;
    long told = 0, unharmed = 0;
    for (long n = 1; n <= calls; n++) {
        memset(&err, 0, sizeof err);
        bt_emu_fail_at(n);
        bt_status rc = whole_life(m, q, logits, &err);
        bt_emu_fail_at(0);
        if (rc) CHECK(err.msg[0] != 0);
        told += rc != BT_OK;
        unharmed += rc == BT_OK; // clean-up, or something that can be done without
        REQUIRE(bt_cuda_free_bytes(gpu.ordinal, &after, &total, NULL) == BT_OK);
        CHECK_INT(after, before);
    }
    fprintf(stderr, "     %ld runtime calls failed in turn: %ld told, %ld did without\n", calls,
            told, unharmed);
    CHECK(told > calls / 2);
    CHECK_INT(whole_life(m, q, logits, &err), BT_OK);
    bt_free(logits);
    bt_free(q);
    tiny_free(m);
}
#endif

int main(void)
{
    bt_err err = {0};
    if (bt_cuda_choose("auto", &gpu, &err) != BT_OK) {
        fprintf(stderr, "skipped: %s\n", err.msg);
        return 77;
    }
    bt_log_set_level(BT_LOG_WARN);
    RUN(choice_of_a_device);
    RUN(open_refuses_by_name);
    RUN(what_a_recipe_may_say_is_refused_by_name);
    RUN(every_weight_format);
    RUN(every_kv_format);
    RUN(mixed_formats_and_odd_shapes);
    RUN(batches_are_near_each_alone);
    RUN(steps_in_flight_draw_the_same);
    RUN(fifty_parkings_leak_nothing);
#ifdef BT_EMULATED
    RUN(errors_say_what_to_do);
    RUN(without_mapping);
    RUN(busy_time_is_the_device_s);
    RUN(every_runtime_call_can_fail);
#endif
    return TEST_END();
}
