/* SPDX-License-Identifier: Apache-2.0 */
/* buf.h - a growable byte buffer with a bound, in the manner of git's strbuf.
 *
 * A failed append (out of memory, or past max_bytes) sets `failed` and leaves the content as it
 * was, so a writer may append freely and check once at the end. data is NUL-terminated whenever not
 * NULL. Thread: the owner's. */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct bt_buf {
    char *data; // owned; NULL while nothing was appended
    size_t len, cap;
    size_t max_bytes; // 0 = BT_BUF_MAX_DEFAULT
    bool failed;
} bt_buf;

enum { BT_BUF_MAX_DEFAULT = 64 << 20 };
#define BT_BUF_INIT                                                                                \
    {                                                                                              \
        0                                                                                          \
    }

void bt_buf_release(bt_buf *b); // frees and makes it empty again
void bt_buf_clear(bt_buf *b);   // empty, memory kept, failed reset
bool bt_buf_reserve(bt_buf *b, size_t extra);
void bt_buf_add(bt_buf *b, const void *data, size_t len);
void bt_buf_adds(bt_buf *b, const char *s);
void bt_buf_addc(bt_buf *b, char c);
void bt_buf_addf(bt_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void bt_buf_drop(bt_buf *b, size_t n); // removes the first n bytes
