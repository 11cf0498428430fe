/* SPDX-License-Identifier: Apache-2.0 */
/* forward.h - one forward pass over a batch: the model's definition in the backend's words. */
#pragma once
#include "baton/backend.h"

/* sample[i] and out[i] belong to batch->out_row[i]. busy_us is the device's own measure of the
 * step. Any error is a device fault: the device must not be used again. Thread: engine. */
bt_status bt_forward_launch(const bt_backend *be, bt_device *dev, const bt_recipe *recipe,
                            const bt_batch *batch, const bt_sample_req *sample, bt_sample_out *out,
                            bt_err *err); // without the wait for its end: step_end is the caller's
bt_status bt_forward(const bt_backend *be, bt_device *dev, const bt_recipe *recipe,
                     const bt_batch *batch, const bt_sample_req *sample, bt_sample_out *out,
                     uint64_t *busy_us, bt_err *err);
