/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_safetensors.c - any bytes as a file: refused with a sentence, or open, and its tensors are
 * the whole of its data. */
#include "base/assert.h"
#include "file/safetensors.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned sink; // what is read must not be optimized away

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bt_safetensors *s = NULL;
    bt_err err = {0};
    uint64_t header, sum = 0;
    if (bt_safetensors_open_memory(data, size, "fuzz", &s, &err) != BT_OK) {
        BT_ASSERT(!s && err.msg[0] && err.code);
        return 0;
    }
    memcpy(&header, data, sizeof header);
    for (size_t i = 0; i < bt_safetensors_n_tensors(s); i++) {
        const bt_file_tensor *t = bt_safetensors_at(s, i);
        char name[BT_FILE_NAME_MAX + 1];
        BT_ASSERT(t->name.n <= BT_FILE_NAME_MAX);
        memcpy(name, t->name.s, t->name.n);
        name[t->name.n] = 0;
        BT_ASSERT(bt_safetensors_find(s, name) == t);
        BT_ASSERT((const uint8_t *)t->data >= data + 8 + header &&
                  (const uint8_t *)t->data + t->bytes <= data + size);
        BT_ASSERT(t->bytes == 0 ||
                  t->bytes == bt_format_bytes(t->format, (size_t)(t->dim[0] * t->dim[1] *
                                                                  t->dim[2] * t->dim[3])));
        sum += t->bytes;
        for (size_t k = 0; k < t->bytes; k++) sink += ((const uint8_t *)t->data)[k];
    }
    BT_ASSERT(sum == size - 8 - header);
    bt_safetensors_close(s);
    return 0;
}
