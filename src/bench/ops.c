/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/ops.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "bench/ops_impl.h"
#include "kernels/quant/quant.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const unit_names[BT_UNITS] = {"-", "fma", "dot", "mma f16", "mma s8"};

const char *bt_ops_unit_name(bt_ops_unit unit)
{
    return unit_names[unit];
}

/* ---- the run */

void bt__ops_begin(bt__ops *o, const bt_ops_ask *ask, bt_ops_sink sink, void *ud)
{
    *o = (bt__ops){.ask = ask, .sink = sink, .ud = ud, .end_ns = INT64_MAX};
    if (ask->seconds > 0) o->end_ns = bt_now_ns() + (int64_t)(ask->seconds * 1e9);
}

bt_status bt__ops_end(const bt__ops *o, int32_t *skipped, bt_err *err)
{
    *skipped = o->skipped;
    if (o->wrong == 0) return BT_OK;
    return bt_err_set(err, BT_EDEVICE, 0,
                      "%d results differ from the reference by more than is allowed; they are "
                      "marked WRONG and were not timed",
                      o->wrong);
}

bool bt__ops_named(const bt__ops *o, const char *kernel)
{
    const char *only = o->ask->only;
    return !only || strncmp(kernel, only, strlen(only)) == 0;
}

bool bt__ops_wants(bt__ops *o, const char *kernel)
{
    if (!bt__ops_named(o, kernel)) return false;
    if (bt_now_ns() < o->end_ns) return true;
    o->skipped++;
    return false;
}

bool bt__ops_right(bt__ops *o, bt_ops_row *row)
{
    if (row->within == 0 || row->error <= row->within) return true; // NaN is not
    o->wrong++;
    bt__ops_tell(o, row);
    return false;
}

void bt__ops_tell(bt__ops *o, bt_ops_row *row)
{
    double by_memory = o->limits.memory > 0 ? row->bytes / o->limits.memory : 0;
    double rate = o->limits.rate[row->unit];
    double by_rate = rate > 0 ? row->ops / rate : 0;
    row->bound_us = row->ceiling ? 0 : 1e6 * BT_MAX(by_memory, by_rate);
    o->sink(o->ud, row, &o->limits);
}

/* ---- references */

void bt__ops_matrices(const bt_recipe *r, bt__ops_matrix out[BT__OPS_MATRICES])
{
    const bt_layer_recipe *l = &r->layer[0];
    int32_t q = l->n_heads * l->head_dim, kv = l->n_kv_heads * l->head_dim;
    out[0] = (bt__ops_matrix){"qkv", q + 2 * kv, r->hidden, false, false};
    out[1] = (bt__ops_matrix){"o", r->hidden, q, false, false};
    out[2] = (bt__ops_matrix){"gate_up", 2 * l->ffn, r->hidden, true, false};
    out[3] = (bt__ops_matrix){"down", r->hidden, l->ffn, false, false};
    out[4] = (bt__ops_matrix){"head", r->vocab, r->hidden, false, true};
}

static double dot(int32_t format, const void *src, int32_t output, const float *x, int32_t k,
                  float *row)
{
    double sum = 0;
    size_t stride = bt_format_bytes(format, (size_t)k);
    bt_dequant_ref(format, (const char *)src + (size_t)output * stride, (size_t)k, row);
    for (int32_t i = 0; i < k; i++) sum += (double)row[i] * (double)x[i];
    return sum;
}

double bt__ops_linear_error(const bt__ops_matrix *m, int32_t format, const void *src,
                            const float *x, int32_t rows, const float *y, int64_t ld)
{
    enum { OUTPUTS = 16, ROWS = 3 };
    double want[OUTPUTS * ROWS];
    float got[OUTPUTS * ROWS], *row = bt_must(bt_malloc((size_t)m->k * sizeof *row));
    int32_t n = m->glu ? m->n / 2 : m->n, count = 0;
    for (int32_t i = 0; i < BT_MIN(rows, (int32_t)ROWS); i++) {
        int32_t r = i == 0 ? 0 : i == 1 ? rows - 1 : rows / 2;
        const float *xr = x + (size_t)r * (size_t)m->k;
        for (int32_t j = 0; j < OUTPUTS; j++, count++) {
            int32_t o = (int32_t)((int64_t)(n - 1) * j / (OUTPUTS - 1));
            double v = dot(format, src, o, xr, m->k, row);
            if (m->glu) v = v / (1 + exp(-v)) * dot(format, src, o + n, xr, m->k, row);
            want[count] = v;
            got[count] = y[r * ld + o];
        }
    }
    bt_free(row);
    return bt__ops_error(got, want, count);
}

double bt__ops_error(const float *got, const double *want, int32_t n)
{
    double diff = 0, norm = 0;
    for (int32_t i = 0; i < n; i++) {
        diff += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return sqrt(diff / (norm > 0 ? norm : 1));
}

void bt__ops_attention(const float *q, double scale, int32_t positions, int32_t dim,
                       bt__ops_kv_fn element, const void *ud, double *out)
{
    double *p = bt_must(bt_malloc((size_t)positions * sizeof *p)), max = -INFINITY, sum = 0;
    for (int32_t t = 0; t < positions; t++) {
        p[t] = 0;
        for (int32_t c = 0; c < dim; c++) p[t] += (double)q[c] * element(ud, false, t, c);
        p[t] *= scale;
        max = BT_MAX(max, p[t]);
    }
    for (int32_t t = 0; t < positions; t++) sum += p[t] = exp(p[t] - max);
    for (int32_t c = 0; c < dim; c++) {
        out[c] = 0;
        for (int32_t t = 0; t < positions; t++) out[c] += p[t] / sum * element(ud, true, t, c);
    }
    bt_free(p);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bt__ops_median(double *v, int32_t n)
{
    qsort(v, (size_t)n, sizeof *v, ascending);
    return v[n / 2];
}

/* ---- printing */

static void print_csv(const bt_ops_row *r, const bt_ops_limits *limits, double memory, double rate,
                      bt_buf *out)
{
    bt_buf_addf(out, "\"%s\",%s,%s,%s,%d,%.3f,%.0f,%.0f,%.3f,%.2f,%.1f,%.1f,%.3f,%s,%.2e,%.1e,%s\n",
                limits->device, r->kernel, r->shape, r->format, r->rows, r->us, r->bytes, r->ops,
                r->us > 0 ? r->bytes / r->us / 1e3 : 0, r->us > 0 ? r->ops / r->us / 1e3 : 0,
                memory, rate, r->bound_us, bt_ops_unit_name(r->unit), r->error, r->within,
                r->us > 0 ? r->ceiling ? "ceiling" : "ok" : "WRONG");
}

static void print_share(bt_buf *out, double percent)
{
    if (percent > 0)
        bt_buf_addf(out, " %6.1f |", percent);
    else
        bt_buf_adds(out, "      - |");
}

void bt_ops_print(const bt_ops_row *r, const bt_ops_limits *limits, bool csv, bool head,
                  bt_buf *out)
{
    double peak = limits->rate[r->unit], memory = 0, rate = 0;
    if (!r->ceiling && r->us > 0 && limits->memory > 0)
        memory = 100 * r->bytes / (r->us / 1e6) / limits->memory;
    if (!r->ceiling && r->us > 0 && peak > 0) rate = 100 * r->ops / (r->us / 1e6) / peak;
    if (csv) {
        if (head)
            bt_buf_adds(
                out, "device,kernel,shape,format,rows,us,bytes,ops,gb_s,gop_s,pct_memory,pct_rate,"
                     "bound_us,unit,error,within,result\n");
        print_csv(r, limits, memory, rate, out);
        return;
    }
    if (head)
        bt_buf_adds(out,
                    "| kernel       | shape                | format | rows |         us |     GB/s "
                    "|    GOP/s | % mem  | % rate | bound us |   unit  |\n"
                    "|--------------|----------------------|--------|-----:|-----------:|---------:"
                    "|---------:|-------:|-------:|---------:|---------|\n");
    bt_buf_addf(out, "| %-12s | %-20s | %-6s | %4d | ", r->kernel, r->shape, r->format, r->rows);
    if (r->us <= 0) {
        bt_buf_addf(out, "WRONG: error %.2e, allowed %.1e |\n", r->error, r->within);
        return;
    }
    bt_buf_addf(out, "%10.2f | %8.1f | %8.1f |", r->us, r->bytes / r->us / 1e3,
                r->ops / r->us / 1e3);
    print_share(out, memory);
    print_share(out, rate);
    bt_buf_addf(out, " %8.2f | %-7s |\n", r->bound_us, bt_ops_unit_name(r->unit));
}
