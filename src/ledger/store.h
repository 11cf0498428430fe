/* SPDX-License-Identifier: Apache-2.0 */
/* store.h - where the ledger keeps its rows. Only the ledger's own files include it.
 *
 * The rules (what may be held, which window, what an end is) are in ledger.c, ledger_admin.c and
 * recover.c; a store reads and writes rows, and keeps what follows from them: the sums of entries,
 * in all and of an engine boot, a window's used_us (the charged_us of its entries) and its held_us
 * (its holds). A store is a file of its own and the row of functions that it exports;
 * bt_ledger_open picks it.
 *
 * What is written may wait in the store until commit, but a read sees it. Rows are stamped with
 * now_us. An error means that the transaction cannot commit: the store notes it in `broken`, and
 * the ledger rolls back. Every error has its sentence. Thread: the ledger's owner. */
#pragma once
#include "ledger/ledger.h"

typedef enum ledger_kind {
    KIND_POST = 1,
    KIND_VOID = 2,
    KIND_HOUSE = 3,
    KIND_BUSY = 4,
    KIND_ADJUST = 5,
} ledger_kind;

typedef struct ledger_account {
    const char *name; // set by `accounts` alone, for the length of its call
    int64_t id;       // 0 = no such account yet
    int64_t override_us, tier_us;
    int64_t window; // 0 = none
    int64_t start_us, used_us, held_us;
} ledger_account;

typedef struct ledger_hold {
    uint64_t request, boot;
    int64_t account, window, amount_us;
    int64_t used_us, held_us;     // of its window; read only
    int64_t override_us, tier_us; // of its account; read only
} ledger_hold;

typedef struct ledger_entry {
    ledger_kind kind;
    int64_t account; // 0 = none, as below
    uint64_t request;
    int64_t device_us, charged_us, window;
    uint64_t boot; // post, void: of the front; house, busy: of the engine
} ledger_entry;

typedef struct ledger_store ledger_store;

typedef struct ledger_store_ops {
    /* dir outlives the store. Errors: bt_ledger_open's. */
    bt_status (*open)(const char *dir, ledger_store **out, bt_err *err);
    void (*close)(ledger_store *s); // no transaction is open
    /* The file of its own that was deleted or replaced meanwhile, NULL = none. */
    const char *(*gone)(const ledger_store *s);
    bt_status (*probe)(ledger_store *s, bt_err *err); // bt_ledger_probe
    bt_status (*sync)(ledger_store *s, bt_err *err);  // bt_ledger_sync
    bt_status (*tidy)(ledger_store *s, bt_err *err);  // bt_ledger_tidy
    /* Sets now_us, the time of the ledger, for a call at wall_us; wall_us here is still the call
     * before. A store that several servers share has a clock of its own; one that has none makes
     * it of the caller's. */
    void (*clock)(ledger_store *s, int64_t wall_us);

    bt_status (*begin)(ledger_store *s, bt_err *err);
    bt_status (*commit)(ledger_store *s, bt_err *err); // an error has rolled back
    void (*rollback)(ledger_store *s);

    bt_status (*account_by_name)(ledger_store *s, const char *name, ledger_account *a, bt_err *err);
    bt_status (*account_by_id)(ledger_store *s, int64_t id, ledger_account *a, bt_err *err);
    bt_status (*account_add)(ledger_store *s, const char *name, ledger_account *a, bt_err *err);
    /* Writes override_us, tier_us and window. */
    bt_status (*account_set)(ledger_store *s, const ledger_account *a, bt_err *err);
    /* A new window that starts now becomes the account's, which is set. */
    bt_status (*window_add)(ledger_store *s, ledger_account *a, bt_err *err);
    /* In the order of their names. fn must not call the store. */
    bt_status (*accounts)(ledger_store *s, void (*fn)(void *ud, const ledger_account *a), void *ud,
                          bt_err *err);

    bt_status (*hold_get)(ledger_store *s, uint64_t request, ledger_hold *h, bool *found,
                          bt_err *err);
    bt_status (*hold_add)(ledger_store *s, const ledger_hold *h, bt_err *err);
    bt_status (*hold_raise)(ledger_store *s, const ledger_hold *h, int64_t by_us, bt_err *err);
    /* The hold goes, and its entry comes. */
    bt_status (*hold_end)(ledger_store *s, const ledger_hold *h, const ledger_entry *e,
                          bt_err *err);
    /* Some requests whose front is dead and that still hold; *n = 0: no more. Where one server has
     * the store alone, that is each boot but its own. */
    bt_status (*holds_dead)(ledger_store *s, uint64_t boot, uint64_t *request, int max, int *n,
                            bt_err *err);

    bt_status (*entry_add)(ledger_store *s, const ledger_entry *e, bt_err *err);
    /* The post or void of a request. */
    bt_status (*entry_get)(ledger_store *s, uint64_t request, int64_t *account, int64_t *device_us,
                           bool *found, bt_err *err);
    /* What is booked for an engine boot; nothing for a new one. */
    bt_status (*boot_get)(ledger_store *s, uint64_t boot, int64_t *busy_us, int64_t *house_us,
                          bt_err *err);

    bt_status (*totals)(ledger_store *s, bt_ledger_totals *out, bt_err *err);
    bt_status (*check)(ledger_store *s, bt_err *err); // bt_ledger_check
    /* bt_ledger_compact, for windows that started at or before started_us. */
    bt_status (*fold)(ledger_store *s, int64_t started_us, int64_t older_than_us, int64_t *folded,
                      bt_err *err);
} ledger_store_ops;

/* What each store begins with. */
struct ledger_store {
    const ledger_store_ops *op;
    bool batch;      // a transaction is open; the ledger sets it
    bt_err broken;   // of this batch: why it cannot commit; code OK while it can
    int64_t wall_us; // wall clock seen last, 0 = none; the ledger sets it
    int64_t now_us;  // ledger time: never goes back
};

extern const ledger_store_ops bt__store_sqlite;
