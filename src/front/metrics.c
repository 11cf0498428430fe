/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.c - the Prometheus text of front. Reads counters that live where things happen; changes
 * nothing. */
#include "base/assert.h"
#include "base/log.h"
#include "front/internal.h"
#include <inttypes.h>

/* Upper bounds of time to first token, seconds; roughly x2 from a millisecond to minutes. */
static const double ttft_bound_s[BT_TTFT_BUCKETS] = {
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120};

void bt__count_ttft(bt_front_counters *c, int64_t ns)
{
    int i = 0;
    while (i < BT_TTFT_BUCKETS && (double)ns / 1e9 > ttft_bound_s[i]) i++;
    bt__count(&c->ttft_bucket[i], 1);
    bt__count(&c->ttft_sum_us, (uint64_t)ns / 1000);
    bt__count(&c->ttft_count, 1);
}

static void head(bt_buf *b, const char *name, const char *type, const char *help)
{
    bt_buf_addf(b, "# HELP baton_%s %s\n# TYPE baton_%s %s\n", name, help, name, type);
}

static void one(bt_buf *b, const char *name, const char *type, const char *help, double value)
{
    head(b, name, type, help);
    bt_buf_addf(b, "baton_%s %.17g\n", name, value);
}

static void ledger_part(bt_front *f, bt_buf *b)
{
    bt_ledger_totals t;
    if (!bt__balances_totals_get(f, &t)) return; // a scrape must not wait for a stuck disk
    one(b, "device_busy_microseconds_total", "counter",
        "Device time by the engine's clock, as of what is attributed.", (double)t.busy_us);
    head(b, "attributed_microseconds_total", "counter",
         "Device time attributed, by who carries it.");
    bt_buf_addf(b, "baton_attributed_microseconds_total{to=\"accounts\"} %" PRId64 "\n",
                t.accounts_us);
    bt_buf_addf(b, "baton_attributed_microseconds_total{to=\"house\"} %" PRId64 "\n", t.house_us);
    one(b, "charged_microseconds_total", "counter", "Device time charged to accounts.",
        (double)t.charged_us);
    one(b, "holds_open", "gauge", "Holds neither posted nor voided.", (double)t.holds_open);
}

static void requests_part(bt_front *f, bt_buf *b)
{
    const bt_front_counters *c = &f->count;
    head(b, "requests_total", "counter", "Requests ended, by how.");
    for (int i = 1; i < BT_FINISH_COUNT; i++)
        bt_buf_addf(b, "baton_requests_total{finish=\"%s\"} %llu\n", bt_finish_name((bt_finish)i),
                    atomic_load(&c->finished[i]));
    head(b, "tokens_total", "counter", "Tokens, by kind.");
    bt_buf_addf(b, "baton_tokens_total{kind=\"prompt\"} %llu\n", atomic_load(&c->prompt_tokens));
    bt_buf_addf(b, "baton_tokens_total{kind=\"cached\"} %llu\n", atomic_load(&c->cached_tokens));
    bt_buf_addf(b, "baton_tokens_total{kind=\"completion\"} %llu\n",
                atomic_load(&c->completion_tokens));
    one(b, "slow_readers_total", "counter", "Requests ended because their client did not read.",
        (double)atomic_load(&c->slow_readers));
}

static void ttft_part(bt_front *f, bt_buf *b)
{
    const bt_front_counters *c = &f->count;
    unsigned long long sum = 0;
    head(b, "time_to_first_token_seconds", "histogram", "From submit to the first token.");
    for (int i = 0; i <= BT_TTFT_BUCKETS; i++) {
        sum += atomic_load(&c->ttft_bucket[i]);
        if (i < BT_TTFT_BUCKETS)
            bt_buf_addf(b, "baton_time_to_first_token_seconds_bucket{le=\"%g\"} %llu\n",
                        ttft_bound_s[i], sum);
        else
            bt_buf_addf(b, "baton_time_to_first_token_seconds_bucket{le=\"+Inf\"} %llu\n", sum);
    }
    bt_buf_addf(b, "baton_time_to_first_token_seconds_sum %.6f\n",
                (double)atomic_load(&c->ttft_sum_us) / 1e6);
    bt_buf_addf(b, "baton_time_to_first_token_seconds_count %llu\n", sum);
    head(b, "queue_wait_seconds", "summary", "From submit to a lease.");
    bt_buf_addf(b, "baton_queue_wait_seconds_sum %.6f\nbaton_queue_wait_seconds_count %llu\n",
                (double)atomic_load(&c->queue_sum_us) / 1e6, atomic_load(&c->queue_count));
}

/* What the units add up to. */
typedef struct sums {
    bool ready; // all are
    int32_t slots, waiting, running;
    unsigned long long steps, step_rows, step_us, step_longest_us, restarts, not_finite;
} sums;

static void sums_add(sums *t, bt_unit *u)
{
    const bt_unit_counters *c = &u->count;
    pthread_mutex_lock(&u->state_mu);
    t->ready = t->ready && u->state.ready;
    t->slots += u->state.slots;
    pthread_mutex_unlock(&u->state_mu);
    pthread_mutex_lock(&u->sched_mu);
    t->waiting += bt_sched_waiting(u->sched);
    t->running += bt_sched_running(u->sched);
    pthread_mutex_unlock(&u->sched_mu);
    t->steps += atomic_load(&c->steps);
    t->step_rows += atomic_load(&c->step_rows);
    t->step_us += atomic_load(&c->step_us);
    t->step_longest_us = BT_MAX(t->step_longest_us, atomic_load(&c->step_longest_us));
    t->restarts += atomic_load(&c->engine_restarts);
    t->not_finite += atomic_load(&c->not_finite);
}

void bt_front_metrics(bt_front *f, bt_buf *out)
{
    sums t = {.ready = true};
    char refuses[8];
    for (int32_t i = 0; i < f->n_units; i++) sums_add(&t, f->unit[i]);
    bt__balances_refusal(f, refuses, sizeof refuses);
    one(out, "ready", "gauge", "1 while the model is loaded.", t.ready);
    one(out, "ledger_writable", "gauge", "0 while the ledger refuses new requests.", !refuses[0]);
    one(out, "queue_depth", "gauge", "Requests waiting for a lease.", t.waiting);
    one(out, "leases_active", "gauge", "Requests holding a lease.", t.running);
    one(out, "slots", "gauge", "Seats in the running batch.", t.slots);
    requests_part(f, out);
    ttft_part(f, out);
    one(out, "steps_total", "counter", "Forward passes.", (double)t.steps);
    one(out, "step_rows_total", "counter", "Tokens through forward passes.", (double)t.step_rows);
    one(out, "step_microseconds_total", "counter", "Device time of forward passes since start.",
        (double)t.step_us);
    one(out, "step_longest_microseconds", "gauge",
        "Longest forward pass since start: a limit is overrun by no more than the steps in flight.",
        (double)t.step_longest_us);
    one(out, "engine_restarts_total", "counter", "Engine processes started after the first.",
        (double)t.restarts);
    one(out, "log_dropped_total", "counter", "Log lines dropped because nobody read stderr.",
        (double)bt_log_dropped());
    one(out, "not_finite_total", "counter",
        "Requests ended because the model's logits were NaN or infinite.", (double)t.not_finite);
    ledger_part(f, out);
}
