/* SPDX-License-Identifier: Apache-2.0 */
/* bench.c - `baton bench model` and `baton bench batch`: llama-bench's and llama-batched-bench's
 * columns, with the engine in this process, so that rows of both programs can stand side by side.
 *
 * model: "pp N" is N prompt tokens in one request; "tg N" is N single-token steps after a one-token
 * prompt. batch: B sequences of PP prompt and TG generated tokens each; T_PP until the last has its
 * first token. */
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "cli/cli.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TESTS_MAX = 32, RUNS_MAX = 1000 };

typedef struct bench {
    const bt_options *o;
    bt_engine *engine;
    char name[96];
    int32_t vocab, ctx, threads;
    uint64_t weights_bytes;
    uint64_t next_id;
    int32_t first, ended, wanted; // sequences that have their first token; that have ended
    int64_t first_ns, last_ns;    // when the last of them did
} bench;

static void on_event(void *ud, const bt_engine_event *ev)
{
    bench *b = ud;
    if (ev->type == BT_EE_READY) {
        b->vocab = ev->u.ready.vocab;
        b->ctx = ev->u.ready.ctx;
        b->weights_bytes = ev->u.ready.weights_bytes;
        snprintf(b->name, sizeof b->name, "%s", ev->u.ready.name);
    } else if (ev->type == BT_EE_END) {
        b->ended++;
        b->last_ns = bt_now_ns();
    } else if (ev->type == BT_EE_PREFILL && ev->u.prefill.done == ev->u.prefill.total) {
        if (++b->first == b->wanted) b->first_ns = bt_now_ns();
    }
}

/* n requests of n_prompt random tokens and n_gen generated ones each, all at once. */
static bt_status bench_run(bench *b, int32_t n, int32_t n_prompt, int32_t n_gen, int64_t *prompt_ns,
                           int64_t *gen_ns, bt_err *err)
{
    int32_t *ids = bt_malloc((size_t)n_prompt * sizeof *ids);
    if (!ids) return bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    uint64_t first_id = b->next_id + 1;
    bt_status st = BT_OK;
    b->first = b->ended = 0;
    b->first_ns = b->last_ns = 0;
    b->wanted = n;
    int64_t start = bt_now_ns();
    for (int32_t i = 0; i < n && st == BT_OK; i++) {
        for (int32_t j = 0; j < n_prompt; j++)
            ids[j] =
                (int32_t)(bt_rng_u64(first_id + (uint64_t)i, (uint64_t)j) % (uint64_t)b->vocab);
        bt_engine_request req = {
            .id = ++b->next_id, .salt = 1, .tokens = ids, .n_tokens = n_prompt, .n_seq = 1};
        bt_gen_params_init(&req.params);
        req.params.temperature = 0;
        req.params.ignore_eos = true;
        req.params.cache_prompt = false;
        req.params.max_tokens = n_gen + 1;
        req.lease = (bt_lease){.generation = 1, .budget_us = INT64_MAX, .budget_final = true};
        st = bt_engine_submit(b->engine, &req, err);
    }
    while (st == BT_OK && b->ended < n) st = bt_engine_step(b->engine, err);
    for (uint64_t id = first_id; id <= b->next_id; id++) bt_engine_release(b->engine, id);
    *prompt_ns = b->first_ns - start;
    *gen_ns = b->last_ns - b->first_ns;
    bt_free(ids);
    return st;
}

static int parse_list(const char *text, int32_t *out)
{
    int n = 0;
    while (*text && n < TESTS_MAX) {
        char *end;
        long v = strtol(text, &end, 10);
        if (end == text || v < 0 || v > 1 << 20) return -1;
        out[n++] = (int32_t)v;
        if (*end && *end != ',') return -1;
        text = *end ? end + 1 : end;
    }
    return n;
}

/* ---- rows */

typedef struct row {
    int32_t n_prompt, n_gen;
    int64_t sample_ns[RUNS_MAX];
    int n;
} row;

static double row_speed(const row *r, int i)
{
    return (r->n_prompt + r->n_gen) / ((double)r->sample_ns[i] / 1e9);
}

static void row_stats(const row *r, bool speed, double *avg, double *dev)
{
    double sum = 0, square = 0;
    for (int i = 0; i < r->n; i++) {
        double v = speed ? row_speed(r, i) : (double)r->sample_ns[i];
        sum += v;
        square += v * v;
    }
    *avg = sum / r->n;
    double var = r->n > 1 ? (square - sum * *avg) / (r->n - 1) : 0;
    *dev = var > 0 ? sqrt(var) : 0;
}

static void row_json(const bench *b, const row *r, bt_jw *w)
{
    double avg, dev;
    char when[24];
    bt_jw_open(w, '{');
    bt_jw_kstr(w, "build_commit", BATON_VERSION);
    bt_jw_kstr(w, "backends", "CPU");
    bt_jw_kstr(w, "model_filename", b->o->model);
    bt_jw_kstr(w, "model_type", b->name);
    bt_jw_kint(w, "model_size", (int64_t)b->weights_bytes);
    bt_jw_kint(w, "n_batch", b->o->step_tokens ? b->o->step_tokens : 512);
    bt_jw_kint(w, "n_ubatch", b->o->step_tokens ? b->o->step_tokens : 512);
    bt_jw_kint(w, "n_threads", b->threads);
    bt_jw_kstr(w, "type_k", b->o->kv_type);
    bt_jw_kstr(w, "type_v", b->o->kv_type);
    bt_jw_kint(w, "n_prompt", r->n_prompt);
    bt_jw_kint(w, "n_gen", r->n_gen);
    bt_jw_kint(w, "n_depth", 0);
    bt_jw_kstr(w, "test_time", bt_rfc3339(bt_wall_us(), when));
    row_stats(r, false, &avg, &dev);
    bt_jw_kint(w, "avg_ns", (int64_t)avg);
    bt_jw_kint(w, "stddev_ns", (int64_t)dev);
    row_stats(r, true, &avg, &dev);
    bt_jw_knum(w, "avg_ts", avg);
    bt_jw_knum(w, "stddev_ts", dev);
    bt_jw_key(w, "samples_ns");
    bt_jw_open(w, '[');
    for (int i = 0; i < r->n; i++) bt_jw_int(w, r->sample_ns[i]);
    bt_jw_close(w, ']');
    bt_jw_key(w, "samples_ts");
    bt_jw_open(w, '[');
    for (int i = 0; i < r->n; i++) bt_jw_num(w, row_speed(r, i));
    bt_jw_close(w, ']');
    bt_jw_close(w, '}');
}

static void row_print(const bench *b, const row *r, int index)
{
    double avg, dev;
    char test[32];
    bt_buf text = BT_BUF_INIT;
    bt_jw w = bt_jw_on(&text);
    const char *o = b->o->output;
    row_stats(r, true, &avg, &dev);
    snprintf(test, sizeof test, r->n_prompt ? "pp%d" : "tg%d",
             r->n_prompt ? r->n_prompt : r->n_gen);
    if (strncmp(o, "json", 4) == 0) {
        row_json(b, r, &w);
        bool array = strcmp(o, "json") == 0;
        printf("%s%s%s", array ? (index ? ",\n  " : "[\n  ") : "", text.data, array ? "" : "\n");
    } else if (strcmp(o, "csv") == 0) {
        if (index == 0) printf("model,size_bytes,threads,n_prompt,n_gen,avg_ts,stddev_ts\n");
        printf("%s,%" PRIu64 ",%d,%d,%d,%.3f,%.3f\n", b->name, b->weights_bytes, b->threads,
               r->n_prompt, r->n_gen, avg, dev);
    } else {
        if (index == 0)
            printf("| model                          |       size | backend    | threads |         "
                   "   test |"
                   "                  t/s |\n"
                   "| ------------------------------ | ---------: | ---------- | ------: | "
                   "--------------: |"
                   " -------------------: |\n");
        printf("| %-30.30s | %6.2f MiB | CPU        | %7d | %15s | %12.2f ± %5.2f |\n", b->name,
               (double)b->weights_bytes / 1048576, b->threads, test, avg, dev);
    }
    fflush(stdout);
    bt_buf_release(&text);
}

static bt_status bench_model(bench *b, bt_err *err)
{
    int32_t pp[TESTS_MAX], tg[TESTS_MAX];
    int n_pp = parse_list(b->o->n_prompt, pp), n_tg = parse_list(b->o->n_gen, tg), index = 0;
    if (n_pp < 0 || n_tg < 0)
        return bt_err_set(err, BT_EINVAL, 0,
                          "--n-prompt and --n-gen take numbers separated by commas");
    row *r = bt_must(bt_calloc(1, sizeof *r));
    bt_status st = BT_OK;
    for (int i = 0; i < n_pp + n_tg && st == BT_OK; i++) {
        r->n_prompt = i < n_pp ? pp[i] : 0;
        r->n_gen = i < n_pp ? 0 : tg[i - n_pp];
        if (r->n_prompt + r->n_gen == 0) continue;
        int32_t prompt = r->n_prompt ? r->n_prompt : 1;
        int64_t prompt_ns, gen_ns;
        st = bench_run(b, 1, prompt, r->n_gen < 8 ? r->n_gen : 8, &prompt_ns, &gen_ns, err); // warm
        for (r->n = 0; r->n < b->o->repeat && st == BT_OK; r->n++) {
            st = bench_run(b, 1, prompt, r->n_gen, &prompt_ns, &gen_ns, err);
            r->sample_ns[r->n] = r->n_prompt ? prompt_ns : gen_ns;
        }
        if (st == BT_OK) row_print(b, r, index++);
    }
    if (strcmp(b->o->output, "json") == 0 && index) printf("\n]\n");
    bt_free(r);
    return st;
}

static bt_status bench_batch(bench *b, bt_err *err)
{
    int32_t pp[TESTS_MAX], tg[TESTS_MAX], pl[TESTS_MAX];
    int n_pp = parse_list(b->o->n_prompt, pp), n_tg = parse_list(b->o->n_gen, tg);
    int n_pl = parse_list(b->o->streams, pl);
    if (n_pp < 1 || n_tg < 1 || n_pl < 1)
        return bt_err_set(err, BT_EINVAL, 0,
                          "--n-prompt, --n-gen and --streams take numbers separated by commas");
    bool json = strncmp(b->o->output, "json", 4) == 0;
    if (!json)
        printf("|%6s | %6s | %4s | %6s | %8s | %8s | %8s | %8s | %8s | %8s |\n"
               "|------:|-------:|-----:|-------:|---------:|---------:|---------:|---------:|-----"
               "----:|---------:|\n",
               "PP", "TG", "B", "N_KV", "T_PP s", "S_PP t/s", "T_TG s", "S_TG t/s", "T s", "S t/s");
    bt_status st = BT_OK;
    for (int i = 0; i < n_pp * n_tg * n_pl && st == BT_OK; i++) {
        int32_t p = pp[i / (n_tg * n_pl)], t = tg[i / n_pl % n_tg], n = pl[i % n_pl];
        int64_t prompt_ns = 0, gen_ns = 0, best_prompt = INT64_MAX, best_gen = INT64_MAX;
        for (int r = 0; r < b->o->repeat && st == BT_OK; r++) {
            st = bench_run(b, n, p, t, &prompt_ns, &gen_ns, err);
            if (prompt_ns < best_prompt) best_prompt = prompt_ns;
            if (gen_ns < best_gen) best_gen = gen_ns;
        }
        if (st) break;
        double tp = (double)best_prompt / 1e9, tt = (double)best_gen / 1e9;
        printf(json ? "{\"pp\": %d, \"tg\": %d, \"pl\": %d, \"n_kv\": %d, \"t_pp\": %.6f, "
                      "\"speed_pp\": %.6f, "
                      "\"t_tg\": %.6f, \"speed_tg\": %.6f, \"t\": %.6f, \"speed\": %.6f}\n"
                    : "|%6d | %6d | %4d | %6d | %8.3f | %8.2f | %8.3f | %8.2f | %8.3f | %8.2f |\n",
               p, t, n, n * (p + t), tp, p * n / tp, tt, t * n / tt, tp + tt,
               n * (p + t) / (tp + tt));
        fflush(stdout);
    }
    return st;
}

int bt_cmd_bench(const bt_options *o, int argc, char **argv)
{
    bench b = {.o = o};
    bt_engine_options eo;
    bt_err err = {0};
    const char *what = argc == 1 ? argv[0] : "";
    bool batch = strcmp(what, "batch") == 0;
    bt_log_set_level(BT_LOG_WARN);
    bt_status st = bt_options_engine(o, &eo, &err);
    if (st == BT_OK && !batch && strcmp(what, "model") != 0)
        st = bt_err_set(&err, BT_EINVAL, 0,
                        "say what to measure: `baton bench model` or `baton bench batch`");
    if (st == BT_OK) {
        if (eo.slots == 0) eo.slots = batch ? 64 : 1;
        b.threads = eo.threads ? eo.threads : bt_cpu_count();
        st = bt_engine_open(&eo, on_event, &b, &b.engine, &err);
    }
    if (st == BT_OK) st = batch ? bench_batch(&b, &err) : bench_model(&b, &err);
    bt_engine_close(b.engine);
    return st ? bt_cli_fail(&err) : 0;
}
