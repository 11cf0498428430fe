/* SPDX-License-Identifier: Apache-2.0 */
/* recover.c - the books after a death: what usage files say is posted, and what is left is voided.
 *
 * A file is settled in one transaction and removed after it. Whoever dies when, each request in it
 * is in one of these states, and each leads to busy == house + posted:
 *   holds quota  front or engine died before the post: posted now with what the file says.
 *   was posted   front died between post and release: nothing is due. If the file says more than
 *                the post (steps in flight as it was cut off), the house has the rest; if less
 *                (the file's last steps fell to a loss of power), busy was more.
 *   was voided   what it used after all is the house's.
 *   unknown      its hold was lost: the house's, with a warning.
 *   released     its time is in closed_us, and its post was committed before the release.
 *
 * All of it is a function of the file and the entries, and the engine's totals are cumulative, so
 * settling a file again (a death between commit and removal) changes nothing. */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "ledger/ledger_impl.h"
#include "ledger/usage.h"
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bt_status settle_bank(bt_ledger *l, uint64_t boot, const bt_usage_bank *bank, int *posted,
                             int *orphans, bt_err *err)
{
    int64_t busy = (int64_t)bank->busy_us, house = (int64_t)bank->house_us;
    for (uint64_t i = 0; i < bank->n; i++) {
        const bt_usage_entry *e = &bank->entry[i];
        ledger_end end = {.end = END_UNKNOWN};
        bt_status st = BT_OK;
        double price = round((double)e->used_us * l->price);
        int64_t charge = price < (double)LEDGER_AMOUNT_MAX ? (int64_t)price : LEDGER_AMOUNT_MAX;
        if (e->request != 0)
            st = bt__ledger_end(l->store, KIND_POST, e->request, (int64_t)e->used_us, charge, &end,
                                err);
        if (st != BT_OK) return st;
        if (end.end == END_NOW) {
            ++*posted;
        } else if (end.end == END_UNKNOWN) {
            house += (int64_t)e->used_us;
            *orphans += e->used_us > 0;
        } else {
            int64_t more = (int64_t)e->used_us - end.device_us;
            if (more > 0)
                house += more;
            else
                busy -= more;
        }
    }
    return bt__ledger_engine(l->store, boot, busy, house, err);
}

/* A file that cannot be read tells nothing, but may tell its owner something. */
static void settle_set_aside(const char *path, const char *why)
{
    char bad[4200];
    snprintf(bad, sizeof bad, "%s.bad", path);
    bool moved = rename(path, bad) == 0;
    bt_log(BT_LOG_WARN, "usage.bad", "%s; %s %s.bad: device time of that engine is not booked", why,
           moved ? "it is now" : "it could not be renamed to", path);
}

static bt_status settle_file(bt_ledger *l, const char *path, int *posted, bt_err *err)
{
    bt_err why = {0};
    uint64_t boot = 0;
    int count = 0, orphans = 0;
    bt_usage_bank *bank = bt_malloc(sizeof *bank);
    if (!bank) return bt_err_set(err, BT_ENOMEM, 0, "out of memory while reading %s", path);
    bt_status st = bt_usage_load(path, &boot, bank, &why);
    if (st == BT_EFORMAT) {
        settle_set_aside(path, why.msg);
        st = BT_OK;
        goto done;
    }
    if (st != BT_OK) {
        if (err) *err = why;
        goto done;
    }
    st = bt_ledger_begin(l, err);
    if (st != BT_OK) goto done;
    st = settle_bank(l, boot, bank, &count, &orphans, err);
    if (st == BT_OK)
        st = bt_ledger_commit(l, err);
    else
        bt_ledger_rollback(l);
    /* The file is the only other copy: it goes when the entries are on the disk. */
    if (st == BT_OK) st = bt_ledger_sync(l, err);
    if (st != BT_OK) goto done;
    *posted += count;
    if (orphans > 0)
        bt_log(BT_LOG_WARN, "usage.no_hold", "file=%s requests=%d: the house carries their time",
               path, orphans);
    if (unlink(path) != 0)
        st = bt_err_set(err, BT_EIO, errno, "usage file %s cannot be removed: %s", path,
                        strerror(errno));
done:
    bt_free(bank);
    return st;
}

bt_status bt_ledger_settle_engine(bt_ledger *l, const char *usage_path, int64_t wall_us,
                                  bt_err *err)
{
    int posted = 0;
    BT_ASSERT(!l->store->batch);
    bt_status st = bt__ledger_time(l, wall_us, err);
    return st == BT_OK ? settle_file(l, usage_path, &posted, err) : st;
}

static bool has_suffix(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n > m && strcmp(s + n - m, suffix) == 0;
}

static bt_status recover_files(bt_ledger *l, const char *dir, int *posted, bt_err *err)
{
    char folder[3900], path[4200];
    bt_status st = BT_OK;
    if (snprintf(folder, sizeof folder, "%s/usage", dir) >= (int)sizeof folder)
        return bt_err_set(err, BT_EINVAL, 0, "the path of the data directory is too long");
    DIR *d = opendir(folder);
    if (!d && errno == ENOENT) return BT_OK;
    if (!d) return bt_err_set(err, BT_EIO, errno, "%s cannot be read: %s", folder, strerror(errno));
    struct dirent *e;
    while (st == BT_OK && (e = readdir(d))) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (has_suffix(e->d_name, ".use"))
            st = settle_file(l, path, posted, err);
        else if (has_suffix(e->d_name, ".tmp"))
            unlink(path);
    }
    closedir(d);
    return st;
}

/* Voids some of the holds of the dead; *n = how many. */
static bt_status recover_void_some(ledger_store *s, uint64_t boot, int *n, bt_err *err)
{
    uint64_t request[256];
    bt_status st = s->op->holds_dead(s, boot, request, (int)BT_COUNT(request), n, err);
    for (int i = 0; i < *n && st == BT_OK; i++) {
        ledger_end end;
        st = bt__ledger_end(s, KIND_VOID, request[i], 0, 0, &end, err);
    }
    return st;
}

bt_status bt_ledger_recover(bt_ledger *l, const char *dir, uint64_t boot, int64_t wall_us,
                            int *posted, int *voided, bt_err *err)
{
    int posts = 0, voids = 0, n = 0;
    BT_ASSERT(!l->store->batch);
    bt_status st = bt__ledger_time(l, wall_us, err);
    if (st == BT_OK) st = recover_files(l, dir, &posts, err);
    while (st == BT_OK) {
        if ((st = bt_ledger_begin(l, err)) != BT_OK) break;
        st = recover_void_some(l->store, boot, &n, err);
        if (st == BT_OK)
            st = bt_ledger_commit(l, err);
        else
            bt_ledger_rollback(l);
        if (n == 0) break;
        if (st == BT_OK) voids += n;
    }
    if (st != BT_OK) return st;
    if (posted) *posted = posts;
    if (voided) *voided = voids;
    return BT_OK;
}
