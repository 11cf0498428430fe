/* SPDX-License-Identifier: Apache-2.0 */
/* unit.h - one model: all that front keeps of it, and the two threads it has of its own.
 *
 * What is shared by all models (accounts, ledger, registry, text threads) is in bt_front
 * (internal.h). Units know nothing of each other: each has its engine process, its queue and its
 * residency. Included by src/front only.
 *
 * LOCKS    sched_mu, state_mu and link.tx_mu, usage_mu, down_mu are leaves.
 * THREADS  bt__sched_main (loop.c), bt__life_main (life.c, the "link thread"). */
#pragma once
#include "base/buf.h"
#include "base/inbox.h"
#include "baton/usage.h"
#include "chat/template_chat.h"
#include "front/front.h"
#include "ledger/usage.h"
#include "sched/sched.h"
#include "token/encode.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

enum {
    /* Beyond what each living request may have in flight, see open_sched() in unit.c. */
    BT_SCHED_INBOX = 16384,
    BT_RUNNING_MAX = BT_USAGE_ENTRIES, // requests alive beyond those that wait
    BT_HEARD_MAX = 320,                // scheduler events of one look at the engine's socket
};

/* Written where the thing happens, read by metrics.c. */
typedef atomic_ullong bt_counter;
static inline void bt__count(bt_counter *c, uint64_t n)
{
    atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

typedef struct bt_unit_counters {
    bt_counter steps, step_us, step_rows, step_longest_us;
    bt_counter engine_restarts, not_finite;
} bt_unit_counters;

/* Time of an engine, since its start. */
typedef struct bt_spent {
    int64_t busy_us, house_us;
} bt_spent;

/* The engine process and its socket (link.c). */
typedef struct bt_link {
    pthread_mutex_t tx_mu;
    bt_buf tx;   // guarded by tx_mu: what the socket has not taken yet
    int fd;      // guarded by tx_mu; -1 while there is no engine
    int wake_fd; // tells the link thread that tx is not empty, or to look at residency
    /* link thread */
    pid_t pid;
    bool fatal;  // the engine has said why it cannot go on
    bool finite; // this engine has drawn a token, so its numbers can be finite
    bt_sched_event heard[BT_HEARD_MAX]; // of what was read, to be pushed at once
    size_t n_heard;
    pthread_mutex_t usage_mu;
    bt_usage *usage; // guarded by usage_mu; owned: the current engine's crash file
    uint64_t boot;   // guarded by usage_mu: its id
    /* ledger thread */
    bt_usage_bank bank;    // what it read last
    bt_spent told, booked; // of the engine `spent_boot`: in the totals; in the ledger
    uint64_t spent_boot;
    bool usage_said; // the log has been told that the usage file is no good
    pthread_mutex_t down_mu;
    pthread_cond_t down_cond;
    uint64_t down_settled; // guarded by down_mu: boot whose books are closed
} bt_link;

/* What a device's memory was when the engine was ready, so that its return can be seen. */
typedef struct bt_held {
    char device_id[64];
    uint64_t used_bytes; // of the device by everybody; 0 = nobody could tell
    uint64_t bytes;      // of that what the engine took for weights, KV and scratch
} bt_held;

/* The link thread puts the model to sleep and wakes it; others ask (residency.c). */
typedef struct bt_unit_residency {
    atomic_int asked;   // a level that somebody wants it at; 0 = none
    atomic_bool needed; // somebody wants it to run
    atomic_int stage;   // bt_sleep_stage; link thread writes
    int64_t busy_ns;    // link thread: when there was last a request
    bt_held held;       // link thread: device memory of the engine, as the driver told it
} bt_unit_residency;

struct bt_unit {
    bt_front *front;     // borrowed
    int32_t index;       // in front's
    bt_unit_options opt; // strings owned
    char *strings[5];    // what opt points to
    char name[128];

    bt_vocab *vocab; // constant after open, as what is below
    bt_tokenizer *tokenizer;
    bt_chat *chat; // NULL: chat_why
    bt_err chat_why;
    bt_gen_params defaults;

    bt_sched *sched; // guarded by sched_mu
    pthread_mutex_t sched_mu;
    bt_inbox sched_in; // bt_sched_event
    bt_link link;
    bt_unit_residency residency;
    pthread_t sched_thread, link_thread;
    bool sched_started, link_started;

    pthread_mutex_t state_mu;
    bt_unit_state state; // guarded by state_mu
    bt_unit_counters count;
};

/* Copies a string that options point to, so that it outlives the caller's, into the first free of n
 * strings; NULL for NULL. */
const char *bt__keep(char **strings, size_t n, const char *s);

/* ---- unit.c */
/* A sound file, its vocabulary and templates, an empty queue; no threads. *out is to be closed
 * after a failure too. */
bt_status bt__unit_open(bt_front *f, const bt_unit_options *opt, bt_unit **out, bt_err *err);
void bt__unit_close(bt_unit *u); // NULL is fine
/* To the scheduler: all n or, after a second without room, none. Thread: any. */
void bt__unit_events(bt_unit *u, const bt_sched_event *ev, size_t n);
void bt__unit_event(bt_unit *u, bt_sched_event_type type, uint64_t request); // a plain one
void bt__unit_say(bt_unit *u, bool ready, const char *message);              // state for /health
int32_t bt__unit_ctx(bt_unit *u); // the context; before READY by the engine's own rule
bool bt__unit_has_running(bt_unit *u);
bool bt__unit_has_requests(bt_unit *u); // running or waiting

/* ---- thread bodies; each takes the bt_unit */
void *bt__sched_main(void *unit); // loop.c; ends when its inbox closes
void *bt__life_main(void *unit);  // life.c; ends when front stops

/* ---- link.c: commands to the engine. Thread: any. Dropped silently while there is none. */
void bt__link_open(bt_link *l);
void bt__link_release(bt_link *l);
/* BT_ENOMEM: the engine was not told. */
bt_status bt__link_submit(bt_link *l, const bt_engine_request *req);
void bt__link_budget(bt_link *l, uint64_t request, const bt_lease *lease);
void bt__link_cancel(bt_link *l, uint64_t request, const bt_lease *lease, bt_finish why);
void bt__link_done(bt_link *l, uint64_t request); // posted: the engine may free its usage entry
void bt__link_stop(bt_link *l);                   // asks the engine to end
void bt__link_park(bt_link *l);                   // or to give its device memory back
void bt__link_wake(bt_link *l);                   // or to take it again
void bt__link_poke(bt_link *l);                   // has the link thread look around
void bt__link_down_settled(bt_link *l, uint64_t boot); // a dead engine's books are closed
/* Thread: link, as all below. Starts a process; *fd: its socket, to be read. */
bt_status bt__link_spawn(bt_unit *u, int *fd, bt_err *err);
/* Waits for frames, and meanwhile sends what tx holds. False: nothing to read. */
bool bt__link_wait(bt_link *l, int fd, int ms);
/* No command goes to it any more, and its process is gone; patient: it is ending by itself. Its
 * exit code, 128 + signal, or -1 if somebody else reaped it. */
int bt__link_reap(bt_link *l, int fd, bool patient);

/* ---- residency.c */
void bt__residency_needed(bt_unit *u); // a request was accepted: nobody sleeps now. Thread: any
/* Thread: link, all below. */
void bt__residency_begin(bt_unit *u); // another engine is started
void bt__residency_ready(bt_unit *u, const bt_engine_event *ev);
void bt__residency_told(bt_unit *u, const bt_engine_event *ev);
int bt__residency_turn(bt_unit *u);      // does what is due; in how many ms to come again
bool bt__residency_stopping(bt_unit *u); // the engine was asked to end, for sleep
void bt__residency_sleep(bt_unit *u);    // until it is woken
