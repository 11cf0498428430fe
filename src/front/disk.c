/* SPDX-License-Identifier: Apache-2.0 */
/* disk.c - the disk thread: once a second, what was written survives a loss of power.
 *
 * A disk may take its time over that, tens of milliseconds and more, so nobody else waits for it:
 * what is committed is told at once, and kill -9 takes none of it. */
#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"
#include "front/internal.h"
#include <unistd.h>

enum { SYNC_NS = 1000000000 };

/* An engine's usage file may be closed meanwhile: a descriptor of our own stays good. */
static void sync_usage(bt_link *l)
{
    pthread_mutex_lock(&l->usage_mu);
    int fd = l->usage ? dup(bt_usage_fd(l->usage)) : -1;
    pthread_mutex_unlock(&l->usage_mu);
    if (fd < 0) return;
    fdatasync(fd);
    close(fd);
}

void *bt__disk_main(void *front)
{
    bt_front *f = front;
    bt_disk *d = &f->disk;
    bool failing = false;
    pthread_mutex_lock(&d->mu);
    while (!d->stop) {
        pthread_mutex_unlock(&d->mu);
        bt_err err;
        for (int32_t i = 0; i < f->n_units; i++) sync_usage(&f->unit[i]->link);
        bool failed = bt_ledger_sync(f->ledger, &err) != BT_OK;
        if (failed && !failing) bt_log(BT_LOG_WARN, "ledger.sync", "why=\"%s\"", err.msg);
        failing = failed;
        int64_t until_ns = bt_now_ns() + SYNC_NS;
        pthread_mutex_lock(&d->mu);
        while (!d->stop && bt_cond_wait(&d->stopped, &d->mu, until_ns)) continue;
    }
    pthread_mutex_unlock(&d->mu);
    return NULL;
}

void bt__disk_stop(bt_front *f)
{
    pthread_mutex_lock(&f->disk.mu);
    f->disk.stop = true;
    pthread_cond_signal(&f->disk.stopped);
    pthread_mutex_unlock(&f->disk.mu);
    pthread_join(f->disk.thread, NULL);
}
