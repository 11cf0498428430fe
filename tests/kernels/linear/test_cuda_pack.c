/* SPDX-License-Identifier: Apache-2.0 */
/* TIMEOUT 120 */
/* A file's rows to the planes of kernels/linear/linear_cuda.h and back, against the host's
 * conversions. */
#include "kernels/linear/linear_cuda.h"
#include "kernels/cuda_ops.h"

static const int32_t formats[] = {BT_FORMAT_F32,   BT_FORMAT_F16,  BT_FORMAT_BF16, BT_FORMAT_Q8_0,
                                  BT_FORMAT_Q4_0,  BT_FORMAT_Q4_K, BT_FORMAT_Q5_K, BT_FORMAT_Q6_K,
                                  BT_FORMAT_INT8G, BT_FORMAT_INT4G};
enum { N_FORMATS = sizeof formats / sizeof *formats };

/* n rows of random bits, so that scales are any F16. */
static uint8_t *random_rows(int32_t format, int32_t n, int32_t k)
{
    size_t bytes = bt_format_bytes(format, (size_t)n * (size_t)k);
    uint8_t *rows = bt_must(bt_malloc(bytes));
    for (size_t i = 0; i < bytes; i++) rows[i] = (uint8_t)random_below(256);
    return rows;
}

/* Packed in two pieces, the later rows first, from an odd address. */
static bt_cuda_matrix packed(int32_t format, int32_t n, int32_t k, const uint8_t *rows)
{
    bt_cuda_matrix m = {format, n, k, cuda_filled(bt_cuda_matrix_bytes(format, n, k))};
    size_t row = bt_format_bytes(format, (size_t)k), bytes = row * (size_t)n;
    uint8_t *src = cuda_filled(bytes + 1);
    int32_t half = n / 2;
    CHECK_CUDA(cudaMemcpy(src + 1, rows, bytes, cudaMemcpyHostToDevice));
    CHECK_CUDA(bt_cuda_matrix_pack(&m, half, n - half, src + 1 + row * (size_t)half, NULL));
    CHECK_CUDA(bt_cuda_matrix_pack(&m, 0, half, src + 1, NULL));
    return m;
}

static void check_unpacked(const bt_cuda_matrix *m, int32_t n0, int32_t rows, const float *want)
{
    size_t count = (size_t)rows * (size_t)m->k;
    float *wide = cuda_filled(count * 4);
    uint16_t *half = cuda_filled(count * 2);
    CHECK_CUDA(bt_cuda_matrix_unpack_f32(m, n0, rows, wide, NULL));
    CHECK_CUDA(bt_cuda_matrix_unpack_f16(m, n0, rows, half, NULL));
    float *f = cuda_copy(wide, count * 4);
    uint16_t *h = cuda_copy(half, count * 2);
    int bad[2] = {0, 0};
    for (size_t i = 0; i < count; i++) {
        bad[0] += !same_float(f[i], want[i]);
        bad[1] += !same_float(bt_f32_from_f16(h[i]), bt_f32_from_f16(bt_f16_from_f32(want[i])));
    }
    if (bad[0] || bad[1])
        fprintf(stderr, "%s n %d k %d\n", bt_format_get(m->format)->name, m->n, m->k);
    CHECK_INT(bad[0], 0);
    CHECK_INT(bad[1], 0);
    bt_free(f);
    bt_free(h);
}

/* Rows are padded with zeros; between planes nothing was written. */
static void check_padding(const bt_cuda_matrix *m)
{
    bt_cuda_planes p = bt_cuda_planes_of(m->format, m->n, m->k);
    uint8_t *block = cuda_copy(m->data, p.bytes);
    int dirty = 0, spilled = 0;
    for (int i = 0; i < p.count; i++) {
        size_t used = (size_t)bt_cuda_plane_row(m->format, m->k, i);
        const uint8_t *plane = block + p.offset[i];
        for (int32_t r = 0; r < m->n; r++)
            for (size_t j = used; j < p.stride[i]; j++)
                dirty += plane[(size_t)r * p.stride[i] + j] != 0;
        size_t end = p.offset[i] + (size_t)p.stride[i] * (size_t)m->n;
        size_t next = i + 1 < p.count ? p.offset[i + 1] : p.bytes;
        for (size_t j = end; j < next; j++) spilled += block[j] != 0xA5;
    }
    CHECK_INT(dirty, 0);
    CHECK_INT(spilled, 0);
    bt_free(block);
}

static void check_shape(int32_t format, int32_t n, int32_t k)
{
    size_t count = (size_t)n * (size_t)k;
    uint8_t *rows = random_rows(format, n, k);
    float *want = bt_must(bt_malloc(count * sizeof *want));
    REQUIRE(bt_dequant_ref(format, rows, count, want));
    bt_cuda_matrix m = packed(format, n, k, rows);
    check_unpacked(&m, 0, n, want);
    if (n > 2) check_unpacked(&m, 1, n - 2, want + k);
    check_padding(&m);
    bt_free(rows);
    bt_free(want);
    cuda_clear();
}

static void every_format(void)
{
    for (int f = 0; f < N_FORMATS; f++) {
        int32_t block = bt_cuda_linear_block(formats[f]);
        check_shape(formats[f], 1, block);
        check_shape(formats[f], 5, block == 1 ? 33 : 3 * block);
        check_shape(formats[f], 3, block == 1 ? 7 : 256);
        if (block == 32) check_shape(formats[f], 4, 96);
    }
}

static void sizes(void)
{
    CHECK_INT(bt_cuda_matrix_bytes(BT_FORMAT_F32, 3, 5), 256);
    CHECK_INT(bt_cuda_matrix_bytes(BT_FORMAT_Q8_0, 16, 256), 4096 + 256);
    CHECK_INT(bt_cuda_matrix_bytes(BT_FORMAT_Q4_K, 64, 4096), 64 * (2048 + 256 + 64));
    CHECK_INT(bt_cuda_matrix_bytes(BT_FORMAT_Q5_K, 64, 4096), 64 * (2048 + 256 + 64 + 512));
    CHECK_INT(bt_cuda_matrix_bytes(BT_FORMAT_Q6_K, 64, 4096), 64 * (2048 + 256 + 32 + 1024));
    CHECK_INT(bt_cuda_matrix_bytes(BT_FORMAT_INT4G, 64, 4096), 64 * (2048 + 128));
    for (int f = 0; f < N_FORMATS; f++) {
        size_t bytes = bt_cuda_matrix_bytes(formats[f], 1024, 4096);
        CHECK(bytes >= bt_format_bytes(formats[f], 1024 * 4096) && bytes % 256 == 0);
        CHECK(bytes <= bt_format_bytes(formats[f], 1024 * 4096) / 100 * 103);
    }
    CHECK(bt_cuda_linear_supported(BT_FORMAT_F16, 1));
    CHECK(bt_cuda_linear_supported(BT_FORMAT_Q4_K, 256));
    CHECK(!bt_cuda_linear_supported(BT_FORMAT_Q4_K, 128));
    CHECK(!bt_cuda_linear_supported(BT_FORMAT_INT4G, 64));
    CHECK(!bt_cuda_linear_supported(BT_FORMAT_Q3_K, 256));
    CHECK(!bt_cuda_linear_supported(BT_FORMAT_F32, 0));
    CHECK_INT(bt_cuda_matrix_bytes(BT_FORMAT_IQ4_XS, 4, 256), 0);
    CHECK_INT(bt_cuda_matrix_bytes(BT_FORMAT_F32, -1, 256), 0);
}

static void refusals(void)
{
    uint8_t *p = cuda_filled(4096);
    bt_cuda_matrix m = {BT_FORMAT_Q8_0, 4, 64, p}, odd = {BT_FORMAT_Q8_0, 4, 65, p};
    bt_cuda_matrix empty = {BT_FORMAT_Q8_0, 4, 64, NULL};
    CHECK_INT(bt_cuda_matrix_pack(&m, 0, 5, p, NULL), cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_matrix_pack(&m, 3, 2, p, NULL), cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_matrix_pack(&m, -1, 2, p, NULL), cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_matrix_pack(&m, 0, 1, NULL, NULL), cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_matrix_pack(&odd, 0, 1, p, NULL), cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_matrix_pack(&empty, 0, 1, p, NULL), cudaErrorInvalidValue);
    CHECK_INT(bt_cuda_matrix_unpack_f32(&m, 0, 5, (float *)p, NULL), cudaErrorInvalidValue);
    CHECK_CUDA(bt_cuda_matrix_pack(&m, 4, 0, p, NULL));
    cuda_clear();
}

int main(void)
{
    cuda_need_device();
    RUN(every_format);
    RUN(sizes);
    RUN(refusals);
    return TEST_END();
}
