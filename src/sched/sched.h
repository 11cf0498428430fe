/* SPDX-License-Identifier: Apache-2.0 */
/* sched.h - who runs next: queue, fairness, leases and tenure as one pure state machine.
 *
 *     bt_sched_step(state, now, events[]) -> actions[]
 *
 * Deterministic: no clock, thread, I/O, log or allocation after open. The same code runs under the
 * simulator (tests/src/sched) and in production (src/front). All tables are sized at open.
 *
 * LIFE OF A REQUEST
 *   SUBMIT --HOLD--> waits for the ledger --HELD--> ACCEPT, queued --ADMIT--> running
 *   --FINISHED--> POST. Refused, or over a bound: REFUSE. Cancelled, drained or timed out before it
 *   ran: VOID. Each request ends exactly once, by one REFUSE or one VOID or one POST, and is then
 *   forgotten. One that is cancelled while its hold is asked for ends when the ledger has answered:
 *   VOID after HELD, REFUSE after REFUSED. So each HOLD must be answered (a ledger that failed: by
 *   REFUSED); this wait has no deadline here.
 *
 * ORDER   An account's waiting requests stand in its line, by arrival + lease: a shorter declared
 *         lease goes earlier, past at most 32 others and never past the first in line. Accounts
 *         compete with their first in line, the contender:
 *   1. Weighted fair queueing inside a class, on attributed device microseconds. An account has a
 *      virtual counter (device time / weight): charged at admission with the predicted cost
 *      (min of prediction and lease), corrected when USED passes it and at the end. An account
 *      whose line was empty is lifted to the least that one of its class's contenders has had:
 *      its counter without what is charged ahead for its running requests. When the cost estimates
 *      have moved by a quarter, all contenders get new tags.
 *      Smallest tag = counter + predicted cost / weight first; ties by arrival.
 *   2. Classes: 2 before 1 before 0. A contender climbs one class each age_ns, in the middle class
 *      as a newcomer without debt. From the top class (for class 2: after age_ns in it) it joins
 *      the top line, which is first come, first served and goes before everything else: nobody who
 *      arrived later, in any class, passes it from there.
 *   3. What ages is waiting for others beyond one's turn. Time behind one's own account's requests,
 *      or at one's own limit of slots, does not count, nor does the time that fairness asks for:
 *      the clock starts after (tag - smallest tag) * weights competing, at most 6 age_ns. Without
 *      that a flood would age in bulk past everybody, and weighted sharing would turn into first
 *      come, first served whenever the queue is longer than age_ns. So an account that is not ahead
 *      of its share reaches the top line max(2 - class, 1) * age_ns after it began to compete; any
 *      other, at most 6 age_ns later.
 * FIT     A contender needs n_seq free slots and its KV pages, ceil((prompt + max_tokens) / page) a
 *         sequence, those before the prompt's last token shared among n_seq. Pages are counted from
 *         the engine's total and what was admitted, not from its reports: an engine reserves no
 *         more at submit and gives it back at the end, so no report in flight can spoil the count.
 *         Who does not fit may be passed by the next 8 in order, until bypass_ns after it was first
 *         found not to fit; then nobody passes. The top line's first is never passed.
 * HOLD    max(hold_min, predicted * hold_factor), never more than the lease can use; topped up when
 *         half is used, to at least twice the hold and three times the use. Looked at again when
 *         a top-up is answered: a paused request reports no use. Admit while any quota remains.
 * BOUNDS  Of the queue's places a class and those below it take at most class_percent together, so
 *         the rest stays for the classes above. Where that is full, or the whole queue, a newcomer
 *         displaces the last in order of the lowest class that waits, if that is below its own:
 *         VOID with BT_EBUSY. Nobody is displaced from the top line, nor while the ledger is asked
 *         for its hold. Besides, an account has places of its own; accounts of one group (a
 *         network) have group_max together; and all anonymous ones together anonymous_percent of
 *         what their class may take. A refusal says which of these was hit, and when to try again.
 *         Running: sequences per account (tier slots). There is no preemption, so anonymous
 *         accounts together run in at most anonymous_percent of the engine's slots and pages (at
 *         least one request runs): a named account finds a slot at once, as long as named ones
 *         have not filled the reserve themselves. At that bound anonymous requests are passed by
 *         named ones, those in the top line too. A queue-wait limit.
 *         A request of many parts comes as one after another, each when the one before it has been
 *         admitted: it takes that one's place whatever has come meanwhile, and is not displaced.
 * ENGINES one; who has several has a state for each.
 * NOT HERE text, sockets, SQL, time. Thread: sched (one thread owns a state). */
#pragma once
#include "baton/engine.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BT_SCHED_CLASSES = 3,       // 0 low, 1 medium, 2 highest
    BT_SCHED_EVENTS_MAX = 4096, // events a call of step
    BT_SCHED_SLOTS_MAX = 1024,  // an engine's slots past this are not used
    BT_SCHED_EXACT = 1024,      // waiters whose position is exact; the others' is an estimate
};

typedef struct bt_sched_config {
    int32_t queue_max;       // requests waiting in all; default 1024
    int32_t class_percent[BT_SCHED_CLASSES]; // see BOUNDS; default 50, 75, 100
    int32_t anonymous_percent;               // default 75
    int32_t group_max;                       // default 64
    int32_t requests_max;    // waiting and running together (table size); default 2048
    int32_t accounts_max;    // accounts with anything alive or remembered; default 4096
    int64_t age_ns;          // a waiter climbs one class each age_ns; default 10 s
    int64_t bypass_ns;       // how long one that does not fit may be passed; default 5 s
    int64_t queue_wait_ns;   // longest wait since submit before a timeout; 0 = none; default 600 s
    double hold_factor;      // default 1.5
    int64_t hold_min_us;     // smallest hold worth asking for; default 1000
    double default_prefill_us_per_token; // until the engine reports; default 1000
    double default_decode_us_per_token;  // default 20000
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
    bool anonymous; // nobody has given it a name; as `group` looked at while it has nothing alive
    uint64_t group; // accounts that may be one person's, as addresses of a network; 0 = none
} bt_sched_account;

typedef struct bt_sched_request {
    uint64_t id; // not 0
    bt_sched_account account;
    int32_t prompt_tokens; // after templates
    int32_t max_tokens;
    int32_t n_seq;
    int64_t lease_ns; // wall time asked for; 0 or more than lease_max_ns = lease_max_ns
    bool follows;     // a part of a request whose last part was just admitted: see BOUNDS
} bt_sched_request;

typedef enum bt_sched_event_type {
    BT_EV_SUBMIT,      // u.submit
    BT_EV_HELD,        // request, amount_us = held in all so far, final = no more quota is left
    BT_EV_REFUSED,     // request: the ledger refused the first hold
    BT_EV_TOPPED_UP,   // as HELD, for a top-up (amount_us may be unchanged, then final)
    BT_EV_USED,        // request, amount_us = cumulative device time (from step reports)
    BT_EV_STEP,        // u.step: feeds the cost estimates
    BT_EV_FINISHED,    // request: the engine's END; finish, amount_us = device time, u.finished
    BT_EV_CANCEL,      // request: the client went away, or the owner ended it
    BT_EV_ENGINE_UP,   // u.engine_up. If it was up: as if a DOWN had come before
    BT_EV_ENGINE_DOWN, // u.engine_down. All that ran there ends with device_fault and its last USED
    BT_EV_ENGINE_ASLEEP, // admits nothing until ENGINE_UP; what runs keeps its place
    BT_EV_DRAIN, // new submits are refused and waiting ones ended, with BT_ECLOSED; running go on
    BT_EV_TICK,  // time passed: ageing, queue timeouts
} bt_sched_event_type;

typedef struct bt_sched_event {
    bt_sched_event_type type;
    uint64_t request;
    int64_t amount_us;
    bool final;
    bt_finish finish;
    union {
        bt_sched_request submit;
        struct {
            int32_t completion_tokens; // of all sequences; 0 = not known
        } finished;
        struct {
            int32_t pages_free; // for people to read: see FIT
            int32_t n_rows, n_prefill_rows, n_seqs; // n_prefill_rows 0: guessed from the others
            uint64_t step_us; // with the rows above: feeds the step-cost model
        } step;
        struct {
            int32_t slots, n_pages, page_tokens;
            double prefill_us_per_token, decode_us_per_token;
        } engine_up;
        struct {
            uint64_t boot; // of the engine that ended; only passed on
        } engine_down;
    } u;
} bt_sched_event;

/* Which bound of the queue a refusal with BT_EBUSY is about. */
typedef enum bt_sched_limit {
    BT_LIMIT_NONE,
    BT_LIMIT_ACCOUNT,   // the account's own places
    BT_LIMIT_GROUP,     // those of its group
    BT_LIMIT_ANONYMOUS, // those of all anonymous accounts
    BT_LIMIT_CLASS,     // those of its class and the ones below
    BT_LIMIT_QUEUE,     // all places
    BT_LIMIT_DISPLACED, // VOID: it had one, and a higher class took it
} bt_sched_limit;

typedef enum bt_sched_action_type {
    BT_ACT_HOLD,    // ask the ledger: request, amount_us (answer: HELD or REFUSED)
    BT_ACT_TOP_UP,  // request, amount_us = wanted total (answer: TOPPED_UP)
    BT_ACT_ACCEPT,  // request: held and queued; the answer's status line may go out
    BT_ACT_ADMIT,   // request, lease: give it to the engine
    BT_ACT_BUDGET,  // request, lease: tell the engine the new budget
    BT_ACT_CANCEL,  // request, lease, finish: end it in the engine (a FINISHED follows from there)
    BT_ACT_POST,    // request, amount_us: settle; it has ended (finish says how)
    BT_ACT_VOID,    // request: it used nothing; it has ended: status, and finish CANCELLED or NONE
    BT_ACT_REFUSE,  // request, status: never accepted; it has ended. retry_ns: a hint, 0 = none,
                    // also where VOID has a limit
} bt_sched_action_type;

typedef struct bt_sched_action {
    bt_sched_action_type type;
    uint64_t request;
    int64_t amount_us;
    bt_lease lease;
    bt_finish finish;
    bt_status status;
    int64_t retry_ns;
    bt_sched_limit limit; // REFUSE, VOID: with BT_EBUSY
    int32_t places;       // that it allows
} bt_sched_action;

typedef struct bt_sched bt_sched;

bt_status bt_sched_open(const bt_sched_config *config, bt_sched **out, bt_err *err);
void bt_sched_close(bt_sched *s);

/* Applies the events in order, then admits what fits. Writes at most max_actions and returns how
 * many were written; if it returns max_actions call again with n_events = 0 until fewer come back.
 * n_events is at most BT_SCHED_EVENTS_MAX. Events that name a request unknown here are ignored (it
 * has ended), and so is a second SUBMIT of a live one. Time never runs back: now_ns counts as at
 * least the last call's. */
size_t bt_sched_step(bt_sched *s, int64_t now_ns, const bt_sched_event *events, size_t n_events,
                     bt_sched_action *actions, size_t max_actions);
/* When step() should next run though nothing happens; INT64_MAX = never. */
int64_t bt_sched_next_deadline(const bt_sched *s);

/* For GET /v1/queue, SSE comments and metrics; computed on demand: one walk over the next
 * BT_SCHED_EXACT requests in order after each change, whatever the number of waiters. Behind those
 * a position is estimated from the order of arrival. Positions assume that nobody else arrives,
 * ages or is passed for want of room. */
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
    bool aged;   // waiting in the top line: no later arrival passes it
    int32_t n_seq;
} bt_sched_view;
/* account 0 = all. Waiting first in order, then running. Returns how many there are (may exceed
 * max). */
size_t bt_sched_list(const bt_sched *s, int64_t now_ns, uint64_t account, bt_sched_view *out,
                     size_t max);
/* Position and ETA of waiters, to be called at a modest rate: calls fn for those whose position
 * changed since the last call among the next BT_SCHED_EXACT in order (past the first 32 in every
 * fourth call, a quarter of them a call), and once for newcomers behind them. fn must not call back
 * into s. */
void bt_sched_positions(bt_sched *s, int64_t now_ns,
                        void (*fn)(void *ud, uint64_t request, int32_t position, int64_t eta_ms),
                        void *ud);
int32_t bt_sched_waiting(const bt_sched *s);
int32_t bt_sched_running(const bt_sched *s);
bool bt_sched_admits(const bt_sched *s); // an engine is there, and not on its way to sleep
