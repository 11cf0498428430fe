/* SPDX-License-Identifier: Apache-2.0 */
/* batch_check.h - everything the kernels of any backend rely on in a batch, checked once a step.
 *
 * n_previous: output rows of the step before that batch.token may refer to. BT_EINVAL names what is
 * wrong. Thread: any. */
#pragma once
#include "baton/backend.h"

bt_status bt__batch_check(const bt_recipe *recipe, const bt_device_plan *plan,
                          const bt_batch *batch, int32_t n_previous, bt_err *err);
