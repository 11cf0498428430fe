/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL unit */
/* TIMEOUT 120 */
/* Every format, shape, row count and instruction set against the specification, and bit for bit
 * against each other. */
#include "test.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/cpu_isa.h"
#include "kernels/linear/linear.h"
#include "kernels/quant/forms.h"
#include <stdbool.h>

static const char *const isas[] = {"generic", "avx2", "avx512"};

typedef struct fixture {
    int32_t format, n, k, rows;
    uint8_t *src; // the file's rows, at an odd address
    float *x, *bias, *start, *want;
    bt_linear w;
    void *act;
} fixture;

static float unit(uint64_t seed, uint64_t i)
{
    return (float)(bt_rng_unit(seed, i) * 2 - 1);
}

/* A few activations are much larger than the rest, as in real models. */
static void fixture_open(fixture *f, int32_t format, int32_t n, int32_t k, int32_t rows)
{
    *f = (fixture){.format = format, .n = n, .k = k, .rows = rows};
    size_t nk = (size_t)n * (size_t)k, rk = (size_t)rows * (size_t)k, rn = (size_t)rows * (size_t)n;
    float *wf = bt_must(bt_malloc(nk * sizeof *wf));
    for (size_t i = 0; i < nk; i++) wf[i] = unit(1 + (uint64_t)format, i) * 0.1f;
    f->src = bt_must(bt_malloc(bt_format_bytes(format, nk) + 1));
    REQUIRE(bt_quant_ref(format, wf, nk, f->src + 1));
    bt_free(wf);
    f->x = bt_must(bt_malloc(rk * sizeof(float)));
    for (size_t i = 0; i < rk; i++) f->x[i] = unit(2, i) * (i % 97 == 5 ? 30.0f : 1.0f);
    f->bias = bt_must(bt_malloc((size_t)n * sizeof(float)));
    for (int32_t i = 0; i < n; i++) f->bias[i] = unit(3, (uint64_t)i);
    f->start = bt_must(bt_malloc(rn * sizeof(float)));
    f->want = bt_must(bt_malloc(rn * sizeof(float)));
    for (size_t i = 0; i < rn; i++) f->want[i] = f->start[i] = unit(4, i);
    bt_linear_ref(format, n, k, f->src + 1, f->x, k, rows, f->bias, true, f->want, n);
    size_t bytes = bt_linear_packed_bytes(format, n, k);
    f->w = (bt_linear){format, n, k, bt_must(bt_aligned_alloc(64, bytes))};
    memset(f->w.data, 0xFF, bytes); // padding that pack leaves would show
    int32_t half = n / 2 / BT_LINEAR_PANEL * BT_LINEAR_PANEL;
    if (half) bt_linear_pack(&f->w, f->src + 1, 0, half);
    bt_linear_pack(&f->w, f->src + 1, half, n);
    f->act =
        bt_must(bt_aligned_alloc(64, bt_linear_act_bytes(bt_linear_act_kind(format), rows, k)));
}

static void fixture_close(fixture *f)
{
    bt_free(f->src);
    bt_free(f->x);
    bt_free(f->bias);
    bt_free(f->start);
    bt_free(f->want);
    bt_free(f->w.data);
    bt_free(f->act);
}

/* y = start + (W x + bias) in two parts of n and two of the preparation; rows of y are `ldy` apart.
 */
static void fixture_run(fixture *f, const float *x, int32_t rows, float *y, int64_t ldy)
{
    int kind = bt_linear_act_kind(f->format);
    bt_linear_act_prepare(kind, x, f->k, rows, f->k, f->act, 0, rows / 3);
    bt_linear_act_prepare(kind, x, f->k, rows, f->k, f->act, rows / 3, rows);
    int32_t cut = f->n / 3 / BT_LINEAR_PANEL * BT_LINEAR_PANEL;
    bt_linear_run(&f->w, f->act, rows, f->bias, true, y, ldy, 0, cut);
    bt_linear_run(&f->w, f->act, rows, f->bias, true, y, ldy, cut, f->n);
}

/* Error bound of the float formats: one f32 rounding a product, so k * 2^-24 * sum |w x| at most;
 * here |w| <= 0.1 and the sums of |x| are known. Integer formats: none. */
static double bound(const fixture *f, int32_t r)
{
    double sum = 2;
    for (int32_t i = 0; i < f->k; i++)
        sum += 0.1 * fabs((double)f->x[(size_t)r * (size_t)f->k + i]);
    return bt_quant_row_of(f->format) ? 0 : sum * 0x1p-24 * (f->k < 64 ? 64 : f->k) / 4;
}

static void check_shape(int32_t format, int32_t n, int32_t k, int32_t rows)
{
    fixture f;
    fixture_open(&f, format, n, k, rows);
    int64_t ldy = n + 3;
    size_t count = (size_t)rows * (size_t)ldy;
    float *y = bt_must(bt_malloc(count * sizeof *y)),
          *first = bt_must(bt_malloc(count * sizeof *y));
    float *alone = bt_must(bt_malloc((size_t)n * sizeof *y));
    bool have_first = false;
    for (size_t i = 0; i < 3; i++) {
        if (!bt_isa_force(isas[i])) continue;
        for (size_t j = 0; j < count; j++) y[j] = 77;
        for (int32_t r = 0; r < rows; r++)
            memcpy(y + r * ldy, f.start + (size_t)r * (size_t)n, (size_t)n * sizeof *y);
        fixture_run(&f, f.x, rows, y, ldy);
        int bad = 0, spilled = 0, differs = 0;
        for (int32_t r = 0; r < rows; r++) {
            double tol = bound(&f, r);
            for (int32_t o = 0; o < n; o++)
                bad += !(fabs((double)y[r * ldy + o] - (double)f.want[(size_t)r * (size_t)n + o]) <=
                         tol);
            for (int64_t o = n; o < ldy; o++) spilled += y[r * ldy + o] != 77;
        }
        if (bad || spilled)
            fprintf(stderr, "%s format %d n %d k %d rows %d\n", isas[i], format, n, k, rows);
        CHECK_INT(bad, 0);
        CHECK_INT(spilled, 0);
        if (have_first) CHECK_INT(memcmp(y, first, count * sizeof *y), 0);
        memcpy(first, y, count * sizeof *y);
        have_first = true;
        for (int32_t r = 0; r<rows; r += rows> 5 ? rows / 5 : 1) {
            memcpy(alone, f.start + (size_t)r * (size_t)n, (size_t)n * sizeof *alone);
            fixture_run(&f, f.x + (size_t)r * (size_t)k, 1, alone, n);
            differs += memcmp(alone, y + r * ldy, (size_t)n * sizeof *alone) != 0;
        }
        CHECK_INT(differs, 0);
    }
    bt_isa_force(NULL);
    bt_free(y);
    bt_free(first);
    bt_free(alone);
    fixture_close(&f);
}

static void grid_of(int32_t format)
{
    static const int32_t ns[] = {1, 5, 32, 33, 64, 172, 512}, ks[] = {32, 64, 96, 172, 256, 896};
    static const int32_t rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 16, 17, 33, 64};
    for (size_t i = 0; i < sizeof ns / sizeof *ns; i++)
        for (size_t j = 0; j < sizeof ks / sizeof *ks; j++)
            for (size_t l = 0; l < sizeof rows / sizeof *rows; l++) {
                long work = (long)ns[i] * ks[j] * rows[l];
                if (!bt_linear_supported(format, ks[j])) continue;
                if (work > 3000000 && (i + j + l) % 4) continue; // the plain C variant is slow
                check_shape(format, ns[i], ks[j], rows[l]);
            }
}

/* Every format of kernels/quant/forms.h. */
static const int32_t blocks[] = {
#define X(name, FORMAT, ...) BT_FORMAT_##FORMAT,
    BT_QUANT_FORMS(X)
#undef X
};
enum { N_BLOCKS = sizeof blocks / sizeof *blocks };

static void grid_blocks(void)
{
    static const int32_t ns[] = {1, 5, 32, 33, 172}, ks[] = {32, 128, 256, 384, 768};
    static const int32_t rows[] = {1, 2, 3, 4, 5, 6, 7, 12, 13, 33};
    for (size_t f = 0; f < N_BLOCKS; f++)
        for (size_t i = 0; i < sizeof ns / sizeof *ns; i++)
            for (size_t j = 0; j < sizeof ks / sizeof *ks; j++)
                for (size_t l = 0; l < sizeof rows / sizeof *rows; l++) {
                    long work = (long)ns[i] * ks[j] * rows[l];
                    if (!bt_linear_supported(blocks[f], ks[j])) continue;
                    if (work > 300000 && (i + j + l) % 4) continue;
                    check_shape(blocks[f], ns[i], ks[j], rows[l]);
                }
}

/* What linear.h promises of rounding activations: y is off by at most the sum of |w| d_x / 2, and
 * by what rounding in f32 adds to that. */
static void activation_error(void)
{
    enum { N = 37, K = 1024, ROWS = 4 };
    for (size_t f = 0; f < N_BLOCKS; f++) {
        fixture x;
        fixture_open(&x, blocks[f], N, K, ROWS);
        float *w = bt_must(bt_malloc(sizeof *w * N * K)), y[ROWS * N];
        REQUIRE(bt_dequant_ref(blocks[f], x.src + 1, (size_t)N * K, w));
        memset(y, 0, sizeof y);
        fixture_run(&x, x.x, ROWS, y, N);
        int bad = 0;
        double worst = 0, largest = 0;
        for (int r = 0; r < ROWS; r++)
            for (int o = 0; o < N; o++) {
                double want = (double)x.bias[o], allowed = 1e-4;
                for (int b = 0; b < K; b += 32) {
                    float amax = 0;
                    for (int i = b; i < b + 32; i++) amax = fmaxf(amax, fabsf(x.x[r * K + i]));
                    for (int i = b; i < b + 32; i++) {
                        want += (double)w[o * K + i] * (double)x.x[r * K + i];
                        allowed += (double)fabsf(w[o * K + i]) * (double)amax / 254 * 1.0001;
                    }
                }
                double error = fabs((double)y[r * N + o] - want);
                bad += !(error <= allowed);
                worst = fmax(worst, error);
                largest = fmax(largest, fabs(want));
            }
        fprintf(stderr, "     %-7s worst error %.4f of %.1f\n", bt_format_get(blocks[f])->name,
                worst, largest);
        CHECK_INT(bad, 0);
        bt_free(w);
        fixture_close(&x);
    }
}

static void grid_f32(void)
{
    grid_of(BT_FORMAT_F32);
}
static void grid_f16(void)
{
    grid_of(BT_FORMAT_F16);
}
static void grid_bf16(void)
{
    grid_of(BT_FORMAT_BF16);
}
static void grid_q8_0(void)
{
    grid_of(BT_FORMAT_Q8_0);
}
static void grid_q4_0(void)
{
    grid_of(BT_FORMAT_Q4_0);
}

/* Rows enough for several chunks of the cache. */
static void many_rows(void)
{
    check_shape(BT_FORMAT_F16, 33, 1024, 200);
    check_shape(BT_FORMAT_F32, 33, 1024, 150);
    check_shape(BT_FORMAT_Q8_0, 33, 4864, 160);
    check_shape(BT_FORMAT_Q4_0, 33, 4864, 160);
    check_shape(BT_FORMAT_Q4_K, 33, 1024, 130);
}

/* Where a format keeps d and, if it has one, m. */
static void set_scales(int32_t format, uint8_t *block)
{
    static const struct {
        int32_t format, d, m;
    } at[] = {{BT_FORMAT_Q2_K, 80, 82}, {BT_FORMAT_Q3_K, 108, -1}, {BT_FORMAT_Q4_K, 0, 2},
              {BT_FORMAT_Q5_K, 0, 2},   {BT_FORMAT_Q6_K, 208, -1}, {BT_FORMAT_Q4_1, 0, 2},
              {BT_FORMAT_Q5_1, 0, 2},   {BT_FORMAT_INT4G, 0, 2}};
    int32_t d = 0, m = -1;
    for (size_t i = 0; i < sizeof at / sizeof *at; i++)
        if (at[i].format == format) d = at[i].d, m = at[i].m;
    if (format == BT_FORMAT_MXFP4) block[0] = 128;
    if (format != BT_FORMAT_MXFP4) bt_store_u16(block + d, 0x3C00);
    if (m >= 0) bt_store_u16(block + m, 0x3800);
}

/* The largest magnitudes there are, where 16-bit partial sums would saturate: all instruction sets
 * give the exact sum. Blocks of one byte, then of any of the four, then the largest scaled sum. */
static void extreme_values(void)
{
    enum { N = 33, K = 256, ROWS = 7, FILLS = 8 };
    static const uint8_t byte[] = {0x80, 0x7F, 0xFF, 0x00, 0xF0};
    for (size_t f = 0; f < N_BLOCKS; f++)
        for (int fill = 0; fill < FILLS; fill++) {
            fixture x;
            fixture_open(&x, blocks[f], N, K, ROWS);
            size_t size = (size_t)bt_format_get(blocks[f])->bytes;
            size_t bytes = bt_format_bytes(blocks[f], (size_t)N * K);
            for (size_t i = 0; i < bytes; i++)
                x.src[1 + i] = byte[fill < 5 ? (size_t)fill : bt_rng_u64((uint64_t)fill, i) % 4];
            if (fill == 7) memset(x.src + 1, 0, bytes);
            for (size_t b = 0; b < bytes; b += size) {
                if (fill == 7 && blocks[f] == BT_FORMAT_Q6_K) memset(x.src + 1 + b + 192, 0x80, 16);
                set_scales(blocks[f], x.src + 1 + b);
            }
            for (int i = 0; i < ROWS * K; i++) x.x[i] = i / K % 2 ? -1.0f : 1.0f;
            bt_linear_pack(&x.w, x.src + 1, 0, N);
            float want[ROWS * N], y[ROWS * N];
            memcpy(want, x.start, sizeof want);
            bt_linear_ref(blocks[f], N, K, x.src + 1, x.x, K, ROWS, x.bias, true, want, N);
            for (size_t i = 0; i < 3; i++) {
                if (!bt_isa_force(isas[i])) continue;
                memcpy(y, x.start, sizeof y);
                fixture_run(&x, x.x, ROWS, y, N);
                if (memcmp(y, want, sizeof y))
                    fprintf(stderr, "%s format %d\n", isas[i], blocks[f]);
                CHECK_INT(memcmp(y, want, sizeof y), 0);
            }
            bt_isa_force(NULL);
            fixture_close(&x);
        }
}

/* A row that is not finite spoils its own results visibly and nobody else's. */
static void not_finite_row(void)
{
    enum { N = 40, K = 256, ROWS = 5, BAD = 3 };
    static const int32_t kinds[] = {BT_FORMAT_F32,  BT_FORMAT_F16,  BT_FORMAT_BF16,
                                    BT_FORMAT_Q8_0, BT_FORMAT_Q4_0, BT_FORMAT_Q4_K,
                                    BT_FORMAT_Q6_K, BT_FORMAT_Q2_K, BT_FORMAT_INT4G};
    const float odd[] = {NAN, INFINITY, -INFINITY};
    for (size_t f = 0; f < sizeof kinds / sizeof *kinds; f++)
        for (size_t i = 0; i < 9; i++) {
            if (!bt_isa_force(isas[i % 3])) continue;
            fixture x;
            float clean[ROWS * N], y[ROWS * N];
            int finite = 0, changed = 0;
            fixture_open(&x, kinds[f], N, K, ROWS);
            memcpy(clean, x.start, sizeof y);
            fixture_run(&x, x.x, ROWS, clean, N);
            x.x[BAD * K + 77] = odd[i / 3];
            memcpy(y, x.start, sizeof y);
            fixture_run(&x, x.x, ROWS, y, N);
            for (int r = 0; r < ROWS; r++)
                for (int o = 0; o < N; o++)
                    if (r == BAD)
                        finite += isfinite(y[r * N + o]) != 0;
                    else
                        changed += y[r * N + o] != clean[r * N + o];
            CHECK_INT(finite, 0);
            CHECK_INT(changed, 0);
            fixture_close(&x);
        }
    bt_isa_force(NULL);
}

/* Zero and vanishing activations: no division by zero, exact zero out. */
static void zero_rows(void)
{
    enum { N = 32, K = 64, ROWS = 2 };
    const float tiny[] = {0, 1e-40f, 1e-33f};
    for (size_t t = 0; t < 3; t++)
        for (size_t i = 0; i < 3; i++) {
            if (!bt_isa_force(isas[i])) continue;
            fixture x;
            fixture_open(&x, BT_FORMAT_Q8_0, N, K, ROWS);
            float y[ROWS * N];
            int bad = 0;
            for (int j = 0; j < ROWS * K; j++) x.x[j] = tiny[t];
            bt_linear_act_prepare(bt_linear_act_kind(x.format), x.x, K, ROWS, K, x.act, 0, ROWS);
            bt_linear_run(&x.w, x.act, ROWS, NULL, false, y, N, 0, N);
            for (int j = 0; j < ROWS * N; j++) bad += y[j] != 0;
            CHECK_INT(bad, 0);
            fixture_close(&x);
        }
    bt_isa_force(NULL);
}

static void refusals(void)
{
    CHECK(bt_linear_supported(BT_FORMAT_F16, 1));
    CHECK(bt_linear_supported(BT_FORMAT_Q8_0, 32));
    CHECK(!bt_linear_supported(BT_FORMAT_Q8_0, 48));
    CHECK(!bt_linear_supported(BT_FORMAT_Q4_0, 0));
    CHECK(!bt_linear_supported(BT_FORMAT_F32, -4));
    CHECK(!bt_linear_supported(BT_FORMAT_Q8_1, 256));
    CHECK(!bt_linear_supported(BT_FORMAT_Q4_K, 128));
    CHECK(!bt_linear_supported(BT_FORMAT_INT8G, 576));
    CHECK_INT(bt_linear_packed_bytes(BT_FORMAT_F64, 32, 256), 0);
    CHECK_INT(bt_linear_packed_bytes(BT_FORMAT_Q4_K, 33, 512), 2 * 2 * 4736);
    CHECK_INT(bt_linear_packed_bytes(BT_FORMAT_Q8_0, 33, 64), 2 * 2 * 1088);
    CHECK(!bt_isa_force("sse9"));
    CHECK(bt_isa_force("generic"));
    CHECK_STR(bt_isa_name(bt_isa_get()), "generic");
    CHECK(bt_isa_force(NULL));
}

int main(void)
{
    fprintf(stderr, "best: %s\n", bt_isa_name(bt_isa_get()));
    RUN(grid_f32);
    RUN(grid_f16);
    RUN(grid_bf16);
    RUN(grid_q8_0);
    RUN(grid_q4_0);
    RUN(grid_blocks);
    RUN(activation_error);
    RUN(many_rows);
    RUN(extreme_values);
    RUN(not_finite_row);
    RUN(zero_rows);
    RUN(refusals);
    return TEST_END();
}
