/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_batch.c - the batch on its way to the device.
 *
 * One pinned block holds all that changes from step to step and goes over in one copy. Page tables
 * change seldom (a sequence takes its pages when it is admitted), so only those that differ from
 * what the device has are sent again. */
#include "base/assert.h"
#include "device/cuda/cuda_device.h"
#include <string.h>

static int32_t *part(const cuda_flight *f, size_t offset)
{
    return (int32_t *)(void *)(f->in + offset);
}

static void fill_rows(const bt_device *d, const cuda_flight *f, const bt_batch *b)
{
    int32_t *token = part(f, d->at.in_token), *pos = part(f, d->at.in_pos);
    int32_t *row_seq = part(f, d->at.in_row_seq), *out_row = part(f, d->at.in_out_row);
    size_t n = (size_t)b->n_rows * sizeof(int32_t);
    memcpy(token, b->token, n);
    memcpy(pos, b->pos, n);
    memcpy(row_seq, b->row_seq, n);
    if (b->n_out > 0) memcpy(out_row, b->out_row, (size_t)b->n_out * sizeof(int32_t));
    for (int32_t r = b->n_rows; r < d->rows; r++) { // padding of the bucket
        token[r] = pos[r] = 0;
        row_seq[r] = -1;
    }
    for (int32_t i = b->n_out; i < d->outs; i++) out_row[i] = i;
}

static void fill_seqs(const bt_device *d, const cuda_flight *f, const bt_batch *b)
{
    int32_t *kv_len = part(f, d->at.in_kv_len), *first_row = part(f, d->at.in_first_row);
    int32_t *n_rows = part(f, d->at.in_n_rows);
    for (int32_t i = 0; i < b->n_seqs; i++) {
        kv_len[i] = b->seqs[i].kv_len;
        first_row[i] = b->seqs[i].first_row;
        n_rows[i] = b->seqs[i].n_rows;
    }
    for (int32_t i = b->n_seqs; i < d->seqs; i++) {
        kv_len[i] = n_rows[i] = 0;
        first_row[i] = i; // a padding row of the bucket
    }
}

static int32_t page_count(const bt_device *d, const bt_batch_seq *s)
{
    return (s->kv_len + d->plan.page_tokens - 1) / d->plan.page_tokens;
}

void bt__cuda_pages_forget(bt_device *d)
{
    size_t n = (size_t)d->plan.seqs_max * (size_t)d->at.pages_ld;
    memset(d->pages_shadow, 0xFF, n * sizeof *d->pages_shadow);
}

/* Sends the tables of sequences [first, last] as one copy. */
static cudaError_t send_pages(const bt_device *d, const cuda_flight *f, int32_t first, int32_t last)
{
    size_t at = (size_t)first * (size_t)d->at.pages_ld;
    size_t n = (size_t)(last - first + 1) * (size_t)d->at.pages_ld;
    int32_t *dst = bt__cuda_scratch(d, d->at.pages);
    return cudaMemcpyAsync(dst + at, f->pages + at, n * sizeof *dst, cudaMemcpyHostToDevice,
                           d->stream);
}

static cudaError_t upload_pages(bt_device *d, cuda_flight *f, const bt_batch *b)
{
    int32_t first = -1;
    cudaError_t code = cudaSuccess;
    for (int32_t i = 0; i <= b->n_seqs && code == cudaSuccess; i++) {
        bool changed = false;
        if (i < b->n_seqs) {
            size_t n = (size_t)page_count(d, &b->seqs[i]) * sizeof(int32_t);
            size_t at = (size_t)i * (size_t)d->at.pages_ld;
            int32_t *shadow = d->pages_shadow + at;
            changed = memcmp(shadow, b->seqs[i].pages, n) != 0;
            if (changed) {
                memcpy(shadow, b->seqs[i].pages, n);
                memcpy(f->pages + at, shadow, (size_t)d->at.pages_ld * sizeof *shadow);
            }
        }
        if (changed && first < 0) first = i;
        if (changed || first < 0) continue;
        code = send_pages(d, f, first, i - 1);
        first = -1;
    }
    return code;
}

bt_status bt__cuda_batch_upload(bt_device *d, cuda_flight *f, bt_err *err)
{
    const bt_batch *b = d->batch;
    fill_rows(d, f, b);
    fill_seqs(d, f, b);
    bt_cuda_kv kv = bt__cuda_kv_shape(d->recipe, &d->plan);
    d->n_work =
        bt_cuda_attention_plan(&kv, &d->props, d->recipe->layer[0].n_heads, b->n_seqs,
                               part(f, d->at.in_n_rows), 2, part(f, d->at.in_work), d->at.work_max);
    BT_ASSERT(d->n_work <= d->at.work_max);
    size_t n = d->at.in_work + (size_t)d->n_work * BT_CUDA_ATTENTION_WORK_INTS * sizeof(int32_t);
    cudaError_t code = upload_pages(d, f, b);
    if (code == cudaSuccess)
        code = cudaMemcpyAsync(bt__cuda_scratch(d, d->at.in), f->in, n, cudaMemcpyHostToDevice,
                               d->stream);
    return bt__cuda_check(d, code, "sending a batch to the device", err);
}
