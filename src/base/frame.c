/* SPDX-License-Identifier: Apache-2.0 */
#include "base/frame.h"
#include "base/clock.h"
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static atomic_long fail_countdown;

void bt_frame_fail_at(long n)
{
    atomic_store(&fail_countdown, n);
}

static bool frame_must_fail(void)
{
    return atomic_load_explicit(&fail_countdown, memory_order_relaxed) > 0 &&
           atomic_fetch_sub(&fail_countdown, 1) == 1;
}

size_t bt_frame_begin(bt_buf *b, uint16_t type)
{
    size_t mark = b->len;
    uint16_t version = BT_FRAME_VERSION;
    bt_put_u32(b, 0);
    bt_buf_add(b, &type, sizeof type);
    bt_buf_add(b, &version, sizeof version);
    return mark;
}

void bt_frame_end(bt_buf *b, size_t mark)
{
    if (b->failed) return;
    uint32_t bytes = (uint32_t)(b->len - mark - BT_FRAME_HEADER);
    memcpy(b->data + mark, &bytes, sizeof bytes);
}

#define PUT(name, type)                                                                            \
    void bt_put_##name(bt_buf *b, type v)                                                          \
    {                                                                                              \
        bt_buf_add(b, &v, sizeof v);                                                               \
    }                                                                                              \
    type bt_get_##name(bt_rd *r)                                                                   \
    {                                                                                              \
        type v = 0;                                                                                \
        if ((size_t)(r->end - r->at) < sizeof v) {                                                 \
            r->ok = false;                                                                         \
            r->at = r->end;                                                                        \
            return 0;                                                                              \
        }                                                                                          \
        memcpy(&v, r->at, sizeof v);                                                               \
        r->at += sizeof v;                                                                         \
        return v;                                                                                  \
    }
PUT(u8, uint8_t)
PUT(u32, uint32_t)
PUT(i32, int32_t)
PUT(u64, uint64_t)
PUT(i64, int64_t)
PUT(f32, float)
#undef PUT

void bt_put_bytes(bt_buf *b, const void *data, size_t len)
{
    bt_put_u32(b, (uint32_t)len);
    bt_buf_add(b, data, len);
}

const void *bt_get_bytes(bt_rd *r, size_t max, size_t *len)
{
    uint32_t n = bt_get_u32(r);
    *len = 0;
    if (!r->ok || n > max || n > (size_t)(r->end - r->at)) {
        r->ok = false;
        return r->at;
    }
    const void *p = r->at;
    r->at += n;
    *len = n;
    return p;
}

bool bt_get_fits(bt_rd *r, uint64_t count, size_t item_bytes)
{
    if (count > (uint64_t)(r->end - r->at) / item_bytes) r->ok = false;
    return r->ok;
}

void bt_frame_reader_release(bt_frame_reader *r)
{
    bt_buf_release(&r->buf);
    r->at = 0;
}

bt_status bt_frame_reader_fill(bt_frame_reader *r, int fd, bt_err *err)
{
    enum { CHUNK = 64 << 10 };
    if (frame_must_fail()) return bt_err_set(err, BT_EIO, 0, "a frame cannot be read (planned)");
    bt_buf_drop(&r->buf, r->at);
    r->at = 0;
    r->buf.max_bytes = BT_FRAME_MAX + BT_FRAME_HEADER + CHUNK;
    if (!bt_buf_reserve(&r->buf, CHUNK))
        return bt_err_set(err, BT_ENOMEM, 0, "out of memory for a frame");
    ssize_t n;
    do n = read(fd, r->buf.data + r->buf.len, CHUNK);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return BT_ETIMEOUT;
    if (n < 0) return bt_err_set(err, BT_EIO, errno, "cannot read a frame: %s", strerror(errno));
    if (n == 0) return bt_err_set(err, BT_ECLOSED, 0, "the peer closed the connection");
    r->buf.len += (size_t)n;
    return BT_OK;
}

int bt_frame_reader_next(bt_frame_reader *r, bt_frame *out, bt_err *err)
{
    size_t have = r->buf.len - r->at;
    if (have < BT_FRAME_HEADER) return 0;
    const char *p = r->buf.data + r->at;
    uint32_t bytes;
    uint16_t version;
    memcpy(&bytes, p, 4);
    memcpy(&out->type, p + 4, 2);
    memcpy(&version, p + 6, 2);
    if (version != BT_FRAME_VERSION)
        return bt_err_set(err, BT_EIO, version, "the peer speaks frame version %d, not %d", version,
                          BT_FRAME_VERSION);
    if (bytes > BT_FRAME_MAX)
        return bt_err_set(err, BT_EIO, 0, "a frame of %u bytes is over the limit of %d", bytes,
                          BT_FRAME_MAX);
    if (have < BT_FRAME_HEADER + bytes) return 0;
    out->rd.at = (const uint8_t *)p + BT_FRAME_HEADER;
    out->rd.end = out->rd.at + bytes;
    out->rd.ok = true;
    r->at += BT_FRAME_HEADER + bytes;
    return 1;
}

bt_status bt_frame_flush(bt_buf *b, int fd, int64_t deadline_ns, bt_err *err)
{
    if (b->failed || frame_must_fail()) {
        bt_status st = b->failed ? BT_ENOMEM : BT_EIO;
        bt_buf_clear(b);
        return bt_err_set(err, st, 0, "a frame cannot be written");
    }
    size_t at = 0;
    while (at < b->len) {
        ssize_t n = send(fd, b->data + at, b->len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            at += (size_t)n;
            continue;
        }
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
            bt_buf_clear(b);
            return bt_err_set(err, BT_ECLOSED, errno, "cannot write a frame: %s", strerror(errno));
        }
        int64_t left_ms = (deadline_ns - bt_now_ns()) / 1000000;
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        if (left_ms <= 0 || poll(&p, 1, (int)left_ms) == 0) {
            bt_buf_clear(b);
            return bt_err_set(err, BT_ETIMEOUT, 0, "the peer does not read its frames");
        }
    }
    bt_buf_clear(b);
    return BT_OK;
}
