/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL unit */
#include "engine/kv.h"
#include "base/mem.h"
#include "base/rng.h"
#include "test.h"

enum { PT = 4 };

static void take_and_give(void)
{
    bt_kv kv;
    REQUIRE(!bt_kv_init(&kv, 3, PT, NULL));
    int32_t a = bt_kv_take(&kv), b = bt_kv_take(&kv), c = bt_kv_take(&kv);
    CHECK(a >= 0 && b >= 0 && c >= 0 && a != b && b != c && a != c);
    CHECK_INT(bt_kv_take(&kv), -1);
    CHECK_INT(bt_kv_available(&kv), 0);
    bt_kv_ref(&kv, b);
    bt_kv_unref(&kv, b);
    CHECK_INT(bt_kv_available(&kv), 0);
    bt_kv_unref(&kv, b);
    CHECK_INT(bt_kv_available(&kv), 1);
    CHECK_INT(bt_kv_take(&kv), b);
    bt_kv_unref(&kv, a);
    bt_kv_unref(&kv, b);
    bt_kv_unref(&kv, c);
    bt_kv_check(&kv);
    bt_kv_release(&kv);
}

static void cache_hits_are_exact(void)
{
    const int32_t one[PT] = {1, 2, 3, 4}, two[PT] = {5, 6, 7, 8};
    bt_kv kv;
    REQUIRE(!bt_kv_init(&kv, 4, PT, NULL));
    int32_t a = bt_kv_take(&kv), b = bt_kv_take(&kv), c = bt_kv_take(&kv);
    CHECK_INT(bt_kv_publish(&kv, a, 7, 0, one), a);
    uint64_t serial = kv.page[a].serial;
    CHECK_INT(bt_kv_publish(&kv, b, 7, serial, two), b);
    CHECK_INT(bt_kv_find(&kv, 7, 0, one), a);
    CHECK_INT(bt_kv_find(&kv, 7, serial, two), b);
    CHECK_INT(bt_kv_find(&kv, 8, 0, one), -1);          // another account
    CHECK_INT(bt_kv_find(&kv, 7, 0, two), -1);          // another place
    CHECK_INT(bt_kv_find(&kv, 7, serial + 9, two), -1); // another text before it
    CHECK_INT(bt_kv_publish(&kv, c, 7, 0, one), a);     // already there: the caller changes over
    bt_kv_unref(&kv, c);
    bt_kv_unref(&kv, b);
    bt_kv_unref(&kv, a);
    CHECK_INT(kv.n_idle, 2);
    bt_kv_ref(&kv, a); // reuse of an idle page
    CHECK_INT(kv.n_idle, 1);
    bt_kv_forget(&kv, a);
    CHECK_INT(bt_kv_find(&kv, 7, 0, one), -1);
    bt_kv_unref(&kv, a);
    bt_kv_forget(&kv, b);
    CHECK_INT(kv.n_free, 4);
    bt_kv_check(&kv);
    bt_kv_release(&kv);
}

/* Two keys with one hash: a hit must still be exact. The index is bent by hand. */
static void collision_is_a_miss(void)
{
    const int32_t one[PT] = {1, 2, 3, 4}, two[PT] = {5, 6, 7, 8};
    bt_kv kv;
    REQUIRE(!bt_kv_init(&kv, 2, PT, NULL));
    int32_t a = bt_kv_take(&kv), b = bt_kv_take(&kv);
    CHECK_INT(bt_kv_publish(&kv, a, 7, 0, one), a);
    CHECK_INT(bt_kv_publish(&kv, b, 7, 0, two), b);
    bt_map_put(&kv.index, kv.page[b].hash, (uint64_t)a);
    CHECK_INT(bt_kv_find(&kv, 7, 0, two), -1);
    int32_t c = b; // publish under the occupied hash is declined, not overwritten
    kv.page[b].serial = 0;
    CHECK_INT(bt_kv_publish(&kv, c, 7, 0, two), -1);
    bt_kv_release(&kv);
}

static void oldest_idle_page_goes_first(void)
{
    bt_kv kv;
    REQUIRE(!bt_kv_init(&kv, 3, PT, NULL));
    for (int32_t i = 0; i < 3; i++) {
        int32_t page = bt_kv_take(&kv), text[PT] = {i, i, i, i};
        REQUIRE(bt_kv_publish(&kv, page, 1, 0, text) == page);
    }
    bt_kv_unref(&kv, 1);
    bt_kv_unref(&kv, 0);
    bt_kv_unref(&kv, 2);
    CHECK_INT(bt_kv_take(&kv), 1);
    CHECK_INT(bt_kv_take(&kv), 0);
    CHECK_INT(bt_kv_take(&kv), 2);
    CHECK_INT(kv.index.len, 0);
    bt_kv_check(&kv);
    bt_kv_release(&kv);
}

/* Random holders over random texts: references, the cache and the lists agree after every move, and
 * nothing is lost at the end. */
static void random_holders(void)
{
    enum { PAGES = 40, HOLDERS = 12, DEPTH = 8 };
    struct {
        int32_t page[DEPTH], n;
    } holder[HOLDERS] = {0};
    bt_kv kv;
    uint64_t n = 0;
    REQUIRE(!bt_kv_init(&kv, PAGES, PT, NULL));
    bt_mem_guard_begin();
    for (int32_t move = 0; move < 20000; move++) {
        int32_t h = (int32_t)(bt_rng_u64(1, n++) % HOLDERS);
        if (holder[h].n > 0 && bt_rng_u64(1, n++) % 3 == 0) {
            while (holder[h].n > 0) bt_kv_unref(&kv, holder[h].page[--holder[h].n]);
        } else if (holder[h].n < DEPTH) {
            int32_t at = holder[h].n, text[PT] = {0};
            text[0] = (int32_t)(bt_rng_u64(1, n++) % 3); // few texts: many hits
            uint64_t parent = at ? kv.page[holder[h].page[at - 1]].serial : 0;
            bool open = at == 0 || parent != 0;
            int32_t page = open ? bt_kv_find(&kv, 5, parent, text) : -1;
            if (page >= 0) {
                bt_kv_ref(&kv, page);
            } else if ((page = bt_kv_take(&kv)) >= 0 && open) {
                CHECK_INT(bt_kv_publish(&kv, page, 5, parent, text), page);
            }
            if (page >= 0) holder[h].page[holder[h].n++] = page;
        } else if (bt_rng_u64(1, n++) % 50 == 0) {
            bt_kv_forget(&kv, holder[h].page[DEPTH / 2]);
        }
        if (move % 64 == 0) bt_kv_check(&kv);
    }
    int32_t refs = 0, expected = 0;
    for (int32_t h = 0; h < HOLDERS; h++) expected += holder[h].n;
    for (int32_t i = 0; i < PAGES; i++) refs += kv.page[i].refs;
    CHECK_INT(refs, expected);
    for (int32_t h = 0; h < HOLDERS; h++)
        while (holder[h].n > 0) bt_kv_unref(&kv, holder[h].page[--holder[h].n]);
    bt_mem_guard_end();
    bt_kv_check(&kv);
    CHECK_INT(bt_kv_available(&kv), PAGES);
    bt_kv_release(&kv);
}

static void out_of_memory(void)
{
    for (long n = 1;; n++) {
        bt_kv kv;
        bt_err err = {0};
        bt_mem_fail_at(n);
        bt_status status = bt_kv_init(&kv, 8, PT, &err);
        bool failed = bt_mem_failed();
        bt_mem_fail_at(0);
        CHECK_INT(status, failed ? BT_ENOMEM : BT_OK);
        bt_kv_release(&kv);
        if (!failed) break;
    }
}

int main(void)
{
    RUN(take_and_give);
    RUN(cache_hits_are_exact);
    RUN(collision_is_a_miss);
    RUN(oldest_idle_page_goes_first);
    RUN(random_holders);
    RUN(out_of_memory);
    return TEST_END();
}
