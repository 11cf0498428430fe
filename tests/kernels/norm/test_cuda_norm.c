/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 120 */
#include "kernels/norm/norm.h"
#include "kernels/norm/norm_cuda.h"
#include "kernels/cuda_ops.h"

enum { ALL = BT_CUDA_ACT_F32 | BT_CUDA_ACT_F16 | BT_CUDA_ACT_Q8 };

/* One call against the reference; the other kinds must be those of the F32 that came with them. */
static void check_norm(int32_t rows, int32_t cols, int64_t ldx, unsigned kinds, const int32_t *from,
                       float size)
{
    int32_t rows_x = from ? 5 : rows;
    float *x = random_floats((size_t)(rows_x * ldx), size), *w = random_floats((size_t)cols, 1);
    float *want = bt_must(bt_calloc((size_t)rows * (size_t)cols, sizeof *want));
    for (int32_t r = 0; r < rows; r++)
        if (!from || from[r] >= 0)
            bt_norm_rms_ref(x + (from ? from[r] : r) * ldx, ldx, w, 1, cols, 1e-5f, want + r * cols,
                            cols);
    bt_cuda_act act = cuda_act_new(rows, cols, kinds);
    const int32_t *gather = from ? cuda_put(from, (size_t)rows * sizeof *from) : NULL;
    CHECK_CUDA(bt_cuda_norm_rms(cuda_put(x, (size_t)(rows_x * ldx) * 4), ldx, gather,
                                cuda_put(w, (size_t)cols * 4), rows, cols, 1e-5f, kinds, &act,
                                NULL));
    if (kinds & BT_CUDA_ACT_F32) {
        float *got = cuda_copy(act.f32, (size_t)rows * (size_t)cols * 4);
        for (int32_t r = 0; r < rows; r++) {
            double most = 0, off = 0;
            for (int32_t c = 0; c < cols; c++) {
                most = fmax(most, fabs((double)want[r * cols + c]));
                off = fmax(off, fabs((double)got[r * cols + c] - (double)want[r * cols + c]));
            }
            CHECK_NEAR(off, 0, 4e-6 * most);
        }
        check_act(&act, kinds, rows, got);
        bt_free(got);
    }
    cuda_clear();
    bt_free(x);
    bt_free(w);
    bt_free(want);
}

static void widths(void)
{
    static const int32_t cols[] = {1, 3, 4, 31, 32, 33, 100, 128, 288, 896, 2050, 4096};
    for (size_t i = 0; i < sizeof cols / sizeof *cols; i++) {
        int32_t n = cols[i];
        unsigned kinds = n % 32 ? ALL & ~BT_CUDA_ACT_Q8 : ALL;
        check_norm(3, n, n, kinds, NULL, 1);
        check_norm(2, n, n + 1, kinds, NULL, 1); // rows that wide loads cannot take
        check_norm(1, n, (n + 3) / 4 * 4 + 4, kinds, NULL, 1);
    }
}

/* Two and four groups a thread; the greatest width. */
static void wide_rows(void)
{
    check_norm(2, 4128, 4128, ALL, NULL, 1);
    check_norm(1, 8192 + 64, 8192 + 64, ALL, NULL, 1);
    check_norm(1, 16384, 16384, ALL, NULL, 1);
}

static void gathered_rows(void)
{
    static const int32_t from[] = {4, 0, -1, 2, 2};
    check_norm(5, 96, 96, ALL, from, 1);
    check_norm(5, 50, 51, BT_CUDA_ACT_F32, from, 1);
}

/* Values beyond a half's range need its scale; F32 must then survive the sum of squares. */
static void great_and_small(void)
{
    check_norm(2, 64, 64, ALL, NULL, 1e15f);
    check_norm(2, 64, 64, ALL, NULL, 1e-15f);
}

/* A row's bits do not depend on the rows beside it, nor on the kinds asked for. */
static void rows_are_alone(void)
{
    enum { ROWS = 7, COLS = 352 };
    float *x = random_floats(ROWS * COLS, 2), *w = random_floats(COLS, 1);
    const float *dx = cuda_put(x, sizeof *x * ROWS * COLS), *dw = cuda_put(w, 4 * COLS);
    bt_cuda_act all = cuda_act_new(ROWS, COLS, ALL), one = cuda_act_new(1, COLS, BT_CUDA_ACT_F32);
    CHECK_CUDA(bt_cuda_norm_rms(dx, COLS, NULL, dw, ROWS, COLS, 1e-6f, ALL, &all, NULL));
    float *many = cuda_copy(all.f32, sizeof *x * ROWS * COLS);
    for (int32_t r = 0; r < ROWS; r++) {
        CHECK_CUDA(bt_cuda_norm_rms(dx + r * COLS, COLS, NULL, dw, 1, COLS, 1e-6f, BT_CUDA_ACT_F32,
                                    &one, NULL));
        float *alone = cuda_copy(one.f32, sizeof *x * COLS);
        CHECK(memcmp(alone, many + r * COLS, sizeof *x * COLS) == 0);
        bt_free(alone);
    }
    bt_free(many);
    bt_free(x);
    bt_free(w);
    cuda_clear();
}

/* 1100 columns: warps of which some are idle in part. */
static void any_order_of_threads(void)
{
    enum { ROWS = 3, COLS = 1100 };
    float *x = random_floats(ROWS * COLS, 2), *w = random_floats(COLS, 1), *first = NULL;
    for (int i = 0; cuda_order_next(&i);) {
        bt_cuda_act act = cuda_act_new(ROWS, COLS, BT_CUDA_ACT_F32 | BT_CUDA_ACT_F16);
        CHECK_CUDA(bt_cuda_norm_rms(cuda_put(x, 4 * ROWS * COLS), COLS, NULL, cuda_put(w, 4 * COLS),
                                    ROWS, COLS, 1e-6f, BT_CUDA_ACT_F32 | BT_CUDA_ACT_F16, &act,
                                    NULL));
        float *got = cuda_copy(act.f32, 4 * ROWS * COLS);
        check_act(&act, BT_CUDA_ACT_F16, ROWS, got);
        if (!first)
            first = got;
        else
            CHECK(memcmp(got, first, 4 * ROWS * COLS) == 0);
        if (got != first) bt_free(got);
        cuda_clear();
    }
    bt_free(first);
    bt_free(x);
    bt_free(w);
}

static void shapes_are_refused(void)
{
    float *x = cuda_filled(4 * 40);
    bt_cuda_act a = cuda_act_new(1, 40, BT_CUDA_ACT_F32);
    CHECK_INT(bt_cuda_norm_rms(x, 40, NULL, x, 1, 40, 1, BT_CUDA_ACT_Q8, &a, NULL),
              cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_norm_rms(x, 40, NULL, x, 1, 40, 1, 0, &a, NULL), cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_norm_rms(x, 32, NULL, x, 1, 32, 1, BT_CUDA_ACT_F32, &a, NULL),
              cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_norm_rms(x, 40, NULL, x, -1, 40, 1, BT_CUDA_ACT_F32, &a, NULL),
              cudaErrorInvalidValue);
    CHECK_CUDA(bt_cuda_norm_rms(x, 40, NULL, x, 0, 40, 1, BT_CUDA_ACT_F32, &a, NULL));
    cuda_clear();
}

int main(void)
{
    cuda_need_device();
    RUN(widths);
    RUN(wide_rows);
    RUN(gathered_rows);
    RUN(great_and_small);
    RUN(rows_are_alone);
    RUN(any_order_of_threads);
    RUN(shapes_are_refused);
    return TEST_END();
}
