/* SPDX-License-Identifier: Apache-2.0 */
/* test_heap.c - the indexed heap against a plain table, after each of many random changes. */
#include "sched/heap.h"
#include "base/rng.h"
#include "test.h"

enum { ITEMS = 40 };

static void agrees_with_a_table(void)
{
    bt__heap h;
    int64_t key[ITEMS];
    uint64_t tie[ITEMS];
    bool in[ITEMS] = {false};
    REQUIRE(bt__heap_init(&h, ITEMS));
    for (uint64_t i = 0; i < 20000; i++) {
        int32_t item = (int32_t)(bt_rng_u64(1, i) % ITEMS);
        if (bt_rng_u64(2, i) % 3) {
            key[item] = (int64_t)(bt_rng_u64(3, i) % 20) - 10;
            tie[item] = bt_rng_u64(4, i) % 4 * ITEMS + (uint64_t)item;
            in[item] = true;
            bt__heap_put(&h, item, key[item], tie[item]);
        } else {
            in[item] = false;
            bt__heap_remove(&h, item);
        }
        int32_t first = -1, n = 0;
        for (int32_t k = 0; k < ITEMS; k++) {
            if (!in[k]) continue;
            n++;
            if (first < 0 || key[k] < key[first] || (key[k] == key[first] && tie[k] < tie[first]))
                first = k;
        }
        CHECK_INT(h.len, n);
        CHECK_INT(bt__heap_top(&h) ? bt__heap_top(&h)->item : -1, first);
    }
    bt__heap_clear(&h);
    CHECK(bt__heap_top(&h) == NULL);
    bt__heap_put(&h, 3, 1, 1);
    CHECK_INT(bt__heap_top(&h)->item, 3);
    bt__heap_release(&h);
}

int main(void)
{
    RUN(agrees_with_a_table);
    return TEST_END();
}
