/* SPDX-License-Identifier: Apache-2.0 */
/* test_ceiling.c - the loops that measure a CPU's limits do all that they are said to do. */
#include "kernels/ceiling/ceiling.h"
#include "kernels/cpu_isa.h"
#include "kernels/random.h"
#include "test.h"

static const char *const isas[] = {"generic", "avx2", "avx512"};

static void reads_every_word(void)
{
    enum { WORDS = 4096 };
    uint64_t *p = aligned_alloc(64, WORDS * sizeof *p);
    REQUIRE(p);
    for (int i = 0; i < 3; i++) {
        if (!bt_isa_force(isas[i])) continue;
        for (size_t n = 32; n <= WORDS; n += 32 * 31) {
            uint64_t want = 0;
            for (size_t j = 0; j < WORDS; j++) p[j] = bt_rng_u64(n, j);
            for (size_t j = 0; j < n; j++) want ^= p[j];
            CHECK(bt_ceiling_read(p, n * 8) == want);
            p[n - 1] ^= 4; // the last word counts
            CHECK(bt_ceiling_read(p, n * 8) == (want ^ 4));
        }
    }
    bt_isa_force(NULL);
    free(p);
}

static void counts_every_step(void)
{
    for (int i = 0; i < 3; i++) {
        if (!bt_isa_force(isas[i])) continue;
        CHECK_NEAR(bt_ceiling_fma(1000), 66 + 12 * 1000, 0);
        CHECK_INT(bt_ceiling_int8(1000), 66 + 48 * 1000);
        CHECK(bt_ceiling_fma_ops() == 24 * (i == 0 ? 1 : 4 << i));
        CHECK(bt_ceiling_int8_ops() == 24 * (i == 0 ? 0 : 16 << i));
    }
    bt_isa_force(NULL);
}

int main(void)
{
    RUN(reads_every_word);
    RUN(counts_every_step);
    return TEST_END();
}
