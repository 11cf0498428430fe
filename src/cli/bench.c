/* SPDX-License-Identifier: Apache-2.0 */
/* bench.c - `baton bench ops | model | batch | residency`: the measurements of bench/runs.h and
 * bench/ops.h as tables, with llama-bench's and llama-batched-bench's columns. */
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "bench/ops.h"
#include "bench/runs.h"
#ifdef BATON_CUDA
#include "device/cuda/cuda_probe.h"
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_MAX = 32 };
typedef enum style { MD, CSV, JSON, JSONL } style;

typedef struct bench {
    const bt_options *o;
    bt_shape_model *shape; // owned
    bt_measure *m;         // owned
    style style;
    int32_t rows; // printed so far
} bench;

static int list_of(const char *text, int32_t out[LIST_MAX])
{
    int n = 0;
    while (*text && n < LIST_MAX) {
        char *end;
        long v = strtol(text, &end, 10);
        if (end == text || v < 0 || v > 1 << 20) return -1;
        out[n++] = (int32_t)v;
        if (*end && *end != ',') return -1;
        text = *end ? end + 1 : end;
    }
    return n;
}

static void print_text(bench *b, bt_buf *text)
{
    if (b->style == JSON) fputs(b->rows ? ",\n  " : "[\n  ", stdout);
    fputs(text->data, stdout);
    if (b->style == JSONL) putchar('\n'); // a row is an object
    b->rows++;
    fflush(stdout);
    bt_buf_release(text);
}

static bt_measure_style plain(const bench *b)
{
    return b->style == CSV ? BT_MEASURE_CSV : BT_MEASURE_MD;
}

/* ---- model */

static void model_json(const bench *b, const bt_measure_model_row *r, bt_jw *w)
{
    const bt_measure_info *i = bt_measure_about(b->m);
    char when[24];
    bt_jw_open(w, '{');
    bt_jw_kstr(w, "build_commit", BATON_VERSION);
    bt_jw_kstr(w, "backends", i->backend);
    bt_jw_kstr(w, "gpu_info", strcmp(i->backend, "CPU") ? i->device : "");
    bt_jw_kstr(w, "model_filename", b->o->model ? b->o->model : b->o->shape);
    bt_jw_kstr(w, "model_type", i->model);
    bt_jw_kint(w, "model_size", (int64_t)i->weights_bytes);
    bt_jw_kint(w, "n_batch", i->step_tokens);
    bt_jw_kint(w, "n_ubatch", i->step_tokens);
    bt_jw_kint(w, "n_threads", i->threads);
    bt_jw_kstr(w, "type_k", i->type);
    bt_jw_kstr(w, "type_v", i->type);
    bt_jw_kint(w, "n_prompt", r->n_prompt);
    bt_jw_kint(w, "n_gen", r->n_gen);
    bt_jw_kint(w, "n_depth", 0);
    bt_jw_kstr(w, "test_time", bt_rfc3339(bt_wall_us(), when));
    bt_jw_kint(w, "avg_ns", (int64_t)r->avg_ns);
    bt_jw_kint(w, "stddev_ns", (int64_t)r->stddev_ns);
    bt_jw_knum(w, "avg_ts", r->avg_ts);
    bt_jw_knum(w, "stddev_ts", r->stddev_ts);
    bt_jw_kint(w, "busy_us", (int64_t)r->busy_us);
    bt_jw_key(w, "samples_ns");
    bt_jw_open(w, '[');
    for (int32_t k = 0; k < r->n; k++) bt_jw_int(w, r->sample_ns[k]);
    bt_jw_close(w, ']');
    bt_jw_key(w, "samples_ts");
    bt_jw_open(w, '[');
    for (int32_t k = 0; k < r->n; k++) bt_jw_num(w, bt_measure_speed(r, k));
    bt_jw_close(w, ']');
    bt_jw_close(w, '}');
}

static bt_status bench_model(bench *b, bt_err *err)
{
    int32_t pp[LIST_MAX], tg[LIST_MAX];
    int n_pp = list_of(b->o->n_prompt, pp), n_tg = list_of(b->o->n_gen, tg);
    if (n_pp < 0 || n_tg < 0)
        return bt_err_set(err, BT_EINVAL, 0,
                          "--n-prompt and --n-gen take numbers separated by commas");
    bt_measure_model_row *r = bt_must(bt_calloc(1, sizeof *r));
    bt_status st = BT_OK;
    for (int i = 0; i < n_pp + n_tg && !st; i++) {
        int32_t p = i < n_pp ? pp[i] : 0, n = i < n_pp ? 0 : tg[i - n_pp];
        if (p + n == 0) continue;
        st = bt_measure_model(b->m, p, n, (int32_t)b->o->repeat, r, err);
        if (st) break;
        bt_buf text = BT_BUF_INIT;
        bt_jw w = bt_jw_on(&text);
        if (b->style >= JSON)
            model_json(b, r, &w);
        else
            bt_measure_model_print(b->m, r, plain(b), b->rows == 0, &text);
        print_text(b, &text);
    }
    bt_free(r);
    return st;
}

/* ---- batch */

static bt_status bench_batch(bench *b, bt_err *err)
{
    int32_t pp[LIST_MAX], tg[LIST_MAX], pl[LIST_MAX];
    int n_pp = list_of(b->o->n_prompt, pp), n_tg = list_of(b->o->n_gen, tg);
    int n_pl = list_of(b->o->streams, pl);
    if (n_pp < 1 || n_tg < 1 || n_pl < 1)
        return bt_err_set(err, BT_EINVAL, 0,
                          "--n-prompt, --n-gen and --streams take numbers separated by commas");
    if (b->style == JSON) b->style = JSONL; // as llama-batched-bench: one object a line
    bt_status st = BT_OK;
    for (int i = 0; i < n_pp * n_tg * n_pl && !st; i++) {
        bt_measure_batch_row r;
        st = bt_measure_batch(b->m, pp[i / (n_tg * n_pl)], tg[i / n_pl % n_tg], pl[i % n_pl],
                              (int32_t)b->o->repeat, &r, err);
        if (st) break;
        bt_buf text = BT_BUF_INIT;
        double total = r.prompt_s + r.gen_s;
        int32_t kv = r.pl * (r.pp + r.tg);
        if (b->style >= JSON)
            bt_buf_addf(&text,
                        "{\"pp\": %d, \"tg\": %d, \"pl\": %d, \"n_kv\": %d, \"t_pp\": %.6f, "
                        "\"speed_pp\": %.6f, \"t_tg\": %.6f, \"speed_tg\": %.6f, \"t\": %.6f, "
                        "\"speed\": %.6f}",
                        r.pp, r.tg, r.pl, kv, r.prompt_s, r.pp * r.pl / r.prompt_s, r.gen_s,
                        r.tg * r.pl / r.gen_s, total, kv / total);
        else
            bt_measure_batch_print(b->m, &r, plain(b), b->rows == 0, &text);
        print_text(b, &text);
    }
    return st;
}

/* ---- residency */

static bt_status bench_residency(bench *b, bt_err *err)
{
    bt_measure_residency r;
    bt_buf text = BT_BUF_INIT;
    bt_status st = bt_measure_residency_run(b->m, (int32_t)b->o->repeat, &r, err);
    if (st) return st;
    if (b->style >= JSON) {
        const bt_measure_info *i = bt_measure_about(b->m);
        bt_jw w = bt_jw_on(&text);
        bt_jw_open(&w, '{');
        bt_jw_kstr(&w, "backends", i->backend);
        bt_jw_kstr(&w, "model_type", i->model);
        bt_jw_kint(&w, "bytes", (int64_t)r.bytes);
        bt_jw_kint(&w, "weights_bytes", (int64_t)i->weights_bytes);
        bt_jw_knum(&w, "first_park_s", r.first_park_s);
        bt_jw_knum(&w, "park_s", r.park_s);
        bt_jw_knum(&w, "wake_s", r.wake_s);
        bt_jw_kstr(&w, "wake_from", r.from_host ? "host" : "file");
        bt_jw_close(&w, '}');
    } else {
        bt_measure_residency_print(b->m, &r, plain(b), true, &text);
    }
    print_text(b, &text);
    return BT_OK;
}

/* ---- ops */

static void ops_json(const bt_ops_row *r, const bt_ops_limits *limits, bt_buf *text)
{
    bt_jw w = bt_jw_on(text);
    bt_jw_open(&w, '{');
    bt_jw_kstr(&w, "device", limits->device);
    bt_jw_kstr(&w, "kernel", r->kernel);
    bt_jw_kstr(&w, "shape", r->shape);
    bt_jw_kstr(&w, "format", r->format);
    bt_jw_kint(&w, "rows", r->rows);
    bt_jw_knum(&w, "us", r->us);
    bt_jw_knum(&w, "bytes", r->bytes);
    bt_jw_knum(&w, "ops", r->ops);
    bt_jw_knum(&w, "bound_us", r->bound_us);
    bt_jw_kstr(&w, "unit", bt_ops_unit_name(r->unit));
    bt_jw_knum(&w, "error", r->error);
    bt_jw_knum(&w, "within", r->within);
    bt_jw_kbool(&w, "ceiling", r->ceiling);
    bt_jw_close(&w, '}');
}

static void on_ops_row(void *ud, const bt_ops_row *row, const bt_ops_limits *limits)
{
    bench *b = ud;
    bt_buf text = BT_BUF_INIT;
    if (b->style == MD && b->rows == 0) printf("device: %s\n\n", limits->device);
    if (b->style >= JSON)
        ops_json(row, limits, &text);
    else
        bt_ops_print(row, limits, b->style == CSV, b->rows == 0, &text);
    print_text(b, &text);
}

/* `auto` is the first usable CUDA device, else the CPU, as everywhere. */
static bt_status ops_anywhere(bench *b, bt_ops_ask *ask, int32_t *skipped, bt_err *err)
{
    const char *device = b->o->device;
    bool cpu = strncmp(device, "cpu", 3) == 0, any = strcmp(device, "auto") == 0;
#ifdef BATON_CUDA
    bt_cuda_found found;
    bt_err why = {0};
    bool emulated = strcmp(device, "emulated") == 0;
#ifdef BT_EMULATED
    cpu = cpu || any;
#endif
    if (!cpu) {
        bt_status status = bt_cuda_choose(emulated ? "auto" : device, &found, &why);
        if (!status) {
            ask->ordinal = found.ordinal;
            return bt_ops_run_cuda(ask, on_ops_row, b, skipped, err);
        }
        if (!any) return bt_err_set(err, why.code, why.sys, "%s", why.msg);
    }
#else
    if (!cpu && !any)
        return bt_err_set(err, BT_ENODEVICE, 0,
                          "this build has no CUDA backend; use --device cpu or auto");
#endif
    return bt_ops_run_cpu(ask, on_ops_row, b, skipped, err);
}

static bt_status bench_ops(bench *b, bt_err *err)
{
    const char *name = b->o->shape ? b->o->shape : "llama-3-8b";
    const bt_shape *shape = bt_shape_find(name);
    bt_recipe recipe;
    int32_t skipped = 0, formats[3], n_formats = 0;
    if (b->o->quant && bt_quant_formats(b->o->quant, formats, &n_formats, err)) return BT_EINVAL;
    if (!shape) {
        bt_buf known = BT_BUF_INIT;
        bt_shape_names(&known);
        bt_err_set(err, BT_EINVAL, 0, "unknown shape '%.32s'; known are %s", name, known.data);
        bt_buf_release(&known);
        return BT_EINVAL;
    }
    bt_shape_recipe(shape, &recipe);
    bt_ops_ask ask = {.recipe = &recipe,
                      .format = n_formats ? formats : NULL,
                      .n_formats = n_formats,
                      .only = b->o->only,
                      .quick = b->o->quick,
                      .seconds = (double)b->o->seconds,
                      .threads = (int32_t)b->o->threads};
    bt_status st = ops_anywhere(b, &ask, &skipped, err);
    if (skipped)
        fprintf(stderr, "baton: %d cases were left out: no time or no memory for them\n", skipped);
    return st;
}

/* ---- the command */

static bt_status open_engine(bench *b, bool batch, bt_err *err)
{
    bt_engine_options eo;
    bt_status st = bt_options_engine(b->o, &eo, err);
    if (st) return st;
    if (eo.slots == 0) eo.slots = batch ? 64 : 1;
    if (!b->o->model)
        st = bt_shape_model_new(b->o->shape, b->o->quant ? b->o->quant : "q4_k_m",
                                (int32_t)b->o->shape_layers, &b->shape, err);
    return st ? st : bt_measure_open(&eo, b->shape, &b->m, err);
}

int bt_cmd_bench(const bt_options *o, int argc, char **argv)
{
    static const char *const styles[] = {"md", "csv", "json", "jsonl"};
    static const struct {
        const char *name;
        bt_status (*run)(bench *b, bt_err *err);
        bool engine;
    } kinds[] = {{"ops", bench_ops, false},
                 {"model", bench_model, true},
                 {"batch", bench_batch, true},
                 {"residency", bench_residency, true}};
    enum { KINDS = sizeof kinds / sizeof *kinds };
    const char *what = argc == 1 ? argv[0] : "";
    bench b = {.o = o};
    bt_err err = {0};
    bt_status st = BT_OK;
    int kind = 0;
    bt_log_set_level(BT_LOG_WARN);
    while (b.style < JSONL && strcmp(o->output, styles[b.style]) != 0) b.style++;
    while (kind < KINDS && strcmp(what, kinds[kind].name) != 0) kind++;
    if (kind == KINDS)
        st = bt_err_set(&err, BT_EINVAL, 0,
                        "say what to measure: `baton bench model`, `baton bench batch`, "
                        "`baton bench ops` or `baton bench residency`");
    if (!st && strcmp(o->output, styles[b.style]) != 0)
        st = bt_err_set(&err, BT_EINVAL, 0, "--output must be md, csv, json or jsonl");
    if (!st && kinds[kind].engine) st = open_engine(&b, strcmp(what, "batch") == 0, &err);
    if (!st) st = kinds[kind].run(&b, &err);
    if (b.style == JSON && b.rows) printf("\n]\n");
    bt_measure_close(b.m);
    bt_shape_model_free(b.shape);
    return st ? bt_cli_fail(&err) : 0;
}
