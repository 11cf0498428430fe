/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - the tables behind sched.h; seen by src/sched only.
 *
 * Requests and accounts are rows of two tables made at open; a row is named by its index, and -1 is
 * none. Who is in which list:
 *   request HOLDING   waits (arrival order)
 *           QUEUED    waits, its account's line
 *           RUNNING   running, backstop heap
 *           ENDING    ending: its last action is still to be written
 *   account           idle (nothing alive: may be forgotten, oldest first) or, with a line, lined;
 *                     and, while it competes, one of order[level] or the top line. */
#pragma once
#include "sched/estimate.h"
#include "sched/heap.h"
#include "sched/sched.h"
#include "base/assert.h"
#include "base/hash.h"

enum {
    BT__TOP_LINE = BT_SCHED_CLASSES, // an account's level when its contender stands in the top line
    BT__LINE_PASS_MAX = 32,          // requests that a shorter lease passes in its account's line
    BT__BYPASS_MAX = 8,              // contenders that may be passed for want of room, at a time
    BT__NEAR = 32,                   // positions up to here are told at every change,
    BT__FAR_EVERY = 4,               // others once in so many calls
    BT__FAIR_WAIT_MAX = 6,           // in age_ns
    BT__RING = 2 * BT_SCHED_EVENTS_MAX,
};

typedef struct bt__link {
    int32_t prev, next;
} bt__link;

typedef struct bt__list {
    int32_t head, tail;
} bt__list;

typedef enum bt__req_state {
    BT__REQ_FREE,
    BT__REQ_HOLDING,
    BT__REQ_QUEUED,
    BT__REQ_RUNNING,
    BT__REQ_ENDING,
} bt__req_state;

typedef struct bt__req {
    uint64_t id, seq; // seq: order of arrival
    bt__req_state state;
    int32_t account;
    int32_t prompt_tokens, max_tokens, n_seq;
    int32_t pages; // RUNNING: reserved in the engine
    int64_t lease_ns, submit_ns, admit_ns;
    int64_t blocked_ns; // first found not to fit; -1 = never
    int64_t predicted_us, cost_us;
    int64_t charged_us; // of it the account's counter knows
    double weight;      // the account's when it was charged
    int64_t held_us, used_us;
    bool held_final, topping_up, cancel_sent, follows;
    bool doomed; // HOLDING: ends as `end` says when the ledger answers
    bt_lease lease;
    bt_sched_action end; // ENDING (doomed: finish and status)
    bt__link link;       // line, running or ending
    bt__link wait;
    int32_t told; // position last given to bt_sched_positions' fn; 0 = none
    int32_t rank; // position found by walk number rank_walk
    uint64_t rank_walk;
} bt__req;

/* Anonymous accounts stand in lists of their own, so that all can be passed over at once. */
enum { BT__NAMED, BT__ANONYMOUS, BT__SIDES };

typedef struct bt__account {
    uint64_t id, group;
    int32_t cls, slots, queue;
    int32_t side; // BT__NAMED or BT__ANONYMOUS
    double weight;
    int64_t counter;   // virtual: device ns / weight
    int64_t pending; // of it, what running requests were charged and have not used
    double out_tokens; // mean completion; < 0 = nothing known
    int32_t alive;     // requests not yet ended
    int32_t n_waiting; // HOLDING and QUEUED
    int32_t running_seqs;
    bt__list line;
    int64_t line_us; // cost of all in it
    /* while it competes (level >= 0) */
    int32_t level;     // 0..2, or BT__TOP_LINE
    int32_t contender; // the line's head when it began to compete
    int64_t tag;       // key in order[level]
    int64_t age_due_ns;
    uint64_t top_seq; // when it came to the top line
    bt__link top;     // in the top line
    bt__link link;  // idle, or unused rows
    bt__link lined; // has a line
} bt__account;

typedef struct bt__engine {
    bool up, known; // known: its sizes are
    int32_t slots, slots_free;
    int32_t n_pages, pages_free, page_tokens;
    int32_t anonymous_slots, anonymous_pages; // what anonymous requests may take
    int32_t anonymous_seqs, anonymous_held;   // slots and pages they have
    int32_t owner[BT_SCHED_SLOTS_MAX];        // request in each slot, -1 = free
} bt__engine;

/* What bt_sched_list and its kin compute; apart, so that asking leaves a const bt_sched alone. */
typedef struct bt__walk {
    uint64_t number;  // grows with each walk
    uint64_t version; // of the state walked
    bt__heap heap;    // accounts by the tag of their next request
    int32_t *cursor;  // [accounts] owned
    int64_t *tag;     // [accounts] owned
    int32_t *rank;    // [n_rank] owned: requests in order
    int32_t n_rank;
} bt__walk;

struct bt_sched {
    bt_sched_config config;
    int64_t now_ns;
    uint64_t seq, version, tellings;
    uint32_t generation;
    bool draining;
    bt__req *req;         // [requests_max] owned
    bt__account *account; // [accounts_max] owned
    bt_map req_by_id, account_by_id;
    bt__list free_reqs, waits, running, ending;
    bt__list free_accounts, idle, lined, top_line[BT__SIDES];
    uint64_t top_seq;
    int32_t n_waiting, n_running;
    int32_t n_class[BT_SCHED_CLASSES], n_anonymous; // of those who wait
    int32_t class_max[BT_SCHED_CLASSES];            // for it and the classes below
    bt_map group_waiting;                           // group -> how many wait
    bt__heap order[BT__SIDES][BT_SCHED_CLASSES];    // contenders by tag
    bt__heap last[BT_SCHED_CLASSES];      // accounts with a line, by whose end is last in order
    bt__heap floor[BT_SCHED_CLASSES];     // contenders of that class by birth, by what they had
    int64_t floor_last[BT_SCHED_CLASSES]; // the floor while nobody competes
    double weights[BT_SCHED_CLASSES];     // sum over floor
    bt__heap ageing;                      // contenders by when they climb
    bt__heap backstop;                    // running requests by when they are surely overdue
    bt__engine engine;
    bt__estimate cost;
    double tagged_prefill_us, tagged_decode_us; // the estimates that all tags were last made from
    int64_t tagged_ns;                          // when
    double admit_gap_ns;   // mean time between admissions while somebody waits; < 0 = not known
    int64_t admit_last_ns; // -1: nobody waited since
    bt_sched_action *ring; // [BT__RING] owned: written before what has room
    uint32_t ring_at, ring_len;
    bt__walk *walk; // owned
};

/* Which link of a row a list uses: offsets into the row. */
#define BT__LIST_NONE ((bt__list){-1, -1})
void bt__list_add(bt__list *l, void *rows, size_t row_bytes, size_t offset, int32_t i);
/* Puts i after `after` (-1: first). */
void bt__list_insert(bt__list *l, void *rows, size_t row_bytes, size_t offset, int32_t after,
                     int32_t i);
void bt__list_remove(bt__list *l, void *rows, size_t row_bytes, size_t offset, int32_t i);
#define BT__REQ_ADD(s, list, field, i)                                                             \
    bt__list_add(list, (s)->req, sizeof(bt__req), offsetof(bt__req, field), i)
#define BT__REQ_REMOVE(s, list, field, i)                                                          \
    bt__list_remove(list, (s)->req, sizeof(bt__req), offsetof(bt__req, field), i)
#define BT__ACCOUNT_ADD(s, list, field, i)                                                         \
    bt__list_add(list, (s)->account, sizeof(bt__account), offsetof(bt__account, field), i)
#define BT__ACCOUNT_REMOVE(s, list, field, i)                                                      \
    bt__list_remove(list, (s)->account, sizeof(bt__account), offsetof(bt__account, field), i)

/* Predicts its cost from what is known now: at submit, when it begins to compete, at admission. */
void bt__req_predict(bt_sched *s, bt__req *r);

/* order.c: who is next. */
int64_t bt__virtual(int64_t us, double weight);
/* The account's row, a new one if need be; -1: all rows are of accounts with something alive. */
int32_t bt__account_get(bt_sched *s, const bt_sched_account *who);
void bt__account_alive(bt_sched *s, int32_t ai, int32_t by); // +1 or -1 request
/* Moves the counter, and how much of it is pending. */
void bt__account_charge(bt_sched *s, int32_t ai, int64_t delta, int64_t pending);
/* Makes it compete, or stop, after its line or its running sequences changed. */
void bt__account_update(bt_sched *s, int32_t ai);
void bt__line_push(bt_sched *s, int32_t ri);
void bt__line_remove(bt_sched *s, int32_t ri);
/* The account whose contender is next in order, -1 = none. */
int32_t bt__order_first(const bt_sched *s, bool anonymous_too);
/* Of a class below cls, the lowest that waits: the request that is last in order, -1 = none. */
int32_t bt__order_last(const bt_sched *s, int32_t cls);
/* The account's row, -1 = none: nothing of it is alive or remembered. */
int32_t bt__account_find(const bt_sched *s, uint64_t id);
void bt__order_climb(bt_sched *s); // all whose time has come
/* Gives all contenders new tags, after the cost estimates moved: tags made from different
 * estimates must not meet. Nobody's ageing begins later for it. */
void bt__order_repredict(bt_sched *s);

static inline double bt__out_tokens(const bt_sched *s, const bt__account *a)
{
    return a->out_tokens >= 0 ? a->out_tokens : s->cost.out_tokens;
}
