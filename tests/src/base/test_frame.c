/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/frame.h"
#include "test.h"
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static void pair(int fd[2])
{
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
    fcntl(fd[0], F_SETFL, O_NONBLOCK);
    fcntl(fd[1], F_SETFL, O_NONBLOCK);
}

static void put_sample(bt_buf *b)
{
    size_t mark = bt_frame_begin(b, 7);
    bt_put_u8(b, 200);
    bt_put_i32(b, -5);
    bt_put_u64(b, UINT64_MAX);
    bt_put_f32(b, 1.5f);
    bt_put_bytes(b, "hello", 5);
    bt_frame_end(b, mark);
}

static void check_sample(bt_frame *f)
{
    size_t n;
    CHECK_INT(f->type, 7);
    CHECK_INT(bt_get_u8(&f->rd), 200);
    CHECK_INT(bt_get_i32(&f->rd), -5);
    CHECK(bt_get_u64(&f->rd) == UINT64_MAX);
    CHECK_NEAR(bt_get_f32(&f->rd), 1.5, 0);
    const char *s = bt_get_bytes(&f->rd, 5, &n);
    CHECK(n == 5 && memcmp(s, "hello", 5) == 0);
    CHECK(f->rd.ok && f->rd.at == f->rd.end);
    CHECK_INT(bt_get_u32(&f->rd), 0); // past the end
    CHECK(!f->rd.ok);
}

static void frames_cross_in_any_pieces(void)
{
    int fd[2];
    bt_buf out = BT_BUF_INIT;
    bt_err err = {0};
    pair(fd);
    put_sample(&out);
    put_sample(&out);
    for (size_t piece = 1; piece < out.len; piece += 3) {
        bt_frame_reader r = {0};
        bt_frame f;
        int seen = 0;
        for (size_t at = 0; at < out.len; at += piece) {
            size_t n = out.len - at < piece ? out.len - at : piece;
            REQUIRE(write(fd[0], out.data + at, n) == (ssize_t)n);
            REQUIRE(bt_frame_reader_fill(&r, fd[1], &err) == BT_OK);
            int got;
            while ((got = bt_frame_reader_next(&r, &f, &err)) == 1) {
                check_sample(&f);
                seen++;
            }
            CHECK_INT(got, 0);
        }
        CHECK_INT(seen, 2);
        bt_frame_reader_release(&r);
    }
    bt_buf_release(&out);
    close(fd[0]);
    close(fd[1]);
}

static void broken_streams_are_refused(void)
{
    int fd[2];
    bt_err err = {0};
    bt_frame f;
    unsigned char bad_version[8] = {0, 0, 0, 0, 1, 0, 9, 0},
                  too_long[8] = {255, 255, 255, 255, 1, 0, 1, 0};
    for (int i = 0; i < 2; i++) {
        bt_frame_reader r = {0};
        pair(fd);
        REQUIRE(write(fd[0], i ? too_long : bad_version, 8) == 8);
        REQUIRE(bt_frame_reader_fill(&r, fd[1], &err) == BT_OK);
        CHECK(bt_frame_reader_next(&r, &f, &err) < 0);
        CHECK(strstr(err.msg, i ? "limit" : "version") != NULL);
        bt_frame_reader_release(&r);
        CHECK_INT(bt_frame_reader_fill(&r, fd[1], &err), BT_ETIMEOUT);
        close(fd[0]);
        CHECK_INT(bt_frame_reader_fill(&r, fd[1], &err), BT_ECLOSED);
        bt_frame_reader_release(&r);
        close(fd[1]);
    }
}

static void a_peer_that_does_not_read_times_out(void)
{
    int fd[2];
    bt_buf out = BT_BUF_INIT;
    bt_err err = {0};
    static char big[1 << 20];
    pair(fd);
    for (int i = 0; i < 8; i++) bt_buf_add(&out, big, sizeof big);
    int64_t start = bt_now_ns();
    CHECK_INT(bt_frame_flush(&out, fd[0], start + 50000000, &err), BT_ETIMEOUT);
    CHECK(bt_now_ns() - start < 2000000000);
    close(fd[1]);
    bt_put_u32(&out, 1);
    CHECK_INT(bt_frame_flush(&out, fd[0], bt_now_ns() + 50000000, &err), BT_ECLOSED);
    bt_buf_release(&out);
    close(fd[0]);
}

static void counts_are_checked_against_what_is_there(void)
{
    uint8_t bytes[16] = {0};
    bt_rd r = {bytes, bytes + 16, true};
    CHECK(bt_get_fits(&r, 4, 4));
    CHECK(!bt_get_fits(&r, 5, 4));
    bt_rd s = {bytes, bytes + 16, true};
    CHECK(!bt_get_fits(&s, UINT64_MAX, 8));
    uint8_t lying[4] = {255, 255, 255, 127};
    bt_rd t = {lying, lying + 4, true};
    size_t n = 1;
    bt_get_bytes(&t, 1u << 31, &n);
    CHECK(!t.ok && n == 0);
}

int main(void)
{
    RUN(frames_cross_in_any_pieces);
    RUN(broken_streams_are_refused);
    RUN(a_peer_that_does_not_read_times_out);
    RUN(counts_are_checked_against_what_is_there);
    return TEST_END();
}
