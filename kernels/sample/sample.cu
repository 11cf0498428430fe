/* SPDX-License-Identifier: Apache-2.0 */
/* sample.cu - a block of threads per row; the mechanism is in sample_row.cuh.
 *
 * Once few enough tokens are known to be all that can be kept, they are in shared memory, sorted,
 * and everything after that happens there; until then each step is a pass over the row. */
#include "kernels/cuda_kernel.h"
#include "kernels/cuda_math.cuh"
#include "kernels/sample/sample_cuda.h"
#include "kernels/sample/sample_row.cuh"
#include "base/rng.h"
#include <math.h>

/* Adds every bias, then every penalty. A bias may name a token more than once: its first entry
 * applies them all, in order. */
static __device__ void change(const bt_cuda_sample_args &a, const bt_cuda_sample_row &req, float *x)
{
    const bt_logit_bias *bias = a.bias + req.bias;
    for (int32_t i = (int32_t)threadIdx.x; i < req.n_bias; i += SAMPLE_THREADS) {
        int32_t t = bias[i].token, j = 0;
        if (t < 0 || t >= req.n) continue;
        while (bias[j].token != t) j++;
        if (j < i) continue;
        float v = x[t];
        for (; j < req.n_bias; j++)
            if (bias[j].token == t) v += bias[j].bias;
        x[t] = isnan(v) ? -INFINITY : v;
    }
    __syncthreads();
    const bt_token_count *counts = a.counts + req.counts;
    for (int32_t i = (int32_t)threadIdx.x; i < req.n_counts; i += SAMPLE_THREADS) {
        int32_t t = counts[i].token;
        if (t < 0 || t >= req.n) continue;
        float v = x[t], times = __fmul_rn(req.freq, (float)counts[i].drawn);
        float repeat = counts[i].in_window > 0 ? req.repeat : 1.0f; // neutral values, not branches: registers
        v = v > 0.0f ? v / repeat : __fmul_rn(v, repeat);
        v = __fsub_rn(v, counts[i].drawn > 0 ? __fadd_rn(times, req.presence) : 0.0f);
        x[t] = isnan(v) ? -INFINITY : v;
    }
    __syncthreads();
}

static __device__ void ban(const bt_cuda_sample_args &a, const bt_cuda_sample_row &req, float *x)
{
    for (int32_t i = (int32_t)threadIdx.x; i < req.n_ban; i += SAMPLE_THREADS) {
        int32_t t = a.ban[req.ban + i];
        if (t >= 0 && t < req.n) x[t] = -INFINITY;
    }
    __syncthreads(); // a token may be banned and masked
    for (int32_t i = (int32_t)threadIdx.x; req.mask >= 0 && i < req.n; i += SAMPLE_THREADS)
        if (!(a.mask[req.mask + i / 32] >> i % 32 & 1u)) x[i] = -INFINITY;
    __syncthreads();
}

/* log of the sum of e^l; the n likeliest go to top. */
static __device__ double list_logprobs(sample_row *r, int32_t n, bt_cuda_sample_top *top)
{
    r->inv_t = 1.0f;
    u64 mass = row_mass(*r, 0);
    if (threadIdx.x == 0)
        r->s->number = (double)r->max + log((double)mass * (1.0 / (1ull << WEIGHT_BITS)));
    __syncthreads();
    double log_sum = r->s->number;
    __syncthreads();
    if (n == 0) return log_sum;
    bool listed;
    int32_t m;
    u64 cut = find_cut(*r, quest{false, (u64)n}, 0, bound_of(*r, n), &listed, &m);
    if (!listed) list_gather(*r, cut, ~0ull);
    int32_t i = (int32_t)threadIdx.x;
    if (i < n) {
        u64 key = r->s->at.key[i];
        top->token[i] = key_id(key);
        top->logprob[i] = (float)((double)key_value(key) - log_sum);
    }
    __syncthreads();
    return log_sum;
}

/* A key that top_p's cut is not below: tokens lighter than (1 - p) * all / n are together lighter
 * than what may be left out. */
static __device__ u64 weight_bound(const sample_row &r, const bt_cuda_sample_row &req, u64 all)
{
    if (threadIdx.x == 0) {
        double p = fmax((double)req.top_p, 0.0);
        double mean = (1.0 - p) * (double)all / (double)r.n * (1.0 / (1ull << WEIGHT_BITS));
        r.s->number = (double)r.max + (log(mean) - 0.01) / (double)req.inv_temperature;
    }
    __syncthreads();
    double least = r.s->number;
    __syncthreads();
    return least > -3e38 ? (u64)order_of((float)least) << 32 : 0;
}

static __device__ quest weight_quest(const bt_cuda_sample_row &req, u64 all)
{
    double want = ceil(fmax((double)req.top_p, 0.0) * (double)all);
    u64 u = want < 1.0 ? 1 : (u64)want;
    return quest{true, u > all ? all : u};
}

/* The draw among the first n of the list: sorted by id instead, the sum walks up. */
static __device__ int32_t draw_listed(const sample_row &r, u64 random, int32_t n)
{
    int32_t i = (int32_t)threadIdx.x;
    u64 key = i < n ? r.s->at.key[i] : 0;
    __syncthreads();
    r.s->at.key[i] = key << 32 | key >> 32; // ~id above, order below
    list_sort(r.s, n);
    key = r.s->at.key[i];
    u64 sum = block_scan(i < n ? weight_of(r, order_value((uint32_t)key)) : 0, r.s);
    if (i == SAMPLE_THREADS - 1) r.s->have = sum;
    __syncthreads();
    u64 target = mul_high(random, r.s->have);
    int32_t at = __syncthreads_count(i < n && sum <= target);
    return (int32_t) ~(uint32_t)(r.s->at.key[min(at, n - 1)] >> 32);
}

/* Rules 4 and 5. */
static __device__ int32_t draw(const sample_row &r, const bt_cuda_sample_row &req)
{
    bool listed = false;
    int32_t n = r.n;
    u64 cut = 0;
    if (req.top_k > 0 && req.top_k < r.n)
        cut = find_cut(r, quest{false, (u64)req.top_k}, 0, bound_of(r, req.top_k), &listed, &n);
    if (req.top_p < 1.0f && listed) {
        int32_t i = (int32_t)threadIdx.x;
        u64 all = block_sum(i < n ? weight_of(r, key_value(r.s->at.key[i])) : 0, r.s);
        n = min(list_reach(r, weight_quest(req, all), n, 0) + 1, n);
    } else if (req.top_p < 1.0f) {
        u64 all = row_mass(r, cut);
        cut = find_cut(r, weight_quest(req, all), cut, weight_bound(r, req, all), &listed, &n);
    }
    if (req.min_p_distance > -INFINITY) {
        u64 least = (u64)order_of((float)((double)r.max + req.min_p_distance)) << 32;
        cut = least > cut ? least : cut;
        if (listed) {
            int32_t i = (int32_t)threadIdx.x;
            n = __syncthreads_count(i < n && r.s->at.key[i] >= least);
        }
    }
    if (listed) return draw_listed(r, req.draw, n);
    u64 target = mul_high(req.draw, row_mass(r, cut));
    return locate(r, target, [&](int32_t i) -> u64 {
        return key_of(r.x[i], i) >= cut ? weight_of(r, r.x[i]) : 0;
    });
}

/* Reads the row and changes it, if need be in a copy. False: it cannot be sampled. */
static __device__ bool row_open(const bt_cuda_sample_args &a, const bt_cuda_sample_row &req,
                                float *own, u64 *best, sample_row *r)
{
    bool copy =
        req.n_bias > 0 || req.n_counts > 0 || (req.forced < 0 && (req.n_ban > 0 || req.mask >= 0));
    if (!row_scan(r, copy ? own : nullptr, best)) return false;
    if (copy) r->x = own;
    if (req.n_bias == 0 && req.n_counts == 0) return true;
    change(a, req, own);
    row_scan(r, nullptr, best);
    return fabsf(r->max) < INFINITY;
}

/* The row's token, or -1 where nothing can be chosen. best: the first key of the order. */
static __device__ int32_t row_choose(const bt_cuda_sample_args &a, const bt_cuda_sample_row &req,
                                     float *own, u64 best, sample_row *r)
{
    if (req.n_ban > 0 || req.mask >= 0) {
        ban(a, req, own);
        row_scan(r, nullptr, &best);
        if (!(fabsf(r->max) < INFINITY)) return -1;
    }
    if (!(req.inv_temperature > 0.0f)) return key_id(best);
    r->inv_t = req.inv_temperature;
    return draw(*r, req);
}

static __global__ void __launch_bounds__(SAMPLE_THREADS) sample_kernel(bt_cuda_sample_args a)
{
    BT_SHARED(sample_shared, shared, 1);
    int64_t i = blockIdx.x;
    const bt_cuda_sample_row &req = a.row[i];
    bt_cuda_sample_pick pick = {-1, 0.0f, 0, 0};
    sample_row r = {a.logits + i * a.ld, req.n, 0.0f, 0.0f, 0, shared};
    float *own = (float *)a.scratch + i * ((a.vocab + 3) / 4 * 4);
    u64 best;
    if (r.n > 0) {
        pick.bad = !row_open(a, req, own, &best, &r);
        if (!pick.bad) {
            bool logprob = req.n_logprobs >= 0 || req.forced >= 0;
            double log_sum = 0.0;
            pick.n_top = min(min(max(req.n_logprobs, 0), r.n), (int32_t)BT_TOP_LOGPROBS_MAX);
            if (logprob) log_sum = list_logprobs(&r, pick.n_top, a.top + i);
            pick.token = req.forced >= 0 ? req.forced : row_choose(a, req, own, best, &r);
            pick.bad = pick.token < 0;
            if (logprob && !pick.bad) // what was chosen is not banned, so it is unchanged
                pick.logprob =
                    pick.token < r.n ? (float)((double)r.x[pick.token] - log_sum) : -INFINITY;
        }
    }
    if (threadIdx.x != 0) return;
    a.pick[i] = pick;
    if (a.next) a.next[i] = pick.token < 0 ? 0 : pick.token;
}

extern "C" size_t bt_cuda_sample_scratch(int32_t rows_max, int32_t vocab)
{
    return (size_t)rows_max * ((size_t)(vocab + 3) / 4 * 4) * sizeof(float);
}

extern "C" void bt_cuda_sample_pack(const bt_sample_req *req, int32_t vocab, int32_t bias,
                                    int32_t counts, int32_t ban, int32_t mask,
                                    bt_cuda_sample_row *row)
{
    float t = req->temperature;
    bt_cuda_sample_row out = {};
    out.n = req->vocab > 0 && req->vocab < vocab ? req->vocab : vocab;
    out.inv_temperature = t > 0.0f ? fminf(1.0f / t, 1e30f) : 0.0f; // finite: 0 * it must be 0
    out.top_p = req->top_p;
    out.top_k = req->top_k;
    out.min_p_distance =
        req->min_p > 0.0f ? (double)t * log(fmin((double)req->min_p, 1.0)) : (double)-INFINITY;
    out.draw = bt_rng_u64(req->seed, req->counter) >> 11 << 11;
    out.repeat = req->repeat_penalty;
    out.freq = req->freq_penalty;
    out.presence = req->presence_penalty;
    out.n_logprobs = req->n_logprobs;
    out.forced = req->forced;
    out.bias = bias;
    out.n_bias = req->n_bias;
    out.counts = counts;
    out.n_counts = req->n_counts;
    out.ban = ban;
    out.n_ban = req->n_ban;
    out.mask = mask;
    *row = out;
}

extern "C" cudaError_t bt_cuda_sample(const bt_cuda_sample_args *a, cudaStream_t s)
{
    if (a->rows < 0 || a->vocab < 1 || a->vocab > BT_CUDA_SAMPLE_VOCAB_MAX || a->ld < a->vocab ||
        (uintptr_t)a->scratch % 256 || !a->row || !a->pick)
        return cudaErrorInvalidValue;
    if (a->rows == 0) return cudaSuccess;
    return bt_launch(sample_kernel, dim3((unsigned)a->rows), dim3(SAMPLE_THREADS), 0, s, *a);
}
