/* SPDX-License-Identifier: Apache-2.0 */
/* quantized.h - how a safetensors checkpoint says that a matrix is quantized: by quantization_config,
 * and by the tensors that stand in place of NAME.weight. Private to src/model. */
#pragma once
#include "model/convert.h"
#include "baton/status.h"

/* What quantization_config says. */
typedef struct bt__quantization {
    char method[32];           // "fp8", "gptq", ...; "" = none
    int32_t bits;              // 0: not said
    int32_t group;             // columns that share a scale; 0: all of a row
    int32_t block_rows, block; // of FP8; 0: by the scales' shape
    bool zero_is_less;         // GPTQ: stored zeros are one less than they mean
} bt__quantization;

/* text: quantization_config's, or s NULL: none. BT_EUNSUPPORTED: a method that is not read. */
bt_status bt__quantization_read(bt_str text, const char *label, bt__quantization *out, bt_err *err);

/* A tensor by its name; NULL: there is none. Marks it as used. */
typedef const bt_file_tensor *(*bt__find_fn)(void *ud, const char *name);
/* The conversion of the matrix that a module ("model.layers.0.mlp.up_proj") holds, of rows in all and
 * cols. c->q NULL afterwards: it holds none that is quantized. to and first are the caller's.
 * BT_EFORMAT: a tensor is missing or of another shape; BT_EUNSUPPORTED: a form that is not read. */
bt_status bt__quantized_find(const bt__quantization *q, const char *module, int32_t rows,
                             int32_t cols, bt__find_fn find, void *ud, const char *label,
                             bt__conversion *c, bt_err *err);
