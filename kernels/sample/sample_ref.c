/* SPDX-License-Identifier: Apache-2.0 */
/* sample_ref.c - choosing a token by sorting the whole vocabulary: the specification. */
#include "kernels/sample/sample.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/rng.h"
#include <math.h>

typedef struct candidate {
    float logit;
    int32_t id;
} candidate;

static int by_logit(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static void change(const bt_sample_req *req, float *x, int32_t n)
{
    for (int32_t i = 0; i < req->n_bias; i++)
        if (req->bias[i].token >= 0 && req->bias[i].token < n)
            x[req->bias[i].token] += req->bias[i].bias;
    for (int32_t i = 0; i < req->n_counts; i++) {
        int32_t t = req->counts[i].token;
        if (t < 0 || t >= n) continue;
        if (req->counts[i].in_window > 0)
            x[t] = x[t] > 0 ? x[t] / req->repeat_penalty : x[t] * req->repeat_penalty;
        if (req->counts[i].drawn > 0)
            x[t] -= req->freq_penalty * (float)req->counts[i].drawn + req->presence_penalty;
    }
}

/* Tokens in order -> how many of them are kept. */
static int32_t keep(const bt_sample_req *req, const candidate *c, int32_t n, const double *w)
{
    if (req->top_k > 0 && req->top_k < n) n = req->top_k;
    if (req->top_p < 1) {
        double all = 0, sum = 0;
        for (int32_t i = 0; i < n; i++) all += w[i];
        int32_t m = 0;
        do sum += w[m++];
        while (m < n && sum < (double)req->top_p * all);
        n = m;
    }
    if (req->min_p > 0) {
        double least =
            (double)c[0].logit + (double)req->temperature * log(fmin((double)req->min_p, 1));
        while (n > 1 && c[n - 1].logit < (float)least) n--;
    }
    return n;
}

static int32_t draw(const bt_sample_req *req, const candidate *c, int32_t n, int32_t vocab)
{
    double *w = bt_must(bt_calloc((size_t)n, sizeof *w));
    double *by_id = bt_must(bt_calloc((size_t)vocab, sizeof *by_id));
    for (int32_t i = 0; i < n; i++)
        w[i] = exp(((double)c[i].logit - (double)c[0].logit) / (double)req->temperature);
    int32_t m = keep(req, c, n, w), token = -1;
    double all = 0, sum = 0, u = bt_rng_unit(req->seed, req->counter);
    for (int32_t i = 0; i < m; i++) {
        all += w[i];
        by_id[c[i].id] = w[i];
    }
    for (int32_t id = 0; id < vocab && sum <= u * all; id++) {
        if (by_id[id] > 0) token = id;
        sum += by_id[id];
    }
    bt_free(by_id);
    bt_free(w);
    return token;
}

static bool banned(const bt_sample_req *req, int32_t id)
{
    for (int32_t i = 0; i < req->n_ban; i++)
        if (req->ban[i] == id) return true;
    return false;
}

static void logprobs(const bt_sample_req *req, const candidate *c, int32_t n, double *log_sum,
                     bt_sample_out *out)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += exp((double)c[i].logit - (double)c[0].logit);
    *log_sum = (double)c[0].logit + log(sum);
    out->n_top = BT_MIN(BT_MIN(BT_MAX(req->n_logprobs, 0), n), (int32_t)BT_TOP_LOGPROBS_MAX);
    for (int32_t i = 0; i < out->n_top; i++) {
        out->top_token[i] = c[i].id;
        out->top_logprob[i] = (float)((double)c[i].logit - *log_sum);
    }
}

void bt_sample_ref(const bt_sample_req *req, const float *logits, int32_t vocab, bt_sample_out *out)
{
    int32_t n = req->vocab > 0 && req->vocab < vocab ? req->vocab : vocab, left = 0;
    float *x = bt_must(bt_calloc((size_t)n, sizeof *x));
    candidate *c = bt_must(bt_calloc((size_t)n, sizeof *c));
    double log_sum = 0;
    *out = (bt_sample_out){.token = -1};
    for (int32_t i = 0; i < n; i++) {
        x[i] = logits[i];
        if (!isfinite(x[i])) out->bad = true;
    }
    if (out->bad) goto done;
    change(req, x, n);
    for (int32_t i = 0; i < n; i++) c[i] = (candidate){x[i], i};
    qsort(c, (size_t)n, sizeof *c, by_logit);
    logprobs(req, c, n, &log_sum, out);
    if (req->forced >= 0) {
        out->token = req->forced;
    } else {
        for (int32_t i = 0; i < n; i++)
            if (!banned(req, c[i].id)) c[left++] = c[i];
        out->bad = left == 0;
        if (left) out->token = req->temperature > 0 ? draw(req, c, left, n) : c[0].id;
    }
    if (out->token >= 0)
        out->logprob = out->token < n ? (float)((double)x[out->token] - log_sum) : -INFINITY;
done:
    bt_free(c);
    bt_free(x);
}
