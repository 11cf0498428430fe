/* SPDX-License-Identifier: Apache-2.0 */
/* tensor.h - a tensor of a model's file, and names from files, whatever the container. */
#pragma once
#include "baton/format.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bt_str {
    const char *s; // not NUL-terminated
    size_t n;
} bt_str;

/* A string of a file as a sentence or a log may show it: printable ASCII, at most 64 bytes. */
typedef struct bt_shown {
    char s[68];
} bt_shown;
bt_shown bt_str_shown(bt_str s);
bool bt_str_equals(bt_str s, const char *text);

typedef struct bt_file_tensor {
    bt_str name;
    int32_t format; // bt_format id known to BT_FORMAT_MAP
    int32_t n_dims;
    int64_t dim[4];   // dim[0] fastest (columns); unused are 1
    const void *data; // borrowed: in the mapped file, not aligned
    size_t bytes;
} bt_file_tensor;

enum { BT_FILE_NAME_MAX = 255 };
/* Names come from a stranger and end up in sentences and logs: 1 to max bytes, none of them a control
 * character. */
bool bt_name_is_clean(bt_str s, size_t max);
