/* SPDX-License-Identifier: Apache-2.0 */
#include "ledger/usage.h"
#include "base/assert.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct bt_usage {
    int fd;     // -1: none yet
    char *path; // owned
};

/* 31 years: any number past it is damage, and sums of a file's numbers cannot overflow. */
#define USAGE_US_MAX UINT64_C(1000000000000000)

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

bool bt_usage_bank_ok(const bt_usage_bank *b)
{
    uint64_t id[BT_USAGE_ENTRIES];
    size_t ids = 0;
    if (b->n > BT_USAGE_ENTRIES || b->busy_us > USAGE_US_MAX || b->house_us > b->busy_us ||
        b->closed_us > b->busy_us)
        return false;
    uint64_t sum = b->house_us + b->closed_us;
    for (uint64_t i = 0; i < b->n; i++) {
        if (b->entry[i].used_us > USAGE_US_MAX) return false;
        sum += b->entry[i].used_us;
        if (b->entry[i].request != 0) id[ids++] = b->entry[i].request;
    }
    if (sum != b->busy_us) return false;
    qsort(id, ids, sizeof *id, by_value);
    for (size_t i = 1; i < ids; i++)
        if (id[i] == id[i - 1]) return false;
    return true;
}

bt_status bt_usage_parse(const void *data, size_t len, const char *name, uint64_t *boot,
                         bt_usage_bank *out, bt_err *err)
{
    const bt_usage_file *f = data;
    if (len != sizeof *f)
        return bt_err_set(err, BT_EFORMAT, 0, "usage file %s has %zu bytes instead of %zu", name,
                          len, sizeof *f);
    const bt_usage_head *h = &f->head;
    if (h->magic != BT_USAGE_MAGIC || h->bytes != sizeof *f || h->boot == 0)
        return bt_err_set(err, BT_EFORMAT, 0, "usage file %s is not of this program", name);
    const bt_usage_bank *bank = &f->bank[h->seq & 1];
    if (!bt_usage_bank_ok(bank)) {
        bank = &f->bank[(h->seq + 1) & 1];
        if (h->seq == 0 || !bt_usage_bank_ok(bank))
            return bt_err_set(err, BT_EFORMAT, 0, "usage file %s is damaged: it does not add up",
                              name);
    }
    *boot = h->boot;
    *out = *bank;
    return BT_OK;
}

bt_status bt_usage_load(const char *path, uint64_t *boot, bt_usage_bank *out, bt_err *err)
{
    size_t len = 0, cap = sizeof(bt_usage_file) + 1;
    ssize_t n = 0;
    bt_status st;
    char *data = bt_malloc(cap);
    if (!data) return bt_err_set(err, BT_ENOMEM, 0, "out of memory while reading %s", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        st = bt_err_set(err, errno == ENOENT ? BT_ENOTFOUND : BT_EIO, errno,
                        "usage file %s cannot be opened: %s", path, strerror(errno));
        goto done;
    }
    while (len < cap && (n = read(fd, data + len, cap - len)) != 0) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break;
        len += (size_t)n;
    }
    if (n < 0)
        st = bt_err_set(err, BT_EIO, errno, "usage file %s cannot be read: %s", path,
                        strerror(errno));
    else
        st = bt_usage_parse(data, len, path, boot, out, err);
    close(fd);
done:
    bt_free(data);
    return st;
}

static bt_status usage_fail(const char *path, int sys, bt_err *err)
{
    return bt_err_set(err, BT_EIO, sys, "usage file %s cannot be made: %s%s", path, strerror(sys),
                      sys == ENOSPC ? "; free some space" : "");
}

/* Where an engine finds a file it is whole: it gets its name last. */
bt_status bt_usage_create(const char *dir, uint64_t boot, bt_usage **out, bt_err *err)
{
    char folder[3900], path[4096], temp[4096];
    bt_status st = BT_OK;
    BT_ASSERT(boot != 0);
    if (snprintf(folder, sizeof folder, "%s/usage", dir) >= (int)sizeof folder)
        return bt_err_set(err, BT_EINVAL, 0, "the path of the data directory is too long");
    snprintf(path, sizeof path, "%s/%016llx.use", folder, (unsigned long long)boot);
    snprintf(temp, sizeof temp, "%s/%016llx.tmp", folder, (unsigned long long)boot);
    bt_usage *u = bt_calloc(1, sizeof *u);
    if (u) u->fd = -1;
    if (u) u->path = bt_strdup(path);
    if (!u || !u->path) {
        st = bt_err_set(err, BT_ENOMEM, 0, "out of memory while making %s", path);
        goto done;
    }
    if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
        st = usage_fail(folder, errno, err);
        goto done;
    }
    bt_usage_head head = {BT_USAGE_MAGIC, sizeof(bt_usage_file), boot, 0};
    u->fd = open(temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    int sys = u->fd < 0 ? errno : posix_fallocate(u->fd, 0, sizeof(bt_usage_file));
    if (sys == 0 && pwrite(u->fd, &head, sizeof head, 0) != (ssize_t)sizeof head) sys = errno;
    if (sys == 0) sys = rename(temp, path) == 0 ? 0 : errno;
    if (sys != 0) {
        st = usage_fail(path, sys, err);
        if (u->fd >= 0) unlink(temp);
    }
done:
    if (st == BT_OK)
        *out = u;
    else
        bt_usage_close(u);
    return st;
}

const char *bt_usage_path(const bt_usage *u)
{
    return u->path;
}

/* A file that is too short is somebody's doing, and the engine writes all of it again from its next
 * step on, if there is room. */
static bt_status usage_short(const bt_usage *u, ssize_t got, bt_err *err)
{
    if (got < 0)
        return bt_err_set(err, BT_EIO, errno, "usage file %s cannot be read: %s", u->path,
                          strerror(errno));
    posix_fallocate(u->fd, 0, sizeof(bt_usage_file));
    return bt_err_set(err, BT_EFORMAT, 0,
                      "usage file %s was cut short by somebody; it is written anew", u->path);
}

bt_status bt_usage_read(const bt_usage *u, bt_usage_bank *out, bt_err *err)
{
    bt_usage_head head, again;
    for (int tries = 0; tries < 16; tries++) {
        ssize_t n = pread(u->fd, &head, sizeof head, 0);
        if (n != (ssize_t)sizeof head) return usage_short(u, n, err);
        size_t at = offsetof(bt_usage_file, bank) + (head.seq & 1) * sizeof *out;
        n = pread(u->fd, out, sizeof *out, (off_t)at);
        if (n != (ssize_t)sizeof *out) return usage_short(u, n, err);
        /* One step on, the writer may have begun to fill the bank just copied. */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        n = pread(u->fd, &again, sizeof again, 0);
        if (n == (ssize_t)sizeof again && again.seq != head.seq) continue;
        if (head.magic == BT_USAGE_MAGIC && bt_usage_bank_ok(out)) return BT_OK;
        return bt_err_set(err, BT_EFORMAT, 0, "usage file %s does not add up", u->path);
    }
    return bt_err_set(err, BT_EBUSY, 0, "usage file %s changes too fast", u->path);
}

int bt_usage_fd(const bt_usage *u)
{
    return u->fd;
}

void bt_usage_close(bt_usage *u)
{
    if (!u) return;
    if (u->fd >= 0) close(u->fd);
    bt_free(u->path);
    bt_free(u);
}
