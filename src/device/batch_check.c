/* SPDX-License-Identifier: Apache-2.0 */
#include "device/batch_check.h"

static bt_status check_rows(const bt_recipe *r, const bt_batch *b, int32_t seq, int32_t n_previous,
                            bt_err *err)
{
    const bt_batch_seq *s = &b->seqs[seq];
    for (int32_t i = 0; i < s->n_rows; i++) {
        int32_t row = s->first_row + i, token = b->token[row];
        if (b->row_seq[row] != seq || b->pos[row] != s->kv_len - s->n_rows + i)
            return bt_err_set(err, BT_EINVAL, 0, "row %d of the batch is out of place", row);
        if (token < -n_previous || token >= r->vocab)
            return bt_err_set(err, BT_EINVAL, 0, "token %d is not in the vocabulary of %d", token,
                              r->vocab);
    }
    return BT_OK;
}

static bt_status check_sequence(const bt_device_plan *p, const bt_batch *b, int32_t seq,
                                int32_t first_row, bt_err *err)
{
    const bt_batch_seq *s = &b->seqs[seq];
    if (s->first_row != first_row || s->n_rows < 1 || s->n_rows > b->n_rows - first_row)
        return bt_err_set(err, BT_EINVAL, 0, "sequence %d of the batch has wrong rows", seq);
    if (s->kv_len < s->n_rows || s->kv_len > p->ctx)
        return bt_err_set(err, BT_EINVAL, 0, "sequence %d is %d tokens long, the context %d", seq,
                          s->kv_len, p->ctx);
    for (int32_t i = 0; i < (s->kv_len + p->page_tokens - 1) / p->page_tokens; i++)
        if (s->pages[i] < 0 || s->pages[i] >= p->n_pages)
            return bt_err_set(err, BT_EINVAL, 0, "sequence %d has KV page %d of %d", seq,
                              s->pages[i], p->n_pages);
    return BT_OK;
}

bt_status bt__batch_check(const bt_recipe *recipe, const bt_device_plan *p, const bt_batch *b,
                          int32_t n_previous, bt_err *err)
{
    if (b->n_rows < 1 || b->n_rows > p->rows_max || b->n_seqs < 1 || b->n_seqs > p->seqs_max ||
        b->n_out < 0 || b->n_out > p->out_max)
        return bt_err_set(err, BT_EINVAL, 0,
                          "a batch of %d rows, %d sequences, %d outputs; planned were %d, %d, %d",
                          b->n_rows, b->n_seqs, b->n_out, p->rows_max, p->seqs_max, p->out_max);
    int32_t row = 0;
    for (int32_t i = 0; i < b->n_seqs; i++) {
        bt_status st = check_sequence(p, b, i, row, err);
        if (st == BT_OK) st = check_rows(recipe, b, i, n_previous, err);
        if (st != BT_OK) return st;
        row += b->seqs[i].n_rows;
    }
    bool ok = row == b->n_rows;
    for (int32_t i = 0; i < b->n_out; i++)
        ok = ok && b->out_row[i] < b->n_rows && b->out_row[i] > (i ? b->out_row[i - 1] : -1);
    return ok ? BT_OK : bt_err_set(err, BT_EINVAL, 0, "the batch's rows or outputs do not add up");
}
