/* SPDX-License-Identifier: Apache-2.0 */
#include "model/requant.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/pool.h"
#include "kernels/quant/quant.h"
#include "model/tensors.h"
#include <string.h>

bt_status bt_requant_parse(const char *name, int32_t *format, bt_err *err)
{
    if (!name || !*name)
        *format = -1;
    else if (strcmp(name, "int8") == 0)
        *format = BT_FORMAT_INT8G;
    else if (strcmp(name, "int4") == 0)
        *format = BT_FORMAT_INT4G;
    else
        return bt_err_set(err, BT_EINVAL, 0, "--quant must be int8 or int4, not '%.32s'", name);
    return BT_OK;
}

/* The layers' matrices one after another, and the head last. */
static bt_weight *matrix_at(const bt_recipe *r, bt_weights *w, int32_t i)
{
    if (i == r->n_layers * BT_MATRICES_PER_LAYER) return &w->head;
    return bt_layer_matrix(&w->layers[i / BT_MATRICES_PER_LAYER], i % BT_MATRICES_PER_LAYER);
}

static size_t bytes_of(int32_t format, const bt_weight *w)
{
    return bt_format_bytes(format, (size_t)w->rows * (size_t)w->cols);
}

/* Converting what is as small already would only lose. */
static bool worth_it(const bt_weight *w, int32_t format)
{
    return w->data && bt_requant_supported(w->format, format, w->cols) &&
           bytes_of(format, w) < bytes_of(w->format, w);
}

uint64_t bt_requant_preview(const bt_recipe *r, const bt_weights *w, int32_t format,
                            bt_layer_weights *layers, bt_weights *out)
{
    memcpy(layers, w->layers, (size_t)r->n_layers * sizeof *layers);
    *out = *w;
    out->layers = layers;
    uint64_t bytes = 0;
    for (int32_t i = 0; i <= r->n_layers * BT_MATRICES_PER_LAYER; i++) {
        bt_weight *m = matrix_at(r, out, i);
        if (!worth_it(m, format)) continue;
        bytes += (bytes_of(format, m) + 63) / 64 * 64;
        m->format = format;
    }
    if (w->head.data == w->embed.data) out->embed = out->head;
    return bytes;
}

typedef struct requant_job {
    const bt_weight *from;
    int32_t format;
    char *dst;
} requant_job;

static void requant_rows(void *ud, int thread, int threads)
{
    const requant_job *j = ud;
    int64_t a = (int64_t)j->from->rows * thread / threads;
    int64_t b = (int64_t)j->from->rows * (thread + 1) / threads;
    size_t in = bt_format_bytes(j->from->format, (size_t)j->from->cols);
    size_t out = bt_format_bytes(j->format, (size_t)j->from->cols);
    if (a < b)
        bt_requant(j->from->format, (const char *)j->from->data + (size_t)a * in, j->format, b - a,
                   j->from->cols, j->dst + (size_t)a * out);
}

bt_status bt_model_requant(bt_model *m, int32_t format, int threads,
                           void (*progress)(void *ud, uint64_t done, uint64_t total), void *ud,
                           bt_err *err)
{
    int32_t n = m->recipe.n_layers * BT_MATRICES_PER_LAYER + 1;
    size_t need = 0;
    uint64_t total = 0, done = 0;
    BT_ASSERT(!m->requantized);
    for (int32_t i = 0; i < n; i++) {
        const bt_weight *w = matrix_at(&m->recipe, &m->weights, i);
        if (!worth_it(w, format)) continue;
        need += (bytes_of(format, w) + 63) / 64 * 64;
        total += bytes_of(w->format, w);
    }
    if (need == 0) return BT_OK;
    bt_pool *pool = NULL;
    char *memory = bt_aligned_alloc(64, need);
    bt_status st =
        memory ? bt_pool_new(threads, &pool, err)
               : bt_err_set(err, BT_ENOMEM, 0,
                            "--quant needs %zu MiB of host memory for the converted weights",
                            need >> 20);
    if (st) {
        bt_free(memory);
        return st;
    }
    const bool tied = m->weights.head.data == m->weights.embed.data;
    size_t at = 0;
    for (int32_t i = 0; i < n; i++) {
        bt_weight *w = matrix_at(&m->recipe, &m->weights, i);
        if (!worth_it(w, format)) continue;
        requant_job job = {w, format, memory + at};
        bt_pool_run(pool, requant_rows, &job);
        done += bytes_of(w->format, w);
        at += (bytes_of(format, w) + 63) / 64 * 64;
        w->data = job.dst;
        w->format = format;
        if (progress) progress(ud, done, total);
    }
    if (tied) m->weights.embed = m->weights.head;
    m->requantized = memory;
    bt_pool_free(pool);
    return BT_OK;
}
