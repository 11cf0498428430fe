/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_memory.h - device memory as one reserved range of addresses whose memory comes and goes.
 *
 * The range is cut into segments (weights, KV, scratch). A segment's address never changes, so
 * captured graphs stay valid while its memory is given back and taken again (CUDA driver API,
 * "virtual memory management"; the driver's functions are asked for through the runtime). Where the
 * device cannot do that, segments are plain allocations: `movable` is then true, and what holds
 * addresses must be made again after take(). Thread: the owner's. */
#pragma once
#include "baton/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BT_CUDA_SEGMENTS_MAX = 4 };

typedef struct bt_cuda_segment {
    char *base;   // device address; with plain allocations NULL while given back
    size_t bytes; // as asked, rounded up to the device's granularity
    uint64_t handle;
    bool resident;
} bt_cuda_segment;

typedef struct bt_cuda_memory {
    int32_t ordinal;
    bool movable;
    size_t granularity, range_bytes;
    uint64_t range;
    int32_t n;
    bt_cuda_segment segment[BT_CUDA_SEGMENTS_MAX];
} bt_cuda_memory;

/* Reserves addresses for n segments; takes no memory. Every segment of 0 bytes stays empty. */
bt_status bt__cuda_memory_open(bt_cuda_memory *m, int32_t ordinal, const size_t *bytes, int32_t n,
                               bt_err *err);
/* Takes the memory of segment i; what says for what, in an error's sentence. */
bt_status bt__cuda_memory_take(bt_cuda_memory *m, int32_t i, const char *what, bt_err *err);
/* Gives it back; nothing may be running that uses it. */
bt_status bt__cuda_memory_give(bt_cuda_memory *m, int32_t i, bt_err *err);
void bt__cuda_memory_close(bt_cuda_memory *m);
