/* SPDX-License-Identifier: Apache-2.0 */
/* open.c - from a model's path to an engine: file, vocabulary, backend, plan. */
#include "base/pool.h"
#include "engine/engine_internal.h"
#include "model/model.h"
#include "model/plan.h"
#include <string.h>

static bt_status check_device(const char *device, bt_err *err)
{
    if (!device || strcmp(device, "auto") == 0 || strcmp(device, "cpu") == 0 ||
        strcmp(device, "cpu0") == 0)
        return BT_OK;
    if (strncmp(device, "cuda", 4) == 0)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "this build has no CUDA backend; use --device cpu or auto");
    return bt_err_set(err, BT_EINVAL, 0, "unknown device '%.32s'; known are auto and cpu", device);
}

static bt_status make_plan(const bt_model *m, const bt_engine_options *opt, bt_device_plan *out,
                           bt_err *err)
{
    bt_memory memory;
    bt_plan plan;
    bt_status status = bt_memory_read("", &memory, err);
    if (status) return status;
    bt_plan_ask ask = {.recipe = &m->recipe,
                       .weights = &m->weights,
                       .bytes = bt_backend_cpu.bytes,
                       .free_bytes = memory.free_bytes,
                       .threads = opt->threads > 0 ? opt->threads : bt_cpu_count(),
                       .slots = opt->slots > 0 ? opt->slots : BT_ENGINE_SLOTS_DEFAULT,
                       .ctx = opt->ctx,
                       .kv_tokens = opt->kv_tokens,
                       .step_tokens = opt->step_tokens,
                       .kv_format = opt->kv_format};
    status = bt_plan_make(&ask, &plan, err);
    if (!status) *out = plan.device;
    return status;
}

bt_status bt_engine_open(const bt_engine_options *opt, bt_engine_sink sink, void *ud,
                         bt_engine **out, bt_err *err)
{
    bt_model *model = NULL;
    bt_vocab *vocab = NULL;
    bt_engine_parts parts = {.backend = &bt_backend_cpu};
    if (!opt->model_path) return bt_err_set(err, BT_EINVAL, 0, "no model was named; use --model");
    bt_status status = check_device(opt->device, err);
    if (!status) status = bt_model_open(opt->model_path, &model, err);
    if (!status) status = bt_vocab_open(model->gguf, &vocab, err);
    if (!status) status = make_plan(model, opt, &parts.plan, err);
    if (status) goto done;
    parts.recipe = &model->recipe;
    parts.weights = &model->weights;
    parts.vocab = vocab;
    parts.name = model->recipe.name;
    status = bt_engine_open_parts(&parts, opt, sink, ud, out, err);
    if (status) goto done;
    (*out)->own_model = model;
    (*out)->own_vocab = vocab;
    return BT_OK;
done:
    bt_vocab_close(vocab);
    bt_model_close(model);
    return status;
}
