/* SPDX-License-Identifier: Apache-2.0 */
/* test_ledger.c - windows, holds, posts, batches, the owner's changes; the rules of ledger.h one by
 * one. */
#include "src/quota/scratch.h"
#include "base/rng.h"
#include <sqlite3.h>

static void post_charges_and_gives_the_rest_back(void)
{
    bt_ledger *l = ledger_in(scratch_fresh());
    bt_ledger_balance b = balance(l, "key:ann", T0);
    CHECK_INT(b.limit_us, 100 * SECOND);
    CHECK_INT(b.remaining_us, 100 * SECOND);
    CHECK_INT(b.window_started_us, 0); // reading opens no window
    CHECK_INT(hold(l, "key:ann", 7, 30 * SECOND, T0 + 5), 30 * SECOND);
    b = balance(l, "key:ann", T0 + 6);
    CHECK_INT(b.held_us, 30 * SECOND);
    CHECK_INT(b.used_us, 0);
    CHECK_INT(b.remaining_us, 70 * SECOND);
    CHECK_INT(b.window_started_us, T0 + 5);
    CHECK_INT(b.resets_us, T0 + 5 + DAY);
    CHECK_INT(bt_ledger_post(l, 7, 4 * SECOND, 6 * SECOND, T0 + 9, &b, NULL), BT_OK);
    CHECK_INT(b.held_us, 0);
    CHECK_INT(b.used_us, 6 * SECOND);
    CHECK_INT(b.remaining_us, 94 * SECOND);
    bt_ledger_totals t = totals(l);
    CHECK_INT(t.accounts_us, 4 * SECOND);
    CHECK_INT(t.charged_us, 6 * SECOND);
    CHECK_INT(t.holds_open, 0);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
    l = ledger_in(scratch_dir); // all of it is on the disk
    CHECK_INT(balance(l, "key:ann", T0 + 10).used_us, 6 * SECOND);
    bt_ledger_close(l);
}

static void what_is_left_is_admitted_and_never_more(void)
{
    bt_ledger *l = ledger_in(scratch_fresh());
    int64_t held = 0;
    bool final = true;
    bt_ledger_balance b;
    bt_err err = {0};
    CHECK_INT(bt_ledger_hold(l, 1, "a", 1, 100, 60, T0, &held, &final, &b, NULL), BT_OK);
    CHECK_INT(held, 60);
    CHECK_INT(final, false);
    CHECK_INT(bt_ledger_hold(l, 1, "a", 2, 100, 60, T0, &held, &final, &b, NULL), BT_OK);
    CHECK_INT(held, 40); // 40 left of 60 asked: admitted with what is left
    CHECK_INT(final, true);
    CHECK_INT(b.remaining_us, 0);
    held = -7;
    CHECK_INT(bt_ledger_hold(l, 1, "a", 3, 100, 1, T0, &held, &final, &b, &err), BT_EQUOTA);
    CHECK_INT(held, -7);
    CHECK_INT(b.held_us, 100);
    CHECK(strstr(err.msg, "held by this account's other requests") != NULL);
    CHECK_INT(bt_ledger_post(l, 1, 60, 60, T0, NULL, NULL), BT_OK);
    CHECK_INT(bt_ledger_post(l, 2, 45, 45, T0, &b, NULL), BT_OK); // overran by steps in flight
    CHECK_INT(b.used_us, 105);
    CHECK_INT(b.remaining_us, 0);
    CHECK_INT(bt_ledger_hold(l, 1, "a", 3, 100, 1, T0, &held, &final, &b, &err), BT_EQUOTA);
    CHECK(strstr(err.msg, "used up; it resets at 2025-10-10T") != NULL);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

static void a_refusal_leaves_no_trace(void)
{
    bt_ledger *l = ledger_in(scratch_fresh());
    int64_t held = 0;
    bool final = false;
    bt_ledger_balance b;
    bt_err err;
    CHECK_INT(bt_ledger_hold(l, 1, "none", 1, 0, 5, T0, &held, &final, &b, &err), BT_EQUOTA);
    CHECK_STR(err.msg, "this account has no device-time quota");
    CHECK_INT(b.window_started_us, 0);
    CHECK_INT(balance(l, "none", T0).window_started_us, 0);
    CHECK_INT(hold(l, "", 1, 5, T0), BT_EINVAL);
    CHECK_INT(hold(l, "a", 0, 5, T0), BT_EINVAL);
    CHECK_INT(hold(l, "a", 1, -5, T0), BT_EINVAL);
    CHECK_INT(hold(l, "a", 1, 5, 0), BT_EINVAL);
    char longest[130];
    memset(longest, 'x', 129);
    longest[129] = 0;
    CHECK_INT(hold(l, longest, 1, 5, T0), BT_EINVAL);
    longest[128] = 0;
    CHECK_INT(hold(l, longest, 1, 5, T0), 5);
    CHECK_INT(bt_ledger_post(l, 1, -1, 0, T0, NULL, NULL), BT_EINVAL);
    CHECK_INT(bt_ledger_post(l, 99, 1, 1, T0, NULL, NULL), BT_ENOTFOUND);
    CHECK_INT(bt_ledger_void(l, 99, T0, NULL, NULL), BT_ENOTFOUND);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

static void each_hold_ends_once(void)
{
    bt_ledger *l = ledger_in(scratch_fresh());
    bt_ledger_balance b;
    CHECK_INT(hold(l, "a", 1, 10, T0), 10);
    CHECK_INT(hold(l, "a", 1, 10, T0), BT_EINVAL); // one hold a request
    CHECK_INT(bt_ledger_post(l, 1, 5, 5, T0, &b, NULL), BT_OK);
    CHECK_INT(bt_ledger_post(l, 1, 5, 5, T0, &b, NULL), BT_OK);
    CHECK_INT(b.used_us, 5);
    CHECK_INT(bt_ledger_void(l, 1, T0, &b, NULL), BT_OK); // too late: it was posted
    CHECK_INT(b.used_us, 5);
    CHECK_INT(hold(l, "a", 1, 10, T0), BT_EINVAL); // ids are not used again
    CHECK_INT(hold(l, "a", 2, 10, T0), 10);
    CHECK_INT(bt_ledger_void(l, 2, T0, &b, NULL), BT_OK);
    CHECK_INT(bt_ledger_void(l, 2, T0, &b, NULL), BT_OK);
    CHECK_INT(bt_ledger_post(l, 2, 9, 9, T0, &b, NULL), BT_OK); // changes nothing
    CHECK_INT(b.used_us, 5);
    CHECK_INT(b.held_us, 0);
    CHECK_INT(totals(l).accounts_us, 5);
    uint64_t big = UINT64_MAX - 1; // any id but 0
    CHECK_INT(hold(l, "a", big, 10, T0), 10);
    CHECK_INT(bt_ledger_post(l, big, 1, 1, T0, NULL, NULL), BT_OK);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

static void top_up_takes_what_is_left(void)
{
    bt_ledger *l = ledger_in(scratch_fresh());
    int64_t held = 0;
    bool final = true;
    CHECK_INT(hold(l, "a", 1, 10 * SECOND, T0), 10 * SECOND);
    CHECK_INT(hold(l, "a", 2, 60 * SECOND, T0), 60 * SECOND);
    CHECK_INT(bt_ledger_top_up(l, 1, 25 * SECOND, T0, &held, &final, NULL), BT_OK);
    CHECK_INT(held, 25 * SECOND);
    CHECK_INT(final, false);
    CHECK_INT(bt_ledger_top_up(l, 1, 5 * SECOND, T0, &held, &final, NULL), BT_OK);
    CHECK_INT(held, 25 * SECOND); // never lowered
    CHECK_INT(bt_ledger_top_up(l, 1, 90 * SECOND, T0, &held, &final, NULL), BT_OK);
    CHECK_INT(held, 40 * SECOND);
    CHECK_INT(final, true);
    CHECK_INT(bt_ledger_void(l, 2, T0, NULL, NULL), BT_OK);
    CHECK_INT(bt_ledger_top_up(l, 1, 90 * SECOND, T0, &held, &final, NULL), BT_OK);
    CHECK_INT(held, 90 * SECOND);
    CHECK_INT(final, false);
    CHECK_INT(bt_ledger_top_up(l, 2, 90, T0, &held, &final, NULL), BT_ENOTFOUND);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

static void a_window_is_a_day_from_first_use(void)
{
    bt_ledger *l = ledger_in(scratch_fresh());
    CHECK_INT(hold(l, "a", 1, 100 * SECOND, T0), 100 * SECOND);
    CHECK_INT(bt_ledger_post(l, 1, 100 * SECOND, 100 * SECOND, T0 + SECOND, NULL, NULL), BT_OK);
    CHECK_INT(hold(l, "a", 2, SECOND, T0 + DAY - 1), BT_EQUOTA);
    CHECK_INT(balance(l, "a", T0 + DAY).remaining_us, 100 * SECOND);
    CHECK_INT(balance(l, "a", T0 + DAY).window_started_us, 0);
    CHECK_INT(hold(l, "a", 2, SECOND, T0 + 3 * DAY),
              SECOND); // opens with first use, not at midnight
    CHECK_INT(balance(l, "a", T0 + 3 * DAY).resets_us, T0 + 4 * DAY);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

static void a_hold_belongs_to_its_window(void)
{
    bt_ledger *l = ledger_in(scratch_fresh());
    int64_t held = 0;
    bool final = false;
    bt_ledger_balance b;
    CHECK_INT(hold(l, "a", 1, 60 * SECOND, T0 + 1), 60 * SECOND);         // runs across the reset
    CHECK_INT(hold(l, "a", 2, 100 * SECOND, T0 + DAY + 5), 100 * SECOND); // whole new quota
    CHECK_INT(bt_ledger_top_up(l, 1, 500 * SECOND, T0 + DAY + 6, &held, &final, NULL), BT_OK);
    CHECK_INT(held, 100 * SECOND); // of the old window, whose limit still binds it
    CHECK_INT(final, true);
    CHECK_INT(bt_ledger_post(l, 1, 80 * SECOND, 80 * SECOND, T0 + DAY + 7, &b, NULL), BT_OK);
    CHECK_INT(b.used_us, 0); // nothing of it counts here
    CHECK_INT(b.held_us, 100 * SECOND);
    CHECK_INT(b.window_started_us, T0 + DAY + 5);
    CHECK_INT(bt_ledger_post(l, 2, SECOND, SECOND, T0 + DAY + 8, &b, NULL), BT_OK);
    CHECK_INT(b.remaining_us, 99 * SECOND);
    CHECK_INT(totals(l).accounts_us, 81 * SECOND);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

static void clocks_that_step_back(void)
{
    bt_ledger *l = ledger_in(scratch_fresh());
    const int64_t minute = 60 * SECOND, week = 7 * DAY;
    CHECK_INT(hold(l, "a", 1, 100 * SECOND, T0), 100 * SECOND); // all it has
    CHECK_INT(balance(l, "a", T0 - 3600 * SECOND).remaining_us, 0);
    CHECK_INT(hold(l, "a", 2, SECOND, T0 - week), BT_EQUOTA); // no fresh window
    CHECK_INT(balance(l, "a", T0 - week).resets_us, T0 - week + DAY);
    CHECK_INT(bt_ledger_post(l, 1, 100 * SECOND, 100 * SECOND, T0 - week, NULL, NULL), BT_OK);
    bt_ledger_close(l);
    l = ledger_in(scratch_dir); // nor by a restart
    CHECK_INT(hold(l, "a", 3, SECOND, T0 - week), BT_EQUOTA);
    /* The window ends after a day, by the clock there is; a jump of it is not time that went by. */
    int64_t now = T0 - week;
    for (; now < T0 - week + DAY - minute; now += minute)
        CHECK_INT(balance(l, "a", now).remaining_us, 0);
    CHECK_INT(balance(l, "a", now).resets_us, T0 - week + DAY);
    CHECK_INT(hold(l, "a", 4, SECOND, T0 + minute), BT_EQUOTA); // set right again
    CHECK_INT(hold(l, "a", 5, SECOND, T0 + DAY + minute), SECOND);

    /* A clock that had gone mad and is set right locks nobody out for longer than a window. */
    CHECK_INT(hold(l, "b", 6, 100 * SECOND, T0 + 3650 * DAY), 100 * SECOND);
    now = T0 + 3 * DAY;
    CHECK_INT(hold(l, "b", 7, SECOND, now), BT_EQUOTA);
    CHECK_INT(balance(l, "b", now).resets_us, now + DAY);
    for (int64_t end = now + DAY; now < end; now += minute) balance(l, "b", now);
    CHECK_INT(hold(l, "b", 8, SECOND, now), SECOND);
    CHECK_INT(balance(l, "b", now).window_started_us, now);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

static void a_batch_happens_whole_or_not(void)
{
    bt_ledger *l = ledger_in(scratch_fresh());
    CHECK_INT(hold(l, "a", 1, 10, T0), 10);
    CHECK_INT(bt_ledger_begin(l, NULL), BT_OK);
    CHECK_INT(hold(l, "a", 2, 20, T0), 20);
    CHECK_INT(bt_ledger_post(l, 1, 3, 3, T0, NULL, NULL), BT_OK);
    CHECK_INT(hold(l, "new", 3, 20, T0), 20);
    CHECK_INT(balance(l, "a", T0).used_us, 3);
    bt_ledger_rollback(l);
    CHECK_INT(balance(l, "a", T0).used_us, 0);
    CHECK_INT(balance(l, "a", T0).held_us, 10);
    CHECK_INT(balance(l, "new", T0).window_started_us, 0);
    CHECK_INT(bt_ledger_begin(l, NULL), BT_OK);
    CHECK_INT(hold(l, "a", 2, 20, T0), 20);        // as if it had never been
    CHECK_INT(hold(l, "a", 2, 20, T0), BT_EINVAL); // a refusal does not spoil the others
    CHECK_INT(bt_ledger_post(l, 77, 1, 1, T0, NULL, NULL), BT_ENOTFOUND);
    CHECK_INT(bt_ledger_post(l, 1, 3, 3, T0, NULL, NULL), BT_OK);
    CHECK_INT(bt_ledger_commit(l, NULL), BT_OK);
    CHECK_INT(balance(l, "a", T0).used_us, 3);
    CHECK_INT(balance(l, "a", T0).held_us, 20);
    CHECK_INT(bt_ledger_begin(l, NULL), BT_OK);
    CHECK_INT(hold(l, "a", 4, 5, T0), 5);
    bt_ledger_close(l); // open batch: dropped
    l = ledger_in(scratch_dir);
    CHECK_INT(balance(l, "a", T0).held_us, 20);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

static void the_owner_changes_things(void)
{
    bt_ledger *l = ledger_in(scratch_fresh());
    bt_ledger_balance b;
    CHECK_INT(bt_ledger_set_limit(l, "key:bob", 7 * SECOND, T0, NULL), BT_OK); // before any use
    CHECK_INT(balance(l, "key:bob", T0).limit_us, 7 * SECOND);
    CHECK_INT(hold(l, "key:bob", 1, 50 * SECOND, T0), 7 * SECOND);
    CHECK_INT(bt_ledger_post(l, 1, 7 * SECOND, 7 * SECOND, T0, &b, NULL), BT_OK);
    CHECK_INT(b.limit_us, 7 * SECOND);
    CHECK_INT(bt_ledger_set_limit(l, "key:bob", -1, T0, NULL), BT_OK);
    CHECK_INT(balance(l, "key:bob", T0).remaining_us, 93 * SECOND);
    CHECK_INT(bt_ledger_set_limit(l, "key:bob", -2, T0, NULL), BT_EINVAL);

    CHECK_INT(hold(l, "key:bob", 2, 20 * SECOND, T0 + 1), 20 * SECOND);
    CHECK_INT(bt_ledger_reset(l, "key:bob", T0 + 2, NULL), BT_OK);
    b = balance(l, "key:bob", T0 + 3);
    CHECK_INT(b.remaining_us, 100 * SECOND);
    CHECK_INT(b.window_started_us, 0);
    CHECK_INT(hold(l, "key:bob", 3, 30 * SECOND, T0 + 3), 30 * SECOND);
    CHECK_INT(bt_ledger_post(l, 2, 9 * SECOND, 9 * SECOND, T0 + 4, &b, NULL), BT_OK);
    CHECK_INT(b.used_us, 0); // request 2 began before the reset
    CHECK_INT(bt_ledger_reset(l, "key:nobody", T0, NULL), BT_ENOTFOUND);

    CHECK_INT(bt_ledger_post(l, 3, 30 * SECOND, 30 * SECOND, T0 + 5, NULL, NULL), BT_OK);
    CHECK_INT(totals(l).charged_us, 46 * SECOND); // charges are what posts charged
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

static char listed[256];

static void list_account(void *ud, const char *account, int64_t override_us,
                         const bt_ledger_balance *b)
{
    size_t n = strlen(listed);
    (void)ud;
    snprintf(listed + n, sizeof listed - n, "%s %lld %lld %lld %lld;", account,
             (long long)override_us, (long long)b->limit_us, (long long)b->used_us,
             (long long)b->held_us);
}

static void accounts_are_listed(void)
{
    bt_ledger *l = ledger_in(scratch_fresh());
    CHECK_INT(hold(l, "ip:192.0.2.1", 1, 40, T0), 40);
    CHECK_INT(hold(l, "owner", 2, 40, T0), 40);
    CHECK_INT(bt_ledger_post(l, 2, 12, 12, T0, NULL, NULL), BT_OK);
    CHECK_INT(bt_ledger_set_limit(l, "key:x", 5, T0, NULL), BT_OK);
    listed[0] = 0;
    CHECK_INT(bt_ledger_accounts(l, T0, list_account, NULL, NULL), BT_OK);
    CHECK_STR(listed, "ip:192.0.2.1 -1 100000000 0 40;key:x 5 5 0 0;owner -1 100000000 12 0;");
    bt_ledger_close(l);
}

static void unlimited_still_counts(void)
{
    bt_ledger *l = ledger_in(scratch_fresh());
    int64_t held = 0;
    bool final = true;
    bt_ledger_balance b;
    CHECK_INT(
        bt_ledger_hold(l, 1, "owner", 1, INT64_MAX / 4, INT64_MAX, T0, &held, &final, &b, NULL),
        BT_OK);
    CHECK(held > 365 * DAY);
    CHECK_INT(final, false);
    CHECK_INT(bt_ledger_post(l, 1, 50 * DAY, 50 * DAY, T0, &b, NULL), BT_OK);
    CHECK_INT(b.used_us, 50 * DAY);
    CHECK(b.remaining_us > 365 * DAY);
    CHECK_INT(bt_ledger_post(l, 1, INT64_MAX, 1, T0, &b, NULL), BT_EINVAL);
    bt_ledger_close(l);
}

static void engines_are_cumulative(void)
{
    bt_ledger *l = ledger_in(scratch_fresh());
    CHECK_INT(bt_ledger_engine(l, 5, 1000, 100, T0, NULL), BT_OK);
    CHECK_INT(bt_ledger_engine(l, 5, 1000, 100, T0, NULL), BT_OK);
    CHECK_INT(bt_ledger_engine(l, 5, 900, 50, T0, NULL), BT_OK); // old news
    CHECK_INT(totals(l).busy_us, 1000);
    CHECK_INT(totals(l).house_us, 100);
    CHECK_INT(bt_ledger_engine(l, 5, 1500, 100, T0, NULL), BT_OK);
    CHECK_INT(bt_ledger_engine(l, 6, 70, 70, T0, NULL), BT_OK); // another boot
    CHECK_INT(totals(l).busy_us, 1570);
    CHECK_INT(totals(l).house_us, 170);
    CHECK_INT(bt_ledger_engine(l, 6, -1, 0, T0, NULL), BT_EINVAL);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

static void entries_cannot_be_rewritten(void)
{
    bt_ledger *l = ledger_in(scratch_fresh());
    CHECK_INT(hold(l, "a", 1, 40, T0), 40);
    CHECK_INT(bt_ledger_post(l, 1, 12, 12, T0, NULL, NULL), BT_OK);
    bt_ledger_close(l);
    sqlite3 *db = NULL;
    CHECK_INT(sqlite3_open(scratch_path("ledger.db"), &db), SQLITE_OK);
    CHECK(sqlite3_exec(db, "UPDATE entries SET charged_us = 0", 0, 0, 0) != SQLITE_OK);
    CHECK(sqlite3_exec(db, "DELETE FROM entries", 0, 0, 0) != SQLITE_OK);
    /* And the check sees what was done behind its back. */
    CHECK_INT(sqlite3_exec(db, "UPDATE windows SET used_us = 0", 0, 0, 0), SQLITE_OK);
    sqlite3_close(db);
    l = ledger_in(scratch_dir);
    bt_err err = {0};
    CHECK_INT(bt_ledger_check(l, &err), BT_EFORMAT);
    CHECK(strstr(err.msg, "use is not the sum of its entries") != NULL);
    bt_ledger_close(l);
}

static void compacting_changes_no_sum(void)
{
    bt_ledger *l = ledger_in(scratch_fresh());
    int64_t gone = 0;
    for (uint64_t i = 1; i <= 300; i++) {
        int64_t now = T0 + (int64_t)(i / 60) * DAY + (int64_t)i;
        const char *who = i % 2 ? "a" : "b";
        CHECK(hold(l, who, i, 10, now) > 0);
        if (i == 5) continue; // stays open: its window may not be folded
        if (i % 7 == 0)
            CHECK_INT(bt_ledger_void(l, i, now, NULL, NULL), BT_OK);
        else
            CHECK_INT(bt_ledger_post(l, i, 3, 4, now, NULL, NULL), BT_OK);
        CHECK_INT(bt_ledger_engine(l, 9, (int64_t)i * 5, (int64_t)i * 2, now, NULL), BT_OK);
    }
    int64_t now = T0 + 5 * DAY;
    bt_ledger_totals before = totals(l);
    bt_ledger_balance a = balance(l, "a", now);
    CHECK_INT(bt_ledger_compact(l, now - DAY, &gone, NULL), BT_OK);
    CHECK(gone > 400);
    bt_ledger_totals after = totals(l);
    CHECK(memcmp(&before, &after, sizeof before) == 0);
    CHECK_INT(balance(l, "a", now).used_us, a.used_us);
    CHECK_BOOKS(l);
    CHECK_INT(bt_ledger_compact(l, now - DAY, &gone, NULL), BT_OK);
    CHECK(gone <= 2); // folded once, not again and again
    CHECK_INT(bt_ledger_post(l, 5, 3, 4, now, NULL, NULL), BT_OK); // the open one still can end
    CHECK_INT(bt_ledger_post(l, 4, 3, 4, now, NULL, NULL), BT_ENOTFOUND); // forgotten
    CHECK_INT(bt_ledger_post(l, 299, 3, 4, now, NULL, NULL), BT_OK);      // not yet
    CHECK_INT(totals(l).accounts_us, before.accounts_us + 3);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
    l = ledger_in(scratch_dir);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

/* A model of one account in plain C, and the ledger, over a random history: they must agree. */
static void a_random_history_matches_a_model(void)
{
    enum { ACCOUNTS = 3, OPEN = 12, ROUNDS = 4000 };
    static const char *const name[ACCOUNTS] = {"a", "b", "c"};
    struct {
        int64_t start, used, held, seq;
    } acc[ACCOUNTS] = {{0}};
    struct {
        uint64_t request;
        int64_t amount, seq;
        int who;
    } open[OPEN] = {{0}};
    bt_ledger *l = ledger_in(scratch_fresh());
    int64_t now = T0, limit = 1000, device = 0;
    uint64_t n = 0, next = 1;
    CHECK_INT(bt_ledger_begin(l, NULL), BT_OK);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t r = bt_rng_u64(42, n++);
        int at = (int)(r % OPEN), who = (int)(r >> 8) % ACCOUNTS;
        int64_t amount = (int64_t)(r >> 20) % 400;
        who = who < 0 ? -who : who;
        now += (int64_t)(bt_rng_unit(43, n) * (double)DAY / 60);
        int64_t held = -1;
        bool final = false;
        bt_ledger_balance b = {0};
        if (!open[at].request) {
            if (acc[who].start == 0 || now >= acc[who].start + DAY) {
                acc[who].start = now; // a hold with something left opens a window
                acc[who].used = acc[who].held = 0;
                acc[who].seq++;
            }
            int64_t left = limit - acc[who].used - acc[who].held;
            int64_t want = left <= 0 ? BT_EQUOTA : amount < left ? amount : left;
            bt_status s =
                bt_ledger_hold(l, 1, name[who], next, limit, amount, now, &held, &final, &b, NULL);
            CHECK_INT(s == BT_OK ? held : s, want);
            if (s != BT_OK) continue;
            acc[who].held += held;
            CHECK_INT(final, left - held == 0);
            open[at].request = next++;
            open[at].amount = held;
            open[at].seq = acc[who].seq;
            open[at].who = who;
        } else {
            bool mine = open[at].seq == acc[who = open[at].who].seq;
            bool voided = r >> 60 == 0;
            bt_status s = voided
                              ? bt_ledger_void(l, open[at].request, now, &b, NULL)
                              : bt_ledger_post(l, open[at].request, amount, amount, now, &b, NULL);
            CHECK_INT(s, BT_OK);
            if (mine) acc[who].held -= open[at].amount;
            if (mine && !voided) acc[who].used += amount;
            if (!voided) device += amount;
            open[at].request = 0;
        }
        bool shut = now >= acc[who].start + DAY;
        CHECK_INT(b.used_us, shut ? 0 : acc[who].used);
        CHECK_INT(b.held_us, shut ? 0 : acc[who].held);
        if (round % 64 == 0) {
            CHECK_INT(bt_ledger_commit(l, NULL), BT_OK);
            CHECK_INT(bt_ledger_begin(l, NULL), BT_OK);
        }
        if (test_failed) break;
    }
    CHECK_INT(bt_ledger_commit(l, NULL), BT_OK);
    CHECK_INT(totals(l).accounts_us, device);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

/* The owner deletes DIR while a server has it open: the server notices, and a second one does not
 * begin with empty books beside it. */
static void a_directory_deleted_under_it(void)
{
    bt_ledger *l = ledger_in(scratch_fresh()), *other = NULL;
    bt_err err = {0};
    char away[600], pid[32];
    snprintf(away, sizeof away, "%s.away", scratch_dir);
    snprintf(pid, sizeof pid, "process %ld ", (long)getpid());
    CHECK_INT(bt_ledger_there(l, &err), BT_OK);
    REQUIRE(rename(scratch_dir, away) == 0);
    CHECK_INT(bt_ledger_there(l, &err), BT_EIO);
    CHECK(strstr(err.msg, "deleted or replaced") != NULL);
    REQUIRE(mkdir(scratch_dir, 0700) == 0);
    for (int i = 0; i < 8; i++) {
        CHECK_INT(bt_ledger_open(scratch_dir, &other, &err), BT_EBUSY);
        CHECK(strstr(err.msg, "another server") && (i > 1 || strstr(err.msg, pid)));
    }
    CHECK_INT(access(scratch_path("ledger.db"), F_OK), -1);
    CHECK_INT(bt_ledger_there(l, &err), BT_EIO); // there is a lock again, but not its own
    unlink(scratch_path("lock"));
    REQUIRE(rmdir(scratch_dir) == 0 && rename(away, scratch_dir) == 0);
    CHECK_INT(bt_ledger_there(l, &err), BT_OK); // put back
    REQUIRE(rename(scratch_path("ledger.db"), away) == 0);
    CHECK_INT(bt_ledger_there(l, &err), BT_EIO);
    CHECK(strstr(err.msg, "ledger.db") != NULL);
    unlink(away);
    bt_ledger_close(l);
    l = ledger_in(scratch_dir); // the locks went with the first
    CHECK_INT(bt_ledger_probe(l, &err), BT_OK);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

int main(void)
{
    RUN(post_charges_and_gives_the_rest_back);
    RUN(what_is_left_is_admitted_and_never_more);
    RUN(a_refusal_leaves_no_trace);
    RUN(each_hold_ends_once);
    RUN(top_up_takes_what_is_left);
    RUN(a_window_is_a_day_from_first_use);
    RUN(a_hold_belongs_to_its_window);
    RUN(clocks_that_step_back);
    RUN(a_batch_happens_whole_or_not);
    RUN(the_owner_changes_things);
    RUN(accounts_are_listed);
    RUN(unlimited_still_counts);
    RUN(engines_are_cumulative);
    RUN(entries_cannot_be_rewritten);
    RUN(a_directory_deleted_under_it);
    RUN(compacting_changes_no_sum);
    RUN(a_random_history_matches_a_model);
    scratch_done();
    return TEST_END();
}
