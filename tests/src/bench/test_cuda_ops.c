/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 600 */
/* test_cuda_measure.c - the table of kernels on a device: every kernel is there, none is wrong. On
 * the emulated device times mean nothing and are not looked at. */
#include "device/cuda/cuda_probe.h"
#include "bench/ops.h"
#include "kernels/cuda_test.h"

typedef struct seen {
    int wrong;
    bool kernel[10];
} seen;

static const char *const kernels[] = {"copy", "mma s8", "embed",     "norm",    "rope+append",
                                      "gemv", "gemm",   "attention", "prefill", "sample"};

static void on_row(void *ud, const bt_ops_row *row, const bt_ops_limits *limits)
{
    seen *s = ud;
    bt_buf out = BT_BUF_INIT;
    bt_ops_print(row, limits, false, false, &out);
    if (row->us <= 0) s->wrong++;
    if (row->us <= 0) fputs(out.data, stderr);
    for (int i = 0; i < 10; i++) s->kernel[i] |= strcmp(row->kernel, kernels[i]) == 0;
    CHECK(!row->ceiling || row->bound_us == 0);
#ifdef BT_EMULATED
    CHECK(strstr(limits->device, "Emulated") != NULL);
#endif
    bt_buf_release(&out);
}

static void table(void)
{
    static const bt_recipe tiny = {
        .n_layers = 1,
        .hidden = 256,
        .vocab = 520,
        .n_ropes = 1,
        .rope = {{.style = BT_ROPE_HALF, .dim = 32, .theta = 10000, .amplitude = 1}},
        .layer = {
            {.n_heads = 8, .n_kv_heads = 2, .head_dim = 32, .attn_scale = 0.17678f, .ffn = 256}}};
    static const int32_t formats[] = {BT_FORMAT_Q4_K, BT_FORMAT_F16};
    seen s = {0};
    bt_err err = {0};
    int32_t skipped = -1;
    bt_ops_ask ask = {.recipe = &tiny, .quick = true, .format = formats, .n_formats = 2};
    bt_status status = bt_ops_run_cuda(&ask, on_row, &s, &skipped, &err);
    if (status) fprintf(stderr, "%s\n", err.msg);
    CHECK_INT(status, BT_OK);
    CHECK_INT(s.wrong, 0);
    CHECK_INT(skipped, 0);
    for (int i = 0; i < 10; i++) {
        CHECK(s.kernel[i]);
        if (!s.kernel[i]) fprintf(stderr, "no row of %s\n", kernels[i]);
    }
    ask.ordinal = 63;
    CHECK(bt_ops_run_cuda(&ask, on_row, &s, &skipped, &err) != BT_OK);
}

int main(void)
{
    cuda_need_device();
#ifdef BT_EMULATED
    bt_emu_seed(5); // copies and kernels in another legal order
#endif
    RUN(table);
    return TEST_END();
}
