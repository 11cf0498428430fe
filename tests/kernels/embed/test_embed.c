/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/embed/embed.h"
#include "kernels/quant/quant.h"
#include "kernels/random.h"
#include "test.h"

static const int32_t formats[] = {
    BT_FORMAT_F32,   BT_FORMAT_F16,   BT_FORMAT_BF16, BT_FORMAT_Q8_0,   BT_FORMAT_Q4_0,
    BT_FORMAT_Q4_1,  BT_FORMAT_Q5_0,  BT_FORMAT_Q5_1, BT_FORMAT_Q2_K,   BT_FORMAT_Q3_K,
    BT_FORMAT_Q4_K,  BT_FORMAT_Q5_K,  BT_FORMAT_Q6_K, BT_FORMAT_IQ4_NL, BT_FORMAT_IQ4_XS,
    BT_FORMAT_MXFP4, BT_FORMAT_INT8G, BT_FORMAT_INT4G};

/* A table at an odd address, as a file may hold it, in a block of exactly its size. */
static void rows_equal_the_reference(void)
{
    enum { ROWS = 9, COLS = 256, N = 5, LD = 260 };
    static const int32_t token[N] = {8, 0, 3, 3, 7};
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        size_t bytes = ROWS * bt_format_bytes(formats[f], COLS);
        float *x = random_floats(ROWS * COLS, 2);
        uint8_t *block = bt_must(bt_malloc(bytes + 1));
        REQUIRE(bt_quant_ref(formats[f], x, ROWS * COLS, block + 1));
        bool coarse = formats[f] == BT_FORMAT_Q2_K || formats[f] == BT_FORMAT_Q3_K ||
                      formats[f] == BT_FORMAT_MXFP4; // 2 and 3 bits; 8 is cut to 6
        bt_weight table = {formats[f], ROWS, COLS, block + 1};
        float dst[N * LD];
        for (int i = 0; i < N * LD; i++) dst[i] = -3;
        CHECK(bt_embed_supported(formats[f], COLS));
        bt_embed_rows(&table, token, N, dst, LD);
        for (int i = 0; i < N; i++) {
            for (int32_t c = 0; c < COLS; c++) {
                CHECK_NEAR(dst[i * LD + c], bt_embed_ref(&table, token[i], c), 0);
                CHECK_NEAR(dst[i * LD + c], x[token[i] * COLS + c], coarse ? 3 : 0.9);
            }
            for (int32_t c = COLS; c < LD; c++) CHECK_NEAR(dst[i * LD + c], -3, 0);
        }
        bt_free(x);
        bt_free(block);
    }
}

static void refuses_what_it_cannot_read(void)
{
    CHECK(!bt_embed_supported(BT_FORMAT_Q8_1, 256));
    CHECK(!bt_embed_supported(BT_FORMAT_Q4_K, 128));
    CHECK(!bt_embed_supported(BT_FORMAT_INT4G, 576));
    CHECK(!bt_embed_supported(BT_FORMAT_Q8_0, 100));
    CHECK(!bt_embed_supported(9999, 64));
    CHECK(!bt_embed_supported(BT_FORMAT_F32, 0));
    CHECK(bt_embed_supported(BT_FORMAT_F16, 7));
}

int main(void)
{
    RUN(rows_equal_the_reference);
    RUN(refuses_what_it_cannot_read);
    return TEST_END();
}
