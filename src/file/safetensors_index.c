/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors_index.c - reads {"metadata": ..., "weight_map": {TENSOR: FILE}}.
 *
 * The total size in the metadata is not compared with anything: many published ones are wrong, and
 * each file's own header says what it must hold. */
#include "file/safetensors_index.h"
#include "base/assert.h"
#include "base/json_read.h"
#include "file/whole.h"
#include <stdio.h>
#include <string.h>

enum { PART_NAME_MAX = 255 };

bt_status bt_refuse_pickle(const char *label, bt_err *err)
{
    static const char *const ends[] = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"};
    for (size_t i = 0; i < BT_COUNT(ends); i++)
        if (bt_file_ends_with(label, ends[i]))
            return bt_err_set(err, BT_EUNSUPPORTED, 0,
                              "%s is a PyTorch pickle, which can run code when it is opened and is "
                              "refused: get the model as safetensors or GGUF, or convert it with "
                              "transformers' save_pretrained",
                              label);
    return BT_OK;
}

bool bt_keep_name(bt_arena *arena, const char *text, size_t n, bt_str *name)
{
    if (name->n == 0 || (name->s >= text && name->s < text + n)) return true;
    name->s = bt_arena_strndup(arena, name->s, name->n);
    return name->s != NULL;
}

/* A file beside the index: no folders, and safetensors. */
static bt_status check_part(const char *name, size_t n, const char *label, bt_err *err)
{
    char shown[PART_NAME_MAX + 1];
    bt_str s = {name, n};
    if (!bt_name_is_clean(s, PART_NAME_MAX) || memchr(name, '/', n) || name[0] == '.')
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s: 'weight_map' names a file '%s', which is none beside it", label,
                          bt_str_shown(s).s);
    memcpy(shown, name, n);
    shown[n] = 0;
    bt_status st = bt_refuse_pickle(shown, err);
    if (!st && !bt_file_ends_with(shown, ".safetensors"))
        st = bt_err_set(err, BT_EUNSUPPORTED, 0,
                        "%s: 'weight_map' names a file '%s', which is no .safetensors file", label,
                        bt_str_shown(s).s);
    return st;
}

/* The part's number, a new one if need be. Neighbours mostly lie in one file. */
static bt_status part_of(bt_safetensors_index *x, const char *name, size_t n, const char *label,
                         uint32_t *out, bt_err *err)
{
    for (size_t i = x->n_parts; i-- > 0;)
        if (strlen(x->part[i]) == n && memcmp(x->part[i], name, n) == 0) {
            *out = (uint32_t)i;
            return BT_OK;
        }
    bt_status st = check_part(name, n, label, err);
    if (st) return st;
    if (x->n_parts == BT_SAFETENSORS_PARTS_MAX)
        return bt_err_set(err, BT_EFORMAT, 0, "%s names more than %d files", label,
                          BT_SAFETENSORS_PARTS_MAX);
    if (!(x->n_parts & (x->n_parts - 1))) {
        const char **all = bt_realloc(x->part, (2 * x->n_parts + 1) * sizeof *all);
        if (!all) return BT_ENOMEM;
        x->part = all;
    }
    char *copy = bt_arena_strndup(&x->arena, name, n);
    if (!copy) return BT_ENOMEM;
    *out = (uint32_t)x->n_parts;
    x->part[x->n_parts++] = copy;
    return BT_OK;
}

static bt_status add_entry(bt_safetensors_index *x, bt_str name, bt_json_reader *r,
                           const char *label, bt_err *err)
{
    const char *file;
    size_t n;
    uint32_t part = 0;
    if (!bt_name_is_clean(name, BT_FILE_NAME_MAX))
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s: the tensor name '%s' is empty, too long or holds control characters",
                          label, bt_str_shown(name).s);
    if (!bt_keep_name(&x->arena, r->s, r->n, &name)) return BT_ENOMEM;
    if (bt_json_peek(r) != BT_JSON_STRING || !bt_json_read_string(r, &file, &n))
        return bt_err_set(err, BT_EFORMAT, 0, "%s: 'weight_map' names no file for tensor '%s'",
                          label, bt_str_shown(name).s);
    bt_status st = part_of(x, file, n, label, &part, err);
    if (st) return st;
    if (x->n_entries == BT_SAFETENSORS_TENSORS_MAX)
        return bt_err_set(err, BT_EFORMAT, 0, "%s names more than %d tensors", label,
                          BT_SAFETENSORS_TENSORS_MAX);
    if (!(x->n_entries & (x->n_entries - 1))) {
        void *all = bt_realloc(x->entry, (2 * x->n_entries + 1) * sizeof *x->entry);
        if (!all) return BT_ENOMEM;
        x->entry = all;
    }
    x->entry[x->n_entries++] = (struct bt_index_entry){name, part};
    return BT_OK;
}

static bt_status read_map(bt_safetensors_index *x, bt_json_reader *r, const char *label,
                          bt_err *err)
{
    bt_status st = BT_OK;
    bt_str key;
    if (x->n_entries)
        return bt_err_set(err, BT_EFORMAT, 0, "%s has two members 'weight_map'", label);
    if (bt_json_peek(r) != BT_JSON_OBJECT)
        return bt_err_set(err, BT_EFORMAT, 0, "%s: 'weight_map' is not an object", label);
    bt_json_enter(r, '{');
    while (!st && bt_json_next_key(r, &key.s, &key.n)) st = add_entry(x, key, r, label, err);
    return st;
}

bt_status bt_safetensors_index_read(const char *text, size_t n, const char *label,
                                    bt_safetensors_index *out, bt_err *err)
{
    bt_safetensors_index x = {0};
    bt_json_reader r;
    const char *key;
    size_t len;
    bt_status st = BT_OK;
    bt_arena_init(&x.arena, 2 * n + 4096);
    bt_json_reader_init(&r, text, n, BT_JSON_PYTHON);
    bt_json_enter(&r, '{');
    while (!st && r.depth && bt_json_next_key(&r, &key, &len)) {
        if (len == 10 && memcmp(key, "weight_map", len) == 0)
            st = read_map(&x, &r, label, err);
        else
            bt_json_skip(&r);
    }
    st = bt_json_end(&r, st, label, " is no sound index", 0, err);
    if (!st && x.n_entries == 0)
        st = bt_err_set(err, BT_EFORMAT, 0, "%s has no 'weight_map' with tensors in it", label);
    if (st == BT_ENOMEM) bt_err_set(err, st, 0, "out of memory to read %s", label);
    if (st)
        bt_safetensors_index_release(&x);
    else
        *out = x;
    return st;
}

void bt_safetensors_index_release(bt_safetensors_index *x)
{
    bt_free(x->entry);
    bt_free(x->part);
    bt_arena_release(&x->arena);
    *x = (bt_safetensors_index){0};
}
