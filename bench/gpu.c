/* SPDX-License-Identifier: Apache-2.0 */
/* LAYER bench */
/* gpu.c - is this device as fast as its own memory and arithmetic allow? The measurements of
 * `baton bench` in a program that needs neither HTTP, database nor text libraries, for machines
 * where nothing can be installed: scripts/gpu_verify.sh runs it.
 *
 *     bench-gpu info                          devices, driver, what this build is for
 *     bench-gpu ops [--quick] [--only NAME]   each kernel beside its bound (src/bench/ops.h)
 *     bench-gpu model | batch | residency     the engine on random weights of a shape, or a file
 *
 * Every line is flushed, so a run that is killed leaves what it had. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "bench/ops.h"
#include "bench/runs.h"
#ifdef BATON_CUDA
#include "device/cuda/cuda_probe.h"
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_MAX = 32 };
#ifdef BT_EMULATED
enum { GPU_EMULATED = 1 };
#else
enum { GPU_EMULATED = 0 };
#endif

typedef struct options {
    const char *what, *device, *shape, *quant, *model, *kv, *prompt, *gen, *streams, *only, *output,
        *csv;
    int32_t repeat, threads, layers, ctx;
    double seconds;
    bool quick;
} options;

/* Where rows go: standard output, and perhaps a file. */
typedef struct table {
    bool csv, begun;
    FILE *file; // owned, or NULL
} table;

static const char usage[] =
    "usage: bench-gpu info|ops|model|batch|residency [options]\n"
    "  --device auto|cpu|cuda:N      where (an emulated build: emulated)\n"
    "  --shape NAME --quant NAME     random weights of that shape (default llama-3-8b q4_k_m);\n"
    "                                of ops: the formats (default all)\n"
    "  --layers N                    only so many of them\n"
    "  -m FILE                       a GGUF file instead\n"
    "  --kv-type f16|bf16|f32|int8|fp8\n"
    "  -p N,... -n N,... --streams N,... -r N -t N -c N\n"
    "                                prompt lengths, generated lengths, sequences at once,\n"
    "                                repetitions, CPU threads, context\n"
    "  --only KERNEL --quick --seconds S\n"
    "                                ops: which, fewer, begin no case after\n"
    "  -o md|csv --csv FILE          what goes to standard output; CSV to a file besides\n";

static int fail(const bt_err *err)
{
    fflush(stdout);
    fprintf(stderr, "bench-gpu: %s\n", err->msg);
    return err->code == BT_EINVAL ? 2 : err->code == BT_ENODEVICE ? 3 : 1;
}

static bool parse(int argc, char **argv, options *o)
{
    struct {
        const char *name;
        const char **text;
        int32_t *number;
    } known[] = {{"--device", &o->device, NULL}, {"--shape", &o->shape, NULL},
                 {"--quant", &o->quant, NULL},   {"-m", &o->model, NULL},
                 {"--kv-type", &o->kv, NULL},    {"-p", &o->prompt, NULL},
                 {"-n", &o->gen, NULL},          {"--streams", &o->streams, NULL},
                 {"--only", &o->only, NULL},     {"--csv", &o->csv, NULL},
                 {"-o", &o->output, NULL},       {"-r", NULL, &o->repeat},
                 {"-t", NULL, &o->threads},      {"--layers", NULL, &o->layers},
                 {"-c", NULL, &o->ctx}};
    if (argc < 2) return false;
    o->what = argv[1];
    for (int i = 2; i < argc; i++) {
        size_t k = 0;
        if (strcmp(argv[i], "--quick") == 0) {
            o->quick = true;
            continue;
        }
        if (i + 1 >= argc) return false;
        if (strcmp(argv[i], "--seconds") == 0) {
            o->seconds = atof(argv[++i]);
            continue;
        }
        while (k < sizeof known / sizeof *known && strcmp(argv[i], known[k].name) != 0) k++;
        if (k == sizeof known / sizeof *known) return false;
        if (known[k].text)
            *known[k].text = argv[++i];
        else
            *known[k].number = atoi(argv[++i]);
    }
    return o->repeat >= 1 && o->repeat <= BT_MEASURE_RUNS_MAX && o->threads >= 0;
}

static int list_of(const char *text, int32_t out[LIST_MAX])
{
    int n = 0;
    while (*text && n < LIST_MAX) {
        char *end;
        long v = strtol(text, &end, 10);
        if (end == text || v < 0 || v > 1 << 20 || (*end && *end != ',')) return -1;
        out[n++] = (int32_t)v;
        text = *end ? end + 1 : end;
    }
    return n;
}

static bt_status table_open(table *t, const options *o, bt_err *err)
{
    *t = (table){.csv = strcmp(o->output, "csv") == 0};
    if (o->csv && !(t->file = fopen(o->csv, "ae")))
        return bt_err_set(err, BT_EIO, 0, "cannot write %s", o->csv);
    return BT_OK;
}

static void table_close(table *t)
{
    if (t->file) fclose(t->file);
}

/* Writes what one row is as text and as CSV, at once. */
static void table_put(table *t, bt_buf *text, bt_buf *csv)
{
    fputs(text->data ? text->data : "", stdout);
    fflush(stdout);
    if (t->file) {
        fputs(csv->data ? csv->data : "", t->file);
        fflush(t->file);
    }
    t->begun = true;
    bt_buf_release(text);
    bt_buf_release(csv);
}

/* ---- info */

static int info(void)
{
    printf("baton %s, %s build\n", BATON_VERSION,
#if defined(BT_EMULATED)
           "emulated (a test build: no GPU is used, times mean nothing)"
#elif defined(BATON_CUDA)
           "CUDA"
#else
           "CPU only"
#endif
    );
#ifdef BATON_CUDA
    bt_cuda_found found[BT_CUDA_DEVICES_MAX];
    int32_t n = 0, runtime, driver;
    bt_err err = {0};
    bt_cuda_versions(&runtime, &driver);
    printf("CUDA runtime %d.%d, driver %d.%d\n", runtime / 1000, runtime % 1000 / 10, driver / 1000,
           driver % 1000 / 10);
    if (bt_cuda_probe(found, &n, &err) != BT_OK) return fail(&err);
    for (int32_t i = 0; i < n; i++) {
        const bt_cuda_props *p = &found[i].props;
        printf("cuda:%d %s, sm_%d, %d SMs, %.1f GiB, L2 %.1f MiB, %d-bit bus, %d MHz, memory %d "
               "MHz, %d KiB shared a block%s%s\n",
               found[i].ordinal, p->name, p->sm, p->n_sm,
               (double)p->total_bytes / (double)(1 << 30), (double)p->l2_bytes / (1 << 20),
               p->bus_bits, p->clock_khz / 1000, p->mem_clock_khz / 1000,
               p->shared_optin_bytes >> 10, found[i].usable ? "" : ": unusable, ",
               found[i].why_not);
    }
#endif
    return 0;
}

/* ---- ops */

static void on_row(void *ud, const bt_ops_row *row, const bt_ops_limits *limits)
{
    table *t = ud;
    bt_buf text = BT_BUF_INIT, csv = BT_BUF_INIT;
    if (!t->begun && !t->csv)
        printf("device: %s%s\n\n", limits->device,
               GPU_EMULATED ? " (no GPU: the times mean nothing)" : "");
    bt_ops_print(row, limits, t->csv, !t->begun, &text);
    bt_ops_print(row, limits, true, !t->begun, &csv);
    table_put(t, &text, &csv);
}

static bool on_cuda(const options *o)
{
#if defined(BT_EMULATED)
    return strcmp(o->device, "emulated") == 0;
#elif defined(BATON_CUDA)
    return strcmp(o->device, "cpu") != 0;
#else
    (void)o;
    return false;
#endif
}

static bt_status ops_on(const options *o, const bt_ops_ask *ask, table *t, int32_t *skipped,
                        bt_err *err)
{
#ifdef BATON_CUDA
    if (on_cuda(o)) {
        bt_cuda_found found;
        bt_ops_ask cuda = *ask;
        bt_status status =
            bt_cuda_choose(strncmp(o->device, "cuda", 4) == 0 ? o->device : "auto", &found, err);
        if (status) return status;
        cuda.ordinal = found.ordinal;
        return bt_ops_run_cuda(&cuda, on_row, t, skipped, err);
    }
#endif
    if (!on_cuda(o) && strncmp(o->device, "cuda", 4) == 0)
        return bt_err_set(err, BT_ENODEVICE, 0, "this build has no CUDA device");
    return bt_ops_run_cpu(ask, on_row, t, skipped, err);
}

static int ops(const options *o)
{
    bt_err err = {0};
    bt_recipe recipe;
    int32_t skipped = 0, formats[3], n_formats = 0;
    table t;
    if (o->quant && bt_quant_formats(o->quant, formats, &n_formats, &err)) return fail(&err);
    const bt_shape *shape = bt_shape_find(o->shape);
    if (!shape) {
        bt_err_set(&err, BT_EINVAL, 0, "unknown shape '%.32s'", o->shape);
        return fail(&err);
    }
    bt_shape_recipe(shape, &recipe);
    bt_ops_ask ask = {.recipe = &recipe,
                      .format = n_formats ? formats : NULL,
                      .n_formats = n_formats,
                      .only = o->only,
                      .quick = o->quick,
                      .seconds = o->seconds,
                      .threads = o->threads};
    bt_status status = table_open(&t, o, &err);
    if (!status) status = ops_on(o, &ask, &t, &skipped, &err);
    table_close(&t);
    if (skipped) fprintf(stderr, "%d cases were left out: no time or no memory\n", skipped);
    return status ? fail(&err) : 0;
}

/* ---- the engine */

typedef struct session {
    const options *o;
    bt_shape_model *shape;
    bt_measure *m;
    table table;
} session;

static bt_measure_style style(const session *s)
{
    return s->table.csv ? BT_MEASURE_CSV : BT_MEASURE_MD;
}

static bt_status open_session(session *s, bool batch, bt_err *err)
{
    const options *o = s->o;
    bt_engine_options eo = {.model_path = o->model, .device = o->device, .threads = o->threads};
    eo.slots = batch ? 64 : 1;
    eo.ctx = o->ctx;
    for (bt_kv_format f = BT_KV_F16; f <= BT_KV_FP8; f++)
        if (strcmp(o->kv, bt_kv_format_name(f)) == 0) eo.kv_format = f;
    if (strcmp(o->kv, bt_kv_format_name(eo.kv_format)) != 0)
        return bt_err_set(err, BT_EINVAL, 0, "--kv-type must be f16, bf16, f32, int8 or fp8");
    bt_status status = table_open(&s->table, o, err);
    if (!status && !o->model)
        status =
            bt_shape_model_new(o->shape, o->quant ? o->quant : "q4_k_m", o->layers, &s->shape, err);
    if (!status) status = bt_measure_open(&eo, s->shape, &s->m, err);
    if (!status && !s->table.csv) {
        const bt_measure_info *i = bt_measure_about(s->m);
        printf("device: %s (%s), KV %s, context %d, %d tokens a step\n\n", i->device, i->backend,
               i->type, i->ctx, i->step_tokens);
    }
    return status;
}

static bt_status model_rows(session *s, bt_err *err)
{
    int32_t pp[LIST_MAX], tg[LIST_MAX];
    int n_pp = list_of(s->o->prompt, pp), n_tg = list_of(s->o->gen, tg);
    if (n_pp < 0 || n_tg < 0)
        return bt_err_set(err, BT_EINVAL, 0, "-p and -n take numbers separated by commas");
    bt_measure_model_row *row = bt_must(bt_calloc(1, sizeof *row));
    bt_status status = BT_OK;
    for (int i = 0; i < n_pp + n_tg && !status; i++) {
        int32_t p = i < n_pp ? pp[i] : 0, n = i < n_pp ? 0 : tg[i - n_pp];
        if (p + n == 0) continue;
        status = bt_measure_model(s->m, p, n, s->o->repeat, row, err);
        if (status) break;
        bt_buf text = BT_BUF_INIT, csv = BT_BUF_INIT;
        bt_measure_model_print(s->m, row, style(s), !s->table.begun, &text);
        bt_measure_model_print(s->m, row, BT_MEASURE_CSV, !s->table.begun, &csv);
        table_put(&s->table, &text, &csv);
    }
    bt_free(row);
    return status;
}

static bt_status batch_rows(session *s, bt_err *err)
{
    int32_t pp[LIST_MAX], tg[LIST_MAX], pl[LIST_MAX];
    int n_pp = list_of(s->o->prompt, pp), n_tg = list_of(s->o->gen, tg);
    int n_pl = list_of(s->o->streams, pl);
    if (n_pp < 1 || n_tg < 1 || n_pl < 1)
        return bt_err_set(err, BT_EINVAL, 0, "-p, -n and --streams take numbers");
    bt_status status = BT_OK;
    for (int i = 0; i < n_pp * n_tg * n_pl && !status; i++) {
        bt_measure_batch_row row;
        status = bt_measure_batch(s->m, pp[i / (n_tg * n_pl)], tg[i / n_pl % n_tg], pl[i % n_pl],
                                  s->o->repeat, &row, err);
        if (status) break;
        bt_buf text = BT_BUF_INIT, csv = BT_BUF_INIT;
        bt_measure_batch_print(s->m, &row, style(s), !s->table.begun, &text);
        bt_measure_batch_print(s->m, &row, BT_MEASURE_CSV, !s->table.begun, &csv);
        table_put(&s->table, &text, &csv);
    }
    return status;
}

static bt_status residency_rows(session *s, bt_err *err)
{
    bt_measure_residency row;
    bt_buf text = BT_BUF_INIT, csv = BT_BUF_INIT;
    bt_status status = bt_measure_residency_run(s->m, s->o->repeat, &row, err);
    if (status) return status;
    bt_measure_residency_print(s->m, &row, style(s), true, &text);
    bt_measure_residency_print(s->m, &row, BT_MEASURE_CSV, true, &csv);
    table_put(&s->table, &text, &csv);
    return BT_OK;
}

static int engine(const options *o)
{
    session s = {.o = o};
    bt_err err = {0};
    bool batch = strcmp(o->what, "batch") == 0;
    bt_status status = open_session(&s, batch, &err);
    if (!status && batch)
        status = batch_rows(&s, &err);
    else if (!status && strcmp(o->what, "residency") == 0)
        status = residency_rows(&s, &err);
    else if (!status)
        status = model_rows(&s, &err);
    bt_measure_close(s.m);
    bt_shape_model_free(s.shape);
    table_close(&s.table);
    return status ? fail(&err) : 0;
}

int main(int argc, char **argv)
{
    options o = {.device = "auto",
                 .shape = "llama-3-8b",
                 .kv = "f16",
                 .prompt = "512",
                 .gen = "128",
                 .streams = "1,4,16,64",
                 .output = "md",
                 .repeat = 3};
    bt_log_set_level(BT_LOG_WARN);
    if (!parse(argc, argv, &o)) {
        fputs(usage, stderr);
        return 2;
    }
    if (strcmp(o.what, "info") == 0) return info();
    if (strcmp(o.what, "ops") == 0) return ops(&o);
    if (strcmp(o.what, "model") == 0 || strcmp(o.what, "batch") == 0 ||
        strcmp(o.what, "residency") == 0)
        return engine(&o);
    fputs(usage, stderr);
    return 2;
}
