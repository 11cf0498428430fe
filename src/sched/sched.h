/* SPDX-License-Identifier: Apache-2.0 */
/* sched.h - who runs next: queue, fairness, leases and tenure as one pure state machine.
 *
 *     bt_sched_step(state, now, events[]) -> actions[]
 *
 * Deterministic: no clock, thread, I/O, log or allocation after open. The same code runs under the
 * simulator (tests/src/sched) and in production (src/front). All tables are sized at open.
 *
 * LIFE OF A REQUEST
 *   SUBMIT --HOLD--> waits for the ledger --HELD--> queued --ADMIT--> running --FINISHED--> POST, forgotten
 *   refused or over a bound: REPLY with a status, forgotten. Cancelled or timed out while queued: VOID.
 *   Each request ends exactly once: one REPLY(refuse) or one POST or one VOID.
 *
 * ORDER   Class by tier with ageing: a waiter climbs one class each age_ns; having reached the top class it is
 *         ordered there by the time it arrived there, and no later arrival passes it. Inside a class weighted
 *         fair queueing on attributed device microseconds: each account has a virtual counter (device us / weight),
 *         lifted on re-entry to the smallest active one; tag = counter + predicted cost / weight.
 * HOLD    min(remaining, predicted * 1.5); topped up when half is used. Admit while any quota remains.
 * BOUNDS  queue in all and per account; running sequences per account (tier slots); a queue-wait limit.
 * NOT HERE text, sockets, SQL, time. Thread: sched (one thread owns a state). */
#pragma once
#include "baton/engine.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BT_SCHED_CLASSES = 3 }; // 0 low, 1 medium, 2 highest

typedef struct bt_sched_config {
    int32_t queue_max;       // requests waiting in all
    int32_t requests_max;    // waiting and running together (table size)
    int32_t accounts_max;    // accounts with anything alive or remembered
    int64_t age_ns;          // a waiter climbs one class each age_ns; default 10 s
    int64_t queue_wait_ns;   // longest wait before a timeout; 0 = none; default 600 s
    double hold_factor;      // default 1.5
    int64_t hold_min_us;     // smallest hold worth asking for; default 1000
    double default_prefill_us_per_token, default_decode_us_per_token; // until the engine reports
} bt_sched_config;
void bt_sched_config_init(bt_sched_config *c);

/* What an account is to the scheduler; a copy travels with each submit. */
typedef struct bt_sched_account {
    uint64_t id;         // hash of the account's name, not 0
    int32_t cls;         // 0..BT_SCHED_CLASSES-1
    double weight;       // > 0
    int32_t slots;       // sequences it may run at once
    int32_t queue;       // requests it may have waiting
    int64_t lease_max_ns;
} bt_sched_account;

typedef struct bt_sched_request {
    uint64_t id; // not 0
    bt_sched_account account;
    int32_t prompt_tokens; // after templates
    int32_t max_tokens;
    int32_t n_seq;
    int64_t lease_ns; // wall time asked for, already clipped to the tier
    int32_t engine;   // index; 0 in this version's front
} bt_sched_request;

typedef enum bt_sched_event_type {
    BT_EV_SUBMIT,      // u.submit
    BT_EV_HELD,        // request, amount_us = held in all so far, final = no more quota is left
    BT_EV_REFUSED,     // request: the ledger refused the first hold
    BT_EV_TOPPED_UP,   // as HELD, for a top-up (amount_us may be unchanged, then final)
    BT_EV_USED,        // request, amount_us = cumulative device time (from step reports)
    BT_EV_PREFILL,     // request, amount_us = prompt tokens done (queue and ETA estimates)
    BT_EV_STEP,        // u.step: free pages, cost estimates
    BT_EV_FINISHED,    // request: the engine's END; finish, amount_us = final device time
    BT_EV_CANCEL,      // request: the client went away, or the owner ended it
    BT_EV_ENGINE_UP,   // u.engine
    BT_EV_ENGINE_DOWN, // engine: everything running there has ended with device_fault; amount per request by USED before
    BT_EV_ENGINE_PARKED,
    BT_EV_OUTSIDE_REQUEST, // reserved: outside tenants
    BT_EV_OUTSIDE_RELEASE,
    BT_EV_DRAIN, // no more admissions of new submits: refuse them with BT_ECLOSED; queued ones are refused too
    BT_EV_TICK,  // time passed: ageing, queue timeouts
} bt_sched_event_type;

typedef struct bt_sched_event {
    bt_sched_event_type type;
    uint64_t request;
    int64_t amount_us;
    bool final;
    bt_finish finish;
    int32_t engine;
    union {
        bt_sched_request submit;
        struct {
            int32_t pages_free;
            int32_t n_rows, n_prefill_rows, n_seqs;
            uint64_t step_us; // with the rows above: feeds the step-cost model
        } step;
        struct {
            int32_t slots, n_pages, page_tokens;
            double prefill_us_per_token, decode_us_per_token;
        } engine_up;
    } u;
} bt_sched_event;

typedef enum bt_sched_action_type {
    BT_ACT_HOLD,    // ask the ledger: request, amount_us (answer: HELD or REFUSED)
    BT_ACT_TOP_UP,  // request, amount_us = wanted total (answer: TOPPED_UP)
    BT_ACT_ACCEPT,  // request: held and queued; the answer's status line may go out
    BT_ACT_ADMIT,   // request, lease: give it to the engine
    BT_ACT_BUDGET,  // request, lease: tell the engine the new budget
    BT_ACT_CANCEL,  // request, lease, finish: end it in the engine (a FINISHED follows from there)
    BT_ACT_POST,    // request, amount_us: settle; it has ended (finish says how)
    BT_ACT_VOID,    // request: it used nothing; it has ended (finish or status says how)
    BT_ACT_REFUSE,  // request, status: never accepted; it has ended. retry_ns: a hint
    BT_ACT_PREEMPT, // reserved
    BT_ACT_PARK,
    BT_ACT_WAKE,
    BT_ACT_KILL,
    BT_ACT_GRANT_OUTSIDE,
} bt_sched_action_type;

typedef struct bt_sched_action {
    bt_sched_action_type type;
    uint64_t request;
    int64_t amount_us;
    bt_lease lease;
    bt_finish finish;
    bt_status status;
    int64_t retry_ns;
    int32_t engine;
} bt_sched_action;

typedef struct bt_sched bt_sched;

bt_status bt_sched_open(const bt_sched_config *config, bt_sched **out, bt_err *err);
void bt_sched_close(bt_sched *s);

/* Applies the events in order, then admits what fits. Writes at most max_actions and returns how many were
 * written; if it returns max_actions call again with n_events = 0 until fewer come back. */
size_t bt_sched_step(bt_sched *s, int64_t now_ns, const bt_sched_event *events, size_t n_events,
                     bt_sched_action *actions, size_t max_actions);
/* When step() should next run though nothing happens; INT64_MAX = never. */
int64_t bt_sched_next_deadline(const bt_sched *s);

/* For GET /v1/queue, SSE comments and metrics; computed on demand. */
typedef struct bt_sched_view {
    uint64_t request, account;
    bool running;
    int32_t position; // 1 = next; 0 while running
    int64_t eta_ms;   // until admission; 0 while running
    int64_t waited_ns;
    bt_lease lease; // running: what was granted
    int64_t lease_ns;
    int64_t used_us;
    int32_t cls; // after ageing
    int32_t n_seq;
} bt_sched_view;
bool bt_sched_find(const bt_sched *s, int64_t now_ns, uint64_t request, bt_sched_view *out);
/* account 0 = all. Waiting first in order, then running. Returns how many there are (may exceed max). */
size_t bt_sched_list(const bt_sched *s, int64_t now_ns, uint64_t account, bt_sched_view *out, size_t max);
/* Position and ETA of every waiter, to be called at a modest rate: calls fn for those whose position changed since
 * the last call. */
void bt_sched_positions(bt_sched *s, int64_t now_ns,
                        void (*fn)(void *ud, uint64_t request, int32_t position, int64_t eta_ms),
                        void *ud);
int32_t bt_sched_waiting(const bt_sched *s);
int32_t bt_sched_running(const bt_sched *s);
/* The model's guess at the device time of a request, from the current step-cost estimates. */
int64_t bt_sched_predict_us(const bt_sched *s, int32_t prompt_tokens, int32_t max_tokens, int32_t n_seq);
