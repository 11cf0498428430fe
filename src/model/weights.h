/* SPDX-License-Identifier: Apache-2.0 */
/* weights.h - from the tensors of a file to a model's weights. Private to src/model. */
#pragma once
#include "model/config.h"
#include "model/model.h"
#include "model/source.h"

/* Fills weights, floats, conversions and counts of a model whose recipe is read; s and what it reads
 * have to outlive it. config NULL: a GGUF file. */
bt_status bt__weights_load(bt_model *m, const bt__source *s, const bt_config *config, bt_err *err);
