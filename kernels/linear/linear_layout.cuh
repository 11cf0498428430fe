/* SPDX-License-Identifier: Apache-2.0 */
/* linear_layout.cuh - reading single values of a packed matrix (kernels/linear/linear_cuda.h) in a kernel.
 *
 * For what reads few values or converts whole tensors: the embedding, unpacking, tests. The
 * multiplications have their own ways. Results have the bits of the host's bt_dequant_ref(). */
#pragma once
#include "kernels/cuda_kernel.h"
#include "kernels/linear/linear_cuda.h"

/* A matrix as a kernel argument. */
typedef struct bt_matrix_view {
    const uint8_t *plane[BT_CUDA_PLANES];
    uint32_t stride[BT_CUDA_PLANES];
    int32_t n, k;
} bt_matrix_view;

/* The format, n and k must be ones that bt_cuda_planes_of() takes. */
static inline bt_matrix_view bt_matrix_view_of(const bt_cuda_matrix *m)
{
    bt_cuda_planes p = bt_cuda_planes_of(m->format, m->n, m->k);
    bt_matrix_view v = {{nullptr, nullptr, nullptr, nullptr}, {0, 0, 0, 0}, m->n, m->k};
    for (int i = 0; i < p.count; i++) {
        v.plane[i] = static_cast<const uint8_t *>(m->data) + p.offset[i];
        v.stride[i] = p.stride[i];
    }
    return v;
}

static __device__ __forceinline__ const uint8_t *bt_matrix_row(const bt_matrix_view &m, int plane,
                                                               int64_t row)
{
    return m.plane[plane] + row * m.stride[plane];
}

static __device__ __forceinline__ float bt_half_bits(uint32_t h)
{
    __half_raw raw;
    raw.x = static_cast<unsigned short>(h);
    return __half2float(__half(raw));
}

static __device__ __forceinline__ float2 bt_half2_bits(uint32_t h)
{
    return make_float2(bt_half_bits(h & 0xFFFFu), bt_half_bits(h >> 16));
}

static __device__ __forceinline__ float bt_bf16_bits(uint32_t h)
{
    return __uint_as_float(h << 16);
}

/* 8 bytes of nibbles of columns col .. col + 7, one a byte. */
static __device__ __forceinline__ uint2 bt_nibbles8(const bt_matrix_view &m, int64_t row, int col)
{
    uint2 v = bt_load8(bt_matrix_row(m, 0, row) + col / 32 * 16 + col % 16);
    int shift = col % 32 < 16 ? 0 : 4;
    return make_uint2(v.x >> shift & 0x0F0F0F0Fu, v.y >> shift & 0x0F0F0F0Fu);
}

/* The upper bits of columns col .. col + 7, shifted to bit 4 of each byte. */
template <int FORMAT>
static __device__ __forceinline__ uint2 bt_high8(const bt_matrix_view &m, int64_t row, int col)
{
    const uint8_t *high = bt_matrix_row(m, 3, row);
    if constexpr (FORMAT == BT_FORMAT_Q5_K) {
        uint32_t h = bt_load4(high + col / 32 * 4) >> col % 32 / 4;
        return make_uint2((h & 0x01010101u) << 4, (h >> 1 & 0x01010101u) << 4);
    } else {
        uint32_t h = bt_load4(high + col / 16 * 4) >> col % 16 / 4 * 2;
        return make_uint2((h & 0x03030303u) << 4, (h >> 2 & 0x03030303u) << 4);
    }
}

static __device__ __forceinline__ int bt_byte(uint2 v, int i)
{
    return static_cast<int>((i < 4 ? v.x : v.y) >> i % 4 * 8 & 255u);
}

/* Each rounds as the reference does: products and sums apart, never fused. */
static __device__ __forceinline__ float bt_mul(float a, float b)
{
    return __fmul_rn(a, b);
}

/* out[i] = w[row, col + i], i 0..7; col % 8 == 0, col < k. Columns past k read as 0. */
template <int FORMAT>
static __device__ __forceinline__ void bt_matrix_read8(const bt_matrix_view &m, int64_t row,
                                                       int col, float out[8])
{
    const uint8_t *p0 = bt_matrix_row(m, 0, row);
    if constexpr (FORMAT == BT_FORMAT_F32) {
        for (int i = 0; i < 8; i += 4) {
            uint4 v = col + i < m.k ? bt_load16(p0 + 4 * static_cast<size_t>(col + i))
                                    : make_uint4(0, 0, 0, 0);
            out[i] = __uint_as_float(v.x), out[i + 1] = __uint_as_float(v.y);
            out[i + 2] = __uint_as_float(v.z), out[i + 3] = __uint_as_float(v.w);
        }
    } else if constexpr (FORMAT == BT_FORMAT_F16 || FORMAT == BT_FORMAT_BF16) {
        uint4 v = bt_load16(p0 + 2 * static_cast<size_t>(col));
        const uint32_t w[4] = {v.x, v.y, v.z, v.w};
        for (int i = 0; i < 8; i++) {
            uint32_t h = w[i / 2] >> i % 2 * 16 & 0xFFFFu;
            out[i] = FORMAT == BT_FORMAT_F16 ? bt_half_bits(h) : bt_bf16_bits(h);
        }
    } else if constexpr (FORMAT == BT_FORMAT_Q8_0 || FORMAT == BT_FORMAT_INT8G) {
        uint2 v = bt_load8(p0 + col);
        int group = FORMAT == BT_FORMAT_Q8_0 ? 32 : 128;
        const uint8_t *d = bt_matrix_row(m, 1, row) + col / group * 2;
        float scale = bt_half_bits(*reinterpret_cast<const uint16_t *>(d));
        for (int i = 0; i < 8; i++)
            out[i] = bt_mul(scale, static_cast<float>(static_cast<int8_t>(bt_byte(v, i))));
    } else if constexpr (FORMAT == BT_FORMAT_Q4_0) {
        uint2 v = bt_nibbles8(m, row, col);
        const uint8_t *d = bt_matrix_row(m, 1, row) + col / 32 * 2;
        float scale = bt_half_bits(*reinterpret_cast<const uint16_t *>(d));
        for (int i = 0; i < 8; i++) out[i] = bt_mul(scale, static_cast<float>(bt_byte(v, i) - 8));
    } else if constexpr (FORMAT == BT_FORMAT_INT4G) {
        uint2 v = bt_nibbles8(m, row, col);
        float2 dm = bt_half2_bits(bt_load4(bt_matrix_row(m, 1, row) + col / 128 * 4));
        for (int i = 0; i < 8; i++)
            out[i] = __fadd_rn(bt_mul(dm.x, static_cast<float>(bt_byte(v, i))), dm.y);
    } else if constexpr (FORMAT == BT_FORMAT_Q4_K || FORMAT == BT_FORMAT_Q5_K) {
        uint2 v = bt_nibbles8(m, row, col);
        if constexpr (FORMAT == BT_FORMAT_Q5_K) {
            uint2 h = bt_high8<FORMAT>(m, row, col);
            v.x |= h.x, v.y |= h.y;
        }
        const uint8_t *sm = bt_matrix_row(m, 1, row) + col / 32 * 2;
        float2 d = bt_half2_bits(bt_load4(bt_matrix_row(m, 2, row) + col / 256 * 4));
        float scale = bt_mul(d.x, sm[0]), min = bt_mul(d.y, sm[1]);
        for (int i = 0; i < 8; i++)
            out[i] = __fsub_rn(bt_mul(scale, static_cast<float>(bt_byte(v, i))), min);
    } else {
        static_assert(FORMAT == BT_FORMAT_Q6_K, "a format that linear_cuda.h draws");
        uint2 v = bt_nibbles8(m, row, col), h = bt_high8<FORMAT>(m, row, col);
        v.x |= h.x, v.y |= h.y;
        int8_t sc = static_cast<int8_t>(bt_matrix_row(m, 1, row)[col / 16]);
        const uint8_t *d = bt_matrix_row(m, 2, row) + col / 256 * 2;
        float scale = bt_mul(bt_half_bits(*reinterpret_cast<const uint16_t *>(d)), sc);
        for (int i = 0; i < 8; i++) out[i] = bt_mul(scale, static_cast<float>(bt_byte(v, i) - 32));
    }
}

/* BT_FORMAT_SWITCH(format): the caller's CALL(F) with F the format as a constant; for launchers that
 * pick an instance. Falls through for a format without a layout. */
#define BT_FORMAT_CASE(name, lower, block, p0, p1, p2, p3, kind, file, min)                        \
    case BT_FORMAT_##name: CALL(BT_FORMAT_##name); break;
#define BT_FORMAT_SWITCH(format)                                                                   \
    switch (format) {                                                                              \
        BT_CUDA_FORMAT_MAP(BT_FORMAT_CASE)                                                         \
    default: break;                                                                                \
    }
