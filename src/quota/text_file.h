/* SPDX-License-Identifier: Apache-2.0 */
/* text_file.h - reads a small configuration file whole, with a bound. Thread: any. */
#pragma once
#include "baton/status.h"
#include "base/buf.h"

/* Appends the file's bytes to b. *mode (may be NULL) = its permission bits. ENOTFOUND, EIO, ETOOBIG
 * or ENOMEM; what: what the file is for ("API-key file"), for the sentence. */
bt_status bt_text_file_read(const char *path, const char *what, size_t max_bytes, bt_buf *b,
                            unsigned *mode, bt_err *err);
