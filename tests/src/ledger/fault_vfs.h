/* SPDX-License-Identifier: Apache-2.0 */
/* fault_vfs.h - a SQLite file system over the real one that fails when told to.
 *
 * Calls are counted; the n-th (and with `for_ever` all after it) of the chosen kinds fails. A
 * failing write has written half. Has no shared memory, as network mounts have none. */
#pragma once
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FAULT_OPEN = 1,
    FAULT_READ = 2,
    FAULT_WRITE = 4,
    FAULT_SYNC = 8,
    FAULT_TRUNCATE = 16,
    FAULT_DELETE = 32,
    FAULT_FULL = 64, // writes fail with "disk full" instead of an I/O error
};

static struct {
    atomic_int kinds; // atomic: changed while a ledger thread runs
    atomic_long at;   // 0 = off
    atomic_bool for_ever, happened;
    bool no_wal, no_sync;
    sqlite3_vfs *real;
} fault;

typedef struct fault_file {
    sqlite3_file base;
    sqlite3_file *real;
} fault_file;

static bool fault_now(int kind)
{
    if (!(fault.kinds & kind) || fault.at <= 0) return false;
    if (fault.at > 1) {
        fault.at--;
        return false;
    }
    if (!fault.for_ever) fault.at = 0;
    fault.happened = true;
    return true;
}

static sqlite3_file *fault_real(sqlite3_file *f)
{
    return ((fault_file *)f)->real;
}

static int fault_close(sqlite3_file *f)
{
    int rc = fault_real(f)->pMethods->xClose(fault_real(f));
    free(fault_real(f));
    return rc;
}

static int fault_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
    if (fault_now(FAULT_READ)) return SQLITE_IOERR_READ;
    return fault_real(f)->pMethods->xRead(fault_real(f), p, n, at);
}

static int fault_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    if (fault_now(FAULT_WRITE)) {
        fault_real(f)->pMethods->xWrite(fault_real(f), p, n / 2, at);
        return fault.kinds & FAULT_FULL ? SQLITE_FULL : SQLITE_IOERR_WRITE;
    }
    return fault_real(f)->pMethods->xWrite(fault_real(f), p, n, at);
}

static int fault_truncate(sqlite3_file *f, sqlite3_int64 n)
{
    if (fault_now(FAULT_TRUNCATE)) return SQLITE_IOERR_TRUNCATE;
    return fault_real(f)->pMethods->xTruncate(fault_real(f), n);
}

static int fault_sync(sqlite3_file *f, int flags)
{
    if (fault_now(FAULT_SYNC)) return SQLITE_IOERR_FSYNC;
    return fault.no_sync ? SQLITE_OK : fault_real(f)->pMethods->xSync(fault_real(f), flags);
}

static int fault_size(sqlite3_file *f, sqlite3_int64 *n)
{
    return fault_real(f)->pMethods->xFileSize(fault_real(f), n);
}
static int fault_lock(sqlite3_file *f, int l)
{
    return fault_real(f)->pMethods->xLock(fault_real(f), l);
}
static int fault_unlock(sqlite3_file *f, int l)
{
    return fault_real(f)->pMethods->xUnlock(fault_real(f), l);
}
static int fault_reserved(sqlite3_file *f, int *out)
{
    return fault_real(f)->pMethods->xCheckReservedLock(fault_real(f), out);
}
static int fault_control(sqlite3_file *f, int op, void *arg)
{
    return fault_real(f)->pMethods->xFileControl(fault_real(f), op, arg);
}
static int fault_sector(sqlite3_file *f)
{
    return fault_real(f)->pMethods->xSectorSize(fault_real(f));
}
static int fault_traits(sqlite3_file *f)
{
    return fault_real(f)->pMethods->xDeviceCharacteristics(fault_real(f));
}

static const sqlite3_io_methods fault_methods = {
    .iVersion = 1,
    .xClose = fault_close,
    .xRead = fault_read,
    .xWrite = fault_write,
    .xTruncate = fault_truncate,
    .xSync = fault_sync,
    .xFileSize = fault_size,
    .xLock = fault_lock,
    .xUnlock = fault_unlock,
    .xCheckReservedLock = fault_reserved,
    .xFileControl = fault_control,
    .xSectorSize = fault_sector,
    .xDeviceCharacteristics = fault_traits,
};

static int fault_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out_flags)
{
    fault_file *ff = (fault_file *)f;
    (void)v;
    ff->base.pMethods = NULL;
    if (fault_now(FAULT_OPEN)) return SQLITE_CANTOPEN;
    if (fault.no_wal && (flags & SQLITE_OPEN_WAL)) return SQLITE_CANTOPEN;
    ff->real = calloc(1, (size_t)fault.real->szOsFile);
    int rc = fault.real->xOpen(fault.real, name, ff->real, flags, out_flags);
    if (rc == SQLITE_OK)
        ff->base.pMethods = &fault_methods;
    else
        free(ff->real);
    return rc;
}

static int fault_delete(sqlite3_vfs *v, const char *name, int sync_dir)
{
    (void)v;
    if (fault_now(FAULT_DELETE)) return SQLITE_IOERR_DELETE;
    return fault.real->xDelete(fault.real, name, fault.no_sync ? 0 : sync_dir);
}

/* From now on every database of this process goes through it. */
static void fault_install(void)
{
    static sqlite3_vfs vfs;
    fault.real = sqlite3_vfs_find(NULL);
    vfs = *fault.real;
    vfs.zName = "fault";
    vfs.szOsFile = (int)sizeof(fault_file);
    vfs.xOpen = fault_open;
    vfs.xDelete = fault_delete;
    vfs.pNext = NULL;
    sqlite3_vfs_register(&vfs, 1);
}
