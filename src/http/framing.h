/* SPDX-License-Identifier: Apache-2.0 */
/* framing.h - where a request ends and the next begins (RFC 9112), judged before libmicrohttpd
 * sees it. Private to src/http.
 *
 * Two readers who disagree on that can be made to answer one client with another's request. What
 * leaves room for two readings is refused, and so is a head that is not HTTP. A head that passes
 * has one reading, libmicrohttpd's. Pure: no sockets, no clock. Thread: the owner's. */
#pragma once
#include "baton/status.h"
#include "base/buf.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum bt_framing_place {
    BT_FRAMING_START,     // before a request line
    BT_FRAMING_FIELD,     // before a header line
    BT_FRAMING_BODY,      // in a body of known length
    BT_FRAMING_CHUNK,     // before a chunk's size
    BT_FRAMING_DATA,      // in a chunk
    BT_FRAMING_CHUNK_END, // before the line end after a chunk
    BT_FRAMING_TRAILER,   // before a line after the last chunk
    BT_FRAMING_OFF,       // nothing after this request is one
} bt_framing_place;

/* Zero-initialise. */
typedef struct bt_framing {
    char target[128]; // of the request at hand, cut short, without its query; "" before it is known
    bt_status status; // BT_OK, or what the request at hand is refused with
    const char *why;  // static: the sentence for it
    int32_t ahead;    // requests that ended in the bytes given last
    /* the rest is framing.c's */
    bt_framing_place place;
    bt_buf line;         // owned: the beginning of a line whose end has not come
    uint64_t left;       // bytes of the body or chunk to come
    int32_t hosts;       // Host lines of this head
    bool old, keep;      // HTTP/1.0; Connection: keep-alive
    bool close, chunked; // Connection: close; Transfer-Encoding: chunked
    bool sized;          // Content-Length
} bt_framing;

/* Takes the next bytes of a connection; lines longer than `line_max` are left to libmicrohttpd,
 * which refuses them. Returns how many of them it may have: all, or, where a request is refused,
 * those of the whole requests before it. */
size_t bt__framing_take(bt_framing *f, const char *data, size_t n, size_t line_max);
/* Whether a request has begun whose end has not come. */
bool bt__framing_midway(const bt_framing *f);
void bt__framing_release(bt_framing *f);
