/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_error.h - CUDA's codes as sentences. Thread: any. */
#pragma once
#include "baton/status.h"
#include <cuda_runtime_api.h>
#include <stdbool.h>

/* Fills err with what was being done and CUDA's own name and text, and returns BT_OK for
 * cudaSuccess, BT_ENOMEM for a lack of memory, else BT_EDEVICE. Clears CUDA's last error where it
 * does not stick. */
bt_status bt__cuda_status(cudaError_t code, const char *doing, bt_err *err);
/* True for faults after which every call of this process fails: the process must end. */
bool bt__cuda_sticky(cudaError_t code);
/* What the owner can do about it, as the end of a sentence ("; ..."), or "". */
const char *bt__cuda_advice(cudaError_t code);
/* Pinned host memory to *slot, a pointer to any kind of pointer; NULL there on failure. BT_ENOMEM's
 * sentence says that it is the host that lacks it. */
bt_status bt__cuda_pinned(size_t bytes, const char *what, void *slot, bt_err *err);
