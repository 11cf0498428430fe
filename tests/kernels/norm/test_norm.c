/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/norm/norm.h"
#include "kernels/random.h"
#include "test.h"

static const int32_t all_cols[] = {1, 2, 7, 15, 16, 17, 31, 33, 63, 64, 65, 79, 128, 172, 576, 896};

static void check_one(int32_t cols, float scale, float eps)
{
    enum { ROWS = 3 };
    size_t n = (size_t)(ROWS * cols), bytes = n * sizeof(float);
    float *x = random_floats(n, scale), *w = random_floats((size_t)cols, 1);
    float *want = bt_must(bt_malloc(bytes)), *first = bt_must(bt_malloc(bytes));
    float *y = bt_must(bt_malloc(bytes));
    bt_norm_rms_ref(x, cols, w, ROWS, cols, eps, want, cols);
    int ran = 0;
    for (int i = 0; isa_next(&i); ran++) {
        bt_norm_rms(x, cols, w, ROWS, cols, eps, y, cols);
        for (size_t j = 0; j < n; j++) CHECK_NEAR(y[j], want[j], 1e-6 * fabs((double)want[j]));
        if (ran) CHECK(memcmp(y, first, bytes) == 0);
        memcpy(first, y, bytes);
        bt_norm_rms(x + cols, cols, w, 1, cols, eps, y, cols); // a row alone
        CHECK(memcmp(y, first + cols, bytes / ROWS) == 0);
        memcpy(y, x, bytes);
        bt_norm_rms(y, cols, w, ROWS, cols, eps, y, cols); // in place
        CHECK(memcmp(y, first, bytes) == 0);
    }
    bt_free(x);
    bt_free(w);
    bt_free(want);
    bt_free(first);
    bt_free(y);
}

static void agrees_with_reference_on_every_isa(void)
{
    for (size_t i = 0; i < sizeof all_cols / sizeof *all_cols; i++) {
        check_one(all_cols[i], 1.0f, 1e-6f);
        check_one(all_cols[i], 1e-4f, 1e-5f);
        check_one(all_cols[i], 500.0f, 1e-5f);
    }
}

static void strides_leave_gaps_alone(void)
{
    enum { COLS = 20, LD = 24, ROWS = 4 };
    float *x = random_floats(LD * ROWS, 1), *w = random_floats(COLS, 1);
    float y[LD * ROWS];
    for (int i = 0; i < LD * ROWS; i++) y[i] = -7.0f;
    bt_norm_rms(x, LD, w, ROWS, COLS, 1e-5f, y, LD);
    for (int r = 0; r < ROWS; r++)
        for (int c = COLS; c < LD; c++) CHECK_NEAR(y[r * LD + c], -7.0, 0);
    bt_free(x);
    bt_free(w);
}

/* Rows far from zero: a mean that is not taken out first would leave no digits. */
static void layer_norm_agrees_with_reference(void)
{
    enum { ROWS = 3 };
    for (size_t i = 1; i < sizeof all_cols / sizeof *all_cols; i++) {
        int32_t cols = all_cols[i];
        size_t n = (size_t)(ROWS * cols), bytes = n * sizeof(float);
        float *x = random_floats(n, 1), *weight = random_floats((size_t)cols, 1);
        float *bias = random_floats((size_t)cols, 1), *y = bt_must(bt_malloc(bytes));
        float *want = bt_must(bt_malloc(bytes)), *first = bt_must(bt_malloc(bytes));
        for (size_t j = 0; j < n; j++) x[j] += 20;
        for (int b = 0; b < 3; b++) {
            int ran = 0;
            const float *w = b < 2 ? weight : NULL;
            bt_norm_layer_ref(x, cols, w, b == 1 ? bias : NULL, ROWS, cols, 1e-5f, want, cols);
            for (int isa = 0; isa_next(&isa); ran++) {
                bt_norm_layer(x, cols, w, b == 1 ? bias : NULL, ROWS, cols, 1e-5f, y, cols);
                for (size_t j = 0; j < n; j++) CHECK_NEAR(y[j], want[j], 2e-5);
                if (ran) CHECK(memcmp(y, first, bytes) == 0);
                memcpy(first, y, bytes);
                memcpy(y, x, bytes); // in place, the last row alone
                float *last = y + (ROWS - 1) * cols;
                bt_norm_layer(last, cols, w, b == 1 ? bias : NULL, 1, cols, 1e-5f, last, cols);
                CHECK(memcmp(last, first + (ROWS - 1) * cols, bytes / ROWS) == 0);
            }
        }
        bt_free(x);
        bt_free(weight);
        bt_free(bias);
        bt_free(y);
        bt_free(want);
        bt_free(first);
    }
}

static void zero_and_nan_rows(void)
{
    float x[32] = {0}, w[32], y[32];
    for (int i = 0; i < 32; i++) w[i] = 2.0f;
    bt_norm_rms(x, 32, w, 1, 32, 1e-5f, y, 32);
    for (int i = 0; i < 32; i++) CHECK_NEAR(y[i], 0, 0);
    x[5] = NAN;
    bt_norm_rms(x, 32, w, 1, 32, 1e-5f, y, 32);
    for (int i = 0; i < 32; i++) CHECK(isnan(y[i]));
}

int main(void)
{
    RUN(agrees_with_reference_on_every_isa);
    RUN(layer_norm_agrees_with_reference);
    RUN(strides_leave_gaps_alone);
    RUN(zero_and_nan_rows);
    return TEST_END();
}
