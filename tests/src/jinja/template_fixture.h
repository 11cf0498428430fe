/* SPDX-License-Identifier: Apache-2.0 */
/* template_fixture.h - reads tests/data/templates and renders its rows. */
#pragma once
#include "base/json.h"
#include "base/mem.h"
#include "jinja/jinja.h"
#include "test.h"

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

static inline cJSON *read_json(const char *path)
{
    size_t len;
    char *text = read_all(path, &len);
    cJSON *root = cJSON_ParseWithLength(text, len);
    REQUIRE(root);
    free(text);
    return root;
}

static inline const char *text_of(const cJSON *obj, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(obj, key);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

/* Calls row() for each line of a file of JSON lines. */
static inline int each_line(const char *path, void (*row)(const cJSON *item, void *ud), void *ud)
{
    size_t len;
    int n = 0;
    char *text = read_all(path, &len);
    for (char *line = text; line < text + len; n++) {
        char *end = strchr(line, '\n');
        size_t size = end ? (size_t)(end - line) : strlen(line);
        cJSON *item = cJSON_ParseWithLength(line, size);
        REQUIRE(item);
        row(item, ud);
        cJSON_Delete(item);
        line += size + 1;
    }
    free(text);
    return n;
}
