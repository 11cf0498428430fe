/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors.c - maps safetensors files and checks all of them before anyone looks.
 *
 * LAYOUT   u64 n | n bytes of JSON | data
 *          {NAME: {"dtype": "F32", "shape": [rows, ..., cols], "data_offsets": [begin, end]}, ...,
 *           "__metadata__": {STRING: STRING}}; offsets count from the data's first byte.
 * BOUNDS   A tensor costs the header some 50 bytes, so memory stays below three times its size.
 * PARTS    An index names the files beside it; their tensors are joined.
 * NOT HERE what tensors mean (src/model). */
#include "file/safetensors.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/json_read.h"
#include "base/mem.h"
#include "file/gguf_names.h"
#include "file/safetensors_index.h"
#include "file/whole.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HEADER_MAX = 100000000, DIMS_MAX = 16, LABEL_MAX = 100, INDEX_BYTES_MAX = 64 << 20 };
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors files are read in place");

typedef struct part {
    char *path;        // owned
    const char *label; // the end of path
    const uint8_t *base;
    size_t bytes;
    bool mapped;         // base is ours to unmap
    size_t data;         // where the data start
    size_t first, count; // its tensors
} part;

struct bt_safetensors {
    char *path; // owned
    const char *label;
    part *part; // owned
    size_t n_parts;
    bt_file_tensor *tensor; // owned
    size_t n_tensors, cap_tensors;
    bt__names names;
    bt_arena arena; // names that had escapes
};

static const char *label_of(const char *path)
{
    size_t n = strlen(path);
    return n > LABEL_MAX ? path + n - LABEL_MAX : path;
}

/* One tensor -----------------------------------------------------------------------------------*/

static bt_status wrong(const part *p, bt_str name, const char *what, bt_err *err)
{
    return bt_err_set(err, BT_EFORMAT, 0, "%s: tensor '%s' %s", p->label, bt_str_shown(name).s,
                      what);
}

/* By the name that the file has for it; NULL: another one. */
static const bt_format_info *read_dtype(bt_json_reader *r)
{
    static const int32_t known[] = {
        BT_FORMAT_F32, BT_FORMAT_F16,     BT_FORMAT_BF16, BT_FORMAT_F64,     BT_FORMAT_I8,
        BT_FORMAT_I16, BT_FORMAT_I32,     BT_FORMAT_I64,  BT_FORMAT_U8,      BT_FORMAT_U16,
        BT_FORMAT_U32, BT_FORMAT_U64,     BT_FORMAT_BOOL, BT_FORMAT_F8_E4M3, BT_FORMAT_F8_E5M2,
        BT_FORMAT_F4,  BT_FORMAT_F8_E8M0,
    };
    const char *s;
    size_t n;
    if (!bt_json_read_string(r, &s, &n)) return NULL;
    for (size_t i = 0; i < BT_COUNT(known); i++) {
        const bt_format_info *f = bt_format_get(known[i]);
        if (strlen(f->name) == n && memcmp(f->name, s, n) == 0) return f;
    }
    return NULL;
}

/* From [rows, ..., cols] to the fastest first. */
static bt_status read_shape(const part *p, bt_json_reader *r, bt_file_tensor *t, bt_err *err)
{
    int64_t dim[DIMS_MAX];
    int32_t n = 0;
    if (bt_json_peek(r) != BT_JSON_ARRAY)
        return wrong(p, t->name, "has a shape that is no list", err);
    bt_json_enter(r, '[');
    while (bt_json_next_item(r)) {
        if (n == DIMS_MAX) return wrong(p, t->name, "has more than 16 dimensions", err);
        if (!bt_json_read_int(r, &dim[n]) || dim[n] < 0)
            return wrong(p, t->name, "has a dimension in 'shape' that is no size", err);
        n++;
    }
    t->n_dims = n;
    for (int32_t i = 0; i < 4; i++) t->dim[i] = 1;
    for (int32_t i = 0; i < n; i++) {
        int64_t *to = &t->dim[BT_MIN(i, 3)];
        if (__builtin_mul_overflow(*to, dim[n - 1 - i], to))
            return wrong(p, t->name, "has a 'shape' larger than any file", err);
    }
    return BT_OK;
}

static bt_status read_offsets(const part *p, bt_json_reader *r, bt_str name, int64_t offset[2],
                              bt_err *err)
{
    int n = 0;
    if (bt_json_peek(r) == BT_JSON_ARRAY) bt_json_enter(r, '[');
    while (n < 3 && !bt_json_reader_why(r, NULL) && bt_json_next_item(r)) {
        if (n < 2 && (!bt_json_read_int(r, &offset[n]) || offset[n] < 0)) break;
        n++;
    }
    if (n == 2 && offset[0] <= offset[1]) return BT_OK;
    return wrong(p, name,
                 "has 'data_offsets' that are no two places, the first not behind the other", err);
}

/* Elements and bytes of a tensor whose shape, format and offsets are known. */
static bt_status place(const part *p, bt_file_tensor *t, const int64_t offset[2], bt_err *err)
{
    const bt_format_info *f = bt_format_get(t->format);
    uint64_t elems = 1, bytes;
    bool over = false;
    for (int i = 0; i < 4; i++)
        over = __builtin_mul_overflow(elems, (uint64_t)t->dim[i], &elems) || over;
    bool empty = !t->dim[0] || !t->dim[1] || !t->dim[2] || !t->dim[3];
    if (empty) elems = 0;
    if (over && !empty) return wrong(p, t->name, "has a 'shape' larger than any file", err);
    if (elems % (uint64_t)f->elems ||
        __builtin_mul_overflow(elems / (uint64_t)f->elems, (uint64_t)f->bytes, &bytes) ||
        bytes != (uint64_t)(offset[1] - offset[0]))
        return bt_err_set(
            err, BT_EFORMAT, 0,
            "%s: tensor '%s' has %llu numbers of %s by its 'shape', and %lld bytes by "
            "its 'data_offsets'",
            p->label, bt_str_shown(t->name).s, (unsigned long long)elems, f->name,
            (long long)(offset[1] - offset[0]));
    if ((uint64_t)offset[1] > p->bytes - p->data)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s ends too early: tensor '%s' lacks %llu bytes (the file has %zu); the "
                          "download or copy is incomplete: get it again",
                          p->label, bt_str_shown(t->name).s,
                          (unsigned long long)((uint64_t)offset[1] - (p->bytes - p->data)),
                          p->bytes);
    t->data = p->base + p->data + offset[0];
    t->bytes = (size_t)bytes;
    return BT_OK;
}

/* {"dtype": ..., "shape": ..., "data_offsets": ...} */
static bt_status read_tensor(const part *p, bt_json_reader *r, bt_file_tensor *t, bt_err *err)
{
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4, ALL = 7 };
    int64_t offset[2] = {0};
    bt_status st = BT_OK;
    const char *key;
    size_t n;
    int seen = 0;
    if (bt_json_peek(r) != BT_JSON_OBJECT)
        return wrong(p, t->name, "is described by no object", err);
    bt_json_enter(r, '{');
    while (!st && bt_json_next_key(r, &key, &n)) {
        bt_str k = {key, n};
        int which = n == 5 && !memcmp(k.s, "dtype", n)           ? DTYPE
                    : n == 5 && !memcmp(k.s, "shape", n)         ? SHAPE
                    : n == 12 && !memcmp(k.s, "data_offsets", n) ? OFFSETS
                                                                 : 0;
        if (seen & which) return wrong(p, t->name, "is described twice", err);
        seen |= which;
        const bt_format_info *f = NULL;
        if (which == DTYPE && !(f = read_dtype(r)))
            return wrong(p, t->name, "has a 'dtype' that is not known", err);
        if (f) t->format = f->id;
        if (which == SHAPE) st = read_shape(p, r, t, err);
        if (which == OFFSETS) st = read_offsets(p, r, t->name, offset, err);
        if (which == 0) bt_json_skip(r);
    }
    if (!st && !bt_json_reader_why(r, NULL) && seen != ALL)
        return wrong(p, t->name, "lacks its 'dtype', 'shape' or 'data_offsets'", err);
    if (st || bt_json_reader_why(r, NULL)) return st;
    return place(p, t, offset, err);
}

/* One file -------------------------------------------------------------------------------------*/

static bt_status read_metadata(const part *p, bt_json_reader *r, bt_err *err)
{
    const char *s;
    size_t n;
    bool sound = bt_json_peek(r) == BT_JSON_OBJECT && bt_json_enter(r, '{');
    while (sound && bt_json_next_key(r, &s, &n))
        sound = bt_json_peek(r) == BT_JSON_STRING && bt_json_read_string(r, &s, &n);
    return sound || bt_json_reader_why(r, NULL)
               ? BT_OK
               : bt_err_set(err, BT_EFORMAT, 0, "%s: '__metadata__' holds more than strings",
                            p->label);
}

static bt_status add_tensor(bt_safetensors *s, const part *p, bt_str name, bt_json_reader *r,
                            bt_err *err)
{
    if (!bt_name_is_clean(name, BT_FILE_NAME_MAX))
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s: the tensor name '%s' is empty, too long or holds control characters",
                          p->label, bt_str_shown(name).s);
    if (s->n_tensors == BT_SAFETENSORS_TENSORS_MAX)
        return bt_err_set(err, BT_EFORMAT, 0, "%s has more than %d tensors", p->label,
                          BT_SAFETENSORS_TENSORS_MAX);
    if (s->n_tensors == s->cap_tensors) {
        size_t cap = s->cap_tensors ? 2 * s->cap_tensors : 64;
        bt_file_tensor *all = bt_realloc(s->tensor, cap * sizeof *all);
        if (!all) return BT_ENOMEM;
        s->tensor = all;
        s->cap_tensors = cap;
    }
    bt_file_tensor t = {.name = name};
    if (!bt_keep_name(&s->arena, r->s, r->n, &t.name)) return BT_ENOMEM;
    bt_status st = read_tensor(p, r, &t, err);
    if (!st && !bt_json_reader_why(r, NULL)) s->tensor[s->n_tensors++] = t;
    return st;
}

static int by_place(const void *a, const void *b)
{
    const bt_file_tensor *x = *(const bt_file_tensor *const *)a,
                         *y = *(const bt_file_tensor *const *)b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes; // empty ones before what begins there
}

/* The tensors of a file cover its data: no overlap, no hole, nothing behind the last. */
static bt_status check_cover(const bt_safetensors *s, const part *p, bt_err *err)
{
    const bt_file_tensor **order = bt_malloc((p->count + 1) * sizeof(bt_file_tensor *));
    const uint8_t *at = p->base + p->data, *end = p->base + p->bytes;
    bt_status st = BT_OK;
    if (!order) return BT_ENOMEM;
    for (size_t i = 0; i < p->count; i++) order[i] = &s->tensor[p->first + i];
    qsort(order, p->count, sizeof(bt_file_tensor *), by_place);
    for (size_t i = 0; i < p->count && !st; i++) {
        const uint8_t *begin = order[i]->data;
        if (begin < at)
            st = bt_err_set(err, BT_EFORMAT, 0, "%s: tensors '%s' and '%s' overlap", p->label,
                            bt_str_shown(order[i - 1]->name).s, bt_str_shown(order[i]->name).s);
        else if (begin > at)
            st = bt_err_set(err, BT_EFORMAT, 0,
                            "%s: %zu bytes before tensor '%s' belong to no tensor", p->label,
                            (size_t)(begin - at), bt_str_shown(order[i]->name).s);
        at = begin + order[i]->bytes;
    }
    if (!st && at != end)
        st = bt_err_set(err, BT_EFORMAT, 0,
                        "%s: the last %zu bytes belong to no tensor; get the file again", p->label,
                        (size_t)(end - at));
    bt_free(order);
    return st;
}

/* How long the header is; what is no safetensors file is told by what it is. */
static bt_status read_length(part *p, bt_err *err)
{
    uint64_t n = 0;
    const char *known = bt_file_known((const char *)p->base, p->bytes);
    bool header = p->bytes > 8 && p->base[8] == '{'; // a length may look like anything
    if (p->bytes == 0) return bt_err_set(err, BT_EFORMAT, 0, "%s is empty", p->label);
    if (known && !header)
        return bt_err_set(err, BT_EFORMAT, 0, "%s is no safetensors file but %s", p->label, known);
    if (p->bytes > 8) memcpy(&n, p->base, sizeof n);
    if (p->bytes <= 8 || (header && n > p->bytes - 8 && n <= HEADER_MAX))
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s ends inside its header, after %zu bytes; the download or copy is "
                          "incomplete: get it again",
                          p->label, p->bytes);
    if (!header || n < 2)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s is no safetensors file: it does not begin with a header", p->label);
    if (n > HEADER_MAX)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "%s claims a header of %llu bytes; at most %d are possible", p->label,
                          (unsigned long long)n, HEADER_MAX);
    p->data = 8 + (size_t)n;
    return BT_OK;
}

static bt_status read_part(bt_safetensors *s, part *p, bt_err *err)
{
    bt_json_reader r;
    bt_str key;
    bool metadata = false;
    bt_status st = read_length(p, err);
    if (st) return st;
    p->first = s->n_tensors;
    bt_json_reader_init(&r, (const char *)p->base + 8, p->data - 8, 0);
    bt_json_enter(&r, '{');
    while (!st && bt_json_next_key(&r, &key.s, &key.n)) {
        if (key.n == 12 && memcmp(key.s, "__metadata__", 12) == 0) {
            if (metadata)
                st = bt_err_set(err, BT_EFORMAT, 0, "%s: '__metadata__' is there twice", p->label);
            else
                st = read_metadata(p, &r, err);
            metadata = true;
        } else {
            st = add_tensor(s, p, key, &r, err);
        }
    }
    p->count = s->n_tensors - p->first;
    st = bt_json_end(&r, st, p->label, ": the header is not sound", 8, err);
    return st ? st : check_cover(s, p, err);
}

static bt_status map_part(part *p, bt_err *err)
{
    bt_status st = bt_refuse_pickle(p->label, err);
    if (st) return st;
    /* O_NONBLOCK: a FIFO must not hold us here. */
    int fd = open(p->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return bt_err_set(err, errno == ENOENT || errno == ENOTDIR ? BT_ENOTFOUND : BT_EIO, errno,
                          "cannot open %s: %s", p->label, strerror(errno));
    st = bt_file_map(fd, p->label, &p->base, &p->bytes, err);
    p->mapped = p->base != NULL;
    return st;
}

/* Files together -------------------------------------------------------------------------------*/

static bt_status index_names(bt_safetensors *s, bt_err *err)
{
    /* Names could be chosen to collide: the seed differs between runs. */
    uint64_t seed = bt_hash_u64((uint64_t)bt_now_ns() ^ (uint64_t)(uintptr_t)s);
    if (!bt__names_init(&s->names, s->tensor, sizeof *s->tensor, s->n_tensors, seed))
        return BT_ENOMEM;
    for (size_t i = 0; i < s->n_tensors; i++)
        if (!bt__names_add(&s->names, i))
            return bt_err_set(err, BT_EFORMAT, 0, "%s: tensor '%s' is there twice", s->label,
                              bt_str_shown(s->tensor[i].name).s);
    return BT_OK;
}

/* Each tensor of the index is in its file. */
static bt_status check_index(const bt_safetensors *s, const bt_safetensors_index *x, bt_err *err)
{
    for (size_t i = 0; i < x->n_entries; i++) {
        char name[BT_FILE_NAME_MAX + 1];
        bt_str want = x->entry[i].name;
        const part *p = &s->part[x->entry[i].part];
        memcpy(name, want.s, want.n);
        name[want.n] = 0;
        const bt_file_tensor *t = bt_safetensors_find(s, name);
        size_t at = t ? (size_t)(t - s->tensor) : SIZE_MAX;
        if (!t || at < p->first || at >= p->first + p->count)
            return bt_err_set(err, BT_EFORMAT, 0,
                              "%s lacks the tensor '%s', which the index says is in it; the files "
                              "are not of one model: get them again",
                              p->label, bt_str_shown(want).s);
    }
    return BT_OK;
}

static bt_status open_parts(bt_safetensors *s, const bt_safetensors_index *x, bt_err *err)
{
    const char *slash = strrchr(s->path, '/');
    int folder = slash ? (int)(slash - s->path) + 1 : 0;
    bt_status st = BT_OK;
    for (size_t i = 0; i < x->n_parts && !st; i++) {
        part *p = &s->part[s->n_parts];
        size_t n = (size_t)folder + strlen(x->part[i]) + 1;
        if (!(p->path = bt_malloc(n))) return BT_ENOMEM;
        snprintf(p->path, n, "%.*s%s", folder, s->path, x->part[i]);
        p->label = label_of(p->path);
        s->n_parts++;
        bt_err why = {0};
        st = map_part(p, &why);
        if (st == BT_ENOTFOUND)
            return bt_err_set(err, st, why.sys,
                              "%.100s is missing beside %s, whose index names %zu files; get all "
                              "of them",
                              x->part[i], s->label, x->n_parts);
        if (st) return bt_err_set(err, st, why.sys, "%s", why.msg);
        st = read_part(s, p, err);
    }
    if (!st) st = index_names(s, err);
    return st ? st : check_index(s, x, err);
}

static bt_safetensors *handle_new(const char *path, size_t n_parts)
{
    bt_safetensors *s = bt_calloc(1, sizeof *s);
    if (!s) return NULL;
    bt_arena_init(&s->arena, HEADER_MAX);
    s->path = bt_strdup(path);
    s->part = bt_calloc(n_parts, sizeof *s->part);
    if (!s->path || !s->part) {
        bt_safetensors_close(s);
        return NULL;
    }
    s->label = label_of(s->path);
    return s;
}

static bt_status finish(bt_safetensors *s, const char *label, bt_status st, bt_safetensors **out,
                        bt_err *err)
{
    if (st == BT_ENOMEM) bt_err_set(err, st, 0, "out of memory to open %s", label);
    if (st)
        bt_safetensors_close(s);
    else
        *out = s;
    return st;
}

static bt_status open_index(const char *path, bt_safetensors **out, bt_err *err)
{
    char *text = NULL;
    size_t n = 0;
    bt_safetensors_index x = {0};
    bt_safetensors *s = NULL;
    bt_status st = bt_file_read(path, INDEX_BYTES_MAX, &text, &n, err);
    if (st) return st;
    st = bt_safetensors_index_read(text, n, label_of(path), &x, err);
    if (!st) {
        s = handle_new(path, x.n_parts);
        st = s ? open_parts(s, &x, err) : BT_ENOMEM;
        st = finish(s, label_of(path), st, out, err);
    }
    bt_safetensors_index_release(&x);
    bt_free(text);
    return st;
}

bt_status bt_safetensors_open(const char *path, bt_safetensors **out, bt_err *err)
{
    size_t n = strlen(path);
    if (n > 5 && strcmp(path + n - 5, ".json") == 0) return open_index(path, out, err);
    bt_safetensors *s = handle_new(path, 1);
    bt_status st = s && (s->part->path = bt_strdup(path)) ? BT_OK : BT_ENOMEM;
    if (!st) {
        s->n_parts = 1;
        s->part->label = label_of(s->part->path);
        st = map_part(s->part, err);
    }
    if (!st) st = read_part(s, s->part, err);
    if (!st) st = index_names(s, err);
    return finish(s, label_of(path), st, out, err);
}

bt_status bt_safetensors_open_memory(const void *data, size_t bytes, const char *name,
                                     bt_safetensors **out, bt_err *err)
{
    bt_safetensors *s = handle_new(name, 1);
    bt_status st = s ? BT_OK : BT_ENOMEM;
    if (s) {
        *s->part = (part){.label = s->label, .base = data, .bytes = bytes};
        s->n_parts = 1;
        st = read_part(s, s->part, err);
    }
    if (!st) st = index_names(s, err);
    return finish(s, name, st, out, err);
}

void bt_safetensors_close(bt_safetensors *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n_parts; i++) {
        if (s->part[i].mapped) munmap((void *)(uintptr_t)s->part[i].base, s->part[i].bytes);
        bt_free(s->part[i].path);
    }
    bt__names_release(&s->names);
    bt_arena_release(&s->arena);
    bt_free(s->part);
    bt_free(s->tensor);
    bt_free(s->path);
    bt_free(s);
}

const char *bt_safetensors_label(const bt_safetensors *s)
{
    return s->label;
}

size_t bt_safetensors_n_tensors(const bt_safetensors *s)
{
    return s->n_tensors;
}

const bt_file_tensor *bt_safetensors_at(const bt_safetensors *s, size_t i)
{
    BT_ASSERT(i < s->n_tensors);
    return &s->tensor[i];
}

const bt_file_tensor *bt_safetensors_find(const bt_safetensors *s, const char *name)
{
    size_t i = bt__names_find(&s->names, name);
    return i == SIZE_MAX ? NULL : &s->tensor[i];
}
