/* SPDX-License-Identifier: Apache-2.0 */
/* LAYER kernels */
/* linear.c - how fast do the matrices of a model run, and how near is that to what this machine can
 * do?
 *
 * One pass runs every matrix of a model of Qwen2.5-0.5B's shapes, layer after layer over weights of
 * their own (so caches help no more than in life), activations prepared as the engine does. Nothing
 * else of the model runs. Before any timing, each shape's result is compared with the reference; a
 * mismatch ends the program. The output matrix is run for all rows up to 16 rows (decoding), for
 * one row above (a prompt). */
#include "base/clock.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "kernels/ceiling/ceiling.h"
#include "kernels/cpu_isa.h"
#include "kernels/linear/linear.h"
#include "kernels/quant/quant.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    HIDDEN = 896,
    FFN = 4864,
    KV = 128,
    VOCAB = 151936,
    ROWS_MAX = 512,
    HEAD_ROWS_MAX = 16,
    BAND_BYTES = 256 << 20
};

/* The matrices of a layer; `prepare`: its input was not prepared yet. */
static const struct {
    int32_t n, k;
    bool prepare;
} shapes[] = {{HIDDEN, HIDDEN, true}, {KV, HIDDEN, false}, {KV, HIDDEN, false},
              {HIDDEN, HIDDEN, true}, {FFN, HIDDEN, true}, {FFN, HIDDEN, false},
              {HIDDEN, FFN, true}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

typedef struct options {
    int threads, layers, repeat, only_rows;
    const char *only_format, *isa;
    bool csv;
} options;

typedef struct model {
    int32_t format;
    bt_linear *w; // [layers * N_SHAPES + 1]; the last is the output matrix
    int count;
    float *x, *y;
    void *act;
    int32_t rows;
    size_t bytes;
    bt_pool *pool;
} model;

static void *huge(size_t bytes)
{
    size_t round = (size_t)2 << 20;
    void *p = bt_must(bt_aligned_alloc(round, (bytes + round - 1) / round * round));
    madvise(p, bytes, MADV_HUGEPAGE);
    return p;
}

/* ---- what the machine can do: the two ceilings (kernels/ceiling/ceiling.h) ---- */

typedef struct probe {
    const char *data;
    size_t bytes;
    double sum[64];
} probe;

static void probe_read(void *ud, int thread, int threads)
{
    probe *p = ud;
    size_t part = p->bytes / (size_t)threads / 4096 * 4096;
    p->sum[thread] += (double)bt_ceiling_read(p->data + part * (size_t)thread, part);
}

enum { FMA_LOOPS = 2000000 };
static void probe_fma(void *ud, int thread, int threads)
{
    probe *p = ud;
    (void)threads;
    p->sum[thread] += bt_ceiling_fma(FMA_LOOPS);
}

/* Best of five, per second. */
static double probe_rate(bt_pool *pool, bt_pool_fn fn, probe *p, double amount)
{
    double best = 0;
    for (int i = 0; i < 5; i++) {
        int64_t t0 = bt_now_ns();
        bt_pool_run(pool, fn, p);
        double rate = amount / (double)(bt_now_ns() - t0) * 1e9;
        best = rate > best ? rate : best;
    }
    return best;
}

/* ---- the model ---- */

static void fail(const char *what)
{
    fprintf(stderr, "bench-linear: %s\n", what);
    exit(1);
}

/* Packs one matrix of random weights and compares a few rows with the reference. */
static void check_and_pack(bt_linear *w, const float *x)
{
    enum { ROWS = 7, SAMPLE = 64 };
    size_t per_row = bt_format_bytes(w->format, (size_t)w->k);
    uint8_t *src = bt_must(bt_malloc(per_row * (size_t)w->n));
    float *row = bt_must(bt_malloc((size_t)w->k * sizeof *row));
    int32_t varied = w->n < 512 ? w->n : 512; // rows past these repeat them
    for (int32_t o = 0; o < w->n; o++) {
        for (int32_t i = 0; o < varied && i < w->k; i++)
            row[i] = (float)bt_rng_unit((uint64_t)o + 1, (uint64_t)i) * 0.1f - 0.05f;
        if (o < varied)
            bt_quant_ref(w->format, row, (size_t)w->k, src + per_row * (size_t)o);
        else
            memcpy(src + per_row * (size_t)o, src + per_row * (size_t)(o % varied), per_row);
    }
    bt_linear_pack(w, src, 0, w->n);
    int kind = bt_linear_act_kind(w->format);
    float *y = bt_must(bt_malloc(sizeof *y * ROWS * (size_t)w->n)), want[ROWS * SAMPLE];
    void *act = bt_must(bt_aligned_alloc(64, bt_linear_act_bytes(kind, ROWS, w->k)));
    bt_linear_act_prepare(kind, x, w->k, ROWS, w->k, act, 0, ROWS);
    bt_linear_run(w, act, ROWS, NULL, false, y, w->n, 0, w->n);
    bt_linear_ref(w->format, SAMPLE, w->k, src, x, w->k, ROWS, NULL, false, want, SAMPLE);
    for (int r = 0; r < ROWS; r++)
        for (int o = 0; o < SAMPLE; o++)
            if (!(fabsf(y[(size_t)r * (size_t)w->n + (size_t)o] - want[r * SAMPLE + o]) < 1e-4f))
                fail("a result differs from the reference; nothing is timed");
    bt_free(src);
    bt_free(row);
    bt_free(y);
    bt_free(act);
}

static void model_open(model *m, int32_t format, int layers)
{
    m->format = format;
    m->bytes = 0;
    m->count = layers * N_SHAPES + 1;
    m->w = bt_must(bt_calloc((size_t)m->count, sizeof *m->w));
    for (int i = 0; i < m->count; i++) {
        bool head = i == m->count - 1;
        int32_t n = head ? VOCAB : shapes[i % N_SHAPES].n,
                k = head ? HIDDEN : shapes[i % N_SHAPES].k;
        size_t bytes = bt_linear_packed_bytes(format, n, k);
        m->w[i] = (bt_linear){format, n, k, huge(bytes)};
        if (head || i < N_SHAPES)
            check_and_pack(&m->w[i], m->x);
        else
            memcpy(m->w[i].data, m->w[i % N_SHAPES].data, bytes);
        m->bytes += bytes;
    }
}

static void model_close(model *m)
{
    for (int i = 0; i < m->count; i++) bt_free(m->w[i].data);
    bt_free(m->w);
}

static void model_pass(void *ud, int thread, int threads)
{
    model *m = ud;
    int kind = bt_linear_act_kind(m->format);
    for (int i = 0; i < m->count; i++) {
        const bt_linear *w = &m->w[i];
        bool head = i == m->count - 1;
        int32_t rows = head && m->rows > HEAD_ROWS_MAX ? 1 : m->rows;
        if (head || shapes[i % N_SHAPES].prepare) {
            bt_pool_barrier(m->pool);
            bt_linear_act_prepare(kind, m->x, w->k, rows, w->k, m->act, rows * thread / threads,
                                  rows * (thread + 1) / threads);
            bt_pool_barrier(m->pool);
        }
        int32_t panels = (w->n + BT_LINEAR_PANEL - 1) / BT_LINEAR_PANEL;
        int32_t n0 = panels * thread / threads * BT_LINEAR_PANEL;
        int32_t n1 = panels * (thread + 1) / threads * BT_LINEAR_PANEL;
        bt_linear_run(w, m->act, rows, NULL, false, m->y, w->n, n0, n1 < w->n ? n1 : w->n);
    }
}

static double model_ops(const model *m)
{
    double ops = 0;
    for (int i = 0; i < m->count; i++) {
        int32_t rows = i == m->count - 1 && m->rows > HEAD_ROWS_MAX ? 1 : m->rows;
        ops += 2.0 * m->w[i].n * m->w[i].k * rows;
    }
    return ops;
}

/* Median and best of some passes, in nanoseconds. */
static double model_time(model *m, int repeat, double *best)
{
    double t[64];
    bt_pool_run(m->pool, model_pass, m);
    for (int i = 0; i < repeat; i++) {
        int64_t t0 = bt_now_ns();
        bt_pool_run(m->pool, model_pass, m);
        double v = (double)(bt_now_ns() - t0);
        int j = i;
        for (; j > 0 && t[j - 1] > v; j--) t[j] = t[j - 1];
        t[j] = v;
    }
    *best = t[0];
    return t[repeat / 2];
}

static options parse(int argc, char **argv)
{
    options o = {.threads = bt_cpu_count(), .layers = 24, .repeat = 5};
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(a, "--csv") == 0) {
            o.csv = true;
            continue;
        }
        if (!v)
            fail("usage: bench-linear [-t threads] [-l layers] [-n repeats] [-r rows] [-f format] "
                 "[--isa generic|avx2|avx512] [--csv]");
        if (strcmp(a, "-t") == 0) o.threads = atoi(v);
        if (strcmp(a, "-l") == 0) o.layers = atoi(v);
        if (strcmp(a, "-n") == 0) o.repeat = atoi(v);
        if (strcmp(a, "-r") == 0) o.only_rows = atoi(v);
        if (strcmp(a, "-f") == 0) o.only_format = v;
        if (strcmp(a, "--isa") == 0) o.isa = v;
        i++;
    }
    if (o.threads < 1 || o.threads > 64 || o.layers < 1 || o.repeat < 1 || o.repeat > 64 ||
        o.only_rows < 0 || o.only_rows > ROWS_MAX)
        fail("threads 1..64, layers >= 1, repeats 1..64, rows 1..512");
    if (!bt_isa_force(o.isa)) fail("this machine lacks those instructions");
    return o;
}

static void bench_format(model *m, const options *o, int32_t format, double read, double fma)
{
    static const int32_t rows[] = {1, 4, 16, 64, 256};
    model_open(m, format, o->layers);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (o->only_rows && i) break;
        m->rows = o->only_rows ? o->only_rows : rows[i];
        double best, ns = model_time(m, o->repeat, &best), ops = model_ops(m);
        double gbs = (double)m->bytes / ns, gops = ops / ns;
        printf(o->csv ? "%s,%s,%d,%d,%.3f,%.3f,%.2f,%.1f,%.1f,%.1f,%.1f\n"
                      : "%-7s %-5s %2d %4d %9.3f %9.3f %7.2f %5.1f %9.1f %6.1f %9.1f\n",
               bt_isa_name(bt_isa_get()), bt_format_get(format)->name, o->threads, m->rows,
               ns / 1e6, best / 1e6, gbs, 100 * gbs / read, gops, 100 * gops / fma,
               m->rows / ns * 1e9);
        fflush(stdout);
    }
    model_close(m);
}

int main(int argc, char **argv)
{
    static const int32_t formats[] = {BT_FORMAT_Q4_0,  BT_FORMAT_Q8_0, BT_FORMAT_INT4G,
                                      BT_FORMAT_INT8G, BT_FORMAT_F16,  BT_FORMAT_BF16,
                                      BT_FORMAT_F32};
    options o = parse(argc, argv);
    model m = {0};
    if (bt_pool_new(o.threads, &m.pool, NULL) != BT_OK) fail("cannot start the threads");
    probe p = {.data = huge(BAND_BYTES), .bytes = BAND_BYTES};
    memset((void *)p.data, 1, BAND_BYTES);
    double read = probe_rate(m.pool, probe_read, &p, BAND_BYTES);
    double fma =
        probe_rate(m.pool, probe_fma, &p, (double)bt_ceiling_fma_ops() * FMA_LOOPS * o.threads);
    fprintf(stderr, "read %.1f GB/s, f32 fma %.1f GFLOP/s (%d threads)\n", read / 1e9, fma / 1e9,
            o.threads);
    bt_free((void *)p.data);
    m.x = huge(sizeof *m.x * ROWS_MAX * FFN);
    for (size_t i = 0; i < (size_t)ROWS_MAX * FFN; i++) m.x[i] = (float)bt_rng_unit(7, i) * 2 - 1;
    m.y = huge(sizeof *m.y * (size_t)HEAD_ROWS_MAX * VOCAB);
    m.act = huge(bt_linear_act_bytes(bt_linear_act_kind(BT_FORMAT_F32), ROWS_MAX, FFN));
    printf(o.csv ? "isa,format,threads,rows,ms,best_ms,gb_s,pct_read,gop_s,pct_fma,tok_s\n"
                 : "isa     fmt    t rows        ms   best ms    GB/s %%read     GOP/s   %%fma     "
                   "tok/s\n");
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (!o.only_format || strcmp(o.only_format, bt_format_get(formats[i])->name) == 0)
            bench_format(&m, &o, formats[i], read / 1e9, fma / 1e9);
    bt_free(m.x);
    bt_free(m.y);
    bt_free(m.act);
    bt_pool_free(m.pool);
    return 0;
}
