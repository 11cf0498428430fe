/* SPDX-License-Identifier: Apache-2.0 */
/* sim_fair.h - fairness measured in the simulated world, on device time. Part of test_sim.c. */
#pragma once

enum { FAIR_WINDOWS = 64 };

typedef struct fair {
    double jain[FAIR_WINDOWS];
    int n;
    int64_t busy_us;
    double weights[SIM_ACCOUNTS];
} fair;
static fair fair_now;

/* Jain's index of shares x: (sum x)^2 / (n sum x^2); 1 = all alike. */
static void fair_window(sim *w, int64_t step_us)
{
    fair_now.busy_us += step_us;
    if (fair_now.busy_us < 10000000) return;
    double sum = 0, square = 0;
    for (int k = 0; k < w->n_accounts; k++) {
        double x = (double)w->a[k].window_us / w->a[k].a.weight;
        sum += x;
        square += x * x;
        w->a[k].window_us = 0;
    }
    if (fair_now.n < FAIR_WINDOWS)
        fair_now.jain[fair_now.n++] = sum * sum / (w->n_accounts * square);
    fair_now.busy_us = 0;
}

static const int fair_prompt[5] = {20, 500, 60, 1000, 200};
static const int fair_out[5] = {20, 40, 200, 10, 80};

/* One that ended is followed at once by another: the account stays backlogged. */
static void fair_again(sim *w, sim_req *r)
{
    int k = r->account;
    if (w->n < SIM_REQS)
        sim_add(w, k, w->now, fair_prompt[k % 5], fair_out[k % 5] * 2, fair_out[k % 5], 1);
}

/* A device that takes 5 ms a step, 0.2 ms more a prompt token and 2 ms more a decoding sequence. */
static sim *fair_world(int accounts, int32_t cls, int32_t account_slots)
{
    sim *w = bt_must(bt_calloc(1, sizeof *w));
    *w = (sim){.seed = 1,
               .replay = self,
               .crash_at = SIM_NEVER,
               .drain_at = SIM_NEVER,
               .slots = 8,
               .n_pages = 4096,
               .page_tokens = 16,
               .prefill_us = 200,
               .decode_us = 2000,
               .base_us = 5000,
               .reply_delay_ns = 2 * SIM_MS,
               .max_actions = 64,
               .n_accounts = accounts};
    bt_sched_config_init(&w->config);
    for (int k = 0; k < accounts; k++) {
        w->a[k].a = (bt_sched_account){.id = (uint64_t)k + 1,
                                       .cls = cls,
                                       .weight = 1,
                                       .slots = account_slots,
                                       .queue = 400,
                                       .lease_max_ns = 60 * SIM_SEC};
        w->a[k].limit_us = INT64_MAX / 4;
    }
    memset(&fair_now, 0, sizeof fair_now);
    w->on_busy = fair_window;
    return w;
}

static void fair_close(sim *w)
{
    sim_close(w);
    bt_free(w);
}

static double fair_worst(void)
{
    double worst = 1;
    for (int i = 1; i < fair_now.n; i++) worst = BT_MIN(worst, fair_now.jain[i]); // 0: warm-up
    return worst;
}

static void five_backlogged_accounts_share_evenly(void)
{
    for (int32_t cls = 0; cls < 3; cls++) { // ageing must not undo it in the lower classes
        for (int32_t slots = 4; slots <= 8; slots *= 2) {
            sim *w = fair_world(5, cls, slots);
            w->on_end = fair_again;
            sim_open(w);
            for (int k = 0; k < 5; k++)
                for (int i = 0; i < 12; i++)
                    sim_add(w, k, 0, fair_prompt[k], fair_out[k] * 2, fair_out[k], 1);
            sim_run(w, 120 * SIM_SEC);
            fprintf(stderr, "class %d, %d slots an account: worst Jain of %d windows %.4f\n", cls,
                    slots, fair_now.n - 1, fair_worst());
            CHECK(fair_now.n >= 10);
            CHECK(fair_worst() >= 0.98);
            fair_close(w);
        }
    }
}

/* One slot, requests of 1 to 20 s: longer than age_ns, so that ageing without regard to what
 * fairness asks for would make this a round of one request each, and the shares 1 to 20. */
static void a_slow_device_shares_evenly_too(void)
{
    sim *w = fair_world(5, 1, 1);
    w->slots = 1;
    w->prefill_us = 4000;
    w->decode_us = 80000;
    w->on_end = fair_again;
    sim_open(w);
    for (int k = 0; k < 5; k++)
        for (int i = 0; i < 4; i++)
            sim_add(w, k, 0, fair_prompt[k], fair_out[k] * 2, fair_out[k], 1);
    sim_run(w, 7200 * SIM_SEC);
    double sum = 0, square = 0;
    for (int k = 0; k < 5; k++) {
        double x = (double)w->a[k].total_us;
        sum += x;
        square += x * x;
    }
    fprintf(stderr, "one slot, two hours: Jain %.4f\n", sum * sum / (5 * square));
    CHECK(sum * sum / (5 * square) >= 0.98);
    CHECK(w->voided == 0); // and nobody waited for ever
    fair_close(w);
}

static void weights_share_one_two_four(void)
{
    sim *w = fair_world(3, 1, 8);
    for (int k = 0; k < 3; k++) w->a[k].a.weight = (double)(1 << k);
    w->on_end = fair_again;
    sim_open(w);
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 20; i++)
            sim_add(w, k, 0, fair_prompt[k], fair_out[k] * 2, fair_out[k], 1);
    sim_run(w, 120 * SIM_SEC);
    double all = (double)(w->a[0].total_us + w->a[1].total_us + w->a[2].total_us);
    fprintf(stderr, "weights 1:2:4: shares %.3f %.3f %.3f, worst weighted Jain %.4f\n",
            (double)w->a[0].total_us / all, (double)w->a[1].total_us / all,
            (double)w->a[2].total_us / all, fair_worst());
    for (int k = 0; k < 3; k++) CHECK_NEAR((double)w->a[k].total_us / all, (1 << k) / 7.0, 0.02);
    CHECK(fair_worst() >= 0.98);
    fair_close(w);
}

static int compare_i64(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* p99 of the light accounts' time to the first token. Account 0 is the flooder. */
static int64_t light_p99(int flood, int32_t account_slots, int64_t *step_ns)
{
    sim *w = fair_world(5, 1, account_slots);
    sim_open(w);
    for (int i = 0; i < flood; i++) sim_add(w, 0, 5 * SIM_SEC, 200, 100, 60, 1);
    for (int k = 1; k < 5; k++)
        for (int i = 0; i < 50; i++)
            sim_add(w, k, i * 2 * SIM_SEC + sim_pick(w, 0, SIM_SEC), 60, 60, 30, 1);
    sim_run(w, 600 * SIM_SEC);
    int64_t ttft[SIM_REQS];
    size_t n = 0;
    for (int i = 0; i < w->n; i++) {
        SIM_CHECK(w, w->r[i].state == SIM_DONE, &w->r[i]);
        if (w->r[i].account) ttft[n++] = w->r[i].first_token_at - w->r[i].arrive_at;
    }
    qsort(ttft, n, sizeof *ttft, compare_i64);
    *step_ns = w->step_us_max * 1000;
    fair_close(w);
    return ttft[n * 99 / 100];
}

/* A tier's slots leave the others room, so a flood costs a light account no more than sharing steps
 * with it; where an account may take the whole engine, no more than the wait for a slot, which is
 * a part of one request and not the 300 before it (25 s and more). */
static void light_accounts_hardly_feel_a_flood(void)
{
    for (int32_t slots = 4; slots <= 8; slots += 4) {
        int64_t step_ns, alone = light_p99(0, slots, &step_ns);
        int64_t flooded = light_p99(300, slots, &step_ns);
        fprintf(stderr,
                "%d of 8 slots an account: light p99 to the first token %.0f ms alone, %.0f ms "
                "beside 300 requests; longest step %.0f ms\n",
                slots, (double)alone / 1e6, (double)flooded / 1e6, (double)step_ns / 1e6);
        CHECK(flooded <= (slots < 8 ? 3 * alone + step_ns : 2 * SIM_SEC));
    }
}
