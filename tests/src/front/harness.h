/* SPDX-License-Identifier: Apache-2.0 */
/* harness.h - a whole front over the bundled model: ledger, scheduler, and a real engine process.
 *
 * The test program is its own engine: front runs /proc/self/exe, and main() hands the hidden
 * command to engine_child(). LC_TEST_ENGINE in the environment makes that child misbehave. */
#pragma once
#include "src/quota/scratch.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/process.h"
#include "front/internal.h"
#include "test.h"
#include <signal.h>
#include <stdio.h>

#define MS INT64_C(1000000)
#define MODEL "models/stories260K.gguf"

static bt_front *front;

static bt_status open_slowly(const bt_engine_options *opt, bt_engine_sink sink, void *ud,
                             bt_engine **out, bt_err *err)
{
    bt_sleep_ns(2000 * MS);
    return bt_engine_open(opt, sink, ud, out, err);
}

static bt_status open_never(const bt_engine_options *opt, bt_engine_sink sink, void *ud,
                            bt_engine **out, bt_err *err)
{
    (void)opt, (void)sink, (void)ud, (void)out;
    return bt_err_set(err, BT_EFORMAT, 0, "the weights are of cheese");
}

static int engine_child(const char *fd)
{
    const char *how = getenv("LC_TEST_ENGINE");
    if (how && strcmp(how, "slow") == 0) return bt_engine_main(atoi(fd), NULL, open_slowly);
    if (how && strcmp(how, "never") == 0) return bt_engine_main(atoi(fd), NULL, open_never);
    if (how && strcmp(how, "crash") == 0) raise(SIGKILL);
    return bt_engine_main(atoi(fd), NULL, bt_engine_open);
}

static void write_file(const char *name, const char *text)
{
    FILE *f = fopen(scratch_path(name), "w");
    REQUIRE(f != NULL);
    fputs(text, f);
    REQUIRE(fclose(f) == 0 && chmod(scratch_path(name), 0600) == 0);
}

/* Tier rich: all it wants; poor: 10 ms of device time. */
static bt_front_options options(void)
{
    static char keys[512], tiers[512], data[512];
    scratch_fresh();
    write_file("keys", "k-rich rich rich\nk-poor poor poor\nk-shy shy shy\n");
    write_file("tiers", "{\"rich\":{\"gpu_seconds\":\"unlimited\",\"slots\":8,\"queue\":1000},"
                        "\"shy\":{\"gpu_seconds\":100,\"slots\":8,\"queue\":2},"
                        "\"poor\":{\"gpu_seconds\":0.01,\"slots\":2,\"queue\":8}}");
    snprintf(keys, sizeof keys, "%s", scratch_path("keys"));
    snprintf(tiers, sizeof tiers, "%s", scratch_path("tiers"));
    snprintf(data, sizeof data, "%s", scratch_path("data"));
    return (bt_front_options){
        .unit[0]
            .engine = {.model_path = MODEL, .device = "cpu", .threads = 1, .slots = 4, .ctx = 512},
        .n_units = 1,
        .data_dir = data,
        .accounts = {.api_keys = keys, .tiers = tiers},
    };
}

static void open_front(const bt_front_options *opt)
{
    bt_err err = {0};
    bt_status st = bt_front_open(opt, &front, &err);
    if (st) fprintf(stderr, "open: %s\n", err.msg);
    REQUIRE(st == BT_OK);
}

static bt_unit_state state_of(int i)
{
    bt_unit_state state;
    bt_unit_state_get(front->unit[i], &state);
    return state;
}

static bt_unit_state state(void)
{
    return state_of(0);
}

enum { SLOW = TEST_SANITIZED ? 10 : 1 }; // a sanitizer's share of the time

#define WAIT_FOR(cond, ms)                                                                         \
    do {                                                                                           \
        int64_t until_ = bt_now_ns() + (ms)*MS * SLOW;                                             \
        while (!(cond) && bt_now_ns() < until_) bt_sleep_ns(MS);                                   \
        CHECK(cond);                                                                               \
    } while (0)

static void open_ready(void)
{
    bt_front_options opt = options();
    open_front(&opt);
    WAIT_FOR(state().ready, 20000);
}

/* ---- requests */

typedef struct asked {
    bt_stream *s;
    bt_status submit;
    bt_err why; // of a submit that failed
    bool accepted, ended;
    bt_stream_event last; // its message points into the stream
    char text[8192];
    size_t n_text;
    int32_t events, tokens;
} asked;

static bt_front_request request(const char *key, int32_t max_tokens)
{
    bt_front_request r = {.text = "Once upon a time", .n_text = 16, .n_seq = 1};
    char bearer[64];
    bt_err err = {0};
    snprintf(bearer, sizeof bearer, "Bearer %s", key);
    REQUIRE(bt_account_identify(bt_front_accounts(front), bearer, NULL, "127.0.0.1", NULL,
                                &r.identity, &err) == BT_OK);
    bt_gen_params_init(&r.params);
    r.params.temperature = 0;
    r.params.max_tokens = max_tokens;
    return r;
}

static bool ask(asked *a, const bt_front_request *r)
{
    memset(a, 0, sizeof *a);
    a->submit = bt_front_submit(front, r, 1, &a->s, &a->why);
    CHECK_INT(a->submit, a->submit ? a->why.code : BT_OK);
    return a->submit == BT_OK;
}

/* Takes what is there; true at the end. */
static bool take(asked *a)
{
    bt_stream_event ev;
    while (bt_stream_next(a->s, &ev)) {
        CHECK(!a->ended); // nothing comes after the last event
        a->events++;
        a->accepted = a->accepted || ev.type == BT_SE_ACCEPTED;
        if (ev.type == BT_SE_TOKENS || ev.type == BT_SE_SEQ_END) {
            size_t n = (size_t)ev.n_text;
            if (a->n_text + n < sizeof a->text) memcpy(a->text + a->n_text, ev.text, n);
            a->n_text += n;
            a->tokens += ev.type == BT_SE_TOKENS ? ev.n_tokens : 0;
        }
        if (ev.type != BT_SE_DONE && ev.type != BT_SE_REFUSED) continue;
        a->ended = true;
        a->last = ev;
    }
    return a->ended;
}

static void finish(asked *a, int64_t ms)
{
    WAIT_FOR(take(a), ms);
}

static void forget(asked *a)
{
    bt_stream_unref(a->s);
    a->s = NULL;
}

/* ---- what must hold when nothing runs */

static bt_ledger_totals books(void)
{
    bt_ledger_totals t = {0};
    CHECK(bt__balances_totals_get(front, &t));
    return t;
}

/* All requests have ended, none holds quota, and the scheduler has nobody. */
static void check_idle(void)
{
    WAIT_FOR(atomic_load(&front->alive) == 0, 5000);
    CHECK_INT(front->registry.len, 0);
    CHECK_INT(books().holds_open, 0);
    for (int i = 0; i < front->n_units; i++) CHECK(!bt__unit_has_requests(front->unit[i]));
}

/* Closes front, then reads its books as an auditor would: busy = accounts + house, to the
 * microsecond. */
static void close_front(void)
{
    char data[512];
    snprintf(data, sizeof data, "%s", scratch_path("data"));
    bt_front_close(front);
    front = NULL;
    bt_ledger *l = ledger_in(data);
    bt_ledger_totals t = totals(l);
    CHECK_INT(t.busy_us, t.accounts_us + t.house_us);
    CHECK_INT(t.holds_open, 0);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}
