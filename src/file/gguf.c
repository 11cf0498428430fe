/* SPDX-License-Identifier: Apache-2.0 */
/* gguf.c - maps a GGUF file and checks all of it before anyone looks.
 *
 * LAYOUT   "GGUF" | u32 version | u64 tensors | u64 keys
 *          key:    string | u32 type | value            string: u64 length | bytes
 *          array:  u32 element type | u64 n | elements
 *          tensor: string | u32 n_dims | u64 dim[n_dims] | u32 format | u64 offset
 *          padding to general.alignment, then the data; offsets count from there.
 * BOUNDS   Counts are checked against the bytes that are left before anything is allocated for
 *          them, so memory stays below three times the header's own size.
 * NOT HERE what keys and tensors mean (src/model, src/text). */
#include "file/gguf.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    KEY_BYTES_MAX = 4096,
    NAME_BYTES_MAX = 255,
    KEYS_MAX = 1 << 16,
    TENSORS_MAX = 1 << 18,
    KEY_BYTES_MIN = 8 + 1 + 4 + 1,         // the smallest key: length, one byte, type, one byte
    TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 12, // the smallest tensor info
    ALIGNMENT_MAX = 1 << 20,
};
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF is read in place");

typedef struct gguf_kv {
    bt_str key;
    int32_t type, elem;  // elem: element type of an array
    uint64_t n;          // elements of an array, else 1
    const uint8_t *data; // borrowed: in the mapping; a string starts with its length
} gguf_kv;

/* Finds items by name: open addressing over item numbers + 1. Items start with their bt_str. */
typedef struct gguf_names {
    uint32_t *slot; // owned
    size_t cap;     // a power of two, at least twice the items
    const void *items;
    size_t stride;
    uint64_t seed;
} gguf_names;
static_assert(offsetof(gguf_kv, key) == 0 && offsetof(bt_gguf_tensor, name) == 0, "names first");

struct bt_gguf {
    char *path;        // owned
    const char *label; // the end of path, short enough for a sentence
    const uint8_t *base;
    size_t bytes;
    bool mapped; // base is ours to unmap
    size_t at;   // read cursor while opening
    size_t data_start, alignment;
    gguf_kv *kv; // owned
    size_t n_kv;
    bt_gguf_tensor *tensor; // owned
    size_t n_tensors;
    gguf_names kv_names, tensor_names;
};

/* Bytes of one value; 0: not of fixed size. Index: BT_GGUF_*. */
static const uint8_t value_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
static const char *const type_name[] = {
    "an unsigned 8-bit integer",
    "an 8-bit integer",
    "an unsigned 16-bit integer",
    "a 16-bit integer",
    "an unsigned 32-bit integer",
    "a 32-bit integer",
    "a 32-bit float",
    "a truth value",
    "a string",
    "an array",
    "an unsigned 64-bit integer",
    "a 64-bit integer",
    "a 64-bit float",
};

/* Formats that exist elsewhere and are not in BT_FORMAT_MAP, so that the refusal can name them. */
static const struct {
    uint32_t id;
    const char *name;
} foreign_format[] = {
    {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {21, "IQ3_S"},
    {22, "IQ2_S"},   {29, "IQ1_M"},  {34, "TQ1_0"},   {35, "TQ2_0"}, {40, "NVFP4"},
};

bt_shown bt_str_shown(bt_str s)
{
    bt_shown out = {{0}};
    size_t n = BT_MIN(s.n, sizeof out.s - 4);
    for (size_t i = 0; i < n; i++) out.s[i] = s.s[i] >= ' ' && s.s[i] < 0x7f ? s.s[i] : '?';
    if (n < s.n) memcpy(out.s + n, "...", 4);
    return out;
}

/* Names ---------------------------------------------------------------------------------------- */

static bool names_init(gguf_names *t, const void *items, size_t stride, size_t n, uint64_t seed)
{
    size_t cap = 16;
    while (cap < 2 * n) cap *= 2;
    t->slot = bt_calloc(cap, sizeof *t->slot);
    t->cap = cap;
    t->items = items;
    t->stride = stride;
    t->seed = seed;
    return t->slot != NULL;
}

static bt_str names_at(const gguf_names *t, size_t i)
{
    return *(const bt_str *)((const char *)t->items + i * t->stride);
}

/* The slot that holds this name, or the free one where it would go. */
static uint32_t *names_slot(const gguf_names *t, bt_str name)
{
    size_t i = bt_hash(name.s, name.n, t->seed) & (t->cap - 1);
    for (; t->slot[i]; i = (i + 1) & (t->cap - 1)) {
        bt_str have = names_at(t, t->slot[i] - 1);
        if (have.n == name.n && memcmp(have.s, name.s, name.n) == 0) break;
    }
    return &t->slot[i];
}

/* False if the name is there already. */
static bool names_add(gguf_names *t, size_t i)
{
    uint32_t *slot = names_slot(t, names_at(t, i));
    if (*slot) return false;
    *slot = (uint32_t)(i + 1);
    return true;
}

/* Item number, or SIZE_MAX. */
static size_t names_find(const gguf_names *t, const char *name)
{
    if (!t->slot) return SIZE_MAX;
    uint32_t *slot = names_slot(t, (bt_str){name, strlen(name)});
    return *slot ? *slot - 1 : SIZE_MAX;
}

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

/* Names come from a stranger and end up in sentences and logs. */
static bool name_is_clean(bt_str s, size_t max)
{
    if (s.n == 0 || s.n > max) return false;
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.s[i] < 0x20 || s.s[i] == 0x7f) return false;
    return true;
}

/* Says what a file that is no GGUF is instead. */
static bt_status refuse_other(const bt_gguf *g, bt_err *err)
{
    static const struct {
        const char *magic, *what;
    } known[] = {
        {"version https://git-lfs", "a Git LFS pointer, not the model itself; run \"git lfs pull\" "
                                    "or download the file again"},
        {"PK\003\004", "a zip archive (a PyTorch checkpoint); such files can run code when opened "
                       "and are refused: use a GGUF file"},
        {"\x80", "a pickle (an old PyTorch checkpoint); such files can run code when opened "
                 "and are refused: use a GGUF file"},
        {"lmgg", "a GGML file of 2023, from before GGUF; convert the model again"},
        {"tjgg", "a GGJT file of 2023, from before GGUF; convert the model again"},
        {"<!DOCTYPE", "a web page, not a model; check the address it was downloaded from"},
        {"<html", "a web page, not a model; check the address it was downloaded from"},
    };
    for (size_t i = 0; i < BT_COUNT(known); i++) {
        size_t n = strlen(known[i].magic);
        if (g->bytes >= n && memcmp(g->base, known[i].magic, n) == 0)
            return bt_err_set(err, BT_EFORMAT, 0, "%s is %s", g->label, known[i].what);
    }
    uint64_t header = 0;
    if (g->bytes > 9) memcpy(&header, g->base, sizeof header);
    if (header && header <= g->bytes - 8 && g->base[8] == '{')
        return bt_err_set(err, BT_EUNSUPPORTED, 0,
                          "%s is a safetensors file; this build reads GGUF: convert the model",
                          g->label);
    return bt_err_set(err, BT_EFORMAT, 0, "%s is not a GGUF file: it does not start with \"GGUF\"",
                      g->label);
}

static bt_status read_header(bt_gguf *g, uint64_t *n_tensors, uint64_t *n_kv, bt_err *err)
{
    if (g->bytes == 0) return bt_err_set(err, BT_EFORMAT, 0, "%s is empty", g->label);
    if (memcmp(g->base, "GGUF", BT_MIN(g->bytes, (size_t)4)) != 0) return refuse_other(g, err);
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
    if (n > left(g) / value_bytes[type]) goto cut;
    if (type == BT_GGUF_BOOL && !bools_are_clean(g->base + g->at, (size_t)n))
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s: key '%s' holds a truth value that is neither 0 nor 1", g->label,
                          bt_str_shown(kv->key).s);
    g->at += (size_t)n * value_bytes[type];
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
    if (!name_is_clean(kv->key, KEY_BYTES_MAX))
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
    if (type >= BT_COUNT(value_bytes) || elem >= BT_COUNT(value_bytes))
        return bt_err_set(err, BT_EFORMAT, 0, "%s: key '%s' has the unknown value type %u",
                          g->label, bt_str_shown(kv->key).s,
                          type >= BT_COUNT(value_bytes) ? type : elem);
    kv->type = (int32_t)type;
    kv->elem = type == BT_GGUF_ARRAY ? (int32_t)elem : (int32_t)type;
    kv->data = g->base + g->at;
    return skip_values(g, kv, kv->elem, kv->n, err);
}

static bt_status read_kvs(bt_gguf *g, size_t n, uint64_t seed, bt_err *err)
{
    g->kv = bt_calloc(n + !n, sizeof *g->kv);
    if (!g->kv || !names_init(&g->kv_names, g->kv, sizeof *g->kv, n, seed))
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory for the keys of %s", g->label);
    for (size_t i = 0; i < n; i++) {
        bt_status s = read_kv(g, &g->kv[i], err);
        if (s) return s;
        if (!names_add(&g->kv_names, i))
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
    if (__builtin_mul_overflow(elems / (uint64_t)f->elems, (uint64_t)f->bytes, &bytes) ||
        bytes > g->bytes)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s: tensor '%s' is larger than the whole file (%zu bytes); the download "
                          "or copy is incomplete",
                          g->label, bt_str_shown(t->name).s, g->bytes);
    t->format = (int32_t)id;
    t->bytes = (size_t)bytes;
    return BT_OK;
}

/* Reads one description; *offset counts from the start of the data, which is not known yet. */
static bt_status read_tensor(bt_gguf *g, bt_gguf_tensor *t, uint64_t *offset, bt_err *err)
{
    if (!read_str(g, &t->name)) return cut_short(g, "a tensor's name", err);
    if (!name_is_clean(t->name, NAME_BYTES_MAX))
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s: the tensor name '%s' is empty, too long or holds control characters",
                          g->label, bt_str_shown(t->name).s);
    bt_status s = read_shape(g, t, err);
    if (s) return s;
    if (!read_u64(g, offset)) return cut_short(g, "a tensor's description", err);
    if (*offset % g->alignment)
        return bt_err_set(
            err, BT_EFORMAT, 0, "%s: tensor '%s' starts at %llu, no multiple of the alignment %zu",
            g->label, bt_str_shown(t->name).s, (unsigned long long)*offset, g->alignment);
    return BT_OK;
}

static bt_status place_tensor(const bt_gguf *g, bt_gguf_tensor *t, uint64_t offset, bt_err *err)
{
    size_t room = g->bytes - g->data_start;
    if (offset > room || t->bytes > room - offset) {
        uint64_t past = offset > room ? offset - room : t->bytes - (room - offset);
        if (offset > room) past = past > UINT64_MAX - t->bytes ? UINT64_MAX : past + t->bytes;
        return bt_err_set(
            err, BT_EFORMAT, 0,
            "%s: tensor '%s' ends %llu bytes after the file (%zu bytes); the download "
            "or copy is incomplete",
            g->label, bt_str_shown(t->name).s, (unsigned long long)past, g->bytes);
    }
    t->data = g->base + g->data_start + offset;
    return BT_OK;
}

static int by_place(const void *a, const void *b)
{
    const bt_gguf_tensor *x = *(const bt_gguf_tensor *const *)a;
    const bt_gguf_tensor *y = *(const bt_gguf_tensor *const *)b;
    return x->data < y->data ? -1 : x->data > y->data;
}

static bt_status check_overlap(const bt_gguf *g, bt_err *err)
{
    bt_status s = BT_OK;
    const bt_gguf_tensor **order = bt_malloc((g->n_tensors + 1) * sizeof(bt_gguf_tensor *));
    if (!order) return bt_err_set(err, BT_ENOMEM, 0, "out of memory to check %s", g->label);
    bool sorted = true;
    for (size_t i = 0; i < g->n_tensors; i++) {
        order[i] = &g->tensor[i];
        if (i && order[i]->data < order[i - 1]->data) sorted = false;
    }
    if (!sorted) qsort(order, g->n_tensors, sizeof(bt_gguf_tensor *), by_place);
    for (size_t i = 1; i < g->n_tensors && !s; i++)
        if ((const uint8_t *)order[i]->data <
            (const uint8_t *)order[i - 1]->data + order[i - 1]->bytes)
            s = bt_err_set(err, BT_EFORMAT, 0, "%s: tensors '%s' and '%s' overlap", g->label,
                           bt_str_shown(order[i - 1]->name).s, bt_str_shown(order[i]->name).s);
    bt_free(order);
    return s;
}

static bt_status read_tensors(bt_gguf *g, size_t n, uint64_t seed, bt_err *err)
{
    bt_status s = BT_OK;
    uint64_t *offset = bt_calloc(n + !n, sizeof *offset);
    g->tensor = bt_calloc(n + !n, sizeof *g->tensor);
    if (!offset || !g->tensor ||
        !names_init(&g->tensor_names, g->tensor, sizeof *g->tensor, n, seed)) {
        s = bt_err_set(err, BT_ENOMEM, 0, "out of memory for the tensors of %s", g->label);
        goto done;
    }
    for (size_t i = 0; i < n; i++) {
        if ((s = read_tensor(g, &g->tensor[i], &offset[i], err))) goto done;
        if (!names_add(&g->tensor_names, i)) {
            s = bt_err_set(err, BT_EFORMAT, 0, "%s: tensor '%s' is there twice", g->label,
                           bt_str_shown(g->tensor[i].name).s);
            goto done;
        }
        g->n_tensors = i + 1;
    }
    if (n == 0) goto done; // a vocabulary alone: there is no data section
    size_t pad = (g->alignment - g->at % g->alignment) % g->alignment;
    if (pad > left(g)) {
        s = cut_short(g, "its header", err);
        goto done;
    }
    g->data_start = g->at + pad;
    for (size_t i = 0; i < n && !s; i++) s = place_tensor(g, &g->tensor[i], offset[i], err);
    if (!s) s = check_overlap(g, err);
done:
    bt_free(offset);
    return s;
}

/* Opening -------------------------------------------------------------------------------------- */

static bt_status parse(bt_gguf *g, bt_err *err)
{
    uint64_t n_tensors = 0, n_kv = 0;
    bt_status s = read_header(g, &n_tensors, &n_kv, err);
    if (s) return s;
    /* Names could be chosen to collide: the seed differs between runs. */
    uint64_t seed = bt_hash_u64((uint64_t)bt_now_ns() ^ (uint64_t)(uintptr_t)g);
    if ((s = read_kvs(g, (size_t)n_kv, seed, err))) return s;
    int64_t alignment = 32;
    if ((s = bt_gguf_int(g, "general.alignment", 1, ALIGNMENT_MAX, &alignment, err))) return s;
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
    bt_status s = BT_OK;
    struct stat st;
    /* O_NONBLOCK: a FIFO must not hold us here. */
    int fd = open(g->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0) {
        s = bt_err_set(err, errno == ENOENT || errno == ENOTDIR ? BT_ENOTFOUND : BT_EIO, errno,
                       "cannot open %s: %s", g->label, strerror(errno));
        goto done;
    }
    if (S_ISDIR(st.st_mode)) {
        s = bt_err_set(err, BT_EFORMAT, 0, "%s is a directory; name the GGUF file inside it",
                       g->label);
        goto done;
    }
    if (!S_ISREG(st.st_mode)) {
        s = bt_err_set(err, BT_EFORMAT, 0, "%s is not a regular file", g->label);
        goto done;
    }
    if (st.st_size == 0) goto done; // the parser says so; mmap cannot
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        s = bt_err_set(err, BT_EIO, errno, "cannot map %s (%lld bytes): %s", g->label,
                       (long long)st.st_size, strerror(errno));
        goto done;
    }
    g->base = p;
    g->bytes = (size_t)st.st_size;
    g->mapped = true;
    /* The header is read from front to back once, and so is each tensor when it is loaded. */
    madvise(p, g->bytes, MADV_SEQUENTIAL);
done:
    if (fd >= 0) close(fd);
    return s;
}

bt_status bt_gguf_open(const char *path, bt_gguf **out, bt_err *err)
{
    bt_gguf *g = handle_new(path, err);
    if (!g) return BT_ENOMEM;
    bt_status s = map_file(g, err);
    if (!s) s = parse(g, err);
    if (s)
        bt_gguf_close(g);
    else
        *out = g;
    return s;
}

bt_status bt_gguf_open_memory(const void *data, size_t bytes, const char *name, bt_gguf **out,
                              bt_err *err)
{
    bt_gguf *g = handle_new(name, err);
    if (!g) return BT_ENOMEM;
    g->base = data;
    g->bytes = bytes;
    bt_status s = parse(g, err);
    if (s)
        bt_gguf_close(g);
    else
        *out = g;
    return s;
}

void bt_gguf_close(bt_gguf *g)
{
    if (!g) return;
    if (g->mapped) munmap((void *)(uintptr_t)g->base, g->bytes);
    bt_free(g->kv_names.slot);
    bt_free(g->tensor_names.slot);
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

size_t bt_gguf_bytes(const bt_gguf *g)
{
    return g->bytes;
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
    size_t i = names_find(&g->tensor_names, name);
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

static const gguf_kv *find(const bt_gguf *g, const char *key)
{
    size_t i = names_find(&g->kv_names, key);
    return i == SIZE_MAX ? NULL : &g->kv[i];
}

static bt_status wrong_type(const bt_gguf *g, const gguf_kv *kv, const char *want, bt_err *err)
{
    return bt_err_set(err, BT_EFORMAT, 0, "%s: key '%s' is %s; expected %s", g->label,
                      bt_str_shown(kv->key).s, type_name[kv->type], want);
}

/* An integer of any width; *big: it is past INT64_MAX. False: no integer type. */
static bool integer_at(int32_t type, const uint8_t *p, int64_t *out, bool *big)
{
    uint64_t u = 0;
    memcpy(&u, p, value_bytes[type]);
    int unused_bits = 64 - 8 * value_bytes[type];
    *big = false;
    switch (type) {
    case BT_GGUF_U8:
    case BT_GGUF_U16:
    case BT_GGUF_U32:
    case BT_GGUF_U64:
        *big = u > INT64_MAX;
        *out = *big ? INT64_MAX : (int64_t)u;
        return true;
    case BT_GGUF_I8:
    case BT_GGUF_I16:
    case BT_GGUF_I32:
    case BT_GGUF_I64: *out = (int64_t)(u << unused_bits) >> unused_bits; return true;
    default: return false;
    }
}

static bool float_at(int32_t type, const uint8_t *p, double *out)
{
    float f;
    if (type == BT_GGUF_F32) {
        memcpy(&f, p, sizeof f);
        *out = (double)f;
    } else if (type == BT_GGUF_F64) {
        memcpy(out, p, sizeof *out);
    } else {
        return false;
    }
    return true;
}

static bt_str string_at(const uint8_t *p)
{
    uint64_t n;
    memcpy(&n, p, sizeof n);
    return (bt_str){(const char *)p + sizeof n, (size_t)n};
}

bt_status bt_gguf_int(const bt_gguf *g, const char *key, int64_t min, int64_t max, int64_t *out,
                      bt_err *err)
{
    const gguf_kv *kv = find(g, key);
    int64_t v;
    bool big;
    if (!kv) return BT_OK;
    if (!integer_at(kv->type, kv->data, &v, &big)) return wrong_type(g, kv, "an integer", err);
    if (big || v < min || v > max)
        return bt_err_set(err, BT_EFORMAT, 0, "%s: key '%s' is %s%lld; expected %lld to %lld",
                          g->label, key, big ? "over " : "", (long long)v, (long long)min,
                          (long long)max);
    *out = v;
    return BT_OK;
}

bt_status bt_gguf_float(const bt_gguf *g, const char *key, double *out, bt_err *err)
{
    const gguf_kv *kv = find(g, key);
    if (!kv) return BT_OK;
    if (!float_at(kv->type, kv->data, out)) return wrong_type(g, kv, "a float", err);
    return BT_OK;
}

bt_status bt_gguf_bool(const bt_gguf *g, const char *key, bool *out, bt_err *err)
{
    const gguf_kv *kv = find(g, key);
    if (!kv) return BT_OK;
    if (kv->type != BT_GGUF_BOOL) return wrong_type(g, kv, "a truth value", err);
    *out = *kv->data;
    return BT_OK;
}

bt_status bt_gguf_string(const bt_gguf *g, const char *key, bt_str *out, bt_err *err)
{
    const gguf_kv *kv = find(g, key);
    if (!kv) return BT_OK;
    if (kv->type != BT_GGUF_STRING) return wrong_type(g, kv, "a string", err);
    *out = string_at(kv->data);
    return BT_OK;
}

bool bt_gguf_has(const bt_gguf *g, const char *key)
{
    return find(g, key) != NULL;
}

static const gguf_kv *find_array(const bt_gguf *g, const char *key)
{
    const gguf_kv *kv = find(g, key);
    return kv && kv->type == BT_GGUF_ARRAY ? kv : NULL;
}

int bt_gguf_array(const bt_gguf *g, const char *key, size_t *n)
{
    const gguf_kv *kv = find_array(g, key);
    if (!kv) return -1;
    if (n) *n = (size_t)kv->n;
    return kv->elem;
}

bool bt_gguf_each_string(const bt_gguf *g, const char *key, bt_gguf_string_fn fn, void *ud)
{
    const gguf_kv *kv = find_array(g, key);
    if (!kv || kv->elem != BT_GGUF_STRING) return false;
    const uint8_t *p = kv->data;
    for (size_t i = 0; i < kv->n; i++) {
        bt_str s = string_at(p);
        if (!fn(ud, i, s)) return false;
        p = (const uint8_t *)s.s + s.n;
    }
    return true;
}

int64_t bt_gguf_array_int(const bt_gguf *g, const char *key, size_t i)
{
    const gguf_kv *kv = find_array(g, key);
    BT_ASSERT(kv && i < kv->n && value_bytes[kv->elem]);
    const uint8_t *p = kv->data + i * value_bytes[kv->elem];
    int64_t v;
    bool big;
    double d;
    if (integer_at(kv->elem, p, &v, &big)) return v;
    if (!float_at(kv->elem, p, &d)) return *p; // a truth value
    if (!(d > -0x1p63 && d < 0x1p63)) return d > 0 ? INT64_MAX : d < 0 ? INT64_MIN : 0;
    return (int64_t)d;
}

double bt_gguf_array_float(const bt_gguf *g, const char *key, size_t i)
{
    const gguf_kv *kv = find_array(g, key);
    BT_ASSERT(kv && i < kv->n && value_bytes[kv->elem]);
    double d;
    if (float_at(kv->elem, kv->data + i * value_bytes[kv->elem], &d)) return d;
    return (double)bt_gguf_array_int(g, key, i);
}

const void *bt_gguf_array_raw(const bt_gguf *g, const char *key, int type, size_t *n)
{
    const gguf_kv *kv = find_array(g, key);
    if (!kv || kv->elem != type || !value_bytes[type]) return NULL;
    if (n) *n = (size_t)kv->n;
    return kv->data;
}
