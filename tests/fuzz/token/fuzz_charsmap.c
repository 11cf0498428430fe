/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_charsmap.c - any bytes as a character map, applied to any text by both rules; what comes out
 * stays UTF-8.
 *
 * Input: one byte n, n bytes of text, the map. */
#include "base/assert.h"
#include "base/utf8.h"
#include "token/charsmap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || data[0] >= size) return 0;
    const char *text = (const char *)data + 1;
    size_t n = bt_utf8_valid_prefix(text, data[0]);
    bt_charsmap *c = NULL;
    bt_err err = {0};
    if (bt_charsmap_open(data + 1 + data[0], size - 1 - data[0], &c, &err) != BT_OK) {
        BT_ASSERT(c == NULL && err.msg[0]);
        return 0;
    }
    for (int rule = 0; rule < 2; rule++) {
        bt_buf out = {.max_bytes = 1 << 20};
        bt_charsmap_apply(c, rule ? BT_CHARSMAP_LONGEST : BT_CHARSMAP_CLUSTERS, text, n, &out);
        BT_ASSERT(out.len == 0 || bt_utf8_valid_prefix(out.data, out.len) == out.len);
        bt_buf_release(&out);
    }
    bt_charsmap_close(c);
    return 0;
}
