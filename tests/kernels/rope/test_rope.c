/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/rope/rope.h"
#include "kernels/random.h"
#include "test.h"

static bt_rope make(bt_rope_style style, int32_t dim)
{
    return (bt_rope){.style = style, .dim = dim, .theta = 10000.0f, .factor = 1, .amplitude = 1};
}

static void check_positions(const bt_rope *r, int32_t head_dim, const float *divisor)
{
    enum { HEADS = 3, CTX = 600 };
    int32_t half = r->dim / 2;
    size_t n = (size_t)(HEADS * head_dim), bytes = n * sizeof(float);
    float *cos = bt_must(bt_malloc((size_t)(CTX * half) * sizeof(float)));
    float *sin = bt_must(bt_malloc((size_t)(CTX * half) * sizeof(float)));
    bt_rope_tables(r, divisor, 0, 77, cos, sin); // two pieces make the whole
    bt_rope_tables(r, divisor, 77, CTX, cos + 77 * half, sin + 77 * half);
    float *x = random_floats(n, 1), *want = bt_must(bt_malloc(bytes));
    float *got = bt_must(bt_malloc(bytes)), *first = bt_must(bt_malloc(bytes));
    static const int32_t positions[] = {0, 1, 2, 76, 77, 300, CTX - 1};
    for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
        int32_t p = positions[i], ran = 0;
        memcpy(want, x, bytes);
        bt_rope_ref(r, divisor, p, HEADS, head_dim, want);
        for (int isa = 0; isa_next(&isa); ran++) {
            memcpy(got, x, bytes);
            bt_rope_apply(r, cos + p * half, sin + p * half, HEADS, head_dim, got);
            for (size_t j = 0; j < n; j++) CHECK_NEAR(got[j], want[j], 1e-6);
            if (ran) CHECK(memcmp(got, first, bytes) == 0);
            memcpy(first, got, bytes);
        }
        if (p == 0 && r->amplitude == 1)
            CHECK(memcmp(got, x, bytes) == 0); // position 0 turns nothing
    }
    bt_free(cos);
    bt_free(sin);
    bt_free(x);
    bt_free(want);
    bt_free(got);
    bt_free(first);
}

static void both_styles_agree_with_reference(void)
{
    static const int32_t dims[][2] = {{8, 8}, {64, 64}, {64, 16}, {20, 10}, {80, 32}, {128, 128}};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        bt_rope a = make(BT_ROPE_INTERLEAVED, dims[i][1]);
        bt_rope b = make(BT_ROPE_HALF, dims[i][1]);
        check_positions(&a, dims[i][0], NULL);
        check_positions(&b, dims[i][0], NULL);
        b.scaling = BT_ROPE_SCALING_LINEAR;
        b.factor = 4;
        check_positions(&b, dims[i][0], NULL);
    }
}

static void none_turns_nothing(void)
{
    bt_rope r = make(BT_ROPE_NONE, 16);
    float x[32], y[32];
    for (int i = 0; i < 32; i++) x[i] = y[i] = random_normal();
    bt_rope_apply(&r, NULL, NULL, 2, 16, x);
    CHECK(memcmp(x, y, sizeof x) == 0);
}

/* Pair (a, b) turned by a right angle becomes (-b, a): fixes the direction and which elements pair
 * up. */
static void pairs_and_direction(void)
{
    float cos[2] = {0, 1}, sin[2] = {1, 0};
    float x[4] = {1, 2, 3, 4}, y[4] = {1, 2, 3, 4};
    bt_rope r = make(BT_ROPE_INTERLEAVED, 4);
    bt_rope_apply(&r, cos, sin, 1, 4, x);
    CHECK_NEAR(x[0], -2, 0);
    CHECK_NEAR(x[1], 1, 0);
    CHECK_NEAR(x[2], 3, 0);
    CHECK_NEAR(x[3], 4, 0);
    r.style = BT_ROPE_HALF;
    bt_rope_apply(&r, cos, sin, 1, 4, y);
    CHECK_NEAR(y[0], -3, 0);
    CHECK_NEAR(y[1], 2, 0);
    CHECK_NEAR(y[2], 1, 0);
    CHECK_NEAR(y[3], 4, 0);
}

/* Llama 3.1's published parameters: theta 500000, factor 8, low 1, high 4, 8192 positions. */
static void llama3_scaling_by_wavelength(void)
{
    bt_rope r = make(BT_ROPE_INTERLEAVED, 128);
    r.theta = 500000.0f;
    bt_rope plain = r;
    r.scaling = BT_ROPE_SCALING_LLAMA3;
    r.factor = 8;
    r.low = 1;
    r.high = 4;
    r.orig_ctx = 8192;
    double last = INFINITY;
    for (int32_t i = 0; i < 64; i++) {
        double f = bt_rope_frequency(&plain, NULL, i), g = bt_rope_frequency(&r, NULL, i);
        double wavelength = 6.283185307179586 / f;
        if (wavelength < 8192.0 / 4)
            CHECK_NEAR(g, f, 0);
        else if (wavelength > 8192.0)
            CHECK_NEAR(g, f / 8, 1e-18);
        else
            CHECK(g < f && g > f / 8);
        CHECK(g < last);
        last = g;
    }
    /* One pair of the blend by hand: i = 32, f = 500000^-0.5, wavelength 4442.9, keep = 0.28128. */
    CHECK_NEAR(bt_rope_frequency(&r, NULL, 32), 5.2486e-4, 5e-8);
    check_positions(&r, 128, NULL);
    float divisor[64];
    for (int i = 0; i < 64; i++) divisor[i] = 1.0f + (float)i / 8;
    CHECK_NEAR(bt_rope_frequency(&plain, divisor, 8), bt_rope_frequency(&plain, NULL, 8) / 2, 0);
    check_positions(&plain, 128, divisor);
}

/* By hand: 64 numbers, theta 10000, 256 positions, factor 8. Pair 0.84 turns 32 times, pair 12.9
 * once: from floor(0.84) = 0 on pairs are blended, from ceil(12.9) = 13 on divided. */
static void yarn_by_turns(void)
{
    bt_rope plain = make(BT_ROPE_HALF, 64), r = plain;
    r.scaling = BT_ROPE_SCALING_YARN;
    r.factor = 8;
    r.low = 1;
    r.high = 32;
    r.orig_ctx = 256;
    r.amplitude = 1.2079441f; // 0.1 ln 8 + 1
    for (int32_t i = 0; i < 32; i++) {
        double f = bt_rope_frequency(&plain, NULL, i), part = i < 13 ? i / 13.0 : 1;
        CHECK_NEAR(bt_rope_frequency(&r, NULL, i), f * (1 - part * 7 / 8), f * 1e-12);
    }
    check_positions(&r, 64, NULL);
}

int main(void)
{
    RUN(both_styles_agree_with_reference);
    RUN(none_turns_nothing);
    RUN(pairs_and_direction);
    RUN(llama3_scaling_by_wavelength);
    RUN(yarn_by_turns);
    return TEST_END();
}
