/* SPDX-License-Identifier: Apache-2.0 */
/* not_gguf.h - what people give where a GGUF file is wanted, and what to do about it. */
#pragma once
#include "baton/status.h"
#include <stddef.h>

/* Each sets a sentence and returns its code; label: the path, short enough for a sentence. */

/* A path that open() refused with `why` (errno). */
bt_status bt_not_gguf_path(const char *path, const char *label, int why, bt_err *err);
/* A file that does not begin with "GGUF". */
bt_status bt_not_gguf_file(const char *label, const void *bytes, size_t n, bt_err *err);
