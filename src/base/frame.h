/* SPDX-License-Identifier: Apache-2.0 */
/* frame.h - length-prefixed, versioned, bounded frames over a stream socket, and cursors for their
 * payload.
 *
 *   u32 payload bytes | u16 type | u16 version | payload          (host byte order: one machine)
 *
 * A reader that meets a wrong version or a payload over its bound says so and never resyncs: the
 * peer is ended. Thread: the owner's; one thread writes and one may read the same socket. */
#pragma once
#include "baton/status.h"
#include "base/buf.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BT_FRAME_VERSION = 1, BT_FRAME_HEADER = 8, BT_FRAME_MAX = 16 << 20 };

/* Write cursor: appends to a bt_buf (check buf->failed at the end). Start a frame, put fields, end
 * it. */
size_t bt_frame_begin(bt_buf *b, uint16_t type); // returns the mark for bt_frame_end
void bt_frame_end(bt_buf *b, size_t mark);
void bt_put_u8(bt_buf *b, uint8_t v);
void bt_put_u32(bt_buf *b, uint32_t v);
void bt_put_i32(bt_buf *b, int32_t v);
void bt_put_u64(bt_buf *b, uint64_t v);
void bt_put_i64(bt_buf *b, int64_t v);
void bt_put_f32(bt_buf *b, float v);
void bt_put_bytes(bt_buf *b, const void *data, size_t len); // u32 length, then the bytes

/* Read cursor over one payload. A read past the end gives zeros and clears ok; check ok once. */
typedef struct bt_rd {
    const uint8_t *at, *end;
    bool ok;
} bt_rd;
uint8_t bt_get_u8(bt_rd *r);
uint32_t bt_get_u32(bt_rd *r);
int32_t bt_get_i32(bt_rd *r);
uint64_t bt_get_u64(bt_rd *r);
int64_t bt_get_i64(bt_rd *r);
float bt_get_f32(bt_rd *r);
/* Points into the payload; *len <= max or ok is cleared. */
const void *bt_get_bytes(bt_rd *r, size_t max, size_t *len);
/* count items of item_bytes follow: checks that they fit before anyone allocates for them. */
bool bt_get_fits(bt_rd *r, uint64_t count, size_t item_bytes);

typedef struct bt_frame {
    uint16_t type;
    bt_rd rd; // valid until the next bt_frame_reader_next()
} bt_frame;

typedef struct bt_frame_reader {
    bt_buf buf; // bytes received and not yet consumed
    size_t at;
} bt_frame_reader;

void bt_frame_reader_release(bt_frame_reader *r);
/* Reads what the socket has, once. BT_ECLOSED at end of stream, BT_ETIMEOUT if nothing is there
 * (non-blocking socket), BT_EIO. */
bt_status bt_frame_reader_fill(bt_frame_reader *r, int fd, bt_err *err);
/* 1: a frame; 0: need more bytes; negative: the stream is broken. */
int bt_frame_reader_next(bt_frame_reader *r, bt_frame *out, bt_err *err);
/* Writes all of b, waiting for the socket at most until deadline_ns, then clears b. */
bt_status bt_frame_flush(bt_buf *b, int fd, int64_t deadline_ns, bt_err *err);

/* Test hook: the n-th read or write of frames from now on fails as if the peer had broken, once (0
 * = off). */
void bt_frame_fail_at(long n);
