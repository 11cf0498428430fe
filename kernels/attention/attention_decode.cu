/* SPDX-License-Identifier: Apache-2.0 */
/* attention_decode.cu - one row a sequence: split over positions, then merged.
 *
 * A CTA takes 16 queries of one KV head's group as the 16 rows of an mma and streams its positions;
 * its four warps are a team (attention_tile.cuh). Dynamic shared memory: the stream's buffers, q
 * [16][DIM + 8], the team's weights [16][T + 8] and maxima [4][16]. Sizes: attention_cuda.h. */
#include "kernels/attention/attention_f32.cuh"
#include "kernels/attention/attention_tile.cuh"

namespace
{

/* Decode's row of a padding sequence: zeros, from the first CTA of each block of queries. */
static __device__ void decode_padding(const attend &p, int32_t seq, int32_t kv_head, int32_t q0)
{
    int32_t row = p.first_row[seq];
    if (row < 0 || row >= p.rows || p.n_rows[seq] != 0) return;
    int32_t n = min(p.group - q0, DECODE_QUERIES) * p.kv.head_dim;
    float *out = p.out + query_offset(p, p.ldo, seq, kv_head, q0);
    for (int32_t i = (int32_t)threadIdx.x; i < n; i += THREADS) out[i] = 0.0f;
}

// ---- one span on tensor cores ----------------------------------------------------------------

template <class TYPE, int DIM> struct decode_shape : team_shape<TYPE, DIM, WARPS> {
    using t = tile<TYPE, DIM>;
    static constexpr int Q_BYTES = DECODE_QUERIES * t::ROW;
    static __host__ __device__ constexpr int bytes(int buffers)
    {
        return t::bytes(buffers) + Q_BYTES + decode_shape::BYTES;
    }
};

/* Queries q0 + row of the group: their record of span i, or their result if it is the only one. */
template <int N>
static __device__ __forceinline__ void decode_write(const attend &p, int32_t seq, int32_t kv_head,
                                                    int32_t q0, const spans &parts, int32_t i,
                                                    const softmax &x, const float o[N][4])
{
    int32_t warp = (int32_t)threadIdx.x / 32, lane = (int32_t)threadIdx.x % 32;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int32_t query = q0 + lane / 4 + 8 * h, head = kv_head * p.group + query;
        float sum = row_sum(x.sum[h]), factor = 1.0f;
        if (query >= p.group) continue;
        float *to;
        if (parts.count == 1) {
            to = p.out + query_offset(p, p.ldo, seq, kv_head, query);
            factor = finish_of(p, head, x.max[h], sum);
        } else {
            float *record = record_of(p, seq, head, i);
            if (warp == 0 && lane % 4 == 0) store_pair(record, x.max[h], sum);
            to = record + RECORD_HEAD;
        }
#pragma unroll
        for (int n = 0; n < N; n++) {
            int32_t col = (warp * N + n) * 8 + lane % 4 * 2;
            if (col < p.kv.head_dim)
                store_pair(to + col, o[n][2 * h] * factor, o[n][2 * h + 1] * factor);
        }
    }
}

template <class TYPE, int DIM>
static __global__ void __launch_bounds__(THREADS, DIM > 128 ? 2 : 1)
    attention_decode_kernel(attend p)
{
    using t = tile<TYPE, DIM>;
    using shape = decode_shape<TYPE, DIM>;
    BT_DYNAMIC_SHARED(char, shared);
    int32_t seq = (int32_t)blockIdx.z, kv_head = (int32_t)blockIdx.y / p.group_blocks;
    int32_t q0 = (int32_t)blockIdx.y % p.group_blocks * DECODE_QUERIES, len = p.kv_len[seq];
    if (len <= 0) {
        if (blockIdx.x == 0) decode_padding(p, seq, kv_head, q0);
        return;
    }
    spans parts = spans_of(p, len, t::T);
    if (p.n_rows[seq] != 1 || (int32_t)blockIdx.x >= parts.count) return;

    char *queries = shared + t::bytes(p.buffers);
    const team e = team_of<WARPS>(queries + shape::Q_BYTES, shape::BYTES);
    const int32_t last[2] = {parts.hi - 1, parts.hi - 1};
    source s = {p.pages + (int64_t)seq * p.pages_ld, kv_head, parts.lo, parts.hi, 0};
    stream<TYPE, DIM, WARPS> tiles = {shared, 0, 0};
    queries_store<TYPE, DIM, DIM, WARPS>(p, seq, kv_head, q0, p.group - q0, DECODE_QUERIES, queries,
                                         nullptr);
    __syncthreads();
    uint32_t q[t::DIM_STEPS][4];
#pragma unroll
    for (int i = 0; i < t::DIM_STEPS; i++) fragment_a(q[i], queries + i * 32, t::ROW);

    for (int32_t i = (int32_t)blockIdx.x; i < parts.count; i += p.n_splits) {
        int32_t first = max(parts.base + i * parts.size, parts.lo / t::T * t::T);
        s.end = min(parts.base + (i + 1) * parts.size, parts.hi);
        softmax x = softmax_empty();
        float o[1][shape::VALUE_TILES][4] = {};
        tiles.start(p, s, first);
        for (int32_t pos = first; pos < s.end; pos += t::T)
            team_attend<TYPE, DIM, WARPS>(p, e, q, tiles.next(p, s, pos), pos, true, last, x, o);
        decode_write<shape::VALUE_TILES>(p, seq, kv_head, q0, parts, i, x, o[0]);
    }
}

// ---- one span in f32 -------------------------------------------------------------------------

template <int DIM>
static __global__ void __launch_bounds__(THREADS, 4) attention_decode_f32_kernel(attend p)
{
    BT_DYNAMIC_SHARED(float, q);
    float *k = q + F32_QUERIES * f32_shape<DIM>::ROW;
    int32_t seq = (int32_t)blockIdx.z, kv_head = (int32_t)blockIdx.y / p.group_blocks;
    int32_t q0 = (int32_t)blockIdx.y % p.group_blocks * DECODE_QUERIES, len = p.kv_len[seq];
    int32_t query = q0 + (int32_t)threadIdx.x / 8, head = kv_head * p.group + query;
    if (len <= 0) {
        if (blockIdx.x == 0) decode_padding(p, seq, kv_head, q0);
        return;
    }
    spans parts = spans_of(p, len, TILE_POSITIONS_F32);
    if (p.n_rows[seq] != 1 || (int32_t)blockIdx.x >= parts.count) return;
    const int32_t *pages = p.pages + (int64_t)seq * p.pages_ld;
    f32_queries<DIM>(p, seq, kv_head, q0, p.group - q0, q);
    for (int32_t i = (int32_t)blockIdx.x; i < parts.count; i += p.n_splits) {
        int32_t first = max(parts.base + i * parts.size, parts.lo / GROUP * GROUP);
        int32_t end = min(parts.base + (i + 1) * parts.size, parts.hi);
        f32_state<DIM> x;
        f32_clear(x);
        for (int32_t pos = first; pos < end; pos += GROUP) {
            __syncthreads();
            f32_tile<DIM>(p, pages, kv_head, pos, parts.lo, parts.hi, k);
            f32_attend<DIM>(p, q, k, pos, len - 1, x);
        }
        x.sum = f32_row_sum(x.sum);
        if (query >= p.group) continue;
        if (parts.count == 1) {
            f32_write(p, x, finish_of(p, head, x.max, x.sum),
                      p.out + query_offset(p, p.ldo, seq, kv_head, query));
        } else {
            float *record = record_of(p, seq, head, i);
            if (threadIdx.x % 8 == 0) record[0] = x.max, record[1] = x.sum;
            f32_write(p, x, 1.0f, record + RECORD_HEAD);
        }
    }
}

// ---- merging ---------------------------------------------------------------------------------

/* A CTA a (sequence, head), a thread one or two columns. The records of several spans are read
 * ahead; they are merged in order. */
static __global__ void __launch_bounds__(THREADS) attention_merge_kernel(attend p, int32_t tile)
{
    constexpr int AHEAD = 4;
    int32_t head = (int32_t)blockIdx.x, seq = (int32_t)blockIdx.y, len = p.kv_len[seq];
    if (len <= 0 || p.n_rows[seq] != 1) return;
    int32_t count = spans_of(p, len, tile).count, kv_head = head / p.group;
    if (count == 1) return;
    float *out = p.out + query_offset(p, p.ldo, seq, kv_head, head - kv_head * p.group);
    for (int32_t col = (int32_t)threadIdx.x; col < p.kv.head_dim; col += THREADS) {
        float max = -INFINITY, sum = 0, total = 0;
        for (int32_t i0 = 0; i0 < count; i0 += AHEAD) {
            float maxs[AHEAD], sums[AHEAD], parts[AHEAD];
#pragma unroll
            for (int i = 0; i < AHEAD; i++) {
                const float *record = record_of(p, seq, head, min(i0 + i, count - 1));
                maxs[i] = record[0], sums[i] = record[1], parts[i] = record[RECORD_HEAD + col];
            }
#pragma unroll
            for (int i = 0; i < AHEAD; i++) {
                if (i0 + i >= count) break;
                merging m = merge_of(max, maxs[i]);
                max = m.max;
                sum = merged(m, sum, sums[i]);
                total = merged(m, total, parts[i]);
            }
        }
        out[col] = total * finish_of(p, head, max, sum);
    }
}

// ---- launchers -------------------------------------------------------------------------------

template <class TYPE, int DIM>
static cudaError_t launch_tiles(const attend &p, dim3 grid, cudaStream_t s)
{
    return bt_launch(attention_decode_kernel<TYPE, DIM>, grid, dim3(THREADS),
                     (size_t)decode_shape<TYPE, DIM>::bytes(p.buffers), s, p);
}
template <class TYPE> static cudaError_t launch_type(const attend &p, dim3 grid, cudaStream_t s)
{
#define LAUNCH(DIM) launch_tiles<TYPE, DIM>(p, grid, s)
    BT_ATTENTION_CASE_DIM(p.kv.head_dim, LAUNCH)
#undef LAUNCH
}
static cudaError_t launch_f32(const attend &p, dim3 grid, cudaStream_t s)
{
#define LAUNCH(DIM)                                                                                \
    bt_launch(attention_decode_f32_kernel<DIM>, grid, dim3(THREADS),                               \
              (size_t)f32_shape<DIM>::BYTES, s, p)
    BT_ATTENTION_CASE_DIM(p.kv.head_dim, LAUNCH)
#undef LAUNCH
}

static int32_t ceil_div(int32_t a, int32_t b)
{
    return (a + b - 1) / b;
}

/* CTAs that share a sequence's positions: enough to give each multiprocessor four in all. */
static int32_t splits_of(const bt_cuda_kv *kv, const bt_cuda_props *props, int32_t n_heads,
                         int32_t n_seqs, int32_t ctx_max, bool deterministic)
{
    int32_t blocks = ceil_div(n_heads / kv->kv_heads, DECODE_QUERIES);
    int64_t heads = (int64_t)n_seqs * kv->kv_heads * blocks;
    int32_t wanted = (int32_t)((4 * (int64_t)props->n_sm + heads - 1) / heads);
    int32_t most = ceil_div(ctx_max, deterministic ? BT_CUDA_ATTENTION_SPAN : SPLIT_POSITIONS_MIN);
    if (most > BT_CUDA_ATTENTION_SPLITS_MAX) most = BT_CUDA_ATTENTION_SPLITS_MAX;
    return wanted < 1 ? 1 : wanted < most ? wanted : most;
}

/* Records a (sequence, head) leaves at most. */
static int32_t records_of(int32_t n_splits, int32_t ctx_max, bool deterministic)
{
    return deterministic ? ceil_div(ctx_max, BT_CUDA_ATTENTION_SPAN) : n_splits;
}

static int32_t record_floats_of(const bt_cuda_kv *kv)
{
    return RECORD_HEAD + kv->head_dim; // head_dim % 4 == 0
}

} // namespace

extern "C" bool bt_cuda_attention_supported(const bt_cuda_kv *kv, int32_t n_heads,
                                            const bt_cuda_props *props)
{
    if (kv->head_dim < 4 || kv->head_dim > 256 || kv->head_dim % 4 != 0) return false;
    if (kv->page_tokens != 16 && kv->page_tokens != 32) return false;
    if (kv->kv_heads < 1 || n_heads < kv->kv_heads || n_heads % kv->kv_heads != 0) return false;
    if (n_heads > 65535) return false;
    switch (kv->format) {
    case BT_KV_F16:
    case BT_KV_F32:
    case BT_KV_INT8:
    case BT_KV_FP8: return props->sm >= 75;
    case BT_KV_BF16: return props->sm >= 80;
    default: return false;
    }
}

extern "C" size_t bt_cuda_attention_scratch(const bt_cuda_kv *kv, const bt_cuda_props *props,
                                            int32_t n_heads, int32_t n_seqs, int32_t ctx_max,
                                            bool deterministic)
{
    size_t most = 0; // a smaller bucket may cut more
    for (int32_t n = 1; n <= n_seqs; n++) {
        int32_t splits = splits_of(kv, props, n_heads, n, ctx_max, deterministic);
        size_t records = (size_t)n * (size_t)records_of(splits, ctx_max, deterministic);
        if (records > most) most = records;
    }
    size_t bytes = most * (size_t)n_heads * (size_t)record_floats_of(kv) * sizeof(float);
    return (bytes + 255) / 256 * 256;
}

extern "C" cudaError_t bt_cuda_attention_decode(const bt_cuda_attention_args *a, cudaStream_t s)
{
    if (!args_are_sound(a)) return cudaErrorInvalidValue;
    if (a->n_seqs == 0) return cudaSuccess;
    attend p = attend_of(a);
    p.n_splits = splits_of(&a->kv, a->props, a->n_heads, a->n_seqs, a->ctx_max, a->deterministic);
    p.records_ld = records_of(p.n_splits, a->ctx_max, a->deterministic);
    p.record_floats = record_floats_of(&a->kv);
    p.records = (float *)a->scratch;
    size_t need = (size_t)a->n_seqs * (size_t)a->n_heads * (size_t)p.records_ld *
                  (size_t)p.record_floats * sizeof(float);
    if (!a->scratch || (uintptr_t)a->scratch % 16 != 0 || a->scratch_bytes < need)
        return cudaErrorInvalidValue;

    dim3 grid((unsigned)p.n_splits, (unsigned)(a->kv.kv_heads * p.group_blocks),
              (unsigned)a->n_seqs);
    cudaError_t e;
    switch (a->kv.format) {
    case BT_KV_F32: e = launch_f32(p, grid, s); break;
    case BT_KV_BF16: e = launch_type<bf16_type>(p, grid, s); break;
    case BT_KV_F16: e = launch_type<f16_type>(p, grid, s); break;
    default: e = launch_type<byte_type>(p, grid, s); break;
    }
    if (e != cudaSuccess || p.records_ld == 1) return e;
    return bt_launch(attention_merge_kernel, dim3((unsigned)a->n_heads, (unsigned)a->n_seqs),
                     dim3(THREADS), 0, s, p, tile_positions_of(&a->kv));
}
