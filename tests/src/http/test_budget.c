/* SPDX-License-Identifier: Apache-2.0 */
/* what one client may hold */
#include "http/budget.h"
#include "test.h"

enum { MIB = 1 << 20 };

static bt_budget b;

static bool grow(uint64_t key, bt_class cls, size_t was, size_t now)
{
    bt_share *s = bt__budget_share(&b, key);
    s->refs++; // what it holds stays beyond this call
    bool ok = bt__budget_grow(&b, s, cls, was, now, NULL) == BT_OK;
    bt__budget_drop(&b, s);
    return ok;
}

static void give_back(uint64_t key, size_t bytes)
{
    bt_share *s = bt__budget_share(&b, key);
    bt__budget_give_back(&b, s, bytes);
    bt__budget_drop(&b, s);
}

static void one_stranger_has_one_large_body(void)
{
    bt__budget_open(&b, 8 * MIB, 64 * MIB);
    CHECK(grow(1, BT_CLASS_LOW, 0, 8 * MIB + 1));
    CHECK(!grow(1, BT_CLASS_LOW, 0, 8 * MIB + 1));
    CHECK(!grow(1, BT_CLASS_LOW, 0, MIB));
    CHECK(grow(1, BT_CLASS_LOW, 0, 1000)); // a small one all the same
    give_back(1, 8 * MIB + 1);
    CHECK(grow(1, BT_CLASS_LOW, 0, 8 * MIB + 1));
    bt__budget_release(&b);
}

static void strangers_leave_half_to_the_others(void)
{
    int strangers = 0, free_ones = 0, paying = 0;
    bt__budget_open(&b, 8 * MIB, 64 * MIB);
    for (uint64_t i = 0; i < 100; i++) strangers += grow(100 + i, BT_CLASS_LOW, 0, 8 * MIB);
    for (uint64_t i = 0; i < 100; i++) free_ones += grow(200 + i, BT_CLASS_MEDIUM, 0, 8 * MIB);
    for (uint64_t i = 0; i < 100; i++) paying += grow(300 + i, BT_CLASS_HIGHEST, 0, 8 * MIB);
    CHECK_INT(strangers, 4);
    CHECK_INT(free_ones, 2);
    CHECK_INT(paying, 2);
    for (uint64_t i = 0; i < 20; i++) CHECK(grow(400 + i, BT_CLASS_LOW, 0, BT_BODY_SMALL + 1));
    bt__budget_release(&b);
}

static void a_growing_body_moves_to_the_large_ones(void)
{
    bt__budget_open(&b, 8 * MIB, 64 * MIB);
    CHECK(grow(1, BT_CLASS_LOW, 0, 1000));
    CHECK_INT(b.small, 1000);
    CHECK(grow(1, BT_CLASS_LOW, 1000, BT_BODY_SMALL + 1));
    CHECK(grow(1, BT_CLASS_LOW, BT_BODY_SMALL + 1, 2 * BT_BODY_SMALL));
    CHECK_INT(b.small, 0);
    CHECK_INT(b.large, 2 * BT_BODY_SMALL);
    give_back(1, 2 * BT_BODY_SMALL);
    CHECK_INT(b.large, 0);
    bt_share *s = bt__budget_share(&b, 1), *same = bt__budget_share(&b, 1);
    CHECK(s == same);
    while (s->refs > 1) bt__budget_drop(&b, s);
    CHECK_INT(b.shares.len, 1);
    bt__budget_drop(&b, s);
    CHECK_INT(b.shares.len, 0);
    bt__budget_release(&b);
}

/* A body of the size that is allowed always fits an empty pool, whatever the sizes. */
static void one_body_always_fits(void)
{
    static const size_t body[] = {1024, BT_BODY_SMALL, MIB, 100 * MIB}, pool[] = {1, MIB, 64 * MIB};
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < 3; k++)
            for (bt_class cls = BT_CLASS_LOW; cls <= BT_CLASS_HIGHEST; cls++) {
                bt__budget_open(&b, body[i], pool[k]);
                CHECK(grow(1, cls, 0, body[i] + 1));
                give_back(1, body[i] + 1);
                bt__budget_release(&b);
            }
}

/* What was taken is given back, to the byte. */
static void sums_hold(void)
{
    enum { N = 200 };
    static size_t held[N];
    uint64_t seed = 7;
    bt__budget_open(&b, 8 * MIB, 64 * MIB);
    for (int i = 0; i < 100000; i++) {
        uint64_t r = bt_hash_u64(++seed), key = r % N, more = (r >> 20) & ((1u << r % 21) - 1);
        bt_class cls = (bt_class)(key % 3);
        if (r >> 63) {
            give_back(key + 1, held[key]);
            held[key] = 0;
        } else if (held[key] + more <= 8 * MIB && grow(key + 1, cls, held[key], held[key] + more)) {
            held[key] += more;
        }
    }
    size_t sum = 0;
    for (size_t i = 0; i < N; i++) sum += held[i];
    CHECK_INT(b.small + b.large, sum);
    for (size_t i = 0; i < N; i++) {
        give_back(i + 1, held[i]);
    }
    CHECK(b.small == 0 && b.large == 0);
    bt__budget_release(&b);
}

int main(void)
{
    RUN(one_stranger_has_one_large_body);
    RUN(strangers_leave_half_to_the_others);
    RUN(a_growing_body_moves_to_the_large_ones);
    RUN(one_body_always_fits);
    RUN(sums_hold);
    return TEST_END();
}
