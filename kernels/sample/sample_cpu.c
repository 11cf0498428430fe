/* SPDX-License-Identifier: Apache-2.0 */
/* sample_cpu.c - choosing a token without sorting the vocabulary.
 *
 * DESIGN   What top_k, top_p and min_p keep is a prefix of one order (logit, then lowest id), so
 * each is a cut: a least logit and, among its equals, the last id. A cut is found by bisection over
 * the values of floats, each probe one pass that counts and weighs what lies at or above it, until
 * few enough candidates remain to sort. Small top_k and the listed logprobs go through a heap
 * instead. Losers of a tie become -inf in a copy, so that afterwards a cut is its least logit
 * alone.
 *
 * DRAW  Weights are summed in blocks of 256 ids; the draw walks the blocks, then the ids of one.
 *
 * SCRATCH  x[vocab] (changed logits), w[vocab], block sums, heap keys, gathered ids. */
#include "kernels/sample/sample.h"
#include "base/assert.h"
#include "base/rng.h"
#include "kernels/vec.h"
#include <float.h>
#include <math.h>
#include <string.h>

enum { HEAP_MAX = 512, IDS_MAX = HEAP_MAX + 16 };

typedef struct row {
    const bt__vec *vec;
    const float *x; // the logits, or `own` once they are changed
    int32_t n;
    float max;
    float *own, *w;
    double *block;
    uint64_t *key; // [HEAP_MAX]
    int32_t *id;   // [IDS_MAX]
    int32_t blocks;
} row;

/* What is kept: x > least, and x == least up to this id. */
typedef struct cut {
    float least;
    int32_t last;
} cut;

static size_t round64(size_t n)
{
    return (n + 63) / 64 * 64;
}
static size_t block_count(int32_t n)
{
    return ((size_t)n + BT__WEIGHT_BLOCK - 1) / BT__WEIGHT_BLOCK;
}

size_t bt_sample_scratch_bytes(int32_t vocab)
{
    return 2 * round64((size_t)vocab * sizeof(float)) +
           round64(block_count(vocab) * sizeof(double)) + round64(HEAP_MAX * sizeof(uint64_t)) +
           round64(IDS_MAX * sizeof(int32_t));
}

static void row_init(row *r, const float *logits, int32_t vocab, int32_t n, void *scratch)
{
    char *p = scratch;
    r->vec = bt__vec_get();
    r->x = logits;
    r->n = n;
    r->own = (float *)(void *)p;
    p += round64((size_t)vocab * sizeof(float));
    r->w = (float *)(void *)p;
    p += round64((size_t)vocab * sizeof(float));
    r->block = (double *)(void *)p;
    p += round64(block_count(vocab) * sizeof(double));
    r->key = (uint64_t *)(void *)p;
    p += round64(HEAP_MAX * sizeof(uint64_t));
    r->id = (int32_t *)(void *)p;
    r->blocks = (int32_t)block_count(n);
}

/* The row's own copy, to change. */
static float *row_own(row *r)
{
    if (r->x != r->own) memcpy(r->own, r->x, (size_t)r->n * sizeof *r->own);
    r->x = r->own;
    return r->own;
}

/* Order-preserving map of floats to integers; both zeros are one. */
static uint32_t order_of(float x)
{
    uint32_t u;
    x += 0.0f;
    memcpy(&u, &x, sizeof u);
    return u >> 31 ? ~u : u | 0x80000000u;
}

static float order_value(uint32_t u)
{
    float x;
    u = u >> 31 ? u & 0x7FFFFFFFu : ~u;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Greater key: earlier in the order of tokens. */
static uint64_t key_of(const row *r, int32_t id)
{
    return (uint64_t)order_of(r->x[id]) << 32 | (uint32_t)~id;
}
static int32_t key_id(uint64_t key)
{
    return (int32_t) ~(uint32_t)key;
}

static void heap_sift(uint64_t *h, int32_t n, int32_t i)
{
    uint64_t key = h[i];
    for (int32_t c; (c = 2 * i + 1) < n; i = c) {
        if (c + 1 < n && h[c + 1] < h[c]) c++;
        if (h[c] >= key) break;
        h[i] = h[c];
    }
    h[i] = key;
}

/* A min-heap becomes an array in descending order. */
static void heap_sort(uint64_t *h, int32_t n)
{
    while (n > 1) {
        uint64_t least = h[0];
        h[0] = h[--n];
        heap_sift(h, n, 0);
        h[n] = least;
    }
}

static void heap_make(uint64_t *h, int32_t n)
{
    for (int32_t i = n / 2 - 1; i >= 0; i--) heap_sift(h, n, i);
}

/* The first k tokens, in order, into r->key. k in [1, min(n, HEAP_MAX)]. */
static void select_top(row *r, int32_t k)
{
    int32_t at = 0, len = 0;
    while (at < r->n) {
        /* What is below the heap's least cannot enter; its equals have higher ids, so neither can
         * they. */
        float floor = len == k ? order_value((uint32_t)(r->key[0] >> 32)) : -INFINITY;
        int32_t found = r->vec->gather(r->x, r->n, floor, INFINITY, r->id, 64, &at);
        for (int32_t i = 0; i < found; i++) {
            uint64_t key = key_of(r, r->id[i]);
            if (len < k) {
                r->key[len++] = key;
                if (len == k) heap_make(r->key, k);
            } else if (key > r->key[0]) {
                r->key[0] = key;
                heap_sift(r->key, k, 0);
            }
        }
    }
    if (len < k) heap_make(r->key, len);
    heap_sort(r->key, len);
}

/* Where the wanted amount (of tokens, or of weight) is reached, walking tokens in order from the
 * top. */
typedef struct quest {
    bool by_weight;
    double want;
} quest;

static double amount_from(const row *r, const quest *q, float least, int32_t *count)
{
    double mass = r->vec->mass_from(r->x, r->w, r->n, least, count);
    return q->by_weight ? mass : (double)*count;
}

/* Walks the tokens with lo <= x < hi, which all have one value (sorted == false: ids ascend anyway)
 * or fit the heap, until `have` reaches what is wanted. */
static cut walk(row *r, const quest *q, float lo, float hi, bool sorted, double have)
{
    cut c = {lo, INT32_MAX};
    int32_t at = 0;
    while (at < r->n) {
        int32_t found = r->vec->gather(r->x, r->n, lo, hi, r->id, IDS_MAX, &at);
        for (int32_t i = 0; sorted && i < found; i++) r->key[i] = key_of(r, r->id[i]);
        if (sorted) {
            heap_make(r->key, found);
            heap_sort(r->key, found);
        }
        for (int32_t i = 0; i < found; i++) {
            int32_t id = sorted ? key_id(r->key[i]) : r->id[i];
            c = (cut){r->x[id], id};
            have += q->by_weight ? (double)r->w[id] : 1.0;
            if (have >= q->want) return c;
        }
    }
    return c; // rounding left the sum a hair short: all of them
}

/* The shortest prefix of the order that reaches what is wanted. lo: a logit from which on there is
 * enough. */
static cut find_cut(row *r, const quest *q, float lo)
{
    uint32_t low = order_of(lo), high = order_of(r->max) + 1; // wanted is in [low, high)
    int32_t count_low, count_high = 0;
    double have_high = 0; // at or above high
    amount_from(r, q, lo, &count_low);
    while (count_low - count_high > HEAP_MAX && high - low > 1) {
        uint32_t mid = low + (high - low) / 2;
        int32_t count;
        double have = amount_from(r, q, order_value(mid), &count);
        if (have >= q->want) {
            low = mid;
            count_low = count;
        } else {
            high = mid;
            count_high = count;
            have_high = have;
        }
    }
    return walk(r, q, order_value(low), order_value(high), count_low - count_high <= HEAP_MAX,
                have_high);
}

/* Makes the cut a matter of its least logit alone. */
static void drop_ties(row *r, cut c)
{
    int32_t at = c.last < INT32_MAX ? (c.last + 1) / 16 * 16 : r->n;
    float above = order_value(order_of(c.least) + 1);
    while (at < r->n) {
        int32_t found = r->vec->gather(r->x, r->n, c.least, above, r->id, IDS_MAX, &at);
        for (int32_t i = 0; i < found; i++)
            if (r->id[i] > c.last) row_own(r)[r->id[i]] = -INFINITY;
    }
}

static double weigh(row *r, float inv_t, float least)
{
    double sum = 0;
    r->vec->weights(r->x, r->n, r->max, inv_t, least, r->w, r->block);
    for (int32_t b = 0; b < r->blocks; b++) sum += r->block[b];
    return sum;
}

/* The least logit kept by top_k, top_p and min_p. Leaves all weights of it in r. */
static double truncate_row(row *r, const bt_sample_req *req, float inv_t)
{
    float least = -INFINITY, temperature = req->temperature;
    if (req->top_k > 0 && req->top_k < r->n) {
        cut c;
        if (req->top_k <= HEAP_MAX) {
            select_top(r, req->top_k);
            int32_t id = key_id(r->key[req->top_k - 1]);
            c = (cut){r->x[id], id};
        } else {
            c = find_cut(r, &(quest){false, (double)req->top_k}, -FLT_MAX);
        }
        drop_ties(r, c);
        least = c.least;
    }
    double all = weigh(r, inv_t, least);
    float kept = least;
    if (req->top_p < 1) {
        double p = fmax((double)req->top_p, 0.0);
        /* Tokens lighter than (1 - p) * all / n are together lighter than what may be left out. */
        double floor = (double)r->max + (double)temperature * (log((1 - p) * all / r->n) - 0.01);
        cut c = find_cut(r, &(quest){true, p * all}, fmaxf(least, (float)fmax(floor, -FLT_MAX)));
        drop_ties(r, c);
        kept = c.least;
    }
    if (req->min_p > 0) {
        double floor = (double)temperature * log(fmin((double)req->min_p, 1.0));
        kept = fmaxf(kept, (float)((double)r->max + floor));
    }
    return req->top_p < 1 || kept > least ? weigh(r, inv_t, kept) : all;
}

static int32_t draw(const row *r, double all, double u)
{
    double target = u * all, sum = 0;
    int32_t b = 0, last = 0;
    for (int32_t i = 0; i < r->blocks;
         i++) // the last block with weight, if rounding passes them all
        if (r->block[i] > 0) last = i;
    while (b < last && !(sum + r->block[b] > target)) sum += r->block[b++];
    int32_t i = b * BT__WEIGHT_BLOCK, end = BT_MIN(i + BT__WEIGHT_BLOCK, r->n), token = -1;
    for (; i < end; i++) {
        if (!(r->w[i] > 0)) continue;
        token = i;
        sum += (double)r->w[i];
        if (sum > target) break;
    }
    return token;
}

static void change(row *r, const bt_sample_req *req)
{
    float *x = row_own(r);
    for (int32_t i = 0; i < req->n_bias; i++)
        if (req->bias[i].token >= 0 && req->bias[i].token < r->n)
            x[req->bias[i].token] += req->bias[i].bias;
    for (int32_t i = 0; i < req->n_counts; i++) {
        int32_t t = req->counts[i].token;
        if (t < 0 || t >= r->n) continue;
        if (req->counts[i].in_window > 0)
            x[t] = x[t] > 0 ? x[t] / req->repeat_penalty : x[t] * req->repeat_penalty;
        if (req->counts[i].drawn > 0)
            x[t] -= req->freq_penalty * (float)req->counts[i].drawn + req->presence_penalty;
    }
    r->vec->scan_max(r->x, r->n, &r->max);
}

static double list_logprobs(row *r, const bt_sample_req *req, bt_sample_out *out)
{
    double log_sum = (double)r->max + log(weigh(r, 1.0f, -INFINITY));
    int32_t n = BT_MIN(BT_MIN(req->n_logprobs, r->n), (int32_t)BT_TOP_LOGPROBS_MAX);
    if (n > 0) {
        select_top(r, n);
        for (int32_t i = 0; i < n; i++) {
            out->top_token[i] = key_id(r->key[i]);
            out->top_logprob[i] = (float)((double)r->x[out->top_token[i]] - log_sum);
        }
        out->n_top = n;
    }
    return log_sum;
}

/* -1: nothing can be chosen. */
static int32_t choose(row *r, const bt_sample_req *req)
{
    if (req->n_ban > 0) {
        float *x = row_own(r);
        for (int32_t i = 0; i < req->n_ban; i++)
            if (req->ban[i] >= 0 && req->ban[i] < r->n) x[req->ban[i]] = -INFINITY;
        r->vec->scan_max(r->x, r->n, &r->max);
    }
    if (!(r->max > -INFINITY && r->max < INFINITY)) return -1;
    if (!(req->temperature > 0)) return r->vec->find_first(r->x, r->n, r->max);
    float inv_t = fminf(1.0f / req->temperature, 1e30f); // finite: 0 * inv_t must be 0
    double all = truncate_row(r, req, inv_t);
    return draw(r, all, bt_rng_unit(req->seed, req->counter));
}

void bt_sample_run(const bt_sample_req *req, const float *logits, int32_t vocab, void *scratch,
                   bt_sample_out *out)
{
    row r;
    int32_t n = req->vocab > 0 && req->vocab < vocab ? req->vocab : vocab;
    out->token = -1;
    out->logprob = 0;
    out->n_top = 0;
    row_init(&r, logits, vocab, n, scratch);
    out->bad = !r.vec->scan_max(r.x, n, &r.max);
    if (out->bad) return;
    if (req->n_bias > 0 || req->n_counts > 0) change(&r, req);
    double log_sum = 0;
    bool logprob = req->n_logprobs >= 0 || req->forced >= 0;
    if (logprob) log_sum = list_logprobs(&r, req, out);
    out->token = req->forced >= 0 ? req->forced : choose(&r, req);
    out->bad = out->token < 0;
    if (!logprob || out->bad) return;
    out->logprob = out->token < n ? (float)((double)r.x[out->token] - log_sum) : -INFINITY;
}
