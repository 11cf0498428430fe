/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_keys.c - the API-key file: what is accepted is sorted, of known tiers, and found again. */
#include "base/assert.h"
#include "quota/keys.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bt_tiers tiers;
    bt_keys keys = {0};
    bt_err err = {0};
    BT_ASSERT(bt_tiers_preset("guide", &tiers));
    if (bt_keys_parse((const char *)data, size, "keys", &tiers, &keys, &err) != BT_OK) {
        BT_ASSERT(strncmp(err.msg, "keys:", 5) == 0 && keys.key == NULL);
        return 0;
    }
    for (size_t i = 0; i < keys.n; i++) {
        BT_ASSERT(bt_keys_find(&keys, keys.key[i].hash) == &keys.key[i]);
        BT_ASSERT(keys.key[i].tier->quota_us < BT_QUOTA_UNLIMITED && *keys.key[i].account);
    }
    bt_keys_release(&keys);
    return 0;
}
