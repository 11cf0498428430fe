/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - JSON in tests: from a text to a tree and back. */
#pragma once
#include "base/json.h"
#include "test.h"

/* Lives until the program ends; NULL stays NULL. Thread: one at a time. */
static inline const bt_json *json(const char *text)
{
    static bt_arena arena = {.max_bytes = 64 << 20};
    const bt_json *v = NULL;
    if (text) REQUIRE(bt_json_parse(text, strlen(text), &arena, &v, NULL) == BT_OK);
    return v;
}

/* Owned by the caller (bt_free). */
static inline char *json_text(const bt_json *v)
{
    bt_buf b = BT_BUF_INIT;
    bt_jw w = bt_jw_on(&b);
    bt_jw_value(&w, v);
    REQUIRE(!b.failed);
    return b.data;
}
