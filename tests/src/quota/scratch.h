/* SPDX-License-Identifier: Apache-2.0 */
/* scratch.h - a data directory of its own for each case, and a ledger in it. */
#pragma once
#include "ledger/ledger.h"
#include "test.h"
#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECOND INT64_C(1000000)
#define DAY (INT64_C(86400) * SECOND)
#define T0 (INT64_C(1760000000) * SECOND)

static char scratch_dir[256];

static void scratch_empty(const char *dir)
{
    char path[600];
    DIR *d = opendir(dir);
    if (!d) return;
    struct dirent *e;
    while ((e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        struct stat st;
        if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
            scratch_empty(path);
            rmdir(path);
        } else {
            unlink(path);
        }
    }
    closedir(d);
}

/* The directory, empty. */
static const char *scratch_fresh(void)
{
    if (!*scratch_dir) {
        const char *tmp = getenv("TMPDIR");
        snprintf(scratch_dir, sizeof scratch_dir, "%s/baton-quota-XXXXXX", tmp ? tmp : "/tmp");
        REQUIRE(mkdtemp(scratch_dir) != NULL);
    }
    scratch_empty(scratch_dir);
    return scratch_dir;
}

static void scratch_done(void)
{
    if (!*scratch_dir) return;
    scratch_empty(scratch_dir);
    rmdir(scratch_dir);
}

static inline const char *scratch_path(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", scratch_dir, name);
    return path;
}

static inline bt_ledger *ledger_in(const char *dir)
{
    bt_err err = {0};
    bt_ledger *l = NULL;
    if (bt_ledger_open(dir, &l, &err) != BT_OK) fprintf(stderr, "open: %s\n", err.msg);
    REQUIRE(l != NULL);
    return l;
}

/* Holds for the account with a limit of 100 s; the amount held, or the negative status. */
static inline int64_t hold(bt_ledger *l, const char *account, uint64_t request, int64_t want,
                           int64_t now)
{
    int64_t held = 0;
    bool final = false;
    bt_ledger_balance b;
    bt_status s =
        bt_ledger_hold(l, 1, account, request, 100 * SECOND, want, now, &held, &final, &b, NULL);
    return s == BT_OK ? held : s;
}

static inline bt_ledger_balance balance(bt_ledger *l, const char *account, int64_t now)
{
    bt_ledger_balance b = {0};
    CHECK_INT(bt_ledger_read(l, account, 100 * SECOND, now, &b, NULL), BT_OK);
    return b;
}

static inline bt_ledger_totals totals(bt_ledger *l)
{
    bt_ledger_totals t = {0};
    CHECK_INT(bt_ledger_totals_read(l, &t, NULL), BT_OK);
    return t;
}

#define CHECK_BOOKS(l)                                                                             \
    do {                                                                                           \
        bt_err e_ = {0};                                                                           \
        bt_status s_ = bt_ledger_check(l, &e_);                                                    \
        if (s_ != BT_OK) fprintf(stderr, "books: %s\n", e_.msg);                                   \
        CHECK_INT(s_, BT_OK);                                                                      \
    } while (0)
