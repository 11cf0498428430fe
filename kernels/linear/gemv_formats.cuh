/* SPDX-License-Identifier: Apache-2.0 */
/* gemv_formats.cuh - what a lane does with 16 bytes of weights, one struct a format.
 *
 * COLS     columns of those 16 bytes          UNITS  16-byte units of activations they meet
 * INT      activations are Q8, else f32       SIDE   bytes of `side` a lane and row
 * raw      as loaded; zeros for a lane past the end, which then adds nothing
 * load     unit `unit` of weight row `row`
 * side     makes the side values of the columns from col; `real` false: zeros
 * INT:     wide, unpack: bytes as __dp4a wants them; dot: one block's terms onto acc
 * else:    four: columns 4j .. 4j+3 of the lane as f32; SCALED: scale() adds the lane's sum to acc
 * Layouts are those of linear_cuda.h; a lane's two halves of a nibble block are units 0 and 1. */
#pragma once
#include "kernels/cuda_ptx.h"
#include "kernels/linear/linear_layout.cuh"

/* Shared by the formats ------------------------------------------------------------------------ */

static __device__ __forceinline__ uint32_t gemv_load2(const uint8_t *p)
{
    return *reinterpret_cast<const uint16_t *>(p);
}

static __device__ __forceinline__ int gemv_dp4a(uint32_t w, uint32_t x, int c)
{
    return __dp4a(static_cast<int>(w), static_cast<int>(x), c);
}

static __device__ __forceinline__ int gemv_sum16(const int8_t *q)
{
    uint4 v = bt_load16(q);
    int sum = gemv_dp4a(0x01010101u, v.x, 0);
    sum = gemv_dp4a(0x01010101u, v.y, sum);
    sum = gemv_dp4a(0x01010101u, v.z, sum);
    return gemv_dp4a(0x01010101u, v.w, sum);
}

static __device__ __forceinline__ void gemv_nibbles(uint4 q, uint32_t w[8])
{
    const uint32_t v[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        w[i] = v[i] & 0x0F0F0F0Fu;
        w[4 + i] = v[i] >> 4 & 0x0F0F0F0Fu;
    }
}

/* The sum of COUNT dp4a onto c. */
template <int COUNT>
static __device__ __forceinline__ int gemv_dots(const uint32_t *w, const uint32_t *x, int c)
{
#pragma unroll
    for (int i = 0; i < COUNT; i++) c = gemv_dp4a(w[i], x[i], c);
    return c;
}

/* 8388608 + u for a byte u is the float 0x4B0000uu: one permutation and one exact subtraction
 * instead of a conversion, which runs at a quarter of their rate. Bytes hold q + `offset`. */
static __device__ __forceinline__ float4 gemv_bytes(uint32_t v, float offset)
{
    const float off = 8388608.0f + offset;
    return make_float4(__uint_as_float(__byte_perm(v, 0x4B000000u, 0x7540)) - off,
                       __uint_as_float(__byte_perm(v, 0x4B000000u, 0x7541)) - off,
                       __uint_as_float(__byte_perm(v, 0x4B000000u, 0x7542)) - off,
                       __uint_as_float(__byte_perm(v, 0x4B000000u, 0x7543)) - off);
}

static __device__ __forceinline__ uint32_t gemv_word(uint4 v, int i)
{
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* What a side holds of an integer block: its scale, and a correction of the format's own. */
typedef struct gemv_side {
    float d;
    union {
        int i;
        float f;
    };
} gemv_side;

static __device__ __forceinline__ gemv_side gemv_side_load(const uint8_t *p)
{
    uint2 v = bt_load8(p);
    gemv_side out;
    out.d = __uint_as_float(v.x);
    out.i = static_cast<int>(v.y);
    return out;
}

static __device__ __forceinline__ void gemv_side_store(uint8_t *p, float d, uint32_t extra)
{
    bt_store8(p, make_uint2(__float_as_uint(d), extra));
}

/* Integer formats ------------------------------------------------------------------------------ */

struct gemv_q8_0 {
    static constexpr int COLS = 16, UNITS = 1, SIDE = 4;
    static constexpr bool INT = true;
    struct raw {
        uint4 q;
        uint32_t d;
    };
    struct wide {
        uint32_t w[4];
        float d;
    };
    static __device__ __forceinline__ void load(const bt_matrix_view &m, int row, int unit, raw &r)
    {
        r.q = bt_load16_once(bt_matrix_row(m, 0, row) + static_cast<size_t>(unit) * 16);
        r.d = gemv_load2(bt_matrix_row(m, 1, row) + unit / 2 * 2);
    }
    static __device__ __forceinline__ void side(const float *, const int8_t *, const float *d,
                                                const float *, int col, bool real, uint8_t *out)
    {
        bt_store4(out, real ? __float_as_uint(d[col / 32]) : 0);
    }
    static __device__ __forceinline__ void unpack(const raw &r, wide &w)
    {
        for (int i = 0; i < 4; i++) w.w[i] = gemv_word(r.q, i);
        w.d = bt_half_bits(r.d);
    }
    static __device__ __forceinline__ float dot(const wide &w, const uint32_t *x,
                                                const uint8_t *side, float acc)
    {
        float d = __uint_as_float(bt_load4(side));
        return fmaf(static_cast<float>(gemv_dots<4>(w.w, x, 0)), w.d * d, acc);
    }
};

struct gemv_q4_0 {
    static constexpr int COLS = 32, UNITS = 2, SIDE = 8;
    static constexpr bool INT = true;
    struct raw {
        uint4 q;
        uint32_t d;
    };
    struct wide {
        uint32_t w[8];
        float d;
    };
    static __device__ __forceinline__ void load(const bt_matrix_view &m, int row, int unit, raw &r)
    {
        r.q = bt_load16_once(bt_matrix_row(m, 0, row) + static_cast<size_t>(unit) * 16);
        r.d = gemv_load2(bt_matrix_row(m, 1, row) + unit * 2);
    }
    /* -8 sum(q_x) takes the offset of the nibbles out. */
    static __device__ __forceinline__ void side(const float *, const int8_t *q, const float *d,
                                                const float *, int col, bool real, uint8_t *out)
    {
        int sum = real ? gemv_sum16(q + col) + gemv_sum16(q + col + 16) : 0;
        gemv_side_store(out, real ? d[col / 32] : 0.0f, static_cast<uint32_t>(-8 * sum));
    }
    static __device__ __forceinline__ void unpack(const raw &r, wide &w)
    {
        gemv_nibbles(r.q, w.w);
        w.d = bt_half_bits(r.d);
    }
    static __device__ __forceinline__ float dot(const wide &w, const uint32_t *x,
                                                const uint8_t *side, float acc)
    {
        gemv_side s = gemv_side_load(side);
        return fmaf(static_cast<float>(gemv_dots<8>(w.w, x, s.i)), w.d * s.d, acc);
    }
};

/* Q4_K and Q5_K: a lane's 32 columns are one sub-block. */
template <bool FIVE> struct gemv_k_affine {
    static constexpr int COLS = 32, UNITS = 2, SIDE = 8;
    static constexpr bool INT = true;
    struct raw {
        uint4 q;
        uint32_t sm, d, high;
    };
    struct wide {
        uint32_t w[8];
        int sc;
        float d, min;
    };
    static __device__ __forceinline__ void load(const bt_matrix_view &m, int row, int unit, raw &r)
    {
        r.q = bt_load16_once(bt_matrix_row(m, 0, row) + static_cast<size_t>(unit) * 16);
        r.sm = gemv_load2(bt_matrix_row(m, 1, row) + unit * 2);
        r.d = bt_load4(bt_matrix_row(m, 2, row) + unit / 8 * 4);
        r.high = 0;
        if constexpr (FIVE) r.high = bt_load4(bt_matrix_row(m, 3, row) + unit * 4);
    }
    static __device__ __forceinline__ void side(const float *, const int8_t *, const float *d,
                                                const float *s, int col, bool real, uint8_t *out)
    {
        gemv_side_store(out, real ? d[col / 32] : 0.0f, real ? __float_as_uint(s[col / 32]) : 0);
    }
    static __device__ __forceinline__ void unpack(const raw &r, wide &w)
    {
        gemv_nibbles(r.q, w.w);
        if constexpr (FIVE) {
#pragma unroll
            for (int g = 0; g < 8; g++)
                w.w[g] |= (g < 4 ? r.high << (4 - g) : r.high >> (g - 4)) & 0x10101010u;
        }
        float2 d = bt_half2_bits(r.d);
        w.sc = static_cast<int>(r.sm & 255u);
        w.d = d.x;
        w.min = -(d.y * static_cast<float>(r.sm >> 8));
    }
    static __device__ __forceinline__ float dot(const wide &w, const uint32_t *x,
                                                const uint8_t *side, float acc)
    {
        gemv_side s = gemv_side_load(side);
        int sum = gemv_dots<8>(w.w, x, 0) * w.sc; // below 2^24: exact as a float
        acc = fmaf(static_cast<float>(sum), w.d * s.d, acc);
        return fmaf(w.min, s.f, acc);
    }
};

/* Q6_K: two sub-blocks of 16 columns, the units 0 and 1. */
struct gemv_q6_k {
    static constexpr int COLS = 32, UNITS = 2, SIDE = 8;
    static constexpr bool INT = true;
    struct raw {
        uint4 q;
        uint2 high;
        uint32_t sc, d;
    };
    struct wide {
        uint32_t w[8];
        int sc[2];
        float d;
    };
    static __device__ __forceinline__ void load(const bt_matrix_view &m, int row, int unit, raw &r)
    {
        r.q = bt_load16_once(bt_matrix_row(m, 0, row) + static_cast<size_t>(unit) * 16);
        r.sc = gemv_load2(bt_matrix_row(m, 1, row) + unit * 2);
        r.d = gemv_load2(bt_matrix_row(m, 2, row) + unit / 8 * 2);
        r.high = bt_load8(bt_matrix_row(m, 3, row) + unit * 8);
    }
    /* The sums of both halves, each in 16 bits. */
    static __device__ __forceinline__ void side(const float *, const int8_t *q, const float *d,
                                                const float *, int col, bool real, uint8_t *out)
    {
        int low = real ? gemv_sum16(q + col) : 0, high = real ? gemv_sum16(q + col + 16) : 0;
        gemv_side_store(out, real ? d[col / 32] : 0.0f,
                        (static_cast<uint32_t>(low) & 0xFFFFu) | static_cast<uint32_t>(high) << 16);
    }
    static __device__ __forceinline__ void unpack(const raw &r, wide &w)
    {
        gemv_nibbles(r.q, w.w);
#pragma unroll
        for (int g = 0; g < 8; g++) {
            uint32_t h = g < 4 ? r.high.x : r.high.y;
            int i = g % 4;
            w.w[g] |= (i < 2 ? h << (4 - 2 * i) : h >> (2 * i - 4)) & 0x30303030u;
        }
        w.sc[0] = static_cast<int8_t>(r.sc & 255u);
        w.sc[1] = static_cast<int8_t>(r.sc >> 8);
        w.d = bt_half_bits(r.d);
    }
    static __device__ __forceinline__ float dot(const wide &w, const uint32_t *x,
                                                const uint8_t *side, float acc)
    {
        gemv_side s = gemv_side_load(side);
        int low = static_cast<int16_t>(s.i & 0xFFFF), high = s.i >> 16;
        int sum0 = gemv_dots<4>(w.w, x, -32 * low), sum1 = gemv_dots<4>(w.w + 4, x + 4, -32 * high);
        int sum = sum0 * w.sc[0] + sum1 * w.sc[1]; // below 2^24: exact as a float
        return fmaf(static_cast<float>(sum), w.d * s.d, acc);
    }
};

/* Float formats -------------------------------------------------------------------------------- */

/* What the formats without scales share. */
template <int BYTES> struct gemv_plain {
    static constexpr int COLS = 16 / BYTES, UNITS = 4 / BYTES, SIDE = 0;
    static constexpr bool INT = false, SCALED = false;
    struct raw {
        uint4 q;
    };
    static __device__ __forceinline__ void load(const bt_matrix_view &m, int row, int unit, raw &r)
    {
        r.q = bt_load16_once(bt_matrix_row(m, 0, row) + static_cast<size_t>(unit) * 16);
    }
};

struct gemv_f32 : gemv_plain<4> {
    static __device__ __forceinline__ float4 four(const raw &r, int)
    {
        return make_float4(__uint_as_float(r.q.x), __uint_as_float(r.q.y), __uint_as_float(r.q.z),
                           __uint_as_float(r.q.w));
    }
};

struct gemv_f16 : gemv_plain<2> {
    static __device__ __forceinline__ float4 four(const raw &r, int j)
    {
        float2 a = bt_half2_bits(j ? r.q.z : r.q.x), b = bt_half2_bits(j ? r.q.w : r.q.y);
        return make_float4(a.x, a.y, b.x, b.y);
    }
};

struct gemv_bf16 : gemv_plain<2> {
    static __device__ __forceinline__ float4 four(const raw &r, int j)
    {
        uint32_t a = j ? r.q.z : r.q.x, b = j ? r.q.w : r.q.y;
        return make_float4(__uint_as_float(a << 16), __uint_as_float(a & 0xFFFF0000u),
                           __uint_as_float(b << 16), __uint_as_float(b & 0xFFFF0000u));
    }
};

struct gemv_int8g {
    static constexpr int COLS = 16, UNITS = 4, SIDE = 0;
    static constexpr bool INT = false, SCALED = true;
    struct raw {
        uint4 q;
        uint32_t d;
    };
    static __device__ __forceinline__ void load(const bt_matrix_view &m, int row, int unit, raw &r)
    {
        r.q = bt_load16_once(bt_matrix_row(m, 0, row) + static_cast<size_t>(unit) * 16);
        r.d = gemv_load2(bt_matrix_row(m, 1, row) + unit / 8 * 2);
    }
    static __device__ __forceinline__ float4 four(const raw &r, int j)
    {
        return gemv_bytes(gemv_word(r.q, j) ^ 0x80808080u, 128.0f);
    }
    static __device__ __forceinline__ float scale(const raw &r, float sum, const uint8_t *,
                                                  float acc)
    {
        return fmaf(bt_half_bits(r.d), sum, acc);
    }
};

struct gemv_int4g {
    static constexpr int COLS = 32, UNITS = 8, SIDE = 4;
    static constexpr bool INT = false, SCALED = true;
    struct raw {
        uint4 q;
        uint32_t dm;
    };
    static __device__ __forceinline__ void load(const bt_matrix_view &m, int row, int unit, raw &r)
    {
        r.q = bt_load16_once(bt_matrix_row(m, 0, row) + static_cast<size_t>(unit) * 16);
        r.dm = bt_load4(bt_matrix_row(m, 1, row) + unit / 4 * 4);
    }
    /* The sum of the 32 activations, which the minimum multiplies. */
    static __device__ __forceinline__ void side(const float *x, const int8_t *, const float *,
                                                const float *, int col, bool real, uint8_t *out)
    {
        float sum = 0.0f;
        if (real)
            for (int i = 0; i < 32; i++) sum += x[col + i];
        bt_store4(out, __float_as_uint(sum));
    }
    static __device__ __forceinline__ float4 four(const raw &r, int j)
    {
        return gemv_bytes(gemv_word(r.q, j % 4) >> (j < 4 ? 0 : 4) & 0x0F0F0F0Fu, 0.0f);
    }
    static __device__ __forceinline__ float scale(const raw &r, float sum, const uint8_t *side,
                                                  float acc)
    {
        float2 dm = bt_half2_bits(r.dm);
        acc = fmaf(dm.x, sum, acc);
        return fmaf(dm.y, __uint_as_float(bt_load4(side)), acc);
    }
};
