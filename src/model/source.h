/* SPDX-License-Identifier: Apache-2.0 */
/* source.h - the tensors of a model's file by the names of the table (tensors.h), whatever the
 * container. Private to src/model. */
#pragma once
#include "baton/status.h"
#include "file/gguf.h"
#include "file/safetensors.h"
#include "model/tensors.h"

typedef struct bt__source {
    const bt_gguf *gguf;               // one of both is set
    const bt_safetensors *safetensors; // borrowed
    const char *label;                 // for sentences
    bt_naming naming;
    const char *strip, *add; // safetensors: what stands before their names for "model."
    bool *used;              // owned: [tensors of the file]
} bt__source;

/* BT_ENOMEM. embed: the embedding's name, by which the names' beginning is found. */
bt_status bt__source_init(bt__source *s, const bt_gguf *gguf, const bt_safetensors *safetensors,
                          const char *embed, bt_err *err);
void bt__source_release(bt__source *s); // zeroed is fine
size_t bt__source_n(const bt__source *s);
const bt_file_tensor *bt__source_at(const bt__source *s, size_t i);
/* NULL: there is none. */
const bt_file_tensor *bt__source_find(const bt__source *s, const char *name);
/* BT_EUNSUPPORTED: a tensor that nobody used, nor knows to be superfluous. rest: other parts of a
 * model that sees or hears are left out; *n_left: how many. */
bt_status bt__source_check(const bt__source *s, const bt_recipe *r, bool rest, size_t *n_left,
                           bt_err *err);
