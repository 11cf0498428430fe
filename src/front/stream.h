/* SPDX-License-Identifier: Apache-2.0 */
/* stream.h - one request's record in front: what was asked, and the ring its answer travels
 * through.
 *
 * The last event, REFUSED or DONE, has a place of its own beside the ring: it needs no memory and
 * no room, so whatever else fails the reader is told.
 *
 * Two owners: the HTTP side (until bt_stream_unref) and the work side (the registry, until its last
 * event was put). Fields are written by one stage at a time, in the order of the path: submit
 * (http), text worker, then the ones under `mu`. Producers append encoded events to `in`; the HTTP
 * loop swaps it with `out` and reads from there, so a producer never waits for a reader. What the
 * engine has written of a text goes through as it is, to be decoded by who writes the answer. */
#pragma once
#include "base/frame.h"
#include "base/mem.h"
#include "front/front.h"
#include "front/work.h"
#include "sched/sched.h"
#include <pthread.h>
#include <stdatomic.h>

/* What the prompts of one request share (parts.c); most have one. */
typedef struct bt_parts {
    atomic_int refs;      // one of each stream
    bt_gen_params params; // all have the same; bias and stop point into `arena`
    bt_arena arena;
    int32_t n;
    bt_stream **part; // owned; from `next` on, but not the first: one reference each
    /* sched thread only, once the first was submitted */
    int32_t next; // to be submitted
    int32_t running;
    bool waiting;   // one has the request's place in the queue
    bool ran;       // one has been admitted
    bool stalled;   // the next waits for the end of a running one
    int32_t posts;  // how many have ended
    int32_t asked;  // posts, when the one that waits was submitted
    bt_finish over; // not NONE: those that are left end so
} bt_parts;

struct bt_stream {
    atomic_int refs;
    bt_unit *unit; // borrowed: outlives every stream
    uint64_t id;

    /* set by submit, constant after */
    bt_identity identity;
    bt_parts *parts;      // one reference
    bt_gen_params params; // bias and stop point into the parts' arena
    int32_t n_seq;
    int64_t lease_ns;
    bool progress;
    int64_t submitted_ns; // of parts behind the first: sched thread, when their turn comes
    bt_arena arena;       // a chat's, until it is tokens
    char *text;           // owned
    size_t n_text;
    const bt_template_chat *chat; // until it is tokens
    bool parse_special, bare;

    bt_work work;    // its prompt, as text work
    bt_err text_err; // of it; code BT_OK: it went well

    /* set by the text worker, constant after */
    int32_t *tokens; // owned
    int32_t n_tokens;
    int32_t max_tokens;

    /* hold's outcome: ledger thread writes, sched thread reads after the answer's event */
    bt_ledger_balance balance;
    bt_status hold_status;
    int64_t held_us; // ledger thread: charge set aside for it
    bool registered;  // in front's registry; sched thread, after submit
    bool accepted;    // sched thread writes, ledger thread reads after the book
    int64_t retry_ms; // likewise: when to try again after a VOID; 0 = no hint

    atomic_bool cancelled;
    atomic_bool in_sched; // SUBMIT was pushed: a cancel must follow it

    pthread_mutex_t mu;
    bt_buf in;                           // guarded by mu
    bool overflow, ended;                // guarded by mu; ended: `last` stands
    bt_stream_event last;                // guarded by mu: REFUSED or DONE
    char message[248];                   // guarded by mu until ended: what last.message points to
    char field[64]; // text worker, before it refuses: what last.field points to
    int64_t admitted_ns, first_token_ns; // guarded by mu, as the totals of the engine's END:
    int32_t prompt_tokens, cached_tokens, completion_tokens;
    int64_t prefill_ns, decode_ns;
    bt_status broke; // guarded by mu: why the answer broke off, OK if it did not

    bt_buf out; // HTTP side only, as all below
    size_t out_at;
    bt_arena scratch;
    bool last_taken;
};

/* Streams of n prompts of one request, with one reference each. Thread: http. */
bt_parts *bt__parts_new(bt_unit *u, const bt_front_request *req, int32_t n, bt_err *err);
void bt__parts_unref(bt_parts *p); // Thread: any, as all below
void bt__stream_ref(bt_stream *s);

/* Producers. */
void bt__stream_refused(bt_stream *s, bt_status st, const char *message, int64_t retry_after_ms,
                        const bt_ledger_balance *balance);
void bt__stream_accepted(bt_stream *s, const bt_ledger_balance *balance);
void bt__stream_queue(bt_stream *s, int32_t position, int64_t eta_ms);
void bt__stream_prefill(bt_stream *s, int32_t done, int32_t total);
/* The payload of a PROMPT_LOGPROBS, TOKENS or SEQ_END frame, which has been checked. */
void bt__stream_tokens(bt_stream *s, bt_engine_event_type type, const bt_rd *payload);
/* The last event: totals from the stream, books from the ledger. */
void bt__stream_done(bt_stream *s, bt_finish finish, int64_t device_us, int64_t charged_us,
                     const bt_ledger_balance *balance);
