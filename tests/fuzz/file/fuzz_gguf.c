/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a GGUF file: refused with a sentence, or open and every accessor safe. */
#include "base/assert.h"
#include "file/gguf.h"
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned sink; // what is read must not be optimized away

static bool sum_string(void *ud, size_t i, bt_str s)
{
    (void)i;
    for (size_t k = 0; k < s.n; k++) *(unsigned *)ud += (unsigned char)s.s[k];
    return true;
}

static void use_key(const bt_gguf *g, bt_str name, unsigned *sum)
{
    char key[4200];
    int64_t v;
    double d;
    bool b;
    bt_str s = {0};
    size_t n = 0;
    memcpy(key, name.s, name.n);
    key[name.n] = 0;
    BT_ASSERT(bt_gguf_has(g, key));
    bt_gguf_int(g, key, INT64_MIN, INT64_MAX, &v, NULL);
    bt_gguf_float(g, key, &d, NULL);
    bt_gguf_bool(g, key, &b, NULL);
    if (bt_gguf_string(g, key, &s, NULL) == BT_OK) sum_string(sum, 0, s);
    bt_gguf_each_string(g, key, sum_string, sum);
    int elem = bt_gguf_array(g, key, &n);
    for (size_t i = 0; elem >= 0 && elem != BT_GGUF_STRING && i < n; i++)
        *sum +=
            (unsigned)bt_gguf_array_int(g, key, i) + (bt_gguf_array_float(g, key, i) > 0 ? 1u : 0u);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bt_gguf *g = NULL;
    bt_err err = {0};
    unsigned sum = 0;
    if (bt_gguf_open_memory(data, size, "fuzz", &g, &err) != BT_OK) {
        BT_ASSERT(!g && err.msg[0] && err.code);
        return 0;
    }
    for (size_t i = 0; i < bt_gguf_n_keys(g); i++) use_key(g, bt_gguf_key_at(g, i), &sum);
    for (size_t i = 0; i < bt_gguf_n_tensors(g); i++) {
        const bt_gguf_tensor *t = bt_gguf_tensor_at(g, i);
        BT_ASSERT((const uint8_t *)t->data >= data &&
                  (const uint8_t *)t->data + t->bytes <= data + size);
        BT_ASSERT(t->bytes == bt_format_bytes(t->format, (size_t)(t->dim[0] * t->dim[1] *
                                                                  t->dim[2] * t->dim[3])));
        sum_string(&sum, 0, (bt_str){t->data, t->bytes});
    }
    bt_gguf_close(g);
    sink = sum;
    return 0;
}
