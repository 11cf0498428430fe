/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_park.c - residency level 1: the device's memory is given back, the context and its graphs
 * stay.
 *
 * Waking copies the weights from a pinned image of the segment in host memory, at the bus's speed,
 * or loads them from the model's file again where host memory has no room for the image. The image
 * is made at the first parking and kept: weights do not change. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "device/cuda/cuda_device.h"
#include "device/cuda/cuda_probe.h"
#include "model/plan.h"

bt_status bt__cuda_take_memory(bt_device *d, bt_err *err)
{
    static const char *const what[SEG_COUNT] = {"the weights", "the KV cache", "scratch"};
    uint64_t free_bytes = 0, total = 0, need = 0;
    bt_status st = bt_cuda_free_bytes(d->plan.ordinal, &free_bytes, &total, err);
    if (st) return st;
    for (int32_t i = 0; i < SEG_COUNT; i++) need += d->memory.segment[i].bytes;
    if (need > free_bytes)
        return bt_err_set(err, BT_ENOMEM, 0,
                          "%s has %llu MiB free and %llu MiB are needed (weights %llu, KV %llu, "
                          "scratch %llu): %llu MiB are missing; use a smaller --ctx, fewer --slots "
                          "or --quant int4",
                          d->label, (unsigned long long)(free_bytes >> 20),
                          (unsigned long long)(need >> 20),
                          (unsigned long long)(d->memory.segment[SEG_WEIGHTS].bytes >> 20),
                          (unsigned long long)(d->memory.segment[SEG_KV].bytes >> 20),
                          (unsigned long long)(d->memory.segment[SEG_SCRATCH].bytes >> 20),
                          (unsigned long long)((need - free_bytes + (1 << 20) - 1) >> 20));
    for (int32_t i = 0; !st && i < SEG_COUNT; i++)
        st = bt__cuda_memory_take(&d->memory, i, what[i], err);
    if (st) return st;
    bt__cuda_place(d->recipe, d->weights, &d->plan, d->memory.segment[SEG_WEIGHTS].base, &d->w,
                   &d->at);
    return BT_OK;
}

/* Pinned memory cannot be swapped out: half of what is free now is the most it may take. */
static bool host_has_room(size_t bytes)
{
    bt_memory m;
    return bt_memory_read("", &m, NULL) == BT_OK && bytes <= m.free_bytes / 2;
}

static void make_image(bt_device *d)
{
    const bt_cuda_segment *w = &d->memory.segment[SEG_WEIGHTS];
    void *p = NULL;
    if (!d->plan.keep_host || d->host_image || !host_has_room(w->bytes)) return;
    if (cudaHostAlloc(&p, w->bytes, cudaHostAllocDefault) != cudaSuccess) {
        cudaGetLastError(); // waking reads the file instead
        return;
    }
    cudaError_t code = cudaMemcpyAsync(p, w->base, w->bytes, cudaMemcpyDeviceToHost, d->stream);
    if (code == cudaSuccess) code = cudaStreamSynchronize(d->stream);
    if (code == cudaSuccess) {
        d->host_image = p;
        return;
    }
    bt__cuda_check(d, code, "saving weights", NULL);
    cudaFreeHost(p);
}

/* The driver may not tell what is free; that undoes nothing. */
static bt_status report(const bt_device *d, int64_t begin_ns, bt_residency *out)
{
    uint64_t total = 0;
    out->bytes = 0;
    for (int32_t i = 0; i < SEG_COUNT; i++) out->bytes += d->memory.segment[i].bytes;
    out->took_ns = bt_now_ns() - begin_ns;
    bt_cuda_free_bytes(d->plan.ordinal, &out->free_bytes, &total, NULL);
    return BT_OK;
}

bt_status bt__cuda_park(bt_device *d, bt_residency *out, bt_err *err)
{
    int64_t begin = bt_now_ns();
    BT_ASSERT(d->n_flight == 0 && !d->parked);
    *out = (bt_residency){0};
    bt_status st =
        bt__cuda_check(d, cudaStreamSynchronize(d->stream), "waiting for the device", err);
    if (st) return st;
    make_image(d);
    if (d->memory.movable) bt__cuda_graphs_drop(d); // addresses will be others
    for (int32_t i = 0; i < SEG_COUNT; i++) {
        bt_status given = bt__cuda_memory_give(&d->memory, i, st ? NULL : err);
        if (!st) st = given;
    }
    d->parked = true;
    d->n_logits = d->n_drawn = 0;
    return st ? st : report(d, begin, out);
}

/* A wake that fails half-way leaves the device parked, so that it can be tried again. */
static void park_again(bt_device *d)
{
    cudaStreamSynchronize(d->stream);
    for (int32_t i = 0; i < SEG_COUNT; i++) bt__cuda_memory_give(&d->memory, i, NULL);
}

bt_status bt__cuda_wake(bt_device *d, bt_load_progress progress, void *ud, bt_residency *out,
                        bt_err *err)
{
    int64_t begin = bt_now_ns();
    const bt_cuda_segment *w = &d->memory.segment[SEG_WEIGHTS];
    BT_ASSERT(d->parked);
    *out = (bt_residency){.from_host = d->host_image != NULL};
    bt_status st = bt__cuda_take_memory(d, err);
    if (!st && d->host_image) {
        cudaError_t code =
            cudaMemcpyAsync(w->base, d->host_image, w->bytes, cudaMemcpyHostToDevice, d->stream);
        if (code == cudaSuccess) code = cudaStreamSynchronize(d->stream);
        st = bt__cuda_check(d, code, "copying weights to the device", err);
        if (!st && progress) progress(ud, w->bytes, w->bytes);
    } else if (!st) {
        st = bt__cuda_load(d, progress, ud, err);
    }
    if (st) {
        park_again(d);
        return st;
    }
    d->parked = d->graphless = false;
    bt__cuda_pages_forget(d);
    return report(d, begin, out);
}
