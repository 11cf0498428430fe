/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors.h - safetensors files, one or the parts that an index names: mapped, everything
 * validated before anyone looks.
 *
 * After open every name, shape, type and offset has been checked against the files: tensors cover
 * the data of each file without a hole or an overlap, names are unique, and each tensor of the index
 * is in the file that it says. Data point into the mapping, are not aligned, and live until close. A
 * file that another program cuts shorter while it is mapped ends the process with SIGBUS: replace
 * model files by rename, never in place. Thread: any, read-only. */
#pragma once
#include "baton/status.h"
#include "file/tensor.h"

typedef struct bt_safetensors bt_safetensors;

/* path: a .safetensors file, or an index (*.json), whose parts lie beside it. Errors name the file,
 * what is wrong ("12 bytes are missing") and what to do. Dimensions beyond the fourth are part of the
 * slowest, dim[3]. BT_ENOTFOUND: no such file, or a part that is missing; BT_EFORMAT: not sound;
 * BT_EUNSUPPORTED: sound, but of a kind that is not read (a pickle). */
bt_status bt_safetensors_open(const char *path, bt_safetensors **out, bt_err *err);
/* One file's bytes, which the caller keeps (tests, fuzzing). */
bt_status bt_safetensors_open_memory(const void *data, size_t bytes, const char *name,
                                     bt_safetensors **out, bt_err *err);
void bt_safetensors_close(bt_safetensors *s);              // NULL is fine
const char *bt_safetensors_label(const bt_safetensors *s); // the path's last 100 bytes

size_t bt_safetensors_n_tensors(const bt_safetensors *s);
const bt_file_tensor *bt_safetensors_at(const bt_safetensors *s, size_t i); // in the files' order
const bt_file_tensor *bt_safetensors_find(const bt_safetensors *s,
                                          const char *name); // or NULL; O(1)
