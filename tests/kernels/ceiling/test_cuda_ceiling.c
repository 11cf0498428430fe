/* SPDX-License-Identifier: Apache-2.0 */
/* test_cuda_ceiling.c - the kernels that measure a device's limits do all that they are said to. */
#include "kernels/cuda_test.h"
#include "kernels/ceiling/ceiling_cuda.h"
#include "kernels/random.h"

static bt_cuda_props props = {.sm = 80, .n_sm = 2};

static void moves_everything(void)
{
    /* Less than a round, some rounds, and a rest. */
    static const size_t sizes[] = {16, 4096, (size_t)16 * 256 * 16 * 4 + 48};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i], words = n / 4;
        uint32_t want = 0, sum = 0, *from = malloc(n), *to = calloc(1, n), *out = malloc(1024);
        int32_t blocks = bt_cuda_ceiling_blocks(&props);
        REQUIRE(from && to && out && blocks <= 256);
        for (size_t j = 0; j < words; j++) want ^= from[j] = (uint32_t)bt_rng_u64(i, j);
        uint32_t *src = cuda_put(from, n), *dst = cuda_new(n);
        uint32_t *sums = cuda_new((size_t)blocks * 4);
        CHECK_CUDA(bt_cuda_ceiling_copy(dst, src, n, &props, NULL));
        CHECK_CUDA(bt_cuda_ceiling_read(src, n, sums, &props, NULL));
        cuda_get(to, dst, n);
        cuda_get(out, sums, (size_t)blocks * 4);
        for (int32_t b = 0; b < blocks; b++) sum ^= out[b];
        CHECK(memcmp(from, to, n) == 0);
        CHECK(sum == want);
        cuda_clear();
        free(from);
        free(to);
        free(out);
    }
}

static void multiplies_everything(void)
{
    for (int kind = 0; kind < BT_CUDA_CEILINGS; kind++) {
        uint32_t got[4] = {0}, *out = cuda_new(sizeof got);
        CHECK_CUDA(bt_cuda_ceiling_rate((bt_cuda_ceiling)kind, 8, out, &props, NULL));
        cuda_get(got, out, sizeof got);
        for (int b = 0; b < 2 * props.n_sm; b++)
            CHECK_INT(got[b], bt_cuda_ceiling_result((bt_cuda_ceiling)kind, 8));
        cuda_clear();
    }
}

static void refuses(void)
{
    uint32_t *p = cuda_new(64);
    CHECK_INT(bt_cuda_ceiling_read((char *)p + 4, 16, p, &props, NULL), cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_ceiling_copy(p, p, 24, &props, NULL), cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_ceiling_rate(BT_CUDA_CEILING_FMA, 3, p, &props, NULL), cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_ceiling_rate(BT_CUDA_CEILINGS, 4, p, &props, NULL), cudaErrorInvalidValue);
    cuda_clear();
}

int main(void)
{
    cuda_need_device();
    RUN(moves_everything);
    RUN(multiplies_everything);
    RUN(refuses);
    return TEST_END();
}
