/* SPDX-License-Identifier: Apache-2.0 */
/* linear_pack.cu - a file's rows to the planes of linear_cuda.h, and planes back to plain numbers.
 *
 * PACK  One thread makes one 16-byte unit of a plane, padding included, from the bytes of the row's
 * blocks; every byte of a row is written once and neighbours write neighbours. The file's blocks
 * have odd sizes and any alignment, so they are read bytewise: the bytes of a block stay in L1
 * between the threads that share it. Bound: 2 x matrix bytes of device memory. It runs behind the
 * copy from the host, whose PCIe link is slower than the memory by a factor of 10 and more.
 *
 * UNPACK  One thread makes 8 columns, 16 bytes a store where rows keep them aligned: bound by the
 * write of rows * k * 2 (or 4) bytes. */
#include "kernels/cuda_kernel.h"
#include "kernels/linear/gemm.cuh"
#include "kernels/linear/linear_layout.cuh"
#include "kernels/quant/quant.h"
#include <string.h>

/* kernels -------------------------------------------------------------------------------------- */

constexpr int PACK_THREADS = 256, UNIT = 16, COLUMNS = 8;

static_assert(BT_CUDA_ROW_ALIGN == UNIT, "a row of a plane is whole units");
static_assert(BT_CUDA_PLANE_ALIGN % UNIT == 0, "a plane begins on a unit");

/* Byte i of plane P of a row, from the file's row. i is below the plane's unpadded row. */
template <int FORMAT, int P>
static __device__ __forceinline__ uint8_t pack_byte(const uint8_t *row, int i)
{
    if constexpr (FORMAT == BT_FORMAT_F32 || FORMAT == BT_FORMAT_F16 || FORMAT == BT_FORMAT_BF16) {
        return row[i];
    } else if constexpr (FORMAT == BT_FORMAT_Q8_0) {
        return P == 0 ? row[i / 32 * 34 + 2 + i % 32] : row[i / 2 * 34 + i % 2];
    } else if constexpr (FORMAT == BT_FORMAT_Q4_0) {
        return P == 0 ? row[i / 16 * 18 + 2 + i % 16] : row[i / 2 * 18 + i % 2];
    } else if constexpr (FORMAT == BT_FORMAT_INT8G) {
        return P == 0 ? row[i / 128 * 130 + 2 + i % 128] : row[i / 2 * 130 + i % 2];
    } else if constexpr (FORMAT == BT_FORMAT_INT4G) {
        return P == 0 ? row[i / 64 * 68 + 4 + i % 64] : row[i / 4 * 68 + i % 4];
    } else if constexpr (FORMAT == BT_FORMAT_Q4_K || FORMAT == BT_FORMAT_Q5_K) {
        constexpr int size = FORMAT == BT_FORMAT_Q4_K ? 144 : 176;
        if constexpr (P == 0) { // sub-block j's bytes 0..31 are one nibble of 32 bytes
            const uint8_t *qs = row + i / 128 * size + size - 128;
            int j = i % 128 / 16, l = i % 16, shift = j % 2 * 4;
            int low = qs[j / 2 * 32 + l] >> shift & 15, high = qs[j / 2 * 32 + l + 16] >> shift;
            return static_cast<uint8_t>(low | (high & 15) << 4);
        } else if constexpr (P == 1) {
            const uint8_t *scales = row + i / 16 * size + 4;
            int j = i % 16 / 2;
            if (i % 2 == 0)
                return static_cast<uint8_t>(j < 4 ? scales[j] & 63
                                                  : (scales[j + 4] & 15) | scales[j - 4] >> 6 << 4);
            return static_cast<uint8_t>(j < 4 ? scales[j + 4] & 63
                                              : scales[j + 4] >> 4 | scales[j] >> 6 << 4);
        } else if constexpr (P == 2) {
            return row[i / 4 * size + i % 4];
        } else { // byte b of sub-block j: bit g is the fifth bit of column 4g + b
            const uint8_t *qh = row + i / 32 * size + 16;
            int j = i % 32 / 4, b = i % 4, out = 0;
            for (int g = 0; g < 8; g++) out |= (qh[4 * g + b] >> j & 1) << g;
            return static_cast<uint8_t>(out);
        }
    } else {
        static_assert(FORMAT == BT_FORMAT_Q6_K, "a format that linear_cuda.h draws");
        if constexpr (P == 0) { // columns 32j + l and 32j + l + 16 of the super-block
            const uint8_t *ql = row + i / 128 * 210;
            int j = i % 128 / 16, l = i % 16, shift = j % 4 / 2 * 4;
            const uint8_t *from = ql + j / 4 * 64 + j % 2 * 32 + l;
            return static_cast<uint8_t>((from[0] >> shift & 15) | (from[16] >> shift & 15) << 4);
        } else if constexpr (P == 1) {
            return row[i / 16 * 210 + 192 + i % 16];
        } else if constexpr (P == 2) {
            return row[i / 2 * 210 + 208 + i % 2];
        } else { // byte b of half h of sub-block j: bits 2i, 2i + 1 are those of column 16h + 4i +
                 // b
            const uint8_t *qh = row + i / 64 * 210 + 128;
            int j = i % 64 / 8, h = i % 8 / 4, b = i % 4, out = 0;
            for (int g = 0; g < 4; g++)
                out |= (qh[j / 4 * 32 + 16 * h + 4 * g + b] >> j % 4 * 2 & 3) << 2 * g;
            return static_cast<uint8_t>(out);
        }
    }
}

/* dst: the plane's first row to fill; width: bytes of a row before its padding. */
template <int FORMAT, int P>
static __global__ void __launch_bounds__(PACK_THREADS)
    pack_k(const uint8_t *src, size_t src_row, uint8_t *dst, uint32_t stride, int width,
           int64_t units)
{
    int64_t u = static_cast<int64_t>(blockIdx.x) * PACK_THREADS + threadIdx.x;
    if (u >= units) return;
    int per_row = static_cast<int>(stride / UNIT);
    int64_t r = u / per_row;
    int first = static_cast<int>(u % per_row) * UNIT;
    const uint8_t *row = src + static_cast<size_t>(r) * src_row;
    uint32_t out[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < UNIT; i++)
        if (first + i < width)
            out[i / 4] |= static_cast<uint32_t>(pack_byte<FORMAT, P>(row, first + i)) << i % 4 * 8;
    bt_store16(dst + r * stride + first, make_uint4(out[0], out[1], out[2], out[3]));
}

/* Eight columns of a row that is a multiple of 8 long, as 16-byte stores. */
static __device__ __forceinline__ void unpack_whole(float *dst, const float v[8])
{
    for (int i = 0; i < 8; i += 4)
        bt_store16(dst + i, make_uint4(__float_as_uint(v[i]), __float_as_uint(v[i + 1]),
                                       __float_as_uint(v[i + 2]), __float_as_uint(v[i + 3])));
}
static __device__ __forceinline__ void unpack_whole(__half *dst, const float v[8])
{
    __half2 h[4];
    uint4 bits;
    for (int i = 0; i < 4; i++) h[i] = __floats2half2_rn(v[2 * i], v[2 * i + 1]);
    memcpy(&bits, (const void *)h, sizeof bits);
    bt_store16(dst, bits);
}

static __device__ __forceinline__ void unpack_one(float *dst, float v)
{
    *dst = v;
}
static __device__ __forceinline__ void unpack_one(__half *dst, float v)
{
    *dst = __float2half_rn(v);
}

template <int FORMAT, class T>
static __global__ void __launch_bounds__(PACK_THREADS)
    unpack_k(bt_matrix_view m, int n0, T *dst, int64_t parts)
{
    int64_t u = static_cast<int64_t>(blockIdx.x) * PACK_THREADS + threadIdx.x;
    if (u >= parts) return;
    int per_row = (m.k + COLUMNS - 1) / COLUMNS;
    int64_t r = u / per_row;
    int col = static_cast<int>(u % per_row) * COLUMNS, count = m.k - col;
    float v[COLUMNS];
    bt_matrix_read8<FORMAT>(m, n0 + r, col, v);
    T *to = dst + r * m.k + col;
    if (m.k % COLUMNS == 0) {
        unpack_whole(to, v);
        return;
    }
#pragma unroll
    for (int i = 0; i < COLUMNS; i++)
        if (i < count) unpack_one(to + i, v[i]);
}

/* launchers ------------------------------------------------------------------------------------ */

bool bt_cuda_linear_supported(int32_t format, int32_t k)
{
    return bt_cuda_planes_of(format, 1, k).count > 0;
}

size_t bt_cuda_matrix_bytes(int32_t format, int32_t n, int32_t k)
{
    return bt_cuda_planes_of(format, n, k).bytes;
}

static bool rows_are_valid(const bt_cuda_matrix *m, int32_t n0, int32_t rows, const void *p)
{
    return m->data && p && n0 >= 0 && rows >= 0 && rows <= m->n - n0 &&
           bt_cuda_linear_supported(m->format, m->k);
}

static bool grid_of(int64_t threads, dim3 *grid)
{
    int64_t blocks = (threads + PACK_THREADS - 1) / PACK_THREADS;
    *grid = dim3(static_cast<unsigned>(blocks));
    return blocks <= INT32_MAX;
}

typedef struct pack_job {
    const bt_cuda_matrix *m;
    bt_cuda_planes planes;
    int32_t n0, rows;
    const void *src;
    cudaStream_t s;
} pack_job;

template <int FORMAT, int P> static cudaError_t pack_plane(const pack_job &j)
{
    const bt_cuda_matrix *m = j.m;
    uint32_t stride = j.planes.stride[P];
    int64_t units = static_cast<int64_t>(stride / UNIT) * j.rows;
    uint8_t *dst =
        static_cast<uint8_t *>(m->data) + j.planes.offset[P] + static_cast<size_t>(j.n0) * stride;
    dim3 grid;
    if (!grid_of(units, &grid)) return cudaErrorInvalidValue;
    return bt_launch(pack_k<FORMAT, P>, grid, dim3(PACK_THREADS), 0, j.s,
                     static_cast<const uint8_t *>(j.src),
                     bt_format_bytes(FORMAT, static_cast<size_t>(m->k)), dst, stride,
                     static_cast<int>(bt_cuda_plane_row(FORMAT, m->k, P)), units);
}

template <int FORMAT, int P = 0> static cudaError_t pack_planes(const pack_job &j)
{
    if constexpr (P < BT_CUDA_PLANES && gemm_plane_bytes(FORMAT, P) > 0) {
        cudaError_t e = pack_plane<FORMAT, P>(j);
        return e == cudaSuccess ? pack_planes<FORMAT, P + 1>(j) : e;
    }
    return cudaSuccess;
}

cudaError_t bt_cuda_matrix_pack(const bt_cuda_matrix *m, int32_t n0, int32_t rows, const void *src,
                                cudaStream_t s)
{
    if (!rows_are_valid(m, n0, rows, src)) return cudaErrorInvalidValue;
    if (rows == 0) return cudaSuccess;
    pack_job job = {m, bt_cuda_planes_of(m->format, m->n, m->k), n0, rows, src, s};
#define CALL(F) return pack_planes<F>(job)
    BT_FORMAT_SWITCH(m->format)
#undef CALL
    return cudaErrorInvalidValue;
}

template <class T>
static cudaError_t unpack(const bt_cuda_matrix *m, int32_t n0, int32_t rows, T *dst, cudaStream_t s)
{
    if (!rows_are_valid(m, n0, rows, dst)) return cudaErrorInvalidValue;
    if (rows == 0) return cudaSuccess;
    bt_matrix_view view = bt_matrix_view_of(m);
    int64_t parts = static_cast<int64_t>((m->k + COLUMNS - 1) / COLUMNS) * rows;
    dim3 grid;
    if (!grid_of(parts, &grid)) return cudaErrorInvalidValue;
#define CALL(F)                                                                                    \
    return bt_launch(unpack_k<F, T>, grid, dim3(PACK_THREADS), 0, s, view, n0, dst, parts)
    BT_FORMAT_SWITCH(m->format)
#undef CALL
    return cudaErrorInvalidValue;
}

cudaError_t bt_cuda_matrix_unpack_f32(const bt_cuda_matrix *m, int32_t n0, int32_t rows, float *dst,
                                      cudaStream_t s)
{
    return unpack(m, n0, rows, dst, s);
}

cudaError_t bt_cuda_matrix_unpack_f16(const bt_cuda_matrix *m, int32_t n0, int32_t rows, void *dst,
                                      cudaStream_t s)
{
    return unpack(m, n0, rows, static_cast<__half *>(dst), s);
}
