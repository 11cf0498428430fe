/* SPDX-License-Identifier: Apache-2.0 */
/* test_recover.c - LABEL fault: whoever dies when, nothing used is lost and nothing stays held.
 * TIMEOUT 120 */
#include "src/ledger/fault_vfs.h"
#include "src/ledger/storm.h"
#include "base/clock.h"
#include <unistd.h>
#include <signal.h>
#include <sys/wait.h>

/* Writes a usage file as an engine leaves it. entries: request, used, request, used, ..., 0 */
static void leave_usage(uint64_t boot, uint64_t house, uint64_t closed, const uint64_t *entries)
{
    bt_usage *u = NULL;
    REQUIRE(bt_usage_create(scratch_dir, boot, &u, NULL) == BT_OK);
    int fd = open(bt_usage_path(u), O_RDWR);
    bt_usage_file *f = mmap(NULL, sizeof *f, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    REQUIRE(f != MAP_FAILED);
    bt_usage_bank *b = &f->bank[1];
    b->house_us = house;
    b->closed_us = closed;
    b->busy_us = house + closed;
    for (; entries && *entries; entries += 2) {
        b->entry[b->n++] = (bt_usage_entry){entries[0], entries[1]};
        b->busy_us += entries[1];
    }
    f->head.seq = 1;
    munmap(f, sizeof *f);
    bt_usage_close(u);
}

static bool usage_left(void)
{
    char path[600];
    snprintf(path, sizeof path, "%s/usage", scratch_dir);
    DIR *d = opendir(path);
    bool any = false;
    struct dirent *e;
    while (d && (e = readdir(d))) any |= strstr(e->d_name, ".use") != NULL;
    if (d) closedir(d);
    return any;
}

static void each_state_of_a_request_is_settled(void)
{
    int posted = -1, voided = -1;
    bt_ledger *l = ledger_in(scratch_fresh());
    bt_ledger_set_price(l, 1.5);
    for (uint64_t r = 1; r <= 6; r++) CHECK_INT(hold(l, "key:a", r, SECOND, T0), SECOND);
    CHECK_INT(bt_ledger_post(l, 2, 70, 105, T0, NULL, NULL), BT_OK); // posted, not yet released
    CHECK_INT(bt_ledger_post(l, 3, 50, 75, T0, NULL, NULL), BT_OK); // cut off, then 30 us in flight
    CHECK_INT(bt_ledger_void(l, 4, T0, NULL, NULL), BT_OK);         // but had used 5
    CHECK_INT(bt_ledger_post(l, 5, 400, 600, T0, NULL, NULL), BT_OK); // released: closed
    CHECK_INT(bt_ledger_engine(l, 77, 500, 20, T0, NULL), BT_OK);     // reported on the way
    leave_usage(77, 40, 400, (uint64_t[]){1, 101, 2, 70, 3, 80, 4, 5, 99, 9, 0});
    CHECK_INT(bt_ledger_recover(l, scratch_dir, 2, T0 + 1, &posted, &voided, NULL), BT_OK);
    CHECK_INT(posted, 1);
    CHECK_INT(voided, 1); // request 6 never ran
    bt_ledger_totals t = totals(l);
    CHECK_INT(t.busy_us, 40 + 400 + 101 + 70 + 80 + 5 + 9);
    CHECK_INT(t.accounts_us, 101 + 70 + 50 + 400);
    CHECK_INT(t.house_us, 40 + 30 + 5 + 9);
    CHECK_INT(t.busy_us, t.accounts_us + t.house_us);
    CHECK_INT(t.charged_us, 152 + 105 + 75 + 600); // 101 x 1.5, rounded
    CHECK_INT(t.holds_open, 0);
    CHECK_INT(balance(l, "key:a", T0).held_us, 0);
    CHECK_INT(balance(l, "key:a", T0).used_us, t.charged_us);
    CHECK_INT(usage_left(), false);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

static void settling_twice_changes_nothing(void)
{
    bt_ledger *l = ledger_in(scratch_fresh());
    const uint64_t entries[] = {1, 101, 2, 30, 99, 9, 0};
    CHECK_INT(hold(l, "key:a", 1, SECOND, T0), SECOND);
    CHECK_INT(hold(l, "key:a", 2, SECOND, T0), SECOND);
    for (int i = 0; i < 3; i++) {
        leave_usage(77, 40, 0, entries); // as if the removal had been lost
        CHECK_INT(bt_ledger_recover(l, scratch_dir, 2, T0 + 1, NULL, NULL, NULL), BT_OK);
        CHECK_INT(totals(l).busy_us, 180);
        CHECK_INT(totals(l).house_us, 49);
        CHECK_INT(totals(l).accounts_us, 131);
    }
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

static void one_engine_dies_and_front_goes_on(void)
{
    char path[600];
    int64_t held;
    bool final;
    bt_ledger *l = ledger_in(scratch_fresh());
    CHECK_INT(hold(l, "key:a", 1, SECOND, T0), SECOND);
    CHECK_INT(hold(l, "key:a", 2, SECOND, T0), SECOND);
    leave_usage(0xAB, 1, 0, (uint64_t[]){1, 500, 0});
    snprintf(path, sizeof path, "%s/usage/00000000000000ab.use", scratch_dir);
    CHECK_INT(bt_ledger_settle_engine(l, path, T0, NULL), BT_OK);
    bt_ledger_balance b;
    CHECK_INT(bt_ledger_post(l, 1, 480, 480, T0, &b, NULL), BT_OK); // its own post comes late
    CHECK_INT(b.used_us, 500);
    CHECK_INT(bt_ledger_top_up(l, 2, 2 * SECOND, T0, &held, &final, NULL), BT_OK); // still waits
    CHECK_INT(held, 2 * SECOND);
    CHECK_INT(bt_ledger_settle_engine(l, path, T0, NULL), BT_ENOTFOUND);
    bt_ledger_close(l);
}

static void the_window_of_a_late_post_is_its_own(void)
{
    bt_ledger *l = ledger_in(scratch_fresh());
    CHECK_INT(hold(l, "key:a", 1, 60 * SECOND, T0), 60 * SECOND);
    leave_usage(7, 0, 0, (uint64_t[]){1, 50 * SECOND, 0});
    CHECK_INT(hold(l, "key:a", 2, SECOND, T0 + 2 * DAY), SECOND);
    CHECK_INT(bt_ledger_recover(l, scratch_dir, 1, T0 + 2 * DAY, NULL, NULL, NULL), BT_OK);
    bt_ledger_balance b = balance(l, "key:a", T0 + 2 * DAY);
    CHECK_INT(b.used_us, 0);
    CHECK_INT(b.held_us, SECOND); // of boot 1, which lives
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

/* Loads len bytes as a usage file: the status, never a crash. */
static bt_status parse_usage(const void *data, size_t len, bt_usage_bank *bank)
{
    uint64_t boot;
    void *copy = malloc(len + !len); // exact: the sanitizer sees one byte too far
    memcpy(copy, data, len);
    bt_err err = {0};
    bt_status s = bt_usage_parse(copy, len, "x.use", &boot, bank, &err);
    if (s != BT_OK) CHECK(*err.msg);
    free(copy);
    return s;
}

static void bad_usage_files_are_told_apart(void)
{
    static bt_usage_file f;
    static bt_usage_bank bank;
    scratch_fresh();
    leave_usage(5, 3, 0, (uint64_t[]){8, 20, 9, 30, 0});
    FILE *in = fopen(scratch_path("usage/0000000000000005.use"), "rb");
    REQUIRE(in && fread(&f, 1, sizeof f, in) == sizeof f);
    fclose(in);
    CHECK_INT(parse_usage(&f, sizeof f, &bank), BT_OK);
    CHECK_INT(bank.busy_us, 53);
    for (size_t n = 0; n < sizeof f; n += n < 200 ? 1 : 997)
        CHECK_INT(parse_usage(&f, n, &bank), BT_EFORMAT);
    char *longer = calloc(1, sizeof f + 1);
    memcpy(longer, &f, sizeof f);
    CHECK_INT(parse_usage(longer, sizeof f + 1, &bank), BT_EFORMAT);
    free(longer);

    bt_usage_file bad = f;
    bad.head.magic++;
    CHECK_INT(parse_usage(&bad, sizeof bad, &bank), BT_EFORMAT);
    bad = f;
    bad.head.boot = 0;
    CHECK_INT(parse_usage(&bad, sizeof bad, &bank), BT_EFORMAT);
    bad = f;
    bad.bank[1].busy_us++; // torn; the bank before it is whole and empty
    CHECK_INT(parse_usage(&bad, sizeof bad, &bank), BT_OK);
    CHECK_INT(bank.busy_us, 0);
    bad.bank[0].n = BT_USAGE_ENTRIES + 1;
    CHECK_INT(parse_usage(&bad, sizeof bad, &bank), BT_EFORMAT);
    bad = f;
    bad.bank[0].busy_us = 1;
    bad.bank[1].entry[1].request = 8; // one request twice
    CHECK_INT(parse_usage(&bad, sizeof bad, &bank), BT_EFORMAT);
    bad = f;
    bad.bank[0].busy_us = 1;
    bad.bank[1].entry[0].used_us = UINT64_MAX - 32; // sums that wrap round to the right number
    bad.bank[1].entry[1].used_us = 50 + 33;
    CHECK_INT(parse_usage(&bad, sizeof bad, &bank), BT_EFORMAT);
}

/* Front reads a file that somebody has cut short under it: an error, not a signal. */
static void cut_short_under_the_reader(void)
{
    bt_usage *u = NULL;
    struct stat st;
    bt_err err = {0};
    static bt_usage_bank seen;
    scratch_fresh();
    for (off_t keep = 0; keep < (off_t)sizeof(bt_usage_file); keep += 3000) {
        REQUIRE(bt_usage_create(scratch_dir, 3, &u, NULL) == BT_OK);
        REQUIRE(truncate(bt_usage_path(u), keep) == 0);
        bt_status status = bt_usage_read(u, &seen, &err);
        CHECK(status == BT_OK || status == BT_EFORMAT); // what it needs may still be there
        if (status) CHECK(strstr(err.msg, "cut short") != NULL);
        if (status) CHECK(stat(bt_usage_path(u), &st) == 0 && st.st_size == sizeof(bt_usage_file));
        bt_usage_close(u);
    }
}

static void bad_usage_files_are_set_aside(void)
{
    bt_ledger *l = ledger_in(scratch_fresh());
    CHECK_INT(hold(l, "key:a", 1, SECOND, T0), SECOND);
    leave_usage(5, 3, 0, (uint64_t[]){1, 20, 0});
    leave_usage(6, 4, 0, NULL);
    CHECK_INT(truncate(scratch_path("usage/0000000000000005.use"), 1000), 0);
    FILE *f = fopen(scratch_path("usage/notes.use"), "w");
    fputs("hello", f);
    fclose(f);
    f = fopen(scratch_path("usage/half.tmp"), "w");
    fclose(f);
    int posted = -1, voided = -1;
    CHECK_INT(bt_ledger_recover(l, scratch_dir, 2, T0, &posted, &voided, NULL), BT_OK);
    CHECK_INT(posted, 0);
    CHECK_INT(voided, 1);
    CHECK_INT(totals(l).house_us, 4); // the good one was settled all the same
    CHECK_INT(access(scratch_path("usage/0000000000000005.use.bad"), F_OK), 0);
    CHECK_INT(access(scratch_path("usage/notes.use.bad"), F_OK), 0);
    CHECK_INT(access(scratch_path("usage/notes.use"), F_OK), -1);
    CHECK_INT(access(scratch_path("usage/half.tmp"), F_OK), -1);
    CHECK_INT(bt_ledger_recover(l, scratch_dir, 2, T0, &posted, &voided, NULL), BT_OK);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

static void a_running_file_is_read_whole(void)
{
    scratch_fresh();
    bt_usage *u = NULL;
    bt_usage_bank *seen = malloc(sizeof *seen);
    REQUIRE(bt_usage_create(scratch_dir, 3, &u, NULL) == BT_OK);
    CHECK_INT(bt_usage_read(u, seen, NULL), BT_OK);
    CHECK_INT(seen->busy_us, 0);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) { // writes without a pause: the worst a reader can meet
        storm s = {.seed = 1};
        int fd = open(bt_usage_path(u), O_RDWR);
        s.file = mmap(NULL, sizeof *s.file, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        for (;;) {
            int i = (int)storm_draw(&s, STORM_RUNNING);
            uint64_t us = storm_draw(&s, 1000);
            s.run[i].request = (uint64_t)i + 1;
            s.run[i].used_us += us;
            s.bank.busy_us += us;
            storm_write_usage(&s);
        }
    }
    uint64_t last = 0;
    int read = 0;
    for (int i = 0; i < 20000; i++) {
        bt_status st = bt_usage_read(u, seen, NULL);
        if (st == BT_EBUSY) continue;
        CHECK_INT(st, BT_OK);
        CHECK(seen->busy_us >= last);
        last = seen->busy_us;
        read++;
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    CHECK_INT(bt_usage_read(u, seen, NULL), BT_OK);
    CHECK(read > 0 && seen->busy_us >= last);
    CHECK_INT(fdatasync(bt_usage_fd(u)), 0);
    bt_usage_close(u);
    free(seen);
}

static int64_t entry_device(sqlite3 *db, uint64_t request)
{
    sqlite3_stmt *s = NULL;
    int64_t v = -1;
    sqlite3_prepare_v2(db, "SELECT device_us FROM entries WHERE request = ?1", -1, &s, NULL);
    sqlite3_bind_int64(s, 1, (int64_t)request);
    if (sqlite3_step(s) == SQLITE_ROW) v = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return v;
}

/* The storm, killed; then every promise checked against what the dead had written. */
static void storm_round(uint64_t seed, storm_shared *shared, uint64_t *busy_all)
{
    static bt_usage_bank bank;
    uint64_t boot;
    char name[64];
    shared->n_posted = shared->steps = 0;
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        static storm s;
        if (!storm_open(&s, scratch_dir, seed, shared)) _exit(3);
        for (;;) {
            storm_front(&s);
            storm_step(&s);
        }
    }
    /* After some steps, however slow the machine; or none, to meet the opening too. */
    uint64_t most = fault.no_wal ? 12 : 60; // there each commit waits for the disk
    uint64_t steps = bt_rng_u64(seed, 2) % 5 ? bt_rng_u64(seed, 3) % most : 0;
    for (int ms = 0; ms < 5000; ms++) {
        if (__atomic_load_n(&shared->steps, __ATOMIC_ACQUIRE) >= steps) break;
        bt_sleep_ns(1000000);
    }
    bt_sleep_ns((int64_t)(bt_rng_u64(seed, 1) % 10000000));
    kill(pid, SIGKILL);
    int how = 0;
    REQUIRE(waitpid(pid, &how, 0) == pid && WIFSIGNALED(how));

    snprintf(name, sizeof name, "usage/%016llx.use", (unsigned long long)(seed * 2 + 2));
    bool wrote = bt_usage_load(scratch_path(name), &boot, &bank, NULL) == BT_OK;
    if (wrote) *busy_all += bank.busy_us;
    bt_ledger *l = ledger_in(scratch_dir);
    CHECK_BOOKS(l);
    CHECK_INT(bt_ledger_recover(l, scratch_dir, 999, T0, NULL, NULL, NULL), BT_OK);
    bt_ledger_totals t = totals(l);
    CHECK_INT(t.holds_open, 0);
    CHECK_INT(t.busy_us, *busy_all);
    CHECK_INT(t.accounts_us + t.house_us, t.busy_us);
    CHECK_INT(usage_left(), false);
    CHECK_BOOKS(l);
    bt_ledger_close(l);

    sqlite3 *db = NULL;
    CHECK_INT(sqlite3_open(scratch_path("ledger.db"), &db), SQLITE_OK);
    sqlite3_exec(db, "PRAGMA locking_mode = EXCLUSIVE", 0, 0, 0); // no shared memory here
    for (uint64_t i = 0; i < shared->n_posted; i++) // what was told to be committed is there
        CHECK_INT(entry_device(db, shared->posted[i].request), shared->posted[i].used_us);
    for (uint64_t i = 0; wrote && i < bank.n; i++) // what ran is paid, to the microsecond
        CHECK_INT(entry_device(db, bank.entry[i].request), bank.entry[i].used_us);
    sqlite3_close(db);
}

static void killed_at_any_instant(void)
{
    storm_shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t busy = 0, busy_wal = 0, posted = 0;
    REQUIRE(shared != MAP_FAILED);
    scratch_fresh();
    for (uint64_t seed = 1; seed <= 80 && !test_failed; seed++) {
        if (seed == 61) { // the rest with a rollback journal
            scratch_fresh();
            fault.no_wal = true;
            busy_wal = busy;
            busy = 0;
        }
        storm_round(seed, shared, &busy);
        posted += shared->n_posted;
    }
    fault.no_wal = false;
    fprintf(stderr, "80 kills: %llu posts had been told, %.1f s of device time in the books\n",
            (unsigned long long)posted, (double)(busy + busy_wal) * 1e-6);
    CHECK(posted > 200 && busy > 0);
    munmap(shared, sizeof *shared);
}

int main(void)
{
    fault_install();
    RUN(each_state_of_a_request_is_settled);
    RUN(settling_twice_changes_nothing);
    RUN(one_engine_dies_and_front_goes_on);
    RUN(the_window_of_a_late_post_is_its_own);
    RUN(bad_usage_files_are_told_apart);
    RUN(bad_usage_files_are_set_aside);
    RUN(cut_short_under_the_reader);
    RUN(a_running_file_is_read_whole);
    RUN(killed_at_any_instant);
    scratch_done();
    return TEST_END();
}
