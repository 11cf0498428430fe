/* SPDX-License-Identifier: Apache-2.0 */
/* requant.h - `--quant`: a model's matrices made smaller as they are loaded.
 *
 * Every matrix that the format can hold (rows of a multiple of 128) is converted to INT8G or INT4G
 * in host memory; devices then load those rows instead of the file's. Norms and biases stay, and so
 * do an embedding of its own (it is only looked up) and matrices that are as small already. */
#pragma once
#include "model/model.h"

/* "int8", "int4" -> BT_FORMAT_INT8G, BT_FORMAT_INT4G; NULL or "" -> -1: as in the file. BT_EINVAL:
 * another word. */
bt_status bt_requant_parse(const char *name, int32_t *format, bt_err *err);
/* The weights with the formats that bt_model_requant would leave, for counting: the data stay as
 * they are. layers is the caller's, [n_layers], and has to live as long as out. Returns the bytes
 * of host memory that the converted ones take. */
uint64_t bt_requant_preview(const bt_recipe *r, const bt_weights *w, int32_t format,
                            bt_layer_weights *layers, bt_weights *out);
/* threads >= 1. progress (may be NULL) tells bytes of the file read. The model's weights point to
 * memory that it owns from now on. BT_ENOMEM leaves the model as it was. */
bt_status bt_model_requant(bt_model *m, int32_t format, int threads,
                           void (*progress)(void *ud, uint64_t done, uint64_t total), void *ud,
                           bt_err *err);
