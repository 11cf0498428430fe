/* SPDX-License-Identifier: Apache-2.0 */
/* backend.h - the table between the layer loop and a device.
 *
 * The layer loop (src/engine/forward.c) is written once above this table; below it a backend calls
 * its kernels directly and fuses as it likes. A block operation is milliseconds of work, so the
 * indirect call is free. One step is: step_begin, embed, for each layer {attn_in, attention,
 * attn_out, mlp}, head, sample, step_end. Activations, KV pages and scratch live in the device.
 *
 * Results for a row must not depend on which other rows are in the batch nor on how a prompt was
 * cut into chunks: each kernel sums in one fixed order per row. Thread: one thread uses a device at
 * a time. */
#pragma once
#include "baton/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* INT8 and FP8 (e4m3) keep one F16 scale per head and token: x = q * scale. */
typedef enum bt_kv_format {
    BT_KV_F16 = 0,
    BT_KV_F32 = 1,
    BT_KV_BF16 = 2,
    BT_KV_INT8 = 3,
    BT_KV_FP8 = 4,
} bt_kv_format;

/* As a user writes it; NULL for what is no format. */
static inline const char *bt_kv_format_name(bt_kv_format f)
{
    switch (f) {
    case BT_KV_F16: return "f16";
    case BT_KV_F32: return "f32";
    case BT_KV_BF16: return "bf16";
    case BT_KV_INT8: return "int8";
    case BT_KV_FP8: return "fp8";
    }
    return NULL;
}

/* How much of everything a device holds; filled by the planner (src/model/plan.h). */
typedef struct bt_device_plan {
    int32_t threads;     // CPU worker threads, the caller included
    int32_t page_tokens; // tokens in a KV page (16 or 32)
    int32_t n_pages;     // KV pages in all
    int32_t ctx;         // longest sequence in tokens
    int32_t rows_max;    // most rows (tokens) in one step
    int32_t seqs_max;    // most sequences in one step
    int32_t out_max;     // most rows whose logits are wanted in one step
    bt_kv_format kv_format;
    int32_t ordinal;    // CUDA: which device of cudaGetDeviceCount()
    bool deterministic; // CUDA: a row's result never depends on the batch (the CPU's never does)
    bool keep_host;     // CUDA: parking may keep the weights in host memory
} bt_device_plan;

/* One sequence's part of a step: rows [first_row, first_row + n_rows), at consecutive positions
 * kv_len - n_rows .. kv_len - 1. pages[i] holds positions i * page_tokens onwards. */
typedef struct bt_batch_seq {
    const int32_t *pages; // borrowed; at least ceil(kv_len / page_tokens) valid entries
    int32_t first_row, n_rows;
    int32_t kv_len; // tokens in KV after this step
} bt_batch_seq;

typedef struct bt_batch {
    int32_t n_rows; // tokens of this step, grouped by sequence
    int32_t n_seqs;
    int32_t n_out;
    const int32_t *token;     // [n_rows]; -(i + 1): what output row i of the step before drew
    const int32_t *pos;       // [n_rows] position in its sequence
    const int32_t *row_seq;   // [n_rows] index into seqs
    const bt_batch_seq *seqs; // [n_seqs]
    const int32_t *out_row;   // [n_out] ascending rows whose logits are wanted
} bt_batch;

enum { BT_TOP_LOGPROBS_MAX = 20 };

typedef struct bt_logit_bias {
    int32_t token;
    float bias;
} bt_logit_bias;

/* A token that the penalties touch: how often it occurs in the window of the repetition penalty,
 * prompt included, and how often it was generated, which is what frequency and presence count. */
typedef struct bt_token_count {
    int32_t token, in_window, drawn;
} bt_token_count;

/* How one output row becomes a token. Order: bias, repetition, frequency and presence penalties,
 * ban_eos, then greedy if temperature == 0, else temperature, top_k, top_p, min_p and one draw.
 * Logprobs are of the distribution after bias and penalties and before temperature. */
typedef struct bt_sample_req {
    float temperature;                                    // 0 = greedy (ties: lowest id)
    float top_p, min_p;                                   // 1 and 0 = off
    int32_t top_k;                                        // 0 = off
    float repeat_penalty, freq_penalty, presence_penalty; // 1, 0, 0 = off
    uint64_t seed;
    uint64_t counter; // position of the draw: same seed and counter, same draw
    const bt_logit_bias *bias;
    int32_t n_bias;
    const bt_token_count *counts; // tokens that the penalties touch, each once
    int32_t n_counts;
    const int32_t *ban; // tokens that may not be chosen (end-of-sequence under min_tokens)
    int32_t n_ban;
    int32_t vocab;      // ids at or past this are never chosen (padding rows); 0 = all
    int32_t n_logprobs; // -1: none; 0: the chosen token's; n: and the n likeliest
    int32_t forced;     // >= 0: nothing is chosen, the logprob of this token is reported (echo)
} bt_sample_req;

typedef struct bt_sample_out {
    int32_t token;
    float logprob;
    int32_t n_top;
    int32_t top_token[BT_TOP_LOGPROBS_MAX];
    float top_logprob[BT_TOP_LOGPROBS_MAX];
    bool bad; // logits held NaN or infinity: the sequence must fail
} bt_sample_out;

/* What parking or waking did. */
typedef struct bt_residency {
    uint64_t bytes;      // of device memory given back or taken
    uint64_t free_bytes; // of the device afterwards, as its driver says
    int64_t took_ns;
    bool from_host; // wake: weights came from host memory; false: from the model's file
} bt_residency;

typedef struct bt_device bt_device;

/* done and total are bytes of weights. Called on the loading thread. */
typedef void (*bt_load_progress)(void *ud, uint64_t done, uint64_t total);

typedef struct bt_backend {
    const char *name; // "cpu", "cuda"
    /* How many steps may be between step_begin and step_end at once: 1, or 2 where the device works
     * on one while the host prepares the next. Only then may batch.token refer to the step before,
     * whose step_end may still be due. Steps end in the order in which they began. */
    int32_t steps_in_flight;
    /* For the first measurements: weight bytes a device of this kind reads in a microsecond, about;
     * the time worth spending on them, and the most rows of such a step. */
    double bytes_per_us, warm_up_us;
    int32_t warm_up_rows;
    /* Refuses by name every weight format and shape without a kernel, before a plan is made: of the
     * plan, the KV format and the ordinal count here. open() asks the same again. */
    bt_status (*can)(const bt_recipe *recipe, const bt_weights *weights, const bt_device_plan *plan,
                     bt_err *err);
    bt_status (*open)(const bt_recipe *recipe, const bt_weights *weights,
                      const bt_device_plan *plan, bt_load_progress progress, void *ud,
                      bt_device **out, bt_err *err);
    void (*close)(bt_device *dev); // NULL is fine
    /* Bytes that open() will take: weights (repacked), KV pages, scratch. */
    void (*bytes)(const bt_recipe *recipe, const bt_weights *weights, const bt_device_plan *plan,
                  uint64_t *weights_bytes, uint64_t *kv_bytes, uint64_t *scratch_bytes);

    bt_status (*step_begin)(bt_device *dev, const bt_batch *batch, bt_err *err);
    bt_status (*embed)(bt_device *dev, bt_err *err);
    bt_status (*attn_in)(bt_device *dev, int32_t layer,
                         bt_err *err); // norm, q k v, rope, KV append
    bt_status (*attention)(bt_device *dev, int32_t layer, bt_err *err); // softmax(q k) v over pages
    bt_status (*attn_out)(bt_device *dev, int32_t layer,
                          bt_err *err); // output projection + residual
    bt_status (*mlp)(bt_device *dev, int32_t layer,
                     bt_err *err);                  // norm, gate up, silu, down + residual
    bt_status (*head)(bt_device *dev, bt_err *err); // final norm and logits of out_row
    /* [n_out] each; reqs is read now, outs is filled by step_end at the latest. */
    bt_status (*sample)(bt_device *dev, const bt_sample_req *reqs, bt_sample_out *outs,
                        bt_err *err);
    /* All of the step has been asked for. NULL: this device works as it is told. */
    bt_status (*step_submit)(bt_device *dev, bt_err *err);
    /* Ends the oldest step under way; busy_us is its device time by the device's own clock. */
    bt_status (*step_end)(bt_device *dev, uint64_t *busy_us, bt_err *err);

    /* Residency (docs/design.md, Words), between steps; NULL: this device has one level only. park gives
     * back the memory of weights, KV and scratch and keeps the context and its graphs: what KV held
     * is lost. wake takes the memory again and restores the weights. Both report what they took. */
    bt_status (*park)(bt_device *dev, bt_residency *out, bt_err *err);
    bt_status (*wake)(bt_device *dev, bt_load_progress progress, void *ud, bt_residency *out,
                      bt_err *err);
    const char *(*label)(const bt_device *dev); // "cpu0", "cuda0 NVIDIA L4"
    /* What its driver calls it in any process ("GPU-..."); NULL: it has none. */
    const char *(*driver_id)(const bt_device *dev);

    /* Copies the logits of output row i of the last step, [recipe.vocab]; for tests and tools. */
    bt_status (*logits)(bt_device *dev, int32_t i, float *dst, bt_err *err);
} bt_backend;

extern const bt_backend bt_backend_cpu;  // src/device/cpu/cpu.c
extern const bt_backend bt_backend_cuda; // src/device/cuda/cuda.c; only in builds with CUDA

#ifdef __cplusplus
}
#endif
