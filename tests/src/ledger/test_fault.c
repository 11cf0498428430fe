/* SPDX-License-Identifier: Apache-2.0 */
/* test_fault.c - LABEL fault: every allocation, write, sync and open fails once; the books never
 * lie. TIMEOUT 300 */
#include "src/ledger/fault_vfs.h"
#include "src/quota/scratch.h"
#include "ledger/usage.h"
#include "base/mem.h"
#include "base/rng.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* SQLite's own allocations fail here, by the same kind of count. */
static struct {
    sqlite3_mem_methods real;
    long at;
    bool happened;
} sqlite_mem;

static bool sqlite_mem_fails(void)
{
    if (sqlite_mem.at <= 0 || --sqlite_mem.at > 0) return false;
    return sqlite_mem.happened = true;
}
static void *sqlite_malloc(int n)
{
    return sqlite_mem_fails() ? NULL : sqlite_mem.real.xMalloc(n);
}
static void *sqlite_realloc(void *p, int n)
{
    return sqlite_mem_fails() ? NULL : sqlite_mem.real.xRealloc(p, n);
}

static void sqlite_mem_install(void)
{
    sqlite3_mem_methods m;
    REQUIRE(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sqlite_mem.real) == SQLITE_OK);
    m = sqlite_mem.real;
    m.xMalloc = sqlite_malloc;
    m.xRealloc = sqlite_realloc;
    REQUIRE(sqlite3_config(SQLITE_CONFIG_MALLOC, &m) == SQLITE_OK);
    /* No cache of small blocks in front of it: each allocation counts. */
    REQUIRE(sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0) == SQLITE_OK);
}

/* What the callers were told, and so what the books must say. */
typedef struct told {
    int64_t posted_us, open, busy_us, house_us;
    int failures;
    char msg[248]; // of the first failure
} told;

static bool ok(told *t, bt_status s, const bt_err *err)
{
    if (s == BT_OK) return true;
    CHECK(s == BT_ENOMEM || s == BT_EIO || s == BT_EFORMAT || s == BT_EBUSY || s == BT_ENOTFOUND);
    CHECK(err->code == s && *err->msg);
    if (t->failures++ == 0) snprintf(t->msg, sizeof t->msg, "%s", err->msg);
    return false;
}

static void script_usage_file(uint64_t boot, uint64_t request, uint64_t used, told *t)
{
    bt_usage *u = NULL;
    bt_err err;
    if (!ok(t, bt_usage_create(scratch_dir, boot, &u, &err), &err)) return;
    int fd = open(bt_usage_path(u), O_RDWR);
    bt_usage_file *f = mmap(NULL, sizeof *f, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    f->bank[1] = (bt_usage_bank){.busy_us = used + 5, .house_us = 5, .n = 1};
    f->bank[1].entry[0] = (bt_usage_entry){request, used};
    f->head.seq = 1;
    munmap(f, sizeof *f);
    bt_usage_close(u);
}

static bool script_hold(bt_ledger *l, uint64_t r, told *t)
{
    int64_t held;
    bool final;
    bt_ledger_balance b;
    bt_err err;
    char name[16];
    snprintf(name, sizeof name, "key:%d", (int)(r % 3));
    return ok(t, bt_ledger_hold(l, 1, name, r, DAY, SECOND, T0, &held, &final, &b, &err), &err);
}

/* Single calls, then a batch, then the odd ones. Each part goes on after a failure, as a server
 * does. */
static void script_work(bt_ledger *l, told *t)
{
    bt_err err;
    int64_t held;
    bool final, posted = false;
    int64_t batch_open = 0, batch_posted = 0;
    bool one = script_hold(l, 1, t);
    if (one) t->open++;
    if (script_hold(l, 2, t)) t->open++;
    if (one) ok(t, bt_ledger_top_up(l, 1, 2 * SECOND, T0, &held, &final, &err), &err);
    if (one && ok(t, bt_ledger_post(l, 1, 100, 100, T0, NULL, &err), &err)) {
        t->open--;
        t->posted_us += 100;
    }
    if (ok(t, bt_ledger_begin(l, &err), &err)) {
        for (uint64_t r = 3; r < 9; r++)
            if (script_hold(l, r, t)) batch_open++;
        posted = bt_ledger_post(l, 3, 30, 30, T0, NULL, NULL) == BT_OK;
        if (posted) {
            batch_open--;
            batch_posted = 30;
        }
        if (ok(t, bt_ledger_commit(l, &err), &err)) {
            t->open += batch_open;
            t->posted_us += batch_posted;
        }
    }
    if (ok(t, bt_ledger_engine(l, 50, 900, 9, T0, &err), &err)) {
        t->busy_us += 900;
        t->house_us += 9;
    }
    ok(t, bt_ledger_sync(l, &err), &err);
    ok(t, bt_ledger_set_limit(l, "key:1", 3 * DAY, T0, &err), &err);
    ok(t, bt_ledger_compact(l, T0 + 3 * DAY, NULL, &err), &err);
    if (script_hold(l, 20, t)) t->open++;
}

static bool memory_failed; // whether the script met its planned failure of bt_malloc

/* One life of a server under a fault; then the fault is over and another looks at what is left. */
static int script(bool fresh)
{
    told t = {0};
    bt_ledger *l = NULL;
    bt_err err = {0};
    if (fresh) scratch_fresh();
    if (ok(&t, bt_ledger_open(scratch_dir, &l, &err), &err)) {
        script_work(l, &t);
        bt_ledger_close(l);
    } else {
        CHECK(l == NULL);
    }
    fault.at = sqlite_mem.at = 0;
    memory_failed = bt_mem_failed();
    bt_mem_fail_at(0);
    l = ledger_in(scratch_dir);
    CHECK_BOOKS(l);
    bt_ledger_totals sum = totals(l);
    if (fault.no_wal && fault.for_ever) { // ledger.h: the one commit that nobody can be told about
        CHECK(sum.accounts_us >= t.posted_us && sum.busy_us >= t.busy_us);
        bt_ledger_close(l);
        return t.failures;
    }
    CHECK_INT(sum.accounts_us, t.posted_us);
    CHECK_INT(sum.holds_open, t.open);
    CHECK_INT(sum.busy_us, t.busy_us);
    CHECK_INT(sum.house_us, t.house_us);
    bt_ledger_close(l);
    return t.failures;
}

static void fail_loop(const char *what, int kinds, bool for_ever)
{
    long n = 1;
    int quiet = 0;
    for (; n < 5000 && !test_failed; n++) {
        fault.kinds = kinds;
        fault.for_ever = for_ever;
        fault.happened = false;
        fault.at = n;
        int failures = script(true);
        if (fault.happened && failures == 0) quiet++; // at close, or in a sync that is tried again
        if (!fault.happened) break;
    }
    fprintf(stderr, "%s%s: %ld calls failed, %d of them without harm\n", what,
            for_ever ? ", and all after it" : "", n - 1, quiet);
    CHECK(n > 3 && n < 5000);
}

static void file_calls_fail(void)
{
    static const struct {
        const char *what;
        int kinds;
    } row[] = {
        {"open", FAULT_OPEN},
        {"read", FAULT_READ},
        {"write", FAULT_WRITE},
        {"full", FAULT_WRITE | FAULT_FULL},
        {"sync", FAULT_SYNC},
        {"any", FAULT_OPEN | FAULT_READ | FAULT_WRITE | FAULT_SYNC | FAULT_TRUNCATE | FAULT_DELETE},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        fail_loop(row[i].what, row[i].kinds, false);
        fail_loop(row[i].what, row[i].kinds, true);
    }
    fault.no_wal = true;
    fail_loop("any, without WAL", 63, false);
    fail_loop("any, without WAL", 63, true);
    fault.no_wal = fault.for_ever = false;
}

static void allocations_fail(void)
{
    long n = 1;
    for (;; n++) {
        bt_mem_fail_at(n);
        script(true);
        if (!memory_failed) break;
    }
    fprintf(stderr, "%ld allocations failed\n", n - 1);
    CHECK(n > 3);
    long step = 1;
    for (n = 1; n < 1000000 && !test_failed; n += step) {
        sqlite_mem.happened = false;
        sqlite_mem.at = n;
        script(true);
        if (!sqlite_mem.happened) break;
        step = n < 400 ? 1 : 17; // the later ones are the same few statements again and again
    }
    fprintf(stderr, "SQLite: allocations up to the %ld-th failed\n", n - 1);
    CHECK(n > 400);
}

/* Settling under faults: tried until it succeeds, it books once. */
static void settling_survives_faults(void)
{
    for (long n = 1; n < 1000 && !test_failed; n++) {
        told t = {0};
        bt_err err = {0};
        scratch_fresh();
        fault.at = 0;
        bt_ledger *l = ledger_in(scratch_dir);
        CHECK(script_hold(l, 1, &t) && script_hold(l, 2, &t));
        script_usage_file(70, 1, 400, &t);
        fault.kinds = 63;
        fault.for_ever = n % 2;
        fault.happened = false;
        fault.at = n / 2 + 1;
        bt_mem_fail_at(n % 5 == 4 ? n / 5 + 1 : 0);
        bool done = ok(&t, bt_ledger_recover(l, scratch_dir, 2, T0, NULL, NULL, &err), &err);
        bool happened = fault.happened || bt_mem_failed();
        fault.at = 0;
        bt_mem_fail_at(0);
        if (!done) CHECK_INT(bt_ledger_recover(l, scratch_dir, 2, T0, NULL, NULL, NULL), BT_OK);
        CHECK_INT(totals(l).busy_us, 405);
        CHECK_INT(totals(l).house_us, 5);
        CHECK_INT(totals(l).accounts_us, 400);
        CHECK_INT(totals(l).holds_open, 0);
        CHECK_BOOKS(l);
        bt_ledger_close(l);
        if (!happened && n > 60) break;
    }
}

static void a_full_disk_is_said_and_passes(void)
{
    bt_err err = {0};
    told t = {0};
    bt_ledger *l = ledger_in(scratch_fresh());
    CHECK(script_hold(l, 1, &t));
    fault.kinds = FAULT_WRITE | FAULT_FULL;
    fault.for_ever = true;
    fault.at = 1;
    CHECK_INT(bt_ledger_post(l, 1, 5, 5, T0, NULL, &err), BT_EIO);
    CHECK(strstr(err.msg, "is full; free some space") != NULL);
    CHECK_INT(bt_ledger_begin(l, NULL), BT_OK);
    CHECK(script_hold(l, 2, &t)); // fits the cache: told at commit
    CHECK_INT(bt_ledger_commit(l, &err), BT_EIO);
    CHECK(strstr(err.msg, "is full") != NULL);
    CHECK_INT(totals(l).holds_open, 1);
    fault.at = 0;
    CHECK_INT(bt_ledger_post(l, 1, 5, 5, T0, NULL, NULL), BT_OK); // space again: it goes on
    CHECK_INT(totals(l).accounts_us, 5);
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

static void without_wal_it_works_too(void)
{
    uint8_t header[20] = {0};
    for (int no_wal = 0; no_wal < 2; no_wal++) {
        fault.no_wal = no_wal;
        CHECK_INT(script(true), 0);
        FILE *f = fopen(scratch_path("ledger.db"), "rb");
        CHECK(f && fread(header, 1, 20, f) == 20);
        fclose(f);
        CHECK_INT(header[18], no_wal ? 1 : 2); // file format: 2 = WAL
    }
    fault.no_wal = false;
    bt_ledger *l = ledger_in(scratch_dir); // moved to a better disk
    CHECK_BOOKS(l);
    bt_ledger_close(l);
}

typedef struct bytes {
    uint8_t *p;
    size_t n;
} bytes;

static bytes file_bytes(const char *path)
{
    bytes b = {NULL, 0};
    FILE *f = fopen(path, "rb");
    REQUIRE(f != NULL);
    fseek(f, 0, SEEK_END);
    b.n = (size_t)ftell(f);
    rewind(f);
    b.p = malloc(b.n + 1);
    REQUIRE(fread(b.p, 1, b.n, f) == b.n);
    fclose(f);
    return b;
}

static void file_put(const char *path, const uint8_t *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    REQUIRE(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
}

/* Opens whatever lies there. Refused: in words, and the file is as it was. Opened: everything can
 * be called. */
static bt_status open_damaged(const uint8_t *p, size_t n)
{
    bt_ledger *l = NULL;
    bt_err err = {0};
    scratch_fresh();
    char path[600];
    snprintf(path, sizeof path, "%s", scratch_path("ledger.db"));
    file_put(path, p, n);
    bt_status s = bt_ledger_open(scratch_dir, &l, &err);
    if (s != BT_OK) {
        if (s != BT_EFORMAT) fprintf(stderr, "%s\n", err.msg);
        CHECK_INT(s, BT_EFORMAT);
        CHECK(strstr(err.msg, "ledger.db") != NULL);
        bytes after = file_bytes(path);
        CHECK(after.n == n && memcmp(after.p, p, n) == 0);
        free(after.p);
        return s;
    }
    told t = {0};
    bt_ledger_check(l, NULL);
    for (uint64_t r = 900; r < 904; r++) script_hold(l, r, &t);
    bt_ledger_post(l, 900, 5, 5, T0, NULL, NULL);
    bt_ledger_recover(l, scratch_dir, 3, T0, NULL, NULL, NULL);
    bt_ledger_compact(l, T0 + 9 * DAY, NULL, NULL);
    bt_ledger_close(l);
    return s;
}

static void damage_is_refused_and_left_alone(void)
{
    told t = {0};
    bt_ledger *l = ledger_in(scratch_fresh());
    CHECK_INT(bt_ledger_begin(l, NULL), BT_OK);
    for (uint64_t r = 1; r <= 400; r++) {
        CHECK(script_hold(l, bt_hash_u64(r), &t));
        if (r % 3) CHECK_INT(bt_ledger_post(l, bt_hash_u64(r), 5, 5, T0, NULL, NULL), BT_OK);
    }
    CHECK_INT(bt_ledger_commit(l, NULL), BT_OK);
    bt_ledger_close(l);
    bytes good = file_bytes(scratch_path("ledger.db"));
    CHECK_INT(open_damaged(good.p, good.n), BT_OK);
    int refused = 0, tries = 400;
    for (int i = 0; i < tries; i++) {
        uint8_t *bad = malloc(good.n);
        memcpy(bad, good.p, good.n);
        /* A third in the first header, a third in page headers, a third anywhere; now and then a
         * run. */
        uint64_t r = bt_rng_u64(9, (uint64_t)i);
        size_t at = (size_t)(r >> 8) % good.n;
        if (i % 3 == 0) at %= 100;
        if (i % 3 == 1) at = at / 4096 * 4096 + at % 32;
        size_t run = r % 4 == 0 ? 64 : 1;
        for (size_t k = 0; k < run && at + k < good.n; k++) bad[at + k] ^= (uint8_t)(r >> 40 | 1);
        refused += open_damaged(bad, good.n) != BT_OK;
        free(bad);
    }
    fprintf(stderr, "%d of %d damaged files refused\n", refused, tries);
    CHECK(refused > tries / 4);
    for (size_t n = 1; n < good.n; n += n < 2048 ? 127 : 2048)
        CHECK_INT(open_damaged(good.p, n), BT_EFORMAT);
    CHECK_INT(open_damaged((const uint8_t *)"", 0), BT_OK); // nothing at all: a new one
    CHECK_INT(open_damaged((const uint8_t *)"Dear diary", 10), BT_EFORMAT);
    free(good.p);
}

static void others_databases_are_refused(void)
{
    static const struct {
        const char *sql, *says;
    } row[] = {
        {"CREATE TABLE recipes(x)", "another program"},
        {"PRAGMA user_version = 9", "another program"},
        {"PRAGMA application_id = 1112822092; PRAGMA user_version = 2; CREATE TABLE x(y)",
         "has format 2"},
        {"PRAGMA application_id = 1112822092; PRAGMA user_version = 1; CREATE TABLE x(y)",
         "damaged (no such table"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        sqlite3 *db = NULL;
        bt_ledger *l = NULL;
        bt_err err = {0};
        scratch_fresh();
        CHECK_INT(sqlite3_open(scratch_path("ledger.db"), &db), SQLITE_OK);
        CHECK_INT(sqlite3_exec(db, row[i].sql, 0, 0, 0), SQLITE_OK);
        sqlite3_close(db);
        CHECK_INT(bt_ledger_open(scratch_dir, &l, &err), BT_EFORMAT);
        if (!strstr(err.msg, row[i].says)) fprintf(stderr, "%s\n", err.msg);
        CHECK(strstr(err.msg, row[i].says) != NULL);
    }
}

static void places_that_cannot_be_used(void)
{
    bt_ledger *l = NULL;
    bt_err err = {0};
    scratch_fresh();
    CHECK_INT(bt_ledger_open(scratch_path("nowhere"), &l, &err), BT_EIO);
    CHECK(strstr(err.msg, "nowhere does not exist") && strstr(err.msg, "--data"));
    file_put(scratch_path("file"), (const uint8_t *)"x", 1);
    CHECK_INT(bt_ledger_open(scratch_path("file"), &l, &err), BT_EIO);
    CHECK(strstr(err.msg, "--data") != NULL);
    mkdir(scratch_path("ledger.db"), 0700); // a folder where the file should be
    CHECK_INT(bt_ledger_open(scratch_dir, &l, &err), BT_EIO);
    CHECK(strstr(err.msg, "cannot be written") != NULL);
    scratch_fresh();
    l = ledger_in(scratch_dir);
    bt_ledger_close(l);
    if (geteuid() == 0) {
        fprintf(stderr, "SKIP read-only folder and file: root may write anyway\n");
        return;
    }
    l = NULL;
    chmod(scratch_path("ledger.db"), 0400);
    CHECK_INT(bt_ledger_open(scratch_dir, &l, &err), BT_EIO);
    CHECK(strstr(err.msg, "may not be written") != NULL);
    chmod(scratch_dir, 0500);
    unlink(scratch_path("lock"));
    CHECK_INT(bt_ledger_open(scratch_dir, &l, &err), BT_EIO);
    chmod(scratch_dir, 0700);
}

static void two_servers_cannot_share_a_folder(void)
{
    bt_ledger *l = ledger_in(scratch_fresh()), *second = NULL;
    bt_err err = {0};
    char pid[32];
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    CHECK_INT(bt_ledger_open(scratch_dir, &second, &err), BT_EBUSY);
    CHECK(strstr(err.msg, pid) && strstr(err.msg, "--data"));
    pid_t child = fork();
    if (child == 0) _exit(bt_ledger_open(scratch_dir, &second, NULL) == BT_EBUSY ? 0 : 1);
    int how = -1;
    CHECK(waitpid(child, &how, 0) == child && how == 0);
    bt_ledger_close(l);
    l = ledger_in(scratch_dir); // free again
    bt_ledger_close(l);
    /* A server that is killed leaves no lock behind. */
    int told_fd[2];
    char c;
    REQUIRE(pipe(told_fd) == 0);
    child = fork();
    if (child == 0) {
        ledger_in(scratch_dir);
        if (write(told_fd[1], "x", 1) == 1) pause();
        _exit(1);
    }
    CHECK_INT(read(told_fd[0], &c, 1), 1);
    CHECK_INT(bt_ledger_open(scratch_dir, &second, &err), BT_EBUSY);
    snprintf(pid, sizeof pid, "process %ld", (long)child);
    CHECK(strstr(err.msg, pid) != NULL);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(told_fd[0]);
    close(told_fd[1]);
    l = ledger_in(scratch_dir);
    bt_ledger_close(l);
}

int main(void)
{
    sqlite_mem_install();
    fault_install();
    fault.no_sync = true; // counted and failed, but not waited for
    RUN(file_calls_fail);
    RUN(allocations_fail);
    RUN(settling_survives_faults);
    RUN(a_full_disk_is_said_and_passes);
    RUN(without_wal_it_works_too);
    RUN(damage_is_refused_and_left_alone);
    RUN(others_databases_are_refused);
    RUN(places_that_cannot_be_used);
    RUN(two_servers_cannot_share_a_folder);
    scratch_done();
    return TEST_END();
}
