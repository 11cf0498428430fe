/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_decode_chain.c - any steps over any tokens: what comes is whole characters within the room,
 * without allocation, and a stream used again says the same.
 *
 * Input: number of steps; for each a kind and flags, then two strings (length, bytes), two counts;
 * then tokens (length, bytes). */
#include "base/assert.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "vocab/decode_chain.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEPS = 5, TOKEN_MAX = 31 };

typedef struct input {
    const uint8_t *s;
    size_t n;
} input;

static uint8_t next(input *in)
{
    if (in->n == 0) return 0;
    in->n--;
    return *in->s++;
}

static bt_str next_string(input *in, size_t max)
{
    size_t n = next(in) % (max + 1);
    n = BT_MIN(n, in->n);
    bt_str s = {(const char *)in->s, n};
    in->s += n;
    in->n -= n;
    return s;
}

static void stream(const bt_decode_chain *c, bt_decode_stream *s, input in, char *dst, bt_buf *out)
{
    size_t room = bt_decode_chain_room(c), got;
    while (in.n > 0) {
        bt_str token = next_string(&in, TOKEN_MAX);
        bt_mem_guard_begin();
        got = bt_decode_stream_put(s, token.s, token.n, dst);
        bt_mem_guard_end();
        BT_ASSERT(got <= room && bt_utf8_valid_prefix(dst, got) == got);
        bt_buf_add(out, dst, got);
    }
    got = bt_decode_stream_finish(s, dst);
    BT_ASSERT(got <= room && bt_utf8_valid_prefix(dst, got) == got);
    bt_buf_add(out, dst, got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bt_chain_step step[STEPS];
    input in = {data, size};
    size_t n = next(&in) % (STEPS + 1);
    for (size_t i = 0; i < n; i++) {
        uint8_t kind = next(&in);
        step[i] =
            (bt_chain_step){.kind = (bt_chain_kind)(kind % (BT_CHAIN_JOIN + 1)), .flag = kind & 64};
        step[i].pattern = next_string(&in, 8);
        step[i].content = next_string(&in, 8);
        step[i].start = next(&in) % 4;
        step[i].stop = next(&in) % 4;
    }
    bt_decode_chain *c;
    bt_decode_stream *s;
    bt_err err = {0};
    if (bt_decode_chain_open(step, n, TOKEN_MAX, &c, &err) != BT_OK) {
        BT_ASSERT(err.msg[0]);
        return 0;
    }
    bt_buf one = BT_BUF_INIT, two = BT_BUF_INIT;
    char *dst = bt_malloc(bt_decode_chain_room(c));
    BT_ASSERT(dst && bt_decode_stream_open(c, true, &s, NULL) == BT_OK);
    stream(c, s, in, dst, &one);
    bt_decode_stream_reset(s, true);
    stream(c, s, in, dst, &two);
    BT_ASSERT(one.len == two.len && (one.len == 0 || memcmp(one.data, two.data, one.len) == 0));
    bt_decode_stream_close(s);
    bt_decode_chain_close(c);
    bt_free(dst);
    bt_buf_release(&one);
    bt_buf_release(&two);
    return 0;
}
