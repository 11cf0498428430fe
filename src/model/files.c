/* SPDX-License-Identifier: Apache-2.0 */
/* files.c - looks into a model's folder. */
#include "model/files.h"
#include "base/assert.h"
#include "file/whole.h"
#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { NAME_MAX_BYTES = 256, LABEL_MAX = 100 };

/* What a folder holds; names are the first by the alphabet. */
typedef struct contents {
    bool config, adapter, pickle;
    char index[NAME_MAX_BYTES], safetensors[NAME_MAX_BYTES], gguf[NAME_MAX_BYTES];
    int n_index, n_safetensors, n_gguf; // models: a split one counts once
} contents;

/* "NAME-00002-of-00003.gguf" -> 2; 0: no part. */
static int part_of(const char *name, const char *end)
{
    int no = 0, count = 0, at = 0;
    size_t n = strlen(name), len = strlen("-00001-of-00001") + strlen(end);
    if (n <= len || sscanf(name + n - len, "-%5d-of-%5d%n", &no, &count, &at) != 2) return 0;
    return at == 15 ? no : 0;
}

static void note_file(const char *name, char first[static NAME_MAX_BYTES], int *count)
{
    if (!first[0] || strcmp(name, first) < 0) snprintf(first, NAME_MAX_BYTES, "%s", name);
    ++*count;
}

static bool look(const char *folder, contents *c)
{
    bool own_index = false, own_file = false; // transformers' names, which come before all others
    memset(c, 0, sizeof *c);
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        const char *name = e->d_name;
        if (strlen(name) >= NAME_MAX_BYTES) continue;
        c->config = c->config || strcmp(name, "config.json") == 0;
        c->adapter = c->adapter || strcmp(name, "adapter_config.json") == 0;
        c->pickle = c->pickle || bt_file_ends_with(name, ".pth") ||
                    bt_file_ends_with(name, ".pt") ||
                    (bt_file_ends_with(name, ".bin") && strncmp(name, "pytorch_model", 13) == 0);
        if (bt_file_ends_with(name, ".safetensors.index.json"))
            note_file(name, c->index, &c->n_index);
        else if (bt_file_ends_with(name, ".safetensors") && part_of(name, ".safetensors") == 0 &&
                 strncmp(name, "consolidated", 12) != 0 && strncmp(name, "adapter_", 8) != 0)
            note_file(name, c->safetensors, &c->n_safetensors);
        else if (bt_file_ends_with(name, ".gguf") && part_of(name, ".gguf") <= 1 &&
                 strncmp(name, "mmproj", 6) != 0)
            note_file(name, c->gguf, &c->n_gguf);
        own_index = own_index || strcmp(name, "model.safetensors.index.json") == 0;
        own_file = own_file || strcmp(name, "model.safetensors") == 0;
    }
    if (own_index) snprintf(c->index, sizeof c->index, "model.safetensors.index.json");
    if (own_file) snprintf(c->safetensors, sizeof c->safetensors, "model.safetensors");
    if (own_index) c->n_index = 1;
    if (own_file) c->n_safetensors = 1;
    if (d) closedir(d);
    return d != NULL;
}

/* folder/name; false if that is too long. */
static bool join(const char *folder, const char *name, char dst[static BT_MODEL_PATH_MAX])
{
    int n = snprintf(dst, BT_MODEL_PATH_MAX, "%s/%s", folder, name);
    return n > 0 && n < BT_MODEL_PATH_MAX;
}

static bt_status no_model(const contents *c, const char *label, bt_err *err)
{
    bool safetensors = c->n_index || c->n_safetensors;
    if (c->n_gguf > 1)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s holds %d GGUF models; name the one to use, for example %.100s/%.60s",
                          label, c->n_gguf, label, c->gguf);
    if (c->adapter && !c->config)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s is a LoRA adapter and no model: give the model it was made for; "
                          "adapters are not applied yet",
                          label);
    if (safetensors && !c->config)
        return bt_err_set(err, BT_ENOTFOUND, 0,
                          "%s holds safetensors but no config.json, which says what kind of model "
                          "they are: get it from where the model came from",
                          label);
    if (safetensors)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s holds %d .safetensors files and no index that says which belong "
                          "together; name one: %.60s",
                          label, c->n_safetensors, c->safetensors);
    if (c->pickle)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s holds PyTorch pickles, which can run code when they are opened and "
                          "are refused: get the model as safetensors or GGUF, or convert it with "
                          "transformers' save_pretrained",
                          label);
    if (c->config)
        return bt_err_set(err, BT_ENOTFOUND, 0,
                          "%s holds config.json but no weights: get the .safetensors files too",
                          label);
    return bt_err_set(err, BT_ENOTFOUND, 0,
                      "%s is a directory without a model: no .gguf file, and no .safetensors with "
                      "a config.json",
                      label);
}

/* The weights of out->folder. */
static bt_status choose(bt_model_files *out, const char *label, bt_err *err)
{
    contents c;
    const char *name = NULL;
    if (!look(out->folder, &c))
        return bt_err_set(err, BT_EIO, 0, "cannot look into the directory %s", label);
    if (c.config && c.n_index == 1)
        name = c.index;
    else if (c.config && c.n_safetensors == 1)
        name = c.safetensors;
    if (name && c.n_gguf)
        snprintf(out->note, sizeof out->note,
                 "the folder has a GGUF model too; to use it instead, name it: %.100s", c.gguf);
    if (!name && c.n_gguf == 1) name = c.gguf;
    if (!name) return no_model(&c, label, err);
    if (!join(out->folder, name, out->weights))
        return bt_err_set(err, BT_EINVAL, 0, "the model's path is too long");
    if (name == c.gguf) out->folder[0] = 0;
    return BT_OK;
}

bt_status bt_model_files_find(const char *path, bt_model_files *out, bt_err *err)
{
    bt_model_files f = {{0}, {0}, {0}};
    struct stat sb;
    size_t n = strlen(path);
    const char *label = path + (n > LABEL_MAX ? n - LABEL_MAX : 0);
    if (n >= BT_MODEL_PATH_MAX - NAME_MAX_BYTES)
        return bt_err_set(err, BT_EINVAL, 0, "the model's path is too long");
    bool folder = stat(path, &sb) == 0 && S_ISDIR(sb.st_mode);
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    bool index = bt_file_ends_with(name, ".safetensors.index.json");
    bool weights = bt_file_ends_with(name, ".safetensors") && !folder, part = false;
    bt_status st = BT_OK;
    if (folder) {
        snprintf(f.folder, sizeof f.folder, "%s", path);
        for (n = strlen(f.folder); n > 1 && f.folder[n - 1] == '/'; n--) f.folder[n - 1] = 0;
        st = choose(&f, label, err);
    } else if (weights || index || strcmp(name, "config.json") == 0) {
        snprintf(f.folder, sizeof f.folder, "%.*s", slash ? (int)(slash - path) : 1,
                 slash ? path : ".");
        if (slash == path) snprintf(f.folder, sizeof f.folder, "/");
        snprintf(f.weights, sizeof f.weights, "%s", path);
        part = weights && part_of(name, ".safetensors") > 0; // it is of no use alone
        if (part || !(weights || index)) st = choose(&f, label, err);
    } else {
        snprintf(f.weights, sizeof f.weights, "%s", path);
    }
    if (!st) *out = f;
    return st;
}

void bt_model_name(const char *path, char *dst, size_t cap)
{
    size_t n = strlen(path);
    const char *at = path + n;
    for (int level = 0; level < 2; level++) {
        while (n > 1 && path[n - 1] == '/') n--;
        for (at = path + n; at > path && at[-1] != '/'; at--) {
        }
        snprintf(dst, cap, "%.*s", (int)(n - (size_t)(at - path)), at);
        /* A file in a folder that has the model's name. */
        if (at == path ||
            (!bt_file_ends_with(dst, ".safetensors") && !bt_file_ends_with(dst, ".json")))
            break;
        n = (size_t)(at - path);
    }
    size_t len = strlen(dst);
    if (len > 5 && strcmp(dst + len - 5, ".gguf") == 0) dst[len - 5] = 0;
}
