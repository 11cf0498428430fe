/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_names.h - finds a file's keys and tensors by name. Private to src/file. */
#pragma once
#include "file/gguf.h"

/* Open addressing over item numbers + 1. Items start with their bt_str. */
typedef struct bt__names {
    uint32_t *slot; // owned
    size_t cap;     // a power of two, at least twice the items
    const void *items;
    size_t stride;
    uint64_t seed; // names could be chosen to collide: it differs between runs
} bt__names;

bool bt__names_init(bt__names *t, const void *items, size_t stride, size_t n, uint64_t seed);
void bt__names_release(bt__names *t);
bool bt__names_add(bt__names *t, size_t i); // false if item i's name is there already
size_t bt__names_find(const bt__names *t, const char *name); // item number, or SIZE_MAX
