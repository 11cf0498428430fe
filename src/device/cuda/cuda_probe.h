/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_probe.h - which CUDA devices there are and whether they can be used: the device choice of
 * `--device`, and `baton doctor`. Nothing here needs a driver to be installed. */
#pragma once
#include "baton/status.h"
#include "kernels/cuda_props.h"
#include <stdbool.h>

enum { BT_CUDA_DEVICES_MAX = 64 };

typedef struct bt_cuda_found {
    int32_t ordinal;
    bt_cuda_props props;
    char pci[16];  // "0000:65:00.0"
    char uuid[48]; // "GPU-..." or "MIG-..."; "" if the driver does not tell
    bool usable;
    char why_not[200]; // a sentence; "" if usable
} bt_cuda_found;

/* Fills found with every device, usable or not, and *n with their number. Not BT_OK only where CUDA
 * as a whole cannot be used: BT_ENODEVICE, with a sentence that says why (no driver, driver older
 * than this build's CUDA version, no device). */
bt_status bt_cuda_probe(bt_cuda_found found[BT_CUDA_DEVICES_MAX], int32_t *n, bt_err *err);

/* want: "auto", "cuda", "cuda:N", "cuda:UUID" ("GPU-..." or "MIG-..."). BT_ENODEVICE: no such
 * device, or none that is usable; the sentence says which there are. BT_EINVAL: not a device's
 * name. */
bt_status bt_cuda_choose(const char *want, bt_cuda_found *out, bt_err *err);

/* Free and total bytes of device memory as the driver tells them. Makes the process's context on
 * that device, which takes some hundred megabytes. BT_EBUSY: another process holds it. */
bt_status bt_cuda_free_bytes(int32_t ordinal, uint64_t *free_bytes, uint64_t *total_bytes,
                             bt_err *err);
/* CUDA versions as 12040: the runtime's and the installed driver's (0 = none). */
void bt_cuda_versions(int32_t *runtime, int32_t *driver);
