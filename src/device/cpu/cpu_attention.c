/* SPDX-License-Identifier: Apache-2.0 */
/* cpu_attention.c - dealing a step's attention to the threads.
 *
 * A step is cut once into tiles (up to 64 queries of a sequence); an item is a tile and a KV head.
 * Threads take items from a counter, the longest first. When there are too few items to go round
 * and the sequences are long, each span of an item becomes an item of its own, and a second stage
 * merges the records. kernels/attention/attention.h gives the same bits either way. */
#include "base/assert.h"
#include "device/cpu/cpu_device.h"

/* All layers have the same. */
static const bt_layer_recipe *heads_of(const bt_device *d)
{
    return &d->recipe->layer[0];
}

static cpu_tile *tiles_of(const bt_device *d)
{
    return (cpu_tile *)(void *)(d->scratch + d->at.tiles);
}

static void cut_sequence(bt_device *d, int32_t seq, int32_t pieces)
{
    const bt_batch_seq *s = &d->batch->seqs[seq];
    int32_t group = heads_of(d)->n_heads / heads_of(d)->n_kv_heads, queries = s->n_rows * group;
    int32_t size = BT_MIN((queries + pieces - 1) / pieces, (int32_t)BT_ATTENTION_QUERIES);
    int32_t tiles = (queries + size - 1) / size;
    for (int32_t i = tiles - 1; i >= 0; i--) { // the last rows see most
        BT_ASSERT(d->n_tiles < d->at.tiles_max);
        cpu_tile *t = &tiles_of(d)[d->n_tiles++];
        *t = (cpu_tile){.seq = seq, .q0 = i * size, .q1 = BT_MIN((i + 1) * size, queries)};
        int32_t seen = s->kv_len - s->n_rows + (t->q1 - 1) / group + 1;
        t->spans = (seen + BT_ATTENTION_SPAN - 1) / BT_ATTENTION_SPAN;
    }
}

/* Whether spans shall be items, and if so numbers items and records. */
static bool number_spans(bt_device *d)
{
    int32_t heads = heads_of(d)->n_kv_heads, threads = d->plan.threads;
    int64_t items = 0, records = 0;
    bool longs = false;
    if (threads == 1 || d->n_tiles * heads >= 2 * threads) return false;
    for (int32_t i = 0; i < d->n_tiles; i++) {
        cpu_tile *t = &tiles_of(d)[i];
        t->first_item = (int32_t)items;
        t->first_record = (int32_t)records;
        items += (int64_t)t->spans * heads;
        records += (int64_t)t->spans * heads * (t->q1 - t->q0);
        longs = longs || t->spans > 2;
        if (records > d->at.records_max) return false;
    }
    d->n_items = (int32_t)items;
    return longs;
}

void bt__cpu_attention_plan(bt_device *d)
{
    const bt_batch *b = d->batch;
    int32_t heads = heads_of(d)->n_kv_heads, group = heads_of(d)->n_heads / heads;
    d->n_tiles = 0;
    d->att_cost = 0;
    if (b->n_seqs == 0) return;
    /* One sequence of few long heads is better shared by spans, which read K and V once, than by
     * queries. */
    int32_t longest = 0;
    for (int32_t i = 0; i < b->n_seqs; i++) longest = BT_MAX(longest, b->seqs[i].kv_len);
    bool long_enough = longest > 2 * BT_ATTENTION_SPAN && d->at.records_max > 0;
    int32_t pieces =
        long_enough ? 1 : (d->plan.threads + heads * b->n_seqs - 1) / (heads * b->n_seqs);
    for (int32_t i = 0; i < b->n_seqs; i++) {
        const bt_batch_seq *s = &b->seqs[i];
        cut_sequence(d, i, pieces);
        d->att_cost += (int64_t)s->n_rows * s->kv_len * heads * group * heads_of(d)->head_dim;
    }
    d->by_span = number_spans(d);
    if (!d->by_span) d->n_items = d->n_tiles * heads;
}

static bt_attention_rows rows_of(const bt_device *d, int32_t seq)
{
    const bt_batch_seq *s = &d->batch->seqs[seq];
    return (bt_attention_rows){
        .pages = s->pages,
        .q = bt__cpu_floats(d, d->at.q) + s->first_row * d->at.ld_q,
        .out = bt__cpu_floats(d, d->at.att) + s->first_row * d->at.ld_q,
        .ldq = d->at.ld_q,
        .ldo = d->at.ld_q,
        .pos = s->kv_len - s->n_rows,
    };
}

static float *records_of(const bt_device *d, const cpu_tile *t, int32_t head)
{
    int64_t first = t->first_record + (int64_t)head * t->spans * (t->q1 - t->q0);
    return bt__cpu_floats(d, d->at.records) +
           first * (int64_t)bt_attention_record_floats(&d->at.kv);
}

static void span_item(const bt_device *d, const bt_attention *a, int32_t item, void *scratch)
{
    const cpu_tile *t = tiles_of(d);
    while (t + 1 < tiles_of(d) + d->n_tiles && item >= t[1].first_item) t++;
    bt_attention_rows rows = rows_of(d, t->seq);
    int32_t head = (item - t->first_item) / t->spans, span = (item - t->first_item) % t->spans;
    bt_attention_span(a, &rows, head, t->q0, t->q1, span, t->spans, records_of(d, t, head),
                      scratch);
}

void bt__cpu_attention_work(bt_device *d, int threads, int thread)
{
    const bt_layer_recipe *l = &d->recipe->layer[d->layer];
    int32_t heads = l->n_kv_heads, item;
    void *scratch = d->scratch + d->at.thread_scratch + (size_t)thread * d->at.thread_stride;
    bt_attention a = {.kv = d->at.kv,
                      .n_heads = l->n_heads,
                      .scale = l->attn_scale,
                      .pages = d->kv + (size_t)d->layer * d->at.layer_stride,
                      .page_stride = d->at.page_stride,
                      .window = l->window,
                      .cap = l->attn_cap,
                      .alibi = l->alibi};
    if (d->by_span) {
        while ((item = atomic_fetch_add(&d->next[0], 1)) < d->n_items)
            span_item(d, &a, item, scratch);
        bt__cpu_meet(d, threads);
    }
    while ((item = atomic_fetch_add(&d->next[1], 1)) < d->n_tiles * heads) {
        const cpu_tile *t = &tiles_of(d)[item / heads];
        bt_attention_rows rows = rows_of(d, t->seq);
        int32_t head = item % heads;
        if (d->by_span)
            bt_attention_merge(&a, &rows, head, t->q0, t->q1, t->spans, records_of(d, t, head),
                               scratch);
        else
            bt_attention_run(&a, &rows, head, t->q0, t->q1, scratch);
    }
}
