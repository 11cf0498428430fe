/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_usage.c - the crash file: what is accepted adds up. The input is laid over a file that is
 * whole: 2 bytes of length cut off, then (2 bytes of place, 2 bytes of value) pairs. */
#include "base/assert.h"
#include "base/mem.h"
#include "ledger/usage.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bt_usage_file f;
    static bt_usage_bank bank;
    uint64_t boot = 0;
    f = (bt_usage_file){
        .head.magic = BT_USAGE_MAGIC, .head.bytes = sizeof f, .head.boot = 9, .head.seq = 5};
    for (uint64_t b = 0; b < 2; b++) {
        f.bank[b] = (bt_usage_bank){.busy_us = 60 + b, .house_us = 10 + b, .closed_us = 20, .n = 2};
        f.bank[b].entry[0] = (bt_usage_entry){1, 10};
        f.bank[b].entry[1] = (bt_usage_entry){2, 20};
    }
    size_t cut = size >= 2 ? (size_t)(data[0] | data[1] << 8) : 0;
    for (size_t i = 2; i + 4 <= size; i += 4) {
        size_t at = (size_t)(data[i] | data[i + 1] << 8);
        if (at + 2 <= sizeof f) memcpy((char *)&f + at, data + i + 2, 2);
    }
    size_t len = cut > sizeof f ? 0 : sizeof f - cut;
    void *copy = bt_must(bt_malloc(len));
    memcpy(copy, &f, len);
    if (bt_usage_parse(copy, len, "x.use", &boot, &bank, NULL) == BT_OK) {
        uint64_t sum = bank.house_us + bank.closed_us;
        BT_ASSERT(boot != 0 && cut == 0 && bank.n <= BT_USAGE_ENTRIES);
        for (uint64_t i = 0; i < bank.n; i++) sum += bank.entry[i].used_us;
        BT_ASSERT(sum == bank.busy_us);
    }
    bt_free(copy);
    return 0;
}
