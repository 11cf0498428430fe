/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>

void bt_buf_release(bt_buf *b)
{
    bt_free(b->data);
    b->data = NULL;
    b->len = b->cap = 0;
    b->failed = false;
}

void bt_buf_clear(bt_buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data) b->data[0] = 0;
}

bool bt_buf_reserve(bt_buf *b, size_t extra)
{
    size_t max = b->max_bytes ? b->max_bytes : BT_BUF_MAX_DEFAULT;
    if (b->failed || extra > max || b->len > max - extra) {
        b->failed = true;
        return false;
    }
    size_t need = b->len + extra + 1;
    if (need <= b->cap) return true;
    size_t cap = b->cap ? b->cap * 2 : 256;
    while (cap < need) cap *= 2;
    if (cap > max) cap = max + 1; // no more than it may ever hold
    char *data = bt_realloc(b->data, cap);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    return true;
}

void bt_buf_add(bt_buf *b, const void *data, size_t len)
{
    if (!bt_buf_reserve(b, len)) return;
    if (len) memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = 0;
}

void bt_buf_adds(bt_buf *b, const char *s)
{
    bt_buf_add(b, s, strlen(s));
}
void bt_buf_addc(bt_buf *b, char c)
{
    bt_buf_add(b, &c, 1);
}

void bt_buf_addf(bt_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) b->failed = true;
    if (n >= 0 && bt_buf_reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void bt_buf_drop(bt_buf *b, size_t n)
{
    if (n > b->len) n = b->len;
    if (!n) return;
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
    b->data[b->len] = 0;
}
