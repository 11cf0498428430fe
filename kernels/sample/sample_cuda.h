/* SPDX-License-Identifier: Apache-2.0 */
/* sample_cuda.h - rows of logits become tokens on the device, as kernels/sample/sample.h says.
 *
 * The five rules hold as written, with one freedom: weights are f32 (the CPU's own polynomial, the
 * same bits) and are added as integers, each cut to a multiple of 2^-44 of the likeliest token's.
 * Integer sums have no order, so a result depends on nothing but the row; against the reference,
 * which weighs in double, top_p's edge and the draw can differ only where they fall within about
 * 1e-7 of a token's border, a token lighter than 2^-44 of the likeliest is never drawn, and
 * logprobs agree within 2e-6.
 *
 * An optional bit mask per row allows tokens (bit 1); it acts as a ban of the others. A row is also
 * bad where bias or penalties made its greatest logit infinite; a logit that they made NaN counts as
 * minus infinity.
 *
 * One block of 1024 threads per row, 25 KB of shared memory. Passes over the row (16-byte
 * loads; from the second pass on it comes from L2): greedy 1; top_k up to 512 alone or with top_p
 * and min_p 2 (the k-th greatest of the threads' own maxima bounds what can be among the first k;
 * what passes is gathered and sorted in shared memory); else 3 to 9: what is wanted is narrowed by
 * histograms of 2048 bins of the order's bits until 1024 candidates remain. Penalties, bias, bans
 * or a mask add one pass and a copy of the row; logprobs add two. No sort of the vocabulary, no
 * float atomics.
 *
 * Bound: a pass reads 4 * vocab bytes at what one multiprocessor draws from L2, about 64 bytes a
 * clock: 128k tokens 5 to 6 us at 1.5 GHz (T4, L4, A10G, L40S), 5 at 1.7 (A100, H200). */
#pragma once
#include "baton/backend.h"
#include <cuda_runtime_api.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BT_CUDA_SAMPLE_VOCAB_MAX = 1 << 19 };

/* One row's request as the device reads it; made by bt_cuda_sample_pack(). */
typedef struct bt_cuda_sample_row {
    int32_t n;             // ids [0, n) exist; 0: a padding row, token -1
    float inv_temperature; // 0: greedy
    float top_p;
    int32_t top_k;
    double min_p_distance;        // temperature * ln(min_p); -infinity: off
    uint64_t draw;                // 53 random bits, upper end
    float repeat, freq, presence; // penalties
    int32_t n_logprobs, forced;
    int32_t bias, n_bias; // entries [bias, bias + n_bias) of the step's list; likewise
    int32_t counts, n_counts;
    int32_t ban, n_ban;
    int32_t mask; // first word in the step's masks, -1: none
} bt_cuda_sample_row;

/* The result without the lists, so that little crosses the bus. */
typedef struct bt_cuda_sample_pick {
    int32_t token; // -1: bad, or a padding row
    float logprob;
    int32_t n_top, bad;
} bt_cuda_sample_pick;

typedef struct bt_cuda_sample_top {
    int32_t token[BT_TOP_LOGPROBS_MAX];
    float logprob[BT_TOP_LOGPROBS_MAX];
} bt_cuda_sample_top;

/* Everything device. Only what the rows ask for is read of the lists and written of top. */
typedef struct bt_cuda_sample_args {
    const float *logits; // [rows, vocab], row stride ld; not changed
    int64_t ld;
    int32_t rows, vocab;
    const bt_cuda_sample_row *row; // [rows]
    const bt_logit_bias *bias;     // lists of all rows, one behind the other
    const bt_token_count *counts;  // a token at most once a row
    const int32_t *ban;
    const uint32_t *mask;      // [words]: bit i % 32 of word i / 32; ceil(n / 32) words a row
    void *scratch;             // bt_cuda_sample_scratch() bytes, 256-byte aligned
    bt_cuda_sample_pick *pick; // [rows]
    bt_cuda_sample_top *top;   // [rows], written where n_logprobs > 0
    int32_t *next;             // [rows] or NULL: the token again, 0 where there is none
} bt_cuda_sample_args;

size_t bt_cuda_sample_scratch(int32_t rows_max, int32_t vocab);
/* Host. Fills row from req for a vocabulary of `vocab`; the caller copies req's lists behind what
 * it has already put into the step's and passes where they begin. mask: where this row's mask
 * begins, -1 none. */
void bt_cuda_sample_pack(const bt_sample_req *req, int32_t vocab, int32_t bias, int32_t counts,
                         int32_t ban, int32_t mask, bt_cuda_sample_row *row);
/* Enqueues on s. */
cudaError_t bt_cuda_sample(const bt_cuda_sample_args *a, cudaStream_t s);

#ifdef __cplusplus
}
#endif
