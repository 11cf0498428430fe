/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/forward.h"

static bt_status forward_layer(const bt_backend *be, bt_device *dev, int32_t layer, bt_err *err)
{
    bt_status st = be->attn_in(dev, layer, err);
    if (!st) st = be->attention(dev, layer, err);
    if (!st) st = be->attn_out(dev, layer, err);
    if (!st) st = be->mlp(dev, layer, err);
    return st;
}

bt_status bt_forward_launch(const bt_backend *be, bt_device *dev, const bt_recipe *recipe,
                            const bt_batch *batch, const bt_sample_req *sample, bt_sample_out *out,
                            bt_err *err)
{
    bt_status st = be->step_begin(dev, batch, err);
    if (!st) st = be->embed(dev, err);
    for (int32_t layer = 0; !st && layer < recipe->n_layers; layer++)
        st = forward_layer(be, dev, layer, err);
    if (!st && batch->n_out > 0) st = be->head(dev, err);
    if (!st && batch->n_out > 0) st = be->sample(dev, sample, out, err);
    if (!st && be->step_submit) st = be->step_submit(dev, err);
    return st;
}

bt_status bt_forward(const bt_backend *be, bt_device *dev, const bt_recipe *recipe,
                     const bt_batch *batch, const bt_sample_req *sample, bt_sample_out *out,
                     uint64_t *busy_us, bt_err *err)
{
    bt_status st = bt_forward_launch(be, dev, recipe, batch, sample, out, err);
    return st ? st : be->step_end(dev, busy_us, err);
}
