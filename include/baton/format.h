/* SPDX-License-Identifier: Apache-2.0 */
/* format.h - the element formats of tensors, described once.
 *
 * Values are GGUF's type ids, so a file's number is our number. A row of n elements takes
 * n / elems * bytes bytes; n must be a multiple of elems. `loadable` marks the formats that
 * can be read (kernels/quant/forms.h); a backend without kernels for one of them refuses it, and the
 * others are known only well enough to be refused by name. Ids
 * from 1000 are Baton's own (kernels/quant/quant.h draws them): made in memory when a model is loaded
 * with --quant, never found in a file. Those from 1100 are of safetensors alone. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* name, id, elements a block, bytes a block, loadable, text */
#define BT_FORMAT_MAP(X)                                                                           \
    X(F32, 0, 1, 4, 1, "F32")                                                                      \
    X(F16, 1, 1, 2, 1, "F16")                                                                      \
    X(Q4_0, 2, 32, 18, 1, "Q4_0")                                                                  \
    X(Q4_1, 3, 32, 20, 1, "Q4_1")                                                                  \
    X(Q5_0, 6, 32, 22, 1, "Q5_0")                                                                  \
    X(Q5_1, 7, 32, 24, 1, "Q5_1")                                                                  \
    X(Q8_0, 8, 32, 34, 1, "Q8_0")                                                                  \
    X(Q8_1, 9, 32, 36, 0, "Q8_1")                                                                  \
    X(Q2_K, 10, 256, 84, 1, "Q2_K")                                                                \
    X(Q3_K, 11, 256, 110, 1, "Q3_K")                                                               \
    X(Q4_K, 12, 256, 144, 1, "Q4_K")                                                               \
    X(Q5_K, 13, 256, 176, 1, "Q5_K")                                                               \
    X(Q6_K, 14, 256, 210, 1, "Q6_K")                                                               \
    X(IQ4_NL, 20, 32, 18, 1, "IQ4_NL")                                                             \
    X(IQ4_XS, 23, 256, 136, 1, "IQ4_XS")                                                           \
    X(I8, 24, 1, 1, 0, "I8")                                                                       \
    X(I16, 25, 1, 2, 0, "I16")                                                                     \
    X(I32, 26, 1, 4, 0, "I32")                                                                     \
    X(I64, 27, 1, 8, 0, "I64")                                                                     \
    X(F64, 28, 1, 8, 0, "F64")                                                                     \
    X(BF16, 30, 1, 2, 1, "BF16")                                                                   \
    X(MXFP4, 39, 32, 17, 1, "MXFP4")                                                               \
    X(INT8G, 1000, 128, 130, 1, "INT8G")                                                           \
    X(INT4G, 1001, 128, 68, 1, "INT4G")                                                            \
    X(F8_E4M3, 1100, 1, 1, 0, "F8_E4M3")                                                           \
    X(F8_E5M2, 1101, 1, 1, 0, "F8_E5M2")                                                           \
    X(F8_E8M0, 1102, 1, 1, 0, "F8_E8M0")                                                           \
    X(F4, 1103, 2, 1, 0, "F4")                                                                     \
    X(U8, 1104, 1, 1, 0, "U8")                                                                     \
    X(U16, 1105, 1, 2, 0, "U16")                                                                   \
    X(U32, 1106, 1, 4, 0, "U32")                                                                   \
    X(U64, 1107, 1, 8, 0, "U64")                                                                   \
    X(BOOL, 1108, 1, 1, 0, "BOOL")

enum { BT_FORMAT_OWN = 1000 }; // ids from here are in no GGUF file

typedef enum bt_format {
#define X(name, id, elems, bytes, loadable, text) BT_FORMAT_##name = id,
    BT_FORMAT_MAP(X)
#undef X
} bt_format;

typedef struct bt_format_info {
    const char *name;
    int32_t id, elems, bytes, loadable;
} bt_format_info;

/* NULL for an id that is not in the map. */
static inline const bt_format_info *bt_format_get(int32_t id)
{
    static const bt_format_info table[] = {
#define X(name, id, elems, bytes, loadable, text) {text, id, elems, bytes, loadable},
        BT_FORMAT_MAP(X)
#undef X
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].id == id) return &table[i];
    return NULL;
}

/* Bytes of n elements; n must be a multiple of the block and the format known. */
static inline size_t bt_format_bytes(int32_t id, size_t n)
{
    const bt_format_info *f = bt_format_get(id);
    return f ? n / (size_t)f->elems * (size_t)f->bytes : 0;
}
