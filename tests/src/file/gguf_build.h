/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_build.h - writes GGUF files piece by piece, sound or broken, for tests. */
#pragma once
#include "base/buf.h"
#include "file/gguf.h"
#include <stdint.h>
#include <string.h>

static inline void gb_u32(bt_buf *b, uint32_t v)
{
    bt_buf_add(b, &v, sizeof v);
}

static inline void gb_u64(bt_buf *b, uint64_t v)
{
    bt_buf_add(b, &v, sizeof v);
}

static inline void gb_str(bt_buf *b, const char *s)
{
    gb_u64(b, strlen(s));
    bt_buf_adds(b, s);
}

static inline void gb_head(bt_buf *b, uint32_t version, uint64_t n_tensors, uint64_t n_kv)
{
    bt_buf_add(b, "GGUF", 4);
    gb_u32(b, version);
    gb_u64(b, n_tensors);
    gb_u64(b, n_kv);
}

/* A key and its value type; the value follows. */
static inline void gb_key(bt_buf *b, const char *key, uint32_t type)
{
    gb_str(b, key);
    gb_u32(b, type);
}

static inline void gb_int(bt_buf *b, const char *key, uint32_t v)
{
    gb_key(b, key, BT_GGUF_U32);
    gb_u32(b, v);
}

static inline void gb_float(bt_buf *b, const char *key, float v)
{
    gb_key(b, key, BT_GGUF_F32);
    bt_buf_add(b, &v, sizeof v);
}

static inline void gb_string(bt_buf *b, const char *key, const char *v)
{
    gb_key(b, key, BT_GGUF_STRING);
    gb_str(b, v);
}

/* An array's head; the elements follow. */
static inline void gb_array(bt_buf *b, const char *key, uint32_t elem, uint64_t n)
{
    gb_key(b, key, BT_GGUF_ARRAY);
    gb_u32(b, elem);
    gb_u64(b, n);
}

static inline void gb_tensor(bt_buf *b, const char *name, uint32_t n_dims, const uint64_t *dim,
                             uint32_t format, uint64_t offset)
{
    gb_str(b, name);
    gb_u32(b, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) gb_u64(b, dim[i]);
    gb_u32(b, format);
    gb_u64(b, offset);
}

static inline void gb_zeros(bt_buf *b, size_t n)
{
    for (size_t i = 0; i < n; i++) bt_buf_addc(b, 0);
}

static inline void gb_pad(bt_buf *b, size_t align)
{
    while (b->len % align) bt_buf_addc(b, 0);
}
