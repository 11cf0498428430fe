/* SPDX-License-Identifier: Apache-2.0 */
/* sample_row.cuh - what a block of threads does with one row of logits: passes, sums, the sorted
 * list, the search for a cut. kernels/sample/sample.cu puts them in order.
 *
 * ORDER    A token's key is its logit's order (a monotonic map of floats to 32 bits) above its id's
 * complement, so keys are distinct and descend in the order of rule 4. A cut is a key: kept is what
 * is not below it.
 * WEIGHTS  w = e^((l - max) / temperature), f32, as an integer of 2^-44; sums of up to 2^19 of them
 * fit 64 bits and do not depend on who adds first, so integer atomics are free to be used.
 * THREADS  All functions are called by the whole block of SAMPLE_THREADS. They begin and end with
 * shared memory free to be written unless they say otherwise. */
#pragma once

enum {
    SAMPLE_THREADS = 1024,
    SAMPLE_WARPS = SAMPLE_THREADS / 32,
    LIST_MAX = SAMPLE_THREADS, // a key a thread
    BINS = 2 * SAMPLE_THREADS,
    WEIGHT_BITS = 44,
};

typedef unsigned long long u64;

typedef struct sample_bins {
    uint32_t count[BINS];
    uint32_t low[BINS], high[BINS]; // of the weights: 64 bits in two, as shared memory adds 32
} sample_bins;

typedef struct sample_shared {
    union {
        u64 key[LIST_MAX];
        sample_bins bins;
    } at;
    u64 part[SAMPLE_WARPS], best[SAMPLE_WARPS];
    u64 have;
    uint32_t bin, in_bin, listed;
    double number;
} sample_shared;

typedef struct sample_row {
    const float *x;
    int32_t n;
    float max, inv_t;
    u64 mine; // this thread's first key in the order; 0: it has none
    sample_shared *s;
} sample_row;

static __device__ __forceinline__ uint32_t order_of(float x)
{
    uint32_t u = __float_as_uint(x + 0.0f); // one zero
    return u >> 31 ? ~u : u | 0x80000000u;
}
static __device__ __forceinline__ float order_value(uint32_t u)
{
    return __uint_as_float(u >> 31 ? u & 0x7FFFFFFFu : ~u);
}
static __device__ __forceinline__ u64 key_of(float x, int32_t id)
{
    return (u64)order_of(x) << 32 | (uint32_t)~id;
}
static __device__ __forceinline__ int32_t key_id(u64 key)
{
    return (int32_t) ~(uint32_t)key;
}
static __device__ __forceinline__ float key_value(u64 key)
{
    return order_value((uint32_t)(key >> 32));
}

/* Upper half of a 128-bit product. */
static __device__ __forceinline__ u64 mul_high(u64 a, u64 b)
{
    u64 al = (uint32_t)a, ah = a >> 32, bl = (uint32_t)b, bh = b >> 32;
    u64 mid = ah * bl + (al * bl >> 32), other = al * bh + (uint32_t)mid;
    return ah * bh + (mid >> 32) + (other >> 32);
}

/* w in [0, 2) in steps of 2^-44, cut. Shifts: the conversion instruction is slow. */
static __device__ __forceinline__ u64 weight_fixed(float w)
{
    uint32_t u = __float_as_uint(w), mantissa = (u & 0x7FFFFFu) | 0x800000u;
    int shift = (int)(u >> 23) - 127 - 23 + WEIGHT_BITS;
    if (shift >= 0) return (u64)mantissa << shift;
    return shift > -24 ? mantissa >> -shift : 0;
}

static __device__ __forceinline__ u64 weight_of(const sample_row &r, float x)
{
    return weight_fixed(bt_exp((x - r.max) * r.inv_t));
}

/* f(id, x) for each token, 16 bytes at a time where the row is aligned. No collectives in f. */
template <class F> static __device__ __forceinline__ void each(const float *x, int32_t n, F f)
{
    int32_t i = 0;
    if ((size_t)x % 16 == 0) {
        for (i = 4 * (int32_t)threadIdx.x; i + 3 < n; i += 4 * SAMPLE_THREADS) {
            uint4 v = bt_load16(x + i);
            f(i, __uint_as_float(v.x));
            f(i + 1, __uint_as_float(v.y));
            f(i + 2, __uint_as_float(v.z));
            f(i + 3, __uint_as_float(v.w));
        }
        i = n / 4 * 4;
    }
    for (i += (int32_t)threadIdx.x; i < n; i += SAMPLE_THREADS) f(i, x[i]);
}

/* Sum over the block, the same in all threads. */
static __device__ u64 block_sum(u64 v, sample_shared *s)
{
    for (int step = 16; step > 0; step >>= 1) v += __shfl_xor_sync(0xFFFFFFFFu, v, step);
    if (threadIdx.x % 32 == 0) s->part[threadIdx.x / 32] = v;
    __syncthreads();
    v = 0;
    for (int i = 0; i < SAMPLE_WARPS; i++) v += s->part[i];
    __syncthreads();
    return v;
}

static __device__ u64 block_max(u64 v, sample_shared *s)
{
    for (int step = 16; step > 0; step >>= 1) {
        u64 other = __shfl_xor_sync(0xFFFFFFFFu, v, step);
        v = other > v ? other : v;
    }
    if (threadIdx.x % 32 == 0) s->best[threadIdx.x / 32] = v;
    __syncthreads();
    v = 0;
    for (int i = 0; i < SAMPLE_WARPS; i++) v = s->best[i] > v ? s->best[i] : v;
    __syncthreads();
    return v;
}

/* Sum of the values of threads up to and with this one. */
static __device__ u64 block_scan(u64 v, sample_shared *s)
{
    int32_t lane = (int32_t)threadIdx.x % 32, warp = (int32_t)threadIdx.x / 32;
    for (int step = 1; step < 32; step <<= 1) {
        u64 other = __shfl_up_sync(0xFFFFFFFFu, v, step);
        if (lane >= step) v += other;
    }
    if (lane == 31) s->part[warp] = v;
    __syncthreads();
    for (int i = 0; i < warp; i++) v += s->part[i];
    __syncthreads();
    return v;
}

/* Finds this thread's first key and the row's, and its maximum. copy: NULL, or where the row goes.
 * False if a logit is NaN or infinite. */
static __device__ bool row_scan(sample_row *r, float *copy, u64 *best)
{
    u64 mine = 0;
    int sick = 0;
    each(r->x, r->n, [&](int32_t id, float x) {
        u64 key = key_of(x, id);
        mine = key > mine ? key : mine;
        if (!(fabsf(x) < INFINITY)) sick = 1;
        if (copy) copy[id] = x;
    });
    r->mine = mine;
    *best = block_max(mine, r->s);
    r->max = key_value(*best);
    return !__syncthreads_or(sick);
}

/* Weight of what is kept. */
static __device__ u64 row_mass(const sample_row &r, u64 cut)
{
    u64 sum = 0;
    each(r.x, r.n, [&](int32_t id, float x) {
        if (key_of(x, id) >= cut) sum += weight_of(r, x);
    });
    return block_sum(sum, r.s);
}

/* Sorts the first n of the list, descending; n <= LIST_MAX. What is behind it becomes 0. */
static __device__ void list_sort(sample_shared *s, int32_t n)
{
    int32_t i = (int32_t)threadIdx.x, width = 32;
    while (width < n) width *= 2;
    if (i >= n) s->at.key[i] = 0;
    __syncthreads();
    for (int32_t size = 2; size <= width; size *= 2)
        for (int32_t apart = size / 2; apart > 0; apart /= 2) {
            int32_t other = i ^ apart;
            if (i < other && i < width) {
                u64 a = s->at.key[i], b = s->at.key[other];
                if ((a < b) == ((i & size) == 0)) {
                    s->at.key[i] = b;
                    s->at.key[other] = a;
                }
            }
            __syncthreads();
        }
}

/* A warp's keys in [lo, hi) go to the list, one a lane. */
static __device__ __forceinline__ void list_put(sample_shared *s, u64 key, bool in)
{
    int32_t lane = (int32_t)threadIdx.x % 32;
    unsigned mask = __ballot_sync(0xFFFFFFFFu, in);
    if (mask == 0) return;
    uint32_t first = 0;
    if (lane == 0) first = atomicAdd(&s->listed, (uint32_t)__popc(mask));
    first = __shfl_sync(0xFFFFFFFFu, first, 0);
    uint32_t place = first + (uint32_t)__popc(mask & ((1u << lane) - 1u));
    if (in && place < LIST_MAX) s->at.key[place] = key;
}

/* Puts the tokens with lo <= key < hi into the list, if they are LIST_MAX at most, and sorts it.
 * Returns how many they are. */
static __device__ int32_t list_gather(const sample_row &r, u64 lo, u64 hi)
{
    sample_shared *s = r.s;
    int32_t lane = (int32_t)threadIdx.x % 32, first = 4 * ((int32_t)threadIdx.x - lane);
    bool wide = (size_t)r.x % 16 == 0;
    if (threadIdx.x == 0) s->listed = 0;
    __syncthreads();
    for (; first < r.n; first += 4 * SAMPLE_THREADS) {
        int32_t id = first + 4 * lane;
        float x[4];
        u64 key[4];
        if (wide && id + 3 < r.n) {
            uint4 v = bt_load16(r.x + id);
            x[0] = __uint_as_float(v.x);
            x[1] = __uint_as_float(v.y);
            x[2] = __uint_as_float(v.z);
            x[3] = __uint_as_float(v.w);
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) x[i] = id + i < r.n ? r.x[id + i] : -INFINITY;
        }
        unsigned in = 0;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            key[i] = key_of(x[i], id + i);
            if (id + i < r.n && key[i] >= lo && key[i] < hi) in |= 1u << i;
        }
        if (!__any_sync(0xFFFFFFFFu, in != 0)) continue;
#pragma unroll
        for (int i = 0; i < 4; i++) list_put(s, key[i], (in >> i & 1u) != 0);
    }
    __syncthreads();
    int32_t n = (int32_t)s->listed;
    if (n <= LIST_MAX) list_sort(s, n);
    return n;
}

/* A key at or below the k-th of the order: that of the k-th greatest of what threads saw first. */
static __device__ u64 bound_of(const sample_row &r, int32_t k)
{
    if (k > LIST_MAX) return 0;
    r.s->at.key[threadIdx.x] = r.mine;
    __syncthreads();
    list_sort(r.s, LIST_MAX);
    u64 bound = r.s->at.key[k - 1];
    __syncthreads();
    return bound;
}

/* What a cut shall leave: the shortest prefix of the order with so many tokens, or such weight. */
typedef struct quest {
    bool by_weight;
    u64 want; // at least 1
} quest;

/* Index of the first of the list's n keys at which `have` and what came before reach the wanted; n
 * where they do not. */
static __device__ int32_t list_reach(const sample_row &r, const quest &q, int32_t n, u64 have)
{
    int32_t i = (int32_t)threadIdx.x;
    u64 amount = 0;
    if (i < n) amount = q.by_weight ? weight_of(r, key_value(r.s->at.key[i])) : 1;
    u64 sum = have + block_scan(amount, r.s);
    return __syncthreads_count(i < n && sum < q.want);
}

/* One histogram of the tokens with order in [lo, hi) that are not below `limit`: finds the bin in
 * which the wanted is reached, makes [lo, hi) this bin, adds what is above it to *have. Returns how
 * many tokens are in the bin. */
static __device__ int32_t narrow(const sample_row &r, const quest &q, u64 limit, uint32_t *lo,
                                 uint32_t *hi, u64 *have)
{
    sample_shared *s = r.s;
    sample_bins *b = &s->at.bins;
    uint32_t base = *lo, span = *hi - *lo;
    int shift = 0;
    while ((span - 1) >> shift >= BINS) shift++;
    for (int i = (int)threadIdx.x; i < BINS; i += SAMPLE_THREADS)
        b->count[i] = b->low[i] = b->high[i] = 0;
    if (threadIdx.x == 0) s->bin = BINS;
    __syncthreads();
    each(r.x, r.n, [&](int32_t id, float x) {
        uint32_t at = order_of(x) - base;
        if (at >= span || key_of(x, id) < limit) return;
        atomicAdd(&b->count[at >> shift], 1u);
        if (!q.by_weight) return;
        u64 w = weight_of(r, x);
        uint32_t low = (uint32_t)w, old = atomicAdd(&b->low[at >> shift], low);
        uint32_t high = (uint32_t)(w >> 32) + (old + low < old ? 1u : 0u);
        if (high) atomicAdd(&b->high[at >> shift], high);
    });
    __syncthreads();
    u64 amount[2];
    int top = BINS - 1 - 2 * (int)threadIdx.x; // a thread has two bins, the first the highest
    for (int i = 0; i < 2; i++)
        amount[i] =
            q.by_weight ? (u64)b->high[top - i] << 32 | b->low[top - i] : (u64)b->count[top - i];
    u64 sum = *have + block_scan(amount[0] + amount[1], s), before = sum - amount[0] - amount[1];
    for (int i = 0; i < 2; before += amount[i++]) {
        if (before >= q.want || before + amount[i] < q.want) continue;
        s->bin = (uint32_t)(top - i);
        s->in_bin = b->count[top - i];
        s->have = before;
    }
    __syncthreads();
    uint32_t bin = s->bin, count = s->in_bin;
    u64 above = s->have;
    __syncthreads();
    if (bin == BINS) return -1;
    u64 first = (u64)base + ((u64)bin << shift), end = first + (1ull << shift);
    *lo = (uint32_t)first;
    *hi = end < *hi ? (uint32_t)end : *hi;
    *have = above;
    return (int32_t)count;
}

/* The first id at which the sum of f over ids from 0 on passes target; the sum of all does. Regions
 * of ids are summed by a warp each, then a region's 32nds, and so on. */
template <class F> static __device__ int32_t locate(const sample_row &r, u64 target, F f)
{
    int32_t lane = (int32_t)threadIdx.x % 32, warp = (int32_t)threadIdx.x / 32;
    int32_t begin = 0, size = r.n;
    while (size > 1) {
        int32_t each_size = (size + SAMPLE_WARPS - 1) / SAMPLE_WARPS;
        int32_t first = begin + warp * each_size, end = min(begin + size, first + each_size);
        u64 sum = 0;
        for (int32_t i = first + lane; i < end; i += 32) sum += f(i);
        for (int step = 16; step > 0; step >>= 1) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, step);
        if (lane == 0) r.s->part[warp] = sum;
        __syncthreads();
        int32_t w = 0;
        while (w < SAMPLE_WARPS - 1 && r.s->part[w] <= target) target -= r.s->part[w++];
        size = min(each_size, begin + size - (begin + w * each_size));
        begin += w * each_size;
        __syncthreads();
    }
    return begin;
}

/* The cut of the quest among tokens not below `limit`. bound: a key at or below the cut. have_list:
 * the list holds the *n tokens of the cut, in order, and they are all that is kept. */
static __device__ u64 find_cut(const sample_row &r, const quest &q, u64 limit, u64 bound,
                               bool *have_list, int32_t *n)
{
    uint32_t lo = (uint32_t)(bound >> 32), hi = order_of(r.max) + 1;
    u64 have = 0, from = bound > limit ? bound : limit;
    *have_list = false;
    int32_t count = -1;
    if (bound || r.n <= LIST_MAX) { // else all would be gathered in vain
        count = list_gather(r, from, ~0ull);
        *have_list = count <= LIST_MAX;
    }
    while (!*have_list && hi - lo > 1) {
        count = narrow(r, q, limit, &lo, &hi, &have);
        if (count < 0) return from;
        if (count <= LIST_MAX) break;
    }
    if (count > LIST_MAX) { // one value only: the lowest ids
        u64 each_amount = q.by_weight ? weight_of(r, order_value(lo)) : 1;
        u64 last = (q.want - have - 1) / each_amount;
        int32_t id =
            locate(r, last, [&](int32_t i) -> u64 { return order_of(r.x[i]) == lo ? 1 : 0; });
        return (u64)lo << 32 | (uint32_t)~id;
    }
    if (!*have_list) {
        u64 low = (u64)lo << 32;
        count = list_gather(r, low > limit ? low : limit, (u64)hi << 32);
    }
    int32_t at = list_reach(r, q, count, have);
    *n = min(at + 1, count);
    u64 cut = count ? r.s->at.key[*n - 1] : from;
    __syncthreads();
    return cut;
}
