/* SPDX-License-Identifier: Apache-2.0 */
/* vec.h - the inner loops that exist once an instruction set; private to kernels/.
 *
 * Their source is vec_body.h, attention_body.h and sample_body.h, written on simd.h and compiled by
 * vec_cpu.c (generic), vec_avx2.c and vec_avx512.c. All three give the same bits. Thread: any. */
#pragma once
#include "kernels/attention/attention.h"

/* One span of a query: floats acc[v_cols], then its maximum score and its sum of weights (0 =
 * empty). */
enum { BT__RECORD_MAX = 0, BT__RECORD_SUM = 1, BT__RECORD_TAIL = 16 };

/* The first position that one at pos sees. */
static inline int32_t bt__attention_from(const bt_attention *a, int32_t pos)
{
    return a->window > 0 && pos >= a->window ? pos - a->window + 1 : 0;
}

/* Weights are summed in blocks of this many ids, each by one fixed tree. */
enum { BT__WEIGHT_BLOCK = 256 };

typedef struct bt__vec {
    void (*norm_rms)(const float *x, const float *w, int32_t n, float eps, float *y);
    void (*norm_layer)(const float *x, const float *w, const float *bias, int32_t n, float eps,
                       float *y);
    void (*activate)(bt_activation kind, float *x, const float *up, int32_t n);
    void (*xielu)(const bt_xielu *a, float *x, int32_t n);
    void (*cap)(float *x, int32_t n, float scale, float most);
    void (*rope_interleaved)(const float *cos, const float *sin, int32_t half, int32_t heads,
                             int32_t head_dim, float *x);
    void (*rope_half)(const float *cos, const float *sin, int32_t half, int32_t heads,
                      int32_t head_dim, float *x);
    void (*half_store)(const float *x, int32_t n, uint16_t *dst);

    /* Query tile q: [queries, head_dim], already scaled. See attention_cpu.c. */
    void (*attention_span)(const bt_attention *a, const bt_attention_rows *s, int32_t kv_head,
                           int32_t q0, int32_t q1, int32_t span, const float *q, float *records,
                           size_t record_stride);
    void (*attention_merge)(float *total, const float *record, int32_t v_cols);
    void (*attention_finish)(const float *record, int32_t v_cols, int32_t head_dim, float *out);

    /* Greatest of x[0, n); false if one of them is NaN or infinite. n >= 1. */
    bool (*scan_max)(const float *x, int32_t n, float *max);
    int32_t (*find_first)(const float *x, int32_t n, float value); // -1: not there
    /* w[i] = e^((x[i] - max) * inv_t) where x[i] >= least, else 0; block[b] = sum of a block's. */
    void (*weights)(const float *x, int32_t n, float max, float inv_t, float least, float *w,
                    double *block);
    /* Sum of w[i] where x[i] >= least, block by block, and how many there are. */
    double (*mass_from)(const float *x, const float *w, int32_t n, float least, int32_t *count);
    /* Writes the ids with lo <= x[i] < hi, ascending, at most cap of them; returns how many. at:
     * where to begin, and where it stopped. */
    int32_t (*gather)(const float *x, int32_t n, float lo, float hi, int32_t *ids, int32_t cap,
                      int32_t *at);
} bt__vec;

extern const bt__vec bt__vec_generic, bt__vec_avx2, bt__vec_avx512;

const bt__vec *bt__vec_get(void); // by bt_isa_get()
