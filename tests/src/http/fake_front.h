/* SPDX-License-Identifier: Apache-2.0 */
/* fake_front.h - front.h with a script instead of an engine, for tests of src/api and src/http.
 *
 * Include it in one source file of a test program: it defines every function of front.h, so nothing
 * of the real front is linked. What a submit does is fake.plan; PLAN_HOLD leaves the stream to the
 * test, which puts events by fake_put() from any thread. Accounts are the real ones of src/quota.
 */
#pragma once
#include "base/assert.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "front/front.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAKE_EVENTS_MAX = 64, FAKE_STREAMS_MAX = 4096 };

typedef enum fake_plan {
    PLAN_ANSWER, // accepted, queued, prefilled, "Hello", " world", eos: all inside submit
    PLAN_HOLD,   // nothing: the test puts the events
    PLAN_ACCEPT, // accepted, then nothing
    PLAN_REFUSE, // REFUSED with fake.refuse_status
    PLAN_SUBMIT_FAILS,
    PLAN_BREAK, // accepted, some text, then a device fault
} fake_plan;

struct bt_stream {
    uint64_t id;
    bt_front *front;
    pthread_mutex_t mu;
    bt_stream_event ev[FAKE_EVENTS_MAX];
    int32_t n_seq, head, tail;
    atomic_int refs;
    atomic_bool cancelled;
    char account[64], tier[32];
};

struct bt_unit {
    bt_front *front;
};

struct bt_front {
    bt_unit unit;
    bt_accounts *accounts;
    bt_front_wake wake;
    void *wake_ud;
    pthread_mutex_t mu;
    fake_plan plan;
    bt_status refuse_status;
    bool ready;
    bt_stream *stream[FAKE_STREAMS_MAX]; // in the order of their submits; one reference each
    atomic_int n_streams;
    bt_front_request last; // pointers in it are dead
    char last_text[256];
    int64_t set_limit_us;
    int resets, residency;
    bool spent; // every account has used its quota
    int32_t n_waiting; // besides the one that runs; 0 = one
    atomic_int balances_asked, n_works;
};

static bt_front fake;

static inline bt_ledger_balance fake_balance(void)
{
    return (bt_ledger_balance){210000000, 10000000,         0,
                               200000000, 1767323045000000, 1767409445000000};
}

static inline void fake_open(const bt_accounts_options *accounts)
{
    memset(&fake, 0, sizeof fake);
    fake.ready = true;
    fake.unit.front = &fake;
    fake.refuse_status = BT_EBUSY;
    pthread_mutex_init(&fake.mu, NULL);
    if (accounts && bt_accounts_open(accounts, &fake.accounts, NULL) != BT_OK) abort();
}

static inline void fake_close(void)
{
    while (atomic_load(&fake.n_works)) bt_sleep_ns(1000000); // threads on their way out
    for (int i = 0; i < atomic_load(&fake.n_streams); i++) bt_stream_unref(fake.stream[i]);
    bt_accounts_close(fake.accounts);
    pthread_mutex_destroy(&fake.mu);
}

static inline void fake_put(bt_stream *s, bt_stream_event ev)
{
    pthread_mutex_lock(&s->mu);
    if (s->tail == FAKE_EVENTS_MAX) abort();
    bool wake = s->head == s->tail;
    s->ev[s->tail++] = ev;
    pthread_mutex_unlock(&s->mu);
    pthread_mutex_lock(&fake.mu);
    if (wake && fake.wake) fake.wake(fake.wake_ud, s);
    pthread_mutex_unlock(&fake.mu);
}

static inline bt_stream_event fake_accepted(void)
{
    return (bt_stream_event){.type = BT_SE_ACCEPTED,
                             .prompt_tokens = 5,
                             .lease_us = 60000000,
                             .balance = fake_balance()};
}

static inline bt_stream_event fake_text(int32_t seq, const char *text)
{
    return (bt_stream_event){.type = BT_SE_TOKENS,
                             .seq = seq,
                             .text = text,
                             .n_text = (int32_t)strlen(text),
                             .n_tokens = 1};
}

static inline bt_stream_event fake_end(int32_t seq, const char *text, bt_finish finish)
{
    bt_stream_event ev = fake_text(seq, text);
    ev.type = BT_SE_SEQ_END;
    ev.finish = finish;
    ev.n_tokens = 0;
    return ev;
}

static inline bt_stream_event fake_done(bt_status status, bt_finish finish)
{
    bt_stream_event ev = {.type = BT_SE_DONE,
                          .status = status,
                          .finish = finish,
                          .message = status ? "the device failed; try again" : "",
                          .prompt_tokens = 5,
                          .cached_tokens = 2,
                          .completion_tokens = 3,
                          .queue_us = 1500,
                          .prefill_us = 30000,
                          .decode_us = 60000,
                          .lease_us = 60000000,
                          .device_us = 90000,
                          .charged_us = 90000,
                          .balance = fake_balance()};
    return ev;
}

static inline void fake_play(bt_stream *s, fake_plan plan)
{
    if (plan == PLAN_REFUSE) {
        bt_stream_event ev = {.type = BT_SE_REFUSED,
                              .status = fake.refuse_status,
                              .message = bt_status_get(fake.refuse_status)->text,
                              .balance = fake_balance()};
        fake_put(s, ev);
        return;
    }
    if (plan == PLAN_HOLD) return;
    fake_put(s, fake_accepted());
    if (plan == PLAN_ACCEPT) return;
    fake_put(s, (bt_stream_event){.type = BT_SE_QUEUE, .position = 3, .eta_ms = 1200});
    fake_put(s, (bt_stream_event){.type = BT_SE_PREFILL, .done = 2, .total = 5});
    for (int32_t i = 0; i < s->n_seq; i++) {
        fake_put(s, fake_text(i, "Hello"));
        if (plan == PLAN_BREAK) continue;
        fake_put(s, fake_text(i, " world"));
        fake_put(s, fake_end(i, "", BT_FINISH_EOS));
    }
    fake_put(s, plan == PLAN_BREAK ? fake_done(BT_EDEVICE, BT_FINISH_DEVICE_FAULT)
                                   : fake_done(BT_OK, BT_FINISH_EOS));
}

void bt_front_on_wake(bt_front *f, bt_front_wake wake, void *ud)
{
    pthread_mutex_lock(&f->mu);
    f->wake = wake;
    f->wake_ud = ud;
    pthread_mutex_unlock(&f->mu);
}

static inline bt_stream *fake_stream(bt_front *f, const bt_front_request *req)
{
    bt_stream *s = bt_calloc(1, sizeof *s);
    if (!s) return NULL;
    s->id = bt_random_id();
    s->front = f;
    s->n_seq = req->n_seq;
    atomic_init(&s->refs, 2);
    pthread_mutex_init(&s->mu, NULL);
    memcpy(s->account, req->identity.account, sizeof s->account);
    if (req->identity.tier) memcpy(s->tier, req->identity.tier->name, sizeof s->tier);
    f->last = *req;
    bt_buf messages = BT_BUF_INIT;
    bt_jw w = bt_jw_on(&messages);
    if (req->chat) bt_jw_value(&w, req->chat->messages);
    const char *text = req->chat ? messages.data : req->text;
    snprintf(f->last_text, sizeof f->last_text, "%s", text ? text : "");
    bt_buf_release(&messages);
    return s;
}

bt_status bt_front_submit(bt_front *f, const bt_front_request *req, int32_t n, bt_stream **out,
                          bt_err *err)
{
    if (f->plan == PLAN_SUBMIT_FAILS)
        return bt_err_set(err, BT_ENOTREADY, 0, "the model is still loading");
    for (int32_t i = 0; i < n; i++) {
        int at = atomic_load(&f->n_streams);
        if (at == FAKE_STREAMS_MAX) abort();
        out[i] = fake_stream(f, &req[i]);
        if (!out[i]) {
            while (i-- > 0) bt_stream_unref(out[i]);
            return BT_ENOMEM;
        }
        f->stream[at] = out[i];
        fake_play(out[i], f->plan);
        atomic_store(&f->n_streams, at + 1);
    }
    return BT_OK;
}

uint64_t bt_stream_id(const bt_stream *s)
{
    return s->id;
}
const char *bt_stream_account(const bt_stream *s)
{
    return s->account;
}
const char *bt_stream_tier(const bt_stream *s)
{
    return s->tier;
}

bool bt_stream_next(bt_stream *s, bt_stream_event *out)
{
    pthread_mutex_lock(&s->mu);
    bool some = s->head < s->tail;
    if (some) *out = s->ev[s->head++];
    if (s->head == s->tail) s->head = s->tail = 0;
    pthread_mutex_unlock(&s->mu);
    return some;
}

void bt_stream_cancel(bt_stream *s)
{
    atomic_store(&s->cancelled, true);
}

void bt_stream_unref(bt_stream *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1) return;
    pthread_mutex_destroy(&s->mu);
    bt_free(s);
}

/* Text work: a thread of its own for each job. */
static void *fake_work(void *arg)
{
    bt_work *w = arg;
    bt_text text = {.unit = &fake.unit, .stop = {.flag = &w->cancelled}};
    w->run(w, &text);
    w->done(w, BT_OK);
    atomic_fetch_sub(&fake.n_works, 1);
    return NULL;
}

bt_status bt_work_start(bt_front *f, bt_work *w, bt_err *err)
{
    pthread_t id;
    atomic_fetch_add(&f->n_works, 1);
    if (pthread_create(&id, NULL, fake_work, w) != 0) {
        atomic_fetch_sub(&f->n_works, 1);
        return bt_err_set(err, BT_EBUSY, 0, "no thread");
    }
    pthread_detach(id);
    return BT_OK;
}

void bt_work_cancel(bt_front *f, bt_work *w)
{
    (void)f;
    atomic_store(&w->cancelled, true);
}

/* One token a byte. */
bt_status bt_front_tokenize(bt_text *t, const char *text, size_t n, bool add_special,
                            bool parse_special, size_t n_max, int32_t **ids, size_t *n_ids,
                            bt_err *err)
{
    (void)t;
    (void)parse_special;
    if (n_max && n > n_max) return bt_err_set(err, BT_ECONTEXT, 0, "too many");
    int32_t *out = bt_malloc((n + 1) * sizeof *out);
    if (!out) return bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    size_t k = 0;
    if (add_special) out[k++] = 1;
    for (size_t i = 0; i < n; i++) out[k++] = (unsigned char)text[i];
    *ids = out;
    *n_ids = k;
    return BT_OK;
}

bt_status bt_unit_detokenize(bt_unit *u, const int32_t *ids, size_t n, char **text, size_t *n_text,
                             bt_err *err)
{
    (void)u;
    char *out = bt_malloc(n + 1);
    if (!out) return bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    for (size_t i = 0; i < n; i++) {
        if (ids[i] > 127) {
            bt_free(out);
            return bt_err_set(err, BT_EINVAL, 0, "token %d is not in the vocabulary", ids[i]);
        }
        out[i] = (char)ids[i];
    }
    out[n] = 0;
    *text = out;
    *n_text = n;
    return BT_OK;
}

const bt_gen_params *bt_unit_defaults(const bt_unit *u)
{
    (void)u;
    return NULL;
}

const char *bt_unit_token_bytes(bt_unit *u, int32_t id, size_t *n)
{
    static char table[256];
    (void)u;
    if (id < 0 || id > 255) return NULL;
    table[id] = (char)id;
    *n = 1;
    return &table[id];
}

const char *bt_unit_token_piece(bt_unit *u, int32_t id, size_t *n)
{
    if (id != 1) return bt_unit_token_bytes(u, id, n);
    *n = 3;
    return "<s>";
}

/* The prompt is the messages as they came; a text with "raise" in it is refused. */
bt_status bt_front_chat(bt_text *t, const bt_template_chat *chat, bool parse_special, size_t n_max,
                        char **text, size_t *n_text, int32_t **ids, size_t *n_ids, bt_err *err)
{
    bt_buf m = BT_BUF_INIT;
    bt_jw w = bt_jw_on(&m);
    bt_status st = BT_OK;
    (void)parse_special;
    bt_jw_value(&w, chat->messages);
    if (m.failed)
        st = bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    else if (strstr(m.data, "raise"))
        st = bt_err_set(err, BT_EINVAL, 0, "roles must alternate");
    else if (ids)
        st = bt_front_tokenize(t, m.data, m.len, false, true, n_max, ids, n_ids, err);
    if (st == BT_OK && text) {
        *text = m.data;
        *n_text = m.len;
        m = (bt_buf)BT_BUF_INIT;
    }
    bt_buf_release(&m);
    return st;
}

bt_unit *bt_front_unit(bt_front *f, const char *name)
{
    (void)name;
    return &f->unit;
}

bt_unit *bt_front_unit_next(bt_front *f, const bt_unit *u)
{
    return u ? NULL : &f->unit;
}

void bt_unit_state_get(bt_unit *u, bt_unit_state *out)
{
    bt_front *f = u->front;
    *out = (bt_unit_state){.ready = f->ready,
                           .model = "tiny",
                           .load_done = 10,
                           .load_total = 100,
                           .ctx = 256,
                           .slots = 4,
                           .vocab = 256,
                           .chat_template = true,
                           .created = 1700000000};
    snprintf(out->message, sizeof out->message, "%s", f->ready ? "" : "reading the weights");
}

/* Level 1 does not exist here; level 2 and waking are noted. */
bt_status bt_unit_park(bt_unit *u, int32_t level, bt_err *err)
{
    if (level == 1) return bt_err_set(err, BT_EUNSUPPORTED, 0, "this device cannot park");
    u->front->residency = level;
    return BT_OK;
}

bt_status bt_unit_wake(bt_unit *u, bt_err *err)
{
    (void)err;
    u->front->residency = 0;
    return BT_OK;
}

const bt_accounts *bt_front_accounts(bt_front *f)
{
    return f->accounts;
}
void bt_front_metrics(bt_front *f, bt_buf *out)
{
    (void)f;
    bt_buf_adds(out, "baton_queue_depth 0\n");
}

/* Known after it was asked for once. */
bool bt_front_balance_known(bt_front *f, const bt_identity *who, bt_ledger_balance *out)
{
    (void)who;
    if (!atomic_load(&f->balances_asked)) return false;
    *out = fake_balance();
    return true;
}

bt_status bt_front_admits(bt_front *f, const bt_identity *who, bt_ledger_balance *balance,
                          bt_err *err)
{
    if (!f->spent) return BT_OK;
    *balance = fake_balance();
    balance->remaining_us = 0;
    return bt_err_set(err, BT_EQUOTA, 0, "account %s has used its time", who->account);
}

bt_status bt_front_balance(bt_front *f, const bt_identity *who, bt_ledger_balance *out, bt_err *err)
{
    (void)who;
    (void)err;
    atomic_fetch_add(&f->balances_asked, 1);
    *out = fake_balance();
    return BT_OK;
}

int32_t bt_front_queue(bt_front *f, uint64_t account_id, bt_front_queue_entry *out, int32_t max,
                       int32_t *depth, int32_t *slots)
{
    (void)f;
    int32_t n = BT_MIN(BT_MAX(fake.n_waiting, 1), max), i;
    *depth = 7;
    *slots = 4;
    for (i = 0; i < n; i++) {
        out[i] = (bt_front_queue_entry){
            .request = 0xabc, .position = 2 + i, .eta_ms = 900, .waited_ms = 5};
        snprintf(out[i].account, sizeof out[i].account, "%s", account_id ? "mine" : "someone");
    }
    if (n < max)
        out[i++] = (bt_front_queue_entry){
            .request = 0xdef, .running = true, .slot = 1, .lease_ms = 60000, .left_ms = 59500};
    return i;
}

bt_status bt_front_quota_set(bt_front *f, const char *account, int64_t limit_us, bt_err *err)
{
    (void)account;
    (void)err;
    f->set_limit_us = limit_us;
    return BT_OK;
}

bt_status bt_front_quota_reset(bt_front *f, const char *account, bt_err *err)
{
    (void)account;
    (void)err;
    f->resets++;
    return BT_OK;
}

bt_status bt_front_quota_list(bt_front *f, bt_ledger_account_fn fn, void *ud, bt_err *err)
{
    (void)f;
    (void)err;
    bt_ledger_balance b = fake_balance();
    fn(ud, "key:alice", -1, &b);
    fn(ud, "key:bob", f->set_limit_us, &b);
    return BT_OK;
}

/* What the engine's layer defines; a test of api or http needs no engine. */
__attribute__((weak)) void bt_gen_params_init(bt_gen_params *p)
{
    *p = (bt_gen_params){.temperature = 1,
                         .top_p = 1,
                         .repeat_penalty = 1,
                         .repeat_last_n = 64,
                         .max_tokens = 16,
                         .cache_prompt = true,
                         .n_logprobs = -1};
}

__attribute__((weak)) const char *bt_finish_name(bt_finish f)
{
    static const char *const name[] = {
#define X(id, text) text,
        BT_FINISH_MAP(X)
#undef X
    };
    return name[f];
}
