/* SPDX-License-Identifier: Apache-2.0 */
/* ledger_impl.h - what the files of the ledger's rules share. Nobody else includes it. */
#pragma once
#include "ledger/store.h"
#include <sys/stat.h>

enum { LEDGER_ACCOUNT_MAX = 128 };
#define LEDGER_DAY_US INT64_C(86400000000)
#define LEDGER_AMOUNT_MAX INT64_C(1000000000000000) // 31 years: sums of them stay far from 2^63

struct bt_ledger {
    ledger_store *store; // owned, as all below
    char *dir;
    int lock_fd, path_fd;  // the lock of DIR/lock, and of the path
    struct stat lock_stat; // which file it is
    double price;
};

/* Takes the wall clock of a call; from here on store->now_us is the ledger time of it. */
bt_status bt__ledger_time(bt_ledger *l, int64_t wall_us, bt_err *err);
/* An operation that is its own transaction when no batch is open: enter ... leave(status). */
bt_status bt__ledger_enter(bt_ledger *l, bool *own, bt_err *err);
bt_status bt__ledger_leave(bt_ledger *l, bool own, bt_status st, bt_err *err);

/* An account that is not there has id 0. */
bt_status bt__ledger_account(ledger_store *s, const char *name, ledger_account *out, bt_err *err);
/* As account(), and adds it if it is new. */
bt_status bt__ledger_account_need(ledger_store *s, const char *name, ledger_account *out,
                                  bt_err *err);
void bt__ledger_balance(const ledger_store *s, const ledger_account *a, int64_t limit_us,
                        bt_ledger_balance *out);

typedef struct ledger_end {
    enum {
        END_UNKNOWN,
        END_NOW,
        END_BEFORE
    } end;                      // never held; ended by this call; or by an earlier one
    int64_t account, device_us; // what its entry says; unless END_UNKNOWN
} ledger_end;
/* Ends the hold of a request, inside a transaction. */
bt_status bt__ledger_end(ledger_store *s, ledger_kind kind, uint64_t request, int64_t device_us,
                         int64_t charged_us, ledger_end *out, bt_err *err);
/* bt_ledger_engine, inside a transaction. */
bt_status bt__ledger_engine(ledger_store *s, uint64_t boot, int64_t busy_us, int64_t house_us,
                            bt_err *err);

bt_status bt__ledger_lock(bt_ledger *l, bt_err *err); // of the directory; ledger_lock.c
