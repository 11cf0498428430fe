/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/forward.h"

static bt_status forward_layer(const bt_backend *be, bt_device *dev, int32_t layer, bt_err *err)
{
    bt_status status = be->attn_in(dev, layer, err);
    if (!status) status = be->attention(dev, layer, err);
    if (!status) status = be->attn_out(dev, layer, err);
    if (!status) status = be->mlp(dev, layer, err);
    return status;
}

bt_status bt_forward_launch(const bt_backend *be, bt_device *dev, const bt_recipe *recipe,
                            const bt_batch *batch, const bt_sample_req *sample, bt_sample_out *out,
                            bt_err *err)
{
    bt_status status = be->step_begin(dev, batch, err);
    if (!status) status = be->embed(dev, err);
    for (int32_t layer = 0; !status && layer < recipe->n_layers; layer++)
        status = forward_layer(be, dev, layer, err);
    if (!status && batch->n_out > 0) status = be->head(dev, err);
    if (!status && batch->n_out > 0) status = be->sample(dev, sample, out, err);
    if (!status && be->step_submit) status = be->step_submit(dev, err);
    return status;
}

bt_status bt_forward(const bt_backend *be, bt_device *dev, const bt_recipe *recipe,
                     const bt_batch *batch, const bt_sample_req *sample, bt_sample_out *out,
                     uint64_t *busy_us, bt_err *err)
{
    bt_status status = bt_forward_launch(be, dev, recipe, batch, sample, out, err);
    return status ? status : be->step_end(dev, busy_us, err);
}
