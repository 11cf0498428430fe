/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_impl.h - an open GGUF file, for who opens it and who reads its keys. Private to src/file. */
#pragma once
#include "file/gguf_names.h"
#include <assert.h>

typedef struct gguf_kv {
    bt_str key;
    int32_t type, elem;  // elem: element type of an array
    uint64_t n;          // elements of an array, else 1
    const uint8_t *data; // borrowed: in the mapping; a string starts with its length
} gguf_kv;

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
    bt__names kv_names, tensor_names;
    bt_gguf **part; // owned: the other parts of a split model
    size_t n_parts;
};

/* Bytes of one value; 0: not of fixed size. Index: BT_GGUF_*. */
enum { BT__VALUE_TYPES = BT_GGUF_F64 + 1 };
extern const uint8_t bt__value_bytes[BT__VALUE_TYPES];
