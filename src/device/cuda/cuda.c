/* SPDX-License-Identifier: Apache-2.0 */
/* cuda.c - the CUDA backend: opening and closing; the table itself is at the end. */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "device/cuda/cuda_device.h"
#include "device/cuda/cuda_probe.h"
#include <stdio.h>
#include <string.h>

#ifdef BT_EMULATED
enum { WARM_UP_ROWS = 16 };
#else
enum { WARM_UP_ROWS = 512 };
#endif

/* What launchers ask of the device, and its name. The planner asks before there is one, and
 * hundreds of times: the last answer is kept. */
static bt_status found_of(int32_t ordinal, bt_cuda_found *out, bt_err *err)
{
    static _Thread_local int32_t known = -1;
    static _Thread_local bt_cuda_found kept;
    if (ordinal == known) {
        *out = kept;
        return BT_OK;
    }
    bt_cuda_found found[BT_CUDA_DEVICES_MAX];
    int32_t n = 0;
    bt_status st = bt_cuda_probe(found, &n, err);
    if (st) return st;
    if (ordinal < 0 || ordinal >= n)
        return bt_err_set(err, BT_ENODEVICE, 0, "there is no device cuda:%d; there are %d", ordinal,
                          n);
    if (!found[ordinal].usable)
        return bt_err_set(err, BT_ENODEVICE, 0, "cuda:%d cannot be used: %s", ordinal,
                          found[ordinal].why_not);
    *out = kept = found[ordinal];
    known = ordinal;
    return BT_OK;
}

static void flight_close(cuda_flight *f)
{
    void *const pinned[] = {f->in, f->ask, f->pages, f->pick, f->top};
    for (size_t i = 0; i < BT_COUNT(pinned); i++)
        if (pinned[i]) cudaFreeHost(pinned[i]);
    if (f->begin) cudaEventDestroy(f->begin);
    if (f->end) cudaEventDestroy(f->end);
}

static void cuda_close(bt_device *d)
{
    if (!d) return;
    if (d->stream) cudaStreamSynchronize(d->stream);
    bt__cuda_graphs_drop(d);
    for (int32_t i = 0; i < CUDA_STEPS; i++) flight_close(&d->flight[i]);
    if (d->host_image) cudaFreeHost(d->host_image);
    bt_cuda_blas_close(d->blas);
    if (d->stream) cudaStreamDestroy(d->stream);
    bt__cuda_memory_close(&d->memory);
    bt_free(d->pages_shadow);
    bt_free(d->w.layer);
    bt_free(d);
}

/* Who waits for a step sleeps: the front's threads need the processor, and the wait is as long as a
 * step while the next one is already in the device's queue. */
static bt_status flight_events(bt_device *d, cuda_flight *f, bt_err *err)
{
    cudaError_t code = cudaEventCreate(&f->begin);
    if (code == cudaSuccess) code = cudaEventCreateWithFlags(&f->end, cudaEventBlockingSync);
    return bt__cuda_check(d, code, "making an event", err);
}

static bt_status flight_open(bt_device *d, cuda_flight *f, bt_err *err)
{
    size_t outs = (size_t)d->plan.out_max;
    const struct {
        void *slot;
        size_t bytes;
    } block[] = {{&f->in, d->at.in_bytes},
                 {&f->ask, d->at.ask_bytes},
                 {&f->pages, (size_t)d->plan.seqs_max * (size_t)d->at.pages_ld * sizeof *f->pages},
                 {&f->pick, outs * sizeof *f->pick},
                 {&f->top, outs * sizeof *f->top}};
    for (size_t i = 0; i < BT_COUNT(block); i++) {
        bt_status st = bt__cuda_pinned(block[i].bytes, "steps", block[i].slot, err);
        if (st) return st;
    }
    return flight_events(d, f, err);
}

static bt_status take_tables(bt_device *d, bt_err *err)
{
    size_t pages = (size_t)d->plan.seqs_max * (size_t)d->at.pages_ld;
    d->w.layer = bt_calloc((size_t)d->recipe->n_layers, sizeof *d->w.layer);
    d->pages_shadow = bt_malloc(pages * sizeof(int32_t));
    if (!d->w.layer || !d->pages_shadow)
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the CUDA device's tables");
    memset(d->pages_shadow, 0xFF, pages * sizeof(int32_t));
    return BT_OK;
}

static bt_status open_inner(bt_device *d, bt_load_progress progress, void *ud, bt_err *err)
{
    bt_cuda_found found;
    bt_status st = found_of(d->plan.ordinal, &found, err);
    if (st) return st;
    d->props = found.props;
    snprintf(d->driver_id, sizeof d->driver_id, "%s", found.uuid[0] ? found.uuid : found.pci);
    if (!bt__cuda_can(d->recipe, d->weights, &d->plan, &d->props, err))
        st = err ? err->code : BT_EUNSUPPORTED;
    if (st) return st;
    snprintf(d->label, sizeof d->label, "cuda%d %s", d->plan.ordinal, d->props.name);
    bt__cuda_layout_make(d->recipe, d->weights, &d->plan, &d->props, &d->at);
    st = bt__cuda_check(d, cudaSetDevice(d->plan.ordinal), "opening the device", err);
    if (!st) st = take_tables(d, err);
    if (!st)
        st = bt__cuda_check(d, cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking),
                            "making a stream", err);
    for (int32_t i = 0; !st && i < CUDA_STEPS; i++) st = flight_open(d, &d->flight[i], err);
    if (!st)
        st = bt__cuda_memory_open(&d->memory, d->plan.ordinal, d->at.segment_bytes, SEG_COUNT, err);
    if (!st) st = bt__cuda_take_memory(d, err);
    if (!st) st = bt__cuda_load(d, progress, ud, err);
    if (st) return st;
    d->blas = bt_cuda_blas_open();
    bt_log(BT_LOG_INFO, "cuda.open", "device=\"%s\" cublas=%s", d->label, d->blas ? "yes" : "no");
    return BT_OK;
}

static bt_status cuda_can(const bt_recipe *recipe, const bt_weights *weights,
                          const bt_device_plan *plan, bt_err *err)
{
    bt_cuda_found found;
    bt_err why = {0};
    bt_status st = found_of(plan->ordinal, &found, err);
    if (st || bt__cuda_can(recipe, weights, plan, &found.props, &why)) return st;
    return bt_err_set(err, why.code, 0, "%s", why.msg);
}

static bt_status cuda_open(const bt_recipe *recipe, const bt_weights *weights,
                           const bt_device_plan *plan, bt_load_progress progress, void *ud,
                           bt_device **out, bt_err *err)
{
    bt_err why = {0};
    bt_device *d = bt_calloc(1, sizeof *d);
    if (!d) return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the CUDA device");
    d->recipe = recipe;
    d->weights = weights;
    d->plan = *plan;
    bt_status st = open_inner(d, progress, ud, &why);
    if (st) {
        cuda_close(d);
        return bt_err_set(err, why.code, why.sys, "%s", why.msg);
    }
    *out = d;
    return BT_OK;
}

static void cuda_bytes(const bt_recipe *recipe, const bt_weights *weights,
                       const bt_device_plan *plan, uint64_t *weights_bytes, uint64_t *kv_bytes,
                       uint64_t *scratch_bytes)
{
    cuda_layout l;
    bt_cuda_found f;
    if (found_of(plan->ordinal, &f, NULL)) f.props = (bt_cuda_props){.sm = 80, .n_sm = 108};
    bt__cuda_layout_make(recipe, weights, plan, &f.props, &l);
    *weights_bytes = l.segment_bytes[SEG_WEIGHTS];
    *kv_bytes = l.segment_bytes[SEG_KV];
    *scratch_bytes = l.segment_bytes[SEG_SCRATCH];
}

static const char *cuda_label(const bt_device *d)
{
    return d->label;
}

static const char *cuda_driver_id(const bt_device *d)
{
    return d->driver_id;
}

const bt_backend bt_backend_cuda = {
    .name = "cuda",
    .steps_in_flight = CUDA_STEPS,
    .bytes_per_us = 300000,
    .warm_up_us = 2000000,
    .warm_up_rows = WARM_UP_ROWS,
    .can = cuda_can,
    .open = cuda_open,
    .close = cuda_close,
    .bytes = cuda_bytes,
    .step_begin = bt__cuda_step_begin,
    .embed = bt__cuda_embed,
    .attn_in = bt__cuda_attn_in,
    .attention = bt__cuda_attention,
    .attn_out = bt__cuda_attn_out,
    .mlp = bt__cuda_mlp,
    .head = bt__cuda_head,
    .sample = bt__cuda_sample,
    .step_submit = bt__cuda_step_submit,
    .step_end = bt__cuda_step_end,
    .park = bt__cuda_park,
    .wake = bt__cuda_wake,
    .label = cuda_label,
    .driver_id = cuda_driver_id,
    .logits = bt__cuda_logits,
};
