/* SPDX-License-Identifier: Apache-2.0 */
/* nvml.h - what the NVIDIA driver says of a device's memory, from any process.
 *
 * NVML is opened at run time and makes no CUDA context, so front may ask too: whether memory that
 * an engine or an outside program held has come back. Without the library every question answers
 * BT_ENOTFOUND. Thread: any, one at a time. */
#pragma once
#include "baton/status.h"

typedef struct bt_nvml_memory {
    uint64_t total_bytes, free_bytes, used_bytes;
} bt_nvml_memory;

/* id: a PCI bus id ("0000:65:00.0") or a UUID ("GPU-...", "MIG-..."). */
bt_status bt_nvml_memory_read(const char *id, bt_nvml_memory *out, bt_err *err);
/* The driver's own version, such as "550.54.15". BT_ENOTFOUND without a driver. */
bt_status bt_nvml_driver(char *dst, uint32_t n, bt_err *err);
