/* SPDX-License-Identifier: Apache-2.0 */
/* buf, mem, arena, hash map, utf8, status, clock, crypto */
#include "base/buf.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "baton/format.h"
#include "baton/status.h"
#include "test.h"

static void buffer_grows_to_its_bound(void)
{
    bt_buf b = {.max_bytes = 10};
    bt_buf_adds(&b, "12345");
    bt_buf_addf(&b, "%d", 678);
    CHECK_STR(b.data, "12345678");
    bt_buf_adds(&b, "9ab");
    CHECK(b.failed);
    CHECK_STR(b.data, "12345678");
    bt_buf_adds(&b, "9"); // a failed buffer takes no more, so a check at the end is enough
    CHECK_INT(b.len, 8);
    bt_buf_clear(&b);
    CHECK(!b.failed);
    bt_buf_adds(&b, "0123456789");
    bt_buf_drop(&b, 4);
    CHECK_STR(b.data, "456789");
    bt_buf_release(&b);
}

static void nth_allocation_fails_once(void)
{
    bt_mem_fail_at(2);
    void *a = bt_malloc(1), *b = bt_malloc(1), *c = bt_malloc(1);
    CHECK(a && !b && c);
    CHECK(bt_mem_failed());
    bt_free(a);
    bt_free(c);
    bt_mem_fail_at(0);
}

static void arena_is_bounded_and_aligned(void)
{
    bt_arena a;
    bt_arena_init(&a, 20000);
    for (int i = 0; i < 10; i++) {
        char *p = bt_arena_alloc(&a, 1001);
        REQUIRE(p != NULL);
        CHECK_INT((uintptr_t)p % 16, 0);
        CHECK(p[0] == 0 && p[1000] == 0);
        memset(p, 1, 1001);
    }
    CHECK(bt_arena_alloc(&a, 9991) == NULL);
    CHECK(bt_arena_alloc(&a, 9000) != NULL);
    CHECK_STR(bt_arena_strndup(&a, "abcdef", 3), "abc");
    bt_arena_release(&a);
}

static void map_behaves_like_a_map(void)
{
    enum { KEYS = 500, STEPS = 20000 };
    static uint64_t model[KEYS];
    bt_map m = {0};
    size_t live = 0;
    for (uint64_t i = 0; i < STEPS; i++) {
        uint64_t key = bt_rng_u64(1, i) % KEYS + 1, value = i + 1, got = 0;
        CHECK_INT(bt_map_get(&m, key, &got), model[key - 1] != 0);
        if (model[key - 1]) CHECK_INT(got, model[key - 1]);
        if (bt_rng_u64(2, i) % 2) {
            live += model[key - 1] == 0;
            model[key - 1] = value;
            CHECK(bt_map_put(&m, key, value));
        } else {
            live -= model[key - 1] != 0;
            CHECK_INT(bt_map_remove(&m, key), model[key - 1] != 0);
            model[key - 1] = 0;
        }
        if (m.len != live) break;
    }
    CHECK_INT(m.len, live);
    size_t at = 0, seen = 0;
    uint64_t key, value;
    while (bt_map_next(&m, &at, &key, &value)) seen += model[key - 1] == value;
    CHECK_INT(seen, live);
    bt_map_release(&m);
}

static void utf8_follows_the_table(void)
{
    size_t incomplete;
    CHECK_INT(bt_utf8_valid_prefix("h\xC3\xA9llo", 6), 6);
    CHECK_INT(bt_utf8_valid_prefix("a\xC0\x80", 3), 1);        // overlong
    CHECK_INT(bt_utf8_valid_prefix("\xED\xA0\x80", 3), 0);     // surrogate
    CHECK_INT(bt_utf8_valid_prefix("\xF4\x90\x80\x80", 4), 0); // past U+10FFFF
    CHECK_INT(bt_utf8_scan("ab\xF0\x9F\x98", 5, &incomplete), 2);
    CHECK_INT(incomplete, 3);
    CHECK_INT(bt_utf8_scan("ab\xF0\x28", 4, &incomplete), 2);
    CHECK_INT(incomplete, 0);
    for (uint32_t cp = 0; cp < 0x110000; cp += 37) {
        char s[4];
        uint32_t back = 0;
        if (cp >= 0xD800 && cp < 0xE000) continue;
        size_t n = bt_utf8_encode(cp, s);
        if (bt_utf8_decode(s, n, &back) != n || back != cp || bt_utf8_valid_prefix(s, n) != n)
            CHECK_INT(back, cp);
    }
}

static void statuses_and_formats_are_tables(void)
{
    bt_err err = {0};
    CHECK_INT(bt_err_set(&err, BT_EBUSY, 7, "%d in line", 3), BT_EBUSY);
    CHECK_STR(err.msg, "3 in line");
    CHECK_INT(err.sys, 7);
    CHECK_INT(bt_err_set(NULL, BT_EIO, 0, "nobody listens"), BT_EIO);
    CHECK_INT(bt_status_get(BT_EQUOTA)->http, 429);
    CHECK_INT(bt_status_get(BT_EQUOTA)->retry, 0);
    CHECK_INT(bt_status_get(-9999)->http, 500);
    CHECK_INT(bt_format_bytes(BT_FORMAT_Q8_0, 64), 68);
    CHECK(bt_format_get(12345) == NULL);
}

static void clock_and_random(void)
{
    char text[24];
    CHECK_STR(bt_rfc3339(1767323045000000, text), "2026-01-02T03:04:05Z");
    int64_t a = bt_now_ns();
    bt_sleep_ns(2000000);
    CHECK(bt_now_ns() - a >= 2000000);
    uint64_t x = bt_random_id(), y = bt_random_id();
    CHECK(x != 0 && x != y && x >> 63 == 0);
    CHECK(bt_secret_equal("abc", "abc", 3) && !bt_secret_equal("abc", "abd", 3));
    uint8_t d[32];
    bt_sha256("abc", 3, d);
    CHECK(d[0] == 0xba && d[1] == 0x78 && d[31] == 0xad);
    CHECK(bt_rng_unit(1, 2) == bt_rng_unit(1, 2) && bt_rng_unit(1, 2) != bt_rng_unit(1, 3));
}

int main(void)
{
    RUN(buffer_grows_to_its_bound);
    RUN(nth_allocation_fails_once);
    RUN(arena_is_bounded_and_aligned);
    RUN(map_behaves_like_a_map);
    RUN(utf8_follows_the_table);
    RUN(statuses_and_formats_are_tables);
    RUN(clock_and_random);
    return TEST_END();
}
