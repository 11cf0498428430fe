/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes: either refused with a sentence, or what was read is written, parsed and written again
 * without a difference. */
#include "base/assert.h"
#include "base/json.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool rewrite(const char *text, size_t n, bt_buf *out)
{
    const bt_json *root;
    bt_arena arena;
    bt_err err = {0};
    bt_jw w = bt_jw_on(out);
    bt_arena_init(&arena, bt_json_room(n));
    bt_status st = bt_json_parse(text, n, &arena, &root, &err);
    if (st == BT_OK) bt_jw_value(&w, root);
    BT_ASSERT(st == BT_OK || err.msg[0]);
    bt_arena_release(&arena);
    return st == BT_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bt_buf once = BT_BUF_INIT, twice = BT_BUF_INIT;
    if (rewrite((const char *)data, size, &once)) {
        BT_ASSERT(rewrite(once.data, once.len, &twice));
        BT_ASSERT(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
    }
    bt_buf_release(&once);
    bt_buf_release(&twice);
    return 0;
}
