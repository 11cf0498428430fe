/* SPDX-License-Identifier: Apache-2.0 */
/* folder.c - opens a model by its path: a GGUF file, or what lies in a folder. */
#include "base/assert.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "file/whole.h"
#include "model/files.h"
#include "model/recipe.h"
#include "model/weights.h"
#include <stdio.h>
#include <string.h>

enum { CONFIG_BYTES_MAX = 16 << 20 };

/* A file of the folder, *text: bt_free. BT_ENOTFOUND without a sentence where it is not there. */
static bt_status read_beside(const bt_model_files *f, const char *name, char **text, bt_str *span,
                             char label[static BT_MODEL_PATH_MAX], bt_err *err)
{
    bt_err why = {0};
    size_t n = strlen(f->folder);
    char path[BT_MODEL_PATH_MAX];
    snprintf(path, sizeof path, "%.*s/%s", BT_MODEL_PATH_MAX - 40, f->folder, name);
    snprintf(label, BT_MODEL_PATH_MAX, "%.60s/%s", f->folder + (n > 60 ? n - 60 : 0), name);
    bt_status st = bt_file_read(path, CONFIG_BYTES_MAX, text, &span->n, &why);
    span->s = *text;
    if (st && st != BT_ENOTFOUND) bt_err_set(err, st, why.sys, "%s", why.msg);
    return st;
}

static bt_status load_folder(bt_model *m, const bt_model_files *f, bt_err *err)
{
    char *text = NULL, *generation = NULL, label[BT_MODEL_PATH_MAX];
    char embed[BT_TENSOR_NAME_MAX], name[sizeof m->recipe.name];
    bt_str span = {0};
    bt_config config;
    bt__source source = {0};
    bt_status st = read_beside(f, "generation_config.json", &generation, &span, label, err);
    if (st == BT_ENOTFOUND) st = BT_OK;
    if (!st && generation) st = bt_generation_read(span, label, &m->generation, err);
    if (!st) st = read_beside(f, "config.json", &text, &span, label, err);
    if (st == BT_ENOTFOUND)
        bt_err_set(
            err, st, 0,
            "there is no config.json beside %s, which says what kind of model it is: get it from "
            "where the model came from",
            f->weights + BT_MAX(strlen(f->weights), (size_t)100) - 100);
    if (!st) st = bt_config_read(span, label, &config, &m->recipe, err);
    if (!st) st = bt_safetensors_open(f->weights, &m->safetensors, err);
    if (!st) {
        bt_model_name(f->weights, name, sizeof name);
        memcpy(m->recipe.name, name, bt_utf8_valid_prefix(name, strlen(name)));
        bt_tensor_name(&m->recipe, 0, BT_TENSOR_EMBED, BT_NAMING_HF, embed);
        st = bt__source_init(&source, NULL, m->safetensors, embed, err);
    }
    if (!st) st = bt__weights_load(m, &source, &config, err);
    bt__source_release(&source);
    bt_free(generation);
    bt_free(text);
    return st;
}

static bt_status model_new(bt_model **out, bt_err *err)
{
    bt_model *m = bt_calloc(1, sizeof *m);
    if (!m) return bt_err_set(err, BT_ENOMEM, 0, "out of memory to open a model");
    m->generation = bt_generation_none();
    *out = m;
    return BT_OK;
}

bt_status bt_model_from_gguf(const bt_gguf *g, bt_model **out, bt_err *err)
{
    bt_model *m = NULL;
    bt__source source = {0};
    bt_status st = model_new(&m, err);
    if (!st) st = bt__source_init(&source, g, NULL, "", err);
    if (!st) st = bt_recipe_read(g, &m->recipe, err);
    if (!st) st = bt__weights_load(m, &source, NULL, err);
    bt__source_release(&source);
    if (st) {
        bt_model_close(m);
        return st;
    }
    m->gguf = g;
    *out = m;
    return BT_OK;
}

bt_status bt_model_open(const char *path, bt_model **out, bt_err *err)
{
    bt_model_files *f = bt_malloc(sizeof *f);
    bt_gguf *g = NULL;
    bt_model *m = NULL;
    if (!f) return bt_err_set(err, BT_ENOMEM, 0, "out of memory to open a model");
    bt_status st = bt_model_files_find(path, f, err);
    if (!st && f->folder[0]) {
        st = model_new(&m, err);
        if (!st) st = load_folder(m, f, err);
    } else if (!st) {
        st = bt_gguf_open(f->weights, &g, err);
        if (!st) st = bt_model_from_gguf(g, &m, err);
        if (!st) m->own = g;
    }
    if (!st) {
        memcpy(m->note, f->note, sizeof m->note);
        *out = m;
    } else {
        if (!m || !m->own) bt_gguf_close(g);
        bt_model_close(m);
    }
    bt_free(f);
    return st;
}

void bt_model_close(bt_model *m)
{
    if (!m) return;
    bt_free(m->weights.layers);
    bt_free(m->floats);
    bt_free(m->conversion);
    bt_free(m->converted);
    bt_free(m->requantized);
    bt_safetensors_close(m->safetensors);
    bt_gguf_close(m->own);
    bt_free(m);
}
