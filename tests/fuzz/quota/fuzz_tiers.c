/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tiers.c - the tier file: what is accepted is in range. */
#include "base/assert.h"
#include "quota/tiers.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bt_tiers tiers;
    bt_err err = {0};
    BT_ASSERT(bt_tiers_preset("guide", &tiers));
    if (bt_tiers_parse((const char *)data, size, "t.json", &tiers, &err) != BT_OK)
        BT_ASSERT(strncmp(err.msg, "tier file t.json", 16) == 0 && tiers.n == 6);
    for (int i = 0; i < tiers.n; i++) {
        const bt_tier *t = &tiers.tier[i];
        BT_ASSERT(bt_tiers_find(&tiers, t->name, strlen(t->name)) == t);
        BT_ASSERT(t->quota_us >= 0 && t->quota_us <= BT_QUOTA_UNLIMITED && t->weight > 0);
        BT_ASSERT(t->lease_max_s > 0 && t->slots > 0 && t->queue > 0);
        BT_ASSERT(t->cls >= BT_CLASS_LOW && t->cls <= BT_CLASS_HIGHEST);
    }
    return 0;
}
