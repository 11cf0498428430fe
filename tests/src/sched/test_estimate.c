/* SPDX-License-Identifier: Apache-2.0 */
/* test_estimate.c - the step-cost fit finds what steps were made from. */
#include "sched/estimate.h"
#include "base/rng.h"
#include "test.h"

static void mixed_steps_are_told_apart(void)
{
    bt__estimate c;
    bt__estimate_init(&c, 1000, 1000);
    for (uint64_t i = 0; i < 400; i++) {
        int32_t prefill = (int32_t)(bt_rng_u64(1, i) % 256);
        int32_t decode = 1 + (int32_t)(bt_rng_u64(2, i) % 32);
        double noise = 0.95 + 0.1 * bt_rng_unit(3, i);
        bt__estimate_step(&c, prefill, decode, (prefill * 40.0 + decode * 900.0) * noise);
    }
    CHECK_NEAR(c.prefill_us, 40, 4);
    CHECK_NEAR(c.decode_us, 900, 60);
}

static void a_change_of_speed_is_followed(void)
{
    bt__estimate c;
    bt__estimate_init(&c, 10, 100);
    for (int i = 0; i < 500; i++) bt__estimate_step(&c, 0, 8, 8 * 100);
    for (int i = 0; i < 300; i++) bt__estimate_step(&c, 0, 8, 8 * 400); // the device throttles
    CHECK_NEAR(c.decode_us, 400, 25);
    CHECK_NEAR(c.prefill_us, 10, 1e-9); // nothing was learnt about prompts
}

static void the_first_estimates_hold_until_there_are_steps(void)
{
    bt__estimate c;
    bt__estimate_init(&c, 10, 100);
    bt__estimate_step(&c, 1, 1, 1e6); // one odd step
    CHECK(c.prefill_us < 2000);
    CHECK_INT(bt__estimate_predict(&c, 0, 1, 1, 1) < 20000, 1);
    bt__estimate_prior(&c, 20, 200);
    CHECK_INT(bt__estimate_predict(&c, 10, 100, 2, 50), 10 * 20 + 50 * 2 * 200);
    CHECK_INT(bt__estimate_predict(&c, 10, 30, 1, 50), 10 * 20 + 30 * 200);
}

static void nonsense_is_survived(void)
{
    bt__estimate c;
    bt__estimate_init(&c, NAN, -5);
    bt__estimate_step(&c, -1, 4, 100);
    bt__estimate_step(&c, 0, 0, 100);
    bt__estimate_step(&c, 1, 1, NAN);
    bt__estimate_step(&c, 1 << 30, 1 << 30, 1e300);
    CHECK(c.prefill_us > 0 && c.prefill_us <= 1e8);
    CHECK(c.decode_us > 0 && c.decode_us <= 1e8);
    CHECK(bt__estimate_predict(&c, INT32_MAX, INT32_MAX, 16, 1e9) > 0);
}

int main(void)
{
    RUN(mixed_steps_are_told_apart);
    RUN(a_change_of_speed_is_followed);
    RUN(the_first_estimates_hold_until_there_are_steps);
    RUN(nonsense_is_survived);
    return TEST_END();
}
