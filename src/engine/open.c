/* SPDX-License-Identifier: Apache-2.0 */
/* open.c - from a model's path to an engine: device, file, vocabulary, plan. */
#include "base/log.h"
#include "base/pool.h"
#include "engine/engine_internal.h"
#include "model/model.h"
#include "model/plan.h"
#include "model/requant.h"
#include <string.h>
#ifdef BATON_CUDA
#include "device/cuda_probe.h"
#endif

/* Where the model will run, and how much memory there is. */
typedef struct place {
    const bt_backend *backend;
    int32_t ordinal;
    uint64_t free_bytes;
} place;

static bt_status place_cpu(place *out, bt_err *err)
{
    bt_memory memory;
    bt_status status = bt_memory_read("", &memory, err);
    *out = (place){.backend = &bt_backend_cpu, .free_bytes = memory.free_bytes};
    return status;
}

#ifdef BATON_CUDA
static bt_status place_cuda(const char *want, place *out, bt_err *err)
{
    bt_cuda_found found;
    uint64_t total = 0;
    bt_status status = bt_cuda_choose(want, &found, err);
    if (status) return status;
    *out = (place){.backend = &bt_backend_cuda, .ordinal = found.ordinal};
    return bt_cuda_free_bytes(found.ordinal, &out->free_bytes, &total, err);
}
#endif

static bool is(const char *device, const char *name)
{
    return strcmp(device, name) == 0;
}

/* `auto` takes the first CUDA device that can be used, else the CPU; any other name is a demand. */
static bt_status choose_place(const char *device, place *out, bt_err *err)
{
    if (!device) device = "auto";
    if (is(device, "cpu") || is(device, "cpu0")) return place_cpu(out, err);
#if defined(BATON_CUDA) && defined(BT_EMULATED)
    if (is(device, "emulated")) return place_cuda("cuda:0", out, err);
    if (strncmp(device, "cuda", 4) == 0)
        return bt_err_set(err, BT_ENODEVICE, 0,
                          "this is a test build: it has the emulated device only, no CUDA device");
#elif defined(BATON_CUDA)
    if (strncmp(device, "cuda", 4) == 0) return place_cuda(device, out, err);
    if (is(device, "auto")) {
        bt_err why = {0};
        bt_status status = place_cuda(device, out, &why);
        if (status != BT_ENODEVICE) /* there is one: not to use it is not for us to decide */
            return status ? bt_err_set(err, status, why.sys, "%s", why.msg) : BT_OK;
        bt_log(BT_LOG_INFO, "engine.no_gpu", "reason=\"%s\"", why.msg);
    }
#else
    if (strncmp(device, "cuda", 4) == 0)
        return bt_err_set(err, BT_ENODEVICE, 0,
                          "this build has no CUDA backend; build it where nvcc is, or use --device "
                          "cpu or auto");
#endif
    if (is(device, "auto")) return place_cpu(out, err);
    return bt_err_set(err, BT_EINVAL, 0,
                      "unknown device '%.32s'; known are auto, cpu, cuda:N and cuda:UUID", device);
}

static bt_status make_plan(const bt_recipe *recipe, const bt_weights *weights,
                           const bt_engine_options *opt, const place *p, bt_device_plan *out,
                           bt_err *err)
{
    bt_plan plan;
    bt_plan_ask ask = {.recipe = recipe,
                       .weights = weights,
                       .bytes = p->backend->bytes,
                       .free_bytes = p->free_bytes,
                       .threads = opt->threads > 0 ? opt->threads : bt_cpu_count(),
                       .slots = opt->slots > 0 ? opt->slots : BT_ENGINE_SLOTS_DEFAULT,
                       .ctx = opt->ctx,
                       .kv_tokens = opt->kv_tokens,
                       .step_tokens = opt->step_tokens,
                       .kv_format = opt->kv_format,
                       .ordinal = p->ordinal,
                       .deterministic = opt->deterministic,
                       .keep_host = true};
    bt_status status = bt_plan_make(&ask, &plan, err);
    if (!status) *out = plan.device;
    return status;
}

static bt_status open_at(const place *p, const bt_recipe *recipe, const bt_weights *weights,
                         const bt_vocab *vocab, const bt_engine_options *opt, bt_engine_sink sink,
                         void *ud, bt_engine **out, bt_err *err)
{
    bt_engine_parts parts = {.backend = p->backend,
                             .recipe = recipe,
                             .weights = weights,
                             .vocab = vocab,
                             .name = recipe->name};
    bt_status status = make_plan(recipe, weights, opt, p, &parts.plan, err);
    return status ? status : bt_engine_open_parts(&parts, opt, sink, ud, out, err);
}

bt_status bt_engine_open_weights(const bt_recipe *recipe, const bt_weights *weights,
                                 const bt_vocab *vocab, const bt_engine_options *opt,
                                 bt_engine_sink sink, void *ud, bt_engine **out, bt_err *err)
{
    place p = {0};
    bt_status status = choose_place(opt->device, &p, err);
    return status ? status : open_at(&p, recipe, weights, vocab, opt, sink, ud, out, err);
}

typedef struct listener {
    bt_engine_sink sink;
    void *ud;
} listener;

/* Converting is the slow part of such a load: it is told as one. */
static void on_requant(void *ud, uint64_t done, uint64_t total)
{
    const listener *l = ud;
    bt_engine_event ev = {.type = BT_EE_LOAD};
    ev.u.load.done = done;
    ev.u.load.total = total;
    l->sink(l->ud, &ev);
}

bt_status bt_engine_open(const bt_engine_options *opt, bt_engine_sink sink, void *ud,
                         bt_engine **out, bt_err *err)
{
    bt_model *model = NULL;
    bt_vocab *vocab = NULL;
    place p = {0};
    int32_t quant = -1;
    listener l = {sink, ud};
    int threads = opt->threads > 0 ? opt->threads : bt_cpu_count();
    if (!opt->model_path) return bt_err_set(err, BT_EINVAL, 0, "no model was named; use --model");
    bt_status status = bt_requant_parse(opt->quant, &quant, err);
    if (!status) status = choose_place(opt->device, &p, err);
    if (!status) status = bt_model_open(opt->model_path, &model, err);
    if (!status) status = bt_vocab_open(model->gguf, &vocab, err);
    if (!status && quant >= 0)
        status = bt_model_requant(model, quant, threads, on_requant, &l, err);
    if (!status && quant >= 0) /* what the converted weights took of the host is no longer free */
        status = choose_place(opt->device, &p, err);
    if (!status)
        status = open_at(&p, &model->recipe, &model->weights, vocab, opt, sink, ud, out, err);
    if (status) goto done;
    (*out)->own_model = model;
    (*out)->own_vocab = vocab;
    return BT_OK;
done:
    bt_vocab_close(vocab);
    bt_model_close(model);
    return status;
}
