/* SPDX-License-Identifier: Apache-2.0 */
/* engine_internal.h - what the engine's files share: slots, requests, the batch under construction.
 *
 *   request.c  submit, cancel, budget: validation, slots, KV pages, the ends of sequences
 *   batch.c    which rows the next step computes
 *   step.c     one step: forward pass, books, tokens to text, leases
 *   park.c     park and wake
 *   event.c    facts to engine.h's events
 *   engine.c   tables, open from parts, close;  open.c  from a path;  warmup.c  first measurements
 *
 * SLOTS    free --submit--> running (sequence 0) or waiting (its siblings, until sequence 0 has the
 *          prompt in KV; they then share its full pages and compute the last ones themselves)
 *          --> free. A running sequence whose kv_len < n_prompt is prefilling, else decoding.
 * PAGES    of prompt + max_tokens are taken at submit, so no step can fail for lack of one.
 * Everything is allocated at open; submit alone may allocate (decoders). Thread: engine. */
#pragma once
#include "baton/engine.h"
#include "engine/meter.h"
#include "engine/cost.h"
#include "engine/kv.h"
#include "engine/window.h"
#include "vocab/decode.h"

enum {
    BT_ENGINE_SLOTS_MAX = BT_COST_PARTS_MAX,
    BT_ENGINE_CTX_DEFAULT = 4096,
    BT_ENGINE_SLOTS_DEFAULT = 8,
    BT_ENGINE_STEP_TOKENS_DEFAULT = 512,
    BT_ENGINE_STEP_MS_DEFAULT = 250,
    BT_ENGINE_CHUNK_MIN = 16, // prompt rows worth a place in a step
    BT_ENGINE_PIECE = 32,     // prompt tokens in one PROMPT_LOGPROBS event
    BT_ENGINE_STEPS = 2,      // in flight at once, where the device can
};

typedef enum bt_slot_state { BT_SLOT_FREE, BT_SLOT_WAITING, BT_SLOT_RUNNING } bt_slot_state;

typedef struct bt_slot {
    bt_slot_state state;
    int32_t request;  // index into engine.request
    int32_t seq;      // index in its request
    int32_t *token;   // owned, [ctx]: prompt, then what was generated
    int32_t n_tokens; // prompt + generated
    int32_t kv_len;   // of them in KV
    int32_t *page;    // owned, [pages of ctx]
    int32_t n_pages;  // held
    int32_t n_chain;  // leading pages that are in the prefix cache
    bool chain_open;  // further full pages may be published
    int32_t n_generated;
    bt_window window;
    int32_t window_tokens; // of the repetition penalty; 0 = it is off
    bool counts_drawn;     // there are frequency or presence penalties
    bt_decoder *decoder;   // owned
    uint64_t epoch;        // of whoever sits here: grows with every occupation of any slot
} bt_slot;

/* A sequence's part of a step. The sequence may be gone by the time the step ends: then the slot's
 * epoch is another, and what the step computed for it is dropped. */
typedef struct bt_step_part {
    int32_t slot;
    uint64_t epoch;
    int32_t from; // tokens in KV before the step
    int32_t rows, first_row, first_out, n_out;
    bool prefill;
} bt_step_part;

/* A step, from the batch to its results. */
typedef struct bt_step {
    bt_batch batch;
    int32_t *token, *pos, *row_seq, *out_row; // owned
    bt_batch_seq *seq;                        // owned, [slots]
    bt_step_part *part;                       // owned, [slots]: of seq[i]
    bt_sample_req *sample;                    // owned, [out_max]
    bt_sample_out *out;                       // owned, [out_max]
} bt_step;

typedef struct bt_live_request {
    uint64_t id; // 0 = free
    uint64_t salt;
    bt_lease lease;
    bt_gen_params params;    // bias points to own_bias; stop is gone (the decoders have it)
    bt_logit_bias *own_bias; // owned, [BT_BIAS_MAX]
    int32_t n_prompt, max_tokens;
    int32_t n_seq, n_live;
    int32_t slot[BT_SEQS_PER_REQUEST_MAX]; // -1 once that sequence has ended
    int32_t cached_tokens, completion_tokens;
    bt_finish worst;
    bt_status status; // what was at fault, if it is known; goes out with the end
    uint64_t used_us;
    int64_t submit_ns, first_token_ns;
} bt_live_request;

struct bt_engine {
    const bt_backend *backend;
    bt_device *dev;
    const bt_recipe *recipe;    // borrowed from the model
    const bt_vocab *vocab;      // borrowed from the model or the caller
    struct bt_model *own_model; // owned; NULL where the parts are the caller's
    bt_vocab *own_vocab;        // owned; likewise
    bt_device_plan plan;
    int32_t slots, vocab_limit;
    double step_us;
    bool share_prefix, auto_release, faulted;
    bt_engine_sink sink;
    void *ud;

    bt_kv kv;
    bt_meter meter;
    bt_cost cost;
    char cost_path[512]; // where it is kept; "" = nowhere
    uint64_t cost_key;
    bt_slot *slot;                     // owned, [slots]
    bt_live_request *request;          // owned, [slots]
    int32_t next_decode, next_prefill; // round-robin over slots
    uint64_t n_steps, next_epoch;
    bool parked;
    uint64_t n_not_finite; // sequences ended by logits that are not finite
    int64_t not_finite_ns; // when the log was last told

    bt_step step[BT_ENGINE_STEPS];   // under way, the oldest first
    int32_t first_step, n_flight;    // its index, and how many
    bt_step_share *share;            // owned, [slots]
    int32_t n_share, n_rows, n_seqs; // what the next step event tells
};

/* Whether the sequence is still there that a part of a step computes for. */
static inline bool bt__step_part_lives(const bt_engine *e, const bt_step_part *p)
{
    const bt_slot *s = &e->slot[p->slot];
    return s->state == BT_SLOT_RUNNING && s->epoch == p->epoch;
}

/* The parts of an engine, for tests and tools that bring their own backend. All is borrowed. */
typedef struct bt_engine_parts {
    const bt_backend *backend;
    const bt_recipe *recipe;
    const bt_weights *weights;
    const bt_vocab *vocab;
    bt_device_plan plan;
    const char *name; // of the model, for READY
} bt_engine_parts;
bt_status bt_engine_open_parts(const bt_engine_parts *parts, const bt_engine_options *opt,
                               bt_engine_sink sink, void *ud, bt_engine **out, bt_err *err);

/* As bt_engine_open, of weights that lie in memory; all is borrowed until close. */
bt_status bt_engine_open_weights(const bt_recipe *recipe, const bt_weights *weights,
                                 const bt_vocab *vocab, const bt_engine_options *opt,
                                 bt_engine_sink sink, void *ud, bt_engine **out, bt_err *err);


/* batch.c: fills st; n_rows 0 if nothing can run. */
void bt__batch_build(bt_engine *e, bt_step *st);
/* The step after one that is still under way: each sequence's next row takes the token that row is
 * about to draw, on the device. False where that cannot be known before it ends: prompts to read,
 * penalties that look at the token, more sequences to serve. */
bool bt__batch_follow(bt_engine *e, bt_step *st, const bt_step *before);

/* step.c: ends what is under way, with its events. */
bt_status bt__engine_settle(bt_engine *e, bt_err *err);

/* warmup.c: the first measurements; the house pays. */
bt_status bt__engine_warm_up(bt_engine *e, uint64_t weights_bytes, bt_err *err);
/* Where the costs of this device, model and plan are kept, and keeping them. */
void bt__engine_cost_name(bt_engine *e, const char *dir, const char *model, uint64_t weights_bytes);
void bt__engine_cost_keep(bt_engine *e);

/* request.c */
bool bt__request_paused(const bt_live_request *r);
void bt__request_end(bt_engine *e, bt_live_request *r, bt_finish why);
void bt__slot_end(bt_engine *e, bt_slot *s, bt_finish why, bool flush_text);
/* Publishes pages that became full and takes over equal ones. */
void bt__slot_publish(bt_engine *e, bt_slot *s);
/* Skips pages of the prompt that the cache has by now; only at a page border. */
void bt__slot_reuse(bt_engine *e, bt_slot *s);
/* Sequence 0 has the prompt in KV: its siblings start. */
void bt__request_share_prompt(bt_engine *e, bt_live_request *r);
void bt__slot_push(bt_engine *e, bt_slot *s, int32_t token);

/* event.c */
void bt__emit_load(void *engine, uint64_t done, uint64_t total); // a bt_load_progress
void bt__emit_residency(const bt_engine *e, int32_t level, const bt_residency *r);
void bt__emit_prefill(bt_engine *e, const bt_live_request *r, int32_t done);
void bt__emit_tokens(bt_engine *e, bt_engine_event_type type, const bt_slot *s,
                     const bt_token_out *token, int32_t n_tokens, const char *text, size_t n_text,
                     bt_finish finish);
void bt__emit_end(bt_engine *e, const bt_live_request *r);
void bt__emit_step(bt_engine *e, uint64_t step_us);
/* Whether how its next token is drawn depends on the tokens before it. */
static inline bool bt__slot_penalized(const bt_slot *s)
{
    return s->window_tokens > 0 || s->counts_drawn;
}
/* One token as events tell it; o NULL: no logprob. */
void bt__token_describe(const bt_engine *e, int32_t token, const bt_sample_out *o,
                        bt_token_out *dst);
