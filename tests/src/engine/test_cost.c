/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL unit */
#include "engine/cost.h"
#include "base/rng.h"
#include "test.h"
#include <unistd.h>

/* Whatever the weights, each microsecond goes to exactly one part and nobody is off by a whole one.
 */
static void split_is_exact(void)
{
    double weight[BT_COST_PARTS_MAX];
    uint64_t part[BT_COST_PARTS_MAX], n = 0;
    for (int32_t round = 0; round < 10000; round++) {
        int32_t parts = 1 + (int32_t)(bt_rng_u64(2, n++) % (round % 10 ? 20 : BT_COST_PARTS_MAX));
        uint64_t shift = bt_rng_u64(2, n++) % 40 + 24, sum = 0;
        uint64_t total = bt_rng_u64(2, n++) >> shift;
        double all = 0;
        for (int32_t i = 0; i < parts; i++) {
            weight[i] = bt_rng_unit(2, n++) * (round % 7 ? 1.0 : 1e9);
            if (bt_rng_u64(2, n++) % 5 == 0) weight[i] = 0;
            all += weight[i];
        }
        bt_cost_split(total, weight, parts, part);
        bool fair = true;
        for (int32_t i = 0; i < parts; i++) {
            sum += part[i];
            double exact = all > 0 ? (double)total * weight[i] / all : (double)total / parts;
            if (fabs((double)part[i] - exact) > 1 + (double)total * 1e-9) fair = false;
        }
        CHECK_INT(sum, total);
        CHECK(fair);
    }
}

static void split_small_cases(void)
{
    uint64_t part[4];
    bt_cost_split(10, (double[]){1, 1, 1}, 3, part);
    CHECK_INT(part[0], 4); // ties: the lower index
    CHECK_INT(part[1], 3);
    CHECK_INT(part[2], 3);
    bt_cost_split(7, (double[]){0, 0}, 2, part);
    CHECK_INT(part[0] + part[1], 7);
    bt_cost_split(0, (double[]){1, 2}, 2, part);
    CHECK_INT(part[0] + part[1], 0);
    bt_cost_split(UINT64_MAX / 2, (double[]){3, 1}, 2, part);
    CHECK(part[0] + part[1] == UINT64_MAX / 2);
    CHECK_NEAR((double)part[0] / (double)part[1], 3, 1e-6);
}

typedef struct device {
    double prefill, decode, read, fixed;
} device;

static bt_cost_work random_work(uint64_t *n)
{
    bt_cost_work w = {0};
    w.decode_rows = (int64_t)(bt_rng_u64(3, (*n)++) % 9);
    if (bt_rng_u64(3, (*n)++) % 2 || w.decode_rows == 0)
        w.prefill_rows = 1 + (int64_t)(bt_rng_u64(3, (*n)++) % 256);
    w.kv_reads = (w.decode_rows + w.prefill_rows) * (int64_t)(bt_rng_u64(3, (*n)++) % 1000);
    w.n_seqs = 1;
    return w;
}

static double device_us(const device *d, const bt_cost_work *w)
{
    return d->prefill * (double)w->prefill_rows + d->decode * (double)w->decode_rows +
           d->read * (double)w->kv_reads + d->fixed;
}

/* From a first guess that is badly off it comes close within a few hundred mixed steps, in spite of
 * noise and of hiccups twenty times the normal, and follows a device that gets slower. */
static void learns(void)
{
    device d = {.prefill = 180, .decode = 400, .read = 0.05, .fixed = 9000};
    bt_cost c;
    uint64_t n = 0;
    bt_cost_init(&c, 300);
    for (int32_t phase = 0; phase < 2; phase++) {
        double error = 0;
        for (int32_t i = 0; i < 800; i++) {
            bt_cost_work w = random_work(&n);
            double us = device_us(&d, &w) * (0.95 + 0.1 * bt_rng_unit(3, n++));
            if (i >= 700) error += fabs(bt_cost_predict(&c, &w) / device_us(&d, &w) - 1) / 100;
            if (bt_rng_u64(3, n++) % 50 == 0) us *= 20;
            bt_cost_learn(&c, &w, (uint64_t)us);
        }
        CHECK_NEAR(error, 0, 0.2);
        d = (device){.prefill = 400, .decode = 800, .read = 0.1, .fixed = 20000};
    }
    CHECK(c.prefill_row > 0 && c.decode_row > 0 && c.kv_read > 0 && c.fixed > 0);
}

/* Two prompt lengths and a decode row determine the terms; measurements that make no sense stay
 * harmless. */
static void fit_from_measurements(void)
{
    bt_cost c;
    bt_cost_fit(&c, 1500, 4, 1000 + 4 * 60, 16, 1000 + 16 * 60);
    CHECK_NEAR(c.prefill_row, 60, 1e-6);
    CHECK_NEAR(c.fixed, 1000, 1e-6);
    CHECK_NEAR(c.decode_row, 500, 1e-6);
    bt_cost_fit(&c, 100, 4, 900, 16, 300);
    CHECK(c.prefill_row > 0 && c.decode_row > 0 && c.fixed > 0);
    bt_cost_fit(&c, 0, 4, 0, 16, 0);
    bt_cost_work w = {.prefill_rows = 5, .n_seqs = 1};
    bt_cost_learn(&c, &w, 0);
    CHECK(isfinite(bt_cost_predict(&c, &w)) && bt_cost_predict(&c, &w) >= 0);
}

static void chunk_fits_the_time(void)
{
    bt_cost c = {.prefill_row = 100, .kv_read = 1, .fixed = 50};
    CHECK_INT(bt_cost_chunk(&c, 0, 1000, 0), 0);
    CHECK_INT(bt_cost_chunk(&c, 0, 1000, -5), 0);
    CHECK_INT(bt_cost_chunk(&c, 0, 0, 1e9), 0);
    CHECK_INT(bt_cost_chunk(&c, 0, 1000, 1e9), 1000);
    CHECK_INT(bt_cost_chunk(&c, 0, 1000, 101), 1);
    for (int32_t pos = 0; pos < 5000; pos += 777) {
        int32_t n = bt_cost_chunk(&c, pos, 4096, 20000);
        CHECK(100.0 * n + (double)bt_cost_reads(pos, n) <= 20000);
        CHECK(100.0 * (n + 1) + (double)bt_cost_reads(pos, n + 1) > 20000);
    }
    CHECK_INT(bt_cost_reads(10, 3), 11 + 12 + 13);
}

static bool same(const bt_cost *a, const bt_cost *b)
{
    return a->prefill_row == b->prefill_row && a->decode_row == b->decode_row &&
           a->kv_read == b->kv_read && a->fixed == b->fixed;
}

/* A file that is cut short anywhere, or has any byte changed, is as good as none. */
static void what_is_kept_is_whole(void)
{
    char path[] = "/tmp/baton-cost-XXXXXX", text[512];
    const bt_cost kept = {.prefill_row = 1.0 / 3, .decode_row = 77, .kv_read = 1e-6, .fixed = 9e5};
    bt_cost c = {.fixed = -1}, untouched = c;
    int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    close(fd);
    CHECK(!bt_cost_load(path, 5, &c)); // empty
    CHECK(bt_cost_save(path, 5, &kept));
    CHECK(!bt_cost_load(path, 6, &c)); // another's
    CHECK(same(&c, &untouched));
    CHECK(bt_cost_load(path, 5, &c) && same(&c, &kept));
    FILE *f = fopen(path, "r+");
    REQUIRE(f);
    size_t n = fread(text, 1, sizeof text, f);
    CHECK(n > 60 && n < 256);
    for (size_t i = 0; i < n; i++) {
        text[i] ^= 1;
        rewind(f);
        REQUIRE(fwrite(text, 1, n, f) == n && fflush(f) == 0);
        CHECK(!bt_cost_load(path, 5, &c));
        text[i] ^= 1;
    }
    rewind(f);
    REQUIRE(fwrite(text, 1, n, f) == n && fflush(f) == 0);
    CHECK(bt_cost_load(path, 5, &c));
    for (size_t i = n; i-- > 0;) {
        REQUIRE(truncate(path, (off_t)i) == 0);
        CHECK(!bt_cost_load(path, 5, &c));
    }
    fclose(f);
    const bt_cost odd[] = {{.prefill_row = NAN, .decode_row = 1, .kv_read = 1, .fixed = 1},
                           {.prefill_row = 1, .decode_row = -1, .kv_read = 1, .fixed = 1},
                           {.prefill_row = 1, .decode_row = 1, .kv_read = INFINITY, .fixed = 1}};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        CHECK(bt_cost_save(path, 5, &odd[i]));
        CHECK(!bt_cost_load(path, 5, &c));
    }
    CHECK(same(&c, &kept));
    unlink(path);
    CHECK(!bt_cost_load(path, 5, &c));
    CHECK(!bt_cost_save("/nowhere/at/all", 5, &kept));
}

int main(void)
{
    RUN(split_is_exact);
    RUN(split_small_cases);
    RUN(learns);
    RUN(fit_from_measurements);
    RUN(chunk_fits_the_time);
    RUN(what_is_kept_is_whole);
    return TEST_END();
}
