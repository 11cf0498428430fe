/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL unit */
#include "engine/meter.h"
#include "base/rng.h"
#include "test.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/baton-books-XXXXXX";
static char path[64];

static bt_usage_file read_file(void)
{
    bt_usage_file f;
    int fd = open(path, O_RDONLY);
    REQUIRE(fd >= 0 && read(fd, &f, sizeof f) == (ssize_t)sizeof f);
    close(fd);
    return f;
}

static void check_balance(const bt_usage_bank *b)
{
    uint64_t sum = b->house_us + b->closed_us;
    REQUIRE(b->n <= BT_USAGE_ENTRIES);
    for (uint64_t i = 0; i < b->n; i++) {
        CHECK(b->entry[i].request != 0);
        sum += b->entry[i].used_us;
    }
    CHECK_INT(b->busy_us, sum);
}

/* The file as another process sees it balances after each publish, and says what the books say. */
static void file_follows_the_books(void)
{
    static bt_meter b;
    bt_err err = {0};
    uint64_t live[64] = {0}, id = 1, n = 0;
    unlink(path);
    REQUIRE(!bt_meter_open(&b, path, &err));
    CHECK(b.boot != 0);
    for (int32_t step = 0; step < 3000; step++) {
        uint64_t *slot = &live[bt_rng_u64(4, n++) % 64];
        if (*slot == 0) {
            *slot = id++;
            bt_meter_add(&b, *slot);
        } else if (bt_rng_u64(4, n++) % 4 == 0) {
            CHECK(!bt_meter_release(&b, *slot)); // still running
            bt_meter_end(&b, *slot);
            CHECK(bt_meter_release(&b, *slot));
            CHECK(!bt_meter_release(&b, *slot));
            *slot = 0;
        } else {
            bt_meter_charge(&b, *slot, bt_rng_u64(4, n++) % 5000);
        }
        if (step % 5 == 0) bt_meter_charge_house(&b, 3);
        bt_meter_publish(&b);
        if (step % 50) continue;
        bt_usage_file f = read_file();
        CHECK_INT(f.head.magic, BT_USAGE_MAGIC);
        CHECK_INT(f.head.bytes, sizeof f);
        CHECK_INT(f.head.boot, b.boot);
        check_balance(&f.bank[f.head.seq & 1]);
        CHECK_INT(f.bank[f.head.seq & 1].busy_us, b.bank.busy_us);
        CHECK_INT(f.bank[f.head.seq & 1].n, b.bank.n);
    }
    bt_meter_close(&b);
    /* The books of a boot that nobody settled are not written over. */
    CHECK_INT(bt_meter_open(&b, path, &err), BT_EFORMAT);
    CHECK(strstr(err.msg, "older engine") != NULL);
}

static void prepared_file_keeps_its_boot(void)
{
    static bt_meter b;
    static bt_usage_file f = {
        .head.magic = BT_USAGE_MAGIC, .head.bytes = sizeof f, .head.boot = 4242};
    bt_err err = {0};
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    REQUIRE(fd >= 0 && write(fd, &f, sizeof f) == (ssize_t)sizeof f);
    close(fd);
    REQUIRE(!bt_meter_open(&b, path, &err));
    CHECK_INT(b.boot, 4242);
    bt_meter_close(&b);
}

/* Somebody cuts the file short, or all of it away: the engine lives on, and once the file has its
 * length again the next step makes it whole. */
static void cut_short_under_the_engine(void)
{
    static bt_meter b;
    unlink(path);
    REQUIRE(!bt_meter_open(&b, path, NULL));
    bt_meter_add(&b, 5);
    for (off_t keep = 0; keep < (off_t)sizeof(bt_usage_file); keep += 5000) {
        REQUIRE(truncate(path, keep) == 0);
        bt_meter_charge(&b, 5, 100);
        bt_meter_publish(&b);
        REQUIRE(truncate(path, sizeof(bt_usage_file)) == 0);
        bt_meter_charge(&b, 5, 100);
        bt_meter_publish(&b);
        bt_usage_file f = read_file();
        CHECK_INT(f.head.magic, BT_USAGE_MAGIC);
        CHECK_INT(f.head.boot, b.boot);
        check_balance(&f.bank[f.head.seq & 1]);
        CHECK_INT(f.bank[f.head.seq & 1].entry[0].used_us, b.bank.entry[0].used_us);
    }
    bt_meter_close(&b);
}

static void refusals(void)
{
    static bt_meter b;
    bt_err err = {0};
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    REQUIRE(fd >= 0 && write(fd, "short", 5) == 5);
    CHECK_INT(bt_meter_open(&b, path, &err), BT_EFORMAT);
    REQUIRE(ftruncate(fd, sizeof(bt_usage_file)) == 0);
    CHECK_INT(bt_meter_open(&b, path, &err), BT_EFORMAT); // right size, wrong magic
    close(fd);
    CHECK_INT(bt_meter_open(&b, "/nonexistent/folder/x", &err), BT_EIO);
    CHECK_INT(bt_meter_open(&b, dir, &err), BT_EIO);
    CHECK(strstr(err.msg, dir) != NULL);
}

static void table_is_bounded(void)
{
    static bt_meter b;
    REQUIRE(!bt_meter_open(&b, NULL, NULL));
    for (uint64_t i = 1; i <= BT_USAGE_ENTRIES; i++) {
        CHECK(!bt_meter_full(&b));
        bt_meter_add(&b, i);
    }
    CHECK(bt_meter_full(&b));
    CHECK(bt_meter_has(&b, 7) && !bt_meter_has(&b, 5000));
    bt_meter_end(&b, 7);
    CHECK(bt_meter_release(&b, 7) && !bt_meter_full(&b));
    bt_meter_close(&b);
}

int main(void)
{
    REQUIRE(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/usage", dir);
    RUN(file_follows_the_books);
    RUN(prepared_file_keeps_its_boot);
    RUN(cut_short_under_the_engine);
    RUN(refusals);
    RUN(table_is_bounded);
    unlink(path);
    rmdir(dir);
    return TEST_END();
}
