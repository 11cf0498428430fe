/* SPDX-License-Identifier: Apache-2.0 */
/* whole.h - a small file read into memory. */
#pragma once
#include "baton/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* *out: bt_free; one NUL behind the bytes, not counted. BT_ENOTFOUND, BT_EIO, BT_ETOOBIG past max,
 * BT_EFORMAT for what is no plain file. */
bt_status bt_file_read(const char *path, size_t max, char **out, size_t *n, bt_err *err);
/* Maps all of fd for reading from front to back, and closes fd. An empty file has no map: *base stays
 * NULL. munmap() it. BT_EFORMAT for what is no regular file, BT_EIO. */
bt_status bt_file_map(int fd, const char *label, const uint8_t **base, size_t *n, bt_err *err);
/* Whether a file's name has that end (".gguf"), in whatever case. */
bool bt_file_ends_with(const char *name, const char *end);
/* What the bytes are by its first bytes: "a Git LFS pointer, ..."; NULL if nothing known. */
const char *bt_file_known(const char *data, size_t n);
