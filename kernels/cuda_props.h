/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_props.h - what launchers ask of a device, read once when it is opened. */
#pragma once
#include <stdint.h>

typedef struct bt_cuda_props {
    int32_t sm; // compute capability: 75 80 86 89 90
    int32_t n_sm;
    int32_t shared_optin_bytes; // most shared memory a block may ask for
    int32_t l2_bytes;
    int32_t warps_max;                          // resident on one multiprocessor
    int32_t clock_khz, mem_clock_khz, bus_bits; // 0 where the driver no longer tells
    char name[64];
    uint64_t total_bytes;
} bt_cuda_props;
