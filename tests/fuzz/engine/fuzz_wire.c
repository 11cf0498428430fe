/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_wire.c - a stream of bytes as each side of the engine's socket would read it: frames, then
 * their payloads. What decodes is encoded again and must decode to the same bytes. */
#include "base/assert.h"
#include "engine/wire.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same_again(const bt_buf *b, const uint8_t *payload, size_t n, bool exact)
{
    if (b->failed) return;
    BT_ASSERT(b->len >= BT_FRAME_HEADER);
    if (!exact) return;
    BT_ASSERT(b->len - BT_FRAME_HEADER == n);
    BT_ASSERT(memcmp(b->data + BT_FRAME_HEADER, payload, n) == 0);
}

static void one_frame(uint16_t type, bt_rd rd)
{
    static bt_wire_storage storage;
    static bt_wire_tokens tokens;
    const uint8_t *at = rd.at;
    size_t n = (size_t)(rd.end - rd.at);
    bt_arena arena;
    bt_buf b = BT_BUF_INIT;
    bt_err err;
    bt_arena_init(&arena, 4 << 20);
    if (type == BT_WIRE_OPTIONS) {
        bt_engine_options opt;
        if (bt_wire_get_options(&rd, &arena, &opt, &err)) goto done;
        bt_wire_put_options(&b, &opt);
        same_again(&b, at, n, true);
    } else if (type == BT_WIRE_SUBMIT) {
        bt_engine_request req;
        if (bt_wire_get_submit(&rd, &arena, &req, &err)) goto done;
        bt_wire_put_submit(&b, &req);
        same_again(&b, at, n, true);
    } else if (type < BT_WIRE_EVENT) {
        bt_wire_command command;
        bt_status status = bt_wire_get_command(type, &rd, &command, &err);
        BT_ASSERT(status <= 0);
    } else {
        bt_engine_event event;
        if (bt_wire_get_event(type, &rd, &storage, &tokens, &event, &err)) goto done;
        bt_wire_put_event(&b, &event);
        /* Text for people may hold a NUL, which ends it; everything else is kept to the byte. */
        same_again(&b, at, n, event.type != BT_EE_READY && event.type != BT_EE_FATAL);
    }
done:
    bt_arena_release(&arena);
    bt_buf_release(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bt_frame_reader reader = {0};
    bt_frame frame;
    if (size > 1 << 20 || !bt_buf_reserve(&reader.buf, size + 1)) return 0;
    bt_buf_add(&reader.buf, data, size);
    while (bt_frame_reader_next(&reader, &frame, NULL) > 0) {
        /* An exact copy, so that a read past the payload is seen. */
        size_t n = (size_t)(frame.rd.end - frame.rd.at);
        uint8_t *copy = malloc(n ? n : 1);
        if (!copy) break;
        memcpy(copy, frame.rd.at, n);
        one_frame(frame.type, (bt_rd){copy, copy + n, true});
        free(copy);
    }
    bt_frame_reader_release(&reader);
    return 0;
}
