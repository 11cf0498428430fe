/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_safetensors_index.c - any bytes as an index: refused with a sentence, or names of files that
 * lie beside it. */
#include "base/assert.h"
#include "file/safetensors_index.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bt_safetensors_index x = {0};
    bt_err err = {0};
    if (bt_safetensors_index_read((const char *)data, size, "fuzz", &x, &err) != BT_OK) {
        BT_ASSERT(!x.entry && err.msg[0] && err.code);
        return 0;
    }
    BT_ASSERT(x.n_entries > 0 && x.n_parts > 0);
    for (size_t i = 0; i < x.n_entries; i++) {
        BT_ASSERT(x.entry[i].part < x.n_parts);
        BT_ASSERT(bt_name_is_clean(x.entry[i].name, BT_FILE_NAME_MAX));
    }
    for (size_t i = 0; i < x.n_parts; i++) {
        BT_ASSERT(x.part[i][0] && x.part[i][0] != '.' && !strchr(x.part[i], '/'));
        BT_ASSERT(bt_refuse_pickle(x.part[i], NULL) == BT_OK);
    }
    bt_safetensors_index_release(&x);
    return 0;
}
