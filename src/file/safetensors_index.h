/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors_index.h - model.safetensors.index.json: which tensor is in which file. Private to
 * src/file. */
#pragma once
#include "base/mem.h"
#include "baton/status.h"
#include "file/tensor.h"

enum { BT_SAFETENSORS_PARTS_MAX = 1000, BT_SAFETENSORS_TENSORS_MAX = 1 << 18 };

typedef struct bt_safetensors_index {
    struct bt_index_entry {
        bt_str name; // of the tensor
        uint32_t part;
    } * entry; // owned, in the file's order
    size_t n_entries;
    const char *
        *part; // owned: files' names, which hold no '/', in the order of their first mention
    size_t n_parts;
    bt_arena arena; // names that had escapes, and the parts'
} bt_safetensors_index;

/* text is the caller's and has to outlive the index; label is for sentences. Refuses parts that are
 * pickles, and names that lead out of the folder. *out: bt_safetensors_index_release. */
bt_status bt_safetensors_index_read(const char *text, size_t n, const char *label,
                                    bt_safetensors_index *out, bt_err *err);
void bt_safetensors_index_release(bt_safetensors_index *x);
/* BT_EUNSUPPORTED where the name is that of a pickle (.bin, .pt, .pth, .ckpt, .pkl). */
bt_status bt_refuse_pickle(const char *label, bt_err *err);
/* A name that r (over text) has just handed out, so that it lives on: in the text itself, or copied
 * where it had escapes. False: out of memory. */
bool bt_keep_name(bt_arena *arena, const char *text, size_t n, bt_str *name);
