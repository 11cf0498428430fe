/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/activation/activation.h"
#include "kernels/random.h"
#include "test.h"

/* Distance in units of the last place of want. */
static double ulps(float got, double want)
{
    float f = (float)want;
    double unit = (double)nextafterf(fabsf(f), INFINITY) - (double)fabsf(f);
    return fabs((double)got - want) / unit;
}

/* Every 1/512 over the range where e^x is a normal number: the bound activation.h promises. */
static void silu_is_within_four_ulp(void)
{
    enum { N = 86 * 2 * 512 };
    float *gate = bt_must(bt_malloc(N * sizeof *gate)), *up = bt_must(bt_malloc(N * sizeof *up));
    for (int isa = 0; isa_next(&isa);) {
        double worst = 0;
        for (int i = 0; i < N; i++) {
            gate[i] = (float)(i - N / 2) / 512.0f + 1e-4f;
            up[i] = 1;
        }
        bt_activation_apply(BT_ACTIVATION_SILU, gate, up, 1, N, 0, N);
        for (int i = 0; i < N; i++) {
            double x = (double)((float)(i - N / 2) / 512.0f + 1e-4f);
            worst = fmax(worst, ulps(gate[i], x / (1 + exp(-x))));
        }
        CHECK(worst <= 4.0);
        fprintf(stderr, "     %s: silu within %.2f ulp\n", isa_all[isa - 1], worst);
    }
    bt_free(gate);
    bt_free(up);
}

static void any_split_gives_the_same_bits(void)
{
    enum { ROWS = 3, LD = 180, C = 172 };
    float *gate = random_floats(ROWS * LD, 4), *up = random_floats(ROWS * LD, 1);
    float want[ROWS * LD], first[ROWS * LD], got[ROWS * LD];
    memcpy(want, gate, sizeof want);
    bt_activation_ref(BT_ACTIVATION_SILU, want, up, ROWS, LD, 0, C);
    int ran = 0;
    for (int isa = 0; isa_next(&isa); ran++) {
        memcpy(got, gate, sizeof got);
        bt_activation_apply(BT_ACTIVATION_SILU, got, up, ROWS, LD, 0, C);
        for (int i = 0; i < ROWS * LD; i++)
            CHECK_NEAR(got[i], want[i], 1e-6 * fabs((double)want[i]));
        if (ran) CHECK(memcmp(got, first, sizeof got) == 0);
        memcpy(first, got, sizeof got);
        for (int cut = 1; cut < C; cut += 13) {
            memcpy(got, gate, sizeof got);
            bt_activation_apply(BT_ACTIVATION_SILU, got, up, ROWS, LD, 0, cut);
            bt_activation_apply(BT_ACTIVATION_SILU, got, up, ROWS, LD, cut, C);
            CHECK(memcmp(got, first, sizeof got) == 0);
        }
    }
    bt_free(gate);
    bt_free(up);
}

static void extremes_are_sane(void)
{
    for (int isa = 0; isa_next(&isa);) {
        float gate[6] = {-1000, 1000, -INFINITY, INFINITY, NAN, 0}, up[6] = {1, 1, 1, 1, 1, 1};
        bt_activation_apply(BT_ACTIVATION_SILU, gate, up, 1, 6, 0, 6);
        CHECK_NEAR(gate[0], 0, 1e-30);
        CHECK_NEAR(gate[1], 1000, 0);
        CHECK(gate[3] == INFINITY);
        CHECK(isnan(gate[4]));
        CHECK_NEAR(gate[5], 0, 0);
    }
}

/* Over the range where each is neither 0 nor x, gated and plain, on every instruction set. */
static void others_agree_with_reference(void)
{
    enum { N = 20 * 64 + 5 };
    float x[N], up[N], want[N], got[N], first[N];
    for (int kind = BT_ACTIVATION_SILU; kind <= BT_ACTIVATION_RELU2; kind++)
        for (int gated = 0; gated < 2; gated++) {
            for (int i = 0; i < N; i++) {
                x[i] = (float)(i - N / 2) / 64.0f;
                up[i] = 1 + (float)(i % 7);
            }
            const float *u = gated ? up : NULL;
            memcpy(want, x, sizeof want);
            bt_activation_ref((bt_activation)kind, want, u, 1, N, 0, N);
            int ran = 0;
            for (int isa = 0; isa_next(&isa); ran++) {
                memcpy(got, x, sizeof got);
                bt_activation_apply((bt_activation)kind, got, u, 1, N, 0, N);
                for (int i = 0; i < N; i++)
                    CHECK_NEAR(got[i], want[i],
                               (gated ? 14e-7 : 2e-7) * (1 + fabs((double)x[i])) +
                                   1e-7 * fabs((double)want[i]));
                if (ran) CHECK(memcmp(got, first, sizeof got) == 0);
                memcpy(first, got, sizeof got);
            }
            got[0] = NAN;
            bt_activation_apply((bt_activation)kind, got, NULL, 1, N, 0, 1);
            CHECK(isnan(got[0]));
        }
}

/* At Apertus' own numbers, as transformers defines it. */
static void xielu(void)
{
    enum { N = 20 * 64 + 5 };
    const bt_xielu a = {0.8f, 0.9f, 0.5f, -1e-6f};
    float x[N], got[N], first[N];
    for (int i = 0; i < N; i++) x[i] = (float)(i - N / 2) / 64.0f;
    int ran = 0;
    for (int isa = 0; isa_next(&isa); ran++) {
        memcpy(got, x, sizeof got);
        bt_activation_xielu(&a, got, 1, N, 0, N);
        for (int i = 0; i < N; i++) {
            double v = (double)x[i], low = fmin(v, (double)a.eps), y = (double)a.p * v * v;
            if (v <= 0) y = (double)a.n * (expm1(low) - v);
            CHECK_NEAR(got[i], y + (double)a.beta * v, 2e-7 * (1 + fabs(v) + v * v));
        }
        if (ran) CHECK(memcmp(got, first, sizeof got) == 0);
        memcpy(first, got, sizeof got);
    }
    x[0] = NAN;
    bt_activation_xielu(&a, x, 1, N, 0, 1);
    CHECK(isnan(x[0]));
}

static void caps(void)
{
    enum { N = 403 };
    float x[N], got[N], first[N];
    for (int i = 0; i < N; i++) x[i] = (float)(i - N / 2) / 2;
    int ran = 0;
    for (int isa = 0; isa_next(&isa); ran++) {
        memcpy(got, x, sizeof got);
        bt_activation_cap(got, N, 0.5f, 30);
        for (int i = 0; i < N; i++) CHECK_NEAR(got[i], 30 * tanh((double)x[i] / 60), 8e-6);
        if (ran) CHECK(memcmp(got, first, sizeof got) == 0);
        memcpy(first, got, sizeof got);
        memcpy(got, x, sizeof got);
        bt_activation_cap(got, N, 0.5f, 0);
        for (int i = 0; i < N; i++) CHECK_NEAR(got[i], x[i] / 2, 0);
    }
}

int main(void)
{
    RUN(silu_is_within_four_ulp);
    RUN(any_split_gives_the_same_bits);
    RUN(extremes_are_sane);
    RUN(others_agree_with_reference);
    RUN(caps);
    RUN(xielu);
    return TEST_END();
}
