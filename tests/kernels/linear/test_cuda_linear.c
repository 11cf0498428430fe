/* SPDX-License-Identifier: Apache-2.0 */
/* The dispatch of linear layers, and cuBLASLt behind it. TIMEOUT 300 */
#include "kernels/cuda_linear.h"
#include "kernels/linear/blas_cuda.h"
#ifdef BT_EMULATED
#include "emu.h"
#endif

static const int32_t formats[] = {BT_FORMAT_Q8_0,  BT_FORMAT_Q4_0, BT_FORMAT_Q4_K, BT_FORMAT_Q5_K,
                                  BT_FORMAT_Q6_K,  BT_FORMAT_F16,  BT_FORMAT_BF16, BT_FORMAT_INT8G,
                                  BT_FORMAT_INT4G, BT_FORMAT_F32};
enum { FORMATS = sizeof formats / sizeof *formats };

typedef struct linear_case {
    int32_t format, n, k, rows;
    bool bias, glu, deterministic;
    bt_cuda_props props;
    bt_cuda_blas *blas;
} linear_case;

/* bt_cuda_linear with the forms of activations it asks for and the scratch it asks for, no more.
 * y: [rows, outputs]. */
static cudaError_t linear_run(const linear_case *c, const linear_matrix *w, const linear_act *a,
                              const float *bias, float *y)
{
    size_t bytes = (size_t)c->rows * (size_t)(c->glu ? c->n / 2 : c->n) * sizeof *y;
    float *dev_y = linear_upload(y, bytes), *dev_bias = NULL;
    if (bias) dev_bias = linear_upload(bias, (size_t)c->n * sizeof *bias);
    bt_cuda_linear_args args = {.w = &w->m,
                                .act = &a->device,
                                .rows = c->rows,
                                .bias = dev_bias,
                                .y = dev_y,
                                .ldy = c->glu ? c->n / 2 : c->n,
                                .glu = c->glu,
                                .deterministic = c->deterministic,
                                .props = &c->props,
                                .blas = c->blas};
    args.scratch_bytes = bt_cuda_linear_scratch(c->format, c->n, c->k, c->rows, &c->props);
    if (args.scratch_bytes) REQUIRE(cudaMalloc(&args.scratch, args.scratch_bytes) == cudaSuccess);
    cudaError_t e = bt_cuda_linear(&args, NULL);
    LINEAR_OK(cudaDeviceSynchronize());
    LINEAR_OK(cudaMemcpy(y, dev_y, bytes, cudaMemcpyDeviceToHost));
    cudaFree(args.scratch);
    cudaFree(dev_bias);
    cudaFree(dev_y);
    return e;
}

/* Expected output and the widest error of any kernel that may have been chosen. */
static double linear_expect(const linear_case *c, const linear_matrix *w, const linear_act *a,
                            const float *bias, int32_t r, int32_t j, double *bound)
{
    double v = linear_want(w, a, j, r, false, bound);
    unsigned kinds = bt_cuda_linear_act(c->format, c->rows, c->deterministic);
    if (kinds & BT_CUDA_ACT_F16) {
        double halves, from_halves = linear_want(w, a, j, r, true, &halves);
        *bound += halves + fabs(v - from_halves); // int8 or halves, as the device prefers
    }
    *bound += 1e-6 * fabs(v) + 1e-30;
    return bias ? v + (double)bias[j] : v;
}

static void check_linear(const linear_case *c)
{
    int32_t outputs = c->glu ? c->n / 2 : c->n;
    size_t count = (size_t)c->rows * (size_t)outputs;
    unsigned kinds = bt_cuda_linear_act(c->format, c->rows, c->deterministic);
    linear_matrix w = linear_matrix_open(c->format, c->n, c->k);
    float *x = random_floats((size_t)c->rows * (size_t)c->k, 1.0f);
    linear_act a = linear_act_open(x, c->rows, c->k, kinds);
    float *bias = c->bias ? random_floats((size_t)c->n, 1.0f) : NULL;
    float *y = random_floats(count, 1.0f);
    int wrong = 0;
    LINEAR_OK(linear_run(c, &w, &a, bias, y));
    for (int32_t r = 0; r < c->rows; r++)
        for (int32_t j = (r * 5) % 7; j<outputs; j += count> 3000 ? 7 : 1) {
            double bound, want = linear_expect(c, &w, &a, bias, r, j, &bound);
            if (c->glu) {
                double more, up = linear_expect(c, &w, &a, NULL, r, j + outputs, &more);
                double silu = want / (1 + exp(-want));
                bound = 1.1 * bound * (fabs(up) + more) + (fabs(silu) + bound) * more;
                want = silu * up;
                bound += 1e-6 * fabs(want);
            }
            double got = (double)y[(size_t)r * (size_t)outputs + (size_t)j];
            if (!(fabs(got - want) <= bound) && wrong++ == 0)
                fprintf(stderr, "%s rows %d sm %d: row %d output %d: %.9g, expected %.9g in %g\n",
                        bt_format_get(c->format)->name, c->rows, c->props.sm, r, j, got, want,
                        bound);
        }
    CHECK_INT(wrong, 0);
    bt_free(y);
    bt_free(bias);
    linear_act_close(&a);
    linear_matrix_close(&w);
}

/* One row after another up to beyond the GEMV's, with exactly the forms of activations asked for.
 */
static void rows_one_by_one(void)
{
    for (int f = 0; f < FORMATS; f++)
        for (int32_t rows = 1; rows <= 10; rows++) {
            linear_case c = {.format = formats[f],
                             .n = 36,
                             .k = 512,
                             .rows = rows,
                             .bias = rows % 2,
                             .props = linear_props(4)};
            check_linear(&c);
            c.deterministic = true;
            c.bias = false;
            c.glu = rows % 3 == 0;
            check_linear(&c);
        }
}

#ifdef BT_EMULATED
/* The choices of every class of device. */
static void device_classes(void)
{
    static const struct {
        int32_t sm, n_sm, shared;
    } devices[] = {{75, 40, 64 << 10},
                   {80, 108, 163 << 10},
                   {86, 80, 99 << 10},
                   {89, 58, 99 << 10},
                   {90, 132, 227 << 10}};
    int32_t real = linear_props(1).sm;
    for (int d = 0; d < 5; d++)
        for (int f = 0; f < FORMATS; f++) {
            linear_case c = {.format = formats[f],
                             .n = 72,
                             .k = 1024,
                             .rows = 5 + (d + f) % 4,
                             .props = linear_props(devices[d].n_sm)};
            if (devices[d].sm > real) continue;
            c.props.sm = devices[d].sm;
            c.props.shared_optin_bytes = devices[d].shared;
            check_linear(&c);
            c.rows = 20;
            c.glu = true;
            check_linear(&c);
        }
}
#endif

/* Many rows: one slice of outputs after another through the library where there is one, else our
 * own GEMM, with the same result. */
static void many_rows(void)
{
    bt_cuda_blas *blas = bt_cuda_blas_open();
    fprintf(stderr, "cuBLASLt: %s\n", blas ? "yes" : "no");
    for (int f = 0; f < FORMATS; f++)
        for (int glu = 0; glu < 2; glu++) {
            linear_case c = {.format = formats[f],
                             .n = 290,
                             .k = 256,
                             .rows = 256,
                             .bias = !glu,
                             .glu = glu,
                             .props = linear_props(8),
                             .blas = blas};
            bool quick = formats[f] == BT_FORMAT_Q4_K || formats[f] == BT_FORMAT_F16;
            c.props.sm = c.props.sm > 80 ? 80 : c.props.sm;
            if (c.props.sm == 80 && !quick && !linear_is_int8(c.format)) c.rows = 512;
            if (!quick) c.n = 130;
            check_linear(&c);
            if (!quick) continue;
            c.blas = NULL;
            check_linear(&c);
        }
    bt_cuda_blas_close(blas);
}

/* Scratch that holds less than a slice is not overrun: our GEMM takes the call. */
static void little_scratch(void)
{
    enum { N = 64, K = 64, ROWS = 256 };
    bt_cuda_blas *blas = bt_cuda_blas_open();
    bt_cuda_props props = linear_props(1);
    linear_matrix w = linear_matrix_open(BT_FORMAT_F16, N, K);
    linear_act a = linear_act_open(random_floats(ROWS * K, 1.0f), ROWS, K, BT_CUDA_ACT_F16);
    float *y = linear_upload(a.f32, ROWS * N * sizeof *y), got[N];
    void *scratch = linear_upload(a.f32, 4096);
    bt_cuda_linear_args args = {.w = &w.m,
                                .act = &a.device,
                                .rows = ROWS,
                                .y = y,
                                .ldy = N,
                                .scratch = scratch,
                                .scratch_bytes = 4096,
                                .props = &props,
                                .blas = blas};
    props.sm = props.sm > 80 ? 80 : props.sm;
    LINEAR_OK(bt_cuda_linear(&args, NULL));
    LINEAR_OK(cudaMemcpy(got, y, sizeof got, cudaMemcpyDeviceToHost));
    for (int32_t j = 0; j < N; j++) {
        double bound, want = linear_want(&w, &a, j, 0, true, &bound);
        CHECK_NEAR(got[j], want, bound + 1e-6);
    }
    cudaFree(scratch);
    cudaFree(y);
    linear_act_close(&a);
    linear_matrix_close(&w);
    bt_cuda_blas_close(blas);
}

#ifdef BT_EMULATED
/* Each runtime call failing in turn: the error is returned, or another kernel gave a right result;
 * nothing of it lingers. rows 9: split, two launches; rows 256: unpacked, library, second pass. */
static void calls_fail(void)
{
    enum { N = 40, K = 2560, ROWS = 256 };
    bt_cuda_blas *blas = bt_cuda_blas_open();
    bt_cuda_props props = linear_props(100);
    linear_matrix w = linear_matrix_open(BT_FORMAT_Q4_0, N, K);
    float *x = random_floats((size_t)ROWS * K, 1.0f), got[N];
    linear_act a = linear_act_open(x, ROWS, K, BT_CUDA_ACT_Q8 | BT_CUDA_ACT_F16);
    float *y = linear_upload(x, (size_t)ROWS * N * sizeof *y);
    props.sm = props.sm > 80 ? 80 : props.sm;
    for (int32_t rows = 9; rows <= ROWS; rows += ROWS - 9) {
        bt_cuda_linear_args args = {.w = &w.m,
                                    .act = &a.device,
                                    .rows = rows,
                                    .y = y,
                                    .ldy = N,
                                    .props = &props,
                                    .blas = blas};
        int failures = 0;
        args.scratch_bytes = bt_cuda_linear_scratch(BT_FORMAT_Q4_0, N, K, rows, &props);
        REQUIRE(cudaMalloc(&args.scratch, args.scratch_bytes) == cudaSuccess);
        for (long n = 1; n < 100; n++) {
            bt_emu_fail_at(n);
            cudaError_t e = bt_cuda_linear(&args, NULL);
            bool failed = bt_emu_failed();
            bt_emu_fail_at(0);
            failures += e != cudaSuccess;
            CHECK(failed || e == cudaSuccess);
            LINEAR_OK(cudaGetLastError());
            LINEAR_OK(cudaMemcpy(got, y, sizeof got, cudaMemcpyDeviceToHost));
            for (int32_t j = 0; j < N && e == cudaSuccess; j++) {
                double bound, more, want = linear_want(&w, &a, j, 0, true, &bound);
                (void)linear_want(&w, &a, j, 0, false, &more);
                CHECK_NEAR(got[j], want, bound + more + 0.02 * fabs(want) + 0.2);
            }
            if (!failed) break;
        }
        CHECK(failures >= 2);
        cudaFree(args.scratch);
    }
    cudaFree(y);
    linear_act_close(&a);
    linear_matrix_close(&w);
    bt_cuda_blas_close(blas);
}
#endif

/* The library alone: strides, a shape seen again, more shapes than it keeps, and refusals. */
static void blas_products(void)
{
    enum { N = 24, K = 40, ROWS = 70, LD = 48, LDY = 30 };
    bt_cuda_blas_close(NULL);
    bt_cuda_blas *b = bt_cuda_blas_open();
    if (!b) {
        fprintf(stderr, "no cuBLASLt here\n");
        return;
    }
    uint16_t *w = bt_must(bt_malloc(N * LD * 2)), *x = bt_must(bt_malloc(ROWS * LD * 2));
    for (int i = 0; i < N * LD; i++) w[i] = bt_f16_from_f32(random_normal());
    for (int i = 0; i < ROWS * LD; i++) x[i] = bt_f16_from_f32(random_normal());
    float *start = random_floats(ROWS * LDY, 1.0f), *y = bt_must(bt_malloc(ROWS * LDY * 4));
    void *dw = linear_upload(w, N * LD * 2), *dx = linear_upload(x, ROWS * LD * 2), *work;
    float *dy = linear_upload(start, ROWS * LDY * 4);
    REQUIRE(cudaMalloc(&work, 4096) == cudaSuccess);
    /* The library may have no kernel for a shape: then the product is left to others. */
    int refused = 0, wrong = 0, done = 0;
    for (int32_t rows = 1; rows <= ROWS; rows++) {
        cudaError_t e =
            bt_cuda_blas_gemm_f16(b, N, rows, K, dw, LD, dx, LD, dy, LDY, work, 4096, NULL);
        if (e == cudaErrorNotSupported) {
            refused++;
            continue;
        }
        LINEAR_OK(e);
        done = rows;
    }
    if (refused) fprintf(stderr, "cuBLASLt has no kernel for %d of %d shapes\n", refused, ROWS);
#ifdef BT_EMULATED
    CHECK_INT(refused, 0);
#endif
    LINEAR_OK(cudaMemcpy(y, dy, ROWS * LDY * 4, cudaMemcpyDeviceToHost));
    for (int r = 0; r < done; r++)
        for (int j = 0; j < LDY; j++) {
            double sum = 0;
            for (int i = 0; i < K && j < N; i++)
                sum +=
                    (double)bt_f32_from_f16(w[j * LD + i]) * (double)bt_f32_from_f16(x[r * LD + i]);
            if (j >= N) sum = (double)start[r * LDY + j];
            wrong += !(fabs((double)y[r * LDY + j] - sum) <= 1e-4);
        }
    CHECK_INT(wrong, 0);
    CHECK_INT(bt_cuda_blas_gemm_f16(b, 0, 1, K, dw, LD, dx, LD, dy, LDY, work, 4096, NULL),
              cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_blas_gemm_f16(b, N, 1, K, dw, K - 8, dx, LD, dy, LDY, work, 4096, NULL),
              cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_blas_gemm_f16(NULL, N, 1, K, dw, LD, dx, LD, dy, LDY, work, 4096, NULL),
              cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_blas_gemm_f16(b, N, 1, K, (char *)dw + 2, LD, dx, LD, dy, LDY, work, 0, NULL),
              cudaErrorNotSupported);
#ifdef BT_EMULATED
    /* A library that says no after all leaves the product to others, and is not asked again. */
    bt_emu_answer("cublasLtMatmul", 14);
    for (int again = 0; again < 2; again++) {
        CHECK_INT(bt_cuda_blas_gemm_f16(b, N, ROWS, K, dw, LD, dx, LD, dy, LDY, work, 4096, NULL),
                  cudaErrorNotSupported);
        bt_emu_answer(NULL, 0);
    }
#endif
    cudaFree(work);
    cudaFree(dw);
    cudaFree(dx);
    cudaFree(dy);
    bt_free(w);
    bt_free(x);
    bt_free(y);
    bt_free(start);
    bt_cuda_blas_close(b);
}

/* What a caller plans with: forms and scratch, without a device. */
static void plans(void)
{
    bt_cuda_props props = {
        .sm = 89, .n_sm = 58, .shared_optin_bytes = 99 << 10, .l2_bytes = 48 << 20};
    CHECK_INT(bt_cuda_linear_act(BT_FORMAT_Q4_K, 1, false), BT_CUDA_ACT_Q8);
    CHECK_INT(bt_cuda_linear_act(BT_FORMAT_Q4_K, 64, false), BT_CUDA_ACT_Q8);
    CHECK_INT(bt_cuda_linear_act(BT_FORMAT_Q4_K, 512, true), BT_CUDA_ACT_Q8);
    CHECK_INT(bt_cuda_linear_act(BT_FORMAT_Q4_K, 512, false), BT_CUDA_ACT_Q8 | BT_CUDA_ACT_F16);
    CHECK_INT(bt_cuda_linear_act(BT_FORMAT_F16, 8, false), BT_CUDA_ACT_F32);
    CHECK_INT(bt_cuda_linear_act(BT_FORMAT_F16, 9, false), BT_CUDA_ACT_F16);
    CHECK_INT(bt_cuda_linear_act(BT_FORMAT_F16, 1, true), BT_CUDA_ACT_F16);
    CHECK_INT(bt_cuda_linear_act(BT_FORMAT_INT4G, 8, false), BT_CUDA_ACT_F32 | BT_CUDA_ACT_F16);
    CHECK_INT(bt_cuda_linear_act(BT_FORMAT_F32, 100, false), BT_CUDA_ACT_F32);
    CHECK_INT(bt_cuda_linear_scratch(BT_FORMAT_Q2_K, 64, 256, 16, &props), 0);
    CHECK_INT(bt_cuda_linear_scratch(BT_FORMAT_Q4_K, 64, 100, 16, &props), 0);
    size_t before = 0;
    for (int32_t rows = 1; rows <= 4096; rows = rows * 2 + 1) {
        size_t bytes = bt_cuda_linear_scratch(BT_FORMAT_F16, 4096, 14336, rows, &props);
        CHECK(bytes >= before && bytes % 256 == 0 && bytes <= 160u << 20);
        before = bytes;
    }
    CHECK(before > 0);
    CHECK(bt_cuda_linear_scratch(BT_FORMAT_Q4_K, 128256, 4096, 2048, &props) <= 64u << 20);
}

int main(void)
{
    RUN(plans);
    linear_need_device();
    RUN(rows_one_by_one);
#ifdef BT_EMULATED
    RUN(device_classes);
#endif
    RUN(many_rows);
    RUN(little_scratch);
    RUN(blas_products);
#ifdef BT_EMULATED
    RUN(calls_fail);
#endif
    return TEST_END();
}
