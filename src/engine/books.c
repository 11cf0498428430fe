/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/books.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/hash.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
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
static bt_status books_adopt(bt_books *b, const char *path, bt_err *err)
{
    bt_usage_file *f = b->file;
    if (f->magic == 0 && f->seq == 0) {
        f->bytes = (uint32_t)sizeof *f;
        f->boot = b->boot;
        f->magic = BT_USAGE_MAGIC;
        return BT_OK;
    }
    if (f->magic != BT_USAGE_MAGIC || f->bytes != sizeof *f)
        return bt_err_set(err, BT_EFORMAT, 0, "'%s' is not a usage file of this version", path);
    if (f->bank[f->seq & 1].busy_us != 0)
        return bt_err_set(err, BT_EFORMAT, 0,
                          "'%s' holds the books of an older engine; settle and remove it first",
                          path);
    if (f->boot)
        b->boot = f->boot;
    else
        f->boot = b->boot;
    return BT_OK;
}

static bt_status books_map(bt_books *b, const char *path, bt_err *err)
{
    bt_status status = BT_OK;
    struct stat st;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return bt_err_set(err, BT_EIO, errno, "cannot open the usage file '%s': %s", path,
                          strerror(errno));
    if (fstat(fd, &st) != 0 || (st.st_size == 0 && ftruncate(fd, sizeof(bt_usage_file)) != 0)) {
        status = bt_err_set(err, BT_EIO, errno, "cannot size the usage file '%s': %s", path,
                            strerror(errno));
        goto done;
    }
    if (st.st_size != 0 && st.st_size != (off_t)sizeof(bt_usage_file)) {
        status = bt_err_set(err, BT_EFORMAT, 0, "'%s' has %lld bytes; a usage file has %zu", path,
                            (long long)st.st_size, sizeof(bt_usage_file));
        goto done;
    }
    /* Blocks are reserved now: a full disk must not become a SIGBUS at some later step. */
    int rc = posix_fallocate(fd, 0, sizeof(bt_usage_file));
    if (rc != 0 && rc != EINVAL && rc != EOPNOTSUPP) {
        status =
            bt_err_set(err, BT_EIO, rc, "no room for the usage file '%s': %s", path, strerror(rc));
        goto done;
    }
    void *map = mmap(NULL, sizeof(bt_usage_file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        status = bt_err_set(err, BT_EIO, errno, "cannot map the usage file '%s': %s", path,
                            strerror(errno));
        goto done;
    }
    b->file = map;
    status = books_adopt(b, path, err);
done:
    close(fd);
    return status;
}

bt_status bt_books_open(bt_books *b, const char *path, bt_err *err)
{
    memset(b, 0, sizeof *b);
    b->boot = boot_new();
    if (!path) return BT_OK;
    bt_status status = books_map(b, path, err);
    if (status)
        bt_books_close(b);
    else
        bt_books_publish(b);
    return status;
}

void bt_books_close(bt_books *b)
{
    if (b->file) munmap(b->file, sizeof *b->file);
    b->file = NULL;
}

static bt_usage_entry *books_find(bt_books *b, uint64_t request)
{
    for (uint64_t i = 0; i < b->bank.n; i++)
        if (b->bank.entry[i].request == request) return &b->bank.entry[i];
    return NULL;
}

bool bt_books_full(const bt_books *b)
{
    return b->bank.n >= BT_USAGE_ENTRIES;
}

bool bt_books_has(const bt_books *b, uint64_t request)
{
    for (uint64_t i = 0; i < b->bank.n; i++)
        if (b->bank.entry[i].request == request) return true;
    return false;
}

void bt_books_add(bt_books *b, uint64_t request)
{
    BT_ASSERT(request && !bt_books_full(b));
    b->ended[b->bank.n] = false;
    b->bank.entry[b->bank.n++] = (bt_usage_entry){request, 0};
}

uint64_t bt_books_charge(bt_books *b, uint64_t request, uint64_t us)
{
    bt_usage_entry *e = books_find(b, request);
    BT_ASSERT(e);
    e->used_us += us;
    b->bank.busy_us += us;
    return e->used_us;
}

void bt_books_charge_house(bt_books *b, uint64_t us)
{
    b->bank.house_us += us;
    b->bank.busy_us += us;
}

void bt_books_end(bt_books *b, uint64_t request)
{
    bt_usage_entry *e = books_find(b, request);
    BT_ASSERT(e);
    b->ended[e - b->bank.entry] = true;
}

bool bt_books_release(bt_books *b, uint64_t request)
{
    bt_usage_entry *e = books_find(b, request);
    if (!e || !b->ended[e - b->bank.entry]) return false;
    uint64_t last = --b->bank.n;
    b->bank.closed_us += e->used_us;
    b->ended[e - b->bank.entry] = b->ended[last];
    *e = b->bank.entry[last];
    return true;
}

void bt_books_publish(bt_books *b)
{
    if (!b->file) return;
    uint64_t seq = b->file->seq + 1;
    bt_usage_bank *bank = &b->file->bank[seq & 1];
    bank->busy_us = b->bank.busy_us;
    bank->house_us = b->bank.house_us;
    bank->closed_us = b->bank.closed_us;
    bank->n = b->bank.n;
    memcpy(bank->entry, b->bank.entry, b->bank.n * sizeof *bank->entry);
    __atomic_store_n(&b->file->seq, seq, __ATOMIC_RELEASE);
}
