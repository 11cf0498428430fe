/* SPDX-License-Identifier: Apache-2.0 */
/* attention_prefill.cu - the rows of a chunk against all positions before them and each other.
 *
 * A CTA takes 64 * MT consecutive queries of one KV head, query = row * group + head in the group,
 * so that K and V are read once for a whole group. Each of four warps has 16 * MT of them, walks
 * all tiles from the first that one of the CTA's queries sees to the last, and skips those that
 * none of its own sees; only tiles on a diagonal are masked. With MT = 1 q lives in registers and
 * its way there borrows the last tile's place; with MT = 2 each fragment of K and V serves two of
 * q, which stays in shared memory, as it does for 192 columns, whose registers ptxas handles badly.
 * The sums of 256 columns alone are 128 registers: there a team of two warps shares 16 queries
 * (attention_tile.cuh), the CTA has eight, and the teams go their own ways between tiles.
 *
 * Deterministic spans need a second accumulator: `out` itself holds the total of the spans before,
 * so that no register is spent on it. A CTA's queries are its own, so nobody else sees it. */
#include "kernels/attention/attention_f32.cuh"
#include "kernels/attention/attention_tile.cuh"

namespace
{

/* What a CTA works on: queries [q0, q0 + n) of a sequence's chunk, whose rows begin at pos0; n 0:
 * nothing. It lies in shared memory, for it is needed where registers are few. */
struct job {
    source s;
    int32_t seq, q0, n, pos0;
};
static __device__ __forceinline__ void job_take(const attend &p, int32_t queries, job &j)
{
    const int32_t *item = p.work + (int64_t)blockIdx.x * BT_CUDA_ATTENTION_WORK_INTS;
    j.seq = item[0], j.q0 = item[1], j.n = 0;
    if (j.seq < 0) return;
    int32_t rows = p.n_rows[j.seq];
    j.n = max(0, min(rows * p.group - j.q0, queries));
    j.pos0 = p.kv_len[j.seq] - rows;
    int32_t first = j.pos0 + j.q0 / p.group;
    j.s.pages = p.pages + (int64_t)j.seq * p.pages_ld;
    j.s.kv_head = (int32_t)blockIdx.y;
    j.s.lo = p.window > 0 ? max(0, first - p.window + 1) : 0;
    j.s.hi = j.s.end = j.pos0 + (j.q0 + j.n - 1) / p.group + 1;
}
/* Position of the CTA's query i; -1, which sees nothing, past the end. */
static __device__ __forceinline__ int32_t job_pos(const attend &p, const job &j, int32_t i)
{
    return i < j.n ? j.pos0 + (j.q0 + i) / p.group : -1;
}

// ---- tensor cores ----------------------------------------------------------------------------

template <class TYPE, int DIM, int MT> struct prefill_shape {
    using t = tile<TYPE, DIM>;
    static constexpr int SHARE = DIM > 192 ? 2 : 1; // warps that have the same queries
    static constexpr int CTA_WARPS = WARPS * SHARE;
    using teams = team_shape<TYPE, DIM, SHARE>;
    static constexpr int TEAMS_BYTES = SHARE > 1 ? WARPS *teams::BYTES : 0;
    static constexpr int QUERIES = 16 * MT * WARPS;
    static constexpr int Q_STEPS = MT > 1 || DIM == 192 ? 0 : DIM / 16; // in registers
    static constexpr int CUT = Q_STEPS * 16; // columns from here on stay in shared memory
    static constexpr int CUT_ROW = (CUT + 8) * 2, REST_ROW = (DIM - CUT + 8) * 2; // bytes
    static constexpr int VALUE_TILES = DIM / 8 / SHARE;
    static_assert(SHARE == 1 || (MT == 1 && CUT == DIM), "a team has 16 queries, in registers");
    static_assert(QUERIES * CUT_ROW <= t::BYTES || CUT == 0,
                  "what goes to registers borrows a tile");
    static __host__ __device__ constexpr int bytes(int buffers)
    {
        return t::bytes(buffers) + (CUT < DIM ? QUERIES * REST_ROW : 0) + TEAMS_BYTES;
    }
};

/* A warp's queries are 16 * MT of the CTA's, its sums those of DIM / SHARE columns: what the warp's
 * number says is asked for again rather than kept in registers. */
template <class SHAPE> static __device__ __forceinline__ int32_t warp_query()
{
    return (int32_t)threadIdx.x / 32 / SHAPE::SHARE * SHAPE::QUERIES / WARPS;
}
template <class SHAPE> static __device__ __forceinline__ int32_t warp_column()
{
    return (int32_t)threadIdx.x / 32 % SHAPE::SHARE * SHAPE::VALUE_TILES * 8;
}

/* What a warp keeps in shared memory for the same reason. */
template <int MT> struct warp_notes {
    int32_t pos_first, pos_last; // of its queries; pos_last -1: it has none
    float2 total[16 * MT];       // maximum and sum of the spans before
};
template <class TYPE, int DIM, int MT> struct prefill_warp {
    using t = tile<TYPE, DIM>;
    using shape = prefill_shape<TYPE, DIM, MT>;
    softmax x[MT];
    float o[MT][shape::VALUE_TILES][4];
    uint32_t q[shape::Q_STEPS > 0 ? shape::Q_STEPS : 1][4];
};

template <class TYPE, int DIM, int MT>
static __device__ __forceinline__ void warp_clear(prefill_warp<TYPE, DIM, MT> &w)
{
#pragma unroll
    for (int m = 0; m < MT; m++) {
        w.x[m] = softmax_empty();
#pragma unroll
        for (int n = 0; n < prefill_shape<TYPE, DIM, MT>::VALUE_TILES; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) w.o[m][n][i] = 0.0f;
    }
}

template <class TYPE, int DIM, int MT>
static __device__ __forceinline__ void warp_init(const attend &p, const job &j, const char *queries,
                                                 warp_notes<MT> &notes,
                                                 prefill_warp<TYPE, DIM, MT> &w)
{
    using shape = prefill_shape<TYPE, DIM, MT>;
    int32_t lane = (int32_t)threadIdx.x % 32, first = warp_query<shape>();
    if (lane == 0) {
        notes.pos_first = job_pos(p, j, first);
        notes.pos_last = first < j.n ? job_pos(p, j, min(first + 16 * MT, j.n) - 1) : -1;
    }
    for (int32_t i = lane; i < 16 * MT; i += 32) notes.total[i] = make_float2(-INFINITY, 0.0f);
#pragma unroll
    for (int i = 0; i < shape::Q_STEPS; i++)
        fragment_a(w.q[i], queries + first * shape::CUT_ROW + i * 32, shape::CUT_ROW);
    warp_clear(w);
}

/* s = q K for the warp's queries and all positions of a tile. rest: the columns of q from CUT on.
 */
template <class TYPE, int DIM, int MT>
static __device__ __forceinline__ void warp_scores(const prefill_warp<TYPE, DIM, MT> &w,
                                                   const char *rest, const char *k,
                                                   float s[MT][tile<TYPE, DIM>::SCORE_TILES][4])
{
    using t = tile<TYPE, DIM>;
    using shape = prefill_shape<TYPE, DIM, MT>;
#pragma unroll
    for (int i = 0; i < t::DIM_STEPS; i += 2) {
        uint32_t a[MT][2][4];
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                int step = i + h - shape::Q_STEPS;
                if (step >= 0) {
                    fragment_a(a[m][h],
                               rest + (warp_query<shape>() + 16 * m) * shape::REST_ROW + step * 32,
                               shape::REST_ROW);
                } else {
#pragma unroll
                    for (int e = 0; e < 4; e++) a[m][h][e] = w.q[i + h][e];
                }
            }
        scores_add<TYPE, MT, t::SCORE_TILES>(s, a, k + i * 32, t::ROW);
    }
}

/* The tile at pos enters the warp's softmaxes; whole: all queries see all of it. */
template <class TYPE, int DIM, int MT>
static __device__ __forceinline__ void warp_attend(const attend &p, const job &j, const char *rest,
                                                   const char *k, int32_t pos, bool whole,
                                                   prefill_warp<TYPE, DIM, MT> &w)
{
    using t = tile<TYPE, DIM>;
    using shape = prefill_shape<TYPE, DIM, MT>;
    float s[MT][t::SCORE_TILES][4] = {};
    uint32_t weights[MT][t::WEIGHT_STEPS][4];
    warp_scores(w, rest, k, s);
#pragma unroll
    for (int m = 0; m < MT; m++) {
        float max[2], keep[2];
        if (p.cap > 0) scores_cap<t::SCORE_TILES>(s[m], p.cap);
        if (!whole) {
            int32_t i = warp_query<shape>() + 16 * m + (int32_t)threadIdx.x % 32 / 4;
            const int32_t last[2] = {job_pos(p, j, i), job_pos(p, j, i + 8)};
            scores_mask<t::SCORE_TILES>(s[m], pos, last, p.window);
        }
        scores_max<t::SCORE_TILES>(s[m], max);
        softmax_raise(w.x[m], max, keep);
        /* two neighbouring score tiles lie as the A fragment of 16 positions */
        weights_of<TYPE, t::SCORE_TILES>(w.x[m], s[m], (uint32_t(*)[2])weights[m]);
        softmax_add<TYPE, t::WEIGHT_STEPS>(w.x[m], keep, weights[m]);
        values_scale<DIM / 8>(w.o[m], keep);
    }
    constexpr int PAUSE = MT > 1 ? 8 : DIM / 8; // or registers run out
    values_add<TYPE, MT, DIM / 8, t::WEIGHT_STEPS, PAUSE>(w.o, weights, k + t::T * t::ROW, t::ROW);
}

/* The tile at pos, if one of the warp's queries sees something of it. A team decides as one. */
template <class TYPE, int DIM, int MT>
static __device__ __forceinline__ void
tile_attend(const attend &p, const job &j, char *rest, const char *k, int32_t pos,
            const warp_notes<MT> &notes, prefill_warp<TYPE, DIM, MT> &w)
{
    using t = tile<TYPE, DIM>;
    using shape = prefill_shape<TYPE, DIM, MT>;
    int32_t begin = notes.pos_first, end = notes.pos_last;
    if (pos > end) return;
    if (p.window > 0 && pos + t::T <= begin - p.window + 1) return;
    bool whole = pos + t::T - 1 <= begin && (p.window == 0 || pos > end - p.window);
    if constexpr (shape::SHARE == 1) {
        warp_attend(p, j, rest, k, pos, whole, w);
    } else {
        int32_t i = warp_query<shape>() + (int32_t)threadIdx.x % 32 / 4, last[2] = {0, 0};
        if (!whole) last[0] = job_pos(p, j, i), last[1] = job_pos(p, j, i + 8);
        const team e = team_of<shape::SHARE>(rest, shape::teams::BYTES);
        team_attend<TYPE, DIM, shape::SHARE>(p, e, w.q, k, pos, !whole, last, w.x[0], w.o);
    }
}

/* The span that ends joins the total, whose sums of values are in `out`; at the end of all, the
 * result takes their place. begun: `out` holds something. */
template <class TYPE, int DIM, int MT>
static __device__ __forceinline__ void warp_flush(const attend &p, const job &j, bool begun,
                                                  bool end, warp_notes<MT> &notes,
                                                  prefill_warp<TYPE, DIM, MT> &w)
{
    using shape = prefill_shape<TYPE, DIM, MT>;
    int32_t lane = (int32_t)threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < MT; m++) {
        merging join[2];
        float *to[2], factor[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int32_t row = 16 * m + lane / 4 + 8 * h, i = warp_query<shape>() + row;
            float2 total = notes.total[row];
            float sum = row_sum(w.x[m].sum[h]);
            join[h] = merge_of(total.x, w.x[m].max[h]);
            if (begun) sum = merged(join[h], total.y, sum);
            __syncwarp();
            if (lane % 4 == 0) notes.total[row] = make_float2(join[h].max, sum);
            int32_t head = j.s.kv_head * p.group + (j.q0 + i) % p.group;
            factor[h] = end ? finish_of(p, head, join[h].max, sum) : 1.0f;
            to[h] =
                i < j.n ? p.out + query_offset(p, p.ldo, j.seq, j.s.kv_head, j.q0 + i) : nullptr;
        }
#pragma unroll
        for (int n = 0; n < shape::VALUE_TILES; n++) {
            if (n % 4 == 0) __syncwarp(); // keeps the compiler from loading all at once
            int32_t col = warp_column<shape>() + n * 8 + lane % 4 * 2;
#pragma unroll
            for (int h = 0; h < 2; h++) {
                if (to[h] == nullptr || col >= p.kv.head_dim) continue;
                float a = w.o[m][n][2 * h], b = w.o[m][n][2 * h + 1];
                if (begun) {
                    a = merged(join[h], to[h][col], a);
                    b = merged(join[h], to[h][col + 1], b);
                }
                store_pair(to[h] + col, a * factor[h], b * factor[h]);
            }
        }
    }
    warp_clear(w);
}

template <class TYPE, int DIM, int MT>
static __global__ void __launch_bounds__(32 * prefill_shape<TYPE, DIM, MT>::CTA_WARPS,
                                         DIM > 192 ? 1 : 2) attention_prefill_kernel(attend p)
{
    using t = tile<TYPE, DIM>;
    using shape = prefill_shape<TYPE, DIM, MT>;
    BT_DYNAMIC_SHARED(char, shared);
    BT_SHARED(warp_notes<MT>, all_notes, shape::CTA_WARPS);
    BT_SHARED(job, shared_job, 1);
    if (threadIdx.x == 0) job_take(p, shape::QUERIES, shared_job[0]);
    __syncthreads();
    const job &j = shared_job[0];
    if (j.n == 0) return;

    int32_t first = j.s.lo / t::T * t::T;
    /* behind the tiles: columns of q, or what the teams share */
    char *rest = shared + t::bytes(p.buffers), *queries = rest - t::BYTES;
    stream<TYPE, DIM, shape::CTA_WARPS> tiles = {shared, 0, 0};
    tiles.start(p, j.s, first);
    queries_store<TYPE, DIM, shape::CUT, shape::CTA_WARPS>(p, j.seq, j.s.kv_head, j.q0, j.n,
                                                           shape::QUERIES, queries, rest);
    __syncthreads();
    warp_notes<MT> &notes = all_notes[threadIdx.x / 32];
    prefill_warp<TYPE, DIM, MT> w;
    warp_init(p, j, queries, notes, w);

    bool begun = false;
    for (int32_t pos = first; pos < j.s.hi; pos += t::T) {
        const char *k = tiles.next(p, j.s, pos);
        if (p.deterministic && pos % BT_CUDA_ATTENTION_SPAN == 0 && pos > first) {
            warp_flush(p, j, begun, false, notes, w);
            begun = true;
        }
        tile_attend(p, j, rest, k, pos, notes, w);
    }
    warp_flush(p, j, begun, true, notes, w);
}

// ---- f32 -------------------------------------------------------------------------------------

template <int DIM>
static __global__ void __launch_bounds__(THREADS) attention_prefill_f32_kernel(attend p)
{
    BT_DYNAMIC_SHARED(float, q);
    float *k = q + F32_QUERIES * f32_shape<DIM>::ROW;
    job j;
    job_take(p, F32_QUERIES, j);
    if (j.n == 0) return;
    int32_t i = (int32_t)threadIdx.x / 8, last = job_pos(p, j, i);
    int32_t first = j.s.lo / GROUP * GROUP;
    f32_state<DIM> x, total;
    f32_clear(x);
    f32_clear(total);
    f32_queries<DIM>(p, j.seq, j.s.kv_head, j.q0, j.n, q);
    bool begun = false;
    for (int32_t pos = first; pos < j.s.hi; pos += GROUP) {
        __syncthreads();
        f32_tile<DIM>(p, j.s.pages, j.s.kv_head, pos, j.s.lo, j.s.hi, k);
        if (p.deterministic && pos % BT_CUDA_ATTENTION_SPAN == 0 && pos > first) {
            x.sum = f32_row_sum(x.sum);
            f32_merge(total, x);
            f32_clear(x);
            begun = true;
        }
        f32_attend<DIM>(p, q, k, pos, last, x);
    }
    x.sum = f32_row_sum(x.sum);
    if (begun) {
        f32_merge(total, x);
        x = total;
    }
    if (i >= j.n) return;
    int32_t head = j.s.kv_head * p.group + (j.q0 + i) % p.group;
    f32_write(p, x, finish_of(p, head, x.max, x.sum),
              p.out + query_offset(p, p.ldo, j.seq, j.s.kv_head, j.q0 + i));
}

// ---- launchers -------------------------------------------------------------------------------

/* 32 queries a warp where tensor cores outrun shared memory and the registers are there. */
static bool wide(const bt_cuda_kv *kv, const bt_cuda_props *props)
{
    return kv->head_dim <= 128 && (props->sm == 80 || props->sm >= 90);
}

template <class TYPE, int DIM>
static cudaError_t launch_tiles(const attend &p, dim3 grid, bool two, cudaStream_t s)
{
    if constexpr (DIM <= 128) {
        if (two)
            return bt_launch(attention_prefill_kernel<TYPE, DIM, 2>, grid, dim3(THREADS),
                             (size_t)prefill_shape<TYPE, DIM, 2>::bytes(p.buffers), s, p);
    }
    using shape = prefill_shape<TYPE, DIM, 1>;
    return bt_launch(attention_prefill_kernel<TYPE, DIM, 1>, grid, dim3(32 * shape::CTA_WARPS),
                     (size_t)shape::bytes(p.buffers), s, p);
}
template <class TYPE>
static cudaError_t launch_type(const attend &p, dim3 grid, bool two, cudaStream_t s)
{
#define LAUNCH(DIM) launch_tiles<TYPE, DIM>(p, grid, two, s)
    BT_ATTENTION_CASE_DIM(p.kv.head_dim, LAUNCH)
#undef LAUNCH
}
static cudaError_t launch_f32(const attend &p, dim3 grid, cudaStream_t s)
{
#define LAUNCH(DIM)                                                                                \
    bt_launch(attention_prefill_f32_kernel<DIM>, grid, dim3(THREADS),                              \
              (size_t)f32_shape<DIM>::BYTES, s, p)
    BT_ATTENTION_CASE_DIM(p.kv.head_dim, LAUNCH)
#undef LAUNCH
}

} // namespace

extern "C" int32_t bt_cuda_attention_tile(const bt_cuda_kv *kv, const bt_cuda_props *props)
{
    return kv->format == BT_KV_F32 ? F32_QUERIES : wide(kv, props) ? 128 : 64;
}

extern "C" int32_t bt_cuda_attention_plan(const bt_cuda_kv *kv, const bt_cuda_props *props,
                                          int32_t n_heads, int32_t n_seqs, const int32_t *n_rows,
                                          int32_t min_rows, int32_t *work, int32_t cap)
{
    int32_t tile = bt_cuda_attention_tile(kv, props), group = n_heads / kv->kv_heads, n = 0;
    for (int32_t s = 0; s < n_seqs; s++) {
        if (n_rows[s] < min_rows || n_rows[s] < 1) continue;
        int32_t tiles = (n_rows[s] * group + tile - 1) / tile;
        for (int32_t i = tiles - 1; i >= 0; i--, n++) { // the longest first
            if (n >= cap) continue;
            work[n * BT_CUDA_ATTENTION_WORK_INTS] = s;
            work[n * BT_CUDA_ATTENTION_WORK_INTS + 1] = i * tile;
        }
    }
    return n;
}

extern "C" cudaError_t bt_cuda_attention_prefill(const bt_cuda_attention_args *a, cudaStream_t s)
{
    if (!args_are_sound(a) || a->n_work < 0 || (a->n_work > 0 && !a->work))
        return cudaErrorInvalidValue;
    if (a->n_work == 0) return cudaSuccess;
    attend p = attend_of(a);
    dim3 grid((unsigned)a->n_work, (unsigned)a->kv.kv_heads);
    bool two = wide(&a->kv, a->props);
    switch (a->kv.format) {
    case BT_KV_F32: return launch_f32(p, grid, s);
    case BT_KV_BF16: return launch_type<bf16_type>(p, grid, two, s);
    case BT_KV_F16: return launch_type<f16_type>(p, grid, two, s);
    default: return launch_type<byte_type>(p, grid, two, s);
    }
}
