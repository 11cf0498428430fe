/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_json_read.c - any bytes as JSON: walked value by value, skipped whole and given as a span
 * and as a tree, the pull reader says the same; what is taken of a body is taken of a file too. */
#include "base/assert.h"
#include "base/json.h"
#include "base/json_read.h"
#include "base/utf8.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(bt_json_reader *r)
{
    const char *s;
    size_t n;
    bool b;
    switch (bt_json_peek(r)) {
    case BT_JSON_OBJECT:
        if (!bt_json_enter(r, '{')) return;
        while (bt_json_next_key(r, &s, &n)) {
            BT_ASSERT(bt_utf8_valid_prefix(s, n) == n);
            walk(r);
        }
        break;
    case BT_JSON_ARRAY:
        if (!bt_json_enter(r, '[')) return;
        while (bt_json_next_item(r)) walk(r);
        break;
    case BT_JSON_STRING:
        if (bt_json_read_string(r, &s, &n)) BT_ASSERT(bt_utf8_valid_prefix(s, n) == n);
        break;
    case BT_JSON_NUMBER: bt_json_read_number(r, &s, &n); break;
    case BT_JSON_BOOL: bt_json_read_bool(r, &b); break;
    case BT_JSON_NULL: bt_json_read_null(r); break;
    case BT_JSON_END: break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bt_json_reader r;
    const char *s, *text = (const char *)data + 1;
    size_t n, at;
    if (size == 0) return 0;
    int flags = data[0] & BT_JSON_PYTHON;
    size--;
    bt_json_reader_init(&r, text, size, flags);
    walk(&r);
    bool walked = bt_json_done(&r);
    bt_json_reader_release(&r);
    bt_json_reader_init(&r, text, size, flags);
    bool skipped = bt_json_skip(&r) && bt_json_done(&r);
    const char *why = bt_json_reader_why(&r, &at);
    BT_ASSERT(skipped == (why == NULL) && at <= size + 6);
    bt_json_reader_release(&r);
    bt_json_reader_init(&r, text, size, flags);
    bool spanned = bt_json_span(&r, &s, &n) && bt_json_done(&r);
    bt_json_reader_release(&r);
    BT_ASSERT(spanned == skipped);
    BT_ASSERT(walked == skipped || skipped); // a number may have too many digits for a double
    const bt_json *tree;
    bt_arena arena;
    bt_arena_init(&arena, bt_json_room(size));
    if (bt_json_parse(text, size, &arena, &tree, NULL) == BT_OK) BT_ASSERT(skipped);
    bt_arena_release(&arena);
    bt_arena_init(&arena, bt_json_room(size));
    bt_json_reader_init(&r, text, size, flags);
    bool built = bt_json_build(&r, &arena, SIZE_MAX, NULL) && bt_json_done(&r);
    BT_ASSERT(built == skipped && !r.no_memory);
    bt_json_reader_release(&r);
    bt_arena_release(&arena);
    return 0;
}
