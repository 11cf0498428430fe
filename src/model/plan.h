/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - what a model takes of a device's memory, decided before anything is allocated.
 *
 * The byte counts come from the backend's own bytes(), which open() uses too: the planner's
 * numbers and the engine's are the same. Thread: any. */
#pragma once
#include "baton/backend.h"

/* Memory of this machine that this process may still use. */
typedef struct bt_memory {
    uint64_t total_bytes; // of the machine, or the container's limit if that is smaller
    uint64_t free_bytes;  // available now: free, or reclaimable from caches
    bool limited;         // a container's limit is what binds
} bt_memory;

/* The smaller of /proc/meminfo and each memory limit of the cgroups (version 1 or 2) around this
 * process. root is "" (tests: a folder that holds proc/ and sys/). BT_EIO: nothing to read. */
bt_status bt_memory_read(const char *root, bt_memory *out, bt_err *err);

/* Bytes as bt_backend.bytes() tells them. */
typedef void (*bt_bytes_fn)(const bt_recipe *recipe, const bt_weights *weights,
                            const bt_device_plan *plan, uint64_t *weights_bytes, uint64_t *kv_bytes,
                            uint64_t *scratch_bytes);

typedef struct bt_plan_ask {
    const bt_recipe *recipe;   // borrowed during the call
    const bt_weights *weights; // likewise
    bt_bytes_fn bytes;
    uint64_t free_bytes; // memory that may be taken (bt_memory.free_bytes)
    int32_t threads;     // 0 = all cores this process may use
    int32_t slots;       // sequences at once; 0 = 8
    int32_t ctx;         // tokens a sequence, cut to the model's; 0 = min(kv_tokens, 4096)
    int32_t kv_tokens;   // KV pages in tokens; 0 = what memory allows, up to slots * ctx
    int32_t step_tokens; // rows a step; 0 = 512
    int32_t page_tokens; // 0 = 16
    bt_kv_format kv_format;
    int32_t ordinal; // CUDA device; the rest as in bt_device_plan
    bool deterministic, keep_host;
} bt_plan_ask;

typedef struct bt_plan {
    bt_device_plan device;
    uint64_t weights_bytes, kv_bytes, scratch_bytes;
    uint64_t total_bytes;   // the three together
    uint64_t reserve_bytes; // of free_bytes, left to the rest of the process
    uint64_t free_bytes;    // as asked
} bt_plan;

/* BT_EINVAL: an ask out of range. BT_ENOMEM: it does not fit; the sentence says how much is
 * missing and what would fit: a smaller ask, a --quant, or a file of so many bits a weight. */
bt_status bt_plan_make(const bt_plan_ask *ask, bt_plan *out, bt_err *err);
/* "1.5 GiB", "512 B"; dst needs 16 bytes. Returns dst. */
char *bt_bytes_text(uint64_t bytes, char dst[static 16]);
