/* SPDX-License-Identifier: Apache-2.0 */
/* attention.h - softmax(scale * q k) v over paged KV, causal, grouped query heads.
 *
 * out[r, head, :] = sum_t p[t] v[t, kv_head, :], kv_head = head / (n_heads / kv_heads),
 * p = softmax_t(s(scale * q[r, head] . k[t, kv_head]) - slope[head] (pos of row r - t)),
 * s(x) = x or cap * tanh(x / cap), for t in (pos of row r - window, pos of row r] from 0 on (no
 * window: all from 0).
 *
 * The queries of one KV head are numbered row * group + (head within the group). A call takes a
 * range of them, so that several rows and heads share each load of K and V. The order of every sum
 * of a query is fixed: positions are cut into spans of BT_ATTENTION_SPAN from 0; inside a span
 * softmax is online over blocks of 64; spans are merged in order. So a result depends neither on
 * how queries or spans are dealt to threads, nor on the other rows, the chunking, the page size or
 * the instruction set. NaN in q, k or v reaches the output. Thread: any. */
#pragma once
#include "kernels/attention/kv.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    BT_ATTENTION_SPAN = 512,  // positions
    BT_ATTENTION_QUERIES = 64 // most queries a call
};

typedef struct bt_attention {
    bt_kv_layout kv;
    int32_t n_heads;
    float scale;
    const void *pages;  // page i of this layer starts at i * page_stride bytes
    size_t page_stride; // a multiple of 64
    int32_t window;     // positions that a query sees, its own among them; 0: all
    float cap;          // 0: scores stay as they are
    float alibi;        // 0: none; else bt_attention_slope()
} bt_attention;

/* Consecutive rows of one sequence; all borrowed. */
typedef struct bt_attention_rows {
    const int32_t *pages; // page table: entry i holds positions i * page_tokens onwards
    const float *q;       // [n_rows, n_heads, head_dim], row stride ldq
    float *out;           // the same shape, row stride ldo
    int64_t ldq, ldo;
    int32_t pos; // position of the first row; row r sees positions up to pos + r
} bt_attention_rows;

/* ALiBi's slope of a head (Press et al. 2022): 2^(-alibi (h + 1) / n), n being the heads down to a
 * power of 2; heads past it take those of 2 n between. */
float bt_attention_slope(const bt_attention *a, int32_t head);

/* Scratch of one thread, 64-byte aligned. */
size_t bt_attention_scratch_bytes(const bt_kv_layout *kv);
/* Queries [q0, q1) of a KV head, whole: results go to out. q1 - q0 <= BT_ATTENTION_QUERIES. */
void bt_attention_run(const bt_attention *a, const bt_attention_rows *s, int32_t kv_head,
                      int32_t q0, int32_t q1, void *scratch);

/* The same in two steps, so that threads can share one long sequence: each span of each query
 * leaves a record of bt_attention_record_floats() floats, then the records of all spans are merged.
 * records: [q1 - q0][spans] of them. Same bits as bt_attention_run(). */
size_t bt_attention_record_floats(const bt_kv_layout *kv);
void bt_attention_span(const bt_attention *a, const bt_attention_rows *s, int32_t kv_head,
                       int32_t q0, int32_t q1, int32_t span, int32_t spans, float *records,
                       void *scratch);
void bt_attention_merge(const bt_attention *a, const bt_attention_rows *s, int32_t kv_head,
                        int32_t q0, int32_t q1, int32_t spans, const float *records, void *scratch);

/* The specification: two passes in double over rows [0, n_rows), all heads. */
void bt_attention_ref(const bt_attention *a, const bt_attention_rows *s, int32_t n_rows);

#ifdef __cplusplus
}
#endif
