/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h - what the threads of front share. Included by src/front only.
 *
 * LOCK ORDER  registry_mu, then a stream's mu; sched_mu, link.tx_mu, usage_mu, down_mu and wake_mu
 * are leaves. Never hold two others.
 *
 * THREADS  works_main (work.c), sched_main (loop.c), ledger_main (books.c), disk_main (disk.c),
 *          link_main (link.c). */
#pragma once
#include "base/hash.h"
#include "base/inbox.h"
#include "front/front.h"
#include "front/stream.h"
#include "front/work.h"
#include "ledger/usage.h"
#include "chat/template_chat.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

enum {
    /* Beyond what each living request may have in flight, see open_inboxes(). */
    BT_SCHED_INBOX = 16384,
    BT_LEDGER_INBOX = 8192,
    BT_RUNNING_MAX = BT_USAGE_ENTRIES, // requests alive beyond those that wait
    BT_TTFT_BUCKETS = 16,
};

/* ---- counters: written where the thing happens, read by metrics.c */
typedef atomic_ullong bt_counter;
static inline void bt__count(bt_counter *c, uint64_t n)
{
    atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

typedef struct bt_front_counters {
    bt_counter submitted, slow_readers;
    bt_counter finished[BT_FINISH_COUNT];
    bt_counter prompt_tokens, cached_tokens, completion_tokens;
    bt_counter charged_us;
    bt_counter steps, step_us, step_rows, step_longest_us;
    bt_counter ttft_bucket[BT_TTFT_BUCKETS + 1], ttft_sum_us, ttft_count;
    bt_counter queue_sum_us, queue_count;
    bt_counter engine_restarts, not_finite;
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
    BT_BOOK_SETTLE, // the engine of `boot` is dead: settle its usage file
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
    uint64_t boot;
    bt_ask *ask;       // one reference
    int64_t failed_ns; // POST, VOID: when it first could not be written; 0 = never
    bool told;         // and its client has its last event all the same
} bt_book;

/* ---- the engine process and its socket */
/* What a device's memory was when the engine was ready, so that its return can be seen. */
typedef struct bt_held {
    char device_id[64];
    uint64_t used_bytes; // of the device by everybody; 0 = nobody could tell
    uint64_t bytes;      // of that what the engine took for weights, KV and scratch
} bt_held;

typedef struct bt_link {
    pthread_t thread;
    pthread_mutex_t tx_mu;
    bt_buf tx;       // guarded by tx_mu: what the socket has not taken yet
    int fd;          // guarded by tx_mu; -1 while there is no engine
    int wake_fd;     // tells the link thread that tx is not empty, or to wake from sleep
    int64_t busy_ns; // link thread: when there was last a request
    pid_t pid;       // link thread
    bool fatal;      // link thread: the engine has said why it cannot go on
    bool finite;     // link thread: this engine has drawn a token, so its numbers can be finite
    bt_held held;    // link thread: device memory of the engine, as the driver told it
    pthread_mutex_t usage_mu;
    bt_usage *usage;    // guarded by usage_mu; owned: the current engine's crash file
    uint64_t boot;      // guarded by usage_mu: its id
    bt_usage_bank bank; // ledger thread's copy
    pthread_mutex_t down_mu;
    pthread_cond_t down_cond;
    uint64_t down_settled; // guarded by down_mu: boot whose books are closed
} bt_link;

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
    uint64_t boot; // the engine whose time, up to here, is in totals
    int64_t boot_busy_us, boot_house_us;
} bt_balances;

/* How far the engine is on its way to sleep (residency.c). */
enum { BT_SLEEP_NO, BT_SLEEP_ASKED, BT_SLEEP_WANTED, BT_SLEEP_STOPPING };

typedef struct bt_disk {
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t stopped;
    bool stop; // guarded by mu
} bt_disk;

struct bt_front {
    bt_front_options opt; // strings owned
    char *strings[8];     // what opt points to
    uint64_t boot;
    bt_accounts *accounts;
    bt_ledger *ledger;     // ledger thread, after open
    bt_unposted *unposted; // owned; ledger thread, after open
    bt_sched *sched;       // guarded by sched_mu
    pthread_mutex_t sched_mu;

    bt_vocab *vocab; // constant after open, as the three below
    bt_tokenizer *tokenizer;
    bt_chat *chat; // NULL: chat_why
    bt_err chat_why;

    bt_inbox sched_in;  // bt_sched_event
    bt_inbox ledger_in; // bt_book
    bt_works works;
    bt_balances balances;
    pthread_t sched_thread, ledger_thread;
    int threads_started; // how many of ledger, disk, sched, link run
    bt_disk disk;
    bt_link link;

    pthread_mutex_t registry_mu;
    bt_map registry;  // guarded by registry_mu: request id -> bt_stream *, one reference each
    atomic_int alive; // streams in the registry

    pthread_mutex_t state_mu;
    bt_front_state state; // guarded by state_mu
    char state_message[248], state_model[128];
    atomic_bool draining, stopping, wake_wanted;
    atomic_int sleep;        // BT_SLEEP_*
    atomic_llong drained_ns; // when the drain began; 0 = it has not

    pthread_mutex_t wake_mu;
    bt_front_wake wake; // guarded by wake_mu
    void *wake_ud;      // guarded by wake_mu
    bt_front_counters count;
};

/* ---- front.c */
void bt__front_wake(bt_front *f, bt_stream *s);
void bt__front_event(bt_front *f, const bt_sched_event *ev);
void bt__front_event_simple(bt_front *f, bt_sched_event_type type, uint64_t request);
void bt__front_book(bt_front *f, const bt_book *book); // takes over the book's references
bt_stream *bt__front_find(bt_front *f, uint64_t id);   // a new reference, or NULL
bool bt__front_register(bt_front *f, bt_stream *s);    // takes over a reference; false: no memory
void bt__front_forget(bt_front *f, bt_stream *s);      // drops the registry's reference
void bt__front_say(bt_front *f, bool ready, const char *message); // state for /health

/* ---- thread bodies; each takes the bt_front and ends when its inbox closes */
void *bt__sched_main(void *front);
void *bt__ledger_main(void *front);
void *bt__link_main(void *front);

/* ---- work.c */
bt_status bt__works_open(bt_front *f, bt_err *err); // starts its threads
void bt__works_close(bt_front *f); // ends what runs and what waits. Harmless if not open

/* ---- text.c */
/* BT_ECONTEXT for a prompt whose length alone says that it fits no context. */
bt_status bt__text_fits(bt_front *f, const bt_front_request *req, bt_err *err);
/* All prompts of the request that s is the first of; takes over one reference if OK. */
bt_status bt__text_start(bt_front *f, bt_stream *s, bt_err *err);
void bt__text_submit(bt_front *f, bt_stream *s); // to the scheduler, once it is tokens

/* ---- parts.c. Thread: sched, where nothing else is said. */
/* Streams of n prompts of one request, with one reference each. Thread: http. */
bt_parts *bt__parts_new(bt_front *f, const bt_front_request *req, int32_t n, bt_err *err);
void bt__parts_unref(bt_parts *p); // Thread: any
void bt__parts_name(bt_err *err, int32_t i, int32_t n); // says whose fault it is. Thread: any
/* Nothing has run, and the first is refused: the others are forgotten. Thread: who has the first.
 */
void bt__parts_drop(bt_parts *p);
void bt__parts_admitted(bt_front *f, bt_stream *s);
void bt__parts_posted(bt_front *f, bt_stream *s); // after its post is on its way to the ledger
/* The scheduler has ended one that had not run: how that ends the rest of them, which
 * bt__parts_voided() then does; NONE: nothing has run at all, the request is refused. */
bt_finish bt__parts_over(bt_stream *s, bt_status why);
void bt__parts_voided(bt_front *f, bt_stream *s);
/* The scheduler has refused one; true: that is taken care of. */
bool bt__parts_refused(bt_front *f, bt_stream *s, bt_status why);

/* ---- link.c: commands to the engine. Thread: any. Dropped silently while there is none. */
void bt__link_open(bt_front *f);
void bt__link_release(bt_front *f);
/* BT_ENOMEM: the engine was not told. */
bt_status bt__link_submit(bt_front *f, const bt_stream *s, const bt_lease *lease);
void bt__link_budget(bt_front *f, uint64_t request, const bt_lease *lease);
void bt__link_cancel(bt_front *f, uint64_t request, const bt_lease *lease, bt_finish why);
void bt__link_done(bt_front *f, uint64_t request); // posted: the engine may free its usage entry
void bt__link_stop(bt_front *f);                   // asks the engine to end
void bt__link_park(bt_front *f);                   // or to give its device memory back
void bt__link_wake(bt_front *f);                   // or to take it again
void bt__link_down_settled(bt_front *f, uint64_t boot); // a dead engine's books are closed

/* ---- residency.c */
void bt__residency_ready(bt_front *f, const bt_engine_event *ev); // Thread: link
void bt__residency_told(bt_front *f, const bt_engine_event *ev);  // Thread: link
void bt__residency_idle(bt_front *f);   // parks after the idle time. Thread: link, each second
void bt__residency_needed(bt_front *f); // a request was accepted: nobody sleeps now
void bt__residency_admits_no_more(bt_front *f); // Thread: sched, after ENGINE_ASLEEP
void bt__residency_settled(bt_front *f);        // Thread: sched, after each round
bool bt__residency_stopping(bt_front *f);       // the engine was asked to end, for sleep
void bt__residency_sleep(bt_front *f);          // until it is woken. Thread: link

/* ---- disk.c */
void *bt__disk_main(void *front);
void bt__disk_stop(bt_front *f);

/* ---- books.c */
bt_status bt__books_open(bt_front *f, bt_err *err);
void bt__books_release(bt_front *f); // after the ledger thread has ended

/* ---- balances.c. Thread: ledger, where nothing else is said. */
void bt__balances_open(bt_front *f);    // Thread: open
void bt__balances_release(bt_front *f); // Thread: close
/* asked_us: the tier's limit that it was asked with. */
void bt__balances_put(bt_front *f, uint64_t account_id, int64_t asked_us,
                      const bt_ledger_balance *balance);
void bt__balances_held(bt_front *f, uint64_t account_id, int64_t window_us, int64_t more_us);
void bt__balances_forget(bt_front *f); // all: something else than a request changed them
void bt__balances_totals(bt_front *f, const bt_ledger_totals *totals); // as just read
/* The engine's cumulative times since: before its posts are, so that no more is attributed than
 * there is. */
void bt__balances_engine(bt_front *f, uint64_t boot, int64_t busy_us, int64_t house_us);
void bt__balances_booked(bt_front *f, int holds, int64_t device_us, int64_t charged_us); // since
bool bt__balances_totals_get(bt_front *f, bt_ledger_totals *out); // Thread: any
/* Why an account is refused for its quota. Thread: any. */
void bt__quota_sentence(const bt_identity *who, const bt_ledger_balance *b, char *text, size_t cap);
