/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/runs.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "engine/engine_internal.h"
#include "model/model.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct bt_measure {
    bt_engine *engine; // owned
    bt_measure_info info;
    uint64_t next_id, busy_us;
    int32_t first, ended, wanted; // sequences that have their first token; that have ended
    int64_t first_ns, last_ns;    // when the last of them did
    bt_residency moved;           // of the last park or wake
};

static void on_ready(bt_measure *m, const bt_engine_event *ev)
{
    bt_measure_info *i = &m->info;
    i->vocab = ev->u.ready.vocab;
    i->ctx = ev->u.ready.ctx;
    i->slots = ev->u.ready.slots;
    i->weights_bytes = ev->u.ready.weights_bytes;
    i->kv_bytes = ev->u.ready.kv_bytes;
    i->scratch_bytes = ev->u.ready.scratch_bytes;
    i->can_park = ev->u.ready.can_park;
    snprintf(i->model, sizeof i->model, "%s", ev->u.ready.name);
    snprintf(i->device, sizeof i->device, "%s", ev->u.ready.device);
}

static void on_event(void *ud, const bt_engine_event *ev)
{
    bt_measure *m = ud;
    if (ev->type == BT_EE_READY) {
        on_ready(m, ev);
    } else if (ev->type == BT_EE_END) {
        m->ended++;
        m->last_ns = bt_now_ns();
    } else if (ev->type == BT_EE_PREFILL && ev->u.prefill.done == ev->u.prefill.total) {
        if (++m->first == m->wanted) m->first_ns = bt_now_ns();
    } else if (ev->type == BT_EE_STEP) {
        m->busy_us = ev->u.step.busy_us;
    } else if (ev->type == BT_EE_RESIDENCY) {
        m->moved = (bt_residency){.bytes = ev->u.residency.bytes,
                                  .took_ns = ev->u.residency.took_ns,
                                  .from_host = ev->u.residency.from_host};
    }
}

/* The words that tables of other programs use; an emulated device is called what it is. */
static const char *backend_name(const bt_engine *e)
{
    if (strcmp(e->backend->name, "cuda") != 0) return "CPU";
#ifdef BT_EMULATED
    return "emulated";
#else
    return "CUDA";
#endif
}

bt_status bt_measure_open(const bt_engine_options *opt, const bt_shape_model *shape,
                          bt_measure **out, bt_err *err)
{
    bt_measure *m = bt_calloc(1, sizeof *m);
    if (!m) return bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    bt_status st = shape ? bt_engine_open_weights(&shape->recipe, &shape->weights, shape->vocab,
                                                  opt, on_event, m, &m->engine, err)
                         : bt_engine_open(opt, on_event, m, &m->engine, err);
    if (st) {
        bt_free(m);
        return st;
    }
    m->info.threads = opt->threads > 0 ? opt->threads : bt_cpu_count();
    m->info.step_tokens = m->engine->plan.rows_max;
    m->info.backend = backend_name(m->engine);
    m->info.n_params = shape ? shape->n_params : m->engine->own_model->n_params;
    snprintf(m->info.type, sizeof m->info.type, "%s", bt_kv_format_name(opt->kv_format));
    *out = m;
    return BT_OK;
}

void bt_measure_close(bt_measure *m)
{
    if (!m) return;
    bt_engine_close(m->engine);
    bt_free(m);
}

const bt_measure_info *bt_measure_about(const bt_measure *m)
{
    return &m->info;
}

/* ---- runs */

static bt_status submit(bt_measure *m, int32_t *ids, int32_t n_prompt, int32_t n_gen, bt_err *err)
{
    uint64_t id = ++m->next_id;
    for (int32_t j = 0; j < n_prompt; j++)
        ids[j] = (int32_t)(bt_rng_u64(id, (uint64_t)j) % (uint64_t)m->info.vocab);
    bt_engine_request req = {.id = id, .salt = 1, .tokens = ids, .n_tokens = n_prompt, .n_seq = 1};
    bt_gen_params_init(&req.params);
    req.params.temperature = 0;
    req.params.ignore_eos = true;
    req.params.cache_prompt = false;
    req.params.max_tokens = n_gen + 1;
    req.lease = (bt_lease){.generation = 1, .budget_us = INT64_MAX, .budget_final = true};
    return bt_engine_submit(m->engine, &req, err);
}

/* n requests of n_prompt random tokens and n_gen generated ones each, all at once: the prompts'
 * own first token is drawn with them and not counted. */
static bt_status run(bt_measure *m, int32_t n, int32_t n_prompt, int32_t n_gen, int64_t *prompt_ns,
                     int64_t *gen_ns, bt_err *err)
{
    int32_t *ids = bt_malloc((size_t)n_prompt * sizeof *ids);
    if (!ids) return bt_err_set(err, BT_ENOMEM, 0, "out of memory");
    uint64_t first_id = m->next_id + 1;
    bt_status st = BT_OK;
    m->first = m->ended = 0;
    m->first_ns = m->last_ns = 0;
    m->wanted = n;
    int64_t start = bt_now_ns();
    for (int32_t i = 0; i < n && !st; i++) st = submit(m, ids, n_prompt, n_gen, err);
    while (!st && m->ended < n) st = bt_engine_step(m->engine, err);
    for (uint64_t id = first_id; id <= m->next_id; id++) bt_engine_release(m->engine, id);
    *prompt_ns = m->first_ns - start;
    *gen_ns = m->last_ns - m->first_ns;
    bt_free(ids);
    return st;
}

double bt_measure_speed(const bt_measure_model_row *r, int32_t i)
{
    return (r->n_prompt + r->n_gen) / ((double)r->sample_ns[i] / 1e9);
}

static void mean_of(const bt_measure_model_row *r, bool speed, double *avg, double *dev)
{
    double sum = 0, square = 0;
    for (int32_t i = 0; i < r->n; i++)
        sum += speed ? bt_measure_speed(r, i) : (double)r->sample_ns[i];
    *avg = sum / r->n;
    for (int32_t i = 0; i < r->n; i++) {
        double v = (speed ? bt_measure_speed(r, i) : (double)r->sample_ns[i]) - *avg;
        square += v * v;
    }
    *dev = r->n > 1 ? sqrt(square / (r->n - 1)) : 0;
}

bt_status bt_measure_model(bt_measure *m, int32_t n_prompt, int32_t n_gen, int32_t repeat,
                           bt_measure_model_row *r, bt_err *err)
{
    int64_t prompt_ns, gen_ns;
    int32_t prompt = n_prompt ? n_prompt : 1;
    r->n_prompt = n_prompt;
    r->n_gen = n_prompt ? 0 : n_gen;
    bt_status st = run(m, 1, prompt, BT_MIN(r->n_gen, 8), &prompt_ns, &gen_ns, err);
    for (r->n = 0; r->n < BT_MIN(repeat, BT_MEASURE_RUNS_MAX) && !st; r->n++) {
        uint64_t before = m->busy_us;
        st = run(m, 1, prompt, r->n_gen, &prompt_ns, &gen_ns, err);
        r->sample_ns[r->n] = BT_MAX(n_prompt ? prompt_ns : gen_ns, 1);
        r->busy_us = m->busy_us - before;
    }
    if (st) return st;
    mean_of(r, false, &r->avg_ns, &r->stddev_ns);
    mean_of(r, true, &r->avg_ts, &r->stddev_ts);
    return BT_OK;
}

bt_status bt_measure_batch(bt_measure *m, int32_t pp, int32_t tg, int32_t pl, int32_t repeat,
                           bt_measure_batch_row *out, bt_err *err)
{
    int64_t prompt_ns = 0, gen_ns = 0, best_prompt = INT64_MAX, best_gen = INT64_MAX;
    bt_status st = BT_OK;
    for (int32_t i = 0; i < repeat && !st; i++) {
        st = run(m, pl, pp, tg, &prompt_ns, &gen_ns, err);
        best_prompt = BT_MIN(best_prompt, prompt_ns);
        best_gen = BT_MIN(best_gen, gen_ns);
    }
    if (!st)
        *out =
            (bt_measure_batch_row){pp, tg, pl, (double)best_prompt / 1e9, (double)best_gen / 1e9};
    return st;
}

bt_status bt_measure_residency_run(bt_measure *m, int32_t repeat, bt_measure_residency *out,
                                   bt_err *err)
{
    *out = (bt_measure_residency){.park_s = INFINITY, .wake_s = INFINITY};
    for (int32_t i = 0; i <= repeat; i++) {
        bt_status st = bt_engine_park(m->engine, err);
        if (st) return st;
        double seconds = (double)m->moved.took_ns / 1e9;
        if (i == 0)
            out->first_park_s = seconds;
        else
            out->park_s = fmin(out->park_s, seconds);
        st = bt_engine_wake(m->engine, err);
        if (st) return st;
        out->wake_s = fmin(out->wake_s, (double)m->moved.took_ns / 1e9);
        out->bytes = m->moved.bytes;
        out->from_host = m->moved.from_host;
    }
    return BT_OK;
}

/* ---- printing */

void bt_measure_model_print(const bt_measure *m, const bt_measure_model_row *r,
                            bt_measure_style style, bool head, bt_buf *out)
{
    const bt_measure_info *i = &m->info;
    char test[32];
    snprintf(test, sizeof test, r->n_prompt ? "pp%d" : "tg%d",
             r->n_prompt ? r->n_prompt : r->n_gen);
    if (style == BT_MEASURE_CSV) {
        if (head)
            bt_buf_adds(out, "model,size_bytes,backend,device,kv,threads,n_prompt,n_gen,avg_ts,"
                             "stddev_ts,busy_us\n");
        bt_buf_addf(out, "%s,%" PRIu64 ",%s,%s,%s,%d,%d,%d,%.3f,%.3f,%" PRIu64 "\n", i->model,
                    i->weights_bytes, i->backend, i->device, i->type, i->threads, r->n_prompt,
                    r->n_gen, r->avg_ts, r->stddev_ts, r->busy_us);
        return;
    }
    if (head)
        bt_buf_adds(out,
                    "| model                          |       size |     params | backend    | "
                    "threads |            test |                  t/s |\n"
                    "| ------------------------------ | ---------: | ---------: | ---------- | "
                    "------: | --------------: | -------------------: |\n");
    bool big = i->weights_bytes >> 30 > 0, many = i->n_params >= 1000000000;
    bt_buf_addf(out, "| %-30.30s | %6.2f %s | %8.2f %s | %-10s | %7d | %15s | %12.2f ± %5.2f |\n",
                i->model, (double)i->weights_bytes / (big ? 1 << 30 : 1 << 20), big ? "GiB" : "MiB",
                (double)i->n_params / (many ? 1e9 : 1e6), many ? "B" : "M", i->backend, i->threads,
                test, r->avg_ts, r->stddev_ts);
}

void bt_measure_batch_print(const bt_measure *m, const bt_measure_batch_row *r,
                            bt_measure_style style, bool head, bt_buf *out)
{
    const bt_measure_info *i = &m->info;
    double total = r->prompt_s + r->gen_s;
    int32_t kv = r->pl * (r->pp + r->tg);
    double pp = r->pp * r->pl / r->prompt_s, tg = r->tg * r->pl / r->gen_s;
    if (style == BT_MEASURE_CSV) {
        if (head)
            bt_buf_adds(out, "model,backend,device,kv,pp,tg,pl,n_kv,t_pp,speed_pp,t_tg,speed_tg,t,"
                             "speed\n");
        bt_buf_addf(out, "%s,%s,%s,%s,%d,%d,%d,%d,%.6f,%.3f,%.6f,%.3f,%.6f,%.3f\n", i->model,
                    i->backend, i->device, i->type, r->pp, r->tg, r->pl, kv, r->prompt_s, pp,
                    r->gen_s, tg, total, kv / total);
        return;
    }
    if (head)
        bt_buf_adds(out,
                    "|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s "
                    "|      T s |    S t/s |\n"
                    "|------:|-------:|-----:|-------:|---------:|---------:|---------:|---------:"
                    "|---------:|---------:|\n");
    bt_buf_addf(out, "|%6d | %6d | %4d | %6d | %8.3f | %8.2f | %8.3f | %8.2f | %8.3f | %8.2f |\n",
                r->pp, r->tg, r->pl, kv, r->prompt_s, pp, r->gen_s, tg, total, kv / total);
}

void bt_measure_residency_print(const bt_measure *m, const bt_measure_residency *r,
                                bt_measure_style style, bool head, bt_buf *out)
{
    const bt_measure_info *i = &m->info;
    double gb = (double)r->bytes / 1e9, weights = (double)i->weights_bytes / 1e9;
    if (style == BT_MEASURE_CSV) {
        if (head)
            bt_buf_adds(out, "model,backend,device,bytes,weights_bytes,first_park_s,park_s,wake_s,"
                             "wake_from,wake_gb_s\n");
        bt_buf_addf(out, "%s,%s,%s,%" PRIu64 ",%" PRIu64 ",%.4f,%.4f,%.4f,%s,%.2f\n", i->model,
                    i->backend, i->device, r->bytes, i->weights_bytes, r->first_park_s, r->park_s,
                    r->wake_s, r->from_host ? "host" : "file", weights / r->wake_s);
        return;
    }
    if (head)
        bt_buf_adds(out, "| model | backend | GB | first park s | park s | wake s | wake from | "
                         "weights GB/s |\n|---|---|---:|---:|---:|---:|---|---:|\n");
    bt_buf_addf(out, "| %s | %s | %.2f | %.3f | %.3f | %.3f | %s | %.2f |\n", i->model, i->backend,
                gb, r->first_park_s, r->park_s, r->wake_s, r->from_host ? "host" : "file",
                weights / r->wake_s);
}
