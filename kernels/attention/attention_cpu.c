/* SPDX-License-Identifier: Apache-2.0 */
/* attention_cpu.c - the calls around the inner loops of attention_body.h.
 *
 * SCRATCH  the tile's queries, scaled by attn_scale, then a record a query for the running total,
 * then one a query for the span at work. */
#include "kernels/attention/attention.h"
#include "base/assert.h"
#include "kernels/vec.h"
#include <math.h>
#include <string.h>

static size_t tile_floats(const bt_kv_layout *kv)
{
    return ((size_t)BT_ATTENTION_QUERIES * (size_t)kv->head_dim + 15) / 16 * 16;
}

float bt_attention_slope(const bt_attention *a, int32_t head)
{
    int32_t n = 1;
    if (a->alibi == 0) return 0;
    while (2 * n <= a->n_heads) n *= 2;
    double step = head < n ? (head + 1.0) / n : (2 * (head - n) + 1.0) / (2 * n);
    return (float)exp2(-(double)a->alibi * step);
}

size_t bt_attention_record_floats(const bt_kv_layout *kv)
{
    return (size_t)(bt_kv_v_cols(kv) + BT__RECORD_TAIL);
}

size_t bt_attention_scratch_bytes(const bt_kv_layout *kv)
{
    size_t records = 2 * (size_t)BT_ATTENTION_QUERIES * bt_attention_record_floats(kv);
    return ((tile_floats(kv) + records) * sizeof(float) + 63) / 64 * 64;
}

/* Query i's head in a row of all heads, and its row. */
static int64_t query_at(const bt_attention *a, int32_t kv_head, int32_t i, int64_t ld)
{
    int32_t group = a->n_heads / a->kv.kv_heads;
    return i / group * ld + (int64_t)(kv_head * group + i % group) * a->kv.head_dim;
}

static void load_queries(const bt_attention *a, const bt_attention_rows *s, int32_t kv_head,
                         int32_t q0, int32_t q1, float *tile)
{
    BT_ASSERT(q1 > q0 && q1 - q0 <= BT_ATTENTION_QUERIES);
    for (int32_t i = q0; i < q1; i++) {
        const float *q = s->q + query_at(a, kv_head, i, s->ldq);
        for (int32_t d = 0; d < a->kv.head_dim; d++) *tile++ = q[d] * a->scale;
    }
}

void bt_attention_run(const bt_attention *a, const bt_attention_rows *s, int32_t kv_head,
                      int32_t q0, int32_t q1, void *scratch)
{
    const bt__vec *v = bt__vec_get();
    size_t stride = bt_attention_record_floats(&a->kv);
    float *tile = scratch, *total = tile + tile_floats(&a->kv);
    float *record = total + (size_t)BT_ATTENTION_QUERIES * stride;
    int32_t n = q1 - q0, cols = bt_kv_v_cols(&a->kv);
    int32_t group = a->n_heads / a->kv.kv_heads, last = s->pos + (q1 - 1) / group;
    int32_t first = bt__attention_from(a, s->pos + q0 / group) / BT_ATTENTION_SPAN;
    load_queries(a, s, kv_head, q0, q1, tile);
    v->attention_span(a, s, kv_head, q0, q1, first, tile, total, stride);
    for (int32_t span = first + 1; span <= last / BT_ATTENTION_SPAN; span++) {
        v->attention_span(a, s, kv_head, q0, q1, span, tile, record, stride);
        for (int32_t i = 0; i < n; i++)
            v->attention_merge(total + (size_t)i * stride, record + (size_t)i * stride, cols);
    }
    for (int32_t i = 0; i < n; i++)
        v->attention_finish(total + (size_t)i * stride, cols, a->kv.head_dim,
                            s->out + query_at(a, kv_head, q0 + i, s->ldo));
}

void bt_attention_span(const bt_attention *a, const bt_attention_rows *s, int32_t kv_head,
                       int32_t q0, int32_t q1, int32_t span, int32_t spans, float *records,
                       void *scratch)
{
    size_t stride = bt_attention_record_floats(&a->kv);
    load_queries(a, s, kv_head, q0, q1, scratch);
    bt__vec_get()->attention_span(a, s, kv_head, q0, q1, span, scratch,
                                  records + (size_t)span * stride, stride * (size_t)spans);
}

void bt_attention_merge(const bt_attention *a, const bt_attention_rows *s, int32_t kv_head,
                        int32_t q0, int32_t q1, int32_t spans, const float *records, void *scratch)
{
    const bt__vec *v = bt__vec_get();
    size_t stride = bt_attention_record_floats(&a->kv);
    int32_t cols = bt_kv_v_cols(&a->kv);
    float *total = scratch;
    for (int32_t i = q0; i < q1; i++, records += stride * (size_t)spans) {
        memcpy(total, records, stride * sizeof *total);
        for (int32_t span = 1; span < spans; span++)
            v->attention_merge(total, records + (size_t)span * stride, cols);
        v->attention_finish(total, cols, a->kv.head_dim, s->out + query_at(a, kv_head, i, s->ldo));
    }
}
