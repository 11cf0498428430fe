/* SPDX-License-Identifier: Apache-2.0 */
/* files.h - which file a model's path means: a GGUF file, or safetensors with their config.json. */
#pragma once
#include "baton/status.h"
#include <stddef.h>

enum { BT_MODEL_PATH_MAX = 4096 };

typedef struct bt_model_files {
    char weights[BT_MODEL_PATH_MAX]; // a GGUF file, a .safetensors file or an index
    char folder[BT_MODEL_PATH_MAX];  // where config.json is; "": weights is a GGUF file
    char note[200];                  // what else the path might have meant; "" = nothing
} bt_model_files;

/* path: a GGUF file; a folder as transformers writes them, or its .safetensors, index or config.json;
 * or a folder with one GGUF model in it. Of a folder with both, the safetensors. Whether a GGUF file
 * is there is left to its reader. Thread: any. BT_ENOTFOUND, BT_EUNSUPPORTED or BT_EFORMAT: a folder
 * that holds no such model; the sentence says what it holds and what to do. */
bt_status bt_model_files_find(const char *path, bt_model_files *out, bt_err *err);
/* As people call what lies there: "models/a.gguf" is "a"; a folder, or what it holds, is the folder's
 * name. */
void bt_model_name(const char *path, char *dst, size_t cap);
