/* SPDX-License-Identifier: Apache-2.0 */
/* engine.h - the engine's waist: requests and commands in, events out.
 *
 * The same structs serve the engine as a thread (baton run, bench, tests) and as a process behind a
 * socket (src/engine/wire.h turns each into a frame and back). An engine is single-threaded: its
 * owner calls submit / cancel / budget / release between steps, and step() calls the sink.
 *
 * Time is CLOCK_MONOTONIC nanoseconds (bt_now_ns), which all processes of a machine share. */
#pragma once
#include "baton/backend.h"
#include "baton/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    BT_STOP_MAX = 16,        // stop strings a request
    BT_STOP_BYTES_MAX = 256, // bytes a stop string
    BT_BIAS_MAX = 1024,      // logit_bias entries a request
    BT_SEQS_PER_REQUEST_MAX = 16,
};

/* Why a sequence ended (finish_detail of docs/api.md). */
#define BT_FINISH_MAP(X)                                                                           \
    X(NONE, "none")                                                                                \
    X(EOS, "eos")                                                                                  \
    X(STOP, "stop")                                                                                \
    X(LENGTH, "length")                                                                            \
    X(LEASE_EXPIRED, "lease_expired")                                                              \
    X(QUOTA_EXHAUSTED, "quota_exhausted")                                                          \
    X(CANCELLED, "cancelled")                                                                      \
    X(REFUSED, "refused")                                                                          \
    X(DEVICE_FAULT, "device_fault")
typedef enum bt_finish {
#define X(name, text) BT_FINISH_##name,
    BT_FINISH_MAP(X)
#undef X
        BT_FINISH_COUNT
} bt_finish;
const char *bt_finish_name(bt_finish f); // "eos", ...

/* The right to slots until it ends; a value, never a pointer. A command that carries an old
 * generation is inert. */
typedef struct bt_lease {
    int32_t slot;        // first of n_seq slots (for people: the engine slots sequences itself)
    uint32_t generation; // grows with every lease granted
    int64_t deadline_ns; // 0 = none
    int64_t budget_us;   // device time this request may use, cumulative; INT64_MAX = no limit
    bool budget_final;   // true: at budget_us it ends with quota_exhausted;
                         // false: at budget_us it pauses until a larger budget arrives
} bt_lease;

typedef struct bt_gen_params {
    float temperature, top_p, min_p;
    int32_t top_k;
    float repeat_penalty, freq_penalty, presence_penalty;
    int32_t repeat_last_n; // tokens, prompt included, that repeat_penalty looks back on; 0 = none,
                           // -1 = all; frequency and presence count what was generated, all of it
    uint64_t seed;
    int32_t max_tokens; // > 0, cut to the context; 0 only with prompt_logprobs: scores, draws none
    int32_t min_tokens;
    bool ignore_eos;
    bool cache_prompt;    // may reuse and leave KV prefix pages
    int32_t n_logprobs;   // as bt_sample_req
    bool prompt_logprobs; // echo: report logprobs of prompt tokens too
    int32_t n_bias;
    const bt_logit_bias *bias; // borrowed during submit
    int32_t n_stop;
    const char *const *stop; // NUL-terminated bytes, borrowed during submit
} bt_gen_params;

/* temperature 1, top_p 1, repeat 1, all else off, cache_prompt, n_logprobs -1, max_tokens 16. */
void bt_gen_params_init(bt_gen_params *p);

typedef struct bt_engine_request {
    uint64_t id;           // not 0, unique for the engine's life
    uint64_t salt;         // prefix cache namespace: the account, unless the owner shares it
    const int32_t *tokens; // [n_tokens] borrowed during submit; n_tokens >= 1
    int32_t n_tokens;
    int32_t n_seq; // sequences, 1..BT_SEQS_PER_REQUEST_MAX; sequence i draws with seed + i
    bt_gen_params params;
    bt_lease lease;
} bt_engine_request;

typedef struct bt_token_out {
    int32_t token;
    float logprob; // NaN if none was asked for, and for the first token of a prompt
    int32_t n_top;
    const int32_t *top_token; // [n_top]
    const float *top_logprob;
    const char *bytes; // this token's own bytes (not UTF-8 safe alone), for logprobs objects
    int32_t n_bytes;
} bt_token_out;

typedef enum bt_engine_event_type {
    BT_EE_PREFILL, // prompt progress of a request (after each chunk; cached tokens count as done)
    BT_EE_PROMPT_LOGPROBS, // tokens of the prompt with logprobs, in order, in pieces; seq is 0
    BT_EE_TOKENS,    // new tokens of a sequence and the text that became certain with them; the
                     // end-of-sequence token is counted in END but has no event of its own
    BT_EE_SEQ_END,   // a sequence ended: its last text (possibly empty) and why
    BT_EE_END,       // all sequences of a request have ended: totals. Its books wait for release
    BT_EE_STEP,      // after each step: books and free pages. n_rows 0: no step ran, but requests
                     // ended (cancel, lease) and gave back their pages
    BT_EE_LOAD,      // load progress in bytes
    BT_EE_READY,     // what was loaded
    BT_EE_FATAL,     // the engine cannot go on; err says why
    BT_EE_RESIDENCY, // parked or awake: what of the engine is in device memory
} bt_engine_event_type;

typedef struct bt_step_share {
    uint64_t request;
    uint64_t used_us; // cumulative
} bt_step_share;

/* All pointers are borrowed: valid during the sink call only. */
typedef struct bt_engine_event {
    bt_engine_event_type type;
    uint64_t request;
    int32_t seq; // sequence index in its request
    union {
        struct {
            int32_t done, total;
        } prefill;
        struct {
            const bt_token_out *token;
            int32_t n_tokens;
            const char *text; // whole UTF-8 characters; stop strings already removed
            int32_t n_text;
            bt_finish finish; // SEQ_END only
        } tokens;             // PROMPT_LOGPROBS, TOKENS, SEQ_END
        struct {
            bt_finish finish; // of the sequence that ended last; worst first if they differ
            int32_t prompt_tokens, cached_tokens, completion_tokens;
            uint64_t used_us;
            int64_t prefill_ns, decode_ns; // wall time in the slot
            bt_status status; // OK; else the engine refused the submit (wire only) and nothing ran
        } end;
        struct {
            uint64_t busy_us, house_us; // cumulative of this engine boot
            uint64_t step_us;
            int32_t n_rows, n_seqs;
            int32_t pages_free;         // free or reclaimable from the prefix cache
            const bt_step_share *share; // the requests that this step moved
            int32_t n_share;
        } step;
        struct {
            uint64_t done, total;
        } load;
        struct {
            int32_t vocab, ctx, slots, n_pages, page_tokens, rows_max;
            uint64_t weights_bytes, kv_bytes, scratch_bytes;
            uint64_t boot;
            const char *device;                              // "cpu0"
            const char *device_id;                           // bt_backend.driver_id, or ""
            const char *name;                                // model name
            int32_t eos;                                     // the first of the end-of-sequence set
            bool can_park;                                   // residency level 1 exists here
            float prefill_us_per_token, decode_us_per_token; // first estimates of the cost model
        } ready;
        struct {
            const char *message;
            bt_status code;
        } fatal;
        struct {
            int32_t level;       // 0 running, 1 weights and KV given back
            uint64_t bytes;      // of device memory given back or taken
            uint64_t free_bytes; // of the device afterwards, as its driver says
            int64_t took_ns;
            bool from_host; // woken from host memory, not from the model's file
        } residency;
    } u;
} bt_engine_event;

typedef void (*bt_engine_sink)(void *ud, const bt_engine_event *event);

struct bt_vocab; // vocab/vocab.h

typedef struct bt_engine_options {
    const char *model_path; // a GGUF file, or as model/files.h has it
    /* Opens the vocabulary of a model that is no GGUF file, from the files beside its weights; NULL:
     * such a model is refused. It is not sent to an engine process, which has its own. */
    bt_status (*open_vocab)(const char *path, struct bt_vocab **out, bt_err *err);
    const char *device;  // "auto", "cpu", "cuda:N", "cuda:UUID"; default "auto"
    int32_t threads;     // 0 = all cores of the affinity mask
    int32_t slots;       // 0 = 8
    int32_t ctx;         // tokens a sequence; 0 = min(model's, 4096)
    int32_t kv_tokens;   // KV pages in tokens; 0 = planned from free memory, at least one ctx
    int32_t step_tokens; // token budget a step; 0 = 512 (chunks shrink on slow devices)
    int32_t step_ms;     // longest step aimed at; 0 = 250
    bt_kv_format kv_format;
    const char *quant;      // "int8", "int4": matrices are converted on load; NULL = as they are
    bool deterministic;     // CUDA: the same text whatever else is in the batch (the CPU always)
    const char *usage_path; // crash file to write, NULL = none (baton run)
    const char *cost_dir;   // where step costs are kept from start to start; NULL = nowhere
    bool share_prefix;      // one prefix cache namespace for all accounts
} bt_engine_options;

typedef struct bt_engine bt_engine;

/* Loads the model (LOAD and READY events go to the sink before it returns). */
bt_status bt_engine_open(const bt_engine_options *opt, bt_engine_sink sink, void *ud,
                         bt_engine **out, bt_err *err);
void bt_engine_close(bt_engine *e);

/* Where a model would run and what it would take there. */
typedef struct bt_engine_fit {
    char device[48]; // "cpu", "cuda:0"
    uint64_t weights_bytes, kv_bytes, scratch_bytes, free_bytes;
    int32_t ctx, slots, kv_tokens;
} bt_engine_fit;
/* Asks all that bt_engine_open does before it loads (device, file, vocabulary, formats, memory) and
 * refuses with its sentence; no weights are read or converted. */
bt_status bt_engine_check(const bt_engine_options *opt, bt_engine_fit *out, bt_err *err);

/* Takes a copy of everything. EBUSY: no slots or pages (the caller admitted too much). */
bt_status bt_engine_submit(bt_engine *e, const bt_engine_request *req, bt_err *err);
/* Ends a request at once with this finish; inert if it is gone or the generation is another. The
 * sink gets SEQ_END, END and a STEP without rows before it returns. */
void bt_engine_cancel(bt_engine *e, uint64_t request, uint32_t generation, bt_finish why);
/* Raises budget_us (never lowers it) and sets budget_final. */
void bt_engine_budget(bt_engine *e, uint64_t request, uint32_t generation, int64_t budget_us,
                      bool budget_final);
/* The request's use is in the ledger: its usage entry is free again. Inert while it runs; not
 * needed without a usage_path. */
void bt_engine_release(bt_engine *e, uint64_t request);
/* True while a step would do something. False: idle, or all sequences wait for budget. */
bool bt_engine_has_work(const bt_engine *e);
/* The earliest lease deadline, when has_work() turns true by itself; INT64_MAX = none. */
int64_t bt_engine_next_deadline(const bt_engine *e);
/* One forward pass over the batch, at most. Also expires leases. A device fault is returned. */
bt_status bt_engine_step(bt_engine *e, bt_err *err);

/* Residency level 1: device memory is given back, the process keeps its context. What the prefix
 * cache holds is lost. BT_EBUSY while a request is there; BT_EUNSUPPORTED on a device that cannot
 * (the CPU). Parking the parked, and waking the awake, changes nothing. RESIDENCY tells both. */
bt_status bt_engine_park(bt_engine *e, bt_err *err);
/* A step with work wakes by itself. LOAD events tell the progress. BT_ENOMEM: the memory is not
 * free; the engine stays parked. */
bt_status bt_engine_wake(bt_engine *e, bt_err *err);

#ifdef __cplusplus
}
#endif
