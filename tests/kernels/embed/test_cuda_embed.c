/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 120 */
#include "kernels/embed/embed_cuda.h"
#include "kernels/cuda_ops.h"

enum { VOCAB = 37, IDS = 6 };

static void check_embed(int32_t format, int32_t k, int64_t ld)
{
    static const int32_t id[IDS] = {0, VOCAB - 1, 5, 5, -1, VOCAB};
    size_t row = bt_format_bytes(format, (size_t)k);
    float *w = random_floats((size_t)(VOCAB * k), 1), *want = bt_must(bt_malloc((size_t)k * 4));
    char *src = bt_must(bt_malloc(VOCAB * row));
    for (int32_t r = 0; r < VOCAB; r++)
        REQUIRE(bt_quant_ref(format, w + (int64_t)r * k, (size_t)k, src + (size_t)r * row));
    bt_cuda_matrix m = {format, VOCAB, k, NULL};
    m.data = cuda_filled(bt_cuda_matrix_bytes(format, VOCAB, k));
    CHECK_CUDA(bt_cuda_matrix_pack(&m, 0, VOCAB, cuda_put(src, VOCAB * row), NULL));
    float *x = cuda_filled((size_t)(IDS * ld) * 4);
    CHECK_CUDA(bt_cuda_embed(&m, cuda_put(id, sizeof id), IDS, x, ld, NULL));
    float *got = cuda_copy(x, (size_t)(IDS * ld) * 4);
    for (int i = 0; i < IDS; i++) {
        bool known = id[i] >= 0 && id[i] < VOCAB;
        memset(want, 0, (size_t)k * 4);
        if (known) REQUIRE(bt_dequant_ref(format, src + (size_t)id[i] * row, (size_t)k, want));
        int wrong = 0;
        for (int32_t c = 0; c < k; c++) wrong += !same_float(got[i * ld + c], want[c]);
        CHECK_INT(wrong, 0);
        for (int64_t c = k; c < ld; c++) // the gap between rows stays as it was
            CHECK_INT(bt_f32_bits(got[i * ld + c]), 0xA5A5A5A5u);
    }
    bt_free(got);
    bt_free(w);
    bt_free(want);
    bt_free(src);
    cuda_clear();
}

static void formats_and_widths(void)
{
    static const int32_t formats[] = {
        BT_FORMAT_F32,  BT_FORMAT_F16,  BT_FORMAT_BF16, BT_FORMAT_Q8_0,  BT_FORMAT_Q4_0,
        BT_FORMAT_Q4_K, BT_FORMAT_Q5_K, BT_FORMAT_Q6_K, BT_FORMAT_INT8G, BT_FORMAT_INT4G};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        int32_t block = bt_cuda_linear_block(formats[i]);
        check_embed(formats[i], 256, 256);
        check_embed(formats[i], 1024 + 256, 1024 + 256 + 4);
        if (block < 256) check_embed(formats[i], block * 3 > 96 ? block * 3 : 96, 400);
        if (block == 1) check_embed(formats[i], 13, 16);
    }
}

static void shapes_are_refused(void)
{
    float *x = cuda_filled(64 * 4);
    int32_t *id = cuda_filled(4);
    bt_cuda_matrix m = {BT_FORMAT_Q8_0, 4, 40, x}, known = {BT_FORMAT_F32, 1, 16, x};
    CHECK_INT(bt_cuda_embed(&m, id, 1, x, 40, NULL), cudaErrorInvalidValue);
    m.format = BT_FORMAT_IQ4_XS;
    CHECK_INT(bt_cuda_embed(&m, id, 1, x, 40, NULL), cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_embed(&known, id, 1, x, 18, NULL), cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_embed(&known, id, 1, x, 12, NULL), cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_embed(&known, id, 1, x + 1, 16, NULL), cudaErrorInvalidValue);
    CHECK_CUDA(bt_cuda_embed(&known, id, 0, x, 16, NULL));
    cuda_clear();
}

int main(void)
{
    cuda_need_device();
    RUN(formats_and_widths);
    RUN(shapes_are_refused);
    return TEST_END();
}
