/* SPDX-License-Identifier: Apache-2.0 */
/* test_warmup.c - what is measured before an engine is ready, and what is kept for the next start.
 */
#include "fake_engine.h"
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ALL_STEPS = 16, FEW_STEPS = 3 };
static char folder[] = "/tmp/baton-warmup-XXXXXX";

/* The path of the only file in the folder; false if there is none. */
static bool kept_file(char dst[static 300])
{
    int n = 0;
    DIR *d = opendir(folder);
    REQUIRE(d);
    for (const struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        snprintf(dst, 300, "%s/%s", folder, e->d_name);
        n++;
    }
    closedir(d);
    CHECK(n <= 1);
    return n == 1;
}

/* Steps measured by a start on a device of this speed; *row_us: what a prompt's token costs. */
static int32_t start_measures(uint64_t us_row, int32_t page_tokens, double *row_us)
{
    fake_engine *f = fake_new();
    fake.us_row = us_row;
    f->plan.page_tokens = page_tokens;
    f->plan.rows_max = 60 + page_tokens;
    f->opt.cost_dir = folder;
    fake_start(f);
    int32_t steps = fake.steps_seen;
    *row_us = f->e->cost.prefill_row;
    fake_end(f);
    return steps;
}

static void kept_from_start_to_start(void)
{
    double us = 0;
    char path[300];
    CHECK_INT(start_measures(10, 4, &us), ALL_STEPS);
    CHECK_NEAR(us, 10, 1);
    CHECK(kept_file(path));
    CHECK_INT(start_measures(10, 4, &us), FEW_STEPS);
    CHECK_NEAR(us, 10, 1);
    /* A device that became another: what was kept shows it, and goes. */
    CHECK_INT(start_measures(40, 4, &us), FEW_STEPS + ALL_STEPS);
    CHECK_NEAR(us, 40, 4);
    CHECK_INT(start_measures(40, 4, &us), FEW_STEPS);
    /* A file cut short or of noise is no file. */
    CHECK(truncate(path, 40) == 0);
    CHECK_INT(start_measures(40, 4, &us), ALL_STEPS);
    FILE *f = fopen(path, "w");
    REQUIRE(f);
    for (int i = 0; i < 5000; i++) fputc(i * 37 & 255, f);
    fclose(f);
    CHECK_INT(start_measures(40, 4, &us), ALL_STEPS);
    CHECK_INT(start_measures(40, 4, &us), FEW_STEPS);
    CHECK(unlink(path) == 0);
}

static void another_plan_is_another_file(void)
{
    double us = 0;
    char path[300];
    CHECK_INT(start_measures(10, 4, &us), ALL_STEPS);
    CHECK(kept_file(path));
    CHECK(unlink(path) == 0);
    CHECK_INT(start_measures(10, 8, &us), ALL_STEPS);
    char other[300];
    CHECK(kept_file(other));
    CHECK(strcmp(path, other) != 0);
    CHECK(unlink(other) == 0);
}

/* What requests taught is kept, too; a folder that cannot be written stops nobody. */
static void what_was_learnt_is_kept(void)
{
    int32_t prompt[40];
    char path[300];
    double us = 0;
    fake_engine *f = fake_new();
    f->plan.rows_max = 64;
    f->opt.cost_dir = folder;
    fake_start(f);
    fake.us_row = 13; // slower by less than a start would notice
    for (uint64_t i = 1; i <= 40; i++) {
        bt_engine_request q = ask(i, prompt_of(i, 40, prompt), 40, 2);
        CHECK_INT(submit(f->e, &f->log, &q), BT_OK);
        run_all(f->e);
    }
    double learnt = f->e->cost.prefill_row;
    fake_end(f);
    CHECK(learnt > 10.5);
    CHECK_INT(start_measures(13, 4, &us), FEW_STEPS);
    CHECK_NEAR(us, learnt, 1e-9);
    CHECK(kept_file(path) && unlink(path) == 0);
    f = fake_new();
    f->opt.cost_dir = "/nowhere/at/all";
    fake_start(f);
    fake_end(f);
}

int main(void)
{
    REQUIRE(mkdtemp(folder));
    RUN(kept_from_start_to_start);
    RUN(another_plan_is_another_file);
    RUN(what_was_learnt_is_kept);
    CHECK(rmdir(folder) == 0);
    return TEST_END();
}
