/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 240 */
/* bt_cuda_gemv against the same terms summed in f64, and against itself: a row's bits are the same
 * whoever shares the launch and however activations are cut into chunks. */
#include "kernels/linear/linear_cuda.h"
#include "kernels/cuda_ops.h"

static const int32_t formats[] = {BT_FORMAT_F32,   BT_FORMAT_F16,  BT_FORMAT_BF16, BT_FORMAT_Q8_0,
                                  BT_FORMAT_Q4_0,  BT_FORMAT_Q4_K, BT_FORMAT_Q5_K, BT_FORMAT_Q6_K,
                                  BT_FORMAT_INT8G, BT_FORMAT_INT4G};
enum { N_FORMATS = sizeof formats / sizeof *formats };

/* Few multiprocessors, so that small matrices are many: one warp an output; and more of them than
 * there is work for: several warps share one. Little shared memory cuts k into chunks. */
static bt_cuda_props few, many, little;

static void read_props(void)
{
    int shared = 0;
    CHECK_CUDA(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    few = many = little = (bt_cuda_props){.sm = 80, .n_sm = 1, .shared_optin_bytes = shared};
    many.n_sm = 64;
    little.shared_optin_bytes = 40 << 10;
}

typedef struct fixture {
    int32_t n, k, rows;
    float *w, *x; // host: dequantized weights; activations
    int8_t *q;    // host: activations as Q8
    float *d, *s;
    uint8_t *src; // host: the file's rows
    bt_cuda_matrix m;
    bt_cuda_act act;
} fixture;

/* The Q8 form by the words of kernels/cuda_act.h. */
static void quantize(const float *x, size_t blocks, int8_t *q, float *d, float *s)
{
    for (size_t b = 0; b < blocks; b++, x += 32, q += 32) {
        float amax = 0;
        int sum = 0;
        for (int i = 0; i < 32; i++) amax = fmaxf(amax, fabsf(x[i]));
        for (int i = 0; i < 32; i++) q[i] = amax > 0 ? (int8_t)rintf(x[i] * (127 / amax)) : 0;
        for (int i = 0; i < 32; i++) sum += q[i];
        d[b] = amax / 127;
        s[b] = d[b] * (float)sum;
    }
}

static void fixture_open(fixture *f, int32_t format, int32_t n, int32_t k, int32_t rows)
{
    *f = (fixture){.n = n, .k = k, .rows = rows};
    size_t nk = (size_t)n * (size_t)k, rk = (size_t)rows * (size_t)k;
    size_t bytes = bt_format_bytes(format, nk), blocks = rk / 32;
    f->w = random_floats(nk, 0.1f);
    f->x = random_floats(rk, 1);
    for (size_t i = 5; i < rk; i += 97) f->x[i] *= 20;
    f->src = bt_must(bt_malloc(bytes));
    REQUIRE(bt_quant_ref(format, f->w, nk, f->src));
    REQUIRE(bt_dequant_ref(format, f->src, nk, f->w));
    f->m = (bt_cuda_matrix){format, n, k, cuda_filled(bt_cuda_matrix_bytes(format, n, k))};
    CHECK_CUDA(bt_cuda_matrix_pack(&f->m, 0, n, cuda_put(f->src, bytes), NULL));
    f->act.k = k;
    if (bt_cuda_gemv_act(format) == BT_CUDA_ACT_F32) {
        f->act.f32 = cuda_put(f->x, rk * sizeof(float));
        return;
    }
    f->q = bt_must(bt_malloc(rk));
    f->d = bt_must(bt_malloc(blocks * sizeof(float)));
    f->s = bt_must(bt_malloc(blocks * sizeof(float)));
    quantize(f->x, blocks, f->q, f->d, f->s);
    f->act.q = cuda_put(f->q, rk);
    f->act.d = cuda_put(f->d, blocks * sizeof(float));
    f->act.s = cuda_put(f->s, blocks * sizeof(float));
}

static void fixture_close(fixture *f)
{
    bt_free(f->w);
    bt_free(f->x);
    bt_free(f->q);
    bt_free(f->d);
    bt_free(f->s);
    bt_free(f->src);
    cuda_clear();
}

/* The f64 sum of weight row o and activation row r; *size: of the magnitudes. The offsets of the
 * formats are terms of their own on the device, so magnitudes are bounded by the largest weight. */
static double dot(const fixture *f, int32_t r, int32_t o, double *size)
{
    const float *w = f->w + (size_t)o * (size_t)f->k;
    double sum = 0, all = 0, most = 0;
    for (int32_t i = 0; i < f->k; i++) {
        size_t at = (size_t)r * (size_t)f->k + (size_t)i;
        double x = f->q ? (double)f->d[at / 32] * f->q[at] : (double)f->x[at];
        sum += (double)w[i] * x;
        all += fabs(x);
        most = fmax(most, fabs((double)w[i]));
    }
    *size = 3 * all * most;
    return sum;
}

typedef struct run {
    int32_t rows;
    const float *bias; // device
    bool accumulate, glu;
    const bt_cuda_props *props;
} run;

/* y of rows [r0, r0 + rows) on the host, [rows, n + 3], begun as 0.25 and 77 in the gap. */
static float *fixture_run(const fixture *f, int32_t r0, const run *how)
{
    int32_t n = how->glu ? f->n / 2 : f->n;
    int64_t ldy = n + 3;
    size_t count = (size_t)how->rows * (size_t)ldy, at = (size_t)r0 * (size_t)f->k;
    float *start = bt_must(bt_malloc(count * sizeof *start));
    for (size_t i = 0; i < count; i++) start[i] = (int64_t)i % ldy < n ? 0.25f : 77;
    bt_cuda_act act = f->act;
    if (act.f32) act.f32 += at;
    if (act.q) act.q += at, act.d += at / 32, act.s += at / 32;
    bt_cuda_linear_args a = {.w = &f->m,
                             .act = &act,
                             .rows = how->rows,
                             .bias = how->bias,
                             .accumulate = how->accumulate,
                             .glu = how->glu,
                             .y = cuda_put(start, count * sizeof *start),
                             .ldy = ldy,
                             .props = how->props};
    CHECK_CUDA(bt_cuda_gemv(&a, NULL));
    bt_free(start);
    return cuda_copy(a.y, count * sizeof *start);
}

static double unit_bound(const fixture *f)
{
    return 0x1p-24 * (f->k / 32 + 24);
}

/* bias: host, or NULL. Returns y. */
static float *check_run(const fixture *f, const run *how, const float *bias)
{
    int32_t n = how->glu ? f->n / 2 : f->n, bad = 0, spilled = 0;
    int64_t ldy = n + 3;
    float *y = fixture_run(f, 0, how);
    for (int32_t r = 0; r < how->rows; r++) {
        for (int32_t o = 0; o < n; o++) {
            double size, size_up = 0, want = dot(f, r, o, &size), tol;
            if (how->glu) {
                double up = dot(f, r, o + n, &size_up), gate = want;
                want = gate / (1 + exp(-gate)) * up;
                tol = unit_bound(f) * (1.1 * size * fabs(up) + size_up * (fabs(gate) + 1)) + 1e-6;
            } else {
                want += (bias ? (double)bias[o] : 0) + (how->accumulate ? 0.25 : 0);
                tol = unit_bound(f) * (size + 2);
            }
            bad += !(fabs((double)y[r * ldy + o] - want) <= tol);
        }
        for (int64_t o = n; o < ldy; o++) spilled += y[r * ldy + o] != 77;
    }
    if (bad || spilled)
        fprintf(stderr, "%s n %d k %d rows %d\n", bt_format_get(f->m.format)->name, f->n, f->k,
                how->rows);
    CHECK_INT(bad, 0);
    CHECK_INT(spilled, 0);
    return y;
}

/* Each row alone, and any number of them, give the bits of the run of all rows. */
static void check_rows(const fixture *f, const run *all, const float *y)
{
    int64_t ldy = (all->glu ? f->n / 2 : f->n) + 3;
    static const int32_t counts[] = {1, 2, 3, 5};
    for (size_t c = 0; c < 4; c++) {
        int32_t rows = counts[c], r0 = f->rows - rows;
        if (rows >= f->rows) break;
        run part = *all;
        part.rows = rows;
        float *z = fixture_run(f, r0, &part);
        CHECK_INT(memcmp(z, y + r0 * ldy, (size_t)rows * (size_t)ldy * sizeof *z), 0);
        bt_free(z);
    }
}

static int32_t columns(int32_t format, int32_t about)
{
    int32_t block = bt_cuda_linear_block(format);
    return block == 1 ? about : (about + block - 1) / block * block;
}

/* Odd shapes, all row counts, bias, residual and GLU; one warp an output. */
static void shapes(void)
{
    static const int32_t ns[] = {1, 5, 18}, ks[] = {7, 64, 333};
    static const int32_t rows[] = {1, 2, 3, 8};
    for (int f = 0; f < N_FORMATS; f++)
        for (int i = 0; i < 3; i++) {
            fixture x;
            fixture_open(&x, formats[f], ns[i], columns(formats[f], ks[i]), 8);
            float *bias = random_floats((size_t)x.n, 1);
            for (int j = 0; j < 4; j++) {
                run how = {rows[j], j % 2 ? cuda_put(bias, (size_t)x.n * 4) : NULL, j > 1, false,
                           &few};
                float *y = check_run(&x, &how, j % 2 ? bias : NULL);
                if (rows[j] == 8 && i == 1) check_rows(&x, &how, y);
                bt_free(y);
                run glu = {rows[j], NULL, false, true, &few};
                if (x.n % 2 == 0) bt_free(check_run(&x, &glu, NULL));
            }
            bt_free(bias);
            fixture_close(&x);
        }
}

/* Rows of several steps, shared by up to four warps. */
static void long_rows(void)
{
    for (int f = 0; f < N_FORMATS; f++) {
        int32_t unit = bt_cuda_gemv_act(formats[f]) == BT_CUDA_ACT_Q8 ? 1024 : 256;
        if (formats[f] == BT_FORMAT_INT4G) unit = 1024;
        fixture x;
        fixture_open(&x, formats[f], 6, columns(formats[f], unit * 8 + unit / 3), 6);
        run how = {6, NULL, true, false, &many}, glu = {6, NULL, false, true, &many};
        float *y = check_run(&x, &how, NULL);
        check_rows(&x, &how, y);
        bt_free(check_run(&x, &glu, NULL));
        bt_free(y);
        fixture_close(&x);
    }
}

/* Little shared memory: the same bits chunk by chunk as in one piece. 8 rows and more than 8. */
static void chunks(void)
{
    static const int32_t kinds[] = {BT_FORMAT_F16, BT_FORMAT_Q8_0, BT_FORMAT_Q4_K};
    static const int32_t ks[] = {1500, 3072, 2560};
    for (int f = 0; f < 3; f++) {
        fixture x;
        fixture_open(&x, kinds[f], 4, ks[f], 11);
        run whole = {11, NULL, false, true, &few}, cut = {11, NULL, false, true, &little};
        float *y = check_run(&x, &whole, NULL), *z = fixture_run(&x, 0, &cut);
        CHECK_INT(memcmp(y, z, 11 * 5 * sizeof *y), 0);
        bt_free(y);
        bt_free(z);
        fixture_close(&x);
    }
}

/* More groups of outputs than blocks: each walks over several with the activations it staged. */
static void walks(void)
{
    static const int32_t kinds[] = {BT_FORMAT_BF16, BT_FORMAT_Q6_K, BT_FORMAT_INT4G};
    for (int f = 0; f < 3; f++) {
        fixture x;
        fixture_open(&x, kinds[f], 70, 256, 3);
        run how = {3, NULL, true, false, &few}, glu = {3, NULL, false, true, &few};
        float *y = check_run(&x, &how, NULL);
        bt_free(check_run(&x, &glu, NULL));
        bt_free(y);
        fixture_close(&x);
    }
}

/* Whatever order blocks, warps and threads run in. */
static void orders(void)
{
    static const int32_t kinds[] = {BT_FORMAT_F16, BT_FORMAT_Q4_K, BT_FORMAT_INT4G};
    for (int f = 0; f < 3; f++) {
        fixture x;
        fixture_open(&x, kinds[f], 38, kinds[f] == BT_FORMAT_F16 ? 2048 : 5120, 3);
        run how = {3, NULL, true, false, &few}, cut = {3, NULL, true, false, &little},
            shared = {3, NULL, true, false, &many};
        float *y = fixture_run(&x, 0, &how), *w = fixture_run(&x, 0, &shared);
        size_t bytes = 3 * 41 * sizeof *y;
        for (int i = 0; cuda_orders_next(&i, 6);) {
            float *a = fixture_run(&x, 0, &how), *b = fixture_run(&x, 0, &cut),
                  *c = fixture_run(&x, 0, &shared);
            CHECK_INT(memcmp(a, y, bytes), 0);
            if (f < 2) CHECK_INT(memcmp(b, y, bytes), 0); // INT4G: fewer warps share an output
            CHECK_INT(memcmp(c, w, bytes), 0);
            bt_free(a);
            bt_free(b);
            bt_free(c);
        }
        bt_free(y);
        bt_free(w);
        fixture_close(&x);
    }
}

/* A row that is not finite spoils its own results visibly and nobody else's; rows of zeros give
 * exact zeros. */
static void odd_rows(void)
{
    enum { BAD = 1, ZERO = 2 };
    for (int f = 0; f < N_FORMATS; f++) {
        fixture x;
        int32_t k = columns(formats[f], 64);
        fixture_open(&x, formats[f], 4, k, 4);
        run how = {4, NULL, false, false, &few};
        float *clean = fixture_run(&x, 0, &how);
        size_t bad = BAD * (size_t)k, zero = ZERO * (size_t)k;
        const float nan = NAN;
        if (x.act.f32) {
            CHECK_CUDA(cudaMemcpy(x.act.f32 + bad + 3, &nan, 4, cudaMemcpyHostToDevice));
            CHECK_CUDA(cudaMemset(x.act.f32 + zero, 0, (size_t)k * 4));
        } else {
            CHECK_CUDA(cudaMemcpy(x.act.d + bad / 32, &nan, 4, cudaMemcpyHostToDevice));
            CHECK_CUDA(cudaMemset(x.act.q + zero, 0, (size_t)k));
            CHECK_CUDA(cudaMemset(x.act.d + zero / 32, 0, (size_t)k / 8));
            CHECK_CUDA(cudaMemset(x.act.s + zero / 32, 0, (size_t)k / 8));
        }
        float *y = fixture_run(&x, 0, &how);
        for (int r = 0; r < 4; r++)
            for (int o = 0; o < 4; o++) {
                float v = y[r * 7 + o];
                CHECK(r == BAD ? isnan(v) : r == ZERO ? v == 0 : v == clean[r * 7 + o]);
            }
        bt_free(clean);
        bt_free(y);
        fixture_close(&x);
    }
}

static void refusals(void)
{
    fixture x;
    fixture_open(&x, BT_FORMAT_Q8_0, 4, 32, 2);
    float *y = cuda_filled(64);
    bt_cuda_linear_args good = {
        .w = &x.m, .act = &x.act, .rows = 2, .y = y, .ldy = 4, .props = &few};
    bt_cuda_linear_args a = good;
    CHECK_CUDA(bt_cuda_gemv(&a, NULL));
    a.rows = 0;
    CHECK_CUDA(bt_cuda_gemv(&a, NULL));
    a = good, a.ldy = 3;
    CHECK_INT(bt_cuda_gemv(&a, NULL), cudaErrorInvalidValue);
    a = good, a.glu = true, a.accumulate = true;
    CHECK_INT(bt_cuda_gemv(&a, NULL), cudaErrorInvalidValue);
    a = good, a.y = NULL;
    CHECK_INT(bt_cuda_gemv(&a, NULL), cudaErrorInvalidValue);
    a = good, a.props = NULL;
    CHECK_INT(bt_cuda_gemv(&a, NULL), cudaErrorInvalidValue);
    bt_cuda_act act = x.act;
    act.q = NULL, act.f32 = y;
    a = good, a.act = &act;
    CHECK_INT(bt_cuda_gemv(&a, NULL), cudaErrorInvalidValue);
    act = x.act, act.k = 64;
    CHECK_INT(bt_cuda_gemv(&a, NULL), cudaErrorInvalidValue);
    bt_cuda_matrix odd = x.m;
    odd.n = 3;
    a = good, a.w = &odd, a.glu = true;
    CHECK_INT(bt_cuda_gemv(&a, NULL), cudaErrorInvalidValue);
    fixture_close(&x);
}

int main(void)
{
    cuda_need_device();
    read_props();
    RUN(shapes);
    RUN(long_rows);
    RUN(chunks);
    RUN(walks);
    RUN(orders);
    RUN(odd_rows);
    RUN(refusals);
    return TEST_END();
}
