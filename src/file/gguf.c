/* SPDX-License-Identifier: Apache-2.0 */
/* gguf.c - maps a GGUF file and checks all of it before anyone looks.
 *
 * LAYOUT   "GGUF" | u32 version | u64 tensors | u64 keys
 *          key:    string | u32 type | value            string: u64 length | bytes
 *          array:  u32 element type | u64 n | elements
 *          tensor: string | u32 n_dims | u64 dim[n_dims] | u32 format | u64 offset
 *          padding to general.alignment, then the data; offsets count from there.
 * PARTS    A split model's first part opens the others beside it and has all their tensors.
 * BOUNDS   Counts are checked against the bytes that are left before anything is allocated for
 *          them, so memory stays below three times the header's own size.
 * NOT HERE what keys and tensors mean (src/model, src/vocab). */
#include "file/gguf.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "file/gguf_impl.h"
#include "file/not_gguf.h"
#include "file/whole.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    KEY_BYTES_MAX = 4096,
    KEYS_MAX = 1 << 16,
    TENSORS_MAX = 1 << 18,
    KEY_BYTES_MIN = 8 + 1 + 4 + 1,         // the smallest key: length, one byte, type, one byte
    TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 12, // the smallest tensor info
    ALIGNMENT_MAX = 1 << 20,
    PARTS_MAX = 1000,
};
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF is read in place");

/* Formats that exist elsewhere and are not in BT_FORMAT_MAP, so that the refusal can name them. */
static const struct {
    uint32_t id;
    const char *name;
} foreign_format[] = {
    {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {21, "IQ3_S"},
    {22, "IQ2_S"},   {29, "IQ1_M"},  {34, "TQ1_0"},   {35, "TQ2_0"}, {40, "NVFP4"},
};

/* Reading -------------------------------------------------------------------------------------- */

static size_t left(const bt_gguf *g)
{
    return g->bytes - g->at;
}

static bt_status cut_short(const bt_gguf *g, const char *what, bt_err *err)
{
    return bt_err_set(err, BT_EFORMAT, 0,
                      "%s ends inside %s, after %zu bytes; the download or copy is incomplete",
                      g->label, what, g->bytes);
}

static bool read_u32(bt_gguf *g, uint32_t *out)
{
    if (left(g) < sizeof *out) return false;
    memcpy(out, g->base + g->at, sizeof *out);
    g->at += sizeof *out;
    return true;
}

static bool read_u64(bt_gguf *g, uint64_t *out)
{
    if (left(g) < sizeof *out) return false;
    memcpy(out, g->base + g->at, sizeof *out);
    g->at += sizeof *out;
    return true;
}

static bool read_str(bt_gguf *g, bt_str *out)
{
    uint64_t n;
    if (!read_u64(g, &n) || n > left(g)) return false;
    *out = (bt_str){(const char *)g->base + g->at, (size_t)n};
    g->at += (size_t)n;
    return true;
}

static bt_status read_header(bt_gguf *g, uint64_t *n_tensors, uint64_t *n_kv, bt_err *err)
{
    if (g->bytes == 0) return bt_err_set(err, BT_EFORMAT, 0, "%s is empty", g->label);
    if (memcmp(g->base, "GGUF", BT_MIN(g->bytes, (size_t)4)) != 0)
        return bt_not_gguf_file(g->label, g->base, g->bytes, err);
    uint32_t version;
    g->at = BT_MIN(g->bytes, (size_t)4);
    if (!read_u32(g, &version)) return cut_short(g, "its first line", err);
    if (version == 1)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s is GGUF version 1 of 2023; versions 2 and 3 are read: convert the "
                          "model again",
                          g->label);
    if (version != 0 && (version & 0xffff) == 0)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s is a big-endian GGUF file; get the little-endian one", g->label);
    if (version != 2 && version != 3)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s is GGUF version %u; versions 2 and 3 are read", g->label, version);
    if (!read_u64(g, n_tensors) || !read_u64(g, n_kv)) return cut_short(g, "its header", err);
    if (*n_kv > KEYS_MAX || *n_kv > left(g) / KEY_BYTES_MIN)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s claims %llu keys, more than its %zu bytes can hold", g->label,
                          (unsigned long long)*n_kv, g->bytes);
    if (*n_tensors > TENSORS_MAX || *n_tensors > left(g) / TENSOR_BYTES_MIN)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s claims %llu tensors, more than its %zu bytes can hold", g->label,
                          (unsigned long long)*n_tensors, g->bytes);
    return BT_OK;
}

/* Keys ----------------------------------------------------------------------------------------- */

static bool bools_are_clean(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] > 1) return false;
    return true;
}

/* Steps over n values of one type. */
static bt_status skip_values(bt_gguf *g, const gguf_kv *kv, int32_t type, uint64_t n, bt_err *err)
{
    if (type == BT_GGUF_STRING) {
        bt_str s;
        if (n > left(g) / 8) goto cut;
        for (uint64_t i = 0; i < n; i++)
            if (!read_str(g, &s)) goto cut;
        return BT_OK;
    }
    if (n > left(g) / bt__value_bytes[type]) goto cut;
    if (type == BT_GGUF_BOOL && !bools_are_clean(g->base + g->at, (size_t)n))
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s: key '%s' holds a truth value that is neither 0 nor 1", g->label,
                          bt_str_shown(kv->key).s);
    g->at += (size_t)n * bt__value_bytes[type];
    return BT_OK;
cut:
    return bt_err_set(err, BT_EFORMAT, 0,
                      "%s: the value of key '%s' goes past the end of the file (%zu bytes)",
                      g->label, bt_str_shown(kv->key).s, g->bytes);
}

static bt_status read_kv(bt_gguf *g, gguf_kv *kv, bt_err *err)
{
    uint32_t type, elem = 0;
    if (!read_str(g, &kv->key)) return cut_short(g, "a key", err);
    if (!bt_name_is_clean(kv->key, KEY_BYTES_MAX))
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s: key '%s' is empty, too long or holds control characters", g->label,
                          bt_str_shown(kv->key).s);
    if (!read_u32(g, &type)) return cut_short(g, "a key's type", err);
    kv->n = 1;
    if (type == BT_GGUF_ARRAY && (!read_u32(g, &elem) || !read_u64(g, &kv->n)))
        return cut_short(g, "an array's header", err);
    if (type == BT_GGUF_ARRAY && elem == BT_GGUF_ARRAY)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s: key '%s' is an array of arrays, which is not read", g->label,
                          bt_str_shown(kv->key).s);
    if (type >= BT__VALUE_TYPES || elem >= BT__VALUE_TYPES)
        return bt_err_set(err, BT_EFORMAT, 0, "%s: key '%s' has the unknown value type %u",
                          g->label, bt_str_shown(kv->key).s, type >= BT__VALUE_TYPES ? type : elem);
    kv->type = (int32_t)type;
    kv->elem = type == BT_GGUF_ARRAY ? (int32_t)elem : (int32_t)type;
    kv->data = g->base + g->at;
    return skip_values(g, kv, kv->elem, kv->n, err);
}

static bt_status read_kvs(bt_gguf *g, size_t n, uint64_t seed, bt_err *err)
{
    g->kv = bt_calloc(n + !n, sizeof *g->kv);
    if (!g->kv || !bt__names_init(&g->kv_names, g->kv, sizeof *g->kv, n, seed))
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the keys of %s", g->label);
    for (size_t i = 0; i < n; i++) {
        bt_status st = read_kv(g, &g->kv[i], err);
        if (st) return st;
        if (!bt__names_add(&g->kv_names, i))
            return bt_err_set(err, BT_EFORMAT, 0, "%s: key '%s' is there twice", g->label,
                              bt_str_shown(g->kv[i].key).s);
        g->n_kv = i + 1;
    }
    return BT_OK;
}

/* Tensors -------------------------------------------------------------------------------------- */

static bt_status refuse_format(const bt_gguf *g, const bt_gguf_tensor *t, uint32_t id, bt_err *err)
{
    const char *name = "";
    for (size_t i = 0; i < BT_COUNT(foreign_format); i++)
        if (foreign_format[i].id == id) name = foreign_format[i].name;
    return bt_err_set(err, BT_EUNSUPPORTED, 0,
                      "%s: tensor '%s' has the unknown format %u%s%s%s; use another quantization",
                      g->label, bt_str_shown(t->name).s, id, *name ? " (" : "", name,
                      *name ? ")" : "");
}

/* Dimensions, and from them the bytes. */
static bt_status read_shape(bt_gguf *g, bt_gguf_tensor *t, bt_err *err)
{
    uint32_t n_dims, id;
    uint64_t dim, elems = 1;
    if (!read_u32(g, &n_dims)) return cut_short(g, "a tensor's description", err);
    if (n_dims < 1 || n_dims > 4)
        return bt_err_set(err, BT_EFORMAT, 0, "%s: tensor '%s' has %u dimensions; 1 to 4 exist",
                          g->label, bt_str_shown(t->name).s, n_dims);
    t->n_dims = (int32_t)n_dims;
    for (uint32_t i = 0; i < 4; i++) t->dim[i] = 1;
    for (uint32_t i = 0; i < n_dims; i++) {
        if (!read_u64(g, &dim)) return cut_short(g, "a tensor's description", err);
        if (dim == 0 || dim > INT64_MAX || __builtin_mul_overflow(elems, dim, &elems) ||
            elems > INT64_MAX)
            return bt_err_set(err, BT_EFORMAT, 0,
                              "%s: dimension %u of tensor '%s' is %llu, which cannot be", g->label,
                              i, bt_str_shown(t->name).s, (unsigned long long)dim);
        t->dim[i] = (int64_t)dim;
    }
    if (!read_u32(g, &id)) return cut_short(g, "a tensor's description", err);
    const bt_format_info *f = id < BT_FORMAT_OWN ? bt_format_get((int32_t)id) : NULL;
    if (!f) return refuse_format(g, t, id, err);
    if (t->dim[0] % f->elems)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s: rows of tensor '%s' have %lld elements, no multiple of %s's block "
                          "of %d",
                          g->label, bt_str_shown(t->name).s, (long long)t->dim[0], f->name,
                          f->elems);
    uint64_t bytes;
    if (__builtin_mul_overflow(elems / (uint64_t)f->elems, (uint64_t)f->bytes, &bytes))
        return bt_err_set(err, BT_EFORMAT, 0, "%s: tensor '%s' is larger than any file", g->label,
                          bt_str_shown(t->name).s);
    t->format = (int32_t)id;
    t->bytes = (size_t)bytes;
    return BT_OK;
}

/* Reads one description; *offset counts from the start of the data, which is not known yet. */
static bt_status read_tensor(bt_gguf *g, bt_gguf_tensor *t, uint64_t *offset, bt_err *err)
{
    if (!read_str(g, &t->name)) return cut_short(g, "a tensor's name", err);
    if (!bt_name_is_clean(t->name, BT_FILE_NAME_MAX))
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s: the tensor name '%s' is empty, too long or holds control characters",
                          g->label, bt_str_shown(t->name).s);
    bt_status st = read_shape(g, t, err);
    if (st) return st;
    if (!read_u64(g, offset)) return cut_short(g, "a tensor's description", err);
    if (*offset % g->alignment)
        return bt_err_set(
            err, BT_EFORMAT, 0, "%s: tensor '%s' starts at %llu, no multiple of the alignment %zu",
            g->label, bt_str_shown(t->name).s, (unsigned long long)*offset, g->alignment);
    return BT_OK;
}

static bt_status place_tensors(bt_gguf *g, const uint64_t *offset, bt_err *err)
{
    size_t room = g->bytes - g->data_start;
    uint64_t need = 0;
    for (size_t i = 0; i < g->n_tensors; i++) {
        bt_gguf_tensor *t = &g->tensor[i];
        uint64_t end = offset[i] > UINT64_MAX - t->bytes ? UINT64_MAX : offset[i] + t->bytes;
        need = BT_MAX(need, end);
        if (end <= room) t->data = g->base + g->data_start + offset[i];
    }
    if (need <= room) return BT_OK;
    return bt_err_set(err, BT_EFORMAT, 0,
                      "%s ends too early: %llu bytes are missing (it has %zu); the download or "
                      "copy is incomplete: get it again",
                      g->label, (unsigned long long)(need - room), g->bytes);
}

static int by_place(const void *a, const void *b)
{
    const bt_gguf_tensor *x = *(const bt_gguf_tensor *const *)a;
    const bt_gguf_tensor *y = *(const bt_gguf_tensor *const *)b;
    return x->data < y->data ? -1 : x->data > y->data;
}

static bt_status check_overlap(const bt_gguf *g, bt_err *err)
{
    bt_status st = BT_OK;
    const bt_gguf_tensor **order = bt_malloc((g->n_tensors + 1) * sizeof(bt_gguf_tensor *));
    if (!order) return bt_err_set(err, BT_ENOMEM, 0, "out of memory to check %s", g->label);
    bool sorted = true;
    for (size_t i = 0; i < g->n_tensors; i++) {
        order[i] = &g->tensor[i];
        if (i && order[i]->data < order[i - 1]->data) sorted = false;
    }
    if (!sorted) qsort(order, g->n_tensors, sizeof(bt_gguf_tensor *), by_place);
    for (size_t i = 1; i < g->n_tensors && !st; i++)
        if ((const uint8_t *)order[i]->data <
            (const uint8_t *)order[i - 1]->data + order[i - 1]->bytes)
            st = bt_err_set(err, BT_EFORMAT, 0, "%s: tensors '%s' and '%s' overlap", g->label,
                            bt_str_shown(order[i - 1]->name).s, bt_str_shown(order[i]->name).s);
    bt_free(order);
    return st;
}

static bt_status read_tensors(bt_gguf *g, size_t n, uint64_t seed, bt_err *err)
{
    bt_status st = BT_OK;
    uint64_t *offset = bt_calloc(n + !n, sizeof *offset);
    g->tensor = bt_calloc(n + !n, sizeof *g->tensor);
    if (!offset || !g->tensor ||
        !bt__names_init(&g->tensor_names, g->tensor, sizeof *g->tensor, n, seed)) {
        st = bt_err_set(err, BT_ENOMEM, 0, "out of memory for the tensors of %s", g->label);
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        if ((st = read_tensor(g, &g->tensor[i], &offset[i], err))) goto done;
        if (!bt__names_add(&g->tensor_names, i)) {
            st = bt_err_set(err, BT_EFORMAT, 0, "%s: tensor '%s' is there twice", g->label,
                            bt_str_shown(g->tensor[i].name).s);
            goto done;
        }
        g->n_tensors = i + 1;
    }
    if (n == 0) goto done; // a vocabulary alone: there is no data section
    size_t pad = (g->alignment - g->at % g->alignment) % g->alignment;
    if (pad > left(g)) {
        st = cut_short(g, "its header", err);
        goto done;
    }
    g->data_start = g->at + pad;
    st = place_tensors(g, offset, err);
    if (!st) st = check_overlap(g, err);
done:
    bt_free(offset);
    return st;
}

/* Opening -------------------------------------------------------------------------------------- */

static bt_status parse(bt_gguf *g, bt_err *err)
{
    uint64_t n_tensors = 0, n_kv = 0;
    bt_status st = read_header(g, &n_tensors, &n_kv, err);
    if (st) return st;
    /* Names could be chosen to collide: the seed differs between runs. */
    uint64_t seed = bt_hash_u64((uint64_t)bt_now_ns() ^ (uint64_t)(uintptr_t)g);
    if ((st = read_kvs(g, (size_t)n_kv, seed, err))) return st;
    int64_t alignment = 32;
    if ((st = bt_gguf_int(g, "general.alignment", 1, ALIGNMENT_MAX, &alignment, err))) return st;
    if (alignment & (alignment - 1))
        return bt_err_set(err, BT_EFORMAT, 0, "%s: general.alignment is %lld, not a power of two",
                          g->label, (long long)alignment);
    g->alignment = (size_t)alignment;
    return read_tensors(g, (size_t)n_tensors, seed, err);
}

/* A handle without content. The label is the path's end, because msg of a bt_err is bounded. */
static bt_gguf *handle_new(const char *path, bt_err *err)
{
    enum { LABEL_MAX = 100 };
    bt_gguf *g = bt_calloc(1, sizeof *g);
    if (g) g->path = bt_strdup(path);
    if (!g || !g->path) {
        bt_free(g);
        bt_err_set(err, BT_ENOMEM, 0, "out of memory to open a model file");
        return NULL;
    }
    size_t n = strlen(g->path);
    g->label = n > LABEL_MAX ? g->path + n - LABEL_MAX : g->path;
    return g;
}

static bt_status map_file(bt_gguf *g, bt_err *err)
{
    /* O_NONBLOCK: a FIFO must not hold us here. */
    int fd = open(g->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return bt_not_gguf_path(g->path, g->label, errno, err);
    bt_status st = bt_file_map(fd, g->label, &g->base, &g->bytes, err);
    g->mapped = g->base != NULL;
    return st;
}

/* One file, whole or a part. */
static bt_status open_file(const char *path, bt_gguf **out, bt_err *err)
{
    bt_gguf *g = handle_new(path, err);
    if (!g) return BT_ENOMEM;
    bt_status st = map_file(g, err);
    if (!st) st = parse(g, err);
    if (st)
        bt_gguf_close(g);
    else
        *out = g;
    return st;
}

/* Which part of how many; 0 of 1 for a whole model. */
static bt_status read_split(const bt_gguf *g, int64_t *no, int64_t *count, bt_err *err)
{
    *no = 0;
    *count = 1;
    bt_status st = bt_gguf_int(g, "split.no", 0, PARTS_MAX, no, err);
    if (!st) st = bt_gguf_int(g, "split.count", 0, PARTS_MAX, count, err);
    return st;
}

/* The path of another part, "...-00002-of-00003.gguf"; false if this one is not called so. */
static bool part_path(const bt_gguf *g, int64_t no, int64_t count, int64_t other, char *dst,
                      size_t cap)
{
    char end[32];
    int len = snprintf(end, sizeof end, "-%05d-of-%05d.gguf", (int)no + 1, (int)count);
    size_t n = strlen(g->path);
    if (len < 0 || n <= (size_t)len || strcmp(g->path + n - (size_t)len, end) != 0) return false;
    int stem = (int)(n - (size_t)len);
    int total =
        snprintf(dst, cap, "%.*s-%05d-of-%05d.gguf", stem, g->path, (int)other + 1, (int)count);
    return total > 0 && (size_t)total < cap;
}

static bt_status add_part(bt_gguf *g, const char *path, int64_t i, int64_t count, bt_err *err)
{
    bt_err why = {0};
    bt_gguf *part = NULL;
    int64_t no = 0, parts = 0;
    bt_status st = open_file(path, &part, &why);
    if (st == BT_ENOTFOUND)
        return bt_err_set(err, st, why.sys,
                          "part %d of %d is missing beside %s; all parts have to lie in one folder",
                          (int)i + 1, (int)count, g->label);
    if (!st) st = read_split(part, &no, &parts, &why);
    if (!st && (no != i || parts != count))
        st = bt_err_set(&why, BT_EFORMAT, 0, "%s is not part %d of %d, as its name says",
                        part->label, (int)i + 1, (int)count);
    bt_gguf_tensor *all =
        st ? NULL : bt_realloc(g->tensor, (g->n_tensors + part->n_tensors + 1) * sizeof *all);
    if (!st && !all) st = bt_err_set(&why, BT_ENOMEM, 0, "out of memory to join %s", g->label);
    if (st) {
        bt_gguf_close(part);
        return bt_err_set(err, st, why.sys, "%s", why.msg);
    }
    g->tensor = all;
    if (part->n_tensors) memcpy(all + g->n_tensors, part->tensor, part->n_tensors * sizeof *all);
    g->n_tensors += part->n_tensors;
    g->part[g->n_parts++] = part;
    return BT_OK;
}

static bt_status index_parts(bt_gguf *g, bt_err *err)
{
    uint64_t seed = g->tensor_names.seed;
    int64_t n = (int64_t)g->n_tensors;
    bt__names_release(&g->tensor_names);
    if (!bt__names_init(&g->tensor_names, g->tensor, sizeof *g->tensor, g->n_tensors, seed))
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory to join %s", g->label);
    for (size_t i = 0; i < g->n_tensors; i++)
        if (!bt__names_add(&g->tensor_names, i))
            return bt_err_set(err, BT_EFORMAT, 0, "%s: tensor '%s' is in two of its parts",
                              g->label, bt_str_shown(g->tensor[i].name).s);
    bt_status st = bt_gguf_int(g, "split.tensors.count", 0, TENSORS_MAX, &n, err);
    if (st || n == (int64_t)g->n_tensors) return st;
    return bt_err_set(err, BT_EFORMAT, 0, "the parts of %s hold %zu of its %lld tensors", g->label,
                      g->n_tensors, (long long)n);
}

/* Opens the other parts of a split model. */
static bt_status join_parts(bt_gguf *g, bt_err *err)
{
    char path[4096];
    int64_t no, count;
    bt_status st = read_split(g, &no, &count, err);
    if (st || count < 2) return st;
    bool named = part_path(g, no, count, 0, path, sizeof path);
    const char *slash = strrchr(path, '/');
    if (no > 0 && named)
        return bt_err_set(
            err, BT_EUNSUPPORTED, 0,
            "%s is part %d of %d: give the first, %.60s, with all parts in one folder", g->label,
            (int)no + 1, (int)count, slash ? slash + 1 : path);
    if (!named)
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s is part %d of %d: give the first, with all parts in one folder and "
                          "their names ending in -00001-of-%05d.gguf and so on",
                          g->label, (int)no + 1, (int)count, (int)count);
    g->part = bt_calloc((size_t)count, sizeof(bt_gguf *));
    if (!g->part) return bt_err_set(err, BT_ENOMEM, 0, "out of memory to join %s", g->label);
    for (int64_t i = 1; !st && i < count; i++) {
        part_path(g, 0, count, i, path, sizeof path);
        st = add_part(g, path, i, count, err);
    }
    return st ? st : index_parts(g, err);
}

bt_status bt_gguf_open(const char *path, bt_gguf **out, bt_err *err)
{
    bt_gguf *g = NULL;
    bt_status st = open_file(path, &g, err);
    if (!st) st = join_parts(g, err);
    if (st)
        bt_gguf_close(g);
    else
        *out = g;
    return st;
}

bt_status bt_gguf_open_memory(const void *data, size_t bytes, const char *name, bt_gguf **out,
                              bt_err *err)
{
    bt_gguf *g = handle_new(name, err);
    if (!g) return BT_ENOMEM;
    g->base = data;
    g->bytes = bytes;
    bt_status st = parse(g, err);
    if (st)
        bt_gguf_close(g);
    else
        *out = g;
    return st;
}

void bt_gguf_close(bt_gguf *g)
{
    if (!g) return;
    if (g->mapped) munmap((void *)(uintptr_t)g->base, g->bytes);
    for (size_t i = 0; i < g->n_parts; i++) bt_gguf_close(g->part[i]);
    bt_free(g->part);
    bt__names_release(&g->kv_names);
    bt__names_release(&g->tensor_names);
    bt_free(g->kv);
    bt_free(g->tensor);
    bt_free(g->path);
    bt_free(g);
}

/* Accessors ------------------------------------------------------------------------------------ */

const char *bt_gguf_path(const bt_gguf *g)
{
    return g->path;
}

const char *bt_gguf_label(const bt_gguf *g)
{
    return g->label;
}

size_t bt_gguf_n_tensors(const bt_gguf *g)
{
    return g->n_tensors;
}

const bt_gguf_tensor *bt_gguf_tensor_at(const bt_gguf *g, size_t i)
{
    BT_ASSERT(i < g->n_tensors);
    return &g->tensor[i];
}

const bt_gguf_tensor *bt_gguf_tensor_find(const bt_gguf *g, const char *name)
{
    size_t i = bt__names_find(&g->tensor_names, name);
    return i == SIZE_MAX ? NULL : &g->tensor[i];
}

size_t bt_gguf_n_keys(const bt_gguf *g)
{
    return g->n_kv;
}

bt_str bt_gguf_key_at(const bt_gguf *g, size_t i)
{
    BT_ASSERT(i < g->n_kv);
    return g->kv[i].key;
}
