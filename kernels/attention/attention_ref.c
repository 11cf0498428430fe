/* SPDX-License-Identifier: Apache-2.0 */
/* attention_ref.c - attention as its formula says, in double: the specification. */
#include "kernels/attention/attention.h"
#include "base/assert.h"
#include "base/mem.h"
#include <math.h>

static const void *page_of(const bt_attention *a, const bt_attention_rows *s, int32_t pos)
{
    return (const char *)a->pages + (size_t)s->pages[pos / a->kv.page_tokens] * a->page_stride;
}

static void attend(const bt_attention *a, const bt_attention_rows *s, int32_t row, int32_t head,
                   double *p)
{
    const bt_kv_layout *kv = &a->kv;
    int32_t dim = kv->head_dim, kv_head = head / (a->n_heads / kv->kv_heads), n = s->pos + row + 1;
    int32_t from = a->window > 0 && n > a->window ? n - a->window : 0;
    const float *q = s->q + row * s->ldq + (int64_t)head * dim;
    float *out = s->out + row * s->ldo + (int64_t)head * dim;
    double max = -INFINITY, sum = 0;
    for (int32_t t = from; t < n; t++) {
        const void *page = page_of(a, s, t);
        p[t] = 0;
        for (int32_t d = 0; d < dim; d++)
            p[t] += (double)q[d] * (double)bt_kv_k_at(kv, page, kv_head, t % kv->page_tokens, d);
        p[t] *= (double)a->scale;
        if (a->cap > 0) p[t] = (double)a->cap * tanh(p[t] / (double)a->cap);
        p[t] -= (double)bt_attention_slope(a, head) * (n - 1 - t);
        max = fmax(max, p[t]);
    }
    for (int32_t t = from; t < n; t++) {
        p[t] = exp(p[t] - max);
        sum += p[t];
    }
    for (int32_t d = 0; d < dim; d++) {
        double acc = 0;
        for (int32_t t = from; t < n; t++) {
            int32_t slot = t % kv->page_tokens;
            acc += p[t] * (double)bt_kv_v_at(kv, page_of(a, s, t), kv_head, slot, d);
        }
        out[d] = (float)(acc / sum);
    }
}

void bt_attention_ref(const bt_attention *a, const bt_attention_rows *s, int32_t n_rows)
{
    double *p = bt_must(bt_malloc((size_t)(s->pos + n_rows) * sizeof *p));
    for (int32_t r = 0; r < n_rows; r++)
        for (int32_t h = 0; h < a->n_heads; h++) attend(a, s, r, h, p);
    bt_free(p);
}
