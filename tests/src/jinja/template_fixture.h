/* SPDX-License-Identifier: Apache-2.0 */
/* template_fixture.h - reads tests/data/templates and renders its rows. */
#pragma once
#include "base/mem.h"
#include "jinja/jinja.h"
#include "json.h"

#define TEMPLATE_DATA BATON_SOURCE_DIR "/tests/data/templates/"

/* 2024-07-26 15:04:05, the moment of the golden rows. */
#define GOLDEN_NOW_US INT64_C(1722006245000000)

/* Owned by the caller (free). */
static char *read_all(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    REQUIRE(f);
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    REQUIRE(n >= 0);
    rewind(f);
    char *text = malloc((size_t)n + 1);
    REQUIRE(text && fread(text, 1, (size_t)n, f) == (size_t)n);
    fclose(f);
    text[n] = 0;
    *len = (size_t)n;
    return text;
}

/* Its root, which lies in the arena. */
static inline const bt_json *read_json(const char *path, bt_arena *arena)
{
    size_t len;
    const bt_json *root;
    char *text = read_all(path, &len);
    bt_arena_init(arena, bt_json_room(len));
    REQUIRE(bt_json_parse(text, len, arena, &root, NULL) == BT_OK);
    free(text);
    return root;
}

static inline const char *text_of(const bt_json *obj, const char *key)
{
    const bt_json *item = bt_json_find(obj, key);
    return bt_json_is(item, BT_JSON_STRING) ? item->text : NULL;
}

static inline bool is_true(const bt_json *obj, const char *key)
{
    const bt_json *item = bt_json_find(obj, key);
    return bt_json_is(item, BT_JSON_BOOL) && item->n;
}

/* Calls row() for each line of a file of JSON lines. */
static inline int each_line(const char *path, void (*row)(const bt_json *item, void *ud), void *ud)
{
    size_t len;
    int n = 0;
    char *text = read_all(path, &len);
    for (char *line = text; line < text + len; n++) {
        char *end = strchr(line, '\n');
        size_t size = end ? (size_t)(end - line) : strlen(line);
        bt_arena arena;
        const bt_json *item;
        bt_arena_init(&arena, bt_json_room(size));
        REQUIRE(bt_json_parse(line, size, &arena, &item, NULL) == BT_OK);
        row(item, ud);
        bt_arena_release(&arena);
        line += size + 1;
    }
    free(text);
    return n;
}
