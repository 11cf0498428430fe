/* SPDX-License-Identifier: Apache-2.0 */
/* The GEMM against the arithmetic that its header promises. TIMEOUT 300 */
#include "kernels/cuda_linear.h"

enum { GUARD = 3 }; // columns after each row of y that nobody may touch

static const int32_t formats[] = {BT_FORMAT_Q8_0,  BT_FORMAT_Q4_0, BT_FORMAT_Q4_K, BT_FORMAT_Q5_K,
                                  BT_FORMAT_Q6_K,  BT_FORMAT_F16,  BT_FORMAT_BF16, BT_FORMAT_INT8G,
                                  BT_FORMAT_INT4G, BT_FORMAT_F32};
enum { FORMATS = sizeof formats / sizeof *formats };

static unsigned kinds_of(int32_t format)
{
    return linear_is_int8(format)    ? BT_CUDA_ACT_Q8
           : format == BT_FORMAT_F32 ? BT_CUDA_ACT_F32
                                     : BT_CUDA_ACT_F16;
}

typedef struct gemm_case {
    int32_t format, n, k, rows;
    bool bias, accumulate, glu, deterministic;
    bt_cuda_props props;
} gemm_case;

/* Runs the case on w and a; y, [rows, outputs + GUARD], starts as `start`. Returns the launch's
 * verdict. */
static cudaError_t gemm_run(const gemm_case *c, const linear_matrix *w, const linear_act *a,
                            const float *bias, const float *start, float *y)
{
    int32_t outputs = c->glu ? c->n / 2 : c->n;
    int64_t ldy = outputs + GUARD;
    size_t bytes = (size_t)c->rows * (size_t)ldy * sizeof *y;
    float *dev_y = linear_upload(start, bytes), *dev_bias = NULL;
    if (bias) dev_bias = linear_upload(bias, (size_t)c->n * sizeof *bias);
    bt_cuda_linear_args args = {.w = &w->m,
                                .act = &a->device,
                                .rows = c->rows,
                                .bias = dev_bias,
                                .accumulate = c->accumulate,
                                .y = dev_y,
                                .ldy = ldy,
                                .glu = c->glu,
                                .deterministic = c->deterministic,
                                .props = &c->props};
    args.scratch_bytes = bt_cuda_linear_scratch(c->format, c->n, c->k, c->rows, &c->props);
    if (args.scratch_bytes) REQUIRE(cudaMalloc(&args.scratch, args.scratch_bytes) == cudaSuccess);
    cudaError_t e = bt_cuda_gemm(&args, NULL);
    LINEAR_OK(cudaDeviceSynchronize());
    LINEAR_OK(cudaMemcpy(y, dev_y, bytes, cudaMemcpyDeviceToHost));
    cudaFree(args.scratch);
    cudaFree(dev_bias);
    cudaFree(dev_y);
    return e;
}

/* Expected output j of row r after GLU, bias, accumulation; *bound of its error. */
static double want_of(const gemm_case *c, const linear_matrix *w, const linear_act *a,
                      const float *bias, double start, int32_t r, int32_t j, double *bound)
{
    bool halves = kinds_of(c->format) == BT_CUDA_ACT_F16;
    double v = linear_want(w, a, j, r, halves, bound);
    if (c->glu) {
        double up_bound, up = linear_want(w, a, j + c->n / 2, r, halves, &up_bound);
        double silu = v / (1 + exp(-v));
        *bound = 1.1 * *bound * (fabs(up) + up_bound) + (fabs(silu) + *bound) * up_bound +
                 1e-6 * fabs(silu * up); // silu is steeper than 1.1 nowhere
        return silu * up;
    }
    if (bias) v += (double)bias[j];
    if (c->accumulate) v += start;
    *bound += 0x1p-22 * fabs(v) + 1e-30;
    return v;
}

static void check_case(const gemm_case *c)
{
    int32_t outputs = c->glu ? c->n / 2 : c->n;
    size_t ldy = (size_t)outputs + GUARD, count = (size_t)c->rows * ldy;
    float *x = random_floats((size_t)c->rows * (size_t)c->k, 1.0f);
    if (c->rows > 1) // one row whose halves need a scale
        for (int32_t i = 0; i < c->k; i++) x[c->k + i] *= 3000;
    linear_matrix w = linear_matrix_open(c->format, c->n, c->k);
    linear_act a = linear_act_open(x, c->rows, c->k, kinds_of(c->format));
    float *bias = c->bias ? random_floats((size_t)c->n, 1.0f) : NULL;
    float *start = random_floats(count, 1.0f), *y = bt_must(bt_malloc(count * sizeof *y));
    LINEAR_OK(gemm_run(c, &w, &a, bias, start, y));
    int wrong = 0, spilled = 0;
    for (int32_t r = 0; r < c->rows; r++)
        for (size_t j = 0; j < ldy; j++) {
            size_t at = (size_t)r * ldy + j;
            double bound;
            if (j >= (size_t)outputs) {
                spilled += bt_f32_bits(y[at]) != bt_f32_bits(start[at]);
                continue;
            }
            if (c->rows * c->n > 4000 && (r * 7 + (int)j) % 5) continue; // a sample of large ones
            double want = want_of(c, &w, &a, bias, (double)start[at], r, (int32_t)j, &bound);
            bool good = fabs((double)y[at] - want) <= bound;
            if (!good && wrong++ == 0)
                fprintf(stderr, "row %d output %zu: %.9g, expected %.9g within %g\n", r, j,
                        (double)y[at], want, bound);
        }
    if (wrong || spilled)
        fprintf(stderr, "%s n %d k %d rows %d glu %d n_sm %d sm %d\n",
                bt_format_get(c->format)->name, c->n, c->k, c->rows, c->glu, c->props.n_sm,
                c->props.sm);
    CHECK_INT(wrong, 0);
    CHECK_INT(spilled, 0);
    bt_free(y);
    bt_free(start);
    bt_free(bias);
    linear_act_close(&a);
    linear_matrix_close(&w);
}

/* Shapes of every tile, with ragged outputs, rows and k; n_sm 1: nothing is split and many rows
 * take the widest tile. */
static void grid_of(int32_t format)
{
    static const struct {
        int32_t n, k, rows; // k in blocks of 32
        bool bias, accumulate, glu;
    } shapes[] = {
        {1, 1, 9, true, false, false},    {5, 3, 16, false, true, false},
        {65, 5, 11, true, true, false},   {64, 8, 17, false, false, false},
        {70, 13, 32, true, false, false}, {131, 9, 33, false, true, false},
        {63, 4, 64, true, false, false},  {129, 9, 130, true, true, false},
        {64, 6, 67, false, false, false}, {22, 10, 12, false, false, true},
        {90, 5, 34, false, false, true},  {140, 3, 129, false, false, true},
    };
    int32_t block = bt_cuda_linear_block(format);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int32_t k = shapes[i].k * 32;
        if (k % block) k = (k + block - 1) / block * block;
        gemm_case c = {.format = format,
                       .n = shapes[i].n,
                       .k = k,
                       .rows = shapes[i].rows,
                       .bias = shapes[i].bias,
                       .accumulate = shapes[i].accumulate,
                       .glu = shapes[i].glu,
                       .props = linear_props(1)};
        check_case(&c);
#ifdef BT_EMULATED
        if (i % 3 != 1) continue;
        c.props.sm = 75; // the path without cp.async
        c.props.shared_optin_bytes = 64 * 1024;
        check_case(&c);
#endif
    }
}

static void grid_int8(void)
{
    for (int f = 0; f < FORMATS; f++)
        if (linear_is_int8(formats[f])) grid_of(formats[f]);
}
static void grid_half(void)
{
    for (int f = 0; f < FORMATS; f++)
        if (kinds_of(formats[f]) == BT_CUDA_ACT_F16) grid_of(formats[f]);
}
static void grid_f32(void)
{
    grid_of(BT_FORMAT_F32);
}

/* Few outputs on a wide device: k is split, and a second pass adds the parts. */
static void split(void)
{
    for (int f = 0; f < FORMATS; f++) {
        gemm_case c = {.format = formats[f],
                       .n = 40,
                       .k = 2560,
                       .rows = 19,
                       .bias = true,
                       .accumulate = true,
                       .props = linear_props(100)};
        if (formats[f] != BT_FORMAT_F32)
            CHECK(bt_cuda_linear_scratch(c.format, c.n, c.k, c.rows, &c.props) >=
                  (size_t)(2 * c.n * c.rows) * sizeof(float));
        check_case(&c);
        c.bias = c.accumulate = false;
        c.glu = true;
        c.rows = 9;
        check_case(&c);
    }
}

/* Rows of halves and floats that are not whole 16-byte pieces. */
static void odd_columns(void)
{
    static const int32_t odd[] = {BT_FORMAT_F16, BT_FORMAT_BF16, BT_FORMAT_F32};
    for (int f = 0; f < 3; f++)
        for (int i = 0; i < 4; i++) {
            static const int32_t ks[] = {1, 33, 172, 130};
            gemm_case c = {.format = odd[f],
                           .n = 66,
                           .k = ks[i],
                           .rows = i % 2 ? 18 : 10,
                           .bias = true,
                           .props = linear_props(1)};
            check_case(&c);
#ifdef BT_EMULATED
            c.props.sm = 75;
            check_case(&c);
#endif
        }
}

/* Deterministic: a row's bits are the same alone, among any others, in every tile and on devices of
 * every width. */
static void deterministic(void)
{
    enum { N = 70, K = 1280, ROWS = 132 };
    static const int32_t counts[] = {1, 8, 9, 17, 40, 65, ROWS};
    for (int f = 0; f < FORMATS; f++) {
        linear_matrix w = linear_matrix_open(formats[f], N, K);
        float *x = random_floats((size_t)ROWS * K, 1.0f);
        linear_act a = linear_act_open(x, ROWS, K, kinds_of(formats[f]));
        size_t ld = N + GUARD, count = ROWS * ld;
        float *start = random_floats(count, 1.0f), *y = bt_must(bt_malloc(count * sizeof *y));
        float first[N];
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            gemm_case c = {.format = formats[f],
                           .n = N,
                           .k = K,
                           .rows = counts[i],
                           .deterministic = true,
                           .props = linear_props(i % 2 ? 1 : 100)};
            if (counts[i] == ROWS) c.props.n_sm = 1;
            LINEAR_OK(gemm_run(&c, &w, &a, NULL, start, y));
            if (i == 0) memcpy(first, y, sizeof first);
            CHECK_INT(memcmp(first, y, sizeof first), 0);
        }
        bt_free(y);
        bt_free(start);
        linear_act_close(&a);
        linear_matrix_close(&w);
    }
}

/* Quants and activations at their limits: block sums reach 2^19, where 16 bits or a float of 24
 * would not do, and stay exact. */
static void extreme_values(void)
{
    enum { N = 33, K = 256, ROWS = 10 };
    static const uint8_t fills[] = {0x80, 0x7F, 0xFF, 0x00};
    for (int f = 0; f < FORMATS; f++)
        for (int fill = 0; fill < 4 && linear_is_int8(formats[f]); fill++) {
            linear_matrix w = linear_matrix_open(formats[f], N, K);
            const bt_format_info *info = bt_format_get(formats[f]);
            size_t size = (size_t)info->bytes, blocks = N * K / (size_t)info->elems;
            int d, m;
            linear_scales_at(formats[f], &d, &m);
            memset(w.src, fills[fill], blocks * size);
            for (size_t b = 0; b < blocks; b++) {
                linear_set_f16(w.src + b * size + d, 0.5f);
                if (m >= 0) linear_set_f16(w.src + b * size + m, 0.25f);
            }
            void *file = linear_upload(w.src, blocks * size);
            LINEAR_OK(bt_cuda_matrix_pack(&w.m, 0, N, file, NULL));
            float *x = random_floats(ROWS * K, 1.0f), y[ROWS * (N + GUARD)];
            for (int i = 0; i < ROWS * K; i++) x[i] = i / K % 2 ? -1.0f : 1.0f;
            linear_act a = linear_act_open(x, ROWS, K, BT_CUDA_ACT_Q8);
            gemm_case c = {
                .format = formats[f], .n = N, .k = K, .rows = ROWS, .props = linear_props(1)};
            memset(y, 0, sizeof y);
            LINEAR_OK(gemm_run(&c, &w, &a, NULL, y, y));
            for (int r = 0; r < ROWS; r++)
                for (int o = 0; o < N; o += 8) {
                    double sum, want = (double)linear_want_int8(&w, &a, o, r, &sum);
                    CHECK_NEAR(y[r * (N + GUARD) + o], want, 1e-7 * fabs(want));
                }
            cudaFree(file);
            linear_act_close(&a);
            linear_matrix_close(&w);
        }
}

/* A row that is not finite spoils its own results and nobody else's. */
static void not_finite_row(void)
{
    enum { N = 20, K = 256, ROWS = 12, BAD = 3 };
    for (int f = 0; f < FORMATS; f++) {
        float *x = random_floats(ROWS * K, 1.0f), y[ROWS * (N + GUARD)] = {0};
        int finite = 0, other = 0;
        x[BAD * K + 77] = NAN;
        linear_matrix w = linear_matrix_open(formats[f], N, K);
        linear_act a = linear_act_open(x, ROWS, K, kinds_of(formats[f]));
        gemm_case c = {
            .format = formats[f], .n = N, .k = K, .rows = ROWS, .props = linear_props(1)};
        LINEAR_OK(gemm_run(&c, &w, &a, NULL, y, y));
        for (int r = 0; r < ROWS; r++)
            for (int o = 0; o < N; o++) {
                bool is = isfinite(y[r * (N + GUARD) + o]);
                if (r == BAD)
                    finite += is;
                else
                    other += !is;
            }
        CHECK_INT(finite, 0);
        CHECK_INT(other, 0);
        linear_act_close(&a);
        linear_matrix_close(&w);
    }
}

/* Arguments that are no product are refused before anything is launched. */
static void refusals(void)
{
    enum { N = 8, K = 256, ROWS = 9 };
    linear_matrix w = linear_matrix_open(BT_FORMAT_Q4_K, N, K);
    linear_act a = linear_act_open(random_floats(ROWS * K, 1.0f), ROWS, K, BT_CUDA_ACT_Q8);
    bt_cuda_props props = linear_props(1), wide = linear_props(500);
    float *y = linear_upload(a.f32, N * ROWS * sizeof *y);
    const bt_cuda_linear_args good = {
        .w = &w.m, .act = &a.device, .rows = ROWS, .y = y, .ldy = N, .props = &props};
    bt_cuda_linear_args bad[8] = {good, good, good, good, good, good, good, good};
    bt_cuda_act short_k = a.device, no_q8 = {.k = K};
    bt_cuda_matrix unknown = w.m, deep = w.m;
    short_k.k = K / 2;
    unknown.format = BT_FORMAT_Q2_K;
    bad[0].rows = 0;
    bad[1].act = &short_k;
    bad[2].act = &no_q8;
    bad[3].w = &unknown;
    bad[4].y = NULL;
    bad[5].props = NULL;
    bad[6].glu = bad[6].accumulate = true;
    deep.k = 4096; // would be split, but there is no scratch
    short_k.k = deep.k;
    bad[7].w = &deep;
    bad[7].props = &wide;
    for (int i = 0; i < 8; i++) {
        if (i == 1) short_k.k = K / 2;
        if (i == 7) short_k.k = 4096, bad[7].act = &short_k;
        CHECK_INT(bt_cuda_gemm(&bad[i], NULL), cudaErrorInvalidValue);
    }
    LINEAR_OK(bt_cuda_gemm(&good, NULL));
    LINEAR_OK(cudaDeviceSynchronize());
    cudaFree(y);
    linear_act_close(&a);
    linear_matrix_close(&w);
}

int main(void)
{
    linear_need_device();
    RUN(grid_int8);
    RUN(grid_half);
    RUN(grid_f32);
    RUN(split);
    RUN(odd_columns);
    RUN(deterministic);
    RUN(extreme_values);
    RUN(not_finite_row);
    RUN(refusals);
    return TEST_END();
}
