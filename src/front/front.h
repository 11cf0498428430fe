/* SPDX-License-Identifier: Apache-2.0 */
/* front.h - joins requests, scheduler, ledger and engines; owns the threads (docs/design.md).
 *
 * UNITS    Each model is a unit: its engine process, vocabulary, templates and queue. A request
 *          names its unit at submit. Accounts, ledger and text threads are all units'.
 *
 * A dialect (src/api) fills a bt_front_request and calls bt_front_submit; everything that comes
 * back comes as stream events through one bounded ring, taken on the HTTP loop thread. Nothing here
 * knows HTTP or JSON dialects. */
#pragma once
#include "baton/engine.h"
#include "quota/account.h"
#include "base/buf.h"
#include "front/work.h"
#include "ledger/ledger.h"
#include "chat/template.h"
#include "model/generation.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bt_front bt_front;
typedef struct bt_unit bt_unit; // lives as long as its front
typedef struct bt_stream bt_stream;

enum { BT_UNITS_MAX = 8 };

typedef struct bt_unit_options {
    bt_engine_options engine;  // model_path and the rest; its paths are front's own business
    const char *alias;         // name shown by /v1/models; NULL = file's base name without .gguf
    const char *chat_template; // "plain" or a template's source; NULL = the model's own
    int32_t park_after_s;      // parked after so long without requests; 0 = never
    int32_t engine_timeout_s;  // an engine with work and without a word is killed; 0 = 60
    const bt_generation *sampling; // the owner's word; borrowed during open, NULL = the model's own
} bt_unit_options;

typedef struct bt_front_options {
    bt_unit_options unit[BT_UNITS_MAX];
    int32_t n_units;              // at least 1
    const char *data_dir;         // made if missing
    bt_accounts_options accounts; // keys, tiers, proxies, owner
    int32_t queue;                // waiting requests in all; 0 = 1024
    int32_t queue_wait_s;         // longest wait in the queue; 0 = 600
    int32_t anonymous_percent;    // what visitors without a key may take together; 0 = 75
    double price;                 // charged = device x price; 0 = 1
    int32_t stream_bytes;         // ring of one stream; 0 = 256 KiB
    const char *engine_program;   // runs as the engine process; NULL = this program
} bt_front_options;

/* Where prompt text comes from: exactly one of text, tokens or chat. */
typedef struct bt_front_request {
    bt_unit *unit;        // NULL = the first
    bt_identity identity; // from bt_account_identify
    const char *text;     // completions
    size_t n_text;
    const int32_t *tokens; // completions with token ids
    int32_t n_tokens;
    const bt_template_chat *chat; // its time and plain_safe are front's own business
    bt_arena *memory;   // what the chat lies in: front takes it over. NULL: it outlives the stream
    bool parse_special; // control tokens spelled in the users' text count; default: plain text
    bool bare;          // text: without the tokens that the model wants before and after a text
    int32_t n_seq;
    bt_gen_params params; // max_tokens 0 = as many as the context holds
    double lease_seconds; // 0 = the tier's default (60 s or its maximum)
    bool progress;        // wants QUEUE and PREFILL events
} bt_front_request;

typedef enum bt_stream_event_type {
    BT_SE_REFUSED,  // status, message: nothing ran. First and last event
    BT_SE_ACCEPTED, // held and queued: the status line may go out. prompt tokens are known
    BT_SE_QUEUE,    // position, eta_ms
    BT_SE_PREFILL,  // done, total
    BT_SE_PROMPT,   // prompt tokens with logprobs (echo)
    BT_SE_TOKENS,   // sequence seq: tokens and text
    BT_SE_SEQ_END,  // sequence seq: last text, finish
    BT_SE_DONE, // totals, books. Last event. status != OK: it broke (device_fault, refused by the
                // engine) and message says how
} bt_stream_event_type;

typedef struct bt_stream_event {
    bt_stream_event_type type;
    int32_t seq;
    bt_status status; // REFUSED, DONE
    const char *message;
    const char *field;      // REFUSED: the one at fault; NULL or "" = none
    int64_t retry_after_ms; // REFUSED, DONE with a status; 0 = no hint
    int32_t position;
    int64_t eta_ms;
    int32_t done, total;
    bt_finish finish;
    const char *text;
    int32_t n_text;
    const bt_token_out *token; // [n_tokens], only if logprobs were asked for
    int32_t n_tokens;          // tokens this event stands for
    /* ACCEPTED, DONE */
    int32_t prompt_tokens, cached_tokens, completion_tokens;
    int64_t queue_us, prefill_us, decode_us; // wall
    int64_t lease_us, device_us, charged_us;
    bt_ledger_balance balance; // after the post; also in REFUSED for EQUOTA
} bt_stream_event;

/* As Retry-After has it: what a sentence says and what the header says must be the same. */
static inline int64_t bt_retry_s(int64_t retry_ms)
{
    return (retry_ms + 999) / 1000;
}

bt_status bt_front_open(const bt_front_options *opt, bt_front **out,
                        bt_err *err); // returns at once: loading goes on behind
void bt_front_close(bt_front *f); // drains: refuses new, ends running ones, posts or voids, joins
void bt_front_drain(bt_front *f); // starts refusing
/* Drains, and waits until no request is alive: after 5 s those that still run are cancelled, so
 * that their streams end in order; after 7 s from the start of the drain it returns in any case.
 */
void bt_front_drain_wait(bt_front *f);

/* wake(ud, stream) is called from any thread when a stream goes from empty to non-empty. */
typedef void (*bt_front_wake)(void *ud, bt_stream *s);
void bt_front_on_wake(bt_front *f, bt_front_wake wake, void *ud);

/* The n prompts of one request, for one unit, of one identity and with the same params: they take one place in
 * the queue (parts.c). The first stream alone is refused, for whatever is wrong with any of them,
 * and then nothing comes of the others. Once one has run none is refused: those that cannot end
 * with no text. Copies all it needs, but takes a chat as it is (memory). Errors here are immediate
 * refusals (bad values, inbox full). On OK out[0..n) hold one reference each of the caller's.
 * Thread: http. */
bt_status bt_front_submit(bt_front *f, const bt_front_request *req, int32_t n, bt_stream **out,
                          bt_err *err);
uint64_t bt_stream_id(const bt_stream *s);
const char *bt_stream_account(const bt_stream *s);
const char *bt_stream_tier(const bt_stream *s);
/* Takes the next event; its pointers live until the next call on this stream. False: empty. Thread:
 * http. */
bool bt_stream_next(bt_stream *s, bt_stream_event *out);
/* The client went away: ends the request wherever it is. Events may still come. Idempotent. Thread:
 * any. */
void bt_stream_cancel(bt_stream *s);
void bt_stream_unref(bt_stream *s);

/* ---- units */

/* The unit of a model's name (BT_ENOTFOUND is NULL). Where there is one, any name is its; no name
 * (NULL) is the first's. */
bt_unit *bt_front_unit(bt_front *f, const char *name);
/* The one after u, or the first (u NULL); NULL: there are no more. */
bt_unit *bt_front_unit_next(bt_front *f, const bt_unit *u);

/* Text services, for jobs of text work (work.h), of the job's unit: they end early where t->stop
 * says so. n_max bounds the tokens (BT_ECONTEXT; 0 = no bound). */
bt_status bt_front_tokenize(bt_text *t, const char *text, size_t n, bool add_special,
                            bool parse_special, size_t n_max, int32_t **ids, size_t *n_ids,
                            bt_err *err); // *ids: bt_free
/* A chat as the model's template writes it: the prompt's text, and its tokens as a request would
 * have them. text or ids may be NULL: not wanted; both are bt_free's, text ends in a NUL. */
bt_status bt_front_chat(bt_text *t, const bt_template_chat *chat, bool parse_special, size_t n_max,
                        char **text, size_t *n_text, int32_t **ids, size_t *n_ids, bt_err *err);
/* Thread: any, as all below. */
bt_status bt_unit_detokenize(bt_unit *u, const int32_t *ids, size_t n, char **text, size_t *n_text,
                             bt_err *err); // *text: bt_free, valid UTF-8
/* What a request's parameters are where it says nothing: the model's own file, then the owner. */
const bt_gen_params *bt_unit_defaults(const bt_unit *u);
/* Bytes of one token's piece; NULL if out of range. */
const char *bt_unit_token_bytes(bt_unit *u, int32_t id, size_t *n);
/* The same, but a control token's is its name. */
const char *bt_unit_token_piece(bt_unit *u, int32_t id, size_t *n);

/* A unit's state, for /health, /v1/models, /v1/engines. */
typedef struct bt_unit_state {
    bool ready, draining;
    bool failed;        // the model could not be loaded at start-up: message says why
    bool chat_template; // the model's own, or the owner's: not the plain format
    const char *model;  // its name
    char message[248];  // why not ready, or ""; it may name files, so it is for the owner
    char ledger[248];   // why the ledger refuses new requests just now, or ""; likewise
    bool not_finite;    // all that the model has computed so far was NaN or infinite
    bt_status code;     // of what the engine said last when it could not go on
    uint64_t load_done, load_total;
    int32_t residency;          // 0 running, 1 parked, 2 asleep: its process is gone
    bool can_park;              // whether level 1 exists on this device
    char device[96];            // "cpu0", "cuda0 NVIDIA L4"; "" until the model was ready once
    uint64_t device_free_bytes; // of the device after the last parking or waking; 0 = not known
    int32_t ctx, slots, vocab, n_pages, page_tokens;
    int64_t created; // unix seconds
    int32_t engine_restarts;
    int64_t engine_pid; // 0 = none runs; else its exit code is front's to collect
} bt_unit_state;
void bt_unit_state_get(bt_unit *u, bt_unit_state *out);
/* Owner: gives the device back (level 1 or 2, see residency.c), and takes it again. Both only ask;
 * the state tells when it is done. BT_EBUSY: there are requests; BT_EUNSUPPORTED: level 1 on a
 * device without it; BT_ENOTREADY: still loading. */
bt_status bt_unit_park(bt_unit *u, int32_t level, bt_err *err);
bt_status bt_unit_wake(bt_unit *u, bt_err *err);

/* ---- for /v1/queue, /v1/quota, /metrics */

const bt_accounts *bt_front_accounts(bt_front *f);
/* Appends the Prometheus text of front, schedulers, ledger and engines: sums over the units. */
void bt_front_metrics(bt_front *f, bt_buf *out);
/* What the ledger said of it last: false if it has not been asked yet, or the tier's limit has
 * changed since. Waits for nothing. */
bool bt_front_balance_known(bt_front *f, const bt_identity *who, bt_ledger_balance *out);
/* BT_EQUOTA, with the balance, for an account that is known to have nothing left: a request of its
 * would only be refused after all its work. Waits for nothing. */
bt_status bt_front_admits(bt_front *f, const bt_identity *who, bt_ledger_balance *balance,
                          bt_err *err);
/* Asks the ledger and waits (bounded, 2 s). Thread: http helper; a few ms at most. */
bt_status bt_front_balance(bt_front *f, const bt_identity *who, bt_ledger_balance *out,
                           bt_err *err);
typedef struct bt_front_queue_entry {
    uint64_t request;
    char account[64];
    bool running;
    int32_t position, slot;
    int64_t eta_ms, waited_ms, lease_ms, left_ms, device_us;
} bt_front_queue_entry;
/* account_id (of bt_identity) 0 = everyone's. Of all units. Returns the count written. */
int32_t bt_front_queue(bt_front *f, uint64_t account_id, bt_front_queue_entry *out, int32_t max,
                       int32_t *depth, int32_t *slots);
/* Owner: for `baton quota`. BT_ENOTFOUND: nobody is or was booked under that name. */
bt_status bt_front_quota_set(bt_front *f, const char *account, int64_t limit_us,
                             bt_err *err); // -1 = tier's
bt_status bt_front_quota_reset(bt_front *f, const char *account, bt_err *err);
bt_status bt_front_quota_list(bt_front *f, bt_ledger_account_fn fn, void *ud, bt_err *err);
