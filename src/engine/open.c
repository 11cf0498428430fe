/* SPDX-License-Identifier: Apache-2.0 */
/* open.c - from a model's path to an engine: device, file, vocabulary, plan. */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "engine/engine_internal.h"
#include "model/model.h"
#include "model/plan.h"
#include "model/requant.h"
#include <stdio.h>
#include <string.h>
#ifdef BATON_CUDA
#include "device/cuda/cuda_probe.h"
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
    bt_status st = bt_memory_read("", &memory, err);
    *out = (place){.backend = &bt_backend_cpu, .free_bytes = memory.free_bytes};
    return st;
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

/* What a device cannot run at all is refused first: a plan's bytes count on that. */
static bt_status make_plan(const bt_recipe *recipe, const bt_weights *weights,
                           const bt_engine_options *opt, const place *p, bt_plan *out, bt_err *err)
{
    bt_device_plan least = {.threads = 1,
                            .page_tokens = 16,
                            .n_pages = 1,
                            .ctx = 1,
                            .rows_max = 1,
                            .seqs_max = 1,
                            .out_max = 1,
                            .kv_format = opt->kv_format,
                            .ordinal = p->ordinal};
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
    bt_status st = p->backend->can(recipe, weights, &least, err);
    if (!st) st = bt_plan_make(&ask, out, err);
    return st;
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
    bt_plan plan;
    bt_status st = make_plan(recipe, weights, opt, p, &plan, err);
    if (st) return st;
    parts.plan = plan.device;
    return bt_engine_open_parts(&parts, opt, sink, ud, out, err);
}

bt_status bt_engine_open_weights(const bt_recipe *recipe, const bt_weights *weights,
                                 const bt_vocab *vocab, const bt_engine_options *opt,
                                 bt_engine_sink sink, void *ud, bt_engine **out, bt_err *err)
{
    place p = {0};
    bt_status st = choose_place(opt->device, &p, err);
    return st ? st : open_at(&p, recipe, weights, vocab, opt, sink, ud, out, err);
}

typedef struct listener {
    bt_engine_sink sink;
    void *ud;
} listener;

/* Converting is the slow part of such a load: it is told as one. */
static void on_converted(void *ud, uint64_t done, uint64_t total)
{
    const listener *l = ud;
    bt_engine_event ev = {.type = BT_EE_LOAD};
    ev.u.load.done = done;
    ev.u.load.total = total;
    l->sink(l->ud, &ev);
}

/* What people should know of the file, once a load. */
static void tell(const bt_model *m)
{
    char text[96], size[16];
    uint64_t bytes = bt_model_convert_bytes(m, text);
    if (m->note[0]) bt_log(BT_LOG_INFO, "model.note", "text=\"%s\"", m->note);
    if (m->n_left)
        bt_log(BT_LOG_INFO, "model.left_out",
               "tensors=%zu text=\"parts that see or hear are not used\"", m->n_left);
    if (bytes)
        bt_log(BT_LOG_INFO, "model.converted", "text=\"%s, which take %s of host memory\"", text,
               bt_bytes_text(bytes, size));
}

/* Matrices that lie in the file as no device loads them; the host needs room for them. */
static bt_status convert(bt_model *m, int threads, listener *l, bt_err *err)
{
    char text[96], size[2][16];
    bt_memory memory;
    uint64_t bytes = bt_model_convert_bytes(m, text);
    bt_status st = bt_memory_read("", &memory, err);
    if (!st && bytes > memory.free_bytes)
        st = bt_err_set(err, BT_ENOMEM, 0,
                        "%s, which take %s of host memory, and %s are free: use a file in a format "
                        "that needs no conversion",
                        text, bt_bytes_text(bytes, size[0]),
                        bt_bytes_text(memory.free_bytes, size[1]));
    return st ? st : bt_model_convert(m, threads, on_converted, l, err);
}

/* All but the weights: where it will run, the file and its vocabulary. */
static bt_status find_parts(const bt_engine_options *opt, int32_t *quant, place *p,
                            bt_model **model, bt_vocab **vocab, bt_err *err)
{
    if (!opt->model_path) return bt_err_set(err, BT_EINVAL, 0, "no model was named; use --model");
    bt_status st = bt_requant_parse(opt->quant, quant, err);
    if (!st) st = choose_place(opt->device, p, err);
    if (!st) st = bt_model_open(opt->model_path, model, err);
    if (st) return st;
    if ((*model)->gguf) return bt_vocab_open((*model)->gguf, vocab, err);
    if (opt->open_vocab) return opt->open_vocab(opt->model_path, vocab, err);
    return bt_err_set(err, BT_EUNSUPPORTED, 0,
                      "this build reads tokenizers from GGUF files only: give the model as one");
}

bt_status bt_engine_check(const bt_engine_options *opt, bt_engine_fit *out, bt_err *err)
{
    bt_model *model = NULL;
    bt_vocab *vocab = NULL;
    bt_layer_weights *layers = NULL;
    bt_weights converted;
    const bt_weights *weights = NULL;
    bt_plan plan;
    place p = {0};
    int32_t quant = -1;
    bt_status st = find_parts(opt, &quant, &p, &model, &vocab, err);
    if (!st) {
        char text[96];
        uint64_t made = bt_model_convert_bytes(model, text);
        weights = &model->weights;
        if (p.backend == &bt_backend_cpu) p.free_bytes -= BT_MIN(made, p.free_bytes);
    }
    if (!st && quant >= 0) {
        layers = bt_malloc((size_t)model->recipe.n_layers * sizeof *layers);
        if (!layers) st = bt_err_set(err, BT_ENOMEM, 0, "out of memory to check the model");
    }
    if (layers) {
        uint64_t bytes = bt_requant_preview(&model->recipe, weights, quant, layers, &converted);
        weights = &converted;
        if (p.backend == &bt_backend_cpu) p.free_bytes -= BT_MIN(bytes, p.free_bytes);
    }
    if (!st) st = make_plan(&model->recipe, weights, opt, &p, &plan, err);
    if (!st) {
        const bt_device_plan *d = &plan.device;
        *out = (bt_engine_fit){.weights_bytes = plan.weights_bytes,
                               .kv_bytes = plan.kv_bytes,
                               .scratch_bytes = plan.scratch_bytes,
                               .free_bytes = plan.free_bytes,
                               .ctx = d->ctx,
                               .slots = d->seqs_max,
                               .kv_tokens = d->n_pages * d->page_tokens};
        snprintf(out->device, sizeof out->device, "%s", p.backend->name);
        if (p.backend != &bt_backend_cpu)
            snprintf(out->device, sizeof out->device, "%s:%d", p.backend->name, p.ordinal);
    }
    bt_free(layers);
    bt_vocab_close(vocab);
    bt_model_close(model);
    return st;
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
    bt_status st = find_parts(opt, &quant, &p, &model, &vocab, err);
    if (!st) tell(model);
    bool made = !st && (model->n_conversions > 0 || quant >= 0);
    if (!st && model->n_conversions > 0) st = convert(model, threads, &l, err);
    if (!st && quant >= 0) st = bt_model_requant(model, quant, threads, on_converted, &l, err);
    if (!st && made) /* what the converted weights took of the host is no longer free */
        st = choose_place(opt->device, &p, err);
    if (!st) st = open_at(&p, &model->recipe, &model->weights, vocab, opt, sink, ud, out, err);
    if (st) goto done;
    (*out)->own_model = model;
    (*out)->own_vocab = vocab;
    return BT_OK;
done:
    bt_vocab_close(vocab);
    bt_model_close(model);
    return st;
}
