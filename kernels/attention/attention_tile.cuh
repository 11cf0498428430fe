/* SPDX-License-Identifier: Apache-2.0 */
/* attention_tile.cuh - one tile of positions on tensor cores: fetch, dequantize, q k, softmax, p v.
 * Private to attention_*.cu.
 *
 * A tile is T consecutive positions of one KV head in shared memory, K then V:
 *     [2][T][DIM + 8] 16-bit elements; the 8 make a row an odd number of 16 bytes, so that eight
 *     rows at one column lie in different banks for ldmatrix.
 * Fetching: each group of 16 positions lies in one page, so a warp fetches whole groups and holds
 * one page number, read a tile ahead. Positions outside [lo, hi) become zeros and neither they nor
 * their page entries are read. 16-bit formats are fetched into tiles directly; 8-bit ones into raw
 * buffers [2][T][DIM] bytes + [2][T] f16 scales, from which a tile is made.
 *
 * The order of every sum is fixed here once for decode and prefill: a score adds its DIM products
 * 16 at a time, ascending; a sum of weights adds, in each of the four lanes of a row, 4 weights of
 * each 16 positions; the lanes are added last. */
#pragma once
#include "kernels/attention/attention_common.cuh"
#include "kernels/cuda_ptx.h"
#include <string.h>

namespace
{

template <class TO, class FROM> static __device__ __forceinline__ TO bits_as(FROM from)
{
    static_assert(sizeof(TO) == sizeof(FROM), "the same bits");
    TO to;
    memcpy((void *)&to, &from, sizeof to);
    return to;
}

/* The 16-bit type that products are taken in. */
struct f16_type {
    static constexpr bool raw = false;
    static __device__ __forceinline__ uint32_t pack(float x, float y)
    {
        return bits_as<uint32_t>(__floats2half2_rn(x, y));
    }
    static __device__ __forceinline__ float2 unpack(uint32_t v)
    {
        return __half22float2(bits_as<__half2>(v));
    }
    static __device__ __forceinline__ void mma(float d[4], const uint32_t a[4], const uint32_t b[2])
    {
        bt_mma_f16(d, a, b);
    }
};
struct bf16_type {
    static constexpr bool raw = false;
    static __device__ __forceinline__ uint32_t pack(float x, float y)
    {
        return bits_as<uint32_t>(__floats2bfloat162_rn(x, y));
    }
    static __device__ __forceinline__ float2 unpack(uint32_t v)
    {
        return __bfloat1622float2(bits_as<__nv_bfloat162>(v));
    }
    static __device__ __forceinline__ void mma(float d[4], const uint32_t a[4], const uint32_t b[2])
    {
        bt_mma_bf16(d, a, b);
    }
};
/* Stored as bytes with a scale, used as f16. */
struct byte_type : f16_type {
    static constexpr bool raw = true;
};

/* Shapes and byte sizes of a tile. */
template <class TYPE, int DIM> struct tile {
    static constexpr int T = tile_positions(DIM);
    static constexpr int GROUPS = T / GROUP;
    static constexpr int ROW = (DIM + 8) * 2;                     // bytes
    static constexpr int BYTES = 2 * T * ROW;                     // K and V
    static constexpr int RAW_BYTES = 2 * T * DIM + 2 * T * 2;     // with scales
    static constexpr int BUFFER = TYPE::raw ? RAW_BYTES : BYTES;  // what one fetch fills
    static constexpr int FETCH_ROW = TYPE::raw ? DIM : ROW;       // bytes, in a buffer
    static constexpr int CHUNKS = DIM * (TYPE::raw ? 1 : 2) / 16; // 16 bytes each, of a row
    static constexpr int LANES = CHUNKS & -CHUNKS; // side by side in a row: offsets stay linear
    static constexpr int SCORE_TILES = T / 8, WEIGHT_STEPS = T / 16, DIM_STEPS = DIM / 16;
    static_assert(GROUP * CHUNKS % 32 == 0 && T % 32 == 0 && DIM % 32 == 0, "whole warps");

    /* Fetch buffers, then, if they are raw, the tile that is made from one. */
    static __host__ __device__ constexpr int bytes(int buffers)
    {
        return buffers * BUFFER + (TYPE::raw ? BYTES : 0);
    }
};

/* One sequence and KV head, as seen by a CTA. Only positions [lo, hi) are read, and of them those
 * of tiles before `end`. */
struct source {
    const int32_t *pages;
    int32_t kv_head, lo, hi, end;
};

/* The page of the group of 16 positions from pos on; 0 where none of them is read. */
static __device__ __forceinline__ int32_t page_at(const attend &p, const source &s, int32_t pos)
{
    return pos < s.hi && pos + GROUP > s.lo ? s.pages[pos >> p.page_shift] : 0;
}
/* The page this warp needs for the tile that starts at pos. */
template <class TYPE, int DIM>
static __device__ __forceinline__ int32_t tile_page(const attend &p, const source &s, int32_t pos)
{
    int32_t warp = (int32_t)threadIdx.x / 32;
    return page_at(p, s, pos + warp % tile<TYPE, DIM>::GROUPS * GROUP);
}

/* 16 bytes of a row whose rows are no multiple of that; at most `left` bytes are read. */
static __device__ __noinline__ uint4 load_ragged(const char *from, int32_t left)
{
    uint32_t w[4];
    for (int i = 0; i < 4; i++) w[i] = 4 * i < left ? bt_load4(from + 4 * i) : 0;
    return make_uint4(w[0], w[1], w[2], w[3]);
}

/* Starts fetching the tile at pos into a buffer; all of the CTA's W warps. page: from tile_page().
 */
template <class TYPE, int DIM, int W>
static __device__ __forceinline__ void tile_fetch(const attend &p, const source &s, int32_t pos,
                                                  int32_t page, char *buffer)
{
    using t = tile<TYPE, DIM>;
    /* K or V of a group of positions is a unit, which some warps share if there are more of them */
    constexpr int UNITS = 2 * t::GROUPS, SHARE = W > UNITS ? W / UNITS : 1;
    constexpr int COPIES = GROUP * t::CHUNKS / 32 / SHARE;
    int32_t warp = (int32_t)threadIdx.x / 32, lane = (int32_t)threadIdx.x % 32;
    int32_t part = warp / UNITS;
    int32_t first = warp % t::GROUPS * GROUP, row_bytes = p.kv.head_dim * (TYPE::raw ? 1 : 2);
    int32_t slot = (pos + first) & (p.kv.page_tokens - 1);
    bool whole = row_bytes % 16 == 0;
    const char *base = (const char *)p.kv.base + (size_t)page * p.kv.page_stride;
    for (int32_t unit = warp % UNITS; unit < UNITS; unit += W) {
        int32_t v = unit / t::GROUPS, row0 = v * t::T + first;
        int32_t head = v * p.kv.kv_heads + s.kv_head;
        const char *from = base + ((size_t)head * p.kv.page_tokens + slot) * row_bytes;
#pragma unroll 4
        for (int32_t i = 0; i < COPIES; i++) {
            constexpr int ACROSS = t::CHUNKS / t::LANES;
            static_assert(SHARE == 1 || (ACROSS == 1 && COPIES * SHARE * 32 == GROUP * t::CHUNKS),
                          "warps share whole rows");
            int32_t row = (part * COPIES + i) / ACROSS * (32 / t::LANES) + lane / t::LANES;
            int32_t chunk = i % ACROSS * t::LANES + lane % t::LANES, at = pos + first + row;
            bool valid = at >= s.lo && at < s.hi && chunk * 16 < row_bytes;
            const char *src = from + row * row_bytes + chunk * 16;
            char *dst = buffer + (row0 + row) * t::FETCH_ROW + chunk * 16;
            if (whole)
                bt_cp_async16(dst, valid ? src : base, valid);
            else
                bt_store16(dst, load_ragged(src, valid ? row_bytes - chunk * 16 : 0));
        }
        if constexpr (TYPE::raw) {
            bool valid = pos + first < s.hi && pos + first + GROUP > s.lo;
            const char *scales = base + 2 * (size_t)p.kv.kv_heads * p.kv.page_tokens * row_bytes +
                                 ((size_t)head * p.kv.page_tokens + slot) * 2;
            if (lane < 2 && part == 0)
                bt_cp_async16(buffer + 2 * t::T * DIM + row0 * 2 + lane * 16,
                              valid ? scales + lane * 16 : base, valid);
        }
    }
    bt_cp_async_commit();
}

/* Four stored bytes as two f16 pairs, without their scale. */
static __device__ __forceinline__ void halves_of_int8(uint32_t w, __half2 x[2])
{
    /* 0x6400 + b is 1024 + b in f16; with its sign bit flipped an int8 is b - 128. */
    w ^= 0x80808080u;
    uint32_t lo = (w & 0xffu) | (w & 0xff00u) << 8, hi = (w >> 16 & 0xffu) | (w >> 8 & 0xff0000u);
    const __half2 offset = __floats2half2_rn(1152.0f, 1152.0f);
    x[0] = __hsub2(bits_as<__half2>(lo | 0x64006400u), offset);
    x[1] = __hsub2(bits_as<__half2>(hi | 0x64006400u), offset);
}
static __device__ __forceinline__ void halves_of_e4m3(uint32_t w, __half2 x[2])
{
    /* e4m3's exponent and mantissa, moved to f16's place, are 2^-8 of the value, subnormals too. */
    const __half2 rebias = __floats2half2_rn(256.0f, 256.0f);
    for (int i = 0; i < 2; i++, w >>= 16) {
        uint32_t v = (w & 0xffu) | (w & 0xff00u) << 8;
        x[i] = __hmul2(bits_as<__half2>((v & 0x00800080u) << 8 | (v & 0x007f007fu) << 7), rebias);
    }
}

/* Makes the tile at pos from a raw buffer that has arrived; all threads, barriers are the caller's.
 */
template <class TYPE, int DIM, int W>
static __device__ __forceinline__ void tile_dequantize(const attend &p, const source &s,
                                                       int32_t pos, const char *raw, char *to)
{
    using t = tile<TYPE, DIM>;
    bool fp8 = p.kv.format == BT_KV_FP8;
    constexpr int ACROSS = t::CHUNKS / t::LANES, ROWS = W * 32 / t::LANES;
    static_assert(2 * t::T % ROWS == 0, "no row is left over");
#pragma unroll 2
    for (int32_t i = 0; i < 2 * t::T / ROWS * ACROSS; i++) {
        int32_t row = i / ACROSS * ROWS + (int32_t)threadIdx.x / t::LANES;
        int32_t chunk = i % ACROSS * t::LANES + (int32_t)threadIdx.x % t::LANES;
        int32_t at = pos + row % t::T;
        __half scale = __float2half_rn(0.0f);
        if (at >= s.lo && at < s.hi)
            memcpy((void *)&scale, raw + 2 * t::T * DIM + row * 2, sizeof scale);
        __half2 scales = __half2half2(scale);
        uint4 bytes = bt_load16(raw + row * DIM + chunk * 16);
        uint32_t in[4] = {bytes.x, bytes.y, bytes.z, bytes.w}, out[8];
        for (int k = 0; k < 4; k++) {
            __half2 x[2];
            if (fp8)
                halves_of_e4m3(in[k], x);
            else
                halves_of_int8(in[k], x);
            out[2 * k] = bits_as<uint32_t>(__hmul2(x[0], scales));
            out[2 * k + 1] = bits_as<uint32_t>(__hmul2(x[1], scales));
        }
        char *dst = to + row * t::ROW + chunk * 32;
        bt_store16(dst, make_uint4(out[0], out[1], out[2], out[3]));
        bt_store16(dst + 16, make_uint4(out[4], out[5], out[6], out[7]));
    }
}

/* The tiles from some position up to a source's end, one after another, the next under way while
 * one is used. All threads of a CTA of W warps. `shared` holds tile::bytes(p.buffers). A stream may
 * be started again when it has ended. */
template <class TYPE, int DIM, int W> struct stream {
    using t = tile<TYPE, DIM>;
    char *shared;
    int32_t page, which;

    __device__ __forceinline__ void fetch(const attend &p, const source &s, int32_t pos)
    {
        tile_fetch<TYPE, DIM, W>(p, s, pos, page, shared + which * t::BUFFER);
        page = tile_page<TYPE, DIM>(p, s, pos + t::T);
    }
    __device__ __forceinline__ void start(const attend &p, const source &s, int32_t first)
    {
        page = tile_page<TYPE, DIM>(p, s, first);
        if (p.buffers == 2) fetch(p, s, first);
    }
    /* The tile at pos; the one before is no longer in use by any thread once this returns. */
    __device__ __forceinline__ const char *next(const attend &p, const source &s, int32_t pos)
    {
        if (p.buffers == 1) {
            __syncthreads();
            fetch(p, s, pos);
        }
        bt_cp_async_wait<0>();
        __syncthreads();
        const char *ready = shared + which * t::BUFFER;
        if (p.buffers == 2) {
            which ^= 1;
            if (pos + t::T < s.end) fetch(p, s, pos + t::T);
        }
        if constexpr (TYPE::raw) {
            char *made = shared + p.buffers * t::BUFFER;
            tile_dequantize<TYPE, DIM, W>(p, s, pos, ready, made);
            __syncthreads();
            return made;
        }
        return ready;
    }
};

/* Queries [q0, q0 + n) of a chunk, scaled and rounded, as rows of 16-bit elements: columns before
 * CUT with CUT + 8 a row to `to`, the others with DIM - CUT + 8 a row to `rest`. The rows from n to
 * `rows` and the columns past head_dim are zeros. All threads; a barrier must follow. */
template <class TYPE, int DIM, int CUT, int W>
static __device__ __forceinline__ void queries_store(const attend &p, int32_t seq, int32_t kv_head,
                                                     int32_t q0, int32_t n, int32_t rows, char *to,
                                                     char *rest)
{
    for (int32_t i = (int32_t)threadIdx.x; i < rows * (DIM / 4); i += 32 * W) {
        int32_t row = i / (DIM / 4), col = i % (DIM / 4) * 4;
        uint4 x = make_uint4(0, 0, 0, 0);
        if (row < n && col < p.kv.head_dim)
            x = bt_load16(p.q + query_offset(p, p.ldq, seq, kv_head, q0 + row) + col);
        float a = bits_as<float>(x.x) * p.q_scale, b = bits_as<float>(x.y) * p.q_scale;
        float c = bits_as<float>(x.z) * p.q_scale, d = bits_as<float>(x.w) * p.q_scale;
        char *dst = col < CUT ? to + (row * (CUT + 8) + col) * 2
                              : rest + (row * (DIM - CUT + 8) + col - CUT) * 2;
        bt_store8(dst, make_uint2(TYPE::pack(a, b), TYPE::pack(c, d)));
    }
}

/* The A fragment of 16 rows and 16 columns whose top left element is at `at`. */
static __device__ __forceinline__ void fragment_a(uint32_t a[4], const char *at, int32_t row_bytes)
{
    int32_t lane = (int32_t)threadIdx.x % 32;
    bt_ldmatrix_x4(a, at + lane % 16 * row_bytes + lane / 16 * 16);
}

/* s[m][n] += q[m] . K over 32 columns: a[m][2] are two fragments, k is the first of N * 8 rows. */
template <class TYPE, int M, int N>
static __device__ __forceinline__ void scores_add(float s[M][N][4], const uint32_t a[M][2][4],
                                                  const char *k, int32_t row_bytes)
{
    int32_t lane = (int32_t)threadIdx.x % 32;
    const char *at = k + lane % 8 * row_bytes + lane / 8 * 16;
#pragma unroll
    for (int n = 0; n < N; n++) {
        uint32_t b[4];
        bt_ldmatrix_x4(b, at + n * 8 * row_bytes);
#pragma unroll
        for (int m = 0; m < M; m++) {
            TYPE::mma(s[m][n], a[m][0], b);
            TYPE::mma(s[m][n], a[m][1], b + 2);
        }
    }
}

/* o[m][n] += p[m] . V over all positions of a tile; v is the first of N * 8 columns. The compiler
 * may load PAUSE fragments of V ahead. */
template <class TYPE, int M, int N, int STEPS, int PAUSE = N>
static __device__ __forceinline__ void values_add(float o[M][N][4], const uint32_t w[M][STEPS][4],
                                                  const char *v, int32_t row_bytes)
{
    const char *at = v + (int32_t)threadIdx.x % 32 * row_bytes;
#pragma unroll
    for (int step = 0; step < STEPS; step += 2) {
#pragma unroll
        for (int n = 0; n < N; n++) {
            if (n > 0 && n % PAUSE == 0) __syncwarp();
            uint32_t b[4];
            bt_ldmatrix_x4_trans(b, at + step * 16 * row_bytes + n * 16);
#pragma unroll
            for (int m = 0; m < M; m++) {
                TYPE::mma(o[m][n], w[m][step], b);
                TYPE::mma(o[m][n], w[m][step + 1], b + 2);
            }
        }
    }
}

/* A query's softmax so far: greatest score, and this lane's part of the sum of weights. A lane
 * holds two queries of a fragment, rows lane / 4 and lane / 4 + 8. */
struct softmax {
    float max[2], sum[2];
};
static __device__ __forceinline__ softmax softmax_empty()
{
    return {{-INFINITY, -INFINITY}, {0.0f, 0.0f}};
}

/* Scores of N * 8 positions from pos on, soft-capped; those that a query does not see become -inf.
 * last[h]: last position that query h sees. */
template <int N>
static __device__ __forceinline__ void scores_mask(float s[N][4], int32_t pos,
                                                   const int32_t last[2], int32_t window)
{
    int32_t lane = (int32_t)threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int32_t at = pos + n * 8 + lane % 4 * 2 + i % 2, end = last[i / 2];
            if (at > end || (window > 0 && at <= end - window)) s[n][i] = -INFINITY;
        }
}
template <int N> static __device__ __forceinline__ void scores_cap(float s[N][4], float cap)
{
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) s[n][i] = soft_capped(s[n][i], cap);
}

/* Greatest score of each of the two queries; the same in the four lanes of a row. */
template <int N>
static __device__ __forceinline__ void scores_max(const float s[N][4], float max[2])
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        max[h] = fmaxf(s[0][2 * h], s[0][2 * h + 1]);
#pragma unroll
        for (int n = 1; n < N; n++) max[h] = fmaxf(max[h], fmaxf(s[n][2 * h], s[n][2 * h + 1]));
        max[h] = fmaxf(max[h], __shfl_xor_sync(0xffffffffu, max[h], 1));
        max[h] = fmaxf(max[h], __shfl_xor_sync(0xffffffffu, max[h], 2));
    }
}

/* Takes a tile's maxima into the softmax; keep[h]: what sums so far are multiplied by. */
static __device__ __forceinline__ void softmax_raise(softmax &x, const float max[2], float keep[2])
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float top = fmaxf(x.max[h], max[h]);
        keep[h] = exp2f(x.max[h] - reference_of(top));
        x.max[h] = top;
    }
}

/* Scores become weights, packed as they lie: w[n][h] holds two positions of query h. */
template <class TYPE, int N>
static __device__ __forceinline__ void weights_of(const softmax &x, const float s[N][4],
                                                  uint32_t w[N][2])
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float ref = reference_of(x.max[h]);
#pragma unroll
        for (int n = 0; n < N; n++)
            w[n][h] = TYPE::pack(exp2f(s[n][2 * h] - ref), exp2f(s[n][2 * h + 1] - ref));
    }
}

/* Adds a tile's weights, as rounded, to the sums. */
template <class TYPE, int STEPS>
static __device__ __forceinline__ void softmax_add(softmax &x, const float keep[2],
                                                   const uint32_t w[STEPS][4])
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < STEPS; i++) {
            float2 a = TYPE::unpack(w[i][h]), b = TYPE::unpack(w[i][h + 2]);
            sum += (a.x + a.y) + (b.x + b.y);
        }
        x.sum[h] = fmaf(x.sum[h], keep[h], sum);
    }
}

/* Multiplies the sums of values; the common case, nothing rose, costs a vote. */
template <int N>
static __device__ __forceinline__ void values_scale(float o[N][4], const float keep[2])
{
    if (!__any_sync(0xffffffffu, keep[0] != 1.0f || keep[1] != 1.0f)) return;
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) o[n][i] *= keep[i / 2];
}

/* The sum of weights over the four lanes of a row. */
static __device__ __forceinline__ float row_sum(float v)
{
    v += __shfl_xor_sync(0xffffffffu, v, 1);
    v += __shfl_xor_sync(0xffffffffu, v, 2);
    return v;
}

static __device__ __forceinline__ void store_pair(float *to, float x, float y)
{
    bt_store8(to, make_uint2(bits_as<uint32_t>(x), bits_as<uint32_t>(y)));
}

// ---- warps that share 16 queries -------------------------------------------------------------

/* A team of SHARE warps has 16 queries in common. Of a tile each scores a part of the positions for
 * all 16; maxima and weights meet in shared memory; each then sums a part of the columns over all
 * positions. So every sum runs in the order in which a warp alone would run it. */
template <class TYPE, int DIM, int SHARE> struct team_shape {
    using t = tile<TYPE, DIM>;
    static constexpr int SCORE_TILES = t::SCORE_TILES / SHARE; // of a warp
    static constexpr int VALUE_TILES = DIM / 8 / SHARE;
    static constexpr int WEIGHT_ROW = (t::T + 8) * 2; // bytes
    static constexpr int WEIGHT_BYTES = 16 * WEIGHT_ROW;
    static constexpr int BYTES = WEIGHT_BYTES + SHARE * 16 * 4; // weights, then maxima [SHARE][16]
    static_assert(t::SCORE_TILES % SHARE == 0 && VALUE_TILES * SHARE * 8 == DIM, "equal parts");
};

struct team {
    int32_t index, part; // which team of the CTA's, which warp of the team's
    char *shared;        // team_shape::BYTES of it
};
template <int SHARE> static __device__ __forceinline__ team team_of(char *shared, int bytes)
{
    int32_t warp = (int32_t)threadIdx.x / 32, index = warp / SHARE;
    return {index, warp % SHARE, shared + index * bytes};
}
/* Barrier of a team, which is the whole block in decode. */
template <int SHARE> static __device__ __forceinline__ void team_sync(const team &e)
{
    if constexpr (SHARE == WARPS)
        __syncthreads();
    else
        bt_barrier_of(1 + e.index, SHARE * 32);
}

/* The maxima of 16 queries over the positions of all warps of a team; one barrier. `maxima` is free
 * again after the caller's next one. */
template <int SHARE>
static __device__ __forceinline__ void maxima_share(const team &e, float *maxima, float max[2])
{
    int32_t row = (int32_t)threadIdx.x % 32 / 4;
    if (threadIdx.x % 4 == 0)
        for (int h = 0; h < 2; h++) maxima[e.part * 16 + row + 8 * h] = max[h];
    team_sync<SHARE>(e);
    for (int h = 0; h < 2; h++)
        for (int w = 0; w < SHARE; w++) max[h] = fmaxf(max[h], maxima[w * 16 + row + 8 * h]);
}

/* A team's tile at pos, whose K begins at k. q: the fragments of its queries, masked: not all
 * positions are seen, last: the last that is. */
template <class TYPE, int DIM, int SHARE>
static __device__ __forceinline__ void
team_attend(const attend &p, const team &e, const uint32_t q[DIM / 16][4], const char *k,
            int32_t pos, bool masked, const int32_t last[2], softmax &x,
            float o[1][team_shape<TYPE, DIM, SHARE>::VALUE_TILES][4])
{
    using t = tile<TYPE, DIM>;
    using shape = team_shape<TYPE, DIM, SHARE>;
    constexpr int N = shape::SCORE_TILES;
    constexpr int PAUSE = SHARE < WARPS ? 4 : shape::VALUE_TILES; // or registers run out
    int32_t lane = (int32_t)threadIdx.x % 32, first = e.part * N * 8;
    float s[1][N][4] = {}, max[2], keep[2];
#pragma unroll
    for (int i = 0; i < t::DIM_STEPS; i += 2) {
        const uint32_t a[1][2][4] = {{{q[i][0], q[i][1], q[i][2], q[i][3]},
                                      {q[i + 1][0], q[i + 1][1], q[i + 1][2], q[i + 1][3]}}};
        scores_add<TYPE, 1, N>(s, a, k + first * t::ROW + i * 32, t::ROW);
    }
    if (p.cap > 0) scores_cap<N>(s[0], p.cap);
    if (masked) scores_mask<N>(s[0], pos + first, last, p.window);
    scores_max<N>(s[0], max);
    maxima_share<SHARE>(e, (float *)(e.shared + shape::WEIGHT_BYTES), max);
    softmax_raise(x, max, keep);

    uint32_t w[N][2], a[1][t::WEIGHT_STEPS][4];
    weights_of<TYPE, N>(x, s[0], w);
    char *to = e.shared + lane / 4 * shape::WEIGHT_ROW + (first + lane % 4 * 2) * 2;
#pragma unroll
    for (int n = 0; n < N; n++)
        for (int h = 0; h < 2; h++) bt_store4(to + h * 8 * shape::WEIGHT_ROW + n * 16, w[n][h]);
    team_sync<SHARE>(e);
#pragma unroll
    for (int i = 0; i < t::WEIGHT_STEPS; i++)
        fragment_a(a[0][i], e.shared + i * 32, shape::WEIGHT_ROW);
    softmax_add<TYPE, t::WEIGHT_STEPS>(x, keep, a[0]);
    values_scale<shape::VALUE_TILES>(o[0], keep);
    values_add<TYPE, 1, shape::VALUE_TILES, t::WEIGHT_STEPS, PAUSE>(
        o, a, k + t::T * t::ROW + e.part * shape::VALUE_TILES * 16, t::ROW);
}

} // namespace
