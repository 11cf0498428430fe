/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/meter.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* Never 0, below 2^63: the ledger keeps it in a signed column. */
static uint64_t boot_new(void)
{
    uint64_t id = 0;
    if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id)
        id = bt_hash_u64((uint64_t)bt_now_ns() ^ bt_hash_u64((uint64_t)getpid()));
    id &= INT64_MAX;
    return id ? id : 1;
}

/* A file just made is all zeros; one that front prepared has its header and no step yet. */
static bt_status meter_adopt(bt_meter *b, const char *path, bt_err *err)
{
    bt_usage_head h;
    uint64_t busy_us;
    off_t bank = (off_t)offsetof(bt_usage_file, bank);
    if (pread(b->fd, &h, sizeof h, 0) != (ssize_t)sizeof h)
        return bt_err_set(err, BT_EIO, errno, "cannot read the usage file '%s'", path);
    if (h.magic == 0 && h.seq == 0) return BT_OK;
    if (h.magic != BT_USAGE_MAGIC || h.bytes != sizeof(bt_usage_file))
        return bt_err_set(err, BT_EFORMAT, 0, "'%s' is not a usage file of this version", path);
    if (h.seq & 1) bank += (off_t)sizeof(bt_usage_bank);
    bank += (off_t)offsetof(bt_usage_bank, busy_us);
    if (pread(b->fd, &busy_us, sizeof busy_us, bank) != (ssize_t)sizeof busy_us || busy_us != 0)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "'%s' holds the books of an older engine; settle and remove it first",
                          path);
    if (h.boot) b->boot = h.boot;
    b->seq = h.seq;
    return BT_OK;
}

bt_status bt_meter_open(bt_meter *b, const char *path, bt_err *err)
{
    bt_status status = BT_OK;
    struct stat st;
    memset(b, 0, sizeof *b);
    b->boot = boot_new();
    if (!path) return BT_OK;
    b->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (b->fd < 0)
        return bt_err_set(err, BT_EIO, errno, "cannot open the usage file '%s': %s", path,
                          strerror(errno));
    b->has_file = true;
    if (fstat(b->fd, &st) != 0 ||
        (st.st_size == 0 && ftruncate(b->fd, sizeof(bt_usage_file)) != 0)) {
        status = bt_err_set(err, BT_EIO, errno, "cannot size the usage file '%s': %s", path,
                            strerror(errno));
        goto done;
    }
    if (st.st_size != 0 && st.st_size != (off_t)sizeof(bt_usage_file)) {
        status = bt_err_set(err, BT_EFORMAT, 0, "'%s' has %lld bytes; a usage file has %zu", path,
                            (long long)st.st_size, sizeof(bt_usage_file));
        goto done;
    }
    /* Blocks are reserved now: a disk that fills up later must not cost the books. */
    int rc = posix_fallocate(b->fd, 0, sizeof(bt_usage_file));
    if (rc != 0 && rc != EINVAL && rc != EOPNOTSUPP) {
        status =
            bt_err_set(err, BT_EIO, rc, "no room for the usage file '%s': %s", path, strerror(rc));
        goto done;
    }
    status = meter_adopt(b, path, err);
done:
    if (status)
        bt_meter_close(b);
    else
        bt_meter_publish(b);
    return status;
}

void bt_meter_close(bt_meter *b)
{
    if (b->has_file) close(b->fd);
    b->has_file = false;
}

static bt_usage_entry *meter_find(bt_meter *b, uint64_t request)
{
    for (uint64_t i = 0; i < b->bank.n; i++)
        if (b->bank.entry[i].request == request) return &b->bank.entry[i];
    return NULL;
}

bool bt_meter_full(const bt_meter *b)
{
    return b->bank.n >= BT_USAGE_ENTRIES;
}

bool bt_meter_has(const bt_meter *b, uint64_t request)
{
    for (uint64_t i = 0; i < b->bank.n; i++)
        if (b->bank.entry[i].request == request) return true;
    return false;
}

void bt_meter_add(bt_meter *b, uint64_t request)
{
    BT_ASSERT(request && !bt_meter_full(b));
    b->ended[b->bank.n] = false;
    b->bank.entry[b->bank.n++] = (bt_usage_entry){request, 0};
}

uint64_t bt_meter_charge(bt_meter *b, uint64_t request, uint64_t us)
{
    bt_usage_entry *e = meter_find(b, request);
    BT_ASSERT(e);
    e->used_us += us;
    b->bank.busy_us += us;
    return e->used_us;
}

void bt_meter_charge_house(bt_meter *b, uint64_t us)
{
    b->bank.house_us += us;
    b->bank.busy_us += us;
}

void bt_meter_end(bt_meter *b, uint64_t request)
{
    bt_usage_entry *e = meter_find(b, request);
    BT_ASSERT(e);
    b->ended[e - b->bank.entry] = true;
}

bool bt_meter_release(bt_meter *b, uint64_t request)
{
    bt_usage_entry *e = meter_find(b, request);
    if (!e || !b->ended[e - b->bank.entry]) return false;
    uint64_t last = --b->bank.n;
    b->bank.closed_us += e->used_us;
    b->ended[e - b->bank.entry] = b->ended[last];
    *e = b->bank.entry[last];
    return true;
}

void bt_meter_publish(bt_meter *b)
{
    if (!b->has_file) return;
    bt_usage_head head = {BT_USAGE_MAGIC, sizeof(bt_usage_file), b->boot, b->seq + 1};
    size_t len = offsetof(bt_usage_bank, entry) + b->bank.n * sizeof *b->bank.entry;
    size_t at = offsetof(bt_usage_file, bank) + (head.seq & 1) * sizeof b->bank;
    bool ok = pwrite(b->fd, &b->bank, len, (off_t)at) == (ssize_t)len &&
              pwrite(b->fd, &head, sizeof head, 0) == (ssize_t)sizeof head;
    if (ok) b->seq = head.seq;
    if (!ok && !b->failing)
        bt_log(BT_LOG_ERR, "engine.usage_not_written",
               "why=\"%s\" what requests use from here on is not in the crash file",
               strerror(errno));
    b->failing = !ok;
}
