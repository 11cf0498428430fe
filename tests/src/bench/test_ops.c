/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 120 */
/* test_measure.c - random weights are what they claim; the table of kernels on the CPU. */
#include "base/mem.h"
#include "bench/ops_impl.h"
#include "bench/random.h"
#include "kernels/quant/quant.h"
#include "test.h"

static const int32_t formats[] = {
    BT_FORMAT_F32,   BT_FORMAT_F16,   BT_FORMAT_BF16, BT_FORMAT_Q8_0,   BT_FORMAT_Q4_0,
    BT_FORMAT_Q4_1,  BT_FORMAT_Q5_0,  BT_FORMAT_Q5_1, BT_FORMAT_Q2_K,   BT_FORMAT_Q3_K,
    BT_FORMAT_Q4_K,  BT_FORMAT_Q5_K,  BT_FORMAT_Q6_K, BT_FORMAT_IQ4_NL, BT_FORMAT_IQ4_XS,
    BT_FORMAT_MXFP4, BT_FORMAT_INT8G, BT_FORMAT_INT4G};

static void random_weights(void)
{
    enum { N = 256 * 64 };
    char *data = bt_must(bt_malloc(N * 4)), *again = bt_must(bt_malloc(N * 4));
    float *x = bt_must(bt_malloc(N * sizeof *x));
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        double sum = 0, square = 0;
        size_t bytes = bt_format_bytes(formats[f], N);
        CHECK(bt_random_weights(formats[f], 3, N, 0.02f, data));
        CHECK(bt_random_weights(formats[f], 3, N, 0.02f, again));
        CHECK(memcmp(data, again, bytes) == 0);
        CHECK(bt_random_weights(formats[f], 4, N, 0.02f, again));
        CHECK(memcmp(data, again, bytes) != 0);
        REQUIRE(bt_dequant_ref(formats[f], data, N, x));
        for (int i = 0; i < N; i++) {
            sum += (double)x[i];
            square += (double)x[i] * (double)x[i];
        }
        CHECK_NEAR(sum / N, 0, 0.003); // four bits: -8 .. 7
        CHECK_NEAR(sqrt(square / N), 0.02, 0.002);
    }
    CHECK(!bt_random_weights(BT_FORMAT_Q8_1, 3, N, 1, data));
    CHECK(!bt_random_weights(BT_FORMAT_Q4_K, 3, 128, 1, data));
    bt_free(data);
    bt_free(again);
    bt_free(x);
}

typedef struct seen {
    int rows, ceilings, wrong;
    bool kernel[8];
    bt_buf table;
} seen;

static const char *const kernels[] = {"norm",      "embed",   "gemv",  "gemm",
                                      "attention", "prefill", "sample"};
enum { KERNELS = sizeof kernels / sizeof *kernels };

static void on_row(void *ud, const bt_ops_row *row, const bt_ops_limits *limits)
{
    seen *s = ud;
    if (s->rows + s->ceilings + s->wrong == 0) CHECK(row->ceiling);
    if (row->us <= 0)
        s->wrong++;
    else if (row->ceiling)
        s->ceilings++;
    else
        s->rows++;
    for (int i = 0; i < KERNELS; i++) s->kernel[i] |= strcmp(row->kernel, kernels[i]) == 0;
    if (!row->ceiling && row->us > 0) {
        double memory = 1e6 * row->bytes / limits->memory;
        CHECK(row->bound_us > 0 && row->bound_us >= memory * 0.999);
    }
    bt_ops_print(row, limits, false, s->table.len == 0, &s->table);
}

static const bt_recipe tiny = {
    .n_layers = 1,
    .hidden = 256,
    .vocab = 1000,
    .n_ropes = 1,
    .rope = {{.style = BT_ROPE_HALF, .dim = 32, .theta = 10000, .amplitude = 1}},
    .layer = {{.n_heads = 8, .n_kv_heads = 2, .head_dim = 32, .attn_scale = 0.17678f, .ffn = 512}}};

static void cpu_table(void)
{
    seen s = {0};
    bt_err err = {0};
    int32_t skipped = -1;
    bt_ops_ask ask = {.recipe = &tiny, .quick = true, .threads = 2};
    CHECK_INT(bt_ops_run_cpu(&ask, on_row, &s, &skipped, &err), BT_OK);
    CHECK_INT(s.wrong, 0);
    CHECK_INT(skipped, 0);
    CHECK(s.ceilings >= 2);
    for (int i = 0; i < KERNELS; i++) CHECK(s.kernel[i]);
    CHECK(strstr(s.table.data, "gate_up 1024 x 256") != NULL);
    bt_buf_release(&s.table);
    /* One kind alone; no time for any. */
    seen only = {0};
    ask.only = "gemv";
    CHECK_INT(bt_ops_run_cpu(&ask, on_row, &only, &skipped, &err), BT_OK);
    CHECK(only.kernel[2] && !only.kernel[3] && !only.kernel[4]);
    bt_buf_release(&only.table);
    seen none = {0};
    ask.only = NULL;
    ask.seconds = 1e-9;
    CHECK_INT(bt_ops_run_cpu(&ask, on_row, &none, &skipped, &err), BT_OK);
    CHECK(none.rows == 0 && none.ceilings > 0 && skipped > 0);
    bt_buf_release(&none.table);
}

static void a_wrong_result_is_not_timed(void)
{
    seen s = {.ceilings = 1};
    bt__ops o;
    bt_err err = {0};
    int32_t skipped;
    bt_ops_ask ask = {.recipe = &tiny};
    bt_ops_row row = {.kernel = "gemv", .rows = 1, .error = 0.5, .within = 0.01};
    bt__ops_begin(&o, &ask, on_row, &s);
    CHECK(!bt__ops_right(&o, &row));
    row.error = NAN;
    CHECK(!bt__ops_right(&o, &row));
    row.error = 0.001;
    CHECK(bt__ops_right(&o, &row));
    CHECK_INT(s.wrong, 2);
    CHECK(strstr(s.table.data, "WRONG: error 5.00e-01, allowed 1.0e-02") != NULL);
    CHECK_INT(bt__ops_end(&o, &skipped, &err), BT_EDEVICE);
    CHECK(strstr(err.msg, "2 results differ") != NULL);
    bt_buf_release(&s.table);
}

static void bound_is_the_slower_limit(void)
{
    bt_buf csv = BT_BUF_INIT;
    seen s = {.ceilings = 1};
    bt__ops o;
    bt_ops_ask ask = {.recipe = &tiny};
    bt_ops_row row = {.kernel = "gemm", .shape = "x", .format = "F16", .rows = 3, .us = 40};
    bt__ops_begin(&o, &ask, on_row, &s);
    o.limits.memory = 1e9;
    o.limits.rate[BT_UNIT_FMA] = 1e12;
    row.unit = BT_UNIT_FMA;
    row.bytes = 10000; // 10 us
    row.ops = 20e6;    // 20 us
    bt__ops_tell(&o, &row);
    CHECK_NEAR(row.bound_us, 20, 1e-9);
    snprintf(o.limits.device, sizeof o.limits.device, "Some device");
    bt_ops_print(&row, &o.limits, true, false, &csv);
    CHECK_STR(csv.data, "\"Some device\",gemm,x,F16,3,40.000,10000,20000000,0.250,500.00,25.0,50.0,"
                        "20.000,fma,0.00e+00,0.0e+00,ok\n");
    row.ops = 1e6;
    bt__ops_tell(&o, &row);
    CHECK_NEAR(row.bound_us, 10, 1e-9);
    bt_buf_release(&csv);
    bt_buf_release(&s.table);
}

int main(void)
{
    RUN(random_weights);
    RUN(a_wrong_result_is_not_timed);
    RUN(bound_is_the_slower_limit);
    RUN(cpu_table);
    return TEST_END();
}
