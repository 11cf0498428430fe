/* SPDX-License-Identifier: Apache-2.0 */
/* sim.h - a world for the scheduler: virtual clock, model engine, model ledger, accounts that come
 * and go.
 *
 * The clock jumps from one cause to the next: an arrival, a ledger's answer, the end of an engine's
 * step, a lease's end, a crash, or the scheduler's own next deadline. If it forgets a deadline,
 * nothing else wakes it, and the world stands still with somebody waiting: a failure.
 * The engine keeps leases and budgets as the real one does, at the ends of steps; the ledger
 * answers late, in part, or not in the client's favour. After every call everything that is
 * promised in sched.h is checked (sim_check), and a failure prints how to replay the seed. */
#pragma once
#include "sched/sched.h"
#include "base/assert.h"
#include "base/rng.h"
#include "test.h"

enum { SIM_REQS = 4096, SIM_ACCOUNTS = 16, SIM_EVENTS = 4096, SIM_SEQS = 8 };
#define SIM_NEVER INT64_MAX
#define SIM_SEC 1000000000LL
#define SIM_MS 1000000LL

typedef enum sim_state { SIM_FUTURE, SIM_HOLDING, SIM_QUEUED, SIM_RUNNING, SIM_DONE } sim_state;

typedef struct sim_req {
    bt_sched_request q;
    int account;
    sim_state state;
    int out_tokens; // true length of each sequence
    int parts_left; // that come after it, one by one
    int64_t arrive_at, cancel_at, reply_at;
    int64_t want_us; // what the ledger was asked for
    int64_t held_us;
    bool hold_open;
    /* in the engine */
    bt_lease lease;
    int prompt_left, made[SIM_SEQS], rows;
    bool deaf;    // the engine fails to end it at its deadline
    bool end_now; // a cancel arrived
    bt_finish end_why;
    int64_t used_us;
    /* what checks remember */
    int64_t queued_at, aged_at, first_token_at;
    bool cancelled;
} sim_req;

typedef struct sim_account {
    bt_sched_account a;
    int64_t limit_us, used_us, held_us;
    int64_t change_at; // last time at which its contender may have changed
    int running_seqs, waiting;
    bool parts;        // some of its requests have many
    int64_t window_us; // device time in the current window of busy time (fairness)
    int64_t total_us;
} sim_account;

typedef struct sim {
    uint64_t seed, draws;
    const char *replay; // argv[0]
    int64_t now;
    bt_sched *s;
    bt_sched_config config;
    sim_req *r; // [SIM_REQS]
    int n, first_alive;
    sim_account a[SIM_ACCOUNTS];
    int n_accounts;
    int slots, n_pages, page_tokens;
    double prefill_us, decode_us, base_us; // true step costs
    bool up, stepping;
    int64_t step_end, step_us, step_us_max;
    int64_t crash_at, up_at, drain_at;
    bool drained, tight; // tight: tables smaller than what may be alive
    int full_cls;        // the highest that was refused a place in this call
    int64_t refuse_percent, reply_delay_ns;
    size_t max_actions;
    uint32_t generation;
    bt_sched_event ev[SIM_EVENTS];
    size_t n_ev;
    uint64_t hash;
    long calls, ended, refused, voided, displaced, posted, aged_admits, expired, exhausted, faults;
    int64_t busy_us, house_us;
    void (*on_end)(struct sim *w, sim_req *r);       // may add requests; NULL = nothing
    void (*on_busy)(struct sim *w, int64_t step_us); // after each step; NULL = nothing
} sim;

void sim_open(sim *w);
void sim_close(sim *w);
void sim_run(sim *w, int64_t until_ns);
sim_req *sim_add(sim *w, int account, int64_t at, int prompt, int max_tokens, int out, int n_seq);
int64_t sim_pick(sim *w, int64_t lo, int64_t hi); // uniform, both ends included

_Noreturn static inline void sim_fail(const sim *w, const char *what, const sim_req *r)
{
    fprintf(stderr, "%s\n  request %llu at %.6f s\n  replay: %s %llu\n", what,
            r ? (unsigned long long)r->q.id : 0ULL, (double)w->now / 1e9, w->replay,
            (unsigned long long)w->seed);
    exit(1);
}
#define SIM_CHECK(w, cond, r)                                                                      \
    do {                                                                                           \
        test_checked++;                                                                            \
        if (!(cond)) sim_fail(w, __FILE__ ": does not hold: " #cond, r);                           \
    } while (0)
