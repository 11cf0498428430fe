/* SPDX-License-Identifier: Apache-2.0 */
#include "quota/usage.h"
#include "base/assert.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct bt_usage {
    bt_usage_file *file; // shared mapping
    char *path;          // owned
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
    if (f->magic != BT_USAGE_MAGIC || f->bytes != sizeof *f || f->boot == 0)
        return bt_err_set(err, BT_EFORMAT, 0, "usage file %s is not of this program", name);
    const bt_usage_bank *bank = &f->bank[f->seq & 1];
    if (!bt_usage_bank_ok(bank)) {
        bank = &f->bank[(f->seq + 1) & 1];
        if (f->seq == 0 || !bt_usage_bank_ok(bank))
            return bt_err_set(err, BT_EFORMAT, 0, "usage file %s is damaged: it does not add up",
                              name);
    }
    *boot = f->boot;
    *out = *bank;
    return BT_OK;
}

bt_status bt_usage_load(const char *path, uint64_t *boot, bt_usage_bank *out, bt_err *err)
{
    size_t len = 0, cap = sizeof(bt_usage_file) + 1;
    ssize_t n = 0;
    bt_status status;
    char *data = bt_malloc(cap);
    if (!data) return bt_err_set(err, BT_ENOMEM, 0, "out of memory while reading %s", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        status = bt_err_set(err, errno == ENOENT ? BT_ENOTFOUND : BT_EIO, errno,
                            "usage file %s cannot be opened: %s", path, strerror(errno));
        goto done;
    }
    while (len < cap && (n = read(fd, data + len, cap - len)) != 0) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break;
        len += (size_t)n;
    }
    if (n < 0)
        status = bt_err_set(err, BT_EIO, errno, "usage file %s cannot be read: %s", path,
                            strerror(errno));
    else
        status = bt_usage_parse(data, len, path, boot, out, err);
    close(fd);
done:
    bt_free(data);
    return status;
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
    bt_status status = BT_OK;
    void *map = MAP_FAILED;
    int fd = -1, sys;
    BT_ASSERT(boot != 0);
    if (snprintf(folder, sizeof folder, "%s/usage", dir) >= (int)sizeof folder)
        return bt_err_set(err, BT_EINVAL, 0, "the path of the data directory is too long");
    snprintf(path, sizeof path, "%s/%016llx.use", folder, (unsigned long long)boot);
    snprintf(temp, sizeof temp, "%s/%016llx.tmp", folder, (unsigned long long)boot);
    bt_usage *u = bt_calloc(1, sizeof *u);
    if (u) u->path = bt_strdup(path);
    if (!u || !u->path) {
        status = bt_err_set(err, BT_ENOMEM, 0, "out of memory while making %s", path);
        goto done;
    }
    if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
        status = usage_fail(folder, errno, err);
        goto done;
    }
    fd = open(temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    sys = fd < 0 ? errno : posix_fallocate(fd, 0, sizeof(bt_usage_file));
    if (sys == 0) {
        map = mmap(NULL, sizeof(bt_usage_file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        sys = map == MAP_FAILED ? errno : 0;
    }
    if (sys == 0) {
        u->file = map;
        u->file->magic = BT_USAGE_MAGIC;
        u->file->bytes = sizeof(bt_usage_file);
        u->file->boot = boot;
        sys = rename(temp, path) == 0 ? 0 : errno;
    }
    if (sys != 0) {
        status = usage_fail(path, sys, err);
        if (fd >= 0) unlink(temp);
    }
done:
    if (fd >= 0) close(fd);
    if (status == BT_OK)
        *out = u;
    else
        bt_usage_close(u);
    return status;
}

const char *bt_usage_path(const bt_usage *u)
{
    return u->path;
}

bt_status bt_usage_read(const bt_usage *u, bt_usage_bank *out, bt_err *err)
{
    const bt_usage_file *f = u->file;
    for (int tries = 0; tries < 16; tries++) {
        uint64_t seq = __atomic_load_n(&f->seq, __ATOMIC_ACQUIRE);
        *out = f->bank[seq & 1];
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        /* One step on, the writer may have begun to fill the bank just copied. */
        if (__atomic_load_n(&f->seq, __ATOMIC_RELAXED) != seq) continue;
        if (bt_usage_bank_ok(out)) return BT_OK;
        return bt_err_set(err, BT_EFORMAT, 0, "usage file %s does not add up", u->path);
    }
    return bt_err_set(err, BT_EBUSY, 0, "usage file %s changes too fast", u->path);
}

bt_status bt_usage_sync(bt_usage *u, bt_err *err)
{
    if (msync(u->file, sizeof *u->file, MS_SYNC) == 0) return BT_OK;
    return bt_err_set(err, BT_EIO, errno, "usage file %s cannot be synced: %s", u->path,
                      strerror(errno));
}

void bt_usage_close(bt_usage *u)
{
    if (!u) return;
    if (u->file) munmap(u->file, sizeof *u->file);
    bt_free(u->path);
    bt_free(u);
}
