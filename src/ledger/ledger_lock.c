/* SPDX-License-Identifier: Apache-2.0 */
/* ledger_lock.c - one server a data directory, and the same directory for as long as it runs.
 *
 * Two locks. DIR/lock is flock'ed: all who share the file see that, in whatever container. The path
 * is locked by a socket in the abstract namespace, named after the path and the mount namespace:
 * that one stays where somebody deletes DIR under a running server, which takes the first away, so
 * that a second server does not begin empty books there while the first still charges. */
#define _GNU_SOURCE
#include "base/hash.h"
#include "base/log.h"
#include "ledger/ledger_impl.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static bt_status lock_busy(const char *dir, const char *pid, bt_err *err)
{
    return bt_err_set(err, BT_EBUSY, 0,
                      "another server%s%s uses the data directory %s; stop it, or give this one "
                      "another with --data",
                      *pid ? ", process " : "", pid, dir);
}

static bt_status lock_file(bt_ledger *l, bt_err *err)
{
    char path[4096], pid[24] = "";
    if (snprintf(path, sizeof path, "%s/lock", l->dir) >= (int)sizeof path)
        return bt_err_set(err, BT_EINVAL, 0, "the path of the data directory is too long");
    l->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (l->lock_fd < 0 || fstat(l->lock_fd, &l->lock_stat) != 0) {
        int sys = errno;
        bool missing = sys == ENOENT || sys == ENOTDIR;
        return bt_err_set(err, BT_EIO, sys, "the data directory %s %s (%s); %s with --data", l->dir,
                          missing ? "does not exist" : "cannot be written", strerror(sys),
                          missing ? "create it, or give another" : "give another");
    }
    if (flock(l->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        int sys = errno;
        if (sys == EWOULDBLOCK) {
            ssize_t n = pread(l->lock_fd, pid, sizeof pid - 1, 0);
            pid[n > 0 ? n : 0] = 0;
            pid[strspn(pid, "0123456789")] = 0;
            return lock_busy(l->dir, pid, err);
        }
        /* Some network mounts have no flock; the path's lock and the database's own are left. */
        bt_log(BT_LOG_WARN, "ledger.no_flock", "file=%s error=\"%s\"", path, strerror(sys));
    }
    return BT_OK;
}

/* Where there is no such socket the other locks are left. */
static bt_status lock_path(bt_ledger *l, bt_err *err)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct ucred peer = {0};
    socklen_t peer_len = sizeof peer;
    struct stat ns;
    char real[PATH_MAX], pid[24];
    if (!realpath(l->dir, real) || stat("/proc/self/ns/mnt", &ns) != 0) return BT_OK;
    int n =
        snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "baton-data-%llx-%016llx",
                 (unsigned long long)ns.st_ino, (unsigned long long)bt_hash(real, strlen(real), 0));
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    l->path_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->path_fd < 0) return BT_OK;
    if (bind(l->path_fd, (struct sockaddr *)&name, len) == 0) {
        listen(l->path_fd, 1); // so that who finds it taken can ask whose it is
        return BT_OK;
    }
    if (errno != EADDRINUSE) return BT_OK;
    /* Another user's socket of that name is no server that could use our files. */
    bool asked = connect(l->path_fd, (struct sockaddr *)&name, len) == 0;
    if (!asked && errno != EAGAIN) return BT_OK;
    if (asked && getsockopt(l->path_fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len) == 0 &&
        peer.uid != geteuid())
        return BT_OK;
    snprintf(pid, sizeof pid, "%ld", (long)peer.pid);
    return lock_busy(l->dir, peer.pid > 0 ? pid : "", err);
}

bt_status bt__ledger_lock(bt_ledger *l, bt_err *err)
{
    bt_status st = lock_file(l, err);
    if (st == BT_OK) st = lock_path(l, err);
    if (st != BT_OK) return st;
    char pid[24];
    int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(l->lock_fd, 0) != 0 || pwrite(l->lock_fd, pid, (size_t)n, 0) != n)
        bt_log(BT_LOG_DEBUG, "ledger.lock", "%s/lock: the process id was not written", l->dir);
    return BT_OK;
}

bt_status bt_ledger_there(const bt_ledger *l, bt_err *err)
{
    char lock[4096];
    struct stat st;
    snprintf(lock, sizeof lock, "%s/lock", l->dir);
    bool have_lock = stat(lock, &st) == 0 && st.st_dev == l->lock_stat.st_dev &&
                     st.st_ino == l->lock_stat.st_ino;
    const char *gone = have_lock ? l->store->op->gone(l->store) : lock;
    if (!gone) return BT_OK;
    return bt_err_set(err, BT_EIO, 0,
                      "%.160s was deleted or replaced while the server runs: nobody is admitted "
                      "until it is put back or the server is started again",
                      gone);
}
