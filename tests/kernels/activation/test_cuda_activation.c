/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 120 */
#include "kernels/activation/activation.h"
#include "kernels/activation/activation_cuda.h"
#include "kernels/cuda_ops.h"

enum { F32 = BT_CUDA_ACT_F32, F16 = BT_CUDA_ACT_F16, Q8 = BT_CUDA_ACT_Q8 };

static const int32_t widths[] = {1, 5, 32, 36, 96, 130, 1024, 1056, 4128};

/* The rows without their padding. */
static float *dense(const float *x, int32_t rows, int32_t cols, int64_t ld)
{
    float *out = bt_must(bt_malloc((size_t)rows * (size_t)cols * sizeof *out));
    for (int32_t r = 0; r < rows; r++)
        memcpy(out + (int64_t)r * cols, x + r * ld, (size_t)cols * sizeof *out);
    return out;
}

static void check_prepare(const float *x, int64_t ld, int32_t rows, int32_t cols, unsigned kinds)
{
    float *want = dense(x, rows, cols, ld);
    bt_cuda_act act = cuda_act_new(rows, cols, kinds);
    size_t bytes = (size_t)((rows - 1) * ld + cols) * sizeof *x;
    CHECK_CUDA(bt_cuda_act_prepare(cuda_put(x, bytes), ld, rows, cols, kinds, &act, NULL));
    check_act(&act, kinds, rows, want);
    bt_free(want);
    cuda_clear();
}

static void all_kinds_and_widths(void)
{
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        int32_t n = widths[i];
        for (unsigned kinds = 1; kinds <= (F32 | F16 | Q8); kinds++) {
            if (kinds & Q8 && n % 32) continue;
            int64_t ld = n + (int64_t)(kinds % 3) * (n % 2 ? 1 : 4);
            float *x = random_floats((size_t)(3 * ld), kinds % 2 ? 1 : 3000);
            check_prepare(x, ld, 3, n, kinds);
            bt_free(x);
        }
    }
}

/* Zeros, denormals, what is next to 2^-100, ties of rounding, the edge of the half's scale,
 * infinity and NaN: each in a block of its own. */
static void odd_values(void)
{
    static const float odd[] = {
        0,        1e-42f, 0x1p-100f, 0x1.fffffep-101f, 127,      254, 1023.5f, 1024,
        1024.01f, 2048,   1e30f,     3.4e38f,          INFINITY, NAN};
    enum { N = sizeof odd / sizeof *odd };
    for (int i = 0; i < N; i++) {
        float x[64];
        for (int j = 0; j < 64; j++) x[j] = (float)j * 0.5f;
        x[37] = odd[i];
        if (i < 4) // a whole block of the like
            for (int j = 32; j < 64; j++) x[j] = j % 2 ? odd[i] : -odd[i];
        check_prepare(x, 64, 1, 64, F32 | F16 | Q8);
        check_prepare(x, 32, 2, 32, F16 | Q8);
    }
}

static void check_silu(int32_t rows, int32_t cols, int64_t ld, unsigned kinds, bool in_place)
{
    size_t n = (size_t)(rows * ld);
    float *gate = random_floats(n, 6), *up = random_floats(n, 2);
    gate[0] = -100;
    gate[n - 1] = 90;
    bt_cuda_act act = cuda_act_new(rows, cols, kinds);
    float *g = in_place ? act.f32 : cuda_put(gate, n * 4), *u = cuda_put(up, n * 4);
    if (in_place) CHECK_CUDA(cudaMemcpy(g, gate, n * 4, cudaMemcpyHostToDevice));
    CHECK_CUDA(bt_cuda_silu_mul(g, u, ld, rows, cols, kinds, &act, NULL));
    bt_activation_apply(BT_ACTIVATION_SILU, gate, up, rows, ld, 0, cols);
    float *want = dense(gate, rows, cols, ld);
    check_act(&act, kinds, rows, want); // the CPU's bits
    bt_free(want);
    bt_free(gate);
    bt_free(up);
    cuda_clear();
}

static void silu_equals_the_cpu(void)
{
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        int32_t n = widths[i];
        unsigned kinds = n % 32 ? F32 | F16 : F32 | F16 | Q8;
        check_silu(2, n, n, kinds, false);
        check_silu(3, n, n + 1, kinds & ~F16, false);
        check_silu(2, n, n, kinds, true);
        check_silu(2, n, n, kinds & ~F16, true);
    }
}

/* Rows too wide for registers. */
static void the_widest_rows(void)
{
    check_silu(1, 36864, 36864, F16 | Q8, false);
}

static void the_block_holds_what_was_asked(void)
{
    bt_cuda_act a;
    CHECK_INT(bt_cuda_act_bytes(3, 64, F32), 768);
    CHECK_INT(bt_cuda_act_bytes(3, 64, F16), 512 + 256);
    CHECK_INT(bt_cuda_act_bytes(3, 64, Q8), 256 * 3);
    CHECK_INT(bt_cuda_act_bytes(3, 64, F32 | F16 | Q8), 768 * 3);
    CHECK_INT(bt_cuda_act_bytes(0, 64, F32), 0);
    char *block = cuda_filled(768 * 3);
    bt_cuda_act_place(&a, block, 3, 64, Q8);
    CHECK(!a.f32 && !a.f16 && !a.f16_scale && a.k == 64);
    CHECK((char *)a.q == block && (char *)a.d == block + 256 && (char *)a.s == block + 512);
    CHECK_INT(bt_cuda_act_prepare((float *)block, 64, 1, 64, F32, &a, NULL), cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_act_prepare((float *)block, 64, 1, 48, Q8, &a, NULL), cudaErrorInvalidValue);
    cuda_clear();
}

int main(void)
{
    cuda_need_device();
    RUN(all_kinds_and_widths);
    RUN(odd_values);
    RUN(silu_equals_the_cpu);
    RUN(the_widest_rows);
    RUN(the_block_holds_what_was_asked);
    return TEST_END();
}
