/* SPDX-License-Identifier: Apache-2.0 */
/* whole.h - a small file read into memory. */
#pragma once
#include "baton/status.h"
#include <stddef.h>

/* *out: bt_free; one NUL behind the bytes, not counted. BT_ENOTFOUND, BT_EIO, BT_ETOOBIG past max,
 * BT_EFORMAT for what is no plain file. */
bt_status bt_file_read(const char *path, size_t max, char **out, size_t *n, bt_err *err);
/* What the bytes are by its first bytes: "a Git LFS pointer, ..."; NULL if nothing known. */
const char *bt_file_known(const char *data, size_t n);
