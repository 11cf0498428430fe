/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h - what the models and the threads of front share. Included by src/front only.
 *
 * LOCK ORDER  registry_mu, then a stream's mu; wake_mu, balances.mu and a unit's (unit.h) are leaves.
 * Never hold two others.
 *
 * THREADS  works_main (work.c), ledger_main (books.c), disk_main (disk.c); a unit has its own. */
#pragma once
#include "base/hash.h"
#include "front/stream.h"
#include "front/unit.h"

enum { BT_LEDGER_INBOX = 8192, BT_TTFT_BUCKETS = 16 };

/* ---- counters */

typedef struct bt_front_counters {
    bt_counter submitted, slow_readers;
    bt_counter finished[BT_FINISH_COUNT];
    bt_counter prompt_tokens, cached_tokens, completion_tokens;
    bt_counter charged_us;
    bt_counter ttft_bucket[BT_TTFT_BUCKETS + 1], ttft_sum_us, ttft_count;
    bt_counter queue_sum_us, queue_count;
} bt_front_counters;
void bt__count_ttft(bt_front_counters *c, int64_t ns);
/* A request that ended before it was accepted: refused, unless its client had left. */
static inline void bt__count_refused(bt_front_counters *c, bt_status st)
{
    bool left = st == BT_ECANCELLED;
    bt__count(&c->finished[left ? BT_FINISH_CANCELLED : BT_FINISH_REFUSED], 1);
}

/* ---- messages */
typedef enum bt_book_type {
    BT_BOOK_HOLD,
    BT_BOOK_TOP_UP,
    BT_BOOK_POST,
    BT_BOOK_VOID,
    BT_BOOK_SETTLE, // the unit's engine of `boot` is dead: settle its usage file
    BT_BOOK_ASK,    // a question from another thread
} bt_book_type;

typedef struct bt_ask bt_ask;

typedef struct bt_unposted bt_unposted; // books.c: what the ledger could not be told yet

typedef struct bt_book {
    bt_book_type type;
    bt_stream *stream; // one reference, HOLD .. VOID
    int64_t amount_us;
    bt_finish finish;
    bt_status status;
    bt_unit *unit;     // SETTLE
    uint64_t boot;     // SETTLE
    bt_ask *ask;       // one reference
    int64_t failed_ns; // POST, VOID: when it first could not be written; 0 = never
    bool told;         // and its client has its last event all the same
} bt_book;

/* ---- text work (work.c) */
enum { BT_LANES = 2, BT_WORKS_THREADS = 3 }; // one thread for the short lane

typedef struct bt_works_thread {
    bt_front *front;
    int lane;
    pthread_t id;
    bt_work *now; // guarded by mu of the works: what it runs
} bt_works_thread;

typedef struct bt_works {
    pthread_mutex_t mu; // a leaf: jobs run and end without it
    pthread_cond_t filled[BT_LANES];
    bt_turns turns[BT_LANES]; // guarded by mu
    bool open, closed;        // closed: guarded by mu
    bt_works_thread thread[BT_WORKS_THREADS];
    int started;
} bt_works;

/* ---- what the ledger said last (balances.c) */
typedef struct bt_balances {
    pthread_mutex_t mu;      // a leaf
    bt_map index;            // guarded by mu, as all below: account -> place in known
    struct bt__known *known; // owned
    size_t n, cap;
    bt_ledger_totals totals;
    bool totals_known;
    char refuses[248]; // why it refuses new requests just now, or ""
} bt_balances;

typedef struct bt_disk {
    pthread_t thread;
    bool started;
    pthread_mutex_t mu;
    pthread_cond_t stopped;
    bool stop; // guarded by mu
} bt_disk;

struct bt_front {
    bt_front_options opt; // strings owned, but none of `unit` and `accounts`
    char *strings[2];     // what opt points to
    uint64_t boot;
    int32_t alive_max;           // requests alive at most
    bt_unit *unit[BT_UNITS_MAX]; // owned [n_units]
    int32_t n_units;
    bt_accounts *accounts;
    bt_ledger *ledger;     // ledger thread, after open
    bt_unposted *unposted; // owned; ledger thread, after open

    bt_inbox ledger_in; // bt_book
    bt_works works;
    bt_balances balances;
    bt_disk disk;
    pthread_t ledger_thread;
    bool ledger_started, open;

    pthread_mutex_t registry_mu;
    bt_map registry;  // guarded by registry_mu: request id -> bt_stream *, one reference each
    atomic_int alive; // streams in the registry

    atomic_bool draining, stopping;
    atomic_llong drained_ns; // when the drain began; 0 = it has not

    pthread_mutex_t wake_mu;
    bt_front_wake wake; // guarded by wake_mu
    void *wake_ud;      // guarded by wake_mu
    bt_front_counters count;
};

/* ---- registry.c */
void bt__front_book(bt_front *f, const bt_book *book); // takes over the book's references
bt_stream *bt__front_find(bt_front *f, uint64_t id);   // a new reference, or NULL
bool bt__front_register(bt_front *f, bt_stream *s);    // takes over a reference; false: no memory
void bt__front_forget(bt_front *f, bt_stream *s);      // drops the registry's reference

/* ---- books.c */
bt_status bt__books_open(bt_front *f, bt_err *err);
void bt__books_release(bt_front *f); // after the ledger thread has ended
void *bt__ledger_main(void *front);  // ends when its inbox closes

/* ---- disk.c */
void *bt__disk_main(void *front); // ends when it is told to
void bt__disk_stop(bt_front *f);

/* ---- work.c */
bt_status bt__works_open(bt_front *f, bt_err *err); // starts its threads
void bt__works_close(bt_front *f); // ends what runs and what waits. Harmless if not open

/* ---- text.c */
/* BT_ECONTEXT for a prompt whose length alone says that it fits no context. */
bt_status bt__text_fits(bt_unit *u, const bt_front_request *req, bt_err *err);
/* All prompts of the request that s is the first of; takes over one reference if OK. */
bt_status bt__text_start(bt_stream *s, bt_err *err);

/* ---- parts.c. Thread: sched, where nothing else is said. */
void bt__parts_name(bt_err *err, int32_t i, int32_t n); // says whose fault it is. Thread: any
/* Nothing has run, and the first is refused: the others are forgotten. Thread: who has the first.
 */
void bt__parts_drop(bt_parts *p);
void bt__parts_submit(bt_stream *s); // to the scheduler, once it is tokens. Thread: text or sched
void bt__parts_admitted(bt_stream *s);
void bt__parts_posted(bt_stream *s); // after its post is on its way to the ledger
/* The scheduler has ended one that had not run: how that ends the rest of them, which
 * bt__parts_voided() then does; NONE: nothing has run at all, the request is refused. */
bt_finish bt__parts_over(bt_stream *s, bt_status why);
void bt__parts_voided(bt_stream *s);
/* The scheduler has refused one; true: that is taken care of. */
bool bt__parts_refused(bt_stream *s, bt_status why);

/* ---- balances.c. Thread: ledger, where nothing else is said. */
void bt__balances_open(bt_front *f);    // Thread: open
void bt__balances_release(bt_front *f); // Thread: close
/* asked_us: the tier's limit that it was asked with. */
void bt__balances_put(bt_front *f, uint64_t account_id, int64_t asked_us,
                      const bt_ledger_balance *balance);
void bt__balances_held(bt_front *f, uint64_t account_id, int64_t window_us, int64_t more_us);
void bt__balances_forget(bt_front *f); // all: something else than a request changed them
void bt__balances_totals(bt_front *f, const bt_ledger_totals *totals); // as just read
/* What a unit's engine was busy since: before its posts are, so that no more is attributed than
 * there is. */
void bt__balances_engine(bt_front *f, int64_t busy_us, int64_t house_us);
void bt__balances_refuses(bt_front *f, const char *why); // the ledger, new requests; "": no more
void bt__balances_refusal(bt_front *f, char *text, size_t cap); // what that said. Thread: any
void bt__balances_booked(bt_front *f, int holds, int64_t device_us, int64_t charged_us); // since
bool bt__balances_totals_get(bt_front *f, bt_ledger_totals *out); // Thread: any
/* Why an account is refused for its quota. Thread: any. */
void bt__quota_sentence(const bt_identity *who, const bt_ledger_balance *b, char *text, size_t cap);
