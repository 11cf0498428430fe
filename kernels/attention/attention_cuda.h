/* SPDX-License-Identifier: Apache-2.0 */
/* attention_cuda.h - softmax(scale * q k) v over paged KV on the device: decode and prefill.
 *
 * out[r, head, :] = sum_t p[t] v[t, kv_head, :], p = softmax_t(s[t]), kv_head = head / group,
 * group = n_heads / kv_heads, over the positions t that row r sees: t <= pos(r), and with a window
 * t > pos(r) - window. s[t] = scale * q . k, with a soft cap soft_cap * tanh(s[t] / soft_cap).
 * A sink adds one more logit (its value is nothing) to the softmax of its head.
 *
 * ARITHMETIC, the same in decode and prefill (private header attention_tile.cuh,
 * attention_f32.cuh): f16 int8 fp8   q is multiplied by scale * log2(e) (soft cap: scale /
 * soft_cap) in f32, then rounded to f16; |q| * scale * log2(e) must stay below 65504, past it the
 * result is NaN, never silently wrong. int8 and fp8 are dequantized to f16(q * d), one rounding.
 * Products on tensor cores in f16 with f32 sums. bf16           the same in bf16; sm_80 and later.
 *   f32            everything in f32 on the ordinary cores.
 *   softmax        base 2, online over tiles of consecutive positions counted from 0 (head_dim <=
 * 64: 64 positions, else 32; f32: 16). Weights p are rounded to the input type before both p v and
 * the sum of p, so the weights that are used add up to 1. spans          deterministic: positions
 * are cut from 0 into spans of BT_CUDA_ATTENTION_SPAN; each span is a softmax of its own, spans are
 * merged in order. A row's result then depends on its q and its KV alone: not on the batch, the
 * bucket, the chunking, the page size, nor on whether decode or prefill computed it. Otherwise
 * decode cuts by what fills the device, prefill does not cut. tolerance      against a double
 * softmax over the same stored KV, with V of size |v| and scores of size |s| (natural units): f32
 * 2e-5 |v|; f16, int8, fp8 (2e-3 + 1e-3 |s|) |v|; bf16 (1.6e-2 + 8e-3 |s|) |v|. Typical errors are
 * ten times smaller. NaN in q, k or v reaches the output of the rows that see it (a NaN in v may
 * also reach rows of the same chunk just before it). No float atomics, no result depends on timing.
 *
 * WORK  Decode: a CTA of 128 threads takes one (sequence, KV head, 16 queries of its group, split);
 *   its four warps divide a tile's positions for q k and its columns for p v. Records of the splits
 *   go to scratch, a second kernel merges them in order. Grids depend on n_seqs, ctx_max and the
 *   device only. Prefill: a CTA of 128 threads takes 64 or 128 consecutive queries, query = row in
 *   the chunk * group + head in the group, of one KV head; each warp has 16 or 32 of them. K and V
 *   are double-buffered by cp.async; sm_75 copies through registers with one buffer.
 *
 * BOUNDS  Decode reads 2 * kv_len * head_dim * kv_heads * element bytes a layer and sequence and is
 *   bound by memory. A layer of 8 KV heads of 128, f16, 8192 positions is 33.6 MB; the least time
 * at the device's nominal rate: T4 105 us, A10G 56, L4 112, L40S 39, A100 16.5, H200 7.0; int8 or
 *   fp8 takes 0.51 of that. To stay there an SM must have a few tens of KB under way: one tile of
 *   16 to 34 KB a resident CTA. sm_75 overlaps copies only across CTAs.
 *   Prefill of n tokens takes 2 n^2 head_dim n_heads operations (causal: half of 4 n^2 d). For 32
 *   heads of 128 and n = 4096 that is 137 GFLOP a layer; the least time at the f16 tensor rate:
 *   T4 2.1 ms, A10G 2.0, L4 1.1, L40S 0.38, A100 0.44, H200 0.14. Reading K and V out of shared
 *   memory takes 32 / (rows a warp) bytes each 64 operations: with 16 rows an A100 is bound by that
 *   at about half of its tensor rate, hence 32 rows there. mma.sync reaches at most about 60 % of
 * an H200's rate, which asks for wgmma. These are limits worked out, not measurements.
 *
 * SIZE  Registers a thread (ptxas 13.0, sm_75 to sm_90) and dynamic shared memory of a CTA:
 *     head_dim               64            128           256
 *     decode  registers      111-116       125-136       187-192
 *             f16            41.7 KB       40.7 KB       77.6 KB      sm_75: 23.3  23.3  43.8
 *             int8, fp8      40.2 KB       39.9 KB       76.8 KB
 *     prefill registers      151-175       198-212       220-245
 *       64    f16            36.9 KB       34.8 KB       73.2 KB      sm_75: 18.4  17.4  39.4
 *             registers      246-254       246-255       -
 *       128   f16            55.3 KB       69.6 KB       -            sm_80 and sm_90
 *   Prefill of 256 columns has 256 threads a CTA, two warps for 16 queries. Nothing spills.
 *
 * Launchers check arguments (cudaErrorInvalidValue), launch on the stream, and neither allocate nor
 * synchronise. Thread: the device's. */
#pragma once
#include "kernels/cuda_props.h"
#include "kernels/attention/kv_cuda.h"
#include <cuda_runtime_api.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    BT_CUDA_ATTENTION_SPAN = 512,      // positions
    BT_CUDA_ATTENTION_SPLITS_MAX = 64, // of a sequence, unless deterministic
    BT_CUDA_ATTENTION_WORK_INTS = 2 // int32 a work item: sequence (-1: nothing to do), first query
};

/* All pointers but props are device memory, borrowed until the stream has passed. */
typedef struct bt_cuda_attention_args {
    bt_cuda_kv kv;
    int32_t n_heads; // a multiple of kv.kv_heads
    float scale;
    float soft_cap;     // 0: none
    int32_t window;     // positions a row sees, itself included; 0: all
    const float *sinks; // [n_heads] logits or NULL

    const float *q; // [rows, n_heads, head_dim], row stride ldq floats
    int64_t ldq;
    float *out; // the same shape, row stride ldo; may be q itself
    int64_t ldo;

    const int32_t *pages; // [n_seqs, pages_ld]; entries of positions that no row sees are not read
    int32_t pages_ld;
    /* [n_seqs] each. The rows of sequence s are the last n_rows[s] of its kv_len[s] positions and
     * lie at first_row[s]. A padding sequence has kv_len 0 and n_rows 0: decode writes zeros to row
     * first_row[s] if that is in [0, rows), so it must be -1 or a padding row of its own. */
    const int32_t *kv_len, *first_row, *n_rows;
    int32_t n_seqs;  // of the bucket
    int32_t rows;    // of the bucket
    int32_t ctx_max; // no kv_len is greater; the same in all calls where results must not differ

    const int32_t *work; // [n_work][BT_CUDA_ATTENTION_WORK_INTS], from bt_cuda_attention_plan()
    int32_t n_work;

    void *scratch; // bt_cuda_attention_scratch() bytes, 16-byte aligned; decode only
    size_t scratch_bytes;
    bool deterministic;
    const bt_cuda_props *props;
} bt_cuda_attention_args;

/* head_dim a multiple of 4 in [4, 256], page_tokens 16 or 32, bf16 from sm_80. Any group. */
bool bt_cuda_attention_supported(const bt_cuda_kv *kv, int32_t n_heads, const bt_cuda_props *props);

/* Scratch for a decode launch of n_seqs sequences; grows with each argument. */
size_t bt_cuda_attention_scratch(const bt_cuda_kv *kv, const bt_cuda_props *props, int32_t n_heads,
                                 int32_t n_seqs, int32_t ctx_max, bool deterministic);

/* Sequences with n_rows == 1, and padding; others are left alone. */
cudaError_t bt_cuda_attention_decode(const bt_cuda_attention_args *a, cudaStream_t s);

/* The sequences of the work list. A sequence with one row may be in it too, if decode does not run.
 */
cudaError_t bt_cuda_attention_prefill(const bt_cuda_attention_args *a, cudaStream_t s);

/* Queries that a work item covers. */
int32_t bt_cuda_attention_tile(const bt_cuda_kv *kv, const bt_cuda_props *props);

/* Host: the work items of a step, those of sequences with at least min_rows rows (2 where decode
 * runs as well). n_rows: host, [n_seqs]. Writes the first `cap` items and returns how many there
 * are; items past them up to a bucket's n_work must hold -1. Most of them:
 * rows * group / tile + n_seqs. */
int32_t bt_cuda_attention_plan(const bt_cuda_kv *kv, const bt_cuda_props *props, int32_t n_heads,
                               int32_t n_seqs, const int32_t *n_rows, int32_t min_rows,
                               int32_t *work, int32_t cap);

#ifdef __cplusplus
}
#endif
